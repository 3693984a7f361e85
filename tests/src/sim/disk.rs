//! A node's disk behind the `Disk` seam: latency, locks, space, errors, and the state that a crash
//! leaves.
//!
//! A submitted write belongs to the device: it completes even if its task or its process ends, and
//! it holds the lock of the file until then. Only a power cut stops it half way.

use super::{
    clock::{Promise, Sleep},
    device::{DiskError, DiskOperation, NodeDisk},
    executor::Process,
    image::{Completion, Content, Image, PAGE_BYTES, Submission},
    random::Latency,
    tree::{DirectoryNode, FileNode, Holder, Node},
    watch::SeenWrite,
    world::{Core, Event},
};
use purlin_storage::{Disk, Durability, FILL_BYTES, File, Pace};
use std::{
    fmt, io,
    rc::{Rc, Weak},
    time::Duration,
};

/// How fast the disks are.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// A write, durable or not, beside the time of its transfer.
    pub write: Latency,
    /// How fast the device takes the bytes of writes, one write after the other; `None` for at once.
    pub bytes_per_second: Option<u64>,
    /// A sync of a file or a directory.
    pub sync: Latency,
    /// A read.
    pub read: Latency,
    /// Anything else.
    pub metadata: Latency,
}

impl Default for DiskOptions {
    fn default() -> Self {
        let micros = Duration::from_micros;
        Self {
            write: Latency::steady(micros(30), micros(200)).with_spikes(0.002, micros(50_000)),
            bytes_per_second: None,
            sync: Latency::steady(micros(100), micros(500)).with_spikes(0.005, micros(100_000)),
            read: Latency::steady(micros(20), micros(80)),
            metadata: Latency::steady(micros(5), micros(20)),
        }
    }
}

/// A directory of a node's disk.
#[derive(Clone)]
pub struct SimDisk {
    core: Weak<Core>,
    disk: Rc<NodeDisk>,
    process: Process,
    /// Below the root, with a slash after each name.
    path: String,
}

impl SimDisk {
    pub(crate) fn new(core: &Rc<Core>, disk: Rc<NodeDisk>, process: Process) -> Self {
        Self { core: Rc::downgrade(core), disk, process, path: String::new() }
    }

    fn core(&self) -> Rc<Core> {
        self.core.upgrade().expect("tasks end before their world")
    }

    async fn wait(&self, latency: Latency) {
        let (core, awake) = (self.core(), Promise::new());
        let told = awake.clone();
        self.disk.clone().when_awake(&core, move |_| told.keep(()));
        awake.await;
        let until = core.clock.now() + latency.draw(&core.random.disk);
        Sleep::new(core, until).await;
    }

    async fn wait_for_metadata(&self) {
        let latency = self.core().options.disk.metadata;
        self.wait(latency).await;
    }

    /// Filling a file takes its time, if the device has a rate.
    async fn fill(&self, len: u64, pace: &Pace) {
        for position in (0..len).step_by(FILL_BYTES) {
            let (core, bytes) = (self.core(), FILL_BYTES.min((len - position) as usize));
            pace.piece(bytes).await;
            let now = core.clock.now();
            let transfer = self.disk.transfer(now, bytes, core.options.disk.bytes_per_second);
            if !transfer.is_zero() {
                Sleep::new(core, now + transfer).await;
            }
        }
    }

    fn directory(&self) -> io::Result<DirectoryNode> {
        self.disk.directory(&self.path)
    }

    /// A watched write to a file of this directory is durable now, or as soon as the file's name is.
    fn is_durable(&self, core: &Core, file: &Rc<FileNode>, number: u64) {
        if self.directory().is_ok_and(|directory| directory.borrow().keeps(file)) {
            let (at, node) = (core.clock.now(), self.process.node);
            core.watchers.tell(|watcher| watcher.durable(at, node, number));
        } else {
            file.is_unnamed(number);
        }
    }

    fn new_holder(&self) -> Holder {
        Holder { process: self.process, handle: self.disk.new_handle() }
    }

    fn open_file(&self, name: &str, file: Rc<FileNode>, durability: Durability) -> SimFile {
        let holder = self.new_holder();
        *file.holder.borrow_mut() = Some(holder);
        let path = format!("{}{name}", self.path);
        SimFile { directory: self.clone(), path, file, holder, durability }
    }
}

