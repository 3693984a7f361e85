//! Why a handshake is refused: a code for programs, and a message for the operators of both sides.
//!
//! The same value travels to the side that is refused, so its text names nodes and never says "we".
//! Each message says what happened and where, what it means for the data, and what to do.
//!
//! ```text
//! refusal   code:varint  then its numbers as varints, random ones fixed; unknown codes have none
//! ```

use crate::codec::{Fields, Malformed, put_fixed, put_varint};
use purlin_rsm::{BootId, ClusterId, Fork, Incarnation, NodeId, Sequence, ShardId};
use std::fmt;

/// Why a handshake is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The two speak no common version of the protocol.
    Version {
        /// The lowest and highest version of the side that was refused.
        theirs: (u16, u16),
        /// The same of the side that refuses.
        ours: (u16, u16),
    },
    /// The two belong to different clusters.
    OtherCluster {
        /// The cluster of the side that was refused.
        theirs: ClusterId,
        /// The cluster of the side that refuses.
        ours: ClusterId,
    },
    /// What can never change of a cluster's configuration differs (safety I6).
    OtherConfig {
        /// The node that was refused.
        node: NodeId,
        /// Its hash.
        theirs: u64,
        /// The hash of the side that refuses.
        ours: u64,
    },
    /// Another node listens at the address than the dialler wanted.
    WrongNode {
        /// The node that the dialler wanted.
        wanted: NodeId,
        /// The node that listens there.
        here: NodeId,
    },
    /// Another shard listens at the address than the dialler wanted.
    WrongShard {
        /// The node.
        node: NodeId,
        /// Which shard it wanted.
        wanted: ShardId,
        /// Which is there.
        here: ShardId,
    },
    /// Both sides call themselves the same node.
    OwnNode {
        /// That node.
        node: NodeId,
    },
    /// The node is no member of the cluster.
    NotMember {
        /// That node.
        node: NodeId,
    },
    /// The two were made with different initial voters (safety I2).
    OtherVoters {
        /// The node that was refused.
        node: NodeId,
    },
    /// The node's data directory is not the one that the cluster knows (safety I3).
    OtherIncarnation {
        /// The node.
        node: NodeId,
        /// The incarnation of the directory that the cluster knows.
        expected: Incarnation,
        /// The incarnation of the directory that it runs on.
        got: Incarnation,
    },
    /// The shard's data directory has lost what it once said was durable (safety I4). Fenced from
    /// now on.
    WentBack {
        /// The node.
        node: NodeId,
        /// The incarnation of its directory.
        incarnation: Incarnation,
        /// The shard.
        shard: ShardId,
        /// By what it is seen.
        how: GoneBack,
    },
    /// The shard's data directory has once gone back (safety I4).
    Fenced {
        /// The node.
        node: NodeId,
        /// The incarnation of its directory.
        incarnation: Incarnation,
        /// The shard.
        shard: ShardId,
    },
    /// Another process on the same identity was heard a moment ago (safety I5). Try again.
    DuplicateBoot {
        /// The node.
        node: NodeId,
        /// The shard.
        shard: ShardId,
        /// The boot id that was heard.
        live: BootId,
        /// The boot id that is held off.
        held_off: BootId,
    },
    /// The handshake comes from a process that a later start has replaced.
    Superseded {
        /// The node.
        node: NodeId,
        /// The shard.
        shard: ShardId,
        /// The start that it comes from.
        start: u64,
        /// The latest start that is known.
        latest: u64,
    },
    /// The two belong to different forks of the cluster (safety Q2).
    OtherFork {
        /// The node that was refused.
        node: NodeId,
        /// Its fork.
        theirs: Fork,
        /// The fork of the side that refuses.
        ours: Fork,
    },
    /// The connection is for a purpose that the listener does not speak.
    Purpose {
        /// The purpose's number.
        purpose: u8,
    },
    /// A code of a later version.
    Other {
        /// That code.
        code: u64,
    },
}

/// How a data directory shows that it has gone back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GoneBack {
    /// Its latest starts do not reach the one that the peer remembers.
    StartMissing {
        /// The number of that start.
        start: u64,
    },
    /// Another process than the peer remembers has that start's number.
    OtherBoot {
        /// The number of that start.
        start: u64,
        /// The boot id that the peer remembers.
        expected: BootId,
        /// The one in the list.
        got: BootId,
    },
    /// The start after it kept less than it had said was durable.
    KeptLess {
        /// The number of that start.
        start: u64,
        /// What it had said was durable.
        durable: Sequence,
        /// What its successor kept.
        kept: Sequence,
    },
}

