//! Random histories, forged messages and brute force: cases that nobody would write down in a script.
//!
//! [`random_histories_are_safe_and_heal`] lets everything happen to clusters that may happen to them, with the
//! oracle watching. Then it demands that they recover and come to rest. [`no_message_breaks_an_invariant`] feeds
//! replicas in every role with messages that no correct replica sends.

use super::{
    RoleKind, Voters, Window,
    harness::{Cluster, Disk, Moment, Node, Options},
    script::show_status,
    voters::{Ballots, Tally, majority},
};
use crate::{
    entry::{Entry, Payload},
    message::{Envelope, Message},
    random::SplitMix,
    types::{EntryId, GroupEpoch, GroupId, HardState, Index, NodeId, Position, Term},
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The same seed, the same history.
struct Random(SplitMix);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// One cluster and the faults that happen to it.
struct History {
    random: Random,
    cluster: Cluster,
    reads: u64,
    /// How many of the possible faults happen, in percent.
    troubles: u64,
    /// The reads that each node took since its last start. Each must end in one way or another.
    taken: BTreeMap<NodeId, BTreeSet<u64>>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random(SplitMix::new(seed));
        let nodes = random.of(&[1, 3, 3, 3, 5]);
        let options = Options {
            nodes,
            window: Window { messages: random.of(&[1, 2, 4]), bytes: random.of(&[1, 80, 1 << 20]) },
            tell_commit_ticks: random.of(&[1, 3]),
            append_bytes_max: random.of(&[1, 80, 1 << 20]),
            apply_bytes_max: random.of(&[1, 80, 1 << 20]),
            cache_bytes_max: random.of(&[0, 100, 1 << 20]),
            campaigns_first: random.chance(50).then_some(NodeId(1)),
            tail: random.of(&[0, 2, usize::MAX]),
            seed,
            is_judged: true,
            applies_at_once: random.chance(50),
            is_told: false,
            ..Options::default()
        };
        let troubles = random.of(&[10, 30, 100]);
        let mut cluster = Cluster::new(options);
        if random.chance(30) {
            begin_at(&mut cluster, EntryId::new(Term(3), Index(100)));
        }
        Self { random, cluster, reads: 0, troubles, taken: BTreeMap::new() }
    }

    fn node(&mut self) -> NodeId {
        NodeId(1 + self.random.below(u64::from(self.cluster.options.nodes)) as u32)
    }

    /// One thing happens to one node, or to one message.
    fn step(&mut self) {
        let id = self.node();
        if self.cluster.raft(id).is_none() && self.random.chance(15) {
            let abstains = self.random.of(&[0, 0, 10]);
            self.cluster.restart(id, abstains);
        }
        match self.random.below(100) {
            0..44 => (0..self.random.of(&[1, 1, 2, 5])).for_each(|_| self.deliver()),
            44..53 => {
                let ticks = self.random.of(&[1, 1, 3, 12]);
                self.cluster.pass(id, ticks);
            }
            53..61 => {
                let count = self.random.of(&[1, 1, 2, usize::MAX]);
                self.cluster.persist(id, count);
            }
            61..64 => self.propose(id),
            64..67 => self.read(id),
            67..71 => {
                let count = self.random.of(&[0, 1, usize::MAX, usize::MAX]);
                let moment = self.random.of(&[Moment::Begin, Moment::End]);
                self.cluster.fetch(id, count, moment);
            }
            71..75 => self.cluster.finish_apply(id),
            75..84 => self.cluster.beat(id),
            84..85 if self.random.chance(self.troubles) => self.crash(id),
            85..88 if self.random.chance(self.troubles) => self.cut(id),
            88..90 if self.random.chance(self.troubles) => self.notice(id),
            _ => self.cluster.hand_out(id),
        }
        if self.random.chance(60) {
            self.cluster.hand_out(id);
        }
    }

    fn deliver(&mut self) {
        let count = self.cluster.network.len() as u64;
        if count == 0 {
            return;
        }
        let is_in_order = self.random.chance(100 - self.troubles / 3);
        let at = if is_in_order { 0 } else { self.random.below(count) } as usize;
        match self.random.below(100 * 100 / self.troubles) {
            0..6 => drop(self.cluster.network.remove(at)),
            6..12 => self.cluster.network.push(self.cluster.network[at].clone()),
            _ => {
                let to = self.cluster.deliver(at);
                if self.random.chance(60) {
                    self.cluster.hand_out(to);
                }
            }
        }
    }

    /// A node that leads, or believes so. Requests to a deposed leader show most.
    fn believer(&mut self) -> Option<NodeId> {
        let mut believers = self.cluster.ids();
        believers.retain(|id| self.leads(*id));
        (!believers.is_empty()).then(|| self.random.of(&believers))
    }

    fn propose(&mut self, id: NodeId) {
        let id = if self.random.chance(70) { self.believer().unwrap_or(id) } else { id };
        self.cluster.propose(id, &format!("{}", self.random.below(1000)));
    }

    fn read(&mut self, id: NodeId) {
        let id = if self.random.chance(90) { self.believer().unwrap_or(id) } else { id };
        self.reads += 1;
        if let Some(Ok(())) = self.cluster.read(id, self.reads) {
            self.taken.entry(id).or_default().insert(self.reads);
        }
    }

    fn crash(&mut self, id: NodeId) {
        let kept = self.random.below(4) as usize;
        self.cluster.crash(id, kept);
        self.taken.remove(&id);
        if self.random.chance(30) {
            let floor = self.cluster.nodes[&id].disk.floor.index;
            let to = Index(floor.0 + self.random.below(10)).min(self.held_by_all());
            self.cluster.nodes.get_mut(&id).expect("a node").disk.raise_floor(to);
        }
    }

    /// The last committed entry that all nodes hold durably. No node will ever need entries up to it from
    /// another one.
    fn held_by_all(&self) -> Index {
        let oracle = &self.cluster.oracle;
        let held = |node: &Node| {
            let is_committed = |entry: &&Entry| oracle.is_committed(entry.id());
            let last = node.disk.entries.iter().rev().find(is_committed);
            last.map_or(node.disk.floor.index, |entry| entry.index)
        };
        self.cluster.nodes.values().map(held).min().expect("there are nodes")
    }

    fn cut(&mut self, id: NodeId) {
        let other = self.node();
        if self.random.chance(60) {
            self.cluster.cuts.clear();
        } else if other != id {
            self.cluster.cuts.insert((id, other));
        }
    }

    /// Tells a node something about its connections, which may be untrue by now.
    fn notice(&mut self, id: NodeId) {
        let (other, what) = (self.node(), self.random.below(13));
        self.cluster.input(id, |raft, now| match what {
            0 | 1 => raft.unvouch(now, other),
            2 => raft.confirm(now, other),
            3 => raft.unconfirm(now, other),
            4 => raft.connected(now, other),
            5 => raft.disconnected(now, other),
            6 => raft.evict_durable(),
            7 | 8 => drop(raft.hand_over(now, other)),
            9 => raft.set_disk_full(now, other.0 == 1),
            10 => {
                raft.unsent(now, other, Index(raft.last().index.0.saturating_sub(u64::from(id.0))))
            }
            11 => raft.room(now, other),
            _ => raft.trust(),
        });
    }

    /// Ends all faults. Returns after how many ticks all nodes had the same new entry.
    fn heal(&mut self) -> u64 {
        self.cluster.cuts.clear();
        for id in self.cluster.ids() {
            if self.cluster.raft(id).is_none() {
                self.cluster.restart(id, 0);
            }
            for peer in self.cluster.ids().into_iter().filter(|peer| *peer != id) {
                self.cluster.input(id, |raft, now| raft.connected(now, peer));
            }
        }
        let mut target = None;
        for ticks in 0..2_000 {
            self.live_a_tick(ticks);
            let leader = self.leader();
            match target {
                None => {
                    target =
                        leader.and_then(|id| self.cluster.propose(id, "last")?.ok().map(|it| it.id))
                }
                Some(entry) if self.has_all(entry) => return ticks,
                // The leader that it was proposed to was deposed.
                Some(entry) if leader.is_some_and(|id| self.lacks(id, entry)) => target = None,
                Some(_) => {}
            }
        }
        panic!("no recovery: {:#?}", self.states());
    }

    fn live_a_tick(&mut self, ticks: u64) {
        for id in self.cluster.ids() {
            self.cluster.pass(id, 1);
            self.cluster.hand_out(id);
            let (now, due) =
                (self.cluster.nodes[&id].now, self.cluster.raft(id).map(|r| r.deadline()));
            assert!(due.flatten().is_none_or(|due| due > now), "{id} is due at {due:?}, at {now}");
        }
        if ticks.is_multiple_of(3) {
            self.cluster.ids().into_iter().for_each(|id| self.cluster.beat(id));
        }
        self.settle();
    }

    /// Lets everything happen that needs no time.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            for id in self.cluster.ids() {
                self.cluster.hand_out(id);
                self.cluster.persist(id, usize::MAX);
                self.cluster.fetch(id, usize::MAX, Moment::End);
                self.cluster.finish_apply(id);
            }
            let is_quiet = self.cluster.nodes.values().all(|node| {
                node.writing.is_empty() && node.reading.is_empty() && node.applying.is_none()
            });
            if !self.cluster.network.is_empty() {
                self.cluster.deliver(0);
            } else if is_quiet {
                return;
            }
        }
        panic!("it does not come to rest: {:#?}", self.states());
    }

    fn leads(&self, id: NodeId) -> bool {
        self.cluster.raft(id).is_some_and(|raft| raft.role() == RoleKind::Leader)
    }

    fn leader(&self) -> Option<NodeId> {
        let leaders = self.cluster.ids().into_iter().filter(|id| self.leads(*id));
        leaders.max_by_key(|id| self.cluster.raft(*id).map(|raft| raft.term()))
    }

    fn has_all(&self, entry: EntryId) -> bool {
        self.cluster
            .nodes
            .values()
            .all(|node| node.machine.iter().rev().any(|applied| applied.id() == entry))
    }

    fn lacks(&self, id: NodeId, entry: EntryId) -> bool {
        self.cluster.raft(id).is_some_and(|raft| raft.term_of(entry.index) != Some(entry.term))
    }

    /// An idle cluster sends nothing, and has no deadline.
    fn rest(&mut self) {
        (0..60).for_each(|ticks| self.live_a_tick(ticks));
        for ticks in 0..60_u64 {
            for id in self.cluster.ids() {
                self.cluster.pass(id, 1);
                if ticks.is_multiple_of(3) {
                    self.cluster.beat(id);
                }
                self.cluster.hand_out(id);
                assert!(self.cluster.network.is_empty(), "it talks: {:?}", self.cluster.network);
                let raft = self.cluster.raft(id).expect("all are up");
                assert_eq!(raft.deadline(), None, "it waits: {:#?}", self.states());
            }
        }
        for (id, taken) in &self.taken {
            let node = &self.cluster.nodes[id];
            let ended = |read: &&u64| node.confirmed.contains(read) || node.failed.contains(read);
            assert_eq!(taken.iter().find(|read| !ended(read)), None, "a read of {id} never ended");
        }
    }

    fn states(&self) -> Vec<String> {
        let up =
            |(id, node): (&NodeId, &Node)| Some(show_status(*id, node.raft.as_ref()?, node.now));
        self.cluster.nodes.iter().filter_map(up).collect()
    }
}