/// How long an open waits for a file's lock.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(5);

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn subdirectory(&self, name: &str) -> Self {
        Self { path: format!("{}{name}/", self.path), ..self.clone() }
    }

    fn location(&self) -> String {
        format!("node {}:/{}", self.process.node, self.path)
    }

    async fn create_dir(&self) -> io::Result<()> {
        self.wait_for_metadata().await;
        let path = self.path.trim_end_matches('/');
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.disk.directory(parent)?;
        if name.is_empty() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        parent.borrow_mut().add(name, Node::Directory(DirectoryNode::default()))
    }

    async fn lock(&self) -> io::Result<SimLock> {
        self.wait_for_metadata().await;
        self.disk.take_descriptor()?;
        let directory = self.directory()?;
        if directory.borrow().holder.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let holder = self.new_holder();
        directory.borrow_mut().holder = Some(holder);
        Ok(SimLock { directory, holder })
    }

    async fn create_paced(
        &self,
        name: &str,
        head: &[u8],
        len: u64,
        durability: Durability,
        pace: &Pace,
    ) -> io::Result<SimFile> {
        let directory = self.directory()?;
        self.disk.take_descriptor()?;
        if self.disk.refuses_space(len) {
            self.wait_for_metadata().await;
            return Err(DiskError::Full.to_io());
        }
        // A crash in the middle leaves the name and any part of the length.
        let part = len / PAGE_BYTES as u64;
        let part = self.core().random.disk.below(part + 1) * PAGE_BYTES as u64;
        let file = FileNode::new(Content::durable(Image::zeroed(part)));
        directory.borrow_mut().add(name, Node::File(file.clone()))?;
        let handle = self.open_file(name, file, durability);
        self.fill(len, pace).await;
        let latency = self.core().options.disk.sync;
        self.wait(latency).await;
        if let Some(error) = self.disk.loud_fault(DiskOperation::Write, &handle.path) {
            return Err(error.to_io());
        }
        handle.file.content.borrow_mut().extend(head, len);
        Ok(handle)
    }

    async fn open(&self, name: &str, durability: Durability) -> io::Result<SimFile> {
        self.wait_for_metadata().await;
        self.disk.take_descriptor()?;
        let core = self.core();
        let deadline = core.clock.now() + LOCK_WAIT;
        loop {
            let directory = self.directory()?;
            let file = match directory.borrow().find(name) {
                Some(Node::File(file)) => file.clone(),
                Some(Node::Directory(_)) => return Err(io::ErrorKind::IsADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            };
            if !file.is_locked() {
                return Ok(self.open_file(name, file, durability));
            }
            if core.clock.now() >= deadline {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Sleep::new(core.clone(), core.clock.now() + LOCK_RETRY).await;
        }
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        self.wait_for_metadata().await;
        let directory = self.directory()?;
        let names = directory.borrow().names();
        Ok(names)
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.wait_for_metadata().await;
        self.directory()?.borrow_mut().remove(name)
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.wait_for_metadata().await;
        self.directory()?.borrow_mut().rename(from, to)
    }

    async fn sync_dir(&self) -> io::Result<()> {
        let directory = self.directory()?;
        self.disk.take_descriptor()?;
        let covered = directory.borrow().sync_begins();
        let latency = self.core().options.disk.sync;
        self.wait(latency).await;
        if let Some(error) = self.disk.loud_fault(DiskOperation::Sync, &self.path) {
            return Err(error.to_io());
        }
        let numbers = directory.borrow_mut().sync_done(covered);
        let (core, node) = (self.core(), self.process.node);
        for number in numbers {
            core.watchers.tell(|watcher| watcher.durable(core.clock.now(), node, number));
        }
        Ok(())
    }
}

/// Keeps a directory locked.
pub struct SimLock {
    directory: DirectoryNode,
    holder: Holder,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut directory = self.directory.borrow_mut();
        if directory.holder == Some(self.holder) {
            directory.holder = None;
        }
    }
}

/// An open file.
pub struct SimFile {
    directory: SimDisk,
    path: String,
    file: Rc<FileNode>,
    holder: Holder,
    durability: Durability,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of node {}", self.path, self.directory.process.node)
    }
}

