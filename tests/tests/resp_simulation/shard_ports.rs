//! The ports of shards: a shard answers for the groups that it leads, and says where the others are led.

use crate::{
    ONE, TWO, assert_sound, bulk,
    memory::{self, Behaviour, Client, Seen, TestServer},
    must_serve, ok, pipeline, replies, seconds, served, serving,
};
use purlin::{GroupId, NodeId, Runtime, ShardId, group_of_slot};
use purlin_server::resp::{Endpoint, Home, slot_of};
use purlin_tests::{
    cluster::{ClusterOptions, scenario::Scenario},
    resp::{self, Value, Wire},
    sim::Crash,
};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

/// Groups of one node lie on both of its shards, and every shard leads some.
fn several_shards() -> ClusterOptions {
    ClusterOptions { shards: vec![2, 1, 3], groups: 12, ..served(0) }
}

/// Talks with the port at `address`, within a bound.
fn talk_at<T: 'static>(
    s: &Scenario,
    address: &str,
    talk: impl AsyncFnOnce(Wire) -> T + 'static,
) -> T {
    let (runtime, address) = (s.world.outside(), address.to_owned());
    let end = Rc::new(RefCell::new(None));
    let given = end.clone();
    s.world.outside().spawn(async move {
        let wire = Wire::connect(&runtime, &address).await.expect("it is taken in");
        *given.borrow_mut() = Some(talk(wire).await);
    });
    s.must_reach("a talk ends", seconds(20), || end.borrow().is_some());
    end.take().expect("it was reached")
}

/// The replies of the port at `address` to requests, one after the other.
fn ask(s: &Scenario, address: &str, lines: &[&str]) -> Vec<Value> {
    let (bytes, count) = (pipeline(lines), lines.len());
    talk_at(s, address, async move |mut wire| {
        wire.write(&bytes).await.expect("it is sent");
        replies(&mut wire, count).await
    })
}

fn ask_one(s: &Scenario, address: &str, line: &str) -> Value {
    ask(s, address, &[line]).remove(0)
}

fn text(value: Value) -> String {
    match value {
        Value::Bulk(text) => String::from_utf8(text).expect("text"),
        Value::Error(text) | Value::Simple(text) | Value::Text(text) => text,
        other => panic!("{other:?} is no text"),
    }
}

/// What `CLUSTER SLOTS` tells at `address`: first and last slot, and where they are led.
fn slots(s: &Scenario, address: &str) -> Vec<(i64, i64, String)> {
    let Value::Array(rows) = ask_one(s, address, "CLUSTER SLOTS") else { panic!("no rows") };
    let row = |row| {
        let Value::Array(row) = row else { panic!("{row:?}") };
        let [Value::Integer(first), Value::Integer(last), Value::Array(node)] = &row[..] else {
            panic!("{row:?}")
        };
        let [host, Value::Integer(port), _id, Value::Array(more)] = &node[..] else {
            panic!("{row:?}")
        };
        assert!(more.is_empty());
        (*first, *last, format!("{}:{port}", text(host.clone())))
    };
    rows.into_iter().map(row).collect()
}

/// Where a key is led, by what `rows` tell.
fn home(rows: &[(i64, i64, String)], key: &str) -> String {
    let slot = i64::from(slot_of(key.as_bytes()));
    let row = rows.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
    row.expect("all slots are led").2.clone()
}

fn shard_ports(s: &Scenario) -> Vec<String> {
    s.shards().into_iter().map(|(node, shard)| resp::shard_address(node, shard)).collect()
}

fn settled(seed: u64) -> Scenario {
    let s = serving(seed, several_shards());
    // Groups go back to the nodes that led them first, and each shard tells the others who leads at its next beat.
    s.run_for(seconds(3));
    s
}

