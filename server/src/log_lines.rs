//! The rule of the queue of an output: which lines it takes, which it drops, and where it says so.
//!
//! ```text
//! add ──► line, line, gap of 7, line ──► take        beside it: lines that were dropped since the last one
//! ```
//!
//! The queue has a bound, and nobody ever waits for room: a full queue drops the line and counts it. After a drop the
//! queue takes lines again when half of it is written, so a slow reader gets long pieces of the log with few gaps. Each
//! gap stands in its place, with the number of lines that are missing there.
//!
//! There is no thread, lock or clock here. `log_queue` runs the rule in the program, and the simulator runs it in
//! simulated time.

use std::{collections::VecDeque, mem};

/// What a line costs beside its bytes.
const LINE_COST: usize = 64;
/// The most bytes of one line. The rest of a longer line is cut off.
const LINE_BYTES_MAX: usize = 16 << 10;

/// See the module.
pub struct LogLines {
    waiting: VecDeque<Piece>,
    /// What `waiting` costs. Never more than `bytes_max`.
    bytes: usize,
    bytes_max: usize,
    /// Lines that were dropped after the last line of `waiting`.
    dropped: u64,
}

/// What is to be written next.
#[derive(PartialEq, Eq, Debug)]
pub enum Piece {
    /// A line, with its end.
    Line(Box<[u8]>),
    /// So many lines are missing here.
    Gap(u64),
}

impl LogLines {
    /// An empty queue. The lines that wait, and the places that they take, cost `bytes_max` at most.
    pub fn new(bytes_max: usize) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, bytes_max, dropped: 0 }
    }

    /// Takes a line to be written, or drops it and counts it. Returns whether it was taken.
    pub fn add(&mut self, line: Box<[u8]>) -> bool {
        let room = if self.dropped > 0 { self.bytes_max / 2 } else { self.bytes_max };
        // A gap may stand in front of the line.
        let bytes = self.bytes + line.len() + 2 * LINE_COST;
        if bytes > room {
            purlin::sometimes!("line of a log dropped");
            purlin::sometimes!(
                bytes <= self.bytes_max,
                "line of a log dropped, since half of the queue is not written yet"
            );
            self.dropped += 1;
            return false;
        }
        if self.dropped > 0 {
            purlin::sometimes!("gap of a log said in front of a line");
            let gap = Piece::Gap(mem::take(&mut self.dropped));
            self.push(gap);
        }
        self.push(Piece::Line(line));
        true
    }

    /// Takes out what is to be written next. The lines that were dropped last are the last piece.
    pub fn take(&mut self) -> Option<Piece> {
        match self.waiting.pop_front() {
            Some(piece) => {
                self.bytes -= piece.cost();
                Some(piece)
            }
            None if self.dropped > 0 => {
                purlin::sometimes!("gap of a log said without a next line");
                Some(Piece::Gap(mem::take(&mut self.dropped)))
            }
            None => None,
        }
    }

    /// What is to be written, in this order. Lines that were dropped after the last piece are not among it.
    pub fn waiting(&self) -> impl Iterator<Item = &Piece> {
        self.waiting.iter()
    }

    /// Whether nothing is left to be written.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0
    }

    /// What the waiting lines cost.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lines that were dropped after the last waiting one.
    #[cfg(test)]
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn push(&mut self, piece: Piece) {
        self.bytes += piece.cost();
        self.waiting.push_back(piece);
    }
}

impl Piece {
    /// What the piece costs while it waits: the bytes of a line, and the place of any piece.
    pub fn cost(&self) -> usize {
        match self {
            Self::Line(line) => line.len() + LINE_COST,
            Self::Gap(_) => LINE_COST,
        }
    }
}

/// The line, or its beginning with a word about the rest.
pub fn cut(line: &[u8]) -> Box<[u8]> {
    const END: &[u8] = " … (the rest of the line was cut off)\n".as_bytes();
    if line.len() <= LINE_BYTES_MAX {
        return line.into();
    }
    let kept = &line[..LINE_BYTES_MAX - END.len()];
    // Not in the middle of a letter.
    let end = match std::str::from_utf8(kept) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => kept.len(),
    };
    [&kept[..end], END].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Costs a tenth of [`MOST`].
    const LINE: [u8; 36] = [b'x'; 36];
    const MOST: usize = 1_000;

    fn full() -> LogLines {
        let mut lines = LogLines::new(MOST);
        while lines.add(cut(&LINE)) {
            assert!(lines.bytes() <= MOST, "{} bytes wait", lines.bytes());
        }
        lines
    }

    #[test]
    fn a_full_queue_drops_lines_and_says_so_in_their_place() {
        let mut lines = full();
        let taken = lines.waiting.len();
        assert!(lines.bytes() > MOST - 200, "{} bytes wait: the bound is used", lines.bytes());
        (0..6).for_each(|_| assert!(!lines.add(cut(&LINE))));
        (0..taken).for_each(|_| assert_eq!(lines.take(), Some(Piece::Line(cut(&LINE)))));
        assert!(lines.add(cut(b"after")));
        assert_eq!(lines.take(), Some(Piece::Gap(7)));
        assert_eq!(lines.take(), Some(Piece::Line(cut(b"after"))));
        assert!(lines.is_empty() && lines.take().is_none());
    }

    #[test]
    fn after_a_drop_lines_are_taken_again_when_half_is_written() {
        let mut lines = full();
        let mut written = 0;
        while !lines.add(cut(&LINE)) {
            assert!(lines.take().is_some());
            written += 1;
        }
        assert!(lines.bytes() <= MOST / 2, "{} bytes wait", lines.bytes());
        assert!((4..=6).contains(&written), "{written} were written before");
    }

    #[test]
    fn lines_that_were_dropped_last_are_said_without_a_next_line() {
        let mut lines = full();
        while let Some(piece) = lines.take() {
            if lines.is_empty() {
                assert_eq!(piece, Piece::Gap(1));
            }
        }
    }

    #[test]
    fn a_long_line_is_cut_between_two_letters() {
        for start in ["", "x"] {
            let line = cut(format!("{start}{}\n", "é".repeat(LINE_BYTES_MAX)).as_bytes());
            assert!(line.len() <= LINE_BYTES_MAX, "{}", line.len());
            let text = std::str::from_utf8(&line).expect("whole letters");
            assert!(text.contains("ééé") && text.ends_with("cut off)\n"), "{text}");
        }
        assert_eq!(*cut(b"short\n"), *b"short\n");
    }
}
