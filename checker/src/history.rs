//! The operations of clients and their results, in the order in which they happened.

use bytes::Bytes;
use std::{collections::BTreeMap, fmt, time::Duration};

/// Names an operation of a history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OperationId(usize);

/// Names what one connection asks of one group: it takes effect in the order in which it was asked.
pub type Lane = u64;

/// A place in the order of all invocations and returns of a history.
pub type Moment = u64;

/// What a client was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told<O> {
    /// The operation took effect, with this result.
    Done(O),
    /// It certainly had no effect, and never will.
    NotApplied,
    /// Nobody knows: it takes effect at any time after its invocation, or never.
    Unknown,
}

/// One operation of a client on one key.
#[derive(Clone, Debug)]
pub struct Operation<I, O> {
    /// Who asked.
    pub client: u32,
    /// What it is in order with.
    pub lane: Option<Lane>,
    /// The key.
    pub key: Bytes,
    /// What was asked.
    pub input: I,
    /// When it was asked, in the order of the history.
    pub invoked: Moment,
    /// When the answer came; nothing while none has, and then it is [`Told::Unknown`].
    pub returned: Option<Moment>,
    /// Where in its log it took effect, if that was seen: it tells a search where to look first, and
    /// nothing else.
    pub seen_at: Option<u64>,
    /// When it was asked, in simulated time.
    pub invoked_at: Duration,
    /// When the answer came, in simulated time.
    pub returned_at: Option<Duration>,
    /// The answer.
    pub told: Told<O>,
}

impl<I: fmt::Debug, O: fmt::Debug> fmt::Display for Operation<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, key, input, told, .. } = self;
        write!(f, "client {client} {key:?} {input:?} -> {told:?} [{:?}, ", self.invoked_at)?;
        match self.returned_at {
            Some(at) => write!(f, "{at:?}]"),
            None => write!(f, "never]"),
        }
    }
}

/// The operations of all clients.
#[derive(Clone, Debug)]
pub struct History<I, O> {
    operations: Vec<Operation<I, O>>,
    moments: Moment,
}

impl<I, O> Default for History<I, O> {
    fn default() -> Self {
        Self { operations: Vec::new(), moments: 0 }
    }
}

impl<I, O> History<I, O> {
    /// A client asks. `now` is for people; the order of the calls is what counts.
    pub fn invoke(&mut self, client: u32, key: Bytes, input: I, now: Duration) -> OperationId {
        self.invoke_in(None, client, key, input, now)
    }

    /// A client asks, behind all that it asked before in this lane.
    pub fn invoke_in(
        &mut self,
        lane: Option<Lane>,
        client: u32,
        key: Bytes,
        input: I,
        now: Duration,
    ) -> OperationId {
        let invoked = self.moment();
        self.operations.push(Operation {
            client,
            lane,
            key,
            input,
            invoked,
            seen_at: None,
            returned: None,
            invoked_at: now,
            returned_at: None,
            told: Told::Unknown,
        });
        OperationId(self.operations.len() - 1)
    }

    /// A client is told, once for each operation.
    pub fn complete(&mut self, id: OperationId, told: Told<O>, now: Duration) {
        let moment = self.moment();
        let operation = &mut self.operations[id.0];
        assert!(operation.returned.is_none(), "{id:?} of the history was answered twice");
        operation.returned = Some(moment);
        operation.returned_at = Some(now);
        operation.told = told;
    }

    /// An operation was seen to take effect at this place of its log.
    pub fn seen(&mut self, id: OperationId, place: u64) {
        self.operations[id.0].seen_at = Some(place);
    }

    /// One of the operations.
    pub fn operation(&self, id: OperationId) -> &Operation<I, O> {
        &self.operations[id.0]
    }

    /// All operations, in the order of their invocation.
    pub fn operations(&self) -> &[Operation<I, O>] {
        &self.operations
    }

    /// How many operations were answered so: done, not applied, unknown.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Told<O>) -> bool| {
            self.operations.iter().filter(|operation| is(&operation.told)).count()
        };
        let done = count(|told| matches!(told, Told::Done(_)));
        let not_applied = count(|told| matches!(told, Told::NotApplied));
        (done, not_applied, self.operations.len() - done - not_applied)
    }

    /// The operations of each key.
    pub fn by_key(&self) -> BTreeMap<&Bytes, Vec<&Operation<I, O>>> {
        let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(&operation.key).or_default().push(operation);
        }
        keys
    }

    fn moment(&mut self) -> Moment {
        self.moments += 1;
        self.moments
    }
}

/// The place of the last of `lanes` that was asked before `operation` in its lane.
pub(super) fn last_before<I, O>(
    lanes: &BTreeMap<(Lane, Moment), usize>,
    operation: &Operation<I, O>,
) -> Option<usize> {
    let lane = operation.lane?;
    let (_, place) = lanes.range((lane, 0)..(lane, operation.invoked)).next_back()?;
    Some(*place)
}
