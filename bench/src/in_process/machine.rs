//! What the groups replicate: a register that keeps the last command, and counts all of them.

use bytes::Bytes;
use purlin::{ApplyContext, Command, StateMachine};

/// See the module. A command has no result; a query is answered with the count, as 8 bytes with the lowest first.
#[derive(Default)]
pub struct Register {
    last: Vec<u8>,
    count: u64,
}

impl StateMachine for Register {
    fn apply(&mut self, _: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
        for command in commands {
            self.last.clear();
            self.last.extend_from_slice(&command.data);
            self.count += 1;
            outcomes.push(Bytes::new());
        }
    }

    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&self.count.to_le_bytes())
    }
}

/// The count in the answer to a query.
pub fn count_of(answer: &[u8]) -> Option<u64> {
    answer.try_into().ok().map(u64::from_le_bytes)
}
