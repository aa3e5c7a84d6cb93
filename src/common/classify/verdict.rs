//! From what the words said to the verdict.

use super::effects::{Effect, Effects, is_short};
use super::names::{
    Form, default_dependencies, default_output, is_of_the_process, is_probe, preprocessed_name,
};
use super::products::Compile;
use super::response::ResponseReader;
use super::scan::{Dependencies, Scan, Source};
use super::specs::plain_specs;
use super::table::Emit;
use super::{
    CompileJob, Destination, Driver, Family, Hermetic, Language, Modules, PreprocessArgument, Read, modules,
};
use crate::common::action::Argument;
use crate::common::bytes::Bytes;
use crate::common::reason::{LocalReason, ModuleRule, OptionRule};

/// Draws the conclusion. The order of the checks is the order of the reasons: what a command is
/// comes before what its options are.
///
/// `files` are the response files, which `read` can read, as it can the specs.
pub(super) fn conclude(
    compiler: &Bytes,
    driver: Driver,
    mut scan: Scan,
    files: &[Bytes],
    read: &ResponseReader<'_>,
) -> Result<CompileJob, LocalReason> {
    let Asked { emit, kind, named, output, mut needed } = asked(&mut scan, driver)?;
    let Kind { source, language, form, called } = kind;
    // To clang it is something for the linker.
    let gccs_own = (*called == *b".sx").then_some(Family::Gcc);
    if gccs_own.is_some() && driver.clang {
        return Err(LocalReason::Language { language: called });
    }
    let mut plan = plan_dependencies(&scan.dependencies, named.as_ref(), &source, driver)?;
    // Of a compiled module nothing is preprocessed any more.
    let preprocessed = matches!(form, Form::Preprocessed | Form::Module);
    let (preprocess, family) = if preprocessed {
        if let Some(reason) = no_dependencies(&scan.dependencies) {
            // Neither gcc nor clang writes any.
            plan.destination = None;
            needed.get_or_insert(reason);
        }
        (Vec::new(), passed_over(scan.left_out.take(), driver, &mut needed))
    } else {
        let only = [PreprocessArgument::Plain("-E".into())];
        (only.into_iter().chain(scan.preprocess).chain(plan.arguments).collect(), plan.family)
    };
    let mut compile = scan.compile;
    compile.extend(tail(emit, language));
    let facts = Compile {
        source: &source,
        language,
        preprocessed,
        header: form == Form::Header,
        interface: form == Form::Interface,
        output: &output,
        named: named.is_some(),
        emit,
        dependencies: match &plan.destination {
            Some(Destination::File(file)) => Some(file),
            Some(Destination::Stdout) | None => None,
        },
        assembles_outside: scan.assembles_outside,
        responded: !files.is_empty(),
        clang: driver.clang,
    };
    if facts.mixes_logs(&scan.effects) {
        return Err(needed.unwrap_or(LocalReason::NotACompile));
    }
    // What the words of the preprocessor's command mean to one family only is nothing to a command that
    // stays as it is.
    let family = if needed.is_some() { None } else { family };
    let of_assembler = scan.effects.has(Effect::AssemblersLines).then_some(Family::Gcc);
    let modules = Modules::of(&scan.effects, form);
    let (hermetic, of_names) = among_files(facts, &scan.effects, needed, scan.without_times, modules);
    let mut job = CompileJob {
        compiler: compiler.clone(),
        language,
        preprocessed,
        source,
        output,
        dependencies: plan.destination,
        preprocess,
        compile,
        native: scan.native,
        family: family.or(of_names).or(gccs_own).or(of_assembler),
        hermetic,
    };
    job.hermetic.reads.splice(0..0, files.iter().map(|file| Read::response(file)));
    refuse_native(&mut job);
    if !are_specs_plain(&scan.effects, read) {
        return Err(job.hermetic.needed.unwrap_or(LocalReason::NotACompile));
    }
    if driver.clang && scan.effects.values(Effect::PluginOfGcc).any(|name| is_short(name)) {
        // clang has the loader look for it.
        return Err(job.hermetic.needed.unwrap_or(LocalReason::NotACompile));
    }
    Ok(job)
}

