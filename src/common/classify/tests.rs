//! Verdicts, as text.

use proptest::prelude::*;

use super::*;

/// A verdict in short. Local: the reason. Remote: what is compiled remotely but for the fixed
/// end of the command, then `> OUTPUT`, `+ DEPENDENCIES`, and what else is not as always.
fn short(line: &str) -> String {
    let job = match classify_line(line) {
        Verdict::Local(reason) => return format!("local: {reason}"),
        Verdict::Remote(job) => job,
    };
    if let Err(reason) = job.as_text() {
        return format!("local: {reason}");
    }
    let mut text = format!("remote: {}", show(&job.compile));
    let native = |at: &usize| format!(" [native {at}]");
    text.extend(job.native.iter().map(native));
    text += &format!(" > {}", job.output);
    match &job.dependencies {
        Some(Destination::File(file)) => text += &format!(" + {file}"),
        Some(Destination::Stdout) => text += " + stdout",
        None => {}
    }
    if let Some(family) = job.family {
        text += &format!(" [{family:?} only]");
    }
    text
}

fn show(arguments: &[Argument]) -> String {
    let shown = arguments.iter().map(|argument| match argument {
        Argument::Plain(word) => word.to_text(),
        Argument::Input => "IN".to_owned(),
        Argument::Output(at) => format!("OUT{at}"),
    });
    let text = shown.collect::<Vec<_>>().join(" ");
    // The end is nearly always this.
    text.replace("-c -x cpp-output IN -o OUT0", "C").replace("-c -x c++-cpp-output IN -o OUT0", "C++")
}

fn classify_line(line: &str) -> Verdict {
    let argv: Vec<Bytes> = line.split_whitespace().map(Bytes::from).collect();
    classify(&argv, &|file| match file {
        b"args" => Ok(b"-O2 -DX='a b' @inner".to_vec()),
        b"inner" => Ok(b"-c a.c".to_vec()),
        b"plugin" => Ok(b"-fplugin=x.so".to_vec()),
        b"hard.specs" | b"/usr/share/hard.specs" => Ok(b"*cc1_options:\n+ %{!fpie:-fPIE}\n".to_vec()),
        b"/usr/share/pgo.specs" | b"of-b/specs" => Ok(b"*cc1:\n%{O2:-fprofile-use}\n".to_vec()),
        b"/usr/share/wide.specs" => Ok(b"%include <nosys.specs>\n".to_vec()),
        _ => Err("No such file".to_owned()),
    })
}

