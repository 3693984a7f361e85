//! The handshake: the first frames of a connection. Each of the two shards says who it is, and the
//! dialler says which shard it wants. Pure: bytes, and the checks that need no memory of the peer (that
//! is `peers`).
//!
//! ```text
//! dialler                                   listener
//!    | ── Hello: versions, wanted, facts ────► |  checks, remembers, or refuses
//!    | ◄── HelloAnswer: version, facts ─────── |  or a refusal, and closes
//!    |  checks, remembers, or closes           |
//!    | ── frames ────────────────────────────► |  and nothing comes back on this connection
//!
//! hello    lowest  highest  purpose:byte  wanted node  wanted shard  facts
//! answer   0  version  facts | 1  refusal
//! purpose  1 frames of a peer; 2 is reserved for bulk streams, and refused by this version
//! facts    cluster:2×fixed  fork  config:fixed  node  incarnation:fixed  shard
//!          incarnation of the shard, reserved (safety M12): 0   shards  acting:byte
//!          count × (start number  boot:fixed  kept)   count × voter
//!          table version, reserved (safety M7): 0   count × (node  incarnation)   advertised
//! ```
//!
//! Numbers are varints unless marked. The two versions come first in every version of the protocol.
//! What is reserved is written as above, and refused when it is anything else.

use crate::{
    advertised::Advertised,
    codec::{Fields, Malformed, ensure, put_bool, put_fixed, put_varint},
    peer_shard::PeerShard,
    refusal::{self, Refusal},
};
use bytes::Bytes;
use purlin_rsm::{BootId, ClusterId, Fork, Incarnation, NodeId, Sequence, ShardId, Start};

/// The lowest and the highest version of the protocol that this build speaks.
pub const VERSIONS: (u16, u16) = (4, 4);

/// The longest hello or answer, in bytes: a peer that is not identified yet may send no more.
pub(crate) const HELLO_BYTES_MAX: usize = 64 << 10;

/// The connection is for the frames of a peer.
const PURPOSE_PEER: u8 = 1;

/// What a shard says of itself in a handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The cluster that its node belongs to.
    pub cluster: ClusterId,
    /// The history of the cluster that it belongs to (safety Q2).
    pub fork: Fork,
    /// Over what can never change of the cluster's configuration (safety I6).
    pub config_hash: u64,
    /// Its node.
    pub node: NodeId,
    /// The incarnation of the node's data directory.
    pub incarnation: Incarnation,
    /// The shard.
    pub shard: ShardId,
    /// How many shards the node has; more than `shard`.
    pub shards: u16,
    /// The shard's latest starts, ascending by number, this one last (safety I4).
    pub starts: Vec<Start>,
    /// The voters that the cluster was made with, ascending.
    pub voters: Vec<NodeId>,
    /// The incarnations of the nodes' directories that it knows, ascending by node, its own included.
    pub table: Vec<(NodeId, Incarnation)>,
    /// It has met the others and votes (safety I2).
    pub acting: bool,
    /// Where clients and operators find its node.
    pub advertised: Advertised,
}

impl Facts {
    /// Which shard of which node it is.
    pub fn pair(&self) -> PeerShard {
        PeerShard { node: self.node, shard: self.shard }
    }

    /// The start that it is in.
    pub fn start(&self) -> Start {
        *self.starts.last().expect("checked when it was made or read")
    }

    /// Panics when no shard can be like this.
    pub(crate) fn assert_valid(&self) {
        if let Err(Malformed { what }) = self.check() {
            panic!("{what}: {self:?}");
        }
    }