#[test]
fn each_slot_is_told_alike_everywhere_and_served_where_it_is_told_to_be() {
    let s = settled(1);
    let rows = slots(&s, &resp::address(ONE, ShardId(0)));
    let (mut next, mut homes) = (0, BTreeMap::new());
    for (first, last, home) in &rows {
        assert_eq!(*first, next, "all slots are told once: {rows:?}");
        next = last + 1;
        *homes.entry(home.clone()).or_insert(0) += last - first + 1;
    }
    assert_eq!(next, 16_384);
    assert!(homes.len() > 3, "{homes:?} shows little");
    for address in shard_ports(&s) {
        assert_eq!(slots(&s, &address), rows, "{address}");
        for n in 0..40 {
            let key = format!("key-{n}");
            let reply = ask_one(&s, &address, &format!("SET {key} {address}"));
            let home = home(&rows, &key);
            if home == address {
                assert_eq!(reply, ok(), "{address} {key}");
            } else {
                let moved = format!("MOVED {} {home}", slot_of(key.as_bytes()));
                assert_eq!(reply, Value::Error(moved), "{address} {key}");
            }
        }
    }
    // What was sent on was not done; what was done is seen everywhere.
    for n in 0..40 {
        let key = format!("key-{n}");
        let value = ask_one(&s, &resp::address(TWO, ShardId(0)), &format!("GET {key}"));
        assert_eq!(value, bulk(home(&rows, &key)));
    }
    assert_sound(&s);
}

