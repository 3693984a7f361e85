//! How to run a load: its servers, its pace and its times.

use std::net::SocketAddr;
use std::time::Duration;

use crate::schedule::Arrivals;

/// How the pace is set.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// The server sets the pace: a connection sends again when it has its replies.
    Closed,
    /// A schedule sets the pace.
    Open {
        /// Operations a second, over all connections.
        rate: f64,
        /// How the intervals are drawn.
        arrivals: Arrivals,
    },
}

/// When the measured part ends.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// After a time.
    Duration(Duration),
    /// When this many operations were sent.
    Requests(u64),
}

/// How to run a load.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// The servers; connection i goes to server i modulo their number. At least one.
    pub targets: Vec<SocketAddr>,
    /// Whether the targets are servers of a cluster. Then they tell which endpoint leads which slot, and each client
    /// has a connection to each endpoint.
    pub cluster: bool,
    /// Connections, at least one; in a cluster clients.
    pub clients: usize,
    /// Closed loop: operations in one write. Open loop: unanswered operations a connection may have.
    pub pipeline: usize,
    /// Closed or open loop.
    pub pace: Pace,
    /// When the measured part ends.
    pub extent: Extent,
    /// The warm-up: how long the load runs before the measured part.
    pub warmup: Duration,
    /// An operation that has no reply after this time is given up, and its connection is closed.
    pub timeout: Duration,
    /// How long to try to reach a server before the run.
    pub reach: Duration,
    /// A run of a number of operations ends early when operations wait and none has succeeded for this time, or
    /// for `timeout` if that is longer. The pauses of a slow schedule do not count.
    pub give_up: Duration,
    /// The seed of the arrivals.
    pub seed: u64,
}
