//! The pairs of this shard: this shard and one shard of another node that has replicas of the same
//! groups. For each pair: which groups each side leads, whether each side receives what the other sends,
//! and what that means for the groups of the pair.
//!
//! One heartbeat per pair and direction serves all groups. Only changes reach the groups: a heartbeat
//! that names the same groups as the last one costs the same for ten groups and for a hundred thousand.

mod candidates;
mod fitness;
mod without_room;

use self::{fitness::Fitness, without_room::WithoutRoom};
use crate::{
    placement::Placement,
    shard::{group::Standing, groups::Groups},
};
use purlin_rsm::{BootId, Envelope, EpochTerm, GroupId, Message, NodeId, Term, Tick};
use purlin_transport::{Condition, Facts, Following, Heartbeat, Leading, PeerShard};
use std::collections::BTreeMap;

/// See the module.
pub(crate) struct Pairs {
    me: NodeId,
    boot: BootId,
    /// A pair is silent when no heartbeat has come for this many ticks: the shortest election timeout.
    silence_ticks: u64,
    /// Which shard of each other node has which groups, once the node has said how many shards it has.
    placements: BTreeMap<NodeId, Placement>,
    pairs: BTreeMap<PeerShard, State>,
    /// Groups may wait for room to some peer, or have the turn.
    has_waiting: bool,
    /// It was told that all nodes are reached.
    is_all_told: bool,
}

/// The state of one pair.
struct State {
    leading: Leading,
    following: Following,
    /// The groups that both shards have, ascending.
    groups: Vec<GroupId>,
    /// We have a connection on which we write to the peer.
    is_reached: bool,
    /// We have a connection on which the peer writes to us.
    reaches_us: bool,
    /// When the latest heartbeat came whose set of groups we know; `None` while the peer is silent.
    heard: Option<Tick>,
    /// When the peer last confirmed groups that we lead, or was first asked to; `None` while it is
    /// silent.
    confirmed: Option<Tick>,
    /// The peer has confirmed all groups that we lead, and nothing has changed since.
    is_settled: bool,
    /// The timers of groups were started again. The next heartbeat must vouch for all its groups anew,
    /// even if it names the same ones as before.
    is_rearmed: bool,
    /// Whether the peer is fit to lead.
    fitness: Fitness,
    /// The groups whose appends to the peer found no room.
    without_room: WithoutRoom,
}

impl Pairs {
    pub(crate) fn new(me: NodeId, boot: BootId, silence_ticks: u64) -> Self {
        let (placements, pairs) = (BTreeMap::new(), BTreeMap::new());
        Self { me, boot, silence_ticks, placements, pairs, has_waiting: false, is_all_told: false }
    }

    /// The shard of `node` that has `group`, once `node` has said how many shards it has.
    pub(crate) fn home(&self, node: NodeId, group: GroupId) -> Option<PeerShard> {
        let placement = self.placements.get(&node)?;
        Some(PeerShard::new(node, placement.shard_of(group)))
    }

    /// Whether both connections of the pair are up, so that a request can go there and its reply can come
    /// back.
    pub(crate) fn is_connected(&self, pair: PeerShard) -> bool {
        self.pairs.get(&pair).is_some_and(|state| state.is_reached && state.reaches_us)
    }

    /// Whether the connection of the peer to us is up.
    pub(crate) fn reaches_us(&self, pair: PeerShard) -> bool {
        self.pairs.get(&pair).is_some_and(|state| state.reaches_us)
    }

    /// Whether all of `nodes` are reached, and this was not told before.
    pub(crate) fn take_all_reached(&mut self, nodes: &[NodeId]) -> bool {
        let is_news = !self.is_all_told && self.are_all_reached(nodes);
        self.is_all_told |= is_news;
        is_news
    }

    /// Whether each of `nodes` can be written to, on every shard that shares groups with this one.
    fn are_all_reached(&self, nodes: &[NodeId]) -> bool {
        let shared = |state: &&State| !state.groups.is_empty();
        nodes.iter().all(|node| self.placements.contains_key(node))
            && self.pairs.values().filter(shared).all(|state| state.is_reached)
    }

