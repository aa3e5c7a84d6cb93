//! LZO1X, the compression of the classic protocol's versions 2 and 3.
//!
//! The format is that of the Linux kernel's `Documentation/staging/lzo.rst`. The decoder takes any
//! valid stream and no more than the caller allows; it never panics, and never reads or copies
//! from outside of what is there. The encoder is greedy, with one hash table and no lookahead: what
//! it saves is network, and what it spends is the client's time.
//!
//! Our own because the licence-clean crate (`lzokay-native`) panics on bad distances, has no bound
//! on its output and allocates for each run of literals.

/// Why bytes are not an LZO1X stream that may be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LzoError {
    /// It ends before its end marker.
    #[error("the compressed data is cut off")]
    Truncated,
    /// It copies from before its beginning.
    #[error("the compressed data refers to what is not there")]
    Distance,
    /// Unpacked, it is larger than the caller takes.
    #[error("the compressed data is larger than {0} bytes when unpacked")]
    TooLarge(usize),
    /// Something follows its end marker.
    #[error("{0} bytes behind the end of the compressed data")]
    Trailing(usize),
}

/// The end marker: a distant match at distance 16384.
const END: [u8; 3] = [0x11, 0, 0];

/// How far the shortest form of a match reaches.
const NEAR_MAX: usize = 0x800;
/// How far the middle form reaches.
const MIDDLE_MAX: usize = 0x4000;
/// How far the longest form reaches.
const FAR_MAX: usize = 0xbfff;

/// Unpacks `packed`, which must be one whole stream, or nothing at all for nothing.
///
/// # Errors
///
/// Returns [`LzoError`] for what is no stream, or one of more than `max` bytes.
pub fn decompress(packed: &[u8], max: usize) -> Result<Vec<u8>, LzoError> {
    if packed.is_empty() {
        return Ok(Vec::new());
    }
    let mut decoder = Decoder { input: packed, at: 0, output: Vec::new(), max };
    decoder.output.reserve(packed.len().saturating_mul(4).min(max).min(1 << 20));
    decoder.run()?;
    match packed.len() - decoder.at {
        0 => Ok(decoder.output),
        more => Err(LzoError::Trailing(more)),
    }
}

struct Decoder<'a> {
    input: &'a [u8],
    at: usize,
    output: Vec<u8>,
    max: usize,
}

impl Decoder<'_> {
    fn run(&mut self) -> Result<(), LzoError> {
        // How many literals the last instruction copied; 4 stands for four and more.
        let mut copied = 0;
        if let Some(&first @ 18..) = self.input.first() {
            self.at = 1;
            copied = usize::from(first - 17).min(4);
            self.literals(usize::from(first - 17))?;
        }
        loop {
            let code = self.byte()?;
            let (length, distance, literals) = match code {
                64.. => {
                    let distance = (self.byte()? << 3) + ((code >> 2) & 7) + 1;
                    ((code >> 5) + 1, distance, code & 3)
                }
                32.. => {
                    let length = self.length(code & 31, 31)? + 2;
                    let low = self.pair()?;
                    (length, (low >> 2) + 1, low & 3)
                }
                16.. => {
                    let length = self.length(code & 7, 7)? + 2;
                    let low = self.pair()?;
                    let distance = MIDDLE_MAX + ((code & 8) << 11) + (low >> 2);
                    if distance == MIDDLE_MAX {
                        return Ok(());
                    }
                    (length, distance, low & 3)
                }
                _ if copied == 0 => {
                    let run = self.length(code, 15)? + 3;
                    self.literals(run)?;
                    copied = 4;
                    continue;
                }
                _ => {
                    let distance = (self.byte()? << 2) + (code >> 2) + 1;
                    let (length, further) = if copied < 4 { (2, 0) } else { (3, NEAR_MAX) };
                    (length, distance + further, code & 3)
                }
            };
            self.repeat(length, distance)?;
            self.literals(literals)?;
            copied = literals;
        }
    }

    fn byte(&mut self) -> Result<usize, LzoError> {
        let byte = *self.input.get(self.at).ok_or(LzoError::Truncated)?;
        self.at += 1;
        Ok(usize::from(byte))
    }

    fn pair(&mut self) -> Result<usize, LzoError> {
        Ok(self.byte()? + (self.byte()? << 8))
    }

    /// A length that did not fit into its instruction: `base`, 255 for each zero, and the rest.
    fn length(&mut self, short: usize, base: usize) -> Result<usize, LzoError> {
        if short != 0 {
            return Ok(short);
        }
        let mut length = base;
        loop {
            match self.byte()? {
                0 => length += 255,
                rest => return Ok(length + rest),
            }
            // The sum cannot overflow: each step has used up a byte of a slice.
        }
    }

    fn room(&self, length: usize) -> Result<(), LzoError> {
        match length <= self.max - self.output.len() {
            true => Ok(()),
            false => Err(LzoError::TooLarge(self.max)),
        }
    }

    fn literals(&mut self, count: usize) -> Result<(), LzoError> {
        self.room(count)?;
        let end = self.at.checked_add(count).ok_or(LzoError::Truncated)?;
        let run = self.input.get(self.at..end).ok_or(LzoError::Truncated)?;
        self.output.extend_from_slice(run);
        self.at = end;
        Ok(())
    }

    /// Copies from what was unpacked; source and target may overlap, which repeats a pattern.
    fn repeat(&mut self, length: usize, distance: usize) -> Result<(), LzoError> {
        self.room(length)?;
        let from = self.output.len().checked_sub(distance).ok_or(LzoError::Distance)?;
        let mut left = length;
        while left > 0 {
            let step = left.min(self.output.len() - from);
            self.output.extend_from_within(from..from + step);
            left -= step;
        }
        Ok(())
    }
}

