//! Memory while a file is opened: counted by the allocator, since a promise is no measurement.
#![expect(clippy::unwrap_used, reason = "the tools shared by tests stand outside of them")]

mod forge;

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use forge::{Forge, array_value, specimen, string, u32_value};
use ft_gguf::File;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// One measurement at a time: the count is of the whole process.
static TURN: Mutex<()> = Mutex::new(());

/// The window that is read through, messages, and what the test harness does meanwhile.
const CONSTANT: u64 = 256 << 10;

/// Elements of a long array.
const COUNT: usize = 1 << 17;

/// Memory over bytes in the file for the smallest keys and tensors: an entry of 88 bytes, the old
/// list beside the new one while it grows, and a place in an order, for a key of 17 bytes.
const TIMES: u64 = 20;

/// One more than the list holds before it doubles: the worst count.
const MANY: u32 = (1 << 15) + 1;

/// The most bytes allocated at once while a file is opened, beyond those held before, and whether
/// it could be.
fn peak(path: &Path) -> (u64, bool) {
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    let opened = File::open(path).is_ok();
    ((ALLOCATED.peak_usage() - before) as u64, opened)
}

fn peak_of(bytes: &[u8]) -> (u64, bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    fs::write(&path, bytes).unwrap();
    peak(&path)
}

#[test]
fn the_allocator_counts() {
    let _turn = TURN.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    fs::write(&path, Forge::new().tensor("t", &[1 << 20], 24, 0).data(1 << 20).bytes()).unwrap();
    let file = File::open(&path).unwrap();
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    let tensor = file.read_tensor("t").unwrap();
    let counted = (ALLOCATED.peak_usage() - before) as u64;
    assert_eq!(tensor.len(), 1 << 20);
    assert!((1 << 20..(1 << 20) + CONSTANT).contains(&counted), "{counted} bytes counted");
}

#[test]
fn false_claims_cost_no_more_than_the_file_and_a_constant() {
    let _turn = TURN.lock().unwrap();
    let max = u64::MAX;
    let mut files = vec![
        Forge::new().with(|f| f.tensor_count = Some(max)),
        Forge::new().with(|f| f.key_count = Some(max)),
        Forge::new().with(|f| f.keys.push(max.to_le_bytes().to_vec())),
        Forge::new().key("k", (8, max.to_le_bytes().to_vec())),
        Forge::new().key("k", array_value(8, 1, &max.to_le_bytes())),
        Forge::new().with(|f| f.tensors.push(max.to_le_bytes().to_vec())),
        Forge::new().tensor("t", &[max], 0, 0),
        Forge::new().tensor("t", &[1 << 40], 24, 0),
        Forge::new().tensor("t", &[1], 24, max - 31),
    ];
    for element in 0..=12 {
        files.push(Forge::new().key("k", array_value(element, max, &[])));
        files.push(Forge::new().key("k", array_value(9, 1, &array_value(element, max, &[]).1)));
    }
    for forge in files {
        let bytes = forge.bytes();
        let (peak, opened) = peak_of(&bytes);
        assert!(!opened);
        assert!(peak <= bytes.len() as u64 + CONSTANT, "{peak} bytes for {}", bytes.len());
    }
}

#[test]
fn claims_that_a_large_file_could_hold_cost_no_more_than_what_is_there() {
    let _turn = TURN.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.gguf");
    let claims = [
        Forge::new().key("k", array_value(0, 5 << 30, &[])),
        Forge::new().key("k", array_value(8, 1 << 29, &[])),
        Forge::new().key("k", (8, (5u64 << 30).to_le_bytes().to_vec())),
        Forge::new().with(|f| f.key_count = Some(1 << 29)),
        Forge::new().with(|f| f.tensor_count = Some(1 << 27)),
        // Within all limits, but what follows is zeros: keys and tensors without names.
        Forge::new().with(|f| f.key_count = Some(1 << 16)),
        Forge::new().with(|f| f.tensor_count = Some(1 << 18)),
    ];
    for forge in claims {
        fs::write(&path, forge.head()).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(8 << 30).unwrap(); // Sparse: takes no disk.
        let (peak, opened) = peak(&path);
        assert!(!opened);
        assert!(peak <= CONSTANT, "{peak} bytes for a claim");
    }
}

#[test]
fn tensors_are_not_read_when_a_file_is_opened() {
    let _turn = TURN.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.gguf");
    fs::write(&path, Forge::new().tensor("t", &[1 << 30, 4], 1, 0).bytes()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len((8 << 30) + 64 + 32).unwrap(); // Sparse: takes no disk.
    let (peak, opened) = peak(&path);
    assert!(opened);
    assert!(peak <= CONSTANT, "{peak} bytes for a description");
}

#[test]
fn arrays_cost_no_more_than_their_bytes_in_the_file() {
    let _turn = TURN.lock().unwrap();
    let empty = string(b"").repeat(COUNT);
    let words: Vec<u8> = (0..COUNT).flat_map(|i| string(i.to_string().as_bytes())).collect();
    let long = string(&vec![b'x'; 3 << 20]);
    let numbers = vec![0; 8 * COUNT];
    for forge in [
        Forge::new().key("k", array_value(8, COUNT as u64, &empty)),
        Forge::new().key("k", array_value(8, COUNT as u64, &words)),
        Forge::new().key("k", array_value(8, 1, &long)),
        Forge::new().key("k", (8, long.clone())),
        Forge::new().key("k", array_value(0, COUNT as u64, &numbers[..COUNT])),
        Forge::new().key("k", array_value(7, COUNT as u64, &numbers[..COUNT])),
        Forge::new().key("k", array_value(6, COUNT as u64, &numbers[..4 * COUNT])),
        Forge::new().key("k", array_value(12, COUNT as u64, &numbers)),
    ] {
        let bytes = forge.bytes();
        let (peak, opened) = peak_of(&bytes);
        assert!(opened);
        assert!(peak <= bytes.len() as u64 + CONSTANT, "{peak} bytes for {}", bytes.len());
    }
}

#[test]
fn the_smallest_keys_and_tensors_cost_a_few_times_their_bytes() {
    let _turn = TURN.lock().unwrap();
    let name = |index: u32| format!("{index:x}");
    let keys = (0..MANY).fold(Forge::new(), |f, i| f.key(&name(i), (0, vec![1])));
    let tensors = (0..MANY)
        .fold(Forge::new().key("general.alignment", u32_value(1)), |f, i| {
            f.tensor(&name(i), &[1], 24, i.into())
        })
        .with(|f| f.alignment = 1)
        .data(MANY as usize);
    for forge in [keys, tensors] {
        let bytes = forge.bytes();
        let (peak, opened) = peak_of(&bytes);
        assert!(opened);
        assert!(peak <= TIMES * bytes.len() as u64, "{peak} bytes for {}", bytes.len());
    }
}

#[test]
fn the_specimen_cut_at_any_byte_costs_no_more_than_itself_and_a_constant() {
    let _turn = TURN.lock().unwrap();
    let bytes = specimen().bytes();
    for length in 0..=bytes.len() {
        let (peak, opened) = peak_of(&bytes[..length]);
        assert_eq!(opened, length == bytes.len());
        assert!(peak <= length as u64 + CONSTANT, "{peak} bytes for {length}");
    }
}
