//! Blocks are read and written as the `gguf` package and bitsandbytes do, bit for bit.
//! Golden vectors: `fixtures/make_formats.py`.
#![expect(clippy::unwrap_used, reason = "tests")]

use ft_kernels::formats::Format;
use ft_kernels::mapped::SharedBytes;
use ft_kernels::packed::{Absmax, Packed};
use safetensors::SafeTensors;

static GOLDEN: &[u8] = include_bytes!("fixtures/formats.safetensors");

fn golden(name: &str) -> Option<Vec<u8>> {
    let tensors = SafeTensors::deserialize(GOLDEN).unwrap();
    tensors.tensor(name).ok().map(|tensor| tensor.data().to_vec())
}

fn bytes(name: &str) -> Vec<u8> {
    golden(name).unwrap_or_else(|| panic!("no golden array `{name}`"))
}

fn floats(name: &str) -> Vec<f32> {
    bytes(name).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The generator of `make_formats.py`, exact in f32.
#[expect(clippy::cast_possible_truncation, reason = "24 bits and a sign are exact")]
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (f64::from(state >> 8) / f64::from(1 << 24) - 0.5) as f32
        })
        .collect()
}

fn decode(packed: &Packed) -> Vec<f32> {
    let mut out = vec![0.0; packed.rows() * packed.cols()];
    packed.decode_rows(0..packed.rows(), &mut out);
    out
}

#[track_caller]
fn assert_same_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.to_bits(), expected.to_bits(), "{what}: value {at}: {found} {expected}");
    }
}

fn gguf_formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| format.is_self_contained() && *format != Format::F32)
}

#[test]
fn every_gguf_format_decodes_as_gguf_does() {
    for format in gguf_formats() {
        let (blocks, expected) =
            (bytes(&format!("{format}.blocks")), floats(&format!("{format}.values")));
        let rows = expected.len() / format.block_len();
        let blocks = SharedBytes::from_vec(blocks);
        let packed = Packed::from_blocks(format, rows, format.block_len(), blocks).unwrap();
        assert_same_bits(&decode(&packed), &expected, format.name());
    }
}

#[test]
fn formats_that_gguf_can_write_are_written_the_same() {
    let inputs = floats("inputs");
    let mut compared = Vec::new();
    for format in gguf_formats() {
        let Some(expected) = golden(&format!("{format}.encoded")) else { continue };
        let packed = Packed::quantize(format, 10, 256, &inputs).unwrap();
        let found = packed.blocks().unwrap();
        for (at, (found, expected)) in found
            .chunks(format.block_bytes())
            .zip(expected.chunks(format.block_bytes()))
            .enumerate()
        {
            assert_eq!(found, expected, "{format}: block {at}");
        }
        compared.push(format.name());
    }
    assert_eq!(compared, ["f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4"]);
}

#[test]
fn f32_stays_as_it_is() {
    let inputs = floats("inputs");
    let packed = Packed::quantize(Format::F32, 10, 256, &inputs).unwrap();
    assert_same_bits(&decode(&packed), &inputs, "f32");
    assert_same_bits(packed.as_f32().unwrap(), &inputs, "f32");
}

