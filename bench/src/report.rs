//! The output of a run: parameters and host first, one line for each second, totals; and the same
//! as JSON.
//!
//! This module only formats. The JSON (version 1) is one object:
//!
//! ```text
//! { "version": 1, "parameters": {…}, "host": {…}, "seconds": [ {…}, … ],
//!   "result": { "measured_seconds", "offered_rate", "achieved_rate", "latency", "service", "totals",
//!               "backlog_max", "gap", "cluster", "client", "achieved", "checked", "servers", "interrupted_by", "has_given_up" } }
//! ```
//!
//! Latencies in it are nanoseconds; `service` is null in a closed loop, and `cluster` without `--cluster`. `achieved` is
//! null without `--limits`, and for loads that are not SETs alone; `checked` is null without `--check`,
//! and `servers` if the servers tell nothing of their work.

use std::fmt::Write;

use serde::Serialize;

use crate::check::verdict::Checked;
use crate::cluster::ClusterFacts;
use crate::cpu::CpuMeter;
use crate::driver::{Extent, Pace, Summary};
use crate::host::HostFacts;
use crate::limits::achieved::Achieved;
use crate::limits::formula::Load;
use crate::limits::report::SavedLimits;
use crate::options::Plan;
use crate::percentiles::{Percentiles, millis};
use crate::recorder::{Gap, Second, Totals};
use crate::servers::{ActiveGroups, ServerFigures};
use crate::workload::{Command, WorkloadConfig};

/// A run with its parameters and its host, in the form of the JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    version: u32,
    parameters: Parameters,
    host: HostFacts,
    seconds: Vec<Second>,
    result: RunResult,
    #[serde(skip)]
    has_limits: bool,
}

/// What a run was told to do.
#[derive(Clone, Debug, Serialize)]
pub struct Parameters {
    bench_version: &'static str,
    targets: Vec<String>,
    cluster: bool,
    clients: usize,
    pipeline: usize,
    rate: Option<f64>,
    arrivals: Option<String>,
    #[serde(flatten)]
    workload: WorkloadParameters,
    duration_seconds: Option<f64>,
    requests: Option<u64>,
    warmup_seconds: f64,
    timeout_seconds: f64,
    seed: u64,
}

#[derive(Clone, Debug, Serialize)]
struct WorkloadParameters {
    command: String,
    reads_percent: u8,
    keys: u64,
    keys_used: u64,
    distribution: String,
    slots: Option<String>,
    groups: Option<ActiveGroups>,
    value_size: String,
    /// The prefix of the keys of a run that is checked.
    checked_keys: Option<String>,
}

