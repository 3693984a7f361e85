//! What scenarios share: names and times.

use purlin::NodeId;
use std::time::Duration;

pub(crate) const ONE: NodeId = NodeId(1);
pub(crate) const TWO: NodeId = NodeId(2);
pub(crate) const THREE: NodeId = NodeId(3);

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