    /// A node has said how many shards it has: its pairs are made anew if the number has changed.
    pub(crate) fn learn(&mut self, node: NodeId, shards: u16, groups: &Groups) {
        let placement = Placement::new(shards);
        if self.placements.insert(node, placement) == Some(placement) {
            return;
        }
        self.pairs.retain(|pair, _| pair.node != node);
        for group in groups.iter().filter(|group| group.raft.voters().contains(node)) {
            let pair = PeerShard::new(node, placement.shard_of(group.id));
            let state = self.pairs.entry(pair).or_insert_with(|| State::new(self.boot));
            state.groups.push(group.id);
            if group.known.leads {
                let epoch = group.raft.epoch();
                state.leading.lead(group.id, EpochTerm::new(epoch, group.known.term));
            }
        }
    }

    /// The connection on which we write is up. What was sent on an earlier connection may be lost.
    pub(crate) fn outbound_up(&mut self, now: Tick, facts: &Facts, groups: &mut Groups) {
        self.learn(facts.node, facts.shards, groups);
        let Some(state) = self.pairs.get_mut(&facts.pair()) else { return };
        state.is_reached = true;
        state.leading.connected();
        // Each group begins anew.
        state.without_room = WithoutRoom::default();
        for id in &state.groups {
            if let Some(group) = groups.input(*id) {
                group.raft.connected(now, facts.node);
            }
        }
    }

    /// The connection on which we write is lost.
    pub(crate) fn outbound_lost(&mut self, now: Tick, pair: PeerShard, groups: &mut Groups) {
        let Some(state) = self.pairs.get_mut(&pair) else { return };
        state.is_reached = false;
        for id in &state.groups {
            if let Some(group) = groups.input(*id) {
                group.raft.disconnected(now, pair.node);
            }
        }
    }

    /// The connection on which the peer writes is up. If the peer has another boot id than before, its
    /// earlier heartbeats vouch for nothing any more (safety R4).
    pub(crate) fn inbound_up(&mut self, now: Tick, facts: &Facts, groups: &mut Groups) {
        self.learn(facts.node, facts.shards, groups);
        let Some(state) = self.pairs.get_mut(&facts.pair()) else { return };
        let lost = state.following.connected(facts.start().boot).lost;
        unvouch(now, facts.node, lost.iter().map(|(group, _)| *group), groups);
        state.is_rearmed = true;
        state.reaches_us = true;
    }

    /// The connection on which the peer writes is lost. Its process may be gone, so the groups that it
    /// leads campaign soon. If it still runs, the replicas that still hear from it refuse the pre-votes.
    pub(crate) fn inbound_lost(&mut self, now: Tick, pair: PeerShard, groups: &mut Groups) {
        let Some(state) = self.pairs.get_mut(&pair) else { return };
        state.reaches_us = false;
        state.heard = None;
        state.is_rearmed = true;
        unvouch(now, pair.node, state.groups.iter().copied(), groups);
    }

    /// A heartbeat has come. Returns whether to reply at once, because it names a set that we do not
    /// know.
    pub(crate) fn receive(
        &mut self,
        now: Tick,
        pair: PeerShard,
        heartbeat: &Heartbeat,
        groups: &mut Groups,
    ) -> bool {
        let reaches_us = |state: &&mut State| state.reaches_us;
        // After a change of its number of shards a peer may still send on an older connection: that is
        // ignored.
        let Some(state) = self.pairs.get_mut(&pair).filter(reaches_us) else { return false };
        state.fitness.told(now, &heartbeat.condition);
        let changes = state.following.receive(heartbeat);
        unvouch(now, pair.node, changes.lost.iter().map(|(group, _)| *group), groups);
        if !changes.is_unknown {
            if state.heard.replace(now).is_none() {
                // The peer acts by now, so the first leader of a fresh group may ask the peer for its
                // vote.
                for id in &state.groups {
                    groups.input(*id).expect("a group of this shard").raft.campaign_if_fresh(now);
                }
            }
            // After a silence the heartbeat is for all groups that it names, else for those that are new in it.
            let ids: Vec<GroupId> = match std::mem::take(&mut state.is_rearmed) {
                true => state.following.vouched().map(|(group, _)| group).collect(),
                false => changes.vouched.iter().map(|(group, _)| *group).collect(),
            };
            state.vouch(now, pair.node, ids, groups);
        }
        if let Some(reply) = &heartbeat.reply {
            let refused = state.leading.read(reply);
            tell_terms(now, self.me, pair.node, &refused, groups);
            state.confirm(now, pair.node, &refused, groups);
        }
        changes.is_unknown
    }