#[derive(Debug, Serialize)]
struct RunResult {
    measured_seconds: f64,
    offered_rate: Option<f64>,
    achieved_rate: f64,
    latency: Percentiles,
    service: Option<Percentiles>,
    totals: Totals,
    backlog_max: u64,
    gap: Gap,
    cluster: Option<ClusterFacts>,
    client: Option<Client>,
    achieved: Option<Achieved>,
    checked: Option<Checked>,
    servers: Option<ServerFigures>,
    interrupted_by: Option<i32>,
    has_given_up: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Client {
    cpu_seconds: f64,
    cpu_share: f64,
    waited_share: f64,
    /// Null if no operation succeeded.
    cpu_seconds_per_million: Option<f64>,
    is_bottleneck: bool,
}

/// The effective parameters and the host, as text.
pub fn preamble(plan: &Plan, keys_used: u64, host: &HostFacts) -> String {
    let parameters = Parameters::of(plan, keys_used);
    let autogroup = match host.autogroup {
        Some(true) => "on (keep servers and generator in one session)",
        Some(false) => "off",
        None => "unknown",
    };
    let load = host.load_average.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
    format!(
        "purlin-bench {version}\n\
         targets   {targets}\n\
         load      {load_line}\n\
         keys      {keys_line}\n\
         time      {time}, warm-up {warmup} s, time-out {timeout} s, seed {seed}\n\
         host      {cpu}, kernel {kernel}, cores {cores} ({allowed}), autogroup {autogroup}, load average {load}\n",
        version = parameters.bench_version,
        targets = parameters.target_line(),
        load_line = parameters.load(),
        keys_line = parameters.workload.key_space(),
        time = parameters.extent(),
        warmup = parameters.warmup_seconds,
        timeout = parameters.timeout_seconds,
        seed = parameters.seed,
        cpu = host.cpu,
        kernel = host.kernel,
        cores = host.cores,
        allowed = host.cores_allowed,
    )
}

/// The heading of the lines of the seconds.
pub const SECONDS_HEADING: &str =
    "        s      ops/s     p50 ms     p99 ms     max ms     errors    backlog";

/// One second, as text.
pub fn second_line(second: &Second) -> String {
    format!(
        "{:>9.1} {:>10.0} {:>10} {:>10} {:>10} {:>10} {:>10}{}",
        second.at,
        second.rate,
        millis(second.p50_nanos),
        millis(second.p99_nanos),
        millis(second.max_nanos),
        second.errors,
        second.backlog,
        if second.is_warmup { "  warm-up" } else { "" }
    )
}

/// One second in short, for the one who waits.
pub fn progress_line(second: &Second) -> String {
    format!(
        "{:.0} s: {:.0} a second, p50 {} ms, p99 {} ms, {} errors{}",
        second.at,
        second.rate,
        millis(second.p50_nanos),
        millis(second.p99_nanos),
        second.errors,
        if second.is_warmup { " (warm-up)" } else { "" }
    )
}

impl Report {
    /// Builds the report of a run.
    pub fn new(
        plan: &Plan,
        keys_used: u64,
        host: HostFacts,
        summary: &Summary,
        servers: Option<ServerFigures>,
    ) -> Self {
        let recorder = &summary.recorder;
        let measured_seconds = recorder.measured_nanos() as f64 / 1e9;
        let is_open = matches!(plan.driver.pace, Pace::Open { .. });
        let parameters = Parameters::of(plan, keys_used);
        let mut result = RunResult {
            measured_seconds,
            offered_rate: parameters.rate,
            achieved_rate: per_second(recorder.totals().succeeded_in_time, measured_seconds),
            latency: Percentiles::of(recorder.latency()),
            service: is_open.then(|| Percentiles::of(recorder.service())),
            totals: recorder.totals().clone(),
            backlog_max: summary.backlog_max,
            gap: recorder.gap(),
            cluster: summary.cluster.clone(),
            client: summary.cpu.as_ref().map(|cpu| Client::of(cpu, recorder.totals().succeeded)),
            achieved: None,
            checked: summary.checked.clone(),
            servers,
            interrupted_by: summary.signal,
            has_given_up: summary.has_given_up,
        };
        let has_limits = plan.limits.is_some();
        result.achieved = plan.limits.as_ref().and_then(|saved| result.beside(saved, plan));
        Self {
            version: 1,
            parameters,
            host,
            seconds: recorder.seconds().to_vec(),
            result,
            has_limits,
        }
    }

    /// The totals, as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write_rates(&mut text);
        self.write_latencies(&mut text);
        self.write_errors(&mut text);
        self.write_cluster(&mut text);
        self.write_client(&mut text);
        self.write_servers(&mut text);
        self.write_achieved(&mut text);
        self.write_checked(&mut text);
        text
    }

