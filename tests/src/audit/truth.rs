//! One shard's WAL as the disk sees it: which writes are durable, and what a start has kept.
//!
//! ```text
//!   base ──────────┤ settled ──────────┤ flight ─────────────►
//!   recorded as    │ durable           │ submitted; the first is not durable
//!   durable (W1)   │ without a gap     │
//!                  └─ what a start may have to write anew: its candidate ─┘
//! ```
//!
//! A start writes what is readable and not proven durable into a new segment. This segment is only
//! a candidate until the shard writes behind it. Before that, a crash leaves the log as it was,
//! with the same content.

use super::replica::{Effect, Replica, Replicas, apply, effect};
use purlin_rsm::{Sequence, Start};
use purlin_storage::inspect::{BatchName, Record, SegmentHeader, WrittenBatch};
use std::collections::VecDeque;

/// See the module.
pub(crate) struct Shard {
    start: Option<Start>,
    segment: u64,
    epoch: u64,
    last_batch: BatchName,
    /// The contiguous prefix of durable writes (safety W1).
    durable: Sequence,
    newest: Sequence,
    /// The highest watermark in that prefix: no start goes back behind it.
    recorded: Sequence,
    flight: VecDeque<Write>,
    settled: VecDeque<Write>,
    base: Replicas,
    log: Replicas,
    candidate: Option<Candidate>,
    /// A start that was killed when all of it was durable, and before the shard wrote or spoke. It counts if the next
    /// start has found it: a power cut or a kill may have come before its file had a segment's name.
    ended: Option<Candidate>,
}

struct Write {
    sequence: Sequence,
    number: u64,
    is_header: bool,
    is_durable: bool,
    /// What it calls durable.
    watermark: Sequence,
    carries_records: bool,
    effects: Vec<Effect>,
}

/// What a start has written so far.
struct Candidate {
    epoch: u64,
    carried: VecDeque<Write>,
    last_batch: Option<(Sequence, u32)>,
    header: Option<(SegmentHeader, Write)>,
}

impl Candidate {
    /// The start of its header.
    fn start(&self) -> Option<Start> {
        self.header.as_ref().and_then(|(header, _)| header.starts.last().copied())
    }

    /// Whether `header` is a later one of the same start: the shard writes, so the start is over.
    fn has_begun(&self, header: &SegmentHeader) -> bool {
        self.epoch != header.epoch
            && self.start().is_some_and(|start| header.starts.last() == Some(&start))
    }

    fn is_named_by(&self, next: &SegmentHeader) -> bool {
        self.start().is_some_and(|start| next.starts.contains(&start))
    }

    /// Whether its header and all that it carries is durable, under whatever name.
    fn is_durable(&self) -> bool {
        self.header.as_ref().is_some_and(|(_, write)| write.is_durable)
            && self.carried.iter().all(|write| write.is_durable)
    }
}

/// What a write broke, in words.
pub(crate) type Broken = Vec<String>;

impl Shard {
    /// A log without a batch, by the header that founds it.
    pub(crate) fn founded(header: &SegmentHeader) -> Self {
        Self {
            start: None,
            segment: header.number,
            epoch: header.epoch,
            last_batch: header.previous,
            durable: Sequence(0),
            newest: header.sequence,
            recorded: Sequence(0),
            flight: VecDeque::new(),
            settled: VecDeque::new(),
            base: Replicas::new(),
            log: Replicas::new(),
            candidate: None,
            ended: None,
        }
    }

    /// Everything up to this is durable.
    pub(crate) fn durable(&self) -> Sequence {
        self.durable
    }

    /// The start in which the shard is.
    pub(crate) fn start(&self) -> Option<Start> {
        self.start
    }

    /// All replicas as they were last written.
    pub(crate) fn replicas(&mut self) -> &mut Replicas {
        &mut self.log
    }

