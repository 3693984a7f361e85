//! Stage 1, the part that comes from peers: connections that are made and lost, messages, heartbeats and
//! refusals.

use crate::{
    config::COMMAND_OVERHEAD,
    edge::other_shard::OtherShard,
    error::{Error, ErrorKind},
    mesh::MeshItem,
    node::identity::NodeIdentity,
    runtime::Runtime,
    shard::Shard,
};
use purlin_rsm::{Entry, Envelope, GroupId, Message, NodeId, ShardId, Tick, run};
use purlin_transport::{Event, Facts, PeerShard, Refusal};

/// What one turn takes of what peers have sent ends with the event that makes it more than this, or than an eighth of all.
/// So a full inbox keeps the shard from all else for some milliseconds, and not for as long as its entries take; and a
/// heartbeat behind them is not heard too late.
const EVENTS_BYTES_MAX: usize = 1 << 20;

impl<R: Runtime> Shard<R> {
    /// Handles the events that the exchanger has, up to [`EVENTS_BYTES_MAX`] or an eighth. The next turn goes on.
    pub(crate) fn drain_events(&mut self, now: Tick) {
        let all = self.others.exchanger.waiting_bytes();
        let left = all.saturating_sub(EVENTS_BYTES_MAX.max(all / 8));
        while let Some(event) = self.others.exchanger.poll() {
            self.on_event(now, event);
            let waiting = self.others.exchanger.waiting_bytes();
            if waiting <= left && waiting > 0 {
                purlin_rsm::sometimes!("events of peers wait for the next turn");
                return self.wake().notify();
            }
        }
    }

    fn on_event(&mut self, now: Tick, event: Event) {
        match event {
            Event::OutboundUp(facts) => self.on_outbound_up(now, &facts),
            Event::Learned(facts) => {
                self.others.pairs.learn(facts.node, facts.shards, &self.groups);
                self.meet(&facts);
            }
            Event::OutboundLost(pair) => {
                self.others.pairs.outbound_lost(now, pair, &mut self.groups);
                self.lose_batches(pair);
            }
            Event::Room(pair) => {
                self.others.pairs.open(pair);
                self.requests.without_room.note_room(OtherShard::OfPeer(pair));
            }
            Event::InboundUp(facts) => self.others.pairs.inbound_up(now, &facts, &mut self.groups),
            Event::InboundLost(pair) => {
                self.others.pairs.inbound_lost(now, pair, &mut self.groups);
                self.lose_batches(pair);
            }
            Event::Messages(_, envelopes) => self.on_messages(now, envelopes),
            Event::Heartbeat(pair, heartbeat) => {
                if self.others.pairs.receive(now, pair, &heartbeat, &mut self.groups) {
                    let condition = self.condition(now);
                    self.send_heartbeat(now, pair, &condition);
                }
            }
            Event::Forward(pair, batch) => self.on_batch(now, OtherShard::OfPeer(pair), batch),
            Event::ForwardReply(pair, reply) => self.on_reply(OtherShard::OfPeer(pair), reply),
            Event::Refused { peer, by_them, refusal } => self.on_refused(peer, by_them, refusal),
        }
    }

    fn on_outbound_up(&mut self, now: Tick, facts: &Facts) {
        self.others.pairs.outbound_up(now, facts, &mut self.groups);
        self.meet(facts);
        let others: Vec<NodeId> = self
            .meeting
            .identity()
            .voter_ids()
            .into_iter()
            .filter(|node| *node != self.site.node)
            .collect();
        // Each peer has accepted the handshake of this start (safety I4). One that connects again is no news: all
        // groups would be worked on.
        if self.others.pairs.take_all_reached(&others) {
            self.groups.input_each(|group| group.raft.trust());
        }
    }

    /// A peer has answered our handshake. If no answer is missing any more, the meeting is recorded.
    fn meet(&mut self, facts: &Facts) {
        if self.site.shard == ShardId(0)
            && let Some(identity) = self.meeting.meet(facts)
        {
            self.record(identity);
        }
    }

