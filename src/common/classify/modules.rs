//! What a command says of C++20 modules.
//!
//! A compiled module is a file: clang's `.pcm`, gcc's `.gcm`. Which of them a compile reads follows from
//! the names in its text and from what is kept here; the broker draws the two together. Modules that are
//! made of headers do not travel.

use super::Driver;
use super::effects::{Effect, Effects};
use super::names::Form;
use super::table::Emit;
use crate::common::bytes::Bytes;
use crate::common::reason::{LocalReason, ModuleRule, OptionRule};

/// Where the compiled modules lie that a compile may read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modules {
    /// Those that clang is told of one by one, each with its module's name where that is said.
    pub files: Vec<(Option<Bytes>, Bytes)>,
    /// Folders in which clang finds them by their modules' names.
    pub folders: Vec<Bytes>,
    /// The file that maps names to files for gcc.
    pub map: Option<Bytes>,
    /// Whether the source is one.
    pub is_source: bool,
    /// Whether clang makes one of the source.
    pub is_interface: bool,
}

impl Modules {
    /// What the options say; `None` when nothing here has to do with modules.
    pub(super) fn of(effects: &Effects, form: Form) -> Option<Self> {
        let concerned = effects.seen.iter().any(|(effect, _)| is_of_modules(*effect));
        let is_source = form == Form::Module;
        if !concerned && !is_source && form != Form::Interface {
            return None;
        }
        Some(Modules {
            files: effects.values(Effect::ModuleFile).map(|value| named_file(value)).collect(),
            folders: effects.values(Effect::ModuleFolder).cloned().collect(),
            map: effects.values(Effect::ModuleMap).last().cloned(),
            is_source,
            is_interface: form == Form::Interface,
        })
    }
}

/// `NAME=FILE`, or a file whose module is not told.
fn named_file(value: &[u8]) -> (Option<Bytes>, Bytes) {
    match value.iter().position(|&byte| byte == b'=') {
        Some(at) => (Some(value[..at].into()), value[at + 1..].into()),
        None => (None, value.into()),
    }
}

/// Options of one family that mean nothing, or something else, to the other.
const OF_CLANG: [(Effect, &str); 3] = [
    (Effect::ModuleFile, "-fmodule-file="),
    (Effect::ModuleFolder, "-fprebuilt-module-path="),
    (Effect::ModuleOutput, "-fmodule-output"),
];
const OF_GCC: [(Effect, &str); 2] =
    [(Effect::Modules, "-fmodules-ts"), (Effect::ModuleMap, "-fmodule-mapper=")];

fn is_of_modules(effect: Effect) -> bool {
    OF_CLANG.iter().chain(&OF_GCC).any(|(of, _)| *of == effect)
}

/// Why a compile that has to do with modules stays here.
///
/// # Errors
///
/// Returns the reason.
pub(super) fn refuse(effects: &Effects, form: Form, emit: Emit, driver: Driver) -> Result<(), LocalReason> {
    let option = |option: &str, why| LocalReason::Option { option: option.into(), why };
    let foreign = if driver.clang { &OF_GCC[..] } else { &OF_CLANG[..] };
    if let Some((_, name)) = foreign.iter().find(|(effect, _)| effects.has(*effect)) {
        return Err(option(name, OptionRule::ReadsFiles));
    }
    // A map means nothing without modules, and a volunteer is not to find out what it then does.
    if effects.has(Effect::ModuleMap) && !effects.has(Effect::Modules) {
        return Err(option("-fmodule-mapper=", OptionRule::ReadsFiles));
    }
    if form == Form::Header && effects.seen.iter().any(|(effect, _)| is_of_modules(*effect)) {
        return Err(LocalReason::Modules { why: ModuleRule::Header });
    }
    if emit == Emit::Module && (!driver.clang || form != Form::Interface) {
        return Err(option("--precompile", OptionRule::NotACompile));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_have_the_name_of_its_module_before_it() {
        let check = |value: &str, name: Option<&str>, file: &str| {
            assert_eq!(named_file(value.as_bytes()), (name.map(Bytes::from), Bytes::from(file)), "{value}");
        };
        check("x.pcm", None, "x.pcm");
        check("a.b:c=o/x.pcm", Some("a.b:c"), "o/x.pcm");
        check("a=b=c", Some("a"), "b=c");
    }
}
