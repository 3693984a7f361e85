//! The options of `purlin dev`.

use super::ports::PEER_PORTS;
use crate::config::{runtime_kind, segment_bytes};
use clap::Args;
use purlin::os::RuntimeKind;

/// The largest cluster that is started on one machine.
const NODES_MAX: i64 = 9;
/// The most shards of each of its nodes.
const SHARDS_MAX: i64 = PEER_PORTS as i64;

/// What `purlin dev` is told.
#[derive(Args, Clone, Debug)]
pub struct DevOptions {
    /// How many nodes, 1 to 9
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=NODES_MAX))]
    pub nodes: u32,
    /// How many shards each node has, 1 to 40
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=SHARDS_MAX))]
    pub shards: u16,
    /// How many Raft groups share the keys, 1 to 16384
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub groups: u32,
    /// The size of a segment file of a shard's write-ahead log, 1MiB to 4GiB
    #[arg(long, default_value = "16MiB", value_parser = segment_bytes)]
    pub segment: u64,
    /// What the shards run on: see `runtime.kind` in `purlin config default`
    #[arg(long, default_value = "glommio", value_parser = runtime_kind)]
    pub runtime: RuntimeKind,
    /// Keep the data when the cluster ends; start the kept cluster again, as it was made
    #[arg(long)]
    pub keep: bool,
}
