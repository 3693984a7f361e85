//! One io_uring: operations that are handed to the kernel, and what it says of them; and timers.
//!
//! All that tasks ask for between two passes of the executor goes to the kernel in one system call. The same call takes
//! in what has completed. It waits if there is nothing else to do.
//!
//! What an operation points at belongs to the reactor until the kernel has completed it. So a future that is
//! dropped early leaves its buffer and its descriptor here, and the kernel never writes into memory that has
//! another owner by then.

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::io::Errno;
use slab::Slab;
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    io,
    marker::PhantomData,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// So many operations fit into one submission. More are submitted in several.
const SUBMISSIONS: u32 = 512;
/// So many completions fit into the queue. The kernel keeps what does not fit, and hands it over later.
const COMPLETIONS: u32 = 4096;
/// At the end of an executor, so long the kernel may take for the operations that it still has.
const END_MAX: Duration = Duration::from_secs(1);
/// The number of no operation: of cancellations, whose own completions say nothing.
const NOBODY: u64 = u64::MAX;
/// The kernel is asked to wait no longer than this at a time.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// What of a descriptor is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// Whether there is something to read.
    Input,
    /// Whether there is room to write.
    Output,
}

impl Side {
    /// What the kernel is asked to tell.
    fn asks(self) -> u32 {
        let events = match self {
            Self::Input => libc::POLLIN | libc::POLLRDHUP,
            Self::Output => libc::POLLOUT,
        };
        events as u32
    }

    /// After one of these the operation never waits again. That the other end sends no more says nothing of the
    /// output, and the kernel tells it all the same.
    fn ends(self) -> i32 {
        let events = match self {
            Self::Input => libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR,
            Self::Output => libc::POLLHUP | libc::POLLERR,
        };
        i32::from(events)
    }
}

/// See the module.
pub(super) struct Reactor {
    ring: RefCell<IoUring>,
    operations: RefCell<Slab<Operation>>,
    /// Submissions for which the ring has no room now.
    backlog: RefCell<VecDeque<squeue::Entry>>,
    /// By the time at which the sleep ends, and its number.
    sleeps: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next_sleep: Cell<u64>,
    turns: Cell<u64>,
    /// The tasks that wait for the next turn.
    next_turn: RefCell<Vec<Waker>>,
    /// The tasks that completions wake: kept for its memory.
    woken: RefCell<Vec<Waker>>,
}

/// What the kernel was asked for, by its number in the slab.
enum Operation {
    /// One operation with one completion.
    Once {
        result: Option<i32>,
        waker: Option<Waker>,
        /// Its future is gone.
        is_abandoned: bool,
        /// Its result is a new descriptor.
        opens: bool,
        /// The memory that it points at.
        held: Box<dyn Any>,
        /// What it works on.
        #[expect(dead_code, reason = "it stays open for as long as it is here")]
        descriptor: Option<Rc<OwnedFd>>,
    },
    /// One side of a descriptor, told each time that there is more.
    Watch {
        side: Side,
        is_ready: bool,
        has_ended: bool,
        is_armed: bool,
        is_dropped: bool,
        waker: Option<Waker>,
        descriptor: Rc<OwnedFd>,
    },
}

impl Reactor {
    /// # Errors
    /// The kernel refuses the ring.
    pub(super) fn new() -> io::Result<Rc<Self>> {
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .build(SUBMISSIONS)?;
        Ok(Rc::new(Self {
            ring: RefCell::new(ring),
            operations: RefCell::default(),
            backlog: RefCell::default(),
            sleeps: RefCell::default(),
            next_sleep: Cell::default(),
            turns: Cell::default(),
            next_turn: RefCell::default(),
            woken: RefCell::default(),
        }))
    }

    /// Queues an operation for the next submission.
    ///
    /// # Safety
    /// What the entry points at stays where it is until the kernel has completed the operation.
    unsafe fn push(&self, entry: squeue::Entry) {
        self.backlog.borrow_mut().push_back(entry);
        self.submit_backlog();
    }

    /// Moves what waits into the ring, as far as it has room.
    fn submit_backlog(&self) {
        let (mut ring, mut backlog) = (self.ring.borrow_mut(), self.backlog.borrow_mut());
        let mut queue = ring.submission();
        while let Some(entry) = backlog.front() {
            // SAFETY: by the contract of `push`.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            backlog.pop_front();
        }
    }

