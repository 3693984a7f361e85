//! The command line: its options and their meaning.
//!
//! All options are checked here, before anything is sent. A mistake ends the program with exit code
//! 2 and a text that says what is right. The result is a [`Plan`], which can be run as it is.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};

use crate::driver::{DriverConfig, Extent, Pace};
use crate::fingerprint::HEAD_BYTES;
use crate::in_process::options::InProcessOptions;
use crate::keys::{Distribution, KEYS_MAX};
use crate::limits::LimitsOptions;
use crate::limits::report::SavedLimits;
use crate::schedule::{Arrivals, RATE_MAX};
use crate::servers::ActiveGroups;
use crate::slots::SlotRanges;
use crate::sweep::options::{Criteria, SweepOptions};
use crate::times::duration;
use crate::workload::{Command, ValueSize, WorkloadConfig};

const EXAMPLES: &str = "\
Examples:
  purlin-bench -p 7000                                       saturate one server: 64 clients, 10 s
  purlin-bench -p 7000 -p 7100 -p 7200 --pipeline 16         clients spread over three nodes
  purlin-bench -p 7000 --rate 20000 --duration 30s           latency at a given load (open loop)
  purlin-bench -p 7000 --requests 100000 --distribution sequential --value-size 16
                                                             write every key once
  purlin-bench -p 7101 --cluster --pipeline 16               each operation to the shard that leads its slot
  purlin-bench -p 7000 --reads 90 --distribution zipf        nine reads to one write, few hot keys
  purlin-bench -p 7000 --sweep --sweep-p99 20ms              the highest rate whose p99 stays below 20 ms
  purlin-bench -p 7000 --check --keys 100 --reads 50         are the answers linearizable?
  purlin-bench limits                                        what this machine can do, without a server
  purlin-bench in-process --dir target                       what the engine can do: three nodes in one process

Exit codes: 0 done, 1 nothing succeeded, or no rate of a sweep passed, or --check had nothing to compare, or with --requests nothing succeeded for 30 s, 2 wrong usage, 7 no server reached,
or with --cluster no slots learnt (nothing was sent), 8 with --check the answers are not linearizable, 130 and 143 interrupted or terminated (partial results are printed).";

/// A load generator for servers that speak the Redis protocol.
///
/// Closed loop by default: each client sends again when it has its replies. With --rate an open loop:
/// operations start on a schedule of their own, latency is measured from the intended time, and none
/// is skipped, so that a server that stalls cannot hide it.
#[derive(Clone, Debug, Parser)]
#[command(name = "purlin-bench", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Options {
    /// Something else than a load.
    #[command(subcommand)]
    pub instead: Option<Instead>,

    /// A server: HOST:PORT, HOST or PORT. May be given several times; clients are spread over them
    #[arg(long, value_name = "ADDR")]
    pub target: Vec<String>,

    /// A server on this machine, short for --target 127.0.0.1:PORT. May be given several times
    #[arg(short, long, value_name = "PORT")]
    pub port: Vec<u16>,

    /// The servers are those of a cluster: ask one of them which endpoint leads which slot (CLUSTER SLOTS), send each
    /// operation to the endpoint of its key, and follow MOVED. Each client has a connection to each endpoint
    #[arg(long)]
    pub cluster: bool,

    /// How operations are sent.
    #[command(flatten)]
    pub load: LoadOptions,

    /// Whether the rate grows.
    #[command(flatten)]
    pub sweep: SweepOptions,

    /// What they are.
    #[command(flatten)]
    pub workload: WorkloadOptions,

    /// How long it takes.
    #[command(flatten)]
    pub times: TimeOptions,

    /// The seed of the sequence of operations: an equal seed gives equal operations [default: another
    /// one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Write the result as JSON to this file; `-` is standard output, and the text goes to standard error
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the latencies of each second to this file, as an interval log of HdrHistogram
    #[arg(long, value_name = "FILE")]
    pub hdr_log: Option<PathBuf>,

    /// Print a line each second to standard error. Without this, only if that is a terminal and the seconds of the
    /// report are not printed to one
    #[arg(long)]
    pub progress: bool,

    /// Check that what the clients were told is linearizable. The run has keys of its own (check:...), which stay behind,
    /// and a value of its own for each write, of at least 12 bytes. Checked are the first 1024 keys, which zipf and hot prefer:
    /// 4096 operations of each, and 500000 of all, at most, which take 48 MiB; so give few --keys. Needs reads, as in --reads 50, or INCR
    #[arg(long)]
    pub check: bool,

    /// Print how near the result comes to the limits of this machine, which `purlin-bench limits --json FILE`
    /// has measured
    #[arg(long, value_name = "FILE")]
    pub limits: Option<PathBuf>,
}

