//! From when to when each value of a key was seen: a help for the checker, which alone decides.
//!
//! Each value is written once. The *cluster* of a value is its write and the reads that found it. In each order that
//! explains the answers the operations of a cluster stand together. Its *zone* lies between the first end and the last
//! start of its operations (Gibbons and Korach 1997, "Testing shared memories", 4.1):
//!
//! ```text
//! forward    first end ──────── last start    the value was there all this time, and so was no other one
//! backward   last start ─────── first end     the value was there at a moment of this time; all its operations overlap
//! ```
//!
//! The answers can be explained unless two forward zones overlap, or a forward zone holds a backward one, or a read
//! found what nobody had written. So each violation shows in the operations of two values at most, however many clients
//! there are. A search over all operations of a busy key would take too long to find that there is no order.

use std::collections::BTreeMap;

use purlin_checker::history::Moment;

use super::notes::{Asked, Noted, Told};
use crate::reply::Held;

/// So many suspicions of one key are followed.
pub(super) const SUSPECTS_MAX: usize = 8;

/// What the zones of a key say.
#[derive(Debug, Default)]
pub struct Zones {
    /// Operations that cannot all be right, by their places: a few each, and eight of these at most.
    pub suspects: Vec<Vec<usize>>,
    /// For each operation where it comes in a likely order, if it is a write.
    pub order: Vec<Option<u64>>,
}

/// A value, its write and its reads. Places are those in the list of operations.
#[derive(Clone, Debug, Default)]
struct Cluster {
    write: Option<usize>,
    refused_write: Option<usize>,
    /// The operation that ended first, and when.
    first_end: (Moment, Option<usize>),
    /// The operation that started last, and when.
    last_start: (Moment, Option<usize>),
    reads: usize,
}

impl Zones {
    /// The zones of the operations on one key, which are in the order of their start.
    pub fn of(operations: &[&Noted]) -> Self {
        let mut this = Self { suspects: Vec::new(), order: vec![None; operations.len()] };
        if operations.iter().any(|noted| noted.asked == Asked::Increment) {
            this.order_increments(operations);
            return this;
        }
        let clusters = this.clusters(operations);
        let (mut forward, backward): (Vec<_>, Vec<_>) =
            clusters.iter().partition(|cluster| cluster.is_forward());
        forward.sort_by_key(|cluster| cluster.first_end.0);
        this.compare_forward(&forward);
        this.place_backward(&forward, &backward);
        this.suspects.truncate(SUSPECTS_MAX);
        this
    }

    /// The clusters, without the writes in doubt that nobody read.
    fn clusters(&mut self, operations: &[&Noted]) -> Vec<Cluster> {
        // Before all operations there is no value.
        let nothing = Cluster { first_end: (0, None), ..Cluster::default() };
        let mut clusters = BTreeMap::from([(None, nothing)]);
        let unseen = || Cluster { first_end: (Moment::MAX, None), ..Cluster::default() };
        for (place, noted) in operations.iter().enumerate() {
            let value = match (noted.asked, noted.told) {
                (Asked::Write(value), _) => Some(value),
                (Asked::Read, Told::Done(Held::Nil)) => None,
                (Asked::Read, Told::Done(Held::Value(value))) => Some(value),
                // A read that found something else is no reply to a GET.
                (Asked::Read, Told::Done(_)) => {
                    self.suspects.push(vec![place]);
                    continue;
                }
                _ => continue,
            };
            clusters.entry(value).or_insert_with(unseen).add(place, noted);
        }
        let mut sound = Vec::new();
        for (value, cluster) in clusters {
            match cluster.write {
                // Of writes that are in doubt, those that nobody read need not have been.
                Some(_) if cluster.reads == 0 && cluster.first_end.1.is_none() => {}
                Some(write) if cluster.first_end.0 < operations[write].invoked.into() => {
                    self.suspects.push(cluster.witnesses());
                }
                None if value.is_some() && cluster.reads > 0 => {
                    self.suspects.push(cluster.witnesses());
                }
                None if value.is_some() => {}
                _ => sound.push(cluster),
            }
        }
        sound
    }

    /// Forward zones may not overlap.
    fn compare_forward(&mut self, forward: &[&Cluster]) {
        let mut longest: Option<&Cluster> = None;
        for &cluster in forward {
            if let Some(before) = longest.filter(|it| cluster.first_end.0 < it.last_start.0) {
                self.suspects.push([before.witnesses(), cluster.witnesses()].concat());
            }
            if longest.is_none_or(|longest| longest.last_start.0 < cluster.last_start.0) {
                longest = Some(cluster);
            }
            self.put(cluster, 2 * cluster.first_end.0);
        }
    }

    /// A backward zone may lie in no forward zone. Its write comes in it, and outside of all forward ones.
    fn place_backward(&mut self, forward: &[&Cluster], backward: &[&Cluster]) {
        for &cluster in backward {
            let (from, to) = (cluster.last_start.0, cluster.first_end.0);
            let before = forward.partition_point(|it| it.first_end.0 < from);
            let around = forward[..before].iter().rev().find(|it| it.last_start.0 > from);
            match around {
                Some(around) if to < around.last_start.0 => {
                    self.suspects.push([around.witnesses(), cluster.witnesses()].concat());
                }
                Some(around) => self.put(cluster, 2 * around.last_start.0 + 1),
                None => self.put(cluster, 2 * from),
            }
        }
    }

    fn put(&mut self, cluster: &Cluster, at: u64) {
        if let Some(write) = cluster.write {
            self.order[write] = Some(at);
        }
    }

    /// The answer to an INCR is its place. Those in doubt take the places that are free, the oldest first.
    fn order_increments(&mut self, operations: &[&Noted]) {
        let mut in_doubt = Vec::new();
        let mut taken = BTreeMap::new();
        for (place, noted) in operations.iter().enumerate() {
            match (noted.asked, noted.told) {
                (Asked::Increment, Told::Done(Held::Number(number @ 1..))) => {
                    self.order[place] = Some(number as u64);
                    taken.insert(number as u64, place);
                }
                (Asked::Increment, Told::Unknown) => in_doubt.push(place),
                _ => {}
            }
        }
        let last = taken.keys().next_back().copied().unwrap_or(0).min(2 * operations.len() as u64);
        let free = (1..last).filter(|number| !taken.contains_key(number));
        in_doubt.into_iter().zip(free).for_each(|(place, at)| self.order[place] = Some(at));
    }
}

impl Cluster {
    fn add(&mut self, place: usize, noted: &Noted) {
        if noted.told == Told::NotApplied {
            self.refused_write = Some(place);
            return;
        }
        if noted.asked == Asked::Read {
            self.reads += 1;
        } else {
            self.write = Some(place);
        }
        if noted.ended() < self.first_end.0 {
            self.first_end = (noted.ended(), Some(place));
        }
        if self.last_start.0 <= noted.invoked.into() {
            self.last_start = (noted.invoked.into(), Some(place));
        }
    }

    fn is_forward(&self) -> bool {
        self.first_end.0 < self.last_start.0
    }

    /// The operations that its zone comes from, and its write.
    fn witnesses(&self) -> Vec<usize> {
        let all = [self.write, self.refused_write, self.first_end.1, self.last_start.1];
        let mut all: Vec<_> = all.into_iter().flatten().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
