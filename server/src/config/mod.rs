//! A node's configuration file: read, checked and written.
//!
//! The file is TOML, at most 1 MiB; `purlin config default` prints one with all keys, their meanings
//! and defaults. `keys` is the one table of keys. Reading goes in three steps:
//!
//! ```text
//! text ── toml ──▶ document ── reader, by the table ──▶ values and unknown names ── check ─▶ Config
//! ```
//!
//! The reader reports all mistakes at once; the rules between keys are checked only when there are
//! none. Nothing here changes what a file says, and a file with a key that does not exist is refused.

mod check;
mod choices;
mod field;
mod keys;
mod mistake;
mod names;
mod options;
mod page;
mod reader;

#[cfg(test)]
mod config_test;

pub use choices::{LogFormat, LogLevel, Shards};
pub use mistake::Mistakes;
pub(crate) use options::GROUPS;
pub use options::{
    ADMIN_OFFSET, COMMAND_OVERHEAD_BYTES, ClientOptions, Config, ListenOptions, LogOptions,
    NodeOptions, PEER_OFFSET, RuntimeOptions, SHARD_OFFSET, SHARDS_MAX, example_members,
};
pub use page::page;
pub use purlin::{ByteSize, Period};

use self::{field::Word, mistake::Mistake, reader::Reader};
use purlin::os::RuntimeKind;
use std::path::Path;
use toml::de::DeTable;

/// The longest configuration file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
impl Config {
    /// Reads `text`, the content of the file at `path`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Mistakes> {
        let document = DeTable::parse(text).map_err(|error| {
            Mistakes::new(path, text, vec![Mistake::new(first_line(error.message()), error.span())])
        })?;
        let mut config = Self::blank();
        let mut reader = Reader::default();
        reader.read(document.get_ref(), &mut config);
        config.derive();
        if reader.mistakes.is_empty() {
            reader.mistakes = check::contradictions(&config, &reader.places);
        }
        if !reader.mistakes.is_empty() {
            return Err(Mistakes::new(path, text, reader.mistakes));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        config.node.data_dir = folder.join(&config.node.data_dir);
        Ok(config)
    }

    /// As the text of a configuration file, with a comment on each key.
    pub fn render(&self) -> String {
        page::file(self)
    }
}

/// Reads the size of a segment, as `wal.segment` has it.
///
/// # Errors
/// What such a size is.
pub fn segment_bytes(text: &str) -> Result<u64, String> {
    let mut config = Config::blank();
    let mut keys = keys::SECTIONS.iter().flat_map(|section| section.keys);
    let key = keys.find(|key| key.name == "segment").expect("it is in the table");
    (key.field)(&mut config).read(&toml::de::DeValue::String(text.into()))?;
    Ok(config.wal.segment_bytes)
}

/// Reads the name of a runtime, for options outside of a file.
///
/// # Errors
/// There is none of that name.
pub fn runtime_kind(text: &str) -> Result<RuntimeKind, String> {
    let mut kind = RuntimeKind::default();
    match kind.choose(text) {
        true => Ok(kind),
        false => Err(format!("must be one of {}", kind.names().join(", "))),
    }
}

/// What the parser says first; more lines of it say what it had expected.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("this is no TOML")
}

impl LogLevel {
    /// Reads a level's name.
    pub fn parse(name: &str) -> Option<Self> {
        let mut level = Self::Off;
        level.choose(&name.to_ascii_lowercase()).then_some(level)
    }
}
