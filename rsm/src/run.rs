//! Runs of entries, to bytes and back: how entries lie in the write-ahead log and in an append on the
//! wire alike. Pure; the only place that knows their layout.
//!
//! ```text
//! run       term  first-index  before  count   then count × entry
//! entry     flags:byte   for commands: count, then count × (length, that many bytes)
//! flags     bits 0-3  kind: 0 no-op, 1 commands, 2 a configuration change (reserved for membership)
//!           bit 4     the leader's time stamp follows (reserved for group time, safety S1)
//!           bits 5-7  zero
//! ```
//!
//! Numbers are varints: 7 bits a byte, the lowest first, the top bit says that another byte follows. The
//! entries of a run have one term and consecutive indexes; `before` is the position of the last command
//! before the first entry. Terms, indexes and positions stay below 2^62.
//!
//! Reading never panics and allocates nothing: a run that was checked stays as bytes, and its entries
//! are slices of them.

use crate::{
    entry::{Commands, Entry, Payload},
    types::{Index, Position, Term},
    varint::{CUT, varint_bytes},
};
use bytes::{Buf, Bytes};

pub use crate::entry::COMMANDS_MAX;
pub use crate::varint::{Malformed, put_varint, take_varint};

/// Terms, indexes and positions at or above this are refused wherever they come from. So a peer that
/// sends `u64::MAX` cannot push a group to a term after which there is none: at one election a
/// microsecond, 2^62 lasts 146,000 years.
pub const NUMBER_LIMIT: u64 = 1 << 62;

/// The most entries of one append. An entry of one byte on the wire has 64 in memory, so a peer that sends a
/// frame of them must not decide how much memory they take.
pub const APPEND_ENTRIES_MAX: usize = 64 << 10;

/// The fewest bytes of a run: one no-op, and small numbers.
pub const RUN_BYTES_MIN: usize = 5;

/// Consecutive entries of one term, checked and still as bytes.
///
/// Invariant: `bytes` holds exactly `count` well-formed entries, `count > 0`, and no number reaches
/// [`NUMBER_LIMIT`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run<'a> {
    /// The term of all entries.
    pub term: Term,
    /// The index of the first.
    pub first: Index,
    /// The position of the last command before the first.
    pub before: Position,
    /// How many entries there are.
    pub count: u32,
    /// The position of the last command up to the end of the run.
    pub end: Position,
    /// The entries, behind the numbers above.
    pub bytes: &'a [u8],
}

const NOOP: u8 = 0;
const COMMANDS: u8 = 1;
const CONFIGURATION: u8 = 2;
const KIND_BITS: u8 = 0x0f;
const STAMPED: u8 = 0x10;

/// Cuts consecutive entries where the term changes: each piece is one run.
pub fn of_one_term(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    entries.chunk_by(|a, b| a.term == b.term)
}

/// Appends a run of one term.
///
/// # Panics
/// When there is no entry, the entries do not continue each other, or a number is too high.
pub fn put(out: &mut Vec<u8>, run: &[Entry]) {
    let first = run.first().expect("a run has an entry");
    let last = run.last().expect("a run has an entry");
    let highest = last.term.0.max(last.index.0).max(last.end().0);
    assert!(highest < NUMBER_LIMIT, "the number {highest} in a run is 2^62 or more");
    put_varint(out, first.term.0);
    put_varint(out, first.index.0);
    put_varint(out, first.before.0);
    put_varint(out, run.len() as u64);
    for pair in run.windows(2) {
        assert!(
            pair[1].term == pair[0].term
                && pair[1].index == pair[0].index.next()
                && pair[1].before == pair[0].end(),
            "entry {} with {} commands before it does not continue {} with {}",
            pair[1].id(),
            pair[1].before,
            pair[0].id(),
            pair[0].end()
        );
    }
    for entry in run {
        match &entry.payload {
            Payload::Noop => out.push(NOOP),
            Payload::Commands(commands) => {
                out.push(COMMANDS);
                commands.put(out);
            }
        }
    }
}

