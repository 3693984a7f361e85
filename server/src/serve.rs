//! Runs a node: its host of shards, and on each shard the gateway that clients connect to.

use crate::{
    admin::{AdminFacts, CONNECTIONS_MAX, Connections, serve_admin},
    config::{Config, Shards},
    cpu,
    freed_memory::FreedMemory,
    memory,
    resp::{ClientListeners, FrontEndOptions, NodeFacts, serve_shard},
};
use futures_lite::future::block_on;
use purlin::os::{ClientFiles, OpenFiles, OsRuntime, SharedPort, raise_open_files};
use purlin::{
    ByteSize, Error, ErrorKind, Host, Incarnation, ListeningPort, LocalShard, Runtime, ShardId,
    bind_patiently, cannot_listen,
};
use purlin_kv::KvMachine;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};
use std::{
    io,
    net::SocketAddr,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

/// Each shard keeps so many clients, however few descriptors there are.
const CLIENTS_MIN: usize = 16;

/// Makes the data directory that `config` names (safety I1).
///
/// # Errors
/// There is one already, or the machine refuses.
pub fn init(config: &Config) -> Result<Incarnation, Error> {
    purlin::init(&config.cluster, &config.node_config(), config.shards())
}

/// Runs the node until it is asked to stop by SIGINT or SIGTERM, or has to. What is under way is answered first, for a
/// second at most ([`purlin::Shared::stop`]). A second signal ends the process at once.
///
/// # Errors
/// Why it did not start, or why it stopped.
pub fn run(config: Config) -> Result<(), Error> {
    let config = &config;
    let mut node = config.node_config();
    let shards = match config.node.shards {
        Shards::Number(count) => count,
        // A directory has as many shards as it was made with, on however many cores.
        Shards::Auto => purlin::recorded_shards(&node)?,
    };
    let data_max = data_bytes_max(config, shards);
    if data_max != usize::MAX {
        node.intake.machine_bytes_max = data_max / usize::from(shards);
    }
    let files = raise_open_files();
    let stops = watch_signals()?;
    // A port that is taken is noticed before anything of the node runs.
    let listen = &config.listen;
    let Some(ports) = bind("gateway", listen.gateway, shards, &stops)? else { return Ok(()) };
    let Some(shard_ports) = bind_shard_ports(config, shards, &stops)? else { return Ok(()) };
    let Some(admin) = bind("admin", listen.admin, shards, &stops)? else { return Ok(()) };
    tracing::info!("{}", addresses(config, shards));
    let members = config.cluster.members.len() as u64;
    let client_files = ClientFiles::keeping(kept_files(members, shards.into()), files);
    let memory = config.client.memory;
    let clients_max = clients_max(client_files, shards, memory);
    tell_files(files, client_files, clients_max);
    tell_memory(data_max, shards);
    tell_client_memory(memory, clients_max);
    // From here on the thread that stops the host is there: a machine that refuses it has no node running.
    let stopper = stop_on_signal(stops).map_err(|error| no_signals(&error))?;
    let _freed = FreedMemory::start().map_err(|error| no_thread(&error))?;
    let cluster = config.cluster.id;
    let host =
        Host::builder(config.cluster.clone(), node, move |group| KvMachine::new(cluster, group))
            .shards(shards)
            .start()?;
    tracing::info!(
        "node {} serves clients at {} and operators at {}; shards: {shards}, {}",
        config.node.id,
        listen.gateway,
        listen.admin,
        host.pinning()
    );
    for ((shard, gateway), own) in (0..shards).map(ShardId).zip(ports).zip(shard_ports) {
        let ports = ClientPorts { gateway, shard: own, files: client_files };
        let clients = Clients::new(config, shard, shards, clients_max, ports);
        if !host.on_shard(shard, move |local| clients.serve(&local)) {
            tracing::warn!(
                "shard {shard} does not run and serves no clients; an earlier line says why"
            );
        }
    }
    open_admin(&host, config, admin);
    let shared = host.shared();
    // The thread ends only after a signal, or when it is sent nothing.
    let _sent = stopper.send(Box::new(move || shared.stop()));
    host.join()
}

/// One line with every address that the node listens at and dials: it comes before the node opens its
/// log, which may take a while.
fn addresses(config: &Config, shards: u16) -> String {
    let Config { node, cluster, listen, .. } = config;
    let me = cluster.members.iter().find(|member| member.node == node.id);
    let peer_port = me.map_or(0, |me| me.peer_port);
    let to = match shards {
        1 => String::new(),
        _ => format!(" to {}", u32::from(peer_port) + u32::from(shards) - 1),
    };
    let own = match (listen.shard_port_base, shards) {
        (0, _) => String::new(),
        (port, 1) => format!(" and at its shard's port {port}"),
        (base, _) => format!(
            " and at its shards' ports {base} to {}",
            u32::from(base) + u32::from(shards) - 1
        ),
    };
    let others = cluster.members.iter().filter(|member| member.node != node.id);
    let others: Vec<_> = others
        .map(|member| format!("node {} at {}:{}", member.node, member.host, member.peer_port))
        .collect();
    let dials = match others.len() {
        0 => "dials no other node".into(),
        _ => format!("dials the first shard of {}", others.join(", ")),
    };
    format!(
        "node {} listens for clients at {}{own}, for operators at {}, and for other nodes at {}:{peer_port}{to}; \
         it {dials}",
        node.id, listen.gateway, listen.admin, listen.peer_host
    )
}

/// The signals that ask this process to stop, from now on.
fn watch_signals() -> Result<Receiver<i32>, Error> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| no_signals(&error))?;
    let (sender, stops) = mpsc::channel();
    let watch = move || {
        for (number, signal) in signals.forever().enumerate() {
            if number > 0 {
                // Data is as safe as in any crash.
                let _ = emulate_default_handler(signal);
            }
            // The receiver may have ended.
            let _ = sender.send(signal);
        }
    };
    let watched = thread::Builder::new().name("signals".into()).spawn(watch);
    watched.map_err(|error| no_signals(&error))?;
    Ok(stops)
}

