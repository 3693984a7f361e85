//! The state machine of a group, as the shard calls it: a machine that panics stops its group and not its shard
//! (safety E6).
//!
//! A machine is the code of an embedder. A panic of [`StateMachine::apply`] leaves it in a state that nobody knows, so it
//! is not called again. The same holds when it gives another number of outcomes than it was given commands. A query
//! changes nothing, so a panic of [`StateMachine::query`] ends that query and no other.

use bytes::Bytes;
use purlin_rsm::{ApplyContext, Command, EntryId, Position, StateMachine};
use std::{
    any::Any,
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// So much is kept of the message of a panic, in bytes.
const MESSAGE_MAX: usize = 256;

/// See the module.
pub(crate) struct Machine {
    machine: Box<dyn StateMachine>,
    stopped: Option<MachineStop>,
    /// The memory that it held when it last said so.
    held_bytes: Cell<usize>,
}

/// Why and where the state machine of a group has stopped. Its display is a text for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineStop {
    /// The entry that carries the command.
    pub entry: EntryId,
    /// The number of the command in its group.
    pub position: Position,
    /// The length of the command in bytes.
    pub command_bytes: usize,
    /// What the machine has done: the message of its panic, cut to 256 bytes.
    pub what: String,
}

impl fmt::Display for MachineStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry: EntryId { term, index }, position, command_bytes, what } = self;
        write!(
            f,
            "the state machine failed at the command of {command_bytes} bytes at index {index}, term {term}, position \
             {position}: {what}"
        )
    }
}

impl Machine {
    pub(crate) fn new(machine: Box<dyn StateMachine>) -> Self {
        Self { machine, stopped: None, held_bytes: Cell::new(0) }
    }

    /// Applies commands, and puts an outcome for each into `outcomes`, which is empty.
    ///
    /// # Errors
    /// The machine has stopped, now or earlier. Nobody knows which of the commands it has applied.
    pub(crate) fn apply(
        &mut self,
        context: &ApplyContext,
        commands: &[Command],
        outcomes: &mut Vec<Bytes>,
    ) -> Result<(), &MachineStop> {
        if self.stopped.is_none() {
            let call = || self.machine.apply(context, commands, outcomes);
            let what = match catch_unwind(AssertUnwindSafe(call)) {
                Ok(()) if outcomes.len() == commands.len() => return Ok(()),
                Ok(()) => format!(
                    "it gave {} outcomes for {} commands, and owes one for each",
                    outcomes.len(),
                    commands.len()
                ),
                Err(panic) => message(&*panic),
            };
            purlin_rsm::sometimes!("state machine failed, its group stops here");
            // It pushes one outcome for each command, so their number tells at which command it was.
            let at = &commands[outcomes.len().min(commands.len() - 1)];
            let (entry, position, command_bytes) = (at.id, at.position, at.data.len());
            self.stopped = Some(MachineStop { entry, position, command_bytes, what });
        }
        Err(self.stopped.as_ref().expect("it has just been set"))
    }

    /// Answers a query.
    ///
    /// # Errors
    /// The machine has panicked, with this message. It has changed nothing, so it is asked again.
    pub(crate) fn query(&self, query: &[u8]) -> Result<Bytes, String> {
        let answer = catch_unwind(AssertUnwindSafe(|| self.machine.query(query)));
        answer.map_err(|panic| message(&*panic))
    }

    /// The memory that it holds. A machine that has stopped, or panics, holds what it last said.
    pub(crate) fn held_bytes(&self) -> usize {
        if self.stopped.is_none()
            && let Ok(bytes) = catch_unwind(AssertUnwindSafe(|| self.machine.held_bytes()))
        {
            self.held_bytes.set(bytes);
        }
        self.held_bytes.get()
    }

    /// Whether it admits a command when the memory is full. A machine that panics does not.
    pub(crate) fn admits_when_full(&self, command: &[u8]) -> bool {
        let admits = || self.machine.admits_when_full(command);
        catch_unwind(AssertUnwindSafe(admits)).unwrap_or(false)
    }

    /// Why it has stopped, if it has.
    pub(crate) fn stopped(&self) -> Option<&MachineStop> {
        self.stopped.as_ref()
    }
}

