//! The file `identity` of a node's data directory: which node it belongs to, and the incarnations of the
//! nodes that it has met (safety I1, I2).
//!
//! Only [`create`] makes the file. It is one block of 4,096 bytes, little-endian. A change writes a new
//! file and renames it:
//!
//! ```text
//! offset  bytes
//!      0      8  magic "PURLINID"
//!      8      4  format, 2
//!     12      4  CRC32C of everything from offset 16
//!     16     16  cluster id
//!     32      4  node id
//!     36      8  incarnation
//!     44      2  shards
//!     46      1  fenced: peers have found that the directory has gone back (safety I4)
//!     47      1  met: the initial voters have met, and the table is complete (safety I2)
//!     48      4  groups that own slots
//!     52      4  extra groups
//!     56      4  the longest command, in bytes
//!     60      4  fork (safety Q2)
//!     64      8  zeroes, reserved for the version of the table of nodes (safety M7)
//!     72      2  number of initial voters, then 4 + 8 bytes for each: node id, and its incarnation or 0
//!                zeroes up to the end, reserved for the shards' incarnations (safety M12)
//! ```
//!
//! Format 1 had the number of replicas in the place of the extra groups, and no fork. This version does
//! not read format 1. This version does not read it.

use crate::error::{Error, ErrorKind};
use bytes::{Buf, BufMut};
use purlin_rsm::{ClusterId, Fork, Incarnation, NodeId};
use purlin_storage::{Disk, Durability, File, remedy};
use std::io;

/// The name of the file.
pub(crate) const NAME: &str = "identity";
const NEW_NAME: &str = "identity.new";
const MAGIC: &[u8; 8] = b"PURLINID";
const FORMAT: u32 = 2;
const BLOCK: usize = 4096;
const BODY: usize = 16;
/// The most initial voters: the block has room for them.
pub(crate) const VOTERS_MAX: usize = 256;

/// The identity of a data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NodeIdentity {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) shards: u16,
    /// Groups that own slots.
    pub(crate) groups: u32,
    pub(crate) extra_groups: u32,
    /// In bytes.
    pub(crate) max_command: u32,
    /// The fork of the cluster that the node belongs to (safety Q2).
    pub(crate) fork: Fork,
    /// The initial voters in order, each with the incarnation of its directory once this node has met it.
    pub(crate) voters: Vec<(NodeId, Option<Incarnation>)>,
    /// The initial voters have met: the directory may vote.
    pub(crate) has_met: bool,
    /// Peers have found that the directory has gone back (safety I4).
    pub(crate) is_fenced: bool,
}

impl NodeIdentity {
    /// The config hash of the handshake: over what can never change, so without addresses and membership
    /// (safety I6).
    pub(crate) fn config_hash(&self) -> u64 {
        let mut bytes = Vec::new();
        bytes.put_u32_le(FORMAT);
        bytes.put_u32_le(self.groups);
        bytes.put_u32_le(self.extra_groups);
        bytes.put_u32_le(self.max_command);
        u64::from(crc32c::crc32c(&bytes))
    }

    /// The number of all user groups: those that own slots, then the extra ones.
    pub(crate) fn all_groups(&self) -> u32 {
        self.groups + self.extra_groups
    }

    /// The ids of the initial voters.
    pub(crate) fn voter_ids(&self) -> Vec<NodeId> {
        self.voters.iter().map(|(node, _)| *node).collect()
    }

    /// The incarnations that this node knows, its own included.
    pub(crate) fn table(&self) -> Vec<(NodeId, Incarnation)> {
        self.voters
            .iter()
            .filter_map(|(node, incarnation)| Some((*node, (*incarnation)?)))
            .collect()
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(BLOCK);
        body.put_u128_le(self.cluster.0);
        body.put_u32_le(self.node.0);
        body.put_u64_le(self.incarnation.0);
        body.put_u16_le(self.shards);
        body.put_u8(self.is_fenced.into());
        body.put_u8(self.has_met.into());
        body.put_u32_le(self.groups);
        body.put_u32_le(self.extra_groups);
        body.put_u32_le(self.max_command);
        body.put_u32_le(self.fork.0);
        body.put_u64_le(0);
        body.put_u16_le(self.voters.len() as u16);
        for (node, incarnation) in &self.voters {
            body.put_u32_le(node.0);
            body.put_u64_le(incarnation.unwrap_or_default().0);
        }
        body.resize(BLOCK - BODY, 0);
        let mut block = Vec::with_capacity(BLOCK);
        block.put_slice(MAGIC);
        block.put_u32_le(FORMAT);
        block.put_u32_le(crc32c::crc32c(&body));
        block.put_slice(&body);
        block
    }

