//! Keys: who is let in, who is not, and how two get to know each other.

use std::fs;
use std::path::Path;

use distcc::common::trust::files;

use crate::farm::{COMMAND_MAX, Farm, Outcome, SHIM, VOLUNTEER, run, wait_until};

mod crowds;
mod neighbours;
mod strangers;

/// The longest that a change of a list may take until it counts for links that are up.
const REVOKED_MAX: std::time::Duration = std::time::Duration::from_secs(10);

fn compile(farm: &Farm, name: &str) -> Outcome {
    fs::write(farm.work().join(format!("{name}.c")), format!("int {name};\n")).expect("our own file");
    farm.shim(["gcc", "-c", &format!("{name}.c")]).expect_success("a compile")
}

fn stderr(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.stderr).into_owned()
}

fn stdout(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.stdout).trim().to_owned()
}

/// The client's list of volunteers.
fn known(farm: &Farm) -> std::path::PathBuf {
    farm.home().join("keys/known_volunteers")
}

fn authorized(farm: &Farm) -> std::path::PathBuf {
    farm.volunteers[0].state().join("authorized_keys")
}

fn replace(path: &Path, text: &str) {
    files::edit(path, 1 << 20, |_| text.to_owned()).expect("a list of our own");
}

/// The one volunteer, in the broker's status.
fn host(farm: &Farm) -> serde_json::Value {
    farm.status()["hosts"][0].clone()
}

/// `distccd` with these words, about this volunteer's keys.
fn daemon_says(farm: &Farm, words: &[&str]) -> Outcome {
    let mut command = farm.command(VOLUNTEER);
    if rustix::process::geteuid().is_root() {
        command.args(["--user", "root"]);
    }
    command.args(words).arg("--state-dir").arg(farm.volunteers[0].state());
    run(command, COMMAND_MAX)
}

#[test]
fn a_code_makes_two_know_each_other_once() {
    let farm = Farm::new(1);
    replace(&known(&farm), "");
    replace(&authorized(&farm), "");
    let shown = daemon_says(&farm, &["--pair"]).expect_success("distccd --pair");
    let command = stdout(&shown);
    let code = command.strip_prefix("distcc --pair ").expect("a command to be typed");
    let paired = farm.shim(["--pair", code]).expect_success("distcc --pair");
    let port = farm.volunteers[0].port;
    assert!(stdout(&paired).starts_with(&format!("paired with 127.0.0.1:{port} ")), "{paired:?}");
    compile(&farm, "a");
    assert_eq!(farm.total("remote"), 1, "{}", farm.status());
    assert_eq!(host(&farm)["security"], "tls");
    let again = farm.shim(["--pair", code]);
    assert!(!again.status.success() && stderr(&again).contains("it was used already"), "{again:?}");
    assert_eq!(fs::read_to_string(authorized(&farm)).expect("a list").lines().count(), 1);
    farm.finish();
}

#[test]
fn a_volunteer_that_was_left_alone_is_tried_at_once_when_it_is_paired() {
    let farm = Farm::new(1);
    replace(&known(&farm), "");
    replace(&authorized(&farm), "");
    let code = stdout(&daemon_says(&farm, &["--pair"]).expect_success("distccd --pair"));
    let mut command = farm.command(SHIM);
    fs::write(farm.work().join("a.c"), "int a;\n").expect("our own file");
    // It would be left alone for longer than any test takes.
    command.args(["gcc", "-c", "a.c"]).env("DISTCC_BACKOFF_PERIOD", "3600");
    run(command, COMMAND_MAX).expect_success("a compile");
    assert_eq!(host(&farm)["state"], "backed-off", "{}", farm.status());
    let code = code.strip_prefix("distcc --pair ").expect("a command to be typed");
    farm.shim(["--pair", code]).expect_success("distcc --pair");
    compile(&farm, "b");
    assert_eq!((farm.total("remote"), farm.total("local")), (1, 1), "{}", farm.status());
    farm.finish();
}

