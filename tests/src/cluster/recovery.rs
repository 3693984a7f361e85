//! The second phase of a run: no fault strikes any more, a few nodes may be forsaken for good, and the
//! others must do all that a cluster does, within bounds of simulated time.

use super::{Cluster, Subject, clients::ask};
use crate::sim::{Crash, Nemesis, Outcome, Random, SimRuntime, World};
use purlin::{BoardEntry, GroupId, NodeId, RaftOptions, Request, Runtime as _, ShardId, Term};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

/// Everything must work again within this time.
const RECOVERY: Duration = Duration::from_secs(60);
/// How long a cluster is watched that may have halted.
const HALTED: Duration = Duration::from_secs(15);
/// Requests have a deadline of ten seconds by their node's clock, and clients pause before they see that
/// all is over.
const ENDED: Duration = Duration::from_secs(20);
/// How long a probe waits for one shard's answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long it waits before it asks again.
pub(super) const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// How often a node is started again that stops by itself after all faults.
const REVIVALS_MAX: u32 = 6;
/// Each group has a leader this many election timeouts after the shards of a majority run.
const ELECTION_TIMEOUTS: u32 = 10;
/// With more groups what is due of each takes longer than its bound.
pub(super) const GROUPS_MANY: u32 = 8;
/// With nothing wrong for long, a write and a read take so long at most.
const PROMPT: Duration = Duration::from_secs(3);
/// A group that works moves on by no more terms while nothing goes wrong.
const TERMS_MAX: u64 = 3;
/// For how long it is watched.
const WATCHED: Duration = Duration::from_secs(5);

/// What becomes of a node that is never healed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is down.
    Down,
    /// Nobody hears it, and it hears nobody.
    Cut,
    /// It hears the others, and they do not hear it.
    Mute,
    /// They hear it, and it does not hear them.
    Deaf,
}

impl Fate {
    /// In three runs of ten up to a minority of the nodes is forsaken.
    pub(super) fn draw(random: &Random, nodes: &[NodeId]) -> Vec<(NodeId, Self)> {
        let minority = nodes.len().saturating_sub(1) as u64 / 2;
        if minority == 0 || !random.chance(0.3) {
            return Vec::new();
        }
        let mut nodes = nodes.to_vec();
        random.shuffle(&mut nodes);
        nodes.truncate(1 + random.below(minority) as usize);
        let fates = [Self::Down, Self::Cut, Self::Mute, Self::Deaf];
        nodes.into_iter().map(|node| (node, *random.pick(&fates))).collect()
    }

    fn befall(self, world: &World, node: NodeId, others: &[NodeId]) {
        match self {
            Self::Down => world.crash(node, Crash::PowerCut),
            Self::Cut => world.partition(&[node], others),
            Self::Mute => world.cut_one_way(&[node], others),
            Self::Deaf => world.cut_one_way(others, &[node]),
        }
    }
}

impl<S: Subject> Cluster<S> {
    /// Everything must work again: each group has a leader soon, takes a write and answers a read at each
    /// of the nodes, all their replicas become equal, and nobody campaigns any more. Nodes whose bytes
    /// were corrupted may stay away; if they are more than a minority, so may all.
    pub(super) fn recover(self: &Rc<Self>, world: &World, nemesis: &mut Nemesis) {
        if !world.panics().is_empty() {
            return;
        }
        let corrupted: BTreeSet<NodeId> = nemesis.corrupted().keys().copied().collect();
        if corrupted.len() > self.minority() {
            let _ = self.run_for(world, HALTED);
            return self.is_over.set(true);
        }
        let core = self.forsake(world, &corrupted);
        *self.processes.given_up.borrow_mut() = corrupted.clone();
        self.expect_leaders(world, &core);
        // Clients would leave no room for anything else.
        self.is_over.set(self.options.limits_are_small());
        if !self.expect_answers(world, &core) {
            return;
        }
        self.expect_welcome(world, &core);
        if core.len() + corrupted.len() == self.options.nodes as usize {
            nemesis.readmit(world);
        }
        self.is_over.set(true);
        let states = || self.judges.states.borrow().all_equal(&core);
        if self.run_while_reviving(world, || states().is_ok()) != Outcome::Reached
            && let Err(divergence) = states()
        {
            self.violation(format!(
                "replicas differ {RECOVERY:?} after the last write: {divergence}"
            ));
        }
        if self.is_steady() {
            self.expect_peace(world, &core);
            if corrupted.is_empty() && !self.options.limits_are_small() {
                self.expect_prompt(world, &core);
            }
        }
        self.expect_ends(world);
        self.expect_room(world, &core);
    }

