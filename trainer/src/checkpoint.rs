//! Checkpoints that a crash at any moment cannot spoil.
//!
//! A checkpoint is a folder `NNNNNN` (the step) of named files and a `manifest.json` with the size
//! and SHA-256 of each. It is written as `.tmp-NNNNNN-PID`: every file synced, then the manifest,
//! then the folder; renamed; the folder above synced; and only then are older ones removed. So
//! what bears a step's name was whole when it got it, and what is damaged later is found by its
//! hashes. Knows names and bytes, not what they mean.

mod manifest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{self, Doing, FileError, Files};

pub use manifest::Flaw;
use manifest::{MANIFEST, Manifest};

/// Follows the name of a checkpoint while another of the same step takes its place.
const REPLACED: &str = ".replaced";

/// Follows the name of a checkpoint that is damaged or belongs to a future that was given up.
const ASIDE: &str = ".aside";

/// The checkpoints of a run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    files: Arc<dyn Files>,
}

/// A checkpoint that was read whole and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Steps done when it was written.
    pub step: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Its files without the manifest.
    pub contents: BTreeMap<String, Vec<u8>>,
}

/// A checkpoint that was passed over.
#[derive(Debug)]
pub struct Rejected {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// What a look through the checkpoints found.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest one that is whole.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that are not, newest first.
    pub rejected: Vec<Rejected>,
}

/// Which checkpoints stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// At most so many, the newest; 0 keeps all. One more if it would leave only the best.
    pub limit: usize,
    /// The step of the best one, which always stays.
    pub best: Option<u64>,
}

/// What saving did.
#[derive(Debug)]
pub struct Saved {
    /// The new checkpoint.
    pub path: PathBuf,
    /// Why older checkpoints could not be removed; the new one is safe all the same.
    pub not_removed: Option<FileError>,
}

/// Why a checkpoint was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The file system refused.
    #[error("checkpoint {step} was not written: {source}{}", kept(*previous))]
    Write {
        /// The step.
        step: u64,
        /// What failed.
        source: FileError,
        /// The newest checkpoint that is there.
        previous: Option<u64>,
    },
    /// A name that is no plain file name.
    #[error("`{name}` cannot be a file of a checkpoint: a name of letters, digits, `.`, `_`, `-`")]
    Name {
        /// The name.
        name: String,
    },
}

fn kept(previous: Option<u64>) -> String {
    previous.map_or_else(String::new, |step| format!("\ncheckpoint {step} is intact"))
}

impl Checkpoints {
    /// Those in `folder`, which must be there.
    pub fn new(folder: impl Into<PathBuf>, files: Arc<dyn Files>) -> Self {
        Self { folder: folder.into(), files }
    }

    /// Writes a checkpoint of `step` and removes what `keep` does not keep. When this returns, the
    /// checkpoint survives a power loss.
    ///
    /// One of the same step with the same contents is left as it is; one with others is replaced.
    ///
    /// # Errors
    ///
    /// The file system refused; whatever checkpoints were there still are.
    pub fn save(
        &self,
        step: u64,
        contents: &[(&str, &[u8])],
        keep: Keep,
    ) -> Result<Saved, SaveError> {
        if let Some((name, _)) = contents.iter().find(|(name, _)| !manifest::is_plain(name)) {
            return Err(SaveError::Name { name: (*name).to_owned() });
        }
        let written = self.write(step, contents).map_err(|source| {
            let previous = self.steps().ok().and_then(|steps| steps.into_iter().max());
            SaveError::Write { step, source, previous }
        })?;
        let not_removed = self.prune(step, keep).err();
        Ok(Saved { path: written, not_removed })
    }

    fn write(&self, step: u64, contents: &[(&str, &[u8])]) -> Result<PathBuf, FileError> {
        let files = self.files.as_ref();
        let (name, path) = (name(step), self.folder.join(name(step)));
        let manifest = Manifest::of(step, contents).to_bytes();
        let exists = self.steps()?.contains(&step);
        if exists
            && files.read(&path.join(MANIFEST)).is_ok_and(|there| there == manifest)
            && self.load(&path).is_ok()
        {
            // The names may have been left unsynced by the attempt that wrote it.
            files.sync_folder(&self.folder).doing("sync", &self.folder)?;
            return Ok(path);
        }
        let beside = self.folder.join(files::temporary(&name));
        let mut all = contents.to_vec();
        all.push((MANIFEST, &manifest));
        let written = files::write_folder(files, &beside, &all).and_then(|()| {
            if exists {
                self.replace(&beside, &path, &name)
            } else {
                files.rename(&beside, &path).doing("rename", &path)
            }
        });
        if let Err(error) = written {
            // Gives its space back; if that fails too, the next start cleans up.
            let _ = files.remove_folder(&beside);
            return Err(error);
        }
        files.sync_folder(&self.folder).doing("sync", &self.folder)?;
        if exists {
            // Only now is the one that was replaced not needed any more.
            let _ = self.remove(&format!("{name}{REPLACED}"));
        }
        Ok(path)
    }

