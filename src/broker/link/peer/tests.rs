//! The broker's half of a link against hand-made frames of a volunteer.

use super::*;
use crate::broker::link::{Order, PackedBlob};
use crate::common::action::{Action, Blob, Ended, InputSet, OutputName};
use crate::common::protocol::link::{JobResult, Packing, Part};
use crate::common::toolchain::{Digest, Toolchain};

const NOW: Moment = Moment(0);

fn order(input: &[u8]) -> Box<Work> {
    let digest = Digest::of(input);
    let blob = Blob { digest, size: input.len() as u64, packed: input.len() as u64 };
    let toolchain = Toolchain {
        id: digest,
        names: Vec::new(),
        version: String::new(),
        target: String::new(),
        clang: false,
    };
    let action = Action {
        toolchain,
        arguments: Vec::new(),
        environment: Vec::new(),
        inputs: InputSet::Preprocessed { source: blob, suffix: ".i".to_owned() },
        outputs: vec![OutputName { suffix: ".o".to_owned() }],
    };
    let input = PackedBlob { blob, bytes: input.into() };
    Box::new(Work::Text(Order { action: Box::new(action), input, deadline: Duration::from_secs(60) }))
}

fn part(length: usize) -> Part {
    Part { packing: Packing::Zstd, digest: Digest::of(b""), size: length as u64, packed: length as u64 }
}

fn result(job: u32, length: usize) -> JobResult {
    let (stdout, stderr, outputs) = (part(0), part(0), vec![part(length)]);
    JobResult { job, ended: Ended::Exited(0), stdout, stderr, outputs, wall_us: 1, cpu_us: 1 }
}

/// A link whose volunteer has said hello.
fn peer() -> Peer {
    let mut peer = Peer::new(NOW, "me".to_owned(), Arc::default());
    let hello = ToBroker::Hello { version: VERSION, build: "x".to_owned(), slots: 4 };
    tell(&mut peer, &hello).expect("a hello");
    peer.fill(&mut Vec::new());
    peer
}

fn tell(peer: &mut Peer, message: &ToBroker) -> Result<Option<News>, LinkError> {
    let body = wire::encode(message);
    let header = FrameHeader { length: body.len() as u32, kind: FrameKind::Message, job: 0 };
    peer.receive(NOW, header, &body)
}

fn data(peer: &mut Peer, job: u32, length: usize) -> Result<Option<News>, LinkError> {
    let header = FrameHeader { length: length as u32, kind: FrameKind::Data, job };
    peer.receive(NOW, header, &vec![0; length])
}

/// The jobs and lengths of the data frames that the peer sends now.
fn sent(peer: &mut Peer) -> Vec<(u32, u32)> {
    let (mut all, mut out) = (Vec::new(), Vec::new());
    while peer.has_output() {
        out.clear();
        peer.fill(&mut out);
        let mut rest = out.as_slice();
        while let Some((head, tail)) = rest.split_first_chunk() {
            let header = FrameHeader::decode(head).expect("a frame");
            if header.kind == FrameKind::Data {
                all.push((header.job, header.length));
            }
            rest = &tail[header.length as usize..];
        }
    }
    all
}

#[test]
fn input_is_sent_only_when_asked_for_and_only_as_far_as_the_window_goes() {
    let mut peer = peer();
    let length = LINK_WINDOW_BYTES as usize + 10;
    peer.start(1, order(&vec![0; length]), oneshot::channel().0);
    assert_eq!(sent(&mut peer), []);
    tell(&mut peer, &ToBroker::NeedInput { job: 1 }).expect("fine");
    let total: u64 = sent(&mut peer).iter().map(|(_, length)| u64::from(*length)).sum();
    assert_eq!(total, LINK_WINDOW_BYTES);
    tell(&mut peer, &ToBroker::Window { job: 1, bytes: 7 }).expect("fine");
    assert_eq!(sent(&mut peer), [(1, 7)]);
    tell(&mut peer, &ToBroker::Window { job: 1, bytes: 100 }).expect("fine");
    assert_eq!(sent(&mut peer), [(1, 3)]);
}

