//! An entry of a group's log, and the commands that it carries.

use crate::{
    types::{EntryId, Index, Position, Term},
    varint::{self, Malformed},
};
use bytes::Bytes;
use std::fmt;

/// The most commands of one entry: when the entry is applied, each of them becomes a value of its own.
pub const COMMANDS_MAX: u64 = 64 << 10;

/// An element of the log of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The term of the leader that made the entry.
    pub term: Term,
    /// The place of the entry in the log.
    pub index: Index,
    /// The position of the last command before this entry. The commands of this entry have the next
    /// positions.
    pub before: Position,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// No command. The first entry of a new leader, by which it commits the entries before it (Raft paper
    /// 8).
    Noop,
    /// Commands for the state machine.
    Commands(Commands),
}

/// The commands of one entry, in order; there may be none.
///
/// Invariant: the bytes hold exactly `count` commands, each behind its length, as a run encodes them (see
/// [`crate::run`]). Only one command has no length before it: its bytes are those that were proposed, not
/// copied. So equal commands are equal values, and the number tells the form, without a tag of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Commands {
    count: u64,
    bytes: Bytes,
}

impl Entry {
    /// The term and index of the entry.
    #[inline]
    pub fn id(&self) -> EntryId {
        EntryId::new(self.term, self.index)
    }

    /// The position of the last command of this entry; of the last one before it, if this entry has none.
    #[inline]
    pub fn end(&self) -> Position {
        Position(self.before.0 + self.payload.count())
    }

    /// The commands of the entry with their positions.
    pub fn commands(&self) -> impl Iterator<Item = (Position, Bytes)> {
        let commands = match &self.payload {
            Payload::Noop => CommandIter::Done,
            Payload::Commands(commands) => commands.iter(),
        };
        (self.before.0 + 1..).map(Position).zip(commands)
    }

    /// About the bytes that the entry takes in memory, on the wire and on disk. Windows, caches and pages
    /// count in it. Each command counts with an overhead, since each becomes a value of its own when the
    /// entry is applied.
    #[inline]
    pub fn cost(&self) -> usize {
        const OVERHEAD: usize = 32;
        match &self.payload {
            Payload::Noop => OVERHEAD,
            Payload::Commands(commands) => {
                commands.count().max(1) as usize * OVERHEAD + commands.bytes()
            }
        }
    }
}

impl Payload {
    /// A payload of one command.
    pub fn command(command: Bytes) -> Self {
        Self::Commands(Commands::from(command))
    }

    /// The number of commands.
    #[inline]
    pub fn count(&self) -> u64 {
        match self {
            Self::Noop => 0,
            Self::Commands(commands) => commands.count(),
        }
    }
}

impl Commands {
    /// How many there are.
    #[inline]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The commands. None is copied.
    #[inline]
    pub fn iter(&self) -> CommandIter<'_> {
        let Self { count, bytes } = self;
        match count {
            1 => CommandIter::One(bytes),
            _ => CommandIter::Framed { left: *count, rest: bytes, within: bytes },
        }
    }

    /// The bytes of the commands together. If there is more than one, the lengths between them count too.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the count, then each command behind its length.
    ///
    /// # Panics
    /// If there are more commands than [`COMMANDS_MAX`].
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        assert!(self.count <= COMMANDS_MAX, "an entry of {} commands", self.count);
        varint::put_varint(out, self.count);
        match self.count {
            1 => varint::put_bytes(out, &self.bytes),
            _ => out.extend_from_slice(&self.bytes),
        }
    }

    /// The number of bytes that `put` appends.
    pub(crate) fn encoded_bytes(&self) -> usize {
        let length = match self.count {
            1 => varint::varint_bytes(self.bytes.len() as u64),
            _ => 0,
        };
        varint::varint_bytes(self.count) + length + self.bytes.len()
    }

    /// Checks bytes that should be what `put` writes. Returns the number of the commands, and their
    /// bytes.
    pub(crate) fn check<'a>(rest: &mut &'a [u8]) -> Result<(u64, &'a [u8]), Malformed> {
        let count = varint::take_varint(rest)?;
        let bytes = *rest;
        if count > COMMANDS_MAX {
            return Err(Malformed("an entry of too many commands"));
        }
        // Each command has one byte at least, for its length.
        if count > bytes.len() as u64 {
            return Err(Malformed("more commands than there are bytes"));
        }
        for _ in 0..count {
            varint::take_bytes(rest)?;
        }
        Ok((count, &bytes[..bytes.len() - rest.len()]))
    }

    /// Makes commands of what `check` has returned, as slices of `within`.
    #[inline]
    pub(crate) fn slices(count: u64, mut checked: &[u8], within: &Bytes) -> Self {
        if count == 1 {
            let command = varint::take_bytes(&mut checked).expect("it was checked");
            return Self::from(within.slice_ref(command));
        }
        Self { count, bytes: within.slice_ref(checked) }
    }
}

