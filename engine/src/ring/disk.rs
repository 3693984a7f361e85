//! A directory of a real disk: aligned direct I/O that bypasses the page cache.
//!
//! Reads, writes, syncs and changes of names go through the ring. What is left (locks, sizes, `mkdir`, lists) are short
//! system calls, made in place: they touch the disk at start or while a segment is prepared, if at all.
//!
//! A file is locked by `flock` for as long as its description is open, and a write that the kernel
//! still works on keeps it open after its process is gone (safety W3).

use super::reactor::Reactor;
use crate::{
    Disk, Durability, FILL_BYTES, File, Pace,
    os::{DirectoryLock, directory, explain_access},
};
use io_uring::{opcode, types};
use rustix::fs::{FlockOperation, OFlags, fstat};
use std::{
    alloc::{self, Layout},
    cell::{Cell, RefCell},
    ffi::CString,
    io,
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    ptr::NonNull,
    rc::Rc,
    slice,
    time::{Duration, Instant},
};

/// Positions and lengths are multiples of this.
const BLOCK_BYTES: usize = 4096;
/// How long an open waits for a file's lock, and how often it tries.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// One directory, for the executor that it was made on.
#[derive(Clone)]
pub struct RingDirectory {
    reactor: Rc<Reactor>,
    path: Rc<Path>,
    /// The directory itself, open from its first sync on: later ones need no descriptor that there may not
    /// be.
    opened: Rc<RefCell<Option<Rc<OwnedFd>>>>,
    spare: Spare,
}

impl RingDirectory {
    pub(super) fn new(reactor: Rc<Reactor>, path: PathBuf) -> Self {
        let path = std::path::absolute(&path).unwrap_or(path);
        Self { reactor, path: path.into(), opened: Rc::default(), spare: Spare::default() }
    }

    async fn opened(&self) -> io::Result<Rc<OwnedFd>> {
        let opened = self.opened.borrow().clone();
        if let Some(opened) = opened {
            return Ok(opened);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = Rc::new(self.open_at(&self.path, flags).await?);
        *self.opened.borrow_mut() = Some(opened.clone());
        Ok(opened)
    }

    fn at(&self, name: &str) -> PathBuf {
        let is_plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        assert!(is_plain, "{name:?} is no name of a file");
        self.path.join(name)
    }

    async fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let name = c_path(path)?;
        // SAFETY: the operation owns the path.
        let opened = unsafe {
            self.reactor.once_by_name(true, name, |name| {
                opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), name.as_ptr())
                    .flags(flags.bits() as i32)
                    .mode(0o600)
                    .build()
            })
        };
        let (opened, _) = opened.await;
        let number = opened.map_err(|error| explain_access(path, error))?;
        // SAFETY: the kernel has just opened it, for this call alone.
        Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
    }

    async fn open_with(
        &self,
        name: &str,
        durability: Durability,
        is_new: bool,
    ) -> io::Result<RingFile> {
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if durability == Durability::EachWrite {
            flags |= OFlags::DSYNC;
        }
        if is_new {
            flags |= OFlags::CREATE | OFlags::EXCL;
        }
        let path = self.at(name);
        let file = match self.open_at(&path, flags | OFlags::DIRECT).await {
            // A file system in memory has no direct I/O, and nothing to bypass. The refused call has made the file.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.open_at(&path, flags - OFlags::EXCL).await?
            }
            opened => opened?,
        };
        let (reactor, spare) = (self.reactor.clone(), self.spare.clone());
        RingFile { reactor, spare, file: Rc::new(file), in_flight: Cell::new(0) }.locked().await
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

impl Disk for RingDirectory {
    type File = RingFile;
    type Lock = DirectoryLock;

    fn subdirectory(&self, name: &str) -> Self {
        Self { path: self.at(name).into(), opened: Rc::default(), ..self.clone() }
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }

    async fn create_dir(&self) -> io::Result<()> {
        directory::make(&self.path)
    }

    async fn lock(&self) -> io::Result<DirectoryLock> {
        directory::lock(&self.at("LOCK"))
    }