    /// Decodes the block. The error says what is wrong with it.
    fn decode(mut block: &[u8]) -> Result<Self, String> {
        if block.len() != BLOCK || block[..8] != MAGIC[..] {
            return Err("is no identity of a Purlin node".into());
        }
        block.advance(8);
        let (format, checksum) = (block.get_u32_le(), block.get_u32_le());
        if format != FORMAT {
            return Err(format!(
                "has format {format}, and this version reads format {FORMAT} alone"
            ));
        }
        if crc32c::crc32c(block) != checksum {
            return Err("has a bad checksum".into());
        }
        let mut identity = Self {
            cluster: ClusterId(block.get_u128_le()),
            node: NodeId(block.get_u32_le()),
            incarnation: Incarnation(block.get_u64_le()),
            shards: block.get_u16_le(),
            is_fenced: block.get_u8() != 0,
            has_met: block.get_u8() != 0,
            groups: block.get_u32_le(),
            extra_groups: block.get_u32_le(),
            max_command: block.get_u32_le(),
            fork: Fork(block.get_u32_le()),
            voters: Vec::new(),
        };
        let table_version = block.get_u64_le();
        let count = usize::from(block.get_u16_le());
        if count > VOTERS_MAX || identity.shards == 0 || identity.groups == 0 {
            return Err("names no shards, no groups, or too many voters".into());
        }
        if identity.groups.checked_add(identity.extra_groups).is_none() {
            return Err("names more groups than there are numbers".into());
        }
        for _ in 0..count {
            let (node, incarnation) = (NodeId(block.get_u32_le()), block.get_u64_le());
            identity.voters.push((node, (incarnation != 0).then_some(Incarnation(incarnation))));
        }
        if table_version != 0 || block.iter().any(|&byte| byte != 0) {
            return Err(
                "uses bytes that this version has reserved: a later version wrote it".into()
            );
        }
        Ok(identity)
    }
}

/// Checks that the directory has no identity yet.
pub(crate) async fn ensure_none<D: Disk>(disk: &D) -> Result<(), Error> {
    let names =
        disk.list().await.map_err(|source| failed(disk, "reading the directory", &source))?;
    if names.iter().any(|name| name == NAME) {
        return Err(Error::new(
            ErrorKind::DataDirectory,
            "there is a data directory already",
            disk.location(),
            "nothing was changed",
            "start the node on it, or choose another directory",
        ));
    }
    Ok(())
}

/// Writes the identity of a new data directory. The caller has checked that there is none
/// ([`ensure_none`]).
pub(crate) async fn create<D: Disk>(disk: &D, identity: &NodeIdentity) -> Result<(), Error> {
    assert!(identity.voters.len() <= VOTERS_MAX, "{} voters", identity.voters.len());
    replace(disk, identity).await
}

/// Replaces the identity by a newer one, which is durable when this returns.
pub(crate) async fn replace<D: Disk>(disk: &D, identity: &NodeIdentity) -> Result<(), Error> {
    write(disk, identity)
        .await
        .map_err(|source| failed(disk, "writing the file `identity`", &source))
}

async fn write<D: Disk>(disk: &D, identity: &NodeIdentity) -> io::Result<()> {
    match disk.remove(NEW_NAME).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(NEW_NAME, BLOCK as u64, Durability::OnSync).await?;
    let mut block = file.block(BLOCK);
    block.as_mut().copy_from_slice(&identity.encode());
    file.write_at(block, 0).await?;
    file.sync().await?;
    file.close().await?;
    disk.rename(NEW_NAME, NAME).await?;
    disk.sync_dir().await
}

/// Reads the identity of a data directory.
pub(crate) async fn load<D: Disk>(disk: &D) -> Result<NodeIdentity, Error> {
    let file = match disk.open(NAME, Durability::OnSync).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(missing_at(&disk.location()));
        }
        Err(error) => return Err(failed(disk, "opening the file `identity`", &error)),
    };
    let mut identity = read(disk, &file).await;
    if identity.is_err() {
        // One wrong read does not mean that the block is wrong, so it is read again, like a batch (safety
        // W4).
        identity = read(disk, &file).await;
    }
    file.close().await.map_err(|error| failed(disk, "closing the file `identity`", &error))?;
    identity
}

