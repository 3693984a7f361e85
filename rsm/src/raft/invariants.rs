//! What is always true of a replica. Each owner of state checks its own part; what spans several is checked here.

use super::{
    Raft,
    check::{Checked, ensure},
    fetch::FetchToApply,
    progress::Progress,
    role::{Campaign, Follower, Leader, Role},
};
use crate::{reach, types::NodeId};

/// Checks a replica after a step: cheaply in every build, and deeply where debug assertions are on and in the
/// simulator.
///
/// # Panics
/// When an invariant does not hold: it is named, with its values. It panics in release too, and is no
/// [`super::Fault`]: a fault is what other replicas or the disk have done, and the state of the replica is
/// sound when it notices it. A violation is a mistake of this program. Nobody knows then what else is wrong in
/// the memory of the shard, so the shard must send and write nothing more. What comes from peers and the disk
/// is judged before it is used, and cannot lead here.
pub(super) fn check(raft: &Raft) {
    let mut checked = check_cheaply(raft);
    if checked.is_ok() && are_deep() {
        checked = check_deeply(raft);
    }
    checked.unwrap_or_else(|violation| {
        panic!("group {} at node {}: {violation}", raft.config.group, raft.config.node)
    });
}

/// Whether all invariants are checked, at any cost.
pub(super) fn are_deep() -> bool {
    cfg!(debug_assertions) || reach::is_recording()
}

fn check_cheaply(raft: &Raft) -> Checked {
    raft.log.check()?;
    raft.timer.check()?;
    let (me, last) = (raft.config.node, raft.log.last());
    ensure!(last.term <= raft.term, "raft: entry {last} in term {}", raft.term);
    ensure!(
        raft.fetch_to_apply != FetchToApply::Asked || raft.log.to_apply().is_some(),
        "raft: entries to apply are read from the WAL, and none are wanted"
    );
    match &raft.role {
        Role::Follower(follower) => check_follower(raft, follower),
        Role::Candidate(candidate) => {
            let has_voted = candidate.campaign == Campaign::PreVote || raft.vote == Some(me);
            ensure!(has_voted, "raft: a candidate that voted for {:?}", raft.vote);
            ensure!(raft.may_campaign(), "raft: a candidate that is no voter");
            ensure!(!raft.timer.is_stopped(), "raft: a candidate without an election timer");
            Ok(())
        }
        Role::Leader(leader) => check_leader(raft, leader),
    }
}

fn check_follower(raft: &Raft, follower: &Follower) -> Checked {
    ensure!(follower.leader != Some(raft.config.node), "raft: a follower of itself");
    let has_timer = !raft.timer.is_stopped();
    if follower.vouched {
        ensure!(follower.leader.is_some(), "raft: vouched for by nobody");
        ensure!(!has_timer, "raft: vouched for, and an election timer runs");
    } else {
        let needs_none = raft.fault.is_some() || !raft.may_campaign();
        ensure!(
            has_timer || needs_none,
            "raft: neither vouched for nor an election timer: it would wait for ever"
        );
    }
    Ok(())
}

fn check_leader(raft: &Raft, leader: &Leader) -> Checked {
    let (term, vote) = (raft.term, raft.vote);
    ensure!(
        vote == Some(raft.config.node),
        "raft: a leader of term {term} that voted for {vote:?}"
    );
    ensure!(raft.timer.is_stopped(), "raft: a leader with an election timer");
    let noop = raft.log.term(leader.noop);
    ensure!(
        noop == Some(term),
        "raft: a leader of term {term} whose first entry {} is of term {noop:?}",
        leader.noop
    );
    let last = raft.log.last().index;
    for (node, progress) in &leader.followers {
        progress.check(last).map_err(|violation| format!("follower {node}: {violation}"))?;
    }
    Ok(())
}

