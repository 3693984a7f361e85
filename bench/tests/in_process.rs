//! The command `purlin-bench in-process` from its start to its end. No time is asserted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A directory below target/ that goes with its owner.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        let name = format!("in-process-{test}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).unwrap().next().is_none()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn in_process(dir: &Dir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_purlin-bench"));
    command.arg("in-process").arg("--dir").arg(&dir.0);
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A short run with few commands under way. Its result.
fn short(dir: &Dir, more: &[&str]) -> Value {
    let times = ["--duration", "300ms", "--warmup", "50ms", "--json", "-"];
    let output = in_process(dir).args(times).args(more).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(dir.is_empty());
    for word in ["commands a second", "p50", "processor", "durable on two nodes"] {
        assert!(text(&output.stderr).contains(word), "{word}: {}", text(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).unwrap()
}

fn check(report: &Value, runtime: &str, groups: u64) {
    let (load, result) = (&report["load"], &report["result"]);
    assert_eq!((&load["runtime"], &load["groups"]), (&runtime.into(), &groups.into()));
    let led: u64 =
        load["groups_led"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).sum();
    assert_eq!(led, groups);
    assert!(result["acknowledged"].as_u64().unwrap() > 0, "{result}");
    let micros = |name: &str| result[name].as_f64().unwrap();
    assert!(0.0 < micros("p50_micros") && micros("p50_micros") <= micros("p99_micros"), "{result}");
    assert!(micros("p99_micros") <= micros("max_micros"), "{result}");
    assert_eq!(result["not_acknowledged"], 0, "{result}");
}

/// That each acknowledged command was applied once is compared by the command itself.
#[test]
fn a_short_run_counts_commands_and_leaves_nothing_behind() {
    let dir = Dir::new("short");
    check(&short(&dir, &["--groups", "6", "--in-flight", "60"]), "glommio", 6);
}

#[test]
fn the_shards_run_on_the_runtime_that_is_named() {
    let dir = Dir::new("runtime");
    let report =
        short(&dir, &["--runtime", "ring", "--groups", "4", "--in-flight", "20", "-d", "100"]);
    check(&report, "ring", 4);
}

/// The other groups stay without a command, which the count of what was applied would show.
#[test]
fn only_some_groups_may_be_active() {
    let dir = Dir::new("active");
    let report = short(&dir, &["--groups", "12", "--active", "2", "--in-flight", "40"]);
    check(&report, "glommio", 12);
    assert_eq!(report["load"]["groups_active"], 2);
}

/// Then most groups have no command under way at a time, and two of the three nodes none at all.
#[test]
fn fewer_commands_than_nodes_may_be_under_way() {
    let dir = Dir::new("few");
    check(&short(&dir, &["--groups", "3", "--in-flight", "1"]), "glommio", 3);
}

#[test]
fn an_interrupt_ends_the_run_and_leaves_nothing_behind() {
    let dir = Dir::new("interrupt");
    let mut child = in_process(&dir).args(["--duration", "60s", "--groups", "3"]).spawn().unwrap();
    // Its directory is made after its handlers are set.
    while dir.is_empty() {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(dir.is_empty());
}

#[test]
fn mistakes_are_told_apart() {
    let dir = Dir::new("mistakes");
    let missing = dir.0.join("missing");
    let output = Command::new(env!("CARGO_BIN_EXE_purlin-bench"))
        .args(["in-process", "--dir"])
        .arg(&missing)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains(missing.to_str().unwrap()) && told.contains("do     "), "{told}");
    for line in [
        &["--groups", "0"][..],
        &["--groups", "5", "--active", "6"],
        &["--active", "0"],
        &["--in-flight", "40001"],
        &["--in-flight", "40000", "-d", "1000000"],
        &["--duration", "0"],
        &["--duration", "1h"],
        &["--runtime", "tokio"],
    ] {
        let output = in_process(&dir).args(line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert!(dir.is_empty(), "{line:?}");
    }
}
