//! The key-value machine against a naive map, against arbitrary bytes, and against itself.

mod bounds_test;

use super::*;
use purlin_rsm::{EntryId, GroupEpoch, GroupId, Position, random::SplitMix};
use std::collections::BTreeMap;

const CONTEXT: ApplyContext = ApplyContext { group: GroupId(1), epoch: GroupEpoch::FIRST };

fn new_machine() -> KvMachine {
    KvMachine::new(ClusterId(1), CONTEXT.group)
}

/// An outcome that owns its bytes, and says what it means when a test fails.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Answer {
    Nil,
    Ok,
    Integer(i64),
    Bytes(Vec<u8>),
    Array(Vec<Option<Vec<u8>>>),
    Error(String),
}

impl Answer {
    fn of(bytes: &Bytes) -> Self {
        match KvOutcome::decode(bytes).expect("an outcome") {
            KvOutcome::Nil => Self::Nil,
            KvOutcome::Ok => Self::Ok,
            KvOutcome::Integer(number) => Self::Integer(number),
            KvOutcome::Bytes(value) => Self::Bytes(value.to_vec()),
            KvOutcome::Array(values) => {
                assert_eq!(values.iter().count(), values.len());
                Self::Array(values.iter().map(|value| value.map(<[u8]>::to_vec)).collect())
            }
            KvOutcome::Error(text) => Self::error(std::str::from_utf8(text).expect("text")),
        }
    }

    fn error(text: &str) -> Self {
        Self::Error(text.into())
    }

    fn bytes(value: &str) -> Self {
        Self::Bytes(value.into())
    }
}

fn apply_bytes(machine: &mut KvMachine, commands: &[Bytes]) -> Vec<Bytes> {
    let commands: Vec<_> = commands
        .iter()
        .map(|data| Command {
            id: EntryId::default(),
            position: Position::default(),
            data: data.clone(),
        })
        .collect();
    let mut outcomes = Vec::new();
    machine.apply(&CONTEXT, &commands, &mut outcomes);
    assert_eq!(outcomes.len(), commands.len(), "one outcome for each command");
    outcomes
}

fn apply(machine: &mut KvMachine, command: KvCommand<'_>) -> Answer {
    Answer::of(&apply_bytes(machine, &[command.encode()])[0])
}

fn ask(machine: &KvMachine, query: KvQuery<'_>) -> Answer {
    Answer::of(&machine.query(&query.encode()))
}

fn set<'a>(key: &'a str, value: &'a str, condition: SetCondition<'a>, get: bool) -> KvCommand<'a> {
    KvCommand::Set { key: key.as_bytes(), value: value.as_bytes(), condition, get }
}

fn get(machine: &KvMachine, key: &str) -> Answer {
    ask(machine, KvQuery::Get { key: key.as_bytes() })
}

fn add(machine: &mut KvMachine, key: &str, delta: i64) -> Answer {
    apply(machine, KvCommand::Add { key: key.as_bytes(), delta })
}

fn append(machine: &mut KvMachine, key: &str, value: &str) -> Answer {
    apply(machine, KvCommand::Append { key: key.as_bytes(), value: value.as_bytes() })
}

#[test]
fn set_obeys_its_condition() {
    use SetCondition::{Absent, Always, Equal, Present};
    let mut machine = new_machine();
    let mut run = |command| apply(&mut machine, command);
    assert_eq!(run(set("k", "1", Present, false)), Answer::Nil);
    assert_eq!(run(set("k", "1", Equal(b""), false)), Answer::Nil);
    assert_eq!(run(set("k", "1", Absent, false)), Answer::Ok);
    assert_eq!(run(set("k", "2", Absent, false)), Answer::Nil);
    assert_eq!(run(set("k", "3", Present, false)), Answer::Ok);
    assert_eq!(run(set("k", "4", Equal(b"2"), false)), Answer::Nil);
    assert_eq!(run(set("k", "4", Equal(b"3"), false)), Answer::Ok);
    assert_eq!(run(set("k", "5", Always, false)), Answer::Ok);
    assert_eq!(get(&machine, "k"), Answer::bytes("5"));
}

