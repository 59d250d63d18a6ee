//! Time of each cleaning rule on the rows of a file, on one thread, and rows a second of all of
//! cleaning: `cargo run --release -p ft-datasets --example clean_rate -- FILE [THREADS]`.
#![expect(clippy::print_stdout, reason = "a report")]

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ft_datasets::clean::{Output, Plan, Record, Verdict, clean};
use ft_datasets::source::{self, Limits};
use ft_recipes::CleanSection;

/// Rows that rules are timed on.
const TIMED: usize = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = PathBuf::from(arguments.next().ok_or("name a file of rows")?);
    let threads = arguments.next().map_or(Ok(2), |text| text.parse::<usize>())?;
    let off = "conflicts: off\nnear_duplicates: off";
    let section = CleanSection::parse(off, Path::new("clean.yaml"), &[])?;
    let mut plan = Plan::from_section(&section, None)?;
    by_rule(&file, &plan)?;
    plan.threads = NonZeroUsize::new(threads);
    let folder = tempfile::tempdir()?;
    let output = Output::beside(&folder.path().join("out.jsonl"));
    let start = Instant::now();
    let summary = clean(&[file], &mut plan, &output, &mut |_| ())?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} rows, {} kept, {seconds:.2} s on {threads} threads: {:.0} rows/s",
        summary.rows,
        summary.kept,
        summary.rows as f64 / seconds
    );
    Ok(())
}

fn by_rule(file: &Path, plan: &Plan) -> Result<(), Box<dyn Error>> {
    let mut records = Vec::new();
    let start = Instant::now();
    for row in source::file(file, None, Limits::default())?.take(TIMED) {
        let Ok(row) = row else { continue };
        records.extend(Record::open(row.fields, row.at));
    }
    let count = records.len().max(1);
    let line = |name: &str, time: Duration| {
        println!("{name:<14} {:>8.2} µs a row", time.as_secs_f64() * 1e6 / count as f64);
    };
    line("read and open", start.elapsed());
    for rule in &plan.rules {
        let start = Instant::now();
        records.retain_mut(|record| !matches!(rule.judge(record), Verdict::Drop(_)));
        line(rule.name(), start.elapsed());
    }
    for stage in &plan.stages {
        let start = Instant::now();
        let bytes: usize = records.iter().map(|record| stage.sign(record).len()).sum();
        line(stage.name(), start.elapsed());
        assert!(bytes > 0 || records.is_empty(), "a signature of nothing");
    }
    let start = Instant::now();
    let written: usize = records
        .into_iter()
        .map(|record| serde_json::Value::Object(record.into_fields()).to_string().len())
        .sum();
    line("write", start.elapsed());
    println!("{written} bytes");
    Ok(())
}
