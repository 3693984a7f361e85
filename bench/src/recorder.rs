//! Counts every operation of a run.
//!
//! The *intended* time of an operation decides whether it belongs to the measured part. An
//! operation intended during the warm-up shows in the lines of the seconds and nowhere else. How
//! each result counts:
//!
//! | outcome | percentiles | counted as |
//! | --- | --- | --- |
//! | done | yes | success |
//! | refused (error reply) | no: a server that refuses fast would look fast | error, by first word |
//! | no answer in time | yes, with the time waited | timeout |
//! | connection ended | yes, with the time waited | lost |
//! | no server of its slot reached in time (cluster) | yes, with the time waited | timeout, outcome known |
//! | never sent before the end (open loop) | yes, with the time waited | unsent |
//!
//! A write that timed out, was lost, or got the reply `-UNKNOWN` may have been applied or not: it
//! is counted once more as an unknown outcome. Memory is bounded: two histograms, and a fixed
//! number of classes of errors and of seconds.
//!
//! In a run that is checked, the notes for the check ([`Notes`]) are told each outcome too, also in the warm-up.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::check::notes::{Notes, Told};
use crate::exchange::Operation;
use crate::reply::Held;

/// Latencies are kept between 1 µs and 60 s, to three digits. A longer latency counts as 60 s.
const LATENCY_MIN_NANOS: u64 = 1_000;
const LATENCY_MAX_NANOS: u64 = 60_000_000_000;
/// Further classes are counted as `other`.
const CLASSES_MAX: usize = 64;
/// Seconds that are kept for the report.
const SECONDS_MAX: usize = 24 * 3600;
/// What is shorter is the rest of a run, and no second.
const REST_NANOS: u64 = 100_000_000;
const SAMPLE_BYTES: usize = 200;
const WORD_BYTES: usize = 32;
const OTHER: &str = "other";

/// An empty histogram with the bounds of this crate, in nanoseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_MIN_NANOS, LATENCY_MAX_NANOS, 3)
        .expect("the bounds are constants")
}

/// One class of error replies.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ErrorClass {
    /// How many replies began with this word.
    pub count: u64,
    /// The first of them, cut at 200 bytes.
    pub sample: String,
}

/// What happened to the measured operations.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Operations done.
    pub succeeded: u64,
    /// Operations done before the measured time ended. The rate counts these.
    pub succeeded_in_time: u64,
    /// Reads among them that found nothing.
    pub misses: u64,
    /// Operations refused by an error reply.
    pub refused: u64,
    /// Operations in flight when their connection ended.
    pub lost: u64,
    /// Operations not answered in time.
    pub timed_out: u64,
    /// How often a server of a cluster has sent an operation elsewhere. The operation goes on.
    pub redirected: u64,
    /// Operations that were due and not sent before the run ended.
    pub unsent: u64,
    /// Writes that may or may not have been applied.
    pub unknown: u64,
    /// Error replies by their first word.
    pub errors: BTreeMap<String, ErrorClass>,
    /// Connections that ended, and attempts that failed, during the measured time.
    pub connections_lost: u64,
    /// Attempts to connect that failed.
    pub connects_failed: u64,
    /// Connections that could not be made before the run began.
    pub unreached: u64,
    /// The last reason why a connection ended or an attempt failed.
    pub last_connection_error: Option<String>,
}

impl Totals {
    /// Operations that were intended in the measured time.
    pub fn due(&self) -> u64 {
        self.succeeded + self.refused + self.lost + self.timed_out + self.unsent
    }
}

/// One second of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// Where it ended, in seconds since the start of the run.
    pub at: f64,
    /// Successes a second.
    pub rate: f64,
    /// Median latency, in nanoseconds, of the operations that ended in this second.
    pub p50_nanos: u64,
    /// 99th percentile.
    pub p99_nanos: u64,
    /// The longest.
    pub max_nanos: u64,
    /// Refused, lost and timed out.
    pub errors: u64,
    /// Operations due and not sent at its end (open loop).
    pub backlog: u64,
    /// Whether the second belongs to the warm-up.
    pub is_warmup: bool,
    /// Whether it is the short rest behind the last second. Its rate says nothing, so it has no line.
    #[serde(skip)]
    pub is_rest: bool,
}

