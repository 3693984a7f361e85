//! Heartbeats between a leading and a following side, without a network.

use super::*;
use purlin_rsm::{GroupEpoch, Term};

const BOOT: BootId = BootId(77);

/// The term in the first epoch.
fn at(term: u64) -> EpochTerm {
    EpochTerm::new(GroupEpoch::FIRST, Term(term))
}

fn pairs_of(pairs: &[(u32, u64)]) -> Vec<(GroupId, EpochTerm)> {
    pairs.iter().map(|(group, term)| (GroupId(*group), at(*term))).collect()
}

fn leading(pairs: &[(u32, u64)]) -> Leading {
    let mut leading = Leading::new(BOOT);
    pairs.iter().for_each(|(group, term)| leading.lead(GroupId(*group), at(*term)));
    leading
}

/// Both sides, connected.
fn connected(pairs: &[(u32, u64)]) -> (Leading, Following) {
    let mut following = Following::new();
    assert_eq!(following.connected(BOOT), Changes::default());
    (leading(pairs), following)
}

/// One interval: a heartbeat there, and its reply back. Returns what changed and what was refused.
fn interval(
    leading: &mut Leading,
    following: &mut Following,
) -> (Changes, Vec<(GroupId, EpochTerm)>) {
    let beat = leading.beat(None);
    let changes = following.receive(&beat);
    let refused = leading.read(&following.reply().expect("a heartbeat was received"));
    (changes, refused)
}

fn confirmed(leading: &Leading) -> Vec<u32> {
    leading.confirmed_groups().map(|(group, _)| group.0).collect()
}

#[test]
fn the_list_goes_once_and_then_only_its_fingerprint() {
    let (mut leading, mut following) = connected(&[(3, 5), (1, 2)]);
    let beat = leading.beat(None);
    assert_eq!(beat.list, Some(pairs_of(&[(1, 2), (3, 5)])));
    let changes = following.receive(&beat);
    assert_eq!(changes.vouched, pairs_of(&[(1, 2), (3, 5)]));
    for number in 2..10 {
        let beat = leading.beat(following.reply());
        assert_eq!((beat.number, &beat.list), (number, &None));
        assert_eq!(following.receive(&beat), Changes::default());
        assert_eq!(following.vouches(GroupId(3)), Some(at(5)));
        leading.read(&following.reply().unwrap());
        assert_eq!(leading.confirmed(GroupId(3)), Some(number));
    }
}

#[test]
fn a_change_sends_the_list_again_and_says_what_moved() {
    let (mut leading, mut following) = connected(&[(1, 2), (2, 2), (3, 2)]);
    interval(&mut leading, &mut following);
    leading.resign(GroupId(1));
    leading.lead(GroupId(2), at(7));
    leading.lead(GroupId(4), at(1));
    let (changes, _) = interval(&mut leading, &mut following);
    assert_eq!(changes.vouched, pairs_of(&[(2, 7), (4, 1)]));
    assert_eq!(changes.lost, pairs_of(&[(1, 2), (2, 2)]));
    assert_eq!(following.vouches(GroupId(1)), None);
    assert_eq!(following.vouches(GroupId(2)), Some(at(7)));
    assert_eq!(following.vouched().collect::<Vec<_>>(), pairs_of(&[(2, 7), (3, 2), (4, 1)]));
    assert_eq!(confirmed(&leading), [2, 3, 4]);
}

#[test]
fn a_fingerprint_does_not_depend_on_order_and_undoes_what_is_undone() {
    let one = leading(&[(1, 2), (2, 2), (3, 9)]);
    let mut other = leading(&[(3, 9), (7, 7), (2, 1)]);
    assert_ne!(one.fingerprint, other.fingerprint);
    other.lead(GroupId(2), at(2));
    other.resign(GroupId(7));
    other.resign(GroupId(7));
    other.lead(GroupId(1), at(2));
    assert_eq!(one.fingerprint, other.fingerprint);
    assert_ne!(one.fingerprint, leading(&[(1, 2), (2, 9), (3, 2)]).fingerprint);
    assert_ne!(Leading::new(BootId(1)).fingerprint, Leading::new(BootId(2)).fingerprint);
}

