//! `docs/SAFETY.md` and those who cite it: every code that a comment, a document or a mutant cites is
//! stated there, and every file, test and mutant that it names exists.

use crate::source::{assert_none, comments, documents, mutants, root, sources};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

const PAGE: &str = "docs/SAFETY.md";
/// The first letters of rules and of bugs of other systems.
const LETTERS: &str = "WAIRESNMTCQPB";
const SCRIPTS: &str = "rsm/src/raft/testscripts";

/// A code and its entry: the lines up to the next code or heading.
fn entries(page: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut is_open = false;
    for line in page.lines() {
        let code = line.split_once(": ").map(|(head, _)| head).filter(|head| is_code(head));
        if let Some(code) = code {
            found.push((code, String::new()));
            is_open = true;
        }
        is_open &= !line.starts_with('#');
        if let (true, Some((_, text))) = (is_open, found.last_mut()) {
            text.push_str(line);
            text.push('\n');
        }
    }
    found
}

/// One capital letter and one to three digits.
fn is_code(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next().is_some_and(|letter| letter.is_ascii_uppercase())
        && (1..=3).contains(&letters.as_str().len())
        && letters.all(|letter| letter.is_ascii_digit())
}

/// The codes that a text cites: a rule or a bug wherever it stands, and any code behind "safety" or
/// "design".
fn cited(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = "";
    for word in text.split(|letter: char| !letter.is_alphanumeric() && letter != '_') {
        if word.is_empty() {
            continue;
        }
        let named = before.eq_ignore_ascii_case("safety") || before.eq_ignore_ascii_case("design");
        if is_code(word) && (named || word.starts_with(|letter| LETTERS.contains(letter))) {
            found.push(word.to_owned());
        }
        before = word;
    }
    found
}

fn page() -> String {
    fs::read_to_string(root().join(PAGE)).expect("the page is there")
}

#[test]
fn every_code_that_is_cited_is_stated() {
    let page = page();
    let stated: BTreeSet<_> = entries(&page).into_iter().map(|(code, _)| code).collect();
    let mut wrong = Vec::new();
    let mut check = |place: String, text: &str| {
        for code in cited(text).iter().filter(|code| !stated.contains(code.as_str())) {
            wrong.push(format!("{place} cites {code}, which {PAGE} does not state"));
        }
        if text.contains("safety.md") || text.contains("scenarios.md") {
            wrong.push(format!("{place} cites a page that is not there: {PAGE} is meant"));
        }
    };
    for (path, source) in sources() {
        for (line, comment) in comments(&source) {
            // This file names what is forbidden.
            if !path.starts_with("tests/tests/architecture/") {
                check(format!("{path}:{line}"), comment);
            }
        }
    }
    for (path, text) in documents() {
        for (place, line) in text.lines().enumerate() {
            check(format!("{path}:{}", place + 1), line);
        }
    }
    for (name, text) in mutants() {
        check(format!("mutant {name}"), header(&text, "Rule: ").unwrap_or_default());
    }
    assert_none(&wrong);
}

/// A line of a mutant's head, without its name.
fn header<'a>(mutant: &'a str, name: &str) -> Option<&'a str> {
    mutant.lines().find_map(|line| line.strip_prefix(name))
}

