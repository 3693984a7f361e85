//! A leader's view of one follower: how far its log is known to match the leader's, and how much is on its way.
//!
//! *Probe*: the leader does not know where the two logs part, and sends one append at a time. *Replicate*: the
//! logs match, and the leader streams appends, up to a window of messages and bytes (Raft thesis 10.2.1).

use super::check::{Checked, ensure};
use crate::types::{Index, Tick};
use std::{collections::VecDeque, fmt};

/// How much may be on its way to one follower of one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Appends that are not answered.
    pub messages: usize,
    /// The bytes of these appends. One append is always allowed, however large.
    pub bytes: usize,
}

/// A leader's view of one follower.
#[derive(Debug)]
pub(super) struct Progress {
    /// The follower's log equals the leader's up to this entry, durably.
    pub matched: Index,
    /// The next entry to send. Always above `matched`.
    pub next: Index,
    /// The commit that the follower was last told of, unless the message is known to be lost.
    pub told: Index,
    /// Probing or replicating.
    pub state: State,
    /// The follower's node answers heartbeats and confirms that the follower follows in this group and term.
    pub confirmed: bool,
    /// There is a connection to the follower's node. Without one nothing is sent.
    pub connected: bool,
    /// Entries for the follower are being read from the WAL.
    pub fetching: bool,
    /// The follower has refused the entry at the leader's floor. It needs entries that the leader does not hold
    /// any more, and cannot use those that the leader holds. It is asked again after each election timeout,
    /// without entries, since its log may have changed.
    pub lacks_floor: bool,
    /// The tick since which an answer is awaited. An answer that brings news starts it anew.
    pub awaited_since: Option<Tick>,
}

/// How the leader sends; see the module.
#[derive(Debug)]
pub(super) enum State {
    /// One append at a time.
    Probe {
        /// The append is on its way.
        waiting: bool,
    },
    /// Pipelined appends.
    Replicate(Inflights),
}

/// Appends on their way: the last index of each and its bytes, oldest first.
#[derive(Default, Debug)]
pub(super) struct Inflights {
    appends: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl Inflights {
    fn add(&mut self, last: Index, bytes: usize) {
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Everything up to `matched` has arrived.
    fn free(&mut self, matched: Index) {
        while self.appends.front().is_some_and(|(last, _)| *last <= matched) {
            let (_, bytes) = self.appends.pop_front().expect("there is a first one");
            self.bytes -= bytes;
        }
    }

    /// How many appends are on their way.
    pub(super) fn count(&self) -> usize {
        self.appends.len()
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_full(&self, window: Window) -> bool {
        self.appends.len() >= window.messages || self.bytes >= window.bytes
    }
}

impl fmt::Display for Inflights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} appends of {} bytes", self.appends.len(), self.bytes)
    }
}

impl Progress {
    /// A follower of which nothing is known. It is probed at the end of the leader's log.
    pub(super) fn new(last: Index) -> Self {
        Self {
            matched: Index(0),
            next: last.next(),
            told: Index(0),
            state: State::Probe { waiting: false },
            confirmed: false,
            connected: true,
            fetching: false,
            lacks_floor: false,
            awaited_since: None,
        }
    }

    /// What is always true of a follower of a leader whose log ends in `last`. Names what is not.
    pub(super) fn check(&self, last: Index) -> Checked {
        ensure!(self.matched < self.next, "progress: the next is not above the matched: {self:?}");
        ensure!(
            self.next <= last.next(),
            "progress: the next lies behind the last, {last}: {self:?}"
        );
        ensure!(self.told <= last, "progress: told of more than the last, {last}: {self:?}");
        ensure!(
            !self.lacks_floor || matches!(self.state, State::Probe { .. }),
            "progress: entries are sent to a follower that lacks the floor: {self:?}"
        );
        let is_awaited = match &self.state {
            State::Probe { waiting } => *waiting,
            State::Replicate(inflights) => !inflights.appends.is_empty(),
        };
        ensure!(
            !is_awaited || self.awaited_since.is_some(),
            "progress: an answer is awaited, and no time is set: {self:?}"
        );
        Ok(())
    }

