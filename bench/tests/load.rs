//! Loads against tiny servers: what is sent, what is counted, and how the command ends.

mod cluster;
mod tiny;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use purlin_bench::driver::{Driver, DriverConfig, Extent, Pace, RunError, Summary};
use purlin_bench::keys::Distribution;
use purlin_bench::recorder::Second;
use purlin_bench::schedule::Arrivals;
use purlin_bench::workload::{self, ValueSize, Workload, WorkloadConfig};
use tiny::{Answer, TinyServer};

const OK: Answer = Answer::Send(b"+OK\r\n");

fn driver(targets: &[SocketAddr], requests: u64) -> DriverConfig {
    DriverConfig {
        targets: targets.to_vec(),
        cluster: false,
        clients: 4,
        pipeline: 16,
        pace: Pace::Closed,
        extent: Extent::Requests(requests),
        warmup: Duration::ZERO,
        timeout: Duration::from_secs(5),
        reach: Duration::from_secs(2),
        give_up: Duration::from_secs(30),
        seed: 1,
    }
}

fn sets() -> WorkloadConfig {
    WorkloadConfig {
        command: workload::Command::Set,
        reads_percent: 0,
        keys: 1_000,
        distribution: Distribution::Sequential,
        slots: None,
        value_size: ValueSize { min: 16, max: 16 },
        seed: 1,
        checked: None,
    }
}

fn run_telling(
    config: DriverConfig,
    mut on_second: impl FnMut(&Second),
) -> Result<Summary, RunError> {
    let mut on_second = |second: &Second, _: &_| on_second(second);
    Driver::new(config, Workload::new(&sets()).unwrap(), &mut on_second).unwrap().run()
}

fn run(config: DriverConfig) -> Summary {
    run_telling(config, |_| ()).unwrap()
}

#[test]
fn a_closed_loop_sends_exactly_what_was_asked_for() {
    let server = TinyServer::start(|_| OK);
    let summary = run(driver(&[server.address], 1_000));
    assert_eq!(summary.recorder.totals().succeeded, 1_000);
    assert_eq!(summary.recorder.latency().len(), 1_000);
    assert!(!summary.has_given_up);
    let mut keys: Vec<String> =
        server.take_seen().into_iter().map(|words| words[1].clone()).collect();
    keys.sort();
    let expected: Vec<String> = (0..1_000).map(|number| format!("key:{number:012}")).collect();
    assert_eq!(keys, expected);
}

#[test]
fn an_open_loop_sends_every_operation_of_its_schedule() {
    let server = TinyServer::start(|_| OK);
    let pace = Pace::Open { rate: 20_000.0, arrivals: Arrivals::Poisson };
    let summary = run(DriverConfig { pace, ..driver(&[server.address], 2_000) });
    assert_eq!((summary.recorder.totals().succeeded, server.commands()), (2_000, 2_000));
    assert_eq!(summary.recorder.service().len(), 2_000);
    assert!(summary.backlog_max >= 1);
    let (latency, service) = (summary.recorder.latency(), summary.recorder.service());
    assert!(latency.mean() >= service.mean(), "nothing is sent before it is meant to");
}

#[test]
fn clients_are_spread_over_the_servers() {
    let servers = [TinyServer::start(|_| OK), TinyServer::start(|_| OK)];
    let summary = run(driver(&[servers[0].address, servers[1].address], 10_000));
    assert_eq!(summary.recorder.totals().succeeded, 10_000);
    assert_eq!(servers[0].commands() + servers[1].commands(), 10_000);
    assert!(servers.iter().all(|server| server.commands() > 0));
}

#[test]
fn refusals_are_counted_by_their_first_word() {
    let server = TinyServer::start(|number| match number % 10 {
        0 => Answer::Send(b"-CLUSTERDOWN group 17 has no leader\r\n"),
        1 => Answer::Send(b"-UNKNOWN outcome\r\n"),
        _ => OK,
    });
    let summary = run(driver(&[server.address], 1_000));
    let totals = summary.recorder.totals();
    assert_eq!((totals.succeeded, totals.refused, totals.unknown), (800, 200, 100));
    assert_eq!(totals.errors["CLUSTERDOWN"].count, 100);
}

