//! Asks the compiler's front end here for its diagnostics, when a remote compile printed only such.
//!
//! Compilers are silent about some things that a macro wrote (clang about `if ((a == b))`, gcc about
//! the address of a variable that is compared with NULL), and preprocessed text holds no macros: so
//! they warn about text where they would not about the source. The object is
//! right all the same, and what a local compile would print comes from `-fsyntax-only` on the
//! source, for a fraction of a compile. That holds for diagnostics of the front end alone; one
//! that optimisation or code generation might have a part in makes the compile be repeated here.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::family;
use super::prepare::command;
use super::toolchain::Compiler;
use crate::common::classify::{CompileJob, PreprocessArgument, takes_next};
use crate::common::invocation::Invocation;
use crate::common::limits::MESSAGES_MAX_BYTES;
use crate::common::reason::LocalReason;

/// How long the front end may take; it takes less than the compile that was just done.
const FRONTEND_TIMEOUT: Duration = Duration::from_secs(300);

/// Warnings that clang's semantic analysis alone gives, and gives or not by whether a macro wrote
/// the code.
const OF_CLANG: [&str; 14] = [
    "comma",
    "constant-conversion",
    "constant-logical-operand",
    "empty-body",
    "extra-semi",
    "extra-semi-stmt",
    "int-in-bool-context",
    "parentheses-equality",
    "self-assign",
    "tautological-compare",
    "tautological-constant-compare",
    "tautological-constant-out-of-range-compare",
    "tautological-pointer-compare",
    "unused-value",
];

/// The same of gcc. `implicit-fallthrough`, which depends on comments, is not among them: it comes
/// after the front end.
const OF_GCC: [&str; 6] =
    ["address", "bool-compare", "empty-body", "int-in-bool-context", "tautological-compare", "unused-value"];

/// Whether everything that a remote compiler printed is of the front end alone.
pub fn is_of_the_front_end(stderr: &[u8], clang: bool) -> bool {
    let groups: &[&str] = if clang { &OF_CLANG } else { &OF_GCC };
    let text = String::from_utf8_lossy(stderr);
    let mut warned = false;
    for line in text.lines() {
        if [": error: ", ": fatal error: ", ": remark: ", "clang: ", "gcc: "]
            .iter()
            .any(|kind| line.contains(kind))
        {
            return false;
        }
        if line.contains(": warning: ") {
            let group = line.rsplit_once("[-W").and_then(|(_, rest)| rest.strip_suffix(']'));
            if !group.is_some_and(|group| groups.contains(&group)) {
                return false;
            }
            warned = true;
        }
    }
    warned
}

/// What the front end of this machine's compiler says of the source, as a local compile would.
///
/// # Errors
///
/// Returns why the compile must be repeated here after all.
pub async fn ask(
    compiler: &Compiler,
    invocation: &Invocation,
    job: &CompileJob,
    slots: &Semaphore,
) -> Result<Vec<u8>, LocalReason> {
    let repeat = || LocalReason::RemoteDiagnostics;
    let _slot = slots.acquire().await.map_err(|_| repeat())?;
    let clang = compiler.toolchain.clang;
    let mut command = command(&compiler.program, invocation);
    command.args(arguments(job).ok_or_else(repeat)?);
    let output = timeout(FRONTEND_TIMEOUT, family::output(&mut command))
        .await
        .map_err(|_| repeat())?
        .map_err(|_| repeat())?;
    let printed = output.stdout.len() as u64 + output.stderr.len() as u64;
    // For a terminal a compiler prints in another way than it does for us; and gcc, when it says
    // anything, may have more to say behind its front end.
    let unsure = (invocation.terminal.is_some() || !clang) && !output.stderr.is_empty();
    if !output.status.success() || !output.stdout.is_empty() || unsure || printed > MESSAGES_MAX_BYTES {
        return Err(repeat());
    }
    Ok(output.stderr)
}

/// The preprocessor's arguments as those of a check: no dependency file, `-fsyntax-only` for `-E`.
fn arguments(job: &CompileJob) -> Option<Vec<&std::ffi::OsStr>> {
    let mut arguments = Vec::new();
    let mut words = job.preprocess.iter();
    let mut replaced = false;
    while let Some(word) = words.next() {
        let PreprocessArgument::Plain(word) = word else { return None };
        match &word[..] {
            b"-E" => {
                replaced = true;
                arguments.push(std::ffi::OsStr::new("-fsyntax-only"));
            }
            b"-MF" | b"-MT" | b"-MQ" => drop(words.next()?),
            word if word.starts_with(b"-M") => {}
            _ => {
                arguments.push(word.as_os_str());
                if takes_next(word) {
                    let PreprocessArgument::Plain(next) = words.next()? else { return None };
                    arguments.push(next.as_os_str());
                }
            }
        }
    }
    replaced.then_some(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::bytes::Bytes;
    use crate::common::classify::{Verdict, classify};

    #[test]
    fn only_what_semantic_analysis_alone_says_is_of_the_front_end() {
        let known = "a.c:1:2: warning: equality comparison with extraneous parentheses [-Wparentheses-equality]\n\
                     a.c:1:2: note: remove extraneous parentheses\n1 warning generated.\n";
        assert!(is_of_the_front_end(known.as_bytes(), true));
        assert!(!is_of_the_front_end(known.as_bytes(), false));
        for other in [
            "",
            "a.c:1:2: warning: stack frame size (9) exceeds limit (1) in 'f' [-Wframe-larger-than]",
            "a.c:1:2: warning: loop not vectorized [-Wpass-failed=transform-warning]",
            "a.c:1:2: warning: something without a group",
            "a.c:1:2: error: expected ';'",
            "clang: warning: -lx: 'linker' input unused [-Wunused-command-line-argument]",
        ] {
            assert!(
                !is_of_the_front_end(format!("{known}{other}\n").as_bytes(), true) || other.is_empty(),
                "{other}"
            );
            assert!(!is_of_the_front_end(other.as_bytes(), true), "{other}");
        }
    }

    #[test]
    fn what_gcc_says_after_its_front_end_is_not_asked_of_it() {
        let address = "a.c: In function ‘f’:\na.c:1:2: warning: the comparison will always … [-Waddress]\n";
        let fall = "a.c:1:2: warning: this statement may fall through [-Wimplicit-fallthrough=]\n";
        assert!(is_of_the_front_end(address.as_bytes(), false));
        assert!(!is_of_the_front_end([address, fall].concat().as_bytes(), false));
    }

    #[test]
    fn the_check_writes_no_file() {
        let line = "clang -O2 -DX -Iinc -MMD -MP -MF a.d -MT a.o -c a.c -o a.o";
        let argv: Vec<Bytes> = line.split(' ').map(Bytes::from).collect();
        let Verdict::Remote(job) = classify(&argv, &|_| Err("none".to_owned())) else { panic!("local") };
        let words = arguments(&job).expect("arguments");
        assert!(words.iter().all(|word| !word.as_encoded_bytes().starts_with(b"-M")), "{words:?}");
        assert!(words.contains(&std::ffi::OsStr::new("-fsyntax-only")), "{words:?}");
    }
}
