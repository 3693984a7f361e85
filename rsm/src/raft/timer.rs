//! The election timer: it runs for a random time, runs longer after failed campaigns, and stands still while a
//! campaign could lead to nothing.

use super::check::{Checked, ensure};
use crate::{random::SplitMix, types::Tick};
use std::ops::Range;

/// Says when a replica that hears of no leader campaigns (Raft paper 5.2).
#[derive(Debug)]
pub(super) struct ElectionTimer {
    /// The range of the timeout, in ticks.
    timeout: Range<u64>,
    deadline: Option<Tick>,
    /// The timer was due while a promise waited for the disk; see [`ElectionTimer::stand_still`].
    standing: bool,
    /// How many campaigns for votes in a row led to no leader. Each but the first doubles the timeout, until it is
    /// eight times as long. If a disk takes longer than a timeout, votes would otherwise always be stale before they
    /// leave (safety A1). The first costs nothing yet: when a network is back after a cut, the late grants of all
    /// pre-votes arrive at once, all ask for votes at once, and nobody wins.
    failures: u32,
    /// It was due, and a fitter replica was given time; see [`ElectionTimer::defer`].
    deferred: Deferred,
    /// Until this tick nothing is due, and no vote is given. `None` once the replica may vote.
    abstains_until: Option<Tick>,
    random: SplitMix,
}

const FAILURES_MAX: u32 = 4;

/// Whether the timer has given time to a fitter replica since there was a leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deferred {
    No,
    /// It gives time now.
    Now,
    /// It has given time, and gives no more.
    Over,
}

impl ElectionTimer {
    /// A timer that is not armed. `seed` must differ from node to node and from group to group.
    pub(super) fn new(timeout: Range<u64>, abstains_until: Option<Tick>, seed: u64) -> Self {
        assert!(
            timeout.start > 0 && timeout.start < timeout.end,
            "an election timeout of {timeout:?} ticks"
        );
        Self {
            timeout,
            deadline: None,
            standing: false,
            failures: 0,
            deferred: Deferred::No,
            abstains_until,
            random: SplitMix::new(seed),
        }
    }

    /// What is always true of the timer. Names what is not.
    pub(super) fn check(&self) -> Checked {
        ensure!(
            self.failures <= FAILURES_MAX,
            "timer: {} failed campaigns are counted, {FAILURES_MAX} at most",
            self.failures
        );
        ensure!(
            !self.standing || self.deadline.is_none(),
            "timer: it stands still, and is due at {:?}",
            self.deadline
        );
        Ok(())
    }

    /// Whether it neither runs nor stands still until it may run on.
    pub(super) fn is_stopped(&self) -> bool {
        self.deadline.is_none() && !self.standing
    }

    /// Whether it waits until a promise is kept.
    pub(super) fn is_standing(&self) -> bool {
        self.standing
    }

    /// When it is due.
    pub(super) fn deadline(&self) -> Option<Tick> {
        self.deadline.map(|deadline| deadline.max(self.abstains_until.unwrap_or(deadline)))
    }

    /// Whether this replica takes no part in elections yet (safety I4). This ends at its tick even without a
    /// timer: a replica that is vouched for votes again too.
    pub(super) fn abstains(&self, now: Tick) -> bool {
        self.abstains_until.is_some_and(|until| now < until)
    }

    /// There is no reason to abstain any more.
    pub(super) fn trust(&mut self) {
        self.abstains_until = None;
    }

    /// The shortest time without a leader after which a replica campaigns, in ticks.
    pub(super) fn shortest(&self) -> u64 {
        self.timeout.start
    }

    /// Whether it is due.
    pub(super) fn is_due(&self, now: Tick) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Starts over with a random timeout.
    pub(super) fn arm(&mut self, now: Tick) {
        let doublings = self.failures.saturating_sub(1);
        let (shortest, longest) = (self.timeout.start << doublings, self.timeout.end << doublings);
        let after = shortest + self.random.draw() % (longest - shortest);
        self.set(now.0 + after);
    }

    /// Starts over with the random part of the timeout only. The leader has been silent for the fixed part
    /// already.
    pub(super) fn arm_late(&mut self, now: Tick) {
        let spread = self.timeout.end - self.timeout.start;
        let after = 1 + self.random.draw() % spread;
        self.set(now.0 + after);
    }

    /// Makes the timer due at once.
    pub(super) fn arm_now(&mut self, now: Tick) {
        self.set(now.0);
    }

    /// Stops: the node of the leader vouches for it, or this replica leads.
    pub(super) fn stop(&mut self) {
        self.deadline = None;
        self.standing = false;
    }

