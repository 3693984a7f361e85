//! `purlin init`: a node's data directory is made here and nowhere else (safety I1), and a cluster's
//! id is drawn here.

use super::{load, say};
use crate::{
    config::{ByteSize, Config},
    error::Failure,
    serve,
};
use purlin::{ClusterId, ErrorKind};
use std::{fs::File, io::Read, path::Path};

const RANDOM: &str = "/dev/urandom";

/// Makes the data directory that the file at `path` names, and says what it is.
pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let config = load(path)?;
    serve::init(&config)?;
    say(made(path, &config));
    Ok(())
}

/// Prints a cluster id that no other cluster has.
pub(super) fn print_new_id() -> Result<(), Failure> {
    say(new_cluster_id()?.to_string());
    Ok(())
}

/// A cluster id that no other cluster has.
pub(crate) fn new_cluster_id() -> Result<ClusterId, Failure> {
    let mut bytes = [0; 16];
    let read = File::open(RANDOM).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| {
        Failure::new(
            ErrorKind::Environment,
            format!("no random number can be drawn: {error}"),
            RANDOM,
            "nothing was made",
            "make the device readable",
        )
    })?;
    Ok(ClusterId(u128::from_ne_bytes(bytes).max(1)))
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
         The node, the cluster, the groups and the shards of this directory can never change.\n\
         Start it with: purlin server --config {}",
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
    use purlin::{ClusterConfig, NodeId};

    #[test]
    fn what_was_made_is_told() {
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
             The node, the cluster, the groups and the shards of this directory can never change.\n\
             Start it with: purlin server --config n2.toml"
        );
    }

    #[test]
    fn cluster_ids_differ() {
        let ids = [new_cluster_id(), new_cluster_id()].map(|id| id.expect("random bytes"));
        assert_ne!(ids[0], ids[1]);
    }
}
