//! An attempt on a volunteer of ours: as files once its compiler is there, else as a text.

use super::super::dispatch::Message;
use super::super::hermetic::FilesJob;
use super::super::link::{Answer, FilesOrder, Forecast, NativeHandle, Patience, Work};
use super::super::scheduler::api::{Event, Failure};
use super::Task;
use std::sync::Arc;

impl Task {
    /// As files where the volunteer takes them and the job can be sent so, else as a text.
    pub(super) async fn natively(&self, link: &NativeHandle) -> Result<Answer, Failure> {
        let Some(files) = self.inputs.files().filter(|_| link.is_hermetic()) else {
            return self.as_text(link).await;
        };
        if self.provided(link, files, Patience::WhileSoon).await? {
            return self.as_files(link, files).await;
        }
        match self.as_text(link).await {
            // So there is but one way, and what it waits for is on its way. Many would stand in line here by now.
            Err(Failure::NoTexts { why }) => match self.provided(link, files, Patience::ToTheEnd).await? {
                true => self.as_files(link, files).await,
                false => Err(Failure::NoTexts { why }),
            },
            outcome => outcome,
        }
    }

    async fn as_files(&self, link: &NativeHandle, files: &Arc<FilesJob>) -> Result<Answer, Failure> {
        self.inputs.count(true);
        let order = FilesOrder { job: Arc::clone(files), deadline: self.deadline };
        self.bounded(link.attempt(Work::Files(order))).await
    }

    async fn as_text(&self, link: &NativeHandle) -> Result<Answer, Failure> {
        let toolchain = self.plan.compiler.toolchain.id;
        let costs = &self.shared.hermetic.costs;
        if let Some(why) = link.lacks_for_texts(&toolchain) {
            costs.text_not_taken(toolchain);
            return Err(Failure::NoTexts { why });
        }
        let order = self.text_order().await?;
        if self.inputs.made_text().is_some_and(|text| text.set.is_some()) {
            // It came up when the job was made ready for others.
            return Err(Failure::Refused { why: "takes no file sets".to_owned() });
        }
        match self.bounded(link.attempt(Work::Text(order))).await {
            // It needs no compiler of its own for jobs that come as files.
            Err(Failure::NoToolchain { why }) if link.is_hermetic() => {
                link.note_lack_for_texts(toolchain, why.clone());
                costs.text_not_taken(toolchain);
                Err(Failure::NoTexts { why })
            }
            outcome => outcome,
        }
    }

    /// Waits for its compiler to be there; false when that takes too long.
    async fn provided(
        &self,
        link: &NativeHandle,
        files: &FilesJob,
        patience: Patience,
    ) -> Result<bool, Failure> {
        if link.has(&files.toolchain.digest) {
            return Ok(true);
        }
        let (job, host) = (self.job, self.host);
        // A dispatcher that is gone has ended every session.
        let tell = |event| async { drop(self.shared.inbox.send(Message::Event(event)).await) };
        let is_there = link.provide(&files.toolchain, patience, |forecast| {
            tell(match forecast {
                Forecast::Late => Event::Awaits { job, host },
                Forecast::Soon => Event::Begins { job, host },
            })
        });
        let is_there = is_there.await?;
        tell(Event::Begins { job, host }).await;
        Ok(is_there)
    }
}