#[test]
fn set_with_get_answers_the_old_value_whether_or_not_it_sets() {
    use SetCondition::{Absent, Always, Equal};
    let mut machine = new_machine();
    let mut run = |command| apply(&mut machine, command);
    assert_eq!(run(set("k", "1", Absent, true)), Answer::Nil);
    assert_eq!(run(set("k", "2", Absent, true)), Answer::bytes("1"));
    assert_eq!(run(set("k", "2", Always, true)), Answer::bytes("1"));
    assert_eq!(run(set("k", "3", Equal(b"0"), true)), Answer::bytes("2"));
    assert_eq!(run(set("k", "3", Equal(b"2"), true)), Answer::bytes("2"));
    assert_eq!(get(&machine, "k"), Answer::bytes("3"));
}

/// Some hundred bytes in the log would be answered 8 GiB at each replica, all of it made at once.
#[test]
fn commands_that_change_nothing_are_answered_a_bounded_number_of_old_bytes_at_a_time() {
    let mut machine = new_machine();
    let value = "v".repeat(VALUE_BYTES_MAX / 2);
    apply(&mut machine, set("k", &value, SetCondition::Always, false));
    let refused = set("k", "x", SetCondition::Absent, true).encode();
    let changes =
        [set("k", "x", SetCondition::Present, true), set("k", "y", SetCondition::Always, true)];
    let commands = [vec![refused.clone(); 1_000], changes.map(|it| it.encode()).to_vec()].concat();
    for round in 0..2 {
        let before = machine.digest();
        let outcomes = apply_bytes(&mut machine, &commands[..1_000]);
        assert_eq!(machine.digest(), before);
        let bytes: usize = outcomes.iter().map(Bytes::len).sum();
        assert!(bytes < VALUES_BYTES_MAX + 200 * outcomes.len(), "round {round}: {bytes} bytes");
        let answers: Vec<_> = outcomes.iter().map(Answer::of).collect();
        assert_eq!(answers[..3], vec![Answer::bytes(&value); 3]);
        assert_eq!(answers[3..], vec![Answer::error(OLD_VALUES_TOO_LONG); 997]);
    }
    // What sets is answered, whatever came before it.
    let answers: Vec<_> = apply_bytes(&mut machine, &commands).iter().map(Answer::of).collect();
    assert_eq!(answers[1_000..], [Answer::bytes(&value), Answer::bytes("x")]);
    assert_eq!(get(&machine, "k"), Answer::bytes("y"));
}

/// Such a command shares no batch with those of other clients on its way to the leader.
#[test]
fn a_command_that_answers_a_value_is_known_by_its_bytes() {
    use SetCondition::{Absent, Always, Equal};
    for condition in [Always, Absent, Equal(b"old")] {
        assert!(answers_a_value(&set("k", "v", condition, true).encode()));
        assert!(!answers_a_value(&set("k", "v", condition, false).encode()));
    }
    let append = KvCommand::Append { key: b"k", value: b"v" };
    let add = KvCommand::Add { key: b"k", delta: i64::MAX };
    for command in [append, add] {
        assert!(!answers_a_value(&command.encode()), "{command:?}");
    }
    assert!(!answers_a_value(&[]));
}

#[test]
fn incr_refuses_what_is_no_integer_and_what_overflows() {
    let mut machine = new_machine();
    assert_eq!(add(&mut machine, "n", 5), Answer::Integer(5));
    assert_eq!(add(&mut machine, "n", -7), Answer::Integer(-2));
    assert_eq!(add(&mut machine, "n", i64::MIN), Answer::error(OVERFLOW));
    assert_eq!(get(&machine, "n"), Answer::bytes("-2"));
    for text in [" 1", "1 ", "+1", "01", "-0", "", "-", "1.0", "9223372036854775808", "abc"] {
        apply(&mut machine, set("t", text, SetCondition::Always, false));
        assert_eq!(add(&mut machine, "t", 1), Answer::error(NOT_AN_INTEGER), "{text:?}");
        assert_eq!(get(&machine, "t"), Answer::bytes(text));
    }
    for number in [i64::MIN, -1, 0, 1, i64::MAX] {
        apply(&mut machine, set("t", &number.to_string(), SetCondition::Always, false));
        assert_eq!(add(&mut machine, "t", 0), Answer::Integer(number));
    }
}

