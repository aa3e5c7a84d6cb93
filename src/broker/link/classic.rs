//! Attempts on volunteers that speak the classic protocol: one connection for each job.
//!
//! Such a daemon is told a compiler's name, not what it is, and answers trouble of any kind by
//! closing the connection. So what it sends is looked at: an object says which compiler made it
//! ([`foreign_maker`]), and another one's is not used.
//!
//! The sending side of the connection stays open until the answer is whole: a daemon of distcc 3.4
//! takes even a half-closed connection for a client that has gone, and kills the compiler.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

mod dependencies;
mod request;

pub use self::dependencies::Columns;
use super::traffic::{Traffic, Way};
use super::transport::{CONNECT_TIMEOUT, Carrier, ConnectError, Farewell, Route, Stream};
use super::{Answer, Author, Order, TextAnswer, Times};
use crate::broker::scheduler::api::Failure;
use crate::broker::sets::FileSet;
use crate::common::action::Ended;
use crate::common::bytes::Bytes;
use crate::common::exit;
use crate::common::limits::{MESSAGES_MAX_BYTES, OUTPUT_MAX_BYTES};
use crate::common::protocol::classic::{HEADER_LEN, Reply, Response, ResponseOrder, Version, lzo};
use crate::common::protocol::link::{JobResult, Packing, Part};
use crate::common::toolchain::Digest;

/// What is in the name of the folder in which a daemon of distcc 3.4 lays out a file set.
const FOLDER: &[u8] = b"/distccd_";

/// Larger texts are compressed off the event loop.
const INLINE_MAX_BYTES: usize = 1 << 20;

/// How a volunteer of the classic protocol is asked.
#[derive(Clone, Debug)]
pub struct ClassicHandle {
    route: Arc<Route>,
    lost: mpsc::Sender<String>,
    traffic: Arc<Traffic>,
}

/// What an exchange took.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    times: Times,
    /// Bytes of the response, as they travelled.
    received: u64,
}

/// What the classic protocol needs of a job besides its action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicOrder {
    /// The compiler, as the daemon is to know it.
    pub compiler: Bytes,
    /// Arguments that the daemon's compiler needs to be like ours, behind all others.
    pub more: Vec<Bytes>,
    /// What the daemon sees of the source's name; its ending is put behind it.
    pub stem: Bytes,
    /// What objects of this compiler say of their maker; empty when that is not known.
    pub maker: Bytes,
    /// How the text travels.
    pub version: Version,
    /// In version 3, what travels in place of a text.
    pub set: Option<Arc<FileSet>>,
    /// How this compiler breaks the lines of a dependency file.
    pub columns: Columns,
    /// How long the connection may be silent (`DISTCC_IO_TIMEOUT`), the compile included.
    pub silence_max: Duration,
}

impl ClassicHandle {
    /// A handle, and where it is told that the volunteer cannot be reached any more.
    pub fn new(route: Arc<Route>, traffic: Arc<Traffic>) -> (Self, mpsc::Receiver<String>) {
        let (lost, receiver) = mpsc::channel(1);
        (ClassicHandle { route, lost, traffic }, receiver)
    }

    /// Who is at the other end: nobody proves anything in this protocol.
    pub fn author(&self) -> Author {
        Author(self.route.address.to_string().into())
    }

    /// Runs one attempt to its end. Dropping the future cancels it: the connection closes, and the
    /// daemon kills the compiler.
    ///
    /// # Errors
    ///
    /// Returns the [`Failure`] that the scheduler must know of.
    pub async fn attempt(&self, order: Order, classic: ClassicOrder) -> Result<Answer, Failure> {
        let deadline = order.deadline;
        let work = async {
            let request = request::encode(&order, &classic).await?;
            let connection = self.route.connect_classic().await.map_err(|error| match error {
                ConnectError::Timeout => {
                    self.unreachable(format!("cannot be reached for {}s", CONNECT_TIMEOUT.as_secs()))
                }
                ConnectError::Io(error) | ConnectError::Absent(error) => {
                    self.unreachable(format!("cannot be reached: {error}"))
                }
                error @ ConnectError::Unresolved => self.unreachable(error.to_string()),
                ConnectError::Distrust(why) => self.unreachable(why.to_string()),
            })?;
            let mut stream = connection.stream;
            let answered = exchange(&mut stream, &request, &classic).await;
            drop(stream);
            match answered {
                Ok((response, took)) => {
                    self.count(&request, &order, &response, took);
                    answer(&response, took.times, &order, &classic).map(Answer::Text)
                }
                Err(error) => Err(self.explain(&error, connection.carrier, &classic).await),
            }
        };
        timeout(deadline, work).await.unwrap_or(Err(Failure::Deadline))
    }

