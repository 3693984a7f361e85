//! Which nodes a cluster has: their configurations, as files, with the ports that they get.

use super::{
    folder::{DATA, Folder, refused},
    options::DevOptions,
    ports::{Block, PEER_PORTS},
};
use crate::{
    config::{ADMIN_OFFSET, Config, PEER_OFFSET, SHARD_OFFSET, Shards},
    error::Failure,
    machine::{load, new_cluster_id},
    memory,
    output::say,
};
use purlin::{ClusterConfig, ErrorKind, Member, NodeId, WalOptions};
use rustix::thread::{CpuSet, sched_getaffinity};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// The least that `kv.max_memory` may be.
const KV_BYTES_MIN: u64 = 1 << 20;
/// The name of a node's configuration file.
const FILE: &str = "purlin.toml";

/// The nodes of a cluster.
pub(super) struct Plan {
    nodes: Vec<NodePlan>,
    /// The data directories are still to be made.
    pub(super) is_new: bool,
    /// Whether it stays when it ends.
    pub(super) keep: bool,
    /// The ports are no other cluster's while this lives.
    _blocks: Vec<Block>,
}

/// One node.
pub(super) struct NodePlan {
    pub(super) config: Config,
    /// Its configuration file.
    pub(super) file: PathBuf,
    /// The cores that it may use; all when there are too few for each shard to have one.
    pub(super) cores: Option<Vec<usize>>,
}

impl Plan {
    /// A new cluster in `folder`: writes its configuration files.
    pub(super) fn make(folder: &Folder, options: &DevOptions) -> Result<Self, Failure> {
        let blocks = Block::take(options.nodes, options.shards).ok_or_else(no_ports)?;
        let cluster = cluster(options, &blocks)?;
        let cores = allowed_cores();
        let mut nodes = Vec::new();
        for (number, block) in (1..).zip(&blocks) {
            let mut config = config(number, &cluster, options, block);
            config.node.pin = cores.len() >= shards_of_all(options);
            let file = folder.node(number).join(FILE);
            fs::create_dir(folder.node(number)).map_err(|error| refused(&file, &error))?;
            write(&file, &config)?;
            nodes.push(NodePlan { config, file, cores: None });
        }
        let mut plan = Self { nodes, is_new: true, keep: options.keep, _blocks: blocks };
        plan.share(&cores);
        Ok(plan)
    }

    /// The cluster that was kept in `folder`, with its own configuration files; with other ports when
    /// its own are in use.
    pub(super) fn resume(folder: &Folder) -> Result<Self, Failure> {
        let files = (1..).map(|number| folder.node(number).join(FILE));
        let files: Vec<_> = files.take_while(|file| file.exists()).collect();
        let mut nodes = Vec::new();
        for file in files {
            nodes.push(NodePlan { config: load(&file)?, file, cores: None });
        }
        if nodes.is_empty() {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(refused(&folder.node(1).join(FILE), &missing));
        }
        let mut plan = Self { nodes, is_new: false, keep: true, _blocks: Vec::new() };
        plan.take_ports()?;
        plan.share(&allowed_cores());
        Ok(plan)
    }

    /// The nodes, in the order of their numbers.
    pub(super) fn nodes(&self) -> &[NodePlan] {
        &self.nodes
    }

    /// Where clients connect.
    fn gateways(&self) -> impl Iterator<Item = SocketAddr> {
        self.nodes.iter().map(|node| node.config.listen.gateway)
    }

    /// Whether each shard has a core of its own.
    pub(super) fn is_pinned(&self) -> bool {
        self.nodes.iter().all(|node| node.cores.is_some())
    }

