//! How commands, queries and outcomes are laid out: numbers and byte strings.
//!
//! ```text
//! number   LEB128, at most 32 bits, in its shortest form
//! string   number of bytes | bytes
//! strings  number of strings | string ...
//! ```
//!
//! The bytes come from a log, and a peer may have written them: reading them never panics and never
//! allocates.

use thiserror::Error;

/// The bytes are no command, query or outcome that this version knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("not a key-value command, query or outcome that this version knows")]
pub struct Malformed;

/// Bytes yet to be read.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(first)
    }

    pub(super) fn number(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // Each number has one encoding. A second, longer one would make two different commands
                // with one meaning.
                let is_shortest = byte != 0 || shift == 0;
                return u32::try_from(value).ok().filter(|_| is_shortest).ok_or(Malformed);
            }
        }
        Err(Malformed)
    }

    pub(super) fn short(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into().expect("two bytes were taken")))
    }

    pub(super) fn integer(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes were taken")))
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.number()? as usize;
        self.take(len)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// All bytes must have been read.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_number`] appends.
pub(super) fn number_size(value: u32) -> usize {
    (u32::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// How many bytes [`put_string`] appends.
pub(super) fn string_size(string: &[u8]) -> usize {
    number_size(string.len() as u32) + string.len()
}

pub(super) fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    let len = u32::try_from(string.len()).expect("a string below 4 GiB: limits are far lower");
    put_number(out, len);
    out.extend_from_slice(string);
}

/// Byte strings that lie one behind the other in encoded form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strings<'a> {
    count: u32,
    /// Invariant: exactly `count` strings.
    encoded: &'a [u8],
}

impl<'a> Strings<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut input = Input(self.encoded);
        (0..self.count).map(move |_| input.string().expect("checked when it was made"))
    }

    /// Reads and checks strings up to the end of `input`.
    pub(super) fn read(input: &mut Input<'a>) -> Result<Self, Malformed> {
        let count = input.number()?;
        let encoded = input.0;
        for _ in 0..count {
            input.string()?;
        }
        input.end()?;
        Ok(Self { count, encoded })
    }

    /// How many bytes [`Strings::put`] appends.
    pub(super) fn size(&self) -> usize {
        number_size(self.count) + self.encoded.len()
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.count);
        out.extend_from_slice(self.encoded);
    }
}

/// Collects byte strings, to be lent as [`Strings`].
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct StringsBuf {
    count: u32,
    encoded: Vec<u8>,
}

impl StringsBuf {
    /// Adds a string.
    pub fn push(&mut self, string: &[u8]) {
        put_string(&mut self.encoded, string);
        self.count += 1;
    }

    /// The strings pushed so far.
    pub fn strings(&self) -> Strings<'_> {
        Strings { count: self.count, encoded: &self.encoded }
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for StringsBuf {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut buffer = Self::default();
        for string in strings {
            buffer.push(string.as_ref());
        }
        buffer
    }
}
