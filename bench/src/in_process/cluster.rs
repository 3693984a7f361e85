//! Three hosts of one shard each in this process, on loopback, in a fresh directory that goes with them.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use purlin::{
    Board, ClusterConfig, ClusterId, GroupId, Host, Member, NodeConfig, NodeId, ShardId, os,
};

use super::load::{Ended, Phases, ShardLoad, tell_nobody};
use super::machine::{Register, count_of};
use super::options::{InProcessError, InProcessOptions};
use crate::signals::Signals;

/// Nodes of the cluster.
pub const NODES: u32 = 3;
/// How long the groups may take to have leaders, and to answer how much they have applied.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a wait looks for a signal.
const GLANCE: Duration = Duration::from_millis(20);
/// Queries of one node that are under way at once. An inlet has room for more.
const QUERIES_MAX: usize = 256;

/// See the module. The hosts stop when it is dropped, and then their directory is removed.
pub struct Cluster {
    hosts: Vec<Host>,
    groups: u32,
    directory: Directory,
}

impl Cluster {
    /// Makes the directory and starts the hosts.
    ///
    /// # Errors
    /// The directory cannot be made, there is no free port, or a host does not start.
    pub fn start(options: &InProcessOptions) -> Result<Self, InProcessError> {
        os::raise_open_files();
        let groups = options.groups as u32;
        let directory = Directory::new(&options.dir)?;
        let members = members().map_err(|error| InProcessError::Failed {
            what: format!("there are no free ports: {error}"),
            place: "127.0.0.1".to_owned(),
        })?;
        let mut cluster = Self { hosts: Vec::new(), groups, directory };
        for member in &members {
            let config = ClusterConfig::new(ClusterId(0x1a_57), groups, members.clone());
            let mut node =
                NodeConfig::new(member.node, cluster.directory.0.join(format!("n{}", member.node)));
            (node.pin, node.runtime) = (false, options.runtime);
            let builder = Host::builder(config, node, |_group| Register::default());
            cluster.hosts.push(builder.init_if_missing().start().map_err(InProcessError::Host)?);
        }
        Ok(cluster)
    }

    /// Waits until each group is led by a node that knows it. Returns the groups that each node leads.
    ///
    /// # Errors
    /// There are groups without a leader after a minute, or a signal came.
    pub fn await_leaders(&self, signals: &Signals) -> Result<Vec<Vec<GroupId>>, InProcessError> {
        let patience = Instant::now() + PATIENCE;
        // The sender stays, since a load whose senders are gone has stopped.
        let (_sender, no_load) = tell_nobody();
        loop {
            let leads = self.leads();
            let led: usize = leads.iter().map(Vec::len).sum();
            if led == self.groups as usize {
                return Ok(leads);
            }
            if Instant::now() > patience {
                return Err(InProcessError::Failed {
                    what: format!("{led} of {} groups have a leader after 60 s", self.groups),
                    place: "the three hosts of this process".to_owned(),
                });
            }
            self.wait(GLANCE, &no_load, signals)?;
        }
    }

    /// The groups that each node leads, as the node itself knows.
    pub fn leads(&self) -> Vec<Vec<GroupId>> {
        let led = |(node, board): (u32, Arc<Board>)| {
            let is_led = move |entry: &purlin::BoardEntry| entry.leader == Some(NodeId(node));
            board.groups_from(GroupId(1)).filter(is_led).map(|entry| entry.group).collect()
        };
        (1..)
            .zip(self.hosts.iter().map(|host| host.shared().view().board().clone()))
            .map(led)
            .collect()
    }

    /// Starts the load on each shard that leads a group.
    ///
    /// # Errors
    /// A shard has stopped.
    pub fn start_load(
        &self,
        options: &InProcessOptions,
        leads: &[Vec<GroupId>],
        phases: &Phases,
    ) -> Result<Ended, InProcessError> {
        let (sender, receiver) = channel();
        let mut shards = 0;
        let under_way = shares(options.in_flight, leads);
        for ((host, groups), under_way) in self.hosts.iter().zip(leads).zip(under_way) {
            if under_way == 0 {
                continue;
            }
            let load = ShardLoad {
                groups: groups.clone(),
                under_way,
                value_bytes: options.value_size as usize,
                phases: phases.clone(),
                ended: sender.clone(),
            };
            if !host.on_shard(ShardId(0), |local| load.spawn(local)) {
                return Err(stopped());
            }
            shards += 1;
        }
        Ok(Ended { receiver, shards })
    }

