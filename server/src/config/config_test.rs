//! A file with every mistake there is, one at a time, and the text that a person gets to read.

use super::*;
use purlin::{ClusterConfig, ClusterId, DurableBy, GroupId, NodeId, RaftOptions, WalOptions};
use purlin_kv::VALUE_BYTES_MAX;
use std::time::Duration;

const ID: &str = "9f0c6f0e4d5b4a0fa1a2c3d4e5f60718";

/// A file with what must be given, and nothing else.
fn minimal() -> String {
    format!(
        "[node]\n\
         id = 1\n\
         data_dir = \"/var/lib/purlin\"\n\
         shards = 2\n\
         [cluster]\n\
         id = \"{ID}\"\n\
         members = [\n\
         {{ node = 1, host = \"10.0.0.1\", peer_port = 7190 }},\n\
         {{ node = 2, host = \"10.0.0.2\", peer_port = 7190 }},\n\
         {{ node = 3, host = \"10.0.0.3\", peer_port = 7190 }},\n\
         ]\n"
    )
}

fn parse(text: &str) -> Result<Config, Mistakes> {
    Config::parse(Path::new("purlin.toml"), text)
}

/// What is said of the minimal file followed by `more`.
fn with(more: &str) -> String {
    parse(&format!("{}{more}", minimal())).expect_err(more).to_string()
}

/// What is said of the minimal file with `old` replaced by `new`.
fn replaced(old: &str, new: &str) -> String {
    let text = minimal();
    assert!(text.contains(old), "{old}");
    parse(&text.replacen(old, new, 1)).expect_err(new).to_string()
}

#[test]
fn a_key_that_is_not_given_has_its_default() {
    let config = parse(&minimal()).expect("a good file");
    assert_eq!(config.node.id, NodeId(1));
    assert_eq!(config.node.data_dir, Path::new("/var/lib/purlin"));
    assert_eq!(config.shards(), 2);
    assert_eq!(config.cluster.id.to_string(), ID);
    assert_eq!((config.cluster.groups, config.cluster.replicas), (48, 3));
    assert_eq!(config.cluster.members[2].host, "10.0.0.3");
    let own_host = || "10.0.0.1".to_owned();
    let listen = ListenOptions {
        peer_host: own_host(),
        advertise_host: own_host(),
        shard_port_base: 0,
        ..ListenOptions::default()
    };
    assert_eq!(config.listen, listen);
    assert_eq!(config.listen.admin.to_string(), "127.0.0.1:7098");
    assert_eq!(config.raft, RaftOptions::default());
    assert_eq!(config.wal, WalOptions::default());
    assert_eq!(config.client, ClientOptions::default());
    assert_eq!(config.log, LogOptions::default());
}

