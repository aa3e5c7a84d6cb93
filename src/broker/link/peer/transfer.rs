//! The transfer of one job's data in both directions.

use tokio::sync::oneshot;

use super::LinkError;
use crate::broker::link::{Answer, FilesAnswer, Packing, TextAnswer, Work};
use crate::broker::scheduler::api::Failure;
use crate::common::limits::{LINK_WINDOW_BYTES, MESSAGES_MAX_BYTES, OUTPUT_MAX_BYTES, PRODUCTS_MAX};
use crate::common::protocol::link::{Compiled, JobResult, Part};

/// What a volunteer says that a job has come to.
pub enum Announced {
    /// A compile of a text.
    Text(JobResult),
    /// A hermetic compile.
    Files(Compiled),
}

/// One job.
pub struct Job {
    work: Box<Work>,
    /// Who waits for it.
    pub reply: oneshot::Sender<Result<Answer, Failure>>,
    /// Whether the volunteer asked for the input.
    pub wanted: bool,
    /// How much of the input has been sent.
    pub sent: usize,
    /// How much more of it may be.
    pub window: u64,
    /// What has arrived of the result and not been granted again.
    pub ungranted: u64,
    announced: Option<Announced>,
    expected: u64,
    received: Vec<u8>,
}

impl Job {
    /// A job that has been sent a moment ago.
    pub fn new(work: Box<Work>, reply: oneshot::Sender<Result<Answer, Failure>>) -> Self {
        Job {
            work,
            reply,
            wanted: false,
            sent: 0,
            window: LINK_WINDOW_BYTES,
            ungranted: 0,
            announced: None,
            expected: 0,
            received: Vec::new(),
        }
    }

    /// The bytes that belong to this job alone; the files of a hermetic one do not.
    pub fn input(&self) -> &[u8] {
        match &*self.work {
            Work::Text(order) => &order.input.bytes,
            Work::Files(_) => &[],
        }
    }

    /// Takes the announcement of the result's data.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it.
    pub fn announce(&mut self, announced: Announced) -> Result<(), LinkError> {
        if self.announced.is_some() {
            return Err(LinkError::Protocol("two results of one job".to_owned()));
        }
        let length = match (&announced, &*self.work) {
            (Announced::Text(result), Work::Text(order)) => {
                let outputs = if result.ended.is_success() { order.action.outputs.len() } else { 0 };
                if result.outputs.len() != outputs {
                    let came = result.outputs.len();
                    let why = format!("{came} outputs where {outputs} were asked for");
                    return Err(LinkError::Protocol(why));
                }
                checked_length([&result.stdout, &result.stderr], result.outputs.iter())
            }
            (Announced::Files(compiled), Work::Files(_)) if compiled.products.len() <= PRODUCTS_MAX => {
                let products = compiled.products.iter().map(|product| &product.part);
                checked_length([&compiled.stdout, &compiled.stderr], products)
            }
            _ => return Err(LinkError::Protocol("a result of another kind than was asked for".to_owned())),
        };
        self.expected =
            length.ok_or_else(|| LinkError::Protocol("a result larger than the limits".to_owned()))?;
        self.announced = Some(announced);
        Ok(())
    }

    /// Takes the next piece of the result; false when it is too much.
    pub fn take(&mut self, piece: &[u8]) -> bool {
        if self.announced.is_none() || (self.received.len() + piece.len()) as u64 > self.expected {
            return false;
        }
        self.received.extend_from_slice(piece);
        self.ungranted += piece.len() as u64;
        true
    }

    /// Whether all of the result is here.
    pub fn is_whole(&self) -> bool {
        self.announced.is_some() && self.received.len() as u64 == self.expected
    }

    /// Gives the result to whoever waits for it.
    pub fn finish(self) {
        let packed = self.received;
        let answer = match self.announced {
            Some(Announced::Text(result)) => {
                Answer::Text(TextAnswer { result, packed, packing: Packing::Zstd, dependencies: None })
            }
            Some(Announced::Files(compiled)) => Answer::Files(FilesAnswer { compiled, packed }),
            None => return,
        };
        // Nobody waits for an attempt that was dropped a moment ago.
        let _ = self.reply.send(Ok(answer));
    }
}

/// The sum of the packed lengths; `None` when any length is beyond the limits.
fn checked_length<'a>(messages: [&'a Part; 2], outputs: impl Iterator<Item = &'a Part>) -> Option<u64> {
    // zstd never grows data by more than this.
    let worst = |size: u64| size + size / 128 + 1024;
    let checked = |part: &Part, limit: u64| {
        (part.size <= limit && part.packed <= worst(part.size)).then_some(part.packed)
    };
    let (mut sum, mut unpacked) = (0, 0);
    for part in messages {
        sum += checked(part, MESSAGES_MAX_BYTES)?;
    }
    for part in outputs {
        sum += checked(part, OUTPUT_MAX_BYTES)?;
        unpacked += part.size;
    }
    // However many they are, all of them together are bounded, too.
    (unpacked <= 2 * OUTPUT_MAX_BYTES).then_some(sum)
}
