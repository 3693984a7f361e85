//! The clock of a run, in nanoseconds since its start.

use std::time::{Duration, Instant};

pub(super) const SECOND_NANOS: u64 = 1_000_000_000;

/// The time of a run.
pub(super) struct Clock {
    started: Instant,
    /// Nanoseconds since `started`, when the clock was read last.
    pub(super) now: u64,
    /// When the current second ends.
    pub(super) second_ends: u64,
    /// When to look for time-outs and retries again.
    pub(super) look_at: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), now: 0, second_ends: SECOND_NANOS, look_at: 0 }
    }

    pub(super) fn look(&mut self) -> u64 {
        self.now = nanos(self.started.elapsed());
        self.now
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}
