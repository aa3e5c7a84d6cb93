//! Hosts that are well and have no room.

use std::time::Duration;

use super::rig::Rig;
use crate::broker::scheduler::api::*;

#[test]
fn a_full_host_is_left_alone_for_a_breath_and_the_job_waits() {
    let mut rig = Rig::up(&[4]);
    rig.ready();
    assert_eq!(rig.fails(1, 0, Failure::Overloaded { why: String::new() }), "");
    assert_eq!(rig.wait(Duration::from_millis(199)), "");
    assert_eq!(rig.wait(Duration::from_millis(1)), "send 1 to 0");
}

#[test]
fn a_host_that_is_always_full_does_not_keep_a_job() {
    let mut rig = Rig::up(&[4]);
    rig.local.compile = 1;
    rig.ready();
    // It takes the slot here.
    assert_eq!(rig.fails(1, 0, Failure::Refused { why: String::new() }), "run 1: no-volunteer");
    rig.ready();
    for _ in 0..7 {
        assert_eq!(rig.fails(2, 0, Failure::Overloaded { why: String::new() }), "");
        assert_eq!(rig.wait(Duration::from_secs(6)), "send 2 to 0");
    }
    assert_eq!(rig.fails(2, 0, Failure::Overloaded { why: String::new() }), "");
    assert_eq!(rig.returns(1), "run 2: no-volunteer");
}

/// Four jobs were turned away eight times each, for a minute, while the machine they came from did nothing.
#[test]
fn a_job_that_is_turned_away_again_and_again_comes_home_where_there_is_room() {
    let mut rig = Rig::up(&[4]);
    rig.ready();
    for _ in 0..2 {
        assert_eq!(rig.fails(1, 0, Failure::Overloaded { why: String::new() }), "");
        assert_eq!(rig.wait(Duration::from_secs(1)), "send 1 to 0");
    }
    assert_eq!(rig.fails(1, 0, Failure::Overloaded { why: String::new() }), "run 1: no-volunteer");
}

#[test]
fn a_job_that_was_turned_away_goes_to_a_host_that_has_room_rather_than_home() {
    let full = || Failure::Overloaded { why: String::new() };
    let mut rig = Rig::up(&[4, 4]);
    rig.ready();
    assert_eq!(rig.fails(1, 0, full()), "send 1 to 1");
    assert_eq!(rig.fails(1, 1, full()), "");
    assert_eq!(rig.wait(Duration::from_secs(1)), "send 1 to 0");
    assert_eq!(rig.fails(1, 0, full()), "send 1 to 1", "the third time");
    assert_eq!(rig.fails(1, 1, full()), "run 1: no-volunteer");
}
