//! The admin port in the simulated world: operators are answered whatever else does not work.

use crate::{
    ONE, THREE, TWO, pipeline, seconds,
    support::{GROUPS, assert_sound, operate, served, serving, talk},
};
use purlin::{GroupId, NodeId, Runtime, ShardId};
use purlin_server::admin::{
    CONNECTIONS_MAX,
    schema::{GroupAnswer, GroupsAnswer, MembersAnswer, NodeAnswer, SCHEMA},
};
use purlin_tests::{
    cluster::{ClusterOptions, scenario::Scenario},
    resp::{self, Value, Wire},
    sim::{Crash, SimRuntime},
};
use serde::de::DeserializeOwned;

/// What a node's admin port replies to one line.
fn ask(s: &Scenario, node: NodeId, line: &str) -> Value {
    let bytes = pipeline(&[line]);
    operate(s, node, seconds(20), async move |mut wire| {
        wire.write(&bytes).await.expect("it is sent");
        wire.reply().await.expect("a reply")
    })
}

fn read<T: DeserializeOwned>(s: &Scenario, node: NodeId, line: &str) -> T {
    let Value::Bulk(bytes) = ask(s, node, line) else { panic!("{line} is answered in JSON") };
    serde_json::from_slice(&bytes).expect("JSON of the schema")
}

fn one_shard_each() -> ClusterOptions {
    ClusterOptions { shards: vec![1, 1, 1], ..served(0) }
}

#[test]
fn an_operator_sees_what_is_true() {
    let s = serving(21, one_shard_each());
    s.run_for(seconds(1));
    let mut leads = 0;
    for node in [ONE, TWO, THREE] {
        let answer: NodeAnswer = read(&s, node, "RAFT STATUS");
        assert_eq!((answer.schema, answer.node), (SCHEMA, node.0));
        assert_eq!((answer.groups.all, answer.groups.without_leader), (GROUPS, 0));
        leads += answer.groups.leads;
        let [shard] = &answer.shards[..] else { panic!("{answer:?}") };
        assert_eq!((shard.state.as_str(), shard.problems.len()), ("serving", 0), "{shard:?}");
        assert!(shard.beat > 0 && shard.wal.bytes > 0 && shard.wal.written_bytes > 0, "{shard:?}");
        let peers: Vec<_> =
            shard.peers.iter().filter(|peer| peer.outbound.up && peer.inbound.up).collect();
        assert_eq!(peers.len(), 2, "{shard:?}");
        let groups: GroupsAnswer = read(&s, node, "RAFT GROUPS");
        for line in &groups.groups {
            let truth = s.status(node, GroupId(line.group)).expect("a group");
            assert_eq!(line.leader, truth.leader.map(|leader| leader.0));
            assert_eq!((line.term, line.applied), (truth.term.0, truth.applied.0));
            let group: GroupAnswer = read(&s, node, &format!("RAFT GROUP {}", line.group));
            let is_leader = line.leader == Some(node.0);
            assert_eq!(group.role == "leader", is_leader, "{group:?}");
            assert_eq!(group.followers.len(), if is_leader { 2 } else { 0 }, "{group:?}");
        }
        assert_eq!((groups.groups.len(), groups.next), (GROUPS as usize, None));
        let rest: GroupsAnswer = read(&s, node, "RAFT GROUPS 3");
        assert_eq!(rest.groups[..], groups.groups[2..]);
        let page: GroupsAnswer = read(&s, node, "RAFT GROUPS 2 2");
        assert_eq!((&page.groups[..], page.next), (&groups.groups[1..3], Some(4)));
        let applied = groups.groups.iter().map(|line| line.applied).sum::<u64>();
        assert_eq!(answer.groups.applied, applied, "the sum of the shard is that of its groups");
        let members: MembersAnswer = read(&s, node, "RAFT MEMBERS");
        assert_eq!(members.members.iter().map(|member| member.node).collect::<Vec<_>>(), [1, 2, 3]);
        for member in members.members.iter().filter(|member| member.node != node.0) {
            let port = 6998 + 100 * member.node;
            assert_eq!(member.admin, Some(format!("n{}:{port}", member.node)), "as it has told");
        }
    }
    assert_eq!(leads, GROUPS, "each group is led once");
    assert_sound(&s);
}

/// The admin port of one shard, and `INFO` of another, tell of all shards of the node.
#[test]
fn each_shard_tells_the_sums_of_its_node() {
    let s = serving(25, served(0));
    s.run_for(seconds(1));
    let answer: NodeAnswer = read(&s, TWO, "RAFT STATUS");
    assert_eq!((answer.shards.len(), answer.groups.all), (2, GROUPS), "{answer:?}");
    let groups: GroupsAnswer = read(&s, TWO, "RAFT GROUPS");
    assert_eq!(answer.groups.applied, groups.groups.iter().map(|line| line.applied).sum::<u64>());
    let info = talk(&s, TWO, ShardId(1), seconds(10), async |mut wire| {
        wire.write(&pipeline(&["INFO purlin stages cpu"])).await.expect("it is sent");
        wire.reply().await.expect("a reply")
    });
    let Value::Bulk(info) = info else { panic!("INFO is a text") };
    let info = String::from_utf8(info).expect("UTF-8");
    for (name, count) in [
        ("entries_applied", answer.groups.applied),
        ("commands_applied", answer.groups.commands),
        ("wal_batches", answer.shards.iter().map(|shard| shard.wal.batches).sum()),
        ("wal_syncs", answer.shards.iter().map(|shard| shard.wal.syncs).sum()),
        ("wal_written_bytes", answer.shards.iter().map(|shard| shard.wal.written_bytes).sum()),
        ("stage_samples", answer.stages.total.count),
        ("stage_wal_max_us", answer.stages.wal.max_us),
        ("groups_led", answer.groups.leads.into()),
        ("groups_without_leader", 0),
    ] {
        assert!(info.contains(&format!("\r\npurlin_{name}:{count}\r\n")), "{name}: {info}");
    }
}

