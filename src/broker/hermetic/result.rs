//! From a hermetic compile's answer to what the user gets, or to the reason why it must not be that.
//!
//! What the compiler printed is what it would have printed here: same command, same files, same
//! names. What it made is put in place, but only under names that this command makes here: a
//! volunteer never chooses where it writes.

use std::collections::HashMap;
use std::fs::{DirBuilder, Permissions, set_permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memmem;

use crate::broker::deliver::{Contents, Delivery, deliver, is_masked};
use crate::broker::link::FilesAnswer;
use crate::broker::outcome::Outcome;
use crate::broker::plan::Plan;
use crate::broker::speech::{is_a_compilers, tamed};
use crate::broker::unpack::{Piece, Unplaced};
use crate::common::action::Ended;
use crate::common::bytes::Bytes;
use crate::common::classify::{Destination, Existing, Writer};
use crate::common::inputs::{PRIVATE, is_plain_path};
use crate::common::invocation::Invocation;
use crate::common::protocol::link::{Audit, Product};
use crate::common::reason::LocalReason;

/// Larger results are unpacked and written off the event loop.
const INLINE_MAX_BYTES: u64 = 4 << 20;

/// Checks an answer and puts its products in place. `made` are compiled modules that the command does not
/// name and may make, with the folder that they lie in; `is_final` says that a compiler that failed there
/// is not to be asked here.
///
/// # Errors
///
/// Returns why the job must be compiled here instead; then nothing was written.
pub async fn finish(
    plan: &Arc<Plan>,
    invocation: &Arc<Invocation>,
    made: &[Bytes],
    answer: Arc<FilesAnswer>,
    is_final: bool,
) -> Result<Outcome, LocalReason> {
    let size: u64 = answer.compiled.products.iter().map(|product| product.part.size).sum();
    if size <= INLINE_MAX_BYTES {
        return place(plan, invocation, made, &answer, is_final);
    }
    let (plan, invocation, made) = (Arc::clone(plan), Arc::clone(invocation), made.to_vec());
    let task = tokio::task::spawn_blocking(move || place(&plan, &invocation, &made, &answer, is_final));
    task.await.map_err(|error| LocalReason::Broker { why: error.to_string() })?
}

/// Whether the answer can be what the user sees.
fn check(answer: &FilesAnswer, is_final: bool) -> Result<(), LocalReason> {
    match answer.compiled.ended {
        Ended::Killed(_) => return Err(LocalReason::RemoteKilled),
        // What a failed compile removes here, it does not know of there.
        Ended::Exited(status) if status != 0 && !is_final => return Err(LocalReason::RemoteDiagnostics),
        Ended::Exited(_) => {}
    }
    match &answer.compiled.audit {
        Audit::Unchecked | Audit::Agrees => Ok(()),
        Audit::Differs { .. } => Err(LocalReason::Audit),
    }
}

fn place(
    plan: &Plan,
    invocation: &Invocation,
    made: &[Bytes],
    answer: &FilesAnswer,
    is_final: bool,
) -> Result<Outcome, LocalReason> {
    let Examined { deliveries, outcome } = examine(plan, invocation, made, answer, is_final)?;
    let may_lack = deliveries.iter().filter(|_| !made.is_empty());
    for folder in may_lack.filter_map(|delivery| delivery.path.parent()) {
        make_folder(folder, invocation.umask).map_err(|why| Unplaced::from(why).at(folder))?;
    }
    deliver(&deliveries, invocation.umask)?;
    Ok(outcome)
}

/// Makes a folder for compiled modules, as the compiler does that makes the first of them.
fn make_folder(folder: &Path, umask: u32) -> std::io::Result<()> {
    let mode = 0o777 & !umask;
    match DirBuilder::new().mode(mode).create(folder) {
        Ok(()) if is_masked(mode) => set_permissions(folder, Permissions::from_mode(mode)),
        Err(_) if folder.is_dir() => Ok(()),
        done => done,
    }
}

/// An answer that may be what the user gets.
pub struct Examined<'a> {
    /// What is to be put in place.
    pub deliveries: Vec<Delivery<'a>>,
    /// What the user sees.
    pub outcome: Outcome,
}

