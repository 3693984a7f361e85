//! What a cluster of the real engine does in the simulated world when one thing goes wrong, by theme.

mod clients;
mod crashes;
mod directories;
mod disks;
mod elections;
mod faulty;
mod idleness;
mod leaders;
mod links;
mod machines;
mod memory;
mod mit_kvraft;
mod mit_raft;
mod partitions;
mod reads;
mod stages;
mod status;
mod stops;
mod support;
mod work;