/// Binds a port for so many shards; nothing when this process was asked to stop meanwhile.
fn bind(
    key: &str,
    address: SocketAddr,
    shards: u16,
    stops: &Receiver<i32>,
) -> Result<Option<Vec<SharedPort>>, Error> {
    let bind = async || SharedPort::bind(&address.to_string(), shards);
    let goes_on = async |pause| stops.recv_timeout(pause).is_err();
    let bound = block_on(bind_patiently(bind, goes_on));
    bound.map_err(|error| {
        let port = ListeningPort {
            whom: if key == "admin" { "operators" } else { "clients" },
            address: &address.to_string(),
            port_setting: &match key {
                "shard_port_base" => format!("`listen.{key}`"),
                _ => format!("port in `listen.{key}`"),
            },
            host_setting: &match key {
                // The shards listen where the gateway does.
                "shard_port_base" => "the address in `listen.gateway`".to_owned(),
                _ => format!("the address in `listen.{key}`"),
            },
        };
        cannot_listen(&error, port)
    })
}

/// Binds the port of each shard for clients, if shards have such ports; nothing when this process was asked to stop
/// meanwhile.
fn bind_shard_ports(
    config: &Config,
    shards: u16,
    stops: &Receiver<i32>,
) -> Result<Option<Vec<Option<SharedPort>>>, Error> {
    let mut ports = Vec::new();
    for shard in 0..shards {
        let port = match config.listen.shard_address(shard) {
            None => None,
            Some(address) => match bind("shard_port_base", address, 1, stops)? {
                None => return Ok(None),
                Some(mut bound) => bound.pop(),
            },
        };
        ports.push(port);
    }
    Ok(Some(ports))
}

/// The descriptors that clients never take: so they can keep out neither an operator nor another node, and a
/// log finds one for its next segment.
fn kept_files(members: u64, shards: u64) -> u64 {
    /// For the program itself and its operators.
    const PROCESS_FILES: u64 = 64 + CONNECTIONS_MAX as u64;
    /// For one shard's next segments.
    const LOG_FILES: u64 = 32;
    /// For one shard's connections of other nodes that have not said yet whose they are.
    const HANDSHAKE_FILES: u64 = 128;
    // One connection each way to each shard of each other node, and once more while one is replaced.
    let peer_files = 4 * members.saturating_sub(1) * shards;
    PROCESS_FILES + (LOG_FILES + HANDSHAKE_FILES + peer_files) * shards
}

/// What an idle client may hold.
const IDLE_CLIENT_BYTES: usize = 16 << 10;

