//! Three nodes in this process, on loopback, each with a log file of its own and a replica of each group.

use crate::{
    disk::NodeLog,
    log::GroupLog,
    machine::{Count, Register},
    network::{Link, Links, serve},
    options::Options,
    types::{GroupId, NodeId, Replica},
};
use openraft::{BasicNode, Config, SnapshotPolicy};
use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{net::TcpListener, time::timeout};

/// Nodes of the cluster.
pub(crate) const NODES: u64 = 3;
/// How long the groups may take to have leaders, and to say how much they have applied.
const PATIENCE: Duration = Duration::from_secs(120);

/// See the module.
pub(crate) struct Cluster {
    /// By node and group.
    replicas: Vec<Arc<Vec<Replica>>>,
    counts: Vec<Vec<Count>>,
}

/// The node that shall lead a group: each leads a third of them.
pub(crate) fn wanted(group: GroupId) -> NodeId {
    u64::from(group) % NODES + 1
}

impl Cluster {
    /// Starts the nodes, and waits until each group is led where it shall be.
    ///
    /// # Errors
    /// A directory or a port cannot be had, or a group gets no leader.
    pub(crate) async fn start(options: &Options, directory: &Path) -> Result<Self, Box<dyn Error>> {
        let mut listeners = Vec::new();
        for _ in 0..NODES {
            listeners.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        let addresses = listeners.iter().map(|it| Ok(it.local_addr()?.to_string()));
        let addresses: Vec<String> = addresses.collect::<std::io::Result<_>>()?;
        let mut cluster = Self { replicas: Vec::new(), counts: Vec::new() };
        for node in 1..=NODES {
            let log = NodeLog::open(&directory.join(format!("n{node}")))?;
            let mut links = HashMap::new();
            for other in (1..=NODES).filter(|other| *other != node) {
                links.insert(other, Link::connect(&addresses[other as usize - 1]).await?);
            }
            let (mut replicas, mut counts) = (Vec::new(), Vec::new());
            for group in 0..options.groups {
                let (network, machine) =
                    (Links { group, links: links.clone() }, Register::default());
                counts.push(machine.count());
                let log = GroupLog::new(group, log.clone());
                replicas.push(Replica::new(node, config()?, network, log, machine).await?);
            }
            cluster.replicas.push(Arc::new(replicas));
            cluster.counts.push(counts);
        }
        for (listener, replicas) in listeners.into_iter().zip(&cluster.replicas) {
            tokio::spawn(serve(listener, replicas.clone()));
        }
        cluster.elect(options.groups, &addresses).await?;
        Ok(cluster)
    }

    async fn elect(&self, groups: GroupId, addresses: &[String]) -> Result<(), Box<dyn Error>> {
        let members: BTreeMap<NodeId, BasicNode> =
            (1..).zip(addresses.iter().map(BasicNode::new)).collect();
        // The node that makes a group campaigns at once.
        for group in 0..groups {
            self.leader(group).initialize(members.clone()).await?;
        }
        for group in 0..groups {
            for replicas in &self.replicas {
                let wait = replicas[group as usize].wait(Some(PATIENCE));
                wait.current_leader(wanted(group), "the leader that is wanted").await?;
            }
        }
        Ok(())
    }

    /// The replica that shall lead a group.
    pub(crate) fn leader(&self, group: GroupId) -> &Replica {
        &self.replicas[wanted(group) as usize - 1][group as usize]
    }

    /// Whether a group has another leader now.
    pub(crate) async fn have_leaders_moved(&self, groups: GroupId) -> bool {
        for group in 0..groups {
            if self.leader(group).current_leader().await != Some(wanted(group)) {
                return true;
            }
        }
        false
    }

    /// How many commands the groups have applied, linearizably.
    ///
    /// # Errors
    /// A group does not answer.
    pub(crate) async fn applied(&self, groups: GroupId) -> Result<u64, Box<dyn Error>> {
        let mut applied = 0;
        for group in 0..groups {
            let leader = self.leader(group).current_leader().await.unwrap_or(wanted(group));
            let node = leader as usize - 1;
            let replica = &self.replicas[node][group as usize];
            timeout(PATIENCE, replica.ensure_linearizable()).await??;
            applied += self.counts[node][group as usize].load(Ordering::Acquire);
        }
        Ok(applied)
    }

    /// Stops all replicas.
    pub(crate) async fn stop(self) {
        for replica in self.replicas.iter().flat_map(|replicas| replicas.iter()) {
            // A replica that has stopped already has said why before.
            let _ = replica.shutdown().await;
        }
    }
}

/// The times that dragonboat's program has: a heartbeat each 200 ms, an election after 2 s or more.
fn config() -> Result<Arc<Config>, Box<dyn Error>> {
    let config = Config {
        heartbeat_interval: 200,
        election_timeout_min: 2_000,
        election_timeout_max: 4_000,
        snapshot_policy: SnapshotPolicy::Never,
        ..Config::default()
    };
    Ok(Arc::new(config.validate()?))
}
