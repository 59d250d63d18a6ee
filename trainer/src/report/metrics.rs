//! `metrics.jsonl`: one JSON object a line, one line a logged step or an evaluation.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A logged step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Steps done, this one included.
    pub step: u64,
    /// Passes over the rows done.
    pub epoch: f64,
    /// Mean over the label tokens of the step.
    pub loss: f64,
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Rate of the update.
    pub learning_rate: f64,
    /// Tokens seen so far.
    pub tokens: u64,
    /// Tokens learned from so far.
    pub label_tokens: u64,
    /// Tokens a second in this step. Differs from run to run.
    pub tokens_per_second: f64,
    /// Most memory held so far. Differs from run to run.
    pub peak_memory_bytes: u64,
    /// How long the step took. Differs from run to run.
    pub step_seconds: f64,
}

/// An evaluation on the held-out rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeldOutLine {
    /// Steps done.
    pub step: u64,
    /// Passes over the rows done.
    pub epoch: f64,
    /// Mean over the label tokens of the held-out rows.
    pub held_out_loss: f64,
    /// How long it took. Differs from run to run.
    pub held_out_seconds: f64,
}

/// A line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A logged step.
    Step(StepLine),
    /// An evaluation.
    HeldOut(HeldOutLine),
}

/// Why the metrics cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} `{}`: {source}", path.display())]
pub struct MetricsError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The open file.
#[derive(Debug)]
pub struct Metrics {
    file: File,
    path: PathBuf,
}

impl Metrics {
    /// Opens the file for a run that goes on after `resumed` steps, or begins (absent).
    ///
    /// Lines of later steps, and one that was cut short by a crash, are removed: they will be
    /// written again. So the file of a resumed run is that of an uninterrupted one, apart from
    /// the fields that measure time and memory. For this a step must be evaluated before it is
    /// saved, and [`Metrics::sync`] come before the checkpoint.
    ///
    /// # Errors
    ///
    /// The file system refused.
    pub fn open(path: &Path, resumed: Option<u64>) -> Result<Self, MetricsError> {
        let failed = |doing| move |source| MetricsError { doing, path: path.to_owned(), source };
        let there = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("read")(error)),
        };
        let kept = resumed.map_or_else(Vec::new, |step| until(&there, step));
        if kept != there {
            // Beside and renamed: a crash leaves the old file or the new one.
            let beside = path.with_extension("jsonl.tmp");
            fs::write(&beside, kept).map_err(failed("write"))?;
            fs::rename(&beside, path).map_err(failed("replace"))?;
        }
        let file = File::options().create(true).append(true).open(path);
        Ok(Self { file: file.map_err(failed("open"))?, path: path.to_owned() })
    }

    /// Adds a line, in one call.
    ///
    /// # Errors
    ///
    /// The file system refused.
    pub fn write(&mut self, line: &Line) -> Result<(), MetricsError> {
        let mut text = serde_json::to_string(line).expect("numbers are JSON");
        text.push('\n');
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|source| self.failed("write", source))
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    ///
    /// The file system refused.
    pub fn sync(&self) -> Result<(), MetricsError> {
        self.file.sync_all().map_err(|source| self.failed("sync", source))
    }

    /// All lines of a file; a line that is none is left out.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(path: &Path) -> Result<Vec<Line>, MetricsError> {
        let failed = |source| MetricsError { doing: "read", path: path.to_owned(), source };
        let bytes = fs::read(path).map_err(failed)?;
        let lines = bytes.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> MetricsError {
        MetricsError { doing, path: self.path.clone(), source }
    }
}

/// The whole lines of steps up to `step`.
fn until(bytes: &[u8], step: u64) -> Vec<u8> {
    let is_kept = |line: &&[u8]| {
        let value: Option<serde_json::Value> = serde_json::from_slice(line).ok();
        let of = value.as_ref().and_then(|value| value.get("step")?.as_u64());
        line.ends_with(b"\n") && of.is_some_and(|of| of <= step)
    };
    bytes.split_inclusive(|byte| *byte == b'\n').filter(is_kept).flatten().copied().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn step_line(step: u64) -> StepLine {
        StepLine {
            step,
            epoch: step as f64 / 4.0,
            loss: 2.0 / step as f64,
            grad_norm: 0.5,
            learning_rate: 2e-4,
            tokens: 100 * step,
            label_tokens: 10 * step,
            tokens_per_second: 3100.0,
            peak_memory_bytes: 1 << 30,
            step_seconds: 0.25,
        }
    }

    pub(crate) fn held_out_line(step: u64) -> HeldOutLine {
        HeldOutLine { step, epoch: 1.0, held_out_loss: 1.5, held_out_seconds: 2.0 }
    }

    fn write(path: &Path, resumed: Option<u64>, steps: std::ops::RangeInclusive<u64>) {
        let mut metrics = Metrics::open(path, resumed).unwrap();
        for step in steps {
            metrics.write(&Line::Step(step_line(step))).unwrap();
            if step.is_multiple_of(2) {
                metrics.write(&Line::HeldOut(held_out_line(step))).unwrap();
            }
        }
    }

    #[test]
    fn a_line_has_the_promised_fields_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        write(&path, None, 2..=2);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"step\":2,\"epoch\":0.5,\"loss\":1.0,\"grad_norm\":0.5,\"learning_rate\":0.0002,\
             \"tokens\":200,\"label_tokens\":20,\"tokens_per_second\":3100.0,\
             \"peak_memory_bytes\":1073741824,\"step_seconds\":0.25}\n\
             {\"step\":2,\"epoch\":1.0,\"held_out_loss\":1.5,\"held_out_seconds\":2.0}\n"
        );
        Metrics::open(&path, Some(2)).unwrap().sync().unwrap();
        let lines = Metrics::read(&path).unwrap();
        assert_eq!(lines, [Line::Step(step_line(2)), Line::HeldOut(held_out_line(2))]);
    }

    #[test]
    fn wherever_the_file_was_cut_a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, path) = (folder.path().join("whole"), folder.path().join("metrics.jsonl"));
        write(&whole, None, 1..=6);
        let expected = fs::read(&whole).unwrap();
        let lines: Vec<&[u8]> = expected.split_inclusive(|byte| *byte == b'\n').collect();
        // Steps 1 and 2 with its evaluation were on the disk when checkpoint 2 was made.
        let safe: usize = lines[..3].iter().map(|line| line.len()).sum();
        for cut in safe..=expected.len() {
            fs::write(&path, &expected[..cut]).unwrap();
            write(&path, Some(2), 3..=6);
            assert!(fs::read(&path).unwrap() == expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_run_that_begins_again_has_no_lines_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        write(&path, None, 1..=6);
        write(&path, None, 1..=1);
        assert_eq!(Metrics::read(&path).unwrap(), [Line::Step(step_line(1))]);
    }
}
