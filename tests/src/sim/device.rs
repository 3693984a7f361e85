//! One node's device: its content, its free space, the errors that it is told to give, and the
//! damage that it suffers at rest. The module `disk` shows what a process sees of it.

use super::{
    executor::Process,
    image::{Image, Losses, PAGE_BYTES, Page, SECTOR_BYTES},
    random::Random,
    tree::{self, DirectoryImage, DirectoryNode, FileNode, Node},
    world::Core,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    io,
    rc::Rc,
    time::Duration,
};

/// What a device can be told to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskOperation {
    /// A write to a file.
    Write,
    /// A read of a file.
    Read,
    /// A sync of a file or a directory.
    Sync,
}

/// A failure that waits for its operation.
#[derive(Clone, Debug)]
pub struct DiskFault {
    /// What fails.
    pub operation: DiskOperation,
    /// Only at files whose path contains this.
    pub path_contains: String,
    /// How often it fails.
    pub times: u32,
    /// As what it fails.
    pub error: DiskError,
}

/// As what an operation fails, or how it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// The device could not do it (`EIO`). A failed write may have arrived in part; a failed sync may
    /// have forgotten what it should have made durable.
    Device,
    /// No space left (`ENOSPC`), also in what was set aside for the file.
    Full,
    /// A part from the beginning: of a write it arrives, and the write fails as the seam says; a read
    /// gives so much. A sync fails as [`DiskError::Device`].
    Short,
    /// Nothing is said: a write lands at another offset of the same file or another, a read comes once
    /// from another offset. A sync fails as [`DiskError::Device`].
    Elsewhere,
    /// Nothing is said: the write, or what the sync covers, lies in a cache, and a power cut drops it
    /// unless a later sync was true. A read is not concerned.
    Lost,
}

impl DiskError {
    /// Whether the caller is told.
    fn is_loud(self) -> bool {
        !matches!(self, Self::Elsewhere | Self::Lost)
    }

    pub(crate) fn to_io(self) -> io::Error {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        match self {
            Self::Full => io::Error::from_raw_os_error(ENOSPC),
            Self::Short => io::Error::new(io::ErrorKind::WriteZero, "wrote less than it should"),
            Self::Device | Self::Elsewhere | Self::Lost => io::Error::from_raw_os_error(EIO),
        }
    }
}

/// How many file descriptors a node's process can still get.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Descriptors {
    /// As many as it wants.
    #[default]
    Enough,
    /// Those that it keeps for its files and other nodes: clients are to be refused.
    Kept,
    /// None: to open, to make, to connect and to accept fails (`EMFILE`).
    Gone,
}

/// What a disk has told its processes so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Failures {
    /// How many reads failed, or came from a wrong place.
    pub reads: u32,
    /// A write or a sync failed.
    pub writes: bool,
    /// There was no room.
    pub space: bool,
    /// There was no file descriptor.
    pub descriptors: bool,
}

/// What befalls a sector at rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rot {
    /// One bit of it flips.
    Bit,
    /// It comes back as zeros.
    Zero,
    /// It comes back as it was before it was written last.
    Old,
    /// It cannot be read any more, until it is written.
    Unreadable,
}

/// One node's disk, which outlives its processes.
pub(crate) struct NodeDisk {
    root: RefCell<DirectoryNode>,
    faults: RefCell<Vec<DiskFault>>,
    /// The files of which a read has failed, and none since.
    looked_at: RefCell<BTreeSet<String>>,
    failures: Cell<Failures>,
    /// The bytes that files may take in all.
    quota: Cell<Option<u64>>,
    /// Of the process that runs.
    descriptors: Cell<Descriptors>,
    hangs_until: Cell<Duration>,
    /// When the device has taken the bytes of all writes so far.
    busy_until: Cell<Duration>,
    /// Grows with every power cut: what was in flight before does not land after.
    power_cycle: Cell<u64>,
    handles: Cell<u64>,
    /// Numbers all writes.
    writes: Cell<u64>,
}

