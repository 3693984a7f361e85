//! The sections of a configuration and their defaults.

use super::choices::{LogFormat, LogLevel, Shards};
use crate::resp::RequestLimits;
use purlin::os::RuntimeKind;
use purlin::{
    Advertised, ClusterConfig, ClusterId, IntakeOptions, Member, NodeConfig, NodeId, RaftOptions,
    WalOptions,
};
use purlin_kv::VALUE_BYTES_MAX;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// The most shards of a node.
pub const SHARDS_MAX: u16 = 1024;
/// From a node's gateway to the port of its first shard for clients.
pub const SHARD_OFFSET: u16 = 1;
/// From a node's gateway to its first port for other nodes.
pub const PEER_OFFSET: u16 = 50;
/// From a node's gateway to its admin port.
pub const ADMIN_OFFSET: u16 = 98;
/// How many groups a cluster has unless its configuration says otherwise.
pub(crate) const GROUPS: u32 = 48;
/// What a command may be longer than its value, in bytes: its name, its key and its options.
pub const COMMAND_OVERHEAD_BYTES: u64 = 128 << 10;

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
    /// Section `[kv]`.
    pub kv: KvOptions,
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
    /// Whether each shard gets a core of its own, where there are enough that no other node on this machine has.
    pub pin: bool,
}

/// Where the node listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenOptions {
    /// The address of the port for clients.
    pub gateway: SocketAddr,
    /// Whether clients and operators may connect from other machines, though there are no passwords.
    pub insecure: bool,
    /// Shard `i` has a port for clients at this port plus `i`; 0 when the shards have none.
    pub shard_port_base: u16,
    /// The host at which the node listens for other nodes.
    pub peer_host: String,
    /// The host that the node names as its own.
    pub advertise_host: String,
    /// The address of the port for operators.
    pub admin: SocketAddr,
}

/// The keys and their values.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct KvOptions {
    /// Memory that all keys and values of the node may take; a part of the machine's when it is not said.
    pub max_memory: Option<u64>,
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
    /// Bytes of commands that are read while replies wait.
    pub query_buffer: usize,
    /// Bytes that all clients of a shard may hold together.
    pub memory: usize,
    /// After this time a command is answered, if need be as unknown.
    pub deadline: Duration,
    /// After this time a command that has found no leader is answered.
    pub leader_deadline: Duration,
}

/// What a shard takes of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuntimeOptions {
    /// What a shard runs on.
    pub kind: RuntimeKind,
    /// Memory that each shard registers with io_uring, in bytes.
    pub io_memory: usize,
    /// So long a shard looks for something to do before it sleeps.
    pub spin: Duration,
}

/// What is logged, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// The least important level that is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

impl Config {
    /// The configuration of node `id`, one of `members`, with defaults for all that can have one.
    pub fn new(id: NodeId, data_dir: PathBuf, cluster: ClusterConfig) -> Self {
        let mut config = Self {
            node: NodeOptions { id, data_dir, shards: Shards::Auto, pin: true },
            cluster,
            listen: ListenOptions::default(),
            raft: RaftOptions::default(),
            wal: WalOptions::default(),
            kv: KvOptions::default(),
            client: ClientOptions::default(),
            runtime: RuntimeOptions::default(),
            log: LogOptions::default(),
        };
        config.client.max_value = 0;
        config.derive();
        config
    }

    /// Where values begin before a file is read.
    pub(super) fn blank() -> Self {
        let cluster = ClusterConfig::new(ClusterId::default(), GROUPS, Vec::new());
        let mut config = Self::new(NodeId(0), PathBuf::new(), cluster);
        config.listen.admin.set_port(0);
        // A file without the key has no such ports: files that were written before there were any still start.
        config.listen.shard_port_base = 0;
        config.client.max_value = 0;
        config
    }

    /// Gives the fields that depend on others their values, where they have none.
    pub(super) fn derive(&mut self) {
        let (cluster, listen) = (&mut self.cluster, &mut self.listen);
        if cluster.replicas == 0 {
            cluster.replicas = cluster.members.len() as u32;
        }
        let own = cluster.members.iter().find(|member| member.node == self.node.id);
        if let (true, Some(own)) = (listen.peer_host.is_empty(), own) {
            listen.peer_host.clone_from(&own.host);
        }
        if let (true, Some(own)) = (listen.advertise_host.is_empty(), own) {
            // Clients are sent to where the gateway listens. Where that is everywhere, or where only this machine
            // reaches it, they are sent to where the other nodes find this one.
            let ip = listen.gateway.ip();
            listen.advertise_host = match ip.is_unspecified() || ip.is_loopback() {
                true => own.host.clone(),
                false => ip.to_string(),
            };
        }
        if self.client.max_value == 0 {
            self.client.max_value = value_bytes_max(cluster);
        }
        if listen.admin.port() == 0 {
            listen.admin = admin_beside(listen.gateway);
        }
    }

