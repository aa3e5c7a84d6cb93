//! Host lists, as text.

use proptest::prelude::*;

use super::*;

/// A list in short: one host per word, then what is said of the whole.
fn short(text: &[u8]) -> String {
    let list = match parse(text) {
        Ok(list) => list,
        Err(error) => return format!("error: {error}"),
    };
    let mut shown: Vec<String> = list.hosts.iter().map(show).collect();
    shown.extend(list.localhost.map(|slots| format!("local={slots}")));
    shown.extend(list.randomize.then(|| "randomize".to_owned()));
    shown.extend(list.localslots.map(|slots| format!("slots={slots}")));
    shown.extend(list.localslots_cpp.map(|slots| format!("cpp={slots}")));
    shown.extend(list.zeroconf.then(|| "zeroconf".to_owned()));
    shown.extend(list.odd.iter().map(|odd| format!("odd: {odd}")));
    shown.join(" ")
}

fn show(host: &Host) -> String {
    let mut text = match &host.transport {
        Transport::Tcp => format!("{}|{}|{}", host.name, host.port, host.slots),
        Transport::Ssh { user, command } => {
            let shown = |part: &Option<Bytes>| part.as_ref().map_or("-".to_owned(), Bytes::to_text);
            format!("ssh|{}|{}|{}|{}", shown(user), host.name, host.slots, shown(command))
        }
    };
    for (set, name) in [(host.lzo, "|lzo"), (host.cpp, "|cpp"), (host.down, "|down")] {
        text += if set { name } else { "" };
    }
    text + &host.auth.as_ref().map_or(String::new(), |name| format!("|auth:{name}"))
}

