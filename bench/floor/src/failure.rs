//! Why the process ends early, as the user reads it.

use std::fmt;

/// A failure that ends the process. The text says what happened, where, what it means, what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    place: String,
    means: &'static str,
    advice: &'static str,
}

impl Failure {
    /// A failure at a place: a file, an address, or a part of this process.
    pub(crate) fn new(
        what: impl fmt::Display,
        place: impl fmt::Display,
        means: &'static str,
        advice: &'static str,
    ) -> Self {
        Self { what: what.to_string(), place: place.to_string(), means, advice }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, place, means, advice } = self;
        write!(f, "error: {what}\n  in     {place}\n  means  {means}\n  do     {advice}")
    }
}
