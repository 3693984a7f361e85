//! Opens a shard: from its data directory, its recovered WAL and the configuration of its node.

use crate::{
    bind::bind_patiently,
    config::{ClusterConfig, NodeConfig, RaftOptions, first_leader},
    control::{
        outside::Outside,
        port::ShardControl,
        stage_timer::StageTimer,
        status::{GroupCounts, ShardStatus},
        view::NodeView,
    },
    edge::{
        client::Client,
        inlet::{Inbound, Inlet, LiveInlet},
        requests::Requests,
    },
    error::{Error, ErrorKind},
    mesh::{MeshMessage, MeshPort},
    node::{
        board::Board,
        identity::{self, NodeIdentity},
        listening::{ListeningPort, cannot_listen},
        meeting::Meeting,
    },
    placement::Placement,
    runtime::Runtime,
    shard::{
        Shard, Site,
        drain::Drain,
        entry_memory::EntryMemory,
        fetcher::{Fetcher, READERS},
        group::Group,
        groups::Groups,
        hand_over::HandOver,
        others::OtherShards,
        pairs::Pairs,
        stage::{append::AppendStage, peers::fenced},
        timing::Timing,
    },
    stop::Stops,
    wake::Wake,
};
use purlin_rsm::{
    EntryId, Fork, GroupEpoch, GroupId, Identity, Incarnation, NodeId, PeerMemory, ShardId, Start,
    StateMachine, Tick,
    raft::{Raft, RaftConfig, Recovered as RecoveredReplica, Terms, Voters, Window},
};
use purlin_storage::{Disk, Durability, Recovered, RecoveredGroup, Wal, WalConfig, remedy};
use purlin_transport::{Exchanger, ExchangerConfig, Facts, PeerBook};
use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

/// A connection to a peer that takes nothing for this long is dropped. The kernel's own bound,
/// `UNACKNOWLEDGED_MAX`, is longer: it must not end what is only slow.
const STALL: Duration = Duration::from_secs(5);

/// Pages that were read from the log take at most this part of the memory for entries.
const FETCHED_PART: usize = 4;

/// So long a replica that is unfit to lead gives fitter ones before it campaigns.
const UNFIT_TIME: Duration = Duration::from_secs(2);

/// Makes the state machine of a group, on the core of its shard.
pub type MachineFactory = Rc<dyn Fn(GroupId) -> Box<dyn StateMachine>>;

/// What a shard is opened from.
pub struct ShardSetup<R: Runtime> {
    /// The runtime of its core.
    pub runtime: R,
    /// Which shard of the node it is.
    pub shard: ShardId,
    /// Its channels to the other shards of the node.
    pub mesh: R::Mesh<MeshMessage>,
    /// The configuration that all members agree on.
    pub cluster: ClusterConfig,
    /// The configuration of this node.
    pub node: NodeConfig,
    /// How writes become durable: as the configuration says, or as a measurement has found.
    pub durability: Durability,
    /// Makes the state machines of the groups.
    pub machines: MachineFactory,
    /// The inlets for other threads, and what the shards of the node share.
    pub shared: Shared<R>,
}

/// What the shards of a node share with each other, and with the threads that use them.
pub struct Shared<R: Runtime> {
    inlets: Arc<[Arc<Inlet<R>>]>,
    view: NodeView,
    max_command: usize,
}

impl<R: Runtime> Clone for Shared<R> {
    fn clone(&self) -> Self {
        Self { inlets: self.inlets.clone(), view: self.view.clone(), max_command: self.max_command }
    }
}

