//! What the key-value machine costs for a command: SET of 16 bytes over 100,000 keys, in a machine of one group.
//!
//! Commands that come together have their records looked up together, so the cost for one falls with their number.

mod kv_machine;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kv_machine::{KEYS, apply, command, machine};
use purlin_rsm::{Command, random::SplitMix};

fn kv_apply(criterion: &mut Criterion) {
    let mut machine = machine();
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