#[test]
fn connections_that_end_are_made_again_and_what_was_on_them_is_unknown() {
    let server = TinyServer::start(|number| if number % 100 == 99 { Answer::Close } else { OK });
    let summary = run(driver(&[server.address], 2_000));
    let totals = summary.recorder.totals();
    assert!(totals.connections_lost >= 15, "{totals:?}");
    assert!(totals.lost >= totals.connections_lost, "{totals:?}");
    assert_eq!(totals.lost, totals.unknown);
    assert_eq!(totals.succeeded + totals.lost, 2_000, "each is sent once, and counted once");
}

#[test]
fn a_server_that_dies_and_comes_back_shows_as_time_without_service() {
    let mut first = TinyServer::start(|number| if number == 500 { Answer::Die } else { OK });
    let address = first.address;
    let mut second = None;
    let summary = run_telling(driver(&[address], 2_000), |_| {
        if second.is_none() && first.commands() > 500 {
            first.wait_for_death();
            second = Some(TinyServer::start_on(TcpListener::bind(address).unwrap(), |_| OK));
        }
    })
    .unwrap();
    let totals = summary.recorder.totals();
    assert_eq!(totals.succeeded + totals.lost, 2_000);
    assert!(totals.lost > 0 && totals.connects_failed > 0, "{totals:?}");
    // It died within the first second, and came back when that was over.
    assert!(summary.recorder.gap().nanos > 100_000_000, "{:?}", summary.recorder.gap());
}

#[test]
fn a_server_that_does_not_answer_is_given_up_in_time() {
    let server = TinyServer::start(|_| Answer::Nothing);
    let extent = Extent::Duration(Duration::from_millis(300));
    let timeout = Duration::from_millis(100);
    let summary = run(DriverConfig { extent, timeout, ..driver(&[server.address], 0) });
    let totals = summary.recorder.totals();
    assert!(totals.timed_out >= 64 && totals.timed_out == totals.unknown, "{totals:?}");
    assert!(summary.recorder.latency().value_at_quantile(0.5) >= 99_000_000);
    assert_eq!(summary.recorder.gap().nanos, 300_000_000);
}

/// A server that takes connections and answers nothing costs a run of a number of operations the time-out
/// of each. The operations come apart here, so that some connection is always up.
#[test]
fn a_run_of_a_number_of_operations_is_given_up_without_a_success() {
    let server = TinyServer::start(|number| if number < 4 { OK } else { Answer::Nothing });
    let config = DriverConfig {
        pace: Pace::Open { rate: 10.0, arrivals: Arrivals::Uniform },
        timeout: Duration::from_millis(300),
        give_up: Duration::from_millis(500),
        ..driver(&[server.address], 60)
    };
    let summary = run(config);
    let totals = summary.recorder.totals();
    assert!(summary.has_given_up, "{totals:?}");
    assert_eq!(totals.succeeded, 4);
    assert!(totals.timed_out > 0 && server.commands() < 60, "{totals:?}");
}

/// The second operation is sent after 2 s, and the first one has succeeded long before.
#[test]
fn a_slow_schedule_is_not_given_up_between_two_operations() {
    let server = TinyServer::start(|_| OK);
    let summary = run(DriverConfig {
        pace: Pace::Open { rate: 0.5, arrivals: Arrivals::Uniform },
        timeout: Duration::from_secs(1),
        give_up: Duration::from_secs(1),
        ..driver(&[server.address], 2)
    });
    assert_eq!((summary.recorder.totals().succeeded, summary.has_given_up), (2, false));
}

