//! The states that a range of seeds must reach. Each one is a `sometimes!` in the sources, next to
//! the guard that it belongs to. If no seed reaches the state, the range has not tested that guard.

use purlin_rsm::reach::Counts;

/// The states that every batch of two thousand seeds reaches: the rarest come in one of a hundred.
pub const REQUIRED: &[&str] = &[
    // Raft.
    "election timer stands still while a promise waits",
    "campaign ran out of time",
    "pre-vote refused, leader known",
    "vote withheld after a restart",
    "vote refused, the candidate's log is behind",
    "vote refused, another candidate has it",
    "campaign lost",
    "campaign that the leader asked for",
    "leader hands its group over",
    "leader goes on, its group was not taken over",
    "leader that misses a voter hands its groups over",
    "leader without room hands its groups over",
    "leader steps down without a quorum",
    "promise waits for a younger write",
    "promises of an older term are void",
    "entries received twice",
    "conflicting tail cut off",
    "durable entries cut off",
    "entries cut off while they are written",
    "committed before it is durable here",
    "leader's node vouches no longer",
    "leader deposed by a higher term",
    "reads abandoned with a leadership",
    "candidate gives way to the leader of its term",
    "promise waits for an older write",
    "late reject ignored",
    "reject moves a probe back",
    "reply to an older read round",
    "read round confirmed",
    "follower is asked for an overdue reply",
    "append did not go out",
    "read round is asked for again",
    "lagging follower needs entries from the WAL",
    "append rejected, the logs part before it",
    "commit is beyond the entries of an append",
    "commit waits for the own term",
    "read waits for the first commit",
    // The WAL.
    "header waits for the batches it names",
    "write durable before an older one",
    "written while a sync runs",
    "unproven tail carried into the new segment",
    "void segment used again by a start",
    "filling of a segment waits for a write of the log",
    "unfinished segment removed",
    "torn tail cut",
    "torn tail had readable batches behind it",
    "reserve used for a hard state",
    "no space for another segment",
    "space for another segment found again",
    "room for entries, and not enough to lead again",
    "segment recycled",
    "entries refused for want of space",
    "closing batch written",
    "header written instead of a closing batch",
    "WAL poisoned by a failed write",
    "WAL poisoned by a failed sync",
    "damage found, a later batch calls it durable",
    "damage found before the end of the log",
    "bad batch is good at the second read",
    // Connections.
    "connection given up for silence",
    "frame with a wrong checksum",
    "directory that went back is fenced",
    "fenced directory refused",
    "heartbeat reply for another set of led groups",
    "new boot id vouches for nothing",
    "half-open connection replaced",
    "connected again",
    "silent peer dialled again",
    "frame of a replaced process ignored",
    "second boot id held off",
    // The shard.
    "directory records that it is fenced",
    "request in doubt ended by its deadline",
    "request without a leader ended by its deadline",
    "another entry committed in its place",
    "proposal in doubt at its deadline",
    "entry of several commands appended",
    "fresh directory let in by a member that acts",
    "silent peer no longer counts for a quorum",
    "heartbeat reply names a higher term",
    "write with entries waits for space",
    "hard states written while entries wait for space",
    "write of a group cut over two batches",
    "proposal refused, the disk is full",
    "forwarded to the leader",
    "requests of several lanes leave in one batch",
    "full channel hands a batch back",
    "batch of another shard passed on",
    "batch waits for the one in flight",
    "batch bounced by another shard",
    "batch handed back by another shard without room",
    "batch in doubt, its connection is lost",
    "batch in doubt, another node leads",
    "batch for another term of its leader bounced",
    "query asked again, nobody replies",
    "fresh directory has met all initial voters",
    "reply to a batch waits for room",
    "reply to a batch waits for a connection",
    "heartbeat withheld while the disk hangs",
    "append withheld while the disk hangs",
    "group waits for room to a peer",
    "entries wait behind those of groups without room",
    "shard whose disk stood tells that it is unfit to lead",
    "leader deposed with requests open",
    "shard asked to stop drains",
    "leader that stops hands its groups over",
    "stop of a shard does not wait for what is under way",
    "entries to apply come from the WAL",
    "work of a machine goes on in the next turn",
    "entries of a group leave the memory for those of others",
    "page of the log waits for room in memory",
    // The text of the log.
    "line of a log dropped",
    "line of a log dropped, since half of the queue is not written yet",
    "gap of a log said in front of a line",
    "gap of a log said without a next line",
];

/// A replica has been shown what cannot be, by another or by its own disk.
pub const FAULT: &str = "replica stopped by a fault";

/// The machine of a group has panicked, or owed an outcome.
pub const MACHINE_FAILED: &str = "state machine failed, its group stops here";

