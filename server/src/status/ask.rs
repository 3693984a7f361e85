//! Asks the nodes of a cluster at their admin ports.

use crate::{
    admin::schema::{GroupLine, GroupsAnswer, Member, MembersAnswer, NodeAnswer, SCHEMA},
    config::{ADMIN_OFFSET, PEER_OFFSET},
    resp::{RespClient, Value},
};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long a node may take for a connection, or for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most parts of `RAFT GROUPS` that are read from a node.
const PARTS_MAX: usize = 64;
/// The most nodes that are asked.
const NODES_MAX: usize = 256;

/// One node, and what it said.
pub(super) struct Asked {
    /// Nothing when nobody has said who is there.
    pub(super) node: Option<u32>,
    /// Where it was asked, or nothing when nobody knows its admin port.
    pub(super) address: Option<String>,
    /// What it said, or why it said nothing.
    pub(super) answer: Result<Answer, String>,
}

/// What a node said.
pub(super) struct Answer {
    pub(super) node: NodeAnswer,
    pub(super) groups: Vec<GroupLine>,
    members: Vec<Member>,
}

#[cfg(test)]
impl Answer {
    pub(super) fn new(node: NodeAnswer, groups: Vec<GroupLine>) -> Self {
        Self { node, groups, members: Vec::new() }
    }
}

/// `7098` is a port of this machine.
pub(super) fn with_host(address: &str) -> String {
    match address.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => address.to_owned(),
    }
}

/// Asks the nodes at `first`, and then all others that those know.
pub(super) fn ask_all(first: &[String]) -> Vec<Asked> {
    let mut all: Vec<_> = first.iter().map(|address| ask(None, address.clone())).collect();
    let answers = all.iter().filter_map(|asked| asked.answer.as_ref().ok());
    let mut members: Vec<_> = answers.flat_map(|answer| answer.members.clone()).collect();
    // What is known of a member first, whoever knows it.
    members.sort_by_key(|member| (member.node, member.admin.is_none()));
    members.dedup_by_key(|member| member.node);
    for member in members.into_iter().take(NODES_MAX) {
        if !all.iter().any(|asked| asked.node == Some(member.node)) {
            all.push(ask_member(&member));
        }
    }
    all.sort_by_key(|asked| asked.node.unwrap_or(u32::MAX));
    all.dedup_by(|a, b| a.node.is_some() && a.node == b.node);
    all
}

/// Asks a member where it has told its admin port to be, else where the admin port is by the usual
/// block of ports.
fn ask_member(member: &Member) -> Asked {
    if member.admin_is_local {
        let why = "its admin port listens on loopback, and its own machine alone reaches it".into();
        return Asked { node: Some(member.node), address: None, answer: Err(why) };
    }
    let usual = member.peer_port.checked_add(ADMIN_OFFSET - PEER_OFFSET);
    let address = match (&member.admin, usual) {
        (Some(admin), _) => admin.clone(),
        (None, Some(port)) if member.host.contains(':') => format!("[{}]:{port}", member.host),
        (None, Some(port)) => format!("{}:{port}", member.host),
        (None, None) => {
            let why = "no node that answers knows its admin port".into();
            return Asked { node: Some(member.node), address: None, answer: Err(why) };
        }
    };
    let mut asked = ask(Some(member.node), address);
    let node = asked.node.unwrap_or_default();
    if node != member.node {
        asked.node = Some(member.node);
        asked.answer = Err(format!("node {node} has this admin port"));
    }
    asked
}

fn ask(node: Option<u32>, address: String) -> Asked {
    let answer = ask_node(&address);
    let told = answer.as_ref().ok().map(|answer| answer.node.node);
    Asked { node: told.or(node), address: Some(address), answer }
}

fn ask_node(address: &str) -> Result<Answer, String> {
    let mut client = connect(address)?;
    let node: NodeAnswer = match client.command(&["RAFT", "STATUS"]).map_err(text)? {
        // This is the gateway, which names the admin port.
        Value::Error(refusal) => {
            let admin = admin_of(&mut client).ok_or(refusal)?;
            client = connect(&admin)?;
            request(&mut client, &["RAFT", "STATUS"])?
        }
        reply => read(&reply)?,
    };
    if node.schema != SCHEMA {
        return Err(format!(
            "its answers have schema {}, and this program reads schema {SCHEMA}: use the program of \
             version {}",
            node.schema, node.version
        ));
    }
    let members: MembersAnswer = request(&mut client, &["RAFT", "MEMBERS"])?;
    let mut groups = Vec::new();
    let mut next = Some(1);
    for _ in 0..PARTS_MAX {
        let Some(from) = next else { break };
        let part: GroupsAnswer = request(&mut client, &["RAFT", "GROUPS", &from.to_string()])?;
        groups.extend(part.groups);
        next = part.next;
    }
    Ok(Answer { node, groups, members: members.members })
}

fn connect(address: &str) -> Result<RespClient, String> {
    RespClient::connect(address, PATIENCE).map_err(text)
}

/// The admin port that a gateway names.
fn admin_of(client: &mut RespClient) -> Option<String> {
    let reply = client.command(&["INFO", "purlin"]).ok()?;
    let info = String::from_utf8_lossy(reply.bytes()?).into_owned();
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(name, _)| *name == "purlin_admin").map(|(_, value)| value.trim().to_owned())
}

fn request<T: DeserializeOwned>(client: &mut RespClient, words: &[&str]) -> Result<T, String> {
    read(&client.command(words).map_err(text)?)
}

fn read<T: DeserializeOwned>(reply: &Value) -> Result<T, String> {
    match reply {
        Value::Bulk(bytes) => serde_json::from_slice(bytes)
            .map_err(|error| format!("its answer cannot be read: {error}")),
        Value::Error(error) => Err(error.clone()),
        other => Err(format!("its answer is no JSON: {other}")),
    }
}

fn text(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            format!("no answer within {} s", PATIENCE.as_secs())
        }
        _ => error.to_string(),
    }
}
