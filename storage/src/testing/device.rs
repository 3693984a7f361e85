//! What a device holds, in every state in which a crash may leave it.
//!
//! A file is 4 KiB pages, which all copies of the device share. Beside what is *firm*, durable
//! whatever happens, stands what reads *see*, and the writes between the two, which are *loose*:
//! begun and not completed, or completed and not synced. [`Device::power_cuts`] lists what a power
//! cut makes of the loose ones, [`Device::kills`] what the end of the process does.

use crate::align::BLOCK;
use std::{collections::BTreeMap, ops::Range, rc::Rc};

const SECTOR: usize = 512;
const SECTORS: usize = BLOCK / SECTOR;

/// The bytes of a page, and a number that tells them from others.
pub(crate) struct PageBytes {
    bytes: [u8; BLOCK],
    mark: u64,
}

pub(crate) type Page = Rc<PageBytes>;

/// A page of these bytes.
pub(crate) fn page(bytes: &[u8]) -> Page {
    let bytes: [u8; BLOCK] = bytes.try_into().expect("a whole page");
    let halves = (crc32c::crc32c(&bytes), crc32c::crc32c_append(0x5eed, &bytes[64..]));
    Rc::new(PageBytes { bytes, mark: u64::from(halves.0) << 32 | u64::from(halves.1) })
}

/// What a power cut makes of one loose write, sector by sector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Lost,
    Landed,
    /// The first so many sectors landed.
    Prefix(usize),
    /// All but the first so many landed.
    Suffix(usize),
    /// One sector is missing.
    Missing(usize),
    /// One sector is neither old nor new, and the rest landed.
    Garbled(usize),
    /// The first so many sectors landed, the next one is neither old nor new.
    CutInside(usize),
}

enum Sector {
    Old,
    New,
    Garbage,
}

impl Fate {
    fn of(self, at: usize) -> Sector {
        let is_new = match self {
            Self::Lost => false,
            Self::Landed => true,
            Self::Prefix(end) => at < end,
            Self::Suffix(start) => at >= start,
            Self::Missing(missing) => at != missing,
            Self::Garbled(garbled) | Self::CutInside(garbled) if at == garbled => {
                return Sector::Garbage;
            }
            Self::Garbled(_) => true,
            Self::CutInside(end) => at < end,
        };
        if is_new { Sector::New } else { Sector::Old }
    }

    pub(crate) fn is_torn(self) -> bool {
        !matches!(self, Self::Lost | Self::Landed)
    }

    /// Every way of tearing a write of so many sectors.
    fn tears(sectors: usize) -> Vec<Self> {
        let mut tears = Self::prefixes(sectors);
        tears.extend((1..sectors).map(Self::Suffix));
        tears.extend((1..sectors - 1).map(Self::Missing));
        tears.extend((0..sectors).map(Self::Garbled));
        tears.extend((0..sectors - 1).map(Self::CutInside));
        tears
    }

    fn prefixes(sectors: usize) -> Vec<Self> {
        (1..sectors).map(Self::Prefix).collect()
    }
}

#[derive(Clone)]
struct Loose {
    id: u64,
    page: usize,
    data: Vec<Page>,
    is_complete: bool,
    /// A failed sync has dropped it: readable until the power fails, and never durable.
    is_dropped: bool,
}

#[derive(Clone)]
struct Inode {
    firm: Rc<Vec<Page>>,
    seen: Rc<Vec<Page>>,
    loose: Vec<Loose>,
}

type Names = BTreeMap<Rc<str>, usize>;

/// A directory and its files.
#[derive(Clone)]
pub(crate) struct Device {
    files: Vec<Inode>,
    /// What the directory said at its last sync and after each change since; the last one is seen.
    names: Vec<Rc<Names>>,
}

