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
    /// What is wrong, and the beat at which each was seen last.
    problems: Vec<(Problem, u64)>,
    /// What was last told of its groups, and when.
    groups: GroupCounts,
    groups_told: Option<u64>,
}

/// The beats between two lines about groups, 5 s: leaders that move one by one are told of by the last of them.
const GROUPS_BEATS: u64 = 50;

/// A problem is over when it was not seen for so many beats, 2 s: one that comes and goes makes no line each time.
const OVER_BEATS: u64 = 20;

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
        self.note_problems(status, &mut lines);
        let led = |counts: &GroupCounts| (counts.leading, counts.without_leader);
        let may_tell = self.groups_told.is_none_or(|told| status.beat >= told + GROUPS_BEATS);
        if may_tell && led(&self.groups) != led(&status.groups) {
            (self.groups, self.groups_told) = (status.groups, Some(status.beat));
            lines.push(Line::Groups(status.groups));
        }
        lines
    }

    /// A problem has one line when it begins, and one when it is over.
    fn note_problems(&mut self, status: &ShardStatus, lines: &mut Vec<Line>) {
        for problem in &status.problems {
            // How long a disk hangs changes at each beat, and is no news.
            let is_same =
                |(other, _): &&mut (Problem, u64)| discriminant(other) == discriminant(problem);
            match self.problems.iter_mut().find(is_same) {
                Some(known) => *known = (problem.clone(), status.beat),
                None => {
                    lines.push(Line::Wrong(problem.clone()));
                    self.problems.push((problem.clone(), status.beat));
                }
            }
        }
        self.problems.retain(|(problem, seen)| {
            let is_over = status.beat.saturating_sub(*seen) >= OVER_BEATS;
            lines.extend(is_over.then(|| Line::Over(problem.clone())));
            !is_over
        });
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
        let later = |beat| ShardStatus { beat, ..led.clone() };
        assert_eq!(news.lines(&later(OVER_BEATS - 1)), [], "it may come again");
        assert_eq!(news.lines(&later(OVER_BEATS)), [Line::Over(hangs(2))]);
    }

    #[test]
    fn leaders_that_move_for_long_have_a_line_in_five_seconds_and_one_for_the_end() {
        let mut news = News::default();
        let status = |beat: u64| {
            let leading = 48 - beat.min(120) as u32 / 4;
            let groups = GroupCounts { groups: 48, leading, ..Default::default() };
            ShardStatus { beat, groups, ..ShardStatus::default() }
        };
        let led = |line| match line {
            Line::Groups(groups) => groups.leading,
            line => panic!("{line:?}"),
        };
        let lines: Vec<_> = (0..400).flat_map(|beat| news.lines(&status(beat))).map(led).collect();
        assert_eq!(lines, [48, 36, 23, 18]);
    }

    /// A disk or a memory that is full takes one write now and then: each beat may find it otherwise.
    #[test]
    fn a_problem_that_comes_and_goes_for_minutes_has_one_line() {
        let mut news = News::default();
        let status = |beat| ShardStatus {
            beat,
            problems: if beat % 3 == 0 { vec![Problem::DiskFull] } else { Vec::new() },
            ..ShardStatus::default()
        };
        let lines: Vec<_> = (0..900).flat_map(|beat| news.lines(&status(beat))).collect();
        assert_eq!(lines, [Line::Wrong(Problem::DiskFull)], "in 90 s");
    }

    #[test]
    fn another_shard_than_the_first_does_not_say_whom_the_node_waits_for() {
        let waits_for = vec![NodeId(2)];
        let status = ShardStatus { shard: ShardId(1), waits_for, ..ShardStatus::default() };
        assert_eq!(News::default().lines(&status), []);
    }
}
