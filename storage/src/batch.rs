//! A batch: what one write to the WAL carries. Records of many groups behind one header.
//!
//! ```text
//!  0  magic            u32   "PWB1"
//!  4  header checksum  u32   CRC32C of bytes 8 to 56
//!  8  epoch            u64   the segment's; stale batches of a recycled file have another
//! 16  sequence         u64
//! 24  watermark        u64   everything up to this sequence was durable when this was written
//! 32  oldest           u64   the oldest segment that is still needed
//! 40  length           u32   bytes of records
//! 44  kind             u32   0 records · 1 closing: no records, only a newer watermark (W9)
//! 48  checksum         u32   CRC32C of bytes 56 to the padded end
//! 52  zero             u32
//! 56  records, then zeroes up to a whole block
//! ```
//!
//! Both checksums are seeded with the identity and the epoch. So neither stale batches of a recycled file
//! nor bytes that a client sent are taken for a batch. The header has a checksum of its own: it proves
//! the length before it is used, and the watermark of a torn batch can still be read.

use crate::{
    align::{BLOCK, align_up},
    record,
};
use bytes::Bytes;
use purlin_rsm::{Entry, GroupId, HardState, Identity, PeerMemory, Sequence};
use std::ops::Range;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U32, U64},
};

/// Records for one write, in the order in which they take effect.
///
/// A batch that is longer than `batch_bytes_max` is written as several batches, cut between records. So
/// add the hard state of a group before the entries that came with it (safety A2).
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
    has_entries: bool,
}

impl Batch {
    /// Without records, and with room for so many bytes of them: filling it moves none of them.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Adds `state` as the hard state of `group`.
    pub fn hard_state(&mut self, group: GroupId, state: HardState) {
        record::put_hard_state(&mut self.bytes, group, state, false);
        self.ends.push(self.bytes.len());
    }

    /// Adds consecutive entries to the log of `group`. They replace all entries at or above their first
    /// index.
    pub fn entries(&mut self, group: GroupId, entries: &[Entry]) {
        for pair in entries.windows(2) {
            let (a, b) = (pair[0].id(), pair[1].id());
            let follows = b.index == a.index.next() && b.term >= a.term;
            assert!(follows && pair[1].before == pair[0].end(), "{b} cannot follow {a}");
        }
        for run in runs(entries) {
            record::put_entries(&mut self.bytes, group, run);
            self.ends.push(self.bytes.len());
            self.has_entries = true;
        }
    }

    /// Adds what is known of a shard of a peer.
    pub fn peer(&mut self, memory: PeerMemory) {
        record::put_peer(&mut self.bytes, &memory, false);
        self.ends.push(self.bytes.len());
    }

    /// Adds a record that `put` writes from the state in memory (safety W6).
    pub(crate) fn relocated(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        put(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of its records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has entries, and so may not use the reserve (safety W8).
    pub(crate) fn has_entries(&self) -> bool {
        self.has_entries
    }

    /// Where to cut it so that no piece is longer than `bytes_max`. A record that is longer is a piece of
    /// its own.
    pub(crate) fn cuts(&self, bytes_max: usize) -> Vec<Range<usize>> {
        let mut pieces: Vec<Range<usize>> = Vec::new();
        let mut start = 0;
        for &end in &self.ends {
            match pieces.last_mut() {
                Some(piece) if end - piece.start <= bytes_max => piece.end = end,
                _ => pieces.push(start..end),
            }
            start = end;
        }
        pieces
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

/// Cuts entries into records: where the term changes, and where a record grows long. So a large append
/// can be cut into several writes.
fn runs(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    const RUN_COST_MAX: usize = 8 << 10;
    let mut rest = entries;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut cost = 0;
        let fits = |entry: &&Entry| {
            cost += entry.cost();
            entry.term == first.term && cost <= RUN_COST_MAX
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (run, after) = rest.split_at(count);
        rest = after;
        Some(run)
    })
}

/// The bytes of the header.
pub(crate) const HEADER_BYTES: usize = size_of::<Raw>();
const _: () = assert!(HEADER_BYTES == 56);

/// The length on disk of a batch with `records` bytes of records.
pub(crate) fn written_bytes(records: usize) -> usize {
    align_up(HEADER_BYTES + records)
}

/// The kind of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// It carries records.
    Records,
    /// It carries a newer watermark only (safety W9).
    Closing,
}

/// The header of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) epoch: u64,
    pub(crate) sequence: Sequence,
    pub(crate) watermark: Sequence,
    pub(crate) oldest: u64,
    /// The bytes of records behind the header.
    pub(crate) length: usize,
    pub(crate) kind: Kind,
    /// The checksum of the header. It names this batch in the header of the next segment.
    pub(crate) checksum: u32,
    body_checksum: u32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 4],
    header_checksum: U32,
    epoch: U64,
    sequence: U64,
    watermark: U64,
    oldest: U64,
    length: U32,
    kind: U32,
    checksum: U32,
    zero: U32,
}

const MAGIC: [u8; 4] = *b"PWB1";

/// The seed of the checksums, beside the epoch: the owner of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(identity: &Identity) -> Self {
        let mut bytes = Vec::with_capacity(30);
        bytes.extend_from_slice(&identity.cluster.0.to_le_bytes());
        bytes.extend_from_slice(&identity.incarnation.0.to_le_bytes());
        bytes.extend_from_slice(&identity.node.0.to_le_bytes());
        bytes.extend_from_slice(&identity.shard.0.to_le_bytes());
        Self(crc32c::crc32c(&bytes))
    }

    fn with_epoch(self, epoch: u64) -> u32 {
        crc32c::crc32c_append(self.0, &epoch.to_le_bytes())
    }
}