#[test]
fn an_operator_is_answered_without_a_majority() {
    let s = serving(22, one_shard_each());
    s.crash(TWO, Crash::Kill);
    s.crash(THREE, Crash::Kill);
    s.run_for(seconds(10));
    let answer: NodeAnswer = read(&s, ONE, "RAFT STATUS");
    assert_eq!((answer.groups.leads, answer.groups.without_leader), (0, GROUPS));
    let shard = &answer.shards[0];
    assert!(
        shard.peers.iter().all(|peer| !peer.outbound.up && peer.outbound.ended.is_some()),
        "{shard:?}"
    );
    let group: GroupAnswer = read(&s, ONE, "RAFT GROUP 1");
    assert_eq!(group.leader, None, "{group:?}");
}

#[test]
fn the_admin_port_takes_no_command_on_keys_and_says_where_to_go() {
    let s = serving(23, one_shard_each());
    for line in ["SET a 1", "RAFT", "RAFT SNAPSHOT 1", "RAFT GROUP", "PING a b"] {
        let Value::Error(text) = ask(&s, ONE, line) else { panic!("{line} is refused") };
        assert!(text.contains(&format!("does not know '{line}'; it knows RAFT STATUS")), "{text}");
        assert!(text.ends_with("Commands on keys go to the gateway, n1:6379"), "{text}");
    }
    for line in ["RAFT GROUP 0", "RAFT GROUP x", "RAFT GROUP 5", "RAFT GROUP -1"] {
        let text = "ERR RAFT GROUP takes the number of a group, 1 to 4";
        assert_eq!(ask(&s, ONE, line), Value::Error(text.into()), "{line}");
    }
    for line in ["RAFT GROUPS x", "RAFT GROUPS 1 0", "RAFT GROUPS 1 1025", "RAFT GROUPS 1 -1"] {
        let Value::Error(text) = ask(&s, ONE, line) else { panic!("{line} is refused") };
        assert!(text.ends_with("number of groups in the page, 1 to 1024"), "{line}: {text}");
    }
    assert_eq!(ask(&s, ONE, "PING"), Value::Simple("PONG".into()));
    assert_eq!(ask(&s, ONE, "QUIT"), Value::Simple("OK".into()));
    assert!(matches!(ask(&s, ONE, "HELLO 3"), Value::Map(_)));
    assert!(matches!(ask(&s, ONE, "HELLO 4"), Value::Error(_)));
    let Value::Bulk(info) = ask(&s, ONE, "INFO") else { panic!("INFO is a text") };
    let info = String::from_utf8(info).expect("UTF-8");
    assert!(info.contains("\r\npurlin_node:1\r\n") && info.contains("\r\npurlin_problems:0\r\n"));
}

async fn connect(runtime: &SimRuntime) -> Wire {
    Wire::connect(runtime, &resp::admin_address(ONE)).await.expect("it is taken in")
}

async fn ping(wire: &mut Wire) {
    wire.write(&pipeline(&["PING"])).await.expect("it is sent");
    assert_eq!(wire.reply().await.expect("a reply"), Value::Simple("PONG".into()));
}

/// As many connections as the admin port takes, `first` among them.
async fn as_many_as_may(first: Wire, runtime: &SimRuntime) -> Vec<Wire> {
    let mut open = vec![first];
    while open.len() < CONNECTIONS_MAX {
        open.push(connect(runtime).await);
    }
    open
}

#[test]
fn operators_connections_have_a_bound_and_idle_ones_make_room() {
    let s = serving(24, one_shard_each());
    let runtime = s.world.outside();
    operate(&s, ONE, seconds(90), async move |first| {
        let mut open = as_many_as_may(first, &runtime).await;
        for wire in &mut open {
            ping(wire).await;
        }
        let mut refused = connect(&runtime).await;
        let text = "ERR 16 connections to the admin port are open already, and each was used within the last 5 s; close one";
        assert_eq!(refused.reply().await.expect("a reply"), Value::Error(text.into()));
        // A connection that sends a byte now and then makes room too: no request of it is complete.
        runtime.sleep(seconds(40)).await;
        open[0].write(b"*").await.expect("it is sent");
        runtime.sleep(seconds(21)).await;
        assert!(open[0].reply().await.is_err(), "its last request is over 60 s ago");
        ping(&mut connect(&runtime).await).await;
    });
    assert_sound(&s);
}

/// Silent connections would keep every operator out for a minute.
#[test]
fn silent_connections_keep_no_operator_out() {
    let s = serving(26, one_shard_each());
    let runtime = s.world.outside();
    operate(&s, ONE, seconds(30), async move |first| {
        let mut open = as_many_as_may(first, &runtime).await;
        runtime.sleep(seconds(6)).await;
        // The first asks now and then, so its place is its own.
        ping(&mut open[0]).await;
        let mut more = Vec::new();
        for _ in 1..CONNECTIONS_MAX {
            let mut wire = connect(&runtime).await;
            ping(&mut wire).await;
            ping(&mut open[0]).await;
            more.push(wire);
        }
        assert!(open[1].reply().await.is_err(), "it was silent, and gave its place up");
    });
    assert_sound(&s);
}
