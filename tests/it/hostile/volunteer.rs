//! Volunteers that a client trusts, and that mean harm.
//!
//! A [`Liar`] speaks the native protocol well up to the answer. Whatever it answers, the build ends with
//! the object of a local compile, and the client's folder holds what a local compile leaves in it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use distcc::common::bytes::Bytes;
use distcc::common::protocol::io::{push_data, push_message};
use distcc::common::protocol::link::{Audit, Compiled, FrameHeader, FrameKind, Packing, Part, Product};
use distcc::common::protocol::wire;
use distcc::common::toolchain::Digest;
use distcc::common::trust::files;
use distcc::common::trust::key::Identity;
use distcc::common::trust::tls;
use rustls::{ServerConnection, StreamOwned};

use super::*;
use crate::farm::Farm;

/// The volunteer's end of a connection, and all that these tests know of how it is made.
trait Connection: Read + Write + Send {}
impl Connection for StreamOwned<ServerConnection, TcpStream> {}

/// Accepts the next client, whoever it is.
fn accept(listener: &TcpListener, key: &Identity) -> Option<Box<dyn Connection>> {
    let config = tls::server(key, Box::new(|_| true)).expect("a key");
    let connection = ServerConnection::new(config).expect("a connection");
    Some(Box::new(StreamOwned::new(connection, listener.accept().ok()?.0)))
}

/// What one makes of a job: bytes on the connection.
type Lie = fn(&mut dyn Connection, u32, &Path);

/// A volunteer that answers with a lie.
struct Liar {
    port: u16,
}

impl Liar {
    /// One that a farm's client knows.
    fn start(farm: &Farm, lie: Lie) -> Liar {
        let (work, state) = (farm.work(), farm.directory_of_tests("liar"));
        farm.introduce(&state);
        let key = files::secret(&state.join("volunteer.key")).expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let port = listener.local_addr().expect("an address").port();
        // It ends with the test's process.
        std::thread::spawn(move || {
            while let Some(mut connection) = accept(&listener, &key) {
                let work = work.clone();
                std::thread::spawn(move || drop(serve(&mut *connection, &work, lie)));
            }
        });
        Liar { port }
    }
}

fn say(connection: &mut dyn Connection, message: &ToBroker) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    push_message(&mut bytes, message);
    connection.write_all(&bytes)
}

fn serve(connection: &mut dyn Connection, work: &Path, lie: Lie) -> std::io::Result<()> {
    let mut opening = [0; OPENING.len()];
    connection.read_exact(&mut opening)?;
    say(connection, &ToBroker::Hello { version: VERSION, build: "liar".into(), slots: 4 })?;
    say(connection, &ToBroker::Able { hermetic: true, sandbox: "namespaces".into() })?;
    say(connection, &ToBroker::Credit { jobs: 4, why: String::new() })?;
    loop {
        let mut head = [0; FrameHeader::LEN];
        connection.read_exact(&mut head)?;
        let header = FrameHeader::decode(&head).expect("a header");
        let mut body = vec![0; header.length as usize];
        connection.read_exact(&mut body)?;
        if header.kind != FrameKind::Message {
            continue;
        }
        match wire::decode(&body).expect("a message") {
            ToVolunteer::Ping { token } => say(connection, &ToBroker::Pong { token })?,
            ToVolunteer::Provision { provision, .. } => {
                say(connection, &ToBroker::Provisioned { provision, trouble: String::new() })?;
            }
            ToVolunteer::Compile { job, .. } => lie(connection, job, work),
            _ => {}
        }
    }
}

/// A part as it should be, and its bytes on the way.
fn part(bytes: &[u8]) -> (Part, Vec<u8>) {
    let packed = zstd::encode_all(bytes, 1).expect("packed");
    let (digest, size) = (Digest::of(&packed), bytes.len() as u64);
    (Part { packing: Packing::Zstd, digest, size, packed: packed.len() as u64 }, packed)
}

/// An answer with these words on stderr and these products.
fn answer(job: u32, stderr: &[u8], products: &[(PathBuf, &[u8])]) -> (Compiled, Vec<u8>) {
    let (stdout, mut data) = part(b"");
    let (stderr, packed) = part(stderr);
    data.extend(packed);
    let products = products
        .iter()
        .map(|(path, bytes)| {
            let (part, packed) = part(bytes);
            data.extend(packed);
            Product { path: Bytes::from(path.as_path()), part }
        })
        .collect();
    let ended = Ended::Exited(0);
    let audit = Audit::Agrees;
    (Compiled { job, ended, stdout, stderr, products, audit, wall_us: 1000, cpu_us: 1000 }, data)
}

