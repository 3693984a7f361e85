//! The front end alone: commands, order, limits, and bad input.

use crate::{
    bulk,
    memory::{Behaviour, Client, GROUPS, TestServer},
    ok,
};
use purlin::{GroupId, Index, Position, RequestError, Term};
use purlin_kv::{KEY_BYTES_MAX, KvCommand, SetCondition};
use purlin_server::{
    config::Config,
    resp::{RequestLimits, Value, group_of},
};
use std::{io::ErrorKind, path::Path};

fn error(text: &str) -> Value {
    Value::Error(text.into())
}

/// Runs a line of words.
fn run(client: &mut Client, line: &str) -> Value {
    let words: Vec<_> = line.split(' ').collect();
    client.command(&words).expect("a reply")
}

#[track_caller]
fn expect(client: &mut Client, line: &str, reply: Value) {
    assert_eq!(run(client, line), reply, "{line}");
}

/// All replies up to the end of the connection.
fn replies_to(client: &mut Client, bytes: &[u8]) -> Vec<Value> {
    client.queue_bytes(bytes);
    client.send().expect("the server reads");
    client.finish();
    let mut replies = Vec::new();
    loop {
        match client.read_reply() {
            Ok(reply) => replies.push(reply),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return replies,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return replies,
            Err(error) => panic!("after {replies:?}: {error}"),
        }
    }
}

#[test]
fn the_commands_on_keys_answer_as_redis_does() {
    let server = TestServer::start();
    let client = &mut server.client();
    expect(client, "SET k v", ok());
    expect(client, "get k", bulk("v"));
    expect(client, "GET absent", Value::Nil);
    expect(client, "SET k w NX", Value::Nil);
    expect(client, "SET k w xx get", bulk("v"));
    expect(client, "SET k x IFEQ v", Value::Nil);
    expect(client, "SET k x IFEQ w", ok());
    expect(client, "SET k x NX XX", error("ERR syntax error"));
    expect(client, "SET k x NX IFEQ x", error("ERR syntax error"));
    expect(client, "SET k x IFEQ", error("ERR syntax error"));
    expect(client, "SET k x WHAT", error("ERR syntax error"));
    expect(client, "APPEND k yz", Value::Integer(3));
    expect(client, "STRLEN k", Value::Integer(3));
    expect(client, "STRLEN absent", Value::Integer(0));
    expect(client, "INCR n", Value::Integer(1));
    expect(client, "INCRBY n 41", Value::Integer(42));
    expect(client, "DECR n", Value::Integer(41));
    expect(client, "DECRBY n 50", Value::Integer(-9));
    let not_an_integer = error("ERR value is not an integer or out of range");
    expect(client, "INCRBY n 1.5", not_an_integer.clone());
    expect(client, "INCR k", not_an_integer);
    expect(client, "DECRBY n -9223372036854775808", error("ERR decrement would overflow"));
    let overflow = error("ERR increment or decrement would overflow");
    expect(client, "INCRBY n -9223372036854775808", overflow);
    expect(client, "EXISTS k n absent k", Value::Integer(3));
    expect(client, "DBSIZE", Value::Integer(2));
    expect(client, "DEL k absent", Value::Integer(1));
    expect(client, "UNLINK n", Value::Integer(1));
    expect(client, "MSET {t}a 1 {t}b 2", ok());
    expect(client, "MGET {t}b absent {t}a", Value::Array(vec![bulk("2"), Value::Nil, bulk("1")]));
    let arity = |name| error(&format!("ERR wrong number of arguments for '{name}' command"));
    expect(client, "GET", arity("get"));
    expect(client, "GET a b", arity("get"));
    expect(client, "SET k", arity("set"));
    expect(client, "MSET a 1 b", arity("mset"));
    expect(client, "CLIENT", arity("client"));
    expect(client, "CLIENT ID 1", arity("client|id"));
    let unknown = "ERR unknown command 'NOPE', with args beginning with: 'a' 'b' ";
    expect(client, "NOPE a b", error(unknown));
    expect(client, "CONFIG NOPE", error("ERR unknown subcommand 'NOPE'. CONFIG has GET."));
    let Value::Error(text) = run(client, "KEYS *") else { panic!("KEYS is refused") };
    assert!(text.starts_with("ERR KEYS is not offered: "), "{text}");
    let Value::Error(text) = run(client, "SET k v EX 10") else { panic!("EX is refused") };
    assert!(text.starts_with("ERR SET with an expiry is not offered"), "{text}");
    expect(client, "GET k", Value::Nil);
}

