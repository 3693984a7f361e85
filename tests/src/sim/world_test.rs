//! Tests of the world as its users see it: nodes, crashes, disk, network, mesh, time, and one
//! history for each seed.

use super::*;
use purlin::{Mesh, Runtime};
use purlin_rsm::{NodeId, ShardId};
use purlin_storage::{Disk, Durability, File};
use purlin_transport::{Listener, Net, Reader, Writer};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    io::ErrorKind,
    rc::Rc,
    time::Duration,
};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn world(seed: u64) -> World {
    World::new(seed, WorldOptions::default())
}

/// A place where a task leaves what it found.
type Notes<T> = Rc<RefCell<Vec<T>>>;

fn notes<T: 'static>() -> (Notes<T>, impl Fn(T) + Clone + 'static) {
    let notes = Rc::new(RefCell::new(Vec::new()));
    let writer = notes.clone();
    (notes, move |note| writer.borrow_mut().push(note))
}

async fn forever() {
    std::future::pending().await
}

fn block(file: &SimFile, byte: u8) -> Vec<u8> {
    let mut block = file.block(4096);
    block.fill(byte);
    block
}

#[test]
fn equal_seeds_have_equal_histories() {
    let history = |seed| {
        let options = WorldOptions::draw(&Random::new(seed, "options"));
        let world = World::new(seed, options);
        let mut nemesis = Nemesis::new(FaultOptions::draw(world.faults(), &[N1, N2, NodeId(3)], 2));
        for node in 1..=3 {
            world.start(NodeId(node), 2, chatter);
        }
        for _ in 0..20 {
            let pause = nemesis.act(&world);
            let _ = world.run_for(pause.min(SECOND));
        }
        nemesis.calm(&world);
        let _ = world.run_for(SECOND);
        assert_eq!(world.panics(), []);
        assert!(world.events() > 1_000, "only {} events", world.events());
        world.hash()
    };
    let hashes: BTreeSet<_> = (0..10)
        .map(|seed| {
            let hash = history(seed);
            assert_eq!(hash, history(seed), "seed {seed}");
            hash
        })
        .collect();
    assert_eq!(hashes.len(), 10);
}

