//! The host of the shards of a node: one thread with an executor for each shard. All are started together
//! and stopped together.
//!
//! The library prints nothing, and installs no logger and no signal handler: these belong to the program
//! that embeds it.

use crate::os::{
    OsRuntime, Pinning, ShardEnd, ShardMesh, ShardThreads, ThreadOptions, check, explain_access,
    faster_durability, mesh, run_once, run_shards,
};
use crate::{
    config::{ClusterConfig, DurableBy, NodeConfig, rules::validate_shards},
    control::port::ShardControl,
    edge::{client::Client, local::LocalShard},
    error::{Error, ErrorKind},
    mesh::MeshMessage,
    node::{
        identity,
        setup::{self, ShardSetup, Shared},
    },
    runtime::Runtime,
};
use purlin_rsm::{GroupId, Incarnation, ShardId, StateMachine};
use purlin_storage::{Durability, remedy};
use std::{
    fs, io,
    path::Path,
    rc::Rc,
    sync::{Arc, mpsc},
};

/// The bound of each channel between two shards, in messages.
const MESH_CAPACITY: usize = 1024;

type SharedFactory = Arc<dyn Fn(GroupId) -> Box<dyn StateMachine> + Send + Sync>;

/// Makes a node's data directory, for `shards` shards. Nothing else ever makes one (safety I1).
///
/// # Errors
/// There is a data directory already, the configuration contradicts itself, or the machine
/// refuses a call.
pub fn init(cluster: &ClusterConfig, node: &NodeConfig, shards: u16) -> Result<Incarnation, Error> {
    cluster.validate()?;
    node.validate(cluster)?;
    validate_shards(cluster, node.node, shards)?;
    make_directory(&node.data_dir)?;
    check(node.runtime, &node.data_dir)
        .map_err(|trouble| Error::of(ErrorKind::Environment, trouble))?;
    let (cluster, node) = (cluster.clone(), node.clone());
    let directory = node.data_dir.clone();
    let made = run_once(node.runtime, directory, move |runtime| async move {
        setup::init(&runtime, &cluster, &node, shards).await
    });
    made.map_err(|error| cannot_start(&error))?
}

/// The number of shards that a data directory was made with. Its host must start as many.
///
/// # Errors
/// There is no data directory, it cannot be read, or the machine refuses a call.
pub fn recorded_shards(node: &NodeConfig) -> Result<u16, Error> {
    let data_dir = &node.data_dir;
    if !has_identity(data_dir)? {
        return Err(identity::missing_at(&data_dir.display().to_string()));
    }
    check(node.runtime, data_dir).map_err(|trouble| Error::of(ErrorKind::Environment, trouble))?;
    let load = |runtime: OsRuntime| async move { identity::load(&runtime.disk()).await };
    let identity = run_once(node.runtime, data_dir.clone(), load);
    let identity = identity.map_err(|error| cannot_start(&error))??;
    Ok(identity.shards)
}

/// Whether the directory belongs to a node. A directory that cannot be looked into may: to call it new
/// would send its owner to `init`.
fn has_identity(data_dir: &Path) -> Result<bool, Error> {
    let path = data_dir.join(identity::NAME);
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let error = explain_access(&path, error);
            Err(identity::failed_at(
                path.display().to_string(),
                "looking into the data directory",
                &error,
            ))
        }
    }
}

/// What a host is started from.
pub struct HostBuilder {
    cluster: ClusterConfig,
    node: NodeConfig,
    shards: Option<u16>,
    machines: SharedFactory,
    inits: bool,
}

impl HostBuilder {
    /// The number of shards that the data directory must have. Without it a new directory gets 1, and an
    /// existing one is accepted with the number that it has.
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Makes the data directory if there is none. Call this only where a lost directory cannot be
    /// mistaken for a new one (safety I1). The incarnations of the members are compared in any case.
    pub fn init_if_missing(mut self) -> Self {
        self.inits = true;
        self
    }

