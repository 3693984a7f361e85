//! The store against a map, against its own invariants, and against keys that a client chose for their hash.

use super::bucket::RECORDS_MAX;
use super::*;
use purlin_rsm::random::SplitMix;
use std::collections::BTreeMap;

fn key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

impl Store {
    /// What must hold after each change.
    fn check(&self) {
        assert_eq!(self.starts.len(), self.buckets.len());
        assert!(self.starts[0] == 0 && self.starts.is_sorted_by(|a, b| a < b), "the starts rise");
        let (mut len, mut memory, mut digest) = (0, 0, 0u64);
        for (at, bucket) in self.buckets.iter().enumerate() {
            memory += bucket.allocated();
            let before = len;
            for record in bucket.records() {
                let hash = hash(record.key());
                assert_eq!(self.bucket_of(hash), at, "each record is in the bucket of its hash");
                len += 1;
                memory += record.heap_bytes();
                digest = digest.wrapping_add(record.digest(hash));
            }
            let is_table = matches!(bucket, Bucket::Table(_));
            assert!(
                !is_table || len - before <= RECORDS_MAX,
                "no table has more than {RECORDS_MAX}"
            );
        }
        assert_eq!((self.len, self.memory, self.digest), (len, memory, digest));
    }
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
    assert_eq!((store.digest(), store.len(), store.memory()), (0, 0, 0));
}

#[test]
fn a_store_is_what_a_map_is() {
    let mut random = SplitMix::new(5);
    let mut below = |limit| random.draw() % limit;
    let (mut store, mut map) = (Store::default(), BTreeMap::new());
    for step in 0..60_000 {
        let key = key(below(6_000));
        // The store grows, and then it shrinks.
        if below(10) < if step < 30_000 { 2 } else { 8 } {
            assert_eq!(store.remove(&key), map.remove(&key).is_some());
        } else {
            let value = vec![step as u8; below(60) as usize];
            store.set(&key, &value);
            map.insert(key, value);
        }
        if step % 1_000 == 0 {
            store.check();
            assert_eq!(store.len(), map.len());
            assert!(map.iter().all(|(key, value)| store.value(key) == Some(value)));
        }
    }
    // The same content, put in in another order, is the same.
    let mut other = Store::default();
    map.iter().for_each(|(key, value)| other.set(key, value));
    assert_eq!((&other, other.digest()), (&store, store.digest()));
    other.set(&key(7_000), b"");
    assert_ne!(other, store);
}

#[test]
fn a_full_bucket_is_split_where_half_of_its_hashes_are() {
    let mut store = Store::default();
    for number in 0..100_000 {
        store.set(&key(number), b"0123456789abcdef");
    }
    store.check();
    let buckets = store.buckets.len();
    assert!(
        (100_000 / RECORDS_MAX..=100_000 / (RECORDS_MAX / 3)).contains(&buckets),
        "{buckets} buckets"
    );
    // A key of 16 bytes with a value of 16 bytes.
    assert!(
        (80..=140).contains(&(store.memory() / 100_000)),
        "{} bytes a key",
        store.memory() / 100_000
    );
    for number in 0..99_999 {
        assert!(store.remove(&key(number)));
    }
    store.check();
    assert!(store.memory() < 4_000, "{} bytes for one key", store.memory());
}

#[test]
fn any_number_of_keys_with_one_hash_is_taken() {
    const KEYS: u64 = 3 * RECORDS_MAX as u64;
    let mut store = Store::default();
    for number in 0..KEYS {
        store.set(&record::key_of_one_hash(number), &number.to_le_bytes());
        store.set(&key(number), b"");
    }
    let hashes: Vec<_> = (0..KEYS).map(|number| hash(&record::key_of_one_hash(number))).collect();
    assert!(hashes.iter().all(|&hash| hash == hashes[0]));
    let trees = store.buckets.iter().filter(|bucket| matches!(bucket, Bucket::Tree(_))).count();
    assert_eq!((trees, store.len() as u64), (1, 2 * KEYS));
    store.check();
    // Other keys lie in tables, also when the chosen ones came first.
    let mut chosen_first = Store::default();
    (0..KEYS).for_each(|number| chosen_first.set(&record::key_of_one_hash(number), b""));
    (0..KEYS).for_each(|number| chosen_first.set(&key(number), b""));
    chosen_first.check();
    let of_trees = chosen_first.buckets.iter().filter(|bucket| matches!(bucket, Bucket::Tree(_)));
    assert_eq!(of_trees.map(|tree| tree.records().count() as u64).collect::<Vec<_>>(), [KEYS]);
    for number in 0..KEYS {
        let key = record::key_of_one_hash(number);
        assert_eq!(store.value(&key), Some(&number.to_le_bytes()[..]));
        store.append(&key, &[7; 100]);
        assert!(store.remove(&key) && !store.remove(&key) && store.value(&key).is_none());
    }
    store.check();
    assert_eq!(store.len() as u64, KEYS);
}

/// In a store of many buckets the slots of some lie in buckets of their own, and those of others share one.
#[test]
fn the_keys_of_a_slot_are_those_whose_slot_it_is() {
    use crate::slot::slot_of;
    let mut store = Store::default();
    let mut expected: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
    let tagged = (0..3_000).map(|number| format!("{{large}}{number}").into_bytes());
    for key in (0..4_000).map(key).chain(tagged) {
        store.set(&key, b"v");
        expected.entry(slot_of(&key)).or_default().push(key);
    }
    assert!(store.buckets_of(slot_of(b"large")).any(|(_, is_shared)| !is_shared));
    let some = (0..crate::SLOTS).filter(|slot| expected.contains_key(slot) || slot % 64 == 0);
    for slot in some.collect::<Vec<_>>() {
        let mut keys: Vec<_> = store.keys_in(slot).map(<[u8]>::to_vec).collect();
        keys.sort_unstable();
        let mut expected = expected.remove(&slot).unwrap_or_default();
        expected.sort_unstable();
        assert_eq!(store.count_in(slot), expected.len(), "slot {slot}");
        assert_eq!(keys, expected, "slot {slot}");
    }
}
