//! A thread and an executor for each shard.
//!
//! A shard gets a core of its own where the process may use as many cores as it has shards and no other
//! node has them; otherwise none does, and the kernel shares the cores among them. A shard that panics ends alone; its end is
//! reported, and what to do about it is the host's to decide.

use super::{
    Glommio, Panic,
    cores::{CLAIM, Cores, Pinning},
    waking::WakeQueue,
};
use crate::ShardId;
use ::glommio::{
    Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares, Task, TaskQueueHandle,
    executor, timer,
};
use futures_lite::FutureExt;
use std::{
    any::Any,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::mpsc::{self, Receiver},
    thread::{self, JoinHandle},
    time::Duration,
};

/// The first timer of an executor is tens of milliseconds late: this one, before anybody waits.
const WARM_UP: Duration = Duration::from_millis(1);
/// Operations that fit into one submission to the kernel.
const RING_DEPTH: usize = 512;
/// Registered memory of an executor that runs one short job.
const SMALL_IO_MEMORY: usize = 1 << 20;

/// Starts a thread with an executor for each of `starts`, which are shards 0, 1 and so on, and runs
/// its future there, over the data directory `data_dir`. A shard ends with its future: tasks that it
/// leaves behind are dropped.
///
/// With `pin`, each gets a core of its own if there are enough. Each registers `io_memory` bytes with
/// the kernel, where the limit on locked memory allows it; otherwise it works without.
///
/// An error means that a thread could not be started; the shards before it run on and are lost, so
/// the process should end.
pub fn run_shards<S, F, T>(
    data_dir: PathBuf,
    pin: bool,
    io_memory: usize,
    starts: Vec<S>,
) -> io::Result<ShardThreads<T>>
where
    S: FnOnce(Glommio) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let cores = if pin { Cores::claim(CLAIM, starts.len())? } else { Err(Pinning::NotAsked) };
    let (sender, ends) = mpsc::channel();
    let mut threads = Vec::new();
    for (shard, start) in starts.into_iter().enumerate() {
        let placement = match &cores {
            Ok(cores) => Placement::Fixed(cores.of(shard)),
            Err(_) => Placement::Unbound,
        };
        let (data_dir, sender) = (data_dir.clone(), sender.clone());
        let run = move || {
            let end = run_shard(placement, io_memory, data_dir, start);
            // A host that no longer asks does not care.
            sender.send((ShardId(shard as u16), end)).ok();
        };
        threads.push(thread::Builder::new().name(format!("shard-{shard}")).spawn(run)?);
    }
    Ok(ShardThreads { cores, ends, threads })
}

/// Runs one future to its end on an executor of its own, over the directory `data_dir`: for `init` and
/// probes. The caller's thread waits.
pub fn run_once<S, F, T>(data_dir: PathBuf, start: S) -> io::Result<T>
where
    S: FnOnce(Glommio) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let shards = run_shards(data_dir, false, SMALL_IO_MEMORY, vec![start])?;
    match shards.next_end() {
        Some((_, ShardEnd::Finished(output))) => Ok(output),
        Some((_, ShardEnd::Refused(error))) => Err(error),
        Some((_, ShardEnd::Panicked(text))) => panic!("{text}"),
        None => unreachable!("a shard reports its end"),
    }
}

/// The threads of a node's shards.
pub struct ShardThreads<T> {
    /// The claims end with the threads.
    cores: Result<Cores, Pinning>,
    ends: Receiver<(ShardId, ShardEnd<T>)>,
    threads: Vec<JoinHandle<()>>,
}

/// How a shard ended.
#[derive(Debug)]
pub enum ShardEnd<T> {
    /// Its future did, with this.
    Finished(T),
    /// A task of it panicked, with this message.
    Panicked(String),
    /// Its executor could not start.
    Refused(io::Error),
}

impl<T> ShardThreads<T> {
    /// Whether each shard has a core of its own, or why not.
    pub fn pinning(&self) -> Pinning {
        self.cores.as_ref().err().copied().unwrap_or(Pinning::Pinned)
    }

    /// Waits until the next shard has ended; `None` once all have.
    pub fn next_end(&self) -> Option<(ShardId, ShardEnd<T>)> {
        self.ends.recv().ok()
    }

    /// Waits until all shards have ended, and gives the ends that nobody has asked for.
    pub fn join(self) -> Vec<(ShardId, ShardEnd<T>)> {
        let ends = self.ends.iter().collect();
        for thread in self.threads {
            thread.join().expect("panics of a shard are caught in its thread");
        }
        ends
    }
}

fn run_shard<S, F, T>(
    placement: Placement,
    io_memory: usize,
    data_dir: PathBuf,
    start: S,
) -> ShardEnd<T>
where
    S: FnOnce(Glommio) -> F + 'static,
    F: Future<Output = T> + 'static,
    T: 'static,
{
    let run = AssertUnwindSafe(|| {
        let executor = make_executor(placement, io_memory)?;
        executor.run(run_to_end(data_dir, start))
    });
    match catch_unwind(run) {
        Ok(Ok(Ok(output))) => ShardEnd::Finished(output),
        Ok(Ok(Err(panic))) => ShardEnd::Panicked(text_of(&*panic)),
        Ok(Err(error)) => ShardEnd::Refused(error),
        Err(panic) => ShardEnd::Panicked(text_of(&*panic)),
    }
}

fn make_executor(placement: Placement, io_memory: usize) -> io::Result<LocalExecutor> {
    LocalExecutorBuilder::new(placement)
        .io_memory(io_memory)
        .ring_depth(RING_DEPTH)
        .make()
        .map_err(super::disk::io_error)
}

/// Runs the future that `start` makes, or until it or a task panics, and then ends all tasks on the
/// executor, which alone can drop them.
async fn run_to_end<S, F, T>(data_dir: PathBuf, start: S) -> io::Result<Result<T, Panic>>
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
    let runtime = Glommio::new(data_dir, wakes.clone());
    let tasks = runtime.tasks.clone();
    let own = AssertUnwindSafe(async { start(runtime).await }).catch_unwind();
    let spawned = tasks.clone();
    let ended = own.or(async move { Err(spawned.panicked().await) });
    let ended = spawn_into(wakes.clone().wakeable(ended), queue).await;
    tasks.cancel().await;
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

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}
