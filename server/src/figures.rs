//! The figures in `INFO` of what a node has done so far, at the gateway and at the admin port: for tools that look twice
//! and count what came in between.

use crate::cpu::ProcessTimes;
use purlin::{NodeView, StageTimes, WalWritten};
use std::time::Duration;

/// A fact of `INFO`: its name and its value.
pub(crate) type Fact = (String, String);

/// See the module. All counts begin with the start of the node, but for `commands`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Figures {
    /// The commands that the state machines of the node have applied, since the cluster was made.
    pub commands: u64,
    /// What the node's logs have written.
    pub wal: WalWritten,
    /// How long a sample of the commands that the node led spent in each stage.
    pub stages: StageTimes,
    /// The processor time of the process, if it could be read.
    pub cpu: Option<ProcessTimes>,
}

impl Figures {
    /// Of a node, by the last beats of its shards, in a process that has used `cpu`.
    pub fn of(view: &NodeView, cpu: Option<ProcessTimes>) -> Self {
        Self { commands: view.counts().commands, wal: view.wal(), stages: view.stages(), cpu }
    }

    /// What was applied and written.
    pub(crate) fn work(&self) -> Vec<Fact> {
        let facts = [
            ("purlin_commands_applied", self.commands),
            ("purlin_wal_batches", self.wal.batches),
            ("purlin_wal_syncs", self.wal.syncs),
            ("purlin_wal_written_bytes", self.wal.bytes),
        ];
        facts.map(|(name, value)| (name.into(), value.to_string())).into()
    }

    /// The processor time, in seconds, under the names that Redis has for it. No fact if it is not known: a 0 would be
    /// taken for a time.
    pub(crate) fn cpu(&self) -> Vec<Fact> {
        let Some(ProcessTimes { user, system }) = self.cpu else { return Vec::new() };
        let facts = [("used_cpu_sys", system), ("used_cpu_user", user)];
        facts.map(|(name, time)| (name.into(), format!("{:.6}", time.as_secs_f64()))).into()
    }

    /// The size of the sample, and of each stage the median, the 99th percentile and the longest time, in microseconds.
    pub(crate) fn stages(&self) -> Vec<Fact> {
        let micros = |time: Duration| time.as_micros().to_string();
        let mut facts =
            vec![("purlin_stage_samples".into(), self.stages.total.count().to_string())];
        for (name, times) in self.stages.by_name() {
            let quantile = |share| times.quantile(share).unwrap_or_default();
            for (what, time) in
                [("p50", quantile(0.5)), ("p99", quantile(0.99)), ("max", times.max())]
            {
                facts.push((format!("purlin_stage_{name}_{what}_us"), micros(time)));
            }
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_named_with_their_stage_and_unit() {
        let mut figures = Figures::default();
        assert!(figures.stages().iter().all(|(_, value)| value == "0"), "nothing was timed");
        figures.stages.wal.record(Duration::from_micros(850));
        figures.stages.total.record(Duration::from_micros(3));
        let facts = figures.stages();
        let value = |name: &str| {
            let fact = facts.iter().find(|(its, _)| its == name);
            fact.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name}"))
        };
        assert_eq!(value("purlin_stage_samples"), "1");
        assert_eq!(
            ["p50", "p99", "max"].map(|it| value(&format!("purlin_stage_wal_{it}_us"))),
            ["850"; 3]
        );
        assert_eq!(value("purlin_stage_total_max_us"), "3");
        assert_eq!(facts.len(), 1 + 6 * 3);
    }

    #[test]
    fn processor_time_has_the_form_that_redis_gives_it() {
        let (user, system) = (Duration::from_millis(12_340), Duration::from_micros(7));
        let figures = Figures { cpu: Some(ProcessTimes { user, system }), ..Figures::default() };
        let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            figures.cpu(),
            [named("used_cpu_sys", "0.000007"), named("used_cpu_user", "12.340000")]
        );
        assert_eq!(Figures::default().cpu(), [], "a time that could not be read is no 0");
    }
}
