//! What the WAL holds that is still true: of each group and of each peer the latest, and where it lies.
//!
//! The same code takes in the records of a submitted batch and those that recovery reads, so that
//! what is written and what is found again cannot differ.

use crate::{
    batch::Batch,
    index::{Location, Marks},
    record::{self, EntryRun, Malformed, Record, Records},
};
use purlin_rsm::{
    EntryId, GroupId, HardState, Incarnation, Index, NodeId, PeerMemory, Sequence, ShardId, Term,
};
use std::collections::{BTreeMap, VecDeque};

/// A value and the segment in which its latest record lies; 0 before it has one.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) segment: u64,
}

/// The present state of everything in the WAL.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) groups: BTreeMap<GroupId, Group>,
    peers: BTreeMap<(NodeId, Incarnation, ShardId), Placed<PeerMemory>>,
    /// All bytes of WAL that were taken in, by which marks are spaced.
    wal_bytes: u64,
}

/// One group's part of the WAL.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) hard_state: Option<Placed<HardState>>,
    /// The entry before the first; nothing at or below it is needed.
    pub(crate) floor: Placed<EntryId>,
    /// The lowest entry from which on the WAL has been seen to have them all.
    seen_from: Index,
    /// The last entry, or the floor.
    pub(crate) last: Index,
    /// Each run of one term, with its first index. Ascending in both.
    pub(crate) terms: Vec<(Index, Term)>,
    pub(crate) marks: Marks,
    /// The first entry of each write that was not yet seen to be durable, and the write.
    /// Ascending in both: what a later one replaces is gone.
    pending: VecDeque<(Index, Sequence)>,
    /// Counts truncations, so that a read notices one under it.
    pub(crate) truncations: u64,
}

/// A write on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) sequence: Sequence,
    /// What is durable by now.
    pub(crate) durable: Sequence,
}

impl Live {
    /// Takes in a batch of `written_bytes` at `at`. `pending` is its write while it is not durable.
    pub(crate) fn apply(
        &mut self,
        records: &[u8],
        at: Location,
        written_bytes: usize,
        pending: Option<Pending>,
        mut each_run: impl FnMut(&EntryRun<'_>),
    ) -> Result<(), Malformed> {
        for record in Records::new(records) {
            match record? {
                Record::HardState { group, state, relocated } => {
                    self.group(group).set_hard_state(state, at.segment, relocated);
                }
                Record::Entries(run) => {
                    let (groups, wal_bytes) = (self.groups.len(), self.wal_bytes);
                    self.group(run.group).append(&run, at, wal_bytes, groups, pending)?;
                    each_run(&run);
                }
                Record::Floor { group, floor } => self.group(group).set_floor(floor, at.segment),
                Record::Peer { memory, relocated } => self.set_peer(memory, at.segment, relocated),
            }
        }
        self.wal_bytes += written_bytes as u64;
        Ok(())
    }

    fn group(&mut self, group: GroupId) -> &mut Group {
        self.groups.entry(group).or_default()
    }

    fn set_peer(&mut self, memory: PeerMemory, segment: u64, relocated: bool) {
        let key = (memory.node, memory.incarnation, memory.shard);
        // W6: a relocated memory is no newer than what came after the record that it replaces.
        let is_older = |known: &Placed<PeerMemory>| {
            let known = &known.value;
            (memory.start, memory.durable) < (known.start, known.durable)
                || known.fenced && !memory.fenced
        };
        if !(relocated && self.peers.get(&key).is_some_and(is_older)) {
            self.peers.insert(key, Placed { value: memory, segment });
        }
    }

    /// What is remembered of peers.
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerMemory> {
        self.peers.values().map(|peer| peer.value)
    }

    /// The oldest segment that holds an entry that is needed.
    pub(crate) fn oldest_with_entries(&self) -> Option<u64> {
        let oldest = |group: &Group| group.marks.oldest().map(|at| at.segment);
        self.groups.values().filter_map(oldest).min()
    }

    /// The records, as they are now, of everything but entries whose latest record lies below
    /// segment `until` (safety W6, W7).
    pub(crate) fn relocations(&self, until: u64) -> Batch {
        let mut batch = Batch::default();
        for (&id, group) in &self.groups {
            if let Some(state) = group.hard_state.filter(|state| state.segment < until) {
                batch.relocated(|out| record::put_hard_state(out, id, state.value, true));
            }
            if group.floor.value != EntryId::default() && group.floor.segment < until {
                batch.relocated(|out| record::put_floor(out, id, group.floor.value));
            }
        }
        for peer in self.peers.values().filter(|peer| peer.segment < until) {
            batch.relocated(|out| record::put_peer(out, &peer.value, true));
        }
        batch
    }

    /// How many marks the index has.
    pub(crate) fn marks(&self) -> usize {
        self.groups.values().map(|group| group.marks.len()).sum()
    }
}

impl Group {
    fn set_hard_state(&mut self, state: HardState, segment: u64, relocated: bool) {
        // W6: a relocated hard state never lowers a term or takes a vote back.
        let older = |known: Placed<HardState>| {
            let (known, new) = (known.value, state);
            new.term < known.term
                || new.term == known.term && known.vote.is_some() && new.vote != known.vote
        };
        if !(relocated && self.hard_state.is_some_and(older)) {
            self.hard_state = Some(Placed { value: state, segment });
        }
    }

