//! The commands that a connection answers itself, but for `COMMAND`.

use super::{
    backend::ServerInfo,
    front::{ClientPort, ClientState, FrontEnd},
    parser::Arguments,
    reply::{Protocol, Reply},
    topology::Topology,
    words,
};
use crate::figures::Fact;
use bytes::BytesMut;
use purlin::GroupId;
use purlin_kv::parse_integer;
use std::{fmt::Write, time::Duration};

/// The version of Redis whose behaviour clients may count on.
const REDIS_VERSION: &str = "7.4.0";

/// What such a command sees and may change.
pub(super) struct Local<'a> {
    pub(super) out: &'a mut BytesMut,
    pub(super) front: &'a FrontEnd,
    pub(super) client: &'a ClientState,
    /// The port that the client has come to.
    pub(super) port: ClientPort,
    /// How clients reach the leaders of all groups.
    pub(super) topology: &'a dyn Fn() -> Topology,
    pub(super) info: &'a dyn Fn() -> ServerInfo,
    /// How many voters each group has.
    pub(super) replicas: u32,
    pub(super) now: Duration,
    /// What the command costs beside its bytes and those of its reply, as so many bytes.
    pub(super) cost: usize,
    /// Whether the connection ends with this reply.
    pub(super) is_last: bool,
}

impl Local<'_> {
    pub(super) fn reply(&mut self) -> Reply<'_> {
        Reply::new(self.out, self.client.protocol.get())
    }
}

pub(super) fn ping(local: &mut Local<'_>, arguments: Arguments<'_>) {
    match arguments.get(1) {
        _ if arguments.len() > 2 => local.reply().error(words::wrong_arity("ping")),
        None => local.reply().simple("PONG"),
        Some(message) => local.reply().bulk(message),
    }
}

pub(super) fn echo(local: &mut Local<'_>, arguments: Arguments<'_>) {
    local.reply().bulk(&arguments[1]);
}

pub(super) fn ok(local: &mut Local<'_>, _: Arguments<'_>) {
    local.reply().ok();
}

pub(super) fn quit(local: &mut Local<'_>, _: Arguments<'_>) {
    local.reply().ok();
    local.is_last = true;
}

pub(super) fn reset(local: &mut Local<'_>, _: Arguments<'_>) {
    local.client.reset();
    local.reply().simple("RESET");
}

pub(super) fn select(local: &mut Local<'_>, arguments: Arguments<'_>) {
    match parse_integer(&arguments[1]) {
        Some(0) => local.reply().ok(),
        Some(_) => local.reply().error(words::NO_SUCH_DB),
        None => local.reply().error(words::NOT_AN_INTEGER),
    }
}

pub(super) fn auth(local: &mut Local<'_>, _: Arguments<'_>) {
    local.reply().error(words::NO_PASSWORD);
}

/// Every write that was answered is on a majority already, and this is answered after them.
pub(super) fn wait(local: &mut Local<'_>, arguments: Arguments<'_>) {
    if arguments.from(1).iter().any(|number| parse_integer(number).is_none_or(|n| n < 0)) {
        return local.reply().error(words::NOT_AN_INTEGER);
    }
    let others = local.replicas.saturating_sub(1);
    local.reply().integer(others.into());
}

pub(super) fn hello(local: &mut Local<'_>, arguments: Arguments<'_>) {
    match read_hello(arguments) {
        Err(text) => local.reply().error(text),
        Ok(Hello { protocol, name }) => {
            if let Some(protocol) = protocol {
                local.client.protocol.set(protocol);
            }
            if let Some(name) = name {
                *local.client.name.borrow_mut() = name;
            }
            welcome(local);
        }
    }
}

/// What clients take the server for: at the port of a shard they must expect `MOVED`.
fn mode(port: ClientPort) -> &'static str {
    match port {
        ClientPort::Gateway => "standalone",
        ClientPort::Shard => "cluster",
    }
}

struct Hello {
    protocol: Option<Protocol>,
    name: Option<String>,
}

fn read_hello(arguments: Arguments<'_>) -> Result<Hello, String> {
    let mut hello = Hello { protocol: None, name: None };
    let Some(version) = arguments.get(1) else { return Ok(hello) };
    hello.protocol = Some(match parse_integer(version) {
        Some(2) => Protocol::Resp2,
        Some(3) => Protocol::Resp3,
        Some(_) => return Err(words::NO_PROTOCOL.into()),
        None => return Err(words::PROTOCOL_NOT_AN_INTEGER.into()),
    });
    let mut options = arguments.from(2).iter();
    while let Some(option) = options.next() {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"AUTH") && options.len() >= 2 {
            return Err(words::NO_PASSWORD.into());
        } else if is(b"SETNAME") && options.len() >= 1 {
            let name = options.next().unwrap_or_default();
            hello.name = Some(client_name(name)?);
        } else {
            let option = words::shown(option);
            return Err(format!("ERR Syntax error in HELLO option '{option}'"));
        }
    }
    Ok(hello)
}

