//! The language of the scripts in `testscripts/`, over a [`Cluster`]. `script_test.rs` runs them.
//!
//! A command that touches a node also hands out what that node wants done, unless it is tagged
//! `[hold]`. Writes and messages then wait for `persist` and `deliver`.
//!
//! ```text
//! cluster nodes=3 [incoming="1 2 3" outgoing="1 2" learners="4"]
//!         election=10 tell=2 messages=8 window=B append=B apply=B cache=B tail=N
//!         first=N judged=false at_once=false
//!                                      a new cluster; election timeouts lie in election..2*election,
//!                                      and what is committed waits for `apply` unless it is at once
//! init N terms="1 1 2" [term=T] [commit=I] [floor=I@T]
//!                                      gives node N a durable log, which begins behind the floor, and
//!                                      starts it on that
//! init_disk N ..                       exchanges what its disk holds under a running replica
//! tick [N..] [n=K]                     clocks move, replicas that are due are ticked
//! wait [N..] [n=K]                     clocks move, nobody is ticked
//! late [N..] [n=K]                     clocks move at once, then one tick, and nothing is handed out
//! campaign N                           node N's clock moves to its deadline, and it is ticked
//! propose N x.. | bytes=B, read N id   fails with `!` on a replica that does not lead
//! deliver|drop|dup|reorder [from=N] [to=N] [type=T] [n=K] [last]
//!                                      of the messages on their way those that match
//! ready N.., persist N [one|all], apply N, fetch N [n=K|fail|begun]
//!                                      `begun`: with what the disk held when the read began
//! land N [one|all], complete N write=W  persist in two steps: the write lands, the report comes
//! crash N [keep=K], restart N [abstain=K], trust N
//! vouch F L [term=T], unvouch F L, confirm L F, unconfirm L F, beat L (all of these, for all)
//! connect A B, disconnect A B          A is told of its connection to B
//! unsent L F prev=P, room L F          L is told that an append to F did not leave, or that there is room again
//! hand_over L F                        L begins to hand the group over to F
//! full N [yes|no]                      N is told that its disk takes no entries, or takes them again
//! cut A B, partition N.., heal         messages that are lost
//! stabilize                            hands out, persists and delivers until nothing is left
//! inject A B term=T [group=G] [epoch=E] type key=value..
//!                                      forges a message
//! status [N..], log [N..], network, has_ready [N..]
//! ```

use super::{
    Raft, Voters,
    harness::{Cluster, Disk, Moment, Options, show_entries, show_envelope},
    progress::State,
    role::Role,
};
use crate::{
    entry::{Entry, Payload},
    message::{Envelope, Message},
    types::{
        EntryId, GroupEpoch, GroupId, HardState, Index, NodeId, Position, Term, Tick, WriteId,
    },
};
use bytes::Bytes;
use goldenscript::{ArgumentConsumer, Command, Context, Runner};
use std::{error::Error, str::FromStr};

type Outcome = Result<(), Box<dyn Error>>;

/// Runs one script.
pub(super) struct Script {
    pub cluster: Cluster,
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let touched = self.dispatch(&command.name, &mut args)?;
        args.reject_next()?;
        if !context.tags.contains("hold") {
            touched.into_iter().for_each(|node| self.cluster.hand_out(node));
        }
        Ok(self.cluster.take_told())
    }
}

