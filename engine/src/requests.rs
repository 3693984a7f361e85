//! The requests of a shard: those of its own callers, those that wait for a leader, those that are
//! away, and those that it has taken for others.

use crate::{
    away::Away,
    client::ForeignDesk,
    config::IntakeOptions,
    desk::{Desk, LaneRef},
    ticket::TakenBatch,
    wake::Wake,
};
use std::{rc::Rc, sync::Arc, time::Duration};

/// See the module.
pub(crate) struct Requests {
    pub(crate) desk: Rc<Desk>,
    pub(crate) foreign: ForeignDesk,
    /// Lanes that found no leader, or bounced: they try again with the next change.
    pub(crate) parked: Vec<LaneRef>,
    pub(crate) away: Away,
    pub(crate) taken: Taken,
}

/// Batches from elsewhere that are not answered.
pub(crate) struct Taken {
    batches: Vec<(usize, Rc<TakenBatch>)>,
    requests: usize,
    requests_max: usize,
}

impl Requests {
    pub(crate) fn new(
        options: &IntakeOptions,
        tick: Duration,
        wake: Arc<Wake>,
        random: u64,
    ) -> Self {
        let desk = Desk::new(options.clone(), tick, wake);
        let foreign = ForeignDesk::new(&desk);
        let taken = Taken { batches: Vec::new(), requests: 0, requests_max: options.requests_max };
        Self { desk, foreign, parked: Vec::new(), away: Away::new(random), taken }
    }
}

impl Taken {
    /// Whether a batch of so many requests may be taken.
    pub(crate) fn has_room(&self, requests: usize) -> bool {
        self.requests == 0 || self.requests + requests <= self.requests_max
    }

    pub(crate) fn push(&mut self, requests: usize, batch: Rc<TakenBatch>) {
        self.requests += requests;
        self.batches.push((requests, batch));
    }

    /// Takes the batches whose outcomes are complete.
    pub(crate) fn take_complete(&mut self) -> Vec<Rc<TakenBatch>> {
        let complete =
            self.batches.extract_if(.., |(_, batch)| batch.is_complete()).collect::<Vec<_>>();
        self.requests -= complete.iter().map(|(requests, _)| requests).sum::<usize>();
        complete.into_iter().map(|(_, batch)| batch).collect()
    }
}
