//! The two ends of a connection, each with a bound on silence; and the first words on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::common::protocol::io::push_message;
use crate::common::protocol::link::{
    FrameHeader, FrameKind, MAGIC, OPENING, SILENCE_MAX, ToBroker, ToVolunteer, VERSION,
};
use crate::common::protocol::wire;
use crate::common::trust::introduction::{self, Introduction};

/// The longest hello: names of people and machines are short, and who they are is not known yet.
const HELLO_MAX_BYTES: u32 = 4 << 10;

/// What a client's name may be in our log.
const CLIENT_MAX_CHARS: usize = 100;

/// A reader that gives up when not one byte has come for a while. A frame may take longer.
pub struct Heard<R> {
    inner: R,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
}

impl<R> Heard<R> {
    /// Reads from `inner`, which may be silent for `patience`.
    pub fn new(inner: R, patience: Duration) -> Self {
        Heard { inner, patience, silence: Box::pin(sleep(patience)) }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Heard<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What has come counts even when it is looked at late.
        if let Poll::Ready(result) = Pin::new(&mut this.inner).poll_read(cx, buffer) {
            this.silence.as_mut().reset(Instant::now() + this.patience);
            return Poll::Ready(result);
        }
        match this.silence.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(silent(this.patience))),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn silent(patience: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("nothing was heard for {} s", patience.as_secs()))
}

/// Writes batches until there are no more or the peer takes nothing for [`SILENCE_MAX`].
pub async fn write_batches(mut writing: impl AsyncWrite + Unpin, mut batches: mpsc::Receiver<Vec<u8>>) {
    while let Some(batch) = batches.recv().await {
        if let Err(error) = write(&mut writing, &batch).await {
            tracing::debug!(%error, "the peer takes nothing");
            return;
        }
    }
    let _ = timeout(SILENCE_MAX, writing.shutdown()).await;
}

async fn write(writing: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(SILENCE_MAX, writing.write(bytes)).await.map_err(|_| silent(SILENCE_MAX))??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    timeout(SILENCE_MAX, writing.flush()).await.map_err(|_| silent(SILENCE_MAX))?
}

/// What a peer wants to speak.
#[derive(Debug, PartialEq, Eq)]
pub enum Speech {
    /// Our own protocol.
    Native,
    /// An introduction, and what it lets in behind it.
    Introduced,
    /// distcc's own protocol, one job per connection.
    Classic,
    /// Something else; these were its first bytes.
    Unknown([u8; 4]),
}

/// Reads the first bytes, which tell the protocol.
///
/// # Errors
///
/// Returns what the stream returns.
pub async fn listen_to(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Speech> {
    let mut first = [0; 4];
    stream.read_exact(&mut first).await?;
    Ok(match &first {
        first if *first == MAGIC => Speech::Native,
        first if *first == introduction::MAGIC => Speech::Introduced,
        b"DIST" => Speech::Classic,
        _ => Speech::Unknown(first),
    })
}

/// Reads the rest of an introduction.
///
/// # Errors
///
/// Returns `InvalidData` when it is none.
pub async fn introduction(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Introduction> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let length =
        introduction::body_length(length).ok_or_else(|| wrong("the introduction is too long".to_owned()))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    introduction::decode(&body).map_err(|error| wrong(error.to_string()))
}

/// Reads the rest of the opening and the client's hello; its name. A client of another version is told so.
///
/// # Errors
///
/// Returns `InvalidData` when it is no hello, or of a version that is not spoken here.
pub async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<String> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    stream.read_exact(&mut [0; OPENING.len() - MAGIC.len()]).await?;
    let mut head = [0; FrameHeader::LEN];
    stream.read_exact(&mut head).await?;
    let header = FrameHeader::decode(&head).map_err(|error| wrong(error.to_string()))?;
    if header.kind != FrameKind::Message || header.length > HELLO_MAX_BYTES {
        return Err(wrong("no hello".to_owned()));
    }
    let mut body = vec![0; header.length as usize];
    stream.read_exact(&mut body).await?;
    // A hello of a later version may be longer than ours; its sender is told the same.
    let (version, build) = match wire::decode(&body) {
        Ok(ToVolunteer::Hello { version: VERSION, client, .. }) => {
            return Ok(client.chars().filter(|c| !c.is_control()).take(CLIENT_MAX_CHARS).collect());
        }
        Ok(ToVolunteer::Hello { version, build, .. }) => (version.to_string(), build),
        Ok(_) => return Err(wrong("no hello".to_owned())),
        Err(_) => ("unknown".to_owned(), "unknown".to_owned()),
    };
    let ours = env!("CARGO_PKG_VERSION");
    let why = format!(
        "this volunteer (distcc {ours}) speaks link version {VERSION}, the broker (distcc {build:.20}) {version}"
    );
    turn_away(stream, &why).await?;
    Err(wrong(why))
}

