//! The rules W1 to W10 of the design, one by one, and what a WAL promises beside them.

use crate::{
    Batch, Durability, StorageError, SubmitError, Wal, WalConfig,
    align::BLOCK,
    batch::{self, Kind, Seed, Stamp},
    directory,
    index::Location,
    live::Live,
    pace::Pace,
    record,
    reserve::{Prepared, Reserve},
    segment::{self, FirstBlock},
    testing::{
        Event, Faults, Harness, MemoryDisk, Random, append, counter, entries, hard_state, identity,
        small,
    },
};
use purlin_rsm::{
    BootId, Entry, EntryId, GroupId, HardState, Incarnation, Index, NodeId, PeerMemory, Position,
    Sequence, ShardId, Term,
};
use std::{collections::BTreeSet, io::ErrorKind, time::Duration};

fn on_sync() -> WalConfig {
    WalConfig { durability: Durability::OnSync, ..small() }
}

fn closed(disk: MemoryDisk) -> Harness {
    Harness::on(disk, small(), 99)
}

/// Submits `count` batches of a block each, which go to the device side by side.
fn submit_side_by_side(h: &mut Harness, group: u32, indices: std::ops::Range<u64>) {
    for index in indices {
        h.submit(append(group, 1, index..index + 1, 10));
    }
}

fn newest(disk: &MemoryDisk) -> (String, segment::Header) {
    let headers = disk.files().into_iter().filter_map(|name| {
        match segment::parse(&disk.bytes(&name)[..BLOCK]) {
            FirstBlock::Header(header) => Some((name, header)),
            _ => None,
        }
    });
    headers.max_by_key(|(_, header)| header.sequence).unwrap()
}

/// The batch headers in a file, with their positions.
fn batches(disk: &MemoryDisk, name: &str) -> Vec<(u64, batch::Header)> {
    let bytes = disk.bytes(name);
    let blocks = bytes.chunks(BLOCK).enumerate();
    let found = blocks.filter_map(|(at, block)| {
        Some(((at * BLOCK) as u64, batch::parse(block, Seed::new(&identity()))?))
    });
    found.collect()
}

fn last_index(recovered: &crate::Recovered, group: u32) -> u64 {
    recovered.groups.get(&GroupId(group)).map_or(0, |group| group.last.0)
}

// ---- What it is for

#[test]
fn a_start_recovers_what_was_written() {
    for config in [small(), on_sync()] {
        let mut h = Harness::new(config, 1);
        h.write(hard_state(1, 3, 2));
        h.write(append(1, 3, 1..6, 100));
        let kept = h.wal().durable();
        let recovered = h.reopen().unwrap();
        let group = &recovered.groups[&GroupId(1)];
        assert_eq!((group.hard_state.term, group.hard_state.vote), (Term(3), Some(NodeId(2))));
        assert_eq!((group.floor, group.last), (EntryId::default(), Index(5)));
        assert_eq!(group.terms, [(Index(1), Term(3))]);
        assert_eq!(group.tail, entries(3, 1..6, 100));
        assert_eq!(recovered.start.kept, kept);
        assert_eq!(recovered.cut, None);
        assert_eq!(h.read(1, 2..5), entries(3, 2..5, 100));
    }
}

/// B83: what is appended behind a bad tail is found by the next recovery, and the next.
#[test]
fn a_start_recovers_what_was_written_after_an_earlier_recovery() {
    let mut h = Harness::new(small(), 2);
    for round in 0..20 {
        h.write(append(1, 1, round * 3 + 1..round * 3 + 4, 500));
        let recovered = h.reopen().unwrap();
        assert_eq!(last_index(&recovered, 1), round * 3 + 3);
        assert_eq!(recovered.start.number, round + 2);
    }
    assert_eq!(h.read(1, 1..61), entries(1, 1..61, 500));
    let recovered = h.reopen().unwrap();
    assert_eq!(recovered.starts.len(), 16);
    assert!(recovered.starts.windows(2).all(|two| two[0].number + 1 == two[1].number));
    assert_eq!(recovered.starts.last(), Some(&recovered.start));
    assert!(recovered.starts.windows(2).all(|two| two[0].kept < two[1].kept));
}

#[test]
fn a_large_batch_spans_segments() {
    let mut h = Harness::new(small(), 3);
    h.write(append(1, 1, 1..200, 1000));
    assert!(h.wal().stats().rotations >= 3);
    assert_eq!(last_index(&h.reopen().unwrap(), 1), 199);
    assert_eq!(h.read(1, 1..200), entries(1, 1..200, 1000));
}

/// Pages for followers and machines wait in memory: a short one must not keep the whole batch there.
#[test]
fn a_short_read_of_a_long_run_keeps_only_what_was_read() {
    let mut h = Harness::new(small(), 3);
    h.write(append(1, 1, 1..100, 100));
    for index in [1, 50] {
        let mut read = h.read(1, index..index + 1);
        let (_, command) = read[0].commands().next().expect("one command");
        read.clear();
        let alone = command.try_into_mut().expect("nothing else refers to it");
        assert!(alone.capacity() <= 200, "{} bytes for a command of 100", alone.capacity());
    }
}

#[test]
fn the_figures_count_each_block_of_batches_and_headers() {
    let mut h = Harness::new(small(), 3);
    let mut before = h.wal().stats();
    for term in 1..40 {
        h.write(hard_state(1, term, 1));
        let after = h.wal().stats();
        let blocks = 1 + after.rotations - before.rotations;
        assert_eq!(after.written_bytes - before.written_bytes, blocks * BLOCK as u64);
        assert_eq!(after.batches - before.batches, 1);
        before = after;
    }
    assert!(before.rotations >= 2, "{} rotations", before.rotations);
}

/// On a full disk a batch that needs no more segments is still taken.
#[test]
fn a_batch_that_fills_the_segment_to_its_last_byte_needs_no_other() {
    let mut h = Harness::new(small(), 3);
    // The first segment of a start is a small one.
    let mut term = 0;
    while h.wal().stats().rotations == 0 {
        term += 1;
        h.write(hard_state(1, term, 1));
    }
    let wal = h.wal();
    let state = wal.state.borrow();
    let segments = state.segments();
    // A header and the batch that needed the segment lie in it.
    let room = small().segment_bytes as usize / BLOCK - 2;
    assert_eq!(segments.rotations(vec![BLOCK; room]), 0);
    assert_eq!(segments.rotations(vec![BLOCK; room + 1]), 1);
    let mut last_is_long = vec![BLOCK; room - 2];
    last_is_long.push(2 * BLOCK);
    assert_eq!(segments.rotations(last_is_long.clone()), 0);
    last_is_long[room - 2] += BLOCK;
    assert_eq!(segments.rotations(last_is_long), 1);
}

#[test]
fn a_record_beyond_a_quarter_of_a_segment_is_refused_and_comes_back() {
    let mut h = Harness::new(small(), 4);
    h.write(append(1, 1, 1..2, 15_000));
    let batch = append(1, 1, 2..3, 17_000);
    match h.wal().submit(batch.clone()) {
        Err(SubmitError::TooLarge(returned)) => assert_eq!(returned, batch),
        other => panic!("{other:?}"),
    }
    assert_eq!(last_index(&h.reopen().unwrap(), 1), 1);
}

#[test]
fn recovery_gives_back_the_end_of_the_log_within_its_bound() {
    let mut h = Harness::new(WalConfig { tail_bytes_max: 5000, ..small() }, 5);
    h.write(append(1, 1, 1..100, 200));
    h.write(append(2, 1, 1..6, 10));
    let recovered = h.reopen().unwrap();
    let tail = &recovered.groups[&GroupId(1)].tail;
    assert!(!tail.is_empty() && tail.iter().map(|e| e.cost()).sum::<usize>() <= 5000);
    assert!(entries(1, 1..100, 200).ends_with(tail));
    assert_eq!(recovered.groups[&GroupId(2)].tail, entries(1, 1..6, 10));
}

#[test]
fn every_completion_notifies_the_engine_and_holds_no_borrow() {
    let mut h = Harness::new(small(), 6);
    let (count, notify) = counter();
    let wal = h.wal();
    h.wal().set_notify(std::rc::Rc::new(move || {
        notify();
        assert!(wal.durable() <= wal.submitted());
        wal.set_notify(std::rc::Rc::new(|| ()));
    }));
    h.disk.hold();
    h.submit(append(1, 1, 1..2, 10));
    h.poll();
    assert_eq!(count.get(), 0);
    h.run();
    assert_eq!(count.get(), 1);
}

#[test]
fn the_wal_is_ready_while_another_write_may_start() {
    let mut h = Harness::new(WalConfig { writes_in_flight_max: 2, ..small() }, 7);
    h.disk.hold();
    assert!(h.wal().is_ready());
    submit_side_by_side(&mut h, 1, 1..2);
    assert!(h.wal().is_ready());
    submit_side_by_side(&mut h, 1, 2..3);
    assert!(!h.wal().is_ready());
    h.run();
    assert!(h.wal().is_ready());
    assert_eq!(h.wal().submit(Batch::default()).unwrap(), h.wal().submitted());
}

// ---- W1

#[test]
fn w1_acknowledgements_are_in_order_whatever_order_completions_have() {
    for seed in 0..50 {
        let mut h = Harness::new(small(), seed);
        h.disk.hold();
        let before = h.wal().durable();
        submit_side_by_side(&mut h, 1, 1..5);
        h.poll();
        h.disk.take_log();
        let mut ended = Vec::new();
        for _ in 0..4 {
            h.run_some(1);
            ended.extend(h.disk.take_log().into_iter().filter_map(|event| match event {
                Event::WriteEnded { position } => Some(position / BLOCK as u64),
                _ => None,
            }));
            let prefix = (1..).take_while(|block| ended.contains(block)).count() as u64;
            assert_eq!(h.wal().durable().0, before.0 + prefix, "{ended:?}");
        }
    }
}

#[test]
fn w1_what_was_acknowledged_survives_a_power_cut_and_nothing_is_acknowledged_before() {
    for seed in 0..200 {
        let mut h = Harness::new(if seed % 2 == 0 { small() } else { on_sync() }, seed);
        h.disk.hold();
        submit_side_by_side(&mut h, 1, 1..9);
        h.run_some(seed % 12);
        let (first, durable) = (h.wal().submitted().0 - 8, h.wal().durable().0);
        let recovered = h.reopen().unwrap();
        assert!(last_index(&recovered, 1) >= durable - first);
    }
}

#[test]
fn w1_a_batch_of_several_writes_is_durable_with_the_last_of_them() {
    for seed in 0..40 {
        let mut h = Harness::new(small(), seed);
        h.disk.hold();
        let sequence = h.submit(append(1, 1, 1..60, 1000));
        for _ in 0..100 {
            if h.wal().durable() < sequence {
                h.run_some(1);
            }
        }
        assert!(h.wal().durable() >= sequence);
        assert_eq!(last_index(&h.reopen().unwrap(), 1), 59);
    }
}

