//! The content of one file: the durable part, the readable part, and what a power cut may leave of
//! the difference.
//!
//! ```text
//! in_flight ──complete──► unsynced versions of a page ──sync──► durable
//!     └────── complete, when each write is durable by itself ──────┘
//!
//! readable  = the latest completed write of each page
//! power cut = per sector of 512 bytes: the durable one, any unsynced or in-flight version, or garbage
//! ```
//!
//! Pages that were never written take no memory, and images share the pages that they have in common.
//!
//! **Where rot may strike.** Only in what a later write of the same log calls durable: no local rule can
//! see rot in the batches that were acknowledged last (safety W10). This module knows nothing of batches,
//! but it sees when a file was *quiet*: everything written to it was durable. A batch that is written
//! after such a moment may call it durable. Bytes before the last three quiet moments are older than two
//! batches that may do so: [`Content::old_pages`].

use super::random::Random;
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// Reads and writes are whole pages.
pub(crate) const PAGE_BYTES: usize = 4096;
/// What a device writes as a whole or not at all.
pub(crate) const SECTOR_BYTES: usize = 512;

pub(crate) type Page = Rc<[u8; PAGE_BYTES]>;

/// Bytes of a file at one moment.
#[derive(Clone, Default)]
pub(crate) struct Image {
    len: u64,
    pages: BTreeMap<u64, Page>,
}

impl Image {
    pub(crate) fn zeroed(len: u64) -> Self {
        Self { len, pages: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Up to `len` bytes at `position`; fewer at the end of the file.
    pub(crate) fn read(&self, position: u64, len: usize) -> Vec<u8> {
        let end = self.len.min(position.saturating_add(len as u64));
        let mut bytes = vec![0; end.saturating_sub(position) as usize];
        let mut done = 0;
        while done < bytes.len() {
            let at = position + done as u64;
            let start = (at % PAGE_BYTES as u64) as usize;
            let part = (PAGE_BYTES - start).min(bytes.len() - done);
            if let Some(page) = self.pages.get(&(at / PAGE_BYTES as u64)) {
                bytes[done..done + part].copy_from_slice(&page[start..start + part]);
            }
            done += part;
        }
        bytes
    }

    /// Writes at any position, also behind the end.
    pub(crate) fn write(&mut self, position: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = position + done as u64;
            let start = (at % PAGE_BYTES as u64) as usize;
            let part = (PAGE_BYTES - start).min(bytes.len() - done);
            let page = self.pages.entry(at / PAGE_BYTES as u64).or_insert_with(zero_page);
            Rc::make_mut(page)[start..start + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
        self.len = self.len.max(position + bytes.len() as u64);
    }

    pub(crate) fn truncate(&mut self, len: u64) {
        self.len = self.len.min(len);
        self.pages.retain(|number, _| number * (PAGE_BYTES as u64) < len);
        let tail = (len % PAGE_BYTES as u64) as usize;
        if let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES as u64)) {
            Rc::make_mut(page)[tail..].fill(0);
        }
    }

    fn page(&self, number: u64) -> Page {
        self.pages.get(&number).cloned().unwrap_or_else(zero_page)
    }

    /// Replaces a page, and hands back the one before.
    fn put(&mut self, number: u64, page: Page) -> Option<Page> {
        self.len = self.len.max((number + 1) * PAGE_BYTES as u64);
        self.pages.insert(number, page)
    }
}

fn zero_page() -> Page {
    Rc::new([0; PAGE_BYTES])
}

/// Names a write that was submitted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Submission(u64);

/// A moment in the order in which writes to a file completed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Completion(u64);

/// A file's bytes, durable and not.
#[derive(Default)]
pub(crate) struct Content {
    durable: Image,
    readable: Image,
    /// The versions of a page that completed and are not durable, in the order of completion.
    unsynced: BTreeMap<u64, Vec<(Completion, Page)>>,
    in_flight: BTreeMap<Submission, (u64, Vec<Page>)>,
    submitted: u64,
    completed: u64,
    /// The durable version before the present one, of pages that had one.
    before: BTreeMap<u64, Page>,
    /// The pages at which the first writes after the last three quiet moments began.
    quiet: [u64; 3],
    /// Pages that the device cannot read until they are written again.
    unreadable: BTreeSet<u64>,
}

/// What a power cut has taken.
#[derive(Clone, Copy, Default)]
pub(crate) struct Losses {
    /// Sectors of pages that came out as a mixture of versions.
    pub(crate) torn: u64,
    /// Sectors that came out as garbage.
    pub(crate) garbage: u64,
    /// Pages of which the newest version is gone.
    pub(crate) lost: u64,
}

impl Content {
    /// A file whose bytes are all durable.
    pub(crate) fn durable(image: Image) -> Self {
        Self { durable: image.clone(), readable: image, ..Self::default() }
    }

