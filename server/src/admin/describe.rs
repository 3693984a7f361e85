//! What the engine tells of a node, put into the answers of the admin port.

use super::{
    facts::AdminFacts,
    schema::{
        Follower, GroupAnswer, GroupLine, Groups, GroupsAnswer, Level, Link, Member, MembersAnswer,
        NodeAnswer, Peer, Queues, Refusals, SCHEMA, Shard, Times, Wal,
    },
};
use purlin::{
    Advertised, Board, Facts, GroupStatus, Histogram, LinkStatus, NodeId, PeerStatus, ShardState,
    ShardStatus,
};
use std::{sync::Arc, time::Duration};

/// The most groups in one answer. The next request goes on behind them.
pub(super) const GROUPS_MAX: usize = 16_384;

/// `RAFT STATUS`.
pub(super) fn node(
    facts: &AdminFacts,
    node: NodeId,
    uptime: Duration,
    board: &Board,
    statuses: &[Arc<ShardStatus>],
) -> NodeAnswer {
    let mut groups = Groups::default();
    for entry in board.groups() {
        groups.all += 1;
        groups.leads += u32::from(entry.leader == Some(node));
        groups.without_leader += u32::from(entry.leader.is_none());
    }
    NodeAnswer {
        schema: SCHEMA,
        node: node.0,
        cluster: facts.cluster.id.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        process: facts.process,
        uptime_seconds: uptime.as_secs(),
        gateway: facts.gateway.clone(),
        admin: facts.admin.clone(),
        replicas: facts.cluster.replicas,
        groups,
        shards: statuses.iter().map(|status| shard(status)).collect(),
    }
}

/// `RAFT GROUPS`, from group `from` on.
pub(super) fn groups(node: NodeId, board: &Board, from: u32) -> GroupsAnswer {
    let mut entries = board.groups().filter(|entry| entry.group.0 >= from);
    let groups = entries.by_ref().take(GROUPS_MAX).map(|entry| GroupLine {
        group: entry.group.0,
        term: entry.term.0,
        leader: entry.leader.map(|leader| leader.0),
        applied: entry.applied.0,
    });
    let groups = groups.collect();
    let next = entries.next().map(|entry| entry.group.0);
    GroupsAnswer { schema: SCHEMA, node: node.0, next, groups }
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
        fault: raft.fault.as_ref().map(ToString::to_string),
        followers: followers.collect(),
    }
}

/// `RAFT MEMBERS`: each member as the configuration names it, and where operators find it as it has told.
pub(super) fn members(
    facts: &AdminFacts,
    node: NodeId,
    statuses: &[Arc<ShardStatus>],
) -> MembersAnswer {
    let members = facts.cluster.members.iter().map(|member| {
        let told = told_by(statuses, member.node).filter(|_| member.node != node);
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

/// What a node has told of itself to any shard of this one.
fn told_by(statuses: &[Arc<ShardStatus>], node: NodeId) -> Option<&Facts> {
    let peers = statuses.iter().flat_map(|status| &status.peers);
    peers.filter(|peer| peer.peer.node == node).find_map(|peer| peer.facts.as_deref())
}

/// The admin port of a node that tells `told` of itself. A node that tells no host is at `host`.
fn admin_of(told: &Advertised, host: &str) -> Option<String> {
    let host = if told.host.is_empty() { host } else { &told.host };
    let port = told.admin_port;
    let address =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    (port > 0).then_some(address)
}

fn shard(status: &ShardStatus) -> Shard {
    let (state, error) = match &status.state {
        ShardState::Opening => ("opening", None),
        ShardState::Meeting => ("meeting", None),
        ShardState::Serving => ("serving", None),
        ShardState::Stopped => ("stopped", None),
        ShardState::Failed(error) => ("failed", Some(error.trouble.what.clone())),
    };
    let (queues, refusals) = (&status.queues, &status.refusals);
    Shard {
        shard: status.shard.0,
        state: state.into(),
        error,
        beat: status.beat,
        waits_for: status.waits_for.iter().map(|node| node.0).collect(),
        problems: status.problems.iter().map(ToString::to_string).collect(),
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
            inlet: level(queues.inlet),
            control: level(queues.control),
            away: queues.away as u64,
            accepted: level(queues.accepted),
        },
        refusals: Refusals {
            busy: refusals.busy,
            no_leader: refusals.no_leader,
            not_applied: refusals.not_applied,
            unknown: refusals.unknown,
            too_large: refusals.too_large,
            no_space: refusals.no_space,
        },
        peers: status.peers.iter().map(peer).collect(),
        turns: times(&status.turns),
    }
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
