//! What a shard remembers of its peers, and what follows from it for a handshake (safety I3-I5).
//! Pure: the engine seeds it from recovery, and writes its changes into the WAL when it likes.
//!
//! ```text
//!             I3 another life of the node's directory?      OtherIncarnation
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
    /// The nodes of the cluster, each with the life of its directory once that is known.
    members: BTreeMap<NodeId, Option<Incarnation>>,
    peers: BTreeMap<Identity, Known>,
    /// Those whose memory has changed since the engine last took the changes.
    changed: BTreeSet<Identity>,
    /// Counts beats.
    now: u64,
    /// A boot id that was not heard for as many beats is no obstacle to another.
    silence_beats: u64,
}

/// One shard's data directory.
type Identity = (NodeId, Incarnation, ShardId);

struct Known {
    memory: PeerMemory,
    /// The starts that the peer listed when it was last admitted.
    starts: Vec<Start>,
    /// The boot id that was last heard here, and when; none since our own start.
    live: Option<(BootId, u64)>,
}

impl PeerBook {
    /// `members` are all nodes that may connect, each with its incarnation if it is known already;
    /// `memories` is what recovery found; `silence_beats` are two heartbeats (safety I5).
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
            // Without a table that says otherwise, the life that was met is the life that is known.
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

    /// The members with their incarnations, as the cluster has agreed on them: replaces what was
    /// known.
    pub fn set_table(&mut self, table: impl IntoIterator<Item = (NodeId, Incarnation)>) {
        self.members =
            table.into_iter().map(|(node, incarnation)| (node, Some(incarnation))).collect();
    }

    /// Whether the peer may connect. One that has gone back is fenced by this.
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

    /// The peer passed `check` in this turn: remembers its life and its start. `durable` came with
    /// its handshake.
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
        // What a start kept was durable before it.
        let is_counted = self.saw(facts.pair(), incarnation, start.boot, durable.max(start.kept));
        assert!(is_counted, "{} was admitted although it is fenced", facts.pair());
    }

    /// A frame came from a peer that was admitted: it lives, and its WAL is durable up to
    /// `durable`. Returns false, and the frame counts for nothing, if the peer was fenced since, or
    /// if another process of it was admitted: a process that slept through its replacement may wake
    /// (safety I5).
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

    /// Takes what has changed since the last call, to be remembered durably: at leisure, but a
    /// memory that is `fenced` soon, since the peer may come back (safety I4).
    pub fn take_changes(&mut self) -> Vec<PeerMemory> {
        let changed = std::mem::take(&mut self.changed);
        changed.iter().map(|identity| self.peers[identity].memory).collect()
    }

    /// Everything that is remembered, ascending.
    pub fn memories(&self) -> impl Iterator<Item = PeerMemory> {
        self.peers.values().map(|known| known.memory)
    }

    /// One beat has passed.
    pub fn beat(&mut self) {
        self.now += 1;
    }

    /// Safety I3. A member that is met for the first time is welcome in whatever life.
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

    /// Safety I5: comes before I4, so that the copy of a directory that runs is held off and does
    /// not fence the original.
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
        self.peers.get_mut(&identity).expect("only who is known has gone back").memory.fenced =
            true;
        self.changed.insert(identity);
    }
}

impl Known {
    /// A network may deliver the handshake of a process after that of its successor. Its boot id
    /// stands in the successor's list, which a directory that went back cannot have: it draws a new
    /// one at each start. So this is late, and no reason to fence anybody.
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

    /// Safety I4: compares a peer's list of starts with what is remembered of it. A list that
    /// begins behind the remembered start cannot name its boot id any more, but what its first
    /// start kept still has to reach as far.
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
#[path = "peers_test.rs"]
mod tests;
