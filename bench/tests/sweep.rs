//! `--sweep` against a server of a known capacity.

#[expect(dead_code, reason = "the loads use all of it")]
mod tiny;

use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::Value;
use tiny::{Answer, TinyServer};

/// Commands a second that the server does. It refuses more.
const CAPACITY: f64 = 3_000.0;
/// So many it does at once after it had nothing to do.
const BURST: f64 = 60.0;

fn server() -> TinyServer {
    let room = Mutex::new((BURST, Instant::now()));
    TinyServer::start(move |_| {
        let (room, at) = &mut *room.lock().unwrap();
        let now = Instant::now();
        *room = (*room + (now - *at).as_secs_f64() * CAPACITY).min(BURST);
        *at = now;
        if *room < 1.0 {
            return Answer::Send(b"-BUSY\r\n");
        }
        *room -= 1.0;
        Answer::Send(b"+OK\r\n")
    })
}

fn sweep(server: &TinyServer, times: [&str; 2]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_purlin-bench"));
    command
        .args(["-p", &server.address.port().to_string(), "-c", "4", "--sweep", "--json", "-"])
        .args(["--duration", times[0], "--warmup", times[1], "--sweep-p99", "30s"])
        .args(["--arrivals", "uniform", "--sweep-samples", "500"]);
    command
}

#[test]
fn the_knee_is_the_highest_rate_that_passed_and_the_tail_is_measured_below_it() {
    let output = sweep(&server(), ["300ms", "50ms"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = report["steps"].as_array().unwrap();
    let rate = |step: &Value| step["rate"].as_f64().unwrap();
    let (passed, failed): (Vec<_>, Vec<_>) =
        steps.iter().partition(|step| step["failed_by"].is_null());
    let knee = report["knee"]["rate"].as_f64().unwrap();
    assert_eq!(passed.iter().map(|step| rate(step)).fold(0.0, f64::max), knee, "{told}");
    // A stall of the machine makes it lower; nothing makes it much higher.
    assert!(knee < 1.5 * CAPACITY, "{told}");
    let failed_rate = report["knee"]["failed_rate"].as_f64().unwrap();
    assert!(knee < failed_rate && failed_rate < 1.06 * knee, "{told}");
    for step in &passed {
        assert!(step["achieved_percent"].as_f64().unwrap() >= 95.0, "{step}");
    }
    for step in &failed {
        assert!(step["achieved_percent"].as_f64().unwrap() < 95.0, "{step}");
        assert!(step["failed_by"].as_str().unwrap().contains("95 %"), "{step}");
    }
    // It has failed when two runs have, the last one among them.
    let at_failed = failed.iter().filter(|step| rate(step) == failed_rate).count();
    assert_eq!(at_failed, 2, "{told}");
    let tail = &report["tail"];
    assert!((rate(tail) / knee - 0.7).abs() < 0.01, "{told}");
    assert!(tail["has_samples"].as_bool().unwrap(), "{told}");
    let latency = &tail["run"]["result"]["latency"];
    let ratio = latency["p99_9"].as_f64().unwrap() / latency["p50"].as_f64().unwrap();
    assert!((tail["p99_9_by_p50"].as_f64().unwrap() / ratio - 1.0).abs() < 1e-9, "{told}");
    for word in
        ["asked", "achieved", "passed", "failed: less than 95 %", "\nknee      ", "p99.9 / p50 = "]
    {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn without_a_rate_that_passes_there_is_no_knee() {
    let server = TinyServer::start(|_| Answer::Send(b"-BUSY\r\n"));
    let output = sweep(&server, ["50ms", "0"]).args(["--sweep-start", "100"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("no rate passed"), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["knee"], &report["tail"]), (&Value::Null, &Value::Null));
    assert!(report["steps"].as_array().unwrap().len() >= 2);
}

/// It dies under the load of the second rate.
#[test]
fn a_server_that_dies_ends_the_sweep_with_what_there_is() {
    let server = TinyServer::start(|number| match number {
        0..500 => Answer::Send(b"+OK\r\n"),
        _ => Answer::Die,
    });
    let output = sweep(&server, ["300ms", "0"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("ended early") && told.contains("refused"), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["lost"].as_str().unwrap().contains("refused"), "{told}");
    assert_eq!(report["steps"][0]["rate"], 1_000.0, "{told}");
    assert!(report["steps"][0]["failed_by"].is_null(), "{told}");
    assert!(report["steps"][1]["failed_by"].is_string(), "{told}");
    assert_eq!(report["tail"], Value::Null);
}