fn check(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        assert_eq!(&short(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn hosts_by_name_and_address() {
    check(&[
        ("", ""),
        ("build7", "build7|3632|4"),
        ("build7/8", "build7|3632|8"),
        ("build7=8", "build7|3632|8"),
        ("build7:4000", "build7|4000|4"),
        ("build7:4000/8", "build7|4000|8"),
        ("build7/8:4000", "build7|4000|8"),
        ("10.0.0.1:1/1", "10.0.0.1|1|1"),
        ("[::1]", "::1|3632|4"),
        ("[::1]:4000/8", "::1|4000|8"),
        ("[fe80::1%eth0]/8:4000", "fe80::1%eth0|4000|8"),
        ("127.0.0.1", "127.0.0.1|3632|4"),
        ("a_b-c.example.org", "a_b-c.example.org|3632|4"),
        ("a a a/2", "a|3632|4 a|3632|4 a|3632|2"),
    ]);
}

#[test]
fn this_machine_is_not_a_host() {
    check(&[
        ("localhost", "local=2"),
        ("localhost/8", "local=8"),
        ("localhost=8", "local=8"),
        ("localhost/3 localhost", "local=3"),
        ("localhost:99", "localhost|99|4"),
        ("localhost,lzo", "localhost|3632|4|lzo"),
        ("localhost.localdomain", "localhost.localdomain|3632|4"),
        ("localhosts/3", "localhosts|3632|3"),
    ]);
}

#[test]
fn options_of_hosts() {
    check(&[
        ("a,lzo", "a|3632|4|lzo"),
        ("a/3,lzo,cpp", "a|3632|3|lzo|cpp"),
        ("a,cpp,lzo", "a|3632|4|lzo|cpp"),
        ("a:1/2,down", "a|1|2|down"),
        ("a,auth b,auth=host", "a|3632|4|auth: b|3632|4|auth:host"),
        (
            "a,cpp",
            "error: host a,cpp at byte 0: the option cpp needs the option lzo (did you mean a,cpp,lzo?)",
        ),
        (
            "a,bogus",
            "error: host a,bogus at byte 0: there is no host option bogus (the options are lzo, cpp, down and auth)",
        ),
        (
            "a,",
            "error: host a, at byte 0: there is no host option  (the options are lzo, cpp, down and auth)",
        ),
    ]);
}

#[test]
fn hosts_over_ssh_are_kept() {
    check(&[
        ("@a", "ssh|-|a|4|-"),
        ("me@a/3", "ssh|me|a|3|-"),
        ("me@a:/opt/bin/distccd", "ssh|me|a|4|/opt/bin/distccd"),
        ("me@a/3:/opt/bin/distccd,lzo", "ssh|me|a|3|/opt/bin/distccd|lzo"),
        ("@[::1]/3", "ssh|-|::1|3|-"),
        (
            "-oProxyCommand=x@a",
            "error: host -oProxyCommand=x@a at byte 0: there is no such option of a host list (the options are --randomize, --localslots=N and --localslots_cpp=N)",
        ),
        ("@-a", "error: host @-a at byte 0: -a is no host name"),
        ("@", "error: host @ at byte 0: it has no host name"),
        ("me@a:", "error: host me@a: at byte 0: : is too much"),
    ]);
    let list = parse(b"me@a b b,down b,auth").expect("a list");
    assert_eq!(list.hosts.iter().map(Host::is_usable).collect::<Vec<_>>(), [true, true, false, false]);
}

#[test]
fn options_of_the_list() {
    check(&[
        ("--randomize a", "a|3632|4 randomize"),
        ("--localslots=3 --localslots_cpp=5", "slots=3 cpp=5"),
        ("--localslots/3 --localslots_cpp/5", "slots=3 cpp=5"),
        ("+zeroconf", "zeroconf"),
        (
            "--bogus",
            "error: host --bogus at byte 0: there is no such option of a host list (the options are --randomize, --localslots=N and --localslots_cpp=N)",
        ),
    ]);
}

#[test]
fn what_stock_lets_pass_passes_and_is_told() {
    let options = "(the options are lzo, cpp, down and auth)";
    check(&[
        (
            "x a,lzo/8",
            &format!(
                "x|3632|4 a|3632|4|lzo odd: host a,lzo/8 at byte 2: there is no host option lzo/8 {options}"
            ),
        ),
        ("a,auth=x/y", "a|3632|4|auth:x/y"),
        ("a:/3", "a|3632|3 odd: host a:/3 at byte 0:  is no port (ports are written HOST:3632)"),
        (
            "a/-3",
            "a|3632|4|down odd: host a/-3 at byte 0: -3 is no number of slots from 1 to 10000 (slots are written HOST/8)",
        ),
        (
            "me@a/10001",
            "ssh|me|a|10000|- odd: host me@a/10001 at byte 0: 10001 is no number of slots from 1 to 10000 (slots are written HOST/8)",
        ),
        (
            "--localslots 3",
            "3|3632|4 odd: host --localslots at byte 0: it needs a number (did you mean --localslots=4?)",
        ),
        (
            "--randomizeX a",
            "a|3632|4 randomize odd: host --randomizeX at byte 0: there is no such option of a host list (the options are --randomize, --localslots=N and --localslots_cpp=N)",
        ),
    ]);
}

#[test]
fn comments_and_line_ends() {
    check(&[
        ("# nothing", ""),
        ("a # b\nc", "a|3632|4 c|3632|4"),
        ("a#b\r\nc#\n\n#\n", "a|3632|4 c|3632|4"),
        ("\ta\x0bb\x0cc \n", "a|3632|4 b|3632|4 c|3632|4"),
    ]);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    check(&[
        ("::1", "error: host ::1 at byte 0: an IPv6 address needs brackets (did you mean [::1]?)"),
        (
            "a fe80::1/4",
            "error: host fe80::1/4 at byte 2: an IPv6 address needs brackets (did you mean [fe80::1]?)",
        ),
        (
            "[::1",
            "error: host [::1 at byte 0: there is no IPv6 address in the brackets (addresses are written [fe80::1]:3632/8)",
        ),
        (
            "a\n b/0",
            "error: host b/0 at byte 3: 0 is no number of slots from 1 to 10000 (slots are written HOST/8)",
        ),
        ("a:0", "error: host a:0 at byte 0: 0 is no port (ports are written HOST:3632)"),
        ("a:b", "error: host a:b at byte 0: b is no port (ports are written HOST:3632)"),
        ("a/2/3", "error: host a/2/3 at byte 0: /3 is too much"),
        ("a:1:2", "error: host a:1:2 at byte 0: :2 is too much"),
        ("[::1]x", "error: host [::1]x at byte 0: x is too much"),
        ("/3", "error: host /3 at byte 0: it has no host name"),
        (",lzo", "error: host ,lzo at byte 0: it has no host name"),
        ("a\x1b[31m", "error: host a?[31m at byte 0: a?[31m is no host name"),
        ("b\u{fc}ro", "error: host b\u{fc}ro at byte 0: b\u{fc}ro is no host name"),
    ]);
    for bad in ["a/-", "a/+3", "a/", "a/x", "a/1x", "a/0", "localhost/0", "localhost/-1", "--localslots=0"] {
        let error = parse(bad.as_bytes()).expect_err(bad);
        assert!(matches!(error.kind, HostsErrorKind::BadSlots { .. }), "{bad}");
    }
    for bad in ["a:65536", "a:-1", "a:1x"] {
        let error = parse(bad.as_bytes()).expect_err(bad);
        assert!(matches!(error.kind, HostsErrorKind::BadPort { .. }), "{bad}");
    }
}

#[test]
fn words_that_name_hosts_are_kept_as_written() {
    let list = parse(b"--randomize localhost/3 a:3632/4,lzo # x\n @b +zeroconf").expect("a list");
    assert_eq!(list.tokens, ["localhost/3", "a:3632/4,lzo", "@b"].map(Bytes::from));
    assert_eq!(list.hosts[0].token, Bytes::from("a:3632/4,lzo"));
    assert_eq!(list.total_slots(), 3 + 4 + 4);
    let twice = parse(b"localhost localhost/3 a,down").expect("a list");
    assert_eq!((twice.total_slots(), twice.localhost), (2 + 3 + 4, Some(3)));
    assert!(parse(b" # only a comment").expect("a list").is_empty());
}

#[test]
fn the_number_of_words_is_bounded() {
    assert_eq!(parse("a ".repeat(HOSTS_MAX).as_bytes()).expect("a list").hosts.len(), HOSTS_MAX);
    let error = parse("a ".repeat(HOSTS_MAX + 1).as_bytes()).expect_err("too many");
    assert_eq!((error.kind, error.offset), (HostsErrorKind::TooMany, 2 * HOSTS_MAX));
}

#[test]
fn an_error_shows_only_the_beginning_of_a_long_word() {
    let error = parse("?".repeat(5000).as_bytes()).expect_err("no name");
    assert!(error.to_string().len() < 500);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&text).map_err(|error| error.to_string());
    }

    #[test]
    fn what_is_written_is_read_back(name in "[a-z][a-z0-9.]{0,8}x", port in 1u16.., slots in 1u32..=10_000) {
        let list = parse(format!("{name}/{slots}:{port} {name}:{port}={slots}").as_bytes()).expect("a list");
        for host in list.hosts {
            prop_assert_eq!((host.name.as_str(), host.port, host.slots), (name.as_str(), port, slots));
        }
    }
}
