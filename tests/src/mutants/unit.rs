//! The test that a mutant names, and where it stands: only what holds that test is built.

use super::Result;
use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

/// A test of a package.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Unit {
    /// The package.
    pub package: String,
    /// The name of the test's function, without modules.
    pub test: String,
}

/// Where a test stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    /// The folder of its package, below the root: tests run in it.
    pub(super) folder: PathBuf,
    /// What cargo is to build of the package, as its arguments.
    pub(super) targets: BTreeSet<String>,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.test)
    }
}

impl Unit {
    /// Finds the test in the tree at `root`.
    ///
    /// # Errors
    /// There is no such package, or it has no such test.
    pub(super) fn find(&self, root: &Path) -> Result<Place> {
        let folder = folder_of(root, &self.package)?;
        let mut files = Vec::new();
        ["src", "tests"]
            .iter()
            .for_each(|part| collect(&root.join(&folder).join(part), &mut files));
        let holds = |file: &&PathBuf| {
            let text = fs::read_to_string(file).unwrap_or_default();
            // Most files do not even name it.
            text.contains(&self.test) && holds_test(&text, &self.test)
        };
        let target = |file: &PathBuf| {
            let name = file.strip_prefix(root.join(&folder).join("tests")).ok()?;
            let first = Path::new(name.components().next()?.as_os_str());
            Some(format!("--test={}", first.file_stem()?.to_string_lossy()))
        };
        let targets: BTreeSet<String> = files
            .iter()
            .filter(holds)
            .map(|file| target(file).unwrap_or("--lib".to_owned()))
            .collect();
        if targets.is_empty() {
            return Err(format!("the package {} has no test `{}`", self.package, self.test));
        }
        Ok(Place { folder, targets })
    }
}

/// Whether a source has a test of this name: a function behind `#[test]`, or a script of the list
/// `scripts!`, of which each makes a test.
fn holds_test(source: &str, name: &str) -> bool {
    let mut is_test = false;
    let mut is_script = false;
    for line in source.lines().map(str::trim) {
        match line {
            _ if line.is_empty() || line.starts_with("//") => continue,
            "scripts! {" => is_script = true,
            "}" => is_script = false,
            _ if is_script && line == name => return true,
            _ if line.starts_with("#[") => {
                is_test |= line == "#[test]";
                continue;
            }
            _ => {}
        }
        let is_named =
            |rest: &str| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('('));
        if is_test && line.strip_prefix("fn ").is_some_and(is_named) {
            return true;
        }
        is_test = false;
    }
    false
}

/// The folder of a package, below the root.
fn folder_of(root: &Path, package: &str) -> Result<PathBuf> {
    let first_name = |manifest: &str| {
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = "))?;
        Some(name.trim_matches('"').to_owned())
    };
    let is_it = |folder: &PathBuf| {
        let manifest = fs::read_to_string(folder.join("Cargo.toml"));
        manifest.is_ok_and(|text| first_name(&text).as_deref() == Some(package))
    };
    let folders = fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let found = folders.filter_map(|entry| Some(entry.ok()?.path())).find(is_it);
    let found = found.ok_or(format!("there is no package {package}"))?;
    Ok(found.strip_prefix(root).expect("it lies below the root").to_owned())
}

/// Collects the Rust sources below a folder, which need not be there.
pub(super) fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_told_from_other_functions_and_names() {
        let source = "fn help() {}\n\n    /// Says.\n    #[test]\n    #[should_panic]\n    // Why.\n    fn wins(a: A) {}\n\n    \
            #[cfg(x)]\n    fn loses() {}\n\nscripts! {\n    // Some.\n    bridge\n}\n\nother\n";
        for (name, expected) in [
            ("wins", true),
            ("win", false),
            ("help", false),
            ("loses", false),
            ("bridge", true),
            ("other", false),
        ] {
            assert_eq!(holds_test(source, name), expected, "{name}");
        }
    }

    #[test]
    fn a_test_is_found_with_the_target_that_holds_it() {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is around it");
        let find = |package: &str, test: &str| {
            Unit { package: package.to_owned(), test: test.to_owned() }.find(root)
        };
        let here = find("purlin-tests", "a_test_is_found_with_the_target_that_holds_it");
        let (folder, targets) = (PathBuf::from("tests"), BTreeSet::from(["--lib".to_owned()]));
        assert_eq!(here, Ok(Place { folder, targets }));
        let there = find("purlin-tests", "packages_depend_one_way").expect("it is a test");
        assert_eq!(there.targets, BTreeSet::from(["--test=architecture".to_owned()]));
        assert!(find("purlin-tests", "no_such_test").is_err_and(|it| it.contains("no test")));
        assert!(find("purlin-no-such", "bridge").is_err_and(|it| it.contains("no package")));
    }
}
