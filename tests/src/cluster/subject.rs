//! What a simulated cluster is tried with: a state machine, what clients ask of it, and what they may be
//! told. [`super::kv::KeyValue`] is ours; a user brings another.

use crate::checker::linearizability::Model;
use bytes::Bytes;
use purlin::{GroupId, Request, StateMachine};

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

    /// The machine of a group on one replica.
    fn machine(&self, group: GroupId) -> Self::Machine;

    /// The whole state as a number: equal for equal states, and only for them.
    fn digest(machine: &Self::Machine) -> u64;

    /// The model.
    fn model(&self) -> Self::Model;

    /// What `client` asks next, and of which key. A key lives in one group.
    fn next(&self, client: u32) -> (Bytes, InputOf<Self>);

    /// The request as the machine takes it. `number` belongs to this request alone: no two commands
    /// may be equal, since the checkers find them in the log by their bytes.
    fn encode(&self, key: &[u8], input: &InputOf<Self>, number: usize) -> Request;

    /// What an outcome or an answer of the machine tells the client that asked for `input`.
    fn decode(&self, input: &InputOf<Self>, outcome: &[u8]) -> OutputOf<Self>;

    /// A command and a query that the machine takes in any state, and that touch no key of
    /// [`Subject::next`]. They show at the end of a run that every group works.
    fn probe(&self, name: &str) -> [Request; 2];
}
