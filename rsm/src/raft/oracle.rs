//! What must be true of a cluster at every step, judged with all of it in view: every log, every message, and
//! what each disk really holds (Raft paper, figure 3; sections 2 and 4 of `docs/SAFETY.md`).

use super::{
    Append, Raft, RoleKind, Voters,
    harness::{Node, show_envelope},
};
use crate::{
    entry::{Entry, Payload},
    message::{Envelope, Message},
    types::{EntryId, Index, NodeId, Term},
};
use std::collections::BTreeMap;

/// Judges a cluster. Each method panics when its rule is broken.
pub(super) struct Oracle {
    voters: Voters,
    /// The leader of each term: at most one (election safety).
    leaders: BTreeMap<Term, NodeId>,
    /// The candidate that each voter has voted for in each term, as far as a message said so.
    votes: BTreeMap<(Term, NodeId), NodeId>,
    /// Every entry that ever was in a log, with the term of the entry before it (log matching).
    entries: BTreeMap<EntryId, (Term, Payload)>,
    /// The term of each entry that was ever committed, and the term in which it was committed.
    committed: BTreeMap<Index, (Term, Term)>,
    /// The highest commit that was known at any replica when each read was registered.
    reads: BTreeMap<u64, Index>,
}

impl Oracle {
    pub(super) fn new(voters: Voters) -> Self {
        Self {
            voters,
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            entries: BTreeMap::new(),
            committed: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    /// The last entry that was ever committed.
    pub(super) fn committed(&self) -> Index {
        self.committed.last_key_value().map_or(Index(0), |(index, _)| *index)
    }

    /// Some logs begin behind `floor`. It was committed before the oracle began to look.
    pub(super) fn begin_at(&mut self, floor: EntryId) {
        self.committed.insert(floor.index, (floor.term, floor.term));
    }

    /// Whether an entry was ever committed while the oracle looked.
    pub(super) fn is_committed(&self, id: EntryId) -> bool {
        self.committed.get(&id.index).is_some_and(|(term, _)| *term == id.term)
    }

    /// A read was registered at some replica, now.
    pub(super) fn registered(&mut self, read: u64) {
        let known = self.committed();
        assert!(self.reads.insert(read, known).is_none(), "read {read} is registered twice");
    }

    /// A read that is answered at `index` sees everything that was committed when it began.
    pub(super) fn confirmed(&mut self, read: u64, index: Index) {
        let known = self.reads[&read];
        assert!(index >= known, "read {read} at {index}, but {known} was committed before it");
    }

    /// Entries were handed out to be written. None has the name of another entry.
    pub(super) fn wrote(&mut self, append: &Append, raft: &Raft) {
        if let Some(first) = append.entries.first() {
            let hint = append.hard_state.map_or(Index(0), |state| state.committed);
            assert!(
                hint < first.index,
                "{hint} is committed, of what is written from {} on",
                first.id()
            );
            let before = raft.term_of(first.index.previous()).expect("the log has no gap");
            self.hold(&append.entries, before);
        }
    }

    /// These entries are in a log, after one of term `before`.
    pub(super) fn hold(&mut self, entries: &[Entry], mut before: Term) {
        for entry in entries {
            self.enter(entry, before);
            before = entry.term;
        }
    }

    fn enter(&mut self, entry: &Entry, before: Term) {
        let known = self.entries.entry(entry.id()).or_insert((before, entry.payload.clone()));
        assert_eq!(known, &(before, entry.payload.clone()), "two entries are named {}", entry.id());
    }

    /// The applied entries follow those applied before, and they are the committed ones.
    pub(super) fn applies(&self, applied: Index, entries: &[Entry]) {
        for (index, entry) in (applied.next().0..).zip(entries) {
            assert_eq!(entry.index, Index(index), "applied out of order");
            assert!(self.is_committed(entry.id()), "applied {} uncommitted", entry.id());
            assert_eq!(self.entries.get(&entry.id()).map(|known| &known.1), Some(&entry.payload));
        }
    }

    /// A message has left. What it promises is durable (safety A1, A2), and true.
    pub(super) fn sent(&mut self, envelope: &Envelope, sender: &Node) {
        let (disk, term, what) = (&sender.disk, envelope.term, || show_envelope(envelope));
        let voted = |whom: NodeId| {
            disk.hard_state.term > term
                || (disk.hard_state.term == term && disk.hard_state.vote == Some(whom))
        };
        match &envelope.message {
            Message::VoteReply { granted: true } => {
                assert!(voted(envelope.to), "the vote is not durable: {}", what());
                let whom = *self.votes.entry((term, envelope.from)).or_insert(envelope.to);
                assert_eq!(whom, envelope.to, "a second vote: {}", what());
            }
            Message::Vote { last, .. } => {
                assert!(voted(envelope.from), "the own vote is not durable: {}", what());
                assert_eq!(disk.term(last.index), Some(last.term), "not durable: {}", what());
                let whom = *self.votes.entry((term, envelope.from)).or_insert(envelope.from);
                assert_eq!(whom, envelope.from, "a second vote: {}", what());
            }
            Message::AppendReply { matched } => {
                let held = sender.raft.as_ref().and_then(|raft| raft.term_of(*matched));
                assert_eq!(disk.term(*matched), held, "not durable: {}", what());
            }
            Message::Append { prev, entries, .. } => {
                assert!(voted(envelope.from), "it leads without a durable vote: {}", what());
                assert_eq!(self.leaders.get(&term), Some(&envelope.from), "no leader: {}", what());
                self.hold(entries, prev.term);
            }
            Message::ReadProbe { .. } => {
                assert_eq!(self.leaders.get(&term), Some(&envelope.from), "no leader: {}", what());
            }
            _ => {}
        }
    }

    /// A replica has taken a step.
    pub(super) fn judge(&mut self, id: NodeId, nodes: &BTreeMap<NodeId, Node>) {
        let node = &nodes[&id];
        let Some(raft) = &node.raft else { return };
        assert_eq!(
            node.disk.term(raft.durable()),
            raft.term_of(raft.durable()),
            "{id} takes {} for durable, its disk ends in {}",
            raft.durable(),
            node.disk.last()
        );
        if raft.role() == RoleKind::Leader && !self.leaders.contains_key(&raft.term()) {
            self.judge_completeness(id, node);
        }
        if raft.role() == RoleKind::Leader {
            let leader = *self.leaders.entry(raft.term()).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {}", raft.term());
        }
        self.judge_commit(id, nodes);
    }

    /// A leader has all entries that were committed in earlier terms (leader completeness).
    fn judge_completeness(&self, id: NodeId, node: &Node) {
        let raft = node.raft.as_ref().expect("a leader is up");
        let floor = raft.log.floor().index;
        for (index, (term, within)) in self.committed.range(floor..) {
            if *within < raft.term() {
                let held = raft.term_of(*index);
                assert_eq!(held, Some(*term), "leader {id} lacks committed entry {index}");
            }
        }
    }

    /// A committed entry never changes, and a majority holds it durably when it is committed. A leader finds
    /// entries of its own term committed; entries before them are committed with them.
    fn judge_commit(&mut self, id: NodeId, nodes: &BTreeMap<NodeId, Node>) {
        let raft = nodes[&id].raft.as_ref().expect("it has taken a step");
        let known = self.committed();
        let checked = raft.committed().min(known);
        let held = raft.term_of(checked);
        if let (Some((committed, _)), Some(held)) = (self.committed.get(&checked), held) {
            assert_eq!(held, *committed, "{id} holds another committed entry {checked}");
        }
        assert!(
            held.is_some() || checked < raft.log.floor().index,
            "{id} lacks the committed entry {checked}"
        );
        if raft.committed() > known && raft.role() == RoleKind::Leader {
            let last = raft.term_of(raft.committed());
            assert_eq!(
                last,
                Some(raft.term()),
                "leader {id} counts copies of an earlier term's entry"
            );
        }
        for index in (known.0 + 1..=raft.committed().0).map(Index) {
            let term = raft.term_of(index).expect("a committed entry is in the log");
            let holds = |node: &NodeId| {
                let disk = &nodes[node].disk;
                index < disk.floor.index || disk.term(index) == Some(term)
            };
            assert!(
                self.voters.has_majority(|voter| holds(&voter)),
                "{id} commits {index}@{term}, which only {:?} hold durably, of {:?}",
                nodes.keys().copied().filter(holds).collect::<Vec<_>>(),
                self.voters
            );
            self.committed.insert(index, (term, raft.term()));
        }
    }
}