/// Safety R4: "B missed that C leads, and A's heartbeats keep it believing in A."
#[test]
fn a_lost_list_vouches_for_nothing_and_is_asked_for() {
    let (mut leading, mut following) = connected(&[(1, 2), (2, 2)]);
    interval(&mut leading, &mut following);
    leading.resign(GroupId(1));
    let _lost = leading.beat(None);
    let (changes, _) = interval(&mut leading, &mut following);
    assert!(changes.is_unknown && changes.vouched.is_empty());
    assert_eq!(following.vouches(GroupId(2)), None, "a heartbeat vouches only for what it names");
    assert_eq!(following.vouched().count(), 0);
    assert!(following.reply().unwrap().wants_list);
    assert_eq!(leading.confirmed(GroupId(2)), Some(1), "confirmed by the first reply, no later");
    let (changes, _) = interval(&mut leading, &mut following);
    assert_eq!(changes, Changes { lost: pairs_of(&[(1, 2)]), ..Changes::default() });
    assert_eq!(following.vouches(GroupId(2)), Some(at(2)));
    assert_eq!(leading.confirmed(GroupId(2)), Some(4));
}

#[test]
fn a_list_on_its_way_is_not_sent_twice() {
    let (mut leading, mut following) = connected(&[(1, 2)]);
    interval(&mut leading, &mut following);
    leading.lead(GroupId(2), at(2));
    let lost = leading.beat(None);
    assert!(lost.list.is_some());
    // A later heartbeat of the same set, and then a change, whose list crosses the question.
    following.receive(&leading.beat(None));
    let asks = following.reply().unwrap();
    leading.lead(GroupId(3), at(2));
    let crossing = leading.beat(None);
    assert!(crossing.list.is_some());
    leading.read(&asks);
    assert_eq!(leading.beat(None).list, None);
    assert!(!following.receive(&crossing).is_unknown);
}

/// Safety R4: "The leader's node restarts quickly and nobody notices."
#[test]
fn another_boot_of_the_peer_vouches_for_nothing_of_the_old_one() {
    let (mut old, mut following) = connected(&[(1, 2), (2, 2)]);
    interval(&mut old, &mut following);
    let lost = following.connected(BootId(78)).lost;
    assert_eq!(lost, pairs_of(&[(1, 2), (2, 2)]));
    assert_eq!(following.reply(), None);
    let mut new = Leading::new(BootId(78));
    assert_eq!(interval(&mut new, &mut following).0, Changes::default());
    assert_eq!(following.vouches(GroupId(1)), None);
    // Equal sets of different boots differ: a late frame of the old one vouches for nothing.
    new.lead(GroupId(1), at(2));
    interval(&mut new, &mut following);
    assert_eq!(following.vouches(GroupId(1)), Some(at(2)));
    old.resign(GroupId(2));
    assert!(following.receive(&old.beat(None)).is_unknown);
}

#[test]
fn a_new_connection_of_the_same_boot_lists_again_and_wakes_nobody() {
    let (mut leading, mut following) = connected(&[(1, 2)]);
    interval(&mut leading, &mut following);
    leading.connected();
    assert_eq!(following.connected(BOOT), Changes::default());
    assert_eq!(following.vouches(GroupId(1)), None, "until the connection has named it");
    let beat = leading.beat(None);
    assert!(beat.list.is_some());
    assert_eq!(following.receive(&beat), Changes::default());
    assert_eq!(following.vouches(GroupId(1)), Some(at(2)));
}

#[test]
fn a_following_side_that_restarts_gets_the_list() {
    let (mut leading, mut following) = connected(&[(1, 2)]);
    interval(&mut leading, &mut following);
    let mut restarted = Following::new();
    restarted.connected(BOOT);
    let (changes, _) = interval(&mut leading, &mut restarted);
    assert!(changes.is_unknown);
    let (changes, _) = interval(&mut leading, &mut restarted);
    assert_eq!(changes.vouched, pairs_of(&[(1, 2)]));
}

