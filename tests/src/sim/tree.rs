//! Directories: the names that are there, the names that a power cut leaves for certain, and the
//! changes between, of which it leaves any subset.

use super::{
    executor::Process,
    image::{Completion, Content, Image, Losses},
    random::Random,
};
use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc};

/// The owner of a lock: a handle of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Holder {
    pub(crate) process: Process,
    pub(crate) handle: u64,
}

/// A file, which may outlive its name.
pub(crate) struct FileNode {
    pub(crate) content: RefCell<Content>,
    pub(crate) holder: RefCell<Option<Holder>>,
    /// Writes that have completed and are not durable, by their numbers, while somebody watches.
    unsynced: RefCell<Vec<(Completion, u64)>>,
    /// Writes that a power cut takes away only with the file's name, by their numbers.
    unnamed: RefCell<Vec<u64>>,
}

impl FileNode {
    pub(crate) fn new(content: Content) -> Rc<Self> {
        Rc::new(Self {
            content: RefCell::new(content),
            holder: RefCell::new(None),
            unsynced: RefCell::default(),
            unnamed: RefCell::default(),
        })
    }

    /// A watched write has completed, and a sync that begins from now on covers it.
    pub(crate) fn is_unsynced(&self, number: u64) {
        let completion = self.content.borrow().sync_begins();
        self.unsynced.borrow_mut().push((completion, number));
    }

    /// The watched writes that a sync has covered, whether it made them durable or lost them.
    pub(crate) fn take_synced(&self, covered: Completion) -> Vec<u64> {
        let mut unsynced = self.unsynced.borrow_mut();
        let count = unsynced.partition_point(|(completion, _)| *completion <= covered);
        unsynced.drain(..count).map(|(_, number)| number).collect()
    }

    /// A watched write is durable as soon as the file's name is.
    pub(crate) fn is_unnamed(&self, number: u64) {
        self.unnamed.borrow_mut().push(number);
    }

    /// Whether a handle, or a write that is still in flight, holds the file's lock.
    pub(crate) fn is_locked(&self) -> bool {
        self.holder.borrow().is_some() || self.content.borrow().has_in_flight()
    }
}

pub(crate) type DirectoryNode = Rc<RefCell<Directory>>;

#[derive(Clone)]
pub(crate) enum Node {
    File(Rc<FileNode>),
    Directory(DirectoryNode),
}

impl Node {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(two)) => Rc::ptr_eq(one, two),
            (Self::Directory(one), Self::Directory(two)) => Rc::ptr_eq(one, two),
            _ => false,
        }
    }
}

type Names = BTreeMap<String, Node>;

/// A change of names that is not yet durable.
enum Change {
    Add { name: String, node: Node },
    Remove { name: String, node: Node },
    Rename { from: String, to: String, node: Node },
}

impl Change {
    fn concerns(&self, name: &str) -> bool {
        match self {
            Self::Add { name: other, .. } | Self::Remove { name: other, .. } => name == other,
            Self::Rename { from, to, .. } => name == from || name == to,
        }
    }

    /// Applies the change to names that may lack any change before it.
    fn apply(&self, names: &mut Names) {
        match self {
            // A later rename of the node may have survived where its creation did not.
            Self::Add { node, .. } if names.values().any(|other| other.is(node)) => {}
            Self::Add { name, node } => drop(names.insert(name.clone(), node.clone())),
            Self::Remove { name, node } => {
                if names.get(name).is_some_and(|other| other.is(node)) {
                    names.remove(name);
                }
            }
            Self::Rename { from, to, node } => {
                if names.get(from).is_some_and(|other| other.is(node)) {
                    names.remove(from);
                }
                names.insert(to.clone(), node.clone());
            }
        }
    }
}

/// One directory.
#[derive(Default)]
pub(crate) struct Directory {
    names: Names,
    durable: Names,
    changes: Vec<Change>,
    /// How many changes were made durable and left `changes`.
    settled: usize,
    pub(crate) holder: Option<Holder>,
}

impl Directory {
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Node> {
        self.names.get(name)
    }