/// Checks an answer; what it made is unpacked when it is delivered.
///
/// # Errors
///
/// Returns why the job must be compiled here instead.
pub fn examine<'a>(
    plan: &Plan,
    invocation: &Invocation,
    made: &[Bytes],
    answer: &'a FilesAnswer,
    is_final: bool,
) -> Result<Examined<'a>, LocalReason> {
    check(answer, is_final)?;
    let compiled = &answer.compiled;
    let mut packed = &answer.packed[..];
    let mut take = |part| Piece::take(&mut packed, part);
    let (stdout, stderr) = (take(&compiled.stdout)?.to_vec()?, take(&compiled.stderr)?.to_vec()?);
    let is_plain = is_a_compilers(&stdout) && is_a_compilers(&stderr);
    let names_its_place =
        [&stdout, &stderr].iter().any(|text| memmem::find(text, PRIVATE.as_bytes()).is_some());
    if is_cut_here(&stderr, invocation) || names_its_place || !is_plain && !is_final {
        return Err(LocalReason::RemoteDiagnostics);
    }
    let allowed = Allowed::new(plan, invocation, made);
    let mut deliveries = Vec::with_capacity(compiled.products.len());
    for product in &compiled.products {
        let contents = Contents::Piece(take(&product.part)?);
        let existing = allowed.check(product)?;
        deliveries.push(Delivery { path: product.path.as_path().to_owned(), contents, existing });
    }
    if compiled.ended.is_success() {
        allowed.check_whole(&deliveries)?;
    }
    let (stdout, stderr) = (tamed(stdout), tamed(stderr));
    Ok(Examined { deliveries, outcome: Outcome { ended: compiled.ended, stdout, stderr, host: None } })
}

/// Whether a compile here might have cut a line that it prints to fit the terminal. gcc asks stdin for
/// the width, which a volunteer does not have.
fn is_cut_here(stderr: &[u8], invocation: &Invocation) -> bool {
    let columns = invocation.terminal.map_or(0, |terminal| usize::from(terminal.columns));
    columns > 0 && stderr.split(|&byte| byte == b'\n').any(|line| line.len() >= columns)
}

/// The names that a command may make.
struct Allowed<'a> {
    plan: &'a Plan,
    cwd: &'a Path,
    /// By real path.
    names: HashMap<PathBuf, Name>,
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    /// It is the main output.
    is_first: bool,
    /// What becomes of a file of this name.
    existing: Existing,
    /// Its folder may have to be made.
    is_made: bool,
}

impl<'a> Allowed<'a> {
    fn new(plan: &'a Plan, invocation: &'a Invocation, made: &[Bytes]) -> Self {
        let cwd = invocation.cwd.as_path();
        let products = &plan.job.hermetic.products;
        let names = products.names.iter().enumerate().map(|(at, name)| {
            (name, Name { is_first: at == 0, existing: plan.existing(products.writer(name)), is_made: false })
        });
        let existing = plan.existing(Writer::Module);
        let made = made.iter().map(|name| (name, Name { is_first: false, existing, is_made: true }));
        let mut known: HashMap<PathBuf, Name> = HashMap::new();
        for (name, what) in names.chain(made) {
            let path = cwd.join(name.as_path());
            let path = if what.is_made { real(&path).or_else(|| new(&path)) } else { real(&path) };
            // Of a name that stands twice, the first counts.
            if let Some(path) = path {
                known.entry(path).or_insert(what);
            }
        }
        Allowed { plan, cwd, names: known }
    }

