//! A key with its value, and the hash of the key.

use super::hash::{HashKey, SLOT_SHIFT};
use std::rc::Rc;

/// A key and a value that are together at most this long lie in the record itself, and cost no memory of
/// their own. The record is then one line of the cache: 64 bytes.
const INLINE_BYTES: usize = 53;

/// What a counted slice has in front of its bytes: two counts.
const COUNTS_BYTES: usize = 2 * size_of::<usize>();

/// A key and its value, one behind the other, with the hash of the key: a bucket that grows or is split, and a walk, hash
/// no key again.
///
/// The bytes are a copy. A slice of the command would keep alive the whole buffer in which the command
/// arrived. A clone of a record shares long bytes, so the records of a page are copied with a bound, whatever they hold.
#[derive(Clone, Debug)]
pub(super) struct Record {
    hash: u64,
    bytes: Bytes,
}

/// Key and value. `key` is the length of the key, and `len` that of both.
#[derive(Clone, Debug)]
enum Bytes {
    Short {
        key: u8,
        len: u8,
        bytes: [u8; INLINE_BYTES],
    },
    /// More than [`INLINE_BYTES`]. Behind `len` there may be room for more. Never changed while another record shares it.
    Long {
        key: u32,
        len: u32,
        bytes: Rc<[u8]>,
    },
}

impl Record {
    /// A key with this hash, without a value.
    pub(super) fn new(hash: u64, key: &[u8]) -> Self {
        Self { hash, bytes: Bytes::new(key.len(), key, &[], key.len()) }
    }

    pub(super) fn key(&self) -> &[u8] {
        self.bytes.both().0
    }

    pub(super) fn value(&self) -> &[u8] {
        self.bytes.both().1
    }

    /// The length of key and value.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
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

    pub(super) fn set(&mut self, value: &[u8]) {
        let key_bytes = self.bytes.key_bytes();
        let len = key_bytes + value.len();
        // A short value in the place of a long one gives the memory of the long one back.
        let has_room = self.has_room_for(value.len()) && self.heap_bytes() <= 4 * len + 64;
        if !has_room || !self.bytes.write(key_bytes, value) {
            self.bytes = Bytes::new(key_bytes, self.key(), value, len);
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        let (old, capacity) = (self.len(), self.bytes.capacity());
        let len = old + bytes.len();
        if len <= capacity && (bytes.is_empty() || self.bytes.write(old, bytes)) {
            return;
        }
        // Most values keep their length, so a new value has no room to grow. One that grows gets an eighth.
        let spare = if self.value().is_empty() { 0 } else { len / 8 };
        let capacity = if len <= capacity { capacity } else { len + spare };
        self.bytes = Bytes::new(self.bytes.key_bytes(), self.bytes.whole(), bytes, capacity);
    }

    /// The slot of the key.
    pub(super) fn slot(&self) -> u16 {
        (self.hash >> SLOT_SHIFT) as u16
    }

    /// Whether a value of so many bytes has room in the memory of the record, inside of it or outside.
    pub(super) fn has_room_for(&self, value_bytes: usize) -> bool {
        let len = self.bytes.key_bytes() + value_bytes;
        len <= INLINE_BYTES || len <= self.bytes.capacity() && self.shared_bytes() == 0
    }

    /// The memory that the record has outside of itself, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        match &self.bytes {
            Bytes::Short { .. } => 0,
            Bytes::Long { bytes, .. } => COUNTS_BYTES + bytes.len(),
        }
    }

    /// As many of [`Record::heap_bytes`] as another record has too.
    pub(super) fn shared_bytes(&self) -> usize {
        match &self.bytes {
            Bytes::Long { bytes, .. } if Rc::strong_count(bytes) > 1 => self.heap_bytes(),
            _ => 0,
        }
    }

    /// The share of this record in the digest of the store.
    pub(super) fn digest(&self, hash_key: HashKey) -> u64 {
        hash_key.digest(self.bytes.whole(), self.bytes.key_bytes())
    }
}