impl Script {
    /// Does what a command says, and names the nodes whose replicas it touched.
    fn dispatch(
        &mut self,
        name: &str,
        args: &mut ArgumentConsumer<'_>,
    ) -> Result<Vec<NodeId>, Box<dyn Error>> {
        match name {
            "cluster" => self.cluster(args)?,
            "init" | "init_disk" => self.init(name, args)?,
            "ready" => return self.nodes(args),
            "tick" | "late" | "wait" | "campaign" => return self.time(name, args),
            "propose" => return self.propose(args),
            "read" => return self.read(args),
            "deliver" => self.deliver(args)?,
            "drop" | "dup" | "reorder" => self.disturb(name, args)?,
            "persist" | "land" | "apply" | "fetch" | "complete" => {
                return self.complete(name, args);
            }
            "crash" | "restart" | "trust" => return self.life(name, args),
            "vouch" | "unvouch" | "confirm" | "unconfirm" | "connect" | "disconnect" | "unsent"
            | "room" => {
                return self.connection(name, args);
            }
            "hand_over" => return self.hand_over(args),
            "full" => return self.full(args),
            "beat" => self.beat(args)?,
            "cut" | "partition" | "heal" => self.network(name, args)?,
            "stabilize" => self.stabilize()?,
            "inject" => return self.inject(args),
            "status" | "log" | "network" | "has_ready" => self.show(name, args)?,
            _ => return Err(format!("no command {name}").into()),
        }
        Ok(Vec::new())
    }

    fn cluster(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let mut options = Options::default();
        set(args, "nodes", &mut options.nodes)?;
        if let Some(incoming) = args.take_key("incoming") {
            let outgoing = args.take_key("outgoing").unwrap_or_default();
            let learners = args.take_key("learners").unwrap_or_default();
            options.voters = Some(Voters::joint(ids(incoming)?, ids(outgoing)?, ids(learners)?));
        }
        if let Some(election) = key::<u64>(args, "election")? {
            options.election_ticks = election..2 * election;
        }
        set(args, "tell", &mut options.tell_commit_ticks)?;
        set(args, "messages", &mut options.window.messages)?;
        set(args, "window", &mut options.window.bytes)?;
        set(args, "append", &mut options.append_bytes_max)?;
        set(args, "apply", &mut options.apply_bytes_max)?;
        set(args, "cache", &mut options.cache_bytes_max)?;
        set(args, "tail", &mut options.tail)?;
        set(args, "judged", &mut options.is_judged)?;
        set(args, "at_once", &mut options.applies_at_once)?;
        options.campaigns_first = key::<u32>(args, "first")?.map(NodeId);
        self.cluster = Cluster::new(options);
        Ok(())
    }

    fn init(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let id = node(args)?;
        let terms: Vec<u64> = args
            .take_key("terms")
            .unwrap_or_default()
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let floor = args.take_key("floor").map(entry_id).transpose()?.unwrap_or_default();
        let last = terms.last().copied().unwrap_or(floor.term.0);
        let term = key(args, "term")?.unwrap_or(last);
        let entry = |(index, term): (u64, u64)| Entry {
            term: Term(term),
            index: Index(index),
            before: Position(0),
            payload: Payload::Noop,
        };
        let committed = Index(key(args, "commit")?.unwrap_or(0));
        let hard_state = HardState { term: Term(term), vote: None, committed };
        let entries: Vec<Entry> = (floor.index.next().0..).zip(terms).map(entry).collect();
        if floor != EntryId::default() {
            self.cluster.oracle.begin_at(floor);
        }
        if self.cluster.options.is_judged {
            self.cluster.oracle.hold(&entries, floor.term);
        }
        let node = self.cluster.nodes.get_mut(&id).ok_or("no such node")?;
        node.disk = Disk { hard_state, floor, entries, ..Disk::default() };
        if name == "init" {
            let node = self.cluster.nodes.get_mut(&id).expect("a node");
            node.writing.clear();
            node.machine.clear();
            self.cluster.restart(id, 0);
        }
        Ok(())
    }

    fn time(
        &mut self,
        name: &str,
        args: &mut ArgumentConsumer<'_>,
    ) -> Result<Vec<NodeId>, Box<dyn Error>> {
        let ticks = key(args, "n")?.unwrap_or(1);
        let nodes = self.nodes(args)?;
        for id in &nodes {
            match name {
                "campaign" => {
                    let due = self.cluster.raft(*id).and_then(Raft::deadline);
                    let due = due.ok_or("it has no deadline")?;
                    let node = self.cluster.nodes.get_mut(id).expect("a node");
                    node.now = node.now.max(due);
                    self.cluster.input(*id, Raft::tick);
                }
                "late" => {
                    let node = self.cluster.nodes.get_mut(id).expect("a node");
                    node.now = Tick(node.now.0 + ticks);
                    self.cluster.input(*id, Raft::tick);
                }
                "wait" => {
                    let node = self.cluster.nodes.get_mut(id).expect("a node");
                    node.now = Tick(node.now.0 + ticks);
                }
                _ => {
                    for _ in 0..ticks {
                        self.cluster.pass(*id, 1);
                        self.cluster.hand_out(*id);
                    }
                }
            }
        }
        // Time that has passed is nothing to hand out for.
        Ok(if name == "wait" || name == "late" { Vec::new() } else { nodes })
    }

