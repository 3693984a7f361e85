//! Reading a segment from front to back in large chunks.
//!
//! A scanner owns the bytes of at most one chunk, or of one batch if that is longer. It never decides
//! what a bad batch means, and never trusts a length before the header's checksum has proven it.

use crate::{
    align::{BLOCK, align_down, align_up},
    batch::{self, HEADER_BYTES, Seed},
    config::WalConfig,
    disk::File,
};
use purlin_rsm::Sequence;
use std::{io, ops::Range};

/// Reads one file.
pub(crate) struct Scanner<'a, F: File> {
    file: &'a F,
    seed: Seed,
    /// The end of the file.
    bytes: u64,
    chunk_bytes: usize,
    chunk: Option<Chunk<F::Block>>,
}

struct Chunk<B> {
    position: u64,
    block: B,
}

/// The bytes that recovery reads at once.
pub(crate) const RECOVERY_CHUNK: usize = 1 << 20;
/// The bytes that a read of entries reads at once.
pub(crate) const READ_CHUNK: usize = 64 << 10;

impl<'a, F: File> Scanner<'a, F> {
    /// Reads a file of `bytes` bytes.
    pub(crate) fn new(file: &'a F, bytes: u64, seed: Seed, chunk_bytes: usize) -> Self {
        Self { file, seed, bytes: align_down(bytes), chunk_bytes, chunk: None }
    }

    /// The whole batch `sequence` of `epoch` at `position`, or nothing if no such batch is there. A bad
    /// batch is read from the device once more before it is called bad (safety W4).
    pub(crate) async fn batch(
        &mut self,
        position: u64,
        epoch: u64,
        sequence: Sequence,
    ) -> io::Result<Option<(batch::Header, &[u8])>> {
        let mut header = self.check(position, epoch, sequence).await?;
        if header.is_none() {
            self.forget();
            header = self.check(position, epoch, sequence).await?;
            purlin_rsm::sometimes!(header.is_some(), "bad batch is good at the second read");
        }
        let Some(header) = header else { return Ok(None) };
        let start = HEADER_BYTES;
        let written = self.read(position, header.written_bytes()).await?;
        Ok(Some((header, &written[start..start + header.length])))
    }

    /// The header at `position`, if it and the batch behind it prove themselves.
    async fn check(
        &mut self,
        position: u64,
        epoch: u64,
        sequence: Sequence,
    ) -> io::Result<Option<batch::Header>> {
        let Some(header) = self.header(position).await? else { return Ok(None) };
        let written = header.written_bytes();
        if header.epoch != epoch
            || header.sequence != sequence
            || written > WalConfig::write_bytes_max(self.bytes)
            || position + written as u64 > self.bytes
        {
            return Ok(None);
        }
        let seed = self.seed;
        let bytes = self.read(position, written).await?;
        Ok(header.is_sound(bytes, seed).then_some(header))
    }

    /// The batch header at `position`, if one proves itself there.
    pub(crate) async fn header(&mut self, position: u64) -> io::Result<Option<batch::Header>> {
        if position >= self.bytes {
            return Ok(None);
        }
        let seed = self.seed;
        Ok(batch::parse(self.read(position, BLOCK).await?, seed))
    }

    /// Drops the bytes that were read, so that the next call reads the device again.
    pub(crate) fn forget(&mut self) {
        self.chunk = None;
    }

    /// The end of the file in whole blocks.
    pub(crate) fn end(&self) -> u64 {
        self.bytes
    }

    async fn read(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        if self.range(position, len).is_none() {
            self.chunk = None;
            let left = (self.bytes - position) as usize;
            let len = align_up(len.max(self.chunk_bytes)).min(left);
            let block = read_twice(self.file, position, len).await?;
            self.chunk = Some(Chunk { position, block });
        }
        let range = self.range(position, len).expect("the chunk was read for it");
        let chunk = self.chunk.as_ref().expect("the chunk was read");
        Ok(&chunk.block.as_ref()[range])
    }

    fn range(&self, position: u64, len: usize) -> Option<Range<usize>> {
        let chunk = self.chunk.as_ref()?;
        let start = usize::try_from(position.checked_sub(chunk.position)?).ok()?;
        (start + len <= chunk.block.as_ref().len()).then_some(start..start + len)
    }
}

/// Reads, and reads once more if that fails: only a read that fails twice is an error of the device. A
/// short read inside the file counts as failed.
pub(crate) async fn read_twice<F: File>(
    file: &F,
    position: u64,
    len: usize,
) -> io::Result<F::Block> {
    match read_whole(file, position, len).await {
        Ok(block) => Ok(block),
        Err(_) => read_whole(file, position, len).await,
    }
}

async fn read_whole<F: File>(file: &F, position: u64, len: usize) -> io::Result<F::Block> {
    let block = file.read_at(position, len).await?;
    if block.as_ref().len() == len { Ok(block) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
