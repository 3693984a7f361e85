//! The facts about a group that never change: who led which term, who voted for whom, which entries
//! were written, which were committed, and which were applied where.

use super::replica::{Replica, Run};
use purlin_rsm::{Command, Entry, EntryId, Index, NodeId, Payload, Term};
use std::collections::BTreeMap;

/// One group.
#[derive(Default)]
pub(crate) struct Group {
    leaders: BTreeMap<Term, NodeId>,
    /// The highest term of which a leader was heard, whatever it is worth.
    newest: Term,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    written: BTreeMap<Term, Written>,
    /// The last entry that is known to be committed.
    committed: EntryId,
    /// All committed entries, as runs of one term.
    runs: Vec<Run>,
    /// How far each leader, by its term, is known to have committed.
    commits: BTreeMap<Term, Index>,
    /// By position, of commands their entries and sums.
    applied: Vec<Option<(EntryId, u64)>>,
    /// Where each command was first applied, by its sum.
    places: BTreeMap<u64, Index>,
    /// The last entry of which a client knows that it is done.
    pub(crate) acknowledged: Index,
}

/// The entries of one term, without a gap.
struct Written {
    first: Index,
    /// The term of the entry before the first.
    before: Term,
    sums: Vec<u64>,
}

impl Group {
    /// `node` speaks as the leader of `term`. Whether it is the first time; fails when another one did.
    pub(crate) fn leads(&mut self, node: NodeId, term: Term) -> Result<bool, String> {
        self.hears(term);
        match self.leaders.insert(term, node) {
            None => Ok(true),
            Some(other) if other == node => Ok(false),
            Some(other) => Err(format!("leads term {term}, and node {other} led it")),
        }
    }

    /// Somebody speaks as the leader of `term`, perhaps one whose directory is corrupted.
    pub(crate) fn hears(&mut self, term: Term) {
        self.newest = self.newest.max(term);
    }

    /// The highest term of which a leader was heard.
    pub(crate) fn newest_term(&self) -> Term {
        self.newest
    }

    /// `node` says that it votes for `candidate`.
    pub(crate) fn votes(
        &mut self,
        node: NodeId,
        term: Term,
        candidate: NodeId,
    ) -> Result<(), String> {
        let first = *self.votes.entry((node, term)).or_insert(candidate);
        if first == candidate {
            return Ok(());
        }
        Err(format!("votes for {candidate} in term {term}, and voted for {first}"))
    }

    /// A replica writes consecutive entries of one term behind what `replica` holds. No two different
    /// entries, and no two different logs before them, share term and index.
    pub(crate) fn writes(&mut self, replica: &Replica, entries: &[Entry]) -> Result<(), String> {
        let EntryId { term, index: first } = entries[0].id();
        let before = replica.term_at(first.previous()).unwrap_or_default();
        let written =
            self.written.entry(term).or_insert(Written { first, before, sums: Vec::new() });
        let expected = if first == written.first { written.before } else { term };
        let end = Index(written.first.0 + written.sums.len() as u64);
        if first < written.first || first > end || before != expected {
            return Err(format!(
                "writes {} behind an entry of term {before}; term {term} goes from {} behind term {} to {end}",
                entries[0].id(),
                written.first,
                written.before
            ));
        }
        let start = (first.0 - written.first.0) as usize;
        for (place, entry) in (start..).zip(entries) {
            let sum = sum_of(entry);
            match written.sums.get(place) {
                None => written.sums.push(sum),
                Some(known) if *known == sum => {}
                Some(_) => return Err(format!("writes another {} than was written", entry.id())),
            }
        }
        self.keeps_committed(replica, entries)
    }

