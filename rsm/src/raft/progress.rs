//! A leader's view of one follower: how far its log is known to match the leader's, and how much is on its way.
//!
//! *Probe*: the leader does not know where the two logs part, and sends one append at a time. *Replicate*: the
//! logs match, and the leader streams appends, up to a window of messages and bytes (Raft thesis 10.2.1).
//!
//! A connection delivers all that was sent on it, in order. So entries are sent again in three cases only: there is a
//! new connection, an append did not go out, or the follower has rejected one. When a reply is overdue, the leader
//! *asks* by one append without entries behind all that it has sent. The follower acknowledges it, or rejects it if
//! it lacks anything before it.

use super::check::{Checked, ensure};
use crate::types::{Index, Tick};
use std::{collections::VecDeque, fmt};

/// How much may be on its way to one follower of one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Appends without a reply.
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
    /// No append was refused since the owner last told of room. Without room nothing is sent.
    pub has_room: bool,
    /// Entries for the follower are being read from the WAL.
    pub fetching: bool,
    /// The follower has refused the entry at the leader's floor. It needs entries that the leader does not hold
    /// any more, and cannot use those that the leader holds. It is probed again after each election timeout,
    /// without entries, since its log may have changed.
    pub lacks_floor: bool,
    /// The tick since which nothing is sent for an election timeout: the WAL could not give the entries, or the
    /// follower cannot use them.
    pub paused_since: Option<Tick>,
    /// The tick since which a reply is awaited. A reply that brings news starts it anew, and so does a
    /// question.
    pub awaited_since: Option<Tick>,
    /// The follower is to be asked how far it is.
    pub is_to_be_asked: bool,
}

/// How the leader sends; see the module.
#[derive(Debug)]
pub(super) enum State {
    /// One append at a time.
    Probe {
        /// The append on its way.
        sent: Option<Sent>,
    },
    /// Pipelined appends.
    Replicate(Inflights),
}

