//! One group on this shard: its replica, its state machine, and the requests it has taken.

use crate::{
    control::status::GroupStatus,
    edge::ticket::Ticket,
    shard::{
        machine::{Machine, MachineStop},
        proposals::Proposals,
    },
};
use bytes::Bytes;
use purlin_rsm::{
    ApplyContext, Command, Entry, EntryId, GroupId, Index, NodeId, RequestError, RequestKind,
    StateMachine, Term, Tick,
    raft::{ConfirmedRead, Raft, Ready, RoleKind},
};
use std::collections::{BTreeMap, VecDeque};

/// Its machine is given entries of so many bytes at once, or one longer entry: so many short keys take 8 ms.
const PIECE_BYTES: usize = 64 << 10;

/// See the module.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) raft: Raft,
    machine: Machine,
    proposals: Proposals,
    queries: Queries,
    /// It stands in the queue of deadlines.
    has_deadline: bool,
    /// What the rest of the shard was last told of it.
    pub(crate) known: Standing,
    /// Committed entries that raft has handed out, and that are not applied yet.
    page: VecDeque<Entry>,
    commands: Vec<Command>,
    outcomes: Vec<Bytes>,
}

/// How a replica stands in its group.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    pub(crate) term: Term,
    pub(crate) leader: Option<NodeId>,
    pub(crate) leads: bool,
    /// The replica has stopped by a fault.
    pub(crate) is_stopped: bool,
    /// Its state machine has stopped: the replica follows, and applies nothing (safety E6).
    pub(crate) is_machine_stopped: bool,
    /// The machine still applies what the log held at the start.
    pub(crate) is_loading: bool,
}

impl Standing {
    /// Whether the replica or its state machine has stopped.
    pub(crate) fn serves_nothing(&self) -> bool {
        self.is_stopped || self.is_machine_stopped
    }
}

/// Queries that wait for their confirmation, or for the state machine to get there.
#[derive(Default)]
struct Queries {
    newest: u64,
    unconfirmed: BTreeMap<u64, Query>,
    /// By the index that must be applied first.
    confirmed: VecDeque<(Index, Query)>,
    /// How many queries the state machine has failed at.
    failed: u64,
    /// What the log is to be told of the last of these.
    untold: Option<String>,
}

