//! The clients. A client sends its requests to one shard of one node until that shard is gone, and
//! records what it was told.

use super::{Cluster, InputOf, OutputOf, Subject, Visitor as _, floor, recovery::PROBE_PAUSE};
use crate::{
    checker::history::{Lane, OperationId, Told},
    sim::{SimRuntime, World},
};
use bytes::Bytes;
use purlin::{
    Completion, GroupId, LocalShard, NodeId, Request, RequestError, Runtime as _, ShardId,
    group_of_slot,
};
use purlin_server::resp::slot_of;
use std::{collections::BTreeMap, rc::Rc, time::Duration};

impl<S: Subject> Cluster<S> {
    /// The clients of a shard, as long as it runs.
    pub(super) fn spawn_clients(
        self: &Rc<Self>,
        runtime: &SimRuntime,
        local: &LocalShard<SimRuntime>,
    ) {
        for _ in 0..self.options.clients {
            let client = self.new_client();
            let (runtime, local) = (runtime.clone(), local.clone());
            if self.options.pipeline > 1 && client % 2 == 1 {
                runtime.clone().spawn(self.clone().run_pipeline(client, runtime, local));
            } else {
                runtime.clone().spawn(self.clone().run_client(client, runtime, local));
            }
        }
    }

    /// The front end of a shard, as long as it runs.
    pub(super) fn serve_visitors(
        self: &Rc<Self>,
        runtime: &SimRuntime,
        local: LocalShard<SimRuntime>,
    ) {
        if self.options.visitors.is_none() {
            return;
        }
        let cluster = self.clone();
        runtime.spawn(async move {
            cluster.subject.serve(&local, &cluster.cluster_config()).await;
        });
    }

    /// The clients that come over the network: they outlive all processes.
    pub(super) fn spawn_visitors(self: &Rc<Self>, world: &World) {
        let shards = self.all_shards();
        for _ in 0..self.options.visitors.unwrap_or(0) {
            let (client, runtime) = (self.new_client(), world.outside());
            if let Some(visitor) = self.subject.visitor(&runtime, client, &shards) {
                runtime.clone().spawn(self.clone().run_visitor(client, runtime, visitor));
            }
        }
    }

    fn new_client(&self) -> u32 {
        self.clients.set(self.clients.get() + 1);
        self.clients.get()
    }

    /// One thing after the other.
    async fn run_client(
        self: Rc<Self>,
        client: u32,
        runtime: SimRuntime,
        local: LocalShard<SimRuntime>,
    ) {
        let _asking = self.asking.clone();
        while !self.is_over.get() {
            let (key, input) = self.subject.next(client);
            let (id, group, request) = self.invoke(client, None, key, &input, runtime.now());
            let request = self.with_floor(group, request);
            let outcome = ask(&local, group, request).await;
            self.complete(id, self.told(&input, outcome), &runtime);
            self.think(&runtime).await;
        }
    }

    /// Several requests of one caller are open, to all groups, proposals and queries mixed.
    async fn run_pipeline(
        self: Rc<Self>,
        client: u32,
        runtime: SimRuntime,
        local: LocalShard<SimRuntime>,
    ) {
        let _asking = self.asking.clone();
        let (caller, mut open) = (local.caller(), BTreeMap::new());
        let (mut newest, mut completions) = (0, Vec::new());
        while !self.is_over.get() || !open.is_empty() {
            for _ in 0..self.burst(&runtime, open.len()) {
                let (key, input) = self.subject.next(client);
                let lane = Some(Lane::from(client) << 32 | Lane::from(self.group(&key).0));
                let (id, group, request) = self.invoke(client, lane, key, &input, runtime.now());
                newest += 1;
                open.insert(newest, (id, input));
                caller.submit(group, self.with_floor(group, request), newest);
            }
            caller.completed().await;
            caller.take_completions(&mut completions);
            for Completion { tag, outcome } in completions.drain(..) {
                let Some((id, input)) = open.remove(&tag) else {
                    return self.violation(format!("client {client}: {tag} ended twice"));
                };
                self.complete(id, self.told(&input, outcome), &runtime);
            }
            self.think(&runtime).await;
            self.think(&runtime).await;
        }
    }

    /// Several requests are open on one connection of the network, which may be lost.
    async fn run_visitor(
        self: Rc<Self>,
        client: u32,
        runtime: SimRuntime,
        mut visitor: S::Visitor,
    ) {
        let _visiting = self.visiting.clone();
        while !self.is_over.get() || visitor.open() > 0 {
            visitor.connect().await;
            for _ in 0..self.burst(&runtime, visitor.open()) {
                self.ask_on(&mut visitor, client, &runtime);
            }
            if visitor.open() > 0 {
                match visitor.answers().await {
                    Ok(answers) => {
                        answers.into_iter().for_each(|(id, told)| self.complete(id, told, &runtime))
                    }
                    Err(what) => return self.violation(what),
                }
            }
            self.think(&runtime).await;
        }
    }

