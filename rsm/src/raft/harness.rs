//! A cluster of replicas under full control, for scripts (`script.rs`) and random histories (`raft_test.rs`).
//!
//! Nothing happens by itself. Messages wait in a network until they are delivered, lost or doubled. Writes wait
//! until they are completed. Each node has a clock of its own, which a test must move. So a test can have every
//! order of events. The harness knows what each disk really holds, and shows every step to [`Oracle`].
//!
//! ```text
//!   input ──► Raft ──hand_out──► messages ──► network ──deliver──► another node's input
//!                       ├──────► write    ──► writing ──persist──► disk, then Raft::appended
//!                       ├──────► fetch    ──► reading ──fetch────► Raft::fetched
//!                       └──────► committed ─► machine ──apply────► Raft::applied
//! ```

use super::{
    Append, Fetch, FetchPurpose, NotLeader, Proposed, Raft, RaftConfig, Ready, Recovered, RoleKind,
    Terms, Voters, Window, oracle::Oracle,
};
use crate::{
    entry::{Entry, Payload},
    message::{Envelope, Message},
    types::{
        EntryId, GroupEpoch, GroupId, HardState, Index, NodeId, Position, Term, Tick, WriteId,
    },
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    ops::Range,
};

const GROUP: GroupId = GroupId(1);

/// The options of a cluster, the same for all replicas.
#[derive(Clone)]
pub(super) struct Options {
    pub nodes: u32,
    /// The configuration. `None` when all nodes vote.
    pub voters: Option<Voters>,
    pub election_ticks: Range<u64>,
    pub tell_commit_ticks: u64,
    pub window: Window,
    pub append_bytes_max: usize,
    pub apply_bytes_max: usize,
    pub cache_bytes_max: usize,
    pub campaigns_first: Option<NodeId>,
    /// How many entries at the end of the log a restart finds in memory.
    pub tail: usize,
    pub seed: u64,
    /// Whether the oracle judges. It does not where a script forges messages.
    pub is_judged: bool,
    /// Whether the state machine applies entries as soon as it gets them.
    pub applies_at_once: bool,
    /// Whether every line of what happens is written down.
    pub is_told: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            voters: None,
            election_ticks: 10..20,
            tell_commit_ticks: 2,
            window: Window { messages: 8, bytes: 1 << 20 },
            append_bytes_max: 1 << 20,
            apply_bytes_max: 1 << 20,
            cache_bytes_max: 1 << 20,
            campaigns_first: None,
            tail: usize::MAX,
            seed: 1,
            is_judged: true,
            applies_at_once: true,
            is_told: true,
        }
    }
}

impl Options {
    fn voters(&self) -> Voters {
        let all = || Voters::new((1..=self.nodes).map(NodeId));
        self.voters.clone().unwrap_or_else(all)
    }
}

/// What is really durable of a replica.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub hard_state: HardState,
    /// The entry before the first of `entries`.
    pub floor: EntryId,
    /// The position of the last command up to the floor.
    pub floor_position: Position,
    pub entries: Vec<Entry>,
}

impl Disk {
    fn write(&mut self, append: Append) {
        if let Some(hard_state) = append.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = append.entries.first() {
            assert!(
                first.index > self.floor.index,
                "{} below the floor {}",
                first.id(),
                self.floor
            );
            assert!(first.index <= self.last().index.next(), "a gap before {}", first.id());
            self.entries.truncate(self.place(first.index));
            self.entries.extend(append.entries);
        }
    }

    fn read(&self, fetch: &Fetch) -> Vec<Entry> {
        let (first, end) = (self.place(fetch.range.start), self.place(fetch.range.end));
        self.entries.get(first..end.min(self.entries.len())).unwrap_or_default().to_vec()
    }

    /// The place in `entries` of the one at `index`, which lies above the floor.
    fn place(&self, index: Index) -> usize {
        (index.0 - self.floor.index.0) as usize - 1
    }

    pub(super) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.floor, Entry::id)
    }

    pub(super) fn term(&self, index: Index) -> Option<Term> {
        if index == self.floor.index {
            return Some(self.floor.term);
        }
        (index > self.floor.index)
            .then(|| self.entries.get(self.place(index)))?
            .map(|entry| entry.term)
    }

    /// Forgets the entries up to `index`.
    pub(super) fn raise_floor(&mut self, index: Index) {
        if index > self.floor.index {
            let place = self.place(index);
            (self.floor, self.floor_position) =
                (self.entries[place].id(), self.entries[place].end());
            self.entries.drain(..=place);
        }
    }

    fn terms(&self) -> Terms {
        let mut terms = Terms::new(self.floor, Vec::new(), self.floor.index);
        self.entries.iter().for_each(|entry| terms.push(entry.term));
        terms
    }
}

