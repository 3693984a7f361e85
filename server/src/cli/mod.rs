//! The command line: one program, a command each.

pub mod client;
mod config;
mod init;
mod logging;
mod output;
mod server;

pub(crate) use init::new_cluster_id;
pub(crate) use output::say;

use self::client::ClientOptions;
use crate::{
    config::{Config, FILE_BYTES_MAX},
    dev::{self, DevOptions},
    error::Failure,
};
use clap::{Args, Parser, Subcommand};
use purlin::ErrorKind;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

const OVERVIEW: &str = "\
purlin: a replicated key-value store that Redis clients speak to

Three commands to try first:
  purlin dev                         a cluster of three nodes on this machine
  redis-cli -p PORT set hello world  write to it, at a port that `dev` prints
  redis-cli -p PORT get hello        read it, from any of the three nodes

To run nodes of your own:
  purlin config default > n1.toml    a configuration file with everything in it
  purlin config check n1.toml        says what is wrong with it
  purlin init --config n1.toml       makes the node's data directory, once
  purlin server --config n1.toml     runs the node

purlin help COMMAND says more.";

#[derive(Parser)]
#[command(
    name = "purlin",
    version,
    about = "A replicated key-value store that Redis clients speak to"
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
    /// Send commands to a node, or talk to it line by line
    Cli(ClientArguments),
    /// Make a node's data directory, or draw a cluster id
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
    /// End when this process ends, which must be the parent
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
    /// The command and its arguments; none to be asked for them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct InitArguments {
    /// The node's configuration file: makes the data directory that it names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print a new cluster id
    #[arg(long)]
    new: bool,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say what is wrong with a file
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print a file with all keys, their meanings and their defaults
    Default,
}

/// Runs the command that the process was given.
pub fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
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
        Some(Command::Dev(options)) => dev::run(&options),
        Some(Command::Server(arguments)) => server::run(&arguments),
        Some(Command::Init(InitArguments { config: Some(path), .. })) => init::run(&path),
        Some(Command::Init(_)) => init::print_new_id(),
        Some(Command::Config(ConfigCommand::Check { file })) => config::check(&file),
        Some(Command::Config(ConfigCommand::Default)) => config::print_default(),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Reads and checks the configuration file at `path`.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    let mut text = String::new();
    let unreadable = |why: String| {
        Failure::new(
            ErrorKind::Config,
            format!("the configuration file cannot be read: {why}"),
            path.display().to_string(),
            "nothing was started or changed",
            "name a file that can be read; `purlin config default` prints one to begin with",
        )
    };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(Config::parse(path, &text)?)
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

    #[test]
    fn a_file_that_cannot_be_read_is_a_mistake_of_configuration() {
        let failure = load(Path::new("/nonexistent/purlin.toml")).expect_err("no such file");
        assert_eq!(failure.exit_code(), 3);
        assert!(
            failure.to_string().starts_with(
                "error: the configuration file cannot be read: No such file or directory"
            ),
            "{failure}"
        );
    }
}
