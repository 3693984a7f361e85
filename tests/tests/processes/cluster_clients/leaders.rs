//! Whether groups have changed their leaders, by what the nodes say and by what a client says.
//!
//! On a machine with much to do a group may elect another leader at any time. The libraries follow `MOVED`, but for a
//! pipeline of redis-rs: it tells its user. What was under way at the old leader ends with an error for all of them.

use super::super::support::{Cluster, SOON};
use purlin_server::resp::RespClient;
use serde_json::Value;
use std::{collections::BTreeMap, net::SocketAddr};

/// The first words of the errors that come with a change of leaders, and what redis-rs makes of the first word.
const WORDS: [&str; 8] = [
    "MOVED ",
    "Moved: ",
    "TRYAGAIN ",
    "TryAgain: ",
    "CLUSTERDOWN ",
    "ClusterDown: ",
    "UNKNOWN outcome: the leader changed",
    "\"UNKNOWN\": outcome: the leader changed",
];
/// redis-py has classes for these errors, and keeps the first word for itself.
const CLASSES: [&str; 4] =
    ["MovedError: ", "TryAgainError: ", "ClusterDownError: ", "SlotNotCoveredError: "];
/// Nodes that tell different leaders, as redis-py and ioredis put it.
const PHRASES: [&str; 4] = [
    "RedisClusterException: startup_nodes could not agree on a valid slots cache",
    "ClusterError: TTL exhausted",
    "Error: Too many Cluster redirections",
    "MaxCommandRedirectionsError: ",
];

/// Whether an error says that a group has changed its leader, or has none at the moment. `text` is the library's name
/// of the error, a colon, and the text.
pub(crate) fn says_that_a_leader_moved(text: &str) -> bool {
    let begins = |text: &str| WORDS.iter().any(|word| text.starts_with(word));
    let (_, rest) = text.split_once(": ").unwrap_or_default();
    match rest.split_once("Pipeline failure") {
        // redis-rs tells all errors of a pipeline at once.
        Some(("", failures)) => failures.split("error: ").skip(1).all(begins),
        _ => begins(rest) || CLASSES.iter().chain(&PHRASES).any(|begin| text.starts_with(begin)),
    }
}

/// Whether an error says that a group has another leader than the client thought.
pub(crate) fn is_moved(text: &str) -> bool {
    ["MOVED ", "Moved: ", "MovedError: "].iter().any(|word| text.contains(word))
}

/// The term of each group.
pub(crate) type Terms = BTreeMap<u64, u64>;

/// The admin ports of the nodes of a cluster. They stay the same when a node starts again.
pub(crate) struct Leaders(Vec<SocketAddr>);

impl Leaders {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self(cluster.nodes.iter().map(|node| node.config.listen.admin).collect())
    }

    /// The latest terms that any node knows. A change of leaders makes a later one.
    pub(crate) fn terms(&self) -> Terms {
        let mut terms = Terms::new();
        for groups in self.0.iter().filter_map(|admin| groups(*admin)) {
            for group in groups["groups"].as_array().expect("a list") {
                let number = |name: &str| group[name].as_u64().expect("a number");
                let term = terms.entry(number("group")).or_default();
                *term = number("term").max(*term);
            }
        }
        terms
    }
}

/// What a node that runs says of its groups.
fn groups(admin: SocketAddr) -> Option<Value> {
    let mut client = RespClient::connect(admin, SOON).ok()?;
    let reply = client.command(&["RAFT", "GROUPS"]).ok()?;
    serde_json::from_slice(reply.bytes()?).ok()
}

#[test]
fn the_errors_of_a_change_of_leaders_are_known_in_the_words_of_each_library() {
    for text in [
        "MovedError: 13237 127.0.0.1:12001",
        "ResponseError: UNKNOWN outcome: the leader changed, a connection was lost, ...",
        "ReplyError: TRYAGAIN group 3 did not execute the command: its leader changed",
        "SimpleError: CLUSTERDOWN this node reached no leader of group 1 for 2000 ms",
        "proto.RedisError: MOVED 13237 127.0.0.1:12001",
        "Server(TryAgain): TryAgain: group 3 did not answer the read",
        "Server(Moved): Pipeline failure: [(Index 1, error: Moved: 13237 127.0.0.1:12001)]",
        "Server(Moved): Pipeline failures: [(Index 1, error: Moved: 1 127.0.0.1:1), \
         (Index 4, error: \"UNKNOWN\": outcome: the leader changed, a connection was lost)]",
    ] {
        assert!(says_that_a_leader_moved(text), "{text}");
    }
    for text in [
        "ResponseError: value is not an integer or out of range",
        "ConnectionError: Connection reset by peer",
        "ReplyError: UNKNOWN outcome: done in 1 of 2 groups",
        "Io: Connection refused (os error 111)",
        "Server(ResponseError): ResponseError: MOVED ",
        "Server(Moved): Pipeline failures: [(Index 1, error: Moved: 1 127.0.0.1:1), \
         (Index 4, error: ResponseError: value is not an integer)]",
        "TimeoutError: MOVED",
        "",
    ] {
        assert!(!says_that_a_leader_moved(text), "{text}");
    }
    assert!(is_moved("MovedError: 1 127.0.0.1:1") && !is_moved("TryAgainError: removed"));
}
