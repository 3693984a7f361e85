//! The simulator, which runs the real engine in a deterministic world, and the checkers, which
//! judge the result.
//!
//! It runs any state machine: write a [`cluster::Subject`], and [`explore::main`] is the command
//! line around it. `examples/queue.rs` is a complete example.

pub mod cluster;
pub mod explore;
pub mod fuzz;
pub mod sim;

pub mod audit;
pub mod checker;
pub mod mutants;
pub mod reached;
pub mod resp;
pub mod wal;
pub mod workload;
