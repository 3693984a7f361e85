//! The times of a shard, in ticks, and its beats.

use crate::config::NodeConfig;
use purlin_rsm::Tick;
use std::{ops::Range, time::Duration};

/// See the module. What is done once in a beat is all that an idle shard does.
pub(crate) struct Timing {
    pub(crate) tick: Duration,
    pub(crate) election_ticks: Range<u64>,
    pub(crate) beat_ticks: u64,
    next_beat: Tick,
    beats: u64,
}

impl Timing {
    /// The first beat is due at once.
    pub(crate) fn new(node: &NodeConfig) -> Self {
        let ticks = |duration| node.raft.ticks(duration);
        let election = &node.raft.election_timeout;
        Self {
            tick: node.raft.tick,
            election_ticks: ticks(election.start)..ticks(election.end),
            beat_ticks: ticks(node.raft.heartbeat),
            next_beat: Tick(0),
            beats: 0,
        }
    }

    /// The tick of a time of the runtime's clock.
    pub(crate) fn tick_at(&self, time: Duration) -> Tick {
        Tick((time.as_nanos() / self.tick.as_nanos()) as u64)
    }

    /// The time of the runtime's clock at which a tick begins.
    pub(crate) fn time_of(&self, tick: Tick) -> Duration {
        Duration::from_nanos((self.tick.as_nanos() as u64).saturating_mul(tick.0))
    }

    /// When the next beat is due.
    pub(crate) fn next_beat(&self) -> Tick {
        self.next_beat
    }

    /// Beats since the shard was opened.
    pub(crate) fn beats(&self) -> u64 {
        self.beats
    }

    /// A beat begins.
    pub(crate) fn beat(&mut self, now: Tick) {
        self.next_beat = Tick(now.0 + self.beat_ticks);
        self.beats += 1;
    }

    /// One beat before `now`.
    pub(crate) fn last_beat(&self, now: Tick) -> Tick {
        Tick(now.0.saturating_sub(self.beat_ticks))
    }

    /// Two election timeouts before `now`: a disk that has made nothing durable since hangs.
    pub(crate) fn hangs_since(&self, now: Tick) -> Tick {
        Tick(now.0.saturating_sub(2 * self.election_ticks.start))
    }

    /// Twenty election timeouts before `now`: a disk that has not written an older batch hangs too.
    pub(crate) fn too_slow_since(&self, now: Tick) -> Tick {
        Tick(now.0.saturating_sub(20 * self.election_ticks.start))
    }
}