#[test]
fn four_bit_codes_scales_and_values_are_those_of_bitsandbytes() {
    let inputs = floats("inputs");
    let matrices = [
        (10, 256, inputs),
        (33, 97, noise(33 * 97, 7)),
        (7, 1, noise(7, 9)),
        (1, 64, noise(64, 11)),
    ];
    for kind in ["nf4", "fp4"] {
        for (rows, cols, values) in &matrices {
            let name = |part| format!("{kind}.{rows}x{cols}.{part}");
            let plain: Format = kind.parse().unwrap();
            let packed = Packed::quantize(plain, *rows, *cols, values).unwrap();
            let parts = packed.four_bit_parts().unwrap();
            let Absmax::Plain(absmax) = parts.absmax else { panic!("{parts:?}") };
            assert_eq!(parts.codes, bytes(&name("codes")), "{}", name("codes"));
            assert_same_bits(absmax, &floats(&name("absmax")), &name("absmax"));
            assert_same_bits(&decode(&packed), &floats(&name("values")), &name("values"));

            let double: Format = format!("{kind}_dq").parse().unwrap();
            let packed = Packed::quantize(double, *rows, *cols, values).unwrap();
            let parts = packed.four_bit_parts().unwrap();
            let Absmax::Nested { codes, nested, offset } = parts.absmax else {
                panic!("{parts:?}")
            };
            assert_eq!(parts.codes, bytes(&name("codes")));
            assert_eq!(codes, bytes(&name("dq")), "{}", name("dq"));
            assert_same_bits(nested, &floats(&name("dq_absmax")), &name("dq_absmax"));
            assert_same_bits(&[offset], &floats(&name("dq_offset")), &name("dq_offset"));
            assert_same_bits(&decode(&packed), &floats(&name("dq_values")), &name("dq_values"));

            // A checkpoint that is quantised already reads the same.
            let shared = SharedBytes::from_vec(parts.codes.to_vec());
            let loaded = Packed::from_four_bit(plain, *rows, *cols, shared, parts.absmax).unwrap();
            assert_eq!(loaded.format(), double);
            assert_same_bits(&decode(&loaded), &decode(&packed), "loaded");
        }
    }
}

#[test]
fn double_quantisation_over_many_groups_is_that_of_bitsandbytes() {
    let checksum = |bytes: &[u8]| {
        bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
        })
    };
    let as_bytes =
        |floats: &[f32]| -> Vec<u8> { floats.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let values = noise(700 * 257, 13);
    for kind in ["nf4", "fp4"] {
        let format: Format = format!("{kind}_dq").parse().unwrap();
        let packed = Packed::quantize(format, 700, 257, &values).unwrap();
        let parts = packed.four_bit_parts().unwrap();
        let Absmax::Nested { codes, nested, offset } = parts.absmax else { panic!("{parts:?}") };
        let found = [
            checksum(parts.codes),
            checksum(codes),
            checksum(&as_bytes(nested)),
            u64::from(offset.to_bits()),
            checksum(&as_bytes(&decode(&packed))),
        ];
        let expected: Vec<u64> = bytes(&format!("{kind}.700x257.sums"))
            .as_chunks()
            .0
            .iter()
            .map(|b| u64::from_le_bytes(*b))
            .collect();
        assert_eq!(
            found.as_slice(),
            expected,
            "{kind}: codes, scales, nested scales, mean, values"
        );
    }
}

#[test]
fn the_dynamic_map_is_that_of_bitsandbytes() {
    // Through the front door: a matrix whose scales use every code of the map.
    let blocks = 256;
    let codes: Vec<u8> = (0..=255).collect();
    let absmax = Absmax::Nested { codes: &codes, nested: &[1.0], offset: 0.0 };
    let largest = SharedBytes::from_vec(vec![0xFF; blocks * 32]);
    let format = Format::Nf4 { double_quant: true };
    let packed = Packed::from_four_bit(format, blocks, 64, largest, absmax).unwrap();
    let seen: Vec<f32> = decode(&packed).chunks(64).map(|row| row[0]).collect();
    assert_same_bits(&seen, &floats("map"), "map");
}

#[test]
fn int8_rows_are_those_of_bitsandbytes() {
    let inputs: Vec<f32> = floats("inputs")
        .chunks(256)
        .filter(|row| row.iter().any(|v| *v != 0.0))
        .flatten()
        .copied()
        .collect();
    for (rows, cols, shape, values) in
        [(9, 256, "10x256", inputs), (33, 97, "33x97", noise(33 * 97, 7))]
    {
        let packed = Packed::quantize(Format::Int8, rows, cols, &values).unwrap();
        let (codes, absmax) = packed.int8_parts().unwrap();
        assert_eq!(codes, bytes(&format!("int8.{shape}.codes")));
        assert_same_bits(absmax, &floats(&format!("int8.{shape}.absmax")), "absmax");
        assert_same_bits(&decode(&packed), &floats(&format!("int8.{shape}.values")), "values");
    }
}

