//! The state machine that a group replicates: the machine of the embedder, or the key-value machine of
//! the crate `kv`.

use crate::types::{EntryId, GroupEpoch, GroupId, Position};
use bytes::Bytes;

/// A deterministic machine: equal commands in equal order give equal states and equal outcomes on every
/// replica. So it must not use a clock, a random source, or the iteration order of a hash map. It stays
/// on one core, so it need not be `Send`.
pub trait StateMachine: 'static {
    /// Applies committed commands in the order of their positions, and pushes exactly one outcome for
    /// each.
    fn apply(&mut self, context: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>);

    /// Answers a query. The engine calls this only when the outcome is linearizable (safety R1).
    fn query(&self, query: &[u8]) -> Bytes;

    /// The memory that it holds, in bytes. The engine adds up the machines of a shard.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Whether the leader may take a command although the machines of its shard hold as much memory as they may.
    /// A command that makes the machine larger should be refused. The engine asks only at the leader and before
    /// the command goes into the log: what is in the log is applied everywhere, so replicas cannot differ.
    fn admits_when_full(&self, command: &[u8]) -> bool {
        let _ = command;
        true
    }
}

/// A committed command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// The entry that carried the command, perhaps with other commands.
    pub id: EntryId,
    /// The number of the command in its group.
    pub position: Position,
    /// The bytes that were proposed.
    pub data: Bytes,
}

/// What a machine may know beside the commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApplyContext {
    /// The group that the machine belongs to.
    pub group: GroupId,
    /// The epoch of the group.
    pub epoch: GroupEpoch,
}
