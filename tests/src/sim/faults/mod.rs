//! Random faults: the kinds, the choice of kinds for a run, and the nodes that a fault may strike.
//!
//! **Placement.** A node is *corrupted* when its durable bytes were damaged, lost or set back. Until there is
//! repair, the node or one of its shards may stop for good. At most a minority of the nodes is corrupted, so
//! that the others serve; beyond that ([`FaultOptions::beyond`]) only safety can be asked for. See `damage` for
//! the faults that set a directory back, which only its peers can notice.
//!
//! Each kind of fault has its own random stream, with its own pace and length. Without one kind the
//! others strike as before.

mod damage;
mod nemesis;
mod stops;
mod strikes;

pub use nemesis::Nemesis;

use super::random::Random;
use purlin::ErrorKind;
use purlin_rsm::NodeId;
use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

macro_rules! faults {
    ($($(#[doc = $what:literal])+ $kind:ident = $name:literal,)+) => {
        /// A kind of fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Fault {
            $($(#[doc = $what])+ $kind,)+
        }

        impl Fault {
            /// All kinds.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$kind,)+];

            /// Its name on a command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

faults! {
    /// A process ends, between any two polls.
    Kill = "kill",
    /// A node loses power, between any two polls.
    PowerCut = "power-cut",
    /// All processes end at once.
    KillAll = "kill-all",
    /// All nodes lose power at once.
    Blackout = "blackout",
    /// A process is started and ended again several times, quickly.
    Storm = "storm",
    /// A process ends, and its disk is slow when it starts again.
    SlowStart = "slow-start",
    /// A process is asked to stop, as SIGTERM does, and is started again.
    Stop = "stop",
    /// A core stands still.
    Pause = "pause",
    /// All cores of a node stand still.
    Freeze = "freeze",
    /// The nodes part into two sides.
    Partition = "partition",
    /// A node is alone.
    Isolate = "isolate",
    /// As many nodes as may fail are apart from the others.
    Minority = "minority",
    /// Two sides see each other only through one node.
    Bridge = "bridge",
    /// One node hears another no more, which hears it.
    OneWay = "one-way",
    /// A node hears nobody, and all hear it.
    Deaf = "deaf",
    /// Nobody hears a node, which hears all.
    Mute = "mute",
    /// The connections of two nodes break.
    Reset = "reset",
    /// A link is very slow.
    Clog = "clog",
    /// A link has little bandwidth.
    Narrow = "narrow",
    /// A node hears all others late, and after that nobody hears it: it goes on as if nothing were wrong.
    Lag = "lag",
    /// The connections of a node's clients break.
    ClientReset = "client-reset",
    /// A node's clients are slow to ask, or to read.
    ClientClog = "client-clog",
    /// Bits flip on a link, past TCP's checksum.
    FlipBits = "flip-bits",
    /// A node that dials another one reaches a third one.
    CrossWire = "cross-wire",
    /// A node's name server does not answer.
    Names = "names",
    /// A disk stands still.
    HangDisk = "hang-disk",
    /// A disk fails a write.
    WriteError = "write-error",
    /// A disk has no room for a write into what was set aside for it.
    WriteFull = "write-full",
    /// A disk writes a part and fails.
    ShortWrite = "short-write",
    /// A disk fails a sync.
    SyncError = "sync-error",
    /// A disk fails reads.
    ReadError = "read-error",
    /// A disk reads less than it should.
    ShortRead = "short-read",
    /// A disk reads from a wrong place, once.
    WrongRead = "wrong-read",
    /// A disk has little or no room left, now more and now less.
    FullDisk = "full-disk",
    /// A process has no file descriptor left, or only those that it keeps for its log and other nodes.
    Descriptors = "descriptors",
    /// The reader of a node's log stands still.
    BlockLog = "block-log",
    /// A disk says that writes are durable which a power cut drops.
    LostWrite = "lost-write",
    /// A disk says that a sync is done, and has done nothing.
    LyingSync = "lying-sync",
    /// A disk writes to a wrong place, once in a run at most.
    Misdirect = "misdirect",
    /// A bit of an old durable sector flips.
    RotBit = "rot-bit",
    /// An old durable sector comes back as zeros.
    RotZero = "rot-zero",
    /// An old durable sector comes back as it was before.
    RotOld = "rot-old",
    /// An old durable sector cannot be read.
    RotUnreadable = "rot-unreadable",
    /// A file of the log is cut short.
    Truncate = "truncate",
    /// A file of the log is gone.
    LoseFile = "lose-file",
    /// Two files of the log have changed places.
    SwapFiles = "swap-files",
    /// All that a node had is gone.
    Wipe = "wipe",
    /// A node gets an old copy of its directory back.
    Restore = "restore",
    /// A node gets a copy of another node's directory.
    Copy = "copy",
}

impl Fault {
    /// Those after which a node may be of no use for the rest of the run.
    pub const LASTING: &[Self] = &[
        Self::LostWrite,
        Self::LyingSync,
        Self::Misdirect,
        Self::RotBit,
        Self::RotZero,
        Self::RotOld,
        Self::RotUnreadable,
        Self::Truncate,
        Self::LoseFile,
        Self::SwapFiles,
        Self::Wipe,
        Self::Restore,
        Self::Copy,
    ];

    /// Whether it can set a directory back, so that nothing in it shows that something is missing.
    fn sets_back(self) -> bool {
        matches!(
            self,
            Self::LostWrite
                | Self::LyingSync
                | Self::Misdirect
                | Self::Truncate
                | Self::LoseFile
                | Self::SwapFiles
                | Self::Restore
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|fault| fault.name() == text);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|fault| fault.name()).collect();
            format!("no such fault as {text}; there are {}", names.join(", "))
        })
    }
}

/// Which faults a run has.
#[derive(Clone, Debug)]
pub struct FaultOptions {
    /// The nodes that they strike.
    pub nodes: Vec<NodeId>,
    /// The shards of each node.
    pub shards: u16,
    /// How many nodes are down at once at most, beside those that are corrupted.
    pub down_max: usize,
    /// The least mean time between two faults of a kind. Each kind has a longer one of its own.
    pub pause_mean: Duration,
    /// The kinds that occur.
    pub kinds: Vec<Fault>,
    /// More than a minority of the nodes may be corrupted: the cluster may halt, and must stay safe.
    pub beyond: bool,
}

impl FaultOptions {
    /// Drawn for one seed, without the kinds that last.
    pub fn draw(random: &Random, nodes: &[NodeId], shards: u16) -> Self {
        let mut options = Self::draw_all(random, nodes, shards);
        options.kinds.retain(|kind| !Fault::LASTING.contains(kind));
        options
    }

    /// A pace and a subset of all kinds, small or large, drawn for one seed.
    pub fn draw_all(random: &Random, nodes: &[NodeId], shards: u16) -> Self {
        let share = random.magnitude(0.05, 0.9);
        // A stream for each kind, so that another kind more changes no draw.
        let kinds = random.bits();
        let has = |kind: &&Fault| Random::new(kinds, kind.name()).chance(share);
        Self {
            nodes: nodes.to_vec(),
            shards,
            down_max: random.below(nodes.len() as u64 + 1) as usize,
            pause_mean: Duration::from_secs_f64(random.magnitude(0.1, 3.0)),
            kinds: Fault::ALL.iter().filter(has).copied().collect(),
            beyond: random.chance(0.05),
        }
    }

    /// Of how many nodes the others can do without.
    fn minority(&self) -> usize {
        self.nodes.len().saturating_sub(1) / 2
    }
}

/// What has befallen a node's durable bytes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Corruption {
    /// The faults that did it.
    pub kinds: BTreeSet<Fault>,
}

impl Corruption {
    /// Whether its directory may ever have gone back.
    fn has_set_back(&self) -> bool {
        self.kinds.iter().any(|fault| fault.sets_back())
    }

    /// Whether a shard of the node may have stopped for this kind of reason.
    pub fn explains(&self, kind: ErrorKind) -> bool {
        self.kinds.iter().any(|fault| match fault {
            Fault::RotBit | Fault::RotZero | Fault::RotOld => {
                matches!(kind, ErrorKind::Damage | ErrorKind::Disk)
            }
            Fault::RotUnreadable => matches!(kind, ErrorKind::Environment | ErrorKind::Disk),
            Fault::LostWrite | Fault::LyingSync => {
                matches!(kind, ErrorKind::Damage | ErrorKind::Refused)
            }
            Fault::Restore => kind == ErrorKind::Refused,
            Fault::Wipe | Fault::Copy => kind == ErrorKind::DataDirectory,
            Fault::Misdirect | Fault::Truncate | Fault::LoseFile | Fault::SwapFiles => matches!(
                kind,
                ErrorKind::Damage
                    | ErrorKind::Refused
                    | ErrorKind::DataDirectory
                    | ErrorKind::Environment
                    | ErrorKind::Disk
            ),
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_kinds() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        assert!("kil".parse::<Fault>().is_err());
    }
}
