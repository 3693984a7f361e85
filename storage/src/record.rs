//! The records of a batch: encodes and decodes them. No I/O.
//!
//! All numbers are little-endian, nothing is padded. A record:
//!
//! ```text
//!  0  kind    u8     1 hard state   2 entries   3 floor   4 peer   5 relocated hard state
//!                    6 relocated peer   7 commit hints: reserved, for the feature of that name
//!  1  zero    3 bytes
//!  4  length  u32    bytes of the body
//!  8  group   u32    0 for a peer
//! 12  epoch   u32    of the group: 1; 0 for a peer
//! 16  body
//!
//! hard state    term u64 · committed u64 · vote u32 · voted u32 (0 or 1) · replica u32 · zero u32 ·
//!               incarnation u64
//!               replica and incarnation are reserved for those of the voted replica (safety M1, M2): 0
//! entries       a run (see `purlin_rsm::run`)
//! floor         term u64 · index u64 · position u64      of the entry before the group's first, and of
//!               the last command up to it
//! peer          node u32 · shard u16 · fenced u16 (0 or 1) · incarnation u64 · start u64 ·
//!               boot u64 · durable u64 · incarnation of the shard u64, reserved (safety M12): 0
//! ```
//!
//! The entries of a record have one term and consecutive indices. They replace all entries of the group
//! at or above their first index. A floor and the relocated kinds are written from the state in memory.
//! They never truncate a log, lower a term, or take a fence back (safety W6).
//!
//! Commit hints will stand in closing batches: term and index of the commit of each group whose commit
//! moved since it was last written, so that recovery starts with a higher one (safety N7).
//!
//! The epoch is for the feature "groups at run time": a group that is removed and made again has the next
//! epoch. The records of an earlier epoch are void, and no term in them is compared (safety M10). Until
//! then every group has epoch 1, and a record of another epoch is refused.

