//! Control groups: what a job may use as a whole, where this machine lets the daemon say so.

use super::*;

/// Whether this daemon makes groups, which it has said; otherwise it has said why not.
fn has_groups(volunteer: &Volunteer) -> bool {
    let log = volunteer.log();
    let (with, without) =
        (log.contains("limited by control groups ("), log.contains("no control groups, so"));
    assert!(with != without, "{log}");
    with
}

#[test]
fn what_limits_a_job_as_a_whole_is_said() {
    let volunteer = Volunteer::start(&[]);
    let able = volunteer.abilities();
    let says_so = |sandbox: &str| sandbox.contains("control groups (") == has_groups(&volunteer);
    assert!(matches!(&able, ToBroker::Able { sandbox, .. } if says_so(sandbox)), "{able:?}");
}

#[test]
fn many_processes_have_no_more_memory_than_one_where_there_are_groups() {
    for mut volunteer in volunteers(&["--job-memory", "128"]) {
        if !has_groups(&volunteer) {
            continue;
        }
        for attack in ATTACKS {
            let attacked = attack(&volunteer, &["swarm", "40", "100"]);
            assert!(matches!(attacked.ended, Ok(Ended::Killed(libc::SIGKILL))), "{attacked:?}");
            assert_unharmed(&mut volunteer);
        }
        wait_for("the log tells of all of its memory", || volunteer.log().contains(" of-all:"));
    }
}
