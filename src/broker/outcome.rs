//! From a volunteer's answer to what the user gets, or to the reason why it must not be that.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::deliver::{Delivery, deliver};
use super::frontend;
use super::link::{PackedBlob, Packing, TextAnswer};
use super::plan::Plan;
use super::prepare::Prepared;
use super::speech::tamed;
use tokio::sync::Semaphore;
use zstd::bulk::Decompressor;

use crate::common::action::Ended;
use crate::common::classify::Destination;
use crate::common::invocation::Invocation;
use crate::common::protocol::link::Part;
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
    let mut deliveries = dependency_delivery(&work, dependencies.as_ref());
    let output = work.invocation.cwd.as_path().join(work.plan.job.output.as_path());
    let replaces = !work.plan.is_text();
    let umask = work.invocation.umask;
    let place = move || {
        let contents = unpack_outputs(&answer)?;
        deliveries.extend(contents.map(|contents| Delivery { path: output, contents, replaces }));
        deliver(&deliveries, umask).map_err(|error| LocalReason::Broker { why: error.to_string() })
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
    let parts = [&answer.result.stdout, &answer.result.stderr];
    let begin: u64 = parts[..which].iter().map(|part| part.packed).sum();
    let packed = answer.packed.get(begin as usize..(begin + parts[which].packed) as usize);
    unpack(packed.unwrap_or_default(), parts[which], answer.packing)
}

fn dependency_delivery(work: &Work<'_>, text: Option<&Vec<u8>>) -> Vec<Delivery> {
    match (&work.plan.job.dependencies, text) {
        (Some(Destination::File(path)), Some(text)) => {
            let path = work.invocation.cwd.as_path().join(path.as_path());
            vec![Delivery { path, contents: text.clone(), replaces: false }]
        }
        _ => Vec::new(),
    }
}

/// The one output of a compile, checked against its digest.
///
/// # Errors
///
/// Returns that it is not what was announced.
pub fn unpack_outputs(answer: &TextAnswer) -> Result<Option<Vec<u8>>, LocalReason> {
    let messages = answer.result.stdout.packed + answer.result.stderr.packed;
    let Some(part) = answer.result.outputs.first() else { return Ok(None) };
    let packed = answer.packed.get(messages as usize..(messages + part.packed) as usize);
    unpack(packed.unwrap_or_default(), part, answer.packing).map(Some)
}

/// The contents of a part, which have the length and the digest that were announced.
///
/// # Errors
///
/// Returns [`LocalReason::NoVolunteer`] when they have not.
pub fn unpack(packed: &[u8], part: &Part, packing: Packing) -> Result<Vec<u8>, LocalReason> {
    let wrong = |why: &str| LocalReason::NoVolunteer { why: format!("the answer was damaged: {why}") };
    if part.size == 0 {
        return Ok(Vec::new());
    }
    if packing == Packing::Plain {
        return Ok(packed.to_vec());
    }
    let contents = inflate(packed, part.size as usize).map_err(|_| wrong("cannot be unpacked"))?;
    if contents.len() as u64 != part.size || Digest::of(&contents) != part.digest {
        return Err(wrong("digests differ"));
    }
    Ok(contents)
}

/// Unpacks at most `size` bytes in one go: what is left over is an error.
fn inflate(packed: &[u8], size: usize) -> io::Result<Vec<u8>> {
    thread_local! {
        // Making one takes longer than most messages do.
        static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            None => decompressor.insert(Decompressor::new()?),
        };
        decompressor.decompress(packed, size)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn part_of(contents: &[u8], packed: &[u8]) -> Part {
        Part { digest: Digest::of(contents), size: contents.len() as u64, packed: packed.len() as u64 }
    }

    #[test]
    fn an_output_that_is_not_what_it_claims_to_be_is_refused() {
        let contents = vec![7; 100_000];
        let packed = zstd::encode_all(&contents[..], 1).expect("packed");
        let part = part_of(&contents, &packed);
        assert_eq!(unpack(&packed, &part, Packing::Zstd), Ok(contents.clone()));
        assert!(unpack(&packed[1..], &part, Packing::Zstd).is_err());
        assert!(unpack(&packed, &Part { size: part.size - 1, ..part }, Packing::Zstd).is_err());
        assert!(unpack(&packed, &Part { size: part.size + 1, ..part }, Packing::Zstd).is_err());
        assert!(unpack(&packed, &Part { digest: Digest::of(b"other"), ..part }, Packing::Zstd).is_err());
    }
}
