//! What the servers say of themselves before and after a run: the work that an operation has cost them.
//!
//! ```text
//! INFO of a target ─► purlin_admin ─► RAFT MEMBERS ─► RAFT STATUS of each node   durable writes, bytes of the log
//!                 └─► used_cpu_user, used_cpu_sys; without them /proc of a process on this machine
//! ```
//!
//! A server that is no Purlin tells its processor time at most. What cannot be learnt is left out, and stops no run. The
//! counters run from before the warm-up until after the last reply, so they are compared with all operations of that time.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ask::ask;
use crate::slots::{SLOTS, SlotRanges};

/// So many servers are asked at most.
const NODES_MAX: usize = 64;
/// Servers that are silent are asked for so long together, and one more second.
const TAKE_MAX: Duration = Duration::from_secs(2);
/// How long to wait after a run until each shard has published its counters anew.
const SETTLE_MAX: Duration = Duration::from_millis(500);

/// The groups that a load uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ActiveGroups {
    /// Groups whose keys are drawn: the first ones.
    pub active: u32,
    /// Groups that there are.
    pub all: u32,
}

impl ActiveGroups {
    /// The slots of the active groups. Group g of G owns the slots from (g-1)·16384/G up to, and without, g·16384/G.
    ///
    /// # Errors
    /// There are fewer groups than shall be active.
    pub fn slots(self) -> Result<SlotRanges, String> {
        let Self { active, all } = self;
        let end = u64::from(active) * u64::from(SLOTS) / u64::from(all.max(1));
        if active > all || end == 0 {
            return Err(format!("--active-groups {active}: the servers have {all} groups"));
        }
        format!("0-{}", end - 1).parse()
    }
}

/// How many groups the servers have, as the first one says that answers.
///
/// # Errors
/// None answers, or the one that answers does not say it. The text has the last reason.
pub fn groups(targets: &[SocketAddr]) -> Result<u32, String> {
    let mut why = String::new();
    for &target in targets {
        match ask(target, &["INFO"]) {
            Ok(info) => {
                let groups = field(&info, "purlin_groups").and_then(|groups| groups.parse().ok());
                return groups
                    .ok_or_else(|| format!("{target} does not say purlin_groups in INFO"));
            }
            Err(error) => why = format!("{target}: {error}"),
        }
    }
    Err(why)
}

/// The counters of all servers at one time.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    /// By their addresses: of a node of Purlin that of its admin port.
    servers: BTreeMap<SocketAddr, Counters>,
}

/// The counters of one server, since it started.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counters {
    /// Another process has other counters.
    process: Option<u64>,
    cpu_seconds: Option<f64>,
    log: Option<Log>,
    /// How often the shards have published their counters, the least of them.
    beat: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Log {
    durable_writes: u64,
    bytes: u64,
}

/// What the servers did for the operations of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerFigures {
    /// Servers whose counters are known.
    pub servers: usize,
    /// Servers among them that told of their logs.
    pub logs: usize,
    /// All operations that succeeded, with those of the warm-up.
    pub operations: u64,
    /// Durable writes of the logs a second, on all servers. Where writes are durable by themselves, these are batches.
    pub syncs_per_second: Option<f64>,
    /// Operations that share a durable write of a log. Each operation is in the logs of all servers.
    pub operations_per_sync: Option<f64>,
    /// Bytes that the logs of all servers wrote for an operation.
    pub log_bytes_per_operation: Option<f64>,
    /// Processor time of all servers for a million operations, in seconds.
    pub cpu_seconds_per_million: Option<f64>,
}

impl Sample {
    /// Asks all servers that the targets know.
    pub fn take(targets: &[SocketAddr]) -> Self {
        let at = Instant::now();
        let mut servers = BTreeMap::new();
        let has_time = || at.elapsed() < TAKE_MAX;
        for &target in targets.iter().take(NODES_MAX).take_while(|_| has_time()) {
            let Ok(info) = ask(target, &["INFO"]) else { continue };
            match admins(target, &info) {
                None => {
                    servers.insert(target, Counters::of_info(target, &info));
                }
                // One node knows all.
                Some(admins) => {
                    let counters = |admin| Some((admin, Counters::of_node(admin)?));
                    let admins = admins.into_iter().take(NODES_MAX).take_while(|_| has_time());
                    servers.extend(admins.filter_map(counters));
                    break;
                }
            }
        }
        Self { at, servers }
    }

    /// The same after a run, when each shard has published its counters once more, or after half a second.
    pub fn take_settled(targets: &[SocketAddr]) -> Self {
        let first = Self::take(targets);
        let mut latest = first.clone();
        let is_older = |latest: &Self| {
            let has_more = |(address, latest): (&SocketAddr, &Counters)| {
                let first = first.servers.get(address);
                first.is_some_and(|first| first.log.is_some() && latest.beat <= first.beat)
            };
            latest.servers.iter().any(has_more)
        };
        while is_older(&latest) && first.at.elapsed() < SETTLE_MAX {
            latest = Self::take(targets);
        }
        // The time of the load is over since the first one.
        Self { at: first.at, servers: latest.servers }
    }

