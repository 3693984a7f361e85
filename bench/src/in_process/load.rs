//! The load on one shard: a task on its core, which keeps a number of commands under way.
//!
//! A command that has ended is followed by the next one, to the next group in turn. The times of one turn are one look
//! at the clock: all outcomes that the shard hands out at once have the same time, and so have the commands that
//! follow them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use bytes::Bytes;
use hdrhistogram::Histogram;
use purlin::os::OsRuntime;
use purlin::{Caller, Completion, GroupId, LocalShard, Outcome, Request, RequestError, Runtime};

use super::options::InProcessError;
use crate::recorder::histogram;

/// Further classes of errors are counted as `other`.
const CLASSES_MAX: usize = 16;

/// What part of the run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Commands run, and none is counted.
    WarmUp,
    /// Outcomes are counted.
    Measured,
    /// No new command; what is under way ends.
    Ending,
}

/// Tells all shards the part of the run. A clone is another handle.
#[derive(Clone, Default)]
pub struct Phases(Arc<AtomicU8>);

impl Phases {
    /// From now on it is this one. Returns the time.
    pub fn enter(&self, phase: Phase) -> Instant {
        self.0.store(phase as u8, Ordering::Relaxed);
        Instant::now()
    }

    fn now(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::WarmUp,
            1 => Phase::Measured,
            _ => Phase::Ending,
        }
    }
}

/// What came of the commands of a shard, or of all.
#[derive(Debug)]
pub struct Counted {
    /// Commands acknowledged in the measured time.
    pub acknowledged: u64,
    /// Commands acknowledged at any time.
    pub acknowledged_ever: u64,
    /// Commands that may have been applied or not, at any time.
    pub unknown: u64,
    /// Commands that were certainly not applied, or whose outcome is unknown, at any time, by their text.
    pub errors: BTreeMap<String, u64>,
    /// Latencies of those that were acknowledged in the measured time, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            acknowledged: 0,
            acknowledged_ever: 0,
            unknown: 0,
            errors: BTreeMap::new(),
            latency: histogram(),
        }
    }
}

impl Counted {
    fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.acknowledged_ever += other.acknowledged_ever;
        self.unknown += other.unknown;
        other.errors.iter().for_each(|(text, count)| self.count_errors(text, *count));
        self.latency.add(&other.latency).expect("the bounds are equal");
    }

    fn failed(&mut self, error: &RequestError) {
        self.unknown += u64::from(!error.is_definitely_not_applied());
        // Without its numbers, so that equal errors are one class.
        let text = error.to_string();
        let class = text.split_once(|sign: char| sign.is_ascii_digit()).map_or(&*text, |it| it.0);
        self.count_errors(class.trim_end(), 1);
    }

    fn count_errors(&mut self, class: &str, count: u64) {
        let is_known = self.errors.contains_key(class) || self.errors.len() < CLASSES_MAX;
        *self.errors.entry(if is_known { class } else { "other" }.to_owned()).or_default() += count;
    }
}

/// What the shards count, when their loads have ended.
pub struct Ended {
    /// One result of each shard.
    pub receiver: Receiver<Counted>,
    /// Shards with a load.
    pub shards: usize,
}

impl Ended {
    /// Waits for all shards. Each command ends by its deadline, and so does this.
    ///
    /// # Errors
    /// A shard has stopped.
    pub fn collect(&self) -> Result<Counted, InProcessError> {
        let mut all = Counted::default();
        for _ in 0..self.shards {
            let counted = self.receiver.recv().map_err(|_| InProcessError::Failed {
                what: "a shard has stopped before its commands ended".to_owned(),
                place: "the three hosts of this process".to_owned(),
            })?;
            all.add(&counted);
        }
        Ok(all)
    }
}

/// No load runs, so none ends.
pub fn tell_nobody() -> (Sender<Counted>, Ended) {
    let (sender, receiver) = channel();
    (sender, Ended { receiver, shards: 0 })
}

/// What a shard is given to do.
pub struct ShardLoad {
    /// The groups that it leads.
    pub groups: Vec<GroupId>,
    /// Commands under way.
    pub under_way: usize,
    /// Bytes of a command.
    pub value_bytes: usize,
    /// The parts of the run.
    pub phases: Phases,
    /// Takes the result.
    pub ended: Sender<Counted>,
}

