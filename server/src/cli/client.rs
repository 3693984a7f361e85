//! `purlin cli`: sends commands to a node and shows the replies, one from the command line, or those
//! of a file, or line by line at a terminal.
//!
//! Replies are shown as by `redis-cli`: for people at a terminal, else as they are. The exit code
//! tells a script what is known of its command: see [`Status`].

use crate::{
    output::complain,
    resp::{RespClient, Value, commands, split_line},
};
use rustyline::{
    Editor, Helper, completion::Completer, error::ReadlineError, highlight::Highlighter,
    hint::Hinter, history::DefaultHistory, validate::Validator,
};
use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

/// What is needed to reach a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientOptions {
    /// Its host: an IP address or a name.
    pub host: String,
    /// The port at which it serves Redis clients.
    pub port: u16,
    /// How long a connection, or a reply, may take.
    pub timeout: Duration,
}

impl ClientOptions {
    /// A node on this machine, at the port given, with half a minute for each reply.
    pub fn new(port: u16) -> Self {
        Self { host: "127.0.0.1".into(), port, timeout: Duration::from_secs(30) }
    }
}

/// What is known of a command, as an exit code. Of several commands it is the highest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Status {
    /// It was done.
    Done = 0,
    /// It was refused.
    Refused = 1,
    /// The node could not be reached: nothing was changed.
    Unreachable = 7,
    /// The cluster could not do it now: certainly not applied.
    NotApplied = 8,
    /// It may have been applied, or not.
    Unknown = 9,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// Runs one command when there are words; else what standard input has, line by line.
pub fn run(options: &ClientOptions, words: &[String]) -> Status {
    let is_terminal = io::stdout().is_terminal();
    let mut session = Session::new(options.clone(), io::stdout(), is_terminal);
    if !words.is_empty() {
        return session.execute(words);
    }
    if io::stdin().is_terminal() && is_terminal {
        return converse(&mut session);
    }
    session.run_lines(io::stdin().lock())
}

/// A connection that is made when it is needed, and the place where replies are shown.
pub struct Session<W> {
    options: ClientOptions,
    client: Option<RespClient>,
    out: W,
    /// Whether a person reads the replies.
    is_terminal: bool,
}

impl<W: Write> Session<W> {
    /// Nothing is connected yet.
    pub fn new(options: ClientOptions, out: W, is_terminal: bool) -> Self {
        Self { options, client: None, out, is_terminal }
    }

    /// Runs the commands of `input`, a line each.
    pub fn run_lines(&mut self, input: impl BufRead) -> Status {
        let mut status = Status::Done;
        // Values may be any bytes, so a line may be no text.
        for line in input.split(b'\n') {
            match line {
                Ok(line) => status = status.max(self.execute_bytes(&line)),
                Err(error) => {
                    self.say(&format!(
                        "error: the input cannot be read: {error}; the lines before were sent, and \
                         the rest was not"
                    ));
                    return status.max(Status::Refused);
                }
            }
        }
        status
    }

    /// Runs one line, which may be empty.
    pub fn execute_line(&mut self, line: &str) -> Status {
        self.execute_bytes(line.as_bytes())
    }

    fn execute_bytes(&mut self, line: &[u8]) -> Status {
        match split_line(line.strip_suffix(b"\r").unwrap_or(line)) {
            Ok(words) if words.is_empty() => Status::Done,
            Ok(words) => self.execute(&words),
            Err(error) => {
                self.say(&format!("error: {error}; nothing was sent"));
                Status::Refused
            }
        }
    }

    /// Runs one command and shows its reply, or what became of it.
    pub fn execute<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Status {
        // A connection that has been idle may be gone. What changes nothing can be asked again.
        let is_old = self.client.is_some();
        match self.attempt(words) {
            Err(Lost::Answer(_)) if is_old && is_repeatable(words) => {
                let second = self.attempt(words);
                self.report(words, second)
            }
            first => self.report(words, first),
        }
    }

