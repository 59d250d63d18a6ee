//! One run at a time in a folder.
//!
//! The lock is the operating system's, on the file `lock`: it goes with the process, however that
//! ends, so a leftover file of a dead process locks nothing. The file holds the process's id, for
//! the message.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The file's name.
const NAME: &str = "lock";

/// A folder that is ours until this is dropped.
#[derive(Debug)]
pub struct Lock {
    // Closing the file unlocks it. The file stays: removing it would let a third process lock a
    // new one while a second holds the old.
    _file: File,
}

/// Why a folder cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run holds it.
    #[error(
        "another run ({}) is writing to `{}`\nhelp: wait for it, or name another `--output-dir`",
        named(*process),
        folder.display()
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// The other's process id, if it says so.
        process: Option<u32>,
    },
    /// The file system refused.
    #[error("cannot lock `{}`: {source}", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

fn named(id: Option<u32>) -> String {
    id.map_or_else(|| "unknown process".to_owned(), |id| format!("process {id}"))
}

impl Lock {
    /// Locks `folder`, which must be there.
    ///
    /// # Errors
    ///
    /// Another run holds it, or the file system refused.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(NAME);
        let failed = |source| LockError::File { path: path.clone(), source };
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Only for the message.
                let _ = file.read_to_string(&mut text);
                let (folder, process) = (folder.to_owned(), text.trim().parse().ok());
                return Err(LockError::Held { folder, process });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .and_then(|()| file.flush());
        written.map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_in_the_folder_is_refused_and_told_the_process_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let said = Lock::take(folder.path()).unwrap_err().to_string();
        let expected = format!(
            "another run (process {}) is writing to `{}`\n\
             help: wait for it, or name another `--output-dir`",
            std::process::id(),
            folder.path().display()
        );
        assert_eq!(said, expected);
        drop(first);
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn the_lock_file_of_a_dead_process_locks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), "4194304000\n").unwrap();
        let _lock = Lock::take(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }
}
