//! The streams of bytes that leave the nodes, divided into frames and their items.

use crate::sim::SeenBytes;
use purlin_rsm::{NodeId, Sequence};
use purlin_transport::{
    HelloAnswer, PeerShard,
    frame::Decoder,
    inspect::{self, Content},
};
use std::collections::BTreeMap;

/// All streams, by connection and side.
#[derive(Default)]
pub(crate) struct Streams {
    open: BTreeMap<(u64, usize), Stream>,
    /// The newest connection from one shard to another.
    newest: BTreeMap<(PeerShard, PeerShard), u64>,
}

struct Stream {
    decoder: Decoder,
    from: NodeId,
    /// The shard that sends; nothing before its first frame.
    sender: Option<PeerShard>,
}

/// A frame that left a node.
pub(crate) struct Told {
    pub(crate) sender: PeerShard,
    pub(crate) durable: Sequence,
    pub(crate) content: Content,
}

/// The audit reads what a node sends, however long it is.
const BODY_BYTES_MAX: usize = 1 << 30;

impl Streams {
    /// More bytes of a stream: the frames that are complete with them, or what is wrong with it.
    pub(crate) fn take(&mut self, sent: &SeenBytes<'_>) -> Result<Vec<Told>, String> {
        let key = (sent.connection, sent.side);
        let fresh =
            || Stream { decoder: Decoder::new(BODY_BYTES_MAX), from: sent.from, sender: None };
        let stream = self.open.entry(key).or_insert_with(fresh);
        let (mut told, mut bytes) = (Vec::new(), sent.bytes);
        while !bytes.is_empty() {
            let space = stream.decoder.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            stream.decoder.filled(count);
            bytes = &bytes[count..];
            while let Some(frame) = stream.decoder.next().map_err(|error| error.to_string())? {
                let durable = frame.durable;
                let content = inspect::content(frame, sent.from, sent.to);
                let content = content.map_err(|error| error.to_string())?;
                let sender = match &content {
                    Content::Hello(Some(hello)) => Some(hello.facts.pair()),
                    Content::HelloAnswer(answer) => match &**answer {
                        HelloAnswer::Accepted { facts, .. } => Some(facts.pair()),
                        HelloAnswer::Refused(_) => None,
                    },
                    _ => stream.sender,
                };
                stream.sender = sender;
                if let Some(sender) = sender {
                    told.push(Told { sender, durable, content });
                }
            }
        }
        self.forget_replaced(key, &told);
        Ok(told)
    }

    /// The process has ended, and its streams with it.
    pub(crate) fn ended(&mut self, node: NodeId) {
        self.open.retain(|_, stream| stream.from != node);
    }

    /// An answer is the last that goes its way, and a shard dials another again when the connection
    /// before is over.
    fn forget_replaced(&mut self, key: (u64, usize), told: &[Told]) {
        for Told { sender, content, .. } in told {
            match content {
                Content::Hello(Some(hello)) => {
                    let replaced = self.newest.insert((*sender, hello.wanted), key.0);
                    if let Some(replaced) = replaced.filter(|replaced| *replaced != key.0) {
                        self.open.remove(&(replaced, key.1));
                    }
                }
                Content::HelloAnswer(_) => drop(self.open.remove(&key)),
                _ => {}
            }
        }
    }
}