#[test]
fn a_refused_group_is_not_confirmed_and_its_term_comes_back() {
    let (mut leading, mut following) = connected(&[(1, 2), (2, 2), (3, 2)]);
    interval(&mut leading, &mut following);
    following.refuse(GroupId(2), at(9));
    following.refuse(GroupId(50), at(9));
    let (_, refused) = interval(&mut leading, &mut following);
    assert_eq!(refused, pairs_of(&[(2, 9)]));
    assert_eq!(confirmed(&leading), [1, 3]);
    assert_eq!(leading.confirmed(GroupId(2)), None);
    following.accept(GroupId(2));
    interval(&mut leading, &mut following);
    assert_eq!(confirmed(&leading), [1, 2, 3]);
    // A new term is a new question.
    following.refuse(GroupId(2), at(9));
    leading.lead(GroupId(2), at(10));
    let (_, refused) = interval(&mut leading, &mut following);
    assert_eq!(refused, []);
    assert_eq!(confirmed(&leading), [1, 2, 3]);
}

/// Each beat of the peer replies to our last heartbeat, so one heartbeat may get two replies.
#[test]
fn a_second_reply_to_a_heartbeat_counts_for_what_it_refuses_now() {
    let (mut leading, mut following) = connected(&[(1, 2), (2, 2)]);
    interval(&mut leading, &mut following);
    assert_eq!(confirmed(&leading), [1, 2]);
    following.refuse(GroupId(2), at(9));
    let again = following.reply().expect("a heartbeat was received");
    assert_eq!(leading.read(&again), pairs_of(&[(2, 9)]));
    assert_eq!(confirmed(&leading), [1], "safety R4: the follower has left us");
    following.accept(GroupId(2));
    assert_eq!(leading.read(&following.reply().expect("it was received")), []);
    assert_eq!(confirmed(&leading), [1, 2]);
}

#[test]
fn a_leading_side_is_empty_until_it_leads_and_after_it_has_resigned_all() {
    let mut leading = Leading::new(BOOT);
    assert!(leading.is_empty());
    leading.lead(GroupId(1), at(2));
    leading.lead(GroupId(2), at(2));
    leading.resign(GroupId(1));
    assert!(!leading.is_empty());
    leading.resign(GroupId(2));
    assert!(leading.is_empty());
}

/// A heartbeat whose bound is too low stops the sender, and one whose bound is too high is never sent.
#[test]
fn the_bound_of_an_encoding_is_kept_and_is_close() {
    let widest = EpochTerm::new(GroupEpoch(u32::MAX), Term(crate::codec::NUMBER_LIMIT - 1));
    let pairs = |count: usize| -> Vec<_> {
        let step = u32::MAX / count.max(1) as u32;
        (1..=count as u32).map(|place| (GroupId(place * step), widest)).collect()
    };
    for (listed, refused) in [(0, 0), (1, 0), (0, 1), (1, 1), (10, 10), (10, 0), (0, 10)] {
        let reply = HeartbeatReply {
            number: u64::MAX,
            fingerprint: u64::MAX,
            wants_list: true,
            refused: pairs(refused),
        };
        let list = Some(pairs(listed));
        let condition = Condition { is_disk_full: true, is_unfit: true, hears: Vec::new() };
        let reply = Some(reply);
        let heartbeat = Heartbeat { number: u64::MAX, fingerprint: 1, list, reply, condition };
        let mut out = Vec::new();
        heartbeat.encode(&mut out);
        let bound = heartbeat.encoded_bytes_max();
        assert!(out.len() <= bound, "{} bytes for {listed} and {refused}", out.len());
        assert!(bound <= out.len() + 80, "{bound} announced for {} bytes", out.len());
    }
}

/// Safety M10: group 7 is removed and made again, and is led in an equal term.
#[test]
fn another_epoch_of_a_group_in_an_equal_term_is_another_set() {
    let again = EpochTerm::new(GroupEpoch(2), Term(5));
    let (mut new, mut following) = connected(&[(7, 5)]);
    interval(&mut new, &mut following);
    let before = new.fingerprint;
    new.lead(GroupId(7), again);
    assert_ne!(new.fingerprint, before);
    let lost = new.beat(None);
    assert_eq!(lost.list, Some(vec![(GroupId(7), again)]));
    let (changes, _) = interval(&mut new, &mut following);
    assert!(changes.is_unknown, "the list of the old epoch vouches for nothing");
    let (changes, _) = interval(&mut new, &mut following);
    assert_eq!((changes.lost, changes.vouched), (pairs_of(&[(7, 5)]), vec![(GroupId(7), again)]));
    // What refuses it says in which epoch its term is.
    following.refuse(GroupId(7), at(90));
    let (_, refused) = interval(&mut new, &mut following);
    assert_eq!(refused, pairs_of(&[(7, 90)]));
    assert_eq!(new.confirmed(GroupId(7)), None);
}

