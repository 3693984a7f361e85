//! One heartbeat per connected shard pair, direction and interval, for all groups that its sender
//! leads there. Pure: the engine sends what is made here and hands in what has arrived.
//!
//! A heartbeat says which groups its sender leads, by a fingerprint of the set of (group, epoch,
//! term) and, when that has changed, by the list itself; and it replies to the other side's last heartbeat. So an
//! idle pair sends one frame per direction and interval, whatever the number of groups.
//!
//! A heartbeat vouches for nothing but what it names (safety R4): a receiver whose list does not
//! have the same fingerprint knows nothing, and asks for the list.
//!
//! ```text
//! heartbeat   number  fingerprint:fixed  list  reply  condition  digest
//! list        0: none | 1 + count, then count × (group-step  epoch  term), groups ascending
//! reply       0: none | 1: number  fingerprint:fixed  wants-list:byte  count,
//!             count × (group-step  epoch  term)
//! condition   flags:byte (1 disk full, 2 unfit; no others)  count, count × node-step, nodes ascending
//! digest      tag:byte, 0 for none; other tags are reserved for digests of groups, and refused
//! node-step   the node's distance from the node before it, from 0 for the first
//! group-step  the group's distance from the group before it, from 0 for the first
//! ```
//!
//! The fingerprint is the sum, wrapping, of `mix(group, epoch, term)` over the set, plus the hash of its
//! owner's boot id; so order does not matter, and a change costs one mix. `mix` hashes twice by
//! SplitMix64, so that sets that differ in one group share no structure.

use crate::codec::{Fields, Malformed, ensure, put_bool, put_fixed, put_varint};
use bytes::Bytes;
use purlin_rsm::{BootId, EpochTerm, GroupId, NodeId, random::hash};
use std::collections::{BTreeMap, VecDeque};

/// What one shard tells another of the groups that it leads there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Counts the sender's heartbeats to this peer, from 1.
    pub number: u64,
    /// Of the groups that the sender leads, with their terms.
    pub fingerprint: u64,
    /// Those groups in ascending order, when they have changed or were asked for.
    pub list: Option<Vec<(GroupId, EpochTerm)>>,
    /// To the receiver's last heartbeat; `None` before the first.
    pub reply: Option<HeartbeatReply>,
    /// How the sender's shard is.
    pub condition: Condition,
}

/// What a shard tells of itself to those who may want it to lead.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Condition {
    /// Its disk takes no entries.
    pub is_disk_full: bool,
    /// It is no good leader for another reason: machines of its groups still apply what their logs held at the start,
    /// its disk has lately stood for an election timeout, or it stops.
    pub is_unfit: bool,
    /// The nodes that it hears and that it reaches, ascending; [`HEARS_MAX`] at most.
    pub hears: Vec<NodeId>,
}

/// A condition names no more nodes than these.
pub const HEARS_MAX: usize = 64;

/// What the receiver of a heartbeat makes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeartbeatReply {
    /// The heartbeat that it replies to.
    pub number: u64,
    /// Of the groups that its sender knows the other side to lead.
    pub fingerprint: u64,
    /// Its sender does not know which groups the heartbeat was for.
    pub wants_list: bool,
    /// The groups among them of which its sender does not follow the other side, ascending, each
    /// with the sender's own epoch and term: the term is one of that epoch (safety M10).
    pub refused: Vec<(GroupId, EpochTerm)>,
}

/// The groups that this shard leads and that have a replica at the peer.
///
/// Invariant: `fingerprint` is that of `groups`.
pub struct Leading {
    groups: BTreeMap<GroupId, Led>,
    fingerprint: u64,
    /// The number of the latest heartbeat.
    number: u64,
    /// Number and fingerprint of the latest heartbeats: what a reply may speak of.
    sent: VecDeque<(u64, u64)>,
    /// Number and fingerprint of the latest list on this connection.
    listed: Option<(u64, u64)>,
    /// The latest heartbeat of which the peer knew all groups.
    replied: u64,
    /// Refused by the latest reply.
    refused: BTreeMap<GroupId, EpochTerm>,
}

struct Led {
    at: EpochTerm,
    /// The first heartbeat that names the group in this epoch and term.
    since: u64,
}

/// Replies to older heartbeats than these confirm nothing.
const SENT_MAX: usize = 64;

/// The tag of a heartbeat without a digest.
const NO_DIGEST: u8 = 0;

impl Leading {
    /// `boot` is this shard's own.
    pub fn new(boot: BootId) -> Self {
        Self {
            groups: BTreeMap::new(),
            fingerprint: empty(boot),
            number: 0,
            sent: VecDeque::new(),
            listed: None,
            replied: 0,
            refused: BTreeMap::new(),
        }
    }