#[test]
fn append_stops_at_the_longest_value() {
    let mut machine = new_machine();
    let long = "x".repeat(VALUE_BYTES_MAX - 1);
    assert_eq!(append(&mut machine, "k", &long), Answer::Integer(VALUE_BYTES_MAX as i64 - 1));
    assert_eq!(append(&mut machine, "k", "yz"), Answer::error(TOO_LONG));
    assert_eq!(append(&mut machine, "k", "y"), Answer::Integer(VALUE_BYTES_MAX as i64));
    let length = ask(&machine, KvQuery::Length { key: b"k" });
    assert_eq!(length, Answer::Integer(VALUE_BYTES_MAX as i64));
}

#[test]
fn lengths_beyond_the_limits_change_nothing() {
    let mut machine = new_machine();
    let key = "k".repeat(KEY_BYTES_MAX);
    let value = "v".repeat(VALUE_BYTES_MAX);
    let always = SetCondition::Always;
    assert_eq!(apply(&mut machine, set(&key, &value, always, false)), Answer::Ok);
    let before = (machine.digest(), machine.held_bytes());

    let (longer_key, longer_value) = (key + "k", value + "v");
    let answer = apply(&mut machine, set(&longer_key, "", always, false));
    assert_eq!(answer, Answer::error(KEY_TOO_LONG));
    let answer = apply(&mut machine, set("k", &longer_value, always, false));
    assert_eq!(answer, Answer::error(TOO_LONG));
    let pairs: StringsBuf = ["a", "1", &longer_key, "2"].iter().collect();
    let answer = apply(&mut machine, KvCommand::SetMany { pairs: pairs.strings() });
    assert_eq!(answer, Answer::error(KEY_TOO_LONG), "and a is not set");
    assert_eq!(add(&mut machine, &longer_key, 1), Answer::error(KEY_TOO_LONG));
    assert_eq!((machine.digest(), machine.held_bytes()), before);
}

#[test]
fn equal_contents_have_equal_digests_whatever_led_there() {
    let mut one = new_machine();
    let mut other = new_machine();
    let always = SetCondition::Always;
    for key in ["a", "b", "c"] {
        apply(&mut one, set(key, "some longer value of it", always, false));
    }
    for key in ["c", "x", "b", "a"] {
        append(&mut other, key, "some lon");
        append(&mut other, key, "ger");
        append(&mut other, key, " value of it");
    }
    assert_ne!(one.digest(), other.digest());
    let keys: StringsBuf = ["x", "x", "y"].iter().collect();
    let answer = apply(&mut other, KvCommand::Delete { keys: keys.strings() });
    assert_eq!(answer, Answer::Integer(1));
    assert_eq!(one, other);
    assert_eq!(one.digest(), other.digest(), "equal contents have equal digests");

    // Neither may a pair trade values with another, nor key with value.
    let digest_of = |pairs: &[(&str, &str)]| {
        let mut machine = new_machine();
        for (key, value) in pairs {
            apply(&mut machine, set(key, value, always, false));
        }
        machine.digest()
    };
    assert_ne!(digest_of(&[("a", "1"), ("b", "2")]), digest_of(&[("a", "2"), ("b", "1")]));
    assert_ne!(digest_of(&[("a", "b")]), digest_of(&[("b", "a")]));
    assert_ne!(digest_of(&[("a", "")]), digest_of(&[("a", "\0")]));
    assert_ne!(digest_of(&[("a", "")]), digest_of(&[]));
    assert_ne!(digest_of(&[("", "")]), digest_of(&[]));
}

#[test]
fn every_command_decodes_to_itself_and_no_prefix_of_it_decodes() {
    let mut random = Random(SplitMix::new(7));
    for _ in 0..2_000 {
        let step = Step::draw(&mut random);
        let strings = step.strings();
        let bytes = match step.command(&strings) {
            Ok(command) => {
                let bytes = command.encode();
                assert_eq!(KvCommand::decode(&bytes), Ok(command));
                bytes
            }
            Err(query) => {
                let bytes = query.encode();
                assert_eq!(KvQuery::decode(&bytes), Ok(query));
                bytes
            }
        };
        for end in 0..bytes.len() {
            assert_eq!(KvCommand::decode(&bytes[..end]), Err(Malformed));
            assert_eq!(KvQuery::decode(&bytes[..end]), Err(Malformed));
        }
        let longer = [&bytes[..], b"\0"].concat();
        assert_eq!(KvCommand::decode(&longer), Err(Malformed));
        assert_eq!(KvQuery::decode(&longer), Err(Malformed));
    }
}