impl Queries {
    /// The state machine has failed at a query of so many bytes. Clients may repeat such queries without end, so the
    /// log is told of the first, the second, the fourth, and so on.
    fn note_failure(&mut self, bytes: usize, what: &str) {
        self.failed += 1;
        if self.failed.is_power_of_two() {
            let count = self.failed;
            self.untold =
                Some(format!("query of {bytes} bytes: {what} ({count} such queries so far)"));
        }
    }
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
            machine: Machine::new(machine),
            proposals: Proposals::default(),
            queries: Queries::default(),
            has_deadline: false,
            known: Standing::default(),
            page: VecDeque::new(),
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
        Standing {
            term: self.raft.term(),
            leader: self.raft.leader(),
            leads: self.leads(),
            is_stopped: self.raft.fault().is_some(),
            is_machine_stopped: self.machine.stopped().is_some(),
            is_loading: self.raft.is_loading(),
        }
    }

    /// How it stands now, for operators.
    pub(crate) fn status(&self) -> GroupStatus {
        GroupStatus {
            group: self.id,
            raft: self.raft.status(),
            proposals: self.proposals.len(),
            queries: self.queries.unconfirmed.len() + self.queries.confirmed.len(),
            failed_queries: self.queries.failed,
            machine: self.machine.stopped().cloned(),
        }
    }

    /// What its machine holds in memory.
    pub(crate) fn machine_bytes(&self) -> usize {
        self.machine.held_bytes()
    }

    /// Whether its machine admits a command although the machines of the shard hold all that they may.
    pub(crate) fn admits_when_full(&self, command: &[u8]) -> bool {
        self.machine.admits_when_full(command)
    }

    /// Gives a request to raft; this replica must lead.
    pub(crate) fn propose_or_query(
        &mut self,
        now: Tick,
        kind: RequestKind,
        data: Bytes,
        ticket: Ticket,
    ) {
        match kind {
            RequestKind::Propose => self.proposals.take(&mut self.raft, now, data, ticket),
            RequestKind::Query => {
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

    /// What raft wants done. The commands that were given to the group since the last call are an entry now.
    pub(crate) fn ready(&mut self) -> Ready {
        self.proposals.append(&mut self.raft);
        self.raft.ready()
    }

    /// Hands the group over to `to`, behind all that it was given; see [`Raft::hand_over`].
    pub(crate) fn hand_over(&mut self, now: Tick, to: NodeId) -> bool {
        self.proposals.append(&mut self.raft);
        self.raft.hand_over(now, to)
    }

    /// What its entries take in memory, and the commands that are to be one.
    pub(crate) fn entry_bytes(&self) -> usize {
        self.raft.held_bytes() + self.proposals.gathered_bytes()
    }

    /// Whether a step of the group would do anything: for raft, for the machine, or for those who are to learn how the
    /// group stands.
    pub(crate) fn needs_step(&self) -> bool {
        self.raft.has_ready()
            || self.proposals.has_gathered()
            || self.has_work()
            || self.queries.untold.is_some()
            || self.known != self.standing()
    }

    /// See [`Raft::look_ahead`].
    pub(crate) fn look_ahead(&self) -> u64 {
        self.raft.look_ahead() ^ self.proposals.look_ahead()
    }

    /// Takes committed entries, which [`Group::work`] applies.
    pub(crate) fn take_committed(&mut self, entries: Vec<Entry>) {
        self.page.extend(entries);
    }

    /// Whether entries wait to be applied.
    pub(crate) fn applies(&self) -> bool {
        !self.page.is_empty()
    }

    /// Whether its machine has something to do.
    pub(crate) fn has_work(&self) -> bool {
        self.applies() || self.has_answerable()
    }

    /// Lets its machine apply entries and answer queries, one piece after the other: until it has nothing to do, or
    /// until `is_over` says so behind a piece.
    pub(crate) fn work(&mut self, now: Tick, is_over: impl Fn() -> bool) {
        while self.has_work() {
            match self.has_answerable() {
                true => self.answer_query(),
                false => self.apply_piece(now),
            }
            if is_over() {
                purlin_rsm::sometimes!(
                    self.has_work(),
                    "work of a machine goes on in the next turn"
                );
                return;
            }
        }
    }

    /// Applies the next entries, and ends what waited for them. If the state machine stops at one of them, everything
    /// that waits in the group ends.
    fn apply_piece(&mut self, now: Tick) {
        self.commands.clear();
        self.outcomes.clear();
        let (mut last, mut bytes) = (EntryId::default(), 0);
        while let Some(entry) = self.page.pop_front_if(|next| {
            bytes += next.cost();
            last == EntryId::default() || bytes <= PIECE_BYTES
        }) {
            last = entry.id();
            let command = |(position, data)| Command { id: last, position, data };
            self.commands.extend(entry.commands().map(command));
        }
        if !self.commands.is_empty() {
            let context = ApplyContext { group: self.id, epoch: self.raft.epoch() };
            if self.machine.apply(&context, &self.commands, &mut self.outcomes).is_err() {
                return self.stop(now);
            }
        }
        self.proposals.applied(last.index, &self.commands, self.outcomes.drain(..));
        self.raft.applied(last.index);
    }

    /// The state machine has stopped: nothing is applied any more (safety E6). Proposals are in doubt: they may be
    /// committed, and the machine of another replica may have applied them. Queries have no effect, and another replica may
    /// answer them.
    fn stop(&mut self, now: Tick) {
        self.raft.stop_applying(now);
        self.page.clear();
        self.proposals.stop();
        let unconfirmed = std::mem::take(&mut self.queries.unconfirmed).into_values();
        let confirmed = std::mem::take(&mut self.queries.confirmed).into_iter();
        let queries = unconfirmed.chain(confirmed.map(|(_, query)| query));
        queries.for_each(|query| query.ticket.end(Err(RequestError::NotApplied)));
    }

    /// What the log is to be told of queries that the state machine failed at: each text once.
    pub(crate) fn take_failed_query(&mut self) -> Option<String> {
        self.queries.untold.take()
    }

    /// Why its state machine has stopped, if it has.
    pub(crate) fn machine_stop(&self) -> Option<&MachineStop> {
        self.machine.stopped()
    }

    /// Reads that raft has confirmed; [`Group::work`] answers them.
    pub(crate) fn confirmed(&mut self, reads: Vec<ConfirmedRead>) {
        for ConfirmedRead { read, index } in reads {
            if let Some(query) = self.queries.unconfirmed.remove(&read) {
                self.queries.confirmed.push_back((index, query));
            }
        }
    }

    /// Reads that raft cannot confirm: this replica leads no more.
    pub(crate) fn failed(&mut self, reads: Vec<u64>) {
        for read in reads {
            if let Some(query) = self.queries.unconfirmed.remove(&read) {
                query.ticket.end(Err(RequestError::NotApplied));
            }
        }
    }

    /// Whether a query can be answered now.
    fn has_answerable(&self) -> bool {
        let applied = self.raft.applied_index();
        // Later rounds have the same or a higher index, so the queue is in its order.
        self.queries.confirmed.front().is_some_and(|(index, _)| *index <= applied)
    }

    /// Answers the next query.
    fn answer_query(&mut self) {
        let Some((_, query)) = self.queries.confirmed.pop_front() else { return };
        // Nobody would be told: a long answer would be made again and again, for each of many.
        if query.ticket.is_left_out() {
            return query.ticket.leave_out();
        }
        let answer = self.machine.query(&query.data);
        if let Err(what) = &answer {
            self.queries.note_failure(query.data.len(), what);
        }
        query.ticket.end(answer.map_err(|_| RequestError::QueryFailed));
    }

    /// When its oldest request came, if the group is not in the queue of deadlines yet: it is from now on.
    pub(crate) fn watch(&mut self) -> Option<Tick> {
        if self.has_deadline {
            return None;
        }
        let queries = self
            .queries
            .unconfirmed
            .values()
            .chain(self.queries.confirmed.iter().map(|(_, query)| query));
        let oldest = queries.map(|query| query.since).chain(self.proposals.oldest()).min();
        self.has_deadline = oldest.is_some();
        oldest
    }

    /// The tickets of the requests that wait here.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        let queries = self.queries.unconfirmed.values();
        let queries = queries.chain(self.queries.confirmed.iter().map(|(_, query)| query));
        self.proposals.tickets().chain(queries.map(|query| &query.ticket))
    }

    /// Whether it has a deadline, or no requests.
    pub(crate) fn check_deadline(&self) -> Result<(), String> {
        if self.has_waiting() && !self.has_deadline {
            return Err(format!("group {} has requests and no deadline", self.id));
        }
        Ok(())
    }

    /// Whether requests wait here.
    pub(crate) fn has_waiting(&self) -> bool {
        self.proposals.len() > 0
            || !self.queries.unconfirmed.is_empty()
            || !self.queries.confirmed.is_empty()
    }

    /// Gives up requests that came before `limit`: proposals are in doubt, queries have no effect.
    /// The group has left the queue of deadlines.
    pub(crate) fn expire(&mut self, limit: Tick) {
        self.has_deadline = false;
        self.proposals.expire(limit);
        let late: Vec<u64> = self
            .queries
            .unconfirmed
            .iter()
            .filter(|(_, query)| query.since < limit)
            .map(|(read, _)| *read)
            .collect();
        self.failed(late);
        for (index, query) in std::mem::take(&mut self.queries.confirmed) {
            if query.since < limit {
                query.ticket.end(Err(RequestError::NotApplied));
            } else {
                self.queries.confirmed.push_back((index, query));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        edge::{
            accepted::AcceptedBatch,
            other_shard::{Origin, OtherShard},
        },
        shard::proposals::ENTRY_COST_MAX,
    };
    use purlin_rsm::{
        Envelope, GroupEpoch, HardState, Message, Outcome, Payload, Position, ShardId,
        raft::{RaftConfig, Recovered, Terms, Voters},
    };
    use purlin_transport::BatchOutcome;
    use std::{cell::Cell, rc::Rc};

    /// Counts the commands it has applied.
    struct Counter(u64);

    impl StateMachine for Counter {
        fn apply(&mut self, _: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
            for _ in commands {
                self.0 += 1;
                outcomes.push(Bytes::copy_from_slice(&self.0.to_le_bytes()));
            }
        }

        fn query(&self, _: &[u8]) -> Bytes {
            Bytes::copy_from_slice(&self.0.to_le_bytes())
        }
    }

    const ORIGIN: Origin = Origin { shard: OtherShard::OfThisNode(ShardId(9)), id: 1 };
    const NOW: Tick = Tick(0);

    pub(crate) fn fresh() -> Group {
        fresh_group(GroupId(1))
    }

    pub(crate) fn fresh_group(id: GroupId) -> Group {
        let config = RaftConfig::new(id, NodeId(1), Voters::new([1, 2, 3].map(NodeId)));
        let config = RaftConfig { campaigns_first: true, ..config };
        let raft = Raft::new(config, Recovered::default(), NOW);
        Group::new(id, raft, Box::new(Counter(0)))
    }

    /// A group with this replica alone, which leads.
    pub(crate) fn leading_group(id: GroupId) -> Group {
        let config = RaftConfig::new(id, NodeId(1), Voters::new([NodeId(1)]));
        let config = RaftConfig { apply_bytes_max: 1 << 20, ..config };
        let raft = Raft::new(config, Recovered::default(), NOW);
        let mut group = Group::new(id, raft, Box::new(Counter(0)));
        group.raft.tick(group.raft.deadline().expect("a timer runs"));
        settle(&mut group, NOW);
        assert!(group.leads(), "{:?}", group.raft);
        group
    }

    /// A group whose log begins behind `floor`: all up to there is applied.
    pub(crate) fn group_at(id: GroupId, floor: Index) -> Group {
        let config = RaftConfig::new(id, NodeId(1), Voters::new([1, 2, 3].map(NodeId)));
        let hard_state = HardState { term: Term(1), ..HardState::default() };
        let terms = Terms::new(EntryId::new(Term(1), floor), Vec::new(), floor);
        let recovered = Recovered { hard_state, terms, ..Recovered::default() };
        Group::new(id, Raft::new(config, recovered, NOW), Box::new(Counter(0)))
    }

    /// Everything that is handed out is durable and applied at once; messages are lost.
    fn settle(group: &mut Group, now: Tick) {
        loop {
            let ready = group.ready();
            if ready.is_empty() {
                return;
            }
            if let Some(append) = ready.append {
                group.raft.appended(now, append.write);
            }
            group.take_committed(ready.committed);
            group.work(now, || false);
        }
    }

    fn hear(group: &mut Group, now: Tick, from: u32, term: u64, message: Message) {
        group.raft.step(now, envelope(from, term, message));
        settle(group, now);
    }

    fn envelope(from: u32, term: u64, message: Message) -> Envelope {
        let (from, to) = (NodeId(from), NodeId(1));
        let (group, epoch, term) = (GroupId(1), GroupEpoch::FIRST, Term(term));
        Envelope { from, to, group, epoch, term, message }
    }

    fn win(group: &mut Group, term: u64, voter: u32) -> Tick {
        let now = group.raft.deadline().expect("a timer runs");
        group.raft.tick(now);
        settle(group, now);
        hear(group, now, voter, term, Message::PreVoteReply { granted: true });
        hear(group, now, voter, term, Message::VoteReply { granted: true });
        assert!(group.leads(), "{:?}", group.raft);
        now
    }

    fn propose(group: &mut Group, now: Tick) -> Rc<AcceptedBatch> {
        let batch = AcceptedBatch::new(ORIGIN, RequestKind::Propose, 1);
        let ticket = Ticket::batch(&batch, 0);
        group.propose_or_query(now, RequestKind::Propose, Bytes::from_static(b"+1"), ticket);
        settle(group, now);
        batch
    }

    fn outcomes(batch: &AcceptedBatch) -> Vec<Outcome> {
        match batch.reply().1.outcome {
            BatchOutcome::Done(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    /// Answers any query with a megabyte and a half, and counts how often it does.
    struct Wordy(Rc<Cell<usize>>);

    impl StateMachine for Wordy {
        fn apply(&mut self, _: &ApplyContext, _: &[Command], _: &mut Vec<Bytes>) {}

        fn query(&self, _: &[u8]) -> Bytes {
            self.0.set(self.0.get() + 1);
            Bytes::from(vec![0; 3 << 19])
        }
    }

    fn query(group: &mut Group, now: Tick) -> Rc<AcceptedBatch> {
        let batch = AcceptedBatch::new(ORIGIN, RequestKind::Query, 1);
        let ticket = Ticket::batch(&batch, 0);
        group.propose_or_query(now, RequestKind::Query, Bytes::new(), ticket);
        batch
    }

    /// Whether a ticket still holds the batch.
    fn is_open(batch: &Rc<AcceptedBatch>) -> bool {
        Rc::strong_count(batch) > 1
    }

    /// A group that leads, and has applied its first entry.
    fn leading() -> (Group, Tick) {
        let mut group = fresh();
        let now = win(&mut group, 1, 2);
        hear(&mut group, now, 2, 1, Message::AppendReply { matched: Index(1) });
        (group, now)
    }

    #[test]
    fn requests_expire_when_they_are_older_than_the_limit_and_not_before() {
        let (mut group, start) = leading();
        let at = |ticks| Tick(start.0 + ticks);
        // Two of each kind: one that came at 5 and one that came at 10.
        let confirmed = [5, 10].map(|ticks| query(&mut group, at(ticks)));
        let reads = [1, 2].map(|read| ConfirmedRead { read, index: Index(2) });
        group.confirmed(reads.into());
        group.work(NOW, || false);
        let unconfirmed = [5, 10].map(|ticks| query(&mut group, at(ticks)));
        let proposed = [5, 10].map(|ticks| propose(&mut group, at(ticks)));
        assert_eq!(group.tickets().count(), 6);
        group.expire(at(5));
        assert_eq!(group.tickets().count(), 6, "none is older than that");
        group.expire(at(10));
        assert_eq!(outcomes(&confirmed[0]), [Err(RequestError::NotApplied)]);
        assert_eq!(outcomes(&unconfirmed[0]), [Err(RequestError::NotApplied)]);
        let (term, index, position) = (Term(1), Index(2), Position(1));
        let unknown = Err(RequestError::Unknown { term, index, position });
        assert_eq!(outcomes(&proposed[0]), [unknown], "it may still be committed");
        for young in [&confirmed[1], &unconfirmed[1], &proposed[1]] {
            assert!(is_open(young));
        }
        group.expire(at(11));
        assert_eq!((group.tickets().count(), group.has_waiting()), (0, false));
    }

    #[test]
    fn a_group_with_requests_has_one_deadline_which_is_that_of_the_oldest() {
        let (mut group, start) = leading();
        let at = |ticks| Tick(start.0 + ticks);
        assert_eq!((group.watch(), group.has_waiting()), (None, false), "nothing waits");
        assert_eq!(group.check_deadline(), Ok(()));
        let _queries = [9, 7].map(|ticks| query(&mut group, at(ticks)));
        let _proposed = propose(&mut group, at(8));
        assert!(group.has_waiting() && group.check_deadline().is_err());
        assert_eq!(group.watch(), Some(at(7)));
        assert_eq!(group.watch(), None, "it stands in the queue of deadlines");
        assert_eq!(group.check_deadline(), Ok(()));
        group.expire(at(8));
        assert_eq!(group.watch(), Some(at(8)));
    }

    #[test]
    fn each_query_is_answered_by_its_own_confirmation() {
        let (mut group, now) = leading();
        let queries = [(); 3].map(|()| query(&mut group, now));
        assert_eq!(group.status().queries, 3);
        group.confirmed(vec![ConfirmedRead { read: 2, index: Index(1) }]);
        group.work(NOW, || false);
        assert_eq!(queries.each_ref().map(is_open), [true, false, true]);
        group.failed(vec![1]);
        assert_eq!(outcomes(&queries[0]), [Err(RequestError::NotApplied)]);
        assert!(is_open(&queries[2]));
        assert_eq!(group.status().queries, 1);
    }

    /// They are asked again: were each of them answered each time, the work would be the square of their
    /// number.
    #[test]
    fn queries_whose_answers_have_no_room_are_not_answered() {
        let mut group = fresh();
        let asked = Rc::new(Cell::new(0));
        group.machine = Machine::new(Box::new(Wordy(asked.clone())));
        let batch = AcceptedBatch::new(ORIGIN, RequestKind::Query, 100);
        for position in 0..100 {
            let ticket = Ticket::batch(&batch, position);
            let query = Query { data: Bytes::new(), since: NOW, ticket };
            group.queries.confirmed.push_back((Index(0), query));
        }
        group.work(NOW, || false);
        assert_eq!(outcomes(&batch).len(), 2, "the first, and one that had room");
        assert_eq!(asked.get(), 3, "these, and the first without room");
    }

    #[test]
    fn a_query_waits_until_its_index_is_applied() {
        let mut group = fresh();
        let now = win(&mut group, 1, 2);
        hear(&mut group, now, 2, 1, Message::AppendReply { matched: Index(1) });
        propose(&mut group, now);
        let matched = Message::AppendReply { matched: Index(2) };
        group.raft.step(now, envelope(2, 1, matched));
        let (commit, applied) = (group.raft.committed(), group.raft.applied_index());
        assert_eq!((commit, applied), (Index(2), Index(1)));
        let batch = AcceptedBatch::new(ORIGIN, RequestKind::Query, 1);
        let ticket = Ticket::batch(&batch, 0);
        group.queries.unconfirmed.insert(1, Query { data: Bytes::new(), since: NOW, ticket });
        group.confirmed(vec![ConfirmedRead { read: 1, index: Index(2) }]);
        group.work(now, || false);
        settle(&mut group, now);
        assert_eq!(outcomes(&batch), [Ok(Bytes::copy_from_slice(&1_u64.to_le_bytes()))]);
    }

    /// The other groups of the shard, its heartbeats and its clients wait for no more than a piece.
    #[test]
    fn a_machine_works_until_the_time_is_over_and_does_one_piece_at_least() {
        let mut group = leading_group(GroupId(1));
        let before = group.raft.applied_index();
        for _ in 0..10 {
            group.raft.propose(vec![7; 30_000].into()).expect("it leads");
        }
        let append = group.raft.ready().append.expect("ten entries");
        group.raft.appended(NOW, append.write);
        let committed = group.raft.ready().committed;
        group.take_committed(committed);
        let batch = AcceptedBatch::new(ORIGIN, RequestKind::Query, 2);
        for nth in 0..2 {
            let (data, ticket) = (Bytes::new(), Ticket::batch(&batch, nth));
            group.queries.unconfirmed.insert(nth as u64, Query { data, since: NOW, ticket });
        }
        group.confirmed([0, 1].map(|read| ConfirmedRead { read, index: before }).into());
        let applied = |group: &Group| group.raft.applied_index().0 - before.0;
        // A query each, and then 64 KiB each.
        for expected in [0, 0, 2, 4, 6, 8] {
            assert!(group.has_work());
            group.work(NOW, || true);
            assert_eq!(applied(&group), expected);
        }
        let answer = Ok(Bytes::copy_from_slice(&0_u64.to_le_bytes()));
        assert_eq!(outcomes(&batch), [answer.clone(), answer]);
        group.work(NOW, || false);
        assert_eq!((applied(&group), group.has_work()), (10, false));
    }

    /// Safety A5: a command of another term is another command, though index and position are the same.
    #[test]
    fn a_proposal_gets_no_outcome_of_another_entry_in_its_place() {
        let mut group = fresh();
        let now = win(&mut group, 1, 2);
        hear(&mut group, now, 2, 1, Message::AppendReply { matched: Index(1) });
        let lost = propose(&mut group, now);
        let payload = Payload::command(Bytes::from_static(b"+1"));
        let other = Entry { term: Term(2), index: Index(2), before: Position(0), payload };
        let prev = EntryId::new(Term(1), Index(1));
        let append = Message::Append { prev, entries: vec![other], committed: Index(2) };
        hear(&mut group, now, 2, 2, append);
        assert_eq!(group.raft.applied_index(), Index(2));
        assert_eq!(outcomes(&lost), [Err(RequestError::NotApplied)]);
    }

    #[test]
    fn what_an_earlier_leadership_left_open_hides_no_outcome_of_the_next() {
        let mut group = fresh();
        let now = win(&mut group, 1, 2);
        hear(&mut group, now, 2, 1, Message::AppendReply { matched: Index(1) });
        let lost: Vec<_> = (2..=6).map(|_| propose(&mut group, now)).collect();
        // Another leader replaces 2@1 to 6@1 by a single entry.
        let noop =
            Entry { term: Term(2), index: Index(2), before: Position(0), payload: Payload::Noop };
        let prev = EntryId::new(Term(1), Index(1));
        let append = Message::Append { prev, entries: vec![noop], committed: Index(1) };
        hear(&mut group, now, 2, 2, append);
        assert!(!group.leads());
        // And is deposed by us.
        let now = win(&mut group, 3, 3);
        let kept = propose(&mut group, now);
        assert_eq!(group.raft.last(), EntryId::new(Term(3), Index(4)));
        hear(&mut group, now, 3, 3, Message::AppendReply { matched: Index(4) });
        assert_eq!(group.raft.applied_index(), Index(4));
        for _ in 5..=7 {
            propose(&mut group, now);
        }
        hear(&mut group, now, 3, 3, Message::AppendReply { matched: Index(7) });
        assert_eq!(group.raft.applied_index(), Index(7));
        assert!(lost.iter().all(|batch| outcomes(batch) == [Err(RequestError::NotApplied)]));
        assert_eq!(outcomes(&kept), [Ok(Bytes::copy_from_slice(&1_u64.to_le_bytes()))]);
    }

    /// Hands in so many commands, which wait for the next step.
    fn gather(group: &mut Group, now: Tick, commands: &[Bytes]) -> Rc<AcceptedBatch> {
        let batch = AcceptedBatch::new(ORIGIN, RequestKind::Propose, commands.len());
        for (nth, command) in commands.iter().enumerate() {
            let ticket = Ticket::batch(&batch, nth);
            group.propose_or_query(now, RequestKind::Propose, command.clone(), ticket);
        }
        batch
    }

    fn count(number: u64) -> Outcome {
        Ok(Bytes::copy_from_slice(&number.to_le_bytes()))
    }

    #[test]
    fn what_comes_between_two_steps_is_one_entry_and_each_command_has_its_own_outcome() {
        let (mut group, now) = leading();
        let command = Bytes::from_static(b"+1");
        let one = gather(&mut group, now, &vec![command.clone(); 3]);
        let other = gather(&mut group, now, &[command]);
        assert_eq!((group.raft.last().index, group.status().proposals), (Index(1), 4));
        assert!(group.entry_bytes() > group.raft.held_bytes(), "what is gathered is counted");
        settle(&mut group, now);
        assert_eq!((group.raft.last().index, group.raft.end()), (Index(2), Position(4)));
        assert_eq!(group.entry_bytes(), group.raft.held_bytes());
        hear(&mut group, now, 2, 1, Message::AppendReply { matched: Index(2) });
        assert_eq!(outcomes(&one), [1, 2, 3].map(count));
        assert_eq!(outcomes(&other), [count(4)]);
    }

    /// An entry is one piece of work for the machine.
    #[test]
    fn commands_that_cost_more_together_than_an_entry_may_are_several_entries() {
        let (mut group, now) = leading();
        let half = Bytes::from(vec![7; ENTRY_COST_MAX / 2 - 32]);
        let long = Bytes::from(vec![7; 2 * ENTRY_COST_MAX]);
        let two = [half.clone(), half.clone()];
        let batch = gather(&mut group, now, &[&two[..], &two, &[long, half]].concat());
        settle(&mut group, now);
        // Two and two, the long one, and the last one.
        assert_eq!((group.raft.last().index, group.raft.end()), (Index(5), Position(6)));
        hear(&mut group, now, 2, 1, Message::AppendReply { matched: Index(5) });
        assert_eq!(outcomes(&batch), [1, 2, 3, 4, 5, 6].map(count));
    }

    /// Safety C1, E1: what was gathered was never appended when the leadership ends, nor is it in a later one.
    #[test]
    fn commands_that_were_gathered_in_another_term_are_not_applied() {
        let (mut group, now) = leading();
        let command = || vec![Bytes::from_static(b"+1")];
        let lost = gather(&mut group, now, &command());
        let heartbeat =
            Message::Append { prev: EntryId::default(), entries: vec![], committed: Index(0) };
        group.raft.step(now, envelope(2, 2, heartbeat));
        settle(&mut group, now);
        assert_eq!(outcomes(&lost), [Err(RequestError::NotApplied)]);
        // As if the group had not been stepped between two leaderships.
        let now = win(&mut group, 3, 3);
        let late = gather(&mut group, now, &command());
        group.proposals.set_term(Term(1));
        let kept = gather(&mut group, now, &command());
        assert_eq!(outcomes(&late), [Err(RequestError::NotApplied)]);
        settle(&mut group, now);
        let last = group.raft.last().index;
        hear(&mut group, now, 3, 3, Message::AppendReply { matched: last });
        assert_eq!(outcomes(&kept), [count(1)]);
    }

    /// Requests that a leader has taken are ended by it, and not by a hand-over.
    #[test]
    fn what_was_gathered_goes_into_the_log_before_a_hand_over_begins() {
        let (mut group, now) = leading();
        let batch = gather(&mut group, now, &[Bytes::from_static(b"+1")]);
        assert!(group.hand_over(now, NodeId(2)));
        assert_eq!(group.raft.last().index, Index(2));
        settle(&mut group, now);
        hear(&mut group, now, 2, 1, Message::AppendReply { matched: Index(2) });
        assert_eq!(outcomes(&batch), [count(1)]);
    }

    #[test]
    fn what_was_gathered_and_not_appended_by_its_deadline_is_not_applied() {
        let (mut group, now) = leading();
        let late = gather(&mut group, now, &[Bytes::from_static(b"+1")]);
        let kept = gather(&mut group, Tick(now.0 + 1), &[Bytes::from_static(b"+1")]);
        group.expire(Tick(now.0 + 1));
        assert_eq!(outcomes(&late), [Err(RequestError::NotApplied)]);
        settle(&mut group, now);
        assert_eq!(group.raft.end(), Position(1));
        hear(&mut group, now, 2, 1, Message::AppendReply { matched: Index(2) });
        assert_eq!(outcomes(&kept), [count(1)]);
        assert_eq!(group.entry_bytes(), group.raft.held_bytes());
    }
}
