//! Each test gives the audit a false statement, which it must find, or only true ones, in which it
//! must find nothing.

use super::{Audit, streams::Told};
use crate::sim::{Crash, SimDisk, Watcher, World, WorldOptions};
use bytes::Bytes;
use purlin::Runtime as _;
use purlin_rsm::{
    ClusterId, Command, Entry, EntryId, Envelope, GroupEpoch, GroupId, HardState, Identity,
    Incarnation, Index, Message, NodeId, Payload, Position, Sequence, ShardId, Term,
};
use purlin_storage::{Batch, Disk as _, Durability, Wal, WalConfig};
use purlin_transport::{PeerShard, inspect::Content};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

const GROUP: GroupId = GroupId(1);

/// Three nodes, each with a real WAL on a simulated disk, and an audit that looks on. What they say is
/// the test's to make up.
struct Lab {
    world: World,
    audit: Rc<Audit>,
    wals: RefCell<BTreeMap<u32, Rc<Wal<SimDisk>>>>,
}

impl Lab {
    fn new() -> Self {
        Self::with_voters(3)
    }

    /// Nodes 1 to 3 of more voters.
    fn with_voters(voters: u32) -> Self {
        let world = World::new(1, WorldOptions::default());
        let audit = Rc::new(Audit::new((1..=voters).map(NodeId).collect()));
        world.watch(audit.clone());
        let lab = Self { world, audit, wals: RefCell::default() };
        (1..=3).for_each(|node| lab.start(node, true));
        lab
    }

    /// Opens the WAL of a node, after making it when the node is new.
    fn start(&self, node: u32, is_new: bool) {
        let opened: Rc<RefCell<Option<Rc<Wal<SimDisk>>>>> = Rc::default();
        let told = opened.clone();
        self.world.start(NodeId(node), 1, move |runtime| {
            let told = told.clone();
            async move {
                let (disk, identity) = (runtime.disk(), identity(node));
                let config = WalConfig {
                    segment_bytes: 64 << 10,
                    durability: Durability::OnSync,
                    ..WalConfig::default()
                };
                if is_new {
                    Wal::create(&disk, identity, &config, 7).await.expect("an empty disk");
                }
                let mut random = || runtime.random();
                let opened = Wal::open(&disk, identity, &config, &mut random).await;
                let wal = opened.expect("a sound log").0;
                runtime.spawn(wal.clone().prepare_loop());
                *told.borrow_mut() = Some(wal.clone());
                wal.write_loop().await;
            }
        });
        let _ = self.world.run_until(Duration::from_secs(9), || opened.borrow().is_some());
        self.wals.borrow_mut().insert(node, opened.take().expect("it opens"));
    }

    /// Submits a batch, which sets out at once and is durable later.
    fn submit(&self, node: u32, state: Option<HardState>, entries: &[Entry]) -> Sequence {
        let mut batch = Batch::default();
        if let Some(state) = state {
            batch.hard_state(GROUP, state);
        }
        batch.entries(GROUP, entries);
        let sequence = self.wals.borrow()[&node].submit(batch).expect("there is room");
        // The write sets out, and no time passes.
        let _ = self.world.run_until(Duration::ZERO, || true);
        sequence
    }

    /// Time enough for all that is submitted to become durable.
    fn settle(&self) {
        let _ = self.world.run_for(Duration::from_secs(1));
    }

    /// The nodes hold entries 1 to 3 of term 1, by the vote for node 1, all of it durable.
    fn agreed() -> Self {
        let lab = Self::new();
        for node in 1..=3 {
            lab.submit(node, Some(voted(1, 1)), &entries(1, 1..4));
        }
        lab.settle();
        lab
    }

    /// A node says something to another.
    fn tell(&self, from: u32, to: u32, term: u64, message: Message) {
        let (from, to, term) = (NodeId(from), NodeId(to), Term(term));
        let envelope = Envelope { from, to, group: GROUP, epoch: GroupEpoch::FIRST, term, message };
        self.tell_frame(from, Sequence(0), vec![envelope]);
    }

