//! What waits to be written to one peer: frames, built in place, so that one write carries many of
//! them. The outbox is bounded.
//!
//! Heartbeats have a place of their own, with a bound of its own, and go out first: data that waits
//! neither delays them by more than one piece nor takes their room.

use crate::{
    event::Outbound,
    frame,
    frame::{FRAME_BYTES, Kind},
    wire,
};
use purlin_rsm::Sequence;
use std::collections::VecDeque;

/// The frames of one peer that are not yet given to its connection.
pub(crate) struct Outbox {
    heartbeats: Frames,
    data: Frames,
    /// Bytes of data that the connection is writing.
    in_flight: usize,
    bytes_max: usize,
    frame_bytes_max: usize,
    /// Something was pushed since the last beat.
    has_spoken: bool,
    /// Data was refused for want of room, and nobody was told of room since.
    is_room_awaited: bool,
}

/// Why an outbox did not accept an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Full {
    /// Too many bytes wait already.
    Now,
    /// The item is longer than any frame.
    Always,
}

/// A piece ends with the frame that makes it longer than this. So a piece has at most this and one frame.
const PIECE_BYTES: usize = 1 << 20;
/// A buffer that a burst made larger than this is not kept.
const SPARE_BYTES_MAX: usize = 1 << 20;
/// While heartbeats of so many bytes wait, no further one is taken: these are those of many seconds. So a single one may
/// be longer, whatever waits before it: a list of many groups behind a frame without items.
const HEARTBEATS_BYTES_MAX: usize = 64 << 10;

impl Outbox {
    pub(crate) fn new(bytes_max: usize, frame_bytes_max: usize) -> Self {
        let (heartbeats, data) = (Frames::default(), Frames::default());
        Self {
            heartbeats,
            data,
            in_flight: 0,
            bytes_max,
            frame_bytes_max,
            has_spoken: false,
            is_room_awaited: false,
        }
    }

    /// Appends `item` to the open frame, if that frame holds items of the same kind and is short
    /// enough. Otherwise opens a new frame.
    pub(crate) fn push(&mut self, item: &Outbound, durable: Sequence) -> Result<(), Full> {
        let most = encoded_bytes_max(item);
        if most > self.frame_bytes_max {
            return Err(Full::Always);
        }
        let kind = kind(item);
        let is_data = kind != Kind::Heartbeat;
        // Data that is longer than the bound is accepted when nothing else waits: otherwise it could never be sent.
        let is_full = if is_data {
            let waiting = self.in_flight + self.data.waiting();
            waiting > 0 && waiting + frame::HEADER_BYTES + most > self.bytes_max
        } else {
            self.heartbeats.waiting() >= HEARTBEATS_BYTES_MAX
        };
        if is_full {
            purlin_rsm::sometimes!("outbox full");
            self.is_room_awaited |= is_data;
            return Err(Full::Now);
        }
        let frames = if is_data { &mut self.data } else { &mut self.heartbeats };
        frames.push(item, kind, most, durable);
        self.has_spoken = true;
        Ok(())
    }

    /// Says nothing, in a frame of its own, unless something was said since the last call: once in a beat, so that
    /// only a cut or a stopped process is silent.
    pub(crate) fn keep_alive(&mut self, durable: Sequence) -> bool {
        let is_silent = !std::mem::replace(&mut self.has_spoken, false);
        if is_silent && self.heartbeats.waiting() == 0 {
            self.heartbeats.open_frame(Kind::Heartbeat, 0, durable);
            return true;
        }
        false
    }

    /// Takes the next piece of what waits, in closed frames: heartbeats first. `written` must follow.
    pub(crate) fn take(&mut self, durable: Sequence) -> Option<Vec<u8>> {
        purlin_rsm::sometimes!(
            self.heartbeats.waiting() > 0 && self.data.waiting() > PIECE_BYTES,
            "heartbeat passes data that waits"
        );
        let (heartbeats, data) = (self.heartbeats.take(durable), self.data.take(durable));
        self.in_flight = data.as_ref().map_or(0, Vec::len);
        let (mut first, rest) = match (heartbeats, data) {
            (Some(first), Some(rest)) => (first, rest),
            (one, other) => return one.or(other),
        };
        first.extend_from_slice(&rest);
        Some(first)
    }

