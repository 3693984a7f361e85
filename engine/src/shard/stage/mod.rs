//! The six stages of a shard's loop, in the order of their numbers:
//!
//! ```text
//! 1 intake   requests, peers' messages, completions, time    → groups that have inputs
//! 2 step     each such group's Ready                         → writes, messages, entries, reads
//! 3 append   one WAL batch for the writes of all groups      → durability, back to the groups
//! 4 send     one frame per peer for the messages of all groups
//! 5 apply    one batch of committed entries per group        → outcomes
//! 6 reply    outcomes to their callers, each woken once
//! ```
//!
//! A turn of the loop runs them over all groups that have inputs. There are no timers in between: what
//! comes while a write is on its way goes into the next one.

pub(crate) mod intake;
pub(crate) mod peers;
pub(crate) mod step;

pub(crate) mod append;
pub(crate) mod send;

pub(crate) mod apply;
pub(crate) mod reply;
