//! The proposals of a group: those that are gathered for its next entry, and those that are in its log.
//!
//! What a group is given between two steps becomes one entry: log, wire and WAL then cost once for all of its commands.
//! The commands stay apart by their positions, and each has its own outcome. Nothing waits for an entry to fill up:
//! the next step of the group appends what there is.

use crate::edge::ticket::Ticket;
use bytes::Bytes;
use purlin_rsm::{
    Command, Commands, EntryId, Index, Position, RequestError, Term, Tick,
    raft::{Proposed, Raft},
};
use std::{collections::VecDeque, mem};

/// The cost of an entry of several commands is at most this ([`purlin_rsm::Entry::cost`]), so that it is one piece of
/// work for a machine. A longer command is an entry of its own.
pub(crate) const ENTRY_COST_MAX: usize = 64 << 10;

/// What a command costs in an entry beside its bytes.
const COMMAND_COST: usize = 32;

/// See the module.
#[derive(Default)]
pub(crate) struct Proposals {
    /// The commands of the next entry, never appended before, and who waits for each of them.
    commands: Vec<Bytes>,
    gathered: Vec<Gathered>,
    /// What that entry costs.
    cost: usize,
    /// The term in which they were taken. In another term they are not appended (safety E1): their sender may have let
    /// younger ones go elsewhere meanwhile.
    term: Term,
    /// By index, then term, then position. Those of an earlier leadership may lie at higher indices than newer ones: a
    /// truncation ends none of them (safety A5).
    appended: VecDeque<Appended>,
}

/// Who waits for a command that was never appended.
struct Gathered {
    since: Tick,
    ticket: Ticket,
}

/// A command in the log, whose outcome is open.
struct Appended {
    at: Proposed,
    since: Tick,
    ticket: Ticket,
}

impl Appended {
    fn order(&self) -> (Index, Term, Position) {
        (self.at.id.index, self.at.id.term, self.at.position)
    }

    /// Nobody knows whether it is or will be applied.
    fn end_in_doubt(self) {
        let Proposed { id: EntryId { term, index }, position } = self.at;
        self.ticket.end(Err(RequestError::Unknown { term, index, position }));
    }
}

impl Proposals {
    /// Takes a command for the next entry of `raft`; appends those before it first, if they fill an entry.
    pub(crate) fn take(&mut self, raft: &mut Raft, now: Tick, command: Bytes, ticket: Ticket) {
        let cost = command.len() + COMMAND_COST;
        let is_of_another_term = self.term != raft.term();
        if !self.gathered.is_empty() && (is_of_another_term || self.cost + cost > ENTRY_COST_MAX) {
            self.append(raft);
        }
        self.term = raft.term();
        self.cost += cost;
        self.commands.push(command);
        self.gathered.push(Gathered { since: now, ticket });
    }

    /// Appends what was gathered as one entry. If the replica leads no more, or in another term, none of it was or will
    /// be applied.
    pub(crate) fn append(&mut self, raft: &mut Raft) {
        if self.gathered.is_empty() {
            return;
        }
        self.cost = 0;
        let is_same_term = raft.term() == self.term;
        let commands = Commands::of(&self.commands);
        self.commands.clear();
        self.commands.shrink_to(GATHERED_KEPT);
        let count = commands.count();
        let appended = is_same_term.then(|| raft.propose_all(commands).ok()).flatten();
        let Some(Proposed { id, position: Position(last) }) = appended else {
            purlin_rsm::sometimes!("commands were gathered, and the replica leads no more");
            return self.refuse_gathered();
        };
        purlin_rsm::sometimes!(count > 1, "entry of several commands appended");
        let positions = (last + 1 - count..=last).map(Position);
        for (position, Gathered { since, ticket, .. }) in positions.zip(self.gathered.drain(..)) {
            ticket.proposed(id);
            let appended = Appended { at: Proposed { id, position }, since, ticket };
            // Nearly always the new one is the last.
            let is_last = self.appended.back().is_none_or(|it| it.order() < appended.order());
            let place = match is_last {
                true => self.appended.len(),
                false => self.appended.partition_point(|it| it.order() < appended.order()),
            };
            self.appended.insert(place, appended);
        }
        self.gathered.shrink_to(GATHERED_KEPT);
    }

