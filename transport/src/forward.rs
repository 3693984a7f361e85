//! Client commands on their way to the leader at another node, and their outcomes on the way back.
//!
//! Who receives a `Forward` takes all of it or bounces all of it, and never passes it on (safety
//! E1). The reply comes on the connection of the other direction, so it can be lost when either
//! connection is; then the outcome is unknown.
//!
//! ```text
//! forward        id  group  kind:byte (1 propose, 2 query)  count  count × bytes
//! forward-reply  id  then 1: bounced, 0 or 1 + leader | 2: busy | 3: done, count, count × outcome
//! outcome        0: not applied | 1: unknown, term, index | 2: applied, bytes
//! ```

use crate::codec::{Fields, Malformed, put_bytes, put_varint};
use bytes::Bytes;
use purlin_rsm::{EntryId, GroupId, Index, NodeId, Term};

/// Commands of one group for its leader: taken or bounced whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forward {
    /// The sender's number for it, never used twice while the sender runs.
    pub id: u64,
    /// The group they are for.
    pub group: GroupId,
    /// Whether they are to be logged.
    pub kind: ForwardKind,
    /// Proposals or queries, in order.
    pub commands: Vec<Bytes>,
}

/// What is to be done with forwarded commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForwardKind {
    /// Log them, apply them, answer their outcomes.
    Propose,
    /// Answer them at a linearizable point.
    Query,
}

/// Answers a `Forward`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwardReply {
    /// The number of the `Forward`.
    pub id: u64,
    /// What became of it.
    pub answer: ForwardAnswer,
}

/// What became of forwarded commands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ForwardAnswer {
    /// None was taken: the receiver does not lead the group. Ask `leader`, if it is known.
    Bounced {
        /// Who leads the group, as far as the receiver knows.
        leader: Option<NodeId>,
    },
    /// None was taken: the receiver's queue is full.
    Busy,
    /// One outcome for each command, in their order.
    Done(Vec<Outcome>),
}

/// What became of one forwarded command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was applied, or queried, with this result.
    Applied(Bytes),
    /// It certainly was not and will not be applied.
    NotApplied,
    /// It was appended, and nobody here knows whether it will be committed.
    Unknown {
        /// The term that it was appended in.
        term: Term,
        /// Where.
        index: Index,
    },
}

impl Forward {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id);
        put_varint(out, u64::from(self.group.0));
        out.push(match self.kind {
            ForwardKind::Propose => 1,
            ForwardKind::Query => 2,
        });
        put_varint(out, self.commands.len() as u64);
        self.commands.iter().for_each(|command| put_bytes(out, command));
    }

    pub(crate) fn encoded_bytes_max(&self) -> usize {
        NUMBERS + self.commands.iter().map(|command| NUMBER + command.len()).sum::<usize>()
    }

    pub(crate) fn decode(body: Bytes) -> Result<Vec<Self>, Malformed> {
        items(body, |fields| {
            let (id, group) = (fields.varint()?, fields.group()?);
            let kind = match fields.byte()? {
                1 => ForwardKind::Propose,
                2 => ForwardKind::Query,
                _ => return Err(Malformed { what: "a forwarded command of an unknown kind" }),
            };
            let commands =
                (0..fields.count(1)?).map(|_| fields.bytes()).collect::<Result<_, _>>()?;
            Ok(Self { id, group, kind, commands })
        })
    }
}

impl ForwardReply {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id);
        match &self.answer {
            ForwardAnswer::Bounced { leader } => {
                out.push(1);
                put_varint(out, leader.map_or(0, |leader| 1 + u64::from(leader.0)));
            }
            ForwardAnswer::Busy => out.push(2),
            ForwardAnswer::Done(outcomes) => {
                out.push(3);
                put_varint(out, outcomes.len() as u64);
                outcomes.iter().for_each(|outcome| outcome.encode(out));
            }
        }
    }

    pub(crate) fn encoded_bytes_max(&self) -> usize {
        let ForwardAnswer::Done(outcomes) = &self.answer else { return NUMBERS };
        let bytes = |outcome: &Outcome| match outcome {
            Outcome::Applied(result) => NUMBER + result.len(),
            Outcome::NotApplied | Outcome::Unknown { .. } => 2 * NUMBER,
        };
        NUMBERS + outcomes.iter().map(bytes).sum::<usize>()
    }

    pub(crate) fn decode(body: Bytes) -> Result<Vec<Self>, Malformed> {
        items(body, |fields| {
            Ok(Self { id: fields.varint()?, answer: ForwardAnswer::decode(fields)? })
        })
    }
}

