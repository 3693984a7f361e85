//! A program that runs batches of commands with a cluster client of some language, and what it made of them.
//!
//! The programs are in `tests/clients`; `tests/clients/setup` fetches what they need. Their arguments are the ports
//! of the seeds. They speak lines of JSON:
//!
//! ```text
//! {"client": "redis-py 8.1.0", "retries": 3}                        first: it is connected; a command that fails
//!                                                                   is sent again so often without a word
//! {"pipeline": true, "commands": [["SET", "k", "v"], ["INCR", "n"]]}  to the program: SET, GET and INCR
//! [{"ok": "OK"}, {"error": "ConnectionError: closed"}]              from the program: a reply for each command
//! ```
//!
//! The program ends at the end of its input.

use super::super::support::{End, Process, SOON, client_folder};
use serde_json::{Value, json};
use std::{
    io::{PipeWriter, Write, pipe},
    process::Command,
};

/// What a client said of one command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    Text(String),
    Number(i64),
    Nil,
    Error(String),
}

/// A client that runs.
pub(crate) struct Client {
    pub(crate) name: String,
    /// How often it sends a command again by itself.
    pub(crate) retries: u64,
    process: Process,
    input: PipeWriter,
}

/// The command that runs the client of a language, where it is installed.
pub(crate) fn program(language: &str) -> Option<Command> {
    let (folder, made) = match language {
        "node-redis" | "ioredis" => client_folder("node")?,
        other => client_folder(other)?,
    };
    let with_file = |program: &str, file: &str| {
        let mut command = Command::new(program);
        command.arg(folder.join(file));
        command
    };
    let command = match language {
        "python" => with_file(made.join("bin/python").to_str()?, "client.py"),
        "go" => Command::new(made.join("client")),
        "rust" => Command::new(made.join("debug/purlin-cluster-client")),
        javascript => {
            let mut command = with_file("node", &format!("{javascript}.js"));
            command.env("NODE_PATH", made.join("node_modules"));
            command
        }
    };
    Some(command)
}

impl Client {
    /// Starts a program, whose only seed is at `port`, and waits until it is connected.
    pub(crate) fn start(mut command: Command, port: u16) -> Self {
        let (reader, input) = pipe().expect("a pipe");
        command.arg(port.to_string());
        let process = Process::start_with_input("a client", &mut command, reader.into());
        // The command holds the other end of the pipe: without it the program's input ends with ours.
        drop(command);
        let mut client = Self { name: String::new(), retries: 0, process, input };
        let hello = client.line();
        client.name = hello["client"].as_str().expect("a name").to_owned();
        client.retries = hello["retries"].as_u64().expect("a number");
        client
    }

    /// Gives it a batch, and does not wait.
    pub(crate) fn ask(&mut self, is_pipeline: bool, commands: &[Vec<String>]) {
        let batch = json!({ "pipeline": is_pipeline, "commands": commands });
        writeln!(self.input, "{batch}").expect("the client runs");
    }

    /// The replies to the oldest batch that it was not asked for yet.
    pub(crate) fn replies(&self) -> Vec<Reply> {
        let line = self.line();
        line.as_array().expect("a list").iter().map(Reply::of).collect()
    }

    fn line(&self) -> Value {
        let line = self.process.take_line(SOON);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Tells it to end.
    pub(crate) fn end(self) -> End {
        drop(self.input);
        self.process.end(SOON)
    }
}

impl Reply {
    fn of(reply: &Value) -> Self {
        match (&reply["error"], &reply["ok"]) {
            (Value::String(error), _) => Self::Error(error.clone()),
            (_, Value::String(text)) => Self::Text(text.clone()),
            (_, Value::Number(number)) => Self::Number(number.as_i64().expect("a whole number")),
            (_, Value::Null) => Self::Nil,
            _ => panic!("{reply} is no reply"),
        }
    }
}