impl Refusal {
    /// Stable on the wire, in logs and metrics.
    pub fn code(&self) -> u64 {
        match self {
            Self::Version { .. } => 1,
            Self::OtherCluster { .. } => 2,
            Self::OtherConfig { .. } => 3,
            Self::WrongNode { .. } => 4,
            Self::WrongShard { .. } => 5,
            Self::OwnNode { .. } => 6,
            Self::NotMember { .. } => 7,
            Self::OtherVoters { .. } => 8,
            Self::OtherIncarnation { .. } => 9,
            Self::WentBack { how: GoneBack::StartMissing { .. }, .. } => 10,
            Self::WentBack { how: GoneBack::OtherBoot { .. }, .. } => 11,
            Self::WentBack { how: GoneBack::KeptLess { .. }, .. } => 12,
            Self::Fenced { .. } => 13,
            Self::DuplicateBoot { .. } => 14,
            Self::Superseded { .. } => 15,
            Self::OtherFork { .. } => 16,
            Self::Purpose { .. } => 17,
            Self::Other { code } => *code,
        }
    }

    /// Whether it says that the data directory of `node` can never take part again: its shard
    /// records that and stops (safety I3, I4).
    pub fn ends(&self, node: NodeId) -> bool {
        match self {
            Self::OtherIncarnation { node: refused, .. }
            | Self::WentBack { node: refused, .. }
            | Self::Fenced { node: refused, .. } => *refused == node,
            _ => false,
        }
    }

    // Long because each reason has fields of its own, and an arm that writes them.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.code());
        match *self {
            Self::Version { theirs, ours } => {
                for version in [theirs.0, theirs.1, ours.0, ours.1] {
                    put_varint(out, version.into());
                }
            }
            Self::OtherCluster { theirs, ours } => {
                put_cluster(out, theirs);
                put_cluster(out, ours);
            }
            Self::OtherConfig { node, theirs, ours } => {
                put_varint(out, node.0.into());
                put_fixed(out, theirs);
                put_fixed(out, ours);
            }
            Self::WrongNode { wanted, here } => {
                put_varint(out, wanted.0.into());
                put_varint(out, here.0.into());
            }
            Self::WrongShard { node, wanted, here } => {
                put_varint(out, node.0.into());
                put_varint(out, wanted.0.into());
                put_varint(out, here.0.into());
            }
            Self::OwnNode { node } | Self::NotMember { node } | Self::OtherVoters { node } => {
                put_varint(out, node.0.into());
            }
            Self::OtherIncarnation { node, expected, got } => {
                put_varint(out, node.0.into());
                put_fixed(out, expected.0);
                put_fixed(out, got.0);
            }
            Self::WentBack { node, incarnation, shard, how } => {
                put_directory(out, node, incarnation, shard);
                how.encode(out);
            }
            Self::Fenced { node, incarnation, shard } => {
                put_directory(out, node, incarnation, shard);
            }
            Self::DuplicateBoot { node, shard, live, held_off } => {
                put_varint(out, node.0.into());
                put_varint(out, shard.0.into());
                put_fixed(out, live.0);
                put_fixed(out, held_off.0);
            }
            Self::Superseded { node, shard, start, latest } => {
                put_varint(out, node.0.into());
                put_varint(out, shard.0.into());
                put_varint(out, start);
                put_varint(out, latest);
            }
            Self::OtherFork { node, theirs, ours } => {
                put_varint(out, node.0.into());
                put_varint(out, theirs.0.into());
                put_varint(out, ours.0.into());
            }
            Self::Purpose { purpose } => out.push(purpose),
            Self::Other { .. } => {}
        }
    }

    pub(crate) fn decode(fields: &mut Fields) -> Result<Self, Malformed> {
        let code = fields.varint()?;
        Ok(match code {
            1 => Self::Version { theirs: versions(fields)?, ours: versions(fields)? },
            2 => Self::OtherCluster { theirs: cluster(fields)?, ours: cluster(fields)? },
            3 => Self::OtherConfig {
                node: fields.node()?,
                theirs: fields.fixed()?,
                ours: fields.fixed()?,
            },
            4 => Self::WrongNode { wanted: fields.node()?, here: fields.node()? },
            5 => Self::WrongShard {
                node: fields.node()?,
                wanted: fields.shard()?,
                here: fields.shard()?,
            },
            6 => Self::OwnNode { node: fields.node()? },
            7 => Self::NotMember { node: fields.node()? },
            8 => Self::OtherVoters { node: fields.node()? },
            9 => Self::OtherIncarnation {
                node: fields.node()?,
                expected: Incarnation(fields.fixed()?),
                got: Incarnation(fields.fixed()?),
            },
            10..=12 => Self::WentBack {
                node: fields.node()?,
                incarnation: Incarnation(fields.fixed()?),
                shard: fields.shard()?,
                how: GoneBack::decode(code, fields)?,
            },
            13 => Self::Fenced {
                node: fields.node()?,
                incarnation: Incarnation(fields.fixed()?),
                shard: fields.shard()?,
            },
            14 => Self::DuplicateBoot {
                node: fields.node()?,
                shard: fields.shard()?,
                live: BootId(fields.fixed()?),
                held_off: BootId(fields.fixed()?),
            },
            15 => Self::Superseded {
                node: fields.node()?,
                shard: fields.shard()?,
                start: fields.varint()?,
                latest: fields.varint()?,
            },
            16 => {
                Self::OtherFork { node: fields.node()?, theirs: fork(fields)?, ours: fork(fields)? }
            }
            17 => Self::Purpose { purpose: fields.byte()? },
            // What a later version says behind its code is not for us.
            code => Self::Other { code },
        })
    }
}

