//! Names that the table of keys does not have: each is refused, with the nearest name when one is near.

use super::{keys::SECTIONS, mistake::Mistake};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// The keys of `table` that are none of `keys`.
pub(super) fn unknown_keys(section: &str, keys: &[&str], table: &DeTable<'_>) -> Vec<Mistake> {
    let unknown = table.keys().filter(|name| !keys.contains(&name.get_ref().as_ref()));
    let mistake = |name: &toml::Spanned<std::borrow::Cow<'_, str>>| {
        let message = format!("unknown key `{section}.{}`", name.get_ref());
        Mistake::new(message, Some(name.span())).label(hint(name.get_ref(), section, keys))
    };
    unknown.map(mistake).collect()
}

/// A section that the table does not have, or a key outside all sections.
pub(super) fn unknown_section(name: &str, span: Range<usize>, value: &DeValue<'_>) -> Mistake {
    if !value.is_table() {
        let message = format!("the key `{name}` is in no section");
        return Mistake::new(message, Some(span)).label(elsewhere(name, "").unwrap_or_default());
    }
    let names: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
    let label = match nearest(name, &names) {
        Some(near) => format!("did you mean `[{near}]`?"),
        None => format!("the sections are {}", names.join(", ")),
    };
    Mistake::new(format!("unknown section `[{name}]`"), Some(span)).label(label)
}

/// What the writer may have meant.
fn hint(name: &str, section: &str, keys: &[&str]) -> String {
    match nearest(name, keys) {
        Some(near) => format!("did you mean `{near}`?"),
        None => elsewhere(name, section)
            .unwrap_or_else(|| format!("the keys of `{section}` are {}", keys.join(", "))),
    }
}

/// Another section that has this very key.
fn elsewhere(name: &str, section: &str) -> Option<String> {
    let mut others = SECTIONS.iter().filter(|other| other.name != section);
    let home = others.find(|other| other.keys.iter().any(|key| key.name == name))?;
    Some(format!("`{name}` belongs to [{}]", home.name))
}

/// The nearest of `names`, if it is so near that the writer may have meant it.
fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let measured = names.iter().map(|other| (distance(name, other), *other));
    let (away, near) = measured.min()?;
    let near_enough = (near.len().max(3) / 3).min(3);
    (away <= near_enough).then_some(near)
}

/// How many letters must be put in, taken out or changed, or neighbours swapped, to make `a` of `b`
/// (the optimal string alignment distance). Names longer than 64 letters are near to nothing.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().max(b.len()) > 64 {
        return usize::MAX;
    }
    // `rows[i][j]`: from the first `i` letters of `a` to the first `j` of `b`.
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_slips() {
        for (a, b, slips) in [
            ("tick", "tick", 0),
            ("", "tick", 4),
            ("tik", "tick", 1),
            ("tcik", "tick", 1),
            ("heart_beat", "heartbeat", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), slips, "{a} {b}");
            assert_eq!(distance(b, a), slips, "{b} {a}");
        }
    }

    #[test]
    fn only_a_near_name_is_nearest() {
        let keys = ["tick", "election_timeout", "heartbeat", "inflight_bytes"];
        assert_eq!(nearest("election_timout", &keys), Some("election_timeout"));
        assert_eq!(nearest("heart_beat", &keys), Some("heartbeat"));
        assert_eq!(nearest("tik", &keys), Some("tick"));
        assert_eq!(nearest("shards", &keys), None);
        assert_eq!(nearest("x", &keys), None);
        assert_eq!(nearest(&"t".repeat(10_000), &keys), None);
    }
}
