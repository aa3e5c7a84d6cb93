//! The numbers of the policy, each with its reason.

use std::time::Duration;

/// What the scheduler may be told; [`Config::default`] is what the broker uses.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a job waits for hosts of which none has answered yet. A link on one network is up
    /// in milliseconds; after this the job compiles here.
    pub connect_patience: Duration,
    /// The first back-off; also the bound on connections: at most one per host in this time.
    pub backoff_first: Duration,
    /// Back-off doubles up to this, jitter included.
    pub backoff_max: Duration,
    /// The same where nobody was at home: to knock again costs neither side anything worth counting, and a build
    /// that goes on has its volunteers back this soon after a network or a machine was away.
    pub knock_max: Duration,
    /// How many attempts in a row may fail on a link that stays up before the host is backed off.
    pub strikes_max: u32,
    /// How long a host that said it is full is left alone; doubles up to `breath_max`.
    pub breath: Duration,
    /// The longest breath.
    pub breath_max: Duration,
    /// How many hosts are tried before a job comes home.
    pub attempts_max: u32,
    /// How often one job may be turned away unread (full host, no toolchain) before it comes home.
    pub turned_away_max: u32,
    /// How often, while this machine has room for it and no host has.
    pub turned_away_with_room: u32,
    /// How many jobs per second one host is sent.
    pub sends_per_second: u32,
    /// No attempt is given up sooner.
    pub deadline_min: Duration,
    /// Every attempt is given up by then.
    pub deadline_max: Duration,
    /// The least for a task of which nothing is known: a first build must not lose its largest file.
    pub deadline_unknown: Duration,
    /// An attempt may take this many times what was expected.
    pub deadline_factor: f64,
    /// A job compiles here instead of waiting when waiting takes this many times longer. With four
    /// times as many jobs as slots on equal machines the ratio is 4, and those jobs should still leave,
    /// also when a client that is busy makes every volunteer look slow.
    pub overflow_factor: f64,
    /// An attempt is a straggler after this many times what was expected …
    pub straggler_factor: f64,
    /// … and not before this.
    pub straggler_min: Duration,
    /// An attempt is not given up in favour of this machine before this: a second one on another host
    /// costs the client nothing, this does.
    pub overtake_min: Duration,
    /// The same for a task that was never seen: it may just be large, and then all that was done
    /// of it is lost.
    pub overtake_unknown: Duration,
    /// A host this many times slower than usual gets a job only if waiting takes longer.
    pub slow_factor: f64,
    /// How long a slow host is left unused before one job finds out whether it still is.
    pub slow_retest: Duration,
    /// One job in so many finds out how fast this machine is, while that is unknown.
    pub local_test_every: u64,
    /// How many tasks are remembered.
    pub tasks_max: usize,
}

/// The first back-off, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The longest back-off of a host that nobody answers for.
const KNOCK_MAX: Duration = Duration::from_secs(3);

/// However short a back-off is asked for, a host that fails is not asked more often than this.
const BACKOFF_LEAST: Duration = Duration::from_millis(100);

impl Config {
    /// Leaves hosts alone for exactly so long, or as [`Config::default`] has it.
    pub fn fix_backoff(&mut self, period: Option<Duration>) {
        let fixed = period.map(|period| period.max(BACKOFF_LEAST));
        (self.backoff_first, self.backoff_max) = fixed.map_or(BACKOFF, |fixed| (fixed, fixed));
        self.knock_max = fixed.unwrap_or(KNOCK_MAX);
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            connect_patience: Duration::from_secs(3),
            backoff_first: BACKOFF.0,
            backoff_max: BACKOFF.1,
            knock_max: KNOCK_MAX,
            strikes_max: 2,
            breath: Duration::from_millis(200),
            breath_max: Duration::from_secs(5),
            attempts_max: 3,
            turned_away_max: 8,
            turned_away_with_room: 3,
            sends_per_second: 1000,
            deadline_min: Duration::from_secs(60),
            deadline_max: Duration::from_secs(30 * 60),
            deadline_unknown: Duration::from_secs(10 * 60),
            deadline_factor: 8.0,
            overflow_factor: 6.0,
            straggler_factor: 3.0,
            straggler_min: Duration::from_secs(2),
            overtake_min: Duration::from_secs(8),
            overtake_unknown: Duration::from_secs(120),
            slow_factor: 3.0,
            slow_retest: Duration::from_secs(60),
            local_test_every: 100,
            tasks_max: 16 << 10,
        }
    }
}
