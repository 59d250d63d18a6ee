//! Parquet files, written by the format's own writer.

use std::path::PathBuf;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;

/// A table of texts (one of them null) and lists of numbers.
fn write(path: &Path, compression: Compression) {
    let schema = "message rows {
        optional binary text (UTF8);
        required group ids (LIST) { repeated group list { required int32 element; } }
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut texts = group.next_column().unwrap().unwrap();
    let values = [ByteArray::from("one"), ByteArray::from("三")];
    texts.typed::<ByteArrayType>().write_batch(&values, Some(&[1, 0, 1]), None).unwrap();
    texts.close().unwrap();
    let mut ids = group.next_column().unwrap().unwrap();
    ids.typed::<Int32Type>()
        .write_batch(&[1, 2, 3], Some(&[1, 1, 0, 1]), Some(&[0, 1, 0, 0]))
        .unwrap();
    ids.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

fn read(path: &Path) -> Vec<String> {
    let rows = match rows(path, Limits::default()) {
        Ok(rows) => rows,
        Err(error) => return vec![error.to_string()],
    };
    rows.map(|row| match row {
        Ok(row) => {
            let name = row.at.file.file_name().unwrap().to_string_lossy().into_owned();
            let at = row.at.to_string();
            let number = at.split(": ").last().unwrap_or_default();
            format!("{name} {number} {}", serde_json::to_string(&row.fields).unwrap())
        }
        Err(problem) => problem.to_string(),
    })
    .collect()
}

#[test]
fn rows_of_a_parquet_file_have_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
        Compression::GZIP(parquet::basic::GzipLevel::default()),
    ];
    for compression in compressions {
        let path = folder.path().join("a.parquet");
        write(&path, compression);
        assert_eq!(
            read(&path),
            [
                r#"a.parquet row 1 {"text":"one","ids":[1,2]}"#,
                r#"a.parquet row 2 {"text":null,"ids":[]}"#,
                r#"a.parquet row 3 {"text":"三","ids":[3]}"#,
            ]
        );
    }
}

#[test]
fn a_parquet_file_compressed_from_outside_is_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, Compression::UNCOMPRESSED);
    let packed: PathBuf = folder.path().join("b.parquet.zst");
    std::fs::write(&packed, zstd::encode_all(File::open(&path).unwrap(), 3).unwrap()).unwrap();
    assert_eq!(read(&packed).len(), 3);
}

#[test]
fn a_parquet_file_cut_off_or_changed_anywhere_is_an_error_and_not_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, Compression::SNAPPY);
    let whole = std::fs::read(&path).unwrap();
    for end in (0..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..end]).unwrap();
        let read = read(&path);
        assert!(read.len() == 1 && read[0].contains("a.parquet"), "{end}: {read:?}");
    }
    for at in (4..whole.len()).step_by(3) {
        let mut changed = whole.clone();
        changed[at] ^= 0x5A;
        std::fs::write(&path, &changed).unwrap();
        // Whatever it says, it says it without a panic.
        drop(read(&path));
    }
}
