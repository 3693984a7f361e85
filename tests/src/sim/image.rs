//! The content of one file: what is durable, what is readable, and what a power cut may leave of the
//! difference.
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

use super::random::Random;
use std::{collections::BTreeMap, rc::Rc};

/// Reads and writes are whole pages.
pub(crate) const PAGE_BYTES: usize = 4096;
/// What a device writes as a whole or not at all.
pub(crate) const SECTOR_BYTES: usize = 512;

type Page = Rc<[u8; PAGE_BYTES]>;

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

    fn put(&mut self, number: u64, page: Page) {
        self.len = self.len.max((number + 1) * PAGE_BYTES as u64);
        self.pages.insert(number, page);
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
        edit(&mut self.readable);
        *self = Self::durable(self.readable.clone());
    }

    /// Zero bytes up to `len`, durable, as a file that is made has them.
    pub(crate) fn extend(&mut self, len: u64) {
        self.durable.len = self.durable.len.max(len);
        self.readable.len = self.readable.len.max(len);
    }

    pub(crate) fn has_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether nothing would be lost by a power cut.
    pub(crate) fn is_settled(&self) -> bool {
        self.unsynced.is_empty() && self.in_flight.is_empty()
    }

    /// A write of whole pages sets out.
    pub(crate) fn submit(&mut self, position: u64, bytes: &[u8]) -> Submission {
        self.submitted += 1;
        let submission = Submission(self.submitted);
        let pages = bytes
            .chunks_exact(PAGE_BYTES)
            .map(|chunk| Rc::new(<[u8; PAGE_BYTES]>::try_from(chunk).expect("a whole page")));
        let write = (position / PAGE_BYTES as u64, pages.collect());
        self.in_flight.insert(submission, write);
        submission
    }

    /// The write arrives; with `lasting` it is durable at once, in its own range only.
    pub(crate) fn complete(&mut self, submission: Submission, lasting: bool) {
        let (first, pages) = self.in_flight.remove(&submission).expect("a write completes once");
        self.completed += 1;
        for (number, page) in (first..).zip(pages) {
            self.readable.put(number, page.clone());
            if lasting {
                self.durable.put(number, page);
                self.unsynced.remove(&number);
            } else {
                let version = (Completion(self.completed), page);
                self.unsynced.entry(number).or_default().push(version);
            }
        }
    }

    /// The write fails: any of its sectors may have arrived, and none is durable for certain.
    pub(crate) fn fail(&mut self, submission: Submission, random: &Random) {
        let (first, pages) = self.in_flight.remove(&submission).expect("a write fails once");
        self.completed += 1;
        for (number, page) in (first..).zip(pages) {
            let torn = self.torn(&[self.readable.page(number), page], 0.0, random);
            self.readable.put(number, torn.clone());
            self.unsynced.entry(number).or_default().push((Completion(self.completed), torn));
        }
    }

    /// What a sync that begins now will cover.
    pub(crate) fn sync_begins(&self) -> Completion {
        Completion(self.completed)
    }

    /// A sync that began at `covered` is done.
    pub(crate) fn sync_done(&mut self, covered: Completion) {
        let durable = &mut self.durable;
        self.unsynced.retain(|&number, versions| {
            let count = versions.partition_point(|(completion, _)| *completion <= covered);
            if let Some((_, page)) = versions.drain(..count).next_back() {
                durable.put(number, page);
            }
            !versions.is_empty()
        });
    }

    /// A sync failed and the device forgot what it covered: readable, but no later sync helps.
    pub(crate) fn sync_lost(&mut self, covered: Completion) {
        self.unsynced.retain(|_, versions| {
            versions.retain(|(completion, _)| *completion > covered);
            !versions.is_empty()
        });
    }

    /// The power fails.
    pub(crate) fn power_cut(&mut self, random: &Random) {
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
                0 => {}
                // Everything had arrived, though nobody was told.
                1 => self.durable.put(number, candidates.pop().expect("a version")),
                _ => {
                    candidates.insert(0, self.durable.page(number));
                    let torn = self.torn(&candidates, 0.03, random);
                    self.durable.put(number, torn);
                }
            }
        }
        self.readable = self.durable.clone();
    }

    /// A page of which each sector comes from one of `candidates`, or is garbage. Half of the pages
    /// are whole.
    fn torn(&self, candidates: &[Page], garbage: f64, random: &Random) -> Page {
        let mut page = random.pick(candidates).clone();
        if random.chance(0.5) {
            return page;
        }
        for (number, sector) in Rc::make_mut(&mut page).chunks_mut(SECTOR_BYTES).enumerate() {
            if random.chance(garbage) {
                random.fill(sector);
                continue;
            }
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
        content.power_cut(&Random::new(seed, "test"));
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
    fn images_read_and_write_across_pages() {
        let mut image = Image::zeroed(3 * PAGE_BYTES as u64);
        image.write(PAGE_BYTES as u64 - 2, &[1, 2, 3, 4]);
        assert_eq!(image.read(PAGE_BYTES as u64 - 3, 6), [0, 1, 2, 3, 4, 0]);
        assert_eq!(image.read(3 * PAGE_BYTES as u64 - 1, 9), [0]);
        image.truncate(PAGE_BYTES as u64 - 1);
        assert_eq!(image.read(PAGE_BYTES as u64 - 2, 9), [1]);
    }
}
