//! Which file of a crate uses which: no file may use, over others, a file that uses it.
//!
//! A file uses another one when it names something that stands there, by `use` or by a path from
//! `crate`, `super` or `self`. A name that a file only hands on (`pub use`) is followed to its place, and
//! handing on is no use. Tests are left out.

use crate::source::{assert_none, code_lines, is_test, sources, without_tests};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A module of a crate by the names on its path; the root has none.
type Module = Vec<String>;
/// The modules that each one uses.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

#[derive(Default)]
struct Crate {
    /// Each module's file.
    files: BTreeMap<Module, String>,
    /// Each module's code, without comments and tests.
    code: BTreeMap<Module, String>,
    /// The names that a module hands on, each with its path.
    handed_on: BTreeMap<Module, BTreeMap<String, Vec<String>>>,
}

impl Crate {
    fn new(sources: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut this = Self::default();
        let mut only_tests = Vec::new();
        for (path, source) in sources {
            let (_, inside) = path.split_once("/src/").expect("a file of a crate");
            let mut module: Module =
                inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
            module.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
            only_tests.extend(test_modules(&source).map(|name| joined(&module, name)));
            let code: Vec<_> = code_lines(without_tests(&source)).map(|(_, line)| line).collect();
            this.code.insert(module.clone(), code.join("\n"));
            this.files.insert(module, path);
        }
        let is_kept = |module: &Module| !only_tests.iter().any(|test| module.starts_with(test));
        this.code.retain(|module, _| is_kept(module));
        this.files.retain(|module, _| is_kept(module));
        for (module, code) in &this.code {
            let names = uses(code).into_iter().filter(|(is_public, _)| *is_public);
            let names = names.map(|(_, path)| (path.last().expect("a name").clone(), path));
            this.handed_on.insert(module.clone(), names.collect());
        }
        this
    }

    fn graph(&self) -> Graph {
        let edges = self.code.iter().map(|(module, code)| {
            let paths = uses(code).into_iter().filter(|(is_public, _)| !is_public);
            let used = paths.filter_map(|(_, path)| self.resolve(module, &path, 0));
            (module.clone(), used.filter(|other| other != module).collect())
        });
        edges.collect()
    }

    /// The module in which a path ends that is written in `from`; none if it is of another crate.
    fn resolve(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        let mut at = from.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => (at, rest) = (Module::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            name => {
                self.files.get(&joined(from, name))?;
            }
        }
        while let Some(name) = rest.first()
            && self.files.contains_key(&joined(&at, name))
        {
            at.push(name.clone());
            rest = &rest[1..];
        }
        let handed_on = rest.first().and_then(|name| self.handed_on.get(&at)?.get(name));
        let further =
            handed_on.filter(|_| depth < 8).and_then(|path| self.resolve(&at, path, depth + 1));
        further.or_else(|| self.files.contains_key(&at).then_some(at))
    }
}

fn joined(module: &Module, name: &str) -> Module {
    let mut module = module.clone();
    module.push(name.to_owned());
    module
}

/// The modules that a file declares for tests only.
fn test_modules(source: &str) -> impl Iterator<Item = &str> {
    let marked = source.split("#[cfg(").skip(1).filter(|rest| {
        let condition = rest.split(")]").next().unwrap_or_default();
        condition == "test" || condition.starts_with("any(test")
    });
    marked.filter_map(|rest| {
        let line = rest.split_once(")]\n")?.1.lines().next()?.trim();
        let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        line.strip_prefix("mod ")?.strip_suffix(';')
    })
}

/// All paths that a code names, and whether it hands them on.
fn uses(code: &str) -> Vec<(bool, Vec<String>)> {
    let mut found = Vec::new();
    let mut others = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let is_public = line.starts_with("pub");
        let visible = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub(super) "));
        let plain = visible.or(line.strip_prefix("pub ")).unwrap_or(line);
        let Some(tree) = plain.strip_prefix("use ") else {
            others.push_str(line);
            others.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.ends_with(';') {
            tree.push_str(lines.next().expect("a use has an end"));
        }
        let mut paths = Vec::new();
        spread(tree.trim_end_matches(';'), &[], &mut paths);
        found.extend(paths.into_iter().map(|path| (is_public, path)));
    }
    for root in ["crate::", "super::"] {
        let starts = others.match_indices(root).map(|(at, _)| at);
        // Not inside a path, where it is not the first.
        let starts = starts
            .filter(|at| !others[..*at].ends_with(|it: char| it.is_alphanumeric() || it == ':'));
        found.extend(starts.map(|at| {
            let is_path = |letter: char| letter.is_alphanumeric() || "_:".contains(letter);
            let end = others[at..].find(|letter| !is_path(letter)).unwrap_or(others.len() - at);
            let names = others[at..at + end].split("::").filter(|name| !name.is_empty());
            (false, names.map(str::to_owned).collect())
        }));
    }
    found
}

