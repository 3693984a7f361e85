//! Says whose a file is that the kernel refused, and what kind of file it is: the number of the error
//! alone sends people to the wrong place.

use rustix::process::geteuid;
use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

/// Too many symbolic links; also a symbolic link where none may be.
const ELOOP: i32 = 40;

/// `error` with what stands in its way: the file at `path`, or the directory above it that hides it. An
/// error that has nothing to do with either comes back as it is. The kind stays.
pub fn explain_access(path: &Path, error: io::Error) -> io::Error {
    let Some((nearest, found)) = nearest(path) else { return error };
    let nearest = nearest.display();
    let about = match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::PermissionDenied, _) => format!(
            "{nearest} belongs to user {} with mode {:04o}, and this program runs as user {}",
            found.uid(),
            found.permissions().mode() & 0o7777,
            geteuid().as_raw()
        ),
        (io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory, _) | (_, Some(ELOOP)) => {
            format!("{nearest} is a {}", kind(&found))
        }
        (io::ErrorKind::ReadOnlyFilesystem, _) => {
            format!("{nearest} lies on a file system that is mounted for reading only")
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}: {about}"))
}

/// What can be seen of `path`: itself, or the lowest directory above it.
fn nearest(path: &Path) -> Option<(&Path, Metadata)> {
    path.ancestors().find_map(|path| Some((path, fs::symlink_metadata(path).ok()?)))
}

fn kind(found: &Metadata) -> &'static str {
    let kind = found.file_type();
    match (kind.is_dir(), kind.is_symlink(), kind.is_file()) {
        (true, ..) => "directory",
        (_, true, _) => "symbolic link",
        (.., true) => "file",
        _ => "special file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_stands_in_the_way_is_named() {
        let program = std::env::current_exe().expect("a test is a program");
        let below = program.join("data/identity");
        let error = fs::File::open(&below).expect_err("it is no directory");
        let error = explain_access(&below, error);
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        let said = format!("Not a directory (os error 20): {} is a file", program.display());
        assert_eq!(error.to_string(), said);

        let refused = explain_access(&program, io::Error::from_raw_os_error(13));
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        let owner = fs::metadata(&program).expect("it runs").uid();
        let said = format!("{} belongs to user {owner} with mode 0", program.display());
        assert!(refused.to_string().contains(&said), "{refused}");

        let full = explain_access(&program, io::Error::from_raw_os_error(28));
        assert_eq!(full.raw_os_error(), Some(28), "nothing is in its way, and its number stays");
    }
}
