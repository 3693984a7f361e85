//! Checks whether what clients were told is linearizable: whether one copy that does one operation at a time could have
//! told it.
//!
//! ```text
//! history ─► linearizability ─┬─ log_order   the order of the log, where it is known
//!                             └─ the search
//! model ◄─ kv   what one key does, as Redis defines it
//! ```
//!
//! The simulator judges its runs with it, and `purlin-bench --check` judges a load over sockets. Nothing here draws lots,
//! waits or asks a clock. The tests stand beside the simulator (`tests/src/checker/kv_test.rs`), which draws the histories.

pub mod history;
pub mod kv;
pub mod linearizability;
mod log_order;
pub mod model;
