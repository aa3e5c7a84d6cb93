//! clang's compiled modules, as `-module-file-info` tells of them.

use super::Inside;
use crate::common::bytes::Bytes;
use crate::common::dependencies::absolute;
use crate::common::reason::ModuleRule;

/// The words of a command that say where compiled modules are.
pub fn places(words: &[Bytes]) -> Vec<Bytes> {
    let says =
        |word: &&Bytes| word.starts_with(b"-fmodule-file=") || word.starts_with(b"-fprebuilt-module-path=");
    words.iter().filter(says).cloned().collect()
}

/// The words that make clang tell what is in a compiled module.
pub fn question(places: &[Bytes], path: &Bytes) -> Vec<Bytes> {
    let mut words = vec![Bytes::from("-module-file-info"), Bytes::from("-Wno-unused-command-line-argument")];
    words.extend(places.iter().cloned());
    words.push(path.clone());
    words
}

/// What clang tells.
///
/// # Errors
///
/// Returns that it is no module that travels, or that nothing was told.
pub fn inside(text: &[u8], cwd: &[u8]) -> Result<Inside, ModuleRule> {
    let mut inside = Inside::default();
    let mut is_named = false;
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        if let Some(name) = line.strip_prefix(b"Module name: ") {
            is_named = true;
            if name.contains(&b'/') {
                return Err(ModuleRule::Header);
            }
        } else if line.starts_with(b"Module map file: ") || line.starts_with(b"Header Unit ") {
            return Err(ModuleRule::Header);
        } else if let Some(rest) = line.strip_prefix(b"Imports module '") {
            let end = rest.iter().position(|&byte| byte == b'\'').ok_or(ModuleRule::Unknown)?;
            let file = rest.get(end + 3..).filter(|file| !file.is_empty()).map(Bytes::from);
            inside.imports.push((Bytes::from(&rest[..end]), file));
        } else if let Some(path) = line.strip_prefix(b"Input file: ") {
            inside.texts.push(absolute(cwd, without_notes(path)));
        }
    }
    if is_named { Ok(inside) } else { Err(ModuleRule::Unknown) }
}

/// A path without what is said of it in brackets behind it.
fn without_notes(path: &[u8]) -> &[u8] {
    let notes: [&[u8]; 3] = [b"System", b"Overridden", b"Explicit"];
    match path.windows(2).rposition(|two| two == b" [") {
        Some(at) if path.ends_with(b"]") && notes.iter().any(|note| path[at + 2..].starts_with(note)) => {
            &path[..at]
        }
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clang_tells_is_read() {
        let text = b"Information for module file 'foo.pcm':\n  Module format: raw\n  Module name: foo\n  \
            Imports module 'foo:part': /w/foo-part.pcm\n  Imports module 'bar': \n  Language options:\n    \
            x: Yes\n  Input file: /w/a [b].cppm\n  Input file: inc/x.h [System]\n";
        let inside = inside(text, b"/w").expect("told");
        assert_eq!(
            inside.imports,
            [("foo:part".into(), Some("/w/foo-part.pcm".into())), ("bar".into(), None)]
        );
        assert_eq!(inside.texts, [Bytes::from("/w/a [b].cppm"), Bytes::from("/w/inc/x.h")]);
    }

    #[test]
    fn modules_of_headers_do_not_travel() {
        for text in
            ["Module name: x\n  Module map file: /m\n", "Module name: ./x.h\n", "Header Unit 'x.h' is\n"]
        {
            assert_eq!(inside(text.as_bytes(), b"/w"), Err(ModuleRule::Header), "{text}");
        }
        assert_eq!(inside(b"", b"/w"), Err(ModuleRule::Unknown));
    }
}
