//! From what the words said to the verdict.

use super::names::{default_dependencies, default_output, is_probe, preprocessed_name};
use super::scan::{Dependencies, Scan, Source};
use super::table::Emit;
use super::{CompileJob, Destination, Driver, Family, Hermetic, Language, PreprocessArgument, Products};
use crate::common::action::Argument;
use crate::common::bytes::Bytes;
use crate::common::reason::{LocalReason, OptionRule};

/// Draws the conclusion. The order of the checks is the order of the reasons: what a command is
/// comes before what its options are.
pub(super) fn conclude(compiler: &Bytes, driver: Driver, mut scan: Scan) -> Result<CompileJob, LocalReason> {
    if let Some(option) = scan.preprocess_only {
        return Err(LocalReason::PreprocessOnly { option });
    }
    let emit = scan.emit.ok_or(LocalReason::NotACompile)?;
    if let Some(reason) = scan.reason {
        return Err(reason);
    }
    let (source, language, preprocessed) = only_source(&mut scan.sources)?;
    let named = only_output(&mut scan.outputs)?;
    let suffix = if emit == Emit::Object { ".o" } else { ".s" };
    let output = named.clone().unwrap_or_else(|| default_output(&source, suffix));
    if is_probe(&source, &output) {
        return Err(LocalReason::Probe { source_name: source });
    }
    if scan.other_gcc && scan.external_assembler {
        let option = Bytes::from("--gcc-toolchain");
        return Err(LocalReason::Option { option, why: OptionRule::ReadsFiles });
    }
    let plan = plan_dependencies(&scan.dependencies, named.as_ref(), &source, driver)?;
    let (preprocess, family) = if preprocessed {
        refuse_dependencies(&scan.dependencies)?;
        // clang says which of the options that were left out it did not use; gcc says nothing.
        (Vec::new(), scan.left_out.then_some(Family::Gcc))
    } else {
        let only = [PreprocessArgument::Plain("-E".into())];
        (only.into_iter().chain(scan.preprocess).chain(plan.arguments).collect(), plan.family)
    };
    let mut compile = scan.compile;
    compile.extend(tail(emit, language));
    let native = scan.native.first().and_then(|&at| match &compile[at] {
        Argument::Plain(option) => Some(LocalReason::NativeUnresolved { option: option.clone() }),
        Argument::Input | Argument::Output(_) => None,
    });
    let mut names = vec![output.clone()];
    if let Some(Destination::File(file)) = &plan.destination {
        names.push(file.clone());
    }
    let hermetic = Hermetic {
        refused: native,
        products: Products { names, ..Products::default() },
        ..Hermetic::default()
    };
    Ok(CompileJob {
        compiler: compiler.clone(),
        language,
        preprocessed,
        source,
        output,
        dependencies: plan.destination,
        preprocess,
        compile,
        native: scan.native,
        family,
        hermetic,
    })
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

/// The one source, with its language and whether it is preprocessed.
fn only_source(sources: &mut Vec<Source>) -> Result<(Bytes, Language, bool), LocalReason> {
    if sources.iter().any(|source| &*source.name == b"-") {
        return Err(LocalReason::SourceIsStdin);
    }
    if sources.len() > 1 {
        return Err(LocalReason::SeveralSources);
    }
    let source = sources.pop().ok_or(LocalReason::NoSource)?;
    let (language, preprocessed) = source.language.map_err(|language| LocalReason::Language { language })?;
    Ok((source.name, language, preprocessed))
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
        !output.is_empty() && &*output != b"-" && !output.starts_with(b"/dev/") && !output.ends_with(b"/");
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
fn refuse_dependencies(said: &Dependencies) -> Result<(), LocalReason> {
    match said.write.as_ref().or(said.by_list.as_ref().map(|(word, _)| word)) {
        None => Ok(()),
        Some(option) => {
            Err(LocalReason::Option { option: option.clone(), why: OptionRule::ChangesPreprocessing })
        }
    }
}
