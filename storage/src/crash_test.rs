//! Random work, crashes at random moments, and a model that says what must be left.
//!
//! After a crash the WAL says how far it kept the log. That must be at least what was acknowledged,
//! and the state must be exactly the one that the model had at that sequence.

use crate::testing::*;
use crate::*;
use purlin_rsm::*;
use std::{collections::BTreeMap, io::ErrorKind};

const GROUPS: u64 = 4;

#[derive(Clone, Default, PartialEq, Debug)]
struct GroupModel {
    hard_state: HardState,
    log: Vec<Entry>,
    /// What was forgotten.
    floor: u64,
}

impl GroupModel {
    fn append(&mut self, entries: &[Entry]) {
        let first = entries[0].index;
        self.log.retain(|entry| entry.index < first);
        self.log.extend_from_slice(entries);
    }

    fn last(&self) -> u64 {
        self.log.last().map_or(0, |entry| entry.index.0)
    }

    fn last_term(&self) -> u64 {
        self.log.last().map_or(1, |entry| entry.term.0)
    }
}

#[derive(Clone, Default)]
struct Model {
    groups: BTreeMap<u32, GroupModel>,
    peer: Option<PeerMemory>,
}

/// What one submission did, and the state behind it.
struct Step {
    /// The sequences of its pieces end here; those of the step before end before it.
    sequence: Sequence,
    after: Model,
    /// The entries of a submission that was cut into pieces.
    pieces: Option<(u32, Vec<Entry>)>,
}

