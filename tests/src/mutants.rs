//! Planted bugs: each takes one guard away, and shows what it is that notices.
//!
//! A simulator that finds nothing is good or blind. So every mutant of `tests/mutants/planted/` is planted
//! in a copy of the tree, one at a time; the seeds run until one fails; if none does, the unit test runs
//! that the mutant names. A mutant that survives both is a guard that nobody watches.
//!
//! ```text
//!   tests/mutants/planted/*.txt ─► target/mutants/tree ─► build ─► seeds 0..N ─► a seed fails: killed
//!                                    copy, changed                    └ none ─► unit test ─► fails: killed
//!                                                                                 └ passes: survived
//! ```
//!
//! The user's own tree is read and never written. What a seed or a test says counts only if the same
//! passes without the mutant. The unit tests of all mutants are built and run without any mutant first.

mod check;
mod edit;
mod mutant;
mod table;
mod unit;
mod watch;
mod workshop;

pub use check::check;
pub use edit::Edit;
pub use mutant::Mutant;
pub use table::{killer, table};
pub use unit::Unit;

use self::{
    watch::{Ended, Watched},
    workshop::Workshop,
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// What cannot go on, in words for a person.
pub type Result<T> = std::result::Result<T, String>;

/// What became of one mutant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// A seed failed.
    Seed {
        /// Which.
        seed: u64,
        /// The first thing that was wrong.
        violation: String,
        /// How many seeds had run by then.
        runs: u64,
    },
    /// No seed came to an end any more.
    Hung,
    /// No seed failed, but its unit test.
    Test {
        /// What the test said first.
        message: String,
    },
    /// Nothing noticed.
    Survived,
    /// It says nothing, for this reason.
    Void(String),
}

/// One mutant, what became of it, and how long that took.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The mutant.
    pub mutant: Mutant,
    /// What became of it.
    pub fate: Fate,
    /// What was spent on building.
    pub building: Duration,
    /// What was spent on running.
    pub running: Duration,
}

/// Tries each of `mutants` on a copy of the tree at `root`, with the seeds `0..seeds`. Tells `progress`
/// of each that is done.
///
/// # Errors
/// The copy cannot be made or built as it is.
pub fn try_all(
    root: &Path,
    mutants: Vec<Mutant>,
    seeds: u64,
    progress: impl Fn(&Trial),
) -> Result<Vec<Trial>> {
    let workshop = Workshop::open(root)?;
    let unsound = workshop.unsound_units(&mutants)?;
    if seeds > 0 {
        workshop.build_sim()?;
        workshop.keep_sound_sim()?;
    }
    let mut trials = Vec::new();
    for mutant in mutants {
        let mut trial = Trial {
            mutant,
            fate: Fate::Survived,
            building: Duration::ZERO,
            running: Duration::ZERO,
        };
        trial.run(&workshop, seeds);
        // A test that fails without the mutant too has killed nobody.
        let is_by_test = matches!(trial.fate, Fate::Test { .. });
        if is_by_test && unsound.contains(&trial.mutant.unit) {
            trial.fate = Fate::Void(format!("{} fails without the mutant too", trial.mutant.unit));
        }
        progress(&trial);
        trials.push(trial);
    }
    Ok(trials)
}

impl Trial {
    fn run(&mut self, workshop: &Workshop, seeds: u64) {
        let fate = workshop.refresh().and_then(|()| self.find_fate(workshop, seeds));
        self.fate = fate.unwrap_or_else(Fate::Void);
    }

    fn find_fate(&mut self, workshop: &Workshop, seeds: u64) -> Result<Fate> {
        workshop.plant(&self.mutant)?;
        if seeds > 0 {
            timed(&mut self.building, || workshop.build_sim())?;
            let watched = timed(&mut self.running, || workshop.run_seeds(seeds))?;
            if let Some(fate) = fate_by_seeds(&watched)? {
                return doubt(fate, workshop, seeds);
            }
        }
        let unit = &self.mutant.unit;
        let tests = timed(&mut self.building, || workshop.build_tests(unit))?;
        let failure = timed(&mut self.running, || workshop.failure(&tests, &[unit]))?;
        Ok(failure.map_or(Fate::Survived, |message| Fate::Test { message }))
    }
}

/// What the simulator's output says, if it says that a seed failed.
fn fate_by_seeds(watched: &Watched) -> Result<Option<Fate>> {
    match watched.ended {
        Ended::Quiet => return Ok(Some(Fate::Hung)),
        Ended::Well => return Ok(None),
        Ended::Badly => {}
    }
    let failed = |line: &String| line.strip_prefix("seed ")?.strip_suffix(" fails:")?.parse().ok();
    let at = watched.lines.iter().position(|line| failed(line).is_some());
    let Some(at) = at else {
        let last = watched.lines.last().cloned().unwrap_or_default();
        return Err(format!("the simulator failed, and no seed did: {last}"));
    };
    let seed = failed(&watched.lines[at]).expect("it was found for that");
    let violation = watched.lines.get(at + 1).map_or("", |line| line.trim()).to_owned();
    let runs = |line: &String| line.split_once(" seeds in ")?.0.parse().ok();
    let runs = watched.lines.iter().find_map(runs).unwrap_or(0);
    Ok(Some(Fate::Seed { seed, violation, runs }))
}

/// A seed that fails without the mutant too has killed nobody, nor has a machine that is too slow.
fn doubt(fate: Fate, workshop: &Workshop, seeds: u64) -> Result<Fate> {
    match fate {
        Fate::Seed { seed, .. } if !workshop.is_sound(seed)? => {
            Err(format!("seed {seed} fails without the mutant too"))
        }
        Fate::Hung if workshop.run_sound_seeds(seeds)?.ended == Ended::Quiet => {
            Err("the simulator falls silent without the mutant too".to_owned())
        }
        fate => Ok(fate),
    }
}

fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    *total += started.elapsed();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(ended: Ended, text: &str) -> Watched {
        Watched { ended, lines: text.lines().map(str::to_owned).collect() }
    }

    #[test]
    fn the_first_seed_that_fails_is_named_with_its_first_violation() {
        let text =
            "seed 17 fails:\n  two leaders in term 3\n  more\n18 seeds in 2.1 s (8 a second)";
        let violation = "two leaders in term 3".to_owned();
        let fate = Fate::Seed { seed: 17, violation, runs: 18 };
        assert_eq!(fate_by_seeds(&watched(Ended::Badly, text)), Ok(Some(fate)));
    }

    #[test]
    fn seeds_that_pass_say_nothing_and_those_that_never_end_say_it_all() {
        assert_eq!(fate_by_seeds(&watched(Ended::Well, "no violation")), Ok(None));
        assert_eq!(fate_by_seeds(&watched(Ended::Quiet, "")), Ok(Some(Fate::Hung)));
        let error = fate_by_seeds(&watched(Ended::Badly, "error: no such option"));
        assert!(error.is_err_and(|error| error.contains("no such option")));
    }
}
