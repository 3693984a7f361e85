//! Asks the nodes of a cluster at their admin ports: all at once, and all until one deadline. A node that
//! does not answer costs the time of the deadline once, however many such nodes there are.
//!
//! ```text
//! first addresses ──► a thread for each attempt ──► an answer, with the members that the node knows
//!                          ▲                                        │
//!                          └──────── those not asked yet ◄──────────┘
//! ```

use crate::{
    admin::schema::{GroupLine, GroupsAnswer, Member, MembersAnswer, NodeAnswer, SCHEMA},
    config::{ADMIN_OFFSET, PEER_OFFSET},
    resp::{RespClient, Value},
};
use serde::de::DeserializeOwned;
use std::{
    io,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

/// How long all nodes together may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// After this time more the round ends: what the deadline has cut short is still heard.
const GRACE: Duration = Duration::from_millis(250);
/// A node that has not answered for so long is asked again over another connection, and so on. The kernel
/// gives each connection to any shard that listens: while one shard hangs, another one answers.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// The most pages of `RAFT GROUPS` that are read from a node: 65,536 groups.
const PAGES_MAX: usize = 64;
/// The most addresses that are asked, and nodes without an address that are told of.
const ADDRESSES_MAX: usize = 256;
/// The most threads that ask at one time: one for each address, and as many to ask again.
const THREADS_MAX: usize = 2 * ADDRESSES_MAX;
/// The stack of each of these threads; the standard library has the same default.
const STACK_BYTES: usize = 2 << 20;

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
    /// Its groups from the first on, if it knows no leader of some of them.
    pub(super) groups: Vec<GroupLine>,
    /// Whether these are all its groups.
    pub(super) has_all_groups: bool,
    members: Vec<Member>,
}

#[cfg(test)]
impl Answer {
    pub(super) fn new(node: NodeAnswer, groups: Vec<GroupLine>) -> Self {
        Self { node, groups, has_all_groups: true, members: Vec::new() }
    }
}

/// `7098` is a port of this machine.
pub(super) fn with_host(address: &str) -> String {
    match address.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => address.to_owned(),
    }
}

/// Asks the nodes at `first`, and all others that those know.
pub(super) fn ask_all(first: &[String]) -> Vec<Asked> {
    ask_within(first, PATIENCE, ASK_AGAIN)
}

fn ask_within(first: &[String], patience: Duration, ask_again: Duration) -> Vec<Asked> {
    let mut round = Round::begin(patience, ask_again);
    for address in first.iter().take(ADDRESSES_MAX) {
        round.ask(None, address.clone());
    }
    while round.is_open() {
        match round.next_answer() {
            Some((at, answer)) => round.hear(at, answer),
            None if round.is_over() => break,
            None => round.ask_again(),
        }
    }
    round.end()
}

/// One question to all nodes.
struct Round {
    patience: Duration,
    ask_again: Duration,
    deadline: Instant,
    /// When those that have not answered are asked again.
    again_at: Instant,
    sender: Sender<Attempted>,
    receiver: Receiver<Attempted>,
    targets: Vec<Target>,
    /// The attempts that have not told yet what came of them. Invariant: with one for each address that may still
    /// be asked, these are at most [`THREADS_MAX`].
    attempts: usize,
    stack_bytes: usize,
}

/// What came of an attempt to ask the target with this number.
type Attempted = (usize, Result<Answer, String>);

/// An address that is asked, or a node without one.
struct Target {
    node: Option<u32>,
    address: Option<String>,
    /// Nothing yet while it is asked.
    answer: Option<Result<Answer, String>>,
}

impl Round {
    fn begin(patience: Duration, ask_again: Duration) -> Self {
        let (sender, receiver) = mpsc::channel();
        let now = Instant::now();
        let (deadline, again_at) = (now + patience, now + ask_again);
        Self {
            patience,
            ask_again,
            deadline,
            again_at,
            sender,
            receiver,
            targets: Vec::new(),
            attempts: 0,
            stack_bytes: STACK_BYTES,
        }
    }

    /// Whether an answer is missing.
    fn is_open(&self) -> bool {
        self.targets.iter().any(|target| target.answer.is_none())
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline + GRACE
    }

    /// The next answer; nothing when it is time to ask again, or when the round is over.
    fn next_answer(&mut self) -> Option<Attempted> {
        let until = self.again_at.min(self.deadline + GRACE);
        // The round has a sender itself: the channel is never closed.
        let wait = until.saturating_duration_since(Instant::now());
        let attempted = self.receiver.recv_timeout(wait).ok()?;
        self.attempts -= 1;
        Some(attempted)
    }

    /// Asks at an address. A thread that this machine refuses is the answer.
    fn ask(&mut self, node: Option<u32>, address: String) {
        let at = self.targets.len();
        self.targets.push(Target { node, address: Some(address), answer: None });
        if let Err(error) = self.attempt(at) {
            self.targets[at].answer = Some(Err(format!(
                "it was not asked, because this machine refused a thread ({error}); raise the limit on threads \
                 (ulimit -u)"
            )));
        }
    }

