//! Programs that the broker runs, each with all that it starts in turn.
//!
//! A compiler's driver runs a compiler proper, which goes on when the driver is killed. So each is the leader of a
//! process group of its own, and it is the group that ends where its outcome is wanted no more.

use std::io;
use std::process::{ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// A program and what it started; killed when this is dropped before the program's end was waited for.
#[derive(Debug)]
pub struct Family {
    // Dropped first: while its leader was not waited for, no other group can have its number.
    group: Group,
    child: Child,
}

#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Group(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())))
    }

    fn is_over(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Where all of them are gone there is nothing to do.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Family {
    /// Waits for the program's end.
    ///
    /// # Errors
    ///
    /// Returns what the system returned.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.group.is_over();
        status
    }
}

/// Starts a program.
///
/// # Errors
///
/// Returns why it cannot be started.
pub fn spawn(command: &mut Command) -> io::Result<Family> {
    let child = command.process_group(0).kill_on_drop(true).spawn()?;
    Ok(Family { group: Group::of(&child), child })
}

/// Runs a program to its end; what it wrote.
///
/// # Errors
///
/// Returns why there is nothing.
pub async fn output(command: &mut Command) -> io::Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let Family { mut group, child } = spawn(command)?;
    let output = child.wait_with_output().await;
    group.is_over();
    output
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::test_kill_process_group;

    use super::*;

    #[tokio::test]
    async fn what_a_program_started_ends_with_it() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & sleep 1000"]).stdin(Stdio::null());
        let family = spawn(&mut command).expect("a shell");
        let group = Pid::from_raw(family.child.id().expect("a number").cast_signed()).expect("a number");
        assert!(test_kill_process_group(group).is_ok());
        drop(family);
        let over = async {
            while test_kill_process_group(group).is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), over).await.expect("all of them end");
    }

    #[tokio::test]
    async fn what_ended_by_itself_is_left_alone() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo said; exit 3"]).stdin(Stdio::null());
        let output = output(&mut command).await.expect("an end");
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"said\n"[..]));
    }
}
