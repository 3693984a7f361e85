//! The write-ahead log (WAL) of one shard: it makes batches durable, and finds them again after a crash.
//!
//! Read it in this order. A [`Batch`] collects *records* of many groups, which one write makes
//! durable. [`Wal::submit`] gives the batch a [`purlin_rsm::Sequence`] and a place. The *pipeline* keeps
//! several writes in flight and counts the contiguous durable prefix, the *watermark*. Batches fill
//! *segments*, which the *reserve* prepares ahead of need and *purge* gives back. The *index* knows
//! roughly where each group's entries lie. *Recovery* decides after a crash which batches are the log.
//!
//! `state` joins these parts and does no I/O. The loops in `write`, `prepare`, `purge` and `reader` do
//! the I/O, and `wal` is what the engine calls.
//!
//! The rules W1 to W10 of `docs/SAFETY.md` stand beside the guards that keep them. One kind of damage is
//! invisible to the shard itself (W10): rot in batches that were acknowledged after the last recorded
//! watermark looks like a torn tail. Closing batches keep such batches few, and peers notice the loss by
//! the start's [`kept`](purlin_rsm::Start::kept).
#![forbid(unsafe_code)]

mod config;
mod disk;
mod error;
mod pace;

mod align;
mod batch;
mod record;
mod segment;

mod demand;
mod index;
mod invariant;
mod live;
mod pipeline;
mod reserve;
mod segments;
mod state;

mod directory;
mod prepare;
mod purge;
mod reader;
mod wal;
mod write;

mod carry;
mod recent;
mod recovery;
mod scan;

pub mod inspect;

#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod damage_test;
#[cfg(test)]
mod format_test;
#[cfg(test)]
mod images_test;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod wal_test;

pub use batch::Batch;
pub use config::WalConfig;
pub use disk::{Block, Disk, Durability, File};
pub use error::{StorageError, SubmitError, remedy};
pub use invariant::Violation;
pub use pace::{FILL_BYTES, Pace};
pub use recovery::{Cut, Recovered, RecoveredGroup};
pub use state::WalStats;
pub use wal::Wal;
