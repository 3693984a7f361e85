//! Where a shard's callers on the same core hand in requests and get outcomes back: its
//! [`Connection`]s, bounded in requests and bytes.
//!
//! The desk belongs to the shard's loop and to the connections alike. It never calls the shard: it
//! notes which lanes have something to send and wakes the loop.

use crate::{
    config::IntakeOptions,
    control::status::{Level, RefusalCounts},
    edge::{
        lane::{Lane, Pending},
        request::{Completion, Request},
    },
    wake::Wake,
};
use purlin_rsm::{GroupId, Outcome, RequestError, RequestKind, Tick};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

/// A lane: whose, and to which group.
pub(crate) type LaneRef = (Rc<Connection>, GroupId);

/// See the module.
pub(crate) struct Desk {
    options: IntakeOptions,
    /// The longest command or query that is taken, in bytes.
    max_command: usize,
    tick: Duration,
    wake: Arc<Wake>,
    /// Lanes with something to send, in the order they got it.
    scheduled: RefCell<Vec<LaneRef>>,
    /// Connections with outcomes to take.
    answered: RefCell<Vec<Rc<Connection>>>,
    /// All connections, for their deadlines.
    connections: RefCell<Vec<Weak<Connection>>>,
    refusals: Cell<RefusalCounts>,
    requests: Cell<usize>,
    request_bytes: Cell<usize>,
    now: Cell<Tick>,
    is_stopped: Cell<bool>,
}

impl Desk {
    pub(crate) fn new(
        options: IntakeOptions,
        max_command: usize,
        tick: Duration,
        wake: Arc<Wake>,
    ) -> Rc<Self> {
        Rc::new(Self {
            options,
            max_command,
            tick,
            wake,
            scheduled: RefCell::default(),
            answered: RefCell::default(),
            connections: RefCell::default(),
            refusals: Cell::default(),
            requests: Cell::new(0),
            request_bytes: Cell::new(0),
            now: Cell::default(),
            is_stopped: Cell::new(false),
        })
    }

    /// A new caller.
    pub(crate) fn connect(self: &Rc<Self>) -> Rc<Connection> {
        let connection = Rc::new_cyclic(|me| Connection {
            me: me.clone(),
            desk: self.clone(),
            lanes: RefCell::default(),
            completions: RefCell::default(),
            is_answered: Cell::new(false),
            wake: Wake::default(),
        });
        let mut connections = self.connections.borrow_mut();
        if connections.len() == connections.capacity() {
            connections.retain(|connection| connection.strong_count() > 0);
        }
        connections.push(Rc::downgrade(&connection));
        connection
    }

    /// The time of this turn; deadlines count from it.
    pub(crate) fn set_now(&self, now: Tick) {
        self.now.set(now);
    }

    /// The longest command or query that is taken, in bytes.
    pub(crate) fn max_command(&self) -> usize {
        self.max_command
    }

    /// The time of this turn.
    pub(crate) fn now(&self) -> Tick {
        self.now.get()
    }

    /// Requests that have not ended.
    pub(crate) fn requests(&self) -> usize {
        self.requests.get()
    }

    /// Requests that ended without an outcome, by cause.
    pub(crate) fn refusals(&self) -> RefusalCounts {
        self.refusals.get()
    }

    /// How full it is, in requests and in bytes.
    pub(crate) fn levels(&self) -> (Level, Level) {
        let options = &self.options;
        let requests = Level { now: self.requests.get(), max: options.requests_max };
        (requests, Level { now: self.request_bytes.get(), max: options.request_bytes_max })
    }

    /// Takes the lanes that have something to send.
    pub(crate) fn take_scheduled(&self) -> Vec<LaneRef> {
        self.scheduled.take()
    }

    /// Wakes the callers that have outcomes to take, each once.
    pub(crate) fn notify_answered(&self) {
        for connection in self.answered.take() {
            connection.is_answered.set(false);
            connection.wake.notify();
        }
    }

