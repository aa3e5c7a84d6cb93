//! Why a job does not travel as files, and what is told of that.

use std::sync::Arc;

use super::listing::NoList;
use crate::broker::closure::NotClosed;
use crate::broker::scan::modules::HEADER_UNIT;
use crate::broker::scan::{Declined, InputSet};
use crate::common::bytes::Bytes;
use crate::common::reason::{LocalReason, ModuleRule};

/// Why a job does not travel as files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHermetic {
    /// The command must say something else elsewhere.
    #[error("{0}")]
    Command(LocalReason),
    /// The compiler cannot be sent.
    #[error("compiler: {0}")]
    Toolchain(#[from] NotClosed),
    /// Which files it reads is not certain.
    #[error("scan: {0}")]
    Declined(#[from] Declined),
    /// Nor does its compiler tell enough.
    #[error("scan: {0}; {1}")]
    Unlisted(Declined, NoList),
    /// The result depends on the time of day, which is another there.
    #[error("a file mentions the date or the time")]
    Clock,
    /// What the kernel tells of this machine, or of the process that reads it, is otherwise there.
    #[error("{0} is the kernel's word for this machine")]
    Kernel(Bytes),
    /// It is not known yet which files the precompiled headers among these were made of.
    #[error("a precompiled header that has not been met before")]
    Precompiled(Arc<InputSet>),
    /// What it has to do with modules is possible here alone.
    #[error("modules: {0}")]
    Modules(ModuleRule),
    /// It is not known yet what these compiled modules were made of.
    #[error("a compiled module that has not been met before")]
    Compiled(Arc<InputSet>, Vec<Bytes>),
    /// The broker is at its end.
    #[error("a thread ended: {0}")]
    Thread(String),
    /// A file that an option names is not there, or not plain.
    #[error("{0} cannot be read")]
    Unreadable(Bytes),
}

impl NotHermetic {
    /// The word under which `--status` counts this reason.
    pub fn key(&self) -> String {
        match self {
            NotHermetic::Command(reason) => reason.key().to_owned(),
            NotHermetic::Toolchain(_) => "toolchain".to_owned(),
            NotHermetic::Declined(declined) | NotHermetic::Unlisted(declined, _) => {
                format!("scan: {}", declined.kind())
            }
            NotHermetic::Clock => "clock".to_owned(),
            NotHermetic::Kernel(_) => "file of the kernel".to_owned(),
            NotHermetic::Precompiled(_) => "precompiled header".to_owned(),
            NotHermetic::Modules(_) | NotHermetic::Compiled(..) => "modules".to_owned(),
            NotHermetic::Thread(_) => "broker".to_owned(),
            NotHermetic::Unreadable(_) => "unreadable".to_owned(),
        }
    }
}

impl NotHermetic {
    /// Why a job stays here that no text can carry, because `needed`.
    pub fn reason(&self, needed: &LocalReason) -> LocalReason {
        match self {
            NotHermetic::Modules(why) => LocalReason::Modules { why: *why },
            NotHermetic::Declined(Declined::Doubt { what: HEADER_UNIT, .. }) => {
                LocalReason::Modules { why: ModuleRule::Header }
            }
            NotHermetic::Declined(Declined::Doubt { what, .. }) if what.contains("module") => {
                LocalReason::Modules { why: ModuleRule::Text }
            }
            why => LocalReason::NotAsFiles { why: why.to_string(), needed: Box::new(needed.clone()) },
        }
    }
}
