//! Commands and queries of the key-value machine, and their bytes.
//!
//! ```text
//! version 1 | kind | body
//!
//! commands  1 set       flags | key | value | old value, with IFEQ
//!           2 append    key | value
//!           3 delete    strings
//!           4 add       key | delta, 8 bytes little endian
//!           5 set many  strings: key, value, key, value ...
//! queries   65 get      key
//!           66 length   key
//!           67 exist    strings
//!           68 get many strings
//!           70 count
//!           71 count in a slot    slot, 2 bytes little endian
//!           72 keys in a slot     slot, and the most keys, 2 bytes little endian each
//! ```
//!
//! Keys and values are strings of `wire`. Decoding borrows the bytes and copies nothing. Bytes that
//! are not exactly one command are malformed, and every replica judges so.

use super::wire::{Input, Malformed, Strings, put_string, string_size};
use bytes::Bytes;

const VERSION: u8 = 1;

/// Version and kind.
const HEAD: usize = 2;

const SET: u8 = 1;
const APPEND: u8 = 2;
const DELETE: u8 = 3;
const ADD: u8 = 4;
const SET_MANY: u8 = 5;

const GET: u8 = 65;
const LENGTH: u8 = 66;
const EXIST: u8 = 67;
const GET_MANY: u8 = 68;
const COUNT: u8 = 70;
const COUNT_IN_SLOT: u8 = 71;
const KEYS_IN_SLOT: u8 = 72;

/// A command changes the machine. It goes through the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KvCommand<'a> {
    /// `SET`. The outcome is ok, or nil when the condition did not hold; with `get` it is the old
    /// value or nil, whether or not it was replaced.
    Set {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
        /// When to set it.
        condition: SetCondition<'a>,
        /// Whether to answer the old value.
        get: bool,
    },
    /// `APPEND`. The outcome is the new length.
    Append {
        /// The key; one that is absent counts as empty.
        key: &'a [u8],
        /// What is put behind its value.
        value: &'a [u8],
    },
    /// `DEL`. The outcome is the number of keys that were present.
    Delete {
        /// The keys.
        keys: Strings<'a>,
    },
    /// `INCRBY`, and by a negative number `DECRBY`. The outcome is the new number.
    Add {
        /// The key; one that is absent counts as 0.
        key: &'a [u8],
        /// What is added.
        delta: i64,
    },
    /// `MSET`. The outcome is ok.
    SetMany {
        /// Keys and values in turn.
        pairs: Strings<'a>,
    },
}

/// When `SET` sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetCondition<'a> {
    /// In any case.
    Always,
    /// `NX`: when the key is absent.
    Absent,
    /// `XX`: when the key is present.
    Present,
    /// `IFEQ`: when the key is present and this is its value.
    Equal(&'a [u8]),
}

impl SetCondition<'_> {
    /// Whether it holds for a key that has this value, or none.
    pub(crate) fn holds(self, old: Option<&[u8]>) -> bool {
        match self {
            Self::Always => true,
            Self::Absent => old.is_none(),
            Self::Present => old.is_some(),
            Self::Equal(expected) => old == Some(expected),
        }
    }
}

/// A query changes nothing. It does not go through the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KvQuery<'a> {
    /// `GET`: the value, or nil.
    Get {
        /// The key.
        key: &'a [u8],
    },
    /// `STRLEN`: the length of the value, 0 when there is none.
    Length {
        /// The key.
        key: &'a [u8],
    },
    /// `EXISTS`: how many of the keys are present; a key that is named twice counts twice.
    Exist {
        /// The keys.
        keys: Strings<'a>,
    },
    /// `MGET`: an array of the values, with nil for a key that is absent.
    GetMany {
        /// The keys.
        keys: Strings<'a>,
    },
    /// `DBSIZE`: how many keys there are.
    Count,
    /// `CLUSTER COUNTKEYSINSLOT`: how many keys of a hash slot there are.
    CountInSlot {
        /// The slot.
        slot: u16,
    },
    /// `CLUSTER GETKEYSINSLOT`: an array of keys of a hash slot, [`KEYS_BYTES_MAX`](crate::KEYS_BYTES_MAX) at most.
    KeysInSlot {
        /// The slot.
        slot: u16,
        /// The most keys.
        most: u16,
    },
}

/// Whether the outcome of a command holds a value, and so may be as long as one: `SET` with `GET` alone. Bytes that are no
/// command have a short outcome.
pub fn answers_a_value(command: &[u8]) -> bool {
    matches!(command, [VERSION, SET, flags, ..] if flags & FLAG_GET != 0)
}

