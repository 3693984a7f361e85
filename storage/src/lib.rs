//! Making a batch durable, and finding it again: the write-ahead log of one shard.

mod disk;

pub use disk::{Block, Disk, Durability, File};
