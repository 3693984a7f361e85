//! The targets of the fuzzer over the corpus that is committed: each file whole, and cut short.

use bytes::Bytes;
use purlin::{
    ApplyContext, ClusterId, Command, EntryId, GroupEpoch, GroupId, Position, StateMachine,
};
use purlin_kv::{KvCommand, KvMachine, SetCondition, StringsBuf};
use purlin_tests::fuzz::{self, Counting, held_by};
use std::{fs, path::Path};

#[global_allocator]
static COUNTING: Counting = Counting;

/// A file is run whole and cut at so many places.
const CUTS: usize = 32;

/// Runs `target` over its corpus, which has at least `least` files.
fn run(name: &str, least: usize, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= least, "{} files in {folder:?}", paths.len());
    for path in paths {
        let data = fs::read(&path).expect("readable");
        println!("{}", path.display());
        for cut in (0..=CUTS).map(|cut| data.len() * cut / CUTS) {
            target(&data[..cut]);
        }
    }
}

#[test]
fn requests_of_clients() {
    run("resp", 10, fuzz::resp);
}

#[test]
fn frames_of_peers() {
    run("frames", 20, fuzz::frames);
}

#[test]
fn batches_of_the_wal() {
    run("wal", 10, fuzz::wal);
}

#[test]
fn configuration_files() {
    run("config", 10, fuzz::config);
}

#[test]
fn commands_of_the_key_value_machine() {
    run("command", 10, fuzz::command);
}

fn apply(machine: &mut KvMachine, command: &KvCommand<'_>) {
    let context = ApplyContext { group: GroupId(1), epoch: GroupEpoch::FIRST };
    let (id, position) = (EntryId::default(), Position(0));
    let command = Command { id, position, data: command.encode() };
    machine.apply(&context, &[command], &mut Vec::<Bytes>::new());
}

fn set(machine: &mut KvMachine, key: &str, value: &[u8]) {
    let (key, condition) = (key.as_bytes(), SetCondition::Always);
    apply(machine, &KvCommand::Set { key, value, condition, get: false });
}

/// `kv.max_memory` rests on what the machine says that it holds. The allocator says what it really takes, without
/// its own headers.
#[test]
fn what_keys_and_values_take_in_memory_is_told_within_a_fifth() {
    const KEYS: usize = 4_000;
    for length in [0, 16, 100, 1000] {
        let value = vec![7; length];
        let fill = || {
            let mut machine = KvMachine::new(ClusterId(1), GroupId(1));
            (0..KEYS).for_each(|n| set(&mut machine, &format!("key:{n:08}"), &value));
            machine
        };
        let (real, mut machine) = held_by(fill);
        let told = machine.held_bytes();
        let ratio = told as f64 / real as f64;
        println!("{length} B: {} B a key, told {}", real / KEYS, told / KEYS);
        assert!((0.9..1.2).contains(&ratio), "{told} bytes are told and {real} taken: {length}");
        // Values change their length, and keys go.
        (0..KEYS).for_each(|n| set(&mut machine, &format!("key:{n:08}"), &[1; 40]));
        let names: StringsBuf = (0..KEYS).map(|n| format!("key:{n:08}")).collect();
        apply(&mut machine, &KvCommand::Delete { keys: names.strings() });
        assert_eq!((machine.len(), machine.held_bytes()), (0, 0), "all is given back");
    }
}