/// What is told of each second: its figures, and the latencies of the operations that ended in it.
pub type OnSecond<'a> = dyn FnMut(&Second, &Histogram<u64>) + 'a;

/// The longest time without a success.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Gap {
    /// How long, in nanoseconds.
    pub nanos: u64,
    /// When it began, in nanoseconds since the start of the run.
    pub from_nanos: u64,
}

/// Counts operations. All times are nanoseconds since the start of the run.
pub struct Recorder {
    /// Operations intended before this time do not count.
    measured_from: u64,
    /// Whether service times are recorded apart. In a closed loop the service time is the latency.
    is_open_loop: bool,
    /// When the measured time ended. Successes after it do not count for the rate.
    closed_at: Option<u64>,
    latency: Histogram<u64>,
    service: Histogram<u64>,
    totals: Totals,
    /// Operations done at any time, those of the warm-up too.
    succeeded_ever: u64,
    /// Operations done within the measured time, whenever they were intended.
    succeeded_within: u64,
    gap: Gap,
    last_success: u64,
    second: SecondSoFar,
    seconds: Vec<Second>,
    /// For a run that is checked.
    pub notes: Option<Notes>,
}

struct SecondSoFar {
    since: u64,
    latency: Histogram<u64>,
    succeeded: u64,
    errors: u64,
}

impl Recorder {
    /// A recorder for operations intended at `measured_from` or later.
    pub fn new(measured_from: u64, is_open_loop: bool) -> Self {
        Self {
            measured_from,
            is_open_loop,
            closed_at: None,
            latency: histogram(),
            service: histogram(),
            totals: Totals::default(),
            succeeded_ever: 0,
            succeeded_within: 0,
            gap: Gap::default(),
            last_success: measured_from,
            second: SecondSoFar { since: 0, latency: histogram(), succeeded: 0, errors: 0 },
            seconds: Vec::new(),
            notes: None,
        }
    }

    /// The run begins with this many connections missing. Failures before it are not part of the
    /// run.
    pub fn begin(&mut self, unreached: usize) {
        self.totals.unreached = unreached as u64;
        self.totals.connections_lost = 0;
        self.totals.connects_failed = 0;
    }

    /// `operation` was done at `now`, and its reply held this; a read may have found nothing.
    pub fn success(&mut self, operation: &Operation, now: u64, held: Held) {
        self.note(operation, Told::Done(held), now);
        self.second.succeeded += 1;
        self.succeeded_ever += 1;
        let is_within = now >= self.measured_from && self.closed_at.is_none_or(|end| now <= end);
        self.succeeded_within += u64::from(is_within);
        self.time(operation, now);
        self.see_service(now);
        if self.counts(operation.intended) {
            self.totals.succeeded += 1;
            self.totals.succeeded_in_time += u64::from(self.closed_at.is_none_or(|end| now <= end));
            self.totals.misses += u64::from(held == Held::Nil && !operation.request.is_write);
        }
    }

    /// `operation` was refused with `text` at `now`.
    pub fn refused(&mut self, operation: &Operation, text: &[u8], now: u64) {
        self.second.errors += 1;
        let is_unknown = text == b"UNKNOWN" || text.starts_with(b"UNKNOWN ");
        self.note(operation, if is_unknown { Told::Unknown } else { Told::NotApplied }, now);
        if !self.counts(operation.intended) {
            return;
        }
        self.totals.refused += 1;
        let text = String::from_utf8_lossy(text);
        let word = text.split(' ').next().unwrap_or_default();
        self.totals.unknown += u64::from(is_unknown && operation.request.is_write);
        self.count_class(word, &text);
    }

