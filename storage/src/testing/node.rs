//! One file of the disk in memory: what is readable, what is durable, and what is between the two.

use std::collections::BTreeMap;

#[derive(Default, Clone)]
pub(super) struct Node {
    /// As reads see it.
    pub(super) bytes: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Completed and not durable, or begun and not completed.
    pub(super) loose: BTreeMap<u64, Loose>,
    pub(super) is_locked: bool,
}

#[derive(Clone)]
pub(super) struct Loose {
    pub(super) position: u64,
    pub(super) data: Vec<u8>,
    pub(super) is_complete: bool,
}

impl Node {
    /// What a device still held of these bytes can come back no more: it is older.
    pub(super) fn supersede(&mut self, position: u64, data: &[u8]) {
        let end = position + data.len() as u64;
        for older in self.loose.values_mut().filter(|write| write.is_complete) {
            let from = older.position.max(position);
            let to = end.min(older.position + older.data.len() as u64);
            if from < to {
                let new = &data[(from - position) as usize..(to - position) as usize];
                older.data[(from - older.position) as usize..][..new.len()].copy_from_slice(new);
            }
        }
    }

    pub(super) fn write_durably(&mut self, position: u64, data: &[u8]) {
        self.durable[position as usize..][..data.len()].copy_from_slice(data);
    }
}
