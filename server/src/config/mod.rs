//! A node's configuration file: read, checked and written. Never changes what it says, and knows no
//! key for what does not exist.
//!
//! The file is TOML, at most 1 MiB; `purlin config default` prints one with all keys, their meanings
//! and defaults. Reading goes in three steps, and each reports all it finds:
//!
//! ```text
//! text ── toml ──▶ document ── names ──▶ unknown names
//!                      └────── reader ─▶ values, each checked by itself ── check ─▶ Config
//! ```

mod check;
mod mistake;
mod names;
mod quantity;
mod reader;
mod render;

#[cfg(test)]
mod config_test;

pub use mistake::Mistakes;
pub use quantity::{ByteSize, Period};

use self::{
    mistake::Mistake,
    reader::{Reader, boolean, cluster_id, number, period, period_range, size, text, word},
};
use purlin::{
    ClusterConfig, ClusterId, DurableBy, IntakeOptions, Member, NodeConfig, NodeId, RaftOptions,
    WalOptions,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use toml::de::DeTable;

/// The longest configuration file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most shards of a node.
pub const SHARDS_MAX: u16 = 1024;
/// What a command may be longer than its value, in bytes: its name, its key and its options.
pub const COMMAND_OVERHEAD_BYTES: u64 = 128 << 10;
/// The longest command of a cluster that does not choose, in bytes.
const MAX_COMMAND: u64 = 8 << 20;

/// What a configuration file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Section `[node]`.
    pub node: NodeOptions,
    /// Section `[cluster]`.
    pub cluster: ClusterConfig,
    /// Section `[listen]`.
    pub listen: ListenOptions,
    /// Section `[raft]`.
    pub raft: RaftOptions,
    /// Section `[wal]`.
    pub wal: WalOptions,
    /// Section `[client]`.
    pub client: ClientOptions,
    /// Section `[runtime]`.
    pub runtime: RuntimeOptions,
    /// Section `[log]`.
    pub log: LogOptions,
}

/// Which node this is, where its data lies, and how many cores it uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeOptions {
    /// Its id, one of the members'.
    pub id: NodeId,
    /// Its data directory. A relative path in a file is relative to the file's folder.
    pub data_dir: PathBuf,
    /// How many shards it has. Fixed when the data directory is made.
    pub shards: Shards,
    /// Whether each shard gets a core of its own, where there are enough of them.
    pub pin: bool,
}

/// How many shards a node has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shards {
    /// One for each core that this process may use; one less when there are more than four.
    Auto,
    /// So many, 1 to [`SHARDS_MAX`].
    Number(u16),
}

/// Where clients connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenOptions {
    /// The address of the port for clients.
    pub gateway: SocketAddr,
    /// Whether that may be an address which other machines reach, though nobody is asked who he is.
    pub insecure: bool,
}

/// What a client may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientOptions {
    /// The longest value, and the longest argument of a command, in bytes.
    pub max_value: u64,
    /// Commands of one connection that may wait for their reply.
    pub max_pipeline: usize,
    /// Bytes of replies that may wait for a client to take them.
    pub output_buffer: usize,
    /// After this time a command is answered, if need be as unknown.
    pub deadline: Duration,
}

/// What a shard takes of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuntimeOptions {
    /// Memory that each shard registers with io_uring, in bytes.
    pub io_memory: usize,
}

/// What is logged, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// The least important level that is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// The levels of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What must be looked at.
    Error,
    /// What may have to be looked at.
    Warn,
    /// Changes of state.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Every step.
    Trace,
}

/// How a line of the log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Text, with colours on a terminal.
    Auto,
    /// Text without colours.
    Text,
}

