//! The texts of error replies.
//!
//! The first word is for clients, which decide by it whether to try again: `CLUSTERDOWN`,
//! `TRYAGAIN` and `LOADING` mean that the request was certainly not applied, `UNKNOWN` that it may
//! have been. The rest is for people. Where Redis has a text for a mistake, it is that text.

use super::parser::Arguments;
use purlin::{GroupId, RequestError};

pub(super) const SYNTAX: &str = "ERR syntax error";
pub(super) const NO_EXPIRY: &str =
    "ERR SET with an expiry is not offered yet: nothing was changed, leave EX, PX and the like out";
pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(super) const DECREMENT_OVERFLOW: &str = "ERR decrement would overflow";
pub(super) const NO_SUCH_DB: &str = "ERR DB index is out of range";
pub(super) const NO_PROTOCOL: &str = "NOPROTO unsupported protocol version";
pub(super) const PROTOCOL_NOT_AN_INTEGER: &str =
    "ERR Protocol version is not an integer or out of range";
pub(super) const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured \
    for the default user. Are you sure your configuration is correct?";
pub(super) const BAD_CLIENT_NAME: &str =
    "ERR Client names cannot contain spaces, newlines or special characters.";
pub(super) const KEY_TOO_LONG: &str =
    "ERR key is longer than 64 KiB; nothing was changed, use a shorter one";
pub(super) const MAX_CLIENTS: &str = "ERR max number of clients reached";
pub(super) const ANSWER_TOO_LONG: &str = "ERR the values are more than 64 MiB together; nothing was changed, ask for fewer keys at a time";
pub(super) const STRANGE_OUTCOME: &str = "UNKNOWN outcome: a group's leader answered what this \
    node does not understand; the command may be applied; run one version on all nodes";

/// Why a group did not answer.
pub(super) fn request_error(group: GroupId, error: &RequestError) -> String {
    match error {
        RequestError::Busy => format!(
            "TRYAGAIN group {group} is busy: a queue on the way is full; not applied, try again \
             after a pause"
        ),
        RequestError::NoLeader { waited_ms } => format!(
            "CLUSTERDOWN group {group} has no leader (electing, {waited_ms} ms); not applied"
        ),
        RequestError::NotApplied => format!(
            "TRYAGAIN the leader of group {group} changed before it took the command; not applied"
        ),
        RequestError::Unknown { term, index, position } => format!(
            "UNKNOWN outcome: leadership changed or time ran out while the command was under way; \
             it may be applied (group {group}, index {index}, term {term}, position {position})"
        ),
        RequestError::TooLarge { bytes, limit } => format!(
            "ERR the command has {bytes} bytes and a shard takes {limit}; not applied, use a \
             shorter value or fewer keys"
        ),
        RequestError::NoSpace => format!(
            "TRYAGAIN the disk of the leader of group {group} is full; not applied, it takes \
             writes again when there is room"
        ),
        RequestError::NoSuchGroup => format!(
            "ERR there is no group {group}; not applied, the nodes' configurations may differ"
        ),
        RequestError::Stopping => {
            "LOADING this node is stopping; not applied, use another node".into()
        }
        // What this front end does not know may mean anything.
        other => format!("UNKNOWN outcome: {other}; it may be applied (group {group})"),
    }
}

/// A command was done by some groups and not by `group`, for the reason in `text`.
pub(super) fn partly_done(done: usize, all: usize, group: GroupId, text: &str) -> String {
    format!("UNKNOWN outcome: done in {done} of {all} groups, but group {group} said: {text}")
}

/// The keys of a command that must be atomic lie in two groups.
pub(super) fn not_atomic(name: &str, one: GroupId, other: GroupId) -> String {
    let name = name.to_uppercase();
    format!(
        "CROSSSLOT {name} would not be atomic: its keys lie in groups {one} and {other}; nothing \
         was changed, give them one {{hash tag}} or set them one by one"
    )
}

/// The text of Redis for a command that it does not know.
pub(super) fn unknown_command(arguments: Arguments<'_>) -> String {
    const LEN_MAX: usize = 128;
    let mut list = String::new();
    for argument in arguments.from(1).iter() {
        if list.len() >= LEN_MAX {
            break;
        }
        let shown = &argument[..argument.len().min(LEN_MAX - list.len())];
        list += &format!("'{}' ", String::from_utf8_lossy(shown));
    }
    let name = &arguments[0];
    let name = String::from_utf8_lossy(&name[..name.len().min(LEN_MAX)]);
    format!("ERR unknown command '{name}', with args beginning with: {list}")
}

/// The text of Redis for a subcommand that it does not know.
pub(super) fn unknown_subcommand(container: &str, name: &[u8]) -> String {
    const LEN_MAX: usize = 128;
    let name = String::from_utf8_lossy(&name[..name.len().min(LEN_MAX)]);
    format!("ERR unknown subcommand '{name}'. Try {} HELP.", container.to_uppercase())
}

/// The text of Redis for too many or too few arguments.
pub(super) fn wrong_arity(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_certainly_not_applied_may_be_tried_again() {
        for error in [
            RequestError::Busy,
            RequestError::NoLeader { waited_ms: 10 },
            RequestError::NotApplied,
            RequestError::UNKNOWN,
            RequestError::TooLarge { bytes: 2, limit: 1 },
            RequestError::NoSpace,
            RequestError::NoSuchGroup,
            RequestError::Stopping,
        ] {
            let text = request_error(GroupId(1), &error);
            let is_in_doubt = text.starts_with("UNKNOWN ");
            assert_eq!(is_in_doubt, !error.is_definitely_not_applied(), "{text}");
        }
    }
}
