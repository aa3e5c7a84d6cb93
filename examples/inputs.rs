//! Makes the inputs of one hermetic compile, again and again, and says what it costs.
//!
//!     cargo run --release --example inputs -- [-n TIMES] gcc -O2 -c a.c
//!
//! Prints how many entries the set has, how many bytes the message takes once its items are known,
//! and the processor time of the first and of a later time.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use distcc::broker::hermetic::Hermetic;
use distcc::broker::host_lists::HostLists;
use distcc::broker::plan::Planner;
use distcc::broker::toolchain::Compilers;
use distcc::common::bytes::Bytes;
use distcc::common::invocation::{Invocation, Origin};
use distcc::common::protocol::wire;

fn cpu() -> Duration {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(usage.tv_sec as u64, usage.tv_nsec as u32)
}

fn main() {
    let mut words: Vec<Bytes> = std::env::args_os().skip(1).map(Bytes::from).collect();
    let mut times = 100;
    if words.first().is_some_and(|word| **word == *b"-n") {
        times = words[1].to_text().parse().expect("a number");
        words.drain(..2);
    }
    let origin = Origin { mounts: 1, ..Origin::default() };
    let env = std::env::vars_os()
        .map(|(name, value)| Bytes([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .chain([Bytes::from("DISTCC_HOSTS=127.0.0.1")])
        .collect();
    let cwd = Bytes::from_path(std::env::current_dir().expect("a directory"));
    let invocation = Invocation { argv: words, cwd, env, origin, ..Invocation::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (compilers, host_lists) = (Compilers::default(), HostLists::default());
        let scratch = std::env::temp_dir();
        let planner = Planner { compilers: &compilers, host_lists: &host_lists, origin, scratch: &scratch };
        let hermetic = Arc::new(Hermetic::default());
        let mut steps = [Duration::ZERO; 3];
        for time in 0..=times {
            let begin = cpu();
            let plan = planner.plan(&invocation).await.unwrap_or_else(|reason| panic!("local: {reason}"));
            let planned = cpu();
            let closure = hermetic.closure(&plan, &invocation).await.unwrap_or_else(|why| panic!("{why}"));
            let closed = cpu();
            let found = hermetic.scan(&closure, &plan, &invocation).unwrap_or_else(|why| panic!("{why}"));
            let job =
                hermetic.prepare(&closure, &plan, &invocation, &found).unwrap_or_else(|why| panic!("{why}"));
            let prepared = cpu();
            if time == 0 {
                println!("{} items, {} files read", job.items.len(), job.scanned.files.len());
                println!("{} bytes of message", wire::encode(&job.compile).len());
                println!(
                    "first: plan {:?}, closure {:?}, inputs {:?}",
                    planned - begin,
                    closed - planned,
                    prepared - closed
                );
            } else {
                steps = [
                    steps[0] + (planned - begin),
                    steps[1] + (closed - planned),
                    steps[2] + (prepared - closed),
                ];
            }
        }
        let [plan, closure, inputs] = steps.map(|step| step / times);
        println!("later: plan {plan:?}, closure {closure:?}, inputs {inputs:?}");
    });
}