/// The paths of a tree like `a::{b, c::{d, e as f}}`.
fn spread(tree: &str, before: &[String], paths: &mut Vec<Vec<String>>) {
    let (head, inner) = match tree.split_once('{') {
        Some((head, rest)) => (head, rest.rsplit_once('}').map(|(inner, _)| inner)),
        None => (tree.split(" as ").next().unwrap_or_default(), None),
    };
    let names = head.split("::").map(str::trim).filter(|name| !name.is_empty());
    let path: Vec<_> = before.iter().cloned().chain(names.map(str::to_owned)).collect();
    let Some(inner) = inner else { return paths.push(path) };
    let mut depth = 0;
    let branches = inner.split(|letter| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    for branch in branches.filter(|branch| !branch.trim().is_empty()) {
        spread(branch.trim(), &path, paths);
    }
}

/// The shortest way along uses from a module back to itself.
fn circle(graph: &Graph, start: &Module) -> Option<Vec<Module>> {
    let mut from: BTreeMap<&Module, &Module> = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(module) = next.pop_front() {
        for used in graph.get(module).into_iter().flatten() {
            if used == start {
                let mut way = vec![start.clone(), module.clone()];
                while way.last() != Some(start) {
                    way.push(from[&way[way.len() - 1]].clone());
                }
                way.reverse();
                return Some(way);
            }
            if !from.contains_key(used) {
                from.insert(used, module);
                next.push_back(used);
            }
        }
    }
    None
}

/// One circle, the shortest, of each set of files that use each other, by the files on it.
fn circles(of: &Crate) -> Vec<Vec<String>> {
    let graph = of.graph();
    let mut ways: Vec<_> = graph.keys().filter_map(|module| circle(&graph, module)).collect();
    ways.sort_by_key(Vec::len);
    let mut seen = BTreeSet::new();
    ways.retain(|way| {
        let is_new = way.iter().all(|module| !seen.contains(module));
        seen.extend(way.iter().cloned());
        is_new
    });
    ways.iter().map(|way| way.iter().map(|module| of.files[module].clone()).collect()).collect()
}

#[test]
fn no_file_uses_one_that_uses_it() {
    let mut crates: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (path, source) in sources() {
        let folder = path.split_once("/src/").map(|(folder, _)| folder.to_owned());
        if let Some(folder) = folder.filter(|_| !is_test(&path) && !path.contains("/src/bin/")) {
            crates.entry(folder).or_default().push((path, source));
        }
    }
    assert!(crates.len() > 5, "the crates were not found: {:?}", crates.keys());
    let circles = crates.into_values().flat_map(|sources| circles(&Crate::new(sources)));
    let wrong: Vec<_> =
        circles.map(|circle| format!("a circle: {}", circle.join(" uses "))).collect();
    assert_none(&wrong);
}

#[test]
fn a_circle_over_names_that_are_handed_on_is_found() {
    let file = |name: &str, source: &str| (format!("x/src/{name}"), source.to_owned());
    let circle = Crate::new([
        file("lib.rs", "mod a;\nmod b;\n#[cfg(test)]\nmod c;\npub use b::{B, C as D};"),
        file("a.rs", "use std::{\n    fmt,\n};\nfn a() -> crate::B {}"),
        file("b.rs", "use crate::{\n    a::{self, A},\n};\npub struct B;"),
        file("c.rs", "use crate::d;"),
    ]);
    assert_eq!(circles(&circle), [["x/src/a.rs", "x/src/b.rs", "x/src/a.rs"]]);
    let line = Crate::new([
        file("lib.rs", "mod a;\nmod b;\npub use b::B;"),
        file("a/mod.rs", "mod inner;\nuse inner::I;\nuse crate::B;"),
        file("a/inner.rs", "fn i() {}\n#[cfg(test)]\nmod tests {\n    use super::super::A;\n}"),
        file("b.rs", "use crate::b::B as Me;\n// use crate::a::A;\n"),
    ]);
    assert_eq!(circles(&line), [[""; 0]; 0]);
}
