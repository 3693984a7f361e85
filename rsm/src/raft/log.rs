//! A group's log as its replica sees it: which entries there are, how far they are written, durable, committed
//! and applied, and the cached tail of the entries that are not yet sent or applied everywhere.
//!
//! ```text
//! floor  first             applied        committed          last
//!   |------|------------------|---------------|----------------|
//!          [ in the WAL only .........)[ cached ................]
//!                                   durable ^        ^ written
//! ```
//!
//! `floor <= applied <= committed <= last` and `floor <= durable <= written <= last`; `durable` and `committed`
//! are in no order, since a follower may learn of a commit before its own write completes.
//!
//! The log begins behind its floor, the last entry that it no longer holds. A floor only covers entries that
//! are committed, applied and durable. So all logs of the group agree at and below a floor (safety N2).
//!
//! Entries become durable by [`Log::completed`] only (safety A2, A3).

use super::{
    check::{Checked, ensure},
    terms::Terms,
};
use crate::{
    entry::Entry,
    types::{EntryId, Index, Position, Term, WriteId},
};
use std::collections::VecDeque;

/// Places for so many entries stay allocated when the cache falls empty: 16 KiB of them.
const CAPACITY_KEPT: usize = 256;

/// A group's log. The module explains its pointers.
#[derive(Debug)]
pub(super) struct Log {
    terms: Terms,
    /// The end of the log, without a gap, up to `last`.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    /// The position of the last command up to the end of the log.
    end: Position,
    writes: Writes,
    /// The last entry known to be durable on a quorum. Never moves back.
    committed: Index,
    /// The last entry handed out to be applied.
    applying: Index,
    /// The last entry that the state machine has applied.
    applied: Index,
    /// The positions of the last commands that are applied and handed out: of the applied ones as of the latest page
    /// that is applied as a whole.
    applied_end: Position,
    applying_end: Position,
}

/// How far the log has reached the WAL.
#[derive(Debug, Default)]
struct Writes {
    /// The newest write that was handed out.
    newest: WriteId,
    /// The last entry that was handed out to be written.
    written: Index,
    /// The last entry that the WAL has made durable here. A leader counts itself for a commit up to this entry
    /// only (Raft thesis 10.2.1).
    durable: Index,
    /// The writes that have not completed, oldest first. Each has the last entry that it will make durable.
    outstanding: VecDeque<(WriteId, Index)>,
}

/// Why entries of a leader are not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// They conflict with this committed entry.
    Committed(EntryId),
    /// They count the commands up to the entry `at` differently, in which the logs agree.
    Position { at: EntryId, ours: Position, theirs: Position },
}

impl Log {
    /// The log that recovery has found. All of it is durable, `tail` is the end of it that is in memory, and
    /// `end` is the position of its last command. Entries at or below the floor count as committed, applied and
    /// durable, whatever `committed` says (safety N2).
    ///
    /// # Panics
    /// When `tail` is not the end of the log, or `committed` lies behind it. Both come from the own recovery.
    pub(super) fn new(terms: Terms, tail: Vec<Entry>, end: Position, committed: Index) -> Self {
        let (floor, last) = (terms.floor(), terms.last());
        assert!(
            committed <= last.index,
            "log: commit {committed} beyond the recovered log, which ends in {last}"
        );
        assert!(
            tail.last().is_none_or(|entry| (entry.id(), entry.end()) == (last, end)),
            "log: a tail that does not end in {last} with {end} commands"
        );
        let writes = Writes { written: last.index, durable: last.index, ..Writes::default() };
        let cache_bytes = tail.iter().map(Entry::cost).sum();
        let applied_end = match (floor.index, tail.first()) {
            (_, Some(first)) if first.index == floor.index.next() => first.before,
            (index, None) if index == last.index => end,
            // Rather too many commands seem to be left than too few.
            _ => Position(0),
        };
        let log = Self {
            terms,
            cache: tail.into(),
            cache_bytes,
            end,
            writes,
            committed: committed.max(floor.index),
            applying: floor.index,
            applied: floor.index,
            applied_end,
            applying_end: applied_end,
        };
        log.check_deeply().unwrap_or_else(|violation| panic!("{violation}"));
        log
    }

