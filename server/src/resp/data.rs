//! The commands that work on keys: from their arguments to what is asked of the groups.

use super::{
    gather::Splittable,
    parser::Arguments,
    route::{SLOTS, group_of},
    words,
};
use purlin::{GroupId, Request};
use purlin_kv::{KvCommand, KvQuery, SetCondition, parse_integer};
use std::borrow::Cow;

/// What a command asks of the groups.
pub(super) enum Plan<'a> {
    /// One request, to the group of this key.
    One(&'a [u8], Request),
    /// One request, to the group that has this slot.
    Slot(u16, Request),
    /// One request to each group that has some of these keys.
    Split(Splittable, Arguments<'a>),
    /// Keys and values in turn, which one group must have.
    SetMany(Arguments<'a>),
    /// One request to each group.
    All(Splittable),
}

impl<'a> Plan<'a> {
    /// The keys that it names.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (one, many) = match *self {
            Self::One(key, _) => (Some(key), None),
            Self::Split(_, keys) => (None, Some((keys, 1))),
            Self::SetMany(pairs) => (None, Some((pairs, 2))),
            Self::Slot(..) | Self::All(_) => (None, None),
        };
        let many = many.into_iter().flat_map(|(keys, step)| keys.iter().step_by(step));
        one.into_iter().chain(many)
    }
}

/// A plan, or the text of an error.
pub(super) type Planned<'a> = Result<Plan<'a>, Cow<'static, str>>;

/// Where the arguments behind the name are.
const KEY: usize = 1;
const VALUE: usize = 2;

pub(super) fn get(arguments: Arguments<'_>) -> Planned<'_> {
    Ok(query(key(arguments), |key| KvQuery::Get { key }))
}

pub(super) fn strlen(arguments: Arguments<'_>) -> Planned<'_> {
    Ok(query(key(arguments), |key| KvQuery::Length { key }))
}

pub(super) fn set(arguments: Arguments<'_>) -> Planned<'_> {
    let (mut condition, mut get) = (SetCondition::Always, false);
    let mut options = arguments.from(3).iter();
    while let Some(option) = options.next() {
        // An option may be as long as a value, so it is not copied.
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        let wanted = if is("NX") {
            SetCondition::Absent
        } else if is("XX") {
            SetCondition::Present
        } else if is("IFEQ") {
            SetCondition::Equal(options.next().ok_or(words::SYNTAX)?)
        } else if is("GET") {
            get = true;
            continue;
        } else if ["EX", "PX", "EXAT", "PXAT", "KEEPTTL"].into_iter().any(is) {
            return Err(words::NO_EXPIRY.into());
        } else {
            return Err(words::SYNTAX.into());
        };
        if condition != SetCondition::Always && condition != wanted {
            return Err(words::SYNTAX.into());
        }
        condition = wanted;
    }
    let value = argument(arguments, VALUE);
    Ok(command(key(arguments), |key| KvCommand::Set { key, value, condition, get }))
}

pub(super) fn append(arguments: Arguments<'_>) -> Planned<'_> {
    let value = argument(arguments, VALUE);
    Ok(command(key(arguments), |key| KvCommand::Append { key, value }))
}

pub(super) fn incr(arguments: Arguments<'_>) -> Planned<'_> {
    Ok(command(key(arguments), |key| KvCommand::Add { key, delta: 1 }))
}

pub(super) fn decr(arguments: Arguments<'_>) -> Planned<'_> {
    Ok(command(key(arguments), |key| KvCommand::Add { key, delta: -1 }))
}

pub(super) fn incrby(arguments: Arguments<'_>) -> Planned<'_> {
    let delta = parse_integer(argument(arguments, VALUE)).ok_or(words::NOT_AN_INTEGER)?;
    Ok(command(key(arguments), |key| KvCommand::Add { key, delta }))
}

pub(super) fn decrby(arguments: Arguments<'_>) -> Planned<'_> {
    let amount = parse_integer(argument(arguments, VALUE)).ok_or(words::NOT_AN_INTEGER)?;
    let delta = amount.checked_neg().ok_or(words::DECREMENT_OVERFLOW)?;
    Ok(command(key(arguments), |key| KvCommand::Add { key, delta }))
}

pub(super) fn del(arguments: Arguments<'_>) -> Planned<'_> {
    Ok(Plan::Split(Splittable::Delete, arguments.from(KEY)))
}

pub(super) fn exists(arguments: Arguments<'_>) -> Planned<'_> {
    Ok(Plan::Split(Splittable::Exist, arguments.from(KEY)))
}

pub(super) fn mget(arguments: Arguments<'_>) -> Planned<'_> {
    Ok(Plan::Split(Splittable::GetMany, arguments.from(KEY)))
}

pub(super) fn mset(arguments: Arguments<'_>) -> Planned<'_> {
    let pairs = arguments.from(KEY);
    if !pairs.len().is_multiple_of(2) {
        return Err(words::wrong_arity("mset").into());
    }
    Ok(Plan::SetMany(pairs))
}

pub(super) fn dbsize(_: Arguments<'_>) -> Planned<'_> {
    Ok(Plan::All(Splittable::Count))
}

/// The most keys that one command lists.
const LISTED_MAX: u16 = 16 << 10;

pub(super) fn count_keys_in_slot(arguments: Arguments<'_>) -> Planned<'_> {
    let slot = slot(arguments)?;
    Ok(Plan::Slot(slot, Request::Query(KvQuery::CountInSlot { slot }.encode())))
}

pub(super) fn get_keys_in_slot(arguments: Arguments<'_>) -> Planned<'_> {
    let slot = slot(arguments)?;
    let most = parse_integer(argument(arguments, 3)).ok_or(words::NOT_AN_INTEGER)?;
    let most = u64::try_from(most).map_err(|_| words::BAD_SLOT)?;
    let most = most.min(LISTED_MAX.into()) as u16;
    Ok(Plan::Slot(slot, Request::Query(KvQuery::KeysInSlot { slot, most }.encode())))
}

/// The slot that stands behind the name of a subcommand.
fn slot(arguments: Arguments<'_>) -> Result<u16, Cow<'static, str>> {
    let slot = parse_integer(argument(arguments, 2)).ok_or(words::NOT_AN_INTEGER)?;
    let slot = u16::try_from(slot).ok().filter(|slot| *slot < SLOTS);
    slot.ok_or(words::BAD_SLOT.into())
}

fn query<'a>(key: &'a [u8], query: impl FnOnce(&'a [u8]) -> KvQuery<'a>) -> Plan<'a> {
    Plan::One(key, Request::Query(query(key).encode()))
}

fn command<'a>(key: &'a [u8], command: impl FnOnce(&'a [u8]) -> KvCommand<'a>) -> Plan<'a> {
    Plan::One(key, Request::Propose(command(key).encode()))
}

fn key(arguments: Arguments<'_>) -> &[u8] {
    argument(arguments, KEY)
}

/// An argument that the table's arity promises.
fn argument(arguments: Arguments<'_>, place: usize) -> &[u8] {
    arguments.get(place).expect("the arity was checked")
}

/// The group that has all keys of a command that must be atomic, or what to tell the client.
pub(super) fn atomic_group(
    name: &str,
    pairs: Arguments<'_>,
    groups: u32,
) -> Result<GroupId, String> {
    let mut keys = pairs.iter().step_by(2);
    let first = group_of(keys.next().expect("the arity was checked"), groups);
    match keys.map(|key| group_of(key, groups)).find(|&group| group != first) {
        Some(other) => Err(words::not_atomic(name, first, other)),
        None => Ok(first),
    }
}
