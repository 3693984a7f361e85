//! The life of a cluster: its nodes are started, waited for, watched and ended.

use super::{
    folder::Folder,
    node::{self, NodeProcess},
    plan::Plan,
    probe::{self, Health},
    report::{self, Row},
};
use crate::{error::Failure, output::say, signals::Signals};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How long the nodes may take until each group has a leader.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often they are asked meanwhile.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// How long they may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// The processes of a cluster.
pub(super) struct Cluster<'p> {
    plan: &'p Plan,
    signals: &'p Signals,
    nodes: Vec<NodeProcess>,
}

/// Why waiting is over.
enum Over {
    /// What was waited for has come, or will not.
    Go,
    /// There was a wish to end.
    Stop,
}

impl<'p> Cluster<'p> {
    pub(super) fn new(plan: &'p Plan, signals: &'p Signals) -> Self {
        Self { plan, signals, nodes: Vec::new() }
    }

    /// Starts all nodes, says how to use them, and returns when there is a wish to end.
    pub(super) fn live(&mut self, folder: &Folder) -> Result<(), Failure> {
        say(report::head(self.plan, folder.path()));
        self.init(folder)?;
        for plan in self.plan.nodes() {
            self.nodes.push(NodeProcess::start(plan)?);
        }
        if let Over::Stop = self.wait_until_ready()? {
            return Ok(());
        }
        say(report::table(&self.rows()));
        loop {
            self.signals.wait(None);
            if self.signals.take_stop() {
                return Ok(());
            }
            self.report_ended()?;
        }
    }

    /// Ends all nodes and waits for them. A second wish ends them by force.
    pub(super) fn end(&mut self) {
        if self.nodes.iter().any(NodeProcess::is_alive) {
            say("Ending all nodes.");
        }
        self.nodes.iter().for_each(|node| node.signal(Signal::TERM));
        let deadline = Instant::now() + END_WITHIN;
        while self.wait_for_ends(deadline.saturating_duration_since(Instant::now())) {
            if self.signals.take_stop() || Instant::now() >= deadline {
                say("Killing the nodes that still run.");
                self.nodes.iter().for_each(|node| node.signal(Signal::KILL));
                // What was killed ends, unless the disk hangs.
                self.wait_for_ends(END_WITHIN);
                return;
            }
        }
    }

    fn init(&self, folder: &Folder) -> Result<(), Failure> {
        if self.plan.is_new {
            for plan in self.plan.nodes() {
                node::init(plan)?;
            }
        }
        if self.plan.keep { folder.keep() } else { Ok(()) }
    }

    /// Waits until each node that runs knows a leader of each group.
    fn wait_until_ready(&mut self) -> Result<Over, Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.report_ended()?;
            let healths = self.healths();
            if healths.iter().all(|(_, health)| health.is_some_and(|it| it.without_leader == 0)) {
                return Ok(Over::Go);
            }
            if Instant::now() >= deadline {
                say(not_ready(&healths));
                return Ok(Over::Go);
            }
            self.signals.wait(Some(PROBE_EVERY));
            if self.signals.take_stop() {
                return Ok(Over::Stop);
            }
        }
    }

    /// Says which nodes have ended. When all have, so does the cluster.
    fn report_ended(&mut self) -> Result<(), Failure> {
        let mut ended = Vec::new();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            ended.extend(node.take_end().map(|status| (at, status)));
        }
        let alive = self.nodes.iter().filter(|node| node.is_alive()).count();
        for (at, status) in ended {
            say(self.nodes[at].describe_end(status, rest(alive, self.nodes.len())));
        }
        if self.nodes.iter().any(NodeProcess::is_alive) {
            return Ok(());
        }
        say("All nodes have ended.");
        let code = self.nodes.iter().find_map(NodeProcess::code).filter(|code| *code != 0);
        Err(Failure::Child(code.unwrap_or(1)))
    }

    fn healths(&self) -> Vec<(u32, Option<Health>)> {
        let alive = self.nodes.iter().filter(|node| node.is_alive());
        alive.map(|node| (node.node.0, probe::health(node.gateway))).collect()
    }

    fn rows(&self) -> Vec<Row> {
        let alive = self.nodes.iter().filter(|node| node.is_alive());
        let row = |node: &NodeProcess| Row {
            node: node.node.0,
            gateway: node.gateway,
            admin: node.admin,
            shards: node.shards,
            pid: node.pid(),
            leads: probe::health(node.gateway).map(|health| health.leads),
        };
        alive.map(row).collect()
    }

    /// Waits for a signal, at most `limit`, if a node still runs. Whether one does.
    fn wait_for_ends(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            for node in &mut self.nodes {
                // We asked for it.
                let _ = node.take_end();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.nodes.iter().any(NodeProcess::is_alive) {
                return false;
            }
            if left.is_zero() || self.signals.stops() {
                return true;
            }
            self.signals.wait(Some(left));
        }
    }
}

/// How a cluster of `all` nodes stands, of which `alive` run.
fn rest(alive: usize, all: usize) -> &'static str {
    match alive {
        0 => "no node runs any more",
        _ if alive > all / 2 => "the others go on",
        _ => {
            "the others are no majority, so no key can be read or written until a node is started again"
        }
    }
}

fn not_ready(healths: &[(u32, Option<Health>)]) -> String {
    let state = |(node, health): &(u32, Option<Health>)| match health {
        None => format!("node {node} does not answer"),
        Some(health) => format!("node {node} knows no leader of {} groups", health.without_leader),
    };
    let states: Vec<_> = healths.iter().map(state).collect();
    format!(
        "Not ready after {} s: {}. The nodes run on; the log of each node says more.",
        READY_WITHIN.as_secs(),
        states.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_go_on_while_they_are_a_majority() {
        let said = |alive, all| rest(alive, all);
        assert_eq!([said(2, 3), said(3, 5)], ["the others go on"; 2]);
        assert!(said(1, 3).starts_with("the others are no majority"));
        assert!(said(2, 4).starts_with("the others are no majority"));
        assert_eq!(said(0, 1), "no node runs any more");
    }

    #[test]
    fn nodes_that_are_not_ready_are_named() {
        let healths = [(1, None), (2, Some(Health { leads: 3, without_leader: 7 }))];
        assert_eq!(
            not_ready(&healths),
            "Not ready after 60 s: node 1 does not answer, node 2 knows no leader of 7 groups. The \
             nodes run on; the log of each node says more."
        );
    }
}
