//! Keys and values in the order of the keys' hashes, with a digest of the whole.
//!
//! A tree ordered by (hash, key) compares numbers where a tree of keys would compare strings, is
//! the same on every replica, and, unlike a hash table without a secret, gives nobody who chooses
//! colliding keys anything but a comparison of strings. Its order is the one in which a stateless
//! cursor can walk it.
//!
//! Keys and values are copied in: a slice of the command would keep the whole buffer alive that the
//! command came in.

use std::{borrow::Borrow, cmp::Ordering, collections::BTreeMap};

/// Keys and values.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Store {
    values: BTreeMap<Place, Value>,
    /// The wrapping sum, over all keys, of a hash of key and value: the same in whatever order they
    /// came.
    digest: u64,
}

impl Store {
    pub(super) fn value(&self, key: &[u8]) -> Option<&[u8]> {
        let value = self.values.get(&(hash(key), key) as &dyn Position)?;
        Some(&value.bytes)
    }

    pub(super) fn set(&mut self, key: &[u8], bytes: &[u8]) {
        self.change(key, |value| {
            value.bytes.clear();
            value.hashed = Hashed::default();
            // A long value that is replaced by a short one gives its memory back.
            if value.bytes.capacity() > 4 * bytes.len() + 64 {
                value.bytes = Vec::with_capacity(bytes.len());
            }
            value.append(bytes);
        });
    }

    pub(super) fn append(&mut self, key: &[u8], bytes: &[u8]) {
        self.change(key, |value| value.append(bytes));
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let hash = hash(key);
        let Some(value) = self.values.remove(&(hash, key) as &dyn Position) else { return false };
        self.digest = self.digest.wrapping_sub(value.digest(hash));
        true
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Changes the value of `key`, which is empty when there was none.
    fn change(&mut self, key: &[u8], change: impl FnOnce(&mut Value)) {
        let hash = hash(key);
        if let Some(value) = self.values.get_mut(&(hash, key) as &dyn Position) {
            self.digest = self.digest.wrapping_sub(value.digest(hash));
            change(value);
            self.digest = self.digest.wrapping_add(value.digest(hash));
            return;
        }
        let mut value = Value::default();
        change(&mut value);
        self.digest = self.digest.wrapping_add(value.digest(hash));
        self.values.insert(Place { hash, key: key.into() }, value);
    }
}

/// A value, with its hash so far, so that appending to a long one does not hash it all again.
#[derive(Clone, Default, Debug)]
struct Value {
    bytes: Vec<u8>,
    hashed: Hashed,
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Value {}

impl Value {
    fn append(&mut self, bytes: &[u8]) {
        let whole = self.bytes.len() / 8 * 8;
        self.bytes.extend_from_slice(bytes);
        self.hashed.add(&self.bytes[whole..]);
    }

    /// What it adds to the digest of the store, as the value of a key with this hash.
    fn digest(&self, key: u64) -> u64 {
        fold(self.hashed.finish(&self.bytes) ^ key.rotate_left(32), MULTIPLIER)
    }
}

/// Where a key stands in the tree.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    hash: u64,
    key: Box<[u8]>,
}

/// A place, owned or lent: what lets the tree be asked with a key that is not copied.
trait Position {
    fn parts(&self) -> (u64, &[u8]);
}

impl Position for Place {
    fn parts(&self) -> (u64, &[u8]) {
        (self.hash, &self.key)
    }
}

impl Position for (u64, &[u8]) {
    fn parts(&self) -> (u64, &[u8]) {
        *self
    }
}

impl<'a> Borrow<dyn Position + 'a> for Place {
    fn borrow(&self) -> &(dyn Position + 'a) {
        self
    }
}

impl PartialEq for dyn Position + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Position + '_ {}

impl PartialOrd for dyn Position + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Position + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

/// A hash over the whole words of eight bytes seen so far.
#[derive(Clone, Copy, Default, Debug)]
struct Hashed(u64);

impl Hashed {
    /// Adds the whole words of `bytes`; what is left over is not a part of it yet.
    fn add(&mut self, bytes: &[u8]) {
        for word in bytes.chunks_exact(8) {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            self.0 = fold(self.0 ^ word, MULTIPLIER).wrapping_add(SALT);
        }
    }

    /// The hash of `bytes`, whose whole words were added.
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
