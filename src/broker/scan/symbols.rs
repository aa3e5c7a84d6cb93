//! Spellings as numbers: each distinct token text is kept once and known by a [`Sym`].

/// A spelling, as an index into [`Symbols`].
pub type Sym = u32;

macro_rules! known {
    ($($name:ident = $text:literal),* $(,)?) => {
        known!(@number 0u32, $($name)*);
        const KNOWN: &[&str] = &[$($text),*];
    };
    (@number $at:expr, $name:ident $($rest:ident)*) => {
        #[doc = "A spelling known before any file is read."]
        pub const $name: Sym = $at;
        known!(@number $at + 1, $($rest)*);
    };
    (@number $at:expr,) => {};
}

known! {
    EMPTY = "", DEFINED = "defined", VA_ARGS = "__VA_ARGS__", VA_OPT = "__VA_OPT__",
    PRAGMA_OPERATOR = "_Pragma", HAS_INCLUDE = "__has_include", HAS_INCLUDE_NEXT = "__has_include_next",
    HAS_EMBED = "__has_embed", FILE = "__FILE__", LINE = "__LINE__", DATE = "__DATE__", TIME = "__TIME__",
    TIMESTAMP = "__TIMESTAMP__", BASE_FILE = "__BASE_FILE__", INCLUDE_LEVEL = "__INCLUDE_LEVEL__",
    COUNTER = "__COUNTER__", TRUE = "true", FALSE = "false", LEFT = "(", RIGHT = ")", COMMA = ",",
    HASH = "#", PASTE = "##", LESS = "<", GREATER = ">", ELLIPSIS = "...", ZERO = "0", ONE = "1",
    PLUS = "+", MINUS = "-", STAR = "*", SLASH = "/", PERCENT = "%", SHIFT_LEFT = "<<", SHIFT_RIGHT = ">>",
    LESS_EQUAL = "<=", GREATER_EQUAL = ">=", EQUAL = "==", NOT_EQUAL = "!=", AMPERSAND = "&", BAR = "|",
    CARET = "^", AND_AND = "&&", OR_OR = "||", NOT = "!", TILDE = "~", QUESTION = "?", COLON = ":",
    W_AND = "and", W_AND_EQ = "and_eq", W_BITAND = "bitand", W_BITOR = "bitor", W_COMPL = "compl", W_NOT = "not",
    W_NOT_EQ = "not_eq", W_OR = "or", W_OR_EQ = "or_eq", W_XOR = "xor", W_XOR_EQ = "xor_eq",
    STDC_HOSTED = "__STDC_HOSTED__", CLANG = "__clang__", CHAR_UNSIGNED = "__CHAR_UNSIGNED__", SYSTEM_BY_MACRO = "system by a macro",
}

/// Whether `sym` is one of the eleven words that C++ reads as operators.
pub fn is_named_operator(sym: Sym) -> bool {
    (W_AND..=W_XOR_EQ).contains(&sym)
}

/// The operator that a C++ word stands for in `#if`; the assigning ones have none there.
pub fn named_operator(sym: Sym) -> Sym {
    match sym {
        W_AND => AND_AND,
        W_OR => OR_OR,
        W_NOT => NOT,
        W_NOT_EQ => NOT_EQUAL,
        W_BITAND => AMPERSAND,
        W_BITOR => BAR,
        W_XOR => CARET,
        W_COMPL => TILDE,
        other => other,
    }
}

/// The interner: an open-addressing table over one arena of bytes.
#[derive(Debug)]
pub struct Symbols {
    arena: Vec<u8>,
    spans: Vec<(u32, u32)>,
    slots: Vec<u32>,
}

impl Default for Symbols {
    fn default() -> Self {
        let mut symbols = Symbols { arena: Vec::new(), spans: Vec::new(), slots: vec![0; 1 << 12] };
        for text in KNOWN {
            symbols.intern(text.as_bytes());
        }
        symbols
    }
}

impl Symbols {
    /// The number of `text`, new or old.
    pub fn intern(&mut self, text: &[u8]) -> Sym {
        let mask = self.slots.len() - 1;
        let mut slot = hash(text) as usize & mask;
        while self.slots[slot] != 0 {
            let sym = self.slots[slot] - 1;
            if self.text(sym) == text {
                return sym;
            }
            slot = (slot + 1) & mask;
        }
        let sym = self.spans.len() as u32;
        self.spans.push((self.arena.len() as u32, text.len() as u32));
        self.arena.extend_from_slice(text);
        self.slots[slot] = sym + 1;
        if self.spans.len() * 2 > self.slots.len() {
            self.grow();
        }
        sym
    }

    /// The number of `text`, if it has one.
    pub fn find(&self, text: &[u8]) -> Option<Sym> {
        let mask = self.slots.len() - 1;
        let mut slot = hash(text) as usize & mask;
        while self.slots[slot] != 0 {
            let sym = self.slots[slot] - 1;
            if self.text(sym) == text {
                return Some(sym);
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    /// The bytes of a spelling.
    pub fn text(&self, sym: Sym) -> &[u8] {
        let (start, length) = self.spans[sym as usize];
        &self.arena[start as usize..][..length as usize]
    }

    /// How many spellings there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none, which never happens: some are known from the start.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        self.arena.len() + self.spans.len() * 8 + self.slots.len() * 4
    }

    fn grow(&mut self) {
        let mut slots = vec![0u32; self.slots.len() * 2];
        let mask = slots.len() - 1;
        for sym in 0..self.spans.len() as u32 {
            let mut slot = hash(self.text(sym)) as usize & mask;
            while slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot] = sym + 1;
        }
        self.slots = slots;
    }
}

/// A multiply-and-rotate hash over words: quick on short keys. Colliding input costs time within
/// one file's bound, nothing else.
pub fn hash(text: &[u8]) -> u64 {
    const K: u64 = 0x517c_c1b7_2722_0a95;
    let mut state: u64 = text.len() as u64;
    let mut chunks = text.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0u8; 8];
        word.copy_from_slice(chunk);
        state = (state.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(K);
    }
    for &byte in chunks.remainder() {
        state = (state.rotate_left(5) ^ u64::from(byte)).wrapping_mul(K);
    }
    state ^ (state >> 32)
}

/// A [`std::hash::Hasher`] of the same kind for the scanner's own small keys.
#[derive(Clone, Copy, Default, Debug)]
pub struct Quick(u64);

impl std::hash::Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.write_u64(hash(bytes));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

/// A hash map with [`Quick`].
pub type QuickMap<K, V> = std::collections::HashMap<K, V, std::hash::BuildHasherDefault<Quick>>;
/// A hash set with [`Quick`].
pub type QuickSet<K> = std::collections::HashSet<K, std::hash::BuildHasherDefault<Quick>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spelling_keeps_its_number_while_the_table_grows() {
        let mut symbols = Symbols::default();
        let numbers: Vec<Sym> = (0..20_000).map(|n| symbols.intern(format!("name{n}").as_bytes())).collect();
        for (n, &sym) in numbers.iter().enumerate() {
            assert_eq!(symbols.text(sym), format!("name{n}").as_bytes());
            assert_eq!(symbols.intern(format!("name{n}").as_bytes()), sym);
        }
        assert_eq!(symbols.intern(b"defined"), DEFINED);
        assert_eq!(symbols.intern(b"xor_eq"), W_XOR_EQ);
    }
}
