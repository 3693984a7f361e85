//! What a memory disk is told to do wrong, and what reached it.

use std::io;

/// What is to go wrong.
#[derive(Default, Clone)]
pub(crate) struct Faults {
    pub(crate) write: Option<io::ErrorKind>,
    pub(crate) sync: Option<io::ErrorKind>,
    pub(crate) read: Option<io::ErrorKind>,
    /// No read that touches this position succeeds.
    pub(crate) bad_position: Option<u64>,
    /// Reads of several blocks return all but the last one.
    pub(crate) is_reading_short: bool,
    /// How many reads go well before one returns a flipped bit.
    pub(crate) flip_read_after: Option<usize>,
    /// How many reads go well before one returns what lies at a position elsewhere.
    pub(crate) read_elsewhere: Option<(usize, u64)>,
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
