//! Nodes that answer, that hang, and that are not there, asked over loopback.

use super::*;
use crate::{admin::schema::Groups, resp::Reply};
use bytes::BytesMut;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
};

const LONG: Duration = Duration::from_secs(20);

fn member(number: u32, admin: &str) -> Member {
    let (host, admin) = (String::from("host"), Some(admin.to_owned()));
    Member { node: number, host, peer_port: 7050, admin, admin_is_local: false }
}

/// Serves each connection in a thread of its own, and gives the address. `serve` gets the number of the
/// connection.
fn listen(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (serve, stream) = (serve.clone(), stream.expect("a connection"));
            thread::spawn(move || serve(number, stream));
        }
    });
    address
}

/// Answers as the admin port of `node` until the client goes. Pages have one group, without a leader.
fn answer(mut stream: TcpStream, node: &NodeAnswer, members: &[Member], pages: &AtomicUsize) {
    let mut bytes = [0; 1024];
    while let Ok(len @ 1..) = stream.read(&mut bytes) {
        let request = String::from_utf8_lossy(&bytes[..len]).into_owned();
        let text = if request.contains("STATUS") {
            serde_json::to_vec(node)
        } else if request.contains("MEMBERS") {
            let members = members.to_vec();
            serde_json::to_vec(&MembersAnswer { schema: SCHEMA, node: node.node, members })
        } else {
            let group = pages.fetch_add(1, Ordering::SeqCst) as u32 + 1;
            let next = (group < node.groups.all).then_some(group + 1);
            let groups = vec![GroupLine { group, term: 1, leader: None, applied: 0 }];
            serde_json::to_vec(&GroupsAnswer { schema: SCHEMA, node: node.node, next, groups })
        };
        let mut out = BytesMut::new();
        Reply::new(&mut out, Default::default()).bulk(text.expect("JSON"));
        stream.write_all(&out).expect("the client reads");
    }
}

/// Keeps a connection without a word until the client goes.
fn hang(mut stream: TcpStream) {
    while let Ok(1..) = stream.read(&mut [0; 64]) {}
}

fn answered(asked: &[Asked]) -> Vec<(Option<u32>, bool)> {
    asked.iter().map(|one| (one.node, one.answer.is_ok())).collect()
}

/// Each of these nodes answers only when all of them are asked: were they asked one after another, none would.
#[test]
fn all_nodes_are_asked_at_once() {
    const NODES: u32 = 5;
    let barrier = Arc::new(Barrier::new(NODES as usize));
    let addresses: Vec<_> = (1..=NODES)
        .map(|number| {
            let barrier = barrier.clone();
            listen(move |_, stream| {
                barrier.wait();
                answer(
                    stream,
                    &NodeAnswer::sample(number, Groups::default()),
                    &[],
                    &AtomicUsize::new(0),
                );
            })
        })
        .collect();
    let asked = ask_within(&addresses, LONG, LONG);
    assert_eq!(answered(&asked), (1..=NODES).map(|it| (Some(it), true)).collect::<Vec<_>>());
}

/// The round ends, and the members that the other nodes name are asked meanwhile.
#[test]
fn a_node_that_hangs_keeps_no_other_from_being_asked() {
    let third = listen(|_, stream| {
        answer(stream, &NodeAnswer::sample(3, Groups::default()), &[], &AtomicUsize::new(0));
    });
    let silent = listen(|_, stream| hang(stream));
    let members = [member(2, &silent), member(3, &third)];
    let first = listen(move |_, stream| {
        answer(stream, &NodeAnswer::sample(1, Groups::default()), &members, &AtomicUsize::new(0));
    });
    let asked = ask_within(&[silent.clone(), first], Duration::from_secs(2), LONG);
    assert_eq!(answered(&asked), [(Some(1), true), (Some(2), false), (Some(3), true)]);
    assert_eq!(asked[1].address, Some(silent), "it is asked once, and its number is known");
    let why = asked[1].answer.as_ref().err().expect("it hangs");
    assert!(why.starts_with("no answer within "), "{why}");
}

