//! Exchangers over a network in memory, driven by hand.

use super::*;
use crate::{
    advertised::Advertised,
    forward::{BatchOutcome, BatchReply, RequestBatch},
    frame::{self, Decoder, Kind},
    handshake::{Answer as HelloAnswer, Hello, VERSIONS},
    heartbeat::{Condition, Heartbeat},
    links::Direction,
    memory::{Executor, MemoryNet},
    net::{Reader, Writer},
    outbox::Outbox,
    refusal::{GoneBack, Refusal},
    status::LinkStatus,
};
use bytes::Bytes;
use purlin_rsm::{
    BootId, ClusterId, Entry, EntryId, Envelope, Fork, GroupEpoch, GroupId, Index, Message,
    Payload, Position, RequestKind, Start, Term,
};
use std::{cell::Cell, collections::BTreeMap, sync::Arc};

const SILENCE: u64 = 20;

/// Nodes 1 to 3, each with one shard unless told otherwise, node `n` at `host:1000 × n`.
struct World {
    net: MemoryNet,
    executor: Executor,
    nodes: BTreeMap<PeerShard, Rc<Exchanger<MemoryNet>>>,
}

fn at(node: u32) -> PeerShard {
    PeerShard::new(NodeId(node), ShardId(0))
}

fn facts(pair: PeerShard, shards: u16) -> Facts {
    let node = pair.node;
    let boot = BootId(u64::from(node.0) * 100 + u64::from(pair.shard.0));
    Facts {
        cluster: ClusterId(1),
        fork: Fork(0),
        config_hash: 1,
        node,
        incarnation: Incarnation(u64::from(node.0) * 7),
        shard: pair.shard,
        shards,
        starts: vec![Start { number: 1, boot, kept: Sequence(0) }],
        voters: [1, 2, 3].map(NodeId).into(),
        table: Vec::new(),
        acting: false,
        advertised: Advertised::default(),
    }
}

fn config() -> ExchangerConfig {
    ExchangerConfig::default()
}

impl World {
    fn new() -> Self {
        let (net, executor) = (MemoryNet::default(), Executor::default());
        Self { net, executor, nodes: BTreeMap::new() }
    }

    /// Nodes 1 and 2, each wanting the other, connected.
    fn pair() -> Self {
        Self::pair_with(&config())
    }

    fn pair_with(config: &ExchangerConfig) -> Self {
        let mut world = Self::new();
        world.start(facts(at(1), 1), config.clone());
        world.start(facts(at(2), 1), config.clone());
        world.want(1, 2);
        world.want(2, 1);
        world.run();
        world.poll(at(1));
        world.poll(at(2));
        assert_eq!(world.connected(at(1), at(2)), (true, true));
        assert_eq!(world.connected(at(2), at(1)), (true, true));
        world
    }

    fn start(&mut self, facts: Facts, config: ExchangerConfig) {
        self.start_with(facts, config, []);
    }

    fn start_with(
        &mut self,
        facts: Facts,
        config: ExchangerConfig,
        memories: impl IntoIterator<Item = PeerMemory>,
    ) {
        let pair = facts.pair();
        let members = [1, 2, 3].map(|node| (NodeId(node), None));
        let book = PeerBook::new(members, memories, SILENCE);
        let exchanger = Exchanger::new(self.net.clone(), facts, book, config, Rc::new(|| {}));
        (1..=3).for_each(|node| {
            exchanger.set_address(NodeId(node), "host".into(), node as u16 * 1000);
        });
        let address = format!("host:{}", pair.node.0 * 1000 + u32::from(pair.shard.0));
        let listening = exchanger.clone();
        self.executor.spawn(async move {
            listening.listen(&address).await.expect("a free port");
        });
        assert!(self.nodes.insert(pair, exchanger).is_none());
        self.run();
    }

    fn want(&mut self, from: u32, to: u32) {
        self.nodes[&at(from)].want(NodeId(to), |shards| (0..shards).map(ShardId).collect());
    }

    /// Everything that can happen without time passing and without the engines' polling.
    fn run(&mut self) {
        loop {
            let drivers = self.nodes.values().flat_map(|exchanger| exchanger.take_drivers());
            drivers.collect::<Vec<_>>().into_iter().for_each(|driver| self.executor.spawn(driver));
            if !self.executor.run() {
                return;
            }
        }
    }

    /// Whether `to` is reached by what `from` sends, and whether `to` has a connection to `from`.
    fn connected(&self, from: PeerShard, to: PeerShard) -> (bool, bool) {
        let exchanger = &self.nodes[&from];
        (exchanger.is_outbound_up(to), exchanger.hub.arrivals.is_connected(to))
    }

    fn beat(&mut self, beats: u64) {
        for _ in 0..beats {
            self.nodes.values().for_each(|exchanger| exchanger.beat());
            self.run();
        }
    }

    fn poll(&mut self, pair: PeerShard) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.nodes[&pair].poll() {
            events.push(event);
            self.run();
        }
        events
    }

    fn flush(&mut self, node: u32, durable: u64) {
        self.nodes[&at(node)].flush(Sequence(durable));
        self.run();
    }

    fn send(&self, from: u32, to: u32, item: Outbound) -> Result<(), Outbound> {
        self.nodes[&at(from)].send(at(to), item)
    }

    /// Sends `bytes` to a listener, perhaps hangs up, and returns what the listener sends until
    /// it closes.
    fn send_unidentified(&mut self, address: &str, bytes: Vec<u8>, hangs_up: bool) -> Vec<u8> {
        let (net, address) = (self.net.clone(), address.to_owned());
        let heard = Rc::new(RefCell::new(None));
        let result = heard.clone();
        self.executor.spawn(async move {
            let (mut reader, mut writer) = net.connect(&address).await.expect("a listener");
            writer.write_all(&bytes).await.expect("room");
            let writer = (!hangs_up).then_some(writer);
            let mut all = Vec::new();
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                all.extend_from_slice(&buffer[..count]);
            }
            *result.borrow_mut() = Some(all);
            drop(writer);
        });
        self.run();
        let heard = heard.borrow_mut().take();
        heard.expect("the listener keeps an unidentified connection open")
    }

    /// Says `hello` to node 2 and returns its answer.
    fn greet(&mut self, hello: &Hello) -> Result<Facts, Refusal> {
        let heard = self.send_unidentified("host:2000", hello_frame(hello), true);
        match answer_of(&heard) {
            HelloAnswer::Accepted { facts, .. } => Ok(facts),
            HelloAnswer::Refused(refusal) => Err(refusal),
        }
    }
}