    pub(crate) fn add(&mut self, name: &str, node: Node) -> io::Result<()> {
        if self.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Change::Add { name: name.to_owned(), node });
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &str) -> io::Result<()> {
        let node = self.names.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        if matches!(node, Node::Directory(_)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.change(Change::Remove { name: name.to_owned(), node });
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let node = self.names.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        self.change(Change::Rename { from, to, node });
        Ok(())
    }

    /// Whether a power cut leaves a file for certain, and under the name that it has.
    pub(crate) fn keeps(&self, file: &Rc<FileNode>) -> bool {
        self.kept().any(|kept| Rc::ptr_eq(kept, file))
    }

    fn kept(&self) -> impl Iterator<Item = &Rc<FileNode>> {
        self.durable.iter().filter_map(|(name, node)| match node {
            Node::File(file) if self.names.get(name).is_some_and(|it| it.is(node)) => Some(file),
            _ => None,
        })
    }

    /// What a sync that begins now will cover.
    pub(crate) fn sync_begins(&self) -> usize {
        self.settled + self.changes.len()
    }

    /// A sync has made names durable. Returns the writes that waited for that.
    pub(crate) fn sync_done(&mut self, covered: usize) -> Vec<u64> {
        let count = covered.saturating_sub(self.settled);
        for change in self.changes.drain(..count) {
            change.apply(&mut self.durable);
        }
        self.settled += count;
        self.kept().flat_map(|file| file.unnamed.take()).collect()
    }

    /// A file is gone, as if it had never been, by no doing of a process.
    pub(crate) fn lose(&mut self, name: &str) {
        self.names.remove(name);
        self.durable.remove(name);
        self.changes.retain(|change| !change.concerns(name));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }
}

/// The power fails: of each directory's changes any subset is left, and of each file what
/// [`Content::power_cut`] leaves.
pub(crate) fn power_cut(directory: &DirectoryNode, random: &Random, losses: &mut Losses) {
    let mut node = directory.borrow_mut();
    let node = &mut *node;
    node.settled += node.changes.len();
    for change in node.changes.drain(..) {
        if random.chance(0.5) {
            change.apply(&mut node.durable);
        }
    }
    node.names = node.durable.clone();
    node.holder = None;
    for child in node.names.values() {
        match child {
            Node::Directory(child) => power_cut(child, random, losses),
            Node::File(file) => {
                file.content.borrow_mut().power_cut(random, losses);
                file.unsynced.borrow_mut().clear();
                file.unnamed.borrow_mut().clear();
                *file.holder.borrow_mut() = None;
            }
        }
    }
}

/// All files below a directory, with their paths, in order.
pub(crate) fn files(directory: &DirectoryNode) -> Vec<(String, Rc<FileNode>)> {
    let mut files = Vec::new();
    for (name, child) in &directory.borrow().names {
        match child {
            Node::File(file) => files.push((name.clone(), file.clone())),
            Node::Directory(child) => {
                let below = self::files(child);
                files
                    .extend(below.into_iter().map(|(path, file)| (format!("{name}/{path}"), file)));
            }
        }
    }
    files
}

/// A process ends and gives its locks back.
pub(crate) fn release(directory: &DirectoryNode, process: Process) {
    let mut node = directory.borrow_mut();
    if node.holder.is_some_and(|holder| holder.process == process) {
        node.holder = None;
    }
    for child in node.names.values() {
        match child {
            Node::Directory(child) => release(child, process),
            Node::File(file) => {
                let mut holder = file.holder.borrow_mut();
                if holder.is_some_and(|holder| holder.process == process) {
                    *holder = None;
                }
            }
        }
    }
}

/// A copy of a directory with all that is below it, apart from any node.
#[derive(Clone, Default)]
pub struct DirectoryImage {
    entries: BTreeMap<String, ImageEntry>,
}

#[derive(Clone)]
enum ImageEntry {
    File(Image),
    Directory(DirectoryImage),
}

impl DirectoryImage {
    /// The paths of all files and their lengths in bytes, in order.
    pub fn files(&self) -> Vec<(String, u64)> {
        let mut files = Vec::new();
        self.collect("", &mut files);
        files
    }