/// The append on its way to a follower that is probed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    last: Index,
    bytes: usize,
    /// The follower was asked for it. Only then a reject of its last entry is about this append: an earlier question
    /// may have named the same entry.
    is_asked_for: bool,
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

    /// What goes on behind `prev` was not sent.
    fn take_back(&mut self, prev: Index) {
        let is_behind =
            |(last, bytes): &(Index, usize)| *last > prev || *last == prev && *bytes == 0;
        while let Some((_, bytes)) = self.appends.pop_back_if(|append| is_behind(append)) {
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
            state: State::Probe { sent: None },
            confirmed: false,
            connected: true,
            has_room: true,
            fetching: false,
            lacks_floor: false,
            paused_since: None,
            awaited_since: None,
            is_to_be_asked: false,
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
        ensure!(
            !self.has_sent() || self.awaited_since.is_some(),
            "progress: a reply is awaited, and no time is set: {self:?}"
        );
        Ok(())
    }

    /// Whether an append is on its way.
    fn has_sent(&self) -> bool {
        match &self.state {
            State::Probe { sent } => sent.is_some(),
            State::Replicate(inflights) => !inflights.appends.is_empty(),
        }
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

    /// Whether entries up to `last` are to be sent to the follower.
    pub(super) fn has_entries(&self, last: Index) -> bool {
        self.next <= last && !self.lacks_floor
    }

    /// Whether there is something to send. A probe goes out even without entries: only its reply shows that nothing was
    /// lost, and that the follower is in no higher term (B09, B33). `tell_commit`: it is to be told of the commit.
    pub(super) fn is_due(&self, last: Index, committed: Index, tell_commit: bool) -> bool {
        let is_probe = matches!(self.state, State::Probe { .. });
        self.has_entries(last) || is_probe || (tell_commit && self.told < committed)
    }

    /// Whether another append may go out.
    pub(super) fn may_send(&self, window: Window) -> bool {
        let free = match &self.state {
            State::Probe { sent } => sent.is_none(),
            State::Replicate(inflights) => !inflights.is_full(window),
        };
        self.is_open() && self.paused_since.is_none() && free
    }

    /// Whether the follower is to be asked now.
    pub(super) fn may_ask(&self) -> bool {
        self.is_to_be_asked && self.is_open()
    }

    /// Whether what is sent goes out, and goes out in order.
    fn is_open(&self) -> bool {
        self.connected && self.has_room && !self.fetching
    }

    /// Whether an append may go out that brings entries from the WAL.
    pub(super) fn may_send_fetched(&self) -> bool {
        self.is_open() && self.paused_since.is_none()
    }

    /// The last entry that was sent, whether it has arrived or not.
    pub(super) fn last_sent(&self) -> Index {
        match &self.state {
            State::Probe { sent: Some(Sent { last, .. }) } => *last,
            _ => self.next.previous(),
        }
    }

    /// An append up to `last` of `bytes` bytes has gone out, and told of `committed`.
    pub(super) fn sent(&mut self, now: Tick, last: Index, bytes: usize, committed: Index) {
        match &mut self.state {
            State::Probe { sent } => *sent = Some(Sent { last, bytes, is_asked_for: false }),
            State::Replicate(inflights) => {
                inflights.add(last, bytes);
                // This assumes that the append arrives. If it does not, the reply to a later append or to a
                // question is a reject.
                self.next = last.next();
            }
        }
        // A follower commits no further than the message shows its log to equal the leader's.
        self.told = self.told.max(committed.min(last));
        self.awaited_since.get_or_insert(now);
        // Its reply tells as much.
        self.is_to_be_asked = false;
    }

    /// A reply is overdue, or may never have been asked for.
    pub(super) fn ask(&mut self, now: Tick) {
        self.is_to_be_asked = true;
        self.awaited_since = Some(now);
    }

    /// The question has gone out: an append without entries behind the last one that was sent. It told of
    /// `committed`.
    pub(super) fn asked(&mut self, now: Tick, committed: Index) {
        self.told = self.told.max(committed.min(self.last_sent()));
        if let State::Probe { sent: Some(sent) } = &mut self.state {
            sent.is_asked_for = true;
        }
        self.awaited_since = Some(now);
        self.is_to_be_asked = false;
    }

    /// An append behind `prev` did not go out, nor did any after it. Nothing is sent until there is room.
    pub(super) fn unsent(&mut self, prev: Index) {
        self.has_room = false;
        // The append may have been to tell of the commit, or to ask: with room the follower is asked.
        self.told = Index(0);
        self.is_to_be_asked = true;
        match &mut self.state {
            State::Probe { sent } if prev == self.next.previous() => *sent = None,
            // It was a question. The append that it asked for is on its way.
            State::Probe { .. } => {}
            State::Replicate(inflights) => {
                inflights.take_back(prev);
                self.next = self.next.min(prev.next()).max(self.matched.next());
            }
        }
        if !self.has_sent() {
            self.awaited_since = None;
        }
    }

    /// The follower's log equals the leader's up to `matched`, durably. Returns whether that is news.
    pub(super) fn advance(&mut self, now: Tick, matched: Index) -> bool {
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        match &mut self.state {
            // The logs match where the probe is: stream from here on, behind what the probe brings.
            State::Probe { sent }
                if self.matched >= self.next.previous() && (news || sent.is_some()) =>
            {
                let mut inflights = Inflights::default();
                self.next = self.matched.next();
                if let Some(Sent { last, bytes, .. }) = sent.filter(|it| it.last > self.matched) {
                    inflights.add(last, bytes);
                    self.next = last.next();
                }
                self.lacks_floor = false;
                self.state = State::Replicate(inflights);
            }
            // A late reply: it says nothing of the probe.
            State::Probe { .. } => {}
            State::Replicate(inflights) => {
                inflights.free(matched);
                self.next = self.next.max(self.matched.next());
            }
        }
        let since = if news { now } else { self.awaited_since.unwrap_or(now) };
        self.awaited_since = self.has_sent().then_some(since);
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
        // once and for ever, but when the reply to the probe is overdue (B39).
        let may_count = prev > self.matched;
        let current = may_count
            && match &self.state {
                // The probe was refused, or the question whether it has arrived.
                State::Probe { sent } => {
                    let is_asked_for = |it: Sent| it.is_asked_for && prev == it.last;
                    prev == self.next.previous() || sent.is_some_and(is_asked_for)
                }
                State::Replicate(_) => true,
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
                    self.pause(now);
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

    /// The entries to send cannot be read, or are of no use to the follower. They are tried again after an election
    /// timeout.
    pub(super) fn pause(&mut self, now: Tick) {
        self.paused_since = Some(now);
    }

    /// Starts over on a new connection: what was sent on the last one may be lost. A stream starts again behind what
    /// is known to match. A probe stays where it was: nothing was streamed to the follower, and starting at the front
    /// could send it the whole log once more.
    pub(super) fn restart(&mut self) {
        self.has_room = true;
        let next = match self.state {
            State::Probe { .. } => self.next,
            State::Replicate(_) => self.matched.next(),
        };
        self.probe(next);
    }

    fn probe(&mut self, next: Index) {
        self.next = next.max(self.matched.next());
        self.told = Index(0);
        self.state = State::Probe { sent: None };
        self.paused_since = None;
        self.awaited_since = None;
        self.is_to_be_asked = false;
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

    /// Entries from the WAL may end before the commit. If the whole commit counted as told, and replies to
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
        assert_eq!((progress.next, progress.has_sent()), (Index(21), false));
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
        progress.unsent(Index(10));
        assert_eq!((progress.next, progress.may_send(WINDOW)), (Index(11), false), "no room");
        progress.restart();
        assert!(progress.may_send(WINDOW), "a new connection has room");
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
            assert_eq!((progress.next, progress.paused_since), (Index(9), Some(Tick(2))));
            progress.paused_since = None;
            assert!(progress.may_send(WINDOW) && progress.lacks_floor, "it is asked again");
            progress.sent(Tick(3), Index(8), 0, Index(0));
            assert!(progress.reject(Tick(4), Index(8), Some(floor), floor), "it cannot go lower");
            assert_eq!((progress.next, progress.may_send(WINDOW)), (Index(9), false));
            progress.paused_since = None;
            progress.sent(Tick(5), Index(8), 0, Index(0));
            progress.advance(Tick(6), Index(8));
            assert!(!progress.lacks_floor && matches!(progress.state, State::Replicate(_)));
        }
    }

    /// What went out before is on its way, and is not sent again.
    #[test]
    fn an_append_that_did_not_go_out_takes_back_only_what_comes_behind_it() {
        let mut progress = replicating();
        for (last, bytes) in [(11, 10), (12, 10), (12, 0), (13, 10), (14, 10)] {
            progress.sent(Tick(3), Index(last), bytes, Index(9));
        }
        // The one to tell of a commit, behind 12, and those after it.
        [12, 12, 13].into_iter().for_each(|prev| progress.unsent(Index(prev)));
        let State::Replicate(inflights) = &progress.state else { panic!("{progress:?}") };
        assert_eq!((inflights.count(), inflights.bytes()), (2, 20));
        assert_eq!((progress.next, progress.told), (Index(13), Index(0)));
        assert!(!progress.may_ask(), "there is no room");
        progress.has_room = true;
        assert!(progress.may_ask(), "the commit is told, if there is nothing to send");
        progress.unsent(Index(10));
        assert_eq!((progress.next, progress.awaited_since), (Index(11), None));
        progress.advance(Tick(4), Index(12));
        progress.unsent(Index(10));
        assert_eq!(progress.next, Index(13), "what is acknowledged has gone out");
    }

    /// The question stands behind the probe that is on its way. If the question does not go out, the probe still is.
    #[test]
    fn a_question_that_did_not_go_out_takes_no_probe_back() {
        let mut progress = Progress::new(Index(10));
        progress.sent(Tick(1), Index(15), 10, Index(0));
        progress.ask(Tick(9));
        assert_eq!(progress.last_sent(), Index(15));
        progress.asked(Tick(9), Index(0));
        progress.unsent(Index(15));
        assert_eq!(progress.last_sent(), Index(15));
        progress.unsent(Index(10));
        assert_eq!((progress.last_sent(), progress.awaited_since), (Index(10), None));
    }

    /// The reply to the probe may be lost. That to the question then shows whether the probe has arrived.
    #[test]
    fn a_reply_to_a_question_counts_for_the_probe_before_it() {
        let asked = || {
            let mut progress = Progress::new(Index(10));
            progress.sent(Tick(1), Index(15), 10, Index(0));
            progress.asked(Tick(9), Index(0));
            progress
        };
        let mut progress = asked();
        assert!(progress.advance(Tick(10), Index(15)));
        assert_eq!((progress.next, progress.has_sent()), (Index(16), false));
        let mut progress = asked();
        assert!(progress.reject(Tick(10), Index(15), Some(Index(10)), Index(0)));
        assert_eq!((progress.next, progress.may_send(WINDOW)), (Index(11), true));
        // It is sent again. A second reject, of an earlier question, says nothing of that.
        progress.sent(Tick(10), Index(15), 10, Index(0));
        assert!(!progress.reject(Tick(11), Index(15), Some(Index(10)), Index(0)));
        assert!(!progress.may_send(WINDOW));
    }

    /// A reply that was late says that the follower holds the entry before the probe. So what the probe brings is
    /// taken, and is not sent again.
    #[test]
    fn a_stream_begins_behind_what_the_probe_brings() {
        let mut progress = Progress::new(Index(10));
        progress.sent(Tick(1), Index(15), 10, Index(0));
        assert!(progress.advance(Tick(2), Index(9)), "it says nothing of the probe");
        assert_eq!((progress.next, progress.last_sent()), (Index(11), Index(15)));
        assert!(progress.advance(Tick(3), Index(12)));
        assert_eq!((progress.next, progress.awaited_since), (Index(16), Some(Tick(3))));
        assert!(progress.reject(Tick(4), Index(15), Some(Index(12)), Index(0)), "if it is lost");
        assert_eq!(progress.next, Index(13));
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
        broken(|progress| progress.awaited_since = None, "a reply is awaited, and no time");
        broken(|progress| inflights(progress).bytes = 29, "30 bytes are on their way");
        broken(
            |progress| inflights(progress).appends.swap(0, 1),
            "appends on their way are out of",
        );
        broken(|progress| progress.next = Index(12), "an append reaches beyond the next to send");
    }
}