    /// What is always true of the log's pointers. Names what is not.
    pub(super) fn check(&self) -> Checked {
        let (floor, last) = (self.terms.floor().index, self.last().index);
        let Self { committed, applying, applied, .. } = self;
        let Writes { newest, written, durable, outstanding } = &self.writes;
        ensure!(*applied >= floor, "log: applied {applied} below the floor {floor}");
        ensure!(
            applied <= applying,
            "log: applied {applied} beyond {applying}, which is handed out"
        );
        ensure!(applying <= committed, "log: applying {applying} beyond the commit {committed}");
        ensure!(*committed <= last, "log: commit {committed} beyond the last entry {last}");
        ensure!(*durable >= floor, "log: durable {durable} below the floor {floor}");
        ensure!(durable <= written, "log: durable {durable} beyond {written}, which is written");
        ensure!(*written <= last, "log: written {written} beyond the last entry {last}");
        let (newest_write, reaches) = outstanding.back().copied().unwrap_or((*newest, *durable));
        ensure!(
            newest_write <= *newest,
            "log: write {newest_write} is newer than the newest, {newest}"
        );
        ensure!(
            reaches == *written,
            "log: the writes under way reach {reaches}, and {written} is written"
        );
        let cached = self.cached_from();
        ensure!(cached > floor, "log: the cache begins at {cached}, not above the floor {floor}");
        ensure!(cached <= durable.next(), "log: cached from {cached}, and durable is {durable}");
        Ok(())
    }

    /// What is always true of the log, all entries in memory included. Names what is not.
    pub(super) fn check_deeply(&self) -> Checked {
        self.check()?;
        self.terms.check_deeply()?;
        let outstanding = &self.writes.outstanding;
        let ascend = |a: &(WriteId, Index), b: &(WriteId, Index)| a.0 < b.0 && a.1 <= b.1;
        ensure!(
            outstanding.iter().is_sorted_by(|a, b| ascend(a, b)),
            "log: writes under way out of order: {outstanding:?}"
        );
        let bytes: usize = self.cache.iter().map(Entry::cost).sum();
        ensure!(
            bytes == self.cache_bytes,
            "log: {bytes} bytes are cached, and {} are counted",
            self.cache_bytes
        );
        let (from, last) = (self.cached_from(), self.last());
        ensure!(
            from.0 + self.cache.len() as u64 == last.index.next().0,
            "log: {} entries are cached from {from} on, and {last} is the last",
            self.cache.len()
        );
        for (index, entry) in (from.0..).zip(&self.cache) {
            ensure!(
                entry.index == Index(index) && self.has(entry.id()),
                "log: the cache has {} in the place of {index}, which is of term {:?}",
                entry.id(),
                self.term(Index(index))
            );
        }
        Ok(())
    }

    /// See [`super::Raft::look_ahead`].
    pub(super) fn look_ahead(&self) -> u64 {
        let newest = self.cache.back().map_or(0, |entry| entry.index.0);
        let write = self.writes.outstanding.back().map_or(0, |(_, upto)| upto.0);
        newest ^ write ^ self.terms.last().term.0
    }

    /// The last entry.
    pub(super) fn last(&self) -> EntryId {
        self.terms.last()
    }

    /// The last entry that the log no longer holds; `0@0` when it holds all.
    pub(super) fn floor(&self) -> EntryId {
        self.terms.floor()
    }

    /// The position of the last command up to the end of the log.
    pub(super) fn end(&self) -> Position {
        self.end
    }

    /// The position of the last command up to the entry at `index`, as far as it is at hand.
    pub(super) fn position(&self, index: Index) -> Option<Position> {
        if index == self.last().index {
            return Some(self.end);
        }
        let place = index.0.checked_add(1)?.checked_sub(self.cached_from().0)?;
        self.cache.get(place as usize).map(|entry| entry.before)
    }

