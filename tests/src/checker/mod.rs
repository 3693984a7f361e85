//! The checkers: they compare histories of clients with a model, commands with the log, and states
//! with each other.

pub mod history;
pub mod kv;
pub mod linearizability;
mod log_order;
pub mod order;
pub mod states;

#[cfg(test)]
mod kv_test;