    /// How many shards the node has, on this machine.
    pub fn shards(&self) -> u16 {
        self.node.shards.count()
    }

    /// Where clients and operators find the node, as it tells them and other nodes.
    pub fn advertised(&self) -> Advertised {
        let listen = &self.listen;
        let is_loopback = listen.advertise_host == "localhost"
            || listen.advertise_host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        // Another machine cannot reach a port that listens on loopback.
        let told = |at: SocketAddr, port| match at.ip().is_loopback() && !is_loopback {
            true => 0,
            false => port,
        };
        Advertised {
            host: listen.advertise_host.clone(),
            gateway_port: told(listen.gateway, listen.gateway.port()),
            shard_port_base: told(listen.gateway, listen.shard_port_base),
            admin_port: told(listen.admin, listen.admin.port()),
        }
    }

    /// What a request of a client may be.
    pub fn request_limits(&self) -> RequestLimits {
        RequestLimits::new(self.client.max_value as usize, self.cluster.max_command)
    }

    /// What the node chooses for itself, as the engine takes it.
    pub fn node_config(&self) -> NodeConfig {
        NodeConfig {
            node: self.node.id,
            data_dir: self.node.data_dir.clone(),
            pin: self.node.pin,
            advertised: self.advertised(),
            raft: self.raft.clone(),
            wal: self.wal.clone(),
            intake: IntakeOptions {
                deadline: self.client.deadline,
                leader_deadline: self.client.leader_deadline,
                ..IntakeOptions::default()
            },
            peer_host: Some(self.listen.peer_host.clone()),
            runtime: self.runtime.kind,
            io_memory: self.runtime.io_memory,
            spin: self.runtime.spin,
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

/// The admin port of a node whose gateway is at `gateway`. A gateway too high to have one beside it
/// leaves the port 0, which is refused.
fn admin_beside(gateway: SocketAddr) -> SocketAddr {
    let port = gateway.port().checked_add(ADMIN_OFFSET).unwrap_or(0);
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The port of the first shard of a node whose gateway is at `gateway`.
fn shard_port_beside(gateway: SocketAddr) -> u16 {
    gateway.port().checked_add(SHARD_OFFSET).unwrap_or(0)
}

/// The longest value that a key may have and whose command a cluster takes.
pub(super) fn value_bytes_max(cluster: &ClusterConfig) -> u64 {
    let value = (cluster.max_command as u64).saturating_sub(COMMAND_OVERHEAD_BYTES);
    value.min(VALUE_BYTES_MAX as u64)
}

impl ListenOptions {
    /// The gateway at `gateway`, and the ports of the shards and the admin port beside it.
    pub fn move_to(&mut self, gateway: SocketAddr) {
        self.gateway = gateway;
        self.shard_port_base = shard_port_beside(gateway);
        self.admin = admin_beside(gateway);
    }

    /// Where a shard listens for clients, if the shards have ports of their own.
    pub fn shard_address(&self, shard: u16) -> Option<SocketAddr> {
        let base = Some(self.shard_port_base).filter(|base| *base != 0)?;
        Some((self.gateway.ip(), base.checked_add(shard)?).into())
    }

    /// The ports of so many shards for clients, if they have ports of their own: the first and the last.
    pub fn shard_ports(&self, shards: u16) -> Option<(u16, u16)> {
        let last = self.shard_address(shards.checked_sub(1)?)?;
        Some((self.shard_port_base, last.port()))
    }

    /// One of its addresses, as others are told it: a port at all addresses of the machine is named with
    /// the host that the node advertises.
    pub fn told(&self, address: SocketAddr) -> String {
        match (address.ip().is_unspecified(), self.advertise_host.contains(':')) {
            (false, _) => address.to_string(),
            (true, false) => format!("{}:{}", self.advertise_host, address.port()),
            (true, true) => format!("[{}]:{}", self.advertise_host, address.port()),
        }
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        let gateway = (Ipv4Addr::LOCALHOST, 7000).into();
        Self {
            gateway,
            insecure: false,
            shard_port_base: shard_port_beside(gateway),
            peer_host: String::new(),
            advertise_host: String::new(),
            admin: admin_beside(gateway),
        }
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            max_value: value_bytes_max(&ClusterConfig::new(ClusterId::default(), 1, Vec::new())),
            max_pipeline: 1024,
            output_buffer: 16 << 20,
            query_buffer: 16 << 20,
            memory: 256 << 20,
            deadline: IntakeOptions::default().deadline,
            leader_deadline: IntakeOptions::default().leader_deadline,
        }
    }
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { kind: RuntimeKind::default(), io_memory: 10 << 20, spin: Duration::ZERO }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Auto }
    }
}

/// Three members on one machine: where an example begins. The first has the default gateway.
pub fn example_members() -> Vec<Member> {
    let member = |node: u16| Member {
        node: NodeId(u32::from(node)),
        host: "127.0.0.1".into(),
        peer_port: 6900 + 100 * node + PEER_OFFSET,
    };
    (1..=3).map(member).collect()
}