impl GoneBack {
    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::StartMissing { start } => put_varint(out, start),
            Self::OtherBoot { start, expected, got } => {
                put_varint(out, start);
                put_fixed(out, expected.0);
                put_fixed(out, got.0);
            }
            Self::KeptLess { start, durable, kept } => {
                put_varint(out, start);
                put_varint(out, durable.0);
                put_varint(out, kept.0);
            }
        }
    }

    fn decode(code: u64, fields: &mut Fields) -> Result<Self, Malformed> {
        let start = fields.varint()?;
        Ok(match code {
            10 => Self::StartMissing { start },
            11 => {
                let (expected, got) = (BootId(fields.fixed()?), BootId(fields.fixed()?));
                Self::OtherBoot { start, expected, got }
            }
            _ => {
                let (durable, kept) = (Sequence(fields.varint()?), Sequence(fields.varint()?));
                Self::KeptLess { start, durable, kept }
            }
        })
    }
}

fn put_directory(out: &mut Vec<u8>, node: NodeId, incarnation: Incarnation, shard: ShardId) {
    put_varint(out, node.0.into());
    put_fixed(out, incarnation.0);
    put_varint(out, shard.0.into());
}

pub(crate) fn put_cluster(out: &mut Vec<u8>, cluster: ClusterId) {
    put_fixed(out, cluster.0 as u64);
    put_fixed(out, (cluster.0 >> 64) as u64);
}

pub(crate) fn cluster(fields: &mut Fields) -> Result<ClusterId, Malformed> {
    let (low, high) = (fields.fixed()?, fields.fixed()?);
    Ok(ClusterId(u128::from(high) << 64 | u128::from(low)))
}

pub(crate) fn fork(fields: &mut Fields) -> Result<Fork, Malformed> {
    Ok(Fork(fields.narrow("a fork over 32 bits")?))
}

pub(crate) fn versions(fields: &mut Fields) -> Result<(u16, u16), Malformed> {
    const WHAT: &str = "a version over 16 bits";
    Ok((fields.narrow(WHAT)?, fields.narrow(WHAT)?))
}

/// What most refusals mean.
const NO_EXCHANGE: &str = "the two exchange nothing, and no data is changed";
/// What can be done about a data directory that may not take part any more.
const STAYS_OUT: &str = "keep the directory, and leave the node stopped: this version cannot bring it back; the \
                         other members go on as long as they are a majority";

