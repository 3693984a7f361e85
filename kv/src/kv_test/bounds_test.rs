//! The bounds of a machine: of its answers, and of its memory with views and without them.

use super::*;

#[test]
fn an_array_has_a_longest_size() {
    let mut machine = new_machine();
    let value = "v".repeat(VALUES_BYTES_MAX / 2);
    apply(&mut machine, set("k", &value, SetCondition::Always, false));
    let keys: StringsBuf = ["k", "k", "k"].iter().collect();
    let answer = ask(&machine, KvQuery::GetMany { keys: keys.strings() });
    assert_eq!(answer, Answer::error(ARRAY_TOO_LONG));
    let keys: StringsBuf = ["k", "absent"].iter().collect();
    let answer = ask(&machine, KvQuery::GetMany { keys: keys.strings() });
    assert_eq!(answer, Answer::Array(vec![Some(value.into_bytes()), None]));
}

#[test]
fn a_list_of_the_keys_of_a_slot_has_two_bounds() {
    const KEYS: usize = 20;
    let mut machine = new_machine();
    // Sixteen of them would be the longest list, but for the lengths beside them.
    let key = |number: usize| format!("{{t}}{number:0>width$}", width = KEY_BYTES_MAX - 3);
    for number in 0..KEYS {
        apply(&mut machine, set(&key(number), "v", SetCondition::Always, false));
    }
    apply(&mut machine, set("elsewhere", "v", SetCondition::Always, false));
    let list = |slot, most| {
        let query = KvQuery::KeysInSlot { slot, most };
        let bytes = query.encode();
        assert_eq!(KvQuery::decode(&bytes), Ok(query));
        assert_eq!(KvQuery::decode(&bytes[..bytes.len() - 1]), Err(Malformed));
        let Answer::Array(keys) = Answer::of(&machine.query(&bytes)) else { panic!("no list") };
        keys.into_iter().map(|key| key.expect("a key")).collect::<Vec<_>>()
    };
    let slot = slot_of(b"t");
    let all = list(slot, u16::MAX);
    assert_eq!(all.len(), KEYS_BYTES_MAX / KEY_BYTES_MAX - 1, "each has a length beside it");
    assert!(all.iter().all(|key| key.starts_with(b"{t}")));
    assert_eq!(list(slot, 3), all[..3]);
    assert_eq!(list(slot, 0).len() + list(slot_of(b"nothing"), 9).len(), 0);
    assert_eq!(list(slot_of(b"elsewhere"), 9), [b"elsewhere"]);
}

#[test]
fn without_memory_a_machine_admits_what_its_keys_have_room_for() {
    let mut machine = new_machine();
    assert_eq!(machine.held_bytes(), 0);
    let long = "x".repeat(100);
    apply(&mut machine, set("key", &long, SetCondition::Always, false));
    apply(&mut machine, set("number", "9", SetCondition::Always, false));
    let counter = "a counter whose name takes nearly all of the recor";
    apply(&mut machine, set(counter, "99", SetCondition::Always, false));
    let held = machine.held_bytes();
    assert!((130..1000).contains(&held), "{held}");
    let pairs = |pairs: &[&str]| pairs.iter().collect::<StringsBuf>();
    let (shorter, longer) = (pairs(&["key", "a", "number", "1"]), pairs(&["key", "a", "new", ""]));
    let (key, longest) = (b"key", "y".repeat(101));
    let admitted = [
        KvCommand::Delete { keys: shorter.strings() },
        set("key", &long, SetCondition::Always, true),
        set("number", "a short value lies in its record", SetCondition::Always, true),
        KvCommand::Append { key, value: b"" },
        KvCommand::Add { key: b"number", delta: 1 },
        KvCommand::Add { key: counter.as_bytes(), delta: 100 },
        KvCommand::SetMany { pairs: shorter.strings() },
    ];
    let refused = [
        set("key", &longest, SetCondition::Always, false),
        set("new", "", SetCondition::Absent, false),
        KvCommand::Append { key, value: b"x" },
        KvCommand::Append { key: b"number", value: b"9" },
        KvCommand::Append { key: b"new", value: b"" },
        KvCommand::Add { key: b"new", delta: 1 },
        KvCommand::Add { key: counter.as_bytes(), delta: 1000 },
        KvCommand::SetMany { pairs: longer.strings() },
    ];
    for command in admitted {
        assert!(machine.admits_when_full(&command.encode()), "{command:?}");
    }
    for command in refused {
        assert!(!machine.admits_when_full(&command.encode()), "{command:?}");
    }
    assert!(machine.admits_when_full(b"no command"), "the machine answers with an error");
    apply(&mut machine, KvCommand::Delete { keys: pairs(&["key", "number", counter]).strings() });
    assert_eq!(machine.held_bytes(), 0);
}

