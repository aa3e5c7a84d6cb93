//! Frames on a stream that the caller opened: blocking for the shim, async for the daemons.
//!
//! Bodies are read in steps, so a length that lies costs no more memory than the bytes that came.

use std::io::{self, IoSlice, Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::link::{FrameHeader, FrameKind};
use super::local::{Header, Kind};
use crate::common::limits::LINK_CHUNK_MAX_BYTES;

/// How much is allocated ahead of what has arrived.
const STEP_BYTES: u64 = 64 << 10;

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Writes one local frame, in one system call where the socket takes it whole.
///
/// # Errors
///
/// Returns what the stream returns.
pub fn write_local(stream: &mut impl Write, header: Header, body: &[u8]) -> io::Result<()> {
    let head = header.encode();
    let written = stream.write_vectored(&[IoSlice::new(&head), IoSlice::new(body)])?;
    if written < head.len() {
        stream.write_all(&head[written..])?;
    }
    stream.write_all(&body[written.saturating_sub(head.len()).min(body.len())..])
}

/// Reads one local frame.
///
/// # Errors
///
/// Returns `InvalidData` for bytes that are not a frame, else what the stream returns.
pub fn read_local(stream: &mut impl Read) -> io::Result<(Header, Vec<u8>)> {
    let mut head = [0; Header::LEN];
    stream.read_exact(&mut head)?;
    let header = Header::decode(&head).map_err(invalid)?;
    let mut body = Vec::with_capacity(u64::from(header.length).min(STEP_BYTES) as usize);
    stream.take(u64::from(header.length)).read_to_end(&mut body)?;
    if body.len() < header.length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((header, body))
}

/// Local frames as they arrive: as few reads as there can be, and nothing lost when a read is given
/// up in the middle.
#[derive(Debug, Default)]
pub struct LocalFrames {
    arrived: Vec<u8>,
}

impl LocalFrames {
    /// The next frame; `None` when the other side closed between frames. Cancel safe.
    ///
    /// # Errors
    ///
    /// Returns `InvalidData` for bytes that are not a frame, else what the stream returns.
    pub async fn next<S>(&mut self, stream: &mut S) -> io::Result<Option<(Header, Vec<u8>)>>
    where
        S: AsyncRead + Unpin,
    {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            self.arrived.reserve(STEP_BYTES as usize / 4);
            if stream.read_buf(&mut self.arrived).await? == 0 {
                return match self.arrived.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// The first frame, when all of it has arrived.
    fn take(&mut self) -> io::Result<Option<(Header, Vec<u8>)>> {
        let Some((head, rest)) = self.arrived.split_first_chunk::<{ Header::LEN }>() else { return Ok(None) };
        let header = Header::decode(head).map_err(invalid)?;
        let Some(body) = rest.get(..header.length as usize) else { return Ok(None) };
        let body = body.to_vec();
        self.arrived.drain(..Header::LEN + body.len());
        Ok(Some((header, body)))
    }
}

/// The bytes of one local frame.
pub fn local_frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(Header::LEN + body.len());
    frame.extend_from_slice(&Header::new(kind, body.len()).encode());
    frame.extend_from_slice(body);
    frame
}

/// Reads one link frame; `None` when the other side closed between frames.
///
/// # Errors
///
/// Returns `InvalidData` for bytes that are not a frame, else what the stream returns.
pub async fn read_link<S>(stream: &mut S) -> io::Result<Option<(FrameHeader, Vec<u8>)>>
where
    S: AsyncRead + Unpin,
{
    let mut head = [0; FrameHeader::LEN];
    if stream.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..]).await?;
    let header = FrameHeader::decode(&head).map_err(invalid)?;
    let body = read_body(stream, header.length).await?;
    Ok(Some((header, body)))
}

/// Appends one link frame with a message to `out`.
pub fn push_message(out: &mut Vec<u8>, message: &impl serde::Serialize) {
    let body = super::wire::encode(message);
    let length = u32::try_from(body.len()).expect("messages are bounded far below 4 GiB");
    out.extend_from_slice(&FrameHeader { length, kind: FrameKind::Message, job: 0 }.encode());
    out.extend_from_slice(&body);
}

/// Appends one link frame with a piece of a job's data to `out`.
///
/// # Panics
///
/// Panics when `chunk` is larger than a data frame may be.
pub fn push_data(out: &mut Vec<u8>, job: u32, chunk: &[u8]) {
    push_chunk(out, FrameKind::Data, job, chunk);
}

/// Appends one link frame with a piece of a bundle to `out`.
///
/// # Panics
///
/// Panics when `chunk` is larger than a data frame may be.
pub fn push_bundle(out: &mut Vec<u8>, bundle: u32, chunk: &[u8]) {
    push_chunk(out, FrameKind::Bundle, bundle, chunk);
}

fn push_chunk(out: &mut Vec<u8>, kind: FrameKind, number: u32, chunk: &[u8]) {
    assert!(chunk.len() <= LINK_CHUNK_MAX_BYTES as usize, "chunks are cut to size by the caller");
    let header = FrameHeader { length: chunk.len() as u32, kind, job: number };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(chunk);
}

async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, length: u32) -> io::Result<Vec<u8>> {
    let length = u64::from(length);
    let mut body = Vec::with_capacity(length.min(STEP_BYTES) as usize);
    stream.take(length).read_to_end(&mut body).await?;
    if (body.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_frame_cut_anywhere_is_an_error() {
        let frame = local_frame(Kind::Done, b"body");
        for cut in 0..frame.len() {
            assert!(read_local(&mut &frame[..cut]).is_err(), "cut at {cut}");
        }
        let (header, body) = read_local(&mut &frame[..]).expect("a whole frame");
        assert_eq!((header.kind, body.as_slice()), (Kind::Done, &b"body"[..]));
    }

    #[tokio::test]
    async fn local_frames_come_out_as_they_went_in_however_they_are_cut() {
        let both = [local_frame(Kind::Ping, b""), local_frame(Kind::Done, b"body")].concat();
        for cut in 0..both.len() {
            let (first, second) = both.split_at(cut);
            let mut stream = AsyncReadExt::chain(first, second);
            let mut frames = LocalFrames::default();
            let ping = frames.next(&mut stream).await.expect("a frame").expect("a frame");
            let done = frames.next(&mut stream).await.expect("a frame").expect("a frame");
            assert_eq!((ping.0.kind, done.1.as_slice()), (Kind::Ping, &b"body"[..]));
            assert!(frames.next(&mut stream).await.expect("the end").is_none());
        }
    }

    #[tokio::test]
    async fn a_link_frame_cut_anywhere_is_an_error_and_nothing_is_the_end() {
        let mut frame = Vec::new();
        push_data(&mut frame, 7, b"chunk");
        assert!(read_link(&mut &frame[..0]).await.expect("the end").is_none());
        for cut in 1..frame.len() {
            assert!(read_link(&mut &frame[..cut]).await.is_err(), "cut at {cut}");
        }
    }
}