/// The bytes that the runs of these entries take.
///
/// At most `2 * entries.len()` more than the sum of [`Entry::cost`]: an entry that is a run of its own has
/// 9 bytes for its term, its index and its position each, 1 for the count, 1 for its flags, and 5 for
/// the count and the length of its command; its cost counts 32 for all these. So what was cut by cost
/// fits where it was meant to.
pub fn encoded_bytes(entries: &[Entry]) -> usize {
    let run = |run: &[Entry]| {
        let Entry { term, index, before, .. } = &run[0];
        let numbers = [term.0, index.0, before.0, run.len() as u64];
        let entry = |entry: &Entry| match &entry.payload {
            Payload::Noop => 1,
            Payload::Commands(commands) => 1 + commands.encoded_bytes(),
        };
        numbers.map(varint_bytes).iter().sum::<usize>() + run.iter().map(entry).sum::<usize>()
    };
    of_one_term(entries).map(run).sum()
}

/// The same entries, with all their commands in one buffer that holds nothing else. For entries that are slices of
/// much more than themselves.
pub fn compacted(entries: &[Entry]) -> Vec<Entry> {
    let mut out = Vec::with_capacity(encoded_bytes(entries));
    of_one_term(entries).for_each(|run| put(&mut out, run));
    let bytes = Bytes::from(out);
    let (mut rest, mut compacted) = (&bytes[..], Vec::with_capacity(entries.len()));
    while !rest.is_empty() {
        let run = Run::take(&mut rest).expect("a run that was written here");
        compacted.extend(run.entries(&bytes));
    }
    compacted
}

impl<'a> Run<'a> {
    /// Takes and checks a run at the start of `rest`.
    ///
    /// # Errors
    /// The first rule that the bytes break.
    pub fn take(rest: &mut &'a [u8]) -> Result<Self, Malformed> {
        let term = Term(number(rest, "a term of 2^62 or more")?);
        let first = Index(number(rest, "an index of 2^62 or more")?);
        let before = Position(number(rest, "a position of 2^62 or more")?);
        let count = take_varint(rest)?;
        let count =
            u32::try_from(count).map_err(|_| Malformed("more entries than 32 bits count"))?;
        if count == 0 || first == Index(0) {
            return Err(Malformed("entries with impossible indices"));
        }
        if first.0 + u64::from(count) > NUMBER_LIMIT {
            return Err(Malformed("an index of 2^62 or more"));
        }
        let bytes = *rest;
        let mut end = before.0;
        for _ in 0..count {
            // Both are below 2^62 here, so that the sum cannot overflow.
            end += check_entry(rest)?.0;
            if end >= NUMBER_LIMIT {
                return Err(Malformed("a position of 2^62 or more"));
            }
        }
        let bytes = &bytes[..bytes.len() - rest.len()];
        Ok(Self { term, first, before, count, end: Position(end), bytes })
    }

    /// The last index.
    pub fn last(&self) -> Index {
        Index(self.first.0 + u64::from(self.count) - 1)
    }

    /// Its entries. Their commands are slices of `within`, in which the run lies.
    pub fn entries(&self, within: &Bytes) -> Entries {
        Entries::new(self, within.slice_ref(self.bytes))
    }

    /// Its entries, in a copy of its bytes.
    pub fn copied(&self) -> Entries {
        Entries::new(self, Bytes::copy_from_slice(self.bytes))
    }
}

/// The entries of a checked run, made one by one from its bytes.
#[derive(Clone, Debug)]
pub struct Entries {
    term: Term,
    /// Of the next entry.
    index: Index,
    before: Position,
    /// How many are left.
    count: u32,
    bytes: Bytes,
}

impl Entries {
    fn new(run: &Run<'_>, bytes: Bytes) -> Self {
        let Run { term, first, before, count, .. } = *run;
        Self { term, index: first, before, count, bytes }
    }