fn welcome(local: &mut Local<'_>) {
    let id = local.client.id as i64;
    let version = match local.client.protocol.get() {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    };
    let mode = mode(local.port);
    let mut reply = local.reply();
    reply.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(name);
        reply.bulk(value);
    }
    for (name, value) in [("proto", version), ("id", id)] {
        reply.bulk(name);
        reply.integer(value);
    }
    for (name, value) in [("mode", mode), ("role", "master")] {
        reply.bulk(name);
        reply.bulk(value);
    }
    reply.bulk("modules");
    reply.array(0);
}

pub(super) fn client_id(local: &mut Local<'_>, _: Arguments<'_>) {
    let id = local.client.id as i64;
    local.reply().integer(id);
}

pub(super) fn client_getname(local: &mut Local<'_>, _: Arguments<'_>) {
    let name = local.client.name.borrow();
    let mut reply = Reply::new(local.out, local.client.protocol.get());
    if name.is_empty() { reply.nil() } else { reply.bulk(&*name) }
}

pub(super) fn client_setname(local: &mut Local<'_>, arguments: Arguments<'_>) {
    match client_name(&arguments[2]) {
        Err(text) => local.reply().error(text),
        Ok(name) => {
            *local.client.name.borrow_mut() = name;
            local.reply().ok();
        }
    }
}

pub(super) fn client_setinfo(local: &mut Local<'_>, arguments: Arguments<'_>) {
    let option = words::shown(&arguments[2]).to_lowercase();
    let place = match &*option {
        "lib-name" => &local.client.library,
        "lib-ver" => &local.client.library_version,
        _ => return local.reply().error(format!("ERR Unrecognized option '{option}'")),
    };
    let value = match client_name(&arguments[3]) {
        Ok(value) => value,
        Err(words::BAD_CLIENT_NAME) => {
            let text = "cannot contain spaces, newlines or special characters.";
            return local.reply().error(format!("ERR {option} {text}"));
        }
        Err(text) => return local.reply().error(text),
    };
    *place.borrow_mut() = value;
    local.reply().ok();
}

pub(super) fn client_info(local: &mut Local<'_>, _: Arguments<'_>) {
    let line = local.client.describe(local.now);
    local.reply().text(&line);
}

pub(super) fn client_list(local: &mut Local<'_>, _: Arguments<'_>) {
    let lines = local.front.client_list(local.now);
    local.reply().text(&lines);
}

/// The longest name that a client may give itself or its library, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// A name that a client may give itself, as Redis has it: printable, without spaces; and here not longer
/// than [`NAME_BYTES_MAX`].
fn client_name(name: &[u8]) -> Result<String, &'static str> {
    if name.len() > NAME_BYTES_MAX {
        return Err(words::CLIENT_NAME_TOO_LONG);
    }
    let is_fine = name.iter().all(u8::is_ascii_graphic);
    is_fine.then(|| String::from_utf8_lossy(name).into_owned()).ok_or(words::BAD_CLIENT_NAME)
}

/// The patterns of one command have so many bytes together. Each byte of a name costs a step for each byte of
/// a pattern at most, so all settings cost 400,000 steps: less than a millisecond.
pub(super) const PATTERN_BYTES_MAX: usize = 1024;

/// So many steps of comparing cost as much as one byte of a request: a millisecond of either is the same.
const STEPS_PER_BYTE: usize = 6;

/// What `INFO` costs, as bytes: it looks at the groups one by one, up to a bound.
const INFO_COST: usize = 16 << 10;

/// What it costs to compare patterns of so many bytes with names, as bytes.
pub(super) fn compare_cost<'a>(
    patterns: Arguments<'_>,
    names: impl Iterator<Item = &'a str>,
) -> usize {
    let pattern_bytes: usize = patterns.iter().map(<[u8]>::len).sum();
    pattern_bytes * names.map(str::len).sum::<usize>() / STEPS_PER_BYTE
}

/// Whether patterns are so long that nothing is compared with them.
pub(super) fn are_too_long(patterns: Arguments<'_>) -> bool {
    patterns.iter().map(<[u8]>::len).sum::<usize>() > PATTERN_BYTES_MAX
}

