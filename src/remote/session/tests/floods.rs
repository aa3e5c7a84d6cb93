//! What one client can have a volunteer hold, over all of its links.

use super::*;
use crate::common::inputs::{Entry, EntryKind, FileEntry, Item, Runs};
use crate::common::limits::{BUNDLE_COST, BUNDLES_MAX, BUNDLES_UNPACKED_MAX, PROVISIONS_MAX};
use crate::common::protocol::io::push_bundle;
use crate::common::protocol::link::Unprovided;
use crate::common::toolchain::Digest;
use crate::remote::clients::{Client, ENTRIES_MAX, Good, ITEMS_MAX_BYTES};

/// The same client on one more link, of which the test takes what it likes.
fn more_of(context: &Context) -> LinkPass {
    context.clients.enter(Client::Carrier).expect("a link")
}

/// The next message that is not about credit, which changes as links come.
async fn answer(broker: &mut Broker) -> ToBroker {
    loop {
        match broker.next().await {
            ToBroker::Credit { .. } => {}
            message => return message,
        }
    }
}

async fn refusal(broker: &mut Broker, machine: &Machine, job: u32) -> String {
    let action = Box::new(action(machine.wanted("fakecc"), b"text"));
    broker.send(&ToVolunteer::Job { job, action, deadline_ms: 60_000 }).await;
    match answer(broker).await {
        ToBroker::Refused { why: Refusal::Overloaded { detail }, .. } => detail,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn results_that_are_not_taken_count_over_all_links() {
    let machine = machine("head -c 3000000 /dev/urandom > out.o");
    let mut broker = Broker::connect(&machine).await;
    for job in 1..=3 {
        broker.submit(&machine, job, format!("text {job}").as_bytes()).await;
        // Its data beyond the window stays where it is.
        assert!(matches!(broker.next().await, ToBroker::Result(_)));
        let mut taken = 0;
        while taken < LINK_WINDOW_BYTES {
            taken += broker.data().await.1.len() as u64;
        }
    }
    let mut other = Broker::connect_to(Arc::clone(&broker.context)).await;
    assert_eq!(refusal(&mut other, &machine, 1).await, "3 jobs of this client are unfinished");
    // What is thrown away counts no more.
    broker.send(&ToVolunteer::Cancel { job: 2 }).await;
    broker.send(&ToVolunteer::Ping { token: 5 }).await;
    assert_eq!(answer(&mut broker).await, ToBroker::Pong { token: 5 });
    let action = Box::new(action(machine.wanted("fakecc"), b"other"));
    other.send(&ToVolunteer::Job { job: 2, action, deadline_ms: 60_000 }).await;
    assert_eq!(answer(&mut other).await, ToBroker::NeedInput { job: 2 });
}

#[tokio::test]
async fn jobs_that_were_cancelled_count_until_nobody_works_at_them() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    let link = more_of(&broker.context);
    let max = (2 * broker.context.gate.credit_max() + PROVISIONS_MAX) as u64;
    let held = link.take(Good::Tasks, max, max).expect("all of them");
    assert_eq!(
        refusal(&mut broker, &machine, 1).await,
        "jobs that this client has cancelled are not over yet"
    );
    drop(held);
    broker.announce(&machine, 2, b"text").await;
    // One that is cancelled is let go of at once.
    broker.send(&ToVolunteer::Cancel { job: 2 }).await;
    let is_over = async {
        while link.take(Good::Tasks, max, max).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_over).await.expect("in time");
}

#[tokio::test]
async fn texts_that_come_are_not_more_than_so_many_bytes() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    let link = more_of(&broker.context);
    let held = link.take(Good::Arriving, ARRIVING_MAX_BYTES, ARRIVING_MAX_BYTES).expect("all of it");
    assert_eq!(refusal(&mut broker, &machine, 1).await, "this client's texts are many gigabytes");
    drop(held);
    broker.announce(&machine, 2, b"text").await;
}

#[tokio::test]
async fn results_that_would_be_many_gigabytes_are_refused() {
    let machine = machine("cp in.i out.o");
    let mut broker = Broker::connect(&machine).await;
    let link = more_of(&broker.context);
    let max = crate::remote::clients::LEAVING_MAX_BYTES;
    let _held = link.take(Good::Leaving, max, max).expect("all of it");
    broker.submit(&machine, 1, b"text").await;
    let refused = broker.next().await;
    assert!(matches!(&refused, ToBroker::Refused { job: 1, why: Refusal::Overloaded { .. } }), "{refused:?}");
}

fn folder(number: u32) -> (u32, Item) {
    let path = format!("/{number}").into_bytes().into();
    (number, Item::Entry(Entry { path, kind: EntryKind::Folder }))
}

#[tokio::test]
async fn the_meanings_of_numbers_count_over_all_links_until_they_are_forgotten() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    let link = more_of(&broker.context);
    let most = link.take(Good::Items, ITEMS_MAX_BYTES - 1000, ITEMS_MAX_BYTES).expect("nearly all");
    for number in 1..=3 {
        broker.send(&ToVolunteer::Define { items: vec![folder(number)] }).await;
        broker.send(&ToVolunteer::Forget).await;
    }
    broker.send(&ToVolunteer::Ping { token: 5 }).await;
    assert_eq!(broker.next().await, ToBroker::Pong { token: 5 });
    broker.send(&ToVolunteer::Define { items: (1..=100).map(folder).collect() }).await;
    assert!(broker.last_words().await.contains("on all links of a client"));
    drop(most);
}