impl Refusal {
    /// What happened and where, what it means for the data, and what to do.
    // Long because each refusal has one arm with its texts.
    pub fn parts(&self) -> [String; 3] {
        let parts = |what, means: &str, action: &str| [what, means.into(), action.into()];
        match self {
            Self::Version { theirs, ours } => parts(
                format!(
                    "no common version of the peer protocol: the connecting node speaks {} to {}, the \
                     listening node {} to {}",
                    theirs.0, theirs.1, ours.0, ours.1
                ),
                NO_EXCHANGE,
                "upgrade the older node, one version at a time",
            ),
            Self::OtherCluster { theirs, ours } => parts(
                format!("a node of cluster {theirs} has connected to a node of cluster {ours}"),
                NO_EXCHANGE,
                "correct the address in the configuration file, or start each data directory with the \
                 configuration of its own cluster",
            ),
            Self::OtherConfig { node, theirs, ours } => parts(
                format!(
                    "node {node} was made with another configuration of the cluster (hash \
                     {theirs:016x}, elsewhere {ours:016x}): its format, a number of groups or the longest \
                     command differs"
                ),
                "it cannot take part, and no data is changed",
                "compare the section [cluster] in the files of both nodes; correct the file that is wrong, \
                 keep that node's data directory aside, and make a new one with `init`",
            ),
            Self::WrongNode { wanted, here } => parts(
                format!("node {here} listens at the address of node {wanted}"),
                NO_EXCHANGE,
                &format!("correct host or peer_port of node {wanted} in the configuration file"),
            ),
            Self::WrongShard { node, wanted, here } => parts(
                format!("shard {here} of node {node} listens at the address of its shard {wanted}"),
                NO_EXCHANGE,
                &format!("correct peer_port of node {node}: its shard i listens at peer_port + i"),
            ),
            Self::OwnNode { node } => parts(
                format!("two processes call themselves node {node}"),
                NO_EXCHANGE,
                "give each node its own id, or correct the address by which the node connects to itself",
            ),
            Self::NotMember { node } => parts(
                format!("node {node} is no member of the cluster"),
                "it takes no part, and no data is changed",
                "stop it: this version cannot add a member to a cluster",
            ),
            Self::OtherVoters { node } => parts(
                format!(
                    "node {node} was made with another list of members than the node that refuses it"
                ),
                "it cannot take part, and no data is changed",
                "compare `members` in the files of both nodes; correct the file that is wrong, keep that \
                 node's data directory aside, and make a new one with `init`",
            ),
            Self::OtherIncarnation { node, expected, got } => parts(
                format!(
                    "node {node} runs on data directory {got}, but the cluster knows it with \
                     {expected}: it was wiped, made anew or exchanged"
                ),
                "it may have forgotten votes and entries, so it takes no part; the other members keep \
                 their data",
                "start it on its old directory; if that is lost, leave the node stopped: this version \
                 cannot bring it back, and the other members go on as long as they are a majority",
            ),
            Self::WentBack { node, incarnation, shard, how } => parts(
                format!(
                    "the data directory of node {node} shard {shard} ({incarnation}) has gone back: \
                     {how}"
                ),
                "it is an older copy, or its disk has lost durable writes; it may have forgotten votes and \
                 entries, so it takes no part any more; the other members keep their data",
                STAYS_OUT,
            ),
            Self::Fenced { node, incarnation, shard } => parts(
                format!(
                    "the data directory of node {node} shard {shard} ({incarnation}) is fenced: it \
                     has gone back once"
                ),
                "it may have forgotten votes and entries, so it takes no part any more; the other members \
                 keep their data",
                STAYS_OUT,
            ),
            Self::DuplicateBoot { node, shard, live, held_off } => parts(
                format!(
                    "two processes say they are node {node} shard {shard}: {live} was heard a moment \
                     ago, so {held_off} is held off"
                ),
                "after a quick restart the new process is let in as soon as the old one is silent; no data \
                 is changed",
                "wait a few seconds; if it lasts, stop the process that runs on a copy of the data directory",
            ),
            Self::Superseded { node, shard, start, latest } => parts(
                format!(
                    "a handshake of start {start} of node {node} shard {shard} came late: start {latest} is \
                     known"
                ),
                "the connection is closed, and no data is changed",
                "nothing; if it lasts, stop the older process",
            ),
            Self::OtherFork { node, theirs, ours } => parts(
                format!(
                    "node {node} belongs to fork {theirs} of the cluster, and the node that refuses it to \
                     fork {ours}"
                ),
                "a repair after the loss of a majority opened the higher fork, and the node of the lower \
                 fork was no part of it; the two exchange nothing, and no data is changed",
                "keep the directory of the node of the lower fork, and leave that node stopped: this \
                 version cannot bring it back",
            ),
            Self::Purpose { purpose } => parts(
                format!(
                    "a node has connected for purpose {purpose}{}, which the version of the listening node \
                     does not know",
                    if *purpose == 2 { " (a bulk stream)" } else { "" }
                ),
                "nothing is sent on this connection, and no data is changed",
                "upgrade the listening node",
            ),
            Self::Other { code } => parts(
                format!(
                    "the handshake was refused with code {code}, which this version does not know"
                ),
                NO_EXCHANGE,
                "look at the log of the other node",
            ),
        }
    }
}

