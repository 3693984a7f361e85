//! One shard: a core's groups, WAL, exchanger and queues, and the loop that drives them.

pub(crate) mod stage;

pub(crate) mod disk_room;
pub(crate) mod drain;
pub(crate) mod entry_memory;
pub(crate) mod fetcher;
pub(crate) mod group;
pub(crate) mod groups;
pub(crate) mod hand_over;
mod invariants;
pub(crate) mod machine;
pub(crate) mod others;
pub(crate) mod pairs;
pub(crate) mod proposals;
pub(crate) mod timing;

use crate::{
    control::outside::Outside,
    edge::{
        deadlines::Holder, inlet::LiveInlet, local::LocalShard, other_shard::OtherShard,
        requests::Requests,
    },
    error::Error,
    mesh::MeshItem,
    node::meeting::Meeting,
    placement::Placement,
    runtime::Runtime,
    shard::{
        drain::Drain, fetcher::Fetcher, group::Group, groups::Groups, hand_over::HandOver,
        others::OtherShards, stage::append::AppendStage, timing::Timing,
    },
    wake::Wake,
};
use purlin_rsm::{NodeId, ShardId, Tick};
use std::{rc::Rc, sync::Arc, time::Duration};

/// What one turn takes at most, on the machines that we have measured: `STEPS_TIME_MAX`, and two steps that are each
/// one command of the most keys that a server takes. The documents state it.
pub const TURN_MAX: Duration = Duration::from_millis(20);
const _: () = assert!(STEPS_TIME_MAX.as_millis() * 10 <= TURN_MAX.as_millis());

/// So long a turn steps groups and applies what they commit. Then it ends with the step that it is in, and the
/// next turn goes on: in between, heartbeats leave and connections are served. The clock is read after each piece that a
/// machine does: 64 KiB of entries, one longer command, or one query. A piece takes 10 ms at most, and a turn [`TURN_MAX`].
const STEPS_TIME_MAX: Duration = Duration::from_millis(2);

/// One core's groups, and everything they need. Made by [`crate::ShardSetup::open`].
pub struct Shard<R: Runtime> {
    pub(crate) runtime: R,
    pub(crate) site: Site,
    pub(crate) timing: Timing,
    pub(crate) groups: Groups,
    pub(crate) meeting: Meeting,
    pub(crate) requests: Requests,
    pub(crate) others: OtherShards<R>,
    pub(crate) append: AppendStage<R::Disk>,
    pub(crate) fetcher: Rc<Fetcher>,
    pub(crate) inlet: LiveInlet<R>,
    pub(crate) outside: Outside,
    pub(crate) hand_over: HandOver,
    pub(crate) drain: Drain<R>,
    /// Why it must stop: found in the middle of a turn, acted upon at its end.
    pub(crate) failure: Option<Error>,
}

/// Where a shard is.
pub(crate) struct Site {
    /// For log lines: `n1 s0`.
    pub(crate) name: String,
    pub(crate) node: NodeId,
    pub(crate) shard: ShardId,
    /// Where the node's groups live.
    pub(crate) placement: Placement,
    /// How many user groups the cluster has.
    pub(crate) groups: u32,
}

impl Site {
    /// The other shards of this node.
    pub(crate) fn other_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let shard = self.shard;
        (0..self.placement.shards()).map(ShardId).filter(move |other| *other != shard)
    }
}

impl<R: Runtime> Shard<R> {
    /// Runs until it is told to stop, and what is under way has ended: see [`crate::Shared::stop`].
    ///
    /// # Errors
    /// The disk failed, or the peers refuse this directory. What waits has been answered by then.
    pub async fn run(mut self) -> Result<(), Error> {
        let mut began = self.runtime.now();
        let outcome = loop {
            if let Err(error) = self.turn(began) {
                break Err(error);
            }
            if self.may_end() {
                break Ok(());
            }
            began = self.wait(began).await;
        };
        self.end(&outcome).await;
        outcome
    }

