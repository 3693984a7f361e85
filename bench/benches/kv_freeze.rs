//! What a frozen view of the key-value machine costs: to make it, and for the SETs while it lives. SETs of 16 bytes over
//! 100,000 keys, 16 together, in a machine of one group.
//!
//! `copying` is the worst case: each SET comes to a machine that was just frozen, so nearly each copies a bucket. `copied` is
//! what SETs cost when all buckets have been copied.

mod kv_machine;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kv_machine::{KEYS, apply, command, machine};
use purlin_rsm::{Command, random::SplitMix};

const TOGETHER: u64 = 16;

fn kv_freeze(criterion: &mut Criterion) {
    let mut machine = machine();
    let all: Vec<_> = (0..KEYS).map(command).collect();
    let mut outcomes = Vec::new();
    apply(&mut machine, &all, &mut outcomes);
    let mut random = SplitMix::new(1);
    let mut draw = || (0..TOGETHER).map(|_| command(random.draw() % KEYS)).collect::<Vec<_>>();
    let mut group = criterion.benchmark_group("kv freeze, 100,000 keys");
    // Of buckets that were written to since the last view.
    group.bench_function("freeze", |bencher| {
        let (machine, outcomes) = (std::cell::RefCell::new(&mut machine), &mut outcomes);
        let setup = || apply(&mut machine.borrow_mut(), &all, outcomes);
        bencher.iter_batched(setup, |()| machine.borrow_mut().freeze(), BatchSize::PerIteration);
    });
    group.throughput(Throughput::Elements(TOGETHER));
    group.bench_function("SET without a view", |bencher| {
        let run = |commands: Vec<Command>| apply(&mut machine, &commands, &mut outcomes);
        bencher.iter_batched(&mut draw, run, BatchSize::LargeInput);
    });
    group.bench_function("SET copying", |bencher| {
        let machine = std::cell::RefCell::new(&mut machine);
        let setup = || (machine.borrow_mut().freeze(), draw());
        let run = |(view, commands): (_, Vec<Command>)| {
            apply(&mut machine.borrow_mut(), &commands, &mut outcomes);
            view
        };
        bencher.iter_batched(setup, run, BatchSize::PerIteration);
    });
    group.bench_function("SET copied", |bencher| {
        let view = machine.freeze();
        apply(&mut machine, &all, &mut outcomes);
        let run = |commands: Vec<Command>| apply(&mut machine, &commands, &mut outcomes);
        bencher.iter_batched(&mut draw, run, BatchSize::LargeInput);
        drop(view);
    });
    group.finish();
}

criterion_group!(benches, kv_freeze);
criterion_main!(benches);
