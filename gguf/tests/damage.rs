//! An honest file, damaged: no panic, and either an error with a place or a file that holds
//! together.
#![expect(clippy::unwrap_used, reason = "the checks shared by tests stand outside of them")]

mod forge;

use std::path::Path;

use forge::{read, specimen};
use ft_gguf::{File, GgufError, Header};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// Checks what the reader promises of any file that it accepts, and of any error.
fn holds_together(read: &Result<Header, GgufError>, length: u64) {
    let header = match read {
        Ok(header) => header,
        Err(error) => {
            assert_eq!(error.file, Path::new("bad.gguf"));
            assert!(error.offset <= length, "{error}");
            return;
        }
    };
    assert!(header.alignment().is_power_of_two());
    let mut spans = Vec::new();
    for tensor in header.tensors() {
        let end = tensor.offset.checked_add(tensor.bytes).unwrap();
        assert!(end <= length && tensor.bytes > 0, "{tensor:?}");
        assert!(tensor.offset.is_multiple_of(header.alignment()), "{tensor:?}");
        let blocks = tensor.elements() / tensor.kind.block_len();
        assert_eq!(blocks * tensor.kind.block_bytes(), tensor.bytes);
        assert_eq!(tensor.rows() * tensor.cols(), tensor.elements());
        assert_eq!(header.tensor(&tensor.name), Some(tensor));
        spans.push((tensor.offset, end));
    }
    spans.sort_unstable();
    assert!(spans.is_sorted_by(|before, after| before.1 <= after.0), "{spans:?}");
    for (key, value) in header.metadata().iter() {
        let found = header.metadata().get(key).unwrap();
        assert!(std::ptr::eq(found, value), "`{key}` stands twice");
    }
}

#[test]
fn the_specimen_itself_is_read() {
    let header = read(&specimen().bytes()).unwrap();
    assert_eq!(header.metadata().len(), 17);
    assert_eq!(header.tensors().len(), 3);
    assert_eq!(header.alignment(), 16);
    let words: Vec<&str> = header.metadata().strings("a.words").unwrap().unwrap().iter().collect();
    assert_eq!(words, ["a", "", "Ġthe"]);
    assert_eq!(header.metadata().i32s("a.numbers").unwrap().unwrap()[..], [1, 2]);
}

#[test]
fn a_file_cut_at_any_byte_is_refused_with_a_place() {
    let bytes = specimen().bytes();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.gguf");
    for length in 0..bytes.len() {
        let cut = read(&bytes[..length]);
        holds_together(&cut, length as u64);
        let complaint = cut.expect_err("the last tensor's last byte is missing").to_string();
        std::fs::write(&path, &bytes[..length]).unwrap();
        let opened = File::open(&path).expect_err("the same bytes from the disk").to_string();
        assert_eq!(opened, complaint.replace("bad.gguf", &path.display().to_string()));
    }
    assert!(read(&bytes).is_ok());
}

#[test]
fn any_flipped_bit_before_the_tensors_leaves_an_error_or_a_file_that_holds_together() {
    let forge = specimen();
    let bytes = forge.bytes();
    let mut refused = 0;
    for bit in 0..forge.head().len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let result = read(&flipped);
        holds_together(&result, flipped.len() as u64);
        refused += usize::from(result.is_err());
    }
    // Letters of names and digits of values can change without harm; structure cannot.
    assert!(refused > forge.head().len() * 8 / 3, "only {refused} flips were noticed");
}

#[test]
fn any_number_written_anywhere_leaves_an_error_or_a_file_that_holds_together() {
    let forge = specimen();
    let bytes = forge.bytes();
    let hostile = [0, 1, 0x7f, 0xff, 1 << 31, 1 << 32, u64::MAX / 8, i64::MAX as u64, 1 << 63]
        .into_iter()
        .chain([u64::MAX - 31, u64::MAX - 7, u64::MAX]);
    for number in hostile {
        for at in 0..forge.head().len() {
            for width in [1, 4, 8] {
                let mut damaged = bytes.clone();
                let end = (at + width).min(damaged.len());
                damaged[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
                holds_together(&read(&damaged), damaged.len() as u64);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_bytes_after_an_honest_start_leave_an_error_or_a_file_that_holds_together(
        kept in 0usize..400,
        noise in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut bytes = specimen().bytes();
        bytes.truncate(kept);
        bytes.extend(noise);
        holds_together(&read(&bytes), bytes.len() as u64);
    }

    #[test]
    fn pieces_of_an_honest_file_in_another_order_leave_an_error_or_a_file_that_holds_together(
        cuts in proptest::collection::vec((0usize..700, 0usize..60), 1..30),
    ) {
        let bytes = specimen().bytes();
        let mut spliced = bytes[..24].to_vec();
        for (from, length) in cuts {
            let from = from.min(bytes.len());
            spliced.extend(&bytes[from..(from + length).min(bytes.len())]);
        }
        holds_together(&read(&spliced), spliced.len() as u64);
    }
}