/// What the command does in the place of a load.
#[derive(Clone, Debug, Subcommand)]
pub enum Instead {
    /// Measure what this machine can do, without a server, and what it allows for a load of SETs
    ///
    /// Syncs of the disk (O_DSYNC and fdatasync, sizes × depths × writers), TCP on loopback, and parts of
    /// a write on one core. From them the lower bound of latency and the upper bound of throughput. Takes about 15 s.
    Limits(LimitsOptions),
    /// Measure the engine without a server: three nodes in this process, and commands on the cores of their shards
    ///
    /// Each command is durable on two of the three nodes before it counts. One caller on each shard keeps its share of the
    /// commands under way, for the groups that the shard leads. Prints commands a second, latencies and processor time.
    InProcess(InProcessOptions),
}

/// How operations are sent.
#[derive(Clone, Debug, Args)]
pub struct LoadOptions {
    /// How many connections, 1 to 50000; with --cluster clients, of which each has a connection to each endpoint,
    /// 50000 connections at most
    #[arg(short, long, value_name = "N", default_value_t = 64)]
    pub clients: usize,

    /// Closed loop: how many operations a connection sends in one write [default: 1]. Open loop: how many
    /// operations of a connection (with --cluster: of a client) may wait for their replies [default: 64]
    #[arg(short = 'P', long, value_name = "N")]
    pub pipeline: Option<usize>,

    /// Open loop: operations a second over all connections, above 0 and at most 10000000
    #[arg(short, long, value_name = "OPS")]
    pub rate: Option<f64>,

    /// Open loop: how the intervals between operations are drawn
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub arrivals: Arrivals,
}

/// What the operations are.
#[derive(Clone, Debug, Args)]
pub struct WorkloadOptions {
    /// The command of the writes
    #[arg(long, value_enum, default_value_t = Command::Set)]
    pub command: Command,

    /// Of a hundred operations, how many are GET
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub reads: u8,

    /// A named mix instead of --command, --reads and --distribution:
    /// write, read, mixed:PERCENT-OF-READS, incr, append, hot-key
    #[arg(long = "workload", value_name = "NAME", conflicts_with_all = ["command", "reads", "distribution"])]
    pub mix: Option<Mix>,

    /// How many keys there are
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    pub keys: u64,

    /// How operations spread over the keys: uniform, zipf (or zipf:EXPONENT), sequential,
    /// hot (nine of ten go to one key in a hundred)
    #[arg(long, value_name = "NAME", default_value_t = Distribution::Uniform)]
    pub distribution: Distribution,

    /// Only keys whose hash slot lies in these ranges, as in 0-5460,10923
    #[arg(long, value_name = "RANGES")]
    pub slots: Option<SlotRanges>,

    /// Only keys of the first N groups of a Purlin cluster. A target tells how many groups there are
    #[arg(long, value_name = "N", conflicts_with = "slots", value_parser = clap::value_parser!(u32).range(1..))]
    pub active_groups: Option<u32>,

    /// Bytes of a value, or a range of them as in 16-1024; 8388608 at most
    #[arg(short = 'd', long, value_name = "BYTES", default_value_t = ValueSize { min: 16, max: 16 })]
    pub value_size: ValueSize,
}

/// How long a run takes, and its parts.
#[derive(Clone, Debug, Args)]
pub struct TimeOptions {
    /// How long to measure, as in 30s, 500ms, 2m [default: 10s; each run of a sweep 5s]
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "requests")]
    pub duration: Option<Duration>,

    /// Measure so many operations instead of a time
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,

    /// How long to run before the measurement [default: 1s; none with --requests]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub warmup: Option<Duration>,

    /// Give up an operation after this time, at most 60s, and close its connection
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub timeout: Duration,
}

