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
    /// When the loop last let completed I/O in.
    io_at: Duration,
}

/// How long a loop that always has something to do lets no completed I/O in: each time costs a pass over the rings of
/// the kernel.
const IO_PAUSE: Duration = Duration::from_millis(1);

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
            io_at: Duration::ZERO,
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

    /// Whether completed I/O must be let in at `now`.
    pub(crate) fn is_io_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.io_at) >= IO_PAUSE
    }

    /// Completed I/O was let in at `now`.
    pub(crate) fn io_taken(&mut self, now: Duration) {
        self.io_at = now;
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

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::NodeId;

    fn timing() -> Timing {
        Timing::new(&NodeConfig::new(NodeId(1), "unused"))
    }

    #[test]
    fn a_tick_lasts_from_its_time_to_that_of_the_next() {
        let timing = timing();
        for tick in [Tick(0), Tick(1), Tick(1_000_003)] {
            let begins = timing.time_of(tick);
            assert_eq!(timing.tick_at(begins), tick);
            assert_eq!(timing.tick_at(begins + timing.tick - Duration::from_nanos(1)), tick);
            assert_eq!(timing.tick_at(begins + timing.tick), Tick(tick.0 + 1));
        }
    }

    #[test]
    fn beats_are_counted_and_come_at_their_distance() {
        let mut timing = timing();
        assert_eq!((timing.next_beat(), timing.beats()), (Tick(0), 0));
        for (beats, now) in [(1, Tick(7)), (2, Tick(100)), (3, Tick(101))] {
            timing.beat(now);
            assert_eq!(timing.next_beat(), Tick(now.0 + timing.beat_ticks));
            assert_eq!(timing.beats(), beats);
        }
    }

    #[test]
    fn a_disk_hangs_after_two_timeouts_without_progress_and_twenty_for_one_batch() {
        let timing = timing();
        let (timeout, now) = (timing.election_ticks.start, Tick(1_000_000));
        assert!(timeout > 1, "{timeout}");
        assert_eq!(timing.hangs_since(now), Tick(now.0 - 2 * timeout));
        assert_eq!(timing.too_slow_since(now), Tick(now.0 - 20 * timeout));
        assert_eq!(timing.last_beat(now), Tick(now.0 - timing.beat_ticks));
        let early = [timing.hangs_since(Tick(1)), timing.too_slow_since(Tick(1))];
        assert_eq!(early, [Tick(0), Tick(0)], "nothing is older than the start");
    }

    /// A loop that always has something to do lets completed I/O in once a millisecond, and not in each turn.
    #[test]
    fn io_is_due_a_millisecond_after_it_was_let_in() {
        let mut timing = timing();
        let micros = Duration::from_micros;
        timing.io_taken(micros(5_000));
        assert!(!timing.is_io_due(micros(5_999)));
        assert!(timing.is_io_due(micros(6_000)));
    }
}
