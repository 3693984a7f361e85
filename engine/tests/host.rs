//! A host and its shards as they start and end: nobody waits for a shard that is gone. And a busy shard: no
//! thread and no group keeps it from its other work.
#![expect(clippy::disallowed_methods, reason = "hosts are used from threads")]

use bytes::Bytes;
use purlin::{
    ApplyContext, ClusterConfig, ClusterId, Command, DurableBy, ErrorKind, GroupId, Host,
    HostBuilder, Member, NodeConfig, NodeId, Outcome, Request, RequestError, Runtime, ShardId,
    StateMachine,
};
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

const GROUP: GroupId = GroupId(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// Panics over a command that says so, or when it is made for group `fatal`.
struct Fragile;

impl Fragile {
    fn new(group: GroupId, fatal: Option<GroupId>) -> Self {
        assert_ne!(Some(group), fatal, "made to panic");
        Self
    }
}

impl StateMachine for Fragile {
    fn apply(&mut self, _: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
        for command in commands {
            assert_ne!(command.data, "panic", "told to panic");
            outcomes.push(command.data.clone());
        }
    }

    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }
}

struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("host-{test}"));
        fs::remove_dir_all(&path).ok();
        Self(path)
    }

    /// A node of its own with two shards.
    fn host(&self, fatal: Option<GroupId>) -> HostBuilder {
        let (cluster, node) = self.config();
        Host::builder(cluster, node, move |group| Fragile::new(group, fatal))
            .shards(2)
            .init_if_missing()
    }

    fn config(&self) -> (ClusterConfig, NodeConfig) {
        let peer_port = free_ports();
        let members = vec![Member { node: NodeId(1), host: "127.0.0.1".into(), peer_port }];
        let mut node = NodeConfig::new(NodeId(1), &self.0);
        (node.pin, node.wal.durable_by) = (false, DurableBy::Fdatasync);
        node.wal.segment_bytes = 1 << 20;
        let mut cluster = ClusterConfig::new(ClusterId(1), 4, members);
        cluster.max_command = 1 << 10;
        (cluster, node)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Two ports in a row that nobody has.
fn free_ports() -> u16 {
    let bind = |port: u16| TcpListener::bind(("127.0.0.1", port));
    let is_free = |port: u16| bind(port).is_ok();
    let next = || bind(0).and_then(|socket| socket.local_addr()).expect("a free port").port();
    (0..100).map(|_| next()).find(|port| *port < u16::MAX && is_free(port + 1)).expect("ports")
}

/// Runs `work` beside the test, which fails when it takes too long.
fn within_patience<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(PATIENCE).expect("it ends")
}

fn awaited(answer: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
    within_patience(move || futures_lite::future::block_on(answer))
}

#[test]
fn a_machine_that_panics_stops_its_group_and_not_its_shard() {
    let place = Place::new("machine");
    let host = place.host(None).start().expect("it starts");
    let client = host.client();
    assert_eq!(awaited(client.propose(GROUP, "fine")), Ok("fine".into()));
    let outcome = awaited(client.propose(GROUP, "panic"));
    assert!(matches!(outcome, Err(RequestError::Unknown { .. })), "{outcome:?}");
    assert_eq!(awaited(client.propose(GROUP, "late")), Err(RequestError::GroupStopped));
    for group in 2..=4 {
        assert_eq!(awaited(client.propose(GroupId(group), "other")), Ok("other".into()));
    }
    within_patience(|| host.shutdown()).expect("no shard has panicked");
}

#[test]
fn what_a_shard_that_panics_had_taken_ends_and_nothing_more_is_taken() {
    let place = Place::new("panics");
    let host = place.host(None).start().expect("it starts");
    let client = host.client();
    assert_eq!(awaited(client.propose(GROUP, "fine")), Ok("fine".into()));
    let taken = client.propose(GROUP, "taken");
    // The other shard goes on.
    assert!(host.on_shard(ShardId(1), |_| panic!("told to panic")));
    let outcome = awaited(taken);
    assert!(matches!(outcome, Ok(_) | Err(RequestError::Unknown { .. })), "{outcome:?}");
    let late = |group| awaited(client.propose(GroupId(group), "late"));
    let ended: Vec<_> = (1..=4).map(late).collect();
    let stopped = RequestError::ShardStopped { shard: ShardId(1) };
    assert!(ended.contains(&Err(stopped)), "{ended:?}");
    assert!(ended.contains(&Ok("late".into())), "{ended:?}");
    let error = within_patience(|| host.shutdown()).expect_err("a shard has panicked");
    assert_eq!(error.kind, ErrorKind::Bug, "{error}");
}

#[test]
fn a_shard_that_panics_while_it_opens_stops_the_start() {
    let place = Place::new("opens");
    let builder = place.host(Some(GROUP));
    let started = within_patience(|| builder.start().map(|_| ()));
    assert_eq!(started.expect_err("a shard has panicked").kind, ErrorKind::Bug);
}

