//! A test compile: the same file here and through distcc, compared byte by byte.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a compile of a trial may take; the first has to send a compiler.
const TRIAL_MAX: Duration = Duration::from_secs(90);

/// How it went.
pub enum Trial {
    /// The object is the local compile's.
    Equal {
        /// How long it took.
        took: Duration,
    },
    /// It is another.
    Different,
    /// It was not compiled there, for this reason.
    Failed(String),
}

/// A place for test compiles.
pub struct Bench {
    directory: tempfile::TempDir,
    distcc: PathBuf,
    number: u32,
}

impl Bench {
    /// A place of its own.
    ///
    /// # Errors
    ///
    /// Returns why there is none.
    pub fn new() -> Result<Self, String> {
        let directory =
            tempfile::Builder::new().prefix("distcc-doctor-").tempdir().map_err(|error| error.to_string())?;
        let _ = std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755));
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        Ok(Bench { directory, distcc: own.with_file_name("distcc"), number: 0 })
    }

    /// Compiles a file that nobody has compiled before, with `padding` bytes that do not compress.
    pub fn compile(&mut self, host: &str, compiler: &Path, padding: usize) -> Trial {
        self.number += 1;
        let cxx = compiler.to_string_lossy().ends_with("++");
        let name = format!("trial{}.{}", self.number, if cxx { "cc" } else { "c" });
        let source = self.directory.path().join(&name);
        if let Err(error) = std::fs::write(&source, text(self.number, padding)) {
            return Trial::Failed(format!("cannot write {}: {error}", source.display()));
        }
        let (local, remote) = (self.object("here"), self.object("there"));
        let words = |output: &Path| -> Vec<std::ffi::OsString> {
            vec!["-O1".into(), "-c".into(), name.clone().into(), "-o".into(), output.into()]
        };
        let mut here = Command::new(compiler);
        here.args(words(&local));
        if let Err(why) = self.run(here) {
            return Trial::Failed(format!("this machine's own compiler fails: {why}"));
        }
        let mut there = Command::new(&self.distcc);
        there.arg(compiler).args(words(&remote));
        there.env("DISTCC_HOSTS", host).env("DISTCC_FALLBACK", "0").env("DISTCC_CACHE", "off");
        for variable in ["DISTCC_LOG", "DISTCC_VERBOSE", "DISTCC_TRACE", "DISTCC_SAVE_TEMPS", "CCACHE_PREFIX"]
        {
            there.env_remove(variable);
        }
        let start = Instant::now();
        if let Err(why) = self.run(there) {
            return Trial::Failed(why);
        }
        let took = start.elapsed();
        match (std::fs::read(&local), std::fs::read(&remote)) {
            (Ok(local), Ok(remote)) if local == remote => Trial::Equal { took },
            _ => Trial::Different,
        }
    }

    fn object(&self, place: &str) -> PathBuf {
        self.directory.path().join(format!("trial{}-{place}.o", self.number))
    }

    /// Runs a command to its end, with a bound; what it said is the error.
    fn run(&self, mut command: Command) -> Result<(), String> {
        let words = self.directory.path().join("said");
        let failed = |error: std::io::Error| error.to_string();
        let said = std::fs::File::create(&words).map_err(failed)?;
        command.current_dir(self.directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let mut child = command.spawn().map_err(failed)?;
        let until = Instant::now() + TRIAL_MAX;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break status;
            }
            if Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no result after {} s", TRIAL_MAX.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if status.success() {
            return Ok(());
        }
        let said = std::fs::read_to_string(&words).unwrap_or_default();
        let last = said
            .lines()
            .rfind(|line| line.contains("ERROR") || line.contains("rror:"))
            .or(said.lines().last());
        let last = last.unwrap_or("it says nothing").chars().take(400).collect::<String>();
        Err(last)
    }
}

/// A source that nobody has compiled before, so that no cache knows it.
fn text(number: u32, padding: usize) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.as_nanos() as u64);
    let mut state = now | 1;
    let mut comment = String::with_capacity(padding + 100);
    while comment.len() < padding {
        // xorshift64: letters that no packer can foresee.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        comment.push_str(&format!("{state:016x}"));
        if comment.len() % 4096 < 16 {
            comment.push('\n');
        }
    }
    format!(
        "/* {now}.{number}\n{comment} */\n#include <stddef.h>\nsize_t trial(const char *s);\n\
         size_t trial(const char *s) {{ size_t n = {number}; while (*s++) n += *s ^ n >> 3; return n; }}\n"
    )
}
