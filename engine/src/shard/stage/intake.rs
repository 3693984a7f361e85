//! Stage 1: hands everything that reaches the shard to its groups: requests of this core, of other
//! threads, shards and nodes; messages of peers; entries that were read from the WAL.

use crate::{
    edge::{
        away::{PassedOn, Waiter},
        caller::LaneRef,
        deadlines::Holder,
        lane::Wait,
        other_shard::{Origin, OtherShard},
        outgoing::{LanePart, OutgoingBatch, end_parts},
        requests::Buffers,
        ticket::Ticket,
    },
    runtime::Runtime,
    shard::{
        Shard, Site, entry_memory::ENTRY_BYTES, fetcher::Fetched, group::Group, groups::Groups,
        others::OtherShards,
    },
};
use bytes::Bytes;
use purlin_rsm::{EpochTerm, GroupId, RequestError, RequestKind, Term, Tick};
use purlin_storage::StorageError;
use purlin_transport::{BatchOutcome, BatchReply, PeerShard, RequestBatch};

/// Where the requests of a group must go.
enum Way {
    /// To this shard, which leads the group.
    Here,
    /// To the shard of this node that has the group, or to the leader's shard at another node.
    Away(OtherShard),
    /// Nowhere now: no leader is known, or its shard is not connected.
    Nowhere,
    /// Nowhere now: no leader is known. The machine of the group has stopped here, so this replica will not lead, and
    /// perhaps no other.
    Stopped,
    /// Nowhere: the shard of this node that has the group has stopped.
    ShardStopped(RequestError),
    /// There is no such group.
    NoGroup,
}

/// What this shard does with a batch of another shard.
#[derive(PartialEq, Eq, Debug)]
enum Fate {
    Accepted,
    /// This shard passes it on to the leader's node.
    PassedOn(OtherShard),
    Bounced,
    /// Bounced, and its sender is told that the state machine of the group has stopped at this node.
    BouncedByStopped,
}

/// Decides about a batch that the shard `from` has sent. The batch is for `epoch` of its group, which has
/// the epoch `here` on this shard; `way` says where the leader is. A batch is accepted if the leader is
/// here. If the leader is at another node, a batch of this node is passed on to it. Every other batch is
/// bounced: a shard that does not lead the group never passes on a batch of another node (safety E1).
fn judge(here: Option<EpochTerm>, batch: EpochTerm, way: Way, from: OtherShard) -> Fate {
    // Safety M10: requests for another epoch are not for the group that is here.
    if here.is_some_and(|here| here.epoch != batch.epoch) {
        purlin_rsm::sometimes!("batch for another epoch of its group bounced");
        return Fate::Bounced;
    }
    // Safety E1: the batch came late, and its sender may have let younger requests go to another leader.
    let is_of_peer = matches!(from, OtherShard::OfPeer(_));
    if is_of_peer && here.is_some_and(|here| here.term != batch.term) {
        purlin_rsm::sometimes!("batch for another term of its leader bounced");
        return Fate::Bounced;
    }
    match (way, from) {
        (Way::Here, _) => Fate::Accepted,
        (Way::Away(to @ OtherShard::OfPeer(_)), OtherShard::OfThisNode(_)) => Fate::PassedOn(to),
        (Way::Stopped, OtherShard::OfThisNode(_)) => Fate::BouncedByStopped,
        _ => Fate::Bounced,
    }
}

/// Where the requests of `group` must go now.
fn way<R: Runtime>(site: &Site, groups: &Groups, others: &OtherShards<R>, group: GroupId) -> Way {
    let home = site.placement.shard_of(group);
    if group.0 == 0 || group.0 > site.groups {
        return Way::NoGroup;
    }
    if home != site.shard {
        let away = Way::Away(OtherShard::OfThisNode(home));
        return others.refusal_of(home).map_or(away, Way::ShardStopped);
    }
    let Some(replica) = groups.get(group) else { return Way::NoGroup };
    let standing = replica.known;
    match standing.leader {
        // The next leader is there in a moment; else this one goes on.
        _ if replica.raft.is_handing_over() => Way::Nowhere,
        _ if standing.leads && replica.leads() => Way::Here,
        // A message of this turn has ended the leadership. The next step of the group tells who leads now.
        _ if standing.leads => Way::Nowhere,
        None if standing.is_machine_stopped => Way::Stopped,
        leader => {
            let home = leader.and_then(|leader| others.connected_home(leader, group));
            home.map_or(Way::Nowhere, |pair| Way::Away(OtherShard::OfPeer(pair)))
        }
    }
}

