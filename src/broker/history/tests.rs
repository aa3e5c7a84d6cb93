use std::time::Duration;

use super::*;

const JOB: JobId = JobId(1);
const HOST: HostId = HostId(0);

fn at(ms: u64) -> Moment {
    Moment(ms * 1000)
}

fn arrived() -> History {
    let mut history = History::default();
    history.arrived(at(0), JOB, 7, "a.c", None);
    history
}

fn only(history: &History) -> Record {
    assert_eq!(history.done.len(), 1);
    assert!(history.live.is_empty());
    assert_eq!((history.level.waiting, history.level.remote, history.level.here), (0, 0, 0));
    (*history.done[0]).clone()
}

#[test]
fn a_remote_job_is_recorded_from_end_to_end() {
    let mut history = arrived();
    history.action(at(1), &Action::Prepare { job: JOB });
    history.event(at(3), &Event::Prepared { job: JOB });
    history.action(at(4), &Action::Send { job: JOB, host: HOST, deadline: Duration::ZERO });
    let times = Times { compile: Duration::from_millis(5), ..Times::default() };
    history.note(JOB, HOST, Note { times, cpu: 900 });
    history.event(at(10), &Event::Answered { job: JOB, host: HOST, compile: Duration::ZERO });
    history.action(at(10), &Action::Take { job: JOB, host: HOST });
    history.event(at(12), &Event::Delivered { job: JOB });
    let record = only(&history);
    assert_eq!(record.prepare, Some(Span { begin: 1000, end: 3000 }));
    assert_eq!(
        (record.attempts[0].span, record.attempts[0].compile),
        (Span { begin: 4000, end: 10_000 }, 5000)
    );
    assert_eq!(record.write, Some(Span { begin: 10_000, end: 12_000 }));
    assert_eq!((record.end, record.life.length(), history.cpu()), (End::Remote, 12_000, 900));
}

#[test]
fn an_attempt_that_failed_is_a_trouble_and_the_job_goes_on() {
    let mut history = arrived();
    history.action(at(1), &Action::Send { job: JOB, host: HOST, deadline: Duration::ZERO });
    history.event(at(2), &Event::Failed { job: JOB, host: HOST, failure: Failure::Deadline });
    assert_eq!((history.level.waiting, history.level.remote), (1, 0));
    history.action(at(3), &Action::RunLocally { job: JOB, reason: LocalReason::Straggler });
    history.event(at(9), &Event::LeaseReturned { job: JOB });
    let record = only(&history);
    assert_eq!((record.end, record.here.map(|here| here.reason)), (End::Local, Some("straggler".to_owned())));
    assert!(
        matches!(&history.troubles().next().expect("one").what, What::Failed { source, .. } if source == "a.c")
    );
}

#[test]
fn a_job_whose_shim_goes_away_leaves_nothing_open() {
    let mut history = arrived();
    history.action(at(1), &Action::Send { job: JOB, host: HOST, deadline: Duration::ZERO });
    history.action(at(1), &Action::Send { job: JOB, host: HostId(1), deadline: Duration::ZERO });
    history.event(at(2), &Event::ShimGone { job: JOB });
    let record = only(&history);
    assert_eq!(record.end, End::Abandoned);
    assert!(record.attempts.iter().all(|attempt| attempt.failure == "cancelled"));
    assert_eq!(history.lanes.take(Some(0)), 0);
}

#[test]
fn a_result_that_was_known_is_told_from_one_of_a_volunteer() {
    let mut history = arrived();
    history.action(at(1), &Action::Prepare { job: JOB });
    history.event(at(2), &Event::Found { job: JOB });
    history.event(at(3), &Event::Delivered { job: JOB });
    assert_eq!(only(&history).end, End::Cached);
}

#[test]
fn memory_is_bounded() {
    let mut history = History::default();
    for number in 0..RECORDS_MAX as u64 + 10 {
        let long = "x".repeat(10_000);
        history.arrived(at(number), JobId(number), 1, &long, None);
        history.event(at(number), &Event::ShimGone { job: JobId(number) });
        history.event(at(number), &Event::HostDown { host: HOST, lost: long.into() });
    }
    assert_eq!((history.done.len(), history.marks.len()), (RECORDS_MAX, MARKS_MAX));
    assert!(history.done.iter().all(|record| record.source.chars().count() == WORDS_MAX + 1));
    let (marks, seen) = history.marks_since(MARKS_MAX as u64 + 4);
    assert_eq!((marks.len(), seen), (6, MARKS_MAX as u64 + 10));
}

#[test]
fn levels_are_noted_when_they_change_and_not_too_often() {
    let mut history = History::default();
    for number in 0..100 {
        history.arrived(at(number), JobId(number), 1, "a.c", None);
        history.note_level(at(number), || (1, 2));
        history.note_level(at(number), || panic!("nothing has changed"));
    }
    let levels = history.marks.len();
    assert!((2..6).contains(&levels), "{levels} marks");
}