    /// Stands still until [`ElectionTimer::go_on`]. A promise waits for the disk, and a campaign now would make
    /// it stale (safety A1).
    pub(super) fn stand_still(&mut self) {
        self.deadline = None;
        self.standing = true;
    }

    /// The promise is durable.
    pub(super) fn go_on(&mut self, now: Tick) {
        if self.standing {
            self.arm(now);
        }
    }

    /// It is due, and gives a fitter replica `ticks` to campaign first. Returns false if it did so before, since
    /// there was a leader.
    pub(super) fn defer(&mut self, now: Tick, ticks: u64) -> bool {
        if self.deferred != Deferred::No {
            self.deferred = Deferred::Over;
            return false;
        }
        self.set(now.0 + ticks);
        self.deferred = Deferred::Now;
        true
    }

    /// Whether it gives a fitter replica time just now.
    pub(super) fn is_deferred(&self) -> bool {
        self.deferred == Deferred::Now
    }

    /// There is no reason to give a fitter replica time any more: it runs for the random part of the timeout.
    pub(super) fn hurry(&mut self, now: Tick) {
        let before = self.deadline;
        if before.is_some() {
            self.arm_late(now);
            self.deadline = self.deadline.min(before);
        }
        self.deferred = Deferred::Over;
    }

    /// A campaign for votes led to no leader.
    pub(super) fn failed(&mut self) {
        self.failures = (self.failures + 1).min(FAILURES_MAX);
    }

    /// There is a leader.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.deferred = Deferred::No;
    }

    fn set(&mut self, at: u64) {
        self.deadline = Some(Tick(at));
        self.standing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_in_range_and_back_off_within_a_bound() {
        let mut timer = ElectionTimer::new(50..100, None, 1);
        for doublings in [0, 0, 1, 2, 3, 3, 3] {
            for _ in 0..100 {
                timer.arm(Tick(1000));
                let after = timer.deadline().expect("armed").0 - 1000;
                assert!(
                    (50 << doublings..100 << doublings).contains(&after),
                    "{after} after {doublings} doublings"
                );
            }
            timer.failed();
        }
        timer.succeeded();
        timer.arm(Tick(0));
        assert!(timer.deadline().expect("armed") < Tick(100));
    }

    #[test]
    fn a_timer_that_stands_still_is_never_due_until_it_goes_on() {
        let mut timer = ElectionTimer::new(50..100, None, 1);
        timer.arm(Tick(0));
        timer.stand_still();
        assert!(!timer.is_due(Tick(1_000_000)));
        timer.go_on(Tick(1_000_000));
        assert!(timer.deadline().expect("armed again") >= Tick(1_000_050));
        timer.stop();
        timer.go_on(Tick(2_000_000));
        assert_eq!(timer.deadline(), None, "a stopped timer is not one that stands still");
    }

    #[test]
    fn a_fitter_replica_is_given_time_once_for_each_leader() {
        let mut timer = ElectionTimer::new(50..100, None, 1);
        assert!(timer.defer(Tick(10), 200) && timer.is_deferred());
        assert_eq!(timer.deadline(), Some(Tick(210)));
        assert!(!timer.defer(Tick(210), 200) && !timer.is_deferred(), "once");
        timer.succeeded();
        assert!(timer.defer(Tick(300), 200), "there was a leader");
        timer.hurry(Tick(310));
        assert!(timer.deadline().expect("armed") <= Tick(360) && !timer.is_deferred());
        timer.succeeded();
        assert!(timer.defer(Tick(400), 5));
        timer.hurry(Tick(401));
        assert!(timer.deadline().expect("armed") <= Tick(405), "never later than before");
    }

    #[test]
    fn each_broken_invariant_is_named() {
        let timer = || ElectionTimer::new(50..100, None, 1);
        assert_eq!(timer().check(), Ok(()));
        let broken = |timer: ElectionTimer| timer.check().expect_err("it is broken");
        let violation = broken(ElectionTimer { failures: 5, ..timer() });
        assert!(violation.starts_with("timer: 5 failed campaigns"), "{violation}");
        let deadline = Some(Tick(7));
        let violation = broken(ElectionTimer { standing: true, deadline, ..timer() });
        assert!(violation.starts_with("timer: it stands still, and is due at Some(7)"));
    }

    #[test]
    #[should_panic(expected = "an election timeout of 50..50 ticks")]
    fn an_empty_range_of_timeouts_panics() {
        ElectionTimer::new(50..50, None, 1);
    }
}
