//! The end of a log that is readable and not proven durable, and how a start takes it along.
//!
//! A batch is proven when the watermark of a later batch covers it. An unproven batch may have been
//! acknowledged, so it must be kept. But a failed sync may also have dropped it: then it is readable
//! until the power fails, and no later sync makes it durable. So a start writes the records of unproven
//! batches again, into the segment that it begins, before the header of that segment counts:
//!
//! ```text
//!   newest                          new, named ….new until all of it is durable
//!  ┌─────────────────────┐        ┌────────────────┐
//!  │H b b b │ u u ✗ · ·  │◄───────│H u' u' · · · · │
//!  └─────────────────────┘  names └────────────────┘
//!     proven  unproven      the last b
//! ```
//!
//! This module knows nothing of groups: records are bytes here.

use crate::{
    batch::{self, Kind, Seed, Stamp},
    index::Location,
    segment::{BatchName, Header},
};
use purlin_rsm::Sequence;
use std::collections::VecDeque;

/// The end of the newest segment, while it is scanned from front to back.
pub(crate) struct Carry {
    /// The last batch that is proven durable; of an older segment if none of the newest is.
    pub(crate) proven: BatchName,
    /// The batches behind the proven one, in their order. No more than may be in flight at once.
    unproven: VecDeque<Unproven>,
}

struct Unproven {
    name: BatchName,
    records: Vec<u8>,
}

/// A batch that is to be written into the new segment.
pub(crate) struct Carried {
    pub(crate) sequence: Sequence,
    pub(crate) at: Location,
    pub(crate) records: Vec<u8>,
}

impl Carried {
    pub(crate) fn written_bytes(&self) -> usize {
        batch::written_bytes(self.records.len())
    }

    /// Where the next batch will lie.
    pub(crate) fn behind(&self) -> Location {
        self.at.behind(self.written_bytes())
    }

    /// Lays it out in `block`, as a batch of the segment with this header. Returns its new name.
    pub(crate) fn seal(&self, block: &mut [u8], seed: Seed, header: &Header) -> BatchName {
        let stamp = Stamp {
            epoch: header.epoch,
            sequence: self.sequence,
            watermark: header.sequence,
            oldest: header.oldest,
            kind: Kind::Records,
        };
        let checksum = batch::seal(block, seed, &stamp, &self.records);
        BatchName { segment: header.number, sequence: self.sequence, checksum }
    }
}

impl Carry {
    /// Before the first batch of the newest segment; `previous` is the batch that its header names.
    pub(crate) fn new(previous: BatchName) -> Self {
        Self { proven: previous, unproven: VecDeque::new() }
    }

    /// The next batch of the segment.
    pub(crate) fn add(&mut self, name: BatchName, watermark: Sequence, records: &[u8]) {
        self.unproven.push_back(Unproven { name, records: records.to_vec() });
        self.prove(watermark);
    }

    /// A readable batch says that everything up to `watermark` was durable.
    pub(crate) fn prove(&mut self, watermark: Sequence) {
        while let Some(batch) = self.unproven.pop_front_if(|batch| batch.name.sequence <= watermark)
        {
            self.proven = batch.name;
        }
    }

    /// Gives the batches their places in segment `number`, behind a header with sequence `header`. Batches
    /// without records are left out: they only told a watermark.
    pub(crate) fn take_batches(&mut self, number: u64, header: Sequence) -> Vec<Carried> {
        let (mut at, mut sequence) = (Location::first(number), header);
        let unproven = std::mem::take(&mut self.unproven).into_iter();
        let with_records = unproven.filter(|batch| !batch.records.is_empty());
        let carried = with_records.map(|batch| {
            sequence = Sequence(sequence.0 + 1);
            let carried = Carried { sequence, at, records: batch.records };
            at = carried.behind();
            carried
        });
        carried.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(sequence: u64) -> BatchName {
        BatchName { segment: 1, sequence: Sequence(sequence), checksum: sequence as u32 }
    }

    fn carry() -> Carry {
        let mut carry = Carry::new(name(10));
        carry.add(name(12), Sequence(11), b"a");
        carry.add(name(13), Sequence(11), b"b");
        carry.add(name(14), Sequence(12), b"");
        carry.add(name(15), Sequence(12), &[7; 5000]);
        carry.add(name(16), Sequence(12), b"d");
        carry
    }

    #[test]
    fn batches_above_the_latest_watermark_are_carried() {
        let mut carry = carry();
        assert_eq!(carry.proven, name(12));
        let carried = carry.take_batches(7, Sequence(100));
        let places = carried.iter().map(|batch| (batch.sequence.0, batch.at.position()));
        assert_eq!(places.collect::<Vec<_>>(), [(101, 4096), (102, 8192), (103, 16384)]);
        assert!(carried.iter().all(|batch| batch.at.segment == 7));
        assert_eq!(carried[0].records, b"b");
    }

    #[test]
    fn the_watermark_of_a_void_batch_counts_too() {
        let mut carry = carry();
        carry.prove(Sequence(16));
        assert_eq!(carry.proven, name(16));
        assert!(carry.take_batches(7, Sequence(100)).is_empty());
    }
}
