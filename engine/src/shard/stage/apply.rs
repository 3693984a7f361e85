//! Stage 5: committed entries to the state machines, and their outcomes to whoever waits.

use crate::{
    runtime::Runtime,
    shard::{Shard, groups::GroupSlot},
};
use purlin_rsm::Entry;

impl<R: Runtime> Shard<R> {
    /// Applies what one group has committed. More may be handed out once it has.
    pub(crate) fn apply(&mut self, slot: GroupSlot, committed: Vec<Entry>) {
        if committed.is_empty() {
            return;
        }
        let Some(group) = self.groups.peek_mut(slot) else { return };
        group.apply(committed);
        self.outside.board.note_applied(group.id, group.raft.applied_index());
        if group.raft.has_unapplied() {
            self.groups.touch(slot);
        }
    }
}
