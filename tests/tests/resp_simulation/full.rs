//! Keys and values have used up their memory: what clients are told, and how writes go on.

use crate::{
    ONE, THREE, TWO, bulk, ok, read,
    support::{assert_sound, served, serving},
};
use purlin_server::resp::Value;
use purlin_tests::{cluster::ClusterOptions, cluster::scenario::Scenario};

/// One group, so that all keys meet at one leader, and 300,000 bytes for its data.
fn small() -> Scenario {
    let mut options = ClusterOptions { shards: vec![1, 1, 1], groups: 1, ..served(0) };
    options.limits[0].machine_bytes_max = 300_000;
    serving(41, options)
}

fn is_oom(reply: &Value) -> bool {
    let text = "OOM command not allowed when used memory > 'maxmemory'. ";
    matches!(reply, Value::Error(error) if error.starts_with(text) && error.contains("not applied"))
}

/// The number that `INFO memory` has for a name.
fn info(s: &Scenario, name: &str) -> u64 {
    let Value::Bulk(text) = read(s, ONE, "INFO memory") else { panic!("INFO is a text") };
    let text = String::from_utf8(text).expect("UTF-8");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.expect("a line of its own").parse().expect("a number")
}

#[test]
fn writes_that_grow_are_answered_oom_until_keys_are_deleted() {
    let s = small();
    let value = "v".repeat(10_000);
    let set = |n: usize| read(&s, TWO, &format!("SET key-{n} {value}"));
    let full = (0..60).find(|n| is_oom(&set(*n))).expect("600,000 bytes are too much");
    assert!((28..31).contains(&full), "{full}");
    // At the leader and at the others.
    for node in [ONE, TWO, THREE] {
        for refused in ["SET more 1", "APPEND key-0 x", "INCR counter", "MSET key-0 a more b"] {
            let reply = read(&s, node, refused);
            assert!(is_oom(&reply), "{refused} at node {node}: {reply:?}");
        }
        assert_eq!(read(&s, node, "GET key-0"), bulk(&value));
    }
    s.run_for(crate::seconds(1));
    let (used, most) = (info(&s, "used_memory_dataset"), info(&s, "maxmemory"));
    assert!(most == 300_000 && (most..most + 20_000).contains(&used), "{used} of {most}");
    let maxmemory = read(&s, ONE, "CONFIG GET maxmemory");
    assert!(format!("{maxmemory:?}").len() > 20, "{maxmemory:?}");
    assert_eq!(read(&s, THREE, "DEL key-1 key-2"), Value::Integer(2));
    assert_eq!(read(&s, ONE, "SET more 1"), ok());
    assert_eq!(read(&s, TWO, "GET more"), bulk("1"));
    s.must_converge(crate::seconds(20));
    assert_sound(&s);
}
