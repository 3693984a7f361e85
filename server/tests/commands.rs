//! The program as a script sees it: what it prints, where, and its exit code.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

const PURLIN: &str = env!("CARGO_BIN_EXE_purlin");

fn purlin(arguments: &[&str]) -> Output {
    Command::new(PURLIN).args(arguments).output().expect("the program runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// A file of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("{name}-{}.toml", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text).expect("a file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("removable");
    }
}

#[test]
fn alone_it_says_what_to_try_first() {
    let output = purlin(&[]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for command in ["purlin dev", "redis-cli -p PORT set", "redis-cli -p PORT get"] {
        assert!(text.contains(command), "{text}");
    }
    assert!(text.lines().count() <= 24, "one screen: {text}");
}

#[test]
fn the_default_file_is_good() {
    let written = purlin(&["config", "default"]);
    assert_eq!(written.status.code(), Some(0));
    let file = Scratch::new("default", &stdout(&written));
    let checked = purlin(&["config", "check", file.path()]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    let text = stdout(&checked);
    assert!(text.contains(": good. Node 1, one of 3 members; 48 groups; "), "{text}");
    assert!(text.contains("clients at 127.0.0.1:7000"), "{text}");
}

#[test]
fn every_command_refuses_a_file_with_mistakes_alike() {
    let text = stdout(&purlin(&["config", "default"])).replace("\nheartbeat =", "\nheart_beat =");
    let file = Scratch::new("mistakes", &text);
    for command in [["config", "check"], ["init", "--config"], ["server", "--config"]] {
        let output = purlin(&[command[0], command[1], file.path()]);
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        assert_eq!(stdout(&output), "");
        let said = stderr(&output);
        assert!(said.starts_with("error: unknown key `raft.heart_beat`\n  --> /"), "{said}");
        assert!(said.ends_with("| ^^^^^^^^^^ did you mean `heartbeat`?\n"), "{said}");
    }
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_named() {
    let output = purlin(&["server", "--config", "/nonexistent/n1.toml"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        stderr(&output),
        "error: the configuration file cannot be read: No such file or directory (os error 2)\n  \
           in     /nonexistent/n1.toml\n  \
           means  nothing was started or changed\n  \
           do     name a file that can be read; `purlin config default` prints one to begin with\n"
    );
    let output = purlin(&["config", "check", PURLIN]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).starts_with("error: the configuration file cannot be read: "));
    let endless = purlin(&["config", "check", "/dev/zero"]);
    assert!(stderr(&endless).contains("it is longer than 1048576 bytes"), "{}", stderr(&endless));
}

#[test]
fn new_cluster_ids_are_32_digits_and_differ() {
    let ids = [purlin(&["init", "--new"]), purlin(&["init", "--new"])].map(|it| stdout(&it));
    for id in &ids {
        assert_eq!(id.trim_end().len(), 32, "{id}");
        assert!(id.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn wrong_usage_has_its_own_code() {
    for arguments in [&["sevrer"][..], &["init"], &["dev", "--nodes", "0"], &["server"]] {
        assert_eq!(purlin(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(stderr(&purlin(&["sevrer"])).contains("'server'"), "the nearest command");
}

#[test]
fn a_node_without_the_parent_that_it_was_promised_does_not_start() {
    let output = purlin(&["server", "--config", "/nonexistent", "--parent", "1"]);
    assert_eq!(output.status.code(), Some(4));
    let said = stderr(&output);
    assert!(said.contains("process 1 is not the parent of this process"), "{said}");
}

#[test]
fn dev_says_where_it_cannot_make_files() {
    let output = Command::new(PURLIN).arg("dev").current_dir("/proc").output().expect("it runs");
    assert_eq!(output.status.code(), Some(4));
    let said = stderr(&output);
    assert!(said.contains("in     ./.purlin-dev"), "{said}");
    assert!(said.contains("do     work in a directory in which you may make files"), "{said}");
}
