//! What the seams promise, and what they do when the machine says no.

use futures_lite::future;
use purlin::os::{
    ClientFiles, OpenFiles, OsFile, OsNet, OsRuntime, Pinning, RuntimeKind, ShardEnd, ShardThreads,
    SharedPort, ThreadOptions, check, faster_durability, mesh, run_once, run_shards,
};
use purlin::{Disk, Durability, File, Listener, Mesh, Net, Pace, Reader, Runtime, ShardId, Writer};
use std::{
    cell::{Cell, RefCell},
    fs,
    future::Future,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    pin::pin,
    process::Command,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Poll, Waker},
    time::Duration,
};

/// Which runtime, by the name under which this file is compiled.
const RUNTIME: RuntimeKind = match module_path!().as_bytes() {
    [.., b'r', b'i', b'n', b'g'] => RuntimeKind::Ring,
    _ => RuntimeKind::Glommio,
};

const BLOCK: usize = 4096;
const BOTH: [Durability; 2] = [Durability::EachWrite, Durability::OnSync];

/// A directory of its own for one test, gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("runtime-{RUNTIME}-{test}-{}", std::process::id()));
        fs::remove_dir_all(&path).ok();
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn run<F, T>(&self, start: impl FnOnce(OsRuntime) -> F + Send + 'static) -> T
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        run_once(RUNTIME, self.0.clone(), start).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Runs shards of one kind, given their numbers, and wants each to finish.
fn finish<T>(shards: ShardThreads<T>) -> Vec<(ShardId, T)> {
    let ends = shards.join();
    ends.into_iter()
        .map(|(shard, end)| match end {
            ShardEnd::Finished(output) => (shard, output),
            ShardEnd::Panicked(text) => panic!("shard {shard:?}: {text}"),
            ShardEnd::Refused(error) => panic!("shard {shard:?}: {error}"),
        })
        .collect()
}

fn filled(file: &OsFile, blocks: usize, byte: u8) -> <OsFile as File>::Block {
    let mut block = file.block(blocks * BLOCK);
    block.as_mut().fill(byte);
    block
}

#[test]
fn a_file_is_zero_and_then_what_was_written() {
    let scratch = Scratch::new("file");
    scratch.run(|runtime| async move {
        let disk = runtime.disk();
        for durability in BOTH {
            let name = format!("{durability:?}");
            // More than one piece of the filling, and no whole number of them.
            let len = (1 << 20) + 3 * BLOCK as u64;
            let file = disk.create(&name, len, durability).await.unwrap();
            assert_eq!(file.size().await.unwrap(), len);
            let zeros = file.read_at(0, len as usize).await.unwrap();
            assert!(
                zeros.as_ref().iter().all(|byte| *byte == 0)
                    && zeros.as_ref().len() == len as usize
            );

            file.write_at(filled(&file, 2, 7), BLOCK as u64).await.unwrap();
            file.sync().await.unwrap();
            file.close().await.unwrap();

            let file = disk.open(&name, durability).await.unwrap();
            let read = file.read_at(0, 4 * BLOCK).await.unwrap();
            let expected = [[0; BLOCK], [7; BLOCK], [7; BLOCK], [0; BLOCK]].concat();
            assert!(read.as_ref() == expected);
            file.close().await.unwrap();
        }
    });
}

/// Buffers may be used again, and files are zero all the same.
#[test]
fn a_new_file_is_zero_whatever_was_written_before_it() {
    let scratch = Scratch::new("zero");
    scratch.run(|runtime| async move {
        let disk = runtime.disk();
        let len = 1 << 20;
        let before = disk.create("before", len, Durability::OnSync).await.unwrap();
        for blocks in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
            before.write_at(filled(&before, blocks, 7), 0).await.unwrap();
        }
        for blocks in [1, 2, 5, 256] {
            let name = format!("after-{blocks}");
            let len = blocks * BLOCK as u64;
            let file = disk.create(&name, len, Durability::OnSync).await.unwrap();
            let read = file.read_at(0, len as usize).await.unwrap();
            assert_eq!(read.as_ref().len() as u64, len);
            assert!(read.as_ref().iter().all(|byte| *byte == 0), "{blocks} blocks");
        }
    });
}

