//! Which cores the shards of a node are pinned to.
//!
//! Two nodes on one machine that pin a shard to the same core would both believe that they have the core
//! alone, and each would run at half of its speed beside idle cores. So a node claims a core: it binds an
//! abstract Unix socket whose name has the number of the core. The kernel frees the name when the process
//! ends, however it ends. One node claims at a time: two that claim at the same moment would each get some of the cores,
//! and neither enough. Nodes in different network namespaces do not see each other's claims.

use rustix::thread::{CpuSet, sched_getaffinity};
use std::{
    fmt,
    io::{self, Read},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    time::Duration,
};

/// What the names of claims begin with.
pub(super) const CLAIM: &str = "purlin-core-";

/// Whether shards are pinned to cores, and why not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pinning {
    /// Each shard has a core of its own.
    Pinned,
    /// The configuration says that shards are not pinned.
    NotAsked,
    /// The process may use so few cores.
    TooFew {
        /// Cores that the process may use.
        cores: usize,
        /// Shards of the node.
        shards: usize,
    },
    /// Other nodes on this machine have claimed too many of the cores.
    Claimed {
        /// Cores that the process may use and nobody else has claimed.
        free: usize,
        /// Cores that the process may use.
        cores: usize,
        /// Shards of the node.
        shards: usize,
    },
}

impl fmt::Display for Pinning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("each on a core of its own"),
            Self::NotAsked => f.write_str("not pinned to cores, as configured"),
            Self::TooFew { cores, shards } => {
                write!(f, "not pinned to cores: the process may use {cores} for {shards} shards")
            }
            Self::Claimed { free, cores, shards } => write!(
                f,
                "not pinned to cores: the process may use {cores} for {shards} shards, and other nodes on this \
                 machine have pinned shards to all but {free} of them; give each node cores of its own (taskset -c)"
            ),
        }
    }
}

/// The cores of a node, claimed for as long as this value lives.
pub(super) struct Cores {
    /// One for each shard, with what holds the claim. A core is pinned to without a claim where the machine
    /// lets nobody bind such a socket.
    claimed: Vec<(usize, Option<UnixListener>)>,
}

impl Cores {
    /// The core of a shard.
    pub(super) fn of(&self, shard: usize) -> usize {
        self.claimed[shard].0
    }

    /// Claims a core for each of `shards`, or says why there are not enough. Names of claims begin with
    /// `claim`.
    pub(super) fn claim(claim: &str, shards: usize) -> io::Result<Result<Self, Pinning>> {
        Self::claim_each(claim, shards, || ())
    }

    /// The same. `claims` is called before each core is claimed.
    fn claim_each(
        claim: &str,
        shards: usize,
        mut claims: impl FnMut(),
    ) -> io::Result<Result<Self, Pinning>> {
        let allowed = sched_getaffinity(None)?;
        let cores: Vec<_> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        if cores.len() < shards {
            return Ok(Err(Pinning::TooFew { cores: cores.len(), shards }));
        }
        let _turn = take_turn(claim);
        let mut claimed = Vec::new();
        for &core in cores.iter().filter(|_| shards > 0) {
            let name = SocketAddr::from_abstract_name(format!("{claim}{core}"))?;
            claims();
            match UnixListener::bind_addr(&name) {
                Ok(listener) => claimed.push((core, Some(listener))),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(_) => claimed.push((core, None)),
            }
            if claimed.len() == shards {
                return Ok(Ok(Self { claimed }));
            }
        }
        Ok(Err(Pinning::Claimed { free: claimed.len(), cores: cores.len(), shards }))
    }
}

/// How often a node waits for another one that claims, and how long each time at most: a claim takes microseconds.
const TURN_TRIES: u32 = 100;
const TURN_MAX: Duration = Duration::from_secs(1);

/// Waits until no other node claims cores. While the value lives, no other one does. Nothing where the machine lets
/// nobody bind such a socket, or where a node that claims stands still.
fn take_turn(claim: &str) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("{claim}turn")).ok()?;
    for _ in 0..TURN_TRIES {
        match UnixListener::bind_addr(&name) {
            Ok(turn) => return Some(turn),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(_) => return None,
        }
        // Its owner never answers: the connection ends with the socket. If it has ended by now, there is nobody to
        // connect to.
        let Ok(mut owner) = UnixStream::connect_addr(&name) else { continue };
        owner.set_read_timeout(Some(TURN_MAX)).ok()?;
        if owner.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without turns, each of two nodes that claim at the same moment would get some of the cores, and neither enough.
    #[test]
    fn no_other_node_claims_cores_while_one_does() {
        let claim = format!("purlin-test-turn-{}-", std::process::id());
        let turn = SocketAddr::from_abstract_name(format!("{claim}turn")).unwrap();
        let mut claimed = 0;
        let cores = Cores::claim_each(&claim, 1, || {
            let taken = UnixListener::bind_addr(&turn).expect_err("it is this node's turn");
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
            claimed += 1;
        });
        let _cores = cores.unwrap().expect("nobody else uses this name");
        assert_eq!(claimed, 1);
        // The turn ends with the claims, and the next node in the queue has it then.
        let held = take_turn(&claim).expect("nobody has it");
        std::thread::scope(|scope| {
            let next = scope.spawn(|| take_turn(&claim).is_some());
            drop(held);
            assert!(next.join().expect("no panic"));
        });
    }

    #[test]
    fn no_core_is_pinned_to_twice_and_an_end_frees_it() {
        let claim = format!("purlin-test-{}-", std::process::id());
        let allowed = sched_getaffinity(None).unwrap();
        let count = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).count();
        let all = Cores::claim(&claim, count).unwrap().expect("nobody else uses this name");
        let mut cores: Vec<_> = (0..count).map(|shard| all.of(shard)).collect();
        cores.dedup();
        assert_eq!(cores.len(), count, "each shard has another one: {cores:?}");
        let why = Cores::claim(&claim, 1).unwrap().err();
        assert_eq!(why, Some(Pinning::Claimed { free: 0, cores: count, shards: 1 }));
        let why = Cores::claim(&claim, count + 1).unwrap().err();
        assert_eq!(why, Some(Pinning::TooFew { cores: count, shards: count + 1 }));
        drop(all);
        let again = Cores::claim(&claim, 1).unwrap().expect("the claims have ended");
        assert_eq!(again.of(0), cores[0]);
    }
}
