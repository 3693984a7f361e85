//! Reads the values of a document, each once and in its section, and remembers where it stood.
//!
//! A value that is wrong becomes a [`Mistake`] and counts as its default, so that one run shows all
//! mistakes of a file.

use super::{
    mistake::Mistake,
    names::{MEMBER, keys_of, unknown_keys},
    quantity::{ByteSize, Period},
};
use purlin::{ClusterId, Member, NodeId};
use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
    time::Duration,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

type Value<'t> = Spanned<DeValue<'t>>;

/// Why a value cannot be taken: the end of a sentence that begins with its key.
pub(super) type Refusal = String;

/// Where the values stood, by names such as `raft.tick` and `cluster.members[0].host`.
#[derive(Default)]
pub(super) struct Places(BTreeMap<String, Range<usize>>);

impl Places {
    /// The place of `name`; nothing when it is a default.
    pub(super) fn of(&self, name: &str) -> Option<Range<usize>> {
        self.0.get(name).cloned()
    }
}

/// Reads one document.
pub(super) struct Reader<'d> {
    document: &'d DeTable<'d>,
    pub(super) places: Places,
    pub(super) mistakes: Vec<Mistake>,
}

/// Reads one section.
pub(super) struct Section<'r, 'd> {
    reader: &'r mut Reader<'d>,
    name: &'static str,
    table: Option<&'d DeTable<'d>>,
    /// The head of the section, for what is missing in it.
    span: Option<Range<usize>>,
}

impl<'d> Reader<'d> {
    pub(super) fn new(document: &'d DeTable<'d>) -> Self {
        Self { document, places: Places::default(), mistakes: Vec::new() }
    }

    pub(super) fn section<'r>(&'r mut self, name: &'static str) -> Section<'r, 'd> {
        let value = self.document.get(name);
        let table = value.and_then(|value| value.get_ref().as_table());
        if let (Some(value), None) = (value, table) {
            let message = format!("`{name}` must be a section: a line `[{name}]`, then its keys");
            self.mistakes.push(Mistake::new(message, Some(value.span())));
        }
        Section { span: value.map(Spanned::span), reader: self, name, table }
    }
}