    fn propose(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<Vec<NodeId>, Box<dyn Error>> {
        let id = node(args)?;
        let mut commands: Vec<String> = Vec::new();
        if let Some(bytes) = key::<usize>(args, "bytes")? {
            commands.push("x".repeat(bytes));
        }
        while let Some(command) = args.next_pos() {
            commands.push(command.to_string());
        }
        for command in commands {
            self.cluster.propose(id, &command).ok_or("it is down")??;
        }
        Ok(vec![id])
    }

    fn read(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<Vec<NodeId>, Box<dyn Error>> {
        let id = node(args)?;
        let read = args.next_pos().ok_or("which read?")?.parse()?;
        self.cluster.read(id, read).ok_or("it is down")??;
        Ok(vec![id])
    }

    /// The messages on their way that the arguments name, by their place.
    fn matching(&self, args: &mut ArgumentConsumer<'_>) -> Result<Vec<usize>, Box<dyn Error>> {
        let (from, to) = (key::<u32>(args, "from")?, key::<u32>(args, "to")?);
        let (kind, n) = (args.take_key("type"), key::<usize>(args, "n")?);
        let is_last = match args.next_pos() {
            None => false,
            Some("last") => true,
            Some(other) => return Err(format!("messages {other}?").into()),
        };
        let matches = |envelope: &Envelope| {
            from.is_none_or(|from| envelope.from.0 == from)
                && to.is_none_or(|to| envelope.to.0 == to)
                && kind.is_none_or(|kind| is_kind(&envelope.message, kind))
        };
        let network = self.cluster.network.iter().enumerate();
        let mut places: Vec<usize> =
            network.filter(|(_, envelope)| matches(envelope)).map(|(at, _)| at).collect();
        let count = n.unwrap_or(if is_last { 1 } else { places.len() }).min(places.len());
        if is_last {
            places.drain(..places.len() - count);
        }
        places.truncate(count);
        if places.is_empty() {
            return Err("no such message is on its way".into());
        }
        Ok(places)
    }

    fn deliver(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let places = self.matching(args)?;
        for (taken, at) in places.into_iter().enumerate() {
            let to = self.cluster.deliver(at - taken);
            self.cluster.hand_out(to);
        }
        Ok(())
    }

    fn disturb(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let places = self.matching(args)?;
        let network = &mut self.cluster.network;
        match name {
            "dup" => places.iter().for_each(|at| network.push(network[*at].clone())),
            "drop" => places.iter().rev().for_each(|at| drop(network.remove(*at))),
            _ => {
                let (front, back) = (places.iter(), places.iter().rev());
                front.zip(back).take(places.len() / 2).for_each(|(a, b)| network.swap(*a, *b));
            }
        }
        Ok(())
    }

    fn complete(
        &mut self,
        name: &str,
        args: &mut ArgumentConsumer<'_>,
    ) -> Result<Vec<NodeId>, Box<dyn Error>> {
        let id = node(args)?;
        let count = match args.next_pos() {
            Some("one") => 1,
            None | Some("all") => usize::MAX,
            Some("fail") if name == "fetch" => 0,
            Some("begun") if name == "fetch" => {
                self.cluster.fetch(id, usize::MAX, Moment::Begin);
                return Ok(vec![id]);
            }
            Some(other) => return Err(format!("{name} {other}?").into()),
        };
        match name {
            "persist" => self.cluster.persist(id, count),
            "land" => self.cluster.land(id, count),
            "apply" => self.cluster.finish_apply(id),
            "fetch" => self.cluster.fetch(id, key(args, "n")?.unwrap_or(count), Moment::End),
            _ => {
                let write = WriteId(key(args, "write")?.ok_or("which write?")?);
                self.cluster.complete(id, write);
            }
        }
        Ok(vec![id])
    }

    fn life(
        &mut self,
        name: &str,
        args: &mut ArgumentConsumer<'_>,
    ) -> Result<Vec<NodeId>, Box<dyn Error>> {
        let id = node(args)?;
        match name {
            "crash" => self.cluster.crash(id, key(args, "keep")?.unwrap_or(0)),
            "restart" => self.cluster.restart(id, key(args, "abstain")?.unwrap_or(0)),
            _ => drop(self.cluster.input(id, |raft, _| raft.trust())),
        }
        Ok(vec![id])
    }

    fn connection(
        &mut self,
        name: &str,
        args: &mut ArgumentConsumer<'_>,
    ) -> Result<Vec<NodeId>, Box<dyn Error>> {
        let (id, peer) = (node(args)?, node(args)?);
        let term = key(args, "term")?.map(Term);
        let prev = Index(key(args, "prev")?.unwrap_or_default());
        let leads = self.cluster.raft(peer).map(Raft::term);
        if name == "vouch" {
            let term = term.or(leads).unwrap_or_default();
            let follows = self.cluster.input(id, |raft, now| raft.vouch(now, peer, term));
            self.cluster.tell(|| format!("{id} follows {peer}: {}", follows.unwrap_or(false)));
            return Ok(vec![id]);
        }
        self.cluster.input(id, |raft, now| match name {
            "unvouch" => raft.unvouch(now, peer),
            "confirm" => raft.confirm(now, peer),
            "unconfirm" => raft.unconfirm(now, peer),
            "connect" => raft.connected(now, peer),
            "unsent" => raft.unsent(now, peer, prev),
            "room" => raft.room(now, peer),
            _ => raft.disconnected(now, peer),
        });
        Ok(vec![id])
    }

    fn hand_over(
        &mut self,
        args: &mut ArgumentConsumer<'_>,
    ) -> Result<Vec<NodeId>, Box<dyn Error>> {
        let (id, to) = (node(args)?, node(args)?);
        let begins = self.cluster.input(id, |raft, now| raft.hand_over(now, to));
        self.cluster.tell(|| match begins {
            Some(true) => format!("{id} hands over to {to}"),
            _ => format!("{id} does not hand over to {to}"),
        });
        Ok(vec![id])
    }

    fn full(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<Vec<NodeId>, Box<dyn Error>> {
        let id = node(args)?;
        let is_full = args.next_pos() != Some("no");
        self.cluster.input(id, |raft, now| raft.set_disk_full(now, is_full));
        Ok(vec![id])
    }

    fn beat(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        self.cluster.beat(node(args)?);
        self.cluster.ids().into_iter().for_each(|id| self.cluster.hand_out(id));
        Ok(())
    }

    fn network(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        match name {
            "heal" => self.cluster.cuts.clear(),
            "cut" => drop(self.cluster.cuts.insert((node(args)?, node(args)?))),
            _ => {
                let these = self.nodes(args)?;
                for a in self.cluster.ids().into_iter().filter(|id| !these.contains(id)) {
                    self.cluster.cuts.extend(these.iter().flat_map(|b| [(a, *b), (*b, a)]));
                }
            }
        }
        Ok(())
    }

    fn stabilize(&mut self) -> Outcome {
        for _ in 0..1000 {
            let ids = self.cluster.ids();
            for id in &ids {
                self.cluster.hand_out(*id);
                self.cluster.persist(*id, usize::MAX);
                self.cluster.finish_apply(*id);
                self.cluster.fetch(*id, usize::MAX, Moment::End);
                self.cluster.hand_out(*id);
            }
            if !self.cluster.network.is_empty() {
                let to = self.cluster.deliver(0);
                self.cluster.hand_out(to);
            } else if self.cluster.nodes.values().all(|node| {
                node.writing.is_empty() && node.reading.is_empty() && node.applying.is_none()
            }) {
                return Ok(());
            }
        }
        Err(format!("it does not come to rest:\n{}", self.cluster.take_told()).into())
    }

    fn inject(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<Vec<NodeId>, Box<dyn Error>> {
        let (from, to) = (node(args)?, node(args)?);
        let term = Term(key(args, "term")?.ok_or("which term?")?);
        let group = GroupId(key(args, "group")?.unwrap_or(1));
        let epoch = key(args, "epoch")?.map_or(GroupEpoch::FIRST, GroupEpoch);
        let mut message = message(args)?;
        self.number(to, &mut message);
        let envelope = Envelope { from, to, group, epoch, term, message };
        self.cluster.tell(|| format!("forged {}", show_envelope(&envelope)));
        self.cluster.input(to, |raft, now| raft.step(now, envelope));
        Ok(vec![to])
    }

    /// Gives the entries of a forged append the positions that its receiver expects.
    fn number(&self, to: NodeId, message: &mut Message) {
        let Message::Append { prev, entries, .. } = message else { return };
        let known = self.cluster.raft(to).and_then(|raft| raft.log.position(prev.index));
        let mut before = known.unwrap_or_default();
        for entry in entries {
            entry.before = before;
            before = entry.end();
        }
    }

    fn show(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        if name == "network" {
            let lines: Vec<String> = self.cluster.network.iter().map(show_envelope).collect();
            lines.into_iter().for_each(|line| self.cluster.tell(|| line));
            return Ok(());
        }
        for id in self.nodes(args)? {
            let node = &self.cluster.nodes[&id];
            let line = match &node.raft {
                None => format!("{id} is down, disk ends in {}", node.disk.last()),
                Some(raft) if name == "status" => show_status(id, raft, node.now),
                Some(raft) if name == "has_ready" => format!("{id} {}", raft.has_ready()),
                Some(_) => format!("{id} disk {}", show_entries(&node.disk.entries)),
            };
            self.cluster.tell(|| line);
        }
        Ok(())
    }

    /// The nodes that are named; all, if none is.
    fn nodes(&self, args: &mut ArgumentConsumer<'_>) -> Result<Vec<NodeId>, Box<dyn Error>> {
        let mut nodes = Vec::new();
        while let Some(node) = args.next_pos() {
            nodes.push(NodeId(node.parse()?));
        }
        Ok(if nodes.is_empty() { self.cluster.ids() } else { nodes })
    }
}

/// `"1 2 3"`
fn ids(text: &str) -> Result<Vec<NodeId>, Box<dyn Error>> {
    text.split_whitespace().map(|id| Ok(NodeId(id.parse()?))).collect()
}

fn node(args: &mut ArgumentConsumer<'_>) -> Result<NodeId, Box<dyn Error>> {
    Ok(NodeId(args.next_pos().ok_or("which node?")?.parse()?))
}

fn key<T: FromStr>(args: &mut ArgumentConsumer<'_>, name: &str) -> Result<Option<T>, Box<dyn Error>>
where
    T::Err: Error + 'static,
{
    Ok(args.take_key(name).map(str::parse).transpose()?)
}

fn set<T: FromStr>(args: &mut ArgumentConsumer<'_>, name: &str, value: &mut T) -> Outcome
where
    T::Err: Error + 'static,
{
    if let Some(given) = key(args, name)? {
        *value = given;
    }
    Ok(())
}

fn entry_id(text: &str) -> Result<EntryId, Box<dyn Error>> {
    let (index, term) = text.split_once('@').ok_or("an entry is index@term")?;
    Ok(EntryId::new(Term(term.parse()?), Index(index.parse()?)))
}

fn named(args: &mut ArgumentConsumer<'_>, name: &str) -> Result<EntryId, Box<dyn Error>> {
    entry_id(args.take_key(name).ok_or("which entry?")?)
}

fn message(args: &mut ArgumentConsumer<'_>) -> Result<Message, Box<dyn Error>> {
    let index = |args: &mut ArgumentConsumer<'_>, name| key(args, name).map(|i| i.unwrap_or(0));
    Ok(match args.next_pos().ok_or("which message?")? {
        "PreVote" => Message::PreVote { last: named(args, "last")? },
        "PreVoteReply" => {
            Message::PreVoteReply { granted: key(args, "granted")?.ok_or("granted?")? }
        }
        "Vote" => Message::Vote {
            last: named(args, "last")?,
            forced: key(args, "forced")?.unwrap_or(false),
        },
        "VoteReply" => Message::VoteReply { granted: key(args, "granted")?.ok_or("granted?")? },
        "Append" => Message::Append {
            prev: named(args, "prev")?,
            entries: entries(args.take_key("entries").unwrap_or_default())?,
            committed: Index(index(args, "commit")?),
        },
        "AppendReply" => Message::AppendReply { matched: Index(index(args, "matched")?) },
        "AppendReject" => {
            Message::AppendReject { prev: Index(index(args, "prev")?), hint: named(args, "hint")? }
        }
        "ReadProbe" => Message::ReadProbe { round: index(args, "round")? },
        "ReadProbeReply" => Message::ReadProbeReply { round: index(args, "round")? },
        "TimeoutNow" => Message::TimeoutNow,
        "Stale" => Message::Stale,
        other => return Err(format!("no message {other}").into()),
    })
}

/// `"3@2:x 4@2:y"`
fn entries(text: &str) -> Result<Vec<Entry>, Box<dyn Error>> {
    let entry = |text: &str| -> Result<Entry, Box<dyn Error>> {
        let (id, data) = text.split_once(':').unwrap_or((text, "forged"));
        let EntryId { term, index } = entry_id(id)?;
        let payload = Payload::command(Bytes::copy_from_slice(data.as_bytes()));
        Ok(Entry { term, index, before: Position(0), payload })
    };
    text.split_whitespace().map(entry).collect()
}

fn is_kind(message: &Message, kind: &str) -> bool {
    let is = match message {
        Message::PreVote { .. } => "PreVote",
        Message::PreVoteReply { .. } => "PreVoteReply",
        Message::Vote { .. } => "Vote",
        Message::VoteReply { .. } => "VoteReply",
        Message::Append { .. } => "Append",
        Message::AppendReply { .. } => "AppendReply",
        Message::AppendReject { .. } => "AppendReject",
        Message::ReadProbe { .. } => "ReadProbe",
        Message::ReadProbeReply { .. } => "ReadProbeReply",
        Message::TimeoutNow => "TimeoutNow",
        Message::Stale => "Stale",
    };
    is == kind
}

pub(super) fn show_status(id: NodeId, raft: &Raft, now: Tick) -> String {
    let some = |value: Option<String>| value.unwrap_or("-".to_string());
    let mut line = format!(
        "{id} {:?} t{} vote={} leader={} last={} durable={} commit={} applied={} due={}",
        raft.role(),
        raft.term(),
        some(raft.vote().map(|vote| vote.to_string())),
        some(raft.leader().map(|leader| leader.to_string())),
        raft.last(),
        raft.durable(),
        raft.committed(),
        raft.applied_index(),
        some(raft.deadline().map(|due| format!("+{}", due.0.saturating_sub(now.0)))),
    );
    if let Role::Leader(leader) = &raft.role {
        for (node, progress) in &leader.followers {
            let state = match &progress.state {
                State::Probe { .. } if progress.lacks_floor => "probe below the floor".to_string(),
                State::Probe { sent: Some(_) } => "probe waiting".to_string(),
                State::Probe { sent: None } => "probe".to_string(),
                State::Replicate(inflights) => format!("replicate {inflights}"),
            };
            let (matched, next) = (progress.matched, progress.next);
            line += &format!("\n   {node} matched={matched} next={next} {state}");
            line += if progress.has_room { "" } else { ", no room" };
            line += if progress.paused_since.is_some() { ", paused" } else { "" };
        }
    }
    line
}
