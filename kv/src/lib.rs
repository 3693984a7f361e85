//! A replicated map of byte strings, with the semantics and the error texts of Redis 7.
//!
//! [`KvCommand`]s go through the log and [`KvQuery`]s do not; both answer a [`KvOutcome`]. The
//! machine knows the keys of one group only: a caller with keys of several groups splits its command
//! first. The machine has no clock, and knows nothing but the cluster and the group that it belongs to, so that replicas
//! cannot differ.
#![forbid(unsafe_code)]

mod command;
mod outcome;
mod slot;
mod store;
mod wire;

#[cfg(test)]
mod kv_test;

pub use command::{KvCommand, KvQuery, SetCondition, answers_a_value};
pub use outcome::{KvOutcome, KvValues};
pub use slot::{SLOTS, slot_of};
pub use store::{KvCursor, KvPortion, KvView};
pub use wire::{Malformed, Strings, StringsBuf};

use bytes::Bytes;
use outcome::ValuesBuf;
use purlin_rsm::{ApplyContext, ClusterId, Command, GroupId, StateMachine};
use store::Store;

/// The longest key, in bytes. It must be the same on all replicas, so it is a constant and no option.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// The longest value, in bytes. `APPEND` is refused when its result would be longer.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// The longest array that answers a query, in bytes. The array has to fit into a frame between nodes. Commands that are
/// applied at once and change nothing answer no more than this together.
pub const VALUES_BYTES_MAX: usize = 12 << 20;

/// The longest list of keys that answers a query, in bytes.
pub const KEYS_BYTES_MAX: usize = 1 << 20;

/// So many commands are looked at together: the memory of their keys is fetched at once.
const AHEAD: usize = 16;

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const OVERFLOW: &str = "ERR increment or decrement would overflow";
const TOO_LONG: &str = "ERR string exceeds maximum allowed size: a value has 8 MiB at most; nothing was changed, use a shorter one";
const KEY_TOO_LONG: &str = "ERR key is longer than 64 KiB; nothing was changed, use a shorter one";
const ARRAY_TOO_LONG: &str = "ERR the values are more than 12 MiB together; nothing was changed, ask for fewer keys at a time";
const OLD_VALUES_TOO_LONG: &str = "TRYAGAIN the old values that were asked for at once are more than 12 MiB together; nothing was changed, try again";
const MALFORMED_COMMAND: &str = "ERR the log holds a command that this version does not know; nothing was changed, run one version on all nodes";
const MALFORMED_QUERY: &str =
    "ERR this version does not know the query; nothing was changed, run one version on all nodes";

/// The key-value machine of one group.
#[derive(PartialEq, Eq, Debug)]
pub struct KvMachine {
    store: Store,
}

impl KvMachine {
    /// A machine without keys, for a group of a cluster. Both must be the same on all replicas: they give the order in
    /// which keys are listed, by a hash that no client can compute who does not know them.
    pub fn new(cluster: ClusterId, group: GroupId) -> Self {
        Self { store: Store::new(cluster, group) }
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether it has no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that keys and values take, in bytes, with the free places of the tables, and without the
    /// allocator's own share.
    pub fn memory(&self) -> usize {
        self.store.memory()
    }

    /// All keys and values as they are now, whatever is written afterwards. Writes go on, and no record is copied now. While
    /// a view lives, the first write to a bucket copies the bucket, so with each view the machine may come to hold its
    /// memory once more. [`KvMachine::memory`] counts it.
    ///
    /// Such a first write takes 11 to 16 µs with short records, and longer with long values or with many keys of one hash. So
    /// a command of 16,384 keys may take a quarter of a second beside a fresh view: whoever freezes the machine of a shard
    /// has to bound the copies of one turn first.
    pub fn freeze(&mut self) -> KvView {
        self.store.freeze()
    }

    /// Keys and values from `from` on, in the order of the hashes of keys: `records_max` at most, and `bytes_max` bytes of
    /// them, but at least one. A key that is there during the whole of a walk is given once.
    ///
    /// # Panics
    /// If `records_max` is 0.
    pub fn walk(&self, from: &KvCursor, records_max: usize, bytes_max: usize) -> KvPortion<'_> {
        self.store.walk(from, records_max, bytes_max)
    }

