//! The directory in which recovery works: its lock, its files, a header in a new file, and the errors of
//! all of these.

use crate::{
    align::BLOCK,
    config::WalConfig,
    directory,
    disk::{Disk, Durability, File},
    error::{Shortage, StorageError},
    segment::{self, Header},
};
use std::{io, sync::Arc};

/// The directory in which recovery works, and the configuration.
pub(super) struct Site<'a, D: Disk> {
    pub(super) disk: &'a D,
    pub(super) config: &'a WalConfig,
}

impl<D: Disk> Site<'_, D> {
    pub(super) async fn lock(&self) -> Result<D::Lock, StorageError> {
        let location = self.disk.location();
        self.disk.lock().await.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StorageError::Locked { location },
            io::ErrorKind::NotFound => StorageError::Missing { location },
            _ => self.io("locking", error),
        })
    }

    pub(super) async fn segment_names(&self) -> Result<Vec<String>, StorageError> {
        let names = self.disk.list().await.map_err(|error| self.io("listing", error))?;
        Ok(names.into_iter().filter(|name| segment::number_in(name).is_some()).collect())
    }

    pub(super) async fn lay_foundation(&self, header: &Header) -> Result<(), StorageError> {
        let unfinished = segment::unfinished_name(header.number);
        let names = self.disk.list().await.map_err(|error| self.io("listing", error))?;
        if names.contains(&unfinished) {
            let removed = self.disk.remove(&unfinished).await;
            removed.map_err(|error| self.io("removing an unfinished segment", error))?;
        }
        let durability = self.config.durability;
        let file = self.disk.create(&unfinished, header.bytes, durability).await;
        let file = file.map_err(|error| self.io("making a segment", error))?;
        self.write_header(&file, header).await?;
        directory::rename(self.disk, &unfinished, &segment::name(header.number))
            .await
            .map_err(|error| self.io("renaming a segment", error))?;
        file.close().await.map_err(|error| self.io("closing a segment", error))
    }

    pub(super) async fn write_header(
        &self,
        file: &D::File,
        header: &Header,
    ) -> Result<(), StorageError> {
        let mut block = file.block(BLOCK);
        header.write(block.as_mut());
        let written = file.write_at(block, 0).await;
        written.map_err(|error| self.io("writing a segment's header", error))?;
        if self.config.durability == Durability::OnSync {
            let synced = file.sync().await;
            synced.map_err(|error| self.io("a sync of a segment's header", error))?;
        }
        Ok(())
    }

    pub(super) fn damaged(&self, segment: &str, offset: u64, what: String) -> StorageError {
        StorageError::Damaged {
            location: self.disk.location(),
            segment: segment.to_owned(),
            offset,
            what,
        }
    }

    /// W4: a read error is never a torn tail.
    pub(super) fn unreadable(&self, segment: &str, error: io::Error) -> StorageError {
        StorageError::Io {
            location: format!("{}, {segment}", self.disk.location()),
            action: "reading",
            means: "what is there cannot be judged, so the shard does not start; nothing was changed",
            source: Arc::new(error),
        }
    }

    /// A file that does not open.
    pub(super) fn unopened(&self, segment: &str, error: io::Error) -> StorageError {
        match self.io("opening a segment", error) {
            StorageError::Io { location, action, means, source } => {
                let location = format!("{location}, {segment}");
                StorageError::Io { location, action, means, source }
            }
            other => other,
        }
    }

    pub(super) fn io(&self, action: &'static str, error: io::Error) -> StorageError {
        if Shortage::of(&error) == Some(Shortage::Space) {
            let bytes = self.config.segment_bytes;
            return StorageError::NoSpace { location: self.disk.location(), bytes };
        }
        StorageError::Io {
            location: self.disk.location(),
            action,
            means: "the write-ahead log does not open; what was durable is",
            source: Arc::new(error),
        }
    }
}