#[test]
fn the_inputs_of_two_jobs_interleave() {
    let mut peer = peer();
    let chunk = LINK_CHUNK_MAX_BYTES;
    for job in [1, 2] {
        peer.start(job, order(&vec![0; 2 * chunk as usize]), oneshot::channel().0);
        tell(&mut peer, &ToBroker::NeedInput { job }).expect("fine");
    }
    assert_eq!(sent(&mut peer), [(1, chunk), (2, chunk), (1, chunk), (2, chunk)]);
}

#[test]
fn an_answer_is_given_when_its_last_byte_has_come() {
    let mut peer = peer();
    let (reply, mut outcome) = oneshot::channel();
    peer.start(1, order(b"x"), reply);
    tell(&mut peer, &ToBroker::Result(result(1, 10))).expect("fine");
    data(&mut peer, 1, 9).expect("fine");
    assert!(outcome.try_recv().is_err());
    data(&mut peer, 1, 1).expect("fine");
    let answer = outcome.try_recv().expect("an outcome").expect("an answer");
    let Answer::Text(answer) = answer else { panic!("{answer:?}") };
    assert_eq!(answer.packed.len(), 10);
}

#[test]
fn more_data_than_announced_ends_the_link() {
    let mut peer = peer();
    peer.start(1, order(b"x"), oneshot::channel().0);
    tell(&mut peer, &ToBroker::Result(result(1, 10))).expect("fine");
    assert!(matches!(data(&mut peer, 1, 11), Err(LinkError::Protocol(_))));
}

#[test]
fn a_result_that_announces_too_much_ends_the_link_before_anything_is_kept() {
    let mut peer = peer();
    peer.start(1, order(b"x"), oneshot::channel().0);
    let mut lie = result(1, 10);
    lie.outputs[0].packed = u64::MAX;
    assert!(matches!(tell(&mut peer, &ToBroker::Result(lie)), Err(LinkError::Protocol(_))));
}

#[test]
fn outputs_that_were_not_asked_for_end_the_link() {
    let mut peer = peer();
    peer.start(1, order(b"x"), oneshot::channel().0);
    let mut more = result(1, 1);
    more.outputs.push(part(1));
    assert!(matches!(tell(&mut peer, &ToBroker::Result(more)), Err(LinkError::Protocol(_))));
}

#[test]
fn what_comes_late_for_a_cancelled_job_is_ignored() {
    let mut peer = peer();
    peer.start(1, order(b"x"), oneshot::channel().0);
    peer.cancel(1);
    tell(&mut peer, &ToBroker::NeedInput { job: 1 }).expect("ignored");
    tell(&mut peer, &ToBroker::Result(result(1, 10))).expect("ignored");
    data(&mut peer, 1, 10).expect("ignored");
    assert_eq!(sent(&mut peer), []);
}

#[test]
fn another_version_is_a_clear_error() {
    let mut peer = Peer::new(NOW, "me".to_owned(), Arc::default());
    let hello = ToBroker::Hello { version: VERSION + 1, build: "x".to_owned(), slots: 4 };
    let error = tell(&mut peer, &hello).expect_err("another version");
    assert_eq!(error, LinkError::Version { ours: VERSION, theirs: VERSION + 1 });
}

#[test]
fn a_volunteer_that_says_nothing_is_given_up_and_a_talking_one_is_not() {
    let mut peer = peer();
    assert!(peer.on_time(NOW + PING_INTERVAL).is_ok());
    assert!(peer.has_output(), "a ping is due");
    let header = FrameHeader { length: 0, kind: FrameKind::Data, job: 9 };
    peer.receive(NOW + PING_INTERVAL, header, &[]).expect("heard");
    let last = PING_INTERVAL + SILENCE_MAX;
    for now in (1..).map(|step| PING_INTERVAL + Duration::from_millis(500 * step)) {
        peer.tick(NOW + now);
        if now >= last {
            break;
        }
        assert!(peer.on_time(NOW + now).is_ok());
    }
    assert!(matches!(peer.on_time(NOW + last), Err(LinkError::Silent(_))));
}

