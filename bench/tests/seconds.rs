//! What is told of each second: the interval log, and the lines on standard error.

#[expect(dead_code, reason = "the loads use all of it")]
mod tiny;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use purlin_bench::hdr_log::{HdrFile, HdrLog, WARM_UP};
use tiny::{Answer, TinyServer};

fn bench(server: &TinyServer, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_purlin-bench"))
        .args(["-p", &server.address.port().to_string(), "--rate", "500", "--warmup", "1s"])
        .args(["--duration", "1500ms"])
        .args(more)
        .output()
        .unwrap()
}

fn ok() -> TinyServer {
    TinyServer::start(|_| Answer::Send(b"+OK\r\n"))
}

/// The tag, the start, and the histogram of each interval.
fn intervals(log: &[u8]) -> Vec<(Option<String>, f64, Histogram<u64>)> {
    let mut deserializer = Deserializer::new();
    let entries = IntervalLogIterator::new(log).map(|entry| entry.expect("a line of the log"));
    let mut interval = |entry| {
        let LogEntry::Interval(interval) = entry else { return None };
        let tag = interval.tag().map(|tag| tag.as_str().to_owned());
        let bytes = base64(interval.encoded_histogram());
        let histogram = deserializer.deserialize(&mut bytes.as_slice()).unwrap();
        Some((tag, interval.start_timestamp().as_secs_f64(), histogram))
    };
    entries.filter_map(&mut interval).collect()
}

/// The bytes that base64 stands for.
fn base64(text: &str) -> Vec<u8> {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|&letter| letter != b'=').map(digit).collect();
    let bytes = |four: &[u8]| {
        let bits = four.iter().fold(0_u32, |bits, &digit| bits << 6 | u32::from(digit));
        let bits = bits << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(bytes).collect()
}

#[test]
fn the_interval_log_has_all_operations_and_marks_the_warm_up() {
    let name = format!("seconds-{}.hlog", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let server = ok();
    let output = bench(&server, &["--json", "-", "--hdr-log", path.to_str().unwrap()]);
    let log = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = String::from_utf8_lossy(&log);
    assert!(
        text.contains("#[StartTime: ") && text.contains("#[MaxValueDivisor: 1000000"),
        "{text}"
    );
    let intervals = intervals(&log);
    let seconds = report["seconds"].as_array().unwrap().len();
    assert!((seconds..=seconds + 1).contains(&intervals.len()), "{seconds}: {text}");
    // Each command but INFO, before and after, is an operation; all of them ended in some second.
    let count: u64 = intervals.iter().map(|(.., histogram)| histogram.len()).sum();
    assert_eq!(count, server.commands() - 2, "{text}");
    assert_eq!(intervals[0].0.as_deref(), Some(WARM_UP));
    assert!(intervals.len() >= 2 && intervals.last().unwrap().0.is_none(), "{text}");
    assert_eq!(intervals[0].1, 0.0);
    let starts = intervals.windows(2).all(|pair| pair[0].1 < pair[1].1);
    assert!(starts, "{text}");
    let max = intervals.iter().map(|(.., histogram)| histogram.max()).max().unwrap();
    assert!(max >= report["result"]["latency"]["max"].as_u64().unwrap(), "{max}");
}

#[test]
fn a_log_that_cannot_be_written_is_a_mistake_of_usage_or_a_warning() {
    let server = ok();
    let output = bench(&server, &["--hdr-log", "/nowhere/at/all.hlog"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), server.commands()), (Some(2), 0), "{told}");
    assert!(told.contains("--hdr-log /nowhere/at/all.hlog"), "{told}");
    // A full disk stops the log, and not the run.
    let mut file = HdrFile::create(Path::new("/dev/full")).unwrap();
    let mut log = HdrLog::new(&mut file);
    let histogram = purlin_bench::recorder::histogram();
    let mut recorder = purlin_bench::recorder::Recorder::new(0, false);
    for second in 1..=3 {
        recorder.end_second(second * 1_000_000_000, 0, &mut |second: &_, _: &_| {
            log.write(second, &histogram);
        });
    }
    let why = log.failure().unwrap();
    assert!(why.contains("/dev/full"), "{why}");
}

#[test]
fn progress_is_a_line_a_second_on_standard_error_when_it_is_wanted() {
    let server = ok();
    let lines = |output: &Output| {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        told.lines().filter(|line| line.contains(" a second, p50 ")).count()
    };
    let output = bench(&server, &["--progress"]);
    assert!(lines(&output) >= 2, "{}", String::from_utf8_lossy(&output.stderr));
    // Neither output is a terminal here.
    assert_eq!(lines(&bench(&server, &[])), 0);
}
