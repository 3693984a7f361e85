//! The bytes of a connection that have been read and not yet consumed.
//!
//! ```text
//!   consumed │ unread │ space to read into
//!   0        start    end               bytes.len()
//! ```
//!
//! It grows by what has arrived, never by what was announced, and gives a large buffer back. A read brings
//! [`READ_BYTES_MAX`] at most, and a full buffer grows by a quarter at least, so a request of any length takes few
//! reads and few moves.

/// What it begins with: some hundred small requests.
const BYTES_MIN: usize = 16 << 10;

/// What a busy connection may keep.
const BYTES_KEPT: usize = 256 << 10;

/// The most that one read brings.
pub(crate) const READ_BYTES_MAX: usize = 64 << 10;

pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BYTES_MIN], start: 0, end: 0 }
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

    /// Where to read into: never empty. There is room for a request of `needs` bytes as soon as half
    /// of it has arrived.
    pub(crate) fn space(&mut self, needs: usize) -> &mut [u8] {
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
        let end = self.bytes.len().min(self.end + READ_BYTES_MAX);
        &mut self.bytes[self.end..end]
    }

    /// So many bytes were read into the space.
    pub(crate) fn fill(&mut self, len: usize) {
        self.end += len;
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

    fn fill(inbox: &mut Inbox, needs: usize) -> usize {
        let len = inbox.space(needs).len();
        inbox.fill(len);
        len
    }

    #[test]
    fn it_grows_by_what_has_arrived_and_shrinks_again() {
        const NEEDS: usize = 8 << 20;
        let mut inbox = Inbox::new();
        assert_eq!(inbox.space(NEEDS).len(), BYTES_MIN, "an announcement costs nothing");
        while inbox.unread().len() < NEEDS {
            let before = inbox.unread().len();
            let read = fill(&mut inbox, NEEDS);
            assert!(read <= before.max(BYTES_MIN), "{read} bytes for {before}");
        }
        assert_eq!(inbox.unread().len(), NEEDS);
        inbox.consume(NEEDS);
        assert_eq!(inbox.space(1).len(), BYTES_MIN);
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
    fn what_is_unread_stays() {
        let mut inbox = Inbox::new();
        inbox.space(1)[..5].copy_from_slice(b"abcde");
        inbox.fill(5);
        inbox.consume(2);
        assert_eq!(inbox.space(1).len(), BYTES_MIN - 3);
        assert_eq!(inbox.unread(), b"cde");
    }
}
