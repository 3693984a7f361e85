//! A load generator for servers that speak the Redis protocol: Purlin's gateway, or Redis itself.
//!
//! The modules in reading order. Each one is a step on the way of an operation:
//!
//! ```text
//! options ─► driver ─┬─ schedule, open_loop   when it is meant to start
//!                    ├─ workload ─ keys, slots, chance   what it is
//!                    ├─ cluster ─ route, inquiry, ahead   where it goes, in a cluster
//!                    ├─ connection ─ exchange ─ reply, fingerprint   to the server and back
//!                    └─ recorder ─► check ─► report, hdr_log   what came of it
//! ```
//!
//! A [`sweep`] runs loads at growing rates. [`servers`] asks the servers before and after a load what it has cost them.
//!
//! Beside the load stand [`limits`], which measures the machine without a server, and [`in_process`], which measures the
//! engine without sockets of clients.
//!
//! One thread does all of a load over sockets ([`driver`] says why). No memory grows with the length of a run, or
//! with a load that a server cannot take.

pub mod options;
pub mod times;

pub mod driver;
pub mod give_up;
pub mod poller;

pub mod open_loop;
pub mod schedule;

pub mod chance;
pub mod keys;
pub mod slots;
pub mod workload;

pub mod ahead;
pub mod cluster;
pub mod inquiry;
pub mod route;
pub mod slots_reply;

pub mod connection;
pub mod exchange;
pub mod fingerprint;
pub mod reply;

pub mod check;
pub mod recorder;

pub mod hdr_log;
pub mod percentiles;
pub mod report;

pub mod sweep;

pub mod ask;
pub mod cpu;
pub mod host;
pub mod servers;
pub mod signals;

pub mod limits;

pub mod in_process;