impl<'d> Section<'_, 'd> {
    /// The value of `key`, or `default` when it is not given.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        take: impl FnOnce(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> T {
        self.given(key, take).unwrap_or(default)
    }

    /// The value of `key`, which must be given; `stand_in` after a mistake. `purpose` says what it is.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        purpose: &str,
        stand_in: T,
        take: impl FnOnce(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> T {
        if self.value(key).is_none() {
            let message = format!("`{}.{key}` is missing", self.name);
            let span = self.span.clone();
            self.reader.mistakes.push(Mistake::new(message, span).label(purpose));
        }
        self.given(key, take).unwrap_or(stand_in)
    }

    /// `cluster.members`: a list of tables, which must be given.
    pub(super) fn members(&mut self) -> Vec<Member> {
        let purpose = "the list of members: { node = 1, host = \"10.0.0.1\", peer_port = 7190 }";
        self.required("members", purpose, (), |value| match value.is_array() {
            true => Ok(()),
            false => Err(must_be(value, "a list of members")),
        });
        let value = self.value("members");
        let list = value.and_then(|value| value.get_ref().as_array());
        let list: Vec<_> = list.into_iter().flatten().collect();
        list.iter().enumerate().map(|(at, value)| self.member(at, value)).collect()
    }

    fn member(&mut self, at: usize, value: &'d Value<'d>) -> Member {
        let table = value.get_ref().as_table();
        if let Some(table) = table {
            let unknown = unknown_keys(&format!("{}.members", self.name), &MEMBER, table);
            self.reader.mistakes.extend(unknown);
        }
        let mut inner = Inner { section: self, at, table, span: value.span() };
        Member {
            node: NodeId(
                inner.read("node", 0, |value| number(value, 1..=u64::from(u32::MAX))) as u32
            ),
            host: inner.read("host", String::new(), host),
            peer_port: inner.read("peer_port", 0, |value| number(value, 1..=65_535)) as u16,
        }
    }

    fn value(&self, key: &'static str) -> Option<&'d Value<'d>> {
        assert!(keys_of(self.name).contains(&key), "no key {}.{key}", self.name);
        self.table?.get(key)
    }

    fn given<T>(
        &mut self,
        key: &'static str,
        take: impl FnOnce(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> Option<T> {
        let value = self.value(key)?;
        self.take(format!("{}.{key}", self.name), value, take)
    }

    fn take<T>(
        &mut self,
        name: String,
        value: &Value<'_>,
        take: impl FnOnce(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> Option<T> {
        let taken = take(value.get_ref());
        if let Err(refusal) = &taken {
            let message = format!("`{name}` {refusal}");
            self.reader.mistakes.push(Mistake::new(message, Some(value.span())));
        }
        self.reader.places.0.insert(name, value.span());
        taken.ok()
    }
}

/// Reads one of `cluster.members`. All its keys must be given.
struct Inner<'i, 'r, 'd> {
    section: &'i mut Section<'r, 'd>,
    at: usize,
    table: Option<&'d DeTable<'d>>,
    span: Range<usize>,
}

impl Inner<'_, '_, '_> {
    fn read<T>(
        &mut self,
        key: &'static str,
        stand_in: T,
        take: impl FnOnce(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> T {
        let name = format!("{}.members[{}].{key}", self.section.name, self.at);
        let Some(value) = self.table.and_then(|table| table.get(key)) else {
            let message = format!("`{name}` is missing");
            self.section.reader.mistakes.push(Mistake::new(message, Some(self.span.clone())));
            return stand_in;
        };
        self.section.take(name, value, take).unwrap_or(stand_in)
    }
}

/// A whole number in `range`.
pub(super) fn number(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<u64, Refusal> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let integer = value.as_integer().ok_or_else(|| must_be(value, &expected))?;
    let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
    let inside = number.and_then(|number| u64::try_from(number).ok());
    inside
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("is {}, and must be {expected}", integer.as_str()))
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Refusal> {
    value.as_bool().ok_or_else(|| must_be(value, "true or false"))
}

/// A text.
pub(super) fn text<'v>(value: &'v DeValue<'_>, expected: &str) -> Result<&'v str, Refusal> {
    value.as_str().ok_or_else(|| must_be(value, expected))
}

/// One of a few words.
pub(super) fn word<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, Refusal> {
    let names: Vec<_> = words.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let expected = format!("one of {}", names.join(", "));
    let text = text(value, &expected)?;
    let found = words.iter().find(|(name, _)| *name == text);
    found.map(|(_, word)| *word).ok_or_else(|| format!("is {text:?}, and must be {expected}"))
}

/// A size in `range`.
pub(super) fn size(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<u64, Refusal> {
    let expected = "a size such as \"64MiB\" (units: B, KiB, MiB, GiB)";
    let text = text(value, expected)?;
    let size =
        ByteSize::parse(text).ok_or_else(|| format!("is {text:?}, and must be {expected}"))?;
    let (least, most) = (ByteSize(*range.start()), ByteSize(*range.end()));
    let inside = (least..=most).contains(&size);
    inside.then_some(size.0).ok_or_else(|| format!("is {size}, and must be {least} to {most}"))
}

/// A time in `range`.
pub(super) fn period(
    value: &DeValue<'_>,
    range: RangeInclusive<Duration>,
) -> Result<Duration, Refusal> {
    let expected = "a time such as \"10ms\" (units: us, ms, s, min)";
    let text = text(value, expected)?;
    let period =
        Period::parse(text).ok_or_else(|| format!("is {text:?}, and must be {expected}"))?;
    let (least, most) = (Period(*range.start()), Period(*range.end()));
    let inside = (least..=most).contains(&period);
    inside.then_some(period.0).ok_or_else(|| format!("is {period}, and must be {least} to {most}"))
}

/// A range of times.
pub(super) fn period_range(value: &DeValue<'_>) -> Result<Range<Duration>, Refusal> {
    let expected = "a range of times such as \"500ms..1s\"";
    let text = text(value, expected)?;
    Period::parse_range(text).ok_or_else(|| format!("is {text:?}, and must be {expected}"))
}

/// A cluster id.
pub(super) fn cluster_id(value: &DeValue<'_>) -> Result<ClusterId, Refusal> {
    let expected = "32 hexadecimal digits, as `purlin init --new` prints them";
    let text = text(value, expected)?;
    let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|_| hex);
    match id {
        None => Err(format!("is {text:?}, and must be {expected}")),
        // What a node has that was never given an id.
        Some(0) => Err(format!("is zero, and must be {expected}")),
        Some(id) => Ok(ClusterId(id)),
    }
}

fn host(value: &DeValue<'_>) -> Result<String, Refusal> {
    let expected = "an IP address or a host name, without a port";
    let text = text(value, expected)?;
    let is_name = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=253).contains(&text.len()) && text.bytes().all(fits)
    };
    let is_host = is_name(text) || text.parse::<std::net::IpAddr>().is_ok();
    is_host.then(|| text.to_owned()).ok_or_else(|| format!("is {text:?}, and must be {expected}"))
}

fn must_be(value: &DeValue<'_>, expected: &str) -> Refusal {
    let kind = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    };
    format!("is {kind}, and must be {expected}")
}