// ---- W2

#[test]
fn w2_a_header_is_written_behind_durable_batches_and_batches_behind_a_durable_header() {
    for seed in 0..40 {
        let mut h = Harness::new(small(), seed);
        h.disk.hold();
        h.disk.take_log();
        submit_side_by_side(&mut h, 1, 1..60);
        h.run();
        let mut in_flight = 0;
        let mut header_in_flight = false;
        let mut headers = 0;
        for event in h.disk.take_log() {
            match event {
                Event::WriteBegan { position: 0, .. } => {
                    assert_eq!(in_flight, 0, "a header beside a batch that is not durable");
                    (in_flight, header_in_flight) = (1, true);
                    headers += 1;
                }
                Event::WriteBegan { .. } => {
                    assert!(!header_in_flight, "a batch before its header is durable");
                    in_flight += 1;
                }
                Event::WriteEnded { .. } => (in_flight, header_in_flight) = (in_flight - 1, false),
                _ => {}
            }
        }
        assert!(headers >= 3);
    }
}

#[test]
fn w2_a_bad_batch_that_a_header_names_is_damage() {
    let mut h = Harness::new(small(), 9);
    (1..5).for_each(|index| _ = h.write(append(1, 1, index..index + 1, 10)));
    let (name, _) = newest(&h.disk);
    h.reopen().unwrap();
    let named = newest(&h.disk).1.previous;
    let is_named = |(_, batch): &(u64, batch::Header)| batch.sequence == named.sequence;
    let (position, _) = batches(&h.disk, &name).into_iter().find(is_named).unwrap();
    h.stop();
    let damaged = h.disk.image();
    damaged.change(&name, |bytes| bytes[position as usize + 60] ^= 1);
    let error = closed(damaged).open().unwrap_err();
    assert!(
        matches!(&error, StorageError::Damaged { segment, offset, .. }
        if *segment == name && *offset == position),
        "{error}"
    );
}

#[test]
fn w2_batches_beyond_the_named_one_are_void_for_ever() {
    let mut h = Harness::new(small(), 10);
    h.disk.hold();
    submit_side_by_side(&mut h, 1, 1..5);
    h.run();
    let (name, _) = newest(&h.disk);
    let (position, bad) = batches(&h.disk, &name)[1];
    h.stop();
    h.disk.change(&name, |bytes| bytes[position as usize + 60] ^= 1);
    let recovered = h.open().unwrap();
    assert_eq!(last_index(&recovered, 1), 1);
    let cut = recovered.cut.unwrap();
    assert_eq!((cut.offset, cut.kept.0 + 1), (position, bad.sequence.0));
    assert_eq!(cut.void, Some(Sequence(bad.sequence.0 + 2)));
    h.write(append(2, 1, 1..2, 10));
    for _ in 0..3 {
        let recovered = h.reopen().unwrap();
        assert_eq!((last_index(&recovered, 1), last_index(&recovered, 2)), (1, 1));
    }
}

#[test]
fn w2_another_batch_in_the_place_of_the_named_one_is_damage() {
    let mut h = Harness::new(small(), 49);
    h.write(hard_state(1, 5, 2));
    h.wal().quiet_tick();
    h.run();
    h.reopen().unwrap();
    let name = h.segments()[0].clone();
    let (position, header) = batches(&h.disk, &name)[0];
    assert_eq!(newest(&h.disk).1.previous.sequence, header.sequence);
    h.stop();
    // Another batch with the same epoch and sequence, as an older version of its sector may be.
    let stamp = Stamp {
        epoch: header.epoch,
        sequence: header.sequence,
        watermark: header.watermark,
        oldest: header.oldest,
        kind: Kind::Records,
    };
    let mut block = vec![0; BLOCK];
    batch::seal(&mut block, Seed::new(&identity()), &stamp, b"");
    h.disk.change(&name, |bytes| bytes[position as usize..][..BLOCK].copy_from_slice(&block));
    assert!(matches!(h.open().unwrap_err(), StorageError::Damaged { .. }));
}

// ---- W3

#[test]
fn w3_recovery_writes_into_no_file_that_it_has_read() {
    let mut h = Harness::new(small(), 11);
    h.write(append(1, 1, 1..60, 500));
    let before = h.segments();
    h.cut_power();
    h.disk.take_log();
    h.open().unwrap();
    h.write(append(1, 1, 60..70, 500));
    for event in h.disk.take_log() {
        if let Event::WriteBegan { name, .. } = event {
            assert!(!before.contains(&name), "{name} was read and is written");
        }
    }
}

#[test]
fn w3_a_segment_that_is_still_locked_stops_the_start() {
    let mut h = Harness::new(small(), 12);
    h.write(append(1, 1, 1..2, 10));
    let name = h.segments().pop().unwrap();
    h.stop();
    let disk = h.disk.clone();
    let held = h.block_on(async { crate::Disk::open(&disk, &name, Durability::OnSync).await });
    let error = h.open().unwrap_err();
    assert!(matches!(&error, StorageError::Locked { location } if location.contains(&name)));
    drop(held);
    h.open().unwrap();
}

#[test]
fn w3_a_start_makes_durable_what_a_killed_process_had_not_synced() {
    for seed in 0..100 {
        let mut h = Harness::new(on_sync(), seed);
        h.disk.hold();
        submit_side_by_side(&mut h, 1, 1..5);
        h.run_some(seed % 6);
        h.kill();
        let first = h.open().unwrap();
        let second = h.reopen().unwrap();
        assert_eq!(last_index(&first, 1), last_index(&second, 1), "seed {seed}");
    }
}

/// A sync that failed may have dropped what it was to make durable, and the next one then passes and
/// proves nothing, though all of it is readable until the power fails.
#[test]
fn w3_a_start_makes_durable_what_a_failed_sync_had_dropped() {
    for seed in 0..40 {
        let mut h = Harness::new(on_sync(), seed);
        h.write(append(1, 1, 1..3, 100));
        h.disk.set_faults(Faults { sync: Some(ErrorKind::Other), ..Faults::default() });
        submit_side_by_side(&mut h, 1, 3..7);
        h.run();
        assert!(h.wal().failure().is_some());
        h.stop();
        h.disk.set_faults(Faults::default());
        let first = h.open().unwrap();
        assert!(last_index(&first, 1) > 2, "seed {seed}: nothing was dropped");
        h.cut_power();
        let second = h.open().unwrap();
        assert_eq!(last_index(&first, 1), last_index(&second, 1), "seed {seed}");
        let last = last_index(&first, 1);
        assert_eq!(h.read(1, 3..last + 1), entries(1, 3..last + 1, 10));
    }
}

/// What a start takes over from the torn segment is whole before its own header counts.
#[test]
fn w3_a_power_cut_at_any_point_of_a_start_loses_nothing() {
    for operations in 0..80 {
        let mut h = Harness::new(on_sync(), operations);
        h.write(append(1, 1, 1..3, 100));
        submit_side_by_side(&mut h, 1, 3..7);
        h.run();
        h.kill();
        h.disk.hold();
        h.open_for(operations);
        h.cut_power();
        let recovered = h.open().unwrap();
        assert_eq!(last_index(&recovered, 1), 6, "after {operations} operations");
        assert_eq!(h.read(1, 3..7), entries(1, 3..7, 10));
    }
}

#[test]
fn w3_new_sequences_exceed_void_ones() {
    let mut h = Harness::new(small(), 13);
    h.disk.hold();
    submit_side_by_side(&mut h, 1, 1..5);
    h.run();
    let highest = h.wal().submitted();
    let (name, _) = newest(&h.disk);
    let (position, _) = batches(&h.disk, &name)[0];
    h.stop();
    h.disk.change(&name, |bytes| bytes[position as usize + 60] ^= 1);
    let recovered = h.open().unwrap();
    assert_eq!(last_index(&recovered, 1), 0);
    assert!(h.wal().durable() > highest);
}

// ---- W4

/// B81: whatever a crash does to the last batch, the WAL opens and keeps what was acknowledged.
#[test]
fn w4_a_last_batch_torn_at_any_sector_is_cut() {
    let mut h = Harness::new(small(), 14);
    h.write(append(1, 1, 1..4, 100));
    h.write(append(1, 1, 4..5, 6000));
    let (name, _) = newest(&h.disk);
    let (position, _) = *batches(&h.disk, &name).last().unwrap();
    h.stop();
    for sector in 0..8192 / 512 {
        for value in [0, 0xff] {
            let torn = h.disk.image();
            let from = position as usize + sector * 512;
            torn.change(&name, |bytes| bytes[from..from + 512].fill(value));
            let mut torn = closed(torn);
            let recovered = torn.open().unwrap();
            let kept = last_index(&recovered, 1);
            assert!(kept == 3 || sector * 512 > 6000 && value == 0 && kept == 4, "{sector}");
            torn.run();
            torn.write(append(1, 1, kept + 1..kept + 3, 10));
            assert_eq!(last_index(&torn.reopen().unwrap(), 1), kept + 2);
        }
    }
}

/// B82: what a later batch calls durable is damage when it is bad, wherever the bit is.
#[test]
fn w4_a_flipped_bit_before_the_recorded_watermark_is_damage() {
    let mut h = Harness::new(small(), 15);
    h.write(append(1, 1, 1..4, 100));
    h.write(append(1, 1, 4..8, 1000));
    h.wal().quiet_tick();
    h.run();
    let (name, _) = newest(&h.disk);
    h.stop();
    let (closing, _) = *batches(&h.disk, &name).last().unwrap();
    for byte in (BLOCK..closing as usize).step_by(97) {
        let damaged = h.disk.image();
        damaged.change(&name, |bytes| bytes[byte] ^= 0x10);
        let error = closed(damaged).open().unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "byte {byte}: {error}");
    }
}

#[test]
fn w4_the_watermark_of_a_torn_batch_makes_an_earlier_bad_batch_damage() {
    let mut h = Harness::new(small(), 16);
    h.write(append(1, 1, 1..2, 10));
    h.write(append(1, 1, 2..3, 6000));
    let (name, _) = newest(&h.disk);
    h.stop();
    let found = batches(&h.disk, &name);
    h.disk.change(&name, |bytes| {
        bytes[found[0].0 as usize + 100] ^= 1;
        bytes[found[1].0 as usize + BLOCK + 1] ^= 1;
    });
    assert!(matches!(h.open().unwrap_err(), StorageError::Damaged { .. }));
}

