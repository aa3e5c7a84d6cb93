//! What is in use on this machine.

use super::api::LocalSlots;
use super::jobs::LocalKind;

/// Local slots in use, over all builds. Each job brings its own limits, so a job is admitted when
/// the count is below its own number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Preprocessors.
    pub preprocess: u32,
    /// Compiles of distributable jobs.
    pub compile: u32,
    /// Compiles that a list sent here.
    pub listed: u32,
    /// Links and other jobs that cannot leave.
    pub link: u32,
}

impl InUse {
    /// Whether a job with these limits may be prepared.
    pub fn may_prepare(&self, local: &LocalSlots) -> bool {
        self.preprocess < local.preprocess.max(1)
    }

    /// Whether a slot of this kind is free for a job with these limits. A limit of 0 counts as 1, since
    /// a job with no place at all would wait for ever; a list without localhost has no listed slot.
    pub fn may_run(&self, kind: LocalKind, local: &LocalSlots) -> bool {
        match kind {
            LocalKind::Compile => self.compile < local.compile.max(1),
            LocalKind::Listed => self.listed < local.listed,
            LocalKind::Link => self.link < local.link.max(1),
        }
    }

    /// The count of one kind.
    pub fn count(&mut self, kind: LocalKind) -> &mut u32 {
        match kind {
            LocalKind::Compile => &mut self.compile,
            LocalKind::Listed => &mut self.listed,
            LocalKind::Link => &mut self.link,
        }
    }
}
