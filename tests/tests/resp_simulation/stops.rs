//! What clients are told by a node that stops.

use super::{ONE, TWO, pipeline, read};
use crate::support::{assert_sound, served, serving};
use purlin::{Runtime, ShardId};
use purlin_tests::{
    cluster::ClusterOptions,
    resp::{self, Value, Wire},
    sim::Latency,
};
use std::{cell::RefCell, io::ErrorKind, rc::Rc, time::Duration};

/// How often a client counts up.
const COUNTED: i64 = 400;

/// What a client was told: its replies, and how its connection has ended.
type Told = Rc<RefCell<(Vec<Value>, Option<ErrorKind>)>>;

/// Each request that was taken in is answered, and the replies leave before the connection closes. One that nobody has
/// asked anything closes at once.
#[test]
fn clients_of_a_node_that_stops_are_answered_before_their_connections_close() {
    let mut options = ClusterOptions { shards: vec![2; 3], ..served(0) };
    options.world.disk.write = Latency::steady(Duration::from_millis(5), Duration::from_millis(1));
    let s = serving(41, options);
    let clients: Vec<Told> = (0..4).map(|_| Told::default()).collect();
    for (number, told) in clients.iter().cloned().enumerate() {
        let runtime = s.world.outside();
        let shard = ShardId(number as u16 % 2);
        s.world.outside().spawn(async move {
            let mut wire =
                Wire::connect(&runtime, &resp::address(ONE, shard)).await.expect("it is taken in");
            let mut lines = vec![String::from("PING")];
            if number < 2 {
                lines.extend((0..COUNTED).map(|_| format!("INCR counter-{number}")));
            }
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            wire.write(&pipeline(&lines)).await.expect("it is sent");
            let end = loop {
                match wire.reply().await {
                    Ok(reply) => told.borrow_mut().0.push(reply),
                    Err(error) => break error.kind(),
                }
            };
            told.borrow_mut().1 = Some(end);
        });
    }
    let counts = |number: usize| clients[number].borrow().0.len() as i64 - 1;
    s.must_reach("some are answered", Duration::from_secs(5), || (0..2).all(|it| counts(it) > 0));
    assert!((0..2).all(|it| counts(it) < COUNTED), "some are under way");
    s.ask_to_stop(ONE);
    s.run_for(Duration::from_millis(5));
    assert!(s.world.is_running(ONE), "it answers what is under way");
    let taken_in = Rc::new(RefCell::new(Vec::new()));
    for address in [resp::address(ONE, ShardId(0)), resp::shard_address(ONE, ShardId(0))] {
        let (runtime, taken_in) = (s.world.outside(), taken_in.clone());
        s.world.outside().spawn(async move {
            if Wire::connect(&runtime, &address).await.is_ok() {
                taken_in.borrow_mut().push(address);
            }
        });
    }
    s.must_reach("it ends", Duration::from_millis(1600), || !s.world.is_running(ONE));
    s.run_for(Duration::from_secs(1));
    assert_eq!(*taken_in.borrow(), Vec::<String>::new(), "no port takes a client any more");
    for (number, told) in clients.iter().enumerate() {
        let (replies, end) = &*told.borrow();
        assert_eq!(*end, Some(ErrorKind::UnexpectedEof), "client {number}");
        let counted: Vec<_> = replies.iter().skip(1).cloned().collect();
        let done = (1..=counted.len() as i64).map(Value::Integer).collect::<Vec<_>>();
        assert_eq!(counted, done, "client {number}");
        let stands = read(&s, TWO, &format!("GET counter-{number}"));
        let expected = if number < 2 { resp_bulk(done.len()) } else { Value::Nil };
        assert_eq!(stands, expected, "what was not answered was not done");
    }
    assert_sound(&s);
}

fn resp_bulk(number: usize) -> Value {
    Value::Bulk(number.to_string().into_bytes())
}