    /// The term of all.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The position of the last command before the first that is left.
    pub fn before(&self) -> Position {
        self.before
    }

    /// The index of the first that is left.
    pub fn first(&self) -> Index {
        self.index
    }

    /// The place behind the last.
    pub fn end(&self) -> Index {
        Index(self.index.0 + u64::from(self.count))
    }

    /// Drops what is at or above `index`, which is not below the first.
    pub fn truncate(&mut self, index: Index) {
        self.count = self.count.min((index.0 - self.index.0) as u32);
    }

    /// At most what they cost in memory, about.
    pub fn cost(&self) -> usize {
        const OVERHEAD: usize = 32;
        self.bytes.len() + self.count as usize * OVERHEAD
    }
}

impl Iterator for Entries {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.count = self.count.checked_sub(1)?;
        let mut rest = &self.bytes[..];
        let (count, commands) = check_entry(&mut rest).expect("a run was checked when it was read");
        let payload = match commands {
            None => Payload::Noop,
            Some(bytes) => Payload::Commands(Commands::slices(count, bytes, &self.bytes)),
        };
        let used = self.bytes.len() - rest.len();
        let entry = Entry { term: self.term, index: self.index, before: self.before, payload };
        (self.index, self.before) = (self.index.next(), entry.end());
        self.bytes.advance(used);
        Some(entry)
    }

    /// As many as are left, so that a list of them is allocated once. The count was checked: each has bytes.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count as usize, Some(self.count as usize))
    }
}

impl ExactSizeIterator for Entries {}

/// Checks one entry: how many commands it has, and their bytes; none for a no-op.
fn check_entry<'a>(rest: &mut &'a [u8]) -> Result<(u64, Option<&'a [u8]>), Malformed> {
    let flags = *rest.split_off_first().ok_or(CUT)?;
    if flags & STAMPED != 0 {
        return Err(Malformed("an entry with a time stamp, which this version cannot read"));
    }
    match flags & KIND_BITS {
        _ if flags & !KIND_BITS != 0 => Err(Malformed("an entry with reserved flags")),
        NOOP => Ok((0, None)),
        COMMANDS => Commands::check(rest).map(|(count, bytes)| (count, Some(bytes))),
        CONFIGURATION => Err(Malformed("a configuration change, which this version cannot apply")),
        _ => Err(Malformed("an entry of an unknown kind")),
    }
}

