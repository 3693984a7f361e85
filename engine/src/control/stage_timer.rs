//! Times a sample of the commands that a shard leads, from their acceptance to their answer: one command at a time.
//!
//! A command that is not in the sample costs a subtraction at its acceptance. One that is in it costs four looks at the
//! clock; the other times are those at which turns of the shard's loop begin, which the loop has read anyway.
//!
//! The sample is drawn without a random source. After one command has been timed, the next is taken some 64 commands
//! later ([`GAPS`]), and at each beat the next one is taken at once, so that a shard with little to do has times too.
//! While a command is timed no other one is: of a burst that comes with the answer to the last sample, the sample sees
//! the first hundred commands only.

use crate::control::stages::StageTimes;
use purlin_rsm::{EntryId, GroupId, Index};
use std::{
    cell::{Cell, RefCell},
    ops::Range,
    time::Duration,
};

/// So many commands are left out between two that are timed. The numbers go round, since a load may go round too: it may
/// give a group in 64 the same turn each time.
const GAPS: Range<u32> = 32..96;
/// How the gaps go round: it has no common divisor with their count.
const GAP_STEP: u32 = 37;
const _: () = assert!((GAPS.end - GAPS.start).is_power_of_two() && GAP_STEP % 2 == 1);
/// A command whose times are not complete after this time is left out. Its request has ended long before, but its leader
/// may have lost its disk or its group.
const SAMPLE_MAX: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct StageTimer {
    clock: Box<dyn Fn() -> Duration>,
    /// When the turn began that is under way, or was last.
    turn: Cell<Duration>,
    /// So many commands until one is timed, that one included. It counts on while one is timed.
    left: Cell<u32>,
    gap: Cell<u32>,
    sample: Cell<Option<Sample>>,
    times: RefCell<StageTimes>,
}

/// The command that is timed, and what is known of it.
#[derive(Clone, Copy)]
struct Sample {
    accepted: Duration,
    /// The number of its batch, if another shard has sent it: the answer waits for the rest of the batch.
    batch: Option<u64>,
    /// Where it stands in the log, and since when.
    proposed: Option<(GroupId, EntryId, Duration)>,
    durable: Option<Duration>,
    committed: Option<Duration>,
    applied: Option<Duration>,
    replied: Option<Duration>,
}

impl StageTimer {
    /// A timer without times. `clock` is that of the shard's runtime.
    pub(crate) fn new(clock: impl Fn() -> Duration + 'static) -> Self {
        Self {
            clock: Box::new(clock),
            turn: Cell::default(),
            left: Cell::new(1),
            gap: Cell::new(GAPS.start),
            sample: Cell::default(),
            times: RefCell::default(),
        }
    }

    /// A turn of the shard's loop has begun.
    pub(crate) fn begin_turn(&self, began: Duration) {
        self.turn.set(began);
    }

    /// A command of a caller on this core was accepted. Whether it is to be timed: then one of [`StageTimer::proposed`] and
    /// [`StageTimer::give_up`] follows.
    #[inline]
    pub(crate) fn accept(&self) -> bool {
        let left = self.left.get();
        if left > 1 {
            self.left.set(left - 1);
            return false;
        }
        self.begin_now()
    }

    /// Apart, so that the acceptance of any other command is short.
    #[cold]
    fn begin_now(&self) -> bool {
        self.begin((self.clock)(), None)
    }

    /// So many commands of another shard were accepted in this turn, as the batch with this number. Which of them is to be
    /// timed, counted from 0: what follows is as with [`StageTimer::accept`].
    pub(crate) fn accept_batch(&self, commands: usize, batch: u64) -> Option<usize> {
        let left = self.left.get();
        let (count, place) = (u32::try_from(commands).unwrap_or(u32::MAX), left.saturating_sub(1));
        if place >= count {
            self.left.set(left - count);
            return None;
        }
        self.begin(self.turn.get(), Some(batch)).then_some(place as usize)
    }

    /// Times the command that was just accepted, unless another one is under way.
    fn begin(&self, accepted: Duration, batch: Option<u64>) -> bool {
        let is_free = self.sample.get().is_none();
        if is_free {
            let (proposed, durable, committed, applied, replied) = Default::default();
            let sample = Sample { accepted, batch, proposed, durable, committed, applied, replied };
            self.sample.set(Some(sample));
        }
        self.left.set(u32::MAX);
        is_free
    }

