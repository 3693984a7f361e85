//! A key with its value, and their hashes.

use crate::slot::slot_of;
use smallvec::SmallVec;

/// A key and a value that are together at most this long lie in the record itself, and cost no memory of
/// their own. The record is then one line of the cache: 64 bytes.
const INLINE_BYTES: usize = 40;

/// A key and its value, one behind the other, with the hash of the value so far: appending to a long
/// value hashes only what is added.
///
/// The bytes are a copy. A slice of the command would keep alive the whole buffer in which the command
/// arrived.
#[derive(Clone, Debug)]
pub(super) struct Record {
    bytes: SmallVec<[u8; INLINE_BYTES]>,
    hashed: Hashed,
    key_bytes: u32,
}

impl Record {
    /// A key without a value.
    pub(super) fn new(key: &[u8]) -> Self {
        let key_bytes = u32::try_from(key.len()).expect("keys are shorter than 4 GiB");
        Self { bytes: SmallVec::from_slice(key), key_bytes, hashed: Hashed::default() }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.bytes[..self.key_bytes as usize]
    }

    /// Whether its key has a byte. Nearly each has.
    pub(super) fn has_key(&self) -> bool {
        self.key_bytes > 0
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.bytes[self.key_bytes as usize..]
    }

    pub(super) fn set(&mut self, value: &[u8]) {
        self.bytes.truncate(self.key_bytes as usize);
        self.hashed = Hashed::default();
        // A short value in the place of a long one gives the memory of the long one back.
        if self.heap_bytes() > 4 * (self.bytes.len() + value.len()) + 64 {
            self.bytes.shrink_to_fit();
        }
        self.append(value);
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        let whole = self.value().len() / 8 * 8;
        // Most values keep their length, so a new value has no room to grow. One that grows gets an eighth.
        let len = self.bytes.len() + bytes.len();
        if len > self.bytes.capacity() {
            let spare = if self.value().is_empty() { 0 } else { len / 8 };
            self.bytes.reserve_exact(bytes.len() + spare);
        }
        self.bytes.extend_from_slice(bytes);
        self.hashed.add(&self.bytes[self.key_bytes as usize + whole..]);
    }

    /// The slot of the key.
    pub(super) fn slot(&self) -> u16 {
        slot_of(self.key())
    }

    /// Whether a value of so many bytes has room in the memory of the record, inside of it or outside.
    pub(super) fn has_room_for(&self, value_bytes: usize) -> bool {
        self.key_bytes as usize + value_bytes <= self.bytes.capacity()
    }

    /// The memory that the record has outside of itself, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        if self.bytes.spilled() { self.bytes.capacity() } else { 0 }
    }

    /// The part of this record in the digest of the store, for a key with this hash.
    pub(super) fn digest(&self, key: u64) -> u64 {
        fold(self.hashed.finish(self.value()) ^ key.rotate_left(32), MULTIPLIER)
    }
}

/// A hash over the whole words of eight bytes seen so far.
#[derive(Clone, Copy, Default, Debug)]
struct Hashed(u64);

impl Hashed {
    /// Adds the whole words of `bytes`. The bytes of an unfinished word are not part of the hash yet.
    fn add(&mut self, bytes: &[u8]) {
        for word in bytes.chunks_exact(8) {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            self.0 = fold(self.0 ^ word, MULTIPLIER).wrapping_add(SALT);
        }
    }

    /// The hash of `bytes`, whose whole words were added before.
    fn finish(self, bytes: &[u8]) -> u64 {
        let rest = &bytes[bytes.len() / 8 * 8..];
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        let tail = fold(self.0 ^ u64::from_le_bytes(word), MULTIPLIER).wrapping_add(SALT);
        fold(tail ^ bytes.len() as u64, SALT)
    }
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const SALT: u64 = 0xd6e8_feb8_6659_fd93;

/// The highest bits of the hash of a key are its slot, so that the keys of a slot lie one behind the other.
pub(super) const SLOT_SHIFT: u32 = u64::BITS - 14;

/// The hash of a key. It is the same on every machine and in every version: the order of a walk depends
/// on it.
pub(super) fn hash(key: &[u8]) -> u64 {
    let mut hashed = Hashed::default();
    hashed.add(key);
    let slot = u64::from(slot_of(key)) << SLOT_SHIFT;
    slot | hashed.finish(key) >> (u64::BITS - SLOT_SHIFT)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Keys that all have one hash. The hash has no secret, so clients can choose such keys.
#[cfg(test)]
pub(super) fn key_of_one_hash(number: u64) -> [u8; 24] {
    // The tag gives all of them one slot, and the last word makes what was hashed before it nothing.
    let mut hashed = Hashed::default();
    let words = [u64::from_le_bytes(*b"{slot}--"), number];
    words.iter().for_each(|word| hashed.add(&word.to_le_bytes()));
    let [tag, number] = words.map(u64::to_le_bytes);
    [tag, number, hashed.0.to_le_bytes()].concat().try_into().expect("three words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_record_is_one_line_of_the_cache_and_has_no_memory_of_its_own() {
        assert_eq!(size_of::<Record>(), 64);
        let mut record = Record::new(b"key:000000000001");
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
        let mut record = Record::new(b"k");
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
