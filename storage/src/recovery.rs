//! Opening a WAL: finding out which bytes are the log, and writing a new header behind them.
//!
//! ```text
//!   segment 3          4               5 (newest)             6 (new)
//!  ┌─────────────┐    ┌──────────┐    ┌────────────────┐     ┌────────
//!  │H b b b b b  │◄───│H b b b   │◄───│H b b b ✗ · · · │◄────│H
//!  └─────────────┘    └──────────┘    └────────────────┘     └────────
//!        all up to the batch that the next header names     torn tail: cut, if no batch
//!        is durable: a bad batch there is damage (W2)       calls ✗ durable (W4)
//! ```
//!
//! Recovery never writes into a file that it has read, and changes nothing before everything is judged:
//! an error leaves the directory as it was.

mod judge;
mod site;

pub use self::judge::Cut;
use self::{
    judge::{First, Found, Kept, Log},
    site::Site,
};
use crate::{
    align::BLOCK,
    batch::Seed,
    carry::Carried,
    config::WalConfig,
    directory,
    disk::{Disk, File},
    error::{Shortage, StorageError},
    index::Location,
    live::Live,
    recent::Recent,
    reserve::Reserve,
    segment::{self, BatchName, FIRST_BATCH, Header, STARTS_MAX, Segment},
    segments::{Epochs, HeaderTemplate, Segments},
    state::State,
    wal::Wal,
};
use purlin_rsm::{
    BootId, Entry, EntryId, GroupId, HardState, Identity, Index, PeerMemory, Position, Sequence,
    Start, Term,
};
use std::{cell::Cell, collections::BTreeMap, io, rc::Rc};

/// The contents of a WAL when it was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Each group of which the WAL has a record.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// The memories of peers' shards.
    pub peers: Vec<PeerMemory>,
    /// This start.
    pub start: Start,
    /// The latest starts, this one last; at most 16 (safety I4).
    pub starts: Vec<Start>,
    /// The torn tail, if there was one.
    pub cut: Option<Cut>,
}

/// The contents of a WAL of one group.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RecoveredGroup {
    /// Its latest hard state.
    pub hard_state: HardState,
    /// The entry before the first one of its log: `0@0` for a log that begins with entry 1.
    pub floor: EntryId,
    /// Each run of entries of one term above the floor, with its first index. Ascending in both.
    pub terms: Vec<(Index, Term)>,
    /// The last entry of its log; the floor's index when the log is empty.
    pub last: Index,
    /// The position of the last command of its log.
    pub end: Position,
    /// The end of its log, as much as `tail_bytes_max` allows. [`Wal::read`] reads the rest.
    pub tail: Vec<Entry>,
}

impl<D: Disk> Wal<D> {
    /// Makes a WAL in a directory that has none: one segment with a header and no batch. The directory is
    /// made if it does not exist; the caller makes its name durable in the parent.
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

