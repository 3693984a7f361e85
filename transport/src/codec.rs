//! Numbers and byte strings to bytes and back: the alphabet of `wire`, `forward`, `heartbeat` and
//! `handshake`.
//!
//! Reading never panics, never allocates by a length that it was told, and hands out slices of the frame. A run
//! of entries, a batch or a reply that takes less than half of its frame is copied first: so what is kept of it
//! keeps no frame alive that is twice as long. A slice costs 32 bytes, also of one byte, and an entry up to 64
//! times its bytes. So the items of a frame are bounded in number: the entries of an append and the messages of
//! a frame (see `wire`), and the requests of a batch, the outcomes of a reply and the batches and replies of a
//! frame (see `forward`). They take 20 MiB beside the frame at most.
//!
//! ```text
//! varint   7 bits a byte, the lowest first, the top bit says that another follows; at most 10
//! fixed    8 bytes, little endian: for random numbers, which varints would lengthen
//! bytes    varint length, then that many bytes
//! ```

use bytes::{Buf, Bytes};
pub(crate) use purlin_rsm::run::{NUMBER_LIMIT, put_varint};
use purlin_rsm::{
    EntryId, GroupEpoch, GroupId, Index, NodeId, Position, ShardId, Term,
    run::{self, Entries, Run},
};
use std::fmt;

/// Bytes of a peer that mean nothing. The caller closes the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// Which rule they broke.
    pub what: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for Malformed {}

impl From<run::Malformed> for Malformed {
    fn from(run::Malformed(what): run::Malformed) -> Self {
        Self { what }
    }
}

/// Refuses with `what` unless `holds`.
pub(crate) fn ensure(holds: bool, what: &'static str) -> Result<(), Malformed> {
    if holds { Ok(()) } else { Err(Malformed { what }) }
}

