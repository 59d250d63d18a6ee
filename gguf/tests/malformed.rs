//! Files that are wrong in one way each, and what is said of them.
//!
//! The list covers that of llama.cpp's `tests/test-gguf.cpp`, in its order.

mod forge;

use forge::{Forge, array_value, read, string_value, u32_value};

/// ggml's numbers of kinds.
const F32: u32 = 0;
const Q4_K: u32 = 12;
const I8: u32 = 24;
const I64: u32 = 27;

#[test]
fn a_file_of_another_format_is_told_by_its_first_bytes() {
    let with = |magic: &[u8; 4]| Forge::new().with(|f| f.magic = *magic).complaint();
    assert_eq!(with(b"FUGG"), "bad.gguf: byte 0: magic: expected `GGUF`, found `FUGG`");
    assert_eq!(
        with(b"PK\x03\x04"),
        "bad.gguf: byte 0: magic: expected `GGUF`, found `PK\\x03\\x04`\n  \
         = help: this is a ZIP file, perhaps a PyTorch checkpoint"
    );
    assert_eq!(
        with(b"tjgg"),
        "bad.gguf: byte 0: magic: expected `GGUF`, found `tjgg`\n  \
         = help: this is a format from before GGUF; convert the original model again"
    );
}

#[test]
fn versions_other_than_2_and_3_are_refused() {
    let with = |version| Forge::new().with(|f| f.version = version).complaint();
    for version in [0, 4, 99, u32::MAX] {
        assert_eq!(
            with(version),
            format!("bad.gguf: byte 4: version: expected version 2 or 3, found {version}")
        );
    }
    assert_eq!(
        with(1),
        "bad.gguf: byte 4: version: expected version 2 or 3, found 1\n  \
         = help: GGUF 1 was replaced within weeks; convert the original model again"
    );
}

#[test]
fn a_big_endian_file_is_called_that() {
    assert_eq!(
        Forge::new().with(|f| f.version = 3u32.swap_bytes()).complaint(),
        "bad.gguf: byte 4: version: expected little-endian numbers, found big-endian ones \
         (version 3)\n  = help: convert it with `gguf-convert-endian FILE little` of the Python \
         package `gguf`"
    );
}

#[test]
fn counts_beyond_what_the_rest_of_the_file_could_hold_are_refused() {
    assert_eq!(
        Forge::new().with(|f| f.tensor_count = Some(u64::MAX)).complaint(),
        "bad.gguf: byte 8: tensor count: 18446744073709551615 tensors need at least 33 bytes \
         each, 16 bytes remain in the file"
    );
    assert_eq!(
        Forge::new().with(|f| f.key_count = Some(u64::MAX)).complaint(),
        "bad.gguf: byte 16: key count: 18446744073709551615 keys need at least 14 bytes each, \
         8 bytes remain in the file"
    );
    // Two keys more than there are.
    let more = Forge::new().key("k", u32_value(1)).with(|f| f.key_count = Some(3)).complaint();
    assert_eq!(
        more,
        "bad.gguf: byte 16: key count: 3 keys need at least 14 bytes each, 40 bytes remain in \
         the file"
    );
}

#[test]
fn more_keys_and_tensors_than_any_file_has_are_refused_even_if_there_is_room() {
    let keys = Forge::new().with(|f| f.key_count = Some(65_537)).data(65_537 * 14).complaint();
    assert_eq!(keys, "bad.gguf: byte 16: key count: expected at most 65536 keys, found 65537");
    let tensors =
        Forge::new().with(|f| f.tensor_count = Some(262_145)).data(262_145 * 33).complaint();
    assert_eq!(
        tensors,
        "bad.gguf: byte 8: tensor count: expected at most 262144 tensors, found 262145"
    );
}

#[test]
fn a_file_with_no_keys_and_no_tensors_is_a_file() {
    for version in [2, 3] {
        let header = read(&Forge::new().with(|f| f.version = version).bytes()).unwrap();
        assert_eq!(header.version(), version);
        assert_eq!(header.alignment(), 32);
        assert!(header.metadata().is_empty() && header.tensors().is_empty());
    }
}

