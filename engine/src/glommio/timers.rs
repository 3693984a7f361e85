//! Sleeps of the tasks of one executor, kept beside its rings.
//!
//! glommio hands its first timer to the kernel each time it goes to sleep, and takes it back each time it wakes: two
//! more system calls for each, and a shard under load sleeps and wakes thousands of times a second (docs/bench.md). So
//! the sleeps wait in a list, and a thread that does nothing else wakes the executor when the first of them is due.
//!
//! ```text
//! sleep ──► list of the executor ── its first deadline ──► alarm ──► thread
//! task that slept ◄── Timers::run ◄───────── rings ◄──────────────────┘
//! ```

use crate::wake::Wake;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A sleep may last longer by so much, so that the alarm is not set anew for each that ends a little sooner. A thread of
/// Linux wakes as late as this anyhow.
const SLACK: Duration = Duration::from_micros(50);

/// The sleeps of one executor.
pub(super) struct Timers {
    /// By the time at which it ends, and its number.
    sleeps: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next: Cell<u64>,
    /// What the alarm is set to.
    set_to: Cell<Option<Instant>>,
    alarm: Arc<Alarm>,
    thread: RefCell<Option<JoinHandle<()>>>,
}

impl Timers {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Rc<Self>> {
        let alarm = Arc::new(Alarm::default());
        let rings = alarm.clone();
        let thread = thread::Builder::new().name("timers".into()).spawn(move || rings.run())?;
        Ok(Rc::new(Self {
            sleeps: RefCell::default(),
            next: Cell::default(),
            set_to: Cell::default(),
            alarm,
            thread: RefCell::new(Some(thread)),
        }))
    }

    /// Ends after `duration`, or a little later, and never sooner.
    pub(super) fn sleep(self: &Rc<Self>, duration: Duration) -> Sleep {
        let number = self.next.get();
        self.next.set(number + 1);
        // What ends beyond the end of time never ends.
        let end = Instant::now().checked_add(duration);
        Sleep { timers: self.clone(), end, number, is_listed: false }
    }

    /// Wakes the tasks whose sleep is over, for as long as the executor runs.
    pub(super) async fn run(self: Rc<Self>) {
        loop {
            self.alarm.rings.wait().await;
            self.set_to.set(None);
            self.wake_due(Instant::now());
        }
    }