/// What `CONFIG GET` reports is what holds.
#[test]
fn the_limits_on_values_and_requests_are_those_that_are_reported() {
    let server = TestServer::with(Behaviour::default(), |options| {
        options.request = RequestLimits::new(1_000, 2_000);
    });
    let limit = |name: &str| {
        let Value::Array(setting) = run(&mut server.client(), &format!("CONFIG GET {name}")) else {
            panic!("an array");
        };
        let Value::Bulk(value) = &setting[1] else { panic!("{setting:?}") };
        String::from_utf8_lossy(value).parse::<usize>().expect("a number")
    };
    let (value, command) = (limit("proto-max-bulk-len"), limit("purlin-max-command"));
    let request = limit("purlin-max-request");
    assert_eq!((value, command, request), (1_000, 2_000, 2_000 + (512 << 10)));
    expect(&mut server.client(), &format!("SET k {}", "v".repeat(value)), ok());
    let long = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value + 1);
    let refusal = "ERR Protocol error: invalid bulk length: an argument has 1000 bytes at most";
    assert_eq!(replies_to(&mut server.client(), long.as_bytes()), [error(refusal)]);
    // More than the sockets hold.
    let words = vec!["v".repeat(value); 16_000];
    let client = &mut server.client();
    client.queue(&words);
    client.send().expect("the server reads");
    let refusal = format!("ERR Protocol error: a request has {request} bytes at most");
    assert_eq!(client.read_reply().expect("it comes though much was unread"), error(&refusal));
}

/// Which value a file may allow, which one a node reports, and which one it takes, is one number.
#[test]
fn the_longest_value_that_a_file_may_allow_is_reported_and_taken_with_the_longest_key() {
    for max_command in [224 << 10, 8 << 20, 12 << 20] {
        let file = |max_value: &str| {
            let text = format!(
                "[node]\nid = 1\ndata_dir = \"/d\"\n{max_value}[cluster]\nid = \"{}\"\n\
                 max_command = \"{max_command}B\"\n\
                 members = [{{ node = 1, host = \"127.0.0.1\", peer_port = 7190 }}]\n",
                "17".repeat(16)
            );
            Config::parse(Path::new("purlin.toml"), &text)
        };
        let with = |bytes: u64| file(&format!("[client]\nmax_value = \"{bytes}B\"\n"));
        let config = file("").expect("a good file");
        let most = config.client.max_value;
        assert_eq!(with(most).as_ref(), Ok(&config));
        let refusal = with(most + 1).expect_err("it is too much").to_string();
        assert!(refusal.starts_with("error: `client.max_value` is "), "{refusal}");

        let limits = config.request_limits();
        let server =
            TestServer::with(Behaviour::default(), move |options| options.request = limits);
        let client = &mut server.client();
        let setting = bulk(most.to_string());
        expect(
            client,
            "CONFIG GET proto-max-bulk-len",
            Value::Array(vec![bulk("proto-max-bulk-len"), setting]),
        );
        let (key, value) = ("k".repeat(KEY_BYTES_MAX), "v".repeat(most as usize));
        expect(client, &format!("SET {key} {value}"), ok());
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let set = KvCommand::Set { key, value, condition: SetCondition::Always, get: true };
        let command = set.encode().len();
        assert!(command <= max_command, "{command} bytes of {max_command}");
        let long = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", most + 1);
        let refusal = error(&format!(
            "ERR Protocol error: invalid bulk length: an argument has {most} bytes at most"
        ));
        assert_eq!(replies_to(client, long.as_bytes()), [refusal]);
    }
}

