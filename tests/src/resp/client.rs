//! A client that keeps several operations in flight on one connection, and opens another connection
//! when that one is lost.

use super::{
    message::{told, words},
    wire::{Wire, request_bytes},
};
use crate::{
    checker::history::{Lane, OperationId, Told},
    sim::SimRuntime,
    workload::{Op, Reply},
};
use bytes::Bytes;
use purlin::{GroupId, Runtime};
use purlin_server::resp::Value;
use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    time::Duration,
};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Where it connects to, of these. See [`super::address`].
    pub addresses: Vec<String>,
    /// A connection that brings no reply for so long is given up.
    pub patience: Duration,
    /// How long it waits after an address that takes no connection.
    pub pause: Duration,
}

impl ClientOptions {
    /// A client of these addresses that waits longer than a server takes to answer.
    pub fn new(addresses: Vec<String>) -> Self {
        let (patience, pause) = (Duration::from_secs(15), Duration::from_millis(50));
        Self { addresses, patience, pause }
    }
}

/// An operation has been answered, or its connection was lost.
pub type Answered = (OperationId, Told<Reply>);

/// See the module.
pub struct Client {
    runtime: SimRuntime,
    options: ClientOptions,
    number: u32,
    wire: Option<Wire>,
    /// How many connections it has had.
    connections: u16,
    /// What was asked and not answered, first come first.
    open: VecDeque<(OperationId, Op)>,
    /// What was asked and not sent.
    queued: Vec<u8>,
    /// Where a shard has sent it: it goes there when it waits for nothing any more.
    moved: Option<String>,
}

impl Client {
    /// Client `number` of a history, which is not connected yet. It lives as long as the process of
    /// `runtime`.
    pub fn new(runtime: SimRuntime, number: u32, options: ClientOptions) -> Self {
        assert!(!options.addresses.is_empty(), "client {number} knows nobody");
        Self {
            runtime,
            options,
            number,
            wire: None,
            connections: 0,
            open: VecDeque::new(),
            queued: Vec::new(),
            moved: None,
        }
    }

    /// Connects, unless it is connected: to where a shard has sent it, or to the one of its addresses that chance
    /// chooses, and if that does not take it in, after a pause to the next one, and so on.
    pub async fn connect(&mut self) {
        if self.open.is_empty()
            && let Some(to) = self.moved.take()
        {
            self.wire = Wire::connect(&self.runtime, &to).await.ok();
            self.connections += 1;
        }
        let count = self.options.addresses.len();
        let mut place = (self.runtime.random() % count as u64) as usize;
        while self.wire.is_none() {
            match Wire::connect(&self.runtime, &self.options.addresses[place]).await {
                Ok(wire) => {
                    self.wire = Some(wire);
                    self.connections += 1;
                }
                Err(_) => self.runtime.sleep(self.options.pause).await,
            }
            place = (place + 1) % count;
        }
    }

    /// What the present connection asks of a group: it takes effect in this order. A later connection
    /// knows no order with what an earlier one has left in doubt.
    pub fn lane(&self, group: GroupId) -> Lane {
        let group = u16::try_from(group.0).expect("there are no more groups than slots");
        u64::from(self.number) << 32 | u64::from(self.connections) << 16 | u64::from(group)
    }

    /// Asks for an operation on the present connection, behind those before it; `number` is its number
    /// in the history. Nothing is sent yet.
    pub fn ask(&mut self, id: OperationId, key: &Bytes, op: Op, number: usize) {
        assert!(self.wire.is_some(), "client {} is not connected", self.number);
        self.queued.extend(request_bytes(&words(key, &op, number)));
        self.open.push_back((id, op));
    }

    /// How many operations are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Sends what was asked, and waits for answers: of the open operations the first, and perhaps more.
    /// When the connection is lost the outcome of all the others is unknown.
    ///
    /// # Errors
    /// The server said what it must not say. The connection is closed, and what was open is never
    /// answered.
    pub async fn answers(&mut self) -> Result<Vec<Answered>, String> {
        assert!(!self.open.is_empty(), "client {} has asked nothing", self.number);
        let mut replies = Vec::new();
        let exchanged = self.exchange(&mut replies).await;
        let answers = self.understand(replies, &exchanged);
        if exchanged.is_err() || answers.is_err() {
            self.wire = None;
            self.open.clear();
        }
        answers.map_err(|strange| format!("client {}: {strange}", self.number))
    }

    /// What replies tell, and the end of a connection.
    fn understand(
        &mut self,
        replies: Vec<Value>,
        exchanged: &io::Result<()>,
    ) -> Result<Vec<Answered>, String> {
        let mut answers = Vec::new();
        for reply in replies {
            if let Value::Error(text) = &reply
                && let Some(moved) = text.strip_prefix("MOVED ")
            {
                self.moved = moved.split(' ').nth(1).map(str::to_owned);
            }
            let asked = self.open.pop_front();
            let (id, op) = asked.ok_or_else(|| format!("{reply:?} came unasked"))?;
            answers.push((id, told(&op, reply)?));
        }
        match exchanged {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::InvalidData => return Err(error.to_string()),
            Err(_) => answers.extend(self.open.drain(..).map(|(id, _)| (id, Told::Unknown))),
        }
        Ok(answers)
    }

    async fn exchange(&mut self, replies: &mut Vec<Value>) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.queued);
        let wire = self.wire.as_mut().expect("what is open was asked on it");
        let patience = self.runtime.sleep(self.options.patience);
        let too_late = async {
            patience.await;
            Err(ErrorKind::TimedOut.into())
        };
        futures_lite::future::or(wire.exchange(&bytes, replies), too_late).await
    }
}
