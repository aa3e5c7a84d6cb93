//! How the command of a job says elsewhere which machine "this machine" is.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::specs;
use crate::broker::plan::{has_debug, plain};
use crate::broker::toolchain::Compiler;
use crate::common::bytes::Bytes;
use crate::common::classify::{CompileJob, Read};
use crate::common::reason::LocalReason;

/// By which clang notes the words of its command, or a part of them.
const NOTED: [&[u8]; 6] = [
    b"-frecord-command-line",
    b"-frecord-gcc-switches",
    b"-grecord-command-line",
    b"-grecord-gcc-switches",
    b"-fembed-bitcode",
    b"-MJ",
];

/// By which a command may have specs of its own.
const OTHER_SPECS: [&[u8]; 3] = [b"-specs", b"--specs", b"-B"];

/// Options that mean "this machine", and what they mean.
pub struct Spelling {
    here: Vec<Bytes>,
    elsewhere: Elsewhere,
}

enum Elsewhere {
    /// Options in their place.
    Options(Vec<Bytes>),
    /// They stay, and a file of specs says what they mean.
    Specs(PathBuf),
}

impl Spelling {
    /// What a job with these words says of "this machine", and how it is said elsewhere; nothing where it says
    /// nothing. `folder` is for files that then travel.
    ///
    /// # Errors
    ///
    /// Returns why the job must stay.
    pub async fn of(
        job: &mut CompileJob,
        expanded: &[Bytes],
        compiler: &Compiler,
        folder: &Path,
    ) -> Result<Option<Spelling>, LocalReason> {
        let here = job.native.iter().filter_map(|&at| plain(&job.compile[at])).cloned();
        let here: Vec<Bytes> = here.collect();
        let Some(first) = here.first() else { return Ok(None) };
        let unresolved = LocalReason::NativeUnresolved { option: first.clone() };
        let words = || job.compile.iter().filter_map(plain);
        let is_machine = |word: &&Bytes| word.starts_with(b"-m") || word.starts_with(b"--target");
        let machines: Vec<Bytes> = words().filter(is_machine).cloned().collect();
        // What this machine is depends on the width of its words; and where clang finds a target, nobody knows.
        let is_odd = words().any(|word| is_width(word) || word.starts_with(b"-target"));
        let clang = compiler.toolchain.clang;
        // gcc notes its options in their order, which spelling them out changes: in the debug information, and
        // by options for which text will not do.
        let notes = !clang && (has_debug(&job.compile) || job.hermetic.needed.is_some());
        let begins =
            |names: &[&[u8]]| expanded.iter().any(|word| names.iter().any(|name| word.starts_with(name)));
        // gcc for x86 says that this spelling is deprecated, which it would not say of another one.
        let is_told_off = !clang
            && compiler.toolchain.target.contains("86")
            && here.iter().any(|word| word.starts_with(b"-mcpu="));
        if is_told_off {
            return Err(unresolved);
        }
        let elsewhere = match notes || is_odd || clang && begins(&NOTED) {
            false => compiler.expand_native(&here, &machines).await.map(Elsewhere::Options),
            true if clang || begins(&OTHER_SPECS) => None,
            true => compiler.native_specs(&machines, folder).await.map(Elsewhere::Specs),
        };
        let elsewhere = elsewhere.ok_or_else(|| unresolved.clone())?;
        if let Elsewhere::Specs(file) = &elsewhere {
            job.hermetic.reads.push(Read::needed(file.as_os_str().as_bytes()));
        }
        if clang || matches!(elsewhere, Elsewhere::Specs(_)) {
            job.hermetic.needed.get_or_insert(unresolved);
        }
        job.hermetic.refused = None;
        Ok(Some(Spelling { here, elsewhere }))
    }

    /// The command among the client's own files. Options are spelt out before all other words as the driver
    /// has them: so that a `-mno-avx` in front counts, too.
    pub fn spell(&self, expanded: &[Bytes], argv: &[Bytes]) -> Vec<Bytes> {
        let program = argv.iter().take(1);
        match &self.elsewhere {
            Elsewhere::Options(options) => {
                let others = expanded.iter().skip(1).filter(|word| !self.here.contains(word));
                program.chain(options).chain(others).cloned().collect()
            }
            Elsewhere::Specs(file) => {
                program.chain(&[specs::option(file)]).chain(argv.iter().skip(1)).cloned().collect()
            }
        }
    }

    /// The options in their place, for a text.
    pub fn options(&self) -> &[Bytes] {
        match &self.elsewhere {
            Elsewhere::Options(options) => options,
            Elsewhere::Specs(_) => &[],
        }
    }
}

fn is_width(word: &Bytes) -> bool {
    [b"-m16".as_slice(), b"-m32", b"-mx32"].contains(&&word[..])
}
