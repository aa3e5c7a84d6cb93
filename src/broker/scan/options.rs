//! Reads of a compiler's command line what bears on which files it reads.
//!
//! Pure, and separate from the classifier: that one decides where a job may run, this one only
//! what the preprocessor is told. What it does not know makes it decline.

use super::Declined;
use super::known::{
    FRONT_END, FRONT_END_ALONE, MODULES, PLAIN, REFUSED, SPARED, STARTS, Use, WITH_NEXT, WITH_VALUE,
};
use super::walk::Setting;
use crate::common::bytes::Bytes;
use crate::common::classify::only_links;

/// A language whose sources are scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// C.
    C,
    /// C++.
    Cxx,
    /// Assembler with directives.
    Assembler,
}

impl Language {
    /// Its name for `-x`.
    pub fn name(self) -> &'static str {
        match self {
            Language::C => "c",
            Language::Cxx => "c++",
            Language::Assembler => "assembler-with-cpp",
        }
    }
}

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The compiler as named.
    pub compiler: Bytes,
    /// The source as named.
    pub source: Bytes,
    /// Its language.
    pub language: Language,
    /// `-D` and `-U` in order.
    pub settings: Vec<Setting>,
    /// `-imacros` in order.
    pub imacros: Vec<Bytes>,
    /// `-include` in order.
    pub includes: Vec<Bytes>,
    /// So many of the last in `includes` are clang's compiler's proper: of those it looks for no precompiled form.
    pub included_plainly: usize,
    /// What `-o` names.
    pub output: Option<Bytes>,
    /// `-include-pch`.
    pub precompiled: Option<Bytes>,
    /// Arguments that may change predefined macros or default directories.
    pub base: Vec<Bytes>,
    /// Arguments that add include directories.
    pub paths: Vec<Bytes>,
    /// The directories of `-I`.
    pub user_directories: Vec<Bytes>,
    /// The directories of `-iquote`.
    pub quote_directories: Vec<Bytes>,
    /// The directories of `-isystem` and `-idirafter`.
    pub system_directories: Vec<Bytes>,
    /// Whether an option makes `__FILE__` say something else.
    pub remaps: bool,
    /// `-I-`: quotes do not look beside their file.
    pub quotes_elsewhere: bool,
}

/// Reads `argv`, response files expanded.
///
/// # Errors
///
/// [`Declined`] for an option that is not known or not followed, and where there is not exactly
/// one source of a language that is.
pub fn read(argv: &[Bytes]) -> Result<CommandLine, Declined> {
    let Some((compiler, arguments)) = argv.split_first() else {
        return Err(Declined::Source("no command"));
    };
    let mut reader = Reader {
        line: CommandLine {
            compiler: compiler.clone(),
            source: Bytes::default(),
            language: Language::C,
            settings: Vec::new(),
            imacros: Vec::new(),
            includes: Vec::new(),
            output: None,
            precompiled: None,
            included_plainly: 0,
            base: Vec::new(),
            paths: Vec::new(),
            user_directories: Vec::new(),
            quote_directories: Vec::new(),
            system_directories: Vec::new(),
            remaps: false,
            quotes_elsewhere: false,
        },
        prefix: None,
        language: None,
        sources: Vec::new(),
        passed: Vec::new(),
        passed_includes: Vec::new(),
        front_end: None,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        reader.argument(argument, &mut rest)?;
    }
    reader.finish()
}

struct Reader {
    line: CommandLine,
    language: Option<Bytes>,
    sources: Vec<(Bytes, Option<Bytes>)>,
    /// `-D` and `-U` given past the driver.
    passed: Vec<Setting>,
    /// `-include` past the driver.
    passed_includes: Vec<Bytes>,
    /// `-iprefix`.
    prefix: Option<Bytes>,
    /// What becomes of the next word behind `-Xclang`.
    front_end: Option<Use>,
}