    /// Starts the shards, and returns when they are open and listening. Afterwards the members of a fresh
    /// cluster meet, and the groups elect their leaders.
    ///
    /// It changes no limit of the process. Each segment of a log takes a file descriptor, so a program that
    /// embeds a host may want [`crate::os::raise_open_files`] first.
    ///
    /// # Errors
    /// The configuration, the machine or the data directory does not allow a start; the error
    /// says what to do.
    pub fn start(self) -> Result<Host, Error> {
        self.cluster.validate()?;
        self.node.validate(&self.cluster)?;
        if self.inits && !has_identity(&self.node.data_dir)? {
            init(&self.cluster, &self.node, self.shards.unwrap_or(1))?;
        }
        let recorded = recorded_shards(&self.node)?;
        let shards = self.shards.unwrap_or(recorded);
        validate_shards(&self.cluster, self.node.node, shards)?;
        let durability = self.durability()?;
        let shared = Shared::new(self.node.node, shards, &self.cluster);
        let (sender, opened) = mpsc::channel();
        let meshes = mesh::<MeshMessage>(shards, MESH_CAPACITY);
        let starts = (0..shards).map(ShardId).zip(meshes).map(|(shard, mesh)| {
            let start = ShardStart {
                shard,
                mesh,
                cluster: self.cluster.clone(),
                node: self.node.clone(),
                durability,
                machines: self.machines.clone(),
                shared: shared.clone(),
            };
            let sender = sender.clone();
            move |runtime: OsRuntime| start.run(runtime, sender)
        });
        let NodeConfig { runtime: kind, pin, io_memory, spin, .. } = self.node;
        let options = ThreadOptions { kind, pin, io_memory, spin };
        let directory = self.node.data_dir.clone();
        let threads = run_shards(options, directory, starts.collect()).map_err(|error| {
            // The shards before the one that failed run already.
            shared.stop();
            cannot_start(&error)
        })?;
        drop(sender);
        Host { client: shared.client(), shared, threads }.wait_open(&opened)
    }

    fn durability(&self) -> Result<Durability, Error> {
        Ok(match self.node.wal.durable_by {
            DurableBy::Dsync => Durability::EachWrite,
            DurableBy::Fdatasync => Durability::OnSync,
            DurableBy::Auto => {
                let measured = faster_durability(self.node.runtime, &self.node.data_dir);
                measured.map_err(|error| cannot_start(&error))?.unwrap_or_else(|| {
                    tracing::warn!(
                        location = %self.node.data_dir.display(),
                        "the disk is full: the node votes and reads, and refuses writes until there is \
                         room; how writes become durable faster was not measured, and the node uses \
                         `dsync`; free space on this file system"
                    );
                    Durability::EachWrite
                })
            }
        })
    }
}

/// What the thread of one shard is started with.
struct ShardStart {
    shard: ShardId,
    mesh: ShardMesh<MeshMessage>,
    cluster: ClusterConfig,
    node: NodeConfig,
    durability: Durability,
    machines: SharedFactory,
    shared: Shared<OsRuntime>,
}

type Opened = (ShardId, Result<(), Error>);

impl ShardStart {
    async fn run(self, runtime: OsRuntime, opened: mpsc::Sender<Opened>) -> Result<(), Error> {
        let (shard, machines) = (self.shard, self.machines);
        let setup = ShardSetup {
            runtime,
            shard,
            mesh: self.mesh,
            cluster: self.cluster,
            node: self.node,
            durability: self.durability,
            machines: Rc::new(move |group| machines(group)),
            shared: self.shared,
        };
        let result = setup.open().await;
        // The receiver is gone if the start has failed already.
        opened.send((shard, result.as_ref().map(|_| ()).map_err(Clone::clone))).ok();
        drop(opened);
        result?.run().await
    }
}

/// The shards of a node that run in this process.
pub struct Host {
    shared: Shared<OsRuntime>,
    client: Client<OsRuntime>,
    threads: ShardThreads<Result<(), Error>>,
}

impl Host {
    /// A host of `node` in `cluster`. `machines` makes the state machine of each group, on the core of
    /// its shard.
    pub fn builder<M: StateMachine>(
        cluster: ClusterConfig,
        node: NodeConfig,
        machines: impl Fn(GroupId) -> M + Send + Sync + 'static,
    ) -> HostBuilder {
        let machines: SharedFactory = Arc::new(move |group| Box::new(machines(group)));
        HostBuilder { cluster, node, shards: None, machines, inits: false }
    }

    /// A client for requests from any thread to any group.
    pub fn client(&self) -> Client<OsRuntime> {
        self.client.clone()
    }

    /// What the shards share. A clone of it can run tasks on the shards, and stop them.
    pub fn shared(&self) -> Shared<OsRuntime> {
        self.shared.clone()
    }

