//! Tests of the search and the model on histories whose verdict is known: random ones, correct
//! ones, and correct ones with one change.

use super::{
    history::{History, Told},
    kv::KvModel,
    linearizability::{Model, Verdict, check},
};
use crate::{
    sim::Random,
    workload::{Op, Reply, Workload, WorkloadOptions},
};
use bytes::Bytes;
use std::{collections::BTreeMap, time::Duration};

type KvHistory = History<Op, Reply>;

const BUDGET: u64 = 1_000_000;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn value(text: &str) -> Told<Reply> {
    Told::Done(Reply::Value(Some(bytes(text))))
}

fn set(text: &str) -> Op {
    Op::Set(bytes(text))
}

const DONE: Told<Reply> = Told::Done(Reply::Done);
const NOTHING: Told<Reply> = Told::Done(Reply::Value(None));

fn number(number: i64) -> Told<Reply> {
    Told::Done(Reply::Number(number))
}

/// A history of operations on one key, from a drawing: each has a client, an input, an answer, and
/// from when to when it took place.
fn drawn(operations: &[(Op, Told<Reply>, u32, u32)]) -> KvHistory {
    let mut events: Vec<_> = operations
        .iter()
        .enumerate()
        .flat_map(|(place, operation)| [(operation.2, false, place), (operation.3, true, place)])
        .collect();
    events.sort_unstable();
    let mut history = KvHistory::default();
    let mut ids = vec![None; operations.len()];
    for (at, is_return, place) in events {
        let now = Duration::from_secs(at.into());
        let (input, told, ..) = &operations[place];
        match ids[place] {
            Some(id) if is_return => history.complete(id, told.clone(), now),
            _ => ids[place] = Some(history.invoke(1, bytes("k"), input.clone(), now)),
        }
    }
    history
}

fn verdict(operations: &[(Op, Told<Reply>, u32, u32)]) -> Verdict {
    check(&KvModel, &drawn(operations), BUDGET)
}

fn assert_good(operations: &[(Op, Told<Reply>, u32, u32)]) {
    assert_eq!(verdict(operations), Verdict::Linearizable);
}

fn assert_bad(operations: &[(Op, Told<Reply>, u32, u32)]) {
    let verdict = verdict(operations);
    assert!(matches!(verdict, Verdict::Violation(_)), "{verdict:?}");
}

#[test]
fn concurrent_operations_may_take_effect_in_any_order() {
    assert_good(&[
        (set("a"), DONE, 0, 10),
        (set("b"), DONE, 1, 9),
        (Op::Get, value("b"), 2, 4),
        (Op::Get, value("a"), 5, 8),
    ]);
    assert_good(&[(Op::Get, NOTHING, 0, 5), (set("a"), DONE, 1, 4)]);
}

#[test]
fn a_stale_read_is_a_violation() {
    assert_bad(&[(set("a"), DONE, 0, 1), (set("b"), DONE, 2, 3), (Op::Get, value("a"), 4, 5)]);
}

#[test]
fn a_value_that_flips_back_is_a_violation() {
    assert_bad(&[
        (set("a"), DONE, 0, 10),
        (set("b"), DONE, 0, 10),
        (Op::Get, value("a"), 1, 2),
        (Op::Get, value("b"), 3, 4),
        (Op::Get, value("a"), 5, 6),
    ]);
}

#[test]
fn a_lost_acknowledged_write_is_a_violation() {
    assert_bad(&[(set("a"), DONE, 0, 1), (Op::Get, NOTHING, 2, 3)]);
}

#[test]
fn an_unknown_write_may_come_late_or_never_but_not_before_it_was_asked() {
    let unknown = Told::Unknown;
    assert_good(&[(set("a"), unknown.clone(), 0, 1), (Op::Get, NOTHING, 2, 3)]);
    assert_good(&[
        (set("a"), unknown.clone(), 0, 1),
        (Op::Get, NOTHING, 2, 3),
        (Op::Get, value("a"), 4, 5),
    ]);
    assert_bad(&[(Op::Get, value("a"), 0, 1), (set("a"), unknown.clone(), 2, 3)]);
    assert_bad(&[(set("a"), unknown, 0, 1), (Op::Get, value("a"), 2, 3), (Op::Get, NOTHING, 4, 5)]);
}

