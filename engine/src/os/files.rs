//! The file descriptors of this process: how many it may have, and which of them clients may take.
//!
//! The kernel gives each new descriptor the lowest number that is free. So a connection whose number is `n`
//! or higher shows that `n` descriptors are in use, without a count of them: [`ClientFiles`] keeps all higher
//! numbers for the files of the log and for other nodes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A process is given no more than this: the kernel's own limit for one process, unless it was raised.
const FILES_MAX: u64 = 1 << 20;
/// Clients may take so large a part of few descriptors, whatever is to be kept.
const CLIENTS_SHARE: u64 = 2;

/// The limit on open files of this process (`RLIMIT_NOFILE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenFiles {
    /// The soft limit as it was found.
    pub found: u64,
    /// The soft limit as it is now.
    pub limit: u64,
}

/// Raises the soft limit on open files to the hard one, for the whole process: shells and service managers
/// set the soft one to 1,024, for programs that cannot use more. It may stay as it was.
pub fn raise_open_files() -> OpenFiles {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let found = current.unwrap_or(FILES_MAX);
    let wanted = maximum.unwrap_or(FILES_MAX).min(FILES_MAX).max(found);
    let raised = Rlimit { current: Some(wanted), maximum };
    let is_raised = wanted > found && setrlimit(Resource::Nofile, raised).is_ok();
    OpenFiles { found, limit: if is_raised { wanted } else { found } }
}

/// Which descriptors a connection of a client may have: those below a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientFiles(u64);

impl ClientFiles {
    /// All: nothing is kept.
    pub const ALL: Self = Self(u64::MAX);

    /// All of `files` but the last `kept`; of few files, half.
    pub fn keeping(kept: u64, files: OpenFiles) -> Self {
        Self(files.limit.saturating_sub(kept).max(files.limit / CLIENTS_SHARE))
    }

    /// How many there are.
    pub fn count(self) -> u64 {
        self.0
    }

    /// Whether a client may have this descriptor.
    pub(crate) fn has(self, descriptor: i32) -> bool {
        u64::try_from(descriptor).is_ok_and(|number| number < self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one_and_clients_take_no_descriptor_of_the_reserve() {
        let files = raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        let hard = limit.maximum.unwrap_or(FILES_MAX).min(FILES_MAX);
        assert_eq!(limit.current, Some(hard.max(files.found)));
        let files = OpenFiles { found: 1_024, limit: 1_024 };
        let clients = ClientFiles::keeping(244, files);
        assert_eq!([clients.has(779), clients.has(780)], [true, false]);
        assert_eq!(ClientFiles::keeping(2_000, files).count(), 512, "half of few");
        assert!(ClientFiles::ALL.has(i32::MAX));
    }
}
