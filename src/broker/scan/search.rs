//! Looking for includes along a chain of directories, with a memory of what was found.

use super::effects::NO_SLOT;
use super::files::{Answer, Files, Stat, Trail};
use super::paths::{PathId, Paths};
use super::symbols::{QuickMap, Sym, Symbols};
use super::{Family, Search};

/// Where a search starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// A directory that is not of the chain, then the whole chain: [`Chains::beside`].
    Beside(u32),
    /// This place in the chain.
    Chain(u16),
    /// The name is absolute.
    Nowhere,
}

impl Start {
    /// A search for `name` from here, as one number.
    fn key(self, name: Sym) -> u64 {
        let start = match self {
            Start::Nowhere => 0,
            Start::Chain(at) => 1 + u32::from(at),
            Start::Beside(number) => (1 << 17) + number,
        };
        u64::from(start) << 32 | u64::from(name)
    }
}

/// A directory that is looked in before a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Beside {
    /// The directory, with its slash.
    pub directory: PathId,
    /// Whether the compiler knows it relative to the working directory.
    pub relative: bool,
    /// Whether what is found there is a system header.
    pub system: bool,
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The file, under the name by which the compiler will know it.
    pub path: PathId,
    /// The path under which it was looked up.
    pub via: PathId,
    /// Its place in the chain.
    pub at: Option<u16>,
    /// Whether it comes from a system directory.
    pub system: bool,
    /// Whether its name is relative to the working directory.
    pub relative: bool,
    /// What is there.
    pub stat: Stat,
}

/// The end of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Found.
    Hit(Hit),
    /// Not found.
    Missing,
    /// Something is there and cannot be read: compilers stop at it.
    Unreadable(PathId),
}

/// One search and its end.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Where it started.
    pub start: Start,
    /// What it looked for.
    pub name: Sym,
    /// How it ended.
    pub outcome: Outcome,
    /// The last translation unit that used it.
    pub used_by: u32,
    /// The last one that entered the file, and the macro that guards it.
    pub entered_by: u32,
    /// The macro that guards the file, if one does.
    pub guard: Option<Sym>,
    /// The last translation unit in which the file is not read again, whatever is defined.
    pub done_in: u32,
    /// Where effects of the file that was found are kept.
    pub slot: u32,
    /// [`Chains::version`] when it last ended otherwise than before.
    version: u64,
    /// Where it looked, and in how many of these places it looked in vain.
    lane: u32,
    vain: u32,
    /// When it looked.
    made_at: u64,
}

impl Found {
    /// Where it looked.
    pub fn lane(&self) -> u32 {
        self.lane
    }
}

/// The directories in which all names with one directory part are looked for, from one start.
#[derive(Debug)]
struct Lane {
    trail: Trail,
    places: Box<[Place]>,
    used_by: u32,
}

/// One directory of a lane.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its path with a slash at the end.
    path: PathId,
    at: Option<u16>,
    system: bool,
    relative: bool,
}

#[derive(Debug)]
struct Chain {
    search: Search,
    /// How much shorter a relative path is than the absolute one kept for it.
    prefix: usize,
    canonical: bool,
    lanes: QuickMap<u64, u32>,
    found: QuickMap<u64, u32>,
}

/// All chains and what was found along them.
#[derive(Debug, Default)]
pub struct Chains {
    chains: Vec<Chain>,
    numbers: std::collections::HashMap<(Search, Vec<u8>, bool), u32>,
    lanes: Vec<Lane>,
    found: Vec<Found>,
    besides: Vec<Beside>,
    beside_numbers: QuickMap<Beside, u32>,
    version: u64,
    places: usize,
    buffer: Vec<u8>,
}

/// What a search has at hand.
pub struct Around<'a> {
    /// Spellings of names.
    pub symbols: &'a mut Symbols,
    /// Paths.
    pub paths: &'a mut Paths,
    /// The file system.
    pub files: &'a mut dyn Files,
    /// The number of this scan.
    pub scan: u32,
}

impl Chains {
    /// Whether a file would have another name, if it lay in a system directory.
    pub fn is_renamed(&self, chain: u32, path: &[u8], is_relative: bool, real: &[u8]) -> bool {
        self.chains[chain as usize].renames(path, is_relative, real)
    }

    /// The number of a chain, for a working directory that ends in a slash.
    pub fn number(&mut self, search: &Search, cwd: &[u8], family: Family, canonical: bool) -> u32 {
        let canonical = canonical && family == Family::Gcc;
        let key = (search.clone(), cwd.to_vec(), canonical);
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        self.chains.push(Chain {
            search: search.clone(),
            prefix: cwd.len(),
            canonical,
            lanes: QuickMap::default(),
            found: QuickMap::default(),
        });
        let number = self.chains.len() as u32 - 1;
        self.numbers.insert(key, number);
        number
    }

