//! The records whose keys have their hashes in one range.

use super::{hash::HashKey, record::Record};
use hashbrown::HashTable;
use std::{cell::Cell, collections::BTreeMap};

/// How many records a table has at most. It is what a table of 1,024 places takes before it grows.
pub(super) const RECORDS_MAX: usize = 896;

/// The records of one range of hashes.
///
/// Whatever keys a client chooses, also one who knows the key of the hash, the longest search and the longest move are
/// those of a table of [`RECORDS_MAX`] records, or a search in a tree.
#[derive(Clone, Default, Debug)]
pub(super) struct Bucket {
    records: Records,
    /// The sum of the digests of all records, unless one has changed since somebody asked for it.
    digest: Cell<Option<u64>>,
}

#[derive(Clone, Debug)]
enum Records {
    /// At most [`RECORDS_MAX`] records.
    Table(HashTable<Record>),
    /// Any number of records, whose keys all have one hash. Only keys that a client chose for their hash
    /// come to this.
    Tree(Tree),
}

/// What became of a bucket that was split.
pub(super) enum Split {
    /// The records with the higher hashes are in a bucket of their own, which begins at this hash.
    Upper(u64, Bucket),
    /// All records have this hash, so they cannot be parted. The bucket is a tree now, for this hash alone.
    OneHash(u64),
}

/// Records in the order of their keys.
#[derive(Clone, Default, Debug)]
pub(super) struct Tree {
    by_key: BTreeMap<Box<[u8]>, Record>,
    /// The sum of [`cost`](Self::cost) over all records.
    bytes: usize,
}

impl Default for Records {
    fn default() -> Self {
        Self::Table(HashTable::new())
    }
}

impl Bucket {
    pub(super) fn record(&self, hash: u64, key: &[u8]) -> Option<&Record> {
        match &self.records {
            Records::Table(table) => table.find(spread(hash), |record| record.is_of(hash, key)),
            Records::Tree(tree) => tree.by_key.get(key),
        }
    }

    /// Whether its table has a record of a key with this hash. It does not look at the key.
    pub(super) fn is_likely_here(&self, hash: u64) -> bool {
        let Records::Table(table) = &self.records else { return false };
        table.find(spread(hash), |record| record.hash() == hash).is_some()
    }

    pub(super) fn record_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Record> {
        self.digest.set(None);
        match &mut self.records {
            Records::Table(table) => table.find_mut(spread(hash), |record| record.is_of(hash, key)),
            Records::Tree(tree) => tree.by_key.get_mut(key),
        }
    }

    /// Adds a record whose key has this hash and is not here.
    pub(super) fn insert(&mut self, hash: u64, record: Record) {
        self.digest.set(None);
        match &mut self.records {
            Records::Table(table) => {
                assert!(
                    table.len() < RECORDS_MAX,
                    "a bucket of {} records takes no more",
                    table.len()
                );
                table.insert_unique(spread(hash), record, spread_of);
            }
            Records::Tree(tree) => tree.insert(record),
        }
    }

    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Record> {
        self.digest.set(None);
        match &mut self.records {
            Records::Table(table) => {
                let entry =
                    table.find_entry(spread(hash), |record| record.is_of(hash, key)).ok()?;
                let (record, _) = entry.remove();
                // A table that has lost most of its records gives their memory back.
                if table.len() <= table.capacity() / 8 {
                    table.shrink_to(2 * table.len(), spread_of);
                }
                Some(record)
            }
            Records::Tree(tree) => tree.remove(key),
        }
    }

    /// Whether the bucket must be split before it takes another record.
    pub(super) fn is_full(&self) -> bool {
        matches!(&self.records, Records::Table(table) if table.len() >= RECORDS_MAX)
    }

    /// Moves the records with the higher hashes, about half of all, to a bucket of their own.
    ///
    /// # Panics
    /// If the bucket is a tree, or empty.
    pub(super) fn split(&mut self) -> Split {
        self.digest.set(None);
        let Records::Table(table) = &mut self.records else {
            panic!("a tree takes any number of records")
        };
        let mut hashes: Vec<_> = table.iter().map(Record::hash).collect();
        hashes.sort_unstable();
        let middle = hashes[hashes.len() / 2];
        let least = hashes[0];
        let border = if middle > least {
            Some(middle)
        } else {
            hashes.iter().copied().find(|&hash| hash > least)
        };
        let Some(border) = border else {
            let mut tree = Tree::default();
            table.drain().for_each(|record| tree.insert(record));
            self.records = Records::Tree(tree);
            return Split::OneHash(least);
        };
        let mut upper = HashTable::with_capacity(table.len() / 2);
        for record in table.extract_if(|record| record.hash() >= border) {
            upper.insert_unique(spread_of(&record), record, spread_of);
        }
        table.shrink_to(table.len(), spread_of);
        Split::Upper(border, Self { records: Records::Table(upper), digest: Cell::default() })
    }

    /// How many records it has.
    pub(super) fn len(&self) -> usize {
        match &self.records {
            Records::Table(table) => table.len(),
            Records::Tree(tree) => tree.by_key.len(),
        }
    }

    #[cfg(test)]
    pub(super) fn is_tree(&self) -> bool {
        matches!(&self.records, Records::Tree(_))
    }

    /// All records in the order of (hash, key).
    pub(super) fn sorted(&self) -> Vec<&Record> {
        let mut records: Vec<_> = self.records().collect();
        records.sort_unstable_by_key(|record| record.place());
        records
    }

    /// The wrapping sum of the digests of all records. It is kept until a record changes.
    pub(super) fn digest(&self, hash_key: HashKey) -> u64 {
        self.digest.get().unwrap_or_else(|| {
            let digests = self.records().map(|record| record.digest(hash_key));
            let sum = digests.fold(0, u64::wrapping_add);
            self.digest.set(Some(sum));
            sum
        })
    }

    /// All records, in no order.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        let (table, tree) = match &self.records {
            Records::Table(table) => (Some(table), None),
            Records::Tree(tree) => (None, Some(tree)),
        };
        let of_table = table.into_iter().flat_map(HashTable::iter);
        of_table.chain(tree.into_iter().flat_map(|tree| tree.by_key.values()))
    }

    /// The memory of the places for records, in bytes, without what the records have outside of
    /// themselves. For a tree this is an estimate.
    pub(super) fn allocated(&self) -> usize {
        match &self.records {
            Records::Table(table) => table.allocation_size(),
            Records::Tree(tree) => tree.bytes,
        }
    }
}

impl Tree {
    /// About what a record costs here: its place, its key once more, and its share of the nodes.
    fn cost(record: &Record) -> usize {
        2 * size_of::<Record>() + record.key().len()
    }

    fn insert(&mut self, record: Record) {
        self.bytes += Self::cost(&record);
        self.by_key.insert(record.key().into(), record);
    }

    fn remove(&mut self, key: &[u8]) -> Option<Record> {
        let record = self.by_key.remove(key)?;
        self.bytes -= Self::cost(&record);
        Some(record)
    }
}

/// What the table makes a place of. The hashes of a bucket agree in their highest bits: in those of a slot with many
/// keys in half of them. The product carries the lower bits to where the table makes its places and tags.
fn spread(hash: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    hash.wrapping_mul(ODD).rotate_left(32)
}

fn spread_of(record: &Record) -> u64 {
    spread(record.hash())
}