/// Bits of the hash of four bytes.
const HASH_BITS: u32 = 14;

/// The shortest match that is looked for.
const MATCH_MIN: usize = 4;

/// After how many misses the search begins to take longer steps.
const PATIENCE_SHIFT: u32 = 5;

/// Packs `plain` into one stream; nothing becomes nothing.
pub fn compress(plain: &[u8]) -> Vec<u8> {
    if plain.is_empty() {
        return Vec::new();
    }
    let mut packed = Vec::with_capacity(plain.len() / 2 + 64);
    let mut places = vec![0u32; 1 << HASH_BITS];
    let (mut at, mut literals_from, mut misses) = (1, 0, 0u32);
    while let Some(here) = quad(plain, at) {
        let place = &mut places[hash(here)];
        let before = *place as usize;
        // Beyond 4 GiB places wrap; a wrong place is just no match.
        *place = at as u32;
        let found = before < at && at - before <= FAR_MAX && quad(plain, before) == Some(here);
        if !found {
            misses += 1;
            at += 1 + (misses >> PATIENCE_SHIFT) as usize;
            continue;
        }
        misses = 0;
        let length = MATCH_MIN + common_prefix(&plain[before + MATCH_MIN..], &plain[at + MATCH_MIN..]);
        push_literals(&mut packed, &plain[literals_from..at]);
        push_match(&mut packed, length, at - before);
        at += length;
        literals_from = at;
    }
    push_literals(&mut packed, &plain[literals_from..]);
    packed.extend_from_slice(&END);
    packed
}

fn quad(plain: &[u8], at: usize) -> Option<u32> {
    plain.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn hash(quad: u32) -> usize {
    (quad.wrapping_mul(0x9e37_79b1) >> (u32::BITS - HASH_BITS)) as usize
}

fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let whole = one.chunks_exact(8).zip(other.chunks_exact(8)).take_while(|(one, other)| one == other);
    let equal = whole.count() * 8;
    let rest = one[equal..].iter().zip(&other[equal..]);
    equal + rest.take_while(|(one, other)| one == other).count()
}

fn push_literals(packed: &mut Vec<u8>, run: &[u8]) {
    let count = run.len();
    match (count, packed.len()) {
        (0, _) => return,
        (1..=238, 0) => packed.push(17 + count as u8),
        // Up to three ride in the instruction before them.
        (1..=3, length) => packed[length - 2] |= count as u8,
        (4..=18, _) => packed.push(count as u8 - 3),
        _ => {
            packed.push(0);
            push_length(packed, count - 18);
        }
    }
    packed.extend_from_slice(run);
}

fn push_length(packed: &mut Vec<u8>, length: usize) {
    let zeros = (length - 1) / 255;
    packed.resize(packed.len() + zeros, 0);
    packed.push((length - 255 * zeros) as u8);
}

