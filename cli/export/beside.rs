//! Results are made beside their place and renamed: under the final name there is all or nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ft_trainer::run_folder::free_bytes;

#[cfg(unix)]
use signal_hook::consts::{SIGINT, SIGTERM};
#[cfg(unix)]
use signal_hook::iterator::Signals;

use crate::report::Unfinished;
#[cfg(unix)]
use crate::report::say;

/// Room that is left for the receipt and what the system needs.
const SPARE: u64 = 16 << 20;

/// Whether a signal came.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// A file or folder that has not its name yet, and goes when it does not get it.
pub(crate) struct Beside {
    path: PathBuf,
    to: PathBuf,
    settled: bool,
}

impl Beside {
    /// A place beside `to`, of which nothing may be there; the name keeps its ending.
    pub(crate) fn new(to: &Path) -> Result<Self> {
        if to.symlink_metadata().is_ok() {
            bail!("`{}` exists already\n  = help: name another, or remove it", to.display());
        }
        let name = to.file_name().with_context(|| format!("`{}` is no name", to.display()))?;
        let name = name.to_string_lossy();
        let (stem, ending) = match name.rsplit_once('.') {
            Some((stem, "gguf")) => (stem, ".gguf"),
            _ => (&*name, ""),
        };
        let path = to.with_file_name(format!(".{stem}.{}.part{ending}", std::process::id()));
        #[cfg(unix)]
        clean_at_signals(&path);
        Ok(Self { path, to: to.to_owned(), settled: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it a folder.
    pub(crate) fn folder(self) -> Result<Self> {
        let _ = fs::remove_dir_all(&self.path);
        fs::create_dir(&self.path)
            .with_context(|| format!("cannot make a folder in `{}`", parent(&self.to).display()))?;
        Ok(self)
    }

    /// Gives it its name.
    pub(crate) fn settle(mut self) -> Result<()> {
        wait_if_stopped();
        let renamed = fs::rename(&self.path, &self.to);
        renamed
            .with_context(|| format!("cannot write `{}`", self.to.display()))
            .map_err(Unfinished::mark)?;
        self.settled = true;
        #[cfg(unix)]
        if let Ok(folder) = fs::File::open(parent(&self.to)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        wait_if_stopped();
        if !self.settled {
            clean(&self.path);
        }
    }
}

/// Removes what is unfinished, also the file that a writer of GGUF keeps beside its own place. Nobody is left to tell if
/// that fails.
fn clean(path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir_all(path);
    let ours = format!(".{}-", std::process::id());
    for entry in fs::read_dir(parent(path)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&ours) && name.ends_with(".gguf.partial") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// After a signal only its listener ends the program: who comes here meanwhile waits for that.
fn wait_if_stopped() {
    while STOPPED.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// A signal ends the program and takes with it what is unfinished.
#[cfg(unix)]
fn clean_at_signals(path: &Path) {
    let (path, wanted) = (path.to_owned(), [SIGINT, SIGTERM]);
    // Without a listener a signal ends the program all the same.
    let Ok(mut signals) = Signals::new(wanted) else { return };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            STOPPED.store(true, Ordering::SeqCst);
            // Another thread may be about to make one more file.
            for _ in 0..20 {
                clean(&path);
                std::thread::sleep(Duration::from_millis(2));
            }
            say("stopped by a signal");
            signal_hook::low_level::exit(128 + signal);
        }
    });
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether the disk has room, asked before anything is written.
pub(crate) fn room(to: &Path, bytes: u64) -> Result<()> {
    let folder = parent(to);
    if !folder.is_dir() {
        bail!("there is no folder `{}`", folder.display());
    }
    // A system that does not say is asked by writing.
    let Ok(free) = free_bytes(folder) else { return Ok(()) };
    let needed = bytes.saturating_add(SPARE);
    if needed > free {
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        bail!(
            "`{}` needs {} MiB, and {} MiB are free on its disk\n  = help: free some, or name a smaller format or another \
             place",
            to.display(),
            mebibytes(needed),
            mebibytes(free)
        );
    }
    Ok(())
}

/// Writes a small file beside its place and renames it.
pub(crate) fn write_small(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_file_name(format!(
        ".{}.{}.part",
        path.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    let written = fs::File::create(&beside)
        .and_then(|mut file| {
            std::io::Write::write_all(&mut file, bytes).and_then(|()| file.sync_all())
        })
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_settled_leaves_nothing_and_what_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("a.gguf");
        let beside = Beside::new(&to).unwrap();
        assert!(beside.path().extension().is_some_and(|ending| ending == "gguf"));
        fs::write(beside.path(), "half").unwrap();
        drop(beside);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let beside = Beside::new(&to).unwrap();
        fs::write(beside.path(), "whole").unwrap();
        beside.settle().unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "whole");
        let error = Beside::new(&to).err().unwrap().to_string();
        assert!(error.contains("exists already"), "{error}");
    }

    #[test]
    fn a_result_that_does_not_fit_is_refused_before_it_is_begun() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("a.gguf");
        room(&to, 1).unwrap();
        let error = room(&to, u64::MAX / 2).unwrap_err().to_string();
        assert!(error.contains("MiB are free on its disk"), "{error}");
        assert!(room(&folder.path().join("no/a.gguf"), 1).is_err());
    }
}
