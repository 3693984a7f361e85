//! Every state in which a crash may leave the device, and what a start makes of it.
//!
//! A trace is a run of the WAL with its writes held in flight and completed one by one. Between any two
//! things that happen to the device the power may fail or the process may end. All states that the device
//! may have then are listed (see [`crate::testing::device`]):
//!
//! ```text
//!   trace ── moments ── images ── start ── judged ── append ── the worst power cut ── start ── judged
//!                         └─ of some: a start whose moments are listed in the same way, and a
//!                            trace behind it
//! ```
//!
//! Each start is judged by what it must find after a crash at that moment (safety W1), and may never call
//! a possible image damage (safety W4).

use crate::{
    Cut, Durability, WalConfig,
    testing::{
        device::{Device, Fate, Image},
        open_wal::{Expected, OpenWal, founded},
        small,
        world::{Moment, World},
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of an entry that fills a block of its own, and of one that fills two.
const FULL: usize = 3900;
const WIDE: usize = 7900;
/// Of one of four, the most that a segment of this size takes.
const HUGE: usize = 16_000;

/// What was found.
#[derive(Default)]
struct Tally {
    images: BTreeSet<u64>,
    outcomes: BTreeMap<&'static str, u64>,
    /// How many images there are to one that is lived on from, and since the last one of these.
    stride: usize,
    since: usize,
}

impl Tally {
    fn count(&mut self, outcome: &'static str, is_reached: bool) {
        *self.outcomes.entry(outcome).or_default() += u64::from(is_reached);
    }
}

struct Explorer<'a> {
    config: &'a WalConfig,
    tally: &'a mut Tally,
    trace: &'static str,
    /// How many crashes there were before.
    depth: u64,
}

impl Explorer<'_> {
    fn explore(&mut self, moments: &[Moment<Expected>]) {
        // Later moments expect more. An image that several moments have in common is judged by the latest
        // of them.
        for moment in moments.iter().rev() {
            let mut recovered_images = Vec::new();
            moment.device.power_cuts(self.depth == 0, |image| {
                if self.judge(&image, &moment.expected, false) {
                    recovered_images.push(image.device);
                }
            });
            let may_drop = self.config.durability == Durability::OnSync;
            for dropped in [false, true].into_iter().take(1 + usize::from(may_drop)) {
                moment.device.kills(dropped, |image| {
                    if self.judge(&image, &moment.expected, true) {
                        recovered_images.push(image.device);
                    }
                });
            }
            for device in recovered_images {
                self.go_on_from(device, &moment.expected);
            }
        }
    }

    /// Starts on an image, appends, cuts the power, and starts again. Whether this is one of those
    /// that are lived on from.
    fn judge(&mut self, image: &Image, expected: &Expected, is_kill: bool) -> bool {
        if !self.tally.images.insert(image.device.mark()) {
            return false;
        }
        let seed = self.depth * 3 + 1;
        let world = World::new(image.device.clone(), expected.clone());
        let open = self.open(world, expected, seed, image);
        self.count(image, &open, expected, is_kill);
        // A second crash leaves so many images that of these a third must do.
        if self.depth == 0 || self.tally.images.len().is_multiple_of(3) {
            self.append_behind(open, seed + 1, image);
        }
        // What a killed process leaves is still loose when the power fails in the start behind it.
        self.tally.since += if is_kill { 8 } else { 1 };
        if self.depth > 0 || self.tally.since < self.tally.stride {
            return false;
        }
        self.tally.since = 0;
        true
    }

    /// B83: what is appended behind the recovered tail is found by the next start.
    fn append_behind(&self, mut open: OpenWal, seed: u64, image: &Image) {
        open.write_loops(1);
        open.append(1, 1, 40);
        let (expected, device) = (open.expected(), open.world.device().worst());
        assert_eq!(expected.durable, open.wal.submitted(), "it is written at once");
        self.open(World::new(device, expected.clone()), &expected, seed, image);
    }

    fn open(
        &self,
        world: World<Expected>,
        expected: &Expected,
        seed: u64,
        image: &Image,
    ) -> OpenWal {
        let opened = OpenWal::open(world, self.config, expected, seed);
        let wrong = match opened {
            Ok(Ok(open)) => return open,
            Ok(Err(wrong)) => wrong,
            Err(error) => error.to_string(),
        };
        let Image { names_lost, fates, .. } = image;
        panic!(
            "{} {:?} after {} crashes, names lost: {names_lost}, writes: {fates:?}: {wrong}",
            self.trace, self.config.durability, self.depth
        );
    }

    fn count(&mut self, image: &Image, open: &OpenWal, expected: &Expected, is_kill: bool) {
        let recovered = &open.recovered;
        let cut = recovered.cut.as_ref();
        let tally = &mut self.tally;
        tally.count("a kill", is_kill);
        tally.count("nothing was loose", image.fates.is_empty());
        tally.count("all landed", image.fates.iter().all(|fate| *fate == Fate::Landed));
        tally.count("all was lost", image.fates.iter().all(|fate| *fate == Fate::Lost));
        tally.count("two were torn", image.fates.iter().filter(|fate| fate.is_torn()).count() == 2);
        tally.count("a torn tail was cut", cut.is_some());
        let is_behind = |cut: &Cut| cut.void.is_some_and(|void| void.0 > cut.kept.0 + 1);
        tally.count("a batch behind a bad one was void", cut.is_some_and(is_behind));
        tally.count("a name was lost", image.names_lost > 0);
        tally.count("more was kept than was expected", recovered.start.kept > expected.durable);
        tally.count("a tail was carried", open.has_carried());
        tally.count("a header was torn", image.is_header_torn);
        tally.count("a second crash", self.depth > 0);
    }

    /// A start on an image, crashed at any moment of it, or of what follows.
    fn go_on_from(&mut self, device: Device, expected: &Expected) {
        let world = World::new(device, expected.clone());
        world.record();
        let opened = OpenWal::open(world, self.config, expected, 1000);
        let mut open = opened.expect("it was opened before").expect("it was judged before");
        open.world.hold();
        open.write_loops(self.config.writes_in_flight_max);
        open.prepare_loop();
        open.append(1, 1, FULL);
        open.vote(2, 5);
        open.land(1);
        open.settle();
        let moments = open.end();
        let mut deeper = Explorer {
            config: self.config,
            tally: self.tally,
            trace: self.trace,
            depth: self.depth + 1,
        };
        deeper.explore(&moments);
    }
}