#[test]
fn w4_a_bad_batch_is_read_again_before_it_is_called_bad() {
    let mut h = Harness::new(small(), 17);
    h.write(append(1, 1, 1..4, 100));
    let mut met = 0;
    for reads in 0..30 {
        h.cut_power();
        h.disk.set_faults(Faults { flip_read_after: Some(reads), ..Faults::default() });
        let recovered = h.open().unwrap();
        assert_eq!(last_index(&recovered, 1), 3, "read {reads}");
        assert_eq!(recovered.cut, None);
        met += usize::from(h.disk.is_free_of_faults());
        h.disk.set_faults(Faults::default());
        h.run();
    }
    assert!(met >= 10, "{met} reads were flipped");
}

/// Rot and a read of the wrong place at once: nothing that the one read shows in vain makes a torn tail of
/// what was durable. A header that is gone is told by the batches behind it, in the same way.
#[test]
fn w4_a_misdirected_read_hides_no_damage() {
    for (rotten_block, reads_met) in [(1, 2), (0, 2)] {
        let mut h = Harness::new(small(), 18);
        for index in 1..5 {
            h.write(append(1, 1, index..index + 1, 100));
        }
        let (name, _) = newest(&h.disk);
        h.stop();
        h.disk.change(&name, |bytes| bytes[rotten_block * BLOCK + 100] ^= 1);
        let mut met = 0;
        for (reads, elsewhere) in (0..30).flat_map(|reads| [(reads, 0), (reads, 32 << 10)]) {
            let disk = h.disk.image();
            disk.set_faults(Faults {
                read_elsewhere: Some((reads, elsewhere)),
                ..Faults::default()
            });
            let mut start = closed(disk);
            let found = start.open();
            let is_damage = matches!(found, Err(StorageError::Damaged { .. }));
            assert!(is_damage, "block {rotten_block}, read {reads} at {elsewhere}: {found:?}");
            met += usize::from(start.disk.is_free_of_faults());
        }
        assert!(met >= reads_met, "{met} reads came from elsewhere");
    }
}

#[test]
fn w4_a_read_error_is_never_a_torn_tail() {
    let mut h = Harness::new(small(), 18);
    h.write(append(1, 1, 1..4, 100));
    h.cut_power();
    h.disk.set_faults(Faults { read: Some(ErrorKind::Other), ..Faults::default() });
    assert!(matches!(h.open().unwrap_err(), StorageError::Io { .. }));
    h.disk.set_faults(Faults::default());
    assert_eq!(last_index(&h.open().unwrap(), 1), 3);
}

#[test]
fn w4_a_block_that_cannot_be_read_is_never_a_torn_tail() {
    let mut h = Harness::new(small(), 18);
    h.write(append(1, 1, 1..4, 100));
    h.write(append(1, 1, 4..8, 100));
    h.cut_power();
    for block in 0..16 {
        let bad_position = Some(block * BLOCK as u64);
        h.disk.set_faults(Faults { bad_position, ..Faults::default() });
        assert!(matches!(h.open().unwrap_err(), StorageError::Io { .. }), "block {block}");
    }
    h.disk.set_faults(Faults::default());
    assert_eq!(last_index(&h.open().unwrap(), 1), 7);
}

/// B91: what a read leaves out inside a file is an error, and no end of the log.
#[test]
fn w4_a_short_read_is_never_a_torn_tail() {
    let mut h = Harness::new(small(), 18);
    h.write(append(1, 1, 1..4, 100));
    h.cut_power();
    h.disk.set_faults(Faults { is_reading_short: true, ..Faults::default() });
    assert!(matches!(h.open().unwrap_err(), StorageError::Io { .. }));
    h.disk.set_faults(Faults::default());
    assert_eq!(last_index(&h.open().unwrap(), 1), 3);
}

fn forge(disk: &MemoryDisk, name: &str, position: usize, epoch: u64, sequence: u64) {
    let stamp = Stamp {
        epoch,
        sequence: Sequence(sequence),
        watermark: Sequence(0),
        oldest: 1,
        kind: Kind::Records,
    };
    let mut block = vec![0; BLOCK];
    batch::seal(&mut block, Seed::new(&identity()), &stamp, b"");
    disk.change(name, |bytes| bytes[position..position + BLOCK].copy_from_slice(&block));
}

#[test]
fn w4_a_newer_batch_of_a_foreign_epoch_is_damage_and_an_older_one_is_stale() {
    let mut h = Harness::new(small(), 19);
    h.write(append(1, 1, 1..4, 100));
    let (name, header) = newest(&h.disk);
    h.stop();
    let stale = h.disk.image();
    forge(&stale, &name, 8 * BLOCK, header.epoch ^ 1, header.sequence.0 - 1);
    assert_eq!(last_index(&closed(stale).open().unwrap(), 1), 3);
    forge(&h.disk, &name, 8 * BLOCK, header.epoch ^ 1, header.sequence.0 + 1);
    assert!(matches!(h.open().unwrap_err(), StorageError::Damaged { .. }));
}

/// The batch has the sequence that comes next, but another epoch: so it does not count.
#[test]
fn w4_the_next_sequence_of_a_foreign_epoch_does_not_continue_the_log() {
    let mut h = Harness::new(small(), 19);
    h.write(append(1, 1, 1..4, 100));
    let (name, header) = newest(&h.disk);
    let (position, last) = *batches(&h.disk, &name).last().unwrap();
    h.stop();
    let behind = position as usize + last.written_bytes();
    forge(&h.disk, &name, behind, header.epoch ^ 1, last.sequence.0 + 1);
    assert!(matches!(h.open().unwrap_err(), StorageError::Damaged { .. }));
}

#[test]
fn w4_an_unreadable_header_is_torn_only_if_no_newer_batch_is_behind_it() {
    let mut h = Harness::new(small(), 20);
    h.write(append(1, 1, 1..4, 100));
    // With the closing batch all is proven, so the next start carries nothing.
    h.wal().quiet_tick();
    h.run();
    h.reopen().unwrap();
    let (name, _) = newest(&h.disk);
    assert_eq!(batches(&h.disk, &name), []);
    h.stop();
    let torn = h.disk.image();
    torn.change(&name, |bytes| bytes[300] ^= 1);
    assert_eq!(last_index(&closed(torn).open().unwrap(), 1), 3, "its header was torn");

    h.open().unwrap();
    h.write(append(1, 1, 4..5, 100));
    let (name, _) = newest(&h.disk);
    h.stop();
    h.disk.change(&name, |bytes| bytes[300] ^= 1);
    assert!(matches!(h.open().unwrap_err(), StorageError::Damaged { .. }));
}

#[test]
fn w4_a_lost_header_is_noticed_by_the_batches_behind_it() {
    let mut h = Harness::new(small(), 21);
    h.write(append(1, 1, 1..4, 100));
    h.cut_power();
    let stale = h.disk.image();
    h.open().unwrap();
    h.write(append(1, 1, 4..5, 100));
    let (name, _) = newest(&h.disk);
    h.stop();
    let (old, _) = newest(&stale);
    // The file has the header of an older life.
    let header = stale.bytes(&old)[..BLOCK].to_vec();
    let void = segment::name(900);
    let mut bytes = h.disk.bytes(&name);
    bytes[..BLOCK].copy_from_slice(&header);
    h.disk.delete(&name);
    h.disk.put(&void, bytes);
    assert!(matches!(h.open().unwrap_err(), StorageError::Damaged { .. }));
}

/// A segment whose header became zeroes is no prepared one: the batches behind show that. So they do where no
/// prepared file is left that tells how such a file begins.
#[test]
fn w4_a_segment_that_lost_its_header_is_not_taken_for_a_prepared_one() {
    let mut h = Harness::new(WalConfig { segment_bytes: 4 << 20, ..small() }, 21);
    for index in 1..60 {
        h.write(append(1, 1, index..index + 1, 7000));
    }
    let (name, header) = newest(&h.disk);
    assert_eq!(header.bytes, 4 << 20);
    h.stop();
    h.disk.change(&name, |bytes| bytes[..BLOCK].fill(0));
    for file in h.disk.files() {
        let first = segment::parse(&h.disk.bytes(&file)[..BLOCK]);
        if matches!(first, FirstBlock::Prepared(_)) {
            h.disk.delete(&file);
        }
    }
    assert!(matches!(h.open().unwrap_err(), StorageError::Damaged { .. }));
}

/// Of a segment whose first MiB became zeroes nobody can say whether it held batches. No file of a log begins
/// with zeroes, so that is damage.
#[test]
fn w4_a_segment_whose_first_mib_became_zeroes_is_damage() {
    for bytes in [64 << 10, 4 << 20] {
        let mut h = Harness::new(WalConfig { segment_bytes: bytes, ..small() }, 21);
        for index in 1..70 {
            h.write(append(1, 1, index..index + 1, 7000));
        }
        let (name, header) = newest(&h.disk);
        assert_eq!(header.bytes, bytes);
        h.stop();
        h.disk.change(&name, |bytes| {
            let len = bytes.len().min(1 << 20);
            bytes[..len].fill(0);
        });
        let text = h.open().unwrap_err().to_string();
        assert!(text.contains("its first block became zeroes"), "{text}");
    }
}

/// The write of the header was lost, whatever the file was before: the first batch behind it tells.
#[test]
fn w4_a_header_whose_write_was_lost_is_noticed_by_the_first_batch() {
    let mut h = Harness::new(small(), 21);
    for index in 1..20 {
        h.write(append(1, 1, index..index + 1, 7000));
    }
    let (name, header) = newest(&h.disk);
    assert!(h.segments().len() > 2 && !batches(&h.disk, &name).is_empty());
    h.stop();
    let prepared = segment::prepared_block(identity(), header.bytes);
    h.disk.change(&name, |bytes| bytes[..BLOCK].copy_from_slice(&prepared));
    assert!(matches!(h.open().unwrap_err(), StorageError::Damaged { .. }));
}

// ---- W5

#[test]
fn w5_damage_stops_the_shard_says_where_and_changes_nothing() {
    let mut h = Harness::new(small(), 22);
    h.write(append(1, 1, 1..4, 100));
    h.write(append(1, 1, 4..5, 100));
    let (name, _) = newest(&h.disk);
    h.stop();
    h.disk.change(&name, |bytes| bytes[BLOCK + 60] ^= 1);
    let before: Vec<_> = h.disk.files().iter().map(|name| h.disk.bytes(name)).collect();
    h.disk.take_log();
    let text = h.open().unwrap_err().to_string();
    for part in [&name[..], "at 4096", "means", "do "] {
        assert!(text.contains(part), "{text}");
    }
    let after: Vec<_> = h.disk.files().iter().map(|name| h.disk.bytes(name)).collect();
    assert_eq!(before, after);
    assert_eq!(h.disk.take_log(), []);
}

// ---- W6