    /// A segment's header sets out.
    pub(crate) fn header(&mut self, number: u64, header: SegmentHeader) -> Broken {
        let mut broken = Broken::new();
        if self.candidate.as_ref().is_some_and(|candidate| candidate.has_begun(&header)) {
            broken.extend(self.goes_on());
        }
        let is_start = header.starts.last().copied() != self.start;
        let write = Write {
            sequence: header.sequence,
            number,
            is_header: true,
            is_durable: false,
            watermark: header.previous.sequence,
            carries_records: false,
            effects: Vec::new(),
        };
        if is_start {
            self.candidate_of(header.epoch);
            self.adopt_ended(&header);
            broken.extend(self.judge_start(&header));
            let candidate = self.candidate_of(header.epoch);
            candidate.header = Some((header, write));
            return broken;
        }
        if let Some(first) = self.flight.front() {
            let sequence = first.sequence;
            broken.push(format!("W2: a header is submitted while batch {sequence} is not durable"));
        }
        if header.previous != self.last_batch {
            let (named, last) = (header.previous, self.last_batch);
            broken.push(format!("W2: a header names {named:?}, and the last batch is {last:?}"));
        }
        broken.extend(self.judge_order(header.sequence));
        (self.segment, self.epoch) = (header.number, header.epoch);
        self.flight.push_back(write);
        broken
    }

    /// A batch sets out. `judge` is shown each record with its replica before it; with none when a start
    /// writes it anew.
    pub(crate) fn batch(
        &mut self,
        number: u64,
        batch: &WrittenBatch,
        mut judge: impl FnMut(Option<&Replica>, &Record) -> Result<(), String>,
    ) -> Broken {
        let write = Write {
            sequence: batch.sequence,
            number,
            is_header: false,
            is_durable: false,
            watermark: batch.watermark,
            carries_records: !batch.records.is_empty(),
            effects: batch.records.iter().filter_map(effect).collect(),
        };
        let mut broken = Broken::new();
        if batch.epoch != self.epoch {
            let candidate = self.candidate_of(batch.epoch);
            if candidate.header.is_none() {
                candidate.last_batch = Some((batch.sequence, batch.checksum));
                candidate.carried.push_back(write);
                let judged = batch.records.iter().filter_map(|record| judge(None, record).err());
                return judged.collect();
            }
            broken.extend(self.goes_on());
        }
        if let Some(header) = self.flight.iter().find(|write| write.is_header) {
            let header = header.sequence;
            broken.push(format!("W2: batch {} follows header {header} too early", batch.sequence));
        }
        if batch.watermark > self.durable {
            let (said, durable) = (batch.watermark, self.durable);
            broken.push(format!("W1: a batch calls {said} durable, and {durable} is"));
        }
        broken.extend(self.judge_order(batch.sequence));
        let (sequence, checksum) = (batch.sequence, batch.checksum);
        self.last_batch = BatchName { segment: self.segment, sequence, checksum };
        for record in &batch.records {
            let Some(effect) = effect(record) else { continue };
            let replica = self.log.entry(effect.group()).or_default();
            broken.extend(judge(Some(replica), record).err());
            replica.apply(&effect, Some(sequence));
        }
        self.flight.push_back(write);
        broken
    }

    /// A write is durable.
    pub(crate) fn is_durable(&mut self, number: u64) {
        if let Some(candidate) = &mut self.candidate {
            let header = candidate.header.iter_mut().map(|(_, write)| write);
            let write = candidate.carried.iter_mut().chain(header).find(|it| it.number == number);
            if let Some(write) = write {
                write.is_durable = true;
                return;
            }
        }
        if let Some(write) = self.flight.iter_mut().find(|write| write.number == number) {
            write.is_durable = true;
            self.advance();
        }
    }

    /// The shard speaks or writes, so its start is over, if it was in one: what it has written counts.
    pub(crate) fn goes_on(&mut self) -> Broken {
        let begun = self.candidate.take_if(|candidate| candidate.header.is_some());
        begun.map_or_else(Broken::new, |candidate| self.adopt(candidate))
    }

