//! Prints a report: a table and sentences for people, one line of JSON for programs.

use super::judge::{Report, Row};
use crate::{
    admin::schema::{NodeAnswer, SCHEMA},
    config::ByteSize,
};
use serde_json::{Value, json};

const HEADS: [&str; 9] =
    ["node", "state", "leads", "no leader", "behind", "log", "shards", "gateway", "admin"];

/// For people.
pub(super) fn table(report: &Report) -> String {
    let mut lines = vec![HEADS.map(String::from)];
    lines.extend(report.nodes.iter().map(cells));
    let widths: Vec<_> = (0..HEADS.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |cells: &[String; 9]| {
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

fn cells(row: &Row) -> [String; 9] {
    let none = String::new;
    let node = row.node.map_or("?".into(), |node| node.to_string());
    let address = row.address.clone().unwrap_or_default();
    match &row.answer {
        Err(_) => {
            [node, "no answer".into(), none(), none(), none(), none(), none(), none(), address]
        }
        Ok(answer) => [
            node,
            state(answer),
            answer.groups.leads.to_string(),
            answer.groups.without_leader.to_string(),
            row.behind.to_string(),
            log(answer),
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

/// What the logs of all shards take on the disk, in whole MiB.
fn log(node: &NodeAnswer) -> String {
    const MIB: u64 = 1 << 20;
    let bytes: u64 = node.shards.iter().map(|shard| shard.wal.bytes).sum();
    ByteSize(bytes.div_ceil(MIB) * MIB).to_string()
}
