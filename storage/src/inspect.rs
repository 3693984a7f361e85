//! Reading the bytes of one write to a segment from outside of a WAL, and writing them again. Pure.
//!
//! This module is for tools that print a log, and for checkers that follow the writes of a disk. A write
//! is either a segment's first block or one batch, and [`header`] and [`batch`] tell which. Only recovery
//! decides which batches are the log.

use crate::{
    batch::{self, HEADER_BYTES, Kind, Seed, Stamp},
    record::{self, Records},
    segment::{self, FirstBlock},
};
use purlin_rsm::{Entry, EntryId, GroupId, HardState, Identity, PeerMemory, Position, Sequence};

pub use crate::segment::{BatchName, Header as SegmentHeader};

/// One batch that proves itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrittenBatch {
    /// The epoch of its segment.
    pub epoch: u64,
    /// Its place in the order of the log.
    pub sequence: Sequence,
    /// All up to here was durable when it was written.
    pub watermark: Sequence,
    /// Names it in the header of the next segment.
    pub checksum: u32,
    /// What it carries, in the order in which it takes effect; nothing in a closing batch.
    pub records: Vec<Record>,
}

/// One thing that a batch makes durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A group's hard state.
    HardState {
        /// The group.
        group: GroupId,
        /// Its state.
        state: HardState,
        /// A copy of what an older segment holds, which changes nothing.
        relocated: bool,
    },
    /// Consecutive entries of one term. They replace all at or above the first.
    Entries {
        /// The group.
        group: GroupId,
        /// At least one.
        entries: Vec<Entry>,
    },
    /// The entry before a group's first.
    Floor {
        /// The group.
        group: GroupId,
        /// The entry; nothing at or below it is needed.
        floor: EntryId,
        /// The position of the last command up to it.
        position: Position,
    },
    /// What is remembered of a peer's shard.
    Peer {
        /// The memory.
        memory: PeerMemory,
        /// A copy of what an older segment holds, which changes nothing.
        relocated: bool,
    },
}

/// Reads a segment's first block of 4,096 bytes; nothing if that is no header of a known version.
pub fn header(block: &[u8]) -> Option<SegmentHeader> {
    match segment::parse(block) {
        FirstBlock::Header(header) => Some(header),
        FirstBlock::Prepared(_)
        | FirstBlock::Version(_)
        | FirstBlock::Reserved
        | FirstBlock::Unreadable => None,
    }
}

/// Reads the batch at the start of `bytes`; nothing if there is no whole and sound one of this log.
pub fn batch(bytes: &[u8], identity: &Identity) -> Option<WrittenBatch> {
    let seed = Seed::new(identity);
    let header = batch::parse(bytes, seed).filter(|header| header.is_sound(bytes, seed))?;
    let records = match header.kind {
        Kind::Records => &bytes[HEADER_BYTES..HEADER_BYTES + header.length],
        Kind::Closing => &[],
    };
    let records: Result<Vec<Record>, _> =
        Records::new(records).map(|record| record.map(Record::from)).collect();
    Some(WrittenBatch {
        epoch: header.epoch,
        sequence: header.sequence,
        watermark: header.watermark,
        checksum: header.checksum,
        records: records.ok()?,
    })
}

/// The bytes of records, as a batch carries them.
///
/// # Panics
/// A run of entries has none, or its entries do not continue each other.
pub fn records(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        match record {
            Record::HardState { group, state, relocated } => {
                record::put_hard_state(&mut out, *group, *state, *relocated);
            }
            Record::Entries { group, entries } => record::put_entries(&mut out, *group, entries),
            Record::Floor { group, floor, position } => {
                record::put_floor(&mut out, *group, *floor, *position);
            }
            Record::Peer { memory, relocated } => record::put_peer(&mut out, memory, *relocated),
        }
    }
    out
}

/// A batch with the right checksums around `records`, which may be any bytes. Of `like`, the records and the
/// checksum do not count.
pub fn sealed(like: &WrittenBatch, identity: &Identity, records: &[u8]) -> Vec<u8> {
    let stamp = Stamp {
        epoch: like.epoch,
        sequence: like.sequence,
        watermark: like.watermark,
        oldest: 0,
        kind: Kind::Records,
    };
    let mut block = vec![0; batch::written_bytes(records.len())];
    batch::seal(&mut block, Seed::new(identity), &stamp, records);
    block
}

impl From<record::Record<'_>> for Record {
    fn from(record: record::Record<'_>) -> Self {
        match record {
            record::Record::HardState { group, state, relocated } => {
                Self::HardState { group, state, relocated }
            }
            record::Record::Entries { group, run } => {
                Self::Entries { group, entries: run.copied().collect() }
            }
            record::Record::Floor { group, floor, position } => {
                Self::Floor { group, floor, position }
            }
            record::Record::Peer { memory, relocated } => Self::Peer { memory, relocated },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, align::BLOCK};
    use bytes::Bytes;
    use purlin_rsm::{ClusterId, Incarnation, Index, NodeId, Payload, ShardId, Term};

    fn identity(node: u32) -> Identity {
        Identity {
            cluster: ClusterId(1),
            node: NodeId(node),
            incarnation: Incarnation(2),
            shard: ShardId(3),
        }
    }

    #[test]
    fn a_written_batch_shows_what_was_put_in() {
        let group = GroupId(4);
        let state = HardState { term: Term(5), vote: Some(NodeId(1)), committed: Index(0) };
        let payload = Payload::command(Bytes::from_static(b"x"));
        let entries = vec![Entry { term: Term(5), index: Index(1), before: Position(0), payload }];
        let mut put = Batch::default();
        put.hard_state(group, state);
        put.entries(group, &entries);
        let stamp = Stamp {
            epoch: 6,
            sequence: Sequence(7),
            watermark: Sequence(5),
            oldest: 1,
            kind: Kind::Records,
        };
        let mut block = vec![0; BLOCK];
        let checksum = batch::seal(&mut block, Seed::new(&identity(1)), &stamp, &put.into_bytes());
        let seen = batch(&block, &identity(1)).expect("a sound batch");
        let written = vec![
            Record::HardState { group, state, relocated: false },
            Record::Entries { group, entries },
        ];
        let again = sealed(&seen, &identity(1), &records(&written));
        assert_eq!(batch(&again, &identity(1)).expect("a sound batch").records, written);
        let (sequence, watermark) = (stamp.sequence, stamp.watermark);
        let expected = WrittenBatch { epoch: 6, sequence, watermark, checksum, records: written };
        assert_eq!(seen, expected);
        assert_eq!(batch(&block, &identity(2)), None, "another log's");
        block[100] ^= 1;
        assert_eq!(batch(&block, &identity(1)), None, "a damaged one");
        assert_eq!(header(&block), None);
    }

    #[test]
    fn a_first_block_shows_its_header() {
        let header_written = segment::Header {
            identity: identity(1),
            number: 2,
            epoch: 3,
            sequence: Sequence(4),
            previous: BatchName { segment: 1, sequence: Sequence(3), checksum: 9 },
            oldest: 1,
            bytes: 1 << 16,
            starts: Vec::new(),
        };
        let mut block = vec![0; BLOCK];
        header_written.write(&mut block);
        let seen = header(&block).expect("a header");
        assert_eq!((seen.number, seen.epoch, seen.previous), (2, 3, header_written.previous));
        assert_eq!(batch(&block, &identity(1)), None);
    }
}
