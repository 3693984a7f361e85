//! Batches and headers of the WAL.

use super::cost::bounded;
use purlin_rsm::{ClusterId, Identity, Incarnation, NodeId, Sequence, ShardId};
use purlin_storage::inspect::{self, WrittenBatch};

const IDENTITY: Identity = Identity {
    cluster: ClusterId(1),
    node: NodeId(2),
    incarnation: Incarnation(3),
    shard: ShardId(4),
};
/// Bytes of a segment's header, and of a block.
const BLOCK: usize = 4096;
/// Where the checksum of a segment's header stands, and what it covers.
const HEADER_CHECKSUM: std::ops::Range<usize> = 8..12;

/// The first byte says what the rest is: the records of a batch, a header without its checksum, or bytes as
/// a disk gives them. Records that were read and are written again are read again, and no batch survives a
/// flipped bit.
pub fn wal(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    match first {
        0 => {
            let mut block = rest.to_vec();
            block.resize(BLOCK, 0);
            // Nothing is promised but that they are read.
            let _ = inspect::header(&block);
            let _ = batch(rest);
        }
        1 => {
            let mut block = rest.to_vec();
            block.resize(BLOCK, 0);
            let checksum = crc32c::crc32c(&block[HEADER_CHECKSUM.end..]);
            block[HEADER_CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
            if let Some(header) = bounded(BLOCK, 1, 0, || inspect::header(&block)) {
                assert!(header.starts.len() <= 16, "{} starts", header.starts.len());
            }
        }
        bit => records(rest, usize::from(bit)),
    }
}

/// A batch around `records`; one bit of it flips, which `bit` chooses.
fn records(records: &[u8], bit: usize) {
    let like = WrittenBatch {
        epoch: 5,
        sequence: Sequence(6),
        watermark: Sequence(4),
        checksum: 0,
        records: Vec::new(),
    };
    let mut sealed = inspect::sealed(&like, &IDENTITY, records);
    let read = batch(&sealed);
    let bit = bit * 7_919 % (sealed.len() * 8);
    sealed[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(batch(&sealed), None, "bit {bit} is flipped");

    let Some(read) = read else { return };
    assert_eq!((read.epoch, read.sequence, read.watermark), (5, like.sequence, like.watermark));
    let again = inspect::sealed(&read, &IDENTITY, &inspect::records(&read.records));
    let again = batch(&again).expect("records that were read before");
    assert_eq!(again.records, read.records, "written again");
}

fn batch(bytes: &[u8]) -> Option<WrittenBatch> {
    // An entry of one byte has 64 in memory, and a record as short as they come a hundred.
    bounded(bytes.len(), 256, 4 << 10, || inspect::batch(bytes, &IDENTITY))
}
