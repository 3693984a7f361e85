//! When a connection gives back buffers that are larger than it needs: after it has waited for
//! [`IDLE_AFTER`], or after [`SMALL_USES_MAX`] uses in a row that a small buffer would have served. So what
//! thousands of connections hold once they have handled a long command is small again soon, and a busy
//! connection does not allocate for each command.

use futures_lite::future;
use purlin::Runtime;
use std::time::Duration;

/// What a buffer of an idle connection has at most, in bytes.
pub(crate) const IDLE_BYTES_MAX: usize = 16 << 10;

/// A connection that has waited for so long is idle.
pub(super) const IDLE_AFTER: Duration = Duration::from_millis(100);

const SMALL_USES_MAX: u8 = 16;

/// Returns when a connection has been idle, if it has something to give back then.
pub(super) async fn is_idle(runtime: &impl Runtime, gives_back: bool) {
    match gives_back {
        true => runtime.sleep(IDLE_AFTER).await,
        false => future::pending().await,
    }
}

/// How many small uses a buffer had in a row.
#[derive(Default)]
pub(crate) struct SmallUses(u8);

impl SmallUses {
    /// A buffer of `capacity` bytes was used for `used` bytes. Tells whether it is to be given back.
    pub(crate) fn is_too_large(&mut self, used: usize, capacity: usize) -> bool {
        if used > IDLE_BYTES_MAX {
            self.0 = 0;
            return false;
        }
        self.0 = (self.0 + 1).min(SMALL_USES_MAX);
        let is_due = self.0 == SMALL_USES_MAX && capacity > IDLE_BYTES_MAX;
        if is_due {
            self.0 = 0;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_goes_after_some_small_uses_in_a_row() {
        const LARGE: usize = 2 * IDLE_BYTES_MAX;
        let mut uses = SmallUses::default();
        let small = |uses: &mut SmallUses| uses.is_too_large(IDLE_BYTES_MAX, LARGE);
        for _ in 1..SMALL_USES_MAX {
            assert!(!small(&mut uses));
        }
        assert!(!uses.is_too_large(IDLE_BYTES_MAX + 1, LARGE), "a large use");
        for _ in 1..SMALL_USES_MAX {
            assert!(!small(&mut uses));
        }
        assert!(small(&mut uses));
        assert!((0..100).all(|_| !uses.is_too_large(0, IDLE_BYTES_MAX)), "a small one stays");
    }
}
