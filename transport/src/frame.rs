//! Frames: the units that a connection carries, each with a checksum. The module knows headers and
//! lengths; the meaning of a body is the matter of other modules.
//!
//! ```text
//!  0       4         5      6       8             16        20      24
//!  +-------+---------+------+-------+-------------+---------+-------+----------- length bytes
//!  | PURL  | version | kind | check | durable     | length  | crc   | body ...
//!  +-------+---------+------+-------+-------------+---------+-------+-----------
//! ```
//!
//! All numbers are little endian. `crc` is the CRC32C of the 20 bytes before it and of the body.
//! `check` is the lower half of the CRC32C of the 20 bytes before `crc`, where `check` itself
//! counts as 0. So a header is verified before its length is believed. Without that, one flipped
//! bit in a length would make a reader wait for bytes that nobody sends. `durable` is the highest
//! sequence that the sender's WAL has made durable (safety I4). The start and the boot id that
//! belong to it are fixed by the handshake. A body carries many items of the frame's kind.
//!
//! The length is checked before a byte is allocated for it, and the buffer grows only as bytes
//! arrive: a peer that claims 16 MiB has to send them.

use crate::codec::{Malformed, ensure};
use bytes::{Bytes, BytesMut};
use purlin_rsm::Sequence;
use std::ops::Range;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// Bytes of a frame before its body.
pub const HEADER_BYTES: usize = size_of::<Header>();

/// No item is added to a frame of this length: the receiver handles one frame at a time. So a longer frame
/// holds one item.
pub(crate) const FRAME_BYTES: usize = 256 << 10;

/// The version of this layout. The handshake negotiates the version of the bodies.
const VERSION: u8 = 2;
const MAGIC: [u8; 4] = *b"PURL";
/// The part of the header that the checksum covers: all before the checksum.
const CHECKED_BYTES: usize = HEADER_BYTES - 4;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: u8,
    kind: u8,
    check: U16,
    durable: U64,
    length: U32,
    crc: U32,
}

impl Header {
    /// The right value of `check`.
    fn proof(&self) -> u16 {
        let plain = Self { check: U16::new(0), ..*self };
        crc32c::crc32c(&plain.as_bytes()[..CHECKED_BYTES]) as u16
    }
}

/// The kind of the items of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// The dialler's first frame.
    Hello = 1,
    /// The listener's reply to it. No other frame goes in that direction.
    HelloAnswer = 2,
    /// Messages between replicas.
    Messages = 3,
    /// A heartbeat for all groups of the pair.
    Heartbeat = 4,
    /// Client commands for the leader at the other side.
    Forward = 5,
    /// The outcomes of forwarded commands.
    ForwardReply = 6,
}

impl Kind {
    fn parse(byte: u8) -> Result<Self, Malformed> {
        match byte {
            1 => Ok(Self::Hello),
            2 => Ok(Self::HelloAnswer),
            3 => Ok(Self::Messages),
            4 => Ok(Self::Heartbeat),
            5 => Ok(Self::Forward),
            6 => Ok(Self::ForwardReply),
            _ => Err(Malformed { what: "a frame of an unknown kind" }),
        }
    }
}

/// A frame whose checksum holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The kind of its items.
    pub kind: Kind,
    /// What the sender's WAL had made durable when the frame was closed.
    pub durable: Sequence,
    /// The items. They keep at most twice their length alive: a frame that takes less than half of the read
    /// buffer is copied out of it, and a longer one is a slice of it.
    pub body: Bytes,
}

/// Leaves room for a header at the end of `out`. Returns where the header starts, for [`close`].
pub fn open(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    start
}

/// Makes the bytes after `start` in `out` the body of a frame.
pub fn close(out: &mut [u8], start: usize, kind: Kind, durable: Sequence) {
    let (header, body) = out[start..].split_at_mut(HEADER_BYTES);
    let length = u32::try_from(body.len()).expect("bodies are bounded far below 4 GiB");
    let mut fields = Header {
        magic: MAGIC,
        version: VERSION,
        kind: kind as u8,
        check: U16::new(0),
        durable: U64::new(durable.0),
        length: U32::new(length),
        crc: U32::new(0),
    };
    fields.check = U16::new(fields.proof());
    fields.crc = U32::new(checksum(fields.as_bytes(), body));
    header.copy_from_slice(fields.as_bytes());
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..CHECKED_BYTES]), body)
}

/// Divides a stream of bytes into frames.
///
/// `space` gives the place to read into, `filled` says how many bytes were read, `next` gives the
/// frames that are complete. After an error the rest of the stream has no meaning.
pub struct Decoder {
    /// All of it is initialised, so that a read can fill it. Of its bytes, `start` to `filled` have arrived and were
    /// not handed out.
    buffer: BytesMut,
    start: usize,
    filled: usize,
    /// The bytes that were allocated for `buffer`: a slice of it keeps them alive.
    allocated: usize,
    /// The longest body that is accepted.
    body_bytes_max: usize,
}