    /// The connection of `operation` ended at `now`.
    pub fn lost(&mut self, operation: &Operation, now: u64) {
        self.unanswered(operation, now);
        self.totals.lost += u64::from(self.counts(operation.intended));
    }

    /// `operation` was given up at `now`.
    pub fn timed_out(&mut self, operation: &Operation, now: u64) {
        self.unanswered(operation, now);
        self.totals.timed_out += u64::from(self.counts(operation.intended));
    }

    /// `operation` was given up at `now`, before any server took it. So it was certainly not applied.
    pub fn never_taken(&mut self, operation: &Operation, now: u64) {
        self.note(operation, Told::NotApplied, now);
        self.second.errors += 1;
        self.time(operation, now);
        self.totals.timed_out += u64::from(self.counts(operation.intended));
    }

    /// `operation` was sent elsewhere by its server, and goes on.
    pub fn redirected(&mut self, operation: &Operation) {
        self.totals.redirected += u64::from(self.counts(operation.intended));
    }

    /// An operation meant for `intended` was not sent when the run ended at `now`.
    pub fn unsent(&mut self, intended: u64, now: u64) {
        if self.counts(intended) {
            self.totals.unsent += 1;
            self.latency.saturating_record(now.saturating_sub(intended));
        }
    }

    /// A connection ended at `now`, and why.
    pub fn connection_lost(&mut self, now: u64, why: String) {
        self.totals.connections_lost += u64::from(self.counts(now));
        self.totals.last_connection_error = Some(why);
    }

    /// An attempt to connect failed at `now`, and why.
    pub fn connect_failed(&mut self, now: u64, why: String) {
        self.totals.connects_failed += u64::from(self.counts(now));
        self.totals.last_connection_error = Some(why);
    }

    /// Ends the current second at `now`, and tells `on_second` of it.
    pub fn end_second(&mut self, now: u64, backlog: u64, on_second: &mut OnSecond<'_>) {
        let length = now.saturating_sub(self.second.since).max(1) as f64 / 1e9;
        let second = Second {
            at: now as f64 / 1e9,
            rate: self.second.succeeded as f64 / length,
            p50_nanos: self.second.latency.value_at_quantile(0.50),
            p99_nanos: self.second.latency.value_at_quantile(0.99),
            max_nanos: longest(&self.second.latency),
            errors: self.second.errors,
            backlog,
            is_warmup: self.second.since < self.measured_from,
            is_rest: now < self.second.since + REST_NANOS,
        };
        on_second(&second, &self.second.latency);
        self.second.latency.reset();
        (self.second.since, self.second.succeeded, self.second.errors) = (now, 0, 0);
        if self.seconds.len() < SECONDS_MAX && !second.is_rest {
            self.seconds.push(second);
        }
    }

    /// Whether anything ended in the current second.
    pub fn has_second(&self) -> bool {
        self.second.succeeded + self.second.errors > 0
    }

    /// Ends the measured time. Answers to what was sent before may still come.
    pub fn close(&mut self, now: u64) {
        if self.closed_at.is_none() {
            self.see_service(now);
            self.closed_at = Some(now);
        }
    }

    /// The measured time in nanoseconds; 0 if it never began.
    pub fn measured_nanos(&self) -> u64 {
        self.closed_at.unwrap_or(self.measured_from).saturating_sub(self.measured_from)
    }

    /// What happened to the measured operations.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Operations done at any time, those of the warm-up too.
    pub fn succeeded_ever(&self) -> u64 {
        self.succeeded_ever
    }

    /// Operations done within the measured time, whenever they were intended. What is under way at its end and at its
    /// start weighs the same here, so this says whether a server keeps up.
    pub fn succeeded_within(&self) -> u64 {
        self.succeeded_within
    }

    /// Latencies from the intended time, in nanoseconds.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Service times, from the actual time of sending, in nanoseconds.
    pub fn service(&self) -> &Histogram<u64> {
        &self.service
    }

