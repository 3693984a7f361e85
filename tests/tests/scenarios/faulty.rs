//! A node whose program is faulty: it is a member, and sends what no node of the cluster may send.

use crate::support::{ONE, THREE, TWO, seconds};
use purlin::{
    Incarnation, Index, Listener, Net, NodeId, Position, Reader, Runtime, ShardId, Start, Term,
    Writer,
};
use purlin_rsm::{
    BootId, Entry, Envelope, GroupEpoch, Message, Payload, Sequence, reach::Recorder,
};
use purlin_tests::{
    cluster::scenario::{GROUP, Scenario},
    fuzz,
    sim::{Crash, SimReader, SimRuntime, SimWriter},
};
use purlin_transport::{
    Facts, Hello, HelloAnswer, PeerShard, VERSIONS,
    frame::Decoder,
    inspect::{self, Content},
};
use std::{cell::Cell, rc::Rc};

/// B91: the log of the receiver may not hold an entry that is longer than the cluster allows, and its shard would stop.
/// The receiver drops the entry, and does not follow the sender either.
#[test]
fn an_entry_that_is_too_long_for_the_cluster_stops_no_other_node() {
    let reached = Recorder::install();
    let s = Scenario::running(426, 3, 0);
    s.crash(THREE, Crash::Kill);
    s.must_write(ONE, "key", "1", seconds(10));
    s.run_for(seconds(1));
    let status = s.answer(s.control(ONE).group(GROUP)).expect("it runs").expect("its group");
    let (last, term) = (status.raft.last, Term(status.raft.term.0 + 1));
    // `first` and `key` were written before.
    let payload = Payload::command(vec![0; 600 << 10].into());
    let entry = Entry { term, index: Index(last.index.0 + 1), before: Position(2), payload };
    let append = Envelope {
        from: THREE,
        to: ONE,
        group: GROUP,
        epoch: GroupEpoch::FIRST,
        term,
        message: Message::Append { prev: last, entries: vec![entry], committed: Index(0) },
    };
    let is_sent = Rc::new(Cell::new(false));
    let sent = is_sent.clone();
    s.world.start(THREE, 1, move |runtime| {
        let (append, sent) = (append.clone(), sent.clone());
        async move {
            let (_reader, mut writer) = join(&runtime).await;
            writer.write_all(&frame(&Content::Messages(vec![append]))).await.expect("it listens");
            sent.set(true);
            runtime.sleep(seconds(60)).await;
        }
    });
    s.must_reach("node 1 has let node 3 in", seconds(20), || is_sent.get());
    s.run_for(seconds(3));
    assert_eq!(s.stops(), []);
    assert!(s.term() < term, "node 1 follows node 3 in {:?}", s.term());
    let dropped = "append with an entry beyond the cluster's limit dropped";
    assert_eq!(reached.counts().get(dropped), Some(&1));
    s.must_write(ONE, "later", "1", seconds(5));
    s.must_write(TWO, "later", "2", seconds(5));
    // The audit has rightly found fault with node 3, so only this is asked.
    assert_eq!(s.world.panics(), []);
}

/// Connects to node 1 as node 3, in a later start of its directory. What no other program could know is in the hello of
/// the first node that dials.
async fn join(runtime: &SimRuntime) -> (SimReader, SimWriter) {
    let net = runtime.net().between_nodes();
    let mut listener = net.listen("n3:7000").await.expect("nobody else listens");
    let (mut reader, _writer) = listener.accept().await.expect("a node dials");
    let Content::Hello(Some(hello)) = read(&mut reader, ONE).await else { panic!("no hello") };
    let number = 1_000;
    let facts = Facts {
        node: THREE,
        incarnation: incarnation(&hello.facts),
        shard: ShardId(0),
        starts: vec![Start { number, boot: BootId(number), kept: Sequence(1 << 40) }],
        ..hello.facts
    };
    let wanted = PeerShard { node: ONE, shard: ShardId(0) };
    let hello = Content::Hello(Some(Box::new(Hello { versions: VERSIONS, wanted, facts })));
    loop {
        // The start before counts until it has been silent for a while.
        runtime.sleep(seconds(1)).await;
        let (mut reader, mut writer) = net.connect("n1:7000").await.expect("it listens");
        writer.write_all(&frame(&hello)).await.expect("it listens");
        match read(&mut reader, ONE).await {
            Content::HelloAnswer(answer) if matches!(*answer, HelloAnswer::Accepted { .. }) => {
                return (reader, writer);
            }
            other => tracing::info!("not yet: {other:?}"),
        }
    }
}

/// The incarnation of node 3.
fn incarnation(known: &Facts) -> Incarnation {
    let of_three = known.table.iter().find(|(node, _)| *node == THREE);
    of_three.expect("they have met").1
}

fn frame(content: &Content) -> Vec<u8> {
    let (kind, body) = inspect::body(content).expect("a known kind");
    fuzz::framed(kind, Sequence(0), &body)
}

/// The first frame that comes from `from`.
async fn read(reader: &mut SimReader, from: NodeId) -> Content {
    let mut decoder = Decoder::new(1 << 20);
    loop {
        if let Some(frame) = decoder.next().expect("a frame") {
            return inspect::content(frame, from, THREE).expect("a known content");
        }
        let count = reader.read(decoder.space()).await.expect("a whole frame");
        assert!(count > 0, "closed before a frame");
        decoder.filled(count);
    }
}
