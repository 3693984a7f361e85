//! What the key-value machine costs for a command: SET of 16 bytes over 100,000 keys, in a machine of one group.
//!
//! Commands that come together have their records looked up together, so the cost for one falls with their number.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use purlin_kv::{KvCommand, KvMachine, SetCondition};
use purlin_rsm::{
    ApplyContext, ClusterId, Command, EntryId, GroupEpoch, GroupId, Position, StateMachine,
    random::SplitMix,
};

const KEYS: u64 = 100_000;
const GROUP: GroupId = GroupId(1);

fn command(number: u64) -> Command {
    let key = format!("key:{number:012}");
    let set = KvCommand::Set {
        key: key.as_bytes(),
        value: b"0123456789abcdef",
        condition: SetCondition::Always,
        get: false,
    };
    Command { id: EntryId::default(), position: Position::default(), data: set.encode() }
}

fn apply(machine: &mut KvMachine, commands: &[Command], outcomes: &mut Vec<Bytes>) {
    let context = ApplyContext { group: GROUP, epoch: GroupEpoch::FIRST };
    outcomes.clear();
    machine.apply(&context, commands, outcomes);
}

fn kv_apply(criterion: &mut Criterion) {
    let mut machine = KvMachine::new(ClusterId(1), GROUP);
    let all: Vec<_> = (0..KEYS).map(command).collect();
    let mut outcomes = Vec::new();
    apply(&mut machine, &all, &mut outcomes);
    let mut random = SplitMix::new(1);
    let mut group = criterion.benchmark_group("kv apply, SET of 16 B over 100,000 keys");
    for together in [1, 16, 256] {
        group.throughput(Throughput::Elements(together));
        group.bench_function(format!("{together} together"), |bencher| {
            let draw = || (0..together).map(|_| command(random.draw() % KEYS)).collect::<Vec<_>>();
            let run = |commands: Vec<Command>| apply(&mut machine, &commands, &mut outcomes);
            bencher.iter_batched(draw, run, BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, kv_apply);
criterion_main!(benches);
