//! Puts the answers of all nodes together, and says what is wrong.

use super::ask::{Answer, Asked};
use crate::admin::schema::NodeAnswer;
use std::collections::{BTreeMap, BTreeSet};

/// The most groups that are named in one sentence.
const NAMED_MAX: usize = 8;

/// How a cluster stands.
pub(super) struct Report {
    pub(super) nodes: Vec<Row>,
    /// What is wrong, in sentences; empty when all is well.
    pub(super) problems: Vec<String>,
}

/// One node.
pub(super) struct Row {
    pub(super) node: Option<u32>,
    pub(super) address: Option<String>,
    /// So many entries fewer, over all groups, are applied here than at the node that has applied most.
    pub(super) behind: u64,
    pub(super) answer: Result<NodeAnswer, String>,
}

/// Puts the answers together.
pub(super) fn judge(asked: Vec<Asked>) -> Report {
    let mut problems = Vec::new();
    differing_clusters(&asked, &mut problems);
    for one in &asked {
        match &one.answer {
            // A node that others are connected to runs, although nobody could ask it.
            Err(_) if one.address.is_none() && is_connected(one.node, &asked) => {}
            Err(why) => problems.push(silent(one, why)),
            Ok(answer) => of_node(&answer.node, &asked, &mut problems),
        }
    }
    let waits = answers(&asked).any(|it| it.node.shards.iter().any(|s| !s.waits_for.is_empty()));
    // A new cluster that waits for a member has no leaders yet.
    if !waits {
        problems.extend(without_leader(&asked));
    }
    let most = answers(&asked).map(|answer| answer.node.groups.applied).max().unwrap_or(0);
    let rows = asked.into_iter().map(|one| Row {
        node: one.node,
        address: one.address,
        behind: one.answer.as_ref().map_or(0, |answer| most - answer.node.groups.applied),
        answer: one.answer.map(|answer| answer.node),
    });
    Report { nodes: rows.collect(), problems }
}

fn answers(asked: &[Asked]) -> impl Iterator<Item = &Answer> {
    asked.iter().filter_map(|one| one.answer.as_ref().ok())
}

/// The groups of which no node that answers knows the leader. A node that knows all leaders has not listed its
/// groups, and then there are none.
fn without_leader(asked: &[Asked]) -> Option<String> {
    let all = answers(asked).map(|answer| answer.node.groups.all).max()?;
    if answers(asked).any(|answer| answer.node.groups.without_leader == 0) {
        return None;
    }
    // A list that was cut short says nothing of the groups behind its end.
    let ends = answers(asked).filter(|answer| !answer.has_all_groups);
    let end = ends.map(|answer| answer.groups.last().map_or(0, |line| line.group)).min();
    let lines = || answers(asked).flat_map(|answer| &answer.groups);
    let led: BTreeSet<_> =
        lines().filter(|line| line.leader.is_some()).map(|line| line.group).collect();
    let listed = lines().map(|line| line.group).filter(|group| *group <= end.unwrap_or(u32::MAX));
    let orphans: BTreeSet<_> = listed.filter(|group| !led.contains(group)).collect();
    if orphans.is_empty() {
        return None;
    }
    let named: Vec<_> = orphans.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    Some(format!(
        "{}{} of {all} groups have no leader that a node here knows: {}{}; requests to them wait and then fail; an \
         election takes a second or two, and needs a majority of the nodes",
        if end.is_some() { "at least " } else { "" },
        orphans.len(),
        named.join(", "),
        if orphans.len() > NAMED_MAX { ", …" } else { "" },
    ))
}

fn differing_clusters(asked: &[Asked], problems: &mut Vec<String>) {
    let clusters: BTreeSet<_> = answers(asked).map(|answer| &*answer.node.cluster).collect();
    if clusters.len() > 1 {
        let list: Vec<_> = clusters.into_iter().collect();
        problems.push(format!(
            "the nodes that were asked belong to different clusters: {}; ask the nodes of one cluster",
            list.join(", ")
        ));
    }
}

/// Whether a node that answers is connected to node `node`.
fn is_connected(node: Option<u32>, asked: &[Asked]) -> bool {
    let shards = answers(asked).flat_map(|answer| &answer.node.shards);
    let mut peers = shards.flat_map(|shard| &shard.peers);
    peers.any(|peer| Some(peer.node) == node && peer.outbound.up)
}

fn silent(one: &Asked, why: &str) -> String {
    let who = one.node.map_or("a node".into(), |node| format!("node {node}"));
    match &one.address {
        Some(address) => format!(
            "{who} does not answer at {address}: {why}; the node may be down, or its admin port may \
             listen at another address"
        ),
        None => format!("{who} was not asked: {why}; name its admin port on the command line"),
    }
}

