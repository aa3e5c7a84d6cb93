//! Trust, checked: a share of the compiles that volunteers do is done here as well (`DISTCC_VERIFY`).
//!
//! A compile that travelled as files is repeated by the very command in its very place, which leaves the
//! local outputs; one that travelled as a text, on that text. A difference in a single byte is a
//! volunteer that is not to be asked again: its object and ours are kept, with the command, and the
//! build gets the local one.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::process::Command;
use tokio::time::timeout;

use super::Shared;
use super::deliver::Delivery;
use super::family;
use super::plan::Plan;
use super::prepare::{self, Prepared};
use crate::common::action::{Action, Argument, InputSet};
use crate::common::bytes::Bytes;
use crate::common::invocation::Invocation;
use crate::common::reason::LocalReason;
use crate::common::settings::MILLION;

/// How long a compile here may take.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(1800);

/// Reports that are kept; the oldest go first.
const REPORTS_MAX: usize = 20;

/// A file that differs.
#[derive(Debug)]
pub struct Difference {
    /// Its name.
    pub name: PathBuf,
    /// What the volunteer sent.
    pub there: Vec<u8>,
    /// What this machine makes; nothing when it does not make it.
    pub here: Vec<u8>,
}

/// Whether this compile is one of those, of so many in a million. Nobody can tell beforehand.
pub fn is_chosen(millionths: u32) -> bool {
    // Keys that the system gave, and another one for each.
    let drawn = || RandomState::new().build_hasher().finish() % u64::from(MILLION);
    millionths > 0 && (millionths >= MILLION || drawn() < u64::from(millionths))
}

/// Repeats a command in its own place, and compares what it makes with what would be put there.
///
/// # Errors
///
/// Returns why it cannot be told; then the compile is to be done here anyway.
pub async fn in_place(
    shared: &Shared,
    plan: &Plan,
    invocation: &Invocation,
    deliveries: &[Delivery<'_>],
) -> Result<Option<Difference>, LocalReason> {
    let _slot = shared.front_ends.acquire().await.map_err(|_| cannot("it ends"))?;
    let compile = || {
        // The broker itself has no mask: outputs are to have the one of whoever asked.
        let mut command = prepare::command(Path::new("/bin/sh"), invocation);
        let script = format!("umask {:o} && exec \"$@\"", invocation.umask);
        command.args(["-c", &script, "sh"]).arg(&plan.compiler.program);
        command.args(invocation.argv.iter().skip(1).map(Bytes::as_os_str));
        run(command)
    };
    compile().await?;
    let read = |delivery: &Delivery<'_>| fs::read(&delivery.path).unwrap_or_default();
    let Some((delivery, there)) = first_that_differs(deliveries, read)? else { return Ok(None) };
    let here = read(delivery);
    // Some compiles give other bytes each time, which is no lie.
    compile().await?;
    let is_certain = read(delivery) == here;
    let name = delivery.path.clone();
    Ok(is_certain.then_some(Difference { name, there, here }))
}

/// The first file that is another here, with what came.
fn first_that_differs<'a>(
    deliveries: &'a [Delivery<'a>],
    here: impl Fn(&Delivery<'_>) -> Vec<u8>,
) -> Result<Option<(&'a Delivery<'a>, Vec<u8>)>, LocalReason> {
    for delivery in deliveries {
        let there = delivery.contents.to_vec()?;
        if here(delivery) != there {
            return Ok(Some((delivery, there)));
        }
    }
    Ok(None)
}

/// Compiles a text as a volunteer does, and compares.
///
/// # Errors
///
/// Returns why it cannot be told.
pub async fn of_text(
    shared: &Shared,
    plan: &Plan,
    prepared: &Prepared,
    there: &[u8],
) -> Result<Option<Difference>, LocalReason> {
    let _slot = shared.front_ends.acquire().await.map_err(|_| cannot("it ends"))?;
    let action = plan.action(&prepared.input);
    let InputSet::Preprocessed { suffix, .. } = &action.inputs;
    let (input, output) = (format!("in{suffix}"), format!("out{}", action.outputs[0].suffix));
    let folder = tempfile::tempdir_in(&shared.config.scratch).map_err(failed)?;
    let text = zstd::decode_all(&prepared.input.bytes[..]).map_err(failed)?;
    fs::write(folder.path().join(&input), text).map_err(failed)?;
    let compile = || async {
        run(on_text(plan, &action, folder.path(), &input, &output)).await?;
        fs::read(folder.path().join(&output)).map_err(failed)
    };
    let here = compile().await?;
    if here == there || compile().await? != here {
        return Ok(None);
    }
    let name = PathBuf::from(plan.job.output.as_os_str());
    Ok(Some(Difference { name, there: there.to_vec(), here }))
}

