//! Which files one link was asked for, and who waits for them.
//!
//! Pure. Each file is asked for once, however many jobs need it, until it has come or the client has
//! said that it will not. What another link brings ([`crate::remote::couriers`]) is waited for, too.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::common::protocol::link::Refusal;
use crate::common::toolchain::Digest;
use crate::remote::couriers::Wanted;
use crate::remote::hermetic::Want;

/// Files under way, and who waits.
#[derive(Debug, Default)]
pub struct Wants {
    files: HashMap<Digest, Vec<u64>>,
    /// Those of `files` that another link brings, with their numbers here.
    elsewhere: HashMap<Digest, (u32, Wanted)>,
    /// Those of a toolchain that the client was asked for, with their numbers: another may bring them first.
    asked: HashMap<Digest, u32>,
    /// The bytes of those that have come from elsewhere.
    brought: u64,
    waiting: HashMap<u64, Waiting>,
    next: u64,
    /// Names of waiters in `files`, and at how many those are looked for that are gone.
    noted: usize,
    sweep_at: usize,
}

/// Fewer are not looked through.
const SWEEP_MIN: usize = 1 << 20;

/// So many files of a toolchain, and of all that a link waits for, may be left to others. The largest has some
/// hundred; whoever has more looks after it alone, so that nobody makes others look through long lists.
pub const SHARED_MAX: usize = 4096;

#[derive(Debug)]
struct Waiting {
    missing: usize,
    done: oneshot::Sender<Result<(), Refusal>>,
}

impl Wants {
    /// Somebody wants files. Returns the numbers of those that the client is to be asked for: nobody was yet,
    /// `is_there` does not know that they have come since they were looked for and, of a toolchain's, `take` knows of
    /// nobody else who brings them.
    pub fn want(
        &mut self,
        want: Want,
        since: Instant,
        is_there: impl Fn(&Digest) -> bool,
        mut take: impl FnMut(&Wanted) -> bool,
    ) -> Vec<u32> {
        if self.noted >= self.sweep_at.max(SWEEP_MIN) {
            self.sweep();
        }
        self.next += 1;
        let (mut ask, mut missing) = (Vec::new(), 0);
        let is_shared = want.of_toolchain && want.files.len() <= SHARED_MAX;
        for input in &want.files {
            let Some(file) = input.known.entry.kind.file() else { continue };
            if let Some(waiters) = self.files.get_mut(&file.digest) {
                // The same contents at two paths are waited for once.
                if waiters.last() != Some(&self.next) {
                    waiters.push(self.next);
                    missing += 1;
                    self.noted += 1;
                }
                // A job that needs it now does not rely on others.
                let brought = (!want.of_toolchain).then(|| self.elsewhere.remove(&file.digest)).flatten();
                ask.extend(brought.map(|(number, _)| number));
            } else if !is_there(&file.digest) {
                self.files.insert(file.digest, vec![self.next]);
                missing += 1;
                let wanted = Wanted { digest: file.digest, size: file.size, since };
                if is_shared && self.elsewhere.len() < SHARED_MAX && !take(&wanted) {
                    self.elsewhere.insert(file.digest, (input.number, wanted));
                } else {
                    ask.push(input.number);
                    if is_shared && self.asked.len() < SHARED_MAX {
                        self.asked.insert(file.digest, input.number);
                    }
                }
            }
        }
        if missing == 0 {
            let _ = want.done.send(Ok(()));
        } else {
            self.waiting.insert(self.next, Waiting { missing, done: want.done });
        }
        ask
    }

    /// Whether there is anything that may come over other links.
    pub fn may_come_elsewhere(&self) -> bool {
        !self.elsewhere.is_empty() || !self.asked.is_empty()
    }

    /// Looks what has come over other links. Returns the numbers of what the client is to be asked for after all, and
    /// of what it was asked for and need not send any more.
    pub fn look_elsewhere(
        &mut self,
        is_there: impl Fn(&Digest) -> bool,
        mut take: impl FnMut(&Wanted) -> bool,
    ) -> (Vec<u32>, Vec<(Digest, u32)>) {
        let spared: Vec<(Digest, u32)> = self.asked.extract_if(|digest, _| is_there(digest)).collect();
        let mut came: Vec<Digest> = spared.iter().map(|(digest, _)| *digest).collect();
        let here: Vec<Wanted> = self
            .elsewhere
            .values()
            .map(|(_, wanted)| *wanted)
            .filter(|wanted| is_there(&wanted.digest))
            .collect();
        self.brought = here.iter().map(|wanted| wanted.size).fold(self.brought, u64::saturating_add);
        came.extend(here.iter().map(|wanted| wanted.digest));
        self.arrived(&came, None);
        let left: Vec<(Digest, u32)> = self
            .elsewhere
            .extract_if(|_, (_, wanted)| take(wanted))
            .map(|(digest, (number, _))| (digest, number))
            .collect();
        self.asked.extend(left.iter().copied());
        (left.into_iter().map(|(_, number)| number).collect(), spared)
    }

