//! Requests of one group that travel together, and what comes back for them.

use crate::edge::request::{Kind, Outcome, RequestError};
use bytes::Bytes;
use purlin_rsm::GroupId;
use purlin_transport::ForwardAnswer;

/// Requests of one group on their way to another shard of this node, or to the leader's node.
#[derive(Debug)]
pub(crate) struct AwayBatch {
    pub(crate) id: u64,
    pub(crate) group: GroupId,
    pub(crate) kind: Kind,
    pub(crate) requests: Vec<Bytes>,
}

/// What an outcome takes beside its result, about.
const OUTCOME_OVERHEAD: usize = 32;

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum BatchAnswer {
    /// None of it was taken: try again.
    Bounced,
    /// None of it was taken, since there is too much to do.
    Busy,
    /// One outcome for each request.
    Done(Vec<Outcome>),
}

impl From<BatchAnswer> for ForwardAnswer {
    fn from(answer: BatchAnswer) -> Self {
        use purlin_transport::Outcome as Wire;
        let wire = |outcome: Outcome| match outcome {
            Ok(result) => Wire::Applied(result),
            Err(RequestError::Unknown { term, index, .. }) => Wire::Unknown { term, index },
            Err(_) => Wire::NotApplied,
        };
        match answer {
            BatchAnswer::Bounced => Self::Bounced { leader: None },
            BatchAnswer::Busy => Self::Busy,
            BatchAnswer::Done(outcomes) => Self::Done(outcomes.into_iter().map(wire).collect()),
        }
    }
}

impl BatchAnswer {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Bounced | Self::Busy => OUTCOME_OVERHEAD,
            Self::Done(outcomes) => outcomes
                .iter()
                .map(|outcome| OUTCOME_OVERHEAD + outcome.as_ref().map_or(0, Bytes::len))
                .sum(),
        }
    }

    /// As it came from a peer, for a batch to `group`.
    pub(crate) fn from_wire(answer: ForwardAnswer, group: GroupId) -> Self {
        use purlin_transport::Outcome as Wire;
        let outcome = |outcome| match outcome {
            Wire::Applied(result) => Ok(result),
            Wire::NotApplied => Err(RequestError::NotApplied),
            Wire::Unknown { term, index } => Err(RequestError::Unknown { group, term, index }),
        };
        match answer {
            ForwardAnswer::Bounced { .. } => Self::Bounced,
            ForwardAnswer::Busy => Self::Busy,
            ForwardAnswer::Done(outcomes) => {
                Self::Done(outcomes.into_iter().map(outcome).collect())
            }
        }
    }
}
