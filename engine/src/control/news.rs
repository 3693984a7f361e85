//! Logs what is new in the status of a shard: whom it waits for, what is wrong, and how many of its groups
//! it leads. So the log, `INFO` and the admin port tell the same. At most a few lines a beat, however many
//! groups change.

use crate::control::status::{GroupCounts, Problem, ShardStatus};
use purlin_rsm::{NodeId, ShardId};
use std::mem::discriminant;

/// What was last logged.
#[derive(Default)]
pub(crate) struct News {
    waits_for: Vec<NodeId>,
    problems: Vec<Problem>,
    groups: GroupCounts,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Line {
    WaitsFor(Vec<NodeId>),
    Wrong(Problem),
    Over(Problem),
    Groups(GroupCounts),
}

impl News {
    /// Logs what is new in the status of the shard `name`.
    pub(crate) fn tell(&mut self, name: &str, status: &ShardStatus) {
        for line in self.lines(status) {
            match line {
                Line::WaitsFor(nodes) => {
                    let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
                    tracing::info!(
                        "{name} waits for the first start of node {}: a new cluster serves when all its members have \
                         met",
                        nodes.join(" and node ")
                    );
                }
                Line::Wrong(problem) => tracing::warn!("{name}: {problem}"),
                Line::Over(problem) => tracing::info!("{name}: no longer: {problem}"),
                Line::Groups(GroupCounts { groups, leading, without_leader, .. }) => {
                    tracing::info!(
                        "{name} leads {leading} of its {groups} groups, and knows no leader of {without_leader}"
                    )
                }
            }
        }
    }

    /// The lines about what is new. An unchanged status makes none, and allocates nothing.
    fn lines(&mut self, status: &ShardStatus) -> Vec<Line> {
        let mut lines = Vec::new();
        // Shard 0 meets the others, for all shards of its node.
        if status.shard == ShardId(0) && self.waits_for != status.waits_for {
            self.waits_for.clone_from(&status.waits_for);
            if !self.waits_for.is_empty() {
                lines.push(Line::WaitsFor(self.waits_for.clone()));
            }
        }
        // How long a disk hangs changes at each beat, and is no news.
        let is_in = |all: &[Problem], one: &Problem| {
            all.iter().any(|other| discriminant(other) == discriminant(one))
        };
        let (before, now) = (&self.problems, &status.problems);
        lines.extend(now.iter().filter(|it| !is_in(before, it)).cloned().map(Line::Wrong));
        lines.extend(before.iter().filter(|it| !is_in(now, it)).cloned().map(Line::Over));
        self.problems.clone_from(now);
        let led = |counts: &GroupCounts| (counts.leading, counts.without_leader);
        if led(&self.groups) != led(&status.groups) {
            lines.push(Line::Groups(status.groups));
        }
        self.groups = status.groups;
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_what_is_new_is_logged_and_in_one_line_for_all_groups() {
        let mut news = News::default();
        let waits = ShardStatus { waits_for: vec![NodeId(2)], ..ShardStatus::default() };
        assert_eq!(news.lines(&waits), [Line::WaitsFor(vec![NodeId(2)])]);
        assert_eq!(news.lines(&waits), []);

        let groups = GroupCounts { groups: 9, leading: 4, without_leader: 5, ..Default::default() };
        let led = ShardStatus { groups, ..ShardStatus::default() };
        assert_eq!(news.lines(&led), [Line::Groups(groups)], "four elections, one line");
        let applied = GroupCounts { applied: 1, ..groups };
        assert_eq!(news.lines(&ShardStatus { groups: applied, ..led.clone() }), []);

        let hangs = |seconds| Problem::DiskHangs(Duration::from_secs(seconds));
        let wrong = |seconds| ShardStatus { problems: vec![hangs(seconds)], ..led.clone() };
        assert_eq!(news.lines(&wrong(1)), [Line::Wrong(hangs(1))]);
        assert_eq!(news.lines(&wrong(2)), [], "it hangs on");
        assert_eq!(news.lines(&led), [Line::Over(hangs(2))]);
    }

    #[test]
    fn another_shard_than_the_first_does_not_say_whom_the_node_waits_for() {
        let waits_for = vec![NodeId(2)];
        let status = ShardStatus { shard: ShardId(1), waits_for, ..ShardStatus::default() };
        assert_eq!(News::default().lines(&status), []);
    }
}
