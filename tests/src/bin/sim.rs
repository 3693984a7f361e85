//! The command line of the simulator, with the key-value machine: it replays one seed, or runs a
//! range of seeds on all cores.

use purlin_tests::{cluster::KeyValue, explore};
use std::process::ExitCode;

fn main() -> ExitCode {
    explore::main("cargo run --release -p purlin-tests --bin sim", KeyValue::draw)
}
