//! Asks the machine, before any shard starts, for what an executor needs: glommio itself panics, or
//! goes on without, where this gives an error with the way out of it.

use super::{OsFile, OsRuntime, RuntimeKind, explain_access, is_full, run_once};
use crate::{Disk, Durability, File, Runtime, ring};
use purlin_rsm::Trouble;
use purlin_storage::remedy;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    io_uring::{io_uring_params, io_uring_setup},
    process::{Resource, getrlimit},
};
use std::{io, path::Path, time::Duration};

/// An executor refuses to start with a lower limit on locked memory than this, in bytes.
const LOCKED_MEMORY_MIN: u64 = 512 << 10;
/// Each executor registers its memory with this many rings, each of which counts it.
const RINGS: u64 = 3;
/// The sync probe takes this many writes of each kind, unless all together take longer than this time.
const PROBE_WRITES: u64 = 30;
const PROBE_TIME: Duration = Duration::from_millis(90);
const PROBE_BLOCK: usize = 4096;

/// Whether executors can start here and write to `data_dir`, an existing directory.
pub fn check(kind: RuntimeKind, data_dir: &Path) -> Result<(), Trouble> {
    match kind {
        RuntimeKind::Glommio => {
            check_io_uring()?;
            check_locked_memory()?;
        }
        RuntimeKind::Ring => {
            check_io_uring()?;
            check_ring()?;
        }
    }
    check_direct_io(data_dir)
}

fn check_io_uring() -> Result<(), Trouble> {
    let mut params = io_uring_params::default();
    // SAFETY: plain parameters without pointers; the new descriptor is closed by its drop.
    let ring = unsafe { io_uring_setup(8, &mut params) };
    let Err(error) = ring else { return Ok(()) };
    let action = match error {
        Errno::NOSYS => "use Linux 5.15 or newer, with io_uring built in",
        Errno::PERM | Errno::ACCESS => {
            "allow io_uring: sysctl kernel.io_uring_disabled=0; in a container also a seccomp profile \
             that permits io_uring_setup, io_uring_enter and io_uring_register"
        }
        _ => "raise the limit on locked memory (ulimit -l unlimited) or on open files",
    };
    let what = format!("the kernel refuses io_uring: {}", io::Error::from(error));
    Err(Trouble::new(what, "the system call io_uring_setup", MEANS, action))
}

fn check_ring() -> Result<(), Trouble> {
    ring::check().map_err(|error| {
        let what = format!("the kernel refuses the ring of a shard: {error}");
        let action = "use Linux 6.1 or newer, or set `runtime.kind` to \"glommio\"";
        Trouble::new(what, "the system call io_uring_setup", MEANS, action)
    })
}

fn check_locked_memory() -> Result<(), Trouble> {
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < LOCKED_MEMORY_MIN => Err(Trouble::new(
            format!(
                "the limit on locked memory is {} KiB, and a shard needs {} KiB",
                limit >> 10,
                LOCKED_MEMORY_MIN >> 10
            ),
            "the resource limits of this process (RLIMIT_MEMLOCK)",
            MEANS,
            "raise it: ulimit -l unlimited; systemd: LimitMEMLOCK=infinity; docker: --ulimit \
             memlock=-1",
        )),
        _ => Ok(()),
    }
}

const MEANS: &str = "no shard can start; no data was read or changed";

fn check_direct_io(data_dir: &Path) -> Result<(), Trouble> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    // On a file system in memory there is no direct I/O, and nothing to bypass.
    let refused = match rustix::fs::open(data_dir, flags | OFlags::DIRECT, mode) {
        Ok(_) => return Ok(()),
        Err(Errno::INVAL) if is_in_memory(data_dir) => return Ok(()),
        // A node starts on a full disk too.
        Err(Errno::NOSPC | Errno::DQUOT) => return Ok(()),
        Err(error) => error,
    };
    let (what, action) = match refused {
        Errno::INVAL | Errno::OPNOTSUPP => (
            "the file system has no direct I/O, or no files without a name (O_DIRECT, O_TMPFILE)"
                .into(),
            "use a data directory on ext4 or xfs, on a local disk",
        ),
        Errno::NOENT => (
            "the data directory does not exist".into(),
            "make it with `purlin init`, or correct its path",
        ),
        error => {
            let error = explain_access(data_dir, error.into());
            (format!("the data directory cannot be written: {error}"), remedy(&error))
        }
    };
    Err(Trouble::new(what, data_dir.display().to_string(), MEANS, action))
}

