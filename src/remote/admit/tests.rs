use super::*;

const MIB: u64 = 1 << 20;

fn admission(slots: u32) -> Admission {
    Admission::new(Policy {
        slots,
        client_slots: slots,
        memory_floor: 100 * MIB,
        memory_per_job: 100 * MIB,
        disk_floor: 10 * MIB,
        load_max: 8,
    })
}

fn plenty() -> Sample {
    Sample { memory: Some(100_000 * MIB), disk: Some(100_000 * MIB), runnable: Some(0) }
}

fn started(decisions: &[Decision]) -> Vec<u64> {
    decisions
        .iter()
        .filter_map(|decision| match decision {
            Decision::Start(Ticket(number)) => Some(*number),
            Decision::Credit(..) | Decision::TurnAway(_) => None,
        })
        .collect()
}

fn credit_of(decisions: &[Decision], wanted: LinkId) -> Option<u32> {
    decisions.iter().find_map(|decision| match decision {
        Decision::Credit(link, credit) if *link == wanted => Some(credit.jobs),
        _ => None,
    })
}

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);
const C: LinkId = LinkId(3);
const ANN: ClientId = ClientId(1);
const BOB: ClientId = ClientId(2);

#[test]
fn no_more_jobs_run_than_there_are_slots() {
    let mut admission = admission(2);
    admission.join(A, ANN);
    let all: Vec<_> = (1..=3).flat_map(|n| admission.request(A, Ticket(n))).collect();
    assert_eq!(started(&all), [1, 2]);
    assert_eq!(started(&admission.finish(A, Ticket(1))), [3]);
}

#[test]
fn a_client_with_many_jobs_does_not_keep_another_waiting() {
    let mut admission = admission(1);
    admission.join(A, ANN);
    admission.join(B, BOB);
    for n in 1..=50 {
        admission.request(A, Ticket(n));
    }
    admission.request(B, Ticket(100));
    assert_eq!(started(&admission.finish(A, Ticket(1))), [100]);
    assert_eq!(started(&admission.finish(B, Ticket(100))), [2]);
}

#[test]
fn a_lost_client_frees_its_slots_at_once() {
    let mut admission = admission(1);
    admission.join(A, ANN);
    admission.join(B, BOB);
    admission.request(A, Ticket(1));
    admission.request(B, Ticket(2));
    assert_eq!(started(&admission.leave(A)), [2]);
}

#[test]
fn a_withdrawn_job_is_never_started() {
    let mut admission = admission(1);
    admission.join(A, ANN);
    admission.request(A, Ticket(1));
    admission.request(A, Ticket(2));
    admission.finish(A, Ticket(2));
    assert_eq!(started(&admission.finish(A, Ticket(1))), [] as [u64; 0]);
}

#[test]
fn a_lone_client_gets_everything_and_idle_ones_do_not_shrink_it() {
    let mut admission = admission(8);
    assert_eq!(credit_of(&admission.join(A, ANN), A), Some(10));
    admission.join(B, BOB);
    admission.request(A, Ticket(1));
    admission.sample(&plenty());
    let decisions = admission.sample(&plenty());
    assert_eq!(credit_of(&decisions, A), None, "A keeps all of it");
    admission.request(B, Ticket(2));
    assert_eq!(credit_of(&admission.sample(&plenty()), A), Some(5));
}

#[test]
fn without_memory_nothing_starts_and_credit_is_zero_with_a_reason() {
    let mut admission = admission(4);
    admission.join(A, ANN);
    let decisions = admission.sample(&Sample { memory: Some(50 * MIB), ..plenty() });
    let why = "memory: 50 MiB available".to_owned();
    assert_eq!(decisions, [Decision::Credit(A, Credit { jobs: 0, why, paused: false })]);
    assert_eq!(started(&admission.request(A, Ticket(1))), [] as [u64; 0]);
    assert_eq!(started(&admission.sample(&plenty())), [1]);
}

#[test]
fn memory_for_one_more_job_starts_one_more_job() {
    let mut admission = admission(4);
    admission.join(A, ANN);
    admission.request(A, Ticket(1));
    admission.sample(&Sample { memory: Some(250 * MIB), ..plenty() });
    assert_eq!(started(&admission.request(A, Ticket(2))), [2]);
    assert_eq!(started(&admission.request(A, Ticket(3))), [] as [u64; 0]);
}

#[test]
fn a_full_disk_closes_the_door() {
    let mut admission = admission(4);
    admission.join(A, ANN);
    let decisions = admission.sample(&Sample { disk: Some(MIB), ..plenty() });
    assert_eq!(credit_of(&decisions, A), Some(0));
    assert!(admission.closed().is_some_and(|why| why.starts_with("disk:")));
    let wanted = |disk| admission.disk_wanted(&Sample { disk: Some(disk), ..plenty() });
    let floor = admission.policy.disk_floor;
    assert_eq!([floor - 1, floor].map(wanted), [floor + 1, 0], "twice the floor");
    assert_eq!(credit_of(&admission.sample(&plenty()), A), Some(5));
}