/// Appends of several groups, completed in any order.
fn append(open: &mut OpenWal) {
    open.vote(1, 2);
    open.append(1, 1, FULL);
    open.append(2, 1, FULL);
    open.land(2);
    open.land(0);
    open.settle();
    open.append(1, 1, WIDE);
    open.append(2, 1, 300);
    open.append(3, 1, FULL);
    open.land(1);
    open.settle();
    open.quiet_tick();
    open.settle();
    open.together(&[1, 2, 3], 1200);
    open.remember_peer();
    open.together(&[2, 4], 1900);
    open.land(0);
    open.append(4, 1, FULL);
    open.settle();
}

/// Logs that are overwritten from a lower index, while what is overwritten may still be in flight.
fn truncate(open: &mut OpenWal) {
    open.append(1, 3, 1200);
    open.settle();
    open.append(1, 1, FULL);
    open.truncate(1, 3, 1, FULL);
    open.append(1, 1, FULL);
    open.land(2);
    open.land(1);
    open.settle();
    open.truncate(1, 1, 2, 1900);
    open.vote(1, 3);
    open.truncate(1, 2, 1, FULL);
    open.settle();
}

/// A segment fills up, and the next one begins with the last writes in flight.
fn rotate(open: &mut OpenWal) {
    fill(open, 12);
    for group in 1..7 {
        open.append(group % 3 + 1, 1, FULL);
        open.land(0);
    }
    open.settle();
    open.quiet_tick();
    open.append(1, 1, WIDE);
    open.settle();
}

fn fill(open: &mut OpenWal, blocks: u64) {
    for at in 0..blocks {
        open.append(at as u32 % 2 + 1, 1, FULL);
        open.settle();
    }
}

/// Segments are given back, and files with stale batches in them are written to again.
fn recycle(open: &mut OpenWal) {
    open.vote(3, 3);
    // Three batches of four blocks each fill a segment.
    for _ in 0..9 {
        open.append(1, 1, HUGE);
        open.settle();
    }
    open.world.record();
    open.append(2, 1, FULL);
    open.release(1, 1);
    open.vote(2, 1);
    open.settle();
    for _ in 0..40 {
        if open.has_stale_bytes() {
            break;
        }
        open.append(1, 1, HUGE);
        open.settle();
        open.release(1, 1);
        open.settle();
    }
    for group in 1..5 {
        open.append(group % 3 + 1, 1, FULL);
    }
    assert!(open.has_stale_bytes(), "the file holds bytes of an earlier segment");
    open.land(1);
    open.settle();
}

type Script = fn(&mut OpenWal);

/// Each with how many images there are to one that is lived on from.
const TRACES: [(&str, Script, usize); 4] = [
    ("append", append, 150),
    ("truncate", truncate, 150),
    ("rotate", rotate, 150),
    ("recycle", recycle, 400),
];

fn explore(durability: Durability) -> Tally {
    let config = WalConfig { durability, ..small() };
    let mut tally = Tally::default();
    for (trace, script, stride) in TRACES {
        let expected = Expected::default();
        let world = World::new(founded(&config), expected.clone());
        world.record();
        let mut open = OpenWal::open(world, &config, &expected, 0).unwrap().unwrap();
        open.world.hold();
        open.write_loops(config.writes_in_flight_max);
        open.prepare_loop();
        script(&mut open);
        let moments = open.end();
        // Under syncs more writes are not durable at once, so each trace that goes on has more images.
        let is_synced = durability == Durability::OnSync;
        tally.stride = if is_synced { stride * 3 } else { stride };
        let mut explorer = Explorer { config: &config, tally: &mut tally, trace, depth: 0 };
        explorer.explore(&moments);
    }
    tally
}

fn assert_explored(tally: &Tally, images: usize) {
    let found = tally.images.len();
    assert!(found >= images, "{found} images, {:?}", tally.outcomes);
    let missing: Vec<_> = tally.outcomes.iter().filter(|(_, count)| **count == 0).collect();
    assert!(missing.is_empty(), "{missing:?} of {:?}", tally.outcomes);
}

/// With the next one more than 100,000 images.
#[test]
fn each_crash_image_of_durable_writes_recovers() {
    assert_explored(&explore(Durability::EachWrite), 25_000);
}

#[test]
fn each_crash_image_of_synced_writes_recovers() {
    assert_explored(&explore(Durability::OnSync), 77_000);
}
