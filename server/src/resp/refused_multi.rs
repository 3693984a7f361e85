//! The commands behind a refused `MULTI`. A client that sends a transaction in one pipeline sends its
//! commands before it reads that `MULTI` was refused. They are not run: otherwise they would take effect
//! one by one, and a client that repeats the failed transaction would repeat their effect.
//!
//! ```text
//! MULTI    -ERR MULTI is not offered: ...
//! INCR a   -ERR the command was not run, ...      until EXEC, DISCARD, RESET, or the connection's end
//! EXEC     -EXECABORT ...
//! ```

use super::{front::ClientState, parser::Arguments, words};

/// Notes that a request was refused which `name` begins.
pub(super) fn note_refusal(client: &ClientState, name: &[u8]) {
    if name.eq_ignore_ascii_case(b"multi") {
        client.has_refused_multi.set(true);
    }
}

/// The reply to a request that must not run, because it stands behind a refused `MULTI`: OK, or the text of
/// an error. Nothing for a request that runs.
pub(super) fn reply_behind(
    client: &ClientState,
    arguments: Arguments<'_>,
) -> Option<Result<(), &'static str>> {
    if !client.has_refused_multi.get() {
        return None;
    }
    let name = arguments[0].to_ascii_lowercase();
    match (name.as_slice(), arguments.len()) {
        // RESET forgets the refusal, with the rest of what the connection has said.
        (b"reset" | b"quit", _) => None,
        (b"exec", 1) => {
            client.has_refused_multi.set(false);
            Some(Err(words::EXEC_ABORT))
        }
        (b"discard", 1) => {
            client.has_refused_multi.set(false);
            Some(Ok(()))
        }
        (b"multi", _) => Some(Err(words::NESTED_MULTI)),
        _ => Some(Err(words::BEHIND_REFUSED_MULTI)),
    }
}