    fn check(&self) -> Result<(), Malformed> {
        ensure(!self.starts.is_empty(), "a shard without a start")?;
        ensure(self.shard.0 < self.shards, "a shard beyond its node's number of shards")?;
        let starts = self.starts.windows(2);
        let follows = |two: &[Start]| two[0].number.checked_add(1) == Some(two[1].number);
        ensure(starts.into_iter().all(follows), "starts that are not numbered in order")?;
        ensure(self.voters.is_sorted_by(|a, b| a < b), "voters that do not ascend")?;
        ensure(self.table.is_sorted_by(|a, b| a.0 < b.0), "a table that does not ascend")?;
        self.advertised.check()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        refusal::put_cluster(out, self.cluster);
        put_varint(out, self.fork.0.into());
        put_fixed(out, self.config_hash);
        put_varint(out, self.node.0.into());
        put_fixed(out, self.incarnation.0);
        put_varint(out, self.shard.0.into());
        put_varint(out, 0);
        put_varint(out, self.shards.into());
        put_bool(out, self.acting);
        put_varint(out, self.starts.len() as u64);
        for start in &self.starts {
            put_varint(out, start.number);
            put_fixed(out, start.boot.0);
            put_varint(out, start.kept.0);
        }
        put_varint(out, self.voters.len() as u64);
        self.voters.iter().for_each(|voter| put_varint(out, voter.0.into()));
        put_varint(out, 0);
        put_varint(out, self.table.len() as u64);
        for (node, incarnation) in &self.table {
            put_varint(out, node.0.into());
            put_fixed(out, incarnation.0);
        }
        self.advertised.encode(out);
    }

    fn decode(fields: &mut Fields) -> Result<Self, Malformed> {
        let facts = Self {
            cluster: refusal::cluster(fields)?,
            fork: refusal::fork(fields)?,
            config_hash: fields.fixed()?,
            node: fields.node()?,
            incarnation: Incarnation(fields.fixed()?),
            shard: shard(fields)?,
            shards: fields.narrow("more shards than 16 bits count")?,
            acting: fields.boolean()?,
            starts: many(fields, |fields| {
                let (number, boot) = (fields.varint()?, BootId(fields.fixed()?));
                Ok(Start { number, boot, kept: Sequence(fields.varint()?) })
            })?,
            voters: many(fields, Fields::node)?,
            table: table(fields)?,
            advertised: Advertised::decode(fields)?,
        };
        facts.check()?;
        Ok(facts)
    }
}

fn shard(fields: &mut Fields) -> Result<ShardId, Malformed> {
    let shard = fields.shard()?;
    ensure(fields.varint()? == 0, "an incarnation of a shard, which a later protocol has")?;
    Ok(shard)
}

fn table(fields: &mut Fields) -> Result<Vec<(NodeId, Incarnation)>, Malformed> {
    ensure(fields.varint()? == 0, "a version of the table of nodes, which a later protocol has")?;
    many(fields, |fields| Ok((fields.node()?, Incarnation(fields.fixed()?))))
}

fn many<T>(
    fields: &mut Fields,
    item: impl Fn(&mut Fields) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    (0..fields.count(1)?).map(|_| item(fields)).collect()
}

/// The dialler's first frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The lowest and highest version of the protocol that it speaks.
    pub versions: (u16, u16),
    /// The shard that the dialler wants, so that a wrong address is noticed.
    pub wanted: PeerShard,
    /// Who it is.
    pub facts: Facts,
}

impl Hello {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.versions.0.into());
        put_varint(out, self.versions.1.into());
        out.push(PURPOSE_PEER);
        put_varint(out, self.wanted.node.0.into());
        put_varint(out, self.wanted.shard.0.into());
        self.facts.encode(out);
    }

    /// Reads a hello; of one without a common version only the versions, and of one for another purpose
    /// nothing behind the purpose.
    pub(crate) fn decode(body: Bytes) -> Result<Result<Self, Refusal>, Malformed> {
        let mut fields = Fields::new(body);
        let versions = refusal::versions(&mut fields)?;
        if common_version(versions).is_none() {
            return Ok(Err(Refusal::Version { theirs: versions, ours: VERSIONS }));
        }
        let purpose = fields.byte()?;
        if purpose != PURPOSE_PEER {
            return Ok(Err(Refusal::Purpose { purpose }));
        }
        let wanted = PeerShard { node: fields.node()?, shard: fields.shard()? };
        let hello = Self { versions, wanted, facts: Facts::decode(&mut fields)? };
        fields.finish()?;
        Ok(Ok(hello))
    }

    /// Whether the dialler wants us, and belongs here as far as it can be said without remembering
    /// it. The first reason is the one that explains the others.
    pub(crate) fn check(&self, ours: &Facts) -> Result<(), Refusal> {
        check_cluster(&self.facts, ours)?;
        if self.wanted.node != ours.node {
            return Err(Refusal::WrongNode { wanted: self.wanted.node, here: ours.node });
        }
        if self.wanted.shard != ours.shard {
            let (wanted, here) = (self.wanted.shard, ours.shard);
            return Err(Refusal::WrongShard { node: ours.node, wanted, here });
        }
        check_facts(&self.facts, ours)
    }
}

