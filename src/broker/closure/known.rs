//! The closures met so far: each compiler is closed once, and again when something of it changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::{Closure, Digests, NotClosed, Surroundings, closure_of};
use crate::broker::stamp::Stamp;
use crate::common::bytes::Bytes;

/// Compilers remembered; beyond it the memory starts afresh.
const REMEMBERED_MAX: usize = 256;
/// How long it is remembered that a compiler cannot travel, while its driver stands: what is
/// missing may be installed meanwhile, but each attempt costs some processes.
const REFUSAL: Duration = Duration::from_secs(20);

type Key = (PathBuf, Surroundings);
type Asked = Arc<OnceCell<Attempt>>;

/// How closing one went.
#[derive(Debug)]
struct Attempt {
    result: Result<Arc<Closure>, NotClosed>,
    driver: Option<Stamp>,
    at: Instant,
}

impl Attempt {
    fn stands(&self, program: &Path) -> bool {
        match &self.result {
            Ok(closure) => closure.is_unchanged(),
            Err(_) => self.at.elapsed() < REFUSAL && Stamp::at(program) == self.driver,
        }
    }
}

/// Closures by compiler and surroundings.
#[derive(Default)]
pub struct Closures {
    digests: Arc<Digests>,
    known: Mutex<HashMap<Key, Asked>>,
}

impl Closures {
    /// The closure of the compiler at `program`, as it is at this moment.
    ///
    /// # Errors
    ///
    /// [`NotClosed`] says why there is none.
    pub async fn of(
        &self,
        program: &Path,
        clang: bool,
        around: &Surroundings,
    ) -> Result<Arc<Closure>, NotClosed> {
        let key = (program.to_owned(), around.clone());
        for _ in 0..2 {
            let asked = self.entry(&key);
            let fresh = !asked.initialized();
            let attempt = asked.get_or_init(|| self.attempt(&key, clang)).await;
            if fresh && attempt.result.is_err() || attempt.stands(program) {
                return attempt.result.clone();
            }
            self.forget(&key, &asked);
        }
        Err(NotClosed::Changing { path: Bytes::from(program) })
    }

    /// The digests that closures share, for sets beside them.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    async fn attempt(&self, (program, around): &Key, clang: bool) -> Attempt {
        let (driver, at) = (Stamp::at(program), Instant::now());
        let result = closure_of(program, clang, around, &self.digests).await.map(Arc::new);
        if let Ok(closure) = &result {
            let entries = closure.entries.len();
            tracing::info!(program = %program.display(), digest = %closure.digest.short(), entries, took = ?at.elapsed(), "toolchain closed");
        }
        Attempt { result, driver, at }
    }

    fn entry(&self, key: &Key) -> Asked {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX && !known.contains_key(key) {
            known.clear();
        }
        known.entry(key.clone()).or_default().clone()
    }

    fn forget(&self, key: &Key, asked: &Asked) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(key).is_some_and(|current| Arc::ptr_eq(current, asked)) {
            known.remove(key);
        }
    }
}
