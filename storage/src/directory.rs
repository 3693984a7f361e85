//! Changes of names in a WAL's directory, each durable before the next step builds on it (safety W7).

use crate::{
    disk::{Disk, Durability},
    pace::Pace,
    segment,
};
use std::io;

/// Makes the file of segment `number`, of `bytes` bytes: `head` and zeroes, whole, and durable by name.
///
/// The file is filled under the name `….new` and renamed when it is whole, so that a crash on the way
/// leaves nothing that looks like a segment (B93).
pub(crate) async fn create<D: Disk>(
    disk: &D,
    number: u64,
    head: &[u8],
    bytes: u64,
    durability: Durability,
    pace: &Pace,
) -> io::Result<D::File> {
    let unfinished = segment::unfinished_name(number);
    let file = match disk.create_paced(&unfinished, head, bytes, durability, pace).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(&unfinished).await?;
            disk.create_paced(&unfinished, head, bytes, durability, pace).await
        }
        created => created,
    };
    let file = match file {
        Ok(file) => file,
        Err(error) => {
            // An unfinished file must not keep the space that others need.
            if disk.remove(&unfinished).await.is_ok() {
                disk.sync_dir().await?;
            }
            return Err(error);
        }
    };
    let name = segment::name(number);
    if let Err(error) = rename(disk, &unfinished, &name).await {
        // The next attempt makes the file anew, and finds neither name taken.
        for left in [&unfinished, &name] {
            disk.remove(left).await.ok();
        }
        return Err(error);
    }
    Ok(file)
}

/// Renames a file; the new name is durable when this returns.
pub(crate) async fn rename<D: Disk>(disk: &D, from: &str, to: &str) -> io::Result<()> {
    disk.rename(from, to).await?;
    disk.sync_dir().await
}

/// Removes a file; that is durable when this returns.
pub(crate) async fn remove<D: Disk>(disk: &D, name: &str) -> io::Result<()> {
    disk.remove(name).await?;
    disk.sync_dir().await
}
