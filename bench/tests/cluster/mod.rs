//! Loads over tiny servers that make up a cluster: each operation goes where its slot is led, and goes
//! on where a server sends it.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use purlin_bench::cluster::{ClusterFacts, REDIRECTS_MAX};
use purlin_bench::driver::{DriverConfig, Extent, Pace, RunError, Summary};
use purlin_bench::schedule::Arrivals;
use purlin_bench::slots::slot_of;

use crate::tiny::{Answer, TinyServer};
use crate::{OK, command, driver, run, run_telling};

/// The first slot, the last slot, and the port of the leader.
type Row = (u16, u16, u16);

/// What the servers of a cluster share.
#[derive(Default)]
struct Shared {
    /// What the servers know, and act by.
    led: Mutex<Vec<Row>>,
    /// What they tell, if this differs, for as long as `stays_stale`, or until one of them has answered `MOVED`.
    told: Mutex<Option<Vec<Row>>>,
    stays_stale: AtomicBool,
    /// How often one of them has answered `MOVED`.
    moved: AtomicU64,
    /// How many operations one of them has done.
    done: AtomicU64,
    /// Whether the server that gets the next operation dies, and another one leads all slots.
    ends: AtomicBool,
}

impl Shared {
    fn answer(&self, port: u16, words: &[String]) -> Answer {
        if words[0] == "CLUSTER" {
            let told = self.told.lock().unwrap().clone();
            return Answer::Say(slots_reply(
                &told.unwrap_or_else(|| self.led.lock().unwrap().clone()),
            ));
        }
        let slot = slot_of(words[1].as_bytes());
        let mut led = self.led.lock().unwrap();
        let leader = led.iter().find(|row| (row.0..=row.1).contains(&slot)).map(|row| row.2);
        if leader == Some(port) && self.ends.swap(false, Ordering::SeqCst) {
            let other = led.iter().map(|row| row.2).find(|other| *other != port).unwrap();
            *led = vec![(0, 16_383, other)];
            return Answer::Die;
        }
        match leader {
            Some(leader) if leader != port => {
                self.moved.fetch_add(1, Ordering::SeqCst);
                if !self.stays_stale.load(Ordering::SeqCst) {
                    *self.told.lock().unwrap() = None;
                }
                Answer::Say(format!("-MOVED {slot} 127.0.0.1:{leader}\r\n"))
            }
            // A server takes the operations of a slot without a leader.
            _ => {
                self.done.fetch_add(1, Ordering::SeqCst);
                OK
            }
        }
    }
}

fn slots_reply(rows: &[Row]) -> String {
    let row = |(first, last, port): &Row| {
        format!(
            "*3\r\n:{first}\r\n:{last}\r\n*4\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$2\r\nid\r\n*0\r\n"
        )
    };
    rows.iter().fold(format!("*{}\r\n", rows.len()), |all, it| all + &row(it))
}

/// A cluster of tiny servers.
struct TinyCluster {
    shared: Arc<Shared>,
    servers: Vec<TinyServer>,
}

impl TinyCluster {
    /// Servers that lead equal parts of the slots.
    fn start(count: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let servers: Vec<_> = (0..count).map(|_| start_on("127.0.0.1:0", &shared)).collect();
        let first = |place: usize| (place * 16_384 / count) as u16;
        let row =
            |place: usize| (first(place), first(place + 1) - 1, servers[place].address.port());
        *shared.led.lock().unwrap() = (0..count).map(row).collect();
        Self { shared, servers }
    }

    fn port(&self, place: usize) -> u16 {
        self.servers[place].address.port()
    }

    fn tell(&self, rows: &[Row]) {
        *self.shared.told.lock().unwrap() = Some(rows.to_vec());
    }

    /// A load of `requests` operations, which knows the first server.
    fn load(&self, requests: u64) -> DriverConfig {
        DriverConfig { cluster: true, ..driver(&[self.servers[0].address], requests) }
    }

