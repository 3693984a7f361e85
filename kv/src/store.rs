//! Keys and values, with a digest of the whole.
//!
//! The store is a row of buckets. Each bucket has the keys whose hashes lie in one range, and a bucket that is
//! full is split in two. So a key is found with one search for its bucket and one look into a hash table;
//! no command moves more than the records of one bucket; and a walk goes in the order of (hash, key), whatever led to the
//! content, since it sorts the records of one bucket after the other. No client makes a table slow by the keys that it
//! chooses: the hash has a key of its own in each group ([`hash`]), a table is small, and keys of one hash that do not
//! fit into a table go to a tree.
//!
//! The digest of the whole is no work of a command: a bucket sums up its records when somebody asks, and keeps the
//! sum until one of them changes.

mod bucket;
mod hash;
mod page;
mod record;
mod view;
mod walk;

pub use view::KvView;
pub use walk::{KvCursor, KvPortion};

use bucket::{Bucket, Split};
use hash::{HashKey, SLOT_SHIFT};
use page::{Page, Past};
use purlin_rsm::{ClusterId, GroupId};
use record::Record;
use walk::{bucket_of, records_from};

/// Keys and values.
#[derive(Debug)]
pub(super) struct Store {
    hash_key: HashKey,
    /// The lowest hash of each bucket. The first is 0, and they rise.
    starts: Vec<u64>,
    /// As many as `starts`, a bucket in each.
    pages: Vec<Page>,
    len: usize,
    /// The memory of all buckets and records, in bytes.
    memory: usize,
    past: Past,
}

impl Store {
    /// A store without keys, for this group.
    pub(super) fn new(cluster: ClusterId, group: GroupId) -> Self {
        Self::empty(HashKey::new(cluster, group))
    }

    fn empty(hash_key: HashKey) -> Self {
        Self {
            hash_key,
            starts: vec![0],
            pages: vec![Page::default()],
            len: 0,
            memory: 0,
            past: Past::default(),
        }
    }