    fn attempt<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Result<Value, Lost> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => {
                let address = (&*self.options.host, self.options.port);
                RespClient::connect(address, self.options.timeout).map_err(Lost::Connection)?
            }
        };
        let reply = client.command(words).map_err(Lost::Answer)?;
        if !words[0].as_ref().eq_ignore_ascii_case(b"quit") {
            self.client = Some(client);
        }
        Ok(reply)
    }

    fn report<A: AsRef<[u8]>>(&mut self, words: &[A], reply: Result<Value, Lost>) -> Status {
        let ClientOptions { host, port, .. } = &self.options;
        let text = match reply {
            Ok(reply) => {
                self.show(&reply);
                return status_of(&reply);
            }
            Err(Lost::Connection(error)) => {
                format!(
                    "error: no connection to {host}:{port}: {error}; nothing was sent; start a node \
                     there, or correct --host and --port"
                )
            }
            Err(Lost::Answer(error)) if is_repeatable(words) => {
                format!(
                    "error: no answer from {host}:{port}: {error}; nothing was changed, ask again"
                )
            }
            Err(Lost::Answer(error)) => {
                let name = String::from_utf8_lossy(words[0].as_ref()).to_uppercase();
                self.say(&format!(
                    "error: no answer from {host}:{port}: {error}; {name} may be applied, now or \
                     later: read before you repeat it"
                ));
                return Status::Unknown;
            }
        };
        self.say(&text);
        Status::Unreachable
    }

    fn show(&mut self, reply: &Value) {
        let mut shown = if self.is_terminal {
            reply.to_string().into_bytes()
        } else {
            let mut bytes = Vec::new();
            put_raw(&mut bytes, reply);
            bytes
        };
        shown.push(b'\n');
        // Who closes the output early has seen enough.
        let _ = self.out.write_all(&shown).and_then(|()| self.out.flush());
    }

    fn say(&mut self, text: &str) {
        if self.is_terminal {
            let _ = writeln!(self.out, "{text}");
        } else {
            complain(text);
        }
    }
}

/// Where a command was lost.
enum Lost {
    /// On the way there: it was not sent.
    Connection(io::Error),
    /// Behind that.
    Answer(io::Error),
}

/// Whether a command changes nothing, so that it may be sent again.
fn is_repeatable<A: AsRef<[u8]>>(words: &[A]) -> bool {
    let command = words.first().and_then(|name| commands::find(name.as_ref()));
    command.is_some_and(|command| !command.flags.contains(&"write"))
}

fn status_of(reply: &Value) -> Status {
    let Value::Error(text) = reply else { return Status::Done };
    match text.split(' ').next() {
        Some("CLUSTERDOWN" | "TRYAGAIN" | "LOADING" | "MOVED" | "READONLY") => Status::NotApplied,
        Some("UNKNOWN") => Status::Unknown,
        _ => Status::Refused,
    }
}

/// A reply as it is, elements one below the other.
fn put_raw(out: &mut Vec<u8>, reply: &Value) {
    match reply {
        Value::Nil => {}
        Value::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Error(text) => out.extend_from_slice(text.as_bytes()),
        Value::Array(values) => {
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    out.push(b'\n');
                }
                put_raw(out, value);
            }
        }
        Value::Map(pairs) => {
            for (place, (key, value)) in pairs.iter().enumerate() {
                if place > 0 {
                    out.push(b'\n');
                }
                put_raw(out, key);
                out.push(b' ');
                put_raw(out, value);
            }
        }
        other => out.extend_from_slice(other.bytes().unwrap_or_default()),
    }
}

/// Reads lines at a terminal until the person has had enough.
fn converse(session: &mut Session<io::Stdout>) -> Status {
    let mut editor: Editor<LineHelper, DefaultHistory> = match Editor::new() {
        Ok(editor) => editor,
        // A terminal that cannot be edited at can still be read from.
        Err(_) => return session.run_lines(io::stdin().lock()),
    };
    editor.set_helper(Some(LineHelper));
    let prompt = format!("{}:{}> ", session.options.host, session.options.port);
    loop {
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            // Ctrl-C takes a line back, Ctrl-D ends.
            Err(ReadlineError::Interrupted) => continue,
            Err(_) => return Status::Done,
        };
        // The history is in memory only: values may be secrets.
        let _ = editor.add_history_entry(&line);
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["exit" | "quit"] => return Status::Done,
            ["help", name @ ..] => session.say(&help(name.first().copied())),
            _ => {
                session.execute_line(&line);
            }
        }
    }
}

