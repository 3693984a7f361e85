//! The command line: which role, where, and how large.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The text of `--help`.
pub(crate) const HELP: &str = "\
A hand-written write path beside Purlin: a yardstick for one machine, and no server.

  purlin-floor follower --listen ADDR --dir DIR [--depth N] [--log-mib N]
  purlin-floor leader   --listen ADDR --dir DIR --follower ADDR --follower ADDR [--depth N] [--log-mib N]

Start both followers first. Each process prints `listening on ADDR` when it is ready, and ends on SIGTERM.

  --listen ADDR     IP:PORT: of the leader for clients (SET, GET, PING), of a follower for the leader.
                    Port 0 takes a free one
  --dir DIR         an existing directory; the process makes DIR/floor.log, and removes it at the end
  --follower ADDR   IP:PORT of a follower; a leader needs two
  --depth N         how many writes of the log may be under way, 1 to 32 (4)
  --log-mib N       the size of the log in MiB, 4 to 1024 (64); a full log begins again at its start

Exit codes: 0 ended by a signal, 1 failed, 2 wrong usage.
";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Run(Role),
    Help,
}

/// Which of the three processes this one is.
#[derive(Debug, PartialEq)]
pub(crate) enum Role {
    Leader(LeaderOptions),
    Follower(NodeOptions),
}

/// What a leader needs beside the options of each process.
#[derive(Debug, PartialEq)]
pub(crate) struct LeaderOptions {
    pub(crate) node: NodeOptions,
    pub(crate) followers: [SocketAddr; 2],
}

/// The options of each process.
#[derive(Debug, PartialEq)]
pub(crate) struct NodeOptions {
    pub(crate) listen: SocketAddr,
    pub(crate) dir: PathBuf,
    /// Writes of the log that may be under way at once.
    pub(crate) depth: usize,
    /// Bytes of the log's file.
    pub(crate) log_bytes: u64,
}

const DEPTH_DEFAULT: u64 = 4;
const LOG_MIB_DEFAULT: u64 = 64;

/// Reads the arguments behind the program's name.
///
/// # Errors
/// The text says which argument is wrong, and what is right.
pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments.peekable();
    let role = arguments.next().ok_or("a role is needed: `leader` or `follower`")?;
    if ["-h", "--help"].contains(&role.as_str()) {
        return Ok(Command::Help);
    }
    if !["leader", "follower"].contains(&role.as_str()) {
        return Err(format!("`{role}` is no role: say `leader` or `follower`"));
    }
    let (mut listen, mut dir, mut followers) = (None, None, Vec::new());
    let (mut depth, mut log_mib) = (DEPTH_DEFAULT, LOG_MIB_DEFAULT);
    while let Some(name) = arguments.next() {
        if ["-h", "--help"].contains(&name.as_str()) {
            return Ok(Command::Help);
        }
        let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--listen" => listen = Some(address(&name, &value()?)?),
            "--dir" => dir = Some(PathBuf::from(value()?)),
            "--follower" if role == "leader" => followers.push(address(&name, &value()?)?),
            "--depth" => depth = number(&name, &value()?, 1, 32)?,
            "--log-mib" => log_mib = number(&name, &value()?, 4, 1024)?,
            _ => return Err(format!("`{name}` is no option of a {role}")),
        }
    }
    let node = NodeOptions {
        listen: listen.ok_or("--listen IP:PORT is needed")?,
        dir: dir.ok_or("--dir DIR is needed")?,
        depth: depth as usize,
        log_bytes: log_mib << 20,
    };
    if role == "follower" {
        return Ok(Command::Run(Role::Follower(node)));
    }
    let followers = followers.try_into().map_err(|given: Vec<_>| {
        format!("a leader needs two followers, and {} were named with --follower", given.len())
    })?;
    Ok(Command::Run(Role::Leader(LeaderOptions { node, followers })))
}

fn address(name: &str, text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{name} {text} is no address: say IP:PORT, as in 127.0.0.1:7000"))
}

fn number(name: &str, text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{name} {text} is not within {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Command, String> {
        read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_leader_and_a_follower_are_read() {
        let line =
            "leader --listen 127.0.0.1:1 --dir a --follower 127.0.0.1:2 --follower 127.0.0.1:3";
        let Ok(Command::Run(Role::Leader(leader))) = read_line(line) else { panic!("{line}") };
        assert_eq!((leader.followers[1].port(), leader.node.log_bytes), (3, 64 << 20));
        let line = "follower --listen 127.0.0.1:0 --dir a --depth 2 --log-mib 8";
        let Ok(Command::Run(Role::Follower(node))) = read_line(line) else { panic!("{line}") };
        assert_eq!((node.depth, node.log_bytes), (2, 8 << 20));
        assert_eq!(read_line("leader --help"), Ok(Command::Help));
    }

    #[test]
    fn wrong_lines_are_refused_with_the_option_named() {
        let lines = [
            ("", "leader"),
            ("boss", "boss"),
            ("follower --dir a", "--listen"),
            ("follower --listen 1 --dir a", "IP:PORT"),
            ("follower --listen 127.0.0.1:1", "--dir"),
            ("follower --listen 127.0.0.1:1 --dir", "needs a value"),
            ("follower --listen 127.0.0.1:1 --dir a --follower 127.0.0.1:2", "--follower"),
            ("follower --listen 127.0.0.1:1 --dir a --depth 0", "1 to 32"),
            ("leader --listen 127.0.0.1:1 --dir a --follower 127.0.0.1:2", "two followers"),
        ];
        for (line, expected) in lines {
            let mistake = read_line(line).unwrap_err();
            assert!(mistake.contains(expected), "{line}: {mistake}");
        }
    }
}
