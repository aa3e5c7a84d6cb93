//! `distcc --explain COMMAND…`: what would become of a compile, and why. Runs nothing but what the
//! broker asks a compiler once in its life.
//!
//! It goes through the steps that a broker takes, in this process, and asks a broker that runs only
//! how its hosts are. [`text`] makes the words, from values.

mod hosts;
mod rules;
mod text;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use self::hosts::Prospect;
use super::hermetic::{FilesJob, Hermetic, NotHermetic};
use super::host_lists::HostLists;
use super::plan::{Plan, Planner};
use super::status::Report;
use super::toolchain::Compilers;
use crate::common::bytes::Bytes;
use crate::common::hosts::HostList;
use crate::common::inputs::{EntryKind, Item};
use crate::common::invocation::{Invocation, Origin};
use crate::common::reason::LocalReason;
use crate::common::toolchain::Digest;

/// How the inputs of a job that may leave would travel.
enum Travel {
    /// As files.
    Files { inputs: Vec<Kind>, toolchain: Digest, program: Bytes },
    /// As a preprocessed text, for this reason.
    Text { why: NotHermetic },
    /// Not at all: files cannot be told, and a text cannot carry it.
    Not { why: LocalReason },
}

/// Inputs of one kind.
struct Kind {
    name: &'static str,
    count: usize,
    bytes: u64,
}

/// Everything that is told of one command.
struct Explanation<'a> {
    invocation: &'a Invocation,
    plan: Result<(&'a Plan, Travel), &'a LocalReason>,
    hosts: Vec<(String, Prospect)>,
}

/// What would become of this command. `report` is what a running broker says of its hosts.
pub async fn explain(invocation: &Invocation, origin: Origin, report: Option<&Report>) -> String {
    let (compilers, host_lists) = (Compilers::default(), HostLists::default());
    let invocation = &Arc::new(Invocation { origin, ..without_distcc(invocation.clone()) });
    // Without one, commands that need files of ours stay here.
    let scratch = tempfile::tempdir().ok();
    let scratch = scratch.as_ref().map_or(Path::new("/nowhere"), TempDir::path);
    let planner = Planner { compilers: &compilers, host_lists: &host_lists, origin, scratch };
    let plan = planner.plan(invocation).await.map(Arc::new);
    let travel = match &plan {
        Ok(plan) => Ok((&**plan, travel(plan, invocation).await)),
        Err(reason) => Err(reason),
    };
    let list = host_lists.of(invocation).ok();
    let files = matches!(&travel, Ok((_, Travel::Files { .. })));
    let hosts = list.as_ref().map(|list| prospects(list, files, report)).unwrap_or_default();
    text::render(&Explanation { invocation, plan: travel, hosts })
}

/// The command as it would come to the broker, whether distcc is put before it or not.
fn without_distcc(mut invocation: Invocation) -> Invocation {
    let is_distcc = |word: &Bytes| crate::common::program::basename(word) == b"distcc";
    if invocation.argv.first().is_some_and(is_distcc) {
        invocation.argv.remove(0);
    }
    if invocation.argv.first().is_some_and(|word| word.starts_with(b"-")) {
        invocation.argv.insert(0, "cc".into());
    }
    cut_path(&mut invocation);
    invocation
}

/// Leaves folders of links to distcc out of `PATH`, as a shim does that is called by such a link.
fn cut_path(invocation: &mut Invocation) {
    let Some(name) = invocation.argv.first().filter(|name| !name.contains(&b'/')).cloned() else { return };
    let path = invocation.variable("PATH").unwrap_or_default().to_vec();
    let is_link = |folder: &&[u8]| {
        let file = Bytes([folder, &b"/"[..], &name].concat());
        let real = std::fs::canonicalize(file.as_path()).map(Bytes::from_path);
        real.is_ok_and(|real| crate::common::program::basename(&real) == b"distcc")
    };
    let folders: Vec<&[u8]> = path.split(|&byte| byte == b':').filter(|folder| !is_link(folder)).collect();
    let entry = Bytes([&b"PATH="[..], &folders.join(&b':')].concat());
    invocation.env.retain(|entry| !entry.starts_with(b"PATH="));
    invocation.env.push(entry);
}

async fn travel(plan: &Arc<Plan>, invocation: &Arc<Invocation>) -> Travel {
    let hermetic = Arc::new(Hermetic::default());
    let prepared = hermetic.files(plan, invocation).await.map(|job| {
        let path = |(_, item): &(u32, Arc<Item>)| match &**item {
            Item::Entry(entry) => Some(entry.path.clone()),
            Item::Word(_) => None,
        };
        let own: HashSet<Bytes> = job.toolchain.items.iter().filter_map(path).collect();
        (kinds(&job, plan, invocation, &own), job.toolchain.digest)
    });
    match (prepared, &plan.job.hermetic.needed) {
        (Ok((inputs, toolchain)), _) => {
            let program = Bytes::from(plan.compiler.program.as_path());
            Travel::Files { inputs, toolchain, program }
        }
        (Err(why), Some(reason)) => Travel::Not { why: why.reason(reason) },
        (Err(why), None) => Travel::Text { why },
    }
}

/// A job's inputs, by what they are for.
fn kinds(job: &FilesJob, plan: &Plan, invocation: &Invocation, toolchain: &HashSet<Bytes>) -> Vec<Kind> {
    let source = Bytes::from(invocation.cwd.as_path().join(plan.job.source.as_path()).as_path());
    let scanned: HashSet<&[u8]> =
        job.scanned.files.iter().chain(&job.scanned.probed).map(|file| &file.real[..]).collect();
    let names = ["source", "headers", "compiler", "named by options", "links", "folders"];
    let mut kinds = names.map(|name| Kind { name, count: 0, bytes: 0 });
    let real_source = std::fs::canonicalize(source.as_path()).map(Bytes::from_path).unwrap_or(source);
    for (_, item) in &job.items {
        let Item::Entry(entry) = &**item else { continue };
        let (at, bytes) = match (&entry.kind, entry.kind.file()) {
            (_, Some(file)) if entry.path == real_source => (0, file.size),
            (_, Some(file)) if toolchain.contains(&entry.path) => (2, file.size),
            (_, Some(file)) if scanned.contains(&entry.path[..]) => (1, file.size),
            (_, Some(file)) => (3, file.size),
            (EntryKind::Link { .. }, None) => (4, 0),
            (_, None) => (5, 0),
        };
        kinds[at].count += 1;
        kinds[at].bytes += bytes;
    }
    kinds.into_iter().filter(|kind| kind.count > 0).collect()
}

fn prospects(list: &HostList, files: bool, report: Option<&Report>) -> Vec<(String, Prospect)> {
    let known = report.map(|report| &report.hosts[..]).unwrap_or_default();
    list.hosts.iter().map(|host| (host.token.to_string(), hosts::prospect(host, files, known))).collect()
}