impl<R: Runtime> Shared<R> {
    /// What the shards of node `node` share, which has `shards` shards in `cluster`.
    pub fn new(node: NodeId, shards: u16, cluster: &ClusterConfig) -> Self {
        let inlets: Arc<[_]> = (0..shards).map(|shard| Inlet::new(ShardId(shard))).collect();
        let (placement, groups) = (Placement::new(shards), cluster.all_groups());
        let control = |(shard, inlet): (ShardId, &Arc<Inlet<R>>)| {
            let groups = GroupCounts::unknown(placement.count_of(shard, groups));
            let before = ShardStatus { node, shard, groups, ..ShardStatus::default() };
            ShardControl::new(inlet.wake().clone(), before)
        };
        let controls = (0..shards).map(ShardId).zip(inlets.iter()).map(control).collect();
        let view = NodeView::new(node, Arc::new(Board::new(groups)), controls);
        Self { inlets, view, max_command: cluster.max_command }
    }

    /// What the shards of the node show.
    pub fn view(&self) -> &NodeView {
        &self.view
    }

    /// A client for requests from any thread.
    pub fn client(&self) -> Client<R> {
        Client::new(self.inlets.clone(), self.max_command)
    }

    /// Runs a task on the core of a shard, with the handle of the shard. Returns false if the shard has
    /// stopped, or if its inlet is full.
    pub fn on_shard(
        &self,
        shard: ShardId,
        task: impl FnOnce(crate::LocalShard<R>) + Send + 'static,
    ) -> bool {
        self.inlets[usize::from(shard.0)].push(Inbound::Task(Box::new(task))).is_ok()
    }

    /// The control of a shard, for operators' requests and its status. `None` if the node has no such
    /// shard.
    pub fn control(&self, shard: ShardId) -> Option<ShardControl> {
        self.view.control(shard).cloned()
    }

    /// A shard has failed, or never started, and cannot say so itself: nobody waits for it any more.
    pub(crate) fn fail(&self, shard: ShardId, error: Error) {
        self.inlets[usize::from(shard.0)].close();
        self.control_of(shard).fail(error);
    }

    fn control_of(&self, shard: ShardId) -> &ShardControl {
        self.view.control(shard).expect("a shard of this node")
    }

    pub(crate) fn shards(&self) -> usize {
        self.inlets.len()
    }

    /// Asks all shards to stop. A shard then takes no new request, hands its leaderships over to nodes that can lead,
    /// and answers what is under way. When nothing is under way at any shard of the node, and after a second at the
    /// latest, all of them end, each with a closing batch in its log. What has no outcome by then ends as unknown or as
    /// not applied.
    pub fn stop(&self) {
        self.inlets.iter().for_each(|inlet| inlet.stop());
    }
}

/// Makes a node's data directory: its identity, and an empty WAL for each shard. Nothing else ever
/// makes one (safety I1). Returns its incarnation.
///
/// # Errors
/// There is a data directory already, or the disk refuses a call.
pub async fn init<R: Runtime>(
    runtime: &R,
    cluster: &ClusterConfig,
    node: &NodeConfig,
    shards: u16,
) -> Result<Incarnation, Error> {
    assert!(shards > 0, "a node without shards");
    let disk = runtime.disk();
    identity::ensure_none(&disk).await?;
    let mut voters: Vec<_> = cluster.members.iter().map(|member| (member.node, None)).collect();
    voters.sort_unstable();
    let identity = NodeIdentity {
        cluster: cluster.id,
        node: node.node,
        // 0 stands for an incarnation that is not known.
        incarnation: Incarnation(runtime.random().max(1)),
        shards,
        groups: cluster.groups,
        extra_groups: cluster.extra_groups,
        max_command: cluster.max_command as u32,
        fork: Fork::default(),
        voters,
        has_met: false,
        is_fenced: false,
    };
    let config = node.wal.config(Durability::OnSync);
    for shard in (0..shards).map(ShardId) {
        let directory = disk.subdirectory(&shard_directory(shard));
        directory
            .create_dir()
            .await
            .map_err(|error| io_failed(&directory, "making a directory", &error))?;
        Wal::create(&directory, wal_identity(&identity, shard), &config, runtime.random())
            .await
            .map_err(|error| Error::cannot_open(&error))?;
    }
    // The identity is written last. So a directory that was not made completely has no identity.
    disk.sync_dir().await.map_err(|error| io_failed(&disk, "syncing the directory", &error))?;
    identity::create(&disk, &identity).await?;
    Ok(identity.incarnation)
}

