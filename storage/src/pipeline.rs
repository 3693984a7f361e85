//! The order of writes: what waits, what is in flight, what is durable. Pure state, no I/O.
//!
//! A batch or header gets its sequence when it is submitted. Writes start in that order and may end in
//! any order; only the contiguous prefix of durable writes counts (safety W1):
//!
//! ```text
//!   durable      in flight                 queue                 submitted
//!  ────────┤ 12 ✓ 13 written 14 writing ┤ 15 header · 16 · 17 ├────────
//! ```

use crate::{
    batch::Kind,
    invariant::{Violation, holds},
};
use bytes::Bytes;
use purlin_rsm::Sequence;
use std::collections::VecDeque;

/// A write that has its sequence and is not in flight yet.
pub(crate) enum Step {
    /// The header of segment `number`. `urgent`: it may use the reserve (safety W8).
    Header { sequence: Sequence, number: u64, urgent: bool },
    /// A batch.
    Batch { sequence: Sequence, kind: Kind, records: Bytes },
}

impl Step {
    fn sequence(&self) -> Sequence {
        match self {
            Self::Header { sequence, .. } | Self::Batch { sequence, .. } => *sequence,
        }
    }
}

/// Invariant: `recorded <= durable <= submitted`, and sequences in flight and queued ascend from
/// `durable` to `submitted`.
pub(crate) struct Pipeline {
    queue: VecDeque<Step>,
    in_flight: VecDeque<InFlight>,
    /// The contiguous prefix of durable writes.
    durable: Sequence,
    /// The last sequence given out.
    submitted: Sequence,
    /// The highest watermark that a durable batch or header records.
    recorded: Sequence,
    /// The last batch that is not a closing batch.
    payload: Sequence,
    syncing: bool,
}

struct InFlight {
    sequence: Sequence,
    /// The write itself says that everything up to here is durable.
    watermark: Sequence,
    is_header: bool,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Writing,
    /// Written, and not covered by a sync.
    Written,
    /// Written before the sync began that runs now.
    Syncing,
    Durable,
}

impl Pipeline {
    /// Begins behind `durable`. If `durable` is above `recorded`, the difference wants a closing batch.
    pub(crate) fn new(recorded: Sequence, durable: Sequence) -> Self {
        Self {
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            durable,
            submitted: durable,
            recorded,
            payload: durable,
            syncing: false,
        }
    }

    pub(crate) fn durable(&self) -> Sequence {
        self.durable
    }