impl NodeDisk {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            root: RefCell::default(),
            faults: RefCell::default(),
            looked_at: RefCell::default(),
            failures: Cell::default(),
            quota: Cell::new(None),
            descriptors: Cell::default(),
            hangs_until: Cell::new(Duration::ZERO),
            busy_until: Cell::new(Duration::ZERO),
            power_cycle: Cell::new(0),
            handles: Cell::new(0),
            writes: Cell::new(0),
        })
    }

    /// How long it takes from now until the device has the bytes of a write, behind those of all earlier
    /// writes.
    pub(crate) fn transfer(
        &self,
        now: Duration,
        bytes: usize,
        per_second: Option<u64>,
    ) -> Duration {
        let Some(per_second) = per_second else { return Duration::ZERO };
        let own = Duration::from_nanos(bytes as u64 * 1_000_000_000 / per_second);
        let end = self.busy_until.get().max(now) + own;
        self.busy_until.set(end);
        end - now
    }

    pub(crate) fn root(&self) -> DirectoryNode {
        self.root.borrow().clone()
    }

    pub(crate) fn replace(&self, image: &DirectoryImage) {
        *self.root.borrow_mut() = image.build();
    }

    pub(crate) fn arm(&self, fault: DiskFault) {
        self.faults.borrow_mut().push(fault);
    }

    pub(crate) fn is_armed(&self, operation: DiskOperation) -> bool {
        self.faults.borrow().iter().any(|fault| fault.operation == operation)
    }

    pub(crate) fn disarm(&self) {
        self.faults.borrow_mut().clear();
    }

    pub(crate) fn set_quota(&self, quota: Option<u64>) {
        self.quota.set(quota);
    }

    pub(crate) fn set_descriptors(&self, left: Descriptors) {
        self.descriptors.set(left);
    }

    pub(crate) fn descriptors(&self) -> Descriptors {
        self.descriptors.get()
    }

    /// Takes a file descriptor for a moment.
    pub(crate) fn take_descriptor(&self) -> io::Result<()> {
        const EMFILE: i32 = 24;
        if self.descriptors.get() != Descriptors::Gone {
            return Ok(());
        }
        self.failures.set(Failures { descriptors: true, ..self.failures.get() });
        Err(io::Error::from_raw_os_error(EMFILE))
    }

    pub(crate) fn hang_until(&self, until: Duration) {
        self.hangs_until.set(until);
    }

    /// The process is gone: its locks are free, but for those that writes in flight hold.
    pub(crate) fn process_ended(&self, process: Process) {
        self.descriptors.set(Descriptors::Enough);
        tree::release(&self.root(), process);
    }

    pub(crate) fn power_cut(&self, core: &Core) {
        self.power_cycle.set(self.power_cycle.get() + 1);
        self.hangs_until.set(Duration::ZERO);
        let mut losses = Losses::default();
        tree::power_cut(&self.root(), &core.random.disk, &mut losses);
        core.count(|figures| {
            figures.torn_sectors += losses.torn;
            figures.garbage_sectors += losses.garbage;
            figures.lost_writes += losses.lost;
        });
    }

    pub(crate) fn power_cycle(&self) -> u64 {
        self.power_cycle.get()
    }

    pub(crate) fn new_handle(&self) -> u64 {
        self.handles.set(self.handles.get() + 1);
        self.handles.get()
    }

    pub(crate) fn new_write(&self) -> u64 {
        self.writes.set(self.writes.get() + 1);
        self.writes.get()
    }

    /// Pages land somewhere on the disk where there is room for them.
    pub(crate) fn misdirect(&self, pages: Vec<Page>, lasting: bool, random: &Random) {
        let count = pages.len() as u64;
        let mut files = tree::files(&self.root());
        let places = |file: &FileNode| {
            (file.content.borrow().readable().len() / PAGE_BYTES as u64 + 1).saturating_sub(count)
        };
        files.retain(|(_, file)| places(file) > 0);
        if files.is_empty() {
            return;
        }
        let (_, file) = random.pick(&files);
        let first = random.below(places(file));
        file.content.borrow_mut().arrive(first, pages, lasting);
    }

    /// Rot strikes a sector that is old enough (see `image`): where, or nothing if there is none.
    pub(crate) fn rot(&self, random: &Random, how: Rot) -> Option<String> {
        let files = tree::files(&self.root()).into_iter();
        let files = files.map(|(path, file)| {
            let pages = file.content.borrow().old_pages();
            (path, file, pages)
        });
        let files: Vec<_> = files.filter(|(.., pages)| !pages.is_empty()).collect();
        if files.is_empty() {
            return None;
        }
        let (path, file, pages) = random.pick(&files);
        let page = *random.pick(pages);
        let sector = random.below((PAGE_BYTES / SECTOR_BYTES) as u64) as usize;
        let start = sector * SECTOR_BYTES;
        let mut content = file.content.borrow_mut();
        let range = start..start + SECTOR_BYTES;
        let old = content.version_before(page);
        match how {
            Rot::Bit => content.rot(page, |bytes| {
                let bit = random.below(8 * SECTOR_BYTES as u64) as usize;
                bytes[start + bit / 8] ^= 1 << (bit % 8);
            }),
            Rot::Zero => content.rot(page, |bytes| bytes[range].fill(0)),
            Rot::Old => {
                content.rot(page, |bytes| bytes[range.clone()].copy_from_slice(&old[range]))
            }
            Rot::Unreadable => content.lose_page(page),
        }
        Some(format!("{path} page {page} sector {sector}"))
    }

    pub(crate) fn has_old_bytes(&self) -> bool {
        let files = tree::files(&self.root());
        files.iter().any(|(_, file)| file.content.borrow().has_old_pages())
    }

    /// A file is gone.
    pub(crate) fn lose_file(&self, path: &str) -> io::Result<()> {
        self.file(path)?;
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.directory(directory)?.borrow_mut().lose(name);
        Ok(())
    }

    /// Each of two files has the other's bytes.
    pub(crate) fn swap_files(&self, one: &str, two: &str) -> io::Result<()> {
        let (one, two) = (self.file(one)?, self.file(two)?);
        let in_flight = |file: &FileNode| file.content.borrow().has_in_flight();
        assert!(!in_flight(&one) && !in_flight(&two), "writes are in flight into a swapped file");
        if !Rc::ptr_eq(&one, &two) {
            one.content.swap(&two.content);
        }
        Ok(())
    }

    /// Changes the bytes of a file at rest.
    pub(crate) fn edit(&self, path: &str, edit: impl FnOnce(&mut Image)) -> io::Result<()> {
        let file = self.file(path)?;
        file.content.borrow_mut().edit(edit);
        Ok(())
    }

    pub(crate) fn is_settled(&self, path: &str) -> io::Result<bool> {
        Ok(self.file(path)?.content.borrow().is_settled())
    }

    fn file(&self, path: &str) -> io::Result<Rc<FileNode>> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.directory(directory)?;
        match directory.borrow().find(name) {
            Some(Node::File(file)) => Ok(file.clone()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn directory(&self, path: &str) -> io::Result<DirectoryNode> {
        let mut directory = self.root();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let child = match directory.borrow().find(name) {
                Some(Node::Directory(child)) => child.clone(),
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            };
            directory = child;
        }
        Ok(directory)
    }

    pub(crate) fn used(&self) -> u64 {
        let files = tree::files(&self.root());
        files.iter().map(|(_, file)| file.content.borrow().readable().len()).sum()
    }

    pub(crate) fn refuses_space(&self, bytes: u64) -> bool {
        let refuses = self.quota.get().is_some_and(|quota| self.used() + bytes > quota);
        let failures = self.failures.get();
        self.failures.set(Failures { space: failures.space || refuses, ..failures });
        refuses
    }

    pub(crate) fn failures(&self) -> Failures {
        self.failures.get()
    }

    /// The failure that waits for this operation, if one does.
    pub(crate) fn fault(&self, operation: DiskOperation, path: &str) -> Option<DiskError> {
        self.fault_of(operation, path, |_| true)
    }

    /// The same for an operation that is not made to lie.
    pub(crate) fn loud_fault(&self, operation: DiskOperation, path: &str) -> Option<DiskError> {
        self.fault_of(operation, path, DiskError::is_loud)
    }

    fn fault_of(
        &self,
        operation: DiskOperation,
        path: &str,
        fits: impl Fn(DiskError) -> bool,
    ) -> Option<DiskError> {
        // What happens once does not happen again to the second look that a reader relies on.
        if operation == DiskOperation::Read && self.looked_at.borrow_mut().remove(path) {
            return None;
        }
        let mut faults = self.faults.borrow_mut();
        let place = faults.iter().position(|fault| {
            fault.operation == operation && path.contains(&fault.path_contains) && fits(fault.error)
        })?;
        let fault = &mut faults[place];
        fault.times -= 1;
        let error = fault.error;
        let failures = self.failures.get();
        self.failures.set(match operation {
            DiskOperation::Read => Failures { reads: failures.reads + 1, ..failures },
            _ => Failures { writes: failures.writes || error.is_loud(), ..failures },
        });
        if fault.times == 0 {
            faults.remove(place);
            if operation == DiskOperation::Read {
                self.looked_at.borrow_mut().insert(path.to_owned());
            }
        }
        Some(error)
    }

    /// Calls as soon as the disk does anything: at once, unless it hangs.
    pub(crate) fn when_awake(
        self: Rc<Self>,
        core: &Rc<Core>,
        call: impl FnOnce(&Rc<Core>) + 'static,
    ) {
        /// One that hangs is looked at so often: it may go on before it was to.
        const LOOK: Duration = Duration::from_millis(50);
        let hangs = self.hangs_until.get().saturating_sub(core.clock.now());
        if hangs.is_zero() {
            return call(core);
        }
        core.clock.after(hangs.min(LOOK), move |core| self.when_awake(core, call));
    }
}