use purlin_rsm::{
    BootId, Entry, EntryId, GroupEpoch, GroupId, HardState, Incarnation, Index, NodeId, PeerMemory,
    Position, Sequence, ShardId, Term,
    run::{self, NUMBER_LIMIT, Run},
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// A decoded record, checked in every part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Record<'a> {
    HardState { group: GroupId, state: HardState, relocated: bool },
    Entries { group: GroupId, run: Run<'a> },
    Floor { group: GroupId, floor: EntryId, position: Position },
    Peer { memory: PeerMemory, relocated: bool },
}

/// What is wrong with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed(pub(crate) &'static str);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    kind: u8,
    zero: [u8; 3],
    length: U32,
    group: U32,
    epoch: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HardStateBody {
    term: U64,
    committed: U64,
    vote: U32,
    voted: U32,
    /// Reserved, as drawn above.
    replica: U32,
    zero: U32,
    incarnation: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FloorBody {
    term: U64,
    index: U64,
    position: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PeerBody {
    node: U32,
    shard: U16,
    fenced: U16,
    incarnation: U64,
    start: U64,
    boot: U64,
    durable: U64,
    /// Reserved, as drawn above.
    shard_incarnation: U64,
}

const HARD_STATE: u8 = 1;
const ENTRIES: u8 = 2;
const FLOOR: u8 = 3;
const PEER: u8 = 4;
const RELOCATED_HARD_STATE: u8 = 5;
const RELOCATED_PEER: u8 = 6;
const COMMIT_HINTS: u8 = 7;

/// Appends a group's hard state.
pub(crate) fn put_hard_state(out: &mut Vec<u8>, group: GroupId, state: HardState, relocated: bool) {
    let body = HardStateBody {
        term: state.term.0.into(),
        committed: state.committed.0.into(),
        vote: state.vote.map_or(0, |node| node.0).into(),
        voted: u32::from(state.vote.is_some()).into(),
        replica: 0.into(),
        zero: 0.into(),
        incarnation: 0.into(),
    };
    put(out, if relocated { RELOCATED_HARD_STATE } else { HARD_STATE }, group, body.as_bytes());
}

/// Appends consecutive entries of one term.
pub(crate) fn put_entries(out: &mut Vec<u8>, group: GroupId, run: &[Entry]) {
    let start = out.len();
    put(out, ENTRIES, group, &[]);
    run::put(out, run);
    let length = out.len() - start - size_of::<Head>();
    out[start + 4..start + 8].copy_from_slice(&(length as u32).to_le_bytes());
}

/// Appends the floor of a group: the entry before the first one of its log, and the position of the last
/// command up to that entry.
pub(crate) fn put_floor(out: &mut Vec<u8>, group: GroupId, floor: EntryId, position: Position) {
    let body = FloorBody {
        term: floor.term.0.into(),
        index: floor.index.0.into(),
        position: position.0.into(),
    };
    put(out, FLOOR, group, body.as_bytes());
}

/// Appends what is remembered of a peer.
pub(crate) fn put_peer(out: &mut Vec<u8>, memory: &PeerMemory, relocated: bool) {
    let body = PeerBody {
        node: memory.node.0.into(),
        shard: memory.shard.0.into(),
        fenced: u16::from(memory.fenced).into(),
        incarnation: memory.incarnation.0.into(),
        start: memory.start.into(),
        boot: memory.boot.0.into(),
        durable: memory.durable.0.into(),
        shard_incarnation: 0.into(),
    };
    put(out, if relocated { RELOCATED_PEER } else { PEER }, GroupId(0), body.as_bytes());
}

fn put(out: &mut Vec<u8>, kind: u8, group: GroupId, body: &[u8]) {
    let epoch = epoch_of(kind).0.into();
    let length = (body.len() as u32).into();
    let head = Head { kind, zero: [0; 3], length, group: group.0.into(), epoch };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

/// The epoch that a record of this kind must have: 1 for a group, 0 for a peer.
fn epoch_of(kind: u8) -> GroupEpoch {
    if matches!(kind, PEER | RELOCATED_PEER) { GroupEpoch(0) } else { GroupEpoch::FIRST }
}

/// Iterates over the records in the bytes of a batch. Ends after the first malformed record.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = take_record(&mut self.rest);
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

fn take_record<'a>(rest: &mut &'a [u8]) -> Result<Record<'a>, Malformed> {
    let head = take::<Head>(rest)?;
    let length = head.length.get() as usize;
    let (mut body, after) = rest.split_at_checked(length).ok_or(Malformed("a record is cut"))?;
    *rest = after;
    if head.zero != [0; 3] {
        return Err(Malformed("a record's reserved bytes are not zero"));
    }
    // The epoch is checked before anything else in the record (safety M10).
    if head.epoch.get() != epoch_of(head.kind).0 {
        return Err(Malformed(
            "a record is of another epoch of its group, which only a later version of purlin writes",
        ));
    }
    let group = GroupId(head.group.get());
    let record = match head.kind {
        HARD_STATE => take_hard_state(&mut body, group, false)?,
        RELOCATED_HARD_STATE => take_hard_state(&mut body, group, true)?,
        ENTRIES => {
            let run = Run::take(&mut body).map_err(|malformed| Malformed(malformed.0))?;
            Record::Entries { group, run }
        }
        FLOOR => take_floor(&mut body, group)?,
        PEER => take_peer(&mut body, false)?,
        RELOCATED_PEER => take_peer(&mut body, true)?,
        COMMIT_HINTS => {
            return Err(Malformed(
                "a record is of commit hints, which only a later version writes",
            ));
        }
        _ => return Err(Malformed("a record is of an unknown kind")),
    };
    if body.is_empty() { Ok(record) } else { Err(Malformed("a record is too long")) }
}

fn take<'a, T: FromBytes + KnownLayout + Immutable + Unaligned>(
    rest: &mut &'a [u8],
) -> Result<&'a T, Malformed> {
    let (value, after) = T::ref_from_prefix(rest).map_err(|_| Malformed("a record is cut"))?;
    *rest = after;
    Ok(value)
}

