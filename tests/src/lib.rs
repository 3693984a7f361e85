//! The simulator that runs the real engine in a deterministic world, and the checkers that judge what
//! it did.
//!
//! It takes any state machine: bring a [`cluster::Subject`], and [`explore::main`] is the command line
//! around it. `examples/queue.rs` shows it on one page.

pub mod cluster;
pub mod explore;
pub mod sim;

pub mod audit;
pub mod checker;
pub mod mutants;
pub mod reached;
pub mod resp;
pub mod workload;
