//! Who takes part in a world: volunteers and builds.

use std::time::Duration;

use crate::broker::scheduler::api::*;

/// How a volunteer is.
#[derive(Clone, Debug)]
pub struct Volunteer {
    /// How many times longer than normal it takes.
    pub slowness: f64,
    /// What it really holds; more is turned away.
    pub holds: u32,
    /// What it says it holds; nothing for one of the classic kind.
    pub credit: Option<u32>,
    /// Per mille of attempts that fail by its fault.
    pub fails: u64,
    /// Per mille of attempts that are never answered.
    pub silent: u64,
    /// A toolchain it has not.
    pub lacks: Option<ToolchainId>,
    /// How long it lives and how long it is dead, in turn.
    pub flaps: Option<(Duration, Duration)>,
    /// Whether it can be reached at first.
    pub alive: bool,
    /// How long a connection takes; longer than anyone waits when packets are swallowed.
    pub connects_in: Duration,
}

impl Volunteer {
    pub fn good(slots: u32) -> Volunteer {
        Volunteer {
            slowness: 1.0,
            holds: slots,
            credit: Some(slots),
            fails: 0,
            silent: 0,
            lacks: None,
            flaps: None,
            alive: true,
            connects_in: Duration::from_millis(2),
        }
    }
}

/// A closed loop: `outstanding` jobs at any time until `jobs` are done.
#[derive(Clone, Debug)]
pub struct Build {
    pub outstanding: u32,
    pub jobs: u32,
    pub hosts: Vec<HostUse>,
    pub local: LocalSlots,
    pub fallback: bool,
    pub toolchain: ToolchainId,
    /// Per mille of jobs that are links, give up their shim, cannot be prepared, or have unusable answers.
    pub links: u64,
    pub goes: u64,
    pub troubles: u64,
    /// What a normal compile takes, and how many times longer the longest may.
    pub takes: Duration,
    pub spread: u64,
}

/// Every volunteer, with as many slots as it says.
pub fn all(volunteers: &[Volunteer]) -> Vec<HostUse> {
    let seat = |(number, is): (usize, &Volunteer)| HostUse { host: HostId(number as u32), slots: is.holds };
    volunteers.iter().enumerate().map(seat).collect()
}

/// A plain build of `jobs` alike compiles of one second.
pub fn build(outstanding: u32, jobs: u32, hosts: Vec<HostUse>) -> Build {
    Build {
        outstanding,
        jobs,
        hosts,
        local: LocalSlots { preprocess: 4, compile: 4, link: 2, listed: 0 },
        fallback: true,
        toolchain: ToolchainId(1),
        links: 0,
        goes: 0,
        troubles: 0,
        takes: Duration::from_secs(1),
        spread: 1,
    }
}