async fn read<D: Disk>(disk: &D, file: &D::File) -> Result<NodeIdentity, Error> {
    let block = file.read_at(0, BLOCK).await;
    let block = block.map_err(|error| failed(disk, "reading the file `identity`", &error))?;
    NodeIdentity::decode(block.as_ref()).map_err(|what| {
        Error::new(
            ErrorKind::DataDirectory,
            format!("the file `{NAME}` {what}"),
            disk.location(),
            "this version cannot use the directory; nothing was changed",
            "name the right data directory, or start the version of the program that wrote it",
        )
    })
}

/// The error for a directory at `place` without an identity.
pub(crate) fn missing_at(place: &str) -> Error {
    Error::new(
        ErrorKind::DataDirectory,
        "there is no data directory of a node",
        place,
        "the directory is new, was wiped, or is not mounted; to start empty could forget votes and \
         acknowledged writes",
        "mount or name the right directory; for a node of a new cluster run `purlin init`; a node whose \
         directory is lost stays out: this version cannot bring it back, and the other members go on as \
         long as they are a majority",
    )
}

fn failed<D: Disk>(disk: &D, action: &str, source: &io::Error) -> Error {
    failed_at(disk.location(), action, source)
}

/// The error for a directory or file at `place` that the machine refuses.
pub(crate) fn failed_at(place: String, action: &str, source: &io::Error) -> Error {
    let means = "nothing was changed";
    match source.kind() {
        io::ErrorKind::WouldBlock => Error::new(
            ErrorKind::DataDirectory,
            "the data directory is in use",
            place,
            means,
            "stop the other process that uses it, or name another directory",
        ),
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Error::new(
            ErrorKind::DataDirectory,
            format!("{action} failed: {source}"),
            place,
            means,
            remedy(source),
        ),
        _ => Error::new(
            ErrorKind::Environment,
            format!("{action} failed: {source}"),
            place,
            means,
            remedy(source),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> NodeIdentity {
        NodeIdentity {
            cluster: ClusterId(7),
            node: NodeId(2),
            incarnation: Incarnation(99),
            shards: 4,
            groups: 48,
            extra_groups: 1000,
            max_command: 8 << 20,
            fork: Fork(6),
            voters: vec![
                (NodeId(1), None),
                (NodeId(2), Some(Incarnation(99))),
                (NodeId(3), Some(Incarnation(5))),
            ],
            has_met: false,
            is_fenced: true,
        }
    }

    #[test]
    fn the_block_holds_everything() {
        let block = identity().encode();
        assert_eq!(block.len(), BLOCK);
        assert_eq!(NodeIdentity::decode(&block), Ok(identity()));
    }

    /// The config hash covers what `init` fixes, and nothing that may change (safety I6).
    #[test]
    fn the_hash_covers_what_init_fixes_and_nothing_else() {
        let hash = |change: fn(&mut NodeIdentity)| {
            let mut identity = identity();
            change(&mut identity);
            identity.config_hash()
        };
        let unchanged = hash(|_| ());
        assert_ne!(hash(|it| it.groups += 1), unchanged);
        assert_ne!(hash(|it| it.extra_groups += 1), unchanged);
        assert_ne!(hash(|it| it.max_command += 1), unchanged);
        let changed = hash(|it| {
            it.voters.truncate(1);
            it.shards += 1;
            it.fork = Fork(7);
            it.node = NodeId(3);
        });
        assert_eq!(changed, unchanged);
    }

    #[test]
    fn another_format_and_reserved_bytes_are_refused_by_name() {
        let sealed = |change: fn(&mut [u8])| {
            let mut block = identity().encode();
            change(&mut block);
            let checksum = crc32c::crc32c(&block[BODY..]);
            block[12..BODY].copy_from_slice(&checksum.to_le_bytes());
            NodeIdentity::decode(&block).unwrap_err()
        };
        assert_eq!(
            sealed(|block| block[8] = 1),
            "has format 1, and this version reads format 2 alone"
        );
        let reserved = "uses bytes that this version has reserved: a later version wrote it";
        assert_eq!(sealed(|block| block[BLOCK - 1] = 1), reserved);
        assert_eq!(sealed(|block| block[64] = 1), reserved);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let block = identity().encode();
        for bit in 0..block.len() * 8 {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(NodeIdentity::decode(&bad).is_err(), "bit {bit}");
        }
        assert!(NodeIdentity::decode(&block[..100]).is_err());
    }
}