#[tokio::test]
async fn sets_of_inputs_are_not_larger_together_than_so_many_entries() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    let link = more_of(&broker.context);
    broker.send(&ToVolunteer::Define { items: (0..100).map(folder).collect() }).await;
    let inputs = Runs::of(&(0..100).collect::<Vec<_>>());
    let held = link.take(Good::Entries, ENTRIES_MAX - 99, ENTRIES_MAX).expect("nearly all");
    broker.send(&ToVolunteer::Provision { provision: 1, inputs: inputs.clone() }).await;
    let detail = "this client's sets of inputs are too large together".to_owned();
    let why = Unprovided::Crowded { detail };
    assert_eq!(broker.next().await, ToBroker::Unprovided { provision: 1, why });
    drop(held);
    broker.send(&ToVolunteer::Provision { provision: 2, inputs }).await;
    assert_eq!(broker.next().await, ToBroker::Provisioned { provision: 2, trouble: String::new() });
}

/// It ended the link, with all jobs on it.
#[tokio::test]
async fn a_provision_too_many_is_turned_away_alone() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    let link = more_of(&broker.context);
    broker.send(&ToVolunteer::Define { items: vec![folder(1)] }).await;
    let most = PROVISIONS_MAX as u64;
    let held = link.take(Good::Provisions, most, most).expect("all");
    let inputs = Runs::of(&[1]);
    broker.send(&ToVolunteer::Provision { provision: 1, inputs: inputs.clone() }).await;
    let why = Unprovided::Crowded { detail: "too much of this client is under way".to_owned() };
    assert_eq!(broker.next().await, ToBroker::Unprovided { provision: 1, why });
    drop(held);
    broker.send(&ToVolunteer::Provision { provision: 2, inputs }).await;
    assert_eq!(broker.next().await, ToBroker::Provisioned { provision: 2, trouble: String::new() });
}

#[tokio::test]
async fn data_of_no_job_ends_the_link_beyond_what_was_granted() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    broker.announce(&machine, 1, b"text").await;
    broker.send(&ToVolunteer::Cancel { job: 1 }).await;
    let chunk = vec![0; LINK_CHUNK_MAX_BYTES as usize];
    for _ in 0..=LINK_WINDOW_BYTES / u64::from(LINK_CHUNK_MAX_BYTES) {
        let mut bytes = Vec::new();
        push_data(&mut bytes, 1, &chunk);
        broker.pipe.write_all(&bytes).await.unwrap();
    }
    assert!(broker.last_words().await.contains("data of no job"));
}

/// Small files, each of other contents, under these numbers, with one zstd frame for each.
fn small_files(numbers: std::ops::Range<u32>) -> Vec<(u32, FileEntry, Vec<u8>)> {
    let file = |number: u32| {
        let text = format!("extern int h{number};\n");
        let (digest, size) = (Digest::of(text.as_bytes()), text.len() as u64);
        let packed = zstd::encode_all(text.as_bytes(), 1).expect("packed");
        (number, FileEntry { digest, size, executable: false, twin: 0, age: 0 }, packed)
    };
    numbers.map(file).collect()
}

async fn define(broker: &mut Broker, files: &[(u32, FileEntry, Vec<u8>)]) {
    let item = |(number, file, _): &(u32, FileEntry, Vec<u8>)| {
        let path = format!("/h{number}").into_bytes().into();
        (*number, Item::Entry(Entry { path, kind: EntryKind::File(*file) }))
    };
    broker.send(&ToVolunteer::Define { items: files.iter().map(item).collect() }).await;
}

/// On a busy machine small bundles came faster than they were unpacked; the 65th ended the link, and with it every
/// job on it.
#[tokio::test]
async fn small_bundles_that_come_faster_than_they_are_unpacked_wait() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    let context = Arc::clone(&broker.context);
    if context.hermetic.is_err() {
        panic!("no hermetic jobs here");
    }
    let other = more_of(&context);
    let mut busy = Vec::new();
    for _ in 0..BUNDLES_UNPACKED_MAX {
        busy.push(other.decoder().await);
    }
    let files = small_files(0..300);
    define(&mut broker, &files).await;
    for (number, _, packed) in &files {
        let length = packed.len() as u64;
        broker.send(&ToVolunteer::Bundle { bundle: *number, items: vec![*number], packed: length }).await;
        let mut bytes = Vec::new();
        push_bundle(&mut bytes, *number, packed);
        broker.pipe.write_all(&bytes).await.expect("the link is up");
    }
    broker.send(&ToVolunteer::Ping { token: 5 }).await;
    assert_eq!(answer(&mut broker).await, ToBroker::Pong { token: 5 });
    let store = context.store.of(other.client());
    let has = |file: &FileEntry| store.knows(&file.digest);
    assert!(!files.iter().any(|(_, file, _)| has(file)), "nobody may unpack");
    drop(busy);
    let all = async {
        while !files.iter().all(|(_, file, _)| has(file)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("all are unpacked");
}

#[tokio::test]
async fn bundles_that_are_announced_and_never_come_are_bounded() {
    let machine = machine("exit 1");
    let mut broker = Broker::connect(&machine).await;
    let files = small_files(0..1);
    define(&mut broker, &files).await;
    // Nearly all that a client may have is taken by another link.
    let other = more_of(&broker.context);
    let most = BUNDLES_MAX - 2 * (BUNDLE_COST + 1);
    let _held = other.take(Good::Bundles, most, BUNDLES_MAX).expect("a first one");
    for bundle in 0..3 {
        broker.send(&ToVolunteer::Bundle { bundle, items: vec![0], packed: 20 }).await;
    }
    match answer(&mut broker).await {
        ToBroker::Fatal { why } => assert!(why.contains("bundle 2: too many at once"), "{why}"),
        other => panic!("{other:?}"),
    }
}
