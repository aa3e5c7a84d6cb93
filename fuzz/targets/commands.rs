//! Commands that clients ask for: of texts, in either protocol, and of sets of files in distcc 3.4's.

use distcc::common::action::{Action, Argument, Blob, InputSet, OutputName};
use distcc::common::bytes::Bytes;
use distcc::common::classify::{Place, depth, in_tree};
use distcc::common::toolchain::{Digest, Toolchain};
use distcc::remote::acceptable;
use distcc::remote::classic::order;

/// What no command has that is run outside of a job's own files.
const NEVER: [&[u8]; 9] = [
    b"@",
    b"-fplugin",
    b"-iplugindir",
    b"-fpass-plugin",
    b"-specs",
    b"--specs",
    b"-wrapper",
    b"-fmodule-mapper",
    b"-Wa,@",
];

/// Where a set of files lies.
const ROOT: &[u8] = b"/jobs/1/root";

/// The words of a command, with a zero behind each.
pub fn run(data: &[u8]) {
    let words: Vec<Bytes> = data.split(|&byte| byte == 0).take(64).map(Bytes::from).collect();
    if let Ok(command) = order::read(&words) {
        keeps_in(&command.arguments);
    }
    let place = Place { root: ROOT, cwd: b"/home/me" };
    if let Ok(command) = in_tree(&words, place) {
        keeps_in(&command.arguments);
    }
    let plain = words.iter().skip(1).cloned().map(Argument::Plain);
    let arguments: Vec<Argument> =
        plain.chain([Argument::Input, Argument::Plain(Bytes::from("-o")), Argument::Output(0)]).collect();
    if acceptable::check(&action(arguments.clone())).is_ok() {
        keeps_in(&arguments);
    }
}

fn keeps_in(arguments: &[Argument]) {
    for argument in arguments {
        let Argument::Plain(word) = argument else { continue };
        assert!(!NEVER.iter().any(|never| word.starts_with(never)), "{word}");
        if let Some(at) = word.windows(ROOT.len()).position(|part| part == ROOT) {
            assert!(depth(0, &word[at + ROOT.len()..]).is_some(), "{word}");
        }
    }
}

fn action(arguments: Vec<Argument>) -> Action {
    Action {
        toolchain: Toolchain {
            id: Digest([0; 32]),
            names: vec![Bytes::from("gcc")],
            version: String::new(),
            target: String::new(),
            clang: false,
        },
        arguments,
        environment: vec![],
        inputs: InputSet::Preprocessed {
            source: Blob { digest: Digest([0; 32]), size: 1, packed: 10 },
            suffix: ".i".to_owned(),
        },
        outputs: vec![OutputName { suffix: ".o".to_owned() }],
    }
}
