//! The text of the workspace as these tests read it: all files, their lines of code, their comments. It
//! trusts the layout that rustfmt gives.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// All Rust files of the workspace and their text, by their path from its root.
pub(crate) fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in folders() {
        collect(&folder, &mut files);
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(files.len() > 20, "the sources were not found: {files:?}");
    texts(files)
}

/// All documents of the workspace and their text, by their path from its root.
pub(crate) fn documents() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in folders() {
        collect(&folder, &mut files);
    }
    collect(&root().join("docs"), &mut files);
    let entries = fs::read_dir(root()).expect("the root can be listed");
    files.extend(entries.map(|entry| entry.expect("an entry").path()));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(files.len() > 5, "the documents were not found: {files:?}");
    texts(files)
}

/// All mutants and their text, by their names.
pub(crate) fn mutants() -> BTreeMap<String, String> {
    let mut files = Vec::new();
    collect(&root().join("tests/mutants"), &mut files);
    files.retain(|path| path.extension().is_none_or(|extension| extension != "md"));
    assert!(files.len() > 20, "the mutants were not found: {files:?}");
    let name = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).expect("readable"))).collect()
}

fn texts(mut files: Vec<PathBuf>) -> Vec<(String, String)> {
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
        } else if path.is_file() {
            files.push(path);
        }
    }
}

pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the workspace is around it").to_owned()
}

/// Whether the file is a test, or only serves tests. Tests are as long as they need to be.
pub(crate) fn is_test(path: &str) -> bool {
    path.ends_with("_test.rs") || path.contains("/tests/") || path.starts_with("tests/")
}

/// The lines that are neither empty nor comment, with their numbers.
pub(crate) fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = source.lines().enumerate().map(|(place, line)| (place + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
}

/// The comments, each with the number of its line. A `//` behind a colon belongs to an address.
pub(crate) fn comments(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source.lines().enumerate().filter_map(|(place, line)| {
        let start = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'))?.0;
        Some((place + 1, &line[start..]))
    })
}

/// A file up to the tests at its end.
pub(crate) fn without_tests(source: &str) -> &str {
    let attribute = "#[cfg(test)]\n";
    let is_module = |rest: &str| {
        let line = rest.lines().next().unwrap_or_default().trim_start_matches("pub(crate) ");
        line.starts_with("mod ") && line.ends_with('{')
    };
    let mut starts = source.match_indices(attribute);
    let start = starts.find(|(at, _)| is_module(&source[at + attribute.len()..]));
    start.map_or(source, |(at, _)| &source[..at])
}

/// Each of `found` must be on the list with its size, and no list entry may be out of date.
pub(crate) fn assert_only_shrinks(
    what: &str,
    advice: &str,
    list: &[(&str, usize)],
    found: Vec<(String, usize)>,
) {
    let list: BTreeMap<_, _> = list.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, size) in &found {
        let size = *size;
        match list.get(name.as_str()).copied().unwrap_or(0) {
            0 => wrong.push(format!("{name} has {size} {what}: {advice}")),
            most if size > most => wrong.push(format!("{name} has grown to {size} {what}")),
            most if size < most => wrong.push(format!("{name} has {size} {what}: lower its entry")),
            _ => {}
        }
    }
    let gone = list.keys().filter(|name| !found.iter().any(|(other, _)| other == *name));
    wrong.extend(gone.map(|name| format!("{name} is no longer too large: take it off the list")));
    assert_none(&wrong);
}

pub(crate) fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}
