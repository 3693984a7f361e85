//! Making a batch durable, and finding it again: the write-ahead log of one shard.
//!
//! Read it in this order. A [`Batch`] collects *records* of many groups, which one write makes
//! durable. [`Wal::submit`] gives it a [`purlin_rsm::Sequence`] and a place; the *pipeline* keeps
//! several writes in flight and counts the contiguous durable prefix, the *watermark*. Batches fill
//! *segments*, which the *reserve* prepares ahead of need and *purge* gives back. The *index* knows
//! about where each group's entries lie, and *recovery* decides after a crash what counts.
//!
//! The rules W1 to W10 of the design stand beside the guards that keep them. What no local rule can see
//! (W10): rot in the batches that were acknowledged after the last recorded watermark, which a closing
//! batch keeps few, looks like a torn tail. Peers notice it by the start's
//! [`kept`](purlin_rsm::Start::kept).
#![forbid(unsafe_code)]

mod config;
mod disk;
mod error;

mod align;
mod batch;
mod record;
mod segment;

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
mod recovery;
mod scan;
mod tail;

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
pub use error::{StorageError, SubmitError};
pub use invariant::Violation;
pub use recovery::{Cut, Recovered, RecoveredGroup};
pub use state::WalStats;
pub use wal::Wal;