fn is_in_memory(path: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == TMPFS)
}

/// What `shards` shards with `io_memory` bytes each want to lock, and how much they may, in bytes, if
/// that is less: then they work without registered buffers, and slower. Without privileges the limit
/// covers all processes of the user together.
pub fn locked_memory(shards: u16, io_memory: usize) -> Option<(u64, u64)> {
    let wanted = u64::from(shards) * io_memory as u64 * RINGS;
    let limit = getrlimit(Resource::Memlock).current?;
    (limit < wanted).then_some((wanted, limit))
}

/// Which durability the disk of the existing directory `data_dir` does faster, by trying both for
/// about 100 ms. `None` on a full disk, where nothing can be tried.
///
/// The two take turns, write by write: whatever else the disk does meanwhile, such as the start of other nodes, slows
/// both down.
///
/// About equal means [`Durability::EachWrite`]: under load it costs the processor a fifth less per
/// write, since a sync is a second operation on a thread of the kernel (docs/bench.md). Where the
/// cores are kept busy by others, so that the kernel's thread behind such a write waits for its turn,
/// [`Durability::OnSync`] shows to be clearly faster here too.
pub fn faster_durability(kind: RuntimeKind, data_dir: &Path) -> io::Result<Option<Durability>> {
    let measured = run_once(kind, data_dir.to_owned(), |runtime| async move {
        let mut each = Probe::new(&runtime, Durability::EachWrite).await?;
        let mut on_sync = match Probe::new(&runtime, Durability::OnSync).await {
            Ok(on_sync) => on_sync,
            Err(error) => {
                each.end(&runtime).await?;
                return Err(error);
            }
        };
        let written = take_turns(&runtime, &mut each, &mut on_sync).await;
        let (each, on_sync) = (each.end(&runtime).await, on_sync.end(&runtime).await);
        written?;
        let (each, on_sync) = (each?, on_sync?);
        let is_clear = on_sync < each.mul_f64(0.8);
        Ok(if is_clear { Durability::OnSync } else { Durability::EachWrite })
    })?;
    match measured {
        Err(error) if is_full(&error) => Ok(None),
        measured => measured.map(Some),
    }
}

async fn take_turns(runtime: &OsRuntime, one: &mut Probe, other: &mut Probe) -> io::Result<()> {
    let start = runtime.now();
    for number in 0..PROBE_WRITES {
        one.write(runtime, number).await?;
        other.write(runtime, number).await?;
        if runtime.now() - start > PROBE_TIME {
            break;
        }
    }
    Ok(())
}

/// A file of its own, and how long each write took until it was durable.
struct Probe {
    name: String,
    file: OsFile,
    durability: Durability,
    times: Vec<Duration>,
}

impl Probe {
    async fn new(runtime: &OsRuntime, durability: Durability) -> io::Result<Self> {
        let name = format!("sync-probe-{:016x}", runtime.random());
        let bytes = PROBE_WRITES * PROBE_BLOCK as u64;
        let file = runtime.disk().create(&name, bytes, durability).await?;
        Ok(Self { name, file, durability, times: Vec::new() })
    }

    async fn write(&mut self, runtime: &OsRuntime, number: u64) -> io::Result<()> {
        let begin = runtime.now();
        let mut block = self.file.block(PROBE_BLOCK);
        block.as_mut().fill(0);
        self.file.write_at(block, number * PROBE_BLOCK as u64).await?;
        if self.durability == Durability::OnSync {
            self.file.sync().await?;
        }
        self.times.push(runtime.now() - begin);
        Ok(())
    }

    /// Removes the file. Returns the median time of a write.
    async fn end(mut self, runtime: &OsRuntime) -> io::Result<Duration> {
        let closed = self.file.close().await;
        runtime.disk().remove(&self.name).await?;
        closed?;
        self.times.sort();
        Ok(self.times.get(self.times.len() / 2).copied().unwrap_or_default())
    }
}