fn apply(live: &mut Live, segment: u64, put: impl FnOnce(&mut Vec<u8>)) {
    let mut records = Vec::new();
    put(&mut records);
    let at = Location::first(segment);
    live.apply(&records, at, BLOCK, None, |_, _| ()).unwrap();
}

#[test]
fn w6_a_relocated_hard_state_never_lowers_a_term_or_takes_a_vote_back() {
    let (mut live, group) = (Live::default(), GroupId(1));
    let state = |term, vote| HardState { term: Term(term), vote, committed: Index(0) };
    apply(&mut live, 1, |out| record::put_hard_state(out, group, state(6, Some(NodeId(2))), false));
    apply(&mut live, 2, |out| record::put_hard_state(out, group, state(5, Some(NodeId(1))), true));
    apply(&mut live, 2, |out| record::put_hard_state(out, group, state(6, None), true));
    apply(&mut live, 2, |out| record::put_hard_state(out, group, state(6, Some(NodeId(3))), true));
    let kept = live.group(group).unwrap().hard_state().unwrap();
    assert_eq!((kept.value, kept.segment), (state(6, Some(NodeId(2))), 1));
    apply(&mut live, 3, |out| record::put_hard_state(out, group, kept.value, true));
    assert_eq!(live.group(group).unwrap().hard_state().unwrap().segment, 3);
}

#[test]
fn w6_a_relocated_floor_never_truncates_and_never_falls() {
    let (mut live, group) = (Live::default(), GroupId(1));
    apply(&mut live, 1, |out| record::put_entries(out, group, &entries(1, 1..21, 1)));
    let floor = |index| EntryId::new(Term(1), Index(index));
    apply(&mut live, 2, |out| record::put_floor(out, group, floor(12), Position(12)));
    apply(&mut live, 3, |out| record::put_floor(out, group, floor(10), Position(10)));
    let kept = live.group(group).unwrap().floor();
    assert_eq!((kept.value, kept.segment), (floor(12), 2));
    // The floor itself is relocated: it no longer needs the segment from which it comes.
    apply(&mut live, 4, |out| record::put_floor(out, group, floor(12), Position(12)));
    let group = live.group(group).unwrap();
    assert_eq!((group.floor().value, group.floor().segment), (floor(12), 4));
    assert_eq!((group.first(), group.last()), (Index(13), Index(20)));
}

#[test]
fn w6_a_relocated_peer_memory_never_goes_back() {
    let mut live = Live::default();
    let memory = |start, durable, fenced| PeerMemory {
        node: NodeId(3),
        incarnation: Incarnation(1),
        shard: ShardId(0),
        start,
        boot: BootId(start),
        durable: Sequence(durable),
        fenced,
    };
    apply(&mut live, 1, |out| record::put_peer(out, &memory(2, 50, true), false));
    apply(&mut live, 2, |out| record::put_peer(out, &memory(2, 40, true), true));
    apply(&mut live, 2, |out| record::put_peer(out, &memory(2, 50, false), true));
    assert_eq!(live.peers().collect::<Vec<_>>(), [memory(2, 50, true)]);
}

#[test]
fn w6_hard_states_and_peers_outlive_their_segments() {
    let mut h = Harness::new(small(), 23);
    h.write(hard_state(1, 7, 3));
    let mut batch = Batch::default();
    let memory = PeerMemory {
        node: NodeId(3),
        incarnation: Incarnation(1),
        shard: ShardId(0),
        start: 4,
        boot: BootId(5),
        durable: Sequence(6),
        fenced: true,
    };
    batch.peer(memory);
    h.write(batch);
    h.write(append(2, 1, 1..200, 1000));
    h.wal().forget(GroupId(2), Index(200), Position(199));
    assert!(h.release() >= 3);
    let recovered = h.reopen().unwrap();
    assert_eq!(recovered.groups[&GroupId(1)].hard_state.vote, Some(NodeId(3)));
    assert_eq!(recovered.peers, [memory]);
    let group = &recovered.groups[&GroupId(2)];
    assert_eq!((group.floor, group.last), (EntryId::new(Term(1), Index(199)), Index(199)));
    h.write(append(2, 1, 200..203, 10));
    assert_eq!(h.reopen().unwrap().groups[&GroupId(2)].tail, entries(1, 200..203, 10));
}

// ---- W7

/// B79: a slow group keeps its entries, and everything younger, in the WAL.
#[test]
fn w7_a_segment_stays_while_any_group_needs_an_entry_in_it() {
    let mut h = Harness::new(small(), 24);
    h.write(append(1, 1, 1..2, 10));
    h.write(append(2, 1, 1..200, 1000));
    h.wal().forget(GroupId(2), Index(200), Position(199));
    assert_eq!(h.release(), 0);
    assert_eq!(h.read(1, 1..2), entries(1, 1..2, 10));
    h.wal().forget(GroupId(1), Index(2), Position(1));
    assert!(h.release() > 0);
    assert_eq!(h.read(1, 1..2), []);
    assert_eq!(last_index(&h.reopen().unwrap(), 1), 1);
}

/// Kept, prepared and free files count, whatever size a segment had when its file was made.
#[test]
fn the_bytes_of_the_log_are_those_of_its_files() {
    let mut h = Harness::new(small(), 25);
    let on_disk = |h: &Harness| {
        let names = h.disk.files().into_iter().filter(|name| name.ends_with(".wal"));
        names.map(|name| h.disk.bytes(&name).len() as u64).sum::<u64>()
    };
    h.write(append(1, 1, 1..400, 1000));
    h.run();
    let stats = h.wal().stats();
    assert_eq!((stats.bytes, stats.free), (on_disk(&h), 0), "{stats:?}");
    assert_eq!(stats.bytes, (stats.segments + stats.prepared) as u64 * stats.segment_bytes);
    h.wal().forget(GroupId(1), Index(400), Position(399));
    assert!(h.release() > 4);
    h.run();
    let stats = h.wal().stats();
    assert!(stats.free > 0 && stats.bytes == on_disk(&h), "{stats:?}");

    h.config.segment_bytes *= 2;
    h.reopen().unwrap();
    h.write(append(1, 1, 400..410, 1000));
    h.run();
    let stats = h.wal().stats();
    assert_eq!(stats.bytes, on_disk(&h), "{stats:?}");
    let of_one_size = (stats.segments + stats.prepared + stats.free) as u64 * stats.segment_bytes;
    assert!(stats.bytes < of_one_size, "an old segment is smaller: {stats:?}");
}

#[test]
fn w7_files_are_removed_only_once_a_younger_oldest_segment_is_durable() {
    for seed in 0..80 {
        let mut h = Harness::new(small(), seed);
        h.write(hard_state(1, 7, 3));
        // So many segments that some are removed at once.
        h.write(append(2, 1, 1..700, 1000));
        h.write(append(3, 1, 1..3, 10));
        h.wal().forget(GroupId(2), Index(690), Position(689));
        h.disk.hold();
        h.release_for(seed % 40);
        let recovered = h.reopen().unwrap();
        assert_eq!(recovered.groups[&GroupId(1)].hard_state.term, Term(7), "seed {seed}");
        assert_eq!(last_index(&recovered, 2), 699);
        assert_eq!(h.read(2, 690..700), entries(1, 690..700, 1000));
        assert_eq!(h.read(3, 1..3), entries(1, 1..3, 10));
    }
}

/// A start may read what released a segment before that is durable, and be cut off itself.
#[test]
fn w7_a_segment_is_not_reused_while_its_release_may_be_lost() {
    for seed in 0..400 {
        let mut h = Harness::new(on_sync(), seed);
        h.write(hard_state(1, 7, 3));
        h.write(append(2, 1, 1..60, 1000));
        h.wal().forget(GroupId(2), Index(60), Position(59));
        h.disk.hold();
        h.release_for(seed % 10);
        h.kill();
        h.open_for(seed / 10);
        h.cut_power();
        let recovered = h.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(recovered.groups[&GroupId(1)].hard_state.term, Term(7), "seed {seed}");
        assert_eq!(last_index(&recovered, 2), 59);
    }
}

