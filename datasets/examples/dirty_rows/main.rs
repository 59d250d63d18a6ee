//! Dirties rows with every known fault at known lines, cleans them by all default rules, and prints
//! precision and recall: `cargo run --release --workspace --example dirty_rows -- [ROWS [SEED
//! [FOLDER]]]`. `FOLDER` keeps the rows, what was planted in which line (`planted.jsonl`), and what
//! came of it.
#![expect(clippy::print_stdout, reason = "a report")]

mod faults;
mod generator;
mod phrases;
mod rows;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let seed = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let folder: PathBuf =
        arguments.next().map_or_else(|| std::env::temp_dir().join("dirty-rows"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let input = folder.join("rows.jsonl");
    let planted = generator::write(&input, count, seed)?;
    let lines: Vec<String> = planted
        .iter()
        .map(|(line, (fault, rule))| {
            format!("{{\"line\":{line},\"rule\":\"{rule}\",\"fault\":\"{fault}\"}}\n")
        })
        .collect();
    std::fs::write(folder.join("planted.jsonl"), lines.concat())?;
    let start = Instant::now();
    let two = generator::run(&input, &folder.join("two"), 2)?;
    let seconds = start.elapsed().as_secs_f64();
    let one = generator::run(&input, &folder.join("one"), 1)?;
    let score = generator::score(&planted, count, &two)?;
    println!("{}", score.table());
    for line in score.lost.iter().chain(&score.changed).take(20) {
        println!("good row touched: {line}");
    }
    for (line, fault) in score.unseen.iter().take(20) {
        println!("not found: line {line}, {fault}");
    }
    let same = [(&one.kept, &two.kept), (&one.dropped, &two.dropped)]
        .iter()
        .all(|(one, two)| std::fs::read(one).ok() == std::fs::read(two).ok());
    println!("1 and 2 threads: {}", if same { "the same bytes" } else { "DIFFERENT BYTES" });
    println!("{count} rows in {seconds:.2} s on 2 threads: {:.0} rows/s", count as f64 / seconds);
    let lost = score.lost.len() * 1000 > score.good as usize;
    if !same || lost || !score.missed().is_empty() {
        return Err(format!("missed: {:?}; rows lost: {lost}", score.missed()).into());
    }
    Ok(())
}
