//! Libraries with a client of Redis Cluster, at the ports of shards: redis-py, ioredis, node-redis, go-redis, and
//! the crate `redis`.
//!
//! All of them do the same: they set, read and count, one command after the other and in pipelines over all groups.
//! A node that leads some of the groups stands still until other nodes lead them. A node is killed while they work, and
//! started again. What a client was told to be done stays, and each client goes on by itself.

mod client;
mod leaders;

use super::support::{Cluster, LOOK_EVERY, SOON, Shape, until, wait_for_news};
use client::{Client, Reply, program};
use leaders::{Leaders, Terms, is_moved, says_that_a_leader_moved};
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

const SHAPE: Shape = Shape { shards: 2, groups: 12 };
/// Within so long a client that lost a node, or a leader, is told no error any more. It takes 1 to 6 s, and took 16 s
/// beside six busy loops.
const RECOVERED_WITHIN: Duration = SOON;
/// Of the new keys of a pipeline and of the counters some are in each group.
const KEYS: usize = 200;
const COUNTERS: usize = 60;
/// Commands that are sent one by one cost a round trip each.
const KEYS_ONE_BY_ONE: usize = 100;

/// A client, and what must be true of all that it was told.
struct Worker {
    client: Client,
    /// No other worker writes keys that begin so.
    name: String,
    /// Keys that were given out.
    keys: usize,
    /// Values that were acknowledged, by their keys.
    written: BTreeMap<String, String>,
    /// Values that may have been written: the client was told an error.
    perhaps: BTreeMap<String, String>,
    counters: Vec<Counter>,
    /// What the client said instead of an answer, by the beginning of the text.
    surfaced: BTreeMap<String, u64>,
    leaders: Leaders,
    /// The terms when it was asked for what was done in full: it knows the leaders of these terms, or later ones.
    terms: Terms,
}

/// What is known of one counter.
#[derive(Clone, Default)]
struct Counter {
    /// The last answer, or what was read since.
    last: i64,
    /// How much greater it may be: attempts without an answer, and those that the library may have repeated.
    more: i64,
}

/// Which errors a client may be told while a batch runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// All nodes run that ran before. A busy machine may change the leader of a group all the same, and an error may
    /// say so.
    Calm,
    /// A node may be gone.
    Rough,
}

impl Worker {
    fn start(command: Command, port: u16, name: &str, leaders: Leaders) -> Self {
        let terms = leaders.terms();
        Self {
            client: Client::start(command, port),
            name: name.to_owned(),
            keys: 0,
            written: BTreeMap::new(),
            perhaps: BTreeMap::new(),
            counters: vec![Counter::default(); COUNTERS],
            surfaced: BTreeMap::new(),
            leaders,
            terms,
        }
    }

    /// Whether a group may have changed its leader since the client knew it.
    fn may_be_moved(&self) -> bool {
        self.leaders.terms() != self.terms
    }

    /// The client was told an error.
    fn surface(&mut self, weather: Weather, command: &[String], text: &str) {
        let name = &self.client.name;
        if weather == Weather::Calm {
            assert!(says_that_a_leader_moved(text), "{name}: {command:?}: {text}");
            let is_true = || (!is_moved(text) || self.may_be_moved()).then_some(());
            until(&format!("a group has a later term, for {name}: {text}"), is_true);
        }
        *self.surfaced.entry(kind(text)).or_default() += 1;
    }

    /// Writes of `keys` new keys, of all that may not have been written before, and an increment of each counter.
    fn writes(&mut self, keys: usize) -> Vec<Vec<String>> {
        for _ in 0..keys {
            self.keys += 1;
            let key = format!("{}:{}", self.name, self.keys);
            self.perhaps.insert(key.clone(), format!("value of {key}"));
        }
        let set = |(key, value): (&String, &String)| vec!["SET".into(), key.clone(), value.clone()];
        let mut commands: Vec<_> = self.perhaps.iter().map(set).collect();
        commands.extend((0..COUNTERS).map(|at| vec!["INCR".into(), self.counter(at)]));
        commands
    }

    fn counter(&self, at: usize) -> String {
        format!("{}:counter:{at}", self.name)
    }

