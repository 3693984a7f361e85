//! Rot at every sector of what was acknowledged, and what a start says to it.
//!
//! A device at rest, or after a crash, is changed in one sector: one flipped bit, zeroes, or what the
//! sector held before. Where something readable calls the sector's batch durable (a later batch's
//! watermark, the next segment's header), the start says damage and changes nothing: no rot there
//! shortens the log (safety W2, W4, W5; B82). Where nothing does (W10), the log may end before that
//! batch, and is what it was up to there.

use crate::{
    Durability, StorageError, WalConfig,
    align::BLOCK,
    batch::{self, Seed},
    segment::{self, FIRST_BATCH, FirstBlock, Header},
    testing::{
        device::Device,
        identity,
        open_wal::{Expected, OpenWal, founded},
        small,
        world::{Moment, World},
    },
};
use purlin_rsm::Sequence;
use std::{collections::BTreeMap, ops::Range};

const SECTOR: usize = 512;

/// A segment of the log, as the device has it.
struct Found {
    file: usize,
    header: Header,
    batches: Vec<(Range<usize>, batch::Header)>,
}

fn segments(device: &Device) -> BTreeMap<u64, Found> {
    let seed = Seed::new(&identity());
    let mut found = BTreeMap::new();
    for name in device.list() {
        let file = device.find(&name).unwrap();
        let bytes = device.read(file, 0..device.bytes(file));
        let FirstBlock::Header(header) = segment::parse(&bytes[..BLOCK]) else { continue };
        let mut batches: Vec<(Range<usize>, batch::Header)> = Vec::new();
        let mut at = FIRST_BATCH as usize;
        while let Some(next) = bytes.get(at..at + BLOCK).and_then(|block| batch::parse(block, seed))
        {
            let end = at + next.written_bytes();
            if next.epoch != header.epoch || !next.is_sound(&bytes[at..end], seed) {
                break;
            }
            batches.push((at..end, next));
            at = end;
        }
        if segment::number_in(&name) == Some(header.number) {
            found.insert(header.number, Found { file, header, batches });
        }
    }
    let newest = found.values().next_back().expect("there is a segment");
    let oldest = newest.batches.last().map_or(newest.header.oldest, |(_, last)| last.oldest);
    found.split_off(&oldest)
}

/// Whether something readable beside the batch says that it was durable.
fn is_called_durable(segments: &BTreeMap<u64, Found>, number: u64, sequence: Sequence) -> bool {
    let (newest, found) = segments.last_key_value().unwrap();
    let others = found.batches.iter().filter(|(_, batch)| batch.sequence != sequence);
    number < *newest || others.map(|(_, batch)| batch.watermark).max() >= Some(sequence)
}

/// What is tried with the sectors of one device.
struct Rot<'a> {
    config: &'a WalConfig,
    device: Device,
    expected: Expected,
    /// The latest last.
    past: &'a [Moment<Expected>],
    damages: u64,
    cuts: u64,
}

impl Rot<'_> {
    fn everywhere(&mut self) {
        let segments = segments(&self.device);
        let newest = *segments.last_key_value().unwrap().0;
        for (&number, found) in &segments {
            let is_needed = number < newest || !found.batches.is_empty();
            self.range(found.file, 0..BLOCK, is_needed);
            for (range, batch) in &found.batches {
                let is_needed = is_called_durable(&segments, number, batch.sequence);
                self.range(found.file, range.clone(), is_needed);
            }
        }
    }

    fn range(&mut self, file: usize, bytes: Range<usize>, is_needed: bool) {
        for at in bytes.start / SECTOR..bytes.end / SECTOR {
            let before = self.sector(&self.device, file, at);
            let mut flipped = before.clone();
            flipped[at * 31 % SECTOR] ^= 1 << (at % 8);
            let past = self.past.iter().rev().filter(|moment| moment.device.has(file, at));
            let past = past.map(|moment| self.sector(&moment.device, file, at));
            let older = past.into_iter().find(|sector| *sector != before);
            for rot in [Some(flipped), Some(vec![0; SECTOR]), older].into_iter().flatten() {
                if rot != before {
                    self.start(file, at, &rot, is_needed);
                }
            }
        }
    }

    fn sector(&self, device: &Device, file: usize, at: usize) -> Vec<u8> {
        let page = at * SECTOR / BLOCK * BLOCK;
        let within = at * SECTOR - page;
        device.read(file, page..page + BLOCK)[within..within + SECTOR].to_vec()
    }

    fn start(&mut self, file: usize, at: usize, rot: &[u8], is_needed: bool) {
        let mut device = self.device.clone();
        device.change_sector(file, at, |sector| sector.copy_from_slice(rot));
        let before = device.mark();
        let world = World::new(device, self.expected.clone());
        match OpenWal::open(world.clone(), self.config, &self.expected, 77) {
            Err(StorageError::Damaged { .. }) => {
                assert_eq!(world.device().mark(), before, "the directory was changed");
                self.damages += 1;
            }
            Err(error) => panic!("sector {at} of file {file}: {error}"),
            Ok(_) if is_needed => panic!("sector {at} of file {file} is not missed"),
            Ok(Err(wrong)) => panic!("sector {at} of file {file}: {wrong}"),
            Ok(Ok(_)) => self.cuts += 1,
        }
    }
}

/// Two full segments and a part of a third, which is a file with stale batches or a new one.
fn write(open: &mut OpenWal, is_stale: bool) {
    for nth in 0..60 {
        if nth >= 6 && open.has_stale_bytes() == is_stale {
            break;
        }
        open.append(1, 1, 16_000);
        open.settle();
        if is_stale {
            open.release(1, 4);
            open.settle();
        }
    }
    assert_eq!(open.has_stale_bytes(), is_stale);
    open.vote(2, 3);
    open.settle();
    open.append(2, 1, 7900);
    open.append(3, 1, 3900);
    open.settle();
}

fn rot_everywhere(durability: Durability) -> (u64, u64) {
    let config = WalConfig { durability, ..small() };
    let (mut damages, mut cuts) = (0, 0);
    for (is_stale, has_closing) in [(false, false), (false, true), (true, false), (true, true)] {
        let expected = Expected::default();
        let world = World::new(founded(&config), expected.clone());
        let mut open = OpenWal::open(world, &config, &expected, 0).unwrap().unwrap();
        open.world.record();
        open.world.hold();
        open.write_loops(config.writes_in_flight_max);
        open.prepare_loop();
        write(&mut open, is_stale);
        if has_closing {
            open.quiet_tick();
            open.settle();
        }
        // A crash with three writes in flight, which are torn or lost.
        open.append(3, 1, 3900);
        open.append(2, 1, 3900);
        open.vote(3, 1);
        let expected = open.expected().without_acknowledgements();
        let mut devices = vec![open.world.device().worst()];
        let mut nth = 0;
        open.world.device().power_cuts(false, |image| {
            nth += 1;
            if nth % 60 == 0 {
                devices.push(image.device);
            }
        });
        let past = open.end();
        for device in devices {
            let expected = expected.clone();
            let mut rot = Rot { config: &config, device, expected, past: &past, damages, cuts };
            rot.everywhere();
            (damages, cuts) = (rot.damages, rot.cuts);
        }
    }
    (damages, cuts)
}

#[test]
fn rot_below_a_watermark_is_damage_and_never_shortens_the_log() {
    for durability in [Durability::EachWrite, Durability::OnSync] {
        let (damages, cuts) = rot_everywhere(durability);
        assert!(damages > 5_000 && cuts > 200, "{damages} damages and {cuts} cuts");
    }
}
