//! A disk in memory that a test can stop, tear, fill and break, and tasks that a test polls by hand.
//!
//! An operation takes effect when the test lets it complete, in any order. A power cut keeps what is
//! durable, and of every write that is not any subset of its 512-byte sectors.

mod batches;
pub(crate) mod device;
mod faults;
mod node;
pub(crate) mod open_wal;
mod random;
pub(crate) mod world;

pub(crate) use self::batches::{append, entries, hard_state};
pub(crate) use self::faults::{Event, Faults};
pub(crate) use self::random::Random;

use self::node::{Loose, Node};
use crate::{
    Batch, Disk, Durability, File, Pace, Recovered, StorageError, Wal, WalConfig, align::BLOCK,
};
use purlin_rsm::{
    ClusterId, Entry, GroupId, Identity, Incarnation, Index, NodeId, Sequence, ShardId,
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

const SECTOR: usize = 512;

/// A directory in memory. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk {
    shared: Rc<RefCell<Shared>>,
}

#[derive(Default)]
struct Shared {
    nodes: BTreeMap<u64, Node>,
    /// The names as a process sees them, and as a power cut leaves them.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// What has led from the durable names to the others: whose name was taken away, and what it is called
    /// now.
    renames: Vec<(u64, Option<String>)>,
    next: u64,
    is_locked: bool,
    /// Operations that wait for the test to let them complete; nothing while all complete at once.
    waiting: Option<BTreeSet<u64>>,
    pub(crate) faults: Faults,
    /// Bytes that may still be allocated.
    space: Option<u64>,
    log: Vec<Event>,
    /// Reads, and the bytes that were asked for in them.
    reads: u64,
    read_bytes: u64,
}

pub(crate) struct MemoryFile {
    disk: MemoryDisk,
    node: u64,
    durability: Durability,
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if let Ok(mut shared) = self.disk.shared.try_borrow_mut()
            && let Some(node) = shared.nodes.get_mut(&self.node)
        {
            node.is_locked = false;
        }
    }
}

pub(crate) struct MemoryLock(MemoryDisk);

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.shared.borrow_mut().is_locked = false;
    }
}

impl MemoryDisk {
    /// The bytes that were asked for in reads since this was last called.
    pub(crate) fn take_read_bytes(&self) -> u64 {
        std::mem::take(&mut self.shared.borrow_mut().read_bytes)
    }

    /// How many reads there were since this was last called.
    pub(crate) fn take_reads(&self) -> u64 {
        std::mem::take(&mut self.shared.borrow_mut().reads)
    }

    /// From now on operations complete by [`Self::step`] only.
    pub(crate) fn hold(&self) {
        self.shared.borrow_mut().waiting.get_or_insert_default();
    }

    /// Lets one waiting operation complete. False when none waits.
    pub(crate) fn step(&self, random: &mut Random) -> bool {
        let mut shared = self.shared.borrow_mut();
        let Some(waiting) = &mut shared.waiting else { return false };
        if waiting.is_empty() {
            return false;
        }
        let at = random.below(waiting.len() as u64) as usize;
        let id = *waiting.iter().nth(at).unwrap();
        waiting.remove(&id);
        true
    }

    /// How many operations were begun.
    fn operations(&self) -> u64 {
        self.shared.borrow().next
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.shared.borrow_mut().faults = faults;
    }

    /// Whether the read that was to be flipped, or to come from elsewhere, has been met.
    pub(crate) fn is_free_of_faults(&self) -> bool {
        let faults = &self.shared.borrow().faults;
        faults.flip_read_after.is_none() && faults.read_elsewhere.is_none()
    }

    pub(crate) fn set_space(&self, space: Option<u64>) {
        self.shared.borrow_mut().space = space;
    }

    pub(crate) fn take_log(&self) -> Vec<Event> {
        std::mem::take(&mut self.shared.borrow_mut().log)
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let shared = self.shared.borrow();
        shared.nodes[&shared.names[name]].bytes.clone()
    }

    pub(crate) fn files(&self) -> Vec<String> {
        self.shared.borrow().names.keys().cloned().collect()
    }