    /// What was done between this sample and a later one, in which `operations` succeeded. `None` if no server is in both.
    pub fn until(&self, later: &Self, operations: u64) -> Option<ServerFigures> {
        let same = |(address, now): (&SocketAddr, &Counters)| {
            let before = self.servers.get(address)?;
            // In containers each process of a server has the same id, and begins to count anew.
            (before.process == now.process && !now.went_back(before))
                .then(|| (before.clone(), now.clone()))
        };
        let pairs: Vec<_> = later.servers.iter().filter_map(same).collect();
        let logs: Vec<_> = pairs.iter().filter_map(|(one, other)| one.log.zip(other.log)).collect();
        let cpu =
            pairs.iter().filter_map(|(one, other)| Some(other.cpu_seconds? - one.cpu_seconds?));
        let cpu: Vec<f64> = cpu.collect();
        let seconds = (later.at - self.at).as_secs_f64();
        let count = operations as f64;
        let syncs = logs
            .iter()
            .map(|(one, other)| other.durable_writes.saturating_sub(one.durable_writes))
            .sum::<u64>();
        let bytes =
            logs.iter().map(|(one, other)| other.bytes.saturating_sub(one.bytes)).sum::<u64>();
        let known = |is_known: bool, value: f64| is_known.then_some(value);
        let (has_logs, has_operations) = (!logs.is_empty(), operations > 0);
        (!pairs.is_empty()).then(|| ServerFigures {
            servers: pairs.len(),
            logs: logs.len(),
            operations,
            syncs_per_second: known(has_logs && seconds > 0.0, syncs as f64 / seconds),
            operations_per_sync: known(syncs > 0, count * logs.len() as f64 / syncs as f64),
            log_bytes_per_operation: known(has_logs && has_operations, bytes as f64 / count),
            cpu_seconds_per_million: known(
                has_operations && cpu.len() == pairs.len(),
                cpu.iter().sum::<f64>() * 1e6 / count,
            ),
        })
    }
}

/// The admin ports of all nodes; `None` if the target is no node of Purlin.
fn admins(target: SocketAddr, info: &str) -> Option<Vec<SocketAddr>> {
    let own = resolve(field(info, "purlin_admin")?)?;
    let Ok(members) = ask(own, &["RAFT", "MEMBERS"]) else { return Some(vec![own]) };
    let members: Members = serde_json::from_str(&members).unwrap_or_default();
    // A port that only its own machine reaches is one of this machine, if the target is here.
    let is_reached = |member: &&Member| !member.admin_is_local || target.ip().is_loopback();
    let others = members.members.iter().filter(is_reached);
    let others = others.filter_map(|member| resolve(member.admin.as_ref()?));
    Some([own].into_iter().chain(others.filter(|&other| other != own)).collect())
}

impl Counters {
    /// Whether a count is lower than `before`, so that another process has begun to count.
    fn went_back(&self, before: &Self) -> bool {
        let log = |counters: &Self| counters.log.map(|log| (log.durable_writes, log.bytes));
        let is_less = |one: Option<(u64, u64)>, other: Option<(u64, u64)>| {
            one.zip(other).is_some_and(|(one, other)| one.0 < other.0 || one.1 < other.1)
        };
        let cpu = self.cpu_seconds.zip(before.cpu_seconds);
        self.beat < before.beat
            || cpu.is_some_and(|(now, before)| now < before)
            || is_less(log(self), log(before))
    }

    /// What `INFO` of a server says.
    fn of_info(address: SocketAddr, info: &str) -> Self {
        let number = |name| field(info, name).and_then(|text| text.parse::<f64>().ok());
        let process = field(info, "process_id").and_then(|text| text.parse().ok());
        let told = number("used_cpu_user").zip(number("used_cpu_sys"));
        let here = || process.filter(|_| address.ip().is_loopback()).and_then(cpu_seconds_of);
        let cpu_seconds = told.map(|(user, system)| user + system).or_else(here);
        Self { process, cpu_seconds, log: None, beat: 0 }
    }

    /// What a node of Purlin says at its admin port and its gateway.
    fn of_node(admin: SocketAddr) -> Option<Self> {
        let status: Status = serde_json::from_str(&ask(admin, &["RAFT", "STATUS"]).ok()?).ok()?;
        let gateway = resolve(&status.gateway);
        let info = gateway.and_then(|gateway| ask(gateway, &["INFO"]).ok());
        let process = format!("process_id:{}", status.process);
        let counters = Self::of_info(admin, info.as_deref().unwrap_or(&process));
        let mut log = Log::default();
        for Shard { wal, .. } in &status.shards {
            log.durable_writes += if wal.syncs > 0 { wal.syncs } else { wal.batches };
            log.bytes += wal.written_bytes;
        }
        let beat = status.shards.iter().map(|shard| shard.beat).min().unwrap_or(0);
        Some(Self { process: Some(status.process), log: Some(log), beat, ..counters })
    }
}