    /// The term of the entry at `index`, `None` below the floor and beyond the last.
    pub(super) fn term(&self, index: Index) -> Option<Term> {
        self.terms.term(index)
    }

    /// The terms of all entries.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether the log holds this very entry, or has it for its floor.
    pub(super) fn has(&self, id: EntryId) -> bool {
        self.terms.term(id.index) == Some(id.term)
    }

    /// Whether this log agrees at `id` with the log of a leader that has this entry. Below the floor the two
    /// always agree: entries there are committed, and a leader has every committed entry (safety N2).
    pub(super) fn agrees_at(&self, id: EntryId) -> bool {
        id.index < self.floor().index || self.has(id)
    }

    /// The last entry known to be durable on a quorum.
    pub(super) fn committed(&self) -> Index {
        self.committed
    }

    /// The last entry that is durable here.
    pub(super) fn durable(&self) -> Index {
        self.writes.durable
    }

    /// The last entry that the state machine has applied.
    pub(super) fn applied(&self) -> Index {
        self.applied
    }

    /// Adds an entry of the leader's own at the end.
    pub(super) fn push(&mut self, entry: Entry) {
        assert_eq!(
            entry.index,
            self.last().index.next(),
            "log: an entry that does not follow the last one"
        );
        assert_eq!(entry.before, self.end, "an entry whose commands do not follow the last one");
        self.end = entry.end();
        self.terms.push(entry.term);
        self.cache_bytes += entry.cost();
        self.cache.push_back(entry);
    }

    /// Takes a leader's entries. It skips the entries that it holds, and those below the floor (safety N2). At
    /// the first conflict it cuts off its own entries from there on (Raft paper 5.3). The log must agree with
    /// the leader's at the entry before the first.
    ///
    /// # Errors
    /// Why the entries cannot be right. The log is left as it was.
    pub(super) fn accept(&mut self, entries: Vec<Entry>) -> Result<(), Refused> {
        crate::sometimes!(
            !entries.is_empty() && entries.iter().all(|entry| self.agrees_at(entry.id())),
            "entries received twice"
        );
        let Some(new) = entries.iter().position(|entry| !self.agrees_at(entry.id())) else {
            return Ok(());
        };
        let conflict = entries[new].index;
        if conflict <= self.committed {
            let term = self.term(conflict).unwrap_or_default();
            return Err(Refused::Committed(EntryId::new(term, conflict)));
        }
        let (last, before) = (conflict.previous(), entries[new].before);
        if let Some(ours) = self.position(last).filter(|ours| *ours != before) {
            let at = EntryId::new(self.term(last).unwrap_or_default(), last);
            return Err(Refused::Position { at, ours, theirs: before });
        }
        crate::sometimes!(conflict <= self.last().index, "conflicting tail cut off");
        self.truncate(last, before);
        entries.into_iter().skip(new).for_each(|entry| self.push(entry));
        Ok(())
    }

    /// Cuts off everything behind `last`; `end` is the position of the last command up to it. What is cut off
    /// does not count as durable any more (safety A3): a write of it may still complete, and must not vouch for
    /// the entries that take its place.
    fn truncate(&mut self, last: Index, end: Position) {
        assert!(
            last >= self.committed,
            "log: truncation to {last} below the commit {}",
            self.committed
        );
        while self.cache.back().is_some_and(|entry| entry.index > last) {
            let entry = self.cache.pop_back().expect("there is a last one");
            self.cache_bytes -= entry.cost();
        }
        self.terms.truncate(last);
        self.end = end;
        let writes = &mut self.writes;
        crate::sometimes!(writes.durable > last, "durable entries cut off");
        crate::sometimes!(
            writes.outstanding.iter().any(|(_, upto)| *upto > last),
            "entries cut off while they are written"
        );
        writes.written = writes.written.min(last);
        writes.durable = writes.durable.min(last);
        writes.outstanding.iter_mut().for_each(|(_, upto)| *upto = (*upto).min(last));
    }