impl<'a> KvCommand<'a> {
    /// Its first key; empty where there is none.
    pub(crate) fn first_key(&self) -> &'a [u8] {
        match *self {
            Self::Set { key, .. } | Self::Append { key, .. } | Self::Add { key, .. } => key,
            Self::Delete { keys: strings } | Self::SetMany { pairs: strings } => {
                strings.iter().next().unwrap_or_default()
            }
        }
    }

    /// The command as bytes to propose.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.size());
        out.push(VERSION);
        match *self {
            Self::Set { key, value, condition, get } => {
                out.extend_from_slice(&[SET, flags(condition, get)]);
                put_string(&mut out, key);
                put_string(&mut out, value);
                if let SetCondition::Equal(old) = condition {
                    put_string(&mut out, old);
                }
            }
            Self::Append { key, value } => {
                out.push(APPEND);
                put_string(&mut out, key);
                put_string(&mut out, value);
            }
            Self::Delete { keys } => {
                out.push(DELETE);
                keys.put(&mut out);
            }
            Self::Add { key, delta } => {
                out.push(ADD);
                put_string(&mut out, key);
                out.extend_from_slice(&delta.to_le_bytes());
            }
            Self::SetMany { pairs } => {
                assert!(pairs.len() % 2 == 0, "{} strings are no pairs", pairs.len());
                out.push(SET_MANY);
                pairs.put(&mut out);
            }
        }
        debug_assert_eq!(out.len(), self.size(), "{self:?}");
        out.into()
    }

    /// The command that `bytes` hold.
    ///
    /// # Errors
    ///
    /// They do not hold exactly one command of a version that this code knows.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = versioned(bytes)?;
        let command = match input.byte()? {
            SET => Self::decode_set(&mut input)?,
            APPEND => Self::Append { key: input.string()?, value: input.string()? },
            DELETE => Self::Delete { keys: Strings::read(&mut input)? },
            ADD => Self::Add { key: input.string()?, delta: input.integer()? },
            SET_MANY => {
                let pairs = Strings::read(&mut input)?;
                if pairs.len() % 2 != 0 {
                    return Err(Malformed);
                }
                Self::SetMany { pairs }
            }
            _ => return Err(Malformed),
        };
        input.end()?;
        Ok(command)
    }

    fn decode_set(input: &mut Input<'a>) -> Result<Self, Malformed> {
        let flags = input.byte()?;
        let (key, value) = (input.string()?, input.string()?);
        let condition = match flags & !FLAG_GET {
            0 => SetCondition::Always,
            FLAG_ABSENT => SetCondition::Absent,
            FLAG_PRESENT => SetCondition::Present,
            FLAG_EQUAL => SetCondition::Equal(input.string()?),
            _ => return Err(Malformed),
        };
        Ok(Self::Set { key, value, condition, get: flags & FLAG_GET != 0 })
    }

    /// How many bytes the encoding takes: with more room, the bytes would need a second allocation.
    fn size(&self) -> usize {
        let body = match *self {
            Self::Set { key, value, condition, .. } => {
                let old = match condition {
                    SetCondition::Equal(old) => string_size(old),
                    _ => 0,
                };
                size_of::<u8>() + string_size(key) + string_size(value) + old
            }
            Self::Append { key, value } => string_size(key) + string_size(value),
            Self::Add { key, .. } => string_size(key) + size_of::<i64>(),
            Self::Delete { keys: strings } | Self::SetMany { pairs: strings } => strings.size(),
        };
        HEAD + body
    }
}

impl<'a> KvQuery<'a> {
    /// The query as bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.size());
        out.push(VERSION);
        match *self {
            Self::Get { key } => put_keyed(&mut out, GET, key),
            Self::Length { key } => put_keyed(&mut out, LENGTH, key),
            Self::Exist { keys } => {
                out.push(EXIST);
                keys.put(&mut out);
            }
            Self::GetMany { keys } => {
                out.push(GET_MANY);
                keys.put(&mut out);
            }
            Self::Count => out.push(COUNT),
            Self::CountInSlot { slot } => {
                out.push(COUNT_IN_SLOT);
                out.extend_from_slice(&slot.to_le_bytes());
            }
            Self::KeysInSlot { slot, most } => {
                out.push(KEYS_IN_SLOT);
                out.extend_from_slice(&slot.to_le_bytes());
                out.extend_from_slice(&most.to_le_bytes());
            }
        }
        debug_assert_eq!(out.len(), self.size(), "{self:?}");
        out.into()
    }

    /// How many bytes the encoding takes.
    fn size(&self) -> usize {
        let body = match *self {
            Self::Get { key } | Self::Length { key } => string_size(key),
            Self::Exist { keys } | Self::GetMany { keys } => keys.size(),
            Self::Count => 0,
            Self::CountInSlot { .. } => size_of::<u16>(),
            Self::KeysInSlot { .. } => 2 * size_of::<u16>(),
        };
        HEAD + body
    }

    /// The query that `bytes` hold.
    ///
    /// # Errors
    ///
    /// They do not hold exactly one query of a version that this code knows.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = versioned(bytes)?;
        let query = match input.byte()? {
            GET => Self::Get { key: input.string()? },
            LENGTH => Self::Length { key: input.string()? },
            EXIST => Self::Exist { keys: Strings::read(&mut input)? },
            GET_MANY => Self::GetMany { keys: Strings::read(&mut input)? },
            COUNT => Self::Count,
            COUNT_IN_SLOT => Self::CountInSlot { slot: input.short()? },
            KEYS_IN_SLOT => Self::KeysInSlot { slot: input.short()?, most: input.short()? },
            _ => return Err(Malformed),
        };
        input.end()?;
        Ok(query)
    }
}

const FLAG_ABSENT: u8 = 1;
const FLAG_PRESENT: u8 = 2;
const FLAG_EQUAL: u8 = 4;
const FLAG_GET: u8 = 8;

fn flags(condition: SetCondition<'_>, get: bool) -> u8 {
    let condition = match condition {
        SetCondition::Always => 0,
        SetCondition::Absent => FLAG_ABSENT,
        SetCondition::Present => FLAG_PRESENT,
        SetCondition::Equal(_) => FLAG_EQUAL,
    };
    if get { condition | FLAG_GET } else { condition }
}

fn versioned(bytes: &[u8]) -> Result<Input<'_>, Malformed> {
    let mut input = Input(bytes);
    if input.byte()? != VERSION {
        return Err(Malformed);
    }
    Ok(input)
}

fn put_keyed(out: &mut Vec<u8>, kind: u8, key: &[u8]) {
    out.push(kind);
    put_string(out, key);
}
