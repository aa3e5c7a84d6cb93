//! Writes man pages and completions, from the definitions that `--help` is made of.
//!
//!     cargo run --example manual -- DIRECTORY
//!
//! Makes `man/NAME.1` and `completions/{bash,zsh,fish}/…` below DIRECTORY.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use distcc::broker::control::{broker_command, distcc_command};
use distcc::remote::config::Config;

/// The programs, and what each man page points at.
fn programs() -> [(Command, &'static str); 3] {
    let version = env!("CARGO_PKG_VERSION");
    [
        (distcc_command().version(version), "distccd(1), distcc-broker(1), ccache(1)"),
        (broker_command().version(version), "distcc(1)"),
        (Config::command().version(version), "distcc(1)"),
    ]
}

fn man_page(command: &Command, see_also: &str, directory: &Path) -> io::Result<()> {
    let mut page = Vec::new();
    Man::new(command.clone()).manual("distcc").render(&mut page)?;
    page.extend_from_slice(format!(".SH \"SEE ALSO\"\n{see_also}\n").as_bytes());
    fs::write(directory.join(format!("{}.1", command.get_name())), page)
}

fn completion(shell: Shell, command: &mut Command, directory: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let name = command.get_name().to_owned();
    clap_complete::generate_to(shell, command, name, directory)
}

fn main() -> io::Result<()> {
    let Some(target) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: manual DIRECTORY"));
    };
    let man = target.join("man");
    fs::create_dir_all(&man)?;
    for (mut command, see_also) in programs() {
        man_page(&command, see_also, &man)?;
        for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            completion(shell, &mut command, &target.join("completions").join(name))?;
        }
    }
    Ok(())
}
