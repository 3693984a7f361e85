//! Judges each key of a run, and says what was found.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use purlin_checker::history::{Operation, Told as Outcome};
use purlin_checker::kv::{KvModel, Op, Reply};
use purlin_checker::linearizability::{Verdict, check_key};
use serde::Serialize;

use super::notes::{Asked, Noted, Notes, Told};
use super::zones::Zones;
use crate::reply::Held;

/// The most steps of the search for one key. Each step keeps a set of the operations of the key, and each ordered operation a
/// list of those that may follow it: 80 MiB at most.
const SEARCH_STEPS_MAX: u64 = 50_000;
/// So many violations are shown, and the others are counted.
const SHOWN_MAX: usize = 3;
/// The most lines of one violation that are shown.
const LINES_MAX: usize = 30;

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Operations that were checked.
    pub operations: usize,
    /// Keys that they belong to.
    pub keys: usize,
    /// Operations on these keys that came behind the bounds, and were not checked.
    pub not_checked: u64,
    /// Reads and increments among the checked ones that were answered, of keys that are decided. A run without any shows
    /// nothing: writes that are acknowledged agree with everything.
    pub compared: usize,
    /// Writes among the checked ones whose outcome is in doubt.
    pub in_doubt: usize,
    /// Keys of which the search was given up: nothing is known of them.
    pub undecided_keys: usize,
    /// Keys whose answers no order explains.
    pub violated_keys: usize,
    /// The history of some of these keys, in short.
    pub violations: Vec<String>,
}

/// Judges all that was noted. `name` gives the name of a key by its number.
pub fn judge(notes: &Notes, name: impl Fn(u64) -> Vec<u8>) -> Checked {
    let mut checked =
        Checked { operations: notes.count(), not_checked: notes.left_out(), ..Checked::default() };
    for (number, noted) in notes.by_key() {
        checked.keys += 1;
        let is_in_doubt = |it: &&&Noted| it.asked != Asked::Read && it.told == Told::Unknown;
        checked.in_doubt += noted.iter().filter(is_in_doubt).count();
        let is_compared =
            |it: &&&Noted| !matches!(it.asked, Asked::Write(_)) && matches!(it.told, Told::Done(_));
        let compared = noted.iter().filter(is_compared).count();
        match judge_key(&Bytes::from(name(number)), &noted) {
            Verdict::Linearizable => checked.compared += compared,
            Verdict::Inconclusive { .. } => checked.undecided_keys += 1,
            Verdict::Violation(violation) => {
                checked.compared += compared;
                checked.violated_keys += 1;
                if checked.violations.len() < SHOWN_MAX {
                    checked.violations.push(cut(&violation.to_string()));
                }
            }
        }
    }
    checked
}

/// What is suspicious is judged first, by itself: if some operations have no order, all have none.
fn judge_key(key: &Bytes, noted: &[&Noted]) -> Verdict {
    let zones = Zones::of(noted);
    let order = zones.order.iter();
    let operations: Vec<_> =
        noted.iter().zip(order).map(|(noted, &at)| operation(key, noted, at)).collect();
    for suspects in &zones.suspects {
        let suspects: Vec<_> = suspects.iter().map(|&place| &operations[place]).collect();
        let verdict = check_key(&KvModel, key, &suspects, SEARCH_STEPS_MAX);
        if matches!(verdict, Verdict::Violation(_)) {
            return verdict;
        }
    }
    // A read without an answer says nothing.
    let says = |it: &&Operation<Op, Reply>| !it.input.is_read() || it.told != Outcome::Unknown;
    let operations: Vec<_> = operations.iter().filter(says).collect();
    check_key(&KvModel, key, &operations, SEARCH_STEPS_MAX)
}

fn operation(key: &Bytes, noted: &Noted, seen_at: Option<u64>) -> Operation<Op, Reply> {
    let has_returned = noted.returned > 0;
    Operation {
        client: noted.client,
        lane: None,
        key: key.clone(),
        input: match noted.asked {
            Asked::Read => Op::Get,
            Asked::Write(value) => Op::Set(value.text()),
            Asked::Increment => Op::Increment(1),
        },
        invoked: noted.invoked.into(),
        returned: has_returned.then_some(noted.returned.into()),
        seen_at,
        invoked_at: Duration::from_nanos(noted.invoked_at),
        returned_at: has_returned.then_some(Duration::from_nanos(noted.returned_at)),
        told: match noted.told {
            Told::Done(held) => Outcome::Done(reply(noted.asked, held)),
            Told::NotApplied => Outcome::NotApplied,
            Told::Unknown => Outcome::Unknown,
        },
    }
}

/// The answer in the words of the model. What is no answer to such a command is one that the model never gives.
fn reply(asked: Asked, held: Held) -> Reply {
    match (asked, held) {
        (Asked::Read, Held::Nil) => Reply::Value(None),
        (Asked::Read, Held::Value(value)) => Reply::Value(Some(value.text())),
        (Asked::Read, _) => Reply::NotANumber,
        (Asked::Write(_), Held::Nil) => Reply::Refused,
        (Asked::Write(_), _) => Reply::Done,
        (Asked::Increment, Held::Number(number)) => Reply::Number(number),
        (Asked::Increment, _) => Reply::Refused,
    }
}

fn cut(text: &str) -> String {
    let count = text.lines().count();
    let lines: Vec<_> = text.lines().take(LINES_MAX).collect();
    let mut text = lines.join("\n");
    if count > LINES_MAX {
        let _ = write!(text, "\n  and {} more", count - LINES_MAX);
    }
    text
}

impl Checked {
    /// Whether anything was compared that a wrong server could have got wrong.
    pub fn is_a_check(&self) -> bool {
        self.compared > 0 || self.violated_keys > 0
    }

    /// One line for people, without the violations.
    pub fn text(&self) -> String {
        let Self { operations, keys, not_checked, in_doubt, compared, .. } = self;
        let mut text = format!(
            "checked {operations} operations of {keys} keys, {compared} answered reads and increments among them: "
        );
        match (self.violated_keys, self.undecided_keys) {
            (0, undecided) if !self.is_a_check() && undecided > 0 => {
                let _ = write!(
                    text,
                    "NOTHING WAS DECIDED: the search was given up for {undecided} keys; give more --keys, or fewer clients"
                );
            }
            (0, _) if !self.is_a_check() => {
                text.push_str(
                    "NOTHING WAS CHECKED; give fewer --keys, and see why reads are not answered",
                );
            }
            (0, 0) => text.push_str("linearizable"),
            (0, undecided) => {
                let _ =
                    write!(text, "nothing wrong was found, and {undecided} keys are not decided");
            }
            (violated, _) => {
                let _ = write!(text, "{violated} keys are NOT LINEARIZABLE");
            }
        }
        if *in_doubt > 0 {
            let _ = write!(text, "; {in_doubt} writes in doubt");
        }
        if *not_checked > 0 {
            let _ = write!(
                text,
                "; {not_checked} more operations of these keys came behind the bounds"
            );
        }
        text
    }
}

#[cfg(test)]
#[path = "verdict_test.rs"]
mod tests;
