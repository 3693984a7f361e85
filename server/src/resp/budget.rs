//! The memory that the connections of a shard hold together: requests that have been read, requests in
//! flight, and replies that wait. When it is more than the budget, the connection that holds the most is
//! closed. So clients that send without reading cannot take the memory of the node.
//!
//! Whoever holds the bytes counts them: the reader its requests, the writer its replies, and the shard the
//! answers that a connection does not come to take, because its writer waits for the client.

use purlin::Signal;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

/// The budget of a shard.
pub(super) struct Budget {
    bytes_max: usize,
    bytes: Cell<usize>,
    /// Who holds how much, by the id of the connection.
    holdings: RefCell<BTreeMap<u64, Rc<Holding>>>,
}

/// What one connection holds.
pub(super) struct Holding {
    id: u64,
    input: Cell<usize>,
    replies: Cell<usize>,
    /// Answers that the connection has not taken yet.
    answers: Cell<usize>,
    /// What the budget counts for it: all of it, as of the last time that it was noted.
    counted: Cell<usize>,
    /// The connection is to be closed.
    is_too_large: Cell<bool>,
    closing: Signal,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: Cell::new(0), holdings: RefCell::default() }
    }

    /// How much all may hold.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// How much all hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// A connection that holds nothing yet.
    pub(super) fn join(&self, id: u64) -> Rc<Holding> {
        let holding = Rc::new(Holding {
            id,
            input: Cell::new(0),
            replies: Cell::new(0),
            answers: Cell::new(0),
            counted: Cell::new(0),
            is_too_large: Cell::new(false),
            closing: Signal::default(),
        });
        self.holdings.borrow_mut().insert(id, Rc::clone(&holding));
        holding
    }

    /// The connection holds so much of requests and replies now.
    pub(super) fn note(&self, holding: &Holding, input: usize, replies: usize) {
        holding.input.set(input);
        holding.replies.set(replies);
        self.count(holding);
    }

    /// So many bytes of answers wait until the connection takes them.
    pub(super) fn note_answers(&self, holding: &Holding, answers: usize) {
        holding.answers.set(answers);
        self.count(holding);
    }

    /// A connection that is being closed does not count: it lets go of all at once.
    fn count(&self, holding: &Holding) {
        if holding.is_too_large.get() {
            return;
        }
        let bytes = holding.bytes();
        let before = holding.counted.replace(bytes);
        self.bytes.set(self.bytes.get() - before + bytes);
        if self.bytes.get() > self.bytes_max {
            self.close_largest();
        }
    }

    /// The connection has ended.
    pub(super) fn forget(&self, holding: &Holding) {
        if self.holdings.borrow_mut().remove(&holding.id).is_some() && !holding.is_too_large.get() {
            self.bytes.set(self.bytes.get() - holding.counted.get());
            holding.is_too_large.set(true);
        }
    }

    fn close_largest(&self) {
        let holdings = self.holdings.borrow();
        let open = holdings.values().filter(|it| !it.is_too_large.get());
        let Some(largest) = open.max_by_key(|it| it.counted.get()) else { return };
        self.bytes.set(self.bytes.get() - largest.counted.get());
        largest.is_too_large.set(true);
        largest.closing.raise();
    }
}

impl Holding {
    /// How much it holds, or held when its connection was chosen to be closed.
    pub(super) fn bytes(&self) -> usize {
        self.input.get() + self.replies.get() + self.answers.get()
    }

    /// Requests that have been read, and replies that wait.
    pub(super) fn parts(&self) -> (usize, usize) {
        (self.input.get(), self.replies.get() + self.answers.get())
    }

    /// Returns when the connection is to be closed.
    pub(super) fn is_too_large(&self) -> impl Future<Output = ()> {
        self.closing.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn the_connection_that_holds_the_most_is_closed_and_the_sum_stays_within_the_budget() {
        let budget = Budget::new(100);
        let all: Vec<_> = (0..3).map(|id| budget.join(id)).collect();
        let closed = || {
            let is_closed = |it: &&Rc<Holding>| block_on(poll_once(it.is_too_large())).is_some();
            all.iter().filter(is_closed).map(|it| it.id).collect::<Vec<_>>()
        };
        budget.note(&all[0], 10, 20);
        budget.note(&all[1], 50, 0);
        budget.note(&all[2], 0, 20);
        assert_eq!((budget.bytes(), closed()), (100, vec![]));
        budget.note(&all[0], 10, 21);
        assert_eq!((budget.bytes(), closed()), (51, vec![1]));
        budget.note(&all[1], 500, 500);
        budget.note_answers(&all[1], 500);
        assert_eq!(budget.bytes(), 51, "it is on its way out");
        budget.note_answers(&all[2], 70);
        assert_eq!(
            (budget.bytes(), closed()),
            (31, vec![2]),
            "20 bytes of replies, and the answers"
        );
        all.iter().for_each(|it| budget.forget(it));
        budget.forget(&all[0]);
        assert_eq!((budget.bytes(), budget.holdings.borrow().len()), (0, 0));
    }

    /// One that grows by more than the budget has left is at least as large as what is too much, so closing the
    /// largest is always enough.
    #[test]
    fn whatever_connections_hold_the_sum_is_within_the_budget_after_each_note() {
        let mut state = 1_u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        for _ in 0..200 {
            let budget = Budget::new(1_000);
            let all: Vec<_> = (0..10).map(|id| budget.join(id)).collect();
            for _ in 0..100 {
                let holding = &all[below(10) as usize];
                let (input, replies) = (below(300) as usize, below(2_000) as usize);
                match below(4) {
                    0 => budget.note_answers(holding, input),
                    1 => budget.forget(holding),
                    _ => budget.note(holding, input, replies),
                }
                let counted = all.iter().filter(|it| !it.is_too_large.get());
                let sum: usize = counted.map(|it| it.bytes()).sum();
                assert_eq!(budget.bytes(), sum);
                assert!(sum <= 1_000, "{sum}");
            }
        }
    }
}