impl Decoder {
    /// Accepts bodies of up to `body_bytes_max` bytes.
    pub fn new(body_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), start: 0, filled: 0, allocated: 0, body_bytes_max }
    }

    /// Accepts bodies of up to `body_bytes_max` bytes from now on: more than before the handshake.
    pub fn set_body_bytes_max(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max;
    }

    /// The place for the next bytes of the stream. It is never empty.
    pub fn space(&mut self) -> &mut [u8] {
        let rest = self.start..self.filled;
        // Doubling the size bounds both the copies and the memory that a peer can claim.
        let wanted = READ_BYTES.max(2 * rest.len());
        // A long frame leaves a large buffer, which the connection does not keep.
        if self.buffer.len() - self.filled < READ_BYTES_MIN || self.buffer.len() > 4 * wanted {
            self.make_space(rest, wanted);
        }
        &mut self.buffer[self.filled..]
    }

    /// Moves the start of the next frame to the front: of the same buffer if that is large enough and not much
    /// larger, else of a new one.
    fn make_space(&mut self, rest: Range<usize>, wanted: usize) {
        if (wanted..=2 * wanted).contains(&self.buffer.len()) {
            self.buffer.copy_within(rest.clone(), 0);
        } else {
            let mut next = BytesMut::zeroed(wanted);
            next[..rest.len()].copy_from_slice(&self.buffer[rest.clone()]);
            (self.buffer, self.allocated) = (next, wanted);
        }
        (self.start, self.filled) = (0, rest.len());
    }

    /// `count` bytes were read into the front of `space`.
    pub fn filled(&mut self, count: usize) {
        self.filled += count;
        assert!(self.filled <= self.buffer.len(), "{count} bytes were read into less space");
    }

    /// The next complete frame.
    #[expect(clippy::should_implement_trait, reason = "an error and an end that may be no end")]
    pub fn next(&mut self) -> Result<Option<Frame>, Malformed> {
        let arrived = &self.buffer[self.start..self.filled];
        let Some(header) = arrived.get(..HEADER_BYTES) else { return Ok(None) };
        let header = *Header::ref_from_bytes(header).expect("any 24 bytes are a header");
        let length = header.length.get() as usize;
        let kind = check(&header, self.body_bytes_max)?;
        if arrived.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let mut frame = self.take(HEADER_BYTES + length);
        let body = frame.split_off(HEADER_BYTES);
        let is_sound = checksum(&frame, &body) == header.crc.get();
        purlin_rsm::sometimes!(!is_sound, "frame with a wrong checksum");
        ensure(is_sound, "a frame whose checksum is wrong")?;
        Ok(Some(Frame { kind, durable: Sequence(header.durable.get()), body }))
    }

    /// Takes `count` bytes that have arrived, as a slice of the buffer or as a copy. What is cached of a frame
    /// would else keep a whole read buffer alive.
    fn take(&mut self, count: usize) -> Bytes {
        if 2 * count < self.allocated {
            let copy = Bytes::copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            return copy;
        }
        let before = std::mem::take(&mut self.start);
        drop(self.buffer.split_to(before));
        self.filled -= before + count;
        self.buffer.split_to(count).freeze()
    }
}

/// One read takes at most this many bytes.
const READ_BYTES: usize = 128 << 10;
/// With less space than this left, a new buffer costs less than many small reads.
const READ_BYTES_MIN: usize = 16 << 10;