    /// What reads see.
    pub(crate) fn readable(&self) -> &Image {
        &self.readable
    }

    /// What survives a power cut for certain.
    pub(crate) fn certain(&self) -> &Image {
        &self.durable
    }

    /// Changes the bytes of a file that nobody has open.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut Image)) {
        assert!(!self.has_in_flight(), "an edit of a file into which writes are in flight");
        edit(&mut self.readable);
        *self = Self::durable(self.readable.clone());
    }

    /// `head`, and zero bytes up to `len`, durable, as a file that is made has them.
    pub(crate) fn extend(&mut self, head: &[u8], len: u64) {
        self.durable.write(0, head);
        self.durable.len = self.durable.len.max(len);
        self.readable = self.durable.clone();
    }

    pub(crate) fn has_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether nothing would be lost by a power cut.
    pub(crate) fn is_settled(&self) -> bool {
        self.unsynced.is_empty() && self.in_flight.is_empty()
    }

    /// The pages with durable bytes in which rot may strike: see the module.
    pub(crate) fn old_pages(&self) -> Vec<u64> {
        self.durable.pages.range(..self.quiet[0]).map(|(&number, _)| number).collect()
    }

    pub(crate) fn has_old_pages(&self) -> bool {
        self.durable.pages.range(..self.quiet[0]).next().is_some()
    }

    /// Spoils a durable page at rest, also while the file is in use.
    pub(crate) fn rot(&mut self, number: u64, spoil: impl FnOnce(&mut [u8])) {
        let old = self.durable.page(number);
        let mut page = old.clone();
        spoil(&mut Rc::make_mut(&mut page)[..]);
        let is_read = self.readable.pages.get(&number).is_some_and(|it| Rc::ptr_eq(it, &old));
        if is_read {
            self.readable.put(number, page.clone());
        }
        self.durable.put(number, page);
    }

    /// The durable version of a page before the present one; zeros if there was none.
    pub(crate) fn version_before(&self, number: u64) -> Page {
        self.before.get(&number).cloned().unwrap_or_else(zero_page)
    }

    /// From now on the device cannot read a page, until it is written again.
    pub(crate) fn lose_page(&mut self, number: u64) {
        self.unreadable.insert(number);
    }

    /// Whether the device can read all of a range.
    pub(crate) fn can_read(&self, position: u64, len: usize) -> bool {
        let page = PAGE_BYTES as u64;
        let pages = position / page..(position + len as u64).div_ceil(page);
        self.unreadable.is_empty() || self.unreadable.range(pages).next().is_none()
    }

    /// A write of whole pages sets out.
    pub(crate) fn submit(&mut self, position: u64, bytes: &[u8]) -> Submission {
        self.note_if_quiet(position / PAGE_BYTES as u64);
        self.submitted += 1;
        let submission = Submission(self.submitted);
        let pages = bytes
            .chunks_exact(PAGE_BYTES)
            .map(|chunk| Rc::new(<[u8; PAGE_BYTES]>::try_from(chunk).expect("a whole page")));
        let write = (position / PAGE_BYTES as u64, pages.collect());
        self.in_flight.insert(submission, write);
        submission
    }