/// Relative error on the hostile rows and on normal noise, against a plain quantiser of as many bits.
#[test]
fn searched_formats_beat_their_plain_relatives() {
    let mut values = noise(4096, 3);
    // The sum of twelve even numbers is nearly normal.
    for (i, value) in values.iter_mut().enumerate() {
        *value = noise(12, u32::try_from(i).unwrap()).iter().sum::<f32>() * 0.02;
    }
    let error = |format: Format| {
        let packed = Packed::quantize(format, 1, values.len(), &values).unwrap();
        let decoded = decode(&packed);
        let square = |sum: f64, (a, b): (&f32, &f32)| sum + (f64::from(*a) - f64::from(*b)).powi(2);
        let missed = values.iter().zip(&decoded).fold(0.0, square);
        let whole = values.iter().map(|v| (v, &0.0f32)).fold(0.0, square);
        (missed / whole).sqrt()
    };
    assert!(error(Format::Q4K) < error(Format::Q4_1), "q4_k");
    assert!(error(Format::Q5K) < error(Format::Q5_1), "q5_k");
    assert!(error(Format::Q6K) < 0.5 * error(Format::Q5_0), "q6_k");
    assert!(error(Format::Iq4Nl) < error(Format::Q4_0), "iq4_nl");
    assert!(error(Format::Q3K) < error(Format::Q2K), "q3_k");
    assert!(error(Format::Q2K) < 0.35, "q2_k");
}

/// Nearly normal numbers: the sum of twelve even ones.
fn normal(count: usize, seed: u32) -> Vec<f32> {
    noise(12 * count, seed).chunks(12).map(|twelve| twelve.iter().sum::<f32>() * 0.02).collect()
}

#[test]
fn columns_that_matter_are_kept_better_and_the_others_not_given_up() {
    let (rows, cols) = (16, 576 * 4);
    let values = normal(rows * cols, 5);
    // From 0.02 to 50.
    let importance: Vec<f32> = normal(cols, 17).iter().map(|v| (v * 60.0).exp()).collect();
    let searched = [
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Iq4Nl,
        Format::Q2K,
        Format::Q3K,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
    ];
    for format in searched {
        let errors = |weights: Option<&[f32]>| {
            let packed = Packed::quantize_weighted(format, rows, cols, &values, weights).unwrap();
            let (mut plain, mut weighed) = (0.0, 0.0);
            for (at, (a, b)) in values.iter().zip(decode(&packed)).enumerate() {
                let missed = (f64::from(*a) - f64::from(b)).powi(2);
                plain += missed;
                weighed += missed * f64::from(importance[at % cols]);
            }
            (plain, weighed)
        };
        let (alike, known) = (errors(None), errors(Some(&importance)));
        assert!(known.1 < 0.97 * alike.1, "{format}: {known:?} beside {alike:?}");
        assert!(known.0 < 1.25 * alike.0, "{format}: {known:?} beside {alike:?}");
    }
}

#[test]
fn codes_of_one_bit_less_are_found_again() {
    let base = normal(64 * 32, 23);
    let coarse = Packed::quantize(Format::Q4_1, 1, base.len(), &base).unwrap();
    let values = decode(&coarse);
    let ones = vec![1.0; values.len()];
    for format in [Format::Q4_1, Format::Q5_1] {
        let again =
            Packed::quantize_weighted(format, 1, values.len(), &values, Some(&ones)).unwrap();
        let worst =
            values.iter().zip(decode(&again)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "{format}: {worst}");
    }
}

#[test]
fn blocks_of_zeros_and_denormals_decode_to_almost_nothing() {
    for format in Format::ALL {
        for least in [0.0, f32::from_bits(1), 1e-42, 1e-39, 2e-38] {
            let values: Vec<f32> =
                (0u8..=255).map(|i| if i % 3 == 0 { -least } else { least }).collect();
            let packed = Packed::quantize(format, 1, 256, &values).unwrap();
            for value in decode(&packed) {
                assert!(value.abs() < 1e-37, "{format} of {least:e}: {value:e}");
            }
        }
    }
}
