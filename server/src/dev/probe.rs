//! Asks a node how it is, as a client would.

use crate::resp::{RespClient, Value};
use std::{net::SocketAddr, time::Duration};

/// How long a node may take for an answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a node says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Health {
    /// Groups that it leads.
    pub(super) leads: u32,
    /// Groups of which it knows no leader.
    pub(super) without_leader: u32,
}

/// What the node at `gateway` says; nothing when it does not answer as it should.
pub(super) fn health(gateway: SocketAddr) -> Option<Health> {
    let mut client = RespClient::connect(gateway, PATIENCE).ok()?;
    if client.command(&["PING"]).ok()? != Value::Simple("PONG".into()) {
        return None;
    }
    match client.command(&["INFO"]).ok()? {
        Value::Bulk(bytes) => parse(&String::from_utf8_lossy(&bytes)),
        Value::Text(text) => parse(&text),
        _ => None,
    }
}

fn parse(info: &str) -> Option<Health> {
    Some(Health {
        leads: field(info, "purlin_groups_led")?.parse().ok()?,
        without_leader: field(info, "purlin_groups_without_leader")?.parse().ok()?,
    })
}

/// The value in the line `name:value`.
fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(other, _)| *other == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    #[test]
    fn health_stands_in_two_lines() {
        let info = "# Purlin\r\npurlin_groups_led:3\r\npurlin_groups_without_leader:2\r\n";
        assert_eq!(parse(info), Some(Health { leads: 3, without_leader: 2 }));
        let none = "purlin_groups_led:0\npurlin_groups_without_leader:0\n";
        assert_eq!(parse(none), Some(Health { leads: 0, without_leader: 0 }));
        assert_eq!(parse("purlin_groups_led:1\r\n"), None);
        assert_eq!(parse("purlin_groups_led:1\r\npurlin_groups_without_leader:x\r\n"), None);
    }

    /// What `health` says of a server that sends `reply` to whatever it is asked.
    fn health_of(reply: &'static str) -> Option<Health> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let gateway = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let read = stream.read(&mut [0; 64]).expect("a request");
            stream.write_all(reply.as_bytes()).expect("a client");
            read
        });
        let health = health(gateway);
        assert!(server.join().expect("no panic") > 0);
        health
    }

    #[test]
    fn a_node_must_answer_as_one() {
        let good = "+PONG\r\n$53\r\npurlin_groups_led:1\r\npurlin_groups_without_leader:0\r\n\r\n";
        assert_eq!(health_of(good), Some(Health { leads: 1, without_leader: 0 }));
        assert_eq!(health_of("-LOADING not yet\r\n"), None);
        assert_eq!(health_of("HTTP/1.1 400 Bad Request\r\n\r\n"), None);
        assert_eq!(health_of("+PONG\r\n-ERR no\r\n"), None);
        assert_eq!(health_of(""), None, "it hangs up");
    }

    #[test]
    fn nobody_has_no_health() {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
        assert_eq!(health(free), None);
    }
}
