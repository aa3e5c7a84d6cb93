//! Preprocessed text on its way to becoming a blob: hashed, packed, and looked through for what
//! cannot leave as text.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use super::link::PackedBlob;
use super::markers::is_gccs_own;
use crate::common::action::Blob;
use crate::common::classify::is_of_the_process;
use crate::common::limits::PREPROCESSED_MAX_BYTES;
use crate::common::reason::{LocalReason, TextRule};
use crate::common::toolchain::Digest;

/// zstd's fastest regular level: a LAN is faster than any higher one.
const LEVEL: i32 = 1;

/// Texts up to this size are packed where they are met; larger ones would hold the event loop up
/// for more than a millisecond.
const INLINE_MAX_BYTES: u64 = 256 << 10;

/// Larger texts are packed in pieces, so that memory holds their packed form only.
const WHOLE_MAX_BYTES: u64 = 8 << 20;

/// What a text must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Markers {
    /// It comes from a preprocessor that writes line markers.
    Trusted {
        /// Whether that passes over pragmas that set options, as gcc's does for C: of the macros that these change it
        /// has made something else than the compile would.
        passes_over: bool,
    },
    /// It was given as a source: without a line marker its debug names would be the volunteer's.
    Required,
}

/// Makes a blob of all of `file`, from its beginning.
///
/// # Errors
///
/// Returns why the text cannot leave.
pub async fn pack(file: File, markers: Markers) -> Result<PackedBlob, LocalReason> {
    let size = file.metadata().map_err(broker)?.len();
    if size > PREPROCESSED_MAX_BYTES {
        return Err(LocalReason::Text { why: TextRule::TooLarge });
    }
    if size <= INLINE_MAX_BYTES {
        return pack_whole(&file, size, markers);
    }
    let task = tokio::task::spawn_blocking(move || match size <= WHOLE_MAX_BYTES {
        true => pack_whole(&file, size, markers),
        false => pack_in_pieces(&file, markers),
    });
    task.await.map_err(broker)?
}

fn broker(error: impl std::fmt::Display) -> LocalReason {
    LocalReason::Broker { why: error.to_string() }
}

/// What a thread keeps from one text to the next: making it anew costs more than a small text.
struct Press {
    text: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
}

thread_local! {
    static PRESS: RefCell<Option<Press>> = const { RefCell::new(None) };
}

fn pack_whole(file: &File, size: u64, markers: Markers) -> Result<PackedBlob, LocalReason> {
    PRESS.with_borrow_mut(|kept| {
        let press = match kept {
            Some(press) => press,
            None => kept.insert(Press {
                text: Vec::new(),
                compressor: zstd::bulk::Compressor::new(LEVEL).map_err(broker)?,
            }),
        };
        press.text.resize(size as usize, 0);
        file.read_exact_at(&mut press.text, 0).map_err(broker)?;
        check_markers(&press.text, markers)?;
        let mut search = Search::of(markers);
        search.look(&press.text)?;
        search.finish()?;
        let packed = press.compressor.compress(&press.text).map_err(broker)?;
        let blob = Blob { digest: Digest::of(&press.text), size, packed: packed.len() as u64 };
        Ok(PackedBlob { blob, bytes: packed.into() })
    })
}

fn pack_in_pieces(mut file: &File, markers: Markers) -> Result<PackedBlob, LocalReason> {
    let (mut hasher, mut search, mut size) = (blake3::Hasher::new(), Search::of(markers), 0);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).map_err(broker)?;
    let mut piece = vec![0; 1 << 20];
    rewind(&mut file).map_err(broker)?;
    loop {
        let length = file.read(&mut piece).map_err(broker)?;
        if length == 0 {
            break;
        }
        if size == 0 {
            check_markers(&piece[..length], markers)?;
        }
        size += length as u64;
        search.look(&piece[..length])?;
        hasher.update(&piece[..length]);
        encoder.write_all(&piece[..length]).map_err(broker)?;
    }
    search.finish()?;
    let packed = encoder.finish().map_err(broker)?;
    let blob = Blob { digest: Digest(*hasher.finalize().as_bytes()), size, packed: packed.len() as u64 };
    Ok(PackedBlob { blob, bytes: packed.into() })
}

