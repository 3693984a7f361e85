//! A cluster whose nodes are processes, each with a configuration file and a data directory of its
//! own.

use super::{End, Ports, Process, SOON, Scratch, purlin, until};
use purlin::{ClusterConfig, ClusterId, Member, NodeId, os::RuntimeKind};
use purlin_server::{
    config::{Config, Shards},
    resp::{RespClient, Value},
};
use rustix::process::Signal;
use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// How long a node may take for an answer: longer than its own deadline for a command.
const PATIENCE: Duration = Duration::from_secs(20);

static CLUSTERS: AtomicU32 = AtomicU32::new(1);

/// What a cluster is made of. All have three nodes.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) shards: u16,
    pub(crate) groups: u32,
}

/// Three nodes, not all of which need run.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) scratch: Scratch,
}

/// One node.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) file: PathBuf,
    pub(crate) ports: Ports,
    process: Option<Process>,
}

impl Cluster {
    /// Makes the directories of a cluster, and starts nothing.
    pub(crate) fn make(name: &str, shape: Shape) -> Self {
        let scratch = Scratch::new(name);
        let ports: Vec<_> = (0..3).map(|_| Ports::take()).collect();
        let cluster = cluster_config(shape, &ports);
        let node = |(id, ports)| Node::make(id, &scratch, &cluster, shape, ports);
        let nodes = (1..).zip(ports).map(node).collect();
        Self { nodes, scratch }
    }

    /// A cluster that serves.
    pub(crate) fn start(name: &str, shape: Shape) -> Self {
        let mut cluster = Self::make(name, shape);
        cluster.nodes.iter_mut().for_each(Node::start);
        cluster.wait_until_ready();
        cluster
    }

    /// Waits until each node that runs serves and knows a leader of each group.
    pub(crate) fn wait_until_ready(&self) {
        for node in self.nodes.iter().filter(|node| node.runs()) {
            let what = format!("node {} knows all leaders", node.config.node.id);
            until(&what, || (node.info("purlin_groups_without_leader")? == 0).then_some(()));
        }
    }

    /// Waits until all nodes have applied the same number of entries.
    pub(crate) fn wait_until_equal(&self) {
        until("all nodes have applied the same entries", || {
            let applied = self.nodes.iter().map(|node| node.info("purlin_entries_applied"));
            let applied: Vec<_> = applied.collect::<Option<_>>()?;
            applied.iter().all(|other| *other == applied[0]).then_some(())
        });
    }

    /// Where clients connect.
    pub(crate) fn gateways(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.config.listen.gateway).collect()
    }

    /// Asserts that no process that runs has panicked.
    pub(crate) fn assert_no_panic(&self) {
        for node in self.nodes.iter().filter(|node| node.runs()) {
            let log = node.process().log();
            assert!(!log.contains("panicked"), "node {}:\n{log}", node.config.node.id);
        }
    }
}

fn cluster_config(shape: Shape, ports: &[Ports]) -> ClusterConfig {
    let member = |(id, ports): (u32, &Ports)| Member {
        node: NodeId(id),
        host: "127.0.0.1".into(),
        peer_port: ports.peer(),
    };
    let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    let id = ClusterId(u128::from(std::process::id()) << 32 | u128::from(number));
    let mut cluster = ClusterConfig::new(id, shape.groups, (1..).zip(ports).map(member).collect());
    cluster.max_command = 640 << 10;
    cluster
}

/// The nodes of a cluster run on different runtimes, so that each test sees both, unless the environment names one.
fn runtime_of(id: u32) -> RuntimeKind {
    let Ok(name) = env::var("PURLIN_TEST_RUNTIME") else {
        return RuntimeKind::ALL[id as usize % RuntimeKind::ALL.len()];
    };
    let named = RuntimeKind::ALL.into_iter().find(|it| it.to_string() == name);
    named.unwrap_or_else(|| panic!("PURLIN_TEST_RUNTIME is {name}, which is no runtime"))
}

impl Node {
    fn make(
        id: u32,
        scratch: &Scratch,
        cluster: &ClusterConfig,
        shape: Shape,
        ports: Ports,
    ) -> Self {
        let folder = scratch.path().join(format!("node-{id}"));
        fs::create_dir(&folder).expect("a new directory");
        let mut config = Config::new(NodeId(id), folder.join("data"), cluster.clone());
        config.node.shards = Shards::Number(shape.shards);
        config.node.pin = false;
        config.listen.move_to(SocketAddr::from(([127, 0, 0, 1], ports.gateway())));
        config.wal.segment_bytes = 4 << 20;
        config.runtime.kind = runtime_of(id);
        config.client.max_value = 512 << 10;
        config.client.deadline = Duration::from_secs(5);
        let node = Self { config, file: folder.join("purlin.toml"), ports, process: None };
        node.write_file();
        assert_eq!(node.init().code, Some(0));
        node
    }

