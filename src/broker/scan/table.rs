//! Which macros are in force, and, while that is wanted, what was asked of the table and done to
//! it: so that the effects of a whole header can be kept together with all that they depend on.

use super::macros::{MacroId, UNDEFINED};
use super::symbols::Sym;

/// In the log: the macro was defined or undefined. No definition has this number.
const WRITTEN: u32 = u32::MAX - 1;

/// Room for entries of the log that is kept from one recording to the next.
const LOG_KEPT: usize = 1 << 16;

/// What a stretch of text asked of the table, and what it left there.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Each macro that was asked for before it was changed, and what was in force then.
    pub reads: Box<[(Sym, u32)]>,
    /// Each macro that was changed, and what is in force at the end.
    pub writes: Box<[(Sym, u32)]>,
}

/// Where a recording begins.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    log: usize,
    pushed: usize,
    lowest_pop: isize,
    is_inner: bool,
}

/// Which macros are defined, by spelling: a dense array, and a journal to take it all back.
#[derive(Debug)]
pub struct Table {
    current: Vec<u32>,
    touched: Vec<Sym>,
    pushed: Vec<(Sym, u32)>,
    /// 0: nothing is recorded. Else what marks a macro as noted in this part of the log.
    serial: u32,
    last_serial: u32,
    /// By spelling: twice the serial under which it was noted, and 1 more if as changed.
    noted: Vec<u32>,
    log: Vec<(Sym, u32)>,
    /// The lowest entry of `pushed` that was popped; -1 if a pop found none.
    lowest_pop: isize,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            current: Vec::new(),
            touched: Vec::new(),
            pushed: Vec::new(),
            serial: 0,
            last_serial: 0,
            noted: Vec::new(),
            log: Vec::new(),
            lowest_pop: isize::MAX,
        }
    }
}

impl Table {
    /// The definition in force.
    #[inline]
    pub fn get(&mut self, sym: Sym) -> Option<MacroId> {
        let id = self.peek(sym);
        if self.serial != 0 {
            self.note(sym, id);
        }
        Some(id).filter(|&id| id != UNDEFINED)
    }

    /// What is in force, [`UNDEFINED`] included; this is not recorded.
    #[inline]
    pub fn peek(&self, sym: Sym) -> u32 {
        self.current.get(sym as usize).copied().unwrap_or(UNDEFINED)
    }

    /// Puts a definition in force, or takes it away ([`UNDEFINED`]).
    #[inline]
    pub fn set(&mut self, sym: Sym, id: u32) {
        let index = sym as usize;
        if index >= self.current.len() {
            self.current.resize((index + 1).next_power_of_two(), UNDEFINED);
        }
        if self.current[index] == UNDEFINED {
            self.touched.push(sym);
        }
        self.current[index] = id;
        if self.serial != 0 {
            self.note(sym, WRITTEN);
        }
    }

    /// `#pragma push_macro`.
    pub fn push(&mut self, sym: Sym) {
        let id = self.get(sym).unwrap_or(UNDEFINED);
        self.pushed.push((sym, id));
    }

