//! Keys and values in the order of the keys' hashes, with a digest of the whole.
//!
//! The store is a tree, ordered by the hashes of the keys. Such a tree compares numbers, where a tree
//! of keys would compare strings, and it is the same on every replica. A client that chooses keys with
//! equal hashes makes the tree compare strings again, and gains nothing more; a hash table without a
//! secret would become slow. The order by hash is also one that a stateless cursor can walk.
//!
//! The store copies each key and its value into one piece of memory. A slice of the command would keep
//! alive the whole buffer in which the command arrived.

use std::collections::{BTreeMap, btree_map::Entry};

/// Keys and values.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Store {
    buckets: BTreeMap<u64, Bucket>,
    len: usize,
    /// The wrapping sum, over all keys, of a hash of key and value. The sum does not depend on the order
    /// in which the keys came.
    digest: u64,
}

/// The keys with one hash. Nearly always there is one key.
#[derive(Clone, Debug)]
struct Bucket {
    first: Record,
    /// The other keys with this hash. There are some only if a client has chosen colliding keys, so a
    /// bucket without them has only the room of a pointer for them.
    others: Option<Box<Others>>,
}

type Others = BTreeMap<Box<[u8]>, Record>;

impl Store {
    pub(super) fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.buckets.get(&hash(key))?.record(key).map(Record::value)
    }

    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) {
        self.change(key, |record| record.set(value));
    }

    pub(super) fn append(&mut self, key: &[u8], bytes: &[u8]) {
        self.change(key, |record| record.append(bytes));
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let hash = hash(key);
        let Entry::Occupied(mut bucket) = self.buckets.entry(hash) else { return false };
        let removed = match bucket.get_mut().remove(key) {
            Removed::Absent => return false,
            Removed::Other(record) => record,
            Removed::Last => bucket.remove().first,
        };
        self.len -= 1;
        self.digest = self.digest.wrapping_sub(removed.digest(hash));
        true
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Changes the value of `key`. The value is empty when the key was absent.
    fn change(&mut self, key: &[u8], change: impl FnOnce(&mut Record)) {
        let hash = hash(key);
        let (record, is_new) = match self.buckets.entry(hash) {
            Entry::Vacant(place) => (&mut place.insert(Bucket::new(key)).first, true),
            Entry::Occupied(bucket) => bucket.into_mut().entry(key),
        };
        let before = if is_new { 0 } else { record.digest(hash) };
        change(record);
        let after = record.digest(hash);
        self.len += usize::from(is_new);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
    }
}

/// The result of removing a key from a bucket.
enum Removed {
    Absent,
    Other(Record),
    /// The key was the only one: the bucket must be removed.
    Last,
}

impl Bucket {
    fn new(key: &[u8]) -> Self {
        Self { first: Record::new(key), others: None }
    }

    fn record(&self, key: &[u8]) -> Option<&Record> {
        if self.first.key() == key {
            return Some(&self.first);
        }
        self.others.as_ref()?.get(key)
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        let others = self.others.iter().flat_map(|others| others.values());
        std::iter::once(&self.first).chain(others)
    }

    /// The record of `key`, and whether the record is new. A new record has an empty value.
    fn entry(&mut self, key: &[u8]) -> (&mut Record, bool) {
        if self.first.key() == key {
            return (&mut self.first, false);
        }
        match self.others.get_or_insert_default().entry(key.into()) {
            Entry::Vacant(place) => (place.insert(Record::new(key)), true),
            Entry::Occupied(record) => (record.into_mut(), false),
        }
    }

    fn remove(&mut self, key: &[u8]) -> Removed {
        let others = self.others.as_deref_mut();
        if self.first.key() != key {
            let removed = others.and_then(|others| others.remove(key));
            return removed.map_or(Removed::Absent, Removed::Other);
        }
        match others.and_then(Others::pop_first) {
            None => Removed::Last,
            Some((_, next)) => Removed::Other(std::mem::replace(&mut self.first, next)),
        }
    }
}

impl PartialEq for Bucket {
    /// Two buckets are equal whatever the order in which their keys came.
    fn eq(&self, other: &Self) -> bool {
        let mut records = self.records();
        let has = |record: &Record| {
            other.record(record.key()).is_some_and(|same| same.bytes == record.bytes)
        };
        self.records().count() == other.records().count() && records.all(has)
    }
}