fn number(rest: &mut &[u8], too_high: &'static str) -> Result<u64, Malformed> {
    take_varint(rest).and_then(|number| {
        if number < NUMBER_LIMIT { Ok(number) } else { Err(Malformed(too_high)) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(term: u64, payloads: impl IntoIterator<Item = Payload>) -> Vec<Entry> {
        let mut before = Position(1000);
        let entry = |(index, payload): (u64, Payload)| {
            let entry = Entry { term: Term(term), index: Index(index), before, payload };
            before = entry.end();
            entry
        };
        (7..).zip(payloads).map(entry).collect()
    }

    fn commands(count: usize) -> Payload {
        let command = |n: usize| Bytes::from(vec![n as u8; n % 200]);
        Payload::Commands((0..count).map(command).collect())
    }

    fn sample() -> Vec<Entry> {
        entries(3, [Payload::Noop, commands(1), commands(0), commands(3), commands(1000)])
    }

    fn encoded(run: &[Entry]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, run);
        assert_eq!(out.len(), encoded_bytes(run));
        out
    }

    fn taken(mut bytes: &[u8]) -> Result<Vec<Entry>, Malformed> {
        let run = Run::take(&mut bytes)?;
        let entries: Vec<_> = run.copied().collect();
        assert_eq!(entries.len(), run.count as usize);
        let last = entries.last().expect("a run has an entry");
        assert_eq!((last.index, last.end()), (run.last(), run.end));
        Ok(entries)
    }

    #[test]
    fn entries_of_any_number_of_commands_come_back_as_they_were() {
        let bytes = encoded(&sample());
        assert_eq!(taken(&bytes), Ok(sample()));
        let bytes = Bytes::from(bytes);
        let run = Run::take(&mut &bytes[..]).expect("what was written");
        let read: Vec<_> = run.entries(&bytes).collect();
        assert_eq!(read, sample());
        let (_, command) = read[1].commands().next().expect("one command");
        let inside = bytes.as_ptr_range();
        assert!(command.is_empty() || inside.contains(&command.as_ptr()), "a slice, no copy");
    }

    #[test]
    fn entries_are_cut_into_runs_where_the_term_changes() {
        let mut all = entries(3, [Payload::Noop, commands(2)]);
        all.push(Entry {
            term: Term(4),
            index: Index(9),
            before: all[1].end(),
            payload: commands(1),
        });
        let runs: Vec<_> = of_one_term(&all).map(<[Entry]>::len).collect();
        assert_eq!(runs, [2, 1]);
        assert_eq!(of_one_term(&[]).count(), 0);
    }

    /// Appends are cut by cost, so that they fit a frame: what they take must not leave it behind.
    #[test]
    fn a_run_has_the_length_that_was_computed_and_little_more_than_its_cost() {
        let lengths = [0, 1, 127, 128, 16_383, 16_384, 1 << 21];
        let one = |length: usize| Payload::command(Bytes::from(vec![0; length]));
        let mut payloads: Vec<_> = lengths.into_iter().map(one).collect();
        payloads.extend([Payload::Noop, commands(0), commands(2), commands(200)]);
        let numbers = (0..9).map(|bytes| 1 << (7 * bytes));
        for number in numbers.chain([100, 1 << 61, NUMBER_LIMIT - 1000]) {
            for step in [0, 1] {
                let mut before = Position(number - 1);
                let mut all = Vec::new();
                for (at, payload) in (0..).zip(&payloads) {
                    let (term, index) = (Term(number + at * step), Index(number + at));
                    all.push(Entry { term, index, before, payload: payload.clone() });
                    before = all[at as usize].end();
                }
                for some in (1..=all.len()).flat_map(|count| all.windows(count)) {
                    let told = encoded_bytes(some);
                    let cost: usize = some.iter().map(Entry::cost).sum();
                    assert!(told <= cost + 2 * some.len(), "{told} bytes of {cost} from {number}");
                }
                let mut out = Vec::new();
                of_one_term(&all).for_each(|run| put(&mut out, run));
                assert_eq!(out.len(), encoded_bytes(&all), "from {number}, terms by {step}");
            }
        }
    }

    #[test]
    fn compacted_entries_are_equal_and_lie_in_a_buffer_of_their_own() {
        let bytes = Bytes::from(encoded(&sample()));
        let run = Run::take(&mut &bytes[..]).expect("what was written");
        let part: Vec<_> = run.entries(&bytes).skip(1).take(3).collect();
        let alone = compacted(&part);
        assert_eq!(alone, part);
        let commands = alone.iter().flat_map(Entry::commands);
        assert!(commands.into_iter().all(|(_, it)| !bytes.as_ptr_range().contains(&it.as_ptr())));
        assert_eq!(compacted(&[]), []);
    }

    #[test]
    fn a_cut_run_is_refused_at_every_byte() {
        let bytes = encoded(&sample());
        for cut in 0..bytes.len() {
            assert!(taken(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_changed_run_is_refused_or_is_another_run_and_never_panics() {
        let run = entries(3, [Payload::Noop, commands(1), commands(3), commands(2)]);
        let bytes = encoded(&run);
        for at in 0..bytes.len() {
            for value in [0, 1, 2, 0x0f, 0x10, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                if changed != bytes {
                    assert_ne!(taken(&changed), Ok(run.clone()), "byte {at} is {value}");
                }
            }
        }
    }

    #[test]
    fn entries_of_a_later_version_are_refused_by_name() {
        let run = entries(3, [Payload::Noop]);
        let with = |flags: u8| {
            let mut bytes = encoded(&run);
            *bytes.last_mut().expect("the entry's flags") = flags;
            taken(&bytes).unwrap_err().0
        };
        assert_eq!(with(2), "a configuration change, which this version cannot apply");
        assert_eq!(with(0x10), "an entry with a time stamp, which this version cannot read");
        assert_eq!(with(0x20), "an entry with reserved flags");
        assert_eq!(with(3), "an entry of an unknown kind");
    }

    #[test]
    fn numbers_of_2_to_the_62_and_counts_beyond_the_bytes_are_refused() {
        let run = |numbers: [u64; 4], entry: &[u8]| {
            let mut bytes = Vec::new();
            numbers.iter().for_each(|number| put_varint(&mut bytes, *number));
            bytes.extend_from_slice(entry);
            taken(&bytes).map(|entries| entries.len()).map_err(|malformed| malformed.0)
        };
        const MOST: u64 = NUMBER_LIMIT - 1;
        assert_eq!(run([MOST, MOST, MOST, 1], &[NOOP]), Ok(1));
        assert_eq!(run([MOST + 1, 1, 0, 1], &[NOOP]), Err("a term of 2^62 or more"));
        assert_eq!(run([1, MOST + 1, 0, 1], &[NOOP]), Err("an index of 2^62 or more"));
        assert_eq!(run([1, MOST, 0, 2], &[NOOP, NOOP]), Err("an index of 2^62 or more"));
        assert_eq!(run([1, 1, MOST + 1, 1], &[NOOP]), Err("a position of 2^62 or more"));
        assert_eq!(run([1, 1, MOST, 1], &[COMMANDS, 1, 0]), Err("a position of 2^62 or more"));
        assert_eq!(run([1, 0, 0, 1], &[NOOP]), Err("entries with impossible indices"));
        assert_eq!(run([1, 1, 0, 0], &[]), Err("entries with impossible indices"));
        assert_eq!(run([1, 1, 0, 1 << 40], &[NOOP]), Err("more entries than 32 bits count"));
        assert_eq!(run([1, 1, 0, 1 << 30], &[NOOP]), Err("bytes that end too early"));
        let many = [COMMANDS, 9, 0];
        assert_eq!(run([1, 1, 0, 1], &many), Err("more commands than there are bytes"));
        assert_eq!(run([1, 1, 0, 1], &[COMMANDS, 1, 9, 0]), Err("bytes that end too early"));
    }

    #[test]
    fn an_entry_has_a_bounded_number_of_commands() {
        let entry = |count: u64| {
            let mut out = vec![1, 1, 0, 1, COMMANDS];
            put_varint(&mut out, count);
            out.resize(out.len() + count as usize, 0);
            taken(&out).map(|entries| (entries[0].end(), entries[0].commands().count() as u64))
        };
        assert_eq!(entry(COMMANDS_MAX), Ok((Position(COMMANDS_MAX), COMMANDS_MAX)));
        assert_eq!(entry(COMMANDS_MAX + 1), Err(Malformed("an entry of too many commands")));
    }

    #[test]
    fn a_truncated_run_keeps_the_entries_below() {
        let bytes = encoded(&sample());
        let mut entries = Run::take(&mut &bytes[..]).expect("what was written").copied();
        entries.truncate(Index(9));
        assert_eq!((entries.first(), entries.end()), (Index(7), Index(9)));
        assert_eq!(entries.collect::<Vec<_>>(), sample()[..2]);
    }

    #[test]
    #[should_panic(expected = "does not continue")]
    fn a_run_with_a_gap_in_its_positions_panics() {
        let mut run = entries(1, [commands(1), commands(1)]);
        run[1].before = Position(9);
        put(&mut Vec::new(), &run);
    }
}
