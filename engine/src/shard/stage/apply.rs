//! Stage 5: hands committed entries to the state machines, and their outcomes to the tickets.

use crate::{
    runtime::Runtime,
    shard::{Shard, groups::GroupSlot},
};
use purlin_rsm::{Entry, Tick};

impl<R: Runtime> Shard<R> {
    /// Applies the committed entries of one group. The replica may hand out more afterwards.
    pub(crate) fn apply(&mut self, now: Tick, slot: GroupSlot, committed: Vec<Entry>) {
        if committed.is_empty() {
            return;
        }
        let Some(group) = self.groups.peek_mut(slot) else { return };
        let before = group.raft.applied_index();
        group.apply(now, committed);
        if let Some(stop) = group.machine_stop() {
            tracing::error!(
                "{} g{} machine: {stop}; the replica keeps the log of the group and votes, it leads no more and applies \
                 nothing more; the other groups go on; correct the state machine, and start the node again",
                self.site.name,
                group.id
            );
            // Its reads have failed, and others are to learn that it leads no more.
            self.groups.touch(slot);
            return;
        }
        let (applied, has_more) = (group.raft.applied_index(), group.raft.has_unapplied());
        self.outside.board.note_applied(group.id, applied);
        self.groups.count_applied(applied.0 - before.0);
        self.groups.count_machine(slot);
        if has_more {
            self.groups.touch(slot);
        }
    }
}
