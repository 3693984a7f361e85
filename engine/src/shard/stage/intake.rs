//! Stage 1: everything that reaches the shard, into its groups: requests of this core, of other
//! threads, of other shards and nodes; peers' messages; what was read from the WAL.

use crate::{
    edge::{
        away::{self, Destination, Waiting},
        desk::LaneRef,
        lane::Pending,
        ticket::{BatchOrigin, TakenBatch, Ticket},
    },
    mesh::MeshItem,
    runtime::Runtime,
    shard::{Shard, fetcher::Fetched},
};
use bytes::Bytes;
use purlin_rsm::{GroupId, NodeId, RequestError, RequestKind, Tick};
use purlin_storage::StorageError;
use purlin_transport::{BatchOutcome, BatchReply, Outbound, PeerShard, RequestBatch};

/// Requests in one batch that is sent elsewhere, and their bytes; a longer one travels alone.
const AWAY_COUNT_MAX: usize = 1024;
const AWAY_BYTES_MAX: usize = 1 << 20;

/// Where the requests of a group must go.
enum Way {
    /// Its leader is on this shard.
    Here,
    /// To the shard of this node on which it lives, or to its leader's node.
    Away(Destination),
    /// Nobody knows its leader now.
    Nowhere,
    /// There is no such group.
    NoGroup,
}

impl<R: Runtime> Shard<R> {
    /// Lets the lanes that have something to send do so.
    pub(crate) fn take_requests(&mut self, now: Tick) {
        for lane in self.requests.desk.take_scheduled() {
            lane.0.with_lane(lane.1, |lane| lane.is_scheduled = false);
            self.dispatch(now, lane);
        }
    }

    /// Lanes that waited for a leader try again.
    pub(crate) fn retry_parked(&mut self) {
        for (connection, group) in std::mem::take(&mut self.requests.parked) {
            connection.go_on(group);
        }
    }

    fn dispatch(&mut self, now: Tick, lane: LaneRef) {
        match self.way(lane.1) {
            Way::Here => self.dispatch_here(now, &lane),
            Way::Away(destination) => self.dispatch_away(now, lane, destination),
            Way::Nowhere => self.requests.parked.push(lane),
            Way::NoGroup => self.dispatch_nowhere(&lane),
        }
    }

    fn way(&self, group: GroupId) -> Way {
        let home = self.site.placement.shard_of(group);
        if group.0 == 0 || group.0 > self.site.groups {
            return Way::NoGroup;
        }
        if home != self.site.shard {
            return Way::Away(Destination::Shard(home));
        }
        let Some(standing) = self.groups.get(group).map(|group| group.known) else {
            return Way::NoGroup;
        };
        match standing.leader {
            _ if standing.leads => Way::Here,
            Some(leader) => self.way_to(leader, group),
            None => Way::Nowhere,
        }
    }

    fn way_to(&self, leader: NodeId, group: GroupId) -> Way {
        match self.pairs.home(leader, group) {
            Some(pair) if self.pairs.is_connected(pair) => Way::Away(Destination::Peer(pair)),
            _ => Way::Nowhere,
        }
    }

    fn dispatch_here(&mut self, now: Tick, (connection, id): &LaneRef) {
        while let Some(Some(pending)) = connection.with_lane(*id, |lane| lane.send_here()) {
            let ticket = Ticket::lane(connection, *id, &pending);
            let Pending { request, .. } = pending;
            self.take(now, *id, request.kind(), request.data().clone(), ticket);
        }
    }

    /// Gives a request to its group, whose leader is here.
    fn take(&mut self, now: Tick, id: GroupId, kind: RequestKind, data: Bytes, ticket: Ticket) {
        let (bytes, limit) = (data.len(), self.requests.desk.max_command());
        if bytes > limit {
            // The nodes of a cluster have the same limit; a batch of a peer may hold anything.
            return ticket.end(Err(RequestError::TooLarge { bytes, limit }));
        }
        if kind == RequestKind::Propose
            && let Some(refusal) = self.append.refusal()
        {
            return ticket.end(Err(refusal));
        }
        match self.groups.input(id) {
            Some(group) => group.take(now, kind, data, ticket),
            None => ticket.end(Err(RequestError::NoSuchGroup)),
        }
    }

    fn dispatch_away(&mut self, now: Tick, lane: LaneRef, to: Destination) {
        let id = self.requests.away.next();
        let (connection, group) = (&lane.0, lane.1);
        let batch =
            connection.with_lane(group, |lane| lane.send_away(id, AWAY_COUNT_MAX, AWAY_BYTES_MAX));
        // Something is on its way already; the lane goes on when that has ended.
        let Some(Some((kind, pendings))) = batch else { return };
        let requests = pendings.iter().map(|pending| pending.request.data().clone()).collect();
        if self.send_away(to, RequestBatch { id, group, kind, requests }) {
            purlin_rsm::sometimes!(matches!(to, Destination::Peer(_)), "forwarded to the leader");
            self.requests.away.sent(now, id, to, Waiting::Lane(lane));
        } else {
            purlin_rsm::sometimes!(
                matches!(to, Destination::Shard(_)),
                "full channel hands a batch back"
            );
            // Certainly not sent.
            connection.with_lane(group, |lane| lane.bounce(id));
            self.requests.parked.push(lane);
        }
    }

