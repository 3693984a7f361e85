//! Prints a report: a table and sentences for people, one line of JSON for programs.

use super::judge::{Report, Row};
use crate::{
    admin::schema::{NodeAnswer, SCHEMA, Times},
    config::ByteSize,
};
use serde_json::{Value, json};

const COLUMNS: usize = 10;
const HEADS: [&str; COLUMNS] =
    ["node", "state", "leads", "no leader", "behind", "log", "data", "shards", "gateway", "admin"];

/// The times of commands by stage, as [`NodeAnswer::stages`] has them.
const STAGE_COLUMNS: usize = 8;
const STAGE_HEADS: [&str; STAGE_COLUMNS] =
    ["node", "sample", "queue", "wal", "quorum", "apply", "reply", "total"];

/// For people.
pub(super) fn table(report: &Report) -> String {
    let mut text = vec![title(report), String::new()];
    text.extend(aligned(&HEADS, report.nodes.iter().map(cells)));
    text.push(String::new());
    let stages: Vec<_> = report.nodes.iter().filter_map(stage_cells).collect();
    if !stages.is_empty() {
        text.push(
            "Where the time of commands goes at their leaders, p50/p99; wal runs beside quorum:"
                .into(),
        );
        text.push(String::new());
        text.extend(aligned(&STAGE_HEADS, stages.into_iter()));
        text.push(String::new());
    }
    if report.problems.is_empty() {
        text.push("Nothing is wrong.".into());
    } else {
        text.push("What is wrong:".into());
        text.extend(report.problems.iter().map(|problem| format!("  * {problem}")));
    }
    text.join("\n")
}

/// A table with these heads, in columns as wide as what is in them.
fn aligned<const N: usize>(
    heads: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Vec<String> {
    let mut lines = vec![heads.map(String::from)];
    lines.extend(rows);
    let widths: Vec<_> = (0..N)
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |cells: &[String; N]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}", padded.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    lines.iter().map(line).collect()
}

/// For programs.
pub(super) fn json(report: &Report) -> String {
    let node = |row: &Row| {
        json!({
            "node": row.node,
            "address": row.address,
            "behind": row.behind,
            "error": row.answer.as_ref().err(),
            "status": row.answer.as_ref().ok(),
        })
    };
    let nodes: Vec<Value> = report.nodes.iter().map(node).collect();
    json!({ "schema": SCHEMA, "problems": report.problems, "nodes": nodes }).to_string()
}

fn title(report: &Report) -> String {
    match report.nodes.iter().find_map(|row| row.answer.as_ref().ok()) {
        None => "No node answers.".into(),
        Some(node) => format!(
            "Cluster {}: {} nodes, {} groups, {} replicas of each",
            node.cluster,
            report.nodes.len(),
            node.groups.all,
            node.replicas
        ),
    }
}

fn cells(row: &Row) -> [String; COLUMNS] {
    let node = row.node.map_or("?".into(), |node| node.to_string());
    let address = row.address.clone().unwrap_or_default();
    match &row.answer {
        Err(_) => {
            let mut cells = [const { String::new() }; COLUMNS];
            (cells[0], cells[1], cells[COLUMNS - 1]) = (node, "no answer".into(), address);
            cells
        }
        Ok(answer) => [
            node,
            state(answer),
            answer.groups.leads.to_string(),
            answer.groups.without_leader.to_string(),
            row.behind.to_string(),
            log(answer),
            data(answer),
            answer.shards.len().to_string(),
            answer.gateway.clone(),
            answer.admin.clone(),
        ],
    }
}

/// The times of a node that has led commands since its start.
fn stage_cells(row: &Row) -> Option<[String; STAGE_COLUMNS]> {
    let (Some(number), Ok(node)) = (row.node, &row.answer) else { return None };
    let stages = &node.stages;
    let cell = |times: &Times| format!("{}/{}", time(times.p50_us), time(times.p99_us));
    (stages.total.count > 0).then(|| {
        [
            number.to_string(),
            stages.total.count.to_string(),
            cell(&stages.queue),
            cell(&stages.wal),
            cell(&stages.quorum),
            cell(&stages.apply),
            cell(&stages.reply),
            cell(&stages.total),
        ]
    })
}

/// In microseconds, milliseconds or seconds: four digits at most.
fn time(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{micros}µs"),
        10_000..10_000_000 => format!("{}ms", micros / 1_000),
        _ => format!("{}s", micros / 1_000_000),
    }
}

/// The state of the shards: one word when all have the same.
fn state(node: &NodeAnswer) -> String {
    let mut states: Vec<_> = node.shards.iter().map(|shard| shard.state.clone()).collect();
    states.sort_unstable();
    states.dedup();
    states.join("+")
}

/// What the logs of all shards take on the disk.
fn log(node: &NodeAnswer) -> String {
    mib(node.shards.iter().map(|shard| shard.wal.bytes).sum())
}

/// What keys and values take in memory, of what they may take.
fn data(node: &NodeAnswer) -> String {
    let levels = || node.shards.iter().map(|shard| shard.queues.machine_bytes);
    let now = mib(levels().map(|level| level.now).sum());
    let most = levels().fold(0_u64, |most, level| most.saturating_add(level.max));
    if most == 0 || most >= u64::MAX / 2 { now } else { format!("{now} of {}", mib(most)) }
}

/// In whole MiB.
fn mib(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    ByteSize(bytes.div_ceil(MIB) * MIB).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::schema::Groups;

    fn row(node: u32, answer: Result<NodeAnswer, String>) -> Row {
        Row { node: Some(node), address: None, behind: 0, answer }
    }

    #[test]
    fn the_stages_of_nodes_that_have_led_commands_are_a_table_of_their_own() {
        let mut busy = NodeAnswer::sample(1, Groups::default());
        let times = |p50_us, p99_us| Times { count: 7, p50_us, p99_us, max_us: p99_us };
        busy.stages.wal = times(850, 12_400);
        busy.stages.total = times(9_999, 31_000_000);
        let idle = NodeAnswer::sample(2, Groups::default());
        let nodes = vec![row(1, Ok(busy)), row(2, Ok(idle)), row(3, Err("it is down".into()))];
        let report = Report { nodes, problems: Vec::new() };
        let text = table(&report);
        let stages = text.split_once("beside quorum:").expect("a table").1;
        let lines: Vec<Vec<&str>> =
            stages.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2], STAGE_HEADS);
        let zero = "0µs/0µs";
        assert_eq!(
            lines[3],
            ["1", "7", zero, "850µs/12ms", zero, zero, zero, "9999µs/31s"],
            "{text}"
        );
        assert_eq!(lines[4], [""; 0], "no other node has led a command: {text}");
        assert!(text.ends_with("Nothing is wrong."));
        let quiet = Report { nodes: Vec::new(), problems: Vec::new() };
        assert!(!table(&quiet).contains("quorum"));
    }
}
