//! The sync ladder: how often, and how fast, a disk makes a write durable.
//!
//! Each cell overwrites preallocated files without the page cache (`O_DIRECT`), as the log of a shard does.
//! A writer has a file of its own, and stands for a node. The depth of a writer is made with threads, each of
//! which has one write under way. So a cell pays for one more switch of threads than a ring would.
//!
//! The files have no names: they are unlinked as soon as they are open. So nothing stays behind, however the
//! process ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use hdrhistogram::Histogram;
use rustix::fs::{OFlags, fdatasync};
use serde::{Deserialize, Serialize};

use super::sample::{Bounds, micros, thread_cpu_micros, timed, times};

/// Bytes of each file.
pub const FILE_BYTES: u64 = 16 << 20;
/// How many files there are: one for each writer.
pub const FILES: usize = 3;
/// Bytes of a write.
pub const SIZES: [usize; 5] = [512, 4 << 10, 16 << 10, 64 << 10, 256 << 10];
/// Writes that a writer has under way.
pub const DEPTHS: [usize; 3] = [1, 2, 4];
/// Writers at once.
pub const WRITERS: [usize; 2] = [1, FILES];

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durable {
    /// By itself: the file is open with `O_DSYNC`.
    Dsync,
    /// By an `fdatasync` behind it.
    Fdatasync,
}

/// What is measured in one cell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskLoad {
    /// How a write becomes durable.
    pub durable: Durable,
    /// Bytes of a write.
    pub bytes: usize,
    /// Writes that each writer has under way.
    pub depth: usize,
    /// Writers at once, each with its own file.
    pub writers: usize,
}

/// One cell of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskCell {
    /// What was measured.
    #[serde(flatten)]
    pub load: DiskLoad,
    /// Durable writes a second, of all writers together.
    pub writes_per_second: f64,
    /// Half of the writes took no longer, in microseconds.
    pub p50_micros: f64,
    /// 99 of 100 writes took no longer, in microseconds.
    pub p99_micros: f64,
    /// Processor time of a write, in microseconds.
    pub cpu_micros: f64,
}

/// All cells, in the order of the table.
pub fn loads() -> impl Iterator<Item = DiskLoad> {
    let ways = [Durable::Dsync, Durable::Fdatasync];
    let writers = ways.into_iter().flat_map(|way| WRITERS.map(|writers| (way, writers)));
    let sizes = writers.flat_map(|all| SIZES.map(|bytes| (all, bytes)));
    sizes.flat_map(|((durable, writers), bytes)| {
        DEPTHS.map(|depth| DiskLoad { durable, bytes, depth, writers })
    })
}

/// The files of all writers.
pub struct Files {
    each: Vec<Pair>,
    /// Whether writes pass by the page cache. Some file systems do not have it.
    pub is_direct: bool,
}

/// One file, open twice.
struct Pair {
    dsync: File,
    plain: File,
}

impl Files {
    /// Makes the files in an existing directory, full of zeros.
    ///
    /// # Errors
    /// When the directory does not exist, or has no room.
    pub fn create(dir: &Path) -> io::Result<Self> {
        match Self::open(dir, OFlags::DIRECT) {
            Err(error) if error.raw_os_error() == Some(EINVAL) => Self::open(dir, OFlags::empty()),
            other => other,
        }
    }

    fn open(dir: &Path, flags: OFlags) -> io::Result<Self> {
        let each = (0..FILES).map(|number| Pair::create(dir, number, flags));
        Ok(Self { each: each.collect::<io::Result<_>>()?, is_direct: !flags.is_empty() })
    }

