//! The load of `purlin-bench in-process` on openraft: three nodes in this process, each with a log file of its own on the
//! disk, and commands from tasks at the node whose replica leads the group.
//!
//! openraft brings no log, no network and no machine. Those here are ours, and as plain as an embedder would write them:
//!
//! ```text
//! options   the command line, which is that of `purlin-bench in-process`
//! types     what openraft is used with
//! disk      one log file for all groups of a node: a durable write for all that waits (O_DIRECT, O_DSYNC)
//! log       the log of one replica: entries in memory, and their records in that file
//! network   one TCP connection over loopback from each node to each other one, for all groups
//! machine   a register in memory that counts its commands
//! cluster   the three nodes, and their leaders
//! load      the commands
//! ```
//!
//! A command is acknowledged when it is durable on two of the three nodes and applied. After the load each group is asked
//! how many commands it has applied, and the answer must fit what was acknowledged. The figures are those of openraft
//! with this log and network: another log may do better. Of openraft itself is this: a leader of version 0.9 waits until
//! an entry is durable in its own log before it sends it to the others and takes the next command of the group. So at its
//! leader a group has one entry in each write of the log, and only commands of several groups share one. Each command is
//! an entry of its own, as with `client_write`; none are gathered before.

mod cluster;
mod disk;
mod load;
mod log;
mod machine;
mod network;
mod options;
mod types;

use clap::Parser;
use cluster::{Cluster, NODES, wanted};
use load::Outcome;
use options::Options;
use std::{
    error::Error,
    fmt, fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Instant,
};

fn main() -> ExitCode {
    let options = Options::parse();
    let directory = options.dir.join(format!("openraft-{}", std::process::id()));
    let ran = fs::create_dir(&directory).map_err(Into::into).and_then(|()| {
        let ran = run(&options, &directory);
        let removed = fs::remove_dir_all(&directory);
        ran.and_then(|()| Ok(removed?))
    });
    let Err(error) = ran else { return ExitCode::SUCCESS };
    let _ = writeln!(
        io::stderr(),
        "error: openraft could not be measured: {error}\n  in     this process, and {}\n  means  there is no result\n  \
         do     look whether the directory exists and has room, and whether the machine is overloaded",
        options.dir.display()
    );
    ExitCode::FAILURE
}

/// Starts the nodes, runs the load, compares what was applied, and stops the nodes.
fn run(options: &Options, directory: &Path) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let start = Instant::now();
        let cluster = Cluster::start(options, directory).await?;
        say(format_args!("start     leaders after {:.1} s", start.elapsed().as_secs_f64()));
        let mut outcome = load::run(options, &cluster).await;
        let applied = cluster.applied(options.groups).await?;
        outcome.leaders_moved = cluster.have_leaders_moved(options.groups).await;
        cluster.stop().await;
        compare(&outcome, applied)?;
        report(options, &outcome)
    })
}

fn compare(outcome: &Outcome, applied: u64) -> Result<(), Box<dyn Error>> {
    let (least, most) = (outcome.acknowledged_ever, outcome.acknowledged_ever + outcome.unknown);
    if (least..=most).contains(&applied) {
        return Ok(());
    }
    Err(format!("{applied} commands were applied, and {least} to {most} should have been").into())
}

fn report(options: &Options, outcome: &Outcome) -> Result<(), Box<dyn Error>> {
    let mut led = [0; NODES as usize];
    (0..options.groups).for_each(|group| led[wanted(group) as usize - 1] += 1);
    say(format_args!(
        "load      openraft 0.9, a log of this program's own; {} groups, led {led:?}; {} commands of {} B under way; \
         durable on two nodes\n\
         result    {:.0} commands a second, {} in {:.2} s after {:?} of warm-up\n\
         latency   p50 {:.3} ms, p99 {:.3} ms, longest {:.3} ms\n\
         processor {:.2} µs a command, all nodes and the load",
        options.groups,
        options.in_flight,
        options.value_size,
        outcome.ops_per_second,
        outcome.acknowledged,
        outcome.seconds,
        options.warmup,
        outcome.p50_micros / 1e3,
        outcome.p99_micros / 1e3,
        outcome.max_micros / 1e3,
        outcome.cpu_micros_per_op
    ));
    for (class, count) in &outcome.errors {
        say(format_args!("error     {count} × {class}"));
    }
    if outcome.leaders_moved {
        say(format_args!(
            "warning   a group has got another leader: its commands were refused since then"
        ));
    }
    if outcome.acknowledged == 0 {
        return Err("nothing was acknowledged".into());
    }
    if let Some(path) = &options.json {
        let json = serde_json::json!({ "version": 1, "result": outcome });
        fs::write(path, serde_json::to_string_pretty(&json)? + "\n")?;
    }
    Ok(())
}

/// Prints a line. Nobody may read it any more.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}