    fn tell_frame(&self, node: NodeId, durable: Sequence, envelopes: Vec<Envelope>) {
        let sender = PeerShard { node, shard: ShardId(0) };
        let content = Content::Messages(envelopes);
        self.audit.state.borrow_mut().told(Told { sender, durable, content });
    }

    /// Nothing was found so far.
    fn is_true(&self) {
        assert_eq!(self.audit.violations(), Vec::<String>::new());
    }

    /// One thing was found, and it says this.
    fn is_caught(&self, what: &str) {
        let found = self.audit.violations();
        assert!(found.len() == 1 && found[0].contains(what), "not {what:?}, but {found:#?}");
    }
}

fn identity(node: u32) -> Identity {
    let (cluster, incarnation) = (ClusterId(1), Incarnation(1));
    Identity { cluster, node: NodeId(node), incarnation, shard: ShardId(0) }
}

fn voted(term: u64, vote: u32) -> HardState {
    HardState { term: Term(term), vote: Some(NodeId(vote)), committed: Index(0) }
}

fn command(index: u64) -> Bytes {
    Bytes::from(format!("command {index}"))
}

/// The command with the number `of` in its text, at the entry `id`; each entry before has one command.
fn carried(id: EntryId, of: u64) -> Command {
    Command { id, position: Position(id.index.0), data: command(of) }
}

fn entries(term: u64, indices: std::ops::Range<u64>) -> Vec<Entry> {
    let entry = |index| Entry {
        term: Term(term),
        index: Index(index),
        before: Position(index - 1),
        payload: Payload::command(command(index)),
    };
    indices.map(entry).collect()
}

fn reply(matched: u64) -> Message {
    Message::AppendReply { matched: Index(matched) }
}

fn append(committed: u64) -> Message {
    Message::Append { prev: EntryId::default(), entries: Vec::new(), committed: Index(committed) }
}

fn vote() -> Message {
    Message::Vote { last: EntryId::default(), forced: false }
}

const GRANTED: Message = Message::VoteReply { granted: true };

#[test]
fn true_promises_are_never_called_lies() {
    let lab = Lab::agreed();
    lab.tell(1, 2, 1, vote());
    lab.tell(2, 1, 1, GRANTED);
    lab.tell(2, 1, 1, reply(3));
    lab.tell(1, 2, 1, append(3));
    lab.audit.proposed(GROUP, &command(2));
    lab.audit.applied(NodeId(1), GROUP, &carried(EntryId::new(Term(1), Index(2)), 2));
    lab.audit.acknowledged(GROUP, &command(2));
    lab.audit.scan(&lab.world);
    lab.is_true();
    let counts = lab.audit.counts();
    assert_eq!((counts.votes, counts.acknowledgements, counts.recovered), (2, 1, 3));
}

#[test]
fn an_acknowledgement_before_its_write_is_durable() {
    let lab = Lab::agreed();
    lab.submit(2, None, &entries(1, 4..6));
    lab.tell(2, 1, 1, reply(3));
    lab.is_true();
    lab.tell(2, 1, 1, reply(4));
    lab.is_caught("A1: acknowledges 4");
}

#[test]
fn an_acknowledgement_of_what_is_written_a_second_time() {
    let lab = Lab::agreed();
    lab.submit(2, None, &entries(1, 3..4));
    lab.tell(2, 1, 1, reply(3));
    lab.is_caught("A1: acknowledges 3");
}

#[test]
fn an_acknowledgement_in_a_term_that_is_not_durable() {
    let lab = Lab::agreed();
    lab.submit(2, Some(HardState { term: Term(2), ..HardState::default() }), &[]);
    lab.tell(2, 3, 2, reply(3));
    lab.is_caught("A1: acknowledges in term 2; durable is");
}

#[test]
fn a_log_that_is_founded_a_second_time() {
    let lab = Lab::agreed();
    // What speaks is out of its start.
    lab.tell(2, 1, 1, reply(3));
    lab.world.crash(NodeId(2), Crash::Kill);
    let _ = lab.world.run_for(Duration::from_secs(1));
    lab.world.start(NodeId(2), 1, |runtime| async move {
        let disk = runtime.disk().subdirectory("again");
        disk.create_dir().await.expect("there is none");
        let made = Wal::create(&disk, identity(2), &WalConfig::default(), 7).await;
        made.expect("an empty directory");
    });
    lab.settle();
    lab.is_caught("founds a log that was in use");
}

