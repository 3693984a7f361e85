//! What a memory disk is told to do wrong, and what reached it.

use std::{io, ops::Range};

/// What is to go wrong.
#[derive(Default, Clone)]
pub(crate) struct Faults {
    pub(crate) write: Option<io::ErrorKind>,
    pub(crate) sync: Option<io::ErrorKind>,
    pub(crate) read: Option<io::ErrorKind>,
    /// The number of the error with which files and the directory cannot be opened.
    pub(crate) open: Option<i32>,
    /// The same for the directory alone, which a sync of it opens.
    pub(crate) open_dir: Option<i32>,
    /// No read that touches this position succeeds.
    pub(crate) bad_position: Option<u64>,
    /// Reads of several blocks return all but the last one.
    pub(crate) is_reading_short: bool,
    /// How many reads go well before one returns a flipped bit.
    pub(crate) flip_read_after: Option<usize>,
    /// How many reads go well before one returns what lies at a position elsewhere.
    pub(crate) read_elsewhere: Option<(usize, u64)>,
}

impl Faults {
    /// Whether a file can be opened.
    pub(super) fn opens(&self) -> io::Result<()> {
        self.open.map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
    }

    /// Whether the directory can.
    pub(super) fn opens_dir(&self) -> io::Result<()> {
        self.opens()?;
        self.open_dir.map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
    }

    /// Whether this range of a file can be read.
    pub(super) fn reads(&self, range: &Range<u64>) -> io::Result<()> {
        let is_bad = self.bad_position.is_some_and(|bad| range.contains(&bad));
        let kind = self.read.or(is_bad.then_some(io::ErrorKind::Other));
        kind.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

/// What reached the device, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    WriteBegan { name: String, position: u64, len: usize },
    WriteEnded { position: u64 },
    Synced,
    DirSynced,
    Renamed { from: String, to: String },
}
