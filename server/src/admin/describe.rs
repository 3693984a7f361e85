//! What the engine tells of a node, put into the answers of the admin port.

use super::{
    facts::AdminFacts,
    schema::{
        Follower, GroupAnswer, GroupLine, Groups, GroupsAnswer, Level, Link, Member, MembersAnswer,
        NodeAnswer, Peer, Queues, Refusals, SCHEMA, Shard, Stages, Times, Wal,
    },
};
use purlin::{
    Advertised, Facts, GroupId, GroupStatus, Histogram, LinkStatus, NodeId, NodeView, PeerStatus,
    ShardState, ShardStatus, StageTimes,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The most groups in one page: about 60 KiB of text, made in one turn of a shard.
pub(super) const GROUPS_PER_PAGE: u32 = 1024;
/// A shard that has ended no turn for this time, and three beats, hangs or is overloaded.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// `RAFT STATUS`, at `now` by the clock of the runtime. The cost does not depend on the number of groups.
pub(super) fn node(facts: &AdminFacts, view: &NodeView, now: Duration) -> NodeAnswer {
    let counts = view.counts();
    let groups = Groups {
        all: counts.groups,
        leads: counts.leading,
        without_leader: counts.without_leader,
        applied: counts.applied,
        commands: counts.commands,
    };
    NodeAnswer {
        schema: SCHEMA,
        node: view.node().0,
        cluster: facts.cluster.id.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        process: facts.process,
        uptime_seconds: now.saturating_sub(facts.started_at).as_secs(),
        gateway: facts.gateway.clone(),
        admin: facts.admin.clone(),
        replicas: facts.cluster.replicas,
        ready: view.is_ready(),
        groups,
        stages: stages(&view.stages()),
        shards: view.statuses().iter().map(|status| shard(status, now)).collect(),
    }
}

/// `RAFT GROUPS`: the page of `count` groups that begins at group `from`.
pub(super) fn groups(view: &NodeView, from: u32, count: u32) -> GroupsAnswer {
    let count = count.min(GROUPS_PER_PAGE) as usize;
    let mut entries = view.groups_from(GroupId(from));
    let groups = entries.by_ref().take(count).map(|entry| GroupLine {
        group: entry.group.0,
        term: entry.term.0,
        leader: entry.leader.map(|leader| leader.0),
        applied: entry.applied.0,
    });
    let groups = groups.collect();
    let next = entries.next().map(|entry| entry.group.0);
    GroupsAnswer { schema: SCHEMA, node: view.node().0, next, groups }
}

/// `RAFT GROUP g`.
pub(super) fn group(node: NodeId, status: &GroupStatus) -> GroupAnswer {
    let raft = &status.raft;
    let followers = raft.followers.iter().map(|follower| Follower {
        node: follower.node.0,
        state: format!("{:?}", follower.state).to_lowercase(),
        matched: follower.matched.0,
        next: follower.next.0,
        in_flight: follower.in_flight as u64,
        connected: follower.is_connected,
    });
    GroupAnswer {
        schema: SCHEMA,
        node: node.0,
        group: status.group.0,
        role: format!("{:?}", raft.role).to_lowercase(),
        term: raft.term.0,
        leader: raft.leader.map(|leader| leader.0),
        last: raft.last.index.0,
        durable: raft.durable.0,
        committed: raft.committed.0,
        applied: raft.applied.0,
        proposals: status.proposals as u64,
        queries: status.queries as u64,
        failed_queries: status.failed_queries,
        fault: fault(status),
        followers: followers.collect(),
    }
}

/// Why the replica or its state machine has stopped.
fn fault(status: &GroupStatus) -> Option<String> {
    let of_raft = status.raft.fault.as_ref().map(ToString::to_string);
    of_raft.or_else(|| status.machine.as_ref().map(ToString::to_string))
}

/// `RAFT MEMBERS`: each member as the configuration names it, and where operators find it as it has told.
pub(super) fn members(facts: &AdminFacts, view: &NodeView) -> MembersAnswer {
    let (node, statuses) = (view.node(), view.statuses());
    let told = told_by(&statuses);
    let members = facts.cluster.members.iter().map(|member| {
        let told = told.get(&member.node).filter(|_| member.node != node);
        Member {
            node: member.node.0,
            host: member.host.clone(),
            peer_port: member.peer_port,
            admin: match told {
                _ if member.node == node => Some(facts.admin.clone()),
                Some(told) => admin_of(&told.advertised, &member.host),
                None => None,
            },
            admin_is_local: told.is_some_and(|told| told.advertised.admin_port == 0),
        }
    });
    MembersAnswer { schema: SCHEMA, node: node.0, members: members.collect() }
}

/// What each node has told of itself, to whichever shard of this one.
fn told_by(statuses: &[Arc<ShardStatus>]) -> BTreeMap<NodeId, &Facts> {
    let peers = statuses.iter().flat_map(|status| &status.peers);
    peers.filter_map(|peer| Some((peer.peer.node, peer.facts.as_deref()?))).collect()
}

/// The admin port of a node that tells `told` of itself. A node that tells no host is at `host`.
fn admin_of(told: &Advertised, host: &str) -> Option<String> {
    let host = if told.host.is_empty() { host } else { &told.host };
    let port = told.admin_port;
    let address =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    (port > 0).then_some(address)
}

fn shard(status: &ShardStatus, now: Duration) -> Shard {
    let (state, error) = match &status.state {
        ShardState::Opening => ("opening", None),
        ShardState::Meeting => ("meeting", None),
        ShardState::Serving => ("serving", None),
        ShardState::Stopping => ("stopping", None),
        ShardState::Fenced => ("fenced", None),
        ShardState::Stopped => ("stopped", None),
        ShardState::Failed(error) => ("failed", Some(error.trouble.what.clone())),
    };
    let (queues, refusals) = (&status.queues, &status.refusals);
    let problems = status.problems.iter().map(ToString::to_string);
    Shard {
        shard: status.shard.0,
        state: state.into(),
        error,
        beat: status.beat,
        waits_for: status.waits_for.iter().map(|node| node.0).collect(),
        problems: problems.chain(silence(status, now)).collect(),
        stopped_replicas: status.groups.stopped,
        wal: Wal {
            bytes: status.wal.bytes(),
            segments: status.wal.figures.segments as u64,
            written_bytes: status.wal.figures.written_bytes,
            batches: status.wal.figures.batches,
            syncs: status.wal.figures.syncs,
            pending_writes: status.wal.pending_writes as u64,
            latency: times(&status.wal.latency),
        },
        queues: Queues {
            requests: level(queues.requests),
            request_bytes: level(queues.request_bytes),
            entry_bytes: level(queues.entry_bytes),
            machine_bytes: level(queues.machine_bytes),
            inlet: level(queues.inlet),
            control: level(queues.control),
            away: queues.away as u64,
            accepted: level(queues.accepted),
            accepted_bytes: level(queues.accepted_bytes),
        },
        refusals: Refusals {
            busy: refusals.busy,
            no_leader: refusals.no_leader,
            not_applied: refusals.not_applied,
            unknown: refusals.unknown,
            too_large: refusals.too_large,
            no_space: refusals.no_space,
            no_memory: refusals.no_memory,
        },
        peers: status.peers.iter().map(peer).collect(),
        turns: times(&status.turns),
        stages: stages(&status.stages),
    }
}

fn stages(stages: &StageTimes) -> Stages {
    Stages {
        queue: times(&stages.queue),
        wal: times(&stages.wal),
        quorum: times(&stages.quorum),
        apply: times(&stages.apply),
        reply: times(&stages.reply),
        total: times(&stages.total),
    }
}

/// What is wrong with a shard that should have published a status since. It cannot say so itself.
fn silence(status: &ShardStatus, now: Duration) -> Option<String> {
    let silent = now.saturating_sub(status.at);
    let is_late = status.state.runs() && silent > SILENCE_MAX + status.interval * 3;
    is_late.then(|| {
        format!(
            "the shard has ended no turn for {:.1} s: it hangs, or it is overloaded; other nodes take over \
             its groups; if this lasts, start the node again",
            silent.as_secs_f64()
        )
    })
}

fn peer(peer: &PeerStatus) -> Peer {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let link = |link: &LinkStatus| Link { up: link.is_up, ended: text(&link.ended) };
    Peer {
        node: peer.peer.node.0,
        shard: peer.peer.shard.0,
        address: text(&peer.address),
        outbound: link(&peer.outbound),
        inbound: link(&peer.inbound),
        silent_beats: peer.silent_beats,
    }
}

fn level(level: purlin::Level) -> Level {
    Level { now: level.now as u64, max: level.max as u64 }
}

fn times(histogram: &Histogram) -> Times {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let quantile = |share| histogram.quantile(share).map_or(0, micros);
    Times {
        count: histogram.count(),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        max_us: micros(histogram.max()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin::os::OsRuntime;
    use purlin::{ClusterConfig, ClusterId, Member, Shared};

    #[test]
    fn groups_come_in_pages_of_a_bounded_size_that_say_where_the_next_begins() {
        const GROUPS: u32 = 2500;
        let member = Member { node: NodeId(1), host: "h".into(), peer_port: 1 };
        let cluster = ClusterConfig::new(ClusterId(1), GROUPS, vec![member]);
        let shared = Shared::<OsRuntime>::new(NodeId(1), 2, &cluster);
        let (mut next, mut sizes, mut seen) = (Some(1), Vec::new(), Vec::new());
        while let Some(from) = next {
            let page = groups(shared.view(), from, u32::MAX);
            sizes.push(page.groups.len());
            seen.extend(page.groups.iter().map(|line| line.group));
            next = page.next;
        }
        assert_eq!(sizes, [1024, 1024, 452]);
        assert!(seen.into_iter().eq(1..=GROUPS));
        let page = groups(shared.view(), 7, 2);
        assert_eq!(page.groups.iter().map(|line| line.group).collect::<Vec<_>>(), [7, 8]);
        assert_eq!((page.next, groups(shared.view(), GROUPS + 1, 5).next), (Some(9), None));
    }

    #[test]
    fn a_shard_that_has_ended_no_turn_for_long_is_a_problem() {
        let at = Duration::from_secs(10);
        let (state, interval) = (ShardState::Serving, Duration::from_millis(100));
        let status = ShardStatus { state, at, interval, ..ShardStatus::default() };
        let problems = |status: &ShardStatus, after| shard(status, at + after).problems;
        assert_eq!(problems(&status, SILENCE_MAX + 3 * interval), [""; 0]);
        let hangs = problems(&status, Duration::from_secs(5));
        assert!(
            hangs[0].starts_with("the shard has ended no turn for 5.0 s: it hangs"),
            "{hangs:?}"
        );
        let stopped = ShardStatus { state: ShardState::Stopped, ..status.clone() };
        assert_eq!(
            problems(&stopped, Duration::from_secs(5)),
            [""; 0],
            "nothing is expected of it"
        );
        let slow = ShardStatus { interval: Duration::from_secs(3), ..status };
        assert_eq!(problems(&slow, Duration::from_secs(5)), [""; 0], "its beats are rare");
    }

    #[test]
    fn a_fenced_shard_is_no_serving_one() {
        let status = ShardStatus { state: ShardState::Fenced, ..ShardStatus::default() };
        assert_eq!(shard(&status, Duration::ZERO).state, "fenced");
    }
}