    /// The timed command is in the log of its leader.
    pub(crate) fn proposed(&self, group: GroupId, id: EntryId) {
        self.change(|sample| sample.proposed = Some((group, id, (self.clock)())));
    }

    /// The entry of the timed command, while it is not both durable here and committed.
    pub(crate) fn entry(&self) -> Option<(GroupId, Index)> {
        let sample = self.sample.get()?;
        let (group, id, _) = sample.proposed?;
        (sample.durable.is_none() || sample.committed.is_none()).then_some((group, id.index))
    }

    /// How that entry stands, as what came in before this turn says.
    pub(crate) fn note(&self, is_durable: bool, is_committed: bool) {
        let turn = self.turn.get();
        self.change(|sample| {
            sample.durable = sample.durable.or(is_durable.then_some(turn));
            sample.committed = sample.committed.or(is_committed.then_some(turn));
        });
        self.finish();
    }

    /// The timed command has ended. Without an outcome it is not counted: it may be anywhere.
    pub(crate) fn ended(&self, is_applied: bool) {
        if !is_applied {
            return self.give_up();
        }
        self.change(|sample| {
            // A replica that is alone commits in the turn that it applies.
            sample.committed = sample.committed.or(Some(self.turn.get()));
            sample.applied = Some((self.clock)());
        });
    }

    /// The outcomes of this turn are handed out. `is_open` says whether a batch of another shard still waits for one.
    pub(crate) fn replied(&self, is_open: impl Fn(u64) -> bool) {
        let Some(sample) = self.sample.get() else { return };
        let is_answered = sample.applied.is_some() && !sample.batch.is_some_and(is_open);
        if is_answered && sample.replied.is_none() {
            self.change(|sample| sample.replied = Some((self.clock)()));
            self.finish();
        }
    }

    /// The timed command is led elsewhere, or has ended without an outcome.
    pub(crate) fn give_up(&self) {
        self.sample.set(None);
        let gap = self.gap.get();
        let all = GAPS.end - GAPS.start;
        self.gap.set(GAPS.start + (gap - GAPS.start + GAP_STEP) % all);
        self.left.set(gap);
    }

    /// What is done once in a heartbeat interval: the next command is timed, if none is.
    pub(crate) fn beat(&self) {
        match self.sample.get() {
            None => self.left.set(1),
            Some(sample) if self.turn.get() > sample.accepted + SAMPLE_MAX => self.give_up(),
            Some(_) => {}
        }
    }

    /// The times so far.
    pub(crate) fn times(&self) -> StageTimes {
        self.times.borrow().clone()
    }

    fn change(&self, change: impl FnOnce(&mut Sample)) {
        if let Some(mut sample) = self.sample.get() {
            change(&mut sample);
            self.sample.set(Some(sample));
        }
    }