#[test]
fn who_was_stopped_itself_reads_first_and_then_judges_a_volunteer() {
    let mut peer = peer();
    let woken = NOW + SILENCE_MAX * 2;
    assert!(peer.on_time(woken).is_ok(), "what came meanwhile is unread");
    for step in 1.. {
        let now = woken + Duration::from_secs(1) * step;
        peer.tick(now);
        let judged = peer.on_time(now);
        assert_eq!(judged.is_err(), now.since(woken) >= SILENCE_MAX, "{step} s later");
        if judged.is_err() {
            break;
        }
    }
}

#[test]
fn a_result_that_trickles_in_ends_the_link_and_a_slow_one_does_not() {
    for (step, ends) in [(1, true), (4096, false)] {
        let mut peer = peer();
        let (reply, _outcome) = oneshot::channel();
        peer.start(1, order(b""), reply);
        tell(&mut peer, &ToBroker::Result(result(1, 1 << 20))).expect("a result");
        let mut ended = false;
        for number in 1..=20 {
            let now = NOW + PING_INTERVAL * number;
            let header = FrameHeader { length: step, kind: FrameKind::Data, job: 1 };
            peer.receive(now, header, &vec![0; step as usize]).expect("data");
            ended |= matches!(peer.on_time(now), Err(LinkError::Trickle { .. }));
        }
        assert_eq!(ended, ends, "{step}");
    }
}

#[test]
fn a_pong_that_nobody_asked_for_is_no_round_trip() {
    let mut peer = peer();
    let later = NOW + PING_INTERVAL;
    peer.on_time(later).expect("well");
    for (token, expected) in [(0, None), (later.0, Some(News::RoundTrip(Duration::from_millis(3))))] {
        let body = wire::encode(&ToBroker::Pong { token });
        let header = FrameHeader { length: body.len() as u32, kind: FrameKind::Message, job: 0 };
        assert_eq!(peer.receive(later + Duration::from_millis(3), header, &body), Ok(expected));
    }
}

#[test]
fn when_the_link_fails_every_attempt_hears_of_it() {
    let mut peer = peer();
    let (reply, mut outcome) = oneshot::channel();
    peer.start(1, order(b"x"), reply);
    peer.fail_all("closed the connection");
    assert!(matches!(outcome.try_recv(), Ok(Err(Failure::Host { .. }))));
}

#[test]
fn a_refusal_says_what_to_try_next() {
    let lacks = Refusal::NoSuchToolchain { detail: String::new() };
    let cases = [(lacks, "NoToolchain"), (Refusal::TimedOut { seconds: 1 }, "Deadline")];
    for (why, expected) in cases {
        let mut peer = peer();
        let (reply, mut outcome) = oneshot::channel();
        peer.start(1, order(b"x"), reply);
        tell(&mut peer, &ToBroker::Refused { job: 1, why }).expect("fine");
        let failure = outcome.try_recv().expect("an outcome").expect_err("a failure");
        assert!(format!("{failure:?}").starts_with(expected), "{failure:?}");
    }
}

/// Whatever a volunteer said of a toolchain counted against the host, which was then left alone.
#[test]
fn a_clients_own_crowd_is_no_fault_of_the_host() {
    let detail = String::new;
    let cases = [
        (Unprovided::Crowded { detail: detail() }, "Overloaded"),
        (Unprovided::InputsChanged { detail: detail() }, "Refused"),
        (Unprovided::TooLarge { detail: detail() }, "NoToolchain"),
        (Unprovided::Volunteer { detail: detail() }, "Host"),
    ];
    for (why, expected) in cases {
        let mut peer = peer();
        let (reply, told, ended) = Provision::new();
        let toolchain = ToolchainSet { digest: Digest::of(b""), generation: 0, items: Vec::new() };
        peer.provision(1, &toolchain, reply);
        tell(&mut peer, &ToBroker::Unprovided { provision: 1, why }).expect("fine");
        let failure = told.borrow().clone().expect("an answer").expect_err("a failure");
        assert!(format!("{failure:?}").starts_with(expected), "{failure:?}");
        assert!(ended.get().is_some(), "nobody waited");
    }
}
