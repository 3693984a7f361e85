//! The callers of a shard on its own core: they hand in requests and get outcomes back, bounded in
//! requests and bytes.
//!
//! The callers never call the shard. They note which lanes have something to send, and wake the loop.

use crate::{
    config::IntakeOptions,
    control::{
        stage_timer::StageTimer,
        status::{Level, RefusalCounts},
    },
    edge::{
        lane::{BATCH_BYTES_MAX, BATCH_COUNT_MAX, Lane, Limit, Pending, Place, Removed, Wait},
        request::{Completion, Request},
    },
    wake::Wake,
};
use bytes::Bytes;
use purlin_rsm::{GroupEpoch, GroupId, Outcome, RequestError, RequestKind, Term, Tick};
use purlin_transport::RequestBatch;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    mem,
    ops::Range,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

/// A caller keeps memory for so many outcomes.
const COMPLETIONS_KEPT: usize = 1024;

/// A caller that has more than this part of what a shard takes has much.
const MUCH: usize = 64;

/// What all callers of a shard share with its loop.
///
/// A lane that is scheduled and a caller that is answered keep their caller, and each caller keeps this. The
/// lists are empty once the shard is gone ([`Callers::forget`]), so the circle never outlives the shard.
pub(crate) struct Callers {
    options: IntakeOptions,
    /// The longest command or query that is taken, in bytes.
    max_command: usize,
    tick: Duration,
    wake: Arc<Wake>,
    /// Lanes with something to send, in the order they got it.
    scheduled: RefCell<Vec<LaneRef>>,
    /// Those among them that send before all others.
    first: RefCell<Vec<LaneRef>>,
    /// Callers with outcomes to take.
    answered: RefCell<Vec<Rc<Caller>>>,
    /// Callers that are gone and stand in the queue of deadlines still.
    gone: Cell<usize>,
    /// Requests that have not ended and are counted, and their bytes: the sums over all lanes.
    requests: Cell<usize>,
    request_bytes: Cell<usize>,
    refusals: Cell<RefusalCounts>,
    timer: Rc<StageTimer>,
    now: Cell<Tick>,
    /// Each new request is refused: the shard stops.
    takes_no_more: Cell<bool>,
    is_stopped: Cell<bool>,
}

impl Callers {
    pub(crate) fn new(
        options: IntakeOptions,
        max_command: usize,
        tick: Duration,
        wake: Arc<Wake>,
        timer: Rc<StageTimer>,
    ) -> Rc<Self> {
        Rc::new(Self {
            options,
            timer,
            max_command,
            tick,
            wake,
            scheduled: RefCell::default(),
            first: RefCell::default(),
            answered: RefCell::default(),
            gone: Cell::new(0),
            requests: Cell::new(0),
            request_bytes: Cell::new(0),
            refusals: Cell::default(),
            now: Cell::default(),
            takes_no_more: Cell::new(false),
            is_stopped: Cell::new(false),
        })
    }

    /// A new caller.
    pub(crate) fn caller(self: &Rc<Self>) -> Rc<Caller> {
        Rc::new_cyclic(|me| Caller {
            me: me.clone(),
            callers: self.clone(),
            lanes: RefCell::default(),
            spare: Cell::default(),
            completions: RefCell::default(),
            is_answered: Cell::new(false),
            has_deadline: Cell::new(false),
            has_left: Cell::new(false),
            room: Room::default(),
            has: Cell::default(),
            wake: Wake::default(),
        })
    }

    /// The time of this turn; deadlines count from it.
    pub(crate) fn set_now(&self, now: Tick) {
        self.now.set(now);
    }

    /// The time of this turn.
    pub(crate) fn now(&self) -> Tick {
        self.now.get()
    }

    /// Times a sample of the commands.
    pub(crate) fn timer(&self) -> &Rc<StageTimer> {
        &self.timer
    }

    /// The longest command or query that is taken, in bytes.
    pub(crate) fn max_command(&self) -> usize {
        self.max_command
    }

