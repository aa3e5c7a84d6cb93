//! Pictures of given reports, and what keys do.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::prelude::{Color, Modifier};

use super::draw::{Look, draw};
use super::view::{View, Wish};
use super::*;
use crate::broker::status::{HostReport, JobReport, TroubleReport};

const LOOK: Look = Look { colours: true, unicode: true };

fn host(name: &str, state: &str, slots_used: u32, slots: u32) -> HostReport {
    HostReport {
        host: name.to_owned(),
        state: state.to_owned(),
        hold: "free".to_owned(),
        link: "tcp".to_owned(),
        security: "tls".to_owned(),
        slots_used,
        slots,
        speed: 1.0,
        ..HostReport::default()
    }
}

fn job(source: &str, phase: &str, host: &str, age_ms: u64) -> JobReport {
    JobReport {
        source: source.to_owned(),
        phase: phase.to_owned(),
        host: host.to_owned(),
        age_ms,
        ..JobReport::default()
    }
}

/// A broker in the middle of a build.
fn report() -> Report {
    let fast = HostReport {
        done: 1204,
        speed: 1.42,
        round_trip_us: Some(380),
        sandbox: "namespaces".to_owned(),
        toolchains: vec!["0011223344556677".to_owned()],
        ..host("fast.lan", "up", 9, 12)
    };
    let slow =
        HostReport { done: 88, speed: 0.4, hold: "drained".to_owned(), ..host("slow.lan", "up", 1, 4) };
    let gone = HostReport {
        why: "cannot connect: Connection refused (os error 111)".to_owned(),
        back_off_ms: 12_000,
        ..host("gone.lan:4000", "backed-off", 0, 0)
    };
    let big = HostReport { done: 9000, speed: 1.1, ..host("big.lan", "up", 100, 256) };
    let jobs = vec![
        job("src/parse.c", "remote", "fast.lan", 4200),
        job("src/lex.c", "remote", "slow.lan", 9900),
        job("src/emit.c", "queued", "", 20),
        job("src/main.c", "local", "localhost", 300),
    ];
    let mut report = Report {
        running: true,
        pid: 4711,
        version: "0.1.0".to_owned(),
        uptime_s: 754,
        hosts: vec![fast, slow, gone, big],
        jobs,
        ..Report::default()
    };
    report.totals.remote = 1292;
    report.totals.cached = 30;
    report.totals.local = 12;
    report.totals.local_reasons = [("not-a-compile".to_owned(), 9), ("clock".to_owned(), 3)].into();
    report.totals.remote_cpu_ms = 900_000;
    report.totals.cpu_saved_ms = 850_000;
    report.totals.bytes_sent = 3 << 20;
    report.totals.bytes_received = 9 << 20;
    report.troubles = vec![TroubleReport {
        age_ms: 2600,
        host: "gone.lan:4000".to_owned(),
        what: "lost: cannot connect: Connection refused (os error 111)".to_owned(),
    }];
    report
}

/// The same after some looks, a second apart.
fn seen() -> Seen {
    let mut seen = Seen::default();
    for look in 0..30_u64 {
        let mut report = report();
        let left = 29 - look;
        report.totals.remote -= left * (20 + left % 7);
        report.totals.local -= left.min(9);
        report.totals.local_reasons.insert("not-a-compile".to_owned(), 9 - left.min(9));
        seen.take(Ok(Some(report)), Duration::from_secs(1));
    }
    seen
}

fn picture(seen: &Seen, view: &View, look: Look, width: u16, height: u16) -> ratatui::prelude::Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a picture");
    terminal.draw(|frame| draw(frame, seen, view, look)).expect("a picture");
    terminal.backend().buffer().clone()
}

/// The letters of a picture, without spaces at the ends of lines.
fn text(seen: &Seen, view: &View, look: Look, width: u16, height: u16) -> String {
    let buffer = picture(seen, view, look, width, height);
    let rows = buffer.area.rows().map(|row| {
        let line: String = row.columns().map(|at| buffer[(at.x, at.y)].symbol().to_owned()).collect();
        format!("{}\n", line.trim_end())
    });
    rows.collect()
}

