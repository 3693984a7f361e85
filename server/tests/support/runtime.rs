//! A small runtime of one thread over the sockets of the operating system, which waits in `poll`.

use purlin::{Disk, Durability, File, Listener, Mesh, Net, Reader, Runtime, ShardId, Writer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// A handle to the runtime.
#[derive(Clone)]
pub(crate) struct TcpRuntime {
    core: Rc<Core>,
}

struct Core {
    start: Instant,
    tasks: RefCell<BTreeMap<u64, Task>>,
    next_task: Cell<u64>,
    ready: Ready,
    /// Who waits for a socket, and for what.
    sockets: RefCell<Vec<(OwnedFd, PollFlags, Waker)>>,
    /// Who waits for a time.
    timers: RefCell<Vec<(Duration, Waker)>>,
}

type Ready = Arc<Mutex<VecDeque<u64>>>;

struct TaskWaker {
    task: u64,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.lock().expect("nobody panics holding it").push_back(self.task);
    }
}

impl TcpRuntime {
    pub(crate) fn new() -> Self {
        let core = Core {
            start: Instant::now(),
            tasks: RefCell::default(),
            next_task: Cell::new(0),
            ready: Ready::default(),
            sockets: RefCell::default(),
            timers: RefCell::default(),
        };
        Self { core: Rc::new(core) }
    }

    /// Runs `main` and what it spawns until the other end of `stop` is dropped.
    pub(crate) fn run(&self, main: impl Future<Output = ()> + 'static, stop: UnixStream) {
        self.spawn(main);
        loop {
            self.run_ready();
            if self.core.wait(&stop) {
                break;
            }
        }
        // What tasks drop may spawn or wake, but nothing runs any more.
        let tasks = std::mem::take(&mut *self.core.tasks.borrow_mut());
        drop(tasks);
    }

    fn run_ready(&self) {
        loop {
            let next = self.core.ready.lock().expect("nobody panics holding it").pop_front();
            let Some(id) = next else { return };
            let Some(mut task) = self.core.tasks.borrow_mut().remove(&id) else { continue };
            let waker =
                Arc::new(TaskWaker { task: id, ready: Arc::clone(&self.core.ready) }).into();
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                self.core.tasks.borrow_mut().insert(id, task);
            }
        }
    }
}

impl Core {
    /// Waits until a socket is ready or a timer has run out, and tells whether to stop.
    fn wait(&self, stop: &UnixStream) -> bool {
        let sockets = std::mem::take(&mut *self.sockets.borrow_mut());
        let mut polled: Vec<_> =
            sockets.iter().map(|(fd, flags, _)| PollFd::new(fd, *flags)).collect();
        polled.push(PollFd::new(stop, PollFlags::IN));
        let timeout = self.timers.borrow().iter().map(|(at, _)| *at).min();
        let timeout = timeout.map(|at| at.saturating_sub(self.start.elapsed()));
        let timeout = timeout.map(|rest| Timespec {
            tv_sec: rest.as_secs() as i64,
            tv_nsec: rest.subsec_nanos().into(),
        });
        poll(&mut polled, timeout.as_ref()).expect("poll");

        let is_ready: Vec<_> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let is_stopped = is_ready[sockets.len()];
        for ((fd, flags, waker), is_ready) in sockets.into_iter().zip(is_ready) {
            if is_ready {
                waker.wake();
            } else {
                self.sockets.borrow_mut().push((fd, flags, waker));
            }
        }
        let now = self.start.elapsed();
        self.timers.borrow_mut().retain(|(at, waker)| {
            if *at <= now {
                waker.wake_by_ref();
            }
            *at > now
        });
        is_stopped
    }

    /// Runs `operation` until it no longer would have to wait.
    async fn io<T>(
        &self,
        socket: &impl AsFd,
        flags: PollFlags,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        poll_fn(|context| match operation() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let fd = socket.as_fd().try_clone_to_owned()?;
                self.sockets.borrow_mut().push((fd, flags, context.waker().clone()));
                Poll::Pending
            }
            result => Poll::Ready(result),
        })
        .await
    }
}

impl Runtime for TcpRuntime {
    type Disk = NoDisk;
    type Net = Self;
    type Mesh<T: Send + 'static> = NoMesh;

    fn disk(&self) -> NoDisk {
        panic!("a front end has no disk")
    }

    fn net(&self) -> Self {
        self.clone()
    }

