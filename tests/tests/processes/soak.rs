//! The soak: three real nodes for minutes under all at once, to see whether anything grows, is lost or stands.
//!
//! Nodes are killed and paused while clients write at a fixed rate, send huge commands, read slowly, and
//! 5,000 connections stay open. Each minute prints one line. It is no test of each change, since it takes as
//! long as it is told to: `bench/soak.sh` runs it.
//!
//! The rate keeps the log of a node below 500 MB in ten minutes. Each write is one block of 4 KiB where it
//! shares its batch with no other: 64 writes a second are 262 KB of log a second, 157 MB in ten minutes. Huge
//! commands add 150 KB a second, 90 MB, and each restart at most one segment of 4 MiB, some 120 MB.

mod crowd;
mod huge;
mod slow;

use self::{crowd::Crowd, huge::Huge, slow::SlowReaders};
use super::support::{Cluster, Load, Node, SOON, Shape, until};
use purlin_tests::sim::Random;
use rustix::process::Signal;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

const SHAPE: Shape = Shape { shards: 1, groups: 12 };
const WRITERS: usize = 8;
/// A writer rests so long after two writes: 64 writes a second in all.
const PAUSE: Duration = Duration::from_millis(250);
/// From the end of a fault to the next one.
const CALM: Duration = Duration::from_secs(6);
/// The most that the log of a node may take.
const LOG_BYTES_MAX: u64 = 500 << 20;
/// The most memory that a node may have in use.
const RESIDENT_BYTES_MAX: u64 = 1 << 30;
/// The longest time without an acknowledged write. A node is paused for less, and all may be killed at once.
const GAP_MAX: Duration = Duration::from_secs(20);

/// `PURLIN_SOAK_SECONDS` and `PURLIN_SOAK_CONNECTIONS` change the length and the size, `PURLIN_SOAK_SEED` the
/// faults.
#[test]
#[ignore = "it takes ten minutes: bench/soak.sh"]
fn soak() {
    let length = Duration::from_secs(setting("PURLIN_SOAK_SECONDS", 600));
    let connections = setting("PURLIN_SOAK_CONNECTIONS", 5_000) as usize;
    let random = Random::new(setting("PURLIN_SOAK_SEED", 1), "soak");
    let mut cluster = Cluster::start("soak", SHAPE);
    let sockets: Vec<_> = cluster.nodes.iter().map(sockets).collect();

    let stop = Arc::new(Stop::default());
    let crowd = Crowd::start(cluster.gateways(), connections, &stop);
    let slow = SlowReaders::start(cluster.gateways(), &stop);
    let huge = Huge::start(cluster.gateways(), &stop);
    let load = Load::start_paced(&cluster, "soak", WRITERS, PAUSE);
    load.wait_for(20);

    let start = Instant::now();
    let mut report = Report::new(start);
    while start.elapsed() < length {
        strike(&mut cluster, &random, &stop);
        cluster.wait_until_ready();
        load.wait_for(20);
        stop.wait(CALM);
        report.tell_if_due(&cluster, &load, &crowd);
    }
    report.tell(&cluster, &load, &crowd);

    until("all connections of the crowd are answered", || {
        (crowd.answered_since(start + length) == connections).then_some(())
    });
    let history = load.stop();
    stop.stop();
    println!("{}; {}; {}", history.summary(), crowd.end(), slow.end());
    cluster.wait_until_equal();
    history.check(&cluster);
    huge.end().check(&cluster);
    for (node, before) in cluster.nodes.iter().zip(sockets) {
        let what = format!("node {} has closed the sockets of its clients", node.config.node.id);
        // A node that has restarted may have a connection to a peer more or less at this moment.
        until(&what, || (self::sockets(node) <= before + 8).then_some(()));
    }
    cluster.assert_no_panic();
}