/// A pipeline is judged as a whole before its first command is applied.
#[test]
fn commands_that_are_admitted_together_without_memory_take_next_to_none() {
    let mut machine = new_machine();
    let long = "x".repeat(1000);
    for key in ["key", "number"] {
        apply(&mut machine, set(key, &long, SetCondition::Always, false));
    }
    // Both have room for more.
    apply(&mut machine, set("key", &long[..900], SetCondition::Always, false));
    apply(&mut machine, set("number", "9", SetCondition::Always, false));
    let full = machine.held_bytes();
    for _ in 0..100 {
        let commands = |n: usize| match n % 4 {
            0 => KvCommand::Append { key: b"key", value: &long.as_bytes()[..100] },
            1 => KvCommand::Append { key: b"number", value: b"1" },
            2 => set("number", "9", SetCondition::Always, false),
            _ => KvCommand::Add { key: b"number", delta: 9 },
        };
        let fits: Vec<_> =
            (0..16).map(|n| machine.admits_when_full(&commands(n).encode())).collect();
        for n in (0..16).filter(|n| fits[*n]) {
            apply(&mut machine, commands(n));
        }
    }
    let held = machine.held_bytes();
    assert!(held <= full + 64, "{full} bytes became {held}");
}

/// The bound of the memory rests on it: what is admitted when there is none must not need any.
#[test]
fn a_command_that_is_admitted_without_memory_takes_none() {
    let mut random = Random(SplitMix::new(7));
    let mut machine = new_machine();
    let (mut admitted, mut grew) = (0, 0);
    for _ in 0..20_000 {
        let name = format!("{}{}", "k".repeat(random.below(45)), random.below(40));
        let key = name.as_bytes();
        let longest = if random.below(3) == 0 { 300 } else { 18 };
        let value = "7".repeat(random.below(longest));
        let pairs = [name.as_str(), &value].iter().collect::<StringsBuf>();
        let names = [name.as_str()].iter().collect::<StringsBuf>();
        let command = match random.below(6) {
            0 | 1 => set(&name, &value, SetCondition::Always, false),
            2 => KvCommand::Append { key, value: value.as_bytes() },
            3 => KvCommand::Add { key, delta: 10_i64.pow(random.below(17) as u32) },
            4 => KvCommand::SetMany { pairs: pairs.strings() },
            _ => KvCommand::Delete { keys: names.strings() },
        };
        let (fits, before) = (machine.admits_when_full(&command.encode()), machine.held_bytes());
        apply(&mut machine, command);
        let after = machine.held_bytes();
        assert!(!fits || after <= before, "{before} bytes became {after}");
        admitted += usize::from(fits);
        grew += usize::from(after > before);
    }
    assert!(admitted > 2_000 && grew > 2_000, "{admitted} were admitted, {grew} grew");
}

/// A view makes writes to its keys need memory. Only deletes are admitted then, and their copies are counted and
/// bounded: all places for records may come twice.
#[test]
fn with_a_view_a_machine_without_memory_admits_what_takes_none_and_deletes() {
    let mut random = Random(SplitMix::new(3));
    let mut machine = new_machine();
    let name = |number: usize| format!("key:{number}");
    for number in 0..3_000 {
        apply(&mut machine, set(&name(number), "a value", SetCondition::Always, false));
    }
    let before = machine.held_bytes();
    let view = machine.freeze();
    let (mut refused, mut admitted) = (0, 0);
    for _ in 0..2_000 {
        let name = name(random.below(3_000));
        let names = [&name].iter().collect::<StringsBuf>();
        let command = match random.below(2) {
            0 => set(&name, "another", SetCondition::Always, false),
            _ => KvCommand::Delete { keys: names.strings() },
        };
        let fits = machine.admits_when_full(&command.encode());
        let held = machine.held_bytes();
        if fits {
            apply(&mut machine, command);
        }
        let is_delete = matches!(command, KvCommand::Delete { .. });
        assert!(is_delete || machine.held_bytes() == held, "a SET took memory");
        admitted += usize::from(fits && !is_delete);
        refused += usize::from(!fits);
    }
    assert!(refused > 0 && admitted > 100, "{refused} were refused, {admitted} admitted");
    let held = machine.held_bytes();
    assert!((before + 1..before * 21 / 10).contains(&held), "{before} bytes became {held}");
    assert_eq!(view.len(), 3_000);
    drop(view);
    assert!(machine.held_bytes() <= before);
}

/// A view and a walk are of use through the machine.
#[test]
fn a_machine_is_walked_and_frozen() {
    let mut machine = new_machine();
    let long = "x".repeat(100);
    for (key, value) in [("a", "1"), ("b", &long), ("c", "3")] {
        apply(&mut machine, set(key, value, SetCondition::Always, false));
    }
    let owned = |portion: KvPortion<'_>| {
        let pairs = portion.pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
        (pairs.collect::<Vec<_>>(), portion.next)
    };
    let (start, all) = (KvCursor::default(), 1 << 20);
    let before = owned(machine.walk(&start, 10, all));
    assert_eq!((before.0.len(), &before.1), (3, &None));
    let view = machine.freeze();
    apply(&mut machine, KvCommand::Append { key: b"b", value: b"y" });
    apply(&mut machine, set("d", "4", SetCondition::Always, false));
    assert_eq!(owned(view.walk(&start, 10, all)), before);
    assert_eq!((view.len(), view.is_empty(), machine.len()), (3, false, 4));
    // One record at a time.
    let (mut pairs, mut next) = (Vec::new(), Some(start));
    while let Some(cursor) = next {
        let (one, behind) = owned(view.walk(&cursor, 1, all));
        pairs.extend(one);
        next = behind;
    }
    assert_eq!(pairs, before.0);
}