    /// Whether a command needs no more memory than the machine holds: it changes keys that are there, have room for their
    /// new values, and are in no view; or it deletes keys. For a key in a view that copies one bucket, which gives
    /// memory back when the view has gone: without this, a full machine could never be emptied.
    fn fits(&self, command: &KvCommand<'_>) -> bool {
        let fits = |key: &[u8], value: &[u8]| self.store.has_room_for(key, value.len());
        match *command {
            KvCommand::Delete { .. } => true,
            KvCommand::Set { key, value, .. } => fits(key, value),
            // Several are judged before the first of them is applied, and together they grow.
            KvCommand::Append { key, value } => value.is_empty() && fits(key, value),
            KvCommand::Add { key, delta } => match self.sum(self.store.hash(key), key, delta) {
                Ok(sum) => fits(key, sum.to_string().as_bytes()),
                // It changes nothing.
                Err(_) => true,
            },
            KvCommand::SetMany { pairs } => {
                let mut strings = pairs.iter();
                while let (Some(key), Some(value)) = (strings.next(), strings.next()) {
                    if !fits(key, value) {
                        return false;
                    }
                }
                true
            }
        }
    }

    /// A digest of all keys and values: in one group equal contents have equal ones. It looks at all keys in those parts
    /// of the machine that were changed since it was last asked for.
    pub fn digest(&self) -> u64 {
        self.store.digest()
    }

    /// Executes a command, whose first key has this hash. `old_bytes` counts the old values in the answers.
    fn execute(&mut self, command: &KvCommand<'_>, hash: u64, old_bytes: &mut usize) -> Bytes {
        if let Err(text) = check_lengths(command) {
            return error(text);
        }
        match *command {
            // Nearly every SET is a plain one, and does not look for the old value.
            KvCommand::Set { key, value, condition: SetCondition::Always, get: false } => {
                self.store.set_at(hash, key, value);
                KvOutcome::Ok.encode()
            }
            KvCommand::Set { key, value, condition, get: true } => {
                self.set_and_get(hash, (key, value), condition, old_bytes)
            }
            KvCommand::Set { key, value, condition, get: false } => {
                self.set(hash, key, value, condition)
            }
            KvCommand::Append { key, value } => self.append(hash, key, value),
            KvCommand::Delete { keys } => self.delete(keys),
            KvCommand::Add { key, delta } => self.add(hash, key, delta),
            KvCommand::SetMany { pairs } => self.set_many(pairs),
        }
    }

    fn set(&mut self, hash: u64, key: &[u8], value: &[u8], condition: SetCondition<'_>) -> Bytes {
        if !condition.holds(self.store.value_at(hash, key)) {
            return KvOutcome::Nil.encode();
        }
        self.store.set_at(hash, key, value);
        KvOutcome::Ok.encode()
    }

    /// Sets, and answers the old value. A command that sets has paid for what it is answered, since the next one finds
    /// another value there. One that does not set could be answered 8 MiB for some bytes, as often as it is asked.
    fn set_and_get(
        &mut self,
        hash: u64,
        (key, value): (&[u8], &[u8]),
        condition: SetCondition<'_>,
        old_bytes: &mut usize,
    ) -> Bytes {
        let old = self.store.value_at(hash, key);
        let (holds, bytes) = (condition.holds(old), *old_bytes + old.map_or(0, <[u8]>::len));
        if !holds && bytes > VALUES_BYTES_MAX {
            return error(OLD_VALUES_TOO_LONG);
        }
        // What sets leaves the room to the others.
        if !holds {
            *old_bytes = bytes;
        }
        let outcome = value_or_nil(old);
        if holds {
            self.store.set_at(hash, key, value);
        }
        outcome
    }

    fn append(&mut self, hash: u64, key: &[u8], value: &[u8]) -> Bytes {
        let len = self.store.value_at(hash, key).map_or(0, <[u8]>::len) + value.len();
        if len > VALUE_BYTES_MAX {
            return error(TOO_LONG);
        }
        self.store.append_at(hash, key, value);
        integer(len)
    }

    fn delete(&mut self, keys: Strings<'_>) -> Bytes {
        integer(keys.iter().filter(|key| self.store.remove(key)).count())
    }

    fn add(&mut self, hash: u64, key: &[u8], delta: i64) -> Bytes {
        let sum = match self.sum(hash, key, delta) {
            Ok(sum) => sum,
            Err(text) => return error(text),
        };
        self.store.set_at(hash, key, sum.to_string().as_bytes());
        KvOutcome::Integer(sum).encode()
    }

