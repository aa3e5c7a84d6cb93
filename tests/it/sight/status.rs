//! `distcc --status`.

use std::fs;

use serde_json::Value;

use crate::classic::StockDaemon;
use crate::farm::{COMMAND_MAX, Farm, SHIM, run, signal_pid};

/// Compiles some files, each its own; all of them elsewhere.
pub fn compile(farm: &Farm, names: &[&str]) {
    for name in names {
        let source = farm.work().join(format!("{name}.c"));
        // Large enough that compression has something to do.
        let padding = format!("/* {} */\n", name.repeat(70)).repeat(200);
        let body = format!("int {name}(int n) {{ int s = 0; for (; n; n--) s += n; return s; }}\n");
        fs::write(&source, format!("{padding}#include <stdio.h>\n{body}")).expect("our own file");
        let object = format!("{name}.o");
        farm.shim(["gcc", "-O2", "-c", &format!("{name}.c"), "-o", &object]).expect_success(name);
    }
}

fn number(document: &Value, path: &str) -> u64 {
    let value = document.pointer(path).unwrap_or_else(|| panic!("{path} is not in {document}"));
    value.as_u64().unwrap_or_else(|| panic!("{path} is {value}"))
}

#[test]
fn the_document_tells_what_a_build_did() {
    let farm = Farm::new(1);
    compile(&farm, &["a", "b", "c"]);
    farm.shim(["gcc", "a.o", "b.o", "-shared", "-o", "x.so"]).expect_success("a link");
    farm.settle();
    let document = farm.status();
    assert_eq!(document["schema"], 1);
    assert_eq!((&document["running"], number(&document, "/totals/remote")), (&Value::Bool(true), 3));
    assert_eq!(number(&document, "/totals/local_reasons/not-a-compile"), 1);
    let host = &document["hosts"][0];
    let port = farm.volunteers[0].port;
    assert_eq!(host["host"], format!("127.0.0.1:{port}"));
    assert_eq!(
        (&host["state"], &host["link"], &host["security"]),
        (&"up".into(), &"tcp".into(), &"tls".into())
    );
    assert_eq!((number(host, "/done"), number(host, "/slots_used")), (3, 0));
    assert!(number(host, "/slots") >= 8, "{host}");
    assert_eq!(host["toolchains"].as_array().map(Vec::len), Some(1), "{host}");
    assert!(!host["sandbox"].as_str().unwrap_or_default().is_empty(), "{host}");
    for (wire, plain) in [("bytes_sent", "bytes_sent_plain"), ("bytes_received", "bytes_received_plain")] {
        let (wire, plain) = (
            number(&document["totals"], &format!("/{wire}")),
            number(&document["totals"], &format!("/{plain}")),
        );
        assert!(wire > 1000 && plain > wire + 1000, "{wire} bytes, {plain} before compression");
    }
    assert!(number(&document, "/totals/remote_cpu_ms") > 0 && number(&document, "/totals/client_cpu_ms") > 0);
    farm.finish();
}

#[test]
fn the_exit_status_says_whether_a_broker_runs() {
    let farm = Farm::new(0);
    for (words, said) in [
        (&["--status"][..], "no broker is running; the first compile starts one\n"),
        (&["--status", "--json"], "{\"schema\":1,\"running\":false}\n"),
        (&["--status=json"], "{\"schema\":1,\"running\":false}\n"),
    ] {
        let outcome = farm.shim(words);
        assert_eq!(
            (outcome.status.code(), String::from_utf8_lossy(&outcome.stdout).as_ref()),
            (Some(3), said)
        );
    }
    farm.shim(["gcc", "--version"]).expect_success("anything that starts a broker");
    let outcome = farm.shim(["--status", "--json"]).expect_success("status");
    let document: Value = serde_json::from_slice(&outcome.stdout).expect("a document");
    assert_eq!(document["running"], true);
    farm.finish();
}

#[test]
fn a_host_that_is_left_alone_says_why_and_for_how_long() {
    let mut farm = Farm::new(1);
    farm.volunteers[0].signal(rustix::process::Signal::KILL);
    compile(&farm, &["a"]);
    let document = farm.status();
    let host = &document["hosts"][0];
    assert!(["backed-off", "down"].contains(&host["state"].as_str().unwrap_or_default()), "{host}");
    assert!(host["why"].as_str().unwrap_or_default().contains("cannot connect"), "{host}");
    assert!(
        document["troubles"][0]["what"].as_str().unwrap_or_default().contains("cannot connect"),
        "{document}"
    );
    farm.finish();
}

#[test]
fn colours_are_for_terminals() {
    let farm = Farm::new(1);
    compile(&farm, &["a"]);
    let shown = |variables: &[(&str, &str)]| {
        let mut command = farm.command("script");
        let status = format!("{SHIM} --status");
        command.args(["-qec", &status, "/dev/null"]).env("TERM", "xterm").envs(variables.iter().copied());
        String::from_utf8_lossy(&run(command, COMMAND_MAX).expect_success("status").stdout).into_owned()
    };
    assert!(shown(&[]).contains("\x1b[32mup"), "{:?}", shown(&[]));
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!shown(&[plain]).contains('\x1b'), "{plain:?}");
    }
    assert!(shown(&[("NO_COLOR", "")]).contains('\x1b'), "an empty NO_COLOR is none");
    let piped = farm.shim(["--status"]).expect_success("status");
    assert!(!piped.stdout.contains(&0x1b));
    farm.finish();
}

#[test]
fn a_broker_that_does_not_answer_is_named_with_the_way_out() {
    use rustix::process::Signal;
    let farm = Farm::new(1);
    compile(&farm, &["a"]);
    let broker = u32::try_from(number(&farm.status(), "/pid")).expect("a process");
    signal_pid(broker, Signal::STOP);
    let said = farm.shim(["--status"]);
    signal_pid(broker, Signal::CONT);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(100), "{text}");
    assert!(text.contains(&format!("the broker (process {broker}) has not answered for 5 s")), "{text}");
    assert!(text.contains(&format!("`kill -CONT {broker}`")), "{text}");
    farm.finish();
}

#[test]
fn security_of_the_classic_protocol_is_said_to_be_none() {
    let mut farm = Farm::new(0);
    let stock = StockDaemon::start(2);
    farm.more_hosts.push(format!("127.0.0.1:{}/2", stock.port));
    compile(&farm, &["a"]);
    let host = &farm.status()["hosts"][0];
    assert_eq!((&host["link"], &host["security"]), (&"tcp classic".into(), &"classic".into()), "{host}");
    drop(stock);
    farm.finish();
}
