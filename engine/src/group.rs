//! One group on this shard: its replica, its state machine, and the requests it has taken.

use crate::{
    request::{Kind, RequestError},
    ticket::Ticket,
};
use bytes::Bytes;
use purlin_rsm::{
    ApplyContext, Command, Entry, EntryId, GroupId, Index, NodeId, Payload, StateMachine, Term,
    Tick,
    raft::{ConfirmedRead, Raft, RoleKind},
};
use std::collections::{BTreeMap, VecDeque};

/// See the module.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) raft: Raft,
    machine: Box<dyn StateMachine>,
    proposals: Proposals,
    queries: Queries,
    /// It has inputs whose consequences are not handed out yet.
    pub(crate) is_dirty: bool,
    /// What the rest of the shard was last told of it.
    pub(crate) known: Standing,
    commands: Vec<Command>,
    outcomes: Vec<Bytes>,
}

/// How a replica stands in its group.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    pub(crate) term: Term,
    pub(crate) leader: Option<NodeId>,
    pub(crate) leads: bool,
}

/// Requests in the log whose outcome is open, in the order of the log.
#[derive(Default)]
struct Proposals {
    waiting: VecDeque<(EntryId, Tick, Ticket)>,
}

/// Queries that wait for their confirmation, or for the state machine to get there.
#[derive(Default)]
struct Queries {
    newest: u64,
    unconfirmed: BTreeMap<u64, Query>,
    /// By the index that must be applied first.
    confirmed: VecDeque<(Index, Query)>,
}

struct Query {
    data: Bytes,
    since: Tick,
    ticket: Ticket,
}

impl Group {
    pub(crate) fn new(id: GroupId, raft: Raft, machine: Box<dyn StateMachine>) -> Self {
        Self {
            id,
            raft,
            machine,
            proposals: Proposals::default(),
            queries: Queries::default(),
            is_dirty: false,
            known: Standing::default(),
            commands: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// Whether this replica leads.
    pub(crate) fn leads(&self) -> bool {
        self.raft.role() == RoleKind::Leader
    }

    /// How it stands now.
    pub(crate) fn standing(&self) -> Standing {
        Standing { term: self.raft.term(), leader: self.raft.leader(), leads: self.leads() }
    }

    /// Takes a request; this replica must lead.
    pub(crate) fn take(&mut self, now: Tick, kind: Kind, data: Bytes, ticket: Ticket) {
        match kind {
            Kind::Propose => match self.raft.propose(data) {
                Ok(id) => self.proposals.waiting.push_back((id, now, ticket)),
                Err(_) => ticket.end(Err(RequestError::NotApplied)),
            },
            Kind::Query => {
                self.queries.newest += 1;
                match self.raft.read(self.queries.newest) {
                    Ok(()) => {
                        let query = Query { data, since: now, ticket };
                        self.queries.unconfirmed.insert(self.queries.newest, query);
                    }
                    Err(_) => ticket.end(Err(RequestError::NotApplied)),
                }
            }
        }
    }

    /// Applies committed entries and ends what waited for them.
    pub(crate) fn apply(&mut self, entries: Vec<Entry>) {
        let Some(last) = entries.last().map(Entry::id) else { return };
        self.commands.clear();
        self.outcomes.clear();
        let commands = entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Noop => None,
            Payload::Command(data) => Some(Command { id: entry.id(), data: data.clone() }),
        });
        self.commands.extend(commands);
        if !self.commands.is_empty() {
            let context = ApplyContext { group: self.id };
            self.machine.apply(&context, &self.commands, &mut self.outcomes);
            assert_eq!(
                self.outcomes.len(),
                self.commands.len(),
                "a machine owes one outcome for each command"
            );
        }
        self.end_proposals(last.index);
        self.raft.applied(last.index);
        self.answer_queries();
    }

    /// Ends the proposals up to `applied`. What was committed in another term at its place is another
    /// entry: only this proves that a proposal was not applied (safety A5).
    fn end_proposals(&mut self, applied: Index) {
        let mut outcomes = self.commands.iter().zip(self.outcomes.drain(..)).peekable();
        while self.proposals.waiting.front().is_some_and(|(id, _, _)| id.index <= applied) {
            let Some((id, _, ticket)) = self.proposals.waiting.pop_front() else { return };
            while outcomes.next_if(|(command, _)| command.id.index < id.index).is_some() {}
            let outcome = outcomes.next_if(|(command, _)| command.id == id);
            ticket.end(outcome.map(|(_, outcome)| outcome).ok_or(RequestError::NotApplied));
        }
    }

    /// Reads that raft has confirmed.
    pub(crate) fn confirmed(&mut self, reads: Vec<ConfirmedRead>) {
        for ConfirmedRead { read, index } in reads {
            if let Some(query) = self.queries.unconfirmed.remove(&read) {
                self.queries.confirmed.push_back((index, query));
            }
        }
        self.answer_queries();
    }

    /// Reads that raft cannot confirm: this replica leads no more.
    pub(crate) fn failed(&mut self, reads: Vec<u64>) {
        for read in reads {
            if let Some(query) = self.queries.unconfirmed.remove(&read) {
                query.ticket.end(Err(RequestError::NotApplied));
            }
        }
    }

    fn answer_queries(&mut self) {
        let applied = self.raft.applied_index();
        // Later rounds have the same or a higher index, so the queue is in its order.
        while self.queries.confirmed.front().is_some_and(|(index, _)| *index <= applied) {
            let Some((_, query)) = self.queries.confirmed.pop_front() else { return };
            let answer = self.machine.query(&query.data);
            query.ticket.end(Ok(answer));
        }
    }

    /// Whether requests wait here.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.proposals.waiting.is_empty() || !self.queries.unconfirmed.is_empty()
    }

    /// Gives up requests that came before `limit`: proposals are in doubt, queries have no effect.
    pub(crate) fn expire(&mut self, limit: Tick) {
        let group = self.id;
        while self.proposals.waiting.front().is_some_and(|(_, since, _)| *since < limit) {
            let Some((id, _, ticket)) = self.proposals.waiting.pop_front() else { return };
            ticket.end(Err(RequestError::Unknown { group, term: id.term, index: id.index }));
        }
        let late: Vec<u64> = self
            .queries
            .unconfirmed
            .iter()
            .filter(|(_, query)| query.since < limit)
            .map(|(read, _)| *read)
            .collect();
        self.failed(late);
    }
}
