//! `COMMAND` and its subcommands: the table of commands as Redis' clients read it.

use super::{
    commands::{COMMANDS, CommandSpec, Description, find},
    local::{Local, are_too_long, compare_cost, matches},
    parser::Arguments,
    reply::Reply,
    words,
};

/// The most names of one `COMMAND INFO` or `COMMAND DOCS`: their reply has 256 KiB at most.
pub(super) const NAMES_MAX: usize = 128;

/// Replies to `COMMAND` or one of its subcommands.
pub(super) fn describe(what: Description, local: &mut Local<'_>, arguments: Arguments<'_>) {
    match what {
        Description::Command => command(local, arguments),
        Description::Count => count(local, arguments),
        Description::Docs => docs(local, arguments),
        Description::GetKeys => getkeys(local, arguments),
        Description::Info => info(local, arguments),
        Description::List => list(local, arguments),
    }
}

/// All commands, ten fields each.
fn command(local: &mut Local<'_>, _: Arguments<'_>) {
    let mut reply = local.reply();
    reply.array(COMMANDS.len());
    for command in COMMANDS {
        put_entry(&mut reply, "", command);
    }
}

fn count(local: &mut Local<'_>, _: Arguments<'_>) {
    local.reply().integer(COMMANDS.len() as i64);
}

fn info(local: &mut Local<'_>, arguments: Arguments<'_>) {
    let names = arguments.from(2);
    if names.is_empty() {
        return command(local, arguments);
    }
    if names.len() > NAMES_MAX {
        return local.reply().error(words::TOO_MANY_NAMES);
    }
    let mut reply = local.reply();
    reply.array(names.len());
    for name in names.iter() {
        match find_named(name) {
            Some((container, command)) => put_entry(&mut reply, container, command),
            None => reply.nil_array(),
        }
    }
}

fn docs(local: &mut Local<'_>, arguments: Arguments<'_>) {
    let names = arguments.from(2);
    if names.len() > NAMES_MAX {
        return local.reply().error(words::TOO_MANY_NAMES);
    }
    let mut reply = local.reply();
    if names.is_empty() {
        reply.map(COMMANDS.len());
        for command in COMMANDS {
            put_docs(&mut reply, "", command);
        }
        return;
    }
    let found: Vec<_> = names.iter().filter_map(find_named).collect();
    reply.map(found.len());
    for (container, command) in found {
        put_docs(&mut reply, container, command);
    }
}

fn getkeys(local: &mut Local<'_>, arguments: Arguments<'_>) {
    let inner = arguments.from(2);
    let keys = match find(&inner[0]) {
        None => Err("ERR Invalid command specified"),
        Some(command) if command.keys.is_none() => Err("ERR The command has no key arguments"),
        Some(command) if !command.takes(inner.len()) => {
            Err("ERR Invalid number of arguments specified for command")
        }
        Some(command) => Ok(command.keys_of(inner)),
    };
    let mut reply = local.reply();
    match keys {
        Err(text) => reply.error(text),
        Ok(keys) => {
            reply.array(keys.len());
            keys.iter().for_each(|key| reply.bulk(key));
        }
    }
}

fn list(local: &mut Local<'_>, arguments: Arguments<'_>) {
    if are_too_long(arguments.from(4)) {
        return local.reply().error(words::PATTERNS_TOO_LONG);
    }
    local.cost += compare_cost(arguments.from(4), COMMANDS.iter().map(|command| command.name));
    let Some(names) = listed(arguments.from(2)) else { return local.reply().error(words::SYNTAX) };
    let mut reply = local.reply();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name));
}

