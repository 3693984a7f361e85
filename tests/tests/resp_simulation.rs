//! The server's real front end in the simulated world: what clients of Redis' protocol are told while
//! nodes die, links break, readers sleep, and bytes come in pieces.

#[path = "resp_simulation/site.rs"]
mod site;

use purlin::{NodeId, Runtime, ShardId};
use purlin_tests::{
    resp::{self, Value, Wire, request_bytes},
    sim::{Crash, NetOptions, WorldOptions},
};
use site::{Site, SiteOptions};
use std::{io::ErrorKind, time::Duration};

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

// ---- Order

/// Keys of all groups, which different nodes lead, through one node.
#[test]
fn a_pipeline_is_answered_in_its_order_at_every_node_and_shard() {
    let site = Site::running(1, SiteOptions { shards: vec![2, 1, 3], ..SiteOptions::default() });
    for (node, shard) in site.shards() {
        let answers = site.ask(node, shard, seconds(10), async move |mut wire| {
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
    assert!(site.leaders().len() > 1, "one node leads all groups: {:?}", site.leaders());
    site.assert_sound();
}

// ---- Truth

/// Clients of all nodes, while nodes die and links break: no order of what they were told and no log may
/// disagree, and the log has the bytes that were foretold.
#[test]
fn no_client_is_told_what_is_not_so_while_nodes_die() {
    let mut told = (0, 0, 0);
    for seed in 0..6 {
        let site = Site::running(seed, SiteOptions::default());
        (0..6).for_each(|_| site.spawn_client());
        for round in 0..4 {
            site.run_for(Duration::from_millis(700 + 130 * round));
            let node = NodeId(1 + (seed as u32 + round as u32) % 3);
            match round % 3 {
                0 => site.world.crash(node, Crash::Kill),
                1 => site.world.crash(node, Crash::PowerCut),
                _ => site.nodes().for_each(|other| site.world.reset_connections(NodeId(0), other)),
            }
            site.run_for(Duration::from_millis(900));
            if !site.world.is_running(node) {
                site.world.restart(node);
            }
        }
        let counts = site.judge(seconds(60));
        told = (told.0 + counts.0, told.1 + counts.1, told.2 + counts.2);
    }
    let (done, _, unknown) = told;
    assert!(done > 1_000 && unknown > 10, "{told:?} shows little");
}

#[test]
fn a_seed_has_one_history() {
    let run = || {
        let site = Site::running(9, SiteOptions::default());
        (0..3).for_each(|_| site.spawn_client());
        site.run_for(seconds(1));
        site.world.crash(TWO, Crash::Kill);
        site.ask(ONE, ShardId(0), seconds(10), async move |mut wire| {
            wire.write(&pipeline(&["INFO", "CLIENT LIST"])).await.expect("it is sent");
            replies(&mut wire, 2).await
        });
        site.world.restart(TWO);
        site.judge(seconds(60));
        (site.world.hash(), site.world.events())
    };
    assert_eq!(run(), run());
}

// ---- Bytes

#[test]
fn requests_may_be_cut_at_any_byte() {
    let site = Site::running(2, SiteOptions::default());
    let bytes = pipeline(&["SET k 12345", "GET k", "MGET k absent"]);
    let bytes = [bytes, b"ECHO \"a \\x41\"\r\n".to_vec()].concat();
    let values = Value::Array(vec![bulk("12345"), Value::Nil]);
    let expected = vec![ok(), bulk("12345"), values, bulk("a A")];
    let count = expected.len();
    for cut in 1..bytes.len() {
        let (bytes, runtime) = (bytes.clone(), site.world.outside());
        let answers = site.ask(TWO, ShardId(0), seconds(10), async move |mut wire| {
            wire.write(&bytes[..cut]).await.expect("it is sent");
            runtime.sleep(Duration::from_millis(5)).await;
            wire.write(&bytes[cut..]).await.expect("it is sent");
            replies(&mut wire, count).await
        });
        assert_eq!(answers, expected, "cut at {cut}");
    }
    site.assert_sound();
}

#[test]
fn garbage_is_told_so_and_ends_its_connection_alone() {
    let site = Site::running(3, SiteOptions::default());
    let garbage: [&[u8]; 6] = [
        b"*1\r\n:1\r\n",
        b"*2\r\n$3\r\nGET\r\n$-1\r\n",
        b"*99999999999999999999\r\n",
        b"\x16\x03\x01",
        b"GET \"unbalanced\r\n",
        b"*1\r\n$4\r\nPINGxx",
    ];
    for bytes in garbage {
        let (reply, error, end) = site.ask(ONE, ShardId(0), seconds(10), async move |mut wire| {
            wire.write(&pipeline(&["SET k v"])).await.expect("it is sent");
            wire.write(bytes).await.expect("it is sent");
            (wire.reply().await, wire.reply().await, wire.reply().await)
        });
        assert_eq!(reply.expect("what was due comes first"), ok());
        let Ok(Value::Error(text)) = error else { panic!("{bytes:?} is no request: {error:?}") };
        assert!(text.starts_with("ERR Protocol error: "), "{text}");
        assert_eq!(end.expect_err("it is closed").kind(), ErrorKind::UnexpectedEof);
    }
    let random = site.world.workload();
    for _ in 0..100 {
        let len = 1 + random.below(200);
        let bytes: Vec<u8> = (0..len).map(|_| random.bits() as u8).collect();
        site.ask(ONE, ShardId(0), seconds(10), async move |mut wire| {
            // The server may have closed it before the last byte.
            let _ = wire.write(&bytes).await;
            wire.finish();
            while wire.reply().await.is_ok() {}
        });
    }
    site.must_serve(ONE);
    site.assert_sound();
}

#[test]
fn replies_that_are_due_come_after_the_client_has_said_its_last_word() {
    let site = Site::running(4, SiteOptions::default());
    let lines: Vec<String> = (0..50).map(|n| format!("SET key-{n} {n}")).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    // The last request is not whole: nobody answers it.
    let bytes = [pipeline(&lines), b"*1\r\n$4\r\nPI".to_vec()].concat();
    let (answers, end) = site.ask(THREE, ShardId(0), seconds(10), async move |mut wire| {
        wire.write(&bytes).await.expect("it is sent");
        wire.finish();
        (replies(&mut wire, 50).await, wire.reply().await)
    });
    assert!(answers.iter().all(|answer| *answer == ok()), "{answers:?}");
    assert_eq!(end.expect_err("it is closed").kind(), ErrorKind::UnexpectedEof);
    site.assert_sound();
}

// ---- Readers

/// It is not read from while its replies wait, and it does not hold up others.
#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let site = Site::running(5, small_pipes());
    let set = pipeline(&[&format!("SET k {}", "v".repeat(8 << 10))]);
    site.ask(ONE, ShardId(0), seconds(10), async move |mut wire| {
        wire.write(&set).await.expect("it is sent");
        replies(&mut wire, 1).await
    });
    let runtime = site.world.outside();
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
    site.run_for(seconds(5));
    let started = site.world.now();
    for _ in 0..20 {
        site.must_serve(ONE);
    }
    let took = site.world.now() - started;
    assert!(took < seconds(5), "others were held up: {took:?}");
    assert_eq!(site.clients(ONE), 1, "the sleeper is still there");
    site.run_for(seconds(70));
    assert_eq!(site.clients(ONE), 0, "the sleeper was dropped after the deadline");
    site.assert_sound();
}

/// A client may be slower than the deadline for the whole of its replies, as long as it takes some.
#[test]
fn a_client_that_reads_slowly_is_not_dropped() {
    let site = Site::running(6, small_pipes());
    let value = "v".repeat(32 << 10);
    let (runtime, lines) = (site.world.outside(), ["GET k"; 40]);
    let set = pipeline(&[&format!("SET k {value}")]);
    let answers = site.ask(ONE, ShardId(0), seconds(400), async move |mut wire| {
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
    site.assert_sound();
}

fn small_pipes() -> SiteOptions {
    let net = NetOptions { pipe_bytes: 32 << 10, ..NetOptions::default() };
    SiteOptions { world: WorldOptions { net, ..WorldOptions::default() }, ..SiteOptions::default() }
}
