//! One replica's log and hard state as they were written to a WAL, and which of it is durable.

use purlin_rsm::{GroupId, HardState, Index, Sequence, Term};
use purlin_storage::inspect::Record;
use std::collections::{BTreeMap, VecDeque};

/// What a record does to its group. Copies that a purge makes do nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    State { group: GroupId, state: HardState },
    Entries { group: GroupId, run: Run },
}

/// Consecutive entries of one term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) first: Index,
    pub(crate) last: Index,
    pub(crate) term: Term,
}

pub(crate) type Replicas = BTreeMap<GroupId, Replica>;

/// Applies the effects of a write; `pending` is its sequence while it is not durable.
pub(crate) fn apply(replicas: &mut Replicas, effects: &[Effect], pending: Option<Sequence>) {
    for effect in effects {
        replicas.entry(effect.group()).or_default().apply(effect, pending);
    }
}

/// What a record does, if it does anything.
pub(crate) fn effect(record: &Record) -> Option<Effect> {
    match record {
        Record::HardState { group, state, relocated: false } => {
            Some(Effect::State { group: *group, state: *state })
        }
        Record::Entries { group, entries } => {
            let (first, last) = (entries.first()?.id(), entries.last()?.index);
            let run = Run { first: first.index, last, term: first.term };
            Some(Effect::Entries { group: *group, run })
        }
        Record::HardState { relocated: true, .. } | Record::Floor { .. } | Record::Peer { .. } => {
            None
        }
    }
}

impl Effect {
    pub(crate) fn group(&self) -> GroupId {
        match self {
            Self::State { group, .. } | Self::Entries { group, .. } => *group,
        }
    }
}

/// See the module. What replaces something durable is what counts, even before it is durable itself:
/// so all that is called durable here is found after any crash.
#[derive(Clone, Default, Debug)]
pub(crate) struct Replica {
    last: Index,
    /// Each run of one term, with its first index.
    terms: Vec<(Index, Term)>,
    /// The first entry of each write that is not known to be durable, and the write. Ascending in both.
    pending: VecDeque<(Index, Sequence)>,
    state: HardState,
    durable_state: HardState,
    pending_states: VecDeque<(Sequence, HardState)>,
}

impl Replica {
    pub(crate) fn apply(&mut self, effect: &Effect, pending: Option<Sequence>) {
        match *effect {
            Effect::State { state, .. } => self.set(state, pending),
            Effect::Entries { run, .. } => self.append(run, pending),
        }
    }

    fn set(&mut self, state: HardState, pending: Option<Sequence>) {
        self.state = state;
        match pending {
            Some(sequence) => self.pending_states.push_back((sequence, state)),
            None => self.durable_state = state,
        }
    }

    fn append(&mut self, run: Run, pending: Option<Sequence>) {
        self.terms.truncate(self.terms.partition_point(|(first, _)| *first < run.first));
        self.pending.truncate(self.pending.partition_point(|(first, _)| *first < run.first));
        if self.terms.last().is_none_or(|(_, term)| *term != run.term) {
            self.terms.push((run.first, run.term));
        }
        if let Some(sequence) = pending {
            self.pending.push_back((run.first, sequence));
        }
        self.last = run.last;
    }

    /// All up to `durable` is durable.
    pub(crate) fn settle(&mut self, durable: Sequence) {
        while self.pending.pop_front_if(|(_, sequence)| *sequence <= durable).is_some() {}
        while let Some((_, state)) =
            self.pending_states.pop_front_if(|(sequence, _)| *sequence <= durable)
        {
            self.durable_state = state;
        }
    }

    /// The last entry that was written.
    pub(crate) fn last(&self) -> Index {
        self.last
    }

    /// The last entry up to which all is durable, as of the last [`Self::settle`].
    pub(crate) fn durable(&self) -> Index {
        self.pending.front().map_or(self.last, |(first, _)| first.previous())
    }

    /// The newest hard state that was written.
    pub(crate) fn state(&self) -> HardState {
        self.state
    }

    /// The newest hard state that is durable, as of the last [`Self::settle`].
    pub(crate) fn durable_state(&self) -> HardState {
        self.durable_state
    }

    /// The term of a written entry.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index > self.last {
            return None;
        }
        let after = self.terms.partition_point(|(first, _)| *first <= index);
        Some(self.terms.get(after.checked_sub(1)?)?.1)
    }

    /// The runs of one term among the written entries from `from` to `to`.
    pub(crate) fn runs(&self, from: Index, to: Index) -> Vec<Run> {
        let ends = self.terms.iter().skip(1).map(|(first, _)| first.previous()).chain([self.last]);
        let runs = self.terms.iter().zip(ends);
        let within = |(&(first, term), last): (&(Index, Term), Index)| {
            let (first, last) = (first.max(from), last.min(to));
            (first <= last).then_some(Run { first, last, term })
        };
        runs.filter_map(within).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, last: u64, term: u64) -> Run {
        Run { first: Index(first), last: Index(last), term: Term(term) }
    }

    #[test]
    fn a_replaced_tail_is_durable_only_once_its_replacement_is() {
        let mut replica = Replica::default();
        replica.append(run(1, 3, 1), Some(Sequence(5)));
        replica.append(run(4, 6, 1), Some(Sequence(6)));
        assert_eq!(replica.durable(), Index(0));
        replica.settle(Sequence(6));
        assert_eq!(replica.durable(), Index(6));
        replica.append(run(3, 4, 2), Some(Sequence(7)));
        replica.settle(Sequence(6));
        assert_eq!((replica.durable(), replica.last()), (Index(2), Index(4)));
        let terms = [2, 3, 4, 5].map(|index| replica.term_at(Index(index)));
        assert_eq!(terms, [Some(Term(1)), Some(Term(2)), Some(Term(2)), None]);
        assert_eq!(replica.runs(Index(2), Index(9)), [run(2, 2, 1), run(3, 4, 2)]);
        replica.settle(Sequence(7));
        assert_eq!(replica.durable(), Index(4));
    }

    #[test]
    fn a_hard_state_counts_once_its_write_does() {
        let mut replica = Replica::default();
        let state = |term| HardState { term: Term(term), ..HardState::default() };
        replica.set(state(1), Some(Sequence(5)));
        replica.set(state(2), Some(Sequence(6)));
        replica.settle(Sequence(5));
        assert_eq!((replica.state(), replica.durable_state()), (state(2), state(1)));
    }
}