#[test]
fn outcomes_decode_to_themselves() {
    let mut values = ValuesBuf::default();
    for value in [Some(&b"a"[..]), None, Some(b"")] {
        values.push(value);
    }
    let none = ValuesBuf::default();
    let outcomes = [
        KvOutcome::Nil,
        KvOutcome::Ok,
        KvOutcome::Integer(i64::MIN),
        KvOutcome::Bytes(b""),
        KvOutcome::Bytes(b"\r\n"),
        KvOutcome::Error(b"ERR text"),
        KvOutcome::Array(values.values()),
        KvOutcome::Array(none.values()),
    ];
    for outcome in outcomes {
        assert_eq!(KvOutcome::decode(&outcome.encode()), Ok(outcome));
    }
}

#[test]
fn numbers_have_one_encoding_each() {
    for (bytes, number) in [
        (&[0][..], Ok(0)),
        (&[0x7f], Ok(127)),
        (&[0x80, 1], Ok(128)),
        (&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX)),
        (&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(Malformed)),
        (&[0x80, 0], Err(Malformed)),
        (&[0x80, 0x80, 0x80, 0x80, 0x80, 1], Err(Malformed)),
        (&[0x80], Err(Malformed)),
        (&[], Err(Malformed)),
    ] {
        assert_eq!(wire::Input(bytes).number(), number, "{bytes:?}");
        if let Ok(number) = number {
            let mut encoded = Vec::new();
            wire::put_number(&mut encoded, number);
            assert_eq!(encoded, bytes);
        }
    }
}