#[test]
fn two_commits_of_one_place() {
    let lab = Lab::agreed();
    lab.tell(1, 2, 1, append(3));
    lab.submit(3, Some(voted(2, 3)), &entries(2, 3..4));
    lab.is_caught("replaces 3@1, which is committed");
    lab.settle();
    lab.tell(3, 2, 2, append(3));
    let found = lab.audit.violations().join("; ");
    assert!(found.contains("commits 3@2, and committed is 3@1"), "{found}");
}

#[test]
fn a_vote_before_it_is_durable() {
    let lab = Lab::agreed();
    lab.submit(2, Some(voted(2, 3)), &[]);
    lab.tell(2, 3, 2, GRANTED);
    lab.is_caught("A1: votes in term 2 for 3");
}

#[test]
fn a_vote_asked_for_before_the_own_one_is_durable() {
    let lab = Lab::agreed();
    lab.submit(2, Some(voted(2, 2)), &[]);
    lab.tell(2, 3, 2, vote());
    lab.is_caught("A1: votes in term 2 for 2");
}

#[test]
fn a_second_vote_in_a_term_long_after() {
    let lab = Lab::agreed();
    lab.tell(2, 1, 1, GRANTED);
    lab.submit(2, Some(voted(2, 2)), &[]);
    lab.settle();
    lab.tell(2, 3, 1, GRANTED);
    lab.is_caught("votes for 3 in term 1, and voted for 1");
}

#[test]
fn two_leaders_of_a_term() {
    let lab = Lab::agreed();
    lab.tell(1, 2, 1, append(0));
    lab.tell(2, 3, 1, append(0));
    lab.is_caught("leads term 1, and node 1 led it");
}

#[test]
fn a_leader_whose_own_vote_is_not_durable() {
    let lab = Lab::agreed();
    lab.submit(2, Some(voted(2, 2)), &[]);
    lab.tell(2, 3, 2, append(0));
    lab.is_caught("A1: leads in term 2");
}

#[test]
fn a_commit_that_no_majority_holds() {
    let lab = Lab::agreed();
    lab.submit(1, None, &entries(1, 4..5));
    lab.settle();
    lab.submit(2, None, &entries(1, 4..5));
    lab.tell(1, 3, 1, append(4));
    lab.is_caught("commits 4 in term 1; durable on 1 of 3");
}

#[test]
fn a_leader_without_what_was_committed() {
    let lab = Lab::new();
    for node in 1..=2 {
        lab.submit(node, Some(voted(1, 1)), &entries(1, 1..4));
    }
    lab.submit(3, Some(voted(2, 3)), &entries(1, 1..2));
    lab.settle();
    lab.tell(1, 2, 1, append(3));
    lab.is_true();
    lab.tell(3, 2, 2, append(0));
    lab.is_caught("leads term 2 without the committed 3@1");
}

/// A message of a replaced leader may come late, and the replaced leader lacks what the next leader has
/// committed. The directory of the next leader is corrupted, so that only what the others apply is known.
#[test]
fn a_leader_of_long_ago_that_is_heard_late() {
    for is_heard in [false, true] {
        let lab = Lab::new();
        Watcher::corrupted(&*lab.audit, Duration::ZERO, NodeId(3));
        lab.submit(1, Some(voted(4, 1)), &entries(1, 1..4));
        lab.submit(2, Some(voted(5, 3)), &entries(1, 1..4));
        lab.submit(2, None, &entries(3, 4..5));
        lab.settle();
        if is_heard {
            lab.tell(3, 2, 5, append(4));
        }
        lab.tell(3, 2, 5, reply(4));
        lab.audit.applied(NodeId(2), GROUP, &carried(EntryId::new(Term(3), Index(4)), 4));
        // In term 2 it led for certain before the entry was made, and in term 4 perhaps before its commit.
        lab.tell(1, 2, if is_heard { 4 } else { 2 }, append(0));
        lab.is_true();
    }
}