#[test]
fn a_reply_confirms_only_what_its_heartbeat_named() {
    let (mut leading, mut following) = connected(&[(1, 2), (2, 2)]);
    following.receive(&leading.beat(None));
    let reply = following.reply().unwrap();
    // Before the reply arrives, one group is led anew, another one in a new term.
    leading.lead(GroupId(3), at(1));
    leading.lead(GroupId(2), at(5));
    leading.read(&reply);
    assert_eq!(confirmed(&leading), [1], "churn elsewhere takes no confirmation away");
    // A group that was resigned and led again meanwhile was not led without a break.
    let mut again = connected(&[(1, 2)]).0;
    let number = again.beat(None).number;
    again.resign(GroupId(1));
    again.lead(GroupId(1), at(2));
    let fingerprint = again.fingerprint;
    again.read(&HeartbeatReply { number, fingerprint, wants_list: false, refused: vec![] });
    assert_eq!(again.confirmed(GroupId(1)), None);
}

#[test]
fn replies_that_do_not_fit_confirm_nothing() {
    let (mut leading, mut following) = connected(&[(1, 2)]);
    let first = leading.beat(None);
    following.receive(&first);
    let good = following.reply().unwrap();
    for bad in [
        HeartbeatReply { number: 9, ..good.clone() },
        HeartbeatReply { fingerprint: 0, ..good.clone() },
        HeartbeatReply { wants_list: true, ..good.clone() },
        HeartbeatReply { number: 0, fingerprint: 0, ..good.clone() },
    ] {
        assert_eq!(leading.read(&bad), []);
        assert_eq!(confirmed(&leading), [] as [u32; 0]);
    }
    leading.read(&good);
    assert_eq!(confirmed(&leading), [1]);
    // One that was overtaken takes nothing back, and one too old to be remembered says nothing.
    interval(&mut leading, &mut following);
    leading.read(&HeartbeatReply { refused: pairs_of(&[(1, 9)]), ..good.clone() });
    assert_eq!(leading.confirmed(GroupId(1)), Some(2));
    let (mut leading, _) = connected(&[(1, 2)]);
    (0..=SENT_MAX).for_each(|_| drop(leading.beat(None)));
    leading.read(&good);
    assert_eq!(confirmed(&leading), [] as [u32; 0]);
}

#[test]
fn an_idle_pair_sends_one_small_heartbeat_per_direction_whatever_it_leads() {
    let many: Vec<_> = (1..10_000).map(|group| (group, 3)).collect();
    let (mut leading, mut following) = connected(&many);
    interval(&mut leading, &mut following);
    let mut out = Vec::new();
    leading.beat(following.reply()).encode(&mut out);
    assert!(out.len() < 32, "{} bytes", out.len());
}

