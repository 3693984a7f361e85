//! Opening a WAL: what counts of the bytes that are there, and a new header behind it.
//!
//! ```text
//!   segment 3          4               5 (newest)             6 (new)
//!  ┌─────────────┐    ┌──────────┐    ┌────────────────┐     ┌────────
//!  │H b b b b b  │◄───│H b b b   │◄───│H b b b ✗ · · · │◄────│H
//!  └─────────────┘    └──────────┘    └────────────────┘     └────────
//!        all up to the batch that the next header names     torn tail: cut, if nothing
//!        is durable: what is bad there is damage (W2)       calls ✗ durable (W4)
//! ```
//!
//! The header with the highest sequence is the newest; each names the last batch before it, down to
//! the oldest segment that is needed. Files outside that chain are void; before they are reused, they
//! are searched for batches that are newer than the log's end, which only damage can leave there.
//!
//! What is readable and not proven durable is carried into the new segment (see [`crate::carry`]).
//!
//! Never writes into a file that it read, and never takes anything apart before all is judged: an
//! error leaves the directory as it was.

use crate::{
    align::BLOCK,
    batch::Seed,
    carry::{Carried, Carry},
    config::WalConfig,
    disk::{Disk, Durability, File},
    error::{StorageError, is_full},
    index::Location,
    live::Live,
    record::EntryRun,
    reserve::{self, Reserve},
    scan::{RECOVERY_CHUNK, Scanner, read_twice},
    segment::{self, BatchName, FIRST_BATCH, FirstBlock, Header, STARTS_MAX, Segment},
    wal::{Epochs, Opened, Wal},
};
use purlin_rsm::{
    BootId, Entry, EntryId, GroupId, HardState, Identity, Index, PeerMemory, Sequence, Start, Term,
};
use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    io,
    rc::Rc,
    sync::Arc,
};

/// What was in a WAL when it was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Each group of which there is anything.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// What is remembered of peers' shards.
    pub peers: Vec<PeerMemory>,
    /// This start.
    pub start: Start,
    /// The latest starts, this one last; at most 16.
    pub starts: Vec<Start>,
    /// The torn tail, if there was one.
    pub cut: Option<Cut>,
}

/// What is known of one group.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RecoveredGroup {
    /// Its latest hard state.
    pub hard_state: HardState,
    /// The first entry of its log.
    pub first: Index,
    /// The entry before the first; `0@0` if there was none.
    pub before_first: EntryId,
    /// Each run of entries of one term, with its first index.
    pub terms: Vec<(Index, Term)>,
    /// The last entry of its log, or the one before the first.
    pub last: Index,
    /// The end of its log, as far as `tail_bytes_max` allowed; the rest is there to be read.
    pub tail: Vec<Entry>,
}

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

impl<D: Disk> Wal<D> {
    /// Lays the foundation of a WAL in a directory that has none: a header, no batch. The directory is
    /// made if it is not there; making its name durable in its parent is the caller's.
    ///
    /// # Errors
    /// `Exists` when there is a segment already, `Locked`, `NoSpace` or `Io`.
    pub async fn create(
        disk: &D,
        identity: Identity,
        config: &WalConfig,
        random: u64,
    ) -> Result<(), StorageError> {
        let site = Site { disk, config };
        match disk.create_dir().await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(site.io("making the directory", error));
            }
            _ => {}
        }
        let _lock = site.lock().await?;
        if !site.segment_names().await?.is_empty() {
            return Err(StorageError::Exists { location: disk.location() });
        }
        let header = Header {
            identity,
            number: 1,
            epoch: random,
            sequence: Sequence(1),
            previous: BatchName::default(),
            oldest: 1,
            bytes: BLOCK as u64,
            starts: Vec::new(),
        };
        site.lay_foundation(&header).await
    }

    /// Recovers what is there, and goes on behind it. `random` gives the boot id and the epochs.
    ///
    /// # Errors
    /// `Locked`, `Missing`, `Foreign`, `NewerFormat`, `Damaged`, `NoSpace` or `Io`; the directory is
    /// as it was then.
    ///
    /// # Panics
    /// When `config` is not valid.
    pub async fn open(
        disk: &D,
        identity: Identity,
        config: &WalConfig,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(Rc<Self>, Recovered), StorageError> {
        config.validate().expect("a WAL's configuration is validated before");
        let site = Site { disk, config };
        let lock = site.lock().await?;
        let found = site.find(identity).await?;
        let log = site.judge(found, identity, random()).await?;
        let (opened, recovered) = site.begin(log, lock, identity, random).await?;
        Ok((Rc::new(Self::new(opened)), recovered))
    }
}

