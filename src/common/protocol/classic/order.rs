//! Which packet may follow which, and how large it may be.

use super::{ClassicError, HEADER_LEN, Token, Version, split};
use crate::common::limits::{
    CLASSIC_ARGUMENTS_MAX, CLASSIC_ARGUMENTS_MAX_BYTES, CLASSIC_FILES_MAX, CLASSIC_FILES_MAX_BYTES,
    MESSAGES_MAX_BYTES, OUTPUT_MAX_BYTES, PATH_MAX_BYTES, PREPROCESSED_MAX_BYTES,
};

/// What a header of a request announces. Lengths are of the bytes that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The version of request and response.
    Version(Version),
    /// The working directory follows.
    Cwd(u32),
    /// So many words follow.
    ArgumentCount(u32),
    /// A word follows.
    Argument(u32),
    /// The preprocessed source follows, compressed in version 2. It is the last.
    Source(u32),
    /// So many files follow; after none the request is complete.
    FileCount(u32),
    /// A file's path follows.
    Name(u32),
    /// The contents of the file just named follow, compressed.
    File(u32),
    /// The target of the symbolic link just named follows.
    Link(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Version,
    Cwd,
    ArgumentCount,
    Argument { left: u32 },
    Source,
    FileCount,
    Name { left: u32 },
    Contents { left: u32 },
    Nothing,
}

/// The grammar of a request, header by header.
#[derive(Clone, Debug)]
pub struct RequestOrder {
    version: Version,
    due: Due,
    argument_bytes: u64,
    file_bytes: u64,
}

impl Default for RequestOrder {
    fn default() -> Self {
        RequestOrder { version: Version::V1, due: Due::Version, argument_bytes: 0, file_bytes: 0 }
    }
}

impl RequestOrder {
    /// Whether the request has all its parts. The body of the last may still be on its way.
    pub fn is_complete(&self) -> bool {
        self.due == Due::Nothing
    }

    /// What the next header announces.
    ///
    /// # Errors
    ///
    /// Returns [`ClassicError`] for a packet that may not come here, or is more than is taken.
    pub fn accept(&mut self, header: &[u8; HEADER_LEN]) -> Result<Part, ClassicError> {
        let (letters, value) = split(header)?;
        let (part, next) = match self.due {
            Due::Version => {
                expect(letters, &[Token::Dist])?;
                self.version = Version::of(value)?;
                let next = if self.version == Version::V3 { Due::Cwd } else { Due::ArgumentCount };
                (Part::Version(self.version), next)
            }
            Due::Cwd => {
                expect(letters, &[Token::Cdir])?;
                (Part::Cwd(bounded(Token::Cdir, value, PATH_MAX_BYTES)?), Due::ArgumentCount)
            }
            Due::ArgumentCount => {
                expect(letters, &[Token::Argc])?;
                match bounded(Token::Argc, value, CLASSIC_ARGUMENTS_MAX)? {
                    0 => return Err(ClassicError::NoWords),
                    count => (Part::ArgumentCount(count), Due::Argument { left: count }),
                }
            }
            Due::Argument { left } => (self.argument(letters, value)?, self.after_argument(left)),
            Due::Source => {
                expect(letters, &[Token::Doti])?;
                let max = if self.version.is_compressed() {
                    packed_max(PREPROCESSED_MAX_BYTES)
                } else {
                    PREPROCESSED_MAX_BYTES
                };
                (Part::Source(bounded(Token::Doti, value, max)?), Due::Nothing)
            }
            Due::FileCount => {
                expect(letters, &[Token::Nfil])?;
                let count = bounded(Token::Nfil, value, CLASSIC_FILES_MAX)?;
                (Part::FileCount(count), after_file(count))
            }
            Due::Name { left } => {
                expect(letters, &[Token::Name])?;
                (Part::Name(bounded(Token::Name, value, PATH_MAX_BYTES)?), Due::Contents { left })
            }
            Due::Contents { left } => (self.contents(letters, value)?, after_file(left - 1)),
            Due::Nothing => return Err(ClassicError::Unexpected { got: letters, expected: "nothing" }),
        };
        self.due = next;
        Ok(part)
    }

    fn argument(&mut self, letters: [u8; 4], value: u32) -> Result<Part, ClassicError> {
        expect(letters, &[Token::Argv])?;
        self.argument_bytes += u64::from(value);
        bounded_sum(Token::Argv, self.argument_bytes, CLASSIC_ARGUMENTS_MAX_BYTES)?;
        Ok(Part::Argument(value))
    }