    /// One turn: the stages over everything that has come since the last turn, in the order that `stage`
    /// tells.
    fn turn(&mut self, began: Duration) -> Result<(), Error> {
        let now = self.timing.tick_at(began);
        self.requests.callers.set_now(now);
        self.requests.callers.timer().begin_turn(began);
        // 1 intake.
        self.append.complete(now, began, &mut self.groups);
        // Before anything that rests on it is sent (safety I4).
        self.others.exchanger.note_durable(self.append.durable());
        self.drain_fetched().map_err(|error| Error::disk_failed(&error))?;
        self.adopt_recorded()?;
        self.drain_events(now);
        self.drain_mesh(now);
        self.drain_inlet();
        self.time_stages();
        // What is due.
        let is_beat = self.timing.next_beat() <= now;
        if is_beat {
            self.beat(now);
        }
        if self.meeting.is_acting() {
            self.groups.tick(now);
        }
        // 1 intake, and of each group 2 step, 4 send, 5 apply. An outcome may let a lane go on, and its
        // requests give a group more to do.
        self.fill_room(now);
        let steps_end = self.runtime.now() + STEPS_TIME_MAX;
        while self.groups.has_dirty() {
            self.step(now, steps_end);
            self.fill_room(now);
            if self.runtime.now() >= steps_end {
                break;
            }
        }
        // 3 append, 6 reply, and 4 one write to each peer.
        self.remember_peers();
        self.append.submit(now, || self.runtime.now())?;
        self.reply();
        self.flush();
        self.spawn_drivers();
        if is_beat {
            self.publish_status(now);
        }
        self.answer_control(now);
        self.check();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Sends requests of lanes, and entries of groups that waited for room. Each of the two may fill the room that a peer
    /// has, so they take turns to be the first.
    fn fill_room(&mut self, now: Tick) {
        self.others.are_entries_first ^= true;
        if self.others.are_entries_first {
            self.offer_room(now);
        }
        self.send_requests(now);
        if !self.others.are_entries_first {
            self.offer_room(now);
        }
    }

    /// Sleeps until something happens, or something is due. When something has happened already, the other
    /// tasks of this core run first, and once a millisecond completed I/O is taken in: no caller can keep the loop from
    /// waiting. Returns the time of the end of the wait.
    async fn wait(&mut self, began: Duration) -> Duration {
        let ended = self.runtime.now();
        self.outside.turned(ended.saturating_sub(began));
        let wake = self.inlet.wake();
        let deadline = if self.meeting.is_acting() { self.groups.deadline() } else { None };
        let beat = self.timing.next_beat();
        let next = deadline.map_or(beat, |deadline| deadline.min(beat));
        let after = self.timing.time_of(next).saturating_sub(ended);
        if self.groups.has_dirty() || wake.is_set() || after.is_zero() {
            if self.timing.is_io_due(ended) {
                self.runtime.yield_now().await;
                self.timing.io_taken(self.runtime.now());
            } else {
                futures_lite::future::yield_now().await;
            }
            wake.take();
            return self.runtime.now();
        }
        futures_lite::future::or(wake.wait(), self.runtime.sleep(after)).await;
        let now = self.runtime.now();
        self.timing.io_taken(now);
        now
    }

    pub(crate) fn now(&self) -> Tick {
        self.timing.tick_at(self.runtime.now())
    }

    /// What is done once in a heartbeat interval.
    fn beat(&mut self, now: Tick) {
        self.timing.beat(now);
        self.requests.callers.timer().beat();
        self.others.exchanger.beat();
        self.others.pairs.check_silence(now, &mut self.groups);
        self.hand_over(now);
        self.send_heartbeats(now);
        self.append.beat(self.timing.last_beat(now), self.runtime.now());
        self.expire(now);
        self.end_superseded_batches(self.timing.last_beat(self.timing.last_beat(now)));
        self.requests.retry_parked();
        self.others.pairs.renew_turns();
        self.tell_met();
    }

    /// What is newly known of peers joins each batch: it costs no write of its own, and a peer whose disk loses what
    /// it acknowledged before our last batch is noticed even if all nodes have lost their power meanwhile (safety I4).
    fn remember_peers(&mut self) {
        if self.append.has_writes() {
            self.append.remember(self.others.exchanger.take_memories());
        }
    }

    /// Ends requests whose deadline has passed, wherever they are.
    fn expire(&mut self, now: Tick) {
        let (limit, slots) = self.requests.expire(now);
        for slot in slots {
            let Some(group) = self.groups.peek_mut(slot) else { continue };
            group.expire(limit);
            if let Some(oldest) = group.watch() {
                self.requests.deadlines.push(oldest, Holder::Group(slot));
            }
        }
    }

    fn drain_mesh(&mut self, now: Tick) {
        for (from, item) in self.others.mesh.take() {
            match item {
                MeshItem::Batch(batch) => self.on_batch(now, OtherShard::OfThisNode(from), batch),
                MeshItem::Reply(reply) => self.on_reply(OtherShard::OfThisNode(from), reply),
                MeshItem::Met(identity) => {
                    self.meeting.adopt(identity);
                    self.act();
                }
                MeshItem::Fenced => self.on_fenced(),
            }
        }
    }

    /// Tells the timer how the entry stands that it follows.
    fn time_stages(&self) {
        let timer = self.requests.callers.timer();
        let Some((group, index)) = timer.entry() else { return };
        match self.groups.get(group) {
            Some(Group { raft, .. }) => {
                timer.note(raft.durable() >= index, raft.committed() >= index)
            }
            None => timer.give_up(),
        }
    }

    /// Hands in the requests of other threads, and runs their tasks.
    fn drain_inlet(&mut self) {
        for task in self.requests.inlet_caller.drain(&self.inlet) {
            task(self.local());
        }
    }

    /// The handle for callers on this core.
    pub fn local(&self) -> LocalShard<R> {
        LocalShard {
            runtime: self.runtime.clone(),
            shard: self.site.shard,
            callers: self.requests.callers.clone(),
            view: self.outside.view().clone(),
            stops: self.drain.stops.clone(),
        }
    }

    fn spawn_drivers(&self) {
        for driver in self.others.exchanger.take_drivers() {
            self.runtime.spawn(driver);
        }
    }

    /// What wakes the loop.
    pub(crate) fn wake(&self) -> Arc<Wake> {
        self.inlet.wake().clone()
    }
}
