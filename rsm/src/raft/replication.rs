//! Replication: a leader sends, a follower accepts, and replies move the commit (Raft paper 5.3, 5.4.2; thesis
//! 10.2.1).

use super::{
    Fault, Fetch, FetchPurpose, Raft,
    log::Refused,
    progress::Progress,
    read::ReadQueue,
    role::{Leader, Role},
};
use crate::{
    entry::{Entry, Payload},
    message::Message,
    run::APPEND_ENTRIES_MAX,
    types::{EntryId, Index, NodeId, Term, Tick},
};
use std::{collections::BTreeMap, ops::Bound};

impl Leader {
    /// A new leader whose first entry will be `noop`.
    pub(super) fn new(noop: Index, newest_round: u64) -> Self {
        Self {
            followers: BTreeMap::new(),
            noop,
            reads: ReadQueue::new(newest_round),
            confirmed_by: None,
            tell_commit_at: None,
            transfer: None,
            failed_transfers: 0,
            next_transfer: Tick(0),
        }
    }

    /// Adds a follower. A follower that voted for this leader counts as confirmed at the start.
    pub(super) fn follower(&mut self, node: NodeId, confirmed: bool, connected: bool) {
        let mut progress = Progress::new(self.noop.previous());
        progress.confirmed = confirmed;
        progress.connected = connected;
        self.followers.insert(node, progress);
    }

    /// The tick at which something is due: a reply that is overdue, the end of a pause, a commit to tell, the
    /// first confirmation, or the end of a transfer.
    pub(super) fn deadline(&self, retry_ticks: u64) -> Option<Tick> {
        let open =
            self.followers.values().filter(|progress| progress.connected && progress.has_room);
        let awaited = open
            .flat_map(|progress| [progress.awaited_since, progress.paused_since])
            .flatten()
            .chain(self.reads.awaited_since());
        let retry = awaited.min().map(|since| Tick(since.0 + retry_ticks));
        let transfer = self.transfer.map(|transfer| transfer.until);
        [retry, self.confirmed_by, self.tell_commit_at, transfer].into_iter().flatten().min()
    }
}

impl Raft {
    /// After this many ticks a reply that has not come is asked for again.
    pub(super) fn retry_ticks(&self) -> u64 {
        self.timer.shortest()
    }

    pub(super) fn follower_mut(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.leader_mut()?.followers.get_mut(&node)
    }

    /// Does what is due for a leader.
    pub(super) fn tick_leader(&mut self) {
        self.end_transfer();
        let (now, retry_ticks) = (self.now, self.retry_ticks());
        let Some(leader) = self.leader_mut() else { return };
        let is_late =
            |since: Option<Tick>| since.is_some_and(|since| since.0 + retry_ticks <= now.0);
        let open = |progress: &&mut Progress| progress.connected && progress.has_room;
        for progress in leader.followers.values_mut().filter(open) {
            if is_late(progress.paused_since) {
                progress.paused_since = None;
            }
            if is_late(progress.awaited_since) {
                crate::sometimes!("follower is asked for an overdue reply");
                progress.ask(now);
            }
        }
        if is_late(leader.reads.awaited_since()) {
            crate::sometimes!("read round is asked for again");
            self.send_round();
        }
        if self.leader_mut().is_some_and(|leader| leader.confirmed_by.is_some_and(|by| by <= now)) {
            self.check_quorum();
        }
    }

    pub(super) fn append_own(&mut self, payload: Payload) -> EntryId {
        let index = self.log.last().index.next();
        let entry = Entry { term: self.term, index, before: self.log.end(), payload };
        let id = entry.id();
        self.log.push(entry);
        id
    }

    /// Sends every follower the entries that its window allows, before the own write of them is durable.
    pub(super) fn replicate(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let tell_commit = leader.tell_commit_at.is_some_and(|at| at <= self.now);
        if tell_commit {
            leader.tell_commit_at = None;
        }
        let mut next = self.follower_after(None);
        while let Some(node) = next {
            while self.send_append(node, tell_commit) {}
            self.ask(node);
            next = self.follower_after(Some(node));
        }
    }