    fn note_if_quiet(&mut self, first: u64) {
        if first < self.quiet[2] {
            // The file begins a new life.
            self.quiet = [0; 3];
        } else if self.is_settled() {
            self.quiet = [self.quiet[1], self.quiet[2], first];
        }
    }

    /// The write arrives; with `lasting` it is durable at once, in its own range only.
    pub(crate) fn complete(&mut self, submission: Submission, lasting: bool) {
        let (first, pages) = self.take(submission);
        self.arrive(first, pages, lasting);
    }

    /// A write that set out here and does not arrive here: its first page, and its pages.
    pub(crate) fn take(&mut self, submission: Submission) -> (u64, Vec<Page>) {
        self.in_flight.remove(&submission).expect("a write ends once")
    }

    /// Pages arrive, wherever they were meant to.
    pub(crate) fn arrive(&mut self, first: u64, pages: Vec<Page>, lasting: bool) {
        self.completed += 1;
        for (number, page) in (first..).zip(pages) {
            self.readable.put(number, page.clone());
            if lasting {
                self.unsynced.remove(&number);
                self.settle(number, page);
            } else {
                let version = (Completion(self.completed), page);
                self.unsynced.entry(number).or_default().push(version);
            }
        }
    }

    /// The write fails: any of its sectors may have arrived, and none is durable for certain.
    pub(crate) fn fail(&mut self, submission: Submission, random: &Random) {
        let (first, pages) = self.take(submission);
        let torn = (first..).zip(pages).map(|(number, page)| {
            self.torn(&[self.readable.page(number), page], 0.0, random, &mut Losses::default())
        });
        let torn = torn.collect();
        self.arrive(first, torn, false);
    }

    /// The write ends early: a number of its sectors arrive, from its beginning, and the rest does not.
    pub(crate) fn stop_short(&mut self, submission: Submission, random: &Random) {
        let (first, pages) = self.take(submission);
        let bytes = pages.len() * PAGE_BYTES;
        let mut left = random.below((bytes / SECTOR_BYTES) as u64) as usize * SECTOR_BYTES;
        let mut arrived = Vec::new();
        for (number, page) in (first..).zip(pages) {
            if left == 0 {
                break;
            }
            let part = left.min(PAGE_BYTES);
            let mut mixed = self.readable.page(number);
            Rc::make_mut(&mut mixed)[..part].copy_from_slice(&page[..part]);
            arrived.push(mixed);
            left -= part;
        }
        self.arrive(first, arrived, false);
    }

    /// A page becomes durable.
    fn settle(&mut self, number: u64, page: Page) {
        if let Some(old) = self.durable.put(number, page) {
            self.before.insert(number, old);
        }
        if !self.unreadable.is_empty() {
            self.unreadable.remove(&number);
        }
    }

    /// What a sync that begins now will cover.
    pub(crate) fn sync_begins(&self) -> Completion {
        Completion(self.completed)
    }

    /// A sync that began at `covered` is done.
    pub(crate) fn sync_done(&mut self, covered: Completion) {
        let mut unsynced = std::mem::take(&mut self.unsynced);
        unsynced.retain(|&number, versions| {
            let count = versions.partition_point(|(completion, _)| *completion <= covered);
            if let Some((_, page)) = versions.drain(..count).next_back() {
                self.settle(number, page);
            }
            !versions.is_empty()
        });
        self.unsynced = unsynced;
    }

    /// A sync failed and the device forgot what it covered: readable, but no later sync helps.
    pub(crate) fn sync_lost(&mut self, covered: Completion) {
        self.unsynced.retain(|_, versions| {
            versions.retain(|(completion, _)| *completion > covered);
            !versions.is_empty()
        });
    }

