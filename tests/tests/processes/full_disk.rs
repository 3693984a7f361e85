//! A node on a disk that is full, on a real file system.

use super::support::{Cluster, Node, SOON, Shape, number, until};
use purlin_server::resp::{RespClient, Value};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const SHAPE: Shape = Shape { shards: 1, groups: 6 };

/// Shell commands that mount a small file system at `$0`.
const IN_MEMORY: &str = "mount -t tmpfs -o size=48m tmpfs \"$0\"";
/// It has room for few files.
const EXT4: &str = "truncate -s 96M \"$0.image\" && mkfs.ext4 -qFN 128 \"$0.image\" && mount -o loop \"$0.image\" \"$0\"";

/// What a full file system has no room for.
#[derive(Clone, Copy)]
enum Filler {
    Bytes,
    /// There is no inode left. A file without a name takes one, which is how a node asks for direct I/O.
    Files,
}

/// A small file system, gone with this.
struct Small(PathBuf);

impl Small {
    /// Nothing where none can be mounted.
    fn mount(by: &str, at: &Path) -> Option<Self> {
        fs::create_dir(at).expect("a new directory");
        let mut command = Command::new("sh");
        command.arg("-c").arg(by).arg(at).stderr(Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            println!("skipped: a small file system can only be mounted with privileges");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// Takes all that is left.
    fn fill(&self, with: Filler) {
        match with {
            Filler::Bytes => self.fill_with_bytes(),
            Filler::Files => self.fill_with_files(),
        }
    }

    /// Gives back what it took.
    fn empty(&self, of: Filler) {
        match of {
            Filler::Bytes => fs::remove_file(self.0.join("filler")),
            Filler::Files => fs::remove_dir_all(self.0.join("fillers")),
        }
        .expect("it is there");
    }

    fn fill_with_files(&self) {
        let folder = self.0.join("fillers");
        fs::create_dir(&folder).expect("a file more");
        let error = (0..).find_map(|n: u32| File::create(folder.join(n.to_string())).err());
        assert_eq!(error.expect("an end").kind(), ErrorKind::StorageFull);
    }

    fn fill_with_bytes(&self) {
        let mut file = File::create(self.0.join("filler")).expect("an empty file needs no room");
        for piece in [&[1; 1 << 16][..], &[1; 512]] {
            let error = loop {
                match file.write_all(piece) {
                    Ok(()) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull);
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A test that fails must not abort here.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// How many groups a node leads; nothing when it does not answer.
fn leads(node: &Node) -> Option<usize> {
    let mut client = RespClient::connect(node.config.listen.gateway, SOON).ok()?;
    let info = client.command(&["INFO"]).ok()?;
    let info = String::from_utf8_lossy(info.bytes()?).into_owned();
    let led = info.lines().find_map(|line| line.strip_prefix("purlin_leads:"))?;
    Some(led.trim().split(',').filter(|group| !group.is_empty()).count())
}

#[test]
fn a_node_starts_on_a_full_disk_votes_reads_and_says_so() {
    start_on_a_full_disk(EXT4, Filler::Bytes);
}

#[test]
fn a_node_starts_on_a_disk_that_takes_no_more_files() {
    start_on_a_full_disk(EXT4, Filler::Files);
}

#[test]
fn a_node_starts_on_a_full_file_system_in_memory() {
    start_on_a_full_disk(IN_MEMORY, Filler::Bytes);
}

fn start_on_a_full_disk(by: &str, filler: Filler) {
    let mut cluster = Cluster::make("full-disk", SHAPE);
    let Some(small) = Small::mount(by, &cluster.scratch.path().join("small")) else { return };
    cluster.nodes[0].config.node.data_dir = small.0.join("data");
    cluster.nodes[0].write_file();
    assert_eq!(cluster.nodes[0].init().code, Some(0));
    cluster.nodes.iter_mut().for_each(Node::start);
    cluster.wait_until_ready();
    for counter in 0..12 {
        cluster.nodes[0].done(&["INCR", &format!("full:{counter}")]);
    }
    cluster.wait_until_equal();
    cluster.nodes[0].kill();
    small.fill(filler);

    cluster.nodes[0].start();
    cluster.nodes[0].process().wait_for("serves clients", SOON);
    cluster.nodes[0].process().wait_for("no space on the disk for another segment", SOON);
    cluster.wait_until_ready();
    for counter in 0..12 {
        let found = cluster.nodes[0].done(&["GET", &format!("full:{counter}")]);
        assert_eq!(number(&found), 1);
    }
    // Of three nodes one is gone: its groups have a new leader only if the full one votes.
    assert!(leads(&cluster.nodes[2]) > Some(0), "the node that goes leads no group");
    cluster.nodes[2].kill();
    until("the full node has voted", || {
        let led = leads(&cluster.nodes[0])? + leads(&cluster.nodes[1])?;
        (led == SHAPE.groups as usize).then_some(())
    });
    cluster.nodes[2].start();
    cluster.wait_until_ready();

    // At each of many beats it has tried for room again.
    let log = cluster.nodes[0].process().log();
    assert_eq!(
        log.matches("no space on the disk for another segment").count(),
        1,
        "one line for a change:\n{log}"
    );

    small.empty(filler);
    for counter in 0..12 {
        let found = cluster.nodes[0].done(&["INCR", &format!("full:{counter}")]);
        assert!(matches!(found, Value::Integer(2)), "{found}");
    }
    cluster.nodes[0].process().wait_for("can be made again: writes are taken", SOON);
    cluster.assert_no_panic();
    // Nothing has it open when it is unmounted.
    cluster.nodes.iter_mut().for_each(Node::kill);
}
