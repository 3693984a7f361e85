//! A load whose outcomes are known: each write was done, was not applied, or nobody knows.
//!
//! Each client writes values under keys that nobody else writes, and counts up counters that all
//! share. Afterwards every value that was acknowledged must be there, none that was not applied may
//! be, and a counter lies between what was acknowledged and that plus what is unknown.

use super::{
    Cluster, SOON,
    cluster::{is_not_applied, number},
};
use purlin_server::resp::{RespClient, Value};
use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Counters that are shared: of 12 groups each has some, but for bad luck.
const COUNTERS: usize = 48;
/// Keys that are read at a time.
const READ_AT_ONCE: usize = 100;
/// How long an answer may take: longer than the nodes' own deadline.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a client whose request was not done waits, unless it is told to stop.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// What is known of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Done,
    NotApplied,
    Unknown,
}

/// Clients that write until they are told to stop.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<History>>,
}

/// What the clients and the test tell each other.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    acknowledged: Vec<Acknowledged>,
}

/// That a counter was counted up.
struct Acknowledged {
    counter: usize,
    sent: Instant,
    answered: Instant,
}

/// What the clients did.
#[derive(Default)]
pub(crate) struct History {
    writes: Vec<(String, Outcome)>,
    /// For each counter the answers of those that were done.
    counted: Vec<(usize, i64)>,
    /// For each counter that was perhaps counted up, each time.
    perhaps: Vec<usize>,
}

impl Load {
    /// Starts `clients` clients, spread over all nodes. Their keys begin with `name`.
    pub(crate) fn start(cluster: &Cluster, name: &str, clients: usize) -> Self {
        Self::start_paced(cluster, name, clients, Duration::ZERO)
    }

    /// The same, where each client rests for `pause` after each two writes.
    pub(crate) fn start_paced(
        cluster: &Cluster,
        name: &str,
        clients: usize,
        pause: Duration,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let start = |number: usize| {
            let client = Client {
                name: format!("{name}:{number}"),
                gateways: cluster.gateways(),
                at: number,
                pause,
                connection: None,
                shared: Arc::clone(&shared),
                history: History::default(),
            };
            thread::spawn(move || client.run())
        };
        let clients = (0..clients).map(start).collect();
        Self { shared, clients }
    }

    /// Waits until `count` more increments are acknowledged.
    pub(crate) fn wait_for(&self, count: usize) {
        let goal = self.shared.lock().acknowledged.len() + count;
        self.shared.until("the load goes on", |all| (all.len() >= goal).then_some(()));
    }

    /// Waits until each counter was counted up by a command sent after `moment`. How long that took:
    /// the median over the counters, and the last of them.
    pub(crate) fn resumed(&self, moment: Instant) -> (Duration, Duration) {
        let mut times = self.shared.until("each counter is counted up again", |acknowledged| {
            let first = |counter| {
                let mut after = acknowledged.iter().filter(|it| it.sent >= moment);
                after.find(|it| it.counter == counter).map(|it| it.answered - moment)
            };
            (0..COUNTERS).map(first).collect::<Option<Vec<_>>>()
        });
        times.sort();
        (times[times.len() / 2], times[times.len() - 1])
    }

    /// When the increments behind the first `known` were answered, and how long each had taken.
    pub(crate) fn answered(&self, known: usize) -> Vec<(Instant, Duration)> {
        let state = self.shared.lock();
        let new = state.acknowledged[known..].iter();
        new.map(|it| (it.answered, it.answered - it.sent)).collect()
    }

    /// Stops all clients, and gives what they did.
    pub(crate) fn stop(self) -> History {
        self.shared.lock().is_stopped = true;
        self.shared.changed.notify_all();
        let mut all = History::default();
        for client in self.clients {
            all.add(client.join().expect("a client saw what may not be"));
        }
        all
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// Waits until there is something in what was acknowledged, and gives it. Fails after [`SOON`].
    fn until<T>(&self, what: &str, mut look: impl FnMut(&[Acknowledged]) -> Option<T>) -> T {
        let mut found = None;
        let is_missing = |state: &mut State| {
            found = look(&state.acknowledged);
            found.is_none()
        };
        drop(self.changed.wait_timeout_while(self.lock(), SOON, is_missing));
        found.unwrap_or_else(|| panic!("not within {} s: {what}", SOON.as_secs()))
    }

    /// Waits until the clients are told to stop, at most `limit`.
    fn wait_for_stop(&self, limit: Duration) {
        drop(self.changed.wait_timeout_while(self.lock(), limit, |state| !state.is_stopped));
    }
}

struct Client {
    name: String,
    gateways: Vec<SocketAddr>,
    /// Which gateway it uses; the next one after a failure.
    at: usize,
    /// How long it rests after each round.
    pause: Duration,
    connection: Option<RespClient>,
    shared: Arc<Shared>,
    history: History,
}

impl Client {
    fn run(mut self) -> History {
        for round in 0.. {
            if self.shared.lock().is_stopped {
                break;
            }
            self.write(round);
            self.count((round + self.at * 7) % COUNTERS);
            if !self.pause.is_zero() {
                self.shared.wait_for_stop(self.pause);
            }
        }
        self.history
    }

