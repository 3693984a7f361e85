//! The latest state of each group and of each peer in the WAL, and where its record lies.
//!
//! The same code applies the records of a submitted batch and the records that recovery reads, so that
//! a start cannot find another state than was submitted.

use crate::{
    batch::Batch,
    index::{Location, Mark, Marks},
    invariant::{Violation, holds},
    record::{self, Malformed, Record, Records},
};
use purlin_rsm::{
    EntryId, GroupId, HardState, Incarnation, Index, NodeId, PeerMemory, Position, Sequence,
    ShardId, Term, run::Run,
};
use std::{
    collections::{BTreeMap, VecDeque},
    ops::{Range, RangeInclusive},
};

/// A value and the segment in which its latest record lies; 0 before it has one.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) segment: u64,
}

/// The present state of everything in the WAL.
#[derive(Default)]
pub(crate) struct Live {
    groups: BTreeMap<GroupId, Group>,
    peers: BTreeMap<(NodeId, Incarnation, ShardId), Placed<PeerMemory>>,
    /// All bytes of WAL that were applied; the distance between marks is counted in them.
    wal_bytes: u64,
}

/// One group's part of the WAL.
#[derive(Default)]
pub(crate) struct Group {
    hard_state: Option<Placed<HardState>>,
    /// The entry before the first; nothing at or below it is needed.
    floor: Placed<EntryId>,
    /// The lowest entry from which on every entry has been seen.
    seen_from: Index,
    /// The position of the last command up to the floor.
    floor_position: Position,
    /// The last entry, or the floor.
    last: Index,
    /// The position of the last command of the log.
    end: Position,
    /// Each run of one term, with its first index. Ascending in both.
    terms: Vec<(Index, Term)>,
    marks: Marks,
    /// The first entry of each write that was not yet seen to be durable, and the write.
    /// Ascending in both: a replaced entry's write is taken out.
    pending: VecDeque<(Index, Sequence)>,
    /// Counts truncations, so that a read notices one under it.
    truncations: u64,
}

/// A write on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) sequence: Sequence,
    /// The watermark when it was submitted.
    pub(crate) durable: Sequence,
}

/// What is to be done for the next entries of a read.
pub(crate) enum ReadPlan {
    /// Nothing of the range is in the log, or nothing more.
    End,
    /// The first of them is durable with this write.
    Wait(Sequence),
    /// They stand from the mark on, up to the index.
    Scan(Mark, Index),
}

impl Live {
    /// Applies a batch of `written_bytes` at `at`. `pending` is its write while it is not durable.
    pub(crate) fn apply(
        &mut self,
        records: &[u8],
        at: Location,
        written_bytes: usize,
        pending: Option<Pending>,
        mut each_run: impl FnMut(GroupId, &Run<'_>),
    ) -> Result<(), Malformed> {
        for record in Records::new(records) {
            match record? {
                Record::HardState { group, state, relocated } => {
                    self.entry(group).set_hard_state(state, at.segment, relocated);
                }
                Record::Entries { group, run } => {
                    let (groups, wal_bytes) = (self.groups.len(), self.wal_bytes);
                    self.entry(group).append(&run, at, wal_bytes, groups, pending)?;
                    each_run(group, &run);
                }
                Record::Floor { group, floor, position } => {
                    self.entry(group).set_floor(floor, position, at.segment);
                }
                Record::Peer { memory, relocated } => self.set_peer(memory, at.segment, relocated),
            }
        }
        self.wal_bytes += written_bytes as u64;
        Ok(())
    }

    fn entry(&mut self, group: GroupId) -> &mut Group {
        self.groups.entry(group).or_default()
    }

    /// The group, if there is anything of it.
    pub(crate) fn group(&self, group: GroupId) -> Option<&Group> {
        self.groups.get(&group)
    }

    /// All groups of which there is anything.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().map(|(&id, group)| (id, group))
    }

