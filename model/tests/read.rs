//! Reading tokens on a CPU is what a pass over the whole text computes, exactly or in eight bits, in whatever pieces.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::path::{Path, PathBuf};

use ft_adapters::{Pass, PeftAdapter};
use ft_kernels::Format;
use ft_kernels::device::{DeviceName, device};
use ft_kernels::host::Precision;
use ft_model::{Cache, Decoder, Input, Keep, load, measured};

const FAMILIES: [&str; 9] =
    ["llama", "llama31", "mistral", "qwen2", "qwen3", "phi3", "phi3_longrope", "gemma2", "gemma3"];

/// Two orders of summing the same f32 numbers, through a few layers, `‖a − b‖ / ‖b‖`.
const SUMS: f64 = 1e-5;
/// Activations in eight bits, through a few narrow layers of random weights.
const EIGHT_BITS: f64 = 0.05;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

fn decoder(family: &str, adapter: Option<&str>, keep: Keep, precision: Precision) -> Decoder {
    let device = device(DeviceName::Cpu).unwrap();
    let mut decoder = load(&golden(family), keep, &device).unwrap();
    decoder.precision = precision;
    if let Some(adapter) = adapter {
        let adapter = PeftAdapter::load(&golden(family).join(adapter)).unwrap();
        adapter.install(&mut decoder.projections_mut(), &device, false).unwrap();
    }
    decoder
}

fn ids(seed: u32, count: u32) -> Vec<u32> {
    (0..count).map(|at| (seed * 31 + at * at * 7 + at * seed + 3) % 96).collect()
}

/// Hidden states of all tokens, read in pieces of these lengths.
fn read(decoder: &Decoder, ids: &[u32], pieces: &[usize]) -> Vec<f32> {
    let mut cache = decoder.cache(ids.len());
    let (mut rest, mut all) = (ids, Vec::new());
    for piece in pieces {
        let (now, later) = rest.split_at(*piece);
        let rows: Vec<u32> = (0..u32::try_from(*piece).unwrap()).collect();
        let hidden = decoder.read_rows(&mut [(&mut cache, now)], &rows);
        all.extend(hidden.into_data().try_into_vec::<f32>().unwrap());
        rest = later;
    }
    assert!(rest.is_empty(), "the pieces are all there is");
    all
}

fn whole(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    let hidden = decoder.hidden(&Input::one(ids.to_vec()), Pass::Inference);
    hidden.into_data().try_into_vec().unwrap()
}

fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let off: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(a - b))).sum();
    let size: f64 = b.iter().map(|b| square(f64::from(*b))).sum();
    (off / size).sqrt()
}

#[test]
fn every_family_reads_in_pieces_what_it_computes_at_once() {
    let ids = ids(4, 30);
    for family in FAMILIES {
        let decoder = decoder(family, None, Keep::AsTheyAre, Precision::Exact);
        // Phi's LongRoPE chooses divisors by how far a piece goes.
        let pieces: &[usize] = if family == "phi3_longrope" { &[30] } else { &[17, 1, 1, 9, 2] };
        let off = relative(&read(&decoder, &ids, pieces), &whole(&decoder, &ids));
        assert!(off < SUMS, "{family}: {off}");
    }
}

#[test]
fn adapters_are_read_as_they_are_computed() {
    let ids = ids(5, 20);
    for (family, adapter) in
        [("llama", "lora"), ("llama", "dora"), ("gemma3", "lora"), ("phi3", "lora")]
    {
        let decoder = decoder(family, Some(adapter), Keep::AsTheyAre, Precision::Exact);
        let off = relative(&read(&decoder, &ids, &[13, 1, 6]), &whole(&decoder, &ids));
        assert!(off < SUMS, "{family}, {adapter}: {off}");
    }
}

#[test]
fn eight_bits_are_close_and_the_same_to_the_bit_in_whatever_pieces() {
    let ids = ids(6, 40);
    for family in ["llama", "qwen3", "gemma2", "gemma3"] {
        let keep = Keep::Quantized(Format::Int8);
        let decoder = decoder(family, None, keep, Precision::EightBit);
        let at_once = read(&decoder, &ids, &[40]);
        let off = relative(&at_once, &whole(&decoder, &ids));
        assert!(off > 0.0 && off < EIGHT_BITS, "{family}: {off}");
        for pieces in [&[39, 1][..], &[1, 1, 20, 18], &[16, 24], &[1; 40]] {
            let same = read(&decoder, &ids, pieces) == at_once;
            assert!(same, "{family}: other bits in pieces of {pieces:?}");
        }
    }
}

