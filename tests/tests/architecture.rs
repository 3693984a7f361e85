//! What a machine can check of the architecture: which crate and which file builds on which, what the
//! sources may not name, how large they may grow, and that `docs/SAFETY.md` states what they cite.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/safety.rs"]
mod safety;
#[path = "architecture/shape.rs"]
mod shape;
#[path = "architecture/source.rs"]
mod source;

use crate::source::{assert_none, code_lines, is_test, root, sources, without_tests};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

/// What each package of the workspace may build on, of the workspace. Tests may build on anything.
const EDGES: [(&str, &[&str]); 9] = [
    ("purlin-rsm", &[]),
    ("purlin-kv", &["purlin-rsm"]),
    ("purlin-storage", &["purlin-rsm"]),
    ("purlin-transport", &["purlin-rsm"]),
    ("purlin", &["purlin-rsm", "purlin-storage", "purlin-transport"]),
    ("purlin-server", &["purlin", "purlin-kv"]),
    ("purlin-checker", &[]),
    ("purlin-bench", &["purlin", "purlin-checker"]),
    (
        "purlin-tests",
        &[
            "purlin",
            "purlin-checker",
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
    let forbidden = ["to do!", "unimple mented!", "db g!", "thread::sl eep", "park_time out"];
    let forbidden = forbidden.map(|word| word.replace(' ', ""));
    forbid(|_| true, &forbidden.each_ref().map(String::as_str), "do it, or wait for something");
}

/// `println!` and its kin panic when the output is closed or full, and with it ends what called them.
/// The programs of these tests may.
#[test]
fn no_program_of_users_panics_over_its_output() {
    let mut wrong = Vec::new();
    for (path, source) in sources().into_iter().filter(|(path, _)| !is_test(path)) {
        // An example shows the least that a reader needs.
        if path.contains("/examples/") {
            continue;
        }
        for (line, code) in code_lines(without_tests(&source)) {
            if ["print!(", "println!("].iter().any(|word| code.contains(word)) {
                wrong.push(format!("{path}:{line} may panic: write, and let the result be"));
            }
        }
    }
    assert_none(&wrong);
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