    async fn create_paced(
        &self,
        name: &str,
        head: &[u8],
        len: u64,
        durability: Durability,
        pace: &Pace,
    ) -> io::Result<RingFile> {
        assert!(is_aligned(len as usize), "{name} of {len} bytes is no whole blocks");
        // Filled without a sync for each piece, then opened as it is to be used.
        let file = self.open_with(name, Durability::OnSync, true).await?;
        if let Err(error) = file.fill(head, len, pace).await {
            file.close().await?;
            self.remove(name).await?;
            return Err(error);
        }
        match durability {
            Durability::OnSync => Ok(file),
            Durability::EachWrite => {
                file.close().await?;
                self.open_with(name, durability, false).await
            }
        }
    }

    async fn open(&self, name: &str, durability: Durability) -> io::Result<RingFile> {
        self.open_with(name, durability, false).await
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        directory::list(&self.path)
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.at(name);
        // SAFETY: the operation owns the path.
        let removed = unsafe {
            self.reactor.once_by_name(false, c_path(&path)?, |path| {
                opcode::UnlinkAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).build()
            })
        };
        removed.await.0.map(drop).map_err(|error| explain_access(&path, error))
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.at(from), self.at(to));
        // SAFETY: the operation owns both paths.
        let renamed = unsafe {
            self.reactor.once_by_name(false, (c_path(&from)?, c_path(&to)?), |(from, to)| {
                let here = types::Fd(libc::AT_FDCWD);
                opcode::RenameAt::new(here, from.as_ptr(), here, to.as_ptr()).build()
            })
        };
        renamed.await.0.map(drop).map_err(|error| explain_access(&from, error))
    }

    async fn sync_dir(&self) -> io::Result<()> {
        sync(&self.reactor, self.opened().await?).await
    }
}

async fn sync(reactor: &Rc<Reactor>, file: Rc<OwnedFd>) -> io::Result<()> {
    // SAFETY: it points at nothing.
    let synced = unsafe {
        reactor.once(file, (), |file, ()| {
            opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build()
        })
    };
    synced.await.0.map(drop)
}

/// An aligned buffer.
pub struct RingBlock {
    /// Always there until it is dropped.
    memory: Option<Memory>,
    /// No more than there is memory.
    len: usize,
    spare: Spare,
}

impl RingBlock {
    /// Of any content: what one of the last buffers held, or zeroes.
    fn new(len: usize, spare: &Spare) -> Self {
        // Few sizes, so that memory is used again.
        let size = len.next_power_of_two();
        let layout = Layout::from_size_align(size, BLOCK_BYTES).expect("a length that fits");
        let memory = spare.take(layout).unwrap_or_else(|| Memory::zeroes(layout));
        Self { memory: Some(memory), len, spare: spare.clone() }
    }

    fn start(&self) -> *mut u8 {
        self.memory.as_ref().expect("it goes with the value").bytes.as_ptr()
    }
}

/// Memory of a buffer.
struct Memory {
    bytes: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn zeroes(layout: Layout) -> Self {
        assert!(layout.size() > 0, "a buffer of no bytes");
        // SAFETY: the layout is not empty.
        let bytes = NonNull::new(unsafe { alloc::alloc_zeroed(layout) });
        Self { bytes: bytes.unwrap_or_else(|| alloc::handle_alloc_error(layout)), layout }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and this value owns it.
        unsafe { alloc::dealloc(self.bytes.as_ptr(), self.layout) };
    }
}

/// Memory that was used, for the next buffers of the same size.
#[derive(Clone, Default)]
struct Spare(Rc<RefCell<Vec<Memory>>>);

impl Spare {
    /// So many pieces of so many bytes each are kept at most.
    const COUNT_MAX: usize = 8;
    const BYTES_MAX: usize = 256 << 10;

    fn take(&self, layout: Layout) -> Option<Memory> {
        let mut kept = self.0.borrow_mut();
        let at = kept.iter().rposition(|memory| memory.layout == layout)?;
        Some(kept.remove(at))
    }

    fn put(&self, memory: Memory) {
        let mut kept = self.0.borrow_mut();
        if memory.layout.size() <= Self::BYTES_MAX {
            kept.push(memory);
        }
        if kept.len() > Self::COUNT_MAX {
            kept.remove(0);
        }
    }
}

impl AsRef<[u8]> for RingBlock {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: so many bytes were allocated and are initialised, and this value owns them.
        unsafe { slice::from_raw_parts(self.start(), self.len) }
    }
}

