//! Running a command that a planted bug may keep from ever ending.

use super::Result;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    time::Duration,
};

/// What a command said, on both of its outputs, and how it ended.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) ended: Ended,
    pub(super) lines: Vec<String>,
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Well,
    Badly,
    /// It said nothing for too long, and was killed.
    Quiet,
}

/// Runs a command to its end, or until it has said nothing for `patience`.
pub(super) fn watch(command: &mut Command, patience: Duration) -> Result<Watched> {
    let name = format!("{:?}", command.get_program());
    let spawned =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("{name} does not start: {error}"))?;
    let (sender, lines_of_both) = mpsc::channel();
    tell(child.stdout.take().expect("it is piped"), sender.clone());
    tell(child.stderr.take().expect("it is piped"), sender);
    let mut lines = Vec::new();
    let is_quiet = loop {
        match lines_of_both.recv_timeout(patience) {
            Ok(line) => lines.push(line),
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if is_quiet {
        child.kill().map_err(|error| format!("{name} cannot be killed: {error}"))?;
    }
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    let ended = match (is_quiet, status.success()) {
        (true, _) => Ended::Quiet,
        (false, true) => Ended::Well,
        (false, false) => Ended::Badly,
    };
    Ok(Watched { ended, lines })
}

fn tell(output: impl Read + Send + 'static, lines: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
            let _nobody_listens = lines.send(line);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Watched {
        watch(Command::new("sh").args(["-c", script]), patience).expect("it starts")
    }

    #[test]
    fn a_command_is_heard_on_both_outputs_to_its_end() {
        let watched = shell("echo out; echo err >&2; exit 3", Duration::from_secs(60));
        assert_eq!(watched.ended, Ended::Badly);
        assert!(["out", "err"].iter().all(|line| watched.lines.iter().any(|said| said == line)));
        assert_eq!(shell("true", Duration::from_secs(60)).ended, Ended::Well);
    }

    #[test]
    fn a_command_that_falls_silent_is_killed() {
        let watched = shell("echo begun; read x < /dev/zero", Duration::from_millis(200));
        assert_eq!(watched.ended, Ended::Quiet);
    }
}
