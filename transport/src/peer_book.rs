//! What a shard remembers of its peers, and how it judges a handshake by that (safety I3 to I5).
//! The module is pure: the engine fills it from recovery, and writes its changes into the WAL.
//!
//! ```text
//!             I3 another incarnation of the node?           OtherIncarnation
//!  facts ──►  fenced once?                                  Fenced
//!             I5 another boot id heard within two beats?    DuplicateBoot, tries again
//!             an older start that is known?                 Superseded
//!             I4 behind what is remembered?                 WentBack, fenced from now on
//! ```

use crate::{
    handshake::Facts,
    peer_shard::PeerShard,
    refusal::{GoneBack, Refusal},
};
use purlin_rsm::{BootId, Incarnation, NodeId, PeerMemory, Sequence, ShardId, Start};
use std::collections::{BTreeMap, BTreeSet};

/// What a shard knows of the shards of other nodes.
pub struct PeerBook {
    /// The nodes of the cluster, each with the incarnation of its directory once that is known.
    members: BTreeMap<NodeId, Option<Incarnation>>,
    peers: BTreeMap<Identity, Known>,
    /// The peers whose memory has changed since the engine last took the changes.
    changed: BTreeSet<Identity>,
    /// The number of beats so far.
    now: u64,
    /// A boot id that was not heard for this many beats does not hold off another one.
    silence_beats: u64,
}

/// One shard of one data directory.
type Identity = (NodeId, Incarnation, ShardId);

struct Known {
    memory: PeerMemory,
    /// The starts that the peer listed when it was last admitted.
    starts: Vec<Start>,
    /// The boot id that was heard last, and the beat at which it was heard. `None` since our own
    /// start.
    live: Option<(BootId, u64)>,
}

impl PeerBook {
    /// `members` are all nodes that may connect, each with its incarnation if that is known
    /// already. `memories` is what recovery has found. `silence_beats` are two heartbeats (safety
    /// I5).
    pub fn new(
        members: impl IntoIterator<Item = (NodeId, Option<Incarnation>)>,
        memories: impl IntoIterator<Item = PeerMemory>,
        silence_beats: u64,
    ) -> Self {
        let mut book = Self {
            members: members.into_iter().collect(),
            peers: BTreeMap::new(),
            changed: BTreeSet::new(),
            now: 0,
            silence_beats,
        };
        for memory in memories {
            let known = Known { memory, starts: Vec::new(), live: None };
            book.peers.insert((memory.node, memory.incarnation, memory.shard), known);
            // Unless a table says otherwise, the incarnation that was met first is the known one.
            if let Some(known @ None) = book.members.get_mut(&memory.node) {
                *known = Some(memory.incarnation);
            }
        }
        book
    }

    /// The nodes whose incarnation is known, ascending.
    pub fn table(&self) -> Vec<(NodeId, Incarnation)> {
        let known = |(node, incarnation): (&NodeId, &Option<Incarnation>)| {
            incarnation.map(|incarnation| (*node, incarnation))
        };
        self.members.iter().filter_map(known).collect()
    }

    /// Replaces the members and their incarnations by those that the cluster has agreed on.
    pub fn set_table(&mut self, table: impl IntoIterator<Item = (NodeId, Incarnation)>) {
        self.members =
            table.into_iter().map(|(node, incarnation)| (node, Some(incarnation))).collect();
    }

    /// Judges whether the peer may connect. A peer whose directory has gone back is fenced by this
    /// call.
    pub fn check(&mut self, facts: &Facts) -> Result<(), Refusal> {
        self.check_member(facts)?;
        let identity = identity(facts);
        let Some(known) = self.peers.get(&identity) else { return Ok(()) };
        if known.memory.fenced {
            let (node, incarnation, shard) = identity;
            purlin_rsm::sometimes!("fenced directory refused");
            return Err(Refusal::Fenced { node, incarnation, shard });
        }
        self.check_live(known, facts)?;
        known.check_superseded(facts)?;
        let Some(how) = known.gone_back(&facts.starts) else { return Ok(()) };
        purlin_rsm::sometimes!("directory that went back is fenced");
        self.fence(identity);
        let (node, incarnation, shard) = identity;
        Err(Refusal::WentBack { node, incarnation, shard, how })
    }

    /// Remembers the incarnation and the start of a peer that passed `check` in this turn.
    /// `durable` came with its handshake.
    pub fn admit(&mut self, facts: &Facts, durable: Sequence) {
        let Facts { node, incarnation, shard, .. } = *facts;
        self.members.insert(node, Some(incarnation));
        let start = facts.start();
        let known = self.peers.entry(identity(facts)).or_insert_with(|| Known {
            memory: PeerMemory {
                node,
                incarnation,
                shard,
                start: 0,
                boot: BootId::default(),
                durable: Sequence(0),
                fenced: false,
            },
            starts: Vec::new(),
            live: None,
        });
        assert!(known.memory.start <= start.number, "{} went back unnoticed", facts.pair());
        known.starts.clone_from(&facts.starts);
        (known.memory.start, known.memory.boot) = (start.number, start.boot);
        self.changed.insert((node, incarnation, shard));
        // The batches that a start kept were durable before that start.
        let is_counted = self.saw(facts.pair(), incarnation, start.boot, durable.max(start.kept));
        assert!(is_counted, "{} was admitted although it is fenced", facts.pair());
    }