/// The fields of `RAFT MEMBERS` that are read.
#[derive(Debug, Default, Deserialize)]
struct Members {
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    admin: Option<String>,
    admin_is_local: bool,
}

/// The fields of `RAFT STATUS` that are read.
#[derive(Debug, Deserialize)]
struct Status {
    process: u64,
    gateway: String,
    shards: Vec<Shard>,
}

#[derive(Debug, Deserialize)]
struct Shard {
    beat: u64,
    wal: Wal,
}

#[derive(Debug, Deserialize)]
struct Wal {
    written_bytes: u64,
    batches: u64,
    syncs: u64,
}

/// The value of a line `name:value` of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let fields = info.lines().filter_map(|line| line.split_once(':'));
    fields.filter(|(field, _)| *field == name).map(|(_, value)| value.trim()).next()
}

fn resolve(address: &str) -> Option<SocketAddr> {
    address.to_socket_addrs().ok()?.next()
}

/// The processor time of a process of this machine.
fn cpu_seconds_of(process: u64) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

impl ServerFigures {
    /// Lines for people.
    pub fn lines(&self) -> Vec<String> {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.digits$}"))
        };
        let cpu = number(self.cpu_seconds_per_million, 2);
        let mut lines = vec![format!(
            "{}: {cpu} s of processor time for a million operations, warm-up included",
            counted(self.servers, "server")
        )];
        if self.logs > 0 {
            lines.push(format!(
                "{}: {} syncs a second in all, {} operations a sync of a log, {} bytes of all logs an operation",
                counted(self.logs, "log"),
                number(self.syncs_per_second, 0),
                number(self.operations_per_sync, 1),
                number(self.log_bytes_per_operation, 0)
            ));
        }
        lines
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_groups_own_the_first_slots() {
        let slots =
            |active, all| ActiveGroups { active, all }.slots().map(|slots| slots.to_string());
        assert_eq!(slots(1, 48).unwrap(), "0-340");
        assert_eq!(slots(16, 48).unwrap(), "0-5460");
        assert_eq!(slots(48, 48).unwrap(), "0-16383");
        assert_eq!(slots(1, 16_384).unwrap(), "0-0");
        assert!(slots(49, 48).unwrap_err().contains("48 groups"));
        assert!(slots(1, 0).is_err());
    }

    fn sample(at: Instant, process: u64, cpu: f64, log: Option<(u64, u64)>) -> Sample {
        let log = log.map(|(durable_writes, bytes)| Log { durable_writes, bytes });
        let counters = Counters { process: Some(process), cpu_seconds: Some(cpu), log, beat: 0 };
        let servers =
            (1..=3).map(|port| (SocketAddr::from(([127, 0, 0, 1], port)), counters.clone()));
        Sample { at, servers: servers.collect() }
    }

    #[test]
    fn what_an_operation_costs_is_the_difference_by_the_operations() {
        let (start, end) = (Instant::now(), Instant::now() + Duration::from_secs(10));
        let before = sample(start, 7, 1.0, Some((100, 1_000)));
        let figures = before.until(&sample(end, 7, 2.0, Some((1_100, 601_000))), 10_000).unwrap();
        assert_eq!((figures.servers, figures.logs), (3, 3));
        let near = |value: Option<f64>, wanted: f64| (value.unwrap() / wanted - 1.0).abs() < 1e-3;
        assert!(near(figures.syncs_per_second, 300.0), "{figures:?}");
        assert!(near(figures.operations_per_sync, 10.0), "{figures:?}");
        assert!(near(figures.log_bytes_per_operation, 180.0), "{figures:?}");
        assert!(near(figures.cpu_seconds_per_million, 300.0), "{figures:?}");
        // Without an operation nothing is a cost of one.
        let idle = before.until(&sample(end, 7, 2.0, Some((100, 1_000))), 0).unwrap();
        assert_eq!((idle.operations_per_sync, idle.cpu_seconds_per_million), (None, None));
    }

    #[test]
    fn a_server_that_started_anew_is_left_out_and_one_without_a_log_has_processor_time() {
        let now = Instant::now();
        let before = sample(now, 7, 1.0, None);
        assert_eq!(before.until(&sample(now, 8, 2.0, None), 10), None);
        let figures = before.until(&sample(now, 7, 2.0, None), 10).unwrap();
        assert_eq!((figures.logs, figures.syncs_per_second), (0, None));
        assert_eq!(figures.cpu_seconds_per_million, Some(300_000.0));
        assert_eq!(figures.lines().len(), 1);
    }

    #[test]
    fn processor_time_is_told_by_the_server_or_by_this_machine() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let told = "# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:2.5\r\nprocess_id:1\r\n";
        assert_eq!(Counters::of_info(address, told).cpu_seconds, Some(4.0));
        let this = format!("process_id:{}\r\n", std::process::id());
        assert!(Counters::of_info(address, &this).cpu_seconds.is_some());
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 1));
        assert_eq!(Counters::of_info(elsewhere, &this).cpu_seconds, None);
    }
}