    fn minority(&self) -> usize {
        self.options.nodes.saturating_sub(1) as usize / 2
    }

    /// Forsakes nodes, as long as a majority is left beside the `corrupted` ones and all have acted before: a
    /// new cluster needs them all once (safety I2). Returns those that must work.
    fn forsake(&self, world: &World, corrupted: &BTreeSet<NodeId>) -> Vec<NodeId> {
        let nodes = self.nodes();
        let have_acted = nodes.iter().all(|node| self.judges.states.borrow().has_seen(*node));
        let mut left = if have_acted { self.minority() - corrupted.len() } else { 0 };
        let mut core = nodes.clone();
        core.retain(|node| !corrupted.contains(node));
        for (node, fate) in &self.options.forsaken {
            if left > 0 && !corrupted.contains(node) {
                left -= 1;
                core.retain(|other| other != node);
                let others: Vec<NodeId> = nodes.iter().copied().filter(|it| it != node).collect();
                fate.befall(world, *node, &others);
            }
        }
        core
    }

    fn expect_leaders(&self, world: &World, core: &[NodeId]) {
        let runs = |node: &NodeId| {
            let locals = self.processes.locals.borrow();
            (0..self.shards(*node)).all(|shard| locals.contains_key(&(*node, ShardId(shard))))
        };
        let all_run = || core.iter().all(runs);
        if self.run_while_reviving(world, all_run) != Outcome::Reached {
            let down: Vec<_> = core.iter().filter(|node| !runs(node)).collect();
            return self.violation(format!("{RECOVERY:?} after the last fault down: {down:?}"));
        }
        // Over links that stall again and again no leader stays for long: each group is led at some time.
        let led: RefCell<BTreeSet<GroupId>> = RefCell::default();
        let all_led = || {
            let locals = self.processes.locals.borrow();
            let corrupted = self.processes.given_up.borrow();
            let counts = |node: &NodeId| core.contains(node) || corrupted.contains(node);
            let mut led = led.borrow_mut();
            for ((node, _), local) in locals.iter().filter(|((node, _), _)| counts(node)) {
                let leads = |status: &BoardEntry| status.leader == Some(*node);
                led.extend(
                    local.board().groups_from(GroupId(1)).filter(leads).map(|status| status.group),
                );
            }
            led.len() == self.options.groups as usize
        };
        let limit = self.slowest_campaign() * ELECTION_TIMEOUTS;
        // Of many groups one is unlucky again and again, when candidates are slow to find each other.
        if !self.is_steady() && self.options.groups > GROUPS_MANY {
            return;
        }
        if self.run_while_reviving_for(world, limit, all_led) != Outcome::Reached {
            self.violation(format!("groups without a leader {limit:?} after all shards run"));
        }
    }

    /// An election timeout by the slowest clock, and a campaign over the slowest link and disk: two
    /// candidates that are slow find each other in the way more often.
    fn slowest_campaign(&self) -> Duration {
        let world = &self.options.world;
        let timeout = RaftOptions::default().election_timeout.end * 1_000 / world.clock_rate.start;
        timeout + 4 * world.net.link.end + world.net.jitter.spike_max + world.disk.write.spike_max
    }