    fn append(
        &mut self,
        run: &EntryRun<'_>,
        at: Location,
        wal_bytes: u64,
        groups: usize,
        pending: Option<Pending>,
    ) -> Result<(), Malformed> {
        if run.first <= self.floor.value.index {
            assert!(pending.is_none(), "{} replaces what was forgotten", run.first);
            return Err(Malformed("entries replace what was committed and forgotten"));
        }
        if run.first > self.last.next() {
            assert!(
                pending.is_none(),
                "entries from {} leave a gap behind {}",
                run.first,
                self.last
            );
            // What is missing was released together with a floor that may still come: `complete`
            // judges at the end.
            self.clear(run.first);
        }
        if run.first <= self.last {
            self.truncate(run.first);
            self.marks.replace(run.first, at, wal_bytes);
        } else {
            self.marks.append(run.first, at, wal_bytes, groups);
        }
        self.seen_from =
            if self.seen_from == Index(0) { run.first } else { self.seen_from.min(run.first) };
        if self.terms.last().is_none_or(|&(_, term)| term != run.term) {
            self.terms.push((run.first, run.term));
        }
        if let Some(Pending { sequence, durable }) = pending {
            // Few are in flight: what no read has looked for since must not pile up.
            self.forget_durable(durable);
            self.pending.push_back((run.first, sequence));
        }
        self.last = run.last();
        Ok(())
    }

    fn truncate(&mut self, first: Index) {
        self.truncations += 1;
        self.terms.truncate(self.terms.partition_point(|&(start, _)| start < first));
        self.pending.truncate(self.pending.partition_point(|&(start, _)| start < first));
    }

    fn clear(&mut self, seen_from: Index) {
        self.truncate(Index(0));
        self.marks.clear();
        self.seen_from = seen_from;
    }

    /// Raises the floor; a lower one changes nothing (safety W6).
    fn set_floor(&mut self, floor: EntryId, segment: u64) {
        if floor.index < self.floor.value.index {
            return;
        }
        self.floor = Placed { value: floor, segment };
        if floor.index >= self.last {
            self.clear(floor.index.next());
            self.last = floor.index;
            return;
        }
        let first = floor.index.next();
        self.marks.forget(first);
        let below = self.terms.partition_point(|&(start, _)| start <= first).saturating_sub(1);
        self.terms.drain(..below);
        if let Some(run) = self.terms.first_mut() {
            run.0 = run.0.max(first);
        }
    }

    /// Entries below `first` are no longer needed.
    pub(crate) fn forget(&mut self, first: Index) {
        assert!(first <= self.last.next(), "forgets up to {first}, and ends in {}", self.last);
        if first > self.first() {
            let index = first.previous();
            let term = self.term_at(index).expect("an entry of the log has a term");
            self.set_floor(EntryId::new(term, index), 0);
        }
    }

    /// The first entry that is needed.
    pub(crate) fn first(&self) -> Index {
        self.floor.value.index.next()
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let after = self.terms.partition_point(|&(start, _)| start <= index);
        Some(self.terms.get(after.checked_sub(1)?)?.1)
    }

    /// Whether every entry above the floor has been seen.
    pub(crate) fn is_complete(&self) -> bool {
        self.last == self.floor.value.index || self.seen_from <= self.first()
    }

    fn forget_durable(&mut self, durable: Sequence) {
        while self.pending.front().is_some_and(|&(_, sequence)| sequence <= durable) {
            self.pending.pop_front();
        }
    }

    /// How many writes of it are held for not being durable.
    #[cfg(test)]
    pub(crate) fn pending_writes(&self) -> usize {
        self.pending.len()
    }

    /// Of `index` and above, what is not durable yet begins at this entry, and `index` itself is
    /// durable with this write; nothing if all is durable.
    pub(crate) fn pending(&mut self, durable: Sequence, index: Index) -> Option<(Index, Sequence)> {
        self.forget_durable(durable);
        let from = self.pending.front()?.0;
        let after = self.pending.partition_point(|&(start, _)| start <= index);
        let sequence = self.pending.get(after.saturating_sub(1))?.1;
        Some((from, sequence))
    }
}
