//! An attempt's compiler, where it is to run.

use super::super::dispatch::Message;
use super::super::hermetic::FilesJob;
use super::super::link::NativeHandle;
use super::super::scheduler::api::{Event, Failure};
use super::Task;

impl Task {
    /// Waits for its compiler to be there; false when that takes too long.
    pub(super) async fn provided(&self, link: &NativeHandle, files: &FilesJob) -> Result<bool, Failure> {
        if link.has(&files.toolchain.digest) {
            return Ok(true);
        }
        let (job, host) = (self.job, self.host);
        // A dispatcher that is gone has ended every session.
        let tell = |event| async { drop(self.shared.inbox.send(Message::Event(event)).await) };
        let is_there = link.provide(&files.toolchain, tell(Event::Awaits { job, host })).await?;
        tell(Event::Begins { job, host }).await;
        Ok(is_there)
    }
}
