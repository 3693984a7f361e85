//! What is kept of a value to tell it from others: its first bytes, its length and its checksum.
//!
//! A value may have 8 MiB, and a check notes many. A fingerprint has 20 bytes.

use bytes::Bytes;

/// So many bytes of a value are kept as they are.
pub const HEAD_BYTES: usize = 12;

/// See the module. [`Self::add`] takes the value piece by piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint {
    /// The first bytes; zeroes behind a value that is shorter.
    head: [u8; HEAD_BYTES],
    /// The bytes of the value; a value has 512 MiB at most.
    length: u32,
    /// CRC32C of all bytes.
    checksum: u32,
}

impl Fingerprint {
    /// The fingerprint of a whole value.
    pub fn of(value: &[u8]) -> Self {
        let mut fingerprint = Self::default();
        fingerprint.add(value);
        fingerprint
    }

    /// Takes the next bytes of the value.
    pub fn add(&mut self, piece: &[u8]) {
        let from = (self.length as usize).min(HEAD_BYTES);
        let taken = piece.len().min(HEAD_BYTES - from);
        self.head[from..from + taken].copy_from_slice(&piece[..taken]);
        self.length += piece.len() as u32;
        self.checksum = crc32c::crc32c_append(self.checksum, piece);
    }

    /// A short value itself; of a longer one its first bytes, its length and its checksum, as text.
    pub fn text(&self) -> Bytes {
        let length = self.length as usize;
        if length <= HEAD_BYTES {
            return Bytes::copy_from_slice(&self.head[..length]);
        }
        let head = self.head.escape_ascii();
        Bytes::from(format!("{head}, {length} B, checksum {:08x}", self.checksum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_the_fingerprint_of_the_whole() {
        let value = b"000000000042 and more";
        for at in 0..=value.len() {
            let mut pieces = Fingerprint::default();
            pieces.add(&value[..at]);
            pieces.add(&value[at..]);
            assert_eq!(pieces, Fingerprint::of(value), "split at {at}");
        }
        assert_ne!(Fingerprint::of(b"000000000042 and mor"), Fingerprint::of(value));
        assert_ne!(Fingerprint::of(b"000000000042 and morE"), Fingerprint::of(value));
    }

    #[test]
    fn a_short_value_is_its_own_text() {
        assert_eq!(Fingerprint::of(b"17").text(), "17");
        let text = Fingerprint::of(b"000000000042\xffabc").text();
        assert!(text.starts_with(b"000000000042, 16 B, checksum "), "{text:?}");
    }
}
