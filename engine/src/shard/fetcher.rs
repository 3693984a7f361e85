//! Reads entries back from the WAL for groups that need what has left their cache, beside the shard's
//! loop, a few at a time. What is being read and what was read take a bounded number of bytes together, or one
//! page: the rest waits until the shard has taken what has come.

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
    /// What the pages that are being read may take, and what those take that have come.
    bytes: Cell<Bytes>,
    bytes_max: usize,
    readers: [Wake; READERS],
    next: Cell<usize>,
    done: Arc<Wake>,
}

#[derive(Clone, Copy, Default)]
struct Bytes {
    reading: usize,
    fetched: usize,
}

impl Fetcher {
    /// Pages take up to `bytes_max` bytes together. `done` is woken when something has come.
    pub(crate) fn new(bytes_max: usize, done: Arc<Wake>) -> Rc<Self> {
        Rc::new(Self {
            wanted: RefCell::default(),
            fetched: RefCell::default(),
            bytes: Cell::default(),
            bytes_max,
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

    /// Takes what has come. There is room for more.
    pub(crate) fn take_fetched(&self) -> Vec<Fetched> {
        self.bytes.set(Bytes { fetched: 0, ..self.bytes.get() });
        if !self.wanted.borrow().is_empty() {
            self.readers.iter().for_each(Wake::notify);
        }
        self.fetched.take()
    }

    /// The next page to read, if there is room for it.
    fn next_to_read(&self) -> Option<(GroupId, Fetch)> {
        let mut wanted = self.wanted.borrow_mut();
        let page = wanted.front()?.1.bytes_max;
        let Bytes { reading, fetched } = self.bytes.get();
        let taken = reading.saturating_add(fetched);
        if taken > 0 && taken.saturating_add(page) > self.bytes_max {
            purlin_rsm::sometimes!("page of the log waits for room in memory");
            return None;
        }
        self.bytes.set(Bytes { reading: reading.saturating_add(page), fetched });
        wanted.pop_front()
    }

    fn has_read(&self, read: Fetched) {
        let Bytes { reading, fetched } = self.bytes.get();
        let came = read.entries.iter().flatten().map(Entry::cost).sum::<usize>();
        let reading = reading.saturating_sub(read.fetch.bytes_max);
        self.bytes.set(Bytes { reading, fetched: fetched + came });
        self.fetched.borrow_mut().push(read);
        self.done.notify();
    }

    /// One of [`READERS`] tasks that do the reading.
    pub(crate) async fn read_loop<D: Disk>(self: Rc<Self>, reader: usize, wal: Rc<Wal<D>>) {
        loop {
            let Some((group, fetch)) = self.next_to_read() else {
                self.readers[reader].wait().await;
                continue;
            };
            let entries = wal.read(group, fetch.range.clone(), fetch.bytes_max).await;
            self.has_read(Fetched { group, fetch, entries });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{EntryId, Index, Payload, Position, Term, raft::FetchPurpose};

    fn want(fetcher: &Fetcher, group: u32) {
        let range = Index(1)..Index(2);
        let fetch = Fetch { purpose: FetchPurpose::Apply, range, bytes_max: 100 };
        fetcher.want(GroupId(group), fetch);
    }

    fn page(group: GroupId, fetch: Fetch, bytes: usize) -> Fetched {
        let EntryId { term, index } = EntryId::new(Term(1), Index(1));
        let payload = Payload::command(vec![0; bytes].into());
        let entry = Entry { term, index, before: Position(0), payload };
        Fetched { group, fetch, entries: Ok(vec![entry]) }
    }

    /// However many groups ask, and however long the shard takes to fetch what has come.
    #[test]
    fn pages_that_are_read_take_a_bounded_number_of_bytes_together() {
        let fetcher = Fetcher::new(250, Arc::default());
        (1..=9).for_each(|group| want(&fetcher, group));
        let (one, two) = (fetcher.next_to_read(), fetcher.next_to_read());
        assert!(fetcher.next_to_read().is_none(), "two are being read");
        for (group, fetch) in [one, two].into_iter().flatten() {
            fetcher.has_read(page(group, fetch, 80));
        }
        assert!(fetcher.next_to_read().is_none(), "they have come, and were not taken");
        assert_eq!(fetcher.take_fetched().len(), 2);
        assert_eq!(fetcher.next_to_read().map(|(group, _)| group), Some(GroupId(3)), "in order");
    }

    #[test]
    fn a_page_that_is_longer_than_the_bound_is_read_alone() {
        let fetcher = Fetcher::new(10, Arc::default());
        (1..=2).for_each(|group| want(&fetcher, group));
        let (group, fetch) = fetcher.next_to_read().expect("nothing else is there");
        assert!(fetcher.next_to_read().is_none());
        fetcher.has_read(page(group, fetch, 1000));
        assert!(fetcher.next_to_read().is_none());
        fetcher.take_fetched();
        assert!(fetcher.next_to_read().is_some());
    }
}
