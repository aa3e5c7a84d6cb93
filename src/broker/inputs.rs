//! A job's inputs, in the form that a volunteer takes: as files, or as a preprocessed text.
//!
//! A job is made ready in the form that suits most of the hosts that it may go to. Should it go to
//! one that needs a text after all, the text is made then, once, whoever else wants it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OnceCell;

use super::Shared;
use super::cache::Slot;
use super::hermetic::{FilesJob, NotHermetic, audit};
use super::link::{Author, FilesAnswer};
use super::plan::Plan;
use super::prepare::{self, Prepared, Workshop};
use super::volunteers::Form;
use crate::common::bytes::Bytes;
use crate::common::invocation::Invocation;
use crate::common::reason::LocalReason;

/// The job that inputs are of.
#[derive(Clone)]
pub struct Source {
    /// What belongs to no job.
    pub shared: Arc<Shared>,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// What the user ran.
    pub invocation: Arc<Invocation>,
    /// Whether the text is kept for people (`DISTCC_SAVE_TEMPS`).
    pub save_temps: bool,
}

/// A job's inputs.
pub struct Inputs {
    source: Source,
    files: Option<Arc<FilesJob>>,
    /// Why there are none.
    why_text: String,
    /// Where its result is kept.
    slot: Option<Slot>,
    text: OnceCell<Result<Arc<Prepared>, LocalReason>>,
}

impl Inputs {
    /// Makes a job's inputs ready.
    ///
    /// # Errors
    ///
    /// Returns why the job must be compiled here.
    pub async fn make(source: Source, form: Form) -> Result<Self, LocalReason> {
        match form {
            Form::Files => match source.files().await {
                Ok(files) => return Ok(Inputs::of_files(source, files)),
                Err(why) => {
                    source.must_be_text(&why)?;
                    let why_text = why.key();
                    let text = match source.text().await {
                        Ok(text) => text,
                        Err(reason) => {
                            let files = source.files_after_all(why).await.map_err(|_| reason)?;
                            return Ok(Inputs::of_files(source, files));
                        }
                    };
                    return Ok(Inputs { why_text, ..Inputs::of_text(source, text) });
                }
            },
            Form::ClassicSet => {
                if let Some(prepared) = source.classic_set().await {
                    return Ok(Inputs::of_text(source, prepared));
                }
            }
            Form::Text => {}
        }
        let text = source.text().await?;
        Ok(Inputs::of_text(source, text))
    }

    fn of_files(source: Source, files: Arc<FilesJob>) -> Self {
        let is_lasting = !files.is_of_now;
        let slot = is_lasting.then(|| source.shared.caches.slot(&files, &source.invocation)).flatten();
        Inputs { source, files: Some(files), why_text: String::new(), slot, text: OnceCell::new() }
    }

    fn of_text(source: Source, text: Prepared) -> Self {
        let text = OnceCell::new_with(Some(Ok(Arc::new(text))));
        Inputs { source, files: None, why_text: "volunteer".to_owned(), slot: None, text }
    }

    /// The result of an equal job, if it is kept.
    pub async fn find_result(&self) -> Option<FilesAnswer> {
        let (slot, shared) = (self.slot.clone()?, Arc::clone(&self.source.shared));
        if shared.caches.lacks(&slot) {
            return None;
        }
        tokio::task::spawn_blocking(move || shared.caches.find(&slot)).await.ok()?
    }

    /// Keeps a result of this author that has been delivered.
    pub fn keep_result(&self, answer: &Arc<FilesAnswer>, author: &Author) {
        if let Some(slot) = self.slot.as_ref().filter(|_| !self.source.plan.job.hermetic.varies) {
            self.source.shared.caches.keep(slot.clone(), answer, author);
        }
    }

    /// The files, if they could be told.
    pub fn files(&self) -> Option<&Arc<FilesJob>> {
        self.files.as_ref()
    }

    /// Compiled modules that the job may make besides what its command names.
    pub fn made(&self) -> &[Bytes] {
        self.files.as_ref().map_or(&[], |files| &files.modules.made)
    }

