//! Stage 4: messages of all groups into one frame per peer and turn, and heartbeats.

use crate::{runtime::Runtime, shard::Shard};
use purlin_rsm::{Envelope, Message, Tick};
use purlin_transport::{Outbound, PeerShard};

impl<R: Runtime> Shard<R> {
    /// Puts a message into its peer's next frame. False when it is lost, as on any network: there is no
    /// connection, or a full one.
    pub(crate) fn send(&mut self, envelope: Envelope) -> bool {
        let home = self.pairs.home(envelope.to, envelope.group);
        let send = |pair| self.exchanger.send(pair, Outbound::Message(envelope));
        home.is_some_and(|pair| send(pair).is_ok())
    }

    /// Writes to every peer that has something waiting, once.
    pub(crate) fn flush(&mut self) {
        self.exchanger.flush(self.append.durable());
    }

    /// Sends each reached pair its heartbeat.
    pub(crate) fn send_heartbeats(&mut self, now: Tick) {
        for pair in self.pairs.reached() {
            self.send_heartbeat(now, pair);
        }
    }

    /// Whether the oldest write is older than two election timeouts.
    pub(crate) fn is_hanging(&self, now: Tick) -> bool {
        self.append.is_stalled(Tick(now.0.saturating_sub(2 * self.timing.election_ticks.start)))
    }

    /// Sends a heartbeat, unless this shard has not met the others (safety I2), or its disk hangs: who
    /// cannot write must not keep others from leading (safety R5).
    pub(crate) fn send_heartbeat(&mut self, now: Tick, pair: PeerShard) {
        purlin_rsm::sometimes!(self.is_hanging(now), "heartbeat withheld while the disk hangs");
        if !self.meeting.is_acting() || self.is_hanging(now) {
            return;
        }
        if let Some(heartbeat) = self.pairs.beat(pair) {
            let _lost = self.exchanger.send(pair, Outbound::Heartbeat(heartbeat));
        }
    }
}

/// Whether a message keeps its receiver following the sender.
pub(crate) fn is_of_a_leader(message: &Message) -> bool {
    matches!(message, Message::Append { .. } | Message::ReadProbe { .. })
}