    /// A frame came from a peer that was admitted: the peer lives, and its WAL is durable up to
    /// `durable`. Returns false if the frame counts for nothing: the peer was fenced since, or
    /// another process of it was admitted. A process that was suspended while it was replaced may
    /// resume (safety I5).
    pub fn saw(
        &mut self,
        peer: PeerShard,
        incarnation: Incarnation,
        boot: BootId,
        durable: Sequence,
    ) -> bool {
        let identity = (peer.node, incarnation, peer.shard);
        let Some(known) = self.peers.get_mut(&identity) else { return false };
        if known.memory.boot != boot || known.memory.fenced {
            purlin_rsm::sometimes!("frame of a replaced process ignored");
            return false;
        }
        known.live = Some((boot, self.now));
        if known.memory.durable < durable {
            known.memory.durable = durable;
            self.changed.insert(identity);
        }
        true
    }

    /// Takes the memories that have changed since the last call, to be made durable. A `fenced` one
    /// is written soon, since the peer may come back (safety I4); the others may wait.
    pub fn take_changes(&mut self) -> Vec<PeerMemory> {
        let changed = std::mem::take(&mut self.changed);
        changed.iter().map(|identity| self.peers[identity].memory).collect()
    }

    /// All memories, ascending.
    pub fn memories(&self) -> impl Iterator<Item = PeerMemory> {
        self.peers.values().map(|known| known.memory)
    }

    /// Beats since the last frame of the shard that `facts` tell of; `None` when none came since our own
    /// start.
    pub(crate) fn silent_beats(&self, facts: &Facts) -> Option<u64> {
        let (_, heard) = self.peers.get(&identity(facts))?.live?;
        Some(self.now - heard)
    }

    /// One beat has passed.
    pub fn beat(&mut self) {
        self.now += 1;
    }

    /// Safety I3. A member that is met for the first time is admitted with any incarnation.
    fn check_member(&self, facts: &Facts) -> Result<(), Refusal> {
        match self.members.get(&facts.node) {
            None => Err(Refusal::NotMember { node: facts.node }),
            Some(Some(expected)) if *expected != facts.incarnation => {
                purlin_rsm::sometimes!("another incarnation refused");
                let (node, expected, got) = (facts.node, *expected, facts.incarnation);
                Err(Refusal::OtherIncarnation { node, expected, got })
            }
            Some(_) => Ok(()),
        }
    }

    /// Safety I5. This check comes before I4: so the copy of a directory that runs is held off, and
    /// the original is not fenced.
    fn check_live(&self, known: &Known, facts: &Facts) -> Result<(), Refusal> {
        let boot = facts.start().boot;
        match known.live {
            Some((live, heard)) if live != boot && self.now - heard <= self.silence_beats => {
                purlin_rsm::sometimes!("second boot id held off");
                let (node, shard) = (facts.node, facts.shard);
                Err(Refusal::DuplicateBoot { node, shard, live, held_off: boot })
            }
            _ => Ok(()),
        }
    }

    fn fence(&mut self, identity: Identity) {
        self.peers.get_mut(&identity).expect("only a known peer has gone back").memory.fenced =
            true;
        self.changed.insert(identity);
    }
}

impl Known {
    /// A network may deliver the handshake of a process after that of its successor. The
    /// successor's list names the boot id of the late handshake. The list of a directory that went
    /// back cannot name it, since each start draws a new boot id. So the handshake is late, and
    /// nobody is fenced.
    fn check_superseded(&self, facts: &Facts) -> Result<(), Refusal> {
        let Start { number, boot, .. } = facts.start();
        let is_old = |start: &Start| start.boot == boot && start.number == number;
        if number < self.memory.start && self.starts.iter().any(is_old) {
            purlin_rsm::sometimes!("late handshake of an older start refused");
            let (node, shard, latest) = (facts.node, facts.shard, self.memory.start);
            return Err(Refusal::Superseded { node, shard, start: number, latest });
        }
        Ok(())
    }

    /// Safety I4: compares a peer's list of starts with what is remembered of the peer. A list that
    /// begins after the remembered start does not name its boot id any more; but its first start
    /// must have kept at least what is remembered.
    fn gone_back(&self, starts: &[Start]) -> Option<GoneBack> {
        let PeerMemory { start, boot: expected, durable, .. } = self.memory;
        if starts.last().is_none_or(|last| last.number < start) {
            return Some(GoneBack::StartMissing { start });
        }
        if let Some(same) = starts.iter().find(|listed| listed.number == start)
            && same.boot != expected
        {
            return Some(GoneBack::OtherBoot { start, expected, got: same.boot });
        }
        let successor = starts.iter().find(|listed| listed.number > start)?;
        let kept = successor.kept;
        (kept < durable).then_some(GoneBack::KeptLess { start, durable, kept })
    }
}

fn identity(facts: &Facts) -> Identity {
    (facts.node, facts.incarnation, facts.shard)
}

#[cfg(test)]
#[path = "peer_book_test.rs"]
mod tests;
