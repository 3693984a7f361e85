//! Moving messages between the shards of different nodes.
#![forbid(unsafe_code)]

mod net;

pub use net::{Listener, Net, Reader, Writer};