/// A read of entries that is under way.
pub(super) struct Reading {
    fetch: Fetch,
    /// What the disk held when it began.
    begun: Vec<Entry>,
}

/// The moment whose disk content a read shows. A read may last as long as it likes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Begin,
    End,
}

/// One node: its replica, while it is up, and its surroundings.
pub(super) struct Node {
    pub raft: Option<Raft>,
    pub now: Tick,
    pub disk: Disk,
    /// Writes that are handed out and not complete. A crash loses them.
    pub writing: VecDeque<Append>,
    pub reading: VecDeque<Reading>,
    /// What the state machine has applied since the last start.
    pub machine: Vec<Entry>,
    /// The floor at the last start: what lies at or below it counts as applied.
    pub machine_floor: Index,
    /// The last entry that the state machine was given, while it is busy with it.
    pub applying: Option<Index>,
    /// Proposals and reads that were confirmed and failed since the last start.
    pub confirmed: BTreeSet<u64>,
    pub failed: BTreeSet<u64>,
    starts: u64,
    seen: Seen,
}

/// What was last told about a replica.
#[derive(Clone, Copy, Default, PartialEq)]
struct Seen {
    role: Option<RoleKind>,
    term: Term,
    leader: Option<NodeId>,
    committed: Index,
    is_faulty: bool,
}

/// See the module.
pub(super) struct Cluster {
    pub options: Options,
    pub nodes: BTreeMap<NodeId, Node>,
    /// The messages on their way, oldest first.
    pub network: Vec<Envelope>,
    /// The pairs of sender and receiver whose messages are lost.
    pub cuts: BTreeSet<(NodeId, NodeId)>,
    pub oracle: Oracle,
    told: String,
}

