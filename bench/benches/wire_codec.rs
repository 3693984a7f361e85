//! What messages between replicas cost on their way into a frame and out of it again, without a
//! network: the append messages of many groups, which one turn of a shard sends to one peer.
//!
//! Encoding is what the exchanger does for one frame, its checksum included; decoding takes the bytes
//! as they are read from a connection, checks them and gives the envelopes back.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use purlin_rsm::{
    Entry, EntryId, Envelope, GroupEpoch, GroupId, Index, Message, NodeId, Payload, Position,
    Sequence, Term,
};
use purlin_transport::{
    frame::{self, Decoder, Kind},
    wire,
};
use std::hint::black_box;

const GROUPS: u32 = 48;
const LEADER: NodeId = NodeId(1);
const FOLLOWER: NodeId = NodeId(2);
/// As in the exchanger's default.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// One append for each group, of so many entries with commands of so many bytes.
fn appends(entries: u64, command_bytes: usize) -> Vec<Envelope> {
    let term = Term(7);
    let of_group = |group| {
        let prev = EntryId::new(term, Index(100_000 + u64::from(group)));
        let entry = |step| Entry {
            term,
            index: Index(prev.index.0 + step),
            before: Position(100_000 + step - 1),
            payload: Payload::command(Bytes::from(vec![group as u8; command_bytes])),
        };
        let entries = (1..=entries).map(entry).collect();
        let message = Message::Append { prev, entries, committed: prev.index };
        let (group, epoch) = (GroupId(group), GroupEpoch::FIRST);
        Envelope { from: LEADER, to: FOLLOWER, group, epoch, term, message }
    };
    (1..=GROUPS).map(of_group).collect()
}

/// Makes `out` one frame with all of them.
fn encode(out: &mut Vec<u8>, envelopes: &[Envelope]) {
    out.clear();
    let start = frame::open(out);
    for envelope in envelopes {
        wire::encode(out, envelope);
    }
    frame::close(out, start, Kind::Messages, Sequence(1));
}

/// Takes the bytes of one frame in, as from a connection, and its envelopes out.
fn decode(decoder: &mut Decoder, mut bytes: &[u8]) -> Vec<Envelope> {
    while !bytes.is_empty() {
        let space = decoder.space();
        let (now, later) = bytes.split_at(space.len().min(bytes.len()));
        space[..now.len()].copy_from_slice(now);
        decoder.filled(now.len());
        bytes = later;
    }
    let frame = decoder.next().expect("the frame is sound").expect("and whole");
    wire::decode(frame.body, LEADER, FOLLOWER).expect("its envelopes are too")
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut benches = criterion.benchmark_group("wire_codec");
    for (entries, command_bytes) in [(1, 16), (16, 16), (1, 1024)] {
        let envelopes = appends(entries, command_bytes);
        let mut bytes = Vec::new();
        encode(&mut bytes, &envelopes);
        let mut decoder = Decoder::new(FRAME_BYTES_MAX);
        assert_eq!(decode(&mut decoder, &bytes), envelopes);

        let name = format!("{GROUPS}x{entries}x{command_bytes}B");
        benches.throughput(Throughput::Elements(u64::from(GROUPS) * entries));
        benches.bench_function(BenchmarkId::new("encode", &name), |bencher| {
            let mut out = Vec::new();
            bencher.iter(|| encode(black_box(&mut out), &envelopes));
        });
        benches.bench_function(BenchmarkId::new("decode", &name), |bencher| {
            bencher.iter(|| decode(&mut decoder, black_box(&bytes)));
        });
    }
    benches.finish();
    criterion.final_summary();
}