    /// What is always true of the appends on their way. Names what is not.
    pub(super) fn check_deeply(&self) -> Checked {
        let State::Replicate(Inflights { appends, bytes }) = &self.state else { return Ok(()) };
        let sum: usize = appends.iter().map(|(_, bytes)| *bytes).sum();
        ensure!(*bytes == sum, "progress: {sum} bytes are on their way: {self:?}");
        ensure!(
            appends.iter().is_sorted_by(|a, b| a.0 <= b.0),
            "progress: appends on their way are out of order: {self:?}"
        );
        ensure!(
            appends.back().is_none_or(|(last, _)| *last < self.next),
            "progress: an append reaches beyond the next to send: {self:?}"
        );
        Ok(())
    }

    /// Whether another append may go out.
    pub(super) fn may_send(&self, window: Window) -> bool {
        let free = match &self.state {
            State::Probe { waiting } => !waiting,
            State::Replicate(inflights) => !inflights.is_full(window),
        };
        self.connected && !self.fetching && free
    }

    /// An append up to `last` of `bytes` bytes has gone out, and told of `committed`.
    pub(super) fn sent(&mut self, now: Tick, last: Index, bytes: usize, committed: Index) {
        match &mut self.state {
            State::Probe { waiting } => *waiting = true,
            State::Replicate(inflights) => {
                inflights.add(last, bytes);
                // This assumes that the append arrives. A lost append shows as a missing answer, and is
                // sent again from a probe.
                self.next = last.next();
            }
        }
        // A follower commits no further than the message shows its log to equal the leader's.
        self.told = self.told.max(committed.min(last));
        self.awaited_since.get_or_insert(now);
    }

    /// The follower's log equals the leader's up to `matched`, durably. Returns whether that is news.
    pub(super) fn advance(&mut self, now: Tick, matched: Index) -> bool {
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        let drained = match &mut self.state {
            // The logs match at some place: stream from here on.
            State::Probe { waiting } if *waiting || news => {
                self.next = self.matched.next();
                self.lacks_floor = false;
                self.state = State::Replicate(Inflights::default());
                true
            }
            State::Probe { .. } => true,
            State::Replicate(inflights) => {
                inflights.free(matched);
                inflights.appends.is_empty()
            }
        };
        self.awaited_since =
            (!drained).then_some(if news { now } else { self.awaited_since.unwrap_or(now) });
        news
    }

    /// The follower does not hold the leader's entry `prev`. The logs may still agree at `agree`, or below the
    /// leader's `floor` if that is `None`. Returns whether the reject was about an append that still counts,
    /// and not a late one (B31).
    pub(super) fn reject(
        &mut self,
        now: Tick,
        prev: Index,
        agree: Option<Index>,
        floor: Index,
    ) -> bool {
        // A follower that refuses an entry which it has acknowledged has lost it. It is not asked again at
        // once and for ever, but when the answer to the probe is overdue (B39).
        let current = match &self.state {
            State::Probe { .. } => prev == self.next.previous() && prev > self.matched,
            State::Replicate(_) => prev > self.matched,
        };
        crate::sometimes!(!current, "late reject ignored");
        if current {
            match agree.map(|agree| agree.min(prev.previous())).filter(|agree| *agree >= floor) {
                Some(agree) => {
                    crate::sometimes!("reject moves a probe back");
                    self.probe(agree.next());
                }
                None => {
                    crate::sometimes!("follower needs entries below the floor");
                    self.probe(floor.next());
                    self.stall(now);
                    self.lacks_floor = true;
                }
            }
        }
        current
    }

    /// Moves a probe above `floor`: the leader holds nothing at or below it.
    pub(super) fn stay_above(&mut self, floor: Index) {
        if self.next <= floor {
            self.probe(floor.next());
        }
    }

