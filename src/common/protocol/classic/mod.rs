//! The classic protocol: distcc's own, versions 1 to 3, as pure encoders and decoders.
//!
//! One job per connection. Each side sends packets: 4 letters that say what it is and 8
//! hexadecimal digits of a number, most often the length of the bytes that follow.
//!
//! ```text
//! client                                     distccd
//!   DIST version
//!   CDIR cwd                (version 3)
//!   ARGC count, ARGV word …
//!   DOTI preprocessed text  (versions 1, 2)
//!   NFIL count, NAME path and FILE contents or LINK target … (version 3)
//!                                              DONE version
//!                                              STAT wait status
//!                                              SERR, SOUT
//!                                              DOTO object
//!                                              DOTD dependencies (version 3, success)
//! ```
//!
//! In versions 2 and 3 texts and files are LZO1X streams ([`lzo`]), names and arguments never are.
//! There is no packet for errors: whoever is displeased closes the connection.
//!
//! [`RequestOrder`] and [`ResponseOrder`] say of each header what follows it, and check every
//! count and length before anything is allocated. They hold no data, so that bodies can stream.

pub mod lzo;
mod order;

pub use order::{Part, Reply, RequestOrder, ResponseOrder};

/// Bytes of a packet's header.
pub const HEADER_LEN: usize = 12;

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Preprocessed text, as it is.
    V1 = 1,
    /// Preprocessed text, compressed.
    V2 = 2,
    /// The source and the files that it includes, compressed.
    V3 = 3,
}

impl Version {
    fn of(number: u32) -> Result<Self, ClassicError> {
        match number {
            1 => Ok(Version::V1),
            2 => Ok(Version::V2),
            3 => Ok(Version::V3),
            other => Err(ClassicError::Version(other)),
        }
    }

    /// Whether texts and files travel as LZO1X streams.
    pub fn is_compressed(self) -> bool {
        self != Version::V1
    }
}

/// Why bytes are not the classic protocol, or more of it than is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassicError {
    /// A version that does not exist.
    #[error("version {0} of the classic protocol does not exist")]
    Version(u32),
    /// Not the packet that must come here.
    #[error("{} where {expected} was to come", .got.escape_ascii())]
    Unexpected {
        /// Its letters.
        got: [u8; 4],
        /// Those that were due.
        expected: &'static str,
    },
    /// Not eight hexadecimal digits.
    #[error("`{}` is not a number of eight hexadecimal digits", .0.escape_ascii())]
    Number([u8; 8]),
    /// More than is taken.
    #[error("{name} {value} is more than the {max} that are taken")]
    TooMuch {
        /// The packet.
        name: &'static str,
        /// What it says.
        value: u64,
        /// The limit.
        max: u64,
    },
    /// A command without any word.
    #[error("a command of no words")]
    NoWords,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// A request begins; its version.
    Dist,
    /// The client's working directory.
    Cdir,
    /// How many words the command has.
    Argc,
    /// One word.
    Argv,
    /// The preprocessed source.
    Doti,
    /// How many files follow.
    Nfil,
    /// The absolute path of a file.
    Name,
    /// A file's contents.
    File,
    /// A symbolic link's target.
    Link,
    /// A response begins; its version.
    Done,
    /// The compiler's wait status.
    Stat,
    /// What it wrote to stderr.
    Serr,
    /// What it wrote to stdout.
    Sout,
    /// The object.
    Doto,
    /// The dependency file.
    Dotd,
}

impl Token {
    /// Its four letters.
    pub fn name(self) -> &'static str {
        match self {
            Token::Dist => "DIST",
            Token::Cdir => "CDIR",
            Token::Argc => "ARGC",
            Token::Argv => "ARGV",
            Token::Doti => "DOTI",
            Token::Nfil => "NFIL",
            Token::Name => "NAME",
            Token::File => "FILE",
            Token::Link => "LINK",
            Token::Done => "DONE",
            Token::Stat => "STAT",
            Token::Serr => "SERR",
            Token::Sout => "SOUT",
            Token::Doto => "DOTO",
            Token::Dotd => "DOTD",
        }
    }
}

/// The letters and the number of a packet.
///
/// # Errors
///
/// Returns [`ClassicError::Number`] for what is not a number. Receivers of distcc 3.4 read it with
/// a general reader of numbers; senders have always written eight digits.
fn split(header: &[u8; HEADER_LEN]) -> Result<([u8; 4], u32), ClassicError> {
    let [a, b, c, d, digits @ ..] = *header;
    let number = digits
        .iter()
        .try_fold(0u32, |sum, &digit| Some(sum << 4 | char::from(digit).to_digit(16)?))
        .ok_or(ClassicError::Number(digits))?;
    Ok(([a, b, c, d], number))
}

/// Appends a packet's header.
pub fn push_header(out: &mut Vec<u8>, token: Token, value: u32) {
    out.extend_from_slice(token.name().as_bytes());
    out.extend_from_slice(format!("{value:08x}").as_bytes());
}

/// Appends a packet with a body, which must be shorter than 4 GiB.
pub fn push_packet(out: &mut Vec<u8>, token: Token, body: &[u8]) {
    // Every body has passed a limit far below this.
    push_header(out, token, u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(body);
}

/// Appends a body that is compressed in the versions that do so.
pub fn push_text(out: &mut Vec<u8>, version: Version, token: Token, body: &[u8]) {
    match version.is_compressed() {
        true => push_packet(out, token, &lzo::compress(body)),
        false => push_packet(out, token, body),
    }
}

/// What a daemon answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// How the compiler ended, as `wait(2)` has it: the exit status times 256, or the signal.
    pub status: u32,
    /// What was written to stderr.
    pub stderr: Vec<u8>,
    /// What was written to stdout.
    pub stdout: Vec<u8>,
    /// The object; empty unless the status is 0.
    pub object: Vec<u8>,
    /// The dependency file, in version 3 when the status is 0.
    pub dependencies: Option<Vec<u8>>,
}

impl Response {
    /// The bytes of a whole response.
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.object.len() + self.stderr.len() + 128);
        push_header(&mut out, Token::Done, version as u32);
        push_header(&mut out, Token::Stat, self.status);
        push_text(&mut out, version, Token::Serr, &self.stderr);
        push_text(&mut out, version, Token::Sout, &self.stdout);
        push_text(&mut out, version, Token::Doto, &self.object);
        if let Some(dependencies) = &self.dependencies {
            push_text(&mut out, version, Token::Dotd, dependencies);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_letters_and_eight_digits() {
        let mut out = Vec::new();
        push_header(&mut out, Token::Dist, 0x1f);
        assert_eq!(out, b"DIST0000001f");
        assert_eq!(split(b"DIST0000001F"), Ok((*b"DIST", 31)));
        assert_eq!(split(b"ARGCffffffff"), Ok((*b"ARGC", u32::MAX)));
        assert_eq!(split(b"ARGC  -1 +2x"), Err(ClassicError::Number(*b"  -1 +2x")));
    }

    #[test]
    fn a_response_has_its_parts_in_order() {
        let response =
            Response { stderr: b"warning".to_vec(), object: b"ELF".to_vec(), ..Response::default() };
        let expected = b"DONE00000001STAT00000000SERR00000007warningSOUT00000000DOTO00000003ELF";
        assert_eq!(response.encode(Version::V1), expected);
    }
}