impl SimFile {
    /// Does `land` when the device is done, whatever becomes of the caller, unless the power fails.
    fn after_device<T: 'static>(
        &self,
        latency: Duration,
        land: impl FnOnce(&Rc<Core>, &Rc<FileNode>) -> io::Result<T> + 'static,
    ) -> Promise<io::Result<T>> {
        let core = self.directory.core();
        let promise = Promise::new();
        let (told, file, disk) = (promise.clone(), self.file.clone(), self.directory.disk.clone());
        let power_cycle = disk.power_cycle();
        let node = u64::from(self.directory.process.node.0);
        let land = move |core: &Rc<Core>| {
            if disk.power_cycle() == power_cycle {
                core.trace.event(Event::Disk, node, latency.as_nanos() as u64);
                told.keep(land(core, &file));
            }
        };
        let disk = self.directory.disk.clone();
        disk.when_awake(&core, move |core| core.clock.after(latency, land));
        promise
    }

    fn write(&self, submission: Submission, bytes: usize, number: u64) -> Promise<io::Result<()>> {
        let core = self.directory.core();
        let disk = &self.directory.disk;
        let options = &core.options.disk;
        let transfer = disk.transfer(core.clock.now(), bytes, options.bytes_per_second);
        let latency = options.write.draw(&core.random.disk) + transfer;
        let fault = disk.fault(DiskOperation::Write, &self.path);
        let lasting = self.durability == Durability::EachWrite;
        let (device, named) = (disk.clone(), self.directory.clone());
        let node = self.directory.process.node;
        self.after_device(latency, move |core, file| {
            let mut content = file.content.borrow_mut();
            let corrupted =
                || core.watchers.tell(|watcher| watcher.corrupted(core.clock.now(), node));
            match fault {
                None => {}
                // Told done, and in a cache that a power cut empties.
                Some(DiskError::Lost) => {
                    content.complete(submission, false);
                    corrupted();
                    return Ok(());
                }
                Some(DiskError::Elsewhere) => {
                    let (_, pages) = content.take(submission);
                    drop(content);
                    device.misdirect(pages, lasting, &core.random.disk);
                    corrupted();
                    return Ok(());
                }
                Some(DiskError::Short) => {
                    content.stop_short(submission, &core.random.disk);
                    return Err(DiskError::Short.to_io());
                }
                Some(error @ (DiskError::Device | DiskError::Full)) => {
                    content.fail(submission, &core.random.disk);
                    return Err(error.to_io());
                }
            }
            content.complete(submission, lasting);
            drop(content);
            if core.watchers.are_any() {
                match lasting {
                    true => named.is_durable(core, file, number),
                    false => file.is_unsynced(number),
                }
            }
            Ok(())
        })
    }

    /// Shows a write to those who look on. Returns its number.
    fn show(&self, position: u64, bytes: &[u8]) -> u64 {
        let (core, disk) = (self.directory.core(), &self.directory.disk);
        let (node, number) = (self.directory.process.node, disk.new_write());
        let directory = &self.directory.path;
        let write = SeenWrite { node, number, directory, position, bytes };
        core.watchers.tell(|watcher| watcher.written(core.clock.now(), &write));
        number
    }

    fn sync_from(&self, covered: Completion) -> Promise<io::Result<()>> {
        let core = self.directory.core();
        let disk = &self.directory.disk;
        let latency = core.options.disk.sync.draw(&core.random.disk);
        let fault = disk.fault(DiskOperation::Sync, &self.path);
        let (node, named) = (self.directory.process.node, self.directory.clone());
        self.after_device(latency, move |core, file| {
            match fault {
                None => {}
                // Told done, and nothing was.
                Some(DiskError::Lost) => {
                    core.watchers.tell(|watcher| watcher.corrupted(core.clock.now(), node));
                    return Ok(());
                }
                Some(error) => {
                    if core.random.disk.chance(0.5) {
                        file.content.borrow_mut().sync_lost(covered);
                        file.take_synced(covered);
                    }
                    return Err(error.to_io());
                }
            }
            file.content.borrow_mut().sync_done(covered);
            for number in file.take_synced(covered) {
                named.is_durable(core, file, number);
            }
            Ok(())
        })
    }
}

/// `O_DIRECT` refuses what is not aligned, and so do we.
fn check_aligned(position: u64, len: usize) -> io::Result<()> {
    let page = PAGE_BYTES as u64;
    if !position.is_multiple_of(page) || !len.is_multiple_of(PAGE_BYTES) || len == 0 {
        let what = format!("{len} bytes at {position} are not whole blocks of {page}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(())
}

impl File for SimFile {
    type Block = Vec<u8>;

    fn block(&self, len: usize) -> Vec<u8> {
        // Any content, as the seam says: who counts on zeros shall be found.
        vec![0xa5; len]
    }

    async fn size(&self) -> io::Result<u64> {
        self.directory.wait_for_metadata().await;
        Ok(self.file.content.borrow().readable().len())
    }

    async fn read_at(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        check_aligned(position, len)?;
        let latency = self.directory.core().options.disk.read;
        self.directory.wait(latency).await;
        let fault = self.directory.disk.fault(DiskOperation::Read, &self.path);
        let content = self.file.content.borrow();
        if !content.can_read(position, len) {
            return Err(DiskError::Device.to_io());
        }
        let random = &self.directory.core().random.disk;
        match fault {
            None | Some(DiskError::Lost) => Ok(content.readable().read(position, len)),
            Some(DiskError::Short) => {
                let len = random.below((len / PAGE_BYTES) as u64) as usize * PAGE_BYTES;
                Ok(content.readable().read(position, len))
            }
            Some(DiskError::Elsewhere) => {
                let pages = content.readable().len().div_ceil(PAGE_BYTES as u64).max(1);
                let elsewhere = random.below(pages) * PAGE_BYTES as u64;
                let mut bytes = content.readable().read(elsewhere, len);
                bytes.resize(content.readable().read(position, len).len(), 0);
                Ok(bytes)
            }
            Some(error @ (DiskError::Device | DiskError::Full)) => Err(error.to_io()),
        }
    }

    async fn write_at(&self, block: Vec<u8>, position: u64) -> io::Result<()> {
        check_aligned(position, block.len())?;
        let submission = self.file.content.borrow_mut().submit(position, &block);
        let number = self.show(position, &block);
        self.write(submission, block.len(), number).await
    }

    async fn sync(&self) -> io::Result<()> {
        let covered = self.file.content.borrow().sync_begins();
        self.sync_from(covered).await
    }

    async fn close(self) -> io::Result<()> {
        self.directory.wait_for_metadata().await;
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut holder = self.file.holder.borrow_mut();
        if *holder == Some(self.holder) {
            *holder = None;
        }
    }
}
