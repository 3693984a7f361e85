//! The types that openraft is used with.

use openraft::{BasicNode, TokioRuntime};
use std::io::Cursor;

openraft::declare_raft_types!(
    /// A command is its bytes, and has no result.
    pub(crate) TypeConfig:
        D = Vec<u8>,
        R = (),
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = TokioRuntime,
);

/// A group's number, from 0 on.
pub(crate) type GroupId = u32;
/// A node's number, from 1 on.
pub(crate) type NodeId = u64;
/// An entry of a group's log.
pub(crate) type Entry = openraft::Entry<TypeConfig>;
/// A replica of a group.
pub(crate) type Replica = openraft::Raft<TypeConfig>;
/// The log or the state machine has failed.
pub(crate) type StorageError = openraft::StorageError<NodeId>;
/// A place in a group's log.
pub(crate) type LogId = openraft::LogId<NodeId>;
/// A vote of a replica.
pub(crate) type Vote = openraft::Vote<NodeId>;
