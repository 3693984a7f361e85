//! The one table of commands. Dispatch, `COMMAND` and the page `docs/commands.md` come from it.
//!
//! Beside it stand the commands of Redis that are refused on purpose, each with what to do instead.

mod page;
mod refused;
mod table;

pub use page::page;
pub use refused::refusal;
pub use table::COMMANDS;

use super::{data::Planned, local::Local, parser::Arguments};

/// The most keys that one command names. A command is done in one go, at each replica of a group: about 10 ms
/// for so many keys.
pub const KEYS_MAX: usize = 16 << 10;

/// The most arguments of a command that does not name many keys, its name included.
pub const ARGUMENTS_MAX: usize = 1 << 10;

/// One command, or one subcommand.
pub struct CommandSpec {
    /// Its name, in lower case; a subcommand's without its container's.
    pub name: &'static str,
    /// How many arguments it takes, its name included: exactly, or at least when negative.
    pub arity: i32,
    /// What `COMMAND` says of it.
    pub flags: &'static [&'static str],
    /// Where its keys are.
    pub keys: Option<Keys>,
    /// Its chapter.
    pub group: Group,
    /// ACL categories beside those that follow from flags and group.
    pub categories: &'static [&'static str],
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// What stands behind its name.
    pub usage: &'static str,
    /// How its cost grows.
    pub complexity: &'static str,
    /// The version of Redis that brought it.
    pub since: &'static str,
    /// What runs it.
    pub(super) run: Run,
    /// Its subcommands; then its second argument names one of them.
    pub subcommands: &'static [Self],
}

/// Where a command's keys are among its arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keys {
    /// The place of the first.
    pub first: i32,
    /// The place of the last, from the end when negative.
    pub last: i32,
    /// From one to the next.
    pub step: i32,
    /// What is done to them, in Redis' words.
    pub access: &'static [&'static str],
}

/// A chapter of the documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Values.
    String,
    /// Keys of any kind.
    Generic,
    /// Which shard leads which keys.
    Cluster,
    /// The connection itself.
    Connection,
    /// The node.
    Server,
}

/// What runs a command.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// The groups, asked as planned.
    Data(for<'a> fn(Arguments<'a>) -> Planned<'a>),
    /// The connection.
    Local(fn(&mut Local<'_>, Arguments<'_>)),
    /// This table, read by `introspect`.
    Describe(Description),
    /// One of the subcommands, which must be named.
    Container,
}

/// The questions about the table of commands: `COMMAND` and its subcommands.
#[derive(Clone, Copy)]
pub(super) enum Description {
    /// `COMMAND`
    Command,
    /// `COMMAND COUNT`
    Count,
    /// `COMMAND DOCS`
    Docs,
    /// `COMMAND GETKEYS`
    GetKeys,
    /// `COMMAND INFO`
    Info,
    /// `COMMAND LIST`
    List,
}

impl Group {
    /// Its name in `COMMAND DOCS`.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Generic => "generic",
            Self::Cluster => "cluster",
            Self::Connection => "connection",
            Self::Server => "server",
        }
    }

    fn category(self) -> Option<&'static str> {
        match self {
            Self::String => Some("@string"),
            Self::Generic => Some("@keyspace"),
            Self::Connection => Some("@connection"),
            Self::Cluster | Self::Server => None,
        }
    }
}

impl CommandSpec {
    /// What a row begins with.
    const ROW: Self = Self {
        name: "",
        arity: 0,
        flags: &[],
        keys: None,
        group: Group::Connection,
        categories: &[],
        summary: "",
        usage: "",
        complexity: "O(1)",
        since: "1.0.0",
        run: Run::Container,
        subcommands: &[],
    };

    /// Whether it takes this many arguments, its name included.
    pub fn takes(&self, arguments: usize) -> bool {
        let arguments = arguments as i64;
        match i64::from(self.arity) {
            exactly if exactly >= 0 => arguments == exactly,
            at_least => arguments >= -at_least,
        }
    }

    /// The most keys that it takes, when it takes many.
    pub fn keys_max(&self) -> Option<usize> {
        self.keys.is_some_and(|keys| keys.last < 0).then_some(KEYS_MAX)
    }

    /// The most arguments that it takes, its name included.
    pub fn arguments_max(&self) -> usize {
        match (self.keys, self.keys_max()) {
            (Some(keys), Some(max)) => 1 + max * keys.step as usize,
            _ => ARGUMENTS_MAX,
        }
    }