const LEVELS: [(&str, LogLevel); 6] = [
    ("off", LogLevel::Off),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
const FORMATS: [(&str, LogFormat); 2] = [("auto", LogFormat::Auto), ("text", LogFormat::Text)];
const WAYS_TO_BE_DURABLE: [(&str, DurableBy); 3] =
    [("auto", DurableBy::Auto), ("dsync", DurableBy::Dsync), ("fdatasync", DurableBy::Fdatasync)];

impl Config {
    /// The configuration of node `id`, one of `members`, with defaults for all that can have one.
    pub fn new(id: NodeId, data_dir: PathBuf, cluster: ClusterConfig) -> Self {
        Self {
            node: NodeOptions { id, data_dir, shards: Shards::Auto, pin: true },
            cluster,
            listen: ListenOptions::default(),
            raft: RaftOptions::default(),
            wal: WalOptions::default(),
            client: ClientOptions::default(),
            runtime: RuntimeOptions::default(),
            log: LogOptions::default(),
        }
    }

    /// Reads `text`, the content of the file at `path`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Mistakes> {
        let document = DeTable::parse(text).map_err(|error| {
            Mistakes::new(path, text, vec![Mistake::new(first_line(error.message()), error.span())])
        })?;
        let document = document.get_ref();
        let mut reader = Reader::new(document);
        reader.mistakes = names::unknown_names(document);
        let mut config = Self::read(&mut reader);
        if reader.mistakes.is_empty() {
            reader.mistakes = check::contradictions(&config, &reader.places);
        }
        if !reader.mistakes.is_empty() {
            return Err(Mistakes::new(path, text, reader.mistakes));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        config.node.data_dir = folder.join(&config.node.data_dir);
        Ok(config)
    }

    /// As the text of a configuration file, with a comment on each key.
    pub fn render(&self) -> String {
        render::render(self)
    }

    /// How many shards the node has, on this machine.
    pub fn shards(&self) -> u16 {
        self.node.shards.count()
    }

    /// What the node chooses for itself, as the engine takes it.
    pub fn node_config(&self) -> NodeConfig {
        NodeConfig {
            node: self.node.id,
            data_dir: self.node.data_dir.clone(),
            pin: self.node.pin,
            raft: self.raft.clone(),
            wal: self.wal.clone(),
            intake: IntakeOptions { deadline: self.client.deadline, ..IntakeOptions::default() },
            io_memory: self.runtime.io_memory,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            node: read_node(reader),
            cluster: read_cluster(reader),
            listen: read_listen(reader),
            raft: read_raft(reader),
            wal: read_wal(reader),
            client: read_client(reader),
            runtime: read_runtime(reader),
            log: read_log(reader),
        }
    }
}

impl Shards {
    /// How many that is, on this machine.
    pub fn count(self) -> u16 {
        match self {
            Self::Number(number) => number,
            Self::Auto => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                let spare = usize::from(cores > 4);
                (cores - spare).clamp(1, usize::from(SHARDS_MAX)) as u16
            }
        }
    }
}

fn read_node(reader: &mut Reader<'_>) -> NodeOptions {
    let mut section = reader.section("node");
    let id = section.required("id", "which of the members this node is", 0, |value| {
        number(value, 1..=u64::from(u32::MAX))
    });
    let data_dir = section.required("data_dir", "where its data lies", PathBuf::new(), |value| {
        match text(value, "a path")? {
            "" => Err("is empty, and must be a path".into()),
            path if path.contains('\0') => Err("holds a zero byte, and must be a path".into()),
            path => Ok(PathBuf::from(path)),
        }
    });
    NodeOptions {
        id: NodeId(id as u32),
        data_dir,
        shards: section.read("shards", Shards::Auto, |value| match value.as_str() {
            Some("auto") => Ok(Shards::Auto),
            _ => number(value, 1..=u64::from(SHARDS_MAX))
                .map(|shards| Shards::Number(shards as u16))
                .map_err(|refusal| format!("{refusal}, or \"auto\"")),
        }),
        pin: section.read("pin", true, boolean),
    }
}

fn read_cluster(reader: &mut Reader<'_>) -> ClusterConfig {
    let mut section = reader.section("cluster");
    let purpose = "`purlin init --new` prints a new one";
    let id = section.required("id", purpose, ClusterId::default(), cluster_id);
    let groups = section.read("groups", 48, |value| number(value, 1..=16_384)) as u32;
    let extra_groups = section.read("extra_groups", 0, |value| number(value, 0..=1_000_000)) as u32;
    let max_command = section.read("max_command", MAX_COMMAND, |value| {
        size(value, COMMAND_OVERHEAD_BYTES + 1..=12 << 20)
    }) as usize;
    let members = section.members();
    let all = members.len() as u64;
    let replicas = section.read("replicas", all, |value| number(value, 1..=1_000)) as u32;
    ClusterConfig { id, groups, extra_groups, max_command, replicas, members }
}

