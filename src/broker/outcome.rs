//! From a volunteer's answer to what the user gets, or to the reason why it must not be that.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::deliver::{Contents, Delivery, deliver};
use super::frontend;
use super::link::{PackedBlob, TextAnswer};
use super::plan::Plan;
use super::prepare::Prepared;
use super::speech::tamed;
use super::unpack::{Piece, Unplaced};
use tokio::sync::Semaphore;

use crate::common::action::Ended;
use crate::common::classify::{Destination, Existing};
use crate::common::invocation::Invocation;
use crate::common::reason::LocalReason;
use crate::common::settings::Settings;
use crate::common::toolchain::Digest;

/// Larger results are unpacked and written off the event loop.
const INLINE_MAX_BYTES: u64 = 4 << 20;

/// What the shim writes and how it exits.
#[derive(Debug)]
pub struct Outcome {
    /// How the compiler ended.
    pub ended: Ended,
    /// What it printed on stdout.
    pub stdout: Vec<u8>,
    /// What it printed on stderr.
    pub stderr: Vec<u8>,
    /// Where it ran.
    pub host: Option<Arc<str>>,
}

/// The job whose answer it is.
pub struct Work<'a> {
    /// Its plan.
    pub plan: &'a Plan,
    /// Its prepared input.
    pub prepared: &'a Prepared,
    /// What the user ran.
    pub invocation: &'a Invocation,
    /// What the environment asks for.
    pub settings: Settings,
    /// The right to run a front end here.
    pub front_ends: &'a Semaphore,
}

/// Checks an answer and puts its outputs in place.
///
/// # Errors
///
/// Returns why the job must be compiled here instead; then nothing was written.
pub async fn finish(
    work: Work<'_>,
    answer: TextAnswer,
    diagnosed: &Diagnosed,
) -> Result<Outcome, LocalReason> {
    let result = &answer.result;
    let stderr = match diagnostics(&work, &answer).await {
        Ok(stderr) => stderr,
        Err(LocalReason::RemoteDiagnostics) if work.settings.remote_is_final() => {
            if !result.ended.is_success() {
                return told(&answer);
            }
            tamed(message(&answer, 1)?)
        }
        Err(reason) => {
            if reason == LocalReason::RemoteDiagnostics {
                diagnosed.insert(fingerprint(work.plan, &work.prepared.input));
            }
            return Err(reason);
        }
    };
    let size: u64 = result.outputs.iter().map(|part| part.size).sum();
    let dependencies = answer.dependencies.clone().or_else(|| work.prepared.dependencies.clone());
    let dependency_file = dependency_file(&work);
    let output = work.invocation.cwd.as_path().join(work.plan.job.output.as_path());
    let job = &work.plan.job;
    let existing = work.plan.existing(job.hermetic.products.writer(&job.output));
    let umask = work.invocation.umask;
    let text = dependencies.clone();
    let place = move || -> Result<(), LocalReason> {
        let text =
            dependency_file.zip(text).map(|(path, text)| (path, Contents::Text(text), Existing::Rewritten));
        let object = object(&answer)?.map(|piece| (output, Contents::Piece(piece), existing));
        let both = [text, object].into_iter().flatten();
        let deliveries: Vec<_> =
            both.map(|(path, contents, existing)| Delivery { path, contents, existing }).collect();
        Ok(deliver(&deliveries, umask)?)
    };
    if size > INLINE_MAX_BYTES {
        let task = tokio::task::spawn_blocking(place);
        task.await.map_err(|error| LocalReason::Broker { why: error.to_string() })??;
    } else {
        place()?;
    }
    let stdout = match (&work.plan.job.dependencies, &dependencies) {
        (Some(Destination::Stdout), Some(text)) => text.clone(),
        _ => Vec::new(),
    };
    Ok(Outcome { ended: Ended::Exited(0), stdout, stderr, host: None })
}

