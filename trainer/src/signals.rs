//! Interrupts: the first asks the run to finish its step and save, the second ends it at once.
//!
//! Exit codes, as shells have them: a run that was interrupted and saved ends with 128 plus the
//! signal's number, 130 for SIGINT (Ctrl-C) and 143 for SIGTERM; so does one that was ended at
//! once. In the first case `--resume` goes on after the very step, in the second at the last
//! checkpoint.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Why a run was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGINT: Ctrl-C.
    Interrupted,
    /// SIGTERM: a machine that shuts down, a job that is cancelled.
    Terminated,
}

impl Interrupt {
    /// The exit code of a run that saved and stopped: 130 or 143.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Signals {
    asked: Arc<AtomicUsize>,
    registered: Vec<SigId>,
}

impl Signals {
    /// Begins to listen. From now on a first SIGINT or SIGTERM does not end the process, a second
    /// one of either kind does.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        let (asked, is_second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut signals = Self { asked: asked.clone(), registered: Vec::new() };
        for (signal, interrupt, number) in
            [(SIGINT, Interrupt::Interrupted, 1), (SIGTERM, Interrupt::Terminated, 2)]
        {
            let code = i32::from(interrupt.exit_code());
            // In this order: the first signal finds the flag down and raises it.
            let ids = [
                flag::register_conditional_shutdown(signal, code, is_second.clone())?,
                flag::register(signal, is_second.clone())?,
                flag::register_usize(signal, asked.clone(), number)?,
            ];
            signals.registered.extend(ids);
        }
        Ok(signals)
    }

    /// Whether to finish the step, save and stop.
    pub fn asked(&self) -> Option<Interrupt> {
        match self.asked.load(Ordering::Relaxed) {
            1 => Some(Interrupt::Interrupted),
            2 => Some(Interrupt::Terminated),
            _ => None,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Set in the process that a test starts of itself.
    const CHILD: &str = "FT_TEST_SIGNALS_CHILD";

    /// Runs only this test again, as a process that listens, sends itself `signals`, and says
    /// what it was asked.
    fn child(signals: &str) -> (Option<i32>, String) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signals::tests::a_process_that_listens", "--nocapture"])
            .env(CHILD, signals)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn a_process_that_listens() {
        let Ok(signals) = std::env::var(CHILD) else { return };
        let listening = Signals::listen().unwrap();
        assert_eq!(listening.asked(), None);
        for signal in signals.split(' ') {
            signal_hook::low_level::raise(signal.parse().unwrap()).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
        let said = format!("asked: {:?}\n", listening.asked());
        io::Write::write_all(&mut io::stdout(), said.as_bytes()).unwrap();
    }

    #[test]
    fn the_first_signal_is_a_question_and_the_second_ends_the_process() {
        let (code, said) = child("2");
        assert_eq!(code, Some(0));
        assert!(said.contains("asked: Some(Interrupted)"), "{said}");
        let (code, said) = child("15");
        assert_eq!(code, Some(0));
        assert!(said.contains("asked: Some(Terminated)"), "{said}");

        let (code, said) = child("2 2");
        assert_eq!(code, Some(130));
        assert!(!said.contains("asked"), "{said}");
        assert_eq!(child("2 15").0, Some(143));
    }

    #[test]
    fn exit_codes_are_those_of_shells() {
        assert_eq!(Interrupt::Interrupted.exit_code(), 130);
        assert_eq!(Interrupt::Terminated.exit_code(), 143);
    }
}
