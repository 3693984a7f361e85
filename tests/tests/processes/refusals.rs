//! A machine or a configuration on which a node cannot start: one error that says what happened,
//! where, what it means and what to do, with the exit code that scripts decide by. Never a panic,
//! never a hang.

use super::support::{Cluster, End, Node, Process, SOON, Shape, is_root, purlin, tool};
use purlin::os::RuntimeKind;
use purlin_server::config::Shards;
use rustix::process::Signal;
use std::{
    ffi::{c_int, c_ulong, c_void},
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};

const SHAPE: Shape = Shape { shards: 1, groups: 6 };
const CONFIGURATION: i32 = 3;
const ENVIRONMENT: i32 = 4;
const DATA_DIRECTORY: i32 = 5;
/// Who owns nothing.
const NOBODY: &str = "65534";
/// Another one: locked memory is counted for a user, and the tests of its limit need a user of their own.
const STRANGER: &str = "65533";

fn run(command: &mut Command) -> End {
    Process::run("purlin", command, SOON)
}

/// A node that was made and never started.
fn node(name: &str) -> (Cluster, usize) {
    (Cluster::make(name, SHAPE), 0)
}

/// `program`, as a user without privileges and with at most `memlock` bytes of locked memory.
fn without_privileges(program: &Command, memlock: &str) -> Option<Command> {
    as_user(NOBODY, program, memlock)
}

fn as_user(user: &str, program: &Command, memlock: &str) -> Option<Command> {
    let mut command = match is_root() {
        true => {
            let mut command = tool("setpriv")?;
            command.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg("prlimit");
            command
        }
        false => tool("prlimit")?,
    };
    tool("prlimit")?;
    command.arg(format!("--memlock={memlock}:{memlock}")).arg(program.get_program());
    command.args(program.get_args());
    Some(command)
}

#[test]
fn mistakes_in_the_configuration_are_drawn() {
    let (cluster, first) = node("mistakes");
    let node = &cluster.nodes[first];
    let good = fs::read_to_string(&node.file).expect("its file");
    let wrong = [
        ("[raft]", "[raft]\nelection_timout = \"1s\"", "did you mean `election_timeout`?"),
        ("id = 1\n", "id = 9\n", "`node.id` is 9, which is none of the members"),
        ("id = 1\n", "id = -1\n", "`node.id` is -1"),
        ("id = 1\n", "id = \"one\"\n", "must be a whole number"),
        ("shards = 1", "shards = 0", "`node.shards` is 0"),
        ("shards = 1", "shards = 10000", "`node.shards` is 10000"),
        ("groups = 6", "groups = 99999999999999999999", "error: "),
        ("segment = \"4MiB\"", "segment = \"4MB\"", "error: "),
        ("segment = \"4MiB\"", "segment = \"1234567B\"", "error: "),
        ("heartbeat = \"100ms\"", "heartbeat = \"900ms\"", "error: "),
        ("heartbeat = \"100ms\"", "heartbeat = \"-1ms\"", "error: "),
        ("127.0.0.1:", "0.0.0.0:", "insecure = true"),
        ("[listen]", "[listen", "error: "),
        ("[listen]", "[listen]\u{0}", "error: "),
    ];
    for (old, new, said) in wrong {
        assert!(good.contains(old), "{old:?} is not in:\n{good}");
        fs::write(&node.file, good.replace(old, new)).expect("a file");
        for command in ["server", "init"] {
            let end = run(purlin().arg(command).arg("--config").arg(&node.file));
            assert_eq!(end.code, Some(CONFIGURATION), "{command} with {new:?}: {}", end.err);
            assert!(end.err.starts_with("error: ") && end.err.contains("  --> "), "{}", end.err);
            assert!(end.err.contains(said), "no {said:?} in:\n{}", end.err);
            assert!(!end.err.contains("panicked"), "{}", end.err);
        }
    }
    fs::write(&node.file, b"\xff\xfe\x00").expect("a file");
    run(&mut node.command()).assert_refused(CONFIGURATION, "cannot be read");
    fs::remove_file(&node.file).expect("it is there");
    run(&mut node.command()).assert_refused(CONFIGURATION, "cannot be read");
    let end = run(purlin().args(["server", "--confg", "x"]));
    assert_eq!(end.code, Some(2), "{}", end.err);
}

