//! Prints a report: a table and sentences for people, one line of JSON for programs.

use super::judge::{Report, Row};
use crate::{
    admin::schema::{NodeAnswer, SCHEMA},
    config::ByteSize,
};
use serde_json::{Value, json};

const COLUMNS: usize = 10;
const HEADS: [&str; COLUMNS] =
    ["node", "state", "leads", "no leader", "behind", "log", "data", "shards", "gateway", "admin"];

/// For people.
pub(super) fn table(report: &Report) -> String {
    let mut lines = vec![HEADS.map(String::from)];
    lines.extend(report.nodes.iter().map(cells));
    let widths: Vec<_> = (0..HEADS.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |cells: &[String; COLUMNS]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}", padded.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    let mut text = vec![title(report), String::new()];
    text.extend(lines.iter().map(line));
    text.push(String::new());
    if report.problems.is_empty() {
        text.push("Nothing is wrong.".into());
    } else {
        text.push("What is wrong:".into());
        text.extend(report.problems.iter().map(|problem| format!("  * {problem}")));
    }
    text.join("\n")
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