    /// Requests that have not ended, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.requests.get(), self.request_bytes.get())
    }

    /// How full the shard is, in requests and in bytes.
    pub(crate) fn levels(&self) -> (Level, Level) {
        let options = &self.options;
        let requests = Level { now: self.requests.get(), max: options.requests_max };
        (requests, Level { now: self.request_bytes.get(), max: options.request_bytes_max })
    }

    /// Requests that ended without a result, by cause.
    pub(crate) fn refusals(&self) -> RefusalCounts {
        self.refusals.get()
    }

    /// Moves the lanes that have something to send into an empty list, whose memory is used again.
    pub(crate) fn take_scheduled(&self, into: &mut Vec<LaneRef>) {
        assert!(into.is_empty(), "{} lanes that were not worked on", into.len());
        mem::swap(&mut *self.scheduled.borrow_mut(), into);
        let first = self.first.take();
        if !first.is_empty() {
            into.splice(0..0, first);
        }
        into.iter().for_each(|lane| _ = lane.with(|lane| lane.is_scheduled = false));
    }

    /// The callers of the lanes that have something to send.
    pub(crate) fn scheduled(&self) -> Vec<Rc<Caller>> {
        self.scheduled.borrow().iter().map(|lane| lane.caller.clone()).collect()
    }

    /// Wakes the callers that have outcomes to take, each once.
    pub(crate) fn wake_answered(&self) {
        for caller in self.answered.take() {
            caller.is_answered.set(false);
            caller.tell_answers();
            caller.wake.notify();
        }
    }

    /// From now on each new request is refused: the shard stops. Those that it has taken in go on.
    pub(crate) fn take_no_more(&self) {
        self.takes_no_more.set(true);
    }

    /// From now on nothing goes on: the shard has stopped.
    pub(crate) fn stop(&self) {
        self.take_no_more();
        self.is_stopped.set(true);
    }

    /// The shard is gone, however it has ended: nothing is sent any more, and nobody is woken.
    pub(crate) fn forget(&self) {
        self.stop();
        // Each list is out of its cell before its callers are dropped, since their drop counts here.
        drop(self.scheduled.take());
        drop(self.first.take());
        drop(self.answered.take());
    }

    /// Callers that are gone and stand in the queue of deadlines still.
    pub(crate) fn gone(&self) -> usize {
        self.gone.get()
    }

    /// So many callers that are gone have left the queue of deadlines.
    pub(crate) fn gone_left(&self, count: usize) {
        self.gone.set(self.gone.get() - count);
    }

    /// The shard's loop wakes the caller, as with every other outcome, as long as there is a loop.
    fn answer_soon(&self) {
        if self.is_stopped.get() {
            self.wake_answered();
        } else {
            self.wake.notify();
        }
    }

    /// Why a request of so many bytes is refused, if it is. `has` is what its caller has here already, in requests
    /// and bytes. A caller that has much leaves a quarter of the room to others.
    fn refusal(&self, bytes: usize, has: (usize, usize)) -> Option<RequestError> {
        let options = &self.options;
        let has_much =
            has.0 > options.requests_max / MUCH || has.1 > options.request_bytes_max / MUCH;
        let left = |most: usize| if has_much { most - most / 4 } else { most };
        // What a caller has without being counted is bounded too.
        let is_most = has.0 >= options.requests_max || has.1 + bytes > options.request_bytes_max;
        if self.takes_no_more.get() {
            Some(RequestError::Stopping)
        } else if bytes > self.max_command {
            Some(RequestError::TooLarge { bytes, limit: self.max_command })
        } else if is_most
            || self.requests.get() >= left(options.requests_max)
            || self.request_bytes.get() + bytes > left(options.request_bytes_max)
        {
            Some(RequestError::Busy)
        } else {
            None
        }
    }

    fn started(&self, bytes: usize) {
        self.requests.set(self.requests.get() + 1);
        self.request_bytes.set(self.request_bytes.get() + bytes);
    }

    /// So many requests and bytes count no more: they have ended, or wait for their own caller.
    fn uncount(&self, (requests, bytes): (usize, usize)) {
        self.requests.set(self.requests.get() - requests);
        self.request_bytes.set(self.request_bytes.get() - bytes);
    }

    /// Whether requests and bytes are within their bounds, and equal to `sum`, that over all lanes.
    pub(crate) fn check(&self, sum: Option<(usize, usize)>) -> Result<(), String> {
        let (size, options) = (self.size(), &self.options);
        let bounds = (options.requests_max, options.request_bytes_max);
        if sum.is_some_and(|sum| sum != size) {
            return Err(format!(
                "callers: counted {size:?} requests and bytes, the lanes have {sum:?}"
            ));
        }
        if size.0 > bounds.0 || size.1 > bounds.1 {
            return Err(format!("callers: {size:?} requests and bytes, bounds {bounds:?}"));
        }
        Ok(())
    }
}

/// A caller on the core of a shard, with an order of its own.
///
/// Requests to one group take effect in the order they were submitted; a query sees the proposals
/// before it (safety E1, E2). Requests to different groups are in no order. Dropping a caller takes
/// nothing back.
pub struct Caller {
    me: Weak<Self>,
    callers: Rc<Callers>,
    lanes: RefCell<BTreeMap<GroupId, Lane>>,
    /// An empty lane, whose memory the next new lane uses again.
    spare: Cell<Lane>,
    completions: RefCell<Vec<Completion>>,
    /// It stands in the list of those to be woken.
    is_answered: Cell<bool>,
    /// It stands in the queue of deadlines.
    has_deadline: Cell<bool>,
    /// Its client has gone.
    has_left: Cell<bool>,
    room: Room,
    /// Its requests that have not ended, and their bytes: the sums over its lanes.
    has: Cell<(usize, usize)>,
    wake: Wake,
}

impl Caller {
    /// Hands in a request under the caller's tag for it. It never waits, and ends exactly once, in
    /// [`Caller::take_completions`].
    ///
    /// On its way to the leader at another shard or node a command may share a batch with those of other callers. Its
    /// outcome has room in the reply, whatever the others have, if it takes 1 KiB or less. A longer one that finds no room
    /// is unknown, though the command was applied: see [`Caller::submit_alone`].
    pub fn submit(&self, group: GroupId, request: Request, tag: u64) {
        self.hand_in(group, request, tag, false);
    }

    /// As [`Caller::submit`], for a command whose outcome may be long. It shares no batch with commands of other callers,
    /// so its outcome has up to 12 MiB of room, and takes none from theirs. Nor does it share one with another such command
    /// of this caller.
    pub fn submit_alone(&self, group: GroupId, request: Request, tag: u64) {
        self.hand_in(group, request, tag, true);
    }

    fn hand_in(&self, group: GroupId, request: Request, tag: u64, is_alone: bool) {
        let bytes = request.data().len();
        if let Some(refusal) = self.callers.refusal(bytes, self.has.get()) {
            self.complete(tag, Err(refusal));
            return self.callers.answer_soon();
        }
        self.callers.started(bytes);
        let (requests, all) = self.has.get();
        self.has.set((requests + 1, all + bytes));
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.entry(group).or_insert_with(|| self.spare.take());
        let since = self.callers.now.get();
        let is_timed = request.kind() == RequestKind::Propose && self.callers.timer.accept();
        lane.push(Pending { tag, request, bytes, since, is_counted: true, is_alone, is_timed });
        self.schedule(group, lane);
    }

    /// Whether a request to `group` has not ended.
    pub fn has_requests(&self, group: GroupId) -> bool {
        // An empty lane may stay for a while.
        self.lanes.borrow().get(&group).is_some_and(|lane| !lane.is_empty())
    }

    /// Moves out the outcomes that are there, in the order they came about.
    pub fn take_completions(&self, into: &mut Vec<Completion>) {
        let mut completions = self.completions.borrow_mut();
        into.append(&mut completions);
        completions.shrink_to(COMPLETIONS_KEPT);
        drop(completions);
        self.room.waiting.set(0);
        self.tell_answers();
        self.look_for_room();
    }

