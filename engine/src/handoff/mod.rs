//! How one thread hands a woken task over to another: `steps.rs` holds what must be right in every order of steps, and
//! loom checks it.

mod atomics;
#[cfg(test)]
mod model_test;
mod steps;

pub(crate) use steps::{Next, Queued, Receiver};
