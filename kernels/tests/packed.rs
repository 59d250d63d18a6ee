//! A packed matrix keeps the numbers of its file.

use std::io::Write;

use ft_kernels::formats::Format;
use ft_kernels::mapped::{MappedError, MappedFile, SharedBytes};
use ft_kernels::packed::{Absmax, Packed, PackedError};

#[expect(clippy::cast_possible_truncation, reason = "rounding is fine")]
fn weights(count: usize) -> Vec<f32> {
    let mut state = 7u32;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (f64::from(state) / f64::from(u32::MAX) - 0.5) as f32 * 0.2
        })
        .collect()
}

fn root_mean_square(values: impl IntoIterator<Item = f32>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += f64::from(value) * f64::from(value);
        count += 1.0;
    }
    (sum / count).sqrt()
}

#[test]
fn every_format_keeps_weights_to_its_precision() {
    // Twice the relative error of a good quantiser on even noise; a wrong nibble order fails by far.
    let bounds = [
        ("f32", 0.0),
        ("f16", 5e-4),
        ("bf16", 4e-3),
        ("q8_0", 0.01),
        ("q4_0", 0.12),
        ("q4_1", 0.1),
        ("q5_0", 0.06),
        ("q5_1", 0.06),
        ("q2_k", 0.5),
        ("q3_k", 0.25),
        ("q4_k", 0.1),
        ("q5_k", 0.05),
        ("q6_k", 0.04),
        ("iq4_nl", 0.14),
        ("mxfp4", 0.3),
        ("nf4", 0.18),
        ("nf4_double_quant", 0.18),
        ("fp4", 0.3),
        ("fp4_double_quant", 0.3),
        ("int8", 0.01),
    ];
    let values = weights(3 * 512);
    for (name, bound) in bounds {
        let format: Format = name.parse().unwrap();
        let packed = Packed::quantize(format, 3, 512, &values).unwrap();
        let mut decoded = vec![0.0; values.len()];
        packed.decode_rows(0..3, &mut decoded);
        let error = root_mean_square(values.iter().zip(&decoded).map(|(a, b)| a - b))
            / root_mean_square(values.iter().copied());
        assert!(error <= bound, "{name}: relative error {error:.4} above {bound}");
    }
}

#[test]
fn any_range_of_rows_decodes_as_the_whole() {
    for format in Format::ALL {
        for cols in [256, 97, 31] {
            if !format.fits(cols) {
                continue;
            }
            let packed = Packed::quantize(format, 33, cols, &weights(33 * cols)).unwrap();
            let mut whole = vec![0.0; 33 * cols];
            packed.decode_rows(0..33, &mut whole);
            for rows in [0..1, 1..2, 5..12, 32..33, 7..7, 1..33] {
                let mut part = vec![0.0; rows.len() * cols];
                packed.decode_rows(rows.clone(), &mut part);
                let expected = &whole[rows.start * cols..rows.end * cols];
                assert_eq!(part, expected, "{packed:?} rows {rows:?}");
            }
        }
    }
}

#[test]
fn resident_bytes_are_what_the_format_says() {
    for format in Format::ALL {
        let packed = Packed::quantize(format, 5, 512, &weights(5 * 512)).unwrap();
        assert_eq!(Some(packed.bytes()), format.bytes_for(5, 512), "{format}");
    }
    let nf4 = Format::Nf4 { double_quant: true };
    // 4 bits of code, 8 bits per 64, 32 bits per 64 * 256, and the mean.
    assert_eq!(nf4.bytes_for(4096, 4096), Some(8_388_608 + 262_144 + 4096 + 4));
}

#[test]
fn names_are_read_in_any_case() {
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(format));
        assert_eq!(format.name().to_uppercase().parse(), Ok(format));
        assert_eq!(format.ggml_type().is_some(), format.is_self_contained());
        if let Some(number) = format.ggml_type() {
            assert_eq!(Format::from_ggml_type(number), Some(format));
        }
    }
    assert_eq!("Q4_K".parse(), Ok(Format::Q4K));
    assert_eq!("bfloat16".parse(), Ok(Format::Bf16));
    let error = "q4_x".parse::<Format>().unwrap_err();
    assert!(error.to_string().contains("unknown block format `q4_x`"), "{error}");
}

#[test]
fn rows_that_are_not_whole_blocks_are_refused_with_help() {
    let error = Packed::quantize(Format::Q4K, 2, 576, &weights(2 * 576)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "matrix [2, 576] in q4_k: expected rows of a multiple of 256 values, found 576\n  help: use q4_0, \
         iq4_nl or mxfp4"
    );
    let error = Packed::quantize(Format::Q8_0, 2, 33, &weights(66)).unwrap_err();
    assert!(error.to_string().ends_with("help: use nf4, int8, bf16 or f16, which take any length"));
}

