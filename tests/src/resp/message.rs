//! The forms of an operation: on the wire, in the log, and its reply.

use crate::{
    checker::history::Told,
    workload::{Op, Reply},
};
use bytes::Bytes;
use purlin_kv::{KvCommand, KvQuery, SetCondition, StringsBuf};
use purlin_server::resp::{Value, slot_of};

/// An operation as a client writes it, with its number in the history: no two writes are equal.
pub fn words(key: &Bytes, op: &Op, number: usize) -> Vec<Bytes> {
    let word = Bytes::from_static;
    let set = |value: &Bytes| vec![word(b"SET"), key.clone(), value.clone()];
    let set_if = |value: &Bytes, condition| [set(value), vec![word(condition)]].concat();
    match op {
        Op::Get => vec![word(b"GET"), key.clone()],
        Op::Exists => vec![word(b"EXISTS"), key.clone()],
        Op::Length => vec![word(b"STRLEN"), key.clone()],
        Op::Set(value) => set(value),
        Op::SetIfAbsent(value) => set_if(value, b"NX"),
        Op::SetIfPresent(value) => set_if(value, b"XX"),
        Op::SetIfEqual { expected, value } => {
            [set_if(value, b"IFEQ"), vec![expected.clone()]].concat()
        }
        Op::Swap(value) => set_if(value, b"GET"),
        Op::Append(value) => vec![word(b"APPEND"), key.clone(), value.clone()],
        Op::Increment(delta) => vec![word(b"INCRBY"), key.clone(), delta.to_string().into()],
        Op::Delete => vec![word(b"DEL"), key.clone(), beside(key, number)],
    }
}

/// What a shard is asked for an operation: by the front end, when it has read [`words`], and by a client
/// of the embedded engine.
pub fn request(key: &Bytes, op: &Op, number: usize) -> purlin::Request {
    use purlin::Request::{Propose, Query};
    let set =
        |value, condition, get| Propose(KvCommand::Set { key, value, condition, get }.encode());
    match op {
        Op::Get => Query(KvQuery::Get { key }.encode()),
        Op::Exists => Query(KvQuery::Exist { keys: strings(&[key]).strings() }.encode()),
        Op::Length => Query(KvQuery::Length { key }.encode()),
        Op::Set(value) => set(value, SetCondition::Always, false),
        Op::SetIfAbsent(value) => set(value, SetCondition::Absent, false),
        Op::SetIfPresent(value) => set(value, SetCondition::Present, false),
        Op::SetIfEqual { expected, value } => set(value, SetCondition::Equal(expected), false),
        Op::Swap(value) => set(value, SetCondition::Always, true),
        Op::Append(value) => Propose(KvCommand::Append { key, value }.encode()),
        Op::Increment(delta) => Propose(KvCommand::Add { key, delta: *delta }.encode()),
        Op::Delete => {
            let keys = strings(&[key, &beside(key, number)]);
            Propose(KvCommand::Delete { keys: keys.strings() }.encode())
        }
    }
}

/// The bytes that an operation brings into the log; nothing when it only reads.
pub fn expected_command(key: &Bytes, op: &Op, number: usize) -> Option<Bytes> {
    match request(key, op, number) {
        purlin::Request::Propose(command) => Some(command),
        purlin::Request::Query(_) => None,
    }
}

/// A key that never exists and so counts for nothing, in the slot of `key`: with it no two deletions are
/// equal.
fn beside(key: &Bytes, number: usize) -> Bytes {
    let beside = [b"{", &key[..], format!("}}none-{number}").as_bytes()].concat();
    assert_eq!(slot_of(&beside), slot_of(key), "{key:?} has a tag of its own");
    beside.into()
}

fn strings(keys: &[&Bytes]) -> StringsBuf {
    keys.iter().copied().collect()
}

/// What a reply tells the client that asked for `op`.
///
/// # Errors
/// It is nothing that such an operation may be answered.
pub fn told(op: &Op, value: Value) -> Result<Told<Reply>, String> {
    let is_value = matches!(op, Op::Get | Op::Swap(_));
    let is_conditional =
        matches!(op, Op::SetIfAbsent(_) | Op::SetIfPresent(_) | Op::SetIfEqual { .. });
    let is_set = is_conditional || matches!(op, Op::Set(_));
    let reply = match value {
        Value::Error(text) => return failed(op, &text),
        Value::Nil if is_value => Reply::Value(None),
        Value::Bulk(value) if is_value => Reply::Value(Some(value.into())),
        Value::Nil if is_conditional => Reply::Refused,
        Value::Simple(text) if is_set && text == "OK" => Reply::Done,
        Value::Integer(number) if !is_value && !is_set => Reply::Number(number),
        other => return Err(format!("{op:?} was answered {other:?}")),
    };
    Ok(Told::Done(reply))
}

/// What an error tells, by the classes of `docs/commands.md`.
fn failed(op: &Op, text: &str) -> Result<Told<Reply>, String> {
    let is_sum = matches!(op, Op::Increment(_));
    match text.split(' ').next().unwrap_or_default() {
        "CLUSTERDOWN" | "TRYAGAIN" | "LOADING" | "MOVED" => Ok(Told::NotApplied),
        "UNKNOWN" => Ok(Told::Unknown),
        // The machine's own refusals are results: they depend on what was there.
        _ if is_sum && text == "ERR value is not an integer or out of range" => {
            Ok(Told::Done(Reply::NotANumber))
        }
        _ if is_sum && text == "ERR increment or decrement would overflow" => {
            Ok(Told::Done(Reply::OutOfRange))
        }
        // Redis has one class for all mistakes of a client: nothing was done.
        "ERR" if text.contains("not applied") || text.contains("max number of clients") => {
            Ok(Told::NotApplied)
        }
        _ => Err(format!("{op:?} was answered {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_that_does_not_fit_its_operation_is_no_answer() {
        let value = || Bytes::from("v");
        let bulk = || Value::Bulk(b"v".to_vec());
        let refusal = || Value::Error("ERR increment or decrement would overflow".into());
        assert_eq!(told(&Op::Get, bulk()), Ok(Told::Done(Reply::Value(Some(value())))));
        assert_eq!(told(&Op::Increment(1), refusal()), Ok(Told::Done(Reply::OutOfRange)));
        for (op, strange) in [
            (Op::Exists, bulk()),
            (Op::Get, Value::Integer(1)),
            (Op::Set(value()), Value::Nil),
            (Op::Set(value()), Value::Simple("PONG".into())),
            (Op::Swap(value()), Value::Simple("OK".into())),
            (Op::Append(value()), refusal()),
            (Op::Get, Value::Error("WRONGTYPE".into())),
        ] {
            assert!(told(&op, strange.clone()).is_err(), "{op:?} {strange:?}");
        }
    }

    #[test]
    fn only_errors_that_say_so_mean_that_nothing_was_applied() {
        let told = |text: &str| told(&Op::Delete, Value::Error(text.into()));
        for text in [
            "CLUSTERDOWN x",
            "TRYAGAIN x",
            "LOADING x",
            "MOVED 1 h:1",
            "ERR too long; not applied, x",
        ] {
            assert_eq!(told(text), Ok(Told::NotApplied), "{text}");
        }
        assert_eq!(told("UNKNOWN outcome: TRYAGAIN not applied"), Ok(Told::Unknown));
        assert!(told("ERR syntax error").is_err());
    }
}