fn hello_frame(hello: &Hello) -> Vec<u8> {
    let mut bytes = Vec::new();
    let start = frame::open(&mut bytes);
    hello.encode(&mut bytes);
    frame::close(&mut bytes, start, Kind::Hello, Sequence(0));
    bytes
}

fn answer_of(bytes: &[u8]) -> HelloAnswer {
    let mut decoder = Decoder::new(1 << 20);
    decoder.space()[..bytes.len()].copy_from_slice(bytes);
    decoder.filled(bytes.len());
    let frame = decoder.next().unwrap().expect("a whole answer");
    HelloAnswer::decode(frame.body).unwrap()
}

fn hello(from: Facts) -> Hello {
    Hello { versions: VERSIONS, wanted: at(2), facts: from }
}

fn message(from: u32, to: u32, group: u32, data: usize) -> Outbound {
    let payload = Payload::command(Bytes::from(vec![9; data]));
    let (term, index, before) = (Term(1), Index(1), Position(0));
    let entries = vec![Entry { term, index, before, payload }];
    let message = Message::Append { prev: EntryId::default(), entries, committed: Index(0) };
    let (from, to, group) = (NodeId(from), NodeId(to), GroupId(group));
    Outbound::Message(Envelope {
        from,
        to,
        group,
        epoch: GroupEpoch::FIRST,
        term: Term(1),
        message,
    })
}

fn envelope(item: &Outbound) -> Envelope {
    let Outbound::Message(envelope) = item else { panic!("{item:?} is no message") };
    envelope.clone()
}

fn heartbeat(number: u64) -> Heartbeat {
    Heartbeat {
        number,
        fingerprint: number,
        list: None,
        reply: None,
        condition: Condition::default(),
    }
}

#[test]
fn two_nodes_connect_in_both_directions_and_know_each_other() {
    let mut world = World::new();
    world.start(facts(at(1), 1), config());
    world.start(facts(at(2), 1), config());
    world.want(1, 2);
    world.run();
    let up = world.poll(at(1));
    let [Event::OutboundUp(theirs)] = &up[..] else { panic!("{up:?}") };
    assert_eq!((theirs.pair(), theirs.shards, theirs.acting), (at(2), 1, false));
    // The listener has remembered the dialler before it answers (safety I2).
    assert_eq!(theirs.table, [(NodeId(1), Incarnation(7)), (NodeId(2), Incarnation(14))]);
    let up = world.poll(at(2));
    assert!(matches!(&up[..], [Event::InboundUp(theirs)] if theirs.pair() == at(1)), "{up:?}");
    assert_eq!(world.connected(at(1), at(2)), (true, false));
    assert_eq!(world.nodes[&at(2)].take_memories()[0].boot, BootId(100));
}

#[test]
fn the_status_tells_of_each_peer_whether_it_is_connected_and_why_not() {
    let mut world = World::pair();
    world.want(1, 3);
    world.beat(3);
    let mut peers = Vec::new();
    world.nodes[&at(1)].status(&mut peers);
    world.nodes[&at(1)].status(&mut peers);
    let [two, three] = &peers[..] else { panic!("{peers:?}") };
    assert_eq!((two.peer, two.address.as_deref()), (at(2), Some("host:2000")));
    let up = LinkStatus { is_up: true, ended: None };
    assert_eq!((&two.outbound, &two.inbound), (&up, &up));
    assert_eq!(two.silent_beats, Some(3));
    assert_eq!(two.facts.as_ref().map(|facts| facts.pair()), Some(at(2)));
    assert_eq!((three.peer, three.outbound.is_up, three.inbound.is_up), (at(3), false, false));
    assert!(three.outbound.ended.is_some(), "nobody listens there: {three:?}");
    assert_eq!((three.silent_beats, &three.facts), (None, &None));

    world.nodes[&at(2)].stop();
    world.run();
    world.nodes[&at(1)].status(&mut peers);
    assert!(!peers[0].outbound.is_up && !peers[0].inbound.is_up, "{peers:?}");
    assert!(peers[0].facts.is_some(), "what it told is still known");
}

/// Each beat copies the status of all peers: the texts are shared, and the memory is used again.
#[test]
fn a_status_of_the_same_peers_allocates_nothing() {
    let mut world = World::pair();
    world.want(1, 3);
    world.beat(3);
    let exchanger = &world.nodes[&at(1)];
    let mut peers = Vec::new();
    exchanger.status(&mut peers);
    let (before, memory) = (peers.clone(), peers.as_ptr());
    exchanger.status(&mut peers);
    assert_eq!((peers.len(), peers.as_ptr()), (2, memory));
    for (one, other) in before.iter().zip(&peers) {
        let is_shared = |one: &Option<Arc<str>>, other: &Option<Arc<str>>| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        assert!(is_shared(&one.address, &other.address) && one.address.is_some(), "{other:?}");
        assert!(is_shared(&one.outbound.ended, &other.outbound.ended), "{other:?}");
    }
    assert!(peers[1].outbound.ended.is_some(), "nobody listens there: {peers:?}");
}

/// What shards told of that their node has no more is forgotten.
#[test]
fn the_status_has_no_more_shards_of_a_node_than_it_says() {
    let world = World::pair();
    let exchanger = &world.nodes[&at(1)];
    let second = PeerShard::new(NodeId(2), ShardId(1));
    exchanger.hub.note_told(&facts(second, 2));
    let mut peers = Vec::new();
    exchanger.status(&mut peers);
    assert_eq!(peers.iter().map(|peer| peer.peer).collect::<Vec<_>>(), [at(2), second]);
    exchanger.hub.note_told(&facts(at(2), 1));
    exchanger.status(&mut peers);
    assert_eq!(peers.iter().map(|peer| peer.peer).collect::<Vec<_>>(), [at(2)]);
}