    /// Writes its configuration file as the configuration says.
    pub(crate) fn write_file(&self) {
        fs::write(&self.file, self.config.render()).expect("a file");
    }

    /// Makes its data directory.
    pub(crate) fn init(&self) -> End {
        let mut command = purlin();
        command.arg("init").arg("--config").arg(&self.file);
        Process::run("init", &mut command, SOON)
    }

    /// Damages the log of a shard: a start notices it. The node does not run.
    pub(crate) fn damage(&self, shard: u16) {
        let shard = self.config.node.data_dir.join(format!("shard-{shard}"));
        for entry in fs::read_dir(shard).expect("a directory") {
            let path = entry.expect("an entry").path();
            let mut bytes = fs::read(&path).expect("a file");
            if bytes.len() > 8192 {
                bytes[..4096].fill(0xff);
                fs::write(&path, bytes).expect("it is ours");
            }
        }
    }

    /// The command that runs the node. The thread that starts it must run as long as the node.
    pub(crate) fn command(&self) -> Command {
        let mut command = purlin();
        command.arg("server").arg("--config").arg(&self.file);
        command.arg("--parent").arg(std::process::id().to_string());
        command
    }

    /// Starts it, and does not wait.
    pub(crate) fn start(&mut self) {
        assert!(!self.runs(), "node {} runs already", self.config.node.id);
        let name = format!("node {}", self.config.node.id);
        self.process = Some(Process::start(&name, &mut self.command()));
    }

    /// Starts it with so many file descriptors, and does not wait.
    pub(crate) fn start_with_files(&mut self, most: u32) {
        let command = self.command();
        let mut limited = Command::new("sh");
        limited.arg("-c").arg(format!("ulimit -n {most}; exec \"$0\" \"$@\""));
        limited.arg(command.get_program()).args(command.get_args());
        let name = format!("node {}", self.config.node.id);
        self.process = Some(Process::start(&name, &mut limited));
    }

    /// Starts it with `err` as its standard error, and does not wait.
    pub(crate) fn start_with_error_output(&mut self, err: Stdio) {
        let name = format!("node {}", self.config.node.id);
        self.process = Some(Process::start_with_error_output(&name, &mut self.command(), err));
    }

    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("it was started")
    }

    /// Sends it SIGKILL, and does not wait.
    pub(crate) fn strike(&self) {
        self.process().signal(Signal::KILL);
    }

    /// Ends it as kill -9 does.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("it was started").kill();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn end(&mut self) -> End {
        self.process.take().expect("it was started").end(SOON)
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> End {
        self.process().signal(Signal::TERM);
        self.end()
    }

    /// A connection to its gateway, as soon as it takes one.
    pub(crate) fn client(&self) -> RespClient {
        until("a node takes a connection", || {
            RespClient::connect(self.config.listen.gateway, PATIENCE).ok()
        })
    }

    /// The port for clients of a shard.
    pub(crate) fn shard_port(&self, shard: u16) -> u16 {
        self.config.listen.shard_address(shard).expect("its shards have ports").port()
    }

    /// A number of its `INFO`; nothing when it does not answer.
    pub(crate) fn info(&self, name: &str) -> Option<u64> {
        let mut client = RespClient::connect(self.config.listen.gateway, PATIENCE).ok()?;
        let info = client.command(&["INFO"]).ok()?;
        let info = String::from_utf8_lossy(info.bytes()?).into_owned();
        let mut fields = info.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(other, _)| *other == name)?.1.trim().parse().ok()
    }

    /// Memory that it has in use, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.size_in_memory("VmRSS:")
    }

    /// The most memory that it has had in use, in bytes.
    pub(crate) fn resident_bytes_most(&self) -> u64 {
        self.size_in_memory("VmHWM:")
    }

    fn size_in_memory(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process().pid());
        let status = fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("a size");
        kib.trim().parse::<u64>().expect("a number") << 10
    }

    /// Runs a command until it is done: what the cluster cannot do now is asked for again.
    pub(crate) fn done(&self, words: &[&str]) -> Value {
        let mut client = self.client();
        until(&format!("{words:?} is done"), || match client.command(words) {
            Ok(Value::Error(text)) if is_not_applied(&text) => None,
            Ok(reply) => Some(reply),
            Err(error) => panic!("{words:?}: {error}"),
        })
    }
}

/// Whether an error says that the command was certainly not applied, and may be tried again.
pub(crate) fn is_not_applied(text: &str) -> bool {
    ["CLUSTERDOWN ", "TRYAGAIN ", "LOADING "].iter().any(|word| text.starts_with(word))
}

/// The number that a reply is.
pub(crate) fn number(reply: &Value) -> i64 {
    match reply {
        Value::Integer(number) => *number,
        Value::Nil => 0,
        other => {
            let text = other.bytes().map(String::from_utf8_lossy);
            let number = text.and_then(|text| text.parse().ok());
            number.unwrap_or_else(|| panic!("{other:?} is no number"))
        }
    }
}
