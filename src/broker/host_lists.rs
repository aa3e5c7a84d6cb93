//! Which host list a job has: each job carries its own, and equal ones are parsed once.
//!
//! Sources, as distcc's manual orders them: `$DISTCC_HOSTS`; `$DISTCC_DIR/hosts`, or
//! `~/.distcc/hosts` where `DISTCC_DIR` is not set; `/etc/distcc/hosts`. The first that exists is
//! used alone, even when it is empty or wrong.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::plain_file;
use crate::common::bytes::Bytes;
use crate::common::hosts::{HostList, parse};
use crate::common::invocation::Invocation;
use crate::common::reason::LocalReason;

/// The system's list.
const SYSTEM_LIST: &str = "/etc/distcc/hosts";

/// What is said of a list that wants hosts to be found on the local network.
pub const NO_ZEROCONF: &str = "+zeroconf finds nobody here: hosts must be listed by name";

/// No list of a real farm is longer.
const LIST_MAX_BYTES: u64 = 1 << 20;

/// Lists remembered; beyond it the memory starts afresh.
const REMEMBERED_MAX: usize = 64;

/// A list, or what is wrong with it.
type Parsed = Result<Arc<HostList>, String>;

/// The lists met so far, by their text.
#[derive(Default)]
pub struct HostLists {
    parsed: Mutex<HashMap<Vec<u8>, Parsed>>,
}

impl HostLists {
    /// The list of one invocation.
    ///
    /// # Errors
    ///
    /// Returns that there is none, or what is wrong with it.
    pub fn of(&self, invocation: &Invocation) -> Result<Arc<HostList>, LocalReason> {
        let (source_name, text) = read(invocation).ok_or(LocalReason::NoHosts)?;
        let list = self.parse(text).map_err(|why| LocalReason::BadHostList { why })?;
        if list.hosts.is_empty() && list.localhost.is_none() && list.zeroconf {
            return Err(LocalReason::BadHostList { why: NO_ZEROCONF.to_owned() });
        }
        if list.hosts.is_empty() && list.localhost.is_none() {
            return Err(LocalReason::EmptyHostList { source_name });
        }
        Ok(list)
    }

    fn parse(&self, text: Vec<u8>) -> Parsed {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = parsed.get(&text) {
            return known.clone();
        }
        if parsed.len() >= REMEMBERED_MAX {
            parsed.clear();
        }
        let list = parse(&text).map(Arc::new).map_err(|error| error.to_string());
        parsed.insert(text, list.clone());
        list
    }
}

/// What the first source that exists is called, and its text.
pub fn read(invocation: &Invocation) -> Option<(String, Vec<u8>)> {
    if let Some(hosts) = invocation.variable("DISTCC_HOSTS") {
        return Some(("$DISTCC_HOSTS".to_owned(), hosts.to_vec()));
    }
    user_list(invocation).into_iter().chain([PathBuf::from(SYSTEM_LIST)]).find_map(|path| {
        use std::io::Read;
        let mut text = Vec::new();
        plain_file::open(&path).ok()?.0.take(LIST_MAX_BYTES).read_to_end(&mut text).ok()?;
        Some((path.display().to_string(), text))
    })
}

fn user_list(invocation: &Invocation) -> Option<PathBuf> {
    let directory = match invocation.variable("DISTCC_DIR") {
        Some(directory) => Bytes::from(directory).as_path().to_owned(),
        None => Bytes::from(invocation.variable("HOME")?).as_path().join(".distcc"),
    };
    Some(invocation.cwd.as_path().join(directory).join("hosts"))
}
