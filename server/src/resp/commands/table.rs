//! The rows of the table.

use super::{CommandSpec, Description, Group, Keys, Run};
use crate::resp::{cluster, data, local};

const fn one_key(access: &'static [&'static str]) -> Option<Keys> {
    Some(Keys { first: 1, last: 1, step: 1, access })
}

const fn many_keys(step: i32, access: &'static [&'static str]) -> Option<Keys> {
    Some(Keys { first: 1, last: -1, step, access })
}

const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const TALK: &[&str] = &["noscript", "loading", "stale", "fast"];
const CLIENT: &[&str] = &["noscript", "loading", "stale"];
const TELL: &[&str] = &["loading", "stale"];

/// All commands, in the order of their names.
pub static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "append",
        arity: 3,
        flags: WRITE,
        keys: one_key(&["RW", "INSERT"]),
        group: Group::String,
        summary: "Appends to the value of a key; an absent key counts as an empty value",
        usage: "key value",
        since: "2.0.0",
        run: Run::Data(data::append),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "asking",
        arity: 1,
        flags: &["fast"],
        summary: "Does nothing: slots do not move from group to group",
        since: "3.0.0",
        run: Run::Local(local::ok),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "auth",
        arity: -2,
        flags: &["noscript", "loading", "stale", "fast", "no_auth"],
        summary: "Is refused: there are no passwords yet",
        usage: "[username] password",
        run: Run::Local(local::auth),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "client",
        arity: -2,
        flags: &[],
        summary: "Shows and sets the properties of connections",
        usage: "subcommand",
        since: "2.4.0",
        subcommands: &[
            CommandSpec {
                name: "getname",
                arity: 2,
                flags: CLIENT,
                summary: "Gives the name of this connection",
                since: "2.6.9",
                run: Run::Local(local::client_getname),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "id",
                arity: 2,
                flags: CLIENT,
                summary: "Gives the number of this connection",
                since: "5.0.0",
                run: Run::Local(local::client_id),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "info",
                arity: 2,
                flags: CLIENT,
                summary: "Shows the properties of this connection",
                since: "6.2.0",
                run: Run::Local(local::client_info),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "list",
                arity: 2,
                flags: &["admin", "noscript", "loading", "stale"],
                categories: &["@admin", "@dangerous"],
                summary: "Lists the connections of the shard that serves this one",
                complexity: "O(N), N being the number of connections",
                since: "2.4.0",
                run: Run::Local(local::client_list),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "no-evict",
                arity: 3,
                flags: &["admin", "noscript", "loading", "stale"],
                categories: &["@admin", "@dangerous"],
                summary: "Does nothing: when clients hold too much memory, the connection that holds the most is closed",
                usage: "ON | OFF",
                since: "7.0.0",
                run: Run::Local(local::ok),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "no-touch",
                arity: 3,
                flags: CLIENT,
                summary: "Does nothing: the server does not record when a key was used",
                usage: "ON | OFF",
                since: "7.2.0",
                run: Run::Local(local::ok),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "setinfo",
                arity: 4,
                flags: CLIENT,
                summary: "Sets the name or the version of the client library",
                usage: "LIB-NAME name | LIB-VER version",
                since: "7.2.0",
                run: Run::Local(local::client_setinfo),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "setname",
                arity: 3,
                flags: CLIENT,
                summary: "Names this connection",
                usage: "name",
                since: "2.6.9",
                run: Run::Local(local::client_setname),
                ..CommandSpec::ROW
            },
        ],
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "cluster",
        arity: -2,
        flags: &[],
        group: Group::Cluster,
        summary: "Tells clients which shard leads which keys",
        usage: "subcommand",
        since: "3.0.0",
        subcommands: &[
            CommandSpec {
                name: "countkeysinslot",
                arity: 3,
                flags: TELL,
                group: Group::Cluster,
                summary: "Counts the keys in a hash slot",
                usage: "slot",
                complexity: "O(N), N being the number of keys in the slot",
                since: "3.0.0",
                run: Run::Data(data::count_keys_in_slot),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "getkeysinslot",
                arity: 4,
                flags: TELL,
                group: Group::Cluster,
                summary: "Lists keys in a hash slot, 16384 and 1 MiB at most",
                usage: "slot count",
                complexity: "O(N), N being the number of keys that are listed",
                since: "3.0.0",
                run: Run::Data(data::get_keys_in_slot),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "info",
                arity: 2,
                flags: TELL,
                group: Group::Cluster,
                summary: "Tells how the cluster stands, as far as this node knows",
                complexity: "O(N), N being the number of groups",
                since: "3.0.0",
                run: Run::Local(cluster::info),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "keyslot",
                arity: 3,
                flags: TELL,
                group: Group::Cluster,
                summary: "Gives the hash slot of a key",
                usage: "key",
                since: "3.0.0",
                run: Run::Local(cluster::keyslot),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "myid",
                arity: 2,
                flags: TELL,
                group: Group::Cluster,
                summary: "Gives the id of the shard that serves this connection",
                since: "3.0.0",
                run: Run::Local(cluster::myid),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "nodes",
                arity: 2,
                flags: TELL,
                group: Group::Cluster,
                summary: "Lists the shards that lead slots, and the one that is asked",
                complexity: "O(N), N being the number of groups",
                since: "3.0.0",
                run: Run::Local(cluster::nodes),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "shards",
                arity: 2,
                flags: TELL,
                group: Group::Cluster,
                summary: "Lists the shards that lead slots",
                complexity: "O(N), N being the number of groups",
                since: "7.0.0",
                run: Run::Local(cluster::shards),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "slots",
                arity: 2,
                flags: TELL,
                group: Group::Cluster,
                summary: "Lists ranges of slots, each with its leader",
                complexity: "O(N), N being the number of groups",
                since: "3.0.0",
                run: Run::Local(cluster::slots),
                ..CommandSpec::ROW
            },
        ],
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "command",
        arity: -1,
        flags: TELL,
        group: Group::Server,
        categories: &["@connection"],
        summary: "Describes all commands",
        complexity: "O(N), N being the number of commands",
        since: "2.8.13",
        run: Run::Describe(Description::Command),
        subcommands: &[
            CommandSpec {
                name: "count",
                arity: 2,
                flags: TELL,
                group: Group::Server,
                categories: &["@connection"],
                summary: "Counts the commands",
                since: "2.8.13",
                run: Run::Describe(Description::Count),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "docs",
                arity: -2,
                flags: TELL,
                group: Group::Server,
                categories: &["@connection"],
                summary: "Documents all commands, or those named",
                usage: "[command ...]",
                complexity: "O(N), N being the number of commands named",
                since: "7.0.0",
                run: Run::Describe(Description::Docs),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "getkeys",
                arity: -3,
                flags: TELL,
                group: Group::Server,
                categories: &["@connection"],
                summary: "Gives the keys that a command names",
                usage: "command [argument ...]",
                complexity: "O(N), N being the number of arguments",
                since: "2.8.13",
                run: Run::Describe(Description::GetKeys),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "info",
                arity: -2,
                flags: TELL,
                group: Group::Server,
                categories: &["@connection"],
                summary: "Describes all commands, or those named",
                usage: "[command ...]",
                complexity: "O(N), N being the number of commands named",
                since: "2.8.13",
                run: Run::Describe(Description::Info),
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "list",
                arity: -2,
                flags: TELL,
                group: Group::Server,
                categories: &["@connection"],
                summary: "Lists the names of the commands",
                usage: "[FILTERBY MODULE name | ACLCAT category | PATTERN pattern]",
                complexity: "O(N), N being the number of commands",
                since: "7.0.0",
                run: Run::Describe(Description::List),
                ..CommandSpec::ROW
            },
        ],
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "config",
        arity: -2,
        group: Group::Server,
        summary: "Shows settings, and changes none",
        usage: "subcommand",
        since: "2.0.0",
        subcommands: &[CommandSpec {
            name: "get",
            arity: -3,
            flags: &["admin", "noscript", "loading", "stale"],
            group: Group::Server,
            categories: &["@admin", "@dangerous"],
            summary: "Gives the settings whose names match a pattern; maxclients is that of one shard",
            usage: "pattern [pattern ...]",
            complexity: "O(N), N being the number of settings times that of patterns",
            since: "2.0.0",
            run: Run::Local(local::config_get),
            ..CommandSpec::ROW
        }],
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "dbsize",
        arity: 1,
        flags: READ,
        group: Group::Server,
        categories: &["@keyspace"],
        summary: "Counts the keys of all groups; each group is counted at its own moment",
        complexity: "O(G), G being the number of groups",
        run: Run::Data(data::dbsize),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "decr",
        arity: 2,
        flags: WRITE,
        keys: one_key(&["RW", "ACCESS", "UPDATE"]),
        group: Group::String,
        summary: "Subtracts one from the number of a key; an absent key counts as 0",
        usage: "key",
        run: Run::Data(data::decr),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "decrby",
        arity: 3,
        flags: WRITE,
        keys: one_key(&["RW", "ACCESS", "UPDATE"]),
        group: Group::String,
        summary: "Subtracts a number from the number of a key; an absent key counts as 0",
        usage: "key decrement",
        run: Run::Data(data::decrby),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "del",
        arity: -2,
        flags: &["write"],
        keys: many_keys(1, &["RM", "DELETE"]),
        group: Group::Generic,
        summary: "Deletes keys; keys of several groups are deleted one group after the other",
        usage: "key [key ...]",
        complexity: "O(N), N being the number of keys",
        run: Run::Data(data::del),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "echo",
        arity: 2,
        flags: TALK,
        summary: "Gives the message back",
        usage: "message",
        run: Run::Local(local::echo),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "exists",
        arity: -2,
        flags: READ,
        keys: many_keys(1, &["RO"]),
        group: Group::Generic,
        summary: "Counts the keys that are present; over several groups the count is no snapshot",
        usage: "key [key ...]",
        complexity: "O(N), N being the number of keys",
        run: Run::Data(data::exists),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "get",
        arity: 2,
        flags: READ,
        keys: one_key(&["RO", "ACCESS"]),
        group: Group::String,
        summary: "Gives the value of a key",
        usage: "key",
        run: Run::Data(data::get),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "hello",
        arity: -1,
        flags: &["noscript", "loading", "stale", "fast", "no_auth"],
        summary: "Chooses the version of the protocol, and describes the server",
        usage: "[2 | 3 [AUTH username password] [SETNAME name]]",
        since: "6.0.0",
        run: Run::Local(local::hello),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "incr",
        arity: 2,
        flags: WRITE,
        keys: one_key(&["RW", "ACCESS", "UPDATE"]),
        group: Group::String,
        summary: "Adds one to the number of a key; an absent key counts as 0",
        usage: "key",
        run: Run::Data(data::incr),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "incrby",
        arity: 3,
        flags: WRITE,
        keys: one_key(&["RW", "ACCESS", "UPDATE"]),
        group: Group::String,
        summary: "Adds a number to the number of a key; an absent key counts as 0",
        usage: "key increment",
        run: Run::Data(data::incrby),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "info",
        arity: -1,
        flags: TELL,
        group: Group::Server,
        categories: &["@dangerous"],
        summary: "Describes the node, by section; clients, connections and commands are those of the shard that serves this connection",
        usage: "[section ...]",
        run: Run::Local(local::info),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "mget",
        arity: -2,
        flags: READ,
        keys: many_keys(1, &["RO", "ACCESS"]),
        group: Group::String,
        summary: "Gives the values of keys; over several groups they are no snapshot",
        usage: "key [key ...]",
        complexity: "O(N), N being the number of keys",
        run: Run::Data(data::mget),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "mset",
        arity: -3,
        flags: &["write", "denyoom"],
        keys: many_keys(2, &["OW", "UPDATE"]),
        group: Group::String,
        summary: "Sets keys all at once; they must lie in one group, as keys with the same {tag} do",
        usage: "key value [key value ...]",
        complexity: "O(N), N being the number of keys",
        since: "1.0.1",
        run: Run::Data(data::mset),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "ping",
        arity: -1,
        flags: &["fast"],
        summary: "Replies with PONG, or with the message",
        usage: "[message]",
        run: Run::Local(local::ping),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "quit",
        arity: -1,
        flags: &["noscript", "loading", "stale", "fast", "no_auth"],
        summary: "Ends the connection after the replies to earlier commands",
        run: Run::Local(local::quit),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "readonly",
        arity: 1,
        flags: &["loading", "stale", "fast"],
        summary: "Does nothing: every read is linearizable, at every node",
        since: "3.0.0",
        run: Run::Local(local::ok),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "readwrite",
        arity: 1,
        flags: &["loading", "stale", "fast"],
        summary: "Does nothing: every read is linearizable, at every node",
        since: "3.0.0",
        run: Run::Local(local::ok),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "reset",
        arity: 1,
        flags: &["noscript", "loading", "stale", "fast", "no_auth"],
        summary: "Gives the connection the properties that it had at its beginning",
        since: "6.2.0",
        run: Run::Local(local::reset),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "select",
        arity: 2,
        flags: &["loading", "stale", "fast"],
        summary: "Chooses database 0; there is no other",
        usage: "0",
        run: Run::Local(local::select),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "set",
        arity: -3,
        flags: &["write", "denyoom"],
        keys: one_key(&["RW", "ACCESS", "UPDATE", "VARIABLE_FLAGS"]),
        group: Group::String,
        summary: "Sets a key: always, or only if it is absent (NX), present (XX), or has the given old value (IFEQ)",
        usage: "key value [NX | XX | IFEQ old-value] [GET]",
        run: Run::Data(data::set),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "strlen",
        arity: 2,
        flags: READ,
        keys: one_key(&["RO"]),
        group: Group::String,
        summary: "Gives the length of the value of a key; 0 for an absent key",
        usage: "key",
        since: "2.2.0",
        run: Run::Data(data::strlen),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "unlink",
        arity: -2,
        flags: &["write", "fast"],
        keys: many_keys(1, &["RM", "DELETE"]),
        group: Group::Generic,
        summary: "Does the same as DEL",
        usage: "key [key ...]",
        complexity: "O(N), N being the number of keys",
        since: "4.0.0",
        run: Run::Data(data::del),
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "wait",
        arity: 3,
        flags: &["noscript"],
        group: Group::Generic,
        summary: "Gives the number of replicas beside the leader: an acknowledged write is on a majority already",
        usage: "replicas timeout",
        since: "3.0.0",
        run: Run::Local(local::wait),
        ..CommandSpec::ROW
    },
];
