//! The texts of error replies.
//!
//! The first word is for clients, which decide by it whether to try again: `CLUSTERDOWN`,
//! `TRYAGAIN` and `LOADING` mean that the request was certainly not applied, `UNKNOWN` that it may
//! have been. A read is never `UNKNOWN`: it changes nothing, so it may be asked again. The rest of a
//! text is for people. Where Redis has a text for a mistake, it is that text, since client libraries
//! compare some of the texts as a whole.

use super::{parser::Arguments, topology::Endpoint};
use purlin::{GroupId, Index, Position, RequestError, Term};
use std::borrow::Cow;

pub(super) const SYNTAX: &str = "ERR syntax error";
pub(super) const NO_EXPIRY: &str = "ERR SET with an expiry is not offered: keys do not expire in this \
    version; nothing was changed, leave out EX, PX, EXAT, PXAT and KEEPTTL";
pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(super) const DECREMENT_OVERFLOW: &str = "ERR decrement would overflow";
pub(super) const NO_SUCH_DB: &str = "ERR DB index is out of range";
pub(super) const NO_PROTOCOL: &str = "NOPROTO unsupported protocol version";
pub(super) const PROTOCOL_NOT_AN_INTEGER: &str =
    "ERR Protocol version is not an integer or out of range";
/// Client libraries compare the whole of this text of Redis.
pub(super) const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured \
    for the default user. Are you sure your configuration is correct?";
pub(super) const BAD_CLIENT_NAME: &str =
    "ERR Client names cannot contain spaces, newlines or special characters.";
pub(super) const CLIENT_NAME_TOO_LONG: &str = "ERR a name is longer than 256 bytes; nothing was \
    changed, use a shorter one";
/// Client libraries know the kind of this error of Redis.
pub(super) const EXEC_ABORT: &str = "EXECABORT Transaction discarded because of previous errors.";
pub(super) const NESTED_MULTI: &str = "ERR MULTI calls can not be nested";
pub(super) const BEHIND_REFUSED_MULTI: &str = "ERR the command was not run, because the MULTI before \
    it was refused; nothing was changed; send DISCARD, then the command again";
pub(super) const PATTERNS_TOO_LONG: &str = "ERR the patterns have more than 1024 bytes together; \
    nothing was changed, use shorter patterns or fewer";
pub(super) const TOO_MANY_NAMES: &str = "ERR the request names more than 128 commands; nothing was \
    changed, ask for fewer at a time";
/// Client libraries compare the whole of these texts of Redis.
pub(super) const CROSS_SLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";
pub(super) const BAD_SLOT: &str = "ERR Invalid or out of range slot";
pub(super) const KEY_TOO_LONG: &str =
    "ERR key is longer than 64 KiB; nothing was changed, use a shorter one";
/// Client libraries compare the whole of this text of Redis. The number is in the log.
pub(super) const MAX_CLIENTS: &str = "ERR max number of clients reached";
pub(super) const ANSWER_TOO_LONG: &str = "ERR the values are more than 64 MiB together; nothing was changed, ask for fewer keys at a time";

/// A group sent a result that this node cannot read.
pub(super) fn strange_outcome(group: GroupId, is_read: bool) -> String {
    let (kind, effect) = match is_read {
        true => ("ERR", "nothing was changed"),
        false => ("UNKNOWN outcome:", "the command may be applied"),
    };
    format!(
        "{kind} the leader of group {group} sent a result that this node does not understand; \
         {effect}; run one version on all nodes"
    )
}

