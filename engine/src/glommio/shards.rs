//! A thread and an executor for each shard.
//!
//! A shard gets a core of its own where the process may use as many cores as it has shards and no other
//! node has them; otherwise none does, and the kernel shares the cores among them. A shard that panics ends alone; its end is
//! reported, and what to do about it is the host's to decide.

use super::{
    Glommio, Panic,
    cores::{CLAIM, Cores, Pinning},
    timers::Timers,
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
    rc::Rc,
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
/// The shards begin together. An error means that a thread could not be started: then no future has begun, and the
/// threads before it have ended.
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
    let runs = starts.into_iter().enumerate().map(|(shard, start)| {
        let placement = match &cores {
            Ok(cores) => Placement::Fixed(cores.of(shard)),
            Err(_) => Placement::Unbound,
        };
        let (data_dir, sender) = (data_dir.clone(), sender.clone());
        move || {
            let end = run_shard(placement, io_memory, data_dir, start);
            // A host that no longer asks does not care.
            sender.send((ShardId(shard as u16), end)).ok();
        }
    });
    let spawn = |shard, run: Run| thread::Builder::new().name(format!("shard-{shard}")).spawn(run);
    let threads = begin_together(runs.collect(), spawn)?;
    Ok(ShardThreads { cores, ends, threads })
}

/// What a thread runs.
type Run = Box<dyn FnOnce() + Send>;

/// Spawns a thread for each of `runs` by `spawn`. They begin when all threads are there. If one of them cannot be
/// started, none begins, and the threads before it have ended when this returns.
fn begin_together<F: FnOnce() + Send + 'static>(
    runs: Vec<F>,
    mut spawn: impl FnMut(usize, Run) -> io::Result<JoinHandle<()>>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let (mut threads, mut begins) = (Vec::new(), Vec::new());
    for (number, run) in runs.into_iter().enumerate() {
        let (begin, begun) = mpsc::channel::<()>();
        let when_all_are_there = move || {
            if begun.recv().is_ok() {
                run();
            }
        };
        match spawn(number, Box::new(when_all_are_there)) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                drop(begins);
                threads.into_iter().for_each(|thread| thread.join().expect("it has done nothing"));
                return Err(error);
            }
        }
        begins.push(begin);
    }
    // A thread waits for it, so it is there.
    begins.iter().for_each(|begin| begin.send(()).expect("the thread waits"));
    Ok(threads)
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
        // Before the executor binds this thread to its core: the thread of the timers must not have to wait for it.
        let timers = Timers::start()?;
        let executor = make_executor(placement, io_memory)?;
        executor.run(run_to_end(data_dir, timers, start))
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
    let ended = own.or(async move { Err(spawned.panicked().await) });
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

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    /// How many of four ran, and how many threads still hold something, when the spawn of thread `refused` fails.
    fn begin(refused: usize) -> (bool, usize, usize) {
        let ran = Arc::new(AtomicUsize::new(0));
        let run = |_| {
            let ran = ran.clone();
            move || _ = ran.fetch_add(1, Ordering::SeqCst)
        };
        let spawn = |number: usize, run: Run| match number == refused {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => thread::Builder::new().spawn(run),
        };
        let begun = begin_together((0..4).map(run).collect(), spawn);
        let is_ok = begun.is_ok();
        begun.into_iter().flatten().for_each(|thread| thread.join().expect("it ends"));
        (is_ok, ran.load(Ordering::SeqCst), Arc::strong_count(&ran) - 1)
    }

    #[test]
    fn shards_begin_together_or_not_at_all() {
        assert_eq!(begin(9), (true, 4, 0));
        assert_eq!([0, 2, 3].map(begin), [(false, 0, 0); 3], "none has begun, and all have ended");
    }
}
