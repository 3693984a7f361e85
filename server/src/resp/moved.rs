//! The groups for which a client was sent elsewhere, while it may not know of that yet.
//!
//! ```text
//! SET a 1   -MOVED 15495 h:7101     another shard leads the group
//! SET a 2   -MOVED 15495 h:7101     also if this shard leads by now: the client sends both there, in this order
//! ```

use super::topology::Endpoint;
use purlin::GroupId;
use std::collections::BTreeMap;

/// See the module. There are no more groups in it than the ring had places for requests.
#[derive(Default)]
pub(super) struct Moved(BTreeMap<GroupId, (u64, Endpoint)>);

impl Moved {
    /// Where the client was sent for `group`, if the reply that says so may not have gone out: `drained` requests have
    /// their replies on the way out, and `is_drained` says that nothing waits any more.
    pub(super) fn still(
        &mut self,
        group: GroupId,
        drained: u64,
        is_drained: bool,
    ) -> Option<Endpoint> {
        if is_drained {
            self.0.clear();
        }
        if self.0.is_empty() {
            return None;
        }
        self.0.retain(|_, (place, _)| *place >= drained);
        self.0.get(&group).map(|(_, endpoint)| endpoint.clone())
    }

    /// The reply in this place sends the client elsewhere.
    pub(super) fn note(&mut self, group: GroupId, place: u64, endpoint: Endpoint) {
        self.0.insert(group, (place, endpoint));
    }
}
