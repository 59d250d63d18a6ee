//! The receipt: what survived, judged tensor by tensor and on rows, and whether it is enough.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use ft_model::Decoder;
use ft_model::export::{Judged, Judgement, Merged, TensorReceipt, judge};
use ft_trainer::manifest::FileDigest;
use serde::Serialize;

use crate::evaluate::base_of;
use crate::outgoing::{Outgoing, Sample};

/// A gain below this many nats a token is not measured by likelihood.
const LEAST_GAIN: f64 = 0.01;
/// Tensors that a refusal names.
const NAMED: usize = 5;

/// Everything that is said of a result.
#[derive(Debug, Serialize)]
pub(crate) struct Receipt {
    version: &'static str,
    model: String,
    base: String,
    format: String,
    output: String,
    /// Whether enough survived.
    passed: bool,
    /// Whether it was written although it did not pass.
    forced: bool,
    files: Vec<FileDigest>,
    encoding_seconds: f64,
    rows: RowsSeen,
    judged: JudgedAll,
    survival: Option<Survival>,
    /// Conversations that both templates render to the same ids.
    conversations_rendered_alike: usize,
    tensors: Vec<TensorReceipt>,
}

#[derive(Debug, Serialize)]
struct RowsSeen {
    from: String,
    rows: usize,
    tokens: usize,
}

/// Each stage on the same tokens; divergence and agreement are from base + adapter.
#[derive(Debug, Serialize)]
struct JudgedAll {
    base: Judgement,
    adapter: Option<Judgement>,
    merged: Option<Judgement>,
    exported: Judgement,
}

/// How much of what the adapter does is left.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Survival {
    share: f64,
    /// `gain`: of the log-likelihood; `divergence`: of the way from base to base + adapter, where the adapter gains
    /// nothing on these rows.
    by: &'static str,
    needed: f64,
}

/// What was written, for the receipt.
pub(crate) struct Outcome<'a> {
    pub(crate) format: String,
    pub(crate) tensors: Vec<TensorReceipt>,
    pub(crate) encoding: Duration,
    /// The model as it was read back.
    pub(crate) exported: &'a Decoder,
    pub(crate) rendered_alike: usize,
}

