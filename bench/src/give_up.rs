//! Says when a run of a number of operations is given up.
//!
//! The time runs while an operation waits and none succeeds: from the last success, or from the first operation
//! that was sent, or was due, after it. So the pauses of a slow schedule do not count, and no run is given up
//! before the first operation after the last success has had its time-out.

/// The time without a success that a run may have. Times are nanoseconds of the run's clock.
#[derive(Debug)]
pub struct GiveUp {
    after: u64,
    /// When the first operation since the last success was sent.
    first_sent: Option<u64>,
}

impl GiveUp {
    /// A run is given up when operations wait, and none has succeeded for longer than `after`; this is not
    /// shorter than the time-out of an operation.
    pub fn new(after: u64, timeout: u64) -> Self {
        Self { after: after.max(timeout), first_sent: None }
    }

    /// An operation is sent at `now`.
    pub fn sent(&mut self, now: u64) {
        self.first_sent.get_or_insert(now);
    }

    /// An operation has succeeded.
    pub fn succeeded(&mut self) {
        self.first_sent = None;
    }

    /// Whether the run is given up at `now`. `next_at` is when the next operation is meant to start; it counts
    /// if none was sent since the last success, as without a connection.
    pub fn is_due(&self, now: u64, last_success: u64, next_at: u64) -> bool {
        let since = self.first_sent.unwrap_or(next_at).max(last_success);
        now.saturating_sub(since) > self.after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operations at 0, 50 and 100, and each succeeds after one.
    #[test]
    fn the_pauses_of_a_slow_schedule_do_not_count() {
        let mut give_up = GiveUp::new(30, 5);
        let mut last_success = 0;
        for at in [0, 50, 100] {
            assert!(!give_up.is_due(at, last_success, at), "{at}");
            give_up.sent(at);
            assert!(!give_up.is_due(at, last_success, at + 50), "{at}");
            last_success = at + 1;
            give_up.succeeded();
            assert!(!give_up.is_due(at + 49, last_success, at + 50), "{at}");
        }
    }

    #[test]
    fn the_first_operation_that_is_not_answered_has_its_time_and_later_ones_do_not_prolong_it() {
        for (after, timeout) in [(30, 60), (60, 5)] {
            let mut give_up = GiveUp::new(after, timeout);
            give_up.sent(0);
            give_up.succeeded();
            (50..=110).for_each(|at| give_up.sent(at));
            assert!(!give_up.is_due(110, 1, 111));
            assert!(give_up.is_due(111, 1, 111));
        }
    }

    #[test]
    fn what_is_due_and_finds_no_connection_counts_from_the_last_success() {
        let mut give_up = GiveUp::new(30, 5);
        assert!(!give_up.is_due(40, 10, 0));
        assert!(give_up.is_due(41, 10, 0));
        assert!(!give_up.is_due(80, 10, 50) && give_up.is_due(81, 10, 50));
        // What is sent at last has its time.
        give_up.sent(41);
        assert!(!give_up.is_due(71, 10, 0) && give_up.is_due(72, 10, 0));
    }
}
