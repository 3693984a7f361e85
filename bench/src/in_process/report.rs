//! The result as text, and as JSON.
//!
//! This module only formats. The JSON (version 1) is one object:
//!
//! ```text
//! { "version": 1, "host": {…}, "load": {…},
//!   "result": { "seconds", "acknowledged", "ops_per_second", "p50_micros", "p99_micros", "max_micros",
//!               "cpu_micros_per_op", "not_acknowledged", "errors": { text: count }, "leaders_moved" } }
//! ```
//!
//! Names in it end with their unit.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::cluster::NODES;
use super::load::Counted;
use super::options::InProcessOptions;
use crate::host::HostFacts;
use crate::recorder::longest;

/// The version of the JSON.
const VERSION: u32 = 1;

/// What was measured.
pub struct Measured {
    /// The measured time.
    pub seconds: f64,
    /// Processor time of this process in it. `None` if the kernel does not keep it.
    pub cpu_seconds: Option<f64>,
    /// What came of the commands.
    pub counted: Counted,
}

/// All that a run of `in-process` says.
#[derive(Debug, Serialize)]
pub struct InProcessReport {
    version: u32,
    host: HostFacts,
    load: LoadParameters,
    result: InProcessResult,
}

#[derive(Debug, Serialize)]
struct LoadParameters {
    runtime: String,
    nodes: u32,
    groups: u64,
    groups_active: u64,
    groups_led: Vec<usize>,
    in_flight: u64,
    value_bytes: u64,
    warmup_seconds: f64,
}

#[derive(Debug, Serialize)]
struct InProcessResult {
    seconds: f64,
    acknowledged: u64,
    ops_per_second: f64,
    p50_micros: f64,
    p99_micros: f64,
    max_micros: f64,
    /// Null if nothing was acknowledged, or if the kernel does not keep the times.
    cpu_micros_per_op: Option<f64>,
    /// Refused, or with an outcome that is not known; the warm-up counts too.
    not_acknowledged: u64,
    errors: BTreeMap<String, u64>,
    /// Whether a group has another leader than at the start: then its commands were forwarded.
    leaders_moved: bool,
}

impl InProcessReport {
    /// The report of a run.
    pub fn new(
        options: &InProcessOptions,
        host: HostFacts,
        groups_led: Vec<usize>,
        leaders_moved: bool,
        measured: Measured,
    ) -> Self {
        let Measured { seconds, cpu_seconds, counted } = measured;
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let a_command = |cpu: f64| cpu * 1e6 / counted.acknowledged as f64;
        let load = LoadParameters {
            runtime: options.runtime.to_string(),
            nodes: NODES,
            groups: options.groups,
            groups_active: options.active_groups(),
            groups_led,
            in_flight: options.in_flight,
            value_bytes: options.value_size,
            warmup_seconds: options.warmup.as_secs_f64(),
        };
        let result = InProcessResult {
            seconds,
            acknowledged: counted.acknowledged,
            ops_per_second: counted.acknowledged as f64 / seconds,
            p50_micros: micros(counted.latency.value_at_quantile(0.50)),
            p99_micros: micros(counted.latency.value_at_quantile(0.99)),
            max_micros: micros(longest(&counted.latency)),
            cpu_micros_per_op: cpu_seconds.filter(|_| counted.acknowledged > 0).map(a_command),
            not_acknowledged: counted.errors.values().sum(),
            errors: counted.errors,
            leaders_moved,
        };
        Self { version: VERSION, host, load, result }
    }

    /// Whether a command was acknowledged in the measured time.
    pub fn has_result(&self) -> bool {
        self.result.acknowledged > 0
    }

    /// Everything, as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings only")
    }

    /// Everything, as text.
    pub fn text(&self) -> String {
        let Self { host, load, result, .. } = self;
        let average =
            host.load_average.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
        let led = load.groups_led.iter().map(usize::to_string).collect::<Vec<_>>().join(" + ");
        let cpu =
            result.cpu_micros_per_op.map_or_else(|| "–".to_owned(), |cpu| format!("{cpu:.2}"));
        let mut text = format!(
            "host      {}, kernel {}, cores {}, load average {average}\n\
             load      {} nodes of one shard in this process, runtime {}; {} groups, led {led}; {} of them active; \
             {} commands of {} B under way; durable on two nodes\n\
             result    {:.0} commands a second, {} in {:.2} s after {} s of warm-up\n\
             latency   p50 {:.3} ms, p99 {:.3} ms, longest {:.3} ms\n\
             processor {cpu} µs a command, all nodes and the load\n",
            host.cpu,
            host.kernel,
            host.cores,
            load.nodes,
            load.runtime,
            load.groups,
            load.groups_active,
            load.in_flight,
            load.value_bytes,
            result.ops_per_second,
            result.acknowledged,
            result.seconds,
            load.warmup_seconds,
            result.p50_micros / 1e3,
            result.p99_micros / 1e3,
            result.max_micros / 1e3,
        );
        for (class, count) in &result.errors {
            let _ = writeln!(text, "error     {count} × {class}");
        }
        if result.leaders_moved {
            text.push_str(
                "warning   a group has got another leader: its commands were forwarded since then\n",
            );
        }
        text
    }
}
