//! Questions and orders about the broker itself.

use tokio::sync::oneshot;

use crate::broker::Shared;
use crate::broker::dispatch::{Held, Message};
use crate::broker::plan::Plan;
use crate::broker::scheduler::api::Hold;
use crate::broker::trace::live::Wish;
use crate::common::bytes::Bytes;
use crate::common::invocation::Invocation;
use crate::common::protocol::local::{Control, ControlReply};

/// Does as a control word says.
pub async fn obey(shared: &Shared, control: Control) -> ControlReply {
    match control {
        Control::Stop => {
            shared.stop();
            ControlReply::Stopping
        }
        Control::Status => {
            let report = ask(shared, Message::Status).await;
            // A dispatcher that is gone leaves an empty document.
            let json = report.and_then(|report| serde_json::to_string(&report).ok());
            ControlReply::Status { json: json.unwrap_or_default() }
        }
        Control::Timeline => {
            let timeline = ask(shared, Message::Timeline).await.unwrap_or_default();
            let json = tokio::task::spawn_blocking(move || serde_json::to_string(&timeline).ok()).await;
            ControlReply::Text { text: json.ok().flatten().unwrap_or_default() }
        }
        Control::TraceBegin { file } => {
            let _ = shared.inbox.send(Message::TraceBegin(file.as_path().to_owned())).await;
            ControlReply::Text { text: String::new() }
        }
        Control::TraceEnd { file } => {
            let end = |reply| Message::TraceEnd(file.as_path().to_owned(), reply);
            ask(shared, end).await.map_or(ControlReply::Unknown, |text| ControlReply::Text { text })
        }
        Control::Dashboard => {
            let (asker, answer) = oneshot::channel();
            // One that is not there, or has too many askers, drops its end.
            let _ = shared.dashboard.try_send(asker);
            match answer.await {
                Ok(Ok(address)) => ControlReply::Text { text: address },
                Ok(Err(why)) => {
                    tracing::warn!(%why, "no dashboard");
                    ControlReply::Refused
                }
                Err(_) => ControlReply::Refused,
            }
        }
        Control::Hold { host, held, at_once } => {
            let hold = match (held, at_once) {
                (false, _) => Hold::Free,
                (true, false) => Hold::Drained,
                (true, true) => Hold::Excluded,
            };
            match hold_host(shared, host, hold).await {
                Held::Done(text) => ControlReply::Text { text },
                Held::Unknown => ControlReply::Unknown,
                Held::Distrusted(_) => ControlReply::Refused,
            }
        }
    }
}

/// Holds a host, or lets it go.
pub async fn hold_host(shared: &Shared, host: String, hold: Hold) -> Held {
    ask(shared, |reply| Message::Hold { host, hold, reply }).await.unwrap_or(Held::Unknown)
}

/// Asks the dispatcher; nothing when it is gone or does not know.
async fn ask<T>(shared: &Shared, question: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    shared.inbox.send(question(reply)).await.ok()?;
    answer.await.ok()
}

/// The trace that a job is to be in (`DISTCC_TRACE`).
pub fn trace_wish(invocation: &Invocation) -> Option<Wish> {
    let file = invocation.variable("DISTCC_TRACE").filter(|file| !file.is_empty())?;
    let path = invocation.cwd.as_path().join(Bytes::from(file).as_path());
    Some(Wish { path: path.into(), umask: invocation.umask })
}

/// What people see as the job's name.
pub fn source_name(invocation: &Invocation, plan: Option<&Plan>) -> String {
    match plan {
        Some(plan) => plan.job.source.to_text(),
        None => invocation.argv.last().map(Bytes::to_text).unwrap_or_default(),
    }
}
