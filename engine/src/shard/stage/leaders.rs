//! Hands leaderships over, once a beat; `shard/hand_over.rs` decides which.

use crate::{
    runtime::Runtime,
    shard::{Shard, hand_over::Sight},
};
use purlin_rsm::{GroupId, Tick};
use purlin_transport::Condition;

/// At most this many groups are looked at in one beat.
const LOOKED_AT_MAX: usize = 256;
/// At most this many groups that must move are handed over in one beat: some 40 in a second.
const MUST_MAX: usize = 4;
/// The same of a shard that stops: it ends within a second, which has ten beats by default. Each costs the shard some
/// microseconds, and the other nodes a vote.
const STOP_MAX: usize = 1024;
/// The groups that a shard that stops looks at in one beat: some milliseconds of work.
const STOP_LOOKED_AT_MAX: usize = 8192;

impl<R: Runtime> Shard<R> {
    /// What this shard tells its peers of itself.
    pub(crate) fn condition(&self, now: Tick) -> Condition {
        let is_loading = self.groups.counts().loading > 0;
        let is_slow = self.append.is_slow(now);
        purlin_rsm::sometimes!(is_slow, "shard whose disk stood tells that it is unfit to lead");
        Condition {
            is_disk_full: self.append.lacks_space(),
            is_unfit: is_loading || is_slow || self.drain.has_begun(),
            hears: self.others.pairs.hears(),
        }
    }

    /// Hands over groups that another node should lead; see the module.
    pub(crate) fn hand_over(&mut self, now: Tick) {
        self.others.pairs.note_fitness(now);
        self.hand_over.disk_room.note(now, self.append.lacks_space());
        self.hand_over.disk_room.tell(now, &mut self.groups);
        if !self.meeting.is_acting() || self.is_hanging(now) {
            return;
        }
        let timeout = self.timing.election_ticks.start;
        let full_since = self.hand_over.disk_room.full_since();
        let sight = Sight {
            me: self.site.node,
            pairs: &self.others.pairs,
            now,
            is_disk_full: full_since.is_some_and(|since| since.0 + timeout <= now.0),
            is_stopping: self.drain.has_begun(),
            timeout,
        };
        let (looked_at_max, must_max) = match sight.is_stopping {
            true => (STOP_LOOKED_AT_MAX, STOP_MAX),
            false => (LOOKED_AT_MAX, MUST_MAX),
        };
        let beat = self.timing.beats();
        let may_go_back = self.hand_over.may_go_back(beat);
        let (mut must, mut back) = (must_max, usize::from(may_go_back));
        let (mut moves, mut looked_at) = (Vec::new(), 0);
        let mut cursor = GroupId(0);
        for group in self.groups.from(self.hand_over.cursor).take(looked_at_max) {
            (cursor, looked_at) = (GroupId(group.id.0 + 1), looked_at + 1);
            if !group.known.leads || group.raft.is_handing_over() {
                continue;
            }
            let (room, to, goes_back) = match sight.who_must(group) {
                Some(to) => (&mut must, Some(to), false),
                None => (&mut back, sight.who_should(group), true),
            };
            // A group whose hand-over would not begin takes no room from the others.
            if *room > 0
                && let Some(to) = to.filter(|to| group.raft.may_hand_over(now, *to))
            {
                *room -= 1;
                moves.push((group.id, to, goes_back));
            }
        }
        // From the first one again, behind the last.
        self.hand_over.cursor = if looked_at < looked_at_max { GroupId(0) } else { cursor };
        let may_lead_more = moves.len() < self.groups.counts().leading as usize;
        let has_seen_all = must > 0 && looked_at < looked_at_max;
        self.drain.has_more = sight.is_stopping && may_lead_more && !has_seen_all;
        for (id, to, goes_back) in moves {
            let begins = self.groups.input(id).is_some_and(|it| it.hand_over(now, to));
            if begins {
                if goes_back {
                    self.hand_over.went_back = beat;
                }
                self.drain.moves(id);
                tracing::debug!("{} g{id} raft: hands over to node {to}", self.site.name);
            }
        }
    }
}
