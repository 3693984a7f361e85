//! From the words of a request to the row of the table that it names.

use super::{
    commands::{self, CommandSpec},
    parser::Arguments,
    words,
};

/// Why a request has no command.
pub(super) enum Unresolved {
    /// The client is told.
    Text(String),
    /// The client is a browser, perhaps one that somebody has tricked into coming here: it is told
    /// nothing, as Redis does it.
    Http,
}

/// A command, behind the name of its container if it is a subcommand.
pub(super) type Resolved = (Option<&'static str>, &'static CommandSpec);

/// The command that a request names, with a number of arguments that it takes.
pub(super) fn resolve(arguments: Arguments<'_>) -> Result<Resolved, Unresolved> {
    let name = &arguments[0];
    let Some(command) = commands::find(name) else {
        if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"HOST:") {
            return Err(Unresolved::Http);
        }
        let unknown = || words::unknown_command(arguments);
        return Err(Unresolved::Text(commands::refusal(name).unwrap_or_else(unknown)));
    };
    if command.subcommands.is_empty() || arguments.len() < 2 {
        return within_arity(command.name.into(), command, arguments).map(|()| (None, command));
    }
    let Some(subcommand) = command.subcommand(&arguments[1]) else {
        let known = command.subcommands.iter().map(|subcommand| subcommand.name);
        let text = words::unknown_subcommand(command.name, known, &arguments[1]);
        return Err(Unresolved::Text(text));
    };
    let full_name = format!("{}|{}", command.name, subcommand.name);
    within_arity(full_name, subcommand, arguments).map(|()| (Some(command.name), subcommand))
}

/// Whether a command takes so many arguments, or what the client is told.
fn within_arity(
    name: String,
    command: &CommandSpec,
    arguments: Arguments<'_>,
) -> Result<(), Unresolved> {
    if !command.takes(arguments.len()) {
        return Err(Unresolved::Text(words::wrong_arity(&name)));
    }
    let most = command.arguments_max();
    if arguments.len() > most {
        let text = words::too_many_arguments(&name, command.keys_max(), most, arguments.len());
        return Err(Unresolved::Text(text));
    }
    Ok(())
}
