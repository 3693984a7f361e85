//! The program `purlin`, in the profile of the tests that run it: cargo builds a package's programs
//! for its own tests, and for those of no other.

use std::process::ExitCode;

fn main() -> ExitCode {
    purlin_server::cli::main()
}
