//! The command `purlin-bench`: reads its arguments, runs the load, prints, and chooses the exit code.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use purlin_bench::driver::{Driver, RunError, Summary};
use purlin_bench::hdr_log::{HdrFile, HdrLog};
use purlin_bench::host::HostFacts;
use purlin_bench::in_process;
use purlin_bench::in_process::options::{InProcessError, InProcessOptions};
use purlin_bench::limits::{self, LimitsError, LimitsOptions};
use purlin_bench::options::{Instead, Options, Plan};
use purlin_bench::recorder::Second;
use purlin_bench::report::{self, Report};
use purlin_bench::servers::{self, Sample};
use purlin_bench::signals::Signals;
use purlin_bench::sweep::options::Criteria;
use purlin_bench::sweep::report::SweepReport;
use purlin_bench::sweep::{self, Listener, steps};
use purlin_bench::workload::Workload;

const FAILED: u8 = 1;
const UNREACHABLE: u8 = 7;
const VIOLATED: u8 = 8;

fn main() -> ExitCode {
    let options = Options::parse();
    match &options.instead {
        Some(Instead::Limits(options)) => return run_limits(options),
        Some(Instead::InProcess(options)) => return run_in_process(options),
        None => {}
    }
    let mut plan = options.plan().unwrap_or_else(|error| usage(&error));
    if plan.active.is_some() {
        match servers::groups(&plan.driver.targets) {
            Ok(all) => plan.draw_from(all).unwrap_or_else(|error| usage(&error)),
            Err(why) => return no_groups(&plan, &why),
        }
    }
    let workload = Workload::new(&plan.workload).unwrap_or_else(|error| usage(&error));
    let mut output = Output::new(plan.json.as_deref()).unwrap_or_else(|error| usage(&error));
    let hdr_file = plan.hdr_log.as_deref().map(|path| {
        HdrFile::create(path).map_err(|error| format!("--hdr-log {}: {error}", path.display()))
    });
    let mut hdr_file = hdr_file.transpose().unwrap_or_else(|error| usage(&error));
    let code = match plan.sweep {
        Some(criteria) => run_sweep(&plan, criteria, &workload, &mut output),
        None => run(&plan, workload, hdr_file.as_mut(), &mut output),
    };
    match code {
        Ok(code) => code,
        Err(RunError::Unreachable(why)) => unreachable(&plan, &why),
        Err(RunError::NoSlots(why)) => no_slots(&plan, &why),
        Err(RunError::Interrupted(signal)) => signal_code(signal),
        Err(RunError::Io(error)) => {
            complain(&format!(
                "error: the load could not be run: {error}\n  \
                 in     this process\n  \
                 means  not all operations were sent, and there is no result\n  \
                 do     compare the limit of open files (ulimit -n) with --clients"
            ));
            ExitCode::from(FAILED)
        }
    }
}

/// Measures the machine in the place of a load.
fn run_limits(options: &LimitsOptions) -> ExitCode {
    let mut output = Output::new(options.json.as_deref()).unwrap_or_else(|error| usage(&error));
    let measured = match Signals::new() {
        Ok(signals) => limits::run(options, &signals),
        Err(error) => Err(LimitsError::Io { place: "this process".to_owned(), error }),
    };
    let (what, place) = match measured {
        Ok(report) => {
            output.text(&report.text());
            output.json(&report.json());
            return ExitCode::SUCCESS;
        }
        Err(LimitsError::Interrupted(signal)) => return signal_code(signal),
        Err(LimitsError::Io { place, error }) => (error.to_string(), place),
        Err(LimitsError::Incomplete(why)) => (why, "the measurements".to_owned()),
    };
    complain(&format!(
        "error: this machine could not be measured: {what}\n  \
         in     {place}\n  \
         means  there are no limits, and nothing was left behind\n  \
         do     name a directory that exists and has 48 MiB of room with --dir"
    ));
    ExitCode::from(FAILED)
}