    /// From now on `tell` gets the bytes of the outcomes that wait to be taken: after each turn that has brought
    /// some, before the caller is woken, and when they are taken. So whoever counts memory knows of answers that
    /// their caller does not come to take.
    pub fn watch_answers(&self, tell: impl Fn(usize) + 'static) {
        self.room.watcher.replace(Some(Box::new(tell)));
    }

    fn tell_answers(&self) {
        if let Some(tell) = &*self.room.watcher.borrow() {
            tell(self.room.waiting.get());
        }
    }

    /// From now on queries are answered while outcomes of less than `bytes` wait to be taken, and the others
    /// later: the answers of a caller that takes none have a bound.
    pub fn bound_answers(&self, bytes: usize) {
        self.room.bytes_max.set(bytes);
    }

    /// From now on queries with these tags are answered, whatever waits to be taken, and all others later.
    /// `None` ends that.
    pub fn answer_only(&self, tags: Option<Range<u64>>) {
        if self.room.only.replace(tags.clone()) != tags {
            self.look_for_room();
        }
    }

    /// Lets the lanes send that had no room.
    fn look_for_room(&self) {
        if !self.room.is_missed.replace(false) {
            return;
        }
        for (group, lane) in self.lanes.borrow_mut().iter_mut() {
            if lane.waits_for_room {
                lane.stop_waiting_for_room(self.callers.now.get());
                self.schedule(*group, lane);
            }
        }
    }

    /// Waits until there is an outcome to take. One task at a time.
    pub async fn completed(&self) {
        while self.completions.borrow().is_empty() {
            self.wake.wait().await;
        }
    }

    /// Its lane to a group.
    pub(crate) fn lane(&self, group: GroupId) -> LaneRef {
        LaneRef { caller: self.me.upgrade().expect("the caller is borrowed"), group }
    }

    /// When its oldest request came, if it is not in the queue of deadlines yet: it is from now on.
    pub(crate) fn watch(&self) -> Option<Tick> {
        let oldest = if self.has_deadline.get() { None } else { self.oldest() };
        self.has_deadline.set(self.has_deadline.get() || oldest.is_some());
        oldest
    }

    /// Its client has gone, as far as anybody knows: no request waits for a leader any more. A request that has
    /// found one goes on.
    pub fn leave(&self) {
        self.has_left.set(true);
        let parked = |(group, lane): (&GroupId, &Lane)| lane.is_parked().then_some(*group);
        let parked: Vec<GroupId> = self.lanes.borrow().iter().filter_map(parked).collect();
        parked.into_iter().for_each(|group| self.lane(group).give_up());
        self.callers.answer_soon();
    }

    /// Whether its client has gone.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.get()
    }

    /// Ends requests that came before `limit`: one that was sent is in doubt, any other was not applied.
    /// It has left the queue of deadlines.
    pub(crate) fn expire(&self, limit: Limit) {
        self.has_deadline.set(false);
        let groups: Vec<GroupId> = self.lanes.borrow().keys().copied().collect();
        for lane in groups.into_iter().map(|group| self.lane(group)) {
            let expire = |lane: &mut Lane| (lane.wait, lane.expire(limit));
            let (wait, removed) = lane.with(expire).unwrap_or_default();
            let Removed { queued, sent, uncounted } = removed;
            self.callers.uncount(uncounted);
            for pending in sent {
                purlin_rsm::sometimes!("request in doubt ended by its deadline");
                self.finish(&pending, Err(RequestError::UNKNOWN));
            }
            for pending in queued {
                match wait {
                    Some(Wait::Room) => {
                        purlin_rsm::sometimes!("request without room ended by its deadline");
                        self.finish(&pending, Err(RequestError::Busy));
                    }
                    Some(Wait::Machine) => {
                        self.finish(&pending, Err(RequestError::GroupStopped));
                    }
                    Some(Wait::Leader) | None => {
                        purlin_rsm::sometimes!("request without a leader ended by its deadline");
                        self.give_up(&pending);
                    }
                }
            }
            lane.go_on();
        }
    }

    /// Ends everything, since the shard stops.
    pub(crate) fn stop(&self) {
        for lane in self.lanes.borrow_mut().values_mut() {
            let Removed { queued, sent, .. } = lane.drain();
            sent.iter().for_each(|pending| self.finish(pending, Err(RequestError::UNKNOWN)));
            queued.iter().for_each(|pending| self.finish(pending, Err(RequestError::Stopping)));
        }
    }

    /// Whether it has a deadline, or no request that the loop has seen.
    pub(crate) fn check_deadline(&self) -> Result<(), String> {
        let is_seen = |lane: &Lane| lane.oldest().is_some() && !lane.is_scheduled;
        if !self.has_deadline.get() && self.lanes.borrow().values().any(is_seen) {
            return Err("a caller has requests and no deadline".into());
        }
        Ok(())
    }

    /// Its lanes, to be checked.
    pub(crate) fn lanes(&self) -> Vec<LaneRef> {
        self.lanes.borrow().keys().map(|group| self.lane(*group)).collect()
    }

    fn oldest(&self) -> Option<Tick> {
        self.lanes.borrow().values().filter_map(Lane::oldest).min()
    }

    fn schedule(&self, group: GroupId, lane: &mut Lane) {
        if !std::mem::replace(&mut lane.is_scheduled, true) {
            self.callers.scheduled.borrow_mut().push(self.lane(group));
            self.callers.wake.notify();
        }
    }

    /// Ends a request that has found no leader.
    fn give_up(&self, pending: &Pending) {
        let waited = self.callers.now.get().0.saturating_sub(pending.since.0);
        let waited_ms = waited * self.callers.tick.as_millis() as u64;
        self.finish(pending, Err(RequestError::NoLeader { waited_ms }));
    }

    /// A request that was counted has ended.
    fn finish(&self, pending: &Pending, outcome: Outcome) {
        if pending.is_timed {
            self.callers.timer.give_up();
        }
        let (bytes, (requests, all)) = (pending.bytes, self.has.get());
        self.has.set((requests - 1, all - bytes));
        if pending.is_counted {
            self.callers.uncount((1, bytes));
        }
        self.complete(pending.tag, outcome);
    }

    fn complete(&self, tag: u64, outcome: Outcome) {
        if let Err(error) = &outcome {
            let mut refusals = self.callers.refusals.get();
            refusals.count(error);
            self.callers.refusals.set(refusals);
        }
        let bytes = outcome.as_ref().map_or(0, Bytes::len);
        self.room.waiting.set(self.room.waiting.get() + bytes);
        self.completions.borrow_mut().push(Completion { tag, outcome });
        if !self.is_answered.replace(true) {
            let me = self.me.upgrade().expect("the caller is borrowed");
            self.callers.answered.borrow_mut().push(me);
        }
    }
}

