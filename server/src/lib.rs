//! The server `purlin`: its command line, its configuration, clusters to try out, and the front end
//! for Redis clients.
//!
//! ```text
//! cli ──► config    a file, read and checked; all its mistakes at once
//!  ├────► dev       three nodes of this very program on loopback, to try out
//!  ├────► status    how a cluster stands, asked at the nodes' admin ports
//!  └────► serve     a node: a `purlin::Host` of key-value machines, and on each shard
//!           ├─────► resp   the gateway: any client command at any node
//!           └─────► admin  the admin port: what operators read
//! error             how a command fails: text in four parts, and the exit code
//! machine, signals  what several commands ask of the machine
//! figures, cpu      what a node has done so far, and its processor time, for `INFO`
//! freed_memory      returns memory to the system while a node is idle
//! output            what is printed; log_queue: the log, written by a thread of its own; log_lines: what it drops
//! ```
//!
//! It embeds the engine as any other program could: nothing here is known to the library `purlin`. It
//! is a library so that tests can run its parts, and [`resp`] is generic over the runtime, so that the
//! simulator can put clients in front of simulated nodes. The binary only calls [`cli::main`].

pub mod admin;
pub mod cli;
pub mod config;
pub mod cpu;
pub mod dev;
pub mod error;
pub mod figures;
mod freed_memory;
pub mod log_lines;
mod log_queue;
mod machine;
mod memory;
mod output;
pub mod resp;
pub mod serve;
mod signals;
mod status;
