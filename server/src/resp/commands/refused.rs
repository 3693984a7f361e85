//! The commands of Redis that are refused on purpose.

/// Why the command of that name is refused on purpose, and what to do instead.
pub fn refusal(name: &[u8]) -> Option<String> {
    let (name, why) = REFUSED
        .iter()
        .flat_map(|(names, why)| names.iter().map(move |name| (name, why)))
        .find(|(other, _)| name.eq_ignore_ascii_case(other.as_bytes()))?;
    Some(format!("ERR {} is not offered: {why}", name.to_uppercase()))
}

/// Commands of Redis that are refused on purpose: names, and why and what to do instead.
pub(super) const REFUSED: &[(&[&str], &str)] = &[
    (
        &["keys", "scan", "randomkey"],
        "keys cannot be listed yet; keep a list of your keys under a key of its own",
    ),
    (
        &["flushall", "flushdb"],
        "one command should not delete all data of the cluster; delete keys with DEL",
    ),
    (
        &["eval", "evalsha", "eval_ro", "evalsha_ro", "script", "function", "fcall", "fcall_ro"],
        "a script could have a different result on each replica; use SET with IFEQ, INCR or MSET",
    ),
    (
        &["multi"],
        "there are no transactions yet; the commands behind it are not run until EXEC, DISCARD or RESET; use MSET with one {hash tag}, or SET with IFEQ",
    ),
    (
        &["exec", "discard", "watch", "unwatch"],
        "there are no transactions yet; use MSET with one {hash tag}, or SET with IFEQ",
    ),
    (
        &["subscribe", "psubscribe", "ssubscribe", "publish", "spublish", "unsubscribe", "pubsub"],
        "there are no messages between clients; read the keys that may have changed with GET",
    ),
    (
        &[
            "expire",
            "pexpire",
            "expireat",
            "pexpireat",
            "ttl",
            "pttl",
            "persist",
            "setex",
            "psetex",
            "getex",
            "expiretime",
            "pexpiretime",
        ],
        "keys do not expire yet; use SET, and DEL when the time has come",
    ),
    (
        &["blpop", "brpop", "blmove", "bzpopmin", "bzpopmax", "blmpop", "bzmpop"],
        "no command waits inside the server for a key; repeat a GET",
    ),
    (
        &[
            "lpush", "rpush", "lpop", "rpop", "lrange", "llen", "sadd", "srem", "smembers", "spop",
            "hset", "hget", "hgetall", "hdel", "hincrby", "zadd", "zrange", "zpopmin", "xadd",
            "xread", "pfadd", "geoadd",
        ],
        "values are byte strings only; encode your data, and change it with SET and IFEQ",
    ),
    (
        &["migrate", "replicaof", "slaveof", "sync", "psync", "failover"],
        "Raft replicates and elects leaders by itself; nothing needs to be done",
    ),
    (
        &["save", "bgsave", "bgrewriteaof", "lastsave"],
        "every acknowledged write is durable on a majority already; nothing needs to be done",
    ),
    (
        &["debug", "shutdown", "monitor", "module"],
        "it could stop or change the node, or show the commands of other clients; `purlin status` shows how the nodes stand, and SIGTERM stops a node",
    ),
];
