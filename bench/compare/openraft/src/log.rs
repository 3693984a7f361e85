//! The log of one replica: its entries in memory, and in the log file of its node.

use crate::{
    disk::NodeLog,
    types::{Entry, GroupId, LogId, StorageError, TypeConfig, Vote},
};
use openraft::{
    LogState, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use serde::Serialize;
use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex},
};
use tokio::sync::oneshot;

/// What stands in a record of the log file.
#[derive(Serialize)]
enum Record<'a> {
    Vote(&'a Vote),
    Entry(&'a Entry),
    /// The entries from this one on are void.
    Truncate(u64),
}

/// See the module. A clone reads the same entries.
#[derive(Clone)]
pub(crate) struct GroupLog {
    group: GroupId,
    node: NodeLog,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    /// The entries from index 0 on. The log is never cut at its start.
    entries: Vec<Entry>,
    vote: Option<Vote>,
}

impl GroupLog {
    /// The empty log of a group, in the log file of its node.
    pub(crate) fn new(group: GroupId, node: NodeLog) -> Self {
        Self { group, node, held: Arc::default() }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().expect("nobody panics with it")
    }

    /// Makes one record durable.
    async fn write(&self, record: &Record<'_>) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        // Whoever waits may be gone at the end of the program.
        self.node.append(self.group, &encode(record), Box::new(|result| _ = sender.send(result)));
        receiver.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }
}

fn encode(record: &Record<'_>) -> Vec<u8> {
    bincode::serialize(record).expect("plain data can be written")
}

impl RaftLogReader<TypeConfig> for GroupLog {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        let held = self.held();
        let len = held.entries.len();
        let start = match range.start_bound() {
            Bound::Included(start) => *start as usize,
            Bound::Excluded(start) => *start as usize + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => (*end as usize).saturating_add(1),
            Bound::Excluded(end) => *end as usize,
            Bound::Unbounded => len,
        };
        Ok(held.entries[start.min(len)..end.min(len).max(start.min(len))].to_vec())
    }
}

impl RaftLogStorage<TypeConfig> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let last_log_id = self.held().entries.last().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: None, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.write(&Record::Vote(vote))
            .await
            .map_err(|error| StorageIOError::write_vote(&error))?;
        self.held().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.held().vote)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let mut records = Vec::new();
        for entry in &entries {
            bincode::serialize_into(&mut records, &Record::Entry(entry))
                .expect("plain data can be written");
        }
        {
            let mut held = self.held();
            for entry in entries {
                let (next, index) = (held.entries.len() as u64, entry.log_id.index);
                assert_eq!(index, next, "an entry that does not follow the last one");
                held.entries.push(entry);
            }
        }
        self.node.append(
            self.group,
            &records,
            Box::new(|result| callback.log_io_completed(result)),
        );
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        self.held().entries.truncate(from.index as usize);
        let written = self.write(&Record::Truncate(from.index)).await;
        written.map_err(|error| StorageIOError::write_logs(&error))?;
        Ok(())
    }

    /// Nothing asks for it: without snapshots the log is not cut.
    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        panic!("the log was to be cut at {upto}, and no snapshot was made");
    }
}
