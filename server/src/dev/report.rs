//! What `purlin dev` prints, for people and scripts: a line for each node, and a line to type for each.

use super::plan::{Plan, allowed_cores};
use std::{net::SocketAddr, path::Path};

/// What is known of a node that runs.
pub(super) struct Row {
    pub(super) node: u32,
    pub(super) gateway: SocketAddr,
    pub(super) admin: SocketAddr,
    /// The ports of its shards for clients: the first and the last.
    pub(super) shards: Option<(u16, u16)>,
    pub(super) pid: u32,
    /// Nothing when it does not answer.
    pub(super) leads: Option<u32>,
}

/// Printed before anything is started.
pub(super) fn head(plan: &Plan, folder: &Path) -> String {
    let first = &plan.nodes()[0].config;
    let shards: usize = plan.nodes().iter().map(|node| usize::from(node.config.shards())).sum();
    let cores = match (plan.is_pinned(), allowed_cores().len()) {
        (true, _) => "each pinned to a core".to_owned(),
        (false, cores) if cores < shards => {
            format!("not pinned: {} for {}", count(cores, "core"), count(shards, "shard"))
        }
        (false, _) => "not pinned, as configured".to_owned(),
    };
    let fate = if plan.keep { "kept" } else { "removed at the end; --keep keeps it" };
    format!(
        "{}, {}, {} each ({cores})   data: {} ({fate})",
        count(plan.nodes().len(), "node"),
        count(first.cluster.groups as usize, "group"),
        count(first.shards().into(), "shard"),
        folder.display(),
    )
}

/// Printed once the cluster serves.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.gateway.to_string().len()).max().unwrap_or(0);
    let mut text = String::from("\n  node  gateway\n");
    for Row { node, gateway, admin, shards, pid, leads } in rows {
        let gateway = gateway.to_string();
        let leads = leads.map_or("?".to_owned(), |leads| leads.to_string());
        let shards = match *shards {
            None => String::new(),
            Some((first, last)) if first == last => format!("   shard {first}"),
            Some((first, last)) => format!("   shards {first}-{last}"),
        };
        text += &format!(
            "  {node:<4}  {gateway:<width$}   pid {pid}   leads {leads:<3}   admin {admin}{shards}\n"
        );
    }
    let status = rows.first().map(|row| format!("  purlin status {}\n", row.admin.port()));
    text + "\nTry:\n" + &examples(rows) + &status.unwrap_or_default() + "\nCtrl-C ends all."
}

/// A line to type for each node: together they show that every node serves every key.
fn examples(rows: &[Row]) -> String {
    const WORDS: [&str; 3] = ["set hello world", "get hello", "incr visits"];
    let ports = rows.iter().map(|row| row.gateway.port());
    ports
        .zip(WORDS.iter().cycle())
        .map(|(port, words)| format!("  redis-cli -p {port} {words}\n"))
        .collect()
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_find_a_line_for_each_node() {
        let row = |node: u32, leads| Row {
            node,
            gateway: SocketAddr::from(([127, 0, 0, 1], 6900 + 100 * node as u16)),
            admin: SocketAddr::from(([127, 0, 0, 1], 6998 + 100 * node as u16)),
            shards: (node < 3).then_some((7001, 7000 + node as u16)),
            pid: 4710 + node,
            leads,
        };
        assert_eq!(
            table(&[row(1, Some(16)), row(2, None), row(3, None)]),
            "\n  node  gateway\n  \
               1     127.0.0.1:7000   pid 4711   leads 16    admin 127.0.0.1:7098   shard 7001\n  \
               2     127.0.0.1:7100   pid 4712   leads ?     admin 127.0.0.1:7198   shards 7001-7002\n  \
               3     127.0.0.1:7200   pid 4713   leads ?     admin 127.0.0.1:7298\n\
             \nTry:\n  \
               redis-cli -p 7000 set hello world\n  \
               redis-cli -p 7100 get hello\n  \
               redis-cli -p 7200 incr visits\n  \
               purlin status 7098\n\
             \nCtrl-C ends all."
        );
    }

    #[test]
    fn numbers_have_their_nouns() {
        assert_eq!(count(1, "shard"), "1 shard");
        assert_eq!(count(2, "shard"), "2 shards");
    }
}