/// Why a group gave no result, by what a read or a write means by it.
pub(super) fn request_error(group: GroupId, is_read: bool, error: &RequestError) -> String {
    // Long because each error has a text of its own.
    match error {
        RequestError::Busy => format!(
            "TRYAGAIN group {group} is busy: a queue on the way to its leader is full; not applied, \
             try again after a pause"
        ),
        RequestError::NoLeader { waited_ms } => format!(
            "CLUSTERDOWN this node reached no leader of group {group} for {waited_ms} ms; not applied, \
             try again; if this lasts, `purlin status` says what is wrong"
        ),
        RequestError::NotApplied | RequestError::Unknown { .. } if is_read => format!(
            "TRYAGAIN group {group} did not answer the read: its leader changed, a connection was \
             lost, or the time ran out; a read changes nothing, try again"
        ),
        RequestError::NotApplied => format!(
            "TRYAGAIN group {group} did not execute the command: its leader changed, or could not \
             take the command; not applied, try again"
        ),
        RequestError::Unknown { term, index, position } => format!(
            "UNKNOWN outcome: the leader changed, a connection was lost, or the time ran out while the \
             command was under way; it may be applied, now or later: read before you repeat it \
             ({})",
            place(group, *index, *term, *position)
        ),
        RequestError::TooLarge { bytes, limit } => format!(
            "ERR the command has {bytes} bytes and a shard takes {limit} at most \
             (`cluster.max_command`); not applied, use a shorter value or fewer keys"
        ),
        RequestError::NoSpace => format!(
            "TRYAGAIN the leader of group {group} has no room for its log: its disk is full, or it has no \
             file descriptor left; not applied, try again when there is room"
        ),
        RequestError::NoMemory => format!(
            "OOM command not allowed when used memory > 'maxmemory'. The leader of group {group} has no memory \
             for more data (`kv.max_memory`); not applied: delete keys, or give the nodes more memory"
        ),
        RequestError::Loading => format!(
            "LOADING the leader of group {group} is loading its data after a start; nothing was done, try again"
        ),
        RequestError::NoSuchGroup => format!(
            "ERR this node has no group {group}; not applied, compare `cluster.groups` in the \
             configuration files of all nodes"
        ),
        RequestError::GroupStopped => format!(
            "ERR the state machine of group {group} has stopped at an earlier command; not applied; \
             `RAFT GROUP {group}` at the admin port and the logs of the nodes name that command"
        ),
        RequestError::QueryFailed => format!(
            "ERR the state machine of group {group} failed at this read, which was not answered; a read \
             changes nothing; the log of the leader's node says more"
        ),
        RequestError::ShardStopped { shard } => format!(
            "CLUSTERDOWN shard {shard} of this node has stopped, and group {group} is one of its groups; not applied, \
             use another node; `purlin status` says why"
        ),
        RequestError::Stopping => {
            "LOADING this node is stopping; not applied, use another node".into()
        }
        other if is_read => format!(
            "ERR group {group} did not answer the read: {other}; a read changes nothing, try again"
        ),
        // What this front end does not know may mean anything.
        other => format!("UNKNOWN outcome: {other}; it may be applied (group {group})"),
    }
}

/// Where a command stands, as far as that is known.
fn place(group: GroupId, index: Index, term: Term, position: Position) -> String {
    let mut text = format!("group {group}");
    for (name, number) in [("index", index.0), ("term", term.0), ("position", position.0)] {
        if number > 0 {
            text += &format!(", {name} {number}");
        }
    }
    text
}

/// A command was done by some groups and not by `group`, for the reason in `text`.
pub(super) fn partly_done(done: usize, all: usize, group: GroupId, text: &str) -> String {
    format!("UNKNOWN outcome: done in {done} of {all} groups, but group {group} said: {text}")
}

/// Another shard leads the group of a slot. Clients read the whole of this text.
pub(super) fn moved(slot: u16, to: &Endpoint) -> String {
    format!("MOVED {slot} {}:{}", to.host, to.port)
}

/// The keys of a command that must be atomic lie in two groups.
pub(super) fn not_atomic(name: &str, one: GroupId, other: GroupId) -> String {
    let name = name.to_uppercase();
    format!(
        "CROSSSLOT {name} would not be atomic: its keys lie in groups {one} and {other}; nothing \
         was changed, give them one {{hash tag}} or set them one by one"
    )
}

/// An error shows so many bytes of an argument, as that of Redis does.
const SHOWN_MAX: usize = 128;

/// An argument as an error shows it: its beginning.
pub(super) fn shown(argument: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&argument[..argument.len().min(SHOWN_MAX)])
}