/// Says why there will be no link, in words that every version of ours understands.
///
/// # Errors
///
/// Returns what the stream returns.
pub async fn turn_away(stream: &mut (impl AsyncWrite + Unpin), why: &str) -> io::Result<()> {
    let build = env!("CARGO_PKG_VERSION").to_owned();
    let mut last = Vec::new();
    push_message(&mut last, &ToBroker::Hello { version: VERSION, build, slots: 0 });
    push_message(&mut last, &ToBroker::Fatal { why: why.to_owned() });
    write(stream, &last).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn silence_has_a_bound_and_each_byte_starts_it_anew() {
        let (reading, mut writing) = duplex(10);
        let patience = Duration::from_millis(100);
        let mut heard = Heard::new(reading, patience);
        let begin = Instant::now();
        writing.write_all(b"x").await.unwrap();
        assert_eq!(heard.read_u8().await.unwrap(), b'x');
        assert_eq!(heard.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= patience);
    }

    #[tokio::test]
    async fn what_came_while_nobody_looked_is_not_silence() {
        let (reading, mut writing) = duplex(10);
        let mut heard = Heard::new(reading, Duration::ZERO);
        writing.write_all(b"x").await.unwrap();
        assert_eq!(heard.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn the_first_bytes_tell_the_protocol() {
        for (bytes, expected) in [
            (&b"DCCn"[..], Speech::Native),
            (b"DIST00000001", Speech::Classic),
            (b"GET / HTTP", Speech::Unknown(*b"GET ")),
        ] {
            assert_eq!(listen_to(&mut &bytes[..]).await.unwrap(), expected);
        }
        assert!(listen_to(&mut &b"DC"[..]).await.is_err());
    }

    /// What a volunteer makes of the first message, and what it says.
    async fn greeting(first: &[u8]) -> (io::Result<String>, Vec<u8>) {
        let (mut broker, mut volunteer) = duplex(1 << 16);
        broker.write_all(&OPENING[MAGIC.len()..]).await.unwrap();
        broker.write_all(first).await.unwrap();
        let greeted = greet(&mut volunteer).await;
        drop(volunteer);
        let mut said = Vec::new();
        broker.read_to_end(&mut said).await.unwrap();
        (greeted, said)
    }

    fn hello(version: u16, client: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_message(&mut bytes, &ToVolunteer::Hello { version, build: "1".into(), client: client.into() });
        bytes
    }

    #[tokio::test]
    async fn a_client_is_known_by_a_name_that_cannot_spoil_the_log() {
        let (greeted, said) = greeting(&hello(VERSION, "me@here\n\x1b[2J")).await;
        assert_eq!((greeted.unwrap().as_str(), said.len()), ("me@here[2J", 0));
    }

    #[tokio::test]
    async fn another_version_is_told_which_is_spoken_here() {
        let (greeted, said) = greeting(&hello(VERSION + 1, "x")).await;
        assert!(greeted.is_err());
        assert!(String::from_utf8_lossy(&said).contains(&format!("speaks link version {VERSION}")));
        let longer =
            [&FrameHeader { length: 9, kind: FrameKind::Message, job: 0 }.encode()[..], &[0; 9]].concat();
        assert!(!greeting(&longer).await.1.is_empty(), "a hello that is longer than ours");
    }

    #[tokio::test]
    async fn a_first_message_of_megabytes_is_not_waited_for() {
        let header = FrameHeader { length: HELLO_MAX_BYTES + 1, kind: FrameKind::Message, job: 0 };
        assert!(greeting(&header.encode()).await.0.is_err());
    }
}
