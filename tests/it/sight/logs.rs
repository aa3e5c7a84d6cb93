//! Logs as JSON, and whether those of both machines name the same attempt.

use std::fs;

use serde_json::Value;

use crate::farm::{COMMAND_MAX, Farm, SHIM, VolunteerOptions, run, wait_until};

/// The lines of a log, each a document.
fn documents(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn logs_of_both_machines_name_an_attempt_by_the_same_number() {
    let farm =
        Farm::with(&[VolunteerOptions { more: &["--log-format", "json"], ..VolunteerOptions::default() }]);
    fs::write(farm.work().join("a.c"), "int x;\n").expect("our own file");
    let mut command = farm.command(SHIM);
    command.args(["gcc", "-c", "a.c"]).env("DISTCC_LOG_FORMAT", "json").env("DISTCC_VERBOSE", "1");
    run(command, COMMAND_MAX).expect_success("a compile");
    let log = fs::read_to_string(farm.home().join("broker.log")).expect("the broker's log");
    let sent = documents(&log).into_iter().find(|line| line["fields"]["message"] == "sent");
    let sent = sent.unwrap_or_else(|| panic!("nothing was sent: {log}"));
    let attempt = sent["fields"]["attempt"].as_u64().expect("a number");
    assert_eq!((&sent["span"]["name"], &sent["span"]["source"]), (&"job".into(), &"a.c".into()), "{sent}");
    assert!(sent["span"]["job"].is_u64(), "{sent}");
    wait_until("the volunteer's log names the attempt", COMMAND_MAX, || {
        let log = fs::read_to_string(farm.volunteers[0].state().with_file_name("log")).unwrap_or_default();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        documents(whole)
            .iter()
            .any(|line| line["span"]["attempt"] == attempt && line["target"] == "dcc_job_summary")
    });
    farm.finish();
}
