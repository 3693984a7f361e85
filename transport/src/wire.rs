//! Messages between replicas, to bytes and back. Pure; the only place that knows their layout.
//!
//! The body of a `Messages` frame is a row of envelopes. Whom they are from and to is the
//! connection's to say, so an envelope carries neither. Numbers are varints unless marked.
//!
//! ```text
//! envelope       kind:byte  group  term  then by kind:
//!  1 PreVote       last
//!  2 PreVoteReply  granted:byte
//!  3 Vote          last
//!  4 VoteReply     granted:byte
//!  5 Append        prev  committed  count  count × entry
//!  6 AppendReply   matched
//!  7 AppendReject  prev  hint
//!  8 ReadProbe     round:fixed
//!  9 ReadProbeReply round:fixed
//! 10 Stale
//! entry          term-step  then 0: no-op, or 1 + length: a command of that length
//! prev, last, hint  term  index      (AppendReject's prev: index alone)
//! ```
//!
//! Entries of an append follow `prev` without a gap, so they carry no index; their terms never fall,
//! so they carry the step from the term before. Terms and indexes stay below 2^62.

use crate::codec::{
    Fields, Malformed, NUMBER_LIMIT, ensure, put_bool, put_entry_id, put_fixed, put_varint,
};
use bytes::Bytes;
use purlin_rsm::{Entry, EntryId, Envelope, Message, NodeId, Payload, Term};

/// Appends an envelope to `out`. Whom it is from and to stays outside.
pub fn encode(out: &mut Vec<u8>, envelope: &Envelope) {
    assert!(envelope.term.0 < NUMBER_LIMIT, "term {} is beyond the wire's", envelope.term);
    out.push(kind(&envelope.message));
    put_varint(out, u64::from(envelope.group.0));
    put_varint(out, envelope.term.0);
    match &envelope.message {
        Message::PreVote { last } | Message::Vote { last } => put_entry_id(out, *last),
        Message::PreVoteReply { granted } | Message::VoteReply { granted } => {
            put_bool(out, *granted);
        }
        Message::Append { prev, entries, committed } => {
            put_entry_id(out, *prev);
            put_varint(out, committed.0);
            put_entries(out, *prev, entries);
            let last = entries.last().map_or(prev.term, |entry| entry.term);
            assert!(last <= envelope.term, "a leader of {} sends {last}", envelope.term);
        }
        Message::AppendReply { matched } => put_varint(out, matched.0),
        Message::AppendReject { prev, hint } => {
            put_varint(out, prev.0);
            put_entry_id(out, *hint);
        }
        // A round holds the leader's random part, which a varint would lengthen.
        Message::ReadProbe { round } | Message::ReadProbeReply { round } => put_fixed(out, *round),
        Message::Stale => {}
    }
}

/// The most bytes that `encode` takes for it.
pub fn encoded_bytes_max(envelope: &Envelope) -> usize {
    const NUMBERS: usize = 64;
    const ENTRY: usize = 20;
    let Message::Append { entries, .. } = &envelope.message else { return NUMBERS };
    let payload = |entry: &Entry| match &entry.payload {
        Payload::Noop => ENTRY,
        Payload::Command(data) => ENTRY + data.len(),
    };
    NUMBERS + entries.iter().map(payload).sum::<usize>()
}

/// The envelopes of a frame's body, from `from` to `to`. Commands are slices of `body`.
pub fn decode(body: Bytes, from: NodeId, to: NodeId) -> Result<Vec<Envelope>, Malformed> {
    let mut fields = Fields::new(body);
    let mut envelopes = Vec::new();
    while !fields.is_empty() {
        envelopes.push(envelope(&mut fields, from, to)?);
    }
    Ok(envelopes)
}

fn kind(message: &Message) -> u8 {
    match message {
        Message::PreVote { .. } => 1,
        Message::PreVoteReply { .. } => 2,
        Message::Vote { .. } => 3,
        Message::VoteReply { .. } => 4,
        Message::Append { .. } => 5,
        Message::AppendReply { .. } => 6,
        Message::AppendReject { .. } => 7,
        Message::ReadProbe { .. } => 8,
        Message::ReadProbeReply { .. } => 9,
        Message::Stale => 10,
    }
}

fn envelope(fields: &mut Fields, from: NodeId, to: NodeId) -> Result<Envelope, Malformed> {
    let kind = fields.byte()?;
    let group = fields.group()?;
    let term = fields.term()?;
    let message = match kind {
        1 => Message::PreVote { last: fields.entry_id()? },
        2 => Message::PreVoteReply { granted: fields.boolean()? },
        3 => Message::Vote { last: fields.entry_id()? },
        4 => Message::VoteReply { granted: fields.boolean()? },
        5 => append(fields, term)?,
        6 => Message::AppendReply { matched: fields.index()? },
        7 => Message::AppendReject { prev: fields.index()?, hint: fields.entry_id()? },
        8 => Message::ReadProbe { round: fields.fixed()? },
        9 => Message::ReadProbeReply { round: fields.fixed()? },
        10 => Message::Stale,
        _ => return Err(Malformed { what: "a message of an unknown kind" }),
    };
    Ok(Envelope { from, to, group, term, message })
}

fn put_entries(out: &mut Vec<u8>, prev: EntryId, entries: &[Entry]) {
    put_varint(out, entries.len() as u64);
    let mut before = prev;
    for entry in entries {
        assert!(
            entry.index == before.index.next() && entry.term >= before.term,
            "entry {} does not follow {before}",
            entry.id()
        );
        put_varint(out, entry.term.0 - before.term.0);
        match &entry.payload {
            Payload::Noop => put_varint(out, 0),
            Payload::Command(data) => {
                put_varint(out, data.len() as u64 + 1);
                out.extend_from_slice(data);
            }
        }
        before = entry.id();
    }
}

fn append(fields: &mut Fields, term: Term) -> Result<Message, Malformed> {
    let prev = fields.entry_id()?;
    let committed = fields.index()?;
    let count = fields.count(ENTRY_BYTES_MIN)?;
    // Grows as entries are found: what it costs is bounded by what was sent.
    let mut entries = Vec::new();
    let mut before = prev;
    for _ in 0..count {
        let entry = entry(fields, before)?;
        before = entry.id();
        entries.push(entry);
    }
    ensure(before.term <= term, "an append with an entry of a term above the leader's")?;
    Ok(Message::Append { prev, entries, committed })
}

/// A no-op of the same term as the entry before.
const ENTRY_BYTES_MIN: usize = 2;

fn entry(fields: &mut Fields, before: EntryId) -> Result<Entry, Malformed> {
    // Both are below 2^62, so that the sum cannot overflow.
    let term = Term(before.term.0 + fields.term()?.0);
    ensure(term.0 < NUMBER_LIMIT, "a term of 2^62 or more")?;
    let index = before.index.next();
    ensure(index.0 < NUMBER_LIMIT, "an index of 2^62 or more")?;
    let payload = match fields.varint()? {
        0 => Payload::Noop,
        length => Payload::Command(fields.slice(length - 1)?),
    };
    Ok(Entry { term, index, payload })
}

#[cfg(test)]
#[path = "wire_test.rs"]
pub(crate) mod tests;