    /// What becomes of what was there; an error when the product may not be made at all.
    fn check(&self, product: &Product) -> Result<Existing, LocalReason> {
        let path = product.path.as_path();
        let known = self.names.get(path).copied();
        let begins = || {
            let beginnings = &self.plan.job.hermetic.products.beginnings;
            beginnings.iter().any(|beginning| self.begins(path, beginning))
        };
        if known.is_none() && !begins() {
            return Err(LocalReason::UnexpectedOutput { output: product.path.clone() });
        }
        Ok(known.map_or(Existing::Rewritten, |name| name.existing))
    }

    /// Whether what such a command always makes is among what came.
    fn check_whole(&self, deliveries: &[Delivery<'_>]) -> Result<(), LocalReason> {
        let dependencies = match &self.plan.job.dependencies {
            Some(Destination::File(path)) => real(&self.cwd.join(path.as_path())),
            _ => None,
        };
        let always =
            self.names.iter().filter(|(path, name)| name.is_first || Some(*path) == dependencies.as_ref());
        for (path, _) in always {
            if !deliveries.iter().any(|delivery| delivery.path == *path) {
                let why = format!("the answer lacks {}", path.display());
                return Err(LocalReason::NoVolunteer { why });
            }
        }
        Ok(())
    }

    /// Whether a path lies where `beginning` does, and begins as it does.
    fn begins(&self, path: &Path, beginning: &Bytes) -> bool {
        let Some(beginning) = real(&self.cwd.join(beginning.as_path())) else { return false };
        let name = |path: &Path| path.file_name().map(|name| name.as_encoded_bytes().to_vec());
        let starts = match (name(path), name(&beginning)) {
            (Some(name), Some(start)) => name.len() > start.len() && name.starts_with(&start),
            _ => false,
        };
        starts && path.parent() == beginning.parent()
    }
}

/// The path without links, but for what lies at its end.
fn real(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    if leads_through_no_link(folder) {
        return Some(folder.join(path.file_name()?));
    }
    Some(std::fs::canonicalize(folder).ok()?.join(path.file_name()?))
}

/// Whether a path is what it would be without links, which the kernel says at once (openat2(2)); false where it does
/// not say.
fn leads_through_no_link(folder: &Path) -> bool {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    is_plain_path(folder.as_os_str().as_bytes())
        && openat2(CWD, folder, how, Mode::empty(), ResolveFlags::NO_SYMLINKS).is_ok()
}

/// The same for what lies in a folder that is to be made.
fn new(path: &Path) -> Option<PathBuf> {
    Some(real(path.parent()?)?.join(path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::invocation::Terminal;

    #[test]
    fn a_real_path_has_no_links_and_no_dots_but_at_its_end() {
        let place = tempfile::tempdir().expect("a folder");
        let top = place.path().canonicalize().expect("a path");
        std::fs::create_dir_all(top.join("a/b")).expect("made");
        std::os::unix::fs::symlink("a", top.join("link")).expect("linked");
        std::os::unix::fs::symlink("x.o", top.join("a/b/y.o")).expect("linked");
        for (path, expected) in [
            ("a/b/x.o", Some("a/b/x.o")),
            ("a/b/y.o", Some("a/b/y.o")),
            ("link/b/x.o", Some("a/b/x.o")),
            ("link/../a/x.o", Some("a/x.o")),
            ("a/./b/../x.o", Some("a/x.o")),
            ("none/x.o", None),
        ] {
            assert_eq!(real(&top.join(path)), expected.map(|path| top.join(path)), "{path}");
        }
    }

    #[test]
    fn a_line_as_long_as_the_terminal_is_wide_may_be_cut_here() {
        let check = |columns: u16, stderr: &str| {
            let terminal = Some(Terminal { columns, rows: 24 });
            is_cut_here(stderr.as_bytes(), &Invocation { terminal, ..Invocation::default() })
        };
        assert!(check(10, "short\n0123456789\n") && !check(10, "short\n012345678\n"));
        assert!(!check(0, "0123456789\n"));
        assert!(!is_cut_here(b"0123456789\n", &Invocation::default()));
    }
}
