//! Those who come for a page: of metrics, or of the dashboard. One request and one answer each.
//!
//! Few are here at a time, and none for long: whoever comes when all places are taken is closed, and whoever
//! takes too long gets nothing more.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::common::http::{HEAD_MAX_BYTES, is_whole};

/// How long a visitor may take.
const VISIT_MAX: Duration = Duration::from_secs(5);

/// Visitors of one page at a time.
const VISITORS_MAX: usize = 8;

/// How long the door stays shut when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves what `answer` makes of the heads of requests, for as long as it is polled.
pub async fn serve<F, A>(listener: TcpListener, answer: F)
where
    F: Fn(Vec<u8>) -> A + Send + Sync + 'static,
    A: Future<Output = Vec<u8>> + Send + 'static,
{
    let (answer, places) = (Arc::new(answer), Arc::new(Semaphore::new(VISITORS_MAX)));
    let mut visits = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((visitor, _)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                    let answer = Arc::clone(&answer);
                    visits.spawn(async move {
                        let _ = timeout(VISIT_MAX, visit(visitor, answer)).await;
                        drop(place);
                    });
                }
                // Out of descriptors: those that leave make room.
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(_) = visits.join_next() => {}
        }
    }
}

async fn visit<F, A>(mut visitor: TcpStream, answer: Arc<F>) -> std::io::Result<()>
where
    F: Fn(Vec<u8>) -> A,
    A: Future<Output = Vec<u8>>,
{
    let mut head = Vec::new();
    while !is_whole(&head) && head.len() < HEAD_MAX_BYTES {
        if visitor.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    head.truncate(HEAD_MAX_BYTES);
    visitor.write_all(&answer(head).await).await?;
    visitor.shutdown().await
}
