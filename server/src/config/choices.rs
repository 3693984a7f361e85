//! The values of fields that are one of a few words.

/// How many shards a node has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shards {
    /// One for each core that this process may use; one less when there are more than four.
    Auto,
    /// This many, 1 to [`SHARDS_MAX`](super::options::SHARDS_MAX).
    Number(u16),
}

/// The levels of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What must be looked at.
    Error,
    /// What may have to be looked at.
    Warn,
    /// Changes of state.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Every step.
    Trace,
}

/// How a line of the log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Text, with colours on a terminal.
    Auto,
    /// Text without colours.
    Text,
}
