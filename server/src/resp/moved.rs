//! The groups for which a client was sent elsewhere, for the requests that had come by then.
//!
//! ```text
//! SET a 1   -MOVED 15495 h:7101     another shard leads the group
//! SET a 2   -MOVED 15495 h:7101     it had come with the first: the client sends both there, in this order
//!           what comes later is judged anew
//! ```

use super::topology::Endpoint;
use purlin::GroupId;
use std::{cell::Cell, collections::BTreeMap};

/// See the module. There is an entry for each group that one read of the connection asked for, at most for all groups.
#[derive(Default)]
pub(super) struct Moved {
    groups: BTreeMap<GroupId, (u64, Endpoint)>,
    /// No entry holds for requests from here on.
    end: u64,
}

/// How far a connection has got in the bytes that its client sends.
#[derive(Default)]
pub(super) struct Progress {
    /// Bytes that have come.
    pub(super) received: Cell<u64>,
    /// Bytes of the requests that were taken in.
    pub(super) taken: Cell<u64>,
}

impl Moved {
    /// Where the client was sent for `group`, if a request at the byte `at` had come by then.
    pub(super) fn still(&mut self, group: GroupId, at: u64) -> Option<Endpoint> {
        if at >= self.end {
            self.groups.clear();
        }
        let (_, endpoint) = self.groups.get(&group).filter(|(end, _)| at < *end)?;
        Some(endpoint.clone())
    }

    /// The client is sent elsewhere for `group`, with all requests that have come before the byte `end`.
    pub(super) fn note(&mut self, group: GroupId, end: u64, endpoint: Endpoint) {
        self.end = self.end.max(end);
        self.groups.insert(group, (end, endpoint));
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        let hosts: usize = self.groups.values().map(|(_, endpoint)| endpoint.host.len()).sum();
        2 * self.groups.len() * size_of::<(GroupId, u64, Endpoint)>() + hosts
    }
}
