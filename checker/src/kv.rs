//! The model of the key-value store: one value for each key, one operation at a time.

use super::model::Model;
use bytes::Bytes;

/// An operation on one key, as Redis knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// `GET`: [`Reply::Value`].
    Get,
    /// `EXISTS`: [`Reply::Number`].
    Exists,
    /// `STRLEN`: [`Reply::Number`].
    Length,
    /// `SET`: [`Reply::Done`].
    Set(Bytes),
    /// `SET NX`: [`Reply::Done`] or [`Reply::Refused`].
    SetIfAbsent(Bytes),
    /// `SET XX`: [`Reply::Done`] or [`Reply::Refused`].
    SetIfPresent(Bytes),
    /// `SET IFEQ`: [`Reply::Done`] or [`Reply::Refused`].
    SetIfEqual {
        /// What the value must be.
        expected: Bytes,
        /// What it becomes.
        value: Bytes,
    },
    /// `SET GET`: [`Reply::Value`], the one before.
    Swap(Bytes),
    /// `APPEND`: [`Reply::Number`], the length after.
    Append(Bytes),
    /// `INCRBY`: [`Reply::Number`], [`Reply::NotANumber`] or [`Reply::OutOfRange`].
    Increment(i64),
    /// `DEL`: [`Reply::Number`], how many there were.
    Delete,
}

impl Op {
    /// Whether it never changes anything.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get | Self::Exists | Self::Length)
    }
}

/// What an operation answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A value, or none.
    Value(Option<Bytes>),
    /// It was done (`OK`).
    Done,
    /// Its condition did not hold (nil).
    Refused,
    /// A number.
    Number(i64),
    /// An error: the value is no integer.
    NotANumber,
    /// An error: the sum would overflow.
    OutOfRange,
}

/// What one key of the store does, as Redis defines it.
pub struct KvModel;

impl Model for KvModel {
    type Input = Op;
    type Output = Reply;
    type State = Option<Bytes>;

    fn initial(&self) -> Option<Bytes> {
        None
    }

    fn step(&self, state: &Option<Bytes>, input: &Op) -> (Option<Bytes>, Reply) {
        let set = |value: &Bytes, when: bool| match when {
            true => (Some(value.clone()), Reply::Done),
            false => (state.clone(), Reply::Refused),
        };
        match input {
            Op::Get => (state.clone(), Reply::Value(state.clone())),
            Op::Exists => (state.clone(), Reply::Number(state.is_some().into())),
            Op::Length => (state.clone(), Reply::Number(length(state))),
            Op::Set(value) => set(value, true),
            Op::SetIfAbsent(value) => set(value, state.is_none()),
            Op::SetIfPresent(value) => set(value, state.is_some()),
            Op::SetIfEqual { expected, value } => set(value, state.as_ref() == Some(expected)),
            Op::Swap(value) => (Some(value.clone()), Reply::Value(state.clone())),
            Op::Append(tail) => append(state, tail),
            Op::Increment(by) => increment(state, *by),
            Op::Delete => (None, Reply::Number(state.is_some().into())),
        }
    }
}

fn length(state: &Option<Bytes>) -> i64 {
    state.as_ref().map_or(0, |value| value.len() as i64)
}

fn append(state: &Option<Bytes>, tail: &Bytes) -> (Option<Bytes>, Reply) {
    let mut value = state.as_ref().map(|value| value.to_vec()).unwrap_or_default();
    value.extend_from_slice(tail);
    let value = Some(Bytes::from(value));
    let reply = Reply::Number(length(&value));
    (value, reply)
}

fn increment(state: &Option<Bytes>, by: i64) -> (Option<Bytes>, Reply) {
    let number = match state {
        None => Some(0),
        Some(text) => integer(text),
    };
    let Some(number) = number else { return (state.clone(), Reply::NotANumber) };
    match number.checked_add(by) {
        Some(sum) => (Some(Bytes::from(sum.to_string())), Reply::Number(sum)),
        None => (state.clone(), Reply::OutOfRange),
    }
}

/// The integer that `text` is, written in the one way that Redis accepts.
fn integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