    fn now(&self) -> Duration {
        self.core.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        let core = Rc::clone(&self.core);
        let end = self.now() + duration;
        poll_fn(move |context| {
            if core.start.elapsed() >= end {
                return Poll::Ready(());
            }
            core.timers.borrow_mut().push((end, context.waker().clone()));
            Poll::Pending
        })
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let id = self.core.next_task.get();
        self.core.next_task.set(id + 1);
        self.core.tasks.borrow_mut().insert(id, Box::pin(task));
        self.core.ready.lock().expect("nobody panics holding it").push_back(id);
    }

    fn random(&self) -> u64 {
        panic!("a front end draws no lots")
    }
}

impl Net for TcpRuntime {
    type Reader = TcpReader;
    type Writer = TcpWriter;
    type Listener = TcpAcceptor;

    async fn listen(&self, address: &str) -> io::Result<TcpAcceptor> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(TcpAcceptor { listener, core: Rc::clone(&self.core) })
    }

    async fn connect(&self, _: &str) -> io::Result<(TcpReader, TcpWriter)> {
        panic!("a front end connects to nobody")
    }
}

pub(crate) struct TcpAcceptor {
    listener: TcpListener,
    core: Rc<Core>,
}

impl Listener for TcpAcceptor {
    type Reader = TcpReader;
    type Writer = TcpWriter;

    async fn accept(&mut self) -> io::Result<(TcpReader, TcpWriter)> {
        let accept = self.core.io(&self.listener, PollFlags::IN, || self.listener.accept());
        let (stream, _) = accept.await?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let (stream, core) = (Rc::new(stream), Rc::clone(&self.core));
        let reader = TcpReader { stream: Rc::clone(&stream), core: Rc::clone(&core) };
        Ok((reader, TcpWriter { stream, core }))
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().expect("it is bound").port()
    }
}

pub(crate) struct TcpReader {
    stream: Rc<TcpStream>,
    core: Rc<Core>,
}

impl Reader for TcpReader {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.core.io(&*self.stream, PollFlags::IN, || (&*self.stream).read(buffer)).await
    }
}

pub(crate) struct TcpWriter {
    stream: Rc<TcpStream>,
    core: Rc<Core>,
}

impl Writer for TcpWriter {
    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write =
                self.core.io(&*self.stream, PollFlags::OUT, || (&*self.stream).write(bytes));
            let len = pin!(write).await?;
            bytes = &bytes[len..];
        }
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Both)
    }
}

/// There is none.
pub(crate) struct NoMesh;

impl<T: 'static> Mesh<T> for NoMesh {
    fn try_send(&self, _: ShardId, item: T) -> Result<(), T> {
        Err(item)
    }

    async fn recv(&self) -> (ShardId, T) {
        std::future::pending().await
    }
}

/// There is none.
#[derive(Clone)]
pub(crate) enum NoDisk {}

impl Disk for NoDisk {
    type File = Self;
    type Lock = ();

    fn subdirectory(&self, _: &str) -> Self {
        match *self {}
    }
    fn location(&self) -> String {
        match *self {}
    }
    async fn create_dir(&self) -> io::Result<()> {
        match *self {}
    }
    async fn lock(&self) -> io::Result<()> {
        match *self {}
    }
    async fn create(&self, _: &str, _: u64, _: Durability) -> io::Result<Self> {
        match *self {}
    }
    async fn open(&self, _: &str, _: Durability) -> io::Result<Self> {
        match *self {}
    }
    async fn list(&self) -> io::Result<Vec<String>> {
        match *self {}
    }
    async fn remove(&self, _: &str) -> io::Result<()> {
        match *self {}
    }
    async fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        match *self {}
    }
    async fn sync_dir(&self) -> io::Result<()> {
        match *self {}
    }
}

impl File for NoDisk {
    type Block = Vec<u8>;

    fn block(&self, _: usize) -> Vec<u8> {
        match *self {}
    }
    async fn size(&self) -> io::Result<u64> {
        match *self {}
    }
    async fn read_at(&self, _: u64, _: usize) -> io::Result<Vec<u8>> {
        match *self {}
    }
    async fn write_at(&self, _: Vec<u8>, _: u64) -> io::Result<()> {
        match *self {}
    }
    async fn sync(&self) -> io::Result<()> {
        match *self {}
    }
    async fn close(self) -> io::Result<()> {
        match self {}
    }
}
