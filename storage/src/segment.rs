//! One file of the WAL: its name, its states, and its header block.
//!
//! A file is *prepared*: zero-filled or recycled, named, and without valid content. It is *active* when
//! its header is written, *sealed* when a younger segment is active, and *recycled* when nobody needs it.
//! A file that was never active has a header too, of number 0 and sequence 0: so zeroes are never a first
//! block, and what has lost its header is not taken for what never had one (safety W4).
//!
//! The number of a segment is the one in its header; the name of the file only helps people. Batches
//! follow the header block without gaps.
//!
//! ```text
//!   0  magic        8 bytes  "PURLWAL\0"
//!   8  checksum     u32      CRC32C of bytes 12 to 4096
//!  12  version      u32      2
//!  16  cluster      u128
//!  32  node         u32
//!  36  shard        u16
//!  38  starts       u16      how many starts are listed
//!  40  incarnation  u64
//!  48  number       u64      of this segment
//!  56  epoch        u64      random; stands in every batch behind this header
//!  64  sequence     u64      the header's own; its first batch has the next one
//!  72  previous     segment u64 · sequence u64 · checksum u32: the last batch before it, or zeroes
//!  92  zero         u32
//!  96  oldest       u64      the oldest segment that is still needed
//! 104  bytes        u64      the file's size
//! 112  starts       16 × (number u64 · boot u64 · kept u64), the oldest first
//! 496  fork         u64      reserved (safety Q2): 0
//! 504  incarnation of the shard, u64: reserved (safety M12): 0
//! 512  hints        u32      reserved, bytes of commit hints that follow (safety N7): 0
//! 516  zeroes                room for commit hints
//! ```
//!
//! Reserved fields are written as above. If one of them is set, a later version has written the header.
//! This version does not know all that the header says, and does not open the log.
//!
//! Every version begins with the bytes 0 to 16, so that a newer version is told from damage.

use crate::{align::BLOCK, batch::SEQUENCE_MAX};
use purlin_rsm::{BootId, ClusterId, Identity, Incarnation, NodeId, Sequence, ShardId, Start};
use std::cell::Cell;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64, U128},
};

/// The version of the format.
pub(crate) const VERSION: u32 = 2;
/// The most starts that a header lists (safety I4).
pub(crate) const STARTS_MAX: usize = 16;
/// Where the first batch lies.
pub(crate) const FIRST_BATCH: u64 = BLOCK as u64;

/// A file that holds batches.
pub(crate) struct Segment<F> {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) epoch: u64,
    /// The sequence of the header.
    pub(crate) sequence: Sequence,
    pub(crate) bytes: u64,
    /// The place of the next batch.
    pub(crate) end: Cell<u64>,
    pub(crate) file: F,
}

/// The name of segment `number`.
pub(crate) fn name(number: u64) -> String {
    format!("{number:012}.wal")
}

/// The name under which segment `number` is zero-filled.
pub(crate) fn unfinished_name(number: u64) -> String {
    format!("{number:012}.new")
}

/// The number that a segment's name carries.
pub(crate) fn number_in(name: &str) -> Option<u64> {
    name.strip_suffix(".wal").filter(|digits| digits.len() == 12)?.parse().ok()
}

/// Whether a name is that of a segment that was not prepared completely.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(".new").is_some_and(|digits| digits.parse::<u64>().is_ok())
}

/// The name of a batch: its segment, its sequence and its checksum. All zero names no batch.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct BatchName {
    /// The number of its segment.
    pub segment: u64,
    /// Its place in the order of the log.
    pub sequence: Sequence,
    /// The checksum of its header, which covers the checksum of its records.
    pub checksum: u32,
}