#[test]
fn every_rule_says_what_breaks_what_guards_and_what_notices() {
    let page = page();
    let mut codes = BTreeSet::new();
    let mut wrong = Vec::new();
    for (code, text) in entries(&page) {
        if !codes.insert(code) {
            wrong.push(format!("{code} is stated twice"));
        }
        let says = |part: &str| text.contains(part);
        let is_complete = match code.starts_with('B') {
            true => says(" Tests: ") || says(" Not yet: ") || says(" Cannot happen: "),
            false => {
                let is_guarded = says("\n- Guard: ") && says("\n- Tests:\n");
                says("\n- Without it: ") && (is_guarded || says("\n- Not yet: "))
            }
        };
        if !is_complete {
            wrong.push(format!("{code} lacks a part: without it, guard, tests, or not yet"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn everything_that_the_page_names_exists() {
    let (page, tests, mutants) = (page(), tests(), mutants());
    let mut wrong = Vec::new();
    for (code, text) in entries(&page) {
        for name in quoted(&text) {
            let exists = match name {
                file if file.contains('/') => root().join(file).is_file(),
                mutant if mutant.contains('-') => mutants.contains_key(mutant),
                test => match test.strip_suffix('*') {
                    Some(start) => tests.iter().any(|other| other.starts_with(start)),
                    None => tests.contains(test),
                },
            };
            if !exists {
                wrong.push(format!("{code} names `{name}`, which is no file, test or mutant"));
            }
        }
        wrong.extend(unkilled(&text, &mutants).map(|(test, mutant)| {
            format!("{code} says that `{test}` kills `{mutant}`, whose Unit is another test")
        }));
    }
    assert_none(&wrong);
}

#[test]
fn every_source_that_a_document_names_exists() {
    let sources = sources();
    let mut wrong = Vec::new();
    // The page about mutants shows paths of other trees.
    let documents = documents().into_iter().filter(|(path, _)| !path.starts_with("tests/"));
    for (document, text) in documents {
        for (place, line) in text.lines().enumerate() {
            let gone = named_sources(line).filter(|name| {
                let inside = format!("/{name}");
                !sources.iter().any(|(path, _)| path == name || path.ends_with(&inside))
            });
            wrong.extend(
                gone.map(|name| {
                    format!("{document}:{} names {name}, which is not there", place + 1)
                }),
            );
        }
    }
    assert_none(&wrong);
}

/// The Rust files that a line names, by a path from the root or by its end.
fn named_sources(line: &str) -> impl Iterator<Item = &str> {
    let is_path = |letter: char| letter.is_alphanumeric() || "_-./".contains(letter);
    let words = line.split(move |letter| !is_path(letter)).map(|word| word.trim_end_matches('.'));
    words.filter(|word| word.ends_with(".rs") && word.len() > 3)
}

#[test]
fn names_of_sources_are_found_in_a_line() {
    let line = "`a/b.rs`, c_test.rs and (x/src/d.rs). Docs are on docs.rs/e; .rs is an ending.";
    assert_eq!(named_sources(line).collect::<Vec<_>>(), ["a/b.rs", "c_test.rs", "x/src/d.rs"]);
}

/// The page is also where a reader finds all mutants of a rule.
#[test]
fn every_mutant_stands_under_the_rules_that_it_breaks() {
    let page = page();
    let entries: BTreeMap<_, _> = entries(&page).into_iter().collect();
    let mut wrong = Vec::new();
    for (mutant, text) in mutants() {
        for code in cited(header(&text, "Rule: ").unwrap_or_default()) {
            let entry = entries.get(code.as_str()).filter(|_| !code.starts_with('B'));
            if entry.is_some_and(|entry| !quoted(entry).any(|name| name == mutant)) {
                wrong.push(format!("{PAGE} does not name the mutant {mutant} under {code}"));
            }
        }
    }
    assert_none(&wrong);
}

/// The page on tests names tests of ours up to the heading under which it names those of others.
#[test]
fn every_test_that_the_page_on_tests_names_exists() {
    let (path, tests) = ("docs/testing.md", tests());
    let page = fs::read_to_string(root().join(path)).expect("the page is there");
    let (ours, _) = page.split_once("\n## Tests of others\n").expect("others have a heading");
    let is_test = |name: &&str| {
        let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        name.chars().all(is_name) && name.matches('_').count() >= 2
    };
    let names: Vec<_> = quoted(ours).filter(is_test).collect();
    assert!(names.len() > 30, "the tests on the page were not found: {names:?}");
    let gone = names.iter().filter(|name| !tests.contains(**name));
    assert_none(
        &gone.map(|name| format!("{path} names {name}, which is no test")).collect::<Vec<_>>(),
    );
}

/// The pairs of a test and a mutant that stand on one item of a list, where the mutant names another test.
fn unkilled<'a>(
    entry: &'a str,
    mutants: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let items = entry.split("\n  - ").skip(1).filter(|item| item.starts_with('`'));
    let pairs = items.flat_map(|item| {
        let mut names = quoted(item);
        let test = names.next().unwrap_or_default();
        names.map(move |mutant| (test, mutant))
    });
    pairs.filter(|(test, mutant)| {
        let unit = mutants.get(*mutant).and_then(|text| header(text, "Unit: "));
        let filter = unit.and_then(|unit| unit.split(' ').next_back());
        filter.is_some_and(|filter| *test != filter)
    })
}

/// What stands between back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names of all tests, and of all raft scripts, each of which is a test.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, source) in sources() {
        let mut is_marked = false;
        for line in source.lines().map(str::trim) {
            let rest = line.trim_start_matches("#[test]").trim_start();
            is_marked |= rest.len() < line.len();
            if let (true, Some(name)) = (is_marked, rest.strip_prefix("fn ")) {
                names.extend(name.split('(').next().map(str::to_owned));
            }
            is_marked &= rest.is_empty() || rest.starts_with("#[") || rest.starts_with("//");
        }
    }
    for entry in fs::read_dir(root().join(SCRIPTS)).expect("there are scripts") {
        let path = entry.expect("an entry").path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    assert!(names.len() > 100, "the tests were not found: {names:?}");
    names
}

#[test]
fn codes_are_found_in_a_text_and_on_the_page() {
    let text =
        "it waits (safety A2, B22), as in I3-I5; n1 and TERM7 are none. See safety M7, design D1.";
    assert_eq!(cited(text), ["A2", "B22", "I3", "I5", "M7", "D1"]);
    assert_eq!(cited("node X1, O(1), version V2 and A1b"), [""; 0]);
    let page = "# A page\n\nW1: a rule.\n\n- Without it: harm.\n\n## Next\n\ntext\n\nB07: a bug. Tests: `x`.\n";
    let found = entries(page);
    assert_eq!(found[0], ("W1", "W1: a rule.\n\n- Without it: harm.\n\n".to_owned()));
    assert_eq!(found[1], ("B07", "B07: a bug. Tests: `x`.\n".to_owned()));
}

#[test]
fn a_test_that_is_not_the_mutants_own_is_noticed() {
    let mutants = BTreeMap::from([
        ("a-b".to_owned(), "What: x.\nUnit: purlin-tests one_thing\n".to_owned()),
        ("c-d".to_owned(), "What: x.\n".to_owned()),
    ]);
    let wrong = |entry| unkilled(entry, &mutants).collect::<Vec<_>>();
    assert_eq!(wrong("- Tests:\n  - `one_thing`: `a-b`, `c-d`\n  - more: `other`"), []);
    assert_eq!(wrong("- Tests:\n  - `other`: `c-d`,\n    `a-b`\n"), [("other", "a-b")]);
}
