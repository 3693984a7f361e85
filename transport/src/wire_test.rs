//! The wire format of messages: frozen by a golden file, and safe against any bytes.

use super::*;
use purlin_rsm::{GroupEpoch, GroupId, Index, Payload, Position, Tick};

const FROM: NodeId = NodeId(1);
const TO: NodeId = NodeId(2);

fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

/// A no-op without commands.
fn entry(term: u64, index: u64, before: u64, commands: &[&[u8]]) -> Entry {
    let all = commands.iter().map(|command| Bytes::copy_from_slice(command)).collect();
    let payload = if commands.is_empty() { Payload::Noop } else { Payload::Commands(all) };
    Entry { term: Term(term), index: Index(index), before: Position(before), payload }
}

const EPOCH: GroupEpoch = GroupEpoch(7);

fn envelope(group: u32, term: u64, message: Message) -> Envelope {
    let (group, epoch, term) = (GroupId(group), EPOCH, Term(term));
    Envelope { from: FROM, to: TO, group, epoch, term, message }
}

/// One of each kind, with small and with large numbers.
pub(crate) fn samples() -> Vec<Envelope> {
    let last = NUMBER_LIMIT - 1;
    let entries = vec![
        entry(4, 10, 90, &[]),
        entry(4, 11, 90, &[b"set a 1"]),
        entry(6, 12, 91, &[b""]),
        entry(7, 13, 92, &[&[0xab; 200], b"set b 2", b""]),
    ];
    vec![
        envelope(1, 7, Message::PreVote { last: id(3, 9) }),
        envelope(1, 7, Message::PreVoteReply { granted: true }),
        envelope(0, 7, Message::Vote { last: id(0, 0), forced: false }),
        envelope(3, 8, Message::Vote { last: id(7, 100), forced: true }),
        envelope(u32::MAX, last, Message::VoteReply { granted: false }),
        envelope(48, 7, Message::Append { prev: id(3, 9), entries, committed: Index(8) }),
        envelope(48, 1, Message::Append { prev: id(0, 0), entries: vec![], committed: Index(0) }),
        envelope(300, 7, Message::AppendReply { matched: Index(1 << 40) }),
        envelope(2, 7, Message::AppendReject { prev: Index(90), hint: id(2, 80) }),
        envelope(2, 7, Message::ReadProbe { round: u64::MAX }),
        envelope(2, 7, Message::ReadProbeReply { round: 0x0102_0304_0506_0708 }),
        envelope(2, last, Message::Stale),
        envelope(2, 7, Message::TimeoutNow),
    ]
}

fn bytes_of(envelopes: &[Envelope]) -> Vec<u8> {
    let mut out = Vec::new();
    envelopes.iter().for_each(|envelope| encode(&mut out, envelope));
    out
}

#[test]
fn every_kind_round_trips_and_many_share_a_body() {
    for envelope in samples() {
        let bytes = bytes_of(std::slice::from_ref(&envelope));
        assert!(bytes.len() <= encoded_bytes_max(&envelope), "{envelope:?}");
        assert_eq!(decode(bytes.into(), FROM, TO), Ok(vec![envelope]));
    }
    assert_eq!(decode(bytes_of(&samples()).into(), FROM, TO), Ok(samples()));
}

/// A no-op takes a byte: without a bound a frame of 16 MiB would take a gigabyte in memory.
#[test]
fn an_append_has_so_many_entries_and_not_one_more() {
    let append = |count: usize| {
        let entries = (1..=count as u64).map(|index| entry(1, index, 0, &[])).collect();
        envelope(1, 1, Message::Append { prev: id(0, 0), entries, committed: Index(0) })
    };
    assert_eq!(run::APPEND_ENTRIES_MAX, 65_536, "the error names it");
    let most = append(run::APPEND_ENTRIES_MAX);
    let bytes = bytes_of(std::slice::from_ref(&most));
    assert_eq!(decode(bytes.into(), FROM, TO), Ok(vec![most]));
    let bytes = bytes_of(&[append(run::APPEND_ENTRIES_MAX + 1)]);
    let what = "an append of more than 65,536 entries";
    assert_eq!(decode(bytes.into(), FROM, TO), Err(Malformed { what }));
    let one = append(1);
    let Message::Append { mut entries, .. } = append(run::APPEND_ENTRIES_MAX).message else {
        unreachable!("it is an append")
    };
    entries.push(entry(2, run::APPEND_ENTRIES_MAX as u64 + 1, 0, &[]));
    let of_two_terms = Message::Append { prev: id(0, 0), entries, committed: Index(0) };
    let bytes = bytes_of(&[envelope(1, 2, of_two_terms), one]);
    assert_eq!(decode(bytes.into(), FROM, TO), Err(Malformed { what }), "over all runs");
}

