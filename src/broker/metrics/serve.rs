//! The port at which a broker's figures can be had, where it was asked for (`DISTCC_METRICS`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::render;
use crate::broker::Shared;
use crate::broker::dispatch::Message;
use crate::common::http::{HEAD_MAX_BYTES, answer_metrics, is_whole};

/// How long a visitor may take.
const VISIT_MAX: Duration = Duration::from_secs(5);

/// Visitors at a time.
const VISITORS_MAX: usize = 8;

/// Reads `DISTCC_METRICS`: a port, which means one of loopback, or an address with its port.
///
/// # Errors
///
/// Returns what is wrong with it.
pub fn read(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "" | "0" | "off" => Ok(None),
        port if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = port.parse().map_err(|_| format!("DISTCC_METRICS={text}: no such port"))?;
            Ok(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)))
        }
        address => address
            .parse()
            .map(Some)
            .map_err(|_| format!("DISTCC_METRICS={text} is neither a port nor ADDRESS:PORT")),
    }
}

/// Opens the port, if one was asked for (`DISTCC_METRICS`). A broker that cannot have it works without.
pub async fn listen(wanted: &str) -> Option<TcpListener> {
    let address = match read(wanted) {
        Ok(address) => address?,
        Err(error) => {
            tracing::warn!("{error}; no metrics");
            return None;
        }
    };
    match TcpListener::bind(address).await {
        Ok(listener) => {
            tracing::info!("metrics on http://{address}/metrics");
            Some(listener)
        }
        Err(error) => {
            tracing::warn!(%address, %error, "no metrics");
            None
        }
    }
}

/// Serves figures for as long as it is polled; for ever where there is no port.
pub async fn serve(listener: Option<TcpListener>, shared: Arc<Shared>) {
    let Some(listener) = listener else { return std::future::pending().await };
    let places = Arc::new(Semaphore::new(VISITORS_MAX));
    let mut visits = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((visitor, _)) => {
                    if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                        let shared = Arc::clone(&shared);
                        visits.spawn(async move {
                            // One that takes too long gets nothing more.
                            let _ = timeout(VISIT_MAX, visit(visitor, &shared)).await;
                            drop(place);
                        });
                    }
                }
                // Out of descriptors: those that leave make room.
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            },
            Some(_) = visits.join_next() => {}
        }
    }
}

async fn visit(mut visitor: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !is_whole(&head) && head.len() < HEAD_MAX_BYTES {
        if visitor.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let (reply, report) = oneshot::channel();
    // A dispatcher that is gone leaves an empty report.
    let _ = shared.inbox.send(Message::Status(reply)).await;
    let report = report.await.unwrap_or_default();
    visitor.write_all(&answer_metrics(&head, || render(&report))).await?;
    visitor.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_loopback() {
        let check = |text: &str, expected: &str| {
            let shown = match read(text) {
                Ok(address) => address.map_or("off".to_owned(), |address| address.to_string()),
                Err(_) => "wrong".to_owned(),
            };
            assert_eq!(shown, expected, "{text}");
        };
        check("", "off");
        check("0", "off");
        check("9101", "127.0.0.1:9101");
        check("192.168.7.1:9101", "192.168.7.1:9101");
        check("[::1]:9101", "[::1]:9101");
        check("99999", "wrong");
        check("everywhere", "wrong");
    }
}