/// All nodes start on logs that are empty and begin behind `floor`.
fn begin_at(cluster: &mut Cluster, floor: EntryId) {
    cluster.oracle.begin_at(floor);
    for id in cluster.ids() {
        let hard_state = HardState { term: floor.term, ..HardState::default() };
        let disk = Disk { hard_state, floor, ..Disk::default() };
        cluster.nodes.get_mut(&id).expect("a node").disk = disk;
        cluster.restart(id, 0);
    }
}

/// The seeds: two thousand by default. `PURLIN_SEEDS=from..to` runs others, `PURLIN_SEEDS=7..8` a single one.
fn seeds() -> std::ops::Range<u64> {
    let Ok(range) = std::env::var("PURLIN_SEEDS") else { return 0..2_000 };
    let (from, to) = range.split_once("..").expect("PURLIN_SEEDS=from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn random_histories_are_safe_and_heal() {
    let mut slowest = 0;
    let mut committed = 0;
    let seeds = seeds();
    for seed in seeds.clone() {
        let (before, ticks) = replayable(seed, || {
            let mut history = History::new(seed);
            (0..600).for_each(|_| history.step());
            let before = history.cluster.oracle.committed();
            let ticks = history.heal();
            history.rest();
            (before, ticks)
        });
        slowest = slowest.max(ticks);
        committed += before.0;
    }
    println!("slowest recovery: {slowest} ticks; committed amid all troubles: {committed} entries");
    // A timeout of 20 ticks is doubled three times, and then the cluster takes some time to agree.
    assert!(slowest < 200, "a recovery took {slowest} ticks");
    // Histories in which nothing is ever agreed upon would show nothing.
    let count = seeds.end - seeds.start;
    assert!(count < 100 || committed > 3 * count, "only {committed} entries were committed");
}

/// Runs one seed; a panic names it.
fn replayable<T>(seed: u64, run: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        eprintln!("replay this with PURLIN_SEEDS={seed}..{}", seed + 1);
        std::panic::resume_unwind(panic)
    })
}

