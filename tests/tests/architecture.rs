//! What a machine can check of the architecture: who depends on whom, who names glommio, and that no
//! file grows without somebody deciding it.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What each package of the workspace may build on, of the workspace. Tests may build on anything.
const EDGES: [(&str, &[&str]); 8] = [
    ("purlin-rsm", &[]),
    ("purlin-kv", &["purlin-rsm"]),
    ("purlin-storage", &["purlin-rsm"]),
    ("purlin-transport", &["purlin-rsm"]),
    ("purlin", &["purlin-rsm", "purlin-storage", "purlin-transport"]),
    ("purlin-server", &["purlin", "purlin-kv"]),
    ("purlin-bench", &["purlin"]),
    (
        "purlin-tests",
        &[
            "purlin",
            "purlin-kv",
            "purlin-rsm",
            "purlin-server",
            "purlin-storage",
            "purlin-transport",
        ],
    ),
];

/// All that the replicated state machine builds on: nothing that could do I/O, wait or draw lots.
const RSM_BUILDS_ON: [&str; 2] = ["bytes", "thiserror"];

/// Files longer than [`FILE_LINES_MAX`], with their lines of code: they may only shrink.
const LONG_FILES: [(&str, usize); 0] = [];
const FILE_LINES_MAX: usize = 600;

/// Structs with more than [`FIELDS_MAX`] fields, with their count: they may only shrink.
/// It is the layout of a block on disk.
const LARGE_STRUCTS: [(&str, usize); 1] = [("storage/src/segment.rs Raw", 18)];
const FIELDS_MAX: usize = 15;

#[test]
fn packages_depend_one_way() {
    let allowed: BTreeMap<_, _> = EDGES.into_iter().collect();
    let packages = packages();
    let names: BTreeSet<_> = packages.iter().map(|package| text(package, "name")).collect();
    assert_eq!(names, allowed.keys().copied().collect(), "the packages of the workspace");
    for package in &packages {
        let name = text(package, "name");
        for dependency in dependencies(package) {
            let inside = names.contains(dependency);
            assert!(
                !inside || allowed[name].contains(&dependency),
                "{name} builds on {dependency}"
            );
            assert!(dependency != "glommio" || name == "purlin", "{name} builds on glommio");
        }
    }
}

#[test]
fn the_state_machine_builds_on_nothing_that_acts() {
    let packages = packages();
    let rsm = packages.iter().find(|package| text(package, "name") == "purlin-rsm");
    for dependency in dependencies(rsm.expect("there is a purlin-rsm")) {
        assert!(RSM_BUILDS_ON.contains(&dependency), "purlin-rsm builds on {dependency}");
    }
}

#[test]
fn only_one_folder_names_glommio() {
    let mut wrong = Vec::new();
    for (path, source) in sources() {
        // This file names it to test how it looks.
        if path.starts_with("engine/src/glommio/") || path == "tests/tests/architecture.rs" {
            continue;
        }
        for (line, code) in code_lines(&source) {
            if names_glommio(code) {
                wrong.push(format!("{path}:{line} names glommio: {code}"));
            }
        }
    }
    assert_none(&wrong);
}

/// Whether a line of code uses the crate, and not our module of that name.
fn names_glommio(code: &str) -> bool {
    code.match_indices("glommio").any(|(at, word)| {
        let (before, after) = (code[..at].trim_end(), &code[at + word.len()..]);
        let ours =
            ["crate::", "self::", "super::", "purlin::"].iter().any(|path| before.ends_with(path));
        let path =
            after.starts_with("::") || before.ends_with("use") || before.ends_with("extern crate");
        path && !ours
    })
}

#[test]
fn our_module_is_told_from_the_crate() {
    for code in ["use glommio::Task;", "let x = glommio::spawn();", "use glommio as g;"] {
        assert!(names_glommio(code), "{code}");
    }
    for code in ["mod glommio;", "pub use crate::glommio::Runtime;", "\"glommio=warn\""] {
        assert!(!names_glommio(code), "{code}");
    }
}

