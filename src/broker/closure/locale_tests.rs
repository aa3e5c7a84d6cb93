//! Names of locales, and what an environment selects.

use super::*;

fn check(name: &str, expected: &[&str]) {
    let found: Vec<String> = variants(name.as_bytes()).iter().map(Bytes::to_text).collect();
    assert_eq!(found, expected, "{name}");
}

#[test]
fn a_locale_is_looked_for_under_all_its_names() {
    check("C.UTF-8", &["C.UTF-8", "C.utf8", "C"]);
    check("de_DE", &["de_DE", "de"]);
    check(
        "de_DE.ISO-8859-1",
        &["de_DE.ISO-8859-1", "de_DE.iso88591", "de_DE", "de.ISO-8859-1", "de.iso88591", "de"],
    );
    check("sr@latin", &["sr@latin", "sr"]);
    check(
        "ru_RU.8859_5@x",
        &[
            "ru_RU.8859_5@x",
            "ru_RU.8859_5",
            "ru_RU.iso88595@x",
            "ru_RU.iso88595",
            "ru_RU@x",
            "ru_RU",
            "ru.8859_5@x",
            "ru.8859_5",
            "ru.iso88595@x",
            "ru.iso88595",
            "ru@x",
            "ru",
        ],
    );
    check("", &[]);
    check("..", &[]);
}

fn wanted(environment: &[&str]) -> String {
    let environment: Vec<Bytes> = environment.iter().map(|entry| Bytes::from(*entry)).collect();
    match Wanted::of(&environment) {
        Ok(wanted) => {
            let languages: Vec<String> = wanted.languages.iter().map(Bytes::to_text).collect();
            format!("{} {} [{}]", wanted.ctype, wanted.messages, languages.join(" "))
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_environment_selects_as_the_c_library_has_it() {
    assert_eq!(wanted(&[]), "C C []");
    assert_eq!(wanted(&["LANG=de_DE", "LC_ALL="]), "de_DE de_DE [de_DE]");
    assert_eq!(wanted(&["LANG=de_DE", "LC_CTYPE=C.UTF-8"]), "C.UTF-8 de_DE [de_DE]");
    assert_eq!(wanted(&["LANG=de_DE", "LC_ALL=C", "LANGUAGE=fr:de"]), "C C [fr de]");
    assert_eq!(wanted(&["LANGUAGE=fr:../x:C", "LC_MESSAGES=en_GB.UTF-8"]), "C en_GB.UTF-8 [fr en_GB.UTF-8]");
    assert_eq!(wanted(&["LANG=../x"]), "C C []");
    assert_eq!(wanted(&["LANG=de_DE", "LOCPATH=/x"]), "LOCPATH is set: locales come from elsewhere");
}

#[test]
fn character_sets_that_are_built_in_need_no_tables() {
    for (name, needs) in
        [("utf-8", false), ("UTF-16LE", false), ("UTF-16", true), ("IBM1047", true), ("", true)]
    {
        assert_eq!(charset_needs_tables(name.as_bytes()), needs, "{name}");
    }
}

#[test]
fn only_catalogues_of_compilers_are_wanted() {
    for (name, expected) in
        [("gcc-12.mo", true), ("gas.mo", true), ("libc.mo", true), ("libcups.mo", false), ("gcc", false)]
    {
        assert_eq!(is_wanted(&Path::new("/x").join(name)), expected, "{name}");
    }
}