impl ShardLoad {
    /// Runs on the core of the shard until the run is ending.
    pub fn spawn(self, local: LocalShard<OsRuntime>) {
        let runtime = local.runtime().clone();
        let load = async move {
            let counted = Turns::new(&self, &local).run().await;
            // Nobody waits any more when the run was interrupted.
            drop(self.ended.send(counted));
        };
        runtime.spawn(load);
    }
}

/// The load while it runs.
struct Turns<'a> {
    load: &'a ShardLoad,
    runtime: &'a OsRuntime,
    caller: std::rc::Rc<Caller>,
    /// The group of the next command, by its place among those that the shard leads.
    next: usize,
    /// When each command under way was handed in. The tag of a command is its place here.
    handed_in: Vec<Instant>,
    under_way: usize,
    value: Vec<u8>,
    counted: Counted,
}

impl<'a> Turns<'a> {
    fn new(load: &'a ShardLoad, local: &'a LocalShard<OsRuntime>) -> Self {
        Self {
            load,
            runtime: local.runtime(),
            caller: local.caller(),
            next: 0,
            handed_in: vec![Instant::now(); load.under_way],
            under_way: 0,
            value: vec![b'v'; load.value_bytes],
            counted: Counted::default(),
        }
    }

    async fn run(mut self) -> Counted {
        let now = Instant::now();
        (0..self.load.under_way).for_each(|tag| self.hand_in(tag as u64, now));
        let mut completions = Vec::new();
        while self.under_way > 0 {
            self.caller.completed().await;
            self.caller.take_completions(&mut completions);
            if self.turn(&mut completions) {
                // A refusal comes at once: the loop of the shard needs the core to make room.
                self.runtime.yield_now().await;
            }
        }
        self.counted
    }

    /// Counts what has ended, and hands in as much. Returns whether a command was not acknowledged.
    fn turn(&mut self, completions: &mut Vec<Completion>) -> bool {
        let (now, phase) = (Instant::now(), self.load.phases.now());
        let mut has_failed = false;
        for Completion { tag, outcome } in completions.drain(..) {
            self.under_way -= 1;
            has_failed |= outcome.is_err();
            self.count(tag, &outcome, now, phase);
            if phase != Phase::Ending {
                self.hand_in(tag, now);
            }
        }
        has_failed
    }

    fn count(&mut self, tag: u64, outcome: &Outcome, now: Instant, phase: Phase) {
        if let Err(error) = outcome {
            return self.counted.failed(error);
        }
        self.counted.acknowledged_ever += 1;
        if phase == Phase::Measured {
            self.counted.acknowledged += 1;
            let nanos = (now - self.handed_in[tag as usize]).as_nanos() as u64;
            self.counted.latency.saturating_record(nanos);
        }
    }

    fn hand_in(&mut self, tag: u64, now: Instant) {
        let group = self.load.groups[self.next];
        self.next = (self.next + 1) % self.load.groups.len();
        self.handed_in[tag as usize] = now;
        self.under_way += 1;
        let command = Bytes::copy_from_slice(&self.value);
        self.caller.submit(group, Request::Propose(command), tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_class_and_told_apart_from_doubt() {
        let mut counted = Counted::default();
        counted.failed(&RequestError::Busy);
        counted.failed(&RequestError::NoLeader { waited_ms: 7 });
        counted.failed(&RequestError::NoLeader { waited_ms: 9 });
        counted.failed(&RequestError::UNKNOWN);
        assert_eq!((counted.unknown, counted.errors.len()), (1, 3));
        let mut sum = Counted::default();
        sum.add(&counted);
        sum.add(&counted);
        assert_eq!(sum.errors.values().sum::<u64>(), 8);
    }

    #[test]
    fn classes_of_errors_are_bounded() {
        let mut counted = Counted::default();
        ('a'..='z').for_each(|class| counted.count_errors(&class.to_string(), 1));
        assert_eq!((counted.errors.len(), counted.errors["other"]), (CLASSES_MAX + 1, 10));
    }
}
