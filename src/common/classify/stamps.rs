//! Whether clang writes into an object when it was made.
//!
//! Objects for Microsoft's linker have that in their header, so that it can link anew what changed (clang's
//! `-mincremental-linker-compatible`, on for targets of that environment): no two are equal.

use crate::common::bytes::Bytes;

/// What a command says of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    target: Option<Bytes>,
    /// The option with a target of Apple's: which system's headers it uses (`SDKSettings.json`) is in the object.
    apple: Option<Bytes>,
    asked: Option<Bytes>,
    declined: bool,
}

impl Stamps {
    /// Takes in an option, by its name in the table, as a word, with its value.
    pub fn note(&mut self, name: &str, word: &Bytes, value: &[u8]) {
        match (name, &word[..]) {
            ("--target" | "-target", _) => {
                self.target = is_microsofts(value).then(|| word.clone());
                self.apple = is_apples(value).then(|| word.clone());
            }
            (_, b"-mincremental-linker-compatible") => {
                (self.asked, self.declined) = (Some(word.clone()), false);
            }
            (_, b"-mno-incremental-linker-compatible") => (self.asked, self.declined) = (None, true),
            _ => {}
        }
    }

    /// The option by which a text says too little of its target.
    pub fn needs_files(&self) -> Option<&Bytes> {
        self.apple.as_ref()
    }

    /// The option that asks for it, if one does.
    pub fn option(&self) -> Option<&Bytes> {
        self.asked.as_ref().or(self.target.as_ref().filter(|_| !self.declined))
    }
}

/// Whether a target triple is one of Apple's systems.
fn is_apples(triple: &[u8]) -> bool {
    let systems = [&b"apple"[..], b"darwin", b"macos", b"ios", b"tvos", b"watchos", b"xros"];
    let mut parts = triple.split(|&byte| byte == b'-').skip(1);
    parts.any(|part| systems.iter().any(|system| part.starts_with(system)))
}

/// Whether a target triple is one of Windows with Microsoft's environment, which is the usual one there.
fn is_microsofts(triple: &[u8]) -> bool {
    let parts = || triple.split(|&byte| byte == b'-').skip(1);
    let is_windows = parts().any(|part| part.starts_with(b"windows") || part.starts_with(b"win32"));
    let others = [&b"gnu"[..], b"cygnus", b"itanium", b"coreclr", b"elf", b"macho"];
    is_windows && !parts().any(|part| others.iter().any(|other| part.starts_with(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(words: &[(&str, &str, &str)]) -> Option<String> {
        let mut stamps = Stamps::default();
        words.iter().for_each(|(name, word, value)| stamps.note(name, &(*word).into(), value.as_bytes()));
        stamps.option().map(Bytes::to_text)
    }

    #[test]
    fn texts_do_not_say_which_of_apples_systems_they_are_for() {
        for (triple, is) in
            [("arm64-apple-macos11", true), ("x86_64-darwin20", true), ("x86_64-linux-gnu", false)]
        {
            assert_eq!(is_apples(triple.as_bytes()), is, "{triple}");
        }
    }

    #[test]
    fn objects_for_microsofts_linker_say_when_they_were_made() {
        let of = |triple: &str| option(&[("--target", &format!("--target={triple}"), triple)]);
        for triple in
            ["x86_64-pc-windows-msvc", "i686-pc-win32", "aarch64-windows", "x86_64-pc-windows-msvc19.20"]
        {
            assert_eq!(of(triple), Some(format!("--target={triple}")));
        }
        for triple in
            ["x86_64-w64-windows-gnu", "x86_64-linux-gnu", "x86_64-w64-mingw32", "x86_64-pc-windows-itanium"]
        {
            assert_eq!(of(triple), None, "{triple}");
        }
        let (on, off) = ("-mincremental-linker-compatible", "-mno-incremental-linker-compatible");
        let msvc = ("-target", "-target", "x86_64-pc-windows-msvc");
        assert_eq!(option(&[msvc, ("-m", off, "")]), None);
        assert_eq!(option(&[("-m", off, ""), ("-m", on, "")]).as_deref(), Some(on));
        assert_eq!(option(&[msvc, ("--target", "", "x86_64-linux-gnu")]), None);
    }
}