    /// Sends a batch. Whether it found a way.
    fn send_away(&mut self, to: Destination, batch: RequestBatch) -> bool {
        match to {
            Destination::Shard(shard) => self.mesh.try_send(shard, MeshItem::Batch(batch)).is_ok(),
            Destination::Peer(pair) => self.exchanger.send(pair, Outbound::Forward(batch)).is_ok(),
        }
    }

    fn dispatch_nowhere(&mut self, (connection, id): &LaneRef) {
        while let Some(Some(pending)) = connection.with_lane(*id, |lane| lane.send_here()) {
            connection.end(*id, pending.tag, Err(RequestError::NoSuchGroup));
        }
    }

    /// A batch from another shard of this node: taken whole if the leader is here, passed on to the
    /// leader's node, or bounced.
    pub(crate) fn on_shard_batch(
        &mut self,
        now: Tick,
        from: purlin_rsm::ShardId,
        batch: RequestBatch,
    ) {
        let origin = BatchOrigin::Shard(from, batch.id);
        match self.way(batch.group) {
            Way::Here => self.take_batch(now, origin, batch),
            Way::Away(to @ Destination::Peer(_)) => {
                let (id, count) = (self.requests.away.next(), batch.requests.len());
                if self.send_away(to, RequestBatch { id, ..batch }) {
                    purlin_rsm::sometimes!("batch of another shard passed on");
                    self.requests.away.sent(now, id, to, Waiting::Shard(origin, count));
                } else {
                    self.answer_batch(origin, BatchOutcome::Bounced);
                }
            }
            Way::Away(Destination::Shard(_)) | Way::Nowhere | Way::NoGroup => {
                self.answer_batch(origin, BatchOutcome::Bounced);
            }
        }
    }

    /// A batch from another node. A shard that does not lead the group bounces it and never passes it on
    /// (safety E1).
    pub(crate) fn on_forward(&mut self, now: Tick, from: PeerShard, batch: RequestBatch) {
        let origin = BatchOrigin::Peer(from, batch.id);
        match self.way(batch.group) {
            Way::Here => self.take_batch(now, origin, batch),
            _ => self.answer_batch(origin, BatchOutcome::Bounced),
        }
    }

    fn take_batch(&mut self, now: Tick, origin: BatchOrigin, batch: RequestBatch) {
        if !self.requests.taken.has_room(batch.requests.len()) {
            return self.answer_batch(origin, BatchOutcome::Busy);
        }
        let taken = TakenBatch::new(origin, batch.kind, batch.requests.len());
        self.requests.taken.push(batch.requests.len(), taken.clone());
        for (position, data) in batch.requests.into_iter().enumerate() {
            let ticket = Ticket::batch(&taken, batch.group, position);
            self.take(now, batch.group, batch.kind, data, ticket);
        }
    }

    /// An answer to a batch that was sent to another shard of this node.
    pub(crate) fn on_shard_reply(&mut self, from: purlin_rsm::ShardId, reply: BatchReply) {
        if let Some(waiting) = self.requests.away.answered(reply.id, Destination::Shard(from)) {
            self.answered(waiting, reply);
        }
    }

    /// An answer to a batch that was sent to another node.
    pub(crate) fn on_forward_reply(&mut self, from: PeerShard, reply: BatchReply) {
        if let Some(waiting) = self.requests.away.answered(reply.id, Destination::Peer(from)) {
            self.answered(waiting, reply);
        }
    }

    fn answered(&mut self, waiting: Waiting, BatchReply { id, outcome }: BatchReply) {
        match waiting {
            Waiting::Shard(origin, _) => self.answer_batch(origin, outcome),
            Waiting::Lane((connection, group)) => match outcome {
                BatchOutcome::Done(outcomes) => connection.end_batch(group, id, outcomes),
                BatchOutcome::Bounced | BatchOutcome::Busy => {
                    purlin_rsm::sometimes!("batch bounced by who does not lead");
                    connection.with_lane(group, |lane| lane.bounce(id));
                    self.requests.parked.push((connection, group));
                }
            },
        }
    }

    /// A connection with a peer is lost: what was sent there has an unknown outcome (safety E1).
    pub(crate) fn lose_batches(&mut self, peer: PeerShard) {
        for (batch, waiting) in self.requests.away.lost(peer) {
            match waiting {
                Waiting::Shard(origin, count) => {
                    self.answer_batch(origin, BatchOutcome::Done(away::unknown(count)));
                }
                Waiting::Lane((connection, group)) => {
                    purlin_rsm::sometimes!("batch in doubt, its connection is lost");
                    connection.end_batch(group, batch, Vec::new())
                }
            }
        }
    }

    /// Entries that were read from the WAL.
    ///
    /// # Errors
    /// The WAL cannot be read: what it holds may be damaged, and the shard stops.
    pub(crate) fn take_fetched(&mut self) -> Result<(), StorageError> {
        for Fetched { group, fetch, entries } in self.fetcher.take_fetched() {
            if let Some(group) = self.groups.input(group) {
                group.raft.fetched(fetch.purpose, entries?);
            }
        }
        Ok(())
    }
}