impl<R: Runtime> Shard<R> {
    /// Sends the next batch of each lane that has one. Lanes that wait for room go first, and keep their turn.
    pub(crate) fn send_requests(&mut self, now: Tick) {
        let mut buffers = self.requests.take_scheduled();
        let Buffers { lanes, requests, away } = &mut buffers;
        for lane in self.requests.take_without_room() {
            self.send_lane(now, lane, requests, away);
        }
        self.send_away(now, away);
        while let Some(lane) = self.requests.without_room.take_next() {
            self.send_lane(now, lane, requests, away);
            // Whether it finds room decides whether the next one follows, so it travels alone.
            self.send_first(now, away);
        }
        for lane in lanes.drain(..) {
            if lane.with(|lane| lane.wait) != Some(Some(Wait::Room)) {
                self.send_lane(now, lane, requests, away);
            }
        }
        self.send_away(now, away);
        self.requests.give_back(buffers);
    }

    /// Sends what goes to a group on this shard. What goes to another shard is added to `away`.
    fn send_lane(
        &mut self,
        now: Tick,
        lane: LaneRef,
        buffer: &mut Vec<(Bytes, u64)>,
        away: &mut Vec<(OtherShard, LaneRef)>,
    ) {
        match self.way(lane.group) {
            Way::Here => self.send_here(now, &lane, buffer),
            Way::Away(to) => away.push((to, lane)),
            Way::Nowhere => self.requests.park(lane, Wait::Leader),
            Way::Stopped => self.requests.park(lane, Wait::Machine),
            Way::ShardStopped(why) => lane.refuse(&why),
            Way::NoGroup => lane.refuse(&RequestError::NoSuchGroup),
        }
    }

    fn way(&self, group: GroupId) -> Way {
        way(&self.site, &self.groups, &self.others, group)
    }

    /// The term in which the leader of the group leads, as far as it is known here; 0 if the group is on another
    /// shard.
    fn known_term(&self, group: GroupId) -> Term {
        self.groups.get(group).map(|group| group.known.term).unwrap_or_default()
    }

    fn send_here(&mut self, now: Tick, lane: &LaneRef, buffer: &mut Vec<(Bytes, u64)>) {
        let Some((kind, timed)) = lane.send_here(buffer) else { return };
        let timed = timed.map(|tag| (tag, self.requests.callers.timer().clone()));
        let requests = buffer.drain(..).map(|(data, tag)| {
            let ticket = Ticket::lane(lane, tag);
            match &timed {
                Some((its, timer)) if *its == tag => (data, ticket.timed(lane.group, timer)),
                _ => (data, ticket),
            }
        });
        self.hand_to_group(now, lane.group, kind, requests);
    }

