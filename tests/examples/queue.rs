//! A simulator for a user's state machine. The machine here is a set of queues with numbered items:
//! some clients add items, others remove them. The machine is what a host embeds; the rest of the
//! file tells the simulator what clients ask and which outcomes are right.
//!
//! ```sh
//! cargo run --release -p purlin-tests --example queue -- --seeds 0..50
//! ```

use bytes::Bytes;
use purlin::{ApplyContext, Command, GroupId, Request, StateMachine};
use purlin_tests::{
    checker::linearizability::Model,
    cluster::{NoVisitor, Subject},
    explore,
    sim::Random,
};
use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    process::ExitCode,
};

fn main() -> ExitCode {
    explore::main("cargo run --release -p purlin-tests --example queue", |seed| Queues {
        random: Random::new(seed, "queues"),
    })
}

// ---- The machine, as a host embeds it

/// Queues by name. A command is `number put queue` or `number take queue`; the outcome of both is a
/// number, and nothing when there was nothing to take.
#[derive(Default)]
struct QueueMachine {
    queues: BTreeMap<String, VecDeque<u64>>,
}

impl StateMachine for QueueMachine {
    fn apply(&mut self, _context: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
        for command in commands {
            outcomes.push(match self.apply_one(&command.data) {
                Some(number) => number.to_string().into(),
                None => Bytes::new(),
            });
        }
    }

    /// How long a queue is.
    fn query(&self, query: &[u8]) -> Bytes {
        let name = String::from_utf8_lossy(query);
        self.queues.get(&*name).map_or(0, VecDeque::len).to_string().into()
    }
}

impl QueueMachine {
    fn apply_one(&mut self, command: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(command).ok()?;
        let mut words = text.split(' ');
        let (number, verb, name) = (words.next()?, words.next()?, words.next()?);
        let queue = self.queues.entry(name.to_owned()).or_default();
        match verb {
            "put" => {
                let ticket = number.parse().ok()?;
                queue.push_back(ticket);
                Some(ticket)
            }
            _ => queue.pop_front(),
        }
    }
}

// ---- What one queue does when nobody else is there

#[derive(Clone, PartialEq, Debug)]
enum Input {
    /// Puts in the ticket.
    Put(u64),
    Take,
    Length,
}

struct QueueModel;

impl Model for QueueModel {
    type Input = Input;
    /// A ticket, or a length.
    type Output = Option<u64>;
    type State = VecDeque<u64>;

    fn initial(&self) -> VecDeque<u64> {
        VecDeque::new()
    }

    fn step(&self, state: &VecDeque<u64>, input: &Input) -> (VecDeque<u64>, Option<u64>) {
        let mut state = state.clone();
        let output = match input {
            Input::Put(ticket) => {
                state.push_back(*ticket);
                Some(*ticket)
            }
            Input::Take => state.pop_front(),
            Input::Length => Some(state.len() as u64),
        };
        (state, output)
    }
}

// ---- What clients ask

const QUEUES: u64 = 24;

struct Queues {
    random: Random,
}

impl Subject for Queues {
    type Machine = QueueMachine;
    type Model = QueueModel;
    type Visitor = NoVisitor;

    fn machine(&self, _group: GroupId) -> QueueMachine {
        QueueMachine::default()
    }

    fn digest(machine: &QueueMachine) -> u64 {
        let mut hasher = DefaultHasher::new();
        machine.queues.hash(&mut hasher);
        hasher.finish()
    }

    fn model(&self) -> QueueModel {
        QueueModel
    }

    fn next(&self, _client: u32) -> (Bytes, Input) {
        let queue = Bytes::from(format!("queue-{}", self.random.below(QUEUES)));
        // More is taken than put in: short queues are quickly judged.
        let input = match self.random.below(6) {
            0 | 1 => Input::Put(self.random.below(1 << 40)),
            2..=4 => Input::Take,
            _ => Input::Length,
        };
        (queue, input)
    }

    fn encode(&self, key: &Bytes, input: &Input, number: usize) -> Request {
        let name = String::from_utf8_lossy(key);
        match input {
            Input::Put(ticket) => Request::Propose(format!("{ticket} put {name}").into()),
            Input::Take => Request::Propose(format!("{number} take {name}").into()),
            Input::Length => Request::Query(key.clone()),
        }
    }

    fn decode(&self, _input: &Input, outcome: &[u8]) -> Option<u64> {
        std::str::from_utf8(outcome).expect("the machine writes digits").parse().ok()
    }

    fn probe(&self, name: &str) -> [Request; 2] {
        let put = Request::Propose(format!("0 put {name}").into());
        [put, Request::Query(name.to_owned().into())]
    }
}