    /// Everything, as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings only")
    }

    fn write_rates(&self, text: &mut String) {
        let result = &self.result;
        let ended = match (result.interrupted_by, result.has_given_up) {
            (Some(_), _) => " (interrupted: partial results)",
            (None, true) => " (given up, since no operation succeeded any more: partial results)",
            (None, false) => "",
        };
        line(
            text,
            "total",
            &format!(
                "{} operations done in {:.2} s: {:.0} a second{ended}",
                result.totals.succeeded, result.measured_seconds, result.achieved_rate
            ),
        );
        if let Some(offered) = result.offered_rate {
            let share = 100.0 * result.achieved_rate / offered;
            line(text, "offered", &format!("{offered} a second; achieved {share:.1} % of it"));
            line(
                text,
                "backlog",
                &format!("at most {} operations due and not sent", result.backlog_max),
            );
        }
        if result.totals.misses > 0 {
            line(
                text,
                "misses",
                &format!("{} reads found nothing: write the key space first", result.totals.misses),
            );
        }
    }

    fn write_latencies(&self, text: &mut String) {
        let heading = ["p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "p99.99 ms", "max ms"];
        let heading = heading.iter().fold(String::new(), |all, name| format!("{all}{name:>11}"));
        let _ = writeln!(text, "{:<10}{heading}", "");
        line(text, "latency", &self.result.latency.row());
        if let Some(service) = &self.result.service {
            line(text, "service", &service.row());
            line(text, "", "latency runs from the intended time, service from the actual sending");
        }
    }

    fn write_errors(&self, text: &mut String) {
        let totals = &self.result.totals;
        let errors = totals.refused + totals.lost + totals.timed_out;
        line(text, "errors", &if errors == 0 { "none".to_owned() } else { errors.to_string() });
        for (word, class) in &totals.errors {
            line(text, "", &format!("{:>9}  {word}: {}", class.count, class.sample));
        }
        let others = [
            (totals.lost, "connection lost while they were under way"),
            (totals.timed_out, "no answer in time"),
            (totals.unsent, "due, and not sent before the end (their wait is in the latency)"),
            (totals.unknown, "unknown outcomes: writes that may or may not have been applied"),
        ];
        for (count, what) in others.iter().filter(|(count, _)| *count > 0) {
            line(text, "", &format!("{count:>9}  {what}"));
        }
        let Gap { nanos, from_nanos } = self.result.gap;
        line(
            text,
            "gap",
            &format!(
                "longest time without a success {} ms, from second {:.3}",
                millis(nanos),
                from_nanos as f64 / 1e9
            ),
        );
        if totals.unreached > 0 {
            let cluster = self.result.cluster.as_ref();
            let connections =
                cluster.map_or(self.parameters.clients, |cluster| cluster.connections);
            line(
                text,
                "warning",
                &format!(
                    "{} of {connections} connections could not be made at the start",
                    totals.unreached
                ),
            );
        }
        if let Some(why) = &totals.last_connection_error {
            line(
                text,
                "",
                &format!(
                    "{} connections ended, {} attempts failed; last: {why}",
                    totals.connections_lost, totals.connects_failed
                ),
            );
        }
    }

    fn write_cluster(&self, text: &mut String) {
        let Some(cluster) = &self.result.cluster else { return };
        let ClusterFacts { endpoints, ranges, endpoints_used, slots_used, connections, .. } =
            cluster;
        line(
            text,
            "cluster",
            &format!(
                "{endpoints} endpoints lead {ranges} ranges of slots; operations went to {endpoints_used} endpoints \
                 and {slots_used} slots, over {connections} connections"
            ),
        );
        line(
            text,
            "",
            &format!(
                "{} redirections; slots without an endpoint: {} at the end, {} at most; slots learnt {} times of {}",
                self.result.totals.redirected,
                cluster.slots_without_endpoint,
                cluster.slots_without_endpoint_max,
                cluster.inquiries_answered,
                cluster.inquiries
            ),
        );
    }

    fn write_achieved(&self, text: &mut String) {
        match &self.result.achieved {
            Some(achieved) => line(text, "limit", &achieved.text()),
            None if self.has_limits => {
                line(
                    text,
                    "limit",
                    "not compared: the limits are of SETs, and were not measured for this load",
                );
            }
            None => {}
        }
    }

    fn write_servers(&self, text: &mut String) {
        let lines = self.result.servers.iter().flat_map(ServerFigures::lines);
        for (at, figures) in lines.enumerate() {
            line(text, if at == 0 { "servers" } else { "" }, &figures);
        }
    }

    fn write_checked(&self, text: &mut String) {
        let Some(checked) = &self.result.checked else { return };
        line(text, "check", &checked.text());
        for violation in &checked.violations {
            let _ = writeln!(text, "\n{violation}");
        }
    }

    fn write_client(&self, text: &mut String) {
        let Some(client) = &self.result.client else { return };
        let per_million = client.cpu_seconds_per_million;
        let per_million =
            per_million.map(|seconds| format!(", {seconds:.2} s for a million operations"));
        line(
            text,
            "client",
            &format!(
                "{:.2} s of processor time ({:.0} % of one core){}, {:.0} % of the time waiting for a core",
                client.cpu_seconds,
                100.0 * client.cpu_share,
                per_million.unwrap_or_default(),
                100.0 * client.waited_share
            ),
        );
        if client.is_bottleneck {
            line(
                text,
                "warning",
                "the generator itself was the bottleneck: these figures say little about the server",
            );
        }
    }
}

