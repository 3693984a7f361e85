//! The key-value machine as the subject of a run, behind the server's front end.

use super::{
    nodes::CLUSTER,
    subject::{Answers, Subject, Visitor},
};
use crate::{
    checker::{
        history::{Lane, OperationId},
        kv::KvModel,
    },
    resp::{self, FrontEndOptions},
    sim::{Random, SimRuntime},
    workload::{self, Op, Reply, Workload, WorkloadOptions},
};
use bytes::Bytes;
use purlin::{ClusterConfig, GroupId, LocalShard, NodeId, Request, ShardId};
use purlin_kv::{KvCommand, KvMachine, KvOutcome, KvQuery, SetCondition};
use std::cell::RefCell;

/// The key-value machine with a load of its own.
pub struct KeyValue {
    workload: RefCell<Workload>,
    front_end: fn(&mut FrontEndOptions),
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
        Self { workload: RefCell::new(Workload::new(random, options)), front_end: |_| () }
    }

    /// The same with front ends that serve in another way.
    pub fn with_front_end(self, front_end: fn(&mut FrontEndOptions)) -> Self {
        Self { front_end, ..self }
    }
}

impl Subject for KeyValue {
    type Machine = KvMachine;
    type Model = KvModel;
    type Visitor = resp::Client;

    fn machine(&self, group: GroupId) -> KvMachine {
        KvMachine::new(CLUSTER, group)
    }

    fn digest(machine: &KvMachine) -> u64 {
        machine.digest()
    }

    fn keys_of_command(&self, command: &[u8]) -> usize {
        match KvCommand::decode(command) {
            Ok(KvCommand::Delete { keys }) => keys.len(),
            Ok(KvCommand::SetMany { pairs }) => pairs.len() / 2,
            _ => 1,
        }
    }

    fn keys_of_query(&self, query: &[u8]) -> usize {
        match KvQuery::decode(query) {
            Ok(KvQuery::Exist { keys } | KvQuery::GetMany { keys }) => keys.len(),
            _ => 1,
        }
    }

    fn model(&self) -> KvModel {
        KvModel
    }

    fn next(&self, client: u32) -> (Bytes, Op) {
        let workload::Request { key, op } = self.workload.borrow_mut().next(client);
        (key, op)
    }

    fn encode(&self, key: &Bytes, op: &Op, number: usize) -> Request {
        resp::request(key, op, number)
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

    async fn serve(&self, local: &LocalShard<SimRuntime>, cluster: &ClusterConfig) {
        let opened = resp::serve(local, cluster, self.front_end).await;
        opened.expect("a shard's port is its own");
    }

    fn visitor(
        &self,
        runtime: &SimRuntime,
        client: u32,
        shards: &[(NodeId, ShardId)],
    ) -> Option<resp::Client> {
        // Every second client goes to the ports of shards, which send it on to other shards.
        let address = if client.is_multiple_of(2) { resp::address } else { resp::shard_address };
        let addresses = shards.iter().map(|(node, shard)| address(*node, *shard)).collect();
        let options = resp::ClientOptions::new(addresses);
        Some(resp::Client::new(runtime.clone(), client, options))
    }
}

impl Visitor<KeyValue> for resp::Client {
    async fn connect(&mut self) {
        self.connect().await;
    }

    fn lane(&self, group: GroupId) -> Lane {
        self.lane(group)
    }

    fn ask(&mut self, id: OperationId, key: &Bytes, op: &Op, number: usize) {
        self.ask(id, key, op.clone(), number);
    }

    fn open(&self) -> usize {
        self.open()
    }

    async fn answers(&mut self) -> Result<Answers<KeyValue>, String> {
        self.answers().await
    }
}
