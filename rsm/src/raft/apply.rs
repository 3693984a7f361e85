//! Committed entries are handed out to be applied: in order, a page at a time, from memory or from the WAL.
//! Raft does not look at what the state machine does with them.

use super::{Fault, Fetch, FetchPurpose, Raft, fetch::FetchToApply};
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
        let last = entries.last().expect("what is handed out is not empty");
        self.log.applying(last.index);
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
        let wrong = entries.iter().enumerate().find(|(i, entry)| {
            entry.index != Index(first.0 + *i as u64) || !self.log.has(entry.id())
        });
        match (purpose, wrong) {
            // A committed entry is never cut off, so another entry here is damage.
            (FetchPurpose::Apply, Some((i, entry))) => self.fail(Fault::WrongEntry {
                found: entry.id(),
                expected: EntryId::new(
                    self.log.term(Index(first.0 + i as u64)).unwrap_or_default(),
                    entry.index,
                ),
            }),
            (FetchPurpose::Apply, None) => self.fetched_to_apply(entries),
            // The entries were cut off in the meantime, or the leadership is over.
            (FetchPurpose::Send(follower), Some(_)) => {
                self.fetch_failed(FetchPurpose::Send(follower))
            }
            (FetchPurpose::Send(follower), None) => self.send_fetched(follower, entries),
        }
    }

    /// The read is tried again after a while, not at once: the disk may need that long to recover.
    pub(super) fn fetch_failed(&mut self, purpose: FetchPurpose) {
        let now = self.now;
        match purpose {
            FetchPurpose::Apply => {
                let at = Tick(now.0 + self.retry_ticks());
                self.fetch_to_apply = FetchToApply::RetryAt(at);
            }
            FetchPurpose::Send(follower) => {
                if let Some(progress) = self.follower_mut(follower) {
                    progress.fetching = false;
                    progress.stall(now);
                }
            }
        }
    }
}