#[test]
fn a_write_that_was_not_applied_is_never_seen() {
    assert_good(&[(set("a"), Told::NotApplied, 0, 1), (Op::Get, NOTHING, 2, 3)]);
    assert_bad(&[(set("a"), Told::NotApplied, 0, 1), (Op::Get, value("a"), 2, 3)]);
}

#[test]
fn an_increment_counts_once() {
    let increment = || Op::Increment(1);
    assert_good(&[
        (increment(), number(2), 0, 5),
        (increment(), number(1), 0, 5),
        (increment(), Told::Unknown, 0, 5),
        (Op::Get, value("3"), 6, 7),
    ]);
    assert_bad(&[
        (increment(), number(1), 0, 1),
        (increment(), Told::Unknown, 2, 3),
        (Op::Get, value("3"), 4, 5),
    ]);
}

#[test]
fn conditions_and_appends_follow_the_order() {
    let append = |tail| Op::Append(bytes(tail));
    assert_good(&[
        (Op::SetIfAbsent(bytes("x")), DONE, 0, 5),
        (Op::SetIfAbsent(bytes("y")), Told::Done(Reply::Refused), 0, 5),
        // The appends' lengths say which came first.
        (append("1"), number(3), 6, 9),
        (append("2"), number(2), 6, 9),
        (Op::Get, value("x21"), 10, 11),
        (Op::Swap(bytes("z")), value("x21"), 12, 13),
        (Op::Delete, number(1), 14, 15),
        (Op::Exists, number(0), 16, 17),
    ]);
    assert_bad(&[
        (Op::SetIfAbsent(bytes("x")), DONE, 0, 5),
        (Op::SetIfAbsent(bytes("y")), DONE, 0, 5),
    ]);
}

#[test]
fn increments_know_redis_integers() {
    for (text, reply) in [
        ("41", Reply::Number(42)),
        ("041", Reply::NotANumber),
        ("+1", Reply::NotANumber),
        ("", Reply::NotANumber),
        ("9223372036854775807", Reply::OutOfRange),
    ] {
        let (_, output) = KvModel.step(&Some(bytes(text)), &Op::Increment(1));
        assert_eq!(output, reply, "{text:?}");
    }
}

/// Operations that one connection had under way at once, each with its answer. Where its writes were
/// seen in the log changes nothing.
fn pipelined(operations: &[(Op, Told<Reply>)]) -> Verdict {
    let unseen = pipelined_seen(operations, |_| None);
    for seen in
        [pipelined_seen(operations, Some), pipelined_seen(operations, |number| Some(100 - number))]
    {
        assert_eq!(seen == Verdict::Linearizable, unseen == Verdict::Linearizable, "{seen:?}");
    }
    unseen
}

fn pipelined_seen(
    operations: &[(Op, Told<Reply>)],
    seen_at: impl Fn(u64) -> Option<u64>,
) -> Verdict {
    let mut history = KvHistory::default();
    let invoke = |(op, told): &(Op, Told<Reply>)| {
        let id = history.invoke_in(Some(7), 1, bytes("k"), op.clone(), Duration::ZERO);
        let number = history.operations().len() as u64;
        seen_at(number).filter(|_| !op.is_read()).into_iter().for_each(|at| history.seen(id, at));
        (id, told.clone())
    };
    let ids: Vec<_> = operations.iter().map(invoke).collect();
    ids.into_iter().for_each(|(id, told)| history.complete(id, told, Duration::ZERO));
    check(&KvModel, &history, BUDGET)
}