    /// Recovers the log, and continues behind it. `random` gives the boot id and the epochs.
    ///
    /// # Errors
    /// `Locked`, `Missing`, `Foreign`, `OtherFormat`, `Damaged`, `NoSpace` or `Io`. Then the directory is
    /// as it was.
    ///
    /// # Panics
    /// When `config` is not valid.
    pub async fn open(
        disk: &D,
        identity: Identity,
        config: &WalConfig,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(Rc<Self>, Recovered), StorageError> {
        let contradictions = config.contradictions();
        assert!(
            contradictions.is_empty(),
            "a WAL's configuration is validated: {contradictions:?}"
        );
        let site = Site { disk, config };
        let lock = site.lock().await?;
        let found = site.find(identity).await?;
        let drawn = Drawn { epochs: random(), boot: BootId(random()), sequence: random() };
        let log = site.judge(found, identity, drawn.sequence).await?;
        let (state, recovered) = site.begin(log, identity, drawn).await?;
        Ok((Rc::new(Self::new(disk.clone(), lock, config.clone(), identity, state)), recovered))
    }
}

/// The random numbers of one start.
struct Drawn {
    epochs: u64,
    boot: BootId,
    sequence: u64,
}

/// The new segment.
struct Begun<F> {
    file: F,
    /// Where its next batch will lie.
    planned: Location,
    /// The last batch of the log.
    last: BatchName,
}

impl<D: Disk> Site<'_, D> {
    /// Writes a new header behind the log (safety W3), and frees the files that this makes void (W7).
    async fn begin(
        &self,
        log: Log<D::File>,
        identity: Identity,
        drawn: Drawn,
    ) -> Result<(State<D::File>, Recovered), StorageError> {
        let Log {
            live,
            recent,
            chain,
            void,
            newest,
            end,
            next_number,
            sequence,
            carried,
            proven_oldest,
        } = log;
        let (start, starts) = with_this_start(newest.starts, drawn.boot, end.kept);
        let mut template = HeaderTemplate {
            identity,
            bytes: self.config.segment_bytes,
            starts: starts.clone(),
            epochs: Epochs::new(drawn.epochs),
        };

        // A header without batches behind it is void as soon as the next one is durable.
        let (chain, empty): (Vec<_>, Vec<_>) =
            chain.into_iter().partition(|kept| kept.end > FIRST_BATCH);
        let oldest = chain.first().map_or(next_number, |kept| kept.header.number);
        let mut header = template.header(next_number, sequence, end.carry.proven, oldest);
        header.bytes = self.first_bytes(&carried, newest.bytes);
        // The batch that released a segment may itself be lost until the new header is durable, and then
        // the segment is needed (safety W7).
        let (released, mut void): (Vec<_>, Vec<_>) =
            void.into_iter().partition(|file| file.is_in(proven_oldest..end.oldest));
        let begun = self.begin_segment(&mut header, &carried, &mut void).await?;

        let free = void.into_iter().chain(released).map(Found::into_segment);
        let free = free.chain(empty.into_iter().map(Kept::into_segment)).map(Rc::new).collect();
        let active = Segment {
            number: header.number,
            name: segment::name(header.number),
            epoch: header.epoch,
            sequence: header.sequence,
            bytes: header.bytes,
            end: Cell::new(begun.planned.position()),
            file: begun.file,
        };
        let older = chain.into_iter().map(Kept::into_segment);
        let segments = Segments::new(template, older, active, begun.planned, begun.last);
        let recovered = Recovered {
            groups: recovered_groups(&live, recent),
            peers: live.peers().collect(),
            start,
            starts,
            cut: end.cut,
        };
        let durable = Sequence(sequence.0 + carried.len() as u64);
        let reserve = Reserve::new(next_number + 1, free);
        let config = self.config.clone();
        Ok((State::new(config, live, segments, reserve, sequence, durable), recovered))
    }

    /// Makes the new segment, with the carried batches in it. The file gets a segment's name only when all
    /// of it is durable, so that a crash on the way leaves the log as it was.
    async fn begin_segment(
        &self,
        header: &mut Header,
        carried: &[Carried],
        void: &mut Vec<Found<D::File>>,
    ) -> Result<Begun<D::File>, StorageError> {
        purlin_rsm::sometimes!(!carried.is_empty(), "unproven tail carried into the new segment");
        // A name that was read need not be durable: a crash may have ended an earlier start behind its
        // rename. A rename or removal that relies on such a name must not outlive it at a power cut.
        let synced = self.disk.sync_dir().await;
        synced.map_err(|error| self.io("a sync of the directory", error))?;
        self.remove_unfinished().await?;
        self.remove_unreadable(void).await?;
        let (file, bytes) = self.segment_file(void, header.number, header.bytes).await?;
        header.bytes = bytes;
        let planned = Location::first(header.number);
        let mut begun = Begun { file, planned, last: header.previous };
        for batch in carried {
            let mut block = begun.file.block(batch.written_bytes());
            begun.last = batch.seal(block.as_mut(), Seed::new(&header.identity), header);
            let written = begun.file.write_at(block, batch.at.position()).await;
            written.map_err(|error| self.io("writing what a start carries on", error))?;
            begun.planned = batch.behind();
        }
        self.write_header(&begun.file, header).await?;
        let unfinished = segment::unfinished_name(header.number);
        let renamed =
            directory::rename(self.disk, &unfinished, &segment::name(header.number)).await;
        renamed.map_err(|error| self.io("renaming a segment", error))?;
        Ok(begun)
    }