    fn count(&self, counter: fn(&Shared) -> &AtomicU64) -> u64 {
        counter(&self.shared).load(Ordering::SeqCst)
    }
}

fn start_on(address: &str, shared: &Arc<Shared>) -> TinyServer {
    let listener = TcpListener::bind(address).unwrap();
    let (port, shared) = (listener.local_addr().unwrap().port(), shared.clone());
    TinyServer::answer_on(listener, move |_, words| shared.answer(port, words))
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn facts(summary: &Summary) -> &ClusterFacts {
    summary.cluster.as_ref().expect("a run over a cluster")
}

/// The keys that a server got.
fn keys(server: &TinyServer) -> Vec<String> {
    let seen = server.take_seen().into_iter();
    seen.filter(|words| words[0] != "CLUSTER").map(|words| words[1].clone()).collect()
}

#[test]
fn each_key_is_sent_once_to_the_server_that_leads_its_slot() {
    let open = Pace::Open { rate: 20_000.0, arrivals: Arrivals::Poisson };
    for (clients, pipeline, pace) in
        [(4, 16, Pace::Closed), (1, 1, Pace::Closed), (1, 16, Pace::Closed), (4, 64, open)]
    {
        let cluster = TinyCluster::start(3);
        let summary = run(DriverConfig { clients, pipeline, pace, ..cluster.load(1_000) });
        let totals = summary.recorder.totals();
        assert_eq!((totals.succeeded, totals.redirected, totals.refused), (1_000, 0, 0));
        assert_eq!(summary.recorder.latency().len(), 1_000);
        let mut all = BTreeSet::new();
        for (place, server) in cluster.servers.iter().enumerate() {
            let (first, last, _) = cluster.shared.led.lock().unwrap()[place];
            let keys = keys(server);
            assert!(keys.iter().all(|key| (first..=last).contains(&slot_of(key.as_bytes()))));
            assert!(keys.len() > 250, "{} of 1,000 keys have a third of the slots", keys.len());
            all.extend(keys);
        }
        let expected = (0..1_000).map(|number| format!("key:{number:012}"));
        assert!(all.into_iter().eq(expected), "each key once");
        let facts = facts(&summary);
        assert_eq!((facts.endpoints, facts.ranges, facts.endpoints_used), (3, 3, 3));
        assert_eq!((facts.connections, facts.slots_without_endpoint_max), (3 * clients, 0));
        assert_eq!((facts.inquiries, facts.inquiries_answered), (1, 1), "nothing has changed");
    }
}

/// The servers tell that the first one leads all slots, and do not act so: a server that nobody told of gets
/// connections, and each operation that is sent elsewhere is done once.
#[test]
fn a_moved_operation_is_followed_and_counted_once() {
    let cluster = TinyCluster::start(2);
    cluster.tell(&[(0, 16_383, cluster.port(0))]);
    cluster.shared.stays_stale.store(true, Ordering::SeqCst);
    let summary = run(cluster.load(1_000));
    let totals = summary.recorder.totals();
    assert_eq!((totals.succeeded, totals.refused, totals.lost, totals.timed_out), (1_000, 0, 0, 0));
    assert!(totals.redirected > 0, "{totals:?}");
    assert_eq!(totals.redirected, cluster.count(|shared| &shared.moved));
    assert_eq!(cluster.count(|shared| &shared.done), 1_000, "each is done once");
    assert_eq!(summary.recorder.latency().len(), 1_000);
    let facts = facts(&summary);
    assert_eq!((facts.endpoints_used, facts.connections), (2, 8));
}

#[test]
fn an_operation_that_is_sent_around_without_end_is_refused() {
    let summary = endless();
    let totals = summary.recorder.totals();
    assert_eq!((totals.refused, totals.succeeded, totals.unknown), (20, 0, 0));
    assert_eq!(totals.redirected, 20 * u64::from(REDIRECTS_MAX));
    assert_eq!(totals.errors["MOVED"].count, 20);
}

/// One server that answers each operation with `MOVED` to itself.
fn endless() -> Summary {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = TinyServer::answer_on(listener, move |_, words| match words[0].as_str() {
        "CLUSTER" => Answer::Say(slots_reply(&[(0, 16_383, port)])),
        _ => Answer::Say(format!("-MOVED {} :{port}\r\n", slot_of(words[1].as_bytes()))),
    });
    run(DriverConfig { cluster: true, ..driver(&[server.address], 20) })
}

#[test]
fn the_slots_of_a_server_that_dies_are_learnt_anew() {
    let cluster = TinyCluster::start(3);
    cluster.shared.ends.store(true, Ordering::SeqCst);
    let summary = run(DriverConfig {
        targets: cluster.servers.iter().map(|server| server.address).collect(),
        ..cluster.load(5_000)
    });
    let totals = summary.recorder.totals();
    assert!(!summary.has_given_up);
    assert!(totals.lost > 0 && totals.connections_lost > 0, "{totals:?}");
    assert_eq!(totals.succeeded + totals.lost, 5_000, "each is sent once, and counted once");
    assert_eq!(cluster.count(|shared| &shared.done), totals.succeeded);
    assert_eq!((facts(&summary).endpoints, facts(&summary).ranges), (1, 1));
}

/// Nobody listens at the endpoint of half of the slots. Such an operation was certainly not applied.
#[test]
fn an_operation_whose_endpoint_is_not_reached_is_given_up_in_time_and_known_as_not_done() {
    let cluster = TinyCluster::start(1);
    cluster.tell(&[(0, 8_191, cluster.port(0)), (8_192, 16_383, nobody().port())]);
    let summary = run(DriverConfig {
        extent: Extent::Duration(Duration::from_secs(1)),
        timeout: Duration::from_millis(500),
        ..cluster.load(0)
    });
    let totals = summary.recorder.totals();
    assert!(totals.timed_out > 0 && totals.succeeded > 0, "{totals:?}");
    assert_eq!((totals.unknown, totals.lost, totals.refused), (0, 0, 0));
}

#[test]
fn an_operation_of_a_slot_without_a_leader_goes_to_some_endpoint() {
    let cluster = TinyCluster::start(2);
    cluster.shared.led.lock().unwrap().retain(|row| row.0 == 0);
    let summary = run(cluster.load(1_000));
    assert_eq!(summary.recorder.totals().succeeded, 1_000);
    let facts = facts(&summary);
    assert_eq!((facts.slots_without_endpoint, facts.slots_without_endpoint_max), (8_192, 8_192));
}

/// The operation is sent to an endpoint that is not there before a second has passed. Its latency has that second.
#[test]
fn the_latency_of_an_open_loop_runs_from_the_intended_time_over_a_redirect() {
    let cluster = TinyCluster::start(1);
    let late = nobody();
    let row = (0, 16_383, late.port());
    cluster.tell(&[(0, 16_383, cluster.port(0))]);
    *cluster.shared.led.lock().unwrap() = vec![row];
    let mut server = None;
    let config = DriverConfig {
        pace: Pace::Open { rate: 1_000.0, arrivals: Arrivals::Uniform },
        ..cluster.load(10)
    };
    let summary = run_telling(config, |_| {
        server.get_or_insert_with(|| start_on(&late.to_string(), &cluster.shared));
    })
    .unwrap();
    let totals = summary.recorder.totals();
    assert_eq!((totals.succeeded, totals.refused), (10, 0), "{totals:?}");
    assert_eq!(totals.redirected, cluster.count(|shared| &shared.moved));
    assert!((1..=10).contains(&totals.redirected), "{totals:?}");
    let (latency, service) = (summary.recorder.latency(), summary.recorder.service());
    assert_eq!((latency.len(), service.len()), (10, 10));
    assert!(latency.min() > 900_000_000, "{}", latency.min());
    // An operation that was sent on is timed from its first sending, and the others waited unsent.
    assert!(service.max() > 900_000_000, "{}", service.max());
}

#[test]
fn the_slots_come_from_the_first_target_that_tells_them() {
    let cluster = TinyCluster::start(2);
    let refusing =
        TinyServer::start(|_| Answer::Send(b"-ERR This instance has cluster support disabled\r\n"));
    let targets = vec![nobody(), refusing.address, cluster.servers[1].address];
    let summary = run(DriverConfig { targets, ..cluster.load(100) });
    assert_eq!(summary.recorder.totals().succeeded, 100);
    assert_eq!(facts(&summary).inquiries, 3);
}

#[test]
fn servers_that_do_not_tell_their_slots_are_no_cluster() {
    for (reply, expected) in [
        ("-ERR unknown command\r\n", "is refused: ERR unknown command"),
        ("+OK\r\n", "number of rows"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "not understood"),
        ("*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\nh\r\n:1\r\n", "slot of 0 to 16383"),
        ("*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$3\r\n\0.\0\r\n:1\r\n", "has no address"),
    ] {
        let server = TinyServer::start(move |_| Answer::Send(reply.as_bytes()));
        let config = DriverConfig { cluster: true, ..driver(&[server.address], 10) };
        match run_telling(config, |_| ()).err() {
            Some(RunError::NoSlots(why)) => {
                assert!(
                    why.contains(expected) && why.contains(&server.address.to_string()),
                    "{why}"
                );
            }
            other => panic!("{reply}: {other:?}"),
        }
        assert_eq!(server.commands(), 1, "nothing else is sent, and nothing is asked again");
    }
}

#[test]
fn a_reply_of_too_many_bytes_is_refused() {
    let row = "*3\r\n:0\r\n:1\r\n*3\r\n$1\r\nh\r\n:1\r\n$1000000\r\n";
    let reply = format!("*9\r\n{}", format!("{row}{}\r\n", "x".repeat(1_000_000)).repeat(5));
    let server = TinyServer::start(move |_| Answer::Say(reply.clone()));
    let config = DriverConfig { cluster: true, ..driver(&[server.address], 10) };
    let Err(RunError::NoSlots(why)) = run_telling(config, |_| ()) else { panic!("it ran") };
    assert!(why.contains("more than 4194304 bytes"), "{why}");
}

#[test]
fn the_command_tells_what_it_saw_of_the_cluster_and_why_it_saw_none() {
    let cluster = TinyCluster::start(2);
    let file =
        std::env::temp_dir().join(format!("purlin-bench-cluster-{}.json", std::process::id()));
    let (json, port) = (file.to_str().unwrap(), cluster.port(0).to_string());
    let (code, stdout, stderr) = command(&["-p", &port, "--cluster", "-n", "1000", "--json", json]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("2 endpoints lead 2 ranges of slots"), "{stdout}");
    assert!(stdout.contains("0 redirections"), "{stdout}");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(report["parameters"]["cluster"], true);
    assert_eq!(report["result"]["cluster"]["endpoints"], 2);
    assert_eq!(report["result"]["totals"]["redirected"], 0);
    let refusing = TinyServer::start(|_| Answer::Send(b"-ERR cluster support disabled\r\n"));
    let port = refusing.address.port().to_string();
    let (code, _, stderr) = command(&["-p", &port, "--cluster"]);
    assert_eq!(code, 7);
    for text in
        ["could not be learnt", "ERR cluster support disabled", "  in  ", "  means  ", "  do  "]
    {
        assert!(stderr.contains(text), "{text}: {stderr}");
    }
    let (code, _, stderr) = command(&["-p", &nobody().port().to_string(), "--cluster"]);
    assert_eq!(code, 7);
    assert!(stderr.contains("onnection refused"), "{stderr}");
}