/// A shard that does a little of everything.
async fn chatter(runtime: SimRuntime) {
    let net = runtime.net();
    let mesh = runtime.mesh::<u64>(4);
    let mut listener = net.listen(&format!("0.0.0.0:{}", 70 + runtime.shard().0)).await.unwrap();
    let reading = runtime.clone();
    runtime.spawn(async move {
        while let Ok((mut reader, writer)) = listener.accept().await {
            let runtime = reading.clone();
            reading.spawn(async move {
                let mut buffer = [0; 64];
                while let Ok(1..) = reader.read(&mut buffer).await {
                    runtime.trace("heard");
                }
                drop(writer);
            });
        }
    });
    let name = format!("log-{}", runtime.shard());
    let file = match runtime.disk().create(&name, 64 << 10, Durability::OnSync).await {
        Ok(file) => file,
        Err(_) => match runtime.disk().open(&name, Durability::OnSync).await {
            Ok(file) => file,
            Err(_) => return,
        },
    };
    loop {
        let peer = 1 + runtime.random() % 3;
        let port = 70 + runtime.shard().0;
        if let Ok((_reader, mut writer)) = net.connect(&format!("n{peer}:{port}")).await {
            let _ = writer.write_all(&[7; 100]).await;
        }
        let _ = mesh.try_send(ShardId(1 - runtime.shard().0), runtime.random());
        let _ = file.write_at(block(&file, peer as u8), 4096 * (runtime.random() % 16)).await;
        let _ = file.sync().await;
        runtime.sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_longer_run_has_another_hash() {
    let run = |millis| {
        let world = world(1);
        world.start(N1, 2, chatter);
        let _ = world.run_for(Duration::from_millis(millis));
        world.hash()
    };
    assert_ne!(run(100), run(200));
}

#[test]
fn runs_say_why_they_stopped() {
    let world = world(1);
    assert_eq!(world.run_for(SECOND), Outcome::Quiescent);
    assert_eq!(world.now(), SECOND);
    world.start(N1, 1, |runtime| async move {
        runtime.sleep(SECOND * 10).await;
        runtime.trace("done");
        forever().await;
    });
    assert_eq!(world.run_for(SECOND), Outcome::TimeReached);
    let is_done = || world.lines().iter().any(|line| line.ends_with("done"));
    assert_eq!(world.run_until(MINUTE, is_done), Outcome::Reached);
    assert!((SECOND * 10..SECOND * 13).contains(&world.now()), "{:?}", world.now());
    world.spawn_on(N1, ShardId(0), |_| async {
        loop {
            futures_lite::future::yield_now().await;
        }
    });
    assert_eq!(world.run_for(SECOND), Outcome::BudgetExhausted);
}

#[test]
fn a_panic_is_caught_and_takes_its_process_down() {
    let world = world(42);
    world.start(N2, 2, |runtime| async move {
        runtime.sleep(SECOND).await;
        assert_eq!(runtime.shard(), ShardId(0), "a bug");
        forever().await;
    });
    assert_eq!(world.run_for(MINUTE), Outcome::Panicked);
    let panics = world.panics();
    assert_eq!((panics[0].seed, panics[0].node, panics[0].shard), (42, N2, ShardId(1)));
    assert!(panics[0].message.contains("a bug"), "{panics:?}");
    assert!(!world.is_running(N2));
    assert_eq!(world.run_for(MINUTE), Outcome::Quiescent);
}

#[test]
fn a_crash_drops_tasks_without_polling_them() {
    struct Told(Rc<Cell<u32>>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let world = world(1);
    let (dropped, woken) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (told, polled) = (dropped.clone(), woken.clone());
    world.start(N1, 2, move |runtime| {
        let (told, polled) = (told.clone(), polled.clone());
        async move {
            let _told = Told(told);
            runtime.sleep(SECOND).await;
            polled.set(polled.get() + 1);
            forever().await;
        }
    });
    let _ = world.run_for(SECOND / 2);
    world.crash(N1, Crash::Kill);
    assert_eq!(dropped.get(), 2);
    let _ = world.run_for(SECOND * 2);
    assert_eq!(woken.get(), 0);
    world.restart(N1);
    let _ = world.run_for(SECOND * 2);
    assert_eq!(woken.get(), 2);
}

#[test]
fn a_process_ends_with_its_last_shard() {
    let world = world(1);
    let (ends, note) = notes();
    world.start(N1, 2, move |runtime| {
        let note = note.clone();
        async move {
            let own = runtime.clone();
            let spawned = note.clone();
            runtime.spawn(async move {
                own.sleep(SECOND * 5).await;
                spawned(own.shard());
            });
            runtime.sleep(SECOND * (1 + 9 * u32::from(runtime.shard().0))).await;
        }
    });
    let _ = world.run_for(SECOND * 8);
    assert!(world.is_running(N1));
    assert_eq!(*ends.borrow(), [ShardId(1)]);
    let _ = world.run_for(SECOND * 8);
    assert!(!world.is_running(N1));
}

#[test]
fn a_paused_shard_stands_still_and_goes_on() {
    let world = world(1);
    let (ticks, note) = notes();
    world.start(N1, 2, move |runtime| {
        let note = note.clone();
        async move {
            loop {
                runtime.sleep(SECOND).await;
                note(runtime.shard());
            }
        }
    });
    world.pause(N1, ShardId(1));
    let _ = world.run_for(SECOND * 10);
    assert!(!ticks.borrow().contains(&ShardId(1)));
    assert!(ticks.borrow().len() >= 9);
    world.resume(N1, ShardId(1));
    let _ = world.run_for(SECOND * 10);
    assert!(ticks.borrow().contains(&ShardId(1)));
}

#[test]
fn killed_processes_lose_no_readable_byte_and_power_cuts_lose_unsynced_ones() {
    let survives = |seed, how, durability, sync: bool| {
        let world = world(seed);
        let (found, note) = notes();
        world.start(N1, 1, move |runtime| {
            let note = note.clone();
            async move {
                let disk = runtime.disk();
                if runtime.boot() == 1 {
                    let file = disk.create("f", 8192, durability).await.unwrap();
                    disk.sync_dir().await.unwrap();
                    file.write_at(block(&file, 9), 4096).await.unwrap();
                    if sync {
                        file.sync().await.unwrap();
                    }
                } else {
                    let file = disk.open("f", durability).await.unwrap();
                    note(file.read_at(4096, 8192).await.unwrap() == [9; 4096]);
                }
                forever().await;
            }
        });
        let _ = world.run_for(SECOND * 3);
        world.crash(N1, how);
        world.restart(N1);
        let _ = world.run_for(SECOND * 30);
        assert_eq!(world.panics(), []);
        found.take()[0]
    };
    use Durability::{EachWrite, OnSync};
    for seed in 0..20 {
        assert!(survives(seed, Crash::Kill, OnSync, false));
        assert!(survives(seed, Crash::PowerCut, OnSync, true));
        assert!(survives(seed, Crash::PowerCut, EachWrite, false));
    }
    let kept = (0..40).filter(|&seed| survives(seed, Crash::PowerCut, OnSync, false)).count();
    assert!((4..36).contains(&kept), "{kept} of 40 unsynced writes survived");
}

#[test]
fn writes_in_flight_outlive_their_process_and_hold_the_lock() {
    let slow =
        DiskOptions { write: Latency::steady(SECOND, Duration::ZERO), ..DiskOptions::default() };
    let world = World::new(1, WorldOptions { disk: slow, ..WorldOptions::default() });
    let (found, note) = notes();
    world.start(N1, 1, move |runtime| {
        let note = note.clone();
        async move {
            let disk = runtime.disk();
            if runtime.boot() == 1 {
                let file = disk.create("f", 4096, Durability::OnSync).await.unwrap();
                let write = file.write_at(block(&file, 3), 0);
                // The write is submitted, and its future dropped.
                drop(futures_lite::future::poll_once(write).await);
                forever().await;
            }
            let before = runtime.now();
            let file = disk.open("f", Durability::OnSync).await.unwrap();
            let waited = runtime.now() - before;
            note((waited, file.read_at(0, 4096).await.unwrap()[0]));
        }
    });
    let _ = world.run_for(SECOND / 2);
    world.crash(N1, Crash::Kill);
    world.restart(N1);
    let _ = world.run_for(MINUTE);
    let (waited, byte) = found.borrow()[0];
    assert!(waited > SECOND / 4, "{waited:?}");
    assert_eq!(byte, 3);
}

/// What it was asked before it goes on early is done then, too.
#[test]
fn a_disk_that_hangs_may_go_on_before_it_was_to() {
    let world = world(1);
    let (done, note) = notes();
    world.node(N1).hang_disk(SECOND * 1_000);
    world.start(N1, 1, move |runtime| {
        let note = note.clone();
        async move {
            let disk = runtime.disk();
            let file = disk.create("a", 4096, Durability::OnSync).await.unwrap();
            note("created");
            file.write_at(block(&file, 1), 0).await.unwrap();
            file.sync().await.unwrap();
            note("synced");
        }
    });
    let _ = world.run_for(MINUTE);
    assert_eq!(*done.borrow(), [""; 0]);
    world.node(N1).hang_disk(Duration::ZERO);
    let _ = world.run_for(SECOND);
    assert_eq!(*done.borrow(), ["created", "synced"]);
}

#[test]
fn files_and_directories_are_locked_until_closed_or_crashed() {
    let world = world(1);
    let (found, note) = notes();
    world.start(N1, 1, move |runtime| {
        let note = note.clone();
        async move {
            let disk = runtime.disk().subdirectory("shard-0");
            if runtime.boot() == 1 {
                disk.create_dir().await.unwrap();
                runtime.disk().sync_dir().await.unwrap();
            }
            let _lock = disk.lock().await.unwrap();
            note(disk.lock().await.err().map(|error| error.kind()));
            let file = match disk.create("f", 4096, Durability::OnSync).await {
                Ok(file) => file,
                Err(error) => {
                    note(Some(error.kind()));
                    disk.open("f", Durability::OnSync).await.unwrap()
                }
            };
            note(disk.open("f", Durability::OnSync).await.err().map(|error| error.kind()));
            file.close().await.unwrap();
            note(disk.open("f", Durability::OnSync).await.err().map(|error| error.kind()));
            note(disk.open("g", Durability::OnSync).await.err().map(|error| error.kind()));
            assert_eq!(disk.list().await.unwrap(), ["f"]);
            forever().await;
        }
    });
    let _ = world.run_for(SECOND * 20);
    world.crash(N1, Crash::Kill);
    world.restart(N1);
    let _ = world.run_for(SECOND * 20);
    assert_eq!(world.panics(), []);
    use ErrorKind::{AlreadyExists, NotFound, WouldBlock};
    let first = [Some(WouldBlock), Some(WouldBlock), None, Some(NotFound)];
    let again = [Some(WouldBlock), Some(AlreadyExists), Some(WouldBlock), None, Some(NotFound)];
    assert_eq!(*found.borrow(), [&first[..], &again].concat());
}

/// Counts the writes that are durable.
#[derive(Default)]
struct Durable(Cell<usize>);

impl Watcher for Durable {
    fn durable(&self, _at: Duration, _node: NodeId, _number: u64) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_write_is_durable_once_the_name_of_its_file_is() {
    for (durability, syncs) in [(Durability::EachWrite, false), (Durability::OnSync, true)] {
        let world = world(1);
        let durable = Rc::new(Durable::default());
        world.watch(durable.clone());
        let (found, note) = notes();
        world.start(N1, 1, move |runtime| {
            let (note, durable) = (note.clone(), durable.clone());
            async move {
                let disk = runtime.disk();
                let file = disk.create("f", 8192, durability).await.unwrap();
                let write = async |position| {
                    file.write_at(block(&file, 1), position).await.unwrap();
                    if syncs {
                        file.sync().await.unwrap();
                    }
                };
                write(0).await;
                note(durable.0.get());
                disk.sync_dir().await.unwrap();
                note(durable.0.get());
                // A new name that may not stay, though the old one would.
                disk.rename("f", "g").await.unwrap();
                write(4096).await;
                note(durable.0.get());
                disk.sync_dir().await.unwrap();
                note(durable.0.get());
            }
        });
        let _ = world.run_for(MINUTE);
        assert_eq!(world.panics(), []);
        assert_eq!(*found.borrow(), [0, 1, 1, 2], "{durability:?}");
    }
}

#[test]
fn armed_failures_and_full_disks_are_errors_of_their_kind() {
    let world = world(1);
    let fault =
        |operation, error| DiskFault { operation, path_contains: "f".into(), times: 1, error };
    world.node(N1).arm(fault(DiskOperation::Write, DiskError::Device));
    world.node(N1).arm(fault(DiskOperation::Sync, DiskError::Device));
    world.node(N1).arm(fault(DiskOperation::Read, DiskError::Full));
    world.node(N1).set_quota(Some(3 * 4096));
    let (found, note) = notes();
    world.start(N1, 1, move |runtime| {
        let note = note.clone();
        async move {
            let disk = runtime.disk();
            let file = disk.create("a", 8192, Durability::OnSync).await.unwrap();
            note(disk.create("b", 8192, Durability::OnSync).await.err().map(|e| e.kind()));
            file.close().await.unwrap();
            disk.rename("a", "f").await.unwrap();
            let file = disk.open("f", Durability::OnSync).await.unwrap();
            for _ in 0..2 {
                let written = file.write_at(block(&file, 1), 0).await;
                note(written.err().map(|e| e.kind()));
                note(file.sync().await.err().map(|e| e.kind()));
                note(file.read_at(0, 4096).await.err().map(|e| e.kind()));
            }
            note(file.write_at(vec![0; 100], 0).await.err().map(|e| e.kind()));
        }
    });
    let _ = world.run_for(MINUTE);
    assert_eq!(world.panics(), []);
    let eio = std::io::Error::from_raw_os_error(5).kind();
    use ErrorKind::{InvalidInput, StorageFull};
    let full = Some(StorageFull);
    let expected = [full, Some(eio), Some(eio), full, None, None, None, Some(InvalidInput)];
    assert_eq!(*found.borrow(), expected);
}

#[test]
fn a_directory_can_be_copied_wiped_restored_and_rotted() {
    let world = world(1);
    let (found, note) = notes();
    world.start(N1, 1, move |runtime| {
        let note = note.clone();
        async move {
            let disk = runtime.disk();
            match disk.create("f", 1 << 40, Durability::EachWrite).await {
                Ok(file) => file.write_at(block(&file, 5), 1 << 39).await.unwrap(),
                Err(_) => {
                    let file = disk.open("f", Durability::EachWrite).await.unwrap();
                    let bytes = file.read_at(1 << 39, 4096).await.unwrap();
                    note((bytes[0], bytes[100], file.size().await.unwrap()));
                }
            }
            disk.sync_dir().await.unwrap();
            forever().await;
        }
    });
    let _ = world.run_for(SECOND * 5);
    let readable = world.node(N1).readable_image();
    let durable = world.node(N1).durable_image();
    assert_eq!(readable.files(), durable.files());
    assert_eq!(durable.read("f", 1 << 39, 2), Some(vec![5, 5]));
    assert!(world.node(N1).is_settled("f").unwrap());
    world.crash(N1, Crash::PowerCut);
    world.node(N1).wipe();
    assert_eq!(world.node(N1).readable_image().files(), []);
    world.node(N1).restore(&durable);
    world.node(N1).overwrite("f", (1 << 39) + 100, &[6]).unwrap();
    world.restart(N1);
    let _ = world.run_for(SECOND * 5);
    assert_eq!(*found.borrow(), [(5, 6, 1 << 40)]);
}

/// Node 2 listens and notes what it hears; node 1 sends numbered bytes for ever.
fn stream(world: &World) -> (Notes<u8>, Notes<ErrorKind>) {
    stream_over(world, |runtime| runtime.net().between_nodes())
}

/// The same over connections of a kind.
fn stream_over(
    world: &World,
    net: impl Fn(&SimRuntime) -> SimNet + Copy + 'static,
) -> (Notes<u8>, Notes<ErrorKind>) {
    let heard = Rc::new(RefCell::new(Vec::new()));
    let (errors, fail) = notes();
    let listener = heard.clone();
    world.start(N2, 1, move |runtime| {
        let heard = listener.clone();
        async move {
            let mut listener = net(&runtime).listen("n2:7000").await.unwrap();
            loop {
                let (mut reader, _writer) = listener.accept().await.unwrap();
                let mut buffer = [0; 100];
                while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                    heard.borrow_mut().extend(&buffer[..count]);
                }
            }
        }
    });
    world.start(N1, 1, move |runtime| {
        let fail = fail.clone();
        async move {
            loop {
                let (_reader, mut writer) = match net(&runtime).connect("n2:7000").await {
                    Ok(halves) => halves,
                    Err(error) => {
                        fail(error.kind());
                        runtime.sleep(SECOND).await;
                        continue;
                    }
                };
                for number in 0.. {
                    if let Err(error) = writer.write_all(&[number as u8; 1]).await {
                        fail(error.kind());
                        break;
                    }
                    runtime.sleep(Duration::from_millis(1)).await;
                }
            }
        }
    });
    (heard, errors)
}

fn assert_counts_up(heard: &[u8]) {
    for pair in heard.windows(2) {
        assert!(pair[1] == pair[0].wrapping_add(1), "{pair:?}");
    }
}

#[test]
fn bytes_arrive_in_order_and_stall_while_cut() {
    for seed in 0..20 {
        let world = world(seed);
        let (heard, errors) = stream(&world);
        let _ = world.run_for(SECOND * 2);
        world.cut_one_way(&[N1], &[N2]);
        let _ = world.run_for(Duration::from_millis(100));
        let before = heard.borrow().len();
        let _ = world.run_for(SECOND);
        assert_eq!(heard.borrow().len(), before, "seed {seed}");
        assert!(before > 500, "seed {seed}: {before}");
        world.heal();
        let _ = world.run_for(SECOND);
        assert!(heard.borrow().len() > before + 1_000, "seed {seed}");
        assert_counts_up(&heard.borrow());
        assert_eq!(*errors.borrow(), []);
    }
}

#[test]
fn a_long_cut_ends_the_connection_in_either_direction() {
    for (from, to) in [(N1, N2), (N2, N1)] {
        let world = world(3);
        let (heard, errors) = stream(&world);
        let _ = world.run_for(SECOND * 2);
        world.cut_one_way(&[from], &[to]);
        let _ = world.run_for(MINUTE);
        assert_eq!(errors.borrow()[0], ErrorKind::TimedOut);
        assert!(errors.borrow().len() > 1, "it connected through a cut");
        world.heal();
        heard.borrow_mut().clear();
        let _ = world.run_for(SECOND * 10);
        assert!(heard.borrow().len() < 15_000);
    }
}

/// After a cut of any length Linux sends again when it happens to, unless the seam states a bound: after 60
/// seconds of silence its next try comes 102 seconds after the loss.
#[test]
fn what_a_cut_loses_is_sent_again_as_linux_does_it() {
    let tries = [0.0, 0.3, 13.0, 60.0, 500.0]
        .map(|waited| connection::next_try(Duration::from_secs_f64(waited)).as_secs_f64());
    assert_eq!(tries, [0.2, 0.6, 25.4, 102.2, 564.6]);
    let world = world(4);
    let (heard, errors) = stream_over(&world, |runtime| runtime.net());
    let _ = world.run_for(SECOND * 2);
    world.cut_one_way(&[N1], &[N2]);
    let _ = world.run_for(SECOND * 60);
    heard.borrow_mut().clear();
    world.heal();
    let _ = world.run_for(SECOND * 41);
    assert!(heard.borrow().is_empty(), "41 s after the heal");
    let _ = world.run_for(SECOND * 2);
    assert!(!heard.borrow().is_empty(), "43 s after the heal");
    assert_eq!(*errors.borrow(), []);
}

/// Between nodes the seam states it: what is not acknowledged for 10 seconds ends the connection.
#[test]
fn a_connection_between_nodes_ends_ten_seconds_after_its_last_acknowledgement() {
    let world = world(4);
    let (_, errors) = stream(&world);
    let _ = world.run_for(SECOND * 2);
    world.cut_one_way(&[N1], &[N2]);
    let _ = world.run_for(Duration::from_millis(9_990));
    assert_eq!(*errors.borrow(), []);
    let _ = world.run_for(Duration::from_millis(20));
    assert_eq!(*errors.borrow(), [ErrorKind::TimedOut]);
    // So does an attempt to connect, after 500 ms.
    let _ = world.run_for(Duration::from_millis(510));
    assert_eq!(*errors.borrow(), [ErrorKind::TimedOut; 2]);
}

/// A window that stays closed counts as well: a reader that takes nothing ends its connection after 10 seconds, and
/// not before.
#[test]
fn a_reader_that_takes_nothing_ends_a_connection_between_nodes_after_ten_seconds() {
    let written_for = |pause: Duration| {
        let world = world(5);
        let (errors, fail) = notes();
        world.start(N2, 1, move |runtime| async move {
            let mut listener = runtime.net().between_nodes().listen("n2:7000").await.unwrap();
            let (mut reader, _writer) = listener.accept().await.unwrap();
            let mut buffer = [0; 1000];
            runtime.sleep(pause).await;
            while let Ok(1..) = reader.read(&mut buffer).await {}
        });
        world.start(N1, 1, move |runtime| {
            let fail = fail.clone();
            async move {
                let net = runtime.net().between_nodes();
                let (_reader, mut writer) = net.connect("n2:7000").await.expect("it listens");
                let result = writer.write_all(&vec![7; 1 << 20]).await;
                fail(result.map_or_else(|error| error.kind(), |()| ErrorKind::Other));
            }
        });
        let _ = world.run_for(MINUTE);
        errors.take()
    };
    assert_eq!(written_for(SECOND * 9), [ErrorKind::Other], "all of it was written");
    assert_eq!(written_for(SECOND * 11), [ErrorKind::TimedOut]);
}

#[test]
fn a_killed_receiver_resets_its_connections_and_one_without_power_sends_nothing() {
    for seed in 0..20 {
        let world = world(seed);
        let (_, errors) = stream(&world);
        let _ = world.run_for(SECOND * 2);
        world.crash(N2, Crash::Kill);
        let _ = world.run_for(SECOND);
        let first = errors.borrow().first().copied();
        assert_eq!(first, Some(ErrorKind::ConnectionReset), "seed {seed}");
        assert!(errors.borrow().contains(&ErrorKind::ConnectionRefused), "seed {seed}");
    }
    let world = world(1);
    let (_, errors) = stream(&world);
    let _ = world.run_for(SECOND * 2);
    world.crash(N2, Crash::PowerCut);
    let _ = world.run_for(SECOND);
    assert_eq!(*errors.borrow(), []);
    let _ = world.run_for(MINUTE);
    assert!(errors.borrow().len() > 1);
    assert!(errors.borrow().iter().all(|&kind| kind == ErrorKind::TimedOut), "{errors:?}");
}

#[test]
fn a_restarted_dark_node_answers_old_connections_by_a_reset() {
    let world = world(1);
    let (heard, errors) = stream(&world);
    let _ = world.run_for(SECOND * 2);
    world.crash(N2, Crash::PowerCut);
    world.restart(N2);
    heard.borrow_mut().clear();
    let _ = world.run_for(SECOND * 3);
    assert_eq!(errors.borrow().first(), Some(&ErrorKind::ConnectionReset));
    assert!(heard.borrow().len() > 100);
}

#[test]
fn a_reset_loses_bytes_in_flight_and_the_sender_recovers() {
    let mut learnt_late = false;
    for seed in 0..30 {
        let world = world(seed);
        let (heard, errors) = stream(&world);
        let _ = world.run_for(SECOND * 2);
        let slow = LinkTrouble { delay: Duration::from_millis(50), ..LinkTrouble::default() };
        world.trouble_link(N2, N1, Some(slow));
        world.reset_connections(N1, N2);
        let soon = errors.borrow().len();
        let _ = world.run_for(SECOND);
        learnt_late |= soon == 0;
        assert_eq!(errors.borrow().first(), Some(&ErrorKind::ConnectionReset), "seed {seed}");
        // What is sent behind lost bytes never arrives; the next connection begins at 0.
        for pair in heard.borrow().windows(2) {
            assert!([pair[0].wrapping_add(1), 0].contains(&pair[1]), "seed {seed}: {pair:?}");
        }
        heard.borrow_mut().clear();
        let _ = world.run_for(SECOND * 2);
        // The receiver accepts again only once it has learnt; half-open it may never.
        assert_counts_up(&heard.borrow());
    }
    assert!(learnt_late);
}

#[test]
fn listeners_take_free_ports_and_refuse_taken_ones() {
    let world = world(1);
    world.start(N1, 1, |runtime| async move {
        let net = runtime.net();
        let first = net.listen("n1:0").await.unwrap();
        let second = net.listen("127.0.0.1:0").await.unwrap();
        assert_ne!(first.port(), second.port());
        let taken = net.listen(&format!("0.0.0.0:{}", first.port())).await;
        assert_eq!(taken.err().unwrap().kind(), ErrorKind::AddrInUse);
        let port = first.port();
        drop(first);
        net.listen(&format!("n1:{port}")).await.unwrap();
        let foreign = net.listen("n2:1").await;
        assert_eq!(foreign.err().unwrap().kind(), ErrorKind::AddrNotAvailable);
        let refused = net.connect("10.0.0.2:1").await;
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::ConnectionRefused);
        let nonsense = net.connect("nonsense").await;
        assert_eq!(nonsense.err().unwrap().kind(), ErrorKind::InvalidInput);
    });
    let _ = world.run_for(MINUTE);
    assert_eq!(world.panics(), []);
    assert!(!world.is_running(N1));
}

#[test]
fn a_full_pipe_makes_its_writer_wait() {
    let world = world(1);
    let (sent, note) = notes();
    world.start(N2, 1, |runtime| async move {
        let mut listener = runtime.net().listen("n2:7").await.unwrap();
        let (mut reader, _writer) = listener.accept().await.unwrap();
        runtime.sleep(SECOND * 10).await;
        let mut buffer = vec![0; 1 << 20];
        while reader.read(&mut buffer).await.unwrap() > 0 {}
    });
    world.start(N1, 1, move |runtime| {
        let note = note.clone();
        async move {
            runtime.sleep(SECOND).await;
            let (_reader, mut writer) = runtime.net().connect("n2:7").await.unwrap();
            let start = runtime.now();
            writer.write_all(&vec![1; 1 << 20]).await.unwrap();
            note(runtime.now() - start);
        }
    });
    let _ = world.run_for(MINUTE);
    assert_eq!(world.panics(), []);
    assert!(sent.borrow()[0] > SECOND * 8, "{:?}", sent.borrow());
}

#[test]
fn closing_wakes_a_blocked_reader_on_both_sides() {
    let world = world(1);
    let (ends, note) = notes();
    let other = note.clone();
    world.start(N2, 1, move |runtime| {
        let note = other.clone();
        async move {
            let mut listener = runtime.net().listen("n2:7").await.unwrap();
            let (mut reader, mut writer) = listener.accept().await.unwrap();
            note(("remote", reader.read(&mut [0; 9]).await.unwrap()));
            note(("remote", reader.read(&mut [0; 9]).await.unwrap()));
            runtime.sleep(SECOND).await;
            while writer.write_all(&[1]).await.is_ok() {
                runtime.sleep(SECOND).await;
            }
            note(("refused", 0));
        }
    });
    world.start(N1, 1, move |runtime| {
        let note = note.clone();
        async move {
            runtime.sleep(SECOND).await;
            let (mut reader, mut writer) = runtime.net().connect("n2:7").await.unwrap();
            runtime.spawn(async move { note(("local", reader.read(&mut [0; 9]).await.unwrap())) });
            writer.write_all(&[1]).await.unwrap();
            runtime.sleep(SECOND).await;
            writer.close().await.unwrap();
            forever().await;
        }
    });
    let _ = world.run_for(MINUTE);
    assert_eq!(world.panics(), []);
    let expected = [("remote", 1), ("local", 0), ("remote", 0), ("refused", 0)];
    assert_eq!(*ends.borrow(), expected);
}

#[test]
fn the_mesh_keeps_order_hands_back_what_does_not_fit_and_knows_who_stopped() {
    let world = world(1);
    let (heard, note) = notes();
    world.start(N1, 3, move |runtime| {
        let note = note.clone();
        async move {
            let mesh = runtime.mesh::<u32>(10);
            match runtime.shard() {
                ShardId(0) => {
                    let taken = (0..20).take_while(|&n| mesh.try_send(ShardId(2), n).is_ok());
                    assert_eq!(taken.count(), 10);
                    runtime.sleep(SECOND * 2).await;
                    assert_eq!(mesh.try_send(ShardId(2), 10), Ok(()));
                    assert_eq!(mesh.try_send(ShardId(1), 77), Err(77));
                    forever().await;
                }
                ShardId(1) => {}
                _ => {
                    runtime.sleep(SECOND).await;
                    loop {
                        note(mesh.recv().await);
                    }
                }
            }
        }
    });
    let _ = world.run_for(SECOND * 5);
    assert_eq!(world.panics(), []);
    let expected: Vec<_> = (0..=10).map(|n| (ShardId(0), n)).collect();
    assert_eq!(*heard.borrow(), expected);
}

#[test]
fn node_clocks_differ_and_their_random_numbers_too() {
    let world = world(1);
    let (found, note) = notes();
    for node in [N1, N2] {
        let note = note.clone();
        world.start(node, 1, move |runtime| {
            let note = note.clone();
            async move { note((runtime.now(), runtime.random())) }
        });
    }
    let _ = world.run_for(SECOND);
    let found = found.borrow();
    assert_ne!(found[0].0, found[1].0);
    assert_ne!(found[0].1, found[1].1);
}

#[test]
fn a_crash_between_any_two_polls_leaves_a_world_that_goes_on() {
    for polls in 0..300 {
        let world = world(polls);
        for node in [N1, N2] {
            world.start(node, 2, chatter);
        }
        let _ = world.run_polls(polls);
        world.crash(N1, if polls % 2 == 0 { Crash::Kill } else { Crash::PowerCut });
        let _ = world.run_for(Duration::from_millis(20));
        world.restart(N1);
        let _ = world.run_for(Duration::from_millis(50));
        assert_eq!(world.panics(), [], "crash after {polls} polls");
    }
}

#[test]
fn damaged_segments_reach_their_reader() {
    let net = NetOptions { flip_chance: 0.1, ..NetOptions::default() };
    let world = World::new(1, WorldOptions { net, ..WorldOptions::default() });
    let (heard, _) = stream(&world);
    let _ = world.run_for(SECOND * 3);
    let heard = heard.borrow();
    let wrong = heard.iter().enumerate().filter(|(place, byte)| **byte != *place as u8).count();
    assert!(wrong > 0 && wrong < heard.len() / 5, "{wrong} of {}", heard.len());
}

#[test]
fn idle_nodes_cost_no_events() {
    let world = world(1);
    for node in 1..=3 {
        world.start(NodeId(node), 4, |_| forever());
    }
    let before = world.events();
    assert_eq!(world.run_for(MINUTE * 60), Outcome::Quiescent);
    assert_eq!(world.events() - before, 12, "one poll for each shard");
}

// ---- Faults

/// A file of 16 blocks on node 1, whose block `n` is filled with `n + 1` by each of `writes`; the node
/// stays up. Gives what each write, sync and read said.
fn blocks(
    world: &World,
    durability: Durability,
    writes: &'static [u64],
) -> Notes<Option<ErrorKind>> {
    let (told, note) = notes();
    world.start(N1, 1, move |runtime| {
        let note = note.clone();
        async move {
            let disk = runtime.disk();
            let Ok(file) = disk.create("a.wal", 16 * 4096, durability).await else {
                return forever().await;
            };
            disk.sync_dir().await.unwrap();
            for &number in writes {
                let written = file.write_at(block(&file, number as u8 + 1), 4096 * number).await;
                note(written.err().map(|error| error.kind()));
            }
            if durability == Durability::OnSync {
                note(file.sync().await.err().map(|error| error.kind()));
            }
            forever().await;
        }
    });
    let _ = world.run_for(SECOND * 5);
    told
}

fn first_bytes(world: &World) -> Vec<u8> {
    let image = world.node(N1).readable_image();
    (0..16).map(|number| image.read("a.wal", 4096 * number, 1).unwrap()[0]).collect()
}

fn arm(world: &World, operation: DiskOperation, error: DiskError) {
    let path_contains = ".wal".to_owned();
    world.node(N1).arm(DiskFault { operation, path_contains, times: 1, error });
}

#[test]
fn a_short_write_fails_and_a_full_disk_refuses_what_was_set_aside() {
    for (error, kind) in
        [(DiskError::Short, ErrorKind::WriteZero), (DiskError::Full, ErrorKind::StorageFull)]
    {
        let world = world(3);
        world.start(N1, 1, move |runtime| async move {
            let disk = runtime.disk();
            let file = disk.create("a.wal", 4 * 4096, Durability::EachWrite).await.unwrap();
            disk.sync_dir().await.unwrap();
            runtime.sleep(SECOND).await;
            let mut pages = file.block(4 * 4096);
            pages.fill(7);
            let refused = file.write_at(pages, 0).await.unwrap_err();
            runtime.trace(&format!("{:?}", refused.kind()));
        });
        let _ = world.run_for(SECOND / 2);
        arm(&world, DiskOperation::Write, error);
        let _ = world.run_for(SECOND * 5);
        let said = world.lines().last().is_some_and(|line| line.ends_with(&format!("{kind:?}")));
        assert!(said, "{:?}", world.lines());
        let certain = world.node(N1).durable_image().read("a.wal", 0, 4 * 4096).unwrap();
        assert!(certain.iter().all(|byte| *byte == 0), "a failed write is not durable");
    }
}

#[test]
fn a_misdirected_write_lands_elsewhere_and_nobody_is_told() {
    let mut places = BTreeSet::new();
    for seed in 0..20 {
        let world = world(seed);
        arm(&world, DiskOperation::Write, DiskError::Elsewhere);
        let told = blocks(&world, Durability::EachWrite, &[5]);
        assert_eq!(*told.borrow(), [None]);
        let bytes = first_bytes(&world);
        let written: Vec<_> = (0..16).filter(|&at| bytes[at] != 0).collect();
        assert_eq!(written.len(), 1, "{bytes:?}");
        assert_eq!(bytes[written[0]], 6);
        places.insert(written[0]);
    }
    assert!(places.len() > 5, "{places:?}");
}

#[test]
fn a_lost_write_is_readable_until_the_power_fails() {
    let lost = |seed, how| {
        let world = world(seed);
        arm(&world, DiskOperation::Write, DiskError::Lost);
        let told = blocks(&world, Durability::EachWrite, &[5, 6]);
        assert_eq!(*told.borrow(), [None, None]);
        assert_eq!(first_bytes(&world)[5..7], [6, 7]);
        world.crash(N1, how);
        let bytes = first_bytes(&world);
        assert_eq!(bytes[6], 7, "the other was true");
        bytes[5] != 6
    };
    assert!((0..20).all(|seed| !lost(seed, Crash::Kill)));
    assert!((0..20).filter(|&seed| lost(seed, Crash::PowerCut)).count() > 3);
}

#[test]
fn a_sync_that_lies_makes_nothing_durable_and_a_later_one_does() {
    let world = world(1);
    arm(&world, DiskOperation::Sync, DiskError::Lost);
    let told = blocks(&world, Durability::OnSync, &[5]);
    assert_eq!(*told.borrow(), [None, None]);
    assert!(!world.node(N1).is_settled("a.wal").unwrap());
    assert_eq!(world.node(N1).durable_image().read("a.wal", 5 * 4096, 1), Some(vec![0]));
}

#[test]
fn reads_fail_come_short_or_come_once_from_elsewhere() {
    let world = world(4);
    let (found, note) = notes();
    world.start(N1, 1, move |runtime| {
        let note = note.clone();
        async move {
            let disk = runtime.disk();
            let file = disk.create("a.wal", 16 * 4096, Durability::EachWrite).await.unwrap();
            for number in 0..16 {
                file.write_at(block(&file, number), 4096 * u64::from(number)).await.unwrap();
            }
            runtime.sleep(SECOND).await;
            for _ in 0..6 {
                let read = file.read_at(4096, 2 * 4096).await;
                note(read.map(|bytes| (bytes.len(), bytes.first().copied())).ok());
            }
        }
    });
    let _ = world.run_for(SECOND / 2);
    for error in [DiskError::Device, DiskError::Short, DiskError::Elsewhere] {
        arm(&world, DiskOperation::Read, error);
    }
    let _ = world.run_for(SECOND * 5);
    let found = found.borrow();
    assert_eq!(found[0], None);
    assert!(found[2].unwrap().0 < 8192);
    assert_eq!(found[4].unwrap().0, 8192);
    assert_ne!(found[4].unwrap().1, Some(1));
    // A second look at once finds what is there, whatever else waits.
    let right = Some((8192, Some(1)));
    assert_eq!([found[1], found[3], found[5]], [right; 3]);
}

#[test]
fn later_writes_may_complete_first() {
    let world = World::new(
        1,
        WorldOptions {
            disk: DiskOptions {
                write: Latency::steady(Duration::ZERO, SECOND),
                ..DiskOptions::default()
            },
            ..WorldOptions::default()
        },
    );
    let (order, note) = notes();
    world.start(N1, 1, move |runtime| {
        let note = note.clone();
        async move {
            let file = runtime.disk().create("a.wal", 16 * 4096, Durability::OnSync).await.unwrap();
            let file = Rc::new(file);
            for number in 0..16 {
                let (file, note) = (file.clone(), note.clone());
                runtime.spawn(async move {
                    file.write_at(block(&file, 1), 4096 * number).await.unwrap();
                    note(number);
                });
            }
            forever().await;
        }
    });
    let _ = world.run_for(MINUTE);
    let order = order.borrow();
    assert!(order.len() == 16 && !order.is_sorted(), "{order:?}");
}

#[test]
fn rot_strikes_old_sectors_only_and_shows_at_the_next_read() {
    let random = Random::new(1, "test");
    for how in [Rot::Bit, Rot::Zero, Rot::Old] {
        let world = world(1);
        let _told = blocks(&world, Durability::EachWrite, &[0, 1, 2, 3, 4, 5, 6, 7]);
        let before = world.node(N1).durable_image().read("a.wal", 0, 16 * 4096).unwrap();
        let place = world.node(N1).rot(&random, how).expect("there are old sectors");
        let after = world.node(N1).durable_image().read("a.wal", 0, 16 * 4096).unwrap();
        let changed: Vec<_> = (0..16 * 4096).filter(|&at| before[at] != after[at]).collect();
        assert!(changed[0] / 512 == changed[changed.len() - 1] / 512, "one sector, {place}");
        assert!(changed[0] < 5 * 4096, "{place}: the last writes are not called durable by any");
        assert_eq!(world.node(N1).readable_image().read("a.wal", 0, 16 * 4096), Some(after));
    }
    let fresh = world(1);
    let _told = blocks(&fresh, Durability::EachWrite, &[0, 1, 2]);
    assert_eq!(fresh.node(N1).rot(&random, Rot::Bit), None);
}

#[test]
fn an_old_sector_is_what_was_durable_there_before() {
    let world = world(1);
    world.start(N1, 1, |runtime| async move {
        let file = runtime.disk().create("a.wal", 8 * 4096, Durability::EachWrite).await.unwrap();
        for byte in [1, 2] {
            for number in 0..8 {
                file.write_at(block(&file, byte), 4096 * number).await.unwrap();
            }
        }
        forever().await;
    });
    let _ = world.run_for(SECOND);
    let bytes = || world.node(N1).readable_image().read("a.wal", 0, 8 * 4096).unwrap();
    assert!(bytes().iter().all(|byte| *byte == 2));
    world.node(N1).rot(&Random::new(1, "test"), Rot::Old).expect("there are old sectors");
    assert_eq!(bytes().iter().filter(|byte| **byte == 1).count(), 512);
}

#[test]
fn files_are_lost_and_swapped() {
    let world = world(1);
    world.start(N1, 1, |runtime| async move {
        for (name, byte) in [("a", 1), ("b", 2)] {
            let file = runtime.disk().create(name, 4096, Durability::EachWrite).await.unwrap();
            file.write_at(block(&file, byte), 0).await.unwrap();
        }
        runtime.disk().sync_dir().await.unwrap();
        forever().await;
    });
    let _ = world.run_for(SECOND);
    world.crash(N1, Crash::PowerCut);
    world.node(N1).swap_files("a", "b").unwrap();
    assert_eq!(world.node(N1).readable_image().read("a", 0, 1), Some(vec![2]));
    world.node(N1).lose_file("a").unwrap();
    for image in [world.node(N1).readable_image(), world.node(N1).durable_image()] {
        assert_eq!(image.files(), [("b".to_owned(), 4096)]);
    }
    assert!(world.node(N1).lose_file("a").is_err());
}

#[test]
fn links_are_slow_narrow_or_damage_what_they_carry() {
    let heard_with = |trouble| {
        let world = world(1);
        let (heard, _) = stream(&world);
        world.trouble_link(N1, N2, Some(trouble));
        let _ = world.run_for(SECOND * 5);
        let during = heard.borrow().clone();
        world.trouble_link(N1, N2, None);
        let _ = world.run_for(SECOND * 30);
        let after = heard.borrow().len();
        (during, after)
    };
    let none = LinkTrouble::default();
    let (clean, _) = heard_with(none);
    assert_counts_up(&clean);
    let (slow, after) = heard_with(LinkTrouble { delay: SECOND, ..none });
    assert!(slow.len() < clean.len() && after > clean.len());
    assert_counts_up(&slow);
    // What was on its way does not stay slow when the trouble is over.
    let (stuck, after) = heard_with(LinkTrouble { delay: SECOND * 1_000, ..none });
    assert!(stuck.is_empty() && after > clean.len(), "{after}");
    let (narrow, after) = heard_with(LinkTrouble { time_per_kilobyte: SECOND * 10, ..none });
    assert!(narrow.len() < 600 && after > narrow.len(), "{}", narrow.len());
    assert_counts_up(&narrow);
    let (flipped, _) = heard_with(LinkTrouble { flip_chance: 0.1, ..none });
    let wrong = flipped.iter().enumerate().filter(|(at, byte)| **byte != *at as u8).count();
    assert!(wrong > 0 && wrong < flipped.len() / 5);
}

#[test]
fn a_crossed_wire_leads_to_another_node() {
    let world = world(1);
    let (heard, note) = notes();
    for node in [N2, NodeId(3)] {
        let note = note.clone();
        world.start(node, 1, move |runtime| {
            let note = note.clone();
            async move {
                let mut listener = runtime.net().listen("0.0.0.0:7000").await.unwrap();
                while listener.accept().await.is_ok() {
                    note(runtime.node());
                }
            }
        });
    }
    let _ = world.run_for(SECOND);
    for instead in [Some(NodeId(3)), None] {
        world.cross_wire(N1, N2, instead);
        world.start(N1, 1, |runtime| async move {
            runtime.net().connect("n2:7000").await.unwrap();
        });
        let _ = world.run_for(SECOND);
    }
    assert_eq!(*heard.borrow(), [NodeId(3), N2]);
}

#[test]
fn figures_count_crashes_and_what_they_took() {
    let mut sum = Figures::default();
    for seed in 0..40 {
        let world = world(seed);
        let _told = blocks(&world, Durability::OnSync, &[]);
        world.spawn_on(N1, ShardId(0), |runtime| async move {
            let disk = runtime.disk();
            let file = disk.create("b", 16 * 4096, Durability::OnSync).await.unwrap();
            disk.sync_dir().await.unwrap();
            for number in 0..16 {
                file.write_at(block(&file, 1), 4096 * number).await.unwrap();
            }
            forever().await;
        });
        let _ = world.run_for(SECOND * 5);
        world.crash(N1, Crash::PowerCut);
        world.restart(N1);
        world.crash(N1, Crash::Kill);
        sum.add(&world.figures());
    }
    assert_eq!((sum.kills, sum.power_cuts), (40, 40));
    assert!(sum.torn_sectors > 100 && sum.garbage_sectors > 5 && sum.lost_writes > 100, "{sum:?}");
}

/// A world of three nodes that write, under faults of these kinds only.
fn under(seed: u64, kinds: &[Fault], beyond: bool, seconds: u32) -> (World, Nemesis) {
    let world = world(seed);
    let nodes = vec![N1, N2, NodeId(3)];
    let mut nemesis = Nemesis::new(FaultOptions {
        nodes: nodes.clone(),
        shards: 1,
        down_max: 3,
        pause_mean: Duration::from_millis(50),
        kinds: kinds.to_vec(),
        beyond,
    });
    for node in nodes {
        world.start(node, 1, log_keeper);
    }
    let end = world.now() + SECOND * seconds;
    while world.now() < end {
        let pause = nemesis.act(&world);
        assert!(pause > Duration::ZERO, "{:?}", world.lines());
        let _ = world.run_for(pause.min(SECOND));
    }
    assert_eq!(world.panics(), []);
    (world, nemesis)
}

/// Writes a log, whatever it finds.
async fn log_keeper(runtime: SimRuntime) {
    let disk = runtime.disk();
    let file = match disk.create("a.wal", 1 << 20, Durability::EachWrite).await {
        Ok(file) => Ok(file),
        Err(_) => disk.open("a.wal", Durability::EachWrite).await,
    };
    let Ok(file) = file else { return };
    let _ = disk.sync_dir().await;
    for number in 0.. {
        let _ = file.write_at(block(&file, number as u8), 4096 * (number % 256)).await;
        let _ = file.read_at(0, 4096).await;
        runtime.sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn every_kind_of_fault_strikes_and_ends() {
    // The logs of a cluster draw when their readers stand.
    for kind in Fault::ALL.into_iter().filter(|kind| *kind != Fault::BlockLog) {
        let (world, mut nemesis) = under(7, &[kind], false, 25);
        nemesis.calm(&world);
        assert!(nemesis.counts()[&kind] > 0, "{kind} never struck");
        assert_eq!(nemesis.counts().len(), 1, "{kind} is not alone");
        let told = world.lines().iter().any(|line| line.contains(&format!("fault {kind} ")));
        assert!(told, "{kind} tells nothing");
        let late = nemesis.late(&world);
        for node in [N1, N2, NodeId(3)] {
            assert!(world.is_running(node) != late.contains(&node), "{kind}, node {node}");
        }
        let lasts = Fault::LASTING.contains(&kind);
        assert_eq!(nemesis.corrupted().len(), usize::from(lasts), "{kind}");
        nemesis.readmit(&world);
        assert_eq!(nemesis.late(&world), []);
    }
}

#[test]
fn a_minority_is_corrupted_and_beyond_it_more() {
    let damage = Fault::LASTING;
    let mut most = 0;
    for seed in 0..10 {
        let (_, nemesis) = under(seed, damage, false, 10);
        assert!(nemesis.corrupted().len() <= 1, "{:?}", nemesis.corrupted());
        let (_, nemesis) = under(seed, damage, true, 10);
        most = most.max(nemesis.corrupted().len());
    }
    assert!(most > 1, "beyond went never beyond");
}

#[test]
fn without_one_kind_the_others_strike_as_before() {
    let strikes = |kinds: &[Fault]| {
        let (world, _) = under(5, kinds, false, 20);
        let lines = world.lines().into_iter();
        lines.filter(|line| line.contains("fault hang-disk")).collect::<Vec<_>>()
    };
    let all = strikes(&[Fault::Reset, Fault::HangDisk, Fault::FullDisk, Fault::Isolate]);
    assert!(all.len() > 3);
    assert_eq!(all, strikes(&[Fault::HangDisk]));
}

#[test]
fn a_node_that_was_set_back_comes_in_when_the_others_are_calm() {
    let kinds = [Fault::Restore, Fault::Blackout, Fault::Partition];
    let (world, nemesis) = under(3, &kinds, false, 60);
    let lines = world.lines();
    let place = |text: &str| lines.iter().position(|line| line.contains(text));
    let waits = place("waits until the others are calm").expect("it was admitted");
    let restored = place("fault restore").expect("it was restored");
    assert!(restored < waits);
    let struck = lines[waits..].iter().find(|line| line.contains("fault ")).expect("it goes on");
    let second = |line: &str| line.trim().split(' ').next().unwrap().parse::<f64>().unwrap();
    assert!(second(struck) - second(&lines[waits]) >= 14.0, "{struck}");
    assert!(
        nemesis
            .corrupted()
            .values()
            .all(|corruption| corruption.explains(purlin::ErrorKind::Refused))
    );
    assert!(
        !nemesis.corrupted().values().any(|corruption| corruption.explains(purlin::ErrorKind::Bug))
    );
}