#[test]
fn a_file_may_begin_with_a_block_that_is_not_zero() {
    let scratch = Scratch::new("head");
    scratch.run(|runtime| async move {
        let disk = runtime.disk();
        for durability in BOTH {
            let (name, len) = (format!("{durability:?}"), (1 << 20) + BLOCK as u64);
            let (head, pace) = ([9; BLOCK], Pace::default());
            let file = disk.create_paced(&name, &head, len, durability, &pace).await.unwrap();
            let read = file.read_at(0, len as usize).await.unwrap();
            assert!(read.as_ref()[..BLOCK] == head);
            assert!(read.as_ref()[BLOCK..].iter().all(|byte| *byte == 0));
            file.close().await.unwrap();
        }
    });
}

/// A write that is told done would otherwise be in a cache only, and no test that kills a process could see
/// it (safety W1).
#[test]
fn a_file_whose_writes_are_durable_by_themselves_is_open_for_that() {
    const O_DSYNC: u32 = 0o10000;
    let scratch = Scratch::new("dsync");
    scratch.run(|runtime| async move {
        let disk = runtime.disk();
        for durability in BOTH {
            let name = format!("{durability:?}");
            let made = disk.create(&name, BLOCK as u64, durability).await.unwrap();
            assert_eq!(flags(&made) & O_DSYNC != 0, durability == Durability::EachWrite);
            made.close().await.unwrap();
            let opened = disk.open(&name, durability).await.unwrap();
            assert_eq!(flags(&opened) & O_DSYNC != 0, durability == Durability::EachWrite);
            opened.close().await.unwrap();
        }
    });
}

/// The flags of an open file, as the kernel tells them.
fn flags(file: &OsFile) -> u32 {
    let path = format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd());
    let text = fs::read_to_string(path).unwrap();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    u32::from_str_radix(flags.trim(), 8).unwrap()
}

