//! The log file of a node: one writer for all of its groups, and one durable write for all that waits.
//!
//! ```text
//! groups ── append ──► what waits ──► the writer's thread: one write, O_DIRECT and O_DSYNC ──► each is told
//!                                          ▲ segments of 64 MiB, filled with zeros
//!                                     the preparer's thread
//! ```
//!
//! The bytes of a record are its length, its checksum, its group and its content: enough to recover from. This program is
//! never started on a log again, and has no recovery.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use rustix::fs::OFlags;

/// A segment has so many bytes.
const SEGMENT_BYTES: u64 = 64 << 20;
/// So many segments are filled with zeros ahead of the writer.
const PREPARED: usize = 2;
/// Writes and their buffer are aligned to this.
const BLOCK: usize = 4096;
/// The most bytes of one write.
const WRITE_BYTES: usize = 1 << 20;

/// Is told when a record is durable, or why it is not.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The log of a node. A clone is another handle; the writer ends with the last one.
#[derive(Clone)]
pub(crate) struct NodeLog(Arc<Handle>);

struct Handle(Arc<Waiting>);

impl Drop for Handle {
    fn drop(&mut self) {
        let mut records = self.0.records.lock().expect("nobody panics with it");
        records.is_closed = true;
        self.0.came.notify_one();
    }
}

#[derive(Default)]
struct Waiting {
    records: Mutex<Records>,
    came: Condvar,
}

/// The records that wait. Their number is bounded by the commands under way.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    done: Vec<Done>,
    is_closed: bool,
}

impl NodeLog {
    /// Makes the directory, and starts the writer.
    ///
    /// # Errors
    /// The directory or the first segment cannot be made.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir(directory)?;
        let segments = prepare(directory.to_owned())?;
        let waiting = Arc::<Waiting>::default();
        let writer = Writer { segment: next(&segments)?, position: 0, segments };
        let theirs = waiting.clone();
        thread::Builder::new().name("log".into()).spawn(move || writer.run(&theirs))?;
        Ok(Self(Arc::new(Handle(waiting))))
    }

    /// Appends a record of a group; `done` is called when it is durable. Records become durable in their order.
    pub(crate) fn append(&self, group: u32, content: &[u8], done: Done) {
        let Handle(waiting) = &*self.0;
        let mut records = waiting.records.lock().expect("nobody panics with it");
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&group.to_le_bytes()), content);
        records.bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        records.bytes.extend_from_slice(&checksum.to_le_bytes());
        records.bytes.extend_from_slice(&group.to_le_bytes());
        records.bytes.extend_from_slice(content);
        records.done.push(done);
        waiting.came.notify_one();
    }
}

struct Writer {
    segment: File,
    /// Where the next write begins in it.
    position: u64,
    segments: Receiver<io::Result<File>>,
}

impl Writer {
    fn run(mut self, waiting: &Waiting) {
        let mut buffer = vec![0; WRITE_BYTES + BLOCK];
        let start = buffer.as_ptr().align_offset(BLOCK);
        let buffer = &mut buffer[start..start + WRITE_BYTES];
        loop {
            let (bytes, done) = {
                let has_none =
                    |records: &mut Records| records.done.is_empty() && !records.is_closed;
                let records = waiting.records.lock().expect("nobody panics with it");
                let mut records =
                    waiting.came.wait_while(records, has_none).expect("nobody panics with it");
                if records.done.is_empty() {
                    return;
                }
                (std::mem::take(&mut records.bytes), std::mem::take(&mut records.done))
            };
            let written = bytes.chunks(WRITE_BYTES).try_for_each(|piece| self.write(piece, buffer));
            for done in done {
                done(written.as_ref().map(|_| ()).map_err(|error| error.kind().into()));
            }
            if written.is_err() {
                return;
            }
        }
    }

    /// Writes durably, in whole blocks.
    fn write(&mut self, piece: &[u8], buffer: &mut [u8]) -> io::Result<()> {
        let len = piece.len().next_multiple_of(BLOCK);
        if self.position + len as u64 > SEGMENT_BYTES {
            (self.segment, self.position) = (next(&self.segments)?, 0);
        }
        buffer[..piece.len()].copy_from_slice(piece);
        buffer[piece.len()..len].fill(0);
        self.segment.write_all_at(&buffer[..len], self.position)?;
        self.position += len as u64;
        Ok(())
    }
}

fn next(segments: &Receiver<io::Result<File>>) -> io::Result<File> {
    segments.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
}

/// Starts the thread that fills segments with zeros: a write into a file that has its blocks already syncs no metadata.
fn prepare(directory: PathBuf) -> io::Result<Receiver<io::Result<File>>> {
    let (sender, receiver) = sync_channel(PREPARED);
    let fill = move || fill_segments(&directory, &sender);
    thread::Builder::new().name("prepare".into()).spawn(fill)?;
    Ok(receiver)
}

/// Ends when the writer is gone.
fn fill_segments(directory: &Path, sender: &SyncSender<io::Result<File>>) {
    for number in 0.. {
        let segment = fill_segment(&directory.join(format!("{number:06}.log")));
        if sender.send(segment).is_err() {
            return;
        }
    }
}

fn fill_segment(path: &Path) -> io::Result<File> {
    let plain = OpenOptions::new().write(true).create_new(true).open(path)?;
    let zeros = vec![0; WRITE_BYTES];
    for position in (0..SEGMENT_BYTES).step_by(WRITE_BYTES) {
        plain.write_all_at(&zeros, position)?;
    }
    plain.sync_all()?;
    File::open(path.parent().expect("a file in a directory"))?.sync_all()?;
    let flags = (OFlags::DIRECT | OFlags::DSYNC).bits() as i32;
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn each_record_is_in_the_file_when_its_end_is_told() {
        // Not below the directory for temporary files, which may be in memory.
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target");
        std::fs::create_dir_all(&target).expect("a directory");
        let directory = target.join(format!("openraft-log-{}", std::process::id()));
        let log = NodeLog::open(&directory).expect("a log");
        let (sender, receiver) = channel();
        for group in 0..5_u32 {
            let sender = sender.clone();
            let done = Box::new(move |result: io::Result<()>| {
                sender.send((group, result.is_ok())).expect("it is waited for");
            });
            log.append(group, &[7; 10], done);
        }
        let told: Vec<_> = (0..5).map(|_| receiver.recv().expect("an end")).collect();
        assert_eq!(told, (0..5).map(|group| (group, true)).collect::<Vec<_>>());
        let bytes = std::fs::read(directory.join("000000.log")).expect("a segment");
        let records = bytes.windows(10).filter(|window| *window == [7; 10]).count();
        drop(log);
        std::fs::remove_dir_all(&directory).expect("it is removed");
        assert_eq!((records, bytes.len() as u64), (5, SEGMENT_BYTES));
    }
}
