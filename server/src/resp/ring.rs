//! The replies of a connection in the order of its requests, though groups finish in any order.
//!
//! ```text
//!   first                                        next
//!     │ answered │ waiting │ text │ gather 2 of 3 │
//!     └─ drained into the output as far as nothing waits
//! ```
//!
//! A request's tag is its place since the connection began, and for a request that was split over
//! groups the number of the part: `place << 16 | part`.
//!
//! What it holds has bounds: requests and parts in flight and their bytes, replies that wait. A bound may be
//! exceeded by one request, or one reply.

use super::{
    gather::Gather,
    reply::{Protocol, Reply},
    words,
};
use bytes::{Bytes, BytesMut};
use purlin::{GroupId, Outcome};
use purlin_kv::KvOutcome;
use std::{collections::VecDeque, ops::Range};

const PART_BITS: u32 = 16;

/// Requests that a connection may have in flight before anything is known of the size of its answers.
const UNKNOWN_MAX: usize = 64;

/// Bytes of requests that a connection may have in flight: an eighth of what a shard takes by default.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Parts that a connection may have in flight, for each request that it may have.
const PARTS_EACH: usize = 4;

/// What goes out at a time, in bytes; the last reply may be longer.
const PIECE_BYTES: usize = 64 << 10;

/// About what a part of a request takes in memory beside its bytes and its slot.
const PART_BYTES: usize = 128;

/// What a connection may keep waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RingLimits {
    pub(super) requests_max: usize,
    pub(super) bytes_max: usize,
}

/// The replies that are still to be written, first come first.
pub(super) struct Ring {
    limits: RingLimits,
    /// The place of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// What is ready to go out.
    output: BytesMut,
    /// Bytes of answers that wait in slots for an earlier one.
    held_bytes: usize,
    /// Requests, or parts of them, that are not answered yet.
    in_flight: usize,
    /// Bytes of the requests that are not answered yet.
    request_bytes: usize,
    /// About the longest of the latest answers: what each request in flight may bring.
    answer_bytes: usize,
}

/// Where one reply will come from.
enum Slot {
    /// A group that has not answered yet.
    Waiting(Asked),
    /// A group that has.
    Answered { asked: Asked, result: Outcome },
    /// Several groups.
    Gather { gather: Box<Gather>, protocol: Protocol, bytes: usize },
    /// This connection itself.
    Text(BytesMut),
}

/// A request to one group.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) group: GroupId,
    /// Whether it changes nothing.
    pub(super) is_read: bool,
    /// How long it is.
    pub(super) bytes: usize,
    /// How the reply is written.
    pub(super) protocol: Protocol,
}

impl Ring {
    pub(super) fn new(limits: RingLimits) -> Self {
        Self {
            limits,
            first: 0,
            slots: VecDeque::new(),
            output: BytesMut::new(),
            held_bytes: 0,
            in_flight: 0,
            request_bytes: 0,
            answer_bytes: limits.bytes_max / UNKNOWN_MAX,
        }
    }

    /// Whether another request may be taken in.
    pub(super) fn has_room(&self) -> bool {
        let bytes = self.reply_bytes() + self.in_flight * self.answer_bytes;
        let is_idle = self.slots.is_empty() && self.output.is_empty();
        is_idle
            || (self.slots.len() < self.limits.requests_max
                && self.in_flight < PARTS_EACH * self.limits.requests_max
                && self.request_bytes < REQUEST_BYTES_MAX
                && bytes < self.limits.bytes_max)
    }

    /// Bytes of replies that wait.
    fn reply_bytes(&self) -> usize {
        self.output.len() + self.held_bytes
    }

    /// About what it takes in memory, in bytes.
    pub(super) fn memory(&self) -> usize {
        let parts = self.in_flight * PART_BYTES;
        self.output.capacity() + self.slot_bytes() + self.held_bytes + self.request_bytes + parts
    }

    fn slot_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// What it would give back, in bytes.
    pub(super) fn spare_bytes(&self) -> usize {
        let output = if self.output.is_empty() { self.output.capacity() } else { 0 };
        output + if self.slots.is_empty() { self.slot_bytes() } else { 0 }
    }

    /// Gives back what nothing is in.
    pub(super) fn give_back(&mut self) {
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        if self.slots.is_empty() {
            self.slots = VecDeque::new();
        }
    }

    /// Whose answers have room: `None` when all have. When as many bytes wait as may, only the first request's,
    /// without which nothing can go out.
    pub(super) fn wanted(&self) -> Option<Range<u64>> {
        let is_full = self.reply_bytes() >= self.limits.bytes_max;
        is_full.then(|| self.first << PART_BITS..(self.first + 1) << PART_BITS)
    }

