//! A broker on one end of a pipe, a session on the other.

use std::time::Duration;

use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::common::limits::LINK_CHUNK_MAX_BYTES;
use crate::common::protocol::io::push_data;
use crate::common::protocol::link::JobResult;
use crate::remote::admit::PAUSED;
use crate::remote::owner::roster::Tally;
use crate::remote::testing::{Machine, action};

mod floods;

/// No wait in these tests is longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker on one end of a pipe, a session on the other.
struct Broker {
    pipe: DuplexStream,
    phase: watch::Sender<Phase>,
    session: JoinHandle<LinkEnd>,
    context: Arc<Context>,
}

impl Broker {
    async fn connect(machine: &Machine) -> Self {
        Broker::connect_to(machine.context(2)).await
    }

    /// One more link of the same client.
    async fn connect_to(context: Arc<Context>) -> Self {
        let (pipe, theirs) = duplex(64 << 10);
        let phase = watch::Sender::new(Phase::Running);
        let caller = Caller { peer: Peer(None), name: "test".to_owned(), right: Right::Carried };
        let pass = context.clients.enter(caller.right.client()).expect("a link");
        let session = tokio::spawn(run(
            (theirs, Line::default()),
            caller,
            pass,
            Arc::clone(&context),
            phase.subscribe(),
        ));
        let mut broker = Broker { pipe, phase, session, context };
        assert!(matches!(broker.next().await, ToBroker::Hello { version: VERSION, slots: 2, .. }));
        assert!(matches!(broker.next().await, ToBroker::Able { .. }));
        assert!(matches!(broker.next().await, ToBroker::Clock { seconds: 1.. }));
        assert!(matches!(broker.next().await, ToBroker::Credit { jobs: 1..=3, .. }));
        broker
    }

    async fn send(&mut self, message: &ToVolunteer) {
        let mut bytes = Vec::new();
        push_message(&mut bytes, message);
        self.pipe.write_all(&bytes).await.unwrap();
    }

    async fn frame(&mut self) -> (FrameHeader, Vec<u8>) {
        let frame = tokio::time::timeout(PATIENCE, read_link(&mut self.pipe)).await;
        frame.expect("in time").unwrap().expect("a frame")
    }

    /// The next piece of data: whose, and what.
    async fn data(&mut self) -> (u32, Vec<u8>) {
        loop {
            match self.frame().await {
                (header, data) if header.kind == FrameKind::Data => return (header.job, data),
                (_, body) => assert_eq!(wire::decode(&body), Ok(ToBroker::Pong { token: 0 })),
            }
        }
    }

    /// The next message that is not a keep-alive.
    async fn next(&mut self) -> ToBroker {
        loop {
            match wire::decode(&self.frame().await.1).unwrap() {
                ToBroker::Pong { token: 0 } => {}
                message => return message,
            }
        }
    }

    /// Submits a compile of `text` and sends it when asked.
    async fn submit(&mut self, machine: &Machine, job: u32, text: &[u8]) {
        self.announce(machine, job, text).await;
        let mut bytes = Vec::new();
        for chunk in zstd::encode_all(text, 1).unwrap().chunks(LINK_CHUNK_MAX_BYTES as usize) {
            push_data(&mut bytes, job, chunk);
        }
        self.pipe.write_all(&bytes).await.unwrap();
    }

    async fn announce(&mut self, machine: &Machine, job: u32, text: &[u8]) {
        let action = Box::new(action(machine.wanted("fakecc"), text));
        self.send(&ToVolunteer::Job { job, action, deadline_ms: 60_000 }).await;
        assert_eq!(self.next().await, ToBroker::NeedInput { job });
    }

    /// Why the session ended, once this side has closed too.
    async fn end(self) -> String {
        let Broker { pipe, session, phase: _phase, .. } = self;
        drop(pipe);
        let end = tokio::time::timeout(PATIENCE, session).await.expect("in time");
        end.unwrap().to_string()
    }