/// The kernel refuses to sync a directory of this file system, and the caller gets the error (safety W7).
#[test]
fn a_sync_of_a_directory_reaches_the_kernel() {
    let synced = run_once(RUNTIME, PathBuf::from("/proc/self/fdinfo"), |runtime| async move {
        runtime.disk().sync_dir().await
    });
    assert_eq!(synced.unwrap().unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_read_ends_where_the_file_does() {
    let scratch = Scratch::new("end");
    fs::write(scratch.0.join("odd"), [5; BLOCK + 10]).unwrap();
    scratch.run(|runtime| async move {
        let disk = runtime.disk();
        let file = disk.create("even", 2 * BLOCK as u64, Durability::OnSync).await.unwrap();
        assert_eq!(file.read_at(BLOCK as u64, 8 * BLOCK).await.unwrap().as_ref(), [0; BLOCK]);
        assert_eq!(file.read_at(2 * BLOCK as u64, BLOCK).await.unwrap().as_ref().len(), 0);
        assert_eq!(file.read_at(64 * BLOCK as u64, BLOCK).await.unwrap().as_ref().len(), 0);
        file.close().await.unwrap();

        let file = disk.open("odd", Durability::OnSync).await.unwrap();
        assert_eq!(file.read_at(0, 4 * BLOCK).await.unwrap().as_ref(), [5; BLOCK + 10]);
        file.close().await.unwrap();
    });
}

#[test]
fn an_empty_file_opened_first_spoils_no_later_read() {
    let scratch = Scratch::new("empty");
    fs::write(scratch.0.join("empty"), []).unwrap();
    fs::write(scratch.0.join("full"), [9; BLOCK]).unwrap();
    scratch.run(|runtime| async move {
        let disk = runtime.disk();
        let empty = disk.open("empty", Durability::EachWrite).await.unwrap();
        let full = disk.open("full", Durability::EachWrite).await.unwrap();
        assert_eq!(full.read_at(0, BLOCK).await.unwrap().as_ref(), [9; BLOCK]);
        empty.close().await.unwrap();
        full.close().await.unwrap();
    });
}

#[test]
fn many_writes_in_flight_all_land() {
    let scratch = Scratch::new("flight");
    scratch.run(|runtime| async move {
        const WRITES: u64 = 96;
        let disk = runtime.disk();
        let len = WRITES * BLOCK as u64;
        let file = Rc::new(disk.create("log", len, Durability::EachWrite).await.unwrap());
        let done = Rc::new(Cell::new(0));
        for number in 0..WRITES {
            let (file, done) = (file.clone(), done.clone());
            runtime.spawn(async move {
                let block = filled(&file, 1, number as u8 + 1);
                file.write_at(block, number * BLOCK as u64).await.unwrap();
                done.set(done.get() + 1);
            });
        }
        while done.get() < WRITES {
            runtime.sleep(Duration::from_millis(1)).await;
        }
        let read = file.read_at(0, len as usize).await.unwrap();
        for (number, block) in read.as_ref().chunks(BLOCK).enumerate() {
            assert!(block.iter().all(|byte| *byte == number as u8 + 1), "block {number}");
        }
    });
}

#[test]
fn names_are_made_listed_renamed_and_removed() {
    let scratch = Scratch::new("names");
    fs::write(scratch.0.join("outside"), [1; BLOCK]).unwrap();
    scratch.run(|runtime| async move {
        let root = runtime.disk();
        let disk = root.subdirectory("shard-0");
        assert_eq!(disk.list().await.unwrap_err().kind(), ErrorKind::NotFound);
        disk.create_dir().await.unwrap();
        assert_eq!(disk.create_dir().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        root.sync_dir().await.unwrap();

        for name in ["b", "a"] {
            disk.create(name, BLOCK as u64, Durability::OnSync)
                .await
                .unwrap()
                .close()
                .await
                .unwrap();
        }
        let again = disk.create("a", BLOCK as u64, Durability::OnSync).await.err().unwrap();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        let absent = disk.open("c", Durability::OnSync).await.err().unwrap();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
        assert_eq!(disk.remove("c").await.unwrap_err().kind(), ErrorKind::NotFound);

        disk.rename("a", "c").await.unwrap();
        assert_eq!(disk.list().await.unwrap(), ["b", "c"]);
        disk.rename("c", "b").await.unwrap();
        disk.sync_dir().await.unwrap();
        assert_eq!(disk.list().await.unwrap(), ["b"]);
        disk.remove("b").await.unwrap();
        assert_eq!(disk.list().await.unwrap(), [] as [String; 0]);

        std::os::unix::fs::symlink("../outside", Path::new(&disk.location()).join("link")).unwrap();
        assert!(disk.open("link", Durability::OnSync).await.is_err(), "followed a link");
    });
}

#[test]
fn directories_and_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("mode");
    scratch.run(|runtime| async move {
        let disk = runtime.disk().subdirectory("own");
        disk.create_dir().await.unwrap();
        disk.create("file", BLOCK as u64, Durability::EachWrite)
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
    });
    let mode =
        |path: &str| fs::metadata(scratch.0.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("own"), mode("own/file")), (0o700, 0o600));
}

#[test]
fn a_directory_has_one_lock() {
    let scratch = Scratch::new("lock");
    scratch.run(|runtime| async move {
        let lock = runtime.disk().lock().await.unwrap();
        let second = runtime.disk().lock().await.err().unwrap();
        assert_eq!(second.kind(), ErrorKind::WouldBlock);
        drop(lock);
        runtime.disk().lock().await.unwrap();
    });
}

#[test]
fn an_open_waits_for_the_lock_of_the_file() {
    let scratch = Scratch::new("wait");
    scratch.run(|runtime| async move {
        let disk = runtime.disk();
        let held = disk.create("log", BLOCK as u64, Durability::EachWrite).await.unwrap();
        let mut opened = pin!(disk.open("log", Durability::EachWrite));
        let early = future::or(async { opened.as_mut().await.is_ok() }, async {
            runtime.sleep(Duration::from_millis(20)).await;
            false
        });
        assert!(!early.await, "two have the file's lock");
        held.close().await.unwrap();
        opened.await.unwrap().close().await.unwrap();
    });
}

#[test]
fn a_full_disk_is_recognised_and_leaves_no_half_file() {
    let scratch = Scratch::new("full");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(&scratch.0)
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: a small file system can only be mounted with privileges");
        return;
    }
    let (error, names) = scratch.run(|runtime| async move {
        let disk = runtime.disk();
        let error = disk.create("big", 4 << 20, Durability::EachWrite).await.err();
        (error, disk.list().await)
    });
    let unmounted = Command::new("umount").arg(&scratch.0).status().unwrap();
    assert!(unmounted.success());
    let error = error.expect("4 MiB do not fit into 1 MiB");
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::StorageFull, Some(28)));
    assert_eq!(names.unwrap(), [] as [String; 0]);
}

#[test]
fn both_directions_of_a_connection_carry_much_at_once() {
    let scratch = Scratch::new("duplex");
    scratch.run(|runtime| async move {
        let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = pair(&runtime).await;
        let writes = future::zip(send(&mut near_out, 1), send(&mut far_out, 2));
        let reads = future::zip(receive(&mut near_in, 2), receive(&mut far_in, 1));
        future::zip(reads, writes).await;
    });
}