/// The content of the header block of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The owner of the log.
    pub identity: Identity,
    /// The segment's number.
    pub number: u64,
    /// The epoch of the segment. It stands in every batch that is written behind this header.
    pub epoch: u64,
    /// The sequence of the header.
    pub sequence: Sequence,
    /// The last batch of the log before this segment; all zero for none. All up to it was durable when this
    /// header was written, all beyond it is void (safety W2).
    pub previous: BatchName,
    /// The oldest segment that is still needed.
    pub oldest: u64,
    /// The file's size.
    pub bytes: u64,
    /// The latest starts, the oldest first.
    pub starts: Vec<Start>,
}

/// What the first block of a file is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum FirstBlock {
    /// A header.
    Header(Header),
    /// The block of a file that was prepared for the log of this owner, and has not been active.
    Prepared(Identity),
    /// A header of a version that this one does not know.
    Version(u32),
    /// A header of this version in which a reserved field is set.
    Reserved,
    /// A torn header, a damaged one, or zeroes.
    Unreadable,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    checksum: U32,
    version: U32,
    cluster: U128,
    node: U32,
    shard: U16,
    starts: U16,
    incarnation: U64,
    number: U64,
    epoch: U64,
    sequence: U64,
    previous_segment: U64,
    previous_sequence: U64,
    previous_checksum: U32,
    zero: U32,
    oldest: U64,
    bytes: U64,
    latest: [RawStart; STARTS_MAX],
}

#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawStart {
    number: U64,
    boot: U64,
    kept: U64,
}

const MAGIC: [u8; 8] = *b"PURLWAL\0";
const CHECKED_FROM: usize = 12;
const _: () = assert!(size_of::<Raw>() == 496);

/// The first block of a file of `bytes` bytes that was prepared and has not been active.
pub(crate) fn prepared_block(identity: Identity, bytes: u64) -> Vec<u8> {
    let header = Header {
        identity,
        number: 0,
        epoch: 0,
        sequence: Sequence(0),
        previous: BatchName::default(),
        oldest: 0,
        bytes,
        starts: Vec::new(),
    };
    let mut block = vec![0; BLOCK];
    header.write(&mut block);
    block
}

