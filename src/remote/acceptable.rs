//! Which actions a volunteer does at all.
//!
//! Pure. The box is the wall; this is what keeps an action from being more than a compile of a text.

use super::compile::packed_max;
use crate::common::action::{Action, Argument, InputSet};
use crate::common::classify::{refuse_remote, remote_environment};
use crate::common::limits::PREPROCESSED_MAX_BYTES;
use crate::common::protocol::link::Refusal;

/// Outputs of one action.
const OUTPUTS_MAX: usize = 16;

/// The longest suffix of an input or output, the dot included.
const SUFFIX_MAX_BYTES: usize = 16;

/// Whether an action is one that a volunteer does at all.
///
/// # Errors
///
/// Returns [`Refusal::Forbidden`] with what is not acceptable.
pub fn check(action: &Action) -> Result<(), Refusal> {
    let forbid = |detail: String| Err(Refusal::Forbidden { detail });
    if let Some(detail) = refuse_remote(&action.arguments) {
        return forbid(detail);
    }
    let InputSet::Preprocessed { source, suffix } = &action.inputs;
    if !is_suffix(suffix) {
        return forbid(format!("input suffix {suffix:?}"));
    }
    if source.size > PREPROCESSED_MAX_BYTES || source.packed > packed_max(source.size) {
        return forbid(format!("an input of {} bytes, {} packed", source.size, source.packed));
    }
    if action.outputs.len() > OUTPUTS_MAX {
        return forbid(format!("{} outputs", action.outputs.len()));
    }
    for (index, output) in action.outputs.iter().enumerate() {
        let twice = action.outputs.iter().take(index).any(|other| other.suffix == output.suffix);
        if !is_suffix(&output.suffix) || output.suffix == *suffix || twice {
            return forbid(format!("output suffix {:?}", output.suffix));
        }
    }
    let outputs = action.outputs.len();
    let beyond =
        |argument: &&Argument| matches!(argument, Argument::Output(index) if usize::from(*index) >= outputs);
    if action.arguments.iter().any(|argument| beyond(&argument)) {
        return forbid("an output that is not declared".to_owned());
    }
    // The client filters by the same function, so what it would drop is no client's doing.
    if remote_environment(&action.environment) != action.environment {
        return forbid("an environment variable that compilers need not have".to_owned());
    }
    Ok(())
}

fn is_suffix(suffix: &str) -> bool {
    let body = suffix.strip_prefix('.').unwrap_or("");
    suffix.len() <= SUFFIX_MAX_BYTES
        && !body.is_empty()
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::action::{Blob, OutputName};
    use crate::common::bytes::Bytes;
    use crate::common::toolchain::{Digest, Toolchain};

    fn action() -> Action {
        let plain = |word: &str| Argument::Plain(Bytes::from(word));
        Action {
            toolchain: Toolchain {
                id: Digest::of(b""),
                names: vec![],
                version: String::new(),
                target: String::new(),
                clang: false,
            },
            arguments: vec![plain("-c"), Argument::Input, plain("-o"), Argument::Output(0)],
            environment: vec![Bytes::from("LANG=C.UTF-8"), Bytes::from("LC_ALL=C")],
            inputs: InputSet::Preprocessed {
                source: Blob { digest: Digest::of(b""), size: 100, packed: 50 },
                suffix: ".i".to_owned(),
            },
            outputs: vec![OutputName { suffix: ".o".to_owned() }],
        }
    }

    /// Whether the ordinary action is refused once it is changed so.
    fn refused(change: impl FnOnce(&mut Action)) -> bool {
        let mut action = action();
        change(&mut action);
        check(&action).is_err()
    }

    #[test]
    fn an_ordinary_action_is_done() {
        assert_eq!(check(&action()), Ok(()));
    }

    #[test]
    fn nothing_of_the_client_becomes_a_path() {
        for suffix in ["", ".", "o", "/x", ".o/../x", ".o\0", "..", ".averyveryverylongsuffix", ".i"] {
            let outputs = vec![OutputName { suffix: suffix.to_owned() }];
            assert!(refused(|action| action.outputs = outputs), "{suffix:?}");
        }
        let source = Blob { digest: Digest::of(b""), size: 1, packed: 1 };
        let inputs = InputSet::Preprocessed { source, suffix: "/../x".to_owned() };
        assert!(refused(|action| action.inputs = inputs));
    }

    #[test]
    fn outputs_are_declared_once_each() {
        assert!(refused(|action| action.outputs.push(OutputName { suffix: ".o".to_owned() })));
        assert!(refused(|action| action.arguments.push(Argument::Output(1))));
        assert!(!refused(|action| action.outputs.push(OutputName { suffix: ".dwo".to_owned() })));
    }

    #[test]
    fn only_harmless_variables_are_set() {
        for entry in
            ["LD_PRELOAD=x", "PATH=/x", "COMPILER_PATH=/x", "LC_ALL=/x/y", "LANGUAGE=../x", "X", "TMPDIR=/"]
        {
            assert!(refused(|action| action.environment = vec![Bytes::from(entry)]), "{entry}");
        }
        assert!(!refused(|action| action.environment = vec![Bytes::from("SOURCE_DATE_EPOCH=1")]));
    }

    #[test]
    fn an_input_larger_than_any_client_sends_is_refused() {
        let source = |size, packed| InputSet::Preprocessed {
            source: Blob { digest: Digest::of(b""), size, packed },
            suffix: ".i".to_owned(),
        };
        assert!(refused(|action| action.inputs = source(PREPROCESSED_MAX_BYTES + 1, 1)));
        assert!(refused(|action| action.inputs = source(100, 1 << 40)));
    }
}
