//! Judges of what a cluster did: histories of clients against a model, commands against the log, and
//! states against each other.

pub mod history;
pub mod kv;
pub mod linearizability;
mod log_order;
pub mod order;
pub mod states;

#[cfg(test)]
mod kv_test;