    /// What the session says before it closes, for a client that broke the protocol.
    async fn last_words(mut self) -> String {
        let ToBroker::Fatal { why } = self.next().await else { panic!("no last words") };
        drop(self.pipe);
        why
    }
}

fn machine(script: &str) -> Machine {
    Machine::with_compiler("fakecc", script)
}

#[tokio::test]
async fn a_result_is_announced_and_then_sent() {
    let machine = machine("cp in.i out.o; echo word");
    let mut broker = Broker::connect(&machine).await;
    broker.submit(&machine, 7, b"text").await;
    let ToBroker::Result(result) = broker.next().await else { panic!("no result") };
    assert_eq!((result.job, result.stdout.size, result.stderr.packed), (7, 5, 0));
    let (job, data) = broker.data().await;
    assert_eq!(job, 7);
    let (stdout, object) = data.split_at(result.stdout.packed as usize);
    assert_eq!((stdout, object), (&b"word\n"[..], &b"text"[..]));
    assert_eq!(broker.end().await, "the client closed the link");
}

#[tokio::test]
async fn a_slow_taker_of_one_result_does_not_hold_up_another() {
    let machine =
        machine("if grep -q large in.i; then head -c 3000000 /dev/urandom > out.o; else cp in.i out.o; fi");
    let mut broker = Broker::connect(&machine).await;
    broker.submit(&machine, 1, b"large").await;
    assert!(matches!(broker.next().await, ToBroker::Result(JobResult { job: 1, .. })));
    let mut taken = 0;
    while taken < LINK_WINDOW_BYTES {
        taken += broker.data().await.1.len() as u64;
    }
    assert_eq!(taken, LINK_WINDOW_BYTES, "no more than the window");
    broker.submit(&machine, 2, b"small").await;
    assert!(matches!(broker.next().await, ToBroker::Result(JobResult { job: 2, .. })));
    assert_eq!(broker.data().await.0, 2);
    broker.send(&ToVolunteer::Window { job: 1, bytes: 1000 }).await;
    let (job, data) = broker.data().await;
    assert_eq!((job, data.len()), (1, 1000));
}

#[tokio::test]
async fn a_large_input_is_granted_piece_by_piece() {
    let machine = machine("wc -c < in.i > out.o");
    let mut broker = Broker::connect(&machine).await;
    let mut state = 1u32;
    let text: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(4_000_000)
    .collect();
    broker.announce(&machine, 1, &text).await;
    let packed = zstd::encode_all(&text[..], 1).unwrap();
    let (mut sent, mut window) = (0, LINK_WINDOW_BYTES as usize);
    while sent < packed.len() {
        let length = (packed.len() - sent).min(window).min(LINK_CHUNK_MAX_BYTES as usize);
        if length == 0 {
            let ToBroker::Window { job: 1, bytes } = broker.next().await else { panic!("no window") };
            window += bytes as usize;
            continue;
        }
        let mut bytes = Vec::new();
        push_data(&mut bytes, 1, &packed[sent..sent + length]);
        broker.pipe.write_all(&bytes).await.unwrap();
        (sent, window) = (sent + length, window - length);
    }
    loop {
        match broker.next().await {
            ToBroker::Window { .. } => {}
            ToBroker::Result(result) => {
                break assert_eq!(result.ended, crate::common::action::Ended::Exited(0));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn more_data_than_announced_ends_the_link() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    broker.announce(&machine, 1, b"text").await;
    let mut bytes = Vec::new();
    push_data(&mut bytes, 1, &[0; 60_000]);
    broker.pipe.write_all(&bytes).await.unwrap();
    assert!(broker.last_words().await.contains("more data than"));
}

#[tokio::test]
async fn a_job_number_is_used_once() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    broker.announce(&machine, 1, b"text").await;
    let action = Box::new(action(machine.wanted("fakecc"), b"text"));
    broker.send(&ToVolunteer::Job { job: 1, action, deadline_ms: 1000 }).await;
    assert!(broker.last_words().await.contains("job 1 twice"));
}

#[tokio::test]
async fn jobs_beyond_the_credit_are_refused_and_the_link_goes_on() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    for job in 1..=3 {
        broker.announce(&machine, job, b"text").await;
    }
    let action = Box::new(action(machine.wanted("fakecc"), b"text"));
    broker.send(&ToVolunteer::Job { job: 4, action, deadline_ms: 1000 }).await;
    let refused = broker.next().await;
    assert!(matches!(refused, ToBroker::Refused { job: 4, why: Refusal::Overloaded { .. } }));
    broker.send(&ToVolunteer::Ping { token: 5 }).await;
    assert_eq!(broker.next().await, ToBroker::Pong { token: 5 });
}

#[tokio::test]
async fn late_words_about_a_cancelled_job_are_ignored() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    broker.announce(&machine, 1, b"text").await;
    broker.send(&ToVolunteer::Cancel { job: 1 }).await;
    let mut bytes = Vec::new();
    push_data(&mut bytes, 1, b"late");
    broker.pipe.write_all(&bytes).await.unwrap();
    broker.send(&ToVolunteer::Window { job: 1, bytes: 5 }).await;
    broker.send(&ToVolunteer::Cancel { job: 1 }).await;
    broker.send(&ToVolunteer::Ping { token: 5 }).await;
    assert_eq!(broker.next().await, ToBroker::Pong { token: 5 });
}

