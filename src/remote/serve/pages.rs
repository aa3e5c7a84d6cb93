//! The pages that a daemon shows: of figures, of metrics, of the owner's. Each is off unless it was asked for.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::ready;
use crate::common::exit;
use crate::common::http::answer_metrics;
use crate::remote::access::{Access, Allowed};
use crate::remote::job::Context;
use crate::remote::owner::Owner;
use crate::remote::owner::token::{Note, Token};
use crate::remote::sample;
use crate::remote::setup::{Pages, StartError};
use crate::remote::{stats, visitors};

/// Opens those that were asked for. What the returned note says counts until it is dropped.
///
/// # Errors
///
/// Returns what keeps a page from being shown.
pub fn show(
    doors: Pages,
    allowed: &[Allowed],
    context: &Arc<Context>,
    folder: Option<&Path>,
    helpers: &mut JoinSet<()>,
) -> Result<Option<Note>, StartError> {
    let access = Arc::new(Access::or_this_machine(allowed));
    show_figures(doors.figures, &access, context, helpers)?;
    show_metrics(doors.metrics, context, helpers)?;
    match (doors.owner, folder) {
        (Some(door), Some(folder)) => show_owner(door, context, folder, helpers).map(Some),
        _ => Ok(None),
    }
}

fn show_figures(
    doors: Vec<std::net::TcpListener>,
    access: &Arc<Access>,
    context: &Arc<Context>,
    helpers: &mut JoinSet<()>,
) -> Result<(), StartError> {
    for listener in doors {
        let (listener, address) = ready(listener)?;
        let context = Arc::clone(context);
        let page = move |_: &[u8]| stats::classic_answer(&context.stats.page(&surroundings(&context)));
        helpers.spawn(visitors::serve(listener, Some(Arc::clone(access)), page));
        tracing::info!("figures on http://{address}/");
    }
    Ok(())
}

/// Whoever can reach the address may read them: it is loopback, unless somebody chose another.
fn show_metrics(
    door: Option<std::net::TcpListener>,
    context: &Arc<Context>,
    helpers: &mut JoinSet<()>,
) -> Result<(), StartError> {
    let Some(listener) = door else { return Ok(()) };
    let (listener, address) = ready(listener)?;
    let context = Arc::clone(context);
    let page = move |head: &[u8]| answer_metrics(head, || context.stats.metrics(&surroundings(&context)));
    helpers.spawn(visitors::serve(listener, None, page));
    tracing::info!("metrics on http://{address}/metrics");
    Ok(())
}

/// The page of the machine's owner. The log may be read by others: the token is not in it.
fn show_owner(
    door: std::net::TcpListener,
    context: &Arc<Context>,
    folder: &Path,
    helpers: &mut JoinSet<()>,
) -> Result<Note, StartError> {
    let (listener, at) = ready(door)?;
    let failed = |why: String| StartError { status: exit::FAILED, why: format!("--dashboard: {why}") };
    let token = Token::generate().ok_or_else(|| failed("the system has no random numbers".to_owned()))?;
    let address = token.address(at);
    let note = Note::write(folder, &address).map_err(|error| failed(error.to_string()))?;
    let owner = Owner::new(Arc::clone(context), token);
    helpers.spawn(Arc::clone(&owner).keep_course());
    helpers.spawn(visitors::serve(listener, None, move |head: &[u8]| owner.answer(head)));
    tracing::info!("the owner's page on http://{at}/; distccd --dashboard-address prints how to open it");
    if io::stderr().is_terminal() {
        eprintln!("distccd: the owner's page: {address}");
    }
    Ok(note)
}

fn surroundings(context: &Context) -> stats::Surroundings {
    let sample = sample::take(context.workshop.spool());
    stats::Surroundings {
        slots: context.slots,
        running: context.gate.running(),
        waiting: context.gate.waiting(),
        paused: context.gate.is_paused(),
        store: context.store.held().0,
        load: sample::load_averages(),
        disk: sample.disk.unwrap_or(0),
        memory: sample.memory.unwrap_or(0),
    }
}
