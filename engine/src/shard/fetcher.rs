//! Reads entries back from the WAL for groups that need what has left their cache, beside the shard's
//! loop, a few at a time.

use crate::wake::Wake;
use purlin_rsm::{Entry, GroupId, raft::Fetch};
use purlin_storage::{Disk, StorageError, Wal};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
};

/// How many reads are on their way at once.
pub(crate) const READERS: usize = 2;

/// What a fetch has brought.
pub(crate) struct Fetched {
    pub(crate) group: GroupId,
    pub(crate) fetch: Fetch,
    pub(crate) entries: Result<Vec<Entry>, StorageError>,
}

/// See the module.
pub(crate) struct Fetcher {
    wanted: RefCell<VecDeque<(GroupId, Fetch)>>,
    fetched: RefCell<Vec<Fetched>>,
    readers: [Wake; READERS],
    next: Cell<usize>,
    done: Arc<Wake>,
}

impl Fetcher {
    /// `done` is woken when something has come.
    pub(crate) fn new(done: Arc<Wake>) -> Rc<Self> {
        Rc::new(Self {
            wanted: RefCell::default(),
            fetched: RefCell::default(),
            readers: Default::default(),
            next: Cell::new(0),
            done,
        })
    }

    /// Asks for entries.
    pub(crate) fn want(&self, group: GroupId, fetch: Fetch) {
        self.wanted.borrow_mut().push_back((group, fetch));
        let next = (self.next.get() + 1) % READERS;
        self.next.set(next);
        self.readers[next].notify();
    }

    /// Takes what has come.
    pub(crate) fn take_fetched(&self) -> Vec<Fetched> {
        self.fetched.take()
    }

    /// One of [`READERS`] tasks that do the reading.
    pub(crate) async fn read_loop<D: Disk>(self: Rc<Self>, reader: usize, wal: Rc<Wal<D>>) {
        loop {
            let wanted = self.wanted.borrow_mut().pop_front();
            let Some((group, fetch)) = wanted else {
                self.readers[reader].wait().await;
                continue;
            };
            let entries = wal.read(group, fetch.range.clone(), fetch.bytes_max).await;
            self.fetched.borrow_mut().push(Fetched { group, fetch, entries });
            self.done.notify();
        }
    }
}