/// Safety E1, E2.
#[test]
fn within_a_lane_the_order_of_asking_is_the_order_of_effect() {
    let is_bad = |operations: &[_]| matches!(pipelined(operations), Verdict::Violation(_));
    let good = [(Op::Get, NOTHING), (set("a"), DONE), (set("b"), DONE), (Op::Get, value("b"))];
    assert_eq!(pipelined(&good), Verdict::Linearizable);
    assert!(is_bad(&[(set("a"), DONE), (Op::Get, NOTHING)]), "a read misses its earlier write");
    assert!(is_bad(&[(Op::Get, value("a")), (set("a"), DONE)]), "a write overtakes a read");
    let swapped = [(set("a"), DONE), (set("b"), DONE), (Op::Get, value("a"))];
    assert!(is_bad(&swapped), "a write overtakes a write");
    let late = [(set("a"), Told::Unknown), (set("b"), DONE), (Op::Get, value("a"))];
    assert_eq!(pipelined(&late), Verdict::Linearizable, "what is in doubt may come late");
    let early = [(Op::Get, NOTHING), (set("a"), Told::Unknown), (Op::Get, NOTHING)];
    assert_eq!(pipelined(&early), Verdict::Linearizable);
    assert!(is_bad(&[(Op::Get, value("a")), (set("a"), Told::Unknown)]), "before it was asked");
}

#[test]
fn many_unknown_writes_of_one_key_do_not_exhaust_the_search() {
    let mut operations = Vec::new();
    for n in 0..24 {
        operations.push((set(&format!("lost-{n}")), Told::Unknown, n, n + 1));
        operations.push((Op::Delete, Told::Unknown, n, n + 1));
    }
    for n in 30..90 {
        operations.push((set(&format!("kept-{n}")), DONE, 3 * n, 3 * n + 5));
        operations.push((Op::Get, value(&format!("kept-{n}")), 3 * n + 1, 3 * n + 5));
    }
    assert_eq!(check(&KvModel, &drawn(&operations), 50_000), Verdict::Linearizable);
    operations.push((Op::Get, value("never"), 400, 401));
    let verdict = check(&KvModel, &drawn(&operations), BUDGET);
    assert!(matches!(verdict, Verdict::Violation(_)), "{verdict:?}");
}

#[test]
fn a_small_budget_is_inconclusive() {
    let history = drawn(&[(set("a"), DONE, 0, 1), (Op::Get, value("b"), 2, 3)]);
    let verdict = check(&KvModel, &history, 1);
    assert_eq!(verdict, Verdict::Inconclusive { key: bytes("k") });
}

#[test]
fn a_violation_names_what_cannot_be_explained() {
    let Verdict::Violation(violation) =
        verdict(&[(set("a"), DONE, 0, 1), (Op::Get, value("b"), 2, 3)])
    else {
        panic!("not found");
    };
    let text = violation.to_string();
    assert!(text.contains("Set(b\"a\")") && text.contains("Get -> Done"), "{text}");
    assert_eq!((violation.explained.len(), violation.unexplained.len()), (1, 1));
}

/// A history of a real single copy: each operation takes effect at a random moment between its
/// invocation and its return, and writes are seen there; some outcomes get lost on the way to the
/// client.
fn true_history(seed: u64, operations: usize, clients: u32) -> KvHistory {
    let random = Random::new(seed, "history");
    let mut workload = Workload::new(
        Random::new(seed, "workload"),
        WorkloadOptions { keys: 2, ..Default::default() },
    );
    let mut history = KvHistory::default();
    let mut store = BTreeMap::new();
    let mut under_way = Vec::new();
    let mut places = 0;
    let mut left = operations;
    while left > 0 || !under_way.is_empty() {
        let now = Duration::from_millis(history.operations().len() as u64);
        if left > 0 && (under_way.len() as u32) < clients && random.chance(0.5) {
            left -= 1;
            let request = workload.next(0);
            let id = history.invoke(0, request.key.clone(), request.op.clone(), now);
            under_way.push((id, request, None));
        } else if !under_way.is_empty() {
            let place = random.below(under_way.len() as u64) as usize;
            match &mut under_way[place] {
                (id, request, reply @ None) => {
                    let state = store.entry(request.key.clone()).or_insert(None);
                    let (next, output) = KvModel.step(state, &request.op);
                    *state = next;
                    *reply = Some(output);
                    if !request.op.is_read() {
                        places += 1;
                        history.seen(*id, places);
                    }
                }
                (id, _, Some(reply)) => {
                    let told = match random.chance(0.03) {
                        true => Told::Unknown,
                        false => Told::Done(reply.clone()),
                    };
                    history.complete(*id, told, now);
                    under_way.swap_remove(place);
                }
            }
        }
    }
    history
}