#[test]
fn every_file_says_what_it_is() {
    let silent = sources().into_iter().filter(|(_, source)| !source.starts_with("//! "));
    let wrong =
        silent.map(|(path, _)| format!("{path} does not begin with `//!` and what it owns"));
    assert_none(&wrong.collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_undone_and_nothing_waits_by_the_clock() {
    // Put together here, so that this file does not find itself.
    let forbidden = ["to do!", "unimple mented!", "db g!", "thread::sl eep"];
    let forbidden = forbidden.map(|word| word.replace(' ', ""));
    forbid(|_| true, &forbidden.each_ref().map(String::as_str), "do it, or wait for something");
}

/// Where the same seed must give the same history, nothing may draw lots by itself. What clippy can
/// see is in the crates' `clippy.toml`.
#[test]
fn nothing_simulated_draws_lots_by_itself() {
    let simulated = ["rsm/", "storage/", "transport/", "engine/"];
    let is_simulated = |path: &str| simulated.iter().any(|folder| path.starts_with(folder));
    let why = "it picks at random: use `or`, which has an order";
    forbid(is_simulated, &["future::race", "select!"], why);
}

/// The front end runs in the simulator too, and clippy cannot forbid this to one module of a crate. The
/// blocking client runs in no simulator.
#[test]
fn the_front_end_has_no_clock_thread_or_process_of_its_own() {
    let is_simulated =
        |path: &str| path.starts_with("server/src/resp/") && path != "server/src/resp/client.rs";
    let words = ["Instant", "SystemTime", "thread::", "process::", "HashMap", "HashSet", "::race("];
    forbid(is_simulated, &words, "ask the runtime");
}

/// No line of code in the files that are meant has any of these words.
fn forbid(is_meant: impl Fn(&str) -> bool, words: &[&str], instead: &str) {
    let mut wrong = Vec::new();
    for (path, source) in sources().into_iter().filter(|(path, _)| is_meant(path)) {
        for (line, code) in code_lines(&source) {
            let found = words.iter().filter(|word| code.contains(**word));
            wrong.extend(found.map(|word| format!("{path}:{line} has {word}: {instead}")));
        }
    }
    assert_none(&wrong);
}

#[test]
fn long_files_only_shrink() {
    let long = sources().into_iter().filter_map(|(path, source)| {
        // Tests are as long as they need to be.
        let is_test = path.ends_with("_test.rs") || path.contains("/tests/");
        let lines = code_lines(without_tests(&source)).count();
        (!is_test && lines > FILE_LINES_MAX).then_some((path, lines))
    });
    assert_only_shrinks("lines of code", &LONG_FILES, long.collect());
}

#[test]
fn large_structs_only_shrink() {
    let mut large = Vec::new();
    for (path, source) in sources() {
        for (name, fields) in structs(&source) {
            if fields > FIELDS_MAX {
                large.push((format!("{path} {name}"), fields));
            }
        }
    }
    assert_only_shrinks("fields", &LARGE_STRUCTS, large);
}

#[test]
fn fields_of_structs_are_counted() {
    let source = "pub struct A<T> {\n    /// A: doc.\n    pub a: T,\n    b: Vec<(u8, u8)>,\n}\n\
                  struct B;\nstruct C(u8);\nstruct D {\n    #[x]\n    pub(crate) d: u8,\n}\n";
    assert_eq!(structs(source), [("A".to_owned(), 2), ("D".to_owned(), 1)]);
}

/// Each of `found` must be on the list with its size, and no list entry may be out of date.
fn assert_only_shrinks(what: &str, list: &[(&str, usize)], found: Vec<(String, usize)>) {
    let list: BTreeMap<_, _> = list.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, size) in &found {
        let size = *size;
        match list.get(name.as_str()).copied().unwrap_or(0) {
            0 => wrong.push(format!("{name} has {size} {what}: give its second noun a file")),
            most if size > most => wrong.push(format!("{name} has grown to {size} {what}")),
            most if size < most => wrong.push(format!("{name} has {size} {what}: lower its entry")),
            _ => {}
        }
    }
    let gone = list.keys().filter(|name| !found.iter().any(|(other, _)| other == *name));
    wrong.extend(gone.map(|name| format!("{name} is no longer too large: take it off the list")));
    assert_none(&wrong);
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}

/// The packages of the workspace, as cargo sees them.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    metadata["packages"].as_array().expect("a workspace has packages").clone()
}

/// What a package builds on, but for its tests.
fn dependencies(package: &Value) -> Vec<&str> {
    let all = package["dependencies"].as_array().expect("a package has dependencies");
    all.iter().filter(|it| it["kind"] != "dev").map(|it| text(it, "name")).collect()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} is no text in {value}"))
}

/// All Rust files of the workspace and their text, by their path from its root.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in folders() {
        collect(&folder, &mut files);
    }
    assert!(files.len() > 20, "the sources were not found: {files:?}");
    files.sort();
    let relative = |path: &Path| {
        let path = path.strip_prefix(root()).expect("below the root");
        path.to_str().expect("our names are ASCII").to_owned()
    };
    files.iter().map(|path| (relative(path), fs::read_to_string(path).expect("readable"))).collect()
}

/// The folders of the workspace's packages.
fn folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(root()).expect("the root can be listed");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.join("Cargo.toml").exists()).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the workspace is around it").to_owned()
}

/// The lines that are neither empty nor comment, with their numbers.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = source.lines().enumerate().map(|(place, line)| (place + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
}

/// A file up to the tests at its end.
fn without_tests(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod tests {").next().unwrap_or(source)
}

/// The structs with named fields, and how many. It trusts the layout that rustfmt gives.
fn structs(source: &str) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    let mut open = false;
    for line in source.lines() {
        let head = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        if let Some(rest) = head.strip_prefix("struct ")
            && line.ends_with('{')
        {
            let name = rest.split(|letter: char| !letter.is_alphanumeric()).next();
            found.push((name.unwrap_or_default().to_owned(), 0));
            open = true;
        } else if line == "}" {
            open = false;
        } else if let (true, Some((_, fields))) = (open, found.last_mut()) {
            let indented = line.starts_with("    ") && !line.starts_with("     ");
            let name =
                line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            let is_field = name.split_once(": ").is_some_and(|(name, _)| {
                name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
            });
            *fields += usize::from(indented && is_field);
        }
    }
    found
}
