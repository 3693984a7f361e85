//! All groups of a shard: found by id, noted when something happened to them, woken when their time
//! has come.
//!
//! A group lies in a *slot* that never moves while the group is there. What refers to a group for longer
//! than a moment holds its [`GroupSlot`]. The slot of a removed group is used again by another group, with
//! another generation: a slot that was kept for too long finds nothing.

use crate::{
    control::status::{GroupCounts, Level},
    prefetch::prefetch,
    shard::{
        entry_memory::EntryMemory,
        group::{Group, Standing},
    },
};
use purlin_rsm::{GroupId, NodeId, Tick};
use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, VecDeque},
    mem,
};

/// So many groups give up entries at once: each of them may hold many.
const EVICTED_AT_ONCE: usize = 4;
/// And as many at most before a proposal is refused.
const EVICTED_FOR_ROOM: usize = 64;

/// With fewer groups on a shard all of them are in the caches of its core: to fetch them costs, and gains nothing.
const LOOK_AHEAD_FROM: usize = 256;

/// See the module.
#[derive(Default)]
pub(crate) struct Groups {
    places: Vec<Place>,
    /// Places without a group.
    free: Vec<u32>,
    /// The place of each group, found by its id.
    by_id: PlacesById,
    /// Groups that have inputs, in the order they got them. A group that was removed since may stand here.
    dirty: VecDeque<GroupSlot>,
    /// When groups want to be told the time. A group may stand here more than once, or too early: it
    /// is asked for its deadline when it comes up.
    timers: BinaryHeap<Reverse<(Tick, GroupSlot)>>,
    counts: GroupCounts,
    memory: EntryMemory<GroupSlot>,
    /// What the machines of all groups hold in memory, and may hold.
    machines: Level,
    /// The groups whose state machine has stopped.
    stopped_machines: BTreeSet<GroupId>,
}

/// Names a group of a shard until the group is removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct GroupSlot {
    place: u32,
    generation: u32,
}

/// The places of groups by their ids. The ids of a cluster begin at 1 and have no gaps, so a list costs 4 bytes for each
/// group of the cluster, and finds a place with one read.
#[derive(Default)]
struct PlacesById {
    /// By id, up to the highest id on this shard; [`NOWHERE`] for a group that is not here.
    places: Vec<u32>,
    /// How many groups are here.
    count: usize,
}

const NOWHERE: u32 = u32::MAX;

impl PlacesById {
    /// # Panics
    /// When the group is here already.
    fn insert(&mut self, id: GroupId, place: u32) {
        let at = id.0 as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, NOWHERE);
        }
        let before = mem::replace(&mut self.places[at], place);
        assert!(before == NOWHERE, "group {id} is on this shard already");
        self.count += 1;
    }

    fn remove(&mut self, id: GroupId) -> Option<u32> {
        let place = self.get(id)?;
        self.places[id.0 as usize] = NOWHERE;
        self.count -= 1;
        Some(place)
    }

    fn get(&self, id: GroupId) -> Option<u32> {
        self.places.get(id.0 as usize).copied().filter(|place| *place != NOWHERE)
    }

    /// The groups whose id is `first` or above, in the order of their ids.
    fn from(&self, first: GroupId) -> impl Iterator<Item = (GroupId, u32)> {
        let places = self.places.get(first.0 as usize..).unwrap_or_default();
        let all = (first.0..).map(GroupId).zip(places.iter().copied());
        all.filter(|(_, place)| *place != NOWHERE)
    }
}

struct Place {
    /// How many groups were removed from here.
    generation: u32,
    held: Option<Held>,
}

struct Held {
    group: Group,
    /// It stands in the list of groups that have inputs.
    is_dirty: bool,
    /// The earliest timer of the group that is in the heap.
    armed: Option<Tick>,
    /// What its entries took in memory when they were counted last.
    entry_bytes: usize,
    /// It stands in the list of groups that hold entries.
    is_holder: bool,
    /// What its machine held when it was counted last.
    machine_bytes: usize,
}

