//! The content of the operations: their commands, keys and values, written as RESP requests.
//!
//! A workload draws a [`Request`], and encodes it into the caller's buffer in a second step. A request
//! is a few numbers, so an operation costs no allocation, and a request can be encoded again. Other
//! modules decide when an operation is sent, and to which server.
//!
//! Values, counters and logs have prefixes of their own (`key:`, `counter:`, `log:`): an INCR of a
//! value that SET has written would be refused.
//!
//! A run that is checked has keys of its own, which no run before has written, and each of its values begins with the
//! number of its write. So a value that is read names the write that it comes from.

use std::fmt;
use std::str::FromStr;

use crate::chance::Chance;
use crate::fingerprint::{Fingerprint, HEAD_BYTES};
use crate::keys::{Distribution, KeyChooser, append_key, digits, slot_of_key};
use crate::slots::SlotRanges;

/// The command of the operations that are not reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Command {
    /// `SET key value`.
    Set,
    /// `GET key`: the same as a read share of 100.
    Get,
    /// `INCR counter`.
    Incr,
    /// `APPEND log value`. The values grow without end, so choose many keys or a short run.
    Append,
}

impl Command {
    /// The prefix of its keys.
    pub fn key_prefix(self) -> &'static str {
        match self {
            Self::Set | Self::Get => "key:",
            Self::Incr => "counter:",
            Self::Append => "log:",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Get => "GET",
            Self::Incr => "INCR",
            Self::Append => "APPEND",
        }
    }

    fn has_value(self) -> bool {
        matches!(self, Self::Set | Self::Append)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many bytes a value has: `16`, or `16-1024` for any length in between, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueSize {
    /// The shortest.
    pub min: usize,
    /// The longest; at least `min`.
    pub max: usize,
}

/// The longest value a server must take (`proto-max-bulk-len` is 8 MiB by default).
pub const VALUE_BYTES_MAX: usize = 8 * 1024 * 1024;

impl FromStr for ValueSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        match (min.trim().parse(), max.trim().parse()) {
            (Ok(min), Ok(max)) if min <= max && max <= VALUE_BYTES_MAX => Ok(Self { min, max }),
            _ => Err(format!(
                "`{text}` is no size: give bytes as 16, or a range as 16-1024, up to {VALUE_BYTES_MAX}"
            )),
        }
    }
}

impl fmt::Display for ValueSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}-{}", self.min, self.max)
        }
    }
}

/// What to draw operations from.
#[derive(Clone, Debug)]
pub struct WorkloadConfig {
    /// The command of the writes.
    pub command: Command,
    /// How many of a hundred operations are GET.
    pub reads_percent: u8,
    /// The key space.
    pub keys: u64,
    /// How operations spread over it.
    pub distribution: Distribution,
    /// Only keys of these slots.
    pub slots: Option<SlotRanges>,
    /// The values of SET and APPEND.
    pub value_size: ValueSize,
    /// The seed of the sequence of operations.
    pub seed: u64,
    /// Makes a run that is checked: the prefix of its keys, at most 20 bytes, which is new with each run. Values need
    /// [`HEAD_BYTES`] then.
    pub checked: Option<String>,
}

/// Of a run that is checked, the operations on so many keys are noted: the first ones, which zipf and hot prefer.
pub const SAMPLED_KEYS_MAX: u64 = 1_024;

/// The content of one operation, drawn and not encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Whether it is a write.
    pub is_write: bool,
    /// The number of the key.
    pub key: u64,
    /// Where the value begins in the letters of the workload. This and the length are 0 without a value.
    pub value_from: u32,
    /// The bytes of the value.
    pub value_length: u32,
    /// The number of the write, with which its value begins, in a run that is checked; else 0.
    pub number: u64,
    /// The place of the key among those whose operations are noted.
    pub sample: Option<u16>,
}

/// Draws operations and encodes them.
#[derive(Clone, Debug)]
pub struct Workload {
    chance: Chance,
    keys: KeyChooser,
    key_prefix: String,
    /// How many values were numbered, in a run that is checked.
    numbers: Option<u64>,
    reads_percent: u64,
    value_size: ValueSize,
    /// Whether the writes carry a value.
    has_value: bool,
    /// Everything before the key: `*3\r\n$3\r\nSET\r\n$16\r\n`.
    write_head: Vec<u8>,
    read_head: Vec<u8>,
    /// Random letters. A value is a slice of them from a random place.
    letters: Vec<u8>,
}

