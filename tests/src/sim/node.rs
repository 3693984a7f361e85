//! One node as a test sees it: its host name, and the damage that can be done to its disk.

use super::{
    device::{Descriptors, DiskFault, DiskOperation, Failures, NodeDisk, Rot},
    image::Image,
    random::Random,
    tree::DirectoryImage,
    world::Core,
};
use purlin_rsm::NodeId;
use std::{io, rc::Rc, time::Duration};

/// One node: its disk, and its host name.
pub struct NodeHandle<'a> {
    core: &'a Rc<Core>,
    node: NodeId,
}

impl<'a> NodeHandle<'a> {
    pub(crate) fn new(core: &'a Rc<Core>, node: NodeId) -> Self {
        Self { core, node }
    }

    /// All that its processes would read now, written durably or not.
    pub fn readable_image(&self) -> DirectoryImage {
        DirectoryImage::readable(&self.disk().root())
    }

    /// All that a power cut now would leave for certain: the truth about what is durable.
    pub fn durable_image(&self) -> DirectoryImage {
        DirectoryImage::certain(&self.disk().root())
    }

    /// Whether a file has no write in flight or unsynced.
    pub fn is_settled(&self, path: &str) -> io::Result<bool> {
        self.disk().is_settled(path)
    }

    /// Replaces all that is on its disk. The node must be down.
    pub fn restore(&self, image: &DirectoryImage) {
        self.assert_down("restore");
        self.disk().replace(image);
        self.tell_corrupted();
    }

    /// Removes all that is on its disk. The node must be down.
    pub fn wipe(&self) {
        self.restore(&DirectoryImage::default());
    }

    /// Writes into a file at rest, at any position: rot, a misdirected write. The node must be down.
    pub fn overwrite(&self, path: &str, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.assert_down("overwrite");
        self.tell_corrupted();
        self.disk().edit(path, |image: &mut Image| image.write(position, bytes))
    }

    /// Cuts a file at rest to `len` bytes. The node must be down.
    pub fn truncate(&self, path: &str, len: u64) -> io::Result<()> {
        self.assert_down("truncate");
        self.tell_corrupted();
        self.disk().edit(path, |image: &mut Image| image.truncate(len))
    }

    /// A file is gone. The node must be down.
    pub fn lose_file(&self, path: &str) -> io::Result<()> {
        self.assert_down("loss of a file");
        self.tell_corrupted();
        self.disk().lose_file(path)
    }

    /// Each of two files has the other's bytes. The node must be down.
    pub fn swap_files(&self, one: &str, two: &str) -> io::Result<()> {
        self.assert_down("swap of files");
        self.tell_corrupted();
        self.disk().swap_files(one, two)
    }

    /// Rot strikes a sector that has been durable for long enough that later writes could say so
    /// (safety W10), also while the node runs: where, or nothing when there is no such sector.
    pub fn rot(&self, random: &Random, how: Rot) -> Option<String> {
        let place = self.disk().rot(random, how)?;
        self.tell_corrupted();
        Some(place)
    }

    /// Whether there is anything that rot could strike: a log that has been written for a while.
    pub fn has_old_bytes(&self) -> bool {
        self.disk().has_old_bytes()
    }

    /// Arms a failure.
    pub fn arm(&self, fault: DiskFault) {
        assert!(fault.times > 0, "a failure that never happens: {fault:?}");
        self.disk().arm(fault);
    }

    /// Whether a failure of such an operation still waits.
    pub fn is_armed(&self, operation: DiskOperation) -> bool {
        self.disk().is_armed(operation)
    }

    /// What its disk has told its processes so far.
    pub fn failures(&self) -> Failures {
        self.disk().failures()
    }

    /// Removes all failures that still wait.
    pub fn disarm(&self) {
        self.disk().disarm();
    }

    /// Limits the bytes of all files; making another beyond fails as a full disk.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.disk().set_quota(bytes);
    }

    /// The bytes of all files.
    pub fn used(&self) -> u64 {
        self.disk().used()
    }

    /// How many file descriptors its process can still get, until it ends.
    pub fn set_descriptors(&self, left: Descriptors) {
        self.disk().set_descriptors(left);
    }

    /// From now on the names that it looks up stand still, or are answered again.
    pub fn silence_names(&self, is_silent: bool) {
        self.core.network.borrow_mut().silence_names(self.node, is_silent);
    }

    /// Nothing that the disk is asked from now on is done before `duration` has passed.
    pub fn hang_disk(&self, duration: Duration) {
        self.disk().hang_until(self.core.clock.now() + duration);
    }

    fn tell_corrupted(&self) {
        let at = self.core.clock.now();
        self.core.watchers.tell(|watcher| watcher.corrupted(at, self.node));
    }

    fn disk(&self) -> Rc<NodeDisk> {
        self.core.disk(self.node)
    }

    fn assert_down(&self, what: &str) {
        assert!(!self.core.is_running(self.node), "{what} of node {} while it runs", self.node);
    }
}