    /// We lead `group` in the epoch and term `at`, and the peer has a replica of it.
    pub fn lead(&mut self, group: GroupId, at: EpochTerm) {
        if self.groups.get(&group).is_some_and(|led| led.at == at) {
            return;
        }
        self.resign(group);
        self.groups.insert(group, Led { at, since: self.number + 1 });
        self.fingerprint = self.fingerprint.wrapping_add(mix(group, at));
    }

    /// We lead `group` no more, or the peer has no replica of it any more.
    pub fn resign(&mut self, group: GroupId) {
        if let Some(led) = self.groups.remove(&group) {
            self.fingerprint = self.fingerprint.wrapping_sub(mix(group, led.at));
        }
    }

    /// A new connection to the peer is up: it may be another process, which knows no list.
    pub fn connected(&mut self) {
        self.listed = None;
    }

    /// Whether we lead none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The next heartbeat, with `reply` to the peer's last. The caller adds its condition.
    pub fn beat(&mut self, reply: Option<HeartbeatReply>) -> Heartbeat {
        self.number += 1;
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.number, self.fingerprint));
        let (number, fingerprint, list) = (self.number, self.fingerprint, self.list());
        Heartbeat { number, fingerprint, list, reply, condition: Condition::default() }
    }

    /// The latest heartbeat found no room, so the peer was told nothing: the next one has the list again, if this one
    /// had it.
    pub fn unsent(&mut self, heartbeat: &Heartbeat) {
        self.sent.retain(|(number, _)| *number != heartbeat.number);
        if self.listed.is_some_and(|(number, _)| number == heartbeat.number) {
            self.listed = None;
        }
    }

    /// Takes in the peer's reply. Returns the groups that it refuses, with its terms, and that we
    /// have led without a break since the heartbeat that it replies to.
    pub fn read(&mut self, reply: &HeartbeatReply) -> Vec<(GroupId, EpochTerm)> {
        // A list that was sent after that heartbeat is on its way: not a second time.
        if reply.wants_list && self.listed.is_some_and(|(number, _)| number <= reply.number) {
            purlin_rsm::sometimes!("list of led groups asked for");
            self.listed = None;
        }
        // Safety R4: only a peer that knows exactly the set that we named has confirmed any of it.
        let knew_all = self.sent.contains(&(reply.number, reply.fingerprint));
        purlin_rsm::sometimes!(!knew_all, "heartbeat reply for another set of led groups");
        if !knew_all || reply.wants_list || reply.number < self.replied {
            return Vec::new();
        }
        self.replied = reply.number;
        let spoken_of = |(group, _): &&(GroupId, EpochTerm)| {
            self.groups.get(group).is_some_and(|led| led.since <= reply.number)
        };
        let refused: Vec<_> = reply.refused.iter().filter(spoken_of).copied().collect();
        self.refused = refused.iter().copied().collect();
        refused
    }

    /// The number of the latest heartbeat in which the peer follows us in `group`, in the term in
    /// which we lead it.
    pub fn confirmed(&self, group: GroupId) -> Option<u64> {
        let led = self.groups.get(&group)?;
        let holds = led.since <= self.replied && !self.refused.contains_key(&group);
        holds.then_some(self.replied)
    }

    /// The groups that are `confirmed`, ascending, with our terms.
    #[cfg(test)]
    pub(crate) fn confirmed_groups(&self) -> impl Iterator<Item = (GroupId, EpochTerm)> {
        let all = self.groups.iter().map(|(group, led)| (*group, led.at));
        all.filter(|(group, _)| self.confirmed(*group).is_some())
    }

    fn list(&mut self) -> Option<Vec<(GroupId, EpochTerm)>> {
        if self.listed.is_some_and(|(_, fingerprint)| fingerprint == self.fingerprint) {
            return None;
        }
        self.listed = Some((self.number, self.fingerprint));
        Some(self.groups.iter().map(|(group, led)| (*group, led.at)).collect())
    }
}

/// What the peer leads, as its heartbeats name it, and which of it we refuse.
pub struct Following {
    /// The peer's, which seeds its fingerprints.
    boot: Option<BootId>,
    groups: BTreeMap<GroupId, EpochTerm>,
    fingerprint: u64,
    /// Of the last heartbeat; 0 before the first of this boot.
    number: u64,
    /// The last heartbeat named `groups`; if not, we do not know what it named.
    is_current: bool,
    /// Among `groups`, with our own terms.
    refused: BTreeMap<GroupId, EpochTerm>,
}

/// What a heartbeat, or a restart of the peer, has changed. In ascending order.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Changes {
    /// The peer newly says that it leads these.
    pub vouched: Vec<(GroupId, EpochTerm)>,
    /// The peer no longer says so of these: wake them.
    pub lost: Vec<(GroupId, EpochTerm)>,
    /// The heartbeat named a set that we do not know: it vouches for no group, and the next reply
    /// asks for the list.
    pub is_unknown: bool,
}