impl<R: Runtime> ShardSetup<R> {
    /// Recovers the shard from its directory and starts listening. [`Shard::run`] runs it.
    ///
    /// # Errors
    /// The directory, the disk or the port does not allow a start; the error says what to do.
    pub async fn open(self) -> Result<Shard<R>, Error> {
        let control = self.shared.control_of(self.shard).clone();
        let opened = self.open_directory().await;
        if let Err(error) = &opened {
            control.fail(error.clone());
        }
        opened
    }

    async fn open_directory(self) -> Result<Shard<R>, Error> {
        let outside = Outside::new(self.shared.view.clone(), self.shard);
        let inlet = LiveInlet(self.shared.inlets[usize::from(self.shard.0)].clone());
        let identity = self.load_identity().await?;
        let mut config = self.node.wal.config(self.durability);
        config.tail_bytes_max = config.tail_bytes_max.min(self.node.raft.memory_bytes_max / 2);
        let (wal, recovered) = self.open_wal(&identity, &config).await?;
        let (wake, timing) = (inlet.wake().clone(), Timing::new(&self.node));
        let fetcher = self.start_fetcher(&wal, &wake);
        let Recovered { groups, peers, start, starts, .. } = recovered;
        let exchanger = self.exchanger(&identity, &starts, peers, &wake);
        self.listen(&exchanger, &identity).await?;
        let now = timing.tick_at(self.runtime.now());
        let groups = self.groups(&identity, groups, &timing, now);
        self.want_peers(&exchanger, &identity);
        let name = format!("n{} s{}", identity.node, self.shard);
        tracing::info!("{name} opened: {} groups, start {}", groups.counts().groups, start.number);
        let meeting = Meeting::new(identity);
        let mut shard = Shard {
            site: Site {
                name,
                node: self.node.node,
                shard: self.shard,
                placement: Placement::new(meeting.identity().shards),
                groups: meeting.identity().all_groups(),
            },
            groups,
            requests: Requests::new(
                &self.node,
                self.cluster.max_command,
                wake.clone(),
                Rc::new(StageTimer::new(clock_of(&self.runtime))),
                self.runtime.random(),
            ),
            others: OtherShards {
                pairs: Pairs::new(self.node.node, start.boot, timing.election_ticks.start),
                exchanger,
                mesh: MeshPort::new(&self.runtime, self.mesh, wake.clone()),
                inlets: self.shared.inlets.clone(),
                are_entries_first: false,
                told_too_long: false,
            },
            drain: Drain::new(Stops::new(wake.clone()), self.shared.inlets.clone()),
            append: AppendStage::new(wal, &self.node, wake),
            runtime: self.runtime,
            timing,
            meeting,
            fetcher,
            inlet,
            outside,
            hand_over: HandOver::new(self.node.raft.leaders_return),
            failure: None,
        };
        // The only member of a cluster has nobody to meet.
        if self.shard == ShardId(0)
            && let Some(complete) = shard.meeting.complete()
        {
            shard.record(complete);
        }
        Ok(shard)
    }

    /// Recovers the WAL and starts its loops.
    async fn open_wal(
        &self,
        identity: &NodeIdentity,
        config: &WalConfig,
    ) -> Result<(Rc<Wal<R::Disk>>, Recovered), Error> {
        let directory = self.runtime.disk().subdirectory(&shard_directory(self.shard));
        let runtime = self.runtime.clone();
        let (wal, recovered) =
            Wal::open(&directory, wal_identity(identity, self.shard), config, &mut move || {
                runtime.random()
            })
            .await
            .map_err(|error| Error::cannot_open(&error))?;
        check_floors(&recovered.groups, &directory.location())?;
        for _ in 0..config.writes_in_flight_max {
            self.runtime.spawn(wal.clone().write_loop());
        }
        self.runtime.spawn(wal.clone().prepare_loop());
        Ok((wal, recovered))
    }

