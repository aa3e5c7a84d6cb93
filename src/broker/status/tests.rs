use super::render::Style;
use super::*;

/// A broker in the middle of a build: what people see most often.
fn usual() -> Report {
    let host = |host: &str, state: &str| HostReport {
        host: host.to_owned(),
        state: state.to_owned(),
        link: "tcp".to_owned(),
        security: "tls".to_owned(),
        speed: 1.0,
        ..HostReport::default()
    };
    let up = HostReport {
        slots_used: 3,
        slots: 10,
        done: 120,
        speed: 1.25,
        round_trip_us: Some(420),
        hermetic: Some(true),
        sandbox: "namespaces".to_owned(),
        toolchains: vec!["0011223344556677".to_owned(), "8899aabbccddeeff".to_owned()],
        ..host("build7", "up")
    };
    let lost = HostReport {
        why: "cannot connect: Connection refused (os error 111)".to_owned(),
        back_off_ms: 12_400,
        ..host("build8:4000", "backed-off")
    };
    let old = HostReport {
        security: "classic".to_owned(),
        link: "tcp classic".to_owned(),
        slots: 4,
        held: true,
        hold: "distrusted".to_owned(),
        hermetic: Some(false),
        ..host("old.lan", "up")
    };
    let job = |source: &str, phase: &str, host: &str, age_ms| JobReport {
        source: source.to_owned(),
        pid: 1,
        host: host.to_owned(),
        phase: phase.to_owned(),
        age_ms,
        ..JobReport::default()
    };
    let trouble = TroubleReport {
        age_ms: 2600,
        host: "build8:4000".to_owned(),
        what: "lost: cannot connect: Connection refused (os error 111)".to_owned(),
    };
    let drained = HostReport { slots: 8, hold: "drained".to_owned(), ..host("slow.lan", "up") };
    Report {
        schema: SCHEMA,
        pid: 4711,
        version: "0.1.0".to_owned(),
        uptime_s: 754,
        hosts: vec![up, lost, old, drained],
        jobs: vec![job("src/parse.c", "remote", "build7", 350), job("src/lex.c", "queued", "", 20)],
        totals: usual_totals(),
        troubles: vec![trouble],
        ..Report::default()
    }
}

fn usual_totals() -> TotalsReport {
    TotalsReport {
        remote: 120,
        cached: 3,
        local: 9,
        local_reasons: [("not-a-compile".to_owned(), 8), ("straggler".to_owned(), 1)].into(),
        retried: 2,
        hedged: 1,
        sent_files: 121,
        listed: 0,
        sent_texts: [("clock".to_owned(), 2)].into(),
        bytes_sent: 3 << 20,
        bytes_sent_plain: 11 << 20,
        bytes_received: 1 << 20,
        bytes_received_plain: 4 << 20,
        remote_cpu_ms: 90_500,
        client_cpu_ms: 1200,
        cpu_saved_ms: 89_300,
        ..TotalsReport::default()
    }
}

/// Everything as long as it can be.
fn long() -> Report {
    let long = "x".repeat(300);
    let host = HostReport {
        host: format!("{long}:3632"),
        state: "backed-off".to_owned(),
        why: long.clone(),
        back_off_ms: 12_000,
        slots: 1024,
        slots_used: 1000,
        done: 9_999_999,
        speed: 0.1,
        round_trip_us: Some(123_456),
        refused_toolchains: 1,
        hermetic: Some(false),
        sandbox: long.clone(),
        link: long.clone(),
        security: long.clone(),
        ..HostReport::default()
    };
    let up = HostReport { state: "up".to_owned(), ..host.clone() };
    let job = JobReport {
        source: format!("/{long}/a.c"),
        pid: 1,
        host: long.clone(),
        phase: "waiting-local".to_owned(),
        age_ms: 700_000,
        ..JobReport::default()
    };
    let totals = TotalsReport {
        remote: 10_000_000,
        local: 7,
        local_reasons: [("not-a-compile".to_owned(), 7)].into(),
        sent_files: 3,
        listed: 0,
        sent_texts: [(long.clone(), 7)].into(),
        bytes_sent: u64::MAX / 2,
        bytes_sent_plain: u64::MAX,
        bytes_received: u64::MAX / 4,
        bytes_received_plain: u64::MAX,
        remote_cpu_ms: u64::MAX / 1000,
        client_cpu_ms: 3,
        cpu_saved_ms: i64::MAX / 1000,
        ..TotalsReport::default()
    };
    let trouble = TroubleReport { age_ms: 300_000_000_000, host: long.clone(), what: long };
    Report {
        pid: 4_000_000,
        hosts: vec![host, up],
        jobs: vec![job; 50],
        totals,
        troubles: vec![trouble],
        ..Report::default()
    }
}