fn take_hard_state<'a>(
    body: &mut &'a [u8],
    group: GroupId,
    relocated: bool,
) -> Result<Record<'a>, Malformed> {
    let state = take::<HardStateBody>(body)?;
    if (state.replica.get(), state.zero.get(), state.incarnation.get()) != (0, 0, 0) {
        return Err(Malformed("a vote for a numbered replica, which a later version has"));
    }
    let vote = flag(state.voted.get())?.then_some(NodeId(state.vote.get()));
    let state =
        HardState { term: Term(state.term.get()), vote, committed: Index(state.committed.get()) };
    Ok(Record::HardState { group, state, relocated })
}

fn take_floor<'a>(body: &mut &'a [u8], group: GroupId) -> Result<Record<'a>, Malformed> {
    let floor = take::<FloorBody>(body)?;
    let position = Position(floor.position.get());
    let floor = EntryId::new(Term(floor.term.get()), Index(floor.index.get()));
    if floor.index.0 >= NUMBER_LIMIT || position.0 >= NUMBER_LIMIT {
        return Err(Malformed("a floor with an impossible index or position"));
    }
    Ok(Record::Floor { group, floor, position })
}

fn take_peer<'a>(body: &mut &'a [u8], relocated: bool) -> Result<Record<'a>, Malformed> {
    let peer = take::<PeerBody>(body)?;
    if peer.shard_incarnation.get() != 0 {
        return Err(Malformed("a shard with an incarnation of its own, which a later version has"));
    }
    let memory = PeerMemory {
        node: NodeId(peer.node.get()),
        incarnation: Incarnation(peer.incarnation.get()),
        shard: ShardId(peer.shard.get()),
        start: peer.start.get(),
        boot: BootId(peer.boot.get()),
        durable: Sequence(peer.durable.get()),
        fenced: flag(u32::from(peer.fenced.get()))?,
    };
    Ok(Record::Peer { memory, relocated })
}

