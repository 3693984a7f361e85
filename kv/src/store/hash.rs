//! The hash of a key: SipHash-1-3 (Aumasson, Bernstein: SipHash, a fast short-input PRF, 2012), with a key of its own
//! for each group of each cluster.
//!
//! ```text
//! hash of a key   slot, 14 bits | the upper 50 bits of SipHash-1-3(group's key, key)
//! group's key     SipHash-1-3(cluster id, 0 | group id), SipHash-1-3(cluster id, 1 | group id)
//! ```
//!
//! In the second line `|` joins a byte and four bytes, little endian, and the cluster id is the key of 16 bytes, little
//! endian. Walks go in the order of (hash, key), and snapshots will hold keys in this order, so the hash is part of
//! their format: `kv/golden/hashes.txt` freezes it. It is the same on all replicas of a group, on every machine and in
//! every version.
//!
//! A client who does not know the cluster id cannot choose keys for their hashes. The cluster id is no secret among
//! operators: what a store costs when clients know it is said at [`Bucket`](super::bucket::Bucket).

use crate::slot::slot_of;
use purlin_rsm::{ClusterId, GroupId};

/// The highest bits of the hash of a key are its slot, so that the keys of a slot lie one behind the other.
pub(super) const SLOT_SHIFT: u32 = u64::BITS - 14;

/// The key of the hash of one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HashKey([u64; 2]);

impl HashKey {
    pub(super) fn new(cluster: ClusterId, group: GroupId) -> Self {
        let cluster = [cluster.0 as u64, (cluster.0 >> 64) as u64];
        let half = |number: u8| {
            let [a, b, c, d] = group.0.to_le_bytes();
            sip::<1, 3>(cluster, &[number, a, b, c, d])
        };
        Self([half(0), half(1)])
    }

    /// The hash of a key: its slot, and then what SipHash says.
    pub(super) fn hash(self, key: &[u8]) -> u64 {
        let slot = u64::from(slot_of(key)) << SLOT_SHIFT;
        slot | sip::<1, 3>(self.0, key) >> (u64::BITS - SLOT_SHIFT)
    }

    /// The share of a record in the digest of a store. `bytes` are the key, `key_bytes` long, and the value behind it.
    pub(super) fn digest(self, bytes: &[u8], key_bytes: usize) -> u64 {
        purlin_rsm::random::hash(sip::<1, 3>(self.0, bytes) ^ key_bytes as u64)
    }
}

/// SipHash with `C` rounds for a word and `D` rounds at the end, of `bytes` under `key`.
fn sip<const C: usize, const D: usize>(key: [u64; 2], bytes: &[u8]) -> u64 {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        absorb::<C>(&mut state, word);
    }
    absorb::<C>(&mut state, last_word(words.remainder(), bytes.len()));
    state[2] ^= 0xff;
    (0..D).for_each(|_| round(&mut state));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

/// The bytes behind the last whole word, and the lowest byte of the length above them.
fn last_word(rest: &[u8], len: usize) -> u64 {
    let bytes = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    (len as u64) << 56 | bytes
}

fn absorb<const C: usize>(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    (0..C).for_each(|_| round(state));
    state[0] ^= word;
}

fn round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}

#[cfg(test)]
mod hash_test;
