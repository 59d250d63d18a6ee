//! A file system in memory that forgets what was not synced, and fails when told to.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::Mutex;

use super::Files;

/// What goes wrong at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The disk is full; nothing happens.
    Full,
    /// The disk fails; nothing happens.
    InputOutput,
    /// Half of the bytes are written, then the disk is full.
    ShortWrite,
    /// The process dies before the call.
    CrashBefore,
    /// The process dies after the call.
    CrashAfter,
}

pub(crate) const FAULTS: [Fault; 5] =
    [Fault::Full, Fault::InputOutput, Fault::ShortWrite, Fault::CrashBefore, Fault::CrashAfter];

/// What is left after the process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Everything: the process was killed, the machine was not.
    Killed,
    /// Only what was synced.
    PowerLost,
    /// All names, but files that were not synced are half there.
    NamesKept,
    /// All names, but files that were not synced are empty.
    NamesOnly,
}

pub(crate) const RESTARTS: [Restart; 4] =
    [Restart::Killed, Restart::PowerLost, Restart::NamesKept, Restart::NamesOnly];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Node {
    File(usize),
    Folder(usize),
}

type Names = BTreeMap<OsString, Node>;

/// What is there now, and what of it is on the disk.
#[derive(Debug, Default)]
struct Kept<T> {
    now: T,
    safe: T,
}

#[derive(Debug)]
struct World {
    files: Vec<Kept<Vec<u8>>>,
    folders: Vec<Kept<Names>>,
    calls: usize,
    fault: Option<(usize, Fault)>,
    is_dead: bool,
}

#[derive(Debug)]
pub(crate) struct Simulated(Mutex<World>);

impl Simulated {
    /// With a root folder that is on the disk.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(World {
            files: Vec::new(),
            folders: vec![Kept::default()],
            calls: 0,
            fault: None,
            is_dead: false,
        }))
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.0.lock().unwrap().calls
    }

    /// Lets the call that follows `after` more fail.
    pub(crate) fn fail(&self, after: usize, fault: Fault) {
        let mut world = self.0.lock().unwrap();
        world.fault = Some((world.calls + after, fault));
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().unwrap().is_dead
    }

    /// Another process begins.
    pub(crate) fn restart(&self, restart: Restart) {
        let mut world = self.0.lock().unwrap();
        world.is_dead = false;
        world.fault = None;
        for file in &mut world.files {
            if file.now != file.safe {
                match restart {
                    Restart::Killed => continue,
                    Restart::PowerLost => file.now = file.safe.clone(),
                    Restart::NamesKept => file.now.truncate(file.now.len() / 2),
                    Restart::NamesOnly => file.now.clear(),
                }
            }
            file.safe = file.now.clone();
        }
        for folder in &mut world.folders {
            match restart {
                Restart::PowerLost => folder.now = folder.safe.clone(),
                _ => folder.safe = folder.now.clone(),
            }
        }
    }

    /// Counts a call and lets it fail if it is the one.
    fn call<T>(&self, work: impl Fn(&mut World, Work) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.0.lock().unwrap();
        if world.is_dead {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let fault = world.fault.filter(|(at, _)| *at == world.calls).map(|(_, fault)| fault);
        world.calls += 1;
        match fault {
            None => work(&mut world, Work::Whole),
            Some(Fault::Full) => Err(ErrorKind::StorageFull.into()),
            Some(Fault::InputOutput) => Err(io::Error::other("input/output error")),
            Some(Fault::ShortWrite) => {
                let _ = work(&mut world, Work::Half);
                Err(ErrorKind::StorageFull.into())
            }
            Some(Fault::CrashBefore) => {
                world.is_dead = true;
                Err(ErrorKind::BrokenPipe.into())
            }
            Some(Fault::CrashAfter) => {
                let _ = work(&mut world, Work::Whole);
                world.is_dead = true;
                Err(ErrorKind::BrokenPipe.into())
            }
        }
    }
}

/// Whether the work is done whole.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    Whole,
    /// Writes write half, removals remove half, all else does nothing.
    Half,
}

impl World {
    fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Folder(0);
        for part in path.components() {
            if let Component::Normal(name) = part {
                let Node::Folder(folder) = node else {
                    return Err(ErrorKind::NotADirectory.into());
                };
                let names = &self.folders[folder].now;
                node = *names.get(name).ok_or(io::Error::from(ErrorKind::NotFound))?;
            }
        }
        Ok(node)
    }

    fn folder(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::File(file) => Ok(file),
            Node::Folder(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// The folder that names `path`, and the name.
    fn place(&self, path: &Path) -> io::Result<(usize, OsString)> {
        let name = path.file_name().ok_or(io::Error::from(ErrorKind::InvalidInput))?;
        Ok((self.folder(path.parent().unwrap())?, name.to_owned()))
    }
}

impl Files for Simulated {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.call(|world, how| {
            let (folder, name) = world.place(path)?;
            if world.find(path).is_ok() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            if how == Work::Whole {
                world.folders.push(Kept::default());
                let node = Node::Folder(world.folders.len() - 1);
                world.folders[folder].now.insert(name, node);
            }
            Ok(())
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.call(|world, how| {
            let (folder, name) = world.place(path)?;
            let written = if how == Work::Half { &bytes[..bytes.len() / 2] } else { bytes };
            let file = if let Ok(file) = world.file(path) {
                file
            } else {
                world.files.push(Kept::default());
                let file = world.files.len() - 1;
                world.folders[folder].now.insert(name, Node::File(file));
                file
            };
            world.files[file].now = written.to_vec();
            Ok(())
        })
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.call(|world, how| {
            let file = world.file(path)?;
            if how == Work::Whole {
                world.files[file].safe = world.files[file].now.clone();
            }
            Ok(())
        })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call(|world, how| {
            let folder = world.folder(path)?;
            if how == Work::Whole {
                world.folders[folder].safe = world.folders[folder].now.clone();
            }
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|world, how| {
            let node = world.find(from)?;
            let ((old_folder, old), (new_folder, new)) = (world.place(from)?, world.place(to)?);
            if let Ok(Node::Folder(there)) = world.find(to)
                && !world.folders[there].now.is_empty()
            {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            if how == Work::Whole {
                world.folders[old_folder].now.remove(&old);
                world.folders[new_folder].now.insert(new, node);
            }
            Ok(())
        })
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.call(|world, how| {
            let inside = world.folder(path)?;
            let (folder, name) = world.place(path)?;
            if how == Work::Half {
                // Interrupted half way: the first file is gone, the folder is still there.
                world.folders[inside].now.pop_first();
            } else {
                world.folders[inside].now.clear();
                world.folders[folder].now.remove(&name);
            }
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call(|world, how| {
            world.file(path)?;
            let (folder, name) = world.place(path)?;
            if how == Work::Whole {
                world.folders[folder].now.remove(&name);
            }
            Ok(())
        })
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.call(|world, _| {
            let folder = world.folder(path)?;
            Ok(world.folders[folder].now.keys().cloned().collect())
        })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call(|world, _| {
            let file = world.file(path)?;
            Ok(world.files[file].now.clone())
        })
    }
}