    /// Ends requests that came before `limit`: what was sent is in doubt, the rest was not applied.
    pub(crate) fn expire(&self, limit: Tick) {
        self.connections.borrow_mut().retain(|connection| connection.strong_count() > 0);
        for connection in self.connections.borrow().iter().filter_map(Weak::upgrade) {
            connection.expire(limit);
        }
    }

    /// Takes nothing in any more, and ends everything.
    pub(crate) fn stop(&self) {
        self.is_stopped.set(true);
        for connection in self.connections.borrow().iter().filter_map(Weak::upgrade) {
            connection.drain();
        }
        self.notify_answered();
    }

    /// The shard's loop tells the caller, as with every other outcome, as long as there is one.
    fn answer_soon(&self) {
        if self.is_stopped.get() {
            self.notify_answered();
        } else {
            self.wake.notify();
        }
    }

    fn refusal(&self, bytes: usize) -> Option<RequestError> {
        let options = &self.options;
        if self.is_stopped.get() {
            Some(RequestError::Stopping)
        } else if bytes > self.max_command {
            Some(RequestError::TooLarge { bytes, limit: self.max_command })
        } else if self.requests.get() >= options.requests_max
            || self.request_bytes.get() + bytes > options.request_bytes_max
        {
            Some(RequestError::Busy)
        } else {
            None
        }
    }

    fn taken(&self, bytes: usize) {
        self.requests.set(self.requests.get() + 1);
        self.request_bytes.set(self.request_bytes.get() + bytes);
    }

    fn ended(&self, bytes: usize) {
        self.requests.set(self.requests.get() - 1);
        self.request_bytes.set(self.request_bytes.get() - bytes);
    }
}

/// One caller on the shard's own core: a client's connection, or a task of the host.
///
/// Requests to one group take effect in the order they were submitted; a query sees the proposals
/// before it (safety E1, E2). Requests to different groups are in no order. Dropping a connection
/// takes nothing back.
pub struct Connection {
    me: Weak<Self>,
    desk: Rc<Desk>,
    lanes: RefCell<BTreeMap<GroupId, Lane>>,
    completions: RefCell<Vec<Completion>>,
    /// It stands in the desk's list of those to be woken.
    is_answered: Cell<bool>,
    wake: Wake,
}

impl Connection {
    /// Hands in a request under the caller's name for it. It never waits, and ends exactly once, in
    /// [`Connection::take_completions`].
    pub fn submit(&self, group: GroupId, request: Request, tag: u64) {
        let bytes = request.data().len();
        if let Some(refusal) = self.desk.refusal(bytes) {
            self.answer(tag, Err(refusal));
            return self.desk.answer_soon();
        }
        self.desk.taken(bytes);
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.entry(group).or_default();
        lane.push(Pending { tag, request, since: self.desk.now.get() });
        self.schedule(group, lane);
    }

    /// Takes the outcomes that are there, in the order they came about.
    pub fn take_completions(&self, into: &mut Vec<Completion>) {
        into.append(&mut self.completions.borrow_mut());
    }

    /// Waits until there is an outcome to take. One task at a time.
    pub async fn completed(&self) {
        while self.completions.borrow().is_empty() {
            self.wake.wait().await;
        }
    }

    /// Works on one of its lanes, which is taken off the list of those with something to send.
    pub(crate) fn with_lane<T>(
        &self,
        group: GroupId,
        work: impl FnOnce(&mut Lane) -> T,
    ) -> Option<T> {
        self.lanes.borrow_mut().get_mut(&group).map(work)
    }

    /// The request `tag` to `group` has ended.
    pub(crate) fn end(&self, group: GroupId, tag: u64, outcome: Outcome) {
        let Some(Some(pending)) = self.with_lane(group, |lane| lane.end(tag)) else { return };
        self.finish(&pending, outcome);
        self.go_on(group);
    }

