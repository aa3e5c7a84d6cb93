//! Several clients of one volunteer: none gets in another's way.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use distcc::common::action::Ended;
use distcc::common::inputs::{Entry, EntryKind, Item, Runs};
use distcc::common::protocol::link::{HELLO_TIMEOUT, OPENING, Refusal, ToBroker, ToVolunteer, VERSION};
use distcc::common::protocol::wire;
use distcc::common::toolchain::Toolchain;
use distcc::common::trust::files;
use distcc::common::trust::key::Identity;

use crate::remote::link::Link;
use crate::remote::volunteer::{Volunteer, client_of};

/// Another client of this volunteer.
fn another(volunteer: &Volunteer) -> Identity {
    let client = Identity::generate().expect("a key");
    let list = volunteer.path("state/authorized_keys");
    let line = format!("{} another\n", client.public());
    files::edit(&list, 1 << 20, |text| format!("{text}{line}")).expect("a list of our own");
    client
}

fn link_of(volunteer: &Volunteer, client: &Identity) -> Link {
    let mut link = Link::connect(volunteer.port, client);
    link.hello();
    link
}

#[test]
fn a_flood_of_one_client_keeps_no_other_waiting() {
    // Two slots: three unfinished jobs are all that anybody may have.
    let volunteer = Volunteer::start(&[]);
    let gate = volunteer.path("bin/gate");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done; cp in.i out.o", gate.display());
    let slow = volunteer.fake_compiler(&script);
    let flooder = client_of(volunteer.directory.path());
    let mut links: Vec<Link> = (0..4).map(|_| link_of(&volunteer, &flooder)).collect();
    let mut taken = 0;
    for (number, link) in links.iter_mut().enumerate() {
        link.submit(1, &slow, format!("text {number}").as_bytes(), &[]);
        let answer =
            link.wait(|message| matches!(message, ToBroker::NeedInput { .. } | ToBroker::Refused { .. }));
        match answer {
            ToBroker::NeedInput { .. } => taken += 1,
            ToBroker::Refused { why: Refusal::Overloaded { detail }, .. } => {
                assert_eq!(detail, "3 jobs of this client are unfinished");
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(taken, 3, "jobs count over all links of a client");
    drop(links);
    // Now the flooder has both slots and one job waiting, again and again.
    let mut flood = link_of(&volunteer, &flooder);
    for job in 1..=3 {
        flood.start_job(job, &slow, format!("flood {job}").as_bytes());
    }
    volunteer.compiler_pid();
    let mut other = link_of(&volunteer, &another(&volunteer));
    other.start_job(1, &slow, b"other");
    fs::write(gate, "").expect("our own file");
    let (result, parts) = other.result();
    assert_eq!((result.ended, parts[2].as_slice()), (Ended::Exited(0), &b"other"[..]));
}

/// Reads until this ping is answered, whatever else is said.
fn sync(link: &mut Link, token: u64) {
    link.send(&ToVolunteer::Ping { token });
    while wire::decode(&link.frame().1) != Ok(ToBroker::Pong { token }) {}
}

/// All that a client can ask for as fast as it can be said: meanings and sets that are forgotten at once, jobs that are
/// cancelled at once.
fn flood(mut link: Link, compiler: &Toolchain, over: &AtomicBool) -> u64 {
    let item = |number: u32| {
        let path = format!("/{number}").into_bytes().into();
        (number, Item::Entry(Entry { path, kind: EntryKind::Folder }))
    };
    let all = Runs::of(&(0..5000).collect::<Vec<_>>());
    let mut round = 0u64;
    while !over.load(Ordering::Relaxed) {
        round += 1;
        let job = round as u32 * 2;
        link.send(&ToVolunteer::Define { items: (0..5000).map(item).collect() });
        for provision in 0..8 {
            link.send(&ToVolunteer::Provision { provision, inputs: all.clone() });
        }
        for job in [job, job + 1] {
            link.submit(job, compiler, format!("text {job}").as_bytes(), &[]);
            link.send(&ToVolunteer::Cancel { job });
        }
        link.send(&ToVolunteer::Forget);
        sync(&mut link, round + 10);
    }
    round
}

/// How long jobs take, one after the other: the median, in the order of time.
fn latency(link: &mut Link, first: u32, compiler: &Toolchain) -> Duration {
    let mut times: Vec<Duration> = (first..first + 15)
        .map(|job| {
            let begun = Instant::now();
            link.start_job(job, compiler, format!("job {job}").as_bytes());
            assert_eq!(link.result().0.ended, Ended::Exited(0));
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_flood_on_all_links_of_a_client_leaves_another_its_pace() {
    let volunteer = Volunteer::start(&[]);
    let compiler = volunteer.fake_compiler("cp in.i out.o");
    let (flooder, other) = (client_of(volunteer.directory.path()), another(&volunteer));
    let mut link = link_of(&volunteer, &other);
    let alone = latency(&mut link, 1, &compiler);
    let over = AtomicBool::new(false);
    let (flooded, rounds) = std::thread::scope(|scope| {
        let floods: Vec<_> = (0..16)
            .map(|_| {
                let link = link_of(&volunteer, &flooder);
                scope.spawn(|| flood(link, &compiler, &over))
            })
            .collect();
        let flooded = latency(&mut link, 100, &compiler);
        over.store(true, Ordering::Relaxed);
        (flooded, floods.into_iter().map(|flood| flood.join().expect("a flood")).sum::<u64>())
    });
    println!("alone {alone:?}, flooded {flooded:?}, {rounds} rounds of a flood");
    assert!(flooded < 6 * alone + Duration::from_millis(150), "alone {alone:?}, flooded {flooded:?}");
}

#[test]
fn a_client_has_so_many_links_and_is_told() {
    let volunteer = Volunteer::start(&[]);
    let client = client_of(volunteer.directory.path());
    let _held: Vec<Link> = (0..16).map(|_| link_of(&volunteer, &client)).collect();
    let mut more = Link::connect(volunteer.port, &client);
    more.stream.write_all(&OPENING).expect("a connection");
    more.send(&ToVolunteer::Hello { version: VERSION, build: "test".into(), client: "test".into() });
    assert!(matches!(more.next(), ToBroker::Hello { slots: 0, .. }));
    assert!(matches!(more.next(), ToBroker::Fatal { why } if why.contains("too many links")));
    assert!(more.is_closed());
    link_of(&volunteer, &another(&volunteer));
}

#[test]
fn half_open_connections_from_one_address_are_few_and_cost_no_client_its_link() {
    // At any other level the log tells of some of them and counts the rest.
    let volunteer = Volunteer::start(&["--log-level", "debug"]);
    let begun = Instant::now();
    let idle: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, volunteer.port)).expect("the port is open"))
        .collect();
    volunteer.link();
    let pushed_out = || volunteer.log().matches("closed: no hello, and others wait").count();
    crate::remote::volunteer::wait_for("the crowd is kept small", || pushed_out() >= 200 - 16);
    assert!(begun.elapsed() < HELLO_TIMEOUT + Duration::from_secs(20));
    drop(idle);
}

#[test]
fn the_jobs_of_a_client_whose_key_is_revoked_end_within_seconds() {
    let volunteer = Volunteer::start(&[]);
    let slow = volunteer.fake_compiler("sleep 600");
    let client = another(&volunteer);
    let mut link = link_of(&volunteer, &client);
    link.start_job(1, &slow, b"text");
    let pid = volunteer.compiler_pid();
    let mut kept = volunteer.link();
    files::edit(&volunteer.path("state/authorized_keys"), 1 << 20, |text| {
        text.replace(&client.public().to_string(), "# gone")
    })
    .expect("a list of our own");
    let begun = Instant::now();
    crate::remote::volunteer::wait_for("the compiler is gone", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let why = link.wait(|message| matches!(message, ToBroker::Fatal { .. }));
    assert!(matches!(why, ToBroker::Fatal { why } if why.contains("not authorised any more")));
    assert!(link.is_closed());
    // Others keep theirs.
    kept.send(&ToVolunteer::Ping { token: 7 });
    kept.wait(|message| *message == ToBroker::Pong { token: 7 });
}
