//! The queue of an output, such as the log: lines of any thread, written by a thread of its own.
//!
//! ```text
//! any thread ── add ──► lines, bounded ──► the thread `output` ──► the sink, which may block, fail or be closed
//! ```
//!
//! A thread that adds a line waits for no write. `log_lines` is the rule: which lines the queue takes, and where
//! lines are missing. This file is the thread, and what becomes of lines that the sink refuses. The text of the log says
//! each gap in its place: how many lines are missing, and why.

use crate::log_lines::{LogLines, Piece, cut};
use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// The most that may wait to be written: the bytes of the lines, and the places that they take.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// See the module. A clone is the same queue.
#[derive(Clone)]
pub(crate) struct LogQueue {
    shared: Arc<Shared>,
}

/// What the queue says about lines that are missing.
pub(crate) type Notice = fn(lines: u64, why: &str) -> String;

struct Shared {
    /// Never held across a write.
    state: Mutex<State>,
    /// There is something to write.
    added: Condvar,
    /// All is written.
    idle: Condvar,
}

struct State {
    lines: LogLines,
    /// The thread writes what it has taken.
    is_writing: bool,
}

impl LogQueue {
    /// Starts the thread that writes to `sink`.
    ///
    /// # Errors
    /// The machine refuses a thread.
    pub(crate) fn start(sink: impl Write + Send + 'static, notice: Notice) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { lines: LogLines::new(QUEUE_BYTES_MAX), is_writing: false }),
            added: Condvar::new(),
            idle: Condvar::new(),
        });
        let writer = Writer { shared: shared.clone(), sink, notice, failed: None, is_torn: false };
        thread::Builder::new().name("output".into()).spawn(move || writer.run())?;
        Ok(Self { shared })
    }

    /// Takes a line to be written, or drops it. Never waits for a write.
    pub(crate) fn add(&self, line: &[u8]) {
        let line = cut(line);
        let is_taken = self.shared.lock().lines.add(line);
        if is_taken {
            self.shared.added.notify_one();
        }
    }

    /// Waits until all is written, at most `limit`: a sink that blocks never ends this.
    pub(crate) fn flush(&self, limit: Duration) {
        let state = self.shared.lock();
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        drop(self.shared.idle.wait_timeout_while(state, limit, is_busy));
    }
}

