//! The facts about the machine that a figure needs beside it.

use std::fs;

use serde::Serialize;

/// Facts about the machine, as far as they can be read.
#[derive(Clone, Debug, Serialize)]
pub struct HostFacts {
    /// The processor's name.
    pub cpu: String,
    /// The kernel's release.
    pub kernel: String,
    /// The cores that this process may use, as in `0-1`.
    pub cores_allowed: String,
    /// The number of these cores.
    pub cores: usize,
    /// Whether the scheduler groups processes by session. `None` if the kernel has no such
    /// grouping.
    ///
    /// If it does, start the servers and the generator in one session. A busy process of another
    /// session can delay a writer's flush until the next scheduler tick: 0.1 ms become 4 ms.
    pub autogroup: Option<bool>,
    /// The average number of runnable tasks over the last minute, before the run.
    pub load_average: Option<f64>,
}

impl HostFacts {
    /// Reads the facts.
    pub fn read() -> Self {
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            kernel: line("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            cores_allowed: field("/proc/self/status", "Cpus_allowed_list").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            autogroup: line("/proc/sys/kernel/sched_autogroup_enabled").map(|text| text != "0"),
            load_average: line("/proc/loadavg")
                .and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.trim().to_owned())
}

/// The value of the first line `name: value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let is_named = |line: &&str| line.split(':').next().is_some_and(|start| start.trim() == name);
    Some(text.lines().find(is_named)?.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_this_machine_can_be_read() {
        let facts = HostFacts::read();
        assert!(facts.cores >= 1);
        assert!(facts.kernel.contains('.'), "{}", facts.kernel);
        assert!(facts.cores_allowed.starts_with(|first: char| first.is_ascii_digit()));
    }
}
