//! SIGTERM and SIGINT: a node answers what is under way, hands its groups over and ends without an error; a second
//! signal ends it at once.

use super::support::{Cluster, History, Load, SOON, Shape, is_not_applied, number, until};
use purlin_server::resp::{RespClient, Value};
use rustix::process::Signal;
use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
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