/// The bound of sequences. No log reaches it, and additions to a sequence below it cannot overflow.
pub(crate) const SEQUENCE_MAX: Sequence = Sequence(1 << 62);

/// The fields of a header that are decided when the batch is written.
pub(crate) struct Stamp {
    pub(crate) epoch: u64,
    pub(crate) sequence: Sequence,
    pub(crate) watermark: Sequence,
    pub(crate) oldest: u64,
    pub(crate) kind: Kind,
}

/// Encodes a batch into `block`, which must be as long as [`written_bytes`] says. Returns the checksum
/// that names the batch.
pub(crate) fn seal(block: &mut [u8], seed: Seed, stamp: &Stamp, records: &[u8]) -> u32 {
    assert_eq!(block.len(), written_bytes(records.len()), "a block of the wrong length");
    let (head, body) = block.split_at_mut(HEADER_BYTES);
    body[..records.len()].copy_from_slice(records);
    body[records.len()..].fill(0);
    let salt = seed.with_epoch(stamp.epoch);
    let mut raw = Raw {
        magic: MAGIC,
        header_checksum: 0.into(),
        epoch: stamp.epoch.into(),
        sequence: stamp.sequence.0.into(),
        watermark: stamp.watermark.0.into(),
        oldest: stamp.oldest.into(),
        length: (records.len() as u32).into(),
        kind: u32::from(stamp.kind == Kind::Closing).into(),
        checksum: crc32c::crc32c_append(salt, body).into(),
        zero: 0.into(),
    };
    raw.header_checksum = crc32c::crc32c_append(salt, &raw.as_bytes()[8..]).into();
    head.copy_from_slice(raw.as_bytes());
    raw.header_checksum.get()
}

/// The header at the start of `bytes`, if its checksum is right.
pub(crate) fn parse(bytes: &[u8], seed: Seed) -> Option<Header> {
    let (raw, _) = Raw::ref_from_prefix(bytes).ok()?;
    if raw.magic != MAGIC || raw.zero != 0 {
        return None;
    }
    let salt = seed.with_epoch(raw.epoch.get());
    let checksum = crc32c::crc32c_append(salt, &raw.as_bytes()[8..]);
    if checksum != raw.header_checksum.get() || raw.sequence.get() > SEQUENCE_MAX.0 {
        return None;
    }
    let kind = match raw.kind.get() {
        0 => Kind::Records,
        1 => Kind::Closing,
        _ => return None,
    };
    Some(Header {
        epoch: raw.epoch.get(),
        sequence: Sequence(raw.sequence.get()),
        watermark: Sequence(raw.watermark.get()),
        oldest: raw.oldest.get(),
        length: raw.length.get() as usize,
        kind,
        checksum: raw.header_checksum.get(),
        body_checksum: raw.checksum.get(),
    })
}

impl Header {
    /// The length of its batch on disk.
    pub(crate) fn written_bytes(&self) -> usize {
        written_bytes(self.length)
    }

    /// Whether the records in `written`, the bytes of the batch, have the right checksum.
    pub(crate) fn is_sound(&self, written: &[u8], seed: Seed) -> bool {
        let body = written.get(HEADER_BYTES..self.written_bytes());
        let checksum = |body| crc32c::crc32c_append(seed.with_epoch(self.epoch), body);
        body.is_some_and(|body| checksum(body) == self.body_checksum)
    }
}

const _: () = assert!(BLOCK > HEADER_BYTES);

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{Index, Payload, Position, Term};

    fn entries(term: u64, indices: Range<u64>, bytes: usize) -> Vec<Entry> {
        indices
            .map(|index| Entry {
                term: Term(term),
                index: Index(index),
                before: Position(index - 1),
                payload: Payload::command(vec![7; bytes].into()),
            })
            .collect()
    }

    #[test]
    fn a_large_batch_is_cut_between_records() {
        let mut batch = Batch::default();
        batch.hard_state(GroupId(1), HardState::default());
        batch.entries(GroupId(1), &entries(1, 1..100, 1000));
        let cuts = batch.cuts(20_000);
        assert!(cuts.len() > 4, "{cuts:?}");
        assert!(cuts.iter().all(|cut| cut.len() <= 20_000));
        assert_eq!(cuts[0].start, 0);
        assert!(cuts.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(cuts.last().unwrap().end, batch.bytes());
    }

    #[test]
    fn an_oversized_record_travels_alone() {
        let mut batch = Batch::default();
        batch.hard_state(GroupId(1), HardState::default());
        batch.entries(GroupId(1), &entries(1, 1..2, 50_000));
        batch.hard_state(GroupId(2), HardState::default());
        assert_eq!(batch.cuts(10_000).len(), 3);
    }

    #[test]
    fn one_flipped_bit_anywhere_voids_a_batch() {
        let seed = Seed(5);
        let stamp = Stamp {
            epoch: 9,
            sequence: Sequence(4),
            watermark: Sequence(3),
            oldest: 1,
            kind: Kind::Records,
        };
        let mut block = vec![0; BLOCK];
        let checksum = seal(&mut block, seed, &stamp, b"records");
        let header = parse(&block, seed).unwrap();
        assert_eq!((header.checksum, header.length), (checksum, 7));
        assert!(header.is_sound(&block, seed));
        assert_eq!(parse(&block, Seed(6)), None, "another identity's");
        for bit in 0..BLOCK * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            let is_valid = parse(&block, seed).is_some_and(|header| header.is_sound(&block, seed));
            assert!(!is_valid, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    #[should_panic(expected = "cannot follow")]
    fn a_batch_with_a_gap_in_its_entries_panics() {
        let mut gap = entries(1, 1..2, 1);
        gap.extend(entries(1, 3..4, 1));
        Batch::default().entries(GroupId(1), &gap);
    }
}
