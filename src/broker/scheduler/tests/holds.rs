//! Hosts that the user drains, excludes and lets go again.

use std::time::Duration;

use super::rig::Rig;
use crate::broker::scheduler::api::*;
use crate::broker::scheduler::snapshot::HostState;

fn hold(rig: &mut Rig, host: u32, hold: Hold) -> String {
    rig.on(Event::Hold { host: HostId(host), hold })
}

#[test]
fn a_drained_host_finishes_what_it_has_and_gets_no_more() {
    let mut rig = Rig::up(&[4, 1]);
    assert_eq!(rig.ready(), "send 1 to 0");
    assert_eq!(hold(&mut rig, 0, Hold::Drained), "");
    assert_eq!(rig.ready(), "send 2 to 1");
    assert_eq!(rig.ready(), "");
    assert_eq!(rig.answered(1, 0), "take 1 of 0");
    assert_eq!(rig.answered(2, 1), "take 2 of 1, send 3 to 1");
}

#[test]
fn an_excluded_host_loses_its_jobs_to_others() {
    let mut rig = Rig::up(&[4, 1]);
    assert_eq!(rig.ready(), "send 1 to 0");
    assert_eq!(rig.ready(), "send 2 to 1");
    assert_eq!(rig.ready(), "send 3 to 0");
    assert_eq!(hold(&mut rig, 0, Hold::Excluded), "cancel 1 on 0, cancel 3 on 0");
    assert_eq!(rig.answered(2, 1), "take 2 of 1, send 1 to 1");
    assert_eq!(rig.answered(1, 1), "take 1 of 1, send 3 to 1");
    let host = &rig.scheduler.snapshot(Moment(rig.now)).hosts[0];
    assert_eq!((host.hold, host.used, &host.state), (Hold::Excluded, 0, &HostState::Up));
}

#[test]
fn jobs_of_the_only_host_run_here_once_it_is_excluded_and_none_waits_for_it() {
    let mut rig = Rig::up(&[1]);
    assert_eq!(rig.ready(), "send 1 to 0");
    assert_eq!(rig.ready(), "");
    assert_eq!(hold(&mut rig, 0, Hold::Excluded), "cancel 1 on 0, run 1: no-volunteer, run 2: no-volunteer");
    // Two compiles at once are what this machine takes.
    assert_eq!(rig.arrives(), "");
    assert_eq!(rig.returns(1), "run 3: no-volunteer");
}

#[test]
fn a_host_that_is_let_go_gets_jobs_at_once() {
    let mut rig = Rig::up(&[1, 1]);
    assert_eq!(hold(&mut rig, 0, Hold::Drained), "");
    assert_eq!(rig.ready(), "send 1 to 1");
    assert_eq!(rig.ready(), "");
    assert_eq!(hold(&mut rig, 0, Hold::Free), "send 2 to 0");
}

#[test]
fn a_drained_host_can_still_be_excluded() {
    let mut rig = Rig::up(&[2]);
    assert_eq!(rig.ready(), "send 1 to 0");
    assert_eq!(hold(&mut rig, 0, Hold::Drained), "");
    assert_eq!(hold(&mut rig, 0, Hold::Excluded), "cancel 1 on 0, run 1: no-volunteer");
}

#[test]
fn a_hold_outlives_the_connection() {
    let mut rig = Rig::up(&[2]);
    hold(&mut rig, 0, Hold::Drained);
    rig.goes_down(0);
    rig.wait(Duration::from_secs(60));
    rig.on(Event::HostUp { host: HostId(0) });
    assert_eq!(rig.arrives(), "run 1: no-volunteer");
    hold(&mut rig, 0, Hold::Free);
    assert_eq!(rig.ready(), "send 2 to 0");
}

#[test]
fn a_host_that_lied_is_not_let_go_by_the_user() {
    let mut rig = Rig::up(&[2]);
    hold(&mut rig, 0, Hold::Distrusted);
    hold(&mut rig, 0, Hold::Free);
    assert_eq!(rig.scheduler.hold_of(HostId(0)), Hold::Distrusted);
    assert_eq!(rig.arrives(), "run 1: no-volunteer");
}

#[test]
fn a_host_that_is_let_go_is_forgiven() {
    let mut rig = Rig::up(&[2]);
    rig.goes_down(0);
    assert_eq!(rig.arrives(), "run 1: no-volunteer", "it is left alone for a while");
    assert_eq!(hold(&mut rig, 0, Hold::Free), "connect 0", "for the build that goes on");
    assert_eq!(rig.arrives(), "prepare 2");
    assert_eq!(rig.prepared(2), "", "worth waiting for, as if it had never failed");
    assert_eq!(rig.on(Event::HostUp { host: HostId(0) }), "send 2 to 0");
}