    /// Measures one cell. `None` if the disk takes no writes of this size.
    ///
    /// # Errors
    /// When a write or a sync fails.
    pub fn measure(&self, load: DiskLoad, bounds: Bounds<'_>) -> io::Result<Option<DiskCell>> {
        let threads = load.writers * load.depth;
        let start = Barrier::new(threads);
        let results: Vec<io::Result<Written>> = thread::scope(|scope| {
            let spawned: Vec<_> = (0..threads)
                .map(|number| {
                    let (file, lane) = (&self.each[number / load.depth], number % load.depth);
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        file.write(load, lane, bounds)
                    })
                })
                .collect();
            let joined = spawned.into_iter().map(|thread| thread.join());
            joined.map(|result| result.expect("a thread of a cell does not panic")).collect()
        });
        let mut all = Written { times: times(), per_second: 0.0, cpu_micros: 0.0 };
        for result in results {
            match result {
                Err(error) if error.raw_os_error() == Some(EINVAL) => return Ok(None),
                Err(error) => return Err(error),
                Ok(part) => all.add(&part),
            }
        }
        Ok(Some(DiskCell {
            load,
            writes_per_second: all.per_second,
            p50_micros: micros(&all.times, 0.5),
            p99_micros: micros(&all.times, 0.99),
            cpu_micros: all.cpu_micros / all.times.len().max(1) as f64,
        }))
    }
}

/// What the kernel says of a write that is smaller than a block of the disk.
const EINVAL: i32 = rustix::io::Errno::INVAL.raw_os_error();

/// What a thread, or all of them, wrote.
struct Written {
    times: Histogram<u64>,
    per_second: f64,
    cpu_micros: f64,
}

impl Written {
    fn add(&mut self, other: &Self) {
        self.times.add(&other.times).expect("all have the same bounds");
        self.per_second += other.per_second;
        self.cpu_micros += other.cpu_micros;
    }
}

impl Pair {
    fn create(dir: &Path, number: usize, flags: OFlags) -> io::Result<Self> {
        let path = dir.join(format!("purlin-bench-limits.{}.{number}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        // From here on the name is ours to remove.
        let opened = open(&path, flags | OFlags::DSYNC)
            .and_then(|dsync| Ok(Self { dsync, plain: open(&path, flags)? }));
        let removed = fs::remove_file(&path);
        let pair = opened?;
        removed?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..FILE_BYTES >> 20 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(pair)
    }

    /// Writes one after the other, at least one. Each lane has its own part of the file, and begins again at
    /// its start.
    fn write(&self, load: DiskLoad, lane: usize, bounds: Bounds<'_>) -> io::Result<Written> {
        let memory = vec![0x5a; load.bytes + ALIGNMENT];
        let block = &memory[memory.as_ptr().align_offset(ALIGNMENT)..][..load.bytes];
        let part = FILE_BYTES / load.depth as u64;
        let (start, mut at) = (part * lane as u64, 0);
        let mut times = times();
        let cpu_before = thread_cpu_micros();
        let window = bounds.open();
        while times.is_empty() || window.is_open() {
            timed(&mut times, || match load.durable {
                Durable::Dsync => self.dsync.write_all_at(block, start + at),
                Durable::Fdatasync => {
                    self.plain.write_all_at(block, start + at)?;
                    Ok(fdatasync(&self.plain)?)
                }
            })?;
            at = (at + load.bytes as u64) % part;
        }
        let per_second = times.len() as f64 / window.seconds();
        Ok(Written { times, per_second, cpu_micros: thread_cpu_micros() - cpu_before })
    }
}

/// Where memory for direct writes may begin.
const ALIGNMENT: usize = 4096;

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_has_sixty_cells_and_no_cell_twice() {
        let all: Vec<_> = loads().collect();
        assert_eq!(all.len(), 2 * SIZES.len() * DEPTHS.len() * WRITERS.len());
        assert_eq!(all.len(), 60);
        assert!(all.iter().enumerate().all(|(at, load)| !all[..at].contains(load)));
    }

    #[test]
    fn the_files_take_48_mib_and_hold_the_largest_writes_side_by_side() {
        assert_eq!(FILES as u64 * FILE_BYTES, 48 << 20);
        for load in loads() {
            assert!((load.depth * load.bytes) as u64 <= FILE_BYTES && load.writers <= FILES);
            assert_eq!(FILE_BYTES / load.depth as u64 % load.bytes as u64, 0, "{load:?}");
        }
    }
}
