//! The bytes of a connection that have been read and not yet consumed.
//!
//! ```text
//!   consumed │ unread │ space to read into
//!   0        start    end               bytes.len()
//! ```
//!
//! It grows by what has arrived, never by what was announced, and gives a large buffer back: a huge one at once,
//! others as [`super::lean`] has it. A read brings [`READ_BYTES_MAX`] at most, and a full buffer grows by a quarter
//! at least, so a request of any length takes few reads and few moves.

use super::lean::{IDLE_BYTES_MAX, SmallUses};

/// What it begins with: some hundred small requests.
const BYTES_MIN: usize = IDLE_BYTES_MAX;

/// What a busy connection may keep.
const BYTES_KEPT: usize = 256 << 10;

/// The most that one read brings.
pub(crate) const READ_BYTES_MAX: usize = 64 << 10;

pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The most bytes that were used since the connection waited.
    used: usize,
    small: SmallUses,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let small = SmallUses::default();
        Self { bytes: vec![0; BYTES_MIN], start: 0, end: 0, used: 0, small }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, len: usize) {
        assert!(len <= self.unread().len(), "{len} of {} bytes", self.unread().len());
        self.start += len;
    }

    /// What it takes in memory, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The connection waits for its client.
    pub(crate) fn rest(&mut self) {
        let used = std::mem::take(&mut self.used);
        if self.small.is_too_large(used, self.capacity()) {
            self.give_back();
        }
    }

    /// Gives back what an idle connection does not need: nothing while a part of a request is there.
    pub(crate) fn give_back(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.bytes.truncate(BYTES_MIN);
            self.bytes.shrink_to_fit();
        }
    }

    /// Makes space to read into. There is room for a request of `needs` bytes as soon as half of it has arrived.
    pub(crate) fn reserve(&mut self, needs: usize) {
        self.compact();
        let is_full = self.end == self.bytes.len();
        if is_full {
            // At most twice what has arrived. Beyond what a busy connection may keep, no more than what the
            // request needs; but what is known of that may be one byte, so a quarter at least.
            let (double, needs) = (2 * self.bytes.len(), self.start + needs);
            let len = match double > BYTES_KEPT {
                true => double.min(needs.max(self.end + self.end / 4)),
                false => double,
            };
            self.bytes.reserve_exact(len - self.bytes.len());
            self.bytes.resize(len, 0);
        }
    }

    /// The space to read into: never empty when it was just made.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        let end = self.bytes.len().min(self.end + READ_BYTES_MAX);
        &mut self.bytes[self.end..end]
    }

    /// So many bytes were read into the space.
    pub(crate) fn fill(&mut self, len: usize) {
        self.end += len;
        self.used = self.used.max(self.end);
        assert!(self.end <= self.bytes.len(), "{len} bytes were read into less space");
    }

    /// Moves what is unread to the front, unless that is much and little would be gained: a byte is moved a few
    /// times at most.
    fn compact(&mut self) {
        let unread = self.end - self.start;
        let is_full = self.end == self.bytes.len();
        if self.start > 0 && (unread <= BYTES_MIN || (is_full && self.start >= unread)) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() > BYTES_KEPT && self.end <= BYTES_MIN {
            self.bytes.truncate(BYTES_MIN);
            self.bytes.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(inbox: &mut Inbox, needs: usize) -> &mut [u8] {
        inbox.reserve(needs);
        inbox.space()
    }

    fn fill(inbox: &mut Inbox, needs: usize) -> usize {
        let len = space(inbox, needs).len();
        inbox.fill(len);
        len
    }

    #[test]
    fn it_grows_by_what_has_arrived_and_shrinks_again() {
        const NEEDS: usize = 8 << 20;
        let mut inbox = Inbox::new();
        assert_eq!(space(&mut inbox, NEEDS).len(), BYTES_MIN, "an announcement costs nothing");
        while inbox.unread().len() < NEEDS {
            let before = inbox.unread().len();
            let read = fill(&mut inbox, NEEDS);
            assert!(read <= before.max(BYTES_MIN), "{read} bytes for {before}");
        }
        assert_eq!(inbox.unread().len(), NEEDS);
        inbox.consume(NEEDS);
        assert_eq!(space(&mut inbox, 1).len(), BYTES_MIN);
        assert_eq!(inbox.bytes.capacity(), BYTES_MIN);
    }

    /// Between two arguments of a request one more byte is all that is known to be needed.
    #[test]
    fn a_long_request_of_short_arguments_takes_few_reads() {
        const LEN: usize = 16 << 20;
        let mut inbox = Inbox::new();
        let mut reads = 0;
        while inbox.unread().len() < LEN {
            let needs = inbox.unread().len() + 1;
            assert!(fill(&mut inbox, needs) <= READ_BYTES_MAX);
            reads += 1;
        }
        assert!(reads <= LEN / READ_BYTES_MAX * 3 / 2, "{reads} reads");
    }

    #[test]
    fn an_idle_connection_keeps_a_small_buffer_and_whatever_is_unread() {
        let mut inbox = Inbox::new();
        while inbox.unread().len() < 200 << 10 {
            fill(&mut inbox, 200 << 10);
        }
        inbox.give_back();
        assert!(inbox.capacity() >= 200 << 10, "a part of a request is there");
        inbox.consume(inbox.unread().len());
        inbox.give_back();
        assert_eq!((inbox.capacity(), space(&mut inbox, 1).len()), (BYTES_MIN, BYTES_MIN));
    }

    #[test]
    fn a_busy_connection_that_needs_little_keeps_a_small_buffer() {
        let mut inbox = Inbox::new();
        let mut run = |len: usize| {
            while inbox.unread().len() < len {
                let missing = len - inbox.unread().len();
                let read = space(&mut inbox, len).len().min(missing);
                inbox.fill(read);
            }
            inbox.consume(inbox.unread().len());
            inbox.rest();
            inbox.capacity()
        };
        let large = run(200 << 10);
        assert!(large > 200 << 10 && run(200 << 10) == large, "no buffer for each request");
        assert_eq!((0..100).map(|_| run(1)).last(), Some(BYTES_MIN));
    }

    #[test]
    fn unread_bytes_stay() {
        let mut inbox = Inbox::new();
        space(&mut inbox, 1)[..5].copy_from_slice(b"abcde");
        inbox.fill(5);
        inbox.consume(2);
        assert_eq!(space(&mut inbox, 1).len(), BYTES_MIN - 3);
        assert_eq!(inbox.unread(), b"cde");
    }
}
