//! The targets of the fuzzer over the corpus that is committed: each file whole, and cut short.

use purlin_tests::fuzz::{self, Counting};
use std::{fs, path::Path};

#[global_allocator]
static COUNTING: Counting = Counting;

/// A file is run whole and cut at so many places.
const CUTS: usize = 32;

/// Runs `target` over its corpus, which has at least `least` files.
fn run(name: &str, least: usize, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= least, "{} files in {folder:?}", paths.len());
    for path in paths {
        let data = fs::read(&path).expect("readable");
        println!("{}", path.display());
        for cut in (0..=CUTS).map(|cut| data.len() * cut / CUTS) {
            target(&data[..cut]);
        }
    }
}

#[test]
fn requests_of_clients() {
    run("resp", 10, fuzz::resp);
}

#[test]
fn frames_of_peers() {
    run("frames", 20, fuzz::frames);
}

#[test]
fn batches_of_the_wal() {
    run("wal", 10, fuzz::wal);
}

#[test]
fn configuration_files() {
    run("config", 10, fuzz::config);
}

#[test]
fn commands_of_the_key_value_machine() {
    run("command", 10, fuzz::command);
}
