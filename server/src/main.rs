//! The program `purlin`. All of it is in the library.

use std::process::ExitCode;

/// It gives the memory of large replies back to the system, which the allocator of the C library keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    purlin_server::cli::main()
}
