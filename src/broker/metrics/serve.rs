//! The port at which a broker's figures can be had, where it was asked for (`DISTCC_METRICS`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::render;
use crate::broker::Shared;
use crate::broker::dispatch::Message;
use crate::broker::visitors;
use crate::common::http::answer_metrics;

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
    visitors::serve(listener, move |head| {
        let shared = Arc::clone(&shared);
        async move {
            let (reply, report) = oneshot::channel();
            // A dispatcher that is gone leaves an empty report.
            let _ = shared.inbox.send(Message::Status(reply)).await;
            let report = report.await.unwrap_or_default();
            answer_metrics(&head, || render(&report))
        }
    })
    .await;
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
