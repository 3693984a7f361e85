//! The other production runtime: each shard on an executor of ours, over one io_uring that it has for itself.
//!
//! [`crate::glommio`] has three rings for each executor, and asks them apart. Here everything that a shard asks for
//! between two sleeps goes to the kernel in one system call, with its sleep. docs/bench.md compares the two.
//!
//! ```text
//! executor   the tasks of a shard; those that other threads wake
//!   └─ reactor   one io_uring: operations, their completions, timers
//!        ├─ disk   files by direct I/O
//!        └─ net    TCP
//! ```
#![expect(
    clippy::disallowed_methods,
    reason = "this is the clock, the threads and the random source that the seams stand for"
)]

mod disk;
mod executor;
mod net;
mod reactor;

pub use disk::{RingBlock, RingDirectory, RingFile};
pub use net::{RingAcceptor, RingReader, RingTcp, RingWriter};
pub(crate) use reactor::Sleep;

use self::{executor::Executor, reactor::Reactor};
use crate::{
    Runtime,
    os::{ClientFiles, Panic, ShardMesh, SharedPort},
};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::{
    future::Future,
    io,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

/// What a shard runs on. It belongs to the executor that made it.
#[derive(Clone)]
pub struct Ring {
    reactor: Rc<Reactor>,
    executor: Rc<Executor>,
    directory: RingDirectory,
    net: RingTcp,
    start: Instant,
}

impl Ring {
    /// The listener of this executor at a port, for clients that may have the descriptors `files`.
    pub fn listener(&self, port: SharedPort, files: ClientFiles) -> RingAcceptor {
        self.net.listener(port, files)
    }
}

impl Ring {
    /// [`Runtime::sleep`], by its name.
    pub(crate) fn sleep_for(&self, duration: Duration) -> Sleep {
        self.reactor.sleep(duration)
    }
}

impl Runtime for Ring {
    type Disk = RingDirectory;
    type Net = RingTcp;
    type Mesh<T: Send + 'static> = ShardMesh<T>;

    fn disk(&self) -> RingDirectory {
        self.directory.clone()
    }

    fn net(&self) -> RingTcp {
        self.net.clone()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.sleep_for(duration)
    }

    async fn yield_now(&self) {
        self.reactor.next_turn().await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.executor.spawn(task);
    }

    fn random(&self) -> u64 {
        crate::os::random()
    }
}

/// Runs one future to its end on this thread, on an executor of its own over the directory `data_dir`, and drops the
/// tasks that it leaves behind. The thread is bound to the core `core`, and looks for something to do for the time `spin`
/// before it sleeps there.
///
/// # Errors
/// The kernel refuses the ring, or the core.
pub(crate) fn run_here<S, F, T>(
    core: Option<usize>,
    spin: Duration,
    data_dir: PathBuf,
    start: S,
) -> io::Result<Result<T, Panic>>
where
    S: FnOnce(Ring) -> F + 'static,
    F: Future<Output = T> + 'static,
    T: 'static,
{
    if let Some(core) = core {
        let mut cores = CpuSet::new();
        cores.set(core);
        sched_setaffinity(None, &cores)?;
    }
    let reactor = Reactor::new()?;
    // On a core that others use too, it would take their time.
    let spin = core.map_or(Duration::ZERO, |_| spin);
    let executor = Executor::new(reactor.clone(), spin)?;
    let (directory, net) =
        (RingDirectory::new(reactor.clone(), data_dir), RingTcp::new(reactor.clone()));
    let began = Instant::now();
    let ring = Ring { reactor, executor: executor.clone(), directory, net, start: began };
    Ok(executor.run(async move { start(ring).await }))
}

/// Whether the kernel has what a ring needs.
///
/// # Errors
/// It refuses the ring.
pub(crate) fn check() -> io::Result<()> {
    Reactor::new().map(drop)
}
