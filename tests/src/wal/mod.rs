//! One write-ahead log on a simulated disk: batches of several groups, floors that rise, segments that
//! are released, and all that a disk does to it: crashes, torn sectors, a full disk, bad reads, failed
//! writes and syncs, rot.
//!
//! The engine gives no segment back yet, so a cluster's seeds do not reach that part of the WAL. Here a
//! driver calls it directly, and a model says what each start must find: nothing is lost that was
//! acknowledged and lies above the floor, nothing returns below a recorded floor, and the space is
//! bounded by what is needed.
//!
//! ```text
//!   driver ── submit, forget, release, read ──► Wal ──► SimDisk ◄── crash, fault, rot ── driver
//!     └────── what was submitted ──► Expected ◄─ what a start finds ──┘
//! ```

mod driver;
mod expected;

use crate::sim::{Random, World, WorldOptions};
use driver::Driver;
use purlin_rsm::reach::{Counts, Recorder};

/// What a run of one WAL has shown.
#[derive(Clone, Default, Debug)]
pub struct WalReport {
    /// What must not have happened. Empty if nothing went wrong.
    pub violations: Vec<String>,
    /// How often each named state was reached.
    pub reached: Counts,
    /// How much was done.
    pub figures: WalFigures,
}

/// How much was done in a run, or in several.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct WalFigures {
    /// Starts that found what they had to find.
    pub starts: u64,
    /// Batches that were accepted.
    pub batches: u64,
    /// Batches that were refused for want of space.
    pub refused: u64,
    /// Floors that were raised.
    pub floors: u64,
    /// Segments that were given back.
    pub released: u64,
    /// Reads that were compared.
    pub reads: u64,
    /// Failures of a WAL or of a start that a fault explains.
    pub failures: u64,
    /// Runs that end with damage found.
    pub damaged: u64,
}

impl WalFigures {
    /// Adds the figures of another run.
    pub fn add(&mut self, other: &Self) {
        self.starts += other.starts;
        self.batches += other.batches;
        self.refused += other.refused;
        self.floors += other.floors;
        self.released += other.released;
        self.reads += other.reads;
        self.failures += other.failures;
        self.damaged += other.damaged;
    }
}

/// Runs one WAL through the starts and faults that follow from `seed`.
pub fn run(seed: u64) -> WalReport {
    let recorder = Recorder::install();
    let chance = Random::new(seed, "wal");
    let options = WorldOptions { nodes: 1, ..WorldOptions::draw(&chance) };
    let driver = Driver::new(World::new(seed, options), chance);
    let (violations, figures) = driver.run();
    WalReport { violations, reached: recorder.counts(), figures }
}
