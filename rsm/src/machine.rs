//! The state machine that a group replicates: the user's code, or ours in `kv`.

use crate::types::{EntryId, GroupEpoch, GroupId, Position};
use bytes::Bytes;

/// A deterministic machine: equal commands in equal order give equal states and equal outcomes on
/// every replica. It lives on one core, so it need not be `Send`, and it must not look at a clock,
/// a random source, or the iteration order of a hash map.
pub trait StateMachine: 'static {
    /// Applies committed commands in the order of their positions, and pushes exactly one outcome for
    /// each.
    fn apply(&mut self, context: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>);

    /// Answers a query at a point that the engine has made linearizable.
    fn query(&self, query: &[u8]) -> Bytes;
}

/// A committed command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// The entry that carried it, perhaps with others.
    pub id: EntryId,
    /// Its number among the commands of its group.
    pub position: Position,
    /// The bytes that were proposed.
    pub data: Bytes,
}

/// What a machine may know beside its commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApplyContext {
    /// The group that the machine belongs to.
    pub group: GroupId,
    /// The epoch of the group.
    pub epoch: GroupEpoch,
}
