//! How long commands spend in each stage between their acceptance by a shard and their answer.
//!
//! ```text
//! accepted ──queue──► proposed ──quorum──► committed ──apply──► applied ──reply──► answered
//!                        └──────wal──────► durable here
//! ```
//!
//! The total is the sum of `queue`, `quorum`, `apply` and `reply`. `wal` runs beside `quorum` and is not part of the
//! sum: a leader's own write and its messages go out together, and two followers may make a majority without the leader.

use crate::control::histogram::Histogram;

/// See the module. Only commands that this shard has led from their proposal to their answer are timed, and of these a
/// sample: `count` of each histogram is the size of the sample, not the number of commands.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct StageTimes {
    /// From the acceptance until the command is in the leader's log, in memory: the wait for the command's turn among
    /// those of its connection, and for the turn of the shard's loop. Of a command from another shard or node it begins
    /// with the turn that takes it in; the way here is not counted.
    pub queue: Histogram,
    /// From the proposal until the leader knows that its own log has the command durably: the wait for a batch, its
    /// write, and the wait for the turn that learns of its end.
    pub wal: Histogram,
    /// From the proposal until the command is committed: a majority has it durably, the leader counted or not. That is
    /// the way to the followers, their disks, and the way back; and never less than the second fastest disk of three.
    pub quorum: Histogram,
    /// From the commit until the state machine has applied the command: the wait for other groups of the turn and for
    /// earlier entries, and the machine itself.
    pub apply: Histogram,
    /// From the end of `apply` until the outcome is handed to its connection, or to the channel of the shard that sent
    /// the command on. What the connection needs to write the answer is not counted.
    pub reply: Histogram,
    /// From the acceptance until the end of `reply`.
    pub total: Histogram,
}

impl StageTimes {
    /// The names of the stages, in order, and their times; the total comes last.
    pub fn by_name(&self) -> [(&'static str, &Histogram); 6] {
        [
            ("queue", &self.queue),
            ("wal", &self.wal),
            ("quorum", &self.quorum),
            ("apply", &self.apply),
            ("reply", &self.reply),
            ("total", &self.total),
        ]
    }

    /// Counts the times of another shard too.
    pub fn add(&mut self, other: &Self) {
        self.queue.add(&other.queue);
        self.wal.add(&other.wal);
        self.quorum.add(&other.quorum);
        self.apply.add(&other.apply);
        self.reply.add(&other.reply);
        self.total.add(&other.total);
    }
}
