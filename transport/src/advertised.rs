//! Where clients and operators find a node, as the node tells it. It is for people and for clients:
//! nodes connect to each other by the list of members.
//!
//! ```text
//! advertised   host:bytes  gateway port  base of the shards' ports  admin port
//! ```
//!
//! A host has at most 255 bytes. A port of 0 says that the node has none.

use crate::codec::{Fields, Malformed, ensure, put_bytes, put_varint};

/// Where clients and operators find a node, as the node tells it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Advertised {
    /// The host, at most [`Advertised::HOST_BYTES_MAX`] bytes; empty when the node tells none.
    pub host: String,
    /// The port for clients; 0 for none.
    pub gateway_port: u16,
    /// Shard `i` serves clients at this port plus `i`; 0 for none.
    pub shard_port_base: u16,
    /// The port for operators; 0 for none.
    pub admin_port: u16,
}

impl Advertised {
    /// The longest host, in bytes: as long as a name of a host may be.
    pub const HOST_BYTES_MAX: usize = 255;

    pub(crate) fn check(&self) -> Result<(), Malformed> {
        ensure(self.host.len() <= Self::HOST_BYTES_MAX, "a host of more than 255 bytes")
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.host.as_bytes());
        put_varint(out, self.gateway_port.into());
        put_varint(out, self.shard_port_base.into());
        put_varint(out, self.admin_port.into());
    }

    pub(crate) fn decode(fields: &mut Fields) -> Result<Self, Malformed> {
        const PORT: &str = "a port over 16 bits";
        let host = String::from_utf8(fields.bytes()?.to_vec());
        let host = host.map_err(|_| Malformed { what: "a host that is no text" })?;
        Ok(Self {
            host,
            gateway_port: fields.narrow(PORT)?,
            shard_port_base: fields.narrow(PORT)?,
            admin_port: fields.narrow(PORT)?,
        })
    }
}
