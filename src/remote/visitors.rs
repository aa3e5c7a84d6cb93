//! Those who come for a page: of figures, of metrics, of the owner's. One request and one answer each.
//!
//! Few are here at a time, and none for long: whoever comes when all places are taken is closed, and whoever
//! takes too long gets nothing more. The page is a function of what was asked, and may block.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::access::Access;
use crate::common::http::{HEAD_MAX_BYTES, is_whole};

/// How long a visitor may take.
const VISIT_MAX: Duration = Duration::from_secs(2);

/// Visitors of one page at a time.
const VISITORS_MAX: usize = 8;

/// How long the door stays shut when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves a page to visitors, to allowed ones if `access` says whom.
pub async fn serve<P>(listener: TcpListener, access: Option<Arc<Access>>, page: P)
where
    P: Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
{
    let is_allowed = |address: SocketAddr| access.as_ref().is_none_or(|access| access.allows(address.ip()));
    let (page, places) = (Arc::new(page), Arc::new(Semaphore::new(VISITORS_MAX)));
    let mut visits = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = visits.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((visitor, address)) if is_allowed(address) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                    let page = Arc::clone(&page);
                    visits.spawn(async move {
                        let _ = timeout(VISIT_MAX, visit(visitor, page)).await;
                        drop(place);
                    });
                }
                Ok((_, peer)) => {
                    tracing::warn!(%peer, "refused: the address is not allowed to see the page of figures");
                }
                Err(error) => {
                    tracing::warn!(%error, "a page: cannot accept for a moment");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn visit<P>(mut visitor: TcpStream, page: Arc<P>) -> std::io::Result<()>
where
    P: Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
{
    let mut head = Vec::new();
    while !is_whole(&head) && head.len() < HEAD_MAX_BYTES {
        if visitor.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let answer = spawn_blocking(move || page(&head)).await.map_err(std::io::Error::other)?;
    visitor.write_all(&answer).await?;
    visitor.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    async fn read_all(visitor: &mut TcpStream) -> String {
        let mut text = String::new();
        // A connection that is closed on us has nothing to say.
        let _ = visitor.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn those_who_dawdle_keep_nobody_else_from_the_page_for_long() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let _served = tokio::spawn(serve(listener, None, |head: &[u8]| head.to_vec()));
        let dawdler = || async move { TcpStream::connect(address).await.expect("the port is open") };
        let mut idle = Vec::new();
        for _ in 0..VISITORS_MAX - 1 {
            idle.push(dawdler().await);
        }
        let mut quick = dawdler().await;
        quick.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("a request");
        assert_eq!(read_all(&mut quick).await, "GET / HTTP/1.0\r\n\r\n");
        // Their time is over, and so is their connection; nobody was answered.
        for mut idle in idle {
            assert_eq!(read_all(&mut idle).await, "");
        }
        let mut late = dawdler().await;
        late.write_all(b"GET /late HTTP/1.0\r\n\r\n").await.expect("a request");
        assert_eq!(read_all(&mut late).await, "GET /late HTTP/1.0\r\n\r\n");
    }

    #[tokio::test]
    async fn a_head_is_read_up_to_its_bound() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let _served = tokio::spawn(serve(listener, None, |head: &[u8]| head.len().to_string().into_bytes()));
        let mut visitor = TcpStream::connect(address).await.expect("the port is open");
        visitor.write_all(&[b'x'; HEAD_MAX_BYTES]).await.expect("a request");
        let read: usize = read_all(&mut visitor).await.parse().expect("a number");
        assert!((HEAD_MAX_BYTES..=2 * HEAD_MAX_BYTES).contains(&read), "{read}");
    }
}
