//! A result of the generator beside the limits of the machine.

use serde::Serialize;

use super::formula::{Limits, Load, Term};
use super::report::SavedLimits;

/// How near a run came to the limits that were measured before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Achieved {
    /// The upper bound of the rate for this load, in operations a second.
    pub limit_ops: f64,
    /// The term that that bound is.
    pub bound_by: Term,
    /// The rate of the run by `limit_ops`: 1 is the limit.
    pub ops_ratio: f64,
    /// The lower bound of the median for this load, in microseconds.
    pub limit_p50_micros: f64,
    /// The median of the run by `limit_p50_micros`: 1 is the limit. `None` if nothing was measured.
    pub p50_ratio: Option<f64>,
}

impl Achieved {
    /// Compares a run of SETs. `load` has its connections, its pipeline and its values; nodes and shards
    /// are those of the measured limits.
    ///
    /// # Errors
    /// When the saved measurements do not suffice for this load.
    pub fn of(
        saved: &SavedLimits,
        load: Load,
        ops_per_second: f64,
        p50_nanos: u64,
    ) -> Result<Self, String> {
        let limits = Limits::of(&saved.measured, &load)?;
        let p50_ratio = p50_nanos as f64 / 1e3 / limits.limit_p50_micros;
        Ok(Self {
            limit_ops: limits.limit_ops,
            bound_by: limits.bound_by,
            ops_ratio: ops_per_second / limits.limit_ops,
            limit_p50_micros: limits.limit_p50_micros,
            p50_ratio: (p50_nanos > 0).then_some(p50_ratio),
        })
    }

    /// One line for people.
    pub fn text(&self) -> String {
        let p50 =
            self.p50_ratio.map_or_else(|| "no p50".to_owned(), |ratio| format!("p50 {ratio:.2} ×"));
        format!(
            "achieved/limit: {:.3} of limit_ops ({:.0} a second, bound by {}); {p50} limit_p50 ({:.3} ms)",
            self.ops_ratio,
            self.limit_ops,
            self.bound_by.name(),
            self.limit_p50_micros / 1e3
        )
    }
}