    fn on_messages(&mut self, now: Tick, envelopes: Vec<Envelope>) {
        // A node that has not met the others takes part in nothing (safety I2).
        if !self.meeting.is_acting() {
            return;
        }
        let max_command = self.requests.callers.max_command();
        let groups: Vec<GroupId> = envelopes.iter().map(|envelope| envelope.group).collect();
        for (at, envelope) in envelopes.into_iter().enumerate() {
            let ahead = |by| groups.get(at + by).copied();
            self.groups.look_ahead_for(ahead(1), ahead(2));
            if !fits(&envelope.message, max_command) {
                self.tell_too_long(&envelope);
                continue;
            }
            let brings_entries = has_entries(&envelope.message);
            // It counts as lost, and is sent again: the disk has to catch up first.
            if brings_entries && self.has_no_room() {
                purlin_rsm::sometimes!("append dropped, entries take too much memory");
                continue;
            }
            let Some(slot) = self.groups.slot(envelope.group) else { continue };
            if let Some(group) = self.groups.peek_mut(slot) {
                group.raft.step(now, envelope);
            }
            self.groups.touch_if_needed(slot);
            if brings_entries {
                self.groups.count_entries(slot);
            }
        }
    }

    /// Whether entries take too much memory, although what can leave it has been asked to.
    fn has_no_room(&mut self) -> bool {
        self.groups.make_room();
        self.groups.memory().is_full()
    }

    /// All nodes of a cluster have one limit on commands, and keep it before the log. So a longer entry is of a
    /// faulty node: it is dropped, and stops nothing here.
    fn tell_too_long(&mut self, envelope: &Envelope) {
        let Envelope { from, group, .. } = envelope;
        purlin_rsm::sometimes!("append with an entry beyond the cluster's limit dropped");
        if !std::mem::replace(&mut self.others.told_too_long, true) {
            tracing::error!(
                "{} g{group}: node {from} sends an entry that is longer than `cluster.max_command` allows. Means: the \
                 node is faulty; the entry is dropped, and this replica of the group does not follow it. Do: stop \
                 node {from}, and report this",
                self.site.name
            );
        }
    }

    fn on_refused(&mut self, peer: PeerShard, by_them: bool, refusal: Refusal) {
        if !by_them {
            // Our refusal may have fenced the peer, and the fence must be remembered durably (safety I4).
            self.append.remember(self.others.exchanger.take_memories());
        }
        if !(by_them && refusal.ends(self.site.node)) || self.failure.is_some() {
            return;
        }
        tracing::error!("{} is refused by {peer}: {refusal}", self.site.name);
        if matches!(refusal, Refusal::WentBack { .. } | Refusal::Fenced { .. }) {
            return self.fence();
        }
        let place = format!("the handshake of {} with {peer}", self.site.name);
        let [what, means, action] = refusal.parts();
        self.failure = Some(Error::new(ErrorKind::Refused, what, place, means, action));
    }

    /// One refusal fences the whole directory, towards all peers: it stops acting (safety I4). Shard 0
    /// records the fence, so that the next start refuses too; then all shards stop.
    fn fence(&mut self) {
        self.meeting.fence();
        if self.site.shard == ShardId(0) {
            self.record_fence();
        } else if self.others.mesh.try_send(ShardId(0), MeshItem::Fenced).is_err() {
            // Shard 0 has stopped already.
            self.stop_fenced();
        }
    }

    /// Another shard says that the directory is fenced. Shard 0 records that; a message from shard 0
    /// means that it has recorded it.
    pub(crate) fn on_fenced(&mut self) {
        self.meeting.fence();
        if self.site.shard == ShardId(0) {
            self.record_fence();
        } else {
            self.failure = Some(fenced(self.site.node));
        }
    }

    fn record_fence(&mut self) {
        if let Some(identity) = self.meeting.fenced() {
            self.record(identity);
        }
    }

    fn stop_fenced(&mut self) {
        for shard in self.site.other_shards() {
            // If the message is lost, peers will refuse that shard too.
            let _lost = self.others.mesh.try_send(shard, MeshItem::Fenced);
        }
        self.failure = Some(fenced(self.site.node));
    }

