//! How long whole builds take, in virtual time.

use std::time::Duration;

use super::cast::{Build, Volunteer, all, build};
use super::world::World;

fn makespan(volunteers: Vec<Volunteer>, build: Build) -> (Duration, World) {
    let mut world = World::new(1, volunteers, vec![build]);
    let took = world.run();
    (took, world)
}

fn local(world: &World, key: &str) -> u64 {
    world.scheduler.snapshot(world.now).totals.local.get(key).copied().unwrap_or(0)
}

fn here(world: &World) -> u64 {
    world.scheduler.snapshot(world.now).totals.local.values().sum()
}

/// The same build with only the fast half, and with a slow half beside it.
fn with_a_slow_half(outstanding: u32, jobs: u32, slowness: f64) -> f64 {
    let fast = vec![Volunteer::good(4); 2];
    let slow = Volunteer { slowness, ..Volunteer::good(4) };
    let both = vec![slow.clone(), fast[0].clone(), slow, fast[1].clone()];
    let only_fast = build(outstanding, jobs, all(&fast));
    let mixed = build(outstanding, jobs, all(&both));
    let (alone, _) = makespan(fast, only_fast);
    let (with, _) = makespan(both, mixed);
    with.as_secs_f64() / alone.as_secs_f64()
}

#[test]
fn half_a_farm_that_is_ten_times_slower_does_not_hold_the_build_up() {
    for (outstanding, jobs) in [(8, 100), (8, 400), (16, 100), (16, 200), (16, 400), (64, 400), (200, 400)] {
        let ratio = with_a_slow_half(outstanding, jobs, 10.0);
        assert!(ratio <= 1.3, "-j{outstanding} with {jobs} jobs: {ratio}");
    }
}

#[test]
fn half_a_farm_that_is_twice_slower_helps() {
    let ratio = with_a_slow_half(20, 800, 2.0);
    assert!(ratio < 0.85, "{ratio}");
}

#[test]
fn a_farm_is_kept_busy() {
    let volunteers = vec![Volunteer::good(8); 4];
    let hosts = all(&volunteers);
    let (took, _) = makespan(volunteers, build(64, 640, hosts));
    // 640 jobs of a second on 32 slots: 20 s, and 10 % noise in each.
    assert!(took < Duration::from_secs(23), "{took:?}");
}

#[test]
fn twice_as_many_jobs_as_slots_on_equal_machines_hardly_overflow() {
    for spread in [1, 4, 10] {
        let volunteers = vec![Volunteer::good(4); 2];
        let build = Build { spread, ..build(16, 400, all(&volunteers)) };
        let (_, world) = makespan(volunteers, build);
        let sooner = local(&world, "sooner");
        assert!(sooner < 12, "spread {spread}: {sooner} of 400 overflowed");
    }
}

#[test]
fn many_jobs_for_one_slot_overflow() {
    let volunteers = vec![Volunteer::good(1)];
    let hosts = all(&volunteers);
    let (took, world) = makespan(volunteers, build(16, 200, hosts));
    assert!(local(&world, "sooner") > 100);
    assert!(took < Duration::from_secs(50), "{took:?}");
}

#[test]
fn a_farm_far_slower_than_this_machine_leaves_it_busy() {
    let volunteers = vec![Volunteer { slowness: 10.0, ..Volunteer::good(4) }; 2];
    let hosts = all(&volunteers);
    let (took, world) = makespan(volunteers, build(16, 1500, hosts));
    // The first hundred take 125 s, until one job here has shown how fast this machine is. With the volunteers
    // alone all take 1,875 s; here alone, four at a time, the rest takes 350 s.
    assert!(took < Duration::from_secs(700), "{took:?}");
    assert!(local(&world, "sooner") > 1000, "{took:?}");
}

#[test]
fn with_every_host_down_a_build_takes_as_long_as_without_hosts() {
    let volunteers = vec![Volunteer { alive: false, ..Volunteer::good(4) }; 3];
    let hosts = all(&volunteers);
    let (took, world) = makespan(volunteers, build(16, 100, hosts));
    assert_eq!(here(&world), 100);
    assert!(took < Duration::from_millis(25_500), "{took:?}");
}

#[test]
fn volunteers_whose_packets_are_swallowed_cost_a_build_three_seconds_at_most() {
    let hole = Volunteer { alive: false, connects_in: Duration::from_secs(120), ..Volunteer::good(4) };
    let volunteers = vec![hole; 3];
    let hosts = all(&volunteers);
    let (took, world) = makespan(volunteers, build(16, 100, hosts));
    assert_eq!(local(&world, "no-volunteer"), 100);
    assert!(took < Duration::from_millis(28_500), "{took:?}");
}

#[test]
fn a_small_make_beside_a_huge_one_keeps_its_share() {
    let volunteers = vec![Volunteer::good(8); 2];
    let hosts = all(&volunteers);
    let huge = build(300, 2000, hosts.clone());
    let small = build(4, 40, hosts);
    let mut world = World::new(1, volunteers, vec![huge, small]);
    world.check_all = false;
    let done = world.run_until_build_is_over(1);
    // Alone it takes 10 s; sharing 16 slots by turns it must not take ten times as long.
    assert!(done < Duration::from_secs(35), "{done:?}");
}
