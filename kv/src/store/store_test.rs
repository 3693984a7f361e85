//! The store against a map, against its own invariants, and against keys that a client chose for their hash.

use super::bucket::RECORDS_MAX;
use super::*;
use purlin_rsm::random::SplitMix;
use std::collections::BTreeMap;

pub(super) fn key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

pub(super) fn empty() -> Store {
    Store::new(ClusterId(1), GroupId(1))
}

/// A hash that the tests give to keys of their choice.
pub(super) const ONE_HASH: u64 = 12 << 40;

impl Store {
    pub(super) fn append(&mut self, key: &[u8], bytes: &[u8]) {
        self.append_at(self.hash(key), key, bytes);
    }

    /// What must hold after each change.
    pub(super) fn check(&self) {
        assert_eq!(self.starts.len(), self.pages.len());
        assert!(self.starts[0] == 0 && self.starts.is_sorted_by(|a, b| a < b), "the starts rise");
        let (mut len, mut memory, mut digest) = (0, 0, 0u64);
        for (at, bucket) in self.buckets().enumerate() {
            memory += bucket.allocated();
            let before = len;
            for record in bucket.records() {
                assert_eq!(
                    self.page_of(record.hash()),
                    at,
                    "each record is in the bucket of its hash"
                );
                len += 1;
                memory += record.heap_bytes();
                digest = digest.wrapping_add(record.digest(self.hash_key));
            }
            assert!(
                bucket.is_tree() || len - before <= RECORDS_MAX,
                "no table has more than {RECORDS_MAX}"
            );
        }
        assert_eq!((self.len, self.memory, self.digest()), (len, memory, digest));
    }
}

#[test]
fn a_value_is_set_appended_and_shortened() {
    let mut store = empty();
    store.set(b"k", &[7; 1000]);
    store.append(b"k", b"xyz");
    assert_eq!(store.value(b"k").map(<[u8]>::len), Some(1003));
    store.set(b"k", b"short");
    assert_eq!(store.value(b"k"), Some(&b"short"[..]));
    let mut again = empty();
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
    let (mut store, mut map) = (empty(), BTreeMap::new());
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
    let mut other = empty();
    map.iter().for_each(|(key, value)| other.set(key, value));
    assert_eq!((&other, other.digest()), (&store, store.digest()));
    other.set(&key(7_000), b"");
    assert_ne!(other, store);
}

#[test]
fn a_full_bucket_is_split_where_half_of_its_hashes_are() {
    let mut store = empty();
    for number in 0..100_000 {
        store.set(&key(number), b"0123456789abcdef");
    }
    store.check();
    let buckets = store.pages.len();
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
    let chosen = |number: u64| number.to_le_bytes();
    let mut store = empty();
    for number in 0..KEYS {
        store.set_at(ONE_HASH, &chosen(number), &chosen(number));
        store.set(&key(number), b"");
    }
    let trees = store.buckets().filter(|bucket| bucket.is_tree()).count();
    assert_eq!((trees, store.len() as u64), (1, 2 * KEYS));
    store.check();
    // Other keys lie in tables, also when the chosen ones came first.
    let mut chosen_first = empty();
    (0..KEYS).for_each(|number| chosen_first.set_at(ONE_HASH, &chosen(number), b""));
    (0..KEYS).for_each(|number| chosen_first.set(&key(number), b""));
    chosen_first.check();
    let of_trees = chosen_first.buckets().filter(|bucket| bucket.is_tree());
    assert_eq!(of_trees.map(|tree| tree.records().count() as u64).collect::<Vec<_>>(), [KEYS]);
    for number in 0..KEYS {
        let key = chosen(number);
        let value = |store: &Store| store.value_at(ONE_HASH, &key).map(<[u8]>::to_vec);
        assert_eq!(value(&store), Some(key.to_vec()));
        store.set_at(ONE_HASH, &key, &[7; 100]);
        assert_eq!(value(&store), Some(vec![7; 100]));
        assert!(store.remove_at(ONE_HASH, &key) && !store.remove_at(ONE_HASH, &key));
        assert_eq!(value(&store), None);
    }
    store.check();
    assert_eq!(store.len() as u64, KEYS);
}

/// The history of a store leaves its traces in its buckets, and none in a walk.
#[test]
fn a_walk_goes_in_the_order_of_hash_and_key_whatever_the_history() {
    for seed in 0..2 {
        let mut random = SplitMix::new(seed);
        let mut below = |limit| random.draw() % limit;
        let (mut store, mut map) = (empty(), BTreeMap::new());
        // Some keys share a hash, and enough of them to make a tree.
        let place = |store: &Store, number: u64| match number % 3 {
            0 => (ONE_HASH + number % 2, key(number)),
            _ => (store.hash(&key(number)), key(number)),
        };
        for step in 0..30_000_u64 {
            let (hash, key) = place(&store, below(8_000));
            // The store grows, shrinks, and grows again.
            if below(10) < if step / 10_000 == 1 { 8 } else { 2 } {
                store.remove_at(hash, &key);
                map.remove(&(hash, key));
            } else {
                store.set_at(hash, &key, &step.to_le_bytes());
                map.insert((hash, key), step);
            }
        }
        store.check();
        assert!(store.pages.len() > 4, "{} buckets", store.pages.len());
        let expected = |from: &(u64, Vec<u8>)| {
            let range = map.range(from.clone()..);
            range.map(|((hash, key), step)| (*hash, key.clone(), step.to_le_bytes().to_vec()))
        };
        let walked = |from: &(u64, Vec<u8>)| {
            let records = store
                .records_from((from.0, &from.1))
                .map(|record| (record.hash(), record.key().to_vec(), record.value().to_vec()));
            records.collect::<Vec<_>>()
        };
        // From the start, from places with a key and without one, and from the end.
        let mut places = vec![(0, Vec::new()), (ONE_HASH, key(3_000)), (u64::MAX, vec![255])];
        places.extend((0..8).map(|_| place(&store, below(8_000))));
        for from in places {
            assert_eq!(walked(&from), expected(&from).collect::<Vec<_>>(), "seed {seed}, {from:?}");
        }
    }
}

/// In a store of many buckets the slots of some lie in buckets of their own, and those of others share one.
#[test]
fn the_keys_of_a_slot_are_those_whose_slot_it_is() {
    use crate::slot::slot_of;
    let mut store = empty();
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
        assert!(keys.is_sorted_by_key(|key| store.hash(key)), "slot {slot}");
        keys.sort_unstable();
        let mut expected = expected.remove(&slot).unwrap_or_default();
        expected.sort_unstable();
        assert_eq!(store.count_in(slot), expected.len(), "slot {slot}");
        assert_eq!(keys, expected, "slot {slot}");
    }
}
