//! Conditions, macros and includes of a few files as the include scanner evaluates them; with effects of
//! headers kept, it must come out the same.

use std::sync::Arc;

use distcc::broker::scan::macros::Builtin;
use distcc::broker::scan::token::Mode;
use distcc::broker::scan::{
    Answer, Content, Directory, Facts, Family, Files, Identity, Memory, Oracle, Request, Search, Stat, Trail,
    scan,
};

/// Files of one directory, by the letter of their name.
struct Letters<'a>(Vec<&'a [u8]>);

impl Files for Letters<'_> {
    fn trail(&mut self, _: &[&[u8]]) -> Trail {
        0
    }

    fn now(&self) -> u64 {
        0
    }

    fn state(&mut self, _: Trail) -> u64 {
        0
    }

    fn look(&mut self, _: Trail, _: usize, name: &[u8]) -> Answer {
        let [letter @ b'a'..=b'z'] = name else { return Answer::Absent };
        let content = u32::from(letter - b'a');
        let identity = Identity { device: 1, inode: u64::from(content), modified_s: 1 };
        match self.0.get(content as usize) {
            Some(text) => Answer::File(Stat { content, identity, size: text.len() as u64, fleeting: false }),
            None => Answer::Absent,
        }
    }

    fn bytes(&mut self, content: Content) -> Option<Arc<[u8]>> {
        self.0.get(content as usize).map(|text| Arc::from(*text))
    }

    fn real_path(&mut self, path: &[u8]) -> Option<Arc<[u8]>> {
        Some(path.into())
    }
}

/// Says the length of what it is asked.
struct Length;

impl Oracle for Length {
    fn answer(&mut self, question: &[u8]) -> Option<i64> {
        Some(question.len() as i64)
    }
}

fn facts(kind: u8) -> Facts {
    let family = if kind & 1 == 0 { Family::Gcc } else { Family::Clang };
    let mode = Mode { cxx: kind & 2 != 0, line_comments: true, elifdef: kind & 4 != 0, ..Mode::default() };
    let builtins = vec![
        ("__FILE__", Builtin::File),
        ("__INCLUDE_LEVEL__", Builtin::IncludeLevel),
        ("__COUNTER__", Builtin::Unknown),
        ("__has_include", Builtin::HasInclude),
        ("__has_include_next", Builtin::HasIncludeNext),
        ("__has_attribute", Builtin::Question),
    ];
    let predefined = b"#define ONE 1\n#define F(x) x\n#define G(x, ...) x ## __VA_ARGS__\n".to_vec();
    Facts { family, mode, predefined, builtins, preinclude: None, canonical: false, number: 0 }
}

/// What is made of it: the first byte chooses compiler and language; a byte 0xff ends a file, and the
/// first of them, `a`, is the source.
pub fn run(data: &[u8]) {
    let Some((&kind, texts)) = data.split_first() else { return };
    let mut files = Letters(texts.split(|&byte| byte == 0xff).take(26).collect());
    let facts = facts(kind);
    let directory = Directory { path: b"/d".to_vec(), relative: false, system: false };
    let search = Search { directories: vec![directory], quotes: 0 };
    let mut ask = |memory: &mut Memory| {
        let chain = memory.chain(&search, b"/w", &facts);
        let request = Request {
            main: b"/d/a",
            cwd: b"/w",
            facts: &facts,
            chain,
            settings: &[],
            imacros: &[],
            includes: &[],
            included_plainly: 0,
            made: None,
            precompiled: None,
            quotes_elsewhere: false,
        };
        scan(&request, memory, &mut files, &mut Length)
    };
    let plain = ask(&mut Memory::default());
    let mut eager = Memory::default();
    eager.keep_all_effects();
    for _ in 0..2 {
        assert_eq!(ask(&mut eager), plain);
    }
}
