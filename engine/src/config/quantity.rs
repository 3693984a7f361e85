//! Sizes and times as people write them: `"64MiB"`, `"10ms"`, `"500ms..1s"`. A bare number is refused,
//! since nobody could tell what it counts.

use std::{fmt, ops::Range, time::Duration};

/// A size in bytes, written as a whole number and `B`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

/// A time, written as a whole number and `us`, `ms`, `s` or `min`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Period(pub Duration);

/// The units of a quantity, the largest first.
type Units = &'static [(&'static str, u64)];

const BYTES: Units = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const MICROSECONDS: Units = &[("min", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

impl ByteSize {
    /// Reads a size; nothing when `text` is none, or more than 2^64 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text, BYTES).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, BYTES)
    }
}

impl Period {
    /// Reads a time; nothing when `text` is none.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text, MICROSECONDS).map(|micros| Self(Duration::from_micros(micros)))
    }

    /// Reads a range such as `500ms..1s`.
    pub fn parse_range(text: &str) -> Option<Range<Duration>> {
        let (start, end) = text.split_once("..")?;
        Some(Self::parse(start)?.0..Self::parse(end)?.0)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        write(f, micros, MICROSECONDS)
    }
}

fn parse(text: &str, units: Units) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// In the largest unit that leaves a whole number.
fn write(f: &mut fmt::Formatter<'_>, amount: u64, units: Units) -> fmt::Result {
    let fits = |scale: u64| amount.is_multiple_of(scale) && (amount != 0 || scale == 1);
    let (unit, scale) = units.iter().find(|(_, scale)| fits(*scale)).expect("one unit is 1");
    write!(f, "{}{unit}", amount / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_alike() {
        for text in ["0B", "1B", "4095B", "4KiB", "64MiB", "3GiB", "1025KiB"] {
            assert_eq!(ByteSize::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(ByteSize::parse("1024KiB"), Some(ByteSize(1 << 20)));
    }

    #[test]
    fn a_text_that_is_no_size_is_refused() {
        for text in ["", "64", "MiB", "64MB", "64mib", "-1B", "1.5MiB", "64 MiB", "1MiB "] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
        assert_eq!(ByteSize::parse("17179869184GiB"), None, "2^64 bytes");
        assert_eq!(ByteSize::parse("99999999999999999999B"), None);
    }

    #[test]
    fn times_are_read_and_written_alike() {
        for text in ["0us", "5us", "10ms", "1500ms", "1s", "2min"] {
            assert_eq!(Period::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Period::parse("1000ms"), Some(Period(Duration::from_secs(1))));
        for text in ["", "10", "10m", "1h", "s", "1 s", "-1s"] {
            assert_eq!(Period::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_range_has_two_ends() {
        let range = Period::parse_range("500ms..1s").expect("a range");
        assert_eq!(range, Duration::from_millis(500)..Duration::from_secs(1));
        for text in ["500ms", "500ms..", "..1s", "500ms...1s", "1..2s"] {
            assert_eq!(Period::parse_range(text), None, "{text}");
        }
    }
}