    /// Ends what was gathered, and never appended.
    fn refuse_gathered(&mut self) {
        self.cost = 0;
        self.commands.clear();
        let gathered = mem::take(&mut self.gathered);
        gathered.into_iter().for_each(|it| it.ticket.end(Err(RequestError::NotApplied)));
    }

    /// Whether commands wait to be an entry.
    pub(crate) fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// See [`Raft::look_ahead`].
    pub(crate) fn look_ahead(&self) -> u64 {
        let appended = self.appended.front().map_or(0, |it| it.at.position.0);
        appended ^ self.gathered.first().map_or(0, |it| it.since.0)
    }

    /// What the gathered commands take in memory.
    pub(crate) fn gathered_bytes(&self) -> usize {
        self.cost
    }

    /// Ends the proposals up to `applied`, to which `commands` were applied with these outcomes. What was committed in
    /// another term at its place is another entry: only this proves that a proposal was not applied (safety A5).
    pub(crate) fn applied(
        &mut self,
        applied: Index,
        commands: &[Command],
        outcomes: impl Iterator<Item = Bytes>,
    ) {
        let mut outcomes = commands.iter().zip(outcomes).peekable();
        while let Some(Appended { at: Proposed { id, position }, ticket, .. }) =
            self.appended.pop_front_if(|it| it.at.id.index <= applied)
        {
            // Commands of other proposers, and those of this entry that another node proposed.
            let is_before = |command: &Command| {
                command.id.index < id.index || command.id == id && command.position < position
            };
            while outcomes.next_if(|(command, _)| is_before(command)).is_some() {}
            let outcome = outcomes.next_if(|(it, _)| (it.id, it.position) == (id, position));
            purlin_rsm::sometimes!(outcome.is_none(), "another entry committed in its place");
            ticket.end(outcome.map(|(_, outcome)| outcome).ok_or(RequestError::NotApplied));
        }
    }

    /// The state machine has stopped: what is in the log may be committed, and the machine of another replica may have
    /// applied it.
    pub(crate) fn stop(&mut self) {
        self.refuse_gathered();
        mem::take(&mut self.appended).into_iter().for_each(Appended::end_in_doubt);
    }

    /// Gives up those that came before `limit`.
    pub(crate) fn expire(&mut self, limit: Tick) {
        let commands = mem::take(&mut self.commands);
        for (command, gathered) in commands.into_iter().zip(mem::take(&mut self.gathered)) {
            if gathered.since < limit {
                self.cost -= command.len() + COMMAND_COST;
                gathered.ticket.end(Err(RequestError::NotApplied));
            } else {
                self.commands.push(command);
                self.gathered.push(gathered);
            }
        }
        // The order of the log need not be that of their coming.
        for appended in mem::take(&mut self.appended) {
            if appended.since < limit {
                purlin_rsm::sometimes!("proposal in doubt at its deadline");
                appended.end_in_doubt();
            } else {
                self.appended.push_back(appended);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn set_term(&mut self, term: Term) {
        self.term = term;
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.gathered.len() + self.appended.len()
    }

    /// When the oldest came.
    pub(crate) fn oldest(&self) -> Option<Tick> {
        let gathered = self.gathered.iter().map(|it| it.since);
        gathered.chain(self.appended.iter().map(|it| it.since)).min()
    }

    /// What waits for their outcomes.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        let gathered = self.gathered.iter().map(|it| &it.ticket);
        gathered.chain(self.appended.iter().map(|it| &it.ticket))
    }
}

/// For so many commands empty lists keep their memory: about 5 KiB for each group.
const GATHERED_KEPT: usize = 64;
