//! What a volunteer has for the owner of its machine: who compiles what here, how much of the machine it
//! takes, and a pause.
//!
//! - [`roster`]: who compiles what, and has had what; [`usage`]: what that takes of the machine;
//! - [`report`]: both as a document; [`page`]: what is asked for and answered over HTTP;
//! - [`token`]: the word that opens it, [`ask`]: `distccd --pause` and the like, which use it.
//!
//! The page is off unless it was asked for. Its address without the token shows an empty page; whatever is
//! about somebody, and every change, needs the token. A pause counts until it is taken back or the daemon
//! ends: no state is kept.

pub mod ask;
pub mod page;
pub mod report;
pub mod roster;
pub mod token;
pub mod usage;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use self::report::Report;
use self::token::Token;
use self::usage::Course;
use super::job::Context;
use crate::common::http::Request;

/// The page's side of a daemon.
pub struct Owner {
    context: Arc<Context>,
    token: Token,
    course: Mutex<Course>,
    started: Instant,
}

impl Owner {
    /// For those who have this token.
    pub fn new(context: Arc<Context>, token: Token) -> Arc<Self> {
        Arc::new(Owner { context, token, course: Mutex::default(), started: Instant::now() })
    }

    /// Answers a request, given its head. Blocking, as long as reading `/proc` takes.
    pub fn answer(&self, head: &[u8]) -> Vec<u8> {
        let request = Request::read(head);
        page::answer(request.as_ref(), &self.token, |wish| match wish {
            page::Wish::Look => {
                let course = self.course.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Report::of(&self.context, &course, self.started).to_json()
            }
            page::Wish::Pause(paused) => {
                pause(&self.context, paused, "the page");
                page::pause_answer(self.context.gate.is_paused(), self.context.gate.running())
            }
        })
    }

    /// Notes how much of the machine is taken, for ever.
    pub async fn keep_course(self: Arc<Self>) {
        let mut steps = interval(usage::STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            steps.tick().await;
            let used = spawn_blocking(|| usage::of_tree(rustix::process::getpid())).await;
            if let Ok(used) = used {
                self.course.lock().unwrap_or_else(PoisonError::into_inner).note(Instant::now(), used.cpu);
            }
        }
    }
}

/// Takes no new jobs from now on, or takes them again. What runs is left to end.
pub fn pause(context: &Context, paused: bool, by: &str) {
    if !context.gate.pause(paused) {
        return;
    }
    let running = context.gate.running();
    let status = match paused {
        true => {
            tracing::info!("paused by {by}: no new jobs are taken; {running} that run are finished");
            "paused"
        }
        false => {
            tracing::info!("resumed by {by}: jobs are taken again");
            "serving"
        }
    };
    super::serve::tell_service_manager(sd_notify::NotifyState::Status(status));
}

/// The signals that pause a daemon, SIGUSR1, and let it go on, SIGUSR2.
pub struct PauseSignals {
    pause: Signal,
    resume: Signal,
}

impl PauseSignals {
    /// Heeds them from now on.
    ///
    /// # Errors
    ///
    /// Returns what the system returned.
    pub fn new() -> std::io::Result<Self> {
        Ok(PauseSignals {
            pause: signal(SignalKind::user_defined1())?,
            resume: signal(SignalKind::user_defined2())?,
        })
    }

    /// Does what they say, for ever.
    pub async fn heed(mut self, context: Arc<Context>) {
        loop {
            let paused = tokio::select! {
                Some(()) = self.pause.recv() => true,
                Some(()) = self.resume.recv() => false,
                else => return,
            };
            pause(&context, paused, "a signal");
        }
    }
}
