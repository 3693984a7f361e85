//! Checks whether each proposal was applied at most once, only if its outcome allows it, and in the
//! order of its connection. It reads the log, and so it works across keys (safety A5, E1).
//!
//! It needs commands that are all different.

use super::history::{History, Lane, OperationId, Told};
use bytes::Bytes;
use purlin_rsm::{GroupId, Position};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

/// What was proposed, and where it was applied.
#[derive(Default)]
pub struct Order {
    /// In the order of their operations.
    proposed: Vec<Proposed>,
    applied: BTreeMap<(GroupId, Bytes), BTreeSet<Position>>,
}

struct Proposed {
    operation: OperationId,
    group: GroupId,
    command: Bytes,
}

impl Order {
    /// A client proposes a command that nobody else does. The order of the calls is what counts.
    pub fn proposed(&mut self, operation: OperationId, group: GroupId, command: Bytes) {
        self.proposed.push(Proposed { operation, group, command });
    }

    /// What an operation proposed, if it did.
    pub fn proposal(&self, operation: OperationId) -> Option<(GroupId, &Bytes)> {
        let place = self.proposed.binary_search_by_key(&operation, |it| it.operation).ok()?;
        let Proposed { group, command, .. } = &self.proposed[place];
        Some((*group, command))
    }

    /// A replica has applied a command. A restarted one does it again, at the same place.
    pub fn applied(&mut self, group: GroupId, position: Position, command: &Bytes) {
        self.applied.entry((group, command.clone())).or_default().insert(position);
    }

    /// Whether a replica has applied a command.
    pub fn has_applied(&self, group: GroupId, command: &Bytes) -> bool {
        self.applied.contains_key(&(group, command.clone()))
    }

    /// Tells the history where its operations took effect.
    pub fn tell<I, O>(&self, history: &mut History<I, O>) {
        for Proposed { operation, group, command } in &self.proposed {
            let places = self.applied.get(&(*group, command.clone()));
            if let Some(position) = places.and_then(BTreeSet::first) {
                history.seen(*operation, position.0);
            }
        }
    }

    /// What must not have happened, in words.
    pub fn violations<I: Debug, O: Debug>(&self, history: &History<I, O>) -> Vec<String> {
        let mut violations = Vec::new();
        let mut newest: BTreeMap<(Lane, GroupId), Position> = BTreeMap::new();
        for Proposed { operation, group, command } in &self.proposed {
            let operation = history.operation(*operation);
            let places = self.applied.get(&(*group, command.clone()));
            let places: Vec<Position> = places.into_iter().flatten().copied().collect();
            let mut fails = |why: &str| {
                violations.push(format!("{why}: {operation}, group {group}, {places:?}"))
            };
            match (&operation.told, places[..].first()) {
                _ if places.len() > 1 => fails("applied twice"),
                (Told::Done(_), None) => fails("done and never applied"),
                (Told::NotApplied, Some(_)) => fails("applied in spite of its answer"),
                (Told::Done(_), Some(position)) => {
                    let Some(lane) = operation.lane else { continue };
                    let newest = newest.entry((lane, *group)).or_default();
                    if position < newest {
                        fails(&format!(
                            "applied before an earlier one of its connection, {newest}"
                        ));
                    }
                    *newest = *position.max(newest);
                }
                (Told::Unknown, Some(position)) => {
                    // It may come late, but not before an earlier one that is done.
                    let Some(lane) = operation.lane else { continue };
                    if let Some(newest) = newest.get(&(lane, *group)).filter(|it| position < it) {
                        fails(&format!("in doubt, and applied before an earlier one, {newest}"));
                    }
                }
                (Told::Unknown | Told::NotApplied, None) => {}
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const GROUP: GroupId = GroupId(1);

    /// Operations of one connection, each with its answer and where it was applied.
    fn judged(operations: &[(Told<()>, &[u64])]) -> String {
        let (mut history, mut order) = (History::<usize, ()>::default(), Order::default());
        let mut ids = Vec::new();
        for (number, (_, places)) in operations.iter().enumerate() {
            let command = Bytes::from(format!("command {number}"));
            let id = history.invoke_in(Some(1), 1, Bytes::new(), number, Duration::ZERO);
            order.proposed(id, GROUP, command.clone());
            places.iter().for_each(|&place| order.applied(GROUP, Position(place), &command));
            ids.push(id);
        }
        for (id, (told, _)) in ids.into_iter().zip(operations) {
            history.complete(id, told.clone(), Duration::ZERO);
        }
        order.violations(&history).join("\n")
    }

    #[test]
    fn an_order_that_is_kept_is_good_whatever_is_in_doubt() {
        let done = || Told::Done(());
        let operations: [(_, &[u64]); 5] = [
            (done(), &[3]),
            (Told::Unknown, &[9]),
            (Told::Unknown, &[]),
            (Told::NotApplied, &[]),
            (done(), &[4, 4]),
        ];
        assert_eq!(judged(&operations), "");
    }

    #[test]
    fn each_way_to_break_it_is_found() {
        let done = || Told::Done(());
        assert!(judged(&[(Told::Unknown, &[3, 5])]).starts_with("applied twice"));
        assert!(judged(&[(done(), &[])]).starts_with("done and never applied"));
        assert!(judged(&[(Told::NotApplied, &[3])]).starts_with("applied in spite"));
        assert!(judged(&[(done(), &[4]), (done(), &[3])]).starts_with("applied before an earlier"));
        let doubtful = judged(&[(done(), &[4]), (Told::Unknown, &[3])]);
        assert!(doubtful.starts_with("in doubt, and applied before"));
    }
}
