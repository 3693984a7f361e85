//! Runs a node: its host of shards, and on each shard the gateway that clients connect to.

use crate::{
    config::{Config, Shards},
    resp::{FrontEndOptions, NodeFacts, RequestLimits, serve_shard},
};
use purlin::glommio::{Glommio, SharedPort};
use purlin::{Error, ErrorKind, Host, Incarnation, LocalShard, Runtime, ShardId};
use purlin_kv::KvMachine;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{io, time::Duration};

/// Makes the data directory that `config` names (safety I1).
///
/// # Errors
/// There is one already, or the machine refuses.
pub fn init(config: &Config) -> Result<Incarnation, Error> {
    purlin::init(&config.cluster, &config.node_config(), config.shards())
}

/// Runs the node until it is asked to stop by SIGINT or SIGTERM, or has to.
///
/// # Errors
/// Why it did not start, or why it stopped.
pub fn run(config: Config) -> Result<(), Error> {
    let config = &config;
    let node = config.node_config();
    let shards = match config.node.shards {
        Shards::Number(count) => count,
        // A directory has as many shards as it was made with, on however many cores.
        Shards::Auto => purlin::recorded_shards(&node.data_dir)?,
    };
    // A port that is taken is noticed before anything of the node runs.
    let ports = bind(&config.listen.gateway.to_string(), shards)
        .map_err(|error| cannot_listen(&error, config))?;
    let signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| no_signals(&error))?;
    let host = Host::builder(config.cluster.clone(), node, |_group| KvMachine::new())
        .shards(shards)
        .start()?;
    tracing::info!(
        "node {} serves clients at {}: {shards} shards, {}",
        config.node.id,
        config.listen.gateway,
        if host.is_pinned() { "each on its own core" } else { "which share the cores" }
    );
    for (shard, port) in (0..shards).map(ShardId).zip(ports) {
        let gateway = Gateway::new(config, shard, shards, port);
        if !host.on_shard(shard, move |local| gateway.open(&local)) {
            tracing::warn!("shard {shard} does not run, and serves no clients");
        }
    }
    stop_on_signal(&host, signals);
    host.join()
}

/// Binds the gateway's port. A process that was killed a moment ago may hold it still, until the kernel
/// has ended what it had under way.
fn bind(address: &str, shards: u16) -> io::Result<Vec<SharedPort>> {
    const TRIES: u32 = 60;
    const PAUSE: Duration = Duration::from_millis(50);
    for _ in 1..TRIES {
        match SharedPort::bind(address, shards) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                std::thread::park_timeout(PAUSE)
            }
            bound => return bound,
        }
    }
    SharedPort::bind(address, shards)
}

/// What one shard needs to serve clients.
struct Gateway {
    options: FrontEndOptions,
    facts: NodeFacts,
    port: SharedPort,
}

impl Gateway {
    fn new(config: &Config, shard: ShardId, shards: u16, port: SharedPort) -> Self {
        let client = &config.client;
        let options = FrontEndOptions {
            shard: shard.0,
            shards,
            request: RequestLimits {
                bulk_bytes_max: client.max_value as usize,
                ..RequestLimits::default()
            },
            pipeline_max: client.max_pipeline,
            output_bytes_max: client.output_buffer,
            ..FrontEndOptions::new(config.cluster.groups, port.port())
        };
        let facts = NodeFacts {
            process: std::process::id(),
            cluster: config.cluster.id.to_string(),
            nodes: config.cluster.members.len() as u32,
            replicas: config.cluster.replicas,
            shards: u32::from(shards),
            started_at: Duration::ZERO,
        };
        Self { options, facts, port }
    }

    /// Accepts clients on the shard's own core.
    fn open(self, local: &LocalShard<Glommio>) {
        let facts = NodeFacts { started_at: local.runtime().now(), ..self.facts };
        serve_shard(local, self.port.listener(), self.options, facts);
    }
}

/// Stops the host at the first signal.
fn stop_on_signal(host: &Host, mut signals: Signals) {
    let shared = host.shared();
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            tracing::info!("stops, asked by signal {signal}");
            shared.stop();
        }
    });
}

fn cannot_listen(error: &io::Error, config: &Config) -> Error {
    Error::new(
        ErrorKind::Environment,
        format!("cannot listen for clients: {error}"),
        config.listen.gateway.to_string(),
        "the node does not start; nothing was changed",
        "stop whoever has the port, or choose another `gateway` in [listen]",
    )
}

fn no_signals(error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Environment,
        format!("cannot watch for signals: {error}"),
        "this process",
        "the node does not start; nothing was changed",
        "look at the limits of this process",
    )
}
