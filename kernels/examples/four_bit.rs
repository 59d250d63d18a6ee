//! Packs each F32 matrix of a safetensors file to NF4 or FP4 and writes codes and scales to another,
//! to be compared with bitsandbytes (`tests/interop/nf4.py`).
//!
//! `cargo run --release -p ft-kernels --example four_bit -- IN.safetensors OUT.safetensors nf4|fp4 plain|double`
#![expect(clippy::unwrap_used, reason = "a tool for developers")]

use ft_kernels::packed::{Absmax, FourBitParts};
use ft_kernels::{Format, Packed};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, kind, scales] = arguments.as_slice() else {
        panic!("expected IN.safetensors OUT.safetensors nf4|fp4 plain|double");
    };
    let double_quant = scales == "double";
    let format =
        if kind == "fp4" { Format::Fp4 { double_quant } } else { Format::Nf4 { double_quant } };
    let bytes = std::fs::read(input).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut written: Vec<(String, Dtype, Vec<u8>)> = Vec::new();
    for (name, view) in tensors.iter() {
        let (&[rows, cols], Dtype::F32) = (view.shape(), view.dtype()) else { continue };
        let values: Vec<f32> =
            view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let packed = Packed::quantize(format, rows, cols, &values).unwrap();
        let FourBitParts { codes, absmax } = packed.four_bit_parts().unwrap();
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        written.push((format!("{name}.codes"), Dtype::U8, codes.to_vec()));
        match absmax {
            Absmax::Plain(absmax) => {
                written.push((format!("{name}.absmax"), Dtype::F32, floats(absmax)));
            }
            Absmax::Nested { codes, nested, offset } => {
                written.push((format!("{name}.absmax_codes"), Dtype::U8, codes.to_vec()));
                written.push((format!("{name}.nested"), Dtype::F32, floats(nested)));
                written.push((format!("{name}.offset"), Dtype::F32, floats(&[offset])));
            }
        }
    }
    let views = written.iter().map(|(name, dtype, data)| {
        let len = data.len() / if *dtype == Dtype::F32 { 4 } else { 1 };
        (name, TensorView::new(*dtype, vec![len], data).unwrap())
    });
    safetensors::serialize_to_file(views, None, output.as_ref()).unwrap();
}