const MUCH: usize = 16 << 20;

async fn send(writer: &mut impl Writer, byte: u8) {
    writer.write_all(&vec![byte; MUCH]).await.unwrap();
}

async fn receive(reader: &mut impl Reader, byte: u8) {
    let (mut buffer, mut received) = (vec![0; 256 << 10], 0);
    while received < MUCH {
        let read = reader.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the stream ended after {received} bytes");
        assert!(buffer[..read].iter().all(|got| *got == byte));
        received += read;
    }
}

type Halves = (<OsNet as Net>::Reader, <OsNet as Net>::Writer);

async fn pair(runtime: &OsRuntime) -> (Halves, Halves) {
    let mut listener = runtime.net().listen("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.port());
    let net = runtime.net();
    let (near, far) = future::zip(listener.accept(), net.connect(&address)).await;
    (near.unwrap(), far.unwrap())
}

#[test]
fn a_large_read_takes_all_that_is_there() {
    let scratch = Scratch::new("large-read");
    scratch.run(|runtime| async move {
        let mut listener = runtime.net().listen("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", listener.port())).unwrap();
        stream.write_all(&[3; 60_000]).unwrap();
        let (mut reader, _writer) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 256 << 10];
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 60_000);
    });
}

#[test]
fn a_dropped_writer_ends_its_direction_only() {
    let scratch = Scratch::new("half");
    scratch.run(|runtime| async move {
        let ((mut near_in, near_out), (mut far_in, mut far_out)) = pair(&runtime).await;
        drop(near_out);
        assert_eq!(far_in.read(&mut [0; 8]).await.unwrap(), 0);
        far_out.write_all(b"still here").await.unwrap();
        let mut buffer = [0; 64];
        let read = near_in.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], b"still here");
    });
}

#[test]
fn closing_wakes_the_blocked_reader() {
    let scratch = Scratch::new("close");
    scratch.run(|runtime| async move {
        let ((mut near_in, mut near_out), _far) = pair(&runtime).await;
        let mut buffer = [0; 8];
        let read = near_in.read(&mut buffer);
        let (read, closed) = future::zip(read, near_out.close()).await;
        assert_eq!(read.unwrap(), 0);
        closed.unwrap();
    });
}

