//! Raft: one replica's part in agreeing on a group's log.
//!
//! The protocol is the one of the Raft paper (Ongaro, Ousterhout: In search of an understandable consensus
//! algorithm, 2014) and of Ongaro's thesis of the same year. Comments cite both where a rule is applied. Codes such
//! as "safety A1" and "B31" are explained in `docs/SAFETY.md`. This page tells what a reader must know to read the
//! files in the order of the module list below.
//!
//! # A replica is a pure state machine
//! [`Raft`] does no I/O and has no clock. Its owner gives it inputs:
//!
//! - messages of other replicas ([`Raft::step`]) and time ([`Raft::tick`]);
//! - commands to append and reads to confirm ([`Raft::propose`], [`Raft::read`]);
//! - completions of what it asked for ([`Raft::appended`], [`Raft::fetched`], [`Raft::applied`]);
//! - news about the nodes of its peers ([`Raft::vouch`] and the other methods of `liveness.rs`).
//!
//! After some inputs the owner calls [`Raft::ready`] and gets a [`Ready`]: messages to send, a write for the WAL,
//! committed entries to apply, entries to read from the WAL, and reads to answer. Nothing else leaves a replica. The
//! same inputs always give the same outputs, so scripts, the simulator and the engine all run this same code.
//!
//! # Terms and roles
//! Time is divided into *terms*, numbered from 1. In each term at most one replica leads. A replica is a follower, a
//! candidate or a leader (`role.rs`). A replica that meets a higher term in a message becomes a follower in that
//! term. A message of a lower term is not acted upon; a leader or a candidate of the lower term is told of the higher
//! one. `receive.rs` applies these rules before any message is handled.
//!
//! # Elections
//! A follower that hears of no leader for a random time campaigns, in two rounds (`election.rs`):
//!
//! 1. *Pre-vote.* The follower asks all voters whether they would vote for it in the next term. The question and its
//!    answers change nothing at anybody, so a node that was cut off does not disturb a working group (thesis 9.6).
//! 2. *Vote.* If a majority would, the follower enters the next term, votes for itself and asks for votes.
//!
//! A voter votes once in a term, and only for a candidate whose log is not behind its own: the last entries are
//! compared by term, then by index. All committed entries are on a majority of disks, and every majority has a voter
//! that would refuse a candidate without them. So a new leader always holds all committed entries. A leader that
//! does not hear from a majority steps down. A voter that hears of a leader refuses
//! pre-votes and drops requests for votes (thesis 4.2.3).
//!
//! A leader may hand its group over to a voter that holds its whole log (`transfer.rs`). A replica whose disk is full,
//! or whose machine is far behind, gives others time before it campaigns (`fitness.rs`, `unfit.rs`).
//!
//! `timer.rs` has the random timeout, and `voters.rs` every count: in a joint configuration each agreement needs a
//! majority of the old and of the new voters.
//!
//! # The log
//! Only the leader appends commands. It sends each follower an `Append` with new entries and with the term and index
//! of the entry *before* them. A follower accepts the entries if its log holds that entry before. Two logs that hold
//! the same entry are equal up to it. If the follower does not hold it, the follower refuses and names the latest
//! place at which the two logs may still agree. The leader then probes there. A follower cuts off what conflicts
//! with the leader's entries; committed entries never conflict, and a replica that sees such a conflict stops for
//! good (`fault.rs`).
//!
//! An entry is *committed* once a majority holds it durably and the leader has an entry of its own term at or above
//! it that a majority holds too. Without the second condition a later leader could replace it (Raft paper, figure 8;
//! safety A4). That is why a new leader first appends an entry without a command.
//!
//! - `progress.rs`: what a leader knows of a follower: whether the leader still probes for the place where the logs
//!   agree or already streams entries, and how much is on its way.
//! - `replication.rs`: the leader sends, the follower accepts, and answers move the commit.
//! - `log.rs`: how far the log is written, durable, committed and applied, and the entries that are in memory.
//!   `terms.rs`: the term of every entry, also of entries that are only on disk. A log may begin behind a *floor*.
//! - `apply.rs`, `fetch.rs`: committed entries are handed out in order. Entries that have left the memory are read
//!   from the WAL, both to apply them and to send them to a follower that is behind.
//!
//! # Storage is asynchronous
//! A replica hands out a write and goes on before the write is durable. Some messages promise that something is
//! durable: a granted vote, a request for votes, the acknowledgement of an append, and the vote of a candidate for
//! itself. Such a promise waits in the *gate* (`gate.rs`) until [`Raft::appended`] reports the newest write that
//! was handed out before it (safety A1, A2). Everything else leaves at once. In particular a leader sends entries
//! before its own write of them is durable, and counts itself for the commit only once it is (thesis 10.2.1).
//! `output.rs` puts each [`Ready`] together in this order: appends, read rounds, the write, freed promises,
//! committed entries.
//!
//! A write may complete after its entries were cut off from the log. Each write has a number that only grows, and a
//! truncation lowers what the writes under way will make durable. So a late completion never counts for the entries
//! that took the place of the old ones (safety A3).
//!
//! # Reads
//! A read needs no entry in the log (thesis 6.4). The leader notes its commit index and asks all followers whether
//! they still follow it. Once a majority says so, the leader was the leader when the read came, and the read may be
//! answered as soon as that commit index is applied (`read.rs`, safety R1).
//!
//! # One heartbeat serves many groups
//! A shard has thousands of groups, so a replica sends no heartbeats of its own and has no periodic tick. It names
//! the next [`Raft::deadline`] at which it wants to be called, and an idle replica names none. The engine sends one
//! heartbeat for all groups that two shards share, and tells the replicas what follows from it (`liveness.rs`):
//!
//! - The node of the leader *vouches* for a follower: its heartbeat names the group and the term. The follower stops
//!   its election timer until [`Raft::unvouch`] says that this has ended.
//! - The node of a follower *confirms* a leader: its answer says that it follows the leader in this group and term.
//!   A leader that too few nodes confirm steps down.
//! - Connections come and go. Without a connection a leader sends nothing, and with a new one it probes again, since
//!   what was on its way may be lost.
//!
//! # What is checked
//! Each owner of state states what is always true of it, and `invariants.rs` checks that after every step. The tests
//! beside the code put the protocol to work: `testscripts/` holds stories that can be read, `raft_test.rs` random
//! histories and forged messages, `orders_test.rs` every order of a few events, and `oracle.rs` judges all of them
//! against what the disks really hold.

// A replica, and what it is told.
mod config;
mod replica;
mod role;
mod status;

// Messages and terms, elections and their votes.
mod election;
mod fitness;
mod liveness;
mod receive;
mod timer;
mod transfer;
mod unfit;
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
pub use replica::{NotLeader, Proposed, Raft};
pub use role::RoleKind;
pub use status::{FollowerState, FollowerStatus, RaftStatus};
pub use terms::Terms;
pub use voters::Voters;
