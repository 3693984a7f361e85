//! The messages between the shards of one node, and the port by which a shard sends and receives them.

use crate::{
    node::identity::NodeIdentity,
    runtime::{Mesh, Runtime},
    wake::Wake,
};
use purlin_rsm::ShardId;
use purlin_transport::{BatchReply, RequestBatch};
use std::{cell::RefCell, collections::VecDeque, rc::Rc, sync::Arc};

/// A message between two shards of one node.
pub struct MeshMessage(pub(crate) MeshItem);

pub(crate) enum MeshItem {
    /// Requests for a group of the receiving shard.
    Batch(RequestBatch),
    /// The reply to a batch.
    Reply(BatchReply),
    /// The initial voters have met (safety I2).
    Met(NodeIdentity),
    /// The peers have found that this node's directory has gone back (safety I4).
    Fenced,
}

/// Items that wait in a shard's inbox; more stay in the mesh, which is bounded too.
const INBOX_MAX: usize = 1024;

/// The mesh with its inbox: a task receives, the loop takes.
pub(crate) struct MeshPort<R: Runtime> {
    mesh: Rc<R::Mesh<MeshMessage>>,
    inbox: Rc<Inbox>,
}

#[derive(Default)]
struct Inbox {
    items: RefCell<VecDeque<(ShardId, MeshItem)>>,
    has_room: Wake,
}

impl<R: Runtime> MeshPort<R> {
    pub(crate) fn new(runtime: &R, mesh: R::Mesh<MeshMessage>, wake: Arc<Wake>) -> Self {
        let (mesh, inbox) = (Rc::new(mesh), Rc::<Inbox>::default());
        let port = Self { mesh: mesh.clone(), inbox: inbox.clone() };
        runtime.spawn(async move {
            loop {
                let (from, MeshMessage(item)) = mesh.recv().await;
                while inbox.items.borrow().len() >= INBOX_MAX {
                    inbox.has_room.wait().await;
                }
                inbox.items.borrow_mut().push_back((from, item));
                wake.notify();
            }
        });
        port
    }

    /// Hands an item to another shard, or gives it back: never waits (safety E4).
    pub(crate) fn try_send(&self, to: ShardId, item: MeshItem) -> Result<(), MeshItem> {
        self.mesh.try_send(to, MeshMessage(item)).map_err(|MeshMessage(item)| item)
    }

    pub(crate) fn take(&self) -> VecDeque<(ShardId, MeshItem)> {
        let items = self.inbox.items.take();
        if !items.is_empty() {
            self.inbox.has_room.notify();
        }
        items
    }
}
