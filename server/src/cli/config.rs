//! `purlin config`: a configuration file is checked, or written.

use crate::{
    config::{Config, GROUPS, example_members},
    error::Failure,
    machine::{load, new_cluster_id, print},
    output::say,
};
use purlin::{ClusterConfig, NodeId};
use std::path::Path;

/// Says that the file is good, and what it would start.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let config = load(path)?;
    say(format!(
        "{}: good. Node {}, one of {} members; {} groups; shards here: {}; clients at {}, operators \
         at {}",
        path.display(),
        config.node.id,
        config.cluster.members.len(),
        config.cluster.groups,
        config.shards(),
        config.listen.gateway,
        config.listen.admin,
    ));
    Ok(())
}

/// Prints a file for the first of three nodes, with a cluster id of its own.
pub(super) fn print_default() -> Result<(), Failure> {
    let members = example_members();
    let cluster = ClusterConfig::new(new_cluster_id()?, GROUPS, members);
    print(Config::new(NodeId(1), "/var/lib/purlin".into(), cluster).render().trim_end())
}
