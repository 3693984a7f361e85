//! A network in memory and an executor driven by hand, for tests.

use crate::{
    hub::Driver,
    net::{Listener, Net, Reader, Writer},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    io,
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Runs tasks when they were woken, in order, until none is.
#[derive(Default)]
pub(crate) struct Executor {
    tasks: Vec<(Driver, Arc<Woken>)>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Executor {
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        self.tasks.push((Box::pin(task), Arc::new(Woken(AtomicBool::new(true)))));
    }

    /// Polls what was woken until nothing is; whether anything was.
    pub(crate) fn run(&mut self) -> bool {
        let mut polls = 0;
        loop {
            let before = polls;
            self.tasks.retain_mut(|(task, woken)| {
                if !woken.0.swap(false, Ordering::Relaxed) {
                    return true;
                }
                polls += 1;
                assert!(polls < 100_000, "a task wakes itself without end");
                let waker = Waker::from(woken.clone());
                task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
            });
            if polls == before {
                return polls > 0;
            }
        }
    }

    pub(crate) fn tasks(&self) -> usize {
        self.tasks.len()
    }
}

/// A network in memory; a clone is another handle.
#[derive(Clone, Default)]
pub(crate) struct MemoryNet {
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<String, Rc<RefCell<Backlog>>>,
    /// Every connection that was made: from the dialler, and to it.
    connections: Vec<(Rc<Pipe>, Rc<Pipe>)>,
    dials: usize,
    /// Dials neither succeed nor fail.
    is_silent: bool,
    /// A reader gets at most so many bytes at once; 0 for all.
    read_bytes_max: usize,
    /// So many times more, a listener with a connection waiting fails to accept it.
    failing_accepts: usize,
}

#[derive(Default)]
struct Backlog {
    waiting: VecDeque<(MemoryReader, MemoryWriter)>,
    waker: Option<Waker>,
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    bytes: RefCell<VecDeque<u8>>,
    is_closed: Cell<bool>,
    /// So many bytes more are taken; `None` for no bound.
    budget: Cell<Option<usize>>,
    writes: Cell<usize>,
    wakers: RefCell<Vec<Waker>>,
}

impl Pipe {
    fn wake(&self) {
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        self.is_closed.set(true);
        self.wake();
    }
}

impl MemoryNet {
    pub(crate) fn dials(&self) -> usize {
        self.state.borrow().dials
    }

    pub(crate) fn set_silent(&self, is_silent: bool) {
        self.state.borrow_mut().is_silent = is_silent;
    }

    pub(crate) fn set_read_bytes_max(&self, bytes: usize) {
        self.state.borrow_mut().read_bytes_max = bytes;
    }

    /// The next `count` times a listener has a connection to accept, it fails and leaves it waiting.
    pub(crate) fn fail_accepts(&self, count: usize) {
        self.state.borrow_mut().failing_accepts = count;
    }

    /// Connection `at` in the order of dials: how often its dialler wrote.
    pub(crate) fn writes(&self, at: usize) -> usize {
        self.state.borrow().connections[at].0.writes.get()
    }

    /// Connection `at` takes no more bytes of its dialler, or all again.
    pub(crate) fn stall(&self, at: usize, is_stalled: bool) {
        self.set_budget(at, is_stalled.then_some(0));
    }

    /// Connection `at` takes so many more bytes of its dialler.
    pub(crate) fn set_budget(&self, at: usize, bytes: Option<usize>) {
        let pipe = self.state.borrow().connections[at].0.clone();
        pipe.budget.set(bytes);
        pipe.wake();
    }

    /// Connection `at` takes no bytes towards its dialler, or all again.
    pub(crate) fn stall_answer(&self, at: usize, is_stalled: bool) {
        let pipe = self.state.borrow().connections[at].1.clone();
        pipe.budget.set(is_stalled.then_some(0));
        pipe.wake();
    }

    /// Connection `at` breaks.
    pub(crate) fn cut(&self, at: usize) {
        let (there, back) = self.state.borrow().connections[at].clone();
        there.close();
        back.close();
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.borrow().connections.len()
    }

    pub(crate) fn is_open(&self, at: usize) -> bool {
        let state = self.state.borrow();
        let (there, back) = &state.connections[at];
        !there.is_closed.get() && !back.is_closed.get()
    }
}

impl Net for MemoryNet {
    type Reader = MemoryReader;
    type Writer = MemoryWriter;
    type Listener = MemoryListener;

    /// Time passes by hand here.
    fn between_nodes(&self) -> Self {
        self.clone()
    }

    async fn listen(&self, address: &str) -> io::Result<MemoryListener> {
        let backlog = Rc::new(RefCell::new(Backlog::default()));
        let mut state = self.state.borrow_mut();
        if state.listeners.contains_key(address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listeners.insert(address.to_owned(), backlog.clone());
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        let (net, address) = (self.clone(), address.to_owned());
        Ok(MemoryListener { net, address, backlog, port })
    }

    async fn connect(&self, address: &str) -> io::Result<(MemoryReader, MemoryWriter)> {
        self.state.borrow_mut().dials += 1;
        if self.state.borrow().is_silent {
            std::future::pending::<()>().await;
        }
        let mut state = self.state.borrow_mut();
        let backlog = state.listeners.get(address).cloned();
        let backlog = backlog.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (there, back) = (Rc::new(Pipe::default()), Rc::new(Pipe::default()));
        state.connections.push((there.clone(), back.clone()));
        let read_bytes_max = state.read_bytes_max;
        let half = |read: &Rc<Pipe>, write: &Rc<Pipe>| {
            (
                MemoryReader { pipe: read.clone(), read_bytes_max },
                MemoryWriter { pipe: write.clone(), back: read.clone() },
            )
        };
        let mut backlog = backlog.borrow_mut();
        backlog.waiting.push_back(half(&there, &back));
        if let Some(waker) = backlog.waker.take() {
            waker.wake();
        }
        Ok(half(&back, &there))
    }
}

pub(crate) struct MemoryListener {
    net: MemoryNet,
    address: String,
    backlog: Rc<RefCell<Backlog>>,
    port: u16,
}

impl Listener for MemoryListener {
    type Reader = MemoryReader;
    type Writer = MemoryWriter;

    async fn accept(&mut self) -> io::Result<(MemoryReader, MemoryWriter)> {
        poll_fn(|context| {
            let mut backlog = self.backlog.borrow_mut();
            let failing = &mut self.net.state.borrow_mut().failing_accepts;
            if !backlog.waiting.is_empty() && *failing > 0 {
                *failing -= 1;
                return Poll::Ready(Err(io::Error::other("too many open files")));
            }
            match backlog.waiting.pop_front() {
                Some(halves) => Poll::Ready(Ok(halves)),
                None => {
                    backlog.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.net.state.borrow_mut().listeners.remove(&self.address);
    }
}

pub(crate) struct MemoryReader {
    pipe: Rc<Pipe>,
    read_bytes_max: usize,
}

impl Reader for MemoryReader {
    fn remote(&self) -> Option<IpAddr> {
        None
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read into no space looks like the end");
        poll_fn(|context| {
            let mut bytes = self.pipe.bytes.borrow_mut();
            if bytes.is_empty() && !self.pipe.is_closed.get() {
                self.pipe.wakers.borrow_mut().push(context.waker().clone());
                return Poll::Pending;
            }
            let most = if self.read_bytes_max == 0 { usize::MAX } else { self.read_bytes_max };
            let count = bytes.len().min(buffer.len()).min(most);
            let (front, back) = bytes.as_slices();
            let from_front = front.len().min(count);
            buffer[..from_front].copy_from_slice(&front[..from_front]);
            buffer[from_front..count].copy_from_slice(&back[..count - from_front]);
            bytes.drain(..count);
            drop(bytes);
            self.pipe.wake();
            Poll::Ready(Ok(count))
        })
        .await
    }
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        self.pipe.close();
    }
}

pub(crate) struct MemoryWriter {
    pipe: Rc<Pipe>,
    /// The other direction.
    back: Rc<Pipe>,
}

impl Writer for MemoryWriter {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pipe.writes.set(self.pipe.writes.get() + 1);
        let mut rest = bytes;
        poll_fn(|context| {
            if self.pipe.is_closed.get() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let budget = self.pipe.budget.get();
            let count = rest.len().min(budget.unwrap_or(usize::MAX));
            self.pipe.budget.set(budget.map(|budget| budget - count));
            self.pipe.bytes.borrow_mut().extend(&rest[..count]);
            rest = &rest[count..];
            self.pipe.wake();
            if rest.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.pipe.wakers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.pipe.close();
        self.back.close();
        Ok(())
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.pipe.close();
    }
}