/// Safety W5: the others serve.
#[test]
fn a_shard_that_stays_down_takes_nothing_and_the_others_serve() {
    let place = Place::new("damaged");
    let host = place.host(None).start().expect("it starts");
    assert_eq!(awaited(host.client().propose(GROUP, "fine")), Ok("fine".into()));
    within_patience(|| host.shutdown()).expect("it stops");
    for entry in fs::read_dir(place.0.join("shard-1")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let mut bytes = fs::read(&path).expect("a file");
        if bytes.len() > 8192 {
            bytes[..4096].fill(0xff);
            fs::write(&path, bytes).expect("it is ours");
        }
    }
    let host = place.host(None).start().expect("the other shard starts");
    let client = host.client();
    let stopped = RequestError::ShardStopped { shard: ShardId(1) };
    assert_eq!(awaited(client.propose(GROUP, "lost")), Err(stopped));
    assert_eq!(awaited(client.propose(GroupId(2), "other")), Ok("other".into()));
    let error = within_patience(|| host.shutdown()).expect_err("a shard is down");
    assert_eq!(error.kind, ErrorKind::Damage, "{error}");
}

/// Counts the commands that it applies.
struct Counter(Arc<AtomicU64>);

impl StateMachine for Counter {
    fn apply(&mut self, _: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
        self.0.fetch_add(commands.len() as u64, Relaxed);
        outcomes.extend(commands.iter().map(|command| command.data.clone()));
    }

    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }
}

/// Each of their requests wakes the loop. If the loop did not wait then, no write of the log would reach the
/// kernel.
#[test]
fn threads_that_retry_on_busy_do_not_keep_others_from_committing() {
    const COMMANDS: u64 = 100;
    let place = Place::new("busy");
    let (cluster, mut node) = place.config();
    node.intake.requests_max = 4;
    let applied = Arc::new(AtomicU64::new(0));
    let counted = applied.clone();
    let machine = move |_group| Counter(counted.clone());
    let builder = Host::builder(cluster, node, machine).shards(1).init_if_missing();
    let host = builder.start().expect("it starts");
    let is_over = Arc::new(AtomicBool::new(false));
    let retry = || {
        let (client, is_over) = (host.client(), is_over.clone());
        thread::spawn(move || {
            while !is_over.load(Relaxed) {
                drop(client.propose(GROUP, "again"));
            }
        })
    };
    let threads = [retry(), retry()];
    within_patience(move || {
        while applied.load(Relaxed) < COMMANDS {
            thread::yield_now();
        }
    });
    is_over.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    within_patience(|| host.shutdown()).expect("it stops");
}

/// Takes longer to apply a command than a turn steps groups, and notes how often the core's other task has run
/// by then.
struct Slow {
    others: Arc<AtomicU64>,
    seen: Arc<Mutex<Vec<u64>>>,
}

impl StateMachine for Slow {
    fn apply(&mut self, _: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
        self.seen.lock().expect("nobody has panicked").push(self.others.load(Relaxed));
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(3) {}
        outcomes.extend(commands.iter().map(|command| command.data.clone()));
    }

    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }
}

#[test]
fn other_tasks_run_between_the_applies_of_groups() {
    let place = Place::new("turns");
    let (cluster, node) = place.config();
    let (others, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let machine = {
        let (others, seen) = (others.clone(), seen.clone());
        move |_group| Slow { others: others.clone(), seen: seen.clone() }
    };
    let builder = Host::builder(cluster, node, machine).shards(1).init_if_missing();
    let host = builder.start().expect("it starts");
    let client = host.client();
    for group in (1..=4).map(GroupId) {
        assert_eq!(awaited(client.propose(group, "first")), Ok("first".into()));
    }
    seen.lock().expect("nobody has panicked").clear();
    let (sender, ended) = mpsc::channel();
    // One write of the log has the commands of all four groups, so they are committed at the same moment.
    assert!(host.on_shard(ShardId(0), move |local| {
        let runtime = local.runtime().clone();
        runtime.clone().spawn(async move {
            let caller = local.caller();
            for group in (1..=4).map(GroupId) {
                caller.submit(group, Request::Propose("one".into()), 0);
            }
            let mut completions = Vec::new();
            while completions.len() < 4 {
                others.fetch_add(1, Relaxed);
                caller.take_completions(&mut completions);
                runtime.yield_now().await;
            }
            sender.send(()).expect("the test waits");
        });
    }));
    ended.recv_timeout(PATIENCE).expect("it ends");
    let seen = seen.lock().expect("nobody has panicked").clone();
    assert_eq!(seen.len(), 4);
    assert!(seen[0] < seen[3], "the other task had to wait for all groups: {seen:?}");
    within_patience(|| host.shutdown()).expect("it stops");
}
