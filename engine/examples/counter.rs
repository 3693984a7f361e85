//! Three nodes in one process, each a host of the same replicated counters: one for each of four
//! groups. Run it with `cargo run --release -p purlin --example counter`.

use purlin::{
    ApplyContext, ClusterConfig, ClusterId, Command, GroupId, Host, Member, NodeConfig, NodeId,
    StateMachine, WalOptions,
};
use std::{error::Error, net::TcpListener, path::PathBuf, time::Duration};

/// The state machine: a number. A command is an amount to add, and its outcome is the sum.
#[derive(Default)]
struct Counter {
    sum: u64,
}

impl StateMachine for Counter {
    fn apply(&mut self, _: &ApplyContext, commands: &[Command], outcomes: &mut Vec<bytes::Bytes>) {
        for command in commands {
            // Every replica must come to the same result, for malformed commands too.
            let amount = <[u8; 8]>::try_from(&command.data[..]).map_or(0, u64::from_le_bytes);
            self.sum = self.sum.wrapping_add(amount);
            outcomes.push(bytes::Bytes::copy_from_slice(&self.sum.to_le_bytes()));
        }
    }

    fn query(&self, _: &[u8]) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.sum.to_le_bytes())
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(format!("target/counter-{}", std::process::id()));
    let members = members()?;
    let hosts = members
        .iter()
        .map(|member| start(member.node, &members, &directory))
        .collect::<Result<Vec<_>, _>>()?;

    // Any node takes requests for any group, and passes them on to the group's leader.
    for (number, host) in hosts.iter().enumerate() {
        let client = host.client();
        for group in (1..=4).map(GroupId) {
            let sum = client.propose(group, 5_u64.to_le_bytes().to_vec()).wait(PATIENCE)?;
            println!("node {}, group {group}: + 5 = {}", number + 1, number_of(&sum)?);
        }
    }
    // A query is linearizable: it sees every outcome that came before it, wherever it is asked.
    for group in (1..=4).map(GroupId) {
        let sum = hosts[0].client().query(group, "").wait(PATIENCE)?;
        assert_eq!(number_of(&sum)?, 15);
    }
    println!("each counter stands at 15 on every node");

    hosts.into_iter().try_for_each(Host::shutdown)?;
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

fn start(
    node: NodeId,
    members: &[Member],
    directory: &std::path::Path,
) -> Result<Host, purlin::Error> {
    let mut cluster = ClusterConfig::new(ClusterId(0x00c0_ffee), 4, members.to_vec());
    cluster.max_command = 1 << 20;
    let mut config = NodeConfig::new(node, directory.join(format!("n{node}")));
    config.pin = false;
    config.wal = WalOptions { segment_bytes: 16 << 20, ..WalOptions::default() };
    // `init_if_missing` is an explicit word: nothing else ever makes a data directory.
    Host::builder(cluster, config, |_group| Counter::default()).init_if_missing().start()
}

/// Three members on loopback ports that are free now.
fn members() -> std::io::Result<Vec<Member>> {
    let listeners =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    let member = |(node, port): (u32, std::io::Result<u16>)| {
        Ok(Member { node: NodeId(node), host: "127.0.0.1".into(), peer_port: port? })
    };
    (1..).zip(ports).map(member).collect()
}

fn number_of(outcome: &[u8]) -> Result<u64, std::array::TryFromSliceError> {
    Ok(u64::from_le_bytes(outcome.try_into()?))
}
