//! A request that is split over groups, and its answers put together.
//!
//! Each group answers for its own keys at a moment of its own, so the whole is no snapshot. A
//! command of which some groups did their part and others did not says so; it is never called "not
//! applied".

use super::{parser::Arguments, reply::Reply, route::group_of, words};
use bytes::Bytes;
use purlin::{GroupId, Outcome, Request};
use purlin_kv::{KvCommand, KvOutcome, KvQuery, StringsBuf};
use std::collections::BTreeMap;

/// The longest answer that is put together, in bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Commands that groups can do part by part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Splittable {
    /// `DEL`: the sum of what the groups deleted.
    Delete,
    /// `EXISTS`: the sum of what the groups have.
    Exist,
    /// `MGET`: the values, in the order of the keys.
    GetMany,
    /// `DBSIZE`: the sum of what the groups have.
    Count,
}

impl Splittable {
    /// Whether it changes nothing.
    fn is_read(self) -> bool {
        self != Self::Delete
    }

    /// The part of one group, which has these keys.
    fn part(self, keys: &StringsBuf) -> Request {
        let keys = keys.strings();
        match self {
            Self::Delete => Request::Propose(KvCommand::Delete { keys }.encode()),
            Self::Exist => Request::Query(KvQuery::Exist { keys }.encode()),
            Self::GetMany => Request::Query(KvQuery::GetMany { keys }.encode()),
            Self::Count => Request::Query(KvQuery::Count.encode()),
        }
    }
}

/// The answers to one split request, as they come.
pub(super) struct Gather {
    what: Splittable,
    parts: Vec<Part>,
    /// The part that each key went to, where the order of the keys matters.
    order: Vec<u16>,
    waiting: usize,
    held_bytes: usize,
}

struct Part {
    group: GroupId,
    result: Option<Outcome>,
}

/// A request of one group.
pub(super) type GroupRequest = (GroupId, Request);

impl Gather {
    /// Splits a command over the groups of its keys, of `groups` there are.
    pub(super) fn split(
        what: Splittable,
        keys: Arguments<'_>,
        groups: u32,
    ) -> (Self, Vec<GroupRequest>) {
        let mut places = BTreeMap::new();
        let mut parts: Vec<(GroupId, StringsBuf)> = Vec::new();
        let mut order = Vec::new();
        for key in keys.iter() {
            let group = group_of(key, groups);
            let place = *places.entry(group).or_insert_with(|| {
                parts.push((group, StringsBuf::default()));
                parts.len() - 1
            });
            parts[place].1.push(key);
            order.push(place as u16);
        }
        if what != Splittable::GetMany {
            order = Vec::new();
        }
        Self::new(what, order, &parts)
    }

    /// Asks each of `groups`.
    pub(super) fn all(what: Splittable, groups: Vec<GroupId>) -> (Self, Vec<GroupRequest>) {
        let parts: Vec<_> =
            groups.into_iter().map(|group| (group, StringsBuf::default())).collect();
        Self::new(what, Vec::new(), &parts)
    }

    fn new(
        what: Splittable,
        order: Vec<u16>,
        parts: &[(GroupId, StringsBuf)],
    ) -> (Self, Vec<GroupRequest>) {
        let requests = parts.iter().map(|(group, keys)| (*group, what.part(keys))).collect();
        let waiting = parts.len();
        let parts = parts.iter().map(|&(group, _)| Part { group, result: None }).collect();
        (Self { what, parts, order, waiting, held_bytes: 0 }, requests)
    }

    /// How many parts have not been answered yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes of the answers that it keeps.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// A part has been answered. Gives the number of bytes that were let go again, because the
    /// whole has become too long to be answered.
    pub(super) fn complete(&mut self, part: usize, result: Outcome) -> usize {
        let slot = &mut self.parts[part].result;
        assert!(slot.is_none(), "part {part} completed twice");
        self.held_bytes += result.as_ref().map_or(0, Bytes::len);
        *slot = Some(result);
        self.waiting -= 1;
        if self.held_bytes <= ANSWER_BYTES_MAX {
            return 0;
        }
        let results = self.parts.iter_mut().filter_map(|part| part.result.as_mut());
        for outcome in results.flatten() {
            *outcome = KvOutcome::Error(words::ANSWER_TOO_LONG.as_bytes()).encode();
        }
        let kept = self.parts.iter().filter_map(|part| part.result.as_ref());
        let kept: usize = kept.map(|result| result.as_ref().map_or(0, Bytes::len)).sum();
        let freed = self.held_bytes - kept;
        self.held_bytes = kept;
        freed
    }

    /// Writes the answer, once nothing is waiting.
    pub(super) fn write(&self, reply: &mut Reply<'_>) {
        assert_eq!(self.waiting, 0, "parts are still waiting");
        if let Some(text) = self.failure() {
            return reply.error(text);
        }
        if self.what == Splittable::GetMany {
            return self.write_values(reply);
        }
        let sum = self.outcomes().map(|outcome| match outcome {
            KvOutcome::Integer(number) => number,
            _ => 0,
        });
        reply.integer(sum.sum());
    }