/// What is wrong by what a node says of itself.
fn of_node(node: &NodeAnswer, asked: &[Asked], problems: &mut Vec<String>) {
    let number = node.node;
    let answers = |other| asked.iter().any(|one| one.node == Some(other) && one.answer.is_ok());
    let mut waits_for: BTreeSet<u32> = BTreeSet::new();
    let (mut connected, mut cut_off) = (BTreeSet::new(), BTreeMap::new());
    for shard in &node.shards {
        let place = format!("node {number}, shard {}", shard.shard);
        waits_for.extend(&shard.waits_for);
        problems.extend(shard.problems.iter().map(|problem| format!("{place}: {problem}")));
        if let Some(error) = &shard.error {
            problems.push(format!(
                "{place} has stopped: {error}; its groups go on at the other nodes; the node's log says \
                 what to do"
            ));
        } else if shard.state == "stopped" {
            problems.push(format!("{place} has stopped; its groups go on at the other nodes"));
        }
        for peer in &shard.peers {
            connected.extend(peer.outbound.up.then_some(peer.node));
            if let Some(why) = &peer.outbound.ended {
                cut_off.insert(peer.node, why);
            }
        }
    }
    if !waits_for.is_empty() {
        let list: Vec<_> = waits_for.iter().map(ToString::to_string).collect();
        problems.push(format!(
            "node {number} waits for the first start of node {}: a new cluster serves when all its members \
             have met",
            list.join(" and node ")
        ));
    }
    // Two shards without a common group need no connection. Of a node that does not answer it is said
    // already.
    for (peer, why) in cut_off.into_iter().filter(|(peer, _)| answers(*peer)) {
        if connected.contains(&peer) {
            continue;
        }
        problems.push(format!("node {number} has no connection to node {peer}: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::schema::{GroupLine, Groups, Link, Peer, Shard};

    fn shard() -> Shard {
        Shard { state: "serving".into(), ..Shard::default() }
    }

    fn asked(node: u32, applied: u64, leader: Option<u32>, shard: Shard) -> Asked {
        let without_leader = u32::from(leader.is_none());
        let line = GroupLine { group: 1, term: 1, leader, applied };
        let groups = Groups { all: 1, without_leader, applied, ..Groups::default() };
        let answer =
            NodeAnswer { replicas: 2, shards: vec![shard], ..NodeAnswer::sample(node, groups) };
        let answer = Answer::new(answer, vec![line]);
        Asked { node: Some(node), address: Some(format!("a:{node}")), answer: Ok(answer) }
    }

    #[test]
    fn a_node_is_behind_by_what_another_has_applied() {
        let report = judge(vec![asked(1, 10, Some(1), shard()), asked(2, 7, None, shard())]);
        assert_eq!(report.nodes.iter().map(|row| row.behind).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(report.problems, [""; 0], "one node knows the leader");
    }

    /// A million groups are not read through when no node answers for them in time.
    #[test]
    fn of_lists_that_were_cut_short_only_the_common_part_counts() {
        let cut = |leaders: &[Option<u32>], has_all_groups| {
            let mut one = asked(1, 1, None, shard());
            let line = |(group, leader)| GroupLine { group, term: 1, leader, applied: 1 };
            let answer = one.answer.as_mut().unwrap_or_else(|why| panic!("{why}"));
            answer.groups = (1..).zip(leaders.iter().copied()).map(line).collect();
            (answer.node.groups.all, answer.has_all_groups) = (9, has_all_groups);
            one
        };
        let said = |all: Vec<Asked>| judge(all).problems;
        let two = said(vec![cut(&[None, Some(2), None], false), cut(&[None, None, None], true)]);
        assert!(two[0].starts_with("at least 2 of 9 groups have no leader that"), "{two:?}");
        let one = said(vec![cut(&[None, None], false), cut(&[None], false)]);
        assert!(
            one[0].contains("at least 1 of 9 groups have no leader that a node here knows: 1;")
        );
        assert_eq!(said(vec![cut(&[], false), cut(&[None], true)]), [""; 0], "nothing is known");
    }

    #[test]
    fn each_problem_is_said_in_a_sentence() {
        let said = |all: Vec<Asked>, part: &str| {
            let problems = judge(all).problems;
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(part), "{problems:?}");
        };
        said(
            vec![asked(1, 1, None, shard())],
            "1 of 1 groups have no leader that a node here knows: 1;",
        );
        let mut silent = asked(2, 0, None, shard());
        silent.answer = Err("Connection refused".into());
        said(
            vec![asked(1, 1, Some(1), shard()), silent],
            "node 2 does not answer at a:2: Connection",
        );
        let told = |peers| {
            let unasked = Asked { node: Some(2), address: None, answer: Err("loopback".into()) };
            judge(vec![asked(1, 1, Some(1), Shard { peers, ..shard() }), unasked]).problems
        };
        let link = Link { up: true, ended: None };
        let peer = Peer { node: 2, outbound: link, ..Peer::default() };
        assert_eq!(told(vec![peer]), Vec::<String>::new(), "node 1 is connected to it");
        assert!(told(Vec::new())[0].starts_with("node 2 was not asked: loopback;"));
        let full = Shard { problems: vec!["the disk is full".into()], ..shard() };
        said(vec![asked(1, 1, Some(1), full)], "node 1, shard 0: the disk is full");
        let failed = Shard { error: Some("rot".into()), state: "failed".into(), ..shard() };
        said(vec![asked(1, 1, Some(1), failed)], "node 1, shard 0 has stopped: rot;");
        let meeting = Shard { waits_for: vec![2, 3], state: "meeting".into(), ..shard() };
        said(
            vec![asked(1, 0, None, meeting)],
            "node 1 waits for the first start of node 2 and node 3:",
        );
        let outbound = Link { up: false, ended: Some("refused".into()) };
        let peer = Peer { node: 2, outbound, ..Peer::default() };
        let cut = Shard { peers: vec![peer], ..shard() };
        let all = vec![asked(1, 1, Some(1), cut), asked(2, 1, Some(1), shard())];
        said(all, "node 1 has no connection to node 2: refused");
        let mut other = asked(2, 1, Some(1), shard());
        if let Ok(answer) = &mut other.answer {
            answer.node.cluster = "d".into();
        }
        said(vec![asked(1, 1, Some(1), shard()), other], "belong to different clusters: c, d;");
    }
}
