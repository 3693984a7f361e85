//! The requests of clients: operations on few keys. Each value is written only once, so each result
//! tells which write it saw.

use crate::sim::Random;
use bytes::Bytes;
pub use purlin_checker::kv::{Op, Reply};
use std::{collections::VecDeque, num::NonZeroU32, ops::Range};

/// An operation and its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The key.
    pub key: Bytes,
    /// What to do with it.
    pub op: Op,
}

/// What kind of load it is.
#[derive(Clone, Debug)]
pub struct WorkloadOptions {
    /// Keys of each kind: values, counters, lists.
    pub keys: u32,
    /// How many of the operations only read.
    pub read_share: f64,
    /// How many go to the first key of their kind.
    pub hot_share: f64,
    /// How many use a key of another kind, with its errors.
    pub misuse_share: f64,
    /// Every so manieth client only reads, and one key only: it goes on at a node that reaches no other.
    pub readers: Option<NonZeroU32>,
    /// The length of a value in bytes, not empty; a value is never shorter than makes it unique.
    pub value_bytes: Range<u64>,
}

impl Default for WorkloadOptions {
    fn default() -> Self {
        Self {
            keys: 4,
            read_share: 0.4,
            hot_share: 0.3,
            misuse_share: 0.02,
            readers: None,
            value_bytes: 8..64,
        }
    }
}

impl WorkloadOptions {
    /// Options drawn for one seed: hot or even, mostly reads or mostly writes, small or large values.
    pub fn draw(random: &Random) -> Self {
        let value_bytes_max = random.magnitude(16.0, 4_096.0) as u64;
        Self {
            keys: 1 + random.below(6) as u32,
            read_share: 0.1 + 0.01 * random.below(86) as f64,
            hot_share: 0.01 * random.below(90) as f64,
            misuse_share: 0.02,
            readers: NonZeroU32::new(*random.pick(&[0, 0, 2, 3, 5])),
            value_bytes: 8..value_bytes_max,
        }
    }
}

/// Makes requests.
pub struct Workload {
    random: Random,
    options: WorkloadOptions,
    values: u64,
    recent: VecDeque<Bytes>,
}

const RECENT_MAX: usize = 8;

/// What a key is mostly used for.
#[derive(Clone, Copy)]
enum Kind {
    Value,
    Counter,
    List,
}

impl Workload {
    /// A generator that draws from `random`. Several may serve one history, if their clients differ.
    pub fn new(random: Random, options: WorkloadOptions) -> Self {
        assert!(options.keys > 0, "a workload without keys");
        Self { random, options, values: 0, recent: VecDeque::new() }
    }

    /// The next request of `client`.
    pub fn next(&mut self, client: u32) -> Request {
        if let Some(every) = self.options.readers
            && client % every == 0
        {
            return Request { key: self.favourite(client / every), op: self.read() };
        }
        let kind = self.kind();
        let key = self.key(kind);
        let misused = self.random.chance(self.options.misuse_share);
        let kind = if misused { self.kind() } else { kind };
        let op = match self.random.chance(self.options.read_share) {
            true => self.read(),
            false => self.write(kind, client),
        };
        Request { key, op }
    }

    fn kind(&self) -> Kind {
        *self.random.pick(&[Kind::Value, Kind::Value, Kind::Counter, Kind::List])
    }

    fn key(&self, kind: Kind) -> Bytes {
        let is_hot = self.random.chance(self.options.hot_share);
        name(kind, if is_hot { 0 } else { self.random.below(self.options.keys.into()) as u32 })
    }

    /// The one key of a reader.
    fn favourite(&self, reader: u32) -> Bytes {
        let kinds = [Kind::Value, Kind::Counter, Kind::List];
        let kind = kinds[reader as usize % kinds.len()];
        name(kind, reader / kinds.len() as u32 % self.options.keys)
    }

    fn read(&self) -> Op {
        match self.random.below(10) {
            0 => Op::Exists,
            1 => Op::Length,
            _ => Op::Get,
        }
    }

