//! Licences of the dependencies, from `cargo metadata` alone: no network, no further tool.
//!
//! `deny.toml` holds the rules for cargo-deny, which checks advisories too; the allow-list here is
//! read from that file, so that there is one list.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// The licences that `deny.toml` allows.
fn allowed() -> BTreeSet<String> {
    let text = include_str!("../../deny.toml");
    let list = text.split("\nallow = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("");
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or(""));
    lines
        .flat_map(|line| line.split(','))
        .map(|word| word.trim().trim_matches('"').to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

/// Whether an SPDX expression can be satisfied with these licences alone.
///
/// Understands what crates write: `A OR B`, `A AND B`, parentheses, and `A/B` of old manifests.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    words.reverse();
    either(&mut words, allowed) && words.is_empty()
}

/// `both (OR both)*`; the words are a stack.
fn either(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> bool {
    let mut holds = both(words, allowed);
    while words.last() == Some(&"OR") {
        words.pop();
        holds |= both(words, allowed);
    }
    holds
}

/// `one (AND one)*`.
fn both(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> bool {
    let mut holds = one(words, allowed);
    while words.last() == Some(&"AND") {
        words.pop();
        holds &= one(words, allowed);
    }
    holds
}

/// A licence, one with an exception, or an expression in parentheses.
fn one(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> bool {
    match words.pop() {
        Some("(") => {
            let holds = either(words, allowed);
            words.pop() == Some(")") && holds
        }
        Some(licence) if words.last() == Some(&"WITH") => {
            words.pop();
            let exception = words.pop().unwrap_or("");
            allowed.contains(&format!("{licence} WITH {exception}")) || allowed.contains(licence)
        }
        Some(licence) => allowed.contains(licence),
        None => false,
    }
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--all-features"])
        // What is built here is what was fetched.
        .args(["--filter-platform", env!("DISTCC_TARGET")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let allowed = allowed();
    assert!(allowed.contains("MIT"), "deny.toml's list was not found: {allowed:?}");
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let field = |package: &Value, name: &str| package[name].as_str().unwrap_or("").to_owned();
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !satisfied(&field(package, "license"), &allowed))
        .map(|package| {
            format!("{} {}: {:?}", field(package, "name"), field(package, "version"), package["license"])
        })
        .collect();
    assert!(packages.len() > 20, "only {} packages", packages.len());
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn everything_comes_from_the_registry() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let source = package["source"].as_str().unwrap_or("");
        let own = package["name"] == "distcc";
        assert!(own || source.starts_with("registry+"), "{} comes from {source:?}", package["name"]);
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_has_them() {
    let allowed: BTreeSet<String> = ["MIT", "Apache-2.0", "Zlib"].map(String::from).into();
    let check = |expression: &str, expected: bool| {
        assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
    };
    check("MIT", true);
    check("GPL-3.0-only", false);
    check("MIT OR GPL-2.0", true);
    check("MIT AND GPL-2.0", false);
    check("MIT/Apache-2.0", true);
    check("(MIT OR GPL-2.0) AND Zlib", true);
    check("(GPL-2.0 OR LGPL-2.1) AND Zlib", false);
    check("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true);
    check("GPL-2.0 WITH GCC-exception-3.1", false);
    check("MIT OR Apache-2.0 AND GPL-2.0", true);
    check("", false);
    check("MIT MIT", false);
}
