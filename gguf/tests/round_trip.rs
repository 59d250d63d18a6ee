//! What is written is read again, and a file that is not finished is not there.
#![expect(clippy::unwrap_used, reason = "the tools shared by tests stand outside of them")]
#![expect(clippy::cast_possible_truncation, reason = "bytes wrap on purpose")]

mod forge;

use std::fs;
use std::path::Path;

use ft_gguf::{Array, File, Kind, Metadata, Strings, TensorSpec, Value, Writer};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn array() -> impl Strategy<Value = Array> {
    let flat = prop_oneof![
        vec(any::<u8>(), 0..20).prop_map(Array::U8),
        vec(any::<i8>(), 0..20).prop_map(Array::I8),
        vec(any::<u16>(), 0..20).prop_map(Array::U16),
        vec(any::<i16>(), 0..20).prop_map(Array::I16),
        vec(any::<u32>(), 0..20).prop_map(Array::U32),
        vec(any::<i32>(), 0..20).prop_map(Array::I32),
        vec(any::<f32>(), 0..20).prop_map(Array::F32),
        vec(any::<bool>(), 0..20).prop_map(Array::Bool),
        vec(any::<String>(), 0..20).prop_map(|v| Array::String(v.into_iter().collect())),
        vec(any::<u64>(), 0..20).prop_map(Array::U64),
        vec(any::<i64>(), 0..20).prop_map(Array::I64),
        vec(any::<f64>(), 0..20).prop_map(Array::F64),
    ];
    flat.prop_recursive(3, 12, 4, |inner| vec(inner, 0..4).prop_map(Array::Array))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<f32>().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        any::<String>().prop_map(Value::String),
        array().prop_map(Value::Array),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f64>().prop_map(Value::F64),
    ]
}

fn tensor() -> impl Strategy<Value = (Vec<u64>, Kind)> {
    let kind = (0..Kind::ALL.len()).prop_map(|index| Kind::ALL[index]);
    (1u64..4, vec(1u64..4, 0..4), kind).prop_map(|(blocks, rest, kind)| {
        let dims = [vec![blocks * kind.block_len()], rest].concat();
        (dims, kind)
    })
}

/// Bytes that tell the tensor and the position.
fn bytes_of(tensor: usize, count: u64) -> Vec<u8> {
    (0..count).map(|at| (at.wrapping_mul(31) + 7 * tensor as u64) as u8).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_written_file_is_read_as_it_was_meant(
        keys in btree_map("[a-z_.]{1,12}", value(), 0..12),
        tensors in btree_map(".{1,16}", tensor(), 0..8),
        alignment in proptest::option::of(0u32..9),
        piece in 1usize..2000,
    ) {
        let mut metadata = Metadata::new();
        for (key, value) in keys {
            metadata.insert(key, value);
        }
        if let Some(exponent) = alignment {
            metadata.insert("general.alignment", 1u32 << exponent);
        }
        let specs: Vec<TensorSpec> = tensors
            .into_iter()
            .filter(|(name, _)| name.len() <= 64)
            .map(|(name, (dims, kind))| TensorSpec::new(name, dims, kind))
            .collect();

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let mut writer = Writer::create(&path, &metadata, &specs).unwrap();
        let laid_out = writer.tensors().to_vec();
        for (index, info) in laid_out.iter().enumerate() {
            for bytes in bytes_of(index, info.bytes).chunks(piece) {
                writer.write(&info.name, bytes).unwrap();
            }
        }
        prop_assert!(!path.exists());
        writer.finish().unwrap();
        prop_assert_eq!(names(folder.path()), ["m.gguf"]);

        let file = File::open(&path).unwrap();
        prop_assert_eq!(file.version(), 3);
        prop_assert_eq!(file.alignment(), alignment.map_or(32, |exponent| 1 << exponent));
        prop_assert_eq!(file.tensors(), laid_out);
        prop_assert_eq!(file.metadata().len(), metadata.len());
        for ((key, value), (meant_key, meant)) in file.metadata().iter().zip(metadata.iter()) {
            prop_assert_eq!(key, meant_key);
            // As text, since NaN is not itself.
            prop_assert_eq!(format!("{value:?}"), format!("{meant:?}"));
        }
        for (index, (info, spec)) in file.tensors().iter().zip(&specs).enumerate() {
            prop_assert_eq!((&info.name, &info.dims, info.kind), (&spec.name, &spec.dims, spec.kind));
            prop_assert_eq!(file.read_tensor(&info.name).unwrap(), bytes_of(index, info.bytes));
        }
        let length = fs::metadata(&path).unwrap().len();
        prop_assert!(length.is_multiple_of(file.alignment()));
    }
}