#[test]
fn a_committed_entry_that_is_replaced() {
    let lab = Lab::agreed();
    lab.tell(1, 2, 1, append(3));
    lab.submit(2, Some(voted(2, 2)), &entries(2, 3..4));
    lab.is_caught("replaces 3@1, which is committed");
}

/// Of two entries at one index a leader commits its own, even if more nodes hold the other one.
#[test]
fn a_leader_commits_the_entry_of_its_own_log() {
    let lab = Lab::with_voters(5);
    (4..=5).for_each(|node| Watcher::corrupted(&*lab.audit, Duration::ZERO, NodeId(node)));
    for node in 1..=2 {
        lab.submit(node, Some(voted(1, 1)), &entries(1, 1..5));
    }
    lab.submit(3, Some(voted(1, 1)), &entries(1, 1..4));
    lab.submit(3, Some(voted(2, 3)), &entries(2, 4..5));
    lab.settle();
    (4..=5).for_each(|node| lab.tell(node, 3, 2, reply(4)));
    lab.tell(3, 1, 2, append(4));
    lab.submit(1, Some(voted(2, 3)), &entries(2, 4..5));
    lab.is_true();
}

/// A corrupted leader commits, and nobody knows which entry it means: not the entry of a node that has no vote
/// in this.
#[test]
fn what_a_corrupted_leader_commits_is_known_only_when_it_can_be_one_thing() {
    let lab = Lab::new();
    Watcher::corrupted(&*lab.audit, Duration::ZERO, NodeId(1));
    lab.submit(2, Some(voted(2, 1)), &entries(1, 1..5));
    lab.submit(3, Some(voted(2, 1)), &entries(1, 1..4));
    lab.submit(3, None, &entries(2, 4..5));
    lab.settle();
    lab.audit.applied(NodeId(1), GROUP, &carried(EntryId::new(Term(2), Index(4)), 4));
    lab.audit.acknowledged(GROUP, &command(4));
    lab.submit(2, None, &entries(2, 4..5));
    lab.is_true();
    lab.settle();
    lab.audit.applied(NodeId(1), GROUP, &carried(EntryId::new(Term(2), Index(4)), 4));
    lab.submit(2, Some(voted(3, 3)), &entries(3, 4..5));
    lab.is_caught("replaces 4@2, which is committed");
}

/// A follower applies a commit before its write of it is submitted. With two of three nodes corrupted, the only
/// log that is known is its own, which still has other entries there: they say nothing of what is committed.
#[test]
fn what_is_committed_is_not_read_from_a_log_that_does_not_hold_it() {
    let lab = Lab::agreed();
    (1..=2).for_each(|node| Watcher::corrupted(&*lab.audit, Duration::ZERO, NodeId(node)));
    lab.submit(3, Some(voted(2, 3)), &entries(2, 4..7));
    lab.settle();
    (1..=2).for_each(|node| lab.tell(node, 3, 3, reply(6)));
    lab.audit.applied(NodeId(3), GROUP, &carried(EntryId::new(Term(3), Index(5)), 5));
    lab.submit(3, Some(voted(3, 1)), &entries(3, 4..7));
    lab.is_true();
    lab.settle();
    lab.audit.applied(NodeId(3), GROUP, &carried(EntryId::new(Term(3), Index(6)), 6));
    lab.submit(3, Some(voted(4, 1)), &entries(4, 4..7));
    lab.is_caught("replaces 4@3, which is committed");
}

#[test]
fn two_entries_of_one_name() {
    let lab = Lab::agreed();
    let mut other = entries(1, 3..4);
    other[0].payload = Payload::Noop;
    lab.submit(2, None, &other);
    lab.is_caught("writes another 3@1");
}

#[test]
fn one_entry_behind_two_logs() {
    let lab = Lab::agreed();
    lab.submit(1, Some(voted(2, 1)), &entries(2, 4..5));
    lab.submit(2, Some(voted(2, 1)), &entries(2, 3..4));
    lab.is_caught("writes 3@2 behind an entry of term 1");
}

