//! The production runtimes against the real kernel. The simulator covers everything above the seams; this covers what
//! it replaces. Each runtime passes the same cases.

use purlin::{
    Runtime,
    os::{OsRuntime, RuntimeKind, ShardEnd, ThreadOptions, check, run_once, run_shards},
};
use std::{
    future::poll_fn,
    sync::mpsc,
    task::{Poll, Waker},
    time::Duration,
};

/// The cases on glommio.
#[path = "cases.rs"]
mod glommio;

/// The cases on a ring.
#[expect(clippy::duplicate_mod, reason = "the same cases, on another runtime")]
#[path = "cases.rs"]
mod ring;

/// glommio alone registers memory with the kernel.
#[test]
fn too_little_locked_memory_is_an_error_and_no_panic() {
    let inner = std::process::Command::new("sh")
        .args(["-c", "ulimit -l 256 && exec \"$0\" --exact inner_with_little_memory --ignored"])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    assert!(inner.status.success(), "{}", String::from_utf8_lossy(&inner.stdout));
}

#[test]
#[ignore = "run by the test above, under a limit of its own"]
fn inner_with_little_memory() {
    let directory = std::env::temp_dir();
    let error = check(RuntimeKind::Glommio, &directory).unwrap_err();
    assert_eq!(error.what, "the limit on locked memory is 256 KiB, and a shard needs 512 KiB");
    assert!(run_once(RuntimeKind::Glommio, directory.clone(), |_| async {}).is_err());
}

/// Whether it spins or sleeps, a timer ends and another thread wakes it.
#[test]
fn a_shard_that_spins_before_it_sleeps_misses_nothing() {
    let options = ThreadOptions {
        pin: true,
        spin: Duration::from_millis(1),
        ..ThreadOptions::new(RuntimeKind::Ring)
    };
    let (sender, wakers) = mpsc::channel::<Waker>();
    let start = move |runtime: OsRuntime| async move {
        for micros in [100, 3_000] {
            runtime.sleep(Duration::from_micros(micros)).await;
        }
        for _ in 0..100 {
            let mut is_sent = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut is_sent, true) {
                    return Poll::Ready(());
                }
                sender.send(cx.waker().clone()).expect("the other thread waits");
                Poll::Pending
            })
            .await;
        }
    };
    let threads = run_shards(options, std::env::temp_dir(), vec![start]).unwrap();
    wakers.iter().for_each(Waker::wake);
    assert!(matches!(threads.join()[..], [(_, ShardEnd::Finished(()))]));
}
