//! A file of rows with faults at known lines, and what a cleaner made of it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use ft_datasets::clean::{Output, Plan, clean};
use ft_recipes::CleanSection;
use serde_json::Value;

use crate::faults::{BESIDE, FAULTS, beside};
use crate::rows::{self, Random, Row, shaped};

/// The fault and the rule that should find it, by line from 1.
pub(crate) type Planted = BTreeMap<u64, (&'static str, &'static str)>;

/// Writes `count` rows, three in ten with a fault, and says which.
pub(crate) fn write(path: &Path, count: usize, seed: u64) -> Result<Planted, Box<dyn Error>> {
    let mut random = Random(seed);
    let (mut file, mut planted, mut good) = (Vec::new(), Planted::new(), Vec::new());
    let kinds = FAULTS.len() + BESIDE.len();
    for number in 1..=count {
        let row = rows::clean(&mut random, number);
        let line = u64::try_from(number)?;
        let kind = if random.below(10) < 7 { usize::MAX } else { random.below(kinds) };
        let mut bytes = if let Some(fault) = FAULTS.get(kind) {
            planted.insert(line, (fault.name, fault.rule));
            fault.apply(&mut random, row)
        } else if let Some((row, shape)) = beside_one(kind, &mut random, &mut good) {
            planted.insert(line, BESIDE[kind - FAULTS.len()]);
            shaped(&row, shape).to_string().into()
        } else {
            let shape = random.below(5);
            good.push((row.clone(), shape));
            shaped(&row, shape).to_string().into()
        };
        file.append(&mut bytes);
        file.push(b'\n');
    }
    fs::write(path, file)?;
    Ok(planted)
}

/// A row with a fault that stands beside one of the good rows, which serves for no other fault.
fn beside_one(
    kind: usize,
    random: &mut Random,
    good: &mut Vec<(Row, usize)>,
) -> Option<(Row, usize)> {
    let kind = kind.checked_sub(FAULTS.len()).filter(|kind| *kind < BESIDE.len())?;
    let start = random.below(good.len());
    let found = (0..good.len()).map(|at| (start + at) % good.len()).find_map(|at| {
        let (row, shape) = &good[at];
        beside(kind, random, row.clone()).map(|row| (at, row, *shape))
    });
    let (at, row, shape) = found?;
    good.swap_remove(at);
    Some((row, shape))
}

/// What became of the rows with a fault, and of those without.
#[derive(Default)]
pub(crate) struct Score {
    /// By fault: rows, found by its rule, found by any rule.
    pub(crate) faults: BTreeMap<(&'static str, &'static str), [u32; 3]>,
    /// By rule: rows that it spoke of, and how many of those have its fault.
    pub(crate) rules: BTreeMap<String, [u32; 2]>,
    /// Lines whose fault nobody found.
    pub(crate) unseen: Vec<(u64, &'static str)>,
    pub(crate) good: u32,
    /// Good rows that were dropped.
    pub(crate) lost: Vec<String>,
    /// Good rows that were changed.
    pub(crate) changed: Vec<String>,
}

/// Cleans a file into a folder with the default rules and so many threads.
pub(crate) fn run(input: &Path, folder: &Path, threads: usize) -> Result<Output, Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let output = Output::beside(&folder.join("out.jsonl"));
    let mut plan = Plan::from_section(&CleanSection::default(), None)?;
    plan.threads = std::num::NonZeroUsize::new(threads);
    clean(&[input.to_owned()], &mut plan, &output, &mut |_| ())?;
    Ok(output)
}

/// Compares what was planted with what was found.
pub(crate) fn score(
    planted: &Planted,
    count: usize,
    output: &Output,
) -> Result<Score, Box<dyn Error>> {
    let mut said: BTreeMap<u64, Vec<(String, bool, String)>> = BTreeMap::new();
    for line in fs::read_to_string(&output.dropped)?.lines() {
        let entry: Value = serde_json::from_str(line)?;
        let number = entry["line"].as_u64().ok_or("a dropped row without a line")?;
        let rule = entry["rule"].as_str().unwrap_or_default().to_owned();
        said.entry(number).or_default().push((rule, true, line.chars().take(300).collect()));
    }
    for line in fs::read_to_string(&output.kept)?.lines() {
        let entry: Value = serde_json::from_str(line)?;
        let facts = &entry["_provenance"];
        let number = facts["line"].as_u64().ok_or("a kept row without a line")?;
        for repair in facts["repairs"].as_array().into_iter().flatten() {
            let rule = repair["rule"].as_str().unwrap_or_default().to_owned();
            said.entry(number).or_default().push((rule, false, line.chars().take(300).collect()));
        }
    }
    let mut score = Score::default();
    for number in 1..=u64::try_from(count)? {
        let found = said.get(&number).map(Vec::as_slice).unwrap_or_default();
        let fault = planted.get(&number);
        for (rule, ..) in found {
            let [all, right] = score.rules.entry(rule.clone()).or_default();
            *all += 1;
            *right += u32::from(fault.is_some_and(|(_, wanted)| wanted == rule));
        }
        let Some(&(name, rule)) = fault else {
            score.good += 1;
            match found.iter().find(|(_, dropped, _)| *dropped).or(found.first()) {
                Some((_, true, line)) => score.lost.push(line.clone()),
                Some((_, false, line)) => score.changed.push(line.clone()),
                None => {}
            }
            continue;
        };
        let [all, by_rule, by_any] = score.faults.entry((rule, name)).or_default();
        *all += 1;
        *by_rule += u32::from(found.iter().any(|(found, ..)| found == rule));
        *by_any += u32::from(!found.is_empty());
        if found.is_empty() {
            score.unseen.push((number, name));
        }
    }
    Ok(score)
}

impl Score {
    /// Faults of which less than 95 in 100 were found by their rule.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        let poor = |[all, right, _]: &[u32; 3]| right * 100 < all * 95;
        self.faults.iter().filter(|(_, counts)| poor(counts)).map(|((_, name), _)| *name).collect()
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<14} {:<28} {:>6} {:>8} {:>8}\n",
            "rule", "fault", "rows", "recall", "by any"
        );
        let share = |part: u32, all: u32| 100.0 * f64::from(part) / f64::from(all.max(1));
        for ((rule, name), [all, right, any]) in &self.faults {
            let (right, any) = (share(*right, *all), share(*any, *all));
            let _ = writeln!(text, "{rule:<14} {name:<28} {all:>6} {right:>7.1}% {any:>7.1}%");
        }
        let _ = writeln!(text, "\n{:<14} {:>6} {:>10}", "rule", "said", "precision");
        for (rule, [all, right]) in &self.rules {
            let _ = writeln!(text, "{rule:<14} {all:>6} {:>9.1}%", share(*right, *all));
        }
        let _ = writeln!(
            text,
            "\ngood rows {}: {} lost ({:.2} %), {} changed",
            self.good,
            self.lost.len(),
            share(u32::try_from(self.lost.len()).unwrap_or(u32::MAX), self.good),
            self.changed.len()
        );
        text
    }
}
