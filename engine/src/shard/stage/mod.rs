//! The six stages of a shard's work, and the order in which a turn of its loop runs them.
//!
//! ```text
//! 1 intake   what has come, into the groups: completed writes, entries read back, peers' messages, requests
//! 2 step     raft works through each group that has inputs   → writes, messages, committed entries, reads
//! 3 append   one WAL batch for the writes of all groups      → durability, which is an input of the groups
//! 4 send     messages into the next frame of each peer, and one write per peer
//! 5 apply    committed entries into the state machines       → outcomes
//! 6 reply    outcomes to their callers, each woken once, and replies to other shards
//! ```
//!
//! There is no queue between two stages: groups, requests and connections hold what a later stage needs.
//! A turn (`Shard::turn`) runs:
//!
//! 1. Intake of all that has come since the last turn, in a fixed order: writes that became durable, entries
//!    read back from the WAL, an identity that was recorded, peers, other shards of the node, other threads.
//! 2. What is due: once in a heartbeat interval the beat, and the groups whose timer has run out.
//! 3. Intake of the requests of this shard's lanes. Then, until no group has inputs: step, with send (into the
//!    frames) and apply of each group as it is stepped; and again intake of requests, since an outcome may let
//!    a lane go on.
//! 4. Append: one batch, if the WAL is ready for it. What comes while it is on its way goes into the next one;
//!    there are no timers in between.
//! 5. Reply.
//! 6. Send: one write to each peer.
//! 7. Status and operators' requests, and the check of the shard's invariants.
//!
//! Only `AppendStage` is an object, since only it has state of its own between turns. The other stages are
//! methods of [`Shard`](crate::Shard), one file each (`leaders.rs` is part of the beat, and `stop.rs` the end): they work on the groups, the requests and the connections
//! that the shard owns.

pub(crate) mod intake;
pub(crate) mod leaders;
pub(crate) mod peers;
pub(crate) mod step;
pub(crate) mod stop;

pub(crate) mod append;
pub(crate) mod send;

pub(crate) mod apply;
pub(crate) mod reply;