pub(super) fn config_get(local: &mut Local<'_>, arguments: Arguments<'_>) {
    if are_too_long(arguments.from(2)) {
        return local.reply().error(words::PATTERNS_TOO_LONG);
    }
    let mut settings = local.front.settings(local.port);
    local.cost += compare_cost(arguments.from(2), settings.iter().map(|(name, _)| *name));
    settings.retain(|(name, _)| {
        arguments.from(2).iter().any(|pattern| matches(pattern, name.as_bytes()))
    });
    for (_, value) in settings.iter_mut().filter(|(name, _)| *name == "maxmemory") {
        *value = maxmemory((local.info)().data_bytes.max);
    }
    let mut reply = local.reply();
    reply.map(settings.len());
    for (name, value) in settings {
        reply.bulk(name);
        reply.bulk(value);
    }
}

/// Whether `text` matches a pattern of Redis: `*`, `?`, `[a-c]`, `[^x]`, `\` before a character that
/// is meant as it is; upper and lower case are the same.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on when what follows the latest star does not match: one byte further.
    let (mut retry, mut pattern_at, mut text_at) = (None, 0, 0);
    while text_at < text.len() {
        match pattern.get(pattern_at) {
            Some(b'*') => {
                pattern_at += 1;
                retry = Some((pattern_at, text_at));
                continue;
            }
            Some(_) => {
                let (len, is_match) = matches_one(&pattern[pattern_at..], text[text_at]);
                if is_match {
                    pattern_at += len;
                    text_at += 1;
                    continue;
                }
            }
            None => {}
        }
        let Some((star, from)) = retry else { return false };
        retry = Some((star, from + 1));
        (pattern_at, text_at) = (star, from + 1);
    }
    pattern[pattern_at..].iter().all(|&byte| byte == b'*')
}

/// The length of the first element of `pattern`, which is no star, and whether it matches `byte`.
fn matches_one(pattern: &[u8], byte: u8) -> (usize, bool) {
    let same = |one: u8| one.eq_ignore_ascii_case(&byte);
    match *pattern {
        [b'?', ..] => (1, true),
        [b'\\', escaped, ..] => (2, same(escaped)),
        [b'[', ref class @ ..] => {
            let end = class.iter().position(|&byte| byte == b']').unwrap_or(class.len());
            let (class, is_negated) = match &class[..end] {
                [b'^', class @ ..] => (class, true),
                class => (class, false),
            };
            let len = (end + 2).min(pattern.len());
            (len, in_class(class, byte.to_ascii_lowercase()) != is_negated)
        }
        [one, ..] => (1, same(one)),
        [] => (0, false),
    }
}

fn in_class(mut class: &[u8], byte: u8) -> bool {
    loop {
        let (low, high, rest) = match class {
            [low, b'-', high, rest @ ..] => (*low, *high, rest),
            [one, rest @ ..] => (*one, *one, rest),
            [] => return false,
        };
        let (low, high) = (low.to_ascii_lowercase(), high.to_ascii_lowercase());
        if (low.min(high)..=low.max(high)).contains(&byte) {
            return true;
        }
        class = rest;
    }
}

pub(super) fn info(local: &mut Local<'_>, arguments: Arguments<'_>) {
    let wanted: Vec<_> =
        arguments.from(1).iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
    let is_all = wanted.is_empty()
        || wanted.iter().any(|name| matches!(&**name, "all" | "default" | "everything"));
    local.cost += INFO_COST;
    let mut text = String::new();
    for (name, facts) in sections(local.front, local.port, &(local.info)()) {
        if !is_all && !wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)) {
            continue;
        }
        let gap = if text.is_empty() { "" } else { "\r\n" };
        let _ = write!(text, "{gap}# {name}\r\n");
        for (fact, value) in facts {
            let _ = write!(text, "{fact}:{value}\r\n");
        }
    }
    local.reply().text(&text);
}

/// A bound on the memory of keys and values, as Redis tells it: 0 when there is none.
fn maxmemory(bytes: usize) -> String {
    if bytes >= usize::MAX / 2 { "0".into() } else { bytes.to_string() }
}

