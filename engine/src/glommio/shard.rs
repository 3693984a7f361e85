//! The executor of one shard.

use super::{Glommio, timers::Timers, waking::WakeQueue};
use crate::os::Panic;
use ::glommio::{
    Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares, Task, TaskQueueHandle,
    executor, timer,
};
use futures_lite::FutureExt;
use std::{future::Future, io, panic::AssertUnwindSafe, path::PathBuf, rc::Rc, time::Duration};

/// The first timer of an executor is tens of milliseconds late: this one, before anybody waits.
const WARM_UP: Duration = Duration::from_millis(1);
/// Operations that fit into one submission to the kernel.
const RING_DEPTH: usize = 512;

/// Runs one future to its end on this thread, on an executor of its own over the directory `data_dir`, and drops the
/// tasks that it leaves behind. The executor is bound to the core `core`.
///
/// # Errors
/// The executor could not start.
pub(crate) fn run_here<S, F, T>(
    core: Option<usize>,
    io_memory: usize,
    data_dir: PathBuf,
    start: S,
) -> io::Result<Result<T, Panic>>
where
    S: FnOnce(Glommio) -> F + 'static,
    F: Future<Output = T> + 'static,
    T: 'static,
{
    // Before the executor binds this thread to its core: the thread of the timers must not have to wait for it.
    let timers = Timers::start()?;
    let executor = make_executor(core, io_memory)?;
    executor.run(run_to_end(data_dir, timers, start))
}

fn make_executor(core: Option<usize>, io_memory: usize) -> io::Result<LocalExecutor> {
    LocalExecutorBuilder::new(core.map_or(Placement::Unbound, Placement::Fixed))
        .io_memory(io_memory)
        .ring_depth(RING_DEPTH)
        .make()
        .map_err(super::disk::io_error)
}

/// Runs the future that `start` makes, or until it or a task panics, and then ends all tasks on the
/// executor, which alone can drop them.
async fn run_to_end<S, F, T>(
    data_dir: PathBuf,
    timers: Rc<Timers>,
    start: S,
) -> io::Result<Result<T, Panic>>
where
    S: FnOnce(Glommio) -> F + 'static,
    F: Future<Output = T> + 'static,
    T: 'static,
{
    timer::sleep(WARM_UP).await;
    // Latency would matter, but asking for it only brings more of the preemptions that `waking` is
    // about. Completions are collected whenever no task can run.
    let queue = executor().create_task_queue(Shares::default(), Latency::NotImportant, "shard");
    let (wakes, signals) = WakeQueue::open()?;
    let waking = spawn_into(wakes.clone().run(signals), queue);
    let ringing = spawn_into(wakes.clone().wakeable(timers.clone().run()), queue);
    let runtime = Glommio::new(data_dir, wakes.clone(), timers);
    let tasks = runtime.tasks.clone();
    let own = AssertUnwindSafe(async { start(runtime).await }).catch_unwind();
    let spawned = tasks.clone();
    let ended = own.or(async move { Err(spawned.panics.first().await) });
    let ended = spawn_into(wakes.clone().wakeable(ended), queue).await;
    tasks.cancel().await;
    ringing.cancel().await;
    waking.cancel().await;
    wakes.close();
    // One more turn, in which what the tasks dropped is closed.
    timer::sleep(WARM_UP).await;
    Ok(ended)
}

fn spawn_into<T: 'static>(
    task: impl Future<Output = T> + 'static,
    queue: TaskQueueHandle,
) -> Task<T> {
    ::glommio::spawn_local_into(task, queue).expect("the queue is there as long as its executor")
}