#[test]
fn a_term_that_goes_back_and_a_vote_that_changes() {
    let lab = Lab::agreed();
    lab.submit(2, Some(voted(1, 2)), &[]);
    lab.is_caught("writes HardState");
    let lab = Lab::agreed();
    lab.submit(2, Some(HardState::default()), &[]);
    lab.is_caught("writes HardState");
}

#[test]
fn a_frame_that_calls_durable_what_is_not() {
    let lab = Lab::agreed();
    let sequence = lab.submit(2, None, &entries(1, 4..5));
    lab.tell_frame(NodeId(2), Sequence(sequence.0 - 1), Vec::new());
    lab.is_true();
    lab.tell_frame(NodeId(2), sequence, Vec::new());
    lab.is_caught("I4: says that");
}

#[test]
fn replicas_that_apply_different_commands_or_anothers() {
    let lab = Lab::agreed();
    let id = EntryId::new(Term(1), Index(2));
    lab.audit.applied(NodeId(1), GROUP, &carried(id, 2));
    lab.is_true();
    lab.audit.applied(NodeId(2), GROUP, &carried(id, 3));
    lab.is_caught("applies another command at 2@1");
    let lab = Lab::agreed();
    lab.audit.proposed(GroupId(2), &command(2));
    lab.audit.applied(NodeId(1), GROUP, &carried(id, 2));
    lab.is_caught("applies at 2@1 what was proposed for");
}

#[test]
fn an_answer_for_what_no_majority_holds() {
    let lab = Lab::agreed();
    lab.audit.acknowledged(GROUP, &command(9));
    lab.is_caught("done and applied nowhere");
    let lab = Lab::agreed();
    lab.audit.applied(NodeId(1), GROUP, &carried(EntryId::new(Term(1), Index(3)), 3));
    for node in 2..=3 {
        lab.submit(node, None, &entries(1, 3..4));
    }
    lab.audit.acknowledged(GROUP, &command(3));
    lab.is_caught("a client's command is done at 3, durable on 1 voters");
}

#[test]
fn a_crash_takes_what_is_not_durable_and_leaves_what_is() {
    for how in [Crash::Kill, Crash::PowerCut] {
        let lab = Lab::agreed();
        lab.submit(2, None, &entries(1, 4..6));
        lab.world.crash(NodeId(2), how);
        lab.start(2, false);
        lab.tell(2, 1, 1, reply(3));
        lab.submit(2, None, &entries(1, 4..5));
        lab.settle();
        lab.tell(2, 1, 1, reply(4));
        lab.audit.scan(&lab.world);
        lab.is_true();
        lab.tell(2, 1, 1, reply(9));
        lab.is_caught("A1: acknowledges 9");
    }
}

#[test]
fn many_segments_and_starts_are_followed() {
    let lab = Lab::agreed();
    for round in 0..12 {
        for index in 4 + 8 * round..12 + 8 * round {
            lab.submit(2, None, &entries(1, index..index + 1));
            if index % 3 == 0 {
                lab.settle();
            }
        }
        let how = if round % 2 == 0 { Crash::Kill } else { Crash::PowerCut };
        let durable = lab.audit.state.borrow_mut().replica(NodeId(2), GROUP).unwrap().durable();
        lab.world.crash(NodeId(2), how);
        lab.start(2, false);
        lab.tell(2, 1, 1, reply(durable.0));
        let last = lab.audit.state.borrow_mut().replica(NodeId(2), GROUP).unwrap().last();
        assert!(last >= durable, "{last} is left, and {durable} was durable");
        // What was lost comes again.
        lab.submit(2, None, &entries(1, last.0 + 1..12 + 8 * round));
        lab.settle();
        lab.tell(2, 1, 1, reply(11 + 8 * round));
    }
    assert!(lab.audit.counts().headers > 16, "{:?}", lab.audit.counts());
    lab.audit.scan(&lab.world);
    lab.is_true();
}

#[test]
fn a_disk_that_has_forgotten_what_was_durable() {
    let lab = Lab::agreed();
    let old = lab.world.node(NodeId(2)).durable_image();
    lab.submit(2, Some(voted(2, 3)), &entries(1, 4..5));
    lab.settle();
    lab.audit.state.borrow_mut().scan_disk(NodeId(2), old);
    let found = lab.audit.violations().join("\n");
    assert!(
        found.contains("recovery finds None at 4") && found.contains("and HardState"),
        "{found}"
    );
}

