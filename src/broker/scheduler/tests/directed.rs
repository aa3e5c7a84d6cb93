//! One case for each line of the policy.

use std::time::Duration;

use super::rig::{LOCAL, Rig};
use crate::broker::scheduler::Scheduler;
use crate::broker::scheduler::api::*;
use crate::broker::scheduler::config::Config;
use crate::broker::scheduler::snapshot::{HostState, PhaseView};
use crate::common::reason::LocalReason;

fn host_failure() -> Failure {
    Failure::Host { why: "nonsense".to_owned() }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_job_goes_through_its_life() {
    let mut rig = Rig::new(&[2]);
    assert_eq!(rig.arrives(), "connect 0, prepare 1");
    assert_eq!(rig.prepared(1), "");
    assert_eq!(rig.on(Event::HostUp { host: HostId(0) }), "send 1 to 0");
    rig.now += 500_000;
    assert_eq!(rig.answered(1, 0), "take 1 of 0");
    assert_eq!(rig.delivered(1), "");
    let end = rig.scheduler.snapshot(Moment(rig.now));
    assert_eq!((end.jobs.len(), end.totals.remote, end.hosts[0].done), (0, 1, 1));
}

#[test]
fn a_job_is_tried_on_another_host_before_it_comes_home() {
    let mut rig = Rig::up(&[1, 1, 1, 1]);
    assert_eq!(rig.ready(), "send 1 to 0");
    assert_eq!(rig.fails(1, 0, host_failure()), "send 1 to 1");
    assert_eq!(rig.fails(1, 1, host_failure()), "send 1 to 2");
    assert_eq!(rig.fails(1, 2, host_failure()), "run 1: no-volunteer");
    assert_eq!(rig.scheduler.snapshot(Moment(0)).totals.retried, 2);
}

#[test]
fn a_job_that_failed_on_the_only_host_comes_home() {
    let mut rig = Rig::up(&[4]);
    rig.ready();
    assert_eq!(rig.fails(1, 0, host_failure()), "run 1: no-volunteer");
}

#[test]
fn what_may_not_run_here_is_forbidden_once_hosts_failed() {
    let mut rig = Rig::up(&[4]);
    rig.fallback = false;
    rig.ready();
    assert_eq!(rig.fails(1, 0, host_failure()), "forbid 1: no-volunteer");
    rig.hosts.clear();
    assert_eq!(rig.arrives(), "forbid 2: no-hosts");
}

#[test]
fn what_each_failure_leads_to() {
    let why = || "x".to_owned();
    for (failure, then) in [
        (host_failure(), "send 1 to 1"),
        (Failure::Overloaded { why: why() }, "send 1 to 1"),
        (Failure::NoToolchain { why: why() }, "send 1 to 1"),
        (Failure::Refused { why: why() }, "run 1: no-volunteer"),
        (Failure::Unable { why: why() }, "send 1 to 1"),
        (Failure::NoTexts { why: why() }, "send 1 to 1"),
        (Failure::Unpreparable { reason: LocalReason::PreprocessorFailed }, "run 1: preprocessor-failed"),
        (Failure::Deadline, "send 1 to 1"),
    ] {
        let mut rig = Rig::up(&[1, 1, 1]);
        rig.ready();
        assert_eq!(rig.fails(1, 0, failure.clone()), then, "{failure:?}");
    }
}

#[test]
fn a_second_deadline_brings_the_job_home() {
    let mut rig = Rig::up(&[1, 1, 1]);
    rig.ready();
    assert_eq!(rig.fails(1, 0, Failure::Deadline), "send 1 to 1");
    assert_eq!(rig.fails(1, 1, Failure::Deadline), "run 1: no-volunteer");
}

#[test]
fn a_host_without_the_toolchain_is_not_asked_again_until_it_reconnects() {
    let mut rig = Rig::up(&[4]);
    rig.ready();
    assert_eq!(rig.fails(1, 0, Failure::NoToolchain { why: String::new() }), "run 1: no-volunteer");
    assert_eq!(rig.arrives(), "run 2: no-volunteer");
    rig.goes_down(0);
    rig.on(Event::HostUp { host: HostId(0) });
    assert_eq!(rig.ready(), "send 3 to 0");
}

#[test]
fn a_text_that_no_volunteer_has_the_compiler_for_did_not_fail_to_be_distributed() {
    let no_texts = || Failure::NoTexts { why: String::new() };
    let mut rig = Rig::up(&[1, 1]);
    rig.ready();
    assert_eq!(rig.fails(1, 0, no_texts()), "send 1 to 1");
    assert_eq!(rig.fails(1, 1, no_texts()), "run 1: no-text-compiler");
    // Other jobs of the toolchain may come as files.
    assert_eq!(rig.ready(), "send 2 to 0");
    assert_eq!(rig.fails(2, 0, no_texts()), "send 2 to 1");
    assert_eq!(rig.fails(2, 1, host_failure()), "run 2: no-volunteer");
}

#[test]
fn a_host_that_reconnects_is_not_asked_again_for_a_job_that_it_declined() {
    let mut rig = Rig::up(&[4, 1]);
    rig.ready();
    assert_eq!(rig.ready(), "send 2 to 1");
    assert_eq!(rig.fails(1, 0, Failure::NoToolchain { why: String::new() }), "");
    rig.goes_down(0);
    assert_eq!(rig.on(Event::HostUp { host: HostId(0) }), "");
    assert_eq!(rig.answered(2, 1), "take 2 of 1, send 1 to 1");
}

#[test]
fn jobs_wait_for_connections_three_seconds_and_then_run_here() {
    let mut rig = Rig::new(&[2, 2]);
    assert_eq!(rig.arrives(), "connect 0, connect 1, prepare 1");
    assert_eq!(rig.wait(SECOND * 2), "");
    assert_eq!(rig.wait(SECOND), "stop preparing 1, run 1: no-volunteer");
    assert_eq!(rig.arrives(), "run 2: no-volunteer");
    assert_eq!(rig.on(Event::HostUp { host: HostId(1) }), "");
    assert_eq!(rig.ready(), "send 3 to 1");
}

#[test]
fn hosts_that_are_all_down_send_everything_home_at_once() {
    let mut rig = Rig::new(&[2, 2]);
    assert_eq!(rig.arrives(), "connect 0, connect 1, prepare 1");
    assert_eq!(rig.goes_down(0), "0 is backed off");
    assert_eq!(rig.goes_down(1), "1 is backed off, stop preparing 1, run 1: no-volunteer");
    assert_eq!(rig.arrives(), "run 2: no-volunteer");
    assert_eq!(rig.arrives(), "", "the third waits for one of two compile slots");
    assert_eq!(rig.returns(1), "run 3: no-volunteer");
}

#[test]
fn back_off_grows_with_jitter_up_to_a_minute_and_is_told_once() {
    let mut rig = Rig::new(&[2]);
    rig.arrives();
    assert_eq!(rig.goes_down(0), "0 is backed off, stop preparing 1, run 1: no-volunteer");
    for expected in [1, 2, 4, 8, 16, 32, 48, 48, 48] {
        let least = SECOND * expected;
        assert_eq!(rig.wait(least - SECOND / 1000), "", "{expected} s");
        assert_eq!(rig.wait(least / 4 + SECOND / 100), "connect 0", "{expected} s");
        assert_eq!(rig.goes_down(0), "");
    }
}

#[test]
fn a_volunteer_that_was_away_is_used_again_within_seconds() {
    let mut rig = Rig::new(&[2]);
    rig.arrives();
    assert_eq!(rig.is_not_there(0), "0 is backed off, stop preparing 1, run 1: no-volunteer");
    for expected in [1000, 2000, 2400, 2400, 2400, 2400] {
        let least = SECOND * expected / 1000;
        assert_eq!(rig.wait(least - SECOND / 1000), "", "{expected} ms");
        assert_eq!(rig.wait(least / 4 + SECOND / 100), "connect 0", "{expected} ms");
        assert_eq!(rig.is_not_there(0), "");
    }
    // Whoever is there again and fails is no better known than one that failed three times.
    rig.wait(SECOND * 3);
    assert_eq!(rig.goes_down(0), "");
    assert_eq!(rig.wait(SECOND * 4 - SECOND / 1000), "");
    assert_eq!(rig.wait(SECOND + SECOND / 100), "connect 0");
}

#[test]
fn a_host_that_nobody_wants_is_not_probed() {
    let mut rig = Rig::new(&[2]);
    rig.arrives();
    rig.goes_down(0);
    rig.returns(1);
    assert_eq!(rig.wait(SECOND * 1000), "");
    assert_eq!(rig.arrives(), "connect 0, run 2: no-volunteer");
    assert_eq!(rig.on(Event::HostUp { host: HostId(0) }), "");
    assert_eq!(rig.ready(), "send 3 to 0");
}

#[test]
fn a_host_that_was_backed_off_gets_one_job_until_it_answers() {
    let mut rig = Rig::new(&[4]);
    rig.arrives();
    rig.goes_down(0);
    rig.on(Event::HostUp { host: HostId(0) });
    assert_eq!(rig.ready(), "send 2 to 0");
    assert_eq!(rig.ready(), "");
    rig.now += 1_000_000;
    assert_eq!(rig.answered(2, 0), "take 2 of 0, send 3 to 0");
    assert_eq!(rig.ready(), "send 4 to 0");
}

#[test]
fn two_failures_in_a_row_on_a_live_link_back_the_host_off() {
    let mut rig = Rig::up(&[4, 1]);
    rig.ready();
    rig.ready();
    rig.ready();
    assert_eq!(rig.fails(1, 0, host_failure()), "");
    assert_eq!(rig.fails(3, 0, host_failure()), "0 is backed off");
    let view = rig.scheduler.snapshot(Moment(rig.now)).hosts.remove(0);
    assert!(matches!(view.state, HostState::BackedOff { .. }), "{view:?}");
    rig.fallback = false;
    assert_eq!(rig.ready(), "", "the other host is full");
    assert_eq!(rig.wait(SECOND * 2), "send 4 to 0", "one on trial");
}

#[test]
fn attempts_on_a_host_that_went_down_are_not_left_behind() {
    let mut rig = Rig::up(&[2, 1]);
    rig.ready();
    rig.ready();
    assert_eq!(rig.goes_down(0), "0 is backed off");
    assert_eq!(rig.answered(1, 0), "", "late");
    assert_eq!(rig.answered(2, 1), "take 2 of 1, send 1 to 1");
}

#[test]
fn an_idle_farm_is_filled_breadth_first_in_the_users_order() {
    let mut rig = Rig::up(&[2, 4, 2]);
    let said: Vec<String> = (0..8).map(|_| rig.ready()).collect();
    let hosts: Vec<&str> = said.iter().map(|words| &words[words.len() - 1..]).collect();
    assert_eq!(hosts.join(""), "01210121");
    assert_eq!(rig.ready(), "", "all are full");
}

#[test]
fn with_one_job_at_a_time_the_first_host_is_used() {
    let mut rig = Rig::up(&[2, 2]);
    for job in 1..20 {
        assert_eq!(rig.ready(), format!("send {job} to 0"));
        rig.now += 1_000_000 + job % 3 * 50_000;
        rig.answered(job, 0);
        rig.delivered(job);
    }
}

#[test]
fn credit_and_the_list_both_bound_the_jobs_of_a_host() {
    for (listed, credit, sent) in [(3, 8, 3), (8, 3, 3), (3, 0, 0), (2, 2, 2)] {
        let mut rig = Rig::up(&[listed]);
        rig.local.preprocess = 20;
        rig.on(Event::Credit { host: HostId(0), jobs: credit });
        let said: Vec<String> = (0..6).map(|_| rig.ready()).collect();
        let count = said.iter().filter(|words| words.starts_with("send")).count();
        assert_eq!(count, sent, "/{listed} with a credit of {credit}");
    }
}

#[test]
fn a_host_that_grants_nothing_does_not_keep_jobs() {
    let mut rig = Rig::up(&[4]);
    rig.on(Event::Credit { host: HostId(0), jobs: 0 });
    assert_eq!(rig.ready(), "");
    assert_eq!(rig.wait(SECOND * 3), "run 1: no-volunteer");
}

#[test]
fn a_paused_host_keeps_what_runs_and_nobody_waits_for_it_or_blames_it() {
    let mut rig = Rig::up(&[4, 4]);
    let zero = HostId(0);
    assert_eq!(rig.ready(), "send 1 to 0");
    assert_eq!(rig.on(Event::Paused { host: zero }), "");
    assert_eq!(rig.ready(), "send 2 to 1");
    // One that was under way when the owner paused it.
    let full = Failure::Overloaded { why: "paused by its owner".to_owned() };
    assert_eq!(rig.on(Event::Failed { job: JobId(1), host: zero, failure: full }), "send 1 to 1");
    rig.on(Event::Paused { host: HostId(1) });
    assert_eq!(rig.arrives(), "run 3: no-volunteer", "nobody is left to wait for");
    assert_eq!(rig.answered(2, 1), "take 2 of 1");
    let states: Vec<HostState> =
        rig.scheduler.snapshot(Moment(rig.now)).hosts.into_iter().map(|view| view.state).collect();
    assert_eq!(states, [HostState::Paused, HostState::Paused]);
    // The number that goes with it opens nothing.
    rig.on(Event::Credit { host: zero, jobs: 0 });
    assert_eq!(rig.arrives(), "run 4: no-volunteer");
    rig.on(Event::Credit { host: zero, jobs: 2 });
    assert_eq!(rig.ready(), "send 5 to 0", "at once");
}

#[test]
fn a_host_is_sent_no_more_than_its_rate() {
    let mut rig = Rig::up(&[4]);
    rig.scheduler = Scheduler::new(Config { sends_per_second: 1, ..Config::default() }, 1);
    rig.on(Event::HostUp { host: HostId(0) });
    rig.on(Event::Credit { host: HostId(0), jobs: 2 });
    rig.now = 10_000_000;
    assert_eq!((rig.ready(), rig.ready()), ("send 1 to 0".to_owned(), "send 2 to 0".to_owned()));
    rig.answered(1, 0);
    assert_eq!(rig.ready(), "");
    assert_eq!(rig.wait(SECOND - SECOND / 1000), "");
    assert_eq!(rig.wait(SECOND / 1000), "send 3 to 0");
}

#[test]
fn preparing_runs_ahead_of_free_slots_only_so_far() {
    let mut rig = Rig::up(&[2]);
    rig.local = LocalSlots { preprocess: 2, compile: 1, ..LOCAL };
    rig.fallback = false;
    for (job, said) in [(1, "send 1 to 0"), (2, "send 2 to 0"), (3, ""), (4, "")] {
        assert_eq!((rig.arrives(), rig.prepared(job)), (format!("prepare {job}"), said.to_owned()));
    }
    assert_eq!(rig.arrives(), "", "two are ready already, and no slot is free");
    assert_eq!(rig.answered(1, 0), "take 1 of 0, send 3 to 0, prepare 5");
}

#[test]
fn no_more_are_prepared_at_once_than_there_are_slots() {
    let mut rig = Rig::up(&[20]);
    let said: Vec<String> = (0..6).map(|_| rig.arrives()).collect();
    assert_eq!(said.join(" "), "prepare 1 prepare 2 prepare 3 prepare 4  ");
    assert_eq!(rig.prepared(2), "send 2 to 0, prepare 5");
}

#[test]
fn sixty_four_jobs_that_fall_back_at_once_take_turns() {
    let mut rig = Rig::new(&[64]);
    rig.local.preprocess = 64;
    rig.arrives();
    rig.on(Event::HostUp { host: HostId(0) });
    (1..64).for_each(|_| drop(rig.arrives()));
    (1..=64).for_each(|job| drop(rig.prepared(job)));
    let said = rig.goes_down(0);
    assert_eq!(said.matches("run ").count(), 2, "{said}");
    let mut ran: Vec<u64> = vec![1, 2];
    for turn in 0..62 {
        let said = rig.returns(ran[turn]);
        let job = said.strip_prefix("run ").and_then(|rest| rest.strip_suffix(": no-volunteer"));
        ran.push(job.and_then(|job| job.parse().ok()).unwrap_or_else(|| panic!("{said}")));
    }
    assert_eq!(ran, (1..=64).collect::<Vec<u64>>());
}

#[test]
fn jobs_that_cannot_leave_take_link_slots_in_turn() {
    let mut rig = Rig::up(&[1]);
    let link = |job, build| Event::ArrivedLocal {
        job: JobId(job),
        build: BuildId(build),
        local: LOCAL,
        reason: LocalReason::NotACompile,
    };
    assert_eq!(rig.on(link(101, 1)), "run 101: not-a-compile");
    assert_eq!((rig.on(link(102, 1)), rig.on(link(103, 1))), (String::new(), String::new()));
    assert_eq!(rig.on(link(201, 2)), "");
    assert_eq!(rig.returns(101), "run 201: not-a-compile", "the other build's turn");
    assert_eq!(rig.on(Event::ShimGone { job: JobId(102) }), "");
    assert_eq!(rig.returns(201), "run 103: not-a-compile");
}

#[test]
fn a_listed_localhost_takes_what_hosts_cannot() {
    let mut rig = Rig::up(&[1]);
    rig.local.listed = 2;
    assert_eq!(rig.ready(), "send 1 to 0");
    assert_eq!(rig.arrives(), "run 2: localhost-listed");
    assert_eq!(rig.arrives(), "run 3: localhost-listed");
    assert_eq!(rig.arrives(), "prepare 4");
}

#[test]
fn a_list_of_localhost_alone_bounds_what_runs_here() {
    let mut rig = Rig::new(&[]);
    rig.local = LocalSlots { compile: 9, listed: 1, ..LOCAL };
    assert_eq!((rig.arrives(), rig.arrives()), ("run 1: localhost-listed".to_owned(), String::new()));
    assert_eq!(rig.returns(1), "run 2: localhost-listed");
}

#[test]
fn an_unusable_answer_is_compiled_here_and_counted() {
    let mut rig = Rig::up(&[1]);
    rig.ready();
    rig.answered(1, 0);
    let reason = LocalReason::RemoteDiagnostics;
    assert_eq!(rig.on(Event::Unusable { job: JobId(1), reason }), "run 1: remote-diagnostics");
    let totals = rig.scheduler.snapshot(Moment(0)).totals;
    assert_eq!((totals.remote, rig.local_count("remote-diagnostics")), (0, 1));
}

#[test]
fn what_cannot_be_prepared_runs_here() {
    let mut rig = Rig::up(&[1]);
    rig.arrives();
    let reason = LocalReason::PreprocessorFailed;
    assert_eq!(rig.on(Event::Unpreparable { job: JobId(1), reason }), "run 1: preprocessor-failed");
}

#[test]
fn a_shim_that_goes_away_leaves_nothing_in_any_phase() {
    let gone = |rig: &mut Rig| rig.on(Event::ShimGone { job: JobId(1) });
    let mut rig = Rig::up(&[1]);
    rig.arrives();
    assert_eq!(gone(&mut rig), "stop preparing 1");
    let mut rig = Rig::up(&[1]);
    rig.ready();
    assert_eq!(rig.ready(), "");
    assert_eq!(gone(&mut rig), "cancel 1 on 0, send 2 to 0");
    let mut rig = Rig::up(&[1]);
    rig.ready();
    rig.answered(1, 0);
    assert_eq!((gone(&mut rig), rig.delivered(1)), (String::new(), String::new()));
    let mut rig = Rig::new(&[]);
    assert_eq!((rig.arrives(), rig.arrives()), ("run 1: no-hosts".to_owned(), "run 2: no-hosts".to_owned()));
    assert_eq!(rig.arrives(), "");
    assert_eq!(gone(&mut rig), "run 3: no-hosts");
}

#[test]
fn late_events_of_unknown_jobs_and_hosts_change_nothing() {
    let mut rig = Rig::up(&[1]);
    let said = [
        rig.prepared(9),
        rig.answered(9, 0),
        rig.answered(9, 77),
        rig.delivered(9),
        rig.returns(9),
        rig.fails(9, 0, host_failure()),
        rig.on(Event::ShimGone { job: JobId(9) }),
        rig.on(Event::Unusable { job: JobId(9), reason: LocalReason::RemoteKilled }),
    ];
    assert!(said.iter().all(String::is_empty), "{said:?}");
    assert_eq!(rig.ready(), "send 1 to 0");
    assert_eq!(rig.returns(1) + &rig.delivered(1) + &rig.prepared(1), "", "not in that phase");
}

#[test]
fn draining_sends_home_what_waits_and_lets_running_attempts_finish() {
    let mut rig = Rig::up(&[1]);
    rig.local.compile = 9;
    rig.ready();
    rig.ready();
    rig.arrives();
    let said = rig.on(Event::Drain);
    assert_eq!(said, "stop preparing 3, run 2: draining, run 3: draining");
    assert_eq!(rig.arrives(), "run 4: draining");
    assert_eq!(rig.answered(1, 0), "take 1 of 0");
}

#[test]
fn builds_take_turns_at_hosts() {
    let mut rig = Rig::up(&[1]);
    rig.local.preprocess = 20;
    rig.fallback = false;
    rig.ready();
    (0..4).for_each(|_| assert_eq!(rig.ready(), ""));
    rig.build = 2;
    (0..2).for_each(|_| assert_eq!(rig.ready(), ""));
    let mut order = Vec::new();
    let mut job = 1;
    for _ in 0..6 {
        let said = rig.answered(job, 0);
        job = said.split("send ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap();
        order.push(job);
    }
    assert_eq!(order, [6, 2, 7, 3, 4, 5]);
}

#[test]
fn a_snapshot_tells_where_each_job_stands() {
    let mut rig = Rig::up(&[1]);
    rig.ready();
    rig.ready();
    rig.arrives();
    rig.now = 5_000_000;
    let view = rig.scheduler.snapshot(Moment(rig.now));
    let phases: Vec<PhaseView> = view.jobs.iter().map(|job| job.phase.clone()).collect();
    let remote = PhaseView::Remote { host: HostId(0), hedge: None };
    assert_eq!(phases, [remote, PhaseView::Ready, PhaseView::Preparing]);
    assert_eq!((view.jobs[0].age, view.hosts[0].used), (SECOND * 5, 1));
}
