//! The processor: checksums, copies, and the smallest parts of a write, each alone on one core.

use std::collections::HashMap;
use std::hint::black_box;

use serde::{Deserialize, Serialize};

use super::sample::{Bounds, nanos_a_call};

/// Bytes that are summed.
pub const CRC_SIZES: [usize; 3] = [64, 4 << 10, 64 << 10];
/// Bytes that are copied. The last size is larger than most caches of one core.
pub const COPY_SIZES: [usize; 3] = [64, 4 << 10, 8 << 20];
/// Keys of the map: as many as the loads of docs/bench.md have.
const KEYS: usize = 100_000;

/// What one core can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CpuLimits {
    /// The shortest system call, in nanoseconds.
    pub syscall_nanos: f64,
    /// CRC32C.
    pub crc32c: Vec<ByteCell>,
    /// Copies within memory.
    pub memcpy: Vec<ByteCell>,
    /// Parsing one SET of the Redis protocol, in nanoseconds.
    pub resp_parse_nanos: f64,
    /// Replacing one value of 100,000 in a hash map, in nanoseconds.
    pub map_set_nanos: f64,
}

/// Work over so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ByteCell {
    /// Bytes of one call.
    pub bytes: usize,
    /// Nanoseconds of one call.
    pub nanos: f64,
}

impl ByteCell {
    /// Bytes a nanosecond are gigabytes a second.
    pub fn gigabytes_per_second(&self) -> f64 {
        if self.nanos > 0.0 { self.bytes as f64 / self.nanos } else { 0.0 }
    }
}

/// How many cells there are.
pub const CELLS: usize = 3 + CRC_SIZES.len() + COPY_SIZES.len();

/// Measures all cells, for values of this many bytes.
pub fn measure(value_bytes: usize, bounds: Bounds<'_>) -> CpuLimits {
    CpuLimits {
        syscall_nanos: nanos_a_call(bounds, 1_000, || {
            black_box(rustix::process::getppid());
        }),
        crc32c: CRC_SIZES.map(|bytes| crc(bytes, bounds)).to_vec(),
        memcpy: COPY_SIZES.map(|bytes| copy(bytes, bounds)).to_vec(),
        resp_parse_nanos: parse(value_bytes, bounds),
        map_set_nanos: map_set(value_bytes, bounds),
    }
}

/// Calls of one round: about a mebibyte of work, so that looking at the clock does not count.
fn calls(bytes: usize) -> u32 {
    ((1 << 20) / bytes).max(1) as u32
}

fn crc(bytes: usize, bounds: Bounds<'_>) -> ByteCell {
    let block = vec![0x5a; bytes];
    let nanos = nanos_a_call(bounds, calls(bytes), || {
        black_box(crc32c::crc32c(black_box(&block)));
    });
    ByteCell { bytes, nanos }
}

fn copy(bytes: usize, bounds: Bounds<'_>) -> ByteCell {
    let (from, mut to) = (vec![0x5a_u8; bytes], vec![0_u8; bytes]);
    let nanos = nanos_a_call(bounds, calls(bytes), || {
        black_box(to.as_mut_slice()).copy_from_slice(black_box(&from));
    });
    ByteCell { bytes, nanos }
}

fn parse(value_bytes: usize, bounds: Bounds<'_>) -> f64 {
    let request = format!(
        "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n${value_bytes}\r\n{}\r\n",
        "x".repeat(value_bytes)
    );
    assert!(parse_set(request.as_bytes()).is_some(), "the request is what the parser reads");
    nanos_a_call(bounds, 1_000, || {
        black_box(parse_set(black_box(request.as_bytes())));
    })
}

/// Key and value of one whole SET: the least that any server does.
fn parse_set(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(b"*3\r\n")?;
    let (name, rest) = bulk(rest)?;
    let (key, rest) = bulk(rest)?;
    let (value, _) = bulk(rest)?;
    name.eq_ignore_ascii_case(b"SET").then_some((key, value))
}

/// A string like `$3\r\nSET\r\n`, and what follows it.
fn bulk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0;
    for (at, &byte) in bytes.strip_prefix(b"$")?.iter().enumerate() {
        match byte {
            b'0'..=b'9' if at < 9 => length = length * 10 + usize::from(byte - b'0'),
            b'\r' => {
                let body = bytes[at + 1..].strip_prefix(b"\r\n")?;
                let (bulk, rest) = body.split_at_checked(length)?;
                return Some((bulk, rest.strip_prefix(b"\r\n")?));
            }
            _ => return None,
        }
    }
    None
}

fn map_set(value_bytes: usize, bounds: Bounds<'_>) -> f64 {
    let keys: Vec<_> = (0..KEYS).map(|number| format!("key:{number:012}").into_bytes()).collect();
    let value = vec![0x5a_u8; value_bytes];
    let mut map: HashMap<&[u8], Vec<u8>> =
        keys.iter().map(|key| (key.as_slice(), value.clone())).collect();
    let mut at = 0;
    nanos_a_call(bounds, 1_000, || {
        // A step that has no divisor in common with the number of keys visits all of them, out of order.
        at = (at + 61_803) % KEYS;
        let old = map.get_mut(black_box(keys[at].as_slice())).expect("all keys are there");
        old.copy_from_slice(black_box(&value));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_set_is_parsed_and_a_part_of_it_is_not() {
        let request = b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$5\r\nvalue\r\n";
        assert_eq!(parse_set(request), Some((&b"k"[..], &b"value"[..])));
        assert!((0..request.len()).all(|cut| parse_set(&request[..cut]).is_none()));
        assert_eq!(parse_set(b"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$0\r\n\r\n"), None);
    }

    #[test]
    fn bytes_a_nanosecond_are_gigabytes_a_second() {
        assert_eq!(ByteCell { bytes: 4096, nanos: 1024.0 }.gigabytes_per_second(), 4.0);
        assert_eq!(ByteCell { bytes: 4096, nanos: 0.0 }.gigabytes_per_second(), 0.0);
    }
}
