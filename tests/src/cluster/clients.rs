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

/// How long a client waits after an answer, at most.
const THINK: Duration = Duration::from_millis(60);

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
                Request::Propose(command) => {
                    let outcome = local.propose(group, command.clone()).await;
                    if outcome.is_ok() {
                        self.judges.audit.acknowledged(group, &command);
                    }
                    outcome
                }
                Request::Query(query) => local.query(group, query).await,
            };
            self.complete(id, self.told(&input, outcome), &runtime);
            let think = runtime.random() % THINK.as_micros() as u64;
            runtime.sleep(Duration::from_micros(think)).await;
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
                let command = match &request {
                    Request::Propose(command) => Some((group, command.clone())),
                    Request::Query(_) => None,
                };
                open.insert(newest, (id, input, command));
                connection.submit(group, request, newest);
            }
            connection.completed().await;
            connection.take_completions(&mut completions);
            for Completion { tag, outcome } in completions.drain(..) {
                let Some((id, input, command)) = open.remove(&tag) else {
                    return self.violation(format!("client {client}: {tag} ended twice"));
                };
                if let (Some((group, command)), true) = (command, outcome.is_ok()) {
                    self.judges.audit.acknowledged(group, &command);
                }
                self.complete(id, self.told(&input, outcome), &runtime);
            }
            let think = runtime.random() % (2 * THINK.as_micros()) as u64;
            runtime.sleep(Duration::from_micros(think)).await;
        }
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
            self.judges.audit.proposed(group, command);
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