/// The command of a volunteer that has the text.
fn on_text(plan: &Plan, action: &Action, folder: &Path, input: &str, output: &str) -> Command {
    let words = action.arguments.iter().map(|argument| match argument {
        Argument::Plain(word) => word.as_os_str().to_owned(),
        Argument::Input => OsString::from(input),
        Argument::Output(_) => OsString::from(output),
    });
    let mut command = Command::new(&plan.compiler.program);
    command.args(words).current_dir(folder).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    for entry in &action.environment {
        if let Some(equals) = entry.iter().position(|&byte| byte == b'=') {
            let (name, value) = (Bytes::from(&entry[..equals]), Bytes::from(&entry[equals + 1..]));
            command.env(name.as_os_str(), value.as_os_str());
        }
    }
    command
}

async fn run(mut command: Command) -> Result<(), LocalReason> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut compile = family::spawn(&mut command).map_err(failed)?;
    let status = timeout(COMPILE_TIMEOUT, compile.wait()).await.map_err(|_| cannot("it takes too long"))?;
    match status.map_err(failed)?.success() {
        true => Ok(()),
        false => Err(cannot("it fails here")),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is used as a function of errors")]
fn failed(error: io::Error) -> LocalReason {
    cannot(&error.to_string())
}

fn cannot(why: &str) -> LocalReason {
    LocalReason::Broker { why: format!("a compile could not be verified: {why}") }
}

/// Keeps both files and the command in a folder beneath `directory`; returns its path.
///
/// # Errors
///
/// Returns what the file system returned.
pub fn keep(
    directory: &Path,
    host: &str,
    invocation: &Invocation,
    difference: &Difference,
) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let folder = directory.join(time.as_nanos().to_string());
    fs::create_dir(&folder)?;
    fs::write(folder.join("there"), &difference.there)?;
    fs::write(folder.join("here"), &difference.here)?;
    let words: Vec<String> = invocation.argv.iter().map(Bytes::to_text).collect();
    let (name, cwd) = (difference.name.display(), invocation.cwd.to_text());
    let text = format!("volunteer: {host}\nfile: {name}\ndirectory: {cwd}\ncommand: {}\n", words.join(" "));
    fs::write(folder.join("report.txt"), text)?;
    let mut reports: Vec<PathBuf> =
        fs::read_dir(directory)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    reports.sort();
    let surplus = reports.len().saturating_sub(REPORTS_MAX);
    reports[..surplus].iter().try_for_each(fs::remove_dir_all)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_compiles_is_chosen() {
        assert!(!(0..1000).any(|_| is_chosen(0)));
        assert!((0..1000).all(|_| is_chosen(MILLION)));
        let chosen = (0..10_000).filter(|_| is_chosen(MILLION / 10)).count();
        assert!((500..2000).contains(&chosen), "{chosen}");
    }

    #[test]
    fn a_report_has_both_files_and_there_are_not_many() {
        let directory = tempfile::tempdir().expect("a directory");
        let difference = Difference { name: "a.o".into(), there: b"bad".to_vec(), here: b"good".to_vec() };
        for _ in 0..REPORTS_MAX + 3 {
            let kept = keep(directory.path(), "build7", &Invocation::default(), &difference).expect("kept");
            assert_eq!(fs::read(kept.join("there")).expect("there"), b"bad");
            assert_eq!(fs::read(kept.join("here")).expect("here"), b"good");
            assert!(fs::read_to_string(kept.join("report.txt")).expect("a text").contains("build7"));
        }
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), REPORTS_MAX);
    }
}
