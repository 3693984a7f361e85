//! Requests of clients on their way to the leader at another node, and their outcomes on the way back.
//!
//! The receiver of a [`RequestBatch`] takes all of it or bounces all of it, and never passes it on
//! (safety E1). The reply comes on the connection of the other direction, so the reply can be lost when
//! either connection is; then the outcomes are unknown.
//!
//! ```text
//! forward        id  group  epoch  term  kind:byte (1 propose, 2 query)  count  count × bytes
//! forward-reply  id  then 1: bounced | 2: busy | 3: done, count, count × outcome
//! outcome        0: not applied | 1: unknown, term, index, position | 2: applied, bytes
//!                3: not applied, for want of memory | 4: not applied, disk full | 5: not applied, loading
//! ```
//!
//! A request of one byte costs 32 bytes in memory, as a slice of its frame. So a batch has at most
//! [`REQUESTS_MAX`] requests, a reply as many outcomes, and a frame of more than 256 KiB holds one batch or one
//! reply. Both sides keep to these bounds.

use crate::{
    codec::{Fields, Malformed, ensure, put_bytes, put_entry_id, put_varint},
    frame::FRAME_BYTES,
};
use bytes::Bytes;
use purlin_rsm::{EntryId, GroupEpoch, GroupId, Outcome, RequestError, RequestKind, Term};

/// The most requests of one batch, and outcomes of one reply: 2 MiB of slices beside the frame.
pub const REQUESTS_MAX: usize = 64 << 10;

/// Requests of one group that travel together: taken or bounced whole. It is the same batch wherever
/// it goes: to the group on its own shard, to another shard of the node, or in a `Forward` frame to
/// another node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestBatch {
    /// The sender's number for it, never used twice while the sender runs.
    pub id: u64,
    /// The group they are for.
    pub group: GroupId,
    /// The epoch of the group that they are for: a group in another epoch bounces them (safety M10). The reply
    /// needs no epoch, since its number names this batch alone.
    pub epoch: GroupEpoch,
    /// The term in which the receiver leads the group, as the sender knows; 0 between shards of one node. A
    /// leader of another term bounces the batch: its sender may have ended it since, and let younger requests
    /// go to the leader of a term between (safety E1).
    pub term: Term,
    /// Whether they are proposals or queries: all are of one kind.
    pub kind: RequestKind,
    /// Commands or queries, in order.
    pub requests: Vec<Bytes>,
}

/// Answers a [`RequestBatch`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchReply {
    /// The sender's number for the batch.
    pub id: u64,
    /// What became of it.
    pub outcome: BatchOutcome,
}

/// What became of a batch of requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BatchOutcome {
    /// No request was taken: the receiver does not lead the group.
    Bounced,
    /// The same, and the state machine of the group has stopped at the receiver. Only a shard of the same node is told
    /// so: another node has a replica of its own, and is told `Bounced`.
    Stopped,
    /// No request was taken: the receiver has too much to do.
    Busy,
    /// One outcome for each request, in their order; of queries perhaps for the first ones only.
    Done(Vec<Outcome>),
}

impl RequestBatch {
    /// Appends the batch to `out`.
    ///
    /// # Panics
    /// When there are more than [`REQUESTS_MAX`] requests: the receiver would close the connection.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let count = self.requests.len();
        assert!(count <= REQUESTS_MAX, "a batch of {count} requests, {REQUESTS_MAX} at most");
        put_varint(out, self.id);
        put_varint(out, u64::from(self.group.0));
        put_varint(out, u64::from(self.epoch.0));
        put_varint(out, self.term.0);
        out.push(match self.kind {
            RequestKind::Propose => 1,
            RequestKind::Query => 2,
        });
        put_varint(out, count as u64);
        self.requests.iter().for_each(|request| put_bytes(out, request));
    }

    pub(crate) fn encoded_bytes_max(&self) -> usize {
        NUMBERS + self.requests.iter().map(|request| NUMBER + request.len()).sum::<usize>()
    }

    pub(crate) fn decode(body: Bytes) -> Result<Vec<Self>, Malformed> {
        items(body, |fields| {
            let (id, group, epoch) = (fields.varint()?, fields.group()?, fields.epoch()?);
            let term = fields.term()?;
            let kind = match fields.byte()? {
                1 => RequestKind::Propose,
                2 => RequestKind::Query,
                _ => return Err(Malformed { what: "a forwarded request of an unknown kind" }),
            };
            let count = fields.count(1)?;
            // Nobody waits for an answer to nothing, and a batch takes room by its requests.
            ensure(count > 0, "a batch without a request")?;
            ensure(count <= REQUESTS_MAX, "a batch of more than 65,536 requests")?;
            let requests = (0..count).map(|_| fields.bytes()).collect::<Result<_, _>>()?;
            Ok(Self { id, group, epoch, term, kind, requests })
        })
    }
}

