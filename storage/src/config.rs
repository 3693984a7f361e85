//! The configuration of one shard's WAL: sizes and bounds. Durability itself cannot be switched off.

use crate::{align::BLOCK, disk::Durability};

/// Sizes and bounds of one WAL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalConfig {
    /// The size of a segment in bytes; a multiple of 4,096, at least 64 KiB. A larger one rotates
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
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// A sentence for the operator, about the first wrong value.
    pub fn validate(&self) -> Result<(), String> {
        const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=4 << 30;
        if !SEGMENT_BYTES.contains(&self.segment_bytes) {
            return Err(format!(
                "segment_bytes is {}, and must be 64 KiB to 4 GiB",
                self.segment_bytes
            ));
        }
        if !self.segment_bytes.is_multiple_of(BLOCK as u64) {
            return Err(format!(
                "segment_bytes is {}, and must be a multiple of {BLOCK}",
                self.segment_bytes
            ));
        }
        if !(1..=64).contains(&self.writes_in_flight_max) {
            return Err(format!(
                "writes_in_flight_max is {}, and must be 1 to 64",
                self.writes_in_flight_max
            ));
        }
        if self.batch_bytes_max < BLOCK {
            return Err(format!(
                "batch_bytes_max is {}, and must be at least {BLOCK}",
                self.batch_bytes_max
            ));
        }
        Ok(())
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
            config.validate().unwrap_err()
        };
        assert!(WalConfig::default().validate().is_ok());
        assert!(wrong(|c| c.segment_bytes = 4096).contains("segment_bytes is 4096"));
        assert!(wrong(|c| c.segment_bytes = (64 << 10) + 512).contains("multiple"));
        assert!(wrong(|c| c.writes_in_flight_max = 0).contains("writes_in_flight_max is 0"));
        assert!(wrong(|c| c.batch_bytes_max = 100).contains("batch_bytes_max is 100"));
    }
}