#[test]
fn each_key_that_is_given_is_read() {
    let text = minimal().replace("shards = 2", "shards = \"auto\"\npin = false")
        + "[listen]\ngateway = \"0.0.0.0:8000\"\ninsecure = true\n\
           peer_host = \"0.0.0.0\"\nadvertise_host = \"n1.example.org\"\n\
           shard_port_base = 8001\n\
           [raft]\ntick = \"5ms\"\nelection_timeout = \"300ms..600ms\"\nheartbeat = \"50ms\"\n\
           inflight_bytes = \"1MiB\"\n\
           [wal]\nsegment = \"128MiB\"\ndurable_by = \"dsync\"\n\
           [client]\nmax_value = \"1MiB\"\nmax_pipeline = 7\noutput_buffer = \"2MiB\"\n\
           deadline = \"3s\"\nleader_deadline = \"1s\"\n\
           [runtime]\nio_memory = \"1MiB\"\n\
           [log]\nlevel = \"debug\"\nformat = \"text\"\n";
    let config = parse(&text).expect("a good file");
    let node = config.node_config();
    assert_eq!(config.node.shards, Shards::Auto);
    assert!(!node.pin);
    assert_eq!(config.listen.gateway.to_string(), "0.0.0.0:8000");
    assert_eq!(config.listen.admin.to_string(), "127.0.0.1:8098", "beside the gateway");
    assert_eq!(config.listen.peer_host, "0.0.0.0");
    assert_eq!(config.listen.advertise_host, "n1.example.org");
    assert_eq!(config.listen.shard_port_base, 8001);
    assert_eq!(node.peer_host.as_deref(), Some("0.0.0.0"));
    assert_eq!(node.advertised.gateway_port, 8000);
    assert_eq!(node.advertised.shard_port_base, 8001);
    assert_eq!(node.advertised.admin_port, 0, "another machine cannot reach it");
    assert_eq!(config.listen.told(config.listen.gateway), "n1.example.org:8000");
    assert_eq!(config.listen.told(config.listen.admin), "127.0.0.1:8098");
    assert_eq!(node.raft.tick, Duration::from_millis(5));
    assert_eq!(node.raft.election_timeout, Duration::from_millis(300)..Duration::from_millis(600));
    assert_eq!(node.raft.heartbeat, Duration::from_millis(50));
    assert_eq!(node.raft.inflight_bytes_max, 1 << 20);
    assert_eq!((node.wal.segment_bytes, node.wal.durable_by), (128 << 20, DurableBy::Dsync));
    assert_eq!((config.client.max_value, config.client.max_pipeline), (1 << 20, 7));
    assert_eq!(config.client.output_buffer, 2 << 20);
    let deadlines = (node.intake.deadline, node.intake.leader_deadline);
    assert_eq!(deadlines, (Duration::from_secs(3), Duration::from_secs(1)));
    assert_eq!(node.io_memory, 1 << 20);
    assert_eq!(config.log, LogOptions { level: LogLevel::Debug, format: LogFormat::Text });
}

/// Clients are sent to these hosts and ports, so they must be some that clients reach.
#[test]
fn a_node_tells_the_host_at_which_clients_reach_its_gateway() {
    let told = |listen: &str| {
        let config = parse(&(minimal() + "[listen]\nshard_port_base = 7001\n" + listen));
        let told = config.expect("a good file").advertised();
        (told.host, told.gateway_port, told.shard_port_base)
    };
    // Only this machine reaches the gateway, and others are told a host by which they do not reach it.
    assert_eq!(told(""), ("10.0.0.1".into(), 0, 0));
    assert_eq!(told("advertise_host = \"127.0.0.1\"\n"), ("127.0.0.1".into(), 7000, 7001));
    let at = |gateway: &str| format!("gateway = \"{gateway}:7000\"\ninsecure = true\n");
    assert_eq!(told(&at("0.0.0.0")), ("10.0.0.1".into(), 7000, 7001));
    assert_eq!(told(&at("192.168.7.1")), ("192.168.7.1".into(), 7000, 7001));
    let outside = at("172.17.0.2") + "advertise_host = \"203.0.113.9\"\n";
    assert_eq!(told(&outside), ("203.0.113.9".into(), 7000, 7001));
}

#[test]
fn a_configuration_that_is_written_reads_as_it_was() {
    let mut cluster = ClusterConfig::new(ClusterId(0x9f0c_6f0e), 48, example_members());
    (cluster.extra_groups, cluster.max_command) = (77, 3 << 20);
    let mut config = Config::new(NodeId(2), "/var/lib/a \"b\" \\ \u{7f}ä".into(), cluster);
    for shards in [Shards::Auto, Shards::Number(4)] {
        config.node.shards = shards;
        assert_eq!(parse(&config.render()).expect("what we wrote"), config);
    }
    config.raft.election_timeout = Duration::from_millis(1500)..Duration::from_secs(3);
    config.wal.segment_bytes = 16 << 20;
    config.wal.durable_by = DurableBy::Fdatasync;
    config.client.max_value = 12_345;
    config.log = LogOptions { level: LogLevel::Off, format: LogFormat::Text };
    config.listen = ListenOptions {
        gateway: "[::]:1".parse().expect("an address"),
        insecure: true,
        shard_port_base: 8001,
        peer_host: "0.0.0.0".into(),
        advertise_host: "n2.example.org".into(),
        admin: "[::1]:9".parse().expect("an address"),
    };
    assert_eq!(parse(&config.render()).expect("what we wrote"), config);
}

