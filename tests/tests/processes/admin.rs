//! The admin port and `purlin status`, while nodes are down and while clients crowd the gateway.

use crate::support::{Cluster, Process, SOON, Shape, purlin, until};
use purlin_server::resp::{RespClient, Value};
use serde_json::Value as Json;

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
