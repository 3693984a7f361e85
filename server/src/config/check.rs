//! Whether the values of a configuration go together. The engine has the rules for what it takes; here
//! they get the keys and places of the file, and the rules that are the server's own are added: ports,
//! addresses and what one client may ask for.

use super::{
    COMMAND_OVERHEAD_BYTES, Config, mistake::Mistake, options::value_bytes_max, reader::Places,
};
use purlin::{ByteSize, Member};

/// All contradictions of `config`, whose values stood at `places`.
pub(super) fn contradictions(config: &Config, places: &Places) -> Vec<Mistake> {
    let mut found = Found { config, places, mistakes: Vec::new() };
    found.of_the_engine();
    found.peer_ports();
    found.addresses();
    found.own_ports();
    found.max_value();
    found.client_memory();
    found.mistakes
}

struct Found<'c> {
    config: &'c Config,
    places: &'c Places,
    mistakes: Vec<Mistake>,
}

impl Found<'_> {
    /// Adds a mistake at the first of `names` that is no default.
    fn add(&mut self, names: &[&str], message: String, label: &str) {
        let span = names.iter().find_map(|name| self.places.of(name));
        self.mistakes.push(Mistake::new(message, span).label(label));
    }

    fn of_the_engine(&mut self) {
        let (cluster, node) = (&self.config.cluster, self.config.node_config());
        for found in cluster.contradictions().into_iter().chain(node.contradictions(cluster)) {
            let keys: Vec<_> = found.fields.iter().map(|field| key_of(field)).collect();
            let message = format!("`{}` {}", keys[0], found.text);
            self.add(&keys, message, &found.remark);
        }
    }

    /// Members on one host need ports that do not overlap. How many shards the others have is not
    /// known here: as many as this node, as a rule.
    fn peer_ports(&mut self) {
        let shards = self.config.shards();
        let members = &self.config.cluster.members;
        for (at, member) in members.iter().enumerate() {
            if member.last_port(shards) > u32::from(u16::MAX) {
                let message = format!(
                    "node {} needs the ports {} to {} for {shards} shards, and the last port is 65535",
                    member.node.0,
                    member.peer_port,
                    member.last_port(shards)
                );
                self.add(&[&place(at, "peer_port")], message, "");
            }
            for other in members[..at].iter().filter(|other| other.host == member.host) {
                self.overlap(at, other, member, shards);
            }
        }
    }

    fn overlap(&mut self, at: usize, other: &Member, member: &Member, shards: u16) {
        let (a, b) = (other.node.0, member.node.0);
        if other.peer_port == member.peer_port {
            let message = format!(
                "the nodes {a} and {b} have the same address {}:{}",
                member.host, member.peer_port
            );
            self.add(&[&place(at, "peer_port"), &place(at, "host")], message, "");
        } else if other.peer_port.abs_diff(member.peer_port) < shards {
            let message = format!(
                "the peer ports of the nodes {a} and {b} overlap: {}-{} and {}-{}",
                other.peer_port,
                other.last_port(shards),
                member.peer_port,
                member.last_port(shards)
            );
            let label = format!("shard i listens at peer_port + i, and there are {shards} shards");
            self.add(&[&place(at, "peer_port")], message, &label);
        }
    }

    /// There are no passwords, so an address that other machines reach takes a word of the operator.
    fn addresses(&mut self) {
        let listen = &self.config.listen;
        for (name, address, who) in [
            ("listen.gateway", listen.gateway, "clients"),
            ("listen.admin", listen.admin, "operators"),
        ] {
            if !address.ip().is_loopback() && !self.config.listen.insecure {
                let message = format!(
                    "`{name}` is {address}, which other machines reach, and {who} are not asked for \
                     a password"
                );
                self.add(&[name], message, "use 127.0.0.1, or say `insecure = true` in [listen]");
            }
        }
    }

    /// The ports of one node are different.
    fn own_ports(&mut self) {
        let (listen, shards) = (&self.config.listen, self.config.shards());
        let own = self.config.cluster.members.iter().find(|it| it.node == self.config.node.id);
        let Some(own) = own else { return };
        let mut uses = vec![
            ("cluster.members", own.peer_port, shards),
            ("listen.gateway", listen.gateway.port(), 1),
            ("listen.admin", listen.admin.port(), 1),
        ];
        if listen.shard_port_base != 0 {
            uses.push(("listen.shard_port_base", listen.shard_port_base, shards));
        }
        for (at, &(name, first, count)) in uses.iter().enumerate() {
            let last = u32::from(first) + u32::from(count) - 1;
            if first == 0 || (at > 0 && last > u32::from(u16::MAX)) {
                let message = format!("`{name}` has no port left below 65536");
                self.add(&[name, "listen.gateway"], message, "choose a lower port");
            }
            let overlaps = |&&(_, other, others): &&(&str, u16, u16)| {
                u32::from(other) <= last && u32::from(first) < u32::from(other) + u32::from(others)
            };
            if let Some(&(other, from, ports)) = uses[..at].iter().find(overlaps) {
                let message = format!(
                    "`{name}` takes {}, and {} of this node takes {}",
                    ports_of(first, count),
                    match other {
                        "cluster.members" => "`peer_port`".into(),
                        other => format!("`{other}`"),
                    },
                    ports_of(from, ports)
                );
                self.add(&[name, other], message, "each port can have one use only");
            }
        }
    }

    fn max_value(&mut self) {
        let command = self.config.cluster.max_command;
        let (value, most) = (self.config.client.max_value, value_bytes_max(&self.config.cluster));
        if value > most {
            let message = format!(
                "`client.max_value` is {}, and with commands of {} at most it must be at most {}",
                ByteSize(value),
                ByteSize(command as u64),
                ByteSize(most)
            );
            let label = format!(
                "`cluster.max_command`, less {} for the rest of a command",
                ByteSize(COMMAND_OVERHEAD_BYTES)
            );
            self.add(&["client.max_value", "cluster.max_command"], message, &label);
        }
    }

    /// Otherwise one client with one long command and one long reply would be closed for what it may do.
    fn client_memory(&mut self) {
        let client = &self.config.client;
        let (query, output) = (client.query_buffer as u64, client.output_buffer as u64);
        let (memory, command) = (client.memory as u64, self.config.cluster.max_command as u64);
        let least = 2 * (query + output + command);
        if memory < least {
            let message = format!(
                "`client.memory` is {}, and must be at least {}, for two clients that use all they may",
                ByteSize(memory),
                ByteSize(least)
            );
            let label = format!(
                "twice `client.query_buffer` ({}), `client.output_buffer` ({}) and `cluster.max_command` ({})",
                ByteSize(query),
                ByteSize(output),
                ByteSize(command)
            );
            let keys = ["client.memory", "client.query_buffer", "client.output_buffer"];
            self.add(&keys, message, &label);
        }
    }
}

/// The key of the file that gives a field of the engine its value. A field without a key keeps its
/// default, and is shown by its own name.
fn key_of(field: &str) -> &str {
    match field {
        "raft.inflight_bytes_max" => "raft.inflight_bytes",
        "raft.memory_bytes_max" => "raft.memory",
        "wal.segment_bytes" => "wal.segment",
        field => field,
    }
}

/// The name of a member's key among the places.
fn place(at: usize, key: &str) -> String {
    format!("cluster.members[{at}].{key}")
}

fn ports_of(first: u16, count: u16) -> String {
    match count {
        1 => format!("port {first}"),
        _ => format!("the ports {first} to {}", u32::from(first) + u32::from(count) - 1),
    }
}