    fn after_argument(&self, left: u32) -> Due {
        match (left - 1, self.version) {
            (0, Version::V3) => Due::FileCount,
            (0, _) => Due::Source,
            (left, _) => Due::Argument { left },
        }
    }

    fn contents(&mut self, letters: [u8; 4], value: u32) -> Result<Part, ClassicError> {
        match expect(letters, &[Token::File, Token::Link])? {
            Token::Link => Ok(Part::Link(bounded(Token::Link, value, PATH_MAX_BYTES)?)),
            _ => {
                self.file_bytes += u64::from(value);
                bounded_sum(Token::File, self.file_bytes, packed_max(CLASSIC_FILES_MAX_BYTES))?;
                Ok(Part::File(value))
            }
        }
    }
}

fn after_file(left: u32) -> Due {
    match left {
        0 => Due::Nothing,
        left => Due::Name { left },
    }
}

/// What a header of a response announces. Lengths are of the bytes that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It speaks the version that it was asked in.
    Done,
    /// How the compiler ended, as `wait(2)` has it.
    Status(u32),
    /// What was written to stderr follows.
    Stderr(u32),
    /// What was written to stdout follows.
    Stdout(u32),
    /// The object follows. It is the last, but in version 3 after success.
    Object(u32),
    /// The dependency file follows.
    Dependencies(u32),
}

impl Reply {
    /// How many bytes follow the header.
    pub fn length(&self) -> u64 {
        match *self {
            Reply::Done | Reply::Status(_) => 0,
            Reply::Stderr(length)
            | Reply::Stdout(length)
            | Reply::Object(length)
            | Reply::Dependencies(length) => u64::from(length),
        }
    }
}

/// The grammar of a response, header by header.
#[derive(Clone, Debug)]
pub struct ResponseOrder {
    version: Version,
    status: u32,
    due: Option<Token>,
}

impl ResponseOrder {
    /// Of the response to a request of this version.
    pub fn new(version: Version) -> Self {
        ResponseOrder { version, status: 0, due: Some(Token::Done) }
    }

    /// Whether the response has all its parts. The body of the last may still be on its way.
    pub fn is_complete(&self) -> bool {
        self.due.is_none()
    }

    /// What the next header announces.
    ///
    /// # Errors
    ///
    /// Returns [`ClassicError`] for a packet that may not come here, or is more than is taken.
    pub fn accept(&mut self, header: &[u8; HEADER_LEN]) -> Result<Reply, ClassicError> {
        let (letters, value) = split(header)?;
        let Some(due) = self.due else {
            return Err(ClassicError::Unexpected { got: letters, expected: "nothing" });
        };
        expect(letters, &[due])?;
        let bounded = |max: u64| match self.version.is_compressed() {
            true => bounded(due, value, packed_max(max)),
            false => bounded(due, value, max),
        };
        let (reply, next) = match due {
            Token::Done if value == self.version as u32 => (Reply::Done, Some(Token::Stat)),
            Token::Done => return Err(ClassicError::Version(value)),
            Token::Stat => (Reply::Status(value), Some(Token::Serr)),
            Token::Serr => (Reply::Stderr(bounded(MESSAGES_MAX_BYTES)?), Some(Token::Sout)),
            Token::Sout => (Reply::Stdout(bounded(MESSAGES_MAX_BYTES)?), Some(Token::Doto)),
            Token::Doto => {
                let more = self.version == Version::V3 && self.status == 0;
                (Reply::Object(bounded(OUTPUT_MAX_BYTES)?), more.then_some(Token::Dotd))
            }
            _ => (Reply::Dependencies(bounded(MESSAGES_MAX_BYTES)?), None),
        };
        if let Reply::Status(status) = reply {
            self.status = status;
        }
        self.due = next;
        Ok(reply)
    }
}

fn expect(letters: [u8; 4], due: &[Token]) -> Result<Token, ClassicError> {
    let found = due.iter().find(|token| token.name().as_bytes() == letters);
    found.copied().ok_or(ClassicError::Unexpected { got: letters, expected: due[0].name() })
}

fn bounded(token: Token, value: u32, max: u64) -> Result<u32, ClassicError> {
    bounded_sum(token, u64::from(value), max).map(|()| value)
}