fn check(header: &Header, body_bytes_max: usize) -> Result<Kind, Malformed> {
    ensure(header.magic == MAGIC, "no frame: this is not Purlin's peer protocol")?;
    ensure(header.version == VERSION, "a frame layout of another version")?;
    ensure(header.check.get() == header.proof(), "a frame whose header is damaged")?;
    ensure(header.length.get() as usize <= body_bytes_max, "a frame longer than is allowed")?;
    Kind::parse(header.kind)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn frame(kind: Kind, durable: u64, body: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let start = open(&mut out);
        out.extend_from_slice(body);
        close(&mut out, start, kind, Sequence(durable));
        out.split_off(start)
    }

    /// Feeds `pieces` and collects frames until the end or an error.
    pub(crate) fn decode<'a>(
        max: usize,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Frame>, Malformed> {
        let mut decoder = Decoder::new(max);
        let mut frames = Vec::new();
        for mut piece in pieces {
            while !piece.is_empty() {
                let space = decoder.space();
                let count = space.len().min(piece.len());
                space[..count].copy_from_slice(&piece[..count]);
                decoder.filled(count);
                piece = &piece[count..];
                while let Some(frame) = decoder.next()? {
                    frames.push(frame);
                }
            }
        }
        Ok(frames)
    }

    #[test]
    fn a_stream_split_at_every_byte_gives_the_same_frames() {
        let mut stream = frame(Kind::Messages, 7, b"one");
        stream.extend(frame(Kind::Heartbeat, 8, b""));
        stream.extend(frame(Kind::Forward, u64::MAX, &[9; 300]));
        let whole = decode(1024, [&stream[..]]).unwrap();
        assert_eq!(whole.len(), 3);
        assert_eq!((whole[0].kind, whole[0].durable), (Kind::Messages, Sequence(7)));
        assert_eq!(&whole[2].body[..], [9; 300]);
        for at in 0..stream.len() {
            assert_eq!(decode(1024, [&stream[..at], &stream[at..]]).unwrap(), whole, "at {at}");
        }
        assert_eq!(decode(1024, stream.chunks(1)).unwrap(), whole);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = frame(Kind::Messages, 7, b"some body");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // The error must come at once: a reader that believes the length may wait for bytes
            // that never come.
            assert!(decode(1 << 20, [&bad[..]]).is_err(), "bit {bit}");
        }
    }

    /// Computes the checksums of a changed header anew.
    fn prove(frame: &mut [u8]) {
        let header = Header::mut_from_bytes(&mut frame[..HEADER_BYTES]).expect("any 24 bytes");
        header.check = U16::new(header.proof());
    }

    #[test]
    fn a_huge_length_is_refused_before_anything_is_allocated() {
        let mut bad = frame(Kind::Messages, 0, b"");
        bad[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        prove(&mut bad);
        assert_eq!(
            decode(16 << 20, [&bad[..]]),
            Err(Malformed { what: "a frame longer than is allowed" })
        );
        assert!(decode(8, [&frame(Kind::Messages, 0, &[0; 8])[..]]).is_ok());
        assert!(decode(7, [&frame(Kind::Messages, 0, &[0; 8])[..]]).is_err());
    }

    #[test]
    fn a_claimed_length_allocates_only_as_bytes_arrive() {
        let mut head = frame(Kind::Messages, 0, b"");
        head[16..20].copy_from_slice(&(16u32 << 20).to_le_bytes());
        prove(&mut head);
        let mut decoder = Decoder::new(16 << 20);
        decoder.space()[..HEADER_BYTES].copy_from_slice(&head);
        decoder.filled(HEADER_BYTES);
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.space().len() <= READ_BYTES);
    }

    /// Whatever is kept of a frame keeps at most twice the frame in memory.
    #[test]
    fn a_frame_keeps_no_read_buffer_alive_that_is_twice_as_long() {
        let lengths = [0, 16, 1000, READ_BYTES / 3, READ_BYTES, 3 * READ_BYTES, 16, 9 << 20, 16];
        let mut stream = Vec::new();
        lengths
            .iter()
            .for_each(|length| stream.extend(frame(Kind::Messages, 1, &vec![7; *length])));
        let mut decoder = Decoder::new(16 << 20);
        let (mut rest, mut found) = (&stream[..], Vec::new());
        while !rest.is_empty() {
            let count = decoder.space().len().min(rest.len());
            decoder.space()[..count].copy_from_slice(&rest[..count]);
            decoder.filled(count);
            rest = &rest[count..];
            let buffer = decoder.buffer.as_ptr_range();
            let (first, end) = (buffer.start as usize, buffer.end as usize);
            let allocated = decoder.allocated;
            while let Some(frame) = decoder.next().expect("sound frames") {
                let at = frame.body.as_ptr() as usize;
                let is_slice = (first..end).contains(&at);
                let pinned = if is_slice { allocated } else { HEADER_BYTES + frame.body.len() };
                let length = frame.body.len();
                assert!(pinned <= 2 * (HEADER_BYTES + length), "{pinned} bytes for {length}");
                found.push(length);
            }
        }
        assert_eq!(found, lengths);
        assert!(decoder.space().len() <= 4 * READ_BYTES, "the connection keeps a small buffer");
    }

    #[test]
    fn long_frames_pass_through_a_growing_buffer() {
        let body: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
        let mut stream = frame(Kind::Messages, 1, &body);
        stream.extend(frame(Kind::Messages, 2, b"next"));
        let frames = decode(4 << 20, stream.chunks(1000)).unwrap();
        assert_eq!(frames[0].body, body);
        assert_eq!(&frames[1].body[..], b"next");
    }

    #[test]
    fn bytes_of_another_protocol_are_refused_at_the_first_header() {
        for garbage in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n"[..], &[0; 24], &[0xff; 64]] {
            assert!(decode(1024, [garbage]).is_err());
        }
        let mut other = frame(Kind::Messages, 0, b"");
        other[4] = 1;
        assert_eq!(
            decode(8, [&other[..]]),
            Err(Malformed { what: "a frame layout of another version" })
        );
    }

    #[test]
    fn an_unknown_kind_is_refused_even_with_a_good_checksum() {
        let mut bad = frame(Kind::Messages, 0, b"x");
        bad[5] = 77;
        prove(&mut bad);
        let crc = checksum(&bad[..HEADER_BYTES], b"x");
        bad[20..24].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(8, [&bad[..]]), Err(Malformed { what: "a frame of an unknown kind" }));
    }
}