/// The number of places where a value may start.
const VALUE_PLACES: usize = 4096;

impl Workload {
    /// Prepares the sequence of operations of `config`.
    ///
    /// # Errors
    /// When no key lies in the wanted slots.
    pub fn new(config: &WorkloadConfig) -> Result<Self, String> {
        let usual = || config.command.key_prefix().to_owned();
        let key_prefix = config.checked.clone().unwrap_or_else(usual);
        let keys =
            KeyChooser::new(config.distribution, &key_prefix, config.keys, config.slots.as_ref())?;
        let mut chance = Chance::new(config.seed);
        let letters =
            (0..config.value_size.max + VALUE_PLACES).map(|_| b'a' + chance.below(26) as u8);
        Ok(Self {
            letters: letters.collect(),
            chance,
            keys,
            numbers: config.checked.is_some().then_some(0),
            reads_percent: if config.command == Command::Get {
                100
            } else {
                config.reads_percent.into()
            },
            value_size: config.value_size,
            has_value: config.command.has_value(),
            write_head: head(config.command, &key_prefix),
            read_head: head(Command::Get, &key_prefix),
            key_prefix,
        })
    }

    /// How many different keys the operations can use.
    pub fn key_count(&self) -> u64 {
        self.keys.count()
    }

    /// Whether the run is checked.
    pub fn is_checked(&self) -> bool {
        self.numbers.is_some()
    }

    /// Draws the next operation.
    pub fn draw(&mut self) -> Request {
        let is_write = self.chance.below(100) >= self.reads_percent;
        let (rank, key) = self.keys.next(&mut self.chance);
        let mut request = Request { is_write, key, ..Request::default() };
        if self.numbers.is_some() && rank < SAMPLED_KEYS_MAX {
            request.sample = Some(rank as u16);
        }
        if is_write && self.has_value {
            let ValueSize { min, max } = self.value_size;
            request.value_length = (min as u64 + self.chance.below((max - min) as u64 + 1)) as u32;
            request.value_from = self.chance.below(VALUE_PLACES as u64) as u32;
            if let Some(numbers) = &mut self.numbers {
                *numbers += 1;
                request.number = *numbers;
            }
        }
        request
    }

    /// The slot of the key of `request`.
    pub fn slot(&self, request: &Request) -> u16 {
        slot_of_key(&self.key_prefix, request.key)
    }

