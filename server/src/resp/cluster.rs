//! The subcommands of `CLUSTER` that a connection answers itself: which shard leads which slots.
//!
//! Of each slot only the leader is told, and while there is none the shard that is asked. A client of Redis Cluster takes
//! a second endpoint of a slot for a replica that it may read from, and every shard follows some groups while it leads
//! others.

use super::{
    local::Local,
    parser::Arguments,
    reply::Reply,
    route::{SLOTS, slot_of},
    topology::{Endpoint, GROUP_COST, Topology, endpoint_id},
};
use std::fmt::Write;

/// The topology, which is paid for.
fn topology(local: &mut Local<'_>) -> Topology {
    local.cost += local.front.options().groups as usize * GROUP_COST;
    (local.topology)()
}

pub(super) fn keyslot(local: &mut Local<'_>, arguments: Arguments<'_>) {
    local.reply().integer(slot_of(&arguments[2]).into());
}

pub(super) fn myid(local: &mut Local<'_>, _: Arguments<'_>) {
    let topology = topology(local);
    local.reply().bulk(own_id(&topology));
}

/// The id of the endpoint that is asked.
fn own_id(topology: &Topology) -> String {
    let (node, shard) = topology.own;
    let shard = topology.own().map_or(Some(shard), |own| own.shard);
    endpoint_id(node, shard, &topology.cluster)
}

pub(super) fn slots(local: &mut Local<'_>, _: Arguments<'_>) {
    let topology = topology(local);
    let rows: Vec<_> = topology.rows().collect();
    let mut reply = local.reply();
    reply.array(rows.len());
    for (first, last, endpoint) in rows {
        reply.array(3);
        reply.integer(first.into());
        reply.integer(last.into());
        reply.array(4);
        reply.bulk(&*endpoint.host);
        reply.integer(endpoint.port.into());
        reply.bulk(endpoint.id(&topology.cluster));
        // What else is known of the endpoint: nothing.
        reply.array(0);
    }
}

pub(super) fn shards(local: &mut Local<'_>, _: Arguments<'_>) {
    let topology = topology(local);
    let servers = topology.servers();
    let mut reply = local.reply();
    reply.array(servers.len());
    for (endpoint, slots) in servers {
        reply.map(2);
        reply.bulk("slots");
        reply.array(2 * slots.len());
        for (first, last) in slots {
            reply.integer(first.into());
            reply.integer(last.into());
        }
        reply.bulk("nodes");
        reply.array(1);
        put_node(&mut reply, endpoint, &topology);
    }
}

fn put_node(reply: &mut Reply<'_>, endpoint: &Endpoint, topology: &Topology) {
    reply.map(7);
    for (name, value) in [
        ("id", endpoint.id(&topology.cluster)),
        ("ip", endpoint.host.to_string()),
        ("endpoint", endpoint.host.to_string()),
        ("role", "master".into()),
        ("health", "online".into()),
    ] {
        reply.bulk(name);
        reply.bulk(value);
    }
    for (name, value) in [("port", i64::from(endpoint.port)), ("replication-offset", 0)] {
        reply.bulk(name);
        reply.integer(value);
    }
}

/// A line for each endpoint that serves a group, and for the one that is asked: a tool that asks looks for itself.
pub(super) fn nodes(local: &mut Local<'_>, _: Arguments<'_>) {
    let topology = topology(local);
    let mut servers = topology.servers();
    let own = topology.own();
    if let Some(own) = own
        && servers.iter().all(|(endpoint, _)| *endpoint != own)
    {
        servers.push((own, Vec::new()));
    }
    let mut text = String::new();
    for (endpoint, slots) in servers {
        let myself = if Some(endpoint) == own { "myself," } else { "" };
        // There is no port of a cluster bus. The two times are those of its pings.
        let _ = write!(
            text,
            "{} {}:{}@0 {myself}master - 0 0 {} connected",
            endpoint.id(&topology.cluster),
            endpoint.host,
            endpoint.port,
            topology.term.0,
        );
        for (first, last) in slots {
            let _ = match first == last {
                true => write!(text, " {first}"),
                false => write!(text, " {first}-{last}"),
            };
        }
        text.push('\n');
    }
    local.reply().text(&text);
}

pub(super) fn info(local: &mut Local<'_>, _: Arguments<'_>) {
    let topology = topology(local);
    let led = topology.slots_led();
    let state = if led == u32::from(SLOTS) { "ok" } else { "fail" };
    let servers = topology.servers().len();
    let facts = [
        ("cluster_enabled", "1".to_owned()),
        ("cluster_state", state.into()),
        ("cluster_slots_assigned", SLOTS.to_string()),
        ("cluster_slots_ok", led.to_string()),
        ("cluster_slots_pfail", "0".into()),
        ("cluster_slots_fail", (u32::from(SLOTS) - led).to_string()),
        ("cluster_known_nodes", servers.to_string()),
        ("cluster_size", servers.to_string()),
        ("cluster_current_epoch", topology.term.0.to_string()),
        ("cluster_my_epoch", topology.term.0.to_string()),
        ("purlin_nodes", topology.nodes.to_string()),
    ];
    let mut text = String::new();
    for (name, value) in facts {
        let _ = write!(text, "{name}:{value}\r\n");
    }
    local.reply().text(&text);
}
