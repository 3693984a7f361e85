//! Histories whose verdict is known, and random ones of a register that is right or lies.

use super::*;
use crate::chance::Chance;
use crate::check::notes::KEY_OPERATIONS_MAX;
use crate::check::zones::SUSPECTS_MAX;
use crate::fingerprint::Fingerprint;
use crate::workload::Request;

/// What one client asks, and what it is told: `s3` is SET of the value 3, `g` is GET, `i` is INCR.
#[derive(Clone, Copy)]
enum Event {
    Ask(&'static str, u64),
    Tell(&'static str, Told),
}
use Event::{Ask, Tell};

fn value(number: u64) -> Fingerprint {
    Fingerprint::of(format!("{number:012}abcd").as_bytes())
}

const DONE: Told = Told::Done(Held::Other);
const NIL: Told = Told::Done(Held::Nil);

fn found(number: u64) -> Told {
    Told::Done(Held::Value(value(number)))
}

#[test]
fn the_memory_of_a_search_is_bounded() {
    // A bit for each operation, and what a map keeps beside it.
    let sets = SEARCH_STEPS_MAX as usize * (KEY_OPERATIONS_MAX / 8 + 256);
    // The longest lists: half of the operations are in doubt and may follow each of the others.
    let lists = (KEY_OPERATIONS_MAX / 2).pow(2) * size_of::<usize>();
    assert!(sets + lists <= 80 << 20, "{sets} + {lists}");
    // And it suffices for the longest history that needs no search: a step for each operation, and one back.
    assert!(SEARCH_STEPS_MAX as usize > 2 * KEY_OPERATIONS_MAX);
}

/// Three keys are shown of five, and eight suspicions are followed of twenty.
#[test]
fn what_is_followed_and_shown_is_bounded() {
    let mut notes = Notes::default();
    for sample in (0..5).flat_map(|key| [key; 20]) {
        let request = Request { sample: Some(sample), ..Request::default() };
        let place = notes.ask(1, &request, None, 0).unwrap();
        // No answer to a GET.
        notes.tell(place, DONE, 0);
    }
    let keys = notes.by_key();
    assert_eq!(Zones::of(&keys[0].1).suspects.len(), SUSPECTS_MAX);
    let checked = judge(&notes, |_| b"k".to_vec());
    assert_eq!((checked.violated_keys, checked.violations.len()), (5, SHOWN_MAX));
    assert!(checked.violations.iter().all(|text| text.lines().count() <= LINES_MAX + 1));
}

/// The verdict on one key. Names begin with `s`, `g` or `i`.
fn verdict(events: &[Event]) -> Checked {
    let mut notes = Notes::default();
    let mut places = std::collections::BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        match event {
            Ask(name, number) => {
                let is_write = !name.starts_with('g');
                let request = Request { is_write, sample: Some(0), ..Request::default() };
                let written = name.starts_with('s').then(|| value(*number));
                places.insert(*name, notes.ask(1, &request, written, at as u64).unwrap());
            }
            Tell(name, told) => notes.tell(places[name], *told, at as u64),
        }
    }
    judge(&notes, |_| b"k".to_vec())
}

/// Writes that are acknowledged agree with everything, and so do reads that nobody answers.
#[test]
fn a_run_without_an_answered_read_is_no_check() {
    let written = [Ask("s1", 1), Tell("s1", DONE), Ask("g1", 0)];
    for events in [&written[..2], &written] {
        let checked = verdict(events);
        assert_eq!((checked.compared, checked.is_a_check()), (0, false));
        assert!(checked.text().contains("NOTHING WAS CHECKED"), "{}", checked.text());
    }
    let refused = [&written[..], &[Tell("g1", Told::NotApplied)]].concat();
    assert!(!verdict(&refused).is_a_check());
    let answered = verdict(&[&written[..], &[Tell("g1", found(1))]].concat());
    assert_eq!((answered.compared, answered.is_a_check()), (1, true));
    assert!(answered.text().ends_with("linearizable"), "{}", answered.text());
}

fn violated(events: &[Event]) -> bool {
    let checked = verdict(events);
    assert_eq!(checked.undecided_keys, 0);
    checked.violated_keys == 1
}

#[test]
fn a_stale_read_is_found_and_its_history_is_short() {
    let first = [Ask("s1", 1), Tell("s1", DONE), Ask("s2", 2), Tell("s2", DONE), Ask("g", 0)];
    let stale = [first.as_slice(), &[Tell("g", found(1))]].concat_events();
    let checked = verdict(&stale);
    assert_eq!((checked.violated_keys, checked.operations, checked.keys), (1, 3, 1));
    let text = &checked.violations[0];
    assert!(
        text.contains("000000000001") && text.contains("Get") && text.contains("client 1"),
        "{text}"
    );
    assert!(checked.text().contains("NOT LINEARIZABLE"), "{}", checked.text());
}

#[test]
fn lost_writes_and_values_of_nobody_are_found() {
    // Nothing is there although a write was done.
    assert!(violated(&[Ask("s1", 1), Tell("s1", DONE), Ask("g", 0), Tell("g", NIL)]));
    // A value that nobody wrote, one that was refused, and one that was read before it was asked for.
    assert!(violated(&[Ask("g", 0), Tell("g", found(7))]));
    let refused = [Ask("s1", 1), Tell("s1", Told::NotApplied), Ask("g", 0), Tell("g", found(1))];
    assert!(violated(&refused));
    assert!(violated(&[Ask("g", 0), Tell("g", found(1)), Ask("s1", 1), Tell("s1", DONE)]));
    // No answer to a GET.
    assert!(violated(&[Ask("g", 0), Tell("g", DONE)]));
}

#[test]
fn what_overlaps_may_come_in_any_order_and_a_write_in_doubt_at_any_time() {
    let both = [Ask("s1", 1), Ask("s2", 2), Tell("s1", DONE), Tell("s2", DONE)];
    let read = |number| [Ask("g", 0), Tell("g", found(number))];
    assert!(!violated(&[both.as_slice(), &read(1)].concat_events()));
    assert!(!violated(&[both.as_slice(), &read(2)].concat_events()));
    assert!(violated(&[both.as_slice(), &read(1), &read(2)].concat_events()));
    let in_doubt = [Ask("s1", 1), Ask("s2", 2), Tell("s2", DONE)];
    assert!(!violated(&[in_doubt.as_slice(), &read(2), &read(1)].concat_events()));
    assert!(violated(&[in_doubt.as_slice(), &read(1), &read(2), &read(1)].concat_events()));
}

#[test]
fn lost_and_repeated_increments_are_found_and_those_in_doubt_fill_gaps() {
    let number = |number| Told::Done(Held::Number(number));
    let text = |text: &str| Told::Done(Held::Value(Fingerprint::of(text.as_bytes())));
    let one = || [Ask("i1", 0), Tell("i1", number(1))];
    let second = |answer| [Ask("i2", 0), Tell("i2", number(answer))];
    assert!(!violated(
        &[one().as_slice(), &second(2), &[Ask("g", 0), Tell("g", text("2"))]].concat_events()
    ));
    assert!(violated(&[one().as_slice(), &second(1)].concat_events()));
    assert!(violated(&[one().as_slice(), &second(3)].concat_events()));
    assert!(!violated(&[one().as_slice(), &[Ask("i3", 0)], &second(3)].concat_events()));
    assert!(violated(&[one().as_slice(), &[Ask("g", 0), Tell("g", NIL)]].concat_events()));
}

/// Events are moved out of slices of slices.
trait ConcatEvents {
    fn concat_events(&self) -> Vec<Event>;
}

impl ConcatEvents for [&[Event]] {
    fn concat_events(&self) -> Vec<Event> {
        let copy = |event: &Event| match event {
            Ask(name, number) => Ask(name, *number),
            Tell(name, told) => Tell(name, *told),
        };
        self.iter().flat_map(|events| events.iter().map(copy)).collect()
    }
}

/// A run on one key: `clients` have an operation under way each, of which a part is never answered. The register
/// applies each at some time in between. A register that lies answers one read with the value before the current one.
fn random_run(seed: u64, clients: usize, lies: bool) -> Notes {
    #[derive(Clone, Copy)]
    enum Stage {
        Idle,
        Asked(u32, Option<u64>),
        Applied(u32, Told),
    }
    let (mut chance, mut notes) = (Chance::new(seed), Notes::default());
    let (mut stages, mut number) = (vec![Stage::Idle; clients], 0);
    let (mut now, mut before, mut lied) = (NIL, None, false);
    for at in 0..4_000 {
        let client = chance.below(clients as u64) as usize;
        stages[client] = match stages[client] {
            Stage::Idle => {
                let is_write = chance.below(2) == 0;
                number += u64::from(is_write);
                let request = Request { is_write, sample: Some(0), ..Request::default() };
                let written = is_write.then(|| value(number));
                let place = notes.ask(client as u32, &request, written, at).unwrap();
                Stage::Asked(place, is_write.then_some(number))
            }
            // One in fifty is in doubt: the client goes on, and the operation never comes.
            Stage::Asked(..) if chance.below(50) == 0 => Stage::Idle,
            Stage::Asked(place, Some(number)) => {
                (before, now) = (Some(now), found(number));
                Stage::Applied(place, DONE)
            }
            Stage::Asked(place, None) => {
                let is_lie = lies && !lied && at > 2_000 && before.is_some();
                lied |= is_lie;
                Stage::Applied(place, before.filter(|_| is_lie).unwrap_or(now))
            }
            Stage::Applied(place, told) => {
                notes.tell(place, told, at);
                Stage::Idle
            }
        };
    }
    notes
}

#[test]
fn a_register_that_is_right_is_found_right_with_any_number_of_clients() {
    for (seed, clients) in (0..20).flat_map(|seed| [(seed, 1), (seed, 4), (seed, 64), (seed, 500)])
    {
        let checked = judge(&random_run(seed, clients, false), |_| b"k".to_vec());
        assert_eq!(
            (checked.violated_keys, checked.undecided_keys),
            (0, 0),
            "seed {seed}, {clients} clients: {:?}",
            checked.violations
        );
    }
}

/// With one client each stale read is wrong. With more it may pass as one that came a little earlier.
#[test]
fn a_register_that_lies_once_is_found_out() {
    let found = |clients| {
        let is_found = |seed: &u64| {
            judge(&random_run(*seed, clients, true), |_| b"k".to_vec()).violated_keys == 1
        };
        (0..40).filter(is_found).count()
    };
    assert_eq!(found(1), 40);
    let with_many = found(4);
    assert!((5..40).contains(&with_many), "{with_many}");
}