/// The names that pass the filter; nothing when it is none that Redis knows.
fn listed(filter: Arguments<'_>) -> Option<Vec<&'static str>> {
    if filter.is_empty() {
        return Some(COMMANDS.iter().map(|command| command.name).collect());
    }
    if filter.len() != 3 || !filter[0].eq_ignore_ascii_case(b"FILTERBY") {
        return None;
    }
    let by = &filter[2];
    let passes: &dyn Fn(&CommandSpec) -> bool = match filter[1].to_ascii_uppercase().as_slice() {
        // There are no modules, so none of them has a command.
        b"MODULE" => &|_| false,
        b"ACLCAT" => &|command| {
            let mut categories = command.acl_categories().into_iter();
            categories.any(|category| category.as_bytes()[1..].eq_ignore_ascii_case(by))
        },
        b"PATTERN" => &|command| matches(by, command.name.as_bytes()),
        _ => return None,
    };
    Some(COMMANDS.iter().filter(|command| passes(command)).map(|command| command.name).collect())
}

/// The command of that name, or the subcommand of a name like `client|id`, with what stands before
/// its own name.
fn find_named(name: &[u8]) -> Option<(&'static str, &'static CommandSpec)> {
    let Some(bar) = name.iter().position(|&byte| byte == b'|') else {
        return Some(("", find(name)?));
    };
    let container = find(&name[..bar])?;
    Some((container.name, container.subcommand(&name[bar + 1..])?))
}

fn full_name(container: &str, command: &CommandSpec) -> String {
    if container.is_empty() { command.name.into() } else { format!("{container}|{}", command.name) }
}

fn put_entry(reply: &mut Reply<'_>, container: &str, command: &CommandSpec) {
    reply.array(10);
    reply.bulk(full_name(container, command));
    reply.integer(command.arity.into());
    put_set(reply, command.flags);
    let (first, last, step) =
        command.keys.map_or((0, 0, 0), |keys| (keys.first, keys.last, keys.step));
    for number in [first, last, step] {
        reply.integer(number.into());
    }
    put_set(reply, &command.acl_categories());
    // No tips.
    reply.set(0);
    put_key_specs(reply, command);
    reply.array(command.subcommands.len());
    for subcommand in command.subcommands {
        put_entry(reply, command.name, subcommand);
    }
}

fn put_set(reply: &mut Reply<'_>, words: &[&str]) {
    reply.set(words.len());
    words.iter().for_each(|word| reply.simple(word));
}

fn put_key_specs(reply: &mut Reply<'_>, command: &CommandSpec) {
    let Some(keys) = command.keys else { return reply.set(0) };
    reply.set(1);
    reply.map(3);
    reply.bulk("flags");
    put_set(reply, keys.access);
    let begin = [("index", keys.first)];
    put_search(reply, "begin_search", "index", &begin);
    let last = if keys.last < 0 { keys.last } else { keys.last - keys.first };
    let find = [("lastkey", last), ("keystep", keys.step), ("limit", 0)];
    put_search(reply, "find_keys", "range", &find);
}

fn put_search(reply: &mut Reply<'_>, name: &str, kind: &str, numbers: &[(&str, i32)]) {
    reply.bulk(name);
    reply.map(2);
    reply.bulk("type");
    reply.bulk(kind);
    reply.bulk("spec");
    reply.map(numbers.len());
    for &(name, number) in numbers {
        reply.bulk(name);
        reply.integer(number.into());
    }
}

fn put_docs(reply: &mut Reply<'_>, container: &str, command: &CommandSpec) {
    let fields = [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group.name()),
        ("complexity", command.complexity),
    ];
    let has_usage = !command.usage.is_empty() && command.subcommands.is_empty();
    let has_subcommands = !command.subcommands.is_empty();
    reply.bulk(full_name(container, command));
    reply.map(fields.len() + usize::from(has_usage) + usize::from(has_subcommands));
    for (name, text) in fields {
        reply.bulk(name);
        reply.bulk(text);
    }
    if has_usage {
        put_arguments(reply, command);
    }
    if has_subcommands {
        reply.bulk("subcommands");
        reply.map(command.subcommands.len());
        for subcommand in command.subcommands {
            put_docs(reply, command.name, subcommand);
        }
    }
}

/// The usage as one argument, which clients show as it is.
fn put_arguments(reply: &mut Reply<'_>, command: &CommandSpec) {
    reply.bulk("arguments");
    reply.array(1);
    reply.map(3);
    for (name, text) in
        [("name", command.usage), ("type", "string"), ("display_text", command.usage)]
    {
        reply.bulk(name);
        reply.bulk(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    #[test]
    fn the_longest_reply_about_so_many_names_has_256_kib() {
        assert!(words::TOO_MANY_NAMES.contains(&NAMES_MAX.to_string()));
        for write in [put_docs, put_entry] {
            for command in COMMANDS {
                let mut out = BytesMut::new();
                write(&mut Reply::new(&mut out, Default::default()), "", command);
                assert!(out.len() * NAMES_MAX <= 256 << 10, "{}: {}", command.name, out.len());
            }
        }
    }
}
