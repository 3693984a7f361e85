//! The program `purlin`. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    purlin_server::cli::main()
}
