//! Checks whether the results for one key follow from the order in which its writes stand in their
//! log.
//!
//! The log says where each write took effect, so only the other operations have to find their
//! places: each one comes as soon as it fits and changes nothing. The result is one order. It must
//! satisfy all that a search demands of an order: the results, the times, the lanes. If it does
//! not, this check gives no verdict.

use super::{
    history::{Moment, Operation, Told, last_before},
    model::Model,
};
use std::collections::{BTreeMap, BTreeSet};

/// Whether the order of the log explains all that was answered.
pub(super) fn explains<M: Model>(
    model: &M,
    operations: &[&Operation<M::Input, M::Output>],
) -> bool {
    let mut line = Line::new(model, operations);
    for place in line.by_log() {
        line.order_idle();
        if !line.order_write(place) {
            return false;
        }
    }
    line.order_idle();
    line.first_return() == Moment::MAX
}

/// The order as far as it is made.
struct Line<'a, M: Model> {
    model: &'a M,
    /// What was answered or seen, by invocation.
    items: Vec<Item<'a, M>>,
    /// The answered ones by their return.
    by_return: Vec<usize>,
    /// So many of those are known to be ordered.
    returned: usize,
    /// The answered ones that were not seen and are not ordered.
    unseen: BTreeSet<usize>,
    state: M::State,
}

struct Item<'a, M: Model> {
    operation: &'a Operation<M::Input, M::Output>,
    /// The last answered operation before it in its lane: it comes first.
    after: Option<usize>,
    is_ordered: bool,
}

impl<M: Model> Item<'_, M> {
    fn is_answered(&self) -> bool {
        matches!(self.operation.told, Told::Done(_))
    }

    /// Whether its client may have got this answer.
    fn accepts(&self, output: &M::Output) -> bool {
        match &self.operation.told {
            Told::Done(answer) => answer == output,
            Told::Unknown => true,
            Told::NotApplied => false,
        }
    }
}

impl<'a, M: Model> Line<'a, M> {
    fn new(model: &'a M, operations: &[&'a Operation<M::Input, M::Output>]) -> Self {
        let mut operations: Vec<_> = operations
            .iter()
            .copied()
            .filter(|it| matches!(it.told, Told::Done(_)) || it.seen_at.is_some())
            .collect();
        operations.sort_by_key(|operation| operation.invoked);
        let (mut lanes, mut items) = (BTreeMap::new(), Vec::new());
        for operation in operations {
            let after = last_before(&lanes, operation);
            let item = Item { operation, after, is_ordered: false };
            if let (Some(lane), true) = (operation.lane, item.is_answered()) {
                lanes.insert((lane, operation.invoked), items.len());
            }
            items.push(item);
        }
        let answered = (0..items.len()).filter(|&place| items[place].is_answered());
        let mut by_return: Vec<usize> = answered.collect();
        let is_unseen = |place: &usize| items[*place].operation.seen_at.is_none();
        let unseen = by_return.iter().copied().filter(is_unseen).collect();
        by_return.sort_by_key(|&place| items[place].operation.returned);
        Self { model, items, by_return, returned: 0, unseen, state: model.initial() }
    }

    /// What was seen, in the order of the log.
    fn by_log(&self) -> Vec<usize> {
        let seen_at = |place: &usize| self.items[*place].operation.seen_at;
        let mut seen: Vec<usize> =
            (0..self.items.len()).filter(|place| seen_at(place).is_some()).collect();
        seen.sort_by_key(seen_at);
        seen
    }

    /// Orders what was not seen, may come, fits now and changes nothing, until there is no more.
    fn order_idle(&mut self) {
        loop {
            let first_return = self.first_return();
            let in_time = self
                .unseen
                .iter()
                .copied()
                .take_while(|&place| self.items[place].operation.invoked < first_return);
            let idle: Vec<usize> = in_time.filter(|&place| self.is_idle(place)).collect();
            if idle.is_empty() {
                return;
            }
            for place in idle {
                self.unseen.remove(&place);
                self.items[place].is_ordered = true;
            }
        }
    }

    fn is_idle(&self, place: usize) -> bool {
        let item = &self.items[place];
        if !self.follows_its_lane(item) {
            return false;
        }
        let (next, output) = self.model.step(&self.state, &item.operation.input);
        next == self.state && item.accepts(&output)
    }

    /// Orders a write next. False when it cannot come now.
    fn order_write(&mut self, place: usize) -> bool {
        let first_return = self.first_return();
        let item = &self.items[place];
        let (next, output) = self.model.step(&self.state, &item.operation.input);
        let may_come = item.operation.invoked < first_return && self.follows_its_lane(item);
        if !may_come || !item.accepts(&output) {
            return false;
        }
        self.state = next;
        self.items[place].is_ordered = true;
        true
    }

    fn follows_its_lane(&self, item: &Item<'_, M>) -> bool {
        item.after.is_none_or(|after| self.items[after].is_ordered)
    }

    /// When the first of what is still to come returned: nothing comes before it that was asked later.
    fn first_return(&mut self) -> Moment {
        while let Some(&place) = self.by_return.get(self.returned) {
            let item = &self.items[place];
            if !item.is_ordered {
                return item.operation.returned.expect("it was answered");
            }
            self.returned += 1;
        }
        Moment::MAX
    }
}
