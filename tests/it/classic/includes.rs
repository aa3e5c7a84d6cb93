//! A stand-in for pump's include server, which makes stock's client send file sets: it asks the
//! compiler for the files of a compile, and lays them out as pump does, packed and below three
//! folders, with a link for each system folder.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use distcc::common::protocol::classic::lzo;

/// Folders whose headers both machines have.
const SYSTEM: [&str; 2] = ["/usr/include", "/usr/lib"];

/// A running one.
pub struct IncludeServer {
    directory: tempfile::TempDir,
    asked: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl IncludeServer {
    /// For compiles in `cwd`.
    pub fn start(cwd: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("inc").tempdir_in("/tmp").expect("a directory");
        let listener = UnixListener::bind(directory.path().join("socket")).expect("a socket");
        let (asked, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mirror =
            Mirror { root: directory.path().join("client"), cwd: cwd.to_owned(), number: Arc::clone(&asked) };
        let stop = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                mirror.answer(client.expect("a client"));
            }
        });
        IncludeServer { directory, asked, ends, thread: Some(thread) }
    }

    /// What `INCLUDE_SERVER_PORT` is to say.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// How many compiles were asked about.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for IncludeServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        UnixStream::connect(self.socket()).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Mirror {
    root: PathBuf,
    cwd: PathBuf,
    number: Arc<AtomicUsize>,
}

impl Mirror {
    fn answer(&self, mut client: UnixStream) {
        let cwd = body(&mut client, b"CDIR");
        assert_eq!(Path::new(std::ffi::OsStr::new(std::str::from_utf8(&cwd).expect("a path"))), self.cwd);
        let count = header(&mut client, b"ARGC");
        let words: Vec<String> =
            (0..count).map(|_| String::from_utf8(body(&mut client, b"ARGV")).expect("a word")).collect();
        let number = self.number.fetch_add(1, Ordering::SeqCst);
        // Exactly three folders come before the client's path: /tmp, ours, and this.
        let folder = self.root.with_file_name(format!("client{number}"));
        let names = self.lay_out(&words, &folder);
        let mut answer = format!("ARGC{:08x}", names.len()).into_bytes();
        for name in names {
            let name = name.display().to_string();
            answer.extend(format!("ARGV{:08x}{name}", name.len()).bytes());
        }
        client.write_all(&answer).expect("an answer");
    }

    /// The files of a compile as they are laid out below `folder`.
    fn lay_out(&self, words: &[String], folder: &Path) -> Vec<PathBuf> {
        let mut command = Command::new(&words[0]);
        let rest = words[1..].iter().filter(|word| *word != "-c");
        command.args(rest).args(["-M", "-MF", "-", "-MT", "x"]).current_dir(&self.cwd);
        // The object's name is an output of -M, too, unless it goes elsewhere.
        let place = command.get_args().position(|word| word == "-o");
        let mut arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        if let Some(place) = place {
            arguments.drain(place..place + 2);
        }
        let listed = Command::new(&words[0]).args(arguments).current_dir(&self.cwd).output().expect("-M");
        assert!(listed.status.success(), "{listed:?}");
        let text = String::from_utf8(listed.stdout).expect("text").replace("\\\n", " ");
        let files: BTreeSet<PathBuf> =
            text.split_whitespace().skip(1).map(|name| self.cwd.join(name)).collect();
        let mut names = Vec::new();
        for system in SYSTEM {
            let link = folder.join(&system[1..]);
            fs::create_dir_all(link.parent().expect("a parent")).expect("a folder");
            std::os::unix::fs::symlink(format!("../../../../../..{system}"), &link).expect("a link");
            names.push(link);
        }
        for file in files.iter().filter(|file| !SYSTEM.iter().any(|system| file.starts_with(system))) {
            let real = file.canonicalize().expect("a file");
            let place = folder.join(real.strip_prefix("/").expect("an absolute path"));
            let place = place.with_file_name(format!("{}.lzo", place.file_name().expect("a name").display()));
            fs::create_dir_all(place.parent().expect("a parent")).expect("a folder");
            fs::write(&place, lzo::compress(&fs::read(&real).expect("a file"))).expect("a file");
            names.push(place);
        }
        names
    }
}

fn header(client: &mut UnixStream, token: &[u8; 4]) -> usize {
    let mut header = [0; 12];
    client.read_exact(&mut header).expect("a header");
    assert_eq!(&header[..4], token);
    usize::from_str_radix(std::str::from_utf8(&header[4..]).expect("text"), 16).expect("a number")
}

fn body(client: &mut UnixStream, token: &[u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0; header(client, token)];
    client.read_exact(&mut bytes).expect("a body");
    bytes
}
