//! Clients: they ask at one shard of one node until that is gone, and write down what they were told.

use super::{Cluster, InputOf, OutputOf, Subject};
use crate::{
    checker::history::{OperationId, Told},
    sim::SimRuntime,
};
use bytes::Bytes;
use purlin::{Completion, GroupId, LocalShard, Request, RequestError, Runtime as _, group_of_slot};
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
            let client = self.clients.get();
            self.clients.set(client + 1);
            let (runtime, local) = (runtime.clone(), local.clone());
            if self.options.pipeline > 1 && client % 2 == 1 {
                runtime.clone().spawn(self.clone().run_pipeline(client, runtime, local));
            } else {
                runtime.clone().spawn(self.clone().run_client(client, runtime, local));
            }
        }
    }

    /// One thing after the other.
    async fn run_client(
        self: Rc<Self>,
        client: u32,
        runtime: SimRuntime,
        local: LocalShard<SimRuntime>,
    ) {
        while !self.is_over.get() {
            let (key, input) = self.subject.next(client);
            let (id, group, request) = self.invoke(client, None, key, &input, runtime.now());
            let outcome = match request {
                Request::Propose(command) => local.propose(group, command).await,
                Request::Query(query) => local.query(group, query).await,
            };
            self.complete(id, self.told(&input, outcome), &runtime);
            self.think(&runtime).await;
        }
    }

    /// Several requests are open on one connection, to all groups, proposals and queries mixed.
    async fn run_pipeline(
        self: Rc<Self>,
        client: u32,
        runtime: SimRuntime,
        local: LocalShard<SimRuntime>,
    ) {
        let (connection, mut open) = (local.connect(), BTreeMap::new());
        let (mut newest, mut completions) = (0, Vec::new());
        while !self.is_over.get() || !open.is_empty() {
            let room = match self.is_over.get() {
                true => 0,
                false => (self.options.pipeline - open.len()) as u64,
            };
            let burst = if room == 0 { 0 } else { 1 + runtime.random() % room };
            for _ in 0..burst {
                let (key, input) = self.subject.next(client);
                let lane = Some(client.into());
                let (id, group, request) = self.invoke(client, lane, key, &input, runtime.now());
                newest += 1;
                open.insert(newest, (id, input));
                connection.submit(group, request, newest);
            }
            connection.completed().await;
            connection.take_completions(&mut completions);
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
        connection: Option<u64>,
        key: Bytes,
        input: &InputOf<S>,
        now: Duration,
    ) -> (OperationId, GroupId, Request) {
        let mut history = self.judges.history.borrow_mut();
        let number = history.operations().len();
        let (group, request) = (self.group(&key), self.subject.encode(&key, input, number));
        let lane = connection.map(|connection| connection << 32 | u64::from(group.0));
        let id = history.invoke_in(lane, client, key, input.clone(), now);
        if let Request::Propose(command) = &request {
            self.judges.order.borrow_mut().proposed(id, group, command.clone());
        }
        (id, group, request)
    }

    /// Writes down what a client was told.
    fn complete(&self, id: OperationId, told: Told<OutputOf<S>>, runtime: &SimRuntime) {
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
