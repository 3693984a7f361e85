//! The handshake's bytes, and the checks that need no memory of the peer.

use super::*;

fn facts(node: u32) -> Facts {
    let start = |number, kept| Start { number, boot: BootId(number * 11), kept: Sequence(kept) };
    Facts {
        cluster: ClusterId(u128::MAX - 5),
        fork: Fork(3),
        config_hash: 3,
        node: NodeId(node),
        incarnation: Incarnation(u64::from(node)),
        shard: ShardId(1),
        shards: 2,
        starts: vec![start(4, 100), start(5, 1 << 40)],
        voters: vec![NodeId(1), NodeId(2)],
        table: vec![(NodeId(node), Incarnation(u64::from(node)))],
        acting: false,
        advertised: advertised(),
    }
}

fn advertised() -> Advertised {
    Advertised {
        host: "n1.example".into(),
        gateway_port: 7000,
        shard_port_base: 7010,
        admin_port: 7098,
    }
}

fn hello() -> Hello {
    Hello { versions: VERSIONS, wanted: PeerShard::new(NodeId(2), ShardId(1)), facts: facts(1) }
}

fn bytes_of(encode: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::new();
    encode(&mut out);
    out.into()
}

#[test]
fn hellos_and_answers_round_trip_and_cut_ones_are_refused() {
    let bytes = bytes_of(|out| hello().encode(out));
    assert_eq!(Hello::decode(bytes.clone()), Ok(Ok(hello())));
    for at in 0..bytes.len() {
        assert!(Hello::decode(bytes.slice(..at)).is_err(), "at {at}");
    }
    for answer in [
        Answer::Accepted { version: VERSIONS.1, facts: facts(2) },
        Answer::Refused(Refusal::OwnNode { node: NodeId(1) }),
    ] {
        let bytes = bytes_of(|out| answer.encode(out));
        assert_eq!(Answer::decode(bytes.clone()), Ok(answer));
        for at in 0..bytes.len() {
            assert!(Answer::decode(bytes.slice(..at)).is_err(), "at {at}");
        }
    }
}

#[test]
fn any_bytes_are_safe() {
    let good = bytes_of(|out| hello().encode(out));
    let mut state = 1;
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = good.to_vec();
        for _ in 0..2 {
            state = purlin_rsm::random::hash(state);
            let at = state as usize % bytes.len();
            bytes[at] = (state >> 32) as u8;
        }
        match Hello::decode(bytes.clone().into()) {
            Ok(Ok(hello)) => {
                hello.facts.assert_valid();
                read += 1;
            }
            Ok(Err(_)) | Err(_) => refused += 1,
        }
        let _ = Answer::decode(bytes.into());
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
}

#[test]
fn facts_that_no_shard_can_have_are_refused() {
    let changes: [fn(&mut Facts); 7] = [
        |facts| facts.starts.clear(),
        |facts| facts.starts[0].number = 3,
        |facts| facts.starts.swap(0, 1),
        |facts| facts.shards = 1,
        |facts| facts.voters = vec![NodeId(2), NodeId(1)],
        |facts| facts.advertised.host = "n".repeat(256),
        |facts| facts.table = vec![(NodeId(1), Incarnation(1)), (NodeId(1), Incarnation(2))],
    ];
    for change in changes {
        let mut hello = hello();
        change(&mut hello.facts);
        assert!(Hello::decode(bytes_of(|out| hello.encode(out))).is_err(), "{:?}", hello.facts);
    }
}

#[test]
fn versions_are_a_range_and_the_highest_common_one_wins() {
    assert_eq!(common_version((1, 9)), Some(4));
    assert_eq!(common_version((5, 9)), None);
    assert_eq!(common_version((0, 0)), None);
    assert_eq!(common_version((9, 4)), None);
    // A version of which we know nothing else: only the range is read.
    let later = bytes_of(|out| {
        put_varint(out, 5);
        put_varint(out, 6);
        out.extend_from_slice(b"whatever comes then");
    });
    let refusal = Refusal::Version { theirs: (5, 6), ours: VERSIONS };
    assert_eq!(Hello::decode(later), Ok(Err(refusal)));
    let answer = Answer::Accepted { version: 5, facts: facts(2) };
    assert!(Answer::decode(bytes_of(|out| answer.encode(out))).is_err(), "never offered");
}