    /// Runs a task on the core of a shard, with the handle of the shard. Returns false if the shard has
    /// stopped, or if its inlet is full.
    pub fn on_shard(
        &self,
        shard: ShardId,
        task: impl FnOnce(LocalShard<OsRuntime>) + Send + 'static,
    ) -> bool {
        self.shared.on_shard(shard, task)
    }

    /// The control of a shard, for operators' requests and its status. `None` if the node has no such
    /// shard.
    pub fn control(&self, shard: ShardId) -> Option<ShardControl> {
        self.shared.control(shard)
    }

    /// Whether each shard has a core of its own, or why not.
    pub fn pinning(&self) -> Pinning {
        self.threads.pinning()
    }

    /// Asks all shards to stop, and waits for them: see [`Shared::stop`]. Acknowledged writes stay, and requests that
    /// are under way are answered if that takes no longer than a second.
    ///
    /// # Errors
    /// The first error with which a shard ended.
    pub fn shutdown(self) -> Result<(), Error> {
        self.shared.stop();
        self.join()
    }

    /// Waits until all shards have stopped. A shard that fails stops alone, unless the peers refuse this
    /// node: then all shards stop.
    ///
    /// # Errors
    /// The first error with which a shard ended.
    pub fn join(self) -> Result<(), Error> {
        let mut first = None;
        while let Some((shard, end)) = self.threads.next_end() {
            let Err(error) = outcome(&self.shared, shard, end) else { continue };
            tracing::error!("shard {shard} has stopped: {error}");
            if error.kind == ErrorKind::Refused {
                self.shared.stop();
            }
            first.get_or_insert(error);
        }
        self.threads.join();
        first.map_or(Ok(()), Err)
    }

    /// Waits until every shard has opened or failed. A shard whose directory is damaged stays down and
    /// the others serve, if there are others (safety W5).
    fn wait_open(self, opened: &mpsc::Receiver<Opened>) -> Result<Self, Error> {
        let (mut is_any_open, mut damage, mut fatal) = (false, None, None);
        let mut silent = self.shared.shards();
        while let Ok((shard, result)) = opened.recv() {
            silent -= 1;
            match result {
                Ok(()) => is_any_open = true,
                Err(error) if error.kind == ErrorKind::Damage => {
                    tracing::error!("shard {shard} stays down: {error}");
                    damage.get_or_insert(error);
                }
                Err(error) => {
                    self.shared.stop();
                    fatal.get_or_insert(error);
                }
            }
        }
        match fatal.or(damage.filter(|_| !is_any_open)) {
            Some(error) => {
                self.shared.stop();
                self.threads.join();
                Err(error)
            }
            // A shard whose executor did not start, or that panicked while it opened, has sent no result.
            None if silent > 0 => Err(self.shutdown().err().unwrap_or_else(ended_early)),
            None => Ok(self),
        }
    }
}

/// How a shard has ended. If the shard could not say so itself, its control says from now on why it failed.
fn outcome<R: Runtime>(
    shared: &Shared<R>,
    shard: ShardId,
    end: ShardEnd<Result<(), Error>>,
) -> Result<(), Error> {
    let error = match end {
        ShardEnd::Finished(result) => return result,
        ShardEnd::Refused(error) => cannot_start(&error),
        ShardEnd::Panicked(text) => Error::new(
            ErrorKind::Bug,
            format!("shard {shard} ended by a bug: {text}"),
            "this process",
            "what was acknowledged is durable on a majority; the groups' other replicas go on",
            "start the node again, and report the message with the log",
        ),
    };
    shared.fail(shard, error.clone());
    Err(error)
}

fn ended_early() -> Error {
    Error::new(
        ErrorKind::Bug,
        "a shard ended before it was open, and gave no reason",
        "this process",
        "the node does not start; what was acknowledged is durable on a majority",
        "look for the first error in the log, start the node again, and report the error with the log",
    )
}

/// Makes a directory and its missing parents, and syncs their names. Otherwise a power cut could take
/// away the directories of all members of a new cluster, with what they have acknowledged (safety W7,
/// B87).
fn make_directory(path: &Path) -> Result<(), Error> {
    let sync = |directory: &Path| fs::File::open(directory)?.sync_all();
    make_durably(path, sync).map_err(|error| {
        let error = explain_access(path, error);
        Error::new(
            ErrorKind::Environment,
            format!("the data directory cannot be made: {error}"),
            path.display().to_string(),
            "there is no data directory, and no data was changed",
            remedy(&error),
        )
    })
}

