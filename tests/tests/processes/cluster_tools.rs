//! `redis-cli` and `redis-benchmark` as clients of Redis Cluster, at the ports of shards.

use super::redis_tools::assert_benchmarked;
use super::support::{Cluster, End, Process, SOON, Shape, tool, until};
use std::{
    fmt::Write,
    fs,
    time::{Duration, Instant},
};

const SHAPE: Shape = Shape { shards: 2, groups: 12 };
const KEYS: usize = 300;
/// After so long all keys are read and written again when a node has died.
const RECOVERED_WITHIN: Duration = Duration::from_secs(20);
/// The build is slow, and other tests run.
const BENCHMARK_LIMIT: Duration = Duration::from_secs(120);

/// What `redis-cli` says when it reads `lines` at `port`, and follows where it is sent; nothing when it is missing.
fn follow(cluster: &Cluster, port: u16, lines: &str) -> Option<End> {
    let script = cluster.scratch.path().join("commands");
    fs::write(&script, lines).expect("a file");
    let input = fs::File::open(&script).expect("just written");
    let mut command = tool("redis-cli")?;
    command.args(["-c", "-p", &port.to_string()]);
    Some(Process::start_with_input("redis-cli -c", &mut command, input.into()).end(SOON))
}

fn lines_of(line: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for key in 0..KEYS {
        writeln!(text, "{}", line(key)).expect("a text");
    }
    text
}

/// The answers of `redis-cli`, without what it says when it follows.
fn answers(end: &End) -> Vec<&str> {
    end.out.lines().filter(|line| !line.starts_with("-> ")).collect()
}

#[test]
fn redis_cli_follows_to_the_shards_that_lead_also_when_a_node_has_died() {
    let mut cluster = Cluster::start("cluster-cli", SHAPE);
    let set = lines_of(|key| format!("set key:{key} value:{key}"));
    let get = lines_of(|key| format!("get key:{key}"));
    let values: Vec<_> = (0..KEYS).map(|key| format!("value:{key}")).collect();
    let ports = [cluster.nodes[0].shard_port(0), cluster.nodes[2].shard_port(1)];
    let Some(end) = follow(&cluster, ports[0], &set) else { return };
    assert_eq!(answers(&end), vec!["OK"; KEYS], "{}", end.err);
    for port in [ports[1], cluster.nodes[0].ports.gateway()] {
        let end = follow(&cluster, port, &get).expect("it was there");
        assert_eq!(answers(&end), values, "{}", end.err);
    }
    let led = |cluster: &Cluster| cluster.nodes[1].info("purlin_groups_led");
    until("the node leads some groups", || led(&cluster).filter(|groups| *groups > 0));
    cluster.nodes[1].kill();
    let killed = Instant::now();
    until("all is read again", || {
        let end = follow(&cluster, ports[0], &get).expect("it was there");
        (answers(&end) == values).then_some(())
    });
    let end = follow(&cluster, ports[1], &set).expect("it was there");
    assert_eq!(answers(&end), vec!["OK"; KEYS], "{}", end.err);
    let recovered = killed.elapsed();
    println!("redis-cli -c reads and writes all {} ms after the kill", recovered.as_millis());
    assert!(recovered < RECOVERED_WITHIN, "all was written only {recovered:?} after the kill");
    cluster.nodes[1].start();
    cluster.wait_until_ready();
    let end = follow(&cluster, ports[0], &get).expect("it was there");
    assert_eq!(answers(&end), values, "{}", end.err);
    cluster.assert_no_panic();
}

/// Runs `redis-cli --cluster` with a subcommand at a port until it says `what`: while leaders change, the
/// nodes may tell different ones.
fn cluster_says(port: u16, subcommand: &str, what: &[&str]) {
    until(&format!("--cluster {subcommand} says {what:?}"), || {
        let mut command = tool("redis-cli").expect("it was there");
        command.args(["--cluster", subcommand, &format!("127.0.0.1:{port}")]);
        let End { code, out, .. } = Process::run("redis-cli --cluster", &mut command, SOON);
        (code == Some(0) && what.iter().all(|what| out.contains(what))).then_some(())
    });
}

#[test]
fn redis_cli_finds_a_whole_cluster_at_each_shard() {
    if tool("redis-cli").is_none() {
        return;
    }
    let cluster = Cluster::start("cluster-check", SHAPE);
    let agreed = [
        "[OK] All nodes agree about slots configuration.",
        "[OK] All 16384 slots covered.",
        "[OK] 0 keys in 6 masters.",
    ];
    for node in &cluster.nodes {
        for shard in 0..SHAPE.shards {
            cluster_says(node.shard_port(shard), "check", &agreed);
        }
    }
    cluster_says(cluster.nodes[1].shard_port(0), "info", &["[OK] 0 keys in 6 masters."]);
    cluster.assert_no_panic();
}

#[test]
fn redis_benchmark_sends_each_command_to_the_shard_that_leads() {
    if tool("redis-benchmark").is_none() {
        return;
    }
    let cluster = Cluster::start("cluster-benchmark", SHAPE);
    // The program ends at the first `MOVED`, so all groups must be where they stay.
    cluster_says(cluster.nodes[0].shard_port(0), "check", &["[OK] 0 keys in 6 masters."]);
    for pipeline in ["1", "16"] {
        let mut command = tool("redis-benchmark").expect("it was there");
        let port = cluster.nodes[0].shard_port(0).to_string();
        command.args(["--cluster", "-p", &port, "-P", pipeline, "-n", "3000", "-c", "24"]);
        command.args(["-r", "100000", "-q", "-t", "set,get,incr"]);
        let end = Process::run("redis-benchmark", &mut command, BENCHMARK_LIMIT);
        assert_eq!(end.code, Some(0), "{}\n{}", end.out, end.err);
        assert!(end.out.contains("Cluster has 6 master nodes"), "{}", end.out);
        assert_benchmarked(&end.out);
    }
    cluster.assert_no_panic();
}
