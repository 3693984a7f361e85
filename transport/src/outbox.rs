//! What waits to be written to one peer: frames, built in place, so that one write carries all of
//! them. The outbox is bounded.

use crate::{
    event::Outbound,
    frame,
    frame::{FRAME_BYTES, Kind},
    wire,
};
use purlin_rsm::Sequence;

/// The frames of one peer that are not yet given to its connection.
pub(crate) struct Outbox {
    /// Closed frames, and after them perhaps an open one.
    bytes: Vec<u8>,
    /// Where the open frame starts, and of which kind its items are.
    open: Option<(usize, Kind)>,
    /// Bytes that the connection is writing.
    in_flight: usize,
    /// The last buffer that was written. Its memory is used again.
    spare: Vec<u8>,
    bytes_max: usize,
    frame_bytes_max: usize,
}

/// Why an outbox did not accept an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Full {
    /// Too many bytes wait already.
    Now,
    /// The item is longer than any frame.
    Always,
}

/// A buffer that a burst made larger than this is not kept.
const SPARE_BYTES_MAX: usize = 1 << 20;

impl Outbox {
    pub(crate) fn new(bytes_max: usize, frame_bytes_max: usize) -> Self {
        let (bytes, spare) = (Vec::new(), Vec::new());
        Self { bytes, open: None, in_flight: 0, spare, bytes_max, frame_bytes_max }
    }

    /// Appends `item` to the open frame, if that frame holds items of the same kind and is short
    /// enough. Otherwise opens a new frame.
    pub(crate) fn push(&mut self, item: &Outbound, durable: Sequence) -> Result<(), Full> {
        let most = encoded_bytes_max(item);
        if most > self.frame_bytes_max {
            return Err(Full::Always);
        }
        let waiting = self.in_flight + self.bytes.len();
        // An item that is longer than the bound is accepted when nothing else waits: otherwise it
        // could never be sent.
        if waiting > 0 && waiting + frame::HEADER_BYTES + most > self.bytes_max {
            purlin_rsm::sometimes!("outbox full");
            return Err(Full::Now);
        }
        self.open_frame(kind(item), most, durable);
        let before = self.bytes.len();
        encode(&mut self.bytes, item);
        let taken = self.bytes.len() - before;
        assert!(taken <= most, "an item took {taken} bytes where {most} were expected");
        Ok(())
    }

    /// Takes all that waits, in closed frames. `written` must follow.
    pub(crate) fn take(&mut self, durable: Sequence) -> Vec<u8> {
        self.close_frame(durable);
        self.in_flight = self.bytes.len();
        std::mem::replace(&mut self.bytes, std::mem::take(&mut self.spare))
    }

    /// The bytes that `take` gave are written.
    pub(crate) fn written(&mut self, mut bytes: Vec<u8>) {
        self.in_flight = 0;
        bytes.clear();
        if bytes.capacity() <= SPARE_BYTES_MAX {
            self.spare = bytes;
        }
    }

    /// Drops all that waits: the connection is lost.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.bytes_max, self.frame_bytes_max);
    }

    fn open_frame(&mut self, kind: Kind, more: usize, durable: Sequence) {
        if let Some((start, open)) = self.open {
            let body = self.bytes.len() - start - frame::HEADER_BYTES;
            if open == kind && body + more <= FRAME_BYTES {
                return;
            }
            self.close_frame(durable);
        }
        self.open = Some((frame::open(&mut self.bytes), kind));
    }

    fn close_frame(&mut self, durable: Sequence) {
        if let Some((start, kind)) = self.open.take() {
            frame::close(&mut self.bytes, start, kind, durable);
        }
    }
}

fn kind(item: &Outbound) -> Kind {
    match item {
        Outbound::Message(_) => Kind::Messages,
        Outbound::Heartbeat(_) => Kind::Heartbeat,
        Outbound::Forward(_) => Kind::Forward,
        Outbound::ForwardReply(_) => Kind::ForwardReply,
    }
}

fn encoded_bytes_max(item: &Outbound) -> usize {
    match item {
        Outbound::Message(envelope) => wire::encoded_bytes_max(envelope),
        Outbound::Heartbeat(heartbeat) => heartbeat.encoded_bytes_max(),
        Outbound::Forward(forward) => forward.encoded_bytes_max(),
        Outbound::ForwardReply(reply) => reply.encoded_bytes_max(),
    }
}

fn encode(out: &mut Vec<u8>, item: &Outbound) {
    match item {
        Outbound::Message(envelope) => wire::encode(out, envelope),
        Outbound::Heartbeat(heartbeat) => heartbeat.encode(out),
        Outbound::Forward(forward) => forward.encode(out),
        Outbound::ForwardReply(reply) => reply.encode(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        forward::{BatchOutcome, BatchReply, RequestBatch},
        frame::Frame,
    };
    use bytes::Bytes;
    use purlin_rsm::{GroupEpoch, GroupId, RequestKind, Term};

    fn command(length: usize) -> Outbound {
        Outbound::Forward(RequestBatch {
            id: 1,
            group: GroupId(1),
            epoch: GroupEpoch::FIRST,
            term: Term(0),
            kind: RequestKind::Propose,
            requests: vec![Bytes::from(vec![7; length])],
        })
    }

    fn busy() -> Outbound {
        Outbound::ForwardReply(BatchReply { id: 1, outcome: BatchOutcome::Busy })
    }

    fn frames(bytes: &[u8]) -> Vec<Frame> {
        frame::tests::decode(16 << 20, [bytes]).expect("frames")
    }

    #[test]
    fn items_of_a_kind_share_a_frame_and_order_is_kept() {
        let mut outbox = Outbox::new(1 << 20, 1 << 20);
        for item in [command(1), command(2), busy(), busy(), command(3)] {
            outbox.push(&item, Sequence(4)).unwrap();
        }
        let frames = frames(&outbox.take(Sequence(5)));
        let kinds: Vec<_> = frames.iter().map(|frame| frame.kind).collect();
        assert_eq!(kinds, [Kind::Forward, Kind::ForwardReply, Kind::Forward]);
        assert_eq!(RequestBatch::decode(frames[0].body.clone()).unwrap().len(), 2);
        assert_eq!(frames[2].durable, Sequence(5));
        assert!(outbox.bytes.is_empty());
    }

    #[test]
    fn a_frame_is_closed_before_it_gets_long() {
        let mut outbox = Outbox::new(16 << 20, 2 << 20);
        (0..100).for_each(|_| outbox.push(&command(10_000), Sequence(0)).unwrap());
        outbox.push(&command(1 << 20), Sequence(0)).unwrap();
        let frames = frames(&outbox.take(Sequence(0)));
        assert!(frames.len() > 4 && frames.len() < 10, "{}", frames.len());
        assert!(frames.iter().rev().skip(1).all(|frame| frame.body.len() <= FRAME_BYTES));
    }

    #[test]
    fn what_waits_and_what_is_being_written_is_bounded() {
        let mut outbox = Outbox::new(1000, 1 << 20);
        outbox.push(&command(600), Sequence(0)).unwrap();
        assert_eq!(outbox.push(&command(600), Sequence(0)), Err(Full::Now));
        let bytes = outbox.take(Sequence(0));
        assert_eq!(outbox.push(&command(600), Sequence(0)), Err(Full::Now));
        outbox.written(bytes);
        outbox.push(&command(600), Sequence(0)).unwrap();
        outbox.clear();
        outbox.push(&command(5000), Sequence(0)).unwrap();
        assert_eq!(outbox.push(&command(2 << 20), Sequence(0)), Err(Full::Always));
    }
}
