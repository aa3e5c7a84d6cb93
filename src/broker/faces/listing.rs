//! `lsdistcc`: which volunteers answer, in the form of stock's tool: hosts by name, or names made
//! of a format and a number until there is no such machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::common::protocol::classic::{
    HEADER_LEN, Reply, ResponseOrder, Token, Version, push_header, push_packet, push_text,
};
use crate::common::protocol::link::DEFAULT_PORT;

/// Machines that are asked at the same time.
const TOGETHER_MAX: usize = 64;

/// The usage, which `--help` prints; distcc 3.4 exits with 1 then.
pub const USAGE: &str = "Usage: lsdistcc [OPTIONS] [FORMAT | HOST…]\n\
Prints those volunteers that answer. Exits with 0 if any of the names exists, else with 1. FORMAT has a %d in it, for 1, 2, …\n\
up to the first name that does not exist; without any word it is distcc%d.\n\
  -l      print the time that connecting took, in ms      -n      print addresses, not names\n\
  -x      print those that do not answer, with ,down      -v      say what happens\n\
  -tS     end after S seconds [7]                         -cMS    give up connecting after MS ms [900]\n\
  -kMS    give up compiling after MS ms [1500]            -gN     tolerate N names that do not exist [0]\n\
  -rPORT  the port [3632]                                 -P1…3   the protocol, printed as ,lzo ,cpp [1]\n\
  -pCC    compile something with compiler CC; its status must be 0\n\
  -hMS -oN -d -mBITS are of no use here: names are resolved as the system does, at the same time.\n";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    latency: bool,
    addresses: bool,
    down: bool,
    verbose: bool,
    total: Duration,
    connect: Duration,
    compile: Duration,
    gaps: usize,
    port: u16,
    version: Version,
    compiler: Option<String>,
    words: Vec<String>,
}

/// Reads the words.
///
/// # Errors
///
/// Returns what is wrong with them; nothing when the usage was asked for.
pub fn read(words: &[String]) -> Result<Request, String> {
    let mut request = Request {
        latency: false,
        addresses: false,
        down: false,
        verbose: false,
        total: Duration::from_secs(7),
        connect: Duration::from_millis(900),
        compile: Duration::from_millis(1500),
        gaps: 0,
        port: DEFAULT_PORT,
        version: Version::V1,
        compiler: None,
        words: Vec::new(),
    };
    for word in words {
        let Some(option) = word.strip_prefix('-') else {
            request.words.push(word.clone());
            continue;
        };
        request.option(option).ok_or_else(|| if word == "--help" { String::new() } else { word.clone() })?;
    }
    Ok(request)
}

impl Request {
    fn option(&mut self, option: &str) -> Option<()> {
        let value = option.get(1..)?;
        let number = || value.parse::<u32>().ok();
        let ms = || number().map(|number| Duration::from_millis(number.into()));
        match option.as_bytes().first()? {
            b'l' if value.is_empty() => self.latency = true,
            b'n' if value.is_empty() => self.addresses = true,
            b'x' if value.is_empty() => self.down = true,
            b'v' if value.is_empty() => self.verbose = true,
            b'd' if value.is_empty() => {}
            b'h' | b'o' | b'm' => drop(number()?),
            b't' => self.total = Duration::from_secs(number()?.into()),
            b'c' => self.connect = ms()?,
            b'k' => self.compile = ms()?,
            b'g' => self.gaps = number()? as usize,
            b'r' => self.port = value.parse().ok().filter(|&port| port > 0)?,
            b'P' => {
                self.version = match number()? {
                    1 => Version::V1,
                    2 => Version::V2,
                    3 => Version::V3,
                    _ => return None,
                }
            }
            b'p' if !value.is_empty() => self.compiler = Some(value.to_owned()),
            _ => return None,
        }
        Some(())
    }

    /// The names that are asked about, by number where they come from a format.
    fn format(&self) -> Option<&str> {
        match &self.words[..] {
            [] => Some("distcc%d"),
            [word] if word.contains("%d") => Some(word),
            _ => None,
        }
    }
}

/// Asks, and calls `found` with each line in the order of the hosts; whether any host exists, which
/// is what distcc 3.4 ends with.
pub fn list(request: &Request, mut found: impl FnMut(&str)) -> bool {
    let until = Instant::now() + request.total;
    let mut any = false;
    let mut tell = |hosts: Vec<(String, Option<SocketAddr>)>| {
        for (host, latency) in ask(request, hosts, until) {
            any |= latency != Err(Trouble::NoSuchHost);
            if let Some(line) = line(request, &host, &latency) {
                found(&line);
            }
        }
    };
    let Some(format) = request.format() else {
        for hosts in request.words.chunks(TOGETHER_MAX) {
            tell(hosts.iter().map(|host| (host.clone(), resolve(host, request.port))).collect());
        }
        return any;
    };
    let (mut number, mut missing) = (1, 0);
    while missing <= request.gaps && Instant::now() < until {
        let mut hosts = Vec::new();
        while hosts.len() < TOGETHER_MAX && missing <= request.gaps && Instant::now() < until {
            let host = format.replace("%d", &number.to_string());
            number += 1;
            match resolve(&host, request.port) {
                Some(address) => hosts.push((host, Some(address))),
                None => missing += 1,
            }
        }
        tell(hosts);
    }
    any
}

fn resolve(host: &str, port: u16) -> Option<SocketAddr> {
    (host, port).to_socket_addrs().ok()?.next()
}

type Answer = (String, Result<Duration, Trouble>);

/// Why a host does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Trouble {
    #[error("there is no such host")]
    NoSuchHost,
    #[error("{0}")]
    Silent(String),
}