#[test]
fn a_long_frame_holds_one_message() {
    let stale = envelope(1, 1, Message::Stale);
    let long = entry(1, 1, 0, &[&[7; FRAME_BYTES]]);
    let long = Message::Append { prev: id(0, 0), entries: vec![long], committed: Index(0) };
    let long = envelope(1, 1, long);
    let bytes = bytes_of(std::slice::from_ref(&long));
    assert_eq!(decode(bytes.into(), FROM, TO), Ok(vec![long.clone()]));
    let what = "a long frame of more than one message";
    let bytes = bytes_of(&[long, stale]);
    assert_eq!(decode(bytes.into(), FROM, TO), Err(Malformed { what }));
}

#[test]
fn small_messages_are_small() {
    let reply = envelope(48, 9, Message::AppendReply { matched: Index(100_000) });
    assert_eq!(bytes_of(&[reply]).len(), 7);
}

#[test]
fn commands_that_fill_a_frame_are_slices_of_it() {
    let long: Vec<u8> = vec![7; 1000];
    let entries = vec![entry(2, 6, 0, &[&long]), entry(2, 7, 1, &[&long, &long, b""])];
    let append = Message::Append { prev: id(2, 5), entries, committed: Index(0) };
    let body = Bytes::from(bytes_of(&[envelope(1, 2, append)]));
    let range = body.as_ptr_range();
    let mut commands = 0;
    for envelope in decode(body, FROM, TO).unwrap() {
        let Message::Append { entries, .. } = envelope.message else { continue };
        for entry in entries {
            for (_, data) in entry.commands() {
                assert!(data.is_empty() || range.contains(&data.as_ptr()));
                commands += 1;
            }
        }
    }
    assert_eq!(commands, 4);
}

#[test]
fn cut_bytes_are_refused_at_every_place() {
    for envelope in samples() {
        let bytes = bytes_of(&[envelope]);
        for at in 1..bytes.len() {
            assert!(decode(Bytes::copy_from_slice(&bytes[..at]), FROM, TO).is_err(), "{at}");
        }
    }
}