    /// The longest measured time without a success.
    pub fn gap(&self) -> Gap {
        self.gap
    }

    /// When the last measured success came; the start of the measurement before there was one.
    pub fn last_success(&self) -> u64 {
        self.last_success
    }

    /// The seconds of the run, up to a day of them.
    pub fn seconds(&self) -> &[Second] {
        &self.seconds
    }

    /// What nobody tells stays in doubt.
    fn note(&mut self, operation: &Operation, told: Told, now: u64) {
        if let (Some(notes), Some(place)) = (&mut self.notes, operation.noted) {
            notes.tell(place, told, now);
        }
    }

    fn counts(&self, intended: u64) -> bool {
        intended >= self.measured_from
    }

    fn time(&mut self, operation: &Operation, now: u64) {
        let latency = now.saturating_sub(operation.intended);
        self.second.latency.saturating_record(latency);
        if self.counts(operation.intended) {
            self.latency.saturating_record(latency);
            if self.is_open_loop {
                self.service.saturating_record(now.saturating_sub(operation.sent));
            }
        }
    }

    fn unanswered(&mut self, operation: &Operation, now: u64) {
        self.second.errors += 1;
        self.time(operation, now);
        self.totals.unknown +=
            u64::from(operation.request.is_write && self.counts(operation.intended));
    }

    /// A success at `now`, or the end, closes a time without one.
    fn see_service(&mut self, now: u64) {
        if now < self.measured_from || self.closed_at.is_some() {
            return;
        }
        let nanos = now.saturating_sub(self.last_success);
        if nanos > self.gap.nanos {
            self.gap = Gap { nanos, from_nanos: self.last_success };
        }
        self.last_success = now;
    }

    fn count_class(&mut self, word: &str, text: &str) {
        let word = &cut(word, WORD_BYTES);
        let errors = &mut self.totals.errors;
        let is_known = errors.contains_key(word) || errors.len() < CLASSES_MAX;
        let class = errors.entry(if is_known { word } else { OTHER }.to_owned()).or_default();
        if class.count == 0 {
            class.sample = cut(text, SAMPLE_BYTES);
        }
        class.count += 1;
    }
}

/// The highest value; the library gives the width of its first bucket for an empty histogram.
pub fn longest(histogram: &Histogram<u64>) -> u64 {
    if histogram.is_empty() { 0 } else { histogram.max() }
}