    /// Up to `len` bytes of a file at `position`; nothing when there is no such file.
    pub fn read(&self, path: &str, position: u64, len: usize) -> Option<Vec<u8>> {
        match (path.split_once('/'), self.entries.get(path)) {
            (None, Some(ImageEntry::File(image))) => Some(image.read(position, len)),
            (None, _) => None,
            (Some((first, rest)), _) => match self.entries.get(first)? {
                ImageEntry::Directory(directory) => directory.read(rest, position, len),
                ImageEntry::File(_) => None,
            },
        }
    }

    /// What is there now, written or not.
    pub(crate) fn readable(directory: &DirectoryNode) -> Self {
        Self::copy(&directory.borrow(), &|node| &node.names, &|content| content.readable().clone())
    }

    /// What a power cut leaves for certain.
    pub(crate) fn certain(directory: &DirectoryNode) -> Self {
        Self::copy(&directory.borrow(), &|node| &node.durable, &|content| content.certain().clone())
    }

    /// Makes a directory of this content, all of it durable.
    pub(crate) fn build(&self) -> DirectoryNode {
        let mut node = Directory::default();
        for (name, entry) in &self.entries {
            let child = match entry {
                ImageEntry::File(image) => {
                    Node::File(FileNode::new(Content::durable(image.clone())))
                }
                ImageEntry::Directory(directory) => Node::Directory(directory.build()),
            };
            node.names.insert(name.clone(), child.clone());
            node.durable.insert(name.clone(), child);
        }
        Rc::new(RefCell::new(node))
    }

    fn copy(
        node: &Directory,
        names: &impl Fn(&Directory) -> &Names,
        image: &impl Fn(&Content) -> Image,
    ) -> Self {
        let mut entries = BTreeMap::new();
        for (name, child) in names(node) {
            let entry = match child {
                Node::File(file) => ImageEntry::File(image(&file.content.borrow())),
                Node::Directory(child) => {
                    ImageEntry::Directory(Self::copy(&child.borrow(), names, image))
                }
            };
            entries.insert(name.clone(), entry);
        }
        Self { entries }
    }

    fn collect(&self, prefix: &str, files: &mut Vec<(String, u64)>) {
        for (name, entry) in &self.entries {
            match entry {
                ImageEntry::File(image) => files.push((format!("{prefix}{name}"), image.len())),
                ImageEntry::Directory(child) => child.collect(&format!("{prefix}{name}/"), files),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Node {
        Node::File(FileNode::new(Content::durable(Image::zeroed(4096))))
    }

    #[test]
    fn unsynced_names_survive_in_any_subset() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let directory = DirectoryNode::default();
            directory.borrow_mut().add("old", file()).expect("new name");
            let covered = directory.borrow().sync_begins();
            directory.borrow_mut().sync_done(covered);
            directory.borrow_mut().add("temporary", file()).expect("new name");
            directory.borrow_mut().rename("temporary", "final").expect("it is there");
            directory.borrow_mut().remove("old").expect("it is there");
            power_cut(&directory, &Random::new(seed, "test"), &mut Losses::default());
            seen.insert(directory.borrow().names().join(" "));
        }
        let seen: Vec<_> = seen.iter().map(String::as_str).collect();
        assert_eq!(seen, ["", "final", "final old", "old", "old temporary", "temporary"]);
    }

    #[test]
    fn a_directory_sync_covers_only_changes_made_before_it_began() {
        let mut lost = false;
        for seed in 0..50 {
            let directory = DirectoryNode::default();
            directory.borrow_mut().add("a", file()).expect("new name");
            let covered = directory.borrow().sync_begins();
            directory.borrow_mut().add("b", file()).expect("new name");
            directory.borrow_mut().sync_done(covered);
            power_cut(&directory, &Random::new(seed, "test"), &mut Losses::default());
            assert!(directory.borrow().find("a").is_some());
            lost |= directory.borrow().find("b").is_none();
        }
        assert!(lost);
    }
}