fn flag(value: u32) -> Result<bool, Malformed> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("a flag that is neither 0 nor 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use purlin_rsm::Payload;

    fn entry(term: u64, index: u64, before: u64, data: &[&[u8]]) -> Entry {
        let commands = data.iter().map(|data| Bytes::copy_from_slice(data)).collect();
        let payload = if data.is_empty() { Payload::Noop } else { Payload::Commands(commands) };
        Entry { term: Term(term), index: Index(index), before: Position(before), payload }
    }

    fn peer() -> PeerMemory {
        PeerMemory {
            node: NodeId(7),
            incarnation: Incarnation(8),
            shard: ShardId(9),
            start: 10,
            boot: BootId(11),
            durable: Sequence(12),
            fenced: true,
        }
    }

    fn sample() -> (Vec<u8>, Vec<Entry>) {
        let long = vec![9; 300];
        let entries =
            vec![entry(3, 5, 8, &[]), entry(3, 6, 8, &[b""]), entry(3, 7, 9, &[&long, b"a", b""])];
        let mut out = Vec::new();
        let state = HardState { term: Term(3), vote: Some(NodeId(0)), committed: Index(4) };
        put_hard_state(&mut out, GroupId(1), state, false);
        put_entries(&mut out, GroupId(1), &entries);
        put_floor(&mut out, GroupId(2), EntryId::new(Term(1), Index(9)), Position(7));
        put_peer(&mut out, &peer(), true);
        (out, entries)
    }

    /// Reserved bytes that are set are refused and not ignored: a later version gives them a meaning.
    #[test]
    fn a_vote_with_a_replica_number_is_refused() {
        let mut bytes = Vec::new();
        let state = HardState { term: Term(3), vote: Some(NodeId(2)), committed: Index(4) };
        put_hard_state(&mut bytes, GroupId(1), state, false);
        assert_eq!(bytes.len(), size_of::<Head>() + 40);
        for at in size_of::<Head>() + 24..bytes.len() {
            let mut later = bytes.clone();
            later[at] = 1;
            let what = "a vote for a numbered replica, which a later version has";
            assert_eq!(Records::new(&later).next(), Some(Err(Malformed(what))), "at {at}");
        }
    }

    #[test]
    fn a_peer_with_an_incarnation_of_its_shard_is_refused() {
        let mut bytes = Vec::new();
        put_peer(&mut bytes, &peer(), false);
        assert_eq!(bytes.len(), size_of::<Head>() + 48);
        for at in bytes.len() - 8..bytes.len() {
            let mut later = bytes.clone();
            later[at] = 1;
            let what = "a shard with an incarnation of its own, which a later version has";
            assert_eq!(Records::new(&later).next(), Some(Err(Malformed(what))), "at {at}");
        }
    }

    /// B92: a decoded record equals the encoded one, and encodes to the same bytes.
    #[test]
    fn records_decode_to_what_was_encoded() {
        let (bytes, entries) = sample();
        let records: Vec<_> = Records::new(&bytes).map(Result::unwrap).collect();
        let mut again = Vec::new();
        for record in &records {
            match record {
                Record::HardState { group, state, relocated } => {
                    put_hard_state(&mut again, *group, *state, *relocated);
                }
                Record::Entries { group, run } => {
                    let read: Vec<_> = run.copied().collect();
                    assert_eq!(read, entries);
                    assert_eq!((run.last(), run.end), (Index(7), Position(12)));
                    put_entries(&mut again, *group, &read);
                }
                Record::Floor { group, floor, position } => {
                    put_floor(&mut again, *group, *floor, *position);
                }
                Record::Peer { memory, relocated } => {
                    assert_eq!(*memory, peer());
                    put_peer(&mut again, memory, *relocated);
                }
            }
        }
        assert_eq!(again, bytes);
    }

    /// Safety M10: later versions write more than one epoch of a group, and this version must not mix
    /// them.
    #[test]
    fn a_record_of_another_epoch_is_refused_whatever_it_says() {
        let (bytes, _) = sample();
        let mut at = 0;
        while at < bytes.len() {
            let head = Head::ref_from_prefix(&bytes[at..]).unwrap().0;
            for epoch in [0_u32, 1, 2, u32::MAX] {
                let mut other = bytes[at..].to_vec();
                other[12..16].copy_from_slice(&epoch.to_le_bytes());
                let record = take_record(&mut &other[..]);
                assert_eq!(record.is_ok(), epoch == epoch_of(head.kind).0, "epoch {epoch}");
                if let Err(Malformed(what)) = record {
                    assert!(what.contains("another epoch"), "{what}");
                }
            }
            at += size_of::<Head>() + head.length.get() as usize;
        }
    }

    #[test]
    fn commit_hints_are_refused_as_what_a_later_version_writes() {
        let mut out = Vec::new();
        put(&mut out, COMMIT_HINTS, GroupId(1), &[0; 16]);
        let what = "a record is of commit hints, which only a later version writes";
        assert_eq!(Records::new(&out).next(), Some(Err(Malformed(what))));
        out[0] = COMMIT_HINTS + 1;
        assert_eq!(
            Records::new(&out).next(),
            Some(Err(Malformed("a record is of an unknown kind")))
        );
    }

    #[test]
    fn cut_records_are_malformed_and_never_a_panic() {
        let (bytes, _) = sample();
        let ends: Vec<usize> = {
            let mut rest = &bytes[..];
            std::iter::from_fn(|| {
                (!rest.is_empty()).then(|| {
                    take_record(&mut rest).unwrap();
                    bytes.len() - rest.len()
                })
            })
            .collect()
        };
        for cut in 1..bytes.len() {
            let whole = ends.contains(&cut);
            assert_eq!(Records::new(&bytes[..cut]).all(|r| r.is_ok()), whole, "cut at {cut}");
        }
    }

    #[test]
    fn mutated_records_never_panic() {
        let (bytes, _) = sample();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut mutant = bytes.clone();
                mutant[at] = value;
                for record in Records::new(&mutant).flatten() {
                    if let Record::Entries { run, .. } = record {
                        assert_eq!(run.copied().count(), run.count as usize);
                    }
                }
            }
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_is_malformed_without_allocation() {
        let mut out = Vec::new();
        put_entries(&mut out, GroupId(1), &[entry(1, 1, 0, &[b"x"])]);
        // The count of entries is the fourth number of the run.
        out[size_of::<Head>() + 3] = 0x7f;
        assert_eq!(Records::new(&out).next(), Some(Err(Malformed("bytes that end too early"))));
    }
}