/// Where recovery works.
struct Site<'a, D: Disk> {
    disk: &'a D,
    config: &'a WalConfig,
}

/// A file with a segment's name.
struct Found<F> {
    name: String,
    file: F,
    bytes: u64,
    /// Nothing if it is not readable.
    header: Option<Header>,
}

/// The log, and what lies beside it.
struct Log<F> {
    live: Live,
    tail: Tail,
    /// From the oldest to the newest.
    chain: Vec<Kept<F>>,
    void: Vec<Found<F>>,
    /// The header of the newest segment.
    newest: Header,
    end: End,
    next_number: u64,
    /// The sequence of the new segment's header, and what goes into that segment.
    sequence: Sequence,
    carried: Vec<Carried>,
}

/// The new segment.
struct Begun<F> {
    file: F,
    /// Where its next batch will lie.
    end: u64,
    /// The last batch of the log.
    last: BatchName,
}

/// A segment of the chain and how far it is kept.
struct Kept<F> {
    header: Header,
    name: String,
    file: F,
    bytes: u64,
    end: u64,
}

/// Where the log ends.
struct End {
    /// The last batch that is proven durable, and what is readable behind it.
    carry: Carry,
    /// The last batch, or the newest header.
    kept: Sequence,
    oldest: u64,
    /// Nothing that is readable anywhere has a higher sequence.
    readable: Sequence,
    cut: Option<Cut>,
}