    /// Whether no link and no disk is ever so slow that a sound leader looks dead.
    fn is_steady(&self) -> bool {
        let world = &self.options.world;
        let slowest = world.net.link.end + world.net.jitter.spike_max + world.disk.write.spike_max;
        let timeout = RaftOptions::default().election_timeout.start;
        (slowest + world.disk.sync.spike_max) * 1_000 / world.clock_rate.start < timeout / 2
    }

    fn expect_answers(self: &Rc<Self>, world: &World, core: &[NodeId]) -> bool {
        let missing: Rc<RefCell<BTreeSet<(NodeId, ShardId, GroupId)>>> = Rc::default();
        for (node, shard) in self.shards_of(core) {
            for group in (1..=self.options.groups).map(GroupId) {
                let (cluster, missing, runtime) = (self.clone(), missing.clone(), world.outside());
                missing.borrow_mut().insert((node, shard, group));
                world.outside().spawn(async move {
                    cluster.probe(&runtime, (node, shard), group).await;
                    missing.borrow_mut().remove(&(node, shard, group));
                });
            }
        }
        let answered = self.run_while_reviving(world, || missing.borrow().is_empty());
        if answered != Outcome::Reached {
            let missing = missing.borrow();
            self.violation(format!(
                "no write and read {RECOVERY:?} after the last fault, (node, shard, group): {missing:?}"
            ));
        }
        answered == Outcome::Reached
    }

    /// Each front end takes in a new client and answers it.
    fn expect_welcome(self: &Rc<Self>, world: &World, core: &[NodeId]) {
        if self.options.visitors.is_none() {
            return;
        }
        let waiting: Rc<RefCell<BTreeSet<(NodeId, ShardId)>>> = Rc::default();
        for at in self.shards_of(core) {
            let (cluster, waiting, runtime) = (self.clone(), waiting.clone(), world.outside());
            waiting.borrow_mut().insert(at);
            world.outside().spawn(async move {
                cluster.visit(&runtime, at).await;
                waiting.borrow_mut().remove(&at);
            });
        }
        if self.run_while_reviving(world, || waiting.borrow().is_empty()) != Outcome::Reached {
            let waiting = waiting.borrow();
            self.violation(format!("front ends that answer nothing for {RECOVERY:?}: {waiting:?}"));
        }
    }

    /// Each request ends by its deadline, wherever it was asked.
    fn expect_ends(&self, world: &World) {
        let limit = ENDED * 1_000 / self.options.world.clock_rate.start;
        let open = || Rc::strong_count(&self.asking) + Rc::strong_count(&self.visiting) - 2;
        if self.run_while_reviving_for(world, limit, || open() == 0) != Outcome::Reached {
            let open = open();
            self.violation(format!("{open} clients wait for an answer {limit:?} after the end"));
        }
    }

    /// Where nothing is wrong any more, nothing is lost on its way: each group answers at each shard, at
    /// once and at the first try.
    fn expect_prompt(self: &Rc<Self>, world: &World, core: &[NodeId]) {
        let open: Rc<RefCell<BTreeSet<(NodeId, ShardId, GroupId)>>> = Rc::default();
        for (node, shard) in self.shards_of(core) {
            let locals = self.processes.locals.borrow();
            let Some(local) = locals.get(&(node, shard)) else { continue };
            for group in (1..=self.options.groups).map(GroupId) {
                let (open, local) = (open.clone(), local.clone());
                let [write, read] = self.subject.probe(&format!("last-{node}-{shard}-{group}"));
                open.borrow_mut().insert((node, shard, group));
                world.outside().spawn(async move {
                    if ask(&local, group, write).await.is_ok()
                        && ask(&local, group, read).await.is_ok()
                    {
                        open.borrow_mut().remove(&(node, shard, group));
                    }
                });
            }
        }
        if world.run_until(PROMPT, || open.borrow().is_empty()) != Outcome::Reached {
            let open = open.borrow();
            self.violation(format!("no answer at the first try within {PROMPT:?}: {open:?}"));
        }
    }

