//! Compares logits with a reference folder.
use std::path::Path;
use burn::tensor::Device;
use ft_adapters::Pass;
use ft_model::{Input, Keep, load};
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let dir = Path::new(&dir);
    let bytes = std::fs::read(dir.join("reference.safetensors")).unwrap();
    let st = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let ids: Vec<u32> = st.tensor("input_ids").unwrap().data().chunks(8).map(|c| u32::try_from(i64::from_le_bytes(c.try_into().unwrap())).unwrap()).collect();
    let want: Vec<f32> = st.tensor("logits").unwrap().data().chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
    let device = Device::flex();
    let decoder = load(dir, Keep::AsTheyAre, &device).unwrap();
    let hidden = decoder.hidden(&Input::new(ids, &[0, 24]), Pass::Inference);
    let got = decoder.logits(hidden).into_data().try_into_vec::<f32>().unwrap();
    let (mut num, mut den) = (0.0f64, 0.0f64);
    for (g, w) in got.iter().zip(&want) { num += f64::from(g - w).powi(2); den += f64::from(*w).powi(2); }
    println!("{}: {:.2e}", dir.display(), (num / den).sqrt());
}