/// A frame that is closed in the middle of a turn carries the sequence on which its acknowledgements rest.
#[test]
fn every_frame_of_a_turn_says_what_is_durable_as_the_turn_begins() {
    let mut world = World::pair();
    world.flush(1, 3);
    world.nodes[&at(1)].note_durable(Sequence(9));
    world.send(1, 2, message(1, 2, 1, 50)).unwrap();
    world.send(1, 2, message(1, 2, 2, 600_000)).unwrap();
    let peer = world.nodes[&at(1)].hub.peers.borrow()[&at(2)].clone();
    let bytes = peer.outbox.borrow_mut().take(Sequence(9)).expect("two frames");
    let mut decoder = Decoder::new(1 << 20);
    let mut durable = Vec::new();
    for piece in bytes.chunks(1000) {
        decoder.space()[..piece.len()].copy_from_slice(piece);
        decoder.filled(piece.len());
        while let Some(frame) = decoder.next().unwrap() {
            durable.push(frame.durable);
        }
    }
    assert_eq!(durable, [Sequence(9); 2]);
}

#[test]
fn everything_sent_in_a_turn_is_one_write() {
    let mut world = World::pair();
    let before = world.net.writes(0);
    let sent: Vec<_> = (0..300).map(|group| message(1, 2, group, 50)).collect();
    for item in &sent {
        world.send(1, 2, item.clone()).unwrap();
    }
    world.send(1, 2, Outbound::Heartbeat(heartbeat(1))).unwrap();
    world.run();
    assert_eq!(world.net.writes(0), before, "nothing leaves before the turn's end");
    world.flush(1, 5);
    assert_eq!(world.net.writes(0), before + 1);
    let got = world.poll(at(2));
    let envelopes = sent.iter().map(envelope).collect();
    assert_eq!(got, [Event::Heartbeat(at(1), heartbeat(1)), Event::Messages(at(1), envelopes)]);
    assert_eq!(world.nodes[&at(2)].take_memories().pop().unwrap().durable, Sequence(5));
}

#[test]
fn commands_are_forwarded_and_answered() {
    let mut world = World::pair();
    let kind = RequestKind::Query;
    let requests = vec![Bytes::from_static(b"get a")];
    let forward = RequestBatch {
        id: 5,
        group: GroupId(1),
        epoch: GroupEpoch::FIRST,
        term: Term(3),
        kind,
        requests,
    };
    world.send(1, 2, Outbound::Forward(forward.clone())).unwrap();
    world.flush(1, 0);
    assert_eq!(world.poll(at(2)), [Event::Forward(at(1), forward)]);
    let reply = BatchReply { id: 5, outcome: BatchOutcome::Bounced };
    world.send(2, 1, Outbound::ForwardReply(reply.clone())).unwrap();
    world.flush(2, 0);
    assert_eq!(world.poll(at(1)), [Event::ForwardReply(at(2), reply)]);
}

#[test]
fn reads_of_a_few_bytes_lose_nothing() {
    for read_bytes_max in [1, 2, 3, 7, 24, 25] {
        let mut world = World::new();
        world.net.set_read_bytes_max(read_bytes_max);
        world.start(facts(at(1), 1), config());
        world.start(facts(at(2), 1), config());
        world.want(1, 2);
        world.run();
        world.poll(at(2));
        let sent = [message(1, 2, 1, 0), message(1, 2, 2, 400)];
        for item in &sent {
            world.send(1, 2, item.clone()).unwrap();
            world.flush(1, 0);
        }
        let got = world.poll(at(2));
        assert_eq!(got, sent.map(|item| Event::Messages(at(1), vec![envelope(&item)])));
    }
}