/// The kernel gives the second connection to another shard.
#[test]
fn while_one_shard_hangs_another_one_answers() {
    let address = listen(|number, stream| match number {
        0 => hang(stream),
        _ => answer(stream, &NodeAnswer::sample(1, Groups::default()), &[], &AtomicUsize::new(0)),
    });
    let asked = ask_within(&[address], LONG, Duration::from_millis(10));
    assert_eq!(answered(&asked), [(Some(1), true)]);
}

#[test]
fn groups_are_read_page_by_page_up_to_a_bound_and_only_if_one_has_no_leader() {
    for (all, without_leader, pages) in [(3, 0, 0), (3, 1, 3), (1_000_000, 1, PAGES_MAX)] {
        let asked_for = Arc::new(AtomicUsize::new(0));
        let counted = asked_for.clone();
        let groups = Groups { all, without_leader, ..Groups::default() };
        let address = listen(move |_, stream| {
            answer(stream, &NodeAnswer::sample(1, groups.clone()), &[], &counted)
        });
        let asked = ask_within(&[address], LONG, LONG);
        let answer = asked[0].answer.as_ref().unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(asked_for.load(Ordering::SeqCst), pages, "of {all}");
        assert_eq!((answer.groups.len(), answer.has_all_groups), (pages, pages < PAGES_MAX));
    }
}

/// No machine has so large a stack.
const NO_STACK: usize = 1 << 60;

#[test]
fn a_thread_that_is_refused_is_the_answer_and_does_not_end_an_attempt_that_goes_on() {
    let silent = listen(|_, stream| hang(stream));
    let mut round = Round::begin(LONG, LONG);
    round.ask(None, silent);
    round.stack_bytes = NO_STACK;
    round.ask_again();
    assert!(round.is_open(), "the first attempt goes on");
    round.ask(Some(2), "127.0.0.1:1".into());
    assert_eq!(round.attempts, 1);
    let asked = round.end();
    let why = asked[0].answer.as_ref().err().expect("no thread asks it");
    assert!(why.starts_with("it was not asked, because this machine refused a thread ("), "{why}");
}

/// What has no port costs no connection. An attempt counts until the round hears of it.
#[test]
fn the_threads_that_ask_are_bounded_and_each_address_finds_one() {
    let mut round = Round::begin(LONG, LONG);
    round.ask(None, "no-port".into());
    (0..2 * THREADS_MAX).for_each(|_| round.ask_again());
    assert_eq!(round.attempts, THREADS_MAX - (ADDRESSES_MAX - 1), "those not asked yet find room");
    (1..ADDRESSES_MAX).for_each(|_| round.ask(None, "no-port".into()));
    assert!(round.targets.iter().all(|target| target.answer.is_none()), "each has a thread");
    assert_eq!(round.attempts, THREADS_MAX);
    round.ask_again();
    assert_eq!(round.attempts, THREADS_MAX);
}

/// Each node that answers names all members.
#[test]
fn a_member_that_cannot_be_asked_is_told_of_once_and_members_are_bounded() {
    let mut round = Round::begin(LONG, LONG);
    let local = |node| Member { admin_is_local: true, ..member(node, "") };
    (0..2).for_each(|_| round.meet(&local(9)));
    assert_eq!(round.targets.len(), 1);
    (10..10_000).for_each(|node| round.meet(&local(node)));
    assert_eq!(round.targets.len(), ADDRESSES_MAX);
}

#[test]
fn a_port_of_another_node_and_a_port_of_nobody_say_so() {
    let first = listen(|_, stream| {
        answer(stream, &NodeAnswer::sample(1, Groups::default()), &[], &AtomicUsize::new(0));
    });
    let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let wrong = first.clone();
    let second = listen(move |_, stream| {
        let members = [member(4, &wrong), member(5, &free.to_string())];
        answer(stream, &NodeAnswer::sample(2, Groups::default()), &members, &AtomicUsize::new(0));
    });
    let asked = ask_within(&[second], LONG, LONG);
    assert_eq!(answered(&asked), [(Some(2), true), (Some(4), false), (Some(5), false)]);
    let why = asked[1].answer.as_ref().err().expect("it is node 1");
    assert_eq!(why, "node 1 has this admin port");
}
