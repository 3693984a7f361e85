//! The frozen format, and what becomes of bytes that are not of it.

use crate::{
    Batch, StorageError,
    align::{BLOCK, align_up},
    batch::{self, HEADER_BYTES, Seed, Stamp},
    inspect::{self, WrittenBatch},
    segment::{self, FirstBlock},
    testing::{Harness, MemoryDisk, Random, append, entries, identity, small},
};
use purlin_rsm::{
    BootId, Entry, GroupId, HardState, Incarnation, Index, NodeId, Payload, PeerMemory, Position,
    Sequence, ShardId, Term,
};
use std::path::Path;

/// A WAL of two segments with a record of each kind that an engine writes.
fn sample() -> (Harness, Sequence) {
    let mut h = Harness::new(small(), 2026);
    let mut batch = Batch::default();
    let state = HardState { term: Term(3), vote: Some(NodeId(2)), committed: Index(0) };
    batch.hard_state(GroupId(1), state);
    batch.entries(GroupId(1), &entries(2, 1..4, 20));
    batch.entries(
        GroupId(1),
        &[Entry { term: Term(3), index: Index(4), before: Position(3), payload: Payload::Noop }],
    );
    h.write(batch);
    let mut batch = Batch::default();
    batch.peer(PeerMemory {
        node: NodeId(3),
        incarnation: Incarnation(4),
        shard: ShardId(5),
        start: 6,
        boot: BootId(7),
        durable: Sequence(8),
        fenced: true,
    });
    h.write(batch);
    h.write(append(2, 3, 1..16, 6000));
    h.write(append(1, 4, 3..6, 200));
    let last = h.wal().durable();
    h.wal().quiet_tick();
    h.run();
    (h, last)
}

fn assert_sample(recovered: &crate::Recovered) {
    let one = &recovered.groups[&GroupId(1)];
    assert_eq!((one.hard_state.term, one.hard_state.vote), (Term(3), Some(NodeId(2))));
    assert_eq!(one.terms, [(Index(1), Term(2)), (Index(3), Term(4))]);
    let mut log = entries(2, 1..3, 20);
    log.extend(entries(4, 3..6, 200));
    assert_eq!(one.tail, log);
    assert_eq!(recovered.groups[&GroupId(2)].tail, entries(3, 1..16, 6000));
    assert_eq!(recovered.peers.len(), 1);
    assert!(recovered.peers[0].fenced && recovered.peers[0].boot == BootId(7));
}

/// All files as one: name, length, and every block that is not zero.
fn pack(disk: &MemoryDisk) -> Vec<u8> {
    let mut out = Vec::new();
    for name in disk.files() {
        let bytes = disk.bytes(&name);
        out.extend_from_slice(format!("{name} {}\n", bytes.len()).as_bytes());
        let blocks = bytes.chunks(BLOCK).enumerate();
        for (at, block) in blocks.filter(|(_, block)| block.iter().any(|&byte| byte != 0)) {
            let used = block.len() - block.iter().rev().take_while(|&&byte| byte == 0).count();
            out.extend_from_slice(format!("@{} {used}\n", at * BLOCK).as_bytes());
            out.extend_from_slice(&block[..used]);
            out.push(b'\n');
        }
    }
    out
}

/// Every header, batch and record with the names of its fields, for a reader who asks what changed.
/// The other golden file has all bytes; here a line shows the first 600.
fn describe(disk: &MemoryDisk) -> String {
    let mut out = String::new();
    for name in disk.files() {
        let bytes = disk.bytes(&name);
        let Some(header) = bytes.get(..BLOCK).and_then(inspect::header) else { continue };
        out += &format!("{name}\n  {header:?}\n");
        let mut at = BLOCK;
        while let Some(batch) = bytes.get(at..).and_then(|rest| inspect::batch(rest, &identity())) {
            let WrittenBatch { epoch, sequence, watermark, checksum, records } = batch;
            out += &format!(
                "{name} at {at}\n  Batch {{ epoch: {epoch}, sequence: {sequence}, watermark: \
                 {watermark}, checksum: {checksum} }}\n"
            );
            for record in records {
                out += &format!("  {:.600}\n", format!("{record:?}"));
            }
            at += batch_bytes(&bytes[at..]);
        }
    }
    out
}

/// The bytes that the batch at the start of `bytes` takes up.
fn batch_bytes(bytes: &[u8]) -> usize {
    let header = batch::parse(bytes, Seed::new(&identity())).expect("a batch");
    align_up(HEADER_BYTES + header.length)
}