/// How many clients each shard may keep: its share of the descriptors that clients may have, and so many that all
/// of them may be idle within `memory`, the memory of clients of the shard.
fn clients_max(files: ClientFiles, shards: u16, memory: usize) -> usize {
    let most = FrontEndOptions::new(1, 0).clients_max;
    let each = files.count() / u64::from(shards);
    let by_files = usize::try_from(each).unwrap_or(most);
    by_files.min(memory / IDLE_CLIENT_BYTES).clamp(CLIENTS_MIN, most)
}

/// Warns when the memory of clients and not the descriptors sets the number of clients.
fn tell_client_memory(memory: usize, clients_max: usize) {
    if clients_max == memory / IDLE_CLIENT_BYTES {
        tracing::warn!(
            "`client.memory` is {}, which is enough for {clients_max} idle clients a shard. Means: clients beyond these are \
             refused. Do: raise it, by {} for each client",
            ByteSize(memory as u64),
            ByteSize(IDLE_CLIENT_BYTES as u64)
        );
    }
}

/// What all keys and values of the node may take in memory.
fn data_bytes_max(config: &Config, shards: u16) -> usize {
    let of_machine = || memory::of_this_process().map(|all| memory::of_data(config, shards, all));
    let bytes = config.kv.max_memory.or_else(of_machine);
    bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Says how much memory keys and values may take.
fn tell_memory(data_max: usize, shards: u16) {
    const MIB: usize = 1 << 20;
    if data_max == usize::MAX {
        return tracing::warn!(
            "the memory of the machine cannot be read (/proc/meminfo). Means: nothing bounds the memory of keys and \
             values. Do: set `kv.max_memory`"
        );
    }
    tracing::info!(
        "keys and values may take {} MiB of memory on this node, {} MiB on each shard (`kv.max_memory`)",
        data_max / MIB,
        data_max / usize::from(shards) / MIB
    );
}

/// Says how many files this process may open, and warns when these are few.
fn tell_files(files: OpenFiles, clients: ClientFiles, clients_max: usize) {
    let OpenFiles { found, limit } = files;
    let kept = limit - clients.count();
    tracing::info!(
        "open files: the limit is {limit} (it was {found}), of which {kept} are kept for the log and other \
         nodes; each shard takes {clients_max} clients at most"
    );
    if clients_max < FrontEndOptions::new(1, 0).clients_max {
        tracing::warn!(
            "the hard limit on open files is low. Means: clients beyond {clients_max} a shard are refused, and \
             each segment of the log takes one file for good. Do: raise it (ulimit -Hn; systemd: LimitNOFILE; \
             docker: --ulimit nofile)"
        );
    }
}

/// Serves operators on each shard that runs: a shard that fails closes its socket, and the kernel gives
/// new connections to the others.
fn open_admin(host: &Host, config: &Config, ports: Vec<SharedPort>) {
    let facts = AdminFacts {
        cluster: config.cluster.clone(),
        process: std::process::id(),
        cpu: cpu::of_this_process,
        gateway: config.listen.told(config.listen.gateway),
        admin: config.listen.told(config.listen.admin),
        started_at: Duration::ZERO,
    };
    let connections = Connections::default();
    for (shard, port) in (0..).map(ShardId).zip(ports) {
        let (facts, connections) = (facts.clone(), connections.clone());
        let view = host.shared().view().clone();
        let opened = host.on_shard(shard, move |local| {
            let runtime = local.runtime().clone();
            let facts = AdminFacts { started_at: runtime.now(), ..facts };
            runtime.spawn(serve_admin(
                runtime.clone(),
                runtime.listener(port, ClientFiles::ALL),
                view,
                facts,
                connections,
            ));
        });
        if !opened {
            tracing::warn!(
                "shard {shard} does not run and serves no operators; an earlier line says why"
            );
        }
    }
}

/// The ports at which one shard serves clients.
struct ClientPorts {
    /// The shard's socket of the port that all shards of the node share.
    gateway: SharedPort,
    /// The shard's own port.
    shard: Option<SharedPort>,
    /// The descriptors that clients may have.
    files: ClientFiles,
}

/// What one shard needs to serve clients.
struct Clients {
    options: FrontEndOptions,
    facts: NodeFacts,
    ports: ClientPorts,
}

impl Clients {
    fn new(
        config: &Config,
        shard: ShardId,
        shards: u16,
        clients_max: usize,
        ports: ClientPorts,
    ) -> Self {
        let client = &config.client;
        let options = FrontEndOptions {
            shard: shard.0,
            shards,
            clients_max,
            request: config.request_limits(),
            pipeline_max: client.max_pipeline,
            output_bytes_max: client.output_buffer,
            query_bytes_max: client.query_buffer,
            memory_max: client.memory,
            shard_port: ports.shard.as_ref().map_or(0, SharedPort::port),
            ..FrontEndOptions::new(config.cluster.groups, ports.gateway.port())
        };
        let facts = NodeFacts {
            process: std::process::id(),
            cpu: cpu::of_this_process,
            cluster: config.cluster.id.to_string(),
            admin: config.listen.told(config.listen.admin),
            advertised: config.advertised(),
            nodes: config.cluster.members.len() as u32,
            replicas: config.cluster.replicas,
            shards,
            started_at: Duration::ZERO,
        };
        Self { options, facts, ports }
    }

    /// Accepts clients on the shard's own core.
    fn serve(self, local: &LocalShard<OsRuntime>) {
        let facts = NodeFacts { started_at: local.runtime().now(), ..self.facts };
        let ClientPorts { gateway, shard, files } = self.ports;
        let listeners = ClientListeners {
            gateway: local.runtime().listener(gateway, files),
            shard: shard.map(|port| local.runtime().listener(port, files)),
        };
        serve_shard(local, listeners, self.options, facts);
    }
}

/// Stops the host.
type Stop = Box<dyn FnOnce() + Send>;

/// Starts the thread that waits for a host, and stops it at the first signal, which may have come before. If it
/// is sent no host, the thread ends.
fn stop_on_signal(stops: Receiver<i32>) -> io::Result<Sender<Stop>> {
    let (sender, hosts) = mpsc::channel::<Stop>();
    let wait = move || {
        let Ok(stop) = hosts.recv() else { return };
        if let Ok(signal) = stops.recv() {
            tracing::info!(
                "the node stops, because it was sent signal {signal}; a second signal ends it at once"
            );
            stop();
        }
    };
    thread::Builder::new().name("stop".into()).spawn(wait)?;
    Ok(sender)
}

fn no_thread(error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Environment,
        format!("cannot start the thread that returns freed memory to the system: {error}"),
        "this process",
        "the node does not start; nothing was changed",
        "raise the limit on threads (ulimit -u)",
    )
}