/// Makes the directory; `sync` syncs one directory. All parents are synced, since an earlier attempt may
/// have made them and ended before its sync.
fn make_durably(path: &Path, sync: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let path = std::path::absolute(path)?;
    let missing = path.ancestors().filter(|it| !it.exists()).count();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    for (level, directory) in path.ancestors().skip(1).enumerate() {
        match sync(directory) {
            // We may not read this parent, so we have made nothing in it.
            Err(error) if level >= missing && is_not_ours(&error) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Whether the error says that we may not read the directory, or that there is nothing to sync.
fn is_not_ours(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput)
}

fn cannot_start(error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Environment,
        format!("an executor cannot start: {error}"),
        "io_uring, threads or locked memory of this process",
        "no data was read or changed",
        "raise the limits on locked memory (ulimit -l), open files (ulimit -n) and threads (ulimit -u)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::NodeId;
    use std::{cell::RefCell, os::unix::fs::PermissionsExt, path::PathBuf};

    /// A directory of its own for a test, gone when the test is.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let name = format!("purlin-{test}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).expect("a directory for temporary files");
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    /// An executor that cannot start runs nothing of its shard, which so cannot say that it has failed.
    #[test]
    fn the_control_of_a_shard_that_never_started_says_why() {
        use crate::control::{answer::ControlError, status::ShardState};
        let member = crate::Member { node: NodeId(7), host: "127.0.0.1".into(), peer_port: 7000 };
        let cluster = ClusterConfig::new(crate::ClusterId(1), 5, vec![member]);
        let shared = Shared::<OsRuntime>::new(NodeId(7), 2, &cluster);
        let control = shared.control(ShardId(1)).expect("there are two");
        assert!(matches!(control.latest().state, ShardState::Opening));
        let (asked, pending) = (control.status(), shared.client().query(GroupId(1), ""));
        let refused = io::Error::from(io::ErrorKind::OutOfMemory);
        let error = outcome(&shared, ShardId(1), ShardEnd::Refused(refused)).expect_err("refused");
        let latest = control.latest();
        assert!(matches!(&latest.state, ShardState::Failed(why) if *why == error), "{latest:?}");
        assert!(error.to_string().contains("an executor cannot start: out of memory"), "{error}");
        assert_eq!((latest.node, latest.shard), (NodeId(7), ShardId(1)));
        assert_eq!((latest.groups.groups, latest.groups.without_leader), (3, 3));
        let at_once = std::time::Duration::ZERO;
        assert!(matches!(asked.wait(at_once), Err(ControlError::Stopped)));
        let stopped = purlin_rsm::RequestError::ShardStopped { shard: ShardId(1) };
        assert_eq!(pending.wait(at_once), Err(stopped));
    }

    #[test]
    fn every_directory_that_is_made_has_its_name_synced() {
        let scratch = Scratch::new("names");
        let path = scratch.0.join("data/n1");
        let synced = RefCell::new(Vec::new());
        let note = |directory: &Path| {
            assert!(path.exists(), "made before");
            synced.borrow_mut().push(directory.to_owned());
            Ok(())
        };
        make_durably(&path, note).expect("it can be made");
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        assert_eq!(synced.take(), above);
        // An earlier attempt may have ended before its sync.
        make_durably(&path, note).expect("it is there");
        assert_eq!(synced.take(), above);
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "for its owner alone");
        make_directory(&path).expect("it is there");
    }

    #[test]
    fn only_what_others_have_made_need_not_be_synced() {
        let scratch = Scratch::new("refused");
        let refused = |error: io::ErrorKind| {
            move |directory: &Path| match directory.ends_with("data") {
                true => Err(error.into()),
                false => Ok(()),
            }
        };
        use io::ErrorKind::{PermissionDenied, StorageFull};
        let path = scratch.0.join("data/n1");
        assert!(make_durably(&path, refused(PermissionDenied)).is_err(), "we have made it");
        assert!(make_durably(&path, refused(PermissionDenied)).is_ok(), "it was there");
        assert!(make_durably(&path, refused(StorageFull)).is_err());
    }
}