#[test]
fn the_other_subcommands_tell_the_same() {
    let s = settled(2);
    let rows = slots(&s, &resp::address(ONE, ShardId(0)));
    for (node, shard) in s.shards() {
        let address = resp::shard_address(node, shard);
        let nodes = text(ask_one(&s, &address, "CLUSTER NODES"));
        let id = text(ask_one(&s, &address, "CLUSTER MYID"));
        assert!(id.len() == 40 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
        let myself: Vec<_> = nodes.lines().filter(|line| line.contains("myself,master")).collect();
        assert_eq!(myself.len(), 1, "{nodes}");
        assert!(myself[0].starts_with(&format!("{id} {address}@0 ")), "{id}: {}", myself[0]);
        let mut told: Vec<(i64, i64, String)> = Vec::new();
        for line in nodes.lines() {
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(words[7], "connected", "{line}");
            let (at, _) = words[1].split_once('@').expect("a bus port");
            for range in &words[8..] {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let number = |text: &str| text.parse().expect("a slot");
                told.push((number(first), number(last), at.to_owned()));
            }
        }
        told.sort_unstable();
        assert_eq!(told, rows);
        let info = text(ask_one(&s, &address, "CLUSTER INFO"));
        for fact in ["cluster_state:ok\r\n", "cluster_slots_ok:16384\r\n", "cluster_slots_fail:0"] {
            assert!(info.contains(fact), "{info}");
        }
        let Value::Array(shards) = ask_one(&s, &address, "CLUSTER SHARDS") else { panic!() };
        assert_eq!(shards.len(), nodes.lines().filter(|line| line.split(' ').count() > 8).count());
        let info = text(ask_one(&s, &address, "INFO"));
        assert!(info.contains("cluster_enabled:1") && info.contains("redis_mode:cluster"));
    }
    let gateway = resp::address(ONE, ShardId(0));
    assert_eq!(ask_one(&s, &gateway, "CLUSTER KEYSLOT foo{hash_tag}"), Value::Integer(2515));
    let info = text(ask_one(&s, &gateway, "INFO"));
    assert!(info.contains("cluster_enabled:0") && info.contains("redis_mode:standalone"));
    assert_sound(&s);
}

#[test]
fn a_command_of_several_keys_has_one_slot_and_one_for_all_keys_asks_the_groups_led_here() {
    let s = settled(3);
    let gateway = resp::address(ONE, ShardId(0));
    let rows = slots(&s, &gateway);
    for n in 0..30 {
        assert_eq!(ask_one(&s, &gateway, &format!("SET key-{n} x")), ok());
    }
    let mut keys = 0;
    for address in shard_ports(&s) {
        let Value::Integer(count) = ask_one(&s, &address, "DBSIZE") else { panic!("no number") };
        keys += count;
    }
    let Value::Integer(all) = ask_one(&s, &gateway, "DBSIZE") else { panic!("no number") };
    assert_eq!(keys, all);
    let at = home(&rows, "{t}");
    let lines = [
        "MSET {t}a 1 {t}b 2",
        "MGET {t}a {t}b {t}c",
        "DEL {t}a {t}c",
        "EXISTS {t}a {t}b",
        "MGET {t}a key-1",
        "MSET {t}a 1 key-1 2",
        "DEL {t}b key-1",
        "READONLY",
        "ASKING",
    ];
    let cross = "CROSSSLOT Keys in request don't hash to the same slot";
    let cross = || Value::Error(cross.into());
    let got = ask(&s, &at, &lines);
    let values = Value::Array(vec![bulk("1"), bulk("2"), Value::Nil]);
    let expected =
        [ok(), values, Value::Integer(1), Value::Integer(1), cross(), cross(), cross(), ok(), ok()];
    assert_eq!(got[..9], expected);
    // At the gateway one group is enough, and keys of several are read one by one.
    assert_eq!(ask_one(&s, &gateway, "MGET {t}b key-1"), Value::Array(vec![bulk("2"), bulk("x")]));
    let slot = slot_of(b"t");
    let count = |line: &str| ask_one(&s, &at, &format!("CLUSTER {line}"));
    assert_eq!(count(&format!("COUNTKEYSINSLOT {slot}")), Value::Integer(1));
    assert_eq!(count(&format!("GETKEYSINSLOT {slot} 9")), Value::Array(vec![bulk("{t}b")]));
    let bad = || Value::Error("ERR Invalid or out of range slot".into());
    assert_eq!(count("COUNTKEYSINSLOT 16384"), bad());
    assert_eq!(count(&format!("GETKEYSINSLOT {slot} -1")), bad());
    let elsewhere = rows.iter().find(|(_, _, home)| *home != at).expect("another home");
    let moved = Value::Error(format!("MOVED {} {}", elsewhere.0, elsewhere.2));
    assert_eq!(count(&format!("COUNTKEYSINSLOT {}", elsewhere.0)), moved);
    assert_sound(&s);
}

/// While a group has no leader, a command waits for one, and is forwarded; nobody is sent to a node that is gone for
/// longer than it takes to elect another leader.
#[test]
fn clients_are_sent_to_the_new_leaders_after_a_node_has_died() {
    let s = settled(4);
    let dead = resp::shard_address(TWO, ShardId(0));
    let rows = slots(&s, &resp::address(ONE, ShardId(0)));
    assert!(rows.iter().any(|(_, _, home)| *home == dead), "it leads nothing: {rows:?}");
    s.crash(TWO, Crash::PowerCut);
    s.run_for(seconds(3));
    let own = resp::shard_address(ONE, ShardId(1));
    let rows = slots(&s, &own);
    assert!(rows.iter().all(|(_, _, home)| *home != dead), "{rows:?}");
    assert_eq!(rows.iter().map(|(first, last, _)| last - first + 1).sum::<i64>(), 16_384);
    for n in 0..40 {
        let line = format!("SET key-{n} y");
        let mut reply = ask_one(&s, &own, &line);
        if let Value::Error(text) = &reply {
            let to = text.strip_prefix("MOVED ").and_then(|text| text.split(' ').nth(1));
            reply = ask_one(&s, to.unwrap_or_else(|| panic!("{text}")), &line);
        }
        assert_eq!(reply, ok(), "key-{n}");
    }
    s.world.restart(TWO);
    must_serve(&s, TWO);
    assert_sound(&s);
}

/// A shard that knows no leader takes the command, and waits for a leader as the gateway does.
#[test]
fn a_command_waits_for_a_leader_at_the_port_of_a_shard_too() {
    let s = settled(5);
    let groups: Vec<_> = (1..=12).map(GroupId).collect();
    let of_one = ShardId(0);
    [NodeId(2), NodeId(3)].into_iter().for_each(|node| s.crash(node, Crash::PowerCut));
    s.run_for(seconds(3));
    let leaders =
        groups.iter().filter(|group| s.status(ONE, **group).is_some_and(|it| it.leader.is_some()));
    assert_eq!(leaders.count(), 0, "a node alone leads nothing");
    assert_eq!(slots(&s, &resp::shard_address(ONE, of_one)), [], "others may know leaders");
    let info = text(ask_one(&s, &resp::shard_address(ONE, of_one), "CLUSTER INFO"));
    assert!(
        info.contains("cluster_state:fail") && info.contains("cluster_slots_fail:16384"),
        "{info}"
    );
    [NodeId(2), NodeId(3)].into_iter().for_each(|node| s.world.restart(node));
    let mut done = 0;
    for n in 0..12 {
        match ask_one(&s, &resp::shard_address(ONE, of_one), &format!("SET key-{n} z")) {
            Value::Error(text) => assert!(text.starts_with("MOVED "), "{text}"),
            reply => {
                assert_eq!(reply, ok());
                done += 1;
            }
        }
    }
    assert!(done > 0, "the first one waited for a leader");
    s.run_for(Duration::from_secs(1));
    assert_sound(&s);
}

/// The front end of a shard's port, whose shard finds these leaders, one after the other.
fn front_end(homes: impl IntoIterator<Item = Home>, leaderless: bool) -> (TestServer, Rc<Seen>) {
    front_end_without(homes, leaderless.then_some("a"))
}

fn group_of(key: &str) -> GroupId {
    group_of_slot(slot_of(key.as_bytes()), memory::GROUPS)
}

/// The same, and the group of one key has no leader.
fn front_end_without(
    homes: impl IntoIterator<Item = Home>,
    leaderless: Option<&str>,
) -> (TestServer, Rc<Seen>) {
    let seen = Rc::new(Seen::default());
    let behaviour = Behaviour {
        homes: Rc::new(RefCell::new(homes.into_iter().collect())),
        leaderless: leaderless.map(group_of).into_iter().collect(),
        seen: Rc::clone(&seen),
        ..Behaviour::default()
    };
    (TestServer::with(behaviour, |options| options.shard_port = TestServer::PORT), seen)
}

fn elsewhere() -> Home {
    let (node, shard) = (TWO, Some(ShardId(0)));
    Home::At(Endpoint { node, shard, host: "n2".into(), port: 7101 })
}

/// Sends requests in one piece, and runs until they have come.
fn send(server: &TestServer, client: &mut Client, lines: &[&str]) {
    client.queue_bytes(&pipeline(lines));
    client.send().expect("it is sent");
    let pong = server.client().command(&["PING"]).expect("it serves");
    assert_eq!(pong, Value::Simple("PONG".into()));
}

fn is_moved(reply: &Value) -> bool {
    *reply == Value::Error(format!("MOVED {} n2:7101", slot_of(b"a")))
}

/// Safety C2: otherwise the second is done elsewhere, and the first behind it.
#[test]
fn behind_a_request_that_waits_here_for_a_leader_none_is_sent_elsewhere() {
    let (server, seen) = front_end([Home::Unknown, elsewhere()], true);
    let mut client = server.client();
    send(&server, &mut client, &["SET a 1", "SET a 2", "PING"]);
    assert_eq!(seen.leaderless.get(), 1, "the second waits for the first");
    client.finish();
    // Both end with the connection.
    for _ in 0..2 {
        let reply = client.read_reply().expect("a reply");
        assert!(
            matches!(&reply, Value::Error(text) if text.starts_with("CLUSTERDOWN ")),
            "{reply:?}"
        );
    }
    assert_eq!(client.read_reply().expect("a reply"), Value::Simple("PONG".into()));
    assert_eq!(seen.leaderless.get(), 0);
}

/// A client that always has requests under way here would never learn that the group has moved.
#[test]
fn a_client_is_sent_elsewhere_as_soon_as_its_earlier_requests_have_ended() {
    let (server, _) = front_end([Home::Here, elsewhere(), elsewhere()], false);
    let mut client = server.client();
    send(&server, &mut client, &["SET a 1", "SET a 2", "PING"]);
    assert_eq!(client.read_reply().expect("a reply"), ok());
    let reply = client.read_reply().expect("a reply");
    assert!(is_moved(&reply), "{reply:?}");
    assert_eq!(client.read_reply().expect("a reply"), Value::Simple("PONG".into()));
}

/// Safety C2: the client sends both there, in their order. What comes later is judged anew, also while the first
/// replies wait behind another one.
#[test]
fn behind_a_request_that_was_sent_elsewhere_all_of_its_pipeline_are() {
    let waits = (0..).map(|n| format!("b{n}")).find(|key| group_of(key) != group_of("a"));
    let waits = waits.expect("there are several groups");
    let (server, _) = front_end_without([Home::Here, elsewhere(), Home::Here], Some(&waits));
    let mut client = server.client();
    send(&server, &mut client, &[&format!("SET {waits} 1"), "SET a 1", "SET a 2"]);
    send(&server, &mut client, &["SET a 3", "GET a"]);
    client.finish();
    let first = client.read_reply().expect("a reply");
    assert!(matches!(&first, Value::Error(text) if text.starts_with("CLUSTERDOWN ")), "{first:?}");
    for _ in 0..2 {
        let reply = client.read_reply().expect("a reply");
        assert!(is_moved(&reply), "{reply:?}");
    }
    assert_eq!(client.read_reply().expect("a reply"), ok());
    assert_eq!(client.read_reply().expect("a reply"), bulk("3"));
}
