//! `--check`: whether what the clients of a run were told is linearizable.
//!
//! ```text
//! notes      while the run goes on: what was asked of a key, when, what was told, when
//! zones      from when to when each value was seen: which operations cannot all be right, and a likely order
//! verdict    the checker judges each key
//! ```
//!
//! The keys of a run that is checked are new with the run, and each write has a value of its own (see
//! [`crate::workload`]). So a key is not there at first, and a value that is read names its write. All operations on a
//! sampled key are noted, those of the warm-up too. Times are those of the generator, which is one thread: an operation
//! is asked before its bytes are sent, and told after the bytes of its reply were read.
//!
//! What is noted is bounded ([`notes`]). Behind the bound of a key nothing of it is noted, and what was under way then
//! counts as in doubt, so that no violation is found that is none.

pub mod notes;

pub mod zones;

pub mod verdict;
