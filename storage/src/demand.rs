//! How much the log writes just now, so that enough is prepared for it.

use std::time::Duration;

/// The log finds as much prepared as it writes in this time.
const AHEAD: Duration = Duration::from_secs(2);

/// What the log is expected to write within the next two seconds.
#[derive(Default)]
pub(crate) struct Demand {
    /// What it had written when that was last noted, in bytes.
    written: u64,
    /// The bytes of two seconds at the highest rate of late. It halves within about eleven notes.
    bytes: u64,
}

impl Demand {
    /// Notes that the log has written `written` bytes in all, `elapsed` after the last note. Returns what it
    /// is expected to write within the next two seconds.
    pub(crate) fn note(&mut self, written: u64, elapsed: Duration) -> u64 {
        let new = written - std::mem::replace(&mut self.written, written);
        let of_two_seconds = u128::from(new) * AHEAD.as_micros() / elapsed.as_micros().max(1);
        let present = u64::try_from(of_two_seconds).unwrap_or(u64::MAX);
        self.bytes = present.max(self.bytes - self.bytes.div_ceil(16));
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demand_rises_at_once_and_falls_slowly() {
        let mut demand = Demand::default();
        let beat = Duration::from_millis(100);
        assert_eq!(demand.note(1_000_000, beat), 20_000_000, "10 MB a second");
        assert_eq!(demand.note(3_000_000, beat), 40_000_000);
        let mut later = 0;
        (0..11).for_each(|_| later = demand.note(3_000_000, beat));
        assert!((15_000_000..21_000_000).contains(&later), "{later} after 1.1 s");
        (0..600).for_each(|_| later = demand.note(3_000_000, beat));
        assert_eq!(later, 0, "after a minute");
        assert_eq!(demand.note(3_000_001, Duration::ZERO), 2_000_000, "no time at all");
    }
}
