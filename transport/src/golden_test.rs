//! The bytes of a frame of each kind, frozen: what nodes of this version have sent, later ones must
//! read. A change needs a new version of the protocol and, until 1.0, a new golden file.

use crate::{
    Advertised, BatchOutcome, BatchReply, Condition, Facts, Heartbeat, HeartbeatReply, Hello,
    HelloAnswer, Outbound, PeerShard, Refusal, RequestBatch, VERSIONS,
    frame::{self, Kind},
    outbox::Outbox,
    wire,
};
use bytes::Bytes;
use purlin_rsm::{
    BootId, ClusterId, EpochTerm, Fork, GroupEpoch, GroupId, Incarnation, Index, NodeId, Position,
    RequestError, RequestKind, Sequence, ShardId, Start, Term,
};

fn facts() -> Facts {
    let start = |number, boot, kept| Start { number, boot: BootId(boot), kept: Sequence(kept) };
    Facts {
        cluster: ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        fork: Fork(300),
        config_hash: 0x1122_3344_5566_7788,
        node: NodeId(1),
        incarnation: Incarnation(0xdead_beef),
        shard: ShardId(2),
        shards: 4,
        starts: vec![start(6, 0xaaaa, 1000), start(7, 0xbbbb, 2000)],
        voters: vec![NodeId(1), NodeId(2), NodeId(300)],
        table: vec![(NodeId(1), Incarnation(0xdead_beef)), (NodeId(300), Incarnation(5))],
        acting: true,
        advertised: Advertised {
            host: "n1.example".into(),
            gateway_port: 7000,
            shard_port_base: 0,
            admin_port: 7098,
        },
    }
}

fn items() -> Vec<(&'static str, Outbound)> {
    let at = |group, epoch, term| (GroupId(group), EpochTerm::new(GroupEpoch(epoch), Term(term)));
    let heartbeat_reply = HeartbeatReply {
        number: 9,
        fingerprint: 0x0123_4567_89ab_cdef,
        wants_list: true,
        refused: vec![at(3, 2, 8), at(70_000, 1, 1)],
    };
    let condition = Condition {
        is_disk_full: true,
        is_unfit: true,
        hears: vec![NodeId(2), NodeId(3), NodeId(900)],
    };
    let heartbeat = |list, reply, condition| {
        Outbound::Heartbeat(Heartbeat { number: 300, fingerprint: 1, list, reply, condition })
    };
    let list = vec![at(1, 1, 4), at(48, 3, 200)];
    let requests = vec![Bytes::from_static(b"set a 1"), Bytes::new()];
    let outcomes = vec![
        Ok(Bytes::from_static(b"OK")),
        Err(RequestError::NotApplied),
        Err(RequestError::NoMemory),
        Err(RequestError::NoSpace),
        Err(RequestError::Loading),
        Err(RequestError::Unknown { term: Term(5), index: Index(900), position: Position(4000) }),
    ];
    let reply = |outcome| Outbound::ForwardReply(BatchReply { id: 77, outcome });
    let (group, kind) = (GroupId(4), RequestKind::Propose);
    let forward =
        RequestBatch { id: 77, group, epoch: GroupEpoch(6), term: Term(500), kind, requests };
    vec![
        ("heartbeat", heartbeat(None, None, Condition::default())),
        ("heartbeat-list", heartbeat(Some(list), Some(heartbeat_reply), condition)),
        ("forward", Outbound::Forward(forward)),
        ("reply-bounced", reply(BatchOutcome::Bounced)),
        ("reply-busy", reply(BatchOutcome::Busy)),
        ("reply-done", reply(BatchOutcome::Done(outcomes))),
    ]
}

fn hello(kind: Kind, encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let start = frame::open(&mut out);
    encode(&mut out);
    frame::close(&mut out, start, kind, Sequence(2001));
    out
}

fn generated() -> String {
    let mut text = String::from(
        "# Each frame has two lines: the fields that it carries, then its name and its bytes.\n",
    );
    let mut line = |name: &str, fields: &dyn std::fmt::Debug, bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("# {fields:?}\n{name} {hex}\n");
    };
    let wanted = PeerShard::new(NodeId(2), ShardId(0));
    let greeting = Hello { versions: VERSIONS, wanted, facts: facts() };
    line("hello", &greeting, &hello(Kind::Hello, |out| greeting.encode(out)));
    let accepted = HelloAnswer::Accepted { version: VERSIONS.1, facts: facts() };
    line("accepted", &accepted, &hello(Kind::HelloAnswer, |out| accepted.encode(out)));
    let refused = HelloAnswer::Refused(Refusal::NotMember { node: NodeId(9) });
    line("refused", &refused, &hello(Kind::HelloAnswer, |out| refused.encode(out)));
    let messages =
        wire::tests::samples().into_iter().map(|sample| ("message", Outbound::Message(sample)));
    for (name, item) in messages.chain(items()) {
        let mut outbox = Outbox::new(1 << 20, 1 << 20);
        outbox.push(&item, Sequence(7)).unwrap();
        line(name, &item, &outbox.take(Sequence(0x0102_0304)).expect("it waits"));
    }
    text
}

/// `PURLIN_BLESS=1` writes the file anew, for a change of the format that is meant.
#[test]
fn the_bytes_of_each_kind_of_frame_are_frozen() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/frames.txt");
    if std::env::var_os("PURLIN_BLESS").is_some() {
        std::fs::write(&path, generated()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), generated());
}