/// The same history with other answers and other places in the log.
fn changed(
    history: &KvHistory,
    mut told: impl FnMut(&Told<Reply>) -> Told<Reply>,
    mut seen_at: impl FnMut(u64) -> Option<u64>,
) -> KvHistory {
    let mut moments: Vec<_> = Vec::new();
    for operation in history.operations() {
        moments.push((operation.invoked, false, operation));
        moments.extend(operation.returned.map(|at| (at, true, operation)));
    }
    moments.sort_by_key(|(at, ..)| *at);
    let (mut copy, mut ids) = (KvHistory::default(), BTreeMap::new());
    for (_, is_return, operation) in moments {
        let now = operation.invoked_at;
        if is_return {
            copy.complete(ids[&operation.invoked], told(&operation.told), now);
            continue;
        }
        let id = copy.invoke(0, operation.key.clone(), operation.input.clone(), now);
        ids.insert(operation.invoked, id);
        if let Some(place) = operation.seen_at.and_then(&mut seen_at) {
            copy.seen(id, place);
        }
    }
    copy
}

fn unseen(history: &KvHistory) -> KvHistory {
    changed(history, Told::clone, |_| None)
}

#[test]
fn histories_of_one_copy_are_linearizable() {
    for seed in 0..40 {
        let history = true_history(seed, 400, 8);
        assert_eq!(check(&KvModel, &history, BUDGET), Verdict::Linearizable, "seed {seed}");
        let verdict = check(&KvModel, &unseen(&history), BUDGET);
        assert_eq!(verdict, Verdict::Linearizable, "seed {seed}, unseen");
    }
}

#[test]
fn places_in_the_log_spare_the_search() {
    for seed in 0..40 {
        let history = true_history(seed, 400, 8);
        assert_eq!(check(&KvModel, &history, 0), Verdict::Linearizable, "seed {seed}");
        let verdict = check(&KvModel, &unseen(&history), 0);
        assert!(matches!(verdict, Verdict::Inconclusive { .. }), "seed {seed}: {verdict:?}");
    }
}

/// Whatever was seen, or is said to have been seen, the verdict is that of the answers alone.
#[test]
fn places_in_the_log_excuse_nothing_and_blame_nothing() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..1_000 {
        let random = Random::new(seed, "spoilt");
        let history = true_history(seed, 14, 4);
        let answers: Vec<_> = history.operations().iter().map(|it| it.told.clone()).collect();
        let spoil = random.magnitude(0.01, 0.3);
        let told = |told: &Told<Reply>| match random.chance(spoil) {
            true => random.pick(&answers).clone(),
            false => told.clone(),
        };
        let are_true = random.chance(0.5);
        let place = |place| if are_true { place } else { random.below(20) };
        let history = changed(&history, told, |it| random.chance(0.9).then(|| place(it)));
        let (seen, unseen) =
            (check(&KvModel, &history, BUDGET), check(&KvModel, &unseen(&history), BUDGET));
        let is_good = |verdict: &Verdict| *verdict == Verdict::Linearizable;
        assert_eq!(is_good(&seen), is_good(&unseen), "seed {seed}: {seen:?}, {unseen:?}");
        *if is_good(&seen) { &mut good } else { &mut bad } += 1;
    }
    assert!(good > 100 && bad > 100, "{good} good and {bad} bad ones");
}

#[test]
fn a_wrong_answer_among_right_ones_is_found() {
    let mut found = 0;
    for seed in 0..40 {
        let mut reads = 0;
        let told = |told: &Told<Reply>| {
            reads += u32::from(matches!(told, Told::Done(Reply::Value(_))));
            if reads == 20 && matches!(told, Told::Done(Reply::Value(_))) {
                return value("never written");
            }
            told.clone()
        };
        let spoilt = changed(&true_history(seed, 200, 4), told, Some);
        assert!(reads >= 20, "seed {seed} reads only {reads} times");
        match check(&KvModel, &spoilt, BUDGET) {
            Verdict::Violation(_) => found += 1,
            Verdict::Inconclusive { .. } => {}
            Verdict::Linearizable => panic!("seed {seed}: the wrong answer was explained"),
        }
    }
    assert!(found >= 38, "only {found} of 40 within the budget");
}
