//! Volunteers to measure against, and CPU time from /proc.

#[path = "../../tests/it/farm/keys.rs"]
mod keys;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that a daemon may take to start or stop.
const START_MAX: Duration = Duration::from_secs(10);

/// CPU time, user and system together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// The process itself.
    pub own: Duration,
    /// Its children that have ended and were waited for.
    pub children: Duration,
}

impl Cpu {
    /// What a process has used so far. Not all from /proc/PID/stat, which counts hundredths of a second: of some
    /// hundred jobs, the digit that matters. The children of others are told there alone.
    ///
    /// # Errors
    ///
    /// Fails when there is no such process.
    pub fn of(pid: u32) -> io::Result<Cpu> {
        let own = of_process(pid)?;
        if pid == std::process::id() {
            return Ok(Cpu { own, children: of_children()? });
        }
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the name in parentheses, which may hold anything.
        let rest = text.rsplit(") ").next().unwrap_or("");
        let field = |number: usize| rest.split(' ').nth(number - 3).and_then(|word| word.parse::<u64>().ok());
        let ticks = field(16).unwrap_or(0) + field(17).unwrap_or(0);
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Cpu { own, children: Duration::from_micros(ticks * 1_000_000 / per_second) })
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu {
            own: self.own.saturating_sub(earlier.own),
            children: self.children.saturating_sub(earlier.children),
        }
    }
}

#[allow(unsafe_code, reason = "rustix knows no clocks of other processes")]
fn of_process(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both write into values of their types that outlive them.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    match failed {
        true => Err(io::Error::other(format!("there is no process {pid}"))),
        false => Ok(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)),
    }
}