    fn start_fetcher(&self, wal: &Rc<Wal<R::Disk>>, wake: &Arc<Wake>) -> Rc<Fetcher> {
        let bytes_max = self.node.raft.memory_bytes_max / FETCHED_PART;
        let fetcher = Fetcher::new(bytes_max, wake.clone());
        for reader in 0..READERS {
            self.runtime.spawn(fetcher.clone().read_loop(reader, wal.clone()));
        }
        fetcher
    }

    /// Reads the identity of the directory, and compares it with the configuration of this node.
    async fn load_identity(&self) -> Result<NodeIdentity, Error> {
        let disk = self.runtime.disk();
        let identity = identity::load(&disk).await?;
        let mismatch = |what: String, action: &str| {
            let means = "nothing was changed; to start on it could mix two nodes";
            Err(Error::new(ErrorKind::DataDirectory, what, disk.location(), means, action))
        };
        if identity.cluster != self.cluster.id {
            let what = format!(
                "the data directory belongs to cluster {}, not {}",
                identity.cluster, self.cluster.id
            );
            return mismatch(
                what,
                "name the directory of this cluster in the configuration, or the cluster of this directory",
            );
        }
        if identity.node != self.node.node {
            let what = format!(
                "the data directory belongs to node {}, not {}",
                identity.node, self.node.node
            );
            return mismatch(
                what,
                "name the directory of this node in the configuration, or the node of this directory",
            );
        }
        // A fence is reported only now: its advice is for the node that owns the directory.
        if identity.is_fenced {
            return Err(fenced(identity.node));
        }
        let fixed = [
            ("groups", u64::from(identity.groups), u64::from(self.cluster.groups)),
            ("extra groups", identity.extra_groups.into(), self.cluster.extra_groups.into()),
            (
                "bytes for the longest command",
                identity.max_command.into(),
                self.cluster.max_command as u64,
            ),
        ];
        if let Some((name, made, said)) = fixed.into_iter().find(|(_, made, said)| made != said) {
            return mismatch(
                format!(
                    "the cluster was made with {made} {name}, and the configuration says {said}"
                ),
                &format!("this number never changes: say {made} in the configuration"),
            );
        }
        if usize::from(identity.shards) != self.shared.inlets.len() {
            let (made, asked) = (identity.shards, self.shared.inlets.len());
            return mismatch(
                format!(
                    "the data directory was made with {made} shards, and {asked} were asked for"
                ),
                &format!(
                    "the number of shards never changes: start with {made}, on any number of cores"
                ),
            );
        }
        Ok(identity)
    }

    fn exchanger(
        &self,
        identity: &NodeIdentity,
        starts: &[Start],
        peers: Vec<PeerMemory>,
        wake: &Arc<Wake>,
    ) -> Rc<Exchanger<R::Net>> {
        let facts = Facts {
            cluster: identity.cluster,
            fork: identity.fork,
            config_hash: identity.config_hash(),
            node: identity.node,
            incarnation: identity.incarnation,
            shard: self.shard,
            shards: identity.shards,
            starts: starts.to_vec(),
            voters: identity.voter_ids(),
            table: identity.table(),
            acting: identity.has_met,
            advertised: self.node.advertised.clone(),
        };
        // Only its heartbeat wakes an idle shard, so times are counted in beats.
        let beats = |seconds: f64| {
            ((seconds / self.node.raft.heartbeat.as_secs_f64()).ceil() as u64).max(1)
        };
        let silence_beats = beats(1.5 * self.node.raft.election_timeout.end.as_secs_f64());
        let config = ExchangerConfig {
            // The first of them may be over at once.
            hello_beats: beats(0.5).max(2),
            handshake_beats: beats(2.0),
            stall_beats: beats(STALL.as_secs_f64()),
            idle_beats: beats(30.0).max(silence_beats),
            silence_beats,
            dial_pause_beats: beats(0.2),
            unidentified_log_beats: beats(5.0),
            seed: self.runtime.random(),
            outbox_bytes_max: self.node.raft.outbox_bytes_max,
            ..ExchangerConfig::default()
        };
        let book = PeerBook::new(identity.voters.iter().copied(), peers, 2);
        let wake = wake.clone();
        Exchanger::new(self.runtime.net(), facts, book, config, Rc::new(move || wake.notify()))
    }

