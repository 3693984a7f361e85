//! The targets of the fuzzer: what must hold for any bytes that a client, a peer, a disk or an operator hands
//! in.
//!
//! A target takes bytes and panics where a promise does not hold: a reader panics, needs more memory than its
//! input allows, or reads something else from what it has read and written again. `fuzz/` runs the targets
//! under libFuzzer, and `tests/tests/corpus.rs` runs them over the committed corpus.
//!
//! A fuzzer cannot guess a checksum. So the targets put the right checksums around the input, and it is the
//! content that is drawn.

mod command;
mod config;
mod cost;
mod frames;
mod resp;
mod wal;

pub use command::command;
pub use config::config;
pub use cost::{Counting, held_by};
pub use frames::{framed, frames};
pub use resp::resp;
pub use wal::wal;