#[allow(unsafe_code, reason = "rustix has no getrusage")]
fn of_children() -> io::Result<Duration> {
    let mut used = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: it fills the value, unless it fails.
    let used = unsafe {
        if libc::getrusage(libc::RUSAGE_CHILDREN, used.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        used.assume_init()
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    Ok(time(used.ru_utime) + time(used.ru_stime))
}

/// A client, its volunteer, and the words of both: ours or Debian's.
pub struct Rig {
    /// The client's program.
    pub client: PathBuf,
    /// None where ssh starts it.
    volunteer: Option<Child>,
    port: u16,
    slots: u32,
    directory: PathBuf,
    path: String,
    ours: bool,
}

impl Rig {
    /// Our programs in `bin`, with one volunteer of so many slots, started with `more` words.
    ///
    /// # Errors
    ///
    /// Fails when the volunteer does not start.
    pub fn ours(bin: &Path, directory: &Path, path: &str, slots: u32, more: &[&str]) -> io::Result<Rig> {
        fs::create_dir_all(directory.join("volunteer"))?;
        let port_file = directory.join("port");
        let state = directory.join("volunteer-keys");
        keys::introduce(directory, &state);
        let volunteer = Command::new(bin.join("distccd"))
            .args(["--no-detach", "--listen", "127.0.0.1", "--port", "0", "--nice", "0"])
            // Client and volunteer are one machine here: its load says nothing about a volunteer's.
            .args(["--max-load", "100000", "--jobs", &slots.to_string()])
            .args(if rustix::process::geteuid().is_root() { &["--user", "root"][..] } else { &[] })
            .args(more)
            .arg("--port-file")
            .arg(&port_file)
            .arg("--temp-dir")
            .arg(directory.join("volunteer"))
            .arg("--log-file")
            .arg(directory.join("volunteer.log"))
            .arg("--state-dir")
            .arg(&state)
            .env("PATH", path)
            .stdin(Stdio::null())
            .spawn()?;
        let mut rig = Rig {
            client: bin.join("distcc"),
            volunteer: Some(volunteer),
            port: 0,
            slots,
            directory: directory.to_owned(),
            path: path.to_owned(),
            ours: true,
        };
        rig.wait(|rig| {
            rig.port =
                fs::read_to_string(&port_file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            rig.port != 0
        })?;
        Ok(rig)
    }

    /// The same without TLS: what stands in for ssh runs the volunteer on a pipe, and encrypts nothing.
    ///
    /// # Errors
    ///
    /// Fails when the stand-in cannot be written.
    pub fn in_the_clear(
        bin: &Path,
        directory: &Path,
        path: &str,
        slots: u32,
        more: &[&str],
    ) -> io::Result<Rig> {
        use std::os::unix::fs::PermissionsExt;
        fs::create_dir_all(directory.join("volunteer"))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        let root = if rustix::process::geteuid().is_root() { "--user root" } else { "" };
        let script = format!(
            "#!/bin/sh\nshift 2\nexec {} \"$@\" --nice 0 --max-load 100000 --jobs {slots} {root} {} --temp-dir {} --log-file {}\n",
            bin.join("distccd").display(),
            more.join(" "),
            directory.join("volunteer").display(),
            directory.join("volunteer.log").display(),
        );
        let ssh = directory.join("ssh");
        fs::write(&ssh, script)?;
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755))?;
        let (client, directory, path) = (bin.join("distcc"), directory.to_owned(), path.to_owned());
        Ok(Rig { client, volunteer: None, port: 0, slots, directory, path, ours: true })
    }

    /// The volunteer's port, its process, and where the client's key is.
    pub fn door(&self) -> Option<(u16, u32, PathBuf)> {
        let pid = self.volunteer.as_ref()?.id();
        Some((self.port, pid, self.directory.join("keys/client.key")))
    }

    /// Debian's distcc beside it, where it is installed.
    pub fn stock(directory: &Path, path: &str, slots: u32) -> Option<Rig> {
        let (client, daemon) = (PathBuf::from("/usr/bin/distcc"), Path::new("/usr/bin/distccd"));
        if !client.exists() || !daemon.exists() {
            return None;
        }
        fs::create_dir_all(directory).ok()?;
        // A free port: bound and let go. Nobody else takes ports on this machine just now.
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let volunteer = Command::new(daemon)
            .args(["--no-detach", "--daemon", "--listen", "127.0.0.1", "--allow", "127.0.0.1", "--nice", "0"])
            .args(["--enable-tcp-insecure", "--log-level", "error", "--log-stderr"])
            .args(["--port", &port.to_string(), "--jobs", &slots.min(200).to_string()])
            .env("PATH", path)
            .env("DISTCCD_PATH", path)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let directory = directory.to_owned();
        let volunteer = Some(volunteer);
        let mut rig = Rig { client, volunteer, port, slots, directory, path: path.to_owned(), ours: false };
        rig.wait(|rig| std::net::TcpStream::connect(("127.0.0.1", rig.port)).is_ok()).ok()?;
        Some(rig)
    }

    fn wait(&mut self, mut condition: impl FnMut(&mut Rig) -> bool) -> io::Result<()> {
        let start = Instant::now();
        while !condition(self) {
            let ended = self.volunteer.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            if start.elapsed() > START_MAX || ended {
                let log = fs::read_to_string(self.directory.join("volunteer.log")).unwrap_or_default();
                return Err(io::Error::other(format!("the volunteer did not start: {log}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn hosts(&self) -> String {
        match &self.volunteer {
            Some(_) => format!("127.0.0.1:{}/{}", self.port, self.slots),
            None => format!("@here/{}", self.slots),
        }
    }

    /// A client command in the rig's environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.client);
        command
            .env("PATH", &self.path)
            .env("DISTCC_DIR", &self.directory)
            .env("DISTCC_HOSTS", self.hosts())
            .env("DISTCC_SSH", self.directory.join("ssh"))
            .env("DISTCC_IDLE_TIMEOUT", "60")
            // What is measured is compiles.
            .env("DISTCC_CACHE", "off")
            // Else stock distcc calls the compiler by another name, and finds the machine's own.
            .env("DISTCC_NO_REWRITE_CROSS", "1")
            .stdin(Stdio::null());
        command
    }

    /// The broker's process id, once a first compile has started it.
    pub fn broker(&self) -> Option<u32> {
        let needle = format!("DISTCC_DIR={}\0", self.directory.display());
        let is_broker = |pid: &u32| {
            let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            executable.file_name().is_some_and(|name| name == "distcc-broker")
                && environment.windows(needle.len()).any(|window| window == needle.as_bytes())
        };
        let entries = fs::read_dir("/proc").ok()?.flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_broker)
    }

    /// The volunteer's process, also where ssh has started it.
    pub fn daemon(&self) -> Option<u32> {
        if let Some(child) = &self.volunteer {
            return Some(child.id());
        }
        let place = self.directory.join("volunteer").into_os_string().into_encoded_bytes();
        let is_daemon = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|&byte| byte == 0);
            words.next().is_some_and(|word| word.ends_with(b"/distccd")) && words.any(|word| word == place)
        };
        let entries = fs::read_dir("/proc").ok()?.flatten();
        // Its guard is another process of the same words, and younger.
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_daemon).min()
    }

    /// How many compiles were remote, by the broker's own count; `None` for stock distcc.
    pub fn remote(&self) -> Option<u64> {
        let output = self.command().arg("--status=json").output().ok().filter(|_| self.ours)?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        status["totals"]["remote"].as_u64()
    }

    /// Why compiles were sent as texts, how many for each reason and how many were none; nothing where all
    /// travelled as files.
    pub fn sent_as_texts(&self) -> String {
        let output = self.command().arg("--status=json").output().map(|output| output.stdout);
        let status = serde_json::from_slice::<serde_json::Value>(&output.unwrap_or_default());
        let totals = status.map(|status| status["totals"].clone()).unwrap_or_default();
        match totals["sent_texts"].as_object() {
            Some(reasons) if reasons.is_empty() => String::new(),
            _ => format!("{}, {} as files", totals["sent_texts"], totals["sent_files"]),
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.ours {
            self.command().arg("--stop").output().ok();
        }
        let Some(volunteer) = &mut self.volunteer else { return };
        let pid = i32::try_from(volunteer.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        volunteer.wait().ok();
    }
}