/// What is reserved is refused and not skipped: a later version gives it a meaning.
#[test]
fn purposes_and_tables_of_a_later_version_are_refused() {
    let mut bytes = bytes_of(|out| hello().encode(out)).to_vec();
    assert_eq!(bytes[2], 1, "behind the versions stands the purpose");
    bytes[2] = 2;
    let bulk = Hello::decode(bytes.into());
    assert_eq!(bulk, Ok(Err(Refusal::Purpose { purpose: 2 })));
    // The table's version stands between the voters and the table.
    let plain = bytes_of(|out| facts(1).encode(out));
    let mut tail = Vec::new();
    put_varint(&mut tail, 0);
    put_varint(&mut tail, 1);
    put_varint(&mut tail, 1);
    put_fixed(&mut tail, 1);
    advertised().encode(&mut tail);
    assert!(plain.ends_with(&tail));
    let mut later = plain.to_vec();
    later[plain.len() - tail.len()] = 1;
    let what = "a version of the table of nodes, which a later protocol has";
    assert_eq!(Facts::decode(&mut Fields::new(later.into())), Err(Malformed { what }));
    // The shard's incarnation stands behind the cluster, the fork, the hash, the node, its incarnation
    // and the shard.
    let mut later = plain.to_vec();
    let at = 16 + 1 + 8 + 1 + 8 + 1;
    assert_eq!(later[at], 0);
    later[at] = 1;
    let what = "an incarnation of a shard, which a later protocol has";
    assert_eq!(Facts::decode(&mut Fields::new(later.into())), Err(Malformed { what }));
}

/// Safety Q2: a node of another fork is refused by both sides, whichever fork is the higher one.
#[test]
fn a_node_of_another_fork_is_refused_by_both_sides() {
    for fork in [Fork(2), Fork(4)] {
        let mut other = facts(2);
        other.fork = fork;
        let (node, ours) = (NodeId(1), Fork(3));
        assert_eq!(
            hello().check(&other),
            Err(Refusal::OtherFork { node, theirs: ours, ours: fork })
        );
        let node = NodeId(2);
        assert_eq!(
            check_answer(&other, other.pair(), &facts(1)),
            Err(Refusal::OtherFork { node, theirs: fork, ours })
        );
    }
}

#[test]
fn the_first_reason_explains_the_others() {
    let ours = facts(2);
    assert_eq!(hello().check(&ours), Ok(()));
    let mut bad = hello();
    bad.facts.voters = vec![NodeId(1)];
    let node = NodeId(1);
    assert_eq!(bad.check(&ours), Err(Refusal::OtherVoters { node }));
    bad.facts.config_hash = 4;
    assert_eq!(bad.check(&ours), Err(Refusal::OtherConfig { node, theirs: 4, ours: 3 }));
    bad.facts.fork = Fork(0);
    assert_eq!(bad.check(&ours), Err(Refusal::OtherFork { node, theirs: Fork(0), ours: Fork(3) }));
    bad.wanted.node = NodeId(8);
    assert_eq!(bad.check(&ours), Err(Refusal::WrongNode { wanted: NodeId(8), here: NodeId(2) }));
    bad.facts.cluster = ClusterId(0);
    assert!(matches!(bad.check(&ours), Err(Refusal::OtherCluster { .. })));
}

/// Safety I2: initial voters must agree among nodes that meet. A member that acts has a table instead.
#[test]
fn initial_voters_are_not_compared_with_a_member_that_acts() {
    let mut acting = facts(2);
    (acting.acting, acting.voters) = (true, vec![NodeId(2)]);
    assert_eq!(hello().check(&acting), Ok(()));
    let mut hello = hello();
    hello.facts.acting = true;
    let mut fresh = facts(2);
    fresh.voters = vec![];
    assert_eq!(hello.check(&fresh), Ok(()));
    hello.facts.acting = false;
    assert!(hello.check(&fresh).is_err());
}

#[test]
fn a_table_with_another_incarnation_of_this_node_ends_this_node() {
    let mut theirs = facts(2);
    let wanted = theirs.pair();
    assert_eq!(check_answer(&theirs, wanted, &facts(1)), Ok(()));
    theirs.table = vec![(NodeId(1), Incarnation(99)), (NodeId(2), Incarnation(2))];
    let refusal = check_answer(&theirs, wanted, &facts(1)).unwrap_err();
    assert!(refusal.ends(NodeId(1)), "{refusal}");
}

#[test]
fn an_answer_of_another_than_was_wanted_is_refused() {
    let ours = facts(1);
    let at = |node, shard| PeerShard::new(NodeId(node), ShardId(shard));
    let wanted = |pair| check_answer(&facts(2), pair, &ours);
    assert!(matches!(wanted(at(3, 1)), Err(Refusal::WrongNode { .. })));
    assert!(matches!(wanted(at(2, 0)), Err(Refusal::WrongShard { .. })));
    let own = check_answer(&facts(1), at(1, 1), &ours);
    assert_eq!(own, Err(Refusal::OwnNode { node: NodeId(1) }));
}

#[test]
fn the_longest_facts_fit_into_a_hello() {
    let mut long = facts(1);
    let start = |number| Start { number, boot: BootId(u64::MAX), kept: Sequence(u64::MAX) };
    long.starts = (u64::MAX - 256..u64::MAX).map(start).collect();
    long.voters = (u32::MAX - 128..u32::MAX).map(NodeId).collect();
    long.table = long.voters.iter().map(|node| (*node, Incarnation(u64::MAX))).collect();
    long.advertised.host = "n".repeat(255);
    let hello = Hello { facts: long, ..hello() };
    assert!(bytes_of(|out| hello.encode(out)).len() < HELLO_BYTES_MAX / 2);
}
