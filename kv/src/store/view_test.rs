//! Views against maps, what they cost, and what of it is counted.

use super::{bucket::RECORDS_MAX, page::Page, store_test::*, view::VIEW_BYTES_PER_BUCKET, *};
use purlin_rsm::random::SplitMix;
use std::collections::BTreeMap;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What walks in portions of at most so many records and bytes give together.
fn walked<'a>(mut portion: impl FnMut(&KvCursor) -> KvPortion<'a>) -> Pairs {
    let (mut pairs, mut next) = (Pairs::new(), Some(KvCursor::default()));
    while let Some(cursor) = next {
        let portion = portion(&cursor);
        pairs.extend(portion.pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        next = portion.next;
    }
    pairs
}

impl Store {
    fn addresses(&self) -> Vec<usize> {
        let records = self.records_from((0, b""));
        records.map(|record| std::ptr::from_ref(record).addr()).collect()
    }

    fn shared(&self) -> usize {
        self.pages.iter().filter(|page| page.is_shared()).count()
    }
}

/// A view with what it must show.
struct Expected {
    view: KvView,
    map: BTreeMap<(u64, Vec<u8>), Vec<u8>>,
}

impl Expected {
    fn check(&self, what: &str) {
        assert_eq!(self.view.len(), self.map.len(), "{what}");
        let expected: Pairs =
            self.map.iter().map(|((_, key), value)| (key.clone(), value.clone())).collect();
        assert!(walked(|from| self.view.walk(from, 100, 10_000)) == expected, "{what}");
    }
}

/// What only the views hold: themselves, buckets, and long values by where they lie.
fn past_of(store: &Store, views: &[Expected]) -> usize {
    let long = |bucket: &Bucket| {
        let records = bucket.records().filter(|record| record.heap_bytes() > 0);
        records.map(|it| (it.key().as_ptr().addr(), it.heap_bytes())).collect::<Vec<_>>()
    };
    let address = |bucket: &Bucket| std::ptr::from_ref(bucket).addr();
    let (mut buckets, mut values) = (BTreeMap::new(), BTreeMap::new());
    let of_views = views.iter().flat_map(|it| it.view.buckets());
    for bucket in of_views {
        buckets.insert(address(bucket), bucket.allocated());
        values.extend(long(bucket));
    }
    for bucket in store.buckets() {
        buckets.remove(&address(bucket));
        long(bucket).iter().for_each(|(address, _)| _ = values.remove(address));
    }
    let of_views: usize = views.iter().map(|it| view_bytes(&it.view)).sum();
    of_views + buckets.values().chain(values.values()).sum::<usize>()
}

/// Several views at once, dropped in any order, over a store that grows and shrinks to nothing. Some keys share a hash,
/// and some values have memory of their own.
#[test]
fn a_view_shows_what_was_there_and_its_memory_is_given_back() {
    for seed in 0..3 {
        let mut random = SplitMix::new(seed);
        let mut below = |limit: u64| random.draw() % limit;
        let (mut store, mut map) = (empty(), BTreeMap::new());
        let mut views: Vec<Expected> = Vec::new();
        let (mut most_views, mut copied, mut emptied) = (0, 0, 0);
        for step in 0..12_000_u64 {
            let number = below(2_500);
            let key = key(number);
            let hash = if number % 2 == 0 { ONE_HASH + number % 3 / 2 } else { store.hash(&key) };
            let removes = [1, 9, 2, 10][(step / 3_000) as usize];
            match below(10) {
                draw if draw < removes => {
                    let is_here = store.remove_at(hash, &key);
                    assert_eq!(is_here, map.remove(&(hash, key)).is_some());
                }
                9 => {
                    let bytes = vec![step as u8; below(200) as usize];
                    store.append_at(hash, &key, &bytes);
                    map.entry((hash, key)).or_insert(Vec::new()).extend(bytes);
                }
                _ => {
                    let value = vec![step as u8; below(150) as usize];
                    store.set_at(hash, &key, &value);
                    map.insert((hash, key), value);
                }
            }
            emptied += u32::from(map.is_empty());
            if below(300) == 0 && views.len() < 4 {
                let view = store.freeze();
                views.push(Expected { view, map: map.clone() });
            }
            if below(400) == 0 && !views.is_empty() {
                let gone = views.swap_remove(below(views.len() as u64) as usize);
                gone.check("before it goes");
            }
            most_views = most_views.max(views.len());
            copied = copied.max(store.past.bytes());
            if step % 1_500 == 0 {
                store.check();
                views.iter().for_each(|view| view.check("between"));
            }
            if step % 100 == 0 {
                assert_eq!(store.past.bytes(), past_of(&store, &views), "seed {seed}, step {step}");
            }
        }
        views.iter().for_each(|view| view.check("at the end"));
        drop(views);
        store.check();
        assert_eq!(store.past.bytes(), 0, "seed {seed}");
        assert!(most_views == 4 && copied > 50_000, "{most_views} views, {copied} bytes");
        // The last quarter only removes.
        assert!(emptied > 0 || map.len() < 1_500, "{} keys are left", map.len());
    }
}

/// A view outlives its store, and all that the store held.
#[test]
fn a_view_stays_when_the_store_is_emptied_or_goes() {
    let mut store = empty();
    (0..2_000).for_each(|number| store.set(&key(number), &[7; 100]));
    let before = store.memory();
    let view = store.freeze();
    (0..2_000).for_each(|number| assert!(store.remove(&key(number))));
    let directory = view_bytes(&view);
    assert_eq!(store.memory(), before + directory, "all is the view's");
    assert_eq!(walked(|from| view.walk(from, 7, 1_000)).len(), 2_000);
    let empty_view = store.freeze();
    assert!(empty_view.is_empty() && walked(|from| empty_view.walk(from, 7, 1)).is_empty());
    drop(empty_view);
    store.set(b"new", b"value");
    drop(store);
    assert_eq!(walked(|from| view.walk(from, 7, 1_000)).len(), 2_000);
    // It also stays with a bucket of which the store had a copy, and shared its long values.
    let mut store = empty();
    (0..100).for_each(|number| store.set(&key(number), &[7; 100]));
    let view = store.freeze();
    store.set(&key(1), b"");
    drop(store);
    assert!(walked(|from| view.walk(from, 7, 1_000)).iter().all(|(_, value)| value == &[7; 100]));
    drop(view);
}

fn view_bytes(view: &KvView) -> usize {
    view.buckets().count() * VIEW_BYTES_PER_BUCKET
}

#[test]
fn a_freeze_copies_no_record_and_a_write_copies_one_bucket() {
    const KEYS: u64 = 100_000;
    let mut store = empty();
    (0..KEYS).for_each(|number| store.set(&key(number), b"0123456789abcdef"));
    let (addresses, memory) = (store.addresses(), store.memory());
    let view = store.freeze();
    assert!(view.addresses() == addresses && store.addresses() == addresses, "none was copied");
    // The view itself takes less than a byte for four keys.
    let cost = store.memory() - memory;
    println!("{} buckets, {cost} bytes", store.pages.len());
    assert_eq!(VIEW_BYTES_PER_BUCKET, 104);
    assert_eq!(cost, view_bytes(&view));
    assert!((1..KEYS as usize / 4).contains(&cost), "{cost} bytes for a view");
    // Reads and removals of what is not there copy nothing.
    let buckets = store.pages.len();
    assert!(store.value(&key(1)).is_some() && !store.remove(b"not there"));
    assert_eq!(store.shared(), buckets);
    // The first write to a bucket copies this one, and the next write none.
    for _ in 0..3 {
        store.set(&key(1), b"fedcba9876543210");
        assert_eq!(store.shared(), buckets - 1);
        let moved = store.addresses().iter().zip(&addresses).filter(|(a, b)| a != b).count();
        assert!((1..=RECORDS_MAX).contains(&moved), "{moved} records were copied");
        // A table has 1,024 places of 64 bytes at most, with one byte and a little for each.
        let copy = store.memory() - memory - cost;
        assert!((64 * moved..=67 << 10).contains(&copy), "{copy} bytes were copied");
    }
    assert!(view.addresses() == addresses);
    // A second freeze shares the buckets that the first one has, and the new one.
    let second = store.freeze();
    assert_eq!(store.shared(), buckets);
    assert!(second.addresses() == store.addresses());
    // Writes to all buckets: the memory is at most twice what it was, and all comes back with the views.
    (0..KEYS).for_each(|number| store.set(&key(number), b"................"));
    assert_eq!(store.shared(), 0);
    assert!(store.memory() - memory <= memory + 2 * cost + (67 << 10), "{}", store.memory());
    drop((view, second));
    assert_eq!(store.memory(), memory);
}

/// A copy of a bucket shares long values: it costs no more with them.
#[test]
fn long_values_are_not_copied_with_their_bucket() {
    const LONG: usize = 100_000;
    let mut store = empty();
    (0..100).for_each(|number| store.set(&key(number), &[7; LONG]));
    let view = store.freeze();
    let before = store.memory();
    store.set(b"new", b"");
    let grown = store.memory() - before;
    assert!((1..20_000).contains(&grown), "{grown} bytes for a bucket");
    // The old value counts as long as the view has it.
    let before = store.memory();
    store.set(&key(1), &[8; LONG]);
    assert!(store.memory() - before >= LONG);
    store.append(&key(2), b"x");
    assert!(store.memory() - before >= 2 * LONG);
    assert!(store.remove(&key(3)));
    assert!(store.memory() - before >= 2 * LONG, "the view has it");
    drop(view);
    assert!(store.memory() <= 100 * (LONG + 200) + LONG / 8, "{} bytes", store.memory());
    store.check();
}

#[test]
fn a_key_in_a_bucket_that_a_view_has_has_no_room() {
    let mut store = empty();
    store.set(b"short", b"value");
    store.set(b"long", &[7; 1000]);
    let room = |store: &Store| ["short", "long"].map(|key| store.has_room_for(key.as_bytes(), 9));
    assert_eq!(room(&store), [true, true]);
    let view = store.freeze();
    assert_eq!(room(&store), [false, false], "a write would copy the bucket");
    store.set(b"other", b"");
    // The bucket is copied, and the view still has the long value.
    assert_eq!((room(&store), store.has_room_for(b"long", 900)), ([true, true], false));
    drop(view);
    assert_eq!((room(&store), store.has_room_for(b"long", 900)), ([true, true], true));
    // A bucket that the last view left belongs to the store again with the next write.
    drop(store.freeze());
    assert!(matches!(store.pages[0], Page::Frozen(_)) && store.has_room_for(b"short", 9));
    let addresses = store.addresses();
    store.set(b"short", b"x");
    assert!(matches!(store.pages[0], Page::Own(_)));
    assert_eq!(store.addresses(), addresses, "nothing was copied");
}

#[test]
fn a_walk_that_forgets_what_it_has_passed_gives_memory_back_on_the_way() {
    const KEYS: u64 = 20_000;
    let mut store = empty();
    (0..KEYS).for_each(|number| store.set(&key(number), &[7; 100]));
    let memory = store.memory();
    let mut view = store.freeze();
    (0..KEYS).for_each(|number| store.set(&key(number), &[8; 100]));
    let (mut given, mut held, mut next) = (0, store.memory(), Some(KvCursor::default()));
    assert!(held > 2 * memory);
    while let Some(cursor) = next {
        view.forget_before(&cursor);
        assert!(store.memory() <= held);
        held = store.memory();
        let portion = view.walk(&cursor, 1_000, usize::MAX);
        assert!(portion.pairs.iter().all(|(_, value)| *value == [7; 100]));
        given += portion.pairs.len() as u64;
        // The part that was walked, less one bucket and this portion.
        let rest = memory as u64 * (KEYS - given + 2 * 1_000 + RECORDS_MAX as u64) / KEYS;
        assert!(held as u64 <= memory as u64 + rest * 11 / 10, "{held} bytes after {given} keys");
        next = portion.next;
    }
    assert_eq!((given, view.len() as u64), (KEYS, KEYS));
    view.forget_before(&KvCursor::of(u64::MAX, b""));
    assert_eq!(view.buckets().count(), 1, "the last bucket has no end");
    drop(view);
    assert_eq!(store.memory(), memory);
}

#[test]
#[should_panic = "was forgotten"]
fn what_a_view_has_forgotten_is_not_walked_again() {
    let mut store = empty();
    (0..2_000).for_each(|number| store.set(&key(number), b""));
    let mut view = store.freeze();
    view.forget_before(&KvCursor::of(u64::MAX, b""));
    view.walk(&KvCursor::default(), 1, 1);
}

/// Writes between two portions, among them some that split buckets and some that empty them.
#[test]
fn a_walk_gives_what_is_always_there_once_whatever_is_written_meanwhile() {
    for seed in 0..4 {
        let mut random = SplitMix::new(seed);
        let mut below = |limit: u64| random.draw() % limit;
        let mut store = empty();
        // Every third key stays. The others come and go, and some of all share a hash.
        let place = |store: &Store, number: u64| match number % 5 {
            0 => (ONE_HASH, key(number)),
            _ => (store.hash(&key(number)), key(number)),
        };
        let keys = 6_000;
        for number in (0..keys).filter(|number| number % 3 == 0) {
            let (hash, key) = place(&store, number);
            store.set_at(hash, &key, b"stays");
        }
        let (mut given, mut portions) = (Vec::new(), 0);
        let mut next = Some(KvCursor::default());
        while let Some(cursor) = next {
            let (records_max, bytes_max) = (1 + below(80) as usize, below(3_000) as usize);
            let portion = store.walk(&cursor, records_max, bytes_max);
            let bytes: usize =
                portion.pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
            assert!(portion.pairs.len() <= records_max);
            assert!(bytes <= bytes_max || portion.pairs.len() == 1, "{bytes} of {bytes_max} bytes");
            given.extend(portion.pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
            next = portion.next;
            portions += 1;
            for _ in 0..below(400) {
                let number = below(keys);
                let (hash, key) = place(&store, number);
                match number % 3 {
                    0 => store.set_at(hash, &key, b"stays"),
                    _ if below(2) == 0 => store.set_at(hash, &key, &[7; 60]),
                    _ => drop(store.remove_at(hash, &key)),
                }
            }
        }
        let mut seen: Vec<_> = given.iter().map(|(key, _)| key).collect();
        seen.sort_unstable();
        assert!(seen.is_sorted_by(|a, b| a < b), "seed {seed}: a key was given twice");
        let stay = given.iter().filter(|(_, value)| value == b"stays").count();
        assert_eq!(stay as u64, keys / 3, "seed {seed}: a key was left out");
        assert!(portions > 50 && given.len() > stay, "{portions} portions");
    }
}

#[test]
fn a_portion_has_a_record_whatever_its_bounds() {
    let mut store = empty();
    store.set(b"a", &[7; 1000]);
    store.set(b"b", b"");
    let first = store.walk(&KvCursor::default(), 1, usize::MAX);
    assert_eq!((first.pairs.len(), first.next.is_some()), (1, true));
    assert_eq!(walked(|from| store.walk(from, usize::MAX, 0)).len(), 2);
    let all = store.walk(&KvCursor::default(), 2, 1002);
    assert_eq!((all.pairs.len(), all.next), (2, None));
    assert_eq!(store.walk(&KvCursor::default(), 2, 1001).pairs.len(), 1);
}
