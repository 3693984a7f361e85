//! A frame: the SETs of one turn of the leader. The same bytes go to the log and to each follower.
//!
//! ```text
//! length  u32   bytes of the whole frame
//! crc     u32   CRC32C of all that follows
//! sequence  u64   1 for the first frame of a leader, and one more for each
//! committed u64   the frames up to here are durable on two of three
//! entries: key length u32, value length u32, key, value      (each number little-endian)
//! ```
//!
//! A follower answers with the sequence up to which its log is durable: 8 bytes.

use crate::log::WRITE_BYTES_MAX;

const HEADER: usize = 24;
const ENTRY_HEADER: usize = 8;
/// The most bytes of one frame: one write of the log holds it.
const FRAME_BYTES_MAX: usize = WRITE_BYTES_MAX;
/// The bytes of an acknowledgement.
pub(crate) const ACK: usize = 8;

/// A frame that SETs are added to.
pub(crate) struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    /// An empty frame, in the memory of an old one.
    pub(crate) fn new(mut memory: Vec<u8>) -> Self {
        memory.clear();
        memory.resize(HEADER, 0);
        Self { bytes: memory }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER
    }

    /// Whether a SET of this key and value still has room.
    pub(crate) fn has_room(&self, key: &[u8], value: &[u8]) -> bool {
        self.bytes.len() + ENTRY_HEADER + key.len() + value.len() <= FRAME_BYTES_MAX
    }

    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    /// The bytes of the frame.
    pub(crate) fn seal(mut self, sequence: u64, committed: u64) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&committed.to_le_bytes());
        let crc = crc32c::crc32c(&self.bytes[8..]);
        self.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        self.bytes
    }
}

/// A frame as it came in: whole, and with the right checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    pub(crate) committed: u64,
    pub(crate) bytes: &'a [u8],
}

/// The first frame of the bytes. `None` until all of it is there.
///
/// # Errors
/// When the bytes are no frame.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<Frame<'_>>, &'static str> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let length = number_u32(&header[..4]);
    if !(HEADER..=FRAME_BYTES_MAX).contains(&length) {
        return Err("a frame has a length that no frame has");
    }
    let Some(frame) = bytes.get(..length) else { return Ok(None) };
    if crc32c::crc32c(&frame[8..]) as usize != number_u32(&header[4..8]) {
        return Err("a frame has a wrong checksum");
    }
    let (sequence, committed) = (number_u64(&header[8..16]), number_u64(&header[16..24]));
    Ok(Some(Frame { sequence, committed, bytes: frame }))
}

/// The keys and values of a whole frame, in order. It ends at the first entry that is cut.
pub(crate) fn entries(frame: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = &frame[HEADER..];
    std::iter::from_fn(move || {
        let (header, body) = rest.split_at_checked(ENTRY_HEADER)?;
        let (key, body) = body.split_at_checked(number_u32(&header[..4]))?;
        let (value, body) = body.split_at_checked(number_u32(&header[4..8]))?;
        rest = body;
        Some((key, value))
    })
}

/// The last whole acknowledgement of the bytes, and how many bytes were used.
pub(crate) fn last_ack(bytes: &[u8]) -> (Option<u64>, usize) {
    let used = bytes.len() / ACK * ACK;
    (bytes[..used].last_chunk::<ACK>().map(|ack| u64::from_le_bytes(*ack)), used)
}

fn number_u32(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize
}

fn number_u64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_was_and_not_before_it_is_whole() {
        let mut builder = Builder::new(vec![1; 3]);
        assert!(builder.is_empty());
        builder.push(b"key", b"value");
        builder.push(b"", b"");
        let mut bytes = builder.seal(7, 5);
        assert!(first(&bytes[..bytes.len() - 1]).unwrap().is_none());
        let frame = first(&bytes).unwrap().unwrap();
        assert_eq!((frame.sequence, frame.committed, frame.bytes.len()), (7, 5, bytes.len()));
        let all: Vec<_> = entries(frame.bytes).collect();
        assert_eq!(all, [(&b"key"[..], &b"value"[..]), (b"", b"")]);
        *bytes.last_mut().unwrap() ^= 1;
        bytes[12] ^= 1;
        assert!(first(&bytes).unwrap_err().contains("checksum"));
        assert!(first(&[0; 24]).unwrap_err().contains("length"));
    }

    #[test]
    fn the_last_whole_acknowledgement_counts() {
        let bytes = [1_u64.to_le_bytes(), 9_u64.to_le_bytes(), [0; 8]].concat();
        assert_eq!(last_ack(&bytes[..20]), (Some(9), 16));
        assert_eq!(last_ack(&bytes[..7]), (None, 0));
    }
}