impl Cluster {
    pub(super) fn new(options: Options) -> Self {
        let ids: Vec<NodeId> = (1..=options.nodes).map(NodeId).collect();
        let mut cluster = Self {
            oracle: Oracle::new(options.voters()),
            options,
            nodes: BTreeMap::new(),
            network: Vec::new(),
            cuts: BTreeSet::new(),
            told: String::new(),
        };
        for id in ids {
            cluster.nodes.insert(id, Node::new());
            cluster.restart(id, 0);
        }
        cluster
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn raft(&self, id: NodeId) -> Option<&Raft> {
        self.nodes.get(&id)?.raft.as_ref()
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of the cluster")
    }

    /// What has happened since the last call, a line each.
    pub(super) fn take_told(&mut self) -> String {
        std::mem::take(&mut self.told)
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.options.is_told {
            writeln!(self.told, "{}", line()).expect("a string takes all");
        }
    }

    /// Gives a replica that is up an input, and looks at what it did.
    pub(super) fn input<T>(
        &mut self,
        id: NodeId,
        input: impl FnOnce(&mut Raft, Tick) -> T,
    ) -> Option<T> {
        let node = self.node(id);
        let now = node.now;
        let output = input(node.raft.as_mut()?, now);
        self.observe(id);
        Some(output)
    }

    /// Moves a node's clock, and ticks the replica where its deadline says so.
    pub(super) fn pass(&mut self, id: NodeId, ticks: u64) {
        for _ in 0..ticks {
            let node = self.node(id);
            node.now = Tick(node.now.0 + 1);
            if self.is_due(id) {
                self.input(id, Raft::tick);
            }
        }
    }

    pub(super) fn is_due(&self, id: NodeId) -> bool {
        let now = self.nodes[&id].now;
        self.raft(id).and_then(Raft::deadline).is_some_and(|due| due <= now)
    }

    pub(super) fn propose(
        &mut self,
        id: NodeId,
        command: &str,
    ) -> Option<Result<Proposed, NotLeader>> {
        let command = Bytes::copy_from_slice(command.as_bytes());
        self.input(id, |raft, _| raft.propose(command))
    }

    pub(super) fn read(&mut self, id: NodeId, read: u64) -> Option<Result<(), NotLeader>> {
        self.oracle.registered(read);
        self.input(id, |raft, _| raft.read(read))
    }

    /// Takes what a replica wants done, and starts all of it.
    pub(super) fn hand_out(&mut self, id: NodeId) {
        while let Some(ready) = self.input(id, |raft, _| raft.ready()) {
            let has_applied = self.start(id, ready);
            if !has_applied {
                return;
            }
        }
    }

    /// Returns whether something was applied at once, so that there may be more to hand out.
    fn start(&mut self, id: NodeId, ready: Ready) -> bool {
        if let Some(append) = ready.append {
            self.tell(|| format!("{id} writes {}", show_append(&append)));
            if self.options.is_judged {
                let raft = self.nodes[&id].raft.as_ref().expect("it has handed out");
                self.oracle.wrote(&append, raft);
            }
            self.node(id).writing.push_back(append);
        }
        ready.messages.into_iter().for_each(|envelope| self.send(envelope));
        for fetch in ready.fetches {
            self.tell(|| format!("{id} fetches {}", show_fetch(&fetch)));
            let node = self.node(id);
            let begun = node.disk.read(&fetch);
            node.reading.push_back(Reading { fetch, begun });
        }
        for read in ready.reads {
            self.tell(|| format!("{id} confirms read {} at {}", read.read, read.index));
            self.oracle.confirmed(read.read, read.index);
            self.node(id).confirmed.insert(read.read);
        }
        for read in ready.failed_reads {
            self.tell(|| format!("{id} fails read {read}"));
            self.node(id).failed.insert(read);
        }
        self.give_to_machine(id, ready.committed)
    }

    fn give_to_machine(&mut self, id: NodeId, entries: Vec<Entry>) -> bool {
        let Some(last) = entries.last().map(|entry| entry.index) else { return false };
        self.tell(|| format!("{id} applies {}", show_entries(&entries)));
        if self.options.is_judged {
            self.oracle.applies(self.nodes[&id].machine_last(), &entries);
        }
        let node = self.node(id);
        node.machine.extend(entries);
        node.applying = Some(last);
        if self.options.applies_at_once {
            self.finish_apply(id);
        }
        self.options.applies_at_once
    }

    /// The state machine has applied what it was given.
    pub(super) fn finish_apply(&mut self, id: NodeId) {
        if let Some(last) = self.node(id).applying.take() {
            self.input(id, |raft, _| raft.applied(last));
        }
    }

    fn send(&mut self, envelope: Envelope) {
        if self.options.is_judged {
            self.oracle.sent(&envelope, &self.nodes[&envelope.from]);
        }
        let is_cut = self.cuts.contains(&(envelope.from, envelope.to));
        let lost = if is_cut { " (lost)" } else { "" };
        self.tell(|| format!("{}{lost}", show_envelope(&envelope)));
        if !is_cut {
            self.network.push(envelope);
        }
    }

    /// Takes a message out of the network and gives it to its receiver, if that is up.
    pub(super) fn deliver(&mut self, at: usize) -> NodeId {
        let envelope = self.network.remove(at);
        let to = envelope.to;
        if !self.cuts.contains(&(envelope.from, to)) {
            self.input(to, |raft, now| raft.step(now, envelope));
        }
        to
    }

    /// Makes the `count` oldest writes durable, and reports the last of them, which stands for all.
    pub(super) fn persist(&mut self, id: NodeId, count: usize) {
        let count = count.min(self.node(id).writing.len());
        let last = count.checked_sub(1).map(|last| self.node(id).writing[last].write);
        self.land(id, count);
        if let Some(last) = last {
            self.complete(id, last);
        }
    }

    /// Makes the `count` oldest writes durable, and reports nothing.
    pub(super) fn land(&mut self, id: NodeId, count: usize) {
        let node = self.node(id);
        let landed: Vec<Append> = node.writing.drain(..count.min(node.writing.len())).collect();
        landed.into_iter().for_each(|append| node.disk.write(append));
    }

    /// Tells the replica that a write is durable.
    pub(super) fn complete(&mut self, id: NodeId, write: WriteId) {
        self.tell(|| format!("{id} durable w{write}"));
        self.input(id, |raft, now| raft.appended(now, write));
    }

    /// Answers the oldest fetch with at most `count` entries. Without entries the read has failed.
    pub(super) fn fetch(&mut self, id: NodeId, count: usize, moment: Moment) {
        let node = self.node(id);
        let Some(Reading { fetch, begun }) = node.reading.pop_front() else { return };
        let mut entries = match moment {
            Moment::Begin => begun,
            Moment::End => node.disk.read(&fetch),
        };
        entries.truncate(count);
        self.tell(|| format!("{id} fetched {}", show_entries(&entries)));
        self.input(id, |raft, _| raft.fetched(fetch.purpose, entries));
    }

    /// The node loses its memory, and all writes but the `kept` oldest, which land unreported.
    pub(super) fn crash(&mut self, id: NodeId, kept: usize) {
        self.land(id, kept);
        let node = self.node(id);
        let lost = node.writing.len();
        *node = Node { disk: node.disk.clone(), now: node.now, starts: node.starts, ..Node::new() };
        self.tell(|| format!("{id} crashes, {lost} writes lost"));
    }

    /// The node starts on what is durable; it abstains from elections for some ticks.
    pub(super) fn restart(&mut self, id: NodeId, abstains: u64) {
        let options = self.options.clone();
        let node = self.nodes.entry(id).or_insert_with(Node::new);
        let tail = node.disk.entries.len().saturating_sub(options.tail);
        let recovered = Recovered {
            hard_state: node.disk.hard_state,
            terms: node.disk.terms(),
            tail: node.disk.entries[tail..].to_vec(),
            end: node.disk.entries.last().map_or(node.disk.floor_position, Entry::end),
        };
        let config = RaftConfig::new(GROUP, id, options.voters());
        let config = RaftConfig {
            election_ticks: options.election_ticks,
            tell_commit_ticks: options.tell_commit_ticks,
            window: options.window,
            append_bytes_max: options.append_bytes_max,
            apply_bytes_max: options.apply_bytes_max,
            cache_bytes_max: options.cache_bytes_max,
            campaigns_first: options.campaigns_first == Some(id),
            abstains_until: Tick(node.now.0 + abstains),
            seed: options.seed << 16 | u64::from(id.0) << 8 | node.starts,
            ..config
        };
        node.machine_floor = node.disk.floor.index;
        node.starts += 1;
        node.raft = Some(Raft::new(config, recovered, node.now));
        node.seen = Seen::default();
        self.observe(id);
    }

    /// A cluster in which `leader` has won, and has told the others that its first entry is committed.
    pub(super) fn led_by(leader: NodeId, options: Options) -> Self {
        let mut cluster =
            Self::new(Options { campaigns_first: Some(leader), is_told: false, ..options });
        cluster.input(leader, Raft::tick);
        for _ in 0..10 {
            for id in cluster.ids() {
                cluster.hand_out(id);
                cluster.persist(id, usize::MAX);
                cluster.hand_out(id);
            }
            (0..cluster.network.len()).for_each(|_| _ = cluster.deliver(0));
        }
        cluster
    }

    /// Takes the replica of a node out of its hands.
    pub(super) fn take(&mut self, id: NodeId) -> Raft {
        self.node(id).raft.take().expect("it is up")
    }

    /// The heartbeat of the node `from` reaches all other nodes that it can reach, and their answers come back.
    /// The engine does this for all groups of two shards at once.
    pub(super) fn beat(&mut self, from: NodeId) {
        for to in self.ids() {
            if to == from || self.cuts.contains(&(from, to)) || self.raft(to).is_none() {
                continue;
            }
            let Some(raft) = self.raft(from) else { return };
            let term = raft.term();
            let is_followed = if raft.role() == RoleKind::Leader {
                self.input(to, |raft, now| raft.vouch(now, from, term)).unwrap_or(false)
            } else {
                self.input(to, |raft, now| raft.unvouch(now, from));
                false
            };
            if self.cuts.contains(&(to, from)) {
                continue;
            }
            self.input(from, |raft, now| match is_followed {
                true => raft.confirm(now, to),
                false => raft.unconfirm(now, to),
            });
        }
    }

    /// Writes down what has changed at a replica, and shows the step to the oracle.
    fn observe(&mut self, id: NodeId) {
        let before = self.nodes[&id].seen;
        let Some(raft) = self.raft(id) else { return };
        let after = Seen {
            role: Some(raft.role()),
            term: raft.term(),
            leader: raft.leader(),
            committed: raft.committed(),
            is_faulty: raft.fault().is_some(),
        };
        super::invariants::check(raft);
        assert!(after.term >= before.term, "{id}: term {} after {}", after.term, before.term);
        assert!(after.committed >= before.committed, "{id}: its commit went back");
        if after != before && self.options.is_told {
            let line = show_change(id, raft, before, after);
            self.told.push_str(&line);
        }
        self.node(id).seen = after;
        if self.options.is_judged {
            self.oracle.judge(id, &self.nodes);
        }
    }
}

impl Node {
    fn new() -> Self {
        Self {
            raft: None,
            now: Tick(0),
            disk: Disk::default(),
            writing: VecDeque::new(),
            reading: VecDeque::new(),
            machine: Vec::new(),
            machine_floor: Index(0),
            applying: None,
            confirmed: BTreeSet::new(),
            failed: BTreeSet::new(),
            starts: 0,
            seen: Seen::default(),
        }
    }