#[test]
fn settings_that_can_never_change_are_refused_when_changed() {
    let mut cluster = Cluster::make("changed", SHAPE);
    let node = &mut cluster.nodes[0];
    let changes = [
        (7, 1, "the cluster was made with 6 groups"),
        (6, 2, "the data directory was made with 1 shards"),
    ];
    for (groups, shards, said) in changes {
        node.config.cluster.groups = groups;
        node.config.node.shards = Shards::Number(shards);
        node.write_file();
        run(&mut node.command()).assert_refused(DATA_DIRECTORY, said);
    }
}

#[test]
fn a_second_init_changes_nothing() {
    let (cluster, first) = node("init-twice");
    let node = &cluster.nodes[first];
    let identity = fs::read(node.config.node.data_dir.join("identity")).expect("a file");
    node.init().assert_refused(DATA_DIRECTORY, "there is a data directory already");
    let now = fs::read(node.config.node.data_dir.join("identity")).expect("a file");
    assert_eq!(identity, now);
}

#[test]
fn a_directory_that_is_a_file_is_refused() {
    let (cluster, first) = node("file");
    let node = &cluster.nodes[first];
    fs::remove_dir_all(&node.config.node.data_dir).expect("it is there");
    fs::write(&node.config.node.data_dir, "no directory").expect("a file");
    node.init().assert_refused(ENVIRONMENT, "the data directory cannot be made");
    let end = run(&mut node.command());
    end.assert_refused(
        DATA_DIRECTORY,
        &format!("{} is a file", node.config.node.data_dir.display()),
    );
}

/// What is hidden from a user is neither new nor wiped: `init` and a wipe would be the wrong advice.
#[test]
fn a_file_of_another_user_is_called_that() {
    if !is_root() {
        println!("skipped: only root can give a file to somebody else");
        return;
    }
    let (cluster, first) = node("others");
    let node = &cluster.nodes[first];
    let data = &node.config.node.data_dir;
    let mut command = purlin();
    command.arg("server").arg("--config").arg(&node.file);
    let segment = "shard-0/000000000001.wal";
    for path in ["", "identity", "shard-0", "shard-0/LOCK", segment] {
        give(STRANGER, node);
        let theirs = data.join(path);
        fs::write(data.join("shard-0/LOCK"), "").expect("a file");
        let mode = if theirs.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(&theirs, fs::Permissions::from_mode(mode)).expect("it is there");
        std::os::unix::fs::chown(&theirs, Some(0), Some(0)).expect("root may");
        let Some(mut command) = as_user(STRANGER, &command, "8388608") else { return };
        let end = run(&mut command);
        let theirs = theirs.display().to_string();
        let said = format!(
            "Permission denied (os error 13): {} belongs to user 0 with mode {mode:04o}, and this program \
             runs as user {STRANGER}",
            theirs.trim_end_matches('/')
        );
        end.assert_refused(ENVIRONMENT, &said);
        assert!(end.err.contains("chown -R"), "{}", end.err);
        for wrong in ["wiped", "there is no", "init"] {
            assert!(!end.err.contains(wrong), "{path:?} is called {wrong:?}: {}", end.err);
        }
    }
    fs::remove_dir_all(data).expect("it is there");
    let mut command = purlin();
    command.arg("init").arg("--config").arg(&node.file);
    let folder = data.parent().expect("it lies in one");
    std::os::unix::fs::chown(folder, Some(0), Some(0)).expect("root may");
    let Some(mut command) = as_user(STRANGER, &command, "8388608") else { return };
    let said = format!("{} belongs to user 0 with mode 0755", folder.display());
    run(&mut command).assert_refused(ENVIRONMENT, &said);
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let (cluster, first) = node("unwritable");
    let node = &cluster.nodes[first];
    let directory = &node.config.node.data_dir;
    let mode = |mode| {
        let paths = [directory.parent().expect("it lies in one"), directory];
        for path in paths {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
        }
    };
    mode(0o555);
    let mut command = purlin();
    command.arg("server").arg("--config").arg(&node.file);
    let command = as_user(STRANGER, &command, "8388608");
    let end = command.map(|mut command| run(&mut command));
    mode(0o755);
    if let Some(end) = end {
        end.assert_refused(ENVIRONMENT, "the data directory cannot be written: Permission denied");
        assert!(end.err.contains("chown -R"), "{}", end.err);
    }
}