/// What a local compile would print on stderr, when the remote one leaves no doubt about that.
async fn diagnostics(work: &Work<'_>, answer: &TextAnswer) -> Result<Vec<u8>, LocalReason> {
    let result = &answer.result;
    match result.ended {
        Ended::Killed(_) => return Err(LocalReason::RemoteKilled),
        Ended::Exited(0) if result.stdout.size == 0 => {}
        Ended::Exited(_) => return Err(LocalReason::RemoteDiagnostics),
    }
    if result.stderr.size == 0 {
        return Ok(work.prepared.stderr.clone());
    }
    let printed = message(answer, 1)?;
    let compiler = &work.plan.compiler;
    if !frontend::is_of_the_front_end(&printed, compiler.toolchain.clang) {
        return Err(LocalReason::RemoteDiagnostics);
    }
    frontend::ask(compiler, work.invocation, &work.plan.job, work.front_ends).await
}

/// What a failed compile said elsewhere, where that is final.
fn told(answer: &TextAnswer) -> Result<Outcome, LocalReason> {
    let (stdout, stderr) = (tamed(message(answer, 0)?), tamed(message(answer, 1)?));
    Ok(Outcome { ended: answer.result.ended, stdout, stderr, host: None })
}

/// What the compiler printed: its stdout (0) or its stderr (1).
fn message(answer: &TextAnswer, which: usize) -> Result<Vec<u8>, LocalReason> {
    Ok(piece(answer, which)?.map_or(Ok(Vec::new()), Piece::to_vec)?)
}

/// The one output of a compile, if there is one.
fn object(answer: &TextAnswer) -> Result<Option<Piece<'_>>, Unplaced> {
    piece(answer, 2)
}

/// A part of an answer: stdout, stderr, and then its outputs.
fn piece(answer: &TextAnswer, which: usize) -> Result<Option<Piece<'_>>, Unplaced> {
    let result = &answer.result;
    let mut parts = [&result.stdout, &result.stderr].into_iter().chain(&result.outputs);
    let before: u64 = parts.by_ref().take(which).map(|part| part.packed).sum();
    let Some(part) = parts.next() else { return Ok(None) };
    let mut bytes = answer.packed.get(before as usize..).unwrap_or_default();
    Piece::take(&mut bytes, part).map(Some)
}

fn dependency_file(work: &Work<'_>) -> Option<PathBuf> {
    match &work.plan.job.dependencies {
        Some(Destination::File(path)) => Some(work.invocation.cwd.as_path().join(path.as_path())),
        _ => None,
    }
}

/// The one output of a compile.
///
/// # Errors
///
/// Returns that it is not what was announced.
pub fn unpack_outputs(answer: &TextAnswer) -> Result<Option<Vec<u8>>, LocalReason> {
    Ok(object(answer)?.map(Piece::to_vec).transpose()?)
}

/// What makes two compiles print the same diagnostics.
pub fn fingerprint(plan: &Plan, input: &PackedBlob) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&input.blob.digest.0).update(&plan.compiler.toolchain.id.0);
    for argument in &plan.job.compile {
        hasher.update(format!("{argument:?}\0").as_bytes());
    }
    Digest(*hasher.finalize().as_bytes())
}

/// Compiles that are known to print diagnostics: asking a volunteer again would only cost.
#[derive(Default)]
pub struct Diagnosed {
    known: Mutex<(HashSet<Digest>, VecDeque<Digest>)>,
}

impl Diagnosed {
    /// More than one large project has; the oldest goes first.
    const MAX: usize = 16 << 10;

    fn insert(&self, fingerprint: Digest) {
        let (known, order) = &mut *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.insert(fingerprint) {
            order.push_back(fingerprint);
        }
        if order.len() > Self::MAX
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }

    /// Whether a compile of this fingerprint printed diagnostics before.
    pub fn contains(&self, fingerprint: &Digest) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0.contains(fingerprint)
    }
}