fn cut(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Request;

    const MS: u64 = 1_000_000;

    fn write(intended: u64, sent: u64) -> Operation {
        let request = Request { is_write: true, ..Request::default() };
        Operation { intended, sent, request, ..Operation::default() }
    }

    #[test]
    fn the_warm_up_shows_in_the_seconds_only() {
        let mut recorder = Recorder::new(1_000 * MS, false);
        recorder.success(&write(10 * MS, 10 * MS), 12 * MS, Held::Other);
        recorder.lost(&write(999 * MS, 999 * MS), 1_500 * MS);
        assert_eq!(
            recorder.totals().succeeded + recorder.totals().lost + recorder.totals().unknown,
            0
        );
        assert_eq!((recorder.latency().len(), recorder.succeeded_ever()), (0, 1));
        // What the warm-up began and the measured time ended is work of the measured time.
        assert_eq!(recorder.succeeded_within(), 0);
        recorder.success(&write(990 * MS, 990 * MS), 1_000 * MS, Held::Other);
        assert_eq!((recorder.succeeded_within(), recorder.totals().succeeded), (1, 0));
        // A second ends a little late.
        let mut lengths = Vec::new();
        let mut on_second = |_: &Second, latency: &Histogram<u64>| lengths.push(latency.len());
        recorder.end_second(1_000 * MS + 1, 0, &mut on_second);
        recorder.end_second(2_000 * MS + 2, 0, &mut on_second);
        let second = &recorder.seconds()[0];
        assert_eq!((second.rate.round(), second.errors, second.is_warmup), (2.0, 1, true));
        assert!(!recorder.seconds()[1].is_warmup);
        assert_eq!(lengths, [3, 0]);
        // The rest of a run is told, and is no second.
        recorder.success(&write(2_000 * MS, 2_000 * MS), 2_003 * MS, Held::Other);
        let mut is_rest = false;
        recorder.end_second(2_004 * MS, 0, &mut |second: &Second, _: &_| is_rest = second.is_rest);
        assert!(is_rest && recorder.seconds().len() == 2);
    }

    #[test]
    fn each_outcome_is_counted_where_it_belongs() {
        let mut recorder = Recorder::new(0, true);
        let read = Operation { intended: 0, sent: MS, ..Operation::default() };
        recorder.success(&read, 2 * MS, Held::Nil);
        recorder.refused(&write(0, 0), b"CLUSTERDOWN group 17 has no leader", 0);
        recorder.refused(&write(0, 0), b"UNKNOWN outcome", 0);
        recorder.refused(&read, b"UNKNOWN outcome", 0);
        recorder.lost(&write(0, 0), 3 * MS);
        recorder.lost(&read, 3 * MS);
        recorder.timed_out(&write(0, 0), 5_000 * MS);
        recorder.unsent(0, 7_000 * MS);
        let totals = recorder.totals();
        assert_eq!((totals.succeeded, totals.misses, totals.refused), (1, 1, 3));
        assert_eq!((totals.lost, totals.timed_out, totals.unsent, totals.unknown), (2, 1, 1, 3));
        assert_eq!(totals.due(), 8);
        assert_eq!(totals.errors["CLUSTERDOWN"].sample, "CLUSTERDOWN group 17 has no leader");
        assert_eq!(totals.errors["UNKNOWN"].count, 2);
        // Refusals have no latency; what was never answered has the time it waited.
        assert_eq!((recorder.latency().len(), recorder.service().len()), (5, 4));
        assert!(recorder.latency().max() >= 6_990 * MS);
    }

    #[test]
    fn classes_of_errors_are_bounded_in_number_and_length() {
        let mut recorder = Recorder::new(0, false);
        for number in 0..200 {
            let text = format!("{number}{}", "x".repeat(500));
            recorder.refused(&write(0, 0), text.as_bytes(), 0);
        }
        let errors = &recorder.totals().errors;
        assert_eq!(errors.len(), CLASSES_MAX + 1);
        assert_eq!(errors[OTHER].count, 200 - CLASSES_MAX as u64);
        assert!(errors.iter().all(|(word, class)| word.len() <= WORD_BYTES && class.sample.len() <= SAMPLE_BYTES));
    }

    #[test]
    fn the_gap_is_the_longest_time_without_a_success_ends_included() {
        let mut recorder = Recorder::new(100 * MS, false);
        recorder.success(&write(0, 0), 90 * MS, Held::Other);
        for at in [150, 160, 460, 470] {
            recorder.success(&write(100 * MS, 100 * MS), at * MS, Held::Other);
        }
        assert_eq!((recorder.gap().nanos, recorder.gap().from_nanos), (300 * MS, 160 * MS));
        recorder.close(2_000 * MS);
        assert_eq!((recorder.gap().nanos, recorder.gap().from_nanos), (1_530 * MS, 470 * MS));
        recorder.success(&write(100 * MS, 100 * MS), 9_000 * MS, Held::Other);
        assert_eq!(recorder.gap().nanos, 1_530 * MS);
        assert_eq!((recorder.totals().succeeded, recorder.totals().succeeded_in_time), (5, 4));
        assert_eq!(recorder.measured_nanos(), 1_900 * MS);
    }

    #[test]
    fn a_latency_beyond_the_bounds_is_kept_as_the_longest() {
        let mut recorder = Recorder::new(0, false);
        recorder.timed_out(&write(0, 0), 600_000 * MS);
        assert_eq!(recorder.latency().len(), 1);
        assert!(recorder.latency().max() >= 60_000 * MS);
    }
}
