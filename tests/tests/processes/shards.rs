//! One, two and four shards for each node, on however many cores, with groups on all of them.

use super::support::{Cluster, Shape, number, until};
use purlin_server::resp::Value;

/// Enough for some in each group.
const KEYS: usize = 120;

fn serves_with(shards: u16) {
    let cluster = Cluster::start("shards", Shape { shards, groups: 16 });
    for node in &cluster.nodes {
        assert_eq!(node.info("purlin_shards"), Some(u64::from(shards)));
        let mut client = node.client();
        let id = node.config.node.id;
        let name = |key| format!("{id}:{key}");
        let set = (0..KEYS).map(|key| vec!["SET".into(), name(key), format!("value {key}")]);
        let replies = client.pipeline(&set.collect::<Vec<_>>()).expect("a node that serves");
        assert!(replies.iter().all(|reply| *reply == Value::Simple("OK".into())), "{replies:?}");
        let count = (0..KEYS).map(|key| vec!["INCR".into(), format!("counter:{key}")]);
        let replies = client.pipeline(&count.collect::<Vec<_>>()).expect("a node that serves");
        assert!(replies.iter().all(|reply| number(reply) == i64::from(id.0)), "{replies:?}");
    }
    for (reader, writer) in [(0, 2), (1, 3), (2, 1)] {
        let mut client = cluster.nodes[reader].client();
        let get = (0..KEYS).map(|key| vec!["GET".into(), format!("{writer}:{key}")]);
        let replies = client.pipeline(&get.collect::<Vec<_>>()).expect("a node that serves");
        for (key, reply) in replies.iter().enumerate() {
            assert_eq!(*reply, Value::Bulk(format!("value {key}").into_bytes()));
        }
    }
    cluster.assert_no_panic();
}

#[test]
fn one_shard_serves() {
    serves_with(1);
}

#[test]
fn two_shards_serve() {
    serves_with(2);
}

#[test]
fn four_shards_serve() {
    serves_with(4);
}

#[test]
fn a_node_asked_to_stop_ends_without_an_error() {
    let mut cluster = Cluster::start("stop", Shape { shards: 2, groups: 6 });
    cluster.nodes[0].done(&["SET", "k", "v"]);
    for node in &mut cluster.nodes {
        let end = node.stop();
        assert_eq!((end.code, end.signal), (Some(0), None), "{}", end.err);
        assert!(!end.err.contains("panicked"), "{}", end.err);
    }
    cluster.nodes.iter_mut().for_each(|node| node.start());
    cluster.wait_until_ready();
    assert_eq!(cluster.nodes[1].done(&["GET", "k"]), Value::Bulk(b"v".into()));
}

#[test]
fn a_pipeline_of_large_values_is_answered_by_each_node() {
    const VALUES: usize = 100;
    let cluster = Cluster::start("large", Shape { shards: 1, groups: 3 });
    let value = "x".repeat(400 << 10);
    cluster.nodes[0].done(&["SET", "large", &value]);
    for node in &cluster.nodes {
        let get = vec![vec!["GET", "large"]; VALUES];
        let replies = node.client().pipeline(&get).expect("a node that serves");
        for reply in replies {
            assert_eq!(
                reply.bytes().map(<[u8]>::len),
                Some(value.len()),
                "{:.200}",
                reply.to_string()
            );
        }
    }
}

/// Its clients are served by the shard that runs: for the groups of that shard. For the others they are told why not.
#[test]
fn a_node_with_a_damaged_shard_serves_its_other_groups_and_refuses_the_rest_with_the_reason() {
    let mut cluster = Cluster::start("damaged", Shape { shards: 2, groups: 8 });
    assert_eq!(cluster.nodes[0].info("purlin_ready"), Some(1));
    assert_eq!(cluster.nodes[0].stop().code, Some(0));
    cluster.nodes[0].damage(1);
    cluster.nodes[0].start();
    // It never knows a leader of the groups of the shard that is down.
    until("the other shard knows its leaders", || {
        (cluster.nodes[0].info("purlin_groups_without_leader")? == 4).then_some(())
    });
    assert_eq!(cluster.nodes[0].info("purlin_ready"), Some(0));
    let (mut served, mut refused) = (0, 0);
    // The kernel spreads clients over the sockets that listen: none is left of the shard that is down.
    for client in 0..16 {
        let mut client_of = cluster.nodes[0].client();
        let name = |key| format!("{client}:{key}");
        let pipeline = (0..KEYS).flat_map(|key| {
            [vec!["SET".into(), name(key), "v".into()], vec!["GET".into(), name(key)]]
        });
        let replies = client_of.pipeline(&pipeline.collect::<Vec<_>>()).expect("it serves");
        for replies in replies.chunks(2) {
            match replies {
                [Value::Simple(_), Value::Bulk(_)] => served += 1,
                [Value::Error(set), Value::Error(get)] => {
                    let why = "CLUSTERDOWN shard 1 of this node has stopped";
                    assert!(set.starts_with(why) && get.starts_with(why), "{set}\n{get}");
                    refused += 1;
                }
                _ => panic!("{replies:?}"),
            }
        }
    }
    assert!(served > 4 * KEYS && refused > 4 * KEYS, "{served} were served, {refused} refused");
    let mut elsewhere = cluster.nodes[1].client();
    let set = (0..KEYS).map(|key| vec!["SET".into(), format!("0:{key}"), "v".to_owned()]);
    let replies = elsewhere.pipeline(&set.collect::<Vec<_>>()).expect("a node that serves");
    assert!(replies.iter().all(|reply| *reply == Value::Simple("OK".into())), "{replies:?}");
    cluster.assert_no_panic();
}