impl Receipt {
    /// Judges base, base + adapter, merged and exported.
    pub(crate) fn new(
        outgoing: &Outgoing,
        sample: &Sample,
        outcome: Outcome<'_>,
        output: &Path,
        needed: f64,
    ) -> Result<Self> {
        let tuned = &outgoing.decoder;
        let positions = &sample.positions;
        let base = base_of(tuned);
        let judged = if outgoing.is_trained() {
            let merged = Merged(tuned);
            let all: [&dyn Judged; 4] = [tuned, &base, &merged, outcome.exported];
            let found = judge(&all, positions)?;
            JudgedAll {
                adapter: Some(found[0]),
                base: found[1],
                merged: Some(found[2]),
                exported: found[3],
            }
        } else {
            let found = judge(&[tuned as &dyn Judged, outcome.exported], positions)?;
            JudgedAll { base: found[0], adapter: None, merged: None, exported: found[1] }
        };
        if !judged.exported.mean_log_likelihood.is_finite() {
            bail!("the written model gives no likelihood for the sample rows");
        }
        let survival = judged.adapter.map(|adapter| survival(&adapter, &judged, needed));
        let passed = survival.as_ref().is_none_or(|survival| survival.share >= survival.needed);
        let mut tensors = outcome.tensors;
        tensors.sort_by(|a, b| a.correlation.total_cmp(&b.correlation));
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            model: outgoing.name.clone(),
            base: outgoing.path.display().to_string(),
            format: outcome.format,
            output: output.display().to_string(),
            passed,
            forced: false,
            files: Vec::new(),
            encoding_seconds: outcome.encoding.as_secs_f64(),
            rows: RowsSeen {
                from: sample.from.clone(),
                rows: positions.rows(),
                tokens: positions.len(),
            },
            judged,
            survival,
            conversations_rendered_alike: outcome.rendered_alike,
            tensors,
        })
    }

    pub(crate) fn passed(&self) -> bool {
        self.passed
    }

    /// Notes the files that were written.
    pub(crate) fn written(&mut self, files: Vec<FileDigest>, forced: bool) {
        self.files = files;
        self.forced = forced;
    }

    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let RowsSeen { from, rows, tokens } = &self.rows;
        let mut text = format!("judged on {tokens} tokens of {rows} {from}\n");
        let mut line = |name: &str, it: &Judgement, apart: bool| {
            let _ =
                write!(text, "  {name:<15} log-likelihood {:>9.4} a token", it.mean_log_likelihood);
            if apart {
                let _ = write!(
                    text,
                    "   KL {:.2e}   same first choice {:.1} %",
                    it.divergence,
                    100.0 * it.agreement
                );
            }
            text.push('\n');
        };
        let judged = &self.judged;
        line("base", &judged.base, judged.adapter.is_some());
        if let (Some(adapter), Some(merged)) = (&judged.adapter, &judged.merged) {
            line("base + adapter", adapter, false);
            line("merged", merged, true);
        }
        line("exported", &judged.exported, true);
        if !self.tensors.is_empty() {
            let middle = |of: fn(&TensorReceipt) -> f64| {
                let mut all: Vec<f64> = self.tensors.iter().map(of).collect();
                all.sort_by(f64::total_cmp);
                all[all.len() / 2]
            };
            let _ = writeln!(
                text,
                "{} changed tensors, in the middle: step {:.2} times the change, {:.1} % of codes changed, \
                 correlation of the surviving change {:.4} (least {:.4}, `{}`)",
                self.tensors.len(),
                middle(|it| it.step_over_change),
                100.0 * middle(|it| it.changed_codes),
                middle(|it| it.correlation),
                self.tensors[0].correlation,
                self.tensors[0].name
            );
        }
        if let Some(survival) = &self.survival {
            let _ = writeln!(
                text,
                "{:.1} % of the adapter's {} survive{} ({:.0} % needed)",
                100.0 * survival.share,
                survival.by,
                if survival.by == "gain" { "s" } else { "" },
                100.0 * survival.needed
            );
        }
        text
    }

    /// Why the result is not written, and what would be.
    pub(crate) fn refusal(&self) -> String {
        let share = self.survival.as_ref().map_or(0.0, |survival| survival.share);
        let needed = self.survival.as_ref().map_or(0.0, |survival| survival.needed);
        let worst: Vec<String> = self
            .tensors
            .iter()
            .take(NAMED)
            .map(|it| {
                format!(
                    "`{}` ({}: step {:.1} times the change, correlation {:.3})",
                    it.name, it.format, it.step_over_change, it.correlation
                )
            })
            .collect();
        let more = self.tensors.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!(
            "{:.1} % of what the adapter gained survives in {}, and {:.0} % must; most is lost in {}{more}\n  = help: \
             `--format q8_0` keeps it; so does `--protect`, which writes the changed tensors as Q8_0 and all others as \
             asked\n  = help: or keep the adapter beside its base: `ft export --adapter-only`, `ft chat`\n  = help: \
             `--force` writes it all the same",
            100.0 * share,
            self.format,
            100.0 * needed,
            worst.join(", ")
        )
    }
}

fn survival(adapter: &Judgement, judged: &JudgedAll, needed: f64) -> Survival {
    let gain = adapter.mean_log_likelihood - judged.base.mean_log_likelihood;
    if gain >= LEAST_GAIN {
        let kept = judged.exported.mean_log_likelihood - judged.base.mean_log_likelihood;
        return Survival { share: (kept / gain).max(0.0), by: "gain", needed };
    }
    let way = judged.base.divergence;
    let left = if way > 0.0 { judged.exported.divergence / way } else { 0.0 };
    let share = (1.0 - left).max(0.0);
    Survival { share, by: "divergence", needed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgement(mean_log_likelihood: f64, divergence: f64) -> Judgement {
        Judgement { tokens: 10, mean_log_likelihood, divergence, agreement: 1.0 }
    }

    #[test]
    fn survival_is_the_share_of_the_gain_and_of_the_way_where_there_is_none() {
        let judged = |exported| JudgedAll {
            base: judgement(-2.0, 0.5),
            adapter: None,
            merged: None,
            exported,
        };
        let found = survival(&judgement(-1.0, 0.0), &judged(judgement(-1.3, 0.1)), 0.8);
        assert!((found.share - 0.7).abs() < 1e-12 && found.by == "gain");
        let found = survival(&judgement(-2.0, 0.0), &judged(judgement(-2.0, 0.1)), 0.8);
        assert!((found.share - 0.8).abs() < 1e-12 && found.by == "divergence");
    }
}
