//! One change that a mutant makes: the lines that stand in a file, and the lines that take their place.
//!
//! The lines to replace are found by their text and not by their number, so that a mutant survives a move.
//! Blank lines, lines that hold only a comment, and indentation do not count.

use super::Result;
use std::ops::Range;

/// One change of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// The file, from the root of the tree.
    pub file: String,
    /// The lines to replace. The file holds them once.
    pub before: Vec<String>,
    /// The lines that take their place.
    pub after: Vec<String>,
}

/// How often a file holds the lines to replace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Nowhere,
    /// At these lines of the file, counted from 0.
    Once(Range<usize>),
    Often(usize),
}

impl Edit {
    /// Finds the lines to replace in a file's text.
    pub(super) fn find(&self, text: &str) -> Found {
        let wanted: Vec<&str> = self.before.iter().map(|line| line.trim()).collect();
        let lines: Vec<(usize, &str)> = lines_of_code(text).collect();
        let is_here = |window: &&[(usize, &str)]| window.iter().map(|(_, line)| line).eq(&wanted);
        let mut places = lines.windows(wanted.len().max(1)).filter(is_here);
        let Some(place) = places.next() else { return Found::Nowhere };
        match places.count() {
            0 => Found::Once(place[0].0..place[place.len() - 1].0 + 1),
            others => Found::Often(others + 1),
        }
    }

    /// Whether it changes nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.before.iter().map(|line| line.trim()).eq(self.after.iter().map(|line| line.trim()))
    }
}

/// Applies edits of one file to its text.
///
/// # Errors
/// The text does not hold what an edit replaces, or holds it more than once, or two edits overlap.
pub(super) fn apply(text: &str, edits: &[&Edit]) -> Result<String> {
    let mut places = Vec::new();
    for edit in edits {
        match edit.find(text) {
            Found::Once(place) => places.push((place, &edit.after)),
            Found::Nowhere => return Err(format!("{} does not hold {:?}", edit.file, edit.before)),
            Found::Often(times) => {
                return Err(format!("{} holds {:?} {times} times", edit.file, edit.before));
            }
        }
    }
    places.sort_by_key(|(place, _)| place.start);
    if let Some([(_, _), (second, _)]) = places.windows(2).find(|it| it[0].0.end > it[1].0.start) {
        return Err(format!("two edits overlap at line {}", second.start + 1));
    }
    let mut lines: Vec<&str> = text.split('\n').collect();
    for (place, after) in places.into_iter().rev() {
        lines.splice(place, after.iter().map(String::as_str));
    }
    Ok(lines.join("\n"))
}

/// The lines that hold code, each with its place in the text and without its indentation.
fn lines_of_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.split('\n').map(str::trim).enumerate();
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "fn a() {\n    one();\n    // Why.\n\n    two();\n}\n\nfn b() {\n    one();\n}\n";

    fn edit(before: &[&str], after: &[&str]) -> Edit {
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        Edit { file: "a.rs".to_owned(), before: owned(before), after: owned(after) }
    }

    #[test]
    fn lines_are_found_whatever_their_indentation_and_the_comments_between_them() {
        assert_eq!(edit(&["two();"], &[]).find(TEXT), Found::Once(4..5));
        assert_eq!(edit(&["one();", "  two();"], &[]).find(TEXT), Found::Once(1..5));
        assert_eq!(edit(&["one();"], &[]).find(TEXT), Found::Often(2));
        assert_eq!(edit(&["two()"], &[]).find(TEXT), Found::Nowhere, "lines are whole");
        assert_eq!(edit(&[], &[]).find(TEXT), Found::Nowhere);
    }

    #[test]
    fn a_line_that_is_found_once_is_replaced() {
        let edits = [edit(&["fn b() {"], &["fn c() {", "}"]), edit(&["two();"], &[])];
        let changed = apply(TEXT, &edits.each_ref()).expect("each is found once");
        assert_eq!(
            changed,
            "fn a() {\n    one();\n    // Why.\n\n}\n\nfn c() {\n}\n    one();\n}\n"
        );
    }

    #[test]
    fn lines_that_are_missing_or_not_unique_are_refused() {
        let fails = |edits: &[&Edit]| apply(TEXT, edits).expect_err("it cannot be applied");
        assert!(fails(&[&edit(&["one();"], &[])]).contains("2 times"));
        assert!(fails(&[&edit(&["three();"], &[])]).contains("does not hold"));
        let overlapping = [edit(&["one();", "two();"], &[]), edit(&["two();"], &[])];
        assert!(fails(&overlapping.each_ref()).contains("overlap at line 5"));
    }

    #[test]
    fn a_change_of_indentation_alone_is_none() {
        assert!(edit(&["one();"], &["  one();"]).is_idle());
        assert!(!edit(&["one();"], &[]).is_idle());
    }
}