/// One state after a crash.
pub(crate) struct Image {
    pub(crate) device: Device,
    /// Which names survived, and what became of each loose write in the order of their beginning.
    pub(crate) names_lost: usize,
    pub(crate) fates: Vec<Fate>,
    pub(crate) is_header_torn: bool,
}

impl Default for Device {
    fn default() -> Self {
        Self { files: Vec::new(), names: vec![Rc::default()] }
    }
}

impl Device {
    fn seen_names(&self) -> &Names {
        self.names.last().expect("there is always a state of the directory")
    }

    pub(crate) fn list(&self) -> Vec<String> {
        self.seen_names().keys().map(|name| name.to_string()).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.seen_names().get(name).copied()
    }

    fn change_names(&mut self, change: impl FnOnce(&mut Names)) {
        let mut names = self.seen_names().clone();
        change(&mut names);
        self.names.push(Rc::new(names));
    }

    /// A file of firm zeroes, whose name is not durable.
    pub(crate) fn create(&mut self, name: &str, zero: &Page, pages: usize) -> usize {
        let zeroes = Rc::new(vec![zero.clone(); pages]);
        let file = self.files.len();
        self.files.push(Inode { firm: zeroes.clone(), seen: zeroes, loose: Vec::new() });
        self.change_names(|names| {
            names.insert(name.into(), file);
        });
        file
    }