    async fn listen(
        &self,
        exchanger: &Rc<Exchanger<R::Net>>,
        identity: &NodeIdentity,
    ) -> Result<(), Error> {
        let Some(me) = self.cluster.members.iter().find(|member| member.node == identity.node)
        else {
            return Err(Error::new(
                ErrorKind::Config,
                format!("node {} is not among the members", identity.node),
                "the members in the configuration of the cluster",
                "the node does not start; nothing was changed",
                "name the members that the cluster was made with, each with its host and peer port",
            ));
        };
        let host = self.node.peer_host.as_ref().unwrap_or(&me.host);
        let address = format!("{host}:{}", u32::from(me.peer_port) + u32::from(self.shard.0));
        let listen = async || exchanger.listen(&address).await;
        let pause = async |pause| {
            self.runtime.sleep(pause).await;
            true
        };
        let port = ListeningPort {
            whom: "peers",
            address: &address,
            port_setting: "`peer_port` for this node in the files of all members",
            host_setting: "this node's `peer_host`",
        };
        let bound = bind_patiently(listen, pause).await;
        bound.map(|_| ()).map_err(|error| cannot_listen(&error, port))
    }

    fn groups(
        &self,
        identity: &NodeIdentity,
        mut recovered: BTreeMap<GroupId, RecoveredGroup>,
        timing: &Timing,
        now: Tick,
    ) -> Groups {
        let placement = Placement::new(identity.shards);
        let raft = &self.node.raft;
        // A leader cuts appends by options of its own, which are the default at least as a rule.
        let append_bytes = raft.append_bytes_max.max(RaftOptions::default().append_bytes_max);
        let memory =
            EntryMemory::new(raft.memory_bytes_max, self.cluster.max_command, append_bytes);
        let mut groups = Groups::new(memory, self.node.intake.machine_bytes_max);
        for id in placement.groups_of(self.shard, identity.all_groups()) {
            let config = self.raft_config(identity, id, timing, now);
            let replica = recovered.remove(&id).map(replica).unwrap_or_default();
            groups.insert(Group::new(id, Raft::new(config, replica, now), (self.machines)(id)));
        }
        groups
    }

    fn raft_config(
        &self,
        identity: &NodeIdentity,
        group: GroupId,
        timing: &Timing,
        now: Tick,
    ) -> RaftConfig {
        let voters = identity.voter_ids();
        RaftConfig {
            group,
            epoch: GroupEpoch::FIRST,
            node: identity.node,
            campaigns_first: first_leader(group, &voters) == identity.node,
            // A lone voter has no peer that could remember more than its own directory.
            abstains_until: if voters.len() > 1 {
                Tick(now.0 + timing.election_ticks.start)
            } else {
                now
            },
            voters: Voters::new(voters),
            election_ticks: timing.election_ticks.clone(),
            tell_commit_ticks: timing.beat_ticks,
            window: Window {
                messages: self.node.raft.inflight_messages_max,
                bytes: self.node.raft.inflight_bytes_max,
            },
            append_bytes_max: self.node.raft.append_bytes_max,
            apply_bytes_max: self.node.raft.apply_bytes_max,
            cache_bytes_max: self.node.raft.cache_bytes_max,
            unfit_ticks: self.node.raft.ticks(UNFIT_TIME),
            seed: self.runtime.random(),
        }
    }

    fn want_peers(&self, exchanger: &Rc<Exchanger<R::Net>>, identity: &NodeIdentity) {
        let (ours, me, groups) =
            (Placement::new(identity.shards), self.shard, identity.all_groups());
        for member in self.cluster.members.iter().filter(|member| member.node != identity.node) {
            exchanger.set_address(member.node, member.host.clone(), member.peer_port);
            exchanger.want(member.node, move |theirs| {
                Placement::new(theirs).shards_of(ours.groups_of(me, groups))
            });
        }
    }
}