#[test]
fn heartbeats_round_trip_and_bad_ones_are_refused() {
    let reply = |refused| HeartbeatReply { number: 5, fingerprint: 6, wants_list: true, refused };
    let last = crate::codec::NUMBER_LIMIT - 1;
    let all = vec![
        Heartbeat {
            number: 1,
            fingerprint: u64::MAX,
            list: None,
            reply: None,
            condition: Condition::default(),
        },
        Heartbeat {
            number: u64::MAX,
            fingerprint: 0,
            list: Some(vec![]),
            reply: None,
            condition: Condition::default(),
        },
        Heartbeat {
            number: 2,
            fingerprint: 1,
            list: Some(pairs_of(&[(0, 1), (7, last), (u32::MAX, 2)])),
            reply: Some(reply(pairs_of(&[(9, 0)]))),
            condition: Condition {
                is_disk_full: true,
                is_unfit: false,
                hears: vec![NodeId(0), NodeId(1), NodeId(u32::MAX)],
            },
        },
        Heartbeat {
            number: 3,
            fingerprint: 1,
            list: None,
            reply: Some(reply(vec![])),
            condition: Condition::default(),
        },
    ];
    let mut out = Vec::new();
    for heartbeat in &all {
        let before = out.len();
        heartbeat.encode(&mut out);
        assert!(out.len() - before <= heartbeat.encoded_bytes_max());
    }
    assert_eq!(Heartbeat::decode(Bytes::copy_from_slice(&out)), Ok(all.clone()));
    let mut one = Vec::new();
    all[2].encode(&mut one);
    for at in 1..one.len() {
        assert!(Heartbeat::decode(Bytes::copy_from_slice(&one[..at])).is_err());
    }
    for at in 0..one.len() {
        for byte in 0..=255 {
            let mut bad = one.clone();
            bad[at] = byte;
            // An error or another heartbeat; never a panic.
            let same = Heartbeat::decode(bad.into()) == Ok(vec![all[2].clone()]);
            assert_eq!(same, byte == one[at]);
        }
    }
    let mut twice = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 3, 5, 1, 1, 0, 1, 1, 0, 0, 0, 0];
    assert!(Heartbeat::decode(twice.clone().into()).is_err(), "group 5 is named twice");
    twice[13] = 1;
    assert!(Heartbeat::decode(twice.clone().into()).is_ok());
    let mut none = twice.clone();
    none[14] = 0;
    assert!(Heartbeat::decode(none.into()).is_err(), "epochs count from 1");
    twice[0] = 0;
    assert!(Heartbeat::decode(twice.into()).is_err(), "heartbeats count from 1");
}

/// What is beyond the bounds is refused before it is stored.
#[test]
fn a_condition_has_known_flags_and_a_bounded_list_of_nodes() {
    let encoded = |condition| {
        let mut bytes = Vec::new();
        Heartbeat { number: 1, fingerprint: 2, list: None, reply: None, condition }
            .encode(&mut bytes);
        bytes
    };
    let hears = (1..=HEARS_MAX as u32).map(NodeId).collect();
    let full = encoded(Condition { hears, ..Condition::default() });
    assert!(Heartbeat::decode(full.clone().into()).is_ok());
    let (flags, count) = (11, 12);
    assert_eq!((full[flags], usize::from(full[count])), (0, HEARS_MAX));
    let mut more = full.clone();
    more[count] += 1;
    more.insert(count + 1, 1);
    let what = "a condition that names more than 64 nodes";
    assert_eq!(Heartbeat::decode(more.into()), Err(Malformed { what }));
    let mut strange = full;
    strange[flags] = 4;
    let what = "a condition that this version does not know";
    assert_eq!(Heartbeat::decode(strange.into()), Err(Malformed { what }));
}

/// What is reserved is refused and not skipped: a later version gives it a meaning.
#[test]
fn a_heartbeat_with_a_digest_is_refused() {
    let mut bytes = Vec::new();
    Heartbeat {
        number: 1,
        fingerprint: 2,
        list: None,
        reply: None,
        condition: Condition::default(),
    }
    .encode(&mut bytes);
    assert!(Heartbeat::decode(bytes.clone().into()).is_ok());
    *bytes.last_mut().unwrap() = 1;
    let what = "a digest in a heartbeat, which a later version has";
    assert_eq!(Heartbeat::decode(bytes.into()), Err(Malformed { what }));
}

/// Safety R4: groups that were listed in vain would count as told, and the peer would not know the set.
#[test]
fn a_heartbeat_that_was_not_sent_has_told_nothing() {
    let (mut leading, mut following) = connected(&[(1, 2)]);
    interval(&mut leading, &mut following);
    leading.lead(GroupId(7), at(3));
    let unsent = leading.beat(following.reply());
    assert_eq!(unsent.list, Some(pairs_of(&[(1, 2), (7, 3)])));
    leading.unsent(&unsent);
    let (changes, _) = interval(&mut leading, &mut following);
    assert_eq!((changes.vouched, changes.is_unknown), (pairs_of(&[(7, 3)]), false));
    // One without a list takes none back.
    let unsent = leading.beat(following.reply());
    leading.unsent(&unsent);
    assert_eq!(leading.beat(following.reply()).list, None);
    // No reply may speak of it.
    let reply =
        HeartbeatReply { number: unsent.number, ..following.reply().expect("one was received") };
    assert_eq!((leading.read(&reply), leading.confirmed(GroupId(7))), (vec![], Some(2 + 1)));
}