/// Two tensors of 8 and 4 bytes.
fn two() -> Vec<TensorSpec> {
    vec![TensorSpec::new("a", [2], Kind::F32), TensorSpec::new("b", [2], Kind::F16)]
}

#[test]
fn a_file_that_is_not_finished_leaves_what_was_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    fs::write(&path, "before").unwrap();

    let mut writer = Writer::create(&path, &Metadata::new(), &two()).unwrap();
    writer.write("a", &[1; 8]).unwrap();
    drop(writer);
    assert_eq!(names(folder.path()), ["m.gguf"]);

    let mut writer = Writer::create(&path, &Metadata::new(), &two()).unwrap();
    writer.write("a", &[1; 8]).unwrap();
    writer.write("b", &[1; 3]).unwrap();
    let complaint = writer.finish().unwrap_err().to_string();
    assert_eq!(
        complaint,
        format!(
            "{}: byte 131: tensor `b`: expected 4 bytes before the file is finished, found 3",
            path.display()
        )
    );
    assert_eq!(names(folder.path()), ["m.gguf"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before");

    let mut writer = Writer::create(&path, &Metadata::new(), &two()).unwrap();
    writer.write("a", &[1; 8]).unwrap();
    writer.write("b", &[2; 4]).unwrap();
    writer.finish().unwrap();
    assert_eq!(names(folder.path()), ["m.gguf"]);
    assert_eq!(File::open(&path).unwrap().read_tensor("b").unwrap(), [2; 4]);
}

#[test]
fn tensors_are_given_in_turn_and_no_byte_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let said = |result: Result<(), ft_gguf::GgufError>| {
        result.unwrap_err().to_string().replace(&path.display().to_string(), "m.gguf")
    };
    let mut writer = Writer::create(&path, &Metadata::new(), &two()).unwrap();
    assert_eq!(
        said(writer.write("b", &[1; 4])),
        "m.gguf: byte 96: tensor `b`: expected bytes of `a`, found bytes of this one"
    );
    writer.write("a", &[1; 5]).unwrap();
    assert_eq!(
        said(writer.write("a", &[1; 4])),
        "m.gguf: byte 101: tensor `a`: expected 8 bytes in all, found at least 9"
    );
    writer.write("a", &[1; 3]).unwrap();
    writer.write("b", &[2; 4]).unwrap();
    assert_eq!(
        said(writer.write("b", &[2; 4])),
        "m.gguf: byte 0: tensor `b`: expected bytes of no tensor, all are complete, found bytes \
         of this one"
    );
    writer.finish().unwrap();
    let file = File::open(&path).unwrap();
    assert_eq!(file.read_tensor("a").unwrap(), [1; 8]);
    assert_eq!(
        file.read_tensor("c").unwrap_err().to_string(),
        format!(
            "{}: byte 0: tensor `c`: expected it among the 2 tensors of the file, found no such \
             tensor",
            path.display()
        )
    );
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let refused = |metadata: &Metadata, tensors: &[TensorSpec]| {
        let complaint = Writer::create(&path, metadata, tensors).unwrap_err().to_string();
        complaint.replace(&path.display().to_string(), "m.gguf")
    };
    let with = |key: &str, value: Value| {
        let mut metadata = Metadata::new();
        metadata.insert(key, value);
        metadata
    };
    assert_eq!(
        refused(&with("general.alignment", Value::U32(3)), &[]),
        "m.gguf: byte 24: key `general.alignment`: expected a power of two, found 3"
    );
    assert_eq!(
        refused(&with("", Value::U32(3)), &[]),
        "m.gguf: byte 24: name of key 0: expected a name, found an empty one"
    );
    let twice = [TensorSpec::new("a", [2], Kind::F32), TensorSpec::new("a", [2], Kind::F32)];
    assert_eq!(
        refused(&Metadata::new(), &twice),
        "m.gguf: byte 57: tensor `a`: expected each tensor once, found it at byte 24 already"
    );
    assert_eq!(
        refused(&Metadata::new(), &[TensorSpec::new("a", [48], Kind::Q4_0)]),
        "m.gguf: byte 24: tensor `a`: expected rows of a multiple of 32 weights for Q4_0, found 48"
    );
    assert_eq!(
        refused(&Metadata::new(), &[TensorSpec::new("a", [1 << 40, 1 << 40], Kind::F32)]),
        "m.gguf: byte 24: tensor `a`: expected fewer than 2^63 weights and bytes, found the \
         dimensions [1099511627776, 1099511627776]"
    );
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_value_is_asked_for_as_what_it_is_and_integers_in_any_width() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut metadata = Metadata::new();
    metadata.insert("wide", 7u64);
    metadata.insert("signed", -1);
    metadata.insert("name", "llama");
    metadata.insert("words", vec!["a", "b"]);
    metadata.insert("scores", vec![0.5f32]);
    metadata.insert("narrow", Array::U8(vec![1, 2]));
    metadata.insert("wide", 8u64);
    Writer::create(&path, &metadata, &[]).unwrap().finish().unwrap();

    let file = File::open(&path).unwrap();
    let metadata = file.metadata();
    assert_eq!(metadata.u32("wide").unwrap(), Some(8));
    assert_eq!(metadata.require::<usize>("wide").unwrap(), 8);
    assert_eq!(metadata.u32("none").unwrap(), None);
    assert_eq!(metadata.require::<&str>("name").unwrap(), "llama");
    assert_eq!(metadata.i32s("narrow").unwrap().unwrap()[..], [1, 2]);
    assert_eq!(metadata.f32s("scores").unwrap().unwrap()[..], [0.5]);
    let words: &Strings = metadata.require("words").unwrap();
    assert_eq!((words.len(), &words[1], words.get(2)), (2, "b", None));

    let said = |error: ft_gguf::GgufError| {
        error.to_string().replace(&path.display().to_string(), "m.gguf")
    };
    assert_eq!(
        said(metadata.u32("signed").unwrap_err()),
        "m.gguf: byte 48: key `signed`: expected an integer from 0 to 4294967295, found i32 -1"
    );
    assert_eq!(
        said(metadata.strings("narrow").unwrap_err()),
        "m.gguf: byte 180: key `narrow`: expected an array of strings, found array of 2 u8"
    );
    assert_eq!(
        said(metadata.require::<bool>("none").unwrap_err()),
        "m.gguf: byte 24: key `none`: expected a truth value, found no such key"
    );
}

#[test]
fn only_regular_files_are_opened_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let complaint = File::open(folder.path()).unwrap_err().to_string();
    assert!(complaint.contains("expected a regular file"), "{complaint}");
    let missing = folder.path().join("none.gguf");
    let complaint = File::open(&missing).unwrap_err().to_string();
    assert!(complaint.starts_with(&missing.display().to_string()), "{complaint}");
    #[cfg(unix)]
    assert!(File::open("/dev/zero".as_ref()).unwrap_err().to_string().contains("regular file"));
}

#[test]
fn a_file_that_shrinks_after_it_was_opened_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    fs::write(&path, forge::specimen().bytes()).unwrap();
    let file = File::open(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    let complaint = file.read_tensor("norm.weight").unwrap_err().to_string();
    assert!(complaint.contains("tensor `norm.weight`"), "{complaint}");
}
