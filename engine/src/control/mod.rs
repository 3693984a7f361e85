//! A way in and a way to see, for operators: requests to a shard beside the clients' requests, and the
//! status of a shard, readable from any thread.
//!
//! ```text
//! any thread ── ShardControl::status, groups, group ─► bounded queue ─► end of the turn ─► ControlAnswer
//! any thread ◄─ ShardControl::latest ◄── published status ◄── each beat ── the shard ──► news: the log
//! ```
//!
//! The counters live with what they count: the WAL, the stage that appends, the exchanger, raft. The shard
//! collects them once a beat. Nothing is allocated or locked per client request for them.

pub(crate) mod port;
pub(crate) mod view;

pub(crate) mod answer;
pub(crate) mod collect;
pub(crate) mod news;
pub(crate) mod outside;

pub(crate) mod histogram;
pub(crate) mod stages;

pub(crate) mod stage_timer;

pub(crate) mod status;
