//! What tests of several modules need: a machine of its own, with compilers that do as told.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::admit;
use super::classic::Terms;
use super::clients::Clients;
use super::compile::Workshop;
use super::gate::Gate;
use super::guard::Guard;
use super::hermetic::Hermetic;
use super::job::Context;
use super::process::Limits;
use super::root::Root;
use super::sandbox::confine::Confinement;
use super::stats::Stats;
use super::store::Store;
use super::toolchain::Toolchains;
use super::whitelist::{Policy, Whitelist};
use crate::common::action::{Action, Argument, Blob, InputSet, OutputName};
use crate::common::bytes::Bytes;
use crate::common::toolchain::{Digest, Toolchain, identify, read_banner};

const BANNER: &str = "Target: fake-linux\ngcc version 1.2.3 (fake)";

/// A directory with a compiler of some name that answers questions, and `as` beside it.
pub struct Machine {
    directory: tempfile::TempDir,
}

impl Machine {
    /// A machine with a compiler that compiles nothing.
    pub fn new(name: &str) -> Self {
        Machine::with_compiler(name, "exit 1")
    }

    /// A machine with a compiler that does what `script` says.
    pub fn with_compiler(name: &str, script: &str) -> Self {
        let machine = Machine { directory: tempfile::tempdir().unwrap() };
        let asked = machine.path("asked").display().to_string();
        let answers = format!(
            "case $1 in\n-v) echo x >> {asked}; echo '{BANNER}' >&2;;\n\
             -print-prog-name=*) echo x >> {asked}; echo ${{1#*=}};;\n*) {script};;\nesac"
        );
        machine.program("as", "exit 0");
        machine.program(name, &answers);
        machine
    }

    /// A path in the machine's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Installs a shell script.
    pub fn program(&self, name: &str, script: &str) {
        fs::write(self.path("draft"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(self.path("draft"), fs::Permissions::from_mode(0o755)).unwrap();
        // By another process: what this one had open for writing cannot be run while a child of
        // another test still has the descriptor.
        let copied = Command::new("cp").arg("-p").args([self.path("draft"), self.path(name)]).status();
        assert!(copied.unwrap().success());
    }

    /// How many questions compilers were asked.
    pub fn times_asked(&self) -> usize {
        fs::read_to_string(self.path("asked")).map_or(0, |text| text.lines().count())
    }

    /// The compilers of this machine.
    pub fn toolchains(&self, told: &[&Path]) -> Toolchains {
        Toolchains::new(self.search_path(), told.iter().map(|path| path.to_path_buf()).collect())
    }

    /// The toolchain that a client with the same compiler asks for.
    pub fn wanted(&self, name: &str) -> Toolchain {
        let digest_of = |name: &str| Digest::of(&fs::read(self.path(name)).unwrap());
        let banner = read_banner(BANNER).unwrap();
        Toolchain {
            id: identify(&banner, &[Some(digest_of(name)), None, None, Some(digest_of("as"))]),
            names: vec![Bytes::from(name)],
            version: banner.version,
            target: banner.target,
            clang: false,
        }
    }

    /// Everything that jobs on this machine share.
    pub fn context(&self, slots: u32) -> Arc<Context> {
        let root = Root::take(self.directory.path()).unwrap();
        let jobs = root.jobs.clone();
        let (confinement, _) = Confinement::probe(&jobs, 1 << 28).unwrap();
        let limits = Limits { file_bytes: 1 << 30, ..Limits::default() };
        Arc::new(Context {
            gate: Gate::new(admit::Policy {
                slots,
                client_slots: slots,
                memory_floor: 0,
                memory_per_job: 1,
                disk_floor: 0,
                load_max: 1000,
            }),
            store: Arc::new(Store::open(&root.store, 1 << 30).unwrap()),
            hermetic: Hermetic::new(&jobs, slots, 1 << 28),
            toolchains: self.toolchains(&[]),
            workshop: Workshop::new(
                jobs,
                self.search_path(),
                limits,
                Duration::from_secs(60),
                0,
                confinement,
            ),
            guard: Guard::none(),
            classic: Terms::new(
                Whitelist::new(Policy::Everything, self.search_path()),
                Duration::from_secs(60),
            ),
            slots,
            stats: Stats::default(),
            clients: Clients::default(),
            couriers: Arc::default(),
            roster: Arc::default(),
            root,
        })
    }

    fn search_path(&self) -> OsString {
        OsString::from_vec([self.directory.path().as_os_str().as_bytes(), b":/usr/bin:/bin"].concat())
    }
}

/// An ordinary compile of `text`.
pub fn action(toolchain: Toolchain, text: &[u8]) -> Action {
    let packed = zstd::encode_all(text, 1).unwrap().len() as u64;
    let plain = |word: &str| Argument::Plain(Bytes::from(word));
    Action {
        toolchain,
        arguments: vec![plain("-c"), Argument::Input, plain("-o"), Argument::Output(0)],
        environment: vec![],
        inputs: InputSet::Preprocessed {
            source: Blob { digest: Digest::of(text), size: text.len() as u64, packed },
            suffix: ".i".to_owned(),
        },
        outputs: vec![OutputName { suffix: ".o".to_owned() }],
    }
}