#[test]
fn names_of_keys_have_1_to_65535_bytes_of_utf8_and_stand_once() {
    let long = Forge::new().with(|f| f.keys.push([0xff; 24].to_vec())).complaint();
    assert_eq!(
        long,
        "bad.gguf: byte 24: name of key 0: expected a name of at most 65535 bytes, found \
         18446744073709551615"
    );
    let longest = "k".repeat(65_535);
    let header = read(&Forge::new().key(&longest, u32_value(1)).bytes()).unwrap();
    assert_eq!(header.metadata().u32(&longest).unwrap(), Some(1));
    assert_eq!(
        Forge::new().key(&"k".repeat(65_536), u32_value(1)).complaint(),
        "bad.gguf: byte 24: name of key 0: expected a name of at most 65535 bytes, found 65536"
    );
    assert_eq!(
        Forge::new().key("", u32_value(1)).complaint(),
        "bad.gguf: byte 24: name of key 0: expected a name, found an empty one"
    );
    let utf8 = Forge::new().key("kay", u32_value(1)).with(|f| f.keys[0][10] = 0xff).complaint();
    assert_eq!(
        utf8,
        "bad.gguf: byte 34: name of key 0: expected UTF-8, found something else after 2 good \
         bytes"
    );
    assert_eq!(
        Forge::new()
            .key("k", u32_value(1))
            .key("j", u32_value(1))
            .key("k", u32_value(2))
            .complaint(),
        "bad.gguf: byte 58: key `k`: expected each key once, found it at byte 24 already"
    );
}

#[test]
fn value_types_are_those_of_gguf() {
    assert_eq!(
        Forge::new().key("k", (13, vec![0])).complaint(),
        "bad.gguf: byte 33: key `k`: expected a value type from 0 to 12, found 13"
    );
    assert_eq!(
        Forge::new().key("k", array_value(13, 1, &[0; 8])).complaint(),
        "bad.gguf: byte 37: key `k`: expected a value type from 0 to 12, found 13"
    );
    assert_eq!(
        Forge::new().key("k", (7, vec![2])).complaint(),
        "bad.gguf: byte 37: key `k`: expected 0 or 1 for a truth value, found 2"
    );
    assert_eq!(
        Forge::new().key("k", array_value(7, 3, &[0, 1, 9])).complaint(),
        "bad.gguf: byte 51: key `k`: expected 0 or 1 for a truth value, found 9"
    );
}

#[test]
fn strings_and_arrays_are_no_longer_than_the_file() {
    assert_eq!(
        Forge::new().key("k", (8, u64::MAX.to_le_bytes().to_vec())).complaint(),
        "bad.gguf: byte 45: key `k`: needs 18446744073709551615 bytes, 19 remain in the file"
    );
    for (element, least_bytes) in
        [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (8, 8), (9, 12)]
            .into_iter()
            .chain([(10, 8), (11, 8), (12, 8)])
    {
        for count in [u64::MAX, (u64::MAX / least_bytes).saturating_add(1), i64::MAX as u64, 24] {
            let complaint = Forge::new().key("k", array_value(element, count, &[])).complaint();
            assert_eq!(
                complaint,
                format!(
                    "bad.gguf: byte 41: key `k`: {count} elements need at least {least_bytes} \
                     bytes each, 15 bytes remain in the file"
                )
            );
        }
    }
    let word = Forge::new().key("k", array_value(8, 1, &u64::MAX.to_le_bytes())).complaint();
    assert_eq!(
        word,
        "bad.gguf: byte 57: key `k`: needs 18446744073709551615 bytes, 7 remain in the file"
    );
}

#[test]
fn strings_are_utf8_also_where_two_bad_ones_would_join_to_a_good_one() {
    assert_eq!(
        Forge::new().key("k", string_value(b"ab\xffd")).complaint(),
        "bad.gguf: byte 47: key `k`: expected UTF-8, found something else after 2 good bytes"
    );
    let halves = [forge::string(b"a\xc4"), forge::string(b"\xa0b")].concat();
    assert_eq!(
        Forge::new().key("k", array_value(8, 2, &halves)).complaint(),
        "bad.gguf: byte 58: key `k`: expected UTF-8, found something else after 1 good bytes"
    );
}