#[test]
fn what_an_open_loop_could_not_send_counts_with_the_time_it_waited() {
    let server = TinyServer::start(|_| Answer::Nothing);
    let summary = run(DriverConfig {
        pace: Pace::Open { rate: 10_000.0, arrivals: Arrivals::Uniform },
        extent: Extent::Duration(Duration::from_millis(400)),
        timeout: Duration::from_millis(500),
        ..driver(&[server.address], 0)
    });
    let totals = summary.recorder.totals();
    // Who times out takes the younger ones on its connection with it.
    assert_eq!((totals.timed_out + totals.lost, totals.unsent), (64, 4_000 - 64));
    assert!(totals.timed_out >= 4, "{totals:?}");
    assert_eq!(summary.recorder.latency().len(), 4_000);
    assert!(summary.backlog_max >= 3_500, "{}", summary.backlog_max);
}

#[test]
fn a_server_of_another_protocol_is_noticed() {
    let server = TinyServer::start(|_| Answer::Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let extent = Extent::Duration(Duration::from_millis(200));
    let summary = run(DriverConfig { extent, ..driver(&[server.address], 0) });
    let totals = summary.recorder.totals();
    assert_eq!(totals.succeeded, 0);
    assert!(totals.lost > 0);
    let why = totals.last_connection_error.as_ref().unwrap();
    assert!(why.contains("unknown type"), "{why}");
}

#[test]
fn without_a_server_nothing_is_sent() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = DriverConfig { reach: Duration::from_millis(200), ..driver(&[nobody], 1) };
    match run_telling(config, |_| ()) {
        Err(RunError::Unreachable(why)) => assert!(why.contains("refused"), "{why}"),
        other => panic!("{:?}", other.map(|summary| summary.backlog_max)),
    }
}

/// Runs the command; its exit code, its standard output and its standard error.
fn command(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_purlin-bench")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_gives_its_result_as_json() {
    let server = TinyServer::start(|_| OK);
    let port = server.address.port().to_string();
    let (code, stdout, stderr) = command(&["-p", &port, "-n", "500", "--json", "-", "--seed", "7"]);
    assert_eq!(code, 0, "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["result"]["totals"]["succeeded"], 500);
    assert_eq!(report["parameters"]["seed"], 7);
    assert_eq!(report["result"]["latency"]["count"], 500);
    assert!(report["result"]["latency"]["p99_9"].as_u64().unwrap() > 0);
    assert!(stderr.contains("500 operations done"), "{stderr}");
    assert!(stderr.contains("kernel") && stderr.contains("autogroup"), "{stderr}");
}

#[test]
fn exit_codes_tell_mistakes_apart() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _, stderr) = command(&["-p", &nobody.port().to_string()]);
    assert_eq!(code, 7);
    assert!(stderr.contains("nothing was sent"), "{stderr}");
    let (code, _, stderr) = command(&["-p", "7000", "--reads", "101"]);
    assert_eq!(code, 2, "{stderr}");
    let (code, _, stderr) = command(&[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("-p PORT"), "{stderr}");
    let refusing = TinyServer::start(|_| Answer::Send(b"-ERR no\r\n"));
    let (code, stdout, _) = command(&["-p", &refusing.address.port().to_string(), "-n", "10"]);
    assert_eq!(code, 1);
    assert!(stdout.contains("ERR: ERR no"), "{stdout}");
}

#[test]
fn outputs_that_take_nothing_leave_the_exit_code() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = TinyServer::start(|_| OK);
    for (port, more, expected) in
        [(nobody.port(), "-", 7), (server.address.port(), "-", 0), (nobody.port(), "/dev/full", 7)]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_purlin-bench"));
        command.args(["-p", &port.to_string(), "-n", "10", "--json", more]);
        let status = command.stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(expected), "--json {more}");
    }
}

#[test]
fn an_interrupt_ends_the_run_with_what_there_is() {
    let server = TinyServer::start(|_| OK);
    let mut child = Command::new(env!("CARGO_BIN_EXE_purlin-bench"))
        .args(["-p", &server.address.port().to_string(), "--duration", "1h", "--warmup", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut seconds) = (String::new(), 0);
    while seconds < 1 {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "ended without a second");
        seconds += usize::from(line.trim_start().starts_with("1."));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(rest.contains("interrupted: partial results"), "{rest}");
}