impl Bytes {
    /// `head` and `tail`, one behind the other, with room for `capacity` bytes. The key has the first `key_bytes`.
    fn new(key_bytes: usize, head: &[u8], tail: &[u8], capacity: usize) -> Self {
        let len = head.len() + tail.len();
        let fill = |room: &mut [u8]| {
            room[..head.len()].copy_from_slice(head);
            room[head.len()..len].copy_from_slice(tail);
        };
        if len <= INLINE_BYTES {
            let mut bytes = [0; INLINE_BYTES];
            fill(&mut bytes);
            return Self::Short { key: key_bytes as u8, len: len as u8, bytes };
        }
        let mut bytes: Rc<[u8]> = std::iter::repeat_n(0, capacity).collect();
        fill(Rc::get_mut(&mut bytes).expect("nobody else has it yet"));
        let narrow = |len| u32::try_from(len).expect("a record is shorter than 4 GiB");
        Self::Long { key: narrow(key_bytes), len: narrow(len), bytes }
    }

    /// Puts `tail` behind the first `at` bytes, in the memory that is there, which has room for it. Says whether
    /// it may: long bytes that another record shares are not changed.
    fn write(&mut self, at: usize, tail: &[u8]) -> bool {
        let end = at + tail.len();
        match self {
            Self::Short { len, bytes, .. } => {
                bytes[at..end].copy_from_slice(tail);
                *len = end as u8;
            }
            // Short bytes go into the record.
            Self::Long { .. } if end <= INLINE_BYTES => return false,
            Self::Long { len, bytes, .. } => {
                let Some(bytes) = Rc::get_mut(bytes) else { return false };
                bytes[at..end].copy_from_slice(tail);
                *len = end as u32;
            }
        }
        true
    }

    fn key_bytes(&self) -> usize {
        match *self {
            Self::Short { key, .. } => key.into(),
            Self::Long { key, .. } => key as usize,
        }
    }

    fn len(&self) -> usize {
        match *self {
            Self::Short { len, .. } => len.into(),
            Self::Long { len, .. } => len as usize,
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Short { .. } => INLINE_BYTES,
            Self::Long { bytes, .. } => bytes.len(),
        }
    }

    fn whole(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes, .. } => &bytes[..usize::from(*len)],
            Self::Long { len, bytes, .. } => &bytes[..*len as usize],
        }
    }

    fn both(&self) -> (&[u8], &[u8]) {
        self.whole().split_at(self.key_bytes())
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
            (INLINE_BYTES + 1..=80).contains(&record.heap_bytes()),
            "{} bytes",
            record.heap_bytes()
        );
    }

    #[test]
    fn a_short_value_gives_the_memory_of_a_long_one_back() {
        let mut record = Record::new(1, b"k");
        record.set(&[7; 100_000]);
        assert_eq!(record.heap_bytes(), COUNTS_BYTES + 100_001, "no room for more");
        record.set(&[7; 1000]);
        assert_eq!(record.heap_bytes(), COUNTS_BYTES + 1001);
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

    #[test]
    fn a_clone_shares_long_bytes_until_one_of_both_changes() {
        let long = [7; 1000];
        let changes: [fn(&mut Record); 3] =
            [|it| it.set(&[8; 999]), |it| it.append(b"x"), |it| it.set(b"short")];
        for change in changes {
            let mut record = Record::new(1, b"k");
            record.set(&long);
            let copy = record.clone();
            assert_eq!((record.shared_bytes(), copy.shared_bytes()), (record.heap_bytes(), 1017));
            assert!(!record.has_room_for(900) && record.has_room_for(10));
            change(&mut record);
            assert_eq!((record.shared_bytes(), copy.shared_bytes()), (0, 0));
            assert_eq!((copy.key(), copy.value()), (&b"k"[..], &long[..]));
        }
        let mut record = Record::new(1, b"k");
        record.set(&long);
        let copy = record.clone();
        record.append(b"");
        assert_eq!(record.shared_bytes(), copy.heap_bytes(), "nothing was changed");
    }
}
