//! Every state in which a crash may leave the device, and what a start makes of it.
//!
//! A trace is a life of the WAL with its writes held in flight and let go one by one. Between any two
//! things that happen to the device the power may fail or the process end; what the device may hold
//! then is listed (see [`crate::testing::device`]), state by state:
//!
//! ```text
//!   trace ── moments ── images ── start ── judged ── append ── the worst power cut ── start ── judged
//!                         └─ of some: a start whose moments are listed in the same way, and a
//!                            life behind it
//! ```
//!
//! Each start is judged by what had been promised at the moment of the crash (safety W1), and may
//! never call a legal image damage (W4).

use crate::{
    Cut, Durability, WalConfig,
    testing::{
        device::{Device, Fate, Image},
        life::{Life, Promise, founded},
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
    fn explore(&mut self, moments: &[Moment<Promise>]) {
        // The later ones promise more; what an earlier one has in common with them is judged by that.
        for moment in moments.iter().rev() {
            let mut lived_on = Vec::new();
            moment.device.power_cuts(self.depth == 0, |image| {
                if self.judge(&image, &moment.promise, false) {
                    lived_on.push(image.device);
                }
            });
            let may_drop = self.config.durability == Durability::OnSync;
            for dropped in [false, true].into_iter().take(1 + usize::from(may_drop)) {
                moment.device.kills(dropped, |image| {
                    if self.judge(&image, &moment.promise, true) {
                        lived_on.push(image.device);
                    }
                });
            }
            for device in lived_on {
                self.live_on(device, &moment.promise);
            }
        }
    }

    /// Starts on an image, appends, cuts the power, and starts again. Whether this is one of those
    /// that are lived on from.
    fn judge(&mut self, image: &Image, promise: &Promise, is_kill: bool) -> bool {
        if !self.tally.images.insert(image.device.mark()) {
            return false;
        }
        let seed = self.depth * 3 + 1;
        let world = World::new(image.device.clone(), promise.clone());
        let life = self.open(world, promise, seed, image);
        self.count(image, &life, promise, is_kill);
        // A second crash leaves so many images that of these a third must do.
        if self.depth == 0 || self.tally.images.len().is_multiple_of(3) {
            self.append_behind(life, seed + 1, image);
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
    fn append_behind(&self, mut life: Life, seed: u64, image: &Image) {
        life.write_loops(1);
        life.append(1, 1, 40);
        let (promised, device) = (life.promised(), life.world.device().worst());
        assert_eq!(promised.durable, life.wal.submitted(), "it is written at once");
        self.open(World::new(device, promised.clone()), &promised, seed, image);
    }

    fn open(&self, world: World<Promise>, promise: &Promise, seed: u64, image: &Image) -> Life {
        let opened = Life::open(world, self.config, promise, seed);
        let wrong = match opened {
            Ok(Ok(life)) => return life,
            Ok(Err(wrong)) => wrong,
            Err(error) => error.to_string(),
        };
        let Image { names_lost, fates, .. } = image;
        panic!(
            "{} {:?} after {} crashes, names lost: {names_lost}, writes: {fates:?}: {wrong}",
            self.trace, self.config.durability, self.depth
        );
    }

    fn count(&mut self, image: &Image, life: &Life, promise: &Promise, is_kill: bool) {
        let recovered = &life.recovered;
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
        tally.count("more was kept than was promised", recovered.start.kept > promise.durable);
        tally.count("a tail was carried", life.has_carried());
        tally.count("a header was torn", image.is_header_torn);
        tally.count("a second crash", self.depth > 0);
    }

    /// A start on an image, crashed at any moment of it, or of what follows.
    fn live_on(&mut self, device: Device, promise: &Promise) {
        let world = World::new(device, promise.clone());
        world.record();
        let opened = Life::open(world, self.config, promise, 1000);
        let mut life = opened.expect("it was opened before").expect("it was judged before");
        life.world.hold();
        life.write_loops(self.config.writes_in_flight_max);
        life.prepare_loop();
        life.append(1, 1, FULL);
        life.vote(2, 5);
        life.land(1);
        life.settle();
        let moments = life.end();
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
fn append(life: &mut Life) {
    life.vote(1, 2);
    life.append(1, 1, FULL);
    life.append(2, 1, FULL);
    life.land(2);
    life.land(0);
    life.settle();
    life.append(1, 1, WIDE);
    life.append(2, 1, 300);
    life.append(3, 1, FULL);
    life.land(1);
    life.settle();
    life.quiet_tick();
    life.settle();
    life.together(&[1, 2, 3], 1200);
    life.remember_peer();
    life.together(&[2, 4], 1900);
    life.land(0);
    life.append(4, 1, FULL);
    life.settle();
}

/// Logs that are overwritten from a lower index, while what is overwritten may still be in flight.
fn truncate(life: &mut Life) {
    life.append(1, 3, 1200);
    life.settle();
    life.append(1, 1, FULL);
    life.truncate(1, 3, 1, FULL);
    life.append(1, 1, FULL);
    life.land(2);
    life.land(1);
    life.settle();
    life.truncate(1, 1, 2, 1900);
    life.vote(1, 3);
    life.truncate(1, 2, 1, FULL);
    life.settle();
}

/// A segment fills up, and the next one begins with the last writes in flight.
fn rotate(life: &mut Life) {
    fill(life, 12);
    for group in 1..7 {
        life.append(group % 3 + 1, 1, FULL);
        life.land(0);
    }
    life.settle();
    life.quiet_tick();
    life.append(1, 1, WIDE);
    life.settle();
}

fn fill(life: &mut Life, blocks: u64) {
    for at in 0..blocks {
        life.append(at as u32 % 2 + 1, 1, FULL);
        life.settle();
    }
}

/// Segments are given back, and files with stale batches in them are written to again.
fn recycle(life: &mut Life) {
    life.vote(3, 3);
    // Three batches of four blocks each fill a segment.
    for _ in 0..9 {
        life.append(1, 1, HUGE);
        life.settle();
    }
    life.world.record();
    life.append(2, 1, FULL);
    life.release(1, 1);
    life.vote(2, 1);
    life.settle();
    for _ in 0..40 {
        if life.has_stale_bytes() {
            break;
        }
        life.append(1, 1, HUGE);
        life.settle();
        life.release(1, 1);
        life.settle();
    }
    for group in 1..5 {
        life.append(group % 3 + 1, 1, FULL);
    }
    assert!(life.has_stale_bytes(), "the file had another life");
    life.land(1);
    life.settle();
}

type Script = fn(&mut Life);

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
        let promise = Promise::default();
        let world = World::new(founded(&config), promise.clone());
        world.record();
        let mut life = Life::open(world, &config, &promise, 0).unwrap().unwrap();
        life.world.hold();
        life.write_loops(config.writes_in_flight_max);
        life.prepare_loop();
        script(&mut life);
        let moments = life.end();
        // Under syncs more writes are loose at once, so each life that is lived on has more images.
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
