//! The real engine in the simulated world: seeds that must stay good, and equal histories of equal
//! seeds. What a cluster does when one thing goes wrong is told in `scenarios`.

use purlin_tests::{
    cluster::{self, ClusterOptions, KeyValue, Report},
    sim::{Fault, LogFigures},
    wal::{self, WalFigures},
};
use std::{process::Command, time::Duration};

/// A seed with a shorter time of faults than it draws: a debug build is slow.
fn run(seed: u64, seconds: u64) -> Report {
    let turmoil = Duration::from_secs(seconds);
    let options = ClusterOptions { turmoil, ..ClusterOptions::draw(seed) };
    cluster::run(seed, KeyValue::draw(seed), options)
}

/// A few for breadth; a release build runs many more.
#[test]
fn seeds_stay_good() {
    let failed: Vec<String> = (2000..2024)
        .filter_map(|seed| {
            let report = run(seed, 4);
            (!report.violations.is_empty() || report.inconclusive > 0).then(|| report.explain(seed))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_seed_has_one_history() {
    for seed in [3, 5] {
        let (one, other) = (run(seed, 1), run(seed, 1));
        assert_eq!((one.hash, one.events), (other.hash, other.events), "seed {seed}");
        assert!(one.events > 1_000, "seed {seed} did nothing");
    }
}

/// Nothing of a process, such as where its memory lies, may reach a history.
#[test]
fn a_seed_has_one_history_in_two_processes() {
    let run = || {
        let sim = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["--seed", "7", "--seconds", "1"])
            .output()
            .expect("the simulator starts");
        let text = String::from_utf8(sim.stdout).expect("it writes text");
        let line = text.lines().find(|line| line.contains("hash")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no hash in {text}"))
    };
    assert_eq!(run(), run());
}

/// What a node does never depends on the reader of its log.
#[test]
fn a_log_whose_reader_stands_changes_no_history() {
    let mut logged = LogFigures::default();
    for seed in 2000..2004 {
        let run = |is_blocked: bool| {
            let mut options = ClusterOptions::draw(seed);
            options.turmoil = Duration::from_secs(4);
            options.faults.pause_mean = Duration::from_millis(100);
            options.faults.kinds.retain(|kind| *kind != Fault::BlockLog);
            options.faults.kinds.extend(is_blocked.then_some(Fault::BlockLog));
            cluster::run(seed, KeyValue::draw(seed), options)
        };
        let (free, blocked) = (run(false), run(true));
        let history = |report: &Report| (report.hash, report.events, report.operations);
        assert_eq!(history(&free), history(&blocked), "seed {seed}");
        assert_eq!(free.logged.lines, blocked.logged.lines, "seed {seed}");
        assert_eq!((free.logged.blocks, &blocked.violations), (0, &Vec::new()), "seed {seed}");
        logged.add(&blocked.logged);
    }
    assert!(logged.lines > 500 && logged.blocks > 5 && logged.dropped > 5, "{logged:?}");
}

/// The WAL alone, with floors and releases that no engine asks for yet.
#[test]
fn each_start_of_a_wal_finds_what_it_must() {
    let mut figures = WalFigures::default();
    let mut failed = Vec::new();
    for seed in 0..60 {
        let report = wal::run(seed);
        figures.add(&report.figures);
        if !report.violations.is_empty() {
            failed.push(format!("seed {seed}: {:?}", report.violations));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    println!("{figures:?}");
    assert!(figures.starts > 300 && figures.batches > 1_500, "{figures:?}");
    assert!(figures.floors > 200 && figures.released > 100, "{figures:?}");
    assert!(figures.reads > 200 && figures.refused > 5, "{figures:?}");
    assert!(figures.failures > 10 && figures.damaged > 0, "{figures:?}");
}
