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
    // A name may be as long as a value, so it is not copied.
    let is = |name: &[u8]| arguments[0].eq_ignore_ascii_case(name);
    let is_alone = arguments.len() == 1;
    if is(b"reset") || is(b"quit") {
        // RESET forgets the refusal, with the rest of what the connection has said.
        None
    } else if is(b"exec") && is_alone {
        client.has_refused_multi.set(false);
        Some(Err(words::EXEC_ABORT))
    } else if is(b"discard") && is_alone {
        client.has_refused_multi.set(false);
        Some(Ok(()))
    } else if is(b"multi") {
        Some(Err(words::NESTED_MULTI))
    } else {
        Some(Err(words::BEHIND_REFUSED_MULTI))
    }
}
