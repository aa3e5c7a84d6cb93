//! What waits to be sent on one link: messages first, then the data of finished jobs in turns.
//!
//! Pure: bytes in, frames out. Each job's data goes out in order and within the window that the
//! client granted; jobs take turns chunk by chunk, so that a large object never keeps a small
//! one waiting for long.

use std::collections::VecDeque;
use std::io::{self, Read};

use serde::Serialize;

use super::clients::Held;
use crate::common::limits::LINK_CHUNK_MAX_BYTES;
use crate::common::protocol::io::{push_data, push_message};

/// One write to the socket: enough to fill it, little enough that a message waits only a moment.
const BATCH_BYTES: usize = 128 << 10;

/// Messages that may wait. A client that reads nothing is not listened to beyond this.
const MESSAGES_MAX_BYTES: usize = 1 << 20;

/// The bytes of one piece of a result.
pub type Source = Box<dyn Read + Send>;

/// The rest of one job's data.
struct Stream {
    job: u32,
    window: u64,
    left: u64,
    sources: VecDeque<Source>,
    /// What its client has less of until it has taken all.
    _held: Vec<Held>,
}

/// Everything that waits.
#[derive(Default)]
pub struct Outbox {
    messages: Vec<u8>,
    streams: VecDeque<Stream>,
}

impl Outbox {
    /// Queues a message.
    pub fn message(&mut self, message: &impl Serialize) {
        push_message(&mut self.messages, message);
    }

    /// Queues a job's data, `bytes` in all, behind the message that announces it; `held` until all has left.
    pub fn data(&mut self, job: u32, window: u64, bytes: u64, sources: VecDeque<Source>, held: Vec<Held>) {
        if bytes > 0 {
            self.streams.push_back(Stream { job, window, left: bytes, sources, _held: held });
        }
    }

    /// The client takes this much more of a job's data.
    pub fn grant(&mut self, job: u32, bytes: u64) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.job == job) {
            stream.window = stream.window.saturating_add(bytes);
        }
    }

    /// The client does not want a job's data any more.
    pub fn forget(&mut self, job: u32) {
        self.streams.retain(|stream| stream.job != job);
    }

    /// Whether data of this job waits.
    pub fn holds(&self, job: u32) -> bool {
        self.streams.iter().any(|stream| stream.job == job)
    }

    /// Jobs whose data waits.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether nothing waits at all, not even data beyond the window.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.streams.is_empty()
    }

    /// Whether something can be sent now.
    pub fn is_ready(&self) -> bool {
        !self.messages.is_empty() || self.streams.iter().any(|stream| stream.window > 0)
    }

    /// Whether more messages may come.
    pub fn has_room(&self) -> bool {
        self.messages.len() < MESSAGES_MAX_BYTES
    }

    /// The next frames to write: all messages, then chunks of data in turns.
    ///
    /// # Errors
    ///
    /// Returns what reading a result from its place returned.
    pub fn next_batch(&mut self) -> io::Result<Vec<u8>> {
        let mut batch = std::mem::take(&mut self.messages);
        while batch.len() < BATCH_BYTES {
            let Some(ready) = self.streams.iter().position(|stream| stream.window > 0) else { break };
            let Some(mut stream) = self.streams.remove(ready) else { break };
            let chunk = stream.chunk()?;
            push_data(&mut batch, stream.job, &chunk);
            if stream.left > 0 {
                self.streams.push_back(stream);
            }
        }
        Ok(batch)
    }
}

impl Stream {
    /// The next chunk, which may span several pieces.
    fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let wanted = self.left.min(self.window).min(u64::from(LINK_CHUNK_MAX_BYTES));
        let mut chunk = Vec::with_capacity(wanted as usize);
        while (chunk.len() as u64) < wanted {
            let source = self.sources.front_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
            let missing = wanted - chunk.len() as u64;
            if source.take(missing).read_to_end(&mut chunk)? as u64 == missing {
                break;
            }
            self.sources.pop_front();
        }
        self.left -= wanted;
        self.window -= wanted;
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::protocol::link::{FrameHeader, FrameKind, ToBroker};

    fn sources(pieces: &[&[u8]]) -> VecDeque<Source> {
        pieces.iter().map(|piece| Box::new(io::Cursor::new(piece.to_vec())) as Source).collect()
    }

    /// The frames of a batch: kind, job, length.
    fn frames(mut batch: &[u8]) -> Vec<(FrameKind, u32, u32)> {
        let mut frames = Vec::new();
        while let Some((head, rest)) = batch.split_first_chunk::<{ FrameHeader::LEN }>() {
            let header = FrameHeader::decode(head).unwrap();
            frames.push((header.kind, header.job, header.length));
            batch = &rest[header.length as usize..];
        }
        frames
    }

    const CHUNK: u32 = LINK_CHUNK_MAX_BYTES;

    #[test]
    fn messages_go_before_data_and_jobs_take_turns() {
        let mut outbox = Outbox::default();
        let large = vec![0; 3 * CHUNK as usize];
        outbox.data(1, 1 << 20, large.len() as u64, sources(&[&large]), Vec::new());
        outbox.data(2, 1 << 20, 5, sources(&[b"", b"he", b"", b"llo"]), Vec::new());
        outbox.message(&ToBroker::Draining);
        let first = frames(&outbox.next_batch().unwrap());
        assert_eq!(first[0].0, FrameKind::Message);
        assert_eq!(
            first[1..],
            [(FrameKind::Data, 1, CHUNK), (FrameKind::Data, 2, 5), (FrameKind::Data, 1, CHUNK)]
        );
        assert_eq!(frames(&outbox.next_batch().unwrap()), [(FrameKind::Data, 1, CHUNK)]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn nothing_goes_beyond_the_window() {
        let mut outbox = Outbox::default();
        outbox.data(1, 10, 25, sources(&[&[7; 25]]), Vec::new());
        assert_eq!(frames(&outbox.next_batch().unwrap()), [(FrameKind::Data, 1, 10)]);
        assert!(!outbox.is_ready() && !outbox.is_empty());
        outbox.grant(1, 100);
        outbox.grant(9, 100);
        assert_eq!(frames(&outbox.next_batch().unwrap()), [(FrameKind::Data, 1, 15)]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_job_whose_window_is_shut_does_not_hold_up_the_others() {
        let mut outbox = Outbox::default();
        outbox.data(1, 0, 5, sources(&[b"12345"]), Vec::new());
        outbox.data(2, 9, 5, sources(&[b"12345"]), Vec::new());
        assert_eq!(frames(&outbox.next_batch().unwrap()), [(FrameKind::Data, 2, 5)]);
    }

    #[test]
    fn an_empty_result_has_no_data() {
        let mut outbox = Outbox::default();
        outbox.data(1, 10, 0, sources(&[b""]), Vec::new());
        assert!(outbox.is_empty());
    }

    #[test]
    fn data_that_is_shorter_than_announced_is_an_error_not_a_hang() {
        let mut outbox = Outbox::default();
        outbox.data(1, 10, 5, sources(&[b"123"]), Vec::new());
        assert_eq!(outbox.next_batch().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