    /// The requests of a batch to `group` have ended, with outcomes for the first of them, in order.
    /// Queries that a short answer leaves out are asked again; of proposals nothing is known then.
    pub(crate) fn end_batch(&self, group: GroupId, batch: u64, outcomes: Vec<Outcome>) {
        let (expired, pendings) =
            self.with_lane(group, |lane| lane.end_batch(batch)).unwrap_or_default();
        let is_answered = !outcomes.is_empty();
        let mut outcomes = outcomes.into_iter().skip(expired);
        let mut left_out = Vec::new();
        for pending in pendings {
            match outcomes.next() {
                Some(outcome) => self.finish(&pending, outcome),
                None if is_answered && pending.request.kind() == RequestKind::Query => {
                    left_out.push(pending)
                }
                None => self.finish(&pending, Err(RequestError::UNKNOWN)),
            }
        }
        self.with_lane(group, |lane| lane.put_back(left_out));
        self.go_on(group);
    }

    /// Lets a lane send what waits in it, or forgets it when it is empty.
    pub(crate) fn go_on(&self, group: GroupId) {
        let mut lanes = self.lanes.borrow_mut();
        let Some(lane) = lanes.get_mut(&group) else { return };
        if lane.has_queued() {
            self.schedule(group, lane);
        } else if lane.is_empty() && !lane.is_scheduled {
            lanes.remove(&group);
        }
    }

    fn schedule(&self, group: GroupId, lane: &mut Lane) {
        if !std::mem::replace(&mut lane.is_scheduled, true) {
            let me = self.me.upgrade().expect("whoever calls holds it");
            self.desk.scheduled.borrow_mut().push((me, group));
            self.desk.wake.notify();
        }
    }

    fn expire(&self, limit: Tick) {
        let groups: Vec<GroupId> = self.lanes.borrow().keys().copied().collect();
        for group in groups {
            let Some(expired) = self.with_lane(group, |lane| lane.expire(limit)) else { continue };
            for pending in expired.sent {
                purlin_rsm::sometimes!("request in doubt ended by its deadline");
                self.finish(&pending, Err(RequestError::UNKNOWN));
            }
            for pending in expired.unsent {
                purlin_rsm::sometimes!("request without a leader ended by its deadline");
                let waited = self.desk.now.get().0.saturating_sub(pending.since.0);
                let waited_ms = waited * self.desk.tick.as_millis() as u64;
                self.finish(&pending, Err(RequestError::NoLeader { waited_ms }));
            }
            self.go_on(group);
        }
    }

    /// Ends everything.
    fn drain(&self) {
        for lane in self.lanes.borrow_mut().values_mut() {
            let expired = lane.drain();
            expired
                .sent
                .iter()
                .for_each(|pending| self.finish(pending, Err(RequestError::UNKNOWN)));
            expired
                .unsent
                .iter()
                .for_each(|pending| self.finish(pending, Err(RequestError::Stopping)));
        }
    }

    fn finish(&self, pending: &Pending, outcome: Outcome) {
        self.desk.ended(pending.request.data().len());
        self.answer(pending.tag, outcome);
    }

    fn answer(&self, tag: u64, outcome: Outcome) {
        if let Err(error) = &outcome {
            let mut refusals = self.desk.refusals.get();
            refusals.count(error);
            self.desk.refusals.set(refusals);
        }
        self.completions.borrow_mut().push(Completion { tag, outcome });
        if !self.is_answered.replace(true) {
            let me = self.me.upgrade().expect("whoever calls holds it");
            self.desk.answered.borrow_mut().push(me);
        }
    }
}

