//! What the broker says on some shim's stderr: each thing once per build, not per file.

use std::collections::{BTreeMap, BTreeSet};

use super::scheduler::api::{BuildId, Moment};
use crate::common::bytes::Bytes;
use crate::common::reason::LocalReason;

/// A build that has asked for nothing for this long is over; a later one hears everything again.
const BUILD_OVER: std::time::Duration = std::time::Duration::from_secs(600);

#[derive(Default)]
struct Build {
    said: BTreeSet<String>,
    pending: Vec<String>,
    seen: Moment,
}

/// Notices by build.
#[derive(Default)]
pub struct Notices {
    builds: BTreeMap<BuildId, Build>,
}

impl Notices {
    /// A job of this build has arrived.
    pub fn seen(&mut self, now: Moment, build: BuildId) {
        self.builds.retain(|_, build| now.since(build.seen) < BUILD_OVER);
        self.builds.entry(build).or_default().seen = now;
    }

    /// Something to be told to one build, unless it was told already. `key` says what it is about.
    pub fn tell(&mut self, build: BuildId, key: &str, text: impl FnOnce() -> String) {
        let Some(build) = self.builds.get_mut(&build) else { return };
        if build.said.insert(key.to_owned()) {
            build.pending.push(text());
        }
    }

    /// Something to be told to one build, now.
    pub fn say(&mut self, build: BuildId, text: String) {
        if let Some(build) = self.builds.get_mut(&build) {
            build.pending.push(text);
        }
    }

    /// Some reasons to stay here are mistakes that a person wants to know of, once.
    pub fn hint(&mut self, build: BuildId, reason: &LocalReason) {
        match reason {
            LocalReason::NoHosts => self.tell(build, "no hosts", || {
                "Warning: no hosts are listed, so everything is compiled here\n\
                 hint: set DISTCC_HOSTS, or write the names of your volunteers into ~/.distcc/hosts"
                    .to_owned()
            }),
            LocalReason::EmptyHostList { .. } => {
                self.tell(build, "empty list", || format!("Warning: {reason}; compiling here"));
            }
            LocalReason::BadHostList { why } => {
                self.tell(build, "bad list", || format!("Warning: host list: {why}; compiling here"));
            }
            LocalReason::OtherNamespace => self.tell(build, "namespace", || {
                format!(
                    "Warning: {reason}; compiling here\nhint: set DISTCC_DIR to a directory of the container"
                )
            }),
            LocalReason::Toolchain { compiler, why } => {
                self.tell(build, &format!("toolchain {compiler}"), || {
                    format!("Warning: compiler {compiler} {why}; compiling here")
                });
            }
            _ => {}
        }
    }

    /// Something to be told to every build that is going on.
    pub fn tell_all(&mut self, key: &str, text: &str) {
        let builds: Vec<BuildId> = self.builds.keys().copied().collect();
        for build in builds {
            self.tell(build, key, || text.to_owned());
        }
    }

    /// Whether nothing was told to this build under `key` yet; from now on, something was.
    pub fn is_first(&mut self, build: BuildId, key: &str) -> bool {
        self.builds.get_mut(&build).is_some_and(|build| build.said.insert(key.to_owned()))
    }

    /// What a shim of this build is to print now, in lines that need its name before them.
    pub fn take(&mut self, build: BuildId) -> Bytes {
        let pending = self.builds.get_mut(&build).map(|build| std::mem::take(&mut build.pending));
        let lines = pending.unwrap_or_default().into_iter().map(|text| format!("{text}\n"));
        Bytes(lines.collect::<String>().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_told_each_thing_once() {
        let (mut notices, build) = (Notices::default(), BuildId(1));
        notices.seen(Moment(0), build);
        notices.tell_all("host a", "Warning: a is down");
        notices.tell_all("host a", "Warning: a is down");
        assert_eq!(notices.take(build), *"Warning: a is down\n");
        notices.tell_all("host a", "Warning: a is down");
        assert_eq!(notices.take(build), *"");
    }

    #[test]
    fn a_later_build_is_told_again() {
        let mut notices = Notices::default();
        for (now, build) in [(Moment(0), BuildId(1)), (Moment(0) + BUILD_OVER * 2, BuildId(2))] {
            notices.seen(now, build);
            notices.tell(build, "no hosts", || "hint".to_owned());
            assert_eq!(notices.take(build), *"hint\n");
        }
        assert_eq!(notices.builds.len(), 1);
    }
}
