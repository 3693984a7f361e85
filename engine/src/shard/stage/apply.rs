//! Stage 5: hands committed entries and confirmed queries to the state machines, and their outcomes to the tickets.

use crate::{
    runtime::Runtime,
    shard::{Shard, groups::GroupSlot},
};
use purlin_rsm::{Entry, Tick};
use std::time::Duration;

impl<R: Runtime> Shard<R> {
    /// Applies the committed entries of one group and answers its queries, until the time `end`: one piece at least. For
    /// what is left, and for what the replica has not handed out yet, the group is noted as one with inputs.
    pub(crate) fn apply(
        &mut self,
        now: Tick,
        slot: GroupSlot,
        committed: Vec<Entry>,
        end: Duration,
    ) {
        let Some(group) = self.groups.peek_mut(slot) else { return };
        group.take_committed(committed);
        let (before, applies) = (group.raft.applied_index(), group.applies());
        let commands_before = group.raft.applied_end();
        group.work(now, || self.runtime.now() >= end);
        if applies && let Some(stop) = group.machine_stop() {
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
        let (applied, has_work) = (group.raft.applied_index(), group.has_work());
        // What must be read from the log first comes as an input of its own.
        let has_more = applied > before && group.raft.has_unapplied();
        if applied > before {
            let commands = group.raft.applied_end().0 - commands_before.0;
            self.outside.board.note_applied(group.id, applied);
            self.groups.count_applied(applied.0 - before.0, commands);
            self.groups.count_machine(slot);
        }
        if has_work || has_more {
            self.groups.touch(slot);
        }
    }
}