#[test]
fn a_port_in_use_is_refused() {
    let (cluster, first) = node("ports");
    let node = &cluster.nodes[first];
    let taken = [
        (node.ports.gateway(), "cannot listen for clients: Address already in use"),
        (node.config.listen.admin.port(), "cannot listen for operators: Address already in use"),
        (node.ports.peer(), "cannot listen for peers: Address already in use"),
    ];
    for (port, said) in taken {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port");
        run(&mut node.command()).assert_refused(ENVIRONMENT, said);
        drop(listener);
    }
}

/// An address of the documentation's network, which no machine has.
const NOT_HERE: &str = "192.0.2.1";

#[test]
fn an_address_of_another_machine_is_refused_with_the_advice_for_it() {
    let mut cluster = Cluster::make("not-here", SHAPE);
    let node = &mut cluster.nodes[0];
    let good = node.config.clone();
    node.config.listen.peer_host = NOT_HERE.into();
    node.write_file();
    let end = run(&mut node.command());
    end.assert_refused(ENVIRONMENT, "cannot listen for peers: Cannot assign requested address");
    assert!(end.err.contains("set this node's `peer_host` to one that it has"), "{}", end.err);
    assert!(!end.err.contains("stop the program"), "{}", end.err);

    node.config = good;
    node.config.listen.insecure = true;
    node.config.listen.gateway.set_ip(NOT_HERE.parse().expect("an address"));
    node.write_file();
    let end = run(&mut node.command());
    end.assert_refused(ENVIRONMENT, "cannot listen for clients: Cannot assign requested address");
    assert!(end.err.contains("set the address in `listen.gateway`"), "{}", end.err);
}

#[test]
fn a_port_that_needs_a_privilege_is_refused_with_the_advice_for_it() {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if first.is_ok_and(|first| first.trim().parse() == Ok(0)) {
        println!("skipped: on this machine no port needs a privilege");
        return;
    }
    let (mut cluster, first) = node("privilege");
    let node = &mut cluster.nodes[first];
    node.config.listen.gateway.set_port(80);
    node.write_file();
    give(STRANGER, node);
    let mut command = purlin();
    command.arg("server").arg("--config").arg(&node.file);
    let Some(mut command) = as_user(STRANGER, &command, "8388608") else { return };
    let end = run(&mut command);
    end.assert_refused(ENVIRONMENT, "cannot listen for clients: Permission denied");
    assert!(end.err.contains("ports below 1024 need a privilege"), "{}", end.err);
}

#[test]
fn a_node_says_every_address_when_it_starts() {
    let mut cluster = Cluster::make("addresses", SHAPE);
    cluster.nodes[0].start();
    let said = |node: &Node| format!("127.0.0.1:{}", node.ports.peer());
    let [first, second, third] = &cluster.nodes[..] else { unreachable!("there are three") };
    let line = format!(
        "listens for clients at {} and at its shard's port {}, for operators at {}, and for other nodes at {}; it \
         dials the first shard of node 2 at {}, node 3 at {}",
        first.config.listen.gateway,
        first.config.listen.shard_port_base,
        first.config.listen.admin,
        said(first),
        said(second),
        said(third)
    );
    first.process().wait_for(&line, SOON);
}