impl ForwardAnswer {
    fn decode(fields: &mut Fields) -> Result<Self, Malformed> {
        match fields.byte()? {
            1 => {
                let leader: u64 = fields.varint()?;
                let node = u32::try_from(leader.saturating_sub(1))
                    .map_err(|_| Malformed { what: "a node number over 32 bits" })?;
                Ok(Self::Bounced { leader: (leader > 0).then_some(NodeId(node)) })
            }
            2 => Ok(Self::Busy),
            3 => {
                let count = fields.count(1)?;
                Ok(Self::Done(
                    (0..count).map(|_| Outcome::decode(fields)).collect::<Result<_, _>>()?,
                ))
            }
            _ => Err(Malformed { what: "an answer of an unknown kind" }),
        }
    }
}

impl Outcome {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::NotApplied => out.push(0),
            Self::Unknown { term, index } => {
                out.push(1);
                crate::codec::put_entry_id(out, EntryId::new(*term, *index));
            }
            Self::Applied(result) => {
                out.push(2);
                put_bytes(out, result);
            }
        }
    }

    fn decode(fields: &mut Fields) -> Result<Self, Malformed> {
        match fields.byte()? {
            0 => Ok(Self::NotApplied),
            1 => Ok(Self::Unknown { term: fields.term()?, index: fields.index()? }),
            2 => Ok(Self::Applied(fields.bytes()?)),
            _ => Err(Malformed { what: "an outcome of an unknown kind" }),
        }
    }
}

/// The most bytes of one number with a tag, and of a few.
const NUMBER: usize = 11;
const NUMBERS: usize = 48;

fn items<T>(
    body: Bytes,
    item: impl Fn(&mut Fields) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut fields = Fields::new(body);
    let mut items = Vec::new();
    while !fields.is_empty() {
        items.push(item(&mut fields)?);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwards() -> Vec<Forward> {
        vec![
            Forward { id: 1, group: GroupId(3), kind: ForwardKind::Propose, commands: vec![] },
            Forward {
                id: u64::MAX,
                group: GroupId(u32::MAX),
                kind: ForwardKind::Query,
                commands: vec![Bytes::from_static(b"get"), Bytes::new(), Bytes::from(vec![1; 400])],
            },
        ]
    }

    fn replies() -> Vec<ForwardReply> {
        let answers = [
            ForwardAnswer::Bounced { leader: None },
            ForwardAnswer::Bounced { leader: Some(NodeId(0)) },
            ForwardAnswer::Bounced { leader: Some(NodeId(u32::MAX)) },
            ForwardAnswer::Busy,
            ForwardAnswer::Done(vec![
                Outcome::Applied(Bytes::from_static(b"OK")),
                Outcome::NotApplied,
                Outcome::Unknown { term: Term(5), index: Index(1 << 50) },
            ]),
        ];
        (1..).zip(answers).map(|(id, answer)| ForwardReply { id, answer }).collect()
    }

    #[test]
    fn many_items_share_a_frame_and_round_trip() {
        let (mut out, mut most) = (Vec::new(), 0);
        for forward in forwards() {
            forward.encode(&mut out);
            most += forward.encoded_bytes_max();
        }
        assert!(out.len() <= most);
        assert_eq!(Forward::decode(out.into()), Ok(forwards()));
        let (mut out, mut most) = (Vec::new(), 0);
        for reply in replies() {
            reply.encode(&mut out);
            most += reply.encoded_bytes_max();
        }
        assert!(out.len() <= most);
        assert_eq!(ForwardReply::decode(out.into()), Ok(replies()));
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error_or_another_item_but_no_panic() {
        let (mut forward, mut reply) = (Vec::new(), Vec::new());
        forwards()[1].encode(&mut forward);
        replies()[4].encode(&mut reply);
        for at in 1..forward.len() {
            assert!(Forward::decode(Bytes::copy_from_slice(&forward[..at])).is_err());
        }
        for at in 1..reply.len() {
            assert!(ForwardReply::decode(Bytes::copy_from_slice(&reply[..at])).is_err());
        }
        for bit in 0..forward.len() * 8 {
            let mut bad = forward.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Forward::decode(bad.into()), Ok(vec![forwards()[1].clone()]));
        }
    }
}
