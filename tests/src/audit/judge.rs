//! Compares what nodes promise with what is durable.

use super::{State, ledger, replica::Replica, streams::Told};
use crate::sim::SeenBytes;
use purlin_rsm::{
    Command, EntryId, Envelope, GroupId, HardState, Index, Message, NodeId, Sequence, Term,
};
use purlin_transport::{Facts, HelloAnswer, PeerShard, inspect::Content};
use std::collections::BTreeMap;

/// A replica writes `new` behind what it holds: terms never go back, and a vote is never taken back (B03).
/// What it calls committed is written before, since a crash may leave the hard state alone (safety A7).
pub(crate) fn hard_state(
    group: GroupId,
    ledger: &ledger::Group,
    replica: &Replica,
    new: HardState,
) -> Result<(), String> {
    let (old, last) = (replica.state(), replica.last());
    let known = ledger.term_of_committed(new.committed);
    if new.committed > last || known.is_some() && replica.term_at(new.committed) != known {
        let committed = new.committed;
        return Err(format!(
            "A7: group {group}: writes that {committed} is committed behind {last}"
        ));
    }
    let is_other = old.vote.is_some() && new.vote != old.vote;
    if new.term < old.term || new.term == old.term && is_other {
        return Err(format!("group {group}: writes {new:?} behind {old:?}"));
    }
    Ok(())
}

/// The voters that hold an entry durably.
struct Holders {
    /// By the term of their entry, how many, and one of them.
    terms: BTreeMap<Term, (usize, NodeId)>,
    corrupted: usize,
}

impl Holders {
    /// How many hold the entry of `term`; if that is not known, the one that most hold.
    fn count(&self, term: Option<Term>) -> usize {
        let count = |term| self.terms.get(&term).map_or(0, |(count, _)| *count);
        let most = || self.terms.values().map(|(count, _)| *count).max().unwrap_or_default();
        term.map_or_else(most, count)
    }

    /// The entry that a majority holds, if no other entry is possible, and one of its holders.
    fn certain(&self, majority: usize) -> Option<(Term, NodeId)> {
        let mut possible =
            self.terms.iter().filter(|(_, (count, _))| count + self.corrupted >= majority);
        let (term, (_, holder)) = possible.next()?;
        (possible.next().is_none() && self.corrupted < majority).then_some((*term, *holder))
    }
}

impl State {
    /// Bytes leave a node: each frame that is complete with them is judged.
    pub(super) fn sent(&mut self, sent: &SeenBytes<'_>) {
        match self.streams.take(sent) {
            Ok(told) => told.into_iter().for_each(|told| self.told(told)),
            Err(why) => self.findings.add(&format!("node {}", sent.from), &format!("sends {why}")),
        }
    }

    pub(super) fn told(&mut self, told: Told) {
        let Told { sender, durable, content } = told;
        if self.corrupted.contains(sender.node) {
            return self.note_claims(sender.node, &content);
        }
        self.findings.counts.frames += 1;
        self.judge_durable(sender, durable);
        match content {
            Content::Hello(Some(hello)) => self.judge_facts(sender, &hello.facts),
            Content::HelloAnswer(answer) => {
                if let HelloAnswer::Accepted { facts, .. } = &*answer {
                    self.judge_facts(sender, facts);
                }
            }
            Content::Messages(envelopes) => {
                envelopes.iter().for_each(|envelope| self.judge_message(envelope));
            }
            Content::Heartbeats(heartbeats) => {
                for (group, at) in heartbeats.into_iter().filter_map(|it| it.list).flatten() {
                    self.judge_leader(sender.node, group, at.term);
                }
            }
            Content::Hello(None) | Content::Forwards(_) | Content::ForwardReplies(_) => {}
        }
    }

    /// What a corrupted node says proves nothing, but others may count on it; and nobody else leads its term.
    fn note_claims(&mut self, from: NodeId, content: &Content) {
        let Content::Messages(envelopes) = content else { return };
        for Envelope { group, term, message, .. } in envelopes {
            match message {
                Message::AppendReply { matched } => self.corrupted.claims(from, *group, *matched),
                Message::Append { .. } | Message::ReadProbe { .. } => {
                    if let Message::Append { prev, entries, .. } = message {
                        let last = Index(prev.index.0 + entries.len() as u64);
                        self.corrupted.claims(from, *group, last);
                    }
                    if let Err(why) = self.groups.entry(*group).or_default().leads(from, *term) {
                        self.findings.group(from, *group, &why);
                    }
                }
                _ => {}
            }
        }
    }