    /// The entries to send cannot be read or sent now. The follower is treated as if an append to it had been
    /// lost.
    pub(super) fn stall(&mut self, now: Tick) {
        self.restart();
        self.state = State::Probe { waiting: true };
        self.awaited_since = Some(now);
    }

    /// Starts over, since answers were lost or the connection was. A stream starts again behind what is known
    /// to match. A probe stays where it was: nothing was streamed to the follower, and starting at the front
    /// could send it the whole log once more.
    pub(super) fn restart(&mut self) {
        let next = match self.state {
            State::Probe { .. } => self.next,
            State::Replicate(_) => self.matched.next(),
        };
        self.probe(next);
    }

    fn probe(&mut self, next: Index) {
        self.next = next.max(self.matched.next());
        self.told = Index(0);
        self.state = State::Probe { waiting: false };
        self.awaited_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { messages: 2, bytes: 100 };

    fn replicating() -> Progress {
        let mut progress = Progress::new(Index(10));
        progress.sent(Tick(1), Index(10), 0, Index(0));
        progress.advance(Tick(2), Index(10));
        progress
    }

    #[test]
    fn a_probe_waits_for_its_reply() {
        let mut progress = Progress::new(Index(10));
        assert!(progress.may_send(WINDOW));
        progress.sent(Tick(1), Index(10), 0, Index(0));
        assert!(!progress.may_send(WINDOW));
        assert!(progress.reject(Tick(9), Index(10), Some(Index(4)), Index(0)));
        assert_eq!(progress.next, Index(5));
        assert!(progress.may_send(WINDOW));
    }

    #[test]
    fn the_window_is_bounded_in_messages_and_in_bytes() {
        let mut progress = replicating();
        progress.sent(Tick(3), Index(11), 10, Index(0));
        progress.sent(Tick(3), Index(12), 10, Index(0));
        assert!(!progress.may_send(WINDOW), "two messages");
        progress.advance(Tick(4), Index(12));
        progress.sent(Tick(4), Index(13), 1000, Index(0));
        assert!(!progress.may_send(WINDOW), "one of many bytes, which alone was allowed");
        progress.advance(Tick(5), Index(13));
        assert!(
            progress.may_send(WINDOW) && progress.awaited_since.is_none(),
            "idle again: counters are zero (B36)"
        );
    }

    /// Entries from the WAL may end before the commit. If the whole commit counted as told, and answers to
    /// earlier appends acknowledged the rest, nothing would tell the follower any more.
    #[test]
    fn a_commit_counts_as_told_up_to_the_last_entry_that_was_sent() {
        let mut progress = replicating();
        progress.sent(Tick(3), Index(20), 10, Index(10));
        progress.restart();
        progress.sent(Tick(4), Index(14), 10, Index(20));
        assert_eq!(progress.told, Index(14));
        progress.advance(Tick(5), Index(20));
        assert_eq!((progress.matched, progress.told), (Index(20), Index(14)));
        progress.sent(Tick(6), Index(20), 0, Index(20));
        assert_eq!(progress.told, Index(20));
    }

    #[test]
    fn a_late_reject_does_not_move_next_back() {
        let mut progress = replicating();
        assert!(!progress.reject(Tick(9), Index(10), Some(Index(3)), Index(0)), "10 is matched");
        assert_eq!((progress.matched, progress.next), (Index(10), Index(11)));
        progress.restart();
        assert!(
            !progress.reject(Tick(9), Index(9), Some(Index(3)), Index(0)),
            "not the probe that is out"
        );
    }

    #[test]
    fn a_lost_probe_is_repeated_at_the_same_index() {
        let mut progress = Progress::new(Index(10));
        progress.restart();
        assert_eq!(progress.next, Index(11), "before anything was sent");
        progress.sent(Tick(1), Index(10), 0, Index(0));
        progress.stall(Tick(2));
        assert_eq!(progress.next, Index(11));
        progress.restart();
        assert!(progress.reject(Tick(9), Index(10), Some(Index(4)), Index(0)));
        progress.restart();
        assert_eq!(progress.next, Index(5), "what a reject has taught is not forgotten");
    }

    #[test]
    fn a_reject_leaves_next_above_matched() {
        let mut progress = replicating();
        progress.sent(Tick(3), Index(12), 10, Index(0));
        assert!(
            progress.reject(Tick(9), Index(12), Some(Index(0)), Index(0)),
            "a follower that claims to have lost acknowledged entries"
        );
        assert_eq!(progress.next, Index(11));
    }

    /// Entries below the floor are gone: the follower is probed at the floor, once in a while.
    #[test]
    fn a_follower_that_needs_what_lies_below_the_floor_is_probed_at_the_floor() {
        let floor = Index(8);
        for agree in [None, Some(Index(7))] {
            let mut progress = Progress::new(Index(10));
            progress.sent(Tick(1), Index(10), 0, Index(0));
            assert!(progress.reject(Tick(2), Index(10), agree, floor));
            assert!(progress.lacks_floor && !progress.may_send(WINDOW));
            assert_eq!((progress.next, progress.awaited_since), (Index(9), Some(Tick(2))));
            progress.restart();
            assert!(progress.may_send(WINDOW) && progress.lacks_floor, "it is asked again");
            progress.sent(Tick(3), Index(8), 0, Index(0));
            assert!(progress.reject(Tick(4), Index(8), Some(floor), floor), "it cannot go lower");
            assert_eq!((progress.next, progress.may_send(WINDOW)), (Index(9), false));
            progress.restart();
            progress.sent(Tick(5), Index(8), 0, Index(0));
            progress.advance(Tick(6), Index(8));
            assert!(!progress.lacks_floor && matches!(progress.state, State::Replicate(_)));
        }
    }

    #[test]
    fn acknowledged_entries_below_the_floor_are_not_sent_again() {
        let mut progress = replicating();
        progress.sent(Tick(3), Index(30), 10, Index(0));
        progress.restart();
        progress.stay_above(Index(20));
        assert_eq!((progress.matched, progress.next), (Index(10), Index(21)));
        progress.stay_above(Index(20));
        assert_eq!(progress.next, Index(21), "above the floor nothing changes");
    }

    #[test]
    fn each_broken_invariant_is_named() {
        let full = || {
            let mut progress = replicating();
            progress.sent(Tick(3), Index(11), 10, Index(0));
            progress.sent(Tick(3), Index(12), 20, Index(0));
            progress
        };
        let check =
            |progress: &Progress| progress.check(Index(12)).and_then(|()| progress.check_deeply());
        assert_eq!(check(&full()), Ok(()));
        let broken = |change: fn(&mut Progress), violation: &str| {
            let mut progress = full();
            change(&mut progress);
            let found = check(&progress).expect_err(violation);
            assert!(found.starts_with(&format!("progress: {violation}")), "{found}");
        };
        fn inflights(progress: &mut Progress) -> &mut Inflights {
            match &mut progress.state {
                State::Replicate(inflights) => inflights,
                State::Probe { .. } => panic!("it replicates"),
            }
        }
        broken(|progress| progress.matched = Index(13), "the next is not above the matched");
        broken(|progress| progress.next = Index(14), "the next lies behind the last, 12");
        broken(|progress| progress.told = Index(13), "told of more than the last, 12");
        broken(|progress| progress.lacks_floor = true, "entries are sent to a follower that lacks");
        broken(|progress| progress.awaited_since = None, "an answer is awaited, and no time");
        broken(|progress| inflights(progress).bytes = 29, "30 bytes are on their way");
        broken(
            |progress| inflights(progress).appends.swap(0, 1),
            "appends on their way are out of",
        );
        broken(|progress| progress.next = Index(12), "an append reaches beyond the next to send");
    }
}