    /// Takes in a request that this connection answers itself, by `write`.
    pub(super) fn answer<T>(&mut self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        if self.slots.is_empty() {
            return write(&mut self.output);
        }
        let mut text = BytesMut::new();
        let written = write(&mut text);
        self.held_bytes += text.len();
        self.slots.push_back(Slot::Text(text));
        written
    }

    /// Takes in a request to one group, and gives its tag.
    pub(super) fn expect(&mut self, asked: Asked) -> u64 {
        self.in_flight += 1;
        self.request_bytes += asked.bytes;
        self.push(Slot::Waiting(asked))
    }

    /// Takes in a request of so many bytes to several groups, and gives the tag of its first part; the others
    /// follow.
    pub(super) fn expect_all(&mut self, gather: Gather, protocol: Protocol, bytes: usize) -> u64 {
        assert!(gather.waiting() < 1 << PART_BITS, "{} parts", gather.waiting());
        self.in_flight += gather.waiting();
        self.request_bytes += bytes;
        self.push(Slot::Gather { gather: Box::new(gather), protocol, bytes })
    }

    /// A group has answered the request with this tag.
    pub(super) fn complete(&mut self, tag: u64, result: Outcome) {
        let len = result.as_ref().map_or(0, Bytes::len);
        self.in_flight -= 1;
        self.held_bytes += len;
        self.answer_bytes = len.max(self.answer_bytes - self.answer_bytes / 16);

        let place = (tag >> PART_BITS).checked_sub(self.first).map(|place| place as usize);
        let part = tag as usize & ((1 << PART_BITS) - 1);
        let slot = place.and_then(|place| self.slots.get_mut(place));
        match slot {
            Some(Slot::Gather { gather, bytes, .. }) => {
                self.held_bytes -= gather.complete(part, result);
                if gather.waiting() == 0 {
                    self.request_bytes -= *bytes;
                }
            }
            Some(slot) => {
                let Slot::Waiting(asked) = *slot else {
                    panic!("the request with tag {tag} completed twice");
                };
                self.request_bytes -= asked.bytes;
                *slot = Slot::Answered { asked, result };
            }
            None => panic!("no request with tag {tag} waits: completed twice, or never submitted"),
        }
    }

    /// Exchanges `output`, which must be empty, for what is ready to go out: [`PIECE_BYTES`] and a reply at
    /// most, so that no reply is copied long before it is written.
    pub(super) fn take_output(&mut self, output: &mut BytesMut) {
        assert!(output.is_empty(), "{} bytes would be lost", output.len());
        self.drain();
        std::mem::swap(&mut self.output, output);
    }

    /// Whether something is ready to go out.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty() || self.slots.front().is_some_and(Slot::is_complete)
    }

    /// Whether nothing waits any more, in slots or to go out.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.output.is_empty()
    }

    fn push(&mut self, slot: Slot) -> u64 {
        let place = self.first + self.slots.len() as u64;
        self.slots.push_back(slot);
        place << PART_BITS
    }

    fn drain(&mut self) {
        while self.output.len() < PIECE_BYTES && self.slots.front().is_some_and(Slot::is_complete) {
            let slot = self.slots.pop_front().expect("it was just looked at");
            self.first += 1;
            self.held_bytes -= slot.held_bytes();
            slot.write(&mut self.output);
        }
    }
}

impl Slot {
    fn is_complete(&self) -> bool {
        match self {
            Self::Waiting(_) => false,
            Self::Gather { gather, .. } => gather.waiting() == 0,
            Self::Answered { .. } | Self::Text(_) => true,
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Waiting(_) => 0,
            Self::Answered { result, .. } => result.as_ref().map_or(0, Bytes::len),
            Self::Gather { gather, .. } => gather.held_bytes(),
            Self::Text(text) => text.len(),
        }
    }

    fn write(&self, output: &mut BytesMut) {
        match self {
            Self::Text(text) => output.extend_from_slice(text),
            Self::Gather { gather, protocol, .. } => {
                gather.write(&mut Reply::new(output, *protocol))
            }
            Self::Answered { asked, result } => {
                let mut reply = Reply::new(output, asked.protocol);
                match result {
                    Ok(outcome) => write_outcome(&mut reply, *asked, outcome),
                    Err(error) => {
                        reply.error(words::request_error(asked.group, asked.is_read, error));
                    }
                }
            }
            Self::Waiting(_) => unreachable!("only what is complete is written"),
        }
    }
}

