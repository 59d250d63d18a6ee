//! Files that should break a cleaner do not: every bad row is told of with its place, and memory
//! stays bounded.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use ft_datasets::clean::{Output, Plan, Summary, clean};
use ft_recipes::CleanSection;
use peak_alloc::PeakAlloc;
use serde_json::Value;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const GOOD: &str = "{\"instruction\": \"Where is it?\", \"output\": \"In the house.\"}\n";
const JAPANESE: &str = "{\"instruction\": \"日本の首都はどこですか。\", \"output\": \"日本の首都は東京です。表示します。\"}\n";

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Each file: its name, what is in it, how many rows stay and how many go.
fn files() -> Vec<(&'static str, Vec<u8>, u64, u64)> {
    let good = |number: usize| {
        GOOD.replace("house", &format!("house {number}")).replace("it", &format!("it {number}"))
    };
    let lines = |bad: &[u8]| [good(1).as_bytes(), bad, b"\n", good(2).as_bytes()].concat();
    let utf_16 = |text: &str, little: bool| -> Vec<u8> {
        let mark = if little { vec![0xFF, 0xFE] } else { vec![0xFE, 0xFF] };
        let unit = |unit: u16| if little { unit.to_le_bytes() } else { unit.to_be_bytes() };
        mark.into_iter().chain(text.encode_utf16().flat_map(unit)).collect()
    };
    let deep = [b"{\"a\":".as_slice(), &b"[".repeat(100_000), &b"]".repeat(100_000), b"}"].concat();
    let many = ["{\"instruction\": \"x\", \"output\": [", &"{},".repeat(3_000_000), "0]}"].concat();
    let long_words = format!("{{\"text\": \"{}\"}}", "a ".repeat(3_000_000));
    vec![
        ("bad_utf_8.jsonl", lines(b"{\"instruction\": \"a\", \"output\": \"\xff\xfe b\"}"), 2, 1),
        ("mark.jsonl", [b"\xEF\xBB\xBF", good(1).as_bytes()].concat(), 1, 0),
        ("windows.jsonl", good(1).replace('\n', "\r\n\r\n").into(), 1, 0),
        ("nul.jsonl", lines(b"{\"instruction\": \"a\", \0\0\0\"output\": \"b\"}"), 2, 1),
        ("utf_16_le.jsonl", utf_16(JAPANESE, true), 1, 0),
        ("utf_16_be.jsonl", utf_16(JAPANESE, false), 1, 0),
        ("shift_jis.jsonl", encoding_rs::SHIFT_JIS.encode(JAPANESE).0.into_owned(), 1, 0),
        ("euc_jp.jsonl", encoding_rs::EUC_JP.encode(JAPANESE).0.into_owned(), 1, 0),
        ("iso_2022_jp.jsonl", encoding_rs::ISO_2022_JP.encode(JAPANESE).0.into_owned(), 1, 0),
        ("surrogate.jsonl", lines(br#"{"instruction": "a", "output": "b \ud83d"}"#), 2, 1),
        ("deep.jsonl", lines(&deep), 2, 1),
        ("many_values.jsonl", lines(many.as_bytes()), 2, 1),
        ("long_text.jsonl", lines(long_words.as_bytes()), 2, 1),
        ("bomb.jsonl.gz", gz(&vec![b' '; 300 << 20]), 0, 1),
        ("cut.jsonl.gz", { let mut bytes = gz(good(1).repeat(50).as_bytes()); bytes.truncate(bytes.len() - 9); bytes }, 1, 50),
        ("no_gzip.jsonl.gz", b"\x1f\x8b not gzip at all".to_vec(), 0, 1),
        ("mixed.jsonl", [
            good(1).as_str(),
            "{\"messages\": [{\"role\": \"user\", \"content\": \"Who is it?\"}, {\"role\": \"assistant\", \"content\": \"It is me.\"}]}\n",
            "{\"conversations\": [{\"from\": \"human\", \"value\": \"When was it?\"}, {\"from\": \"gpt\", \"value\": \"Long ago.\"}]}\n",
            "{\"text\": \"Some running text.\"}\n", "{\"prompt\": \"Why?\", \"chosen\": \"Because.\", \"rejected\": \"No.\"}\n",
            "{\"instruction\": 5, \"output\": [1]}\n", "[1, 2]\n", "\"text\"\n", "17\n", "null\n", "{}\n",
        ].concat().into(), 5, 6),
        ("comma.jsonl", lines(br#"{"instruction": "Who?", "output": "Nobody here."},"#), 3, 0),
        ("numbers.jsonl", lines(br#"{"instruction": "a", "output": "b", "n": 1e999}"#), 2, 1),
        ("key_twice.jsonl", lines(br#"{"instruction": "a", "output": "b", "output": "c"}"#), 2, 1),
        ("empty.jsonl", Vec::new(), 0, 0),
        ("blank.jsonl", b"\n\n  \n\t\n".to_vec(), 0, 0),
        ("cut_list.json", format!("[{}, {{\"instruction\": \"a", good(1).trim()).into(), 1, 2),
        ("open_quote.csv", [b"instruction,output\na,\"".as_slice(), &b"x\n".repeat(9 << 20)].concat(), 0, 1),
        ("broken.parquet", b"PAR1 this is no table PAR1".to_vec(), 0, 1),
        ("noise.jsonl", (0..4000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).map(|byte| if byte == b'\n' { b'x' } else { byte }).collect(), 0, 1),
    ]
}

fn run(inputs: &[PathBuf], folder: &Path) -> (Summary, Vec<Value>) {
    let output = Output::beside(&folder.join("out.jsonl"));
    let mut plan = Plan::from_section(&CleanSection::default(), None).unwrap();
    let summary = clean(inputs, &mut plan, &output, &mut |_| ()).unwrap();
    let dropped = fs::read_to_string(&output.dropped).unwrap();
    (summary, dropped.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn hostile_files_are_quarantined_row_by_row_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    fs::create_dir(&input).unwrap();
    let mut counts = Vec::new();
    for (name, bytes, kept, dropped) in files() {
        fs::write(input.join(name), bytes).unwrap();
        counts.push((name, kept, dropped));
    }
    // A line of a gigabyte, of which the file system stores next to nothing.
    let path = input.join("gigabyte.jsonl");
    let mut file = File::create(&path).unwrap();
    file.write_all(GOOD.as_bytes()).unwrap();
    file.write_all(b"{\"text\": \"").unwrap();
    file.seek(SeekFrom::Current(1 << 30)).unwrap();
    file.write_all(b"\"}\n").unwrap();
    file.write_all(GOOD.replace("it", "she").replace("house", "garden").as_bytes()).unwrap();
    drop(file);
    counts.push(("gigabyte.jsonl", 2, 1));

    MEMORY.reset_peak_usage();
    for &(name, kept, dropped) in &counts {
        let (summary, rows) = run(&[input.join(name)], folder.path());
        let found = (summary.kept, summary.dropped);
        assert_eq!(found, (kept, dropped), "{name}: {:?} {rows:?}", summary.broken);
        assert_eq!(summary.rows, kept + dropped, "{name}");
        for row in rows {
            assert!(row["file"].as_str().unwrap().ends_with(name), "{row}");
            assert!(row["line"].as_u64().unwrap() > 0 || name.ends_with("parquet"), "{row}");
            assert!(!row["reason"].as_str().unwrap().is_empty(), "{row}");
        }
    }
    let (summary, _) = run(&[input], folder.path());
    assert_eq!(summary.rows, summary.kept + summary.dropped);
    let peak = MEMORY.peak_usage_as_mb();
    assert!(peak < 200.0, "{peak} MB");
}
