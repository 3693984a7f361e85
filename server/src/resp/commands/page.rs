//! The page that documents the commands, written from the table.

use super::{COMMANDS, CommandSpec, Group, Run, refused::REFUSED};
use std::fmt::Write;

/// The page `docs/commands.md`.
pub fn page() -> String {
    let mut page = String::from(PAGE_HEAD);
    for (title, group) in [
        ("Values", Group::String),
        ("Keys", Group::Generic),
        ("Cluster", Group::Cluster),
        ("Connection", Group::Connection),
        ("Node", Group::Server),
    ] {
        let _ = write!(
            page,
            "\n## {title}\n\n| command | what it does | cost |\n| --- | --- | --- |\n"
        );
        for command in COMMANDS.iter().filter(|command| command.group == group) {
            put_rows(&mut page, "", command);
        }
    }
    page.push_str("\n## Refused on purpose\n\n| command | why, and what to do |\n| --- | --- |\n");
    for (names, why) in REFUSED {
        let names: Vec<_> = names.iter().map(|name| format!("`{}`", name.to_uppercase())).collect();
        let _ = writeln!(page, "| {} | {why} |", names.join(" "));
    }
    page
}

const PAGE_HEAD: &str = "# Commands\n\n\
    <!-- Written by `server/src/resp/commands/table.rs` from the table of commands. After a change there: \
    `PURLIN_WRITE_DOCS=1 cargo test -p purlin-server commands` -->\n\n\
    The commands that a node accepts at its Redis port. Every acknowledged write is durable on a \
    majority, and every read is linearizable. The commands of a pipeline on one group take effect in \
    order. Commands and options are those of Redis 7; `SET ... IFEQ` is added. Where Redis has a text \
    for a mistake, the error begins with that text.\n\n\
    An error that begins with `CLUSTERDOWN`, `TRYAGAIN` or `LOADING` means that the command was \
    certainly not applied. The client may send it again. An error that begins with `UNKNOWN` means \
    that the command may have been applied, or may be applied later. Read the key before you repeat \
    an `INCR` or an `APPEND`, or use `SET ... IFEQ`. Only writes get `UNKNOWN`: a read changes \
    nothing, and may simply be sent again. Any other error means that the command has a mistake, is \
    not offered, or does not fit the value of the key, and that nothing was changed.\n\n\
    Limits: a key has 64 KiB at most, a value 8 MiB, the values of one `MGET` 12 MiB in one group and \
    64 MiB together. The old values that `SET` with `GET` answers at once where it does not set have 12 MiB \
    in one group, and the rest gets `TRYAGAIN`. `client.max_value` and `cluster.max_command` in \
    [configuration.md](configuration.md) may set lower ones; a request has 512 KiB more than \
    `cluster.max_command` at most. A command names 16384 keys at most; a command without many keys \
    has 1024 arguments at most. `COMMAND INFO` and `COMMAND DOCS` take 128 names, and the patterns of \
    `CONFIG GET` and `COMMAND LIST` have 1024 bytes together. The replies to more say so, and nothing \
    is changed.\n\n\
    A node has two kinds of ports for clients. The *gateway* takes every command, wherever its keys are led: for \
    clients that know nothing of clusters. Shard i of a node has a *port of its own* at `listen.shard_port_base` + i, \
    for clients of Redis Cluster. There a command is run if this shard leads the group of its keys, and answered \
    `MOVED slot host:port` if another one does; its keys must have one slot, else the error is `CROSSSLOT`; and \
    `DBSIZE` counts the keys that the shard leads. A cluster client may begin at any of these ports. The order of a \
    pipeline holds at the gateway, and on one connection to a shard; after `MOVED` it is the client's. While a group \
    has no leader, a shard keeps the command and forwards it to the next leader. `READONLY` and `ASKING` change \
    nothing: every read is linearizable, and slots do not move between groups. `CLUSTER SLOTS`, `SHARDS` and `NODES` \
    tell leaders only, and the shard that is asked for a slot without one. Tools that look for `cluster_enabled:1` must be pointed at the port of a shard.\n\n\
    A shard does one command in one go, and then serves others: a command of 16384 keys takes about \
    10 ms, and others wait 20 ms at most.\n";

