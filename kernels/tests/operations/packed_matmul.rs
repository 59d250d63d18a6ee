//! Products with a packed matrix.

use burn::tensor::Device;
use ft_kernels::{Format, packed_matmul};

use crate::setup::{Matrix, assert_close, check, host, packed};

/// Each format with widths that its blocks allow and nothing else divides.
const FORMATS: [(Format, usize); 8] = [
    (Format::F32, 37),
    (Format::Bf16, 37),
    (Format::Q4_0, 96),
    (Format::Q4_1, 160),
    (Format::Q8_0, 96),
    (Format::Q4K, 256),
    (Format::Nf4 { double_quant: false }, 37),
    (Format::Nf4 { double_quant: true }, 101),
];

fn check_product(format: Format, tokens: usize, [n, k]: [usize; 2]) {
    let (weight, dense) = packed(format, [n, k], 1);
    check(
        &format!("{format} [{n}, {k}], {tokens} tokens"),
        [&Matrix::random([tokens, k], 2)],
        |[x]| packed_matmul(x, &weight),
        |[x]| {
            let dense = dense.on(&x.device());
            x.matmul(dense.transpose())
        },
    );
}

#[test]
fn products_and_gradients_are_those_of_the_decoded_matrix() {
    for (format, k) in FORMATS {
        for tokens in [1, 7, 33] {
            check_product(format, tokens, [45, k]);
        }
    }
}

#[test]
fn the_number_of_tokens_is_free() {
    for tokens in [2, 8, 9, 130, 300] {
        check_product(Format::Q8_0, tokens, [67, 96]);
    }
    check_product(Format::Q4_0, 5, [1, 32]);
    check_product(Format::Q4_0, 12, [1, 32]);
}

#[test]
fn a_matrix_larger_than_one_slab_is_multiplied_slab_by_slab() {
    // 4.3 million values: slabs of 512 rows (of 1,024 for the gradient) and one of 52.
    for tokens in [3, 11] {
        check_product(Format::Q8_0, tokens, [2100, 2048]);
    }
}

#[test]
fn a_tokens_numbers_do_not_depend_on_the_tokens_beside_it() {
    let (n, k) = (83, 128);
    let (weight, _) = packed(Format::Q4_0, [n, k], 1);
    let x = Matrix::random([300, k], 2);
    let first = |tokens: usize| {
        let x = x.on(&Device::flex()).narrow(0, 0, tokens);
        host(packed_matmul(x, &weight).narrow(0, 0, 1))
    };
    // Decoding alone or beside others is the same loop; longer batches are blocked differently.
    assert_eq!(first(1), first(2));
    assert_eq!(first(1), first(8));
    assert_close("9 tokens", &first(9), &first(1));
    assert_close("300 tokens", &first(300), &first(1));
}

#[test]
fn a_strided_input_is_read_as_it_is_meant() {
    let (weight, dense) = packed(Format::Q8_0, [33, 64], 1);
    check(
        "a transposed input",
        [&Matrix::random([64, 19], 2)],
        |[x]| packed_matmul(x.transpose(), &weight),
        |[x]| {
            let dense = dense.on(&x.device());
            x.transpose().matmul(dense.transpose())
        },
    );
}

#[test]
fn no_tokens_give_no_rows() {
    let (weight, _) = packed(Format::Q8_0, [33, 64], 1);
    let x = Matrix::random([0, 64], 2).on(&Device::flex());
    assert_eq!(packed_matmul(x, &weight).dims(), [0, 33]);
}