/// Writes what a group's machine answered.
fn write_outcome(reply: &mut Reply<'_>, asked: Asked, outcome: &[u8]) {
    match KvOutcome::decode(outcome) {
        Ok(KvOutcome::Nil) => reply.nil(),
        Ok(KvOutcome::Ok) => reply.ok(),
        Ok(KvOutcome::Integer(number)) => reply.integer(number),
        Ok(KvOutcome::Bytes(value)) => reply.bulk(value),
        Ok(KvOutcome::Error(text)) => reply.error(text),
        Ok(KvOutcome::Array(values)) => {
            reply.array(values.len());
            for value in values.iter() {
                match value {
                    Some(value) => reply.bulk(value),
                    None => reply.nil(),
                }
            }
        }
        Err(_) => reply.error(words::strange_outcome(asked.group, asked.is_read)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::resp::gather::Splittable;

    const LIMITS: RingLimits = RingLimits { requests_max: 1000, bytes_max: 64 << 10 };

    /// Takes in requests until there is no more room, and gives how many.
    fn fill(ring: &mut Ring) -> usize {
        let mut count = 0;
        while ring.has_room() {
            ring.expect(asked(0));
            count += 1;
        }
        count
    }

    fn asked(bytes: usize) -> Asked {
        Asked { group: GroupId(1), is_read: true, bytes, protocol: Protocol::default() }
    }

    #[test]
    fn a_connection_has_a_bound_on_the_parts_and_bytes_in_flight() {
        let limits = RingLimits { requests_max: 10, bytes_max: usize::MAX };
        let mut ring = Ring::new(limits);
        while ring.has_room() {
            let groups = (1..=16).map(GroupId).collect();
            ring.expect_all(Gather::all(Splittable::Count, groups).0, Protocol::default(), 0);
        }
        assert!((40..40 + 16).contains(&ring.in_flight), "{} parts", ring.in_flight);
        let mut ring = Ring::new(limits);
        while ring.has_room() {
            ring.expect(asked(3 << 20));
        }
        assert_eq!(ring.request_bytes, 9 << 20, "a command more than 8 MiB at most");
        let memory = ring.memory();
        for place in 0..3 {
            ring.complete(place << PART_BITS, Ok(KvOutcome::Ok.encode()));
        }
        assert!(ring.has_room() && memory > 9 << 20 && ring.memory() < 1 << 10);
    }

    /// What a pipeline or a long reply took goes with it; what is under way stays.
    #[test]
    fn an_idle_connection_holds_no_memory_for_replies() {
        let mut ring = Ring::new(LIMITS);
        let count = fill(&mut ring) as u64;
        assert_eq!(ring.spare_bytes(), 0, "requests wait");
        for place in 0..count {
            ring.complete(place << PART_BITS, Ok(KvOutcome::Bytes(&[0; 200]).encode()));
        }
        let mut output = BytesMut::new();
        ring.take_output(&mut output);
        ring.answer(|out| out.extend_from_slice(&[0; 100 << 10]));
        ring.give_back();
        let mut next = BytesMut::new();
        ring.take_output(&mut next);
        assert_eq!(next.len(), 100 << 10, "a reply that was not taken");
        ring.give_back();
        assert_eq!((ring.spare_bytes(), ring.memory()), (0, 0));
    }

    /// Behind a reply that is late no others pile up, and the late one is always wanted.
    #[test]
    fn when_as_many_replies_wait_as_may_only_the_first_is_wanted() {
        let mut ring = Ring::new(LIMITS);
        for _ in 0..6 {
            ring.expect(asked(0));
        }
        let complete = |ring: &mut Ring, place: u64| {
            let value = KvOutcome::Bytes(&[0; 40 << 10]).encode();
            ring.complete(place << PART_BITS, Ok(value));
        };
        complete(&mut ring, 1);
        assert_eq!(ring.wanted(), None);
        complete(&mut ring, 2);
        let first = |place: u64| Some(place << PART_BITS..(place + 1) << PART_BITS);
        assert_eq!(ring.wanted(), first(0));
        complete(&mut ring, 0);
        let mut output = BytesMut::new();
        ring.take_output(&mut output);
        assert!(output.len() < PIECE_BYTES + (41 << 10), "a piece: {}", output.len());
        assert_eq!(ring.wanted(), None);
    }

    #[test]
    fn a_connection_begins_with_a_few_requests_and_goes_on_as_its_answers_allow() {
        let mut ring = Ring::new(LIMITS);
        assert_eq!(fill(&mut ring), UNKNOWN_MAX);
        let mut output = BytesMut::new();
        for place in 0..UNKNOWN_MAX as u64 {
            ring.complete(place << PART_BITS, Ok(KvOutcome::Ok.encode()));
        }
        ring.take_output(&mut output);
        assert!(fill(&mut ring) > 4 * UNKNOWN_MAX, "short answers allow more");
    }
}