fn put_rows(page: &mut String, container: &str, command: &CommandSpec) {
    let name = format!("{container}{}", command.name.to_uppercase());
    if !matches!(command.run, Run::Container) {
        let usage = command.usage.replace('|', "\\|");
        let gap = if usage.is_empty() { "" } else { " " };
        let (summary, complexity) = (command.summary, command.complexity);
        let _ = writeln!(page, "| `{name}{gap}{usage}` | {summary} | {complexity} |");
    }
    for subcommand in command.subcommands {
        put_rows(page, &format!("{name} "), subcommand);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");
        if std::env::var_os("PURLIN_WRITE_DOCS").is_some() {
            std::fs::write(path, page()).expect("docs can be written");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            committed,
            page(),
            "run PURLIN_WRITE_DOCS=1 cargo test -p purlin-server commands"
        );
    }

    /// What each page says of the limits, made from the constants.
    #[test]
    fn the_documents_state_the_limits_and_the_longest_turn_with_the_numbers_of_the_code() {
        use crate::resp::{
            commands::{ARGUMENTS_MAX, KEYS_MAX},
            connection::WORK_MAX,
            gather::ANSWER_BYTES_MAX,
            introspect::NAMES_MAX,
            local::PATTERN_BYTES_MAX,
            parser::FRAMING_BYTES_MAX,
        };
        use purlin_kv::{KEY_BYTES_MAX, VALUE_BYTES_MAX, VALUES_BYTES_MAX};
        let (kib, mib) = (|bytes: usize| bytes >> 10, |bytes: usize| bytes >> 20);
        let turn = purlin::TURN_MAX.as_millis();
        let (values, answer) = (mib(VALUES_BYTES_MAX), mib(ANSWER_BYTES_MAX));
        let framing = kib(FRAMING_BYTES_MAX);
        let of_commands = [
            format!(
                "a key has {} KiB at most, a value {} MiB",
                kib(KEY_BYTES_MAX),
                mib(VALUE_BYTES_MAX)
            ),
            format!("one `MGET` {values} MiB in one group and {answer} MiB together"),
            format!("where it does not set have {values} MiB in one group"),
            format!("a request has {framing} KiB more than `cluster.max_command` at most"),
            format!("names {KEYS_MAX} keys at most"),
            format!("many keys has {ARGUMENTS_MAX} arguments at most"),
            format!("take {NAMES_MAX} names, and"),
            format!("have {PATTERN_BYTES_MAX} bytes together"),
            format!("of {KEYS_MAX} keys takes about 10 ms, and others wait {turn} ms at most"),
        ];
        let of_operations = [
            format!("a turn of it takes {turn} ms at most"),
            format!("| keys of one command | {KEYS_MAX}: about 10 ms |"),
            format!("| arguments of a command without many keys | {ARGUMENTS_MAX} |"),
            format!("| names in `COMMAND INFO` and `COMMAND DOCS` | {NAMES_MAX} |"),
            format!("`COMMAND LIST` | {PATTERN_BYTES_MAX} bytes together |"),
            format!("| {framing} KiB more than `cluster.max_command` |"),
            format!("| {values} MiB in one group, {answer} MiB together |"),
            format!("lets others run after {} KiB of work", kib(WORK_MAX)),
        ];
        let of_architecture = [
            format!("after {} KiB of work", kib(WORK_MAX)),
            format!("the longest turn takes about {turn} ms"),
        ];
        for (name, said) in [
            ("commands.md", &of_commands[..]),
            ("operations.md", &of_operations),
            ("ARCHITECTURE.md", &of_architecture),
        ] {
            let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
            let page = std::fs::read_to_string(path).expect("it is there");
            let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
            for said in said {
                assert!(page.contains(said), "docs/{name} does not say: {said}");
            }
        }
    }
}