#[test]
fn the_first_shard_is_asked_how_many_there_are() {
    let mut world = World::new();
    world.start(facts(at(1), 1), config());
    for shard in 0..3 {
        world.start(facts(PeerShard::new(NodeId(2), ShardId(shard)), 3), config());
    }
    // Groups live on shards 1 and 2 there: the first shard is not needed.
    let only = |shards| (1..shards).map(ShardId).collect();
    world.nodes[&at(1)].want(NodeId(2), only);
    world.run();
    let mut events = world.poll(at(1));
    let Event::Learned(learned) = events.remove(0) else { panic!("{events:?}") };
    assert_eq!((learned.pair(), learned.shards), (at(2), 3));
    let up: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::OutboundUp(facts) => facts.pair(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(up, [1, 2].map(|shard| PeerShard::new(NodeId(2), ShardId(shard))));
    let events = world.poll(at(2));
    assert!(matches!(events[..], [Event::InboundUp(_), Event::InboundLost(_)]), "{events:?}");
    // What is wanted may change.
    world.nodes[&at(1)].want(NodeId(2), |_| vec![ShardId(0), ShardId(1)]);
    world.run();
    let events = world.poll(at(1));
    assert!(
        events.contains(&Event::OutboundLost(PeerShard::new(NodeId(2), ShardId(2)))),
        "{events:?}"
    );
    world.beat(20);
    assert!(world.nodes[&at(1)].is_outbound_up(at(2)));
}

/// The first shard of a node has stopped, and one of its peers has restarted since (the others go on).
#[test]
fn a_peer_that_dials_us_says_how_many_shards_there_are() {
    let (mut world, second) = (World::new(), PeerShard::new(NodeId(2), ShardId(1)));
    world.start(facts(at(1), 1), config());
    world.start(facts(second, 2), config());
    world.nodes[&at(1)].want(NodeId(2), |shards| (0..shards).map(ShardId).collect());
    world.beat(20);
    assert!(!world.nodes[&at(1)].is_outbound_up(second), "nobody has said that it is there");
    world.nodes[&second].want(NodeId(1), |_| vec![ShardId(0)]);
    world.beat(20);
    assert_eq!(world.connected(at(1), second), (true, true));
}

/// Its answer is the only one that says that it has met us (safety I2).
#[test]
fn the_first_shard_is_asked_even_if_another_has_said_how_many_there_are() {
    let (mut world, second) = (World::new(), PeerShard::new(NodeId(2), ShardId(1)));
    world.start(facts(at(1), 1), config());
    world.start(facts(second, 2), config());
    world.nodes[&at(1)].want(NodeId(2), |_| vec![ShardId(1)]);
    world.nodes[&second].want(NodeId(1), |_| vec![ShardId(0)]);
    world.beat(20);
    assert_eq!(world.connected(at(1), second), (true, true));
    world.poll(at(1));
    world.start(facts(at(2), 2), config());
    world.beat(20);
    let events = world.poll(at(1));
    assert!(matches!(&events[..], [Event::Learned(facts)] if facts.pair() == at(2)), "{events:?}");
}

/// The first shard is asked, and its answer tells more. What it has said is not changed by another.
#[test]
fn a_dialler_says_how_many_shards_there_are_only_while_that_is_not_known_and_for_the_first_shard() {
    let (mut world, second) = (World::new(), PeerShard::new(NodeId(2), ShardId(1)));
    world.start(facts(at(1), 1), config());
    world.nodes[&at(1)].want(NodeId(2), |shards| (0..shards).map(ShardId).collect());
    let hub = &world.nodes[&at(1)].hub;
    let wanted = || hub.registry.borrow().wanted(NodeId(2)).map(|shards| shards.len());
    hub.told_by_dialler(&facts(at(2), 2));
    assert_eq!(wanted(), None, "the first shard dials: it is still to be asked");
    hub.told_by_dialler(&facts(second, 2));
    assert_eq!(wanted(), Some(2));
    hub.told_by_dialler(&facts(second, 3));
    assert_eq!(wanted(), Some(2), "it is known already");
}

/// Out of file descriptors, say. The connection waits in the backlog meanwhile.
#[test]
fn a_listener_that_failed_to_accept_accepts_again_a_beat_later() {
    let mut world = World::new();
    world.start(facts(at(1), 1), config());
    world.start(facts(at(2), 1), config());
    world.net.fail_accepts(2);
    world.want(1, 2);
    world.run();
    assert!(!world.nodes[&at(1)].is_outbound_up(at(2)));
    world.beat(1);
    assert!(!world.nodes[&at(1)].is_outbound_up(at(2)), "it failed twice");
    world.beat(1);
    assert!(world.nodes[&at(1)].is_outbound_up(at(2)));
    assert_eq!(world.net.dials(), 1);
}

#[test]
fn a_peer_that_is_not_there_is_dialled_again_after_pauses_that_do_not_grow() {
    let mut world = World::new();
    world.start(facts(at(1), 1), config());
    world.want(1, 2);
    world.run();
    assert_eq!(world.net.dials(), 1);
    world.beat(1_000);
    let early = world.net.dials();
    world.beat(80);
    let late = world.net.dials() - early;
    assert!((40..80).contains(&late), "{late} dials in 80 beats with pauses of 1 and 2");
    world.start(facts(at(2), 1), config());
    world.beat(2);
    assert!(world.nodes[&at(1)].is_outbound_up(at(2)));
}

/// How soon a peer is dialled again bounds how long a cut of the network lasts on.
#[test]
fn a_peer_that_was_gone_for_long_is_dialled_again_as_soon_as_any() {
    let mut world = World::new();
    world.start(facts(at(1), 1), config());
    world.want(1, 2);
    world.beat(1_000);
    world.start(facts(at(2), 1), config());
    world.beat(config().dial_pause_beats);
    assert!(world.nodes[&at(1)].is_outbound_up(at(2)));
    world.net.cut(0);
    world.run();
    world.beat(config().dial_pause_beats);
    assert!(world.nodes[&at(1)].is_outbound_up(at(2)), "it was lost at once");
}

/// Its connections may be dead in both directions, and neither end knows: a heartbeat would have come.
#[test]
fn a_pair_that_was_heard_and_falls_silent_is_dialled_again() {
    let mut world = World::pair();
    world.beat(2 * config().silence_beats);
    assert_eq!(world.poll(at(2)), [], "a shard that has not met the others says nothing");
    world.send(1, 2, Outbound::Heartbeat(heartbeat(1))).unwrap();
    world.flush(1, 0);
    world.beat(config().silence_beats - 1);
    assert!(matches!(world.poll(at(2))[..], [Event::Heartbeat(..)]));
    world.beat(1);
    let events = world.poll(at(2));
    assert!(events.contains(&Event::InboundLost(at(1))), "{events:?}");
    assert!(events.contains(&Event::OutboundLost(at(1))), "{events:?}");
    world.beat(config().dial_pause_beats);
    assert_eq!(world.connected(at(1), at(2)), (true, true));
    assert_eq!(world.connected(at(2), at(1)), (true, true));
}

#[test]
fn a_dial_that_never_ends_is_given_up() {
    let mut world = World::new();
    world.start(facts(at(1), 1), config());
    world.start(facts(at(2), 1), config());
    world.net.set_silent(true);
    world.want(1, 2);
    world.run();
    world.net.set_silent(false);
    world.beat(config().handshake_beats - 1);
    assert_eq!(world.net.dials(), 1);
    world.beat(10);
    assert!(world.nodes[&at(1)].is_outbound_up(at(2)));
}

#[test]
fn a_new_address_is_used_for_the_next_dial() {
    let mut world = World::new();
    world.start(facts(at(1), 1), config());
    world.nodes[&at(1)].set_address(NodeId(2), "host".into(), 9999);
    world.start(facts(at(2), 1), config());
    world.want(1, 2);
    world.beat(20);
    assert!(!world.nodes[&at(1)].is_outbound_up(at(2)));
    world.nodes[&at(1)].set_address(NodeId(2), "host".into(), 2000);
    world.beat(8);
    assert!(world.nodes[&at(1)].is_outbound_up(at(2)));
}

#[test]
fn a_lost_connection_is_told_to_both_and_dialled_again() {
    let mut world = World::pair();
    world.net.cut(0);
    world.run();
    assert_eq!(world.poll(at(1)), [Event::OutboundLost(at(2))]);
    assert_eq!(world.poll(at(2)), [Event::InboundLost(at(1))]);
    let item = message(1, 2, 1, 0);
    assert_eq!(world.send(1, 2, item.clone()), Err(item));
    world.beat(8);
    assert!(matches!(world.poll(at(1))[..], [Event::OutboundUp(_)]));
    assert!(matches!(world.poll(at(2))[..], [Event::InboundUp(_)]));
}

#[test]
fn an_item_that_was_not_written_is_lost_with_its_connection() {
    let mut world = World::pair();
    world.send(1, 2, message(1, 2, 1, 10)).unwrap();
    world.net.cut(0);
    world.run();
    world.beat(8);
    world.flush(1, 0);
    world.send(1, 2, message(1, 2, 2, 10)).unwrap();
    world.flush(1, 0);
    let events = world.poll(at(2));
    let messages: Vec<_> =
        events.iter().filter(|event| matches!(event, Event::Messages(..))).collect();
    assert!(
        matches!(messages[..], [Event::Messages(_, one)] if one[0].group == GroupId(2)),
        "{events:?}"
    );
}

/// Node 2 takes nothing, and node 1 has sent so many messages that its outbox takes no more.
fn full_outbox() -> (World, u32) {
    let mut world = World::new();
    let small = ExchangerConfig { outbox_bytes_max: 10_000, ..config() };
    world.start(facts(at(1), 1), small);
    world.start(facts(at(2), 1), config());
    world.want(1, 2);
    world.run();
    world.poll(at(1));
    world.net.stall(0, true);
    let mut taken = 0;
    while world.send(1, 2, message(1, 2, taken, 1000)).is_ok() {
        world.flush(1, 0);
        taken += 1;
        assert!(taken < 20);
    }
    (world, taken)
}

#[test]
fn a_peer_that_takes_nothing_fills_its_outbox_and_is_dropped() {
    let (mut world, taken) = full_outbox();
    assert!(taken >= 8, "{taken}");
    world.beat(config().stall_beats - 1);
    assert_eq!(world.poll(at(1)), []);
    world.beat(1);
    assert_eq!(world.poll(at(1)), [Event::OutboundLost(at(2))]);
    world.beat(8);
    assert!(world.nodes[&at(1)].is_outbound_up(at(2)));
    world.send(1, 2, message(1, 2, 1, 1000)).unwrap();
}

/// Whoever was refused for want of room waits for this event, and for nothing else.
#[test]
fn room_is_told_when_the_peer_has_taken_what_waited() {
    let (mut world, _) = full_outbox();
    assert_eq!(world.poll(at(1)), [], "there is none");
    world.net.stall(0, false);
    world.run();
    assert_eq!(world.poll(at(1)), [Event::Room(at(2))]);
    world.send(1, 2, message(1, 2, 1, 1000)).unwrap();
    world.flush(1, 0);
    world.run();
    assert_eq!(world.poll(at(1)), [], "nobody was refused since");
}

#[test]
fn a_slow_peer_is_not_dropped_while_it_takes_bytes() {
    let patient = ExchangerConfig { silence_beats: config().idle_beats, ..config() };
    let mut world = World::pair_with(&patient);
    world.send(1, 2, message(1, 2, 1, 3 << 20)).unwrap();
    world.net.stall(0, true);
    world.flush(1, 0);
    for _ in 0..3 {
        world.beat(config().stall_beats - 1);
        world.net.set_budget(0, Some((1 << 20) + 100));
        world.run();
    }
    assert_eq!(world.poll(at(1)), []);
    assert!(matches!(&world.poll(at(2))[..], [Event::Messages(_, all)] if all.len() == 1));
    // With nothing to write, silence is no stall.
    world.net.stall(0, true);
    world.beat(config().stall_beats + 1);
    assert_eq!(world.poll(at(1)), []);
}

/// Two shards with nothing to say, and perhaps with disks that hang, keep their connections. A shard whose loop has
/// stopped is silent, and the pair is made anew.
#[test]
fn a_pair_that_has_nothing_to_say_is_not_silent_and_one_that_has_stopped_is() {
    let mut world = World::pair();
    for _ in 0..2 * config().idle_beats {
        world.beat(1);
        (1..=2).for_each(|node| world.flush(node, 0));
    }
    assert_eq!([world.poll(at(1)), world.poll(at(2))], [[], []]);
    let stopped = world.nodes.remove(&at(2)).unwrap();
    world.beat(config().silence_beats - 1);
    assert_eq!(world.poll(at(1)), []);
    world.beat(1);
    assert_eq!(world.poll(at(1)), [Event::InboundLost(at(2)), Event::OutboundLost(at(2))]);
    drop(stopped);
}

#[test]
fn an_inbox_that_is_full_stops_the_readers_until_it_is_polled() {
    let mut world = World::new();
    let small = ExchangerConfig { inbox_bytes_max: 5_000, ..config() };
    world.start(facts(at(1), 1), config());
    world.start(facts(at(2), 1), small);
    world.want(1, 2);
    world.run();
    for group in 0..100 {
        world.send(1, 2, message(1, 2, group, 1000)).unwrap();
        world.flush(1, 0);
    }
    let waiting = world.nodes[&at(2)].hub.inbox.borrow().len();
    assert!(waiting < 10, "{waiting} events wait in 5,000 bytes");
    // However long it takes: we are slow, not they.
    world.beat(config().idle_beats + 1);
    let mut groups = Vec::new();
    for event in world.poll(at(2)) {
        assert!(!matches!(event, Event::InboundLost(_)));
        if let Event::Messages(_, envelopes) = event {
            groups.extend(envelopes.iter().map(|envelope| envelope.group.0));
        }
    }
    assert_eq!(groups, (0..100).collect::<Vec<_>>());
}

#[test]
fn an_item_that_no_frame_can_hold_comes_back() {
    let world = World::pair();
    let item = message(1, 2, 1, config().frame_bytes_max + 1);
    assert_eq!(world.send(1, 2, item.clone()), Err(item));
    world.send(1, 2, message(1, 2, 1, 8 << 20)).unwrap();
}

#[test]
fn a_newer_connection_of_a_peer_replaces_the_older_one() {
    let mut world = World::pair();
    // The same process dials again, as after a network that lost the first connection's end.
    let mut bytes = hello_frame(&hello(facts(at(1), 1)));
    let mut outbox = Outbox::new(1 << 20, 1 << 20);
    outbox.push(&Outbound::Heartbeat(heartbeat(3)), Sequence(0)).unwrap();
    bytes.extend(outbox.take(Sequence(0)).expect("it waits"));
    let net = world.net.clone();
    world.executor.spawn(async move {
        let (reader, mut writer) = net.connect("host:2000").await.unwrap();
        writer.write_all(&bytes).await.unwrap();
        std::future::pending::<()>().await;
        drop((reader, writer));
    });
    world.run();
    let events = world.poll(at(2));
    assert!(
        matches!(&events[..], [
            Event::InboundLost(lost),
            Event::InboundUp(facts),
            Event::Heartbeat(from, beat),
        ] if *lost == at(1) && facts.pair() == at(1) && *from == at(1) && beat.number == 3),
        "{events:?}"
    );
    assert!(!world.net.is_open(0), "the older connection is closed");
    assert_eq!(world.poll(at(1)), [Event::OutboundLost(at(2))]);
}

#[test]
fn a_connection_whose_answer_was_slow_does_not_replace_a_newer_one() {
    let mut world = World::new();
    world.start(facts(at(2), 1), config());
    for _ in 0..2 {
        let (net, bytes) = (world.net.clone(), hello_frame(&hello(facts(at(1), 1))));
        let connection = net.connections();
        world.executor.spawn(async move {
            let (reader, mut writer) = net.connect("host:2000").await.unwrap();
            net.stall_answer(connection, connection == 0);
            writer.write_all(&bytes).await.unwrap();
            std::future::pending::<()>().await;
            drop((reader, writer));
        });
        world.run();
    }
    assert!(matches!(world.poll(at(2))[..], [Event::InboundUp(_)]));
    world.net.stall_answer(0, false);
    world.run();
    assert_eq!((world.net.is_open(0), world.net.is_open(1)), (false, true));
    assert_eq!(world.poll(at(2)), []);
}

#[test]
fn garbage_at_the_port_closes_the_connection_and_nothing_else() {
    let mut world = World::pair();
    let mut huge = hello_frame(&hello(facts(at(1), 1)));
    huge[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut flipped = hello_frame(&hello(facts(at(1), 1)));
    *flipped.last_mut().unwrap() ^= 1;
    let mut early = Outbox::new(1000, 1000);
    early.push(&Outbound::Heartbeat(heartbeat(1)), Sequence(0)).unwrap();
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0; 100],
        vec![0xff; 100],
        huge,
        flipped,
        early.take(Sequence(0)).expect("it waits"),
    ] {
        assert_eq!(world.send_unidentified("host:2000", garbage, false), []);
    }
    assert_eq!(world.poll(at(2)), []);
    assert_eq!(world.connected(at(2), at(1)), (true, true));
}

