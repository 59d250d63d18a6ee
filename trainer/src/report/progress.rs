//! The progress line: rewritten in place on a terminal, a plain line a logged step elsewhere.
//!
//! It has no colours, so `NO_COLOR` has nothing to turn off.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Weight of the newest step in the mean time of one.
const NEWEST: f64 = 0.1;

/// What the line shows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Shown {
    /// Steps done.
    pub step: u64,
    /// Loss of the last one.
    pub loss: f64,
    /// The last held-out loss.
    pub held_out_loss: Option<f64>,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Most memory held.
    pub peak_memory_bytes: u64,
    /// How long the last step took.
    pub step_seconds: f64,
}

/// Shows how far a run is, on standard error.
#[derive(Debug)]
pub struct Progress {
    total_steps: u64,
    bar: Option<ProgressBar>,
    mean_seconds: Option<f64>,
}

impl Progress {
    /// One that suits standard error.
    pub fn new(total_steps: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(total_steps), ProgressDrawTarget::stderr());
            bar.with_style(ProgressStyle::with_template("{wide_msg}").expect("a known key"))
        });
        Self { total_steps, bar, mean_seconds: None }
    }

    /// A step is done; `is_logged` says whether it is one of those that `metrics.jsonl` has.
    pub fn step(&mut self, shown: &Shown, is_logged: bool) {
        let mean = self.mean_seconds.unwrap_or(shown.step_seconds);
        let mean = mean + NEWEST * (shown.step_seconds - mean);
        self.mean_seconds = Some(mean);
        let text = line(shown, self.total_steps, mean);
        match &self.bar {
            Some(bar) => {
                bar.set_position(shown.step);
                bar.set_message(text);
            }
            None if is_logged => print(&text),
            None => {}
        }
    }

    /// Says something above the line.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print(text)),
            None => print(text),
        }
    }

    /// Leaves the last line standing.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// To standard error. That it is closed is no reason to stop training.
fn print(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `step 120/640  loss 1.472  held out 1.518  3.1k tok/s  11.2 GiB  eta 42 min`
fn line(shown: &Shown, total_steps: u64, mean_seconds: f64) -> String {
    let mut parts =
        vec![format!("step {}/{total_steps}", shown.step), format!("loss {:.3}", shown.loss)];
    if let Some(loss) = shown.held_out_loss {
        parts.push(format!("held out {loss:.3}"));
    }
    parts.push(format!("{} tok/s", thousands(shown.tokens_per_second)));
    parts.push(memory(shown.peak_memory_bytes));
    let left = total_steps.saturating_sub(shown.step) as f64 * mean_seconds;
    if left > 0.0 {
        parts.push(format!("eta {}", duration(left)));
    }
    parts.join("  ")
}

/// `3.1k`
pub(super) fn thousands(number: f64) -> String {
    if number < 1e3 {
        format!("{number:.0}")
    } else if number < 1e6 {
        format!("{:.1}k", number / 1e3)
    } else {
        format!("{:.1}M", number / 1e6)
    }
}

/// `11.2 GiB`
pub(super) fn memory(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 {
        format!("{mebibytes:.0} MiB")
    } else {
        format!("{:.1} GiB", mebibytes / 1024.0)
    }
}

/// `42 min`
pub(super) fn duration(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_where_the_run_is_and_how_long_it_still_takes() {
        let mut shown = Shown {
            step: 120,
            loss: 1.472,
            held_out_loss: Some(1.518),
            tokens_per_second: 3120.0,
            peak_memory_bytes: 12_025_908_429,
            step_seconds: 4.9,
        };
        assert_eq!(
            line(&shown, 640, 4.9),
            "step 120/640  loss 1.472  held out 1.518  3.1k tok/s  11.2 GiB  eta 42 min"
        );
        shown.held_out_loss = None;
        shown.step = 640;
        assert_eq!(line(&shown, 640, 4.9), "step 640/640  loss 1.472  3.1k tok/s  11.2 GiB");
    }

    #[test]
    fn quantities_are_short_at_every_size() {
        assert_eq!([12.4, 999_949.0, 2e6].map(thousands), ["12", "999.9k", "2.0M"]);
        assert_eq!([5 << 20, 3 << 29].map(memory), ["5 MiB", "1.5 GiB"]);
        let times = [119.0, 120.0, 7199.0, 7260.0, 200_000.0].map(duration);
        assert_eq!(times, ["119 s", "2 min", "119 min", "2 h 01 min", "2 d 7 h"]);
        assert_eq!(duration(f64::NAN), duration(f64::INFINITY));
    }
}