fn push_match(packed: &mut Vec<u8>, length: usize, distance: usize) {
    if length <= 8 && distance <= NEAR_MAX {
        let back = distance - 1;
        packed.push((((length - 1) << 5) | ((back & 7) << 2)) as u8);
        packed.push((back >> 3) as u8);
        return;
    }
    let (code, short_max, back) = match distance <= MIDDLE_MAX {
        true => (32, 33, distance - 1),
        false => (16 | (((distance - MIDDLE_MAX) & 0x4000) >> 11), 9, (distance - MIDDLE_MAX) & 0x3fff),
    };
    if length <= short_max {
        packed.push((code | (length - 2)) as u8);
    } else {
        packed.push(code as u8);
        push_length(packed, length - short_max);
    }
    packed.extend_from_slice(&((back << 2) as u16).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;

    fn check(plain: &[u8]) {
        let packed = compress(plain);
        assert_eq!(decompress(&packed, MAX).as_deref(), Ok(plain), "{} bytes", plain.len());
    }

    #[test]
    fn every_form_of_literals_and_matches_comes_back() {
        check(b"");
        check(b"a");
        for length in [1, 3, 4, 18, 19, 237, 238, 239, 273, 274, 528, 529, 5000] {
            let mixed: Vec<u8> =
                (0..length).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
            check(&mixed);
            check(&vec![b'x'; length as usize]);
            // The same again at each of the distances where the form of a match changes.
            for gap in [0, 2040, 2048, 16_300, 16_400, 33_000, 49_000, 49_200] {
                let mut twice = mixed.clone();
                twice.extend((0..gap).map(|i: u32| (i.wrapping_mul(0x85eb_ca6b) >> 13) as u8));
                twice.extend_from_slice(&mixed);
                twice.extend_from_slice(b"end");
                check(&twice);
            }
        }
    }

    #[test]
    fn text_gets_smaller() {
        let text = b"int function(int argument) { return argument + 1; }\n".repeat(100);
        assert!(compress(&text).len() < text.len() / 10);
    }

    #[test]
    fn the_smallest_stream_of_another_encoder_is_understood() {
        // 17 + 5 literals, then the end marker, as the protocol's facts give it.
        assert_eq!(
            decompress(&[22, b'h', b'e', b'l', b'l', b'o', 0x11, 0, 0], 5).as_deref(),
            Ok(&b"hello"[..])
        );
        assert_eq!(decompress(&END, 0).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(decompress(&[22, b'h'], MAX), Err(LzoError::Truncated));
        assert_eq!(decompress(&[18, b'h', 0x60, 0xff, 0x11, 0, 0], MAX), Err(LzoError::Distance));
        assert_eq!(decompress(&[22, 1, 2, 3, 4, 5, 0x11, 0, 0, 9], MAX), Err(LzoError::Trailing(1)));
        let bomb = compress(&vec![0; MAX]);
        assert!(bomb.len() < MAX / 200);
        assert_eq!(decompress(&bomb, MAX - 1), Err(LzoError::TooLarge(MAX - 1)));
        assert_eq!(decompress(&[0; 4096], MAX), Err(LzoError::Truncated));
    }

    proptest! {
        #[test]
        fn anything_comes_back(pieces in prop::collection::vec((prop::collection::vec(0u8..4, 1..40), 1usize..400), 0..40)) {
            let plain: Vec<u8> = pieces.iter().flat_map(|(piece, times)| piece.repeat(*times)).collect();
            prop_assert_eq!(decompress(&compress(&plain), plain.len()), Ok(plain));
        }

        #[test]
        fn random_bytes_never_panic_or_grow_beyond_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(plain) = decompress(&bytes, 10_000) {
                prop_assert!(plain.len() <= 10_000);
            }
        }

        #[test]
        fn a_stream_cut_anywhere_is_an_error(plain in prop::collection::vec(0u8..3, 1..600), cut in any::<prop::sample::Index>()) {
            let packed = compress(&plain);
            let cut = cut.index(packed.len() - 1) + 1;
            prop_assert!(cut == packed.len() || decompress(&packed[..cut], 10_000).is_err());
        }
    }
}