/// Mutated and arbitrary bytes give an error or envelopes that encode again, never a panic.
#[test]
fn any_bytes_are_safe() {
    let good = bytes_of(&samples());
    let mut state = 1;
    let mut draw = move || {
        state = purlin_rsm::random::hash(state);
        state
    };
    let (mut refused, mut read) = (0, 0);
    for round in 0..20_000 {
        let mut bytes = good.clone();
        if round % 2 == 0 {
            bytes = (0..draw() % 64).map(|_| draw() as u8).collect();
            if let Some(first) = bytes.first_mut() {
                *first %= 12;
            }
        }
        for _ in 0..draw() % 4 {
            let at = draw() as usize % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = draw() as u8;
            }
        }
        match decode(bytes.into(), FROM, TO) {
            Ok(envelopes) => {
                let again = bytes_of(&envelopes);
                assert_eq!(decode(again.into(), FROM, TO), Ok(envelopes));
                read += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 1000 && read > 1000, "{refused} refused, {read} read");
}

/// Whatever term a peer sends, a replica that has heard it can say all that it has to say.
#[test]
fn every_term_that_a_replica_follows_leaves_room_to_campaign() {
    use purlin_rsm::raft::{Raft, RaftConfig, Recovered, Voters};
    for sent in [NUMBER_LIMIT - 1, NUMBER_LIMIT / 2, NUMBER_LIMIT / 2 - 1] {
        let config = RaftConfig::new(GroupId(1), TO, Voters::new([FROM, TO]));
        let config = RaftConfig { epoch: EPOCH, ..config };
        let mut raft = Raft::new(config, Recovered::default(), Tick(0));
        let mut now = Tick(0);
        raft.step(now, envelope(1, sent, Message::Stale));
        for _ in 0..100 {
            let ready = raft.ready();
            ready.messages.iter().for_each(|envelope| encode(&mut Vec::new(), envelope));
            if let Some(append) = ready.append {
                raft.appended(now, append.write);
            }
            for Envelope { term, message, .. } in ready.messages {
                let reply = match message {
                    Message::PreVote { .. } => Message::PreVoteReply { granted: true },
                    Message::Vote { .. } => Message::VoteReply { granted: true },
                    _ => continue,
                };
                raft.step(now, envelope(1, term.0, reply));
            }
            now = Tick(now.0 + 5);
            raft.tick(now);
        }
        assert!(raft.term() > Term(0), "it has campaigned");
    }
}

#[test]
fn terms_and_indexes_that_would_brick_a_group_are_refused() {
    for term in [NUMBER_LIMIT, u64::MAX] {
        let mut bytes = vec![10, 1, 1];
        put_varint(&mut bytes, term);
        assert!(decode(bytes.into(), FROM, TO).is_err());
    }
    assert!(decode(vec![10, 1, 1, 1].into(), FROM, TO).is_ok());
    assert!(decode(vec![10, 1, 0, 1].into(), FROM, TO).is_err(), "epochs count from 1");
    let last = NUMBER_LIMIT - 1;
    // A run of one no-op behind `prev`.
    let body = |prev: EntryId, term: u64| {
        let mut bytes = vec![5, 1, 1];
        put_varint(&mut bytes, last);
        put_entry_id(&mut bytes, prev);
        let run = [term, prev.index.0 + 1, 0, 1, 0];
        [0, 1].into_iter().chain(run).for_each(|number| put_varint(&mut bytes, number));
        decode(bytes.into(), FROM, TO)
    };
    assert!(body(id(1, 1), 2).is_ok());
    assert!(body(id(1, last - 1), 2).is_ok());
    assert!(body(id(1, last), 2).is_err());
    assert!(body(id(1, 1), last).is_ok());
    assert!(body(id(1, 1), last + 1).is_err());
}

#[test]
fn runs_that_do_not_follow_each_other_are_refused() {
    let body = |runs: &[[u64; 5]]| {
        let mut bytes = vec![5, 1, 1, 9];
        put_entry_id(&mut bytes, id(3, 5));
        [0, runs.len() as u64].into_iter().for_each(|number| put_varint(&mut bytes, number));
        runs.iter().flatten().for_each(|number| put_varint(&mut bytes, *number));
        decode(bytes.into(), FROM, TO).map_err(|malformed| malformed.what)
    };
    // Term, first index, position before, one entry: a no-op.
    assert!(body(&[[3, 6, 40, 1, 0], [4, 7, 40, 1, 0]]).is_ok());
    let gap = Err("entries that do not follow what stands before them");
    assert_eq!(body(&[[3, 7, 40, 1, 0]]), gap);
    assert_eq!(body(&[[3, 6, 40, 1, 0], [4, 8, 40, 1, 0]]), gap);
    assert_eq!(body(&[[3, 6, 40, 1, 0], [4, 7, 41, 1, 0]]), gap);
    let fallen = Err("runs of entries whose terms do not grow");
    assert_eq!(body(&[[2, 6, 40, 1, 0]]), fallen);
    assert_eq!(body(&[[3, 6, 40, 1, 0], [3, 7, 40, 1, 0]]), fallen);
}

/// A follower caches entries, and a short one must not keep the frame of many groups in memory.
#[test]
fn a_run_that_is_small_in_its_frame_does_not_keep_the_frame() {
    let append = |group, bytes: usize| {
        let entries = vec![entry(7, 2, 0, &[&vec![5; bytes]])];
        envelope(group, 7, Message::Append { prev: id(1, 1), entries, committed: Index(0) })
    };
    let body = Bytes::from(bytes_of(&[append(1, 16), append(2, 100_000), append(3, 16)]));
    let kept: Vec<bool> = decode(body.clone(), FROM, TO)
        .expect("what was encoded")
        .into_iter()
        .map(|envelope| {
            let Message::Append { entries, .. } = envelope.message else { panic!("an append") };
            let (_, command) = entries[0].commands().next().expect("one command");
            body.as_ptr_range().contains(&command.as_ptr())
        })
        .collect();
    assert_eq!(kept, [false, true, false]);
}

#[test]
fn entries_above_the_leaders_term_are_refused() {
    let good = vec![entry(7, 2, 0, &[])];
    let append = Message::Append { prev: id(1, 1), entries: good, committed: Index(0) };
    let mut bytes = bytes_of(&[envelope(1, 7, append)]);
    assert!(decode(bytes.clone().into(), FROM, TO).is_ok());
    assert_eq!(bytes[3], 7);
    bytes[3] = 6;
    assert!(decode(bytes.into(), FROM, TO).is_err());
}

#[test]
fn a_count_beyond_the_frame_is_refused_before_anything_is_allocated() {
    let mut bytes = vec![5, 1, 1, 7, 1, 1, 0];
    put_varint(&mut bytes, u64::MAX);
    assert_eq!(
        decode(bytes.into(), FROM, TO),
        Err(Malformed { what: "more items than the frame can hold" })
    );
}

#[test]
#[should_panic(expected = "does not follow")]
fn a_gap_between_our_own_entries_is_a_bug() {
    let entries = vec![entry(1, 3, 0, &[])];
    let append = Message::Append { prev: id(1, 1), entries, committed: Index(0) };
    bytes_of(&[envelope(1, 1, append)]);
}