/// Each write is a line of its own. No write fails: what logs would have nobody to tell.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece to write, when there is one.
    fn take(&self) -> Piece {
        let mut state = self.lock();
        state.is_writing = false;
        loop {
            if let Some(piece) = state.lines.take() {
                state.is_writing = true;
                return piece;
            }
            self.idle.notify_all();
            state = self.added.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The thread that writes.
struct Writer<W> {
    shared: Arc<Shared>,
    sink: W,
    notice: Notice,
    /// Lines that the sink refused since its last success, and why.
    failed: Option<(u64, String)>,
    /// The sink has taken a line up to its middle.
    is_torn: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        loop {
            match self.shared.take() {
                Piece::Line(line) => self.write_line(&line),
                Piece::Gap(lines) => {
                    let why = "the reader of this output did not take them in time";
                    let notice = (self.notice)(lines, why);
                    self.write_or_count(notice.as_bytes(), lines);
                }
            }
        }
    }

    fn write_line(&mut self, line: &[u8]) {
        if let Some((lines, why)) = self.failed.take() {
            let notice = (self.notice)(lines, &why);
            self.write_or_count(notice.as_bytes(), lines);
        }
        self.write_or_count(line, 1);
    }

    /// Writes `bytes`. If that fails, so many lines more are missing.
    fn write_or_count(&mut self, bytes: &[u8], lines: u64) {
        if let Err(error) = self.write(bytes) {
            let (before, _) = self.failed.take().unwrap_or_default();
            let why = format!("this output could not be written: {error}");
            self.failed = Some((before + lines, why));
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.sink.write_all(b"\n")?;
            self.is_torn = false;
        }
        while !bytes.is_empty() {
            match self.sink.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.is_torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, Receiver, Sender};

    fn notice(lines: u64, why: &str) -> String {
        format!("{lines} lines missing: {why}\n")
    }

    /// Takes a write when it is allowed one, and with the outcome that it is told.
    struct Gate {
        allowed: Receiver<Option<io::ErrorKind>>,
        written: Arc<Mutex<String>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.allowed.recv() {
                Ok(Some(kind)) => Err(kind.into()),
                _ => {
                    let text = String::from_utf8_lossy(bytes);
                    self.written.lock().expect("no panic").push_str(&text);
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue whose sink blocks until `Sender` allows a write; all is allowed once that is dropped.
    fn gated() -> (LogQueue, Sender<Option<io::ErrorKind>>, Arc<Mutex<String>>) {
        let (sender, allowed) = mpsc::channel();
        let written = Arc::<Mutex<String>>::default();
        let gate = Gate { allowed, written: written.clone() };
        (LogQueue::start(gate, notice).expect("a thread"), sender, written)
    }

    /// Longer than any write of a test takes.
    const LONG: Duration = Duration::from_secs(60);

    /// Adds `line` so many times. A queue that waits for its sink fails the test, and does not hang it.
    fn add_without_waiting(queue: &LogQueue, line: &[u8], times: usize) {
        let (queue, line) = (queue.clone(), line.to_vec());
        let (sender, added) = mpsc::channel();
        // The test ends without this thread, which goes on once the test has let go of the gate.
        thread::spawn(move || {
            (0..times).for_each(|_| queue.add(&line));
            let _ = sender.send(());
        });
        assert_eq!(added.recv_timeout(LONG), Ok(()), "a line waits for the reader of the log");
    }

    #[test]
    fn a_reader_that_stands_costs_the_bound_and_is_told_what_it_missed() {
        let (queue, gate, written) = gated();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        add_without_waiting(&queue, &line, 10_000);
        let (bytes, dropped) = {
            let state = queue.shared.lock();
            (state.lines.bytes(), state.lines.dropped())
        };
        assert!(bytes <= QUEUE_BYTES_MAX, "{bytes} bytes wait");
        assert!(bytes > QUEUE_BYTES_MAX - 2 * 1064, "{bytes} bytes wait: the bound is used");
        assert!(dropped > 8_000, "{dropped} of 10,000 lines of 1,000 bytes were dropped");
        // The reader is back.
        drop(gate);
        queue.flush(LONG);
        queue.add(b"after\n");
        queue.flush(LONG);
        let written = written.lock().expect("no panic").clone();
        let kept = written.lines().filter(|line| line.starts_with('x')).count() as u64;
        // The thread may have taken a line before the rest were counted.
        let said = format!("{} lines missing: the reader", 10_000 - kept);
        let last: Vec<_> = written.lines().rev().take(2).collect();
        assert_eq!(last[0], "after");
        assert!(last[1].starts_with(&said), "{:?} is not {said:?}", last[1]);
        assert_eq!(written.matches("missing").count(), 1, "one gap, said once");
    }

    #[test]
    fn after_a_gap_half_of_the_queue_is_written_before_more_is_taken() {
        let (queue, gate, written) = gated();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        add_without_waiting(&queue, &line, 2_000);
        // A reader that takes one line between two that come in.
        for _ in 0..200 {
            gate.send(None).expect("a writer");
            add_without_waiting(&queue, &line, 1);
        }
        drop(gate);
        queue.flush(LONG);
        let gaps = written.lock().expect("no panic").matches("missing").count();
        assert_eq!(gaps, 1, "and no gap between each two lines");
    }

    #[test]
    fn lines_that_could_not_be_written_are_counted_and_said_in_their_place() {
        let (queue, gate, written) = gated();
        for kind in [None, Some(io::ErrorKind::StorageFull), Some(io::ErrorKind::StorageFull)] {
            gate.send(kind).expect("a writer");
        }
        ["first\n", "lost\n", "tried\n"].iter().for_each(|line| queue.add(line.as_bytes()));
        // The third line came behind a notice that was refused, then the notice counts it too.
        gate.send(Some(io::ErrorKind::StorageFull)).expect("a writer");
        queue.flush(LONG);
        drop(gate);
        queue.add(b"last\n");
        queue.flush(LONG);
        let written = written.lock().expect("no panic").clone();
        let lines: Vec<_> = written.lines().collect();
        assert_eq!(lines.len(), 3, "{written}");
        assert_eq!((lines[0], lines[2]), ("first", "last"));
        assert!(lines[1].starts_with("2 lines missing: this output could not be written"));
    }

    /// Takes three bytes of the first write, and refuses the rest.
    struct Torn(Vec<u8>, u32, Arc<Mutex<String>>);

    impl Write for Torn {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            let taken = match self.1 {
                1 => &bytes[..3],
                2 => return Err(io::ErrorKind::StorageFull.into()),
                _ => bytes,
            };
            self.0.extend_from_slice(taken);
            *self.2.lock().expect("no panic") = String::from_utf8_lossy(&self.0).into_owned();
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_cut_by_an_error_does_not_run_into_the_next() {
        let written = Arc::<Mutex<String>>::default();
        let sink = Torn(Vec::new(), 0, written.clone());
        let queue = LogQueue::start(sink, notice).expect("a thread");
        queue.add(b"first\n");
        queue.add(b"second\n");
        queue.flush(LONG);
        let written = written.lock().expect("no panic").clone();
        let lines: Vec<_> = written.lines().collect();
        assert_eq!((lines[0], lines[2], lines.len()), ("fir", "second", 3), "{written}");
        assert!(lines[1].starts_with("1 lines missing"), "{written}");
    }

    #[test]
    fn a_pipe_whose_reader_is_gone_ends_nothing() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let queue = LogQueue::start(writer, notice).expect("a thread");
        drop(reader);
        for _ in 0..10_000 {
            queue.add(b"a line\n");
        }
        queue.flush(LONG);
        assert!(queue.shared.lock().lines.is_empty(), "the lines were dropped");
    }

    #[test]
    fn a_flush_waits_no_longer_than_it_may() {
        let (queue, gate, _) = gated();
        queue.add(b"stuck\n");
        queue.flush(Duration::from_millis(1));
        let state = queue.shared.lock();
        assert!(state.is_writing || !state.lines.is_empty(), "it is stuck");
        drop(state);
        drop(gate);
    }
}