    /// The whole file, with `head` in its first page, where [`Self::create`] has made a part of it.
    pub(crate) fn extend(&mut self, file: usize, head: &[u8], zero: &Page, pages: usize) {
        let mut pages = vec![zero.clone(); pages];
        if !head.is_empty() {
            pages[0] = page(head);
        }
        let pages = Rc::new(pages);
        (self.files[file].firm, self.files[file].seen) = (pages.clone(), pages);
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(file) = self.find(from) else { return false };
        self.change_names(|names| {
            names.remove(from);
            let replaced = names.insert(to.into(), file);
            assert!(replaced.is_none(), "{from} replaces {to}");
        });
        true
    }

    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let is_there = self.find(name).is_some();
        self.change_names(|names| {
            names.remove(name);
        });
        is_there
    }

    pub(crate) fn sync_names(&mut self) {
        self.names.drain(..self.names.len() - 1);
    }

    pub(crate) fn bytes(&self, file: usize) -> usize {
        self.files[file].seen.len() * BLOCK
    }

    pub(crate) fn read(&self, file: usize, range: Range<usize>) -> Vec<u8> {
        let pages = &self.files[file].seen;
        let pages = range.start / BLOCK..(range.end / BLOCK).min(pages.len());
        let mut bytes = Vec::with_capacity(pages.len() * BLOCK);
        for page in &self.files[file].seen[pages] {
            bytes.extend_from_slice(&page.bytes);
        }
        bytes
    }

    pub(crate) fn begin_write(&mut self, file: usize, id: u64, position: u64, data: &[u8]) {
        let first = position as usize / BLOCK;
        let data: Vec<_> = data.chunks(BLOCK).map(page).collect();
        let file = &mut self.files[file];
        assert!(first + data.len() <= file.seen.len(), "beyond the file");
        file.loose.push(Loose { id, page: first, data, is_complete: false, is_dropped: false });
    }

    /// The write is readable, and not durable.
    pub(crate) fn end_write(&mut self, file: usize, id: u64) {
        let file = &mut self.files[file];
        let write = file.loose.iter_mut().find(|write| write.id == id).expect("it has begun");
        write.is_complete = true;
        write.lay_into(&mut file.seen);
    }

    /// The writes that a sync that begins now covers.
    pub(crate) fn covered(&self, file: usize) -> Vec<u64> {
        let complete = self.files[file].loose.iter().filter(|write| write.is_complete);
        complete.filter(|write| !write.is_dropped).map(|write| write.id).collect()
    }

    /// The write is durable.
    pub(crate) fn make_firm(&mut self, file: usize, id: u64) {
        let file = &mut self.files[file];
        let Some(at) = file.loose.iter().position(|write| write.id == id) else { return };
        let write = file.loose.remove(at);
        write.lay_into(&mut file.firm);
        // What the device still held of older writes there can come back no more.
        for older in &mut file.loose[..at] {
            older.take_over(&write);
        }
    }

    /// Where each loose write of these names lies, in the order of their beginning.
    fn loose(&self, names: &Names) -> Vec<(usize, usize)> {
        let mut loose: Vec<_> = names
            .values()
            .flat_map(|&file| (0..self.files[file].loose.len()).map(move |at| (file, at)))
            .collect();
        loose.sort_by_key(|&(file, at)| self.files[file].loose[at].id);
        loose
    }

    /// Every state that a power cut may leave: each state of the directory since its last sync, and
    /// of the loose writes each subset, one torn in every way, and with `pairs` each two of them cut
    /// at any sectors.
    pub(crate) fn power_cuts(&self, pairs: bool, mut each: impl FnMut(Image)) {
        for (at, names) in self.names.iter().enumerate() {
            let loose = self.loose(names);
            let sectors: Vec<_> =
                loose.iter().map(|&(file, at)| self.files[file].loose[at].data.len()).collect();
            let sectors: Vec<_> = sectors.into_iter().map(|pages| pages * SECTORS).collect();
            for fates in fates(&sectors, pairs) {
                let device = self.cut(names, &loose, &fates);
                let names_lost = self.names.len() - 1 - at;
                let is_header_torn = loose.iter().zip(&fates).any(|(&(file, at), fate)| {
                    fate.is_torn() && self.files[file].loose[at].page == 0
                });
                each(Image { device, names_lost, fates, is_header_torn });
            }
        }
    }

    /// The power cut that leaves least.
    pub(crate) fn worst(&self) -> Self {
        let names = self.names.first().expect("there is always a state of the directory");
        let loose = self.loose(names);
        self.cut(names, &loose, &vec![Fate::Lost; loose.len()])
    }

    fn cut(&self, names: &Rc<Names>, loose: &[(usize, usize)], fates: &[Fate]) -> Self {
        let at_rest = |file: &Inode| Inode {
            firm: file.firm.clone(),
            seen: file.firm.clone(),
            loose: Vec::new(),
        };
        let mut files: Vec<_> = self.files.iter().map(at_rest).collect();
        for (&(file, at), &fate) in loose.iter().zip(fates).filter(|(_, fate)| **fate != Fate::Lost)
        {
            let write = &self.files[file].loose[at];
            write.land(&mut files[file].firm, fate);
            files[file].seen = files[file].firm.clone();
        }
        Self { files, names: vec![names.clone()] }
    }

    /// Every state that the end of the process may leave: what was in flight lands or fails, each
    /// write by itself. Nothing more is durable by that. With `dropped` a sync has failed just before.
    pub(crate) fn kills(&self, dropped: bool, mut each: impl FnMut(Image)) {
        let loose = self.loose(self.seen_names());
        let write = |at: usize| &self.files[loose[at].0].loose[loose[at].1];
        let begun: Vec<_> = (0..loose.len()).filter(|&at| !write(at).is_complete).collect();
        for landed in 0..1_u32 << begun.len() {
            let mut device = self.clone();
            let mut fates = vec![Fate::Landed; loose.len()];
            for (bit, &at) in begun.iter().enumerate() {
                let ((file, _), id) = (loose[at], write(at).id);
                if landed & 1 << bit != 0 {
                    device.end_write(file, id);
                } else {
                    device.files[file].loose.retain(|write| write.id != id);
                    fates[at] = Fate::Lost;
                }
            }
            for write in device.files.iter_mut().flat_map(|file| &mut file.loose) {
                write.is_dropped |= dropped;
            }
            each(Image { device, names_lost: 0, fates, is_header_torn: false });
        }
    }

    /// Tells this state from others by all that is seen and all that is firm.
    pub(crate) fn mark(&self) -> u64 {
        let mut mark = 0;
        let mut add = |value: u64| {
            mark = (mark ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mark ^= mark >> 29;
        };
        for (name, &file) in self.seen_names() {
            name.bytes().for_each(|byte| add(byte.into()));
            let file = &self.files[file];
            file.seen.iter().for_each(|page| add(page.mark));
            if !Rc::ptr_eq(&file.seen, &file.firm) {
                file.firm.iter().for_each(|page| add(!page.mark));
            }
            file.loose.iter().for_each(|write| add(3 + u64::from(write.is_dropped)));
        }
        mark
    }

    /// Whether there is such a file with such a sector.
    pub(crate) fn has(&self, file: usize, at: usize) -> bool {
        self.files.get(file).is_some_and(|file| at < file.seen.len() * SECTORS)
    }

    /// Changes a sector at rest.
    pub(crate) fn change_sector(&mut self, file: usize, at: usize, change: impl FnOnce(&mut [u8])) {
        let pages = Rc::make_mut(&mut self.files[file].firm);
        let slot = &mut pages[at / SECTORS];
        let mut bytes = slot.bytes;
        change(&mut bytes[at % SECTORS * SECTOR..][..SECTOR]);
        *slot = page(&bytes);
        self.files[file].seen = self.files[file].firm.clone();
    }
}

