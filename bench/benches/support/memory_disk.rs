//! The storage crate's seam to a disk over files in memory: nothing waits, nothing fails, nothing is
//! left behind.

use purlin_storage::{Disk, Durability, File, Pace};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, ErrorKind},
    rc::Rc,
};

/// One directory of files in memory; it has no other below it.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk {
    files: Rc<RefCell<BTreeMap<String, MemoryFile>>>,
}

/// A file; a clone is another handle to it.
#[derive(Clone)]
pub(crate) struct MemoryFile {
    bytes: Rc<RefCell<Vec<u8>>>,
}

impl MemoryDisk {
    fn take(&self, name: &str) -> io::Result<MemoryFile> {
        self.files.borrow_mut().remove(name).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Lock = ();

    fn subdirectory(&self, name: &str) -> Self {
        panic!("a WAL of one shard makes no directory {name}")
    }
    fn location(&self) -> String {
        "memory".into()
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
        _: Durability,
        _: &Pace,
    ) -> io::Result<MemoryFile> {
        let mut bytes = vec![0; len as usize];
        bytes[..head.len()].copy_from_slice(head);
        let file = MemoryFile { bytes: Rc::new(RefCell::new(bytes)) };
        match self.files.borrow_mut().insert(name.into(), file.clone()) {
            None => Ok(file),
            Some(_) => Err(ErrorKind::AlreadyExists.into()),
        }
    }
    async fn open(&self, name: &str, _: Durability) -> io::Result<MemoryFile> {
        self.files.borrow().get(name).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }
    async fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.borrow().keys().cloned().collect())
    }
    async fn remove(&self, name: &str) -> io::Result<()> {
        self.take(name).map(drop)
    }
    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.take(from)?;
        self.files.borrow_mut().insert(to.into(), file);
        Ok(())
    }
    async fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}

impl File for MemoryFile {
    type Block = Vec<u8>;

    fn block(&self, len: usize) -> Vec<u8> {
        vec![0; len]
    }
    async fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.borrow().len() as u64)
    }
    async fn read_at(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let bytes = self.bytes.borrow();
        let start = bytes.len().min(position as usize);
        Ok(bytes[start..bytes.len().min(start + len)].to_vec())
    }
    async fn write_at(&self, block: Vec<u8>, position: u64) -> io::Result<()> {
        let start = position as usize;
        self.bytes.borrow_mut()[start..start + block.len()].copy_from_slice(&block);
        Ok(())
    }
    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}