    /// The heartbeat for a peer's shard, which tells it how this one is.
    pub(crate) fn beat(&mut self, pair: PeerShard, condition: &Condition) -> Option<Heartbeat> {
        let state = self.pairs.get_mut(&pair)?;
        let heartbeat = state.leading.beat(state.following.reply());
        Some(Heartbeat { condition: condition.clone(), ..heartbeat })
    }

    /// The heartbeat was not sent: the next one tells all that it would have told.
    pub(crate) fn beat_unsent(&mut self, pair: PeerShard, heartbeat: &Heartbeat) {
        if let Some(state) = self.pairs.get_mut(&pair) {
            state.leading.unsent(heartbeat);
        }
    }

    /// The peer shards to which heartbeats go.
    pub(crate) fn reached(&self) -> Vec<PeerShard> {
        self.pairs.iter().filter(|(_, state)| state.is_reached).map(|(pair, _)| *pair).collect()
    }

    /// Notices pairs that have fallen silent.
    pub(crate) fn check_silence(&mut self, now: Tick, groups: &mut Groups) {
        let limit = Tick(now.0.saturating_sub(self.silence_ticks));
        for (pair, state) in &mut self.pairs {
            if state.heard.is_some_and(|heard| heard <= limit) {
                state.heard = None;
                state.is_rearmed = true;
                unvouch(now, pair.node, state.groups.iter().copied(), groups);
            }
            if state.confirmed.is_some_and(|confirmed| confirmed <= limit) {
                purlin_rsm::sometimes!("silent peer no longer counts for a quorum");
                state.confirmed = None;
                state.is_settled = false;
                for id in &state.groups {
                    if let Some(group) = groups.input(*id) {
                        group.raft.unconfirm(now, pair.node);
                    }
                }
            }
        }
    }

    /// The term, the leader or the role of a group has changed.
    pub(crate) fn standing_changed(
        &mut self,
        now: Tick,
        id: GroupId,
        standing: Standing,
        groups: &mut Groups,
    ) {
        let Some(epoch) = groups.get(id).map(|group| group.raft.epoch()) else { return };
        let own = EpochTerm::new(epoch, standing.term);
        for (pair, state) in
            self.pairs.iter_mut().filter(|(_, state)| state.groups.binary_search(&id).is_ok())
        {
            if standing.leads {
                state.leading.lead(id, own);
                state.is_settled = false;
                // A peer that never replies counts as silent from the election on. Otherwise a leader
                // that receives nothing would count its voters for ever (B17).
                state.confirmed.get_or_insert(now);
            } else {
                state.leading.resign(id);
            }
            let follows = |said| standing.leader == Some(pair.node) && said == own;
            match state.following.vouches(id) {
                Some(said) if follows(said) => state.following.accept(id),
                _ => state.following.refuse(id, own),
            }
        }
        if standing.leads {
            self.tell_new_leader(now, id, groups);
        }
    }

    /// Whether entries of `group` may go to `node` now: the groups that wait for room there take turns.
    pub(crate) fn may_send_entries(&self, node: NodeId, group: GroupId) -> bool {
        if !self.has_waiting {
            return true;
        }
        let state = self.home(node, group).and_then(|pair| self.pairs.get(&pair));
        state.is_none_or(|state| state.without_room.may_send(group))
    }

    /// Entries of `group` have gone out to `node`, and no more of them can now. If it had the turn, it has it no longer.
    pub(crate) fn has_sent_entries(&mut self, node: NodeId, group: GroupId) {
        let state = self.home(node, group).and_then(|pair| self.pairs.get_mut(&pair));
        if let Some(state) = state {
            state.without_room.end_turn(|turn| turn != group);
        }
    }

