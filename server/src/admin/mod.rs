//! The admin port: how operators look at one node.
//!
//! The port speaks RESP, one request at a time, and only reads. It has connections of its own, so that
//! clients that hold all connections of the gateway cannot keep an operator out. Its answers come from
//! what the node knows already: no request waits for a leader, a majority or the disk.
//!
//! ```text
//! RAFT STATUS        the node, its shards, and what is wrong
//! RAFT GROUPS [g [n]] a line for each group from group g on: n groups, at most 1,024; and where the next
//!                    page begins
//! RAFT GROUP g       the replica of one group, and its followers if it leads
//! RAFT MEMBERS       the members, and what they have told of themselves
//! INFO [section]  PING [text]  HELLO [2|3]  QUIT
//! ```
//!
//! Each `RAFT` answer is one bulk string with a JSON object, see [`schema`]. A verb that changes
//! something will come to this port, and to no other.

mod describe;
mod facts;
mod port;
pub mod schema;

pub use facts::AdminFacts;
pub use port::{CONNECTIONS_MAX, Connections, serve_admin};