/// The text of Redis for a command that it does not know.
pub(super) fn unknown_command(arguments: Arguments<'_>) -> String {
    let mut list = String::new();
    for argument in arguments.from(1).iter() {
        if list.len() >= SHOWN_MAX {
            break;
        }
        let left = &argument[..argument.len().min(SHOWN_MAX - list.len())];
        list += &format!("'{}' ", shown(left));
    }
    format!("ERR unknown command '{}', with args beginning with: {list}", shown(&arguments[0]))
}

/// The text of Redis for a subcommand that it does not know, with the subcommands that there are.
pub(super) fn unknown_subcommand(
    container: &str,
    known: impl Iterator<Item = &'static str>,
    name: &[u8],
) -> String {
    format!(
        "ERR unknown subcommand '{}'. {} has {}.",
        shown(name),
        container.to_uppercase(),
        known.map(str::to_uppercase).collect::<Vec<_>>().join(", ")
    )
}

/// A command has more arguments than it takes, or more keys than a command may have.
pub(super) fn too_many_arguments(
    name: &str,
    keys_max: Option<usize>,
    most: usize,
    arguments: usize,
) -> String {
    let name = name.replace('|', " ").to_uppercase();
    let (what, fewer) = match keys_max {
        Some(keys) => (format!("{keys} keys"), "keys"),
        None => (format!("{most} arguments with its name"), "arguments"),
    };
    format!(
        "ERR {name} takes {what} at most, and this request has {arguments} arguments; nothing was \
         changed, use several commands with fewer {fewer} each"
    )
}

/// The text of Redis for too many or too few arguments.
pub(super) fn wrong_arity(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_kv::KEY_BYTES_MAX;

    #[test]
    fn only_what_was_certainly_not_applied_may_be_tried_again() {
        for error in [
            RequestError::Busy,
            RequestError::NoLeader { waited_ms: 10 },
            RequestError::NotApplied,
            RequestError::UNKNOWN,
            RequestError::TooLarge { bytes: 2, limit: 1 },
            RequestError::NoSpace,
            RequestError::NoMemory,
            RequestError::Loading,
            RequestError::NoSuchGroup,
            RequestError::GroupStopped,
            RequestError::QueryFailed,
            RequestError::ShardStopped { shard: purlin::ShardId(1) },
            RequestError::Stopping,
        ] {
            let text = request_error(GroupId(1), false, &error);
            let is_in_doubt = text.starts_with("UNKNOWN ");
            assert_eq!(is_in_doubt, !error.is_definitely_not_applied(), "{text}");
        }
    }

    #[test]
    fn an_error_shows_128_bytes_of_an_argument() {
        let long = vec![b'a'; 1 << 20];
        assert_eq!(shown(&long), "a".repeat(SHOWN_MAX));
        assert_eq!(shown(b"short"), "short");
        assert!(unknown_subcommand("client", std::iter::empty(), &long).len() < 2 * SHOWN_MAX);
    }

    #[test]
    fn a_read_is_never_unknown() {
        for error in [RequestError::UNKNOWN, RequestError::NotApplied] {
            let text = request_error(GroupId(3), true, &error);
            assert!(text.starts_with("TRYAGAIN group 3 did not answer the read: "), "{text}");
            assert!(text.ends_with("try again") && !text.contains("may be applied"), "{text}");
        }
        assert!(strange_outcome(GroupId(3), true).starts_with("ERR the leader of group 3 "));
        assert!(strange_outcome(GroupId(3), false).starts_with("UNKNOWN outcome: the leader of"));
    }

    #[test]
    fn an_unknown_write_is_told_where_it_stands_as_far_as_that_is_known() {
        let text = |error| request_error(GroupId(3), false, &error);
        let unknown = text(RequestError::UNKNOWN);
        assert!(unknown.starts_with("UNKNOWN outcome: ") && unknown.ends_with("it (group 3)"));
        let (term, index, position) = (Term(2), Index(5), Position(7));
        let known = text(RequestError::Unknown { term, index, position });
        assert!(known.ends_with("(group 3, index 5, term 2, position 7)"), "{known}");
    }

    #[test]
    fn a_limit_is_named_with_its_number() {
        let kib = KEY_BYTES_MAX >> 10;
        assert!(KEY_TOO_LONG.contains(&format!("{kib} KiB")));
    }
}