    /// A client that comes to one shard and asks one thing after the other until one is done.
    pub(super) async fn visit(&self, runtime: &SimRuntime, at: (NodeId, ShardId)) {
        let client = self.new_client();
        let Some(mut visitor) = self.subject.visitor(runtime, client, &[at]) else { return };
        loop {
            visitor.connect().await;
            self.ask_on(&mut visitor, client, runtime);
            let answers = match visitor.answers().await {
                Ok(answers) => answers,
                Err(what) => return self.violation(what),
            };
            let is_done = answers.iter().any(|(_, told)| matches!(told, Told::Done(_)));
            answers.into_iter().for_each(|(id, told)| self.complete(id, told, runtime));
            if is_done {
                return;
            }
            runtime.sleep(PROBE_PAUSE).await;
        }
    }

    fn ask_on(&self, visitor: &mut S::Visitor, client: u32, runtime: &SimRuntime) {
        let (key, input) = self.subject.next(client);
        let lane = Some(visitor.lane(self.group(&key)));
        let number = self.judges.history.borrow().operations().len();
        let (id, ..) = self.invoke(client, lane, key.clone(), &input, runtime.now());
        visitor.ask(id, &key, &input, number);
    }

    /// How many requests more are asked for beside the open ones.
    fn burst(&self, runtime: &SimRuntime, open: usize) -> u64 {
        let room = self.options.pipeline.saturating_sub(open) as u64;
        if room == 0 || self.is_over.get() { 0 } else { 1 + runtime.random() % room }
    }

    /// A pause, longer when all clients are silent.
    async fn think(&self, runtime: &SimRuntime) {
        let mean = self.options.think.as_nanos() as u64;
        let pause = Duration::from_nanos(runtime.random() % (2 * mean + 1));
        let now = runtime.world_time();
        let idle = self.options.idle.iter().find(|idle| idle.contains(&now));
        let silence = idle.map_or(Duration::ZERO, |idle| idle.end - now);
        runtime.sleep(pause + silence).await;
    }

    /// Writes down that a client asks, and says where to ask what.
    fn invoke(
        &self,
        client: u32,
        lane: Option<Lane>,
        key: Bytes,
        input: &InputOf<S>,
        now: Duration,
    ) -> (OperationId, GroupId, Request) {
        let mut history = self.judges.history.borrow_mut();
        let number = history.operations().len();
        let (group, request) = (self.group(&key), self.subject.encode(&key, input, number));
        let id = history.invoke_in(lane, client, key, input.clone(), now);
        if let Request::Propose(command) = &request {
            self.judges.order.borrow_mut().proposed(id, group, command.clone());
            self.judges.audit.proposed(group, command);
        }
        (id, group, request)
    }

    /// A query must see what clients know by now.
    fn with_floor(&self, group: GroupId, request: Request) -> Request {
        match request {
            Request::Query(query) => {
                Request::Query(floor::marked(self.judges.audit.floor(group), &query))
            }
            Request::Propose(_) => request,
        }
    }

    /// Writes down what a client was told.
    fn complete(&self, id: OperationId, told: Told<OutputOf<S>>, runtime: &SimRuntime) {
        if matches!(told, Told::Done(_))
            && let Some((group, command)) = self.judges.order.borrow().proposal(id)
        {
            self.judges.audit.acknowledged(group, command);
        }
        self.judges.history.borrow_mut().complete(id, told, runtime.now());
    }

    /// What an outcome tells the client that asked for `input`.
    fn told(&self, input: &InputOf<S>, outcome: Result<Bytes, RequestError>) -> Told<OutputOf<S>> {
        match outcome {
            Ok(outcome) => Told::Done(self.subject.decode(input, &outcome)),
            Err(RequestError::Unknown { .. }) => Told::Unknown,
            Err(_) => Told::NotApplied,
        }
    }

    /// The group of a key, as the server has it.
    fn group(&self, key: &[u8]) -> GroupId {
        group_of_slot(slot_of(key), self.options.groups)
    }
}

/// Asks at a shard, and waits for the answer.
pub(super) async fn ask(
    local: &LocalShard<SimRuntime>,
    group: GroupId,
    request: Request,
) -> Result<Bytes, RequestError> {
    match request {
        Request::Propose(command) => local.propose(group, command).await,
        Request::Query(query) => local.query(group, query).await,
    }
}
