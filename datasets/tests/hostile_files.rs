//! Files that want to break the reader: it says which row and why, and stays small.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../src/testing.rs"]
#[expect(dead_code, reason = "sources only")]
mod testing;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use ft_datasets::source::{Limits, Problem, file, rows};
use ft_recipes::{RowSlice, RowType, SliceBound};

/// Each row as its place and fields, or what is wrong.
fn read(path: &Path) -> Vec<String> {
    let folder = format!("{}/", path.parent().unwrap().display());
    let told = |row: Result<_, Problem>| match row {
        Ok(ft_datasets::source::Row { fields, at, .. }) => {
            format!("{at} {}", serde_json::to_string(&fields).unwrap())
        }
        Err(problem) => problem.to_string(),
    };
    match file(path, None, Limits::default()) {
        Ok(rows) => rows.map(told).map(|row| row.replace(&folder, "")).collect(),
        Err(error) => vec![error.to_string().replace(&folder, "")],
    }
}

fn read_bytes(name: &str, bytes: &[u8]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read(&path)
}

#[test]
fn each_hostile_line_is_told_with_its_number_and_the_others_are_read() {
    let deep = [b"{\"a\":".as_slice(), &b"[".repeat(100_000), b"}"].concat();
    let lines: [&[u8]; 14] = [
        b"\xEF\xBB\xBF{\"a\": 1}\r",
        b"",
        b"   \r",
        b"{\"a\": \"\xff\"}",
        b"{\"a\": \"\0\"}",
        b"{\"a\": \"\\ud83d\"}",
        b"{\"a\": 1},",
        b"{\"a\": 1,}",
        &deep,
        b"{\"a\": 1e400}",
        b"{\"a\": 1, \"a\": 2}",
        b"[1, 2]",
        b"{\"a\": ",
        b"{\"a\": \"\\ud83d\\ude00\"}",
    ];
    let rows = read_bytes("a.jsonl", &lines.join(&b'\n'));
    let starts = [
        "a.jsonl:1 {\"a\":1}",
        "a.jsonl:4: byte 8 of the row is not UTF-8",
        "a.jsonl:5: byte 8 of the row is NUL",
        "a.jsonl:6: not JSON: ",
        "a.jsonl:7: a comma follows the object",
        "a.jsonl:8: not JSON: trailing comma",
        "a.jsonl:9: nested deeper than 100 levels",
        "a.jsonl:10: not JSON: number out of range",
        "a.jsonl:11: key `a` stands twice",
        "a.jsonl:12: a row is an object",
        "a.jsonl:13: not JSON: EOF",
        "a.jsonl:14 {\"a\":\"😀\"}",
    ];
    assert_eq!(rows.len(), starts.len(), "{rows:#?}");
    for (row, start) in rows.iter().zip(starts) {
        assert!(row.starts_with(start), "{row} does not start with {start}");
    }
}

#[test]
fn other_encodings_are_refused_by_their_marks() {
    let rows = read_bytes("a.jsonl", b"\xFF\xFE{\0}\0");
    assert_eq!(rows, ["a.jsonl: text is UTF-16\n  = help: save the file as UTF-8"]);
}

#[test]
fn gzip_and_zstd_are_read_by_their_first_bytes_also_in_several_parts() {
    let row = b"{\"a\": 1}\n";
    let gzip = || {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(row).unwrap();
        out.finish().unwrap()
    };
    let zstd = || zstd::encode_all(row.as_slice(), 1).unwrap();
    let wanted = |name: &str| [format!("{name}:1 {{\"a\":1}}"), format!("{name}:2 {{\"a\":1}}")];
    assert_eq!(read_bytes("a.jsonl.gz", &[gzip(), gzip()].concat()), wanted("a.jsonl.gz"));
    assert_eq!(read_bytes("a.jsonl.zst", &[zstd(), zstd()].concat()), wanted("a.jsonl.zst"));
    assert_eq!(read_bytes("a.json.gz", &gzip()), wanted("a.json.gz")[..1]);
    let cut = &gzip()[..20];
    let rows = read_bytes("a.jsonl.gz", cut);
    assert!(rows.last().unwrap().starts_with("a.jsonl.gz: "), "{rows:?}");
}

/// The most memory that this process has held, in bytes.
#[cfg(target_os = "linux")]
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// What reading any of the files below may add: two rows of the longest kind with room to spare,
/// and zstd's window.
#[cfg(target_os = "linux")]
const MOST_MEMORY: usize = 256 << 20;