/// For whom alone text can carry a preprocessed source whose command has an option that means nothing to it: clang says
/// which ones it did not use; gcc says nothing.
fn passed_over(option: Option<Bytes>, driver: Driver, needed: &mut Option<LocalReason>) -> Option<Family> {
    let option = option?;
    if driver.clang {
        needed.get_or_insert(LocalReason::Option { option, why: OptionRule::ChangesPreprocessing });
    }
    Some(Family::Gcc).filter(|_| !driver.clang)
}

/// Specs can make options of others; what cannot be looked at, or reaches further, stays here. Where `-B` says, gcc
/// takes a file of this name for some that are named. Which file a name means that is not absolute, only gcc knows.
fn are_specs_plain(effects: &Effects, read: &ResponseReader<'_>) -> bool {
    let prefixes = effects.values(Effect::Programs);
    let mut found =
        prefixes.flat_map(|prefix| ["specs", "/specs"].map(|name| [prefix, name.as_bytes()].concat()));
    let mut named = effects.values(Effect::Specs).filter(|name| name.starts_with(b"/"));
    named.all(|file| read(file).is_ok_and(|text| plain_specs(&text)))
        && found.all(|file| read(&file).map_or(true, |text| plain_specs(&text)))
}

/// What the command asks for, whatever its options are.
struct Asked {
    emit: Emit,
    kind: Kind,
    /// The value of `-o`.
    named: Option<Bytes>,
    output: Bytes,
    /// Why the job cannot travel as text.
    needed: Option<LocalReason>,
}

fn asked(scan: &mut Scan, driver: Driver) -> Result<Asked, LocalReason> {
    if let Some(option) = scan.preprocess_only.take() {
        return Err(LocalReason::PreprocessOnly { option });
    }
    let precompiles = scan.header || scan.sources.iter().any(Source::is_header);
    let mut needed = if scan.emit.is_none() { Some(LocalReason::NotACompile) } else { None };
    let emit = scan.emit.or(precompiles.then_some(Emit::Object)).ok_or(LocalReason::NotACompile)?;
    if let Some(reason) = scan.stays.take() {
        return Err(needed.unwrap_or(reason));
    }
    needed = needed.or(scan.reason.take());
    let kind = only_source(&mut scan.sources, scan.header)?;
    modules::refuse(&scan.effects, kind.form, emit, driver)?;
    if let Some(reason) = kind.no_text(emit, driver, scan.outputs.is_empty())? {
        needed.get_or_insert(reason);
    }
    let named = only_output(&mut scan.outputs)?;
    let output = named
        .clone()
        .unwrap_or_else(|| usual_output(&kind.source, kind.form, emit, scan.effects.has(Effect::Bitcode)));
    if is_probe(&kind.source, &output) {
        return Err(LocalReason::Probe { source_name: kind.source });
    }
    if scan.annotations && emit == Emit::Assembly {
        let option = Bytes::from("-fverbose-asm");
        needed.get_or_insert(LocalReason::Option { option, why: OptionRule::RecordsPlaces });
    }
    refuse_lines(&scan.effects, &kind, driver)?;
    if let Some(option) = scan.stamps.option().filter(|_| driver.clang && emit == Emit::Object) {
        return Err(LocalReason::Option { option: option.clone(), why: OptionRule::NotReproducible });
    }
    if let Some(option) = scan.stamps.needs_files().filter(|_| driver.clang) {
        needed.get_or_insert(LocalReason::Option { option: option.clone(), why: OptionRule::ReadsFiles });
    }
    if scan.other_gcc && scan.external_assembler {
        let option = Bytes::from("--gcc-toolchain");
        return Err(LocalReason::Option { option, why: OptionRule::ReadsFiles });
    }
    Ok(Asked { emit, kind, named, output, needed })
}

/// Refuses debug information of the assembler's own where it names the compiler's temporary file, another in each run:
/// of all that is not assembly with the places of its source. clang names the folder of that file.
fn refuse_lines(effects: &Effects, kind: &Kind, driver: Driver) -> Result<(), LocalReason> {
    let Some(word) = effects.values(Effect::AssemblersLines).next() else { return Ok(()) };
    let says_whence = kind.form == Form::Preprocessed || !effects.has(Effect::NoLineMarkers);
    if kind.language == Language::Assembler && says_whence && !driver.clang {
        return Ok(());
    }
    let option = Bytes::from([b"-Wa,".as_slice(), word].concat());
    Err(LocalReason::Option { option, why: OptionRule::Records })
}

