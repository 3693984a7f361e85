//! Writes the table of keys: as a configuration file with a comment on each key, and as the page
//! `docs/configuration.md`.

use super::{
    field::Field,
    keys::{Absent, Key, MEMBER, SECTIONS},
    options::{Config, example_members},
};
use purlin::{ClusterConfig, ClusterId, Member, NodeId};
use std::fmt::Write;

/// The longest line of a comment, in characters.
const COMMENT_WIDTH: usize = 98;

const FILE_HEAD: &str = "The configuration of one node. A key that is left out has its default, which \
    `purlin config default` prints. After a change, `purlin config check FILE` says what is wrong with \
    this file.";

/// `config` as the text of a file.
pub(super) fn file(config: &Config) -> String {
    // Fields are found by the way that also changes them.
    let mut config = config.clone();
    let mut out = comment(FILE_HEAD);
    for section in &SECTIONS {
        let _ = write!(out, "\n{}[{}]\n", comment(section.help), section.name);
        for key in section.keys {
            let field = (key.field)(&mut config);
            let range = field.range().map(|range| format!(" {}.", sentence(&range)));
            let kind = match field {
                Field::Number(..) | Field::Word(_) => format!(" {}.", sentence(&field.kind())),
                _ => String::new(),
            };
            let text = format!("{}{kind}{}", key.help, range.unwrap_or_default());
            let _ = writeln!(out, "{}{} = {}", comment(&text), key.name, field.write());
        }
    }
    out
}

/// The page `docs/configuration.md`.
pub fn page() -> String {
    let members = example_members();
    let cluster = ClusterConfig::new(ClusterId::default(), super::options::GROUPS, members);
    let mut config = Config::new(NodeId(1), "data".into(), cluster);
    let mut page = String::from(PAGE_HEAD);
    for section in &SECTIONS {
        let _ = write!(page, "\n## `[{}]`\n\n{}\n{TABLE_HEAD}", section.name, section.help);
        for key in section.keys {
            put_row(&mut page, key, &mut config);
        }
        if section.name == "cluster" {
            let mut member: Member = config.cluster.members[0].clone();
            page.push_str("\nEach of `cluster.members` is a table with three keys:\n");
            page.push_str(TABLE_HEAD);
            MEMBER.iter().for_each(|key| put_row(&mut page, key, &mut member));
        }
    }
    page
}

const PAGE_HEAD: &str = "# Configuration\n\n\
    <!-- Written from the table of keys in `server/src/config/keys.rs`. After a change there: \
    `PURLIN_WRITE_DOCS=1 cargo test -p purlin-server configuration` -->\n\n\
    A node has one configuration file, in TOML. `purlin config default` prints a file with all keys; \
    `purlin config check FILE` reports all mistakes of a file, each with its line. A key that is not in \
    these tables is a mistake.\n\n\
    Sizes are whole numbers with `B`, `KiB`, `MiB` or `GiB`; times are whole numbers with `us`, `ms`, `s` \
    or `min`. Both are written as text: `\"64MiB\"`, `\"10ms\"`.\n";

const TABLE_HEAD: &str =
    "\n| key | value | when it is left out | meaning |\n| --- | --- | --- | --- |\n";

fn put_row<C>(page: &mut String, key: &Key<C>, target: &mut C) {
    let field = (key.field)(target);
    let range = field.range().map(|range| format!("; {range}")).unwrap_or_default();
    let absent = match key.absent {
        Absent::Mistake(_) => "must be given".to_owned(),
        Absent::Default => format!("`{}`", field.write()),
        Absent::Derived(text) => text.to_owned(),
    };
    let (name, kind, help) = (key.name, field.kind(), key.help);
    let _ = writeln!(page, "| `{name}` | {kind}{range} | {absent} | {help} |");
}

/// With a capital letter at its start.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// As lines of a comment.
fn comment(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > COMMENT_WIDTH {
            out += &line;
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line += word;
    }
    out + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_page_in_docs_is_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        if std::env::var_os("PURLIN_WRITE_DOCS").is_some() {
            std::fs::write(path, page()).expect("docs can be written");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let how = "run PURLIN_WRITE_DOCS=1 cargo test -p purlin-server configuration";
        assert_eq!(committed, page(), "{how}");
    }

    #[test]
    fn comments_are_broken_between_words() {
        let text = comment("word ".repeat(40).trim_end());
        assert!(text.lines().all(|line| line.len() <= COMMENT_WIDTH && line.starts_with("# w")));
        assert_eq!(text.matches("word").count(), 40);
    }
}
