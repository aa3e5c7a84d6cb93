//! Jobs whose files not the scanner tells but their compiler: by a list of what it reads, or of what precompiled headers
//! and compiled modules were made of.

use std::sync::Arc;
use std::time::Instant;

use super::modules::{self, Unknown};
use super::{FilesJob, Hermetic, NotHermetic, listing};
use crate::broker::closure::Closure;
use crate::broker::plan::Plan;
use crate::broker::scan::{Declined, InputSet};
use crate::common::invocation::Invocation;
use crate::common::reason::ModuleRule;

impl Hermetic {
    /// Makes the inputs ready of a job that was to be a text, as that seemed cheaper, and cannot be one: `why` is what
    /// [`Self::files`] said.
    ///
    /// # Errors
    ///
    /// Returns why the compiler's list does not do, either.
    pub async fn files_after_all(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        invocation: &Arc<Invocation>,
        why: NotHermetic,
    ) -> Result<Arc<FilesJob>, NotHermetic> {
        match why {
            NotHermetic::Declined(declined) if listing::is_worth_asking(&declined, plan) => {
                let closure = self.closure(plan, invocation).await?;
                self.as_listed(&closure, plan, invocation, declined).await
            }
            why => Err(why),
        }
    }

    /// A job whose files the scanner cannot tell: those that the compiler lists.
    pub(super) async fn as_listed(
        self: &Arc<Self>,
        closure: &Arc<Closure>,
        plan: &Arc<Plan>,
        invocation: &Arc<Invocation>,
        declined: Declined,
    ) -> Result<Arc<FilesJob>, NotHermetic> {
        tracing::debug!(source = %plan.job.source, why = %declined, "the compiler is asked what it reads");
        let began = Instant::now();
        let textless = match &declined {
            Declined::Textless(path) => Some(path),
            _ => None,
        };
        let answer = listing::ask(plan, invocation, textless).await;
        let answer = answer.map_err(|why| NotHermetic::Unlisted(declined.clone(), why))?;
        let second = self.off_the_loop(closure, plan, invocation, move |hermetic, plan, invocation| {
            let set = hermetic.listed.assemble(&answer, plan, invocation);
            set.map(Arc::new).map_err(|why| NotHermetic::Unlisted(declined, why))
        });
        let job = second.await?;
        self.costs.list(began.elapsed());
        self.counts.list();
        Ok(job)
    }

    /// A job with modules: what compiled ones were made of, their compiler knows.
    pub(super) async fn with_modules(
        self: &Arc<Self>,
        closure: &Arc<Closure>,
        plan: &Arc<Plan>,
        invocation: &Arc<Invocation>,
        mut prepared: Result<Arc<FilesJob>, NotHermetic>,
    ) -> Result<Arc<FilesJob>, NotHermetic> {
        for _ in 0..modules::ROUNDS_MAX {
            let (found, paths) = match prepared {
                Err(NotHermetic::Compiled(found, paths)) => (found, paths),
                // With precompiled headers as well, nobody asks.
                Err(NotHermetic::Precompiled(_)) => return Err(NotHermetic::Modules(ModuleRule::Header)),
                done => return done,
            };
            self.modules.ask(plan, invocation, &paths, &self.digests).await.map_err(|why| match why {
                Unknown::Stays(why) => NotHermetic::Modules(why),
                Unknown::Ask(_) => NotHermetic::Modules(ModuleRule::Unknown),
            })?;
            prepared = self.off_the_loop(closure, plan, invocation, move |_, _, _| Ok(found)).await;
        }
        Err(NotHermetic::Modules(ModuleRule::Unknown))
    }

    /// A job with a precompiled header of clang's that has not been met before: clang wants all files
    /// that it was made of, and knows them.
    pub(super) async fn with_its_files(
        self: &Arc<Self>,
        closure: &Arc<Closure>,
        plan: &Arc<Plan>,
        invocation: &Arc<Invocation>,
        found: Arc<InputSet>,
    ) -> Result<Arc<FilesJob>, NotHermetic> {
        let unlisted = |why| NotHermetic::Unlisted(Declined::Precompiled(plan.job.source.clone()), why);
        let answer = listing::ask(plan, invocation, None).await.map_err(unlisted)?;
        self.inside.learn(&found, &answer);
        self.off_the_loop(closure, plan, invocation, move |_, _, _| Ok(found)).await
    }
}
