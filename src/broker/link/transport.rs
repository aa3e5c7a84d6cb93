//! Opens connections to volunteers: over TLS, over ssh, or, for jobs of the classic protocol, as they are.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Join, ReadBuf, join};
use tokio::net::{TcpStream, lookup_host};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};

use crate::broker::trust::{Distrust, Secured, Trust};
use crate::common::bytes::Bytes;
use crate::common::hosts::{Host, Transport};
use crate::common::protocol::link::DEFAULT_PORT;
use crate::common::trust::key::PublicKey;

/// How long a connect may take, name resolution included; as in distcc 3.4.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// What runs on the other side of ssh when the host list does not say.
const DAEMON: &str = "distccd";

/// What of ssh's last words is kept.
const LAST_WORDS_MAX_BYTES: u64 = 4 << 10;

/// How long ssh may take to end once its pipe has closed.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Where a volunteer is found, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// It listens on a port.
    Tcp {
        /// A host name or an IP address, without brackets.
        name: String,
        /// The port.
        port: u16,
    },
    /// A daemon is run there through ssh.
    Ssh {
        /// ssh itself and words that are to follow it (`DISTCC_SSH`).
        shell: Vec<Bytes>,
        /// Who to be there.
        user: Option<Bytes>,
        /// A host name or an IP address, without brackets.
        name: String,
        /// The daemon there.
        daemon: Option<Bytes>,
    },
}

impl Address {
    /// Where a host of a list is; `shell` is ssh and words for it, which its name does not show.
    pub fn of(host: &Host, shell: &[Bytes]) -> Self {
        let name = host.name.clone();
        match &host.transport {
            Transport::Tcp => Address::Tcp { name, port: host.port },
            Transport::Ssh { user, command } => {
                Address::Ssh { shell: shell.to_vec(), user: user.clone(), name, daemon: command.clone() }
            }
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bracketed = |name: &str| if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
        match self {
            Address::Tcp { name, port: DEFAULT_PORT } => f.write_str(&bracketed(name)),
            Address::Tcp { name, port } => write!(f, "{}:{port}", bracketed(name)),
            Address::Ssh { user, name, .. } => {
                write!(f, "{}@{}", user.as_ref().map(Bytes::to_text).unwrap_or_default(), bracketed(name))
            }
        }
    }
}

/// What a connection is opened for; over ssh the daemon must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A native link.
    Link,
    /// One job of the classic protocol.
    Job,
}

/// An address, with what reaching it takes.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where to.
    pub address: Address,
    /// The environment that ssh gets: that of a build which listed the host.
    pub environment: Arc<[Bytes]>,
}

/// A byte stream to a volunteer.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection.
pub struct Connection {
    /// The bytes.
    pub stream: Box<dyn Stream>,
    /// The ssh that carries them.
    pub carrier: Option<Carrier>,
    /// The key that the other side has proved.
    pub key: Option<PublicKey>,
    /// What to say before the protocol's own opening.
    pub opening: Vec<u8>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The system, or what knows names.
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    /// Nobody is at its address, or no way leads there.
    #[error("cannot connect: {0}")]
    Absent(io::Error),
    /// Nobody answered.
    #[error("no answer to the connection for {}s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// What knows names did not answer.
    #[error("cannot connect: its name has no address yet after {}s", CONNECT_TIMEOUT.as_secs())]
    Unresolved,
    /// Whoever answered is not to be trusted.
    #[error(transparent)]
    Distrust(#[from] Distrust),
}

impl ConnectError {
    /// Whether nobody answered at an address that is known. What is stopped takes connections, too.
    pub fn nobody_home(&self) -> bool {
        matches!(
            self,
            ConnectError::Absent(_) | ConnectError::Timeout | ConnectError::Distrust(Distrust::Mute)
        )
    }
}

/// An ssh. It dies with this.
pub struct Carrier {
    child: Child,
    errors: ChildStderr,
}

/// How an ssh ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It could not reach the host, or not log in there.
    Unreachable(String),
    /// There is no such daemon there.
    NoDaemon(String),
    /// The daemon ran, and ended.
    Ended,
}

impl Carrier {
    /// Waits, not for long, until ssh ends, and tells what it means (ssh(1), "EXIT STATUS": 255 is
    /// its own; sh(1): 126 and 127 are those of a command that cannot be run).
    pub async fn farewell(mut self) -> Farewell {
        let mut words = Vec::new();
        let ended = timeout(FAREWELL_TIMEOUT, async {
            let mut errors = self.errors.take(LAST_WORDS_MAX_BYTES);
            let _ = errors.read_to_end(&mut words).await;
            self.child.wait().await
        });
        let code = ended.await.ok().and_then(Result::ok).and_then(|status| status.code());
        let text = String::from_utf8_lossy(&words);
        let line: String = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").to_owned();
        match code {
            Some(255) => Farewell::Unreachable(line),
            Some(126 | 127) => Farewell::NoDaemon(line),
            _ => Farewell::Ended,
        }
    }
}

impl Route {
    /// Connects for a link: no byte of ours is in the clear.
    ///
    /// # Errors
    ///
    /// Returns what name resolution, the last of the addresses, or starting ssh gave; or that whoever
    /// answers is not known.
    pub async fn connect(&self, trust: &Trust) -> Result<Connection, ConnectError> {
        let Address::Tcp { name, port } = &self.address else { return Ok(self.carry(Purpose::Link)?) };
        let stream = dial(name, *port).await?;
        let Secured { stream, key, opening } = trust.secure(stream, &self.address.to_string()).await?;
        Ok(Connection { stream: Box::new(stream), carrier: None, key: Some(key), opening })
    }

