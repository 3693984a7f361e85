//! Reads the items of a frame from outside, and writes them again. Pure.
//!
//! It is for tools that print a capture, and for checkers that see every message.

use crate::{
    codec::Malformed,
    forward::{BatchReply, RequestBatch},
    frame::{Frame, Kind},
    handshake::{Answer, Hello},
    heartbeat::Heartbeat,
    wire,
};
use purlin_rsm::{Envelope, NodeId};

/// What a frame carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// The dialler's first frame. `None` if it speaks no version that we know.
    Hello(Option<Box<Hello>>),
    /// The listener's answer to it.
    HelloAnswer(Box<Answer>),
    /// Messages between replicas.
    Messages(Vec<Envelope>),
    /// Heartbeats.
    Heartbeats(Vec<Heartbeat>),
    /// Requests of clients for the leader at the other side.
    Forwards(Vec<RequestBatch>),
    /// The outcomes of such requests.
    ForwardReplies(Vec<BatchReply>),
}

/// Reads the body of a frame that node `from` sends to node `to`.
pub fn content(frame: Frame, from: NodeId, to: NodeId) -> Result<Content, Malformed> {
    let body = frame.body;
    Ok(match frame.kind {
        Kind::Hello => Content::Hello(Hello::decode(body)?.ok().map(Box::new)),
        Kind::HelloAnswer => Content::HelloAnswer(Box::new(Answer::decode(body)?)),
        Kind::Messages => Content::Messages(wire::decode(body, from, to)?),
        Kind::Heartbeat => Content::Heartbeats(Heartbeat::decode(body)?),
        Kind::Forward => Content::Forwards(RequestBatch::decode(body)?),
        Kind::ForwardReply => Content::ForwardReplies(BatchReply::decode(body)?),
    })
}

/// The kind of the frame and the body that carry `content`. Nothing for a hello of a version that we do not
/// know.
pub fn body(content: &Content) -> Option<(Kind, Vec<u8>)> {
    let mut out = Vec::new();
    let kind = match content {
        Content::Hello(hello) => {
            hello.as_ref()?.encode(&mut out);
            Kind::Hello
        }
        Content::HelloAnswer(answer) => {
            answer.encode(&mut out);
            Kind::HelloAnswer
        }
        Content::Messages(envelopes) => {
            envelopes.iter().for_each(|envelope| wire::encode(&mut out, envelope));
            Kind::Messages
        }
        Content::Heartbeats(heartbeats) => {
            heartbeats.iter().for_each(|heartbeat| heartbeat.encode(&mut out));
            Kind::Heartbeat
        }
        Content::Forwards(batches) => {
            batches.iter().for_each(|batch| batch.encode(&mut out));
            Kind::Forward
        }
        Content::ForwardReplies(replies) => {
            replies.iter().for_each(|reply| reply.encode(&mut out));
            Kind::ForwardReply
        }
    };
    Some((kind, out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{GroupEpoch, GroupId, Index, Message, Sequence, Term};

    #[test]
    fn the_items_of_a_frame_are_read() {
        let (from, to) = (NodeId(1), NodeId(2));
        let message = Message::AppendReply { matched: Index(9) };
        let envelope = Envelope {
            from,
            to,
            group: GroupId(3),
            epoch: GroupEpoch::FIRST,
            term: Term(4),
            message,
        };
        let mut body = Vec::new();
        wire::encode(&mut body, &envelope);
        let frame = |kind, body: &[u8]| Frame {
            kind,
            durable: Sequence(0),
            body: bytes::Bytes::copy_from_slice(body),
        };
        let seen = content(frame(Kind::Messages, &body), from, to);
        let messages = Content::Messages(vec![envelope]);
        assert_eq!(seen.as_ref(), Ok(&messages));
        assert_eq!(super::body(&messages), Some((Kind::Messages, body.clone())));
        assert_eq!(super::body(&Content::Hello(None)), None);
        assert!(content(frame(Kind::Messages, &body[1..]), from, to).is_err());
        assert!(content(frame(Kind::HelloAnswer, &[7]), from, to).is_err());
    }
}