/// Asks some hosts at the same time.
fn ask(request: &Request, hosts: Vec<(String, Option<SocketAddr>)>, until: Instant) -> Vec<Answer> {
    std::thread::scope(|scope| {
        let asked = hosts.into_iter().map(|(host, address)| {
            scope.spawn(move || {
                let shown = match (request.addresses, address) {
                    (true, Some(address)) => address.ip().to_string(),
                    _ => host,
                };
                let probed = address.ok_or(Trouble::NoSuchHost);
                (shown, probed.and_then(|address| probe(request, address, until).map_err(Trouble::Silent)))
            })
        });
        let asked: Vec<_> = asked.collect();
        asked.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

/// Connects, and compiles something if asked to; how long connecting took.
fn probe(request: &Request, address: SocketAddr, until: Instant) -> Result<Duration, String> {
    let begun = Instant::now();
    if request.connect.is_zero() {
        return Ok(Duration::ZERO);
    }
    let patience = request.connect.min(until.saturating_duration_since(begun));
    if patience.is_zero() {
        return Err("there was no time left".to_owned());
    }
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(|error| error.to_string())?;
    let latency = begun.elapsed();
    if let Some(compiler) = request.compiler.as_ref().filter(|_| !request.compile.is_zero()) {
        compile(&mut stream, compiler, request)?;
    }
    Ok(latency)
}

/// A tiny compile. Its text is sent in version 3, too: file sets tell no more about a compiler.
fn compile(stream: &mut TcpStream, compiler: &str, request: &Request) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    stream.set_read_timeout(Some(request.compile)).map_err(failed)?;
    stream.set_write_timeout(Some(request.compile)).map_err(failed)?;
    let version = request.version.min(Version::V2);
    let mut bytes = Vec::new();
    push_header(&mut bytes, Token::Dist, version as u32);
    let words = [compiler, "-c", "lsdistcc.c", "-o", "lsdistcc.o"];
    push_header(&mut bytes, Token::Argc, words.len() as u32);
    words.iter().for_each(|word| push_packet(&mut bytes, Token::Argv, word.as_bytes()));
    push_text(&mut bytes, version, Token::Doti, b"int lsdistcc;\n");
    stream.write_all(&bytes).map_err(failed)?;
    let mut grammar = ResponseOrder::new(version);
    loop {
        let mut header = [0; HEADER_LEN];
        stream.read_exact(&mut header).map_err(failed)?;
        match grammar.accept(&header).map_err(|error| error.to_string())? {
            Reply::Done => {}
            Reply::Status(0) => return Ok(()),
            Reply::Status(status) => return Err(format!("compiler {compiler} ended with {status:#x}")),
            _ => return Err("no status came".to_owned()),
        }
    }
}

fn line(request: &Request, host: &str, latency: &Result<Duration, Trouble>) -> Option<String> {
    if let (true, Err(why)) = (request.verbose, latency) {
        eprintln!("lsdistcc: {host}: {why}");
    }
    if latency.is_err() && !request.down || *latency == Err(Trouble::NoSuchHost) {
        return None;
    }
    let mut line = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if request.port != DEFAULT_PORT {
        line.push_str(&format!(":{}", request.port));
    }
    line.push_str(match request.version {
        Version::V1 => "",
        Version::V2 => ",lzo",
        Version::V3 => ",lzo,cpp",
    });
    if latency.is_err() {
        line.push_str(",down");
    }
    if request.latency {
        line.push_str(&format!(" {}", latency.as_ref().map_or(0, Duration::as_millis)));
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str) -> Result<Request, String> {
        read(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn values_are_glued_to_their_options() {
        let request = of("-r4000 -t3 -c10 -k20 -P3 -pgcc -l -x -n a b").expect("a request");
        assert_eq!((request.port, request.version, request.words.len()), (4000, Version::V3, 2));
        assert_eq!(request.compiler.as_deref(), Some("gcc"));
        assert_eq!(of("--help"), Err(String::new()));
        for words in ["-r", "-r0", "-P4", "-z", "-p", "-tx"] {
            assert_eq!(of(words), Err(words.to_owned()));
        }
    }

    /// What is printed for these words with that port, and whether any name exists.
    fn lines(port: u16, words: &str) -> (bool, Vec<String>) {
        let mut lines = Vec::new();
        let request = of(&format!("-r{port} {words}")).expect("a request");
        let any = list(&request, |line| lines.push(line.to_owned()));
        (any, lines)
    }

    #[test]
    fn those_that_answer_are_printed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        assert_eq!(lines(port, "127.0.0.1"), (true, vec![format!("127.0.0.1:{port}")]));
        assert!(!lines(port, "-P2 127.0.0.%d -t0").0);
        assert_eq!(lines(port, "127.0.0.1 no.such.host.invalid").1.len(), 1);
    }

    #[test]
    fn those_that_do_not_answer_are_printed_on_request() {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
        // A port that is taken, so that nobody else listens on it meanwhile, and does not listen itself.
        let taken = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = SocketAddr::try_from(getsockname(&taken).expect("an address")).expect("an address");
        let port = address.port();
        assert_eq!(lines(port, "127.0.0.1"), (true, vec![]), "the name exists");
        assert_eq!(lines(port, "no.such.host.invalid"), (false, vec![]));
        let shown = |words: &str| lines(port, words).1;
        assert_eq!(shown("-x 127.0.0.1 no.such.host.invalid"), [format!("127.0.0.1:{port},down")]);
        assert_eq!(shown("-x -l -P2 127.0.0.1"), [format!("127.0.0.1:{port},lzo,down 0")]);
        assert_eq!(shown("-c0 127.0.0.1"), [format!("127.0.0.1:{port}")], "nobody asks whether it answers");
    }
}