    /// A frame says how much its sender's WAL has made durable (safety I4).
    fn judge_durable(&mut self, sender: PeerShard, said: Sequence) {
        let owner = (sender.node, sender.shard);
        let Some(shard) = self.shards.get_mut(&owner) else { return };
        let mut broken = shard.goes_on();
        let durable = shard.durable();
        if said > durable {
            broken.push(format!("I4: says that {said} is durable, and {durable} is"));
        }
        self.findings.shard(owner, broken);
    }

    /// A handshake names a start, which is durable by then (safety I4).
    fn judge_facts(&mut self, sender: PeerShard, facts: &Facts) {
        let owner = (sender.node, sender.shard);
        let Some(shard) = self.shards.get_mut(&owner) else { return };
        let (said, start) = (facts.start(), shard.start());
        if start != Some(said) {
            let what = format!("I4: says that it is in {said:?}, and is in {start:?}");
            self.findings.shard(owner, vec![what]);
        }
    }

    fn judge_message(&mut self, envelope: &Envelope) {
        let Envelope { from, to, group, term, message, .. } = envelope;
        match message {
            Message::Vote { .. } => self.judge_vote(*from, *group, *term, *from),
            Message::VoteReply { granted: true } => self.judge_vote(*from, *group, *term, *to),
            Message::AppendReply { matched } => {
                self.judge_acknowledgement(*from, *group, *term, *matched);
            }
            Message::Append { committed, .. } => {
                self.judge_leader(*from, *group, *term);
                // Before it led its whole log was durable (safety A1), and it replaces none of it.
                let own = self.replica(*from, *group).and_then(|it| it.term_at(*committed));
                self.judge_commit(*from, *group, (*committed, own), *term);
            }
            Message::ReadProbe { .. } | Message::TimeoutNow => {
                self.judge_leader(*from, *group, *term);
            }
            // They promise nothing that could be lost.
            Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::VoteReply { granted: false }
            | Message::AppendReject { .. }
            | Message::ReadProbeReply { .. }
            | Message::Stale => {}
        }
    }

    /// A vote leaves only once it is durable (safety A1, B04), and is the only one of its term (B03).
    fn judge_vote(&mut self, node: NodeId, group: GroupId, term: Term, candidate: NodeId) {
        self.findings.counts.votes += 1;
        let ledger = self.groups.entry(group).or_default();
        if let Err(why) = ledger.votes(node, term, candidate) {
            self.findings.group(node, group, &why);
        }
        self.judge_own_vote(node, group, term, candidate, "votes");
    }

    /// Fails unless a vote for `candidate` in `term` is durable, or a later term is.
    fn judge_own_vote(
        &mut self,
        node: NodeId,
        group: GroupId,
        term: Term,
        candidate: NodeId,
        does: &str,
    ) {
        let state = self.replica(node, group).map(|it| it.durable_state()).unwrap_or_default();
        if state.term > term {
            self.findings.counts.stale += 1;
        } else if state.term < term || state.vote != Some(candidate) {
            let what = format!("A1: {does} in term {term} for {candidate}; durable is {state:?}");
            self.findings.group(node, group, &what);
        }
    }

    /// What is acknowledged is durable: the newest write of each entry (safety A1, A2, B22).
    fn judge_acknowledgement(&mut self, node: NodeId, group: GroupId, term: Term, matched: Index) {
        self.findings.counts.acknowledgements += 1;
        let of = |it: &Replica| (it.state(), it.durable_state(), it.durable(), it.last());
        let (state, durable_state, durable, last) =
            self.replica(node, group).map(of).unwrap_or_default();
        if state.term > term {
            // What it promised to an older leader may have been replaced since.
            self.findings.counts.stale += 1;
        } else if durable_state.term < term {
            let what = format!("A1: acknowledges in term {term}; durable is {durable_state:?}");
            self.findings.group(node, group, &what);
        } else if matched > durable {
            let what = format!(
                "A1: acknowledges {matched} in term {term}; of its log up to {last} is durable {durable}"
            );
            self.findings.group(node, group, &what);
        }
    }

    /// One leader a term, whose own vote is durable, and whose log has all that was committed before.
    fn judge_leader(&mut self, node: NodeId, group: GroupId, term: Term) {
        self.findings.counts.leaders += 1;
        match self.groups.entry(group).or_default().leads(node, term) {
            Ok(false) => return,
            Ok(true) => {}
            Err(why) => return self.findings.group(node, group, &why),
        }
        self.judge_own_vote(node, group, term, node, "leads");
        let replica = self.replica(node, group).cloned().unwrap_or_default();
        if let Err(why) = self.groups.entry(group).or_default().is_complete(term, &replica) {
            self.findings.group(node, group, &why);
        }
    }

