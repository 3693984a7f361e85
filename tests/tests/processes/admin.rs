//! The admin port and `purlin status`, while nodes are down, while shards have failed or hang, and while
//! clients crowd the gateway.

use crate::support::{Cluster, Ports, Process, SOON, Scratch, Shape, purlin, until};
use bytes::Bytes;
use purlin::os::{ClientFiles, SharedPort};
use purlin::{
    ApplyContext, ClusterConfig, ClusterId, Command, DurableBy, Host, Member, NodeConfig, NodeId,
    Runtime, ShardId, StateMachine,
};
use purlin_server::{
    admin::{AdminFacts, Connections, serve_admin},
    cpu::ProcessTimes,
    resp::{RespClient, Value},
};
use rustix::process::Signal;
use serde_json::Value as Json;
use std::{sync::mpsc, time::Duration};

const SHAPE: Shape = Shape { groups: 4, shards: 2 };

/// What `purlin status` says with these arguments, and its exit code.
fn status(arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = purlin();
    command.arg("status").args(arguments);
    let end = Process::run("status", &mut command, SOON);
    assert_eq!(end.err, "");
    (end.out, end.code)
}

#[test]
fn status_says_how_a_cluster_stands_with_and_without_a_majority() {
    let mut cluster = Cluster::start("status", SHAPE);
    let gateway = cluster.nodes[0].config.listen.gateway.to_string();
    let (out, code) = status(&[&gateway]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("3 nodes, 4 groups, 3 replicas of each"), "{out}");
    assert!(out.ends_with("Nothing is wrong.\n"), "{out}");
    let file = cluster.nodes[2].file.to_str().expect("UTF-8").to_owned();
    let (out, code) = status(&["--config", &file, "-o", "json"]);
    assert_eq!(code, Some(0), "{out}");
    let report: Json = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&report["schema"], &report["problems"]), (&1.into(), &Json::Array(vec![])));
    let nodes = report["nodes"].as_array().expect("a list");
    let count = |field: &str| {
        let counts = nodes.iter().map(|node| node["status"]["groups"][field].as_u64());
        counts.map(|count| count.expect("a number")).sum::<u64>()
    };
    assert_eq!((nodes.len(), count("leads"), count("without_leader")), (3, 4, 0));
    assert!(nodes.iter().all(|node| node["status"]["shards"].as_array().map(Vec::len) == Some(2)));

    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    until("a node alone knows no leader", || {
        (cluster.nodes[0].info("purlin_groups_without_leader")? == 4).then_some(())
    });
    let admin = cluster.nodes[0].config.listen.admin.to_string();
    let (out, code) = status(&[&admin]);
    assert_eq!(code, Some(1), "{out}");
    for said in [
        "* 4 of 4 groups have no leader that a node here knows: 1, 2, 3, 4; requests to them",
        "* node 2 does not answer at 127.0.0.1:",
        "* node 3 does not answer at 127.0.0.1:",
    ] {
        assert!(out.contains(said), "{said}:\n{out}");
    }
    cluster.assert_no_panic();
}

#[test]
fn an_operator_gets_in_while_clients_hold_all_connections_of_the_gateway() {
    const FILES: u32 = 600;
    let mut cluster = Cluster::start("crowd", SHAPE);
    cluster.nodes[0].kill();
    cluster.nodes[0].start_with_files(FILES);
    cluster.wait_until_ready();
    let listen = &cluster.nodes[0].config.listen;
    // As many as the node could have descriptors.
    let mut crowd = Vec::new();
    let mut refusals = 0;
    for _ in 0..FILES {
        let mut client = RespClient::connect(listen.gateway, SOON).expect("the kernel takes it");
        let reply = client.command(&["PING"]);
        refusals += u32::from(!matches!(reply, Ok(Value::Simple(_))));
        crowd.push(client);
    }
    assert!((FILES / 3..FILES).contains(&refusals), "{refusals} clients were refused");
    let mut admin = RespClient::connect(listen.admin, SOON).expect("it listens");
    let reply = admin.command(&["RAFT", "STATUS"]).expect("a reply");
    assert!(matches!(reply, Value::Bulk(_)), "{reply}");
}

/// What the admin port at `address` replies to `words` over a new connection, if it takes one.
fn asked(address: std::net::SocketAddr, words: &[&str]) -> Option<Json> {
    let mut client = RespClient::connect(address, SOON).ok()?;
    let reply = client.command(words).ok()?;
    serde_json::from_slice(reply.bytes()?).ok()
}

#[test]
fn the_admin_port_answers_at_a_node_whose_first_shard_has_failed() {
    let mut cluster = Cluster::start("half", SHAPE);
    assert_eq!(cluster.nodes[0].stop().code, Some(0));
    cluster.nodes[0].damage(0);
    cluster.nodes[0].start();
    let admin = cluster.nodes[0].config.listen.admin;
    let state = |status: &Json, shard: usize| status["shards"][shard]["state"].clone();
    until("the second shard serves, and knows its leaders", || {
        let status = asked(admin, &["RAFT", "STATUS"])?;
        let serves = state(&status, 1) == "serving" && status["groups"]["without_leader"] == 2;
        serves.then_some(())
    });
    // The kernel spreads connections over all sockets of the port: none is left of the first shard.
    for _ in 0..16 {
        let status = asked(admin, &["RAFT", "STATUS"]).expect("an answer");
        assert_eq!(state(&status, 0), "failed", "{status}");
        assert_ne!(status["shards"][0]["error"], Json::Null, "{status}");
    }
    let groups = asked(admin, &["RAFT", "GROUPS"]).expect("an answer");
    for line in groups["groups"].as_array().expect("a list") {
        let is_of_the_first = line["group"].as_u64().expect("a number") % 2 == 0;
        assert_eq!(line["leader"] == Json::Null, is_of_the_first, "{line}");
    }
    let (out, code) = until("the other nodes lead the groups of the first shard", || {
        let (out, code) = status(&[&admin.to_string()]);
        (!out.contains("have no leader")).then_some((out, code))
    });
    assert_eq!(code, Some(1), "{out}");
    for said in ["failed+serving", "* node 1, shard 0 has stopped: "] {
        assert!(out.contains(said), "{said}:\n{out}");
    }
}