fn check_deeply(raft: &Raft) -> Checked {
    raft.log.check_deeply()?;
    raft.config.voters.check()?;
    raft.gate.check_deeply(raft.term, raft.log.newest_outstanding())?;
    ensure!(
        !raft.timer.is_standing() || raft.gate.is_waiting(),
        "raft: the election timer stands still, and no promise waits"
    );
    if let Role::Leader(leader) = &raft.role {
        let others: Vec<NodeId> = raft.config.voters.others(raft.config.node).collect();
        ensure!(
            leader.followers.keys().eq(&others),
            "raft: a leader that follows the progress of {:?}, and the others are {others:?}",
            leader.followers.keys().collect::<Vec<_>>()
        );
        leader.followers.values().try_for_each(Progress::check_deeply)?;
        leader.reads.check_deeply(raft.log.committed())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        raft::{
            Voters,
            gate::Promise,
            harness::{Cluster, Options},
            role::Candidate,
            voters::Ballots,
        },
        types::{Index, Term, Tick},
    };

    const ME: NodeId = NodeId(1);

    /// Node 1 of three, which leads, with its first entry committed.
    fn leader() -> Raft {
        Cluster::led_by(ME, Options::default()).take(ME)
    }

    fn follower() -> Raft {
        let mut raft = leader();
        raft.follow(Term(2), Some(NodeId(2)));
        raft
    }

    fn of(raft: &Raft) -> Checked {
        check_cheaply(raft).and_then(|()| check_deeply(raft))
    }

    fn broken(mut raft: Raft, change: impl Fn(&mut Raft), violation: &str) {
        assert_eq!(of(&raft), Ok(()));
        change(&mut raft);
        let found = of(&raft).expect_err(violation);
        assert!(found.contains(violation), "{found}");
    }

    fn lead(raft: &mut Raft) -> &mut Leader {
        raft.leader_mut().expect("it leads")
    }

    #[test]
    fn each_broken_invariant_of_a_leader_is_named() {
        broken(leader(), |raft| raft.term = Term(0), "raft: entry 1@1 in term 0");
        broken(leader(), |raft| raft.vote = None, "raft: a leader of term 1 that voted for None");
        broken(leader(), |raft| raft.timer.arm(Tick(9)), "raft: a leader with an election timer");
        let later = |raft: &mut Raft| lead(raft).noop = Index(2);
        broken(leader(), later, "raft: a leader of term 1 whose first entry 2 is of term None");
        let to_apply = |raft: &mut Raft| raft.fetch_to_apply = FetchToApply::Asked;
        broken(leader(), to_apply, "raft: entries to apply are read from the WAL, and none");
        let lost = |raft: &mut Raft| _ = lead(raft).followers.remove(&NodeId(3));
        broken(leader(), lost, "raft: a leader that follows the progress of [2]");
        let ahead = |raft: &mut Raft| {
            lead(raft).followers.get_mut(&NodeId(2)).expect("a follower").next = Index(9);
        };
        broken(leader(), ahead, "follower 2: progress: the next lies behind the last");
        let read = |raft: &mut Raft| lead(raft).reads.register(1, Index(9));
        broken(leader(), read, "reads: ConfirmedRead");
    }

    #[test]
    fn each_broken_invariant_of_a_follower_is_named() {
        fn with(raft: &mut Raft, leader: Option<NodeId>, vouched: bool) {
            raft.role = Role::Follower(Follower { leader, vouched, heard: None });
        }
        broken(follower(), |raft| with(raft, Some(ME), false), "raft: a follower of itself");
        broken(follower(), |raft| with(raft, None, true), "raft: vouched for by nobody");
        let runs = |raft: &mut Raft| with(raft, Some(NodeId(2)), true);
        broken(follower(), runs, "raft: vouched for, and an election timer runs");
        broken(follower(), |raft| raft.timer.stop(), "raft: neither vouched for nor an election");
        let stands = |raft: &mut Raft| raft.timer.stand_still();
        broken(follower(), stands, "raft: the election timer stands still, and no promise waits");
        broken(follower(), |raft| raft.gate.push(Promise::OwnVote(Term(1))), "gate:");
    }

    #[test]
    fn each_broken_invariant_of_a_candidate_is_named() {
        let candidate = || {
            let mut raft = follower();
            let ballots = Ballots::default();
            raft.role = Role::Candidate(Candidate { campaign: Campaign::Vote, ballots });
            raft.vote = Some(ME);
            raft
        };
        broken(candidate(), |raft| raft.vote = None, "raft: a candidate that voted for None");
        broken(
            candidate(),
            |raft| raft.timer.stop(),
            "raft: a candidate without an election timer",
        );
        let learns = |raft: &mut Raft| {
            raft.config.voters = Voters::joint([NodeId(2)], [], [ME]);
        };
        broken(candidate(), learns, "raft: a candidate that is no voter");
    }

    #[test]
    #[should_panic(expected = "group 1 at node 1: raft: a leader of term 1 that voted for None")]
    fn a_replica_with_a_broken_invariant_hands_nothing_out() {
        let mut raft = leader();
        raft.vote = None;
        raft.ready();
    }
}
