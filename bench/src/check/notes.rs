//! What was asked and told during a run, within bounds.

use std::collections::BTreeMap;

use purlin_checker::history::Moment;

use crate::fingerprint::Fingerprint;
use crate::reply::Held;
use crate::workload::Request;

/// The most operations that are noted. They take 48 MiB.
pub const OPERATIONS_MAX: usize = 500_000;
/// The most operations of one key that are noted: the memory of a search grows with their square.
pub const KEY_OPERATIONS_MAX: usize = 4_096;

/// What was asked of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// GET.
    Read,
    /// SET of this value.
    Write(Fingerprint),
    /// INCR.
    Increment,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was done, and the reply held this.
    Done(Held),
    /// It was certainly not applied.
    NotApplied,
    /// Nobody knows.
    Unknown,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    /// Who asked: a connection, or in a cluster a client.
    pub client: u32,
    /// What.
    pub asked: Asked,
    /// When, in the order of all that is noted.
    pub invoked: u32,
    /// When it was told, in that order; 0 while it was not.
    pub returned: u32,
    /// When it was asked, in nanoseconds since the start of the run.
    pub invoked_at: u64,
    /// When it was told.
    pub returned_at: u64,
    /// What came of it.
    pub told: Told,
    /// The place of its key in the sample.
    sample: u16,
}

/// A key of the sample.
#[derive(Clone, Copy, Debug, Default)]
struct Key {
    number: u64,
    noted: usize,
    /// Whether an operation on it was not noted.
    is_cut: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Notes {
    noted: Vec<Noted>,
    moments: u32,
    /// The keys by their places in the sample.
    keys: BTreeMap<u16, Key>,
    left_out: u64,
}

impl Notes {
    /// An operation is about to be sent. `fingerprint` is that of its value, if it has one. Returns the place that
    /// [`Self::tell`] wants, if the operation is noted.
    pub fn ask(
        &mut self,
        client: u32,
        request: &Request,
        fingerprint: Option<Fingerprint>,
        now: u64,
    ) -> Option<u32> {
        let sample = request.sample?;
        let key = self.keys.entry(sample).or_insert(Key { number: request.key, ..Key::default() });
        key.is_cut |= key.noted == KEY_OPERATIONS_MAX || self.noted.len() == OPERATIONS_MAX;
        if key.is_cut {
            self.left_out += 1;
            return None;
        }
        key.noted += 1;
        let asked = match (request.is_write, fingerprint) {
            (false, _) => Asked::Read,
            (true, Some(value)) => Asked::Write(value),
            (true, None) => Asked::Increment,
        };
        self.moments += 1;
        self.noted.push(Noted {
            client,
            asked,
            invoked: self.moments,
            returned: 0,
            invoked_at: now,
            returned_at: 0,
            told: Told::Unknown,
            sample,
        });
        Some(self.noted.len() as u32 - 1)
    }

    /// The operation of that place has ended.
    pub fn tell(&mut self, place: u32, told: Told, now: u64) {
        let noted = &mut self.noted[place as usize];
        assert!(noted.returned == 0, "operation {place} of the check was told twice: {noted:?}");
        // It may have seen what was not noted.
        let is_in_doubt = self.keys[&noted.sample].is_cut && matches!(told, Told::Done(_));
        if is_in_doubt || told == Told::Unknown {
            return;
        }
        self.moments += 1;
        (noted.returned, noted.returned_at, noted.told) = (self.moments, now, told);
    }

    /// The keys by their numbers, each with its operations in the order in which they were asked.
    pub fn by_key(&self) -> Vec<(u64, Vec<&Noted>)> {
        let mut keys: BTreeMap<u16, Vec<&Noted>> = BTreeMap::new();
        for noted in &self.noted {
            keys.entry(noted.sample).or_default().push(noted);
        }
        keys.into_iter().map(|(sample, noted)| (self.keys[&sample].number, noted)).collect()
    }

    /// How many operations are noted.
    pub fn count(&self) -> usize {
        self.noted.len()
    }

    /// How many operations on keys of the sample are not noted, behind the bounds.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

impl Noted {
    /// The moment of the answer; [`Moment::MAX`] if it is in doubt.
    pub fn ended(&self) -> Moment {
        if self.returned == 0 { Moment::MAX } else { self.returned.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: u64) -> Request {
        Request { key, sample: Some(key as u16), is_write: true, ..Request::default() }
    }

    const DONE: Told = Told::Done(Held::Number(1));

    #[test]
    fn the_notes_take_no_more_memory_than_they_may() {
        assert!(OPERATIONS_MAX * size_of::<Noted>() <= 48 << 20, "{}", size_of::<Noted>());
        // Two moments each.
        assert!(2 * OPERATIONS_MAX < u32::MAX as usize);
    }

    #[test]
    fn behind_the_bound_of_a_key_nothing_is_noted_and_what_is_under_way_is_in_doubt() {
        let mut notes = Notes::default();
        let first = notes.ask(1, &request(7), None, 10).unwrap();
        let second = notes.ask(1, &request(7), None, 11).unwrap();
        notes.tell(first, DONE, 12);
        for _ in 2..KEY_OPERATIONS_MAX {
            assert!(notes.ask(1, &request(7), None, 13).is_some());
        }
        assert_eq!(notes.ask(1, &request(7), None, 14), None);
        notes.tell(second, DONE, 15);
        assert!(notes.ask(1, &request(8), None, 16).is_some(), "another key goes on");
        assert_eq!((notes.count(), notes.left_out()), (KEY_OPERATIONS_MAX + 1, 1));
        let keys = notes.by_key();
        assert_eq!((keys[0].0, keys[1].0), (7, 8));
        let told: Vec<_> = keys[0].1[..3].iter().map(|noted| noted.told).collect();
        assert_eq!(told, [DONE, Told::Unknown, Told::Unknown]);
    }

    #[test]
    fn behind_the_bound_of_all_nothing_is_noted_of_any_key() {
        let mut notes = Notes::default();
        let keys = (OPERATIONS_MAX / KEY_OPERATIONS_MAX + 1) as u64;
        for at in 0..OPERATIONS_MAX as u64 {
            assert!(notes.ask(1, &request(at % keys), None, at).is_some());
        }
        assert_eq!(notes.ask(1, &request(0), None, 0), None);
        assert_eq!(notes.ask(1, &request(1_000), None, 0), None);
        assert_eq!((notes.count(), notes.left_out()), (OPERATIONS_MAX, 2));
    }

    #[test]
    fn keys_outside_of_the_sample_are_not_noted() {
        let mut notes = Notes::default();
        assert_eq!(notes.ask(1, &Request::default(), None, 0), None);
        assert_eq!((notes.count(), notes.left_out()), (0, 0));
    }
}
