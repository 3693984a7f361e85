//! The facts that the admin port tells of its node beside the status of the shards.

use crate::cpu::ProcessTimes;
use purlin::ClusterConfig;
use std::time::Duration;

/// Facts of a node that do not change while it runs.
#[derive(Clone, Debug)]
pub struct AdminFacts {
    /// The cluster, as the node's configuration has it.
    pub cluster: ClusterConfig,
    /// The id of the process. It is told from outside: a simulated node has none of its own.
    pub process: u32,
    /// Tells the processor time of the process, if that can be read. It comes from outside for the same reason.
    pub cpu: fn() -> Option<ProcessTimes>,
    /// Where clients connect.
    pub gateway: String,
    /// Where operators connect.
    pub admin: String,
    /// When the node started, by the clock of its runtime.
    pub started_at: Duration,
}
