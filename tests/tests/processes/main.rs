//! Real processes of `purlin`, on real disks and sockets: what the simulator cannot show.
//!
//! Each test has its own cluster on free loopback ports, with its data below `target/`. All that a
//! test starts ends with it, and what it made is removed, also when it fails: then the logs of its
//! processes are printed. Nothing here waits for a time to pass, only for something to happen, and
//! not for ever.

mod admin;
mod bad_input;
mod cluster_clients;
mod cluster_tools;
mod crashes;
mod cuts;
mod dev;
mod directories;
mod full_disk;
mod memory;
mod outputs;
mod redis_tools;
mod refusals;
mod shards;
mod soak;
mod stops;
mod support;