    /// What a start has written counts from now on.
    fn adopt(&mut self, candidate: Candidate) -> Broken {
        let Candidate { carried, last_batch, header, .. } = candidate;
        let (header, write) = header.expect("it has one");
        let mut broken = Broken::new();
        if !write.is_durable || carried.iter().any(|write| !write.is_durable) {
            broken.push(format!("W3: a start goes on before header {} is durable", write.sequence));
        }
        let proven = header.previous.sequence;
        for write in self.settled.drain(..).chain(self.flight.drain(..)) {
            if write.sequence <= proven {
                apply(&mut self.base, &write.effects, None);
            }
        }
        self.log = self.base.clone();
        for write in &carried {
            apply(&mut self.log, &write.effects, None);
        }
        let segment = header.number;
        let last = last_batch.map(|(sequence, checksum)| BatchName { segment, sequence, checksum });
        self.last_batch = last.unwrap_or(header.previous);
        self.durable = carried.back().map_or(header.sequence, |write| write.sequence);
        (self.newest, self.recorded) = (self.durable, header.sequence);
        (self.segment, self.epoch) = (segment, header.epoch);
        self.start = header.starts.last().copied();
        self.settled = carried;
        broken
    }

    fn candidate_of(&mut self, epoch: u64) -> &mut Candidate {
        // One of another epoch was a start that was killed.
        if let Some(before) = self.candidate.take_if(|candidate| candidate.epoch != epoch)
            && before.is_durable()
        {
            self.ended = Some(before);
        }
        let fresh =
            || Candidate { epoch, carried: VecDeque::new(), last_batch: None, header: None };
        self.candidate.get_or_insert_with(fresh)
    }

    /// A start that was killed before it spoke or wrote counts if the next start names it.
    fn adopt_ended(&mut self, next: &SegmentHeader) {
        if let Some(ended) = self.ended.take_if(|ended| ended.is_named_by(next)) {
            let broken = self.adopt(ended);
            assert!(broken.is_empty(), "all of the start is durable: {broken:?}");
        }
        self.ended = None;
    }

    /// A start keeps all that is durable, and writes anew what is not proven to be.
    fn judge_start(&mut self, header: &SegmentHeader) -> Broken {
        let mut broken = Broken::new();
        let proven = header.previous.sequence;
        let kept = header.starts.last().map_or(Sequence(0), |start| start.kept);
        if kept < self.durable {
            broken.push(format!("a start keeps {kept}, and {} is durable", self.durable));
        }
        if proven > self.durable {
            broken.push(format!(
                "W3: a start calls {proven} proven, and {} is durable",
                self.durable
            ));
        }
        if header.sequence <= self.newest {
            let newest = self.newest;
            broken.push(format!("W3: a start's header is {}, behind {newest}", header.sequence));
        }
        let settled = self.settled.len();
        let behind = self.settled.iter().chain(&self.flight).enumerate();
        let unproven: Vec<_> = behind
            .filter(|(_, write)| write.sequence > proven && write.carries_records)
            .map(|(place, write)| (place < settled, &write.effects))
            .collect();
        let none = VecDeque::new();
        let carried = self.candidate.as_ref().filter(|it| it.epoch == header.epoch);
        let carried = carried.map_or(&none, |candidate| &candidate.carried);
        let owed = unproven.iter().filter(|(is_durable, _)| *is_durable).count();
        let differs = carried.iter().zip(&unproven).any(|(new, (_, old))| new.effects != **old);
        if carried.len() < owed || carried.len() > unproven.len() || differs {
            broken.push(format!(
                "a start carries {} batches behind {proven}: {owed} are durable, {} were written{}",
                carried.len(),
                unproven.len(),
                if differs { ", and they differ" } else { "" }
            ));
        }
        broken
    }

    fn judge_order(&mut self, sequence: Sequence) -> Option<String> {
        let expected = Sequence(self.newest.0 + 1);
        self.newest = sequence;
        (sequence != expected).then(|| format!("write {sequence} is submitted before {expected}"))
    }