    /// Takes in what the client said to writes. Whether all of them are done.
    fn take_in(&mut self, commands: &[Vec<String>], weather: Weather) -> bool {
        let replies = self.client.replies();
        assert_eq!(replies.len(), commands.len());
        // What the library may have sent again without a word.
        let may_repeat = weather == Weather::Rough || self.may_be_moved();
        let hidden = if may_repeat { self.client.retries as i64 } else { 0 };
        let mut all_done = true;
        // Counters come last, in their order.
        let first_counter = commands.len() - COUNTERS;
        for (at, (command, reply)) in commands.iter().zip(replies).enumerate() {
            match reply {
                Reply::Error(text) => {
                    self.surface(weather, command, &text);
                    all_done = false;
                    if at >= first_counter {
                        self.counters[at - first_counter].more += 1 + hidden;
                    }
                }
                Reply::Text(ok) if at < first_counter && ok == "OK" => {
                    // What was sent twice was acknowledged by the first answer already.
                    self.perhaps.remove(&command[1]);
                    self.written.insert(command[1].clone(), command[2].clone());
                }
                Reply::Number(number) if at >= first_counter => {
                    let counter = &mut self.counters[at - first_counter];
                    let allowed = counter.last + 1..=counter.last + 1 + counter.more + hidden;
                    assert!(allowed.contains(&number), "{command:?} is {number}, not {allowed:?}");
                    counter.more += hidden - (number - counter.last - 1);
                    counter.last = number;
                }
                other => panic!("{}: {command:?}: {other:?}", self.client.name),
            }
        }
        all_done
    }

    /// Lets the client work until all of it is done. `work` asks for something, and says whether it was told no error.
    fn until_done(&mut self, mut work: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        let mut seen = 0;
        loop {
            let terms = self.leaders.terms();
            if work(self) {
                self.terms = terms;
                return;
            }
            let (name, surfaced) = (&self.client.name, &self.surfaced);
            assert!(began.elapsed() < RECOVERED_WITHIN, "{name} does not recover: {surfaced:?}");
            seen = wait_for_news(seen, LOOK_EVERY);
        }
    }

    /// Writes new keys and counts, until all of it is done.
    fn write(&mut self, is_pipeline: bool, keys: usize) {
        self.write_in(Weather::Calm, is_pipeline, keys);
    }

    /// Writes, whatever is the matter, until all of a pipeline is done.
    fn write_until_done(&mut self, keys: usize) {
        self.write_in(Weather::Rough, true, keys);
    }

    fn write_in(&mut self, weather: Weather, is_pipeline: bool, keys: usize) {
        let mut keys = if weather == Weather::Calm || self.perhaps.is_empty() { keys } else { 0 };
        self.until_done(|worker| {
            // What fails is sent again, and no more than that.
            let commands = worker.writes(std::mem::take(&mut keys));
            worker.client.ask(is_pipeline, &commands);
            worker.take_in(&commands, weather)
        });
    }

    /// Reads the values of keys, until the client was told all of them.
    fn read(&mut self, mut keys: Vec<String>) -> BTreeMap<String, Reply> {
        let mut values = BTreeMap::new();
        self.until_done(|worker| {
            let get: Vec<_> = keys.iter().map(|key| vec!["GET".into(), key.clone()]).collect();
            worker.client.ask(true, &get);
            let replies = worker.client.replies();
            assert_eq!(replies.len(), get.len());
            keys.clear();
            for (command, reply) in get.iter().zip(replies) {
                match reply {
                    Reply::Error(text) => {
                        worker.surface(Weather::Calm, command, &text);
                        keys.push(command[1].clone());
                    }
                    value => _ = values.insert(command[1].clone(), value),
                }
            }
            keys.is_empty()
        });
        values
    }

    /// Reads all that was written, and the counters: the client must be told all of it.
    fn read_all(&mut self) {
        let written: Vec<String> = self.written.keys().cloned().collect();
        for keys in written.chunks(2 * KEYS) {
            for (key, value) in self.read(keys.to_vec()) {
                let expected = Reply::Text(self.written[&key].clone());
                assert_eq!(value, expected, "{}: {key}", self.client.name);
            }
        }
        let values = self.read((0..COUNTERS).map(|at| self.counter(at)).collect());
        for at in 0..COUNTERS {
            let name = self.counter(at);
            let number: i64 = match &values[&name] {
                Reply::Text(number) => number.parse().expect("a number"),
                other => panic!("{}: {name}: {other:?}", self.client.name),
            };
            let counter = &mut self.counters[at];
            let allowed = counter.last..=counter.last + counter.more;
            assert!(allowed.contains(&number), "{name} is {number}, not in {allowed:?}");
            // What is in doubt still may come late.
            *counter = Counter { last: number, more: counter.more - (number - counter.last) };
        }
    }
}

/// The beginning of an error: its class, and the first word of what the server said.
fn kind(text: &str) -> String {
    text.split_whitespace().take(4).collect::<Vec<_>>().join(" ")
}