    /// How many bytes were left to other links, and how many of them have come, where `rest` says how many of some files
    /// have not.
    pub fn share(&self, rest: impl FnOnce(&mut dyn Iterator<Item = (&Digest, u64)>) -> u64) -> (u64, u64) {
        let files = || self.elsewhere.iter().map(|(digest, (_, wanted))| (digest, wanted.size));
        // Sizes are what the client says.
        let awaited = files().map(|(_, size)| size).fold(self.brought, u64::saturating_add);
        (awaited, awaited.saturating_sub(rest(&mut files())))
    }

    /// Files have come; or there was trouble with them, and who needs them does not get them.
    pub fn arrived(&mut self, files: &[Digest], trouble: Option<&Refusal>) {
        for file in files {
            self.elsewhere.remove(file);
            self.asked.remove(file);
        }
        for waiter in files.iter().filter_map(|file| self.files.remove(file)).flatten() {
            let Some(waiting) = self.waiting.get_mut(&waiter) else { continue };
            waiting.missing -= 1;
            if trouble.is_none() && waiting.missing > 0 {
                continue;
            }
            if let Some(waiting) = self.waiting.remove(&waiter) {
                let _ = waiting.done.send(trouble.cloned().map_or(Ok(()), Err));
            }
        }
    }

    /// Forgets who waits no longer, as jobs that were cancelled. What they wanted is still under way.
    fn sweep(&mut self) {
        self.waiting.retain(|_, waiting| !waiting.done.is_closed());
        self.noted = 0;
        for waiters in self.files.values_mut() {
            waiters.retain(|waiter| self.waiting.contains_key(waiter));
            waiters.shrink_to_fit();
            self.noted += waiters.len();
        }
        self.sweep_at = 2 * self.noted;
    }