fn send(connection: &mut dyn Connection, compiled: &Compiled, data: &[u8]) {
    let mut bytes = Vec::new();
    push_message(&mut bytes, &ToBroker::Compiled(compiled.clone()));
    for chunk in data.chunks(60_000) {
        push_data(&mut bytes, compiled.job, chunk);
    }
    // A client that has heard enough hangs up.
    let _ = connection.write_all(&bytes);
}

/// The words as they were, and these bytes for the product.
fn send_instead(connection: &mut dyn Connection, compiled: &Compiled, product: &[u8]) {
    send(connection, compiled, &[&part(b"").1, &part(b"").1, product].concat());
}

fn send_products(connection: &mut dyn Connection, job: u32, products: &[(PathBuf, &[u8])]) {
    let (compiled, data) = answer(job, b"", products);
    send(connection, &compiled, &data);
}

/// A build of one file with a liar as the only volunteer; how often the job was kept for which reason.
fn build(lie: Lie, set: &[(&str, &str)]) -> Farm {
    let mut farm = Farm::new(0);
    let work = farm.work();
    fs::write(work.join("a.c"), "int f(void) { return 1; }\n").unwrap();
    fs::write(work.join("precious"), "precious").unwrap();
    std::os::unix::fs::symlink("precious", work.join("link.d")).unwrap();
    fs::create_dir(work.join("sub")).unwrap();
    let liar = Liar::start(&farm, lie);
    farm.more_hosts = vec![format!("127.0.0.1:{}/4", liar.port)];
    let mut command = farm.command(crate::farm::SHIM);
    command.args(["gcc", "-O1", "-c", "a.c", "-o", "a.o"]).envs(set.iter().copied());
    crate::farm::run(command, crate::farm::COMMAND_MAX).expect_success("a compile");
    let object = fs::read(work.join("a.o")).unwrap();
    let here = farm.directory_of_tests("here.o");
    let status = Command::new("gcc").args(["-O1", "-c", "a.c", "-o"]).arg(&here).current_dir(&work).status();
    assert!(status.unwrap().success());
    assert!(object == fs::read(&here).unwrap(), "the object is not that of a local compile");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(work.join("a.o")).unwrap().permissions());
    assert_eq!(mode & 0o7111, 0, "{mode:o}");
    let mut names: Vec<_> =
        fs::read_dir(&work).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["a.c", "a.o", "link.d", "precious", "sub"]);
    assert_eq!(fs::read_to_string(work.join("precious")).unwrap(), "precious");
    assert_eq!(fs::read_dir(work.join("sub")).unwrap().count(), 0);
    farm
}

/// The same, where the job must have come to its end here.
fn check(lie: Lie) -> Farm {
    let farm = build(lie, &[]);
    assert_eq!(farm.total("remote"), 0, "the lie was believed: {}", farm.status());
    farm
}

#[test]
fn outputs_that_were_not_asked_for_are_not_taken() {
    for lie in [
        (|connection, job, work| {
            send_products(connection, job, &[(work.join("a.o"), b"x"), (work.join("b.o"), b"y")]);
        }) as Lie,
        |connection, job, work| {
            send_products(connection, job, &[(work.join("a.o"), b"x"), (work.join("Makefile"), b"y")]);
        },
        |connection, job, work| send_products(connection, job, &[(work.join("a.o.d"), b"x")]),
    ] {
        let farm = check(lie);
        assert_eq!(farm.local_reason("unexpected-output"), 1, "{}", farm.status());
    }
}

#[test]
fn paths_that_lead_elsewhere_are_not_taken() {
    for lie in [
        (|connection, job, work| {
            send_products(connection, job, &[(work.join("sub/../../outside.o"), b"x")]);
        }) as Lie,
        |connection, job, work| send_products(connection, job, &[(work.join("sub/../a.o"), b"x")]),
        |connection, job, _| send_products(connection, job, &[("/etc/distcc-was-here".into(), b"x")]),
        |connection, job, _| send_products(connection, job, &[("a.o".into(), b"x")]),
        |connection, job, _| send_products(connection, job, &[("".into(), b"x")]),
        |connection, job, work| send_products(connection, job, &[(work.join("sub/a.o"), b"x")]),
        |connection, job, work| send_products(connection, job, &[(work.join("link.d"), b"x")]),
        |connection, job, work| send_products(connection, job, &[(work.join("a.o\0b"), b"x")]),
        |connection, job, work| send_products(connection, job, &[(work.join("sub"), b"x")]),
    ] {
        check(lie);
        assert!(!Path::new("/etc/distcc-was-here").exists());
    }
}

#[test]
fn an_answer_without_the_object_is_none() {
    let farm = check(|connection, job, _| send_products(connection, job, &[]));
    assert_eq!(farm.local_reason("no-volunteer"), 1, "{}", farm.status());
}