pub(crate) fn put_fixed(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_entry_id(out: &mut Vec<u8>, id: EntryId) {
    put_varint(out, id.term.0);
    put_varint(out, id.index.0);
}

pub(crate) fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

/// The fields of a frame's body, taken one after the other.
pub(crate) struct Fields {
    /// What is not yet taken.
    rest: Bytes,
    /// The length of the whole, which a slice keeps alive.
    whole: usize,
}

impl Fields {
    pub(crate) fn new(body: Bytes) -> Self {
        Self { whole: body.len(), rest: body }
    }

    /// What is not yet taken.
    pub(crate) fn rest(&self) -> &Bytes {
        &self.rest
    }

    /// Whether slices of `bytes` bytes would keep a frame alive that is more than twice as long.
    pub(crate) fn is_small(&self, bytes: usize) -> bool {
        2 * bytes < self.whole
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses bytes behind the last field.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        ensure(self.is_empty(), "bytes behind the last field")
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.rest.first().ok_or(SHORT)?;
        self.skip(1);
        Ok(byte)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut rest = &self.rest[..];
        let number = run::take_varint(&mut rest)?;
        self.skip(self.rest.len() - rest.len());
        Ok(number)
    }

    /// A run of entries, whose commands are slices of the frame or of a copy of the run.
    pub(crate) fn run(&mut self) -> Result<Entries, Malformed> {
        let mut rest = &self.rest[..];
        let run = Run::take(&mut rest)?;
        let entries = match self.is_small(run.bytes.len()) {
            true => run.copied(),
            false => run.entries(&self.rest),
        };
        self.skip(self.rest.len() - rest.len());
        Ok(entries)
    }

    pub(crate) fn fixed(&mut self) -> Result<u64, Malformed> {
        let bytes = self.rest.get(..8).ok_or(SHORT)?;
        let number = u64::from_le_bytes(bytes.try_into().expect("a slice of 8 bytes"));
        self.skip(8);
        Ok(number)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.varint()?;
        self.slice(length)
    }

    /// The next `length` bytes, not copied.
    pub(crate) fn slice(&mut self, length: u64) -> Result<Bytes, Malformed> {
        ensure(length <= self.rest.len() as u64, "a byte string longer than its frame")?;
        Ok(self.rest.split_to(length as usize))
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed { what: "a truth value that is neither 0 nor 1" }),
        }
    }

    /// How many items follow, each of at least `item_bytes_min` bytes: so a count that the rest
    /// cannot hold is refused before anything is allocated for it.
    pub(crate) fn count(&mut self, item_bytes_min: usize) -> Result<usize, Malformed> {
        let count = self.varint()?;
        let most = self.rest.len() / item_bytes_min;
        ensure(count <= most as u64, "more items than the frame can hold")?;
        Ok(count as usize)
    }

    pub(crate) fn term(&mut self) -> Result<Term, Malformed> {
        let number = self.varint()?;
        ensure(number < NUMBER_LIMIT, "a term of 2^62 or more")?;
        Ok(Term(number))
    }

    pub(crate) fn index(&mut self) -> Result<Index, Malformed> {
        let number = self.varint()?;
        ensure(number < NUMBER_LIMIT, "an index of 2^62 or more")?;
        Ok(Index(number))
    }

    pub(crate) fn position(&mut self) -> Result<Position, Malformed> {
        let number = self.varint()?;
        ensure(number < NUMBER_LIMIT, "a position of 2^62 or more")?;
        Ok(Position(number))
    }

    pub(crate) fn entry_id(&mut self) -> Result<EntryId, Malformed> {
        Ok(EntryId::new(self.term()?, self.index()?))
    }

    pub(crate) fn group(&mut self) -> Result<GroupId, Malformed> {
        Ok(GroupId(self.narrow("a group number over 32 bits")?))
    }

    pub(crate) fn epoch(&mut self) -> Result<GroupEpoch, Malformed> {
        let epoch = GroupEpoch(self.narrow("a group's epoch over 32 bits")?);
        ensure(epoch >= GroupEpoch::FIRST, "a group's epoch of 0")?;
        Ok(epoch)
    }

    pub(crate) fn node(&mut self) -> Result<NodeId, Malformed> {
        Ok(NodeId(self.narrow("a node number over 32 bits")?))
    }

    pub(crate) fn shard(&mut self) -> Result<ShardId, Malformed> {
        Ok(ShardId(self.narrow("a shard number over 16 bits")?))
    }

    pub(crate) fn narrow<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, Malformed> {
        T::try_from(self.varint()?).map_err(|_| Malformed { what })
    }

    fn skip(&mut self, count: usize) {
        self.rest.advance(count);
    }
}

const SHORT: Malformed = Malformed { what: "a frame that ends inside a field" };

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Fields {
        Fields::new(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn varints_round_trip_at_every_length() {
        for shift in 0..64 {
            for number in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, number);
                let mut read = fields(&out);
                assert_eq!(read.varint(), Ok(number));
                assert_eq!(read.finish(), Ok(()));
            }
        }
    }

    #[test]
    fn a_varint_that_overflows_or_never_ends_is_refused() {
        assert!(fields(&[0xff; 9]).varint().is_err());
        assert_eq!(fields(&[0xff; 20]).varint(), Err(Malformed { what: "a number over 64 bits" }));
        let mut endless = [0x80; 11];
        endless[9] = 0x81;
        assert_eq!(
            fields(&endless).varint(),
            Err(Malformed { what: "a number of more than ten bytes" })
        );
    }

    #[test]
    fn a_byte_string_beyond_the_frame_is_refused() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        out.extend_from_slice(b"abc");
        assert!(fields(&out).bytes().is_err());
        assert!(fields(&out).count(1).is_err());
    }

    #[test]
    fn terms_and_indexes_have_a_limit_below_which_counting_is_safe() {
        let mut out = Vec::new();
        put_varint(&mut out, NUMBER_LIMIT);
        assert!(fields(&out).term().is_err());
        assert!(fields(&out).index().is_err());
        out.clear();
        put_varint(&mut out, NUMBER_LIMIT - 1);
        assert_eq!(fields(&out).term(), Ok(Term(NUMBER_LIMIT - 1)));
    }
}
