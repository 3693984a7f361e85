//! The check at the end of a run: what clients were told must be durable, by the audit's own model,
//! and by a real recovery of what a power cut would leave.

use super::State;
use crate::sim::DirectoryImage;
use purlin_rsm::{GroupId, HardState, Index, NodeId, Term};
use purlin_storage::{
    Disk, Durability, File, Pace, Recovered, RecoveredGroup, StorageError, Wal, WalConfig,
};
use std::{io, rc::Rc};

/// What of one replica is durable by the truth.
struct Expected {
    group: GroupId,
    last: Index,
    term: Option<Term>,
    state: HardState,
}

impl State {
    /// Each acknowledged command is durable on a majority of the voters, of which corrupted ones may have been
    /// some. Says nothing when so many are corrupted that nobody promised it.
    pub(super) fn scan_truth(&mut self) {
        let majority = self.voters.len() / 2 + 1;
        if self.corrupted.len() > self.voters.len() - majority {
            return;
        }
        let acknowledged: Vec<_> =
            self.groups.iter().map(|(group, ledger)| (*group, ledger.acknowledged)).collect();
        for (group, index) in acknowledged {
            let Some(term) = self.groups[&group].term_of_committed(index) else { continue };
            let has = |replica: &super::Replica| {
                replica.durable() >= index && replica.term_at(index) == Some(term)
            };
            let voters = self.voters.clone();
            let count =
                voters.iter().filter(|it| self.replica(**it, group).is_some_and(has)).count();
            if count + self.corrupted.holders(group, index) < majority {
                let what =
                    format!("{index}@{term} is acknowledged; {count} voters hold it at last");
                self.findings.add(&format!("group {group}"), &what);
            }
        }
    }

    /// Recovers the logs of a node from what is certain to be left of it, and compares.
    pub(super) fn scan_disk(&mut self, node: NodeId, image: DirectoryImage) {
        let image = Rc::new(image);
        let places = self.places.get(&node).cloned().unwrap_or_default();
        for (directory, identity) in places {
            let owner = (node, identity.shard);
            let Some(shard) = self.shards.get_mut(&owner) else { continue };
            let durable = shard.durable();
            let expected = shard.replicas().iter_mut().map(|(&group, replica)| {
                replica.settle(durable);
                let last = replica.durable();
                let (term, state) = (replica.term_at(last), replica.durable_state());
                Expected { group, last, term, state }
            });
            let expected: Vec<_> = expected.collect();
            self.findings.counts.recovered += 1;
            let disk = ImageDisk { image: image.clone(), directory };
            match recover(&disk, identity) {
                Err(error) => {
                    let what = format!("what is durable cannot be recovered: {error}");
                    self.findings.shard(owner, vec![what]);
                }
                Ok(recovered) => self.compare(node, &expected, &recovered),
            }
        }
    }

    fn compare(&mut self, node: NodeId, expected: &[Expected], recovered: &Recovered) {
        let nothing = RecoveredGroup::default();
        for Expected { group, last, term, state } in expected {
            let found = recovered.groups.get(group).unwrap_or(&nothing);
            let found_term = term_in(found, *last);
            if *last > Index(0) && found_term != *term {
                let what = format!(
                    "recovery finds {found_term:?} at {last} of {}, and {term:?} is durable",
                    found.last
                );
                self.findings.group(node, *group, &what);
            }
            let (kept, is_voted) = (found.hard_state, state.vote.is_some());
            if kept.term < state.term
                || kept.term == state.term && is_voted && kept.vote != state.vote
            {
                let what = format!("recovery finds {kept:?}, and {state:?} is durable");
                self.findings.group(node, *group, &what);
            }
            let ledger = self.groups.entry(*group).or_default();
            if let Some(entry) = found.tail.iter().find(|entry| !ledger.knows(entry)) {
                let what = format!("recovery finds {} that nobody wrote", entry.id());
                self.findings.group(node, *group, &what);
            }
        }
    }
}

fn term_in(group: &RecoveredGroup, index: Index) -> Option<Term> {
    if index > group.last {
        return None;
    }
    let after = group.terms.partition_point(|(first, _)| *first <= index);
    Some(group.terms.get(after.checked_sub(1)?)?.1)
}

fn recover(disk: &ImageDisk, identity: purlin_rsm::Identity) -> Result<Recovered, StorageError> {
    let config = WalConfig { tail_bytes_max: 1 << 30, ..WalConfig::default() };
    let mut drawn = 0;
    let mut draw = || {
        drawn += 1;
        drawn
    };
    let opened = Wal::open(disk, identity, &config, &mut draw);
    let opened = futures_lite::future::block_on(futures_lite::future::poll_once(opened));
    Ok(opened.expect("a disk in memory never waits")?.1)
}

/// An image of a directory as a disk: it reads what is there, and forgets what is written, which a
/// recovery never reads again.
#[derive(Clone)]
struct ImageDisk {
    image: Rc<DirectoryImage>,
    /// With a slash after each name.
    directory: String,
}

struct ImageFile {
    image: Rc<DirectoryImage>,
    path: String,
}

impl Disk for ImageDisk {
    type File = ImageFile;
    type Lock = ();

    fn subdirectory(&self, name: &str) -> Self {
        Self { directory: format!("{}{name}/", self.directory), ..self.clone() }
    }

    fn location(&self) -> String {
        self.directory.clone()
    }

    async fn create_dir(&self) -> io::Result<()> {
        Ok(())
    }

    async fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    async fn create_paced(
        &self,
        name: &str,
        _: &[u8],
        _: u64,
        durability: Durability,
        _: &Pace,
    ) -> io::Result<ImageFile> {
        self.open(name, durability).await
    }

    async fn open(&self, name: &str, _: Durability) -> io::Result<ImageFile> {
        Ok(ImageFile { image: self.image.clone(), path: format!("{}{name}", self.directory) })
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        let files = self.image.files();
        let names = files.iter().filter_map(|(path, _)| path.strip_prefix(&self.directory));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    async fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    async fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    async fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}

impl File for ImageFile {
    type Block = Vec<u8>;

    fn block(&self, len: usize) -> Vec<u8> {
        vec![0; len]
    }

    async fn size(&self) -> io::Result<u64> {
        let files = self.image.files();
        let file = files.into_iter().find(|(path, _)| *path == self.path);
        Ok(file.map_or(0, |(_, len)| len))
    }

    async fn read_at(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        self.image.read(&self.path, position, len).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn write_at(&self, _: Vec<u8>, _: u64) -> io::Result<()> {
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}