fn rewind(file: &mut &File) -> io::Result<()> {
    io::Seek::rewind(file)
}

fn check_markers(text: &[u8], markers: Markers) -> Result<(), LocalReason> {
    match markers != Markers::Required || text.starts_with(b"# ") {
        true => Ok(()),
        false => Err(LocalReason::NoLineMarkers),
    }
}

/// Looks for what makes a compile read a file that the text does not hold, or ask where in the
/// source it is: text has other columns.
///
/// `.incbin` and `.include` count inside string literals only (there the assembler sees them);
/// elsewhere `.include` is a member access. A literal that spans lines (a raw string) makes every
/// occurrence behind it count: too many jobs stay here, never too few.
#[derive(Default)]
struct Search {
    /// The unfinished last line of the chunks so far, for words that straddle chunks.
    line: Vec<u8>,
    raw_strings: bool,
    /// Whether the text may hold directives: no preprocessor of ours has seen it.
    directives: bool,
    /// Whether pragmas that set options were passed over in it.
    passes_over: bool,
    /// Whether the last line marker so far was that of a header of gcc's own.
    in_gccs_own: bool,
}

/// A longer line is looked at in pieces, with this much kept from the piece before.
const LINE_MAX_BYTES: usize = 1 << 20;

/// Built-in functions whose value is a place in the source.
const PLACES: [&[u8]; 3] = [b"__builtin_COLUMN", b"__builtin_LINE", b"__builtin_source_location"];

/// Where the names of files begin that are others for each process.
const OF_THE_PROCESS: [&[u8]; 2] = [b"\"/dev/", b"\"/proc/"];

impl Search {
    fn of(markers: Markers) -> Search {
        let passes_over = markers == Markers::Trusted { passes_over: true };
        Search { directives: markers == Markers::Required, passes_over, ..Search::default() }
    }

    /// Looks at what comes after the last line's end.
    fn finish(mut self) -> Result<(), LocalReason> {
        self.look(b"\n")
    }

    fn look(&mut self, chunk: &[u8]) -> Result<(), LocalReason> {
        let end = chunk.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if self.line.is_empty() {
            self.look_at_lines(&chunk[..end])?;
        } else {
            let mut lines = std::mem::take(&mut self.line);
            lines.extend_from_slice(&chunk[..end]);
            self.look_at_lines(&lines)?;
            if end == 0 {
                self.line = lines;
            }
        }
        self.line.extend_from_slice(&chunk[end..]);
        if self.line.len() > LINE_MAX_BYTES {
            let line = std::mem::take(&mut self.line);
            self.look_at_lines(&line)?;
            self.line = line[line.len() - 64..].to_vec();
        }
        Ok(())
    }

    fn look_at_lines(&mut self, lines: &[u8]) -> Result<(), LocalReason> {
        self.raw_strings = self.raw_strings || find(lines, b"R\"", 0).is_some();
        for word in [&b".incbin"[..], b".include"] {
            let mut from = 0;
            while let Some(at) = find(lines, word, from) {
                if self.raw_strings || is_in_string(lines, at) {
                    return Err(LocalReason::Text { why: TextRule::Incbin });
                }
                from = at + word.len();
            }
        }
        let refused = |why| Err(LocalReason::Text { why });
        if find(lines, b"#pragma GCC pch_preprocess", 0).is_some() {
            return refused(TextRule::PrecompiledHeader);
        }
        if PLACES.iter().any(|word| find(lines, word, 0).is_some()) {
            return refused(TextRule::AsksForItsPlace);
        }
        if OF_THE_PROCESS.iter().any(|name| is_in_marker(lines, name)) {
            return refused(TextRule::ProcessFile);
        }
        if self.passes_over && self.sets_options(lines) {
            return refused(TextRule::Options);
        }
        if self.directives && lines.split(|&byte| byte == b'\n').any(is_directive) {
            return refused(TextRule::Directive);
        }
        Ok(())
    }
}

