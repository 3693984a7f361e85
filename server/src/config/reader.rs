//! Reads a document into a configuration, by the table of keys, and remembers where each value stands.
//!
//! A value that is wrong becomes a [`Mistake`] and the field keeps its default, so that one run shows all
//! mistakes of a file.

use super::{
    Config,
    field::Field,
    keys::{Absent, Key, MEMBER, SECTIONS, Section},
    mistake::Mistake,
    names::{unknown_keys, unknown_section},
};
use purlin::{Member, NodeId};
use std::{collections::BTreeMap, ops::Range};
use toml::de::{DeArray, DeTable, DeValue};

/// Where values stand, by names such as `raft.tick` and `cluster.members[0].host`.
#[derive(Default)]
pub(super) struct Places(BTreeMap<String, Range<usize>>);

impl Places {
    /// The place of `name`; nothing when it is not given.
    pub(super) fn of(&self, name: &str) -> Option<Range<usize>> {
        self.0.get(name).cloned()
    }
}

/// What reading one document has found.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) places: Places,
    pub(super) mistakes: Vec<Mistake>,
}

impl Reader {
    /// Puts what `document` says into `config`, which holds the defaults.
    pub(super) fn read(&mut self, document: &DeTable<'_>, config: &mut Config) {
        let known = |name: &str| SECTIONS.iter().any(|section| section.name == name);
        for (name, value) in document.iter().filter(|(name, _)| !known(name.get_ref())) {
            self.mistakes.push(unknown_section(name.get_ref(), name.span(), value.get_ref()));
        }
        for section in &SECTIONS {
            self.section(section, document, config);
        }
    }

    fn section(&mut self, section: &Section, document: &DeTable<'_>, config: &mut Config) {
        let Section { name, keys, .. } = section;
        let value = document.get(*name);
        let span = value.map(toml::Spanned::span);
        let table = value.and_then(|value| value.get_ref().as_table());
        if let (Some(span), None) = (&span, table) {
            let message = format!("`{name}` must be a section: a line `[{name}]`, then its keys");
            self.mistakes.push(Mistake::new(message, Some(span.clone())));
        }
        self.table(name, keys, table, span.as_ref(), config);
        let members = table.and_then(|table| table.get("members")).filter(|_| *name == "cluster");
        if let Some(list) = members.and_then(|members| members.get_ref().as_array()) {
            config.cluster.members = self.members(list);
        }
    }

    fn members(&mut self, list: &DeArray<'_>) -> Vec<Member> {
        let read = |(at, value): (usize, &toml::Spanned<DeValue<'_>>)| {
            let mut member = Member { node: NodeId(0), host: String::new(), peer_port: 0 };
            let name = format!("cluster.members[{at}]");
            let table = value.get_ref().as_table();
            self.table(&name, &MEMBER, table, Some(&value.span()), &mut member);
            member
        };
        list.iter().enumerate().map(read).collect()
    }

    /// Reads the keys of one table, which begins at `span`.
    fn table<C>(
        &mut self,
        name: &str,
        keys: &[Key<C>],
        table: Option<&DeTable<'_>>,
        span: Option<&Range<usize>>,
        target: &mut C,
    ) {
        if let Some(table) = table {
            let names: Vec<_> = keys.iter().map(|key| key.name).collect();
            self.mistakes.extend(unknown_keys(name, &names, table));
        }
        for key in keys {
            let full_name = format!("{name}.{}", key.name);
            match (table.and_then(|table| table.get(key.name)), key.absent) {
                (Some(value), _) => {
                    let field: Field<'_> = (key.field)(target);
                    if let Err(refusal) = field.read(value.get_ref()) {
                        let message = format!("`{full_name}` {refusal}");
                        self.mistakes.push(Mistake::new(message, Some(value.span())));
                    }
                    self.places.0.insert(full_name, value.span());
                }
                (None, Absent::Mistake(purpose)) => {
                    let mistake = Mistake::new(format!("`{full_name}` is missing"), span.cloned());
                    self.mistakes.push(mistake.label(purpose));
                }
                (None, Absent::Default | Absent::Derived(_)) => {}
            }
        }
    }
}