    /// Asks a target over a connection of its own. The thread ends at the deadline, or soon after: looking up
    /// a name has its own time.
    fn attempt(&mut self, at: usize) -> io::Result<()> {
        let (sender, deadline) = (self.sender.clone(), self.deadline);
        let Some(address) = self.targets[at].address.clone() else { return Ok(()) };
        let ask = move || {
            let answer = ask_node(&address, deadline);
            // Nobody listens any more when the round is over.
            let _over = sender.send((at, answer));
        };
        thread::Builder::new().name("ask".into()).stack_size(self.stack_bytes).spawn(ask)?;
        self.attempts += 1;
        Ok(())
    }

    /// Asks again those that have not answered, as far as there are threads. Each has an attempt that goes on, so
    /// a thread that is refused changes nothing.
    fn ask_again(&mut self) {
        self.again_at += self.ask_again;
        if self.again_at > self.deadline {
            // The round only waits for its end.
            self.again_at = self.deadline + GRACE;
        }
        for at in 0..self.targets.len() {
            let kept = ADDRESSES_MAX - self.targets.len();
            if self.attempts + kept >= THREADS_MAX {
                return;
            }
            if self.targets[at].answer.is_none() && self.attempt(at).is_err() {
                return;
            }
        }
    }

    /// Takes an answer, and asks the members that it names. The first answer of a target counts.
    fn hear(&mut self, at: usize, answer: Result<Answer, String>) {
        let target = &mut self.targets[at];
        if target.answer.is_some() {
            return;
        }
        let answer = answer.and_then(|answer| match target.node {
            Some(node) if node != answer.node.node => {
                Err(format!("node {} has this admin port", answer.node.node))
            }
            _ => Ok(answer),
        });
        let mut members = Vec::new();
        if let Ok(answer) = &answer {
            target.node = Some(answer.node.node);
            members.clone_from(&answer.members);
        }
        target.answer = Some(answer);
        members.iter().for_each(|member| self.meet(member));
    }

    /// Asks a member that has not answered, where it is not asked yet.
    fn meet(&mut self, member: &Member) {
        let has_answered = |target: &Target| {
            target.node == Some(member.node) && matches!(target.answer, Some(Ok(_)))
        };
        if self.targets.iter().any(has_answered) {
            return;
        }
        match address_of(member) {
            Ok(address) => {
                let is_there = |target: &Target| target.address.as_ref() == Some(&address);
                match self.targets.iter().position(is_there) {
                    Some(at) => _ = self.targets[at].node.get_or_insert(member.node),
                    None if self.targets.len() < ADDRESSES_MAX => {
                        self.ask(Some(member.node), address);
                    }
                    None => {}
                }
            }
            Err(why) => {
                let is_there = self.targets.iter().any(|target| target.node == Some(member.node));
                if !is_there && self.targets.len() < ADDRESSES_MAX {
                    let answer = Some(Err(why.into()));
                    self.targets.push(Target { node: Some(member.node), address: None, answer });
                }
            }
        }
    }

    /// What each node has said, in the order of the nodes.
    fn end(self) -> Vec<Asked> {
        let late = || Err(format!("no answer within {} s", self.patience.as_secs_f64()));
        let asked = |Target { node, address, answer }: Target| Asked {
            node,
            address,
            answer: answer.unwrap_or_else(late),
        };
        let mut all: Vec<_> = self.targets.into_iter().map(asked).collect();
        // Of each node the answer, else an address that was asked, else the reason why none was.
        let place = |asked: &Asked| (asked.answer.is_err(), asked.address.is_none());
        all.sort_by_key(|asked| (asked.node.unwrap_or(u32::MAX), place(asked)));
        all.dedup_by(|a, b| a.node.is_some() && a.node == b.node);
        all
    }
}

/// Where a member has told its admin port to be, else where the admin port is by the usual block of ports;
/// or why it is not asked.
fn address_of(member: &Member) -> Result<String, &'static str> {
    if member.admin_is_local {
        return Err("its admin port listens on loopback, and its own machine alone reaches it");
    }
    let usual = member.peer_port.checked_add(ADMIN_OFFSET - PEER_OFFSET);
    match (&member.admin, usual) {
        (Some(admin), _) => Ok(admin.clone()),
        (None, Some(port)) if member.host.contains(':') => Ok(format!("[{}]:{port}", member.host)),
        (None, Some(port)) => Ok(format!("{}:{port}", member.host)),
        (None, None) => Err("no node that answers knows its admin port"),
    }
}

fn ask_node(address: &str, deadline: Instant) -> Result<Answer, String> {
    let mut client = connect(address, deadline)?;
    let node: NodeAnswer = match client.command(&["RAFT", "STATUS"]).map_err(text)? {
        // This is the gateway, which names the admin port.
        Value::Error(refusal) => {
            let admin = admin_of(&mut client).ok_or(refusal)?;
            client = connect(&admin, deadline)?;
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
    let (mut groups, mut next) = (Vec::new(), (node.groups.without_leader > 0).then_some(1));
    for _ in 0..PAGES_MAX {
        let Some(from) = next else { break };
        // What came before the deadline is better than nothing.
        let words = ["RAFT", "GROUPS", &from.to_string()];
        let Ok(page) = request::<GroupsAnswer>(&mut client, &words) else { break };
        groups.extend(page.groups);
        next = page.next;
    }
    Ok(Answer { node, groups, has_all_groups: next.is_none(), members: members.members })
}

fn connect(address: &str, deadline: Instant) -> Result<RespClient, String> {
    RespClient::connect_until(address, deadline).map_err(text)
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
            format!("no answer within {} s", PATIENCE.as_secs_f64())
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[path = "ask_test.rs"]
mod tests;
