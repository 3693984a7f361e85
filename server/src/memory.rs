//! How much memory the process may use, and which part of it keys and values get unless the configuration says
//! otherwise.

use crate::config::Config;
use purlin::os::RuntimeKind;
use std::{fs, path::Path};

/// The memory of the machine or of the control group of this process, whichever is less; nothing when neither can
/// be read.
pub(crate) fn of_this_process() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let read = |path: &Path| fs::read_to_string(path).ok();
    [machine, group_limit(&groups, &read)].into_iter().flatten().min()
}

/// What keys and values of a node with `shards` shards may take, of `memory` bytes: 70 %, or what the other budgets
/// leave if that is less; a quarter at least.
pub(crate) fn of_data(config: &Config, shards: u16, memory: u64) -> u64 {
    let registered = match config.runtime.kind {
        RuntimeKind::Glommio => config.runtime.io_memory as u64,
        RuntimeKind::Ring => 0,
    };
    let shard =
        config.client.memory as u64 + config.raft.memory_bytes_max as u64 / 4 * 5 + registered;
    let left = memory.saturating_sub(shard.saturating_mul(shards.into()));
    (memory / 10 * 7).min(left).max(memory / 4)
}

/// `MemTotal` of `/proc/meminfo`.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The lowest limit of the control groups that `/proc/self/cgroup` names, and of those above them.
fn group_limit(groups: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let limit = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let group = Path::new(root).join(group.trim_start_matches('/'));
        let above = group.ancestors().take_while(|path| path.starts_with(root));
        // "max" is no number: there is no limit.
        above.filter_map(|path| read(&path.join(file))?.trim().parse::<u64>().ok()).min()
    };
    groups.lines().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::example_members;
    use purlin::{ClusterConfig, ClusterId, NodeId};

    #[test]
    fn the_memory_of_a_machine_is_read_in_bytes() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       24683656 kB\n"), Some(24_683_656 << 10));
        for text in ["", "MemTotal: many kB", "MemTotal: 7", "MemTotal: 99999999999999999999 kB"] {
            assert_eq!(total(text), None, "{text}");
        }
    }

    #[test]
    fn the_lowest_limit_of_a_control_group_and_those_above_it_counts() {
        let files = |path: &Path| match path.to_str()? {
            "/sys/fs/cgroup/a/b/memory.max" => Some("max\n".into()),
            "/sys/fs/cgroup/a/memory.max" => Some("2000\n".into()),
            "/sys/fs/cgroup/memory/c/memory.limit_in_bytes" => Some("3000\n".into()),
            "/sys/fs/cgroup/memory/memory.limit_in_bytes" => Some("9223372036854771712".into()),
            _ => None,
        };
        assert_eq!(group_limit("0::/a/b\n", &files), Some(2000));
        assert_eq!(group_limit("5:cpu:/c\n4:cpuset,memory:/c\n", &files), Some(3000));
        assert_eq!(group_limit("4:memory:/c\n0::/a/b", &files), Some(2000));
        assert_eq!(group_limit("0::/elsewhere\nno group\n", &files), None);
    }

    #[test]
    fn data_gets_seventy_percent_or_what_the_other_budgets_leave() {
        const GIB: u64 = 1 << 30;
        let cluster = ClusterConfig::new(ClusterId(1), 48, example_members());
        let config = Config::new(NodeId(1), "data".into(), cluster);
        assert_eq!(of_data(&config, 4, 100 * GIB), 70 * GIB);
        let left = of_data(&config, 4, 4 * GIB);
        assert!((2 * GIB..4 * GIB / 10 * 7).contains(&left), "{left}");
        assert_eq!(of_data(&config, 16, 2 * GIB), GIB / 2, "a quarter at least");
    }
}
