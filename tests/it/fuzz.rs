//! Every parser of a peer's bytes, with its kept corpus and with mutations of it.
//!
//! The same functions that `contrib/fuzz` runs for as long as one likes, here for a moment. Mutations
//! come from a number that is printed when something is found; `FUZZ_SEED` repeats it.

#[path = "../../fuzz/targets/bundles.rs"]
mod bundles;
#[path = "../../fuzz/targets/classic_packets.rs"]
mod classic_packets;
#[path = "../../fuzz/targets/commands.rs"]
mod commands;
#[path = "../../fuzz/targets/conditions.rs"]
mod conditions;
#[path = "../../fuzz/targets/dependencies.rs"]
mod dependencies;
#[path = "../../fuzz/targets/dictionary.rs"]
mod dictionary;
#[path = "../../fuzz/targets/elf.rs"]
mod elf;
#[path = "../../fuzz/targets/http.rs"]
mod http;
#[path = "../../fuzz/targets/link_frames.rs"]
mod link_frames;
#[path = "../../fuzz/targets/local_frames.rs"]
mod local_frames;
#[path = "../../fuzz/targets/lzo.rs"]
mod lzo;
#[path = "../../fuzz/targets/openings.rs"]
mod openings;
#[path = "../../fuzz/targets/results.rs"]
mod results;
#[path = "../../fuzz/targets/sources.rs"]
mod sources;
#[path = "../../fuzz/targets/trust.rs"]
mod trust;
#[path = "../../fuzz/targets/words.rs"]
mod words;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one target's mutations may take.
const SPAN: Duration = Duration::from_millis(1500);

/// Mutations of one target, if there is time.
const RUNS: u64 = 20_000;

/// The longest mutation, in bytes.
const LENGTH_MAX: usize = 4 << 10;

macro_rules! tests {
    ($($target:ident: $test:ident,)*) => {
        /// All of them.
        const TARGETS: &[&str] = &[$(stringify!($target)),*];
        $(
            #[test]
            fn $test() {
                check(stringify!($target), $target::run);
            }
        )*
    };
}

tests! {
    bundles: any_bundles_are_safe_to_read,
    classic_packets: any_classic_packets_are_safe_to_read,
    commands: any_commands_are_safe_to_read,
    conditions: any_conditions_are_safe_to_evaluate,
    dependencies: any_dependencies_are_safe_to_read,
    dictionary: any_dictionary_is_safe_to_read,
    elf: any_elf_are_safe_to_read,
    http: any_http_is_safe_to_read,
    link_frames: any_link_frames_are_safe_to_read,
    local_frames: any_local_frames_are_safe_to_read,
    lzo: any_lzo_are_safe_to_read,
    openings: any_openings_are_safe_to_read,
    results: any_results_are_safe_to_read,
    sources: any_sources_are_safe_to_read,
    trust: any_trust_are_safe_to_read,
    words: any_words_are_safe_to_read,
}

/// Random numbers that a seed repeats (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Changes some bytes, cuts, doubles, or joins two of the corpus.
fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len());
        match random.below(7) {
            0 if !data.is_empty() => data[at] = random.next() as u8,
            1 if !data.is_empty() => data[at] ^= 1 << random.below(8),
            2 => data.truncate(at),
            3 => data.insert(at.min(data.len()), [0, 1, 0x7f, 0x80, 0xff][random.below(5)]),
            4 if data.len() > 4 => {
                let end = (at + 4).min(data.len());
                data[end - 4..end].copy_from_slice(&[0xff, 0xff, 0xff, random.next() as u8]);
            }
            5 => data.extend_from_within(at..),
            _ => data.extend_from_slice(&corpus[random.below(corpus.len())]),
        }
        data.truncate(LENGTH_MAX);
    }
    data
}

fn check(name: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    names.sort();
    let corpus: Vec<Vec<u8>> = names.iter().map(|name| fs::read(name).expect("a file")).collect();
    assert!(corpus.len() >= 3, "{name} has no corpus");
    corpus.iter().for_each(|data| run(data));
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) | 1 << 40);
    println!("FUZZ_SEED={seed}");
    let (mut random, begun) = (Random(seed), Instant::now());
    let mut runs = 0;
    while runs < RUNS && begun.elapsed() < SPAN {
        run(&mutate(&corpus, &mut random));
        runs += 1;
    }
    assert!(runs > 100, "{name}: {runs} runs in {SPAN:?}");
}

#[test]
fn mutations_are_repeated_by_their_seed() {
    let corpus = [b"abc".to_vec(), b"0123456789".to_vec()];
    let some = |seed| (0..50).map(|_| mutate(&corpus, &mut Random(seed))).collect::<Vec<_>>();
    assert_eq!(some(7), some(7));
    let mut random = Random(7);
    let many: Vec<_> = (0..50).map(|_| mutate(&corpus, &mut random)).collect();
    assert!(many.iter().any(|data| !corpus.contains(data)));
}

#[test]
fn no_target_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/targets");
    let mut found: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|file| file.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, TARGETS);
}