    /// `node` says or shows that an entry is committed, by the leader of `leader` or an earlier one: a
    /// majority of the voters has it durably now (safety A4). The entry's term may be unknown.
    pub(super) fn judge_commit(
        &mut self,
        node: NodeId,
        group: GroupId,
        (index, own): (Index, Option<Term>),
        leader: Term,
    ) {
        // What a corrupted node has is not known.
        let own = own.filter(|_| !self.corrupted.contains(node));
        let ledger = self.groups.entry(group).or_default();
        if index <= ledger.committed().index {
            let known = ledger.term_of_committed(index);
            if let (Some(own), Some(known)) = (own, known)
                && own != known
            {
                let what = format!("commits {index}@{own}, and committed is {index}@{known}");
                self.findings.group(node, group, &what);
            }
            return;
        }
        self.findings.counts.commits += 1;
        let holders = self.holders(group, index);
        let majority = self.voters.len() / 2 + 1;
        let count = holders.count(own);
        if count + holders.corrupted < majority {
            let what = format!(
                "commits {index} in term {leader}; durable on {count} of {}: {:?}",
                self.voters.len(),
                self.standing(group)
            );
            self.findings.group(node, group, &what);
        }
        let holder = |term| holders.terms.get(&term).map_or(node, |(_, holder)| *holder);
        let known = own.map(|term| (term, holder(term)));
        let meant = known.or_else(|| holders.certain(majority));
        let Some((term, holder)) = meant else { return };
        let committed = self.groups.entry(group).or_default().committed().index;
        // A follower applies what is committed before it writes it. If nobody else is known to hold the entry,
        // what lies there in its log is what the commit replaces.
        let holds = |it: &&Replica| it.term_at(index) == Some(term);
        let runs = self.replica(holder, group).filter(holds);
        let Some(runs) = runs.map(|it| it.runs(committed.next(), index)) else { return };
        let ledger = self.groups.entry(group).or_default();
        ledger.commit(EntryId::new(term, index), leader, runs);
    }

    fn holders(&mut self, group: GroupId, index: Index) -> Holders {
        let corrupted = self.corrupted.holders(group, index);
        let mut holders = Holders { terms: BTreeMap::new(), corrupted };
        for place in 0..self.voters.len() {
            let voter = self.voters[place];
            let Some(replica) = self.replica(voter, group) else { continue };
            if let Some(term) = replica.term_at(index).filter(|_| replica.durable() >= index) {
                holders.terms.entry(term).or_insert((0, voter)).0 += 1;
            }
        }
        holders
    }

    /// How much each voter has durably, for people.
    fn standing(&mut self, group: GroupId) -> Vec<(NodeId, Index, Index)> {
        let voters = self.voters.clone();
        let standing = voters.into_iter().filter_map(|voter| {
            self.replica(voter, group).map(|it| (voter, it.durable(), it.last()))
        });
        standing.collect()
    }

    /// A replica has applied a command: it is committed, is the one that all replicas have there, and
    /// was proposed for this group.
    pub(super) fn applied(&mut self, node: NodeId, group: GroupId, command: &Command) {
        let id = command.id;
        self.findings.counts.applied += 1;
        self.corrupted.claims(node, group, id.index);
        let ledger = self.groups.entry(group).or_default();
        let sum = ledger::sum(&command.data);
        let (applied, newest) = (ledger.applied(command, sum), ledger.newest_term());
        if let Err(why) = applied {
            self.findings.group(node, group, &why);
        }
        let proposed = self.proposed.get(&sum);
        if let Some(groups) = proposed.filter(|groups| !groups.contains(&group)) {
            let what = format!("applies at {id} what was proposed for {groups:?}");
            self.findings.group(node, group, &what);
        }
        self.judge_commit(node, group, (id.index, Some(id.term)), newest);
    }

    /// A client is told that its command is done: a majority has it durably now.
    pub(super) fn acknowledged(&mut self, group: GroupId, command: &[u8]) {
        self.findings.counts.answers += 1;
        let ledger = self.groups.entry(group).or_default();
        let Some(index) = ledger.place(command) else {
            let whose = format!("group {group}");
            return self.findings.add(&whose, "a client's command is done and applied nowhere");
        };
        let term = ledger.term_of_committed(index);
        ledger.acknowledged = ledger.acknowledged.max(index);
        let holders = self.holders(group, index);
        let count = holders.count(term);
        if count + holders.corrupted <= self.voters.len() / 2 {
            let what = format!("a client's command is done at {index}, durable on {count} voters");
            self.findings.add(&format!("group {group}"), &what);
        }
    }
}