    /// The last entry that the state machine has applied.
    fn machine_last(&self) -> Index {
        self.machine.last().map_or(self.machine_floor, |entry| entry.index)
    }
}

fn show_change(id: NodeId, raft: &Raft, before: Seen, after: Seen) -> String {
    let mut lines = String::new();
    let place = |seen: Seen| (seen.role, seen.term, seen.leader);
    if before.role.is_some() && place(before) != place(after) {
        let leader = match after.leader {
            Some(leader) if leader != id => format!(" of {leader}"),
            _ => String::new(),
        };
        lines += &format!("{id} is {}{leader} in t{}\n", show_role(raft.role()), after.term);
    }
    if before.role.is_some() && before.committed != after.committed {
        lines += &format!("{id} commits {}\n", after.committed);
    }
    if let Some(fault) = raft.fault().filter(|_| !before.is_faulty) {
        lines += &format!("{id} STOPS: {fault}\n");
    }
    lines
}

fn show_role(role: RoleKind) -> &'static str {
    match role {
        RoleKind::Follower => "follower",
        RoleKind::PreCandidate => "pre-candidate",
        RoleKind::Candidate => "candidate",
        RoleKind::Leader => "leader",
    }
}

fn show_entry(entry: &Entry) -> String {
    match &entry.payload {
        Payload::Noop => format!("{}:noop", entry.id()),
        Payload::Commands(commands) => {
            let shown: Vec<_> = commands.iter().map(|command| show_command(&command)).collect();
            format!("{}:{}", entry.id(), shown.join(","))
        }
    }
}

