//! What became of all mutants, as a table for people and documents.

use super::{Fate, Trial};
use std::{fmt::Write as _, time::Duration};

/// Longer violations are cut: the seed tells the rest.
const VIOLATION_MAX: usize = 100;

/// One row for each trial, and a sum.
pub fn table(trials: &[Trial]) -> String {
    let mut text = "| mutant | rule | killed by | seeds |\n| --- | --- | --- | --- |\n".to_owned();
    for trial in trials {
        let (slug, rule) = (&trial.mutant.slug, &trial.mutant.rule);
        let _ = writeln!(text, "| {slug} | {rule} | {} | {} |", killer(trial), seeds(trial));
    }
    let count = |is: fn(&Fate) -> bool| trials.iter().filter(|trial| is(&trial.fate)).count();
    let by_seeds = count(|fate| matches!(fate, Fate::Seed { .. } | Fate::Hung));
    let by_tests = count(|fate| matches!(fate, Fate::Test { .. }));
    let survived = count(|fate| matches!(fate, Fate::Survived));
    let void = count(|fate| matches!(fate, Fate::Void(_)));
    let building: Duration = trials.iter().map(|trial| trial.building).sum();
    let running: Duration = trials.iter().map(|trial| trial.running).sum();
    let _ = writeln!(
        text,
        "\n{} mutants: {by_seeds} killed by seeds (median {} seeds), {by_tests} by unit tests, \
         {survived} survived, {void} void; {:.0} s of building, {:.0} s of running",
        trials.len(),
        median(trials),
        building.as_secs_f64(),
        running.as_secs_f64()
    );
    text
}

/// What killed the mutant, if something did.
pub fn killer(trial: &Trial) -> String {
    match &trial.fate {
        Fate::Seed { seed, violation, .. } => format!("seed {seed}: {}", cell(violation)),
        Fate::Hung => "no seed ends any more".to_owned(),
        Fate::Test { message } => {
            format!("unit test `{}`: {}", trial.mutant.unit, cell(message))
        }
        Fate::Survived => "**survived**".to_owned(),
        Fate::Void(why) => format!("**void**: {}", cell(why)),
    }
}

fn seeds(trial: &Trial) -> String {
    match trial.fate {
        Fate::Seed { runs, .. } => runs.to_string(),
        _ => "–".to_owned(),
    }
}

/// What a cell of a table can hold.
fn cell(text: &str) -> String {
    let text = text.replace('|', "\\|").replace('\n', " ");
    match text.char_indices().nth(VIOLATION_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn median(trials: &[Trial]) -> u64 {
    let runs = |trial: &Trial| match trial.fate {
        Fate::Seed { runs, .. } => Some(runs),
        _ => None,
    };
    let mut runs: Vec<u64> = trials.iter().filter_map(runs).collect();
    runs.sort_unstable();
    runs.get(runs.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::{Mutant, Unit};

    fn trial(slug: &str, fate: Fate) -> Trial {
        let unit = Unit { package: "purlin-rsm".to_owned(), test: "votes".to_owned() };
        let mutant = Mutant {
            slug: slug.to_owned(),
            what: "It breaks something.".to_owned(),
            rule: "A1".to_owned(),
            unit,
            edits: Vec::new(),
        };
        let (building, running) = (Duration::from_secs(30), Duration::from_secs(2));
        Trial { mutant, fate, building, running }
    }

    #[test]
    fn each_mutant_has_a_row_and_all_have_a_sum() {
        let violation = "a | b".to_owned();
        let trials = [
            trial("early", Fate::Seed { seed: 7, violation, runs: 9 }),
            trial("late", Fate::Test { message: "no leader".to_owned() }),
            trial("sly", Fate::Survived),
            trial("old", Fate::Void("it does not build".to_owned())),
        ];
        let expected = "\
| mutant | rule | killed by | seeds |
| --- | --- | --- | --- |
| early | A1 | seed 7: a \\| b | 9 |
| late | A1 | unit test `purlin-rsm votes`: no leader | – |
| sly | A1 | **survived** | – |
| old | A1 | **void**: it does not build | – |

4 mutants: 1 killed by seeds (median 9 seeds), 1 by unit tests, 1 survived, 1 void; \
120 s of building, 8 s of running
";
        assert_eq!(table(&trials), expected);
    }

    #[test]
    fn a_long_violation_is_cut() {
        assert_eq!(cell(&"é".repeat(300)), format!("{}…", "é".repeat(VIOLATION_MAX)));
    }
}
