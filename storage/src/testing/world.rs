//! A disk that completes at once, or when the test says so, and that can remember what its device
//! held after each thing that happened to it.

use super::device::{Device, Page, page};
use crate::{Disk, Durability, File, Pace, align::BLOCK};
use std::{cell::RefCell, future::poll_fn, io, rc::Rc, task::Poll};

/// One directory in memory. Clones share it.
#[derive(Clone)]
pub(crate) struct World<P> {
    shared: Rc<RefCell<Shared<P>>>,
}

struct Shared<P> {
    device: Device,
    zero: Page,
    next: u64,
    /// Writes and syncs that wait for the test, in the order of their beginning. Nothing while all
    /// complete at once.
    waiting: Option<Vec<u64>>,
    /// What a start must find after a crash now.
    expected: P,
    moments: Option<Vec<Moment<P>>>,
}

/// A moment at which a crash may come: the state of the device until the next event, and what a start
/// must find then.
pub(crate) struct Moment<P> {
    pub(crate) device: Device,
    pub(crate) expected: P,
}

impl<P: Clone + 'static> World<P> {
    pub(crate) fn new(device: Device, expected: P) -> Self {
        let zero = page(&[0; BLOCK]);
        let shared = Shared { device, zero, next: 0, waiting: None, expected, moments: None };
        Self { shared: Rc::new(RefCell::new(shared)) }
    }

    /// From now on writes and syncs complete by [`Self::land`] only.
    pub(crate) fn hold(&self) {
        self.shared.borrow_mut().waiting.get_or_insert_default();
    }

    /// Lets the write or sync complete that began `nth` of those that wait. False if there is none.
    pub(crate) fn land(&self, nth: usize) -> bool {
        let mut shared = self.shared.borrow_mut();
        let Some(waiting) = shared.waiting.as_mut().filter(|waiting| nth < waiting.len()) else {
            return false;
        };
        waiting.remove(nth);
        true
    }

    /// How many operations were begun.
    pub(crate) fn operations(&self) -> u64 {
        self.shared.borrow().next
    }

    /// Remembers every moment from now on.
    pub(crate) fn record(&self) {
        let mut shared = self.shared.borrow_mut();
        shared.moments = Some(Vec::new());
        shared.happened();
    }

    pub(crate) fn take_moments(&self) -> Vec<Moment<P>> {
        let mut shared = self.shared.borrow_mut();
        shared.seal();
        shared.moments.take().unwrap_or_default()
    }

    pub(crate) fn change_expected(&self, change: impl FnOnce(&mut P)) {
        change(&mut self.shared.borrow_mut().expected);
    }

    pub(crate) fn device(&self) -> Device {
        self.shared.borrow().device.clone()
    }

    fn handle(&self, file: usize, durability: Durability) -> WorldFile<P> {
        WorldFile { world: self.clone(), file, durability }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Device) -> T) -> T {
        let mut shared = self.shared.borrow_mut();
        let changed = change(&mut shared.device);
        shared.next += 1;
        shared.happened();
        changed
    }

    /// Begins a write or a sync.
    fn begin(&self, began: impl FnOnce(&mut Device, u64)) -> u64 {
        let mut shared = self.shared.borrow_mut();
        let id = shared.next;
        shared.next += 1;
        if let Some(waiting) = &mut shared.waiting {
            waiting.push(id);
        }
        began(&mut shared.device, id);
        shared.happened();
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
}

impl<P: Clone> Shared<P> {
    fn happened(&mut self) {
        self.seal();
        if let Some(moments) = &mut self.moments {
            moments.push(Moment { device: self.device.clone(), expected: self.expected.clone() });
        }
    }

    /// What a start must find so far also holds for the last recorded state of the device.
    fn seal(&mut self) {
        if let Some(last) = self.moments.as_mut().and_then(|moments| moments.last_mut()) {
            last.expected = self.expected.clone();
        }
    }
}

/// An open file of a [`World`].
pub(crate) struct WorldFile<P> {
    world: World<P>,
    file: usize,
    durability: Durability,
}

impl<P: Clone + 'static> Disk for World<P> {
    type File = WorldFile<P>;
    type Lock = ();

    fn subdirectory(&self, _name: &str) -> Self {
        self.clone()
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn create_dir(&self) -> io::Result<()> {
        Ok(())
    }

    async fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    async fn create_paced(
        &self,
        name: &str,
        head: &[u8],
        len: u64,
        durability: Durability,
        _: &Pace,
    ) -> io::Result<WorldFile<P>> {
        if self.shared.borrow().device.find(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let zero = self.shared.borrow().zero.clone();
        // A crash on the way leaves a part of the file.
        let file = self.change(|device| device.create(name, &zero, 1));
        self.change(|device| device.extend(file, head, &zero, len as usize / BLOCK));
        Ok(self.handle(file, durability))
    }

    async fn open(&self, name: &str, durability: Durability) -> io::Result<WorldFile<P>> {
        let file = self.shared.borrow().device.find(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(file, durability))
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.shared.borrow().device.list())
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        let is_there = self.change(|device| device.remove(name));
        if is_there { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let is_there = self.change(|device| device.rename(from, to));
        if is_there { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    async fn sync_dir(&self) -> io::Result<()> {
        self.change(Device::sync_names);
        Ok(())
    }
}

impl<P: Clone + 'static> File for WorldFile<P> {
    type Block = Vec<u8>;

    fn block(&self, len: usize) -> Vec<u8> {
        vec![0xee; len]
    }

    async fn size(&self) -> io::Result<u64> {
        Ok(self.world.shared.borrow().device.bytes(self.file) as u64)
    }

    async fn read_at(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let position = position as usize;
        Ok(self.world.shared.borrow().device.read(self.file, position..position + len))
    }

    async fn write_at(&self, block: Vec<u8>, position: u64) -> io::Result<()> {
        let id = self.world.begin(|device, id| device.begin_write(self.file, id, position, &block));
        self.world.wait(id).await;
        self.world.change(|device| {
            device.end_write(self.file, id);
            if self.durability == Durability::EachWrite {
                device.make_firm(self.file, id);
            }
        });
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        let covered = self.world.shared.borrow().device.covered(self.file);
        let id = self.world.begin(|_, _| ());
        self.world.wait(id).await;
        self.world.change(|device| {
            covered.into_iter().for_each(|write| device.make_firm(self.file, write));
        });
        Ok(())
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}
