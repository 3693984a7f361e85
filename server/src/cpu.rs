//! The processor time of this process.

use std::{fs, time::Duration};

/// The processor time that a process has used since its start, over all its threads.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ProcessTimes {
    /// In its own code.
    pub user: Duration,
    /// In the kernel, for it.
    pub system: Duration,
}

/// Of this process, to about 10 ms. `None` when the kernel does not tell, or there is no descriptor to read it with.
pub(crate) fn of_this_process() -> Option<ProcessTimes> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    times(&text, rustix::param::clock_ticks_per_second())
}

/// The times in a line of `/proc/self/stat`, which counts in ticks.
fn times(line: &str, ticks_per_second: u64) -> Option<ProcessTimes> {
    // The name of the program, in brackets, may hold anything: what counts stands behind it.
    let (_, fields) = line.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut next = || {
        let ticks: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_micros(ticks.saturating_mul(1_000_000).checked_div(ticks_per_second)?))
    };
    Some(ProcessTimes { user: next()?, system: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process_stand_behind_its_name_whatever_that_is() {
        let line = "5 (a b) 9) S 1 5 5 0 -1 4194304 100 0 0 0 1234 56 7 8 20 0 3 0 100 0 0";
        let expected = ProcessTimes {
            user: Duration::from_millis(12_340),
            system: Duration::from_millis(560),
        };
        assert_eq!(times(line, 100), Some(expected));
        for line in ["", "5 (a", "5 (a) S 1", "5 (a) S 1 5 5 0 -1 4194304 100 0 0 0 x 56"] {
            assert_eq!(times(line, 100), None, "{line}");
        }
        assert_eq!(times(line, 0), None);
    }

    #[test]
    fn this_process_has_used_time_once_it_has_worked() {
        let enough = Duration::from_millis(20);
        let has_worked = |_: &u64| {
            let ProcessTimes { user, system } = of_this_process().expect("the kernel tells");
            user + system >= enough
        };
        assert!((0..10_000_000).any(|round| has_worked(&std::hint::black_box(round))));
    }
}