/// The message of a panic, on one line and within its bound.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let Some(text) = text else { return "it panicked without a message".into() };
    let cut = &text[..text.floor_char_boundary(MESSAGE_MAX)];
    let rest = if cut.len() < text.len() { "…" } else { "" };
    format!("it panicked: {}{rest}", cut.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use purlin_rsm::{GroupEpoch, GroupId, Index, Term};

    /// Panics at the command "bad" and at the query "bad", owes an outcome for "none", and counts its calls.
    #[derive(Default)]
    struct Fragile(Cell<usize>);

    impl StateMachine for Fragile {
        fn apply(&mut self, _: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
            self.0.set(self.0.get() + 1);
            for command in commands {
                assert!(command.data != "bad", "{}\n{}", self.0.get(), "ä".repeat(MESSAGE_MAX));
                if command.data != "none" {
                    outcomes.push(Bytes::new());
                }
            }
        }

        fn query(&self, query: &[u8]) -> Bytes {
            assert!(query != b"bad", "bad query");
            Bytes::from_static(b"answer")
        }

        fn held_bytes(&self) -> usize {
            assert!(self.0.get() < 2, "too many calls");
            10
        }

        fn admits_when_full(&self, command: &[u8]) -> bool {
            assert!(command != b"bad", "bad command");
            true
        }
    }

    fn apply(machine: &mut Machine, commands: &[&'static str]) -> Result<usize, MachineStop> {
        let context = ApplyContext { group: GroupId(1), epoch: GroupEpoch::FIRST };
        let command = |(number, text): (u64, &&'static str)| Command {
            id: EntryId::new(Term(2), Index(number)),
            position: Position(10 + number),
            data: Bytes::from_static(text.as_bytes()),
        };
        let commands: Vec<_> = (1..).zip(commands).map(command).collect();
        let mut outcomes = Vec::new();
        let applied = machine.apply(&context, &commands, &mut outcomes).map_err(Clone::clone);
        applied.map(|()| outcomes.len())
    }

    /// Safety E6.
    #[test]
    fn a_machine_that_panics_names_the_command_and_is_not_called_again() {
        let mut machine = Machine::new(Box::<Fragile>::default());
        assert_eq!(apply(&mut machine, &["a", "b"]), Ok(2));
        let stop = apply(&mut machine, &["c", "bad", "d"]).expect_err("it panics");
        assert_eq!((stop.entry, stop.position), (EntryId::new(Term(2), Index(2)), Position(12)));
        assert_eq!(stop.command_bytes, 3);
        let text = stop.to_string();
        assert!(
            text.contains("of 3 bytes at index 2, term 2, position 12: it panicked: 2\\n"),
            "{text}"
        );
        assert!(text.len() < MESSAGE_MAX + 200 && text.ends_with("ä…"), "{text}");
        assert_eq!(apply(&mut machine, &["e"]), Err(stop.clone()), "the second call was its last");
        assert_eq!(machine.stopped(), Some(&stop));
    }

    #[test]
    fn a_machine_that_owes_outcomes_stops() {
        let mut machine = Machine::new(Box::<Fragile>::default());
        let stop = apply(&mut machine, &["a", "none"]).expect_err("it owes one");
        assert_eq!(stop.what, "it gave 1 outcomes for 2 commands, and owes one for each");
    }

    #[test]
    fn what_is_asked_beside_commands_and_queries_panics_nobody() {
        let mut machine = Machine::new(Box::<Fragile>::default());
        assert_eq!(machine.held_bytes(), 10);
        (0..2).for_each(|_| _ = apply(&mut machine, &["a"]));
        assert_eq!(machine.held_bytes(), 10, "as it last said");
        assert_eq!(
            ["good", "bad"].map(|it| machine.admits_when_full(it.as_bytes())),
            [true, false]
        );
    }

    #[test]
    fn a_query_that_panics_ends_alone() {
        let mut machine = Machine::new(Box::<Fragile>::default());
        assert_eq!(machine.query(b"bad"), Err("it panicked: bad query".into()));
        assert_eq!(machine.query(b"good"), Ok(Bytes::from_static(b"answer")));
        assert_eq!(apply(&mut machine, &["a"]), Ok(1));
    }
}
