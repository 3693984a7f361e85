//! `--check` against servers that are right, and against servers that lie.

#[expect(dead_code, reason = "the loads use all of it")]
mod tiny;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;
use tiny::{Answer, TinyServer};

/// What a server does wrong, by the number of a command.
#[derive(Clone, Copy)]
enum Lie {
    No,
    /// Each tenth read finds the first value that its key ever had.
    StaleRead,
    /// Each twentieth write is acknowledged and not applied.
    LostWrite,
    /// Each hundredth command ends its connection, and is applied or not.
    Hangup,
}

#[derive(Default)]
struct Key {
    first: Option<String>,
    value: Option<String>,
}

/// A server that keeps values and counters.
fn server(lie: Lie) -> TinyServer {
    let keys = Mutex::new(BTreeMap::<String, Key>::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    TinyServer::answer_on(listener, move |number, words| {
        if words[0] == "INFO" {
            return Answer::Send(b"-ERR no INFO here\r\n");
        }
        let mut keys = keys.lock().unwrap();
        let key = keys.entry(words[1].clone()).or_default();
        let is_lost = matches!(lie, Lie::LostWrite) && number % 20 == 19;
        let hangs_up = matches!(lie, Lie::Hangup) && number % 100 == 99;
        let is_dropped = is_lost || (hangs_up && number % 200 == 99);
        let before = key.value.as_ref().map_or(0, |value| value.parse::<u64>().unwrap_or(0));
        let written = match words[0].as_str() {
            "SET" => Some(words[2].clone()),
            "INCR" => Some((before + 1).to_string()),
            _ => None,
        };
        if let Some(value) = written.clone().filter(|_| !is_dropped) {
            key.first.get_or_insert(value.clone());
            key.value = Some(value);
        }
        if hangs_up {
            return Answer::Close;
        }
        let is_stale = matches!(lie, Lie::StaleRead) && number % 10 == 9;
        let read = if is_stale { &key.first } else { &key.value };
        Answer::Say(match (words[0].as_str(), written, read) {
            ("SET", ..) => "+OK\r\n".to_owned(),
            (_, Some(sum), _) => format!(":{sum}\r\n"),
            (_, None, None) => "$-1\r\n".to_owned(),
            (_, None, Some(value)) => format!("${}\r\n{value}\r\n", value.len()),
        })
    })
}

/// The exit code, the part of the JSON about the check, and the text.
fn check(lie: Lie, more: &[&str]) -> (i32, Value, String) {
    let server = server(lie);
    let port = server.address.port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_purlin-bench"))
        .args(["-p", &port, "--check", "-c", "4", "--seed", "1", "--json", "-"])
        .args(if more.contains(&"-n") { &[][..] } else { &["-n", "4000"] })
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{text}"));
    (output.status.code().unwrap(), report["result"]["checked"].clone(), text)
}

const SETS: &[&str] = &["--reads", "50", "--keys", "20"];
const COUNTERS: &[&str] = &["--workload", "incr", "--keys", "20"];

#[test]
fn a_server_that_is_right_is_linearizable() {
    for load in [SETS, COUNTERS, &["--reads", "50", "--keys", "2", "-P", "16", "-d", "12-4096"]] {
        let (code, checked, text) = check(Lie::No, load);
        assert_eq!(code, 0, "{text}");
        assert_eq!((&checked["operations"], &checked["violated_keys"]), (&4_000.into(), &0.into()));
        assert_eq!((&checked["undecided_keys"], &checked["in_doubt"]), (&0.into(), &0.into()));
        assert!(text.contains("checked 4000 operations of"), "{text}");
        assert!(text.contains("among them: linearizable"), "{text}");
    }
}

#[test]
fn writes_in_doubt_are_no_violation_whether_they_were_applied_or_not() {
    for load in [SETS, COUNTERS] {
        let (code, checked, text) = check(Lie::Hangup, load);
        assert_eq!((code, &checked["undecided_keys"]), (0, &0.into()), "{text}");
        assert!(checked["in_doubt"].as_u64().unwrap() > 0, "{text}");
        assert!(text.contains("writes in doubt"), "{text}");
    }
}

#[test]
fn a_server_that_lies_is_found_out() {
    for (lie, load) in [(Lie::StaleRead, SETS), (Lie::LostWrite, SETS), (Lie::LostWrite, COUNTERS)]
    {
        let (code, checked, text) = check(lie, load);
        assert_eq!(code, 8, "{text}");
        assert!(checked["violated_keys"].as_u64().unwrap() > 0, "{text}");
        assert!(text.contains("NOT LINEARIZABLE"), "{text}");
        // The key, and who was told what.
        assert!(text.contains("key b\"check:") && text.contains("client "), "{text}");
        assert!(text.contains("error: the answers are not linearizable"), "{text}");
        assert!(text.lines().count() < 150, "the history is short: {text}");
    }
}

#[test]
fn what_comes_behind_the_bounds_is_counted() {
    let (code, checked, text) =
        check(Lie::No, &["--reads", "50", "--keys", "2", "-n", "12000", "-P", "16"]);
    assert_eq!(code, 0, "{text}");
    let (operations, more) = (&checked["operations"], &checked["not_checked"]);
    assert_eq!((operations, more), (&8_192.into(), &(12_000 - 8_192).into()), "{text}");
    assert!(text.contains("behind the bounds"), "{text}");
    // Only the first keys are checked.
    let (code, checked, text) = check(Lie::No, &["--reads", "50", "--distribution", "sequential"]);
    assert_eq!(
        (code, &checked["operations"], &checked["keys"]),
        (0, &1_024.into(), &1_024.into()),
        "{text}"
    );
}