    pub(super) fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.value_at(self.hash(key), key)
    }

    /// [`Store::value`] of a key with this hash.
    pub(super) fn value_at(&self, hash: u64, key: &[u8]) -> Option<&[u8]> {
        self.bucket(hash).record(hash, key).map(Record::value)
    }

    /// Whether a value of so many bytes needs no more memory: the key is there, and has room for it, and no view has its
    /// bucket.
    pub(super) fn has_room_for(&self, key: &[u8], value_bytes: usize) -> bool {
        let hash = self.hash(key);
        let page = &self.pages[self.page_of(hash)];
        let has_room = |record: &Record| record.has_room_for(value_bytes);
        !page.is_shared() && page.bucket().record(hash, key).is_some_and(has_room)
    }

    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) {
        self.set_at(self.hash(key), key, value);
    }

    /// [`Store::set`] of a key with this hash.
    pub(super) fn set_at(&mut self, hash: u64, key: &[u8], value: &[u8]) {
        self.change(hash, key, |record| record.set(value));
    }

    /// Appends to the value of a key with this hash.
    pub(super) fn append_at(&mut self, hash: u64, key: &[u8], bytes: &[u8]) {
        self.change(hash, key, |record| record.append(bytes));
    }

    /// The hash of a key.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.hash_key.hash(key)
    }

    /// Has the processor fetch the records of these hashes, all at once: each look-up alone would wait for two reads of
    /// the memory, one after the other.
    pub(super) fn look_ahead(&self, hashes: impl Iterator<Item = u64>) {
        for hash in hashes {
            std::hint::black_box(self.bucket(hash).is_likely_here(hash));
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        self.remove_at(self.hash(key), key)
    }

    /// [`Store::remove`] of a key with this hash.
    fn remove_at(&mut self, hash: u64, key: &[u8]) -> bool {
        // A bucket that a view has is not copied for a key that is not there.
        if self.bucket(hash).record(hash, key).is_none() {
            return false;
        }
        let at = self.page_of(hash);
        let bucket = self.pages[at].bucket_mut();
        let before = bucket.allocated();
        let Some(record) = bucket.remove(hash, key) else { return false };
        self.memory += bucket.allocated();
        self.memory -= before + record.heap_bytes();
        self.past.add(record.shared_bytes());
        self.len -= 1;
        if self.len == 0 {
            self.clear();
        }
        true
    }

    /// All records as they are now. It copies none: it costs a count for each bucket.
    pub(super) fn freeze(&mut self) -> KvView {
        let buckets = self.pages.iter_mut().map(|page| page.freeze(&self.past));
        KvView::new(&self.starts, buckets, self.len, &self.past)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The memory that keys and values take, in bytes: of the records and of the free places beside them, and of what only
    /// views hold any more, without the allocator's own share.
    pub(super) fn memory(&self) -> usize {
        self.memory + self.past.bytes()
    }

    /// The wrapping sum, over all keys, of a hash of key and value: it does not depend on the order in which the keys
    /// came. It looks at each record of each bucket that was changed since the digest was last asked for.
    pub(super) fn digest(&self) -> u64 {
        let digests = self.buckets().map(|bucket| bucket.digest(self.hash_key));
        digests.fold(0, u64::wrapping_add)
    }

    /// Keys and values from `from` on: `records_max` at most, and `bytes_max` bytes of them, but at least one.
    ///
    /// # Panics
    /// If `records_max` is 0.
    pub(super) fn walk(
        &self,
        from: &KvCursor,
        records_max: usize,
        bytes_max: usize,
    ) -> KvPortion<'_> {
        KvPortion::of(self.records_from(from.place()), records_max, bytes_max)
    }

    /// How many keys lie in a slot. Of the buckets that the slot shares with others each record is looked at, of
    /// all others none.
    pub(super) fn count_in(&self, slot: u16) -> usize {
        let counts = self.buckets_of(slot).map(|(bucket, is_shared)| match is_shared {
            true => bucket.records().filter(|record| record.slot() == slot).count(),
            false => bucket.len(),
        });
        counts.sum()
    }

    /// The keys of a slot, in the order of a walk.
    pub(super) fn keys_in(&self, slot: u16) -> impl Iterator<Item = &[u8]> {
        let records = self.records_from((u64::from(slot) << SLOT_SHIFT, b""));
        records.take_while(move |record| record.slot() == slot).map(Record::key)
    }

    /// The buckets that may have keys of a slot, and whether each may have keys of other slots.
    fn buckets_of(&self, slot: u16) -> impl Iterator<Item = (&Bucket, bool)> {
        let first = u64::from(slot) << SLOT_SHIFT;
        let last = first | ((1 << SLOT_SHIFT) - 1);
        (self.page_of(first)..=self.page_of(last)).map(move |at| {
            let end = self.starts.get(at + 1).map_or(u64::MAX, |&next| next - 1);
            (self.pages[at].bucket(), self.starts[at] < first || end > last)
        })
    }

    /// Changes the value of `key`. The value is empty when the key was absent.
    fn change(&mut self, hash: u64, key: &[u8], change: impl FnOnce(&mut Record)) {
        let at = self.page_of(hash);
        let Some(record) = self.pages[at].bucket_mut().record_mut(hash, key) else {
            let mut record = Record::new(hash, key);
            change(&mut record);
            return self.insert(at, hash, record);
        };
        let (bytes, shared) = (record.heap_bytes(), record.shared_bytes());
        change(record);
        self.memory = self.memory + record.heap_bytes() - bytes;
        // What the record shared with a view and shares no more is the view's alone.
        let left = shared - record.shared_bytes();
        if left > 0 {
            self.past.add(left);
        }
    }

    /// Adds a record of a key that is not here. Its page is `at`.
    fn insert(&mut self, mut at: usize, hash: u64, record: Record) {
        while self.pages[at].bucket().is_full() {
            self.split(at);
            at = self.page_of(hash);
        }
        self.memory += record.heap_bytes();
        self.len += 1;
        let bucket = self.pages[at].bucket_mut();
        let before = bucket.allocated();
        bucket.insert(hash, record);
        self.memory = self.memory + bucket.allocated() - before;
    }

    fn split(&mut self, at: usize) {
        let bucket = self.pages[at].bucket_mut();
        let before = bucket.allocated();
        let split = bucket.split();
        self.memory = self.memory + bucket.allocated() - before;
        match split {
            Split::Upper(start, upper) => {
                self.memory += upper.allocated();
                self.insert_bucket(at + 1, start, upper);
            }
            Split::OneHash(hash) => self.narrow(at, hash),
        }
    }

    /// The bucket `at` is for the keys of one hash alone: the hashes beside it get tables.
    fn narrow(&mut self, at: usize, hash: u64) {
        if let Some(above) = hash.checked_add(1)
            && self.starts.get(at + 1) != Some(&above)
        {
            self.insert_bucket(at + 1, above, Bucket::default());
        }
        if self.starts[at] < hash {
            let start = std::mem::replace(&mut self.starts[at], hash);
            self.insert_bucket(at, start, Bucket::default());
        }
    }

    fn insert_bucket(&mut self, at: usize, start: u64, bucket: Bucket) {
        self.starts.insert(at, start);
        self.pages.insert(at, Page::Own(bucket));
    }

    /// A store without keys has one empty bucket. Each key was removed from its bucket before, so no view has one with
    /// records in common with the store.
    fn clear(&mut self) {
        let past = std::mem::take(&mut self.past);
        *self = Self { past, ..Self::empty(self.hash_key) };
    }

    /// All records in the order of (hash, key), from this one on.
    fn records_from<'a>(&'a self, from: (u64, &[u8])) -> impl Iterator<Item = &'a Record> {
        records_from(&self.starts, self.buckets(), from)
    }

    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.pages.iter().map(Page::bucket)
    }

    /// The bucket that has the keys of this hash.
    fn bucket(&self, hash: u64) -> &Bucket {
        self.pages[self.page_of(hash)].bucket()
    }

    /// Where that bucket stands.
    fn page_of(&self, hash: u64) -> usize {
        bucket_of(&self.starts, hash)
    }
}

impl PartialEq for Store {
    /// Two stores are equal whatever the order in which their keys came.
    fn eq(&self, other: &Self) -> bool {
        let mut records = self.buckets().flat_map(Bucket::records);
        self.len == other.len && records.all(|it| other.value(it.key()) == Some(it.value()))
    }
}

impl Eq for Store {}

#[cfg(test)]
mod store_test;
#[cfg(test)]
mod view_test;
