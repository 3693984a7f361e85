//! What is always true of a WAL in memory: each invariant has a name, and a check that says which one
//! does not hold and by which values.

use std::fmt;

/// An invariant that does not hold: a bug in this crate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The invariant, as a sentence that should be true.
    pub invariant: &'static str,
    /// The values that break it.
    pub values: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the rule \"{}\" is broken: {}", self.invariant, self.values)
    }
}

/// Checks one invariant; `values` is made only when it does not hold.
pub(crate) fn holds(
    is_true: bool,
    invariant: &'static str,
    values: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if is_true { Ok(()) } else { Err(Violation { invariant, values: values() }) }
}