/// What is said of one command, or of all.
fn help(name: Option<&str>) -> String {
    let about = |command: &commands::CommandSpec| {
        format!("{} {}\n    {}", command.name.to_uppercase(), command.usage, command.summary)
    };
    match name {
        None => commands::COMMANDS.iter().map(about).collect::<Vec<_>>().join("\n"),
        Some(name) => match commands::find(name.as_bytes()) {
            Some(command) => about(command),
            None => commands::refusal(name.as_bytes())
                .unwrap_or_else(|| format!("there is no command {name}; `help` lists all")),
        },
    }
}

/// Completes names of commands, and shows what stands behind one.
struct LineHelper;

impl Helper for LineHelper {}
impl Highlighter for LineHelper {}
impl Validator for LineHelper {}

impl Completer for LineHelper {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(complete(&line[..position]))
    }
}

impl Hinter for LineHelper {
    type Hint = String;

    fn hint(&self, line: &str, position: usize, _: &rustyline::Context<'_>) -> Option<String> {
        let is_at_end = position == line.len();
        let command = commands::find(line.strip_suffix(' ')?.as_bytes())?;
        (is_at_end && !command.usage.is_empty()).then(|| command.usage.into())
    }
}

/// Where the word at the end of `line` begins, and the names of commands, or of subcommands, that
/// begin like it.
fn complete(line: &str) -> (usize, Vec<String>) {
    let start = line.rfind(' ').map_or(0, |space| space + 1);
    let word = &line[start..];
    let names = match line[..start].split_whitespace().collect::<Vec<_>>().as_slice() {
        [] => commands::COMMANDS,
        [container] => match commands::find(container.as_bytes()) {
            Some(command) => command.subcommands,
            None => &[],
        },
        _ => &[],
    };
    let names = names.iter().map(|command| command.name);
    let found = names.filter(|name| {
        name.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    });
    // As the person writes: in capitals unless the word begins small.
    let is_small = word.starts_with(|first: char| first.is_ascii_lowercase());
    let written = |name: &str| if is_small { name.to_owned() } else { name.to_uppercase() };
    (start, found.map(written).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_they_are_written() {
        assert_eq!(complete("inc"), (0, vec!["incr".into(), "incrby".into()]));
        assert_eq!(complete("INCRB"), (0, vec!["INCRBY".into()]));
        assert_eq!(complete("client set"), (7, vec!["setinfo".into(), "setname".into()]));
        assert_eq!(complete("get k"), (4, vec![]));
        assert_eq!(complete("nope x"), (5, vec![]));
        assert_eq!(complete("é"), (0, vec![]));
        assert_eq!(complete("").1.len(), commands::COMMANDS.len());
    }

    #[test]
    fn every_error_word_has_its_status() {
        for (text, status) in [
            ("ERR syntax error", Status::Refused),
            ("CLUSTERDOWN group 1 has no leader", Status::NotApplied),
            ("TRYAGAIN group 1 is busy", Status::NotApplied),
            ("UNKNOWN outcome", Status::Unknown),
        ] {
            assert_eq!(status_of(&Value::Error(text.into())), status);
        }
        assert_eq!(status_of(&Value::Nil), Status::Done);
    }

    #[test]
    fn raw_replies_are_as_they_are() {
        let array = Value::Array(vec![Value::Bulk(b"a b".into()), Value::Nil, Value::Integer(-1)]);
        let mut raw = Vec::new();
        put_raw(&mut raw, &array);
        assert_eq!(raw, b"a b\n\n-1");
    }
}