/// What the command means among the client's own files, and the family for which alone that holds.
fn among_files(
    facts: Compile<'_>,
    effects: &Effects,
    needed: Option<LocalReason>,
    without_times: bool,
    modules: Option<Modules>,
) -> (Hermetic, Option<Family>) {
    let other = Compile { clang: !facts.clang, ..facts };
    let (products, reads) = (facts.products(effects), facts.reads(effects));
    let same = products == other.products(effects) && reads == other.reads(effects);
    let same = same && !facts.header && modules.is_none();
    let by_name = if facts.clang { Family::Clang } else { Family::Gcc };
    let family = (needed.is_some() && !same).then_some(by_name);
    let precompiled = effects.has(Effect::Precompiled) || facts.header && !without_times || modules.is_some();
    let hermetic = Hermetic {
        needed,
        refused: None,
        reads,
        products,
        times: facts.clang && precompiled,
        modules,
        varies: facts.varies(effects),
    };
    (hermetic, family)
}

/// What means this machine means another one elsewhere, unless somebody who can ask the compiler says there
/// what it means here.
fn refuse_native(job: &mut CompileJob) {
    if let Some(Argument::Plain(option)) = job.native.first().and_then(|&at| job.compile.get(at)) {
        job.hermetic.refused = Some(LocalReason::NativeUnresolved { option: option.clone() });
    }
}

/// The end of every remote command.
fn tail(emit: Emit, language: Language) -> [Argument; 6] {
    let plain = |text: &str| Argument::Plain(text.into());
    let emit = if emit == Emit::Object { "-c" } else { "-S" };
    [
        plain(emit),
        plain("-x"),
        plain(preprocessed_name(language)),
        Argument::Input,
        plain("-o"),
        Argument::Output(0),
    ]
}

/// The one source.
struct Kind {
    source: Bytes,
    language: Language,
    form: Form,
    called: Bytes,
}

impl Kind {
    /// Why it cannot travel as text, if it cannot.
    ///
    /// # Errors
    ///
    /// Returns why it cannot leave at all.
    fn no_text(&self, emit: Emit, driver: Driver, unnamed: bool) -> Result<Option<LocalReason>, LocalReason> {
        let reason = LocalReason::Language { language: self.called.clone() };
        match (self.language, self.form) {
            // gcc writes two files then, clang one of another name in each version.
            (_, Form::Header) if emit == Emit::Assembly || driver.clang && unnamed => Err(reason),
            // The assembler is not run, and the preprocessor's text goes to stdout.
            (Language::Assembler, _) if emit == Emit::Assembly => Err(reason),
            (Language::Assembler, _) | (_, Form::Header) => Ok(Some(reason)),
            (_, Form::Interface | Form::Module) => Ok(Some(LocalReason::Modules { why: ModuleRule::Text })),
            (_, Form::Plain | Form::Preprocessed) => Ok(None),
        }
    }
}

/// The one source, with its language and form.
fn only_source(sources: &mut Vec<Source>, precompiles: bool) -> Result<Kind, LocalReason> {
    if sources.iter().any(|source| &*source.name == b"-") {
        return Err(LocalReason::SourceIsStdin);
    }
    if sources.len() > 1 {
        return Err(LocalReason::SeveralSources);
    }
    let Source { name, language, called } = sources.pop().ok_or(LocalReason::NoSource)?;
    let (language, form) = language.ok_or_else(|| LocalReason::Language { language: called.clone() })?;
    let form = if precompiles { Form::Header } else { form };
    Ok(Kind { source: name, language, form, called })
}

/// Where the output goes without `-o`. gcc puts a precompiled header beside its header.
fn usual_output(source: &Bytes, form: Form, emit: Emit, bitcode: bool) -> Bytes {
    match (form, emit, bitcode) {
        (Form::Header, ..) => [source, &b".gch"[..]].concat().into(),
        (_, Emit::Object, false) => default_output(source, ".o"),
        (_, Emit::Assembly, false) => default_output(source, ".s"),
        (_, Emit::Object, true) => default_output(source, ".bc"),
        (_, Emit::Assembly, true) => default_output(source, ".ll"),
        (_, Emit::Module, _) => default_output(source, ".pcm"),
    }
}

