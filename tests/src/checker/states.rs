//! Checks whether replicas that have applied the same index have equal states.

use purlin_rsm::{GroupId, NodeId, Position};
use std::{collections::BTreeMap, fmt};

/// What each replica was seen to be, and what was first seen at each place.
#[derive(Default)]
pub struct States {
    seen: BTreeMap<(GroupId, Position), (NodeId, u64)>,
    latest: BTreeMap<(GroupId, NodeId), (Position, u64)>,
}

/// Two replicas that should be equal and are not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Divergence {
    /// Two replicas differ after the same number of entries.
    Digest {
        /// Their group.
        group: GroupId,
        /// The last entry that both applied.
        applied: Position,
        /// The replica seen first, and its digest.
        first: (NodeId, u64),
        /// The other.
        second: (NodeId, u64),
    },
    /// One replica has not applied what another has.
    Behind {
        /// Their group.
        group: GroupId,
        /// The one in front, and how far it is.
        front: (NodeId, Position),
        /// The one behind; nothing when it was never seen.
        behind: (NodeId, Option<Position>),
    },
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest { group, applied, first, second } => write!(
                f,
                "group {group} at position {applied}: node {} has state {:016x}, node {} {:016x}",
                first.0, first.1, second.0, second.1
            ),
            Self::Behind { group, front, behind: (node, Some(position)) } => write!(
                f,
                "group {group}: node {} applied up to {}, node {node} up to {position}",
                front.0, front.1
            ),
            Self::Behind { group, front, behind: (node, None) } => write!(
                f,
                "group {group}: node {} applied up to {}, node {node} was never seen",
                front.0, front.1
            ),
        }
    }
}

impl States {
    /// A replica has `digest` after it applied `applied`. Fails when another differed there.
    pub fn observe(
        &mut self,
        node: NodeId,
        group: GroupId,
        applied: Position,
        digest: u64,
    ) -> Result<(), Divergence> {
        self.latest.insert((group, node), (applied, digest));
        let first = *self.seen.entry((group, applied)).or_insert((node, digest));
        if first.1 != digest {
            return Err(Divergence::Digest { group, applied, first, second: (node, digest) });
        }
        Ok(())
    }

    /// Fails unless all `nodes` are equally far in all groups that were seen: the end of a calm run.
    pub fn all_equal(&self, nodes: &[NodeId]) -> Result<(), Divergence> {
        let groups: std::collections::BTreeSet<_> =
            self.latest.keys().map(|(group, _)| *group).collect();
        for group in groups {
            let position =
                |node: &NodeId| self.latest.get(&(group, *node)).map(|(position, _)| *position);
            let front = nodes.iter().max_by_key(|node| position(node));
            let Some((&front, first)) = front.and_then(|node| Some((node, position(node)?))) else {
                continue;
            };
            for &node in nodes {
                if position(&node) != Some(first) {
                    let behind = (node, position(&node));
                    return Err(Divergence::Behind { group, front: (front, first), behind });
                }
            }
        }
        Ok(())
    }

    /// Whether a node was ever seen to apply anything.
    pub fn has_seen(&self, node: NodeId) -> bool {
        self.latest.keys().any(|(_, seen)| *seen == node)
    }

    /// How many places were seen.
    pub fn observed(&self) -> usize {
        self.seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(3);

    #[test]
    fn replicas_may_be_apart_and_must_be_equal_where_they_meet() {
        let mut states = States::default();
        states.observe(NodeId(1), GROUP, Position(5), 50).unwrap();
        states.observe(NodeId(2), GROUP, Position(4), 40).unwrap();
        states.observe(NodeId(2), GROUP, Position(5), 50).unwrap();
        // A restarted replica applies again.
        states.observe(NodeId(1), GROUP, Position(4), 40).unwrap();
        let divergence = states.observe(NodeId(3), GROUP, Position(5), 51).unwrap_err();
        let (first, second) = ((NodeId(1), 50), (NodeId(3), 51));
        let expected = Divergence::Digest { group: GROUP, applied: Position(5), first, second };
        assert_eq!(divergence, expected);
    }

    #[test]
    fn a_calm_end_leaves_nobody_behind() {
        let mut states = States::default();
        let nodes = [NodeId(1), NodeId(2)];
        states.observe(NodeId(1), GROUP, Position(5), 50).unwrap();
        let front = (NodeId(1), Position(5));
        let never = Divergence::Behind { group: GROUP, front, behind: (NodeId(2), None) };
        assert_eq!(states.all_equal(&nodes), Err(never));
        states.observe(NodeId(2), GROUP, Position(4), 40).unwrap();
        let late =
            Divergence::Behind { group: GROUP, front, behind: (NodeId(2), Some(Position(4))) };
        assert_eq!(states.all_equal(&nodes), Err(late));
        states.observe(NodeId(2), GROUP, Position(5), 50).unwrap();
        assert_eq!(states.all_equal(&nodes), Ok(()));
        assert_eq!(states.observed(), 2);
    }
}
