//! What has arrived and is not yet taken by the engine. The inbox is bounded: a task that fills it
//! waits for room.

use crate::event::Event;
use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

pub(crate) struct Inbox {
    events: VecDeque<(Event, usize)>,
    /// The sum of what the events cost.
    bytes: usize,
    bytes_max: usize,
    /// Readers that wait for room.
    waiting: Vec<Waker>,
}

impl Inbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { events: VecDeque::new(), bytes: 0, bytes_max, waiting: Vec::new() }
    }

    /// Adds an event that stands for `bytes` of a frame. Returns whether it is the only one. A reader
    /// waits for room first, before the handshake too. What happens to a connection that is up needs no
    /// room, since such events are few.
    pub(crate) fn push(&mut self, event: Event, bytes: usize) -> bool {
        let bytes = bytes + size_of::<Event>();
        self.bytes += bytes;
        self.events.push_back((event, bytes));
        self.events.len() == 1
    }

    /// What the events cost that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The oldest event, and the readers for whom there is room now.
    pub(crate) fn pop(&mut self) -> Option<(Event, Vec<Waker>)> {
        let (event, bytes) = self.events.pop_front()?;
        self.bytes -= bytes;
        let has_room = self.bytes < self.bytes_max;
        Some((event, if has_room { std::mem::take(&mut self.waiting) } else { Vec::new() }))
    }

    /// Ready when there is room for another frame.
    pub(crate) fn poll_room(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.bytes < self.bytes_max {
            return Poll::Ready(());
        }
        if !self.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}
