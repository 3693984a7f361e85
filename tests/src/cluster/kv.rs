//! Our own key-value machine as the subject of a run.

use super::subject::Subject;
use crate::{
    checker::kv::KvModel,
    sim::Random,
    workload::{self, Op, Reply, Workload, WorkloadOptions},
};
use bytes::Bytes;
use purlin::{
    GroupId, Request,
    kv::{KvCommand, KvMachine, KvOutcome, KvQuery, SetCondition, StringsBuf},
};
use std::cell::RefCell;

/// The key-value machine with a load of its own.
pub struct KeyValue {
    workload: RefCell<Workload>,
}

impl KeyValue {
    /// With a load drawn for a seed.
    pub fn draw(seed: u64) -> Self {
        let random = Random::new(seed, "workload");
        let options = WorkloadOptions::draw(&random);
        Self::new(random, options)
    }

    /// With a load of one kind.
    pub fn new(random: Random, options: WorkloadOptions) -> Self {
        Self { workload: RefCell::new(Workload::new(random, options)) }
    }
}

impl Subject for KeyValue {
    type Machine = KvMachine;
    type Model = KvModel;

    fn machine(&self, _group: GroupId) -> KvMachine {
        KvMachine::new()
    }

    fn digest(machine: &KvMachine) -> u64 {
        machine.digest()
    }

    fn model(&self) -> KvModel {
        KvModel
    }

    fn next(&self, client: u32) -> (Bytes, Op) {
        let workload::Request { key, op } = self.workload.borrow_mut().next(client);
        (key, op)
    }

    fn encode(&self, key: &[u8], op: &Op, number: usize) -> Request {
        let set = |value, condition, get| {
            Request::Propose(KvCommand::Set { key, value, condition, get }.encode())
        };
        match op {
            Op::Get => Request::Query(KvQuery::Get { key }.encode()),
            Op::Exists => Request::Query(KvQuery::Exist { keys: keys(key).strings() }.encode()),
            Op::Length => Request::Query(KvQuery::Length { key }.encode()),
            Op::Set(value) => set(value, SetCondition::Always, false),
            Op::SetIfAbsent(value) => set(value, SetCondition::Absent, false),
            Op::SetIfPresent(value) => set(value, SetCondition::Present, false),
            Op::SetIfEqual { expected, value } => set(value, SetCondition::Equal(expected), false),
            Op::Swap(value) => set(value, SetCondition::Always, true),
            Op::Append(value) => Request::Propose(KvCommand::Append { key, value }.encode()),
            Op::Increment(delta) => {
                Request::Propose(KvCommand::Add { key, delta: *delta }.encode())
            }
            Op::Delete => {
                // One more, which never exists and so counts for nothing.
                let mut keys = keys(key);
                keys.push(format!("none-{number}").as_bytes());
                Request::Propose(KvCommand::Delete { keys: keys.strings() }.encode())
            }
        }
    }

    fn decode(&self, op: &Op, outcome: &[u8]) -> Reply {
        let outcome = KvOutcome::decode(outcome).expect("the machine's own outcome");
        let is_value = matches!(op, Op::Get | Op::Swap(_));
        match outcome {
            KvOutcome::Nil if is_value => Reply::Value(None),
            KvOutcome::Nil => Reply::Refused,
            KvOutcome::Ok => Reply::Done,
            KvOutcome::Integer(number) => Reply::Number(number),
            KvOutcome::Bytes(value) => Reply::Value(Some(Bytes::copy_from_slice(value))),
            KvOutcome::Error(text) if text.windows(8).any(|word| word == b"overflow") => {
                Reply::OutOfRange
            }
            KvOutcome::Error(_) => Reply::NotANumber,
            KvOutcome::Array(_) => unreachable!("no operation asks for several values"),
        }
    }

    fn probe(&self, name: &str) -> [Request; 2] {
        let set = KvCommand::Set {
            key: name.as_bytes(),
            value: b"x",
            condition: SetCondition::Always,
            get: false,
        };
        let get = KvQuery::Get { key: name.as_bytes() };
        [Request::Propose(set.encode()), Request::Query(get.encode())]
    }
}

fn keys(key: &[u8]) -> StringsBuf {
    let mut keys = StringsBuf::default();
    keys.push(key);
    keys
}
