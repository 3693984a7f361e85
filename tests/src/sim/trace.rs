//! The history of a world as one number, and its last lines as text.

use purlin_rsm::random::mix;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    time::Duration,
};

/// What goes into the history, beside lines.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    Poll = 1,
    Due,
    Disk,
    Connect,
    Deliver,
    Mesh,
    Line,
}

/// The rolling hash of all events, and the last lines.
pub(crate) struct Trace {
    hash: Cell<u64>,
    events: Cell<u64>,
    /// Of each kind, by its number.
    kinds: Cell<[u64; 8]>,
    lines: RefCell<VecDeque<String>>,
    lines_max: usize,
}

impl Trace {
    pub(crate) fn new(lines_max: usize) -> Self {
        Self {
            hash: Cell::new(0),
            events: Cell::new(0),
            kinds: Cell::default(),
            lines: RefCell::default(),
            lines_max,
        }
    }

    pub(crate) fn event(&self, event: Event, what: u64, detail: u64) {
        let word = mix(what ^ (event as u64) << 56) ^ detail;
        self.hash.set(mix(self.hash.get().rotate_left(5) ^ word));
        self.events.set(self.events.get() + 1);
        let mut kinds = self.kinds.get();
        kinds[event as usize] += 1;
        self.kinds.set(kinds);
    }

    pub(crate) fn line(&self, now: Duration, line: &str) {
        tracing::info!("{line}");
        for chunk in line.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.event(Event::Line, u64::from_le_bytes(word), now.as_nanos() as u64);
        }
        let mut lines = self.lines.borrow_mut();
        if lines.len() == self.lines_max {
            lines.pop_front();
        }
        if self.lines_max > 0 {
            lines.push_back(format!("{:>12.6} {line}", now.as_secs_f64()));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.get()
    }

    pub(crate) fn events(&self) -> u64 {
        self.events.get()
    }

    pub(crate) fn events_of(&self, event: Event) -> u64 {
        self.kinds.get()[event as usize]
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.borrow().iter().cloned().collect()
    }
}
