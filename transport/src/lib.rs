//! Moving messages between the shards of different nodes.
//!
//! ```text
//! Outbound ─ Exchanger::send ─► Peer's outbox ─ flush: one write ─► connection ─► peer's inbound
//! Event    ◄ Exchanger::poll ── Inbox ◄── frames, checked ◄── connection ◄── peer's outbound
//! ```
//!
//! Delivery: messages to a peer arrive in order on one connection, may be lost when that connection
//! is lost, and are never duplicated on it. Two shards hold two connections. On each of them the
//! dialler writes and the other side reads, once the handshake has said who both are.
//!
//! The crate has no thread and no clock, and starts no task: the engine runs the futures of
//! [`Exchanger::take_drivers`] and calls [`Exchanger::beat`].
#![forbid(unsafe_code)]

mod config;
mod event;
mod exchanger;
mod hub;
mod peer_shard;
mod registry;

mod advertised;
mod arrivals;
mod cancel;
mod connection;
mod inbound;
mod inbox;
mod links;
mod outbound;
mod outbox;
mod peer;
mod signal;
mod status;

mod handshake;
mod handshakes;
mod peer_book;
mod refusal;

mod forward;
mod heartbeat;

mod codec;
pub mod frame;
pub mod inspect;
mod net;
pub mod wire;

#[cfg(test)]
mod golden_test;
#[cfg(test)]
mod memory;

pub use advertised::Advertised;
pub use codec::Malformed;
pub use config::ExchangerConfig;
pub use event::{Event, Outbound};
pub use exchanger::Exchanger;
pub use forward::{BatchOutcome, BatchReply, REQUESTS_MAX, RequestBatch};
pub use handshake::{Answer as HelloAnswer, Facts, Hello, VERSIONS};
pub use heartbeat::{Changes, Condition, Following, HEARS_MAX, Heartbeat, HeartbeatReply, Leading};
pub use hub::Driver;
pub use net::{
    CLIENT_PROBE_AFTER, CONNECT_MAX, Listener, Net, PROBE_AFTER, Reader, UNACKNOWLEDGED_MAX, Writer,
};
pub use peer_book::PeerBook;
pub use peer_shard::PeerShard;
pub use refusal::{GoneBack, Refusal};
pub use signal::Signal;
pub use status::{LinkStatus, PeerStatus};