    /// Connects for one job of the classic protocol.
    ///
    /// # Errors
    ///
    /// Returns what name resolution, the last of the addresses, or starting ssh gave.
    pub async fn connect_classic(&self) -> Result<Connection, ConnectError> {
        let Address::Tcp { name, port } = &self.address else { return Ok(self.carry(Purpose::Job)?) };
        let stream = Box::new(dial(name, *port).await?);
        Ok(Connection { stream, carrier: None, key: None, opening: Vec::new() })
    }

    /// Starts ssh, which has no terminal to ask questions on: keys must do.
    fn carry(&self, purpose: Purpose) -> io::Result<Connection> {
        let words = ssh_words(&self.address, purpose);
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program.as_os_str());
        command.args(arguments.iter().map(Bytes::as_os_str)).env_clear().envs(pairs(&self.environment));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.current_dir("/").process_group(0).kill_on_drop(true).spawn()?;
        let taken = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(errors)) = taken else {
            return Err(io::ErrorKind::Other.into());
        };
        let stream = Box::new(Pipes(join(stdout, stdin)));
        Ok(Connection { stream, carrier: Some(Carrier { child, errors }), key: None, opening: Vec::new() })
    }
}

async fn dial(name: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let addresses = timeout_at(deadline, lookup_host((name, port))).await;
    let addresses: Vec<SocketAddr> = addresses.map_err(|_| ConnectError::Unresolved)??.collect();
    let connected = timeout_at(deadline, TcpStream::connect(&addresses[..])).await;
    let stream = connected.map_err(|_| ConnectError::Timeout)?.map_err(ConnectError::Absent)?;
    stream.set_nodelay(true)?;
    keep_little_unsent(&stream);
    Ok(stream)
}

/// The command that runs a daemon on an ssh host, as distcc 3.4 makes it. The daemon serves one
/// job on its stdin and stdout, or, asked for a link, goes on until that closes.
fn ssh_words(address: &Address, purpose: Purpose) -> Vec<Bytes> {
    let Address::Ssh { shell, user, name, daemon } = address else { return Vec::new() };
    let mut words = shell.clone();
    if let Some(user) = user {
        words.extend([Bytes::from("-l"), user.clone()]);
    }
    words.push(Bytes::from(name.as_str()));
    words.push(daemon.clone().unwrap_or_else(|| DAEMON.into()));
    match purpose {
        Purpose::Link => words.push("--stdio".into()),
        Purpose::Job => words.extend(["--inetd", "--enable-tcp-insecure"].map(Bytes::from)),
    }
    words
}

fn pairs(environment: &[Bytes]) -> impl Iterator<Item = (&std::ffi::OsStr, &std::ffi::OsStr)> {
    use std::os::unix::ffi::OsStrExt;
    environment.iter().filter_map(|entry| {
        let equals = entry.iter().skip(1).position(|&byte| byte == b'=')? + 1;
        let text = std::ffi::OsStr::from_bytes;
        Some((text(&entry[..equals]), text(&entry[equals + 1..])))
    })
}

/// A child's two pipes as one stream.
struct Pipes(Join<ChildStdout, ChildStdin>);

impl AsyncRead for Pipes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pipes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Bytes that the kernel takes for a connection beyond what is on its way (tcp(7), "TCP_NOTSENT_LOWAT"):
/// what waits there cannot be overtaken, and on a thin line would keep a small message waiting for
/// seconds behind a compiler that is being sent.
const UNSENT_MAX_BYTES: libc::c_int = 128 << 10;

#[allow(unsafe_code, reason = "no safe wrapper has this option")]
fn keep_little_unsent(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let most = UNSENT_MAX_BYTES;
    let length = size_of_val(&most) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `stream` lives, and the value is an integer of the
    // length given. A kernel that refuses leaves things as they are.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const most).cast(),
            length,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh(user: Option<&str>, daemon: Option<&str>) -> Address {
        let shell = ["ssh", "-p", "2222"].map(Bytes::from).to_vec();
        Address::Ssh {
            shell,
            user: user.map(Bytes::from),
            name: "build7".to_owned(),
            daemon: daemon.map(Bytes::from),
        }
    }

    fn check(address: &Address, purpose: Purpose, expected: &str) {
        let words: Vec<String> = ssh_words(address, purpose).iter().map(Bytes::to_text).collect();
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn ssh_is_told_what_stock_tells_it() {
        check(&ssh(None, None), Purpose::Job, "ssh -p 2222 build7 distccd --inetd --enable-tcp-insecure");
        check(
            &ssh(Some("me"), Some("/opt/distccd")),
            Purpose::Link,
            "ssh -p 2222 -l me build7 /opt/distccd --stdio",
        );
    }

    #[test]
    fn addresses_read_as_in_a_host_list() {
        assert_eq!(ssh(Some("me"), None).to_string(), "me@build7");
        assert_eq!(ssh(None, None).to_string(), "@build7");
        let tcp = |name: &str, port| Address::Tcp { name: name.to_owned(), port }.to_string();
        assert_eq!(tcp("build7", DEFAULT_PORT), "build7");
        assert_eq!(tcp("::1", 4000), "[::1]:4000");
    }
}
