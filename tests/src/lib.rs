//! The simulator that runs the real engine in a deterministic world, and the checkers that judge what
//! it did.

pub mod cluster;
pub mod sim;

pub mod checker;
pub mod resp;
pub mod workload;
