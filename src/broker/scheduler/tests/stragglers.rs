//! Deadlines, hedging, overtaking and overflow, once durations are known.

use std::time::Duration;

use super::rig::Rig;
use crate::broker::scheduler::api::*;

const SECOND: Duration = Duration::from_secs(1);

/// Task 7 is known to take a second, here and on hosts.
fn learned(slots: &[u32]) -> Rig {
    let mut rig = Rig::up(slots);
    rig.task = Some(7);
    for job in 1..=12 {
        assert_eq!(rig.ready(), format!("send {job} to 0"));
        rig.now += 1_000_000;
        rig.answered(job, 0);
        rig.delivered(job);
    }
    rig
}

#[test]
fn a_straggler_is_sent_to_a_second_host_and_the_first_answer_wins() {
    for (winner, loser) in [(0, 1), (1, 0)] {
        let mut rig = learned(&[1, 1]);
        assert_eq!(rig.ready(), "send 13 to 0");
        assert_eq!(rig.wait(SECOND * 2), "");
        assert_eq!(rig.wait(SECOND * 3), "send 13 to 1");
        assert_eq!(rig.answered(13, winner), format!("cancel 13 on {loser}, take 13 of {winner}"));
        assert_eq!(rig.answered(13, loser), "");
        assert_eq!(rig.scheduler.snapshot(Moment(rig.now)).totals.hedged, 1);
    }
}

#[test]
fn a_hedged_job_survives_the_failure_of_either_host() {
    let mut rig = learned(&[1, 1, 1]);
    rig.ready();
    assert_eq!(rig.wait(SECOND * 5), "send 13 to 1");
    let failure = Failure::Host { why: "gone".to_owned() };
    assert_eq!(rig.fails(13, 0, failure.clone()), "");
    assert_eq!(rig.fails(13, 1, failure), "send 13 to 2");
}

#[test]
fn a_straggler_with_no_other_host_is_overtaken_here() {
    let mut rig = learned(&[1]);
    rig.ready();
    assert_eq!(rig.wait(SECOND * 7), "");
    assert_eq!(rig.wait(SECOND), "cancel 13 on 0, run 13: straggler");
    assert_eq!(rig.answered(13, 0), "");
    assert_eq!(rig.local_count("straggler"), 1);
}

#[test]
fn while_its_compiler_is_on_the_way_to_a_host_a_job_is_done_here_where_there_is_room() {
    let mut rig = Rig::up(&[3]);
    rig.local.compile = 1;
    for job in 1..=3 {
        assert_eq!(rig.ready(), format!("send {job} to 0"));
    }
    let (job, host) = (|number| JobId(number), HostId(0));
    assert_eq!(rig.on(Event::Awaits { job: job(1), host }), "cancel 1 on 0, run 1: toolchain-underway");
    assert_eq!(rig.on(Event::Awaits { job: job(2), host }), "");
    assert_eq!(rig.on(Event::Awaits { job: job(3), host }), "");
    assert_eq!(rig.wait(SECOND * 30), "");
    assert_eq!(rig.returns(1), "");
    let said = rig.wait(SECOND);
    assert!(said.starts_with("cancel ") && said.matches("toolchain-underway").count() == 1, "{said}");
    // What is there is not waited for any more, and that it took so long is no slowness.
    let last = if said.contains("run 2") { 3 } else { 2 };
    assert_eq!(rig.on(Event::Begins { job: job(last), host }), "");
    rig.returns(5 - last);
    assert_eq!(rig.wait(SECOND), "");
    assert_eq!(rig.answered(last, 0), format!("take {last} of 0"));
    assert_eq!(rig.local_count("toolchain-underway"), 2);
}

#[test]
fn a_large_file_that_was_never_seen_is_left_where_it_is_for_two_minutes() {
    let mut rig = learned(&[1]);
    rig.task = Some(99);
    rig.ready();
    assert_eq!(rig.wait(SECOND * 115), "");
    assert_eq!(rig.wait(SECOND * 20), "cancel 13 on 0, run 13: straggler");
}

#[test]
fn a_straggler_waits_for_what_was_not_sent_yet() {
    let mut rig = learned(&[1, 1]);
    rig.local.compile = 1;
    rig.ready();
    rig.ready();
    rig.ready();
    assert_eq!(rig.answered(14, 1), "take 14 of 1, send 15 to 1");
    assert_eq!(rig.wait(SECOND), "");
}

#[test]
fn a_first_build_gives_a_compile_ten_minutes_and_a_known_one_a_minute_or_eight_times_as_long() {
    for (task, took, least, most) in
        [(None, 1, 600, 600), (Some(7), 1, 60, 60), (Some(8), 100, 700, 900), (Some(9), 1000, 1800, 1800)]
    {
        let mut rig = Rig::up(&[1]);
        rig.task = task;
        let mut found = Duration::ZERO;
        for job in 1..=3 {
            rig.arrives();
            let mut actions = Vec::new();
            rig.scheduler.handle(Moment(rig.now), Event::Prepared { job: JobId(job) }, &mut actions);
            let Some(Action::Send { deadline, .. }) = actions.pop() else { panic!("{task:?}") };
            found = deadline;
            rig.now += took * 1_000_000;
            let compile = SECOND * took as u32;
            rig.on(Event::Answered { job: JobId(job), host: HostId(0), compile });
            rig.delivered(job);
        }
        assert!((least..=most).contains(&found.as_secs()), "{task:?}: {found:?}");
    }
}

#[test]
fn the_last_of_a_long_queue_compiles_here() {
    let mut rig = learned(&[1]);
    rig.local.preprocess = 1;
    let said: Vec<String> = (0..8).map(|_| rig.arrives()).collect();
    assert_eq!(said[0], "prepare 13");
    let here: Vec<&String> = said.iter().filter(|words| words.contains("sooner")).collect();
    assert_eq!(here.len(), 2, "{said:?}");
    assert_eq!(*here[0], "run 19: sooner", "{said:?}");
}

#[test]
fn hosts_that_a_busy_client_makes_look_slow_do_not_bring_jobs_home() {
    let mut rig = Rig::up(&[4]);
    // Small files first, then large ones: all that is seen is that everything takes longer now.
    for (job, seconds) in (1..=40).map(|job| (job, if job <= 10 { 1 } else { 30 })) {
        assert_eq!(rig.ready(), format!("send {job} to 0"));
        rig.now += seconds * 1_000_000;
        rig.answered(job, 0);
        rig.delivered(job);
    }
    for _ in 0..12 {
        let said = rig.arrives();
        assert!(!said.contains("sooner"), "{said}");
    }
}