fn show_command(command: &[u8]) -> String {
    if command.len() > 16 {
        format!("{} bytes", command.len())
    } else {
        String::from_utf8_lossy(command).into_owned()
    }
}

pub(super) fn show_entries(entries: &[Entry]) -> String {
    format!("[{}]", entries.iter().map(show_entry).collect::<Vec<_>>().join(" "))
}

fn show_append(append: &Append) -> String {
    let hard_state = append.hard_state.map_or(String::new(), |hard_state| {
        let vote = hard_state.vote.map_or("-".to_string(), |vote| vote.to_string());
        format!(" term={} vote={vote}", hard_state.term)
    });
    let entries = match append.entries.is_empty() {
        true => String::new(),
        false => format!(" {}", show_entries(&append.entries)),
    };
    format!("w{}{hard_state}{entries}", append.write)
}

fn show_fetch(fetch: &Fetch) -> String {
    match fetch.purpose {
        FetchPurpose::Apply => format!("{:?} to apply", fetch.range),
        FetchPurpose::Send(to) => format!("{:?} for {to}", fetch.range),
    }
}

pub(super) fn show_envelope(envelope: &Envelope) -> String {
    let what = match &envelope.message {
        Message::PreVote { last } => format!("PreVote last={last}"),
        Message::PreVoteReply { granted } => format!("PreVoteReply granted={granted}"),
        Message::Vote { last, forced: false } => format!("Vote last={last}"),
        Message::Vote { last, forced: true } => format!("Vote last={last} forced"),
        Message::VoteReply { granted } => format!("VoteReply granted={granted}"),
        Message::Append { prev, entries, committed } => {
            format!("Append prev={prev} {} commit={committed}", show_entries(entries))
        }
        Message::AppendReply { matched } => format!("AppendReply matched={matched}"),
        Message::AppendReject { prev, hint } => format!("AppendReject prev={prev} hint={hint}"),
        Message::ReadProbe { round } => format!("ReadProbe round={round}"),
        Message::ReadProbeReply { round } => format!("ReadProbeReply round={round}"),
        Message::TimeoutNow => "TimeoutNow".to_string(),
        Message::Stale => "Stale".to_string(),
    };
    let epoch = match envelope.epoch {
        GroupEpoch::FIRST => String::new(),
        epoch => format!(" epoch={epoch}"),
    };
    format!("{}->{} t{}{epoch} {what}", envelope.from, envelope.to, envelope.term)
}