/// Messages that no correct replica sends, to replicas that live through everything else as well.
struct Forger {
    history: History,
    /// The entries that each node held to be committed. It must hold them for ever.
    held: BTreeMap<NodeId, Vec<Term>>,
}

impl Forger {
    fn forge(&mut self) {
        let (from, to) = (NodeId(self.history.random.below(5) as u32), self.history.node());
        let term = self.term(to);
        let message = self.message(to);
        let envelope =
            Envelope { from, to, group: GroupId(1), epoch: GroupEpoch::FIRST, term, message };
        self.history.cluster.input(to, |raft, now| raft.step(now, envelope));
        if self.history.random.chance(50) {
            self.history.cluster.hand_out(to);
        }
    }

    fn term(&mut self, near: NodeId) -> Term {
        let raft = self.history.cluster.raft(near);
        let near = raft.map_or(0, |raft| raft.term().0);
        let random = &mut self.history.random;
        match random.below(20) {
            0 => Term(random.of(&[0, 1, u64::MAX, u64::MAX - 1, 1 << 63])),
            1 => Term(near + 2),
            2..5 => Term(near + 1),
            5..8 => Term(near.saturating_sub(1)),
            _ => Term(near),
        }
    }

    fn index(&mut self, near: NodeId) -> Index {
        let raft = self.history.cluster.raft(near);
        let near = raft.map_or(0, |raft| raft.last().index.0);
        let random = &mut self.history.random;
        match random.below(10) {
            0 => Index(random.of(&[0, u64::MAX, u64::MAX - 1])),
            _ => Index((near + 3).saturating_sub(random.below(8))),
        }
    }