    /// Has the kernel do one operation on `descriptor`, and returns its result with the memory that it pointed at.
    /// `entry` makes it from `held`, which has a fixed place until the operation has completed.
    ///
    /// # Safety
    /// The entry points at nothing but `held` and what `held` owns, and names no descriptor but that.
    pub(super) unsafe fn once<H: 'static>(
        self: &Rc<Self>,
        descriptor: Rc<OwnedFd>,
        held: H,
        entry: impl FnOnce(types::Fd, &mut H) -> squeue::Entry,
    ) -> Once<H> {
        let number = types::Fd(descriptor.as_raw_fd());
        // SAFETY: by the contract of this function.
        unsafe { self.begin(Some(descriptor), false, held, |held| entry(number, held)) }
    }

    /// The same without a descriptor; `opens`: the result is a new one.
    ///
    /// # Safety
    /// The entry points at nothing but `held` and what `held` owns.
    pub(super) unsafe fn once_by_name<H: 'static>(
        self: &Rc<Self>,
        opens: bool,
        held: H,
        entry: impl FnOnce(&mut H) -> squeue::Entry,
    ) -> Once<H> {
        // SAFETY: by the contract of this function.
        unsafe { self.begin(None, opens, held, entry) }
    }

    /// See [`Self::once`].
    unsafe fn begin<H: 'static>(
        self: &Rc<Self>,
        descriptor: Option<Rc<OwnedFd>>,
        opens: bool,
        held: H,
        entry: impl FnOnce(&mut H) -> squeue::Entry,
    ) -> Once<H> {
        let mut held = Box::new(held);
        let entry = entry(&mut held);
        let (result, waker, is_abandoned) = (None, None, false);
        let operation = Operation::Once { result, waker, is_abandoned, opens, held, descriptor };
        let number = self.operations.borrow_mut().insert(operation);
        // SAFETY: the operation holds what the entry points at.
        unsafe { self.push(entry.user_data(number as u64)) };
        Once { reactor: self.clone(), number, is_over: false, held: PhantomData }
    }

    /// Watches one side of a descriptor.
    pub(super) fn watch(self: &Rc<Self>, descriptor: Rc<OwnedFd>, side: Side) -> Watch {
        let operation = Operation::Watch {
            side,
            // The first read looks for itself.
            is_ready: true,
            has_ended: false,
            is_armed: false,
            is_dropped: false,
            waker: None,
            descriptor,
        };
        let number = self.operations.borrow_mut().insert(operation);
        Watch { reactor: self.clone(), number }
    }

    /// Ends after `duration`, or a little later, and never sooner.
    pub(super) fn sleep(self: &Rc<Self>, duration: Duration) -> Sleep {
        let number = self.next_sleep.get();
        self.next_sleep.set(number + 1);
        // What ends beyond the end of time never ends.
        let end = Instant::now().checked_add(duration);
        Sleep { reactor: self.clone(), end, number, is_listed: false }
    }

    /// Returns after the next turn.
    pub(super) async fn next_turn(&self) {
        let now = self.turns.get();
        poll_fn(|cx| {
            if self.turns.get() != now {
                return Poll::Ready(());
            }
            self.next_turn.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Hands what is queued to the kernel, takes in what has completed, and wakes the tasks that waited for it. If it
    /// `may_wait`, and nothing has completed, it waits for a completion or for the first timer.
    pub(super) fn turn(&self, may_wait: bool) {
        let first = self.sleeps.borrow().keys().next().map(|(end, _)| *end);
        let left = first.map(|end| end.saturating_duration_since(Instant::now()));
        let waits = may_wait && left != Some(Duration::ZERO) && self.next_turn.borrow().is_empty();
        let state = self.state();
        if waits && !state.has_completions {
            self.enter(true, left);
        } else if state.has_work {
            self.enter(false, None);
        }
        self.take_completions();
        if let Some(first) = first {
            let now = Instant::now();
            if first <= now {
                self.wake_sleepers(now);
            }
        }
        self.turns.set(self.turns.get() + 1);
        let mut wakers = self.next_turn.take();
        wakers.drain(..).for_each(Waker::wake);
        self.next_turn.replace(wakers);
    }

    /// Hands what is queued to the kernel, without waiting. Whether something has completed, or a timer is due.
    pub(super) fn has_news(&self) -> bool {
        if self.state().has_work {
            self.enter(false, None);
        }
        let first = self.sleeps.borrow().keys().next().map(|(end, _)| *end);
        self.state().has_completions || first.is_some_and(|end| end <= Instant::now())
    }

    fn state(&self) -> State {
        let mut ring = self.ring.borrow_mut();
        let has_completions = !ring.completion().is_empty();
        let queue = ring.submission();
        let has_backlog = !self.backlog.borrow().is_empty();
        let has_work = has_backlog || !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        State { has_completions, has_work }
    }

    /// The system call. What the kernel has no room for now stays queued.
    fn enter(&self, waits: bool, limit: Option<Duration>) {
        self.submit_backlog();
        let ring = self.ring.borrow();
        let limit = limit.map(|limit| types::Timespec::from(limit.min(WAIT_MAX)));
        let mut args = types::SubmitArgs::new();
        if let Some(limit) = &limit {
            args = args.timespec(limit);
        }
        let entered = match waits {
            true => ring.submitter().submit_with_args(1, &args),
            false => ring.submitter().submit(),
        };
        match entered.map_err(|error| error.raw_os_error().map(Errno::from_raw_os_error)) {
            // The time is over, a signal came, or completions wait to be taken: the next turn goes on.
            Ok(_) | Err(Some(Errno::TIME | Errno::INTR | Errno::BUSY)) => {}
            // The kernel lacks memory now: others may give some back.
            Err(Some(Errno::AGAIN | Errno::NOMEM)) => std::thread::yield_now(),
            Err(error) => panic!("the ring of a shard fails: {error:?}"),
        }
    }

    fn take_completions(&self) {
        let mut woken = self.woken.take();
        {
            let mut ring = self.ring.borrow_mut();
            let mut operations = self.operations.borrow_mut();
            for entry in ring.completion() {
                woken.extend(complete(&mut operations, &entry));
            }
        }
        woken.drain(..).for_each(Waker::wake);
        self.woken.replace(woken);
    }

    fn wake_sleepers(&self, now: Instant) {
        let due = {
            let mut sleeps = self.sleeps.borrow_mut();
            let later = sleeps.split_off(&(now, u64::MAX));
            std::mem::replace(&mut *sleeps, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// Waits until the kernel has no operation any more, or has taken too long, as for a disk that hangs.
    pub(super) fn end(&self) {
        let deadline = Instant::now() + END_MAX;
        loop {
            let is_over = self.operations.borrow().is_empty();
            let left = deadline.saturating_duration_since(Instant::now());
            if is_over {
                return;
            }
            if left.is_zero() {
                break;
            }
            if !self.state().has_completions {
                self.enter(true, Some(left));
            }
            self.take_completions();
        }
    }
}

impl Drop for Reactor {
    /// The memory that the kernel may still use is never freed. Descriptors are closed: the kernel has its own hold on
    /// their files, and so on their locks, until its operations end (safety W3).
    fn drop(&mut self) {
        for operation in self.operations.get_mut().drain() {
            if let Operation::Once { result: None, held, .. } = operation {
                std::mem::forget(held);
            }
        }
    }
}

/// What waits between this process and the kernel.
struct State {
    has_completions: bool,
    /// For the kernel: submissions, or what it put off until the next call.
    has_work: bool,
}

/// Notes a completion. Returns whom to wake.
fn complete(operations: &mut Slab<Operation>, entry: &cqueue::Entry) -> Option<Waker> {
    if entry.user_data() == NOBODY {
        return None;
    }
    let number = entry.user_data() as usize;
    let (waker, is_over) = match &mut operations[number] {
        Operation::Once { result, waker, is_abandoned, opens, .. } => {
            *result = Some(entry.result());
            if *is_abandoned && *opens {
                close_opened(entry.result());
            }
            (waker.take(), *is_abandoned)
        }
        Operation::Watch { side, is_ready, has_ended, is_armed, is_dropped, waker, .. } => {
            *is_armed = cqueue::more(entry.flags());
            *is_ready = true;
            // A poll that failed is asked for again.
            *has_ended |= entry.result() > 0 && entry.result() & side.ends() != 0;
            (waker.take(), *is_dropped && !*is_armed)
        }
    };
    if is_over {
        operations.remove(number);
    }
    waker
}

/// Closes a descriptor that nobody waits for any more; not the number of an error.
fn close_opened(result: i32) {
    if result >= 0 {
        // SAFETY: the kernel has opened it for an operation whose future is gone.
        drop(unsafe { OwnedFd::from_raw_fd(result) });
    }
}

/// The result of one operation; see [`Reactor::once`].
pub(super) struct Once<H> {
    reactor: Rc<Reactor>,
    number: usize,
    is_over: bool,
    held: PhantomData<H>,
}

impl<H> Unpin for Once<H> {}

impl<H: 'static> Future for Once<H> {
    type Output = (io::Result<u32>, H);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.is_over, "a result is taken once");
        let reactor = self.reactor.clone();
        let mut operations = reactor.operations.borrow_mut();
        let Operation::Once { result, waker, .. } = &mut operations[self.number] else {
            unreachable!("its number is its own until it is over")
        };
        let Some(result) = *result else {
            keep(waker, cx);
            return Poll::Pending;
        };
        let Operation::Once { held, .. } = operations.remove(self.number) else {
            unreachable!("it was looked at")
        };
        self.is_over = true;
        let result = match result {
            error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
            count => Ok(count as u32),
        };
        Poll::Ready((result, *held.downcast().expect("it is what was put in")))
    }
}

impl<H> Drop for Once<H> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut operations = self.reactor.operations.borrow_mut();
        let Operation::Once { result, is_abandoned, waker, opens, .. } =
            &mut operations[self.number]
        else {
            unreachable!("its number is its own until it is over")
        };
        *waker = None;
        *is_abandoned = true;
        if let Some(result) = *result {
            if *opens {
                close_opened(result);
            }
            let operation = operations.remove(self.number);
            drop(operations);
            drop(operation);
        }
    }
}