/// A run, checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers as the user named them.
    pub target_names: Vec<String>,
    /// How operations are sent.
    pub driver: DriverConfig,
    /// How the intervals of an open loop are drawn.
    pub arrivals: Arrivals,
    /// The criteria of a sweep, if it is one. Its first rate is in `driver`.
    pub sweep: Option<Criteria>,
    /// What they are.
    pub workload: WorkloadConfig,
    /// How many groups shall have keys; all of them without a number. See [`Plan::draw_from`].
    pub active: Option<u32>,
    /// The groups that have keys, when they are known.
    pub groups: Option<ActiveGroups>,
    /// Where the JSON goes.
    pub json: Option<PathBuf>,
    /// Where the interval log goes.
    pub hdr_log: Option<PathBuf>,
    /// Whether a line is printed each second in each case.
    pub progress: bool,
    /// The limits of the machine, measured before.
    pub limits: Option<SavedLimits>,
}

/// The most memory for requests that wait to be written.
const BUFFERED_BYTES_MAX: u128 = 1 << 30;
/// The bytes of a request beside its value.
const REQUEST_BYTES: usize = 128;
/// The longest `--timeout`: latencies are kept up to one minute.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// How long a run of a number of operations goes on without a success; not shorter than `--timeout`.
const GIVE_UP: Duration = Duration::from_secs(30);
const CLIENTS_MAX: usize = 50_000;

impl Plan {
    /// The servers have so many groups: draws keys of the active ones only.
    ///
    /// # Errors
    /// There are fewer groups than shall be active.
    pub fn draw_from(&mut self, all: u32) -> Result<(), String> {
        let groups = ActiveGroups { active: self.active.unwrap_or(all), all };
        self.workload.slots = Some(groups.slots()?);
        self.groups = Some(groups);
        Ok(())
    }
}

impl Options {
    /// Checks what the types cannot check, and resolves the names of the servers.
    ///
    /// # Errors
    /// The text says what is wrong and what is right.
    pub fn plan(self) -> Result<Plan, String> {
        self.check()?;
        let sweep = self.sweep.criteria(RATE_MAX)?;
        let target_names = self.target_names();
        let targets = target_names.iter().map(|name| resolve(name)).collect::<Result<_, _>>()?;
        let arrivals = self.load.arrivals;
        let pace = match self.load.rate.or(sweep.map(|criteria| criteria.start)) {
            Some(rate) => Pace::Open { rate, arrivals },
            None => Pace::Closed,
        };
        let (extent, warmup) = match (self.times.requests, self.times.duration) {
            (Some(count), _) => (Extent::Requests(count), Duration::ZERO),
            (None, duration) => (
                Extent::Duration(duration.unwrap_or(self.usual_duration())),
                Duration::from_secs(1),
            ),
        };
        let seed = self.seed.unwrap_or_else(seed_of_the_moment);
        let driver = DriverConfig {
            targets,
            cluster: self.cluster,
            clients: self.load.clients,
            pipeline: self.pipeline_depth(),
            pace,
            extent,
            warmup: self.times.warmup.unwrap_or(warmup),
            timeout: self.times.timeout,
            reach: Duration::from_secs(2),
            give_up: GIVE_UP.max(self.times.timeout),
            seed,
        };
        let mut workload = self.workload.config(seed);
        workload.checked = self.check.then(keys_of_the_moment);
        let limits = self.limits.as_deref().map(saved_limits).transpose()?;
        let active = self.workload.active_groups;
        Ok(Plan {
            target_names,
            driver,
            arrivals,
            sweep,
            workload,
            active,
            groups: None,
            json: self.json,
            hdr_log: self.hdr_log,
            progress: self.progress,
            limits,
        })
    }