#[test]
fn bytes_that_do_not_make_the_matrix_are_refused() {
    let bytes = |count| SharedBytes::from_vec(vec![0; count]);
    assert_eq!(
        Packed::from_blocks(Format::Q8_0, 2, 64, bytes(135)).unwrap_err().to_string(),
        "matrix [2, 64] in q8_0: expected 136 bytes of blocks, found 135"
    );
    let nf4 = Format::Nf4 { double_quant: false };
    assert!(matches!(
        Packed::from_blocks(nf4, 2, 64, bytes(64)),
        Err(PackedError::ScalesApart { .. })
    ));
    assert!(matches!(
        Packed::from_blocks(Format::F16, usize::MAX, 2, bytes(4)),
        Err(PackedError::TooLarge { .. })
    ));
    assert!(matches!(
        Packed::from_four_bit(nf4, 1, 65, bytes(33), Absmax::Plain(&[1.0])),
        Err(PackedError::ByteLength { part: "scales", expected: 8, found: 4, .. })
    ));
    assert!(matches!(
        Packed::quantize(nf4, 2, 3, &[0.0; 5]),
        Err(PackedError::ValueLength { found: 5, .. })
    ));
}

#[test]
fn weights_that_no_code_can_hold_are_refused() {
    let mut values = weights(64);
    values[40] = f32::NAN;
    let error = Packed::quantize(Format::Q4_0, 2, 32, &values).unwrap_err();
    assert!(matches!(error, PackedError::NotFinite { row: 1, col: 8, .. }), "{error}");
    Packed::quantize(Format::F32, 2, 32, &values).unwrap();
    values[40] = 1e9;
    let error = Packed::quantize(Format::Q4_0, 2, 32, &values).unwrap_err();
    assert!(matches!(error, PackedError::ScaleOverflow { row: 1, .. }), "{error}");
    Packed::quantize(Format::Nf4 { double_quant: false }, 2, 32, &values).unwrap();
}

#[test]
fn empty_matrices_are_fine() {
    for format in Format::ALL {
        for (rows, cols) in [(0, 256), (3, 0)] {
            let packed = Packed::quantize(format, rows, cols, &[]).unwrap();
            packed.decode_rows(0..rows, &mut []);
        }
    }
}

#[test]
fn debug_prints_format_and_shape_only() {
    let packed = Packed::quantize(Format::Q8_0, 1, 32, &weights(32)).unwrap();
    assert_eq!(format!("{packed:?}"), "Packed(q8_0 [1, 32])");
}

#[test]
fn packed_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Packed>();
    shared::<SharedBytes>();
}

#[test]
fn a_mapped_f32_matrix_is_read_without_a_copy() {
    let values = weights(64);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[0; 32]).unwrap();
    for value in &values {
        file.write_all(&value.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
    let mapped = MappedFile::open(file.path()).unwrap();
    assert_eq!(mapped.len(), 32 + 256);
    let bytes = mapped.slice(32, 256).unwrap();
    let address = bytes.as_ptr();
    drop(mapped);
    let packed = Packed::from_blocks(Format::F32, 4, 16, bytes).unwrap();
    let seen = packed.as_f32().unwrap();
    assert_eq!(seen, values);
    if cfg!(unix) {
        assert_eq!(seen.as_ptr().cast::<u8>(), address);
    }
    let mut row = [0.0; 16];
    packed.decode_rows(2..3, &mut row);
    assert_eq!(row.as_slice(), &values[32..48]);
}

#[test]
fn unaligned_f32_is_decoded_instead_of_borrowed() {
    let values = weights(8);
    let bytes: Vec<u8> =
        std::iter::once(0).chain(values.iter().flat_map(|v| v.to_le_bytes())).collect();
    let part = SharedBytes::from_vec(bytes).slice(1, 32).unwrap();
    let packed = Packed::from_blocks(Format::F32, 1, 8, part).unwrap();
    let mut row = [0.0; 8];
    packed.decode_rows(0..1, &mut row);
    assert_eq!(row.as_slice(), values);
    assert_eq!(packed.as_f32(), None);
}

#[test]
fn parts_outside_of_a_file_are_refused() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[1; 10]).unwrap();
    let mapped = MappedFile::open(file.path()).unwrap();
    assert_eq!(&*mapped.slice(4, 6).unwrap(), [1; 6]);
    for (offset, len) in [(4, 7), (11, 0), (u64::MAX, 1)] {
        let error = mapped.slice(offset, len).unwrap_err();
        assert!(matches!(error, MappedError::OutOfFile { file_len: 10, .. }), "{error}");
    }
    assert!(matches!(MappedFile::open(file.path().parent().unwrap()), Err(MappedError::Io { .. })));
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(MappedFile::open(empty.path()).unwrap().is_empty());
}