#[test]
fn a_locked_memory_limit_that_is_too_low_is_refused() {
    let (mut cluster, first) = node("memlock");
    let node = &mut cluster.nodes[first];
    // It alone registers memory.
    node.config.runtime.kind = RuntimeKind::Glommio;
    node.write_file();
    let mut command = purlin();
    command.arg("server").arg("--config").arg(&node.file);
    open_to_all(node);
    for limit in ["65536", "0"] {
        let Some(mut command) = without_privileges(&command, limit) else { return };
        run(&mut command).assert_refused(ENVIRONMENT, "locked memory");
    }
}

#[test]
fn a_low_locked_memory_limit_is_enough() {
    let (cluster, first) = node("memlock-low");
    let node = &cluster.nodes[first];
    open_to_all(node);
    let mut command = purlin();
    command.arg("server").arg("--config").arg(&node.file);
    let Some(mut command) = without_privileges(&command, "1048576") else { return };
    let process = Process::start("a node with little locked memory", &mut command);
    process.wait_for("serves clients", SOON);
    process.signal(Signal::TERM);
    let end = process.end(SOON);
    assert_eq!(end.code, Some(0), "{}", end.err);
}

/// Gives the node's files to the user who owns nothing else.
fn open_to_all(node: &Node) {
    give(NOBODY, node);
}

fn give(user: &str, node: &Node) {
    if is_root() {
        let directory = node.config.node.data_dir.parent().expect("it lies in one");
        let mut command = Command::new("chown");
        command.args(["-R", user]).arg(directory);
        assert_eq!(run(&mut command).code, Some(0));
    }
}

#[test]
fn a_kernel_that_refuses_io_uring_is_an_error() {
    let (cluster, first) = node("io-uring");
    let node = &cluster.nodes[first];
    for (errno, said) in [(EPERM, "Operation not permitted"), (ENOSYS, "Function not implemented")]
    {
        for command in ["server", "init"] {
            let mut command_line = purlin();
            command_line.arg(command).arg("--config").arg(&node.file);
            let end = run(without_io_uring(&mut command_line, errno));
            if command == "server" {
                end.assert_refused(ENVIRONMENT, "the kernel refuses io_uring");
                assert!(end.err.contains(said), "{}", end.err);
            } else {
                assert!(matches!(end.code, Some(ENVIRONMENT | DATA_DIRECTORY)), "{}", end.err);
            }
        }
    }
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// One instruction of a socket filter, as the kernel reads it.
#[repr(C)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

#[repr(C)]
struct Program {
    len: u16,
    instructions: *const Instruction,
}

unsafe extern "C" {
    fn prctl(option: c_int, a: c_ulong, b: *const c_void, c: c_ulong, d: c_ulong) -> c_int;
}

/// Has `command` run where the kernel answers io_uring_setup with an error, as in many containers.
fn without_io_uring(command: &mut Command, errno: u32) -> &mut Command {
    // SAFETY: it calls prctl only, with memory of its own, and allocates nothing.
    unsafe { command.pre_exec(move || forbid_io_uring(errno)) }
}

fn forbid_io_uring(errno: u32) -> io::Result<()> {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let instruction = |code, jump_false, k| Instruction { code, jump_true: 0, jump_false, k };
    // The number of the system call is at offset 0; io_uring_setup has the same on all machines.
    let instructions = [
        instruction(LOAD, 0, 0),
        instruction(EQUAL, 1, 425),
        instruction(RETURN, 0, 0x0005_0000 | errno),
        instruction(RETURN, 0, 0x7fff_0000),
    ];
    let program = Program { len: 4, instructions: instructions.as_ptr() };
    let program: *const c_void = (&raw const program).cast();
    // SAFETY: option 38 takes a number, option 22 in mode 2 a program, which lives until it returns.
    let done =
        unsafe { prctl(38, 1, std::ptr::null(), 0, 0) == 0 && prctl(22, 2, program, 0, 0) == 0 };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}