/// Tells the time of a runtime.
fn clock_of<R: Runtime>(runtime: &R) -> impl Fn() -> Duration + use<R> {
    let runtime = runtime.clone();
    move || runtime.now()
}

fn replica(recovered: RecoveredGroup) -> RecoveredReplica {
    let RecoveredGroup { hard_state, floor, terms, last, end, tail } = recovered;
    RecoveredReplica { hard_state, terms: Terms::new(floor, terms, last), tail, end }
}

/// Refuses logs that begin behind a floor. A state machine starts empty, and without a snapshot it would
/// lack the entries below the floor.
fn check_floors(groups: &BTreeMap<GroupId, RecoveredGroup>, place: &str) -> Result<(), Error> {
    let Some((group, found)) =
        groups.iter().find(|(_, recovered)| recovered.floor != EntryId::default())
    else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::DataDirectory,
        format!("the log of group {group} begins behind entry {}", found.floor),
        place,
        "the entries before are in a snapshot, and this version reads no snapshots; no entry was changed",
        "start the version that wrote this directory",
    ))
}

fn shard_directory(shard: ShardId) -> String {
    format!("shard-{shard}")
}

fn wal_identity(identity: &NodeIdentity, shard: ShardId) -> Identity {
    Identity {
        cluster: identity.cluster,
        node: identity.node,
        incarnation: identity.incarnation,
        shard,
    }
}

fn io_failed<D: Disk>(disk: &D, action: &str, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Environment,
        format!("{action} failed: {error}"),
        disk.location(),
        "nothing that was there was changed",
        format!("remove what `init` has begun in the directory, and {}", remedy(error)),
    )
}

#[cfg(test)]
mod tests {
    /// A reader whose window is closed is given up by us, after the time that we state, and not by the kernel.
    #[test]
    fn the_kernel_ends_no_connection_that_is_only_slow() {
        assert!(STALL < purlin_transport::UNACKNOWLEDGED_MAX);
        let millis = ExchangerConfig::default().stall_beats * 100;
        assert_eq!(STALL.as_millis(), u128::from(millis), "the default suits a beat of 100 ms");
    }

    use super::*;
    use purlin_rsm::{HardState, Index, Term};

    fn recovered(floor: EntryId) -> RecoveredGroup {
        let terms = vec![(floor.index.next(), Term(5))];
        RecoveredGroup { floor, terms, last: Index(floor.index.0 + 2), ..RecoveredGroup::default() }
    }

    /// The replica gets all that recovery has found of its log, the floor included.
    #[test]
    fn a_replica_begins_where_its_log_does() {
        let floor = EntryId::new(Term(3), Index(100));
        let hard_state = HardState { term: Term(5), ..HardState::default() };
        let found = RecoveredGroup { hard_state, ..recovered(floor) };
        let config = RaftConfig::new(GroupId(1), NodeId(1), Voters::new([NodeId(1)]));
        let raft = Raft::new(config, replica(found), Tick(0));
        assert_eq!((raft.committed(), raft.applied_index()), (Index(100), Index(100)));
        assert_eq!(
            (raft.last(), raft.term_of(Index(99))),
            (EntryId::new(Term(5), Index(102)), None)
        );
    }

    #[test]
    fn a_log_that_needs_a_snapshot_is_refused() {
        let groups = |floor| BTreeMap::from([(GroupId(7), recovered(floor))]);
        assert_eq!(check_floors(&groups(EntryId::default()), "shard-0"), Ok(()));
        let error = check_floors(&groups(EntryId::new(Term(3), Index(100))), "shard-0");
        let error = error.expect_err("its entries up to 100 are gone").to_string();
        assert!(error.contains("the log of group 7 begins behind entry 100@3"), "{error}");
    }
}