#[test]
fn a_command_has_limits_on_keys_arguments_names_and_patterns() {
    let server = TestServer::start();
    let client = &mut server.client();
    let mut told = |name: &str, word: &str, count: usize| {
        let words = [name.split(' ').collect(), vec![word; count]].concat();
        match client.command(&words).expect("a reply") {
            Value::Error(text) => Some(text),
            _ => None,
        }
    };
    for (name, word, most, text) in [
        ("EXISTS", "k", 16_384, "EXISTS takes 16384 keys at most"),
        ("DEL", "k", 16_384, "DEL takes 16384 keys at most"),
        ("UNLINK", "k", 16_384, "UNLINK takes 16384 keys at most"),
        ("MGET", "k", 16_384, "MGET takes 16384 keys at most"),
        ("MSET", "k", 2 * 16_384, "MSET takes 16384 keys at most"),
        ("INFO", "server", 1_023, "INFO takes 1024 arguments with its name at most"),
        ("SET k v", "GET", 1_021, "SET takes 1024 arguments with its name at most"),
        ("CONFIG GET", "*", 1_022, "CONFIG GET takes 1024 arguments with its name at most"),
        ("COMMAND INFO", "command", 128, "the request names more than 128 commands"),
        ("COMMAND DOCS", "command", 128, "the request names more than 128 commands"),
    ] {
        assert_eq!(told(name, word, most), None, "{name}");
        let refusal = told(name, word, most + 2).unwrap_or_else(|| panic!("{name} takes more"));
        assert!(refusal.starts_with(&format!("ERR {text}")), "{refusal}");
        assert!(refusal.contains("; nothing was changed, "), "{refusal}");
    }
    for name in ["CONFIG GET", "COMMAND LIST FILTERBY PATTERN"] {
        assert_eq!(told(name, &"*".repeat(1_024), 1), None, "{name}");
        let refusal = told(name, &format!("*[{}", "!".repeat(1_023)), 1).expect("it is too long");
        assert!(refusal.starts_with("ERR the patterns have more than 1024 bytes"), "{refusal}");
    }
    expect(client, "PING", Value::Simple("PONG".into()));
}

/// A client that repeats a failed transaction repeats nothing that had an effect.
#[test]
fn nothing_behind_a_refused_multi_runs_until_exec_discard_or_reset() {
    let server = TestServer::start();
    let client = &mut server.client();
    let behind = error(
        "ERR the command was not run, because the MULTI before it was refused; nothing was changed; send \
         DISCARD, then the command again",
    );
    let aborted = error("EXECABORT Transaction discarded because of previous errors.");
    let ends = [("EXEC", aborted), ("discard", ok()), ("RESET", Value::Simple("RESET".into()))];
    for (end, reply) in ends {
        let lines = ["multi", "INCR n", "PING", "SET n", "NOPE", "MULTI", "EXEC 1", end, "INCR m"];
        let commands = lines.map(|line| line.split(' ').collect::<Vec<_>>());
        let replies = client.pipeline(&commands).expect("replies");
        let Value::Error(text) = &replies[0] else { panic!("MULTI is refused: {replies:?}") };
        assert!(text.starts_with("ERR MULTI is not offered: "), "{text}");
        assert_eq!(replies[1..5], [(); 4].map(|()| behind.clone()), "{replies:?}");
        assert_eq!(replies[5], error("ERR MULTI calls can not be nested"));
        assert_eq!(replies[6..8], [behind.clone(), reply]);
        assert!(matches!(replies[8], Value::Integer(_)), "it runs behind {end}: {replies:?}");
    }
    expect(client, "GET n", Value::Nil);
    expect(client, "GET m", bulk("3"));
    let refused = "ERR EXEC is not offered: ";
    assert!(matches!(run(client, "EXEC"), Value::Error(text) if text.starts_with(refused)));
    // The next connection knows nothing of it, and QUIT ends this one.
    run(client, "MULTI");
    expect(client, "QUIT", ok());
    expect(&mut server.client(), "INCR m", Value::Integer(4));
}

#[test]
fn keys_and_values_are_any_bytes() {
    let server = TestServer::start();
    let client = &mut server.client();
    let binary: Vec<u8> = (0..=255).collect();
    for key in [b"".to_vec(), binary.clone(), vec![b'k'; 64 << 10]] {
        for value in [b"".to_vec(), binary.clone(), vec![b'v'; (8 << 20) - (65 << 10)]] {
            let set = [b"SET".to_vec(), key.clone(), value.clone()];
            assert_eq!(client.command(&set).expect("a reply"), ok());
            let get = [b"GET".to_vec(), key.clone()];
            assert_eq!(client.command(&get).expect("a reply"), Value::Bulk(value));
        }
    }
    let long_key = [b"GET".to_vec(), vec![b'k'; (64 << 10) + 1]];
    let Ok(Value::Error(text)) = client.command(&long_key) else { panic!("it is too long") };
    assert!(text.starts_with("ERR key is longer than 64 KiB"), "{text}");
}

