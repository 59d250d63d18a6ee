//! Rows of a packed table.

use ft_kernels::{Format, packed_embedding};

use crate::setup::{devices, host, packed};

#[test]
fn tokens_become_their_decoded_rows_times_the_scale() {
    for (format, width) in
        [(Format::F32, 37), (Format::Q4_0, 64), (Format::Nf4 { double_quant: true }, 37)]
    {
        let (weight, dense) = packed(format, [50, width], 1);
        for (count, scale) in [(1, 1.0), (130, 1.0), (33, 2.5)] {
            let ids: Vec<u32> = (0..count).map(|i| (i * 17 + 4) % 50).collect();
            let rows = ids.iter().flat_map(|id| &dense.values[*id as usize * width..][..width]);
            let wanted: Vec<f32> = rows.map(|x| x * scale).collect();
            for (name, device) in devices() {
                let got = packed_embedding(&ids, &weight, scale, &device);
                assert_eq!(host(got), wanted, "{format} on {name}");
            }
        }
    }
}