impl Header {
    /// Fills a block with it.
    pub(crate) fn write(&self, block: &mut [u8]) {
        assert!(self.starts.len() <= STARTS_MAX, "{} starts", self.starts.len());
        let mut latest = [RawStart::default(); STARTS_MAX];
        for (raw, start) in latest.iter_mut().zip(&self.starts) {
            *raw = RawStart {
                number: start.number.into(),
                boot: start.boot.0.into(),
                kept: start.kept.0.into(),
            };
        }
        let raw = Raw {
            magic: MAGIC,
            checksum: 0.into(),
            version: VERSION.into(),
            cluster: self.identity.cluster.0.into(),
            node: self.identity.node.0.into(),
            shard: self.identity.shard.0.into(),
            starts: (self.starts.len() as u16).into(),
            incarnation: self.identity.incarnation.0.into(),
            number: self.number.into(),
            epoch: self.epoch.into(),
            sequence: self.sequence.0.into(),
            previous_segment: self.previous.segment.into(),
            previous_sequence: self.previous.sequence.0.into(),
            previous_checksum: self.previous.checksum.into(),
            zero: 0.into(),
            oldest: self.oldest.into(),
            bytes: self.bytes.into(),
            latest,
        };
        block.fill(0);
        block[..size_of::<Raw>()].copy_from_slice(raw.as_bytes());
        let checksum = crc32c::crc32c(&block[CHECKED_FROM..]);
        block[8..CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Decodes the first block of a segment.
pub(crate) fn parse(block: &[u8]) -> FirstBlock {
    let Ok((raw, _)) = Raw::ref_from_prefix(block) else { return FirstBlock::Unreadable };
    if block.len() != BLOCK
        || raw.magic != MAGIC
        || crc32c::crc32c(&block[CHECKED_FROM..]) != raw.checksum.get()
    {
        return FirstBlock::Unreadable;
    }
    if raw.version != VERSION {
        return FirstBlock::Version(raw.version.get());
    }
    if raw.zero != 0 || block[size_of::<Raw>()..].iter().any(|&byte| byte != 0) {
        return FirstBlock::Reserved;
    }
    let Some(latest) = raw.latest.get(..usize::from(raw.starts.get())) else {
        return FirstBlock::Unreadable;
    };
    // No WAL reaches such numbers, so they are not valid.
    let last_start = latest.last().map_or(0, |start| start.number.get());
    if raw.sequence.get().max(last_start) > SEQUENCE_MAX.0 {
        return FirstBlock::Unreadable;
    }
    let starts = latest.iter().map(|start| Start {
        number: start.number.get(),
        boot: BootId(start.boot.get()),
        kept: Sequence(start.kept.get()),
    });
    let identity = Identity {
        cluster: ClusterId(raw.cluster.get()),
        node: NodeId(raw.node.get()),
        incarnation: Incarnation(raw.incarnation.get()),
        shard: ShardId(raw.shard.get()),
    };
    if raw.number.get() == 0 && raw.sequence.get() == 0 {
        return FirstBlock::Prepared(identity);
    }
    FirstBlock::Header(Header {
        identity,
        number: raw.number.get(),
        epoch: raw.epoch.get(),
        sequence: Sequence(raw.sequence.get()),
        previous: BatchName {
            segment: raw.previous_segment.get(),
            sequence: Sequence(raw.previous_sequence.get()),
            checksum: raw.previous_checksum.get(),
        },
        oldest: raw.oldest.get(),
        bytes: raw.bytes.get(),
        starts: starts.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            identity: Identity {
                cluster: ClusterId(1 << 100),
                node: NodeId(2),
                incarnation: Incarnation(3),
                shard: ShardId(4),
            },
            number: 5,
            epoch: 6,
            sequence: Sequence(7),
            previous: BatchName { segment: 4, sequence: Sequence(6), checksum: 9 },
            oldest: 2,
            bytes: 1 << 16,
            starts: (1..=16)
                .map(|n| Start { number: n, boot: BootId(n), kept: Sequence(n) })
                .collect(),
        }
    }

    #[test]
    fn a_header_decodes_to_what_was_encoded() {
        let mut block = vec![1; BLOCK];
        header().write(&mut block);
        assert_eq!(parse(&block), FirstBlock::Header(header()));
    }

    #[test]
    fn a_prepared_file_says_whose_it_is() {
        let block = prepared_block(header().identity, 1 << 16);
        assert_eq!(parse(&block), FirstBlock::Prepared(header().identity));
    }

    #[test]
    fn a_header_with_one_flipped_bit_is_unreadable() {
        let mut block = vec![1; BLOCK];
        header().write(&mut block);
        for bit in 0..BLOCK * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&block), FirstBlock::Unreadable, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(parse(&block[..512]), FirstBlock::Unreadable);
    }

    #[test]
    fn a_header_of_a_newer_version_is_not_damage() {
        let mut block = vec![0; BLOCK];
        header().write(&mut block);
        block[12] = 3;
        let checksum = crc32c::crc32c(&block[CHECKED_FROM..]);
        block[8..12].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(parse(&block), FirstBlock::Version(3));
    }

    #[test]
    fn a_header_with_a_reserved_field_set_is_of_a_later_build() {
        for at in [92, 496, 504, 512, 516, BLOCK - 1] {
            let mut block = vec![0; BLOCK];
            header().write(&mut block);
            block[at] = 1;
            let checksum = crc32c::crc32c(&block[CHECKED_FROM..]);
            block[8..12].copy_from_slice(&checksum.to_le_bytes());
            assert_eq!(parse(&block), FirstBlock::Reserved, "byte {at}");
        }
    }

    #[test]
    fn names_carry_numbers() {
        assert_eq!(number_in(&name(42)), Some(42));
        assert_eq!(number_in("lock"), None);
        assert_eq!(number_in("42.wal"), None);
        assert!(is_unfinished(&unfinished_name(42)) && !is_unfinished("x.new"));
    }
}