    /// Whether [`Raft::replicate`] or [`Raft::ask_readers`] would send anything.
    pub(super) fn has_to_send(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let (last, committed) = (self.log.last().index, self.log.committed());
        let tell_commit = leader.tell_commit_at.is_some_and(|at| at <= self.now);
        let wants_round = leader.reads.wants_round() && committed >= leader.noop;
        let has_to = |progress: &Progress| {
            let is_due = progress.is_due(last, committed, tell_commit);
            progress.may_ask() || (is_due && progress.may_send(self.config.window))
        };
        wants_round || leader.followers.values().any(has_to)
    }

    /// The first follower, or the one behind `node`, in ascending order. So a leader goes through its followers
    /// without a copy of their names.
    fn follower_after(&self, node: Option<NodeId>) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let behind = node.map_or(Bound::Unbounded, Bound::Excluded);
        leader.followers.range((behind, Bound::Unbounded)).next().map(|(node, _)| *node)
    }

    /// Sends one append to a follower, if there is anything to send and room for it.
    fn send_append(&mut self, to: NodeId, tell_commit: bool) -> bool {
        let (last, committed) = (self.log.last().index, self.log.committed());
        let (window, bytes_max) = (self.config.window, self.config.append_bytes_max);
        let (floor, cached) = (self.log.floor().index, self.log.cached_from());
        let Some(progress) = self.follower_mut(to) else { return false };
        progress.stay_above(floor);
        if !progress.is_due(last, committed, tell_commit) || !progress.may_send(window) {
            return false;
        }
        let has_entries = progress.has_entries(last);
        let next = progress.next;
        if has_entries && next < cached {
            crate::sometimes!("lagging follower needs entries from the WAL");
            progress.fetching = true;
            let range = next..cached.min(last.next());
            self.ready.fetches.push(Fetch { purpose: FetchPurpose::Send(to), range, bytes_max });
            return false;
        }
        let end = if has_entries { last.next() } else { next };
        let entries = self.log.cached_up_to(next..end, bytes_max);
        self.send_entries(to, next, entries);
        true
    }

    /// Asks a follower how far it is, if it is to be asked. The append has no entries and stands behind all that was
    /// sent, so its reply shows whether anything was lost. Nothing is sent twice for it.
    fn ask(&mut self, to: NodeId) {
        let (now, committed) = (self.now, self.log.committed());
        let Some(progress) = self.follower_mut(to).filter(|progress| progress.may_ask()) else {
            return;
        };
        let prev = progress.last_sent();
        progress.asked(now, committed);
        let term = self.log.term(prev).expect("a leader sends what lies above its floor");
        let (prev, entries) = (EntryId::new(term, prev), Vec::new());
        self.send(to, Message::Append { prev, entries, committed });
    }

    fn send_entries(&mut self, to: NodeId, next: Index, mut entries: Vec<Entry>) {
        // A receiver takes no more in one append. The rest goes with the next one.
        entries.truncate(APPEND_ENTRIES_MAX);
        let (now, committed) = (self.now, self.log.committed());
        let prev = next.previous();
        let term = self.log.term(prev).expect("a leader sends what lies above its floor");
        let last = entries.last().map_or(prev, |entry| entry.index);
        let bytes = entries.iter().map(Entry::cost).sum();
        if let Some(progress) = self.follower_mut(to) {
            progress.sent(now, last, bytes, committed);
        }
        self.send(to, Message::Append { prev: EntryId::new(term, prev), entries, committed });
    }

    /// Sends a follower that lags the entries that have come from the WAL.
    pub(super) fn send_fetched(&mut self, to: NodeId, entries: Vec<Entry>) {
        let floor = self.log.floor().index;
        let Some(progress) = self.follower_mut(to) else { return };
        progress.fetching = false;
        let next = progress.next;
        if progress.may_send_fetched() && entries[0].index == next && next > floor {
            self.send_entries(to, next, entries);
        }
        self.tell_commit_to(to);
    }

    /// Takes the entries of a leader, as a follower.
    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        prev: EntryId,
        entries: Vec<Entry>,
        committed: Index,
    ) {
        if !is_sound(prev, &entries, self.term) || !self.recognise(from) {
            return;
        }
        let floor = self.log.floor();
        if !self.log.agrees_at(prev) {
            crate::sometimes!("append rejected, the logs part before it");
            let below = prev.index.previous();
            // All logs agree at the floor, so these two part above it.
            let hint = self.log.terms().latest_at_most(below, prev.term).unwrap_or(floor);
            return self.send(from, Message::AppendReject { prev: prev.index, hint });
        }
        crate::sometimes!(prev.index < floor.index, "append begins below the floor");
        // Up to the floor the logs agree durably, whatever the message shows (safety N2).
        let matched = Index(prev.index.0 + entries.len() as u64).max(floor.index);
        match self.log.accept(entries) {
            Ok(()) => {}
            Err(Refused::Committed(ours)) => {
                return self.fail(Fault::CommittedConflict { leader: from, term: self.term, ours });
            }
            // Equal logs hold equal numbers of commands, and a damaged frame does not get here. So the two
            // replicas have parted. To drop the message would be to refuse every append in silence.
            Err(Refused::Position { at, ours, theirs }) => {
                let (leader, term) = (from, self.term);
                return self.fail(Fault::PositionConflict { leader, term, at, ours, theirs });
            }
        }
        crate::sometimes!(committed > matched, "commit is beyond the entries of an append");
        // The commit moves only as far as this message has shown the logs to be equal, not to the own last
        // entry.
        self.log.commit(committed.min(matched));
        self.send_gated(from, Message::AppendReply { matched });
    }

    pub(super) fn on_append_reply(&mut self, from: NodeId, matched: Index) {
        let (now, last) = (self.now, self.log.last().index);
        let Some(progress) = self.follower_mut(from) else { return };
        if matched > last {
            return;
        }
        if progress.advance(now, matched) {
            self.advance_commit();
            self.tell_to_campaign();
        }
        self.tell_commit_to(from);
    }

    pub(super) fn on_append_reject(&mut self, from: NodeId, prev: Index, hint: EntryId) {
        if prev > self.log.last().index {
            return;
        }
        let (now, floor) = (self.now, self.log.floor().index);
        let agree = self.log.terms().latest_at_most(hint.index, hint.term).map(|entry| entry.index);
        if let Some(progress) = self.follower_mut(from) {
            progress.reject(now, prev, agree, floor);
        }
    }

    /// Commits what a majority holds durably, if that is of this term. Entries of earlier terms are committed
    /// only by an entry of this term behind them (Raft paper 5.4.2, figure 8). The leader counts itself at its
    /// durable index, not at its last entry (safety A4).
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let matched = |voter| {
            if voter == self.config.node {
                return self.log.durable();
            }
            leader.followers.get(&voter).map_or(Index(0), |progress| progress.matched)
        };
        let reached = self.config.voters.reached(matched);
        crate::sometimes!(
            self.log.committed() < reached && reached < leader.noop,
            "commit waits for the own term"
        );
        if reached < leader.noop || !self.log.commit(reached) {
            return;
        }
        if leader.followers.values().any(|progress| progress.told < reached) {
            self.tell_commit_soon();
        }
    }

    /// Tells a follower of the commit, if it missed it: its window may have been full at the time, or its
    /// entries were being read (B33).
    fn tell_commit_to(&mut self, follower: NodeId) {
        let committed = self.log.committed();
        if self.follower_mut(follower).is_some_and(|progress| progress.told < committed) {
            self.tell_commit_soon();
        }
    }

    /// Entries that are sent in the meantime carry the commit, and save the message.
    fn tell_commit_soon(&mut self) {
        let at = Tick(self.now.0 + self.config.tell_commit_ticks);
        if let Some(leader) = self.leader_mut() {
            leader.tell_commit_at.get_or_insert(at);
        }
    }

    /// Sends a round for the reads that wait for one (safety R1).
    pub(super) fn ask_readers(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        crate::sometimes!(
            leader.reads.wants_round() && self.log.committed() < leader.noop,
            "read waits for the first commit"
        );
        // Before that, the commit index may lie below what earlier leaders have acknowledged (B41).
        if leader.reads.wants_round() && self.log.committed() >= leader.noop {
            self.send_round();
        }
    }

    fn send_round(&mut self) {
        let (now, committed) = (self.now, self.log.committed());
        let Some(leader) = self.leader_mut() else { return };
        let round = leader.reads.start_round(now, committed);
        let mut next = self.follower_after(None);
        while let Some(node) = next {
            self.send(node, Message::ReadProbe { round });
            next = self.follower_after(Some(node));
        }
        self.take_confirmed_reads();
    }

    /// Answers for the present term only. The leader of an older term was told so before this.
    pub(super) fn on_read_probe(&mut self, from: NodeId, round: u64) {
        if self.recognise(from) {
            self.send(from, Message::ReadProbeReply { round });
        }
    }

    pub(super) fn on_read_probe_reply(&mut self, from: NodeId, round: u64) {
        if let Some(leader) = self.leader_mut() {
            leader.reads.replied(from, round);
            self.take_confirmed_reads();
            self.tell_to_campaign();
        }
    }

    fn take_confirmed_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let confirmed = leader.reads.take_confirmed(&self.config.voters, self.config.node);
        self.ready.reads.extend(confirmed);
    }
}