    fn check(&self) -> Result<(), String> {
        if self.target.is_empty() && self.port.is_empty() {
            return Err("no server is named: say -p PORT or --target HOST:PORT".to_owned());
        }
        if !(1..=CLIENTS_MAX).contains(&self.load.clients) {
            return Err(format!(
                "--clients {} is not within 1 to {CLIENTS_MAX}",
                self.load.clients
            ));
        }
        if self.pipeline_depth() == 0 {
            return Err("--pipeline 0 would send nothing: say 1 or more".to_owned());
        }
        if self.load.rate.is_some_and(|rate| !(rate > 0.0 && rate <= RATE_MAX)) {
            return Err(format!("--rate must be above 0 and at most {RATE_MAX}"));
        }
        if self.times.timeout.is_zero() || self.times.timeout > TIMEOUT_MAX {
            return Err("--timeout must be above 0 and at most 60s".to_owned());
        }
        if self.times.duration.is_some_and(|duration| duration.is_zero()) {
            return Err("--duration 0 would measure nothing: say 1s or more".to_owned());
        }
        if self.check {
            self.workload.check()?;
        }
        let bytes = self.load.clients as u128
            * self.pipeline_depth() as u128
            * (self.workload.value_size.max + REQUEST_BYTES) as u128;
        if bytes > BUFFERED_BYTES_MAX {
            return Err(format!(
                "clients × pipeline × value size may need {} MiB at once, and may need 1024 MiB at most",
                bytes >> 20
            ));
        }
        Ok(())
    }

    fn usual_duration(&self) -> Duration {
        Duration::from_secs(if self.sweep.sweep { 5 } else { 10 })
    }

    fn pipeline_depth(&self) -> usize {
        let is_open = self.load.rate.is_some() || self.sweep.sweep;
        self.load.pipeline.unwrap_or(if is_open { 64 } else { 1 })
    }

    fn target_names(&self) -> Vec<String> {
        let local = self.port.iter().map(|port| format!("127.0.0.1:{port}"));
        self.target.iter().map(|name| with_port(name)).chain(local).collect()
    }
}

impl WorkloadOptions {
    /// Whether a run of it can be checked.
    fn check(&self) -> Result<(), String> {
        let WorkloadConfig { command, reads_percent, value_size, .. } = self.config(0);
        match command {
            Command::Incr => Ok(()),
            Command::Set if !(1..100).contains(&reads_percent) => Err(
                "--check sees a SET by a GET: give both, as in --reads 50, or say --command incr"
                    .to_owned(),
            ),
            Command::Set if value_size.min < HEAD_BYTES => Err(format!(
                "--check begins each value with a number of {HEAD_BYTES} digits: give a --value-size of \
                 {HEAD_BYTES} or more"
            )),
            Command::Set => Ok(()),
            Command::Get | Command::Append => {
                Err("--check knows SET with GET, and INCR: give --command set or --command incr"
                    .to_owned())
            }
        }
    }

    fn config(&self, seed: u64) -> WorkloadConfig {
        let mix = self.mix.unwrap_or(Mix {
            command: self.command,
            reads_percent: self.reads,
            distribution: self.distribution,
        });
        WorkloadConfig {
            command: mix.command,
            reads_percent: mix.reads_percent,
            keys: self.keys,
            distribution: mix.distribution,
            slots: self.slots.clone(),
            value_size: self.value_size,
            seed,
            checked: None,
        }
    }
}

/// A named mix of operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    command: Command,
    reads_percent: u8,
    distribution: Distribution,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mix = |command, reads_percent, distribution| {
            Ok(Self { command, reads_percent, distribution })
        };
        match name {
            "write" => mix(Command::Set, 0, Distribution::Uniform),
            "read" => mix(Command::Get, 100, Distribution::Uniform),
            "incr" => mix(Command::Incr, 0, Distribution::Uniform),
            "append" => mix(Command::Append, 0, Distribution::Uniform),
            "hot-key" => mix(Command::Set, 50, Distribution::Hot),
            _ => match name.strip_prefix("mixed:").and_then(|percent| percent.parse().ok()) {
                Some(percent @ 0..=100) => mix(Command::Set, percent, Distribution::Uniform),
                _ => Err(format!(
                    "`{name}` is none of write, read, mixed:0 to mixed:100, incr, append, hot-key"
                )),
            },
        }
    }
}

fn saved_limits(path: &Path) -> Result<SavedLimits, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|text| SavedLimits::parse(&text)).map_err(|why| {
        let path = path.display();
        format!("--limits {path}: {why}; make the file with `purlin-bench limits --json {path}`")
    })
}

