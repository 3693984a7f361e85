//! What the command asks of servers beside the load: the number of their groups, and the work that they have done.

#[expect(dead_code, reason = "the loads use all of it")]
mod tiny;

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use purlin_bench::slots::slot_of;
use serde_json::Value;
use tiny::{Answer, TinyServer};

fn text(text: &str) -> Answer {
    Answer::Say(format!("${}\r\n{text}\r\n", text.len()))
}

/// A gateway and its admin port. Each SET is one durable write of 100 bytes and 10 µs of the processor.
struct Node {
    gateway: TinyServer,
    admin: TinyServer,
}

fn node(process: u32) -> Node {
    let [gateway, admin] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = |listener: &TcpListener| listener.local_addr().unwrap();
    let (at_gateway, at_admin) = (address(&gateway), address(&admin));
    let writes = Arc::new(AtomicU64::new(0));
    let (written, beats) = (writes.clone(), AtomicU64::new(0));
    let gateway = TinyServer::answer_on(gateway, move |_, words| match words[0].as_str() {
        "INFO" => {
            let cpu = writes.load(SeqCst) as f64 * 10e-6;
            text(&format!(
                "# Purlin\r\npurlin_admin:{at_admin}\r\npurlin_groups:8\r\nused_cpu_user:{cpu}\r\n\
                 used_cpu_sys:1\r\nprocess_id:{process}\r\n"
            ))
        }
        _ => {
            writes.fetch_add(1, SeqCst);
            Answer::Send(b"+OK\r\n")
        }
    });
    let admin = TinyServer::answer_on(admin, move |_, words| match words[1].as_str() {
        "MEMBERS" => text(&format!(
            r#"{{"members":[{{"admin":"{at_admin}","admin_is_local":true}},{{"admin":null,"admin_is_local":false}}]}}"#
        )),
        _ => {
            let (writes, beat) = (written.load(SeqCst), beats.fetch_add(1, SeqCst));
            let wal =
                format!(r#"{{"written_bytes":{},"batches":{writes},"syncs":0}}"#, writes * 100);
            text(&format!(
                r#"{{"process":{process},"gateway":"{at_gateway}","shards":[{{"beat":{beat},"wal":{wal}}}]}}"#
            ))
        }
    });
    Node { gateway, admin }
}

/// The exit code, the report, and the text.
fn load(target: SocketAddr, more: &[&str]) -> (i32, Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_purlin-bench"))
        .args(["--target", &target.to_string(), "-n", "1000", "--json", "-"])
        .args(more)
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), report, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_work_of_a_node_stands_beside_the_result() {
    let node = node(7);
    let (code, report, told) = load(node.gateway.address, &[]);
    assert_eq!(code, 0, "{told}");
    let servers = &report["result"]["servers"];
    assert_eq!((&servers["servers"], &servers["operations"]), (&1.into(), &1_000.into()), "{told}");
    let near = |name: &str, wanted: f64| {
        let value = servers[name].as_f64().unwrap();
        assert!((value / wanted - 1.0).abs() < 1e-6, "{name}: {value}, {told}");
    };
    near("operations_per_sync", 1.0);
    near("log_bytes_per_operation", 100.0);
    near("cpu_seconds_per_million", 10.0);
    assert!(servers["syncs_per_second"].as_f64().unwrap() > 0.0);
    for word in [
        "\nservers   1 server: ",
        "10.00 s of processor time",
        "1.0 operations a sync",
        "100 bytes",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(node.admin.commands() >= 4, "members and status, before and after");
}

#[test]
fn a_server_that_tells_nothing_stops_nothing() {
    let server = TinyServer::start(|_| Answer::Send(b"+OK\r\n"));
    let (code, report, told) = load(server.address, &[]);
    assert_eq!((code, &report["result"]["servers"]), (0, &Value::Null), "{told}");
    assert!(!told.contains("\nservers "), "{told}");
}

#[test]
fn only_the_first_groups_get_operations() {
    let node = node(7);
    let (code, report, told) = load(node.gateway.address, &["--active-groups", "2"]);
    assert_eq!(code, 0, "{told}");
    let sets: Vec<_> =
        node.gateway.take_seen().into_iter().filter(|words| words[0] == "SET").collect();
    assert_eq!(sets.len(), 1_000);
    assert!(sets.iter().all(|words| slot_of(words[1].as_bytes()) < 16_384 / 8 * 2));
    assert_eq!(report["parameters"]["groups"]["active"], 2);
    assert_eq!(report["parameters"]["groups"]["all"], 8);
    assert!(told.contains("which 2 of 8 groups own"), "{told}");
}

#[test]
fn groups_that_are_not_there_or_not_known_are_an_error_before_the_load() {
    let node = node(7);
    let (code, _, told) = load(node.gateway.address, &["--active-groups", "9"]);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("8 groups"), "{told}");
    assert_eq!(node.gateway.commands(), 1, "nothing but INFO was sent");
    let other = TinyServer::start(|_| Answer::Send(b"$3\r\nx:y\r\n"));
    let (code, _, told) = load(other.address, &["--active-groups", "1"]);
    assert_eq!((code, other.commands()), (7, 1), "{told}");
    assert!(told.contains("purlin_groups") && told.contains("nothing was sent"), "{told}");
}