#[test]
fn a_half_hello_is_waited_for_and_then_closed() {
    let mut world = World::new();
    world.start(facts(at(2), 1), config());
    let whole = hello_frame(&hello(facts(at(1), 1)));
    for at in [0, 1, 23, 24, whole.len() - 1] {
        let (net, bytes) = (world.net.clone(), whole[..at].to_vec());
        let connection = net.connections();
        world.executor.spawn(async move {
            let (mut reader, mut writer) = net.connect("host:2000").await.unwrap();
            writer.write_all(&bytes).await.unwrap();
            assert_eq!(reader.read(&mut [0; 1]).await.unwrap(), 0);
        });
        world.run();
        world.beat(config().hello_beats - 1);
        assert!(world.net.is_open(connection));
        world.beat(1);
        assert!(!world.net.is_open(connection));
    }
    assert_eq!(world.poll(at(2)), []);
}

/// The wait for room in our own inbox is no silence of the peer.
#[test]
fn a_peer_whose_hello_waits_for_room_is_admitted_when_there_is_room() {
    let mut world = World::new();
    let inbox_bytes_max = size_of::<Event>();
    world.start(facts(at(2), 1), ExchangerConfig { inbox_bytes_max, ..config() });
    let own = Refusal::OwnNode { node: NodeId(2) };
    assert_eq!(world.greet(&hello(facts(at(2), 1))), Err(own), "its event fills the inbox");
    world.start(facts(at(1), 1), config());
    world.want(1, 2);
    world.run();
    world.beat(3 * config().hello_beats);
    assert_eq!(world.net.connections(), 2, "the peer was not closed, and has not dialled again");
    world.poll(at(2));
    assert_eq!(world.connected(at(1), at(2)), (true, false));
    assert_eq!(world.connected(at(2), at(1)), (false, true));
}