    /// Puts `beside` where `path` is. A crash in between leaves `NNNNNN.replaced`, which loads.
    fn replace(&self, beside: &Path, path: &Path, name: &str) -> Result<(), FileError> {
        let files = self.files.as_ref();
        let old = self.folder.join(format!("{name}{REPLACED}"));
        match self.load(path) {
            Ok(_) => {
                // A leftover is in the way; the one that it was left for is whole.
                if files.names(&old).is_ok() {
                    self.remove(&format!("{name}{REPLACED}"))?;
                }
                files.rename(path, &old).doing("rename", path)?;
            }
            // It may well be whole: not the moment to push it aside.
            Err(Flaw::Read { source, .. }) if source.kind() != io::ErrorKind::NotFound => {
                return Err(FileError { doing: "read", path: path.to_owned(), source });
            }
            Err(_) => {
                self.set_aside(path)?;
            }
        }
        files.rename(beside, path).doing("rename", path).inspect_err(|_| {
            // If this fails too, the old one still loads under its other name.
            let _ = files.rename(&old, path);
        })
    }

    /// Reads the newest checkpoint that is whole.
    ///
    /// # Errors
    ///
    /// The folder cannot be listed.
    pub fn newest(&self) -> Result<Found, FileError> {
        let mut candidates = Vec::new();
        for name in self.files.names(&self.folder).doing("list", &self.folder)? {
            let Some(name) = name.to_str() else { continue };
            // Of one step, the one that was replaced comes second.
            let (bare, rank) = name.strip_suffix(REPLACED).map_or((name, 1), |bare| (bare, 0));
            if let Some(step) = step_of(bare) {
                candidates.push((step, rank, self.folder.join(name)));
            }
        }
        candidates.sort();
        let mut found = Found::default();
        for (_, _, path) in candidates.into_iter().rev() {
            match self.load(&path) {
                Ok(checkpoint) => {
                    found.checkpoint = Some(checkpoint);
                    break;
                }
                Err(flaw) => found.rejected.push(Rejected { path, flaw }),
            }
        }
        Ok(found)
    }

    /// Reads one checkpoint and verifies every byte of it.
    ///
    /// # Errors
    ///
    /// It is not whole.
    pub fn load(&self, path: &Path) -> Result<Checkpoint, Flaw> {
        let (step, contents) = manifest::read(self.files.as_ref(), path)?;
        let named = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match step_of(named.strip_suffix(REPLACED).unwrap_or(named)) {
            Some(other) if other != step => Err(Flaw::Step { named: other, found: step }),
            _ => Ok(Checkpoint { step, path: path.to_owned(), contents }),
        }
    }

    /// Takes a checkpoint out of the count without deleting it: it becomes `NNNNNN.aside`.
    ///
    /// # Errors
    ///
    /// It cannot be renamed.
    pub fn set_aside(&self, path: &Path) -> Result<PathBuf, FileError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("checkpoint");
        let taken = self.files.names(&self.folder).doing("list", &self.folder)?;
        let free = (1..).map(|n| if n == 1 { ASIDE.to_owned() } else { format!("{ASIDE}-{n}") });
        let mut free = free.map(|suffix| format!("{name}{suffix}"));
        let new = free.find(|new| !taken.iter().any(|name| name == new.as_str()));
        let new = self.folder.join(new.expect("there are more numbers than files"));
        self.files.rename(path, &new).doing("rename", path)?;
        self.files.sync_folder(&self.folder).doing("sync", &self.folder)?;
        Ok(new)
    }

    /// Sets aside every checkpoint of a later step: the run goes on from `step` another way.
    ///
    /// # Errors
    ///
    /// One cannot be renamed.
    pub fn give_up_after(&self, step: u64) -> Result<Vec<PathBuf>, FileError> {
        let later = self.steps()?.into_iter().filter(|later| *later > step);
        later.map(|later| self.set_aside(&self.folder.join(name(later)))).collect()
    }

    /// Removes what an interrupted save left behind.
    ///
    /// # Errors
    ///
    /// It cannot be removed.
    pub fn clean(&self) -> Result<usize, FileError> {
        let mut removed = files::clean(self.files.as_ref(), &self.folder)?;
        for step in self.steps()? {
            let old = format!("{}{REPLACED}", name(step));
            let is_there = self.files.names(&self.folder.join(&old)).is_ok();
            if is_there && self.load(&self.folder.join(name(step))).is_ok() {
                self.remove(&old)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The steps that have a folder, in rising order.
    ///
    /// # Errors
    ///
    /// The folder cannot be listed.
    pub fn steps(&self) -> Result<Vec<u64>, FileError> {
        let names = self.files.names(&self.folder).doing("list", &self.folder)?;
        let mut steps: Vec<u64> = names.iter().filter_map(|name| step_of(name.to_str()?)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Removes the oldest beyond the limit, but not the best and not `newest`.
    fn prune(&self, newest: u64, keep: Keep) -> Result<(), FileError> {
        let steps = self.steps()?;
        let excess = if keep.limit == 0 { 0 } else { steps.len().saturating_sub(keep.limit) };
        let spare = |step: &&u64| **step != newest && Some(**step) != keep.best;
        for step in steps.iter().filter(spare).take(excess) {
            self.remove(&name(*step))?;
        }
        Ok(())
    }

    /// Removes a checkpoint: renamed first, so that half of it never looks like one.
    fn remove(&self, name: &str) -> Result<(), FileError> {
        let (path, beside) = (self.folder.join(name), files::temporary(&format!("old-{name}")));
        let beside = self.folder.join(beside);
        self.files.rename(&path, &beside).doing("rename", &path)?;
        self.files.remove_folder(&beside).doing("remove", &beside)
    }
}

/// `120` as `000120`.
fn name(step: u64) -> String {
    format!("{step:06}")
}

fn step_of(name: &str) -> Option<u64> {
    let is_step = name.len() >= 6 && name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|_| is_step)
}
