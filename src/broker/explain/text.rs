//! The words of an explanation.

use std::fmt::Write;

use super::hosts::Prospect;
use super::rules::rule;
use super::{Explanation, Kind, Travel};
use crate::broker::plan::Plan;
use crate::broker::status::render::bytes;
use crate::common::action::Argument;
use crate::common::bytes::Bytes;
use crate::common::classify::Destination;
use crate::common::invocation::Invocation;
use crate::common::reason::LocalReason;

/// Puts an explanation into words.
pub fn render(explanation: &Explanation<'_>) -> String {
    let mut text = String::new();
    match &explanation.plan {
        Err(reason) => stays(&mut text, reason),
        Ok((_, Travel::Not { why })) => stays(&mut text, why),
        Ok((plan, travel)) => leaves(&mut text, plan, travel, explanation.invocation),
    }
    let able = explanation.hosts.iter().any(|(_, prospect)| !matches!(prospect, Prospect::CouldNot(_)));
    if explanation.plan.is_ok() && !able {
        line(
            &mut text,
            "but",
            "no listed host could take it now, so it would be compiled here (no-volunteer)",
        );
    }
    for (at, (host, prospect)) in explanation.hosts.iter().enumerate() {
        let (mark, why) = match prospect {
            Prospect::Could(why) => ("yes", why),
            Prospect::CouldNot(why) => ("no", why),
            Prospect::Unknown(why) => ("perhaps", why),
        };
        line(&mut text, if at == 0 { "hosts" } else { "" }, &format!("{host}: {mark}: {why}"));
    }
    text
}

fn line(text: &mut String, what: &str, words: &str) {
    let words: String = words.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{what:<11} {words}");
}

fn stays(text: &mut String, reason: &LocalReason) {
    line(text, "verdict", "compiled here");
    line(text, "reason", &format!("{reason} ({})", reason.key()));
    line(text, "rule", rule(reason));
}

fn leaves(text: &mut String, plan: &Plan, travel: &Travel, invocation: &Invocation) {
    let (form, why, rule) = match travel {
        Travel::Text { why } => (
            "as preprocessed text",
            format!("cannot travel as files: {why} ({})", why.key()),
            "where it is not certain which files a compile reads, or a file's result is another elsewhere, the text is sent",
        ),
        _ => (
            "as files",
            "one source, known options, and all files that it reads are known".to_owned(),
            "a compile leaves when a volunteer can do just what this machine would",
        ),
    };
    line(text, "verdict", &format!("sent to a volunteer, {form}"));
    line(text, "reason", &why);
    line(text, "rule", rule);
    line(text, "source", &format!("{} ({:?})", plan.job.source, plan.job.language));
    line(text, "output", &plan.job.output.to_text());
    if let Some(Destination::File(path)) = &plan.job.dependencies {
        line(text, "", &format!("{path} (dependencies)"));
    }
    let toolchain = &plan.compiler.toolchain;
    line(
        text,
        "compiler",
        &format!("{}: {}, for {}", plan.compiler.program.display(), toolchain.version, toolchain.target),
    );
    line(text, "toolchain", &toolchain.id.to_string());
    match travel {
        Travel::Files { inputs, toolchain, program } => {
            line(text, "", &format!("{toolchain} with all its files, as it travels"));
            kinds(text, inputs);
            let words = plan.spelt.as_ref().unwrap_or(&invocation.argv);
            command(text, program, words.get(1..).unwrap_or_default(), &invocation.cwd);
        }
        _ => {
            line(text, "inputs", "the text that the preprocessor makes of them, here");
            let program = Bytes::from(plan.compiler.program.as_path());
            let words: Vec<Bytes> = plan.arguments.iter().map(argument).collect();
            command(text, &program, &words, b"(a folder of the job's own)");
        }
    }
}

fn kinds(text: &mut String, kinds: &[Kind]) {
    let (count, size) =
        kinds.iter().fold((0, 0), |(count, size), kind| (count + kind.count, size + kind.bytes));
    line(text, "inputs", &format!("{count}, {} together; a volunteer asks for what it lacks", bytes(size)));
    for kind in kinds {
        line(text, "", &format!("{:>6} {:<17} {:>10}", kind.count, kind.name, bytes(kind.bytes)));
    }
}

fn argument(argument: &Argument) -> Bytes {
    match argument {
        Argument::Plain(word) => word.clone(),
        Argument::Input => "INPUT".into(),
        Argument::Output(number) => format!("OUTPUT{number}").as_str().into(),
    }
}

fn command(text: &mut String, program: &Bytes, words: &[Bytes], cwd: &[u8]) {
    let words: Vec<String> = [program].into_iter().chain(words).map(quoted).collect();
    line(text, "command", &words.join(" "));
    line(text, "in", &String::from_utf8_lossy(cwd));
}

/// A word as a shell would read it.
fn quoted(word: &Bytes) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=+./,:@%".contains(byte);
    match !word.is_empty() && word.iter().all(plain) {
        true => word.to_text(),
        false => format!("'{}'", word.to_text().replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reason: &LocalReason, expected: &str) {
        let invocation = Invocation::default();
        let explanation = Explanation { invocation: &invocation, plan: Err(reason), hosts: Vec::new() };
        let text = render(&explanation);
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn a_reason_is_told_with_its_key_and_its_rule() {
        check(
            &LocalReason::NotACompile,
            "verdict     compiled here\n\
             reason      not a compile of one source (no -c or -S) (not-a-compile)\n\
             rule        only compiles of one source",
        );
        let option = "-\x1b[2J".into();
        check(
            &LocalReason::UnknownOption { option },
            "verdict     compiled here\nreason      unknown option -?[2J",
        );
    }

    #[test]
    fn words_can_be_pasted_into_a_shell() {
        let shown = ["-DX=1", "a b", "it's", ""].map(|word| quoted(&word.into()));
        assert_eq!(shown, ["-DX=1", "'a b'", r"'it'\''s'", "''"]);
    }
}