#[test]
fn a_sequence_reads_the_same_bits_beside_others() {
    let decoder =
        decoder("llama", Some("lora"), Keep::Quantized(Format::Int8), Precision::EightBit);
    let prompts = [ids(1, 20), ids(2, 7), ids(3, 33)];
    let alone: Vec<Vec<f32>> =
        prompts.iter().map(|ids| read(&decoder, ids, &[ids.len()])).collect();
    let mut caches: Vec<Cache> = prompts.iter().map(|ids| decoder.cache(ids.len())).collect();
    let mut sequences: Vec<(&mut Cache, &[u32])> =
        caches.iter_mut().zip(&prompts).map(|(cache, ids)| (cache, ids.as_slice())).collect();
    let rows: Vec<u32> = (0..60).collect();
    let together = decoder.read_rows(&mut sequences, &rows).into_data();
    assert_eq!(together.try_into_vec::<f32>().unwrap(), alone.concat());
}

#[test]
fn some_tokens_are_read_as_they_are_beside_all_others() {
    let prompts = [ids(1, 20), ids(2, 7)];
    for (family, adapter) in
        [("llama", None), ("llama", Some("lora")), ("gemma3", None), ("phi3", None)]
    {
        let decoder = decoder(family, adapter, Keep::Quantized(Format::Int8), Precision::EightBit);
        let read = |rows: &[u32]| {
            let mut caches = prompts.each_ref().map(|ids| decoder.cache(ids.len() + 1));
            let [one, other] = &mut caches;
            let hidden =
                decoder.read_rows(&mut [(one, &prompts[0]), (&mut *other, &prompts[1])], rows);
            let next = decoder.read_rows(&mut [(other, &[5])], &[0]);
            [hidden, next].map(|x| x.into_data().try_into_vec::<f32>().unwrap())
        };
        let [all, next] = read(&(0..27).collect::<Vec<u32>>());
        let width = decoder.blueprint.width;
        for rows in [&[26][..], &[19, 26], &[3, 0, 3, 25], &[]] {
            let wanted: Vec<f32> = rows
                .iter()
                .flat_map(|row| &all[*row as usize * width..][..width])
                .copied()
                .collect();
            assert!(read(rows) == [wanted, next.clone()], "{family} {adapter:?}: rows {rows:?}");
        }
    }
}

#[test]
fn exact_numbers_of_a_token_do_not_depend_on_which_others_are_wanted() {
    let prompts = [ids(1, 9), ids(2, 20)];
    for (family, adapter) in [("llama", None), ("llama", Some("lora")), ("gemma3", None)] {
        let decoder = decoder(family, adapter, Keep::AsTheyAre, Precision::Exact);
        let read = |count: usize, rows: &[u32]| {
            let mut caches = prompts.each_ref().map(|ids| decoder.cache(ids.len()));
            let mut sequences: Vec<(&mut Cache, &[u32])> = caches
                .iter_mut()
                .zip(&prompts)
                .map(|(cache, ids)| (cache, ids.as_slice()))
                .take(count)
                .collect();
            let hidden = decoder.read_rows(&mut sequences, rows).into_data();
            hidden.try_into_vec::<f32>().unwrap()
        };
        let alone = read(1, &[8]);
        let rows: Vec<u32> = (8..29).collect();
        assert!(read(2, &rows)[..alone.len()] == alone, "{family} {adapter:?}");
    }
}

#[test]
fn logits_of_a_packed_head_are_close_in_eight_bits_and_capped() {
    let device = device(DeviceName::Cpu).unwrap();
    for family in ["llama", "gemma2"] {
        let mut decoder = load(&golden(family), Keep::AsTheyAre, &device).unwrap();
        let table = decoder.lm_head.as_mut().unwrap_or(&mut decoder.embed_tokens);
        let (n, k) = (table.weight.rows(), table.weight.cols());
        let mut dense = vec![0.0; n * k];
        table.weight.decode_rows(0..n, &mut dense);
        table.weight = ft_kernels::Packed::quantize(Format::Int8, n, k, &dense).unwrap();
        let hidden = decoder.hidden(&Input::one(ids(1, 12)), Pass::Inference);
        let exact: Vec<f32> = decoder.logits(hidden.clone()).into_data().try_into_vec().unwrap();
        let rounded: Vec<f32> = decoder.next_logits(hidden).into_data().try_into_vec().unwrap();
        let off = relative(&rounded, &exact);
        assert!(off > 0.0 && off < EIGHT_BITS, "{family}: {off}");
    }
}

#[test]
fn the_parts_of_a_pass_are_measured() {
    let decoder = decoder("llama", None, Keep::Quantized(Format::Int8), Precision::EightBit);
    decoder.prepare();
    let begun = std::time::Instant::now();
    let (_, parts) = measured(|| read(&decoder, &ids(1, 40), &[40]));
    let sum: std::time::Duration = parts.iter().map(|(_, time)| time).sum();
    assert!(!sum.is_zero() && sum <= begun.elapsed());
}
