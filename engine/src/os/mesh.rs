//! Channels between the shards of a node: a bounded queue for each ordered pair.
//!
//! ```text
//! shard 0 ──queue──►┐
//! shard 1 ──queue──►├─ inbox of shard 2: takes turns, sleeps on one waker
//! shard 3 ──queue──►┘
//! ```
//!
//! A sender wakes the receiver only when it sleeps, so that a burst costs one wake.

use crate::{Mesh, ShardId};
use crossbeam::queue::ArrayQueue;
use std::{
    cell::Cell,
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering, fence},
    },
    task::{Context, Poll, Waker},
};

/// The channels of a node with `shards` shards, by shard; each holds `capacity` items.
pub fn mesh<T: Send + 'static>(shards: u16, capacity: usize) -> Vec<ShardMesh<T>> {
    let inboxes: Arc<[Inbox<T>]> = (0..shards).map(|_| Inbox::new(shards, capacity)).collect();
    (0..shards)
        .map(|shard| ShardMesh {
            shard: ShardId(shard),
            inboxes: inboxes.clone(),
            turn: Cell::new(0),
        })
        .collect()
}

/// One shard's ends of the channels. Its drop stops the shard's inbox.
pub struct ShardMesh<T: Send + 'static> {
    shard: ShardId,
    inboxes: Arc<[Inbox<T>]>,
    /// The sender that is asked first next time.
    turn: Cell<usize>,
}

impl<T: Send + 'static> Mesh<T> for ShardMesh<T> {
    fn try_send(&self, to: ShardId, item: T) -> Result<(), T> {
        assert_ne!(to, self.shard, "a shard sends to itself");
        self.inboxes[usize::from(to.0)].push(self.shard, item)
    }

    async fn recv(&self) -> (ShardId, T) {
        poll_fn(|cx| self.inbox().poll(cx, &self.turn)).await
    }
}

impl<T: Send + 'static> ShardMesh<T> {
    fn inbox(&self) -> &Inbox<T> {
        &self.inboxes[usize::from(self.shard.0)]
    }
}

impl<T: Send + 'static> Drop for ShardMesh<T> {
    fn drop(&mut self) {
        self.inbox().stop();
    }
}

struct Inbox<T> {
    /// By sending shard; a shard's own is never used.
    queues: Vec<ArrayQueue<T>>,
    /// Set once the receiver has found all queues empty and left its waker; a sender clears it.
    is_waiting: AtomicBool,
    waker: Mutex<Option<Waker>>,
    is_stopped: AtomicBool,
}

impl<T> Inbox<T> {
    fn new(shards: u16, capacity: usize) -> Self {
        Self {
            queues: (0..shards).map(|_| ArrayQueue::new(capacity)).collect(),
            is_waiting: AtomicBool::new(false),
            waker: Mutex::new(None),
            is_stopped: AtomicBool::new(false),
        }
    }

    fn push(&self, from: ShardId, item: T) -> Result<(), T> {
        if self.is_stopped.load(Ordering::Acquire) {
            return Err(item);
        }
        self.queues[usize::from(from.0)].push(item)?;
        // Either this sees the receiver waiting, or the receiver's last look sees the item.
        fence(Ordering::SeqCst);
        if self.is_waiting.load(Ordering::Relaxed) && self.is_waiting.swap(false, Ordering::AcqRel)
        {
            self.wake();
        }
        Ok(())
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>, turn: &Cell<usize>) -> Poll<(ShardId, T)> {
        if let Some(received) = self.pop(turn) {
            return Poll::Ready(received);
        }
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        self.is_waiting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        match self.pop(turn) {
            Some(received) => {
                self.is_waiting.store(false, Ordering::Relaxed);
                Poll::Ready(received)
            }
            None => Poll::Pending,
        }
    }

    /// The next item, of each sender in turn.
    fn pop(&self, turn: &Cell<usize>) -> Option<(ShardId, T)> {
        let shards = self.queues.len();
        for from in (0..shards).map(|step| (turn.get() + step) % shards) {
            if let Some(item) = self.queues[from].pop() {
                turn.set((from + 1) % shards);
                return Some((ShardId(from as u16), item));
            }
        }
        None
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        for queue in &self.queues {
            while queue.pop().is_some() {}
        }
    }
}