    /// An append of `group` to `node` did not go out, after others did if `has_sent`: it was `refused`, or other groups
    /// wait. The group waits for room. Without a pair it waits for the connection, which is told to each group.
    pub(crate) fn wait_for_room(
        &mut self,
        node: NodeId,
        group: GroupId,
        refused: bool,
        has_sent: bool,
    ) {
        let state = self.home(node, group).and_then(|pair| self.pairs.get_mut(&pair));
        let Some(State { without_room, .. }) = state else { return };
        self.has_waiting = true;
        purlin_rsm::sometimes!(refused, "group waits for room to a peer");
        purlin_rsm::sometimes!(!refused, "entries wait behind those of groups without room");
        if refused {
            without_room.refused(group, has_sent);
        } else {
            without_room.wait(group);
        }
    }

    /// The connection to a peer has room again.
    pub(crate) fn open(&mut self, pair: PeerShard) {
        if let Some(state) = self.pairs.get_mut(&pair) {
            state.without_room.open();
        }
    }

    /// Once a beat: each peer is taken to have room, as far as is known. So no group waits for ever, whatever has refused
    /// its append. And turns that last for long end.
    pub(crate) fn renew_turns(&mut self) {
        self.pairs.values_mut().for_each(|state| state.without_room.renew());
    }

    /// Whether groups may wait for room to some peer, or have the turn.
    pub(crate) fn has_waiting(&self) -> bool {
        self.has_waiting
    }

    /// Ends the turns of groups to send entries to a peer, but for groups that are `reading` entries for a node.
    pub(crate) fn end_turns(&mut self, reading: impl Fn(NodeId, GroupId) -> bool) {
        for (pair, state) in &mut self.pairs {
            state.without_room.end_turn(|group| reading(pair.node, group));
        }
    }

    /// For each peer that has room, the next group that waits for it, with the peer's node.
    pub(crate) fn next_turns(&mut self) -> Vec<(NodeId, GroupId)> {
        let next = |(pair, state): (&PeerShard, &mut State)| {
            state.without_room.next_turn().map(|group| (pair.node, group))
        };
        let turns = self.pairs.iter_mut().filter_map(next).collect();
        self.has_waiting = self.pairs.values().any(|state| state.without_room.has_waiting());
        turns
    }

    /// Tells a new leader which followers cannot be reached: it assumes that all can.
    fn tell_new_leader(&self, now: Tick, id: GroupId, groups: &mut Groups) {
        let Some(group) = groups.input(id) else { return };
        for node in group.raft.voters().others(self.me).collect::<Vec<_>>() {
            let state = self.home(node, id).and_then(|pair| self.pairs.get(&pair));
            if !state.is_some_and(|state| state.is_reached) {
                group.raft.disconnected(now, node);
            }
        }
    }
}

impl State {
    fn new(boot: BootId) -> Self {
        Self {
            leading: Leading::new(boot),
            following: Following::new(),
            groups: Vec::new(),
            is_reached: false,
            reaches_us: false,
            heard: None,
            confirmed: None,
            is_settled: false,
            is_rearmed: false,
            fitness: Fitness::default(),
            without_room: WithoutRoom::default(),
        }
    }

    /// The peer vouches for those of `ids` that its heartbeat names.
    fn vouch(&mut self, now: Tick, node: NodeId, ids: Vec<GroupId>, groups: &mut Groups) {
        for id in ids {
            let Some(said) = self.following.vouches(id) else { continue };
            let Some(group) = groups.input(id) else {
                // Nobody here follows: the peer must not count this shard among its followers.
                self.following.refuse(id, EpochTerm::new(said.epoch, Term(0)));
                continue;
            };
            // Safety M10: a term of another epoch of the group is not compared with ours.
            if said.epoch == group.raft.epoch() && group.raft.vouch(now, node, said.term) {
                self.following.accept(id);
            } else {
                self.following.refuse(id, group.raft.epoch_term());
            }
        }
    }

