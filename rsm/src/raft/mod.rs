//! Raft: one replica's part in agreeing on a group's log (Ongaro, Ousterhout: In search of an
//! understandable consensus algorithm, 2014; and Ongaro's thesis of the same year).
//!
//! [`Raft`] is sans-IO. In go messages ([`Raft::step`]), time ([`Raft::tick`]), proposals and reads
//! ([`Raft::propose`], [`Raft::read`]), completions ([`Raft::appended`], [`Raft::fetched`],
//! [`Raft::applied`]) and what the connection to a peer's node says ([`Raft::vouch`] and its
//! siblings). Out comes a [`Ready`], from [`Raft::ready`].
//!
//! # Storage is asynchronous
//! A [`Ready`] hands entries and hard state out to be written, and goes on. What vouches for
//! durability (a vote, asking for votes, the vote for oneself, acknowledging an append) waits in a
//! gate until [`Raft::appended`] says that the group's newest write is durable. A leader sends
//! entries before its own write of them, and counts itself only once that is durable
//! (Raft thesis 10.2.1).
//!
//! # Time is borrowed
//! A replica has no tick of its own: it names its next [`Raft::deadline`] and wants to be told then.
//! A follower whose leader's *node* is heard of, and names this group in its heartbeats, has none:
//! it is [`Raft::vouch`]ed for, and its timer runs only from [`Raft::unvouch`] on. In the same way a
//! leader is told when a follower's node confirms it, or falls silent. So an idle group costs
//! nothing, and one heartbeat per pair of shards serves all groups of that pair.

// A replica, and what it is told.
mod config;
mod replica;
mod role;
mod status;

// Messages and terms, elections and their votes.
mod election;
mod liveness;
mod receive;
mod timer;
mod voters;

// The log: replicated, committed, applied.
mod apply;
mod fetch;
mod log;
mod progress;
mod replication;
mod terms;

// Reads.
mod read;

// What leaves a replica, and what waits until it may.
mod gate;
mod output;
mod ready;

// What must never be.
mod check;
mod fault;
mod invariants;

#[cfg(test)]
mod harness;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod orders_test;
#[cfg(test)]
mod raft_test;
#[cfg(test)]
mod script;
#[cfg(test)]
mod script_test;

pub use config::{RaftConfig, Recovered};
pub use fault::Fault;
pub use fetch::{Fetch, FetchPurpose};
pub use progress::Window;
pub use read::ConfirmedRead;
pub use ready::{Append, Ready};
pub use replica::{NotLeader, Raft};
pub use role::RoleKind;
pub use status::{FollowerState, FollowerStatus, RaftStatus};
pub use terms::Terms;
pub use voters::Voters;