#[test]
fn a_count_of_billions_is_malformed_and_costs_nothing() {
    for kind in 0..=255 {
        let bytes = [1, kind, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        assert_eq!(KvCommand::decode(&bytes), Err(Malformed));
        assert_eq!(KvQuery::decode(&bytes), Err(Malformed));
        assert_eq!(KvOutcome::decode(&[&[4][..], &bytes[2..]].concat()), Err(Malformed));
    }
}

/// Whatever a log holds, two replicas answer the same, hold the same, and go on.
#[test]
fn arbitrary_commands_are_answered_alike_by_every_replica() {
    let mut random = Random(SplitMix::new(1));
    let (mut one, mut other) = (new_machine(), new_machine());
    let mut malformed = 0;
    for _ in 0..20_000 {
        let bytes = random.damaged_command();
        let outcome = apply_bytes(&mut one, std::slice::from_ref(&bytes)).remove(0);
        assert_eq!(
            apply_bytes(&mut other, std::slice::from_ref(&bytes)),
            std::slice::from_ref(&outcome)
        );
        malformed += usize::from(Answer::of(&outcome) == Answer::error(MALFORMED_COMMAND));
        assert_eq!(one.query(&bytes), other.query(&bytes));
        let _ = KvOutcome::decode(&bytes);
    }
    assert_eq!(one, other);
    assert!((1..20_000).contains(&malformed), "{malformed} malformed of 20,000");
}

#[test]
fn it_answers_as_a_naive_map_does() {
    for seed in 0..20 {
        let mut random = Random(SplitMix::new(seed));
        let mut model = Model::default();
        let (mut machine, mut batched) = (new_machine(), new_machine());
        let mut commands = Vec::new();
        for _ in 0..1_000 {
            let step = Step::draw(&mut random);
            let strings = step.strings();
            let answer = match step.command(&strings) {
                Ok(command) => {
                    commands.push(command.encode());
                    apply(&mut machine, command)
                }
                Err(query) => ask(&machine, query),
            };
            assert_eq!(answer, model.run(&step), "seed {seed}, {step:?}");
        }
        assert_eq!(machine.len(), model.0.len());
        apply_bytes(&mut batched, &commands);
        assert_eq!(machine, batched, "seed {seed}: the size of a batch changes nothing");
        assert_eq!(machine.digest(), model.rebuilt().digest(), "seed {seed}");
    }
}

/// One request, owned.
#[derive(Clone, Debug)]
enum Step {
    Set(Vec<u8>, Vec<u8>, Condition, bool),
    Append(Vec<u8>, Vec<u8>),
    Delete(Vec<Vec<u8>>),
    Add(Vec<u8>, i64),
    SetMany(Vec<Vec<u8>>),
    Get(Vec<u8>),
    Length(Vec<u8>),
    Exist(Vec<Vec<u8>>),
    GetMany(Vec<Vec<u8>>),
    Count,
    CountInSlot(u16),
}

#[derive(Clone, Debug)]
enum Condition {
    Always,
    Absent,
    Present,
    Equal(Vec<u8>),
}

impl Step {
    fn draw(random: &mut Random) -> Self {
        match random.below(11) {
            0 => Self::Set(random.key(), random.value(), random.condition(), random.below(2) == 0),
            1 => Self::Append(random.key(), random.value()),
            2 => Self::Delete(random.keys()),
            3 => Self::Add(random.key(), random.delta()),
            4 => {
                let pairs = random.keys().into_iter().flat_map(|key| [key, random.value()]);
                Self::SetMany(pairs.collect())
            }
            5 => Self::Get(random.key()),
            6 => Self::Length(random.key()),
            7 => Self::Exist(random.keys()),
            8 => Self::GetMany(random.keys()),
            9 => Self::CountInSlot(slot_of(&random.key())),
            _ => Self::Count,
        }
    }

    fn strings(&self) -> StringsBuf {
        match self {
            Self::Delete(strings)
            | Self::SetMany(strings)
            | Self::Exist(strings)
            | Self::GetMany(strings) => strings.iter().collect(),
            _ => StringsBuf::default(),
        }
    }

    /// As a command, or else as a query.
    fn command<'a>(&'a self, strings: &'a StringsBuf) -> Result<KvCommand<'a>, KvQuery<'a>> {
        let strings = strings.strings();
        Ok(match self {
            Self::Set(key, value, condition, get) => {
                KvCommand::Set { key, value, condition: condition.lent(), get: *get }
            }
            Self::Append(key, value) => KvCommand::Append { key, value },
            Self::Delete(_) => KvCommand::Delete { keys: strings },
            Self::Add(key, delta) => KvCommand::Add { key, delta: *delta },
            Self::SetMany(_) => KvCommand::SetMany { pairs: strings },
            Self::Get(key) => return Err(KvQuery::Get { key }),
            Self::Length(key) => return Err(KvQuery::Length { key }),
            Self::Exist(_) => return Err(KvQuery::Exist { keys: strings }),
            Self::GetMany(_) => return Err(KvQuery::GetMany { keys: strings }),
            Self::Count => return Err(KvQuery::Count),
            &Self::CountInSlot(slot) => return Err(KvQuery::CountInSlot { slot }),
        })
    }
}

impl Condition {
    fn lent(&self) -> SetCondition<'_> {
        match self {
            Self::Always => SetCondition::Always,
            Self::Absent => SetCondition::Absent,
            Self::Present => SetCondition::Present,
            Self::Equal(old) => SetCondition::Equal(old),
        }
    }
}

/// What a reader of Redis' documentation would write.
#[derive(Default)]
struct Model(BTreeMap<Vec<u8>, Vec<u8>>);