impl Drop for Connection {
    /// A caller that is gone takes no answers; what it had sent goes on without it.
    fn drop(&mut self) {
        for lane in self.lanes.get_mut().values_mut() {
            let left = lane.drain();
            left.sent
                .iter()
                .chain(&left.unsent)
                .for_each(|pending| self.desk.ended(pending.request.data().len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn outcomes_find_their_requests_though_older_ones_have_expired() {
        let desk =
            Desk::new(IntakeOptions::default(), 1 << 20, Duration::from_millis(10), Arc::default());
        let (connection, group) = (desk.connect(), GroupId(1));
        for tag in 0..3 {
            desk.set_now(Tick(tag));
            connection.submit(group, Request::Query(Bytes::from_static(b"q")), tag);
        }
        connection.with_lane(group, |lane| lane.send_away(7, 9, 100)).flatten().expect("a batch");
        desk.expire(Tick(1));
        let outcomes = ["0", "1", "2"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
        connection.end_batch(group, 7, outcomes.to_vec());
        let mut completions = Vec::new();
        connection.take_completions(&mut completions);
        let expected = [
            Completion { tag: 0, outcome: Err(RequestError::UNKNOWN) },
            Completion { tag: 1, outcome: outcomes[1].clone() },
            Completion { tag: 2, outcome: outcomes[2].clone() },
        ];
        assert_eq!(completions, expected);
    }

    #[test]
    fn queries_that_had_no_room_in_an_answer_are_asked_again_before_anything_younger() {
        let desk =
            Desk::new(IntakeOptions::default(), 1 << 20, Duration::from_millis(10), Arc::default());
        let (connection, group) = (desk.connect(), GroupId(1));
        let ask = |tag| connection.submit(group, Request::Query(Bytes::from_static(b"q")), tag);
        (0..3).for_each(ask);
        connection.with_lane(group, |lane| lane.send_away(7, 9, 100)).flatten().expect("a batch");
        ask(3);
        connection.end_batch(group, 7, vec![Ok(Bytes::from_static(b"0"))]);
        let again = connection.with_lane(group, |lane| lane.send_away(8, 9, 100)).flatten();
        let tags = again.expect("a batch").1.iter().map(|pending| pending.tag).collect::<Vec<_>>();
        assert_eq!(tags, [1, 2, 3]);
        // No answer at all says nothing, of a query either.
        connection.end_batch(group, 8, Vec::new());
        let mut completions = Vec::new();
        connection.take_completions(&mut completions);
        let outcomes: Vec<_> = completions.into_iter().map(|it| it.outcome).collect();
        let unknown = Err(RequestError::UNKNOWN);
        let expected = [Ok(Bytes::from_static(b"0")), unknown.clone(), unknown.clone(), unknown];
        assert_eq!(outcomes, expected);
        assert_eq!(desk.requests(), 0);
    }

    /// B36: what a caller that is gone had asked, and sent or not, makes room.
    #[test]
    fn a_caller_that_is_gone_makes_room() {
        let options = IntakeOptions { requests_max: 2, ..IntakeOptions::default() };
        let desk = Desk::new(options, 1 << 20, Duration::from_millis(10), Arc::default());
        for _ in 0..3 {
            let (connection, group) = (desk.connect(), GroupId(1));
            let ask = |tag| connection.submit(group, Request::Query(Bytes::new()), tag);
            (0..2).for_each(ask);
            let sent = connection.with_lane(group, |lane| lane.send_away(7, 1, 100)).flatten();
            assert_eq!((sent.expect("a batch").1.len(), desk.requests()), (1, 2));
            drop(connection);
            drop(desk.take_scheduled());
            assert_eq!((desk.requests(), desk.request_bytes.get()), (0, 0));
        }
    }

    #[test]
    fn a_caller_that_waits_is_told_that_the_shard_has_stopped() {
        use futures_lite::future::{block_on, poll_once};
        let desk =
            Desk::new(IntakeOptions::default(), 1 << 20, Duration::from_millis(10), Arc::default());
        let connection = desk.connect();
        let mut completed = Box::pin(connection.completed());
        assert!(block_on(poll_once(&mut completed)).is_none());
        desk.stop();
        connection.submit(GroupId(1), Request::Query(Bytes::new()), 5);
        assert!(block_on(poll_once(&mut completed)).is_some(), "no loop runs that would tell it");
        let mut completions = Vec::new();
        connection.take_completions(&mut completions);
        assert_eq!(completions, [Completion { tag: 5, outcome: Err(RequestError::Stopping) }]);
    }
}