#[test]
fn dropping_both_halves_closes_the_connection() {
    let scratch = Scratch::new("drop");
    scratch.run(|runtime| async move {
        let (near, (mut far_in, _far_out)) = pair(&runtime).await;
        drop(near);
        assert_eq!(far_in.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn a_port_is_listened_at_once_and_free_afterwards() {
    let scratch = Scratch::new("port");
    scratch.run(|runtime| async move {
        let net = runtime.net();
        let listener = net.listen("127.0.0.1:0").await.unwrap();
        let address = format!("127.0.0.1:{}", listener.port());
        let second = net.listen(&address).await.err().unwrap();
        assert_eq!(second.kind(), ErrorKind::AddrInUse);
        assert_eq!(SharedPort::bind(&address, 2).err().unwrap().kind(), ErrorKind::AddrInUse);
        drop(listener);
        let refused = net.connect(&address).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        net.listen(&address).await.unwrap();
    });
}

#[test]
fn shards_share_a_port_that_nobody_else_gets() {
    const CONNECTIONS: usize = 64;
    let scratch = Scratch::new("shared");
    let ports = SharedPort::bind("127.0.0.1:0", 2).unwrap();
    let port = ports[0].port();
    let second = SharedPort::bind(&format!("127.0.0.1:{port}"), 2).err().unwrap();
    assert_eq!(second.kind(), ErrorKind::AddrInUse);

    let starts = ports.into_iter().enumerate();
    let starts = starts.map(|(shard, port)| move |runtime| answer(runtime, port, shard as u8));
    let shards =
        run_shards(ThreadOptions::new(RUNTIME), scratch.0.clone(), starts.collect()).unwrap();
    let mut answers = [0; 2];
    for _ in 0..CONNECTIONS {
        let mut answer = [0];
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.read_exact(&mut answer).unwrap();
        answers[usize::from(answer[0])] += 1;
    }
    // Each stops at its first byte from a client, so ask until both have.
    let mut stopped = [false; 2];
    while stopped != [true; 2] {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { break };
        let mut answer = [0];
        if stream.read_exact(&mut answer).is_ok() && stream.write_all(b"stop").is_ok() {
            stopped[usize::from(answer[0])] = true;
        }
    }
    finish(shards);
    assert_eq!(answers.iter().sum::<usize>(), CONNECTIONS);
    assert!(answers.iter().all(|count| *count > 0), "one shard got all: {answers:?}");
}

/// The kernel gives the lowest free number, so one at or above the bound shows that clients have all theirs.
#[test]
fn a_connection_that_takes_a_descriptor_kept_for_the_log_is_known() {
    let scratch = Scratch::new("kept-descriptors");
    let few = ClientFiles::keeping(1, OpenFiles { found: 2, limit: 2 });
    for (files, has_room) in [(few, false), (ClientFiles::ALL, true)] {
        let port = SharedPort::bind("127.0.0.1:0", 1).unwrap().remove(0);
        let number = port.port();
        let told = run_once(RUNTIME, scratch.0.clone(), move |runtime| async move {
            let mut listener = runtime.listener(port, files);
            let dialled = TcpStream::connect(("127.0.0.1", number)).unwrap();
            let accepted = listener.accept().await.unwrap();
            drop((dialled, accepted));
            listener.has_room()
        });
        assert_eq!(told.unwrap(), has_room, "{files:?}");
    }
}

/// Tells each connection the shard's number, until one says something.
async fn answer(runtime: OsRuntime, port: SharedPort, shard: u8) {
    let mut listener = runtime.listener(port, ClientFiles::ALL);
    let stopped = Rc::new(Cell::new(false));
    while !stopped.get() {
        let accepted = future::or(async { Some(listener.accept().await.unwrap()) }, async {
            while !stopped.get() {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            None
        });
        let Some((mut reader, mut writer)) = accepted.await else { break };
        let stopped = stopped.clone();
        runtime.spawn(async move {
            writer.write_all(&[shard]).await.unwrap();
            if matches!(reader.read(&mut [0; 8]).await, Ok(4)) {
                stopped.set(true);
            }
        });
    }
}

#[test]
fn a_full_or_stopped_channel_gives_the_item_back() {
    let mut ends = mesh::<u32>(3, 4);
    let [first, second] = [ends.remove(0), ends.remove(0)];
    for item in 0..4 {
        assert_eq!(first.try_send(ShardId(1), item), Ok(()));
    }
    assert_eq!(first.try_send(ShardId(1), 4), Err(4));
    assert_eq!(first.try_send(ShardId(2), 4), Ok(()), "each pair has a queue of its own");
    assert_eq!(future::block_on(second.recv()), (ShardId(0), 0));
    assert_eq!(first.try_send(ShardId(1), 4), Ok(()));
    drop(second);
    assert_eq!(first.try_send(ShardId(1), 5), Err(5));
}

#[test]
fn the_mesh_keeps_the_order_of_each_sender() {
    const ITEMS: u64 = 20_000;
    let scratch = Scratch::new("mesh");
    let starts = mesh::<u64>(3, 16).into_iter().enumerate().map(|(shard, mesh)| {
        move |_: OsRuntime| async move {
            if shard > 0 {
                for mut item in 0..ITEMS {
                    while let Err(back) = mesh.try_send(ShardId(0), item) {
                        item = back;
                        future::yield_now().await;
                    }
                }
                return;
            }
            let mut next = [0; 3];
            while next != [0, ITEMS, ITEMS] {
                let (from, item) = mesh.recv().await;
                assert_eq!(item, next[usize::from(from.0)], "from {from:?}");
                next[usize::from(from.0)] += 1;
            }
        }
    });
    finish(run_shards(ThreadOptions::new(RUNTIME), scratch.0.clone(), starts.collect()).unwrap());
}

#[test]
fn a_shard_that_sleeps_is_woken_by_another() {
    const ROUNDS: u64 = 2_000;
    let scratch = Scratch::new("wake");
    let starts = mesh::<u64>(2, 4).into_iter().enumerate().map(|(shard, mesh)| {
        move |_: OsRuntime| async move {
            let other = ShardId(1 - shard as u16);
            for round in 0..ROUNDS {
                if shard == 0 {
                    mesh.try_send(other, round).unwrap();
                }
                assert_eq!(mesh.recv().await, (other, round));
                if shard == 1 {
                    mesh.try_send(other, round).unwrap();
                }
            }
            mesh
        }
    });
    let ends = finish(
        run_shards(ThreadOptions::new(RUNTIME), scratch.0.clone(), starts.collect()).unwrap(),
    );
    assert_eq!(ends.len(), 2);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a thread that is no executor's, as a host has them")]
fn another_thread_may_wake_a_task_even_when_its_executor_has_ended() {
    const ROUNDS: usize = 500;
    let scratch = Scratch::new("foreign");
    let rounds = Arc::new(AtomicUsize::new(0));
    let (sender, wakers) = mpsc::channel::<Waker>();
    let counted = rounds.clone();
    let thread = std::thread::spawn(move || {
        let mut last = None;
        for waker in wakers {
            counted.fetch_add(1, Ordering::SeqCst);
            waker.wake_by_ref();
            last = Some(waker);
        }
        last.unwrap()
    });
    scratch.run(move |_| async move {
        for round in 0..ROUNDS {
            let mut is_sent = false;
            let woken = future::poll_fn(|cx| {
                if !is_sent {
                    sender.send(cx.waker().clone()).unwrap();
                    is_sent = true;
                }
                match rounds.load(Ordering::SeqCst) > round {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            });
            woken.await;
        }
    });
    let last = thread.join().unwrap();
    last.wake_by_ref();
    last.wake();
}

#[test]
fn a_panic_ends_one_shard_and_is_reported() {
    let scratch = Scratch::new("panic");
    let mut ends = mesh::<()>(3, 1);
    let own = ends.remove(2);
    let starts = ends.into_iter().enumerate().map(|(shard, mesh)| {
        move |runtime: OsRuntime| async move {
            if shard == 1 {
                runtime.spawn(async { panic!("index went back from {} to {}", 9, 3) });
                future::pending::<()>().await;
            }
            mesh.recv().await;
        }
    });
    let shards =
        run_shards(ThreadOptions::new(RUNTIME), scratch.0.clone(), starts.collect()).unwrap();
    let (shard, end) = shards.next_end().unwrap();
    assert_eq!(shard, ShardId(1));
    assert!(
        matches!(&end, ShardEnd::Panicked(text) if text == "index went back from 9 to 3"),
        "{end:?}"
    );
    own.try_send(ShardId(0), ()).unwrap();
    finish(shards);
}

#[test]
fn files_that_a_shard_leaves_behind_are_closed_and_unlocked() {
    let scratch = Scratch::new("leftovers");
    for round in 0..3 {
        scratch.run(move |runtime| async move {
            let disk = runtime.disk();
            let lock = disk.lock().await.unwrap();
            let file = match round {
                0 => disk.create("log", 8 * BLOCK as u64, Durability::EachWrite).await,
                _ => disk.open("log", Durability::EachWrite).await,
            };
            let file = file.unwrap();
            runtime.spawn(async move {
                file.write_at(filled(&file, 1, 1), 0).await.unwrap();
                future::pending::<()>().await;
                drop((file, lock));
            });
            let listener = runtime.net().listen("127.0.0.1:0").await.unwrap();
            runtime.spawn(async move {
                let mut listener = listener;
                listener.accept().await.unwrap();
            });
            runtime.sleep(Duration::from_millis(5)).await;
        });
    }
}

#[test]
fn a_spawned_task_is_not_polled_inside_its_spawner() {
    let scratch = Scratch::new("spawn");
    scratch.run(|runtime| async move {
        let shared = Rc::new(RefCell::new(0));
        let borrowed = shared.borrow_mut();
        let task = shared.clone();
        runtime.spawn(async move { *task.borrow_mut() += 1 });
        drop(borrowed);
        while *shared.borrow() == 0 {
            future::yield_now().await;
        }
    });
}

#[test]
fn time_passes_and_chance_differs() {
    let scratch = Scratch::new("time");
    scratch.run(|runtime| async move {
        let before = runtime.now();
        runtime.sleep(Duration::from_millis(15)).await;
        let passed = runtime.now() - before;
        assert!(passed >= Duration::from_millis(15), "woke after {passed:?}");
        assert_ne!(runtime.random(), runtime.random());
    });
}

#[test]
fn more_shards_than_cores_are_not_pinned() {
    let scratch = Scratch::new("pin");
    let cores = std::thread::available_parallelism().unwrap().get();
    let run = |pin, shards| {
        let starts = vec![|_: OsRuntime| async {}; shards];
        let shards = run_shards(
            ThreadOptions { pin, ..ThreadOptions::new(RUNTIME) },
            scratch.0.clone(),
            starts,
        )
        .unwrap();
        let pinning = shards.pinning();
        finish(shards);
        pinning
    };
    // Another node on this machine may have claimed all cores.
    let one = run(true, 1);
    assert!(matches!(one, Pinning::Pinned | Pinning::Claimed { free: 0, .. }), "{one:?}");
    assert_eq!(run(true, cores + 1), Pinning::TooFew { cores, shards: cores + 1 });
    assert_eq!(run(false, 1), Pinning::NotAsked);
}

#[test]
fn the_probes_leave_nothing_behind() {
    let scratch = Scratch::new("probe");
    check(RUNTIME, &scratch.0).unwrap();
    faster_durability(RUNTIME, &scratch.0).unwrap();
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
}

#[test]
fn a_missing_directory_is_an_error_in_four_parts() {
    let scratch = Scratch::new("missing");
    let missing = scratch.0.join("nowhere");
    let error = check(RUNTIME, &missing).unwrap_err();
    assert_eq!(error.what, "the data directory does not exist");
    assert_eq!(error.place, missing.display().to_string());
    assert!(!error.means.is_empty() && !error.action.is_empty());
    assert_eq!(faster_durability(RUNTIME, &missing).unwrap_err().kind(), ErrorKind::NotFound);
}

/// The kernel tells a writer that its other end sends no more, whether or not there is room to write.
#[test]
fn a_writer_whose_other_end_sends_no_more_waits_for_room_and_does_not_spin() {
    let scratch = Scratch::new("half-closed");
    let polls = scratch.run(|runtime| async move {
        let mut listener = runtime.net().listen("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(("127.0.0.1", listener.port())).unwrap();
        let (mut reader, mut writer) = listener.accept().await.unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0);
        let (much, polls) = (vec![7; 64 << 20], Cell::new(0));
        let mut write = pin!(writer.write_all(&much));
        let written = future::poll_fn(|cx| {
            polls.set(polls.get() + 1);
            write.as_mut().poll(cx)
        });
        let pause = async {
            runtime.sleep(Duration::from_millis(200)).await;
            Ok(())
        };
        future::or(written, pause).await.unwrap();
        drop(client);
        polls.get()
    });
    assert!(polls < 100, "{polls} polls for a socket without room");
}

#[test]
fn a_dial_that_is_dropped_leaves_no_socket() {
    let scratch = Scratch::new("dropped-dial");
    let (before, after) = scratch.run(|runtime| async move {
        // A listener whose queue is full answers nobody.
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        );
        let socket = socket.unwrap();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        rustix::net::bind(&socket, &address).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let bound = std::net::SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap());
        let address = bound.unwrap().to_string();
        let net = runtime.net();
        let mut taken = Vec::new();
        let dropped = loop {
            let dial = async { Some(net.connect(&address).await.unwrap()) };
            let pause = async {
                runtime.sleep(Duration::from_millis(50)).await;
                None
            };
            let number = sockets_of_this_process();
            match future::or(dial, pause).await {
                Some(connection) => taken.push(connection),
                None => break number,
            }
            assert!(taken.len() < 10, "the queue has room for one or two");
        };
        for _ in 0..100 {
            if sockets_of_this_process() == dropped {
                break;
            }
            runtime.yield_now().await;
            runtime.sleep(Duration::from_millis(1)).await;
        }
        (dropped, sockets_of_this_process())
    });
    assert_eq!(before, after);
}

/// Sockets of this very test: each has the port of its own in no other test.
fn sockets_of_this_process() -> usize {
    let descriptors = fs::read_dir("/proc/thread-self/fd").unwrap();
    descriptors.filter(|it| it.as_ref().is_ok_and(|it| is_dialling(&it.path()))).count()
}

/// Whether a descriptor is a socket in the middle of a dial.
fn is_dialling(descriptor: &Path) -> bool {
    let Ok(target) = fs::read_link(descriptor) else { return false };
    let Some(inode) = target.to_str().and_then(|it| it.strip_prefix("socket:[")) else {
        return false;
    };
    let inode = inode.trim_end_matches(']');
    // The fourth column is the state, 02 while a dial is not answered, and the tenth the inode.
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    sockets.lines().any(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns.get(3) == Some(&"02") && columns.get(9) == Some(&inode)
    })
}