#[test]
fn the_usual_table_is_this() {
    let text = usual().render(Style::default());
    assert_eq!(text, include_str!("usual.txt"));
}

#[test]
fn colours_are_for_terminals_and_change_no_letter() {
    let coloured = usual().render(Style { colours: true });
    assert!(coloured.contains("\x1b[32mup") && coloured.contains("\x1b[31mbacked-off"), "{coloured}");
    let mut plain = String::new();
    for (at, piece) in coloured.split('\x1b').enumerate() {
        let shown = if at == 0 { piece } else { piece.split_once('m').map_or("", |(_, rest)| rest) };
        plain.push_str(shown);
    }
    assert_eq!(plain, usual().render(Style::default()));
}

#[test]
fn the_table_fits_eighty_columns_whatever_is_long() {
    for report in [usual(), long()] {
        let text = report.render(Style::default());
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
    }
    assert!(long().render(Style::default()).contains("a.c"), "the end of a path is what matters");
}

#[test]
fn names_of_files_cannot_command_the_terminal() {
    let mut report = usual();
    report.jobs[0].source = "\x1b[2Ja\r\nb.c".to_owned();
    report.troubles[0].what = "\x07\x1b]0;title".to_owned();
    let text = report.render(Style::default());
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
}

#[test]
fn a_broker_that_has_done_nothing_says_so() {
    let text = Report::default().render(Style::default());
    assert!(text.contains("no volunteer has been asked yet") && text.contains("no jobs"), "{text}");
}

#[test]
fn the_document_comes_back_as_it_was() {
    for report in [usual(), long()] {
        let json = serde_json::to_string(&report).expect("json");
        assert_eq!(serde_json::from_str::<Report>(&json).expect("a report"), report);
    }
}

/// The schema is a promise: what is in docs/status.md is in the document, and the reverse.
#[test]
fn every_field_of_the_document_is_in_its_description() {
    let described = include_str!("../../../docs/status.md");
    let document = serde_json::to_value(usual()).expect("json");
    let mut fields = Vec::new();
    let mut queue = vec![document];
    while let Some(value) = queue.pop() {
        match value {
            serde_json::Value::Object(map) => {
                for (name, value) in map {
                    // Its keys are data, not fields.
                    if name != "local_reasons" && name != "sent_texts" {
                        queue.push(value);
                    }
                    fields.push(name);
                }
            }
            serde_json::Value::Array(values) => queue.extend(values.into_iter().take(1)),
            _ => {}
        }
    }
    assert!(fields.len() > 40, "{fields:?}");
    for field in fields {
        assert!(described.contains(&format!("`{field}`")), "docs/status.md does not describe `{field}`");
    }
}

#[test]
fn a_compiler_on_its_way_is_what_jobs_of_a_host_wait_for() {
    let said = |bytes, rest| {
        let host = HostReport { arriving_bytes: bytes, arriving_ms: rest, ..HostReport::default() };
        render::arriving(&host).unwrap_or_default()
    };
    assert_eq!(said(None, None), "");
    assert_eq!(said(Some(1), None), "a compiler is on its way there: 1 MB are left; its jobs wait for it");
    assert_eq!(
        said(Some(41_000_000), Some(64_000)),
        "a compiler is on its way there: 41 MB are left, for about 64s; its jobs wait for it"
    );
    let stalled = "a compiler is on its way there: 9 MB are left, which hardly moves; its jobs wait for it";
    assert_eq!(said(Some(9_000_000), Some(28_497_600_000)), stalled);
}
