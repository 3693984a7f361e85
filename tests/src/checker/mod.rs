//! Judges of what a cluster did: histories of clients against a model, and states against each other.

pub mod history;
pub mod kv;
pub mod linearizability;
pub mod states;

#[cfg(test)]
mod kv_test;
