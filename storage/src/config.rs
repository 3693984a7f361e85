//! The configuration of one shard's WAL: sizes and bounds. Durability itself cannot be switched off.

use crate::{align::BLOCK, batch::HEADER_BYTES, disk::Durability};
use std::ops::RangeInclusive;

/// Sizes and bounds of one WAL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalConfig {
    /// The size of a segment in bytes; one of [`Self::SEGMENT_BYTES`]. A larger one rotates
    /// less often, a smaller one gives space back sooner and starts faster.
    pub segment_bytes: u64,
    /// How a write becomes durable: choose the way that is faster on this disk.
    pub durability: Durability,
    /// Writes that may be in flight at once, 1 to 64. More hide a slow disk's latency, fewer make
    /// larger batches.
    pub writes_in_flight_max: usize,
    /// The longest write of several records, in bytes. One longer record travels alone.
    pub batch_bytes_max: usize,
    /// Entries that recovery gives back in memory, in bytes by [`purlin_rsm::Entry::cost`].
    pub tail_bytes_max: usize,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            durability: Durability::EachWrite,
            writes_in_flight_max: 4,
            batch_bytes_max: 256 << 10,
            tail_bytes_max: 32 << 20,
        }
    }
}

impl WalConfig {
    /// The sizes that a segment may have, in bytes; each a multiple of [`Self::SEGMENT_UNIT`].
    pub const SEGMENT_BYTES: RangeInclusive<u64> = 64 << 10..=4 << 30;
    /// The size of a segment is a multiple of this, in bytes: of a block.
    pub const SEGMENT_UNIT: u64 = BLOCK as u64;

    /// The values that are out of their range: the field of each, and the text that follows its name.
    pub fn contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if !Self::SEGMENT_BYTES.contains(&self.segment_bytes)
            || !self.segment_bytes.is_multiple_of(Self::SEGMENT_UNIT)
        {
            let text = format!(
                "is {}, and must be 64 KiB to 4 GiB, a multiple of {BLOCK}",
                self.segment_bytes
            );
            found.push(("segment_bytes", text));
        }
        if !(1..=64).contains(&self.writes_in_flight_max) {
            let text = format!("is {}, and must be 1 to 64", self.writes_in_flight_max);
            found.push(("writes_in_flight_max", text));
        }
        if self.batch_bytes_max < BLOCK {
            let text = format!("is {}, and must be at least {BLOCK}", self.batch_bytes_max);
            found.push(("batch_bytes_max", text));
        }
        found
    }

    /// The records that one batch takes, in bytes. A longer batch is cut into several writes.
    pub fn records_bytes_max(&self) -> usize {
        self.batch_bytes_max.min(Self::write_bytes_max(self.segment_bytes)) - HEADER_BYTES
    }

    /// The size of the segment that a start begins: small, since each start behind a write keeps one more
    /// segment, and a process that ends again and again must not fill its disk.
    pub(crate) fn first_segment_bytes(&self) -> u64 {
        let least = *Self::SEGMENT_BYTES.start();
        crate::align::align_down(self.segment_bytes / 16).max(least)
    }

    /// The longest write in a segment of `segment_bytes`, header and padding included: a quarter of
    /// it, so that a rotation never leaves more than that unused.
    pub(crate) fn write_bytes_max(segment_bytes: u64) -> usize {
        crate::align::align_down(segment_bytes / 4) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_names_the_wrong_value() {
        let wrong = |change: fn(&mut WalConfig)| {
            let mut config = WalConfig::default();
            change(&mut config);
            config.contradictions()
        };
        assert_eq!(WalConfig::default().contradictions(), []);
        let segment = |bytes| {
            let what = format!("is {bytes}, and must be 64 KiB to 4 GiB, a multiple of 4096");
            [("segment_bytes", what)]
        };
        assert_eq!(wrong(|c| c.segment_bytes = 4096), segment(4096));
        assert_eq!(wrong(|c| c.segment_bytes = (64 << 10) + 512), segment((64 << 10) + 512));
        let zero = ("writes_in_flight_max", "is 0, and must be 1 to 64".into());
        let short = ("batch_bytes_max", "is 100, and must be at least 4096".into());
        assert_eq!(wrong(|c| c.writes_in_flight_max = 0), std::slice::from_ref(&zero));
        assert_eq!(
            wrong(|c| (c.writes_in_flight_max, c.batch_bytes_max) = (0, 100)),
            [zero, short]
        );
    }
}