/// Is told of the bytes that wait.
type Watcher = Box<dyn Fn(usize)>;

/// What a caller can take of answers.
struct Room {
    /// Bytes of the outcomes that it has not taken.
    waiting: Cell<usize>,
    /// Who is told of those bytes.
    watcher: RefCell<Option<Watcher>>,
    /// The answers behind so many wait.
    bytes_max: Cell<usize>,
    /// Whose answers it wants, when not all.
    only: RefCell<Option<Range<u64>>>,
    /// Whether a lane waits for room.
    is_missed: Cell<bool>,
    /// Whether a query was ever left out.
    has_left_out: Cell<bool>,
}

impl Default for Room {
    fn default() -> Self {
        let (waiting, watcher, bytes_max) = (Cell::new(0), RefCell::new(None), usize::MAX.into());
        let (only, is_missed, has_left_out) = Default::default();
        Self { waiting, watcher, bytes_max, only, is_missed, has_left_out }
    }
}

impl Room {
    /// Whether the query `tag` may be answered. If not, its lane is noted.
    fn is_there(&self, tag: u64) -> bool {
        let is_there = match &*self.only.borrow() {
            Some(only) => only.contains(&tag),
            None => self.waiting.get() < self.bytes_max.get(),
        };
        self.is_missed.set(self.is_missed.get() || !is_there);
        is_there
    }
}

impl Drop for Caller {
    /// A caller that is gone takes no outcomes; what it had sent goes on without it.
    fn drop(&mut self) {
        for lane in self.lanes.get_mut().values_mut() {
            self.callers.uncount(lane.size());
            if lane.drain().queued.iter().any(|pending| pending.is_timed) {
                self.callers.timer.give_up();
            }
        }
        let gone = &self.callers.gone;
        gone.set(gone.get() + usize::from(self.has_deadline.get()));
    }
}

/// A lane, by its caller and its group. It keeps the caller.
#[derive(Clone)]
pub(crate) struct LaneRef {
    pub(crate) caller: Rc<Caller>,
    pub(crate) group: GroupId,
}