#[test]
fn the_owners_load_takes_slots_back_but_never_the_last() {
    let mut admission = admission(4);
    admission.join(A, ANN);
    let busy = Sample { runnable: Some(100), ..plenty() };
    let decisions: Vec<_> = (0..4).flat_map(|_| admission.sample(&busy)).collect();
    assert_eq!(credit_of(&decisions, A), Some(2), "one slot and one ahead");
    let back: Vec<_> = (0..8).flat_map(|_| admission.sample(&plenty())).collect();
    assert!(back.iter().any(|decision| matches!(decision, Decision::Credit(_, credit) if credit.jobs == 5)));
}

#[test]
fn our_own_jobs_are_not_the_owners_load() {
    let mut admission = admission(20);
    admission.join(A, ANN);
    for n in 0..20 {
        admission.request(A, Ticket(n));
    }
    for _ in 0..8 {
        let decisions = admission.sample(&Sample { runnable: Some(24), ..plenty() });
        assert_eq!(credit_of(&decisions, A), None);
    }
}

#[test]
fn more_links_get_a_client_no_more_slots() {
    let mut admission = admission(4);
    admission.join(A, ANN);
    admission.join(C, ANN);
    admission.join(B, BOB);
    // Ann is first, and takes everything.
    for n in 1..=20 {
        admission.request(if n % 2 == 0 { A } else { C }, Ticket(n));
    }
    for n in 100..=105 {
        admission.request(B, Ticket(n));
    }
    // As slots become free, they are Bob's until he has as many.
    assert_eq!(started(&admission.finish(C, Ticket(1))), [100]);
    assert_eq!(started(&admission.finish(A, Ticket(2))), [101]);
    let next = started(&admission.finish(C, Ticket(3)));
    assert!(next.iter().all(|n| *n < 100), "two each: {next:?}");
}

#[test]
fn credit_is_shared_between_clients_and_then_between_their_links() {
    let mut admission = admission(8);
    admission.join(A, ANN);
    admission.join(C, ANN);
    admission.join(B, BOB);
    for (link, ticket) in [(A, 1), (C, 2), (B, 3)] {
        admission.request(link, Ticket(ticket));
    }
    let decisions = admission.sample(&plenty());
    assert_eq!(credit_of(&decisions, B), Some(5), "half of eight, and one ahead");
    assert_eq!(credit_of(&decisions, A), Some(3), "half of that half, and one ahead");
    assert_eq!(credit_of(&decisions, C), Some(3));
}

#[test]
fn a_client_has_no_more_slots_than_any_may_have() {
    let mut admission = Admission::new(Policy { client_slots: 2, ..admission(8).policy });
    admission.join(A, ANN);
    admission.join(B, BOB);
    let all: Vec<_> = (1..=5).flat_map(|n| admission.request(A, Ticket(n))).collect();
    assert_eq!(started(&all), [1, 2]);
    assert_eq!(started(&admission.request(B, Ticket(9))), [9]);
    assert_eq!(started(&admission.finish(A, Ticket(2))), [3]);
}

#[test]
fn what_is_paused_starts_nothing_and_lets_what_runs_end() {
    let mut admission = admission(1);
    admission.join(A, ANN);
    admission.sample(&plenty());
    assert_eq!(started(&admission.request(A, Ticket(1))), [1]);
    admission.request(A, Ticket(2));
    let decisions = admission.pause(true);
    assert!(decisions.contains(&Decision::TurnAway(Ticket(2))), "{decisions:?}");
    let credit = Credit { jobs: 0, why: PAUSED.to_owned(), paused: true };
    assert!(decisions.contains(&Decision::Credit(A, credit.clone())), "{decisions:?}");
    assert_eq!((admission.running(), admission.waiting()), (1, 0));
    // Nothing opens it but its owner: no job, no sample, no other link.
    assert_eq!(admission.request(A, Ticket(3)), [Decision::TurnAway(Ticket(3))]);
    assert_eq!(admission.join(B, BOB), [Decision::Credit(B, credit)]);
    assert_eq!(admission.finish(A, Ticket(1)), []);
    assert_eq!(admission.sample(&plenty()), []);
    assert_eq!(admission.closed(), Some(PAUSED));
    assert!(credit_of(&admission.pause(false), A).is_some_and(|jobs| jobs > 0));
    assert_eq!(started(&admission.request(A, Ticket(4))), [4]);
}