    fn write_values(&self, reply: &mut Reply<'_>) {
        let values_of = |outcome| match outcome {
            KvOutcome::Array(values) => Some(values.iter()),
            _ => None,
        };
        let mut values: Vec<_> =
            self.outcomes().map(|outcome| values_of(outcome).into_iter().flatten()).collect();
        reply.array(self.order.len());
        for &part in &self.order {
            match values[usize::from(part)].next().flatten() {
                Some(value) => reply.bulk(value),
                None => reply.nil(),
            }
        }
    }

    fn outcomes(&self) -> impl Iterator<Item = KvOutcome<'_>> {
        self.parts.iter().map(|part| part.outcome().unwrap_or(KvOutcome::Nil))
    }

    /// What went wrong, if anything did: of several failures the first, but before all others one whose
    /// outcome is unknown, since another text would say that nothing was applied.
    fn failure(&self) -> Option<String> {
        let is_read = self.what.is_read();
        let failures = || self.parts.iter().filter_map(|part| Some((part, part.failure(is_read)?)));
        let in_doubt = failures().find(|(part, _)| !is_read && part.is_in_doubt());
        let (part, text) = in_doubt.or_else(|| failures().next())?;
        let done = self.parts.len() - failures().count();
        if self.what == Splittable::Delete && done > 0 {
            return Some(words::partly_done(done, self.parts.len(), part.group, &text));
        }
        Some(text)
    }
}

impl Part {
    /// Whether nobody knows if the group did its part of a write.
    fn is_in_doubt(&self) -> bool {
        use KvOutcome::{Array, Error, Integer};
        match self.result.as_ref().expect("nothing is waiting") {
            Err(error) => !error.is_definitely_not_applied(),
            Ok(_) => !matches!(self.outcome(), Some(Integer(_) | Array(_) | Error(_))),
        }
    }

    fn outcome(&self) -> Option<KvOutcome<'_>> {
        KvOutcome::decode(self.result.as_ref()?.as_ref().ok()?).ok()
    }

    fn failure(&self, is_read: bool) -> Option<String> {
        match self.result.as_ref().expect("nothing is waiting") {
            Err(error) => Some(words::request_error(self.group, is_read, error)),
            Ok(_) => match self.outcome() {
                Some(KvOutcome::Integer(_) | KvOutcome::Array(_)) => None,
                Some(KvOutcome::Error(text)) => Some(String::from_utf8_lossy(text).into_owned()),
                _ => Some(words::strange_outcome(self.group, is_read)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use purlin::RequestError;

    /// What a deletion in two groups is answered.
    fn answer(results: [Outcome; 2]) -> String {
        answer_to(Splittable::Delete, results)
    }

    fn answer_to(what: Splittable, results: [Outcome; 2]) -> String {
        let (mut gather, requests) = Gather::all(what, vec![GroupId(1), GroupId(2)]);
        assert_eq!(requests.len(), 2);
        for (part, result) in results.into_iter().enumerate() {
            gather.complete(part, result);
        }
        let mut out = BytesMut::new();
        gather.write(&mut Reply::new(&mut out, Default::default()));
        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn a_whole_is_called_not_applied_only_if_all_its_parts_are() {
        let one = || Ok(KvOutcome::Integer(1).encode());
        let refused = || Err(RequestError::NotApplied);
        let strange = || Ok(Bytes::from_static(b"?"));
        let unknown = || Err(RequestError::UNKNOWN);
        assert_eq!(answer([one(), one()]), ":2\r\n");
        assert!(answer([refused(), refused()]).starts_with("-TRYAGAIN "));
        for doubtful in [
            [refused(), unknown()],
            [refused(), strange()],
            [refused(), one()],
            [one(), unknown()],
            [one(), strange()],
        ] {
            let text = answer(doubtful.clone());
            assert!(text.starts_with("-UNKNOWN "), "{doubtful:?}: {text}");
        }
    }

    #[test]
    fn a_read_of_many_groups_is_never_unknown() {
        let one = || Ok(KvOutcome::Integer(1).encode());
        let unknown = || Err(RequestError::UNKNOWN);
        for what in [Splittable::Exist, Splittable::GetMany, Splittable::Count] {
            let text = answer_to(what, [one(), unknown()]);
            assert!(text.starts_with("-TRYAGAIN group 2 did not answer the read"), "{text}");
            let text = answer_to(what, [one(), Ok(Bytes::from_static(b"?"))]);
            assert!(text.starts_with("-ERR the leader of group 2 "), "{text}");
        }
    }

    #[test]
    fn the_longest_answer_is_named_with_its_number() {
        assert!(words::ANSWER_TOO_LONG.contains(&format!("{} MiB", ANSWER_BYTES_MAX >> 20)));
    }
}