fn setting(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// One fault, from its beginning to its end.
fn strike(cluster: &mut Cluster, random: &Random, stop: &Stop) {
    let place = random.below(3) as usize;
    let time = Duration::from_millis(500 + random.below(4_000));
    match random.below(10) {
        0 => {
            cluster.nodes.iter().for_each(Node::strike);
            cluster.nodes.iter_mut().for_each(Node::kill);
            cluster.nodes.iter_mut().for_each(Node::start);
        }
        1..=4 => {
            cluster.nodes[place].kill();
            stop.wait(time);
            cluster.nodes[place].start();
        }
        _ => {
            cluster.nodes[place].process().signal(Signal::STOP);
            stop.wait(time);
            cluster.nodes[place].process().signal(Signal::CONT);
        }
    }
}

/// Tells the threads of the clients when it is over.
#[derive(Default)]
struct Stop {
    is_over: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits for the end, at most `limit`. Whether it is over.
    fn wait(&self, limit: Duration) -> bool {
        let is_over = self.is_over.lock().expect("nobody panics with it");
        *self.changed.wait_timeout_while(is_over, limit, |over| !*over).expect("as above").0
    }

    fn stop(&self) {
        *self.is_over.lock().expect("nobody panics with it") = true;
        self.changed.notify_all();
    }
}

/// Prints a line for each minute, and sees that nothing grows beyond its bound.
struct Report {
    minute: u32,
    start: Instant,
    /// How many increments are in earlier lines.
    known: usize,
    /// When the last of them was answered.
    last: Instant,
}

impl Report {
    fn new(start: Instant) -> Self {
        println!(
            "minute | writes | p50 ms | p99 ms | most ms | gap ms | open | of each node: RSS MiB, descriptors, log MB"
        );
        Self { minute: 1, start, known: 0, last: start }
    }

    fn tell_if_due(&mut self, cluster: &Cluster, load: &Load, crowd: &Crowd) {
        if self.start.elapsed() >= Duration::from_secs(60) * self.minute {
            self.tell(cluster, load, crowd);
        }
    }

    fn tell(&mut self, cluster: &Cluster, load: &Load, crowd: &Crowd) {
        let mut answered = load.answered(self.known);
        self.known += answered.len();
        answered.sort();
        let mut gap = Duration::ZERO;
        for (moment, _) in &answered {
            gap = gap.max(moment.saturating_duration_since(self.last));
            self.last = self.last.max(*moment);
        }
        let mut times: Vec<_> = answered.into_iter().map(|(_, took)| took.as_millis()).collect();
        times.sort();
        let part = |permille: usize| times.get(times.len() * permille / 1000).or(times.last());
        let nodes: Vec<_> = cluster.nodes.iter().map(Size::of).collect();
        println!(
            "{:6} | {:6} | {:6} | {:6} | {:7} | {:6} | {:4} | {}",
            self.minute,
            2 * times.len(),
            part(500).copied().unwrap_or_default(),
            part(990).copied().unwrap_or_default(),
            times.last().copied().unwrap_or_default(),
            gap.as_millis(),
            crowd.open(),
            nodes.iter().map(Size::to_string).collect::<Vec<_>>().join(" · ")
        );
        self.minute += 1;
        assert!(gap <= GAP_MAX, "no write was acknowledged for {gap:?}");
        for size in nodes {
            assert!(size.log <= LOG_BYTES_MAX, "a log of {} bytes", size.log);
            assert!(size.resident <= RESIDENT_BYTES_MAX, "{} bytes in use", size.resident);
        }
    }
}

/// What a node takes of the machine.
struct Size {
    resident: u64,
    descriptors: usize,
    log: u64,
}

impl Size {
    fn of(node: &Node) -> Self {
        Self {
            resident: node.resident_bytes(),
            descriptors: descriptors(node).len(),
            log: bytes_of(&node.config.node.data_dir),
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}, {}", self.resident >> 20, self.descriptors, self.log >> 20)
    }
}

/// What the descriptors of a node are.
fn descriptors(node: &Node) -> Vec<String> {
    let folder = format!("/proc/{}/fd", node.process().pid());
    let entries = fs::read_dir(folder).expect("it runs").filter_map(Result::ok);
    // One may be closed while we look.
    let names = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

fn sockets(node: &Node) -> usize {
    descriptors(node).iter().filter(|name| name.starts_with("socket:")).count()
}

/// The blocks of all files below `folder`, in bytes.
fn bytes_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_of(&entry.path()),
        Ok(data) => data.blocks() * 512,
        // A segment that was renamed while we look.
        Err(_) => 0,
    };
    entries.map(of).sum()
}
