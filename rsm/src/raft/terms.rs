//! The term of every entry of a log, in a few words of memory. Terms change only at elections, so the runs of
//! equal terms are few. No term is ever read from a disk.
//!
//! A log begins behind its *floor*, the last entry that it no longer holds. The term of the floor is known, the
//! terms below it are not. A log that holds everything has the floor `0@0`.

use super::check::{Checked, ensure};
use crate::types::{EntryId, Index, Term};

/// The runs of equal terms of a log, from its first entry to its last.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The entry before the first one. It is committed, and its term is known.
    floor: EntryId,
    /// The first index of each run and its term. Both grow strictly from run to run. The first run begins right
    /// behind the floor.
    runs: Vec<(Index, Term)>,
    /// The last entry; the floor's index when the log holds no entry.
    last: Index,
}

impl Terms {
    /// The terms that a recovery has found, of a log that begins behind `floor` and ends in `last`.
    ///
    /// # Panics
    /// When the runs do not grow, or do not lie between `floor` and `last`. They come from the own recovery.
    pub fn new(floor: EntryId, runs: Vec<(Index, Term)>, last: Index) -> Self {
        let terms = Self { floor, runs, last };
        terms.check_deeply().unwrap_or_else(|violation| panic!("{violation}"));
        terms
    }

