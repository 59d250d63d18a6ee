//! Any bytes, read as a GGUF file: no panic, and what is accepted holds together.
#![no_main]

use std::path::Path;

use ft_gguf::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Header::from_bytes(bytes, Path::new("fuzz.gguf")) {
        Err(error) => {
            assert!(error.offset <= bytes.len() as u64);
            assert!(error.to_string().starts_with("fuzz.gguf: byte "));
        }
        Ok(header) => {
            let mut spans: Vec<(u64, u64)> = Vec::new();
            for tensor in header.tensors() {
                assert!(tensor.offset.is_multiple_of(header.alignment()));
                assert_eq!(header.tensor(&tensor.name), Some(tensor));
                spans.push((tensor.offset, tensor.offset + tensor.bytes));
            }
            spans.sort_unstable();
            assert!(spans.is_sorted_by(|before, after| before.1 <= after.0));
            assert!(spans.iter().all(|span| span.0 < span.1 && span.1 <= bytes.len() as u64));
        }
    }
});
