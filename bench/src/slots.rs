//! The hash slot of a key, and sets of slots.
//!
//! The rule is that of the Redis Cluster specification: `slot = CRC16(key) mod 16384`, with the
//! CRC16 of XMODEM (polynomial 0x1021, start 0, nothing reflected). If the key holds a `{` and,
//! somewhere after it, a `}` with at least one byte between them, only those bytes are hashed.
//!
//! This module does not know groups. Group g of G owns the slots `[(g-1)*16384/G, g*16384/G)`; a
//! user who wants the keys of some groups passes these slots.

use std::str::FromStr;

/// How many slots there are.
pub const SLOTS: u16 = 16_384;

/// The slot of `key`.
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hashed_part(key)) % SLOTS
}

/// The bytes between the first `{` and the first `}` after it, when there are any; else the whole key.
fn hashed_part(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let tail = &key[open + 1..];
    match tail.iter().position(|&byte| byte == b'}') {
        Some(length) if length > 0 => &tail[..length],
        _ => key,
    }
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = remainder((byte as u16) << 8);
        byte += 1;
    }
    table
}

const fn remainder(mut crc: u16) -> u16 {
    let mut bit = 0;
    while bit < 8 {
        crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        bit += 1;
    }
    crc
}

/// A set of slots, written `0-5460,10923` (both ends belong to a range, as in `CLUSTER NODES`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRanges {
    /// Inclusive ranges within `0..16384`, at least one, each with its start at or before its end.
    ranges: Vec<(u16, u16)>,
}

impl SlotRanges {
    /// Whether `slot` is in the set.
    pub fn contains(&self, slot: u16) -> bool {
        self.ranges.iter().any(|&(first, last)| (first..=last).contains(&slot))
    }
}

impl FromStr for SlotRanges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ranges = text.split(',').map(range).collect::<Result<_, _>>()?;
        Ok(Self { ranges })
    }
}

impl std::fmt::Display for SlotRanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{first}-{last}")?;
        }
        Ok(())
    }
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (slot(first)?, slot(last)?);
    if first > last {
        return Err(format!("the range {text} ends before it starts"));
    }
    Ok((first, last))
}

fn slot(text: &str) -> Result<u16, String> {
    match text.trim().parse() {
        Ok(slot) if slot < SLOTS => Ok(slot),
        _ => Err(format!("`{text}` is no slot: slots are 0 to 16383, written as in 0-5460,10923")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the specification, and slots as a Redis server gives them.
    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"somekey"), 11_058);
        assert_eq!(slot_of(b"foo{hash_tag}"), 2_515);
    }

    #[test]
    fn only_a_closed_and_filled_tag_counts() {
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(hashed_part(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hashed_part(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hashed_part(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hashed_part(b"foo{bar"), b"foo{bar");
    }

    #[test]
    fn ranges_hold_both_their_ends() {
        let ranges: SlotRanges = "0-2,9".parse().unwrap();
        let inside: Vec<u16> = (0..12).filter(|&slot| ranges.contains(slot)).collect();
        assert_eq!(inside, [0, 1, 2, 9]);
        assert_eq!(ranges.to_string(), "0-2,9-9");
    }

    #[test]
    fn a_text_that_is_no_set_of_slots_is_refused() {
        for text in ["", "5-", "16384", "9-3", "a-b", "1,,2", "-1"] {
            assert!(text.parse::<SlotRanges>().is_err(), "{text}");
        }
    }
}
