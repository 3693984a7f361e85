//! The command line: one program, a command each.

pub mod client;
mod config;
mod init;
mod logging;
mod server;

use self::client::ClientOptions;
use crate::{
    dev::{self, DevOptions},
    error::Failure,
    output::{flush_log, say},
    status::{self, StatusOptions},
};
use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

const OVERVIEW: &str = "\
purlin: a replicated key-value store that Redis clients speak to

Three commands to try first:
  purlin dev                         a cluster of three nodes on this machine
  redis-cli -p PORT set hello world  write to it, at a port that `dev` prints
  redis-cli -p PORT get hello        read it, from any of the three nodes

To run nodes of your own:
  purlin config default > n1.toml    a configuration file with everything in it
  purlin config check n1.toml        says what is wrong with it
  purlin init --config n1.toml       makes the data directory of the node, once
  purlin server --config n1.toml     runs the node
  purlin status --config n1.toml     says how the cluster stands, and what is wrong
  purlin cli -p 7000 get hello       sends a command, where there is no redis-cli

purlin help COMMAND says more.";

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 another reason, 2 wrong usage, 3 configuration, 4 environment, 5 data directory,
6 damage. `purlin cli` and `purlin status` have codes of their own: see their help.";

const CLI_EXIT_CODES: &str = "\
Exit codes: 0 done, 1 refused, 7 no connection (nothing was changed), 8 certainly not applied (try again),
9 unknown (read before you repeat a write). Of several commands it is the highest code.";

const STATUS_EXIT_CODES: &str =
    "Exit codes: 0 nothing is wrong, 1 something is wrong, 3 the configuration file has a mistake.";

#[derive(Parser)]
#[command(
    name = "purlin",
    version,
    about = "A replicated key-value store that Redis clients speak to",
    after_help = EXIT_CODES
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster to try out on this machine; Ctrl-C ends it
    Dev(DevOptions),
    /// Run one node
    Server(ServerArguments),
    /// Send one command to a node, or the commands of standard input, line by line
    #[command(after_help = CLI_EXIT_CODES)]
    Cli(ClientArguments),
    /// Say how a cluster stands, and what is wrong; needs no leader and no majority
    #[command(after_help = STATUS_EXIT_CODES)]
    Status(StatusOptions),
    /// Make the data directory of a node, or print a new cluster id
    Init(InitArguments),
    /// Check or write a configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Args)]
struct ServerArguments {
    /// The node's configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// End when this process ends; it must be the parent process
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<i32>,
    /// Use these cores only
    #[arg(long, value_name = "CORES", value_delimiter = ',', hide = true)]
    cores: Vec<usize>,
}

#[derive(Args)]
struct ClientArguments {
    /// The node's host
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port at which the node serves Redis clients
    #[arg(short, long, default_value_t = 7000)]
    port: u16,
    /// The command and its arguments; without them, commands are read from standard input, line by line
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct InitArguments {
    /// Make the data directory that the node's configuration file names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print a new cluster id
    #[arg(long)]
    new: bool,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say what is wrong with a configuration file
    Check {
        /// The configuration file
        file: PathBuf,
    },
    /// Print a configuration file with all keys, their meanings and their defaults
    Default,
}

/// Runs the command that the process was given.
pub fn main() -> ExitCode {
    let code = match run(Arguments::parse()) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    };
    flush_log();
    code
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.command {
        None => {
            say(OVERVIEW);
            Ok(())
        }
        Some(Command::Cli(ClientArguments { host, port, words })) => {
            let options = ClientOptions { host, ..ClientOptions::new(port) };
            return Ok(client::run(&options, &words).into());
        }
        Some(Command::Status(options)) => return status::run(&options),
        Some(Command::Dev(options)) => dev::run(&options),
        Some(Command::Server(arguments)) => server::run(&arguments),
        Some(Command::Init(InitArguments { config: Some(path), .. })) => init::run(&path),
        Some(Command::Init(_)) => init::print_new_id(),
        Some(Command::Config(ConfigCommand::Check { file })) => config::check(&file),
        Some(Command::Config(ConfigCommand::Default)) => config::print_default(),
    }
    .map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, error::ErrorKind as UsageError};

    fn usage(arguments: &[&str]) -> UsageError {
        match Arguments::try_parse_from(arguments) {
            Ok(_) => panic!("{arguments:?} are accepted"),
            Err(error) => error.kind(),
        }
    }

    #[test]
    fn the_command_tree_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn init_wants_a_file_or_a_new_id() {
        assert_eq!(usage(&["purlin", "init"]), UsageError::MissingRequiredArgument);
        let both = ["purlin", "init", "--new", "--config", "f"];
        assert_eq!(usage(&both), UsageError::ArgumentConflict);
        assert_eq!(usage(&["purlin", "server"]), UsageError::MissingRequiredArgument);
        assert_eq!(usage(&["purlin", "sevrer"]), UsageError::InvalidSubcommand);
    }

    #[test]
    fn dev_bounds_what_it_starts() {
        for wrong in
            [["--nodes", "0"], ["--shards", "0"], ["--shards", "41"], ["--groups", "16385"]]
        {
            let arguments = ["purlin", "dev", wrong[0], wrong[1]];
            assert_eq!(usage(&arguments), UsageError::ValueValidation, "{wrong:?}");
        }
        let all = ["purlin", "dev", "-n", "3", "--shards", "2", "--groups", "48", "--keep"];
        assert!(Arguments::try_parse_from(all).is_ok());
    }
}
