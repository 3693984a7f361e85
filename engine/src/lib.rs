//! A thread-per-core, sharded multi-raft engine to embed.
//!
//! A program brings a [`StateMachine`]; the engine replicates it over the members of a cluster, once
//! for each of the cluster's *groups*. Commands that it applies were durable on a majority before, and
//! each member applies them in the same order.
//!
//! ```no_run
//! use purlin::{
//!     ApplyContext, ClusterConfig, ClusterId, Command, GroupId, Host, Member, NodeConfig, NodeId,
//!     StateMachine,
//! };
//! use std::time::Duration;
//!
//! /// Counts the bytes that it was given.
//! #[derive(Default)]
//! struct Meter(u64);
//!
//! impl StateMachine for Meter {
//!     fn apply(&mut self, _: &ApplyContext, commands: &[Command], outcomes: &mut Vec<bytes::Bytes>) {
//!         for command in commands {
//!             self.0 += command.data.len() as u64;
//!             outcomes.push(self.0.to_string().into());
//!         }
//!     }
//!
//!     fn query(&self, _: &[u8]) -> bytes::Bytes {
//!         self.0.to_string().into()
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let member = |node, port| Member { node: NodeId(node), host: "127.0.0.1".into(), peer_port: port };
//! let members = vec![member(1, 7100), member(2, 7200), member(3, 7300)];
//! let cluster = ClusterConfig::new(ClusterId(0xfeed), 16, members);
//!
//! // The other two members run the same with their own node id and directory.
//! let node = NodeConfig::new(NodeId(1), "meter/n1");
//! let host = Host::builder(cluster, node, |_group| Meter::default()).init_if_missing().start()?;
//!
//! let (client, patience) = (host.client(), Duration::from_secs(10));
//! let sum = client.propose(GroupId(7), "some bytes").wait(patience)?;
//! assert_eq!(client.query(GroupId(7), "").wait(patience)?, sum);
//! host.shutdown()?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/counter.rs` is a whole program: three hosts in one process.
//!
//! # What runs
//!
//! A [`Host`] runs a node: some *shards*, each one thread with its own executor, write-ahead log,
//! connections to peers and groups. [`Placement`] says which shard of a node has a group. Shards share
//! nothing; they hand each other requests through a [`Mesh`], which never waits. How many there are is
//! written into the data directory when it is made, and it is made by [`init`] or
//! [`HostBuilder::init_if_missing`] and by nothing else. The members of a new cluster must all be up
//! together once before any of them votes.
//!
//! # How to ask
//!
//! | from | with | order |
//! | --- | --- | --- |
//! | any thread | [`Host::client`]: [`Client::propose`], [`Client::query`]; wait for or await the [`PendingOutcome`] | none between two requests that wait at the same time |
//! | the core of a shard | [`Host::on_shard`] hands out a [`LocalShard`]: no hop and no lock | the same |
//! | the core of a shard, many at a time | [`LocalShard::caller`]: a [`Caller`] | its requests to one group take effect as they were submitted, and a query sees the proposals before it |
//!
//! Any node takes requests for any group, and sends them on to the group's leader.
//!
//! # What an answer means
//!
//! A request ends exactly once, at the latest soon after [`IntakeOptions::deadline`]. `Ok` is the
//! state machine's outcome: the command is durable on a majority and applied. For a query it is an
//! answer that sees everything that was acknowledged, by anybody, before the query was asked.
//! [`RequestError::Unknown`] says that a proposal may have been applied, or may yet be; every other
//! [`RequestError`] says that it was certainly not, and
//! [`is_definitely_not_applied`](RequestError::is_definitely_not_applied) tells the two apart. A caller
//! that repeats a proposal after `Unknown` may see it applied twice: let commands be such that this does
//! no harm. A query changes nothing, so a caller may ask it again after any error.
//!
//! # What a state machine owes
//!
//! One outcome for each command, and the same ones on every replica: no clock, no random source, no
//! order of a hash map. It needs not be `Send`. There are no snapshots yet: after a start it is given
//! its whole log again, so it must begin empty and must not act on the outside.
//!
//! A machine should not panic. One that panics at a command, or owes an outcome, stops its group and not the shard:
//! [`GroupStatus::machine`] and the log name the command. Requests wait for another replica to lead the group. Those that
//! find none in [`IntakeOptions::leader_deadline`] end as [`RequestError::GroupStopped`] at a node whose machine has
//! stopped, and the others as [`RequestError::NoLeader`]. A query that panics ends as [`RequestError::QueryFailed`], and the machine goes on: a query must leave nothing half done behind it.
//!
//! # Inside
//!
//! Requests and peers' messages pass the six numbered stages of `stage`: intake, step, append, send,
//! apply, reply. [`Shard`], [`ShardSetup`] and the seams [`Runtime`], [`Disk`], [`Net`] and [`Mesh`]
//! are public so that the whole of a node can run over something else than [`glommio`] and [`ring`]: a simulator
//! does. `docs/ARCHITECTURE.md` follows a write and a read through the files.

pub mod glommio;
pub mod os;
pub mod ring;

mod handoff;

mod edge;
mod node;
mod shard;

mod control;

mod bind;
mod cell;
mod config;
mod error;
mod mesh;
mod placement;
mod prefetch;
mod runtime;
mod stop;
mod wake;

pub use bind::bind_patiently;
pub use config::{
    ClusterConfig, DurableBy, IntakeOptions, Member, NodeConfig, RaftOptions, WalOptions,
    first_leader, group_of_slot,
    quantity::{ByteSize, Period},
    rules::Contradiction,
};
pub use control::answer::{ControlAnswer, ControlError};
pub use control::collect::GROUPS_PER_PAGE;
pub use control::histogram::Histogram;
pub use control::port::ShardControl;
pub use control::stages::StageTimes;
pub use control::status::{
    GroupCounts, GroupStatus, Level, Problem, QueueStatus, RefusalCounts, STOPPED_NAMED_MAX,
    ShardState, ShardStatus, WalStatus,
};
pub use control::view::{NodeView, WalWritten};
pub use edge::caller::Caller;
pub use edge::client::{Client, PendingOutcome};
pub use edge::local::LocalShard;
pub use edge::request::{Completion, Request};
pub use error::{Error, ErrorKind};
pub use mesh::MeshMessage;
pub use node::board::{Board, BoardEntry};
pub use node::host::{Host, HostBuilder, init, recorded_shards};
pub use node::listening::{ListeningPort, cannot_listen};
pub use node::setup::{MachineFactory, ShardSetup, Shared, init as init_on};
pub use placement::Placement;
#[doc(hidden)]
pub use purlin_rsm::sometimes;
pub use purlin_rsm::{
    ApplyContext, BootId, ClusterId, Command, EntryId, Fork, GroupEpoch, GroupId, Incarnation,
    Index, NodeId, Outcome, Position, RequestError, Sequence, ShardId, Start, StateMachine, Term,
    Trouble,
    raft::{Fault, FollowerState, FollowerStatus, RaftStatus, RoleKind},
};
pub use purlin_storage::{Block, Disk, Durability, FILL_BYTES, File, Pace, WalStats};
pub use purlin_transport::{
    Advertised, Facts, LinkStatus, Listener, Net, PeerShard, PeerStatus, Reader, Signal, Writer,
};
pub use runtime::{Mesh, Runtime};
pub use shard::{Shard, TURN_MAX, machine::MachineStop};
pub use stop::StopHold;