impl BatchReply {
    /// Appends the reply to `out`.
    ///
    /// # Panics
    /// When there are more than [`REQUESTS_MAX`] outcomes. A reply has at most one for each request.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id);
        match &self.outcome {
            BatchOutcome::Bounced | BatchOutcome::Stopped => out.push(1),
            BatchOutcome::Busy => out.push(2),
            BatchOutcome::Done(outcomes) => {
                let count = outcomes.len();
                assert!(
                    count <= REQUESTS_MAX,
                    "a reply of {count} outcomes, {REQUESTS_MAX} at most"
                );
                out.push(3);
                put_varint(out, count as u64);
                outcomes.iter().for_each(|outcome| put_outcome(out, outcome));
            }
        }
    }

    pub(crate) fn encoded_bytes_max(&self) -> usize {
        let BatchOutcome::Done(outcomes) = &self.outcome else { return NUMBERS };
        let bytes = |outcome: &Outcome| match outcome {
            Ok(result) => NUMBER + result.len(),
            Err(_) => 3 * NUMBER,
        };
        NUMBERS + outcomes.iter().map(bytes).sum::<usize>()
    }

    pub(crate) fn decode(body: Bytes) -> Result<Vec<Self>, Malformed> {
        items(body, |fields| {
            Ok(Self { id: fields.varint()?, outcome: BatchOutcome::decode(fields)? })
        })
    }
}

impl BatchOutcome {
    fn decode(fields: &mut Fields) -> Result<Self, Malformed> {
        match fields.byte()? {
            1 => Ok(Self::Bounced),
            2 => Ok(Self::Busy),
            3 => {
                let count = fields.count(1)?;
                ensure(count <= REQUESTS_MAX, "a reply of more than 65,536 outcomes")?;
                let outcomes = (0..count).map(|_| outcome(fields)).collect::<Result<_, _>>()?;
                Ok(Self::Done(outcomes))
            }
            _ => Err(Malformed { what: "a reply to a batch of an unknown kind" }),
        }
    }
}

/// The one place where an outcome becomes bytes. Another node tells its caller what the caller decides by:
/// applied, certainly not applied, or unknown; and the reasons for a refusal that may last.
fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    match outcome {
        Err(RequestError::Unknown { term, index, position }) => {
            out.push(1);
            put_entry_id(out, EntryId::new(*term, *index));
            put_varint(out, position.0);
        }
        Err(RequestError::NoMemory) => out.push(3),
        Err(RequestError::NoSpace) => out.push(4),
        Err(RequestError::Loading) => out.push(5),
        Err(RequestError::GroupStopped) => out.push(6),
        Err(RequestError::QueryFailed) => out.push(7),
        Err(_) => out.push(0),
        Ok(result) => {
            out.push(2);
            put_bytes(out, result);
        }
    }
}

fn outcome(fields: &mut Fields) -> Result<Outcome, Malformed> {
    match fields.byte()? {
        0 => Ok(Err(RequestError::NotApplied)),
        1 => {
            let (term, index, position) = (fields.term()?, fields.index()?, fields.position()?);
            Ok(Err(RequestError::Unknown { term, index, position }))
        }
        2 => Ok(Ok(fields.bytes()?)),
        3 => Ok(Err(RequestError::NoMemory)),
        4 => Ok(Err(RequestError::NoSpace)),
        5 => Ok(Err(RequestError::Loading)),
        6 => Ok(Err(RequestError::GroupStopped)),
        7 => Ok(Err(RequestError::QueryFailed)),
        _ => Err(Malformed { what: "an outcome of an unknown kind" }),
    }
}

/// The most bytes of one number with a tag, and of a few.
const NUMBER: usize = 11;
const NUMBERS: usize = 48;

