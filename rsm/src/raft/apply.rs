//! Handing committed entries out to be applied: in order, a page at a time, from memory or from the
//! WAL. What the machine does with them is none of raft's business.

use super::{Fetch, FetchPurpose, Raft};
use crate::{entry::Entry, types::Tick};

/// The entries to be applied next that are not in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FetchToApply {
    /// None are missing, or not asked for.
    None,
    /// They are being read from the WAL.
    Asked,
    /// The WAL could not give them; they are asked for again then.
    RetryAt(Tick),
}

impl FetchToApply {
    /// When it is to be tried again.
    pub(super) fn retry(self) -> Option<Tick> {
        match self {
            Self::RetryAt(at) => Some(at),
            Self::None | Self::Asked => None,
        }
    }

    /// Whether that time has come.
    pub(super) fn is_retry_due(self, now: Tick) -> bool {
        self.retry().is_some_and(|at| at <= now)
    }
}

impl Raft {
    /// Hands out the next page of what is committed, or asks the WAL for it.
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

    /// Entries to be applied have come from the WAL.
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
}
