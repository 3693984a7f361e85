//! Keys and values, with a digest of the whole.
//!
//! The store is a row of pages. Each page has the keys whose hashes lie in one range, and a page that is
//! full is split in two. So a key is found with one search for its page and one look into a hash table;
//! no command moves more than the records of one page; and pages can be walked in the order of hashes, as
//! snapshots and stateless cursors need it. No client makes a table slow by the keys that it chooses,
//! since a table is small, and keys of one hash that do not fit into a table go to a tree.

mod page;
mod record;

use page::Page;
use record::{Record, hash};

/// Keys and values.
#[derive(Clone, Debug)]
pub(super) struct Store {
    /// The lowest hash of each page. The first is 0, and they rise.
    starts: Vec<u64>,
    /// As many as `starts`.
    pages: Vec<Page>,
    len: usize,
    /// The memory of all pages and records, in bytes.
    memory: usize,
    /// The wrapping sum, over all keys, of a hash of key and value. The sum does not depend on the order
    /// in which the keys came.
    digest: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self { starts: vec![0], pages: vec![Page::default()], len: 0, memory: 0, digest: 0 }
    }
}

impl Store {
    pub(super) fn value(&self, key: &[u8]) -> Option<&[u8]> {
        let hash = hash(key);
        self.pages[self.page_of(hash)].record(hash, key).map(Record::value)
    }

    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) {
        self.change(key, |record| record.set(value));
    }

    pub(super) fn append(&mut self, key: &[u8], bytes: &[u8]) {
        self.change(key, |record| record.append(bytes));
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let hash = hash(key);
        let at = self.page_of(hash);
        let before = self.pages[at].allocated();
        let Some(record) = self.pages[at].remove(hash, key) else { return false };
        self.memory += self.pages[at].allocated();
        self.memory -= before + record.heap_bytes();
        self.digest = self.digest.wrapping_sub(record.digest(hash));
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        }
        true
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The memory that keys and values take, in bytes: of the records and of the free places beside them,
    /// without the allocator's own share.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Changes the value of `key`. The value is empty when the key was absent.
    fn change(&mut self, key: &[u8], change: impl FnOnce(&mut Record)) {
        let hash = hash(key);
        let at = self.page_of(hash);
        let Some(record) = self.pages[at].record_mut(hash, key) else {
            let mut record = Record::new(key);
            change(&mut record);
            return self.insert(at, hash, record);
        };
        let (digest, bytes) = (record.digest(hash), record.heap_bytes());
        change(record);
        self.digest = self.digest.wrapping_sub(digest).wrapping_add(record.digest(hash));
        self.memory = self.memory + record.heap_bytes() - bytes;
    }

    /// Adds a record of a key that is not here. Its page is `at`.
    fn insert(&mut self, mut at: usize, hash: u64, record: Record) {
        while self.pages[at].is_full() {
            self.split(at);
            at = self.page_of(hash);
        }
        self.digest = self.digest.wrapping_add(record.digest(hash));
        self.memory += record.heap_bytes();
        self.len += 1;
        let before = self.pages[at].allocated();
        self.pages[at].insert(hash, record);
        self.memory = self.memory + self.pages[at].allocated() - before;
    }

    fn split(&mut self, at: usize) {
        let before = self.pages[at].allocated();
        if let Some((start, upper)) = self.pages[at].split() {
            self.memory += upper.allocated();
            self.starts.insert(at + 1, start);
            self.pages.insert(at + 1, upper);
        }
        self.memory = self.memory + self.pages[at].allocated() - before;
    }

    /// The page that has the keys of this hash.
    fn page_of(&self, hash: u64) -> usize {
        self.starts.partition_point(|&start| start <= hash) - 1
    }
}

impl PartialEq for Store {
    /// Two stores are equal whatever the order in which their keys came.
    fn eq(&self, other: &Self) -> bool {
        let mut records = self.pages.iter().flat_map(Page::records);
        self.len == other.len && records.all(|it| other.value(it.key()) == Some(it.value()))
    }
}

impl Eq for Store {}

#[cfg(test)]
mod store_test;