/// Measures the engine in the place of a load.
fn run_in_process(options: &InProcessOptions) -> ExitCode {
    options.check().unwrap_or_else(|error| usage(&error));
    let mut output = Output::new(options.json.as_deref()).unwrap_or_else(|error| usage(&error));
    let place = "this process".to_owned();
    let measured = match Signals::new() {
        Ok(signals) => in_process::run(options, &signals),
        Err(error) => Err(InProcessError::Failed { what: error.to_string(), place }),
    };
    match measured {
        Ok(report) => {
            output.text(&report.text());
            output.json(&report.json());
            return if report.has_result() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
        }
        Err(InProcessError::Interrupted(signal)) => return signal_code(signal),
        Err(InProcessError::Host(error)) => complain(&format!("error: {error}")),
        Err(InProcessError::Failed { what, place }) => complain(&format!(
            "error: the engine could not be measured: {what}\n  \
             in     {place}\n  \
             means  there is no result; the logs of the run were removed, as far as that was possible\n  \
             do     name a directory that exists, with 1 GiB of room, with --dir, and look whether the machine is overloaded"
        )),
    }
    ExitCode::from(FAILED)
}

fn usage(message: &str) -> ! {
    Options::command().error(ErrorKind::ValueValidation, message).exit()
}

fn unreachable(plan: &Plan, why: &str) -> ExitCode {
    complain(&format!(
        "error: no server could be reached: {why}\n  in     {}\n  means  nothing was sent\n  do     start the server, or check --target and -p",
        plan.target_names.join(" ")
    ));
    ExitCode::from(UNREACHABLE)
}

fn no_groups(plan: &Plan, why: &str) -> ExitCode {
    complain(&format!(
        "error: the number of groups could not be learnt: {why}\n  in     {}\n  means  nothing was sent\n  \
         do     name nodes of Purlin, or leave out --active-groups",
        plan.target_names.join(" ")
    ));
    ExitCode::from(UNREACHABLE)
}

fn no_slots(plan: &Plan, why: &str) -> ExitCode {
    complain(&format!(
        "error: the slots of the cluster could not be learnt: {why}\n  in     {}\n  means  nothing was sent\n  \
         do     name servers that answer CLUSTER SLOTS, as the client port of a shard, or leave out --cluster",
        plan.target_names.join(" ")
    ));
    ExitCode::from(UNREACHABLE)
}

fn run(
    plan: &Plan,
    workload: Workload,
    hdr_file: Option<&mut HdrFile>,
    output: &mut Output,
) -> Result<ExitCode, RunError> {
    let host = HostFacts::read();
    let keys_used = workload.key_count();
    output.text(&report::preamble(plan, keys_used, &host));
    output.text(&format!("\n{}\n", report::SECONDS_HEADING));
    let has_progress = plan.progress || (io::stderr().is_terminal() && !output.is_on_terminal());
    let mut hdr_log = hdr_file.map(HdrLog::new);
    let mut on_second = |second: &Second, latency: &_| {
        if !second.is_rest {
            output.text(&format!("{}\n", report::second_line(second)));
        }
        if has_progress && !second.is_rest {
            complain(&report::progress_line(second));
        }
        if let Some(log) = &mut hdr_log {
            log.write(second, latency);
        }
    };
    let targets = &plan.driver.targets;
    let before = Sample::take(targets);
    let summary = Driver::new(plan.driver.clone(), workload, &mut on_second)?.run()?;
    if let Some(why) = hdr_log.and_then(HdrLog::failure) {
        complain(&format!("warning: the interval log is not whole: {why}"));
    }
    let operations = summary.recorder.succeeded_ever();
    let servers = before.until(&Sample::take_settled(targets), operations);
    let report = Report::new(plan, keys_used, host, &summary, servers);
    output.text(&format!("\n{}", report.text()));
    output.json(&report.json());
    if summary.has_given_up && summary.signal.is_none() {
        complain(&given_up(plan, &summary));
    }
    if summary.is_violated() {
        complain(&violated(&plan.target_names));
    }
    Ok(exit_code(&summary))
}

