//! The client protocol: RESP, as Redis speaks it.
//!
//! A connection reads requests ([`Parser`]), finds each in the table of [`commands`], asks the
//! groups through a [`Backend`], and writes the replies in the order of the requests. It is generic
//! over the runtime, so that the simulator can run it.

mod backend;
mod budget;
mod client;
mod cluster;
pub mod commands;
mod connection;
mod data;
mod front;
mod gather;
mod inbox;
mod introspect;
mod lean;
mod listener;
mod local;
mod moved;
mod parser;
mod refused_multi;
mod reply;
mod resolve;
mod ring;
mod route;
mod submit;
mod topology;
mod value;
mod words;
mod writing;

#[cfg(test)]
mod parser_test;

pub use backend::{Backend, NodeFacts, ServerInfo, ShardBackend};
pub use client::RespClient;
pub use connection::serve_client;
pub use front::{ClientPort, FrontEnd, FrontEndOptions, WRITE_PIECE_BYTES};
pub(crate) use inbox::Inbox;
pub use listener::{ClientListeners, serve_clients, serve_shard};
pub use parser::{Arguments, Parser, ProtocolError, RequestLimits, split_line};
pub use reply::{Protocol, Reply};
pub use route::{SLOTS, group_of, slot_of};
pub use topology::{Endpoint, Home, Topology};
pub use value::Value;