    /// The peer has replied to a heartbeat of ours, and has refused these groups.
    fn confirm(
        &mut self,
        now: Tick,
        node: NodeId,
        refused: &[(GroupId, EpochTerm)],
        groups: &mut Groups,
    ) {
        self.confirmed = Some(now);
        if self.is_settled && refused.is_empty() {
            return;
        }
        self.is_settled = refused.is_empty();
        for (id, _) in refused {
            if let Some(group) = groups.input(*id) {
                group.raft.unconfirm(now, node);
            }
        }
        for id in &self.groups {
            let Some(group) = groups.get(*id).filter(|group| group.leads()) else { continue };
            match self.leading.confirmed(group.id) {
                Some(_) => groups.input(*id).expect("it was there").raft.confirm(now, node),
                // There is no reply yet to a heartbeat that names this group.
                None => self.is_settled = false,
            }
        }
    }
}

/// The node of the peer no longer vouches for these groups.
fn unvouch(now: Tick, node: NodeId, ids: impl Iterator<Item = GroupId>, groups: &mut Groups) {
    for id in ids {
        if let Some(group) = groups.input(id) {
            group.raft.unvouch(now, node);
        }
    }
}

/// Tells the groups that a peer has refused the terms of the peer: a leader of a lower term has to step
/// down.
fn tell_terms(
    now: Tick,
    me: NodeId,
    node: NodeId,
    refused: &[(GroupId, EpochTerm)],
    groups: &mut Groups,
) {
    for (id, EpochTerm { epoch, term }) in refused.iter().copied() {
        if let Some(group) = groups.input(id) {
            purlin_rsm::sometimes!(term > group.raft.term(), "heartbeat reply names a higher term");
            // The replica drops a term of another epoch (safety M10).
            let message = Message::Stale;
            group.raft.step(now, Envelope { from: node, to: me, group: id, epoch, term, message });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::group::tests::fresh;
    use purlin_rsm::{ClusterId, Fork, GroupEpoch, Incarnation, Sequence, ShardId, Start, Term};
    use purlin_transport::Advertised;

    fn one_group() -> Groups {
        let mut groups = Groups::default();
        groups.insert(fresh());
        groups
    }

    fn facts(shard: u16, shards: u16) -> Facts {
        Facts {
            cluster: ClusterId(1),
            fork: Fork(0),
            config_hash: 0,
            node: NodeId(2),
            incarnation: Incarnation(1),
            shard: ShardId(shard),
            shards,
            starts: vec![Start { number: 1, boot: BootId(9), kept: Sequence(0) }],
            voters: vec![NodeId(1), NodeId(2), NodeId(3)],
            table: Vec::new(),
            acting: true,
            advertised: Advertised::default(),
        }
    }

    /// A restarted replica is trusted only when every peer that may remember more has accepted its
    /// handshake (safety I4).
    #[test]
    fn all_are_reached_only_when_each_is() {
        let mut groups = one_group();
        let mut pairs = Pairs::new(NodeId(1), BootId(1), 50);
        let others = [NodeId(2), NodeId(3)];
        let of = |node| Facts { node, ..facts(0, 1) };
        assert!(!pairs.are_all_reached(&others), "nobody is known");
        pairs.inbound_up(Tick(0), &of(NodeId(3)), &mut groups);
        pairs.outbound_up(Tick(0), &of(NodeId(2)), &mut groups);
        assert!(!pairs.are_all_reached(&others), "3 can write to us, and has not heard us");
        pairs.outbound_up(Tick(0), &of(NodeId(3)), &mut groups);
        assert!(pairs.are_all_reached(&others));
        assert!(pairs.take_all_reached(&others));
        pairs.outbound_lost(Tick(1), of(NodeId(2)).pair(), &mut groups);
        assert!(!pairs.are_all_reached(&others));
        pairs.outbound_up(Tick(2), &of(NodeId(2)), &mut groups);
        assert!(
            pairs.are_all_reached(&others) && !pairs.take_all_reached(&others),
            "it is told once"
        );
    }

    /// Safety M10: our reply names the epoch of our term, and a refusal of another epoch deposes no
    /// leader.
    #[test]
    fn another_epoch_of_a_group_is_refused_before_its_term_is_compared() {
        let mut groups = one_group();
        let (mut ours, pair) = (Pairs::new(NodeId(1), BootId(1), 50), facts(0, 1).pair());
        ours.inbound_up(Tick(0), &facts(0, 1), &mut groups);
        let own = groups.get(GroupId(1)).expect("it is there").raft.epoch_term();
        let other = EpochTerm::new(GroupEpoch(2), Term(90));
        let mut theirs = Leading::new(BootId(9));
        theirs.lead(GroupId(1), other);
        assert!(!ours.receive(Tick(1), pair, &theirs.beat(None), &mut groups));
        let reply = ours
            .beat(pair, &Condition::default())
            .expect("a pair")
            .reply
            .expect("a heartbeat came");
        assert_eq!(reply.refused, [(GroupId(1), own)]);
        tell_terms(Tick(1), NodeId(1), NodeId(2), &[(GroupId(1), other)], &mut groups);
        assert_eq!(groups.get(GroupId(1)).expect("it is there").raft.epoch_term(), own);
        // In the same epoch the term counts.
        let same = EpochTerm::new(own.epoch, other.term);
        theirs.lead(GroupId(1), same);
        ours.receive(Tick(2), pair, &theirs.beat(None), &mut groups);
        assert_eq!(groups.get(GroupId(1)).expect("it is there").raft.epoch_term(), same);
        assert_eq!(
            ours.beat(pair, &Condition::default()).expect("a pair").reply.expect("it came").refused,
            []
        );
    }

    /// Safety R4: a peer that leads a group of which this shard has no replica is not confirmed as its leader.
    #[test]
    fn a_group_that_is_not_here_is_refused() {
        let mut groups = one_group();
        let (mut ours, pair) = (Pairs::new(NodeId(1), BootId(1), 50), facts(0, 1).pair());
        ours.inbound_up(Tick(0), &facts(0, 1), &mut groups);
        let mut theirs = Leading::new(BootId(9));
        let said = EpochTerm::new(GroupEpoch::FIRST, Term(3));
        theirs.lead(GroupId(77), said);
        assert!(!ours.receive(Tick(1), pair, &theirs.beat(None), &mut groups));
        let reply = ours
            .beat(pair, &Condition::default())
            .expect("a pair")
            .reply
            .expect("a heartbeat came");
        assert_eq!(reply.refused, [(GroupId(77), EpochTerm::new(said.epoch, Term(0)))]);
        theirs.read(&reply);
        assert_eq!(theirs.confirmed(GroupId(77)), None);
    }

    /// Safety R4: a leader of a lower term learns that this replica does not follow it, and of the higher term.
    #[test]
    fn a_group_that_follows_a_later_term_is_refused() {
        let mut groups = one_group();
        let (mut ours, pair) = (Pairs::new(NodeId(1), BootId(1), 50), facts(0, 1).pair());
        ours.inbound_up(Tick(0), &facts(0, 1), &mut groups);
        let later = EpochTerm::new(GroupEpoch::FIRST, Term(5));
        tell_terms(Tick(1), NodeId(1), NodeId(3), &[(GroupId(1), later)], &mut groups);
        let mut theirs = Leading::new(BootId(9));
        theirs.lead(GroupId(1), EpochTerm::new(GroupEpoch::FIRST, Term(3)));
        assert!(!ours.receive(Tick(2), pair, &theirs.beat(None), &mut groups));
        let reply = ours
            .beat(pair, &Condition::default())
            .expect("a pair")
            .reply
            .expect("a heartbeat came");
        assert_eq!(reply.refused, [(GroupId(1), later)]);
        theirs.read(&reply);
        assert_eq!(theirs.confirmed(GroupId(1)), None);
    }

    /// Safety R4: the peer counts this shard among its followers only while the replica here follows it.
    #[test]
    fn a_peer_is_refused_as_soon_as_the_replica_follows_it_no_more() {
        let mut groups = one_group();
        let (mut ours, pair) = (Pairs::new(NodeId(1), BootId(1), 50), facts(0, 1).pair());
        ours.inbound_up(Tick(0), &facts(0, 1), &mut groups);
        let (own, mut theirs) =
            (EpochTerm::new(GroupEpoch::FIRST, Term(3)), Leading::new(BootId(9)));
        theirs.lead(GroupId(1), own);
        ours.receive(Tick(1), pair, &theirs.beat(None), &mut groups);
        let mut refused = |term, leader, groups: &mut Groups| {
            let standing = Standing { term: Term(term), leader, ..Standing::default() };
            ours.standing_changed(Tick(1), GroupId(1), standing, groups);
            ours.beat(pair, &Condition::default())
                .expect("a pair")
                .reply
                .expect("a heartbeat came")
                .refused
        };
        assert_eq!(refused(3, Some(NodeId(2)), &mut groups), []);
        assert_eq!(refused(3, None, &mut groups), [(GroupId(1), own)], "it campaigns");
        let later = EpochTerm::new(GroupEpoch::FIRST, Term(4));
        assert_eq!(refused(4, Some(NodeId(3)), &mut groups), [(GroupId(1), later)]);
        assert_eq!(
            refused(4, Some(NodeId(2)), &mut groups),
            [(GroupId(1), later)],
            "not told of 4"
        );
        assert_eq!(refused(3, Some(NodeId(2)), &mut groups), []);
    }

    #[test]
    fn heartbeats_go_to_the_shards_that_can_be_written_to() {
        let mut groups = one_group();
        let mut pairs = Pairs::new(NodeId(1), BootId(1), 50);
        let of = |node| Facts { node, ..facts(0, 1) };
        let [two, three] = [2, 3].map(|node| of(NodeId(node)).pair());
        assert_eq!(pairs.home(NodeId(2), GroupId(1)), None, "its number of shards is not known");
        pairs.inbound_up(Tick(0), &of(NodeId(2)), &mut groups);
        assert_eq!((pairs.home(NodeId(2), GroupId(1)), pairs.reached()), (Some(two), vec![]));
        pairs.outbound_up(Tick(0), &of(NodeId(3)), &mut groups);
        pairs.outbound_up(Tick(0), &of(NodeId(2)), &mut groups);
        assert_eq!(pairs.reached(), [two, three]);
        pairs.outbound_lost(Tick(1), two, &mut groups);
        assert_eq!((pairs.home(NodeId(2), GroupId(1)), pairs.reached()), (Some(two), vec![three]));
    }

    /// Safety R4: the peer was not told of the groups that the heartbeat listed.
    #[test]
    fn a_heartbeat_that_found_no_room_is_told_anew() {
        let mut groups = one_group();
        let (mut pairs, pair) = (Pairs::new(NodeId(1), BootId(1), 50), facts(0, 1).pair());
        pairs.outbound_up(Tick(0), &facts(0, 1), &mut groups);
        let standing = Standing { term: Term(3), leads: true, ..Standing::default() };
        pairs.standing_changed(Tick(0), GroupId(1), standing, &mut groups);
        let mut list = |is_sent: bool| {
            let heartbeat = pairs.beat(pair, &Condition::default()).expect("a pair");
            if !is_sent {
                pairs.beat_unsent(pair, &heartbeat);
            }
            heartbeat.list.map(|list| list.len())
        };
        assert_eq!(
            [list(false), list(false), list(true), list(true)],
            [Some(1), Some(1), Some(1), None]
        );
    }

    #[test]
    fn a_heartbeat_from_before_another_number_of_shards_is_nothing() {
        let mut groups = one_group();
        let mut pairs = Pairs::new(NodeId(1), BootId(1), 50);
        let heartbeat = Heartbeat {
            number: 1,
            fingerprint: 7,
            list: None,
            reply: None,
            condition: Condition::default(),
        };
        let pair = PeerShard::new(NodeId(2), ShardId(1));
        pairs.inbound_up(Tick(0), &facts(1, 2), &mut groups);
        assert!(pairs.receive(Tick(0), pair, &heartbeat, &mut groups), "its list is asked for");
        // With three shards the group is on a shard that has not connected yet.
        pairs.inbound_up(Tick(1), &facts(0, 3), &mut groups);
        assert!(!pairs.receive(Tick(1), pair, &heartbeat, &mut groups));
    }
}
