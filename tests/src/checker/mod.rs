//! The checkers: they compare histories of clients with a model, commands with the log, and states
//! with each other.

pub mod order;
pub mod states;

pub use purlin_checker::{history, kv, linearizability};

#[cfg(test)]
mod kv_test;