    /// Numbers have lost their meaning: what has not begun to come will not.
    pub fn forget(&mut self, coming: &HashSet<Digest>) {
        let lost: Vec<Digest> = self.files.keys().filter(|file| !coming.contains(file)).copied().collect();
        let why = Refusal::InputsChanged { detail: "their numbers were forgotten".to_owned() };
        self.arrived(&lost, Some(&why));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::common::inputs::{Entry, EntryKind, FileEntry};
    use crate::remote::items::Input;
    use crate::remote::view::catalogue::Catalogue;

    fn digest(name: u8) -> Digest {
        Digest::of(&[name])
    }

    fn want(names: &[u8]) -> (Want, oneshot::Receiver<Result<(), Refusal>>) {
        let catalogue = Catalogue::default();
        let input = |name: &u8| {
            let file = FileEntry { digest: digest(*name), size: 1, executable: false, twin: 0, age: 0 };
            let path = format!("/{name}").into_bytes().into();
            let known = catalogue.know(Entry { path, kind: EntryKind::File(file) });
            Input { number: u32::from(*name), known: Arc::clone(&known) }
        };
        let (done, told) = oneshot::channel();
        (Want { files: names.iter().map(input).collect(), epoch: 0, of_toolchain: false, done }, told)
    }

    impl Wants {
        /// Of a client that is alone.
        fn alone(&mut self, want: Want, is_there: impl Fn(&Digest) -> bool) -> Vec<u32> {
            self.want(want, Instant::now(), is_there, |_| true)
        }
    }

    #[test]
    fn fifty_who_want_a_file_ask_for_it_once_and_all_are_told() {
        let mut wants = Wants::default();
        let mut told = Vec::new();
        for number in 0..50 {
            let (want, done) = want(&[1, 2]);
            told.push(done);
            assert_eq!(wants.alone(want, |_| false), if number == 0 { vec![1, 2] } else { vec![] });
        }
        wants.arrived(&[digest(1)], None);
        assert!(told.iter_mut().all(|told| told.try_recv().is_err()));
        wants.arrived(&[digest(2)], None);
        assert!(told.iter_mut().all(|told| told.try_recv() == Ok(Ok(()))));
    }

    #[test]
    fn those_who_are_gone_are_not_remembered() {
        let mut wants = Wants::default();
        let (one, told) = want(&[1, 2]);
        assert_eq!(wants.alone(one, |_| false), [1, 2]);
        for _ in 0..SWEEP_MIN {
            drop(wants.alone(want(&[1, 2]).0, |_| false));
        }
        assert!(
            wants.waiting.len() <= SWEEP_MIN / 2 + 1 && wants.noted <= SWEEP_MIN,
            "{}",
            wants.waiting.len()
        );
        drop(told);
    }

    #[test]
    fn what_came_meanwhile_is_not_asked_for() {
        let mut wants = Wants::default();
        let (want, mut told) = want(&[1]);
        assert_eq!(wants.alone(want, |file| *file == digest(1)), [] as [u32; 0]);
        assert_eq!(told.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn the_same_contents_twice_are_one_file() {
        let mut wants = Wants::default();
        let (want, mut told) = want(&[1, 1]);
        assert_eq!(wants.alone(want, |_| false), [1]);
        wants.arrived(&[digest(1)], None);
        assert_eq!(told.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn who_needs_what_will_not_come_is_told_and_it_can_be_asked_for_again() {
        let mut wants = Wants::default();
        let (needs_both, mut both) = want(&[1, 2]);
        let (needs_other, mut other) = want(&[2]);
        wants.alone(needs_both, |_| false);
        wants.alone(needs_other, |_| false);
        let why = Refusal::InputsChanged { detail: String::new() };
        wants.arrived(&[digest(1)], Some(&why));
        assert_eq!(both.try_recv(), Ok(Err(why)));
        wants.arrived(&[digest(2)], None);
        assert_eq!(other.try_recv(), Ok(Ok(())));
        assert_eq!(wants.alone(want(&[1]).0, |_| false), [1]);
    }

    #[test]
    fn when_numbers_are_forgotten_only_what_is_on_its_way_comes() {
        let mut wants = Wants::default();
        let (needs_one, mut one) = want(&[1]);
        let (needs_other, mut other) = want(&[2]);
        wants.alone(needs_one, |_| false);
        wants.alone(needs_other, |_| false);
        wants.forget(&HashSet::from([digest(1)]));
        assert!(matches!(other.try_recv(), Ok(Err(Refusal::InputsChanged { .. }))));
        wants.arrived(&[digest(1)], None);
        assert_eq!(one.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn what_others_bring_of_a_compiler_is_waited_for_and_asked_for_when_they_do_not() {
        let mut wants = Wants::default();
        let (toolchain, mut told) = want(&[1, 2, 3]);
        let toolchain = Want { of_toolchain: true, ..toolchain };
        let others = [digest(2), digest(3)];
        let asked =
            wants.want(toolchain, Instant::now(), |_| false, |wanted| !others.contains(&wanted.digest));
        assert_eq!(asked, [1]);
        let rest = |files: &mut dyn Iterator<Item = (&Digest, u64)>| files.map(|(_, size)| size).sum();
        assert_eq!(wants.share(rest), (2, 0));
        // One has come, and the other will not.
        let asked = wants.look_elsewhere(|file| *file == digest(2), |_| true);
        assert_eq!(asked, (vec![3], vec![]));
        assert_eq!(wants.share(rest), (1, 1));
        wants.arrived(&[digest(1), digest(3)], None);
        assert_eq!(told.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn long_lists_are_not_shared() {
        let mut wants = Wants::default();
        let toolchain = |want: Want, times: usize| Want {
            files: want.files.iter().cycle().take(times).cloned().collect(),
            of_toolchain: true,
            ..want
        };
        let asked = |wants: &mut Wants, name, times| {
            wants.want(toolchain(want(&[name]).0, times), Instant::now(), |_| false, |_| false).len()
        };
        assert_eq!(asked(&mut wants, 1, SHARED_MAX), 0);
        assert_eq!(asked(&mut wants, 2, SHARED_MAX + 1), 1);
    }

    #[test]
    fn a_job_does_not_rely_on_others() {
        let mut wants = Wants::default();
        let (toolchain, _told) = want(&[1]);
        let toolchain = Want { of_toolchain: true, ..toolchain };
        assert_eq!(wants.want(toolchain, Instant::now(), |_| false, |_| false), [] as [u32; 0]);
        assert_eq!(wants.want(want(&[1]).0, Instant::now(), |_| false, |_| false), [1]);
        assert!(!wants.may_come_elsewhere());
    }

    /// A slow client that had been asked first waited for its own copy when another had long brought all.
    #[test]
    fn what_another_brings_first_need_not_be_sent() {
        let mut wants = Wants::default();
        let (toolchain, mut told) = want(&[1, 2]);
        let toolchain = Want { of_toolchain: true, ..toolchain };
        assert_eq!(wants.want(toolchain, Instant::now(), |_| false, |_| true), [1, 2]);
        assert_eq!(wants.look_elsewhere(|file| *file == digest(1), |_| true), (vec![], vec![(digest(1), 1)]));
        assert!(told.try_recv().is_err() && wants.may_come_elsewhere());
        assert_eq!(wants.look_elsewhere(|_| true, |_| true), (vec![], vec![(digest(2), 2)]));
        assert_eq!((told.try_recv(), wants.may_come_elsewhere()), (Ok(Ok(())), false));
    }
}
