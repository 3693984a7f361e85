//! A mutant's file: what the mutant breaks, the rule that it breaks, the test that should fail, and the edits.

use super::{Result, Unit, edit::Edit};
use std::{fs, path::Path};

/// One planted bug.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutant {
    /// The name of its file without the ending.
    pub slug: String,
    /// What it does wrong.
    pub what: String,
    /// The rule that forbids it.
    pub rule: String,
    /// What is to fail when no seed does.
    pub unit: Unit,
    /// What it changes.
    pub edits: Vec<Edit>,
}

impl Mutant {
    /// Reads all mutants of a folder, or those that `only` names, in an order in which little is built again:
    /// first by the package of the unit test, then by the lowest crate that the mutant changes.
    ///
    /// # Errors
    /// A file cannot be read, or is not in the format, or a name of `only` is no mutant's.
    pub fn read_all(folder: &Path, only: &[String]) -> Result<Vec<Self>> {
        let entries = fs::read_dir(folder).map_err(|error| format!("{folder:?}: {error}"))?;
        let mut mutants = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| format!("{folder:?}: {error}"))?.path();
            mutants.push(Self::read(&path)?);
        }
        let is_known = |slug: &&String| mutants.iter().any(|mutant| &mutant.slug == *slug);
        if let Some(unknown) = only.iter().find(|slug| !is_known(slug)) {
            return Err(format!("there is no mutant {unknown} in {}", folder.display()));
        }
        mutants.retain(|mutant| only.is_empty() || only.contains(&mutant.slug));
        mutants.sort_by_cached_key(|it| (it.unit.depth(), it.depth(), it.slug.clone()));
        Ok(mutants)
    }

    fn read(path: &Path) -> Result<Self> {
        let at = |what: String| format!("{}: {what}", path.display());
        let text = fs::read_to_string(path).map_err(|error| at(error.to_string()))?;
        if path.extension().is_none_or(|extension| extension != "txt") {
            return Err(at("the name of a mutant's file ends in .txt".to_owned()));
        }
        let slug = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&slug, &text).map_err(at)
    }

    pub(super) fn parse(slug: &str, text: &str) -> Result<Self> {
        let (head, edits) = text.split_once("\n\n").ok_or("it has no edit behind an empty line")?;
        let wanted =
            |name| field(head, name).map(str::to_owned).ok_or(format!("it has no `{name}: …`"));
        let unit = wanted("Unit")?;
        let (package, test) = unit.split_once(' ').ok_or("`Unit:` is a package and a test")?;
        Ok(Self {
            slug: slug.to_owned(),
            what: wanted("What")?,
            rule: wanted("Rule")?,
            unit: Unit { package: package.to_owned(), test: test.trim().to_owned() },
            edits: parse_edits(edits)?,
        })
    }

    /// How much is built again after it: the place of the lowest crate that it changes.
    fn depth(&self) -> usize {
        self.edits.iter().map(|edit| depth(edit.file.split('/').next())).min().unwrap_or(0)
    }
}

impl Unit {
    /// How much is built for it: the place of its package.
    fn depth(&self) -> usize {
        let name = self.package.strip_prefix("purlin-");
        depth(Some(name.unwrap_or("engine")))
    }
}

/// The place of a crate among all crates, each of which builds on those before it.
fn depth(folder: Option<&str>) -> usize {
    const CRATES: [&str; 6] = ["rsm", "kv", "storage", "transport", "engine", "server"];
    CRATES.iter().position(|name| folder == Some(*name)).unwrap_or(CRATES.len())
}

/// The value of the line `name: value`.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    values.next().map(str::trim).filter(|value| !value.is_empty())
}

/// Which block the indented lines belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    Before,
    After,
}

/// Reads `File:` lines, each with one or more pairs of a `Before:` and an `After:` block.
fn parse_edits(text: &str) -> Result<Vec<Edit>> {
    let mut edits: Vec<Edit> = Vec::new();
    let mut file = None;
    let mut block = Block::None;
    for line in text.lines() {
        let code = line.strip_prefix("    ");
        match (line, code, block) {
            ("Before:", ..) if block != Block::Before => {
                let file: &String = file.as_ref().ok_or("`Before:` stands before any `File:`")?;
                edits.push(Edit { file: file.clone(), before: Vec::new(), after: Vec::new() });
                block = Block::Before;
            }
            ("After:", _, Block::Before) => block = Block::After,
            (_, Some(code), Block::Before) => push(&mut edits, code, |edit| &mut edit.before),
            (_, Some(code), Block::After) => push(&mut edits, code, |edit| &mut edit.after),
            ("", ..) => {}
            _ => {
                let name = line.strip_prefix("File: ").filter(|_| block != Block::Before);
                file = Some(name.ok_or(format!("`{line}` does not belong here"))?.to_owned());
                block = Block::None;
            }
        }
    }
    if block != Block::After {
        return Err("its last edit has no `After:`".to_owned());
    }
    Ok(edits)
}

fn push(edits: &mut [Edit], line: &str, block: impl FnOnce(&mut Edit) -> &mut Vec<String>) {
    let edit = edits.last_mut().expect("a block is open, and opening it has made its edit");
    block(edit).push(line.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUTANT: &str = "What: counts itself early\nRule: A4\nUnit: purlin-rsm counts_itself\n\n\
        File: rsm/src/a.rs\nBefore:\n    if a {\n        b();\nAfter:\n    if c {\n\nBefore:\n    d();\nAfter:\n\n\
        File: storage/src/b.rs\nBefore:\n    e();\nAfter:\n    f();\n";

    fn parse(text: &str) -> Result<Mutant> {
        Mutant::parse("early", text)
    }

    #[test]
    fn a_mutant_says_what_it_breaks_and_who_should_notice() {
        let mutant = parse(MUTANT).expect("it is whole");
        assert_eq!((mutant.slug.as_str(), mutant.rule.as_str()), ("early", "A4"));
        assert_eq!(mutant.unit.to_string(), "purlin-rsm counts_itself");
        assert_eq!((mutant.unit.depth(), mutant.depth()), (0, 0));
    }

    #[test]
    fn a_mutant_has_several_edits_in_several_files() {
        let edit = |file: &str, before: &[&str], after: &[&str]| {
            let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
            Edit { file: file.to_owned(), before: owned(before), after: owned(after) }
        };
        let expected = [
            edit("rsm/src/a.rs", &["if a {", "    b();"], &["if c {"]),
            edit("rsm/src/a.rs", &["d();"], &[]),
            edit("storage/src/b.rs", &["e();"], &["f();"]),
        ];
        assert_eq!(parse(MUTANT).expect("it is whole").edits, expected);
    }

    #[test]
    fn a_mutant_that_lacks_a_part_is_refused() {
        let head =
            ["What: counts itself early\n", "Rule: A4\n", "Unit: purlin-rsm counts_itself\n"];
        let edit = [" counts_itself", "File: rsm/src/a.rs\n", "Before:\n", "After:\n"];
        for part in head.into_iter().chain(edit) {
            assert!(parse(&MUTANT.replacen(part, "", 1)).is_err(), "without {part}");
        }
        let idle = "What: it\nRule: A4\nUnit: purlin-rsm it\n\nFile: a.rs\n";
        assert!(parse(idle).is_err(), "it changes nothing");
    }
}