    /// The start of searches that look in this directory first.
    pub fn beside(&mut self, beside: Beside) -> Start {
        let number = *self.beside_numbers.entry(beside).or_insert_with(|| {
            self.besides.push(beside);
            self.besides.len() as u32 - 1
        });
        Start::Beside(number)
    }

    /// How many directories a chain has.
    pub fn length(&self, chain: u32) -> u16 {
        self.chains[chain as usize].search.directories.len().min(usize::from(u16::MAX)) as u16
    }

    /// How many of them are for quotes alone.
    pub fn quotes(&self, chain: u32) -> u16 {
        self.chains[chain as usize].search.quotes.min(usize::from(u16::MAX)) as u16
    }

    /// A finding.
    pub fn get(&mut self, index: u32) -> &mut Found {
        &mut self.found[index as usize]
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        self.found.len() * (size_of::<Found>() + 40)
            + self.lanes.len() * (size_of::<Lane>() + 40)
            + self.places * size_of::<Place>()
            + self.chains.len() * 2048
    }

    /// Looks for `name`, or remembers; and whether this is its first use in this scan.
    pub fn find(&mut self, chain: u32, start: Start, name: Sym, around: &mut Around<'_>) -> (u32, bool) {
        let Some(&index) = self.chains[chain as usize].found.get(&start.key(name)) else {
            let found = self.search(chain, start, name, around);
            self.found.push(found);
            let index = self.found.len() as u32 - 1;
            self.chains[chain as usize].found.insert(start.key(name), index);
            return (index, true);
        };
        if self.found[index as usize].used_by == around.scan {
            return (index, false);
        }
        self.refresh(chain, index, around);
        self.found[index as usize].used_by = around.scan;
        (index, true)
    }

    /// Makes sure that a finding is of now; [`Self::version`] when it last became another.
    pub fn refresh(&mut self, chain: u32, index: u32, around: &mut Around<'_>) -> u64 {
        let known = self.found[index as usize];
        let fleeting = matches!(known.outcome, Outcome::Hit(Hit { stat: Stat { fleeting: true, .. }, .. }));
        let trail = self.lanes[known.lane as usize].trail;
        let is_of_now =
            known.used_by == around.scan || (!fleeting && around.files.state(trail) <= known.made_at);
        if is_of_now {
            return known.version;
        }
        let mut found = self.search(chain, known.start, known.name, around);
        if found.outcome == known.outcome {
            (found.slot, found.version) = (known.slot, known.version);
        } else {
            self.version += 1;
            found.version = self.version;
        }
        // Only who asks for it uses it.
        found.used_by = known.used_by;
        self.found[index as usize] = found;
        found.version
    }

    /// Grows whenever a search ends otherwise than before.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The trail of a lane.
    pub fn trail(&self, lane: u32) -> Trail {
        self.lanes[lane as usize].trail
    }

    /// How a search ends now.
    pub fn again(&mut self, chain: u32, index: u32, around: &mut Around<'_>) -> Outcome {
        let Found { start, name, .. } = self.found[index as usize];
        let (index, _) = self.find(chain, start, name, around);
        self.found[index as usize].outcome
    }

    /// Notes that a lane is used; its trail, if that is new in this scan.
    pub fn use_lane(&mut self, lane: u32, scan: u32) -> Option<Trail> {
        let lane = &mut self.lanes[lane as usize];
        (std::mem::replace(&mut lane.used_by, scan) != scan).then_some(lane.trail)
    }