/// The preprocessor's command, with `DEP` for the dependency file.
fn preprocess(line: &str) -> String {
    let Verdict::Remote(job) = classify_line(line) else { panic!("{line} is local") };
    let shown = job.preprocess.iter().map(|argument| match argument {
        PreprocessArgument::Plain(word) => word.to_text(),
        PreprocessArgument::DependencyFile => "DEP".to_owned(),
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Checks each line of a table `COMMAND => VERDICT`.
fn check(table: &str) -> usize {
    let rows = table.lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
    rows.map(|row| {
        let (line, expected) = row.split_once(" => ").expect("a command and its verdict");
        let found = match expected.strip_prefix("preprocess:") {
            Some(_) => format!("preprocess: {}", preprocess(line)).trim_end().to_owned(),
            None => short(line),
        };
        assert_eq!(found, expected, "{line}");
    })
    .count()
}

#[test]
fn every_command_line_has_its_verdict() {
    assert!(check(include_str!("verdicts.txt")) >= 150);
}

/// What a command means among the client's own files: the reason why text cannot carry it, then in
/// brackets what else there is to say, then what options name to be read.
fn hermetic(line: &str) -> String {
    let job = match classify_line(line) {
        Verdict::Local(reason) => return format!("local: {reason}"),
        Verdict::Remote(job) => job,
    };
    let Hermetic { needed, refused, reads, times, varies, .. } = &job.hermetic;
    let mut text = match (needed, refused) {
        (Some(needed), Some(refused)) => format!("files: {needed}; {refused}"),
        (Some(needed), None) => format!("files: {needed}"),
        (None, Some(refused)) => format!("text: {refused}"),
        (None, None) => "either".to_owned(),
    };
    let notes = [(*times, "times"), (*varies, "varies"), (job.family == Some(Family::Gcc), "gcc only")];
    let notes = notes.into_iter().chain([(job.family == Some(Family::Clang), "clang only")]);
    text.extend(notes.filter(|(is, _)| *is).map(|(_, note)| format!(" [{note}]")));
    for read in reads {
        let mark = if read.optional { "?" } else { "" };
        let path = if read.mangled.is_some() { read.path_in(b"/w") } else { read.path.clone() };
        text += &format!(" < {mark}{path}{}", if read.whole_folder { "/**" } else { "" });
    }
    text
}

#[test]
fn what_needs_the_clients_own_files_is_told_from_what_stays_here() {
    let rows =
        include_str!("hermetic.txt").lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
    let checked = rows.map(|row| {
        let (line, expected) = row.split_once(" => ").expect("a command and its verdict");
        assert_eq!(hermetic(line), expected, "{line}");
    });
    assert!(checked.count() >= 120);
}

#[test]
fn options_that_gcc_records_in_debug_info_are_kept() {
    // Both change preprocessing alone, yet gcc 12 names them in DW_AT_producer.
    check("gcc -g -undef -A foo=bar -Dx -c a.c => remote: -g -undef -A foo=bar C > a.o");
}

#[test]
fn a_definition_behind_wp_is_not_moved_before_its_undefinition() {
    // gcc reads -Wp,-D after every -U, wherever they stand; so the word must stay as it is.
    check("gcc -Wp,-DX -UX -c a.c => preprocess: -E -Wp,-DX -UX a.c");
}

#[test]
fn words_of_any_bytes_are_taken() {
    let argv = ["gcc".into(), "-c".into(), Bytes::from(b"\xff\xfe.c".as_slice())];
    let Verdict::Remote(job) = classify(&argv, &|_| Err(String::new())) else { panic!("local") };
    assert_eq!(&*job.output, b"\xff\xfe.o");
    assert_eq!(classify(&[], &|_| Err(String::new())), Verdict::Local(LocalReason::NotACompile));
}

/// Words that mean something, and words that do not.
fn word() -> impl Strategy<Value = Bytes> {
    let known = options::OPTIONS.iter().map(|row| row.name).collect::<Vec<_>>();
    let plain =
        ["a.c", "b.cc", "a.i", "-", "native", "c++", "x.d", "/x", "", "@args", "a=b", "-O2", "-fx", "-g"];
    prop_oneof![
        proptest::sample::select(known.clone()).prop_map(Bytes::from),
        (proptest::sample::select(known), "[ -~]{0,6}")
            .prop_map(|(name, value)| format!("{name}{value}").as_str().into()),
        proptest::sample::select(plain.to_vec()).prop_map(Bytes::from),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_command_line_panics_and_what_leaves_is_accepted(
        mut argv in proptest::collection::vec(word(), 0..6),
        compile in any::<bool>(),
    ) {
        if compile {
            argv.splice(0..0, ["gcc", "-c", "a.c"].map(Bytes::from));
        }
        let read = |file: &[u8]| if file.len() > 3 { Err(String::new()) } else { Ok(file.to_vec()) };
        if let Verdict::Remote(job) = classify(&argv, &read) {
            prop_assert_eq!(job.hermetic.products.names.first(), Some(&job.output));
            if job.as_text().is_err() {
                return Ok(());
            }
            prop_assert!(job.native.iter().all(|at| *at < job.compile.len()));
            if job.native.is_empty() {
                prop_assert_eq!(refuse_remote(&job.compile), None);
            }
        }
    }

    #[test]
    fn no_argument_list_panics_the_volunteer(words in proptest::collection::vec(word(), 0..8)) {
        let arguments: Vec<Argument> = words.into_iter().map(Argument::Plain).collect();
        prop_assert!(refuse_remote(&arguments).is_some());
    }
}

/// What stock does is what we do, or there is a reason. For what stays here it is the verdict's own.
#[test]
fn command_lines_leave_as_with_distcc_3_4_or_there_is_a_reason() {
    for line in include_str!("stock.txt").lines().filter(|line| !line.starts_with('#')) {
        let (arguments, said) = line.split_once(" => ").expect("a line");
        let (stock, here) = said.split_once(", here ").unwrap_or((said, said));
        let (here, why) = here.split_once(": ").unwrap_or((here, ""));
        let verdict = match classify_line(&format!("gcc {arguments}")) {
            // Stock knows no other way than text.
            Verdict::Remote(job) => job.as_text().map_err(Clone::clone),
            Verdict::Local(reason) => Err(reason),
        };
        match verdict {
            Ok(()) => assert_eq!(here, "remote", "{arguments}"),
            Err(_) if stock == "local" => assert_eq!(here, "local", "{arguments}"),
            Err(reason) => assert_eq!((here, why), ("local", &*reason.to_string()), "{arguments}"),
        }
        assert!(stock == here || !why.is_empty(), "{arguments}: a difference without a reason");
    }
}