#[tokio::test]
async fn a_job_whose_input_never_comes_is_given_up_at_its_deadline() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    let action = Box::new(action(machine.wanted("fakecc"), b"text"));
    broker.send(&ToVolunteer::Job { job: 1, action, deadline_ms: 300 }).await;
    assert_eq!(broker.next().await, ToBroker::NeedInput { job: 1 });
    let why = Refusal::TimedOut { seconds: 0 };
    assert_eq!(broker.next().await, ToBroker::Refused { job: 1, why });
}

#[tokio::test]
async fn an_idle_link_ends_when_the_daemon_drains() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    broker.phase.send_replace(Phase::Draining);
    assert_eq!(broker.next().await, ToBroker::Draining);
    assert!(read_link(&mut broker.pipe).await.unwrap().is_none());
    assert_eq!(broker.end().await, "drained");
}

#[tokio::test]
async fn a_paused_volunteer_finishes_what_runs_keeps_its_links_and_takes_no_more() {
    let machine = machine("cp in.i out.o");
    let mut broker = Broker::connect(&machine).await;
    // One that waits for its input is under way, but has no slot yet.
    broker.announce(&machine, 1, b"late").await;
    broker.context.gate.pause(true);
    assert_eq!(broker.next().await, ToBroker::Draining);
    assert_eq!(broker.next().await, ToBroker::Credit { jobs: 0, why: PAUSED.to_owned() });
    let overloaded = |job| ToBroker::Refused { job, why: Refusal::Overloaded { detail: PAUSED.to_owned() } };
    let fresh = Box::new(action(machine.wanted("fakecc"), b"new"));
    broker.send(&ToVolunteer::Job { job: 2, action: fresh, deadline_ms: 60_000 }).await;
    assert_eq!(broker.next().await, overloaded(2));
    let mut bytes = Vec::new();
    push_data(&mut bytes, 1, &zstd::encode_all(&b"late"[..], 1).unwrap());
    broker.pipe.write_all(&bytes).await.unwrap();
    assert_eq!(broker.next().await, overloaded(1));
    broker.context.gate.pause(false);
    assert!(matches!(broker.next().await, ToBroker::Credit { jobs: 3, .. }));
    broker.submit(&machine, 3, b"text").await;
    assert!(matches!(broker.next().await, ToBroker::Result(JobResult { job: 3, .. })));
    let tallies = broker.context.roster.tallies();
    assert!(matches!(tallies[..], [Tally { jobs: 0, ok: 1, other: 1, .. }]), "{tallies:?}");
}
