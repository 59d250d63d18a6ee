//! Whether the disk has room for a run, asked before it begins.

use std::io;
use std::path::{Path, PathBuf};

/// What a run will write, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceNeeded {
    /// One checkpoint: adapter and optimiser state.
    pub checkpoint_bytes: u64,
    /// The most checkpoints there are at once, without the one being written.
    pub checkpoints: u64,
    /// The finished adapter.
    pub adapter_bytes: u64,
    /// Metrics, events and the report.
    pub report_bytes: u64,
}

/// Why a run would not fit.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// Too little is free.
    #[error(
        "the run needs {} on the disk of `{}`, {} are free\n\
         help: free some, lower `save_total_limit`, or name another `--output-dir`",
        gibibytes(*needed),
        path.display(),
        gibibytes(*free)
    )]
    TooLittle {
        /// Where the run is to be.
        path: PathBuf,
        /// Bytes that it will write.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The system does not say.
    #[error("cannot find out how much is free at `{}`: {source}", path.display())]
    Unknown {
        /// Where the run is to be.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

fn gibibytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 {
        format!("{mebibytes:.1} MiB")
    } else {
        format!("{:.1} GiB", mebibytes / 1024.0)
    }
}

impl SpaceNeeded {
    /// All of it, with one checkpoint more than stay: the old ones go after the new one is safe.
    pub fn total(&self) -> u64 {
        let checkpoints = self.checkpoint_bytes.saturating_mul(self.checkpoints.saturating_add(1));
        checkpoints.saturating_add(self.adapter_bytes).saturating_add(self.report_bytes)
    }

    /// Compares with what is free where `path` is or will be.
    ///
    /// # Errors
    ///
    /// Too little is free, or the system does not say how much is.
    pub fn check(&self, path: &Path) -> Result<(), SpaceError> {
        let unknown = |source| SpaceError::Unknown { path: path.to_owned(), source };
        let (needed, free) = (self.total(), free_bytes(path).map_err(unknown)?);
        if needed > free {
            return Err(SpaceError::TooLittle { path: path.to_owned(), needed, free });
        }
        Ok(())
    }
}

/// Bytes that this user may still write on the disk where `path` is or will be.
///
/// # Errors
///
/// The system does not say.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find(|path| path.exists());
    available(there.ok_or(io::Error::from(io::ErrorKind::NotFound))?)
}

#[cfg(unix)]
fn available(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn available(_path: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_does_not_fit_is_told_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let later = folder.path().join("not/there/yet");
        let free = free_bytes(&later).unwrap();
        assert!(free > 0);
        let small =
            SpaceNeeded { checkpoint_bytes: 1, checkpoints: 4, adapter_bytes: 2, report_bytes: 3 };
        assert_eq!(small.total(), 10);
        small.check(&later).unwrap();
        let large = SpaceNeeded { checkpoint_bytes: u64::MAX / 2, ..small };
        let said = large.check(&later).unwrap_err().to_string();
        assert!(said.starts_with("the run needs 17179869184.0 GiB on the disk of `"), "{said}");
        assert!(said.contains(" are free\nhelp: free some, lower `save_total_limit`"), "{said}");
    }
}
