//! Takes operators' connections, and answers their requests one at a time.

use super::{
    describe::{self, GROUPS_PER_PAGE},
    facts::AdminFacts,
};
use crate::{
    figures::Figures,
    resp::{Arguments, Inbox, Parser, Protocol, Reply, RequestLimits},
};
use bytes::BytesMut;
use futures_lite::future;
use purlin::{GroupId, GroupStatus, Listener, Net, NodeView, Reader, Runtime, Writer};
use serde::Serialize;
use std::{
    fmt::Write,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tracing::warn;

/// How many operators' connections a node keeps, over all its shards. They are counted apart from
/// clients' connections.
pub const CONNECTIONS_MAX: usize = 16;
/// A connection whose last request is this long ago is closed, whatever part of the next request has
/// come: it is one of a few.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// When all places are taken and another operator comes, a connection whose last request is this long ago gives its
/// place up.
const CROWDED_IDLE: Duration = Duration::from_secs(5);
/// So long an operator waits for such a place, and so often an idle connection looks whether one is wanted.
const PLACE_WAIT: Duration = Duration::from_millis(600);
const PLACE_LOOK: Duration = Duration::from_millis(200);
/// A shard answers at the end of its turn. One that takes longer hangs.
const SHARD_PATIENCE: Duration = Duration::from_secs(2);
/// An operator who takes nothing of an answer for so long is disconnected.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Answers are written in pieces of so many bytes, each within the deadline.
const WRITE_PIECE_BYTES: usize = 64 << 10;
/// After a connection could not be accepted: some other connection may end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// While connections cannot be accepted, the log says so this often.
const LOG_PAUSE: Duration = Duration::from_secs(10);
/// No request of this port is longer.
const LIMITS: RequestLimits = RequestLimits {
    arguments_max: 16,
    arguments_kept: 16,
    bulk_bytes_max: 1 << 10,
    inline_bytes_max: 1 << 10,
    request_bytes_max: 8 << 10,
};

const VERBS: &str =
    "RAFT STATUS, RAFT GROUPS, RAFT GROUP <number>, RAFT MEMBERS, INFO, PING, HELLO and QUIT";

/// Serves operators for as long as the runtime lives.
pub async fn serve_admin<R: Runtime>(
    runtime: R,
    mut listener: <R::Net as Net>::Listener,
    view: NodeView,
    facts: AdminFacts,
    connections: Connections,
) {
    let port = Rc::new(Port { view, facts, connections });
    let mut logged_at: Option<Duration> = None;
    loop {
        match listener.accept().await {
            Ok((_, mut writer)) if !port.connections.has_place(&runtime).await => {
                let refusal = format!(
                    "-ERR {CONNECTIONS_MAX} connections to the admin port are open already, and each was used within the last \
                     {} s; close one\r\n",
                    CROWDED_IDLE.as_secs()
                );
                // One refusal at a time, so that a crowd costs one connection.
                let _ = write_within(&runtime, &mut writer, refusal.as_bytes()).await;
                let _ = writer.close().await;
            }
            Ok((reader, writer)) => {
                let open = Open::new(Rc::clone(&port));
                runtime.spawn(open.serve(runtime.clone(), reader, writer));
            }
            Err(error) => {
                // It may fail for as long as there are too many files open: one line in a while.
                let now = runtime.now();
                if logged_at.is_none_or(|at| now.saturating_sub(at) >= LOG_PAUSE) {
                    logged_at = Some(now);
                    warn!(port = listener.port(), %error, "an operator's connection could not be accepted; the shard tries again; if this lasts, raise the limit of open files (ulimit -n)");
                }
                runtime.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Port {
    view: NodeView,
    facts: AdminFacts,
    connections: Connections,
}

/// The operators' connections of a node. Its shards share this.
#[derive(Clone, Default)]
pub struct Connections(Arc<Places>);

#[derive(Default)]
struct Places {
    /// How many are taken.
    taken: AtomicUsize,
    /// Those that wait for one: see [`Waiting`].
    waiting: AtomicU64,
}

/// The operators that wait for an idle connection to give its place up, in one number, so that they change together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Waiting {
    /// So many no connection has answered yet.
    wanted: u32,
    /// For so many a connection has given its place up, and they have not taken it yet.
    granted: u32,
}

impl Waiting {
    fn of(number: u64) -> Self {
        Self { wanted: (number >> 32) as u32, granted: number as u32 }
    }

    fn number(self) -> u64 {
        u64::from(self.wanted) << 32 | u64::from(self.granted)
    }

    /// An operator begins to wait.
    fn come(self) -> Option<Self> {
        Some(Self { wanted: self.wanted + 1, ..self })
    }

    /// A connection gives its place up, if somebody waits for one.
    fn grant(self) -> Option<Self> {
        let wanted = self.wanted.checked_sub(1)?;
        Some(Self { wanted, granted: self.granted + 1 })
    }

    /// An operator waits no more. It takes a place that was given up, if there is one: the others wait on.
    fn leave(self) -> Option<Self> {
        match self.granted.checked_sub(1) {
            Some(granted) => Some(Self { granted, ..self }),
            None => Some(Self { wanted: self.wanted.checked_sub(1)?, ..self }),
        }
    }
}

impl Connections {
    fn count(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Shards that accept at the same moment may exceed the limit by one connection each.
    fn are_full(&self) -> bool {
        self.count() >= CONNECTIONS_MAX
    }

    /// Whether there is a place, perhaps after a while: an idle connection may give its place up.
    async fn has_place(&self, runtime: &impl Runtime) -> bool {
        if !self.are_full() {
            return true;
        }
        let end = runtime.now() + PLACE_WAIT;
        self.change(Waiting::come);
        while self.are_full() && runtime.now() < end {
            runtime.sleep(PLACE_LOOK / 4).await;
        }
        self.change(Waiting::leave);
        !self.are_full()
    }

    /// Whether an operator waits for a place; the caller gives its own up.
    fn take_wanted(&self) -> bool {
        self.change(Waiting::grant)
    }

    fn change(&self, change: impl Fn(Waiting) -> Option<Waiting>) -> bool {
        let changed = |number| change(Waiting::of(number)).map(Waiting::number);
        self.0.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed).is_ok()
    }

    /// Returns when a connection is to be closed that has asked nothing since `asked_at`.
    async fn is_idle_for_too_long(&self, runtime: &impl Runtime, asked_at: Duration) {
        loop {
            let now = runtime.now();
            let is_crowded = now >= asked_at + CROWDED_IDLE && self.take_wanted();
            if is_crowded || now >= asked_at + IDLE_MAX {
                return;
            }
            let look = (asked_at + CROWDED_IDLE).max(now + PLACE_LOOK);
            runtime.sleep(look.min(asked_at + IDLE_MAX) - now).await;
        }
    }
}

/// One connection, counted while this lives.
struct Open {
    port: Rc<Port>,
    protocol: Protocol,
}

impl Open {
    fn new(port: Rc<Port>) -> Self {
        port.connections.0.taken.fetch_add(1, Ordering::Relaxed);
        Self { port, protocol: Protocol::default() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.port.connections.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    End,
}

impl Open {
    async fn serve<R: Runtime>(
        mut self,
        runtime: R,
        mut reader: impl Reader,
        mut writer: impl Writer,
    ) {
        // How it ends does not matter: nothing was changed.
        let _ = self.converse(&runtime, &mut reader, &mut writer).await;
        let _ = writer.close().await;
    }

    async fn converse<R: Runtime>(
        &mut self,
        runtime: &R,
        reader: &mut impl Reader,
        writer: &mut impl Writer,
    ) -> io::Result<()> {
        let (mut inbox, mut parser) = (Inbox::new(), Parser::new(LIMITS));
        let mut asked_at = runtime.now();
        loop {
            let mut out = BytesMut::new();
            let next = match parser.parse(inbox.unread()) {
                Ok(None) => {
                    let idle = async {
                        self.port.connections.is_idle_for_too_long(runtime, asked_at).await;
                        Ok(0)
                    };
                    inbox.reserve(parser.needs());
                    match future::or(reader.read(inbox.space()), idle).await? {
                        0 => return Ok(()),
                        len => inbox.fill(len),
                    }
                    continue;
                }
                Ok(Some(len)) => {
                    let next =
                        self.answer(runtime, parser.arguments(inbox.unread()), &mut out).await;
                    inbox.consume(len);
                    asked_at = runtime.now();
                    next
                }
                Err(error) => {
                    Reply::new(&mut out, self.protocol).error(format!("ERR {error}"));
                    Next::End
                }
            };
            write_within(runtime, writer, &out).await?;
            // An operator who sends without a pause, and reads, never lets this task wait.
            runtime.yield_now().await;
            if next == Next::End {
                return Ok(());
            }
        }
    }

    async fn answer<R: Runtime>(
        &mut self,
        runtime: &R,
        words: Arguments<'_>,
        out: &mut BytesMut,
    ) -> Next {
        if words.is_empty() {
            return Next::Go;
        }
        let name = words[0].to_ascii_lowercase();
        let mut reply = Reply::new(out, self.protocol);
        match (&*name, words.len()) {
            (b"ping", 1) => reply.simple("PONG"),
            (b"ping", 2) => reply.bulk(&words[1]),
            (b"quit", _) => {
                reply.ok();
                return Next::End;
            }
            (b"hello", _) => {
                match words.get(1) {
                    None => {}
                    Some(b"2") => self.protocol = Protocol::Resp2,
                    Some(b"3") => self.protocol = Protocol::Resp3,
                    Some(_) => {
                        reply.error("NOPROTO unsupported protocol version");
                        return Next::Go;
                    }
                }
                welcome(&mut Reply::new(out, self.protocol));
            }
            (b"info", _) => reply.text(&self.info(runtime.now())),
            (b"raft", 2..) => self.raft(runtime, words, &mut reply).await,
            // A browser, perhaps one that somebody has tricked into coming here.
            (b"post" | b"host:", _) => return Next::End,
            _ => reply.error(self.unknown(words)),
        }
        Next::Go
    }

    async fn raft<R: Runtime>(&self, runtime: &R, words: Arguments<'_>, reply: &mut Reply<'_>) {
        let Port { view, facts, .. } = &*self.port;
        let late = async {
            runtime.sleep(SHARD_PATIENCE).await;
            Err("its shard does not answer; RAFT STATUS says how the shard stands".to_owned())
        };
        let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<u32>().ok();
        match (&*words[1].to_ascii_lowercase(), words.len()) {
            (b"status", 2) => json(reply, &describe::node(facts, view, runtime.now())),
            (b"members", 2) => json(reply, &describe::members(facts, view)),
            (b"groups", 2..=4) => {
                let from = words.get(2).map_or(Some(1), number);
                let count = words.get(3).map_or(Some(GROUPS_PER_PAGE), number);
                match (from, count) {
                    (Some(from), Some(count @ 1..=GROUPS_PER_PAGE)) => {
                        json(reply, &describe::groups(view, from, count));
                    }
                    _ => reply.error(format!(
                        "ERR RAFT GROUPS takes the number of a group to begin at, and the number of groups in \
                         the page, 1 to {GROUPS_PER_PAGE}"
                    )),
                }
            }
            (b"group", 3) => match number(&words[2])
                .filter(|group| (1..=facts.cluster.all_groups()).contains(group))
            {
                None => reply.error(format!(
                    "ERR RAFT GROUP takes the number of a group, 1 to {}",
                    facts.cluster.all_groups()
                )),
                Some(group) => match future::or(group_status(view, GroupId(group)), late).await {
                    Ok(status) => json(reply, &describe::group(view.node(), &status)),
                    Err(why) => {
                        reply.error(format!("ERR nothing is known of group {group} now: {why}"))
                    }
                },
            },
            _ => reply.error(self.unknown(words)),
        }
    }

    fn unknown(&self, words: Arguments<'_>) -> String {
        const LEN_MAX: usize = 128;
        let words: Vec<_> = words.iter().map(String::from_utf8_lossy).collect();
        let line: String = words.join(" ").chars().take(LEN_MAX).collect();
        let gateway = &self.port.facts.gateway;
        format!(
            "ERR the admin port does not know '{line}'; it knows {VERBS}. Commands on keys go to the gateway, {gateway}"
        )
    }

    /// The facts that tools of Redis read.
    fn info(&self, now: Duration) -> String {
        let Port { view, facts, .. } = &*self.port;
        let answer = describe::node(facts, view, now);
        let problems: usize = answer.shards.iter().map(|shard| shard.problems.len()).sum();
        let wal_bytes: u64 = answer.shards.iter().map(|shard| shard.wal.bytes).sum();
        let mut text = String::from("# Purlin\r\n");
        let figures = Figures::of(view, (facts.cpu)());
        let facts = [
            ("purlin_version", answer.version),
            ("process_id", answer.process.to_string()),
            ("uptime_in_seconds", answer.uptime_seconds.to_string()),
            ("purlin_node", answer.node.to_string()),
            ("purlin_cluster", answer.cluster),
            ("purlin_gateway", answer.gateway),
            ("purlin_admin", answer.admin),
            ("purlin_shards", answer.shards.len().to_string()),
            ("purlin_ready", u8::from(answer.ready).to_string()),
            ("purlin_groups", answer.groups.all.to_string()),
            ("purlin_groups_led", answer.groups.leads.to_string()),
            ("purlin_groups_without_leader", answer.groups.without_leader.to_string()),
            ("purlin_wal_bytes", wal_bytes.to_string()),
            ("purlin_problems", problems.to_string()),
            ("connected_clients", self.port.connections.count().to_string()),
        ];
        let facts = facts.map(|(name, value)| (name.to_owned(), value));
        for (name, value) in facts.into_iter().chain(figures.work()) {
            let _ = write!(text, "{name}:{value}\r\n");
        }
        for (section, facts) in [("CPU", figures.cpu()), ("Stages", figures.stages())] {
            let _ = write!(text, "\r\n# {section}\r\n");
            facts.iter().for_each(|(name, value)| _ = write!(text, "{name}:{value}\r\n"));
        }
        text
    }
}

/// How the replica of a group stands now, or why nobody can say, in a sentence. A shard that hangs must not
/// answer for the groups of another one: each shard is asked for its own groups.
async fn group_status(view: &NodeView, group: GroupId) -> Result<GroupStatus, String> {
    let shard = view.shard_of(group);
    let control = view.control(shard).expect("the placement names shards of this node");
    match control.group(group).await {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err(format!("shard {shard} of this node does not have it")),
        Err(error) => Err(error.to_string()),
    }
}

fn json(reply: &mut Reply<'_>, answer: &impl Serialize) {
    reply.bulk(serde_json::to_vec(answer).expect("numbers, texts and lists are JSON"));
}

fn welcome(reply: &mut Reply<'_>) {
    let version = match reply.protocol() {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    };
    reply.map(4);
    for (name, value) in
        [("server", "purlin"), ("version", env!("CARGO_PKG_VERSION")), ("mode", "admin")]
    {
        reply.bulk(name);
        reply.bulk(value);
    }
    reply.bulk("proto");
    reply.integer(version);
}

async fn write_within(
    runtime: &impl Runtime,
    writer: &mut impl Writer,
    bytes: &[u8],
) -> io::Result<()> {
    for piece in bytes.chunks(WRITE_PIECE_BYTES) {
        let deadline = async {
            runtime.sleep(WRITE_DEADLINE).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        future::or(writer.write_all(piece), deadline).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first one finds the place that an idle connection gave up for it, and would take the wish of the second along.
    #[test]
    fn an_operator_that_leaves_takes_no_wish_of_another_along() {
        let connections = Connections::default();
        assert!(!connections.take_wanted(), "nobody waits");
        (0..2).for_each(|_| assert!(connections.change(Waiting::come)));
        assert!(connections.take_wanted(), "an idle connection ends for the first");
        assert!(connections.change(Waiting::leave));
        assert!(connections.take_wanted(), "and another one for the second");
        assert!(connections.change(Waiting::leave));
        assert_eq!(connections.0.waiting.load(Ordering::Relaxed), 0);
        // One that found no place takes its own wish along.
        assert!(connections.change(Waiting::come) && connections.change(Waiting::leave));
        assert!(!connections.take_wanted() && !connections.change(Waiting::leave));
    }
}