impl Groups {
    /// No group yet. The machines of all groups may hold `machine_bytes_max` bytes.
    pub(crate) fn new(memory: EntryMemory<GroupSlot>, machine_bytes_max: usize) -> Self {
        let machines = Level { now: 0, max: machine_bytes_max };
        Self { memory, machines, ..Self::default() }
    }

    /// Adds a group, which is to be worked on in the next turn.
    pub(crate) fn insert(&mut self, group: Group) -> GroupSlot {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, held: None });
            (self.places.len() - 1) as u32
        });
        let (id, known) = (group.id, group.known);
        let (applied, commands) = (group.raft.applied_index(), group.raft.applied_end());
        self.by_id.insert(id, place);
        let free = &mut self.places[place as usize];
        free.held = Some(Held {
            group,
            is_dirty: false,
            armed: None,
            entry_bytes: 0,
            is_holder: false,
            machine_bytes: 0,
        });
        let slot = GroupSlot { place, generation: free.generation };
        self.counts.groups += 1;
        self.counts.applied += applied.0;
        self.counts.commands += commands.0;
        *count_of(&mut self.counts, known) += 1;
        self.count_entries(slot);
        self.count_machine(slot);
        self.touch(slot);
        slot
    }

    /// Takes a group away, with its timers and whatever it still had to do.
    #[cfg_attr(not(test), expect(dead_code, reason = "no group is removed at run time yet"))]
    pub(crate) fn remove(&mut self, id: GroupId) -> Option<Group> {
        let place = self.by_id.remove(id)?;
        let emptied = &mut self.places[place as usize];
        let slot = GroupSlot { place, generation: emptied.generation };
        let Held { group, entry_bytes, machine_bytes, .. } =
            emptied.held.take().expect("a place that an id names");
        emptied.generation = emptied.generation.wrapping_add(1);
        self.free.push(place);
        self.timers.retain(|Reverse((_, other))| *other != slot);
        self.memory.forget(slot, entry_bytes);
        self.machines.now -= machine_bytes;
        self.counts.groups -= 1;
        self.counts.applied -= group.raft.applied_index().0;
        self.counts.commands -= group.raft.applied_end().0;
        self.counts.stopped -= u32::from(group.known.serves_nothing());
        self.stopped_machines.remove(&id);
        self.counts.loading -= u32::from(group.known.is_loading);
        *count_of(&mut self.counts, group.known) -= 1;
        Some(group)
    }

    /// The slot of a group.
    pub(crate) fn slot(&self, id: GroupId) -> Option<GroupSlot> {
        let place = self.by_id.get(id)?;
        Some(GroupSlot { place, generation: self.places[place as usize].generation })
    }

    /// A group.
    pub(crate) fn get(&self, id: GroupId) -> Option<&Group> {
        let place = self.by_id.get(id)?;
        self.places[place as usize].held.as_ref().map(|held| &held.group)
    }

    /// A group that is about to get an input: it is worked on in this turn.
    pub(crate) fn input(&mut self, id: GroupId) -> Option<&mut Group> {
        let slot = self.slot(id)?;
        self.touch(slot);
        self.peek_mut(slot)
    }

    /// An input for every group, in the order of their ids.
    pub(crate) fn input_each(&mut self, input: impl Fn(&mut Group)) {
        let slots: Vec<GroupSlot> =
            self.by_id.from(GroupId(0)).filter_map(|(id, _)| self.slot(id)).collect();
        for slot in slots {
            self.touch(slot);
            self.peek_mut(slot).into_iter().for_each(&input);
        }
    }

    /// A group whose inputs are being worked on. It is not noted as one with inputs.
    pub(crate) fn peek_mut(&mut self, slot: GroupSlot) -> Option<&mut Group> {
        self.held_mut(slot).map(|held| &mut held.group)
    }

    /// Notes a group as one with inputs: it is worked on in this turn.
    pub(crate) fn touch(&mut self, slot: GroupSlot) {
        if let Some(held) = self.held_mut(slot)
            && !mem::replace(&mut held.is_dirty, true)
        {
            self.dirty.push_back(slot);
        }
    }

    /// A group has had an input: it is worked on in this turn, if there is anything to do for it. Most replies of a
    /// follower, for one, come when the entry is committed already.
    pub(crate) fn touch_if_needed(&mut self, slot: GroupSlot) {
        let Some(held) = self.held_mut(slot).filter(|held| !held.is_dirty) else { return };
        if held.group.needs_step() {
            self.touch(slot);
        } else {
            self.recount(slot);
            self.rearm(slot);
        }
    }

    /// The groups, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.from(GroupId(0))
    }

    /// The groups whose id is `first` or above, in the order of their ids.
    pub(crate) fn from(&self, first: GroupId) -> impl Iterator<Item = &Group> {
        let held = |place: u32| self.places[place as usize].held.as_ref();
        self.by_id.from(first).filter_map(move |(_, place)| held(place)).map(|held| &held.group)
    }

    /// How many groups there are, by how they stand.
    pub(crate) fn counts(&self) -> GroupCounts {
        self.counts
    }

    /// Takes the slot of the group that has had inputs for longest. A group that gets inputs while it is worked on goes
    /// behind all others: whatever it has to do, the others come next.
    pub(crate) fn next_dirty(&mut self) -> Option<GroupSlot> {
        let slot = self.dirty.pop_front()?;
        if let Some(held) = self.held_mut(slot) {
            held.is_dirty = false;
        }
        Some(slot)
    }

    /// Has the processor fetch what the next steps read, while the present one runs.
    pub(crate) fn look_ahead(&self) {
        let at = |place: usize| self.dirty.get(place).copied();
        self.prefetch(at(0), at(1));
    }

    /// The same for the groups that get inputs next: first `next`, then `second`.
    pub(crate) fn look_ahead_for(&self, next: Option<GroupId>, second: Option<GroupId>) {
        let slot = |id: Option<GroupId>| id.and_then(|id| self.slot(id));
        self.prefetch(slot(next), slot(second));
    }

    /// The memory of a group itself is fetched one group earlier than what it points to.
    fn prefetch(&self, next: Option<GroupSlot>, second: Option<GroupSlot>) {
        if self.by_id.count < LOOK_AHEAD_FROM {
            return;
        }
        let place = |slot: GroupSlot| self.places.get(slot.place as usize);
        if let Some(place) = second.and_then(place) {
            prefetch(place);
        }
        if let Some(held) = next.and_then(place).and_then(|place| place.held.as_ref()) {
            std::hint::black_box(held.group.look_ahead());
        }
    }

    #[cfg(test)]
    pub(crate) fn take_dirty(&mut self) -> Vec<GroupSlot> {
        std::iter::from_fn(|| self.next_dirty()).collect()
    }

    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether entries of a group are on their way from the log to `follower`.
    pub(crate) fn has_entries_to_come(&self, id: GroupId, follower: NodeId) -> bool {
        self.get(id).is_some_and(|group| group.raft.has_entries_to_come(follower))
    }

    /// The rest of the shard is told how a group stands.
    pub(crate) fn set_known(&mut self, slot: GroupSlot, standing: Standing) {
        let Some(group) = self.peek_mut(slot) else { return };
        let (id, before) = (group.id, mem::replace(&mut group.known, standing));
        *count_of(&mut self.counts, before) -= 1;
        *count_of(&mut self.counts, standing) += 1;
        self.counts.stopped -= u32::from(before.serves_nothing());
        self.counts.stopped += u32::from(standing.serves_nothing());
        self.counts.loading -= u32::from(before.is_loading);
        self.counts.loading += u32::from(standing.is_loading);
        if standing.is_machine_stopped {
            self.stopped_machines.insert(id);
        }
    }

    /// The groups whose state machine has stopped, in the order of their ids.
    pub(crate) fn stopped_machines(&self) -> &BTreeSet<GroupId> {
        &self.stopped_machines
    }

    /// A group has applied so many entries more, with so many commands.
    pub(crate) fn count_applied(&mut self, entries: u64, commands: u64) {
        self.counts.applied += entries;
        self.counts.commands += commands;
    }

    /// Counts anew what the entries of a group take in memory. When those of all groups take too much, a few groups
    /// give up what is durable and can be read again. So the cost does not depend on how many groups there are.
    pub(crate) fn count_entries(&mut self, slot: GroupSlot) {
        self.recount(slot);
        self.evict(EVICTED_AT_ONCE);
    }

    /// Whoever refuses something for want of memory calls this first, and more groups are asked to give up what is
    /// durable. What could be given up may have become durable since anybody counted, and without a call nothing
    /// would change any more.
    pub(crate) fn make_room(&mut self) {
        if self.memory.room() == 0 {
            self.evict(EVICTED_FOR_ROOM);
        }
    }

    fn evict(&mut self, most: usize) {
        for _ in 0..most {
            let Some(holder) = self.memory.next_to_evict() else { return };
            let Some(held) = self.held_mut(holder) else { continue };
            purlin_rsm::sometimes!("entries of a group leave the memory for those of others");
            held.is_holder = false;
            held.group.raft.evict_durable();
            self.recount(holder);
        }
    }

    /// Counts anew what the machine of a group holds.
    pub(crate) fn count_machine(&mut self, slot: GroupSlot) {
        let Some(held) = self.held_mut(slot) else { return };
        let now = held.group.machine_bytes();
        let before = mem::replace(&mut held.machine_bytes, now);
        self.machines.now = self.machines.now - before + now;
    }

    /// What the machines of all groups hold in memory, and may hold, in bytes.
    pub(crate) fn machines(&self) -> Level {
        self.machines
    }

    /// What the entries of all groups take in memory.
    pub(crate) fn memory(&self) -> &EntryMemory<GroupSlot> {
        &self.memory
    }

    fn recount(&mut self, slot: GroupSlot) {
        let Some(held) = self.held_mut(slot) else { return };
        let now = held.group.entry_bytes();
        let before = mem::replace(&mut held.entry_bytes, now);
        let is_new = now > 0 && !held.is_holder;
        held.is_holder |= is_new;
        self.memory.changed(before, now);
        if is_new {
            self.memory.holds(slot);
        }
    }

    /// Notes the deadline of a group whose inputs have been worked on.
    pub(crate) fn rearm(&mut self, slot: GroupSlot) {
        let Some(held) = self.held_mut(slot) else { return };
        let Some(deadline) = held.group.raft.deadline() else { return };
        if held.armed.is_none_or(|armed| deadline < armed) {
            held.armed = Some(deadline);
            self.timers.push(Reverse((deadline, slot)));
        }
    }

    /// Tells the groups whose time has come.
    pub(crate) fn tick(&mut self, now: Tick) {
        while let Some(Reverse((due, slot))) = self.timers.peek().copied() {
            if due > now {
                return;
            }
            self.timers.pop();
            let Some(held) = self.held_mut(slot).filter(|held| held.armed == Some(due)) else {
                continue;
            };
            held.armed = None;
            if held.group.raft.deadline().is_some_and(|deadline| deadline <= now) {
                held.group.raft.tick(now);
                self.touch(slot);
            } else {
                self.rearm(slot);
            }
        }
    }

    /// When a group wants to be told the time next.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    /// Whether each group that needs a step stands among those with inputs: nothing else would step it.
    pub(crate) fn check_steps(&self) -> Result<(), String> {
        let held = self.places.iter().filter_map(|place| place.held.as_ref());
        let mut left = held.filter(|held| !held.is_dirty && held.group.needs_step());
        match left.next() {
            Some(Held { group, .. }) => Err(format!("groups: nothing steps group {}", group.id)),
            None => Ok(()),
        }
    }

    /// Whether each slot with inputs is in range, each marked group is on the list, and the counts agree
    /// with what they count.
    pub(crate) fn check(&self) -> Result<(), String> {
        let held = |slot: &GroupSlot| match self.places.get(slot.place as usize) {
            Some(place) if place.generation == slot.generation => Ok(place.held.as_ref()),
            Some(_) => Ok(None),
            None => {
                Err(format!("groups: slot {slot:?} with inputs, of {} places", self.places.len()))
            }
        };
        let mut marked = 0;
        for slot in &self.dirty {
            let Some(held) = held(slot)? else { continue };
            if !held.is_dirty {
                return Err(format!("groups: {slot:?} has inputs and is not marked"));
            }
            marked += 1;
        }
        let all = || self.places.iter().filter_map(|place| place.held.as_ref());
        let (dirty, count) = (all().filter(|held| held.is_dirty).count(), all().count());
        let leading = all().filter(|held| held.group.known.leads).count() as u32;
        if dirty != marked {
            return Err(format!(
                "groups: {dirty} are marked, and {marked} of them are on the list"
            ));
        }
        if count != self.by_id.count || leading != self.counts.leading {
            let (ids, counted) = (self.by_id.count, self.counts.leading);
            return Err(format!(
                "groups: {count} in {ids} ids, {leading} that lead, counted as {counted}"
            ));
        }
        let applied: u64 = all().map(|held| held.group.raft.applied_index().0).sum();
        let commands: u64 = all().map(|held| held.group.raft.applied_end().0).sum();
        let counted = (self.counts.applied, self.counts.commands);
        if (applied, commands) != counted {
            return Err(format!(
                "groups: {applied} entries and {commands} commands are applied, counted as {counted:?}"
            ));
        }
        let machines: usize = all().map(|held| held.group.machine_bytes()).sum();
        if machines != self.machines.now {
            let counted = self.machines.now;
            return Err(format!(
                "groups: the machines hold {machines} bytes, counted as {counted}"
            ));
        }
        let bytes: usize = all().map(|held| held.entry_bytes).sum();
        let holders = all().filter(|held| held.is_holder).count();
        let is_listed = all().all(|held| held.is_holder || held.entry_bytes == 0);
        self.memory.check(bytes, holders, is_listed)
    }

    /// What is in a slot, unless its group was removed.
    fn held_mut(&mut self, slot: GroupSlot) -> Option<&mut Held> {
        let place = &mut self.places[slot.place as usize];
        if place.generation == slot.generation { place.held.as_mut() } else { None }
    }
}