#[test]
fn sizes_and_digests_that_lie_are_found_out() {
    for lie in [
        (|connection, job, work| {
            let (mut compiled, data) = answer(job, b"", &[(work.join("a.o"), b"x")]);
            compiled.products[0].part.size = u64::MAX;
            send(connection, &compiled, &data);
        }) as Lie,
        |connection, job, work| {
            let (mut compiled, data) = answer(job, b"", &[(work.join("a.o"), b"x")]);
            compiled.products[0].part.packed = u64::MAX;
            send(connection, &compiled, &data);
        },
        |connection, job, work| {
            let (mut compiled, data) = answer(job, b"", &[(work.join("a.o"), b"xyz")]);
            compiled.products[0].part.size = 2;
            send(connection, &compiled, &data);
        },
        |connection, job, work| {
            let (mut compiled, data) = answer(job, b"", &[(work.join("a.o"), b"xyz")]);
            compiled.products[0].part.size = 1 << 20;
            send(connection, &compiled, &data);
        },
        // A gigabyte of nothing, packed.
        |connection, job, work| {
            let (mut compiled, _) = answer(job, b"", &[(work.join("a.o"), b"xyz")]);
            let packed = zstd::encode_all(std::io::repeat(0).take(1 << 30), 1).expect("packed");
            compiled.products[0].part.packed = packed.len() as u64;
            compiled.products[0].part.digest = Digest::of(&packed);
            send_instead(connection, &compiled, &packed);
        },
        |connection, job, work| {
            let (mut compiled, data) = answer(job, b"", &[(work.join("a.o"), b"xyz")]);
            compiled.products[0].part.digest = Digest::of(b"something else");
            send(connection, &compiled, &data);
        },
        |connection, job, work| {
            let (compiled, _) = answer(job, b"", &[(work.join("a.o"), b"xyz")]);
            let garbage = vec![7; compiled.products[0].part.packed as usize];
            send_instead(connection, &compiled, &garbage);
        },
        |connection, job, work| {
            let (mut compiled, _) = answer(job, b"", &[(work.join("a.o"), b"xyz")]);
            let garbage = vec![7; compiled.products[0].part.packed as usize];
            compiled.products[0].part.digest = Digest::of(&garbage);
            send_instead(connection, &compiled, &garbage);
        },
        |connection, job, work| {
            let (mut compiled, data) = answer(job, b"", &[(work.join("a.o"), b"xyz")]);
            compiled.products[0].part.packing = Packing::Lz4;
            send(connection, &compiled, &data);
        },
        |connection, job, work| {
            let products: Vec<(PathBuf, &[u8])> =
                (0..5000).map(|number| (work.join(format!("a.o{number}")), &b""[..])).collect();
            send_products(connection, job, &products);
        },
    ] {
        check(lie);
    }
}

#[test]
fn an_output_without_end_is_cut_off() {
    check(|connection, job, work| {
        let (mut compiled, data) = answer(job, b"", &[(work.join("a.o"), b"xyz")]);
        compiled.products[0].part.packed += 100_000;
        send(connection, &compiled, &data);
        let mut more = Vec::new();
        push_data(&mut more, job, &[0; 60_000]);
        while connection.write_all(&more).is_ok() {}
    });
}

#[test]
fn a_result_of_another_job_is_nobodys() {
    check(|connection, job, work| {
        let (compiled, data) = answer(job ^ 1, b"", &[(work.join("a.o"), b"xyz")]);
        send(connection, &compiled, &data);
        // And then it is gone.
        let _ = say(connection, &ToBroker::Fatal { why: "enough".to_owned() });
    });
}