fn unpack(mut packed: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let mut file: Option<(String, Vec<u8>)> = None;
    while let Some(end) = packed.iter().position(|&byte| byte == b'\n') {
        let line = std::str::from_utf8(&packed[..end]).unwrap().to_owned();
        packed = &packed[end + 1..];
        let (left, right) = line.split_once(' ').unwrap();
        let number: usize = right.parse().unwrap();
        match left.strip_prefix('@') {
            Some(at) => {
                let at: usize = at.parse().unwrap();
                let bytes = &mut file.as_mut().unwrap().1;
                bytes[at..at + number].copy_from_slice(&packed[..number]);
                packed = &packed[number + 1..];
            }
            None => {
                if let Some((name, bytes)) = file.replace((left.to_owned(), vec![0; number])) {
                    disk.put(&name, bytes);
                }
            }
        }
    }
    let (name, bytes) = file.unwrap();
    disk.put(&name, bytes);
    disk
}

/// `PURLIN_BLESS=1` writes the file anew, for a change of the format that is meant.
#[test]
fn the_golden_file_is_what_is_written_and_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wal-2.bin");
    let (mut h, last) = sample();
    h.stop();
    let (written, described) = (pack(&h.disk), describe(&h.disk));
    if std::env::var_os("PURLIN_BLESS").is_some() {
        std::fs::write(&path, &written).unwrap();
        std::fs::write(path.with_extension("txt"), &described).unwrap();
    }
    let fields = std::fs::read_to_string(path.with_extension("txt")).unwrap();
    assert_eq!(
        described, fields,
        "a field has changed: give the format a new version, then bless it"
    );
    let golden = std::fs::read(&path).unwrap();
    assert!(written == golden, "the format has changed: give it a new version, then bless it");
    let mut h = Harness::on(unpack(&golden), small(), 1);
    let recovered = h.open().unwrap();
    assert_sample(&recovered);
    assert_eq!(recovered.start.kept, Sequence(last.0 + 1), "the closing batch");
}

fn closing(disk: &MemoryDisk) -> (String, usize) {
    let seed = Seed::new(&identity());
    let headers = disk.files().into_iter().filter_map(|name| {
        let bytes = disk.bytes(&name);
        let blocks = bytes.chunks(BLOCK).enumerate();
        let batches = blocks.filter_map(|(at, block)| {
            let header = batch::parse(block, seed)?;
            (header.kind == batch::Kind::Closing).then_some((header.sequence, at * BLOCK))
        });
        batches.max().map(|(sequence, at)| (sequence, name, at))
    });
    let (_, name, at) = headers.max().unwrap();
    (name, at)
}