#[test]
fn a_hello_that_waited_for_room_until_its_dialler_gave_up_is_not_answered() {
    let mut world = World::new();
    let inbox_bytes_max = size_of::<Event>();
    world.start(facts(at(2), 1), ExchangerConfig { inbox_bytes_max, ..config() });
    assert!(world.greet(&hello(facts(at(2), 1))).is_err(), "its event fills the inbox");
    let (net, bytes) = (world.net.clone(), hello_frame(&hello(facts(at(1), 1))));
    world.executor.spawn(async move {
        let (mut reader, mut writer) = net.connect("host:2000").await.unwrap();
        writer.write_all(&bytes).await.unwrap();
        assert_eq!(reader.read(&mut [0; 1]).await.unwrap(), 0);
    });
    world.run();
    world.beat(config().handshake_beats);
    let events = world.poll(at(2));
    assert!(matches!(events[..], [Event::Refused { .. }]), "{events:?}");
    assert!(!world.net.is_open(1));
    assert_eq!(world.nodes[&at(2)].take_memories(), [], "it was not admitted");
}

/// The name of a member may be claimed by anybody.
#[test]
fn who_claims_the_name_of_a_connected_peer_says_nothing_of_it() {
    let mut world = World::pair();
    for other in 2..5 {
        let stranger = Facts { cluster: ClusterId(other), ..facts(at(1), 1) };
        assert!(world.greet(&hello(stranger)).is_err());
        let links = world.nodes[&at(2)].hub.links.borrow();
        let (peer, link) = links.known().next().expect("it is dialled");
        assert_eq!((peer, link.ended(Direction::Inbound)), (at(1), None));
    }
    assert_eq!(world.connected(at(2), at(1)), (true, true));
}

/// Whoever reaches the port may connect and say nothing, again and again.
#[test]
fn strangers_keep_no_member_out() {
    let mut world = World::new();
    world.start(facts(at(2), 1), ExchangerConfig { handshakes_max: 3, ..config() });
    for _ in 0..200 {
        let net = world.net.clone();
        world.executor.spawn(async move {
            let halves = net.connect("host:2000").await.unwrap();
            std::future::pending::<()>().await;
            drop(halves);
        });
    }
    world.run();
    let open: Vec<_> = (0..200).filter(|at| world.net.is_open(*at)).collect();
    assert_eq!(open, [197, 198, 199], "the oldest give their places up");
    world.start(facts(at(1), 1), config());
    world.want(1, 2);
    world.run();
    assert!(world.nodes[&at(1)].is_outbound_up(at(2)), "a member gets in at once");
    world.beat(config().hello_beats);
    assert!((0..200).all(|at| !world.net.is_open(at)), "strangers end in 500 ms");
    assert!(world.nodes[&at(1)].is_outbound_up(at(2)), "it was admitted, and needs no place");
}