impl LaneRef {
    /// Whether both are the same lane.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.caller, &other.caller) && self.group == other.group
    }

    /// Sends what may go into the group's log on this shard now: puts each request with its tag into `into`,
    /// and returns their kind, and the tag of the one that is timed.
    pub(crate) fn send_here(
        &self,
        into: &mut Vec<(Bytes, u64)>,
    ) -> Option<(RequestKind, Option<u64>)> {
        let send = |lane: &mut Lane| {
            self.has_room(lane)?;
            let (kind, sent) = lane.send(Place::Here, usize::MAX, usize::MAX)?;
            let mut timed = None;
            into.extend(sent.map(|pending| {
                if mem::take(&mut pending.is_timed) {
                    timed = Some(pending.tag);
                }
                (pending.request.take_for_group(), pending.tag)
            }));
            Some((kind, timed))
        };
        self.with(send).flatten()
    }

    /// Sends what may go to another shard now, in term 0: the shard knows the term of the leader.
    pub(crate) fn send_away(&self, id: u64) -> Option<RequestBatch> {
        let (group, epoch, term) = (self.group, GroupEpoch::FIRST, Term(0));
        let kind = self.with(|lane| lane.next()).flatten()?.0;
        let mut batch = RequestBatch { id, group, epoch, term, kind, requests: Vec::new() };
        self.send_with(&mut batch, (BATCH_COUNT_MAX, BATCH_BYTES_MAX));
        (!batch.requests.is_empty()).then_some(batch)
    }

    /// Adds what may go to another shard now to a batch of the same group and kind: no more requests and bytes than
    /// `room`, but one in any case.
    pub(crate) fn send_with(&self, batch: &mut RequestBatch, room: (usize, usize)) {
        let send = |lane: &mut Lane| {
            self.has_room(lane)?;
            let (kind, sent) = lane.send(Place::Away(batch.id), room.0, room.1)?;
            assert_eq!((kind, self.group), (batch.kind, batch.group), "another batch");
            batch.requests.extend(sent.map(|pending| {
                if mem::take(&mut pending.is_timed) {
                    self.caller.callers.timer.give_up();
                }
                pending.request.data().clone()
            }));
            Some(())
        };
        self.with(send);
    }

    /// Nothing if the lane's next request is a query whose answer has no room.
    fn has_room(&self, lane: &mut Lane) -> Option<()> {
        let has_room = lane.next_query().is_none_or(|tag| self.caller.room.is_there(tag));
        lane.waits_for_room = !has_room;
        has_room.then_some(())
    }

    /// Whether the answer to the query `tag` has no room.
    pub(crate) fn is_left_out(&self, tag: u64) -> bool {
        let is_behind = || self.with(|lane| lane.leaves_out()).unwrap_or(false);
        !self.caller.room.is_there(tag) || (self.caller.room.has_left_out.get() && is_behind())
    }

    /// The query `tag` is not answered, since its answer has no room: it is asked again when there is some.
    pub(crate) fn leave_out(&self, tag: u64) {
        purlin_rsm::sometimes!("query waits for its caller to take answers");
        self.with(|lane| lane.leave_out(tag));
        self.caller.room.is_missed.set(true);
        self.caller.room.has_left_out.set(true);
        // The caller may have taken answers since the first query was left out, and will not look again.
        let room = |tag| self.caller.room.is_there(tag);
        let may_go_on = |lane: &mut Lane| lane.waits_for_room && lane.next_query().is_none_or(room);
        if self.with(may_go_on) == Some(true) {
            self.caller.look_for_room();
        }
    }

    /// The batch `id` was not accepted: its requests stand before all others again.
    pub(crate) fn bounce(&self, id: u64) {
        self.with(|lane| lane.bounce(id));
    }

    /// Nobody will reply to the batch `id`. Its proposals are in doubt. Its queries have no effect, so they
    /// stand before all others again.
    pub(crate) fn lose_batch(&self, id: u64) {
        match self.with(|lane| lane.sent_kind()).flatten() {
            Some(RequestKind::Query) => {
                purlin_rsm::sometimes!("query asked again, nobody replies");
                self.bounce(id);
                self.go_on();
            }
            Some(RequestKind::Propose) | None => self.end_part(id, std::iter::empty(), false),
        }
    }

    /// Ends what is not sent: no group takes it.
    pub(crate) fn refuse(&self, error: &RequestError) {
        for pending in self.with(Lane::drain_queued).unwrap_or_default() {
            self.caller.finish(&pending, Err(error.clone()));
        }
        self.go_on();
    }

    /// Ends what is not sent: it has found no leader, and nobody waits for one any more.
    pub(crate) fn give_up(&self) {
        for pending in self.with(Lane::drain_queued).unwrap_or_default() {
            purlin_rsm::sometimes!("request without a leader ended with its connection");
            self.caller.give_up(&pending);
        }
        self.go_on();
    }

    /// The request `tag` has ended.
    pub(crate) fn end(&self, tag: u64, outcome: Outcome) {
        // It may have ended before, by its deadline.
        let Some(Some(pending)) = self.with(|lane| lane.end(tag)) else { return };
        self.caller.finish(&pending, outcome);
        self.go_on();
    }

    /// The requests of the batch `id` have ended, all of which are of this lane: see [`LaneRef::end_part`].
    #[cfg(test)]
    pub(crate) fn end_batch(&self, id: u64, outcomes: Vec<Outcome>) {
        let is_answered = !outcomes.is_empty();
        self.end_part(id, outcomes.into_iter(), is_answered);
    }

    /// The requests of this lane in the batch `id` have ended, with outcomes for the first of them, in order. Queries
    /// that a short reply leaves out are asked again, if the batch was answered at all; of proposals nothing is known
    /// then.
    pub(crate) fn end_part(
        &self,
        id: u64,
        outcomes: impl Iterator<Item = Outcome>,
        is_answered: bool,
    ) {
        let (expired, pendings) = self.with(|lane| lane.end_batch(id)).unwrap_or_default();
        let mut outcomes = outcomes.skip(expired);
        let mut left_out = Vec::new();
        for pending in pendings {
            match outcomes.next() {
                Some(outcome) => self.caller.finish(&pending, outcome),
                None if is_answered && pending.request.kind() == RequestKind::Query => {
                    left_out.push(pending)
                }
                None => self.caller.finish(&pending, Err(RequestError::UNKNOWN)),
            }
        }
        // An outcome is taken for each request, also for those that had ended: the next part follows.
        outcomes.for_each(drop);
        self.with(|lane| lane.put_back(left_out));
        self.go_on();
    }

    /// Lets the lane send what waits in it, or forgets it when it is empty.
    pub(crate) fn go_on(&self) {
        let mut lanes = self.caller.lanes.borrow_mut();
        let Some(lane) = lanes.get_mut(&self.group) else { return };
        if lane.has_queued() {
            self.caller.schedule(self.group, lane);
        } else if lane.is_empty() && !lane.is_scheduled {
            let lane = lanes.remove(&self.group).expect("it was there");
            self.caller.spare.set(lane.emptied());
        }
    }

    /// What waits in the lane goes out before what waits in others, whenever that came.
    pub(crate) fn go_first(&self) {
        if self.with(|lane| lane.has_queued()) == Some(true) {
            self.go_on();
            self.caller.callers.first.borrow_mut().push(self.clone());
        }
    }

    /// Works on the lane, if there is still something in it.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Lane) -> T) -> Option<T> {
        self.caller.lanes.borrow_mut().get_mut(&self.group).map(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::stage_timer::tests::still,
        edge::{lane::KEPT_MAX, ticket::Ticket},
    };

    fn callers(options: IntakeOptions) -> Rc<Callers> {
        Callers::new(options, 1 << 20, Duration::from_millis(10), Arc::default(), still())
    }

    #[test]
    fn outcomes_find_their_requests_though_older_ones_have_expired() {
        let callers = callers(IntakeOptions::default());
        let (caller, group) = (callers.caller(), GroupId(1));
        for tag in 0..3 {
            callers.set_now(Tick(tag));
            caller.submit(group, Request::Query(Bytes::from_static(b"q")), tag);
        }
        caller.lane(group).send_away(7).expect("a batch");
        caller.expire(Limit { any: Tick(1), leaderless: Tick(1) });
        let outcomes = ["0", "1", "2"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
        caller.lane(group).end_batch(7, outcomes.to_vec());
        let mut completions = Vec::new();
        caller.take_completions(&mut completions);
        let expected = [
            Completion { tag: 0, outcome: Err(RequestError::UNKNOWN) },
            Completion { tag: 1, outcome: outcomes[1].clone() },
            Completion { tag: 2, outcome: outcomes[2].clone() },
        ];
        assert_eq!(completions, expected);
    }

    #[test]
    fn queries_that_had_no_room_in_a_reply_are_asked_again_before_anything_younger() {
        let callers = callers(IntakeOptions::default());
        let (caller, group) = (callers.caller(), GroupId(1));
        let ask = |tag| caller.submit(group, Request::Query(Bytes::from_static(b"q")), tag);
        (0..3).for_each(ask);
        caller.lane(group).send_away(7).expect("a batch");
        ask(3);
        caller.lane(group).end_batch(7, vec![Ok(Bytes::from_static(b"0"))]);
        caller.lane(group).send_away(8).expect("a batch");
        let sent = caller.lane(group).with(|lane| lane.sent());
        assert_eq!(sent, Some((Place::Away(8), vec![1, 2, 3])));
        // No answer at all says nothing, of a query either.
        caller.lane(group).end_batch(8, Vec::new());
        let mut completions = Vec::new();
        caller.take_completions(&mut completions);
        let outcomes: Vec<_> = completions.into_iter().map(|it| it.outcome).collect();
        let unknown = Err(RequestError::UNKNOWN);
        let expected = [Ok(Bytes::from_static(b"0")), unknown.clone(), unknown.clone(), unknown];
        assert_eq!(outcomes, expected);
        assert_eq!(callers.size().0, 0);
    }

    /// Another node would refuse a batch of more than [`purlin_transport::REQUESTS_MAX`] requests.
    #[test]
    fn a_batch_for_another_shard_has_so_many_requests_and_not_one_more() {
        let callers = callers(IntakeOptions::default());
        let (caller, group) = (callers.caller(), GroupId(1));
        for tag in 0..=BATCH_COUNT_MAX as u64 {
            caller.submit(group, Request::Query(Bytes::from_static(b"q")), tag);
        }
        let sent = |id| {
            let batch = caller.lane(group).send_away(id).expect("a batch");
            let count = batch.requests.len();
            caller.lane(group).end_batch(id, vec![Ok(Bytes::new()); count]);
            count
        };
        assert_eq!([sent(7), sent(8)], [BATCH_COUNT_MAX, 1]);
    }

    /// A command that does not get into a log here lets another one be timed.
    #[test]
    fn a_timed_command_that_goes_elsewhere_or_nowhere_is_timed_no_more() {
        let callers = callers(IntakeOptions::default());
        let group = GroupId(1);
        let begin = || {
            let caller = callers.caller();
            callers.timer.give_up();
            callers.timer.beat();
            caller.submit(group, Request::Query(Bytes::new()), 0);
            caller.expire(Limit { any: Tick(1), leaderless: Tick(1) });
            caller.submit(group, Request::Propose(Bytes::from_static(b"c")), 1);
            assert!(!is_free(&callers), "the command is timed, and no query");
            // Nobody else keeps the caller.
            callers.take_scheduled(&mut Vec::new());
            callers.wake_answered();
            caller
        };
        // As the next command sees it.
        fn is_free(callers: &Callers) -> bool {
            callers.timer.beat();
            let is_free = callers.timer.accept();
            if is_free {
                callers.timer.give_up();
            }
            is_free
        }
        let sent_away = begin();
        sent_away.lane(group).send_away(7).expect("a batch");
        assert!(is_free(&callers));
        let expired = begin();
        expired.expire(Limit { any: Tick(1), leaderless: Tick(1) });
        assert!(is_free(&callers));
        drop(begin());
        assert!(is_free(&callers));
        let sent_here = begin();
        let (_, timed) = sent_here.lane(group).send_here(&mut Vec::new()).expect("a command");
        assert_eq!((timed, is_free(&callers)), (Some(1), false));
        Ticket::lane(&sent_here.lane(group), 1).timed(group, &callers.timer).end(Ok(Bytes::new()));
        assert!(!is_free(&callers), "it is applied, and not answered yet");
        drop(sent_here);
    }

    /// A caller that asks one thing after another allocates its lane once.
    #[test]
    fn a_new_lane_uses_the_memory_of_the_last_one_unless_that_was_large() {
        let callers = callers(IntakeOptions::default());
        let caller = callers.caller();
        let ask = |group, count: u64| {
            let lane = caller.lane(group);
            for tag in 0..count {
                caller.submit(group, Request::Query(Bytes::from_static(b"q")), tag);
            }
            callers.take_scheduled(&mut Vec::new());
            lane.send_here(&mut Vec::new()).expect("a query");
            (0..count).for_each(|tag| lane.end(tag, Ok(Bytes::new())));
            assert!(lane.with(|_| ()).is_none(), "it is empty");
            let spare = caller.spare.take();
            let capacity = spare.capacity();
            caller.spare.set(spare);
            capacity
        };
        let few = ask(GroupId(1), 1);
        assert!(few > 0);
        assert_eq!(ask(GroupId(2), 1), few);
        assert!(ask(GroupId(3), 1000) <= 2 * KEPT_MAX);
    }

    /// B36: what a caller that is gone had asked, and sent or not, makes room.
    #[test]
    fn a_caller_that_is_gone_makes_room() {
        let options = IntakeOptions { requests_max: 2, ..IntakeOptions::default() };
        let callers = callers(options);
        for _ in 0..3 {
            let (caller, group) = (callers.caller(), GroupId(1));
            caller.submit(group, Request::Query(Bytes::new()), 0);
            let sent = caller.lane(group).send_away(7).expect("a batch");
            caller.submit(group, Request::Query(Bytes::new()), 1);
            assert_eq!((sent.requests.len(), callers.size()), (1, (2, 0)));
            drop(caller);
            callers.take_scheduled(&mut Vec::new());
            assert_eq!(callers.size(), (0, 0));
        }
    }

    #[test]
    fn a_caller_that_waits_is_told_that_the_shard_has_stopped() {
        use futures_lite::future::{block_on, poll_once};
        let callers = callers(IntakeOptions::default());
        let caller = callers.caller();
        let mut completed = Box::pin(caller.completed());
        assert!(block_on(poll_once(&mut completed)).is_none());
        callers.stop();
        caller.submit(GroupId(1), Request::Query(Bytes::new()), 5);
        assert!(block_on(poll_once(&mut completed)).is_some(), "no loop runs that would tell it");
        let mut completions = Vec::new();
        caller.take_completions(&mut completions);
        assert_eq!(completions, [Completion { tag: 5, outcome: Err(RequestError::Stopping) }]);
    }

    #[test]
    fn a_caller_enters_the_queue_of_deadlines_once_with_its_oldest_request() {
        let callers = callers(IntakeOptions::default());
        let caller = callers.caller();
        assert_eq!(caller.watch(), None, "it asks for nothing");
        for tag in 3..6 {
            callers.set_now(Tick(tag));
            caller.submit(GroupId(tag as u32), Request::Query(Bytes::new()), tag);
        }
        assert_eq!((caller.watch(), caller.watch()), (Some(Tick(3)), None));
        caller.expire(Limit { any: Tick(4), leaderless: Tick(4) });
        assert_eq!((caller.watch(), callers.size().0), (Some(Tick(4)), 2));
    }

    fn outcomes(caller: &Caller) -> Vec<(u64, Outcome)> {
        let mut completions = Vec::new();
        caller.take_completions(&mut completions);
        completions.into_iter().map(|it| (it.tag, it.outcome)).collect()
    }

    fn ask(caller: &Caller, group: u32, tag: u64) {
        caller.submit(GroupId(group), Request::Propose(Bytes::from_static(b"c")), tag);
    }

    /// A request that was sent, or that waits for one that was, has found a leader.
    #[test]
    fn a_request_that_finds_no_leader_has_a_deadline_of_its_own() {
        let callers = callers(IntakeOptions::default());
        let caller = callers.caller();
        (1..=2).for_each(|group| ask(&caller, group, group.into()));
        callers.take_scheduled(&mut Vec::new());
        caller.lane(GroupId(2)).send_away(7).expect("a batch");
        ask(&caller, 2, 3);
        callers.take_scheduled(&mut Vec::new());
        callers.set_now(Tick(201));
        caller.expire(Limit { any: Tick(0), leaderless: Tick(1) });
        let no_leader = Err(RequestError::NoLeader { waited_ms: 2010 });
        assert_eq!(outcomes(&caller), [(1, no_leader.clone())]);
        caller.lane(GroupId(2)).bounce(7);
        callers.take_scheduled(&mut Vec::new());
        caller.expire(Limit { any: Tick(0), leaderless: Tick(1) });
        assert_eq!(outcomes(&caller), [(2, no_leader.clone()), (3, no_leader)]);
    }

    /// Its client would ask again, and the command would take effect twice.
    #[test]
    fn nothing_waits_for_a_leader_when_the_client_has_gone() {
        let callers = callers(IntakeOptions::default());
        let caller = callers.caller();
        (1..=3).for_each(|group| ask(&caller, group, group.into()));
        callers.take_scheduled(&mut Vec::new());
        caller.lane(GroupId(2)).send_away(7).expect("a batch");
        ask(&caller, 3, 4);
        callers.take_scheduled(&mut Vec::new());
        caller.leave();
        let no_leader = Err(RequestError::NoLeader { waited_ms: 0 });
        let gone = |tag| (tag, no_leader.clone());
        assert_eq!(outcomes(&caller), [gone(1), gone(3), gone(4)]);
        caller.lane(GroupId(2)).end_batch(7, vec![Ok(Bytes::new())]);
        assert_eq!(outcomes(&caller), [(2, Ok(Bytes::new()))], "it had found a leader");
        assert_eq!(callers.size(), (0, 0));
    }

    /// A query whose answer has no room is asked again, before anything younger, once there is room.
    #[test]
    fn a_caller_that_takes_nothing_has_a_bound_on_its_answers() {
        let callers = callers(IntakeOptions::default());
        let (caller, group) = (callers.caller(), GroupId(1));
        caller.bound_answers(2_000);
        let query = |tag| caller.submit(group, Request::Query(Bytes::from_static(b"q")), tag);
        (0..6).for_each(query);
        ask(&caller, 1, 6);
        let lane = caller.lane(group);
        // As a group answers: in order, each whose answer has room.
        let round = || {
            callers.take_scheduled(&mut Vec::new());
            let mut sent = Vec::new();
            lane.send_here(&mut sent);
            let tags: Vec<_> = sent.iter().map(|(_, tag)| *tag).collect();
            for tag in &tags {
                let ticket = Ticket::lane(&lane, *tag);
                match ticket.is_left_out() {
                    true => ticket.leave_out(),
                    false => ticket.end(Ok(Bytes::from(vec![0; 1_000]))),
                }
            }
            tags
        };
        assert_eq!((round(), round()), (vec![0, 1, 2, 3, 4, 5], vec![]), "two answers have room");
        let far = Tick(u64::MAX);
        caller.expire(Limit { any: far, leaderless: far });
        let taken = || outcomes(&caller).into_iter().map(|(tag, _)| tag).collect::<Vec<_>>();
        assert_eq!(taken(), [0, 1], "what waits for its own caller does not run out of time");
        assert_eq!(round(), [2, 3, 4, 5]);
        // Only the first is wanted now, and it has room whatever was not taken.
        caller.answer_only(Some(4..5));
        assert_eq!((round(), round()), (vec![4, 5], vec![]));
        assert_eq!(taken(), [2, 3, 4]);
        assert_eq!(round(), []);
        caller.answer_only(None);
        assert_eq!((round(), round()), (vec![5], vec![6]), "the proposal was behind the queries");
        assert_eq!((taken(), callers.size()), (vec![5, 6], (0, 0)));
    }

    /// A client that reads nothing for a minute would keep three quarters of the intake of its shard for as long.
    #[test]
    fn queries_that_wait_for_their_own_caller_leave_the_intake_to_others_after_a_while() {
        let options = IntakeOptions { requests_max: 128, ..IntakeOptions::default() };
        let callers = callers(options);
        let (caller, other) = (callers.caller(), callers.caller());
        caller.bound_answers(1);
        caller.answer_only(Some(0..0));
        let query = |tag| caller.submit(GroupId(1), Request::Query(Bytes::from_static(b"q")), tag);
        let fill = || (0..200).map(query).count();
        let send = || {
            callers.take_scheduled(&mut Vec::new());
            let mut sent = Vec::new();
            caller.lane(GroupId(1)).send_here(&mut sent);
            sent.len()
        };
        fill();
        assert_eq!((send(), callers.size()), (0, (96, 96)), "three quarters");
        let expire = || caller.expire(Limit { any: Tick(0), leaderless: Tick(1) });
        expire();
        assert_eq!(callers.size(), (0, 0));
        outcomes(&caller);
        // What one caller has is bounded all the same.
        fill();
        assert_eq!(outcomes(&caller).len(), 200 - (128 - 96));
        assert_eq!((send(), callers.size().0), (0, 32));
        expire();
        let ask_other = |tag| other.submit(GroupId(1), Request::Query(Bytes::new()), tag);
        (0..90).for_each(ask_other);
        assert_eq!((outcomes(&other).len(), callers.size().0), (0, 90), "others find room");
        // It reads again, and has all its answers.
        caller.answer_only(None);
        caller.bound_answers(usize::MAX);
        assert_eq!((send(), callers.size().0), (128, 90));
        let lane = caller.lane(GroupId(1));
        (0..96).for_each(|tag| lane.end(tag, Ok(Bytes::new())));
        assert_eq!((outcomes(&caller).len(), callers.size().0, caller.has.get().0), (96, 90, 32));
        drop((caller, other, lane));
        callers.take_scheduled(&mut Vec::new());
        callers.wake_answered();
        assert_eq!(callers.size(), (0, 0));
    }

    /// Nobody else would count what a caller holds that does not come to take it.
    #[test]
    fn who_watches_a_caller_knows_the_bytes_of_its_answers_whether_it_takes_them_or_not() {
        let callers = callers(IntakeOptions::default());
        let (caller, told) = (callers.caller(), Rc::new(Cell::new(None)));
        let told_of = Rc::clone(&told);
        caller.watch_answers(move |bytes| told_of.set(Some(bytes)));
        for tag in 0..2 {
            caller.submit(GroupId(1), Request::Query(Bytes::from_static(b"q")), tag);
        }
        let lane = caller.lane(GroupId(1));
        lane.send_away(7).expect("a batch");
        lane.end_batch(7, vec![Ok(Bytes::from(vec![0; 1_000])); 2]);
        callers.wake_answered();
        assert_eq!(told.take(), Some(2_000));
        assert_eq!(outcomes(&caller).len(), 2);
        assert_eq!(told.take(), Some(0));
    }

    /// Queries that are confirmed in two rounds: the caller takes what the first has answered, and the second leaves
    /// the rest out although there is room by then.
    #[test]
    fn queries_that_are_left_out_after_their_caller_made_room_are_asked_again() {
        let callers = callers(IntakeOptions::default());
        let (caller, group) = (callers.caller(), GroupId(1));
        caller.bound_answers(2_000);
        (0..6).for_each(|tag| caller.submit(group, Request::Query(Bytes::new()), tag));
        let lane = caller.lane(group);
        let send = || {
            callers.take_scheduled(&mut Vec::new());
            let mut sent = Vec::new();
            lane.send_here(&mut sent);
            sent.into_iter().map(|(_, tag)| tag).collect::<Vec<_>>()
        };
        let confirm = |tag| {
            let ticket = Ticket::lane(&lane, tag);
            match ticket.is_left_out() {
                true => ticket.leave_out(),
                false => ticket.end(Ok(Bytes::from(vec![0; 1_000]))),
            }
        };
        assert_eq!(send(), [0, 1, 2, 3, 4, 5]);
        (0..3).for_each(confirm);
        assert_eq!(outcomes(&caller).len(), 2);
        (3..6).for_each(confirm);
        assert!(lane.with(|lane| lane.is_scheduled).unwrap(), "nobody else lets it go on");
        assert_eq!(send(), [2, 3, 4, 5]);
    }

    #[test]
    fn requests_that_wait_end_with_their_client_though_younger_requests_have_come() {
        let callers = callers(IntakeOptions::default());
        let caller = callers.caller();
        let ask = |tag| caller.submit(GroupId(1), Request::Propose(Bytes::new()), tag);
        ask(0);
        callers.take_scheduled(&mut Vec::new());
        caller.lane(GroupId(1)).with(|lane| lane.wait = Some(Wait::Room));
        ask(1);
        caller.leave();
        let ended: Vec<_> = outcomes(&caller).into_iter().map(|(tag, _)| tag).collect();
        assert_eq!((ended, callers.size()), (vec![0, 1], (0, 0)));
    }

    #[test]
    fn a_caller_that_has_much_leaves_room_to_others() {
        let options = IntakeOptions {
            requests_max: 256,
            request_bytes_max: 64 << 10,
            ..IntakeOptions::default()
        };
        let callers = callers(options);
        let submit = |caller: &Caller, bytes| {
            caller.submit(GroupId(1), Request::Query(Bytes::from(vec![0; bytes])), 0);
            outcomes(caller).is_empty()
        };
        for (bytes, most) in [(1, 256 * 3 / 4), (4 << 10, 16 * 3 / 4)] {
            let (greedy, other) = (callers.caller(), callers.caller());
            assert_eq!((0..256).take_while(|_| submit(&greedy, bytes)).count(), most);
            assert!(submit(&other, bytes), "others find room");
            drop((greedy, other));
            callers.take_scheduled(&mut Vec::new());
            callers.wake_answered();
            assert_eq!(callers.size(), (0, 0));
        }
    }

    #[test]
    fn wrong_counts_and_broken_bounds_are_named() {
        let options = IntakeOptions { requests_max: 2, ..IntakeOptions::default() };
        let callers = callers(options);
        let caller = callers.caller();
        caller.submit(GroupId(1), Request::Query(Bytes::from_static(b"abc")), 1);
        assert_eq!(callers.check(Some((1, 3))), Ok(()));
        assert!(callers.check(Some((2, 3))).unwrap_err().contains("the lanes have"));
        callers.requests.set(3);
        assert!(callers.check(None).unwrap_err().contains("bounds"));
        callers.requests.set(1);
    }
}
