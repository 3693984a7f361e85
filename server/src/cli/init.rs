//! `purlin init`: a node's data directory is made here and nowhere else (safety I1), and a cluster's
//! id is drawn here.

use crate::{
    config::{ByteSize, Config},
    error::Failure,
    machine::{load, new_cluster_id, print},
    output::say,
    serve,
};
use std::path::Path;

/// Makes the data directory that the file at `path` names, and says what it is.
pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let config = load(path)?;
    serve::init(&config)?;
    say(made(path, &config));
    Ok(())
}

/// Prints a cluster id that no other cluster has.
pub(super) fn print_new_id() -> Result<(), Failure> {
    print(new_cluster_id()?.to_string())
}

fn made(path: &Path, config: &Config) -> String {
    let (cluster, shards) = (&config.cluster, config.shards());
    let members: Vec<_> = cluster.members.iter().map(|member| member.node.to_string()).collect();
    format!(
        "made {}\n  \
           node     {}, one of {}\n  \
           cluster  {}\n  \
           groups   {}\n  \
           shards   {shards}, each with a log in segments of {}\n\
         What this directory records never changes: its node, its number of shards, and the id, the \
         members, the groups and the longest command of the cluster.\n\
         Start the node with: purlin server --config {}",
        config.node.data_dir.display(),
        config.node.id,
        members.join(", "),
        cluster.id,
        cluster.groups,
        ByteSize(config.wal.segment_bytes),
        path.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Shards, example_members};
    use purlin::{ClusterConfig, ClusterId, NodeId};

    #[test]
    fn init_tells_what_it_has_made_and_how_to_start_it() {
        let members = example_members();
        let cluster = ClusterConfig::new(ClusterId(0xabc), 48, members);
        let mut config = Config::new(NodeId(2), "/data/n2".into(), cluster);
        config.node.shards = Shards::Number(4);
        assert_eq!(
            made(Path::new("n2.toml"), &config),
            "made /data/n2\n  \
               node     2, one of 1, 2, 3\n  \
               cluster  00000000000000000000000000000abc\n  \
               groups   48\n  \
               shards   4, each with a log in segments of 64MiB\n\
             What this directory records never changes: its node, its number of shards, and the id, \
             the members, the groups and the longest command of the cluster.\n\
             Start the node with: purlin server --config n2.toml"
        );
    }
}
