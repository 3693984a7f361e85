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

use super::{
    gather::Gather,
    reply::{Protocol, Reply},
    words,
};
use bytes::{Bytes, BytesMut};
use purlin::{GroupId, Outcome};
use purlin_kv::KvOutcome;
use std::collections::VecDeque;

const PART_BITS: u32 = 16;

/// Requests that a connection may have in flight before anything is known of the size of its answers.
const UNKNOWN_MAX: usize = 64;

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
    Gather { gather: Box<Gather>, protocol: Protocol },
    /// This connection itself.
    Text(BytesMut),
}

/// A request to one group.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) group: GroupId,
    /// Whether it changes nothing.
    pub(super) is_read: bool,
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
            answer_bytes: limits.bytes_max / UNKNOWN_MAX,
        }
    }

    /// Whether another request may be taken in.
    pub(super) fn has_room(&self) -> bool {
        let bytes = self.output.len() + self.held_bytes + self.in_flight * self.answer_bytes;
        let is_idle = self.slots.is_empty() && self.output.is_empty();
        is_idle || (self.slots.len() < self.limits.requests_max && bytes < self.limits.bytes_max)
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
        self.push(Slot::Waiting(asked))
    }

    /// Takes in a request to several groups, and gives the tag of its first part; the others follow.
    pub(super) fn expect_all(&mut self, gather: Gather, protocol: Protocol) -> u64 {
        assert!(gather.waiting() < 1 << PART_BITS, "{} parts", gather.waiting());
        self.in_flight += gather.waiting();
        self.push(Slot::Gather { gather: Box::new(gather), protocol })
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
            Some(Slot::Gather { gather, .. }) => self.held_bytes -= gather.complete(part, result),
            Some(slot) => {
                let Slot::Waiting(asked) = *slot else {
                    panic!("the request with tag {tag} completed twice");
                };
                *slot = Slot::Answered { asked, result };
            }
            None => panic!("no request with tag {tag} waits: completed twice, or never submitted"),
        }
    }

    /// Exchanges `output`, which must be empty, for what is ready to go out.
    pub(super) fn take_output(&mut self, output: &mut BytesMut) {
        assert!(output.is_empty(), "{} bytes would be lost", output.len());
        self.drain();
        std::mem::swap(&mut self.output, output);
    }

    /// Whether something is ready to go out.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
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
        while self.slots.front().is_some_and(Slot::is_complete) {
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
            Self::Gather { gather, protocol } => gather.write(&mut Reply::new(output, *protocol)),
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

    const LIMITS: RingLimits = RingLimits { requests_max: 1000, bytes_max: 64 << 10 };

    /// Takes in requests until there is no more room, and gives how many.
    fn fill(ring: &mut Ring) -> usize {
        let mut count = 0;
        while ring.has_room() {
            ring.expect(Asked { group: GroupId(1), is_read: true, protocol: Protocol::default() });
            count += 1;
        }
        count
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