    /// Appends `request` to `out`. The same request gives the same bytes each time.
    pub fn append(&self, request: &Request, out: &mut Vec<u8>) {
        let is_write = request.is_write;
        out.extend_from_slice(if is_write { &self.write_head } else { &self.read_head });
        append_key(out, &self.key_prefix, request.key);
        out.extend_from_slice(b"\r\n");
        if is_write && self.has_value {
            append_length(out, request.value_length as usize);
            self.each_part(request, |part| out.extend_from_slice(part));
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Gives the value of a write, part by part.
    fn each_part(&self, request: &Request, mut take: impl FnMut(&[u8])) {
        let (mut from, length) = (request.value_from as usize, request.value_length as usize);
        let until = from + length;
        if self.numbers.is_some() && length > 0 {
            take(&digits(request.number));
            from += HEAD_BYTES;
        }
        take(&self.letters[from..until]);
    }

    /// The name of a key.
    pub fn key_name(&self, number: u64) -> Vec<u8> {
        let mut name = Vec::new();
        append_key(&mut name, &self.key_prefix, number);
        name
    }

    /// What tells the value of `request` from others; `None` if it has no value.
    pub fn fingerprint(&self, request: &Request) -> Option<Fingerprint> {
        let mut fingerprint = Fingerprint::default();
        self.each_part(request, |part| fingerprint.add(part));
        (request.is_write && self.has_value).then_some(fingerprint)
    }
}

fn head(command: Command, key_prefix: &str) -> Vec<u8> {
    let arguments = if command.has_value() { 3 } else { 2 };
    let name = command.name();
    let key_length = key_prefix.len() + 12;
    format!("*{arguments}\r\n${}\r\n{name}\r\n${key_length}\r\n", name.len()).into_bytes()
}

/// Appends `$length\r\n`, without the formatting machinery, which would cost more than all the rest.
fn append_length(out: &mut Vec<u8>, length: usize) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    let mut rest = length;
    loop {
        from -= 1;
        digits[from] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.push(b'$');
    out.extend_from_slice(&digits[from..]);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(command: Command) -> WorkloadConfig {
        WorkloadConfig {
            command,
            reads_percent: 0,
            keys: 100_000,
            distribution: Distribution::Sequential,
            slots: None,
            value_size: ValueSize { min: 16, max: 16 },
            seed: 1,
            checked: None,
        }
    }

    fn requests(config: &WorkloadConfig, count: usize) -> Vec<(bool, String)> {
        let mut workload = Workload::new(config).unwrap();
        let mut one = || {
            let mut out = Vec::new();
            let request = workload.draw();
            workload.append(&request, &mut out);
            (request.is_write, String::from_utf8(out).unwrap())
        };
        (0..count).map(|_| one()).collect()
    }

    #[test]
    fn each_command_is_written_as_the_protocol_wants_it() {
        let (is_write, set) = requests(&config(Command::Set), 2).swap_remove(1);
        let value = &set[set.len() - 18..];
        assert!(is_write && value[..16].bytes().all(|byte| byte.is_ascii_lowercase()), "{value}");
        assert_eq!(set, format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$16\r\n{value}"));
        let incr = (true, "*2\r\n$4\r\nINCR\r\n$20\r\ncounter:000000000000\r\n".to_owned());
        assert_eq!(requests(&config(Command::Incr), 1), [incr]);
        let get = (false, "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n".to_owned());
        assert_eq!(requests(&config(Command::Get), 1), [get]);
        assert!(
            requests(&config(Command::Append), 1)[0]
                .1
                .starts_with("*3\r\n$6\r\nAPPEND\r\n$16\r\nlog:")
        );
    }

    #[test]
    fn the_read_share_is_kept_and_reads_go_to_the_keys_of_the_writes() {
        let requests =
            requests(&WorkloadConfig { reads_percent: 90, ..config(Command::Incr) }, 20_000);
        let writes = requests.iter().filter(|(is_write, _)| *is_write).count();
        assert!((1_800..2_200).contains(&writes), "{writes}");
        assert!(requests.iter().all(|(_, text)| text.contains("counter:")));
    }

    #[test]
    fn value_sizes_reach_both_ends_of_their_range() {
        let value_size = ValueSize { min: 0, max: 11 };
        let requests = requests(&WorkloadConfig { value_size, ..config(Command::Set) }, 1_000);
        for length in [0, 9, 10, 11] {
            let announced = format!("\r\n${length}\r\n");
            let found = requests.iter().find(|(_, text)| text.contains(&announced)).unwrap();
            let value = found.1.split(&announced).nth(1).unwrap();
            assert_eq!(value.len(), length + 2);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_operations() {
        let seeded = |seed| {
            let config = WorkloadConfig {
                seed,
                distribution: Distribution::Uniform,
                ..config(Command::Set)
            };
            requests(&config, 50)
        };
        assert_eq!(seeded(5), seeded(5));
        assert_ne!(seeded(5), seeded(6));
    }

    #[test]
    fn a_run_that_is_checked_has_keys_of_its_own_and_numbers_its_values() {
        let checked = Some("check:0123456789abc:".to_owned());
        let value_size = ValueSize { min: 12, max: 20 };
        let config = WorkloadConfig {
            checked,
            value_size,
            keys: SAMPLED_KEYS_MAX + 1,
            ..config(Command::Set)
        };
        let mut workload = Workload::new(&config).unwrap();
        for number in 1..=SAMPLED_KEYS_MAX + 1 {
            let (request, mut out) = (workload.draw(), Vec::new());
            workload.append(&request, &mut out);
            let text = String::from_utf8(out).unwrap();
            let words: Vec<_> = text.split("\r\n").collect();
            let (key, value) = (words[4], words[6]);
            assert_eq!(words[3], format!("${}", key.len()));
            assert_eq!(key.as_bytes(), workload.key_name(number - 1));
            assert_eq!(words[5], format!("${}", value.len()));
            assert!(value.starts_with(&format!("{number:012}")), "{value}");
            assert_eq!(workload.fingerprint(&request), Some(Fingerprint::of(value.as_bytes())));
            assert_eq!(request.sample.is_some(), number <= SAMPLED_KEYS_MAX);
        }
    }

    #[test]
    fn sizes_are_read_back_as_written() {
        for text in ["16", "16-1024"] {
            assert_eq!(text.parse::<ValueSize>().unwrap().to_string(), text);
        }
        for text in ["", "x", "9-3", "-1", "8388609"] {
            assert!(text.parse::<ValueSize>().is_err(), "{text}");
        }
    }
}
