//! Committed entries are handed out to be applied: in order, a page at a time, from memory or from the WAL.
//! Raft does not look at what the state machine does with them.

use super::{Fault, Fetch, FetchPurpose, Raft, fetch::FetchToApply, role::Role};
use crate::{
    entry::Entry,
    types::{EntryId, Index, Tick},
};

impl Raft {
    /// Hands out the next page of committed entries, or asks the WAL for it.
    pub(super) fn hand_out_committed(&mut self) {
        let Some(range) = self.log.to_apply() else { return };
        if self.fetch_to_apply != FetchToApply::None {
            return;
        }
        let cached = self.log.cached_from();
        let bytes_max = self.config.apply_bytes_max;
        if range.start < cached {
            crate::sometimes!("entries to apply come from the WAL");
            self.fetch_to_apply = FetchToApply::Asked;
            let range = range.start..range.end.min(cached);
            self.ready.fetches.push(Fetch { purpose: FetchPurpose::Apply, range, bytes_max });
        } else {
            let entries = self.log.cached_up_to(range, bytes_max);
            self.hand_out(entries);
        }
    }

    fn hand_out(&mut self, entries: Vec<Entry>) {
        self.log.applying(&entries);
        self.ready.committed = entries;
    }

    /// Hands out entries that have come from the WAL.
    pub(super) fn fetched_to_apply(&mut self, mut entries: Vec<Entry>) {
        self.fetch_to_apply = FetchToApply::None;
        let wanted = self
            .log
            .to_apply()
            .expect("nothing else is applied while entries to apply are fetched");
        assert_eq!(
            entries[0].index, wanted.start,
            "entries to apply that do not follow the applied ones"
        );
        entries.retain(|entry| entry.index < wanted.end);
        self.hand_out(entries);
    }

    /// Takes entries that were read from the WAL, from the start of the range on. There are none when the WAL
    /// could not give them.
    pub fn fetched(&mut self, purpose: FetchPurpose, entries: Vec<Entry>) {
        if self.fault.is_some() {
            return;
        }
        let Some(first) = entries.first().map(|entry| entry.index) else {
            return self.fetch_failed(purpose);
        };
        if self.has_stopped_applying() && purpose == FetchPurpose::Apply {
            return;
        }
        let wrong = (first.0..)
            .map(Index)
            .zip(&entries)
            .find(|(index, entry)| entry.index != *index || !self.log.has(entry.id()));
        match (purpose, wrong) {
            // A committed entry is never cut off, so another entry here is damage.
            (FetchPurpose::Apply, Some((index, entry))) => {
                let term = self.log.term(index).unwrap_or_default();
                let (found, expected) = (entry.id(), EntryId::new(term, index));
                self.fail(Fault::WrongEntry { found, expected });
            }
            (FetchPurpose::Apply, None) => self.fetched_to_apply(entries),
            // The entries were cut off in the meantime, or the leadership is over.
            (FetchPurpose::Send(follower), Some(_)) => {
                self.fetch_failed(FetchPurpose::Send(follower))
            }
            (FetchPurpose::Send(follower), None) => self.send_fetched(follower, entries),
        }
    }

    /// The state machine has failed at an entry that was handed out, and applies nothing any more. The replica goes on
    /// to follow, to vote and to acknowledge entries, so the log of the group stays durable. It never leads: a leader
    /// that does not apply would answer nobody (safety E6).
    pub fn stop_applying(&mut self, now: Tick) {
        self.now = now;
        self.fetch_to_apply = FetchToApply::Never;
        if !matches!(self.role, Role::Follower(_)) {
            crate::sometimes!("leader or candidate resigns, its state machine has stopped");
            self.follow(self.term, None);
        }
        self.evict();
    }

    /// Whether [`Raft::stop_applying`] was called.
    pub fn has_stopped_applying(&self) -> bool {
        self.fetch_to_apply == FetchToApply::Never
    }