    /// Waits for a time, unless the load ends or a signal comes.
    ///
    /// # Errors
    /// A shard has stopped, or a signal came.
    pub fn wait(
        &self,
        time: Duration,
        ended: &Ended,
        signals: &Signals,
    ) -> Result<(), InProcessError> {
        let until = Instant::now() + time;
        loop {
            if let Some(signal) = signals.seen() {
                return Err(InProcessError::Interrupted(signal));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            match ended.receiver.recv_timeout(left.min(GLANCE)) {
                Err(RecvTimeoutError::Timeout) => {}
                // No load ends before it is told to.
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return Err(stopped()),
            }
        }
    }

    /// How many commands the groups have applied: the sum of their answers.
    ///
    /// # Errors
    /// A group does not answer, or a signal came.
    pub fn applied(&self, signals: &Signals) -> Result<u64, InProcessError> {
        let client = self.hosts[0].client();
        let groups: Vec<_> = (1..=self.groups).map(GroupId).collect();
        let mut sum = 0;
        for groups in groups.chunks(QUERIES_MAX) {
            let pending: Vec<_> = groups.iter().map(|group| client.query(*group, "")).collect();
            for (group, pending) in groups.iter().zip(pending) {
                if let Some(signal) = signals.seen() {
                    return Err(InProcessError::Interrupted(signal));
                }
                let answer = pending.wait(PATIENCE);
                let failed =
                    |what| InProcessError::Failed { what, place: format!("group {group}") };
                let answer = answer.map_err(|error| failed(error.to_string()))?;
                sum += count_of(&answer).ok_or_else(|| failed("the answer is no count".into()))?;
            }
        }
        Ok(sum)
    }

    /// Stops the hosts, and removes their directory.
    ///
    /// # Errors
    /// The first error with which a host ended, or the directory stays.
    pub fn stop(mut self) -> Result<(), InProcessError> {
        let ends: Vec<_> = self.hosts.drain(..).map(Host::shutdown).collect();
        ends.into_iter().collect::<Result<(), _>>().map_err(InProcessError::Host)?;
        self.directory.remove()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All are asked first, since each would wait for the others.
        self.hosts.iter().for_each(|host| host.shared().stop());
        self.hosts.drain(..).for_each(|host| drop(host.join()));
    }
}

/// How many commands each node has under way: its share by the groups that it leads.
fn shares(in_flight: u64, leads: &[Vec<GroupId>]) -> Vec<usize> {
    let all: u64 = leads.iter().map(|groups| groups.len() as u64).sum();
    let mut before = 0;
    let share = |groups: &Vec<GroupId>| {
        let from = in_flight * before / all;
        before += groups.len() as u64;
        (in_flight * before / all - from) as usize
    };
    leads.iter().map(share).collect()
}

fn stopped() -> InProcessError {
    InProcessError::Failed {
        what: "a shard has stopped before the load ended".to_owned(),
        place: "the three hosts of this process".to_owned(),
    }
}

/// Three members on loopback ports that are free now.
fn members() -> io::Result<Vec<Member>> {
    let listeners: Vec<_> =
        (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let member = |(node, listener): (u32, &TcpListener)| {
        let peer_port = listener.local_addr()?.port();
        Ok(Member { node: NodeId(node), host: "127.0.0.1".into(), peer_port })
    };
    (1..).zip(&listeners).map(member).collect()
}

/// A directory of this run, removed with its owner.
struct Directory(PathBuf);

impl Directory {
    fn new(parent: &Path) -> Result<Self, InProcessError> {
        let path = parent.join(format!("purlin-in-process-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| InProcessError::Failed {
            what: format!("the directory of the run cannot be made: {error}"),
            place: path.display().to_string(),
        })?;
        Ok(Self(path))
    }

    fn remove(&self) -> Result<(), InProcessError> {
        fs::remove_dir_all(&self.0).map_err(|error| InProcessError::Failed {
            what: format!("the directory of the run cannot be removed: {error}"),
            place: self.0.display().to_string(),
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_the_nodes_are_all_that_is_under_way() {
        let leads = |counts: [usize; 3]| counts.map(|count| vec![GroupId(1); count]);
        assert_eq!(shares(4096, &leads([16, 16, 16])), [1365, 1365, 1366]);
        assert_eq!(shares(10, &leads([0, 3, 1])), [0, 7, 3]);
        assert_eq!(shares(1, &leads([1, 1, 1])), [0, 0, 1]);
    }
}