/// Whether entries follow `prev` without a gap, in terms that do not fall and are not above `term`. What a peer
/// sends is checked before it is used.
fn is_sound(prev: EntryId, entries: &[Entry], term: Term) -> bool {
    let mut last = prev;
    let mut end = entries.first().map(|entry| entry.before);
    // Nobody leads in term 0, and no entry is of it.
    term > Term(0)
        && prev.term <= term
        && entries.iter().all(|entry| {
            let follows = entry.index.0.checked_sub(1) == Some(last.index.0)
                && entry.term >= last.term.max(Term(1))
                && end == Some(entry.before);
            (last, end) = (entry.id(), Some(entry.end()));
            follows && entry.term <= term
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        raft::{
            Window,
            harness::{Cluster, Options},
        },
        types::Position,
    };

    /// A replica of three, once `leader` has committed its first entry.
    fn led_by(leader: NodeId, replica: NodeId) -> Raft {
        let options = Options {
            append_bytes_max: usize::MAX,
            window: Window { messages: 8, bytes: usize::MAX },
            ..Options::default()
        };
        Cluster::led_by(leader, options).take(replica)
    }

    /// A receiver refuses a longer append as malformed, and would never get what lies behind it.
    #[test]
    fn an_append_has_a_bounded_number_of_entries() {
        let mut raft = led_by(NodeId(1), NodeId(1));
        (0..=APPEND_ENTRIES_MAX).for_each(|_| _ = raft.append_own(Payload::Noop));
        raft.replicate();
        let sent: Vec<_> = raft.ready.messages.iter().filter(|it| it.to == NodeId(2)).collect();
        let counts = sent.iter().map(|envelope| match &envelope.message {
            Message::Append { entries, .. } => entries.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(counts.collect::<Vec<_>>(), [APPEND_ENTRIES_MAX, 1]);
    }

    /// What was streamed to the follower is lost, and an append behind all of it arrives.
    #[test]
    fn a_reject_at_the_end_of_the_log_is_answered_at_once() {
        let mut raft = led_by(NodeId(1), NodeId(1));
        let (noop, end) = (raft.log.last(), raft.append_own(Payload::Noop));
        raft.replicate();
        raft.ready.messages.clear();
        raft.on_append_reject(NodeId(2), end.index, noop);
        raft.replicate();
        let [envelope] = &raft.ready.messages[..] else { panic!("{:?}", raft.ready.messages) };
        let Message::Append { prev, entries, .. } = &envelope.message else {
            panic!("{envelope:?}")
        };
        assert_eq!((envelope.to, *prev), (NodeId(2), noop));
        assert_eq!(entries.iter().map(Entry::id).collect::<Vec<_>>(), [end]);
    }

    #[test]
    fn a_follower_with_another_position_than_its_leader_stops_with_a_fault() {
        let mut follower = led_by(NodeId(1), NodeId(2));
        let (at, ours) = (follower.log.last(), follower.log.end());
        let theirs = Position(ours.0 + 1);
        let entry =
            Entry { term: at.term, index: at.index.next(), before: theirs, payload: Payload::Noop };
        follower.on_append(NodeId(1), at, vec![entry], Index(0));
        let term = follower.term();
        let fault = Fault::PositionConflict { leader: NodeId(1), term, at, ours, theirs };
        assert_eq!(follower.fault(), Some(fault));
        assert_eq!(follower.log.last(), at, "nothing of it was taken");
    }
}
