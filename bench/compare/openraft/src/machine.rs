//! What the groups replicate: a register that keeps the last command, and counts all of them. It is the state machine of
//! `purlin-bench in-process`. It lives in memory, and makes no snapshots: the logs are never cut.

use crate::types::{Entry, LogId, NodeId, StorageError, TypeConfig};
use openraft::{
    BasicNode, EntryPayload, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageIOError,
    StoredMembership, storage::RaftStateMachine,
};
use std::{
    io::{self, Cursor},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// How many commands a register has applied. A clone is another handle.
pub(crate) type Count = Arc<AtomicU64>;

/// See the module.
#[derive(Default)]
pub(crate) struct Register {
    last: Vec<u8>,
    count: Count,
    applied: Option<LogId>,
    membership: StoredMembership<NodeId, BasicNode>,
}

impl Register {
    /// How many commands it has applied.
    pub(crate) fn count(&self) -> Count {
        self.count.clone()
    }
}

/// No snapshot is asked for: the policy of the configuration is `Never`, and no log is cut.
fn no_snapshots() -> StorageError {
    StorageIOError::read_state_machine(&io::Error::from(io::ErrorKind::Unsupported)).into()
}

/// Makes no snapshot.
pub(crate) struct NoSnapshots;

impl RaftSnapshotBuilder<TypeConfig> for NoSnapshots {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        Err(no_snapshots())
    }
}

impl RaftStateMachine<TypeConfig> for Register {
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembership<NodeId, BasicNode>), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I: IntoIterator<Item = Entry>>(
        &mut self,
        entries: I,
    ) -> Result<Vec<()>, StorageError> {
        let mut outcomes = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(command) => {
                    self.last = command;
                    self.count.fetch_add(1, Ordering::Release);
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(self.applied, membership);
                }
            }
            outcomes.push(());
        }
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Err(no_snapshots())
    }

    async fn install_snapshot(
        &mut self,
        _: &SnapshotMeta<NodeId, BasicNode>,
        _: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        Ok(None)
    }
}