type Section = (&'static str, Vec<Fact>);

fn facts<const N: usize>(facts: [(&str, String); N]) -> Vec<Fact> {
    facts.map(|(name, value)| (name.to_owned(), value)).into()
}

fn sections(front: &FrontEnd, port: ClientPort, info: &ServerInfo) -> Vec<Section> {
    let uptime = info.uptime.as_secs();
    let server = facts([
        ("redis_version", REDIS_VERSION.into()),
        ("redis_mode", mode(port).into()),
        ("purlin_version", env!("CARGO_PKG_VERSION").into()),
        ("process_id", info.process.to_string()),
        ("tcp_port", front.number_of(port).to_string()),
        ("uptime_in_seconds", uptime.to_string()),
        ("uptime_in_days", (uptime / 86_400).to_string()),
    ]);
    let clients = facts([
        ("connected_clients", front.clients().to_string()),
        ("maxclients", front.options().clients_max.to_string()),
        ("mem_clients_normal", front.budget().bytes().to_string()),
        ("maxmemory_clients", front.options().memory_max.to_string()),
    ]);
    let used = info.data_bytes.now + info.entry_bytes.now + front.budget().bytes();
    let memory = facts([
        ("used_memory", used.to_string()),
        ("used_memory_dataset", info.data_bytes.now.to_string()),
        ("maxmemory", maxmemory(info.data_bytes.max)),
        ("maxmemory_policy", "noeviction".into()),
    ]);
    let stats = facts([
        ("total_connections_received", front.connections().to_string()),
        ("total_commands_processed", front.commands().to_string()),
    ]);
    let is_cluster = u8::from(port == ClientPort::Shard).to_string();
    vec![
        ("Server", server),
        ("Clients", clients),
        ("Memory", memory),
        ("Persistence", facts([("loading", u32::from(info.groups.loading > 0).to_string())])),
        ("Stats", stats),
        ("Replication", facts([("role", "master".into()), ("connected_slaves", "0".into())])),
        ("CPU", info.figures.cpu()),
        ("Cluster", facts([("cluster_enabled", is_cluster)])),
        ("Purlin", of_purlin(front, info)),
        ("Stages", info.figures.stages()),
    ]
}

/// The facts that Redis has no name for.
fn of_purlin(front: &FrontEnd, info: &ServerInfo) -> Vec<Fact> {
    let leads: Vec<String> = info.leads.iter().map(GroupId::to_string).collect();
    let mut purlin = facts([
        ("purlin_node", info.node.to_string()),
        ("purlin_cluster", info.cluster.clone()),
        ("purlin_admin", info.admin.clone()),
        ("purlin_nodes", info.nodes.to_string()),
        ("purlin_shards", info.shards.to_string()),
        ("purlin_ready", u8::from(info.is_ready).to_string()),
        ("purlin_groups", front.options().groups.to_string()),
        ("purlin_replicas", info.replicas.to_string()),
        ("purlin_leads", leads.join(",")),
        ("purlin_groups_led", info.groups.leading.to_string()),
        ("purlin_groups_loading", info.groups.loading.to_string()),
        ("purlin_groups_without_leader", info.groups.without_leader.to_string()),
        ("purlin_entries_applied", info.groups.applied.to_string()),
        ("purlin_entry_bytes", info.entry_bytes.now.to_string()),
        ("purlin_entry_bytes_max", info.entry_bytes.max.to_string()),
    ]);
    purlin.extend(info.figures.work());
    purlin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_bound_that_its_error_names() {
        assert!(client_name(&[b'n'; NAME_BYTES_MAX]).is_ok());
        assert_eq!(client_name(&[b'n'; NAME_BYTES_MAX + 1]), Err(words::CLIENT_NAME_TOO_LONG));
        assert!(words::CLIENT_NAME_TOO_LONG.contains(&NAME_BYTES_MAX.to_string()));
        assert_eq!(client_name(b"a b"), Err(words::BAD_CLIENT_NAME));
    }

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, is_match) in [
            ("*", "", true),
            ("save", "save", true),
            ("SAVE", "save", true),
            ("save", "saved", false),
            ("s*e", "save", true),
            ("*a*e", "save", true),
            ("*x*", "save", false),
            ("s?ve", "save", true),
            ("s?", "save", false),
            ("[r-t]ave", "save", true),
            ("[^r-t]ave", "save", false),
            ("[xs]ave", "save", true),
            ("[", "s", false),
            ("\\*", "*", true),
            ("\\*", "s", false),
            ("", "", true),
            ("", "s", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), is_match, "{pattern} {text}");
        }
        // No pattern costs more than its length times that of the text.
        let stars = [b"*a".repeat(5_000), b"b".to_vec()].concat();
        assert!(!matches(&stars, &b"a".repeat(5_000)));
    }

    #[test]
    fn a_limit_on_patterns_is_named_with_its_number() {
        assert!(words::PATTERNS_TOO_LONG.contains(&PATTERN_BYTES_MAX.to_string()));
    }
}