    /// Hands requests of one kind to their group, whose leader is here.
    fn hand_to_group(
        &mut self,
        now: Tick,
        id: GroupId,
        kind: RequestKind,
        requests: impl Iterator<Item = (Bytes, Ticket)>,
    ) {
        let limit = self.requests.callers.max_command();
        let is_full = kind == RequestKind::Propose && self.is_full_of_data();
        let is_loading = self.groups.get(id).is_some_and(|group| group.known.is_loading);
        self.groups.make_room();
        let (refusal, mut room) = match kind {
            // Its outcome would come only when the machine has applied all that the log held.
            _ if is_loading => (Some(RequestError::Loading), usize::MAX),
            RequestKind::Propose => (self.append.refusal(), self.groups.memory().room()),
            RequestKind::Query => (None, usize::MAX),
        };
        purlin_rsm::sometimes!(is_loading, "request refused, the group is loading");
        let slot = self.groups.slot(id);
        let mut group = self.groups.input(id);
        for (data, ticket) in requests {
            let bytes = data.len();
            match (&mut group, &refusal) {
                // All nodes of a cluster have the same limit, but a batch of a faulty peer may hold
                // anything.
                _ if bytes > limit => ticket.end(Err(RequestError::TooLarge { bytes, limit })),
                (_, Some(refusal)) => ticket.end(Err(refusal.clone())),
                // The disk has to catch up first: what is not durable cannot leave the memory.
                (Some(_), None) if room == 0 => {
                    purlin_rsm::sometimes!("proposal refused, entries take too much memory");
                    ticket.end(Err(RequestError::Busy));
                }
                (Some(group), None) if is_full && !group.admits_when_full(&data) => {
                    purlin_rsm::sometimes!("proposal refused, the data takes too much memory");
                    ticket.end(Err(RequestError::NoMemory));
                }
                (Some(group), None) => {
                    room = room.saturating_sub(bytes + ENTRY_BYTES);
                    group.propose_or_query(now, kind, data, ticket);
                }
                (None, None) => ticket.end(Err(RequestError::NoSuchGroup)),
            }
        }
        if let (Some(slot), Some(oldest)) = (slot, group.and_then(Group::watch)) {
            self.requests.deadlines.push(oldest, Holder::Group(slot));
        }
        slot.into_iter().for_each(|slot| self.groups.count_entries(slot));
    }

    /// Whether the machines hold as much memory as they may. Only leaders ask: what is in the log is applied
    /// whatever it takes, so that replicas do not differ.
    fn is_full_of_data(&self) -> bool {
        let machines = self.groups.machines();
        machines.now >= machines.max
    }

    /// Sends a lane that has waited for room for longest.
    fn send_first(&mut self, now: Tick, away: &mut Vec<(OtherShard, LaneRef)>) {
        for (to, lane) in away.drain(..) {
            let id = self.requests.away.next_id();
            let outgoing = OutgoingBatch::of(id, to, lane);
            outgoing.into_iter().for_each(|batch| self.send_outgoing(now, batch));
        }
    }

    /// Sends what lanes have for other shards: one batch for each group and kind, unless that is too much for one. A
    /// lane waits behind those that found no room before.
    fn send_away(&mut self, now: Tick, away: &mut Vec<(OtherShard, LaneRef)>) {
        // The lanes of one group stay in the order in which they came.
        away.sort_by_key(|(_, lane)| lane.group);
        let mut open: Option<OutgoingBatch> = None;
        for (to, mut lane) in away.drain(..) {
            if let Some(batch) = &mut open {
                match batch.add(to, lane) {
                    Ok(()) => continue,
                    Err(other) => lane = other,
                }
            }
            // It leaves at once, and the others go on to share theirs.
            let is_alone = lane.with(|lane| lane.is_alone()) == Some(true);
            if !is_alone {
                open.take().into_iter().for_each(|batch| self.send_outgoing(now, batch));
            }
            if self.requests.without_room.is_awaited(to) {
                self.requests.park_without_room(to, lane);
                continue;
            }
            // `None` if a batch of the lane is away already: the lane goes on when that batch has ended.
            let batch = OutgoingBatch::of(self.requests.away.next_id(), to, lane);
            match is_alone {
                true => batch.into_iter().for_each(|batch| self.send_outgoing(now, batch)),
                false => open = batch,
            }
        }
        open.into_iter().for_each(|batch| self.send_outgoing(now, batch));
    }

    fn send_outgoing(&mut self, now: Tick, outgoing: OutgoingBatch) {
        let OutgoingBatch { to, batch, parts, .. } = outgoing;
        let (id, group) = (batch.id, batch.group);
        let batch = RequestBatch { term: self.known_term(group), ..batch };
        if self.others.send_batch(to, batch) {
            purlin_rsm::sometimes!(matches!(to, OtherShard::OfPeer(_)), "forwarded to the leader");
            self.requests.sent_away(now, id, to, Waiter::Lanes(group, parts));
            return;
        }
        purlin_rsm::sometimes!(
            matches!(to, OtherShard::OfThisNode(_)),
            "full channel hands a batch back"
        );
        // The batch was certainly not sent.
        for LanePart { lane, .. } in parts {
            lane.bounce(id);
            self.requests.park_without_room(to, lane);
        }
    }