    /// Counts the timed command, if all of its times are known.
    fn finish(&self) {
        let Some(sample) = self.sample.get() else { return };
        let Sample { accepted, proposed, durable, committed, applied, replied, .. } = sample;
        let (Some((_, _, proposed)), Some(durable), Some(replied)) = (proposed, durable, replied)
        else {
            return;
        };
        let (Some(committed), Some(applied)) = (committed, applied) else { return };
        // A single replica commits with a time of the turn, which began before the proposal.
        let committed = committed.max(proposed);
        let times = &mut *self.times.borrow_mut();
        times.queue.record(proposed.saturating_sub(accepted));
        times.wal.record(durable.saturating_sub(proposed));
        times.quorum.record(committed - proposed);
        times.apply.record(applied.saturating_sub(committed));
        times.reply.record(replied.saturating_sub(applied));
        times.total.record(replied.saturating_sub(accepted));
        self.give_up();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use purlin_rsm::Term;
    use std::rc::Rc;

    /// A timer for tests that look at no times.
    pub(crate) fn still() -> Rc<StageTimer> {
        Rc::new(StageTimer::new(|| Duration::ZERO))
    }

    const GROUP: GroupId = GroupId(7);
    const ID: EntryId = EntryId { term: Term(1), index: Index(9) };

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// A timer, and what its clock shows.
    fn timer() -> (StageTimer, Rc<Cell<Duration>>) {
        let now = Rc::new(Cell::new(Duration::ZERO));
        let clock = Rc::clone(&now);
        (StageTimer::new(move || clock.get()), now)
    }

    fn sums(timer: &StageTimer) -> [u64; 6] {
        timer.times().by_name().map(|(_, times)| times.sum().as_micros() as u64)
    }

    #[test]
    fn the_stages_of_a_command_add_up_to_its_total_and_the_wal_runs_beside_the_quorum() {
        let (timer, now) = timer();
        now.set(micros(100));
        assert!(timer.accept());
        timer.begin_turn(micros(105));
        now.set(micros(110));
        timer.proposed(GROUP, ID);
        assert_eq!(timer.entry(), Some((GROUP, Index(9))));
        timer.begin_turn(micros(300));
        timer.note(false, true);
        now.set(micros(310));
        timer.ended(true);
        now.set(micros(350));
        timer.replied(|_| false);
        assert_eq!(sums(&timer), [0; 6], "its own disk has not written it yet");
        timer.begin_turn(micros(900));
        assert_eq!(timer.entry(), Some((GROUP, Index(9))));
        timer.note(true, true);
        let [queue, wal, quorum, apply, reply, total] = sums(&timer);
        assert_eq!([queue, wal, quorum, apply, reply], [10, 790, 190, 10, 40]);
        assert_eq!(total, queue + quorum + apply + reply);
        assert_eq!((timer.entry(), timer.times().total.count()), (None, 1));
    }

    #[test]
    fn a_command_that_ends_without_an_outcome_is_not_counted_and_another_one_is_timed() {
        let (timer, _) = timer();
        assert!(timer.accept());
        timer.proposed(GROUP, ID);
        timer.ended(false);
        timer.note(true, true);
        timer.replied(|_| false);
        assert_eq!(timer.times(), StageTimes::default());
        assert!((0..GAPS.end).any(|_| timer.accept()));
    }

    /// The gaps reach each number once before one comes again.
    #[test]
    fn of_many_commands_one_in_sixty_four_is_timed_and_the_gaps_go_round() {
        let (timer, _) = timer();
        assert!(timer.accept());
        let mut gaps = Vec::new();
        for _ in GAPS {
            timer.give_up();
            gaps.push(1 + (0..GAPS.end).take_while(|_| !timer.accept()).count() as u32);
        }
        assert!(!timer.accept(), "while one is timed no other one is");
        gaps.sort_unstable();
        assert!(gaps.into_iter().eq(GAPS));
    }

    #[test]
    fn the_next_command_after_a_beat_is_timed() {
        let (timer, _) = timer();
        assert!(timer.accept());
        timer.beat();
        assert!(!timer.accept(), "the first one is still timed");
        timer.give_up();
        assert!(!timer.accept());
        timer.beat();
        assert!(timer.accept());
    }

    #[test]
    fn a_command_of_a_batch_is_answered_with_the_whole_batch_and_counts_from_the_turn() {
        let (timer, now) = timer();
        timer.give_up();
        let gap = GAPS.start as usize;
        assert_eq!(timer.accept_batch(gap - 2, 1), None);
        timer.begin_turn(micros(50));
        now.set(micros(60));
        assert_eq!(timer.accept_batch(5, 2), Some(1));
        timer.proposed(GROUP, ID);
        timer.begin_turn(micros(200));
        timer.note(true, true);
        timer.ended(true);
        timer.replied(|batch| batch == 2);
        assert_eq!(timer.times().total.count(), 0);
        now.set(micros(450));
        timer.replied(|_| false);
        assert_eq!((sums(&timer)[0], sums(&timer)[5]), (10, 400));
    }

    #[test]
    fn a_command_without_an_end_is_left_out_after_a_minute() {
        let (timer, _) = timer();
        assert!(timer.accept());
        timer.begin_turn(SAMPLE_MAX);
        timer.beat();
        timer.beat();
        assert!(!timer.accept());
        timer.begin_turn(SAMPLE_MAX + micros(1));
        timer.beat();
        timer.beat();
        assert!(timer.accept());
    }
}