impl Search {
    /// Whether a pragma sets options, but for those in headers of gcc's own: these (`<immintrin.h>`) take back what they
    /// set, and ask for nothing that it changes.
    fn sets_options(&mut self, lines: &[u8]) -> bool {
        const PRAGMAS: [&[u8]; 2] = [b"#pragma GCC target", b"#pragma GCC optimize"];
        let found = PRAGMAS.iter().flat_map(|pragma| memchr::memmem::find_iter(lines, *pragma));
        let sets = found.into_iter().any(|at| !is_in_gccs_own(&lines[..at]).unwrap_or(self.in_gccs_own));
        self.in_gccs_own = is_in_gccs_own(lines).unwrap_or(self.in_gccs_own);
        sets
    }
}

/// Whether the last line marker of a text is that of a header of gcc's own; `None` where it has none.
fn is_in_gccs_own(text: &[u8]) -> Option<bool> {
    let after_newline = memchr::memmem::rfind(text, b"\n# ").map(|at| at + 1);
    let marker = &text[after_newline.or_else(|| text.starts_with(b"# ").then_some(0))?..];
    let marker = &marker[..memchr::memchr(b'\n', marker).unwrap_or(marker.len())];
    Some(is_gccs_own(marker.split(|&byte| byte == b'"').nth(1).unwrap_or_default()))
}

fn find(text: &[u8], word: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find(text.get(from..)?, word).map(|at| from + at)
}