/// A start that is cut off behind its rename leaves a name that is readable and not durable. The next one
/// must not build on it: what it takes away would survive a power cut, and that name might not.
#[test]
fn w3_a_start_makes_the_names_it_finds_durable_before_it_changes_any() {
    for seed in 0..3_000 {
        // A log without batches: each start makes the header before its own void.
        let mut h = Harness::new(small(), seed);
        h.stop();
        h.disk.hold();
        let mut random = Random::new(seed);
        for _ in 0..4 {
            h.open_for(random.below(32));
            h.kill();
        }
        h.cut_power();
        h.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// Relocations of several writes may come half through: until all have, the old segments count.
#[test]
fn w7_a_younger_oldest_segment_is_named_only_once_all_relocations_are_durable() {
    for operations in 0..40 {
        let mut h = Harness::new(WalConfig { writes_in_flight_max: 1, ..small() }, operations);
        let mut batch = Batch::default();
        for group in 1..900 {
            let state = HardState { term: Term(group), vote: None, committed: Index(0) };
            batch.hard_state(GroupId(group as u32), state);
        }
        h.write(batch);
        h.write(append(1000, 1, 1..100, 1000));
        h.wal().forget(GroupId(1000), Index(100), Position(99));
        h.disk.hold();
        h.release_for(operations);
        let recovered = h.reopen().unwrap();
        for group in 1..900 {
            let state = recovered.groups[&GroupId(group as u32)].hard_state;
            assert_eq!(state.term, Term(group), "after {operations} operations");
        }
    }
}

#[test]
fn one_release_runs_at_a_time_and_a_dropped_one_can_be_repeated() {
    let mut h = Harness::new(small(), 71);
    h.write(append(1, 1, 1..200, 1000));
    h.wal().forget(GroupId(1), Index(200), Position(199));
    let wal = h.wal();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut first = Box::pin(wal.release());
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert_eq!(h.release(), 0, "one is running");
    drop(first);
    assert!(h.release() >= 3);
}

#[test]
fn w7_a_lost_oldest_segment_does_not_look_purged() {
    let mut h = Harness::new(small(), 25);
    h.write(append(1, 1, 1..200, 1000));
    let segments = h.segments();
    h.stop();
    // The loss of the newest one is for the peers to notice (safety I4).
    for lost in &segments[..segments.len() - 1] {
        let disk = h.disk.image();
        disk.delete(lost);
        let error = closed(disk).open().unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{lost}: {error}");
    }
}

/// No log shows a gap where only votes were.
#[test]
fn w7_a_lost_segment_of_hard_states_does_not_look_purged() {
    let mut h = Harness::new(small(), 25);
    h.write(hard_state(1, 7, 3));
    // With the closing batch it is proven, so the next start carries nothing.
    h.wal().quiet_tick();
    h.run();
    h.reopen().unwrap();
    h.write(append(2, 1, 1..3, 10));
    h.stop();
    let oldest = h.disk.files().into_iter().find(|name| !batches(&h.disk, name).is_empty());
    h.disk.delete(&oldest.unwrap());
    assert!(matches!(h.open().unwrap_err(), StorageError::Damaged { .. }));
}

#[test]
fn w7_segment_numbers_come_from_headers() {
    let mut h = Harness::new(small(), 26);
    h.write(append(1, 1, 1..100, 1000));
    let segments = h.segments();
    h.stop();
    let renamed = h.disk.image();
    for (at, name) in segments.iter().enumerate() {
        renamed.put(&segment::name(500 - at as u64), h.disk.bytes(name));
        renamed.delete(name);
    }
    let mut renamed = closed(renamed);
    assert_eq!(last_index(&renamed.open().unwrap(), 1), 99);
    renamed.run();
    assert_eq!(renamed.read(1, 1..100), entries(1, 1..100, 1000));
}

#[test]
fn w7_a_crash_loop_needs_no_space() {
    let mut h = Harness::new(small(), 27);
    h.write(append(1, 1, 1..4, 100));
    let files = h.disk.files().len();
    h.disk.set_space(Some(0));
    for _ in 0..30 {
        let recovered = h.reopen().unwrap();
        assert_eq!(last_index(&recovered, 1), 3);
        h.run();
        assert!(h.disk.files().len() <= files + 1, "{:?}", h.disk.files());
    }
}

/// Prepared segments are most of the files of a young log. A start that reads them all would take as long as
/// with a log of their size.
#[test]
fn a_start_reads_little_of_prepared_segments() {
    let mut h = Harness::new(WalConfig { segment_bytes: 4 << 20, ..small() }, 27);
    h.write(append(1, 1, 1..4, 100));
    assert_eq!(h.wal().stats().prepared, 3);
    h.disk.take_read_bytes();
    assert_eq!(last_index(&h.reopen().unwrap(), 1), 3);
    let read = h.disk.take_read_bytes();
    // Of the newest, of 256 KiB, one pass, two over its tail, and one for the content.
    assert!(read <= 4 * (256 << 10) + 8 * BLOCK as u64, "{read} bytes read, with 12 MiB prepared");
}

/// Of a file that is not the log one block says what it was, and one that it was not begun since: whether it is
/// new or has been a segment before.
#[test]
fn a_start_reads_two_blocks_of_each_void_segment() {
    let mut h = Harness::new(WalConfig { segment_bytes: 1 << 20, ..small() }, 27);
    for index in 1..1200 {
        h.write(append(1, 1, index..index + 1, 7000));
    }
    h.wal().note_time(Duration::from_millis(100));
    h.run();
    let prepared = h.wal().stats().prepared;
    assert_eq!(prepared, 2 + 16);
    h.wal().forget(GroupId(1), Index(1200), Position(1199));
    assert!(h.release() > 4);
    assert!(h.wal().stats().free > 0);
    // The active one is full, and the next one begins: the log is as short as it can be.
    h.reopen().unwrap();
    h.wal().forget(GroupId(1), Index(1200), Position(1199));
    h.release();
    let first_blocks = |h: &Harness| {
        let of = |name: String| segment::parse(&h.disk.bytes(&name)[..BLOCK]);
        h.disk.files().into_iter().filter(|name| name.ends_with(".wal")).map(of).collect::<Vec<_>>()
    };
    let is_prepared = |first: &&FirstBlock| matches!(first, FirstBlock::Prepared(_));
    let files = first_blocks(&h);
    let new = files.iter().filter(is_prepared).count();
    let kept = h.segments().len();
    let kept_bytes: usize = h.segments().iter().map(|name| h.disk.bytes(name).len()).sum();
    assert!(new >= 3 && files.len() - new - kept >= 3, "{files:?}, {kept} kept");
    h.stop();
    h.disk.take_reads();
    h.disk.take_read_bytes();
    h.open().unwrap();
    let (reads, bytes) = (h.disk.take_reads(), h.disk.take_read_bytes());
    // Of the newest segment of the log two passes, two over its tail, and one for the content: in pieces of 1 MiB.
    let void = (files.len() - kept) as u64;
    assert!(kept <= 3, "{kept} kept");
    assert!(reads <= 2 * void + 6 * 4, "{reads} reads of {void} void files and {kept} others");
    let bound = 2 * void * BLOCK as u64 + 5 * kept_bytes as u64;
    assert!(bytes <= bound, "{bytes} bytes of {void} files, {kept_bytes} are the log");
}

/// A log that such a version wrote in between has some of both kinds: it used the others first.
#[test]
fn w4_blank_files_behind_prepared_ones_are_of_an_earlier_version() {
    let mut h = Harness::new(small(), 21);
    h.write(append(1, 1, 1..4, 100));
    h.stop();
    let last = h.disk.files().pop().expect("a prepared one");
    h.disk.change(&last, |bytes| bytes.fill(0));
    for _ in 0..3 {
        assert_eq!(last_index(&h.open().unwrap(), 1), 3);
        h.run();
        h.stop();
    }
}

/// An earlier version prepared files of zeroes. A start removes them: from then on zeroes are damage.
#[test]
fn w4_blank_files_of_an_earlier_version_are_removed() {
    for bytes in [64 << 10, 4 << 20] {
        let mut h = Harness::new(WalConfig { segment_bytes: bytes, ..small() }, 21);
        h.write(append(1, 1, 1..4, 100));
        h.stop();
        let prepared: Vec<String> = h.disk.files();
        let is_prepared = |name: &&String| {
            let first = segment::parse(&h.disk.bytes(name)[..BLOCK]);
            matches!(first, FirstBlock::Prepared(_))
        };
        let prepared: Vec<String> = prepared.iter().filter(is_prepared).cloned().collect();
        assert_eq!(prepared.len(), 3);
        for name in &prepared {
            h.disk.change(name, |bytes| bytes.fill(0));
        }
        // Wherever the first start ends, the next one goes on.
        for operations in 0..60 {
            let mut start = closed(h.disk.image());
            start.config = h.config.clone();
            start.disk.hold();
            start.open_for(operations);
            start.kill();
            assert_eq!(last_index(&start.open().unwrap(), 1), 3, "{operations} operations");
            start.run();
            assert_eq!(last_index(&start.reopen().unwrap(), 1), 3, "{operations} operations");
        }
    }
}

/// Whatever ends a process, and whenever: `starts` starts with one write each keep a sixteenth of a segment for
/// each. Beside that there are the three prepared ones, and the file of a fourth that was being made.
#[test]
fn restarts_behind_writes_keep_small_segments() {
    const SEGMENT: u64 = 1 << 20;
    for seed in 0..12 {
        let mut h = Harness::new(WalConfig { segment_bytes: SEGMENT, ..small() }, seed);
        h.disk.hold();
        for start in 1..=40 {
            h.submit(append(1, 1, start..start + 1, 100));
            h.run_some(seed);
            h.wal().quiet_tick();
            let more = h.random.below(30);
            if seed % 2 == 0 {
                h.run()
            } else {
                h.run_some(more)
            }
            if seed % 3 == 0 {
                h.cut_power()
            } else {
                h.kill()
            }
            let names = h.disk.files();
            let bytes: usize = names.iter().map(|name| h.disk.bytes(name).len()).sum();
            let bound = start * SEGMENT / 16 + (3 + 1) * SEGMENT + BLOCK as u64;
            assert!(bytes as u64 <= bound, "seed {seed}: {bytes} bytes after {start} starts");
            let last = last_index(&h.open().unwrap(), 1);
            if last < start {
                h.write(append(1, 1, last + 1..start + 1, 100));
            }
        }
    }
}

#[test]
fn a_batch_that_is_too_long_for_the_small_segment_of_a_start_goes_to_the_next_one() {
    let mut h = Harness::new(WalConfig { segment_bytes: 16 << 20, ..small() }, 27);
    for index in 1..11 {
        h.write(append(1, 1, index..index + 1, 100));
        assert_eq!(last_index(&h.reopen().unwrap(), 1), index);
        h.run();
    }
    h.write(append(1, 1, 11..12, 2 << 20));
    assert_eq!(h.wal().stats().rotations, 1);
    assert_eq!(last_index(&h.reopen().unwrap(), 1), 11);
    h.run();
    assert_eq!(h.read(1, 1..12).len(), 11);
}

#[test]
fn w7_file_names_are_durable_before_the_first_batch() {
    let mut h = Harness::new(small(), 28);
    h.disk.take_log();
    h.write(append(1, 1, 1..300, 1000));
    h.wal().forget(GroupId(1), Index(300), Position(299));
    h.release();
    h.write(append(1, 1, 300..600, 1000));
    let mut loose = Vec::new();
    let mut recycled = 0;
    for event in h.disk.take_log() {
        match event {
            Event::Renamed { from, to } => {
                recycled += usize::from(from.ends_with(".wal"));
                loose.push(to);
            }
            Event::DirSynced => loose.clear(),
            Event::WriteBegan { name, .. } => assert!(!loose.contains(&name), "{name}"),
            _ => {}
        }
    }
    assert!(recycled > 0);
}

// ---- W8

/// Appends until there is no space. The index that was refused, and its batch.
fn fill(h: &mut Harness) -> (u64, Batch) {
    for index in 1..100 {
        match h.wal().submit(append(1, 1, index..index + 1, 7000)) {
            Ok(_) => h.run(),
            Err(SubmitError::NoSpace(batch)) => return (index, batch),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("space without end");
}

#[test]
fn w8_a_full_disk_refuses_entries_takes_hard_states_reads_and_resumes() {
    let mut h = Harness::new(small(), 29);
    h.disk.set_space(Some(0));
    let (next, refused) = fill(&mut h);
    assert!(!h.wal().has_space() && h.wal().failure().is_none());
    let sequence = h.write(hard_state(1, 9, 1));
    assert_eq!(h.wal().durable(), sequence);
    assert_eq!(h.read(1, 1..next).len() as u64, next - 1);

    // It can even start again.
    let recovered = h.reopen().unwrap();
    assert_eq!(last_index(&recovered, 1), next - 1);
    assert_eq!(recovered.groups[&GroupId(1)].hard_state.term, Term(9));

    h.disk.set_space(None);
    for _ in 0..600 {
        h.wal().quiet_tick();
        h.run();
    }
    assert!(h.wal().has_space());
    h.write(refused);
    assert_eq!(h.read(1, next..next + 1).len(), 1);
}

/// Two seconds of the present rate are prepared, within a bound.
#[test]
fn segments_are_prepared_ahead_of_the_present_rate() {
    let mut h = Harness::new(small(), 29);
    let mut last = 0;
    let mut prepared_at = |count: u64| {
        for index in last + 1..=last + count {
            h.write(append(1, 1, index..index + 1, 7000));
        }
        last += count;
        h.wal().note_time(Duration::from_millis(100));
        h.run();
        h.wal().stats().prepared
    };
    // A batch of 8 KiB in a tenth of a second is 160 KiB in two: two segments and a half, and the reserve.
    assert_eq!(prepared_at(1), 2 + 1 + 2);
    assert_eq!(prepared_at(2), 2 + 1 + 5);
    assert_eq!(prepared_at(200), 2 + 16, "the bound");
}

/// After a burst one file is removed in a minute, down to what the present rate wants, and no further.
#[test]
fn w8_what_was_prepared_for_a_burst_is_removed_slowly_and_the_reserve_is_not() {
    let mut h = Harness::new(small(), 29);
    let second = Duration::from_secs(1);
    for index in 1..200 {
        h.write(append(1, 1, index..index + 1, 7000));
    }
    h.wal().note_time(Duration::from_millis(100));
    h.run();
    assert_eq!(h.wal().stats().prepared, 2 + 16);
    let mut counts = Vec::new();
    for _ in 0..30 * 60 {
        h.wal().note_time(second);
        h.run();
        let stats = h.wal().stats();
        let names = h.disk.files().into_iter().filter(|name| name.ends_with(".wal"));
        let on_disk: u64 = names.map(|name| h.disk.bytes(&name).len() as u64).sum();
        assert_eq!(stats.bytes, on_disk);
        counts.push(stats.prepared);
    }
    assert!(counts[..60].iter().all(|count| *count == 18), "a minute: {:?}", &counts[..60]);
    assert!(counts.windows(2).all(|two| two[1] == two[0] || two[1] + 1 == two[0]));
    assert!(counts.windows(60).all(|minute| minute[0] <= minute[59] + 1), "one in a minute");
    assert_eq!(counts[20 * 60..].iter().collect::<BTreeSet<_>>(), BTreeSet::from([&3]));
    for index in 200..400 {
        h.write(append(1, 1, index..index + 1, 7000));
    }
    assert_eq!(last_index(&h.reopen().unwrap(), 1), 399);
}

/// A rate that falls and rises within a minute makes no work.
#[test]
fn what_is_prepared_stays_while_the_rate_comes_back_within_a_minute() {
    let mut h = Harness::new(small(), 29);
    let mut index = 0;
    let mut burst = |h: &mut Harness| {
        for _ in 0..30 {
            index += 1;
            h.write(append(1, 1, index..index + 1, 7000));
        }
        h.wal().note_time(Duration::from_millis(100));
        h.run();
    };
    burst(&mut h);
    assert_eq!(h.wal().stats().prepared, 2 + 16);
    for _ in 0..10 {
        for _ in 0..50 {
            h.wal().note_time(Duration::from_secs(1));
            h.run();
        }
        assert_eq!(h.wal().stats().prepared, 2 + 16);
        burst(&mut h);
    }
}

#[test]
fn w8_while_no_segment_can_be_made_none_is_removed() {
    let mut h = Harness::new(small(), 29);
    for index in 1..30 {
        h.write(append(1, 1, index..index + 1, 7000));
    }
    h.wal().note_time(Duration::from_millis(100));
    h.run();
    h.disk.set_space(Some(0));
    for index in 30..60 {
        h.write(append(1, 1, index..index + 1, 7000));
    }
    let left = h.wal().stats().prepared;
    assert!((5..18).contains(&left), "{left} prepared");
    for _ in 0..600 {
        h.wal().note_time(Duration::from_secs(1));
        h.run();
    }
    assert_eq!(h.wal().stats().prepared, left);
}

/// Files that wait for recycling are removed in the same way.
#[test]
fn files_that_nobody_recycles_are_removed_slowly() {
    let mut h = Harness::new(small(), 29);
    h.write(append(1, 1, 1..400, 1000));
    h.wal().forget(GroupId(1), Index(400), Position(399));
    h.release();
    h.wal().note_time(Duration::from_secs(60 * 60));
    h.run();
    let (free, mut files) = (h.wal().stats().free, h.disk.files().len());
    assert!(free > 1, "{:?}", h.wal().stats());
    for minute in 0..30 {
        for _ in 0..60 {
            h.wal().note_time(Duration::from_secs(1));
            h.run();
        }
        let left = h.disk.files().len();
        assert!(left == files || left + 1 == files, "{files} files and {left} in minute {minute}");
        files = left;
    }
    assert_eq!((h.wal().stats().free, h.wal().stats().prepared), (0, 3));
}

/// A disk on which one segment finds room now and then takes entries each time. But the log lacks room all along, so
/// that no leader comes and goes with it.
#[test]
fn w8_room_is_back_only_when_two_segments_are_ready() {
    let mut h = Harness::new(small(), 29);
    h.disk.set_space(Some(0));
    assert!(!h.wal().lacks_room());
    let (mut next, _) = fill(&mut h);
    assert!(h.wal().lacks_room() && !h.wal().has_space());
    let ticks = |h: &mut Harness| {
        for _ in 0..40 {
            h.wal().seek_space();
            h.run();
        }
    };
    for _ in 0..10 {
        h.disk.set_space(Some(64 << 10));
        ticks(&mut h);
        assert!(h.wal().lacks_room() && h.wal().has_space());
        while h.wal().submit(append(1, 1, next..next + 1, 7000)).is_ok() {
            h.run();
            next += 1;
            assert!(h.wal().lacks_room());
        }
        assert!(h.wal().lacks_room() && !h.wal().has_space());
    }
    h.disk.set_space(Some(2 * (64 << 10)));
    ticks(&mut h);
    assert!(!h.wal().lacks_room() && h.wal().has_space());
    assert_eq!(h.wal().stats().prepared, 2 + 2);
}

/// There is room as long as segments are prepared: nothing is refused because a further one was not made.
#[test]
fn w8_prepared_segments_take_entries_although_no_further_one_can_be_made() {
    let mut h = Harness::new(small(), 29);
    h.write(append(1, 1, 1..2, 7000));
    h.write(append(1, 1, 2..3, 7000));
    h.wal().note_time(Duration::from_millis(100));
    h.run();
    assert_eq!(h.wal().stats().prepared, 8);
    h.disk.set_space(Some(0));
    let mut index = 3;
    while h.wal().stats().prepared > 3 {
        h.write(append(1, 1, index..index + 1, 7000));
        assert!(h.wal().has_space(), "{} segments are prepared", h.wal().stats().prepared);
        index += 1;
    }
    while h.wal().submit(append(1, 1, index..index + 1, 7000)).is_ok() {
        h.run();
        index += 1;
    }
    assert_eq!((h.wal().stats().prepared, h.wal().has_space()), (2, false));
}

#[test]
fn w8_releasing_segments_gives_space_back_without_new_space() {
    let mut h = Harness::new(small(), 30);
    h.disk.set_space(Some(0));
    let (next, _) = fill(&mut h);
    h.wal().forget(GroupId(1), Index(next), Position(next - 1));
    assert!(h.release() > 0);
    // The relocations have filled the active segment, which can go now too.
    assert!(h.release() > 0);
    assert!(h.wal().has_space(), "{:?}", h.wal().stats());
    h.write(append(1, 1, next..next + 3, 7000));
    assert_eq!(last_index(&h.reopen().unwrap(), 1), next + 2);
}

#[test]
fn w8_the_last_two_segments_take_no_entries() {
    let mut h = Harness::new(small(), 31);
    h.disk.set_space(Some(0));
    fill(&mut h);
    assert_eq!(h.wal().stats().prepared, 2);
    for term in 1..20 {
        h.write(hard_state(1, term, 1));
    }
    assert!(h.wal().stats().prepared < 2);
    // Nor for entries once hard states have begun one: else a full disk ends all elections, in the end.
    let refused = h.wal().submit(append(2, 1, 1..2, 10));
    assert!(matches!(refused, Err(SubmitError::NoSpace(_))));
}

#[test]
fn w8_entries_do_not_take_the_reserve_while_it_is_being_filled() {
    let mut h = closed(MemoryDisk::default());
    let disk = h.disk.clone();
    let mut reserve = Reserve::new(1, Vec::new());
    for number in 1..=3 {
        assert!(reserve.take(false).is_none());
        let (disk, pace) = (disk.clone(), Pace::default());
        let bytes = BLOCK as u64;
        let made = directory::create(&disk, number, &[], bytes, Durability::OnSync, &pace);
        reserve.add(Prepared { number, file: h.block_on(made).unwrap() });
    }
    assert_eq!(reserve.take(false).unwrap().number, 1);
    assert!(reserve.take(false).is_none());
    assert_eq!(reserve.take(true).unwrap().number, 2);
}

/// `ENFILE`, `EMFILE` and `ENOMEM`: nothing that was acknowledged lies in a segment that is only being made.
#[test]
fn w8_no_descriptor_for_a_new_segment_refuses_entries_and_poisons_nothing() {
    for number in [23, 24, 12] {
        for is_only_directory in [false, true] {
            let (open, open_dir) = match is_only_directory {
                false => (Some(number), None),
                true => (None, Some(number)),
            };
            let mut h = Harness::new(small(), 35);
            h.disk.set_faults(Faults { open, open_dir, ..Faults::default() });
            let (next, refused) = fill(&mut h);
            assert_eq!(h.wal().failure().map(|failure| failure.to_string()), None, "{number}");
            let sequence = h.write(hard_state(1, 9, 1));
            assert_eq!(h.wal().durable(), sequence, "votes go on");
            h.disk.set_faults(Faults::default());
            for _ in 0..40 {
                h.wal().quiet_tick();
                h.run();
            }
            h.write(refused);
            assert_eq!(last_index(&h.reopen().unwrap(), 1), next);
        }
    }
}

/// A recycled segment whose directory could not be synced has its old name again, and is recycled later.
#[test]
fn w8_no_descriptor_while_a_segment_is_recycled_poisons_nothing() {
    let mut h = Harness::new(small(), 36);
    h.write(append(1, 1, 1..300, 1000));
    h.wal().forget(GroupId(1), Index(300), Position(299));
    h.disk.set_faults(Faults { open_dir: Some(24), ..Faults::default() });
    h.release();
    let mut taken = |index: &u64| match h.wal().submit(append(1, 1, *index..*index + 1, 1000)) {
        Ok(_) => {
            h.run();
            true
        }
        Err(SubmitError::NoSpace(_)) => false,
        Err(error) => panic!("{error}"),
    };
    let last = 299 + (300..420).take_while(&mut taken).count() as u64;
    assert_eq!(h.wal().failure().map(|failure| failure.to_string()), None);
    assert!(!h.wal().has_space());
    h.disk.set_faults(Faults::default());
    for _ in 0..40 {
        h.wal().quiet_tick();
        h.run();
    }
    h.write(append(1, 1, last + 1..last + 200, 1000));
    assert_eq!(last_index(&h.reopen().unwrap(), 1), last + 199);
}

#[test]
fn w8_no_space_inside_a_prepared_segment_poisons() {
    let mut h = Harness::new(small(), 32);
    h.disk.set_faults(Faults { write: Some(ErrorKind::StorageFull), ..Faults::default() });
    h.submit(append(1, 1, 1..2, 10));
    h.run();
    assert!(matches!(h.wal().failure(), Some(StorageError::Io { .. })));
}

#[test]
fn retries_for_space_become_rarer_and_find_space_soon() {
    let mut h = Harness::new(small(), 33);
    h.disk.set_space(Some(0));
    fill(&mut h);
    h.disk.take_log();
    for _ in 0..2000 {
        h.wal().quiet_tick();
        h.run();
    }
    let attempts = h.disk.take_log().iter().filter(|event| **event == Event::DirSynced).count();
    assert!((100..200).contains(&attempts), "{attempts} attempts");
    // Room is found soon, however long there was none.
    h.disk.set_space(None);
    for _ in 0..16 {
        h.wal().quiet_tick();
        h.run();
    }
    h.write(append(2, 1, 1..2, 10));
}

// ---- W9

#[test]
fn w9_one_closing_batch_records_the_last_acknowledgement() {
    let mut h = Harness::new(small(), 34);
    h.wal().quiet_tick();
    h.run();
    assert_eq!(h.wal().stats().closing_batches, 0, "nothing was acknowledged");
    let sequence = h.write(append(1, 1, 1..2, 10));
    for _ in 0..5 {
        h.wal().quiet_tick();
        h.run();
    }
    assert_eq!(h.wal().stats().closing_batches, 1, "and none for the closing batch");
    let (name, _) = newest(&h.disk);
    let (_, last) = *batches(&h.disk, &name).last().unwrap();
    assert_eq!((last.kind, last.watermark), (Kind::Closing, sequence));
    assert_eq!(last_index(&h.reopen().unwrap(), 1), 1);
    h.wal().quiet_tick();
    h.run();
    assert_eq!(h.wal().stats().closing_batches, 0, "the start's header says it");
}

#[test]
fn w9_a_log_that_is_closed_has_a_closing_batch_behind_all_that_was_submitted() {
    let mut h = Harness::new(small(), 37);
    let sequence = h.submit(append(1, 1, 1..2, 10));
    let wal = h.wal();
    h.block_on(async { wal.close().await }).expect("the disk works");
    let (name, _) = newest(&h.disk);
    let (_, last) = *batches(&h.disk, &name).last().unwrap();
    assert_eq!((last.kind, last.watermark), (Kind::Closing, sequence));
    let wal = h.wal();
    h.block_on(async { wal.close().await }).expect("the disk works");
    assert_eq!(h.wal().stats().closing_batches, 1, "it is closed already");
}

#[test]
fn w9_no_closing_batch_while_writes_are_under_way() {
    let mut h = Harness::new(small(), 35);
    h.disk.hold();
    h.submit(append(1, 1, 1..2, 10));
    h.poll();
    h.wal().quiet_tick();
    h.run();
    assert_eq!(h.wal().stats().closing_batches, 0);
}

#[test]
fn w9_in_a_full_segment_the_next_header_is_the_closing_batch() {
    let mut h = Harness::new(small(), 36);
    // A header and fifteen blocks.
    for index in 1..16 {
        h.write(append(1, 1, index..index + 1, 10));
    }
    assert_eq!(h.wal().stats().rotations, 0);
    h.wal().quiet_tick();
    h.run();
    assert_eq!((h.wal().stats().rotations, h.wal().stats().closing_batches), (1, 0));
    let (_, header) = newest(&h.disk);
    assert_eq!(header.previous.sequence.0 + 1, header.sequence.0);
}

// ---- W10

/// No local rule sees this; the peers do, by what the start kept (safety I4).
#[test]
fn w10_rot_above_the_last_watermark_shows_in_the_sequence_that_the_start_kept() {
    let mut h = Harness::new(small(), 37);
    let acknowledged = h.write(append(1, 1, 1..2, 10));
    let (name, _) = newest(&h.disk);
    h.stop();
    h.disk.change(&name, |bytes| bytes[BLOCK + 60] ^= 1);
    let recovered = h.open().unwrap();
    assert!(recovered.start.kept < acknowledged);
}

// ---- Poison

/// B84: a sync that fails once poisons; nothing is acknowledged after it, though the next would pass.
/// Beyond the reach of a start: the device lost two writes that it had reported as durable, the header of the
/// newest segment and the first batch in it. What is left looks like a file that was prepared and not begun.
#[test]
fn w10_the_loss_of_a_header_and_of_the_first_batch_shows_in_the_sequence_that_the_start_kept() {
    let mut h = Harness::new(small(), 37);
    for index in 1..20 {
        h.write(append(1, 1, index..index + 1, 7000));
    }
    let acknowledged = h.wal().durable();
    let (name, header) = newest(&h.disk);
    assert!(batches(&h.disk, &name).len() > 1);
    h.stop();
    let both = |first: &[u8], bytes: &mut Vec<u8>| {
        bytes[..BLOCK].copy_from_slice(first);
        bytes[BLOCK..2 * BLOCK].fill(0);
    };
    // Zeroes in their place show it, since no file of a log begins with zeroes.
    let zeroes = h.disk.image();
    zeroes.change(&name, |bytes| both(&[0; BLOCK], bytes));
    assert!(matches!(closed(zeroes).open().unwrap_err(), StorageError::Damaged { .. }));
    let prepared = segment::prepared_block(identity(), header.bytes);
    h.disk.change(&name, |bytes| both(&prepared, bytes));
    let recovered = h.open().unwrap();
    assert!(recovered.start.kept < acknowledged, "what peers remember tells (safety I4)");
}

#[test]
fn a_failed_write_or_sync_poisons_for_ever() {
    for (faults, config) in [
        (Faults { write: Some(ErrorKind::Other), ..Faults::default() }, small()),
        (Faults { sync: Some(ErrorKind::Other), ..Faults::default() }, on_sync()),
    ] {
        let mut h = Harness::new(config, 38);
        let durable = h.write(append(1, 1, 1..2, 10));
        let (count, notify) = counter();
        h.wal().set_notify(notify);
        h.disk.set_faults(faults);
        h.submit(append(1, 1, 2..3, 10));
        let sequence = h.submit(append(1, 1, 3..4, 10));
        h.run();
        h.disk.set_faults(Faults::default());
        h.run();
        assert_eq!(h.wal().durable(), durable);
        assert!(count.get() > 0 && !h.wal().is_ready());
        assert!(matches!(h.wal().submit(append(1, 1, 4..5, 10)), Err(SubmitError::Poisoned(_))));
        let wal = h.wal();
        let waited = h.block_on(async move { wal.wait_durable(sequence).await });
        assert!(matches!(waited, Err(StorageError::Poisoned { .. })));
        let text = h.wal().failure().unwrap().to_string();
        assert!(text.contains("failed") && text.contains("means") && text.contains("memory"));
        assert!(h.is_at_rest(), "the loops end");
    }
}

#[test]
fn nothing_is_acknowledged_after_a_failure_even_if_it_completes() {
    for seed in 0..40 {
        let mut h = Harness::new(small(), seed);
        h.disk.hold();
        submit_side_by_side(&mut h, 1, 1..5);
        h.run_some(seed % 4);
        let durable = h.wal().durable();
        h.disk.set_faults(Faults { write: Some(ErrorKind::Other), ..Faults::default() });
        h.run_some(1);
        h.disk.set_faults(Faults::default());
        h.run();
        assert!(h.wal().failure().is_some());
        assert_eq!(h.wal().durable(), durable);
    }
}

// ---- Reads

#[test]
fn a_read_never_returns_what_was_truncated() {
    let mut h = Harness::new(small(), 39);
    h.write(append(1, 1, 1..100, 500));
    h.write(append(1, 2, 40..60, 500));
    h.write(append(1, 3, 50..52, 500));
    let mut expected = entries(1, 1..40, 500);
    expected.extend(entries(2, 40..50, 500));
    expected.extend(entries(3, 50..52, 500));
    assert_eq!(h.read(1, 1..100), expected);
    let recovered = h.reopen().unwrap();
    let group = &recovered.groups[&GroupId(1)];
    let runs = [(Index(1), Term(1)), (Index(40), Term(2)), (Index(50), Term(3))];
    assert_eq!(group.terms, runs);
    assert_eq!(group.tail, expected);
    assert_eq!(h.read(1, 1..100), expected);
}

#[test]
fn a_batch_may_replace_its_own_entries() {
    let mut h = Harness::new(small(), 40);
    let mut batch = append(1, 1, 1..10, 50);
    batch.entries(GroupId(1), &entries(2, 5..8, 50));
    batch.entries(GroupId(1), &entries(3, 5..6, 50));
    h.write(batch);
    h.write(append(1, 3, 6..9, 50));
    let mut expected = entries(1, 1..5, 50);
    expected.extend(entries(3, 5..9, 50));
    assert_eq!(h.read(1, 1..100), expected);
    assert_eq!(h.read(1, 5..100), expected[4..]);
    assert_eq!(h.reopen().unwrap().groups[&GroupId(1)].tail, expected);
    assert_eq!(h.read(1, 5..100), expected[4..]);
}

#[test]
fn a_read_is_bounded_in_bytes_and_gives_one_entry_at_least() {
    let mut h = Harness::new(small(), 41);
    h.write(append(1, 1, 1..50, 1000));
    let wal = h.wal();
    let range = Index(7)..Index(50);
    let read = h.block_on(async move {
        let one = wal.read(GroupId(1), range.clone(), 0).await.unwrap();
        (one, wal.read(GroupId(1), range, 5000).await.unwrap())
    });
    assert_eq!(read.0, entries(1, 7..8, 1000));
    assert_eq!(read.1, entries(1, 7..12, 1000));
    assert_eq!(h.read(1, 60..70), []);
    assert_eq!(h.read(9, 1..2), []);
}

/// The bound may be reached in the middle of a batch with several runs of the group: what stands behind
/// it there is no gap.
#[test]
fn a_read_may_end_anywhere_in_a_batch_of_several_runs() {
    let mut h = Harness::new(small(), 43);
    let mut batch = append(1, 1, 1..4, 100);
    batch.entries(GroupId(1), &entries(2, 4..7, 100));
    batch.entries(GroupId(1), &entries(3, 7..9, 100));
    h.write(batch);
    let mut all = entries(1, 1..4, 100);
    all.extend(entries(2, 4..7, 100));
    all.extend(entries(3, 7..9, 100));
    for bytes_max in 0..all.iter().map(|entry| entry.cost()).sum::<usize>() + 1 {
        let wal = h.wal();
        let read = h.block_on(async move {
            wal.read(GroupId(1), Index(1)..Index(9), bytes_max).await.unwrap()
        });
        assert!(!read.is_empty() && all.starts_with(&read), "{bytes_max}: {}", read.len());
    }
    assert_eq!(h.read(1, 1..9), all);
}

#[test]
fn a_read_waits_for_what_is_not_durable() {
    let mut h = Harness::new(small(), 42);
    h.write(append(1, 1, 1..3, 10));
    h.disk.hold();
    let sequence = h.submit(append(1, 1, 3..5, 10));
    assert_eq!(h.read(1, 3..5), entries(1, 3..5, 10));
    assert!(h.wal().durable() >= sequence);
}

#[test]
fn a_read_during_a_truncation_mixes_no_logs() {
    let mut cut_short = 0;
    for seed in 0..100 {
        let mut h = Harness::new(small(), seed);
        h.write(append(1, 1, 1..150, 500));
        h.disk.hold();
        let wal = h.wal();
        let mut steps = 0;
        let read = h.block_on_with(
            async move { wal.read(GroupId(1), Index(1)..Index(150), usize::MAX).await },
            |h| {
                steps += 1;
                if steps == 1 + seed % 7 {
                    // It is even durable before the read goes on.
                    h.submit(append(1, 2, 20..150, 500));
                    h.run();
                }
            },
        );
        let read = read.unwrap();
        let (old, mut new) = (entries(1, 1..150, 500), entries(1, 1..20, 500));
        new.extend(entries(2, 20..150, 500));
        assert!(!read.is_empty());
        assert!(old.starts_with(&read) || new.starts_with(&read), "seed {seed}");
        cut_short += usize::from(read.len() < 149);
    }
    assert!(cut_short > 10, "{cut_short}");
}

#[test]
fn a_file_that_is_read_is_not_recycled_under_the_read() {
    let (mut cut_short, mut whole) = (0, 0);
    for seed in 0..60 {
        let mut h = Harness::new(small(), seed);
        h.write(append(1, 1, 1..150, 500));
        h.disk.hold();
        let wal = h.wal();
        let mut steps = 0;
        let read = h.block_on_with(
            async move { wal.read(GroupId(1), Index(1)..Index(150), usize::MAX).await },
            |h| {
                steps += 1;
                if steps == 1 + seed % 5 {
                    h.wal().forget(GroupId(1), Index(150), Position(149));
                    h.release();
                    h.submit(append(1, 1, 150..400, 500));
                    h.run();
                }
            },
        );
        let read = read.unwrap();
        assert!(!read.is_empty() && entries(1, 1..150, 500).starts_with(&read), "seed {seed}");
        if read.len() < 149 { cut_short += 1 } else { whole += 1 }
    }
    assert!(cut_short > 10 && whole > 10, "{cut_short} reads cut short, {whole} served whole");
}

/// A reader that lags behind by segments, which go while it reads: it ends early, and finds no gap.
#[test]
fn a_read_ends_where_the_segments_behind_it_are_released() {
    let mut cut_short = 0;
    for seed in 0..30 {
        let mut h = Harness::new(small(), seed);
        h.write(append(1, 1, 1..600, 500));
        h.disk.hold();
        let wal = h.wal();
        let mut steps = 0;
        let read = h.block_on_with(
            async move { wal.read(GroupId(1), Index(1)..Index(600), usize::MAX).await },
            |h| {
                steps += 1;
                if steps == 1 + seed % 5 {
                    h.wal().forget(GroupId(1), Index(590), Position(589));
                    h.release();
                }
            },
        );
        let read = read.unwrap();
        assert!(!read.is_empty() && entries(1, 1..600, 500).starts_with(&read), "seed {seed}");
        cut_short += usize::from(read.len() < 599);
    }
    assert!(cut_short > 10, "{cut_short}");
}

/// Three entries in each of eight batches; in the last four they replace those of the first four.
fn replaced_one_by_one(h: &mut Harness) -> Vec<Entry> {
    for term in [1, 2] {
        for first in [1, 4, 7, 10] {
            h.write(append(1, term, first..first + 3, 100));
        }
    }
    entries(2, 1..13, 100)
}

#[test]
fn w4_a_misdirected_read_is_repeated_and_never_believed() {
    let mut h = Harness::new(small(), 45);
    let expected = replaced_one_by_one(&mut h);
    for elsewhere in (0..h.config.segment_bytes).step_by(BLOCK) {
        for first in 1..13 {
            h.disk.set_faults(Faults { read_elsewhere: Some((0, elsewhere)), ..Faults::default() });
            let read = h.read(1, first..13);
            assert_eq!(read, expected[first as usize - 1..], "from {first}, read at {elsewhere}");
        }
    }
}

/// A device that wrote at the wrong place: a sound batch of this very segment, with the entries that
/// were replaced, lies where the index says that the new ones do.
#[test]
fn a_replaced_run_in_the_place_of_the_current_one_is_damage() {
    let mut h = Harness::new(small(), 46);
    replaced_one_by_one(&mut h);
    let (name, _) = newest(&h.disk);
    let places: Vec<usize> = batches(&h.disk, &name).iter().map(|(at, _)| *at as usize).collect();
    h.disk.change(&name, |bytes| bytes.copy_within(places[0]..places[4], places[4]));
    let wal = h.wal();
    let read = h.block_on(async move { wal.read(GroupId(1), Index(1)..Index(13), 1 << 20).await });
    assert!(matches!(read, Err(StorageError::Damaged { .. })), "{read:?}");
}

#[test]
fn a_read_of_rotten_bytes_is_an_error_and_no_entry() {
    let mut h = Harness::new(small(), 43);
    h.write(append(1, 1, 1..4, 100));
    let (name, _) = newest(&h.disk);
    h.disk.change(&name, |bytes| bytes[BLOCK + 200] ^= 1);
    let wal = h.wal();
    let read = h.block_on(async move { wal.read(GroupId(1), Index(1)..Index(4), 1000).await });
    assert!(matches!(read, Err(StorageError::Damaged { .. })));
}

#[test]
fn the_index_has_a_mark_for_every_16_blocks() {
    let mut h = Harness::new(WalConfig { segment_bytes: 4 << 20, ..small() }, 44);
    for index in 1..600 {
        h.write(append(1, 1, index..index + 1, 10));
    }
    let marks = h.wal().stats().marks;
    assert!((30..=40).contains(&marks), "{marks} marks for 600 blocks");
    assert_eq!(h.read(1, 590..600), entries(1, 590..600, 10));
}

#[test]
#[should_panic(expected = "leave a gap")]
fn a_write_that_leaves_a_gap_panics() {
    let mut h = Harness::new(small(), 45);
    h.write(append(1, 1, 1..4, 10));
    let _ = h.wal().submit(append(1, 1, 5..6, 10));
}

// ---- Who and where

#[test]
fn each_wrong_directory_is_refused_with_its_own_error() {
    let create = |disk: &MemoryDisk| {
        let disk = disk.clone();
        let mut h = closed(disk.clone());
        h.block_on(async move { Wal::create(&disk, identity(), &small(), 5).await })
    };
    let disk = MemoryDisk::default();
    assert!(matches!(closed(disk.clone()).open(), Err(StorageError::Missing { .. })));
    disk.put("lock", Vec::new());
    assert!(matches!(closed(disk.clone()).open(), Err(StorageError::Missing { .. })));
    disk.put(&segment::unfinished_name(1), vec![1; 100]);
    create(&disk).unwrap();
    assert!(matches!(create(&disk), Err(StorageError::Exists { .. })));

    let name = disk.files().into_iter().find(|name| name.ends_with(".wal")).unwrap();
    let foreign = disk.image();
    foreign.change(&name, |bytes| {
        let FirstBlock::Header(mut header) = segment::parse(bytes) else { panic!() };
        header.identity.incarnation = Incarnation(77);
        header.write(bytes);
    });
    let error = closed(foreign).open().unwrap_err();
    assert!(
        matches!(&error, StorageError::Foreign { found, .. }
        if found.incarnation == Incarnation(77)),
        "{error}"
    );

    let newer = disk.image();
    newer.change(&name, |bytes| {
        bytes[12] = segment::VERSION as u8 + 1;
        let checksum = crc32c::crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    });
    let error = closed(newer).open().unwrap_err();
    assert!(
        matches!(error, StorageError::OtherFormat { version, known, .. } if version == known + 1)
    );

    let later = disk.image();
    later.change(&name, |bytes| {
        bytes[512] = 1;
        let checksum = crc32c::crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    });
    let error = closed(later).open().unwrap_err();
    assert!(matches!(error, StorageError::LaterFields { .. }), "{error}");

    let mut first = closed(disk.clone());
    first.open().unwrap();
    assert!(matches!(closed(disk).open(), Err(StorageError::Locked { .. })));
}

/// B93: a crash while a segment is made leaves nothing in the way.
#[test]
fn unfinished_segments_are_removed() {
    let mut h = Harness::new(small(), 46);
    h.write(append(1, 1, 1..4, 10));
    h.stop();
    h.disk.put(&segment::unfinished_name(77), vec![3; 5000]);
    h.open().unwrap();
    h.run();
    assert!(h.disk.files().iter().all(|name| name.ends_with(".wal")), "{:?}", h.disk.files());
}

/// B87: a file that is shorter than it was is damage, not an early end.
#[test]
fn a_shortened_segment_is_damage() {
    let mut h = Harness::new(small(), 47);
    h.write(append(1, 1, 1..20, 1000));
    let (name, _) = newest(&h.disk);
    h.stop();
    h.disk.change(&name, |bytes| bytes.truncate(2 * BLOCK));
    assert!(matches!(h.open().unwrap_err(), StorageError::Damaged { .. }));
}

#[test]
fn new_segments_have_the_newly_configured_size() {
    let mut h = Harness::new(small(), 48);
    h.write(append(1, 1, 1..100, 1000));
    h.cut_power();
    h.config.segment_bytes = 128 << 10;
    h.open().unwrap();
    h.run();
    h.write(append(1, 1, 100..300, 1000));
    assert_eq!(h.read(1, 1..300), entries(1, 1..300, 1000));
    h.cut_power();
    h.config.segment_bytes = 64 << 10;
    assert_eq!(last_index(&h.open().unwrap(), 1), 299);
}

#[test]
fn pending_writes_are_bounded_by_the_writes_in_flight() {
    let mut h = Harness::new(small(), 77);
    for index in 1..500 {
        h.write(append(1, 1, index..index + 1, 10));
    }
    let wal = h.wal();
    let state = wal.state.borrow();
    let pending = state.live().group(GroupId(1)).unwrap().pending_writes();
    assert!(pending <= small().writes_in_flight_max, "{pending} writes are held for durability");
}
