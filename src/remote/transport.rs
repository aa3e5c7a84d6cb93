//! What a connection is made of: plain TCP. The place where TLS will sit.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Makes a byte stream of a connection that was just accepted.
///
/// # Errors
///
/// Returns what the socket returns.
pub async fn accept(stream: TcpStream) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
    // Small answers must not wait for large ones to fill a packet.
    stream.set_nodelay(true)?;
    Ok(stream)
}
