//! What has arrived of a volunteer's frames and was not taken yet.
//!
//! A frame of a job's data is taken as far as it is there, as if its sender had cut it there: data are copied
//! once, while they lie in the innermost caches, and what stays behind for the next read is a few bytes.

use crate::common::protocol::link::{FrameError, FrameHeader, FrameKind};

/// How much is read at once, at least.
const STEP_BYTES: usize = 64 << 10;

/// Bytes as they come, and how far they were taken.
#[derive(Debug, Default)]
pub struct Frames {
    arrived: Vec<u8>,
    taken: usize,
    /// A frame of data of which more is to come: so much.
    begun: Option<FrameHeader>,
}

impl Frames {
    /// Where the next bytes go.
    pub fn room(&mut self) -> &mut Vec<u8> {
        self.arrived.reserve(STEP_BYTES);
        &mut self.arrived
    }

    /// Whether nothing is waiting for its end.
    pub fn is_empty(&self) -> bool {
        self.arrived.is_empty() && self.begun.is_none()
    }

    /// The next frame, or the next piece of one; `None` until more bytes have come.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with a header.
    pub fn next(&mut self) -> Result<Option<(FrameHeader, &[u8])>, FrameError> {
        if self.begun.is_none() {
            self.begin()?;
        }
        let rest = self.arrived.len() - self.taken;
        let header = match self.begun {
            Some(begun) if begun.kind != FrameKind::Data && begun.length as usize <= rest => begun,
            Some(begun) if begun.kind == FrameKind::Data && (rest > 0 || begun.length == 0) => {
                FrameHeader { length: begun.length.min(u32::try_from(rest).unwrap_or(u32::MAX)), ..begun }
            }
            _ => {
                self.arrived.drain(..self.taken);
                self.taken = 0;
                return Ok(None);
            }
        };
        let left = self.begun.map_or(0, |begun| begun.length) - header.length;
        self.begun = (left > 0).then_some(FrameHeader { length: left, ..header });
        let from = self.taken;
        self.taken += header.length as usize;
        Ok(Some((header, &self.arrived[from..self.taken])))
    }

    /// Takes a header, when all of it is there.
    fn begin(&mut self) -> Result<(), FrameError> {
        if let Some(head) = self.arrived[self.taken..].first_chunk::<{ FrameHeader::LEN }>() {
            self.begun = Some(FrameHeader::decode(head)?);
            self.taken += FrameHeader::LEN;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::protocol::io::{push_bundle, push_data};

    /// All that comes out, pieces of a job's data put together.
    fn taken(pieces: &[&[u8]]) -> Vec<(FrameKind, u32, Vec<u8>)> {
        let mut frames = Frames::default();
        let mut all: Vec<(FrameKind, u32, Vec<u8>)> = Vec::new();
        for piece in pieces {
            frames.room().extend_from_slice(piece);
            while let Some((header, body)) = frames.next().expect("frames") {
                assert_eq!(header.length as usize, body.len());
                match all.last_mut() {
                    Some((FrameKind::Data, job, before))
                        if header.kind == FrameKind::Data && *job == header.job =>
                    {
                        before.extend_from_slice(body);
                    }
                    _ => all.push((header.kind, header.job, body.to_vec())),
                }
            }
        }
        assert!(frames.is_empty());
        all
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut bytes = Vec::new();
        push_data(&mut bytes, 7, b"seven");
        push_bundle(&mut bytes, 3, b"bundle");
        push_data(&mut bytes, 8, b"");
        push_bundle(&mut bytes, 4, b"");
        push_data(&mut bytes, 9, b"nine");
        let expected = [
            (FrameKind::Data, 7, b"seven".to_vec()),
            (FrameKind::Bundle, 3, b"bundle".to_vec()),
            (FrameKind::Data, 8, Vec::new()),
            (FrameKind::Bundle, 4, Vec::new()),
            (FrameKind::Data, 9, b"nine".to_vec()),
        ];
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let cut = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(taken(&cut), expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn of_data_nothing_waits_for_its_end_and_of_others_all_does() {
        for (push, there) in [(push_data as fn(&mut Vec<u8>, u32, &[u8]), Some(3)), (push_bundle, None)] {
            let mut bytes = Vec::new();
            push(&mut bytes, 1, b"whole");
            let mut frames = Frames::default();
            frames.room().extend_from_slice(&bytes[..bytes.len() - 2]);
            assert_eq!(frames.next().expect("a frame").map(|(_, body)| body.len()), there);
            assert!(!frames.is_empty());
            assert_eq!(frames.next(), Ok(None));
            frames.room().extend_from_slice(&bytes[bytes.len() - 2..]);
            assert!(frames.next().expect("a frame").is_some_and(|(_, body)| body.ends_with(b"le")));
            assert!(frames.is_empty() || frames.next() == Ok(None));
        }
    }

    #[test]
    fn what_is_no_frame_is_said_at_its_header() {
        let mut frames = Frames::default();
        frames.room().extend_from_slice(&[255; FrameHeader::LEN]);
        assert!(frames.next().is_err());
    }
}