/// Runs the load at growing rates in the place of one.
fn run_sweep(
    plan: &Plan,
    criteria: Criteria,
    workload: &Workload,
    output: &mut Output,
) -> Result<ExitCode, RunError> {
    output.text(&report::preamble(plan, workload.key_count(), &HostFacts::read()));
    output.text(&SweepReport::preamble(&criteria));
    output.text(&format!("\n{}\n", steps::HEADING));
    let has_progress = plan.progress || io::stderr().is_terminal();
    let listener = Listener {
        on_step: &mut |step| output.text(&format!("{}\n", step.row())),
        on_second: &mut |second, _| {
            if has_progress && !second.is_rest {
                complain(&report::progress_line(second));
            }
        },
    };
    let report = sweep::run(plan, criteria, workload, listener)?;
    output.text(&format!("\n{}", report.text()));
    output.json(&report.json());
    Ok(match report.signal() {
        Some(signal) => signal_code(signal),
        None if report.is_whole() => ExitCode::SUCCESS,
        None => ExitCode::from(FAILED),
    })
}

/// What a violation means.
fn violated(targets: &[String]) -> String {
    format!(
        "error: the answers are not linearizable: the history of a key stands in the report\n  \
         in     {}\n  \
         means  a read missed a write that was acknowledged before, or a write was lost or applied twice\n  \
         do     keep the logs and the data of the servers, and see that nobody else writes keys that begin with check:",
        targets.join(" ")
    )
}

/// Why a run of a number of operations ended early.
fn given_up(plan: &Plan, summary: &Summary) -> String {
    let seen = match &summary.recorder.totals().last_connection_error {
        Some(error) => format!("; the last connection error is: {error}"),
        None => String::new(),
    };
    format!(
        "error: no operation succeeded for {} s, and the run was given up{seen}\n  \
         in     {}\n  \
         means  not all operations were sent; the result has those that were\n  \
         do     see whether the servers run and answer, then run the load again",
        plan.driver.give_up.as_secs(),
        plan.target_names.join(" ")
    )
}

fn exit_code(summary: &Summary) -> ExitCode {
    match summary.signal {
        _ if summary.is_violated() => ExitCode::from(VIOLATED),
        Some(signal) => signal_code(signal),
        None if summary.has_given_up || summary.recorder.totals().succeeded == 0 => {
            ExitCode::from(FAILED)
        }
        None if summary.is_unchecked() => ExitCode::from(FAILED),
        None => ExitCode::SUCCESS,
    }
}

fn signal_code(signal: i32) -> ExitCode {
    ExitCode::from(128_u8.saturating_add(signal as u8))
}

/// Writes a line to the standard error. When nobody reads it, the exit code still tells.
fn complain(text: &str) {
    drop(io::stderr().write_all(format!("{text}\n").as_bytes()));
}

/// Text for people, and JSON for programs.
struct Output {
    json: Json,
}

/// Where the JSON goes.
enum Json {
    Nowhere,
    /// To standard output. The text goes to standard error then.
    Stdout,
    File(File, PathBuf),
}

impl Output {
    /// Opens the file before the run, so that a wrong file name is found before the run and not
    /// after it.
    fn new(json: Option<&Path>) -> Result<Self, String> {
        let json = match json {
            None => Json::Nowhere,
            Some(path) if path == Path::new("-") => Json::Stdout,
            Some(path) => {
                let file = File::create(path);
                let file = file.map_err(|error| format!("--json {}: {error}", path.display()))?;
                Json::File(file, path.to_owned())
            }
        };
        Ok(Self { json })
    }

    /// A reader that closes the pipe (`| head`) does not end the run. The rest of the text is
    /// dropped.
    fn text(&self, text: &str) {
        if matches!(self.json, Json::Stdout) {
            let _ = io::stderr().write_all(text.as_bytes());
        } else {
            let mut stdout = io::stdout().lock();
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        }
    }

    /// Whether the text goes to a terminal.
    fn is_on_terminal(&self) -> bool {
        match self.json {
            Json::Stdout => io::stderr().is_terminal(),
            _ => io::stdout().is_terminal(),
        }
    }

    fn json(&mut self, json: &str) {
        let (written, path) = match &mut self.json {
            Json::Nowhere => return,
            Json::Stdout => (writeln!(io::stdout(), "{json}"), Path::new("standard output")),
            Json::File(file, path) => (writeln!(file, "{json}"), path.as_path()),
        };
        if let Err(error) = written {
            complain(&format!(
                "warning: the JSON could not be written to {}: {error}",
                path.display()
            ));
        }
    }
}