    pub(crate) fn submitted(&self) -> Sequence {
        self.submitted
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Headers that wait for a segment.
    pub(crate) fn queued_headers(&self) -> usize {
        self.queue.iter().filter(|step| matches!(step, Step::Header { .. })).count()
    }

    /// Gives the header of segment `number` its sequence.
    pub(crate) fn plan_header(&mut self, number: u64, urgent: bool) {
        let sequence = self.next_sequence();
        self.queue.push_back(Step::Header { sequence, number, urgent });
    }

    /// Gives a batch its sequence.
    pub(crate) fn plan_batch(&mut self, kind: Kind, records: Bytes) -> Sequence {
        let sequence = self.next_sequence();
        if kind == Kind::Records {
            self.payload = sequence;
        }
        self.queue.push_back(Step::Batch { sequence, kind, records });
        sequence
    }

    fn next_sequence(&mut self) -> Sequence {
        self.submitted = Sequence(self.submitted.0 + 1);
        self.submitted
    }

    /// The next step, if the rules let it start now.
    pub(crate) fn next(&self, in_flight_max: usize) -> Option<&Step> {
        let step = self.queue.front()?;
        purlin_rsm::sometimes!(
            matches!(step, Step::Header { .. }) && !self.in_flight.is_empty(),
            "header waits for the batches it names"
        );
        let may_start = match step {
            // W2: a header names the last batch before it, so all of them must be durable first.
            Step::Header { .. } => self.in_flight.is_empty(),
            // W2: and a batch follows only a durable header.
            Step::Batch { .. } => {
                self.in_flight.len() < in_flight_max
                    && !self.in_flight.front().is_some_and(|write| write.is_header)
            }
        };
        may_start.then_some(step)
    }

    /// The next step is in flight from now on; it calls everything up to `watermark` durable.
    pub(crate) fn start(&mut self, watermark: Sequence) -> Step {
        let step = self.queue.pop_front().expect("a step was offered");
        let (sequence, is_header) = match &step {
            Step::Header { sequence, .. } => (*sequence, true),
            Step::Batch { sequence, .. } => (*sequence, false),
        };
        assert!(watermark <= self.durable, "{watermark} is not durable, {} is", self.durable);
        self.in_flight.push_back(InFlight {
            sequence,
            watermark,
            is_header,
            stage: Stage::Writing,
        });
        step
    }

    /// A write has completed, and a completed one is durable.
    pub(crate) fn is_durable(&mut self, sequence: Sequence) {
        self.set(sequence, Stage::Durable);
        purlin_rsm::sometimes!(
            self.in_flight.front().is_some_and(|write| write.stage != Stage::Durable),
            "write durable before an older one"
        );
        self.advance();
    }

    /// A write has completed, and needs a sync that begins after this.
    pub(crate) fn is_written(&mut self, sequence: Sequence) {
        self.set(sequence, Stage::Written);
    }

    fn set(&mut self, sequence: Sequence, stage: Stage) {
        let at = self.in_flight.binary_search_by_key(&sequence, |write| write.sequence);
        self.in_flight[at.expect("a write completes once")].stage = stage;
    }

    /// Whether a sync is to begin now: none runs, and something is written.
    pub(crate) fn begin_sync(&mut self) -> bool {
        let written = self.in_flight.iter().any(|write| write.stage == Stage::Written);
        purlin_rsm::sometimes!(self.syncing && written, "written while a sync runs");
        if self.syncing || !written {
            return false;
        }
        self.syncing = true;
        self.restage(Stage::Written, Stage::Syncing);
        true
    }

    /// The sync has completed: it covers what was written when it began, and nothing else.
    pub(crate) fn end_sync(&mut self) {
        self.syncing = false;
        self.restage(Stage::Syncing, Stage::Durable);
        self.advance();
    }

    fn restage(&mut self, from: Stage, to: Stage) {
        for write in self.in_flight.iter_mut().filter(|write| write.stage == from) {
            write.stage = to;
        }
    }

    /// W1: a durable write does not count yet while an older write is not durable.
    fn advance(&mut self) {
        while let Some(write) = self.in_flight.pop_front_if(|write| write.stage == Stage::Durable) {
            self.durable = write.sequence;
            self.recorded = self.recorded.max(write.watermark);
        }
        assert!(
            self.recorded <= self.durable && self.durable <= self.submitted,
            "recorded {}, durable {}, submitted {}",
            self.recorded,
            self.durable,
            self.submitted
        );
    }

    /// W9: whether an acknowledged batch lies above every recorded watermark, and no write is under way
    /// that would record it. A closing batch itself needs no other closing batch.
    pub(crate) fn wants_closing(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty() && self.payload > self.recorded
    }

    /// Checks what is always true of the order of writes.
    pub(crate) fn check(&self, in_flight_max: usize) -> Result<(), Violation> {
        holds(
            self.recorded <= self.durable && self.durable <= self.submitted,
            "the recorded watermark is durable, and the durable watermark is submitted (W1)",
            || {
                let (recorded, durable) = (self.recorded, self.durable);
                format!("recorded {recorded}, durable {durable}, submitted {}", self.submitted)
            },
        )?;
        let started = self.in_flight.iter().map(|write| write.sequence.0);
        let sequences = started.chain(self.queue.iter().map(|step| step.sequence().0));
        holds(
            sequences.clone().eq(self.durable.0 + 1..=self.submitted.0),
            "writes in flight and in the queue have all sequences behind the durable watermark",
            || {
                let sequences: Vec<_> = sequences.clone().collect();
                format!("{sequences:?} behind {}, up to {}", self.durable, self.submitted)
            },
        )?;
        let count = self.in_flight.len();
        holds(count <= in_flight_max, "no more writes are in flight than configured", || {
            format!("{count} are in flight, {in_flight_max} may be")
        })?;
        holds(
            count == 1 || self.in_flight.iter().all(|write| !write.is_header),
            "a header is in flight alone (W2)",
            || format!("{count} are in flight"),
        )?;
        holds(
            self.in_flight.front().is_none_or(|write| write.stage != Stage::Durable),
            "the first write in flight is not durable",
            || format!("it follows {}", self.durable),
        )?;
        let claimed = self.in_flight.iter().map(|write| write.watermark).max();
        holds(
            claimed <= Some(self.durable) || claimed.is_none(),
            "a write in flight calls durable only what is durable (W1)",
            || format!("{claimed:?} is called durable, {} is", self.durable),
        )?;
        holds(
            self.syncing || self.in_flight.iter().all(|write| write.stage != Stage::Syncing),
            "a write is covered by a sync only while one runs",
            || "no sync runs".to_owned(),
        )?;
        holds(self.payload <= self.submitted, "the last payload was submitted", || {
            format!("payload {}, submitted {}", self.payload, self.submitted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(count: u64) -> Pipeline {
        let mut pipeline = Pipeline::new(Sequence(10), Sequence(10));
        for _ in 0..count {
            pipeline.plan_batch(Kind::Records, Bytes::new());
        }
        pipeline
    }

    fn start_all(pipeline: &mut Pipeline) -> usize {
        let before = pipeline.in_flight();
        while pipeline.next(4).is_some() {
            pipeline.start(pipeline.durable());
        }
        pipeline.in_flight() - before
    }

    #[test]
    fn w1_the_watermark_is_the_contiguous_prefix() {
        let mut pipeline = batches(6);
        assert_eq!(start_all(&mut pipeline), 4);
        pipeline.is_durable(Sequence(13));
        pipeline.is_durable(Sequence(12));
        assert_eq!(pipeline.durable(), Sequence(10));
        pipeline.is_durable(Sequence(11));
        assert_eq!(pipeline.durable(), Sequence(13));
        assert_eq!(start_all(&mut pipeline), 2);
    }

    #[test]
    fn w1_a_sync_covers_only_what_was_written_before_it_began() {
        let mut pipeline = batches(3);
        start_all(&mut pipeline);
        pipeline.is_written(Sequence(11));
        assert!(pipeline.begin_sync());
        pipeline.is_written(Sequence(12));
        assert!(!pipeline.begin_sync(), "one sync at a time");
        pipeline.end_sync();
        assert_eq!(pipeline.durable(), Sequence(11));
        assert!(pipeline.begin_sync());
        pipeline.end_sync();
        assert_eq!(pipeline.durable(), Sequence(12));
    }

    #[test]
    fn w2_a_header_waits_for_earlier_batches_and_later_batches_wait_for_it() {
        let mut pipeline = batches(2);
        pipeline.plan_header(2, false);
        pipeline.plan_batch(Kind::Records, Bytes::new());
        assert_eq!(start_all(&mut pipeline), 2);
        pipeline.is_durable(Sequence(12));
        assert!(pipeline.next(4).is_none(), "11 is not durable");
        pipeline.is_durable(Sequence(11));
        assert_eq!(start_all(&mut pipeline), 1, "the header alone");
        assert!(pipeline.next(4).is_none(), "the header is not durable");
        pipeline.is_durable(Sequence(13));
        assert_eq!(start_all(&mut pipeline), 1);
    }

    #[test]
    fn w9_a_closing_batch_is_wanted_only_for_durable_records_above_the_watermark() {
        let mut pipeline = batches(1);
        assert!(!pipeline.wants_closing(), "it is queued");
        start_all(&mut pipeline);
        assert!(!pipeline.wants_closing(), "it is in flight");
        pipeline.is_durable(Sequence(11));
        assert!(pipeline.wants_closing());
        pipeline.plan_batch(Kind::Closing, Bytes::new());
        start_all(&mut pipeline);
        pipeline.is_durable(Sequence(12));
        assert!(!pipeline.wants_closing(), "never for a closing batch");
    }

    #[test]
    fn each_broken_invariant_is_named() {
        let broken = |change: fn(&mut Pipeline)| {
            let mut pipeline = batches(6);
            start_all(&mut pipeline);
            assert_eq!(pipeline.check(4), Ok(()));
            change(&mut pipeline);
            pipeline.check(4).unwrap_err().invariant
        };
        assert_eq!(
            broken(|pipeline| pipeline.recorded = Sequence(11)),
            "the recorded watermark is durable, and the durable watermark is submitted (W1)"
        );
        assert_eq!(
            broken(|pipeline| drop(pipeline.queue.pop_front())),
            "writes in flight and in the queue have all sequences behind the durable watermark"
        );
        assert_eq!(
            broken(|pipeline| drop(pipeline.start(Sequence(10)))),
            "no more writes are in flight than configured"
        );
        assert_eq!(
            broken(|pipeline| pipeline.in_flight[1].is_header = true),
            "a header is in flight alone (W2)"
        );
        assert_eq!(
            broken(|pipeline| pipeline.in_flight[0].stage = Stage::Durable),
            "the first write in flight is not durable"
        );
        assert_eq!(
            broken(|pipeline| pipeline.in_flight[2].watermark = Sequence(11)),
            "a write in flight calls durable only what is durable (W1)"
        );
        assert_eq!(
            broken(|pipeline| pipeline.in_flight[1].stage = Stage::Syncing),
            "a write is covered by a sync only while one runs"
        );
        assert_eq!(
            broken(|pipeline| pipeline.payload = Sequence(17)),
            "the last payload was submitted"
        );
    }
}
