//! Writes a configuration as the text of a file, with the meaning of each key.

use super::{
    ByteSize, COMMAND_OVERHEAD_BYTES, Config, FORMATS, LEVELS, Period, SHARDS_MAX, Shards,
    WAYS_TO_BE_DURABLE,
};
use std::fmt::Write;

pub(super) fn render(config: &Config) -> String {
    let mut out = String::from(
        "# The configuration of one node. Keys that are left out have the values shown by\n\
         # `purlin config default`. Check a changed file with `purlin config check FILE`.\n",
    );
    let sections = [node, cluster, listen, raft, wal, client, runtime, log];
    for section in sections {
        out.push('\n');
        out.push_str(&section(config));
    }
    out
}

fn node(config: &Config) -> String {
    let shards = match config.node.shards {
        Shards::Auto => "\"auto\"".to_owned(),
        Shards::Number(number) => number.to_string(),
    };
    format!(
        "[node]\n\
         # Which of the members this node is.\n\
         id = {}\n\
         # Where its data lies: made once by `purlin init`. Relative to the folder of this file.\n\
         data_dir = {}\n\
         # Shards, 1 to {SHARDS_MAX}; each runs on one core. Fixed by `purlin init`. \"auto\": one for each\n\
         # core that the process may use, one less when there are more than four.\n\
         shards = {shards}\n\
         # Whether each shard gets a core of its own, where there are enough of them.\n\
         pin = {}\n",
        config.node.id.0,
        quoted(&config.node.data_dir.to_string_lossy()),
        config.node.pin,
    )
}

fn cluster(config: &Config) -> String {
    let mut text = format!(
        "# The same on all members.\n\
         [cluster]\n\
         # Drawn once, by `purlin init --new`. Members of different clusters do not talk.\n\
         id = \"{}\"\n\
         # Raft groups that the keys are spread over, 1 to 16384. Fixed by `purlin init`.\n\
         groups = {}\n\
         # Groups beside them that no key is in, for programs that embed the engine. Fixed by `purlin init`.\n\
         extra_groups = {}\n\
         # The longest command with all its parts; at most a quarter of a segment, less 32KiB. Fixed by\n\
         # `purlin init`.\n\
         max_command = \"{}\"\n\
         # Replicas of each group; for now all members have one.\n\
         replicas = {}\n\
         # The initial members. Shard i of a node listens for its peers at peer_port + i.\n\
         members = [\n",
        config.cluster.id,
        config.cluster.groups,
        config.cluster.extra_groups,
        ByteSize(config.cluster.max_command as u64),
        config.cluster.replicas,
    );
    for member in &config.cluster.members {
        let (node, host, port) = (member.node.0, quoted(&member.host), member.peer_port);
        writeln!(text, "  {{ node = {node}, host = {host}, peer_port = {port} }},")
            .expect("a text takes any text");
    }
    text + "]\n"
}

fn listen(config: &Config) -> String {
    format!(
        "[listen]\n\
         # Where Redis clients connect. Nobody is asked who he is, so any address but a loopback one\n\
         # needs insecure = true.\n\
         gateway = \"{}\"\n\
         insecure = {}\n",
        config.listen.gateway, config.listen.insecure,
    )
}

fn raft(config: &Config) -> String {
    let raft = &config.raft;
    format!(
        "[raft]\n\
         # The unit of raft's time. A shorter one reacts sooner and costs more.\n\
         tick = \"{}\"\n\
         # A follower that hears of no leader for a random time in this range campaigns. Shorter ones\n\
         # replace a dead leader sooner, and a slow one needlessly.\n\
         election_timeout = \"{}..{}\"\n\
         # How often a shard tells a peer which groups it leads; less than half the election timeout.\n\
         heartbeat = \"{}\"\n\
         # Entries sent to one follower of one group and not yet acknowledged.\n\
         inflight_bytes = \"{}\"\n",
        Period(raft.tick),
        Period(raft.election_timeout.start),
        Period(raft.election_timeout.end),
        Period(raft.heartbeat),
        ByteSize(raft.inflight_bytes_max as u64),
    )
}

fn wal(config: &Config) -> String {
    format!(
        "[wal]\n\
         # The size of a segment of a shard's log, a multiple of 4KiB. A larger one rotates less often.\n\
         segment = \"{}\"\n\
         # How writes become durable, never whether: \"dsync\" with each write, \"fdatasync\" by a sync\n\
         # after it, \"auto\" by what the disk does faster.\n\
         durable_by = \"{}\"\n",
        ByteSize(config.wal.segment_bytes),
        name_of(&WAYS_TO_BE_DURABLE, config.wal.durable_by),
    )
}

fn client(config: &Config) -> String {
    let client = config.client;
    format!(
        "[client]\n\
         # The longest value; at most `max_command` of [cluster], less {}.\n\
         max_value = \"{}\"\n\
         # Commands of one connection that may wait for their reply.\n\
         max_pipeline = {}\n\
         # Bytes of replies that may wait for a client to take them.\n\
         output_buffer = \"{}\"\n\
         # After this time a command is answered, if need be as one of unknown outcome.\n\
         deadline = \"{}\"\n",
        ByteSize(COMMAND_OVERHEAD_BYTES),
        ByteSize(client.max_value),
        client.max_pipeline,
        ByteSize(client.output_buffer as u64),
        Period(client.deadline),
    )
}

fn runtime(config: &Config) -> String {
    format!(
        "[runtime]\n\
         # Memory that each shard registers with io_uring. It counts as locked memory (ulimit -l).\n\
         io_memory = \"{}\"\n",
        ByteSize(config.runtime.io_memory as u64),
    )
}

fn log(config: &Config) -> String {
    format!(
        "[log]\n\
         # off, error, warn, info, debug or trace. PURLIN_LOG in the environment overrides it.\n\
         level = \"{}\"\n\
         # \"auto\": text, with colours on a terminal. \"text\": without.\n\
         format = \"{}\"\n",
        name_of(&LEVELS, config.log.level),
        name_of(&FORMATS, config.log.format),
    )
}

fn name_of<T: Copy + PartialEq>(words: &[(&'static str, T)], word: T) -> &'static str {
    let found = words.iter().find(|(_, other)| *other == word);
    found.expect("every word has a name").0
}

/// As a text of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => {
                write!(out, "\\u{:04X}", u32::from(letter)).expect("a text takes any text");
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