    /// Entries of `group` below `first`, whose last command has `position`, are no longer needed.
    pub(crate) fn forget(&mut self, group: GroupId, first: Index, position: Position) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.forget(first, position);
        }
    }

    /// How to read the next entries of a range, and how often the group's log was truncated before.
    pub(crate) fn plan_read(
        &mut self,
        group: GroupId,
        range: Range<Index>,
        durable: Sequence,
    ) -> (ReadPlan, u64) {
        match self.groups.get_mut(&group) {
            Some(group) => (group.plan_read(range, durable), group.truncations),
            None => (ReadPlan::End, 0),
        }
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
                batch.relocated(|out| {
                    record::put_floor(out, id, group.floor.value, group.floor_position);
                });
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

    /// Checks what is always true of each group alone. Records on a disk that contradict it are damage.
    pub(crate) fn check_groups(&self) -> Result<(), Violation> {
        self.groups.iter().try_for_each(|(id, group)| group.check(*id))
    }

    /// Checks what is always true of the index and the latest records. `needed` checks that a segment in
    /// which one of them lies is there.
    pub(crate) fn check(
        &self,
        needed: impl Fn(u64) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        self.check_groups()?;
        for group in self.groups.values() {
            let hard_state = group.hard_state.map(|state| state.segment);
            // A floor that was raised in memory has no record yet.
            let floor = Some(group.floor.segment).filter(|segment| *segment > 0);
            let entries = group.marks.oldest().map(|at| at.segment);
            [hard_state, floor, entries].into_iter().flatten().try_for_each(&needed)?;
        }
        self.peers.values().try_for_each(|peer| needed(peer.segment))
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
        run: &Run<'_>,
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
            // The missing entries may have been released, and the floor that says so may still come:
            // `is_complete` judges at the end.
            self.clear(run.first);
        } else if !self.positions_before(run.first).contains(&run.before) {
            assert!(
                pending.is_none(),
                "entries from {} have {} commands before them, and the log has {:?}",
                run.first,
                run.before,
                self.positions_before(run.first)
            );
            return Err(Malformed(
                "entries count the commands before them differently than the log",
            ));
        }
        if run.first <= self.last {
            self.truncate(run.first);
            self.marks.replace(run.first, at, wal_bytes);
        } else {
            self.marks.append(run.first, at, wal_bytes, groups);
        }
        self.seen_from =
            if self.seen_from == Index(0) { run.first } else { self.seen_from.min(run.first) };
        let before = self.terms.last().map_or(self.floor.value.term, |&(_, term)| term);
        assert!(
            pending.is_none() || before <= run.term,
            "entries from {} have term {}, behind entries of term {before}",
            run.first,
            run.term
        );
        if self.terms.last().is_none_or(|&(_, term)| term != run.term) {
            self.terms.push((run.first, run.term));
        }
        if let Some(Pending { sequence, durable }) = pending {
            // Without this the list would grow with every write, as long as nobody reads.
            self.forget_durable(durable);
            self.pending.push_back((run.first, sequence));
        }
        (self.last, self.end) = (run.last(), run.end);
        Ok(())
    }

    /// What the position of the last command below `first` may be; the log has the entry before `first`, or
    /// its floor is there. Between the floor and the end the positions of entries are not in memory.
    fn positions_before(&self, first: Index) -> RangeInclusive<Position> {
        if first == self.last.next() {
            self.end..=self.end
        } else if first == self.first() {
            self.floor_position..=self.floor_position
        } else {
            self.floor_position..=self.end
        }
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
    fn set_floor(&mut self, floor: EntryId, position: Position, segment: u64) {
        if floor.index < self.floor.value.index {
            return;
        }
        self.floor = Placed { value: floor, segment };
        self.floor_position = position;
        if floor.index >= self.last {
            self.clear(floor.index.next());
            (self.last, self.end) = (floor.index, position);
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

    /// Entries below `first` are no longer needed; `position` is that of the last command in them.
    fn forget(&mut self, first: Index, position: Position) {
        assert!(first <= self.last.next(), "forgets up to {first}, and ends in {}", self.last);
        if first > self.first() {
            let possible = self.positions_before(first);
            assert!(
                possible.contains(&position),
                "forgets {position} commands up to {first}, and the log has {possible:?}"
            );
            let index = first.previous();
            let term = self.term_at(index).expect("an entry of the log has a term");
            self.set_floor(EntryId::new(term, index), position, 0);
        }
    }

    /// The latest hard state, if there is one.
    pub(crate) fn hard_state(&self) -> Option<Placed<HardState>> {
        self.hard_state
    }

    /// The entry before the first.
    pub(crate) fn floor(&self) -> Placed<EntryId> {
        self.floor
    }

    /// The last entry, or the floor.
    pub(crate) fn last(&self) -> Index {
        self.last
    }

    /// The position of the last command of the log.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Each run of one term above the floor, with its first index.
    pub(crate) fn terms(&self) -> &[(Index, Term)] {
        &self.terms
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

    /// How to read the next entries of a range.
    fn plan_read(&mut self, range: Range<Index>, durable: Sequence) -> ReadPlan {
        if range.start < self.first() || range.start > self.last {
            return ReadPlan::End;
        }
        let mut end = range.end.min(self.last.next());
        if let Some((from, sequence)) = self.pending(durable, range.start) {
            if range.start >= from {
                purlin_rsm::sometimes!("read of entries waits until they are durable");
                return ReadPlan::Wait(sequence);
            }
            end = end.min(from);
        }
        let (mark, served) = self.marks.find(range.start).expect("a log's entries have a mark");
        ReadPlan::Scan(mark, end.min(served.end))
    }

    /// The first entry of those that are not durable yet, and the write with which `index` itself is
    /// durable; nothing if all is durable.
    fn pending(&mut self, durable: Sequence, index: Index) -> Option<(Index, Sequence)> {
        self.forget_durable(durable);
        let from = self.pending.front()?.0;
        let after = self.pending.partition_point(|&(start, _)| start <= index);
        let sequence = self.pending.get(after.saturating_sub(1))?.1;
        Some((from, sequence))
    }

    /// Checks what is always true of one group's part of the WAL.
    fn check(&self, id: GroupId) -> Result<(), Violation> {
        let (floor, last) = (self.floor.value, self.last);
        holds(floor.index <= last, "a group's floor is not above its last entry", || {
            format!("group {id}: floor {floor}, last {last}")
        })?;
        let (floor_position, end) = (self.floor_position, self.end);
        holds(
            floor_position <= end && (floor.index < last || floor_position == end),
            "a group's commands up to the floor are not more than up to its end",
            || format!("group {id}: {floor_position} up to {floor}, {end} up to {last}"),
        )?;
        holds(
            self.terms.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1),
            "a group's term runs ascend in index and term",
            || format!("group {id}: {:?}", self.terms),
        )?;
        let first_run = self.terms.first().map(|run| run.0);
        let last_run = self.terms.last().map(|run| run.0);
        holds(
            first_run == (floor.index < last).then(|| self.first()) && last_run <= Some(last),
            "a group's term runs cover its log from the floor to the last entry",
            || format!("group {id}: floor {floor}, last {last}, runs {:?}", self.terms),
        )?;
        holds(
            self.terms.first().is_none_or(|&(_, term)| floor.term <= term),
            "a group's floor has no higher term than its entries",
            || format!("group {id}: floor {floor}, runs {:?}", self.terms),
        )?;
        holds(
            self.pending.iter().is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
            "a group's pending writes ascend in index and sequence",
            || format!("group {id}: {:?}", self.pending),
        )?;
        self.marks.check(id, self.first(), last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Harness, append, hard_state, small};

    const GROUP: GroupId = GroupId(1);

    /// Breaks the state of a WAL with entries of two terms, and says which invariant does not hold.
    fn broken(change: impl FnOnce(&mut Live)) -> &'static str {
        let mut h = Harness::new(small(), 1);
        h.write(hard_state(1, 3, 1));
        h.write(append(1, 2, 1..4, 10));
        h.write(append(1, 3, 4..7, 10));
        let wal = h.wal();
        assert_eq!(wal.check(), Ok(()));
        change(wal.state.borrow_mut().live_mut());
        wal.check().unwrap_err().invariant
    }

    fn broken_group(change: impl FnOnce(&mut Group)) -> &'static str {
        broken(|live| change(live.groups.get_mut(&GROUP).unwrap()))
    }

    #[test]
    fn each_broken_invariant_is_named() {
        assert_eq!(
            broken_group(|group| group.floor.value.index = Index(7)),
            "a group's floor is not above its last entry"
        );
        assert_eq!(
            broken_group(|group| group.floor_position = Position(7)),
            "a group's commands up to the floor are not more than up to its end"
        );
        assert_eq!(
            broken_group(|group| group.terms[1].1 = Term(1)),
            "a group's term runs ascend in index and term"
        );
        assert_eq!(
            broken_group(|group| group.terms.clear()),
            "a group's term runs cover its log from the floor to the last entry"
        );
        assert_eq!(
            broken_group(|group| group.floor.value.term = Term(3)),
            "a group's floor has no higher term than its entries"
        );
        assert_eq!(
            broken_group(|group| {
                group.pending = [(Index(5), Sequence(9)), (Index(4), Sequence(10))].into();
            }),
            "a group's pending writes ascend in index and sequence"
        );
        assert_eq!(broken_group(|group| group.marks.clear()), "a group's first entry has a mark");
        assert_eq!(
            broken_group(|group| group.hard_state.as_mut().unwrap().segment = 1),
            "each needed segment is kept, and not below the oldest that batches name (W7)"
        );
    }

    #[test]
    #[should_panic(expected = "behind entries of term 3")]
    fn a_write_of_a_lower_term_panics() {
        let mut h = Harness::new(small(), 1);
        h.write(append(1, 3, 1..4, 10));
        h.submit(append(1, 2, 4..5, 10));
    }

    fn run(first: u64, before: u64, end: u64) -> Run<'static> {
        let (first, before, end) = (Index(first), Position(before), Position(end));
        Run { term: Term(1), first, before, count: 3, end, bytes: &[] }
    }

    /// A group with the entries 4 to 9 and the floor at 3, and positions 30, 31 and 100 at 3, 6 and 9.
    fn with_positions(next: &Run<'_>, pending: Option<Pending>) -> Result<(), Malformed> {
        let mut group = Group::default();
        let at = Location::first(1);
        for run in [run(1, 0, 30), run(4, 30, 31), run(7, 31, 100)] {
            group.append(&run, at, 0, 1, None)?;
        }
        group.forget(Index(4), Position(30));
        group.append(next, at, 0, 1, pending)
    }

    #[test]
    fn a_record_with_a_wrong_position_is_damage() {
        let found = |first, before| with_positions(&run(first, before, before + 3), None);
        for (first, before) in [(10, 100), (4, 30), (7, 31)] {
            assert_eq!(found(first, before), Ok(()), "entry {first} behind {before} commands");
        }
        for (first, before) in [(10, 99), (10, 101), (4, 29), (4, 31), (7, 29), (7, 101)] {
            assert!(found(first, before).is_err(), "entry {first} behind {before} commands");
        }
        // The floor that tells of what is missing may still come.
        assert_eq!(found(11, 5000), Ok(()));
    }

    #[test]
    #[should_panic(expected = "entries from 10 have 99 commands before them")]
    fn a_write_with_a_wrong_position_panics() {
        let pending = Pending { sequence: Sequence(2), durable: Sequence(1) };
        _ = with_positions(&run(10, 99, 102), Some(pending));
    }

    /// A read of entries waits for the write that holds them, not for an earlier or a later one.
    #[test]
    fn each_entry_is_durable_with_the_write_that_holds_it() {
        let mut group = Group::default();
        for (first, sequence) in [(1, 5), (4, 6), (7, 7)] {
            let pending = Pending { sequence: Sequence(sequence), durable: Sequence(4) };
            let run = run(first, first - 1, first + 2);
            group.append(&run, Location::first(1), 0, 1, Some(pending)).unwrap();
        }
        let mut pending = |durable, index| {
            let pending = group.pending(Sequence(durable), Index(index));
            pending.map(|(from, sequence)| (from.0, sequence.0))
        };
        let waits = [1, 3, 4, 6, 7, 9].map(|index| pending(4, index));
        assert_eq!(waits, [5, 5, 6, 6, 7, 7].map(|sequence| Some((1, sequence))));
        assert_eq!([4, 9].map(|index| pending(5, index)), [Some((4, 6)), Some((4, 7))]);
        assert_eq!(pending(7, 9), None);
    }

    #[test]
    #[should_panic(expected = "forgets 101 commands up to 7")]
    fn a_floor_with_a_wrong_position_panics() {
        let mut h = Harness::new(small(), 1);
        h.write(append(1, 1, 1..10, 10));
        h.wal().forget(GROUP, Index(7), Position(101));
    }
}
