//! The term of every entry of a log, in a few words of memory: terms change only at elections, so
//! the runs of equal terms are few. No disk is ever asked for a term.

use crate::types::{EntryId, Index, Term};

/// The runs of equal terms of a log, from its first entry to its last.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The first index of each run and its term. Both grow strictly from run to run.
    runs: Vec<(Index, Term)>,
    /// The last entry; `Index(0)` of an empty log.
    last: Index,
}

impl Terms {
    /// The runs that a recovery has found, of a log that ends in `last`.
    ///
    /// # Panics
    /// When the runs do not grow, or begin after `last`: they come from our own recovery.
    pub fn new(runs: Vec<(Index, Term)>, last: Index) -> Self {
        assert!(
            runs.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1),
            "term runs that do not grow: {runs:?}"
        );
        assert!(
            runs.last().is_none_or(|run| run.0 <= last),
            "a term run behind the last entry {last}: {runs:?}"
        );
        assert_eq!(runs.is_empty(), last == Index(0), "an empty log has no term run, and only it");
        Self { runs, last }
    }

    /// The last entry; `EntryId::default()` of an empty log.
    pub fn last(&self) -> EntryId {
        EntryId::new(self.runs.last().map_or(Term(0), |run| run.1), self.last)
    }

    /// The term of the entry at `index`: `Term(0)` for the place before the first entry, `None`
    /// beyond the last.
    pub fn term(&self, index: Index) -> Option<Term> {
        if index == Index(0) {
            return Some(Term(0));
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
        assert!(term >= last.term, "an entry of term {term} behind one of term {}", last.term);
        self.last = self.last.next();
        if term > last.term {
            self.runs.push((self.last, term));
        }
    }

    /// Forgets everything behind `last`.
    pub fn truncate(&mut self, last: Index) {
        self.last = self.last.min(last);
        while self.runs.last().is_some_and(|run| run.0 > last) {
            self.runs.pop();
        }
    }

    /// The latest entry at or below `index` whose term is not above `term`: where two logs may still
    /// agree. It skips a whole term at a time (Raft paper 5.3, the accelerated back-off).
    pub fn latest_at_most(&self, index: Index, term: Term) -> EntryId {
        let mut index = index.min(self.last);
        for run in self.runs.iter().rev() {
            if run.0 > index {
                continue;
            }
            if run.1 <= term {
                return EntryId::new(run.1, index);
            }
            index = run.0.previous();
        }
        EntryId::default()
    }

    /// The runs, for what must be remembered elsewhere.
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
    fn latest_at_most_skips_whole_terms() {
        let terms = terms(&[1, 1, 1, 4, 4, 7]);
        assert_eq!(terms.latest_at_most(Index(9), Term(9)), EntryId::new(Term(7), Index(6)));
        assert_eq!(terms.latest_at_most(Index(6), Term(6)), EntryId::new(Term(4), Index(5)));
        assert_eq!(terms.latest_at_most(Index(4), Term(3)), EntryId::new(Term(1), Index(3)));
        assert_eq!(terms.latest_at_most(Index(6), Term(0)), EntryId::default());
    }
}