/// Where a group that stands like this is counted, beside all groups.
fn count_of(counts: &mut GroupCounts, standing: Standing) -> &mut u32 {
    match standing.leader {
        _ if standing.leads => &mut counts.leading,
        Some(_) => &mut counts.following,
        None => &mut counts.without_leader,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::group::tests::{fresh_group, group_at, leading_group};
    use bytes::Bytes;
    use purlin_rsm::{Index, WriteId};

    fn groups(ids: impl IntoIterator<Item = u32>) -> Groups {
        let mut groups = Groups::default();
        for id in ids {
            groups.insert(fresh_group(GroupId(id)));
        }
        groups
    }

    fn ids(groups: &Groups) -> Vec<u32> {
        groups.iter().map(|group| group.id.0).collect()
    }

    #[test]
    fn groups_are_found_by_id_and_go_by_id_whatever_slots_they_have() {
        let mut groups = groups([7, 3, 9]);
        assert_eq!(ids(&groups), [3, 7, 9]);
        groups.remove(GroupId(7)).expect("it is there");
        groups.insert(fresh_group(GroupId(1)));
        groups.insert(fresh_group(GroupId(8)));
        assert_eq!(ids(&groups), [1, 3, 8, 9]);
        assert_eq!(groups.from(GroupId(4)).map(|group| group.id.0).collect::<Vec<_>>(), [8, 9]);
        assert!(groups.get(GroupId(7)).is_none() && groups.remove(GroupId(7)).is_none());
        assert_eq!(groups.places.len(), 4, "the place of 7 is used again");
    }

    #[test]
    fn a_slot_does_not_move_when_others_come_and_go() {
        let mut groups = groups([5]);
        let slot = groups.slot(GroupId(5)).expect("it is there");
        groups.insert(fresh_group(GroupId(1)));
        groups.insert(fresh_group(GroupId(6)));
        groups.remove(GroupId(1));
        assert_eq!(groups.slot(GroupId(5)), Some(slot));
        assert_eq!(groups.peek_mut(slot).map(|group| group.id), Some(GroupId(5)));
    }

    #[test]
    fn a_stale_slot_touches_no_other_group() {
        let mut groups = groups([1]);
        let stale = groups.slot(GroupId(1)).expect("it is there");
        groups.take_dirty();
        groups.remove(GroupId(1));
        let slot = groups.insert(fresh_group(GroupId(2)));
        assert_eq!((slot.place, groups.take_dirty()), (stale.place, vec![slot]));
        groups.touch(stale);
        groups.rearm(stale);
        groups.set_known(stale, Standing { leads: true, ..Standing::default() });
        assert!(groups.peek_mut(stale).is_none());
        assert!(!groups.has_dirty() && groups.deadline().is_none());
        assert_eq!(groups.counts().leading, 0);
    }

    #[test]
    fn a_group_that_is_removed_with_inputs_pending_leaves_them_to_nobody() {
        let mut groups = groups([1, 2]);
        groups.remove(GroupId(1)).expect("it is there");
        groups.insert(fresh_group(GroupId(3)));
        assert_eq!(groups.check(), Ok(()), "the inputs of group 1 are those of no other group");
        let work: Vec<u32> = groups
            .take_dirty()
            .into_iter()
            .filter_map(|slot| groups.peek_mut(slot).map(|group| group.id.0))
            .collect();
        assert_eq!(work, [2, 3]);
        assert!(groups.input(GroupId(3)).is_some());
        assert_eq!(groups.take_dirty().len(), 1, "it is noted again");
    }

    #[test]
    fn a_group_that_is_removed_takes_its_timers_along() {
        let mut groups = groups([1, 2]);
        for slot in groups.take_dirty() {
            groups.rearm(slot);
        }
        let due = groups.deadline().expect("both wait for their election");
        groups.remove(GroupId(1)).expect("it is there");
        let slot = groups.insert(fresh_group(GroupId(3)));
        groups.take_dirty();
        groups.tick(due);
        let touched = groups.take_dirty();
        assert!(!touched.contains(&slot), "the timer of group 1 is not that of group 3");
        assert_eq!(touched, [groups.slot(GroupId(2)).expect("it is there")]);
    }

    /// Lets a group propose a command of 10,000 bytes, and write it. What is durable can be read again.
    fn write(groups: &mut Groups, id: u32, is_durable: bool) -> WriteId {
        let slot = groups.slot(GroupId(id)).expect("it is there");
        let group = groups.peek_mut(slot).expect("it is there");
        group.raft.propose(vec![7; 10_000].into()).expect("it leads");
        let append = group.raft.ready().append.expect("an entry");
        if is_durable {
            group.raft.appended(Tick(0), append.write);
        }
        groups.count_entries(slot);
        append.write
    }

    fn leading(ids: impl IntoIterator<Item = u32>, bytes_max: usize) -> Groups {
        let mut groups = Groups::new(EntryMemory::new(bytes_max, 10_000, 1000), usize::MAX);
        for id in ids {
            groups.insert(leading_group(GroupId(id)));
        }
        groups
    }

    /// Followers have acknowledged nothing, and nothing is applied: each group alone would keep all of it.
    #[test]
    fn the_entries_of_many_groups_take_no_more_memory_than_one_budget() {
        let mut groups = leading(1..=100, 1 << 20);
        let mut most = 0;
        for round in 0..2000 {
            let _ = write(&mut groups, 1 + round % 100, true);
            most = most.max(groups.memory().level().now);
            assert_eq!(groups.memory().check_bound(), Ok(()), "in round {round}");
            assert_eq!(groups.check(), Ok(()), "in round {round}");
        }
        assert!(most > 1 << 19, "the budget is used: {most}");
        let holding = groups.iter().filter(|group| group.raft.held_bytes() > 10_000).count();
        assert!((50..100).contains(&holding), "groups take turns, and {holding} hold an entry");
    }

    #[test]
    fn what_is_not_durable_stays_and_takes_room_from_the_others_until_it_is() {
        let mut groups = leading(1..=4, 50_000);
        let writes: Vec<_> = (0..8).map(|round| write(&mut groups, 1 + round % 4, false)).collect();
        assert!(groups.memory().is_full() && groups.memory().room() == 0);
        assert!(groups.memory().level().now > 80_000, "nothing can be read again");
        // The disk has caught up: what comes up next frees it, though nothing is added.
        for (id, write) in (1..=4).zip(&writes[4..]) {
            let slot = groups.slot(GroupId(id)).expect("it is there");
            let group = groups.peek_mut(slot).expect("it is there");
            group.raft.appended(Tick(0), *write);
            groups.count_entries(slot);
        }
        assert!(!groups.memory().is_full(), "{:?}", groups.memory().level());
        groups.remove(GroupId(2)).expect("it is there");
        assert_eq!(groups.check(), Ok(()));
    }

    /// A shard that drops all appends for want of memory steps no group, so nobody else would count.
    #[test]
    fn what_became_durable_unnoticed_makes_room_when_it_is_needed() {
        let mut groups = leading(1..=8, 50_000);
        let writes: Vec<_> = (1..=8).map(|id| write(&mut groups, id, false)).collect();
        assert!(groups.memory().is_full());
        for (id, write) in (1..=8).zip(writes) {
            let slot = groups.slot(GroupId(id)).expect("it is there");
            groups.peek_mut(slot).expect("it is there").raft.appended(Tick(0), write);
        }
        assert!(groups.memory().is_full(), "nobody has counted");
        groups.make_room();
        assert!(!groups.memory().is_full(), "{:?}", groups.memory().level());
    }

    #[test]
    fn a_group_is_told_the_time_at_its_deadline_or_later_and_never_before() {
        for late in [0, 1, 1000] {
            // It campaigns when its leader is not heard, and not at once.
            let mut groups = Groups::default();
            groups.insert(group_at(GroupId(1), Index(5)));
            let [slot] = groups.take_dirty()[..] else { panic!("one group") };
            groups.rearm(slot);
            let due = groups.deadline().expect("it waits for its election");
            groups.tick(Tick(due.0 - 1));
            assert_eq!((groups.has_dirty(), groups.deadline()), (false, Some(due)));
            groups.tick(Tick(due.0 + late));
            assert_eq!(groups.take_dirty(), [slot], "{late} ticks late");
        }
    }

    /// A group may have work at each step, as one with many queries has.
    #[test]
    fn a_group_that_is_worked_on_goes_behind_those_that_wait() {
        let mut groups = groups([1, 2, 3]);
        let mut worked_on = Vec::new();
        for _ in 0..7 {
            let slot = groups.next_dirty().expect("all have work");
            worked_on.extend(groups.peek_mut(slot).map(|group| group.id.0));
            groups.touch(slot);
        }
        assert_eq!(worked_on, [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn an_input_that_brings_no_work_costs_no_step() {
        let mut groups = leading([1, 2], usize::MAX);
        groups.take_dirty();
        let slots = [1, 2].map(|id| groups.slot(GroupId(id)).expect("it is there"));
        for slot in slots {
            let known = groups.peek_mut(slot).expect("it is there").standing();
            groups.set_known(slot, known);
        }
        groups
            .peek_mut(slots[1])
            .expect("it is there")
            .raft
            .propose(Bytes::new())
            .expect("it leads");
        assert_eq!(groups.check_steps(), Err("groups: nothing steps group 2".into()));
        slots.into_iter().for_each(|slot| groups.touch_if_needed(slot));
        assert_eq!((groups.check_steps(), groups.take_dirty()), (Ok(()), vec![slots[1]]));
    }

    #[test]
    fn an_input_for_each_group_reaches_each_once_in_the_order_of_their_ids() {
        let mut groups = groups([7, 3, 9]);
        groups.take_dirty();
        let reached = std::cell::RefCell::new(Vec::new());
        groups.input_each(|group| reached.borrow_mut().push(group.id.0));
        assert_eq!(reached.take(), [3, 7, 9]);
        assert_eq!(groups.take_dirty().len(), 3, "each is worked on");
    }

    #[test]
    fn what_a_group_has_applied_before_it_comes_is_counted() {
        let mut groups = groups([1]);
        groups.insert(group_at(GroupId(2), Index(5)));
        groups.insert(group_at(GroupId(3), Index(7)));
        assert_eq!((groups.counts().applied, groups.check()), (12, Ok(())));
        groups.remove(GroupId(2)).expect("it is there");
        assert_eq!((groups.counts().applied, groups.check()), (7, Ok(())));
    }

    #[test]
    fn inputs_that_are_lost_and_counts_that_are_wrong_are_named() {
        let mut broken = groups([1, 2]);
        assert_eq!(broken.check(), Ok(()));
        let slot = broken.dirty.pop_back().expect("both have inputs");
        assert!(broken.check().unwrap_err().contains("2 are marked, and 1 of them"));
        broken.dirty.push_back(GroupSlot { place: 9, ..slot });
        assert!(broken.check().unwrap_err().contains("of 2 places"));
        broken.dirty.pop_back();
        broken.dirty.push_back(slot);
        broken.take_dirty();
        broken.dirty.push_back(slot);
        assert!(broken.check().unwrap_err().contains("is not marked"));
        broken.dirty.clear();
        broken.counts.leading = 1;
        assert!(broken.check().unwrap_err().contains("0 that lead, counted as 1"));
        broken.counts.leading = 0;
        broken.count_applied(3, 4);
        assert!(broken.check().unwrap_err().contains("are applied, counted as (3, 4)"));
    }

    #[test]
    fn counts_follow_what_is_known() {
        let mut groups = groups([1, 2, 3]);
        assert_eq!((groups.counts().groups, groups.counts().without_leader), (3, 3));
        let slot = |groups: &Groups, id| groups.slot(GroupId(id)).expect("it is there");
        let leads = Standing { leads: true, leader: Some(NodeId(1)), ..Standing::default() };
        let (one, two) = (slot(&groups, 1), slot(&groups, 2));
        groups.set_known(one, leads);
        groups.set_known(two, Standing { leader: Some(NodeId(2)), is_stopped: true, ..leads });
        let (is_stopped, is_loading) = (true, true);
        groups.set_known(two, Standing { leads: false, is_stopped, is_loading, ..leads });
        let expected = GroupCounts {
            groups: 3,
            leading: 1,
            following: 1,
            without_leader: 1,
            stopped: 1,
            loading: 1,
            applied: 0,
            commands: 0,
        };
        assert_eq!(groups.counts(), expected);
        groups.remove(GroupId(2));
        groups.remove(GroupId(3));
        assert_eq!(groups.counts(), GroupCounts { groups: 1, leading: 1, ..Default::default() });
    }
}
