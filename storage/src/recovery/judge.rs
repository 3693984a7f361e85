//! Judging the files after a crash: which batches are the log, which files are void, what is damage.
//!
//! The header with the highest sequence is the newest. Each header names the last batch before it, down
//! to the oldest segment that is needed. Files outside that chain are void. Before a void file is reused,
//! it is searched for batches that are newer than the log's end: only damage can leave one there.
//!
//! Batches that are readable and not proven durable are carried into the new segment (see
//! [`crate::carry`]).
//!
//! This module reads, and writes nothing.

use super::site::Site;
use crate::{
    align::{BLOCK, align_down},
    batch::Seed,
    carry::{Carried, Carry},
    disk::{Disk, File},
    error::StorageError,
    index::Location,
    live::Live,
    recent::Recent,
    scan::{RECOVERY_CHUNK, Scanner, read_twice},
    segment::{self, BatchName, FIRST_BATCH, FirstBlock, Header, Segment},
};
use purlin_rsm::{Identity, Sequence};
use std::{cell::Cell, collections::VecDeque, io, ops::Range};

/// A torn tail: writes that were never acknowledged, ended by a crash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The file.
    pub segment: String,
    /// Where the first bad batch lies.
    pub offset: u64,
    /// The last batch that was kept.
    pub kept: Sequence,
    /// The last batch behind the bad one that was void with it, if one was readable.
    pub void: Option<Sequence>,
}

/// A file with a segment's name.
pub(super) struct Found<F> {
    pub(super) name: String,
    pub(super) file: F,
    pub(super) bytes: u64,
    pub(super) first: First,
}

/// What a start finds in the first block of a file.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum First {
    Header(Header),
    /// It was prepared, and not begun.
    Prepared,
    Unreadable,
}

/// The log, and the files beside it.
pub(super) struct Log<F> {
    pub(super) live: Live,
    pub(super) recent: Recent,
    /// From the oldest to the newest.
    pub(super) chain: Vec<Kept<F>>,
    pub(super) void: Vec<Found<F>>,
    /// The header of the newest segment.
    pub(super) newest: Header,
    pub(super) end: End,
    pub(super) next_number: u64,
    /// The sequence of the new segment's header, and the batches that are carried into that segment.
    pub(super) sequence: Sequence,
    pub(super) carried: Vec<Carried>,
    /// The oldest segment that is needed if all unproven batches are lost.
    pub(super) proven_oldest: u64,
}

/// A segment of the chain and how far it is kept.
pub(super) struct Kept<F> {
    pub(super) header: Header,
    pub(super) name: String,
    pub(super) file: F,
    pub(super) bytes: u64,
    pub(super) end: u64,
}

/// Where the log ends.
pub(super) struct End {
    /// The last batch that is proven durable, and what is readable behind it.
    pub(super) carry: Carry,
    /// The last batch, or the newest header.
    pub(super) kept: Sequence,
    /// The oldest segment that is needed if every readable batch is durable.
    pub(super) oldest: u64,
    /// No readable batch or header, in any file, has a higher sequence.
    pub(super) readable: Sequence,
    pub(super) cut: Option<Cut>,
}