/// `7000`, `host` and `host:7000` are all addresses; the port of Redis is the default.
fn with_port(name: &str) -> String {
    if name.parse::<u16>().is_ok() {
        format!("127.0.0.1:{name}")
    } else if name.contains(':') {
        name.to_owned()
    } else {
        format!("{name}:6379")
    }
}

fn resolve(name: &str) -> Result<SocketAddr, String> {
    let addresses =
        name.to_socket_addrs().map_err(|error| format!("no address for `{name}`: {error}"))?;
    // Most servers with addresses of both families listen on IPv4.
    let mut addresses: Vec<SocketAddr> = addresses.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| format!("no address for `{name}`"))
}

fn micros_of_the_moment() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64
}

/// The prefix of keys that no run before has written: 20 bytes.
fn keys_of_the_moment() -> String {
    format!("check:{:013x}:", micros_of_the_moment() & 0xf_ffff_ffff_ffff)
}

fn seed_of_the_moment() -> u64 {
    // The seed is short, so that a user can type it again.
    micros_of_the_moment() % 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("purlin-bench").chain(line.split_whitespace());
        Options::try_parse_from(words).map_err(|error| error.to_string())?.plan()
    }

    #[test]
    fn the_help_names_the_limits_with_their_numbers() {
        use crate::check::notes::{KEY_OPERATIONS_MAX, OPERATIONS_MAX};
        use crate::cluster::CONNECTIONS_MAX;
        use crate::sweep::options::{TAIL_SHARE, TAIL_TIME_MAX};
        use crate::workload::{SAMPLED_KEYS_MAX, VALUE_BYTES_MAX};
        use clap::CommandFactory;
        let help = Options::command().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for limit in [
            format!("1 to {CLIENTS_MAX}"),
            format!("at most {RATE_MAX}"),
            format!("at most {}s", TIMEOUT_MAX.as_secs()),
            format!("{VALUE_BYTES_MAX} at most"),
            format!("{CONNECTIONS_MAX} connections at most"),
            format!("at least {HEAD_BYTES} bytes"),
            format!("at {:.0} % of the knee", 100.0 * TAIL_SHARE),
            format!("but {} s at most", TAIL_TIME_MAX.as_secs()),
            format!("first {SAMPLED_KEYS_MAX} keys"),
            format!("{KEY_OPERATIONS_MAX} operations of each, and {OPERATIONS_MAX} of all"),
        ] {
            assert!(help.contains(&limit), "{limit}: {help}");
        }
    }

    #[test]
    fn a_port_is_enough() {
        assert!(plan("-p 7000 --cluster").unwrap().driver.cluster);
        let plan = plan("-p 7000").unwrap();
        assert!(!plan.driver.cluster);
        assert_eq!(plan.driver.targets, ["127.0.0.1:7000".parse::<SocketAddr>().unwrap()]);
        assert_eq!((plan.driver.clients, plan.driver.pipeline), (64, 1));
        assert!(matches!(plan.driver.pace, Pace::Closed));
        assert!(
            matches!(plan.driver.extent, Extent::Duration(time) if time == Duration::from_secs(10))
        );
        assert_eq!(plan.driver.warmup, Duration::from_secs(1));
    }

    #[test]
    fn addresses_have_short_forms() {
        assert_eq!(with_port("7000"), "127.0.0.1:7000");
        assert_eq!(with_port("db1"), "db1:6379");
        assert_eq!(with_port("[::1]:7000"), "[::1]:7000");
        let plan = plan("--target 127.0.0.1:7000 --target 7100 -p 7200").unwrap();
        assert_eq!(plan.target_names, ["127.0.0.1:7000", "127.0.0.1:7100", "127.0.0.1:7200"]);
    }

    #[test]
    fn a_rate_makes_an_open_loop() {
        let plan = plan("-p 1 --rate 0.5 --arrivals uniform -n 10").unwrap();
        assert!(matches!(plan.driver.pace, Pace::Open { rate: 0.5, arrivals: Arrivals::Uniform }));
        assert!(matches!(plan.driver.extent, Extent::Requests(10)));
        assert_eq!((plan.driver.pipeline, plan.driver.warmup), (64, Duration::ZERO));
    }

    #[test]
    fn a_run_without_a_success_is_given_up_after_30_seconds_or_the_time_of_one_operation() {
        let give_up = |line| plan(line).unwrap().driver.give_up;
        assert_eq!(give_up("-p 1 -n 10"), Duration::from_secs(30));
        assert_eq!(give_up("-p 1 -n 10 --timeout 60s"), Duration::from_secs(60));
    }

    #[test]
    fn times_have_units() {
        let read = |text| duration(text).map(|time| time.as_millis());
        assert_eq!(read("500ms"), Ok(500));
        assert_eq!(read("1.5s"), Ok(1_500));
        assert_eq!(read("2m"), Ok(120_000));
        assert_eq!(read("3"), Ok(3_000));
        assert!(
            ["", "s", "5 parsecs", "-1s", "NaN", "1e99s"].iter().all(|text| read(text).is_err())
        );
    }

    #[test]
    fn mixes_have_names() {
        let workload = plan("-p 1 --workload mixed:90").unwrap().workload;
        assert_eq!((workload.command, workload.reads_percent), (Command::Set, 90));
        assert_eq!(
            plan("-p 1 --workload hot-key").unwrap().workload.distribution,
            Distribution::Hot
        );
        assert!(plan("-p 1 --workload mixed:101").is_err());
        assert!(plan("-p 1 --workload write --reads 5").is_err());
    }

    #[test]
    fn a_sweep_is_an_open_loop_with_criteria() {
        let plan = plan("-p 1 --sweep --sweep-p99 20ms --arrivals uniform").unwrap();
        let (start, samples) = (1_000.0, 100_000);
        let criteria = Criteria { start, share_percent: 95.0, p99_nanos: 20_000_000, samples };
        assert_eq!(plan.sweep, Some(criteria));
        assert!(matches!(
            plan.driver.pace,
            Pace::Open { rate: 1_000.0, arrivals: Arrivals::Uniform }
        ));
        assert!(matches!(plan.driver.extent, Extent::Duration(time) if time.as_secs() == 5));
        assert_eq!(plan.driver.pipeline, 64);
    }

    #[test]
    fn active_groups_are_slots_once_the_groups_are_known() {
        let mut plan = plan("-p 1 --active-groups 3").unwrap();
        assert_eq!((plan.active, &plan.workload.slots), (Some(3), &None));
        plan.draw_from(48).unwrap();
        assert_eq!(plan.workload.slots.as_ref().unwrap().to_string(), "0-1023");
        assert_eq!(plan.groups, Some(ActiveGroups { active: 3, all: 48 }));
        assert!(plan.draw_from(2).is_err());
    }

    #[test]
    fn a_run_that_is_checked_has_keys_of_its_own() {
        for line in ["-p 1 --check --reads 50", "-p 1 --check --command incr"] {
            let prefix = plan(line).unwrap().workload.checked.unwrap();
            assert!(prefix.starts_with("check:") && prefix.len() == 20, "{prefix}");
        }
        assert_eq!(plan("-p 1 --reads 50").unwrap().workload.checked, None);
    }

    #[test]
    fn options_that_cannot_be_run_are_refused() {
        let lines = [
            "",
            "-p 1 -c 0",
            "-p 1 -P 0",
            "-p 1 --rate 0",
            "-p 1 --rate NaN",
            "-p 1 --reads 101",
            "-p 1 --duration 0",
            "-p 1 --timeout 0",
            "-p 1 --timeout 61s",
            "-p 1 --keys 0",
            "-p 70000",
            "-p 1 --duration 1s --requests 5",
            "-p 1 -c 1000 -P 100 -d 1000000",
            "-p 1 --requests 0",
            "-p 1 --active-groups 0",
            "-p 1 --sweep --rate 5",
            "-p 1 --sweep -n 5",
            "-p 1 --sweep --check --reads 50",
            "-p 1 --sweep --sweep-start 0.5",
            "-p 1 --sweep --sweep-share 101",
            "-p 1 --sweep --sweep-p99 0",
            "-p 1 --sweep-start 5",
            "-p 1 --active-groups 1 --slots 0-5",
            "-p 1 --check",
            "-p 1 --check --reads 100",
            "-p 1 --check --reads 50 -d 11",
            "-p 1 --check --workload append",
            "-p 1 --check --workload read",
        ];
        for line in lines {
            assert!(plan(line).is_err(), "{line}");
        }
    }
}
