//! Opens the connection to a volunteer. The one place where encryption will sit.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::common::protocol::link::DEFAULT_PORT;

/// Where a volunteer listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// A host name or an IP address, without brackets.
    pub name: String,
    /// The TCP port.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if self.name.contains(':') { format!("[{}]", self.name) } else { self.name.clone() };
        match self.port {
            DEFAULT_PORT => f.write_str(&name),
            port => write!(f, "{name}:{port}"),
        }
    }
}

/// A byte stream to a volunteer.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to a volunteer; the caller bounds the wait.
///
/// # Errors
///
/// Returns what name resolution or the last of the addresses gave.
pub async fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((address.name.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}
