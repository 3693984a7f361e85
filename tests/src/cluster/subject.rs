//! The subject of a simulated cluster: a state machine, the requests of its clients, and the
//! outcomes that are right. [`super::kv::KeyValue`] is the one for the key-value machine; a user
//! writes another one.

use crate::{
    checker::{
        history::{Lane, OperationId, Told},
        linearizability::Model,
    },
    sim::SimRuntime,
};
use bytes::Bytes;
use purlin::{ClusterConfig, GroupId, LocalShard, NodeId, Request, ShardId, StateMachine};

/// What clients ask of a subject.
pub type InputOf<S> = <<S as Subject>::Model as Model>::Input;
/// What they are told.
pub type OutputOf<S> = <<S as Subject>::Model as Model>::Output;

/// A state machine on trial. All chance that it needs it draws from the run's seed, so that equal seeds
/// have equal histories.
pub trait Subject: Sized + 'static {
    /// The machine that the groups replicate: the user's own code, unchanged.
    type Machine: StateMachine;
    /// What one key of the machine does when it alone does one thing at a time. The answers of all
    /// clients must be explained by it.
    type Model: Model;
    /// A client that comes over the network; [`NoVisitor`] when there is no front end.
    type Visitor: Visitor<Self>;

    /// The machine of a group on one replica.
    fn machine(&self, group: GroupId) -> Self::Machine;

    /// The whole state as a number: equal for equal states, and only for them.
    fn digest(machine: &Self::Machine) -> u64;

    /// How many keys a command of the machine has, for the time that it takes.
    fn keys_of_command(&self, _command: &[u8]) -> usize {
        1
    }

    /// The same for a query.
    fn keys_of_query(&self, _query: &[u8]) -> usize {
        1
    }

    /// The model.
    fn model(&self) -> Self::Model;

    /// What `client` asks next, and of which key. A key lives in one group.
    fn next(&self, client: u32) -> (Bytes, InputOf<Self>);

    /// The request as the machine takes it. `number` belongs to this request alone: no two commands
    /// may be equal, since the checkers find them in the log by their bytes.
    fn encode(&self, key: &Bytes, input: &InputOf<Self>, number: usize) -> Request;

    /// What an outcome or an answer of the machine tells the client that asked for `input`.
    fn decode(&self, input: &InputOf<Self>, outcome: &[u8]) -> OutputOf<Self>;

    /// A command and a query that the machine takes in any state, and that touch no key of
    /// [`Subject::next`]. They show at the end of a run that every group works.
    fn probe(&self, name: &str) -> [Request; 2];

    /// Opens a front end of a shard for clients that come over the network. What it spawns ends with the
    /// process.
    fn serve(
        &self,
        _local: &LocalShard<SimRuntime>,
        _cluster: &ClusterConfig,
    ) -> impl Future<Output = ()> {
        async {}
    }

    /// A client of the front ends of these shards; it has the number `client` in the history.
    fn visitor(
        &self,
        _runtime: &SimRuntime,
        _client: u32,
        _shards: &[(NodeId, ShardId)],
    ) -> Option<Self::Visitor> {
        None
    }
}

/// Operations that have been answered, or whose connection was lost.
pub type Answers<S> = Vec<(OperationId, Told<OutputOf<S>>)>;

/// A client that speaks over the network to a front end, in the front end's protocol.
pub trait Visitor<S: Subject>: 'static {
    /// Connects to one of the shards it knows, unless it is connected.
    fn connect(&mut self) -> impl Future<Output = ()>;

    /// What the present connection asks of a group: it takes effect in this order.
    fn lane(&self, group: GroupId) -> Lane;

    /// Asks on the present connection, behind what was asked before. `number` is as in
    /// [`Subject::encode`], which must say what the front end makes of it.
    fn ask(&mut self, id: OperationId, key: &Bytes, input: &InputOf<S>, number: usize);

    /// How many operations are open.
    fn open(&self) -> usize;

    /// Waits for answers, of which there is at least one.
    ///
    /// # Errors
    /// The front end said what it must not say.
    fn answers(&mut self) -> impl Future<Output = Result<Answers<S>, String>>;
}

/// Nobody comes over the network.
#[derive(Clone, Copy, Debug)]
pub enum NoVisitor {}

impl<S: Subject> Visitor<S> for NoVisitor {
    async fn connect(&mut self) {
        match *self {}
    }

    fn lane(&self, _group: GroupId) -> Lane {
        match *self {}
    }

    fn ask(&mut self, _id: OperationId, _key: &Bytes, _input: &InputOf<S>, _number: usize) {
        match *self {}
    }

    fn open(&self) -> usize {
        match *self {}
    }

    async fn answers(&mut self) -> Result<Answers<S>, String> {
        match *self {}
    }
}