    /// A set of files is counted as it travels: it is kept packed, and nobody unpacks it here.
    fn count(&self, request: &[u8], order: &Order, response: &Response, took: Took) {
        let sent = request.len() as u64;
        let plain = order.input.blob.size;
        self.traffic.wire(Way::Out, request.len());
        self.traffic.contents(Way::Out, sent, if plain > 0 { plain } else { sent });
        let parts = [&response.stdout, &response.stderr, &response.object];
        let plain = parts.iter().map(|part| part.len() as u64).sum();
        self.traffic.wire(Way::Back, usize::try_from(took.received).unwrap_or(usize::MAX));
        self.traffic.contents(Way::Back, took.received, plain);
    }

    /// The host as such is lost, not only this job.
    fn unreachable(&self, why: String) -> Failure {
        // A second loss before the first was heard of tells nothing new.
        let _ = self.lost.try_send(why.clone());
        Failure::Host { why }
    }

    async fn explain(&self, error: &io::Error, carrier: Option<Carrier>, order: &ClassicOrder) -> Failure {
        let farewell = match carrier {
            Some(carrier) => carrier.farewell().await,
            None => Farewell::Ended,
        };
        match farewell {
            Farewell::Unreachable(words) => self.unreachable(format!("cannot be reached by ssh: {words}")),
            Farewell::NoDaemon(words) => {
                self.unreachable(format!("has no distccd that ssh could run: {words}"))
            }
            Farewell::Ended => Failure::Host { why: in_words(error, order) },
        }
    }
}

fn in_words(error: &io::Error, order: &ClassicOrder) -> String {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, InvalidData, TimedOut, UnexpectedEof};
    match error.kind() {
        BrokenPipe | ConnectionReset | UnexpectedEof => format!(
            "closed the connection without an answer (does it allow this machine, and the compiler {}?)",
            order.compiler
        ),
        TimedOut => format!("sent nothing for {}s", order.silence_max.as_secs()),
        InvalidData => format!("broke the protocol: {error}"),
        _ => format!("was lost: {error}"),
    }
}

/// Sends a request and takes the whole response.
async fn exchange(
    stream: &mut Box<dyn Stream>,
    request: &[u8],
    order: &ClassicOrder,
) -> io::Result<(Response, Took)> {
    let (started, mut rest) = (Instant::now(), request);
    while !rest.is_empty() {
        let written = bounded(order.silence_max, stream.write(rest)).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = &rest[written..];
    }
    bounded(order.silence_max, stream.flush()).await?;
    let begun = Instant::now();
    let mut grammar = ResponseOrder::new(order.version);
    let (mut response, mut took) = (Response::default(), Took::default());
    took.times.upload = begun.duration_since(started);
    while !grammar.is_complete() {
        let mut header = [0; HEADER_LEN];
        read_exactly(stream, &mut header, order.silence_max).await?;
        let reply = grammar.accept(&header).map_err(invalid)?;
        took.received += HEADER_LEN as u64 + reply.length();
        match reply {
            Reply::Done => took.times.compile = begun.elapsed(),
            Reply::Status(status) => response.status = status,
            Reply::Stderr(length) => {
                response.stderr = text(stream, length, MESSAGES_MAX_BYTES, order).await?;
            }
            Reply::Stdout(length) => {
                response.stdout = text(stream, length, MESSAGES_MAX_BYTES, order).await?;
            }
            Reply::Object(length) => response.object = text(stream, length, OUTPUT_MAX_BYTES, order).await?,
            Reply::Dependencies(length) => {
                response.dependencies = Some(text(stream, length, MESSAGES_MAX_BYTES, order).await?);
            }
        }
    }
    took.times.download = begun.elapsed().saturating_sub(took.times.compile);
    Ok((response, took))
}

async fn bounded<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, work).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn read_exactly(
    stream: &mut Box<dyn Stream>,
    mut into: &mut [u8],
    patience: Duration,
) -> io::Result<()> {
    while !into.is_empty() {
        match bounded(patience, stream.read(into)).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => into = &mut into[read..],
        }
    }
    Ok(())
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A body of `length` bytes, which memory is taken for as it comes, unpacked to `max` at most.
async fn text(
    stream: &mut Box<dyn Stream>,
    length: u32,
    max: u64,
    order: &ClassicOrder,
) -> io::Result<Vec<u8>> {
    const STEP: usize = 64 << 10;
    let length = length as usize;
    let mut body = Vec::new();
    while body.len() < length {
        let begin = body.len();
        body.resize(length.min(begin + STEP.max(begin)), 0);
        read_exactly(stream, &mut body[begin..], order.silence_max).await?;
    }
    match order.version.is_compressed() {
        true => lzo::decompress(&body, max as usize).map_err(invalid),
        false => Ok(body),
    }
}

