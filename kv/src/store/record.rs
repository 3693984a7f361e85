//! A key with its value, and the hash of the key.

use super::hash::{HashKey, SLOT_SHIFT};
use smallvec::SmallVec;

/// A key and a value that are together at most this long lie in the record itself, and cost no memory of
/// their own. The record is then one line of the cache: 64 bytes.
const INLINE_BYTES: usize = 40;

/// A key and its value, one behind the other, with the hash of the key: a bucket that grows or is split, and a walk, hash
/// no key again.
///
/// The bytes are a copy. A slice of the command would keep alive the whole buffer in which the command
/// arrived.
#[derive(Clone, Debug)]
pub(super) struct Record {
    hash: u64,
    bytes: SmallVec<[u8; INLINE_BYTES]>,
    key_bytes: u32,
}

impl Record {
    /// A key with this hash, without a value.
    pub(super) fn new(hash: u64, key: &[u8]) -> Self {
        let key_bytes = u32::try_from(key.len()).expect("keys are shorter than 4 GiB");
        Self { hash, bytes: SmallVec::from_slice(key), key_bytes }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.bytes[..self.key_bytes as usize]
    }

    /// The hash of the key.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Where it stands in a walk.
    pub(super) fn place(&self) -> (u64, &[u8]) {
        (self.hash, self.key())
    }

    /// Whether it is the record of this key, which has this hash.
    pub(super) fn is_of(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && self.key() == key
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.bytes[self.key_bytes as usize..]
    }

    pub(super) fn set(&mut self, value: &[u8]) {
        self.bytes.truncate(self.key_bytes as usize);
        // A short value in the place of a long one gives the memory of the long one back.
        if self.heap_bytes() > 4 * (self.bytes.len() + value.len()) + 64 {
            self.bytes.shrink_to_fit();
        }
        self.append(value);
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        // Most values keep their length, so a new value has no room to grow. One that grows gets an eighth.
        let len = self.bytes.len() + bytes.len();
        if len > self.bytes.capacity() {
            let spare = if self.value().is_empty() { 0 } else { len / 8 };
            self.bytes.reserve_exact(bytes.len() + spare);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The slot of the key.
    pub(super) fn slot(&self) -> u16 {
        (self.hash >> SLOT_SHIFT) as u16
    }

    /// Whether a value of so many bytes has room in the memory of the record, inside of it or outside.
    pub(super) fn has_room_for(&self, value_bytes: usize) -> bool {
        self.key_bytes as usize + value_bytes <= self.bytes.capacity()
    }

    /// The memory that the record has outside of itself, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        if self.bytes.spilled() { self.bytes.capacity() } else { 0 }
    }

    /// The share of this record in the digest of the store.
    pub(super) fn digest(&self, hash_key: HashKey) -> u64 {
        hash_key.digest(&self.bytes, self.key_bytes as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_record_is_one_line_of_the_cache_and_has_no_memory_of_its_own() {
        assert_eq!(size_of::<Record>(), 64);
        let mut record = Record::new(1, b"key:000000000001");
        record.set(&[7; INLINE_BYTES - 16]);
        assert_eq!(record.heap_bytes(), 0);
        record.append(&[7]);
        assert!(
            (INLINE_BYTES + 1..=64).contains(&record.heap_bytes()),
            "{} bytes",
            record.heap_bytes()
        );
    }

    #[test]
    fn a_short_value_gives_the_memory_of_a_long_one_back() {
        let mut record = Record::new(1, b"k");
        record.set(&[7; 100_000]);
        assert_eq!(record.heap_bytes(), 100_001, "no room for more");
        record.set(&[7; 1000]);
        assert_eq!(record.heap_bytes(), 1001);
        record.set(b"x");
        assert_eq!(record.heap_bytes(), 0);
        assert_eq!((record.key(), record.value()), (&b"k"[..], &b"x"[..]));
        record.set(&[7; 100_000]);
        record.append(b"x");
        assert!(
            record.heap_bytes() < 113_000,
            "{} bytes for a value that grows",
            record.heap_bytes()
        );
    }
}