    /// Accepts, passes on or bounces a batch from another shard, always the whole batch.
    pub(crate) fn on_batch(&mut self, now: Tick, from: OtherShard, batch: RequestBatch) {
        let origin = Origin { shard: from, id: batch.id };
        let here = self.groups.get(batch.group).map(|group| group.raft.epoch_term());
        let named = EpochTerm::new(batch.epoch, batch.term);
        match judge(here, named, self.way(batch.group), from) {
            Fate::Accepted => self.accept(now, origin, batch),
            Fate::PassedOn(to) => {
                let (group, kind, count) = (batch.group, batch.kind, batch.requests.len());
                let id = self.requests.away.next_id();
                let term = self.known_term(group);
                if self.others.send_batch(to, RequestBatch { id, term, ..batch }) {
                    purlin_rsm::sometimes!("batch of another shard passed on");
                    let passed_on = PassedOn { origin, group, kind, count };
                    self.requests.sent_away(now, id, to, Waiter::Shard(passed_on));
                } else {
                    // Its leader is known, so its sender waits for room, and not for a leader.
                    self.reply_to(origin, BatchOutcome::Busy);
                }
            }
            Fate::Bounced => self.reply_to(origin, BatchOutcome::Bounced),
            Fate::BouncedByStopped => self.reply_to(origin, BatchOutcome::Stopped),
        }
    }

    fn accept(&mut self, now: Tick, origin: Origin, batch: RequestBatch) {
        let count = batch.requests.len();
        match self.requests.accepted.accept(origin, batch.kind, &batch.requests) {
            Some(accepted) => {
                let timer = self.requests.callers.timer().clone();
                let timed = match batch.kind {
                    RequestKind::Propose => timer.accept_batch(count, accepted.number()),
                    RequestKind::Query => None,
                };
                let tickets = (0..count).map(|position| {
                    let ticket = Ticket::batch(&accepted, position);
                    match timed == Some(position) {
                        true => ticket.timed(batch.group, &timer),
                        false => ticket,
                    }
                });
                let requests = batch.requests.into_iter().zip(tickets);
                self.hand_to_group(now, batch.group, batch.kind, requests);
            }
            None => self.reply_to(origin, BatchOutcome::Busy),
        }
    }

    /// A reply to a batch that was sent to another shard; a late or repeated reply is ignored.
    pub(crate) fn on_reply(&mut self, from: OtherShard, reply: BatchReply) {
        let BatchReply { id, outcome } = reply;
        match (self.requests.replied(id, from, &outcome), outcome) {
            (None, _) => {}
            (Some(Waiter::Shard(passed_on)), outcome) => self.reply_to(passed_on.origin, outcome),
            (Some(Waiter::Lanes(_, parts)), BatchOutcome::Done(outcomes)) => {
                end_parts(id, parts, outcomes);
            }
            (Some(Waiter::Lanes(_, parts)), outcome) => {
                for LanePart { lane, .. } in parts {
                    lane.bounce(id);
                    self.keep_refused(from, lane, &outcome);
                }
            }
        }
    }

    /// Keeps a lane whose batch the shard `from` has not taken.
    fn keep_refused(&mut self, from: OtherShard, lane: LaneRef, outcome: &BatchOutcome) {
        match outcome {
            BatchOutcome::Busy => {
                purlin_rsm::sometimes!("batch handed back by another shard without room");
                self.requests.park_without_room(from, lane);
            }
            BatchOutcome::Stopped => self.requests.park(lane, Wait::Machine),
            BatchOutcome::Bounced | BatchOutcome::Done(_) => {
                purlin_rsm::sometimes!("batch bounced by another shard");
                self.requests.park(lane, Wait::Leader);
            }
        }
    }

    /// A connection with a peer is lost: the outcome of the requests that were sent there is in doubt
    /// (safety E1).
    pub(crate) fn lose_batches(&mut self, peer: PeerShard) {
        let lost = self.requests.away.lost(peer);
        purlin_rsm::sometimes!(!lost.is_empty(), "batch in doubt, its connection is lost");
        self.end_in_doubt(lost);
    }

