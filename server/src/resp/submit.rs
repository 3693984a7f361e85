//! From the plan of a command to requests to groups.
//!
//! At the gateway a command may ask any group, wherever it is led. At the port of a shard a command has keys of one
//! slot, and when another shard leads their group, the client is told where that shard is (`MOVED`). The shard
//! takes a command itself when it knows no leader, or none that clients reach: then it forwards, as the gateway
//! does.

use super::{
    backend::Backend,
    commands::CommandSpec,
    connection::Connection,
    data::{Plan, atomic_group},
    front::ClientPort,
    gather::{Gather, GroupRequest},
    moved::Progress,
    ring::Asked,
    route::{group_of, slot_of},
    topology::{Endpoint, GROUP_COST, Home},
    words,
};
use purlin::{GroupId, Request, group_of_slot};
use purlin_kv::{KEY_BYTES_MAX, KvCommand, StringsBuf};

/// What a request to a group counts as, in bytes.
pub(super) const PART_WORK: usize = 64;

/// Why a command is not run at the port of a shard.
enum NotHere {
    /// The client is told.
    Told(String),
    /// Earlier requests of the connection must end first.
    NotNow,
}

/// What becomes of a request whose group is not simply led here.
enum Direction {
    /// The client is sent there.
    To(Endpoint),
    /// The request waits for earlier ones of the connection.
    Wait,
}

impl<B: Backend> Connection<B> {
    /// Asks the groups for what a command wants, or tells the client why not. Returns false if it did neither, because
    /// earlier requests of the connection must end first.
    #[must_use]
    pub(super) fn submit(&self, command: &CommandSpec, plan: Plan<'_>) -> bool {
        let groups = self.front.options().groups;
        if plan.keys().any(|key| key.len() > KEY_BYTES_MAX) {
            self.refuse(words::KEY_TOO_LONG);
            return true;
        }
        if self.port == ClientPort::Shard {
            match self.is_served_here(&plan) {
                Ok(()) => {}
                Err(NotHere::Told(text)) => {
                    self.refuse(text);
                    return true;
                }
                Err(NotHere::NotNow) => return false,
            }
        }
        match plan {
            Plan::One(key, request) => self.submit_one(group_of(key, groups), request),
            Plan::Slot(slot, request) => self.submit_one(group_of_slot(slot, groups), request),
            Plan::Split(what, keys) => self.submit_all(Gather::split(what, keys, groups)),
            Plan::All(what) => {
                self.add_work(groups as usize * GROUP_COST);
                match self.asked_of_all() {
                    none if none.is_empty() => {
                        self.answer(|local| local.reply().integer(0));
                    }
                    groups => self.submit_all(Gather::all(what, groups)),
                }
            }
            Plan::SetMany(pairs) => match atomic_group(command.name, pairs, groups) {
                Err(text) => self.refuse(text),
                Ok(group) => {
                    let pairs: StringsBuf = pairs.iter().collect();
                    let command = KvCommand::SetMany { pairs: pairs.strings() };
                    self.submit_one(group, Request::Propose(command.encode()));
                }
            },
        }
        true
    }

    /// Whether the port of a shard serves what `plan` asks for, or what to tell the client.
    fn is_served_here(&self, plan: &Plan<'_>) -> Result<(), NotHere> {
        let slot = match plan {
            Plan::All(_) => return Ok(()),
            Plan::Slot(slot, _) => *slot,
            _ => {
                let mut slots = plan.keys().map(slot_of);
                let first = slots.next().expect("the arity was checked");
                if slots.any(|slot| slot != first) {
                    return Err(NotHere::Told(words::CROSS_SLOT.into()));
                }
                first
            }
        };
        let group = group_of_slot(slot, self.front.options().groups);
        match self.moved_to(group) {
            None => Ok(()),
            Some(Direction::Wait) => Err(NotHere::NotNow),
            Some(Direction::To(endpoint)) => {
                self.add_work(PART_WORK);
                Err(NotHere::Told(words::moved(slot, &endpoint)))
            }
        }
    }

    /// Whether the next request waits until earlier ones of its group have ended here. Looks at nothing but the group:
    /// it is asked each time that something is read or written.
    pub(super) fn awaits_group(&self) -> bool {
        let Some(group) = self.awaited.get() else { return false };
        let waits = self.backend.has_requests(group) && !self.backend.leads(group);
        if !waits {
            self.awaited.set(None);
        }
        waits
    }

    /// Where the client is to ask for a group instead, or that it must wait first. Requests of one connection to one
    /// group stay in order (safety C2): none is sent elsewhere while an earlier one has not ended here, and those that
    /// have come with one that was sent elsewhere are sent there too.
    fn moved_to(&self, group: GroupId) -> Option<Direction> {
        let Progress { received, taken } = &self.progress;
        let mut moved = self.moved.borrow_mut();
        if let Some(endpoint) = moved.still(group, taken.get()) {
            return Some(Direction::To(endpoint));
        }
        match self.backend.home(group) {
            Home::Here | Home::Unknown => None,
            Home::At(_) if self.backend.has_requests(group) => {
                self.awaited.set(Some(group));
                Some(Direction::Wait)
            }
            Home::At(endpoint) => {
                moved.note(group, received.get(), endpoint.clone());
                Some(Direction::To(endpoint))
            }
        }
    }

    /// The groups that a command for all keys asks: at the gateway all, and at the port of a shard those that the
    /// shard leads, since clients of a cluster ask each shard and add up the answers.
    fn asked_of_all(&self) -> Vec<GroupId> {
        let groups = (1..=self.front.options().groups).map(GroupId);
        match self.port {
            ClientPort::Gateway => groups.collect(),
            ClientPort::Shard => groups.filter(|group| self.backend.leads(*group)).collect(),
        }
    }

    fn submit_one(&self, group: GroupId, request: Request) {
        let is_read = matches!(request, Request::Query(_));
        let (Request::Query(data) | Request::Propose(data)) = &request;
        let (bytes, protocol) = (data.len(), self.client.protocol.get());
        let asked = Asked { group, is_read, bytes, protocol };
        let tag = self.ring.borrow_mut().expect(asked);
        self.add_work(PART_WORK);
        self.backend.submit(group, request, tag);
    }

    fn submit_all(&self, (gather, requests): (Gather, Vec<GroupRequest>)) {
        let bytes = requests.iter().map(|(_, request)| match request {
            Request::Query(data) | Request::Propose(data) => data.len(),
        });
        let (bytes, protocol) = (bytes.sum(), self.client.protocol.get());
        let tag = self.ring.borrow_mut().expect_all(gather, protocol, bytes);
        self.add_work(requests.len() * PART_WORK);
        for (part, (group, request)) in requests.into_iter().enumerate() {
            self.backend.submit(group, request, tag + part as u64);
        }
    }
}
