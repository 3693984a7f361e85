//! What a start of the WAL must find: the states that a recovery may return, and the entries that no
//! recovery may lose or bring back.

use purlin_rsm::{Entry, GroupId, HardState, Index, PeerMemory, Sequence, Term};
use purlin_storage::{Recovered, RecoveredGroup};
use std::{collections::BTreeMap, rc::Rc};

/// One group, as it was submitted.
#[derive(Clone, Default)]
pub(super) struct Group {
    /// All entries from index 1 on, those below the floor included.
    pub(super) log: Vec<Entry>,
    pub(super) hard_state: HardState,
    /// How often entries were replaced.
    pub(super) truncations: u64,
}

/// Everything that was submitted.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) groups: BTreeMap<GroupId, Rc<Group>>,
    pub(super) peer: Option<PeerMemory>,
}

/// A batch with this sequence leads to this model.
struct Step {
    sequence: Sequence,
    after: Model,
}

/// What a start on one directory must find.
pub(super) struct Expected {
    /// All batches of the present process, in their order, behind what the start found.
    steps: Vec<Step>,
    /// The WAL has called everything up to here durable.
    durable: Sequence,
    /// What was forgotten, by group: entries at or below it may be gone.
    floors: BTreeMap<GroupId, Index>,
    /// The floors that a release has recorded: entries at or below them never return.
    recorded: BTreeMap<GroupId, Index>,
}

impl Group {
    pub(super) fn last(&self) -> Index {
        Index(self.log.len() as u64)
    }

    /// The entries from `from` on.
    pub(super) fn from(&self, from: Index) -> &[Entry] {
        self.log.get(from.0 as usize - 1..).unwrap_or_default()
    }
}

impl Model {
    pub(super) fn group(&self, group: GroupId) -> Rc<Group> {
        self.groups.get(&group).cloned().unwrap_or_default()
    }

    pub(super) fn change(&mut self, group: GroupId, change: impl FnOnce(&mut Group)) {
        change(Rc::make_mut(self.groups.entry(group).or_default()));
    }
}

impl Expected {
    /// An empty directory.
    pub(super) fn new() -> Self {
        let start = Step { sequence: Sequence(0), after: Model::default() };
        Self {
            steps: vec![start],
            durable: Sequence(0),
            floors: BTreeMap::new(),
            recorded: BTreeMap::new(),
        }
    }

