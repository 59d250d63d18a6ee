//! A tokenizer small enough to write down: 256 bytes, a few merges, the special tokens of many
//! families.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(unreachable_pub, reason = "shared between test programs")]

use std::path::Path;

use ft_datasets::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// Special tokens, from id 300 on.
pub const SPECIAL: &[&str] = &[
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|model|>",
    "<|end|>",
    "<|endoftext|>",
    "[INST]",
    "[/INST]",
];

/// The letter of a byte in byte-level vocabularies.
fn letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !printable(*byte)).count();
    char::from_u32(0x100 + u32::try_from(before).unwrap()).unwrap()
}

/// The file of the tokenizer; a space joins `H` and `a` (`Ġ` and the letter), and two line ends
/// join a full stop.
pub fn tokenizer_json() -> Value {
    let mut vocabulary = serde_json::Map::new();
    for byte in 0..=u8::MAX {
        vocabulary.insert(letter(byte).to_string(), json!(byte));
    }
    for (id, token) in (256..).zip(["ĠH", "Ġa", "ĊĊ", ".ĊĊ", "he", "Ġan"]) {
        vocabulary.insert(token.to_owned(), json!(id));
    }
    let added: Vec<Value> = (300..)
        .zip(SPECIAL)
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    // The library gives added tokens the ids behind the vocabulary, so the gap is filled.
    for id in 262..300 {
        vocabulary.insert(format!("[unused{id}]"), json!(id));
    }
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
                "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary,
            "merges": ["Ġ H", "Ġ a", "Ċ Ċ", ". ĊĊ", "h e", "Ġa n"]}
    })
}

/// Writes a tokenizer's files into a folder.
pub fn write(folder: &Path, file: &Value, config: &Value) {
    std::fs::write(folder.join("tokenizer.json"), file.to_string()).unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
}

/// The tokenizer with these ends of text; `bos` is put before each text if `adds`.
pub fn tokenizer(bos: &str, eos: &str, adds: bool) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"bos_token": bos, "eos_token": eos, "add_bos_token": adds});
    write(folder.path(), &tokenizer_json(), &config);
    Tokenizer::from_folder(folder.path()).unwrap()
}
