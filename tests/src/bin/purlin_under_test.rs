//! The program `purlin`, built in the profile of the tests that run it. Cargo builds the programs
//! of a package for the tests of that package only.

use std::process::ExitCode;

fn main() -> ExitCode {
    purlin_server::cli::main()
}