fn no_signals(error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Environment,
        format!("cannot watch for signals: {error}"),
        "this process",
        "the node does not start; nothing was changed",
        "raise the limits on open files (ulimit -n) and threads (ulimit -u)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::example_members;
    use purlin::{ClusterConfig, ClusterId, NodeId};

    /// The thread is there before the host, so a machine that refuses the thread has no node running.
    #[test]
    fn a_signal_that_came_before_the_host_runs_stops_it() {
        let (signals, stops) = mpsc::channel();
        let stopper = stop_on_signal(stops).expect("a thread");
        signals.send(SIGTERM).expect("the thread has the receiver");
        let (stopped, heard) = mpsc::channel();
        let stop = move || stopped.send(()).expect("the test listens");
        stopper.send(Box::new(stop)).expect("the thread waits for the host");
        assert_eq!(heard.recv(), Ok(()));
    }

    #[test]
    fn without_a_host_the_thread_that_stops_it_ends() {
        let (signals, stops) = mpsc::channel();
        drop(stop_on_signal(stops).expect("a thread"));
        // The thread lets go of the receiver when it ends.
        while signals.send(SIGTERM).is_ok() {
            thread::yield_now();
        }
    }

    #[test]
    fn one_line_has_every_address() {
        let cluster = ClusterConfig::new(ClusterId(0xabc), 48, example_members());
        let mut config = Config::new(NodeId(2), "/data/n2".into(), cluster);
        config.listen.peer_host = "0.0.0.0".into();
        let members = &config.cluster.members;
        let expected = format!(
            "node 2 listens for clients at 127.0.0.1:7000 and at its shards' ports 7001 to 7004, for operators at 127.0.0.1:7098, and for other \
             nodes at 0.0.0.0:{} to {}; it dials the first shard of node 1 at {}:{}, node 3 at {}:{}",
            members[1].peer_port,
            members[1].peer_port + 3,
            members[0].host,
            members[0].peer_port,
            members[2].host,
            members[2].peer_port
        );
        assert_eq!(addresses(&config, 4), expected);
        let alone = addresses(&config, 1);
        assert!(alone.contains(&format!("0.0.0.0:{}; ", members[1].peer_port)), "{alone}");
        config.cluster.members.retain(|member| member.node == NodeId(2));
        assert!(addresses(&config, 1).ends_with("it dials no other node"));
    }
}