    /// The piece that `take` gave is written. Returns whether there is room for data that was refused: half of the
    /// outbox is empty. It is written to the end whatever comes, so that happens, or the connection ends.
    pub(crate) fn written(&mut self, mut piece: Vec<u8>) -> bool {
        self.in_flight = 0;
        piece.clear();
        if piece.capacity() <= SPARE_BYTES_MAX {
            self.data.spare = piece;
        }
        let has_room = self.data.waiting() <= self.bytes_max / 2;
        has_room && std::mem::take(&mut self.is_room_awaited)
    }

    /// Drops all that waits: the connection is lost.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.bytes_max, self.frame_bytes_max);
    }
}

/// Frames in the order in which they go out.
#[derive(Default)]
struct Frames {
    /// Pieces of closed frames, oldest first.
    pieces: VecDeque<Vec<u8>>,
    /// Their bytes.
    pieces_bytes: usize,
    /// The piece behind them: closed frames, and after them perhaps an open one.
    bytes: Vec<u8>,
    /// Where the open frame starts, and of which kind its items are.
    open: Option<(usize, Kind)>,
    /// The last buffer that was written. Its memory is used again.
    spare: Vec<u8>,
}

impl Frames {
    fn waiting(&self) -> usize {
        self.pieces_bytes + self.bytes.len()
    }

    fn push(&mut self, item: &Outbound, kind: Kind, most: usize, durable: Sequence) {
        self.open_frame(kind, most, durable);
        let before = self.bytes.len();
        encode(&mut self.bytes, item);
        let taken = self.bytes.len() - before;
        assert!(taken <= most, "an item took {taken} bytes where {most} were expected");
    }

    fn take(&mut self, durable: Sequence) -> Option<Vec<u8>> {
        if let Some(piece) = self.pieces.pop_front() {
            self.pieces_bytes -= piece.len();
            return Some(piece);
        }
        self.close_frame(durable);
        let spare = std::mem::take(&mut self.spare);
        let bytes = std::mem::replace(&mut self.bytes, spare);
        (!bytes.is_empty()).then_some(bytes)
    }