#[test]
fn a_connection_that_breaks_the_protocol_later_is_closed() {
    let mut world = World::new();
    world.start(facts(at(2), 1), config());
    let mut bad_kind = hello_frame(&hello(facts(at(1), 1)));
    bad_kind.extend_from_within(..);
    let mut bad_body = hello_frame(&hello(facts(at(1), 1)));
    let start = frame::open(&mut bad_body);
    bad_body.extend_from_slice(&[99, 1, 1]);
    frame::close(&mut bad_body, start, Kind::Messages, Sequence(0));
    for bytes in [bad_kind, bad_body] {
        assert!(matches!(
            answer_of(&world.send_unidentified("host:2000", bytes, false)),
            HelloAnswer::Accepted { .. }
        ));
        let events = world.poll(at(2));
        assert!(matches!(events[..], [Event::InboundUp(_), Event::InboundLost(_)]), "{events:?}");
    }
}

#[test]
fn an_idle_connection_is_dropped_after_long() {
    let mut world = World::pair();
    world.beat(config().idle_beats - 1);
    world.send(1, 2, Outbound::Heartbeat(heartbeat(1))).unwrap();
    world.flush(1, 0);
    world.poll(at(2));
    world.poll(at(1));
    world.beat(config().silence_beats - 1);
    assert!(!world.poll(at(2)).contains(&Event::InboundLost(at(1))));
    world.beat(1);
    assert!(world.poll(at(2)).contains(&Event::InboundLost(at(1))));
}

#[test]
fn every_refusal_travels_to_the_dialler_and_changes_nothing_else() {
    let mut world = World::new();
    world.start(facts(at(2), 1), config());
    let good = facts(at(1), 1);
    let with = |change: &dyn Fn(&mut Hello)| {
        let mut hello = hello(good.clone());
        change(&mut hello);
        hello
    };
    let node = NodeId(1);
    let cases = [
        (
            with(&|hello| hello.versions = (7, 9)),
            Refusal::Version { theirs: (7, 9), ours: VERSIONS },
        ),
        (
            with(&|hello| hello.facts.cluster = ClusterId(2)),
            Refusal::OtherCluster { theirs: ClusterId(2), ours: ClusterId(1) },
        ),
        (
            with(&|hello| hello.wanted = at(3)),
            Refusal::WrongNode { wanted: NodeId(3), here: NodeId(2) },
        ),
        (
            with(&|hello| hello.wanted.shard = ShardId(4)),
            Refusal::WrongShard { node: NodeId(2), wanted: ShardId(4), here: ShardId(0) },
        ),
        (with(&|hello| hello.facts.node = NodeId(2)), Refusal::OwnNode { node: NodeId(2) }),
        (
            with(&|hello| hello.facts.config_hash = 5),
            Refusal::OtherConfig { node, theirs: 5, ours: 1 },
        ),
        (with(&|hello| hello.facts.voters = vec![node]), Refusal::OtherVoters { node }),
        (with(&|hello| hello.facts.node = NodeId(9)), Refusal::NotMember { node: NodeId(9) }),
        (
            with(&|hello| hello.facts.table = vec![(NodeId(2), Incarnation(99))]),
            Refusal::OtherIncarnation {
                node: NodeId(2),
                expected: Incarnation(99),
                got: Incarnation(14),
            },
        ),
    ];
    for (hello, expected) in cases {
        assert_eq!(world.greet(&hello), Err(expected));
        let events = world.poll(at(2));
        let [Event::Refused { by_them, refusal, .. }] = events[..] else {
            // One whose language we do not speak has not said who it is.
            assert!(matches!(expected, Refusal::Version { .. }) && events.is_empty());
            continue;
        };
        assert_eq!((refusal, by_them), (expected, expected.ends(NodeId(2))));
    }
    assert_eq!(world.nodes[&at(2)].take_memories(), []);
    assert!(world.greet(&hello(good)).is_ok());
}

#[test]
fn another_incarnation_of_a_node_is_refused_by_both_sides() {
    let mut world = World::pair();
    let mut wiped = facts(at(1), 1);
    wiped.incarnation = Incarnation(1234);
    let expected = Refusal::OtherIncarnation {
        node: NodeId(1),
        expected: Incarnation(7),
        got: Incarnation(1234),
    };
    assert_eq!(world.greet(&hello(wiped.clone())), Err(expected));
    // And when the one who remembers dials the wiped one.
    let old = world.nodes.remove(&at(1)).unwrap();
    old.stop();
    world.run();
    world.poll(at(2));
    world.start(wiped, config());
    world.beat(8);
    let events = world.poll(at(1));
    let told = Event::Refused { peer: at(2), by_them: true, refusal: expected };
    assert!(events.contains(&told), "the wiped one learns it from the hello: {events:?}");
    let events = world.poll(at(2));
    assert!(events.iter().any(|event| matches!(event, Event::Refused { .. })), "{events:?}");
    assert_eq!(world.connected(at(2), at(1)), (false, false));
}

/// Once directories can be replaced, a peer may come with a table from before that.
#[test]
fn an_old_table_does_not_end_a_node_that_acts() {
    let mut world = World::new();
    let acting = Facts { acting: true, ..facts(at(2), 1) };
    world.start(acting, config());
    let mut old = hello(facts(at(1), 1));
    old.facts.table = vec![(NodeId(2), Incarnation(99))];
    assert!(world.greet(&old).is_err());
    let events = world.poll(at(2));
    assert!(matches!(events[..], [Event::Refused { by_them: false, .. }]), "{events:?}");
}

#[test]
fn the_engine_is_notified_of_drivers_and_of_the_first_event() {
    let notified = Rc::new(Cell::new(0));
    let count = notified.clone();
    let notify = Rc::new(move || count.set(count.get() + 1));
    let mut world = World::new();
    world.start(facts(at(2), 1), config());
    let book = PeerBook::new([(NodeId(2), None)], [], SILENCE);
    let exchanger = Exchanger::new(world.net.clone(), facts(at(1), 1), book, config(), notify);
    exchanger.set_address(NodeId(2), "host".into(), 2000);
    exchanger.want(NodeId(2), |_| vec![ShardId(0)]);
    assert_eq!(notified.get(), 1);
    world.nodes.insert(at(1), exchanger);
    world.run();
    assert_eq!(notified.get(), 2);
    world.net.cut(0);
    world.run();
    assert_eq!(notified.get(), 2, "what waits already was told of");
    assert_eq!(world.poll(at(1)).len(), 2);
    world.beat(8);
    assert_eq!(notified.get(), 3);
}

