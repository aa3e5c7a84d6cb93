//! The transfer of one job's data in both directions.

use std::time::Duration;

use tokio::sync::oneshot;

use super::LinkError;
use crate::broker::link::{Answer, FilesAnswer, TextAnswer, Times, Work};
use crate::broker::scheduler::api::{Failure, Moment};
use crate::common::limits::{LINK_WINDOW_BYTES, MESSAGES_MAX_BYTES, OUTPUT_MAX_BYTES, PRODUCTS_MAX};
use crate::common::protocol::link::{Compiled, JobResult, Part};

/// What a volunteer says that a job has come to.
pub enum Announced {
    /// A compile of a text.
    Text(JobResult),
    /// A hermetic compile.
    Files(Compiled),
}

impl Announced {
    /// How long the compiler ran.
    fn wall(&self) -> Duration {
        Duration::from_micros(match self {
            Announced::Text(result) => result.wall_us,
            Announced::Files(compiled) => compiled.wall_us,
        })
    }

    /// The lengths of all parts together, as they travel and unpacked.
    pub fn lengths(&self) -> (u64, u64) {
        let sum = |parts: &mut dyn Iterator<Item = &Part>| {
            parts.fold((0_u64, 0_u64), |(packed, size), part| {
                (packed.saturating_add(part.packed), size.saturating_add(part.size))
            })
        };
        match self {
            Announced::Text(result) => {
                sum(&mut [&result.stdout, &result.stderr].into_iter().chain(&result.outputs))
            }
            Announced::Files(compiled) => {
                let products = compiled.products.iter().map(|product| &product.part);
                sum(&mut [&compiled.stdout, &compiled.stderr].into_iter().chain(products))
            }
        }
    }
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
    /// When it was sent, and when the last of its own input was.
    started: Moment,
    pub fed: Moment,
    announced: Option<(Announced, Moment)>,
    expected: u64,
    received: Vec<u8>,
}

impl Job {
    /// A job that is sent now.
    pub fn new(now: Moment, work: Box<Work>, reply: oneshot::Sender<Result<Answer, Failure>>) -> Self {
        Job {
            work,
            reply,
            wanted: false,
            sent: 0,
            window: LINK_WINDOW_BYTES,
            ungranted: 0,
            started: now,
            fed: now,
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

    /// Their length as they travel, and unpacked.
    pub fn input_lengths(&self) -> (u64, u64) {
        match &*self.work {
            Work::Text(order) => (order.input.blob.packed, order.input.blob.size),
            Work::Files(_) => (0, 0),
        }
    }

    /// Takes the announcement of the result's data.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it.
    pub fn announce(&mut self, now: Moment, announced: Announced) -> Result<(), LinkError> {
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
        // What was announced is not there yet: room for no more than may come unasked.
        self.received.reserve_exact(self.expected.min(LINK_WINDOW_BYTES) as usize);
        self.announced = Some((announced, now));
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

    /// Whether its result was announced by then, and is not here.
    pub fn announced_before(&self, then: Moment) -> bool {
        self.announced.as_ref().is_some_and(|(_, at)| *at <= then)
    }

    /// Whether all of the result is here.
    pub fn is_whole(&self) -> bool {
        self.announced.is_some() && self.received.len() as u64 == self.expected
    }

    /// Gives the result to whoever waits for it. Files last left for this link at `supplied`.
    pub fn finish(self, now: Moment, supplied: Moment) {
        let Some((announced, at)) = self.announced else { return };
        let times = times([self.started, self.fed.max(supplied), at, now], announced.wall());
        let packed = self.received;
        let answer = match announced {
            Announced::Text(result) => Answer::Text(TextAnswer { result, packed, dependencies: None, times }),
            Announced::Files(compiled) => Answer::Files(FilesAnswer { compiled, packed, times }),
        };
        // Nobody waits for an attempt that was dropped a moment ago.
        let _ = self.reply.send(Ok(answer));
    }
}

/// How long each part took, of a job that was sent, fed, announced and whole at these moments.
///
/// The volunteer's clock is not asked: the compiler's time, which it tells, ends when the result is
/// announced. Files leave for a link, not for a job: those that leave when the compiler runs already
/// are another's.
fn times([started, fed, announced, whole]: [Moment; 4], wall: Duration) -> Times {
    let there = announced.since(started);
    let compile = wall.min(there);
    let upload = fed.since(started).min(there - compile);
    Times { upload, wait: there - compile - upload, compile, download: whole.since(announced) }
}

/// The sum of the packed lengths; `None` when any length is beyond the limits.
fn checked_length<'a>(messages: [&'a Part; 2], outputs: impl Iterator<Item = &'a Part>) -> Option<u64> {
    // Neither zstd nor LZ4 grows data by more than this.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_attempt_add_up_to_the_whole() {
        let ms = Duration::from_millis;
        let at = |value: u64| Moment(value * 1000);
        let all = times([at(10), at(15), at(60), at(70)], ms(30));
        assert_eq!(
            [all.upload, all.wait, all.compile, all.download].map(|time| time.as_millis()),
            [5, 15, 30, 10]
        );
        let late = times([at(10), at(50), at(60), at(60)], ms(30));
        assert_eq!(
            [late.upload, late.wait, late.compile, late.download].map(|time| time.as_millis()),
            [20, 0, 30, 0]
        );
        let lying = times([at(10), at(11), at(20), at(20)], ms(1_000_000));
        assert_eq!((lying.compile, lying.upload, lying.wait), (ms(10), ms(0), ms(0)));
    }
}