impl Eq for Bucket {}

/// A key and its value, one behind the other, with the hash of the value so far: appending to a long
/// value hashes only what is added.
#[derive(Clone, Debug)]
struct Record {
    bytes: Vec<u8>,
    key_bytes: u32,
    hashed: Hashed,
}

impl Record {
    /// A key without a value.
    fn new(key: &[u8]) -> Self {
        let key_bytes = u32::try_from(key.len()).expect("keys are shorter than 4 GiB");
        Self { bytes: key.to_vec(), key_bytes, hashed: Hashed::default() }
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..self.key_bytes as usize]
    }

    fn value(&self) -> &[u8] {
        &self.bytes[self.key_bytes as usize..]
    }

    fn set(&mut self, value: &[u8]) {
        self.bytes.truncate(self.key_bytes as usize);
        self.hashed = Hashed::default();
        // A short value in the place of a long one gives the memory of the long one back.
        if self.bytes.capacity() > 4 * (self.bytes.len() + value.len()) + 64 {
            self.bytes.shrink_to(self.bytes.len() + value.len());
        }
        self.append(value);
    }

    fn append(&mut self, bytes: &[u8]) {
        let whole = self.value().len() / 8 * 8;
        // Most values keep their length, so the record reserves no room for a longer value.
        if self.bytes.len() == self.key_bytes as usize {
            self.bytes.reserve_exact(bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        self.hashed.add(&self.bytes[self.key_bytes as usize + whole..]);
    }

    /// The part of this record in the digest of the store, for a key with this hash.
    fn digest(&self, key: u64) -> u64 {
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

/// The same on every machine and in every version: the order of a walk depends on it.
fn hash(key: &[u8]) -> u64 {
    let mut hashed = Hashed::default();
    hashed.add(key);
    hashed.finish(key)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_equal_hashes_are_kept_apart() {
        let mut bucket = Bucket::new(b"a");
        let set = |bucket: &mut Bucket, key: &[u8], value: &[u8]| {
            let (record, is_new) = bucket.entry(key);
            record.set(value);
            is_new
        };
        assert!(set(&mut bucket, b"b", b"4"));
        assert!(set(&mut bucket, b"c", b"3"));
        assert!(!set(&mut bucket, b"a", b"1"), "the first");
        assert!(!set(&mut bucket, b"b", b"2"));
        let value = |bucket: &Bucket, key: &[u8]| bucket.record(key).map(|it| it.value().to_vec());
        assert_eq!(value(&bucket, b"c"), Some(b"3".to_vec()));
        assert_eq!(value(&bucket, b"d"), None);
        // The order in which keys come makes no difference to a bucket.
        let mut other = Bucket::new(b"c");
        set(&mut other, b"c", b"3");
        set(&mut other, b"a", b"1");
        assert_ne!(bucket, other);
        set(&mut other, b"b", b"2");
        assert_eq!(bucket, other);
        assert!(matches!(bucket.remove(b"d"), Removed::Absent));
        assert!(matches!(bucket.remove(b"a"), Removed::Other(_)));
        assert!(matches!(bucket.remove(b"c"), Removed::Other(_)));
        assert_eq!(value(&bucket, b"b"), Some(b"2".to_vec()));
        assert!(matches!(bucket.remove(b"b"), Removed::Last));
    }

    #[test]
    fn a_value_is_set_appended_and_shortened() {
        let mut store = Store::default();
        store.set(b"k", &[7; 1000]);
        store.append(b"k", b"xyz");
        assert_eq!(store.value(b"k").map(<[u8]>::len), Some(1003));
        store.set(b"k", b"short");
        assert_eq!(store.value(b"k"), Some(&b"short"[..]));
        let mut again = Store::default();
        again.append(b"k", b"sho");
        again.append(b"k", b"rt");
        assert_eq!((again.digest(), again.len()), (store.digest(), 1));
        assert!(store.remove(b"k") && !store.remove(b"k"));
        assert_eq!((store.digest(), store.len()), (0, 0));
    }
}
