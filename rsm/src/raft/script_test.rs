//! The scripts in `testscripts/`, each a test of its own, in the order in which they tell how raft works
//! here. What a script shows is in its first comment; its language is in `script.rs`.

use super::{
    harness::{Cluster, Options},
    script::Script,
};
use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
};

/// Makes a test of each script that it names.
macro_rules! scripts {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { run(stringify!($name)); })*
    };
}

scripts! {
    // Elections.
    election_basics
    election_single_voter
    election_log_decides
    election_split_vote
    election_two_voters
    election_timer_and_the_disk
    campaigns_first
    candidate_follows
    vote_is_kept
    vote_repeated_by_the_leader
    async_votes
    abstention_after_a_restart
    transfer_by_timeout_now
    timeout_now_of_a_stale_leader
    timeout_now_while_a_write_is_outstanding
    forced_vote_from_a_log_that_is_behind
    transfer_waits_for_the_log
    transfer_waits_for_reads
    transfer_that_fails
    transfer_backs_off
    transfer_needs_voters
    unfit_replicas_campaign_late

    // Pre-votes, and terms that have come apart.
    pre_vote_does_not_disturb
    pre_vote_grants_are_for_one_campaign
    pre_vote_and_check_quorum
    pre_candidate_forgets_its_leader
    forgotten_leader
    terms_apart
    follower_of_a_higher_term

    // Leaders that are vouched for, and leaders that nobody confirms.
    vouching
    connections
    check_quorum_first_confirmation
    check_quorum_steps_down
    one_way_cut
    bridge

    // Two majorities, and replicas that do not vote.
    joint_configuration
    learners

    // Replication.
    figure_7
    log_conflict_hints
    lost_appends
    late_and_reordered_answers
    probe_without_traffic
    flow_control
    without_room
    window_full_of_lost_appends
    fetch_fails
    fetch_comes_late
    reject_of_what_was_acknowledged
    logs_above_a_floor
    entries_below_the_floor
    conflict_with_a_committed_entry
    impossible_messages
    another_epoch

    // What is durable, and what is committed.
    async_acks_wait_for_the_newest_write
    async_pipeline
    crash_keeps_the_oldest_writes
    leader_loses_its_write
    append_aba_race
    append_aba_race_of_three_leaders
    single_voter_completions
    leader_counts_itself_once_durable
    figure_8
    commit_only_what_matches
    commit_is_told_to_idle_followers
    lagging_commit
    apply_in_pages
    restart_with_a_commit_hint

    // Reads.
    read_index
    read_single_voter
    read_waits_for_the_terms_first_commit
    read_after_a_restart
    read_late_answers
    read_on_a_deposed_leader
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raft/testscripts")
}

fn run(name: &str) {
    let mut script = Script { cluster: Cluster::new(Options::default()) };
    let result =
        catch_unwind(AssertUnwindSafe(|| goldenscript::run(&mut script, folder().join(name))));
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{name}: {error}"),
        Err(panic) => {
            eprintln!("in {name}, after:\n{}", script.cluster.take_told());
            resume_unwind(panic);
        }
    }
}

#[test]
fn every_script_has_a_test() {
    let files = std::fs::read_dir(folder()).expect("the scripts' folder");
    let name = |path: PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
    let found: BTreeSet<String> = files.map(|file| name(file.expect("a script").path())).collect();
    assert_eq!(found, NAMES.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
}
