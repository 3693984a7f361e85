//! Data directories that are not what they should be: gone, made anew, older than they were, another
//! node's, another cluster's, in use. Each is refused with the reason and the way out, and the other
//! nodes go on.

use super::support::{Cluster, End, Ports, Process, SOON, Shape, copy, number};
use purlin_server::resp::Value;
use std::{fs, net::SocketAddr};

const SHAPE: Shape = Shape { shards: 1, groups: 6 };
/// What scripts decide by.
const DATA_DIRECTORY: i32 = 5;

/// Two of three nodes serve: each of them counts up counters of all groups.
fn assert_the_others_go_on(cluster: &Cluster) {
    for node in &cluster.nodes[..2] {
        for counter in 0..12 {
            node.done(&["INCR", &format!("others:{counter}")]);
        }
    }
    cluster.assert_no_panic();
}

fn refused(cluster: &mut Cluster, what: &str) -> End {
    let end = cluster.nodes[2].end();
    end.assert_refused(DATA_DIRECTORY, what);
    assert_the_others_go_on(cluster);
    end
}

#[test]
fn a_wiped_directory_is_refused() {
    let mut cluster = Cluster::start("wiped", SHAPE);
    cluster.nodes[0].done(&["SET", "k", "v"]);
    cluster.nodes[2].kill();
    fs::remove_dir_all(&cluster.nodes[2].config.node.data_dir).expect("it is there");

    cluster.nodes[2].start();
    refused(&mut cluster, "there is no data directory of a node");

    assert_eq!(cluster.nodes[2].init().code, Some(0), "init makes a new one");
    cluster.nodes[2].start();
    refused(&mut cluster, "it was wiped, made anew or exchanged");
    assert_eq!(cluster.nodes[1].done(&["GET", "k"]), Value::Bulk(b"v".into()));
}

#[test]
fn an_older_copy_of_the_directory_is_refused_and_stays_fenced() {
    let mut cluster = Cluster::start("older", SHAPE);
    let directory = cluster.nodes[2].config.node.data_dir.clone();
    let backup = cluster.scratch.path().join("backup");
    cluster.nodes[2].kill();
    copy(&directory, &backup);
    cluster.nodes[2].start();
    cluster.wait_until_ready();
    for counter in 0..12 {
        cluster.nodes[2].done(&["INCR", &format!("later:{counter}")]);
    }
    cluster.wait_until_equal();
    cluster.nodes[2].kill();
    fs::remove_dir_all(&directory).expect("it is there");
    fs::rename(&backup, &directory).expect("on the same disk");

    cluster.nodes[2].start();
    let end = refused(&mut cluster, "gone back");
    assert!(end.err.contains("has gone back"), "{}", end.err);
    cluster.nodes[2].start();
    refused(&mut cluster, "gone back");
    for counter in 0..12 {
        let found = cluster.nodes[0].done(&["GET", &format!("later:{counter}")]);
        assert_eq!(number(&found), 1);
    }
}

#[test]
fn the_directory_of_another_node_is_refused() {
    let mut cluster = Cluster::start("foreign-node", SHAPE);
    cluster.nodes[2].kill();
    let (theirs, ours) =
        (&cluster.nodes[1].config.node.data_dir, &cluster.nodes[2].config.node.data_dir);
    fs::remove_dir_all(ours).expect("it is there");
    copy(theirs, ours);
    cluster.nodes[2].start();
    refused(&mut cluster, "the data directory belongs to node 2, not 3");
}

#[test]
fn the_directory_of_another_cluster_is_refused() {
    let mut cluster = Cluster::start("foreign-cluster", SHAPE);
    let mut other = Cluster::make("foreign-cluster-2", SHAPE);
    cluster.nodes[2].kill();
    let ours = cluster.nodes[2].config.node.data_dir.clone();
    fs::remove_dir_all(&ours).expect("it is there");
    copy(&other.nodes[2].config.node.data_dir, &ours);
    cluster.nodes[2].start();
    refused(&mut cluster, "the data directory belongs to cluster");

    // With its own directory and cluster, but the addresses of ours.
    let members = cluster.nodes[2].config.cluster.members.clone();
    other.nodes[2].config.cluster.members = members;
    other.nodes[2].config.listen = cluster.nodes[2].config.listen.clone();
    other.nodes[2].write_file();
    other.nodes[2].start();
    other.nodes[2].process().wait_for("a node of cluster", SOON);
    assert_the_others_go_on(&cluster);
    other.assert_no_panic();
}

#[test]
fn a_directory_in_use_is_refused_and_its_user_goes_on() {
    let cluster = Cluster::start("in-use", SHAPE);
    let (first, ports) = (&cluster.nodes[0], Ports::take());
    let mut config = first.config.clone();
    config.listen.move_to(SocketAddr::from(([127, 0, 0, 1], ports.gateway())));
    config.cluster.members[0].peer_port = ports.peer();
    let file = first.file.with_file_name("second.toml");
    fs::write(&file, config.render()).expect("a file");
    let mut command = super::support::purlin();
    command.arg("server").arg("--config").arg(&file);
    let end = Process::run("a second server", &mut command, SOON);
    end.assert_refused(DATA_DIRECTORY, "is in use");
    assert_the_others_go_on(&cluster);
}
