//! The program `purlin`, built in the profile of the tests that run it. Cargo builds the programs
//! of a package for the tests of that package only.

use std::process::ExitCode;

/// As in `server/src/main.rs`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    purlin_server::cli::main()
}
