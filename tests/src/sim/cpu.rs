//! How long the core of a shard works on what its state machines do.
//!
//! All else takes no time: the model is there for the work that grows with a command, and not with how often a
//! loop runs.

use super::random::Random;
use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct CpuOptions {
    /// A command or a query.
    pub command: Duration,
    /// Each key in it.
    pub key: Duration,
}

impl CpuOptions {
    /// What this machine of ours takes: 16,384 keys take 10 ms.
    pub fn usual() -> Self {
        Self { command: Duration::from_micros(2), key: Duration::from_nanos(600) }
    }

    /// In one run of four the cores take time, some of them much.
    pub fn draw(random: &Random) -> Option<Self> {
        let micros =
            |least, most| Duration::from_nanos((random.magnitude(least, most) * 1_000.0) as u64);
        random.chance(0.25).then(|| Self { command: micros(1.0, 100.0), key: micros(0.1, 10.0) })
    }

    /// A command or a query with so many keys.
    pub fn work(&self, keys: usize) -> Duration {
        self.command + self.key * keys as u32
    }
}
