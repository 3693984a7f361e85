//! Messages between replicas, to bytes and back. Pure; the only place that knows their layout.
//!
//! The body of a `Messages` frame is a row of envelopes. The connection says which node they are from and
//! to, so an envelope carries neither. Numbers are varints unless marked.
//!
//! ```text
//! envelope       kind:byte  group  epoch  term  then by kind:
//!  1 PreVote       last
//!  2 PreVoteReply  granted:byte
//!  3 Vote          last  forced:byte
//!  4 VoteReply     granted:byte
//!  5 Append        prev  committed  count  count × run (see `purlin_rsm::run`)
//!  6 AppendReply   matched
//!  7 AppendReject  prev  hint
//!  8 ReadProbe     round:fixed
//!  9 ReadProbeReply round:fixed
//! 10 Stale
//! 11 TimeoutNow
//! prev, last, hint  term  index      (AppendReject's prev: index alone)
//! ```
//!
//! The entries of an append follow `prev` without a gap: a run for each of their terms, in the framing
//! that the write-ahead log has too. Terms, indexes and positions stay below 2^62.
//!
//! An append has at most 65,536 entries, an entry at most as many commands, and a frame of more than
//! 256 KiB holds one message.

use crate::{
    codec::{
        Fields, Malformed, NUMBER_LIMIT, ensure, put_bool, put_entry_id, put_fixed, put_varint,
    },
    frame::FRAME_BYTES,
};
use bytes::Bytes;
use purlin_rsm::{Entry, EntryId, Envelope, Message, NodeId, Term, run};

/// Appends an envelope to `out`, without its sender and receiver.
pub fn encode(out: &mut Vec<u8>, envelope: &Envelope) {
    assert!(envelope.term.0 < NUMBER_LIMIT, "term {} is beyond the wire's", envelope.term);
    out.push(kind(&envelope.message));
    put_varint(out, u64::from(envelope.group.0));
    put_varint(out, u64::from(envelope.epoch.0));
    put_varint(out, envelope.term.0);
    match &envelope.message {
        Message::PreVote { last } => put_entry_id(out, *last),
        Message::Vote { last, forced } => {
            put_entry_id(out, *last);
            put_bool(out, *forced);
        }
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
        Message::Stale | Message::TimeoutNow => {}
    }
}

/// The most bytes that `encode` takes for it.
pub fn encoded_bytes_max(envelope: &Envelope) -> usize {
    const NUMBERS: usize = 64;
    let Message::Append { entries, .. } = &envelope.message else { return NUMBERS };
    NUMBERS + run::encoded_bytes(entries)
}

/// The envelopes of a frame's body, from `from` to `to`. Commands are slices of `body`.
pub fn decode(body: Bytes, from: NodeId, to: NodeId) -> Result<Vec<Envelope>, Malformed> {
    let body_bytes = body.len();
    let mut fields = Fields::new(body);
    let mut envelopes = Vec::new();
    let is_long = body_bytes > FRAME_BYTES;
    while !fields.is_empty() {
        // What many messages cost in memory is bounded by the length of a frame that is shared.
        ensure(!is_long || envelopes.is_empty(), "a long frame of more than one message")?;
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
        Message::TimeoutNow => 11,
    }
}

fn envelope(fields: &mut Fields, from: NodeId, to: NodeId) -> Result<Envelope, Malformed> {
    let kind = fields.byte()?;
    let group = fields.group()?;
    let epoch = fields.epoch()?;
    let term = fields.term()?;
    let message = match kind {
        1 => Message::PreVote { last: fields.entry_id()? },
        2 => Message::PreVoteReply { granted: fields.boolean()? },
        3 => Message::Vote { last: fields.entry_id()?, forced: fields.boolean()? },
        4 => Message::VoteReply { granted: fields.boolean()? },
        5 => append(fields, term)?,
        6 => Message::AppendReply { matched: fields.index()? },
        7 => Message::AppendReject { prev: fields.index()?, hint: fields.entry_id()? },
        8 => Message::ReadProbe { round: fields.fixed()? },
        9 => Message::ReadProbeReply { round: fields.fixed()? },
        10 => Message::Stale,
        11 => Message::TimeoutNow,
        _ => return Err(Malformed { what: "a message of an unknown kind" }),
    };
    Ok(Envelope { from, to, group, epoch, term, message })
}

/// Entries of an append go as runs of one term each.
fn put_entries(out: &mut Vec<u8>, prev: EntryId, entries: &[Entry]) {
    if let Some(first) = entries.first() {
        let follows = first.index == prev.index.next() && first.term >= prev.term;
        assert!(follows, "entry {} does not follow {prev}", first.id());
    }
    put_varint(out, run::of_one_term(entries).count() as u64);
    run::of_one_term(entries).for_each(|entries| run::put(out, entries));
}

fn append(fields: &mut Fields, term: Term) -> Result<Message, Malformed> {
    let prev = fields.entry_id()?;
    let committed = fields.index()?;
    let count = fields.count(run::RUN_BYTES_MIN)?;
    // Grows as entries are found: what it costs is bounded by what was sent.
    let mut entries: Vec<Entry> = Vec::new();
    let mut last = prev;
    for _ in 0..count {
        let run = fields.run()?;
        let room = run::APPEND_ENTRIES_MAX - entries.len();
        ensure(
            run.end().0 - run.first().0 <= room as u64,
            "an append of more than 65,536 entries",
        )?;
        let follows = run.first() == last.index.next()
            && entries.last().is_none_or(|entry| entry.end() == run.before());
        ensure(follows, "entries that do not follow what stands before them")?;
        let grows = entries.is_empty() || run.term() > last.term;
        ensure(run.term() >= last.term && grows, "runs of entries whose terms do not grow")?;
        entries.extend(run);
        last = entries.last().expect("a run has an entry").id();
    }
    ensure(last.term <= term, "an append with an entry of a term above the leader's")?;
    Ok(Message::Append { prev, entries, committed })
}

#[cfg(test)]
#[path = "wire_test.rs"]
pub(crate) mod tests;
