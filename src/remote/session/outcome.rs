//! What is written of a job when it begins, and said when it ends.

use std::sync::Arc;
use std::time::Duration;

use super::{Caller, LiveJob, Session};
use crate::common::protocol::link::{self, Compiled, JobResult, Refusal, ToBroker};
use crate::remote::clients::{Good, LEAVING_MAX_BYTES};
use crate::remote::compile::{Product, ProductKind};
use crate::remote::log::JOB_SUMMARY;
use crate::remote::outbox::Source;
use crate::remote::owner::roster::{Entry, Who};
use crate::remote::process::{Control, Finished};
use crate::remote::stats::{self, Outcome};

impl Session {
    /// Writes a job into the owner's book.
    pub(super) fn enter(&self, compiler: String, source: String, control: &Arc<Control>) -> Entry {
        let Caller { name, peer, .. } = &self.client;
        let who = Who { client: self.pass.client(), name: name.clone(), from: peer.to_string() };
        self.context.roster.begin(&who, compiler, source, control)
    }

    pub(super) fn on_done(&mut self, job: u32, live: LiveJob, outcome: Result<Product, Refusal>) {
        let packed = |product: &Product| product.parts.iter().map(|packed| packed.part.packed).sum();
        let outcome = outcome.and_then(|product| {
            let leaving = self.pass.take(Good::Leaving, packed(&product), LEAVING_MAX_BYTES);
            let detail = "this client has not taken many gigabytes of results".to_owned();
            leaving.map(|leaving| (product, leaving)).ok_or(Refusal::Overloaded { detail })
        });
        let (product, leaving) = match outcome {
            Ok(product) => product,
            Err(why) => {
                let outcome = match why {
                    Refusal::TimedOut { .. } => Outcome::Timeout,
                    _ => Outcome::Other,
                };
                self.log(job, &live, outcome, &why.to_string(), None);
                self.outbox.message(&ToBroker::Refused { job, why });
                return;
            }
        };
        let ended = product.finished.ended;
        let outcome = if ended.is_success() { Outcome::Ok } else { Outcome::Error };
        self.log(job, &live, outcome, &stats::status(ended), Some(&product.finished));
        let announced: Vec<_> = product.parts.iter().map(|packed| packed.part).collect();
        let [stdout, stderr, outputs @ ..] = announced.as_slice() else { return };
        let (stdout, stderr, outputs) = (*stdout, *stderr, outputs.to_vec());
        let (wall_us, cpu_us) = (micros(product.finished.wall), micros(product.finished.cpu));
        self.outbox.message(&match product.kind {
            ProductKind::Named => {
                ToBroker::Result(JobResult { job, ended, stdout, stderr, outputs, wall_us, cpu_us })
            }
            ProductKind::Found { paths, audit } => {
                let products =
                    paths.into_iter().zip(outputs).map(|(path, part)| link::Product { path, part }).collect();
                ToBroker::Compiled(Compiled { job, ended, stdout, stderr, products, audit, wall_us, cpu_us })
            }
        });
        let bytes = announced.iter().map(|part| part.packed).sum();
        let sources = product.parts.into_iter().map(|packed| Box::new(packed.data) as Source).collect();
        self.outbox.data(job, live.result_window, bytes, sources, vec![live.pass, leaving]);
    }

    /// Says how a job ended: in the log, in the figures, in the owner's book.
    pub(super) fn log(
        &self,
        job: u32,
        live: &LiveJob,
        outcome: Outcome,
        result: &str,
        finished: Option<&Finished>,
    ) {
        let Entry { compiler, source, begun, .. } = &live.entry;
        let time = begun.elapsed();
        self.context.stats.ended(outcome, compiler, time);
        live.entry.end(outcome, finished.map_or(Duration::ZERO, |finished| finished.cpu));
        let Caller { peer, name, .. } = &self.client;
        let (ms, used) = (time.as_millis(), finished.map(Finished::used).unwrap_or_default());
        let _within = tracing::info_span!("job", attempt = job).entered();
        tracing::info!(
            target: JOB_SUMMARY,
            "client: {peer} {outcome} {result} time:{ms}ms {compiler} {source} job {job} of {name}{used}"
        );
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