    /// Whether no batch was submitted yet, in any process.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.len() == 1 && self.now().groups.is_empty() && self.now().peer.is_none()
    }

    /// What was submitted so far.
    pub(super) fn now(&self) -> &Model {
        &self.steps.last().expect("a start at least").after
    }

    /// A batch was submitted.
    pub(super) fn submitted(&mut self, sequence: Sequence, after: Model) {
        self.steps.push(Step { sequence, after });
    }

    /// The WAL calls everything up to `durable` durable. What a recovery can no longer find is dropped.
    pub(super) fn acknowledged(&mut self, durable: Sequence) -> Result<(), String> {
        if durable < self.durable {
            return Err(format!("the watermark went back from {} to {durable}", self.durable));
        }
        self.durable = durable;
        let settled = self.steps.partition_point(|step| step.sequence <= durable);
        self.steps.drain(..settled.saturating_sub(1));
        Ok(())
    }

    /// The last entry of a group that is durable in every state that a recovery may find.
    pub(super) fn durable_last(&self, group: GroupId) -> Index {
        let lasts = self.steps.iter().map(|step| step.after.group(group));
        let oldest = self.steps[0].after.group(group);
        // A replaced entry is not durable, though its index is.
        let kept = lasts.map(|now| {
            let same = now.log.iter().zip(&oldest.log).take_while(|(a, b)| a.term == b.term);
            Index(same.count() as u64)
        });
        kept.min().unwrap_or_default()
    }

    /// Entries up to `floor` are not needed any more.
    pub(super) fn forgot(&mut self, group: GroupId, floor: Index) {
        self.floors.insert(group, floor);
    }

    /// What was forgotten of a group.
    pub(super) fn floor(&self, group: GroupId) -> Index {
        self.floors.get(&group).copied().unwrap_or_default()
    }

    /// All floors.
    pub(super) fn floors(&self) -> BTreeMap<GroupId, Index> {
        self.floors.clone()
    }

    /// A release that began when the floors were these has given segments back.
    pub(super) fn released(&mut self, floors: &BTreeMap<GroupId, Index>) {
        for (&group, &floor) in floors {
            let recorded = self.recorded.entry(group).or_default();
            *recorded = (*recorded).max(floor);
        }
    }

    /// Judges what a start has found, and goes on from there. The new process has `durable`.
    pub(super) fn start(&mut self, found: &Recovered, durable: Sequence) -> Result<(), String> {
        let kept = found.start.kept;
        if kept < self.durable {
            return Err(format!("{} was durable, and the start kept {kept}", self.durable));
        }
        let last = self.steps.last().expect("a start at least").sequence;
        let fits = |step: &Step| self.judge(&step.after, found);
        let known = self.steps.partition_point(|step| step.sequence <= kept).max(1) - 1;
        // A start that was ended before it could be judged has new sequences; it kept one of the steps.
        let is_of_another_start = kept > last;
        let mut model = None;
        if is_of_another_start {
            model = self.steps.iter().rev().find(|step| fits(step).is_ok());
        }
        let model = match model {
            Some(step) => step.after.clone(),
            None => {
                fits(&self.steps[known])?;
                self.steps[known].after.clone()
            }
        };
        for (group, found) in &found.groups {
            self.floors.insert(*group, found.floor.index);
        }
        self.durable = durable;
        self.steps = vec![Step { sequence: Sequence(0), after: model }];
        Ok(())
    }

    fn judge(&self, model: &Model, found: &Recovered) -> Result<(), String> {
        if found.peers != model.peer.into_iter().collect::<Vec<_>>() {
            return Err(format!("{:?} is remembered, {:?} was submitted", found.peers, model.peer));
        }
        if let Some(unknown) = found.groups.keys().find(|id| !model.groups.contains_key(id)) {
            return Err(format!("group {unknown} was never submitted"));
        }
        let nothing = RecoveredGroup::default();
        model.groups.iter().try_for_each(|(&id, group)| {
            let found = found.groups.get(&id).unwrap_or(&nothing);
            self.judge_group(id, group, found).map_err(|what| format!("group {id}: {what}"))
        })
    }

    fn judge_group(
        &self,
        id: GroupId,
        group: &Group,
        found: &RecoveredGroup,
    ) -> Result<(), String> {
        let (floor, forgotten) = (found.floor.index, self.floor(id));
        if floor > forgotten {
            return Err(format!("the floor is {floor}, and only {forgotten} was forgotten"));
        }
        let recorded = self.recorded.get(&id).copied().unwrap_or_default();
        if floor < recorded {
            return Err(format!("the floor is {floor}, and {recorded} was recorded"));
        }
        if found.hard_state != group.hard_state {
            return Err(format!("{:?}, submitted {:?}", found.hard_state, group.hard_state));
        }
        if found.last != group.last() {
            return Err(format!("it ends in {}, submitted {}", found.last, group.last()));
        }
        let before = floor.0.checked_sub(1).map_or(Term(0), |at| group.log[at as usize].term);
        if found.floor.term != before {
            return Err(format!("floor {}, submitted with term {before}", found.floor));
        }
        // Each entry has one command.
        if found.end.0 != found.last.0 {
            return Err(format!("position {} at the end of {}", found.end, found.last));
        }
        if !group.from(floor.next()).ends_with(&found.tail) {
            return Err("another end of the log than was submitted".to_owned());
        }
        let mut runs: Vec<(Index, Term)> = Vec::new();
        for entry in group.from(floor.next()) {
            if runs.last().is_none_or(|&(_, term)| term != entry.term) {
                runs.push((entry.index, entry.term));
            }
        }
        if found.terms == runs {
            Ok(())
        } else {
            Err(format!("term runs {:?}, submitted {runs:?}", found.terms))
        }
    }
}
