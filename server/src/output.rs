//! Where the text of this program goes: its standard output, and its standard error with the log.
//!
//! No output ends the program or panics when it is closed or full. While a node runs, its standard error
//! is written by the thread of the log alone, so a reader that stands stops nothing: see [`LogQueue`]. The
//! same holds for what `purlin dev` prints, since it must obey a signal.

use crate::log_queue::{LogQueue, Notice};
use rustix::event::{PollFd, PollFlags, poll};
use std::{
    fs::File,
    io::{self, Write, stderr, stdout},
    os::fd::AsFd,
    sync::OnceLock,
    time::Duration,
};

/// How long a process that ends waits until its log is written, and `purlin dev` for each message.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// The log of this process, once it was started.
static LOG: OnceLock<LogQueue> = OnceLock::new();
/// The standard output, where a reader that stands must stop nothing.
static OUT: OnceLock<LogQueue> = OnceLock::new();

/// Prints `text` and the end of a line, at once. When nobody reads any more, there is nobody to tell.
pub(crate) fn say(text: impl AsRef<str>) {
    if let Some(out) = OUT.get() {
        out.add(format!("{}\n", text.as_ref()).as_bytes());
        return out.flush(FLUSH_WAIT);
    }
    // A closed pipe ends no cluster.
    let _ = tell(text);
}

/// Prints `text` and the end of a line, at once. For a command that has nothing to do but to be read.
///
/// # Errors
/// Nobody reads any more, or the output takes nothing.
pub(crate) fn tell(text: impl AsRef<str>) -> io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{}", text.as_ref())?;
    out.flush()
}

/// From now on [`say`] waits for a reader that stands at most [`FLUSH_WAIT`].
///
/// # Errors
/// The machine refuses a thread or a descriptor.
pub(crate) fn say_in_background() -> io::Result<()> {
    fn notice(lines: u64, why: &str) -> String {
        format!("{lines} messages are missing here: {why}\n")
    }
    let sink = Sink(File::from(stdout().as_fd().try_clone_to_owned()?));
    let out = LogQueue::start(sink, notice)?;
    // A second start, in a process that embeds this one, leaves the first as it is.
    let _ = OUT.set(out);
    Ok(())
}

/// Writes `text` and the end of a line to the standard error: behind the lines of the log, where there
/// is one.
pub(crate) fn complain(text: impl AsRef<str>) {
    let line = format!("{}\n", text.as_ref());
    match LOG.get() {
        Some(log) => log.add(line.as_bytes()),
        // In one write, so that the lines of two processes do not mix.
        None => drop(stderr().write_all(line.as_bytes())),
    }
}

/// Starts the log of this process, or finds the one that was started.
///
/// # Errors
/// The machine refuses a thread or a descriptor.
pub(crate) fn start_log(notice: Notice) -> io::Result<&'static LogQueue> {
    if let Some(log) = LOG.get() {
        return Ok(log);
    }
    // A descriptor of its own: a write that stands would hold the lock of `stderr()`.
    let sink = Sink(File::from(stderr().as_fd().try_clone_to_owned()?));
    let log = LogQueue::start(sink, notice)?;
    Ok(LOG.get_or_init(|| log))
}

/// Waits until the log is written, but not for a reader that stands.
pub(crate) fn flush_log() {
    if let Some(log) = LOG.get() {
        log.flush(FLUSH_WAIT);
    }
}

/// An output, which another process may have made non-blocking.
struct Sink<W>(W);

impl<W: Write + AsFd> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{PipeWriter, Read},
        os::fd::BorrowedFd,
    };

    /// A pipe that is full at the first write, and has room when that is asked for.
    struct FullOnce(PipeWriter, bool);

    impl Write for FullOnce {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !std::mem::replace(&mut self.1, true) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AsFd for FullOnce {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    #[test]
    fn a_standard_error_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut sink = Sink(FullOnce(writer, false));
        sink.write_all(b"line\n").expect("there is room at the second attempt");
        drop(sink);
        let mut line = String::new();
        reader.read_to_string(&mut line).expect("text");
        assert_eq!(line, "line\n");
    }
}