    /// `#pragma pop_macro`: the last pushed definition of that name, if any, is in force again.
    pub fn pop(&mut self, sym: Sym) {
        match self.pushed.iter().rposition(|&(name, _)| name == sym) {
            Some(at) => {
                self.lowest_pop = self.lowest_pop.min(at as isize);
                let (_, id) = self.pushed.remove(at);
                self.set(sym, id);
            }
            None => self.lowest_pop = -1,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        for sym in self.touched.drain(..) {
            self.current[sym as usize] = UNDEFINED;
        }
        self.pushed.clear();
        self.log.clear();
        self.serial = 0;
        self.lowest_pop = isize::MAX;
    }

    /// Begins to record, within what is recorded already, if anything is.
    pub fn begin(&mut self) -> Mark {
        let is_inner = self.serial != 0;
        self.serial = self.next_serial();
        let lowest_pop = std::mem::replace(&mut self.lowest_pop, isize::MAX);
        Mark { log: self.log.len(), pushed: self.pushed.len(), lowest_pop, is_inner }
    }

    /// Ends the recording that began last; `None` if it pushed or popped what lies outside of it.
    pub fn end(&mut self, mark: Mark) -> Option<Traffic> {
        let is_whole = self.pushed.len() == mark.pushed && self.lowest_pop >= mark.pushed as isize;
        self.lowest_pop = self.lowest_pop.min(mark.lowest_pop);
        let serial = self.next_serial();
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for &(sym, id) in &self.log[mark.log..] {
            let noted = &mut self.noted[sym as usize];
            if id == WRITTEN && *noted != serial * 2 + 1 {
                *noted = serial * 2 + 1;
                writes.push((sym, self.current[sym as usize]));
            } else if *noted >> 1 != serial {
                *noted = serial * 2;
                reads.push((sym, id));
            }
        }
        self.log.truncate(mark.log);
        self.serial = if mark.is_inner { self.next_serial() } else { 0 };
        if !mark.is_inner {
            self.log.shrink_to(LOG_KEPT);
        }
        if mark.is_inner {
            self.log.extend_from_slice(&reads);
            self.log.extend(writes.iter().map(|&(sym, _)| (sym, WRITTEN)));
        }
        is_whole.then(|| Traffic { reads: reads.into(), writes: writes.into() })
    }

    /// Whether recorded traffic would go the same way from here.
    pub fn fits(&self, traffic: &Traffic) -> bool {
        traffic.reads.iter().all(|&(sym, id)| self.peek(sym) == id)
    }

    /// Does what recorded traffic did.
    pub fn repeat(&mut self, traffic: &Traffic) {
        if self.serial != 0 {
            for &(sym, id) in &traffic.reads {
                self.note(sym, id);
            }
        }
        for &(sym, id) in &traffic.writes {
            self.set(sym, id);
        }
    }

    fn note(&mut self, sym: Sym, id: u32) {
        let index = sym as usize;
        if index >= self.noted.len() {
            self.noted.resize((index + 1).next_power_of_two(), 0);
        }
        let noted = &mut self.noted[index];
        let is_known = if id == WRITTEN { *noted == self.serial * 2 + 1 } else { *noted >> 1 == self.serial };
        if !is_known {
            *noted = self.serial * 2 + u32::from(id == WRITTEN);
            self.log.push((sym, id));
        }
    }

    fn next_serial(&mut self) -> u32 {
        if self.last_serial >= u32::MAX / 2 - 1 {
            self.noted.fill(0);
            self.last_serial = 0;
        }
        self.last_serial += 1;
        self.last_serial
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_has_what_was_asked_before_it_was_changed_and_what_is_left() {
        let mut table = Table::default();
        table.set(1, 10);
        table.set(2, 20);
        let mark = table.begin();
        assert_eq!((table.get(1), table.get(3)), (Some(10), None));
        table.set(1, 11);
        assert_eq!(table.get(1), Some(11));
        table.set(2, 21);
        let inner = table.begin();
        assert_eq!(table.get(2), Some(21));
        table.set(4, 40);
        table.set(2, UNDEFINED);
        let traffic = table.end(inner).unwrap();
        assert_eq!(*traffic.reads, [(2, 21)]);
        assert_eq!(*traffic.writes, [(4, 40), (2, UNDEFINED)]);
        let traffic = table.end(mark).unwrap();
        assert_eq!(*traffic.reads, [(1, 10), (3, UNDEFINED)]);
        assert_eq!(*traffic.writes, [(1, 11), (2, UNDEFINED), (4, 40)]);
        assert!(!table.fits(&traffic));
        table.clear();
        table.set(1, 10);
        assert!(table.fits(&traffic));
        table.repeat(&traffic);
        assert_eq!((table.get(1), table.get(2), table.get(4)), (Some(11), None, Some(40)));
    }

    #[test]
    fn what_pops_or_leaves_a_push_is_not_taken_for_a_whole() {
        let mut table = Table::default();
        table.push(1);
        for (pushes, pops, is_whole) in
            [(&[2u32][..], &[2u32][..], true), (&[2], &[], false), (&[], &[1], false)]
        {
            let mark = table.begin();
            pushes.iter().for_each(|&sym| table.push(sym));
            pops.iter().for_each(|&sym| table.pop(sym));
            assert_eq!(table.end(mark).is_some(), is_whole, "{pushes:?} {pops:?}");
        }
        let mut table = Table::default();
        let mark = table.begin();
        table.pop(9);
        assert!(table.end(mark).is_none());
    }
}