/// B82, B89: one damaged stretch anywhere. Unless it takes away the last that recorded the watermark
/// (W10), it is noticed, or nothing is lost.
#[test]
fn a_damaged_stretch_is_noticed_or_harmless() {
    let (mut h, _) = sample();
    h.stop();
    let (last_file, last_at) = closing(&h.disk);
    let files = h.disk.files();
    let mut random = Random::new(7);
    let (mut refused, mut harmless) = (0, 0);
    for _ in 0..3000 {
        let disk = h.disk.image();
        let name = &files[random.below(files.len() as u64) as usize];
        let size = disk.bytes(name).len();
        let from = random.below(size as u64) as usize;
        let longest = [1, 512, 5000][random.below(3) as usize];
        let len = 1 + random.below(longest) as usize;
        let to = (from + len).min(size);
        if *name == last_file && to > last_at && from < last_at + BLOCK {
            continue;
        }
        let style = random.below(3);
        disk.change(name, |bytes| {
            for byte in &mut bytes[from..to] {
                *byte = match style {
                    0 => 0,
                    1 => random.next() as u8,
                    _ => *byte ^ 0x40,
                };
            }
        });
        match Harness::on(disk, small(), 3).open() {
            Err(StorageError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("{name} {from}..{to}: {error}"),
            Ok(recovered) => {
                assert_sample(&recovered);
                harmless += 1;
            }
        }
    }
    assert!(refused > 500 && harmless > 500, "{refused} {harmless}");
}

#[test]
fn whole_files_lost_shortened_or_swapped_are_noticed_or_harmless() {
    let (mut h, _) = sample();
    h.stop();
    let (last_file, _) = closing(&h.disk);
    let files = h.disk.files();
    for name in &files {
        for blocks in 0..16 {
            let disk = h.disk.image();
            disk.change(name, |bytes| bytes.truncate(blocks * BLOCK));
            // Without its header the newest segment is as if it were lost, which is for the peers.
            if *name == last_file && blocks < 2 {
                continue;
            }
            if let Ok(recovered) = Harness::on(disk, small(), 3).open() {
                assert_sample(&recovered);
            }
        }
        for other in &files {
            let disk = h.disk.image();
            let (one, two) = (disk.bytes(name), disk.bytes(other));
            disk.put(name, two);
            disk.put(other, one);
            assert_sample(&Harness::on(disk, small(), 3).open().unwrap());
            let disk = h.disk.image();
            disk.put(name, h.disk.bytes(other));
            if let Ok(recovered) = Harness::on(disk, small(), 3).open()
                && *name != last_file
            {
                assert_sample(&recovered);
            }
        }
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let mut random = Random::new(11);
    for _ in 0..300 {
        let disk = MemoryDisk::default();
        for number in 0..1 + random.below(4) {
            let len = random.below(6 * BLOCK as u64) as usize;
            let bytes = (0..len).map(|_| random.next() as u8).collect();
            disk.put(&segment::name(number), bytes);
        }
        let error = Harness::on(disk, small(), 3).open().unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    }
}

/// Bytes that pass every checksum may still say anything.
#[test]
fn nonsense_with_valid_checksums_never_panics() {
    let (mut h, _) = sample();
    h.stop();
    let files = h.disk.files();
    let mut random = Random::new(13);
    let mut opened = 0;
    for _ in 0..1500 {
        let disk = h.disk.image();
        let name = &files[random.below(files.len() as u64) as usize];
        disk.change(name, |bytes| match random.below(3) {
            0 => nonsense_header(bytes, &mut random),
            _ => nonsense_batch(bytes, &mut random),
        });
        let mut h = Harness::on(disk, small(), 3);
        let Ok(recovered) = h.open() else { continue };
        opened += 1;
        for (&group, state) in &recovered.groups {
            let wal = h.wal();
            let range = state.floor.index.next()..Index(state.last.0.saturating_add(1));
            let _ = h.block_on(async move { wal.read(group, range, 1 << 20).await });
        }
        h.run();
        h.stop();
        let again = h.open().unwrap();
        assert_eq!(again.groups, recovered.groups);
    }
    assert!(opened > 100, "{opened}");
}

fn nonsense_header(bytes: &mut [u8], random: &mut Random) {
    let FirstBlock::Header(mut header) = segment::parse(&bytes[..BLOCK]) else { return };
    let value = [0, 1, 2, u64::MAX, u64::MAX / 2, random.next()][random.below(6) as usize];
    match random.below(8) {
        0 => header.number = value,
        1 => header.sequence = Sequence(value),
        2 => header.previous.segment = value,
        3 => header.previous.sequence = Sequence(value),
        4 => header.oldest = value,
        5 => header.bytes = value,
        6 => header.epoch = value,
        _ => header.starts.iter_mut().for_each(|start| start.number = value),
    }
    header.write(&mut bytes[..BLOCK]);
}

fn nonsense_batch(bytes: &mut [u8], random: &mut Random) {
    let seed = Seed::new(&identity());
    let starts: Vec<_> = (BLOCK..bytes.len())
        .step_by(BLOCK)
        .filter(|&at| batch::parse(&bytes[at..], seed).is_some())
        .collect();
    if starts.is_empty() {
        return;
    }
    let at = starts[random.below(starts.len() as u64) as usize];
    let header = batch::parse(&bytes[at..], seed).unwrap();
    let mut records = bytes[at + HEADER_BYTES..][..header.length].to_vec();
    let mut stamp = Stamp {
        epoch: header.epoch,
        sequence: header.sequence,
        watermark: header.watermark,
        oldest: header.oldest,
        kind: header.kind,
    };
    match random.below(6) {
        0 => stamp.oldest = random.next(),
        1 => stamp.sequence = Sequence(random.next()),
        2 => stamp.watermark = Sequence(random.next()),
        _ if records.is_empty() => {}
        _ => {
            for _ in 0..1 + random.below(3) {
                // Mostly where the numbers stand.
                let place = random.below(records.len().min(80) as u64) as usize;
                records[place] = [0, 1, 0x7f, 0xff, random.next() as u8][random.below(5) as usize];
            }
        }
    }
    let written = header.written_bytes();
    batch::seal(&mut bytes[at..at + written], seed, &stamp, &records);
}