    fn entry_id(&mut self, near: NodeId) -> EntryId {
        let index = self.index(near);
        let held = self.history.cluster.raft(near).and_then(|raft| raft.term_of(index));
        match held {
            Some(term) if self.history.random.chance(70) => EntryId::new(term, index),
            _ => EntryId::new(self.term(near), index),
        }
    }

    fn entries(&mut self, near: NodeId, prev: EntryId) -> Vec<Entry> {
        let mut id = prev;
        let held = self.history.cluster.raft(near).and_then(|raft| raft.log.position(prev.index));
        let mut before = held.unwrap_or_default();
        let count = self.history.random.below(4);
        let mut entry = |_| {
            id.index = Index(id.index.0.wrapping_add(u64::from(!self.history.random.chance(3))));
            if self.history.random.chance(30) {
                id.term = self.term(near);
            }
            if self.history.random.chance(3) {
                before = Position(self.history.random.of(&[0, 1, u64::MAX - 9]));
            }
            let command = Bytes::from_static(b"forged");
            let commands = std::iter::repeat_n(command, self.history.random.below(3) as usize);
            let payload = Payload::Commands(commands.collect());
            let entry = Entry { term: id.term, index: id.index, before, payload };
            before = entry.end();
            entry
        };
        (0..count).map(&mut entry).collect()
    }

    fn message(&mut self, near: NodeId) -> Message {
        let granted = self.history.random.chance(60);
        let round = self.history.random.of(&[0, 1, 2, 3, 9, u64::MAX]);
        match self.history.random.below(15) {
            0 => Message::PreVote { last: self.entry_id(near) },
            1 => Message::PreVoteReply { granted },
            2 => Message::Vote { last: self.entry_id(near), forced: granted },
            3 => Message::VoteReply { granted },
            4 => Message::ReadProbe { round },
            5 => Message::ReadProbeReply { round },
            6 => Message::Stale,
            14 => Message::TimeoutNow,
            7 | 8 => Message::AppendReply { matched: self.index(near) },
            9 | 10 => Message::AppendReject { prev: self.index(near), hint: self.entry_id(near) },
            _ => {
                let prev = self.entry_id(near);
                let entries = self.entries(near, prev);
                Message::Append { prev, entries, committed: self.index(near) }
            }
        }
    }

    /// Committed entries stay as they were. (The cluster checks that terms and commits only grow.)
    fn judge(&mut self) {
        for id in self.history.cluster.ids() {
            let held = self.held.entry(id).or_default();
            let Some(raft) = self.history.cluster.raft(id) else {
                // A majority need not hold a forged commit, so a crash may take it back.
                held.clear();
                continue;
            };
            let terms: Vec<Term> =
                (1..=raft.committed().0).filter_map(|i| raft.term_of(Index(i))).collect();
            assert!(terms.starts_with(held), "{id} held {held:?} for committed, now {terms:?}");
            *held = terms;
        }
    }
}