    fn wake_due(&self, now: Instant) {
        let (due, next) = {
            let mut sleeps = self.sleeps.borrow_mut();
            let later = sleeps.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut *sleeps, later);
            (due, sleeps.keys().next().map(|(end, _)| *end))
        };
        due.into_values().for_each(Waker::wake);
        if let Some(next) = next {
            self.set(next);
        }
    }

    /// The alarm rings at `end`, or before.
    fn set(&self, end: Instant) {
        if self.set_to.get().is_none_or(|before| end + SLACK < before) {
            self.set_to.set(Some(end));
            self.alarm.set(end);
        }
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.alarm.end();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// See [`Timers::sleep`].
pub(crate) struct Sleep {
    timers: Rc<Timers>,
    end: Option<Instant>,
    number: u64,
    is_listed: bool,
}

impl Sleep {
    fn unlist(&mut self) {
        if let Some(end) = self.end.filter(|_| std::mem::take(&mut self.is_listed)) {
            self.timers.sleeps.borrow_mut().remove(&(end, self.number));
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
        self.timers.sleeps.borrow_mut().insert(key, cx.waker().clone());
        self.is_listed = true;
        self.timers.set(end);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.unlist();
    }
}

/// What the thread of an executor's timers waits for.
#[derive(Default)]
struct Alarm {
    setting: Mutex<Setting>,
    changed: Condvar,
    /// To the executor: the time has come.
    rings: Wake,
}

#[derive(Default)]
struct Setting {
    at: Option<Instant>,
    has_ended: bool,
}

impl Alarm {
    fn set(&self, at: Instant) {
        self.setting().at = Some(at);
        self.changed.notify_one();
    }

    fn end(&self) {
        self.setting().has_ended = true;
        self.changed.notify_one();
    }

    fn run(&self) {
        let mut setting = self.setting();
        while !setting.has_ended {
            setting = match setting.at {
                None => self.changed.wait(setting).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        setting.at = None;
                        drop(setting);
                        self.rings.notify();
                        self.setting()
                    } else {
                        let waited = self.changed.wait_timeout(setting, left);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                }
            };
        }
    }

    fn setting(&self) -> MutexGuard<'_, Setting> {
        self.setting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::{FutureExt, future::block_on};
    use std::{future::poll_fn, pin::pin};

    const SHORT: Duration = Duration::from_millis(5);
    const LONG: Duration = Duration::from_secs(1000);

    fn run<T>(timers: &Rc<Timers>, future: impl Future<Output = T>) -> T {
        let rings = async {
            timers.clone().run().await;
            unreachable!("it runs for as long as it is polled")
        };
        block_on(future.or(rings))
    }

    #[test]
    fn a_sleep_ends_after_its_time_and_never_before() {
        let timers = Timers::start().expect("a thread");
        for duration in [Duration::ZERO, Duration::from_micros(1), SHORT, 4 * SHORT, SHORT] {
            let began = Instant::now();
            run(&timers, timers.sleep(duration));
            assert!(began.elapsed() >= duration, "{duration:?}");
            assert!(timers.sleeps.borrow().is_empty());
        }
    }

    /// The alarm is set to the first of all, in whatever order they begin, and goes on to the next.
    #[test]
    fn sleeps_end_in_the_order_of_their_times() {
        let timers = Timers::start().expect("a thread");
        let ended = RefCell::new(Vec::new());
        let sleep = |times: u32| {
            let sleep = timers.sleep(times * SHORT);
            let ended = &ended;
            async move {
                sleep.await;
                ended.borrow_mut().push(times);
            }
        };
        let mut never = pin!(timers.sleep(LONG));
        let (mut third, mut first, mut second) = (pin!(sleep(9)), pin!(sleep(1)), pin!(sleep(4)));
        run(
            &timers,
            poll_fn(|cx| {
                let _ = never.as_mut().poll(cx);
                let left = [
                    third.as_mut() as Pin<&mut dyn Future<Output = ()>>,
                    first.as_mut(),
                    second.as_mut(),
                ];
                for (place, sleep) in left.into_iter().enumerate() {
                    if !ended.borrow().contains(&[9, 1, 4][place]) {
                        let _ = sleep.poll(cx);
                    }
                }
                if ended.borrow().len() == 3 { Poll::Ready(()) } else { Poll::Pending }
            }),
        );
        assert_eq!(*ended.borrow(), [1, 4, 9]);
        assert_eq!(timers.sleeps.borrow().len(), 1, "the long one");
    }

    /// A shard makes a sleep in each turn, and drops most of them unfinished.
    #[test]
    fn a_sleep_that_is_dropped_leaves_nothing_and_one_without_end_takes_nothing() {
        let timers = Timers::start().expect("a thread");
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..1000 {
            assert!(pin!(timers.sleep(LONG)).poll(&mut cx).is_pending());
        }
        assert!(timers.sleeps.borrow().is_empty());
        let set_to = timers.set_to.get().expect("the alarm is set");
        assert!(pin!(timers.sleep(Duration::MAX)).poll(&mut cx).is_pending());
        assert_eq!(
            timers.set_to.get(),
            Some(set_to),
            "each of the thousand ends later than the first"
        );
    }

    #[test]
    fn the_thread_ends_with_the_timers() {
        let timers = Timers::start().expect("a thread");
        let alarm = Arc::downgrade(&timers.alarm);
        let mut cx = Context::from_waker(Waker::noop());
        let mut sleep = Box::pin(timers.sleep(LONG));
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        drop((sleep, timers));
        assert!(alarm.upgrade().is_none(), "nobody holds it");
    }
}
