//! How fast files are filled ahead of need, beside the writes of the log.
//!
//! A file that becomes a segment is filled with zeroes in pieces. While the log has writes in flight, a piece
//! waits for one of them to complete. So a write of the log never waits behind more than one piece, and the
//! filling still gets at least twice the bytes that the log gets: it keeps ahead of the log.

use event_listener::Event;
use std::cell::Cell;

/// A file is filled in pieces of this many bytes.
pub const FILL_BYTES: usize = 256 << 10;
/// What may be filled without a completed write in between, after large writes, in bytes.
const CREDIT_MAX: u64 = 4 << 20;

/// Paces the filling of one file after the other; see the module.
#[derive(Default)]
pub struct Pace {
    /// Whether the log has writes in flight.
    is_busy: Cell<bool>,
    /// What may be filled now, in bytes, although it has.
    credit: Cell<u64>,
    changed: Event,
}

impl Pace {
    /// Returns when the next piece, of `bytes` bytes, may be written. At once while the log writes nothing.
    pub async fn piece(&self, bytes: usize) {
        while self.is_busy.get() && self.credit.get() == 0 {
            purlin_rsm::sometimes!("filling of a segment waits for a write of the log");
            self.changed.listen().await;
        }
        self.credit.set(self.credit.get().saturating_sub(bytes as u64));
    }

    /// Whether the log has writes in flight.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        if self.is_busy.replace(is_busy) && !is_busy {
            self.changed.notify(usize::MAX);
        }
    }

    /// A write of the log of `bytes` bytes has completed.
    pub(crate) fn wrote(&self, bytes: usize) {
        let earned = (2 * bytes).max(FILL_BYTES) as u64;
        self.credit.set((self.credit.get() + earned).min(CREDIT_MAX));
        self.changed.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    /// How many pieces may be written now.
    fn pieces(pace: &Pace, at_most: usize) -> usize {
        let may_go = |pace: &Pace| {
            let mut piece = pin!(pace.piece(FILL_BYTES));
            piece.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
        };
        (0..at_most).take_while(|_| may_go(pace)).count()
    }

    #[test]
    fn a_write_of_the_log_waits_behind_one_piece_at_most() {
        let pace = Pace::default();
        assert_eq!(pieces(&pace, 100), 100, "the log writes nothing");
        pace.set_busy(true);
        assert_eq!(pieces(&pace, 100), 0);
        pace.wrote(4096);
        assert_eq!(pieces(&pace, 100), 1, "one piece for a completed write");
        pace.set_busy(false);
        assert_eq!(pieces(&pace, 100), 100);
    }

    #[test]
    fn filling_gets_twice_what_the_log_gets_within_a_bound() {
        let pace = Pace::default();
        pace.set_busy(true);
        pace.wrote(1 << 20);
        assert_eq!(pieces(&pace, 100), 8);
        pace.wrote(1 << 30);
        assert_eq!(pieces(&pace, 100), 16);
    }
}
