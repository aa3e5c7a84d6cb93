//! A thousand random farms and builds; a failing one prints its seed and its last events.

use std::time::Duration;

use super::cast::{Build, Volunteer};
use super::world::World;
use crate::broker::scheduler::api::*;
use crate::broker::scheduler::rng::Rng;
use crate::broker::scheduler::snapshot::Totals;

fn volunteer(rng: &mut Rng) -> Volunteer {
    let slots = 1 + rng.below(6) as u32;
    let mut is = Volunteer::good(slots);
    match rng.below(12) {
        0 => is.slowness = 10.0,
        1 => is.slowness = 2.5,
        2 => is.alive = false,
        3 => is.flaps = Some((Duration::from_secs(1), Duration::from_secs(1))),
        4 => is.flaps = Some((Duration::from_secs(2 + rng.below(9)), Duration::from_secs(rng.below(90)))),
        5 => (is.credit, is.holds) = (Some(slots + 4), slots.min(2)),
        6 => is.credit = Some(0),
        7 => is.silent = 300,
        8 => is.fails = 400,
        9 => is.lacks = Some(ToolchainId(rng.below(2) as u32)),
        10 => is.connects_in = Duration::from_millis(rng.below(9000)),
        _ => is.credit = None,
    }
    is
}

fn build(rng: &mut Rng, volunteers: u64) -> Build {
    let mut hosts = Vec::new();
    for number in 0..volunteers {
        if rng.below(5) > 0 {
            hosts.push(HostUse { host: HostId(number as u32), slots: 1 + rng.below(8) as u32 });
        }
    }
    let outstanding = 1 + rng.below(20) as u32;
    let listed = if rng.below(4) == 0 { 1 + rng.below(3) as u32 } else { 0 };
    let few = |rng: &mut Rng| 1 + rng.below(4) as u32;
    Build {
        outstanding,
        jobs: outstanding + rng.below(24) as u32,
        hosts,
        local: LocalSlots { preprocess: few(rng), compile: few(rng), link: few(rng), listed },
        fallback: rng.below(5) > 0,
        toolchain: ToolchainId(rng.below(2) as u32),
        links: rng.below(2) * 100,
        goes: rng.below(3) * 60,
        troubles: rng.below(3) * 30,
        takes: Duration::from_millis(100 + rng.below(900)),
        spread: 1 + rng.below(8),
    }
}

fn world(seed: u64) -> World {
    let mut rng = Rng::new(seed);
    let volunteers: Vec<Volunteer> = (0..rng.below(7)).map(|_| volunteer(&mut rng)).collect();
    let count = volunteers.len() as u64;
    let builds = (0..1 + rng.below(3)).map(|_| build(&mut rng, count)).collect();
    let mut world = World::new(seed, volunteers, builds);
    if rng.below(6) == 0 {
        world.drain_after(Duration::from_millis(rng.below(8000)));
    }
    if count > 0 && rng.below(3) == 0 {
        holds(&mut world, &mut rng, count);
    }
    world
}

/// The user drains and excludes hosts and lets them go again; now and then one is caught lying.
fn holds(world: &mut World, rng: &mut Rng, volunteers: u64) {
    for _ in 0..1 + rng.below(6) {
        let hold = match rng.below(10) {
            0..4 => Hold::Free,
            4..7 => Hold::Drained,
            7..9 => Hold::Excluded,
            _ => Hold::Distrusted,
        };
        let host = HostId(rng.below(volunteers) as u32);
        world.hold_after(Duration::from_millis(rng.below(6000)), host, hold);
    }
}

fn sum_of(seeds: std::ops::Range<u64>) -> Totals {
    let mut sum = Totals::default();
    for seed in seeds {
        let mut world = world(seed);
        world.run();
        add(&mut sum, world.scheduler.snapshot(world.now).totals);
    }
    sum
}

fn add(sum: &mut Totals, more: Totals) {
    sum.remote += more.remote;
    sum.retried += more.retried;
    sum.hedged += more.hedged;
    sum.forbidden += more.forbidden;
    sum.abandoned += more.abandoned;
    for (key, count) in more.local {
        *sum.local.entry(key).or_default() += count;
    }
}

#[test]
fn a_thousand_builds_keep_every_promise() {
    let halves = std::thread::scope(|scope| {
        [0..500, 500..1000].map(|seeds| scope.spawn(|| sum_of(seeds))).map(|half| match half.join() {
            Ok(sum) => sum,
            Err(why) => std::panic::resume_unwind(why),
        })
    });
    let [mut sum, other] = halves;
    add(&mut sum, other);
    // A world in which nothing goes wrong would keep every promise too.
    let local = |key| sum.local.get(key).copied().unwrap_or(0);
    let seen = [sum.remote, sum.retried, sum.hedged, sum.forbidden, sum.abandoned];
    assert!(seen.iter().all(|count| *count > 50), "{sum:?}");
    for key in ["no-volunteer", "no-hosts", "localhost-listed", "sooner", "straggler", "draining"] {
        assert!(local(key) > 20, "{key}: {sum:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 77, 500] {
        let runs = [(); 2].map(|()| {
            let mut world = world(seed);
            let took = world.run();
            (took, world.sends, format!("{:?}", world.scheduler.snapshot(world.now)))
        });
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}
