//! SIGTERM and SIGINT: a node answers what is under way, hands its groups over and ends without an error; a second
//! signal ends it at once.

use super::support::{Cluster, History, Load, SOON, Shape, is_not_applied, number, until};
use purlin_server::resp::{RespClient, Value};
use rustix::process::Signal;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

const SHAPE: Shape = Shape { shards: 2, groups: 12 };

/// Requests of one client that are under way together.
const PIPELINE: usize = 16;

/// What one client has counted up, as it was told.
struct Counted {
    key: String,
    done: usize,
}

/// Counts a key up in pipelines until the connection ends, which is no reset: what was done is answered, also to a client
/// that goes on sending. Each pipeline that is answered is told.
fn count(gateway: SocketAddr, key: String, rounds: &AtomicUsize) -> Counted {
    let mut client = RespClient::connect(gateway, SOON).expect("it serves");
    let mut counted = Counted { key, done: 0 };
    loop {
        (0..PIPELINE).for_each(|_| client.queue(&["INCR", &counted.key]));
        client.send().expect("the node reads what comes");
        for _ in 0..PIPELINE {
            match client.read_reply() {
                Ok(Value::Integer(reply)) => {
                    counted.done += 1;
                    assert_eq!(reply, counted.done as i64, "{}", counted.key);
                }
                // The node had begun to stop, or its group was on its way to another leader.
                Ok(Value::Error(text)) if is_not_applied(&text) => {}
                Ok(other) => panic!("{}: {other}", counted.key),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{}: {error}", counted.key);
                    return counted;
                }
            }
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn clients_of_a_node_that_is_asked_to_stop_lose_nothing_and_its_end_is_no_error() {
    let mut cluster = Cluster::start("stops", SHAPE);
    let mut history = History::default();
    for place in 0..cluster.nodes.len() {
        let load = Load::start(&cluster, &format!("load-{place}"), 3);
        let (gateway, rounds) =
            (cluster.nodes[place].config.listen.gateway, Arc::new(AtomicUsize::new(0)));
        let clients: Vec<_> = (0..6)
            .map(|client| {
                let (key, rounds) = (format!("{place}:{client}"), Arc::clone(&rounds));
                thread::spawn(move || count(gateway, key, &rounds))
            })
            .collect();
        load.wait_for(30);
        until("the clients count", || (rounds.load(Ordering::Relaxed) > 60).then_some(()));
        let end = cluster.nodes[place].stop();
        assert_eq!((end.code, end.signal), (Some(0), None), "{}", end.err);
        assert!(!end.err.contains("panicked") && !end.err.contains("ERROR"), "{}", end.err);
        history.add(load.stop());
        println!("{}", history.summary());
        let mut other = cluster.nodes[(place + 1) % 3].client();
        for client in clients {
            let Counted { key, done } = client.join().expect("it saw what may not be");
            let found = number(&other.command(&["GET", &key]).expect("it serves")) as usize;
            assert_eq!(found, done, "{key}: what was not answered was not done");
        }
        cluster.nodes[place].start();
        cluster.wait_until_ready();
        history.check(&cluster);
    }
    cluster.wait_until_equal();
    cluster.assert_no_panic();
}

/// Its replies lie in the node's socket when the node stops, since it has read nothing, and it sends on and on. The end of
/// a connection with unread input would be a reset, and the kernel would drop those replies.
#[test]
fn a_client_that_goes_on_sending_can_read_its_replies_after_the_node_was_asked_to_stop() {
    const BYTES: usize = 64 << 10;
    const TIMES: usize = 16;
    let mut cluster = Cluster::start("stops-while-sent-to", SHAPE);
    let mut other = cluster.nodes[0].client();
    other.command(&["SET", "large", &"v".repeat(BYTES)]).expect("it serves");
    let gateway = cluster.nodes[0].config.listen.gateway;
    let mut stream = TcpStream::connect(gateway).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a time");
    let get = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(TIMES);
    stream.write_all(&get).expect("it reads");
    stream.write_all(b"*2\r\n$4\r\nINCR\r\n$4\r\nseen\r\n").expect("it reads");
    let seen = |other: &mut RespClient| other.command(&["GET", "seen"]).expect("it serves");
    until("both are run", || (seen(&mut other) == Value::Bulk(b"1".to_vec())).then_some(()));
    let (is_over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut sends = stream.try_clone().expect("a second handle");
    let noise = thread::spawn({
        let (is_over, sent) = (Arc::clone(&is_over), Arc::clone(&sent));
        move || {
            // An empty array asks for nothing.
            while !is_over.load(Ordering::Relaxed) && sends.write_all(b"*0\r\n").is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
            }
        }
    });
    cluster.nodes[0].process().signal(Signal::TERM);
    until("it takes no client", || TcpStream::connect(gateway).is_err().then_some(()));
    // The node has time to close the connection, and the client sends to it then.
    let before = sent.load(Ordering::Relaxed);
    let has_sent = || sent.load(Ordering::Relaxed) > before + 3000 || noise.is_finished();
    until("it sends on", || has_sent().then_some(()));
    let expected = format!("${BYTES}\r\n{}\r\n", "v".repeat(BYTES)).repeat(TIMES) + ":1\r\n";
    let mut replies = vec![0; expected.len()];
    stream.read_exact(&mut replies).expect("all replies");
    assert!(replies == expected.as_bytes());
    assert_eq!(stream.read(&mut [0]).expect("no reset"), 0, "nothing follows");
    is_over.store(true, Ordering::Relaxed);
    noise.join().expect("it only writes");
    drop(stream);
    let end = cluster.nodes[0].end();
    assert_eq!((end.code, end.signal), (Some(0), None), "{}", end.err);
}

/// What is under way cannot end, since no other node runs: the node would wait for it.
#[test]
fn a_second_signal_ends_a_node_at_once() {
    let mut cluster = Cluster::start("stops-at-once", SHAPE);
    let mut client = cluster.nodes[0].client();
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    (0..12).for_each(|key| client.queue(&["SET".to_owned(), format!("key-{key}"), "v".to_owned()]));
    client.send().expect("it serves");
    // Two kinds, since the kernel keeps one of each.
    cluster.nodes[0].process().signal(Signal::TERM);
    cluster.nodes[0].process().signal(Signal::INT);
    let end = cluster.nodes[0].end();
    assert_eq!(end.code, None, "{}", end.err);
    assert!([2, 15].map(Some).contains(&end.signal), "{:?}: {}", end.signal, end.err);
}
