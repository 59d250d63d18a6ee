//! The few file-system calls that a run folder is made of.
//!
//! Whatever must survive a crash is written through [`Files`], so that a test can let any single
//! call fail, or the machine die at it. Knows nothing of what is in the files.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[cfg(test)]
pub(crate) mod simulated;

/// A file system. What is written is only safe from a power loss once the file *and* the folder
/// that names it are synced.
pub trait Files: fmt::Debug + Send + Sync {
    /// Makes one folder, whose parent is there and which is not.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes or replaces a file with these bytes.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Waits until a file's bytes are on the disk.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Waits until a folder's names are on the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or folder within one file system, at once or not at all. A file in the way
    /// is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a folder and everything in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in no order.
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// The bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        File::create(path)?.write_all(bytes)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        // Opened for writing because Windows syncs nothing else.
        File::options().write(true).open(path)?.sync_all()
    }

    #[cfg(unix)]
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Windows has no such call; its journal keeps the order of renames.
    #[cfg(not(unix))]
    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
}

/// A call that failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} `{}`: {source}{}", path.display(), space(source))]
pub struct FileError {
    /// What was being done: `write`, `rename`.
    pub doing: &'static str,
    /// To what.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

fn space(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "\nhelp: free space on this disk, or lower `save_total_limit`, then go on with `--resume`"
        }
        _ => "",
    }
}

/// Says what was being done when a call failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError { doing, path: path.to_owned(), source })
    }
}

/// The start of the names of what is being written or removed; leftovers may be deleted.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// A name beside `name` that no other process uses.
pub(crate) fn temporary(name: &str) -> String {
    format!("{TEMPORARY}{name}-{}", std::process::id())
}

/// Replaces `folder/name` by these bytes so that a crash leaves the old file or the new one.
pub(crate) fn replace_file(
    files: &dyn Files,
    folder: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), FileError> {
    let (beside, path) = (folder.join(temporary(name)), folder.join(name));
    let replaced = files
        .write(&beside, bytes)
        .doing("write", &path)
        .and_then(|()| files.sync_file(&beside).doing("sync", &path))
        .and_then(|()| files.rename(&beside, &path).doing("rename", &path))
        .and_then(|()| files.sync_folder(folder).doing("sync", folder));
    if replaced.is_err() {
        // Already failing; what is left is cleaned at the next start.
        let _ = files.remove_file(&beside);
    }
    replaced
}

/// Writes a new folder of files and syncs all of it, so that it can be renamed into place.
pub(crate) fn write_folder(
    files: &dyn Files,
    folder: &Path,
    contents: &[(&str, &[u8])],
) -> Result<(), FileError> {
    files.make_folder(folder).doing("make the folder", folder)?;
    for (name, bytes) in contents {
        let path = folder.join(name);
        files.write(&path, bytes).doing("write", &path)?;
        files.sync_file(&path).doing("sync", &path)?;
    }
    files.sync_folder(folder).doing("sync", folder)
}

/// Removes what an interrupted write left behind in `folder`.
pub(crate) fn clean(files: &dyn Files, folder: &Path) -> Result<usize, FileError> {
    let mut removed = 0;
    for name in files.names(folder).doing("list", folder)? {
        if name.to_str().is_some_and(|name| name.starts_with(TEMPORARY)) {
            let path = folder.join(&name);
            // Folders are tried first: most leftovers are some.
            let done = files.remove_folder(&path).or_else(|_| files.remove_file(&path));
            done.doing("remove", &path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_bytes_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        replace_file(&Disk, folder.path(), "manifest.json", b"old").unwrap();
        replace_file(&Disk, folder.path(), "manifest.json", b"new").unwrap();
        assert_eq!(fs::read(folder.path().join("manifest.json")).unwrap(), b"new");
        assert_eq!(Disk.names(folder.path()).unwrap(), ["manifest.json"]);
    }

    #[test]
    fn leftovers_are_cleaned_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".tmp-000003-17")).unwrap();
        fs::write(folder.path().join(".tmp-000003-17/a"), "half").unwrap();
        fs::write(folder.path().join(".tmp-manifest.json-17"), "half").unwrap();
        fs::write(folder.path().join("000002"), "whole").unwrap();
        assert_eq!(clean(&Disk, folder.path()).unwrap(), 2);
        assert_eq!(Disk.names(folder.path()).unwrap(), ["000002"]);
    }

    #[test]
    fn a_full_disk_is_answered_with_what_to_do() {
        let full = Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull));
        let said = full.doing("write", Path::new("run/a.json")).unwrap_err().to_string();
        assert!(said.starts_with("cannot write `run/a.json`: "), "{said}");
        assert!(
            said.ends_with("or lower `save_total_limit`, then go on with `--resume`"),
            "{said}"
        );
    }
}
