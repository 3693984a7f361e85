//! The real engine in the simulated world: seeds that must stay good, and equal histories of equal
//! seeds. What a cluster does when one thing goes wrong is told in `scenarios`.

use purlin_tests::cluster::{self, ClusterOptions};
use std::{process::Command, time::Duration};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Seeds that once failed, with the turmoil that they failed in, and others for breadth.
#[test]
fn seeds_stay_good() {
    let found_something =
        [(22, 10), (36, 10), (100, 10), (112, 10), (128, 10), (142, 10), (3105, 10)];
    let others = (2000..2018).map(|seed| (seed, 2));
    let failed: Vec<String> = found_something
        .into_iter()
        .chain(others)
        .filter_map(|(seed, turmoil)| {
            let report = cluster::run(seed, ClusterOptions::draw(seed, seconds(turmoil)));
            (!report.violations.is_empty() || report.inconclusive > 0).then(|| report.explain(seed))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_seed_has_one_history() {
    for seed in [3, 5] {
        let run = || cluster::run(seed, ClusterOptions::draw(seed, seconds(1)));
        let (one, other) = (run(), run());
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
