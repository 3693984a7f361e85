//! What a reader takes of the allocator. The program has to use [`Counting`] as its allocator.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

/// The allocator of the system, which counts what the present thread takes.
pub struct Counting;

#[derive(Clone, Copy)]
struct Counts {
    /// Bytes that are allocated now. Below zero when the thread has freed what another one took.
    live: isize,
    /// The most that `live` has been since the counting began.
    peak: isize,
    /// All bytes that were ever allocated.
    total: usize,
}

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { live: 0, peak: 0, total: 0 }) };
}

fn count(change: impl FnOnce(&mut Counts)) {
    // A thread that ends frees memory after its counts are gone.
    let _ = COUNTS.try_with(|counts| {
        let mut next = counts.get();
        change(&mut next);
        counts.set(next);
    });
}

// SAFETY: all memory comes from `System`, and goes back to it with the layout that it came with. Counting
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|counts| {
            counts.live += layout.size() as isize;
            counts.peak = counts.peak.max(counts.live);
            counts.total += layout.size();
        });
        // SAFETY: the caller keeps the rules of `alloc`, which are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(|counts| counts.live -= layout.size() as isize);
        // SAFETY: `alloc` took `place` from `System` with this layout.
        unsafe { System.dealloc(place, layout) }
    }
}

/// The bytes that `work` has allocated and still holds through what it returns.
pub fn held_by<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNTS.get().live;
    let done = work();
    ((COUNTS.get().live - before) as usize, done)
}

/// Does `work`, which may hold at most `per_byte` bytes for each byte of an input of `len` bytes, and `fixed`
/// bytes beside them. Over its whole time it may allocate four times as much.
///
/// # Panics
/// The work takes more, or nothing counts.
#[track_caller]
pub(super) fn bounded<T>(len: usize, per_byte: usize, fixed: usize, work: impl FnOnce() -> T) -> T {
    let before = COUNTS.get();
    drop(black_box(Box::new(len)));
    let start = COUNTS.get();
    assert!(start.total > before.total, "the program does not use the allocator that counts");
    COUNTS.set(Counts { peak: start.live, ..start });
    let done = work();
    let end = COUNTS.get();
    let (held, taken) = ((end.peak - start.live) as usize, end.total - start.total);
    let most = len * per_byte + fixed;
    assert!(held <= most, "{held} bytes were held for an input of {len}, {most} at most");
    assert!(taken <= 4 * most, "{taken} bytes were allocated for an input of {len}");
    done
}
