//! Stage 4: puts the messages of all groups into one frame per peer and turn, and sends heartbeats.

use crate::{runtime::Runtime, shard::Shard};
use purlin_rsm::{Message, Tick};
use purlin_transport::{Condition, Outbound, PeerShard};

impl<R: Runtime> Shard<R> {
    /// Writes once to every peer for which something waits.
    pub(crate) fn flush(&mut self) {
        self.others.exchanger.flush(self.append.durable());
    }

    /// Sends a heartbeat to each peer shard that can be reached.
    pub(crate) fn send_heartbeats(&mut self, now: Tick) {
        let condition = self.condition(now);
        for pair in self.others.pairs.reached() {
            self.send_heartbeat(now, pair, &condition);
        }
    }

    /// Whether the disk hangs: writes are in flight, and none has become durable for two election timeouts, or the
    /// oldest not for twenty.
    pub(crate) fn is_hanging(&self, now: Tick) -> bool {
        self.append.is_stalled(self.timing.hangs_since(now), self.timing.too_slow_since(now))
    }

    /// Sends a heartbeat, unless this shard has not met the others (safety I2) or its disk hangs. A shard
    /// that cannot write must not keep others from leading (safety R5).
    pub(crate) fn send_heartbeat(&mut self, now: Tick, pair: PeerShard, condition: &Condition) {
        purlin_rsm::sometimes!(self.is_hanging(now), "heartbeat withheld while the disk hangs");
        if !self.meeting.is_acting() || self.is_hanging(now) {
            return;
        }
        if let Some(heartbeat) = self.others.pairs.beat(pair, condition)
            && let Err(Outbound::Heartbeat(unsent)) =
                self.others.exchanger.send(pair, Outbound::Heartbeat(heartbeat))
        {
            purlin_rsm::sometimes!("heartbeat found no room or no connection");
            self.others.pairs.beat_unsent(pair, &unsent);
        }
    }
}

/// Whether a message keeps its receiver a follower of the sender.
pub(crate) fn is_of_a_leader(message: &Message) -> bool {
    matches!(message, Message::Append { .. } | Message::ReadProbe { .. })
}
