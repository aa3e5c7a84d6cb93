//! Which options bear on the files that a compile reads, and how.

/// What becomes of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Nothing here depends on it.
    Ignore,
    /// It goes into `base`.
    Base,
    /// A directory: into `paths`.
    Path,
    Define,
    Undefine,
    Include,
    Imacros,
    Language,
    /// `-Xpreprocessor ARG`.
    Preprocessor,
    /// `-iprefix`: what stands in front of the directories of the next two.
    Prefix,
    /// `-iwithprefix`, `-iwithprefixbefore`.
    Prefixed,
    /// `__FILE__` does not say the file's name.
    Remap,
}

/// Options with a value, joined or in the next argument.
pub(super) const WITH_VALUE: &[(&[u8], Use)] = &[
    (b"-D", Use::Define),
    (b"-U", Use::Undefine),
    (b"-include", Use::Include),
    (b"-imacros", Use::Imacros),
    (b"-iquote", Use::Path),
    (b"-isystem", Use::Path),
    (b"-idirafter", Use::Path),
    (b"-iprefix", Use::Prefix),
    (b"-iwithprefixbefore", Use::Prefixed),
    (b"-iwithprefix", Use::Prefixed),
    (b"-I", Use::Path),
    (b"-x", Use::Language),
    (b"-o", Use::Ignore),
    (b"-MF", Use::Ignore),
    (b"-MT", Use::Ignore),
    (b"-MQ", Use::Ignore),
    (b"-L", Use::Ignore),
    (b"-l", Use::Ignore),
];

/// Options with a value in the next argument only.
pub(super) const WITH_NEXT: &[(&[u8], Use)] = &[
    (b"-Xpreprocessor", Use::Preprocessor),
    (b"-isysroot", Use::Base),
    (b"--sysroot", Use::Base),
    (b"-target", Use::Base),
    (b"--param", Use::Ignore),
    (b"-dumpbase", Use::Ignore),
    (b"-dumpbase-ext", Use::Ignore),
    (b"-dumpdir", Use::Ignore),
    (b"-Xassembler", Use::Ignore),
    (b"-Xlinker", Use::Ignore),
    (b"-aux-info", Use::Ignore),
];

/// Whole options.
pub(super) const PLAIN: &[(&[u8], Use)] = &[
    (b"-ansi", Use::Base),
    (b"-nostdinc", Use::Base),
    (b"-nostdinc++", Use::Base),
    (b"-undef", Use::Base),
    (b"-pthread", Use::Base),
    (b"-pedantic", Use::Base),
    (b"-pedantic-errors", Use::Base),
    (b"-c", Use::Ignore),
    (b"-S", Use::Ignore),
    (b"-E", Use::Ignore),
    (b"-C", Use::Ignore),
    (b"-CC", Use::Ignore),
    (b"-P", Use::Ignore),
    (b"-w", Use::Ignore),
    (b"-p", Use::Ignore),
    (b"-pg", Use::Base),
    (b"-pipe", Use::Ignore),
    (b"-s", Use::Ignore),
    (b"-rdynamic", Use::Ignore),
    (b"-nostdlib", Use::Ignore),
    (b"-nodefaultlibs", Use::Ignore),
    (b"-nostartfiles", Use::Ignore),
    (b"-shared", Use::Base),
    (b"-static", Use::Base),
    (b"-pie", Use::Base),
    (b"-no-pie", Use::Base),
    (b"-M", Use::Ignore),
    (b"-MM", Use::Ignore),
    (b"-MD", Use::Ignore),
    (b"-MMD", Use::Ignore),
    (b"-MP", Use::Ignore),
    (b"-MG", Use::Ignore),
    (b"-H", Use::Ignore),
    (b"-v", Use::Ignore),
    (b"-Qunused-arguments", Use::Ignore),
    (b"-trigraphs", Use::Base),
];

/// Starts of options that do not change what is included, or do so only through what the
/// compiler says when it is asked with the same option.
pub(super) const STARTS: &[(&[u8], Use)] = &[
    (b"-std=", Use::Base),
    (b"-stdlib=", Use::Base),
    (b"--target=", Use::Base),
    (b"--sysroot=", Use::Base),
    (b"--gcc-toolchain=", Use::Base),
    (b"--param=", Use::Ignore),
    (b"--std=", Use::Base),
    (b"-ffile-prefix-map=", Use::Remap),
    (b"-fmacro-prefix-map=", Use::Remap),
    (b"-fdebug-", Use::Ignore),
    (b"-frandom-seed=", Use::Ignore),
    (b"-fdiagnostics-", Use::Ignore),
    (b"-fmessage-length=", Use::Ignore),
    (b"-fdump-", Use::Ignore),
    (b"-fprofile-", Use::Ignore),
    (b"-O", Use::Base),
    (b"-m", Use::Base),
    (b"-f", Use::Base),
    (b"-g", Use::Ignore),
    (b"-Wa,", Use::Ignore),
    (b"-Wl,", Use::Ignore),
    (b"-W", Use::Ignore),
    (b"-R", Use::Ignore),
];

/// Starts of options that change too much.
pub(super) const REFUSED: &[&[u8]] = &[
    b"-fmodule",
    b"-fplugin",
    b"-fpch",
    b"-fpreprocessed",
    b"-fdirectives-only",
    b"-finput-charset",
    b"-fno-dollars",
    b"-fno-operator-names",
    b"-fms-",
    b"-fborland",
    b"-fdepfile",
    b"-fbuild-session",
    b"-fimplicit",
    b"-fprebuilt",
    b"-fcxx-modules",
    b"-fsystem-module",
    b"-fapinotes",
    b"-fdelayed",
    b"-ftrack-macro-expansion=",
    b"-fno-canonical",
    b"-fcanonical",
    b"-fdollars",
    b"-fextended",
    b"-fworking",
    b"-fmax-include",
    b"-fminimize",
    b"-fsearch-include",
    b"-fraw-string",
    b"-fno-raw-string",
    b"-fchar8",
    b"-ftrigraphs",
    b"-fno-trigraphs",
    b"-fsyntax-only=",
    b"-fopenacc=",
    b"-fembed",
    b"-traditional",
    b"-mllvm",
    b"-march=native,",
    b"-fdepscan",
    b"-ivfsoverlay",
    b"-iframework",
    b"-F",
    b"-remap",
];

/// Refused above by their start, and yet known.
pub(super) const SPARED: &[&[u8]] = &[
    b"-fms-extensions",
    b"-fdelayed-branch",
    b"-fno-working-directory",
    b"-fworking-directory",
    b"-fchar8_t",
    b"-fno-canonical-system-headers",
    b"-fcanonical-system-headers",
    b"-fno-trigraphs",
    b"-ftrigraphs",
    b"-fdelayed-template-parsing",
    b"-fno-delayed-template-parsing",
    b"-fno-modules",
];