    /// Records an identity beside the loop. Does nothing if another one is being recorded: the next
    /// handshake brings a meeting again, and a fence is recorded behind the other record.
    pub(crate) fn record(&mut self, identity: NodeIdentity) {
        let recording = self.meeting.record(self.runtime.disk(), identity, self.wake());
        if let Some(recording) = recording {
            self.runtime.spawn(recording);
        }
    }

    /// Acts upon an identity that has been recorded: begins to act, or stops if it is fenced.
    pub(crate) fn adopt_recorded(&mut self) -> Result<(), Error> {
        let Some(identity) = self.meeting.take_recorded()? else { return Ok(()) };
        if identity.is_fenced {
            purlin_rsm::sometimes!("directory records that it is fenced");
            self.stop_fenced();
            return Ok(());
        }
        if !self.meeting.is_acting() {
            // The directory was fenced meanwhile.
            self.record_fence();
            return Ok(());
        }
        self.meeting.untold = self.site.other_shards().collect();
        self.tell_met();
        self.act();
        Ok(())
    }

    /// Tells the other shards of this node that the members have met. A shard whose channel is full is
    /// told at the next beat.
    pub(crate) fn tell_met(&mut self) {
        let identity = self.meeting.identity().clone();
        let mesh = &self.others.mesh;
        let tell =
            |shard: &ShardId| mesh.try_send(*shard, MeshItem::Met(identity.clone())).is_err();
        self.meeting.untold.retain(tell);
    }

    /// The initial voters have met: from now on the shard acts.
    pub(crate) fn act(&mut self) {
        purlin_rsm::sometimes!("fresh directory has met all initial voters");
        tracing::info!(
            "{} has met all initial members; it votes and serves from now on",
            self.site.name
        );
        self.others.exchanger.set_table(self.meeting.identity().table());
        self.others.exchanger.set_acting(true);
        self.groups.input_each(|_| {});
    }
}

fn has_entries(message: &Message) -> bool {
    matches!(message, Message::Append { entries, .. } if !entries.is_empty())
}

/// Whether the log of every node of the cluster can hold the entries of a message.
fn fits(message: &Message, max_command: usize) -> bool {
    let Message::Append { entries, .. } = message else { return true };
    let most = max_command + COMMAND_OVERHEAD;
    // The cost counts more for each command than its bytes, so it is only the first look.
    let fits = |entry: &Entry| {
        entry.cost() <= most || run::encoded_bytes(std::slice::from_ref(entry)) <= most
    };
    entries.iter().all(fits)
}

/// The error with which a fenced directory does not start.
pub(crate) fn fenced(node: NodeId) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!(
            "the data directory of node {node} has gone back behind what it once told its peers"
        ),
        "the data directory, which records what a peer has noticed",
        "it is an older copy, or its disk has lost writes; it may have forgotten votes and acknowledged writes, so it \
         takes part in nothing; the other members go on as long as they are a majority",
        "keep the directory, and leave the node stopped: this version cannot bring it back",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{Commands, EntryId, Index, Payload, Position, Term};

    /// A longer entry would stop the shard: its log cannot hold it.
    #[test]
    fn an_entry_of_a_peer_beyond_the_limit_of_the_cluster_is_noticed() {
        let append = |payload| {
            let entry = Entry { term: Term(1), index: Index(1), before: Position(0), payload };
            Message::Append { prev: EntryId::default(), entries: vec![entry], committed: Index(0) }
        };
        let one = |bytes: usize| append(Payload::command(vec![0; bytes].into()));
        let limit = 1 << 20;
        assert!(fits(&one(limit), limit), "as long as any node takes it");
        assert!(!fits(&one(limit + COMMAND_OVERHEAD), limit));
        // Many short commands cost much in memory, and take little in the log.
        let many: Commands = std::iter::repeat_n(bytes::Bytes::from_static(b"x"), 60_000).collect();
        assert!(fits(&append(Payload::Commands(many)), limit));
        assert!(fits(&Message::AppendReply { matched: Index(1) }, 0));
    }
}
