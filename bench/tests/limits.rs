//! The command `purlin-bench limits` from its start to its end, and what a load makes of its result. No
//! time is asserted.

#[expect(dead_code, reason = "the loads use all of it")]
mod tiny;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use tiny::{Answer, TinyServer};

/// A directory below target/ that goes with its owner.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        let name = format!("limits-{test}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
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

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_purlin-bench"))
}

fn limits(dir: &Dir, more: &[&str]) -> Output {
    bench().args(["limits", "--seconds", "0.001", "--dir"]).arg(&dir.0).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_short_run_measures_all_cells_and_leaves_nothing_behind() {
    let dir = Dir::new("short");
    let output = limits(&dir, &["--json", "-", "--nodes", "5", "--shards", "2", "-P", "16"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(dir.is_empty());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let disk = report["measured"]["disk"].as_array().unwrap();
    // A disk with blocks of 4 KiB takes no writes of 512 B.
    assert!([48, 60].contains(&disk.len()), "{} cells", disk.len());
    assert!(disk.iter().all(|cell| cell["writes_per_second"].as_f64().unwrap() > 0.0));
    assert_eq!(report["measured"]["tcp"]["streams"].as_array().unwrap().len(), 3);
    assert_eq!((&report["load"]["nodes"], &report["load"]["pipeline"]), (&5.into(), &16.into()));
    assert!(report["limits"]["limit_ops"].as_f64().unwrap() > 0.0);
    assert!(report["limits"]["limit_p50_micros"].as_f64().unwrap() > 0.0);
    let told = text(&output.stderr);
    for word in ["O_DSYNC", "fdatasync", "CRC32C", "limit_p50", "limit_ops", "assumed"] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn a_load_stands_beside_the_limits() {
    let dir = Dir::new("beside");
    let file = dir.file("limits.json");
    assert!(limits(&dir, &["--json", &file]).status.success());
    let server = TinyServer::start(|_| Answer::Send(b"+OK\r\n"));
    let port = server.address.port().to_string();
    let load = |more: &[&str]| {
        let line = ["-p", &port, "-n", "100", "--json", "-", "--limits", &file];
        let output = bench().args(line).args(more).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (report["result"].clone(), text(&output.stderr).to_owned())
    };
    let (result, told) = load(&[]);
    assert!(result["achieved"]["ops_ratio"].as_f64().unwrap() > 0.0, "{result}");
    assert!(result["achieved"]["p50_ratio"].as_f64().unwrap() > 0.0, "{result}");
    assert!(told.contains("of limit_ops"), "{told}");
    assert!(result["client"]["cpu_seconds_per_million"].as_f64().unwrap() > 0.0, "{result}");
    assert!(told.contains("for a million operations"), "{told}");
    let (result, told) = load(&["--reads", "50"]);
    assert!(result["achieved"].is_null(), "{result}");
    assert!(told.contains("limits are of SETs"), "{told}");
}

#[test]
fn limits_that_cannot_be_read_are_a_mistake_of_usage() {
    let dir = Dir::new("unreadable");
    let file = dir.file("limits.json");
    for content in [None, Some("{}"), Some(r#"{"version":1}"#)] {
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let output = bench().args(["-p", "1", "--limits", &file]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{content:?}");
        assert!(text(&output.stderr).contains("limits.json"), "{}", text(&output.stderr));
    }
}

#[test]
fn an_interrupt_ends_the_run_and_leaves_nothing_behind() {
    let dir = Dir::new("interrupt");
    let mut child =
        bench().args(["limits", "--seconds", "10", "--dir"]).arg(&dir.0).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let status = format!("/proc/{}/status", child.id());
    // Until the handlers are set, a signal would end the process as it ends any. Those of SIGTERM come last.
    let catches_signals = || {
        let text = fs::read_to_string(&status).unwrap();
        let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(mask, 16).unwrap() & (1 << (Signal::TERM.as_raw() - 1)) != 0
    };
    while !catches_signals() {
        std::thread::yield_now();
    }
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(dir.is_empty());
}

#[test]
fn mistakes_are_told_apart() {
    let dir = Dir::new("mistakes");
    let missing = dir.file("missing");
    let output = bench().args(["limits", "--dir", &missing]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains(&missing) && told.contains("--dir"), "{told}");
    for line in
        [&["limits", "--seconds", "0"][..], &["limits", "--nodes", "0"], &["-p", "1", "limits"]]
    {
        let output = bench().args(line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line:?}");
    }
}
