//! From the answer that was taken to its outputs in place: checked, now and then verified, delivered.

use std::sync::Arc;

use super::Shared;
use super::dispatch::Message;
use super::hermetic::result::{self, Examined};
use super::inputs::Inputs;
use super::link::{Answer, Author, FilesAnswer, TextAnswer};
use super::outcome::{self, Outcome};
use super::plan::Plan;
use super::prepare::Prepared;
use super::scheduler::api::HostId;
use super::verify::{self, Difference};
use crate::common::invocation::Invocation;
use crate::common::protocol::link::Audit;
use crate::common::reason::LocalReason;
use crate::common::settings::Settings;

/// A job whose answer has been taken.
pub struct Settlement {
    /// What all jobs share.
    pub shared: Arc<Shared>,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// What the user ran.
    pub invocation: Arc<Invocation>,
    /// What was sent.
    pub inputs: Arc<Inputs>,
    /// What the environment asks for.
    pub settings: Settings,
    /// Who answered.
    pub host: HostId,
    /// Its name, for people.
    pub name: Option<Arc<str>>,
    /// Who it is.
    pub author: Author,
}

impl Settlement {
    /// Puts the outputs in place.
    ///
    /// # Errors
    ///
    /// Returns why the job must be compiled here instead.
    pub async fn settle(self, answer: Answer) -> Result<Outcome, LocalReason> {
        let outcome = match (answer, self.inputs.made_text()) {
            (Answer::Files(answer), _) => self.files(answer).await,
            (Answer::Text(answer), Some(prepared)) => self.text(answer, prepared).await,
            (Answer::Text(_), None) => {
                Err(LocalReason::NoVolunteer { why: "it answered another question".to_owned() })
            }
        };
        outcome.map(|outcome| Outcome { host: self.name, ..outcome })
    }

    async fn files(&self, mut answer: FilesAnswer) -> Result<Outcome, LocalReason> {
        if let Audit::Differs { read } = &answer.compiled.audit
            && self.inputs.is_same_reading(read)
        {
            answer.compiled.audit = Audit::Agrees;
        }
        let answer = Arc::new(answer);
        let is_final = self.settings.remote_is_final();
        // Each compile in the job's place would append once more.
        let appends = self.plan.job.hermetic.products.appends();
        let is_chosen = || !appends && !self.inputs.is_unsettled() && self.is_chosen();
        let outcome = if answer.compiled.ended.is_success() && is_chosen() {
            let Examined { deliveries, outcome } =
                result::examine(&self.plan, &self.invocation, self.inputs.made(), &answer, is_final)?;
            let differs = verify::in_place(&self.shared, &self.plan, &self.invocation, &deliveries).await?;
            self.judge(differs).await?;
            outcome
        } else {
            result::finish(&self.plan, &self.invocation, self.inputs.made(), Arc::clone(&answer), is_final)
                .await?
        };
        self.inputs.keep_result(&answer, &self.author);
        Ok(outcome)
    }

    async fn text(&self, answer: TextAnswer, prepared: &Prepared) -> Result<Outcome, LocalReason> {
        // A file set is preprocessed there: there is no text to compile here.
        if answer.result.ended.is_success() && prepared.set.is_none() && self.is_chosen() {
            let there = outcome::unpack_outputs(&answer)?.unwrap_or_default();
            let differs = verify::of_text(&self.shared, &self.plan, prepared, &there).await?;
            self.judge(differs).await?;
        }
        let work = outcome::Work {
            plan: &self.plan,
            prepared,
            invocation: &self.invocation,
            settings: self.settings,
            front_ends: &self.shared.front_ends,
        };
        outcome::finish(work, answer, &self.shared.diagnosed).await
    }

    fn is_chosen(&self) -> bool {
        verify::is_chosen(self.settings.verify_millionths)
    }

    /// A volunteer that sends something else than this machine makes is asked no more.
    async fn judge(&self, difference: Option<Difference>) -> Result<(), LocalReason> {
        let Some(difference) = difference else { return Ok(()) };
        let host = self.name.as_deref().unwrap_or("it").to_owned();
        let directory = self.shared.config.place.file("verify");
        let report = match verify::keep(directory.as_path(), &host, &self.invocation, &difference) {
            Ok(folder) => folder.display().to_string(),
            Err(error) => format!("nothing was kept: {error}"),
        };
        let (shared, author) = (Arc::clone(&self.shared), self.author.clone());
        let _ = tokio::task::spawn_blocking(move || shared.caches.distrust(&author)).await;
        // A dispatcher that is gone asks nobody any more.
        let _ = self.shared.inbox.send(Message::Quarantine { host: self.host, report }).await;
        Err(LocalReason::Verification { host })
    }
}
