//! What a command prints for people and scripts.

use std::io::{self, Write};

/// Prints `text` and the end of a line, at once. When nobody reads any more, there is nobody to tell.
pub(crate) fn say(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    // A closed pipe ends no cluster.
    let _ = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
}
