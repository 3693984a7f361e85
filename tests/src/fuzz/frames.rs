//! Frames of peers.

use super::cost::bounded;
use bytes::Bytes;
use purlin_rsm::{NodeId, Sequence};
use purlin_transport::{
    HelloAnswer, Malformed,
    frame::{self, Decoder, Frame, Kind},
    inspect::{self, Content},
};

const FROM: NodeId = NodeId(1);
const TO: NodeId = NodeId(2);
/// The longest body.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The first byte is the kind of a frame, whose body the rest is; of another kind, the rest is what a peer
/// sends, checksums and all. Cuts change nothing, and what was read and is written again is read again.
pub fn frames(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let kinds = [
        Kind::Hello,
        Kind::HelloAnswer,
        Kind::Messages,
        Kind::Heartbeat,
        Kind::Forward,
        Kind::ForwardReply,
    ];
    match kinds.into_iter().find(|kind| *kind as u8 == first) {
        Some(kind) => body(kind, rest),
        None => stream(rest),
    }
}

fn stream(input: &[u8]) {
    // Frames share the buffer that they came in; one read takes 128 KiB.
    let whole = bounded(input.len(), 4, 512 << 10, || decode(input, input.len()));
    assert_eq!(decode(input, 7), whole, "cut in pieces");
    for frame in whole.0 {
        read(frame);
    }
}

fn body(kind: Kind, body: &[u8]) {
    let frame = framed(kind, Sequence(7), body);
    let (mut frames, error) = decode(&frame, frame.len());
    assert_eq!((frames.len(), error), (1, None));
    let frame = frames.remove(0);
    assert_eq!((frame.kind, frame.durable, &frame.body[..]), (kind, Sequence(7), body));
    read(frame);
}

/// A frame as a peer sends it.
pub fn framed(kind: Kind, durable: Sequence, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let start = frame::open(&mut out);
    out.extend_from_slice(body);
    frame::close(&mut out, start, kind, durable);
    out
}

fn read(frame: Frame) {
    let kind = frame.kind;
    // An entry of one byte has 64 in memory, in a list that doubles as it grows.
    let content = bounded(frame.body.len(), 256, 4 << 10, || inspect::content(frame, FROM, TO));
    let Ok(content) = content else { return };
    if let Content::HelloAnswer(answer) = &content
        && let HelloAnswer::Refused(refusal) = &**answer
    {
        let text = refusal.to_string();
        assert!(text.len() < 2_000, "{text}");
    }
    let Some((kind_again, body)) = inspect::body(&content) else { return };
    assert_eq!(kind_again, kind);
    let body = Bytes::from(body);
    let again = inspect::content(Frame { kind, durable: Sequence(0), body }, FROM, TO);
    assert_eq!(again, Ok(content), "written again");
}

/// The frames of a stream that comes in pieces of `piece` bytes, and the error at which it ends.
fn decode(input: &[u8], piece: usize) -> (Vec<Frame>, Option<Malformed>) {
    let mut decoder = Decoder::new(BODY_BYTES_MAX);
    let mut frames = Vec::new();
    for mut piece in input.chunks(piece.max(1)) {
        while !piece.is_empty() {
            let space = decoder.space();
            let count = space.len().min(piece.len());
            space[..count].copy_from_slice(&piece[..count]);
            decoder.filled(count);
            piece = &piece[count..];
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
    }
    (frames, None)
}
