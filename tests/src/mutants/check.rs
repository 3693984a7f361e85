//! Whether all mutants can be planted, found out without a build.

use super::{
    Mutant, Result,
    edit::{Edit, Found, apply},
    unit::collect,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Returns how many mutants there are in `folder`, once all fit the tree at `root`: each file is there and
/// holds what is to be replaced exactly once, something else takes its place, and each `Unit:` is a test.
///
/// # Errors
/// Some mutants do not fit. Each line names one of them, says why, and where its lines may have gone.
pub fn check(root: &Path, folder: &Path) -> Result<usize> {
    let mutants = Mutant::read_all(folder, &[])?;
    let mut sources = Sources { root, texts: BTreeMap::new() };
    let mut wrong = Vec::new();
    for mutant in &mutants {
        let faults = mutant.faults(&mut sources);
        wrong.extend(faults.into_iter().map(|fault| format!("{}: {fault}", mutant.slug)));
    }
    if wrong.is_empty() { Ok(mutants.len()) } else { Err(wrong.join("\n")) }
}

/// The files that were read.
struct Sources<'a> {
    root: &'a Path,
    texts: BTreeMap<String, String>,
}

impl Mutant {
    fn faults(&self, sources: &mut Sources<'_>) -> Vec<String> {
        let mut faults = Vec::new();
        let mut by_file: BTreeMap<&str, Vec<&Edit>> = BTreeMap::new();
        for edit in &self.edits {
            by_file.entry(&edit.file).or_default().push(edit);
            if edit.is_idle() {
                faults.push(format!("it leaves {} as it is", edit.file));
            }
        }
        for (file, edits) in by_file {
            let Some(text) = sources.text(file) else {
                faults.push(format!("there is no {file}{}", sources.moved(file)));
                continue;
            };
            let missing = edits.iter().find(|edit| edit.find(text) == Found::Nowhere).copied();
            if let Err(fault) = apply(text, &edits) {
                let hint = missing.map(|edit| sources.holder(edit)).unwrap_or_default();
                faults.push(format!("{fault}{hint}"));
            }
        }
        faults.extend(self.unit.find(sources.root).err());
        faults
    }
}

impl Sources<'_> {
    fn text(&mut self, file: &str) -> Option<&str> {
        if !self.texts.contains_key(file) {
            let text = fs::read_to_string(self.root.join(file)).ok()?;
            self.texts.insert(file.to_owned(), text);
        }
        self.texts.get(file).map(String::as_str)
    }

    /// Where a file that is gone may be now: the only one of its name in the same crate.
    fn moved(&self, file: &str) -> String {
        let name = Path::new(file).file_name();
        let files = self.files_beside(file).into_iter();
        match &files.filter(|file| file.file_name() == name).collect::<Vec<_>>()[..] {
            [only] => format!("; did it move to {}?", only.display()),
            _ => String::new(),
        }
    }

    /// Where the lines of an edit may be now: the only file of the same crate that holds them once.
    fn holder(&mut self, edit: &Edit) -> String {
        let mut holders = Vec::new();
        for file in self.files_beside(&edit.file) {
            let file = file.display().to_string();
            if self.text(&file).is_some_and(|text| matches!(edit.find(text), Found::Once(_))) {
                holders.push(file);
            }
        }
        match &holders[..] {
            [only] => format!("; {only} does"),
            _ => String::new(),
        }
    }

    /// The sources of a file's crate, below the root.
    fn files_beside(&self, file: &str) -> Vec<PathBuf> {
        let crate_folder = file.split('/').next().unwrap_or_default();
        let mut files = Vec::new();
        collect(&self.root.join(crate_folder), &mut files);
        let below = |file: PathBuf| Some(file.strip_prefix(self.root).ok()?.to_owned());
        files.into_iter().filter_map(below).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is around it")
    }

    /// What is wrong with a mutant of this file.
    fn faults(file: &str, before: &str, after: &str, unit: &str) -> String {
        let text = format!(
            "What: It does.\nRule: A1\nUnit: {unit}\n\nFile: {file}\nBefore:\n    {before}\nAfter:\n    {after}\n"
        );
        let mutant = Mutant::parse("sly", &text).expect("it is in the format");
        mutant.faults(&mut Sources { root: root(), texts: BTreeMap::new() }).join("\n")
    }

    #[test]
    fn every_mutant_can_be_planted() {
        let mutants =
            check(root(), &root().join("tests/mutants/planted")).unwrap_or_else(|wrong| {
                panic!("mutants that do not fit (see tests/mutants/README.md):\n{wrong}")
            });
        assert!(mutants > 100, "{mutants} mutants");
    }

    #[test]
    fn a_mutant_that_does_not_fit_is_named_with_the_reason() {
        let here = "tests/src/mutants/check.rs";
        let (line, unit) = ("struct Sources<'a> {", "purlin-tests every_mutant_can_be_planted");
        assert_eq!(faults(here, line, "struct Other {", unit), "");
        assert!(faults(here, line, line, unit).contains("leaves tests/src/mutants/check.rs"));
        assert_eq!(faults(here, "use super::*;", "", unit), "", "a deletion is a change");
        assert!(faults(here, "no such line", "", unit).contains("does not hold"));
        assert!(faults(here, "}", "", unit).contains("times"));
        assert!(faults(here, line, "", "purlin-tests no_such").contains("no test `no_such`"));
    }

    #[test]
    fn lines_that_have_moved_are_looked_for_in_the_same_crate() {
        let (line, unit) = ("struct Sources<'a> {", "purlin-tests every_mutant_can_be_planted");
        let moved = faults("tests/src/check.rs", line, "", unit);
        assert_eq!(
            moved,
            "there is no tests/src/check.rs; did it move to tests/src/mutants/check.rs?"
        );
        let elsewhere = faults("tests/src/lib.rs", line, "", unit);
        assert!(elsewhere.ends_with("; tests/src/mutants/check.rs does"), "{elsewhere}");
    }
}