fn items<T: Slices>(
    body: Bytes,
    item: impl Fn(&mut Fields) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let is_long = body.len() > FRAME_BYTES;
    let mut fields = Fields::new(body);
    let mut items = Vec::new();
    while !fields.is_empty() {
        // The length of a frame that is shared bounds what many items cost in memory.
        ensure(!is_long || items.is_empty(), "a long frame of more than one batch or reply")?;
        let before = fields.rest().clone();
        let mut next = item(&mut fields)?;
        let taken = before.len() - fields.rest().len();
        if fields.is_small(taken) {
            let copy = Bytes::copy_from_slice(&before[..taken]);
            next.slices().for_each(|slice| *slice = moved(slice, &before, &copy));
        }
        items.push(next);
    }
    Ok(items)
}

/// What has slices of a frame.
trait Slices {
    fn slices(&mut self) -> impl Iterator<Item = &mut Bytes>;
}

impl Slices for RequestBatch {
    fn slices(&mut self) -> impl Iterator<Item = &mut Bytes> {
        self.requests.iter_mut()
    }
}

impl Slices for BatchReply {
    fn slices(&mut self) -> impl Iterator<Item = &mut Bytes> {
        let outcomes = match &mut self.outcome {
            BatchOutcome::Done(outcomes) => &mut outcomes[..],
            BatchOutcome::Bounced | BatchOutcome::Stopped | BatchOutcome::Busy => &mut [],
        };
        outcomes.iter_mut().filter_map(|outcome| outcome.as_mut().ok())
    }
}