/// The commands of an entry, one after the other.
#[derive(Clone)]
pub enum CommandIter<'a> {
    /// The only one.
    One(&'a Bytes),
    /// The next `left` commands in `rest`, each behind its length. They are handed out as slices of
    /// `within`.
    Framed {
        /// How many are left.
        left: u64,
        /// Their bytes.
        rest: &'a [u8],
        /// The bytes of all commands of the entry.
        within: &'a Bytes,
    },
    /// None is left.
    Done,
}

impl Iterator for CommandIter<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::One(command) => {
                let command = Bytes::clone(command);
                *self = Self::Done;
                Some(command)
            }
            Self::Framed { left, rest, within } => {
                *left = left.checked_sub(1)?;
                let command = varint::take_bytes(rest).expect("commands were checked when made");
                Some(within.slice_ref(command))
            }
            Self::Done => None,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self {
            Self::One(_) => 1,
            Self::Framed { left, .. } => *left as usize,
            Self::Done => 0,
        };
        (left, Some(left))
    }
}

impl From<Bytes> for Commands {
    fn from(command: Bytes) -> Self {
        Self { count: 1, bytes: command }
    }
}

impl FromIterator<Bytes> for Commands {
    fn from_iter<I: IntoIterator<Item = Bytes>>(commands: I) -> Self {
        Self::of(&commands.into_iter().collect::<Vec<_>>())
    }
}

impl Commands {
    /// These commands, in order.
    pub fn of(commands: &[Bytes]) -> Self {
        if let [command] = commands {
            return Self::from(command.clone());
        }
        let size = |command: &Bytes| varint::varint_bytes(command.len() as u64) + command.len();
        // What an entry takes in memory is counted by its bytes, so it has no room beside them.
        let mut framed = Vec::with_capacity(commands.iter().map(size).sum());
        commands.iter().for_each(|command| varint::put_bytes(&mut framed, command));
        Self { count: commands.len() as u64, bytes: framed.into() }
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(count: usize) -> Vec<Bytes> {
        (0..count).map(|n| Bytes::from(vec![n as u8; n % 300])).collect()
    }

    #[test]
    fn an_entry_of_any_number_of_commands_names_each_by_its_position() {
        for count in [0, 1, 3, 1000] {
            let commands = commands(count);
            let made = commands.iter().cloned().collect::<Commands>();
            assert_eq!(made.iter().size_hint(), (count, Some(count)));
            let entry = Entry {
                term: Term(2),
                index: Index(5),
                before: Position(40),
                payload: Payload::Commands(made),
            };
            assert_eq!(entry.end(), Position(40 + count as u64));
            let (positions, found): (Vec<_>, Vec<_>) = entry.commands().unzip();
            assert_eq!(found, commands);
            assert!(positions.iter().map(|position| position.0).eq(41..41 + count as u64));
        }
        let noop =
            Entry { term: Term(2), index: Index(5), before: Position(40), payload: Payload::Noop };
        assert_eq!((noop.end(), noop.commands().count()), (Position(40), 0));
    }

    #[test]
    fn the_cost_of_an_entry_grows_with_its_commands() {
        let cost =
            |payload| Entry { term: Term(1), index: Index(1), before: Position(0), payload }.cost();
        let empty = |count| Payload::Commands(std::iter::repeat_n(Bytes::new(), count).collect());
        assert_eq!([cost(Payload::Noop), cost(empty(0)), cost(empty(1))], [32; 3]);
        assert_eq!(cost(empty(1000)), 1000 * 32 + 1000, "and a length for each");
    }

    #[test]
    fn one_command_is_not_copied_and_equals_the_same_command_collected() {
        let command = Bytes::from(vec![7; 100]);
        let one = Commands::from(command.clone());
        assert_eq!(one.iter().next().expect("one").as_ptr(), command.as_ptr());
        assert_eq!(one, std::iter::once(command).collect());
    }

    /// Logs, caches and writes are lists of entries, and each entry is in several of them.
    #[test]
    fn an_entry_has_64_bytes_in_memory() {
        assert_eq!(size_of::<Entry>(), 64);
    }
}
