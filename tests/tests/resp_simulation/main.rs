//! The server's real front end in the simulated world: what clients of Redis' protocol are told while
//! nodes die, links break, readers sleep, and bytes come in pieces; and, in `commands`, what it answers to
//! each command when nothing is in its way.

mod admin;
mod commands;
mod full;
mod memory;
mod shard_ports;
mod stops;
mod support;
mod work;

use bytes::Bytes;
use purlin::{GroupId, NodeId, Runtime, ShardId};
use purlin_tests::{
    checker::history::Told,
    cluster::{ClusterOptions, KeyValue, scenario::Scenario},
    resp::{self, Value, Wire, request_bytes},
    sim::{Crash, Descriptors, NetOptions, Random, WorldOptions},
    workload::{Op, Reply, WorkloadOptions},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    io::ErrorKind,
    ops::Range,
    rc::Rc,
    time::Duration,
};
use support::{GROUPS, assert_sound, clients, judge, must_serve, served, serving, talk, turmoil};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ok() -> Value {
    Value::Simple("OK".into())
}

fn bulk(bytes: impl AsRef<[u8]>) -> Value {
    Value::Bulk(bytes.as_ref().to_vec())
}

/// Requests, one behind the other; their words stand between single spaces.
fn pipeline(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| request_bytes(&line.split(' ').collect::<Vec<_>>())).collect()
}

async fn replies(wire: &mut Wire, count: usize) -> Vec<Value> {
    let mut replies = Vec::new();
    for _ in 0..count {
        replies.push(wire.reply().await.expect("a reply"));
    }
    replies
}

/// The reply to one request, at the first shard of a node.
fn read(s: &Scenario, node: NodeId, line: &str) -> Value {
    let bytes = pipeline(&[line]);
    talk(s, node, ShardId(0), seconds(20), async move |mut wire| {
        wire.write(&bytes).await.expect("it is sent");
        wire.reply().await.expect("a reply")
    })
}

// ---- Order

/// Keys of all groups, which different nodes lead, through one node.
#[test]
fn a_pipeline_is_answered_in_its_order_at_every_node_and_shard() {
    let s = serving(1, ClusterOptions { shards: vec![2, 1, 3], ..served(0) });
    for (node, shard) in s.shards() {
        let answers = talk(&s, node, shard, seconds(10), async move |mut wire| {
            let mut lines = Vec::new();
            let mut expected = Vec::new();
            for n in 0..30 {
                lines.push(format!("SET key-{n} {node}-{n}"));
                lines.push(format!("APPEND key-{n} !"));
                lines.push(format!("GET key-{n}"));
                lines.push(format!("ECHO {n}"));
                let value = format!("{node}-{n}!");
                expected.push(ok());
                expected.push(Value::Integer(value.len() as i64));
                expected.push(bulk(value));
                expected.push(bulk(n.to_string()));
            }
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            wire.write(&pipeline(&lines)).await.expect("it is sent");
            (replies(&mut wire, expected.len()).await, expected)
        });
        assert_eq!(answers.0, answers.1, "node {node} shard {shard}");
    }
    let groups = (1..=GROUPS).map(GroupId);
    let leaders: BTreeSet<_> = groups.filter_map(|group| s.status(ONE, group)?.leader).collect();
    assert!(leaders.len() > 1, "one node leads all groups: {leaders:?}");
    assert_sound(&s);
}

