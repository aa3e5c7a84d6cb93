//! `--drain`, `--exclude` and `--use`.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::status::compile;
use crate::farm::{COMMAND_MAX, Farm, Running, SHIM, signal_pid, wait_until};

/// A compile that was caught on a volunteer, and stands still there.
struct Caught {
    build: Running,
    compiler: u32,
    host: String,
}

impl Caught {
    /// Starts a compile that takes some seconds, and stops its compiler.
    fn start(farm: &Farm) -> Caught {
        let function = |at| {
            format!(
                "int f{at}(const int *t, int n) {{ int s = {at}; for (int i = 1; i < n; i++) {{ \
                 s += t[i] * (i + {at}) ^ t[i - 1]; if (s % {} == 0) s -= t[n - i]; }} return s; }}\n",
                at + 2
            )
        };
        fs::write(farm.work().join("long.c"), (0..1200).map(function).collect::<String>())
            .expect("our own file");
        let mut command = farm.command(SHIM);
        command.args(["gcc", "-O2", "-c", "long.c", "-o", "long.o"]);
        let build = Running::start(command);
        let mut compiler = 0;
        wait_until("the compiler runs on a volunteer", COMMAND_MAX, || {
            let cc1 = farm.processes().into_iter().find(|process| process.program == "cc1");
            compiler = cc1.map_or(0, |process| process.pid);
            compiler != 0
        });
        signal_pid(compiler, Signal::STOP);
        let status = farm.status();
        let host = status["jobs"][0]["host"].as_str().unwrap_or_default().to_owned();
        assert!(host.starts_with("127.0.0.1:"), "it is not elsewhere: {status}");
        Caught { build, compiler, host }
    }
}

fn host<'a>(status: &'a Value, name: &str) -> &'a Value {
    let hosts = status["hosts"].as_array().expect("hosts");
    hosts.iter().find(|host| host["host"] == name).unwrap_or_else(|| panic!("{name} is not in {status}"))
}

#[test]
fn a_drained_host_finishes_what_it_has_and_others_get_the_rest() {
    let farm = Farm::new(2);
    compile(&farm, &["a"]);
    let caught = Caught::start(&farm);
    let said = farm.shim(["--drain", &caught.host]).expect_success("--drain");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said, format!("{} is drained: it finishes what it has and gets no more\n", caught.host));
    let before = farm.status();
    let drained = host(&before, &caught.host);
    assert_eq!((&drained["hold"], &drained["held"]), (&"drained".into(), &false.into()));
    assert_eq!(drained["slots_used"], 1, "its job was taken away: {before}");
    compile(&farm, &["b", "c", "d"]);
    assert_eq!(host(&farm.status(), &caught.host)["done"], drained["done"], "it got a job");
    signal_pid(caught.compiler, Signal::CONT);
    caught.build.finish(COMMAND_MAX).expect_success("the compile that was there");
    farm.settle();
    let after = farm.status();
    assert_eq!((&after["totals"]["remote"], &after["totals"]["local"]), (&5.into(), &0.into()), "{after}");
    farm.finish();
}

#[test]
fn an_excluded_host_loses_its_job_to_another() {
    let farm = Farm::new(2);
    compile(&farm, &["a"]);
    let caught = Caught::start(&farm);
    farm.shim(["--exclude", &caught.host]).expect_success("--exclude");
    // It stood still for ever: only another can have done it.
    caught.build.finish(COMMAND_MAX).expect_success("the compile that was there");
    farm.settle();
    let status = farm.status();
    assert_eq!(status["totals"]["remote"], 2, "{status}");
    assert_eq!(status["totals"]["local"], 0, "{status}");
    assert_eq!(
        (&host(&status, &caught.host)["hold"], status["totals"]["retried"].as_u64()),
        (&"excluded".into(), Some(1))
    );
    farm.shim(["--use", &caught.host]).expect_success("--use");
    assert_eq!(host(&farm.status(), &caught.host)["hold"], "free");
    farm.finish();
}

#[test]
fn a_farm_without_hosts_that_may_be_used_compiles_here() {
    let farm = Farm::new(2);
    compile(&farm, &["a"]);
    let names: Vec<String> = farm.volunteers.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
    farm.shim(["--exclude", &names[0], &names[1]]).expect_success("--exclude");
    compile(&farm, &["b"]);
    assert_eq!((farm.total("remote"), farm.local_reason("no-volunteer")), (1, 1), "{}", farm.status());
    let text = String::from_utf8_lossy(&farm.shim(["--status"]).stdout).into_owned();
    assert!(text.contains(&format!("excluded: gets no jobs until distcc --use {}", names[0])), "{text}");
    let explained = farm.shim(["--explain", "gcc", "-c", "a.c"]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains(&format!("distcc --use {} undoes it", names[1])), "{explained}");
    farm.shim(["--use", &names[0], &names[1]]).expect_success("--use");
    compile(&farm, &["c"]);
    assert_eq!(farm.total("remote"), 2);
    farm.finish();
}

#[test]
fn a_host_that_cannot_be_held_is_told_of() {
    let farm = Farm::new(1);
    let nobody = farm.shim(["--drain", "build7"]);
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no broker is running"), "{nobody:?}");
    compile(&farm, &["a"]);
    let unknown = farm.shim(["--drain", "build7", "127.0.0.1"]);
    assert_eq!(unknown.status.code(), Some(100), "{unknown:?}");
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("the broker knows no host build7"), "{said}");
    assert!(
        String::from_utf8_lossy(&unknown.stdout).contains("is drained"),
        "a name without its port means the only one"
    );
    assert_eq!(farm.shim(["--use"]).status.code(), Some(101));
    farm.finish();
}
