//! The replicated state machine: agreeing on a log, and applying it.
//!
//! A *replica* is one member of a raft group: its part of the log, its role, and its state machine.
//! This crate is pure. It has no I/O, no clock, no task, no randomness and no `async`: inputs go in,
//! what to do comes out. So it runs unchanged under the engine, in the simulator and in scripts.
#![forbid(unsafe_code)]

mod entry;
mod identity;
mod machine;
mod message;
pub mod raft;
pub mod random;
pub mod reach;
mod request;
pub mod run;
mod trouble;
mod types;
mod varint;

pub use entry::{Commands, Entry, Payload};
pub use identity::{BootId, ClusterId, Fork, Identity, Incarnation, PeerMemory, Sequence, Start};
pub use machine::{ApplyContext, Command, StateMachine};
pub use message::{Envelope, Message};
pub use request::{Outcome, RequestError, RequestKind};
pub use trouble::Trouble;
pub use types::{
    EntryId, EpochTerm, GroupEpoch, GroupId, HardState, Index, NodeId, Position, ShardId, Term,
    Tick, WriteId,
};
