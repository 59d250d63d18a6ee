//! The folder of a run, and how one is begun, gone on with and ended.
//!
//! ```text
//! RUN/recipe.yaml       as it was read
//!     manifest.json     what went in, by hash; its presence makes the folder a run's
//!     metrics.jsonl     one line a logged step
//!     checkpoints/      NNNNNN/
//!     adapter/          the result, as PEFT writes it
//!     report.html       the curves
//!     tensorboard/      event files
//!     finished.json     the outcome; absent until the run is over
//!     lock              held while a process writes here
//! ```
//!
//! Knows which files there are and when they may be written; what is in them comes from outside.

mod space;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ft_recipes::Resume;

use crate::checkpoint::{Checkpoint, Checkpoints, Flaw, Rejected};
use crate::files::{self, Disk, Doing, FileError, Files};
use crate::lock::{Lock, LockError};
use crate::manifest::{Change, FORMAT, RunManifest, Weight};

pub use space::{SpaceError, SpaceNeeded, free_bytes};

const MANIFEST: &str = "manifest.json";
const RECIPE: &str = "recipe.yaml";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints";
const ADAPTER: &str = "adapter";
const REPORT: &str = "report.html";
const TENSORBOARD: &str = "tensorboard";
const FINISHED: &str = "finished.json";

/// Names that a run would overwrite.
const OURS: [&str; 7] = [RECIPE, METRICS, CHECKPOINTS, ADAPTER, REPORT, TENSORBOARD, FINISHED];

/// What to do when recipe, rows or model are not those of the run that is gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChange {
    /// Refuse and name what changed.
    Refuse,
    /// Go on all the same.
    GoOn,
}

/// A run's folder, locked.
#[derive(Debug)]
pub struct RunFolder {
    /// Where it is.
    pub path: PathBuf,
    /// What is saved along the way.
    pub checkpoints: Checkpoints,
    files: Arc<dyn Files>,
    _lock: Lock,
}

/// An opened run: the folder, and where to begin.
#[derive(Debug)]
pub struct Opened {
    /// The folder.
    pub run: RunFolder,
    /// Where to go on; absent: at step 0.
    pub checkpoint: Option<Checkpoint>,
    /// Checkpoints that were damaged: named `.aside` now, not deleted.
    pub rejected: Vec<Rejected>,
    /// What is not as it was when the run was begun.
    pub changes: Vec<Change>,
}

/// Why a run cannot begin in a folder.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another process is at it.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is a run in the folder already.
    #[error(
        "`{}` holds {} run\nhelp: {}`--resume` goes on with it, another `--output-dir` begins a new one",
        folder.display(),
        if *finished { "a finished" } else { "an unfinished" },
        if *finished { "to train longer, raise `num_epochs` or `max_steps`: " } else { "" }
    )]
    Exists {
        /// The folder.
        folder: PathBuf,
        /// Whether it came to its end.
        finished: bool,
    },
    /// The folder has files that a run would overwrite, and is no run.
    #[error(
        "`{}` has a `{found}`, but no manifest.json: it is not the folder of a run\n\
         help: name another `--output-dir`",
        folder.display()
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// What is in the way.
        found: String,
    },
    /// The folder's manifest cannot be read.
    #[error(
        "`{}` cannot be read: {what}\nhelp: name another `--output-dir`, or restore the file",
        path.display()
    )]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// What the run was begun with has changed.
    #[error("{}", changed(folder, changes))]
    Changed {
        /// The folder.
        folder: PathBuf,
        /// Everything that changed.
        changes: Vec<Change>,
    },
    /// The checkpoint that was asked for is not whole.
    #[error("checkpoint `{}` cannot be used: {flaw}", path.display())]
    Checkpoint {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// There is no checkpoint where one was asked for.
    #[error("`{}` has no checkpoint that is whole", path.display())]
    NoCheckpoint {
        /// The folder that was asked for.
        path: PathBuf,
    },
}

fn changed(folder: &Path, changes: &[Change]) -> String {
    let mut said = format!("`{}` was begun with something else:", folder.display());
    for change in changes.iter().filter(|change| change.weight == Weight::Refused) {
        let _ = write!(said, "\n  {change}");
    }
    said + "\nhelp: `--force` goes on all the same, another `--output-dir` begins a new run"
}

impl RunFolder {
    /// Locks the folder at `path`, made if it is not there, and finds out where to begin.
    ///
    /// With [`Resume::No`] an earlier run in the folder is an error. With [`Resume::Auto`] the
    /// newest checkpoint that verifies is taken, if there is one. With [`Resume::From`] it is that
    /// checkpoint, or the newest of that run; later ones of this folder are set aside. What an
    /// interrupted write left behind is removed.
    ///
    /// # Errors
    ///
    /// The folder is locked, holds another run or other files, cannot be written, or the run was
    /// begun with something else.
    pub fn open(
        path: &Path,
        manifest: &RunManifest,
        recipe: &str,
        resume: &Resume,
        on_change: OnChange,
    ) -> Result<Opened, RunError> {
        fs::create_dir_all(path).doing("make the folder", path)?;
        let lock = Lock::take(path)?;
        let files: Arc<dyn Files> = Arc::new(Disk);
        let checkpoints = Checkpoints::new(path.join(CHECKPOINTS), files.clone());
        let run = Self { path: path.to_owned(), checkpoints, files, _lock: lock };
        match (run.begun_with()?, resume) {
            (Some(_), Resume::No) => {
                let finished = path.join(FINISHED).exists();
                Err(RunError::Exists { folder: path.to_owned(), finished })
            }
            (Some(before), _) => {
                let changes = before.changes(manifest);
                let matters = changes.iter().any(|change| change.weight == Weight::Refused);
                if matters && on_change == OnChange::Refuse {
                    return Err(RunError::Changed { folder: path.to_owned(), changes });
                }
                run.go_on(resume, changes)
            }
            (None, _) => run.begin(manifest, recipe, resume),
        }
    }