#[test]
fn every_key_is_written_and_explained() {
    let cluster = ClusterConfig::new(ClusterId(1), 1, example_members());
    let text = Config::new(NodeId(1), "data".into(), cluster).render();
    let mut lines = text.lines().peekable();
    for section in &keys::SECTIONS {
        let head = format!("[{}]", section.name);
        assert!(lines.any(|line| line == head), "{head} comes in its order");
        for key in section.keys {
            assert!(lines.peek().is_some_and(|line| line.starts_with("# ")), "{}", key.name);
            let start = format!("{} = ", key.name);
            assert!(lines.any(|line| line.starts_with(&start)), "{start}");
            while lines.next_if(|line| line.starts_with("  {") || *line == "]").is_some() {}
        }
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn a_relative_data_directory_lies_beside_the_file() {
    let text = minimal().replace("/var/lib/purlin", "data");
    let config = Config::parse(Path::new("/etc/purlin/n1.toml"), &text).expect("a good file");
    assert_eq!(config.node.data_dir, Path::new("/etc/purlin/data"));
    assert_eq!(parse(&text).expect("a good file").node.data_dir, Path::new("data"));
}

#[test]
fn an_unknown_key_is_drawn_with_its_nearest() {
    assert_eq!(
        with("[raft]\nelection_timout = \"500ms..1s\"\n"),
        "error: unknown key `raft.election_timout`\n  \
           --> purlin.toml:13:1\n\
         13 | election_timout = \"500ms..1s\"\n   \
            | ^^^^^^^^^^^^^^^ did you mean `election_timeout`?"
    );
}

#[test]
fn unknown_names_say_what_there_is() {
    for (more, message, label) in [
        ("[listne]\n", "unknown section `[listne]`", "did you mean `[listen]`?"),
        ("[security]\n", "unknown section `[security]`", "the sections are node, cluster, listen"),
        ("[wal]\nheartbeat = 1\n", "unknown key `wal.heartbeat`", "`heartbeat` belongs to [raft]"),
        (
            "[wal]\nxyzzy = 1\n",
            "unknown key `wal.xyzzy`",
            "the keys of `wal` are segment, durable_by",
        ),
        ("[raft.tick_]\n", "unknown key `raft.tick_`", "did you mean `tick`?"),
        ("[raft]\npre_vote = true\n", "unknown key `raft.pre_vote`", "the keys of `raft` are tick"),
    ] {
        let said = with(more);
        assert!(said.starts_with(&format!("error: {message}\n")), "{said}");
        assert!(said.contains(label), "{said}");
        assert!(!said.contains("\nerror: "), "one mistake, one message: {said}");
    }
    let said = parse("tick = \"1ms\"\n").expect_err("no section").to_string();
    assert!(said.contains("error: the key `tick` is in no section"), "{said}");
    assert!(said.contains("1 | tick = \"1ms\"\n  | ^^^^ `tick` belongs to [raft]"), "{said}");
    let said = replaced("peer_port = 7190", "peer_port = 7190, post = 1");
    assert!(said.contains("error: unknown key `cluster.members[0].post`"), "{said}");
    assert!(said.contains("did you mean `host`?"), "{said}");
}

#[test]
fn a_value_of_the_wrong_kind_is_named() {
    for (more, message) in [
        ("[raft]\ntick = 10\n", "`raft.tick` is a whole number, and must be a time such as"),
        ("[raft]\nheartbeat = true\n", "`raft.heartbeat` is true or false, and must be a time"),
        ("[wal]\nsegment = 1.5\n", "`wal.segment` is a number with a point, and must be a size"),
        ("[wal]\ndurable_by = []\n", "`wal.durable_by` is a list, and must be one of \"auto\""),
        (
            "[listen]\ninsecure = \"yes\"\n",
            "`listen.insecure` is a text, and must be true or false",
        ),
        ("[listen]\ngateway = 7000\n", "`listen.gateway` is a whole number, and must be an IP"),
        (
            "[client]\nmax_pipeline = \"9\"\n",
            "`client.max_pipeline` is a text, and must be a whole",
        ),
        ("[log]\nlevel = 1979-05-27\n", "`log.level` is a date, and must be one of \"off\""),
        ("[client.max_value]\n", "`client.max_value` is a section, and must be a size"),
        ("[[wal]]\n", "`wal` must be a section: a line `[wal]`, then its keys"),
    ] {
        let said = with(more);
        assert!(said.starts_with(&format!("error: {message}")), "{more}: {said}");
        assert!(said.contains('^'), "{said}");
    }
    let said = replaced("shards = 2", "shards = \"two\"");
    assert!(
        said.contains("`node.shards` is a text, and must be a whole number from 1 to 1024, or")
    );
    let said = replaced("members = [", "groups = [");
    assert!(said.contains("`cluster.members` is missing"), "{said}");
}

#[test]
fn numbers_out_of_range_are_named_with_the_range() {
    for (old, new, message) in [
        ("id = 1", "id = 0", "`node.id` is 0, and must be a whole number from 1 to 4294967295"),
        ("id = 1", "id = -1", "`node.id` is -1, and must be"),
        ("id = 1", "id = 4294967296", "`node.id` is 4294967296, and must be"),
        ("id = 1", "id = 99999999999999999999999999", "`node.id` is 999"),
        ("shards = 2", "shards = 0", "`node.shards` is 0, and must be a whole number from 1 to"),
        ("shards = 2", "shards = 70000", "`node.shards` is 70000, and must be"),
        ("[cluster]", "[cluster]\ngroups = 0", "`cluster.groups` is 0, and must be a whole number"),
        ("[cluster]", "[cluster]\ngroups = 16385", "from 1 to 16384"),
        ("peer_port = 7190", "peer_port = 0", "`cluster.members[0].peer_port` is 0"),
        ("peer_port = 7190", "peer_port = 65536", "must be a whole number from 1 to 65535"),
        ("{ node = 2", "{ node = 0", "`cluster.members[1].node` is 0, and must be"),
    ] {
        let said = replaced(old, new);
        assert!(said.contains(message), "{new}: {said}");
    }
    for (more, message) in [
        ("[raft]\ntick = \"0ms\"\n", "`raft.tick` is 0us, and must be 1ms to 1s"),
        ("[raft]\ntick = \"-5ms\"\n", "`raft.tick` is \"-5ms\", and must be a time such as"),
        ("[raft]\nheartbeat = \"2min\"\n", "`raft.heartbeat` is 2min, and must be 1ms to 1min"),
        ("[raft]\ninflight_bytes = \"0B\"\n", "`raft.inflight_bytes` is 0B, and must be 64KiB to"),
        ("[wal]\nsegment = \"64MB\"\n", "`wal.segment` is \"64MB\", and must be a size such as"),
        ("[wal]\nsegment = \"1KiB\"\n", "`wal.segment` is 1KiB, and must be 1MiB to 4GiB"),
        ("[wal]\nsegment = \"5GiB\"\n", "`wal.segment` is 5GiB, and must be 1MiB to 4GiB"),
        (
            "[wal]\nsegment = \"2097153B\"\n",
            "2097153B, and must be 1MiB to 4GiB, a multiple of 4KiB",
        ),
        (
            "[wal]\ndurable_by = \"never\"\n",
            "\"never\", and must be one of \"auto\", \"dsync\", \"fd",
        ),
        ("[client]\nmax_value = \"0B\"\n", "`client.max_value` is 0B, and must be 1B to 8MiB"),
        ("[client]\nmax_pipeline = 0\n", "`client.max_pipeline` is 0, and must be a whole number"),
        ("[client]\ndeadline = \"0s\"\n", "`client.deadline` is 0us, and must be 100ms to 60min"),
        (
            "[client]\noutput_buffer = \"1B\"\n",
            "`client.output_buffer` is 1B, and must be 64KiB to",
        ),
        ("[runtime]\nio_memory = \"1B\"\n", "`runtime.io_memory` is 1B, and must be 64KiB to 1GiB"),
        (
            "[log]\nlevel = \"loud\"\n",
            "`log.level` is \"loud\", and must be one of \"off\", \"error\"",
        ),
        (
            "[log]\nformat = \"json\"\n",
            "`log.format` is \"json\", and must be one of \"auto\", \"text",
        ),
        ("[listen]\ngateway = \"localhost:1\"\n", "\"localhost:1\", and must be an IP address and"),
        ("[listen]\ngateway = \"127.0.0.1:0\"\n", "\"127.0.0.1:0\", and must be an IP address and"),
    ] {
        let said = with(more);
        assert!(said.contains(message), "{more}: {said}");
    }
}

/// A client that sends its longest command and reads its longest reply must not be closed for that.
#[test]
fn the_memory_of_clients_holds_two_of_them_that_use_all_they_may() {
    let said = with("[client]\nmemory = \"79MiB\"\n");
    assert!(
        said.contains("`client.memory` is 79MiB, and must be at least 80MiB, for two"),
        "{said}"
    );
    assert!(
        said.contains("twice `client.query_buffer` (16MiB), `client.output_buffer` (16MiB)"),
        "{said}"
    );
    let enough = format!("{}[client]\nmemory = \"80MiB\"\n", minimal());
    parse(&enough).expect("enough for two");
}

#[test]
fn a_bad_cluster_id_is_named() {
    for bad in ["", "9f0c", &ID[1..], &ID.replace('9', "g"), &ID.replace('9', "+")] {
        let said = replaced(ID, bad);
        let message = format!("`cluster.id` is {bad:?}, and must be 32 hexadecimal digits, as");
        assert!(said.contains(&message), "{said}");
    }
    assert!(replaced(ID, &"0".repeat(32)).contains("`cluster.id` is zero, and must be"));
}

#[test]
fn hosts_are_addresses_or_names() {
    for bad in ["", "10.0.0.1:80", "a b", "http://x", &"x".repeat(300)] {
        let said = replaced("10.0.0.1", bad);
        assert!(
            said.contains("and must be an IP address or a host name, without a port"),
            "{said}"
        );
    }
    for good in ["localhost", "::1", "n1.example.org", "fe80::1"] {
        parse(&minimal().replace("10.0.0.1", good)).expect(good);
    }
}

#[test]
fn a_missing_key_is_named_with_its_purpose() {
    assert_eq!(
        replaced("id = 1\n", ""),
        "error: `node.id` is missing\n  \
           --> purlin.toml:1:1\n\
         1 | [node]\n  \
           | ^^^^^^ which of the members this node is"
    );
    let said = replaced(&format!("id = \"{ID}\"\n"), "");
    assert!(said.contains("`cluster.id` is missing"), "{said}");
    assert!(said.contains("`purlin init --new` prints a new one"), "{said}");
    let said = replaced(", peer_port = 7190", "");
    assert!(said.contains("error: `cluster.members[0].peer_port` is missing\n"), "{said}");
    let said = parse("").expect_err("an empty file").to_string();
    for name in ["node.id", "node.data_dir", "cluster.id", "cluster.members"] {
        assert!(
            said.contains(&format!("error: `{name}` is missing\n  --> purlin.toml\n")),
            "{said}"
        );
    }
}

#[test]
fn members_must_be_different_and_know_this_node() {
    let said = replaced("node = 2", "node = 1");
    let message = "error: `cluster.members[1].node` is 1, which is the id of another member too\n";
    assert!(said.contains(&format!("{message}  --> purlin.toml:9:10\n")), "{said}");
    let said = replaced("id = 1", "id = 7");
    assert!(said.contains("error: `node.id` is 7, which is none of the members\n"), "{said}");
    assert!(said.contains("2 | id = 7\n  |      ^ the members are 1, 2, 3"), "{said}");
    let said = replaced("10.0.0.2", "10.0.0.1");
    assert!(
        said.contains("error: the nodes 1 and 2 have the same address 10.0.0.1:7190"),
        "{said}"
    );
    let said = replaced("\"10.0.0.2\", peer_port = 7190", "\"10.0.0.1\", peer_port = 7191");
    assert!(
        said.contains(
            "error: the peer ports of the nodes 1 and 2 overlap: 7190-7191 and 7191-7192"
        ),
        "{said}"
    );
    assert!(
        said.contains("^^^^ shard i listens at peer_port + i, and there are 2 shards"),
        "{said}"
    );
    let said = replaced("peer_port = 7190", "peer_port = 65535");
    assert!(said.contains("error: node 1 needs the ports 65535 to 65536 for 2 shards"), "{said}");
    let neighbours = minimal().replace("10.0.0.2", "10.0.0.1").replacen("7190", "7188", 1);
    parse(&neighbours).expect("ports that touch and do not overlap");
    let said = parse(&format!(
        "[node]\nid = 1\ndata_dir = \"d\"\n[cluster]\nid = \"{ID}\"\nmembers = []\n"
    ));
    assert!(said.expect_err("no members").to_string().contains("`cluster.members` is empty"));
}

#[test]
fn each_member_has_a_replica_of_each_group() {
    assert_eq!(
        replaced("[cluster]", "[cluster]\nreplicas = 2"),
        "error: `cluster.replicas` is 2, and there are 3 members: in this version each member has a \
         replica of each group\n  \
           --> purlin.toml:6:12\n\
         6 | replicas = 2\n  \
           |            ^ must be 3, or left out"
    );
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    for address in ["0.0.0.0:7000", "10.1.2.3:7000", "[::]:7000"] {
        for key in ["gateway", "admin"] {
            let said = with(&format!("[listen]\n{key} = \"{address}\"\n"));
            let message = format!("error: `listen.{key}` is {address}, which other machines reach");
            assert!(said.contains(&message), "{said}");
            assert!(said.contains("use 127.0.0.1, or say `insecure = true` in [listen]"), "{said}");
        }
    }
    for good in ["127.0.0.2:7000", "[::1]:7000", "127.0.0.1:7192"] {
        parse(&format!("{}[listen]\ngateway = \"{good}\"\n", minimal())).expect(good);
    }
}

#[test]
fn each_port_of_a_node_has_one_use() {
    assert_eq!(
        with("[listen]\ngateway = \"127.0.0.1:7191\"\n"),
        "error: `listen.gateway` takes port 7191, and `peer_port` of this node takes the ports 7190 \
         to 7191\n  \
           --> purlin.toml:13:11\n\
         13 | gateway = \"127.0.0.1:7191\"\n   \
            |           ^^^^^^^^^^^^^^^^ each port can have one use only"
    );
    let said = with("[listen]\nshard_port_base = 6999\n");
    assert!(said.contains("takes the ports 6999 to 7000, and `listen.gateway` of this"), "{said}");
    let said = with("[listen]\nadmin = \"127.0.0.1:7000\"\n");
    assert!(said.contains("`listen.admin` takes port 7000, and `listen.gateway`"), "{said}");
    let said = with("[listen]\ngateway = \"127.0.0.1:65500\"\n");
    assert!(said.contains("error: `listen.admin` has no port left below 65536"), "{said}");
    let said = with("[listen]\nshard_port_base = 65535\n");
    assert!(said.contains("error: `listen.shard_port_base` has no port left"), "{said}");
    parse(&format!("{}[listen]\nshard_port_base = 7001\n", minimal())).expect("ports of its own");
}

#[test]
fn a_segment_on_the_command_line_is_as_in_the_file() {
    assert_eq!(segment_bytes("16MiB"), Ok(16 << 20));
    for wrong in ["16", "512KiB", "5GiB", "1048577B", ""] {
        let said = segment_bytes(wrong).expect_err("no size of a segment");
        assert!(said.contains("must be 1MiB to 4GiB") || said.contains("must be a size"), "{said}");
    }
}

#[test]
fn times_must_leave_room_for_a_lost_heartbeat() {
    assert_eq!(
        with("[raft]\nelection_timeout = \"200ms..1s\"\n"),
        "error: `raft.election_timeout` begins at 200ms, which is not more than two heartbeats of \
         100ms\n  \
           --> purlin.toml:13:20\n\
         13 | election_timeout = \"200ms..1s\"\n   \
            |                    ^^^^^^^^^^^ one lost heartbeat would start an election"
    );
    let said = with("[raft]\nheartbeat = \"300ms\"\n");
    assert!(said.contains("--> purlin.toml:13:13"), "the place of what was given: {said}");
    for range in ["1s..1s", "2s..1s", "500ms..61s"] {
        let said = with(&format!("[raft]\nelection_timeout = \"{range}\"\n"));
        assert!(said.contains("must be a range that grows and ends at 1min or earlier"), "{said}");
    }
    let said = with("[raft]\nelection_timeout = \"500ms\"\n");
    assert!(said.contains("is \"500ms\", and must be a range of times such as"), "{said}");
    let said = with("[raft]\ntick = \"200ms\"\n");
    assert!(said.contains("`raft.heartbeat` is 100ms, which is shorter than a tick of 200ms"));
}

#[test]
fn the_file_and_the_engine_see_the_same_contradictions() {
    type Change = fn(&mut Config);
    let changes: [(&str, Change); 8] = [
        ("raft.election_timeout", |c| c.raft.election_timeout.start = c.raft.heartbeat * 2),
        ("raft.election_timeout", |c| c.raft.election_timeout.end = Duration::from_secs(61)),
        ("raft.election_timeout", |c| {
            c.raft.election_timeout.end = c.raft.election_timeout.start + c.raft.tick / 2;
        }),
        ("raft.heartbeat", |c| c.raft.tick = c.raft.heartbeat * 2),
        ("cluster.max_command", |c| {
            (c.wal.segment_bytes, c.cluster.max_command) = (1 << 20, 1 << 20)
        }),
        ("node.id", |c| c.node.id = NodeId(7)),
        ("cluster.members[1].node", |c| c.cluster.members[1].node = NodeId(1)),
        ("cluster.replicas", |c| c.cluster.replicas = 2),
    ];
    for (key, change) in changes {
        let mut config = parse(&minimal()).expect("a good file");
        change(&mut config);
        let (node, cluster) = (config.node_config(), &config.cluster);
        let engine = cluster.validate().and_then(|()| node.validate(cluster)).expect_err(key);
        let text = config.render();
        let said = parse(&text).expect_err(key).to_string();
        let first = cluster.contradictions().into_iter().chain(node.contradictions(cluster)).next();
        let first = first.expect(key);
        assert!(engine.trouble.what.starts_with(&format!("`{key}` {}", first.text)), "{engine:?}");
        assert!(said.contains(&format!("error: `{key}` {}\n", first.text)), "{said}");
    }
    let mut config = parse(&minimal()).expect("a good file");
    config.raft.election_timeout.start = config.raft.heartbeat * 2 + config.raft.tick;
    assert_eq!(config.node_config().validate(&config.cluster), Ok(()));
    parse(&config.render()).expect("one tick more than two heartbeats");
}

#[test]
fn a_command_must_fit_a_segment_and_a_value_a_command() {
    let said = with("[client]\nmax_value = \"8MiB\"\n");
    assert!(
        said.contains(
            "error: `client.max_value` is 8MiB, and with commands of 8MiB at most it must be at most \
             8064KiB\n"
        ),
        "{said}"
    );
    let said = with("[wal]\nsegment = \"16MiB\"\n");
    assert!(
        said.contains(
            "error: `cluster.max_command` is 8MiB, and with segments of 16MiB it must be at most 4064KiB\n"
        ),
        "{said}"
    );
    assert!(said.contains("--> purlin.toml:13:11"), "the place of what was given: {said}");
    let sizes = "[wal]\nsegment = \"1MiB\"\n[client]\nmax_value = \"96KiB\"\n";
    let cluster = "[cluster]\nmax_command = \"224KiB\"\n";
    let text = minimal().replace("[cluster]\n", cluster) + sizes;
    let config = parse(&text).expect("just fits");
    assert_eq!(config.node_config().validate(&config.cluster), Ok(()), "the engine agrees");
    let text = minimal().replace("[cluster]\n", cluster) + "[wal]\nsegment = \"1MiB\"\n";
    assert_eq!(parse(&text).expect("it follows").client.max_value, 96 << 10);
}

/// The machine refuses a longer value, after it has gone through the log.
#[test]
fn no_client_may_send_a_value_that_no_key_can_have() {
    let cluster = "[cluster]\nmax_command = \"12MiB\"\n";
    let text = minimal().replace("[cluster]\n", cluster);
    assert_eq!(parse(&text).expect("it follows").client.max_value, VALUE_BYTES_MAX as u64);
    let said = parse(&(text + "[client]\nmax_value = \"9MiB\"\n")).expect_err("too long");
    let error = "`client.max_value` is 9MiB, and must be 1B to 8MiB";
    assert!(said.to_string().contains(error), "{said}");
}

#[test]
fn a_mistake_in_toml_is_shown_at_its_place() {
    let said = parse("[node\nid = 1\n").expect_err("no TOML").to_string();
    assert!(said.starts_with("error: "), "{said}");
    assert!(said.contains("--> purlin.toml:1:6\n1 | [node\n  |      ^"), "{said}");
    let said = with("[wal]\nsegment = \"1MiB\"\nsegment = \"2MiB\"\n");
    assert!(said.contains("duplicate key") && said.contains("14 | segment"), "{said}");
}

#[test]
fn all_mistakes_are_told_at_once_in_their_order() {
    let text = minimal().replace("id = 1\n", "id = 0\n") + "[raft]\ntikc = 1\nheartbeat = 2\n[x]\n";
    let mistakes = parse(&text).expect_err("four mistakes");
    assert_eq!(mistakes.count(), 4);
    let said = mistakes.to_string();
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("  -->")).collect();
    assert_eq!(
        lines,
        [
            "  --> purlin.toml:2:6",
            "  --> purlin.toml:13:1",
            "  --> purlin.toml:14:13",
            "  --> purlin.toml:15:2"
        ]
    );
}

#[test]
fn any_text_is_read_or_refused_and_drawn() {
    let whole = minimal() + "[raft]\ntick = \"10ms\"\n# ä\n[log]\nlevel = \"info\"\n";
    for cut in (0..whole.len()).filter(|cut| whole.is_char_boundary(*cut)) {
        for text in [whole[..cut].to_owned(), whole[cut..].to_owned(), {
            let (before, after) = whole.split_at(cut);
            format!("{before}\u{0}{after}")
        }] {
            if let Err(mistakes) = parse(&text) {
                assert!(mistakes.to_string().starts_with("error: "), "{mistakes}");
            }
        }
    }
}

#[test]
fn shards_are_counted_by_cores() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u16;
    let count = Shards::Auto.count();
    assert_eq!(count, if cores > 4 { cores - 1 } else { cores });
    assert_eq!(Shards::Number(3).count(), 3);
    assert_eq!(purlin::Placement::new(Shards::Number(3).count()).shard_of(GroupId(5)).0, 2);
}
