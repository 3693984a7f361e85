//! The keys and values of one process, in memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// All keys and their values.
#[derive(Default)]
pub(crate) struct Store {
    map: HashMap<Box<[u8]>, Vec<u8>, BuildHasherDefault<Folded>>,
}

impl Store {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.map.get(key).map(Vec::as_slice)
    }

    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) {
        if let Some(old) = self.map.get_mut(key) {
            old.clear();
            old.extend_from_slice(value);
        } else {
            self.map.insert(key.into(), value.into());
        }
    }
}

/// A fast hash: multiply, and fold the halves. Keys that collide can be chosen: only a load that means
/// well may use it.
#[derive(Default)]
struct Folded(u64);

impl Folded {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last));
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_key_counts_and_keys_do_not_mix() {
        let mut store = Store::default();
        for number in 0..10_000_u32 {
            store.set(format!("key:{number:012}").as_bytes(), &number.to_le_bytes());
        }
        store.set(b"key:000000000007", b"new");
        assert_eq!(store.get(b"key:000000000007"), Some(&b"new"[..]));
        assert_eq!(store.get(b"key:000000000008"), Some(&8_u32.to_le_bytes()[..]));
        assert_eq!((store.get(b"key"), store.map.len()), (None, 10_000));
    }
}