#[test]
fn a_volunteer_that_is_not_known_is_not_used_and_the_remedy_is_named() {
    let farm = Farm::new(1);
    replace(&known(&farm), "");
    let said = stderr(&compile(&farm, "a"));
    let theirs = files::secret(&farm.volunteers[0].state().join("volunteer.key")).expect("a key").public();
    let ours = files::secret(&farm.home().join("keys/client.key")).expect("a key").public();
    for word in [&theirs.fingerprint(), &ours.fingerprint(), "127.0.0.1", "distcc --pair CODE"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!((farm.total("remote"), farm.total("local")), (0, 1), "{}", farm.status());
    assert!(host(&farm)["why"].as_str().is_some_and(|why| why.contains("not known here")), "{}", host(&farm));
    let shown = stdout(&farm.shim(["--status"]));
    assert!(shown.contains(&theirs.fingerprint()), "{shown}");
    farm.finish();
}

#[test]
fn a_volunteer_whose_key_has_changed_is_not_used() {
    let farm = Farm::new(1);
    let other = files::secret(&farm.work().join("other.key")).expect("a key").public();
    replace(&known(&farm), &format!("127.0.0.1:{} {other}\n", farm.volunteers[0].port));
    let said = stderr(&compile(&farm, "a"));
    let theirs = files::secret(&farm.volunteers[0].state().join("volunteer.key")).expect("a key").public();
    for word in ["another key", &other.fingerprint(), &theirs.fingerprint(), "known_volunteers"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!((farm.total("remote"), farm.total("local")), (0, 1), "{}", farm.status());
    farm.finish();
}

#[test]
fn a_client_that_is_not_authorised_learns_how_to_be() {
    let farm = Farm::new(1);
    replace(&authorized(&farm), "# nobody\n");
    let said = stderr(&compile(&farm, "a"));
    assert!(said.contains("does not authorise this client's key"), "{said}");
    assert_eq!((farm.total("remote"), farm.total("local")), (0, 1), "{}", farm.status());
    let log = farm.volunteers[0].log();
    assert!(!log.contains("link up"), "{log}");
    farm.finish();
}

#[test]
fn a_key_that_is_revoked_loses_its_link_and_its_jobs_within_seconds() {
    let farm = Farm::new(1);
    compile(&farm, "a");
    assert_eq!(farm.total("remote"), 1, "{}", farm.status());
    let list = fs::read_to_string(authorized(&farm)).expect("a list");
    replace(&authorized(&farm), "");
    wait_until("the link is closed", REVOKED_MAX, || {
        farm.volunteers[0].log().contains("the client's key is not authorised any more")
    });
    compile(&farm, "b");
    assert_eq!(farm.total("remote"), 1, "{}", farm.status());
    replace(&authorized(&farm), &list);
    wait_until("it is served again", REVOKED_MAX, || {
        compile(&farm, "c");
        farm.total("remote") > 1
    });
    farm.finish();
}

#[test]
fn keys_are_shown_and_certificates_made() {
    let farm = Farm::new(1);
    let ours = files::secret(&farm.home().join("keys/client.key")).expect("a key").public().to_string();
    assert_eq!(stdout(&farm.shim(["--key"])), ours);
    let theirs = files::secret(&farm.volunteers[0].state().join("volunteer.key")).expect("a key").public();
    assert_eq!(stdout(&daemon_says(&farm, &["--key"])), theirs.to_string());
    let farm_key = stdout(&farm.shim(["--farm-key"]));
    let over = farm.shim(["--sign-key", &ours, "ann", "2020-01-01"]);
    assert!(!over.status.success() && stderr(&over).contains("2020-01-01 is over"), "{over:?}");
    let certificate = stdout(&farm.shim(["--sign-key", &ours, "ann"]));
    replace(&authorized(&farm), &format!("farm {farm_key} ours\n"));
    compile(&farm, "a");
    assert_eq!(farm.total("remote"), 0, "{}", farm.status());
    replace(&farm.home().join("keys/certificates"), &format!("{certificate}\n"));
    wait_until("the certificate lets it in", REVOKED_MAX, || {
        compile(&farm, "b");
        farm.total("remote") > 0
    });
    assert!(farm.volunteers[0].log().contains("ann ("), "{}", farm.volunteers[0].log());
    farm.shim(["--stop"]);
    farm.finish();
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    let farm = Farm::new(1);
    let path = farm.home().join("keys/client.key");
    rustix::fs::chmod(&path, rustix::fs::Mode::from_bits_retain(0o644)).expect("our own file");
    let refused = farm.command(SHIM).arg("--key").output().expect("a shim");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("chmod 600"), "{said}");
    assert!(stderr(&compile(&farm, "a")).contains("chmod 600"));
    assert_eq!(farm.total("local"), 1, "{}", farm.status());
    farm.finish();
}