fn read_listen(reader: &mut Reader<'_>) -> ListenOptions {
    let mut section = reader.section("listen");
    let default = ListenOptions::default();
    ListenOptions {
        gateway: section.read("gateway", default.gateway, |value| {
            let expected = "an IP address and a port, such as \"127.0.0.1:7000\"";
            let text = text(value, expected)?;
            let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
            address.ok_or_else(|| format!("is {text:?}, and must be {expected}"))
        }),
        insecure: section.read("insecure", default.insecure, boolean),
    }
}

fn read_raft(reader: &mut Reader<'_>) -> RaftOptions {
    const MS: Duration = Duration::from_millis(1);
    const MINUTE: Duration = Duration::from_secs(60);
    let mut section = reader.section("raft");
    let default = RaftOptions::default();
    RaftOptions {
        tick: section.read("tick", default.tick, |value| period(value, MS..=MS * 1000)),
        election_timeout: section.read("election_timeout", default.election_timeout, period_range),
        heartbeat: section.read("heartbeat", default.heartbeat, |value| period(value, MS..=MINUTE)),
        inflight_bytes_max: section.read(
            "inflight_bytes",
            default.inflight_bytes_max as u64,
            |value| size(value, 64 << 10..=1 << 30),
        ) as usize,
        ..default
    }
}

fn read_wal(reader: &mut Reader<'_>) -> WalOptions {
    let mut section = reader.section("wal");
    let default = WalOptions::default();
    WalOptions {
        segment_bytes: section.read("segment", default.segment_bytes, |value| {
            let bytes = size(value, 1 << 20..=4 << 30)?;
            let aligned = bytes.is_multiple_of(4096);
            let refusal = || format!("is {}, and must be a multiple of 4KiB", ByteSize(bytes));
            aligned.then_some(bytes).ok_or_else(refusal)
        }),
        durable_by: section
            .read("durable_by", default.durable_by, |value| word(value, &WAYS_TO_BE_DURABLE)),
        ..default
    }
}

fn read_client(reader: &mut Reader<'_>) -> ClientOptions {
    const DEADLINES: std::ops::RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(3600);
    let mut section = reader.section("client");
    let default = ClientOptions::default();
    ClientOptions {
        max_value: section.read("max_value", default.max_value, |value| size(value, 1..=1 << 30)),
        max_pipeline: section
            .read("max_pipeline", default.max_pipeline as u64, |value| number(value, 1..=1 << 20))
            as usize,
        output_buffer: section.read("output_buffer", default.output_buffer as u64, |value| {
            size(value, 64 << 10..=4 << 30)
        }) as usize,
        deadline: section.read("deadline", default.deadline, |value| period(value, DEADLINES)),
    }
}

fn read_runtime(reader: &mut Reader<'_>) -> RuntimeOptions {
    let mut section = reader.section("runtime");
    let default = RuntimeOptions::default().io_memory as u64;
    RuntimeOptions {
        io_memory: section.read("io_memory", default, |value| size(value, 64 << 10..=1 << 30))
            as usize,
    }
}

fn read_log(reader: &mut Reader<'_>) -> LogOptions {
    let mut section = reader.section("log");
    let default = LogOptions::default();
    LogOptions {
        level: section.read("level", default.level, |value| word(value, &LEVELS)),
        format: section.read("format", default.format, |value| word(value, &FORMATS)),
    }
}

/// What the parser says first; more lines of it say what it had expected.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("this is no TOML")
}

impl LogLevel {
    /// Reads a level's name.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        LEVELS.iter().find(|(other, _)| *other == name).map(|(_, level)| *level)
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { gateway: (Ipv4Addr::LOCALHOST, 7000).into(), insecure: false }
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            max_value: MAX_COMMAND - COMMAND_OVERHEAD_BYTES,
            max_pipeline: 1024,
            output_buffer: 16 << 20,
            deadline: IntakeOptions::default().deadline,
        }
    }
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { io_memory: 10 << 20 }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Auto }
    }
}

/// Three members on one machine: where an example begins.
pub fn example_members() -> Vec<Member> {
    let member = |node: u16| Member {
        node: NodeId(u32::from(node)),
        host: "127.0.0.1".into(),
        peer_port: 7000 + 100 * node,
    };
    (1..=3).map(member).collect()
}