    /// The manifest, if this is the folder of a run.
    fn begun_with(&self) -> Result<Option<RunManifest>, RunError> {
        let path = self.path.join(MANIFEST);
        let bytes = match self.files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let found = OURS.into_iter().find(|name| self.path.join(name).exists());
                return match found {
                    Some(found) => {
                        let (folder, found) = (self.path.clone(), found.to_owned());
                        Err(RunError::Foreign { folder, found })
                    }
                    None => Ok(None),
                };
            }
            Err(source) => return Err(FileError { doing: "read", path, source }.into()),
        };
        let unread = |what: String| RunError::Manifest { path: path.clone(), what };
        let manifest: RunManifest =
            serde_json::from_slice(&bytes).map_err(|error| unread(error.to_string()))?;
        if manifest.format != FORMAT {
            let what = format!("format {}, this version reads {FORMAT}", manifest.format);
            return Err(unread(what));
        }
        Ok(Some(manifest))
    }

    /// A new run. The manifest comes first: a crash after it leaves a run without checkpoints,
    /// which can be gone on with.
    fn begin(
        self,
        manifest: &RunManifest,
        recipe: &str,
        resume: &Resume,
    ) -> Result<Opened, RunError> {
        let checkpoint = match resume {
            Resume::From(path) => Some(self.given(path)?.0),
            Resume::No | Resume::Auto => None,
        };
        files::clean(self.files.as_ref(), &self.path)?;
        self.replace(MANIFEST, &manifest.to_bytes())?;
        self.replace(RECIPE, recipe.as_bytes())?;
        self.make(CHECKPOINTS)?;
        Ok(Opened { run: self, checkpoint, rejected: Vec::new(), changes: Vec::new() })
    }

    fn go_on(self, resume: &Resume, changes: Vec<Change>) -> Result<Opened, RunError> {
        files::clean(self.files.as_ref(), &self.path)?;
        self.make(CHECKPOINTS)?;
        self.checkpoints.clean()?;
        let (checkpoint, rejected) = match resume {
            Resume::From(path) => {
                let (checkpoint, rejected) = self.given(path)?;
                self.checkpoints.give_up_after(checkpoint.step)?;
                (Some(checkpoint), rejected)
            }
            Resume::No | Resume::Auto => {
                let found = self.checkpoints.newest()?;
                for rejected in &found.rejected {
                    self.checkpoints.set_aside(&rejected.path)?;
                }
                (found.checkpoint, found.rejected)
            }
        };
        let finished = self.path.join(FINISHED);
        match self.files.remove_file(&finished) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(FileError { doing: "remove", path: finished, source }.into());
            }
            _ => {}
        }
        Ok(Opened { run: self, checkpoint, rejected, changes })
    }

    /// The checkpoint at `path`: its folder, or that of a run.
    fn given(&self, path: &Path) -> Result<(Checkpoint, Vec<Rejected>), RunError> {
        let inside = path.join(CHECKPOINTS);
        if inside.is_dir() {
            let found = Checkpoints::new(inside, self.files.clone()).newest()?;
            let none = || RunError::NoCheckpoint { path: path.to_owned() };
            return Ok((found.checkpoint.ok_or_else(none)?, found.rejected));
        }
        let unfit = |flaw| RunError::Checkpoint { path: path.to_owned(), flaw };
        Ok((self.checkpoints.load(path).map_err(unfit)?, Vec::new()))
    }

    /// Where `metrics.jsonl` is.
    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// Where TensorBoard's event files are.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join(TENSORBOARD)
    }

    /// Where the finished adapter is.
    pub fn adapter(&self) -> PathBuf {
        self.path.join(ADAPTER)
    }

    /// Replaces `report.html`.
    ///
    /// # Errors
    ///
    /// The file system refused.
    pub fn write_report(&self, html: &str) -> Result<PathBuf, FileError> {
        self.replace(REPORT, html.as_bytes())?;
        Ok(self.path.join(REPORT))
    }

    /// Replaces `adapter/` by these files.
    ///
    /// # Errors
    ///
    /// The file system refused; the former adapter may then be gone, the checkpoints are not.
    pub fn write_adapter(&self, contents: &[(&str, &[u8])]) -> Result<PathBuf, FileError> {
        let files = self.files.as_ref();
        let beside = self.path.join(files::temporary(ADAPTER));
        let old = self.path.join(files::temporary("old-adapter"));
        files::write_folder(files, &beside, contents)?;
        let path = self.adapter();
        if path.exists() {
            files.rename(&path, &old).doing("rename", &path)?;
        }
        files.rename(&beside, &path).doing("rename", &path)?;
        files.sync_folder(&self.path).doing("sync", &self.path)?;
        if old.exists() {
            files.remove_folder(&old).doing("remove", &old)?;
        }
        Ok(path)
    }

    /// Marks the run as finished, with its outcome. The last thing that a run writes.
    ///
    /// # Errors
    ///
    /// The file system refused.
    pub fn finish(&self, outcome: &serde_json::Value) -> Result<(), FileError> {
        self.replace(FINISHED, format!("{outcome:#}\n").as_bytes())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        files::replace_file(self.files.as_ref(), &self.path, name, bytes)
    }

    /// Makes a folder of the run if it is not there.
    fn make(&self, name: &str) -> Result<(), FileError> {
        let path = self.path.join(name);
        match self.files.make_folder(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.doing("make the folder", &path),
        }?;
        self.files.sync_folder(&self.path).doing("sync", &self.path)
    }
}