    /// Its ACL categories.
    pub fn acl_categories(&self) -> Vec<&'static str> {
        let has = |flag| self.flags.contains(&flag);
        let mut categories = Vec::new();
        categories.extend(has("write").then_some("@write"));
        categories.extend(has("readonly").then_some("@read"));
        categories.extend(self.group.category());
        categories.push(if has("fast") { "@fast" } else { "@slow" });
        categories.extend(self.categories);
        categories
    }

    /// The subcommand of that name, in upper or lower case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Self> {
        let subcommands: &'static [Self] = self.subcommands;
        subcommands.iter().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
    }

    /// The keys among `arguments`, which must be as many as it takes.
    pub(super) fn keys_of<'a>(&self, arguments: Arguments<'a>) -> Vec<&'a [u8]> {
        let Some(keys) = self.keys else { return Vec::new() };
        let last = if keys.last < 0 { arguments.len() as i32 + keys.last } else { keys.last };
        let places = (keys.first..=last).step_by(keys.step as usize);
        places.filter_map(|place| arguments.get(place as usize)).collect()
    }
}

/// The command of that name, in upper or lower case.
pub fn find(name: &[u8]) -> Option<&'static CommandSpec> {
    let mut place = hash(name);
    loop {
        let command = COMMANDS.get(usize::from(PLACES[place]))?;
        if name.eq_ignore_ascii_case(command.name.as_bytes()) {
            return Some(command);
        }
        place = (place + 1) % PLACES.len();
    }
}

/// Where each command stands in the table, by the hash of its name; beyond the table when free.
const PLACES: [u8; 256] = places();

const fn places() -> [u8; 256] {
    // A quarter full at most, so that a search ends soon.
    assert!(COMMANDS.len() <= 64, "the index is full: make it larger");
    let mut places = [u8::MAX; 256];
    let mut command = 0;
    while command < COMMANDS.len() {
        let mut place = hash(COMMANDS[command].name.as_bytes());
        while places[place] != u8::MAX {
            place = (place + 1) % places.len();
        }
        places[place] = command as u8;
        command += 1;
    }
    places
}

/// The same for upper and lower case.
const fn hash(name: &[u8]) -> usize {
    let mut hash = name.len() as u32;
    let mut place = 0;
    while place < name.len() && place < 16 {
        hash = (hash ^ (name[place] | 0x20) as u32).wrapping_mul(0x0100_0193);
        place += 1;
    }
    (hash ^ (hash >> 15)) as usize % 256
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::parser::RequestLimits;

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        for command in COMMANDS {
            for name in [command.name.to_owned(), command.name.to_uppercase()] {
                let found = find(name.as_bytes()).expect("it is in the table");
                assert!(std::ptr::eq(found, command), "{name}");
            }
            assert!(refusal(command.name.as_bytes()).is_none(), "{}", command.name);
        }
        for name in ["", "ge", "gett", "get\0", "nothing"] {
            assert!(find(name.as_bytes()).is_none(), "{name}");
        }
    }

    /// The parser drops the arguments behind those that it keeps: a command that took more would lose keys in silence.
    #[test]
    fn the_parser_keeps_as_many_arguments_as_any_command_takes() {
        let all = COMMANDS.iter().flat_map(|command| command.subcommands.iter().chain([command]));
        let most = all.map(CommandSpec::arguments_max).max().expect("there are commands");
        assert_eq!(most, 1 + 2 * KEYS_MAX, "MSET, and no command takes more");
        assert_eq!(RequestLimits::default().arguments_kept, most);
        assert_eq!(RequestLimits::new(1 << 10, 1 << 10).arguments_kept, most);
    }

    #[test]
    fn rows_are_in_order_and_complete() {
        assert!(COMMANDS.is_sorted_by(|one, other| one.name < other.name));
        let all = COMMANDS.iter().flat_map(|command| command.subcommands.iter().chain([command]));
        for command in all {
            assert!(command.arity != 0 && !command.summary.is_empty(), "{}", command.name);
            assert_eq!(command.name, command.name.to_lowercase());
            let is_container = matches!(command.run, Run::Container);
            assert!(!is_container || !command.subcommands.is_empty(), "{}", command.name);
            if let Some(keys) = command.keys {
                assert!(keys.first > 0 && keys.step > 0, "{}", command.name);
            }
        }
    }
}