    fn search(&mut self, chain: u32, start: Start, name: Sym, around: &mut Around<'_>) -> Found {
        let lane = self.lane(chain, start, name, around);
        let mut buffer = std::mem::take(&mut self.buffer);
        let entry = &self.lanes[lane as usize];
        around.files.state(entry.trail);
        // Before one looks, so that a change meanwhile makes the finding an old one.
        let made_at = around.files.now();
        let mut found = Found {
            start,
            name,
            outcome: Outcome::Missing,
            used_by: around.scan,
            entered_by: 0,
            guard: None,
            done_in: 0,
            slot: NO_SLOT,
            version: self.version,
            lane,
            vain: 0,
            made_at,
        };
        let text = around.symbols.text(name);
        let last = &text[text.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)..];
        for (index, place) in entry.places.iter().enumerate() {
            let answer = match last {
                b"" | b"." | b".." => Answer::Directory,
                _ => around.files.look(entry.trail, index, last),
            };
            found.vain = index as u32;
            buffer.clear();
            match answer {
                Answer::File(stat) => {
                    buffer.extend_from_slice(around.paths.bytes(place.path));
                    buffer.extend_from_slice(last);
                    let chain = &self.chains[chain as usize];
                    found.outcome =
                        Outcome::Hit(hit(chain, place, stat, &buffer, around.paths, around.files));
                    break;
                }
                Answer::Absent => found.vain += 1,
                Answer::Directory if start != Start::Nowhere => found.vain += 1,
                // Nothing else can be meant by a whole path; clang takes precompiled headers out of such a directory.
                Answer::Directory | Answer::Unreadable => {
                    buffer.extend_from_slice(around.paths.bytes(place.path));
                    buffer.extend_from_slice(last);
                    found.outcome = Outcome::Unreadable(around.paths.id(&buffer));
                    break;
                }
            }
        }
        self.buffer = buffer;
        found
    }

    /// Where names with the directory part of `name` are looked for.
    fn lane(&mut self, chain: u32, start: Start, name: Sym, around: &mut Around<'_>) -> u32 {
        let text = around.symbols.text(name);
        let length = text.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let part = text[..length].to_vec();
        let key = start.key(around.symbols.intern(&part));
        let entry = &self.chains[chain as usize];
        if let Some(&lane) = entry.lanes.get(&key) {
            return lane;
        }
        let mut places = places(&entry.search, start, &self.besides, around.paths);
        for place in &mut places {
            let mut path = around.paths.bytes(place.path).to_vec();
            path.extend_from_slice(&part);
            place.path = around.paths.id(&path);
        }
        let paths: Vec<&[u8]> = places.iter().map(|place| around.paths.bytes(place.path)).collect();
        let trail = around.files.trail(&paths);
        self.places += places.len();
        self.lanes.push(Lane { trail, places: places.into(), used_by: 0 });
        let lane = self.lanes.len() as u32 - 1;
        self.chains[chain as usize].lanes.insert(key, lane);
        lane
    }

    /// The paths that a search tried in vain.
    pub fn tried(&self, index: u32, around: &Around<'_>, each: &mut dyn FnMut(&[u8])) {
        let found = &self.found[index as usize];
        let text = around.symbols.text(found.name);
        let last = &text[text.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)..];
        let places = self.lanes[found.lane as usize].places.iter();
        for place in places.take(found.vain as usize) {
            each(&[around.paths.bytes(place.path), last].concat());
        }
    }

    /// What has this ending where a search looked, its hit included: `each` is told of one after
    /// the other, until it says no to the path that is returned.
    pub fn endings(
        &self,
        index: u32,
        ending: &[u8],
        around: &mut Around<'_>,
        each: &mut EachEnding<'_>,
    ) -> Option<Vec<u8>> {
        let found = &self.found[index as usize];
        let text = around.symbols.text(found.name);
        let last = &text[text.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)..];
        let name = [last, ending].concat();
        let lane = &self.lanes[found.lane as usize];
        for (at, place) in lane.places.iter().enumerate().take(found.vain as usize + 1) {
            let path = [around.paths.bytes(place.path), &name].concat();
            let id = around.paths.id(&path);
            let answer = around.files.look(lane.trail, at, &name);
            if !each((id, &path), answer, around.files) {
                return Some(path);
            }
        }
        None
    }
}

/// What is done with each path that has an ending: its number and its bytes, and what is there. Whether to go on.
pub type EachEnding<'a> = dyn FnMut((PathId, &[u8]), Answer, &mut dyn Files) -> bool + 'a;

impl Chain {
    /// Whether gcc knows a file beneath a system directory by its real path.
    fn renames(&self, path: &[u8], is_relative: bool, real: &[u8]) -> bool {
        let length = if is_relative { path.len() - self.prefix } else { path.len() };
        self.canonical && real.len() < length
    }
}

fn hit(
    chain: &Chain,
    place: &Place,
    stat: Stat,
    path: &[u8],
    paths: &mut Paths,
    files: &mut dyn Files,
) -> Hit {
    let via = paths.id(path);
    let mut hit = Hit { path: via, via, at: place.at, system: place.system, relative: place.relative, stat };
    if chain.canonical
        && place.system
        && let Some(real) = files.real_path(path).filter(|real| chain.renames(path, place.relative, real))
    {
        hit.path = paths.id(&real);
        hit.relative = false;
    }
    hit
}

fn places(search: &Search, start: Start, besides: &[Beside], paths: &mut Paths) -> Vec<Place> {
    let mut places = Vec::new();
    let first = match start {
        Start::Beside(number) => {
            let Beside { directory, relative, system } = besides[number as usize];
            places.push(Place { path: directory, at: None, system, relative });
            0
        }
        Start::Chain(first) => usize::from(first),
        Start::Nowhere => {
            places.push(Place { path: paths.id(b""), at: None, system: false, relative: false });
            search.directories.len()
        }
    };
    for (at, directory) in search.directories.iter().enumerate().skip(first) {
        let slash: &[u8] = if directory.path.ends_with(b"/") { b"" } else { b"/" };
        let path = paths.id(&[&directory.path[..], slash].concat());
        let at = Some(at as u16);
        places.push(Place { path, at, system: directory.system, relative: directory.relative });
    }
    places
}