    /// Changes bytes at rest.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut shared = self.shared.borrow_mut();
        let node = shared.names[name];
        let node = shared.nodes.get_mut(&node).unwrap();
        change(&mut node.bytes);
        node.durable = node.bytes.clone();
        node.loose.clear();
    }

    /// Lays a file into the directory.
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut shared = self.shared.borrow_mut();
        let id = shared.next;
        shared.next += 1;
        shared.nodes.insert(id, Node { durable: bytes.clone(), bytes, ..Node::default() });
        shared.names.insert(name.to_owned(), id);
        shared.durable_names.insert(name.to_owned(), id);
    }

    pub(crate) fn delete(&self, name: &str) {
        let mut shared = self.shared.borrow_mut();
        shared.names.remove(name);
        shared.durable_names.remove(name);
    }

    /// A copy of what reads see now.
    pub(crate) fn image(&self) -> Self {
        let copy = Self::default();
        for name in self.files() {
            copy.put(&name, self.bytes(&name));
        }
        copy
    }

    /// The power fails: what is not durable survives sector by sector, or not. Of the changes of names
    /// since the last sync of the directory any may survive without the others.
    pub(crate) fn cut_power(&self, random: &mut Random) {
        let mut shared = self.shared.borrow_mut();
        shared.waiting = shared.waiting.is_some().then(BTreeSet::new);
        shared.is_locked = false;
        for node in shared.nodes.values_mut() {
            for write in std::mem::take(&mut node.loose).into_values() {
                let style = random.below(4);
                for (at, sector) in write.data.chunks(SECTOR).enumerate() {
                    let keep = style == 0 || style > 1 && random.chance(50);
                    if keep {
                        node.write_durably(write.position + (at * SECTOR) as u64, sector);
                    }
                }
            }
            node.bytes = node.durable.clone();
            node.is_locked = false;
        }
        for (node, name) in std::mem::take(&mut shared.renames) {
            if random.chance(50) {
                shared.durable_names.retain(|_, other| *other != node);
                if let Some(name) = name {
                    shared.durable_names.insert(name, node);
                }
            }
        }
        shared.names = shared.durable_names.clone();
    }

    /// The process is killed: what was written stays readable, what was in flight lands or not; none
    /// of it is durable yet.
    pub(crate) fn kill(&self, random: &mut Random) {
        let mut shared = self.shared.borrow_mut();
        shared.waiting = shared.waiting.is_some().then(BTreeSet::new);
        shared.is_locked = false;
        for node in shared.nodes.values_mut() {
            node.is_locked = false;
            for write in node.loose.values_mut().filter(|write| !write.is_complete) {
                if random.chance(50) {
                    node.bytes[write.position as usize..][..write.data.len()]
                        .copy_from_slice(&write.data);
                    write.is_complete = true;
                }
            }
            node.loose.retain(|_, write| write.is_complete);
        }
    }

    async fn turn(&self) -> u64 {
        let id = {
            let mut shared = self.shared.borrow_mut();
            let id = shared.next;
            shared.next += 1;
            if let Some(waiting) = &mut shared.waiting {
                waiting.insert(id);
            }
            id
        };
        self.wait(id).await;
        id
    }

    async fn wait(&self, id: u64) {
        poll_fn(|_| {
            let shared = self.shared.borrow();
            match &shared.waiting {
                Some(waiting) if waiting.contains(&id) => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    fn handle(&self, node: u64, durability: Durability) -> MemoryFile {
        self.shared.borrow_mut().nodes.get_mut(&node).unwrap().is_locked = true;
        MemoryFile { disk: self.clone(), node, durability }
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Lock = MemoryLock;

    fn subdirectory(&self, _name: &str) -> Self {
        self.clone()
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn create_dir(&self) -> io::Result<()> {
        Ok(())
    }

    async fn lock(&self) -> io::Result<MemoryLock> {
        self.turn().await;
        if std::mem::replace(&mut self.shared.borrow_mut().is_locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(MemoryLock(self.clone()))
    }

    async fn create_paced(
        &self,
        name: &str,
        head: &[u8],
        len: u64,
        durability: Durability,
        _: &Pace,
    ) -> io::Result<MemoryFile> {
        self.turn().await;
        self.shared.borrow().faults.opens()?;
        let id = {
            let mut shared = self.shared.borrow_mut();
            if shared.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let id = shared.next;
            shared.next += 1;
            let space = shared.space.unwrap_or(len);
            let fits = space >= len;
            // A full disk leaves a part of the file behind.
            let mut bytes = vec![0; if fits { len } else { space.min(BLOCK as u64) } as usize];
            if fits {
                bytes[..head.len()].copy_from_slice(head);
            }
            shared.space = shared.space.map(|space| space - bytes.len() as u64);
            let node = Node { durable: bytes.clone(), bytes, ..Node::default() };
            shared.nodes.insert(id, node);
            shared.names.insert(name.to_owned(), id);
            shared.renames.push((id, Some(name.to_owned())));
            if !fits {
                return Err(io::ErrorKind::StorageFull.into());
            }
            id
        };
        Ok(self.handle(id, durability))
    }

    async fn open(&self, name: &str, durability: Durability) -> io::Result<MemoryFile> {
        self.turn().await;
        self.shared.borrow().faults.opens()?;
        let id = {
            let shared = self.shared.borrow();
            let id = *shared.names.get(name).ok_or(io::ErrorKind::NotFound)?;
            if shared.nodes[&id].is_locked {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            id
        };
        Ok(self.handle(id, durability))
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        self.turn().await;
        Ok(self.files())
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.turn().await;
        let mut shared = self.shared.borrow_mut();
        let id = shared.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        let len = shared.nodes[&id].bytes.len() as u64;
        shared.renames.push((id, None));
        shared.space = shared.space.map(|space| space + len);
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.turn().await;
        let mut shared = self.shared.borrow_mut();
        let id = shared.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = shared.names.insert(to.to_owned(), id);
        assert!(replaced.is_none(), "{from} replaces {to}");
        shared.renames.push((id, Some(to.to_owned())));
        shared.log.push(Event::Renamed { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    async fn sync_dir(&self) -> io::Result<()> {
        self.turn().await;
        self.shared.borrow().faults.opens_dir()?;
        let mut shared = self.shared.borrow_mut();
        shared.durable_names = shared.names.clone();
        shared.renames.clear();
        shared.log.push(Event::DirSynced);
        Ok(())
    }
}

impl File for MemoryFile {
    type Block = Vec<u8>;

    fn block(&self, len: usize) -> Vec<u8> {
        assert!(len.is_multiple_of(BLOCK), "a block of {len}");
        vec![0xee; len]
    }

    async fn size(&self) -> io::Result<u64> {
        self.disk.turn().await;
        Ok(self.disk.shared.borrow().nodes[&self.node].bytes.len() as u64)
    }

    async fn read_at(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        assert!(position.is_multiple_of(BLOCK as u64) && len.is_multiple_of(BLOCK));
        self.disk.turn().await;
        let mut shared = self.disk.shared.borrow_mut();
        shared.faults.reads(&(position..position + len as u64))?;
        shared.reads += 1;
        shared.read_bytes += len as u64;
        let is_cut = shared.faults.is_reading_short && len > BLOCK;
        let len = if is_cut { len - BLOCK } else { len };
        let elsewhere = shared.faults.read_elsewhere.take_if(|(left, _)| *left == 0);
        if let Some((left, _)) = &mut shared.faults.read_elsewhere {
            *left -= 1;
        }
        let bytes = &shared.nodes[&self.node].bytes;
        let start = elsewhere.map_or(position, |(_, elsewhere)| elsewhere) as usize;
        let start = start.min(bytes.len());
        let mut block = bytes[start..bytes.len().min(start + len)].to_vec();
        if elsewhere.is_some() {
            block.resize(len, 0);
        }
        match shared.faults.flip_read_after {
            Some(0) => {
                shared.faults.flip_read_after = None;
                block[20] ^= 1;
            }
            Some(left) => shared.faults.flip_read_after = Some(left - 1),
            None => {}
        }
        Ok(block)
    }

    async fn write_at(&self, block: Vec<u8>, position: u64) -> io::Result<()> {
        assert!(position.is_multiple_of(BLOCK as u64) && block.len().is_multiple_of(BLOCK));
        let id = {
            let mut shared = self.disk.shared.borrow_mut();
            let id = shared.next;
            shared.next += 1;
            if let Some(waiting) = &mut shared.waiting {
                waiting.insert(id);
            }
            let name = shared.names.iter().find(|(_, node)| **node == self.node);
            let name = name.map_or_else(String::new, |(name, _)| name.clone());
            shared.log.push(Event::WriteBegan { name, position, len: block.len() });
            let node = shared.nodes.get_mut(&self.node).unwrap();
            assert!(position as usize + block.len() <= node.bytes.len(), "beyond the file");
            node.loose.insert(id, Loose { position, data: block, is_complete: false });
            id
        };
        self.disk.wait(id).await;
        let mut shared = self.disk.shared.borrow_mut();
        if let Some(kind) = shared.faults.write {
            return Err(kind.into());
        }
        shared.log.push(Event::WriteEnded { position });
        let node = shared.nodes.get_mut(&self.node).unwrap();
        let write = node.loose.get_mut(&id).unwrap();
        write.is_complete = true;
        let write = write.clone();
        node.bytes[position as usize..][..write.data.len()].copy_from_slice(&write.data);
        if self.durability == Durability::EachWrite {
            node.loose.remove(&id);
            node.supersede(position, &write.data);
            node.write_durably(position, &write.data);
        }
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        let covered: Vec<u64> = {
            let shared = self.disk.shared.borrow();
            let loose = &shared.nodes[&self.node].loose;
            loose.iter().filter(|(_, write)| write.is_complete).map(|(id, _)| *id).collect()
        };
        self.disk.turn().await;
        let mut shared = self.disk.shared.borrow_mut();
        let failure = shared.faults.sync;
        let node = shared.nodes.get_mut(&self.node).unwrap();
        for id in covered {
            if let Some(write) = node.loose.remove(&id)
                && failure.is_none()
            {
                node.write_durably(write.position, &write.data);
            }
        }
        if let Some(kind) = failure {
            // As Linux does: the error is told once, and what was to be synced is dropped.
            shared.faults.sync = None;
            return Err(kind.into());
        }
        shared.log.push(Event::Synced);
        Ok(())
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// One shard's WAL on a disk in memory, with its loops.
pub(crate) struct Harness {
    pub(crate) disk: MemoryDisk,
    pub(crate) config: WalConfig,
    pub(crate) random: Random,
    pub(crate) wal: Option<Rc<Wal<MemoryDisk>>>,
    tasks: Vec<Task>,
}

pub(crate) fn identity() -> Identity {
    Identity {
        cluster: ClusterId(0x1234),
        node: NodeId(2),
        incarnation: Incarnation(0x5678),
        shard: ShardId(1),
    }
}

pub(crate) fn small() -> WalConfig {
    WalConfig {
        segment_bytes: 64 << 10,
        batch_bytes_max: 8 << 10,
        tail_bytes_max: 1 << 20,
        ..WalConfig::default()
    }
}

impl Harness {
    /// A new WAL, open, with its loops at rest.
    pub(crate) fn new(config: WalConfig, seed: u64) -> Self {
        let mut harness = Self::on(MemoryDisk::default(), config, seed);
        let (disk, config) = (harness.disk.clone(), harness.config.clone());
        let random = harness.random.next();
        harness
            .block_on(async move { Wal::create(&disk, identity(), &config, random).await })
            .unwrap();
        harness.open().unwrap();
        harness.run();
        harness
    }

    /// A closed WAL on a disk.
    pub(crate) fn on(disk: MemoryDisk, config: WalConfig, seed: u64) -> Self {
        Self { disk, config, random: Random::new(seed), wal: None, tasks: Vec::new() }
    }

    /// Polls a future, and what else runs, until it is done.
    pub(crate) fn block_on<T>(&mut self, future: impl Future<Output = T>) -> T {
        self.block_on_with(future, |_| ())
    }

    /// The same, and does something between any two operations.
    pub(crate) fn block_on_with<T>(
        &mut self,
        future: impl Future<Output = T>,
        mut between: impl FnMut(&mut Self),
    ) -> T {
        let mut future = std::pin::pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..1_000_000 {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            between(self);
            self.poll();
            self.disk.step(&mut self.random);
        }
        panic!("a future is stuck");
    }

    pub(crate) fn open(&mut self) -> Result<Recovered, StorageError> {
        assert!(self.wal.is_none());
        let (disk, config) = (self.disk.clone(), self.config.clone());
        let mut random = Random::new(self.random.next());
        let opened = self.block_on(async move {
            Wal::open(&disk, identity(), &config, &mut || random.next()).await
        });
        let (wal, recovered) = opened?;
        for _ in 0..self.config.writes_in_flight_max {
            self.tasks.push(Box::pin(wal.clone().write_loop()));
        }
        self.tasks.push(Box::pin(wal.clone().prepare_loop()));
        self.wal = Some(wal);
        Ok(recovered)
    }

    /// Begins to open, and stops after so many operations. Whether it got through.
    pub(crate) fn open_for(&mut self, operations: u64) -> bool {
        let (disk, config) = (self.disk.clone(), self.config.clone());
        let mut draws = Random::new(self.random.next());
        let mut draw = || draws.next();
        let mut opening = std::pin::pin!(Wal::open(&disk, identity(), &config, &mut draw));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..operations {
            match opening.as_mut().poll(&mut context) {
                Poll::Ready(opened) => return opened.map(|_| ()).is_ok(),
                Poll::Pending => self.disk.step(&mut self.random),
            };
        }
        false
    }

    pub(crate) fn wal(&self) -> Rc<Wal<MemoryDisk>> {
        self.wal.clone().expect("it is open")
    }

    /// Polls every task, again and again until that changes nothing.
    pub(crate) fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        // One round wakes what the next one lets begin an operation.
        let mut quiet = 0;
        while quiet < 3 {
            let before = self.disk.operations();
            self.tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            quiet = if self.disk.operations() == before { quiet + 1 } else { 0 };
        }
    }

    /// Lets everything complete.
    pub(crate) fn run(&mut self) {
        self.poll();
        while self.disk.step(&mut self.random) {
            self.poll();
        }
    }

    /// Lets some operations complete.
    pub(crate) fn run_some(&mut self, operations: u64) {
        self.poll();
        for _ in 0..operations {
            self.disk.step(&mut self.random);
            self.poll();
        }
    }

    pub(crate) fn submit(&mut self, batch: Batch) -> Sequence {
        self.wal().submit(batch).unwrap()
    }

    /// Submits, and lets everything complete.
    pub(crate) fn write(&mut self, batch: Batch) -> Sequence {
        let sequence = self.submit(batch);
        self.run();
        assert!(self.wal().durable() >= sequence, "{sequence} is not durable");
        sequence
    }

    /// Ends the tasks where they are, without telling the disk.
    pub(crate) fn stop(&mut self) {
        self.tasks.clear();
        self.wal = None;
    }

    pub(crate) fn cut_power(&mut self) {
        self.stop();
        self.disk.cut_power(&mut self.random);
    }

    pub(crate) fn kill(&mut self) {
        self.stop();
        self.disk.kill(&mut self.random);
    }

    /// Cuts the power at rest and opens again.
    pub(crate) fn reopen(&mut self) -> Result<Recovered, StorageError> {
        self.cut_power();
        let recovered = self.open();
        self.run();
        recovered
    }

    pub(crate) fn read(&mut self, group: u32, range: std::ops::Range<u64>) -> Vec<Entry> {
        let wal = self.wal();
        let range = Index(range.start)..Index(range.end);
        self.block_on(async move { wal.read(GroupId(group), range, usize::MAX).await }).unwrap()
    }

    pub(crate) fn release(&mut self) -> usize {
        let wal = self.wal();
        let released = self.block_on(async move { wal.release().await }).unwrap();
        self.run();
        released
    }

    /// Begins to release, and stops after so many operations.
    pub(crate) fn release_for(&mut self, operations: u64) {
        let wal = self.wal();
        let mut release = std::pin::pin!(wal.release());
        let mut context = Context::from_waker(Waker::noop());
        let mut is_done = false;
        for _ in 0..operations {
            is_done = is_done || release.as_mut().poll(&mut context).is_ready();
            self.run_some(1);
        }
    }

    /// Whether every loop has ended.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The files that hold batches of the log, the newest last.
    pub(crate) fn segments(&self) -> Vec<String> {
        let wal = self.wal();
        let state = wal.state.borrow();
        state.segments().names()
    }
}

/// Counts calls.
pub(crate) fn counter() -> (Rc<Cell<usize>>, Rc<dyn Fn()>) {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    (count, Rc::new(move || counted.set(counted.get() + 1)))
}