    /// What is always true of the terms of a log. Names what is not.
    pub(super) fn check_deeply(&self) -> Checked {
        let Self { floor, runs, last } = self;
        let grow = runs.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1);
        ensure!(grow, "terms: runs that do not grow: {runs:?}");
        ensure!(*last >= floor.index, "terms: the last entry {last} lies below the floor {floor}");
        let is_empty = *last == floor.index;
        ensure!(
            runs.is_empty() == is_empty,
            "terms: entries up to {last} above {floor} in the runs {runs:?}"
        );
        let follows = |run: &(Index, Term)| run.0 == floor.index.next() && run.1 >= floor.term;
        ensure!(
            runs.first().is_none_or(follows),
            "terms: the first of the runs {runs:?} does not follow {floor}"
        );
        ensure!(
            runs.last().is_none_or(|run| run.0 <= *last),
            "terms: a run begins behind the last entry {last}: {runs:?}"
        );
        Ok(())
    }

    /// The last entry that the log no longer holds; `0@0` when it holds all.
    pub fn floor(&self) -> EntryId {
        self.floor
    }

    /// The last entry; the floor when the log holds no entry.
    pub fn last(&self) -> EntryId {
        EntryId::new(self.runs.last().map_or(self.floor.term, |run| run.1), self.last)
    }

    /// The term of the entry at `index`; at the floor the floor's. `None` below the floor and beyond the last
    /// entry.
    pub fn term(&self, index: Index) -> Option<Term> {
        if index == self.floor.index {
            return Some(self.floor.term);
        }
        if index > self.last {
            return None;
        }
        let run = self.runs.partition_point(|run| run.0 <= index);
        (run > 0).then(|| self.runs[run - 1].1)
    }

    /// Adds the entry after the last one.
    pub fn push(&mut self, term: Term) {
        let last = self.last();
        assert!(
            term >= last.term,
            "terms: an entry of term {term} behind one of term {}",
            last.term
        );
        self.last = self.last.next();
        if term > last.term || self.runs.is_empty() {
            self.runs.push((self.last, term));
        }
    }

    /// Forgets everything behind `last`.
    pub fn truncate(&mut self, last: Index) {
        assert!(
            last >= self.floor.index,
            "terms: truncation to {last} below the floor {}",
            self.floor
        );
        self.last = self.last.min(last);
        while self.runs.last().is_some_and(|run| run.0 > last) {
            self.runs.pop();
        }
    }

    /// The latest entry at or below `index` whose term is not above `term`: two logs may still agree there. The
    /// search skips a whole term at a time (Raft paper 5.3, the accelerated back-off). `None` when that place
    /// lies below the floor.
    pub fn latest_at_most(&self, index: Index, term: Term) -> Option<EntryId> {
        let mut index = index.min(self.last);
        for run in self.runs.iter().rev() {
            if run.0 > index {
                continue;
            }
            if run.1 <= term {
                return Some(EntryId::new(run.1, index));
            }
            index = run.0.previous();
        }
        (index >= self.floor.index && term >= self.floor.term).then_some(self.floor)
    }

    /// The runs of equal terms: the first index of each, and its term.
    pub fn runs(&self) -> &[(Index, Term)] {
        &self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(of: &[u64]) -> Terms {
        let mut terms = Terms::default();
        of.iter().for_each(|term| terms.push(Term(*term)));
        terms
    }

    #[test]
    fn every_entry_keeps_its_term() {
        let log = [1, 1, 1, 4, 4, 7];
        let terms = terms(&log);
        assert_eq!(terms.runs().len(), 3);
        assert_eq!(terms.term(Index(0)), Some(Term(0)));
        for (i, term) in log.iter().enumerate() {
            assert_eq!(terms.term(Index(i as u64 + 1)), Some(Term(*term)));
        }
        assert_eq!(terms.term(Index(7)), None);
    }

    #[test]
    fn truncation_forgets_runs() {
        let mut terms = terms(&[1, 1, 4, 4, 7]);
        terms.truncate(Index(3));
        assert_eq!(terms.last(), EntryId::new(Term(4), Index(3)));
        terms.truncate(Index(2));
        assert_eq!(terms.last(), EntryId::new(Term(1), Index(2)));
        terms.truncate(Index(0));
        assert_eq!(terms, Terms::default());
    }

    #[test]
    fn the_latest_entry_of_a_term_at_most_is_found_by_whole_terms() {
        let terms = terms(&[1, 1, 1, 4, 4, 7]);
        let latest = |index, term| terms.latest_at_most(Index(index), Term(term));
        assert_eq!(latest(9, 9), Some(EntryId::new(Term(7), Index(6))));
        assert_eq!(latest(6, 6), Some(EntryId::new(Term(4), Index(5))));
        assert_eq!(latest(4, 3), Some(EntryId::new(Term(1), Index(3))));
        assert_eq!(latest(6, 0), Some(EntryId::default()));
    }

    /// A log that begins at 101: 101 and 102 are of term 4, 103 of term 7, and the floor is of term 3.
    fn above_floor() -> Terms {
        let floor = EntryId::new(Term(3), Index(100));
        Terms::new(floor, vec![(Index(101), Term(4)), (Index(103), Term(7))], Index(103))
    }

    #[test]
    fn a_log_may_begin_at_any_index() {
        let mut terms = above_floor();
        assert_eq!(terms.term(Index(0)), None);
        assert_eq!(terms.term(Index(99)), None);
        assert_eq!(terms.term(Index(100)), Some(Term(3)));
        assert_eq!(terms.term(Index(101)), Some(Term(4)));
        assert_eq!(terms.term(Index(104)), None);
        terms.truncate(Index(100));
        assert_eq!(terms.last(), terms.floor());
        assert_eq!(terms.term(Index(101)), None);
        terms.push(Term(3));
        assert_eq!(terms.runs(), [(Index(101), Term(3))], "the floor's term, in a run of its own");
        assert_eq!(terms.last(), EntryId::new(Term(3), Index(101)));
    }

    #[test]
    fn the_search_for_a_common_entry_ends_at_the_floor() {
        let terms = above_floor();
        let latest = |index, term| terms.latest_at_most(Index(index), Term(term));
        assert_eq!(latest(103, 6), Some(EntryId::new(Term(4), Index(102))));
        assert_eq!(latest(103, 3), Some(terms.floor()));
        assert_eq!(latest(100, 9), Some(terms.floor()));
        assert_eq!(latest(99, 9), None, "nothing is known of 99");
        assert_eq!(latest(103, 2), None, "the floor itself differs");
    }

    fn broken(floor: (u64, u64), runs: &[(u64, u64)], last: u64) -> String {
        let floor = EntryId::new(Term(floor.0), Index(floor.1));
        let runs = runs.iter().map(|(index, term)| (Index(*index), Term(*term))).collect();
        Terms { floor, runs, last: Index(last) }.check_deeply().expect_err("it is broken")
    }

    #[test]
    fn each_broken_invariant_is_named() {
        assert!(broken((0, 0), &[(1, 2), (2, 1)], 3).starts_with("terms: runs that do not grow"));
        assert!(broken((0, 0), &[(1, 1), (1, 2)], 3).starts_with("terms: runs that do not grow"));
        assert!(broken((3, 9), &[], 8).starts_with("terms: the last entry 8 lies below the floor"));
        assert!(broken((3, 9), &[], 10).starts_with("terms: entries up to 10 above 9@3"));
        assert!(broken((0, 0), &[(1, 1)], 0).starts_with("terms: entries up to 0 above 0@0"));
        assert!(broken((3, 9), &[(11, 4)], 12).contains("does not follow 9@3"));
        assert!(broken((3, 9), &[(10, 2)], 12).contains("does not follow 9@3"));
        assert!(broken((0, 0), &[(1, 1), (5, 2)], 4).starts_with("terms: a run begins behind"));
    }

    #[test]
    #[should_panic(expected = "terms: truncation to 99 below the floor 100@3")]
    fn a_truncation_below_the_floor_panics() {
        above_floor().truncate(Index(99));
    }

    #[test]
    #[should_panic(expected = "terms: an entry of term 6 behind one of term 7")]
    fn an_entry_of_a_lower_term_than_the_last_panics() {
        above_floor().push(Term(6));
    }
}
