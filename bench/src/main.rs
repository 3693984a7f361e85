//! The command `purlin-bench`: reads its arguments, runs the load, prints, and chooses the exit code.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use purlin_bench::driver::{Driver, RunError, Summary};
use purlin_bench::host::HostFacts;
use purlin_bench::options::{Options, Plan};
use purlin_bench::report::{self, Report};
use purlin_bench::workload::Workload;

const FAILED: u8 = 1;
const UNREACHABLE: u8 = 7;

fn main() -> ExitCode {
    let plan = Options::parse().plan().unwrap_or_else(|error| usage(&error));
    let workload = Workload::new(&plan.workload).unwrap_or_else(|error| usage(&error));
    match run(&plan, workload) {
        Ok(code) => code,
        Err(RunError::Unreachable(why)) => unreachable(&plan, &why),
        Err(RunError::Io(error)) => {
            eprintln!(
                "error: the load could not be run: {error}\n  means  no or only some operations were sent\n  do     check the limit of open files (ulimit -n) against --clients"
            );
            ExitCode::from(FAILED)
        }
    }
}

fn usage(message: &str) -> ! {
    Options::command().error(ErrorKind::ValueValidation, message).exit()
}

fn unreachable(plan: &Plan, why: &str) -> ExitCode {
    eprintln!(
        "error: no server could be reached: {why}\n  in     {}\n  means  nothing was sent\n  do     start the server, or check --target and -p",
        plan.target_names.join(" ")
    );
    ExitCode::from(UNREACHABLE)
}

fn run(plan: &Plan, workload: Workload) -> Result<ExitCode, RunError> {
    let host = HostFacts::read();
    let keys_used = workload.key_count();
    let out = Output::new(plan.json.as_deref() == Some(Path::new("-")));
    out.text(&report::preamble(plan, keys_used, &host));
    out.text(&format!("\n{}\n", report::SECONDS_HEADING));
    let mut on_second = |second: &_| out.text(&format!("{}\n", report::second_line(second)));
    let summary = Driver::new(plan.driver.clone(), workload, &mut on_second)?.run()?;
    let report = Report::new(plan, keys_used, host, &summary);
    out.text(&format!("\n{}", report.text()));
    match &plan.json {
        Some(path) if path != Path::new("-") => fs::write(path, report.json() + "\n")?,
        Some(_) => out.json(&report.json()),
        None => {}
    }
    Ok(exit_code(&summary))
}

fn exit_code(summary: &Summary) -> ExitCode {
    match summary.signal {
        Some(signal) => ExitCode::from(128_u8.saturating_add(signal as u8)),
        None if summary.has_given_up || summary.recorder.totals().succeeded == 0 => {
            ExitCode::from(FAILED)
        }
        None => ExitCode::SUCCESS,
    }
}

/// Text for people, and JSON for programs. A reader that goes away (`| head`) ends neither the run nor
/// the report: what it no longer reads is dropped.
struct Output {
    is_json_on_stdout: bool,
}

impl Output {
    fn new(is_json_on_stdout: bool) -> Self {
        Self { is_json_on_stdout }
    }

    fn text(&self, text: &str) {
        if self.is_json_on_stdout {
            let _ = io::stderr().write_all(text.as_bytes());
        } else {
            let mut stdout = io::stdout().lock();
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        }
    }

    fn json(&self, json: &str) {
        let _ = writeln!(io::stdout(), "{json}");
    }
}
