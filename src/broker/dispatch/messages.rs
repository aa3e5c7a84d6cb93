//! What the dispatcher is told, and what it tells sessions.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::broker::history::Note;
use crate::broker::link::LinkHandle;
use crate::broker::scheduler::api::{BuildId, Event, Hold, HostId, JobId, TaskKey};
use crate::broker::state::slots::SlotLease;
use crate::broker::status::Report;
use crate::broker::trace::Timeline;
use crate::broker::trace::live::Wish;
use crate::broker::volunteers::{Form, Ssh};
use crate::common::bytes::Bytes;
use crate::common::hosts::HostList;
use crate::common::protocol::classic::Version;
use crate::common::protocol::local::Attempted;
use crate::common::reason::LocalReason;
use crate::common::settings::Settings;
use crate::common::toolchain::Digest;

/// What the dispatcher is told.
pub enum Message {
    /// A session has a job.
    Job(Box<NewJob>),
    /// Something happened to a job.
    Event(Event),
    /// An attempt has an answer.
    Answered {
        /// Whose.
        job: JobId,
        /// Where.
        host: HostId,
        /// How long the compiler ran.
        compile: Duration,
        /// What it tells besides.
        note: Note,
    },
    /// The outputs of a job are in place; the reply is what the shim is to print besides.
    Delivered {
        /// Which job.
        job: JobId,
        /// Where the warning goes.
        reply: oneshot::Sender<Bytes>,
    },
    /// Somebody wants to see everything.
    Status(oneshot::Sender<Report>),
    /// The user holds a host, or lets it go.
    Hold {
        /// Which, by its name.
        host: String,
        /// Whether it is held, and how.
        hold: Hold,
        /// Where the answer goes.
        reply: oneshot::Sender<Held>,
    },
    /// Somebody wants to know of the latest build.
    Timeline(oneshot::Sender<Timeline>),
    /// A build that is to be traced into this file begins.
    TraceBegin(PathBuf),
    /// It is over; the reply is what it comes to, and nothing if no job of it was traced.
    TraceEnd(PathBuf, oneshot::Sender<String>),
    /// This volunteer sent something else than this machine makes.
    Quarantine {
        /// Which.
        host: HostId,
        /// Where both are kept.
        report: String,
    },
    /// No more jobs leave; what runs is finished.
    Drain,
}

/// What became of a wish to hold a host, or to let it go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is done; this is the host's whole name.
    Done(String),
    /// There is no such host, or several.
    Unknown,
    /// It is distrusted, and stays so.
    Distrusted(String),
}

/// A job as its session introduces it.
pub struct NewJob {
    /// Its number.
    pub job: JobId,
    /// Its build.
    pub build: BuildId,
    /// What people see of it.
    pub about: About,
    /// How to command its session.
    pub commands: mpsc::Sender<Command>,
    /// Where it may go.
    pub whither: Whither,
    /// The trace that it is to be in.
    pub trace: Option<Wish>,
}

/// What people see of a job.
#[derive(Clone, Debug)]
pub struct About {
    /// The source, or the last argument where there is none.
    pub source: String,
    /// The shim's process.
    pub pid: u32,
    /// The number of its slot, where it runs or ran last.
    pub slot: u32,
}

/// Where a job may go.
pub enum Whither {
    /// To a volunteer.
    Remote {
        /// Its host list.
        hosts: Arc<HostList>,
        /// For those of them that are behind ssh.
        ssh: Option<Ssh>,
        /// What it needs.
        toolchain: Digest,
        /// For learning.
        task: TaskKey,
        /// What its environment asks for.
        settings: Settings,
    },
    /// Nowhere.
    Local {
        /// Its host list, for its local slots.
        hosts: Option<Arc<HostList>>,
        /// Why it stays.
        reason: LocalReason,
        /// It could have left if there were hosts, and must not run here (`DISTCC_FALLBACK=0`).
        forbidden: bool,
    },
}

/// What a session is told to do; see [`Action`].
#[derive(Debug)]
#[allow(missing_docs, reason = "the scheduler's actions, addressed to one session")]
pub enum Command {
    Prepare {
        form: Form,
    },
    CancelPrepare,
    Send {
        host: HostId,
        name: Arc<str>,
        link: LinkHandle,
        classic: Version,
        slot: SlotLease,
        deadline: Duration,
    },
    Cancel {
        host: HostId,
    },
    Take {
        host: HostId,
    },
    RunLocally {
        reason: LocalReason,
        attempted: Attempted,
        warning: Bytes,
    },
    Forbid {
        reason: LocalReason,
        warning: Bytes,
        status: i32,
    },
}