/// Whether `name` stands in a line marker.
fn is_in_marker(text: &[u8], name: &[u8]) -> bool {
    let mut from = 0;
    while let Some(at) = find(text, name, from) {
        let start = text[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let before = text[start..at].strip_prefix(b"# ").and_then(|before| before.strip_suffix(b" "));
        let is_marker = before.is_some_and(|number| number.iter().all(u8::is_ascii_digit));
        if is_marker && is_of_the_process(&text[at + 1..]) {
            return true;
        }
        from = at + name.len();
    }
    false
}

/// Whether a line is a directive that is not left over from preprocessing: clang follows it still.
fn is_directive(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    let rest = match line {
        [b'#', rest @ ..] => rest.trim_ascii_start(),
        // Other spellings of the `#`.
        [b'%', b':', ..] | [b'?', b'?', b'=', ..] => return true,
        _ => return false,
    };
    let left_over = [&b"pragma"[..], b"ident", b"line", b"define", b"undef"];
    !rest.is_empty() && !rest[0].is_ascii_digit() && !left_over.iter().any(|word| rest.starts_with(word))
}

/// Whether an odd number of unescaped quotes stands before `at` on its line.
fn is_in_string(text: &[u8], at: usize) -> bool {
    let start = text[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let mut inside = false;
    let mut bytes = text[start..at].iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => inside = !inside,
            _ => {}
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&str], leaves: bool) {
        let mut search = Search::default();
        let found = chunks.iter().try_for_each(|chunk| search.look(chunk.as_bytes()));
        let rest = found.and_then(|()| search.finish());
        assert_eq!(rest.is_ok(), leaves, "{chunks:?}");
    }

    #[test]
    fn a_file_that_the_assembler_reads_keeps_the_job_here() {
        check(&["asm(\".incbin \\\"x\\\"\");\n"], false);
        check(&["asm(\"nop\\n\\t.include 'x'\");\n"], false);
        check(&["asm(\".inc", "bin \\\"x\\\"\");"], false);
        check(&["auto s = R\"(\n", ".incbin \"x\"\n", ")\";\n"], false);
    }

    #[test]
    fn a_member_named_include_does_not() {
        check(&["set.include(x); f(\"a\").include(y);\n"], true);
        check(&["int a;\n", "x.include", "(1);\n"], true);
    }

    #[test]
    fn a_text_that_asks_where_it_stands_stays_here() {
        check(&["int f(void) { return __builtin_COLUMN(); }\n"], false);
        check(
            &[
                "static consteval source_location current(__builtin_ret_type p = __builtin_source_",
                "location())",
            ],
            false,
        );
        check(&["int __builtin_ctz(int); __builtin_FILE();\n"], true);
    }

    #[test]
    fn options_that_a_pragma_sets_keep_a_text_here_where_they_were_passed_over() {
        let leaves = |chunks: &[&str], passes_over| {
            let mut search = Search::of(Markers::Trusted { passes_over });
            chunks.iter().all(|chunk| search.look(chunk.as_bytes()).is_ok())
        };
        for text in ["# 1 \"a.c\"\n#pragma GCC target(\"avx2\")\n", "#pragma GCC optimize 3\n"] {
            assert!(!leaves(&[text], true) && leaves(&[text], false), "{text}");
        }
        let own = "# 1 \"/usr/lib/gcc/x86_64-linux-gnu/12/include/avxintrin.h\" 1 3 4\n";
        let sets = "int a;\n#pragma GCC target(\"avx\")\n";
        assert!(leaves(&[own, sets, "# 3 \"a.c\"\nint b;\n"], true));
        let other = own.replace("/lib/gcc/x86_64-linux-gnu/12", "/gcc/lib");
        assert!(!leaves(&[&other, sets], true));
        assert!(!leaves(&[own, "# 3 \"a.c\"\n", sets], true));
        assert!(leaves(&["#pragma GCC push_options\n#pragma GCC diagnostic push\n"], true));
    }

    #[test]
    fn a_file_that_only_the_process_has_keeps_the_job_here() {
        check(&["# 1 \"/dev/stdin\" 1\nint x;\n"], false);
        check(&["# 1 \"/dev/shm/a.h\" 1\nint x;\n"], true);
        check(&["int y;\n# 12 \"/proc/self/fd/0\"\n"], false);
        check(&["# 1 \"a.c\"\nopen(\"/dev/null\"); // # 1 \"/dev/x\"\n"], true);
    }

    #[test]
    fn what_a_compiler_still_would_follow_in_given_text_keeps_it_here() {
        let given = |text: &str| {
            let mut search = Search::of(Markers::Required);
            search.look(text.as_bytes()).is_ok()
        };
        assert!(given("# 1 \"a.c\"\n#pragma once\n #  define A\n#line 7\n#ident \"x\"\n#\nint a;\n"));
        for line in [
            "#include <a.h>",
            " # include_next \"a.h\"",
            "#\timport <a>",
            "#if __has_include(<a>)",
            "%:include <a>",
            "#\\",
        ] {
            assert!(!given(&format!("# 1 \"a.c\"\n{line}\n")), "{line}");
        }
        check(&["#include <made by a preprocessor, so a string>\n"], true);
    }

    #[test]
    fn a_line_longer_than_any_buffer_is_looked_at_in_pieces() {
        let long = "x".repeat(3 << 20);
        check(&[&long, &long, "\n"], true);
    }

    fn file_of(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text).expect("written");
        file
    }

    #[test]
    fn whole_or_in_pieces_a_text_is_the_same_blob() {
        let text = "# 1 \"a.c\"\nint a;\n".repeat(200_000);
        let whole =
            pack_whole(&file_of(text.as_bytes()), text.len() as u64, Markers::Required).expect("packed");
        let pieces = pack_in_pieces(&file_of(text.as_bytes()), Markers::Required).expect("packed");
        assert_eq!((whole.blob.digest, whole.blob.size), (pieces.blob.digest, pieces.blob.size));
        for blob in [whole, pieces] {
            assert_eq!(zstd::decode_all(&blob.bytes[..]).expect("unpacked"), text.as_bytes());
        }
    }

    #[test]
    fn a_source_without_line_markers_stays_here() {
        let packed = pack_whole(&file_of(b"int a;\n"), 7, Markers::Required);
        assert_eq!(packed.expect_err("no markers"), LocalReason::NoLineMarkers);
        assert!(pack_whole(&file_of(b""), 0, Markers::Trusted { passes_over: false }).is_ok());
    }
}
