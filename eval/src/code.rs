//! Programs that a model wrote, run where they can do little.
//!
//! A program runs in a process of its own: in a user, process and network namespace without
//! interfaces, with limits on time, memory, file sizes and open files, with an empty environment, in
//! an empty folder that is removed afterwards. It can still read what its user can read, so this is a
//! fence and no prison: evaluate models of strangers in a machine of their own.

use std::fs;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Seconds of a processor that a program may take.
const CPU_SECONDS: u32 = 10;
/// Seconds that it may take in all.
const WALL: Duration = Duration::from_secs(15);
/// KiB of its memory.
const MEMORY_KIB: u32 = 2 << 20;
/// Blocks of 512 bytes of a file that it writes.
const FILE_BLOCKS: u32 = 8 << 10;
/// Files that it may have open.
const FILES: u32 = 64;
/// Processes of its user, its own included.
const PROCESSES: u32 = 64;

/// Whether a program may reach a network, where the system cannot keep it from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Then it is not run.
    Never,
    /// Then it is run all the same.
    IfItMust,
}

/// Why no program is run.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// No namespaces.
    #[error(
        "programs cannot be kept from the network here: `unshare` {problem}\n  = help: \
         `--allow-code-execution=with-network` runs them all the same; do so in a machine without a network"
    )]
    NoFence {
        /// What it said.
        problem: String,
    },
    /// No interpreter.
    #[error("programs are in Python, and `python3` cannot be run: {source}")]
    NoPython {
        /// The system's reason.
        source: io::Error,
    },
    /// No folder, no process.
    #[error("a program cannot be run: {0}")]
    System(#[from] io::Error),
}

/// Runs programs.
#[derive(Debug)]
pub struct Programs {
    fenced: bool,
}

impl Programs {
    /// Finds out what the system can do.
    ///
    /// # Errors
    ///
    /// If there is no Python, or no fence where one must be.
    pub fn new(network: Network) -> Result<Self, CodeError> {
        let python =
            Command::new("python3").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        python.map_err(|source| CodeError::NoPython { source })?;
        let probe = fence().args(["true"]).stdin(Stdio::null()).output();
        let problem = match probe {
            Ok(output) if output.status.success() => return Ok(Self { fenced: true }),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                format!("says `{}`", said.lines().next().unwrap_or("nothing").trim())
            }
            Err(error) => format!("cannot be run: {error}"),
        };
        match network {
            Network::Never => Err(CodeError::NoFence { problem }),
            Network::IfItMust => Ok(Self { fenced: false }),
        }
    }

    /// Whether programs are kept from the network.
    pub fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// Which programs end without an error, several at once.
    ///
    /// # Errors
    ///
    /// [`CodeError::System`] if one cannot even be begun.
    pub fn pass(&self, programs: &[String]) -> Result<Vec<bool>, CodeError> {
        let next = AtomicUsize::new(0);
        let passed: Mutex<Vec<Option<Result<bool, CodeError>>>> =
            Mutex::new(programs.iter().map(|_| None).collect());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(programs.len()) {
                scope.spawn(|| {
                    while let Some((at, program)) = {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        programs.get(at).map(|program| (at, program))
                    } {
                        let result = self.passes(program);
                        passed.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
                    }
                });
            }
        });
        let passed = passed.into_inner().unwrap_or_else(PoisonError::into_inner);
        passed.into_iter().map(|result| result.unwrap_or(Ok(false))).collect()
    }

    /// Whether a program ends in time and without an error.
    fn passes(&self, program: &str) -> Result<bool, CodeError> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("program.py");
        fs::write(&file, program)?;
        let mut command = if self.fenced { fence() } else { Command::new("nice") };
        // What a shell cannot limit here, it says and goes on without.
        let script = format!(
            "ulimit -t {CPU_SECONDS}; ulimit -v {MEMORY_KIB}; ulimit -f {FILE_BLOCKS}; ulimit -n {FILES}; \
             ulimit -c 0; ulimit -u {PROCESSES} 2>/dev/null; exec python3 -I -S -B program.py"
        );
        command
            .args(["sh", "-c", &script])
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let ended = wait(&mut child)?;
        Ok(ended.is_some_and(|status| status.success()))
    }
}

/// A command in namespaces of its own; its processes end with it.
fn fence() -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--net",
        "--ipc",
        "--pid",
        "--fork",
        "--kill-child",
    ]);
    command
}

/// The end of a process, or none if it must be ended.
fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    const POLL: Duration = Duration::from_millis(5);
    let begun = Instant::now();
    while begun.elapsed() < WALL {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(POLL);
    }
    // The whole group: a program may have started others.
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = child.kill();
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn run(programs: &[&str]) -> Option<Vec<bool>> {
        // Where there is no Python there is nothing to hold.
        let runner = Programs::new(Network::IfItMust).ok()?;
        let programs: Vec<String> = programs.iter().map(ToString::to_string).collect();
        Some(runner.pass(&programs).unwrap())
    }

    #[test]
    fn a_program_passes_if_it_ends_without_an_error() {
        let Some(passed) = run(&[
            "assert 1 + 1 == 2",
            "assert False",
            "raise SystemExit(3)",
            "(",
            "import os\nassert 'HOME' not in os.environ",
        ]) else {
            return;
        };
        assert_eq!(passed, [true, false, false, false, true]);
    }

    #[test]
    fn memory_files_and_the_network_are_limited() {
        let Some(passed) = run(&[
            "x = bytearray(3 << 30)",
            "open('big', 'wb').write(bytes(16 << 20))",
            "import socket\ns = socket.socket()\ns.settimeout(3)\ns.connect(('192.0.2.1', 80))",
        ]) else {
            return;
        };
        assert_eq!(passed, [false, false, false]);
    }

    #[test]
    fn what_a_program_writes_is_gone_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let program =
            format!("import os\nopen({:?}, 'w').write(os.getcwd())", mark.display().to_string());
        let Some(passed) = run(&[&program]) else { return };
        assert_eq!(passed, [true]);
        let place = fs::read_to_string(&mark).unwrap();
        assert!(!Path::new(&place).exists(), "{place}");
    }
}