    /// Ends the batches that were sent before `limit` to a shard which leads their group no more: another
    /// leader is known. The old leader may be silent for long. What it has not committed in its term is
    /// void, or comes before everything that the new leader appends; so what waits behind such a batch may
    /// go on. A younger batch may still be bounced, which says more.
    pub(crate) fn end_superseded_batches(&mut self, limit: Tick) {
        let (site, groups, others) = (&self.site, &self.groups, &self.others);
        // While no leader is known, the old one may still reply.
        let superseded = self.requests.away.superseded(limit, |group, to| {
            match way(site, groups, others, group) {
                Way::Here => false,
                Way::Away(leader) => leader == to,
                Way::ShardStopped(_) => false,
                Way::Nowhere | Way::Stopped | Way::NoGroup => true,
            }
        });
        purlin_rsm::sometimes!(!superseded.is_empty(), "batch in doubt, another node leads");
        self.end_in_doubt(superseded);
    }

    fn end_in_doubt(&mut self, batches: Vec<(u64, Waiter)>) {
        for (id, waiter) in batches {
            match waiter {
                Waiter::Lanes(_, parts) => parts.iter().for_each(|part| part.lane.lose_batch(id)),
                Waiter::Shard(PassedOn { origin, kind, count, .. }) => {
                    let outcome = match kind {
                        RequestKind::Propose => {
                            BatchOutcome::Done(vec![Err(RequestError::UNKNOWN); count])
                        }
                        RequestKind::Query => BatchOutcome::Bounced,
                    };
                    self.reply_to(origin, outcome);
                }
            }
        }
    }

    /// Hands entries that were read from the WAL to the groups that asked for them.
    ///
    /// # Errors
    /// The WAL cannot be read. It may be damaged, so the shard stops.
    pub(crate) fn drain_fetched(&mut self) -> Result<(), StorageError> {
        for Fetched { group, fetch, entries } in self.fetcher.take_fetched() {
            if let Some(group) = self.groups.input(group) {
                group.raft.fetched(fetch.purpose, entries?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{GroupEpoch, NodeId, ShardId};

    const PEER: OtherShard = OtherShard::OfPeer(PeerShard { node: NodeId(2), shard: ShardId(0) });
    const SIBLING: OtherShard = OtherShard::OfThisNode(ShardId(1));
    const HERE: Option<EpochTerm> = Some(EpochTerm::new(GroupEpoch(7), Term(4)));

    /// Safety M10: this holds for every sender, and whether the leader is here or not.
    #[test]
    fn a_batch_for_another_epoch_of_its_group_is_bounced() {
        for from in [PEER, SIBLING] {
            for epoch in [6, 8].map(|epoch| EpochTerm::new(GroupEpoch(epoch), Term(4))) {
                assert_eq!(judge(HERE, epoch, Way::Here, from), Fate::Bounced);
                assert_eq!(judge(HERE, epoch, Way::Away(PEER), from), Fate::Bounced);
            }
            assert_eq!(judge(HERE, HERE.unwrap(), Way::Here, from), Fate::Accepted);
        }
    }

    /// Safety E1: a batch of another node that comes when its receiver leads again, in a later term.
    #[test]
    fn a_batch_for_another_term_of_its_leader_is_bounced() {
        for term in [0, 3, 5].map(|term| EpochTerm::new(GroupEpoch(7), Term(term))) {
            assert_eq!(judge(HERE, term, Way::Here, PEER), Fate::Bounced);
            assert_eq!(judge(HERE, term, Way::Here, SIBLING), Fate::Accepted, "no term is named");
        }
    }

    /// Safety E1.
    #[test]
    fn only_a_batch_of_this_node_is_passed_on_and_only_to_another_node() {
        let fate = |way, from| judge(HERE, HERE.unwrap(), way, from);
        assert_eq!(fate(Way::Away(PEER), SIBLING), Fate::PassedOn(PEER));
        assert_eq!(fate(Way::Away(PEER), PEER), Fate::Bounced);
        assert_eq!(fate(Way::Away(SIBLING), SIBLING), Fate::Bounced);
        for from in [PEER, SIBLING] {
            assert_eq!(fate(Way::Nowhere, from), Fate::Bounced);
            assert_eq!(judge(None, HERE.unwrap(), Way::NoGroup, from), Fate::Bounced);
        }
    }
}
