//! Times preparation: `cargo run --release -p ft-datasets --example prepare_rate -- FOLDER ROWS`
//! writes so many alpaca rows, prepares them with the tokenizer of `FOLDER` and says rows a second.
#![expect(clippy::print_stdout, reason = "an example")]

#[path = "../src/testing.rs"]
mod testing;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use ft_datasets::prepare::{PrepareOptions, prepare};
use ft_datasets::tokenizer::Tokenizer;
use ft_recipes::{DataSection, RowType};

/// Words of the rows; some 60 of them in each, as in Stanford's.
const WORDS: [&str; 12] = [
    "model",
    "write",
    "the",
    "colours",
    "of",
    "summer",
    "explain",
    "how",
    "rivers",
    "people",
    "and",
    "technology",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name a folder with a tokenizer.json")?;
    let rows: usize = arguments.next().unwrap_or_else(|| "20000".to_owned()).parse()?;
    let mut text = String::new();
    for row in 0..rows {
        let words = |from: usize, count: usize| -> String {
            (0..count)
                .map(|at| WORDS[(row * 7 + from + at * (row % 5 + 1)) % 12].to_owned() + " ")
                .collect()
        };
        let (instruction, output) = (words(0, 14), words(3, 46));
        writeln!(
            text,
            r#"{{"instruction":"{instruction}{row}","input":"","output":"{output}{row}"}}"#
        )?;
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("rows.jsonl");
    std::fs::write(&path, &text)?;
    let tokenizer = Tokenizer::from_folder(Path::new(&folder))?;
    let source = testing::source(&path.to_string_lossy(), RowType::Alpaca { style: None });
    let section = DataSection { sequence_len: 2048, ..testing::section(vec![source]) };
    let start = Instant::now();
    let prepared = prepare(&section, &tokenizer, PrepareOptions::default())?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{rows} rows, {} tokens in {seconds:.2} s: {:.0} rows/s on {} threads",
        prepared.report.train.tokens,
        rows as f64 / seconds,
        rayon::current_num_threads()
    );
    Ok(())
}