    fn take_ports(&mut self) -> Result<(), Failure> {
        let shards = self.nodes.iter().map(|node| node.config.shards()).max().unwrap_or(1);
        // Ports that somebody has chosen by hand are theirs.
        if !self.nodes.iter().all(|node| has_block(&node.config)) {
            return Ok(());
        }
        let own = self.gateways().map(|gateway| Block::take_at(gateway.port(), shards));
        if let Some(blocks) = own.collect::<Option<Vec<_>>>() {
            self._blocks = blocks;
            return Ok(());
        }
        say("The ports of the kept cluster are in use: it gets other ports.");
        let blocks = Block::take(self.nodes.len() as u32, shards).ok_or_else(no_ports)?;
        let members = members(&blocks);
        for (node, block) in self.nodes.iter_mut().zip(&blocks) {
            node.config.cluster.members.clone_from(&members);
            node.config.listen.move_to(gateway(block));
            write(&node.file, &node.config)?;
        }
        self._blocks = blocks;
        Ok(())
    }

    /// Gives each node cores of its own, if there are enough for all, and all of them want to pin.
    fn share(&mut self, cores: &[usize]) {
        let shards: usize = self.nodes.iter().map(|node| usize::from(node.config.shards())).sum();
        if cores.len() < shards || !self.nodes.iter().all(|node| node.config.node.pin) {
            return;
        }
        let mut left = cores.iter().copied();
        for node in &mut self.nodes {
            node.cores = Some(left.by_ref().take(node.config.shards().into()).collect());
        }
    }
}

/// The cores that this process may use.
pub(super) fn allowed_cores() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

fn shards_of_all(options: &DevOptions) -> usize {
    options.nodes as usize * usize::from(options.shards)
}

fn cluster(options: &DevOptions, blocks: &[Block]) -> Result<ClusterConfig, Failure> {
    let mut cluster = ClusterConfig::new(new_cluster_id()?, options.groups, members(blocks));
    let wal = WalOptions { segment_bytes: options.segment, ..WalOptions::default() };
    cluster.max_command = cluster.max_command.min(wal.max_command());
    Ok(cluster)
}

fn members(blocks: &[Block]) -> Vec<Member> {
    let member = |(number, block): (u32, &Block)| Member {
        node: NodeId(number),
        host: Ipv4Addr::LOCALHOST.to_string(),
        peer_port: block.peer_port(),
    };
    (1..).zip(blocks).map(member).collect()
}

fn config(number: u32, cluster: &ClusterConfig, options: &DevOptions, block: &Block) -> Config {
    let mut config = Config::new(NodeId(number), DATA.into(), cluster.clone());
    config.node.shards = Shards::Number(options.shards);
    config.listen.move_to(gateway(block));
    config.wal.segment_bytes = options.segment;
    config.runtime.kind = options.runtime;
    // The nodes share the memory of one machine.
    config.kv.max_memory = memory::of_this_process()
        .map(|memory| memory::of_data(&config, options.shards, memory / u64::from(options.nodes)))
        .map(|bytes| bytes.max(KV_BYTES_MIN) >> 20 << 20);
    config
}

fn gateway(block: &Block) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, block.gateway()).into()
}

/// Whether the ports of a node are as a block has them.
fn has_block(config: &Config) -> bool {
    let own = config.cluster.members.iter().find(|member| member.node == config.node.id);
    let listen = &config.listen;
    let base = listen.gateway.port();
    let is_usual = [0, base.saturating_add(SHARD_OFFSET)].contains(&listen.shard_port_base);
    config.shards() <= PEER_PORTS
        && is_usual
        && own.is_some_and(|own| own.peer_port.checked_sub(PEER_OFFSET) == Some(base))
        && listen.admin.port().checked_sub(ADMIN_OFFSET) == Some(base)
}

fn write(file: &Path, config: &Config) -> Result<(), Failure> {
    fs::write(file, config.render()).map_err(|error| refused(file, &error))
}

fn no_ports() -> Failure {
    Failure::new(
        ErrorKind::Environment,
        "there are too few free ports",
        "127.0.0.1:7000-32699",
        "nothing was started",
        "end other clusters on this machine, or start fewer nodes or shards",
    )
}