impl Parameters {
    /// Those of a plan whose operations can use so many keys.
    pub fn of(plan: &Plan, keys_used: u64) -> Self {
        let driver = &plan.driver;
        let (rate, arrivals) = match driver.pace {
            Pace::Closed => (None, None),
            Pace::Open { rate, arrivals } => {
                (Some(rate), Some(format!("{arrivals:?}").to_lowercase()))
            }
        };
        let (duration_seconds, requests) = match driver.extent {
            Extent::Duration(duration) => (Some(duration.as_secs_f64()), None),
            Extent::Requests(count) => (None, Some(count)),
        };
        Self {
            bench_version: env!("CARGO_PKG_VERSION"),
            targets: plan.target_names.clone(),
            cluster: driver.cluster,
            clients: driver.clients,
            pipeline: driver.pipeline,
            rate,
            arrivals,
            workload: WorkloadParameters::of(&plan.workload, plan.groups, keys_used),
            duration_seconds,
            requests,
            warmup_seconds: driver.warmup.as_secs_f64(),
            timeout_seconds: driver.timeout.as_secs_f64(),
            seed: driver.seed,
        }
    }

    fn target_line(&self) -> String {
        let cluster = if self.cluster { " (servers of a cluster)" } else { "" };
        format!("{}{cluster}", self.targets.join(" "))
    }

    fn load(&self) -> String {
        let pace = match (self.rate, &self.arrivals) {
            (Some(rate), Some(arrivals)) => format!(
                "open loop, {rate} a second ({arrivals}) over {} clients, at most {} under way each",
                self.clients, self.pipeline
            ),
            _ => format!("closed loop, {} clients × pipeline {}", self.clients, self.pipeline),
        };
        let WorkloadParameters { command, value_size, reads_percent, .. } = &self.workload;
        format!("{pace}; {command} of {value_size} bytes, {reads_percent} % reads")
    }

    fn extent(&self) -> String {
        match (self.duration_seconds, self.requests) {
            (_, Some(count)) => format!("{count} operations"),
            (seconds, None) => format!("{} s", seconds.unwrap_or_default()),
        }
    }
}

impl WorkloadParameters {
    fn of(workload: &WorkloadConfig, groups: Option<ActiveGroups>, keys_used: u64) -> Self {
        let is_get = workload.command == Command::Get;
        Self {
            command: workload.command.to_string(),
            reads_percent: if is_get { 100 } else { workload.reads_percent },
            keys: workload.keys,
            keys_used,
            distribution: workload.distribution.to_string(),
            slots: workload.slots.as_ref().map(ToString::to_string),
            groups,
            value_size: workload.value_size.to_string(),
            checked_keys: workload.checked.clone(),
        }
    }

    fn key_space(&self) -> String {
        let slots = self.slots.as_ref();
        let slots = slots.map(|slots| format!("; {} of them in slots {slots}", self.keys_used));
        let own = self.checked_keys.as_ref();
        let own = own.map(|prefix| format!("; new ones, {prefix}*, for the check"));
        let groups = self.groups.as_ref();
        let groups = groups.map(|it| format!(", which {} of {} groups own", it.active, it.all));
        let more = [slots, groups, own].map(Option::unwrap_or_default).concat();
        format!("{}, {}{more}", self.keys, self.distribution)
    }
}

impl RunResult {
    /// The result beside the limits. `None` if they do not speak of such a load.
    fn beside(&self, saved: &SavedLimits, plan: &Plan) -> Option<Achieved> {
        let workload = &plan.workload;
        if workload.command != Command::Set || workload.reads_percent > 0 {
            return None;
        }
        let load = Load {
            clients: plan.driver.clients,
            pipeline: plan.driver.pipeline,
            value_bytes: usize::midpoint(workload.value_size.min, workload.value_size.max),
            ..saved.load
        };
        Achieved::of(saved, load, self.achieved_rate, self.latency.p50).ok()
    }
}

impl Client {
    fn of(cpu: &CpuMeter, succeeded: u64) -> Self {
        Self {
            cpu_seconds: cpu.used,
            cpu_share: cpu.share_used(),
            waited_share: cpu.share_waited(),
            cpu_seconds_per_million: (succeeded > 0).then(|| cpu.used * 1e6 / succeeded as f64),
            is_bottleneck: cpu.is_bottleneck(),
        }
    }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn line(text: &mut String, name: &str, rest: &str) {
    let _ = writeln!(text, "{name:<10}{rest}");
}