impl Reader {
    fn argument<'a>(
        &mut self,
        argument: &'a Bytes,
        rest: &mut impl Iterator<Item = &'a Bytes>,
    ) -> Result<(), Declined> {
        let refuse = || Err(Declined::Option(argument.clone()));
        if argument.first() != Some(&b'-') {
            if argument.starts_with(b"@") {
                return refuse();
            }
            self.sources.push((argument.clone(), self.language.clone()));
            return Ok(());
        }
        if argument.len() == 1 {
            return Err(Declined::Source("the source is standard input"));
        }
        if let Some(value_follows) = only_links(argument).filter(|_| !is_asked_about(argument)) {
            // What the linker is told changes nothing of what is read.
            return if value_follows && rest.next().is_none() { refuse() } else { Ok(()) };
        }
        if MODULES.iter().any(|start| argument.starts_with(start)) {
            return Ok(());
        }
        let spared = SPARED.iter().any(|name| argument[..] == **name);
        if !spared && REFUSED.iter().any(|start| argument.starts_with(start)) {
            return refuse();
        }
        if let Some(&(_, use_)) = PLAIN.iter().find(|(name, _)| argument[..] == **name) {
            return self.apply(use_, &[argument], argument);
        }
        if let Some(&(_, use_)) = WITH_NEXT.iter().find(|(name, _)| argument[..] == **name) {
            let Some(value) = rest.next() else { return refuse() };
            return self.apply(use_, &[argument, value], value);
        }
        if argument[..] == *b"-I-" {
            self.line.quotes_elsewhere = true;
            self.line.paths.push(argument.clone());
            return Ok(());
        }
        if argument.starts_with(b"-Wp,") {
            return argument[4..]
                .split(|&byte| byte == b',')
                .try_for_each(|part| self.past_driver(part, argument));
        }
        if let Some(&(_, use_)) = STARTS.iter().find(|(start, _)| argument.starts_with(start)) {
            return self.apply(use_, &[argument], argument);
        }
        let Some(&(name, use_)) = WITH_VALUE.iter().find(|(name, _)| argument.starts_with(name)) else {
            return refuse();
        };
        if argument.len() > name.len() {
            let value = Bytes::from(&argument[name.len()..]);
            return self.apply(use_, &[argument], &value);
        }
        let Some(value) = rest.next() else { return refuse() };
        self.apply(use_, &[argument, value], value)
    }

    fn apply(&mut self, use_: Use, whole: &[&Bytes], value: &Bytes) -> Result<(), Declined> {
        let whole_owned = whole.iter().map(|&argument| argument.clone());
        match use_ {
            Use::Ignore => {}
            Use::Remap => self.line.remaps = true,
            Use::Base => self.line.base.extend(whole_owned),
            Use::Path => {
                if is_odd_directory(value) {
                    return Err(Declined::Option(whole[0].clone()));
                }
                let list = match &whole[0][..] {
                    [b'-', b'I', ..] => &mut self.line.user_directories,
                    option if option.starts_with(b"-iquote") => &mut self.line.quote_directories,
                    _ => &mut self.line.system_directories,
                };
                list.push(value.clone());
                self.line.paths.extend(whole_owned);
            }
            Use::Prefix => {
                self.prefix = Some(value.clone());
                self.line.paths.extend(whole_owned);
            }
            Use::Prefixed => {
                // Without `-iprefix` it is a directory of the compiler's own choice.
                let directory = self.prefix.as_ref().map(|prefix| Bytes([&prefix[..], value].concat()));
                let Some(directory) = directory.filter(|directory| !is_odd_directory(directory)) else {
                    return Err(Declined::Option(whole[0].clone()));
                };
                let before = whole[0].starts_with(b"-iwithprefixbefore");
                let line = &mut self.line;
                let list = if before { &mut line.user_directories } else { &mut line.system_directories };
                list.push(directory);
                self.line.paths.extend(whole_owned);
            }
            Use::Define => self.line.settings.push(define(value)?),
            Use::Undefine => self.line.settings.push(Setting::Undefine(value.to_vec())),
            Use::Include => self.line.includes.push(value.clone()),
            Use::IncludeLast => self.passed_includes.push(value.clone()),
            // A second one would be chained to the first.
            Use::Precompiled if self.line.precompiled.is_some() => {
                return Err(Declined::Option(whole[0].clone()));
            }
            Use::Precompiled => self.line.precompiled = Some(value.clone()),
            Use::Output => self.line.output = Some(value.clone()),
            Use::Imacros => self.line.imacros.push(value.clone()),
            Use::Language => self.language = Some(value.clone()),
            Use::Preprocessor => self.past_driver(value, whole[0])?,
            Use::FrontEnd => {
                let use_ = match self.front_end.take() {
                    Some(use_) => use_,
                    // The value comes behind the next `-Xclang`.
                    None if FRONT_END_ALONE.iter().any(|name| value[..] == **name) => Use::Ignore,
                    None => {
                        let row = FRONT_END.iter().find(|(name, _)| value[..] == **name);
                        let (_, use_) = row.ok_or_else(|| Declined::Option(value.clone()))?;
                        self.front_end = Some(*use_);
                        if *use_ == Use::Base { Use::Base } else { Use::Ignore }
                    }
                };
                self.apply(use_, whole, value)?;
            }
        }
        Ok(())
    }

    /// `-Wp,` and `-Xpreprocessor`: only what is common.
    fn past_driver(&mut self, part: &[u8], argument: &Bytes) -> Result<(), Declined> {
        // In `-Wp,-MD,FILE` the file is a part of its own.
        let dependencies: [&[u8]; 6] = [b"-MD", b"-MMD", b"-MP", b"-MT", b"-MQ", b"-MF"];
        if dependencies.iter().any(|known| part.starts_with(known)) || !part.starts_with(b"-") {
            return if argument.starts_with(b"-Wp,-M") || part.starts_with(b"-M") {
                Ok(())
            } else {
                Err(Declined::Option(argument.clone()))
            };
        }
        if let Some(directory) = part.strip_prefix(b"-I").filter(|name| !name.is_empty() && *name != b"-") {
            let directory = Bytes::from(directory);
            if is_odd_directory(&directory) {
                return Err(Declined::Option(argument.clone()));
            }
            self.line.user_directories.push(directory);
            self.line.paths.push(Bytes([b"-Wp,", part].concat()));
            return Ok(());
        }
        let setting = match part {
            [b'-', b'D', rest @ ..] if !rest.is_empty() => define(rest)?,
            [b'-', b'U', rest @ ..] if !rest.is_empty() => Setting::Undefine(rest.to_vec()),
            _ => return Err(Declined::Option(argument.clone())),
        };
        self.passed.push(setting);
        Ok(())
    }

    fn finish(mut self) -> Result<CommandLine, Declined> {
        let (source, language) = match self.sources.len() {
            0 => return Err(Declined::Source("no source")),
            1 => self.sources.remove(0),
            _ => return Err(Declined::Source("several sources")),
        };
        let driver = self.line.compiler.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_vec();
        let cxx_driver = driver.windows(2).any(|two| two == b"++");
        self.line.language = language_of(&source, language.as_deref(), cxx_driver)
            .ok_or(Declined::Source("a source of another language"))?;
        self.line.source = source;
        // Where settings of both kinds meet in one macro, their order is the driver's secret.
        for passed in &self.passed {
            if self.line.settings.iter().any(|setting| macro_name(setting) == macro_name(passed)) {
                return Err(Declined::Option(Bytes::from(macro_name(passed))));
            }
        }
        self.line.settings.append(&mut self.passed);
        self.line.included_plainly = self.passed_includes.len();
        self.line.includes.append(&mut self.passed_includes);
        Ok(self.line)
    }
}

