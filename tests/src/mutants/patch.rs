//! A mutant's file: what it breaks, the rule that it breaks, who should notice, and the patch.

use super::Result;
use std::{fmt, fs, path::Path, path::PathBuf};

/// One planted bug.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutant {
    /// Its file's name without the ending.
    pub slug: String,
    /// What it does wrong.
    pub what: String,
    /// The rule that forbids it.
    pub rule: String,
    /// What is to fail when no seed does.
    pub unit: Option<Unit>,
    /// The files that it changes.
    pub files: Vec<String>,
    /// Where it lies.
    pub path: PathBuf,
}

/// Tests of a package whose name contains the filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// The package.
    pub package: String,
    /// As the test runner takes it.
    pub filter: String,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.filter)
    }
}

impl Mutant {
    /// Reads all patches of a folder, those that change the same crate side by side: what lies under
    /// it need not be built again in between. Of `only`, if that names any.
    ///
    /// # Errors
    /// A patch cannot be read, or a name is none.
    pub fn read_all(folder: &Path, only: &[String]) -> Result<Vec<Self>> {
        let entries = fs::read_dir(folder).map_err(|error| format!("{folder:?}: {error}"))?;
        let mut mutants = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| format!("{folder:?}: {error}"))?.path();
            if path.extension().is_some_and(|extension| extension == "patch") {
                mutants.push(Self::read(&path)?);
            }
        }
        let is_known = |slug: &&String| mutants.iter().any(|mutant| &mutant.slug == *slug);
        if let Some(unknown) = only.iter().find(|slug| !is_known(slug)) {
            return Err(format!("there is no mutant {unknown} in {}", folder.display()));
        }
        mutants.retain(|mutant| only.is_empty() || only.contains(&mutant.slug));
        mutants.sort_by(|a, b| (a.depth(), &a.slug).cmp(&(b.depth(), &b.slug)));
        Ok(mutants)
    }

    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| format!("{path:?}: {error}"))?;
        let mutant = Self::parse(path, &text);
        mutant.map_err(|what| format!("{}: {what}", path.display()))
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let at = text.find("diff --git ").ok_or("it has no `diff --git`")?;
        let (head, patch) = text.split_at(at);
        let field = |name| field(head, name);
        let wanted = |name| field(name).map(str::to_owned).ok_or(format!("it has no `{name}: …`"));
        let unit = |value: &str| {
            let (package, filter) =
                value.split_once(' ').ok_or("`Unit:` is a package and a filter")?;
            Ok::<_, String>(Unit { package: package.to_owned(), filter: filter.trim().to_owned() })
        };
        let files = patch.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        Ok(Self {
            slug: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            what: wanted("What")?,
            rule: wanted("Rule")?,
            unit: field("Unit").map(unit).transpose()?,
            files: files.map(str::to_owned).collect(),
            path: path.to_owned(),
        })
    }

    /// How much is built again after it: the place of its lowest crate.
    fn depth(&self) -> usize {
        const CRATES: [&str; 5] = ["rsm/", "storage/", "transport/", "engine/", "server/"];
        let place = |file: &String| CRATES.iter().position(|name| file.starts_with(name));
        self.files.iter().filter_map(place).min().unwrap_or(CRATES.len())
    }
}

/// The value of the line `name: value`.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    values.next().map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "What: counts itself early\nRule: A4\nUnit: purlin-rsm raft::counts itself\n\n\
        diff --git a/rsm/src/a.rs b/rsm/src/a.rs\n--- a/rsm/src/a.rs\n+++ b/rsm/src/a.rs\n@@ -1 +1 @@\n-a\n+b\n";

    fn parse(text: &str) -> Result<Mutant> {
        Mutant::parse(Path::new("x/early.patch"), text)
    }

    #[test]
    fn a_patch_says_what_it_breaks_and_who_should_notice() {
        let mutant = parse(PATCH).expect("it is whole");
        assert_eq!((mutant.slug.as_str(), mutant.rule.as_str()), ("early", "A4"));
        let unit = mutant.unit.as_ref().map(Unit::to_string);
        assert_eq!(unit.as_deref(), Some("purlin-rsm raft::counts itself"));
        assert_eq!((mutant.files.clone(), mutant.depth()), (vec!["rsm/src/a.rs".to_owned()], 0));
    }

    #[test]
    fn a_patch_without_a_rule_or_a_diff_is_none() {
        for line in ["What: counts itself early\n", "Rule: A4\n", "diff --git"] {
            let error = parse(&PATCH.replacen(line, "", 1)).expect_err(line);
            assert!(error.starts_with("it has no"), "{error}");
        }
        let without_unit = PATCH.replace("Unit: purlin-rsm raft::counts itself\n", "");
        assert_eq!(parse(&without_unit).expect("a unit test is no must").unit, None);
        assert!(parse(&PATCH.replace(" raft::counts itself", "")).is_err());
    }

    #[test]
    fn every_patch_here_can_be_read_and_changes_something() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
        for mutant in Mutant::read_all(&folder, &[]).expect("all are whole") {
            assert!(!mutant.files.is_empty(), "{} changes nothing", mutant.slug);
        }
        assert!(Mutant::read_all(&folder, &["no such mutant".to_owned()]).is_err());
    }
}
