//! Stage 2: steps each group that had inputs, and hands what it wants done to the later stages.

use crate::{
    runtime::Runtime,
    shard::{Shard, group::Standing, groups::GroupSlot, stage::send::is_of_a_leader},
};
use purlin_rsm::{Entry, Envelope, GroupId, Message, NodeId, Tick, raft::Ready};
use std::time::Duration;

/// So many groups are let on by one call, and for so long: then others are stepped.
const LET_ON_MAX: usize = 64;
const OFFER_TIME_MAX: Duration = Duration::from_millis(1);

impl<R: Runtime> Shard<R> {
    /// Steps groups that had inputs, until no group has any, or until the time `end`: at least one group.
    pub(crate) fn step(&mut self, now: Tick, end: Duration) {
        while let Some(slot) = self.groups.next_dirty() {
            self.groups.look_ahead();
            self.step_group(now, slot, end);
            if self.runtime.now() >= end {
                return;
            }
        }
    }

    /// Works through one group. One that has more to do then goes behind the others that have inputs: a long log, or
    /// many queries, of one group keep nobody waiting.
    fn step_group(&mut self, now: Tick, slot: GroupSlot, end: Duration) {
        if !self.meeting.is_acting() {
            self.groups.rearm(slot);
            return;
        }
        let committed = self.hand_on(now, slot);
        self.apply(now, slot, committed, end);
        self.note_failed_query(slot);
        self.note_standing(now, slot);
        self.groups.count_entries(slot);
        self.groups.rearm(slot);
        // What was applied may be what a hand-over has waited for.
        self.groups.touch_if_needed(slot);
    }

    /// Hands the `Ready` of a group to the stages. Returns what is to be applied.
    fn hand_on(&mut self, now: Tick, slot: GroupSlot) -> Vec<Entry> {
        // Appends keep others from leading, as heartbeats do. So a leader that cannot write withholds
        // both: under load its appends would go on for ever (safety R5).
        let is_hanging = self.is_hanging(now);
        let Some(group) = self.groups.peek_mut(slot) else { return Vec::new() };
        let id = group.id;
        let Ready { messages, append, committed, fetches, reads, failed_reads } = group.ready();
        group.confirmed(reads);
        group.failed(failed_reads);
        if let Some(append) = append {
            self.append.push(id, append);
        }
        self.send_messages(now, slot, id, messages, is_hanging);
        fetches.into_iter().for_each(|fetch| self.fetcher.want(id, fetch));
        committed
    }

    /// Sends the messages of a group. The first append that does not go out keeps those behind it from going to that
    /// follower: the follower would reject them. The replica goes on there when there is room, and when it has the turn.
    fn send_messages(
        &mut self,
        now: Tick,
        slot: GroupSlot,
        id: GroupId,
        messages: Vec<Envelope>,
        is_hanging: bool,
    ) {
        let (mut unsent, mut sent): (Vec<NodeId>, Vec<NodeId>) = (Vec::new(), Vec::new());
        for envelope in messages {
            let is_withheld = is_hanging && is_of_a_leader(&envelope.message);
            purlin_rsm::sometimes!(is_withheld, "append withheld while the disk hangs");
            let Message::Append { prev, entries, .. } = &envelope.message else {
                // A lost vote or answer is asked for again.
                let _lost = is_withheld || !self.others.send(envelope);
                continue;
            };
            let (to, prev) = (envelope.to, prev.index);
            let is_behind = unsent.contains(&to);
            let has_entries = !entries.is_empty();
            let is_early = has_entries && !self.others.pairs.may_send_entries(to, id);
            if !is_withheld && !is_behind && !is_early && self.others.send(envelope) {
                // Only who has the turn is asked whether it has sent something.
                if has_entries && self.others.pairs.has_waiting() && !sent.contains(&to) {
                    sent.push(to);
                }
                continue;
            }
            if !is_behind {
                unsent.push(to);
                let is_refused = !is_early || is_withheld;
                self.others.pairs.wait_for_room(to, id, is_refused, sent.contains(&to));
            }
            if let Some(group) = self.groups.peek_mut(slot) {
                group.raft.unsent(now, to, prev);
            }
        }
        sent.into_iter().for_each(|to| self.others.pairs.has_sent_entries(to, id));
    }

    /// Lets groups send again to peers that have room, one after the other: what one sends lies in the outbox before the
    /// next one is let on.
    pub(crate) fn offer_room(&mut self, now: Tick) {
        // A shard that was fenced meanwhile sends nothing (safety I4).
        if !self.others.pairs.has_waiting() || !self.meeting.is_acting() {
            return;
        }
        let end = self.runtime.now() + OFFER_TIME_MAX;
        for _ in 0..LET_ON_MAX {
            let groups = &self.groups;
            self.others.pairs.end_turns(|node, id| groups.has_entries_to_come(id, node));
            let turns = self.others.pairs.next_turns();
            if turns.is_empty() {
                return;
            }
            for (node, id) in turns {
                let Some(slot) = self.groups.slot(id) else { continue };
                // The rest of its work waits for its turn among the groups that have inputs.
                self.groups.touch(slot);
                let Some(group) = self.groups.peek_mut(slot) else { continue };
                group.raft.room(now, node);
                let committed = self.hand_on(now, slot);
                if let Some(group) = self.groups.peek_mut(slot) {
                    group.take_committed(committed);
                }
            }
            if self.runtime.now() >= end {
                return;
            }
        }
    }

    fn note_failed_query(&mut self, slot: GroupSlot) {
        let Some(group) = self.groups.peek_mut(slot) else { return };
        if let Some(text) = group.take_failed_query() {
            tracing::error!(
                "{} g{} machine: it failed at a {text}; the query ends without an answer, and the group goes on",
                self.site.name,
                group.id
            );
        }
    }

    /// Tells the rest of the shard if the term, the leader or the role of a group has changed.
    fn note_standing(&mut self, now: Tick, slot: GroupSlot) {
        let Some(group) = self.groups.peek_mut(slot) else { return };
        let (id, before, standing) = (group.id, group.known, group.standing());
        if before == standing {
            return;
        }
        purlin_rsm::sometimes!(
            before.leads && !standing.leads && group.has_waiting(),
            "leader deposed with requests open"
        );
        log_standing(&self.site.name, id, before, standing);
        if let Some(fault) = group.raft.fault() {
            tracing::error!(
                "{} g{id} raft: the replica has stopped: {fault}; it serves nothing any more, and the other \
                 replicas of the group go on; check the disks of the nodes",
                self.site.name
            );
        }
        self.groups.set_known(slot, standing);
        self.outside.board.note(id, standing.term, standing.leader);
        self.others.pairs.standing_changed(now, id, standing, &mut self.groups);
        // Requests that waited for a leader may go on.
        self.requests.retry_parked();
    }
}

/// A line for each change, for those who look for one group: there may be a million. Once a beat the log
/// tells how many groups the shard leads, from its status.
fn log_standing(name: &str, group: purlin_rsm::GroupId, before: Standing, now: Standing) {
    let Standing { term, leader, leads, .. } = now;
    match leader {
        _ if leads => tracing::debug!("{name} g{group} raft: became leader term={term}"),
        _ if before.leads => tracing::debug!("{name} g{group} raft: lost leadership term={term}"),
        Some(leader) => tracing::debug!("{name} g{group} raft: follows node {leader} term={term}"),
        None => tracing::debug!("{name} g{group} raft: no leader term={term}"),
    }
}