#[test]
fn a_connection_introduces_itself_in_either_protocol() {
    let server = TestServer::start();
    let client = &mut server.client();
    expect(client, "PING", Value::Simple("PONG".into()));
    expect(client, "PING hi", bulk("hi"));
    expect(client, "ECHO hi", bulk("hi"));
    expect(client, "SELECT 0", ok());
    expect(client, "SELECT 99", error("ERR DB index is out of range"));
    expect(client, "HELLO 4", error("NOPROTO unsupported protocol version"));
    let not_a_version = "ERR Protocol version is not an integer or out of range";
    expect(client, "HELLO x", error(not_a_version));
    let Value::Array(fields) = run(client, "HELLO") else { panic!("an array in RESP2") };
    assert_eq!(fields.len(), 14);
    let Value::Map(fields) = run(client, "HELLO 3 SETNAME me") else { panic!("a map in RESP3") };
    assert!(fields.contains(&(bulk("proto"), Value::Integer(3))), "{fields:?}");
    assert!(fields.contains(&(bulk("server"), bulk("redis"))), "{fields:?}");
    expect(client, "GET absent", Value::Nil);
    expect(client, "CLIENT GETNAME", bulk("me"));
    let bad_name = "ERR Client names cannot contain spaces, newlines or special characters.";
    assert_eq!(client.command(&["CLIENT", "SETNAME", "a b"]).expect("a reply"), error(bad_name));
    expect(client, "CLIENT SETINFO LIB-NAME mine", ok());
    expect(client, "CLIENT SETINFO NOPE mine", error("ERR Unrecognized option 'nope'"));
    let Value::Text(line) = run(client, "CLIENT INFO") else { panic!("text in RESP3") };
    assert!(line.contains(" name=me ") && line.contains(" lib-name=mine "), "{line}");
    assert!(line.contains(" cmd=client|info "), "{line}");
    let Value::Error(text) = run(client, "HELLO 3 AUTH user secret") else { panic!("no AUTH") };
    assert!(text.starts_with("ERR AUTH <password> called without"), "{text}");
    expect(client, "WAIT 1 0", Value::Integer(2));
    expect(client, "RESET", Value::Simple("RESET".into()));
    expect(client, "CLIENT GETNAME", Value::Nil);
    expect(client, "QUIT", ok());
    assert_eq!(client.read_reply().expect_err("closed").kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn the_server_tells_what_tools_ask_for() {
    let server = TestServer::start();
    let client = &mut server.client();
    expect(client, "CONFIG GET save", Value::Array(vec![bulk("save"), bulk("")]));
    expect(client, "CONFIG GET nope", Value::Array(vec![]));
    let Value::Array(all) = run(client, "CONFIG GET *") else { panic!("an array") };
    assert!(all.contains(&bulk(TestServer::PORT.to_string())), "{all:?}");
    let Value::Bulk(info) = run(client, "INFO") else { panic!("bytes in RESP2") };
    let info = String::from_utf8(info).expect("text");
    for line in ["redis_version:7.4.0", "role:master", "loading:0", "purlin_groups:48"] {
        assert!(info.contains(&format!("{line}\r\n")), "{info}");
    }
    let Value::Bulk(some) = run(client, "INFO server cluster") else { panic!("bytes in RESP2") };
    let some = String::from_utf8(some).expect("text");
    assert!(some.starts_with("# Server\r\n") && some.contains("cluster_enabled:0"), "{some}");
    assert!(!some.contains("# Clients"), "{some}");

    let Value::Integer(count) = run(client, "COMMAND COUNT") else { panic!("a number") };
    let Value::Array(all) = run(client, "COMMAND") else { panic!("an array") };
    let Value::Array(names) = run(client, "COMMAND LIST") else { panic!("an array") };
    assert_eq!([all.len(), names.len()], [count as usize; 2]);
    for entry in &all {
        let Value::Array(fields) = entry else { panic!("{entry:?}") };
        assert_eq!(fields.len(), 10, "{entry:?}");
    }
    let Value::Array(found) = run(client, "COMMAND INFO get nope client|id") else { panic!() };
    let Value::Array(get) = &found[0] else { panic!("{found:?}") };
    assert_eq!(get[..2], [bulk("get"), Value::Integer(2)]);
    assert_eq!(get[3..6], [1, 1, 1].map(Value::Integer));
    assert_eq!(found[1], Value::Nil);
    let Value::Array(id) = &found[2] else { panic!("{found:?}") };
    assert_eq!(id[..2], [bulk("client|id"), Value::Integer(2)]);
    let keys = Value::Array(vec![bulk("a"), bulk("b")]);
    expect(client, "COMMAND GETKEYS MSET a 1 b 2", keys);
    expect(client, "COMMAND GETKEYS PING", error("ERR The command has no key arguments"));
    expect(client, "COMMAND GETKEYS NOPE", error("ERR Invalid command specified"));
    expect(client, "COMMAND LIST FILTERBY PATTERN inc*", {
        Value::Array(vec![bulk("incr"), bulk("incrby")])
    });
    let Value::Array(docs) = run(client, "COMMAND DOCS get") else { panic!("an array in RESP2") };
    assert_eq!(docs[0], bulk("get"));
    run(client, "HELLO 3");
    let Value::Map(docs) = run(client, "COMMAND DOCS") else { panic!("a map in RESP3") };
    assert_eq!(docs.len(), count as usize);
}

#[test]
fn replies_come_in_the_order_of_requests_though_groups_finish_in_any() {
    for seed in 0..20 {
        let server = TestServer::with(Behaviour { seed, ..Behaviour::default() }, |_| {});
        let client = &mut server.client();
        let (mut commands, mut expected) = (Vec::new(), Vec::new());
        for number in 0..300i64 {
            let key = format!("key:{}", number % 50);
            let (command, reply) = match number % 5 {
                0 => (format!("SET {key} {number}"), ok()),
                1 => (format!("SET again:{number} {number} GET"), Value::Nil),
                2 => (format!("ECHO {number}"), bulk(number.to_string())),
                3 => ("INCR counter".into(), Value::Integer(number / 5 + 1)),
                // A read sees the writes before it, whichever groups they went to.
                _ => (
                    format!("MGET counter {} nothing", format_args!("again:{}", number - 3)),
                    Value::Array(vec![
                        bulk((number / 5 + 1).to_string()),
                        bulk((number - 3).to_string()),
                        Value::Nil,
                    ]),
                ),
            };
            commands.push(command.split(' ').map(str::to_owned).collect::<Vec<_>>());
            expected.push(reply);
        }
        assert_eq!(client.pipeline(&commands).expect("replies"), expected, "seed {seed}");
    }
}

#[test]
fn keys_of_many_groups_are_gathered_but_never_set_together() {
    let server = TestServer::start();
    let client = &mut server.client();
    let keys: Vec<_> = (0..10_000).map(|number| format!("key:{number}")).collect();
    let sets = keys.iter().map(|key| vec!["SET", key, key]).collect::<Vec<_>>();
    assert!(client.pipeline(&sets).expect("replies").iter().all(|reply| *reply == ok()));
    let with = |name: &'static str| {
        [name].into_iter().chain(keys.iter().map(String::as_str)).collect::<Vec<_>>()
    };
    let values = Value::Array(keys.iter().map(bulk).collect());
    assert_eq!(client.command(&with("MGET")).expect("a reply"), values);
    assert_eq!(client.command(&with("EXISTS")).expect("a reply"), Value::Integer(10_000));
    expect(client, "DBSIZE", Value::Integer(10_000));
    assert_eq!(client.command(&with("DEL")).expect("a reply"), Value::Integer(10_000));
    expect(client, "DBSIZE", Value::Integer(0));

    let Value::Error(text) = run(client, "MSET a 1 b 2") else { panic!("not atomic") };
    assert!(text.starts_with("CROSSSLOT MSET would not be atomic"), "{text}");
    expect(client, "EXISTS a b", Value::Integer(0));
}

#[test]
fn errors_of_groups_are_told_in_words_that_clients_know() {
    let keys = ["busy", "leaderless", "lost", "unknown", "large", "stopping"];
    let groups = keys.map(|key| group_of(key.as_bytes(), GROUPS));
    let [busy, leaderless, lost, unknown, large, stopping] = groups;
    let (term, index, position) = (Term(9), Index(4711), Position(4800));
    let failing = [
        (busy, RequestError::Busy),
        (leaderless, RequestError::NoLeader { waited_ms: 140 }),
        (lost, RequestError::NotApplied),
        (unknown, RequestError::Unknown { term, index, position }),
        (large, RequestError::TooLarge { bytes: 9, limit: 8 }),
        (stopping, RequestError::Stopping),
    ];
    let behaviour = Behaviour { failing: failing.into(), seed: 1, ..Behaviour::default() };
    assert_eq!(behaviour.failing.len(), keys.len(), "each key has a group of its own");
    let server = TestServer::with(behaviour, |_| {});
    let client = &mut server.client();
    for (key, start) in [
        ("busy", format!("TRYAGAIN group {busy} is busy")),
        (
            "leaderless",
            format!("CLUSTERDOWN this node reached no leader of group {leaderless} for 140 ms"),
        ),
        ("lost", format!("TRYAGAIN group {lost} did not execute the command: ")),
        ("unknown", "UNKNOWN outcome".into()),
        ("large", "ERR the command has 9 bytes and a shard takes 8".into()),
        ("stopping", "LOADING this node is stopping".into()),
    ] {
        let Value::Error(text) = run(client, &format!("INCR {key}")) else { panic!("{key}") };
        assert!(text.starts_with(&start), "{text}");
    }
    let Value::Error(text) = run(client, "GET unknown") else { panic!("it fails") };
    let start = format!("TRYAGAIN group {unknown} did not answer the read: ");
    assert!(text.starts_with(&start), "a read is never unknown: {text}");
    let Value::Error(text) = run(client, "APPEND unknown x") else { panic!("it fails") };
    let known = format!("(group {unknown}, index 4711, term 9, position 4800)");
    assert!(text.ends_with(&known), "{text}");

    // What some groups did is never called not applied.
    let good = (0..).map(|number| format!("good:{number}"));
    let good = good.into_iter().find(|key| !groups.contains(&group_of(key.as_bytes(), GROUPS)));
    let good = good.expect("there are more groups");
    expect(client, &format!("SET {good} 1"), ok());
    let Value::Error(text) = run(client, &format!("DEL {good} busy")) else { panic!("it fails") };
    assert!(text.starts_with("UNKNOWN outcome: done in 1 of 2 groups"), "{text}");
    let Value::Error(text) = run(client, &format!("MGET {good} busy")) else { panic!("it fails") };
    assert!(text.starts_with("TRYAGAIN"), "{text}");
    let Value::Error(text) = run(client, "DEL busy") else { panic!("it fails") };
    assert!(text.starts_with("TRYAGAIN"), "{text}");
    assert_eq!(busy, GroupId(busy.0), "the connection goes on");
    expect(client, &format!("EXISTS {good}"), Value::Integer(0));
}

#[test]
fn bytes_that_are_no_request_are_told_of_and_the_connection_is_closed() {
    let server = TestServer::start();
    let other = &mut server.client();
    for (bytes, text) in [
        (
            &b"*2147483648\r\n"[..],
            "invalid multibulk length: a request has 1048576 arguments at most",
        ),
        (b"*1\r\n$-5\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length: an argument has 8388608 bytes at most"),
        (b"*1\r\n*1\r\n", "expected '$', got '*'"),
        (b"GET \"k\r\n", "unbalanced quotes in request"),
        (&vec![b'x'; (64 << 10) + 1], "too big inline request: a line has 65536 bytes at most"),
        (&b"*1\r\n".repeat(256 << 10), "expected '$', got '*'"),
    ] {
        // Replies that are due come first.
        let input = [b"PING\r\n", bytes].concat();
        let replies = replies_to(&mut server.client(), &input);
        let told = error(&format!("ERR Protocol error: {text}"));
        // A server that closes with input unread may take its last words with it.
        let expected = [Value::Simple("PONG".into()), told];
        assert!(expected.starts_with(&replies), "{replies:?} to {text}");
        expect(other, "PING", Value::Simple("PONG".into()));
    }
    let replies = replies_to(&mut server.client(), b"*1\r\n$-5\r\n");
    assert_eq!(replies, [error("ERR Protocol error: invalid bulk length")]);
    let replies = replies_to(&mut server.client(), b"POST / HTTP/1.1\r\nHost: x\r\n\r\nPING\r\n");
    assert_eq!(replies, []);
}

#[test]
fn replies_that_are_due_come_after_the_client_has_finished() {
    let server = TestServer::start();
    let replies = replies_to(&mut server.client(), b"SET k v\r\n\r\nGET k\nECHO \"a b\"\r\nGET");
    assert_eq!(replies, [ok(), bulk("v"), bulk("a b")]);
    let replies = replies_to(&mut server.client(), b"GET k\r\nQUIT\r\nSET k w\r\n");
    assert_eq!(replies, [bulk("v"), ok()]);
    assert_eq!(replies_to(&mut server.client(), b"GET k\r\n"), [bulk("v")]);
}

#[test]
fn a_pipeline_longer_than_the_ring_is_served_bit_by_bit() {
    let server = TestServer::with(Behaviour::default(), |options| {
        options.pipeline_max = 3;
        options.output_bytes_max = 1_000;
    });
    let client = &mut server.client();
    let value = "v".repeat(600);
    let mut commands = vec![vec!["SET", "k", &value]];
    commands.extend(std::iter::repeat_n(vec!["GET", "k"], 500));
    commands.extend(std::iter::repeat_n(vec!["ECHO", &value], 500));
    let replies = client.pipeline(&commands).expect("replies");
    assert_eq!(replies[0], ok());
    assert!(replies[1..].iter().all(|reply| *reply == bulk(&value)));
}

/// Many client libraries write a whole pipeline before they read a reply.
#[test]
fn a_pipeline_is_read_to_its_end_before_a_reply_is_taken() {
    let server = TestServer::with(Behaviour::default(), |options| {
        options.output_bytes_max = 64 << 10;
    });
    let client = &mut server.client();
    let value = "v".repeat(16 << 10);
    // More than the sockets of both ways hold, and less than the query buffer in addition.
    let commands = vec![vec!["ECHO", &value]; 1_000];
    commands.iter().for_each(|words| client.queue(words));
    client.send().expect("the server reads on");
    // What was read is run, though no more will come.
    client.finish();
    for place in 0..1_000 {
        assert_eq!(client.read_reply().expect("a reply"), bulk(&value), "reply {place}");
    }
}

#[test]
fn the_client_that_holds_the_most_memory_is_closed_when_all_hold_too_much() {
    let server = TestServer::with(Behaviour::default(), |options| {
        options.memory_max = 8 << 20;
    });
    let (greedy, modest) = (&mut server.client(), &mut server.client());
    let value = "v".repeat(1 << 20);
    assert_eq!(greedy.command(&["SET", "k", &value]).expect("a reply"), ok());
    modest.queue(&["GET", "k"]);
    modest.send().expect("the server reads");
    for _ in 0..40 {
        greedy.queue(&["GET", "k"]);
    }
    greedy.send().expect("the server reads");
    let replies = (0..40).map_while(|_| greedy.read_reply().ok()).count();
    assert!(replies < 40, "it held 40 MiB");
    assert_eq!(modest.read_reply().expect("a reply"), bulk(&value));
    let Value::Bulk(list) = run(modest, "CLIENT LIST") else { panic!("bytes in RESP2") };
    assert_eq!(list.iter().filter(|&&byte| byte == b'\n').count(), 1, "the greedy one is gone");
    expect(modest, "GET k", bulk(&value));
}

#[test]
fn a_client_that_takes_no_replies_is_dropped() {
    let server = TestServer::with(Behaviour::default(), |options| {
        options.write_deadline = std::time::Duration::from_millis(50);
    });
    let client = &mut server.client();
    let value = "v".repeat(4 << 20);
    assert_eq!(client.command(&["SET", "k", &value]).expect("a reply"), ok());
    for _ in 0..32 {
        client.queue(&["GET", "k"]);
    }
    client.send().expect("the server reads");
    // Another client sees when it is gone.
    let other = &mut server.client();
    loop {
        let Value::Bulk(list) = run(other, "CLIENT LIST") else { panic!("bytes in RESP2") };
        if list.iter().filter(|&&byte| byte == b'\n').count() == 1 {
            break;
        }
    }
    let replies = (0..32).map_while(|_| client.read_reply().ok()).count();
    assert!(replies < 32, "the socket does not hold 128 MiB");
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = TestServer::with(Behaviour::default(), |options| options.clients_max = 2);
    let (mut one, mut two) = (server.client(), server.client());
    run(&mut one, "PING");
    run(&mut two, "PING");
    let mut three = server.client();
    assert_eq!(three.read_reply().expect("a word"), error("ERR max number of clients reached"));
    assert_eq!(three.read_reply().expect_err("closed").kind(), ErrorKind::UnexpectedEof);
    drop(two);
    // The place is free once the server has noticed.
    while server.client().command(&["PING"]).is_ok_and(|reply| matches!(reply, Value::Error(_))) {}
    run(&mut one, "PING");
}