/// The server takes requests in as far as its ring has room, and reads on when replies are out.
#[test]
fn a_pipeline_longer_than_the_ring_needs_no_reader_meanwhile() {
    const REQUESTS: usize = 3_000;
    let s = serving(11, served(0));
    let lines: Vec<String> = (0..REQUESTS).map(|n| format!("INCRBY key-{} 1", n % 7)).collect();
    let bytes = pipeline(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let runtime = s.world.outside();
    let answers = talk(&s, THREE, ShardId(0), seconds(60), async move |mut wire| {
        wire.write(&bytes).await.expect("it is sent");
        runtime.sleep(seconds(5)).await;
        replies(&mut wire, REQUESTS).await
    });
    let expected: Vec<_> = (0..REQUESTS).map(|n| Value::Integer(1 + n as i64 / 7)).collect();
    assert_eq!(answers, expected);
    assert_sound(&s);
}

// ---- Truth

/// Clients of all nodes, while nodes die and links break: no order of what they were told and no log may
/// disagree, and the log has the bytes that were foretold.
#[test]
fn no_client_is_told_what_is_not_so_while_nodes_die() {
    let mut told = (0, 0, 0);
    for seed in 0..4 {
        let s = serving(seed, served(4));
        turmoil(&s, seconds(15));
        let counts = judge(&s);
        told = (told.0 + counts.0, told.1 + counts.1, told.2 + counts.2);
    }
    // Whether a command is refused before it is proposed is a matter of chance; `told` itself has tests.
    assert!(told.0 > 1_000 && told.2 > 100, "{told:?} shows little");
}

/// What the checkers expect in the log is what the front end makes of a client's words.
#[test]
fn every_write_brings_the_foretold_bytes_into_the_log() {
    let s = serving(13, served(0));
    let value = |text: &'static str| Bytes::from_static(text.as_bytes());
    let operations = [
        (Op::Set(value("one")), Reply::Done),
        (Op::SetIfAbsent(value("two")), Reply::Refused),
        (Op::SetIfPresent(value("three")), Reply::Done),
        (Op::SetIfEqual { expected: value("three"), value: value("5") }, Reply::Done),
        (Op::Swap(value("\r\n")), Reply::Value(Some(value("5")))),
        (Op::Append(value("x")), Reply::Number(3)),
        (Op::Increment(7), Reply::NotANumber),
        (Op::Delete, Reply::Number(1)),
        (Op::Increment(i64::MIN), Reply::Number(i64::MIN)),
        (Op::Increment(-1), Reply::OutOfRange),
        (Op::Exists, Reply::Number(1)),
        (Op::Length, Reply::Number(20)),
        (Op::Delete, Reply::Number(1)),
        (Op::Get, Reply::Value(None)),
    ];
    let key = value("value-1");
    let group = resp::group_of(&key, GROUPS);
    for (number, (op, reply)) in operations.into_iter().enumerate() {
        let bytes = request_bytes(&resp::words(&key, &op, number));
        let command = resp::expected_command(&key, &op, number);
        assert_eq!(command.is_none(), op.is_read());
        assert!(
            command.as_ref().is_none_or(|it| !s.has_applied(group, it)),
            "{op:?} is not unique"
        );
        let answer = talk(&s, TWO, ShardId(1), seconds(10), async move |mut wire| {
            wire.write(&bytes).await.expect("it is sent");
            wire.reply().await.expect("a reply")
        });
        assert_eq!(resp::told(&op, answer), Ok(Told::Done(reply)));
        assert!(command.is_none_or(|it| s.has_applied(group, &it)), "{op:?} is not in the log");
    }
    assert_sound(&s);
}

/// Only a node with a majority may say OK. A node without one says so in time, and that is true.
#[test]
fn a_node_without_a_majority_promises_nothing() {
    let s = serving(7, served(0));
    [TWO, THREE].into_iter().for_each(|node| s.crash(node, Crash::PowerCut));
    // At first it leads, or forwards to leaders that are gone; later it knows of none.
    let mut answers = set_lone_keys(&s, 0..12);
    answers.extend(set_lone_keys(&s, 12..24));
    [TWO, THREE].into_iter().for_each(|node| s.world.restart(node));
    s.nodes().for_each(|node| must_serve(&s, node));
    let mut not_applied = 0;
    for (n, answer) in answers.into_iter().enumerate() {
        let Value::Error(text) = answer else { panic!("lone-{n} was answered {answer:?}") };
        if !text.starts_with("UNKNOWN ") {
            assert!(text.starts_with("CLUSTERDOWN ") || text.starts_with("TRYAGAIN "), "{text}");
            assert_eq!(read(&s, TWO, &format!("GET lone-{n}")), Value::Nil, "{text}");
            not_applied += 1;
        }
    }
    assert!((1..24).contains(&not_applied), "{not_applied} were promised not to be applied");
    assert_sound(&s);
}

/// A client's own time-out is 1 to 5 s: it would ask again while its first request still waits.
#[test]
fn a_command_that_finds_no_leader_is_told_so_within_two_seconds() {
    let s = serving(14, served(0));
    [TWO, THREE].into_iter().for_each(|node| s.crash(node, Crash::PowerCut));
    s.run_for(seconds(3));
    let bytes = pipeline(&["INCR n"]);
    let answer = talk(&s, ONE, ShardId(0), Duration::from_millis(2_500), async move |mut wire| {
        wire.write(&bytes).await.expect("it is sent");
        wire.reply().await.expect("a reply")
    });
    let Value::Error(text) = answer else { panic!("nobody leads: {answer:?}") };
    assert!(text.starts_with("CLUSTERDOWN "), "{text}");
    assert_sound(&s);
}

#[test]
fn a_command_that_waits_for_a_leader_ends_with_its_connection() {
    let s = serving(15, served(0));
    [TWO, THREE].into_iter().for_each(|node| s.crash(node, Crash::PowerCut));
    s.run_for(seconds(3));
    [TWO, THREE].into_iter().for_each(|node| s.world.restart(node));
    let (bytes, runtime) = (pipeline(&["INCR n"]), s.world.outside());
    talk(&s, ONE, ShardId(0), seconds(1), async move |mut wire| {
        wire.write(&bytes).await.expect("it is sent");
        runtime.sleep(Duration::from_millis(20)).await;
    });
    // There is a leader before the deadline of the command.
    must_serve(&s, ONE);
    s.run_for(seconds(3));
    assert_eq!(read(&s, ONE, "GET n"), Value::Nil);
    assert_sound(&s);
}

/// Sets keys at the first node, and waits for what it says, which is at most as long as it may take.
fn set_lone_keys(s: &Scenario, numbers: Range<usize>) -> Vec<Value> {
    let lines: Vec<String> = numbers.map(|n| format!("SET lone-{n} {n}")).collect();
    let bytes = pipeline(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    talk(s, ONE, ShardId(0), seconds(12), async move |mut wire| {
        wire.write(&bytes).await.expect("it is sent");
        replies(&mut wire, lines.len()).await
    })
}

/// Keys that share a tag are set all at once, for a reader at any node.
#[test]
fn many_keys_of_one_tag_are_set_all_at_once_while_nodes_die() {
    let s = serving(8, served(0));
    let (pairs, torn) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
    for (node, shard) in s.shards() {
        let (runtime, pairs, torn) = (s.world.outside(), pairs.clone(), torn.clone());
        s.world.outside().spawn(async move {
            for n in 0.. {
                let set = format!("MSET {{t}}a {node}-{shard}-{n} {{t}}b {node}-{shard}-{n}");
                let bytes = pipeline(&[&set, "MGET {t}a {t}b"]);
                let talk = async {
                    let mut wire = Wire::connect(&runtime, &resp::address(node, shard)).await?;
                    wire.write(&bytes).await?;
                    wire.reply().await?;
                    wire.reply().await
                };
                let given_up = async {
                    runtime.sleep(seconds(12)).await;
                    Err(ErrorKind::TimedOut.into())
                };
                match futures_lite::future::or(talk, given_up).await {
                    Ok(Value::Array(values)) if values[0] == values[1] => {
                        pairs.set(pairs.get() + 1)
                    }
                    Ok(Value::Array(values)) => torn.borrow_mut().push(values),
                    Ok(_) | Err(_) => {}
                }
                runtime.sleep(Duration::from_millis(50)).await;
            }
        });
    }
    turmoil(&s, seconds(10));
    assert_eq!(*torn.borrow(), Vec::<Vec<Value>>::new());
    assert!(pairs.get() > 100, "{} pairs were read", pairs.get());
    let refusal = read(&s, ONE, "MSET x 1 y 2 z 3 key-1 4 key-2 5");
    let Value::Error(text) = refusal else { panic!("it spans groups: {refusal:?}") };
    assert!(text.starts_with("CROSSSLOT "), "{text}");
    assert_eq!(read(&s, TWO, "EXISTS x y z"), Value::Integer(0));
    assert_sound(&s);
}

#[test]
fn commands_that_are_not_offered_change_nothing() {
    let s = serving(10, served(0));
    let lines = ["HELLO 3", "MULTI", "SET k v EX 1", "EXEC", "GET k", "QUIT"];
    let bytes = pipeline(&lines);
    let (answers, end) = talk(&s, TWO, ShardId(1), seconds(10), async move |mut wire| {
        wire.write(&bytes).await.expect("it is sent");
        (replies(&mut wire, lines.len()).await, wire.reply().await)
    });
    assert!(matches!(answers[0], Value::Map(_)), "{answers:?}");
    for (refusal, kind) in answers[1..4].iter().zip(["ERR ", "ERR ", "EXECABORT "]) {
        assert!(matches!(refusal, Value::Error(text) if text.starts_with(kind)), "{answers:?}");
    }
    assert_eq!(answers[4..], [Value::Nil, ok()]);
    assert_eq!(end.expect_err("it is closed").kind(), ErrorKind::UnexpectedEof);
    assert_sound(&s);
}

#[test]
fn a_seed_has_one_history() {
    let run = || {
        let s = serving(9, served(3));
        s.run_for(seconds(1));
        s.crash(TWO, Crash::Kill);
        talk(&s, ONE, ShardId(0), seconds(10), async move |mut wire| {
            wire.write(&pipeline(&["INFO", "CLIENT LIST"])).await.expect("it is sent");
            replies(&mut wire, 2).await
        });
        s.world.restart(TWO);
        judge(&s);
        (s.world.hash(), s.world.events())
    };
    assert_eq!(run(), run());
}

// ---- Bytes

#[test]
fn requests_may_be_cut_at_any_byte() {
    let s = serving(2, served(0));
    let bytes = pipeline(&["SET k 12345", "GET k", "MGET k absent"]);
    let bytes = [bytes, b"ECHO \"a \\x41\"\r\n".to_vec()].concat();
    let values = Value::Array(vec![bulk("12345"), Value::Nil]);
    let expected = vec![ok(), bulk("12345"), values, bulk("a A")];
    let count = expected.len();
    for cut in 1..bytes.len() {
        let (bytes, runtime) = (bytes.clone(), s.world.outside());
        let answers = talk(&s, TWO, ShardId(0), seconds(10), async move |mut wire| {
            wire.write(&bytes[..cut]).await.expect("it is sent");
            runtime.sleep(Duration::from_millis(5)).await;
            wire.write(&bytes[cut..]).await.expect("it is sent");
            replies(&mut wire, count).await
        });
        assert_eq!(answers, expected, "cut at {cut}");
    }
    assert_sound(&s);
}

#[test]
fn garbage_is_told_so_and_ends_its_connection_alone() {
    let s = serving(3, served(0));
    let garbage: [&[u8]; 6] = [
        b"*1\r\n:1\r\n",
        b"*2\r\n$3\r\nGET\r\n$-1\r\n",
        b"*99999999999999999999\r\n",
        b"\x16\x03\x01",
        b"GET \"unbalanced\r\n",
        b"*1\r\n$4\r\nPINGxx",
    ];
    for bytes in garbage {
        let (reply, error, end) = talk(&s, ONE, ShardId(0), seconds(10), async move |mut wire| {
            wire.write(&pipeline(&["SET k v"])).await.expect("it is sent");
            wire.write(bytes).await.expect("it is sent");
            (wire.reply().await, wire.reply().await, wire.reply().await)
        });
        assert_eq!(reply.expect("what was due comes first"), ok());
        let Ok(Value::Error(text)) = error else { panic!("{bytes:?} is no request: {error:?}") };
        assert!(text.starts_with("ERR Protocol error: "), "{text}");
        assert_eq!(end.expect_err("it is closed").kind(), ErrorKind::UnexpectedEof);
    }
    let random = s.world.workload();
    for _ in 0..100 {
        let len = 1 + random.below(200);
        let bytes: Vec<u8> = (0..len).map(|_| random.bits() as u8).collect();
        talk(&s, ONE, ShardId(0), seconds(10), async move |mut wire| {
            // The server may have closed it before the last byte.
            let _ = wire.write(&bytes).await;
            wire.finish();
            while wire.reply().await.is_ok() {}
        });
    }
    must_serve(&s, ONE);
    assert_sound(&s);
}

#[test]
fn replies_that_are_due_come_after_the_client_has_said_its_last_word() {
    let s = serving(4, served(0));
    let lines: Vec<String> = (0..50).map(|n| format!("SET key-{n} {n}")).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    // The last request is not whole: nobody answers it.
    let bytes = [pipeline(&lines), b"*1\r\n$4\r\nPI".to_vec()].concat();
    let (answers, end) = talk(&s, THREE, ShardId(0), seconds(10), async move |mut wire| {
        wire.write(&bytes).await.expect("it is sent");
        wire.finish();
        (replies(&mut wire, 50).await, wire.reply().await)
    });
    assert!(answers.iter().all(|answer| *answer == ok()), "{answers:?}");
    assert_eq!(end.expect_err("it is closed").kind(), ErrorKind::UnexpectedEof);
    assert_sound(&s);
}

// ---- Readers

/// It is not read from while its replies wait, and it does not hold up others.
#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let s = serving(5, small_pipes());
    let set = pipeline(&[&format!("SET k {}", "v".repeat(8 << 10))]);
    talk(&s, ONE, ShardId(0), seconds(10), async move |mut wire| {
        wire.write(&set).await.expect("it is sent");
        replies(&mut wire, 1).await
    });
    let runtime = s.world.outside();
    let sleeper = runtime.clone();
    runtime.spawn(async move {
        let address = resp::address(ONE, ShardId(0));
        let mut wire = Wire::connect(&sleeper, &address).await.expect("it is taken in");
        loop {
            // It asks for ever and never reads, until the server has had enough.
            if wire.write(&pipeline(&["GET k", "APPEND k x"])).await.is_err() {
                return;
            }
        }
    });
    s.run_for(seconds(5));
    let started = s.world.now();
    for _ in 0..20 {
        must_serve(&s, ONE);
    }
    let took = s.world.now() - started;
    assert!(took < seconds(5), "others were held up: {took:?}");
    assert_eq!(clients(&s, ONE), 1, "the sleeper is still there");
    s.run_for(seconds(70));
    assert_eq!(clients(&s, ONE), 0, "the sleeper was dropped after the deadline");
    assert_sound(&s);
}

/// The answers of groups are made when there is room for the replies, wherever the groups are led.
#[test]
fn a_client_that_does_not_read_has_a_bound_on_its_memory() {
    [ONE, TWO].into_iter().for_each(a_client_that_does_not_read);
}

fn leader_of(s: &Scenario, group: GroupId) -> Option<NodeId> {
    s.status(ONE, group)?.leader
}

/// A client of node 1, which asks for long values of a group that `leader` leads.
fn a_client_that_does_not_read(leader: NodeId) {
    const SHORT: usize = 1_000;
    const LONG: usize = 1_000;
    const OUTPUT: usize = 1 << 20;
    // Answers that are under way when the last one has room: of this shard, and of another node's.
    const UNDER_WAY: usize = 7 << 20;
    let load = KeyValue::new(Random::new(16, "workload"), WorkloadOptions::default());
    let small = load.with_front_end(|options| options.output_bytes_max = OUTPUT);
    let s = Scenario::with_subject(16, small_pipes(), small).started();
    s.nodes().for_each(|node| must_serve(&s, node));
    let value = "v".repeat(60 << 10);
    let leads = |node| (1..=GROUPS).map(GroupId).find(|group| leader_of(&s, *group) == Some(node));
    let group = leads(leader).expect("each node leads one of them");
    let mut names = (0..).map(|n| format!("key-{n}"));
    let key = names.find(|key| resp::group_of(key.as_bytes(), GROUPS) == group).expect("a key");
    // Short answers come first: so nothing is known of the long ones when many are asked for.
    let set = pipeline(&[&format!("SET {key} {value}")]);
    let short = pipeline(&[&format!("GET {{{key}}}none")]).repeat(SHORT);
    let long = pipeline(&[&format!("GET {key}")]).repeat(LONG);
    talk(&s, ONE, ShardId(0), seconds(30), async move |mut wire| {
        wire.write(&set).await.expect("it is sent");
        assert_eq!(wire.reply().await.expect("a reply"), ok());
    });
    let (runtime, told) = (s.world.outside(), Rc::new(RefCell::new(Vec::new())));
    let (sleeper, answers) = (runtime.clone(), Rc::clone(&told));
    runtime.spawn(async move {
        let address = resp::address(ONE, ShardId(0));
        let mut wire = Wire::connect(&sleeper, &address).await.expect("it is taken in");
        wire.write(&short).await.expect("it is sent");
        replies(&mut wire, SHORT).await;
        wire.write(&long).await.expect("it is sent");
        sleeper.sleep(seconds(15)).await;
        for _ in 0..LONG {
            let answer = wire.reply().await.expect("a reply");
            answers.borrow_mut().push(answer);
        }
    });
    let mut most = 0;
    for _ in 0..60 {
        s.run_for(Duration::from_millis(200));
        most = most.max(memory_of_clients(&s, ONE));
    }
    // It reads now. What waited for room had all the time that it needed.
    while told.borrow().len() < LONG {
        s.run_for(Duration::from_millis(50));
        most = most.max(memory_of_clients(&s, ONE));
        assert!(s.world.now() < seconds(300), "{} replies", told.borrow().len());
    }
    assert!(most > OUTPUT && most < OUTPUT + UNDER_WAY, "it held {most} bytes");
    let told = told.borrow();
    let wrong = told.iter().find(|answer| **answer != bulk(&value));
    assert!(wrong.is_none(), "{wrong:?}");
    s.run_for(seconds(1));
    assert!(memory_of_clients(&s, ONE) < 64 << 10, "it has given its memory back");
    assert_sound(&s);
}

/// What all clients of a node's first shard hold.
fn memory_of_clients(s: &Scenario, node: NodeId) -> usize {
    let Value::Bulk(text) = read(s, node, "CLIENT LIST") else { panic!("it is text") };
    let text = String::from_utf8_lossy(&text).into_owned();
    let held = text.split(' ').filter_map(|word| word.strip_prefix("tot-mem="));
    held.map(|bytes| bytes.parse::<usize>().expect("a number")).sum()
}

/// A client may be slower than the deadline for the whole of its replies, as long as it takes some.
#[test]
fn a_client_that_reads_slowly_is_not_dropped() {
    let s = serving(6, small_pipes());
    let value = "v".repeat(32 << 10);
    let (runtime, lines) = (s.world.outside(), ["GET k"; 40]);
    let set = pipeline(&[&format!("SET k {value}")]);
    let answers = talk(&s, ONE, ShardId(0), seconds(400), async move |mut wire| {
        wire.write(&set).await.expect("it is sent");
        assert_eq!(wire.reply().await.expect("a reply"), ok());
        wire.write(&pipeline(&lines)).await.expect("it is sent");
        let mut answers = Vec::new();
        for _ in lines {
            runtime.sleep(seconds(5)).await;
            answers.push(wire.reply().await);
        }
        answers
    });
    for (place, answer) in answers.into_iter().enumerate() {
        let answer = answer.unwrap_or_else(|error| panic!("reply {place}: {error}"));
        assert_eq!(answer, bulk(&value), "reply {place}");
    }
    assert_sound(&s);
}

#[test]
fn one_client_too_many_is_told_so_and_a_lost_one_makes_room() {
    let load = KeyValue::new(Random::new(12, "workload"), WorkloadOptions::default());
    let few_clients = load.with_front_end(|options| options.clients_max = 2);
    let s = Scenario::with_subject(12, served(0), few_clients).started();
    s.nodes().for_each(|node| must_serve(&s, node));
    let runtime = s.world.outside();
    for node in [ONE, TWO] {
        let runtime = runtime.clone();
        let (pong, refusal) = talk(&s, node, ShardId(0), seconds(10), async move |mut first| {
            let address = resp::address(node, ShardId(0));
            let mut second = Wire::connect(&runtime, &address).await.expect("it is taken in");
            for wire in [&mut first, &mut second] {
                wire.write(&pipeline(&["PING"])).await.expect("it is sent");
                assert_eq!(wire.reply().await.expect("a reply"), Value::Simple("PONG".into()));
            }
            let mut third = Wire::connect(&runtime, &address).await.expect("it is taken in");
            let refusal = third.reply().await.expect("a reply");
            drop(second);
            let again = async {
                loop {
                    let mut wire = Wire::connect(&runtime, &address).await.expect("it is taken in");
                    // It may be refused, and closed, before it has said anything.
                    let _ = wire.write(&pipeline(&["PING"])).await;
                    match wire.reply().await {
                        Ok(Value::Simple(pong)) => return pong,
                        _ => runtime.sleep(Duration::from_millis(10)).await,
                    }
                }
            };
            (again.await, refusal)
        });
        assert_eq!(pong, "PONG");
        assert_eq!(refusal, Value::Error("ERR max number of clients reached".into()));
    }
    assert_sound(&s);
}

#[test]
fn a_client_is_refused_while_descriptors_are_left_for_the_log_and_other_nodes_alone() {
    let load = KeyValue::new(Random::new(13, "workload"), WorkloadOptions::default());
    let s = Scenario::with_subject(13, served(0), load.with_front_end(|_| ())).started();
    must_serve(&s, ONE);
    let said = |left| {
        s.world.node(ONE).set_descriptors(left);
        talk(&s, ONE, ShardId(0), seconds(10), async |mut wire| {
            // It may be refused, and closed, before it has said anything.
            let _ = wire.write(&pipeline(&["PING"])).await;
            wire.reply().await.expect("a reply")
        })
    };
    let refusal = Value::Error("ERR max number of clients reached".into());
    assert_eq!(said(Descriptors::Kept), refusal);
    assert_eq!(said(Descriptors::Enough), Value::Simple("PONG".into()));
    assert_sound(&s);
}

fn small_pipes() -> ClusterOptions {
    let net = NetOptions { pipe_bytes: 32 << 10, ..NetOptions::default() };
    ClusterOptions { world: WorldOptions { net, ..WorldOptions::default() }, ..served(0) }
}