/// Compares with a file. With `DISTCC_BLESS` in the environment, writes it.
fn check(file: &str, shown: &str) {
    let path = format!("{}/src/broker/watch/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("DISTCC_BLESS").is_some() {
        std::fs::write(&path, shown).expect("the sources can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, expected, "{file}:\n{shown}");
}

fn press(view: &mut View, keys: &str, report: &Report) -> Vec<Wish> {
    let code = |letter| match letter {
        '↓' => KeyCode::Down,
        '↑' => KeyCode::Up,
        '⏎' => KeyCode::Enter,
        '⎋' => KeyCode::Esc,
        '⌫' => KeyCode::Backspace,
        letter => KeyCode::Char(letter),
    };
    keys.chars().map(|key| view.key(KeyEvent::new(code(key), KeyModifiers::NONE), Some(report))).collect()
}

fn order(host: &str, held: bool, at_once: bool) -> Wish {
    Wish::Order(Control::Hold { host: host.to_owned(), held, at_once })
}

#[test]
fn a_build_looks_like_this() {
    let seen = seen();
    check("usual.txt", &text(&seen, &View::default(), LOOK, 80, 24));
    check("wide.txt", &text(&seen, &View::default(), LOOK, 132, 30));
    check("ascii.txt", &text(&seen, &View::default(), Look { unicode: false, ..LOOK }, 80, 24));
}

#[test]
fn a_chosen_host_tells_more_and_help_lies_over_it() {
    let seen = seen();
    let mut view = View::default();
    press(&mut view, "↓s", &report());
    check("chosen.txt", &text(&seen, &view, LOOK, 80, 24));
    press(&mut view, "?", &report());
    check("help.txt", &text(&seen, &view, LOOK, 80, 24));
}

#[test]
fn a_broker_that_is_not_there_is_said_to_be_so() {
    let mut none = Seen::default();
    assert!(text(&none, &View::default(), LOOK, 80, 24).starts_with("distcc asking the broker\n"));
    none.take(Ok(None), Duration::ZERO);
    check("none.txt", &text(&none, &View::default(), LOOK, 80, 24));
    let mut gone = seen();
    gone.take(Ok(None), Duration::ZERO);
    let shown = text(&gone, &View::default(), LOOK, 80, 24);
    assert!(shown.contains("GONE; the next compile starts another") && shown.contains("fast.lan"), "{shown}");
    let buffer = picture(&gone, &View::default(), LOOK, 80, 24);
    assert!(buffer[(2, 5)].modifier.contains(Modifier::DIM), "what is old is faint");
    gone.take(Err("the broker is of another version".to_owned()), Duration::ZERO);
    assert!(text(&gone, &View::default(), LOOK, 80, 24).contains("is of another version"));
    gone.take(Ok(Some(report())), Duration::ZERO);
    assert_eq!(gone.broker, Broker::There);
}

#[test]
fn no_size_is_too_small_and_none_too_large() {
    let seen = seen();
    let mut view = View { frozen: true, ..View::default() };
    press(&mut view, "↓", &report());
    for help in [false, true] {
        view.help = help;
        for width in [1, 2, 7, 20, 40, 79, 81, 200, 400] {
            for height in [1, 2, 3, 5, 6, 7, 9, 12, 20, 100] {
                let shown = text(&seen, &view, LOOK, width, height);
                assert_eq!(shown.lines().count(), usize::from(height));
            }
        }
    }
}

#[test]
fn everything_may_be_as_long_as_it_likes() {
    let long = "x".repeat(300);
    let up = HostReport {
        slots: u32::MAX,
        slots_used: u32::MAX,
        done: u64::MAX,
        round_trip_us: Some(u64::MAX),
        why: long.clone(),
        ..host(&long, "up", 0, 0)
    };
    let mut report = report();
    report.hosts = vec![up; 300];
    report.jobs = vec![job(&long, &long, &long, u64::MAX); 3000];
    report.uptime_s = u64::MAX;
    report.totals.remote = u64::MAX / 4;
    report.totals.local_reasons = (0..200).map(|at| (format!("{at}{long}"), u64::MAX)).collect();
    report.troubles = vec![TroubleReport { age_ms: u64::MAX, host: long.clone(), what: long }; 16];
    let mut seen = Seen::default();
    seen.take(Ok(Some(report.clone())), Duration::ZERO);
    seen.take(Ok(Some(report)), Duration::ZERO);
    let shown = text(&seen, &View::default(), LOOK, 80, 24);
    assert!(
        shown.contains("HOST 300") && shown.contains("JOBS 3000") && shown.contains("LAST ERRORS"),
        "{shown}"
    );
}

#[test]
fn names_of_files_and_words_of_peers_cannot_command_the_terminal() {
    let nasty = "\x1b[2J\x1b]0;title\x07\r\n\u{9b}31m\u{202e}txt";
    let mut report = report();
    report.version = nasty.to_owned();
    report.jobs[0].source = nasty.to_owned();
    report.jobs[0].phase = nasty.to_owned();
    report.jobs[0].host = nasty.to_owned();
    for at in 0..report.hosts.len() {
        report.hosts[at].host = format!("{at}{nasty}");
        report.hosts[at].why = nasty.to_owned();
        report.hosts[at].sandbox = nasty.to_owned();
    }
    report.hosts[3].state = nasty.to_owned();
    report.troubles[0].what = nasty.to_owned();
    report.totals.local_reasons.insert(nasty.to_owned(), 1000);
    let mut view = View { filter: nasty.to_owned(), ..View::default() };
    let mut seen = Seen::default();
    for broker in [Ok(Some(report.clone())), Err(nasty.to_owned())] {
        seen.take(broker, Duration::ZERO);
        for notice in ["", nasty] {
            view.notice = notice.to_owned();
            view.chosen = Some(format!("0{nasty}"));
            for typing in [false, true] {
                let shown = text(&seen, &View { typing, ..view.clone() }, LOOK, 120, 40);
                let bad = |letter: char| letter != '\n' && letter.is_control() || letter == '\u{202e}';
                assert!(!shown.chars().any(bad), "{shown:?}");
                assert!(shown.contains("?[2J"), "{shown}");
            }
        }
    }
}

#[test]
fn colours_are_for_those_who_want_them() {
    let seen = seen();
    let colours = |look| {
        let buffer = picture(&seen, &View::default(), look, 80, 24);
        buffer.content.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    assert!(colours(LOOK) > 100);
    assert_eq!(colours(Look { colours: false, ..LOOK }), 0);
}

#[test]
fn a_key_drains_or_excludes_the_chosen_host_and_the_same_key_undoes_it() {
    let mut view = View::default();
    let mut seen = seen();
    let report = report();
    assert_eq!(press(&mut view, "d", &report), [Wish::Draw]);
    assert!(view.notice.contains("choose a host"), "no host is held by accident");
    assert_eq!(press(&mut view, "↓d", &report)[1], order("fast.lan", true, false));
    assert_eq!(press(&mut view, "x", &report), [order("fast.lan", true, true)]);
    assert_eq!(press(&mut view, "↓d", &report)[1], order("slow.lan", false, false));
    assert_eq!(press(&mut view, "x", &report), [order("slow.lan", true, true)]);
    seen.hold("fast.lan", true, true);
    let report = seen.report.expect("a report");
    assert_eq!(press(&mut view, "↑x", &report)[1], order("fast.lan", false, false));
    let alone = Report { hosts: vec![host("only", "up", 0, 1)], ..Report::default() };
    assert_eq!(press(&mut View::default(), "d", &alone), [order("only", true, false)]);
    assert_eq!(press(&mut View::default(), "d", &Report::default()), [Wish::Draw]);
}

#[test]
fn hosts_are_sorted_and_the_chosen_one_stays_chosen() {
    let report = report();
    let mut view = View::default();
    press(&mut view, "↓", &report);
    let mut orders = Vec::new();
    for _ in 0..6 {
        let names: Vec<&str> = view.hosts(&report).iter().map(|host| &host.host[..4]).collect();
        orders.push(format!("{}: {}", view.hosts.word(), names.join(" ")));
        press(&mut view, "s", &report);
    }
    assert_eq!(
        orders,
        [
            "as listed: fast slow gone big.",
            "by name: big. fast gone slow",
            "by state: gone slow fast big.",
            "by jobs: big. fast slow gone",
            "by jobs done: big. fast slow gone",
            "by speed: fast big. gone slow",
        ]
    );
    press(&mut view, "r", &report);
    assert_eq!(view.hosts(&report)[0].host, "big.lan");
    assert_eq!(view.chosen.as_deref(), Some("fast.lan"));
    press(&mut view, "oor", &report);
    let sources: Vec<&str> = view.jobs(&report).iter().map(|job| &*job.source).collect();
    assert_eq!(sources, ["src/emit.c", "src/lex.c", "src/main.c", "src/parse.c"]);
}

#[test]
fn a_filter_keeps_hosts_and_jobs_that_have_its_words() {
    let report = report();
    let mut view = View::default();
    let shown = |view: &View| (view.hosts(&report).len(), view.jobs(&report).len());
    press(&mut view, "/FAST", &report);
    assert!(view.typing);
    assert_eq!(shown(&view), (1, 1));
    press(&mut view, "⏎", &report);
    assert!(!view.typing && view.filter == "FAST");
    press(&mut view, "⎋/lex.c", &report);
    assert_eq!(shown(&view), (1, 1), "the host of a job that is meant");
    press(&mut view, "⎋/drained⏎", &report);
    assert_eq!(shown(&view), (1, 0));
    assert_eq!(view.hosts(&report)[0].host, "slow.lan");
    press(&mut view, "/⌫⌫⌫⌫⌫⌫⌫", &report);
    assert!(view.typing && view.filter.is_empty());
    press(&mut view, "qd", &report);
    assert_eq!(view.filter, "qd", "what is typed is no command");
    press(&mut view, &"x".repeat(500), &report);
    assert!(view.filter.len() < 100);
    assert_eq!(shown(&view), (0, 0));
    press(&mut view, "⏎↓", &report);
    assert_eq!(view.chosen, None);
}

#[test]
fn the_last_of_many_hosts_is_shown_when_it_is_chosen() {
    let mut report = report();
    report.hosts = (0..100).map(|at| host(&format!("host{at}.lan"), "up", 1, 4)).collect();
    let mut seen = Seen::default();
    seen.take(Ok(Some(report.clone())), Duration::ZERO);
    let mut view = View::default();
    assert!(!text(&seen, &view, LOOK, 80, 24).contains("host99.lan"));
    press(&mut view, "G", &report);
    assert!(text(&seen, &view, LOOK, 80, 24).contains("host99.lan  "));
    press(&mut view, "↑", &report);
    assert_eq!(view.chosen.as_deref(), Some("host98.lan"));
    press(&mut view, "g", &report);
    assert_eq!(view.chosen.as_deref(), Some("host0.lan"));
}

#[test]
fn keys_end_stop_pause_and_explain() {
    let report = report();
    let mut view = View::default();
    let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
    assert_eq!(view.key(control('c'), None), Wish::Quit);
    assert_eq!(view.key(control('z'), None), Wish::Suspend);
    assert_eq!(view.key(control('l'), None), Wish::Repaint);
    press(&mut view, "p", &report);
    assert!(view.frozen && text(&seen(), &view, LOOK, 80, 24).contains(" PAUSED"));
    press(&mut view, " ", &report);
    assert!(!view.frozen);
    press(&mut view, "?", &report);
    assert!(view.help);
    assert_eq!(press(&mut view, "x", &report), [Wish::Draw], "a key that ends the help does nothing else");
    assert!(!view.help);
    assert_eq!(press(&mut view, "?q", &report)[1], Wish::Quit);
    assert_eq!(press(&mut View { typing: true, ..View::default() }, "q", &report), [Wish::Draw]);
}

#[test]
fn an_order_is_answered_in_a_sentence() {
    let order = |held, at_once| Control::Hold { host: "b".to_owned(), held, at_once };
    let text = || Ok(Some(ControlReply::Text { text: "b:4000".to_owned() }));
    for (order, answer, expected) in [
        (order(false, false), text(), "b:4000 gets jobs again"),
        (order(true, false), text(), "b:4000 is drained: it finishes what it has and gets no more"),
        (order(true, true), text(), "b:4000 is excluded: what it had goes elsewhere"),
        (
            order(true, true),
            Ok(Some(ControlReply::Unknown)),
            "the broker knows no host b, or several of that name",
        ),
        (
            order(false, false),
            Ok(Some(ControlReply::Refused)),
            "b gave another object than this machine makes, and stays without jobs",
        ),
        (order(true, true), Ok(None), "no broker is running"),
        (order(true, true), Err("it is deaf".to_owned()), "it is deaf"),
    ] {
        assert_eq!(said(&order, &answer), expected);
    }
}