/// What a response means: an answer of the compiler, or a failure of the daemon.
fn answer(
    response: &Response,
    times: Times,
    order: &Order,
    classic: &ClassicOrder,
) -> Result<TextAnswer, Failure> {
    let ended = match (response.status & 0x7f, (response.status >> 8 & 0xff) as i32) {
        (0, code) => Ended::Exited(code),
        (signal, _) => Ended::Killed(signal as i32),
    };
    if let Ended::Exited(code) = ended {
        daemon_failure(code, response, classic).map_or(Ok(()), Err)?;
    }
    if let Some(maker) = foreign_maker(&response.object, &classic.maker) {
        let why = format!("its {} is another compiler: {maker}", classic.compiler);
        return Err(Failure::NoToolchain { why });
    }
    if classic.version == Version::V3 && memmem::find(&response.object, FOLDER).is_some() {
        return Err(Failure::Refused { why: "the object names a folder of the volunteer".to_owned() });
    }
    let parts = [&response.stdout, &response.stderr, &response.object];
    let part = |bytes: &Vec<u8>| {
        let size = bytes.len() as u64;
        Part { packing: Packing::Plain, digest: Digest::of(bytes), size, packed: size }
    };
    let dependencies = response.dependencies.as_ref().map(|text| dependencies::rewrap(text, classic.columns));
    let outputs = if ended.is_success() { order.action.outputs.len() } else { 0 };
    let result = JobResult {
        job: 0,
        ended,
        stdout: part(&response.stdout),
        stderr: part(&response.stderr),
        outputs: (0..outputs).map(|_| part(&response.object)).collect(),
        wall_us: u64::try_from(times.compile.as_micros()).unwrap_or(u64::MAX),
        cpu_us: 0,
    };
    let packed = parts.map(Vec::as_slice).concat();
    Ok(TextAnswer { result, packed, dependencies, times })
}

/// Statuses that are the daemon's own, not a compiler's: gcc and clang exit with less than 100.
fn daemon_failure(code: i32, response: &Response, order: &ClassicOrder) -> Option<Failure> {
    let said = String::from_utf8_lossy(&response.stderr);
    let line: String = said.lines().next().unwrap_or_default().chars().take(200).collect();
    match code {
        exit::NO_COMPILER => {
            Some(Failure::NoToolchain { why: format!("has no compiler called {}", order.compiler) })
        }
        exit::TIMEOUT => Some(Failure::Deadline),
        exit::FAILED..=exit::LAST => {
            Some(Failure::Host { why: format!("failed with status {code}: {line}") })
        }
        _ => None,
    }
}