impl Model {
    fn run(&mut self, step: &Step) -> Answer {
        match step {
            Step::Set(key, value, condition, get) => {
                let old = self.0.get(key).cloned();
                let sets = match condition {
                    Condition::Always => true,
                    Condition::Absent => old.is_none(),
                    Condition::Present => old.is_some(),
                    Condition::Equal(expected) => old.as_ref() == Some(expected),
                };
                if sets {
                    self.0.insert(key.clone(), value.clone());
                }
                match (get, sets) {
                    (true, _) => old.map_or(Answer::Nil, Answer::Bytes),
                    (false, true) => Answer::Ok,
                    (false, false) => Answer::Nil,
                }
            }
            Step::Append(key, value) => {
                let whole = self.0.entry(key.clone()).or_default();
                whole.extend(value);
                Answer::Integer(whole.len() as i64)
            }
            Step::Delete(keys) => Answer::Integer(
                keys.iter().filter(|key| self.0.remove(*key).is_some()).count() as i64,
            ),
            Step::Add(key, delta) => self.add(key, *delta),
            Step::SetMany(pairs) => {
                for pair in pairs.chunks(2) {
                    self.0.insert(pair[0].clone(), pair[1].clone());
                }
                Answer::Ok
            }
            Step::Get(key) => self.0.get(key).cloned().map_or(Answer::Nil, Answer::Bytes),
            Step::Length(key) => Answer::Integer(self.0.get(key).map_or(0, Vec::len) as i64),
            Step::Exist(keys) => {
                Answer::Integer(keys.iter().filter(|key| self.0.contains_key(*key)).count() as i64)
            }
            Step::GetMany(keys) => {
                Answer::Array(keys.iter().map(|key| self.0.get(key).cloned()).collect())
            }
            Step::Count => Answer::Integer(self.0.len() as i64),
            Step::CountInSlot(slot) => {
                Answer::Integer(self.0.keys().filter(|key| slot_of(key) == *slot).count() as i64)
            }
        }
    }

    fn add(&mut self, key: &[u8], delta: i64) -> Answer {
        let text = self.0.get(key).map_or("0".into(), |old| String::from_utf8_lossy(old));
        let Some(number) = text.parse::<i64>().ok().filter(|number| number.to_string() == text)
        else {
            return Answer::error(NOT_AN_INTEGER);
        };
        let Some(sum) = number.checked_add(delta) else { return Answer::error(OVERFLOW) };
        self.0.insert(key.to_vec(), sum.to_string().into_bytes());
        Answer::Integer(sum)
    }

    /// A machine that never knew more than what is there now.
    fn rebuilt(&self) -> KvMachine {
        let mut machine = new_machine();
        for (key, value) in &self.0 {
            apply(&mut machine, KvCommand::Append { key, value });
        }
        machine
    }
}

struct Random(SplitMix);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.draw()
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Few keys, so that they meet again; the empty one and a binary one are among them.
    fn key(&mut self) -> Vec<u8> {
        match self.below(12) {
            0 => Vec::new(),
            1 => vec![0, 255, b'\r', b'\n'],
            number => format!("key {number}").into_bytes(),
        }
    }

    fn keys(&mut self) -> Vec<Vec<u8>> {
        (0..self.below(5)).map(|_| self.key()).collect()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.below(4) {
            0 => self.delta().to_string().into_bytes(),
            1 => self.below(3).to_string().into_bytes(),
            2 => Vec::new(),
            _ => {
                let len = self.below(200);
                self.bytes(len)
            }
        }
    }

    fn delta(&mut self) -> i64 {
        match self.below(4) {
            0 => i64::MAX,
            1 => self.next() as i64,
            _ => self.below(100) as i64 - 50,
        }
    }

    fn condition(&mut self) -> Condition {
        match self.below(4) {
            0 => Condition::Always,
            1 => Condition::Absent,
            2 => Condition::Present,
            _ => Condition::Equal(self.value()),
        }
    }

    /// Bytes that are nothing, or a command of which some byte is another, or a part of one.
    fn damaged_command(&mut self) -> Bytes {
        let step = Step::draw(self);
        let strings = step.strings();
        let whole = match step.command(&strings) {
            Ok(command) => command.encode(),
            Err(query) => query.encode(),
        };
        let mut bytes = whole.to_vec();
        match self.below(4) {
            0 => {
                let len = self.below(40);
                bytes = self.bytes(len);
            }
            1 => {
                let place = self.below(bytes.len());
                bytes[place] = self.next() as u8;
            }
            2 => bytes.truncate(self.below(bytes.len())),
            _ => {}
        }
        bytes.into()
    }
}

#[test]
fn a_limit_is_named_with_its_number() {
    for (text, number) in [
        (KEY_TOO_LONG, format!("{} KiB", KEY_BYTES_MAX >> 10)),
        (TOO_LONG, format!("{} MiB", VALUE_BYTES_MAX >> 20)),
        (ARRAY_TOO_LONG, format!("{} MiB", VALUES_BYTES_MAX >> 20)),
    ] {
        assert!(text.contains(&number), "{text}");
    }
}
