//! Outcomes of the key-value machine, and their bytes.
//!
//! ```text
//! 0                   nil
//! 1                   ok
//! 2 | 8 bytes         integer, little endian
//! 3 | bytes           bytes, up to the end
//! 4 | number | item.. array of that many items: number 0 is nil, else length + 1, then the bytes
//! 5 | bytes           error text, up to the end, in the form of Redis ("ERR ...")
//! ```

use super::wire::{Input, Malformed, put_number};
use bytes::Bytes;

const NIL: u8 = 0;
const OK: u8 = 1;
const INTEGER: u8 = 2;
const BYTES: u8 = 3;
const ARRAY: u8 = 4;
const ERROR: u8 = 5;

/// The outcome of a command, or of a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KvOutcome<'a> {
    /// There is no value.
    Nil,
    /// The command was applied.
    Ok,
    /// A number.
    Integer(i64),
    /// A value.
    Bytes(&'a [u8]),
    /// Values, in the order of the keys asked for.
    Array(KvValues<'a>),
    /// Nothing was changed. The text begins with Redis' error word.
    Error(&'a [u8]),
}

/// Several values, or nil where there was none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KvValues<'a> {
    count: u32,
    /// Invariant: exactly `count` items.
    encoded: &'a [u8],
}

impl<'a> KvOutcome<'a> {
    /// The outcome that `bytes` hold.
    ///
    /// # Errors
    ///
    /// They hold no outcome that this version knows.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = Input(bytes);
        let outcome = match input.byte()? {
            NIL => Self::Nil,
            OK => Self::Ok,
            INTEGER => Self::Integer(input.integer()?),
            BYTES => return Ok(Self::Bytes(input.0)),
            ERROR => return Ok(Self::Error(input.0)),
            ARRAY => return Ok(Self::Array(KvValues::read(&mut input)?)),
            _ => return Err(Malformed),
        };
        input.end()?;
        Ok(outcome)
    }

    /// The outcome as bytes.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Nil => Bytes::from_static(&[NIL]),
            Self::Ok => Bytes::from_static(&[OK]),
            Self::Integer(value) => {
                let mut bytes = [INTEGER; 9];
                bytes[1..].copy_from_slice(&value.to_le_bytes());
                Bytes::copy_from_slice(&bytes)
            }
            Self::Bytes(value) => tagged(BYTES, value),
            Self::Error(text) => tagged(ERROR, text),
            Self::Array(values) => {
                let mut bytes = vec![ARRAY];
                put_number(&mut bytes, values.count);
                bytes.extend_from_slice(values.encoded);
                bytes.into()
            }
        }
    }
}

impl<'a> KvValues<'a> {
    /// How many there are, nils included.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values, in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut input = Input(self.encoded);
        (0..self.count).map(move |_| Self::item(&mut input).expect("checked when it was made"))
    }

    fn read(input: &mut Input<'a>) -> Result<Self, Malformed> {
        let count = input.number()?;
        let encoded = input.0;
        for _ in 0..count {
            Self::item(input)?;
        }
        input.end()?;
        Ok(Self { count, encoded })
    }

    fn item(input: &mut Input<'a>) -> Result<Option<&'a [u8]>, Malformed> {
        match input.number()? {
            0 => Ok(None),
            len => input.take(len as usize - 1).map(Some),
        }
    }
}

/// Collects values, to be lent as [`KvValues`].
#[derive(Default)]
pub(super) struct ValuesBuf {
    count: u32,
    encoded: Vec<u8>,
}

impl ValuesBuf {
    pub(super) fn push(&mut self, value: Option<&[u8]>) {
        self.count += 1;
        let Some(value) = value else { return self.encoded.push(0) };
        put_number(&mut self.encoded, value.len() as u32 + 1);
        self.encoded.extend_from_slice(value);
    }

    pub(super) fn bytes(&self) -> usize {
        self.encoded.len()
    }

    pub(super) fn values(&self) -> KvValues<'_> {
        KvValues { count: self.count, encoded: &self.encoded }
    }
}

fn tagged(tag: u8, body: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + body.len());
    bytes.push(tag);
    bytes.extend_from_slice(body);
    bytes.into()
}