#[test]
fn a_corrupted_node_is_believed_and_may_have_held_what_is_missing_at_the_end() {
    let lab = Lab::agreed();
    lab.audit.applied(NodeId(1), GROUP, &carried(EntryId::new(Term(1), Index(3)), 3));
    lab.audit.acknowledged(GROUP, &command(3));
    lab.world.crash(NodeId(2), Crash::Kill);
    lab.world.node(NodeId(2)).wipe();
    lab.tell(2, 1, 7, reply(9));
    lab.audit.scan(&lab.world);
    lab.is_true();
    lab.world.crash(NodeId(3), Crash::Kill);
    lab.submit(1, Some(voted(3, 1)), &entries(3, 4..5));
    lab.settle();
    lab.audit.applied(NodeId(1), GROUP, &carried(EntryId::new(Term(3), Index(4)), 4));
    lab.audit.acknowledged(GROUP, &command(4));
    lab.audit.scan(&lab.world);
    lab.is_true();
}

#[test]
fn a_corrupted_node_holds_no_more_than_it_did_and_has_claimed() {
    let lab = Lab::agreed();
    Watcher::corrupted(&*lab.audit, Duration::ZERO, NodeId(2));
    lab.audit.applied(NodeId(1), GROUP, &carried(EntryId::new(Term(1), Index(3)), 3));
    lab.is_true();
    lab.submit(1, None, &entries(1, 4..6));
    lab.settle();
    lab.tell(2, 1, 1, reply(4));
    lab.audit.applied(NodeId(1), GROUP, &carried(EntryId::new(Term(1), Index(4)), 4));
    lab.is_true();
    lab.audit.applied(NodeId(1), GROUP, &carried(EntryId::new(Term(1), Index(5)), 5));
    lab.is_caught("commits 5 in term 0; durable on 1 of 3");
}

#[test]
fn a_corrupted_node_that_leads_is_the_only_leader_of_its_term() {
    let lab = Lab::agreed();
    lab.tell(1, 2, 1, append(0));
    Watcher::corrupted(&*lab.audit, Duration::ZERO, NodeId(2));
    lab.tell(2, 1, 1, append(0));
    lab.is_caught("leads term 1, and node 1 led it");
}

/// A crash may leave the hard state without what is written behind it.
#[test]
fn a_commit_of_what_is_not_written_before() {
    let lab = Lab::agreed();
    let state = |committed| HardState { committed: Index(committed), ..voted(2, 1) };
    lab.submit(1, Some(state(3)), &[]);
    lab.settle();
    lab.is_true();
    lab.submit(1, Some(state(4)), &entries(2, 4..5));
    lab.is_caught("A7: group 1: writes that 4 is committed behind 3");
}

#[test]
fn a_commit_of_what_is_replaced_by_what_is_written_with_it() {
    let lab = Lab::agreed();
    for node in 1..=2 {
        lab.submit(node, None, &entries(1, 4..5));
    }
    lab.submit(3, Some(voted(2, 3)), &entries(2, 4..5));
    lab.submit(2, Some(voted(2, 3)), &entries(2, 4..5));
    lab.settle();
    lab.tell(3, 1, 2, append(4));
    lab.is_true();
    let state = HardState { committed: Index(4), ..voted(2, 3) };
    lab.submit(1, Some(state), &entries(2, 4..5));
    lab.is_caught("A7: group 1: writes that 4 is committed behind 4");
}

#[test]
fn what_a_minority_holds_at_the_end_was_not_to_be_acknowledged() {
    let lab = Lab::agreed();
    lab.submit(1, Some(voted(3, 1)), &entries(3, 4..5));
    lab.settle();
    lab.audit.applied(NodeId(1), GROUP, &carried(EntryId::new(Term(3), Index(4)), 4));
    lab.audit.acknowledged(GROUP, &command(4));
    lab.audit.scan(&lab.world);
    let found = lab.audit.violations().join("\n");
    assert!(found.contains("4@3 is acknowledged; 1 voters hold it at last"), "{found}");
}