impl AsMut<[u8]> for RingBlock {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes were allocated and are initialised, and this value owns them.
        unsafe { slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl Drop for RingBlock {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.spare.put(memory);
        }
    }
}

/// A file that is open for direct I/O.
pub struct RingFile {
    reactor: Rc<Reactor>,
    spare: Spare,
    file: Rc<OwnedFd>,
    /// Operations begun and not seen to end: a dropped future may leave one to the kernel for ever.
    in_flight: Cell<usize>,
}

impl RingFile {
    async fn locked(self) -> io::Result<Self> {
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(self),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    self.reactor.sleep(LOCK_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the empty file one of `len` bytes, `head` and zeroes, that are really written: the first write to
    /// blocks that are only allocated would wait for the file system's journal.
    async fn fill(&self, head: &[u8], len: u64, pace: &Pace) -> io::Result<()> {
        match self.allocate(len).await {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
            _ => {}
        }
        let mut position = 0;
        while position < len {
            let bytes = FILL_BYTES.min((len - position) as usize);
            pace.piece(bytes).await;
            let mut piece = self.block(bytes);
            piece.as_mut().fill(0);
            if position == 0 {
                piece.as_mut()[..head.len()].copy_from_slice(head);
            }
            self.write_at(piece, position).await?;
            position += bytes as u64;
        }
        self.sync().await
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        // SAFETY: it points at nothing.
        let allocated = unsafe {
            let entry = |file, (): &mut ()| opcode::Fallocate::new(file, len).build();
            self.reactor.once(self.file.clone(), (), entry)
        };
        self.tracked(allocated).await.0.map(drop)
    }

    async fn tracked<T>(&self, operation: impl Future<Output = T>) -> T {
        self.in_flight.set(self.in_flight.get() + 1);
        let result = operation.await;
        self.in_flight.set(self.in_flight.get() - 1);
        result
    }
}

impl File for RingFile {
    type Block = RingBlock;

    fn block(&self, len: usize) -> RingBlock {
        assert!(is_aligned(len), "a buffer of {len} bytes is no whole blocks");
        RingBlock::new(len, &self.spare)
    }

    async fn size(&self) -> io::Result<u64> {
        Ok(fstat(&self.file)?.st_size as u64)
    }

    async fn read_at(&self, position: u64, len: usize) -> io::Result<RingBlock> {
        assert!(is_aligned(position as usize), "a read at {position} is not aligned");
        let (mut block, mut filled) = (self.block(len), 0);
        loop {
            // SAFETY: the operation owns the buffer.
            let read = unsafe {
                self.reactor.once(self.file.clone(), block, |file, block| {
                    let rest = &mut block.as_mut()[filled..];
                    opcode::Read::new(file, rest.as_mut_ptr(), rest.len() as u32)
                        .offset(position + filled as u64)
                        .build()
                })
            };
            let (read, back) = self.tracked(read).await;
            block = back;
            let read = read? as usize;
            filled += read;
            // The end of the file, which direct reads meet with a short count, then with none.
            if filled == len || read == 0 || !is_aligned(filled) {
                block.len = filled;
                return Ok(block);
            }
        }
    }

    async fn write_at(&self, block: RingBlock, position: u64) -> io::Result<()> {
        let len = block.len;
        assert!(is_aligned(position as usize), "a write at {position} is not aligned");
        assert!(is_aligned(len), "a write of {len} bytes is no whole blocks");
        // SAFETY: the operation owns the buffer.
        let written = unsafe {
            self.reactor.once(self.file.clone(), block, |file, block| {
                opcode::Write::new(file, block.start(), len as u32).offset(position).build()
            })
        };
        let (written, _) = self.tracked(written).await;
        let written = written? as usize;
        if written < len {
            let text = format!("wrote {written} of {len} bytes at {position}");
            return Err(io::Error::new(io::ErrorKind::WriteZero, text));
        }
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.tracked(sync(&self.reactor, self.file.clone())).await
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for RingFile {
    /// The lock goes here, unless the kernel may still be writing: then it goes with the last operation.
    fn drop(&mut self) {
        if self.in_flight.get() == 0 {
            rustix::fs::flock(&self.file, FlockOperation::Unlock).ok();
        }
    }
}

impl AsFd for RingFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn is_aligned(len: usize) -> bool {
    len.is_multiple_of(BLOCK_BYTES)
}