/// What the listener answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Go on, in this version.
    Accepted {
        /// The highest that both speak.
        version: u16,
        /// Who the listener is.
        facts: Facts,
    },
    /// No.
    Refused(Refusal),
}

impl Answer {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Accepted { version, facts } => {
                out.push(0);
                put_varint(out, (*version).into());
                facts.encode(out);
            }
            Self::Refused(refusal) => {
                out.push(1);
                refusal.encode(out);
            }
        }
    }

    pub(crate) fn decode(body: Bytes) -> Result<Self, Malformed> {
        let mut fields = Fields::new(body);
        match fields.byte()? {
            0 => {
                let version = fields.narrow("a version over 16 bits")?;
                ensure(common_version((version, version)).is_some(), "a version never offered")?;
                let facts = Facts::decode(&mut fields)?;
                fields.finish()?;
                Ok(Self::Accepted { version, facts })
            }
            1 => Ok(Self::Refused(Refusal::decode(&mut fields)?)),
            _ => Err(Malformed { what: "an answer that is neither yes nor no" }),
        }
    }
}

/// Whether the listener is the shard that the dialler wanted, and belongs to the same cluster. The
/// counterpart of [`Hello::check`].
pub(crate) fn check_answer(theirs: &Facts, wanted: PeerShard, ours: &Facts) -> Result<(), Refusal> {
    check_cluster(theirs, ours)?;
    if theirs.node != wanted.node {
        return Err(Refusal::WrongNode { wanted: wanted.node, here: theirs.node });
    }
    if theirs.shard != wanted.shard {
        let (wanted, here) = (wanted.shard, theirs.shard);
        return Err(Refusal::WrongShard { node: theirs.node, wanted, here });
    }
    check_facts(theirs, ours)
}

/// The highest version that a side with `theirs` and we speak.
pub(crate) fn common_version(theirs: (u16, u16)) -> Option<u16> {
    let highest = theirs.1.min(VERSIONS.1);
    (theirs.0.max(VERSIONS.0) <= highest).then_some(highest)
}

fn check_cluster(theirs: &Facts, ours: &Facts) -> Result<(), Refusal> {
    if theirs.cluster == ours.cluster {
        Ok(())
    } else {
        Err(Refusal::OtherCluster { theirs: theirs.cluster, ours: ours.cluster })
    }
}

fn check_facts(theirs: &Facts, ours: &Facts) -> Result<(), Refusal> {
    if theirs.node == ours.node {
        return Err(Refusal::OwnNode { node: ours.node });
    }
    // Safety Q2: who was left out of a repair has nothing to say to those who took part in it.
    if theirs.fork != ours.fork {
        let (node, theirs, ours) = (theirs.node, theirs.fork, ours.fork);
        return Err(Refusal::OtherFork { node, theirs, ours });
    }
    if theirs.config_hash != ours.config_hash {
        let (node, theirs, ours) = (theirs.node, theirs.config_hash, ours.config_hash);
        return Err(Refusal::OtherConfig { node, theirs, ours });
    }
    // Safety I2: those who meet for the first time must have the same voters. One who already acts
    // has met them, and its table says whether the other one is among them.
    if !theirs.acting && !ours.acting && theirs.voters != ours.voters {
        return Err(Refusal::OtherVoters { node: theirs.node });
    }
    check_table(theirs, ours)
}

/// Safety I2: the peer may know another incarnation of our node; then our directory is the wrong one.
fn check_table(theirs: &Facts, ours: &Facts) -> Result<(), Refusal> {
    let known = theirs.table.iter().find(|(node, _)| *node == ours.node);
    match known {
        Some(&(node, expected)) if expected != ours.incarnation => {
            Err(Refusal::OtherIncarnation { node, expected, got: ours.incarnation })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "handshake_test.rs"]
mod tests;
