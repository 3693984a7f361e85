//! One node of the cluster, as a process.

use super::{folder::refused, plan::NodePlan};
use crate::{error::Failure, output::complain};
use purlin::{ErrorKind, NodeId};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    net::SocketAddr,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

/// What is shown of the log of a node that has ended.
const LAST_LINES: usize = 12;
const LAST_BYTES: u64 = 8 << 10;

/// A process that was started, and that may have ended.
pub(super) struct NodeProcess {
    pub(super) node: NodeId,
    pub(super) gateway: SocketAddr,
    pub(super) admin: SocketAddr,
    /// The ports of its shards for clients: the first and the last.
    pub(super) shards: Option<(u16, u16)>,
    file: PathBuf,
    log: PathBuf,
    child: Child,
    /// How it has ended, once that was seen.
    ended: Option<ExitStatus>,
}

/// Makes the data directory of a node, by a process of its own.
pub(super) fn init(plan: &NodePlan) -> Result<(), Failure> {
    let mut command = program()?;
    command.args(["init", "--config"]).arg(&plan.file).stdin(Stdio::null());
    let output = command.output().map_err(|error| not_started(&error))?;
    if output.status.success() {
        return Ok(());
    }
    complain(String::from_utf8_lossy(&output.stderr).trim_end());
    Err(Failure::Child(code(output.status)))
}

impl NodeProcess {
    /// Starts a node. It ends when this process does.
    pub(super) fn start(plan: &NodePlan) -> Result<Self, Failure> {
        let log = plan.file.with_file_name("log.txt");
        let opened = File::options().append(true).create(true).open(&log);
        let out = opened.map_err(|error| refused(&log, &error))?;
        let err = out.try_clone().map_err(|error| refused(&log, &error))?;
        let mut command = program()?;
        command.args(["server", "--config"]).arg(&plan.file);
        command.arg("--parent").arg(std::process::id().to_string());
        if let Some(cores) = &plan.cores {
            let cores: Vec<_> = cores.iter().map(usize::to_string).collect();
            command.arg("--cores").arg(cores.join(","));
        }
        // In a group of its own, so that Ctrl-C is ours to pass on.
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = command.spawn().map_err(|error| not_started(&error))?;
        Ok(Self {
            node: plan.config.node.id,
            gateway: plan.config.listen.gateway,
            admin: plan.config.listen.admin,
            shards: plan.config.listen.shard_ports(plan.config.shards()),
            file: plan.file.clone(),
            log,
            child,
            ended: None,
        })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs, as far as was seen.
    pub(super) fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    /// How it has ended, the first time that this is seen.
    pub(super) fn take_end(&mut self) -> Option<ExitStatus> {
        if self.ended.is_some() {
            return None;
        }
        self.ended = self.child.try_wait().unwrap_or(None);
        self.ended
    }

    /// The exit code of a process that has ended.
    pub(super) fn code(&self) -> Option<u8> {
        self.ended.map(code)
    }

    /// Asks it to end, or with [`Signal::KILL`] ends it.
    pub(super) fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may have ended by now. Until it is waited for, its id is no other's.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// What to say when it has ended by itself. `rest` says how the others stand.
    pub(super) fn describe_end(&self, status: ExitStatus, rest: &str) -> String {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("with exit code {code}"),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => status.to_string(),
        };
        let lines = last_lines(&self.log);
        let last: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        format!(
            "node {} ended {how}; {rest}. The last lines of {}:\n{last}  \
             start it again: {}",
            self.node,
            self.log.display(),
            self.restart_command(),
        )
    }

    fn restart_command(&self) -> String {
        let program = std::env::current_exe().unwrap_or_else(|_| "purlin".into());
        let here = std::env::current_dir().unwrap_or_default();
        let program = program.strip_prefix(&here).unwrap_or(&program);
        format!("{} server --config {}", shell_word(program), shell_word(&self.file))
    }
}

/// This very program.
fn program() -> Result<Command, Failure> {
    std::env::current_exe().map(Command::new).map_err(|error| not_started(&error))
}

fn not_started(error: &std::io::Error) -> Failure {
    Failure::new(
        ErrorKind::Environment,
        format!("a node cannot be started: {error}"),
        std::env::current_exe().map_or_else(|_| "purlin".into(), |path| path.display().to_string()),
        "what was started is ended",
        "check that the program can be run, and the limit of processes (ulimit -u)",
    )
}

/// As a shell counts it.
fn code(status: ExitStatus) -> u8 {
    let signal = || 128 + status.signal().unwrap_or(0);
    u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(1)
}

/// A path as a shell reads it.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+=:@".contains(letter);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn last_lines(log: &Path) -> Vec<String> {
    let read = || {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(end.saturating_sub(LAST_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAST_BYTES).read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_log_the_last_lines_are_shown() {
        let program = std::env::current_exe().expect("a test is a program");
        let log = program.with_file_name(format!("log-{}.txt", std::process::id()));
        assert!(last_lines(&log).is_empty(), "there is no log");
        let text: String = (0..5000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&log, text).expect("a file");
        let lines = last_lines(&log);
        std::fs::remove_file(&log).expect("removable");
        assert_eq!(lines.len(), LAST_LINES);
        assert_eq!((lines[0].as_str(), lines[11].as_str()), ("line 4988", "line 4999"));
    }

    #[test]
    fn a_shell_reads_a_path_as_one_word() {
        assert_eq!(
            shell_word(Path::new("./.purlin-dev/node-1/p.toml")),
            "./.purlin-dev/node-1/p.toml"
        );
        assert_eq!(shell_word(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }

    #[test]
    fn codes_are_counted_as_a_shell_does() {
        assert_eq!(code(ExitStatus::from_raw(4 << 8)), 4);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
        assert_eq!(code(ExitStatus::from_raw(0)), 0);
    }
}