impl Default for Following {
    fn default() -> Self {
        Self::new()
    }
}

impl Following {
    /// Before the first connection.
    pub fn new() -> Self {
        Self {
            boot: None,
            groups: BTreeMap::new(),
            fingerprint: 0,
            number: 0,
            is_current: false,
            refused: BTreeMap::new(),
        }
    }

    /// A connection of the peer is up, and this is its boot id. Another one than before vouches for
    /// nothing: returns what the old one did (safety R4).
    pub fn connected(&mut self, boot: BootId) -> Changes {
        self.is_current = false;
        if self.boot == Some(boot) {
            return Changes::default();
        }
        purlin_rsm::sometimes!(!self.groups.is_empty(), "new boot id vouches for nothing");
        let old = std::mem::take(self);
        (self.boot, self.fingerprint) = (Some(boot), empty(boot));
        Changes { lost: old.groups.into_iter().collect(), ..Changes::default() }
    }

    /// Takes in a heartbeat. Must be preceded by `connected`.
    pub fn receive(&mut self, heartbeat: &Heartbeat) -> Changes {
        assert!(self.boot.is_some(), "a heartbeat came from a peer that never connected");
        self.number = heartbeat.number;
        let mut changes = match &heartbeat.list {
            Some(list) => self.replace(list),
            None => Changes::default(),
        };
        self.is_current = self.fingerprint == heartbeat.fingerprint;
        changes.is_unknown = !self.is_current;
        changes
    }

    /// The epoch and term in which the peer's last heartbeat says that it leads `group`.
    pub fn vouches(&self, group: GroupId) -> Option<EpochTerm> {
        self.groups.get(&group).copied().filter(|_| self.is_current)
    }

    /// All groups that the peer's last heartbeat says it leads, ascending, with its terms.
    pub fn vouched(&self) -> impl Iterator<Item = (GroupId, EpochTerm)> {
        let all = self.groups.iter().map(|(group, at)| (*group, *at));
        all.filter(|_| self.is_current)
    }

    /// Our replica of `group` does not follow the peer in the epoch and term that it names: the replica
    /// knows `own`. Of no effect if the peer does not name the group.
    pub fn refuse(&mut self, group: GroupId, own: EpochTerm) {
        if self.groups.contains_key(&group) {
            self.refused.insert(group, own);
        }
    }

    /// Our replica of `group` follows the peer.
    pub fn accept(&mut self, group: GroupId) {
        self.refused.remove(&group);
    }

    /// The reply to the last heartbeat; `None` before the first.
    pub fn reply(&self) -> Option<HeartbeatReply> {
        (self.number > 0).then(|| HeartbeatReply {
            number: self.number,
            fingerprint: self.fingerprint,
            wants_list: !self.is_current,
            refused: self.refused.iter().map(|(group, at)| (*group, *at)).collect(),
        })
    }

    /// A group whose term moved is both lost and newly vouched for, and refused no more.
    fn replace(&mut self, list: &[(GroupId, EpochTerm)]) -> Changes {
        let boot = self.boot.expect("checked by the caller");
        let next: BTreeMap<GroupId, EpochTerm> = list.iter().copied().collect();
        let missing = |these: &BTreeMap<GroupId, EpochTerm>,
                       those: &BTreeMap<GroupId, EpochTerm>| {
            let differs = |(group, at): &(&GroupId, &EpochTerm)| those.get(group) != Some(*at);
            these.iter().filter(differs).map(|(group, at)| (*group, *at)).collect::<Vec<_>>()
        };
        let vouched = missing(&next, &self.groups);
        let lost = missing(&self.groups, &next);
        lost.iter().for_each(|(group, _)| self.accept(*group));
        self.groups = next;
        let sum =
            |sum: u64, (group, at): (&GroupId, &EpochTerm)| sum.wrapping_add(mix(*group, *at));
        self.fingerprint = self.groups.iter().fold(empty(boot), sum);
        Changes { vouched, lost, is_unknown: false }
    }
}

/// The fingerprint of no groups, led by a shard of this boot id.
fn empty(boot: BootId) -> u64 {
    hash(boot.0)
}

/// The epoch has its part: two epochs of a group in equal terms are two sets (safety M10).
fn mix(group: GroupId, at: EpochTerm) -> u64 {
    let epoch = hash(u64::from(group.0) | u64::from(at.epoch.0) << 32);
    hash(epoch.wrapping_add(at.term.0))
}

