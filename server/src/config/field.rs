//! One field of the configuration and the values that it takes: reads a value of the file, and writes
//! the field as the file has it.

use super::choices::{LogFormat, LogLevel, Shards};
use purlin::os::RuntimeKind;
use purlin::{ByteSize, ClusterId, DurableBy, Member, NodeId, Period};
use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    ops::{Range, RangeInclusive},
    path::PathBuf,
    time::Duration,
};
use toml::de::DeValue;

/// Why a value cannot be taken: the end of a sentence that begins with its key.
pub(super) type Refusal = String;

/// A field, borrowed from the configuration, with the values that it takes.
pub(super) enum Field<'c> {
    /// A whole number in a range.
    Number(&'c mut dyn Number, RangeInclusive<u64>),
    /// A size in bytes, in a range, and a multiple of the last number.
    Size(&'c mut dyn Number, RangeInclusive<u64>, u64),
    /// The same with any number of bytes, or `"auto"`.
    SizeOrAuto(&'c mut Option<u64>, RangeInclusive<u64>),
    /// A time in a range.
    Time(&'c mut Duration, RangeInclusive<Duration>),
    /// A range of times. What the range may be is judged with the other times.
    Times(&'c mut Range<Duration>),
    /// `true` or `false`.
    Flag(&'c mut bool),
    /// One of a few words.
    Word(&'c mut dyn Word),
    /// A whole number up to the one given, or `"auto"`.
    Shards(&'c mut Shards, u16),
    /// An IP address and a port.
    Address(&'c mut SocketAddr),
    /// An IP address or a host name.
    Host(&'c mut String),
    /// A path.
    Path(&'c mut PathBuf),
    /// The id of a cluster.
    Id(&'c mut ClusterId),
    /// The members of a cluster, each a table with keys of its own.
    Members(&'c mut Vec<Member>),
}

impl Field<'_> {
    /// Puts `value` into the field.
    // Long because each kind of field has an arm of its own, and none does more than read and check.
    pub(super) fn read(self, value: &DeValue<'_>) -> Result<(), Refusal> {
        let kind = self.kind();
        let no_text = || must_be(value, &kind);
        let text = || value.as_str().ok_or_else(no_text);
        let not = |shown: String| format!("is {shown}, and must be {kind}");
        match self {
            Self::Number(field, range) => field.set(number(value, &range, &kind)?),
            Self::Shards(field, most) => {
                *field = match value.as_str() {
                    Some("auto") => Shards::Auto,
                    _ => Shards::Number(number(value, &(1..=most.into()), &kind)? as u16),
                }
            }
            Self::Size(field, range, step) => field.set(size(text()?, &range, step, &kind)?),
            Self::SizeOrAuto(field, range) => {
                *field = match text()? {
                    "auto" => None,
                    text => Some(size(text, &range, 1, &kind)?),
                }
            }
            Self::Time(field, range) => {
                let text = text()?;
                let time = Period::parse(text).ok_or_else(|| not(format!("{text:?}")))?;
                if !range.contains(&time.0) {
                    return Err(format!("is {time}, and must be {}", times(&range)));
                }
                *field = time.0;
            }
            Self::Times(field) => {
                let text = text()?;
                *field = Period::parse_range(text).ok_or_else(|| not(format!("{text:?}")))?;
            }
            Self::Flag(field) => *field = value.as_bool().ok_or_else(no_text)?,
            Self::Word(field) => {
                let text = text()?;
                if !field.choose(text) {
                    return Err(not(format!("{text:?}")));
                }
            }
            Self::Address(field) => {
                let text = text()?;
                let address = text.parse::<SocketAddr>().ok().filter(|it| it.port() != 0);
                *field = address.ok_or_else(|| not(format!("{text:?}")))?;
            }
            Self::Host(field) => {
                let text = text()?;
                if !is_host(text) {
                    return Err(not(format!("{text:?}")));
                }
                text.clone_into(field);
            }
            Self::Path(field) => match text()? {
                "" => return Err(not("empty".into())),
                path if path.contains('\0') => {
                    return Err(format!("contains a zero byte, and must be {kind}"));
                }
                path => *field = path.into(),
            },
            Self::Id(field) => *field = cluster_id(text()?, &kind)?,
            // The reader looks at each member.
            Self::Members(_) => return value.as_array().map(drop).ok_or_else(no_text),
        }
        Ok(())
    }

    /// The field as the file has it.
    pub(super) fn write(&self) -> String {
        match self {
            Self::Number(field, _) => field.get().to_string(),
            Self::Size(field, ..) => quoted(&ByteSize(field.get()).to_string()),
            Self::SizeOrAuto(None, _) => quoted("auto"),
            Self::SizeOrAuto(Some(bytes), _) => quoted(&ByteSize(*bytes).to_string()),
            Self::Time(field, _) => quoted(&Period(**field).to_string()),
            Self::Times(field) => {
                quoted(&format!("{}..{}", Period(field.start), Period(field.end)))
            }
            Self::Flag(field) => field.to_string(),
            Self::Word(field) => quoted(field.name()),
            Self::Shards(Shards::Auto, _) => quoted("auto"),
            Self::Shards(Shards::Number(number), _) => number.to_string(),
            Self::Address(field) => quoted(&field.to_string()),
            Self::Host(field) => quoted(field),
            Self::Path(field) => quoted(&field.to_string_lossy()),
            Self::Id(field) => quoted(&field.to_string()),
            Self::Members(members) => {
                let mut list = String::from("[\n");
                for Member { node, host, peer_port } in members.iter() {
                    let host = quoted(host);
                    let _ = writeln!(
                        list,
                        "  {{ node = {node}, host = {host}, peer_port = {peer_port} }},"
                    );
                }
                list + "]"
            }
        }
    }

    /// What kind of value it takes, with the unit and an example.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Number(_, range) => {
                format!("a whole number from {} to {}", range.start(), range.end())
            }
            Self::Shards(_, most) => format!("a whole number from 1 to {most}, or \"auto\""),
            Self::Size(..) => "a size such as \"64MiB\" (units: B, KiB, MiB, GiB)".into(),
            Self::SizeOrAuto(..) => {
                "a size such as \"64MiB\" (units: B, KiB, MiB, GiB), or \"auto\"".into()
            }
            Self::Time(..) => "a time such as \"10ms\" (units: us, ms, s, min)".into(),
            Self::Times(_) => "a range of times such as \"500ms..1s\"".into(),
            Self::Flag(_) => "true or false".into(),
            Self::Word(field) => {
                let names: Vec<_> = field.names().into_iter().map(quoted).collect();
                format!("one of {}", names.join(", "))
            }
            Self::Address(_) => "an IP address and a port, such as \"127.0.0.1:7000\"".into(),
            Self::Host(_) => "an IP address or a host name, without a port".into(),
            Self::Path(_) => "a path".into(),
            Self::Id(_) => "32 hexadecimal digits, as `purlin init --new` prints them".into(),
            Self::Members(_) => "a list of members".into(),
        }
    }

    /// Which of those values it takes, where that is a part of them.
    pub(super) fn range(&self) -> Option<String> {
        match self {
            Self::Size(_, range, step) => Some(sizes(range, *step)),
            Self::SizeOrAuto(_, range) => Some(sizes(range, 1)),
            Self::Time(_, range) => Some(times(range)),
            _ => None,
        }
    }
}

fn number(value: &DeValue<'_>, range: &RangeInclusive<u64>, kind: &str) -> Result<u64, Refusal> {
    let integer = value.as_integer().ok_or_else(|| must_be(value, kind))?;
    let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
    let inside = number.and_then(|number| u64::try_from(number).ok());
    inside
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("is {}, and must be {kind}", integer.as_str()))
}

fn size(text: &str, range: &RangeInclusive<u64>, step: u64, kind: &str) -> Result<u64, Refusal> {
    let size = ByteSize::parse(text).ok_or_else(|| format!("is {text:?}, and must be {kind}"))?;
    if !range.contains(&size.0) || !size.0.is_multiple_of(step) {
        return Err(format!("is {size}, and must be {}", sizes(range, step)));
    }
    Ok(size.0)
}

fn sizes(range: &RangeInclusive<u64>, step: u64) -> String {
    let (least, most) = (ByteSize(*range.start()), ByteSize(*range.end()));
    match step {
        1 => format!("{least} to {most}"),
        _ => format!("{least} to {most}, a multiple of {}", ByteSize(step)),
    }
}

fn times(range: &RangeInclusive<Duration>) -> String {
    format!("{} to {}", Period(*range.start()), Period(*range.end()))
}

fn is_host(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=253).contains(&text.len()) && text.bytes().all(fits);
    is_name || text.parse::<IpAddr>().is_ok()
}

fn cluster_id(text: &str, kind: &str) -> Result<ClusterId, Refusal> {
    let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|_| hex);
    match id {
        None => Err(format!("is {text:?}, and must be {kind}")),
        // A node that was never given an id has this one.
        Some(0) => Err(format!("is zero, and must be {kind}")),
        Some(id) => Ok(ClusterId(id)),
    }
}

fn must_be(value: &DeValue<'_>, kind: &str) -> Refusal {
    let given = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    };
    format!("is {given}, and must be {kind}")
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// A field that holds a whole number. Its range is checked before it is set.
pub(super) trait Number {
    fn get(&self) -> u64;
    fn set(&mut self, number: u64);
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn get(&self) -> u64 {
                *self as u64
            }
            fn set(&mut self, number: u64) {
                *self = number as Self;
            }
        }
    )*};
}
numbers!(u16, u32, u64, usize);

impl Number for NodeId {
    fn get(&self) -> u64 {
        self.0.into()
    }
    fn set(&mut self, number: u64) {
        self.0 = number as u32;
    }
}

/// A field that holds one of a few words.
pub(super) trait Word {
    fn names(&self) -> Vec<&'static str>;
    fn name(&self) -> &'static str;
    /// Whether there is such a word.
    fn choose(&mut self, name: &str) -> bool;
}

/// Values with their names.
pub(super) trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];
}

impl<T: Named> Word for T {
    fn names(&self) -> Vec<&'static str> {
        T::NAMES.iter().map(|(name, _)| *name).collect()
    }

    fn name(&self) -> &'static str {
        let found = T::NAMES.iter().find(|(_, other)| other == self);
        found.expect("each value has a name").0
    }

    fn choose(&mut self, name: &str) -> bool {
        let found = T::NAMES.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| *self = *value).is_some()
    }
}

impl Named for LogLevel {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("off", Self::Off),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Named for LogFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("text", Self::Text)];
}

impl Named for RuntimeKind {
    const NAMES: &'static [(&'static str, Self)] =
        &[("glommio", Self::Glommio), ("ring", Self::Ring)];
}

impl Named for DurableBy {
    const NAMES: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("dsync", Self::Dsync), ("fdatasync", Self::Fdatasync)];
}
