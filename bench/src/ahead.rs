//! Pipelines to one endpoint of a cluster, out of one sequence of draws.
//!
//! The operations of a pipeline go to one endpoint, and the workload draws for all. So a pipeline
//! takes what it can use, and what belongs to other endpoints stays here for later pipelines. The
//! oldest draw that is left begins the next pipeline, so each draw is sent, and soon:
//!
//! ```text
//! drawn   a1 b1 a2 c1 a3        sent   a1 a2 a3 │ b1 … │ c1 …
//! ```
//!
//! Each endpoint gets as many operations as its slots are drawn, however fast it is; and each key of
//! a sequential run is sent once.

use std::collections::VecDeque;

use crate::route::Route;
use crate::workload::{Request, Workload};

/// The most draws that are kept.
const KEPT_MAX: usize = 1 << 16;
/// How many pipelines of each endpoint are kept on average. With fewer, more pipelines stay short.
const PIPELINES_KEPT: usize = 4;

/// Requests that are drawn and not sent, oldest first, each with the slot of its key.
#[derive(Debug, Default)]
pub struct Ahead {
    requests: VecDeque<(Request, u16)>,
}

impl Ahead {
    /// Fills `taken` with requests for one endpoint, and returns that endpoint. There are up to `pipeline` of them,
    /// and at least one. `left` is how many may still be sent, 1 or more: no more than that are drawn.
    pub fn take(
        &mut self,
        (pipeline, left): (usize, u64),
        workload: &mut Workload,
        route: &Route,
        taken: &mut Vec<(Request, u16)>,
    ) -> usize {
        assert!(pipeline > 0 && left > 0 && taken.is_empty(), "a pipeline of nothing");
        let first = self.requests.pop_front().unwrap_or_else(|| drawn(workload));
        let endpoint = route.of(first.1);
        taken.push(first);
        let count = pipeline.min(usize::try_from(left).unwrap_or(usize::MAX));
        if !self.requests.is_empty() {
            self.requests.retain(|request| {
                let is_taken = taken.len() < count && route.of(request.1) == endpoint;
                if is_taken {
                    taken.push(*request);
                }
                !is_taken
            });
        }
        let kept = (pipeline * PIPELINES_KEPT * route.leader_count()).min(KEPT_MAX);
        while taken.len() < count
            && self.requests.len() < kept
            && ((self.requests.len() + taken.len()) as u64) < left
        {
            let request = drawn(workload);
            if route.of(request.1) == endpoint {
                taken.push(request);
            } else {
                self.requests.push_back(request);
            }
        }
        endpoint
    }
}

fn drawn(workload: &mut Workload) -> (Request, u16) {
    let request = workload.draw();
    (request, workload.slot(&request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Distribution;
    use crate::slots_reply::SlotsRow;
    use crate::workload::{Command, ValueSize, WorkloadConfig};

    fn workload(distribution: Distribution) -> Workload {
        let value_size = ValueSize { min: 1, max: 1 };
        let (command, keys) = (Command::Set, 1_000);
        let config = WorkloadConfig {
            command,
            reads_percent: 0,
            keys,
            distribution,
            slots: None,
            value_size,
            seed: 1,
            checked: None,
        };
        Workload::new(&config).unwrap()
    }

    /// Four endpoints, of which the last one has few slots.
    fn route() -> Route {
        let row = |(first, last, port)| SlotsRow { first, last, host: None, port };
        let rows =
            [(0, 5_000, 1), (5_001, 10_000, 2), (10_001, 16_000, 3), (16_001, 16_383, 4)].map(row);
        let mut route = Route::default();
        route.learn(&rows, [127, 0, 0, 1].into()).unwrap();
        route
    }

    #[test]
    fn a_sequential_run_sends_each_key_once_and_a_pipeline_has_one_endpoint() {
        let (mut ahead, mut workload, route) =
            (Ahead::default(), workload(Distribution::Sequential), route());
        let (mut left, mut keys, mut pipelines) = (1_000, Vec::new(), 0);
        while left > 0 {
            let mut taken = Vec::new();
            let endpoint = ahead.take((16, left), &mut workload, &route, &mut taken);
            assert!(
                taken.len() <= 16 && taken.iter().all(|request| route.of(request.1) == endpoint)
            );
            left -= taken.len() as u64;
            pipelines += 1;
            keys.extend(taken.iter().map(|request| request.0.key));
        }
        keys.sort_unstable();
        assert!(keys.into_iter().eq(0..1_000));
        assert!(pipelines < 80, "{pipelines} pipelines of 16 for 1,000 operations");
    }

    #[test]
    fn each_endpoint_gets_the_share_of_its_slots_and_little_is_kept() {
        let (mut ahead, mut workload, route) =
            (Ahead::default(), workload(Distribution::Uniform), route());
        let (mut counts, mut taken) = ([0; 4], Vec::new());
        for _ in 0..10_000 {
            taken.clear();
            let endpoint = ahead.take((16, u64::MAX), &mut workload, &route, &mut taken);
            counts[endpoint] += taken.len();
            assert!(ahead.requests.len() <= 16 * PIPELINES_KEPT * 4);
        }
        let total: usize = counts.iter().sum();
        for (endpoint, slots) in [(0, 5_001.0), (1, 5_000.0), (2, 6_000.0), (3, 383.0)] {
            let share = counts[endpoint] as f64 / total as f64;
            assert!((share - slots / 16_384.0).abs() < 0.02, "{endpoint}: {share}");
        }
    }

    #[test]
    fn without_a_pipeline_nothing_is_kept() {
        let (mut ahead, mut workload, route) =
            (Ahead::default(), workload(Distribution::Uniform), route());
        for _ in 0..100 {
            let mut taken = Vec::new();
            ahead.take((1, 5), &mut workload, &route, &mut taken);
            assert_eq!((taken.len(), ahead.requests.len()), (1, 0));
        }
    }
}
