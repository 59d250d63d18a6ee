//! Files to examples: what is kept, what is dropped and counted, and what is an error.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "../src/testing.rs"]
mod testing;

use std::path::{Path, PathBuf};

use ft_datasets::encode::Example;
use ft_datasets::loader::{Loader, RunLength};
use ft_datasets::prepare::{DataError, DropReason, PrepareOptions, Prepared, prepare};
use ft_datasets::tokenizer::Tokenizer;
use ft_recipes::{ChatTemplate, DataSection, HeldOut, LongRows, RowType, TrainOn};
use serde_json::{Value, json};
use testing::{section, source};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, rows: &[Value]) -> String {
        let text: String = rows.iter().fold(String::new(), |text, row| text + &format!("{row}\n"));
        self.text(name, &text)
    }

    fn text(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A message without the folder's own path.
    fn short(&self, error: &DataError) -> String {
        error.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn tokenizer() -> Tokenizer {
    common::tokenizer("<s>", "</s>", true)
}

fn ready(section: &DataSection) -> Prepared {
    prepare(section, &tokenizer(), PrepareOptions::default()).unwrap()
}

fn refused(section: &DataSection) -> DataError {
    prepare(section, &tokenizer(), PrepareOptions::default()).unwrap_err()
}

fn tokens(ids: &[u32]) -> Value {
    json!({"input_ids": ids})
}

/// Rows of tokens `[n, n + 1, n + 2]`.
fn numbered(count: u32) -> Vec<Value> {
    (0..count).map(|n| tokens(&[n, n + 1, n + 2])).collect()
}

fn pre_tokenized(path: &str) -> DataSection {
    section(vec![source(path, RowType::PreTokenized)])
}

fn chat(path: &str) -> DataSection {
    let chat_template = ChatTemplate::BuiltIn("chatml".to_owned());
    DataSection { chat_template, ..section(vec![source(path, RowType::ChatTemplate)]) }
}

fn line_of(place: &impl ToString) -> usize {
    place.to_string().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn alpaca_rows_become_steps() {
    let folder = Folder::new();
    let rows: Vec<Value> = (0..20)
        .map(|n| json!({"instruction": format!("Say {n}"), "output": format!("It is {n}.")}))
        .collect();
    let path = folder.write("rows.jsonl", &rows);
    let section = DataSection {
        sample_packing: true,
        ..section(vec![source(&path, RowType::Alpaca { style: None })])
    };
    let prepared = ready(&section);
    assert_eq!(prepared.train.len(), 20);
    let tokenizer = tokenizer();
    for (example, at) in prepared.train.iter().zip(&prepared.train_origins) {
        let trained: Vec<u32> = (0..example.len())
            .filter(|at| example.weights[*at] > 0.0)
            .map(|at| example.ids[at])
            .collect();
        let text = tokenizer.decode_with_special(&trained);
        assert_eq!(text, format!("It is {}.</s>", line_of(at) - 1));
        assert_eq!(example.ids[0], tokenizer.bos().unwrap());
    }
    let loader = Loader::new(prepared.train, &section, 1, 2, RunLength::Epochs(1.0), 42);
    let mut seen: Vec<usize> = (0..loader.steps_total())
        .flat_map(|step| loader.step(step))
        .flat_map(|batch| batch.rows)
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

#[test]
fn chat_rows_train_the_answers_and_their_ends() {
    let folder = Folder::new();
    let row = |n: usize| {
        json!({"messages": [{"role": "user", "content": format!("q{n}")},
                            {"role": "assistant", "content": format!("a{n}")}]})
    };
    let path = folder.write("rows.jsonl", &[row(0), row(1), row(2)]);
    let tokenizer = common::tokenizer("<s>", "<|im_end|>", false);
    let prepared = prepare(&chat(&path), &tokenizer, PrepareOptions::default()).unwrap();
    for (example, at) in prepared.train.iter().zip(&prepared.train_origins) {
        let trained: Vec<u32> = (0..example.len())
            .filter(|at| example.weights[*at] > 0.0)
            .map(|at| example.ids[at])
            .collect();
        let text = tokenizer.decode_with_special(&trained);
        assert!(text.starts_with(&format!("a{}<|im_end|>", line_of(at) - 1)), "{text}");
    }
    let report = &prepared.report;
    assert_eq!((report.datasets[0].rows_read, report.train.rows), (3, 3));
    assert_eq!(report.files[0].sha256.len(), 64);
}

#[test]
fn every_dropped_row_is_counted_with_its_reason() {
    let folder = Folder::new();
    let rows = [
        tokens(&[1, 2, 3]),
        tokens(&[1; 600]),
        tokens(&[7]),
        json!({"input_ids": [1, 2, 3], "labels": [-100, -100, -100]}),
        json!({"input_ids": [1, 2, 3], "labels": [1, -100, -100]}),
        tokens(&[1, 2, 3]),
    ];
    let path = folder.write("rows.jsonl", &rows);
    let section = DataSection { exact_deduplication: true, ..pre_tokenized(&path) };
    let report = ready(&section).report;
    let set = &report.datasets[0];
    assert_eq!((set.rows_read, set.kept), (6, 2));
    assert_eq!(set.dropped_for(DropReason::Long), 1);
    assert_eq!(set.dropped_for(DropReason::Short), 1);
    assert_eq!(set.dropped_for(DropReason::Untrained), 2);
    assert_eq!(report.duplicates.count, 1);
    assert_eq!(set.dropped[0].rows.first, [format!("{path}:2")]);
    assert_eq!((report.train.rows, report.train.tokens, report.train.longest), (1, 3, 3));
    let back = serde_json::from_str(&serde_json::to_string(&report).unwrap());
    assert_eq!(report, back.unwrap());
}

#[test]
fn long_rows_are_dropped_cut_or_an_error_as_the_recipe_says() {
    let folder = Folder::new();
    let path = folder.write("rows.jsonl", &[tokens(&[1; 600]), tokens(&[2; 9])]);
    let section = |long_rows| DataSection { long_rows, ..pre_tokenized(&path) };
    let cut = ready(&section(LongRows::Truncate));
    let mut lengths: Vec<usize> = cut.train.iter().map(Example::len).collect();
    lengths.sort_unstable();
    assert_eq!((lengths, cut.report.datasets[0].truncated.count), (vec![9, 512], 1));
    assert_eq!(
        folder.short(&refused(&section(LongRows::Raise))),
        "1 rows are longer than `sequence_len: 512`:\n  rows.jsonl:1: row has 600 tokens, \
         `sequence_len` is 512\n  = help: raise `sequence_len`, or set `excess_length_strategy: drop`"
    );
}

#[test]
fn the_last_part_of_the_shuffled_rows_is_held_out() {
    let folder = Folder::new();
    let path = folder.write("rows.jsonl", &numbered(50));
    let split = |held_out| {
        let prepared = ready(&DataSection { held_out, ..pre_tokenized(&path) });
        let lines = |places: &[ft_datasets::source::Place]| -> Vec<usize> {
            places.iter().map(line_of).collect()
        };
        (lines(&prepared.train_origins), lines(&prepared.held_out_origins))
    };
    let (all, none) = split(HeldOut::Nothing);
    assert!(none.is_empty() && !all.is_sorted());
    let (train, held_out) = split(HeldOut::Fraction(0.05));
    assert_eq!((train.len(), held_out.len()), (47, 3), "a share is rounded up");
    assert_eq!([train, held_out].concat(), all, "the same order, cut in two");
    assert_eq!(split(HeldOut::Rows(7)).1, all[43..]);
    assert_eq!(split(HeldOut::Rows(7)), split(HeldOut::Rows(7)));
}

#[test]
fn curriculum_keeps_the_order_of_rows_and_other_seeds_shuffle_otherwise() {
    let folder = Folder::new();
    let path = folder.write("rows.jsonl", &numbered(50));
    let order = |section: DataSection| -> Vec<usize> {
        ready(&section).train_origins.iter().map(line_of).collect()
    };
    let kept = order(DataSection { curriculum_sampling: true, ..pre_tokenized(&path) });
    assert_eq!(kept, (1..=50).collect::<Vec<_>>());
    let other = order(DataSection { seed: 43, ..pre_tokenized(&path) });
    assert_ne!(other, order(pre_tokenized(&path)));
}

#[test]
fn test_datasets_are_held_out_and_lose_what_is_trained_on() {
    let folder = Folder::new();
    let train = folder.write("train.jsonl", &numbered(5));
    let test = folder.write("held.jsonl", &[tokens(&[0, 1, 2]), tokens(&[90, 91])]);
    let mut section = pre_tokenized(&train);
    section.test_datasets = vec![source(&test, RowType::PreTokenized)];
    section.exact_deduplication = true;
    let prepared = ready(&section);
    assert_eq!((prepared.train.len(), prepared.held_out.len()), (5, 1));
    assert_eq!(prepared.held_out[0].ids, [90, 91]);
    section.held_out = HeldOut::Rows(1);
    assert!(matches!(refused(&section), DataError::HeldOutTwice));
}

#[test]
fn shards_are_disjoint_and_together_all_rows() {
    let folder = Folder::new();
    let path = folder.write("rows.jsonl", &numbered(50));
    let mut lines = Vec::new();
    for piece in 0..3 {
        let mut section = pre_tokenized(&path);
        section.datasets[0].shards = Some(3);
        section.datasets[0].shard_index = piece;
        let prepared = ready(&section);
        assert!((16..=17).contains(&prepared.train.len()));
        lines.extend(prepared.train_origins.iter().map(line_of));
    }
    lines.sort_unstable();
    assert_eq!(lines, (1..=50).collect::<Vec<_>>());
}

#[test]
fn bad_rows_stop_preparation_with_the_first_ten_unless_they_are_allowed() {
    let folder = Folder::new();
    let bad: String = (0..12).map(|_| "{\"input_ids\": [1, 1e999]}\n").collect();
    let path =
        folder.text("rows.jsonl", &format!("{{\"input_ids\": [1, 2]}}\n\n{bad}{{\"ids\": 1}}\n"));
    let error = folder.short(&refused(&pre_tokenized(&path)));
    assert!(
        error.starts_with("13 bad rows, 0 allowed:\n  rows.jsonl:3: not JSON: number out of range"),
        "{error}"
    );
    assert!(error.ends_with("… and 3 more"), "{error}");
    assert_eq!(error.lines().count(), 12);
    let options = PrepareOptions { max_bad_rows: 13, ..PrepareOptions::default() };
    let prepared = prepare(&pre_tokenized(&path), &tokenizer(), options).unwrap();
    assert_eq!(prepared.train.len(), 1);
    assert_eq!(prepared.report.datasets[0].dropped_for(DropReason::Unreadable), 13);
}

#[test]
fn an_id_beyond_the_vocabulary_is_a_bad_row() {
    let folder = Folder::new();
    let path = folder.write("rows.jsonl", &[tokens(&[1, 999])]);
    let error = folder.short(&refused(&pre_tokenized(&path)));
    assert!(
        error.contains("rows.jsonl:1: `input_ids[1]` is 999; the vocabulary has 321 tokens"),
        "{error}"
    );
}

#[test]
fn rows_without_any_trained_token_are_found_before_the_first_step() {
    let folder = Folder::new();
    let row = json!({"input_ids": [1, 2], "labels": [-100, -100]});
    let path = folder.write("rows.jsonl", &[row.clone(), row]);
    assert_eq!(
        folder.short(&refused(&pre_tokenized(&path))),
        "the data would not teach what the recipe wants:\n  data set `rows.jsonl`: none of the 2 \
         pre-tokenised rows has a trained token\n    = help: every label is -100; write the ids of \
         the answers into `labels`"
    );
}

#[test]
fn a_stop_token_that_is_never_trained_is_found_with_the_key_that_trains_it() {
    let folder = Folder::new();
    let row = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    let path = folder.write("rows.jsonl", &[row]);
    // The end of text is `</s>`, but ChatML ends turns with another token.
    let mut section = chat(&path);
    let error = folder.short(&refused(&section));
    assert!(error.contains("none of the 1 answers ends in a trained stop token"), "{error}");
    assert!(error.contains("set `eot_tokens: [\"<|im_end|>\"]`"), "{error}");
    section.eot_tokens = vec!["<|im_end|>".to_owned()];
    assert_eq!(ready(&section).train.len(), 1);
    section.eot_tokens.clear();
    section.datasets[0].train_on_eos = TrainOn::None;
    section.datasets[0].train_on_eot = TrainOn::None;
    assert_eq!(ready(&section).train.len(), 1, "whoever wants no stop gets none");
}

#[test]
fn all_findings_come_at_once() {
    let folder = Folder::new();
    let untrained =
        folder.write("a.jsonl", &[json!({"input_ids": [1, 2], "labels": [-100, -100]})]);
    let doubled = folder.write("b.jsonl", &[tokens(&[300, 300, 5, 6])]);
    let labels = [vec![-100; 599], vec![5]].concat();
    let cut = folder.write(
        "c.jsonl",
        &[json!({"input_ids": vec![5; 600],
        "labels": labels})],
    );
    let mut section = pre_tokenized(&untrained);
    section.long_rows = LongRows::Truncate;
    section.datasets.push(source(&doubled, RowType::PreTokenized));
    section.datasets.push(source(&cut, RowType::PreTokenized));
    let error = folder.short(&refused(&section));
    assert!(error.contains("none of the 1 pre-tokenised rows has a trained token"), "{error}");
    assert!(
        error.contains("1 rows begin with the beginning of text twice (first: b.jsonl:1)"),
        "{error}"
    );
    assert!(
        error.contains("each of the 1 rows is cut off at 512 tokens, before its answer"),
        "{error}"
    );
    assert!(
        error.contains("raise `sequence_len`; the first answer begins at token 599"),
        "{error}"
    );
}

#[test]
fn a_long_completion_becomes_several_examples() {
    let folder = Folder::new();
    let path = folder.write("rows.jsonl", &[json!({"text": "x".repeat(100)})]);
    let mut section = section(vec![source(&path, RowType::Completion)]);
    section.sequence_len = 40;
    let prepared = ready(&section);
    let mut lengths: Vec<usize> = prepared.train.iter().map(Example::len).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [22, 40, 40]);
    assert!(prepared.train_origins.iter().all(|at| line_of(at) == 1));
}

#[test]
fn nothing_left_is_told_with_what_became_of_the_rows() {
    let folder = Folder::new();
    let path = folder.write("rows.jsonl", &[tokens(&[1; 600]), tokens(&[1])]);
    let error = folder.short(&refused(&pre_tokenized(&path)));
    assert_eq!(
        error,
        "no rows left to train on:\n  rows.jsonl (pre-tokenised): 2 rows read, 0 kept; 1 longer than \
         `sequence_len` (first: rows.jsonl:1); 1 shorter than `min_sample_len` (first: rows.jsonl:2)"
    );
}

fn kept_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn prepared_rows_are_kept_and_refused_when_anything_changed() {
    let folder = Folder::new();
    let path = folder.write("rows.jsonl", &numbered(30));
    let kept = folder.path("prepared");
    let section = DataSection {
        prepared_path: Some(kept.clone()),
        held_out: HeldOut::Rows(5),
        ..pre_tokenized(&path)
    };
    let first = ready(&section);
    let files = kept_files(&kept);
    assert_eq!(files.len(), 1);
    assert_eq!(ready(&section), first, "the same rows, report and places");
    assert_eq!(kept_files(&kept), files);

    // What is read is the kept file: with its hash made good, a change in it shows.
    folder.write("rows.jsonl", &numbered(31));
    assert_eq!(ready(&section).train.len(), 26, "another file, another key");
    assert_eq!(kept_files(&kept).len(), 2);
    folder.write("rows.jsonl", &numbered(30));
    let other = DataSection { seed: 1, ..section.clone() };
    assert_ne!(ready(&other).train_origins, first.train_origins);
    assert_eq!(kept_files(&kept).len(), 3);

    let mut bytes = std::fs::read(&files[0]).unwrap();
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    std::fs::write(&files[0], &bytes).unwrap();
    assert_eq!(ready(&section), first, "a damaged file is not used");
    std::fs::write(&files[0], &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(ready(&section), first, "nor is one that was cut off");
}

#[test]
fn the_rows_are_the_same_with_any_number_of_threads() {
    let folder = Folder::new();
    let rows: Vec<Value> = (0..300)
        .map(|n| json!({"instruction": format!("Say {n}"), "output": "x".repeat(n % 7 + 1)}))
        .collect();
    let path = folder.write("rows.jsonl", &rows);
    let section = section(vec![source(&path, RowType::Alpaca { style: None })]);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| ready(&section))
    };
    assert_eq!(with(1), with(4));
}