    fn open_frame(&mut self, kind: Kind, more: usize, durable: Sequence) {
        if let Some((start, open)) = self.open {
            let body = self.bytes.len() - start - frame::HEADER_BYTES;
            if open == kind && body + more <= FRAME_BYTES {
                return;
            }
            self.close_frame(durable);
        }
        if self.bytes.len() >= PIECE_BYTES {
            let piece = std::mem::take(&mut self.bytes);
            self.pieces_bytes += piece.len();
            self.pieces.push_back(piece);
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
    use crate::heartbeat::{Condition, Heartbeat};
    use crate::{
        forward::{BatchOutcome, BatchReply, RequestBatch},
        frame::Frame,
    };
    use bytes::Bytes;
    use purlin_rsm::{EpochTerm, GroupEpoch, GroupId, RequestKind, Term};

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

    fn heartbeat(groups: u32) -> Outbound {
        let pair = |group| (GroupId(group), EpochTerm::new(GroupEpoch::FIRST, Term(1)));
        let list = Some((1..=groups).map(pair).collect());
        let condition = Condition::default();
        Outbound::Heartbeat(Heartbeat { number: 1, fingerprint: 0, list, reply: None, condition })
    }

    fn kinds(bytes: &[u8]) -> Vec<Kind> {
        frames(bytes).iter().map(|frame| frame.kind).collect()
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
        let frames = frames(&outbox.take(Sequence(5)).unwrap());
        let kinds: Vec<_> = frames.iter().map(|frame| frame.kind).collect();
        assert_eq!(kinds, [Kind::Forward, Kind::ForwardReply, Kind::Forward]);
        assert_eq!(RequestBatch::decode(frames[0].body.clone()).unwrap().len(), 2);
        assert_eq!(frames[2].durable, Sequence(5));
        assert!(outbox.take(Sequence(5)).is_none());
    }

    #[test]
    fn a_frame_is_closed_before_it_gets_long() {
        let mut outbox = Outbox::new(16 << 20, 2 << 20);
        (0..100).for_each(|_| outbox.push(&command(10_000), Sequence(0)).unwrap());
        outbox.push(&command(1 << 20), Sequence(0)).unwrap();
        let mut frames = frames(&outbox.take(Sequence(0)).unwrap());
        while let Some(piece) = outbox.take(Sequence(0)) {
            frames.extend(self::frames(&piece));
        }
        assert!(frames.len() > 4 && frames.len() < 10, "{}", frames.len());
        assert!(frames.iter().rev().skip(1).all(|frame| frame.body.len() <= FRAME_BYTES));
    }

    /// Data that waits delays a heartbeat by the piece that is being written, and does not take its room.
    #[test]
    fn a_heartbeat_goes_out_before_data_that_waits_and_a_full_outbox_takes_it() {
        let mut outbox = Outbox::new(4 << 20, 2 << 20);
        while outbox.push(&command(600_000), Sequence(0)).is_ok() {}
        let piece = outbox.take(Sequence(0)).unwrap();
        assert_eq!(kinds(&piece), [Kind::Forward; 2]);
        assert_eq!(outbox.push(&command(600_000), Sequence(0)), Err(Full::Now));
        outbox.push(&heartbeat(1), Sequence(0)).unwrap();
        outbox.push(&heartbeat(2), Sequence(0)).unwrap();
        outbox.written(piece);
        let next = outbox.take(Sequence(0)).unwrap();
        assert_eq!(kinds(&next), [Kind::Heartbeat, Kind::Forward, Kind::Forward]);
        assert_eq!(Heartbeat::decode(frames(&next)[0].body.clone()).unwrap().len(), 2);
    }

    #[test]
    fn heartbeats_that_wait_have_a_bound_of_their_own() {
        let mut outbox = Outbox::new(1000, 1 << 20);
        let many = (0..100_000).take_while(|_| outbox.push(&heartbeat(1), Sequence(0)).is_ok());
        let (many, bytes) = (many.count(), outbox.heartbeats.waiting());
        assert!(bytes <= HEARTBEATS_BYTES_MAX + 200, "{bytes}");
        assert!(many > 600, "{many} heartbeats are those of a minute");
        outbox.push(&command(600), Sequence(0)).expect("they take no room of the data");
        outbox.clear();
        outbox.push(&heartbeat(50_000), Sequence(0)).expect("a long one, alone");
        assert_eq!(outbox.push(&heartbeat(1), Sequence(0)), Err(Full::Now));
    }

    /// At each beat a pair that is silent says so before its heartbeat is made. So a long list would never go out.
    #[test]
    fn a_long_heartbeat_is_taken_behind_a_frame_without_items() {
        let mut outbox = Outbox::new(1000, 1 << 20);
        assert!(outbox.keep_alive(Sequence(0)));
        outbox.push(&heartbeat(50_000), Sequence(0)).expect("a long one");
        let frames = frames(&outbox.take(Sequence(0)).unwrap());
        let lists = frames.iter().flat_map(|frame| Heartbeat::decode(frame.body.clone()).unwrap());
        assert_eq!(lists.filter_map(|it| it.list).map(|it| it.len()).sum::<usize>(), 50_000);
    }

    #[test]
    fn in_a_beat_without_items_one_frame_without_items_goes_out() {
        let mut outbox = Outbox::new(1000, 1 << 20);
        outbox.push(&command(1), Sequence(0)).unwrap();
        assert!(!outbox.keep_alive(Sequence(0)), "something was said");
        outbox.take(Sequence(0)).unwrap();
        assert!(outbox.keep_alive(Sequence(0)));
        assert!(!outbox.keep_alive(Sequence(0)), "one waits already");
        let frames = frames(&outbox.take(Sequence(7)).unwrap());
        assert_eq!(frames.len(), 1);
        assert_eq!((frames[0].kind, frames[0].durable), (Kind::Heartbeat, Sequence(7)));
        assert_eq!(Heartbeat::decode(frames[0].body.clone()).unwrap(), []);
    }

    #[test]
    fn a_frame_is_filled_to_its_last_byte() {
        for (over, count) in [(0, 1), (1, 2)] {
            let mut outbox = Outbox::new(1 << 20, 1 << 20);
            outbox.push(&command(1000), Sequence(0)).unwrap();
            let body = outbox.data.bytes.len() - frame::HEADER_BYTES;
            let rest = FRAME_BYTES - body - encoded_bytes_max(&command(0));
            outbox.push(&command(rest + over), Sequence(0)).unwrap();
            assert_eq!(frames(&outbox.take(Sequence(0)).unwrap()).len(), count);
        }
    }

    #[test]
    fn an_outbox_is_filled_to_its_last_byte() {
        let item = command(600);
        let mut measured = Outbox::new(1 << 20, 1 << 20);
        measured.push(&item, Sequence(0)).unwrap();
        let bound = measured.data.bytes.len() + frame::HEADER_BYTES + encoded_bytes_max(&item);
        for (bytes_max, expected) in [(bound, Ok(())), (bound - 1, Err(Full::Now))] {
            let mut outbox = Outbox::new(bytes_max, 1 << 20);
            outbox.push(&item, Sequence(0)).unwrap();
            assert_eq!(outbox.push(&item, Sequence(0)), expected);
        }
    }

    #[test]
    fn bytes_that_wait_or_are_being_written_are_bounded() {
        let mut outbox = Outbox::new(1000, 1 << 20);
        outbox.push(&command(600), Sequence(0)).unwrap();
        assert_eq!(outbox.push(&command(600), Sequence(0)), Err(Full::Now));
        let piece = outbox.take(Sequence(0)).unwrap();
        assert_eq!(outbox.push(&command(600), Sequence(0)), Err(Full::Now));
        outbox.written(piece);
        outbox.push(&command(600), Sequence(0)).unwrap();
        outbox.clear();
        outbox.push(&command(5000), Sequence(0)).unwrap();
        assert_eq!(outbox.push(&command(2 << 20), Sequence(0)), Err(Full::Always));
    }

    /// Whoever was refused hears of room once, when half of it is free. An item that finds no room even then is
    /// refused again, and hears of it again.
    #[test]
    fn room_is_told_once_to_whoever_was_refused() {
        let mut outbox = Outbox::new(8 << 20, 16 << 20);
        let write = |outbox: &mut Outbox| {
            let piece = outbox.take(Sequence(0)).expect("something waits");
            outbox.written(piece)
        };
        outbox.push(&command(100), Sequence(0)).unwrap();
        assert!(!write(&mut outbox), "nobody was refused");
        while outbox.push(&command(900_000), Sequence(0)).is_ok() {}
        let told: Vec<bool> =
            std::iter::from_fn(|| (outbox.data.waiting() > 0).then(|| write(&mut outbox)))
                .collect();
        assert_eq!(told.iter().filter(|is_told| **is_told).count(), 1, "{told:?}");
        assert_eq!(told.first(), Some(&false), "too little is free");
        outbox.push(&command(100), Sequence(0)).unwrap();
        assert_eq!(outbox.push(&command((8 << 20) - 100), Sequence(0)), Err(Full::Now));
        assert!(write(&mut outbox));
        outbox.push(&command((8 << 20) - 100), Sequence(0)).expect("it is alone");
        assert_eq!(outbox.push(&command(100), Sequence(0)), Err(Full::Now));
        outbox.clear();
        outbox.push(&command(100), Sequence(0)).unwrap();
        assert!(!write(&mut outbox), "it is another connection");
    }
}