/// Options for the linker that also change which macros some compilers define.
fn is_asked_about(argument: &[u8]) -> bool {
    PLAIN.iter().any(|(name, use_)| argument == *name && *use_ == Use::Base)
}

fn macro_name(setting: &Setting) -> &[u8] {
    let text: &[u8] = match setting {
        Setting::Define(text) | Setting::Undefine(text) => text,
    };
    let end = text.iter().position(|&byte| !super::token::goes_on(byte)).unwrap_or(text.len());
    &text[..end]
}

/// A newline would make the compiler's list of directories ambiguous; `=` and `$SYSROOT` stand for
/// the system root.
fn is_odd_directory(name: &[u8]) -> bool {
    name.contains(&b'\n') || name.starts_with(b"=") || name.starts_with(b"$") || name.is_empty()
}

/// `X` is `X 1`, `X=Y` is `X Y`.
fn define(value: &[u8]) -> Result<Setting, Declined> {
    let odd = value.is_empty() || value.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0));
    // Comments and splices in a value are read as in a file; they are rare enough to leave out.
    if odd
        || value.windows(2).any(|two| two == b"/*" || two == b"//") && !value.contains(&b'"')
        || value.ends_with(b"\\")
    {
        return Err(Declined::Option(Bytes::from([b"-D", value].concat())));
    }
    let mut text = value.to_vec();
    match text.iter().position(|&byte| byte == b'=') {
        Some(at) => text[at] = b' ',
        None => text.extend_from_slice(b" 1"),
    }
    Ok(Setting::Define(text))
}