impl Heartbeat {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.number);
        put_fixed(out, self.fingerprint);
        put_varint(out, self.list.as_ref().map_or(0, |list| 1 + list.len() as u64));
        put_pairs(out, self.list.as_deref().unwrap_or_default());
        put_bool(out, self.reply.is_some());
        if let Some(reply) = &self.reply {
            put_varint(out, reply.number);
            put_fixed(out, reply.fingerprint);
            put_bool(out, reply.wants_list);
            put_varint(out, reply.refused.len() as u64);
            put_pairs(out, &reply.refused);
        }
        self.condition.encode(out);
        out.push(NO_DIGEST);
    }

    pub(crate) fn encoded_bytes_max(&self) -> usize {
        const PAIR: usize = 20;
        let refused = self.reply.as_ref().map_or(0, |reply| reply.refused.len());
        const NODE: usize = 5;
        80 + NODE * self.condition.hears.len()
            + PAIR * (self.list.as_ref().map_or(0, Vec::len) + refused)
    }

    pub(crate) fn decode(body: Bytes) -> Result<Vec<Self>, Malformed> {
        let mut fields = Fields::new(body);
        let mut heartbeats = Vec::new();
        while !fields.is_empty() {
            heartbeats.push(Self::decode_one(&mut fields)?);
        }
        Ok(heartbeats)
    }

    fn decode_one(fields: &mut Fields) -> Result<Self, Malformed> {
        let number = fields.varint()?;
        ensure(number > 0, "a heartbeat of number 0")?;
        let fingerprint = fields.fixed()?;
        let list = match fields.varint()? {
            0 => None,
            count => Some(pairs(fields, count - 1)?),
        };
        let reply = if fields.boolean()? { Some(HeartbeatReply::decode(fields)?) } else { None };
        let condition = Condition::decode(fields)?;
        ensure(fields.byte()? == NO_DIGEST, "a digest in a heartbeat, which a later version has")?;
        Ok(Self { number, fingerprint, list, reply, condition })
    }
}

const DISK_FULL: u8 = 1;
const UNFIT: u8 = 2;

impl Condition {
    fn encode(&self, out: &mut Vec<u8>) {
        let count = self.hears.len();
        assert!(count <= HEARS_MAX, "a condition that names {count} nodes, {HEARS_MAX} at most");
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        out.push(flag(self.is_disk_full, DISK_FULL) | flag(self.is_unfit, UNFIT));
        put_varint(out, count as u64);
        let mut before = 0;
        for node in &self.hears {
            assert!(node.0 >= before, "node {node} is named behind {before}");
            put_varint(out, u64::from(node.0 - before));
            before = node.0;
        }
    }

    fn decode(fields: &mut Fields) -> Result<Self, Malformed> {
        let flags = fields.byte()?;
        ensure(flags & !(DISK_FULL | UNFIT) == 0, "a condition that this version does not know")?;
        let count = fields.count(1)?;
        ensure(count <= HEARS_MAX, "a condition that names more than 64 nodes")?;
        let mut hears: Vec<NodeId> = Vec::with_capacity(count);
        for at in 0..count {
            let step: u32 = fields.narrow("a node number over 32 bits")?;
            ensure(step > 0 || at == 0, "a condition that names a node twice")?;
            let before = hears.last().map_or(0, |node| node.0);
            let node = before.checked_add(step);
            hears.push(NodeId(node.ok_or(Malformed { what: "a node over 32 bits" })?));
        }
        let (is_disk_full, is_unfit) = (flags & DISK_FULL != 0, flags & UNFIT != 0);
        Ok(Self { is_disk_full, is_unfit, hears })
    }
}

impl HeartbeatReply {
    fn decode(fields: &mut Fields) -> Result<Self, Malformed> {
        let (number, fingerprint) = (fields.varint()?, fields.fixed()?);
        let wants_list = fields.boolean()?;
        let count = fields.varint()?;
        let refused = pairs(fields, count)?;
        Ok(Self { number, fingerprint, wants_list, refused })
    }
}

fn put_pairs(out: &mut Vec<u8>, pairs: &[(GroupId, EpochTerm)]) {
    let mut before = 0;
    for (group, at) in pairs {
        assert!(group.0 >= before, "group {group} is listed behind {before}");
        put_varint(out, u64::from(group.0 - before));
        put_varint(out, u64::from(at.epoch.0));
        put_varint(out, at.term.0);
        before = group.0;
    }
}

fn pairs(fields: &mut Fields, count: u64) -> Result<Vec<(GroupId, EpochTerm)>, Malformed> {
    let mut pairs: Vec<(GroupId, EpochTerm)> = Vec::new();
    for at in 0..count {
        let step: u32 = fields.narrow("a group number over 32 bits")?;
        ensure(step > 0 || at == 0, "a list that names a group twice")?;
        let before = pairs.last().map_or(0, |(group, _)| group.0);
        let group = before.checked_add(step).ok_or(Malformed { what: "a group over 32 bits" })?;
        let at = EpochTerm::new(fields.epoch()?, fields.term()?);
        pairs.push((GroupId(group), at));
    }
    Ok(pairs)
}

#[cfg(test)]
#[path = "heartbeat_test.rs"]
mod tests;