#[cfg(target_os = "linux")]
#[test]
fn a_line_of_a_gigabyte_and_bombs_do_not_become_memory() {
    let folder = tempfile::tempdir().unwrap();
    let before = peak();

    // A gigabyte of zeros without a line feed, then a row.
    let long = folder.path().join("long.jsonl");
    let mut sparse = File::create(&long).unwrap();
    sparse.seek(SeekFrom::Start(1 << 30)).unwrap();
    sparse.write_all(b"\n{\"a\": 1}\n").unwrap();
    assert_eq!(
        read(&long),
        [
            "long.jsonl:1: row is longer than 16777216 bytes, the limit of one row",
            "long.jsonl:2 {\"a\":1}",
        ]
    );

    // The same as one element of a list.
    let list = folder.path().join("long.json");
    let mut text = File::create(&list).unwrap();
    text.write_all(b"[\"").unwrap();
    for _ in 0..40 {
        text.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    text.write_all(b"\", {\"a\": 1}]").unwrap();
    assert_eq!(read(&list).len(), 2);

    // Blank lines without end: 256 MiB from a quarter of a megabyte, and less.
    for name in ["bomb.jsonl.gz", "bomb.jsonl.zst"] {
        let path = folder.path().join(name);
        let out = File::create(&path).unwrap();
        let block = vec![b'\n'; 1 << 20];
        if name.ends_with("gz") {
            let mut out = flate2::write::GzEncoder::new(out, flate2::Compression::best());
            (0..256).for_each(|_| out.write_all(&block).unwrap());
            out.finish().unwrap();
        } else {
            let mut out = zstd::Encoder::new(out, 1).unwrap();
            (0..256).for_each(|_| out.write_all(&block).unwrap());
            out.finish().unwrap();
        }
        let rows = read(&path);
        assert!(rows.len() == 1 && rows[0].contains("decompression bomb"), "{rows:?}");
        assert!(rows[0].contains("over the limit (200 times the compressed size)"), "{rows:?}");
    }
    let grown = peak() - before;
    assert!(grown < MOST_MEMORY, "{} MiB", grown >> 20);
}

#[test]
fn a_public_name_is_answered_with_how_to_get_it() {
    let error = rows(&testing::source("tatsu-lab/alpaca", RowType::Completion), Limits::default());
    let error = error.err().unwrap().to_string();
    assert!(error.starts_with("`tatsu-lab/alpaca` is no file or folder here"), "{error}");
    assert!(
        error.contains(
            "hf download tatsu-lab/alpaca --repo-type dataset --local-dir tatsu-lab/alpaca"
        )
    );
    let mut address = testing::source("https://example.org/a.jsonl", RowType::Completion);
    let error = rows(&address, Limits::default()).err().unwrap().to_string();
    assert!(error.contains("is an address"), "{error}");
    "rows.jsnl".clone_into(&mut address.path);
    let error = rows(&address, Limits::default()).err().unwrap().to_string();
    assert!(error.starts_with("rows.jsnl: no such file or folder"), "{error}");
}

#[test]
fn a_folder_gives_the_files_of_its_split_in_order_and_a_slice_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("data")).unwrap();
    let lines = |from: usize| -> String {
        (from..from + 5).fold(String::new(), |text, n| text + &format!("{{\"n\": {n}}}\n"))
    };
    std::fs::write(at("data/train-00001-of-00002.jsonl"), lines(5)).unwrap();
    std::fs::write(at("data/train-00000-of-00002.jsonl"), lines(0)).unwrap();
    std::fs::write(at("data/test-00000-of-00001.jsonl"), lines(90)).unwrap();
    std::fs::write(at("README.md"), "").unwrap();
    std::fs::write(at("dataset_infos.json"), "{}").unwrap();
    let mut source = testing::source(folder.path().to_str().unwrap(), RowType::Completion);
    let numbers = |source: &ft_recipes::DatasetSource| -> Vec<u64> {
        let rows = rows(source, Limits::default()).unwrap();
        rows.map(|row| row.unwrap().fields["n"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&source), (0..10).collect::<Vec<_>>());
    let slice = |name: &str, from, to| Some(RowSlice { name: name.to_owned(), from, to });
    source.split = slice("test", None, None);
    assert_eq!(numbers(&source), (90..95).collect::<Vec<_>>());
    source.split = slice("train", None, Some(SliceBound::Percent(20.0)));
    assert_eq!(numbers(&source), [0, 1]);
    source.split = slice("train", Some(SliceBound::Rows(-3)), None);
    assert_eq!(numbers(&source), [7, 8, 9]);
    source.split = slice("train", Some(SliceBound::Rows(4)), Some(SliceBound::Rows(6)));
    assert_eq!(numbers(&source), [4, 5]);
    source.split = slice("validation", None, None);
    let error = rows(&source, Limits::default()).err().unwrap().to_string();
    assert!(error.contains("no split `validation`; it has `test`, `train`"), "{error}");
    source.split = None;
    source.data_files = vec!["data/t*-00000-*.jsonl".to_owned()];
    assert_eq!(numbers(&source), [90, 91, 92, 93, 94, 0, 1, 2, 3, 4]);
}

#[cfg(unix)]
#[test]
fn file_names_need_not_be_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"a b\xff.jsonl"));
    std::fs::write(&path, "{\"a\": 1}").unwrap();
    let source = testing::source(folder.path().to_str().unwrap(), RowType::Completion);
    let rows: Vec<_> = rows(&source, Limits::default()).unwrap().collect();
    assert!(rows.len() == 1 && rows[0].is_ok());
}
