//! Block arithmetic: everything in a segment begins on a block and fills whole blocks.

/// The unit of reading and writing, in bytes. No write touches a block that holds an acknowledged batch: a device may
/// take 512 bytes, but reads and writes back the whole physical sector around them, which a power cut may lose. What
/// a device says of its sectors is no proof, so this is the size of the largest usual ones.
pub(crate) const BLOCK: usize = 4096;

/// `len` rounded up to whole blocks.
pub(crate) fn align_up(len: usize) -> usize {
    len.next_multiple_of(BLOCK)
}

/// `len` rounded down to whole blocks.
pub(crate) fn align_down(len: u64) -> u64 {
    len - len % BLOCK as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_round_to_whole_ones() {
        assert_eq!([0, 1, 4096, 4097].map(align_up), [0, 4096, 4096, 8192]);
        assert_eq!([0, 4095, 4096, 8191].map(align_down), [0, 0, 4096, 4096]);
    }
}
