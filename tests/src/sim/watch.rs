//! Watchers: they are told what the disks make durable and what leaves the nodes, at that instant.
//!
//! A watcher sees the true state behind the seams, and changes nothing: the history of a world is
//! the same with and without it.

use purlin_rsm::NodeId;
use std::{cell::RefCell, rc::Rc, time::Duration};

/// A write that was submitted to a device.
#[derive(Clone, Copy, Debug)]
pub struct SeenWrite<'a> {
    /// Whose disk it is.
    pub node: NodeId,
    /// Names the write among those of the node.
    pub number: u64,
    /// The directory of the file, below the root, with a slash at its end if it is not the root.
    pub directory: &'a str,
    /// Where in the file.
    pub position: u64,
    /// What is written.
    pub bytes: &'a [u8],
}

/// Bytes that leave a node, as they are before the network harms them.
#[derive(Clone, Copy, Debug)]
pub struct SeenBytes<'a> {
    /// Names the connection.
    pub connection: u64,
    /// 0 from the side that dialled, 1 from the other.
    pub side: usize,
    /// The node that they leave.
    pub from: NodeId,
    /// The node that they are for.
    pub to: NodeId,
    /// The next bytes of the stream.
    pub bytes: &'a [u8],
}

/// Is told what happens, with the world's time. It must not call the world.
pub trait Watcher {
    /// A write sets out.
    fn written(&self, _at: Duration, _write: &SeenWrite<'_>) {}
    /// A write became durable, all of it, and its file's name is: no power cut takes it back.
    fn durable(&self, _at: Duration, _node: NodeId, _number: u64) {}
    /// A process has ended.
    fn ended(&self, _at: Duration, _node: NodeId) {}
    /// The bytes on a node's disk were changed behind its back: what was durable may be gone.
    fn corrupted(&self, _at: Duration, _node: NodeId) {}
    /// Bytes leave a node.
    fn sent(&self, _at: Duration, _sent: &SeenBytes<'_>) {}
}

/// All who look on at a world.
#[derive(Default)]
pub(crate) struct Watchers {
    all: RefCell<Vec<Rc<dyn Watcher>>>,
}

impl Watchers {
    pub(crate) fn add(&self, watcher: Rc<dyn Watcher>) {
        self.all.borrow_mut().push(watcher);
    }

    pub(crate) fn are_any(&self) -> bool {
        !self.all.borrow().is_empty()
    }

    pub(crate) fn tell(&self, tell: impl Fn(&dyn Watcher)) {
        self.all.borrow().iter().for_each(|watcher| tell(&**watcher));
    }
}
