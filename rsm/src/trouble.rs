//! The form of an error that a person reads: what happened, where, what it means for the data, and what
//! to do about it.

use std::fmt;

/// An error in four parts, each for a person. Code decides by the type around it, never by these texts.
///
/// Printed, it has a line for each part, and no line for a part that is empty:
///
/// ```text
/// the data directory does not exist
///   in     /var/lib/purlin
///   means  no shard can start; no data was read or changed
///   do     make it with `purlin init`, or correct its path
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// What happened.
    pub what: String,
    /// Where: a file, an address, a node.
    pub place: String,
    /// What it means for the data.
    pub means: String,
    /// What to do about it.
    pub action: String,
}

impl Trouble {
    /// From the four parts.
    pub fn new(
        what: impl Into<String>,
        place: impl Into<String>,
        means: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), place: place.into(), means: means.into(), action: action.into() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        for (name, text) in [("in", &self.place), ("means", &self.means), ("do", &self.action)] {
            if !text.is_empty() {
                write!(f, "\n  {name:<6} {text}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Trouble {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_an_error_has_a_line_and_an_empty_part_has_none() {
        let trouble = Trouble::new("it broke", "here", "nothing is lost", "mend it");
        assert_eq!(
            trouble.to_string(),
            "it broke\n  in     here\n  means  nothing is lost\n  do     mend it"
        );
        let short = Trouble::new("it broke", "", "", "mend it");
        assert_eq!(short.to_string(), "it broke\n  do     mend it");
    }
}