    fn write(&mut self, kind: Kind, client: u32) -> Op {
        let choice = self.random.below(20);
        match kind {
            _ if choice == 0 => Op::Delete,
            Kind::Counter => Op::Increment(self.step()),
            Kind::List => Op::Append(self.label(client)),
            Kind::Value => match choice {
                1 | 2 => Op::SetIfAbsent(self.unique(client)),
                3 => Op::SetIfPresent(self.unique(client)),
                4 => Op::SetIfEqual { expected: self.earlier(client), value: self.unique(client) },
                5 | 6 => Op::Swap(self.unique(client)),
                _ => Op::Set(self.unique(client)),
            },
        }
    }

    /// A value that was never written before.
    fn unique(&mut self, client: u32) -> Bytes {
        let mut value = self.label(client).to_vec();
        let len = self.random.within(self.options.value_bytes.clone()) as usize;
        value.resize(value.len().max(len), b'.');
        let value = Bytes::from(value);
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.push_front(value.clone());
        value
    }

    /// A number that no other increment has.
    fn step(&mut self) -> i64 {
        self.values += 1;
        self.values as i64 * if self.random.chance(0.3) { -1 } else { 1 }
    }

    /// A value that was asked to be written not long ago.
    fn earlier(&mut self, client: u32) -> Bytes {
        match self.recent.len() as u64 {
            0 => self.label(client),
            len => self.recent[self.random.below(len) as usize].clone(),
        }
    }

    /// What makes a value unique. Lists take nothing else, since they grow.
    fn label(&mut self, client: u32) -> Bytes {
        self.values += 1;
        Bytes::from(format!("{client}-{};", self.values))
    }
}

fn name(kind: Kind, number: u32) -> Bytes {
    let kind = match kind {
        Kind::Value => "value",
        Kind::Counter => "counter",
        Kind::List => "list",
    };
    Bytes::from(format!("{kind}-{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn requests(seed: u64, count: usize) -> Vec<Request> {
        let random = Random::new(seed, "workload");
        let options = WorkloadOptions::draw(&random);
        let mut workload = Workload::new(random, options);
        (0..count).map(|number| workload.next(number as u32 % 3)).collect()
    }

    #[test]
    fn equal_seeds_ask_the_same() {
        assert_eq!(requests(1, 100), requests(1, 100));
        assert_ne!(requests(1, 100), requests(2, 100));
    }

    #[test]
    fn a_reader_only_reads_and_keeps_to_its_key() {
        let options = WorkloadOptions { readers: NonZeroU32::new(2), ..WorkloadOptions::default() };
        let mut workload = Workload::new(Random::new(4, "workload"), options);
        let mut ask = |client| (0..200).map(|_| workload.next(client)).collect::<Vec<_>>();
        let (reader, writer) = (ask(6), ask(7));
        assert!(reader.iter().all(|request| request.op.is_read() && request.key == reader[0].key));
        assert!(writer.iter().any(|request| !request.op.is_read()));
        assert!(writer.iter().any(|request| request.key != writer[0].key));
    }

    #[test]
    fn written_values_are_unique_and_all_kinds_occur() {
        let mut values = BTreeSet::new();
        let mut kinds = BTreeSet::new();
        let mut written = 0;
        for request in requests(3, 3_000) {
            let text = format!("{:?}", request.op);
            kinds.insert(text.split(['(', ' ']).next().unwrap_or_default().to_owned());
            let value = match request.op {
                Op::Set(value) | Op::SetIfAbsent(value) | Op::SetIfPresent(value) => value,
                Op::SetIfEqual { value, .. } | Op::Swap(value) | Op::Append(value) => value,
                _ => continue,
            };
            written += 1;
            values.insert(value);
        }
        assert_eq!(values.len(), written);
        assert_eq!(kinds.len(), 11, "{kinds:?}");
    }
}