#[test]
fn arrays_within_arrays_have_a_limit() {
    let nested = |depth: usize| {
        let (element, mut bytes) = array_value(4, 0, &[]);
        for _ in 1..depth {
            bytes = array_value(element, 1, &bytes).1;
        }
        Forge::new().key("k", (9, bytes))
    };
    assert_eq!(read(&nested(4).bytes()).unwrap().metadata().len(), 1);
    assert_eq!(
        nested(5).complaint(),
        "bad.gguf: byte 73: key `k`: expected at most 4 arrays within each other, found more"
    );
    assert_eq!(
        nested(10_000).complaint(),
        "bad.gguf: byte 73: key `k`: expected at most 4 arrays within each other, found more"
    );
    let many = Forge::new().key("k", array_value(9, 65_537, &vec![0; 65_537 * 12])).complaint();
    assert_eq!(
        many,
        "bad.gguf: byte 37: key `k`: expected at most 65536 arrays within arrays, found 65537"
    );
}

#[test]
fn the_alignment_is_a_power_of_two_in_a_u32() {
    let with = |value| Forge::new().key("general.alignment", value).complaint();
    for wrong in [0, 13, u32::MAX] {
        assert_eq!(
            with(u32_value(wrong)),
            format!(
                "bad.gguf: byte 24: key `general.alignment`: expected a power of two, found {wrong}"
            )
        );
    }
    assert_eq!(
        with((5, 32u32.to_le_bytes().to_vec())),
        "bad.gguf: byte 24: key `general.alignment`: expected u32, found i32"
    );
}

#[test]
fn names_of_tensors_have_1_to_64_bytes_and_stand_once() {
    let named = |name: &str| Forge::new().tensor(name, &[1], I8, 0).data(1);
    assert_eq!(read(&named(&"n".repeat(64)).bytes()).unwrap().tensors()[0].name, "n".repeat(64));
    assert_eq!(
        named(&"n".repeat(65)).complaint(),
        "bad.gguf: byte 24: name of tensor 0: expected a name of at most 64 bytes, found 65"
    );
    assert_eq!(
        named("").complaint(),
        "bad.gguf: byte 24: name of tensor 0: expected a name, found an empty one"
    );
    assert_eq!(
        named("n").tensor("m", &[1], I8, 32).tensor("n", &[1], I8, 64).data(64).complaint(),
        "bad.gguf: byte 90: tensor `n`: expected each tensor once, found it at byte 24 already"
    );
}

#[test]
fn shapes_have_1_to_4_dimensions_of_1_and_more() {
    let shaped = |dims: &[u64]| Forge::new().tensor("t", dims, F32, 0).data(64).complaint();
    assert_eq!(
        shaped(&[1; 5]),
        "bad.gguf: byte 33: tensor `t`: expected 1 to 4 dimensions, found 5"
    );
    assert_eq!(shaped(&[]), "bad.gguf: byte 33: tensor `t`: expected 1 to 4 dimensions, found 0");
    assert_eq!(
        shaped(&[4, 0]),
        "bad.gguf: byte 33: tensor `t`: expected dimensions of 1 and more, found [4, 0]"
    );
}

#[test]
fn products_of_dimensions_do_not_wrap() {
    let large = |dims: &[u64], kind| {
        assert_eq!(
            Forge::new().tensor("t", dims, kind, 0).data(64).complaint(),
            format!(
                "bad.gguf: byte 33: tensor `t`: expected fewer than 2^63 weights and bytes, \
                 found the dimensions {dims:?}"
            )
        );
    };
    large(&[u64::MAX], F32); // A dimension of -1.
    large(&[4 * 0x7fff_ffff, 4 * 0x7fff_ffff], F32);
    large(&[1 << 62, 4, 4, 4], F32); // 2^68, which wraps to 0 in 64 bits with another factor.
    large(&[1 << 16, 1 << 16, 1 << 16, 1 << 16], I8);
    large(&[1_533_900_000, 1_533_900_000], I64); // The weights can be counted, the bytes cannot.
}

#[test]
fn kinds_are_those_of_ggml() {
    let kind = |number| Forge::new().tensor("t", &[256], number, 0).data(256).complaint();
    assert_eq!(
        kind(42),
        "bad.gguf: byte 45: tensor `t`: expected a tensor kind that ggml defines, found number 42"
    );
    assert_eq!(
        kind(4),
        "bad.gguf: byte 45: tensor `t`: expected a tensor kind that ggml defines, found number 4 \
         (`Q4_2`, which ggml has removed)"
    );
}