/// Waits until each node leads as many groups as the others: then no group changes its leader any more. Works
/// meanwhile.
fn wait_until_balanced(cluster: &Cluster, mut work: impl FnMut()) {
    let each = u64::from(SHAPE.groups) / cluster.nodes.len() as u64;
    until("each node leads its groups", || {
        work();
        let mut led = cluster.nodes.iter().map(|node| node.info("purlin_groups_led"));
        led.all(|led| led == Some(each)).then_some(())
    });
}

/// A node stands still until the others lead its groups, and then goes on. The client is not asked for anything
/// meanwhile, so it asks the wrong nodes next.
fn move_leaders(cluster: &Cluster, from: usize) {
    cluster.nodes[from].process().signal(Signal::STOP);
    until("the other nodes lead all groups", || {
        let others = cluster.nodes.iter().enumerate().filter(|(at, _)| *at != from);
        let led = others.map(|(_, node)| node.info("purlin_groups_led"));
        (led.sum::<Option<u64>>() == Some(SHAPE.groups.into())).then_some(())
    });
    cluster.nodes[from].process().signal(Signal::CONT);
}

/// A client begins at `seed`; then the node at `victim` stands still for a while, is killed, and is started again.
fn goes_on(cluster: &mut Cluster, command: Command, seed: u16, victim: usize) {
    wait_until_balanced(cluster, || ());
    let mut worker = Worker::start(command, seed, &format!("seed-{seed}"), Leaders::of(cluster));
    worker.write(false, KEYS_ONE_BY_ONE);
    worker.write(true, KEYS);
    worker.read_all();

    move_leaders(cluster, victim);
    worker.read_all();
    worker.write(true, KEYS);
    wait_until_balanced(cluster, || worker.write(true, 1));
    worker.read_all();
    let at_the_move = std::mem::take(&mut worker.surfaced);

    // The client has two pipelines, and has answered the first one: it works on the second one now.
    let pipelines = [worker.writes(KEYS), worker.writes(KEYS)];
    pipelines.iter().for_each(|commands| worker.client.ask(true, commands));
    worker.take_in(&pipelines[0], Weather::Calm);
    cluster.nodes[victim].strike();
    let killed = Instant::now();
    cluster.nodes[victim].kill();
    worker.take_in(&pipelines[1], Weather::Rough);
    worker.write_until_done(KEYS);
    let recovered = killed.elapsed();
    worker.read_all();
    worker.write(false, KEYS_ONE_BY_ONE);
    worker.write(true, KEYS);
    worker.read_all();
    let at_the_kill = std::mem::take(&mut worker.surfaced);

    // Groups go back to the node that led them first.
    cluster.nodes[victim].start();
    cluster.wait_until_ready();
    wait_until_balanced(cluster, || worker.write_until_done(1));
    worker.write_until_done(KEYS);
    worker.read_all();
    worker.write(false, KEYS_ONE_BY_ONE);
    worker.write(true, KEYS);
    worker.read_all();
    println!(
        "{}: went on {} ms after the kill, {} keys; told at the move {at_the_move:?}, at the kill {at_the_kill:?}, at \
         the start {:?}",
        worker.client.name,
        recovered.as_millis(),
        worker.written.len(),
        worker.surfaced,
    );
    let end = worker.client.end();
    assert_eq!(end.code, Some(0), "{}", end.err);
}

/// A client in a language goes on at one seed, the port of a shard, and at another one, a gateway. The nodes that are
/// killed are given.
fn client_goes_on(language: &str, victims: [usize; 2]) {
    let Some(command) = program(language) else { return };
    let mut cluster = Cluster::start(language, SHAPE);
    let seed = cluster.nodes[0].shard_port(1);
    goes_on(&mut cluster, command, seed, victims[0]);
    let seed = cluster.nodes[0].ports.gateway();
    goes_on(&mut cluster, program(language).expect("it was there"), seed, victims[1]);
    cluster.assert_no_panic();
}

/// The second node that is killed is the seed itself: the client has heard of the others.
const OTHER_AND_SEED: [usize; 2] = [1, 0];
/// For a client that must connect to its seed again.
const OTHERS: [usize; 2] = [1, 2];

#[test]
fn redis_py_goes_on_when_a_node_dies() {
    client_goes_on("python", OTHER_AND_SEED);
}

#[test]
fn ioredis_goes_on_when_a_node_dies() {
    client_goes_on("ioredis", OTHER_AND_SEED);
}

#[test]
fn node_redis_goes_on_when_a_node_dies() {
    client_goes_on("node-redis", OTHER_AND_SEED);
}

#[test]
fn go_redis_goes_on_when_a_node_dies() {
    client_goes_on("go", OTHER_AND_SEED);
}

#[test]
fn redis_rs_goes_on_when_a_node_dies() {
    client_goes_on("rust", OTHERS);
}
