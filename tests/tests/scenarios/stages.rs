//! A node tells in which stage the time of its commands goes: a slow disk, a slow network and a slow machine each show
//! where they are, and only at the leader.

use crate::support::{all, millis, one_leader, seconds};
use purlin::{Histogram, NodeId, StageTimes};
use purlin_tests::{
    cluster::{
        ClusterOptions,
        scenario::{Scenario, calm},
    },
    sim::{CpuOptions, Latency, LinkTrouble},
};
use std::time::Duration;

/// Commands of each test; with so much time between them each is timed.
const COMMANDS: u64 = 10;
const PAUSE: Duration = Duration::from_millis(300);

/// A cluster whose disks and network take much the same time always: less than a millisecond.
fn steady() -> ClusterOptions {
    let mut options = calm(3, 0);
    let micros = Duration::from_micros;
    options.world.disk.write = Latency::steady(micros(100), micros(10));
    options.world.disk.sync = Latency::steady(micros(100), micros(10));
    options.world.net.jitter = Latency::steady(Duration::ZERO, micros(10));
    options
}

/// Writes at `at` one command after the other; before each of them `hurt` does its harm.
fn write(s: &Scenario, at: NodeId, hurt: impl Fn()) {
    for n in 0..COMMANDS {
        hurt();
        s.must_write(at, "key", &n.to_string(), seconds(5));
        s.run_for(PAUSE);
    }
}

fn stages(s: &Scenario, node: NodeId) -> StageTimes {
    s.view(node).stages()
}

fn median(times: &Histogram) -> Duration {
    times.quantile(0.5).expect("commands were timed")
}

/// The stages whose median is at least so long.
fn longer_than(stages: &StageTimes, least: Duration) -> Vec<&'static str> {
    let long = |(name, times): (&'static str, &Histogram)| (median(times) >= least).then_some(name);
    stages.by_name().into_iter().filter_map(long).collect()
}

#[test]
fn a_slow_disk_of_the_leader_shows_in_its_wal_stage_and_nowhere_else() {
    let s = Scenario::running_with(710, steady());
    let leader = one_leader(&s, &all(&s));
    write(&s, leader, || s.world.node(leader).hang_disk(millis(80)));
    let told = stages(&s, leader);
    assert!(told.total.count() >= COMMANDS, "{told:?}");
    // Two followers are a majority, so no command waits for that disk.
    assert_eq!(longer_than(&told, millis(40)), ["wal"], "{told:?}");
    assert!(median(&told.total) < millis(10), "{told:?}");
    s.assert_sound();
}

#[test]
fn a_slow_network_shows_in_the_quorum_stage_and_in_the_total() {
    let s = Scenario::running_with(711, steady());
    let leader = one_leader(&s, &all(&s));
    let trouble = LinkTrouble { delay: millis(25), ..LinkTrouble::default() };
    for other in s.others(leader) {
        s.world.trouble_link(leader, other, Some(trouble));
        s.world.trouble_link(other, leader, Some(trouble));
    }
    write(&s, leader, || {});
    let told = stages(&s, leader);
    assert_eq!(longer_than(&told, millis(50)), ["quorum", "total"], "{told:?}");
    assert!(median(&told.wal) < millis(5), "{told:?}");
    s.assert_sound();
}

#[test]
fn a_slow_machine_shows_in_the_apply_stage_and_in_the_total() {
    let mut options = steady();
    options.world.cpu = Some(CpuOptions { command: millis(15), key: Duration::ZERO });
    let s = Scenario::running_with(712, options);
    let leader = one_leader(&s, &all(&s));
    write(&s, leader, || {});
    let told = stages(&s, leader);
    assert_eq!(longer_than(&told, millis(15)), ["apply", "total"], "{told:?}");
    s.assert_sound();
}

/// Commands that another node has sent on are timed where they are led, from the turn that takes them in.
#[test]
fn a_command_is_timed_at_its_leader_wherever_it_came_from() {
    let s = Scenario::running_with(713, steady());
    let leader = one_leader(&s, &all(&s));
    let other = s.others(leader)[0];
    // The first write is in the status of the next beat.
    s.run_for(PAUSE);
    let before = [leader, other].map(|node| stages(&s, node).total.count());
    let commands = [leader, other].map(|node| s.view(node).counts().commands);
    write(&s, other, || {});
    let after = [leader, other].map(|node| stages(&s, node).total.count());
    assert_eq!(after, [before[0] + COMMANDS, before[1]]);
    let applied = [leader, other].map(|node| s.view(node).counts().commands);
    assert_eq!(applied, commands.map(|count| count + COMMANDS), "each replica applies them");
    let told = stages(&s, leader);
    let sum = told.queue.sum() + told.quorum.sum() + told.apply.sum() + told.reply.sum();
    assert_eq!(told.total.sum(), sum, "{told:?}");
    s.assert_sound();
}