struct Run {
    h: Harness,
    random: Random,
    /// Since the last start; the first is the state that it found.
    history: Vec<Step>,
    /// The highest sequence that was ever given out.
    highest: Sequence,
    durable: Sequence,
    starts: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let durability = if random.chance(50) { Durability::EachWrite } else { Durability::OnSync };
        let writes_in_flight_max = 1 + random.below(5) as usize;
        let config = WalConfig { durability, writes_in_flight_max, ..small() };
        let h = Harness::new(config, seed);
        h.disk.hold();
        let first = Step { sequence: Sequence(0), after: Model::default(), pieces: None };
        let highest = h.wal().submitted();
        let durable = h.wal().durable();
        Self { h, random, history: vec![first], highest, durable, starts: 1 }
    }

    fn model(&self) -> Model {
        self.history.last().unwrap().after.clone()
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..45 => self.append(),
            45..55 => self.vote(),
            55..58 => self.remember_peer(),
            58..62 => self.h.wal().quiet_tick(),
            62..65 => self.forget(),
            65..67 => {
                self.h.release();
            }
            67..70 => self.read(),
            70..72 => self.crash(),
            _ => {
                let operations = self.random.below(6);
                self.h.run_some(operations);
            }
        }
        if self.h.wal.is_some() {
            let wal = self.h.wal();
            assert!(wal.durable() >= self.durable, "the watermark went back");
            assert!(wal.failure().is_none(), "{:?}", wal.failure());
            self.durable = wal.durable();
            self.highest = self.highest.max(wal.submitted());
        }
    }

    fn submit(&mut self, batch: Batch, after: Model, pieces: Option<(u32, Vec<Entry>)>) {
        let sequence = self.h.submit(batch);
        self.history.push(Step { sequence, after, pieces });
    }

    fn append(&mut self) {
        let id = self.random.below(GROUPS) as u32 + 1;
        let mut model = self.model();
        let group = model.groups.entry(id).or_default();
        let is_truncation = self.random.chance(15);
        let first = if is_truncation {
            group.floor + 1 + self.random.below(group.last() - group.floor + 1)
        } else {
            group.last() + 1
        };
        let term = group.last_term() + u64::from(is_truncation || self.random.chance(5));
        let is_large = self.random.chance(4);
        let count = 1 + self.random.below(if is_large { 40 } else { 4 });
        let bytes = self.random.below(if is_large { 1000 } else { 300 }) as usize;
        let mut new = entries(term, first..first + count, bytes);
        if self.random.chance(10) {
            new[0].payload = Payload::Noop;
        }
        let before = first.checked_sub(2).map(|at| group.log[at as usize].end());
        let mut before = before.unwrap_or_default();
        for entry in &mut new {
            entry.before = before;
            before = entry.end();
        }
        let mut batch = Batch::default();
        batch.entries(GroupId(id), &new);
        group.append(&new);
        let pieces = is_large.then_some((id, new));
        self.submit(batch, model, pieces);
    }

    fn vote(&mut self) {
        let id = self.random.below(GROUPS) as u32 + 1;
        let mut model = self.model();
        let group = model.groups.entry(id).or_default();
        let state = HardState {
            term: group.hard_state.term.next(),
            vote: self.random.chance(50).then_some(NodeId(3)),
            committed: Index(group.floor),
        };
        group.hard_state = state;
        let mut batch = Batch::default();
        batch.hard_state(GroupId(id), state);
        self.submit(batch, model, None);
    }

    fn remember_peer(&mut self) {
        let mut model = self.model();
        let start = model.peer.map_or(1, |peer| peer.start + 1);
        let memory = PeerMemory {
            node: NodeId(9),
            incarnation: Incarnation(1),
            shard: ShardId(0),
            start,
            boot: BootId(self.random.next()),
            durable: Sequence(start * 10),
            fenced: false,
        };
        model.peer = Some(memory);
        let mut batch = Batch::default();
        batch.peer(memory);
        self.submit(batch, model, None);
    }

    /// Forgets durable entries only, as the engine does with applied ones.
    fn forget(&mut self) {
        let id = self.random.below(GROUPS) as u32 + 1;
        let durable = self.h.wal().durable();
        let steps = self.history.iter().filter(|step| step.sequence >= durable);
        let safe = steps.filter_map(|step| step.after.groups.get(&id));
        // What is replaced in any state that may come back is not committed.
        let all: Vec<_> = safe.collect();
        let Some(shortest) = all.iter().map(|group| group.last()).min() else { return };
        let agreed = |index: u64| {
            let term = |g: &&GroupModel| g.log.iter().find(|e| e.index.0 == index).map(|e| e.term);
            all.iter().all(|group| term(group) == term(&all[0]))
        };
        let floor = all.iter().map(|group| group.floor).max().unwrap_or(0);
        let reach = (floor..=shortest).take_while(|&index| index == floor || agreed(index)).last();
        let Some(reach) = reach.filter(|&reach| reach > floor) else { return };
        let to = floor + 1 + self.random.below(reach - floor);
        let position = all[0].log[to as usize - 1].end();
        self.h.wal().forget(GroupId(id), Index(to + 1), position);
        for step in &mut self.history {
            if let Some(group) = step.after.groups.get_mut(&id) {
                group.floor = group.floor.max(to);
            }
        }
    }

    fn read(&mut self) {
        let id = self.random.below(GROUPS) as u32 + 1;
        let model = self.model();
        let Some(group) = model.groups.get(&id).filter(|group| group.last() > group.floor) else {
            return;
        };
        let from = group.floor + 1 + self.random.below(group.last() - group.floor);
        let to = from + 1 + self.random.below(20);
        let read = self.h.read(id, from..to);
        let expected: Vec<_> =
            group.log.iter().filter(|e| (from..to).contains(&e.index.0)).cloned().collect();
        assert!(!read.is_empty());
        assert_eq!(read, expected[..read.len()], "group {id} from {from}");
    }

    fn crash(&mut self) {
        if self.random.chance(20) {
            self.fail_a_sync();
        }
        if self.random.chance(70) {
            self.h.cut_power()
        } else {
            self.h.kill()
        }
        while self.random.chance(20) {
            self.crash_while_opening();
        }
        let recovered = self.h.open().unwrap();
        self.check(&recovered);
    }

    /// What the sync was to make durable is dropped, and stays readable until the power fails.
    fn fail_a_sync(&mut self) {
        self.h.disk.set_faults(Faults { sync: Some(ErrorKind::Other), ..Faults::default() });
        self.h.run_some(6);
        self.h.disk.set_faults(Faults::default());
        self.durable = self.durable.max(self.h.wal().durable());
        self.highest = self.highest.max(self.h.wal().submitted());
    }

    fn crash_while_opening(&mut self) {
        let budget = self.random.below(60);
        let opened = self.h.open_for(budget);
        // It may have got through, and so may be remembered as a start.
        if opened {
            self.h.stop()
        }
        if self.random.chance(50) { self.h.cut_power() } else { self.h.kill() }
    }

    fn check(&mut self, recovered: &Recovered) {
        // A start that crashed before it was known may be among them: the first one decided.
        let first = recovered.starts.iter().find(|start| start.number > self.starts).unwrap();
        let kept = first.kept;
        assert!(kept >= self.durable, "{kept} was kept, and {} was durable", self.durable);
        assert!(recovered.start.number > self.starts);
        self.starts = recovered.start.number;
        let first = self.h.wal().submitted();
        assert!(first > self.highest, "sequence {first} is given out again");

        let at = self.history.iter().rposition(|step| step.sequence <= kept).unwrap();
        let mut expected = self.history[at].after.clone();
        // A submission of several pieces may have come half through.
        if let Some(Step { pieces: Some((id, new)), .. }) = self.history.get(at + 1) {
            let log = &recovered.groups.get(&GroupId(*id));
            let last = log.map_or(0, |group| group.last.0);
            let term = log.and_then(|group| Some(group.terms.last()?.1));
            let survived = new.iter().filter(|e| e.index.0 <= last && Some(e.term) == term);
            let survived: Vec<_> = survived.cloned().collect();
            if !survived.is_empty() && term == Some(new[0].term) {
                let group = expected.groups.entry(*id).or_default();
                if group
                    .log
                    .iter()
                    .rfind(|e| e.index == survived[0].index)
                    .is_none_or(|e| e.term != survived[0].term)
                {
                    group.append(&survived);
                }
            }
        }
        for (id, group) in &expected.groups {
            self.check_group(*id, group, recovered);
        }
        assert_eq!(recovered.peers, expected.peer.into_iter().collect::<Vec<_>>());
        self.durable = self.h.wal().durable();
        for (id, group) in &mut expected.groups {
            group.floor = recovered.groups.get(&GroupId(*id)).map_or(0, |g| g.floor.index.0);
        }
        self.history = vec![Step { sequence: recovered.start.kept, after: expected, pieces: None }];
    }

    fn check_group(&mut self, id: u32, expected: &GroupModel, recovered: &Recovered) {
        let default = RecoveredGroup::default();
        let group = recovered.groups.get(&GroupId(id)).unwrap_or(&default);
        let floor = group.floor.index.0;
        assert_eq!(group.hard_state, expected.hard_state, "group {id}");
        assert!(floor <= expected.floor, "group {id} forgot {floor}");
        assert_eq!(group.last.0, expected.last(), "group {id}");
        let expected = &expected.log[floor as usize..];
        assert!(expected.ends_with(&group.tail), "group {id}: the tail");
        let terms = expected.iter().map(|entry| (entry.index, entry.term));
        let runs: Vec<_> = terms.fold(Vec::new(), |mut runs, (index, term)| {
            if runs.last().is_none_or(|&(_, t)| t != term) {
                runs.push((index, term));
            }
            runs
        });
        assert_eq!(group.terms, runs, "group {id}");
        let mut read = Vec::new();
        while read.len() < expected.len() {
            let from = floor + 1 + read.len() as u64;
            let more = self.h.read(id, from..group.last.0 + 1);
            assert!(!more.is_empty(), "group {id} has nothing at {from}");
            read.extend(more);
        }
        assert_eq!(read, expected, "group {id}");
    }
}

/// `PURLIN_WAL_SEEDS` says how many; 4,000 take a good minute in a debug build.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("PURLIN_WAL_SEEDS").ok().and_then(|count| count.parse().ok());
    0..count.unwrap_or(400)
}

#[test]
fn crashes_at_random_moments_leave_a_prefix_with_all_that_was_acknowledged() {
    let mut crashes = 0;
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..300 {
                run.step();
            }
            run.crash();
            run.starts
        });
        crashes += outcome.unwrap_or_else(|panic| {
            eprintln!("seed {seed} failed");
            std::panic::resume_unwind(panic)
        });
    }
    assert!(crashes > seeds().end, "only {crashes} crashes");
}
