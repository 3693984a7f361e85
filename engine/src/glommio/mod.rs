//! A production runtime: each shard on an executor of the library glommio, over io_uring. The default.
//!
//! Nothing else in the workspace names that library, so that another one can take its place; [`crate::ring`] does.
//!
//! ```text
//! Glommio     what a shard runs on
//!   ├─ disk     a directory: aligned direct I/O
//!   ├─ net      TCP
//!   ├─ timers   sleeps, beside the rings
//!   └─ waking   wakes by other threads
//! ```
#![expect(
    clippy::disallowed_methods,
    reason = "this is the clock, the threads and the random source that the seams stand for"
)]

mod disk;
mod net;
mod shard;
mod timers;
mod waking;

pub use disk::{Aligned, DirectFile, Directory};
pub use net::{Tcp, TcpAcceptor, TcpReader, TcpWriter};
pub(crate) use shard::run_here;
pub(crate) use timers::Sleep;

use self::{timers::Timers, waking::WakeQueue};
use crate::{
    Runtime,
    os::{Panics, ShardMesh},
};
use ::glommio::{Task, executor, timer};
use futures_lite::FutureExt;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    path::PathBuf,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// What a shard runs on. It belongs to the executor that made it.
#[derive(Clone)]
pub struct Glommio {
    directory: Directory,
    net: Tcp,
    tasks: Rc<Tasks>,
    timers: Rc<Timers>,
    start: Instant,
}

impl Glommio {
    /// The runtime of the present executor, over the data directory `path`, which need not exist yet. `wakes`
    /// holds the executor's woken tasks, and `timers` those that sleep.
    fn new(path: PathBuf, wakes: Arc<WakeQueue>, timers: Rc<Timers>) -> Self {
        let tasks = Rc::new(Tasks::new(wakes));
        let (directory, net) = (Directory::new(path), Tcp::new());
        Self { directory, net, tasks, timers, start: Instant::now() }
    }
}

impl Glommio {
    /// [`Runtime::sleep`], by its name.
    pub(crate) fn sleep_for(&self, duration: Duration) -> Sleep {
        self.timers.sleep(duration)
    }
}

impl Runtime for Glommio {
    type Disk = Directory;
    type Net = Tcp;
    type Mesh<T: Send + 'static> = ShardMesh<T>;

    fn disk(&self) -> Directory {
        self.directory.clone()
    }

    fn net(&self) -> Tcp {
        self.net.clone()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.sleep_for(duration)
    }

    /// glommio polls its rings when no task can run, or every 100 ms. So a plain yield of a task that is always
    /// ready lets no I/O complete for so long. A task that waits for a timer cannot run until the rings are polled.
    async fn yield_now(&self) {
        let mut has_waited = false;
        for micros in 1.. {
            let mut timer = pin!(timer::sleep(Duration::from_micros(micros)));
            poll_fn(|cx| {
                let polled = timer.as_mut().poll(cx);
                has_waited |= polled.is_pending();
                polled
            })
            .await;
            // A timer that has run out when it is first polled lets nobody run.
            if has_waited {
                return;
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn(task);
    }

    fn random(&self) -> u64 {
        crate::os::random()
    }
}

/// The tasks of one executor, so that they end with it: a task that an executor leaves behind is
/// never dropped, and its files stay open and locked.
struct Tasks {
    wakes: Arc<WakeQueue>,
    running: RefCell<BTreeMap<u64, Task<()>>>,
    spawned: Cell<u64>,
    panics: Panics,
}

impl Tasks {
    fn new(wakes: Arc<WakeQueue>) -> Self {
        Self {
            wakes,
            running: RefCell::default(),
            spawned: Cell::default(),
            panics: Panics::default(),
        }
    }

    /// Queues a task. Never polls it here: glommio's own `spawn_local` does, inside its caller, who
    /// may hold a borrow that the task wants.
    fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let (id, tasks) = (self.spawned.get(), Rc::downgrade(self));
        self.spawned.set(id + 1);
        let task = self.wakes.clone().wakeable(task);
        let task = async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            if let Some(tasks) = tasks.upgrade() {
                tasks.panics.note(ended);
                let own = tasks.running.borrow_mut().remove(&id);
                own.map(Task::detach);
            }
        };
        let queue = executor().current_task_queue();
        let task = ::glommio::spawn_local_into(task, queue).expect("the queue runs right now");
        self.running.borrow_mut().insert(id, task);
    }

    /// Drops all tasks, and those that they spawn while being dropped.
    async fn cancel(&self) {
        while let Some((_, task)) = self.pop() {
            task.cancel().await;
        }
    }

    fn pop(&self) -> Option<(u64, Task<()>)> {
        self.running.borrow_mut().pop_first()
    }
}
