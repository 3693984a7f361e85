//! How often each fault has struck in a world, for a report.

/// How often what went wrong.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Processes that were ended.
    pub kills: u64,
    /// Nodes that lost their power.
    pub power_cuts: u64,
    /// Sectors of pages that a power cut left as a mixture of versions.
    pub torn_sectors: u64,
    /// Sectors that a power cut left as garbage.
    pub garbage_sectors: u64,
    /// Pages whose newest version a power cut took, since nothing had made it durable.
    pub lost_writes: u64,
    /// Connections that were broken.
    pub resets: u64,
}

impl Figures {
    /// Adds another world's figures.
    pub fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.torn_sectors += other.torn_sectors;
        self.garbage_sectors += other.garbage_sectors;
        self.lost_writes += other.lost_writes;
        self.resets += other.resets;
    }
}