#[test]
fn rows_are_whole_blocks() {
    assert_eq!(
        Forge::new().tensor("t", &[128, 2], Q4_K, 0).data(144).complaint(),
        "bad.gguf: byte 33: tensor `t`: expected rows of a multiple of 256 weights for Q4_K, \
         found 128"
    );
}

#[test]
fn offsets_are_aligned_and_inside_the_file() {
    let at = |offset| Forge::new().tensor("t", &[8], F32, offset).data(64).complaint();
    for offset in [u64::MAX, 1, 31, 33] {
        assert_eq!(
            at(offset),
            format!(
                "bad.gguf: byte 24: tensor `t`: expected an offset that is a multiple of 32, \
                 found {offset}"
            )
        );
    }
    assert_eq!(
        at(64),
        "bad.gguf: byte 24: tensor `t`: expected 32 bytes from byte 128 on, the file ends at \
         byte 128"
    );
    assert_eq!(
        at(u64::MAX - 31),
        "bad.gguf: byte 24: tensor `t`: expected 32 bytes from byte 18446744073709551615 on, \
         the file ends at byte 128"
    );
    assert_eq!(
        at(1 << 63),
        "bad.gguf: byte 24: tensor `t`: expected 32 bytes from byte 9223372036854775872 on, the \
         file ends at byte 128"
    );
    // Offsets counted with another alignment than the file's.
    let packed = Forge::new().tensor("t", &[5], I8, 0).tensor("u", &[5], I8, 5).data(64);
    assert_eq!(
        packed.complaint(),
        "bad.gguf: byte 57: tensor `u`: expected an offset that is a multiple of 32, found 5"
    );
    let aligned = Forge::new()
        .key("general.alignment", u32_value(1))
        .tensor("t", &[5], I8, 0)
        .tensor("u", &[5], I8, 5)
        .with(|f| f.alignment = 1)
        .data(10);
    assert_eq!(read(&aligned.bytes()).unwrap().alignment(), 1);
}

#[test]
fn a_missing_byte_of_the_last_tensor_is_noticed() {
    let forge = |bytes| Forge::new().tensor("t", &[8], F32, 0).data(bytes);
    assert_eq!(read(&forge(32).bytes()).unwrap().tensors()[0].bytes, 32);
    assert_eq!(
        forge(31).complaint(),
        "bad.gguf: byte 24: tensor `t`: expected 32 bytes from byte 64 on, the file ends at byte \
         95"
    );
}

#[test]
fn sizes_that_would_wrap_when_they_are_summed_are_noticed() {
    const SIZE: u64 = 0x7fff_ffff_ffff_ffc0;
    let forge = Forge::new().tensor("t", &[SIZE], I8, 0).tensor("u", &[SIZE], I8, SIZE).data(32);
    assert_eq!(
        forge.complaint(),
        "bad.gguf: byte 24: tensor `t`: expected 9223372036854775744 bytes from byte 96 on, the \
         file ends at byte 128"
    );
}

#[test]
fn tensors_share_no_byte() {
    let forge =
        |second| Forge::new().tensor("t", &[9], F32, 0).tensor("u", &[8], F32, second).data(96);
    assert_eq!(
        forge(32).complaint(),
        "bad.gguf: byte 57: tensor `u`: expected bytes of its own from byte 128 on, but `t` ends \
         at byte 132"
    );
    assert_eq!(
        forge(0).complaint(),
        "bad.gguf: byte 57: tensor `u`: expected bytes of its own from byte 96 on, but `t` ends \
         at byte 132"
    );
    assert_eq!(read(&forge(64).bytes()).unwrap().tensors().len(), 2);
    // The order of description need not be that of the bytes.
    let reversed = Forge::new().tensor("u", &[8], F32, 64).tensor("t", &[9], F32, 0).data(96);
    assert_eq!(read(&reversed.bytes()).unwrap().tensor("t").unwrap().offset, 96);
}

#[test]
fn names_from_the_file_cannot_write_to_the_terminal() {
    assert_eq!(
        Forge::new().key("\u{1b}[2Jk\n", (13, vec![])).complaint(),
        "bad.gguf: byte 38: key `\\u{1b}[2Jk\\n`: expected a value type from 0 to 12, found 13"
    );
    let long = Forge::new().key(&"k".repeat(1000), (13, vec![])).complaint();
    assert!(long.contains(&format!("key `{}…`", "k".repeat(100))), "{long}");
}
