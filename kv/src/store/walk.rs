//! Walks in the order of (hash, key), in portions, over a store or over a view of it.
//!
//! A walk keeps nothing between two portions but the place where it goes on. The order of the keys never changes, so a
//! key that is there all the time is given exactly once, whatever is written between two portions, and wherever buckets
//! are split meanwhile.

use super::{bucket::Bucket, record::Record};

/// Where a walk goes on. The default is the start.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KvCursor {
    hash: u64,
    key: Box<[u8]>,
}

/// A part of a walk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvPortion<'a> {
    /// Keys with their values, in the order of (hash, key).
    pub pairs: Vec<(&'a [u8], &'a [u8])>,
    /// Where the walk goes on. Without it this portion is the last one.
    pub next: Option<KvCursor>,
}

/// The records of a row of buckets, in order, from this (hash, key) on. Of each bucket that it comes to it sorts the records.
pub(super) fn records_from<'a>(
    starts: &[u64],
    buckets: impl Iterator<Item = &'a Bucket>,
    from: (u64, &[u8]),
) -> impl Iterator<Item = &'a Record> {
    let records = buckets.skip(bucket_of(starts, from.0)).flat_map(Bucket::sorted);
    records.skip_while(move |record| record.place() < from)
}

/// The bucket that has the keys of this hash, in a row of buckets with these lowest hashes.
///
/// # Panics
/// If the hash is below all of them.
pub(super) fn bucket_of(starts: &[u64], hash: u64) -> usize {
    let above = starts.partition_point(|&start| start <= hash);
    assert!(above > 0, "the bucket of {hash:#x} was forgotten");
    above - 1
}

impl<'a> KvPortion<'a> {
    /// The first of these records: `records_max` at most, and `bytes_max` bytes of keys and values, but at least one.
    ///
    /// # Panics
    /// If `records_max` is 0.
    pub(super) fn of(
        records: impl Iterator<Item = &'a Record>,
        records_max: usize,
        bytes_max: usize,
    ) -> Self {
        assert!(records_max > 0, "a walk without records would never end");
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        for record in records {
            bytes += record.len();
            if pairs.len() == records_max || bytes > bytes_max && !pairs.is_empty() {
                let next = KvCursor::of(record.hash(), record.key());
                return Self { pairs, next: Some(next) };
            }
            pairs.push((record.key(), record.value()));
        }
        Self { pairs, next: None }
    }
}

impl KvCursor {
    /// The place of a key with this hash.
    pub(super) fn of(hash: u64, key: &[u8]) -> Self {
        Self { hash, key: key.into() }
    }

    pub(super) fn place(&self) -> (u64, &[u8]) {
        (self.hash, &self.key)
    }
}