    fn write(&mut self, round: usize) {
        let key = format!("{}:{round}", self.name);
        let (outcome, _) = self.execute(&["SET", &key, &value_of(&key)]);
        self.history.writes.push((key, outcome));
    }

    fn count(&mut self, counter: usize) {
        let sent = Instant::now();
        match self.execute(&["INCR", &counter_key(counter)]) {
            (Outcome::Done, reply) => {
                self.history.counted.push((counter, number(&reply)));
                let answered = Instant::now();
                let acknowledged = Acknowledged { counter, sent, answered };
                self.shared.lock().acknowledged.push(acknowledged);
                self.shared.changed.notify_all();
            }
            (Outcome::Unknown, _) => self.history.perhaps.push(counter),
            (Outcome::NotApplied, _) => {}
        }
    }

    fn execute(&mut self, words: &[&str]) -> (Outcome, Value) {
        let Some(mut connection) = self.connect() else {
            self.shared.wait_for_stop(RETRY_AFTER);
            return (Outcome::NotApplied, Value::Nil);
        };
        match connection.command(words) {
            // It may have been sent, and more is not known.
            Err(error) => {
                assert!(error.kind() != io::ErrorKind::InvalidData, "{words:?}: {error}");
                self.at += 1;
                (Outcome::Unknown, Value::Nil)
            }
            Ok(reply) => {
                self.connection = Some(connection);
                let outcome = outcome_of(words, &reply);
                if outcome != Outcome::Done {
                    self.shared.wait_for_stop(RETRY_AFTER);
                }
                (outcome, reply)
            }
        }
    }

    fn connect(&mut self) -> Option<RespClient> {
        if let Some(connection) = self.connection.take() {
            return Some(connection);
        }
        let gateway = self.gateways[self.at % self.gateways.len()];
        let connection = RespClient::connect(gateway, PATIENCE).ok();
        if connection.is_none() {
            self.at += 1;
        }
        connection
    }
}

fn outcome_of(words: &[&str], reply: &Value) -> Outcome {
    match reply {
        Value::Error(text) if is_not_applied(text) => Outcome::NotApplied,
        Value::Error(text) if text.starts_with("UNKNOWN ") => Outcome::Unknown,
        Value::Error(text) => panic!("{words:?}: {text}"),
        _ => Outcome::Done,
    }
}

impl History {
    /// With what others did.
    pub(crate) fn add(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.counted.extend(other.counted);
        self.perhaps.extend(other.perhaps);
    }

    /// Asserts that each node answers as it must after this history.
    pub(crate) fn check(&self, cluster: &Cluster) {
        for node in &cluster.nodes {
            let mut client = node.client();
            self.check_writes(&mut client);
            self.check_counters(&mut client);
        }
    }

    fn check_writes(&self, client: &mut RespClient) {
        for writes in self.writes.chunks(READ_AT_ONCE) {
            let mut words = vec!["MGET"];
            words.extend(writes.iter().map(|(key, _)| key.as_str()));
            let reply = client.command(&words).expect("a node that serves");
            let Value::Array(values) = reply else { panic!("MGET answers {reply}") };
            for ((key, outcome), found) in writes.iter().zip(values) {
                let written = Value::Bulk(value_of(key).into_bytes());
                let is_right = match outcome {
                    Outcome::Done => found == written,
                    Outcome::NotApplied => found == Value::Nil,
                    Outcome::Unknown => found == Value::Nil || found == written,
                };
                assert!(is_right, "{key}, whose write is {outcome:?}, holds {found}");
            }
        }
    }

    fn check_counters(&self, client: &mut RespClient) {
        for counter in 0..COUNTERS {
            let answers = self.counted.iter().filter(|(other, _)| *other == counter);
            let answers: Vec<_> = answers.map(|(_, answer)| *answer).collect();
            let different: BTreeSet<_> = answers.iter().collect();
            assert_eq!(different.len(), answers.len(), "two increments have the same answer");
            let done = answers.len() as i64;
            let perhaps = self.perhaps.iter().filter(|other| **other == counter).count() as i64;
            let found =
                client.command(&["GET", &counter_key(counter)]).expect("a node that serves");
            let found = number(&found);
            let greatest = answers.iter().max().copied().unwrap_or(0);
            assert!(
                (done.max(greatest)..=done + perhaps).contains(&found),
                "counter {counter} is {found}: {done} were done, {perhaps} perhaps, and the \
                 greatest answer is {greatest}"
            );
        }
    }

    /// How many writes were done, were not applied, and are unknown.
    pub(crate) fn summary(&self) -> String {
        let of = |outcome| self.writes.iter().filter(|(_, it)| *it == outcome).count();
        format!(
            "{} writes done, {} not applied, {} unknown; {} increments done, {} unknown",
            of(Outcome::Done),
            of(Outcome::NotApplied),
            of(Outcome::Unknown),
            self.counted.len(),
            self.perhaps.len()
        )
    }
}

fn value_of(key: &str) -> String {
    format!("value of {key}")
}

fn counter_key(counter: usize) -> String {
    format!("counter:{counter}")
}