/// One side of a descriptor; see [`Reactor::watch`].
pub(super) struct Watch {
    reactor: Rc<Reactor>,
    number: usize,
}

impl Watch {
    /// Whether a call may get on. If not, the task is woken when it may.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let unarmed = {
            let mut operations = self.reactor.operations.borrow_mut();
            let Operation::Watch { side, is_ready, is_armed, waker, descriptor, .. } =
                &mut operations[self.number]
            else {
                unreachable!("its number is its own until it is dropped")
            };
            if *is_ready {
                return Poll::Ready(());
            }
            keep(waker, cx);
            let was_armed = std::mem::replace(is_armed, true);
            (!was_armed).then(|| (descriptor.as_raw_fd(), side.asks()))
        };
        if let Some((descriptor, events)) = unarmed {
            let polls = opcode::PollAdd::new(types::Fd(descriptor), events).multi(true);
            // SAFETY: it points at nothing, and the operation holds the descriptor.
            unsafe { self.reactor.push(polls.build().user_data(self.number as u64)) };
        }
        Poll::Pending
    }

    /// A call could not get on: the next one waits, unless the descriptor has ended.
    pub(super) fn must_wait(&self) {
        if let Operation::Watch { is_ready, has_ended, .. } =
            &mut self.reactor.operations.borrow_mut()[self.number]
        {
            *is_ready = *has_ended;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let armed = {
            let mut operations = self.reactor.operations.borrow_mut();
            let Operation::Watch { is_armed, is_dropped, waker, .. } = &mut operations[self.number]
            else {
                unreachable!("its number is its own until it is dropped")
            };
            *is_dropped = true;
            (is_armed.then_some(()), waker.take()).0
        };
        if armed.is_some() {
            let number = self.number as u64;
            // SAFETY: it points at nothing.
            unsafe {
                self.reactor.push(opcode::AsyncCancel::new(number).build().user_data(NOBODY));
            }
        } else {
            let operation = self.reactor.operations.borrow_mut().remove(self.number);
            drop(operation);
        }
    }
}

/// Keeps the waker of a task.
fn keep(kept: &mut Option<Waker>, cx: &Context<'_>) {
    match kept {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *kept = Some(cx.waker().clone()),
    }
}

/// See [`Reactor::sleep`].
pub(crate) struct Sleep {
    reactor: Rc<Reactor>,
    end: Option<Instant>,
    number: u64,
    is_listed: bool,
}

impl Sleep {
    fn unlist(&mut self) {
        if let Some(end) = self.end.filter(|_| std::mem::take(&mut self.is_listed)) {
            self.reactor.sleeps.borrow_mut().remove(&(end, self.number));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(end) = self.end else { return Poll::Pending };
        if end <= Instant::now() {
            self.unlist();
            return Poll::Ready(());
        }
        let key = (end, self.number);
        self.reactor.sleeps.borrow_mut().insert(key, cx.waker().clone());
        self.is_listed = true;
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.unlist();
    }
}
