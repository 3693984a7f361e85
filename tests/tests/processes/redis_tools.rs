//! The programs that Redis users have: `redis-cli` and `redis-benchmark`, against each node.

use super::support::{Cluster, End, Process, SOON, Shape, tool};
use std::{fmt::Write, fs, process::Command, time::Duration};

const SHAPE: Shape = Shape { shards: 1, groups: 12 };
const COMMANDS: usize = 1000;
/// The build is slow, and other tests run.
const BENCHMARK_LIMIT: Duration = Duration::from_secs(120);

fn redis_cli(cluster: &Cluster, node: usize) -> Option<Command> {
    let mut command = tool("redis-cli")?;
    command.arg("-p").arg(cluster.nodes[node].ports.gateway().to_string());
    Some(command)
}

fn done(name: &str, command: &mut Command) -> End {
    let end = Process::run(name, command, SOON);
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{}", end.out);
    end
}

#[test]
fn redis_cli_works_on_each_node() {
    let cluster = Cluster::start("redis-cli", SHAPE);
    for node in 0..3 {
        let key = format!("hello:{node}");
        let steps: [(&[&str], &str); 6] = [
            (&["set", &key, "world"], "OK\n"),
            (&["get", &key], "world\n"),
            (&["append", &key, "!"], "6\n"),
            (&["incr", "visits"], &format!("{}\n", node + 1)),
            (&["mget", &key, "visits", "none"], &format!("world!\n{}\n\n", node + 1)),
            (&["incr", &key], "ERR value is not an integer or out of range\n\n"),
        ];
        for (words, answer) in steps {
            let Some(mut command) = redis_cli(&cluster, node) else { return };
            let end = Process::run("redis-cli", command.args(words), SOON);
            assert_eq!((end.code, end.out.as_str()), (Some(0), answer), "{words:?}: {}", end.err);
        }
    }
}

#[test]
fn a_pipeline_of_a_thousand_commands_works_on_each_node() {
    let cluster = Cluster::start("redis-pipe", SHAPE);
    for node in 0..3 {
        let script = cluster.scratch.path().join("commands");
        let mut text = String::new();
        for number in 0..COMMANDS {
            writeln!(text, "SET piped:{node}:{number} {number}\r").expect("a text");
        }
        fs::write(&script, text).expect("a file");
        let input = fs::File::open(&script).expect("just written");
        let Some(mut command) = redis_cli(&cluster, node) else { return };
        let pipe =
            Process::start_with_input("redis-cli --pipe", command.arg("--pipe"), input.into());
        let end = pipe.end(SOON);
        let summary = format!("errors: 0, replies: {COMMANDS}");
        assert!(end.code == Some(0) && end.out.contains(&summary), "{}\n{}", end.out, end.err);

        let input = fs::File::open(&script).expect("still there");
        let Some(mut command) = redis_cli(&cluster, node) else { return };
        let end = Process::start_with_input("redis-cli", &mut command, input.into()).end(SOON);
        assert_eq!(end.out.lines().filter(|line| *line == "OK").count(), COMMANDS, "{}", end.err);

        let Some(mut command) = redis_cli(&cluster, (node + 1) % 3) else { return };
        let end = done("redis-cli", command.args(["get", &format!("piped:{node}:999")]));
        assert_eq!(end.out, "999\n");
    }
}

/// `redis-benchmark` has told a rate for each of its three tests, and no error.
pub(crate) fn assert_benchmarked(out: &str) {
    // It writes over its progress, line by line.
    let lines: Vec<_> = out.split(['\r', '\n']).collect();
    for test in ["SET: ", "GET: ", "INCR: "] {
        let has_it = |line: &&str| line.starts_with(test) && line.contains("requests per second");
        assert!(lines.iter().any(has_it), "no {test} in:\n{out}");
    }
    assert!(!out.contains("rror"), "{out}");
}

#[test]
fn redis_benchmark_works_on_each_node() {
    let cluster = Cluster::start("redis-benchmark", SHAPE);
    for (node, pipeline) in [(0, "1"), (1, "16"), (2, "16"), (2, "1")] {
        let Some(mut command) = tool("redis-benchmark") else { return };
        let port = cluster.nodes[node].ports.gateway().to_string();
        command.args(["-p", &port, "-P", pipeline, "-n", "2000", "-c", "64", "-r", "100000", "-q"]);
        let end =
            Process::run("redis-benchmark", command.args(["-t", "set,get,incr"]), BENCHMARK_LIMIT);
        assert_eq!(end.code, Some(0), "{}\n{}", end.out, end.err);
        assert_benchmarked(&end.out);
    }
    cluster.assert_no_panic();
}