    /// Moves the commit forward, never back. Returns whether it has moved.
    pub(super) fn commit(&mut self, index: Index) -> bool {
        assert!(
            index <= self.last().index,
            "log: commit {index} beyond the last entry {}",
            self.last()
        );
        let moved = index > self.committed;
        crate::sometimes!(
            moved && index > self.writes.durable,
            "committed before it is durable here"
        );
        self.committed = self.committed.max(index);
        moved
    }

    /// The last entry that was handed out to be written.
    pub(super) fn written(&self) -> Index {
        self.writes.written
    }

    /// Whether there are entries that were not handed out to be written.
    pub(super) fn has_unwritten(&self) -> bool {
        self.writes.written < self.last().index
    }

    /// Hands out the entries that are not written yet, under a new write id. There may be none, when only the
    /// hard state is to be written.
    pub(super) fn write(&mut self) -> (WriteId, Vec<Entry>) {
        let entries = self.cached(self.writes.written.next()..self.last().index.next());
        let writes = &mut self.writes;
        writes.newest = WriteId(writes.newest.0 + 1);
        writes.written = self.terms.last().index;
        writes.outstanding.push_back((writes.newest, writes.written));
        (writes.newest, entries)
    }

    /// The newest write that has not completed. A gated message waits for it (safety A2).
    pub(super) fn newest_outstanding(&self) -> Option<WriteId> {
        self.writes.outstanding.back().map(|(write, _)| *write)
    }

    /// All writes up to `write` are durable.
    pub(super) fn completed(&mut self, write: WriteId) {
        assert!(
            write <= self.writes.newest,
            "log: write {write} completed, but {} is the newest",
            self.writes.newest
        );
        let writes = &mut self.writes;
        while writes.outstanding.front().is_some_and(|(id, _)| *id <= write) {
            let (_, upto) = writes.outstanding.pop_front().expect("there is a first one");
            writes.durable = writes.durable.max(upto);
        }
    }

    /// The range to apply next, or `None` when all that is committed is handed out. There is one batch at a
    /// time: `None` also while an earlier one is being applied.
    pub(super) fn to_apply(&self) -> Option<std::ops::Range<Index>> {
        (self.applying == self.applied && self.applied < self.committed)
            .then(|| self.applied.next()..self.committed.next())
    }

    /// These entries were handed out to be applied.
    pub(super) fn applying(&mut self, entries: &[Entry]) {
        const SOME: &str = "what is handed out is not empty";
        let (first, last) = (entries.first().expect(SOME), entries.last().expect(SOME));
        assert!(
            last.index > self.applying && last.index <= self.committed,
            "log: applying {}, commit is {}",
            last.index,
            self.committed
        );
        self.applying = last.index;
        (self.applied_end, self.applying_end) = (first.before, last.end());
    }

    /// The position of the last command that is applied, as of the latest page that is applied as a whole.
    pub(super) fn applied_end(&self) -> Position {
        self.applied_end
    }

    /// How many commands of a log that recovery has found are still to be applied, committed or not.
    pub(super) fn commands_above_floor(&self) -> u64 {
        self.end.0 - self.applied_end.0
    }

    /// How many committed commands the state machine has not applied, to a page. Where the last of them is not at hand, all
    /// commands of the log count.
    pub(super) fn unapplied_commands(&self) -> u64 {
        if self.applied == self.committed {
            return 0;
        }
        let committed = self.position(self.committed).unwrap_or(self.end);
        committed.0.saturating_sub(self.applied_end.0)
    }

    /// The state machine has applied everything up to `index`.
    pub(super) fn apply(&mut self, index: Index) {
        assert!(
            index > self.applied && index <= self.applying,
            "log: applied {index} of {}",
            self.applying
        );
        self.applied = index;
        if index == self.applying {
            self.applied_end = self.applying_end;
        }
    }