impl Loose {
    fn lay_into(&self, pages: &mut Rc<Vec<Page>>) {
        Rc::make_mut(pages)[self.page..][..self.data.len()].clone_from_slice(&self.data);
    }

    fn land(&self, pages: &mut Rc<Vec<Page>>, fate: Fate) {
        if fate == Fate::Landed {
            return self.lay_into(pages);
        }
        let pages = Rc::make_mut(pages);
        for (at, new) in self.data.iter().enumerate() {
            let slot = &mut pages[self.page + at];
            let mut bytes = slot.bytes;
            for sector in 0..SECTORS {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                match fate.of(at * SECTORS + sector) {
                    Sector::Old => {}
                    Sector::New => bytes[range.clone()].copy_from_slice(&new.bytes[range]),
                    Sector::Garbage => bytes[range].fill(0xa5),
                }
            }
            *slot = page(&bytes);
        }
    }

    fn take_over(&mut self, newer: &Self) {
        for (at, page) in newer.data.iter().enumerate() {
            if let Some(old) =
                (newer.page + at).checked_sub(self.page).and_then(|at| self.data.get_mut(at))
            {
                *old = page.clone();
            }
        }
    }
}

/// What may become of writes of so many sectors each: every subset of them lands; and beside every
/// subset of the others, one is torn in every way, or (with `pairs`) two are cut after any of their
/// sectors.
fn fates(sectors: &[usize], pairs: bool) -> Vec<Vec<Fate>> {
    let subset = |bits: u32| -> Vec<_> {
        let landed = |at: usize| if bits & 1 << at == 0 { Fate::Lost } else { Fate::Landed };
        (0..sectors.len()).map(landed).collect()
    };
    let mut all = Vec::new();
    for bits in 0..1_u32 << sectors.len() {
        all.push(subset(bits));
        let lost: Vec<_> = (0..sectors.len()).filter(|at| bits & 1 << at == 0).collect();
        for (nth, &one) in lost.iter().enumerate() {
            for tear in Fate::tears(sectors[one]) {
                all.push(subset(bits));
                all.last_mut().expect("it was pushed")[one] = tear;
            }
            for &other in lost[nth + 1..].iter().filter(|_| pairs) {
                for first in Fate::prefixes(sectors[one]) {
                    for second in Fate::prefixes(sectors[other]) {
                        let mut fates = subset(bits);
                        (fates[one], fates[other]) = (first, second);
                        all.push(fates);
                    }
                }
            }
        }
    }
    all
}