/// What the object says of its maker, when that is another compiler than `maker`.
///
/// gcc and clang note themselves in every object (`.ident`, which the assembler puts into
/// `.comment`), unless they are told not to. One that says nothing proves nothing.
fn foreign_maker(object: &[u8], maker: &[u8]) -> Option<String> {
    if maker.is_empty() || memmem::find(object, maker).is_some() {
        return None;
    }
    let begin = [&b"GCC: ("[..], b"clang version "].iter().find_map(|mark| memmem::find(object, mark))?;
    let words = object[begin..].iter().take(80).take_while(|byte| matches!(byte, b' '..=b'~'));
    Some(words.map(|&byte| char::from(byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::link::PackedBlob;
    use crate::broker::sets::Entry;
    use crate::common::action::{Action, Blob, OutputName};
    use crate::common::action::{Argument, InputSet};
    use crate::common::toolchain::Toolchain;

    fn order(arguments: &[Argument]) -> Order {
        let toolchain = Toolchain {
            id: Digest::of(b""),
            names: Vec::new(),
            version: String::new(),
            target: String::new(),
            clang: false,
        };
        let blob = Blob { digest: Digest::of(b""), size: 0, packed: 0 };
        let action = Action {
            toolchain,
            arguments: arguments.to_vec(),
            environment: Vec::new(),
            inputs: InputSet::Preprocessed { source: blob, suffix: ".ii".to_owned() },
            outputs: vec![OutputName { suffix: ".o".to_owned() }],
        };
        let input = PackedBlob { blob, bytes: Arc::from([]) };
        Order { action: Box::new(action), input, deadline: Duration::from_secs(1) }
    }

    fn classic(version: Version) -> ClassicOrder {
        ClassicOrder {
            compiler: "g++".into(),
            more: Vec::new(),
            stem: "main".into(),
            maker: "GCC: (Debian 12.2.0-14) 12.2.0".into(),
            version,
            set: None,
            columns: Columns::Gcc,
            silence_max: Duration::from_secs(1),
        }
    }

    fn plain(word: &str) -> Argument {
        Argument::Plain(word.into())
    }

    #[tokio::test]
    async fn a_request_names_one_input_and_one_output_and_no_language() {
        let words =
            [plain("-O2"), plain("-c"), plain("-x"), plain("c++-cpp-output"), Argument::Input, plain("-o")];
        let order = order(&[&words[..], &[Argument::Output(0)]].concat());
        let request = request::encode(&order, &classic(Version::V1)).await.expect("a request");
        let expected = "DIST00000001ARGC00000006ARGV00000003g++ARGV00000003-O2ARGV00000002-c\
                        ARGV00000007main.iiARGV00000002-oARGV00000006main.oDOTI00000000";
        assert_eq!(String::from_utf8_lossy(&request), expected);
    }

    #[tokio::test]
    async fn a_file_set_travels_with_the_command_as_it_was() {
        let entries = vec![
            ("/w/a.c".into(), Entry::File(Arc::from(*b"xyz"))),
            ("/w/l".into(), Entry::Link("../m".into())),
        ];
        let set = FileSet { cwd: "/w".into(), words: vec!["-c".into(), "a.c".into()], entries };
        let classic = ClassicOrder { set: Some(Arc::new(set)), ..classic(Version::V3) };
        let request = request::encode(&order(&[]), &classic).await.expect("a request");
        let expected = "DIST00000003CDIR00000002/wARGC00000003ARGV00000003g++ARGV00000002-cARGV00000003a.c\
                        NFIL00000002NAME00000006/w/a.cFILE00000003xyzNAME00000004/w/lLINK00000004../m";
        assert_eq!(String::from_utf8_lossy(&request), expected);
    }

    #[test]
    fn an_object_of_another_compiler_is_noticed() {
        let maker = b"GCC: (Debian 12.2.0-14) 12.2.0";
        let check = |object: &[u8], expected: Option<&str>| {
            assert_eq!(foreign_maker(object, maker).as_deref(), expected);
        };
        check(b"\x7fELF\0GCC: (Debian 12.2.0-14) 12.2.0\0", None);
        check(b"\x7fELF\0GCC: (Debian 13.1.0-1) 13.1.0\0.text", Some("GCC: (Debian 13.1.0-1) 13.1.0"));
        check(b"\x7fELF\0Debian clang version 14.0.6\0", Some("clang version 14.0.6"));
        check(b"\x7fELF\0.text\0", None);
    }

    #[test]
    fn what_a_status_means_decides_what_is_tried_next() {
        let answer = |status: u32| {
            let response = Response { status, stderr: b"cannot\nmore".to_vec(), ..Response::default() };
            answer(&response, Times::default(), &order(&[]), &classic(Version::V1))
        };
        assert_eq!(answer(0x100).expect("an answer").result.ended, Ended::Exited(1));
        assert_eq!(answer(0x0b).expect("an answer").result.ended, Ended::Killed(11));
        let why = "has no compiler called g++".to_owned();
        assert_eq!(answer(0x6e00).expect_err("no compiler"), Failure::NoToolchain { why });
        assert_eq!(answer(0x7600).expect_err("too long"), Failure::Deadline);
        let why = "failed with status 107: cannot".to_owned();
        assert_eq!(answer(0x6b00).expect_err("broken"), Failure::Host { why });
    }

    #[tokio::test]
    async fn a_response_is_read_whole_and_the_sending_side_stays_open() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let mut stream: Box<dyn Stream> = Box::new(ours);
        let response = Response { object: vec![7; 100_000], stdout: b"x".to_vec(), ..Response::default() };
        let bytes = response.encode(Version::V2);
        let answer = async {
            let mut request = [0; 5];
            theirs.read_exact(&mut request).await.expect("the request");
            theirs.write_all(&bytes).await.expect("room");
            assert_eq!(&request, b"hello");
            theirs
        };
        let order = classic(Version::V2);
        let (read, mut theirs) = tokio::join!(exchange(&mut stream, b"hello", &order), answer);
        assert_eq!(read.expect("a response").0, response);
        let more = timeout(Duration::from_millis(1), theirs.read_u8()).await;
        assert!(more.is_err(), "neither closed nor more than the request");
    }

    #[tokio::test]
    async fn a_daemon_that_closes_or_is_silent_is_said_to() {
        let (ours, theirs) = tokio::io::duplex(100);
        let mut stream: Box<dyn Stream> = Box::new(ours);
        drop(theirs);
        let order = classic(Version::V1);
        let error = exchange(&mut stream, b"hello", &order).await.expect_err("closed");
        assert!(in_words(&error, &order).starts_with("closed the connection without an answer"));
        let (ours, _theirs) = tokio::io::duplex(100);
        let mut stream: Box<dyn Stream> = Box::new(ours);
        let order = ClassicOrder { silence_max: Duration::from_millis(1), ..order };
        let error = exchange(&mut stream, b"hello", &order).await.expect_err("silent");
        assert!(in_words(&error, &order).starts_with("sent nothing"));
    }
}
