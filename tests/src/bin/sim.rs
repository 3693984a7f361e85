//! The simulator's command line, with the key-value machine: one seed to be replayed, or a range on all
//! cores.

use purlin_tests::{cluster::KeyValue, explore};
use std::process::ExitCode;

fn main() -> ExitCode {
    explore::main("cargo run --release -p purlin-tests --bin sim", KeyValue::draw)
}
