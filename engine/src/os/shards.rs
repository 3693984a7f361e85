//! A thread and an executor for each shard.
//!
//! A shard gets a core of its own where the process may use as many cores as it has shards and no other
//! node has them; otherwise none does, and the kernel shares the cores among them. A shard that panics ends alone; its end is
//! reported, and what to do about it is the host's to decide.

use super::{
    OsRuntime, RuntimeKind,
    cores::{CLAIM, Cores, Pinning},
};
use crate::ShardId;
use crate::glommio::run_here as run_on_glommio;
use crate::ring::run_here as run_on_ring;
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

/// Registered memory of an executor that runs one short job.
const SMALL_IO_MEMORY: usize = 1 << 20;

/// What the threads of shards run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadOptions {
    /// The runtime.
    pub kind: RuntimeKind,
    /// Whether each gets a core of its own, if there are enough.
    pub pin: bool,
    /// So many bytes each registers with the kernel, where the limit on locked memory allows it; otherwise it works
    /// without. For [`RuntimeKind::Glommio`] alone.
    pub io_memory: usize,
    /// So long a thread looks for something to do before it sleeps: for [`RuntimeKind::Ring`], on a core of its own.
    pub spin: Duration,
}

impl ThreadOptions {
    /// Without a core of its own, little memory, and no spinning.
    pub fn new(kind: RuntimeKind) -> Self {
        Self { kind, pin: false, io_memory: SMALL_IO_MEMORY, spin: Duration::ZERO }
    }
}

/// Starts a thread with an executor for each of `starts`, which are shards 0, 1 and so on, and runs
/// its future there, over the data directory `data_dir`. A shard ends with its future: tasks that it
/// leaves behind are dropped.
///
/// The shards begin together. An error means that a thread could not be started: then no future has begun, and the
/// threads before it have ended.
pub fn run_shards<S, F, T>(
    options: ThreadOptions,
    data_dir: PathBuf,
    starts: Vec<S>,
) -> io::Result<ShardThreads<T>>
where
    S: FnOnce(OsRuntime) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let cores =
        if options.pin { Cores::claim(CLAIM, starts.len())? } else { Err(Pinning::NotAsked) };
    let (sender, ends) = mpsc::channel();
    let runs = starts.into_iter().enumerate().map(|(shard, start)| {
        let core = cores.as_ref().ok().map(|cores| cores.of(shard));
        let (data_dir, sender) = (data_dir.clone(), sender.clone());
        move || {
            let end = run_shard(options, core, data_dir, start);
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
pub fn run_once<S, F, T>(kind: RuntimeKind, data_dir: PathBuf, start: S) -> io::Result<T>
where
    S: FnOnce(OsRuntime) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let shards = run_shards(ThreadOptions::new(kind), data_dir, vec![start])?;
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
    options: ThreadOptions,
    core: Option<usize>,
    data_dir: PathBuf,
    start: S,
) -> ShardEnd<T>
where
    S: FnOnce(OsRuntime) -> F + 'static,
    F: Future<Output = T> + 'static,
    T: 'static,
{
    let ThreadOptions { kind, io_memory, spin, .. } = options;
    let run = AssertUnwindSafe(|| match kind {
        RuntimeKind::Glommio => {
            run_on_glommio(core, io_memory, data_dir, |it| start(OsRuntime::Glommio(it)))
        }
        RuntimeKind::Ring => run_on_ring(core, spin, data_dir, |it| start(OsRuntime::Ring(it))),
    });
    match catch_unwind(run) {
        Ok(Ok(Ok(output))) => ShardEnd::Finished(output),
        Ok(Ok(Err(panic))) => ShardEnd::Panicked(text_of(&*panic)),
        Ok(Err(error)) => ShardEnd::Refused(error),
        Err(panic) => ShardEnd::Panicked(text_of(&*panic)),
    }
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