/// The states that CI's seeds reach never or too seldom to ask for, each with the reason. Scenarios and
/// scripts reach them.
pub const RARE: &[&str] = &[
    // A leader has to be deposed between two steps of its group in one turn.
    "commands were gathered, and the replica leads no more",
    // Those of many seconds have room, and a connection that takes nothing ends before.
    "heartbeat found no room or no connection",
    // Every node of a seed keeps the limit on commands.
    "append with an entry beyond the cluster's limit dropped",
    // A disk has to hang under load, and the budget to be small.
    "append dropped, entries take too much memory",
    "proposal refused, entries take too much memory",
    // The data of a seed has no bound: every key must be written in the end.
    "proposal refused, the data takes too much memory",
    "hello waited for room for too long",
    // Earlier versions left prepared segments blank.
    "prepared segment found blank",
    // A header lies in one sector. A power cut leaves the old one or the new one, and seldom garbage.
    "segment without a readable header searched",
    // Two reads of a start in a row have to come from a wrong place.
    "first block of a segment read in two ways",
    "larger void segment used by a start without room",
    // Logs of a seed are short, and soon applied.
    "request refused, the group is loading",
    "replica waits for a fitter one to campaign",
    "query waits for its caller to take answers",
    "request without a leader ended with its connection",
    // Other shards make room within the deadline.
    "request without room ended by its deadline",
    // Where nobody's bytes were corrupted it is a violation.
    FAULT,
    // It is a violation, unless a scenario has asked for it.
    MACHINE_FAILED,
    "leader or candidate resigns, its state machine has stopped",
    // No group of a seed has a floor before there are snapshots.
    "append begins below the floor",
    "follower needs entries below the floor",
    "campaign that the leader asked for withheld, unfit to lead",
    "campaign that the leader asked for withheld after a restart",
    // Every group is in its first epoch before groups are made at run time.
    "batch for another epoch of its group bounced",
    // A follower that lags behind what its leader has not made durable.
    "read of entries waits until they are durable",
    // Few outboxes are so small that the load of a seed fills them.
    "outbox full",
    "heartbeat passes data that waits",
    "events of peers wait for the next turn",
    // Nobody in a seed crowds the ports between nodes.
    "oldest handshake gave its place up",
    // A directory that was made anew is let in nowhere before it has met the others (safety I2).
    "another incarnation refused",
    // A handshake that the network keeps for longer than a restart takes.
    "late handshake of an older start refused",
    // A heartbeat that found no room, and with it the list.
    "list of led groups asked for",
    // An answer that comes after a deadline and before the loss of its connection.
    "reply to a batch after its deadline",
];

/// The required states that `counts` lacks, in the order of the list.
pub fn missing(counts: &Counts) -> Vec<&'static str> {
    let is_missing = |name: &&&str| !counts.contains_key(**name);
    REQUIRED.iter().filter(is_missing).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        collections::BTreeMap,
        fs,
        path::{Path, PathBuf},
    };

    #[test]
    fn a_state_without_a_hit_is_missing() {
        let counts: Counts = REQUIRED.iter().skip(1).map(|name| (*name, 1)).collect();
        assert_eq!(missing(&counts), [REQUIRED[0]]);
    }

    #[test]
    fn each_name_stands_in_one_place_and_on_one_list() {
        let listed = REQUIRED.iter().chain(RARE).map(|name| name.to_string());
        let (listed, found) = (times(listed), times(names_in_the_sources()));
        assert!(found.len() >= 45, "{} states are not many", found.len());
        let more_than_one = |(name, times): (&String, &u64)| (*times > 1).then(|| name.clone());
        let twice = listed.iter().chain(&found).filter_map(more_than_one).collect::<Vec<_>>();
        assert_eq!(twice, Vec::<String>::new(), "named twice");
        let listed: Vec<String> = listed.into_keys().collect();
        let found: Vec<String> = found.into_keys().collect();
        assert_eq!(listed, found, "what is listed, and what stands in the sources");
    }

    #[test]
    fn names_are_found_with_and_without_a_condition() {
        let source =
            "crate::some!(\"a\");\nsome!(\n    x == \"y\",\n    \"b c\",\n);\nsome!(x, \"d\");"
                .replace("some!", "sometimes!");
        assert_eq!(names(&source), ["a", "b c", "d"]);
    }

    fn times(names: impl IntoIterator<Item = String>) -> BTreeMap<String, u64> {
        let mut times = BTreeMap::new();
        names.into_iter().for_each(|name| *times.entry(name).or_default() += 1);
        times
    }

    fn names_in_the_sources() -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace is around");
        let mut files = Vec::new();
        for package in ["rsm", "storage", "transport", "engine", "server"] {
            collect(&root.join(package).join("src"), &mut files);
        }
        // The macro's own file shows how it is used.
        let is_its_own = |path: &PathBuf| path.ends_with("rsm/src/reach.rs");
        let sources = files.into_iter().filter(|path| !is_its_own(path));
        sources.flat_map(|path| names(&fs::read_to_string(path).expect("readable"))).collect()
    }

    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }

    /// The last text in each use of the macro.
    fn names(source: &str) -> Vec<String> {
        let uses = source.split("sometimes!(").skip(1);
        let name = |text: &str| {
            let until = text.find(");").expect("a use ends");
            let texts = text[..until].split('"').collect::<Vec<_>>();
            texts[texts.len() - 2].to_owned()
        };
        uses.map(name).collect()
    }
}