/// The slice of `to` that lies where `slice` lies in `from`. Both have the same bytes there.
fn moved(slice: &Bytes, from: &Bytes, to: &Bytes) -> Bytes {
    if slice.is_empty() {
        return Bytes::new();
    }
    let at = slice.as_ptr() as usize - from.as_ptr() as usize;
    to.slice(at..at + slice.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{Index, Position};

    fn forwards() -> Vec<RequestBatch> {
        vec![
            RequestBatch {
                id: 1,
                group: GroupId(3),
                epoch: GroupEpoch::FIRST,
                term: Term(0),
                kind: RequestKind::Propose,
                requests: vec![Bytes::new()],
            },
            RequestBatch {
                id: u64::MAX,
                group: GroupId(u32::MAX),
                epoch: GroupEpoch(u32::MAX),
                term: Term((1 << 62) - 1),
                kind: RequestKind::Query,
                requests: vec![Bytes::from_static(b"get"), Bytes::new(), Bytes::from(vec![1; 400])],
            },
        ]
    }

    fn replies() -> Vec<BatchReply> {
        let outcomes = [
            BatchOutcome::Bounced,
            BatchOutcome::Busy,
            BatchOutcome::Done(vec![
                Ok(Bytes::from_static(b"OK")),
                Err(RequestError::NotApplied),
                Err(RequestError::Unknown {
                    term: Term(5),
                    index: Index(1 << 50),
                    position: Position(1 << 61),
                }),
            ]),
        ];
        (1..).zip(outcomes).map(|(id, outcome)| BatchReply { id, outcome }).collect()
    }

    #[test]
    fn many_items_share_a_frame_and_round_trip() {
        let (mut out, mut most) = (Vec::new(), 0);
        for forward in forwards() {
            forward.encode(&mut out);
            most += forward.encoded_bytes_max();
        }
        assert!(out.len() <= most);
        assert_eq!(RequestBatch::decode(out.into()), Ok(forwards()));
        let (mut out, mut most) = (Vec::new(), 0);
        for reply in replies() {
            reply.encode(&mut out);
            most += reply.encoded_bytes_max();
        }
        assert!(out.len() <= most);
        assert_eq!(BatchReply::decode(out.into()), Ok(replies()));
    }

    /// An item whose bound is too low stops the sender, and one whose bound is too high is never sent.
    #[test]
    fn the_bound_of_an_encoding_is_kept_and_is_close() {
        let close = |bytes: usize, bound: usize, items: usize| {
            assert!(bytes <= bound, "{bytes} bytes, {bound} were announced");
            assert!(bound <= bytes + 100 + 40 * items, "{bound} announced for {bytes} bytes");
        };
        let unknown = |value| RequestError::Unknown {
            term: Term(value),
            index: Index(value),
            position: Position(value),
        };
        for outcomes in [
            vec![],
            vec![Ok(Bytes::new())],
            vec![Ok(Bytes::from(vec![1; 100_000])); 3],
            vec![Err(unknown((1 << 62) - 1)); 1000],
            vec![Err(unknown(0)), Err(RequestError::NotApplied), Ok(Bytes::from_static(b"1"))],
        ] {
            let count = outcomes.len();
            let reply = BatchReply { id: u64::MAX, outcome: BatchOutcome::Done(outcomes) };
            close(encoded(|out| reply.encode(out)).len(), reply.encoded_bytes_max(), count);
        }
        for count in [1, 1000] {
            let batch = small_requests(count);
            close(encoded(|out| batch.encode(out)).len(), batch.encoded_bytes_max(), count);
        }
    }

    #[test]
    fn a_batch_without_a_request_is_refused() {
        let mut empty = forwards().remove(0);
        empty.requests.clear();
        let mut out = Vec::new();
        empty.encode(&mut out);
        let what = "a batch without a request";
        assert_eq!(RequestBatch::decode(out.into()), Err(Malformed { what }));
    }

    /// A batch of `count` requests of one byte each.
    fn small_requests(count: usize) -> RequestBatch {
        RequestBatch { requests: vec![Bytes::from_static(b"x"); count], ..forwards().remove(0) }
    }

    /// A reply of `count` outcomes of one byte each.
    fn small_outcomes(count: usize) -> BatchReply {
        let outcomes = vec![Err(RequestError::NotApplied); count];
        BatchReply { id: 1, outcome: BatchOutcome::Done(outcomes) }
    }

    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out);
        out
    }

    /// The bytes of a batch or reply whose count is [`REQUESTS_MAX`], with one item of one byte more.
    fn one_more(mut most: Vec<u8>, item: &[u8]) -> Vec<u8> {
        let count = encoded(|out| put_varint(out, REQUESTS_MAX as u64));
        let at = most.windows(count.len()).position(|bytes| bytes == count).expect("its count");
        let more = encoded(|out| put_varint(out, REQUESTS_MAX as u64 + 1));
        assert_eq!(count.len(), more.len());
        most[at..at + more.len()].copy_from_slice(&more);
        most.extend_from_slice(item);
        most
    }

    #[test]
    fn a_batch_has_so_many_requests_and_not_one_more() {
        let most = small_requests(REQUESTS_MAX);
        assert_eq!(REQUESTS_MAX, 65_536, "the error names it");
        let bytes = encoded(|out| most.encode(out));
        assert_eq!(RequestBatch::decode(bytes.clone().into()), Ok(vec![most]));
        let what = "a batch of more than 65,536 requests";
        let more = one_more(bytes, &[1, b'x']);
        assert_eq!(RequestBatch::decode(more.into()), Err(Malformed { what }));
    }

    #[test]
    fn a_reply_has_so_many_outcomes_and_not_one_more() {
        let most = small_outcomes(REQUESTS_MAX);
        let bytes = encoded(|out| most.encode(out));
        assert_eq!(BatchReply::decode(bytes.clone().into()), Ok(vec![most]));
        let what = "a reply of more than 65,536 outcomes";
        assert_eq!(BatchReply::decode(one_more(bytes, &[0]).into()), Err(Malformed { what }));
    }

    #[test]
    #[should_panic(expected = "a batch of 65537 requests, 65536 at most")]
    fn a_batch_of_too_many_requests_is_never_sent() {
        small_requests(REQUESTS_MAX + 1).encode(&mut Vec::new());
    }

    #[test]
    #[should_panic(expected = "a reply of 65537 outcomes, 65536 at most")]
    fn a_reply_of_too_many_outcomes_is_never_sent() {
        small_outcomes(REQUESTS_MAX + 1).encode(&mut Vec::new());
    }

    /// Many batches of few requests would cost as much as one of many.
    #[test]
    fn a_long_frame_has_one_batch_or_one_reply() {
        let what = "a long frame of more than one batch or reply";
        let batches = |count: usize| {
            let bytes = encoded(|out| (0..count).for_each(|_| small_requests(1000).encode(out)));
            (bytes.len(), RequestBatch::decode(bytes.into()).map(|batches| batches.len()))
        };
        let (short, long) = (batches(100), batches(200));
        assert!(short.0 <= FRAME_BYTES && long.0 > FRAME_BYTES);
        assert_eq!((short.1, long.1), (Ok(100), Err(Malformed { what })));
        let replies = encoded(|out| (0..1000).for_each(|_| small_outcomes(1000).encode(out)));
        assert_eq!(BatchReply::decode(replies.into()), Err(Malformed { what }));
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error_or_another_item_but_no_panic() {
        let (mut forward, mut reply) = (Vec::new(), Vec::new());
        forwards()[1].encode(&mut forward);
        replies()[2].encode(&mut reply);
        for at in 1..forward.len() {
            assert!(RequestBatch::decode(Bytes::copy_from_slice(&forward[..at])).is_err());
        }
        for at in 1..reply.len() {
            assert!(BatchReply::decode(Bytes::copy_from_slice(&reply[..at])).is_err());
        }
        for bit in 0..forward.len() * 8 {
            let mut bad = forward.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(RequestBatch::decode(bad.into()), Ok(vec![forwards()[1].clone()]));
        }
    }

    /// A command waits in the log's cache, and a reply until its client reads it: neither may keep a whole frame.
    #[test]
    fn a_batch_or_reply_that_is_small_in_its_frame_does_not_keep_the_frame() {
        let batch = |id, requests| RequestBatch { id, requests, ..forwards()[1].clone() };
        let small = vec![Bytes::new(), Bytes::from_static(b"set"), Bytes::from(vec![3; 16])];
        let large: Vec<_> = vec![Bytes::from(vec![9; 100_000])];
        let batches =
            vec![batch(1, small.clone()), batch(2, large.clone()), batch(3, small.clone())];
        let replies = vec![
            BatchReply { id: 1, outcome: BatchOutcome::Done(small.into_iter().map(Ok).collect()) },
            BatchReply { id: 2, outcome: BatchOutcome::Done(large.into_iter().map(Ok).collect()) },
            BatchReply { id: 3, outcome: BatchOutcome::Bounced },
        ];
        let (mut forward, mut reply) = (Vec::new(), Vec::new());
        batches.iter().for_each(|batch| batch.encode(&mut forward));
        replies.iter().for_each(|batch| batch.encode(&mut reply));
        let (forward, reply) = (Bytes::from(forward), Bytes::from(reply));
        let read = RequestBatch::decode(forward.clone()).expect("what was encoded");
        assert_eq!(read, batches);
        let answers = BatchReply::decode(reply.clone()).expect("what was encoded");
        assert_eq!(answers, replies);
        let lies_in = |frame: &Bytes, slice: &Bytes| frame.as_ptr_range().contains(&slice.as_ptr());
        let kept = |batch: &RequestBatch| batch.requests.iter().any(|it| lies_in(&forward, it));
        assert_eq!(read.iter().map(kept).collect::<Vec<_>>(), [false, true, false]);
        let BatchOutcome::Done(outcomes) = &answers[0].outcome else { panic!("{answers:?}") };
        assert!(outcomes.iter().flatten().all(|it| !lies_in(&reply, it)), "the frame is kept");
    }

    #[test]
    fn a_peer_is_told_whether_a_request_was_applied_and_why_if_that_lasts() {
        let told = |error| {
            let outcome = BatchOutcome::Done(vec![Err(error)]);
            let mut out = Vec::new();
            BatchReply { id: 1, outcome }.encode(&mut out);
            BatchReply::decode(out.into()).expect("a reply").remove(0).outcome
        };
        let done = |error| BatchOutcome::Done(vec![Err(error)]);
        assert_eq!(told(RequestError::Busy), done(RequestError::NotApplied));
        assert_eq!(told(RequestError::NoSpace), done(RequestError::NoSpace));
        assert_eq!(told(RequestError::Loading), done(RequestError::Loading));
        assert_eq!(told(RequestError::UNKNOWN), done(RequestError::UNKNOWN));
        assert_eq!(told(RequestError::NoMemory), done(RequestError::NoMemory));
        assert_eq!(told(RequestError::GroupStopped), done(RequestError::GroupStopped));
        assert_eq!(told(RequestError::QueryFailed), done(RequestError::QueryFailed));
    }
}