    /// The first entry that is in memory.
    pub(super) fn cached_from(&self) -> Index {
        self.cache.front().map_or(self.last().index.next(), |entry| entry.index)
    }

    /// The cached entries in `range`, all of which must be cached.
    pub(super) fn cached(&self, range: std::ops::Range<Index>) -> Vec<Entry> {
        self.cached_up_to(range, usize::MAX)
    }

    /// The cached entries in `range`, cut off where they would cost more than `bytes_max`, but at least one.
    pub(super) fn cached_up_to(
        &self,
        range: std::ops::Range<Index>,
        bytes_max: usize,
    ) -> Vec<Entry> {
        if range.is_empty() {
            return Vec::new();
        }
        let from = self.cached_from();
        assert!(
            range.start >= from && range.end <= self.last().index.next(),
            "log: {range:?} is not cached from {from}"
        );
        let (start, end) = ((range.start.0 - from.0) as usize, (range.end.0 - from.0) as usize);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += entry.cost();
            first || bytes <= bytes_max
        };
        self.cache.range(start..end).take_while(fits).cloned().collect()
    }

    /// Whether the cache holds an entry that is applied and durable.
    pub(super) fn has_evictable(&self) -> bool {
        self.cached_from() <= self.applied.min(self.writes.durable)
    }

    /// Drops cached entries that are applied, durable and either below `unsent` or too many. From now on they
    /// are read from the WAL.
    pub(super) fn evict(&mut self, unsent: Index, bytes_max: usize) {
        let done = self.applied.min(self.writes.durable);
        while let Some(entry) = self.cache.front() {
            let wanted = entry.index >= unsent && self.cache_bytes <= bytes_max;
            if entry.index > done || wanted {
                break;
            }
            self.cache_bytes -= entry.cost();
            self.cache.pop_front();
        }
        let (len, capacity) = (self.cache.len(), self.cache.capacity());
        if capacity > CAPACITY_KEPT && len < capacity / 4 {
            self.cache.shrink_to(CAPACITY_KEPT.max(2 * len));
        }
    }

    /// Drops all cached entries that are durable, whether they are applied and sent or not, and gives the
    /// memory back. From now on they are read from the WAL.
    pub(super) fn evict_durable(&mut self) {
        let durable = self.writes.durable;
        while let Some(entry) = self.cache.pop_front_if(|entry| entry.index <= durable) {
            self.cache_bytes -= entry.cost();
        }
        self.cache.shrink_to_fit();
    }

    /// What the cache takes in memory: the places of its list, and of each entry the bytes of its commands, the
    /// allocation around them and the copy of the entry in the write that waits for the disk. This is at least
    /// the real size, provided that commands hold no larger buffer.
    pub(super) fn held_bytes(&self) -> usize {
        const ALLOCATION_AND_COPY: usize = 96;
        self.cache.capacity() * size_of::<Entry>()
            + self.cache.len() * ALLOCATION_AND_COPY
            + self.cache_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Payload;
    use bytes::Bytes;

    fn entry(term: u64, index: u64) -> Entry {
        Entry { term: Term(term), index: Index(index), before: Position(0), payload: Payload::Noop }
    }

    fn empty() -> Log {
        Log::new(Terms::default(), Vec::new(), Position(0), Index(0))
    }

    #[test]
    fn a_late_completion_of_a_truncated_entry_makes_no_other_entry_durable() {
        let mut log = empty();
        log.accept(vec![entry(1, 1), entry(1, 2)]).expect("nothing is committed");
        let (first, _) = log.write();
        log.accept(vec![entry(2, 2)]).expect("nothing is committed");
        let (second, entries) = log.write();
        assert_eq!(entries, [entry(2, 2)]);
        log.completed(first);
        assert_eq!(
            log.durable(),
            Index(1),
            "safety A3: only entry 1 of that write is still in the log"
        );
        log.completed(second);
        assert_eq!(log.durable(), Index(2));
    }

    #[test]
    fn the_same_entry_written_twice_is_durable_by_its_own_write_only() {
        let mut log = empty();
        log.accept(vec![entry(1, 1)]).expect("nothing is committed");
        let (first, _) = log.write();
        log.accept(vec![entry(2, 1)]).expect("nothing is committed");
        let (second, _) = log.write();
        // The entry of term 1 cannot come again, but an entry of term 3 may take the place.
        log.accept(vec![entry(3, 1)]).expect("nothing is committed");
        let (third, _) = log.write();
        log.completed(first);
        log.completed(second);
        assert_eq!(log.durable(), Index(0));
        log.completed(third);
        assert_eq!(log.durable(), Index(1));
    }

    #[test]
    fn conflict_with_a_committed_entry_is_refused() {
        let mut log = empty();
        log.accept(vec![entry(1, 1), entry(1, 2)]).expect("nothing is committed");
        log.commit(Index(2));
        let committed = EntryId::new(Term(1), Index(2));
        assert_eq!(log.accept(vec![entry(2, 2)]), Err(Refused::Committed(committed)));
        assert_eq!(log.last(), EntryId::new(Term(1), Index(2)));
    }

    #[test]
    fn the_end_position_counts_commands_and_moves_back_with_a_truncation() {
        let carrying = |term, index, before, count| {
            let commands = std::iter::repeat_n(bytes::Bytes::new(), count);
            let payload = Payload::Commands(commands.collect());
            Entry { term: Term(term), index: Index(index), before: Position(before), payload }
        };
        let mut log = empty();
        log.accept(vec![carrying(1, 1, 0, 3), carrying(1, 2, 3, 0), carrying(1, 3, 3, 1000)])
            .expect("nothing is committed");
        assert_eq!(log.end(), Position(1003));
        let positions = [0, 1, 2, 3, 4].map(|index| log.position(Index(index)));
        let expected = [Some(0), Some(3), Some(3), Some(1003), None];
        assert_eq!(positions, expected.map(|position| position.map(Position)));
        let refused = |index, ours, theirs| {
            let (at, ours, theirs) =
                (EntryId::new(Term(1), index), Position(ours), Position(theirs));
            Err(Refused::Position { at, ours, theirs })
        };
        assert_eq!(log.accept(vec![carrying(2, 2, 2, 1)]), refused(Index(1), 3, 2));
        assert_eq!(log.accept(vec![carrying(2, 4, 1002, 1)]), refused(Index(3), 1003, 1002));
        assert_eq!((log.last().index, log.end()), (Index(3), Position(1003)));
        log.accept(vec![carrying(2, 2, 3, 1)]).expect("nothing is committed");
        assert_eq!((log.last().index, log.end()), (Index(2), Position(4)));
    }

    #[test]
    fn entries_that_the_log_holds_are_skipped_and_truncate_nothing() {
        let mut log = empty();
        log.accept(vec![entry(1, 1), entry(1, 2), entry(1, 3)]).expect("nothing is committed");
        log.accept(vec![entry(1, 1), entry(1, 2)]).expect("all known");
        assert_eq!(log.last().index, Index(3), "a delayed append must not cut what came after it");
    }

    #[test]
    fn the_commit_never_moves_back() {
        let mut log = empty();
        log.accept(vec![entry(1, 1), entry(1, 2)]).expect("nothing is committed");
        assert!(log.commit(Index(2)));
        assert!(!log.commit(Index(1)), "a late append has an older commit");
        assert_eq!(log.committed(), Index(2));
    }

    #[test]
    fn eviction_keeps_entries_that_are_not_applied_or_not_durable() {
        let mut log = empty();
        log.accept((1..=4).map(|i| entry(1, i)).collect()).expect("nothing is committed");
        let (write, _) = log.write();
        log.commit(Index(3));
        log.applying(&[entry(1, 3)]);
        log.apply(Index(3));
        log.evict(Index(5), 0);
        assert_eq!(log.cached_from(), Index(1), "nothing is durable yet");
        log.completed(write);
        log.evict(Index(2), usize::MAX);
        assert_eq!(log.cached_from(), Index(2), "entry 2 is not sent yet");
        log.evict(Index(2), 0);
        assert_eq!(log.cached_from(), Index(4), "too many bytes: sent from the WAL later");
    }

    /// An entry may have one command or a thousand, and what is left to do counts commands.
    #[test]
    fn the_commands_that_are_not_applied_are_counted_and_not_their_entries() {
        let of = |index, before: u64, count| {
            let payload = Payload::Commands((0..count).map(|_| Bytes::from_static(b"c")).collect());
            Entry { term: Term(1), index: Index(index), before: Position(before), payload }
        };
        let entries = vec![of(1, 0, 1_000), of(2, 1_000, 3), of(3, 1_003, 7), of(4, 1_010, 500)];
        let mut log = empty();
        log.accept(entries.clone()).expect("nothing is committed");
        let (write, _) = log.write();
        log.completed(write);
        assert_eq!((log.commands_above_floor(), log.unapplied_commands()), (1_510, 0));
        log.commit(Index(3));
        assert_eq!(log.unapplied_commands(), 1_010);
        log.applying(&entries[..2]);
        log.apply(Index(1));
        assert_eq!(log.unapplied_commands(), 1_010, "the page is not done");
        log.apply(Index(2));
        assert_eq!(log.unapplied_commands(), 7);
        log.evict_durable();
        assert_eq!(log.unapplied_commands(), 507, "the position of 3 is not at hand");
        log.applying(&entries[2..3]);
        log.apply(Index(3));
        assert_eq!(log.unapplied_commands(), 0);
    }

    /// A log of 101 to 104 above the floor 100@3: 102 is durable, 103 is being written, 104 is not. 102 is
    /// committed, 101 is applied.
    fn above_floor() -> Log {
        let floor = EntryId::new(Term(3), Index(100));
        let mut log =
            Log::new(Terms::new(floor, Vec::new(), floor.index), Vec::new(), Position(0), Index(0));
        log.accept(vec![entry(4, 101), entry(4, 102)]).expect("nothing is committed");
        let (write, _) = log.write();
        log.completed(write);
        log.push(entry(5, 103));
        log.write();
        log.push(entry(5, 104));
        log.commit(Index(102));
        log.applying(&[entry(4, 101)]);
        log.apply(Index(101));
        log
    }

    #[test]
    fn a_log_starts_at_its_floor_whatever_the_commit_hint_says() {
        let floor = EntryId::new(Term(3), Index(100));
        let terms = Terms::new(floor, vec![(Index(101), Term(4))], Index(102));
        let log = Log::new(terms, vec![entry(4, 102)], Position(0), Index(50));
        assert_eq!((log.committed(), log.applied()), (Index(100), Index(100)), "safety N2");
        assert_eq!((log.durable(), log.cached_from()), (Index(102), Index(102)));
        assert_eq!(log.to_apply(), None);
    }

    #[test]
    fn a_log_matches_below_its_floor_and_compares_terms_at_it() {
        let mut log = above_floor();
        assert!(log.agrees_at(EntryId::new(Term(9), Index(99))), "safety N2");
        assert!(log.agrees_at(EntryId::new(Term(3), Index(100))));
        assert!(!log.agrees_at(EntryId::new(Term(2), Index(100))));
        assert!(!log.has(EntryId::new(Term(3), Index(99))));
        log.accept((98..=102).map(|index| entry(4 - u64::from(index <= 100), index)).collect())
            .expect("all of it agrees");
        assert_eq!(log.last().index, Index(104), "nothing was cut off");
        let conflict = log.accept(vec![entry(2, 99), entry(2, 100)]);
        let floor = Refused::Committed(EntryId::new(Term(3), Index(100)));
        assert_eq!(conflict, Err(floor), "the floor is committed");
    }

    #[test]
    fn each_broken_invariant_is_named() {
        assert_eq!(above_floor().check_deeply(), Ok(()));
        let broken = |change: fn(&mut Log), violation: &str| {
            let mut log = above_floor();
            change(&mut log);
            let found = log.check_deeply().expect_err(violation);
            assert!(found.starts_with(violation), "{found}");
        };
        broken(|log| log.applied = Index(99), "log: applied 99 below the floor 100");
        broken(|log| log.applied = Index(102), "log: applied 102 beyond 101");
        broken(|log| log.applying = Index(103), "log: applying 103 beyond the commit 102");
        broken(|log| log.committed = Index(105), "log: commit 105 beyond the last entry 104");
        broken(|log| log.writes.durable = Index(99), "log: durable 99 below the floor 100");
        broken(|log| log.writes.durable = Index(104), "log: durable 104 beyond 103");
        broken(|log| log.writes.written = Index(105), "log: written 105 beyond the last entry 104");
        broken(|log| log.writes.newest = WriteId(1), "log: write 2 is newer than the newest, 1");
        broken(|log| log.writes.written = Index(102), "log: the writes under way reach 103");
        broken(|log| log.writes.outstanding.clear(), "log: the writes under way reach 102");
        broken(|log| log.cache[0].index = Index(100), "log: the cache begins at 100, not above");
        broken(|log| drop(log.cache.drain(..3)), "log: cached from 104, and durable is 102");
        broken(|log| log.terms = Terms::default(), "log: commit 102 beyond the last entry 0");
        broken(
            |log| log.writes.outstanding.push_front((WriteId(3), Index(103))),
            "log: writes under way out of order",
        );
        broken(
            |log| log.writes.outstanding.push_front((WriteId(2), Index(103))),
            "log: writes under way out of order",
        );
        broken(|log| log.cache_bytes += 1, "log: 128 bytes are cached, and 129 are counted");
        broken(|log| _ = log.cache.pop_back(), "log: 96 bytes are cached");
        broken(|log| log.cache[1].term = Term(5), "log: the cache has 102@5 in the place of 102");
        let lacks_its_end = |log: &mut Log| {
            let entry = log.cache.pop_back().expect("there is a last one");
            log.cache_bytes -= entry.cost();
        };
        broken(lacks_its_end, "log: 3 entries are cached from 101 on, and 104@5 is the last");
    }

    /// The budget of a shard is spent by what this says.
    #[test]
    fn what_is_held_grows_by_the_bytes_and_the_place_of_each_entry() {
        let mut log = empty();
        for index in 1..=1000 {
            let payload = Payload::command(bytes::Bytes::from(vec![7; 100]));
            let before = log.end();
            log.push(Entry { term: Term(1), index: Index(index), before, payload });
            let (held, count) = (log.held_bytes(), index as usize);
            let places = 2 * count.max(CAPACITY_KEPT) * size_of::<Entry>();
            assert!(held >= count * (100 + size_of::<Entry>()), "{held} for {count} entries");
            assert!(held <= count * (100 + 200) + places, "{held} for {count} entries");
        }
    }

    #[test]
    #[should_panic(expected = "log: truncation to 101 below the commit 102")]
    fn a_truncation_of_committed_entries_panics() {
        above_floor().truncate(Index(101), Position(0));
    }

    #[test]
    #[should_panic(expected = "log: commit 105 beyond the last entry 104@5")]
    fn a_commit_beyond_the_last_entry_panics() {
        above_floor().commit(Index(105));
    }

    #[test]
    #[should_panic(expected = "log: applied 102 of 101")]
    fn applying_what_was_not_handed_out_panics() {
        above_floor().apply(Index(102));
    }

    #[test]
    #[should_panic(expected = "log: write 3 completed, but 2 is the newest")]
    fn a_completion_of_a_write_that_never_began_panics() {
        above_floor().completed(WriteId(3));
    }

    #[test]
    #[should_panic(expected = "log: a tail that does not end in 0@0")]
    fn a_recovered_tail_that_ends_before_the_log_panics() {
        Log::new(Terms::default(), vec![entry(1, 1)], Position(0), Index(0));
    }
}