    /// What a replica replaces must not be committed.
    fn keeps_committed(&self, replica: &Replica, entries: &[Entry]) -> Result<(), String> {
        let (first, last) = (entries[0].index, entries[entries.len() - 1].index);
        if first > replica.last() || first > self.committed.index {
            return Ok(());
        }
        // Behind the first that differs everything is gone.
        let replaced = replica.runs(first, replica.last().min(self.committed.index));
        for run in replaced {
            for index in (run.first.0..=run.last.0).map(Index) {
                let stays = index <= last && entries[0].term == run.term;
                if !stays && self.term_of_committed(index) == Some(run.term) {
                    let id = EntryId::new(run.term, index);
                    return Err(format!("replaces {id}, which is committed, from {first} on"));
                }
            }
        }
        Ok(())
    }

    /// Whether an entry that is found on a disk is the one that was once written.
    pub(crate) fn knows(&self, entry: &Entry) -> bool {
        let Some(written) = self.written.get(&entry.term) else { return false };
        let place = entry.index.0.checked_sub(written.first.0);
        let sum = place.and_then(|place| written.sums.get(place as usize));
        sum == Some(&sum_of(entry))
    }

    /// The last entry that is known to be committed.
    pub(crate) fn committed(&self) -> EntryId {
        self.committed
    }

    /// The term of a committed entry.
    pub(crate) fn term_of_committed(&self, index: Index) -> Option<Term> {
        let after = self.runs.partition_point(|run| run.first <= index);
        let run = self.runs.get(after.checked_sub(1)?)?;
        (index <= run.last).then_some(run.term)
    }

    /// All up to `id` is committed, by the leader of `leader` or an earlier one; `runs` are the entries
    /// behind what was known to be.
    pub(crate) fn commit(&mut self, id: EntryId, leader: Term, runs: Vec<Run>) {
        for run in runs {
            match self.runs.last_mut().filter(|last| last.term == run.term) {
                Some(last) => last.last = run.last,
                None => self.runs.push(run),
            }
        }
        self.committed = id;
        // A leader that has sent nothing led no earlier than in the term of the entry.
        let commit = self.commits.entry(leader.max(id.term)).or_default();
        *commit = id.index.max(*commit);
    }

    /// Fails unless a new leader's log has all that leaders before it have committed.
    pub(crate) fn is_complete(&self, leader: Term, replica: &Replica) -> Result<(), String> {
        let before = self.commits.range(..leader).map(|(_, index)| *index);
        let Some(index) = before.max() else { return Ok(()) };
        let (term, found) = (self.term_of_committed(index), replica.term_at(index));
        if term.is_none() || found == term {
            return Ok(());
        }
        Err(format!(
            "leads term {leader} without the committed {index}@{}: its log has {found:?} there",
            term.unwrap_or_default()
        ))
    }

    /// A replica applied a command. The same position has the same command of the same entry at every
    /// replica, for ever.
    pub(crate) fn applied(&mut self, command: &Command, sum: u64) -> Result<(), String> {
        let (id, place) = (command.id, command.position.0 as usize);
        if self.applied.len() <= place {
            self.applied.resize(place + 1, None);
        }
        let Some(first) = self.applied[place] else {
            self.applied[place] = Some((id, sum));
            self.places.entry(sum).or_insert(id.index);
            return Ok(());
        };
        if first == (id, sum) {
            return Ok(());
        }
        let position = command.position;
        Err(format!(
            "applies another command at {id} as number {position} than was applied there by {}",
            first.0
        ))
    }

    /// Where a command was first applied.
    pub(crate) fn place(&self, command: &[u8]) -> Option<Index> {
        self.places.get(&sum(command)).copied()
    }
}

/// Of all that an entry carries, and of how many commands stand before it.
fn sum_of(entry: &Entry) -> u64 {
    let start = match entry.payload {
        Payload::Noop => 0,
        Payload::Commands(_) => 1,
    };
    entry.commands().fold(start ^ entry.before.0 << 1, |all, (_, command)| {
        (all ^ sum(&command)).wrapping_mul(ODD).rotate_left(29)
    })
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Of some bytes.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let mut sum = bytes.len() as u64 ^ ODD;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(ODD);
        sum ^= sum >> 29;
    }
    sum | 1
}