fn language_of(source: &[u8], named: Option<&[u8]>, cxx_driver: bool) -> Option<Language> {
    match named {
        Some(b"c" | b"c-header") => return Some(Language::C),
        Some(b"c++" | b"c++-header" | b"c++-module") => return Some(Language::Cxx),
        Some(b"assembler-with-cpp") => return Some(Language::Assembler),
        Some(b"none") | None => {}
        Some(_) => return None,
    }
    let name = source.rsplit(|&byte| byte == b'/').next()?;
    let dot = name.iter().rposition(|&byte| byte == b'.')?;
    match &name[dot + 1..] {
        b"c" | b"h" if cxx_driver => Some(Language::Cxx),
        b"c" | b"h" => Some(Language::C),
        b"cc" | b"cp" | b"cxx" | b"cpp" | b"CPP" | b"c++" | b"C" => Some(Language::Cxx),
        b"hh" | b"H" | b"hp" | b"hxx" | b"hpp" => Some(Language::Cxx),
        b"cppm" | b"ccm" | b"cxxm" | b"c++m" => Some(Language::Cxx),
        b"S" | b"sx" => Some(Language::Assembler),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, Declined> {
        read(&line.split(' ').map(Bytes::from).collect::<Vec<_>>())
    }

    #[test]
    fn preprocessor_options_are_read_joined_and_apart() {
        let line =
            parse("g++ -Ia -I b -iquote q -isystem c -DX -D Y=2 -UZ -include p.h -std=c++17 -O2 -Wall -c x.c -o x.o")
                .unwrap();
        assert_eq!(line.language, Language::Cxx);
        assert_eq!(line.user_directories, [Bytes::from("a"), Bytes::from("b")]);
        assert_eq!(line.quote_directories, [Bytes::from("q")]);
        assert_eq!(line.system_directories, [Bytes::from("c")]);
        let settings = [
            Setting::Define(b"X 1".to_vec()),
            Setting::Define(b"Y 2".to_vec()),
            Setting::Undefine(b"Z".to_vec()),
        ];
        assert_eq!(line.settings, settings);
        assert_eq!(line.base, [Bytes::from("-std=c++17"), Bytes::from("-O2")]);
        assert_eq!(line.source, Bytes::from("x.c"));
    }

    #[test]
    fn what_only_writes_files_is_not_asked_about() {
        for option in
            ["-save-temps", "-fstack-usage", "--coverage", "-ftime-trace", "-da", "-mllvm -x", "-MJ x"]
        {
            let line = parse(&format!("gcc {option} -O2 -c a.c")).unwrap();
            assert_eq!(line.base, [Bytes::from("-O2")], "{option}");
        }
    }

    #[test]
    fn what_the_linker_is_told_is_not_asked_about() {
        for option in [
            "-static-libgcc",
            "-static-libstdc++",
            "-fuse-ld=gold",
            "-Wl,-z,now",
            "-L/x",
            "-L /x",
            "-lm",
            "-l m",
            "-s",
            "-rdynamic",
            "-nostdlib",
            "-nolibc",
            "-z now",
            "-Xlinker x.c",
            "-T x.c",
            "-u x",
            "--rtlib=libgcc",
            "-unwindlib=libgcc",
        ] {
            let line = parse(&format!("gcc {option} -O2 -c a.c")).expect(option);
            assert_eq!((line.base, line.source), (vec![Bytes::from("-O2")], Bytes::from("a.c")), "{option}");
        }
        assert!(parse("gcc -c a.c -T").is_err());
        for option in ["-static", "-static-pie", "-no-pie", "-shared"] {
            assert_eq!(parse(&format!("gcc {option} -c a.c")).unwrap().base, [Bytes::from(option)]);
        }
    }

    #[test]
    fn sources_in_utf8_are_followed_even_if_the_command_says_so() {
        assert!(parse("gcc -finput-charset=UTF-8 -fextended-identifiers -c a.c").is_ok());
        assert!(parse("gcc -finput-charset=latin1 -c a.c").is_err());
    }

    /// What the classifier lets run among the client's own files, the scanner must follow.
    #[test]
    fn what_may_run_among_the_clients_files_is_followed() {
        let declined =
            ["-traditional", "-finput", "a.i", "a.s", "a.pcm", "assembler", "@args", "-fpreprocessed"];
        let table = include_str!("../../common/classify/hermetic.txt");
        let is_declined = |word: &str| {
            declined.iter().any(|name| word == *name || name.starts_with('-') && word.starts_with(name))
        };
        let rows = table.lines().filter_map(|row| row.split_once(" => files:"));
        let followed = rows.filter(|(line, _)| !line.split(' ').any(is_declined));
        let count = followed.inspect(|(line, _)| assert!(parse(line).is_ok(), "{:?}", parse(line))).count();
        assert!(count >= 80, "{count}");
    }

    #[test]
    fn what_is_not_known_is_declined() {
        for option in [
            "-iwithprefix x",
            "-fmodules",
            "-Wp,-v",
            "@x",
            "-Xclang",
            "-Xclang -ast-dump",
            "-include-pch x -include-pch y",
            "--weird",
        ] {
            assert!(parse(&format!("gcc -c a.c {option}")).is_err(), "{option}");
        }
        assert!(parse("gcc -c a.c b.c").is_err());
        assert!(parse("clang -c a.c -Xclang -target-feature -Xclang +avx -Xclang -emit-pch").is_ok());
        assert!(parse("gcc -c a.rs").is_err());
        assert!(parse("gcc -c a.c -iprefix /p/ -iwithprefix a -iwithprefixbefore b -I- -Wp,-Ix").is_ok());
        assert!(parse("gcc -c a.c -DX=1 -Wp,-DX=2").is_err());
        assert!(parse("gcc -c a.c -Wp,-D_FORTIFY_SOURCE=2 -Wp,-MD,a.d").is_ok());
    }
}