#[test]
fn no_message_breaks_an_invariant() {
    let mut stopped = 0;
    let seeds = seeds();
    for seed in seeds.clone() {
        stopped += replayable(seed, || {
            let mut history = History::new(seed);
            history.cluster.options.is_judged = false;
            let mut forger = Forger { history, held: BTreeMap::new() };
            for _ in 0..100 {
                for _ in 0..3 {
                    forger.history.step();
                    forger.judge();
                }
                forger.forge();
                forger.judge();
            }
            let is_stopped = |id: &NodeId| {
                forger.history.cluster.raft(*id).is_some_and(|raft| raft.fault().is_some())
            };
            forger.history.cluster.ids().iter().filter(|id| is_stopped(id)).count() as u64
        });
    }
    // Forged leaders overwrite committed entries now and then. A replica that notices this stops.
    println!("{stopped} replicas stopped");
    let count = seeds.end - seeds.start;
    assert!(count < 100 || stopped > 0 && stopped < count, "{stopped} replicas stopped");
}

/// Every set of up to five voters, with every answer of each, against the definition of a majority.
#[test]
fn quorums_equal_those_found_by_brute_force() {
    for voters in 1..=5_usize {
        let all = Voters::new((1..=voters as u32).map(NodeId));
        check_all_answers(&all, &[(1..=voters).collect()]);
    }
}

/// The same for joint configurations: halves that are apart, that overlap, and that contain each other.
#[test]
fn joint_quorums_equal_those_found_by_brute_force() {
    let halves: [(&[usize], &[usize]); 6] = [
        (&[1, 2, 3], &[4]),
        (&[1, 2], &[3, 4, 5]),
        (&[1, 2, 3], &[2, 3, 4]),
        (&[1, 2, 3, 4, 5], &[1, 2, 3]),
        (&[5], &[1, 2, 3, 4]),
        (&[1, 2, 3], &[1, 2, 3]),
    ];
    for (incoming, outgoing) in halves {
        let ids = |half: &[usize]| half.iter().map(|id| NodeId(*id as u32)).collect::<Vec<_>>();
        let joint = Voters::joint(ids(incoming), ids(outgoing), [NodeId(9)]);
        check_all_answers(&joint, &[incoming.to_vec(), outgoing.to_vec()]);
    }
}

/// Lets each of the nodes 1 to 5 refuse, grant, or not answer, in all combinations.
fn check_all_answers(voters: &Voters, halves: &[Vec<usize>]) {
    for case in 0..3_u32.pow(5) {
        let answer = |id: usize| case / 3_u32.pow(id as u32 - 1) % 3;
        let mut ballots = Ballots::default();
        for id in (1..=5).filter(|id| answer(*id) < 2) {
            ballots.record(NodeId(id as u32), answer(id) == 1);
            // A second answer changes nothing, and neither does the answer of a node that is no voter.
            ballots.record(NodeId(id as u32), answer(id) == 0);
            ballots.record(NodeId(id as u32 + 10), true);
        }
        let in_each_half = |holds: &dyn Fn(u32) -> bool| {
            let is_majority = |half: &Vec<usize>| {
                2 * half.iter().filter(|id| holds(answer(**id))).count() > half.len()
            };
            halves.iter().all(is_majority)
        };
        let could_win = in_each_half(&|answer| answer != 0);
        let expected = match (in_each_half(&|answer| answer == 1), could_win) {
            (true, _) => Tally::Won,
            (false, true) => Tally::Open,
            (false, false) => Tally::Lost,
        };
        assert_eq!(voters.tally(&ballots), expected, "case {case} of {voters:?}");
        let reached = (0..3).filter(|value| in_each_half(&|answer| answer >= *value)).max();
        let value = |voter: NodeId| answer(voter.0 as usize);
        assert_eq!(Some(voters.reached(value)), reached, "case {case} of {voters:?}");
    }
}

/// Two majorities share a voter. All safety of raft rests on this.
#[test]
fn majorities_intersect() {
    for voters in 1..=9 {
        let majority = majority(voters);
        assert!(2 * majority > voters, "two majorities of {voters} can be apart");
        assert!(2 * (majority - 1) <= voters, "{majority} of {voters} is more than needed");
    }
}