/// All parts in one line.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [what, means, action] = self.parts();
        write!(f, "{what}. Means: {means}. Do: {action}")
    }
}

impl fmt::Display for GoneBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartMissing { start } => write!(f, "it does not know its own start {start}"),
            Self::OtherBoot { start, expected, got } => {
                write!(f, "its start {start} was {expected} and is now {got}")
            }
            Self::KeptLess { start, durable, kept } => write!(
                f,
                "its start {start} had batch {durable} durable, and the next one kept only {kept}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Refusal> {
        let (node, shard, incarnation) = (NodeId(2), ShardId(3), Incarnation(0xfeed));
        let (a, b) = (BootId(u64::MAX), BootId(7));
        let (durable, kept) = (Sequence(9), Sequence(8));
        let went = |how| Refusal::WentBack { node, incarnation, shard, how };
        vec![
            Refusal::Version { theirs: (2, 3), ours: (1, 1) },
            Refusal::OtherCluster { theirs: ClusterId(u128::MAX), ours: ClusterId(1 << 90) },
            Refusal::OtherConfig { node, theirs: 1, ours: u64::MAX },
            Refusal::WrongNode { wanted: node, here: NodeId(u32::MAX) },
            Refusal::WrongShard { node, wanted: shard, here: ShardId(u16::MAX) },
            Refusal::OwnNode { node },
            Refusal::NotMember { node },
            Refusal::OtherVoters { node },
            Refusal::OtherIncarnation { node, expected: incarnation, got: Incarnation(1) },
            went(GoneBack::StartMissing { start: 5 }),
            went(GoneBack::OtherBoot { start: 5, expected: a, got: b }),
            went(GoneBack::KeptLess { start: 5, durable, kept }),
            Refusal::Fenced { node, incarnation, shard },
            Refusal::DuplicateBoot { node, shard, live: a, held_off: b },
            Refusal::Superseded { node, shard, start: 4, latest: 5 },
            Refusal::OtherFork { node, theirs: Fork(0), ours: Fork(u32::MAX) },
            Refusal::Purpose { purpose: 2 },
            Refusal::Other { code: 99 },
        ]
    }

    #[test]
    fn each_refusal_round_trips_under_its_own_code() {
        let mut codes = std::collections::BTreeSet::new();
        for refusal in all() {
            let mut out = Vec::new();
            refusal.encode(&mut out);
            let mut fields = Fields::new(out.into());
            assert_eq!(Refusal::decode(&mut fields), Ok(refusal));
            assert_eq!(fields.finish(), Ok(()));
            assert!(codes.insert(refusal.code()), "two refusals share {}", refusal.code());
        }
    }

    #[test]
    fn each_refusal_says_what_it_means_and_what_to_do() {
        for refusal in all() {
            for part in refusal.parts() {
                assert!(!part.is_empty() && !part.ends_with('.'), "{refusal}");
                assert!(!part.contains("  "), "{refusal}");
            }
        }
        assert_eq!(
            Refusal::NotMember { node: NodeId(2) }.to_string(),
            "node 2 is no member of the cluster. Means: it takes no part, and no data is changed. Do: stop \
             it: this version cannot add a member to a cluster"
        );
    }

    #[test]
    fn only_what_concerns_ones_own_directory_ends_a_node() {
        let ended: Vec<u64> =
            all().iter().filter(|r| r.ends(NodeId(2))).map(Refusal::code).collect();
        assert_eq!(ended, [9, 10, 11, 12, 13]);
        assert!(all().iter().all(|refusal| !refusal.ends(NodeId(1))));
    }
}