#[test]
fn a_restarted_peer_is_held_off_until_its_old_connection_is_silent() {
    let mut world = World::pair();
    world.flush(1, 50);
    // Power fails: the old socket stays half open, and the new process dials.
    let mut restarted = facts(at(1), 1);
    let again = Start { number: 2, boot: BootId(555), kept: Sequence(0) };
    restarted.starts.push(again);
    let held_off = Refusal::DuplicateBoot {
        node: NodeId(1),
        shard: ShardId(0),
        live: BootId(100),
        held_off: BootId(555),
    };
    assert_eq!(world.greet(&hello(restarted.clone())), Err(held_off));
    world.beat(SILENCE);
    assert_eq!(world.greet(&hello(restarted.clone())), Err(held_off));
    world.beat(1);
    assert!(world.greet(&hello(restarted)).is_ok());
}

/// The old process was stopped, its successor answered our own dial, and the old one wakes.
#[test]
fn a_process_that_wakes_after_its_successor_was_admitted_is_not_heard() {
    let mut world = World::new();
    world.start(facts(at(2), 1), config());
    let wakes = Rc::new(crate::signal::Signal::default());
    let (net, signal) = (world.net.clone(), wakes.clone());
    let bytes = hello_frame(&hello(facts(at(1), 1)));
    world.executor.spawn(async move {
        let (mut reader, mut writer) = net.connect("host:2000").await.unwrap();
        writer.write_all(&bytes).await.unwrap();
        signal.wait().await;
        let mut outbox = Outbox::new(1 << 20, 1 << 20);
        outbox.push(&message(1, 2, 1, 1), Sequence(9)).unwrap();
        writer.write_all(&outbox.take(Sequence(9)).expect("it waits")).await.unwrap();
        while reader.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
    });
    world.run();
    world.beat(SILENCE + 1);
    let mut successor = facts(at(1), 1);
    successor.starts.push(Start { number: 2, boot: BootId(555), kept: Sequence(3) });
    world.start(successor, config());
    world.want(2, 1);
    world.run();
    let up = world.poll(at(2));
    assert!(matches!(up[..], [Event::InboundUp(_), Event::OutboundUp(_)]), "{up:?}");
    wakes.raise();
    world.run();
    assert_eq!(world.poll(at(2)), [Event::InboundLost(at(1))]);
    assert_eq!(world.nodes[&at(2)].take_memories()[0].durable, Sequence(3));
}

#[test]
fn refused_handshakes_cannot_fill_the_inbox() {
    let mut world = World::new();
    let few = 10;
    let inbox_bytes_max = few * size_of::<Event>();
    world.start(facts(at(2), 1), ExchangerConfig { inbox_bytes_max, ..config() });
    for _ in 0..3 * few {
        let (net, bytes) = (world.net.clone(), hello_frame(&hello(facts(at(2), 1))));
        world.executor.spawn(async move {
            let (mut reader, mut writer) = net.connect("host:2000").await.unwrap();
            let _ = writer.write_all(&bytes).await;
            while reader.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
        });
        world.run();
    }
    assert_eq!(world.nodes[&at(2)].hub.inbox.borrow().len(), few);
    assert_eq!(world.poll(at(2)).len(), 3 * few, "they wait for room, within their time");
}

#[test]
fn a_directory_that_went_back_is_fenced_and_told_so() {
    let mut world = World::pair();
    world.send(1, 2, Outbound::Heartbeat(heartbeat(1))).unwrap();
    world.flush(1, 50);
    let old = world.nodes.remove(&at(1)).unwrap();
    old.stop();
    world.run();
    world.beat(SILENCE + 1);
    world.poll(at(2));
    let mut back = facts(at(1), 1);
    back.starts.push(Start { number: 2, boot: BootId(555), kept: Sequence(49) });
    world.start(back.clone(), config());
    world.want(1, 2);
    world.run();
    let how = GoneBack::KeptLess { start: 1, durable: Sequence(50), kept: Sequence(49) };
    let (node, incarnation, shard) = (NodeId(1), Incarnation(7), ShardId(0));
    let refusal = Refusal::WentBack { node, incarnation, shard, how };
    let told = Event::Refused { peer: at(2), by_them: true, refusal };
    let events = world.poll(at(1));
    assert!(events.contains(&told), "{events:?}");
    assert!(refusal.ends(NodeId(1)));
    // For good, across restarts of the one who remembers.
    let memories = world.nodes[&at(2)].take_memories();
    assert!(matches!(memories[..], [PeerMemory { fenced: true, .. }]), "{memories:?}");
    world.nodes.values().for_each(|exchanger| exchanger.stop());
    world.nodes.clear();
    world.run();
    world.start_with(facts(at(2), 1), config(), memories);
    let fenced = Refusal::Fenced { node, incarnation, shard };
    assert_eq!(world.greet(&hello(back)), Err(fenced));
    assert_eq!(world.greet(&hello(facts(at(1), 1))), Err(fenced));
}

#[test]
fn what_went_back_loses_the_connections_it_still_has() {
    let mut world = World::pair();
    world.beat(SILENCE + 1);
    let mut back = facts(at(1), 1);
    back.starts[0].boot = BootId(999);
    assert!(matches!(world.greet(&hello(back)), Err(Refusal::WentBack { .. })));
    let events = world.poll(at(2));
    assert!(events.contains(&Event::InboundLost(at(1))), "{events:?}");
    assert!(events.contains(&Event::OutboundLost(at(1))), "{events:?}");
    // The process that was connected cannot come back either: it is the same identity.
    world.beat(20);
    assert_eq!(world.connected(at(2), at(1)), (false, false));
}

#[test]
fn stopping_ends_every_driver_and_closes_every_connection() {
    let mut world = World::pair();
    world.want(1, 3);
    world.run();
    world.nodes.values().for_each(|exchanger| exchanger.stop());
    world.run();
    assert_eq!(world.executor.tasks(), 0);
    assert!((0..world.net.connections()).all(|at| !world.net.is_open(at)));
    assert!(world.nodes.values().all(|exchanger| Rc::strong_count(exchanger) == 1));
}

#[test]
#[should_panic(expected = "the connection says whom a message is from and to")]
fn a_message_for_another_node_is_a_bug() {
    let world = World::pair();
    let _ = world.send(1, 2, message(1, 3, 1, 1));
}
