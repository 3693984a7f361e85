//! A process with all that it prints. It is killed, if need be, when it goes out of scope.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::Read,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

/// Of what a process prints, this much is kept.
const PRINTED_MAX: usize = 4 << 20;
/// Of what a process printed, this much is shown when a test fails.
const SHOWN_MAX: usize = 6 << 10;

/// How often processes of these tests have printed something or ended.
static NEWS: News = News { count: Mutex::new(0), changed: Condvar::new() };

/// A process that was started, and that may have ended.
pub(crate) struct Process {
    name: String,
    child: Child,
    printed: Arc<Printed>,
    has_ended: bool,
}

/// How a process ended, and what it had printed.
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

struct News {
    count: Mutex<u64>,
    changed: Condvar,
}

#[derive(Default)]
struct Printed {
    text: Mutex<Text>,
    changed: Condvar,
}

#[derive(Default)]
struct Text {
    out: String,
    err: String,
    /// Readers that have come to the end.
    ended: usize,
}

/// Waits until a process has printed something or ended after news number `seen`, at most `limit`.
/// Gives the number of the last news.
pub(crate) fn wait_for_news(seen: u64, limit: Duration) -> u64 {
    let count = NEWS.count.lock().expect("no reader panics");
    let waited = NEWS.changed.wait_timeout_while(count, limit, |count| *count <= seen);
    *waited.expect("no reader panics").0
}

impl News {
    fn tell(&self) {
        *self.count.lock().expect("nobody panics with it") += 1;
        self.changed.notify_all();
    }
}

impl Process {
    /// Starts `command`, with nothing to read.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        Self::start_with_input(name, command, Stdio::null())
    }

    /// Starts `command`, which reads `input`.
    pub(crate) fn start_with_input(name: &str, command: &mut Command, input: Stdio) -> Self {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let printed = Arc::new(Printed::default());
        printed.follow(child.stdout.take().expect("piped"), |text| &mut text.out);
        printed.follow(child.stderr.take().expect("piped"), |text| &mut text.err);
        Self { name: name.to_owned(), child, printed, has_ended: false }
    }

    /// Starts `command` with `err` as its standard error, which nobody reads here.
    pub(crate) fn start_with_error_output(name: &str, command: &mut Command, err: Stdio) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(err);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let printed = Arc::new(Printed::default());
        printed.follow(child.stdout.take().expect("piped"), |text| &mut text.out);
        printed.lock().ended += 1;
        Self { name: name.to_owned(), child, printed, has_ended: false }
    }

    /// Runs `command` to its end.
    pub(crate) fn run(name: &str, command: &mut Command, limit: Duration) -> End {
        Self::start(name, command).end(limit)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed to its standard error until now.
    pub(crate) fn log(&self) -> String {
        self.printed.lock().err.clone()
    }

    /// What it has printed to its standard output until now.
    pub(crate) fn out(&self) -> String {
        self.printed.lock().out.clone()
    }

    /// Returns once it has printed `what`.
    pub(crate) fn wait_for(&self, what: &str, limit: Duration) {
        let has_it = |text: &Text| text.out.contains(what) || text.err.contains(what);
        let came = self.printed.wait(limit, |text| has_it(text) || text.ended == 2);
        let found = has_it(&came);
        drop(came);
        assert!(found, "{} did not print {what:?} within {limit:?}", self.name);
    }

    /// Takes the next line of its standard output, as soon as it is whole.
    pub(crate) fn take_line(&self, limit: Duration) -> String {
        let mut came = self.printed.wait(limit, |text| text.out.contains('\n') || text.ended == 2);
        let end = came.out.find('\n');
        let line = end.map(|end| came.out.drain(..=end).collect());
        drop(came);
        line.unwrap_or_else(|| panic!("{} did not print a line within {limit:?}", self.name))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if !self.has_ended {
            kill_process(Pid::from_child(&self.child), signal).expect("it is our child");
        }
    }

    /// Ends it as kill -9 does.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait(super::SOON);
    }

    /// Waits until it has ended by itself.
    pub(crate) fn end(mut self, limit: Duration) -> End {
        self.wait(limit)
    }

    fn wait(&mut self, limit: Duration) -> End {
        let text = self.printed.wait(limit, |text| text.ended == 2);
        let (has_ended, out, err) = (text.ended == 2, text.out.clone(), text.err.clone());
        drop(text);
        assert!(has_ended, "{} has not ended within {limit:?}", self.name);
        let status = self.child.wait().expect("it is our child");
        self.has_ended = true;
        End { code: status.code(), signal: status.signal(), out, err }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let text = self.printed.lock();
            eprintln!("{} printed:\n{}\n{}", self.name, tail(&text.out), tail(&text.err));
        }
    }
}

impl Printed {
    fn lock(&self) -> MutexGuard<'_, Text> {
        self.text.lock().expect("no reader panics")
    }

    fn tell(&self) {
        self.changed.notify_all();
        NEWS.tell();
    }

    /// Reads from `source` to its end, in the background.
    fn follow(
        self: &Arc<Self>,
        mut source: impl Read + Send + 'static,
        part: fn(&mut Text) -> &mut String,
    ) {
        let printed = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                let mut text = printed.lock();
                let part = part(&mut text);
                part.push_str(&String::from_utf8_lossy(&buffer[..count]));
                if part.len() > PRINTED_MAX {
                    *part = tail(part).to_owned();
                }
                drop(text);
                printed.tell();
            }
            printed.lock().ended += 1;
            printed.tell();
        });
    }

    /// The text when it is `enough`, or when the time is over.
    fn wait(&self, limit: Duration, enough: impl Fn(&Text) -> bool) -> MutexGuard<'_, Text> {
        let deadline = Instant::now() + limit;
        let mut text = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if enough(&text) || left.is_zero() {
                return text;
            }
            text = self.changed.wait_timeout(text, left).expect("no reader panics").0;
        }
    }
}

impl End {
    /// Asserts that it failed with one error in four parts that has `what` in it.
    pub(crate) fn assert_refused(&self, code: i32, what: &str) {
        let Self { err, out, .. } = self;
        assert_eq!(self.code, Some(code), "for {what:?}:\n{out}\n{err}");
        assert!(err.contains(what), "no {what:?} in:\n{err}");
        assert!(!err.contains("panicked"), "{err}");
        let error: Vec<_> = err.lines().skip_while(|line| !line.starts_with("error: ")).collect();
        for (line, start) in error.iter().zip(["error: ", "  in     ", "  means  ", "  do     "]) {
            assert!(line.starts_with(start), "{line:?} is no {start:?}:\n{err}");
        }
        assert_eq!(error.len(), 4, "one error of four lines:\n{err}");
    }
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(SHOWN_MAX);
    let start = (start..).find(|at| text.is_char_boundary(*at)).unwrap_or(start);
    &text[start..]
}
