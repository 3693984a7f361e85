//! The program `purlin`. All of it is in the library.

use std::process::ExitCode;

/// Many small allocations on few threads: measured against the system's in docs/bench.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    purlin_server::cli::main()
}