    fn advance(&mut self) {
        while let Some(write) = self.flight.pop_front_if(|write| write.is_durable) {
            self.durable = write.sequence;
            self.recorded = self.recorded.max(write.watermark);
            self.settled.push_back(write);
        }
        while let Some(write) = self.settled.pop_front_if(|write| write.sequence <= self.recorded) {
            apply(&mut self.base, &write.effects, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{
        BootId, ClusterId, GroupId, HardState, Identity, Incarnation, NodeId, ShardId,
    };

    const EPOCH: u64 = 100;

    fn header(sequence: u64, epoch: u64, previous: BatchName, start: u64) -> SegmentHeader {
        let identity = Identity {
            cluster: ClusterId(1),
            node: NodeId(1),
            incarnation: Incarnation(1),
            shard: ShardId(0),
        };
        let start_of = |number| Start { number, boot: BootId(number), kept: Sequence(number - 1) };
        SegmentHeader {
            identity,
            number: epoch - EPOCH,
            epoch,
            sequence: Sequence(sequence),
            previous,
            oldest: 1,
            bytes: 1 << 20,
            starts: (1..=start).map(start_of).collect(),
        }
    }

    fn batch(sequence: u64, epoch: u64, watermark: u64) -> WrittenBatch {
        let state = HardState { vote: Some(NodeId(watermark as u32)), ..HardState::default() };
        let record = Record::HardState { group: GroupId(1), state, relocated: false };
        WrittenBatch {
            epoch,
            sequence: Sequence(sequence),
            watermark: Sequence(watermark),
            checksum: sequence as u32,
            records: vec![record],
        }
    }

    fn named(sequence: u64, epoch: u64) -> BatchName {
        let (segment, checksum) = (epoch - EPOCH, sequence as u32);
        BatchName { segment, sequence: Sequence(sequence), checksum }
    }

    fn put(shard: &mut Shard, batch: &WrittenBatch) -> Broken {
        shard.batch(batch.sequence.0, batch, |_, _| Ok(()))
    }

    /// A shard in its first start, whose batches 11 and 12 are submitted and 11 is durable.
    fn running() -> Shard {
        let mut shard = Shard::founded(&header(1, EPOCH, BatchName::default(), 0));
        let first = header(10, EPOCH + 1, BatchName::default(), 1);
        assert_eq!(shard.header(10, first), Broken::new());
        shard.is_durable(10);
        assert_eq!(put(&mut shard, &batch(11, EPOCH + 1, 10)), Broken::new());
        assert_eq!(put(&mut shard, &batch(12, EPOCH + 1, 10)), Broken::new());
        shard.is_durable(11);
        assert_eq!(shard.durable(), Sequence(11));
        shard
    }

    fn said(broken: &[String], what: &str) {
        assert!(broken.len() == 1 && broken[0].contains(what), "not {what:?}, but {broken:?}");
    }

    #[test]
    fn w1_a_watermark_above_the_contiguous_prefix() {
        let mut shard = running();
        assert_eq!(put(&mut shard, &batch(13, EPOCH + 1, 11)), Broken::new());
        shard.is_durable(13);
        assert_eq!(shard.durable(), Sequence(11), "12 is missing");
        said(&put(&mut shard, &batch(14, EPOCH + 1, 13)), "W1: a batch calls 13 durable");
    }

    #[test]
    fn w2_a_header_before_all_behind_it_is_durable() {
        let mut shard = running();
        let next = header(13, EPOCH + 2, named(12, EPOCH + 1), 1);
        said(&shard.header(13, next), "W2: a header is submitted while batch 12");
        shard.is_durable(12);
        said(&put(&mut shard, &batch(14, EPOCH + 2, 12)), "W2: batch 14 follows header 13");
    }

    #[test]
    fn w2_a_header_that_names_another_batch() {
        let mut shard = running();
        shard.is_durable(12);
        let next = header(13, EPOCH + 2, named(11, EPOCH + 1), 1);
        said(&shard.header(13, next), "W2: a header names");
    }

    #[test]
    fn w3_a_start_that_goes_on_before_its_header_is_durable() {
        let mut shard = running();
        assert_eq!(put(&mut shard, &batch(31, EPOCH + 2, 30)), Broken::new());
        put(&mut shard, &batch(32, EPOCH + 2, 30));
        let mut next = header(30, EPOCH + 2, BatchName::default(), 2);
        next.starts[1].kept = Sequence(12);
        // Batches differ in their vote here, as they should not.
        said(&shard.header(30, next), "they differ");
        shard.is_durable(31);
        shard.is_durable(32);
        said(&shard.goes_on(), "W3: a start goes on before header 30");
    }

    #[test]
    fn a_start_that_forgets_what_is_durable() {
        let mut shard = running();
        let mut next = header(30, EPOCH + 2, BatchName::default(), 2);
        next.starts[1].kept = Sequence(12);
        said(&shard.header(30, next), "a start carries 0 batches");
        let mut shard = running();
        let mut next = header(30, EPOCH + 2, named(11, EPOCH + 1), 2);
        next.starts[1].kept = Sequence(10);
        said(&shard.header(30, next), "a start keeps 10, and 11 is durable");
    }

    #[test]
    fn a_start_that_trusts_what_is_not_durable() {
        let mut shard = running();
        let mut next = header(30, EPOCH + 2, named(12, EPOCH + 1), 2);
        next.starts[1].kept = Sequence(12);
        said(&shard.header(30, next), "W3: a start calls 12 proven, and 11 is durable");
    }

    /// The shard's second start, all of whose writes are durable.
    fn second_start(shard: &mut Shard) -> SegmentHeader {
        shard.is_durable(12);
        let mut carried = batch(31, EPOCH + 2, 10);
        for sequence in [31, 32] {
            carried.sequence = Sequence(sequence);
            put(shard, &carried);
        }
        let mut second = header(30, EPOCH + 2, BatchName::default(), 2);
        second.starts[1].kept = Sequence(12);
        assert_eq!(shard.header(30, second.clone()), Broken::new());
        [30, 31, 32].into_iter().for_each(|number| shard.is_durable(number));
        second
    }

    /// The third start, after a second one whose batch 32 was the last.
    fn third_start(starts: &[Start], kept: u64) -> SegmentHeader {
        let mut third = header(50, EPOCH + 3, BatchName::default(), 0);
        third.starts = starts.to_vec();
        third.starts.push(Start { number: 9, boot: BootId(9), kept: Sequence(kept) });
        third
    }

    #[test]
    fn a_start_counts_once_its_shard_begins_the_next_segment() {
        let mut shard = running();
        let second = second_start(&mut shard);
        let last = BatchName { segment: second.number, sequence: Sequence(32), checksum: 31 };
        let next = SegmentHeader { starts: second.starts, ..header(33, EPOCH + 3, last, 0) };
        assert_eq!(shard.header(33, next), Broken::new());
        assert_eq!((shard.durable(), shard.start().unwrap().number), (Sequence(32), 2));
    }

    #[test]
    fn a_start_that_was_killed_counts_if_the_next_one_names_it() {
        for names_it in [true, false] {
            let mut shard = running();
            let second = second_start(&mut shard);
            let starts = if names_it { &second.starts[..] } else { &second.starts[..1] };
            let mut carried = batch(51, EPOCH + 3, 10);
            for sequence in [51, 52] {
                carried.sequence = Sequence(sequence);
                put(&mut shard, &carried);
            }
            let third = third_start(starts, if names_it { 32 } else { 12 });
            assert_eq!(shard.header(50, third), Broken::new(), "named: {names_it}");
        }
        let mut shard = running();
        let second = second_start(&mut shard);
        let broken = shard.header(50, third_start(&second.starts, 12)).join(", ");
        assert!(broken.contains("a start keeps 12, and 32 is durable"), "{broken}");
    }

    #[test]
    fn a_start_counts_once_it_goes_on() {
        let mut shard = running();
        let mut carried = batch(31, EPOCH + 2, 10);
        put(&mut shard, &carried);
        carried.sequence = Sequence(32);
        put(&mut shard, &carried);
        let mut next = header(30, EPOCH + 2, BatchName::default(), 2);
        next.starts[1].kept = Sequence(12);
        assert_eq!(shard.header(30, next), Broken::new());
        [30, 31, 32].into_iter().for_each(|number| shard.is_durable(number));
        assert_eq!(shard.durable(), Sequence(11), "a crash now would leave the log as it was");
        assert_eq!(shard.goes_on(), Broken::new());
        assert_eq!((shard.durable(), shard.start().unwrap().number), (Sequence(32), 2));
        assert_eq!(put(&mut shard, &batch(33, EPOCH + 2, 32)), Broken::new());
    }
}
