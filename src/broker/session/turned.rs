//! Those who come when no file can be opened any more.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use tokio::time::timeout;

use super::{answer, write};
use crate::broker::Shared;
use crate::common::bytes::Bytes;
use crate::common::exit;
use crate::common::protocol::io::LocalFrames;
use crate::common::protocol::local::{Attempted, Kind, Run, VERSION};
use crate::common::protocol::wire;
use crate::common::reason::LocalReason;
use crate::common::settings::Settings;

/// How long somebody may take who comes when there are no descriptors: meanwhile, nobody else is let in.
const TURN_AWAY_MAX: Duration = Duration::from_millis(500);

/// Serves one connection with no other descriptors than its own: a compile is sent home, a control word has its
/// answer. Who waits for the compile reads why, if it is the `first`.
pub async fn turn_away(shared: &Arc<Shared>, stream: Stream, first: bool) {
    let mut frames = LocalFrames::default();
    let turned = timeout(TURN_AWAY_MAX, async move {
        let mut stream = stream;
        let Some((header, body)) = frames.next(&mut stream).await? else { return Ok(()) };
        if header.kind != Kind::Compile || header.protocol != VERSION {
            return answer(shared, stream, frames, header, &body).await.map(drop);
        }
        let invocation = shared.completed(wire::decode(&body).map_err(io::Error::other)?);
        let run = without_descriptors(Settings::of(&invocation).fallback, first);
        write(&mut stream, Kind::Run, &wire::encode(&run)).await
    });
    match turned.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "session ended"),
        Err(_) => tracing::debug!("a connection took too long to be turned away"),
    }
}

/// What a shim is told that nothing can be done for.
fn without_descriptors(fallback: bool, first: bool) -> Run {
    let why = "too few files may be open (ulimit -n)";
    let warning = if first { format!("Warning: the broker: {why}\n") } else { String::new() };
    Run {
        reason: LocalReason::Broker { why: why.to_owned() }.to_string(),
        attempted: Attempted::Undistributed { first },
        warning: Bytes(warning.into_bytes()),
        forbidden: (!fallback).then_some(exit::NO_HOSTS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_descriptors_a_compile_is_sent_home_and_only_the_first_reads_why() {
        let (first, later) = (without_descriptors(true, true), without_descriptors(true, false));
        assert!(first.warning.to_text().contains("ulimit -n"), "{first:?}");
        assert_eq!((later.warning.len(), later.attempted), (0, Attempted::Undistributed { first: false }));
        assert_eq!((first.forbidden, later.forbidden), (None, None));
        assert_eq!(without_descriptors(false, true).forbidden, Some(exit::NO_HOSTS));
    }
}