    /// The power fails.
    pub(crate) fn power_cut(&mut self, random: &Random, losses: &mut Losses) {
        let mut versions: BTreeMap<u64, Vec<Page>> = BTreeMap::new();
        for (number, unsynced) in std::mem::take(&mut self.unsynced) {
            versions.entry(number).or_default().extend(unsynced.into_iter().map(|(_, page)| page));
        }
        for (first, pages) in std::mem::take(&mut self.in_flight).into_values() {
            for (number, page) in (first..).zip(pages) {
                versions.entry(number).or_default().push(page);
            }
        }
        let fate = random.below(4);
        for (number, mut candidates) in versions {
            match fate {
                // Everything is lost, as by a device with a large cache.
                0 => losses.lost += 1,
                // Everything had arrived, though nobody was told.
                1 => self.settle(number, candidates.pop().expect("a version")),
                _ => {
                    candidates.insert(0, self.durable.page(number));
                    let torn = self.torn(&candidates, 0.03, random, losses);
                    losses.lost += u64::from(candidates.last() != Some(&torn));
                    self.settle(number, torn);
                }
            }
        }
        self.readable = self.durable.clone();
    }

    /// A page of which each sector comes from one of `candidates`, or is garbage. Half of the pages
    /// are whole.
    fn torn(
        &self,
        candidates: &[Page],
        garbage: f64,
        random: &Random,
        losses: &mut Losses,
    ) -> Page {
        let mut page = random.pick(candidates).clone();
        if random.chance(0.5) {
            return page;
        }
        for (number, sector) in Rc::make_mut(&mut page).chunks_mut(SECTOR_BYTES).enumerate() {
            if random.chance(garbage) {
                random.fill(sector);
                losses.garbage += 1;
                continue;
            }
            losses.torn += 1;
            let start = number * SECTOR_BYTES;
            sector.copy_from_slice(&random.pick(candidates)[start..start + SECTOR_BYTES]);
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(byte: u8) -> Vec<u8> {
        vec![byte; PAGE_BYTES]
    }

    fn after_power_cut(content: &mut Content, seed: u64) -> Vec<u8> {
        content.power_cut(&Random::new(seed, "test"), &mut Losses::default());
        content.readable().read(0, PAGE_BYTES)
    }

    #[test]
    fn sync_covers_only_writes_completed_before_it_began() {
        let mut older_survived = false;
        for seed in 0..64 {
            let mut content = Content::durable(Image::zeroed(PAGE_BYTES as u64));
            let first = content.submit(0, &filled(1));
            content.complete(first, false);
            let second = content.submit(0, &filled(2));
            let covered = content.sync_begins();
            content.complete(second, false);
            content.sync_done(covered);
            let bytes = after_power_cut(&mut content, seed);
            assert!(!bytes.chunks(SECTOR_BYTES).any(|sector| sector == [0; SECTOR_BYTES]));
            older_survived |= bytes == filled(1);
        }
        assert!(older_survived, "the second write was never lost, though no sync covered it");
    }

    #[test]
    fn a_lasting_write_makes_its_own_range_durable_and_no_other() {
        let mut lost = false;
        for seed in 0..64 {
            let mut content = Content::durable(Image::zeroed(2 * PAGE_BYTES as u64));
            let unsynced = content.submit(PAGE_BYTES as u64, &filled(1));
            content.complete(unsynced, false);
            let lasting = content.submit(0, &filled(2));
            content.complete(lasting, true);
            assert_eq!(after_power_cut(&mut content, seed), filled(2));
            lost |= content.readable().read(PAGE_BYTES as u64, PAGE_BYTES) == filled(0);
        }
        assert!(lost);
    }

    #[test]
    fn unsynced_sectors_are_old_new_or_garbage() {
        let (mut old, mut new, mut torn, mut garbage) = (0, 0, 0, 0);
        for seed in 0..500 {
            let mut content = Content::durable(Image::zeroed(PAGE_BYTES as u64));
            content.submit(0, &filled(1));
            let bytes = after_power_cut(&mut content, seed);
            match bytes {
                _ if bytes == filled(0) => old += 1,
                _ if bytes == filled(1) => new += 1,
                _ if bytes.iter().all(|&byte| byte < 2) => torn += 1,
                _ => garbage += 1,
            }
        }
        assert!(old > 50 && new > 50 && torn > 50 && garbage > 5, "{old} {new} {torn} {garbage}");
    }

    #[test]
    fn a_failed_sync_that_forgets_stays_readable_and_is_never_durable() {
        let mut content = Content::durable(Image::zeroed(PAGE_BYTES as u64));
        let write = content.submit(0, &filled(1));
        content.complete(write, false);
        content.sync_lost(content.sync_begins());
        content.sync_done(content.sync_begins());
        assert_eq!(content.readable().read(0, PAGE_BYTES), filled(1));
        assert_eq!(after_power_cut(&mut content, 1), filled(0));
    }

    #[test]
    fn a_short_write_leaves_a_beginning_of_itself() {
        let mut lengths = BTreeSet::new();
        for seed in 0..300 {
            let mut content = Content::durable(Image::zeroed(2 * PAGE_BYTES as u64));
            let write = content.submit(0, &[filled(1), filled(1)].concat());
            content.stop_short(write, &Random::new(seed, "test"));
            let bytes = content.readable().read(0, 2 * PAGE_BYTES);
            let written = bytes.partition_point(|byte| *byte == 1);
            assert!(bytes[written..].iter().all(|byte| *byte == 0));
            assert!(written < bytes.len() && written.is_multiple_of(SECTOR_BYTES));
            lengths.insert(written);
        }
        assert_eq!(lengths.len(), 2 * PAGE_BYTES / SECTOR_BYTES);
    }

    #[test]
    fn rot_strikes_what_a_later_write_can_call_durable_and_no_other() {
        let mut content = Content::durable(Image::zeroed(16 * PAGE_BYTES as u64));
        for number in 0..6 {
            let write = content.submit(number * PAGE_BYTES as u64, &filled(1));
            assert_eq!(content.old_pages(), (0..number.saturating_sub(2)).collect::<Vec<_>>());
            content.complete(write, true);
        }
        // Two that overlap are never quiet between, and bring only one moment.
        let one = content.submit(6 * PAGE_BYTES as u64, &filled(1));
        let two = content.submit(7 * PAGE_BYTES as u64, &filled(1));
        content.complete(two, true);
        content.complete(one, true);
        assert_eq!(content.old_pages(), [0, 1, 2, 3]);
        content.rot(1, |page| page[5] ^= 4);
        assert_eq!(content.readable().read(PAGE_BYTES as u64, 8)[4..7], [1, 5, 1]);
        assert_eq!(content.certain().read(PAGE_BYTES as u64, 8)[4..7], [1, 5, 1]);
        content.submit(0, &filled(2));
        assert_eq!(content.old_pages(), [0_u64; 0], "the file begins a new life");
    }

    #[test]
    fn a_lost_page_cannot_be_read_until_it_is_written() {
        let mut content = Content::durable(Image::zeroed(3 * PAGE_BYTES as u64));
        content.lose_page(1);
        assert!(!content.can_read(0, 2 * PAGE_BYTES) && content.can_read(0, PAGE_BYTES));
        assert!(content.can_read(2 * PAGE_BYTES as u64, PAGE_BYTES));
        let write = content.submit(PAGE_BYTES as u64, &filled(1));
        content.complete(write, true);
        assert!(content.can_read(0, 3 * PAGE_BYTES));
        assert_eq!(content.version_before(1)[..], filled(0));
    }

    #[test]
    fn images_read_and_write_across_pages() {
        let mut image = Image::zeroed(3 * PAGE_BYTES as u64);
        image.write(PAGE_BYTES as u64 - 2, &[1, 2, 3, 4]);
        assert_eq!(image.read(PAGE_BYTES as u64 - 3, 6), [0, 1, 2, 3, 4, 0]);
        assert_eq!(image.read(3 * PAGE_BYTES as u64 - 1, 9), [0]);
        image.truncate(PAGE_BYTES as u64 - 1);
        assert_eq!(image.read(PAGE_BYTES as u64 - 2, 9), [1]);
    }
}