impl<D: Disk> Site<'_, D> {
    /// Opens every segment, which takes its lock: writes of a killed process that are still in
    /// flight hold it, and nothing may be judged before they have ended (safety W3).
    pub(super) async fn find(
        &self,
        identity: Identity,
    ) -> Result<Vec<Found<D::File>>, StorageError> {
        let names = self.segment_names().await?;
        if names.is_empty() {
            return Err(StorageError::Missing { location: self.disk.location() });
        }
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let file = self.disk.open(&name, self.config.durability).await;
            let file = file.map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => {
                    StorageError::Locked { location: format!("{}, {name}", self.disk.location()) }
                }
                _ => self.unopened(&name, error),
            })?;
            let bytes = file.size().await.map_err(|error| self.unopened(&name, error))?;
            let first = self.first_block(&file, bytes, &name, identity).await?;
            found.push(Found { name, file, bytes, first });
        }
        Ok(found)
    }

    async fn first_block(
        &self,
        file: &D::File,
        bytes: u64,
        name: &str,
        identity: Identity,
    ) -> Result<First, StorageError> {
        if bytes < BLOCK as u64 {
            return Ok(First::Unreadable);
        }
        let foreign = |found: Identity| StorageError::Foreign {
            location: self.disk.location(),
            segment: name.to_owned(),
            found: Box::new(found),
            expected: Box::new(identity),
        };
        for _ in 0..2 {
            let block = read_twice(file, 0, BLOCK).await;
            let block = block.map_err(|error| self.unreadable(name, error))?;
            match segment::parse(block.as_ref()) {
                FirstBlock::Header(header) if header.identity != identity => {
                    return Err(foreign(header.identity));
                }
                FirstBlock::Prepared(owner) if owner != identity => return Err(foreign(owner)),
                FirstBlock::Header(header) => return Ok(First::Header(header)),
                FirstBlock::Prepared(_) => return Ok(First::Prepared),
                FirstBlock::Version(version) => {
                    return Err(StorageError::OtherFormat {
                        location: self.disk.location(),
                        segment: name.to_owned(),
                        version,
                        known: segment::VERSION,
                    });
                }
                FirstBlock::Reserved => {
                    return Err(StorageError::LaterFields {
                        location: self.disk.location(),
                        segment: name.to_owned(),
                    });
                }
                // Read it from the device once more before believing that.
                FirstBlock::Unreadable => {}
            }
        }
        Ok(First::Unreadable)
    }

    /// Decides which files are the log and which are void, and reads the log.
    pub(super) async fn judge(
        &self,
        mut found: Vec<Found<D::File>>,
        identity: Identity,
        random: u64,
    ) -> Result<Log<D::File>, StorageError> {
        let seed = Seed::new(&identity);
        let next_number = self.next_number(&found)?;
        let newest = self.newest(&found)?;
        let mut end = self.find_end(&found[newest], seed).await?;
        let chain = self.take_chain(&mut found, newest, end.oldest)?;
        let void = found;
        let prepared = void.iter().filter(|file| file.first == First::Prepared);
        let prepared = prepared.filter_map(|file| segment::number_in(&file.name)).max();
        for file in &void {
            self.search_void(file, seed, prepared, &mut end).await?;
        }
        let newest = chain.back().expect("the newest is in the chain").header.clone();

        let recent = Recent::new(self.config.tail_bytes_max);
        let mut rebuilt = Rebuilt { live: Live::default(), recent, oldest: None };
        let mut kept = Vec::with_capacity(chain.len());
        let mut links = chain.iter().skip(1).map(|next| next.header.previous).collect::<Vec<_>>();
        links.push(end.carry.proven);
        for (file, until) in chain.into_iter().zip(links) {
            kept.push(self.rebuild(file, until, seed, &mut rebuilt).await?);
        }
        // A header is durable if batches follow it (safety W2).
        let is_followed = end.kept > newest.sequence;
        let proven = rebuilt.oldest.max(is_followed.then_some(newest.oldest));
        let proven_oldest = proven.unwrap_or(end.oldest);
        // W3: readable is not durable, and a sync that passes now would not prove it.
        let sequence = above(end.readable, random);
        let carried = end.carry.take_batches(next_number, sequence);
        for batch in &carried {
            let applied = rebuilt.apply(&batch.records, batch.at, batch.written_bytes());
            let newest = kept.last().expect("the newest is in the chain");
            applied.map_err(|what| self.damaged(&newest.name, newest.end, what.to_owned()))?;
        }
        let incomplete = rebuilt.live.groups().find(|(_, group)| !group.is_complete());
        if let Some((id, group)) = incomplete {
            let what = format!("entries of group {id} before {} are missing", group.last());
            return Err(self.damaged(&kept[0].name, FIRST_BATCH, what));
        }
        if let Err(violation) = rebuilt.live.check_groups() {
            let what = format!("its records contradict each other: {violation}");
            return Err(self.damaged(&kept[0].name, FIRST_BATCH, what));
        }
        Ok(Log {
            live: rebuilt.live,
            recent: rebuilt.recent,
            chain: kept,
            void,
            newest,
            end,
            next_number,
            sequence,
            carried,
            proven_oldest,
        })
    }

    fn next_number(&self, found: &[Found<D::File>]) -> Result<u64, StorageError> {
        let named = found.iter().filter_map(|file| segment::number_in(&file.name));
        let headed = found.iter().filter_map(|file| Some(file.header()?.number));
        let highest = named.chain(headed).max().unwrap_or(0);
        // Names have twelve digits.
        if highest >= 999_999_999_000 {
            let what = format!("segment number {highest} is impossible");
            return Err(self.damaged(&found[0].name, 0, what));
        }
        Ok(highest + 1)
    }

    /// The segment whose header has the highest sequence.
    fn newest(&self, found: &[Found<D::File>]) -> Result<usize, StorageError> {
        let sequence = |file: &Found<D::File>| Some(file.header()?.sequence);
        let headed = (0..found.len()).filter(|&at| found[at].header().is_some());
        let newest = headed.max_by_key(|&at| sequence(&found[at]));
        newest.ok_or_else(|| {
            self.damaged(&found[0].name, 0, "no segment has a readable header".to_owned())
        })
    }

    /// Scans the newest segment. Only that one can be torn (safety W2).
    async fn find_end(&self, newest: &Found<D::File>, seed: Seed) -> Result<End, StorageError> {
        let header = newest.header().expect("the newest has a header");
        if newest.bytes != header.bytes {
            let what = format!("it has {} bytes, and had {}", newest.bytes, header.bytes);
            return Err(self.damaged(&newest.name, 0, what));
        }
        let mut end = End {
            carry: Carry::new(header.previous),
            kept: header.sequence,
            oldest: header.oldest,
            readable: header.sequence,
            cut: None,
        };
        let mut scanner = Scanner::new(&newest.file, newest.bytes, seed, RECOVERY_CHUNK);
        let mut position = FIRST_BATCH;
        loop {
            let sequence = Sequence(end.kept.0.saturating_add(1));
            let batch = scanner.batch(position, header.epoch, sequence).await;
            let Some((batch, records)) =
                batch.map_err(|error| self.unreadable(&newest.name, error))?
            else {
                break;
            };
            let name = BatchName { segment: header.number, sequence, checksum: batch.checksum };
            end.carry.add(name, batch.watermark, records);
            end.kept = sequence;
            end.oldest = batch.oldest;
            position += batch.written_bytes() as u64;
        }
        end.readable = end.kept;
        self.search_tail(newest, &mut scanner, position, &mut end).await?;
        Ok(end)
    }

    /// W4: searches behind the first bad batch, at `position`: no readable batch may call the bad one
    /// durable. The search runs twice, each time with new reads of the device: a single read that came from
    /// a wrong place would show no such batch, and durable records would be cut.
    async fn search_tail(
        &self,
        newest: &Found<D::File>,
        scanner: &mut Scanner<'_, D::File>,
        position: u64,
        end: &mut End,
    ) -> Result<(), StorageError> {
        let header = newest.header().expect("the newest has a header");
        let bad = Sequence(end.kept.0.saturating_add(1));
        let mut void = None;
        for at in repeated(2, position..scanner.end()) {
            if at == position {
                scanner.forget();
            }
            let batch = scanner.header(at).await;
            let batch = batch.map_err(|error| self.unreadable(&newest.name, error))?;
            let Some(batch) = batch else { continue };
            if batch.epoch == header.epoch && batch.watermark >= bad {
                purlin_rsm::sometimes!("damage found, a later batch calls it durable");
                let what = format!(
                    "batch {bad} is unreadable, and batch {} says that it was durable",
                    batch.sequence
                );
                return Err(self.damaged(&newest.name, position, what));
            }
            if batch.epoch != header.epoch && batch.sequence > header.sequence {
                let what = format!("a batch {} of another epoch is newer", batch.sequence);
                return Err(self.damaged(&newest.name, at, what));
            }
            if batch.epoch == header.epoch {
                end.carry.prove(batch.watermark);
                void = void.max(Some(batch.sequence));
            }
        }
        end.readable = end.readable.max(void.unwrap_or_default());
        if void.is_some() || self.is_written(newest, scanner, position).await? {
            let cut = Cut { segment: newest.name.clone(), offset: position, kept: end.kept, void };
            purlin_rsm::sometimes!("torn tail cut");
            purlin_rsm::sometimes!(void.is_some(), "torn tail had readable batches behind it");
            tracing::warn!(?cut, location = self.disk.location(), "a torn tail was cut");
            end.cut = Some(cut);
        }
        Ok(())
    }

    /// Whether a batch was begun at `position` in this epoch of the file. Zeroes and the old content of a
    /// recycled file are none.
    async fn is_written(
        &self,
        newest: &Found<D::File>,
        scanner: &mut Scanner<'_, D::File>,
        position: u64,
    ) -> Result<bool, StorageError> {
        let epoch = newest.header().expect("the newest has a header").epoch;
        let header = scanner.header(position).await;
        let header = header.map_err(|error| self.unreadable(&newest.name, error))?;
        Ok(header.is_some_and(|header| header.epoch == epoch))
    }

    /// Takes the newest segment and those that it names, one by one, out of `found`: the chain, the oldest
    /// first. The files that are left are void.
    fn take_chain(
        &self,
        found: &mut Vec<Found<D::File>>,
        newest: usize,
        oldest: u64,
    ) -> Result<VecDeque<Kept<D::File>>, StorageError> {
        let mut chain = VecDeque::from([Kept::from(found.swap_remove(newest))]);
        loop {
            let next = &chain[0];
            let previous = next.header.previous;
            if previous.sequence == Sequence(0) || previous.segment < oldest {
                return Ok(chain);
            }
            let is_named = |file: &Found<D::File>| {
                file.header().is_some_and(|header| header.number == previous.segment)
            };
            let named = found.iter().filter(|file| is_named(file)).count();
            let what = match named {
                1 if previous.segment < next.header.number => None,
                0 => Some(format!("segment {} is lost, or its header is", previous.segment)),
                _ => Some(format!("segment {} is there twice, or out of order", previous.segment)),
            };
            if let Some(what) = what {
                return Err(self.damaged(&next.name, 0, what));
            }
            let at = found.iter().position(is_named).expect("one is named");
            chain.push_front(Kept::from(found.swap_remove(at)));
        }
    }

    /// W4: a header was torn or never written only if no batch behind it is newer than the log's end, because
    /// batches follow durable headers only.
    ///
    /// A file with the first block of a prepared one, or with an older header, has not been begun since, unless
    /// the write of the new header was lost. The first batch lies right behind the header, so its block alone
    /// shows that. Behind an unreadable first block all is searched, twice as in [`Self::search_tail`].
    async fn search_void(
        &self,
        file: &Found<D::File>,
        seed: Seed,
        prepared: Option<u64>,
        end: &mut End,
    ) -> Result<(), StorageError> {
        let (chunk, until) = match &file.first {
            First::Header(header) => {
                end.readable = end.readable.max(header.sequence);
                (BLOCK, FIRST_BATCH + BLOCK as u64)
            }
            First::Prepared => (BLOCK, FIRST_BATCH + BLOCK as u64),
            First::Unreadable if self.is_blank(file).await? => {
                return self.judge_blank(file, prepared);
            }
            First::Unreadable => {
                purlin_rsm::sometimes!("segment without a readable header searched");
                (RECOVERY_CHUNK, file.bytes)
            }
        };
        let mut scanner = Scanner::new(&file.file, file.bytes, seed, chunk);
        let blocks = FIRST_BATCH..until.min(scanner.end());
        let times = if file.first == First::Unreadable { 2 } else { 1 };
        for at in repeated(times, blocks) {
            if at == FIRST_BATCH {
                scanner.forget();
            }
            let batch = scanner.header(at).await;
            let batch = batch.map_err(|error| self.unreadable(&file.name, error))?;
            if let Some(batch) = batch.filter(|batch| batch.sequence > end.kept) {
                let what =
                    format!("batch {} is newer than the log's end, {}", batch.sequence, end.kept);
                return Err(self.damaged(&file.name, at, what));
            }
        }
        Ok(())
    }

    /// A file of zeroes: a prepared one has something else in its first block, and so has each one that was
    /// begun. An earlier version left it blank, and a start removes such files before any other is prepared. So
    /// behind the `prepared` file, the last one, a blank one may be of that version; before it, it became blank.
    fn judge_blank(
        &self,
        file: &Found<D::File>,
        prepared: Option<u64>,
    ) -> Result<(), StorageError> {
        if segment::number_in(&file.name) < prepared {
            let what = "its first block became zeroes: nobody can say whether it held batches";
            return Err(self.damaged(&file.name, 0, what.to_owned()));
        }
        purlin_rsm::sometimes!("prepared segment found blank");
        Ok(())
    }

    /// Whether the first MiB of a file is zeroes, or all of a shorter one, which two reads say.
    async fn is_blank(&self, file: &Found<D::File>) -> Result<bool, StorageError> {
        let len = align_down(file.bytes).min(RECOVERY_CHUNK as u64) as usize;
        if len == 0 {
            return Ok(false);
        }
        for _ in 0..2 {
            let read = read_twice(&file.file, 0, len).await;
            let read = read.map_err(|error| self.unreadable(&file.name, error))?;
            // It was unreadable before: the device gives one place in two ways, so nothing that it says is proof.
            if segment::parse(&read.as_ref()[..BLOCK]) != FirstBlock::Unreadable {
                purlin_rsm::sometimes!("first block of a segment read in two ways");
                let error = io::Error::other("its first block is read in two ways");
                return Err(self.unreadable(&file.name, error));
            }
            if read.as_ref().iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes in a segment up to the batch `until`, which was durable: a bad one is damage (safety W2).
    async fn rebuild(
        &self,
        mut kept: Kept<D::File>,
        until: BatchName,
        seed: Seed,
        rebuilt: &mut Rebuilt,
    ) -> Result<Kept<D::File>, StorageError> {
        let mut sequence = kept.header.sequence;
        let mut at = Location::first(kept.header.number);
        let mut last = None;
        let mut scanner = Scanner::new(&kept.file, kept.bytes, seed, RECOVERY_CHUNK);
        // The newest may hold no batch at all: then the last one is an older segment's.
        while until.segment == kept.header.number && sequence < until.sequence {
            sequence = Sequence(sequence.0 + 1);
            let batch = scanner.batch(at.position(), kept.header.epoch, sequence).await;
            let batch = batch.map_err(|error| self.unreadable(&kept.name, error))?;
            let Some((batch, records)) = batch else {
                purlin_rsm::sometimes!("damage found before the end of the log");
                let what = format!("batch {sequence} is unreadable, and was durable");
                return Err(self.damaged(&kept.name, at.position(), what));
            };
            let applied = rebuilt.apply(records, at, batch.written_bytes());
            applied.map_err(|what| self.damaged(&kept.name, at.position(), what.to_owned()))?;
            rebuilt.oldest = rebuilt.oldest.max(Some(batch.oldest));
            at = at.behind(batch.written_bytes());
            last = Some(batch.checksum);
        }
        if until.segment == kept.header.number && last != Some(until.checksum) {
            let what =
                format!("batch {} is not the one that the next segment names", until.sequence);
            return Err(self.damaged(&kept.name, at.position(), what));
        }
        kept.end = at.position();
        Ok(kept)
    }
}

impl<F> From<Found<F>> for Kept<F> {
    fn from(found: Found<F>) -> Self {
        let First::Header(header) = found.first else {
            unreachable!("a segment of the chain has a header")
        };
        Self { header, name: found.name, file: found.file, bytes: found.bytes, end: FIRST_BATCH }
    }
}

impl<F> Kept<F> {
    pub(super) fn into_segment(self) -> Segment<F> {
        Segment {
            number: self.header.number,
            name: self.name,
            epoch: self.header.epoch,
            sequence: self.header.sequence,
            bytes: self.bytes,
            end: Cell::new(self.end),
            file: self.file,
        }
    }
}

impl<F> Found<F> {
    /// Its header, if it has a readable one.
    fn header(&self) -> Option<&Header> {
        match &self.first {
            First::Header(header) => Some(header),
            First::Prepared | First::Unreadable => None,
        }
    }

    /// Whether it has the header of one of these segments.
    pub(super) fn is_in(&self, numbers: Range<u64>) -> bool {
        self.header().is_some_and(|header| numbers.contains(&header.number))
    }

    pub(super) fn into_segment(self) -> Segment<F> {
        Segment {
            number: self.header().map_or(0, |header| header.number),
            epoch: self.header().map_or(0, |header| header.epoch),
            sequence: self.header().map_or(Sequence(0), |header| header.sequence),
            name: self.name,
            bytes: self.bytes,
            end: Cell::new(FIRST_BATCH),
            file: self.file,
        }
    }
}

/// The blocks of a range, so many times.
fn repeated(times: usize, range: Range<u64>) -> impl Iterator<Item = u64> {
    (0..times).flat_map(move |_| range.clone().step_by(BLOCK))
}

/// The state that the batches that were read lead to.
struct Rebuilt {
    live: Live,
    recent: Recent,
    /// The oldest segment that the batches which are proven durable name.
    oldest: Option<u64>,
}

impl Rebuilt {
    fn apply(&mut self, records: &[u8], at: Location, written: usize) -> Result<(), &'static str> {
        let recent = &mut self.recent;
        let applied =
            self.live.apply(records, at, written, None, |group, run| recent.add(group, run));
        applied.map_err(|malformed| malformed.0)
    }
}

/// A sequence above everything that is readable, and above the writes that were in flight and are not
/// readable (safety W3). The distance is drawn, so that a torn header which becomes readable again has
/// another sequence than the new one.
fn above(readable: Sequence, random: u64) -> Sequence {
    const IN_FLIGHT: u64 = 1 << 10;
    const DRAWN: u64 = 1 << 20;
    Sequence(readable.0 + IN_FLIGHT + random % DRAWN)
}