impl<D: Disk> Site<'_, D> {
    async fn lock(&self) -> Result<D::Lock, StorageError> {
        let location = self.disk.location();
        self.disk.lock().await.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StorageError::Locked { location },
            io::ErrorKind::NotFound => StorageError::Missing { location },
            _ => self.io("locking", error),
        })
    }

    async fn segment_names(&self) -> Result<Vec<String>, StorageError> {
        let names = self.disk.list().await.map_err(|error| self.io("listing", error))?;
        Ok(names.into_iter().filter(|name| segment::number_in(name).is_some()).collect())
    }

    async fn lay_foundation(&self, header: &Header) -> Result<(), StorageError> {
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
        reserve::rename(self.disk, &unfinished, &segment::name(header.number))
            .await
            .map_err(|error| self.io("renaming a segment", error))?;
        file.close().await.map_err(|error| self.io("closing a segment", error))
    }

    async fn write_header(&self, file: &D::File, header: &Header) -> Result<(), StorageError> {
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

    /// Opens every segment, which takes its lock: writes of a killed process that are still in
    /// flight hold it, and nothing may be judged before they have ended (safety W3).
    async fn find(&self, identity: Identity) -> Result<Vec<Found<D::File>>, StorageError> {
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
                _ => self.io("opening a segment", error),
            })?;
            let bytes = file.size().await.map_err(|error| self.io("opening a segment", error))?;
            let header = self.first_block(&file, bytes, &name, identity).await?;
            found.push(Found { name, file, bytes, header });
        }
        Ok(found)
    }

    async fn first_block(
        &self,
        file: &D::File,
        bytes: u64,
        name: &str,
        identity: Identity,
    ) -> Result<Option<Header>, StorageError> {
        if bytes < BLOCK as u64 {
            return Ok(None);
        }
        for _ in 0..2 {
            let block = read_twice(file, 0, BLOCK).await;
            let block = block.map_err(|error| self.unreadable(name, error))?;
            match segment::parse(block.as_ref()) {
                FirstBlock::Header(header) if header.identity != identity => {
                    return Err(StorageError::Foreign {
                        location: self.disk.location(),
                        segment: name.to_owned(),
                        found: Box::new(header.identity),
                        expected: Box::new(identity),
                    });
                }
                FirstBlock::Header(header) => return Ok(Some(header)),
                FirstBlock::Version(version) => {
                    return Err(StorageError::NewerFormat {
                        location: self.disk.location(),
                        segment: name.to_owned(),
                        version,
                        known: segment::VERSION,
                    });
                }
                // Read it from the device once more before believing that.
                FirstBlock::Unreadable => {}
            }
        }
        Ok(None)
    }

    /// Decides what is the log and what is void, and reads the log.
    async fn judge(
        &self,
        found: Vec<Found<D::File>>,
        identity: Identity,
        random: u64,
    ) -> Result<Log<D::File>, StorageError> {
        let seed = Seed::new(&identity);
        let next_number = self.next_number(&found)?;
        let newest = self.newest(&found)?;
        let mut end = self.find_end(&found[newest], seed).await?;
        let (chain, void) = self.chain(found, newest, end.oldest)?;
        let newest = chain.last().expect("the newest is in the chain").header.clone();
        for file in &void {
            self.search_void(file, seed, &mut end).await?;
        }
        let mut replay =
            Replay { live: Live::default(), tail: Tail::new(self.config.tail_bytes_max) };
        let mut kept = Vec::with_capacity(chain.len());
        let mut links = chain.iter().skip(1).map(|next| next.header.previous).collect::<Vec<_>>();
        links.push(end.carry.proven);
        for (file, until) in chain.into_iter().zip(links) {
            kept.push(self.replay(file, until, seed, &mut replay).await?);
        }
        // W3: readable is not durable, and a sync that passes now would not prove it.
        let sequence = above(end.readable, random);
        let carried = end.carry.take_batches(next_number, sequence);
        for batch in &carried {
            let taken = replay.take(&batch.records, batch.at, batch.written_bytes());
            let newest = kept.last().expect("the newest is in the chain");
            taken.map_err(|what| self.damaged(&newest.name, newest.end, what.to_owned()))?;
        }
        let incomplete = replay.live.groups.iter().find(|(_, group)| !group.is_complete());
        if let Some((id, group)) = incomplete {
            let what = format!("entries of group {id} before {} are missing", group.last);
            return Err(self.damaged(&kept[0].name, FIRST_BATCH, what));
        }
        Ok(Log {
            live: replay.live,
            tail: replay.tail,
            chain: kept,
            void,
            newest,
            end,
            next_number,
            sequence,
            carried,
        })
    }

    fn next_number(&self, found: &[Found<D::File>]) -> Result<u64, StorageError> {
        let named = found.iter().filter_map(|file| segment::number_in(&file.name));
        let headed = found.iter().filter_map(|file| Some(file.header.as_ref()?.number));
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
        let sequence = |file: &Found<D::File>| Some(file.header.as_ref()?.sequence);
        let headed = (0..found.len()).filter(|&at| found[at].header.is_some());
        let newest = headed.max_by_key(|&at| sequence(&found[at]));
        newest.ok_or_else(|| {
            self.damaged(&found[0].name, 0, "no segment has a readable header".to_owned())
        })
    }

    /// Scans the newest segment. Only that one can be torn (safety W2).
    async fn find_end(&self, newest: &Found<D::File>, seed: Seed) -> Result<End, StorageError> {
        let header = newest.header.as_ref().expect("the newest has a header");
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
            let batch = scanner.batch(position, header.epoch, Some(sequence)).await;
            let Some((batch, records)) =
                batch.map_err(|error| self.unreadable(&newest.name, error))?
            else {
                break;
            };
            let name = BatchName { segment: header.number, sequence, checksum: batch.checksum };
            end.carry.take(name, batch.watermark, records);
            end.kept = sequence;
            end.oldest = batch.oldest;
            position += batch.written_bytes() as u64;
        }
        end.readable = end.kept;
        self.search_tail(newest, &mut scanner, position, &mut end).await?;
        Ok(end)
    }

    /// W4: behind the first bad batch, at `position`: nothing that is readable may call it durable.
    async fn search_tail(
        &self,
        newest: &Found<D::File>,
        scanner: &mut Scanner<'_, D::File>,
        position: u64,
        end: &mut End,
    ) -> Result<(), StorageError> {
        let header = newest.header.as_ref().expect("the newest has a header");
        let bad = Sequence(end.kept.0.saturating_add(1));
        let mut void = None;
        for at in (position..scanner.end()).step_by(BLOCK) {
            let batch = scanner.header(at).await;
            let batch = batch.map_err(|error| self.unreadable(&newest.name, error))?;
            let Some(batch) = batch else { continue };
            if batch.epoch == header.epoch && batch.watermark >= bad {
                let what = format!(
                    "batch {bad} is unreadable, and batch {} says that it was durable",
                    batch.sequence
                );
                return Err(self.damaged(&newest.name, position, what));
            }
            if batch.epoch != header.epoch && batch.sequence > header.sequence {
                let what = format!("a batch {} of another life is newer", batch.sequence);
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
            tracing::warn!(?cut, location = self.disk.location(), "a torn tail was cut");
            end.cut = Some(cut);
        }
        Ok(())
    }

    /// Whether anything was begun at `position` in this life of the file. What a zero-filled or
    /// recycled file holds there is none of it.
    async fn is_written(
        &self,
        newest: &Found<D::File>,
        scanner: &mut Scanner<'_, D::File>,
        position: u64,
    ) -> Result<bool, StorageError> {
        let epoch = newest.header.as_ref().expect("the newest has a header").epoch;
        let header = scanner.header(position).await;
        let header = header.map_err(|error| self.unreadable(&newest.name, error))?;
        Ok(header.is_some_and(|header| header.epoch == epoch))
    }

    /// Splits the files into the segments that the newest one names, one by one, and all others.
    #[allow(clippy::type_complexity)]
    fn chain(
        &self,
        found: Vec<Found<D::File>>,
        newest: usize,
        oldest: u64,
    ) -> Result<(Vec<Kept<D::File>>, Vec<Found<D::File>>), StorageError> {
        let mut order = vec![newest];
        let mut next = newest;
        loop {
            let header = found[next].header.as_ref().expect("the chain has headers");
            let previous = header.previous;
            if previous.sequence == Sequence(0) || previous.segment < oldest {
                break;
            }
            let before = |file: &Found<D::File>| {
                file.header.as_ref().is_some_and(|h| h.number == previous.segment)
            };
            let mut named = (0..found.len()).filter(|&at| before(&found[at]));
            let at = match (named.next(), named.next()) {
                (Some(at), None) if previous.segment < header.number => at,
                (Some(at), _) => {
                    let what =
                        format!("segment {} is there twice, or out of order", previous.segment);
                    return Err(self.damaged(&found[at].name, 0, what));
                }
                (None, _) => {
                    let what = format!("segment {} is lost, or its header is", previous.segment);
                    return Err(self.damaged(&found[next].name, 0, what));
                }
            };
            order.push(at);
            next = at;
        }
        let place: BTreeMap<usize, usize> =
            order.iter().rev().copied().enumerate().map(|(p, at)| (at, p)).collect();
        let mut chain: Vec<Option<Kept<D::File>>> = order.iter().map(|_| None).collect();
        let mut void = Vec::new();
        for (at, file) in found.into_iter().enumerate() {
            match place.get(&at) {
                Some(&place) => {
                    let header = file.header.expect("the chain has headers");
                    chain[place] = Some(Kept {
                        header,
                        name: file.name,
                        file: file.file,
                        bytes: file.bytes,
                        end: FIRST_BATCH,
                    });
                }
                None => void.push(file),
            }
        }
        Ok((chain.into_iter().flatten().collect(), void))
    }

    /// W4: a header that is unreadable, or of an older life, is a torn or an unwritten one only if no
    /// batch behind it is newer than the log's end: batches follow durable headers only.
    async fn search_void(
        &self,
        file: &Found<D::File>,
        seed: Seed,
        end: &mut End,
    ) -> Result<(), StorageError> {
        if let Some(header) = &file.header {
            end.readable = end.readable.max(header.sequence);
        }
        let mut scanner = Scanner::new(&file.file, file.bytes, seed, RECOVERY_CHUNK);
        for at in (FIRST_BATCH..scanner.end()).step_by(BLOCK) {
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

    /// Takes in a segment up to the batch `until`, which was durable: a bad one is damage (safety W2).
    async fn replay(
        &self,
        mut kept: Kept<D::File>,
        until: BatchName,
        seed: Seed,
        replay: &mut Replay,
    ) -> Result<Kept<D::File>, StorageError> {
        let mut sequence = kept.header.sequence;
        let mut position = FIRST_BATCH;
        let mut last = None;
        let mut scanner = Scanner::new(&kept.file, kept.bytes, seed, RECOVERY_CHUNK);
        // The newest may hold no batch at all: then the last one is an older segment's.
        while until.segment == kept.header.number && sequence < until.sequence {
            sequence = Sequence(sequence.0 + 1);
            let batch = scanner.batch(position, kept.header.epoch, Some(sequence)).await;
            let batch = batch.map_err(|error| self.unreadable(&kept.name, error))?;
            let Some((batch, records)) = batch else {
                let what = format!("batch {sequence} is unreadable, and was durable");
                return Err(self.damaged(&kept.name, position, what));
            };
            let at = Location { segment: kept.header.number, position };
            let taken = replay.take(records, at, batch.written_bytes());
            taken.map_err(|what| self.damaged(&kept.name, position, what.to_owned()))?;
            position += batch.written_bytes() as u64;
            last = Some(batch.checksum);
        }
        if until.segment == kept.header.number && last != Some(until.checksum) {
            let what =
                format!("batch {} is not the one that the next segment names", until.sequence);
            return Err(self.damaged(&kept.name, position, what));
        }
        kept.end = position;
        Ok(kept)
    }

    /// Writes a new header behind the log (safety W3), and frees what that makes void (W7).
    async fn begin(
        &self,
        log: Log<D::File>,
        lock: D::Lock,
        identity: Identity,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(Opened<D>, Recovered), StorageError> {
        let Log { live, tail, chain, mut void, newest, end, next_number, sequence, carried } = log;
        let mut epochs = Epochs::new(random());
        let start = Start {
            number: newest.starts.last().map_or(0, |start| start.number) + 1,
            boot: BootId(random()),
            kept: end.kept,
        };
        let mut starts = newest.starts;
        starts.push(start);
        starts.drain(..starts.len().saturating_sub(STARTS_MAX));

        // A header without batches behind it is void as soon as the next one is durable.
        let (chain, empty): (Vec<_>, Vec<_>) =
            chain.into_iter().partition(|kept| kept.end > FIRST_BATCH);
        // What is carried fits into a segment of the size that it comes from.
        let is_smaller = self.config.segment_bytes < newest.bytes && !carried.is_empty();
        let header = Header {
            identity,
            number: next_number,
            epoch: epochs.draw(),
            sequence,
            previous: end.carry.proven,
            oldest: chain.first().map_or(next_number, |kept| kept.header.number),
            bytes: if is_smaller { newest.bytes } else { self.config.segment_bytes },
            starts: starts.clone(),
        };
        let begun = self.begin_segment(&header, &carried, &mut void).await?;

        let mut segments: BTreeMap<u64, Rc<Segment<D::File>>> = chain
            .into_iter()
            .map(|kept| (kept.header.number, Rc::new(kept.into_segment())))
            .collect();
        let active = Rc::new(Segment {
            number: header.number,
            name: segment::name(header.number),
            epoch: header.epoch,
            bytes: header.bytes,
            end: Cell::new(begun.end),
            file: begun.file,
        });
        segments.insert(header.number, active.clone());
        let free = void.into_iter().map(Found::into_segment);
        let free = free.chain(empty.into_iter().map(Kept::into_segment)).map(Rc::new).collect();
        let recovered = Recovered {
            groups: recovered_groups(&live, tail),
            peers: live.peers().collect(),
            start,
            starts: starts.clone(),
            cut: end.cut,
        };
        let opened = Opened {
            disk: self.disk.clone(),
            lock,
            identity,
            config: self.config.clone(),
            live,
            segments,
            active,
            reserve: Reserve::new(header.number + 1, free),
            last_batch: begun.last,
            header_sequence: header.sequence,
            durable: Sequence(header.sequence.0 + carried.len() as u64),
            oldest: header.oldest,
            starts,
            epochs,
        };
        Ok((opened, recovered))
    }

    /// Makes the new segment with what is carried into it. Until all of that is durable the file has
    /// no segment's name, so that a crash on the way leaves the log as it was.
    async fn begin_segment(
        &self,
        header: &Header,
        carried: &[Carried],
        void: &mut Vec<Found<D::File>>,
    ) -> Result<Begun<D::File>, StorageError> {
        self.remove_unfinished().await?;
        let file = self.take_void(void, header.number, header.bytes).await?;
        let mut begun = Begun { file, end: FIRST_BATCH, last: header.previous };
        for batch in carried {
            let mut block = begun.file.block(batch.written_bytes());
            begun.last = batch.seal(block.as_mut(), Seed::new(&header.identity), header);
            let written = begun.file.write_at(block, batch.at.position).await;
            written.map_err(|error| self.io("writing what a start carries on", error))?;
            begun.end = batch.at.position + batch.written_bytes() as u64;
        }
        self.write_header(&begun.file, header).await?;
        let unfinished = segment::unfinished_name(header.number);
        let renamed = reserve::rename(self.disk, &unfinished, &segment::name(header.number)).await;
        renamed.map_err(|error| self.io("renaming a segment", error))?;
        Ok(begun)
    }

    /// A file for the new segment, under its unfinished name: a void one, so that a crash loop needs
    /// no space (safety W7), or a new one.
    async fn take_void(
        &self,
        void: &mut Vec<Found<D::File>>,
        number: u64,
        bytes: u64,
    ) -> Result<D::File, StorageError> {
        let unfinished = segment::unfinished_name(number);
        if let Some(at) = void.iter().position(|file| file.bytes == bytes) {
            let file = void.swap_remove(at);
            // Its old name must be gone for good before its content changes: under that name, what
            // is carried would look like damage.
            let renamed = reserve::rename(self.disk, &file.name, &unfinished).await;
            renamed.map_err(|error| self.io("renaming a segment", error))?;
            return Ok(file.file);
        }
        let created = self.disk.create(&unfinished, bytes, self.config.durability).await;
        created.map_err(|error| self.io("making a segment", error))
    }

    async fn remove_unfinished(&self) -> Result<(), StorageError> {
        let names = self.disk.list().await.map_err(|error| self.io("listing", error))?;
        for name in names.iter().filter(|name| segment::is_unfinished(name)) {
            let removed = reserve::remove(self.disk, name).await;
            removed.map_err(|error| self.io("removing an unfinished segment", error))?;
        }
        Ok(())
    }

    fn damaged(&self, segment: &str, offset: u64, what: String) -> StorageError {
        StorageError::Damaged {
            location: self.disk.location(),
            segment: segment.to_owned(),
            offset,
            what,
        }
    }

    /// W4: a read error is never a torn tail.
    fn unreadable(&self, segment: &str, error: io::Error) -> StorageError {
        StorageError::Io {
            location: format!("{}, {segment}", self.disk.location()),
            action: "reading",
            means: "what is there cannot be judged, so the shard does not start; nothing was changed",
            source: Arc::new(error),
        }
    }

    fn io(&self, action: &'static str, error: io::Error) -> StorageError {
        if is_full(&error) {
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

/// A sequence above everything that was readable, and above what was in flight and is not (safety W3).
/// By how much is drawn, so that a header that was torn, and is readable again, has another one.
fn above(readable: Sequence, random: u64) -> Sequence {
    const IN_FLIGHT: u64 = 1 << 10;
    const DRAWN: u64 = 1 << 20;
    Sequence(readable.0 + IN_FLIGHT + random % DRAWN)
}

impl<F> Kept<F> {
    fn into_segment(self) -> Segment<F> {
        Segment {
            number: self.header.number,
            name: self.name,
            epoch: self.header.epoch,
            bytes: self.bytes,
            end: Cell::new(self.end),
            file: self.file,
        }
    }
}

impl<F> Found<F> {
    fn into_segment(self) -> Segment<F> {
        Segment {
            number: self.header.as_ref().map_or(0, |header| header.number),
            name: self.name,
            epoch: self.header.as_ref().map_or(0, |header| header.epoch),
            bytes: self.bytes,
            end: Cell::new(FIRST_BATCH),
            file: self.file,
        }
    }
}

/// What is read so far.
struct Replay {
    live: Live,
    tail: Tail,
}

impl Replay {
    fn take(&mut self, records: &[u8], at: Location, written: usize) -> Result<(), &'static str> {
        let tail = &mut self.tail;
        let taken = self.live.apply(records, at, written, None, |run| tail.take(run));
        taken.map_err(|malformed| malformed.0)
    }
}

/// The latest entries of all groups, within a bound.
struct Tail {
    bytes_max: usize,
    bytes: usize,
    groups: BTreeMap<GroupId, VecDeque<Entry>>,
    /// In the order of the WAL. Those of replaced entries are still in it.
    arrivals: VecDeque<(GroupId, Index)>,
}

impl Tail {
    fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, groups: BTreeMap::new(), arrivals: VecDeque::new() }
    }

    fn take(&mut self, run: &EntryRun<'_>) {
        let group = self.groups.entry(run.group).or_default();
        while let Some(replaced) = group.pop_back_if(|entry| entry.index >= run.first) {
            self.bytes -= replaced.cost();
        }
        // Behind a gap, which a floor will explain, nothing before it is of use.
        if group.back().is_some_and(|entry| entry.index.next() != run.first) {
            self.bytes -= group.drain(..).map(|entry| entry.cost()).sum::<usize>();
        }
        for entry in run.entries() {
            self.bytes += entry.cost();
            self.arrivals.push_back((run.group, entry.index));
            group.push_back(entry);
        }
        self.drop_oldest();
    }

    fn drop_oldest(&mut self) {
        const COST_MIN: usize = 32;
        while self.bytes > self.bytes_max || self.arrivals.len() > self.bytes_max / COST_MIN {
            let Some((group, index)) = self.arrivals.pop_front() else { return };
            let group = self.groups.get_mut(&group).expect("a group that arrived");
            if let Some(entry) = group.pop_front_if(|entry| entry.index == index) {
                self.bytes -= entry.cost();
            }
        }
    }

    fn of(&mut self, group: GroupId, first: Index) -> Vec<Entry> {
        let tail = self.groups.remove(&group).unwrap_or_default();
        tail.into_iter().filter(|entry| entry.index >= first).collect()
    }
}

fn recovered_groups(live: &Live, mut tail: Tail) -> BTreeMap<GroupId, RecoveredGroup> {
    let recovered = live.groups.iter().map(|(&id, group)| {
        let recovered = RecoveredGroup {
            hard_state: group.hard_state.unwrap_or_default().value,
            first: group.first(),
            before_first: group.floor.value,
            terms: group.terms.clone(),
            last: group.last,
            tail: tail.of(id, group.first()),
        };
        (id, recovered)
    });
    recovered.collect()
}