    /// Whether two compiles here may differ, now and then.
    pub fn is_unsettled(&self) -> bool {
        self.files.as_ref().is_some_and(|files| files.modules.is_unsettled || files.is_of_now)
    }

    /// Notes that an attempt leaves, as files or as a text.
    pub fn count(&self, as_files: bool) {
        let counts = &self.source.shared.hermetic.counts;
        match (as_files, &self.files) {
            (true, _) => counts.files(),
            // They are there; the volunteer does not take them.
            (false, Some(_)) => counts.text("volunteer"),
            (false, None) => counts.text(&self.why_text),
        }
    }

    /// Looks at what a volunteer says that was read in place of what was found: whether it is the same
    /// after all. If not, a report is kept.
    pub fn is_same_reading(&self, read: &[Bytes]) -> bool {
        let Some(files) = &self.files else { return false };
        let is_same = audit::is_same_reading(&files.scanned, &files.modules.compiled, read);
        if !is_same {
            self.report(files, read);
        }
        is_same
    }

    /// Keeps a report of a compile that read something else than was found.
    fn report(&self, files: &FilesJob, read: &[Bytes]) {
        let Source { shared, plan, invocation, .. } = &self.source;
        let directory = shared.config.place.file("audit");
        let source = &plan.job.source;
        match audit::keep(directory.as_path(), invocation, &files.scanned, read) {
            Ok(report) => {
                tracing::error!(%source, report = %report.display(), "the scanner found other files than were read");
            }
            Err(error) => tracing::error!(%source, %error, "the scanner found other files than were read"),
        }
    }

    /// The text, if it has been made.
    pub fn made_text(&self) -> Option<&Arc<Prepared>> {
        self.text.get()?.as_ref().ok()
    }

    /// The text, which is made now if it has not been.
    ///
    /// # Errors
    ///
    /// Returns why there is none.
    pub async fn text(&self) -> Result<Arc<Prepared>, LocalReason> {
        let make = || async {
            let closed = |_| LocalReason::Broker { why: "it ends".to_owned() };
            let _slot = self.source.shared.preprocessors.acquire().await.map_err(closed)?;
            self.source.text().await.map(Arc::new)
        };
        self.text.get_or_init(make).await.clone()
    }
}

impl Source {
    async fn files(&self) -> Result<Arc<FilesJob>, NotHermetic> {
        self.shared.hermetic.files(&self.plan, &self.invocation).await
    }

    async fn files_after_all(&self, why: NotHermetic) -> Result<Arc<FilesJob>, NotHermetic> {
        self.shared.hermetic.files_after_all(&self.plan, &self.invocation, why).await
    }

    /// A job that does not travel as files travels as a text, unless that cannot carry it.
    fn must_be_text(&self, why: &NotHermetic) -> Result<(), LocalReason> {
        tracing::debug!(source = %self.plan.job.source, %why, "not sent as files");
        match &self.plan.job.hermetic.needed {
            None => Ok(()),
            Some(reason) => Err(why.reason(reason)),
        }
    }

    async fn classic_set(&self) -> Option<Prepared> {
        let Source { shared, plan, invocation, .. } = self.clone();
        let work = move || shared.file_sets.prepare(&plan, &invocation, &shared.hermetic.scanner);
        match tokio::task::spawn_blocking(work).await.ok()? {
            Ok(prepared) => Some(prepared),
            Err(why) => {
                tracing::debug!(%why, "the text is sent");
                None
            }
        }
    }

    async fn text(&self) -> Result<Prepared, LocalReason> {
        let plan = &self.plan;
        if let Some(reason) = &plan.job.hermetic.needed {
            return Err(reason.clone());
        }
        let workshop = Workshop {
            program: &plan.compiler.program,
            clang: plan.compiler.toolchain.clang,
            scratch: &self.shared.config.scratch,
        };
        let began = Instant::now();
        let prepared = prepare::prepare(workshop, &self.invocation, &plan.job).await?;
        self.shared.hermetic.costs.text(began.elapsed());
        if self.save_temps {
            prepare::save(&prepared, &plan.job, &self.invocation);
        }
        Ok(prepared)
    }
}