#[test]
fn status_says_that_a_node_hangs_and_tells_of_the_others() {
    let cluster = Cluster::start("hangs", SHAPE);
    cluster.nodes[1].process().signal(Signal::STOP);
    let (out, code) = status(&[&cluster.nodes[0].config.listen.admin.to_string()]);
    cluster.nodes[1].process().signal(Signal::CONT);
    assert_eq!(code, Some(1), "{out}");
    let admin = cluster.nodes[1].config.listen.admin;
    let said = format!("* node 2 does not answer at {admin}: no answer within 3 s;");
    assert!(out.contains(&said) && out.contains("3 nodes, 4 groups"), "{said}:\n{out}");
    assert_eq!(out.matches("serving").count(), 2, "the other two:\n{out}");
}

/// Applies anything, and answers nothing.
struct Idle;

impl StateMachine for Idle {
    fn apply(&mut self, _: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
        outcomes.extend(commands.iter().map(|_| Bytes::new()));
    }

    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }
}

/// A node of two shards in this process, whose second shard runs a task that does not end.
#[test]
fn status_is_answered_beside_a_shard_that_hangs() {
    let (scratch, ports) = (Scratch::new("beside"), Ports::take());
    let member = Member { node: NodeId(1), host: "127.0.0.1".into(), peer_port: ports.peer() };
    let cluster = ClusterConfig::new(ClusterId(9), 4, vec![member]);
    let mut node = NodeConfig::new(NodeId(1), scratch.path().join("data"));
    (node.pin, node.wal.durable_by) = (false, DurableBy::Fdatasync);
    let host = Host::builder(cluster.clone(), node, |_| Idle).shards(2).init_if_missing();
    let host = host.start().expect("it starts");
    let admin = format!("127.0.0.1:{}", ports.gateway());
    let listeners = SharedPort::bind(&admin, 2).expect("a free port");
    let connections = Connections::default();
    for (shard, port) in (0..).map(ShardId).zip(listeners) {
        let (view, connections) = (host.shared().view().clone(), connections.clone());
        let (cluster, admin) = (cluster.clone(), admin.clone());
        let serves = host.on_shard(shard, move |local| {
            let runtime = local.runtime().clone();
            let facts = AdminFacts {
                cluster,
                process: std::process::id(),
                cpu: || Some(ProcessTimes::default()),
                gateway: admin.clone(),
                admin,
                started_at: Duration::ZERO,
            };
            let listener = runtime.listener(port, ClientFiles::ALL);
            runtime.spawn(serve_admin(runtime.clone(), listener, view, facts, connections));
        });
        assert!(serves, "shard {shard} runs");
    }
    until("nothing is wrong", || {
        let (out, code) = status(&[&admin]);
        (code == Some(0) && out.contains("serving")).then_some(())
    });
    let (resume, hang) = mpsc::channel::<()>();
    // It ends with the test, however that ends.
    assert!(host.on_shard(ShardId(1), move |_| _ = hang.recv()), "it runs");
    // Each attempt is given to either shard by the kernel: one to the first shard is enough.
    until("the status tells that the shard hangs", || {
        let (out, code) = status(&[&admin]);
        let said = "* node 1, shard 1: the shard has ended no turn for ";
        (code == Some(1) && out.contains(said)).then_some(())
    });
    drop(resume);
    until("nothing is wrong again", || (status(&[&admin]).1 == Some(0)).then_some(()));
    host.shutdown().expect("it stops");
}

/// The log makes its next segments, and other nodes connect, however many clients stand idle.
#[test]
fn idle_clients_take_no_descriptor_of_the_log() {
    const FILES: u32 = 512;
    /// Half of them: more would leave the node too few.
    const CLIENTS: usize = FILES as usize / 2;
    purlin::os::raise_open_files();
    let mut cluster = Cluster::make("idle-crowd", Shape { groups: 4, shards: 1 });
    cluster.nodes.iter_mut().for_each(|node| node.start_with_files(FILES));
    cluster.wait_until_ready();
    let mut crowd = Vec::new();
    for node in &cluster.nodes {
        let taken = (0..FILES).filter(|_| {
            let client = RespClient::connect(node.config.listen.gateway, SOON);
            let mut client = client.expect("the kernel takes it");
            let is_taken = matches!(client.command(&["PING"]), Ok(Value::Simple(_)));
            crowd.push(client);
            is_taken
        });
        let taken = taken.count();
        assert!((CLIENTS / 2..=CLIENTS).contains(&taken), "{taken} clients were taken");
        let files = std::fs::read_dir(format!("/proc/{}/fd", node.process().pid()));
        let files = files.expect("it runs").count();
        assert!(files < CLIENTS + 40, "{files} descriptors are open");
    }
    // A leader of each node's groups writes three segments, of the descriptors that are kept.
    crowd.iter_mut().step_by(FILES as usize).for_each(|client| {
        let value = "v".repeat(400 << 10);
        (0..32).for_each(|n| {
            let reply = client.command(&["SET", &format!("key-{n}"), &value]).expect("a reply");
            assert_eq!(reply, Value::Simple("OK".into()));
        });
    });
    assert!(
        cluster
            .nodes
            .iter()
            .all(|node| node.process().log().contains("open files: the limit is 512"))
    );
    cluster.assert_no_panic();
}