    /// The read is tried again after a while, not at once: the disk may need that long to recover.
    pub(super) fn fetch_failed(&mut self, purpose: FetchPurpose) {
        let now = self.now;
        match purpose {
            FetchPurpose::Apply if self.has_stopped_applying() => {}
            FetchPurpose::Apply => {
                let at = Tick(now.0 + self.retry_ticks());
                self.fetch_to_apply = FetchToApply::RetryAt(at);
            }
            FetchPurpose::Send(follower) => {
                if let Some(progress) = self.follower_mut(follower) {
                    progress.fetching = false;
                    progress.pause(now);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::Payload,
        message::{Envelope, Message},
        raft::{
            RoleKind,
            harness::{Cluster, Options},
        },
        types::{NodeId, Position, Term},
    };
    use bytes::Bytes;

    const NOW: Tick = Tick(1000);

    /// Node 1 of three, which leads, has committed an entry and has not applied it when its machine stops.
    fn stopped() -> Raft {
        let mut raft = Cluster::led_by(NodeId(1), Options::default()).take(NodeId(1));
        raft.propose(Bytes::from_static(b"command")).expect("it leads");
        let write = raft.ready().append.expect("an entry").write;
        raft.appended(NOW, write);
        let matched = raft.last().index;
        let term = raft.term();
        hear(&mut raft, 2, term, Message::AppendReply { matched });
        assert_eq!(raft.ready().committed.len(), 1);
        raft.stop_applying(NOW);
        raft
    }

    fn hear(raft: &mut Raft, from: u32, term: Term, message: Message) {
        let (from, to) = (NodeId(from), NodeId(1));
        let (group, epoch) = (raft.config.group, raft.epoch());
        raft.step(NOW, Envelope { from, to, group, epoch, term, message });
    }

    /// All that is handed out is durable at once. Returns what leaves.
    fn settle(raft: &mut Raft) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let ready = raft.ready();
            assert!(ready.committed.is_empty(), "its machine has stopped: {:?}", ready.committed);
            messages.extend(ready.messages.into_iter().map(|envelope| envelope.message));
            match ready.append {
                Some(append) => raft.appended(NOW, append.write),
                None => return messages,
            }
        }
    }

    /// Safety E6.
    #[test]
    fn a_replica_whose_machine_has_stopped_resigns_and_never_campaigns() {
        let mut raft = stopped();
        assert_eq!((raft.role(), raft.leader()), (RoleKind::Follower, None));
        assert!(raft.propose(Bytes::new()).is_err() && raft.read(1).is_err());
        for _ in 0..3 {
            let Some(deadline) = raft.deadline() else { break };
            raft.tick(deadline);
            assert_eq!((settle(&mut raft).len(), raft.role()), (0, RoleKind::Follower));
        }
        assert_eq!(raft.deadline(), None, "it waits for a leader");
        raft.campaign_if_fresh(NOW);
        let term = Term(raft.term().0 + 1);
        hear(&mut raft, 2, term, Message::TimeoutNow);
        assert_eq!((settle(&mut raft).len(), raft.role()), (0, RoleKind::Follower));
    }

    /// Its log counts for the commit of the group, and its vote for the election of a replica that works.
    #[test]
    fn a_replica_whose_machine_has_stopped_votes_and_acknowledges_and_keeps_nothing_in_memory() {
        let mut raft = stopped();
        let (term, last) = (Term(raft.term().0 + 1), raft.last());
        hear(&mut raft, 2, term, Message::Vote { last, forced: true });
        assert_eq!(settle(&mut raft), [Message::VoteReply { granted: true }]);
        let applied = raft.applied_index();
        for index in last.index.0 + 1..last.index.0 + 100 {
            let (index, payload) = (Index(index), Payload::command(Bytes::from(vec![7; 1000])));
            let before = Position(raft.end().0);
            let entry = Entry { term, index, before, payload };
            let prev =
                EntryId::new(raft.term_of(index.previous()).expect("it has it"), index.previous());
            hear(
                &mut raft,
                2,
                term,
                Message::Append { prev, entries: vec![entry], committed: index },
            );
            assert_eq!(settle(&mut raft), [Message::AppendReply { matched: index }]);
            assert_eq!((raft.committed(), raft.applied_index()), (index, applied));
            assert_eq!((raft.held_bytes(), raft.has_unapplied()), (0, false));
        }
        raft.fetched(FetchPurpose::Apply, Vec::new());
        assert_eq!(raft.leader(), Some(NodeId(2)));
        let empty = Message::Append { prev: raft.last(), entries: vec![], committed: Index(1) };
        hear(&mut raft, 2, term, empty);
        raft.unvouch(NOW, NodeId(2));
        let deadline = raft.deadline().expect("it waits for its leader");
        raft.tick(deadline);
        assert_eq!((raft.leader(), raft.deadline()), (None, None), "requests do not go there");
    }

    /// Node 1 leads, and has asked the WAL for the entries from 2@1 to 4@1 to apply them.
    fn that_asks_the_wal() -> Raft {
        let mut raft = Cluster::led_by(NodeId(1), Options::default()).take(NodeId(1));
        (0..3).for_each(|_| _ = raft.propose(Bytes::new()).expect("it leads"));
        let write = raft.ready().append.expect("three entries").write;
        raft.appended(Tick(0), write);
        raft.evict_durable();
        let (last, term) = (raft.last().index, raft.term());
        raft.on_append_reply(NodeId(2), last);
        let fetches = raft.ready().fetches;
        assert!(fetches.iter().any(|it| it.purpose == FetchPurpose::Apply), "{fetches:?}");
        assert_eq!((last, term), (Index(4), Term(1)));
        raft
    }

    fn entry(term: u64, index: u64) -> Entry {
        let payload = Payload::Noop;
        let (term, index) = (Term(term), Index(index));
        Entry { term, index, before: Position(0), payload }
    }

    #[test]
    fn a_fault_of_the_wal_names_the_place_that_was_read_and_what_it_holds() {
        let faults = [
            // Another term in the third place, and an entry of another place in the second.
            (vec![entry(1, 2), entry(1, 3), entry(7, 4)], (7, 4), (1, 4)),
            (vec![entry(1, 2), entry(1, 9)], (1, 9), (1, 3)),
            (vec![entry(1, 2), entry(1, 2)], (1, 2), (1, 3)),
            // More than the log has.
            (vec![entry(1, 2), entry(1, 3), entry(1, 4), entry(1, 5)], (1, 5), (0, 5)),
        ];
        for (given, found, expected) in faults {
            let mut raft = that_asks_the_wal();
            raft.fetched(FetchPurpose::Apply, given);
            let id = |(term, index)| EntryId::new(Term(term), Index(index));
            let (found, expected) = (id(found), id(expected));
            assert_eq!(raft.fault(), Some(Fault::WrongEntry { found, expected }));
        }
    }
}