    /// The size of the new segment: the small one of a start, if the carried batches fit into it. They fit
    /// into a segment of the size that they come from.
    fn first_bytes(&self, carried: &[Carried], newest: u64) -> u64 {
        let small = self.config.first_segment_bytes();
        let write_bytes_max = WalConfig::write_bytes_max(small);
        let are_short = carried.iter().all(|batch| batch.written_bytes() <= write_bytes_max);
        let end = carried.last().map_or(FIRST_BATCH, |last| last.behind().position());
        if are_short && end <= small { small } else { self.config.segment_bytes.max(newest) }
    }

    /// A file for the new segment, under its unfinished name, and its size: a void one, or a new one. If no
    /// file can be made, a void one that is larger, so that a crash loop needs no space (safety W7).
    async fn segment_file(
        &self,
        void: &mut Vec<Found<D::File>>,
        number: u64,
        bytes: u64,
    ) -> Result<(D::File, u64), StorageError> {
        let unfinished = segment::unfinished_name(number);
        if let Some(at) = void.iter().position(|file| file.bytes == bytes) {
            return self.void_file(void.swap_remove(at), &unfinished).await;
        }
        match self.disk.create(&unfinished, bytes, self.config.durability).await {
            Ok(file) => Ok((file, bytes)),
            Err(error) if Shortage::of(&error).is_some() => {
                let larger = void.iter().position(|file| file.bytes > bytes);
                let at = larger.ok_or_else(|| self.io("making a segment", error))?;
                purlin_rsm::sometimes!("larger void segment used by a start without room");
                self.void_file(void.swap_remove(at), &unfinished).await
            }
            Err(error) => Err(self.io("making a segment", error)),
        }
    }

    async fn void_file(
        &self,
        void: Found<D::File>,
        unfinished: &str,
    ) -> Result<(D::File, u64), StorageError> {
        purlin_rsm::sometimes!("void segment used again by a start");
        // The old name must be gone for good before the content changes: under the old name, the carried
        // batches would look like damage.
        let renamed = directory::rename(self.disk, &void.name, unfinished).await;
        renamed.map_err(|error| self.io("renaming a segment", error))?;
        Ok((void.file, void.bytes))
    }

    /// Void files whose first block says nothing: with a torn header, or of an earlier version that left it
    /// blank. From now on a blank file is damage (safety W4).
    async fn remove_unreadable(&self, void: &mut Vec<Found<D::File>>) -> Result<(), StorageError> {
        for file in void.extract_if(.., |file| file.first == First::Unreadable) {
            let removed = directory::remove(self.disk, &file.name).await;
            removed.map_err(|error| self.io("removing a void segment", error))?;
        }
        Ok(())
    }

    async fn remove_unfinished(&self) -> Result<(), StorageError> {
        let names = self.disk.list().await.map_err(|error| self.io("listing", error))?;
        for name in names.iter().filter(|name| segment::is_unfinished(name)) {
            purlin_rsm::sometimes!("unfinished segment removed");
            let removed = directory::remove(self.disk, name).await;
            removed.map_err(|error| self.io("removing an unfinished segment", error))?;
        }
        Ok(())
    }
}

/// This start, and the latest starts with it, which is the last one (safety I4).
fn with_this_start(mut starts: Vec<Start>, boot: BootId, kept: Sequence) -> (Start, Vec<Start>) {
    let number = starts.last().map_or(0, |start| start.number) + 1;
    let start = Start { number, boot, kept };
    starts.push(start);
    starts.drain(..starts.len().saturating_sub(STARTS_MAX));
    (start, starts)
}

fn recovered_groups(live: &Live, recent: Recent) -> BTreeMap<GroupId, RecoveredGroup> {
    let mut tails = recent.into_entries();
    let recovered = live.groups().map(|(id, group)| {
        let tail = tails.remove(&id).unwrap_or_default();
        let recovered = RecoveredGroup {
            hard_state: group.hard_state().unwrap_or_default().value,
            floor: group.floor().value,
            terms: group.terms().to_vec(),
            last: group.last(),
            end: group.end(),
            tail: tail.into_iter().filter(|entry| entry.index >= group.first()).collect(),
        };
        (id, recovered)
    });
    recovered.collect()
}