fn bounded_sum(token: Token, value: u64, max: u64) -> Result<(), ClassicError> {
    match value <= max {
        true => Ok(()),
        false => Err(ClassicError::TooMuch { name: token.name(), value, max }),
    }
}

/// How long the LZO1X stream of so many bytes may be: data that does not compress grows by one
/// byte in sixteen at most.
fn packed_max(plain: u64) -> u64 {
    plain + plain / 16 + 64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(text: &str) -> [u8; HEADER_LEN] {
        text.as_bytes().try_into().expect("12 bytes")
    }

    fn check(headers: &[&str], expected: Result<bool, &str>) {
        let mut order = RequestOrder::default();
        let outcome = headers.iter().try_for_each(|text| order.accept(&header(text)).map(drop));
        let outcome = outcome.map(|()| order.is_complete()).map_err(|error| error.to_string());
        match expected {
            Ok(complete) => assert_eq!(outcome, Ok(complete), "{headers:?}"),
            Err(words) => assert!(
                outcome.as_ref().is_err_and(|error| error.contains(words)),
                "{headers:?}: {outcome:?}"
            ),
        }
    }

    #[test]
    fn requests_of_each_version_have_their_order() {
        check(&["DIST00000001", "ARGC00000002", "ARGV00000003", "ARGV00000002", "DOTI00000009"], Ok(true));
        check(&["DIST00000002", "ARGC00000001", "ARGV00000003", "DOTI00000000"], Ok(true));
        check(&["DIST00000003", "CDIR00000001", "ARGC00000001", "ARGV00000003", "NFIL00000000"], Ok(true));
        let v3 = ["DIST00000003", "CDIR00000001", "ARGC00000001", "ARGV00000003", "NFIL00000002"];
        check(&[&v3[..], &["NAME00000004", "FILE00000000", "NAME00000004"]].concat(), Ok(false));
        check(
            &[&v3[..], &["NAME00000004", "FILE00000000", "NAME00000004", "LINK00000004"]].concat(),
            Ok(true),
        );
    }

    #[test]
    fn what_may_not_come_is_refused() {
        check(&["DIST00000000"], Err("version 0"));
        check(&["DIST00000004"], Err("version 4"));
        check(&["DONE00000001"], Err("DONE where DIST was to come"));
        check(&["DIST00000001", "CDIR00000001"], Err("CDIR where ARGC was to come"));
        check(&["DIST00000001", "ARGC00000000"], Err("no words"));
        check(&["DIST00000001", "ARGCffffffff"], Err("is more than"));
        check(&["DIST00000001", "ARGC00000001", "ARGVffffffff"], Err("is more than"));
        check(&["DIST00000001", "ARGC00000001", "ARGV00000001", "DOTIffffffff"], Err("is more than"));
        check(
            &["DIST00000001", "ARGC00000001", "ARGV00000001", "DOTI00000001", "DOTI00000001"],
            Err("nothing"),
        );
    }

    #[test]
    fn sums_are_bounded_as_well_as_parts() {
        let words = vec!["ARGV00200000"; 3];
        check(&[&["DIST00000001", "ARGC00000003"][..], &words].concat(), Err("is more than"));
    }

    #[test]
    fn a_response_ends_with_its_object_or_its_dependencies() {
        let complete = |version, status: &str, more: &[&str]| {
            let mut order = ResponseOrder::new(version);
            let done = format!("DONE0000000{}", version as u32);
            for text in [&done, status, "SERR00000000", "SOUT00000000", "DOTO00000000"]
                .into_iter()
                .chain(more.iter().copied())
            {
                order.accept(&header(text)).expect(text);
            }
            order.is_complete()
        };
        assert!(complete(Version::V1, "STAT00000000", &[]));
        assert!(complete(Version::V3, "STAT00000100", &[]));
        assert!(!complete(Version::V3, "STAT00000000", &[]));
        assert!(complete(Version::V3, "STAT00000000", &["DOTD00000000"]));
    }

    #[test]
    fn a_response_in_another_version_is_refused() {
        assert_eq!(ResponseOrder::new(Version::V2).accept(b"DONE00000001"), Err(ClassicError::Version(1)));
    }

    proptest! {
        #[test]
        fn random_headers_never_panic(headers in prop::collection::vec(prop::array::uniform12(any::<u8>()), 0..20)) {
            let (mut request, mut response) = (RequestOrder::default(), ResponseOrder::new(Version::V3));
            for header in &headers {
                let _ = request.accept(header);
                let _ = response.accept(header);
            }
        }
    }
}
