//! The server `purlin`: its command line, its configuration, clusters to try out, and the front end
//! for Redis clients.

pub mod cli;
pub mod config;
pub mod dev;
pub mod error;
pub mod resp;
pub mod serve;