    /// A leader that works is left alone.
    fn expect_peace(&self, world: &World, core: &[NodeId]) {
        let before = self.terms(core);
        let _ = self.run_for(world, WATCHED);
        for (at, term) in self.terms(core) {
            let moved = before.get(&at).map_or(0, |before| term.0 - before.0);
            if moved > TERMS_MAX {
                self.violation(format!("{at:?} moved on by {moved} terms, and nothing was wrong"));
            }
        }
    }

    fn terms(&self, core: &[NodeId]) -> BTreeMap<(NodeId, GroupId), Term> {
        let locals = self.processes.locals.borrow();
        let boards = core.iter().filter_map(|node| locals.get(&(*node, ShardId(0))));
        let statuses = boards.flat_map(|local| {
            let groups: Vec<_> = local.board().groups_from(GroupId(1)).collect();
            groups.into_iter().map(|status| ((local.node(), status.group), status.term))
        });
        statuses.collect()
    }

    pub(super) fn shards_of(&self, nodes: &[NodeId]) -> Vec<(NodeId, ShardId)> {
        self.all_shards().into_iter().filter(|(node, _)| nodes.contains(node)).collect()
    }

    pub(super) fn run_while_reviving(
        &self,
        world: &World,
        condition: impl Fn() -> bool,
    ) -> Outcome {
        self.run_while_reviving_for(world, RECOVERY, condition)
    }

    /// Runs until `condition` holds. A write or sync that was under way when the faults ended may still
    /// fail and stop its shard, or keep its file locked for the next process. So a node that stops is
    /// started again, a few times. A node that stops again and again stays down, and the condition fails.
    fn run_while_reviving_for(
        &self,
        world: &World,
        limit: Duration,
        condition: impl Fn() -> bool,
    ) -> Outcome {
        let end = world.now() + limit;
        let (stopped, revived) = (&self.processes.stopped, &self.processes.revived);
        loop {
            let has_chances = |node: &NodeId| {
                !self.processes.given_up.borrow().contains(node)
                    && revived.borrow().get(node).is_none_or(|it| *it < REVIVALS_MAX)
            };
            let is_down = |node: &NodeId| has_chances(node) && !world.is_whole(*node);
            let is_anybody_down = || stopped.borrow().iter().any(is_down);
            let left = end.saturating_sub(world.now());
            let outcome = world.run_until(left, || condition() || is_anybody_down());
            if outcome != Outcome::Reached || condition() {
                return outcome;
            }
            for node in stopped.take() {
                if is_down(&node) {
                    *revived.borrow_mut().entry(node).or_default() += 1;
                    world.crash(node, Crash::Kill);
                    world.restart(node);
                }
            }
        }
    }

    /// Writes into a group at a shard of a node until it is done, and reads.
    async fn probe(&self, runtime: &SimRuntime, at: (NodeId, ShardId), group: GroupId) {
        let (node, shard) = at;
        for request in self.subject.probe(&format!("probe-{node}-{shard}-{group}")) {
            while !self.answers(runtime, at, group, request.clone()).await {
                runtime.sleep(PROBE_PAUSE).await;
            }
        }
    }

    async fn answers(
        &self,
        runtime: &SimRuntime,
        at: (NodeId, ShardId),
        group: GroupId,
        request: Request,
    ) -> bool {
        let Some(local) = self.processes.locals.borrow().get(&at).cloned() else {
            return false;
        };
        let answered = async { ask(&local, group, request).await.is_ok() };
        let given_up = async {
            self.lose_patience(runtime).await;
            false
        };
        futures_lite::future::or(answered, given_up).await
    }

    /// Returns when a reply took too long, or when some process was started: then the process that the
    /// probe asked may be gone, and will never reply.
    pub(super) async fn lose_patience(&self, runtime: &SimRuntime) {
        let (end, starts) = (runtime.now() + PATIENCE, self.processes.starts.get());
        while runtime.now() < end && self.processes.starts.get() == starts {
            runtime.sleep(PROBE_PAUSE).await;
        }
    }
}