    /// The number of a key and `delta`, or why there is no sum.
    fn sum(&self, hash: u64, key: &[u8], delta: i64) -> Result<i64, &'static str> {
        let number = self.store.value_at(hash, key).map_or(Some(0), parse_integer);
        number.ok_or(NOT_AN_INTEGER)?.checked_add(delta).ok_or(OVERFLOW)
    }

    fn set_many(&mut self, pairs: Strings<'_>) -> Bytes {
        let mut strings = pairs.iter();
        while let (Some(key), Some(value)) = (strings.next(), strings.next()) {
            self.store.set(key, value);
        }
        KvOutcome::Ok.encode()
    }

    /// Keys of a slot, at most so many, and [`KEYS_BYTES_MAX`] bytes of them.
    fn keys(&self, slot: u16, most: usize) -> Bytes {
        let mut keys = ValuesBuf::default();
        for key in self.store.keys_in(slot).take(most) {
            if keys.bytes() + key.len() > KEYS_BYTES_MAX {
                break;
            }
            keys.push(Some(key));
        }
        KvOutcome::Array(keys.values()).encode()
    }

    fn values(&self, keys: Strings<'_>) -> Bytes {
        let mut values = ValuesBuf::default();
        for key in keys.iter() {
            let value = self.store.value(key);
            if values.bytes() + value.map_or(0, <[u8]>::len) > VALUES_BYTES_MAX {
                return error(ARRAY_TOO_LONG);
            }
            values.push(value);
        }
        KvOutcome::Array(values.values()).encode()
    }
}

impl StateMachine for KvMachine {
    fn apply(&mut self, _: &ApplyContext, commands: &[Command], outcomes: &mut Vec<Bytes>) {
        let mut old_bytes = 0;
        for commands in commands.chunks(AHEAD) {
            let mut decoded = [const { None }; AHEAD];
            for (place, command) in decoded.iter_mut().zip(commands) {
                *place = Some(
                    KvCommand::decode(&command.data)
                        .map(|it| (it, self.store.hash(it.first_key()))),
                );
            }
            let decoded = &decoded[..commands.len()];
            let hashes = decoded.iter().flatten().flatten().map(|(_, hash)| *hash);
            self.store.look_ahead(hashes);
            outcomes.extend(decoded.iter().flatten().map(|command| match command {
                Ok((command, hash)) => self.execute(command, *hash, &mut old_bytes),
                Err(Malformed) => error(MALFORMED_COMMAND),
            }));
        }
    }

    fn query(&self, query: &[u8]) -> Bytes {
        let Ok(query) = KvQuery::decode(query) else { return error(MALFORMED_QUERY) };
        match query {
            KvQuery::Get { key } => value_or_nil(self.store.value(key)),
            KvQuery::Length { key } => integer(self.store.value(key).map_or(0, <[u8]>::len)),
            KvQuery::Exist { keys } => {
                integer(keys.iter().filter(|key| self.store.value(key).is_some()).count())
            }
            KvQuery::GetMany { keys } => self.values(keys),
            KvQuery::Count => integer(self.len()),
            KvQuery::CountInSlot { slot } => integer(self.store.count_in(slot)),
            KvQuery::KeysInSlot { slot, most } => self.keys(slot, most.into()),
        }
    }

    fn held_bytes(&self) -> usize {
        self.memory()
    }

    fn admits_when_full(&self, command: &[u8]) -> bool {
        // The machine answers what it does not know with an error, and does not grow.
        KvCommand::decode(command).map_or(true, |command| self.fits(&command))
    }
}

/// The number that `text` holds, if `text` is written as Redis writes a number: no plus sign, no
/// leading zero, no space.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The server checks these limits before it proposes a command. The machine checks them again, since
/// any embedder may have proposed the command that the log holds.
fn check_lengths(command: &KvCommand<'_>) -> Result<(), &'static str> {
    match *command {
        KvCommand::Set { key, value, .. } => check_pair(key, value),
        KvCommand::Append { key, value } => check_pair(key, value),
        KvCommand::Add { key, .. } => check_pair(key, &[]),
        KvCommand::SetMany { pairs } => {
            let mut strings = pairs.iter();
            while let (Some(key), Some(value)) = (strings.next(), strings.next()) {
                check_pair(key, value)?;
            }
            Ok(())
        }
        KvCommand::Delete { .. } => Ok(()),
    }
}

fn check_pair(key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if key.len() > KEY_BYTES_MAX {
        return Err(KEY_TOO_LONG);
    }
    if value.len() > VALUE_BYTES_MAX { Err(TOO_LONG) } else { Ok(()) }
}

fn value_or_nil(value: Option<&[u8]>) -> Bytes {
    value.map_or(KvOutcome::Nil, KvOutcome::Bytes).encode()
}

fn integer(number: usize) -> Bytes {
    KvOutcome::Integer(number as i64).encode()
}

fn error(text: &str) -> Bytes {
    KvOutcome::Error(text.as_bytes()).encode()
}