/// The value of `-o`, if it is given, and given once.
fn only_output(outputs: &mut Vec<Bytes>) -> Result<Option<Bytes>, LocalReason> {
    if outputs.len() > 1 {
        return Err(LocalReason::Option { option: "-o".into(), why: OptionRule::SeveralTargets });
    }
    outputs.pop().map(plain_file).transpose()
}

/// Refuses what can be seen by its name not to be a plain file. What else may lie under a name,
/// the broker sees.
fn plain_file(output: Bytes) -> Result<Bytes, LocalReason> {
    let plain =
        !output.is_empty() && &*output != b"-" && !is_of_the_process(&output) && !output.ends_with(b"/");
    if plain { Ok(output) } else { Err(LocalReason::OutputNotAFile { output }) }
}

/// What the dependency file asks of the preprocessor.
#[derive(Default)]
struct DependencyPlan {
    destination: Option<Destination>,
    arguments: Vec<PreprocessArgument>,
    family: Option<Family>,
}

/// Says where the dependency file goes, and what must be added so that `-E` writes what the
/// compile would have written.
fn plan_dependencies(
    said: &Dependencies,
    output: Option<&Bytes>,
    source: &Bytes,
    driver: Driver,
) -> Result<DependencyPlan, LocalReason> {
    let side_door =
        |option: &Bytes| LocalReason::Option { option: option.clone(), why: OptionRule::SideDoor };
    let (file, target, family) = match (&said.write, &said.by_list) {
        (Some(_), None) => {
            let file =
                said.file.clone().unwrap_or_else(|| default_dependencies(output.map(|o| &**o), source));
            // Without -E, the driver names the output as the target.
            (file, if said.target { None } else { output }, None)
        }
        (None, Some((word, file))) if said.file.is_none() => {
            let (target, family) = list_target(said, output, driver).ok_or_else(|| side_door(word))?;
            (file.clone(), target, family)
        }
        // gcc fails, and clang warns; where a volunteer has such a file written for itself, they would not.
        (None, None) if let Some(option) = &said.about => {
            return Err(LocalReason::Option { option: option.clone(), why: OptionRule::NoDependencies });
        }
        (None, None) if said.file.is_none() => return Ok(DependencyPlan::default()),
        (_, Some((word, _))) => return Err(side_door(word)),
        (None, None) => return Err(side_door(&"-MF".into())),
    };
    let mut arguments = Vec::new();
    if let Some(target) = target {
        arguments.extend([Bytes::from("-MQ"), target.clone()].map(PreprocessArgument::Plain));
    }
    arguments.extend([PreprocessArgument::Plain("-MF".into()), PreprocessArgument::DependencyFile]);
    let destination = match &*file {
        b"-" => Destination::Stdout,
        _ => Destination::File(plain_file(file)?),
    };
    Ok(DependencyPlan { destination: Some(destination), arguments, family })
}

/// The target that must be named for `-Wp,-MD,FILE`, and the family for which that is right.
///
/// gcc's preprocessor does not see `-o` and names the source's object; clang takes the list for
/// `-MD -MF FILE`, whose target is the output, and ignores the pieces of a longer one.
fn list_target<'a>(
    said: &Dependencies,
    output: Option<&'a Bytes>,
    driver: Driver,
) -> Option<(Option<&'a Bytes>, Option<Family>)> {
    match (driver.clang, output) {
        (true, _) if said.list_has_more => None,
        (false, _) if said.list_has_more => Some((None, Some(Family::Gcc))),
        (true, _) if said.list_target => None,
        (_, None) => Some((None, None)),
        (_, Some(_)) if said.target => Some((None, None)),
        (true, Some(output)) => Some((Some(output), Some(Family::Clang))),
        (false, Some(_)) => Some((None, Some(Family::Gcc))),
    }
}

/// A preprocessed source has no preprocessor run that could write its dependencies.
fn no_dependencies(said: &Dependencies) -> Option<LocalReason> {
    let option = said.write.as_ref().or(said.by_list.as_ref().map(|(word, _)| word))?;
    Some(LocalReason::Option { option: option.clone(), why: OptionRule::ChangesPreprocessing })
}