#[test]
fn bytes_that_come_slowly_keep_nobody_waiting_for_ever() {
    check(|connection, job, work| {
        let object = vec![1; 100_000];
        let (mut compiled, _) = answer(job, b"", &[(work.join("a.o"), &object)]);
        compiled.products[0].part.packed = 100_000;
        let mut bytes = Vec::new();
        push_message(&mut bytes, &ToBroker::Compiled(compiled));
        let mut alive = connection.write_all(&bytes).is_ok();
        let begun = std::time::Instant::now();
        while alive && begun.elapsed() < Duration::from_secs(50) {
            bytes.clear();
            push_data(&mut bytes, job, &[1]);
            alive = connection.write_all(&bytes).is_ok();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn words_that_would_command_a_terminal_are_not_shown() {
    let farm = check(|connection, job, work| {
        let stderr = b"a.c: warning: \x1b]0;owned\x07\x1b[2J\n";
        let (compiled, data) = answer(job, stderr, &[(work.join("a.o"), b"xyz")]);
        send(connection, &compiled, &data);
    });
    assert_eq!(farm.local_reason("remote-diagnostics"), 1, "{}", farm.status());
}

/// An object that looks well in every way, and is not what this machine makes.
fn trojan(connection: &mut dyn Connection, job: u32, work: &Path) {
    send_products(connection, job, &[(work.join("a.o"), b"an object with something in it")]);
}

#[test]
fn a_volunteer_whose_object_differs_is_found_out_and_used_no_more() {
    let farm = build(trojan, &[("DISTCC_VERIFY", "1")]);
    assert_eq!(farm.local_reason("verification"), 1, "{}", farm.status());
    assert_eq!(farm.status()["hosts"][0]["held"], true, "{}", farm.status());
    let reports: Vec<_> =
        fs::read_dir(farm.home().join("verify")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(fs::read(reports[0].join("there")).unwrap(), b"an object with something in it");
    assert_eq!(fs::read(reports[0].join("here")).unwrap(), fs::read(farm.work().join("a.o")).unwrap());
    let report = fs::read_to_string(reports[0].join("report.txt")).unwrap();
    assert!(report.contains("volunteer: 127.0.0.1:") && report.contains("gcc -O1 -c a.c -o a.o"), "{report}");
    // The next compile goes to nobody.
    farm.shim(["gcc", "-O1", "-c", "a.c", "-o", "b.o"]).expect_success("a compile");
    assert_eq!(farm.total("remote"), 0, "{}", farm.status());
}

/// What a compile with these words leaves as a.o, of a client that keeps results.
fn kept_compile(farm: &Farm, words: &[&str], verify: &str) -> Vec<u8> {
    let mut command = farm.command(crate::farm::SHIM);
    command.args(["gcc", "-c", "a.c", "-o", "a.o"]).args(words);
    command.env("DISTCC_CACHE", farm.directory_of_tests("cache")).env("DISTCC_VERIFY", verify);
    crate::farm::run(command, crate::farm::COMMAND_MAX).expect_success("a compile");
    fs::read(farm.work().join("a.o")).unwrap()
}

#[test]
fn results_of_a_volunteer_that_was_caught_are_served_no_more() {
    let mut farm = Farm::new(0);
    fs::write(farm.work().join("a.c"), "int f(void) { return 1; }\n").unwrap();
    let liar = Liar::start(&farm, trojan);
    let hosts = [format!("127.0.0.1:{}/4", liar.port)];
    farm.more_hosts = hosts.to_vec();
    let bad = b"an object with something in it";
    assert_eq!(kept_compile(&farm, &[], "0"), bad);
    // It is served from the cache until somebody looks.
    let cache = farm.directory_of_tests("cache");
    wait_for("the result is kept", || crate::farm::kept_results(&cache) > 0);
    assert_eq!(kept_compile(&farm, &[], "0"), bad);
    assert_eq!(farm.total("cached"), 1, "{}", farm.status());
    assert_ne!(kept_compile(&farm, &["-DX"], "1"), bad);
    assert_eq!(farm.local_reason("verification"), 1, "{}", farm.status());
    let good = kept_compile(&farm, &["-DX"], "0");
    assert_ne!(good, bad);
    // Neither this broker serves what was kept before, nor one that has never met the liar.
    for _ in 0..2 {
        assert_eq!(kept_compile(&farm, &[], "0"), good, "{}", farm.status());
        farm.shim(["--stop"]);
        wait_for("the broker ends", || farm.brokers().is_empty());
        farm.more_hosts = vec!["127.0.0.1:1".to_owned()];
    }
    let list = fs::read_to_string(farm.home().join("keys/distrusted")).unwrap();
    assert_eq!(list.lines().count(), 1, "{list}");
}

#[test]
fn an_honest_volunteer_stands_the_test() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.c"), "#include <stdio.h>\nint main(void) { return puts(__FILE__); }\n")
        .unwrap();
    for (number, options) in [&["-O2"][..], &["-g", "-MD"], &["-D__x=__TIME__"]].into_iter().enumerate() {
        let mut command = farm.command(crate::farm::SHIM);
        command.arg("gcc").args(options).args(["-c", "a.c", "-o"]).arg(format!("{number}.o"));
        command.env("DISTCC_VERIFY", "1");
        crate::farm::run(command, crate::farm::COMMAND_MAX).expect_success("a compile");
        assert_eq!(farm.total("remote"), number as u64 + 1, "{}", farm.status());
    }
    // As a text, too.
    fs::write(farm.work().join("b.c"), "const char *f(void) { return __TIME__ + 8; }\n").unwrap();
    let mut command = farm.command(crate::farm::SHIM);
    command.args(["gcc", "-c", "b.c", "-o", "b.o"]).env("DISTCC_VERIFY", "1");
    crate::farm::run(command, crate::farm::COMMAND_MAX).expect_success("a compile");
    assert_eq!(farm.local_reason("verification"), 0, "{}", farm.status());
    assert_eq!(farm.status()["hosts"][0]["held"], false, "{}", farm.status());
    farm.finish();
}
